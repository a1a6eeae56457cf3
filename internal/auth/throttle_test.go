package auth_test

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/auth/throttletest"
	"berth/internal/fault"
	"berth/internal/session"
)

func TestMemoryThrottle(t *testing.T) {
	throttletest.Contract(t, func(*testing.T) auth.ThrottleStore { return auth.NewMemoryThrottle() })
}

func TestWaitAfter(t *testing.T) {
	l := auth.Limit{Free: 3, First: 2 * time.Second, Longest: 15 * time.Second}
	for attempts, want := range []time.Duration{0, 0, 0, 2, 4, 8, 15, 15} {
		if got := l.WaitAfter(attempts); got != want*time.Second {
			t.Errorf("after %d attempts: %v, want %v s", attempts, got, int(want))
		}
	}
	if got := l.WaitAfter(1 << 40); got != l.Longest {
		t.Errorf("after very many: %v", got)
	}
}

var tightly = auth.Limit{Name: "tight", Free: 5, First: time.Second, Longest: 15 * time.Minute}

func made(n uint64) (c auth.Counter) {
	c.Limit = tightly
	binary.BigEndian.PutUint64(c.Key[:], n)
	return c
}

// A million made-up addresses or accounts fill no memory, and push out nothing that makes anybody wait.
func TestAbuseMadeUpAccountsFillNoMemory(t *testing.T) {
	const bound = 8 << 20 // bytes, per limit
	store := auth.NewMemoryThrottle()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	guessed := made(1 << 63)
	for range tightly.Free {
		if _, wait, err := store.Take(t.Context(), at, guessed); wait != 0 || err != nil {
			t.Fatal(wait, err)
		}
	}
	before := heap()
	for n := range uint64(1_000_000) {
		if _, wait, err := store.Take(t.Context(), at.Add(time.Duration(n)*time.Microsecond), made(n)); wait != 0 || err != nil {
			t.Fatal(wait, err)
		}
	}
	grown := heap() - before
	t.Logf("heap grew by %d KiB", grown>>10)
	if grown > bound {
		t.Errorf("the heap grew by %d bytes, want at most %d", grown, bound)
	}
	if _, wait, err := store.Take(t.Context(), at.Add(500*time.Millisecond), guessed); wait != 500*time.Millisecond || err != nil {
		t.Errorf("what was guessed at waits %v, %v; want 500ms", wait, err)
	}
	runtime.KeepAlive(store)
}

// Once the table is full, a new counter is counted all the same, also when others push it out between any two attempts.
func TestAbuseFullThrottle(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, between := range map[string]int{"one address": 0, "with a made-up one between": 1} {
		store := auth.NewMemoryThrottle()
		filler := uint64(1)
		take := func(c auth.Counter) time.Duration {
			_, wait, err := store.Take(t.Context(), at, c)
			if err != nil {
				t.Fatal(err)
			}
			return wait
		}
		for range 1 << 15 {
			take(made(filler))
			take(made(filler))
			filler++
		}
		guesser, guesses := made(filler), 0
		for range 10_000 {
			if take(guesser) == 0 {
				guesses++
			}
			for range between {
				filler++
				take(made(filler))
			}
			at = at.Add(50 * time.Millisecond)
		}
		// In 500 s an empty table lets 5 through, and then one after each wait of 1, 2, 4, ... 256 s.
		if guesses > 13 {
			t.Errorf("%s: %d of 10000 guesses got through, want at most 13", name, guesses)
		}
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Whoever owns a /64 of IPv6 has as many tries as whoever owns one IPv4 address.
func TestAbuseAddressesOfOneNetwork(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	from := func(a string) func(*auth.Throttle) error {
		ctx := session.WithClient(t.Context(), session.Client{Address: netip.MustParseAddr(a)})
		return func(throttle *auth.Throttle) error {
			_, err := throttle.Begin(ctx, "one account")
			return err
		}
	}
	tests := []struct {
		name, first, second string
		together            bool
	}{
		{"one /64", "2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true},
		{"two /64", "2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"two IPv4 addresses", "192.0.2.1", "192.0.2.2", false},
		{"one IPv4 address in two spellings", "192.0.2.1", "::ffff:192.0.2.1", true},
	}
	for _, test := range tests {
		throttle := auth.NewThrottle(auth.NewMemoryThrottle(), nil, func() time.Time { return at })
		tries := 0
		var refused error
		for refused == nil && tries < 100 {
			if refused = from(test.first)(throttle); refused == nil {
				tries++
			}
		}
		if tries != 10 || fault.KindOf(refused) != fault.Throttled {
			t.Fatalf("%s: %d tries, then %v; want 10", test.name, tries, refused)
		}
		if err := from(test.second)(throttle); (err != nil) != test.together {
			t.Errorf("%s: the second address: %v", test.name, err)
		}
	}
}

// Signing in with an account of one's own now and then buys no more guesses at others from the same address.
func TestAbuseOwnSuccessClearsNothingOfOthers(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	throttle := auth.NewThrottle(auth.NewMemoryThrottle(), nil, func() time.Time { return at })
	ctx := session.WithClient(t.Context(), session.Client{Address: netip.MustParseAddr("192.0.2.1")})
	guesses := 0
	for n := range 100 {
		if own, err := throttle.Begin(ctx, "own"); err == nil {
			if err := own.Succeeded(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := throttle.Begin(ctx, string(rune('A'+n))); err == nil {
			guesses++
		}
	}
	if guesses != 20 {
		t.Errorf("%d guesses at other accounts, want 20", guesses)
	}
}
