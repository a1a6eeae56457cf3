package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"berth/internal/client"
	"berth/internal/fault"
)

type loginCommand struct {
	Address     string `arg:"" optional:"" name:"url" placeholder:"URL" env:"BERTH_URL" help:"Address of Berth, for example https://berth.example.org."`
	Host        string `placeholder:"HOST[:PORT]" help:"Proxmox host to sign in with, instead of being asked."`
	User        string `placeholder:"USER@REALM" help:"Proxmox account, instead of being asked."`
	TokenFile   string `placeholder:"FILE" env:"BERTH_TOKEN_FILE" help:"Sign in with the access token in this file, - for standard input, instead of a Proxmox account."`
	Fingerprint string `placeholder:"SHA256" env:"BERTH_FINGERPRINT" help:"Fingerprint of Berth's certificate, instead of being asked when nobody vouches for it."`
}

// Help is the detail of berth login --help.
func (loginCommand) Help() string {
	return "Asks for a Proxmox account, as the sign-in page does, and keeps a session, or keeps an access token. What is kept lies in " +
		"berth/account.json in the XDG configuration folder, for your user alone. Passwords are kept nowhere.\n\n" + statusHelp
}

// Run signs in.
func (c *loginCommand) Run(ctx context.Context, stdout io.Writer) error {
	o, err := remote{URL: c.Address, TokenFile: c.TokenFile, Fingerprint: c.Fingerprint}.options()
	if err != nil {
		return err
	}
	if c.TokenFile == "" {
		o.Token = "" // whoever has BERTH_TOKEN set and asks to sign in wants something else
	}
	kept, err := loadAccount()
	if err != nil {
		return err
	}
	ask := newPrompt()
	if o.URL == nil {
		otherwise := ""
		if kept != nil {
			otherwise = kept.URL
		}
		text, err := ask.line(ctx, "Berth", otherwise)
		if err != nil {
			return err
		}
		if o.URL, err = client.ParseURL(text); err != nil {
			return usageError{err}
		}
	}
	if kept.isFor(o.URL) && o.Token == "" {
		o.Session = kept.Session // the new session takes the place of the old one
		if o.Pin == nil && kept.Fingerprint != "" {
			if pin, err := client.ParseFingerprint(kept.Fingerprint); err == nil {
				o.Pin = &pin
			}
		}
	}
	if err := trust(ctx, ask, &o); err != nil {
		return err
	}
	if inTheClear(o.URL) {
		fmt.Fprintln(os.Stderr, "berth: warning: what you type travels unencrypted to", o.URL)
	}
	berth := client.New(o)
	if o.Token == "" {
		if err := c.signIn(ctx, ask, berth); err != nil {
			return err
		}
	}
	who, err := berth.Caller(ctx)
	if err != nil {
		return err
	}
	made := account{URL: o.URL.String(), UserID: who.UserID, Token: o.Token}
	if o.Token == "" {
		made.Session = berth.Session()
	}
	if o.Pin != nil {
		made.Fingerprint = o.Pin.String()
	}
	if err := made.save(); err != nil {
		return fmt.Errorf("cannot keep the sign-in: %w", err)
	}
	return tellAccount(stdout, made, who)
}

func tellAccount(stdout io.Writer, a account, who client.Caller) error {
	with := ""
	if who.Token != nil {
		with = fmt.Sprintf(", with the access token %q (%s, until %s)", client.Printable(who.Token.Name), client.Printable(who.Token.Scope), who.Token.ExpiresAt.Format("2 January 2006 15:04 MST"))
	}
	_, err := fmt.Fprintf(stdout, "Signed in to %s as %s%s.\n", a.URL, a.UserID, with)
	return err
}

// trust makes sure that it is the right Berth, before anything is sent to it.
func trust(ctx context.Context, ask *prompt, o *client.Options) error {
	nobody := *o
	nobody.Token, nobody.Session = "", ""
	err := client.New(nobody).Reach(ctx)
	var unknown *client.CertificateError
	if !errors.As(err, &unknown) || unknown.Pinned != nil && !isTerminal(os.Stdin) {
		return err
	}
	if unknown.Pinned != nil {
		// Only people are asked that: a script must not say yes to it by a line that was meant for something else.
		fmt.Fprintf(ask.out, "The certificate of %s has CHANGED. If nobody replaced it, somebody may be between you and Berth.\nKnown:     %s\n", o.URL, unknown.Pinned)
	} else {
		fmt.Fprintf(ask.out, "Nobody vouches for the certificate of %s.\n", o.URL)
	}
	fmt.Fprintf(ask.out, "Presented: %s\n", unknown.Presented)
	switch yes, err := ask.confirm(ctx, "Is that the fingerprint that berth serve logged when it started?"); {
	case err != nil:
		return err
	case !yes:
		return unknown
	}
	o.Pin = &unknown.Presented
	return client.New(client.Options{URL: o.URL, Pin: o.Pin, UserAgent: o.UserAgent}).Reach(ctx)
}

// inTheClear tells whether what is sent to an address leaves the machine unencrypted.
func inTheClear(u *url.URL) bool {
	if u.Scheme == "https" || u.Hostname() == "localhost" {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err != nil || !addr.IsLoopback()
}

// signIn asks for a Proxmox account and starts a session with it.
func (c *loginCommand) signIn(ctx context.Context, ask *prompt, berth *client.Client) error {
	var in client.SignIn
	var err error
	host := c.Host
	if host == "" {
		if host, err = ask.line(ctx, "Proxmox host", ""); err != nil {
			return err
		}
	}
	if in.Host, in.Port, err = hostAndPort(host); err != nil {
		return usageError{err}
	}
	if in.Username = c.User; in.Username == "" {
		if in.Username, err = ask.line(ctx, "User (such as root@pam)", ""); err != nil {
			return err
		}
	}
	if in.Password, err = ask.secret(ctx, "Password of "+in.Username); err != nil {
		return err
	}
	for {
		second, err := berth.SignIn(ctx, in)
		f := fault.As(err)
		switch {
		case err == nil && second == nil:
			return nil
		case err == nil:
			return secondStep(ctx, ask, berth, *second)
		case f != nil && f.Code == "certificate_unknown" && in.Fingerprint == "":
			if in.Fingerprint, err = compare(ctx, ask, host, f); err != nil {
				return err
			}
		case f != nil && f.Code == "claim_code_required" && in.ClaimCode == "":
			fmt.Fprintln(ask.out, "Nobody has signed in to this Berth yet. Whoever started it sees the claim code in its output.")
			if in.ClaimCode, err = ask.line(ctx, "Claim code", ""); err != nil {
				return err
			}
			if in.ClaimCode == "" {
				return f
			}
		default:
			return err
		}
	}
}

// compare has the fingerprint of a Proxmox host confirmed. Nothing was sent to it yet.
func compare(ctx context.Context, ask *prompt, host string, f *fault.Error) (string, error) {
	shown, _ := f.Details["fingerprint"].(string)
	if shown == "" {
		return "", f
	}
	fmt.Fprintf(ask.out, "Nobody vouches for the certificate of %s. Nothing was sent to it yet.\n  %s\n", host, shown)
	yes, err := ask.confirm(ctx, "Is that what the host itself shows (pvenode cert info)?")
	if err == nil && !yes {
		err = f
	}
	return shown, err
}

// secondStep is the second step of a sign-in.
func secondStep(ctx context.Context, ask *prompt, berth *client.Client, second client.SecondFactor) error {
	if len(second.Kinds) == 0 {
		return &fault.Error{Kind: fault.Forbidden, Message: "This account has only second factors that work on Proxmox VE's own page."}
	}
	code := client.Code{Challenge: second.Challenge, Kind: second.Kinds[0]}
	if len(second.Kinds) > 1 {
		kind, err := ask.line(ctx, "Second factor ("+strings.Join(second.Kinds, ", ")+")", code.Kind)
		if err != nil {
			return err
		}
		if code.Kind = kind; !slices.Contains(second.Kinds, kind) {
			return usageError{fmt.Errorf("the second factor must be one of %s", strings.Join(second.Kinds, ", "))}
		}
	}
	var err error
	if code.Code, err = ask.secret(ctx, "Code ("+code.Kind+")"); err != nil {
		return err
	}
	return berth.AnswerChallenge(ctx, code)
}

// hostAndPort takes a host apart; Berth judges the rest.
func hostAndPort(text string) (string, int, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return strings.Trim(text, "[]"), 0, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", 0, errors.New("the port of the Proxmox host must be a whole number from 1 to 65535")
	}
	return host, int(n), nil
}

type logoutCommand struct{}

// Help is the detail of berth logout --help.
func (logoutCommand) Help() string {
	return "Ends the session that berth login started, and forgets it or the access token. An access token itself goes on working until it is " +
		"revoked under Settings > Access tokens.\n\n" + statusHelp
}

// Run signs out.
func (logoutCommand) Run(ctx context.Context, stdout io.Writer) error {
	kept, err := loadAccount()
	if err != nil {
		return err
	}
	if kept == nil {
		_, err := fmt.Fprintln(stdout, "You are not signed in.")
		return err
	}
	if kept.Session != "" {
		berth, err := kept.client()
		if err == nil {
			err = berth.SignOut(ctx)
		}
		// A session that has ended already is what was asked for.
		if err != nil && fault.KindOf(err) != fault.Unauthenticated {
			return fmt.Errorf("%w\nStill signed in: the session ends by itself after two hours without use", err)
		}
	}
	if err := forgetAccount(); err != nil {
		return err
	}
	if kept.Token != "" {
		_, err = fmt.Fprintf(stdout, "Signed out of %s. The access token still works: revoke it under Settings > Access tokens if it is not needed.\n", kept.URL)
	} else {
		_, err = fmt.Fprintf(stdout, "Signed out of %s.\n", kept.URL)
	}
	return err
}

// client speaks for what berth login keeps, whatever the environment says.
func (a *account) client() (*client.Client, error) {
	at, err := client.ParseURL(a.URL)
	if err != nil {
		return nil, err
	}
	o := client.Options{URL: at, Token: a.Token, Session: a.Session, UserAgent: userAgent()}
	if a.Fingerprint != "" {
		pin, err := client.ParseFingerprint(a.Fingerprint)
		if err != nil {
			return nil, err
		}
		o.Pin = &pin
	}
	return client.New(o), nil
}
