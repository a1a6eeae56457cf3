// Package openidtest owns the contract that every auth.OpenIDStore must keep, as a suite of tests that each store runs against
// the real thing.
package openidtest

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

	"berth/internal/auth"
	"berth/internal/pve"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func key(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }

func attempt(network string) auth.OpenIDAttempt {
	return auth.OpenIDAttempt{
		LoginHost: auth.LoginHost{
			ID: "h", Datacenter: "d", Address: pve.Address{Host: "pve.lan", Port: 8006}, Key: &pve.KeyPin{1},
			Fingerprint: pve.Fingerprint{2}, Created: begin,
		},
		Realm: "sso", Callback: "https://berth.example.org/login/openid", Browser: key("browser"), Network: network, Next: "/tasks",
	}
}

// Contract runs the suite. make returns an empty store over a clock each time it is called.
func Contract(t *testing.T, make func(t *testing.T, now func() time.Time) auth.OpenIDStore) {
	ctx := context.Background()
	keep := func(t *testing.T, s auth.OpenIDStore, state, network string, until time.Time) {
		t.Helper()
		if err := s.KeepOpenID(ctx, key(state), attempt(network), until); err != nil {
			t.Fatalf("keep %s: %v", state, err)
		}
	}
	take := func(t *testing.T, s auth.OpenIDStore, state, browser string) (auth.OpenIDAttempt, bool) {
		t.Helper()
		a, err := s.TakeOpenID(ctx, key(state), key(browser))
		if err != nil && !errors.Is(err, auth.ErrNoAttempt) {
			t.Fatalf("take %s: %v", state, err)
		}
		return a, err == nil
	}

	t.Run("taken once, whole, by the browser that began", func(t *testing.T) {
		s := make(t, func() time.Time { return begin })
		keep(t, s, "a", "n", begin.Add(auth.OpenIDLife))
		if _, ok := take(t, s, "a", "another"); ok {
			t.Error("another browser took it")
		}
		if got, ok := take(t, s, "a", "browser"); !ok || !reflect.DeepEqual(got, attempt("n")) {
			t.Errorf("took %+v, %t; want %+v", got, ok, attempt("n"))
		}
		if _, ok := take(t, s, "a", "browser"); ok {
			t.Error("taken twice")
		}
	})
	t.Run("of many at once one gets it", func(t *testing.T) {
		s := make(t, func() time.Time { return begin })
		keep(t, s, "a", "n", begin.Add(auth.OpenIDLife))
		var got atomic.Int32
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := s.TakeOpenID(ctx, key("a"), key("browser")); err == nil {
					got.Add(1)
				}
			})
		}
		wg.Wait()
		if n := got.Load(); n != 1 {
			t.Errorf("%d got it", n)
		}
	})
	t.Run("its time passes", func(t *testing.T) {
		now := begin
		s := make(t, func() time.Time { return now })
		keep(t, s, "a", "n", begin.Add(auth.OpenIDLife))
		now = begin.Add(auth.OpenIDLife)
		if _, ok := take(t, s, "a", "browser"); ok {
			t.Error("taken after its time")
		}
	})
	t.Run("a network pushes out its own oldest alone", func(t *testing.T) {
		s := make(t, func() time.Time { return begin })
		keep(t, s, "mine", "home", begin.Add(auth.OpenIDLife))
		const more = 12
		for i := range auth.MaxOpenIDOfNetwork + more {
			keep(t, s, fmt.Sprint(i), "elsewhere", begin.Add(auth.OpenIDLife+time.Duration(i)*time.Millisecond))
		}
		for state, want := range map[string]bool{"mine": true, fmt.Sprint(more - 1): false, fmt.Sprint(more): true} {
			if _, ok := take(t, s, state, "browser"); ok != want {
				t.Errorf("%s is there: %t, want %t", state, ok, want)
			}
		}
	})
	t.Run("there are never more than so many", func(t *testing.T) {
		s := make(t, func() time.Time { return begin })
		const more = 20
		for i := range auth.MaxOpenID + more {
			keep(t, s, fmt.Sprint(i), fmt.Sprint("network", i), begin.Add(auth.OpenIDLife+time.Duration(i)*time.Millisecond))
		}
		kept := 0
		for i := range auth.MaxOpenID + more {
			if _, ok := take(t, s, fmt.Sprint(i), "browser"); ok {
				kept++
			}
		}
		if kept != auth.MaxOpenID {
			t.Errorf("%d are kept, want %d", kept, auth.MaxOpenID)
		}
	})
}
