package session_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/pve"
	"berth/internal/seal"
	"berth/internal/session"
	"berth/internal/store"
)

// clock is a time that only the test moves.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// renewer counts renewals and answers as it is told to.
type renewer struct {
	count atomic.Int64
	err   error
	begun chan struct{} // when set, a renewal says here that it has begun
	hold  chan struct{} // and waits for this
}

func (r *renewer) RenewTicket(_ context.Context, _ session.Identity, _ string, t pve.Ticket) (pve.Ticket, error) {
	r.count.Add(1)
	if r.hold != nil {
		r.begun <- struct{}{}
		<-r.hold
	}
	if r.err != nil {
		return pve.Ticket{}, r.err
	}
	return pve.Ticket{UserID: t.UserID, Value: t.Value + "+", CSRF: t.CSRF + "+"}, nil
}

var refused = &pve.Error{Kind: pve.KindUnauthenticated, Status: 401}

// unreliable is a store that can be told to fail.
type unreliable struct {
	session.Store
	down atomic.Bool
}

var errDown = errors.New("the store is down")

func (u *unreliable) FindSession(ctx context.Context, h session.Hash) (session.Record, error) {
	if u.down.Load() {
		return session.Record{}, errDown
	}
	return u.Store.FindSession(ctx, h)
}

func (u *unreliable) EndSession(ctx context.Context, h session.Hash, at, until time.Time) error {
	if u.down.Load() {
		return errDown
	}
	return u.Store.EndSession(ctx, h, at, until)
}

// bench is a registry over a real database with one login host.
type bench struct {
	*clock
	folder   string
	store    *unreliable
	sealer   *seal.Sealer
	renewer  *renewer
	grant    session.Grant
	registry *session.Registry
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{clock: newClock(), folder: t.TempDir(), renewer: &renewer{}}
	db, err := store.Open(t.Context(), b.folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	t.Cleanup(func() { b.registry.Close(context.Background()) })
	b.store = &unreliable{Store: db}
	if b.sealer, err = seal.Create(filepath.Join(b.folder, "key")); err != nil {
		t.Fatal(err)
	}
	host := auth.LoginHost{ID: "host", Datacenter: "dc", Address: pve.Address{Host: "pve.lan", Port: 8006}, Created: b.now()}
	if err := db.Admit(t.Context(), auth.Admission{Host: &host}); err != nil {
		t.Fatal(err)
	}
	b.grant = session.Grant{
		Identity: session.Identity{Datacenter: "dc", UserID: "alice@pve"}, LoginHost: "host", Realm: "pve",
		Ticket: pve.Ticket{UserID: "alice@pve", Value: "PVE:the-ticket", CSRF: "the-csrf-token"},
	}
	b.restart()
	return b
}

// restart is a new process over the same database.
func (b *bench) restart() {
	if b.registry != nil {
		b.registry.Close(context.Background())
	}
	b.registry = session.NewRegistry(session.Options{Store: b.store, Sealer: b.sealer, Renewer: b.renewer, Now: b.now})
}

func (b *bench) start(t *testing.T) (string, session.Session) {
	t.Helper()
	token, s, err := b.registry.Start(t.Context(), b.grant, nil)
	if err != nil {
		t.Fatal(err)
	}
	return token, s
}

// alive fails the test unless the token's session is as alive as it should be.
func (b *bench) alive(t *testing.T, token string, want bool) {
	t.Helper()
	_, err := b.registry.Find(t.Context(), token)
	if got := err == nil; got != want || (err != nil && !errors.Is(err, session.ErrNone)) {
		t.Errorf("alive: %v (%v), want %v", got, err, want)
	}
}

// use is a request with the session.
func (b *bench) use(t *testing.T, token string) {
	t.Helper()
	s, err := b.registry.Find(t.Context(), token)
	if err != nil {
		t.Fatalf("use: %v", err)
	}
	b.registry.Touch(t.Context(), s.Hash, netip.Addr{})
}

// ticket is the ticket that a call of the session is made with.
func (b *bench) ticket(t *testing.T, h session.Hash) string {
	t.Helper()
	var value string
	err := b.registry.Call(t.Context(), h, func(_ context.Context, ticket pve.Ticket) error {
		value = ticket.Value
		return nil
	})
	if err != nil {
		t.Fatalf("call: %v", err)
	}
	return value
}

func TestStartedSessionIsFound(t *testing.T) {
	b := newBench(t)
	token, s := b.start(t)
	got, err := b.registry.Find(t.Context(), token)
	if err != nil || got != s {
		t.Errorf("found %+v, %v; want %+v", got, err, s)
	}
	other, _ := b.start(t)
	if token == other {
		t.Error("two sessions have the same token")
	}
	b.restart()
	if got, err = b.registry.Find(t.Context(), token); err != nil || got != s {
		t.Errorf("after a restart: found %+v, %v; want %+v", got, err, s)
	}
	for _, wrong := range []string{"", "x", token + "x", token[:len(token)-1] + "!", other[:20] + token[20:]} {
		if _, err := b.registry.Find(t.Context(), wrong); !errors.Is(err, session.ErrNone) {
			t.Errorf("token %q: %v, want ErrNone", wrong, err)
		}
	}
}

func TestIdleLimit(t *testing.T) {
	b := newBench(t)
	token, _ := b.start(t)
	b.advance(2*time.Hour - time.Second)
	b.alive(t, token, true)
	b.use(t, token)
	b.advance(2*time.Hour - time.Second)
	b.alive(t, token, true)
	b.advance(time.Second)
	b.alive(t, token, false)
	b.restart()
	b.alive(t, token, false)
}

func TestAbsoluteLimit(t *testing.T) {
	b := newBench(t)
	token, s := b.start(t)
	for b.now().Before(s.Created.Add(7*24*time.Hour - time.Hour)) {
		b.use(t, token)
		if err := b.registry.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.advance(time.Hour)
	}
	b.use(t, token)
	if got := b.registry.Expires(s); got.After(s.Ends) {
		t.Errorf("expires %v, after its absolute limit %v", got, s.Ends)
	}
	b.advance(time.Hour)
	b.alive(t, token, false)
}

func TestUseSurvivesRestartOnceSwept(t *testing.T) {
	b := newBench(t)
	token, _ := b.start(t)
	b.advance(time.Hour)
	b.use(t, token)
	if err := b.registry.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.advance(90 * time.Minute)
	b.alive(t, token, true)
}

func TestEndedSessionStaysEnded(t *testing.T) {
	b := newBench(t)
	token, s := b.start(t)
	err := b.registry.Call(t.Context(), s.Hash, func(context.Context, pve.Ticket) error {
		// A call is in flight while the session ends, and uses it afterwards.
		return b.registry.End(context.Background(), s.Hash)
	})
	if err != nil {
		t.Fatal(err)
	}
	b.registry.Touch(t.Context(), s.Hash, netip.Addr{})
	if err := b.registry.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.alive(t, token, false)
	b.restart()
	b.alive(t, token, false)
	if err := b.registry.End(t.Context(), s.Hash); err != nil {
		t.Errorf("ending it again: %v", err)
	}
}

func TestRenewalDoesNotBringAnEndedSessionBack(t *testing.T) {
	b := newBench(t)
	token, s := b.start(t)
	b.advance(61 * time.Minute)
	b.renewer.begun, b.renewer.hold = make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		done <- b.registry.Call(context.Background(), s.Hash, func(context.Context, pve.Ticket) error { return nil })
	}()
	<-b.renewer.begun
	if err := b.registry.End(t.Context(), s.Hash); err != nil {
		t.Fatal(err)
	}
	close(b.renewer.hold)
	<-done
	b.alive(t, token, false)
	b.restart()
	b.alive(t, token, false)
}

func TestSessionEndsHereThoughTheStoreIsDown(t *testing.T) {
	b := newBench(t)
	token, s := b.start(t)
	b.store.down.Store(true)
	if err := b.registry.End(t.Context(), s.Hash); !errors.Is(err, errDown) {
		t.Fatalf("end: %v, want the store's error", err)
	}
	b.alive(t, token, false)
	b.advance(time.Hour)
	if err := b.registry.Sweep(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("sweep: %v, want the store's error", err)
	}
	b.alive(t, token, false)
	b.store.down.Store(false)
	if err := b.registry.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.alive(t, token, false)
}

func TestStoreDownIsNotSignedOut(t *testing.T) {
	b := newBench(t)
	token, _ := b.start(t)
	b.restart()
	b.store.down.Store(true)
	if _, err := b.registry.Find(t.Context(), token); !errors.Is(err, errDown) {
		t.Errorf("%v, want the store's error", err)
	}
	b.store.down.Store(false)
	b.alive(t, token, true)
}

func TestTicketIsRenewedAfterAnHourOfUse(t *testing.T) {
	b := newBench(t)
	_, s := b.start(t)
	b.advance(59 * time.Minute)
	if got := b.ticket(t, s.Hash); got != "PVE:the-ticket" {
		t.Errorf("ticket %q before an hour", got)
	}
	b.advance(time.Minute)
	if got := b.ticket(t, s.Hash); got != "PVE:the-ticket+" {
		t.Errorf("ticket %q after an hour", got)
	}
	if got := b.ticket(t, s.Hash); got != "PVE:the-ticket+" || b.renewer.count.Load() != 1 {
		t.Errorf("ticket %q after %d renewals, want one renewal", got, b.renewer.count.Load())
	}
	b.restart()
	if got := b.ticket(t, s.Hash); got != "PVE:the-ticket+" {
		t.Errorf("ticket %q after a restart", got)
	}
}

func TestOneRenewalHoweverManyAsk(t *testing.T) {
	b := newBench(t)
	_, s := b.start(t)
	b.advance(61 * time.Minute)
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if got := b.ticket(t, s.Hash); got != "PVE:the-ticket+" {
				t.Errorf("ticket %q, want the renewed one", got)
			}
		})
	}
	wg.Wait()
	if n := b.renewer.count.Load(); n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
}

func TestTicketThatCannotBeRenewedGoesOn(t *testing.T) {
	b := newBench(t)
	_, s := b.start(t)
	b.renewer.err = &pve.Error{Kind: pve.KindHostUnreachable}
	b.advance(61 * time.Minute)
	for range 3 {
		if got := b.ticket(t, s.Hash); got != "PVE:the-ticket" {
			t.Errorf("ticket %q", got)
		}
	}
	if n := b.renewer.count.Load(); n != 1 {
		t.Errorf("%d renewals within a minute, want 1", n)
	}
	b.renewer.err = nil
	b.advance(time.Minute)
	if got := b.ticket(t, s.Hash); got != "PVE:the-ticket+" {
		t.Errorf("ticket %q a minute later", got)
	}
}

// A session that was last used before its ticket was due for renewal still lives to its idle limit.
func TestSweepRenewsWhatWouldRunOutTooEarly(t *testing.T) {
	b := newBench(t)
	token, s := b.start(t)
	idleToken, _ := b.start(t)
	b.advance(59 * time.Minute)
	b.use(t, token)
	for range 118 {
		b.advance(time.Minute)
		if err := b.registry.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.registry.RenewAging(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.renewer.count.Load(); n != 1 {
		t.Errorf("%d renewals, want 1: of the session that was used", n)
	}
	b.alive(t, token, true)
	b.alive(t, idleToken, false)
	if got := b.ticket(t, s.Hash); got != "PVE:the-ticket+" && got != "PVE:the-ticket++" {
		t.Errorf("ticket %q", got)
	}
}

func TestRefusalEndsTheSessionOnlyWithTheRenewal(t *testing.T) {
	tests := []struct {
		name      string
		renewal   error
		answers   []error // of the call, one after the other
		want      error
		alive     bool
		callCount int
	}{
		{"a call that is right", nil, []error{nil}, nil, true, 1},
		{"a sick member, and the renewal works", nil, []error{refused, refused}, refused, true, 2},
		{"an old ticket, and the renewed one works", nil, []error{refused, nil}, nil, true, 2},
		{"both refused", refused, []error{refused}, session.ErrNone, false, 1},
		{"refused, and the renewal has no answer", &pve.Error{Kind: pve.KindHostUnreachable}, []error{refused}, refused, true, 1},
		{"forbidden says nothing about the session", refused, []error{&pve.Error{Kind: pve.KindForbidden}}, &pve.Error{Kind: pve.KindForbidden}, true, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			token, s := b.start(t)
			b.renewer.err = test.renewal
			calls := 0
			err := b.registry.Call(t.Context(), s.Hash, func(context.Context, pve.Ticket) error {
				calls++
				return test.answers[calls-1]
			})
			switch want := test.want.(type) {
			case *pve.Error:
				if !pve.IsKind(err, want.Kind) {
					t.Errorf("call: %v, want %v", err, want)
				}
			default:
				if !errors.Is(err, want) {
					t.Errorf("call: %v, want %v", err, want)
				}
			}
			if calls != test.callCount {
				t.Errorf("%d calls, want %d", calls, test.callCount)
			}
			b.alive(t, token, test.alive)
		})
	}
}

// The files on disk hold neither the token nor the ticket nor the CSRF token.
func TestNothingSecretOnDisk(t *testing.T) {
	b := newBench(t)
	token, _ := b.start(t)
	files, err := os.ReadDir(b.folder)
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(b.folder, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		read += len(content)
		for name, secret := range map[string]string{"token": token, "ticket": "the-ticket", "CSRF token": "the-csrf-token"} {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s holds the %s", f.Name(), name)
			}
		}
	}
	if read == 0 {
		t.Fatal("no file was read")
	}
}

// A ciphertext moved to another session's row does not open.
func TestSwappedSecretsFailClosed(t *testing.T) {
	b := newBench(t)
	_, one := b.start(t)
	_, two := b.start(t)
	ctx := t.Context()
	first, err := b.store.FindSession(ctx, one.Hash)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.RenewSession(ctx, two.Hash, 1, first.Secret, b.now()); err != nil {
		t.Fatal(err)
	}
	b.restart()
	err = b.registry.Call(ctx, two.Hash, func(context.Context, pve.Ticket) error {
		t.Error("a call was made with another session's ticket")
		return nil
	})
	if err == nil {
		t.Error("the swapped secret opened")
	}
}

func TestListEndAndEndOthers(t *testing.T) {
	b := newBench(t)
	first, firstSession := b.start(t)
	b.advance(time.Minute)
	second, secondSession := b.start(t)
	b.advance(time.Minute)
	third, thirdSession := b.start(t)

	hashes := func() []session.Hash {
		t.Helper()
		listed, more, err := b.registry.List(t.Context(), b.grant.Identity, false, "")
		if err != nil || more {
			t.Fatalf("list: more %v, %v", more, err)
		}
		var hashes []session.Hash
		for _, s := range listed {
			hashes = append(hashes, s.Hash)
		}
		return hashes
	}
	if got, want := hashes(), []session.Hash{thirdSession.Hash, secondSession.Hash, firstSession.Hash}; !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
	// A use that the store does not know of yet counts.
	b.advance(time.Minute)
	b.use(t, first)
	if got, want := hashes(), []session.Hash{firstSession.Hash, thirdSession.Hash, secondSession.Hash}; !slices.Equal(got, want) {
		t.Errorf("after a use listed %v, want %v", got, want)
	}
	if s, err := b.registry.ByID(t.Context(), secondSession.Hash.ID()); err != nil || s.Hash != secondSession.Hash {
		t.Errorf("by id: %+v, %v", s, err)
	}
	// An end that the store has not learned of is an end all the same.
	b.store.down.Store(true)
	if err := b.registry.End(t.Context(), secondSession.Hash); !errors.Is(err, errDown) {
		t.Errorf("end: %v", err)
	}
	b.store.down.Store(false)
	if _, err := b.registry.ByID(t.Context(), secondSession.Hash.ID()); !errors.Is(err, session.ErrNone) {
		t.Errorf("by id after its end: %v", err)
	}
	if got, want := hashes(), []session.Hash{firstSession.Hash, thirdSession.Hash}; !slices.Equal(got, want) {
		t.Errorf("after an end listed %v, want %v", got, want)
	}
	b.alive(t, second, false)
	if ended, err := b.registry.EndOthers(t.Context(), b.grant.Identity, false, thirdSession.Hash); err != nil || len(ended) != 2 {
		t.Errorf("ended %d others, %v; want 2: one of them was dead here only", len(ended), err)
	}
	b.alive(t, first, false)
	b.alive(t, third, true)
	b.restart()
	b.alive(t, first, false)
	b.alive(t, second, false)
	b.alive(t, third, true)
}

// What ran out is neither listed nor found by its id, even before a Sweep has removed it.
func TestListLeavesOutWhatRanOut(t *testing.T) {
	b := newBench(t)
	_, s := b.start(t)
	b.advance(session.DefaultIdle)
	if listed, _, err := b.registry.List(t.Context(), b.grant.Identity, false, ""); err != nil || len(listed) != 0 {
		t.Errorf("listed %d, %v", len(listed), err)
	}
	if _, err := b.registry.ByID(t.Context(), s.Hash.ID()); !errors.Is(err, session.ErrNone) {
		t.Errorf("by id: %v", err)
	}
}

// A session whose ticket and renewal were refused is told of once, however many calls were refused.
func TestLostIsToldOnce(t *testing.T) {
	b := newBench(t)
	var lost atomic.Int64
	b.registry = session.NewRegistry(session.Options{
		Store: b.store, Sealer: b.sealer, Renewer: b.renewer, Now: b.now,
		Lost: func(_ context.Context, s session.Session) {
			if s.Identity == b.grant.Identity {
				lost.Add(1)
			}
		},
	})
	_, s := b.start(t)
	b.renewer.err = refused
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			err := b.registry.Call(t.Context(), s.Hash, func(context.Context, pve.Ticket) error { return refused })
			if !errors.Is(err, session.ErrNone) {
				t.Errorf("call: %v", err)
			}
		})
	}
	wg.Wait()
	if n := lost.Load(); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
}

func TestParseID(t *testing.T) {
	hash, _ := session.HashToken(strings.Repeat("A", 43))
	text := hash.ID().String()
	if id, ok := session.ParseID(text); !ok || id != hash.ID() || !strings.HasPrefix(hash.String(), text) || len(text) != 32 {
		t.Errorf("%q is read as %v, %v", text, id, ok)
	}
	for _, bad := range []string{"", "1", text[:31], text + "0", hash.String(), strings.ToUpper(text), strings.Repeat("g", 32), strings.Repeat("-", 32)} {
		if id, ok := session.ParseID(bad); ok {
			t.Errorf("%q is read as %v", bad, id)
		}
	}
}
