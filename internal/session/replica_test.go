package session_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/pve"
	"berth/internal/session"
)

// replicas are two registries over one store, as in two processes.
type replicas struct {
	*bench
	proven atomic.Uint64 // what both are told
	leases leases
	other  *session.Registry
}

// leases are given out once each until they are released.
type leases struct {
	mu    sync.Mutex
	taken map[string]bool
}

func (l *leases) take(_ context.Context, what string, _ time.Duration) (session.Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken[what] {
		return session.Lease{Taken: true}, nil
	}
	l.taken[what] = true
	return session.Lease{Release: func(context.Context) {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.taken, what)
	}}, nil
}

func newReplicas(t *testing.T) *replicas {
	t.Helper()
	r := &replicas{bench: newBench(t), leases: leases{taken: map[string]bool{}}}
	r.proven.Store(1)
	options := session.Options{
		Store: r.store, Sealer: r.sealer, Renewer: r.renewer, Now: r.now, Proven: r.proven.Load, Lease: r.leases.take,
	}
	r.registry.Close(t.Context())
	r.registry = session.NewRegistry(options)
	r.other = session.NewRegistry(options)
	t.Cleanup(func() { r.other.Close(context.Background()) })
	return r
}

func (r *replicas) find(t *testing.T, in *session.Registry, token string, want error) {
	t.Helper()
	if _, err := in.Find(t.Context(), token); !errors.Is(err, want) {
		t.Errorf("find: %v, want %v", err, want)
	}
}

// What another replica ended is trusted from memory until something says that it has changed: a word about it, or that words
// may be missing.
func TestSessionEndedByAnotherReplica(t *testing.T) {
	for name, notice := range map[string]func(*replicas, session.Hash){
		"a word":               func(r *replicas, h session.Hash) { r.other.Doubt(h) },
		"words may be missing": func(r *replicas, _ session.Hash) { r.proven.Store(2) },
		"nothing is proven":    func(r *replicas, _ session.Hash) { r.proven.Store(0) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplicas(t)
			token, s := r.start(t)
			r.find(t, r.other, token, nil)
			if err := r.registry.End(t.Context(), s.Hash); err != nil {
				t.Fatal(err)
			}
			r.find(t, r.other, token, nil) // from memory
			notice(r, s.Hash)
			r.find(t, r.other, token, session.ErrNone)
			r.find(t, r.other, token, session.ErrNone)
		})
	}
}

// A store that can't be reached signs nobody out, and lets nobody in of whom nothing is proven.
func TestStoreDownWhileNothingIsProven(t *testing.T) {
	r := newReplicas(t)
	token, _ := r.start(t)
	r.store.down.Store(true)
	r.find(t, r.registry, token, nil)
	r.proven.Store(0)
	r.find(t, r.registry, token, errDown)
	r.store.down.Store(false)
	r.find(t, r.registry, token, nil)
}

// heldBack is a store whose answer is held back after it was read.
type heldBack struct {
	session.Store
	read, answer chan struct{}
}

func (s *heldBack) FindSession(ctx context.Context, h session.Hash) (session.Record, error) {
	rec, err := s.Store.FindSession(ctx, h)
	s.read <- struct{}{}
	<-s.answer
	return rec, err
}

// The word that a session has ended can come before the answer that it lives, though that was read earlier.
func TestWordOvertakesAnAnswer(t *testing.T) {
	r := newReplicas(t)
	token, s := r.start(t)
	held := &heldBack{Store: r.store, read: make(chan struct{}), answer: make(chan struct{})}
	late := session.NewRegistry(session.Options{Store: held, Sealer: r.sealer, Renewer: r.renewer, Now: r.now, Proven: r.proven.Load})
	defer late.Close(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := late.Find(context.Background(), token)
		first <- err
	}()
	<-held.read
	if err := r.registry.End(t.Context(), s.Hash); err != nil {
		t.Fatal(err)
	}
	late.Doubt(s.Hash)
	held.answer <- struct{}{}
	if err := <-first; err != nil {
		t.Errorf("whoever asked before the end: %v", err)
	}
	second := make(chan error, 1)
	go func() {
		_, err := late.Find(context.Background(), token)
		second <- err
	}()
	select {
	case <-held.read:
		held.answer <- struct{}{}
	case err := <-second:
		t.Fatalf("the overtaken answer was trusted: %v", err)
	}
	if err := <-second; !errors.Is(err, session.ErrNone) {
		t.Errorf("after the end: %v, want ErrNone", err)
	}
}

// A use on one replica counts on the other one.
func TestUseOnAnotherReplica(t *testing.T) {
	r := newReplicas(t)
	token, s := r.start(t)
	r.find(t, r.other, token, nil)
	elsewhere := netip.MustParseAddr("198.51.100.9")
	r.advance(session.RenewAfter / 2)
	r.registry.Touch(t.Context(), s.Hash, elsewhere)
	if err := r.registry.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.other.Doubt(s.Hash)
	found, err := r.other.Find(t.Context(), token)
	if err != nil || !found.LastSeen.Equal(r.now()) || found.LastFrom != elsewhere {
		t.Errorf("last seen %v from %v, %v; want %v from %v", found.LastSeen, found.LastFrom, err, r.now(), elsewhere)
	}
}

// The store lets go of what is not used by itself, so it learns in time of a use shortly before.
func TestLateUseIsWrittenAtOnce(t *testing.T) {
	r := newReplicas(t)
	_, s := r.start(t)
	r.advance(session.DefaultIdle - time.Second)
	r.registry.Touch(t.Context(), s.Hash, netip.Addr{})
	r.registry.Close(t.Context()) // which waits for what goes on
	rec, err := r.store.FindSession(t.Context(), s.Hash)
	if err != nil || !rec.LastSeen.Equal(r.now()) {
		t.Errorf("the store knows of a use at %v, %v; want %v", rec.LastSeen, err, r.now())
	}
}

// However many replicas find a ticket old, one renews it and the others go on with the new one.
func TestOneReplicaRenews(t *testing.T) {
	r := newReplicas(t)
	_, s := r.start(t)
	r.advance(session.RenewAfter)
	r.renewer.begun, r.renewer.hold = make(chan struct{}, 1), make(chan struct{})
	tickets := make(chan string, 2)
	for _, one := range []*session.Registry{r.registry, r.other} {
		go func() {
			err := one.Call(context.Background(), s.Hash, func(_ context.Context, t pve.Ticket) error {
				tickets <- t.Value
				return nil
			})
			if err != nil {
				tickets <- err.Error()
			}
		}()
	}
	<-r.renewer.begun
	close(r.renewer.hold)
	for range 2 {
		if got, want := <-tickets, r.grant.Ticket.Value+"+"; got != want {
			t.Errorf("ticket %q, want %q", got, want)
		}
	}
	if n := r.renewer.count.Load(); n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
}

// A renewal that failed on one replica keeps no other from trying.
func TestFailedRenewalLeavesNoLease(t *testing.T) {
	r := newReplicas(t)
	_, s := r.start(t)
	r.advance(session.RenewAfter)
	r.renewer.err = errors.New("no answer")
	for _, one := range []*session.Registry{r.registry, r.other} {
		if err := one.Call(t.Context(), s.Hash, func(context.Context, pve.Ticket) error { return nil }); err != nil {
			t.Error(err)
		}
	}
	if n := r.renewer.count.Load(); n != 2 {
		t.Errorf("%d tries, want one of each", n)
	}
}
