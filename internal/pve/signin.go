package pve

import (
	"context"
	"net/netip"
	"strings"
	"unicode"
)

// maxSignInBody bounds the answers to callers who have proven nothing yet.
const maxSignInBody = 256 << 10

// SignIn is PVE's answer to a password or a second factor.
type SignIn struct {
	// Ticket is the credential, the zero value while a second factor is missing.
	Ticket Ticket
	// Challenge is set instead when a second factor is needed.
	Challenge *Challenge
	// ClusterName is empty on a standalone host, and for users without Sys.Audit on "/".
	ClusterName string
	// Capabilities are PVE's summary of what the user may do somewhere, by area ("vms") and privilege ("VM.Audit"). They
	// decide which menus PVE's own page shows, nothing else.
	Capabilities map[string]map[string]bool
}

// Factor is a kind of second factor that a code can be typed for.
type Factor string

// The prefixes that PVE expects before the code (proxmox-tfa TfaResponse; yubico in AC authenticate_2nd_new_do).
const (
	FactorTOTP     Factor = "totp"
	FactorRecovery Factor = "recovery"
	FactorYubico   Factor = "yubico"
)

// A SignInOption changes one call that signs in.
type SignInOption func(*call)

// WithForwardedFor passes on the address of the one who signs in, as X-Forwarded-For, so that PVE's log can show it
// instead of Berth's (PROXY_REAL_IP_HEADER and PROXY_REAL_IP_ALLOW_FROM in /etc/default/pveproxy). An address that isn't
// valid is left out.
func WithForwardedFor(client netip.Addr) SignInOption {
	return func(c *call) { c.forwardedFor = client }
}

// SignIn asks for a ticket with a password; username is user@realm. Whatever is wrong with user or password, PVE says the
// same, 3 s later (AC create_ticket): KindUnauthenticated. It is sent once, never again.
//
// Exactly one of the answer's Ticket and Challenge is set.
func (h *Host) SignIn(ctx context.Context, username, password string, opts ...SignInOption) (SignIn, error) {
	c := ticketCall(username, password, opts)
	c.password = true
	return h.signIn(ctx, c)
}

// AnswerChallenge takes the second step. The code is sent as the text it is, leading zeros included; blanks and, for a
// recovery key, capitals are straightened. Every refusal is KindUnauthenticated; 8 wrong TOTP codes in a row lock TOTP
// for the user in PVE (proxmox-tfa totp_failure_limit). The answer always has a Ticket.
func (h *Host) AnswerChallenge(ctx context.Context, challenge Challenge, kind Factor, code string, opts ...SignInOption) (SignIn, error) {
	if _, err := parseChallenge(challenge.UserID, challenge.Ticket); err != nil {
		return SignIn{}, &InputError{Field: "challenge", Message: "This is not a two-factor challenge"}
	}
	switch kind {
	case FactorTOTP, FactorRecovery, FactorYubico:
	default:
		return SignIn{}, &InputError{Field: "kind", Message: "This kind of second factor can't be typed"}
	}
	code = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, code)
	if kind == FactorRecovery {
		code = strings.ToLower(code)
	}
	if code == "" || !headerSafe(code) || len(code) > 256 {
		return SignIn{}, &InputError{Field: "code", Message: "Enter the code"}
	}

	c := ticketCall(challenge.UserID, string(kind)+":"+code, opts)
	c.password = true
	c.set("tfa-challenge", challenge.Ticket)
	c.secrets = append(c.secrets, challenge.Ticket, code)
	s, err := h.signIn(ctx, c)
	if err != nil {
		return SignIn{}, err
	}
	if s.Challenge != nil || s.Ticket.UserID != challenge.UserID {
		return SignIn{}, h.notProxmox(c, answer{}, "the second step was answered with something else than a ticket")
	}
	return s, nil
}

// Renew exchanges a valid ticket for a new one with a new CSRF token; no second factor is asked for, and the old ticket
// stays valid for the rest of its life (AC create_ticket_do). A refusal, KindUnauthenticated, means that the user has to
// sign in again.
func (h *Host) Renew(ctx context.Context, t Ticket, opts ...SignInOption) (Ticket, error) {
	if _, _, err := parseTicket(t.Value); err != nil {
		return Ticket{}, &InputError{Field: "ticket", Message: "This is not a ticket"}
	}
	c := ticketCall(t.UserID, t.Value, opts)
	s, err := h.signIn(ctx, c)
	if err != nil {
		return Ticket{}, err
	}
	if s.Challenge != nil || s.Ticket.UserID != t.UserID {
		return Ticket{}, h.notProxmox(c, answer{}, "the renewal was answered with something else than a ticket")
	}
	return s.Ticket, nil
}

func ticketCall(username, password string, opts []SignInOption) *call {
	c := post(nil, "access", "ticket")
	c.signIn = true
	c.maxBody = maxSignInBody
	c.secrets = []string{password}
	c.set("username", username)
	c.set("password", password)
	for _, opt := range opts {
		opt(c)
	}
	return c
}

func (h *Host) signIn(ctx context.Context, c *call) (SignIn, error) {
	r, a, err := h.object(ctx, c)
	if err != nil {
		return SignIn{}, err
	}
	s, err := decodeSignIn(r)
	if err != nil {
		return SignIn{}, h.notProxmox(c, a, err.Error())
	}
	return s, nil
}

// decodeSignIn reads the data of a 200. A first step that needs a second one is a 200 too, with NeedTFA and a ticket that
// says so itself; either sign is enough to make it a challenge.
func decodeSignIn(r record) (SignIn, error) {
	userID, value := r.text("username"), r.text("ticket")
	if r.bool("NeedTFA") || strings.HasPrefix(value, challengePrefix) {
		challenge, err := parseChallenge(userID, value)
		if err != nil {
			return SignIn{}, err
		}
		return SignIn{Challenge: &challenge}, nil
	}
	// The user id is the one inside the signature, so a host can't hand out one user's ticket under another's name by
	// mistake.
	signed, _, err := parseTicket(value)
	csrf := r.text("CSRFPreventionToken")
	if err != nil || signed != userID || len(value) > maxHeaderSecret || !headerSafe(csrf) {
		return SignIn{}, errTicket
	}
	return SignIn{
		Ticket:       Ticket{UserID: userID, Value: value, CSRF: csrf},
		ClusterName:  printable(r.text("clustername"), 64),
		Capabilities: flags(r["cap"]),
	}, nil
}

// Domain is a realm that users of a host can sign in with.
type Domain struct {
	Realm   string
	Type    string // pam, pve, ldap, ad, openid
	Comment string
	TFA     string // a factor that the realm enforces: "oath" or "yubico"
	Default bool
}

// Domains lists the realms. PVE asks for no sign-in here (HS auth_handler), so the answer proves nothing; its texts are
// bounded and free of control characters.
func (h *Host) Domains(ctx context.Context) ([]Domain, error) {
	c := get(nil, "access", "domains")
	c.maxBody = maxSignInBody
	list, _, err := rows(ctx, h, c, func(r record) Domain {
		return Domain{
			Realm:   printable(r.text("realm"), maxUserID),
			Type:    printable(r.text("type"), maxUserID),
			Comment: printable(r.text("comment"), maxMessage),
			TFA:     printable(r.text("tfa"), maxUserID),
			Default: r.bool("default"),
		}
	})
	return list, err
}
