package view

import "time"

// Token is an access token of the caller's.
type Token struct {
	ID, Name, Scope            string
	Created, Expires, LastUsed time.Time // LastUsed is the zero value until it is used
	Expired                    bool
}

// Tokens is the page /settings/tokens.
type Tokens struct {
	Shell
	Rows []Token
	Now  time.Time
	// WorkUntil is when they stop working unless the caller signs in again before.
	WorkUntil time.Time
	// The form, as it was typed. First and Last bound the day of Expires.
	Name, Scope, Expires string
	First, Last          string
	Errors               map[string]string
	Failure              *Failure
	// Made is the new token, shown this once with its Text.
	Made *Token
	Text string
	Done string // what was just done, in a sentence
}

// RevokeToken asks before a token is revoked.
type RevokeToken struct {
	Shell
	Token Token
	Now   time.Time
}

// scopes are what a token may do, in words.
var scopes = []struct{ Value, Label, Meaning string }{
	{"read", "Read", "Lists and shows, and changes nothing."},
	{"power", "Power", "Reads, and starts, shuts down, stops and reboots containers."},
	{"all", "All", "Whatever you may do yourself, but for what needs a signed-in browser."},
}

func scopeLabel(scope string) string {
	for _, s := range scopes {
		if s.Value == scope {
			return s.Label
		}
	}
	return scope
}

// lastDay is the day, in UTC, on which something works last that ends at a time.
func lastDay(ends time.Time) string { return ends.Add(-1).UTC().Format("2 Jan 2006") }
