package session

import (
	"slices"

	"berth/internal/fault"
)

// Scope is what an access token may do, or what something needs. Each one covers those before it.
type Scope string

const (
	// SessionOnly is for what no access token may do, whatever its scope. It is the zero value: nothing is open to tokens
	// by omission.
	SessionOnly Scope = ""
	// ScopeRead lists and shows.
	ScopeRead Scope = "read"
	// ScopePower starts, shuts down, stops, reboots, suspends and resumes containers too.
	ScopePower Scope = "power"
	// ScopeAll does whatever does not need a session.
	ScopeAll Scope = "all"
)

// Scopes are those that an access token can have, the least first.
var Scopes = []Scope{ScopeRead, ScopePower, ScopeAll}

// Covers tells whether a token of this scope may do what needs the other one.
func (s Scope) Covers(need Scope) bool {
	has, needed := slices.Index(Scopes, s), slices.Index(Scopes, need)
	return has >= 0 && needed >= 0 && needed <= has
}

// Require refuses a caller whose access token may not do what needs a scope. The guard asks it for every route; an action
// asks it again where what it needs depends on its input.
func (c Caller) Require(need Scope) error {
	switch {
	case c.SignedIn(), c.Scope.Covers(need):
		return nil
	case need == SessionOnly:
		return &fault.Error{
			Kind: fault.Forbidden, Code: "session_required", Message: "An access token can't do this, whatever its scope.",
			Hint: "Sign in to Berth to do it.",
		}
	}
	return &fault.Error{
		Kind: fault.Forbidden, Code: "scope_missing", Message: "This access token may not do this: its scope is " + string(c.Scope) + ".",
		Hint: "It needs one with the scope " + string(need) + ".", Details: map[string]any{"scope": string(need)},
	}
}
