// Package throttletest owns the contract that every auth.ThrottleStore must keep, as a suite of tests that each store runs
// against the real thing.
package throttletest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/auth"
)

var (
	begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	limit = auth.Limit{Name: "contract", Free: 3, First: 2 * time.Second, Longest: time.Minute}
	loose = auth.Limit{Name: "loose", Free: 100, First: time.Second, Longest: time.Minute}
)

func counter(l auth.Limit, n byte) auth.Counter { return auth.Counter{Limit: l, Key: [16]byte{n}} }

// Contract runs the suite. make returns an empty store each time it is called.
func Contract(t *testing.T, make func(t *testing.T) auth.ThrottleStore) {
	ctx := context.Background()
	take := func(t *testing.T, s auth.ThrottleStore, at time.Time, cs ...auth.Counter) (auth.Taken, time.Duration) {
		t.Helper()
		taken, wait, err := s.Take(ctx, at, cs...)
		if err != nil {
			t.Fatal(err)
		}
		return taken, wait
	}
	attempts := func(t *testing.T, s auth.ThrottleStore, at time.Time, c auth.Counter) int {
		t.Helper()
		n, err := s.Attempts(ctx, at, c)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	one, two := counter(limit, 1), counter(limit, 2)

	t.Run("waits double and have an end", func(t *testing.T) {
		s := make(t)
		at := begin
		for i := range 3 {
			if _, wait := take(t, s, at, one); wait != 0 {
				t.Fatalf("free attempt %d waits %v", i+1, wait)
			}
		}
		for _, want := range []time.Duration{2, 4, 8, 16, 32} {
			want *= time.Second
			if _, wait := take(t, s, at, one); wait != want {
				t.Fatalf("wait %v, want %v", wait, want)
			}
			if _, wait := take(t, s, at.Add(want-time.Millisecond), one); wait != time.Millisecond {
				t.Fatalf("a moment before the end: %v; asking too early must not prolong a wait", wait)
			}
			at = at.Add(want)
			if _, wait := take(t, s, at, one); wait != 0 {
				t.Fatalf("after the whole wait: %v", wait)
			}
		}
		for range 50 {
			_, wait := take(t, s, at, one)
			if wait < 30*time.Second || wait > limit.Longest {
				t.Fatalf("wait %v under a lasting attack, want up to %v", wait, limit.Longest)
			}
			at = at.Add(wait)
			take(t, s, at, one)
		}
	})

	t.Run("attempts are forgotten one by one", func(t *testing.T) {
		s := make(t)
		for range 3 {
			take(t, s, begin, one)
		}
		for n := 3; n >= 0; n-- {
			if got := attempts(t, s, begin.Add(time.Duration(3-n)*time.Minute), one); got != n {
				t.Errorf("after %d minutes: %d attempts, want %d", 3-n, got, n)
			}
		}
	})

	t.Run("all counters or none", func(t *testing.T) {
		s := make(t)
		for range 3 {
			take(t, s, begin, one)
		}
		if _, wait := take(t, s, begin, two, one); wait != 2*time.Second {
			t.Errorf("wait %v, want that of the slower one", wait)
		}
		if n := attempts(t, s, begin, two); n != 0 {
			t.Errorf("a refused attempt counted %d times", n)
		}
	})

	t.Run("keys and limits are apart", func(t *testing.T) {
		s := make(t)
		for range 3 {
			take(t, s, begin, one)
		}
		if _, wait := take(t, s, begin, two); wait != 0 {
			t.Errorf("another key waits %v", wait)
		}
		if _, wait := take(t, s, begin, counter(loose, 1)); wait != 0 {
			t.Errorf("the same key of another limit waits %v", wait)
		}
	})

	t.Run("what is given back never was", func(t *testing.T) {
		s := make(t)
		for range 20 {
			taken, wait := take(t, s, begin, one)
			if wait != 0 {
				t.Fatalf("wait %v", wait)
			}
			if err := s.GiveBack(ctx, begin, taken); err != nil {
				t.Fatal(err)
			}
		}
		if n := attempts(t, s, begin, one); n != 0 {
			t.Errorf("%d attempts, want 0", n)
		}
	})

	t.Run("giving back lifts no wait of another attempt", func(t *testing.T) {
		s := make(t)
		first, _ := take(t, s, begin, one)
		take(t, s, begin, one)
		take(t, s, begin, one)
		if err := s.GiveBack(ctx, begin, first); err != nil {
			t.Fatal(err)
		}
		if _, wait := take(t, s, begin, one); wait != 2*time.Second {
			t.Errorf("wait %v, want 2s", wait)
		}
	})

	t.Run("giving back what was forgotten", func(t *testing.T) {
		s := make(t)
		taken, _ := take(t, s, begin, one)
		if err := s.Forget(ctx, one, two); err != nil {
			t.Fatal(err)
		}
		if err := s.GiveBack(ctx, begin, taken); err != nil {
			t.Fatal(err)
		}
		if n := attempts(t, s, begin, one); n != 0 {
			t.Errorf("%d attempts, want 0", n)
		}
	})

	t.Run("many at once", func(t *testing.T) {
		s := make(t)
		var through atomic.Int32
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, wait, err := s.Take(ctx, begin, one, counter(loose, 1)); err != nil {
					t.Error(err)
				} else if wait == 0 {
					through.Add(1)
				}
			})
		}
		wg.Wait()
		if n := through.Load(); n != 3 {
			t.Errorf("%d attempts got through, want 3", n)
		}
	})
}
