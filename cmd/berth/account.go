package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"berth/internal/client"
)

// account is where somebody is signed in from the command line, and with what. It lies in a file of its own.
type account struct {
	URL         string `json:"url"`
	Fingerprint string `json:"fingerprint,omitempty"` // of Berth's certificate, if it was confirmed
	UserID      string `json:"userId"`
	Session     string `json:"session,omitempty"` // what the cookie carries
	Token       string `json:"token,omitempty"`   // an access token
}

// accountFile is in the XDG base directory for configuration, in Berth's own folder.
func accountFile() (string, error) {
	// The specification says to ignore a relative path.
	folder := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(folder) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("there is no folder to keep a sign-in in: %w", err)
		}
		folder = filepath.Join(home, ".config")
	}
	return filepath.Join(folder, "berth", "account.json"), nil
}

// loadAccount is nil when there is none.
func loadAccount() (*account, error) {
	path, err := accountFile()
	if err != nil {
		return nil, nil // then nothing was ever kept
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("other users of the machine may read %s, which opens Berth: end what it holds under Settings, and remove it", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var a account
	if err := json.Unmarshal(text, &a); err != nil || a.URL == "" {
		return nil, fmt.Errorf("%s is not what berth login wrote: remove it and sign in again", path)
	}
	return &a, nil
}

// save replaces what is kept, in one step.
func (a account) save() error {
	path, err := accountFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".account-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(append(text, '\n'))
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// forgetAccount removes what is kept; nothing is no error.
func forgetAccount() error {
	path, err := accountFile()
	if err != nil {
		return nil
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// remote are the flags of the commands that speak to a Berth.
type remote struct {
	URL         string `name:"url" placeholder:"URL" env:"BERTH_URL" help:"Address of Berth. Default: where berth login signed in."`
	TokenFile   string `placeholder:"FILE" env:"BERTH_TOKEN_FILE" help:"File with an access token, - for standard input. Default: what berth login keeps. BERTH_TOKEN may hold the token itself."`
	Fingerprint string `placeholder:"SHA256" env:"BERTH_FINGERPRINT" help:"Fingerprint of Berth's certificate, if nobody vouches for it."`
}

// userAgent is the name of the command line in lists of sessions.
func userAgent() string { return "berth/" + programVersion() }

// options are what the flags say, each empty or nil if they say nothing.
func (r remote) options() (o client.Options, err error) {
	o.UserAgent = userAgent()
	if r.URL != "" {
		if o.URL, err = client.ParseURL(r.URL); err != nil {
			return o, usageError{fmt.Errorf("--url (BERTH_URL): %w", err)}
		}
	}
	if r.Fingerprint != "" {
		pin, err := client.ParseFingerprint(r.Fingerprint)
		if err != nil {
			return o, usageError{fmt.Errorf("--fingerprint (BERTH_FINGERPRINT): %w", err)}
		}
		o.Pin = &pin
	}
	o.Token, err = r.token()
	return o, err
}

// maxTokenFile bounds what is read of a file with an access token.
const maxTokenFile = 4 << 10

// token is the access token that flags and environment give; empty if they give none.
func (r remote) token() (string, error) {
	text := os.Getenv("BERTH_TOKEN")
	if r.TokenFile != "" {
		from := io.Reader(os.Stdin)
		if r.TokenFile != "-" {
			file, err := os.Open(r.TokenFile)
			if err != nil {
				return "", usageError{fmt.Errorf("--token-file (BERTH_TOKEN_FILE): %w", err)}
			}
			defer file.Close()
			from = file
		}
		read, err := io.ReadAll(io.LimitReader(from, maxTokenFile))
		if err != nil {
			return "", usageError{fmt.Errorf("--token-file (BERTH_TOKEN_FILE): %w", err)}
		}
		if text = strings.TrimSpace(string(read)); text == "" {
			return "", usageError{errors.New("--token-file (BERTH_TOKEN_FILE): there is no access token in it")}
		}
	}
	// It is sent in a header, so it must be one word; what it is instead is not repeated.
	if text = strings.TrimSpace(text); strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", usageError{errors.New("--token-file (BERTH_TOKEN_FILE) or BERTH_TOKEN holds something else than an access token")}
	}
	return text, nil
}

// open is the client that flags, environment and what berth login keeps make together. What is kept for one Berth is never
// used for another one.
func (r remote) open() (*client.Client, error) {
	o, err := r.options()
	if err != nil {
		return nil, err
	}
	kept, err := loadAccount()
	if err != nil {
		return nil, err
	}
	if o.URL == nil {
		if kept == nil {
			return nil, notSignedInError{"it is not known where Berth is"}
		}
		if o.URL, err = client.ParseURL(kept.URL); err != nil {
			return nil, err
		}
	}
	if kept.isFor(o.URL) {
		if o.Token == "" {
			o.Token, o.Session = kept.Token, kept.Session
		}
		if o.Pin == nil && kept.Fingerprint != "" {
			pin, err := client.ParseFingerprint(kept.Fingerprint)
			if err != nil {
				return nil, err
			}
			o.Pin = &pin
		}
	}
	if o.Token == "" && o.Session == "" {
		return nil, notSignedInError{"you are not signed in to " + o.URL.String()}
	}
	if inTheClear(o.URL) {
		fmt.Fprintln(os.Stderr, "berth: warning: your access travels unencrypted to", o.URL)
	}
	return client.New(o), nil
}

// isFor tells whether an account is for the Berth at an address.
func (a *account) isFor(at *url.URL) bool { return a != nil && a.URL == at.String() }
