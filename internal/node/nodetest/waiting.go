package nodetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
)

// WaitingContract runs the suite that every node.WaitingStore must pass. make returns an empty store over a clock each time it is
// called.
func WaitingContract(t *testing.T, make func(t *testing.T, now func() time.Time) node.WaitingStore) {
	ctx := context.Background()
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const life = 5 * time.Minute
	key := func(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }
	of := func(user string) session.Identity { return session.Identity{Datacenter: "d", UserID: user} }
	waiting := func(user string) node.Waiting {
		return node.Waiting{
			Owner: of(user), Deed: node.Deed{Kind: node.DeedChange, Of: "n", Version: 7, IsDefault: true, SameAs: "m"},
			Name: "attic", Unnamed: true, Credential: node.ByMadeToken, Address: pve.Address{Host: "pve.lan", Port: 8006},
			Trust: pve.Trust{Key: &pve.KeyPin{1, 2}, Certificate: &pve.Fingerprint{3}}, UserID: "bob@pve",
			Challenge: pve.Challenge{UserID: "bob@pve", Ticket: "secret", TOTP: true, Recovery: []int{0, 3}},
		}
	}
	keep := func(t *testing.T, s node.WaitingStore, k, user string, until time.Time) {
		t.Helper()
		if err := s.KeepWaiting(ctx, key(k), waiting(user), until); err != nil {
			t.Fatalf("keep %s: %v", k, err)
		}
	}
	there := func(t *testing.T, s node.WaitingStore, k, user string, want bool) {
		t.Helper()
		_, err := s.FindWaiting(ctx, key(k), of(user))
		if want && err != nil || !want && !errors.Is(err, node.ErrNotWaiting) {
			t.Errorf("%s: %v; want it to be there: %t", k, err, want)
		}
	}

	t.Run("what is kept is found, whole, by its owner until it is dropped", func(t *testing.T) {
		s := make(t, func() time.Time { return begin })
		keep(t, s, "a", "alice@pve", begin.Add(life))
		if got, err := s.FindWaiting(ctx, key("a"), of("alice@pve")); err != nil || !reflect.DeepEqual(got, waiting("alice@pve")) {
			t.Errorf("found something else, %v: %+v", err, got.Deed)
		}
		there(t, s, "a", "bob@pve", false)
		there(t, s, "never", "alice@pve", false)
		if err := s.DropWaiting(ctx, key("a")); err != nil {
			t.Error(err)
		}
		if err := s.DropWaiting(ctx, key("a")); !errors.Is(err, node.ErrNotWaiting) {
			t.Errorf("dropped again: %v", err)
		}
		there(t, s, "a", "alice@pve", false)
	})
	t.Run("its time passes", func(t *testing.T) {
		now := begin
		s := make(t, func() time.Time { return now })
		keep(t, s, "a", "alice@pve", begin.Add(life))
		now = begin.Add(life - time.Millisecond)
		there(t, s, "a", "alice@pve", true)
		now = begin.Add(life)
		there(t, s, "a", "alice@pve", false)
		if err := s.DropWaiting(ctx, key("a")); !errors.Is(err, node.ErrNotWaiting) {
			t.Errorf("dropped after its time: %v", err)
		}
	})
	t.Run("one of many at once drops it", func(t *testing.T) {
		s := make(t, func() time.Time { return begin })
		keep(t, s, "a", "alice@pve", begin.Add(life))
		var dropped atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := s.DropWaiting(ctx, key("a")); err == nil {
					dropped.Add(1)
				} else if !errors.Is(err, node.ErrNotWaiting) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := dropped.Load(); n != 1 {
			t.Errorf("%d dropped it", n)
		}
	})
	t.Run("whoever has many pushes out their own", func(t *testing.T) {
		s := make(t, func() time.Time { return begin })
		keep(t, s, "victim", "alice@pve", begin.Add(life))
		for i := range 3 * node.MaxWaitingOfOne {
			keep(t, s, fmt.Sprint(i), "bob@pve", begin.Add(life+time.Duration(i)*time.Second))
		}
		there(t, s, "victim", "alice@pve", true)
		for i := range 3 * node.MaxWaitingOfOne {
			there(t, s, fmt.Sprint(i), "bob@pve", i >= 2*node.MaxWaitingOfOne)
		}
	})
	t.Run("all together are bounded", func(t *testing.T) {
		s := make(t, func() time.Time { return begin })
		n := node.MaxWaiting + 40
		for i := range n {
			keep(t, s, fmt.Sprint(i), fmt.Sprint("user", i), begin.Add(life+time.Duration(i)*time.Millisecond))
		}
		left := 0
		for i := range n {
			if _, err := s.FindWaiting(ctx, key(fmt.Sprint(i)), of(fmt.Sprint("user", i))); err == nil {
				left++
			}
		}
		if left != node.MaxWaiting {
			t.Errorf("%d wait, want %d", left, node.MaxWaiting)
		}
	})
}
