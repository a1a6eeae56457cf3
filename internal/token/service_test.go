package token

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/fault"
	"berth/internal/session"
)

var alice = session.Caller{
	Identity: session.Identity{Datacenter: "dc1", UserID: "alice@pve"}, Session: session.Session{Hash: session.Hash{1}},
}

// memory is a store of one token, which counts what it is asked.
type memory struct {
	mu     sync.Mutex
	tokens map[Hash]Token
	finds  atomic.Int64
	touch  map[string]time.Time
	fail   error
	// hold keeps a find waiting, after it has read, until it is closed; arrived tells that one waits.
	hold, arrived chan struct{}
}

func (m *memory) CreateToken(_ context.Context, r Record, _ int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens[r.Hash] = r.Token
	return nil
}

func (m *memory) FindToken(_ context.Context, h Hash) (Token, error) {
	m.finds.Add(1)
	m.mu.Lock()
	t, ok := m.tokens[h]
	hold := m.hold
	m.hold = nil
	err := m.fail
	m.mu.Unlock()
	if hold != nil {
		close(m.arrived)
		<-hold
	}
	if err != nil {
		return Token{}, err
	}
	if !ok {
		return Token{}, ErrNone
	}
	return t, nil
}

func (m *memory) Tokens(context.Context, session.Identity) ([]Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Token
	for _, t := range m.tokens {
		all = append(all, t)
	}
	return all, m.fail
}

func (m *memory) RevokeToken(_ context.Context, _ session.Identity, id string) (Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for h, t := range m.tokens {
		if t.ID == id {
			delete(m.tokens, h)
			return t, nil
		}
	}
	return Token{}, ErrNone
}

func (m *memory) TouchTokens(_ context.Context, used map[string]time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.touch = used
	return m.fail
}

func (m *memory) RemoveTokensExpired(context.Context, time.Time) (int64, error) { return 0, nil }

func (m *memory) LastSignIn(context.Context, session.Identity) (time.Time, error) {
	return begin, nil
}

func (m *memory) Vouches(context.Context, string) (bool, error) { return true, nil }

func (m *memory) Record(context.Context, audit.Entry) {}

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newService is a service over a memory with a token in it, and the clock that it goes by.
func newService(t *testing.T) (s *Service, m *memory, made Created, now *atomic.Int64) {
	t.Helper()
	now = &atomic.Int64{}
	now.Store(begin.UnixMilli())
	m = &memory{tokens: map[Hash]Token{}, arrived: make(chan struct{})}
	s = NewService(Options{Store: m, SignIns: m, Hosts: m, Audit: m, Now: func() time.Time { return time.UnixMilli(now.Load()) }})
	made, err := s.Create(t.Context(), alice, CreateInput{Name: "mine", Scope: session.ScopeRead, ExpiresAt: "2026-06-01"})
	if err != nil {
		t.Fatal(err)
	}
	return s, m, made, now
}

func TestTokenInUseIsReadOnceASecond(t *testing.T) {
	s, m, made, now := newService(t)
	for range 100 {
		if _, err := s.Use(t.Context(), made.Text); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.finds.Load(); n != 1 || m.touch != nil {
		t.Errorf("read %d times, wrote %v", n, m.touch)
	}
	now.Add(fresh.Milliseconds())
	if _, err := s.Use(t.Context(), made.Text); err != nil || m.finds.Load() != 2 {
		t.Errorf("a second later: %v, read %d times", err, m.finds.Load())
	}
	// A clock that was put back makes nothing last longer.
	now.Add(-time.Hour.Milliseconds())
	if _, err := s.Use(t.Context(), made.Text); err != nil || m.finds.Load() != 3 {
		t.Errorf("an hour before: %v, read %d times", err, m.finds.Load())
	}
}

// A text that can't be a token costs no look at the store.
func TestTextThatIsNoToken(t *testing.T) {
	s, m, made, _ := newService(t)
	for _, text := range []string{"", "berth_", made.Text[6:], made.Text + "A", made.Text[:48], "berth_" + made.Text[7:] + "!", "Berth_" + made.Text[6:]} {
		if _, err := s.Use(t.Context(), text); fault.KindOf(err) != fault.Unauthenticated {
			t.Errorf("%q: %v", text, err)
		}
	}
	if n := m.finds.Load(); n != 0 {
		t.Errorf("the store was asked %d times", n)
	}
}

// A token that is being read while it is revoked is not remembered, nor handed to who comes afterwards.
func TestRevokedWhileItIsRead(t *testing.T) {
	s, m, made, _ := newService(t)
	hold := make(chan struct{})
	m.hold = hold
	first := make(chan error, 1)
	go func() {
		_, err := s.Use(context.Background(), made.Text)
		first <- err
	}()
	<-m.arrived
	if _, err := s.Revoke(t.Context(), alice, Choice{ID: made.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Use(t.Context(), made.Text); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("while the read from before goes on: %v", err)
	}
	close(hold)
	<-first // it asked before the revocation
	if _, err := s.Use(t.Context(), made.Text); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("after it: %v", err)
	}
}

func TestTokenStoreDown(t *testing.T) {
	s, m, made, now := newService(t)
	if _, err := s.Use(t.Context(), made.Text); err != nil {
		t.Fatal(err)
	}
	m.fail = errors.New("out of reach")
	if err := s.Flush(t.Context()); err == nil {
		t.Error("a use that was not written is no error")
	}
	now.Add(fresh.Milliseconds())
	if _, err := s.Use(t.Context(), made.Text); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("in use: %v", err)
	}
	m.fail = nil
	if err := s.Flush(t.Context()); err != nil || !m.touch[made.ID].Equal(begin) {
		t.Errorf("later: %v, wrote %v", err, m.touch)
	}
	m.touch = nil
	if err := s.Flush(t.Context()); err != nil || m.touch != nil {
		t.Errorf("with nothing to write: %v, wrote %v", err, m.touch)
	}
}

// Whatever lets a token through to these actions, they refuse it.
func TestTokensManageNoTokens(t *testing.T) {
	s, _, made, _ := newService(t)
	with := session.Caller{Identity: alice.Identity, Token: made.ID, Scope: session.ScopeAll}
	_, create := s.Create(t.Context(), with, CreateInput{Name: "n", Scope: session.ScopeRead, ExpiresAt: "2026-06-01"})
	_, revoke := s.Revoke(t.Context(), with, Choice{ID: made.ID})
	_, list := s.List(t.Context(), with, struct{}{})
	_, show := s.Show(t.Context(), with, Choice{ID: made.ID})
	for name, err := range map[string]error{"create": create, "revoke": revoke, "list": list, "show": show} {
		if f := fault.As(err); f == nil || f.Code != "session_required" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExpiry(t *testing.T) {
	now := time.Date(2027, 2, 28, 23, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2027-02-28":                "2027-03-01T00:00:00Z",
		"2028-02-27":                "2028-02-28T00:00:00Z",
		"2028-02-28":                "2028-02-28T23:00:00Z", // a year from now, not the end of that day
		"2028-02-29":                "",
		"2027-02-27":                "",
		"2027-03-01T01:00:00+02:00": "",
		"2027-03-01T01:30:00+02:00": "2027-02-28T23:30:00Z",
		"2028-02-28T23:00:00Z":      "2028-02-28T23:00:00Z",
		"2028-02-28T23:00:00.001Z":  "",
		"":                          "",
		"0":                         "",
		"2027-02-30":                "",
		"99999-01-01":               "",
	} {
		at, problem := expiry(text, now)
		if got := at.Format(time.RFC3339); (problem == "") != (want != "") || problem == "" && got != want {
			t.Errorf("%q: %s (%s), want %q", text, got, problem, want)
		}
	}
	// At the first moment of a day, the day a year ahead can be chosen too.
	if at, problem := expiry("2028-03-01", time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)); problem != "" || at.Format(time.DateOnly) != "2028-03-01" {
		t.Errorf("at midnight: %v (%s)", at, problem)
	}
}
