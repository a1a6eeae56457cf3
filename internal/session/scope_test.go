package session

import (
	"testing"

	"berth/internal/fault"
)

func TestRequire(t *testing.T) {
	signedIn := Caller{Session: Session{Hash: Hash{1}}}
	with := func(s Scope) Caller { return Caller{Token: "t1", Scope: s} }
	for _, test := range []struct {
		name   string
		caller Caller
		need   Scope
		code   string
	}{
		{"a session where one is needed", signedIn, SessionOnly, ""},
		{"a session where a scope is needed", signedIn, ScopeAll, ""},
		{"read for reading", with(ScopeRead), ScopeRead, ""},
		{"read for power", with(ScopeRead), ScopePower, "scope_missing"},
		{"read for all", with(ScopeRead), ScopeAll, "scope_missing"},
		{"power for reading", with(ScopePower), ScopeRead, ""},
		{"power for power", with(ScopePower), ScopePower, ""},
		{"power for all", with(ScopePower), ScopeAll, "scope_missing"},
		{"all for all", with(ScopeAll), ScopeAll, ""},
		{"all where a session is needed", with(ScopeAll), SessionOnly, "session_required"},
		{"an unknown scope", with("root"), ScopeRead, "scope_missing"},
		{"all for an unknown scope", with(ScopeAll), "root", "scope_missing"},
		{"nobody", Caller{}, ScopeRead, "scope_missing"},
		{"nobody where a session is needed", Caller{}, SessionOnly, "session_required"},
	} {
		code := ""
		if f := fault.As(test.caller.Require(test.need)); f != nil {
			code = f.Code
		}
		if code != test.code {
			t.Errorf("%s: %q, want %q", test.name, code, test.code)
		}
	}
}
