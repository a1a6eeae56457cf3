package session_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// Proxmox VE holds its refusals back, so that a request may have given up before the renewal is refused too.
func TestRefusedRenewalEndsTheSessionThoughNobodyWaits(t *testing.T) {
	b := newBench(t)
	lost := make(chan session.Session, 1)
	b.registry = session.NewRegistry(session.Options{
		Store: b.store, Sealer: b.sealer, Renewer: b.renewer, Now: b.now, Lost: func(_ context.Context, s session.Session) { lost <- s },
	})
	token, s := b.start(t)
	b.renewer.begun, b.renewer.hold, b.renewer.err = make(chan struct{}), make(chan struct{}), refused
	ctx, giveUp := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- b.registry.Call(ctx, s.Hash, func(context.Context, pve.Ticket) error { return refused })
	}()
	<-b.renewer.begun
	giveUp()
	if err := <-done; !pve.IsKind(err, pve.KindUnauthenticated) {
		t.Errorf("call: %v, want the refusal that it got", err)
	}
	close(b.renewer.hold)
	select {
	case got := <-lost:
		if got.Hash != s.Hash {
			t.Errorf("lost %v", got.Hash)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nobody was told that the session is lost")
	}
	b.alive(t, token, false)
}

// A renewal is under way when memory is made anew from the store: whoever read the old ticket there asks for no other.
func TestReloadDuringARenewal(t *testing.T) {
	b := newBench(t)
	token, s := b.start(t)
	b.advance(61 * time.Minute)
	b.renewer.begun, b.renewer.hold = make(chan struct{}, 2), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- b.registry.Call(context.Background(), s.Hash, func(context.Context, pve.Ticket) error { return nil })
	}()
	<-b.renewer.begun
	if err := b.registry.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.alive(t, token, true) // reads the old ticket
	close(b.renewer.hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := b.ticket(t, s.Hash); got != "PVE:the-ticket+" || b.renewer.count.Load() != 1 {
		t.Errorf("ticket %q after %d renewals, want one renewal", got, b.renewer.count.Load())
	}
}

// A session that can't be looked up is no reason to give up on it, nor a fault that nobody knows: Berth's own store is away.
func TestCallWhileTheStoreIsDown(t *testing.T) {
	b := newBench(t)
	token, s := b.start(t)
	b.restart() // nothing is in memory
	b.store.down.Store(true)
	err := b.registry.Call(t.Context(), s.Hash, func(context.Context, pve.Ticket) error {
		t.Error("it was called")
		return nil
	})
	if fault.KindOf(err) != fault.Unavailable || !errors.Is(err, errDown) {
		t.Errorf("%v, want that the store is down", err)
	}
	b.store.down.Store(false)
	b.alive(t, token, true)
}
