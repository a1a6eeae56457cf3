package session_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"berth/internal/pve"
	"berth/internal/seal"
	"berth/internal/session"
)

// rotate replaces the key while the registry goes on.
func (b *bench) rotate(t *testing.T) {
	t.Helper()
	if _, err := seal.Rotate(t.Context(), filepath.Join(b.folder, "key"), b.store.Store.(seal.Store)); err != nil {
		t.Fatal(err)
	}
}

// A registry that has a session in memory goes on with it when the key was replaced, and so does one that finds it in the
// store.
func TestSessionsOutliveARotation(t *testing.T) {
	b := newBench(t)
	_, s := b.start(t)
	before := b.ticket(t, s.Hash)
	for range 2 {
		b.rotate(t)
		if got := b.ticket(t, s.Hash); got != before {
			t.Errorf("ticket %q, want %q", got, before)
		}
	}
	b.rotate(t)
	b.restart()
	if got := b.ticket(t, s.Hash); got != before {
		t.Errorf("after a restart: ticket %q, want %q", got, before)
	}
	// A renewal goes on from there.
	b.rotate(t)
	b.advance(session.RenewAfter)
	if got := b.ticket(t, s.Hash); got != before+"+" {
		t.Errorf("after a renewal: ticket %q, want %q", got, before+"+")
	}
}

// A rotation can pass between the sealing of a new session's ticket and its storing.
func TestSessionThatBeginsDuringARotation(t *testing.T) {
	b := newBench(t)
	_, s, err := b.registry.Start(t.Context(), b.grant, func(ctx context.Context, r session.Record) error {
		b.rotate(t)
		return b.store.CreateSession(ctx, r)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"at once", "after a restart"} {
		if got := b.ticket(t, s.Hash); got != b.grant.Ticket.Value {
			t.Errorf("%s: ticket %q", when, got)
		}
		b.restart()
	}
	b.advance(session.RenewAfter)
	if got := b.ticket(t, s.Hash); got != b.grant.Ticket.Value+"+" || b.renewer.count.Load() != 1 {
		t.Errorf("after %d renewals: ticket %q", b.renewer.count.Load(), got)
	}
}

// rotating is a store under which a rotation passes before the first renewal is stored.
type rotating struct {
	session.Store
	once   sync.Once
	rotate func()
}

func (r *rotating) RenewSession(ctx context.Context, h session.Hash, generation int64, secret []byte, at time.Time) error {
	r.once.Do(r.rotate)
	return r.Store.RenewSession(ctx, h, generation, secret, at)
}

func TestRenewalDuringARotation(t *testing.T) {
	b := newBench(t)
	_, s := b.start(t)
	real := b.store
	b.store = &unreliable{Store: &rotating{Store: real, rotate: func() {
		if _, err := seal.Rotate(t.Context(), filepath.Join(b.folder, "key"), real.Store.(seal.Store)); err != nil {
			t.Error(err)
		}
	}}}
	b.restart()
	b.advance(session.RenewAfter)
	for _, when := range []string{"at once", "after a restart"} {
		if got := b.ticket(t, s.Hash); got != b.grant.Ticket.Value+"+" || b.renewer.count.Load() != 1 {
			t.Errorf("%s, after %d renewals: ticket %q", when, b.renewer.count.Load(), got)
		}
		b.restart()
	}
}

// Two sessions whose ciphertexts were swapped in the store are both refused, before and after a rotation.
func TestAbuseSwappedSecretsOfTwoSessions(t *testing.T) {
	b := newBench(t)
	_, one := b.start(t)
	_, two := b.start(t)
	ctx := t.Context()
	first, err := b.store.FindSession(ctx, one.Hash)
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.store.FindSession(ctx, two.Hash)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.RenewSession(ctx, one.Hash, 1, second.Secret, b.now()); err != nil {
		t.Fatal(err)
	}
	if err := b.store.RenewSession(ctx, two.Hash, 1, first.Secret, b.now()); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"before", "after"} {
		b.restart()
		for _, h := range []session.Hash{one.Hash, two.Hash} {
			err := b.registry.Call(ctx, h, func(context.Context, pve.Ticket) error {
				t.Errorf("%s a rotation: a call was made with another session's ticket", when)
				return nil
			})
			if err == nil {
				t.Errorf("%s a rotation: the swapped secret opened", when)
			}
		}
		b.rotate(t)
	}
}
