package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/store"
)

// slow is a store whose next load has read its row and waits.
type slow struct {
	session.Store
	once       sync.Once
	read, goOn chan struct{}
}

func (s *slow) FindSession(ctx context.Context, h session.Hash) (session.Record, error) {
	r, err := s.Store.FindSession(ctx, h)
	s.once.Do(func() {
		s.read <- struct{}{}
		<-s.goOn
	})
	return r, err
}

// A load that read its row before the login host was removed does not bring the session back to memory.
func TestAbuseLoadAcrossARemovedHost(t *testing.T) {
	for name, forget := range map[string]func(*session.Registry) error{
		"by an owner":        func(r *session.Registry) error { r.ForgetHost("host"); return nil },
		"by another process": func(r *session.Registry) error { return r.Reload(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			token, s := b.start(t)
			db := b.store.Store.(*store.Store)
			other := auth.LoginHost{ID: "other", Datacenter: "dc2", Address: pve.Address{Host: "other.lan", Port: 8006}, Created: b.now()}
			if err := db.Admit(t.Context(), auth.Admission{Host: &other}); err != nil {
				t.Fatal(err)
			}
			held := &slow{Store: b.store, read: make(chan struct{}), goOn: make(chan struct{})}
			b.store = &unreliable{Store: held}
			b.restart()
			done := make(chan error, 1)
			go func() {
				_, err := b.registry.Find(context.Background(), token)
				done <- err
			}()
			<-held.read
			if err := db.RemoveHost(t.Context(), "host"); err != nil {
				t.Fatal(err)
			}
			if err := forget(b.registry); err != nil {
				t.Fatal(err)
			}
			close(held.goOn)
			if err := <-done; !errors.Is(err, session.ErrNone) {
				t.Errorf("the load under way: %v, want ErrNone", err)
			}
			b.registry.Touch(t.Context(), s.Hash, netip.Addr{})
			b.alive(t, token, false)
		})
	}
}

// A page that stays open uses its session without calling the host: nobody vouches for it any more once its ticket has run
// out, whether the host refuses another or does not answer.
func TestAbuseHeartbeatOutlivesTheTicket(t *testing.T) {
	for name, answer := range map[string]error{
		"the account is disabled": refused,
		"the host is gone":        &pve.Error{Kind: pve.KindHostUnreachable},
		"the host was removed":    auth.ErrNoHost,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.renewer.err = answer
			var told []session.Cause
			b.registry = session.NewRegistry(session.Options{
				Store: b.store, Sealer: b.sealer, Renewer: b.renewer, Now: b.now,
				Ended: func(_ context.Context, _ session.Session, why session.Cause) { told = append(told, why) },
			})
			token, s := b.start(t)
			for range 119 {
				b.advance(time.Minute)
				b.use(t, token)
			}
			b.advance(time.Minute)
			b.alive(t, token, false)
			if err := b.registry.Call(t.Context(), s.Hash, func(context.Context, pve.Ticket) error { return nil }); !errors.Is(err, session.ErrNone) {
				t.Errorf("call: %v, want ErrNone", err)
			}
			for range 2 {
				if err := b.registry.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if len(told) != 1 || told[0] != session.TicketOver {
				t.Errorf("told %q, want once that the ticket ran out", told)
			}
			if _, err := b.store.FindSession(t.Context(), s.Hash); !errors.Is(err, session.ErrNone) {
				t.Errorf("in the store: %v, want ErrNone", err)
			}
			b.registry.Close(t.Context())
			if b.renewer.count.Load() == 0 {
				t.Error("no renewal was tried")
			}
		})
	}
}

// A use alone renews the ticket, once, and does not wait for it.
func TestUseRenewsInTheBackground(t *testing.T) {
	b := newBench(t)
	token, s := b.start(t)
	b.advance(session.RenewAfter)
	b.renewer.begun, b.renewer.hold = make(chan struct{}), make(chan struct{})
	b.use(t, token)
	<-b.renewer.begun
	for range 10 {
		b.use(t, token)
	}
	close(b.renewer.hold)
	b.registry.Close(t.Context())
	if n := b.renewer.count.Load(); n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
	if rec, err := b.store.FindSession(t.Context(), s.Hash); err != nil || rec.Generation != 2 {
		t.Errorf("generation %d, %v; want 2", rec.Generation, err)
	}
}

// A session of a login host that was taken off the list is refused at once.
func TestAbuseSessionOfAHostTakenOffTheList(t *testing.T) {
	b := newBench(t)
	token, s := b.start(t)
	permitted := true
	b.registry.Close(t.Context())
	b.registry = session.NewRegistry(session.Options{
		Store: b.store, Sealer: b.sealer, Renewer: b.renewer, Now: b.now,
		Vouches: func(_ context.Context, id string) (bool, error) { return permitted && id == "host", nil },
	})
	b.alive(t, token, true)
	permitted = false
	b.alive(t, token, false)
	if err := b.registry.Call(t.Context(), s.Hash, func(context.Context, pve.Ticket) error { return nil }); !errors.Is(err, session.ErrNone) {
		t.Errorf("call: %v, want ErrNone", err)
	}
}

// An identity has at most a hundred sessions: one more ends the one that was used longest ago, and nobody else's.
func TestAbuseManySessionsOfOneUser(t *testing.T) {
	const most = 100
	b := newBench(t)
	var told []session.Hash
	b.registry = session.NewRegistry(session.Options{
		Store: b.store, Sealer: b.sealer, Renewer: b.renewer, Now: b.now,
		Ended: func(_ context.Context, s session.Session, why session.Cause) {
			if why != session.Crowded {
				t.Errorf("ended: %s", why)
			}
			told = append(told, s.Hash)
		},
	})
	mine := b.grant
	b.grant.Identity.UserID = "bob@pve"
	bobs, _ := b.start(t)
	b.grant = mine
	var tokens []string
	var hashes []session.Hash
	for range most {
		token, s := b.start(t)
		tokens, hashes = append(tokens, token), append(hashes, s.Hash)
		b.advance(time.Second)
	}
	if len(told) != 0 {
		t.Fatalf("%d ended of %d", len(told), most)
	}
	// The store does not know of this use yet.
	b.use(t, tokens[0])
	b.advance(time.Second)
	last, _ := b.start(t)
	b.alive(t, tokens[0], true)
	b.alive(t, tokens[1], false)
	b.alive(t, tokens[2], true)
	b.alive(t, last, true)
	b.alive(t, bobs, true)
	if len(told) != 1 || told[0] != hashes[1] {
		t.Errorf("told of %d ends, want of the one that was used longest ago", len(told))
	}
}

// hanging is a renewer of many hosts, one of which accepts the question and never answers.
type hanging struct {
	mu    sync.Mutex
	asked map[string]int
	now   int
	most  int
	fail  error
	begun chan struct{}
	hold  chan struct{}
}

func (h *hanging) RenewTicket(_ context.Context, _ session.Identity, loginHost string, t pve.Ticket) (pve.Ticket, error) {
	h.mu.Lock()
	h.asked[loginHost]++
	h.mu.Unlock()
	if loginHost != "host" {
		return t, nil
	}
	h.mu.Lock()
	h.now++
	h.most = max(h.most, h.now)
	h.mu.Unlock()
	h.begun <- struct{}{}
	<-h.hold
	h.mu.Lock()
	h.now--
	h.mu.Unlock()
	return pve.Ticket{}, h.fail
}

// A host that hangs keeps neither the Sweep nor the tickets of other hosts waiting, and costs one pass little.
func TestAbuseHangingHostStopsNoMaintenance(t *testing.T) {
	b := newBench(t)
	db := b.store.Store.(*store.Store)
	other := auth.LoginHost{ID: "other", Datacenter: "dc2", Address: pve.Address{Host: "other.lan", Port: 8006}, Created: b.now()}
	if err := db.Admit(t.Context(), auth.Admission{Host: &other}); err != nil {
		t.Fatal(err)
	}
	h := &hanging{
		asked: map[string]int{}, fail: &pve.Error{Kind: pve.KindHostUnreachable},
		begun: make(chan struct{}, 100), hold: make(chan struct{}),
	}
	registry := session.NewRegistry(session.Options{Store: b.store, Sealer: b.sealer, Renewer: h, Now: b.now})
	b.registry = registry
	start := func(host, datacenter string, n int) (hashes []session.Hash) {
		for i := range n {
			g := b.grant
			g.LoginHost, g.Identity = host, session.Identity{Datacenter: datacenter, UserID: fmt.Sprintf("user%d@pve", i)}
			_, s, err := registry.Start(t.Context(), g, nil)
			if err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, s.Hash)
		}
		return hashes
	}
	stuck := start("host", "dc", 10)
	fine := start("other", "dc2", 3)
	b.advance(59 * time.Minute)
	for _, s := range append(stuck, fine...) {
		registry.Touch(t.Context(), s, netip.Addr{})
	}
	b.advance(46 * time.Minute)
	// The Sweep asks nobody.
	if err := registry.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(h.asked) != 0 {
		t.Fatalf("the Sweep asked %v", h.asked)
	}
	done := make(chan error, 1)
	go func() { done <- registry.RenewAging(context.Background()) }()
	<-h.begun
	<-h.begun
	// While it hangs everything else goes on, and another pass returns at once.
	if err := errors.Join(registry.RenewAging(t.Context()), registry.Sweep(t.Context()), registry.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	close(h.hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if h.asked["host"] != 2 || h.most != 2 || h.asked["other"] != 3 {
		t.Errorf("asked %v, at most %d at once; want 2 of the host that hangs, 2 at once, and all 3 of the other", h.asked, h.most)
	}
}
