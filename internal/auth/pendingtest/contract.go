// Package pendingtest owns the contract that every auth.PendingStore must keep, as a suite of tests that each store runs
// against the real thing.
package pendingtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/pve"
	"berth/internal/session"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// attempt is a sign-in at a host, which takes about so many bytes.
func attempt(host string, bytes int) auth.Attempt {
	limit := auth.Limit{Name: "contract", Free: 3, First: time.Second, Longest: time.Minute}
	return auth.Attempt{
		Address: pve.Address{Host: host, Port: 8006}, LoginHost: "h", Trust: pve.Trust{Key: &pve.KeyPin{1, 2}},
		Peer: auth.Certificate{Key: pve.KeyPin{1, 2}, Fingerprint: pve.Fingerprint{3}}, UserID: "bob@pve", Realm: "pve",
		Client: session.Client{Address: netip.MustParseAddr("2001:db8::7"), UserAgent: "a browser"}, Claims: true,
		Challenge: pve.Challenge{UserID: "bob@pve", Ticket: strings.Repeat("x", bytes), TOTP: true, Recovery: []int{0, 3}},
		Taken:     auth.Taken{{Counter: auth.Counter{Limit: limit, Key: [16]byte{9}}, Until: begin.Add(time.Second)}, {Counter: auth.Counter{Limit: limit}}},
	}
}

func key(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }

// Contract runs the suite. make returns an empty store over a clock each time it is called.
func Contract(t *testing.T, make func(t *testing.T, now func() time.Time) auth.PendingStore) {
	ctx := context.Background()
	keep := func(t *testing.T, s auth.PendingStore, k string, a auth.Attempt) {
		t.Helper()
		if err := s.KeepAttempt(ctx, key(k), a, begin.Add(auth.PendingLife)); err != nil {
			t.Fatalf("keep %s: %v", k, err)
		}
	}
	there := func(t *testing.T, s auth.PendingStore, k string, want bool) {
		t.Helper()
		_, err := s.PendingAttempt(ctx, key(k))
		if want && err != nil || !want && !errors.Is(err, auth.ErrNoAttempt) {
			t.Errorf("%s: %v; want it to be there: %t", k, err, want)
		}
	}

	t.Run("what is kept is found, whole, until it is dropped", func(t *testing.T) {
		s := make(t, func() time.Time { return begin })
		want := attempt("pve.lan", 100)
		keep(t, s, "a", want)
		keep(t, s, "b", attempt("pve.lan", 200))
		for range 2 {
			if got, err := s.PendingAttempt(ctx, key("a")); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("found something else, %v: of %v at %v, %v", err, got.UserID, got.Address, got.Taken)
			}
		}
		for range 2 {
			if err := s.DropAttempt(ctx, key("a")); err != nil {
				t.Fatal(err)
			}
		}
		there(t, s, "a", false)
		there(t, s, "b", true)
		there(t, s, "never", false)
	})
	t.Run("its time passes", func(t *testing.T) {
		now := begin
		s := make(t, func() time.Time { return now })
		keep(t, s, "a", attempt("pve.lan", 100))
		now = begin.Add(auth.PendingLife - time.Millisecond)
		there(t, s, "a", true)
		now = begin.Add(auth.PendingLife)
		there(t, s, "a", false)
	})
	t.Run("kept again", func(t *testing.T) {
		s := make(t, func() time.Time { return begin })
		keep(t, s, "a", attempt("pve.lan", 100))
		again := attempt("pve.lan", 50)
		keep(t, s, "a", again)
		if got, err := s.PendingAttempt(ctx, key("a")); err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("the later one was not found: %v", err)
		}
	})
	t.Run("a host with very many gives up its own oldest", func(t *testing.T) {
		s := make(t, func() time.Time { return begin })
		keep(t, s, "victim", attempt("pve.lan", 400))
		now := begin
		for i := range auth.MaxPendingAtHost + 10 {
			now = now.Add(time.Millisecond)
			if err := s.KeepAttempt(ctx, key(fmt.Sprint(i)), attempt("evil.example", 0), now.Add(auth.PendingLife)); err != nil {
				t.Fatal(err)
			}
		}
		there(t, s, "victim", true)
		there(t, s, "9", false)
		there(t, s, "10", true)
	})
	t.Run("heavy hosts give up theirs when there is no room", func(t *testing.T) {
		s := make(t, func() time.Time { return begin })
		keep(t, s, "victim", attempt("pve.lan", 400))
		const heavy = 64 << 10
		n := auth.MaxPendingBytes/heavy + 40
		for i := range n {
			keep(t, s, fmt.Sprint(i), attempt(fmt.Sprintf("evil%d.example", i%3), heavy))
		}
		there(t, s, "victim", true)
		there(t, s, fmt.Sprint(n-1), true)
		left := 0
		for i := range n {
			if _, err := s.PendingAttempt(ctx, key(fmt.Sprint(i))); err == nil {
				left += attempt("evil0.example", heavy).Weight()
			}
		}
		if left > auth.MaxPendingBytes {
			t.Errorf("%d bytes are kept, at most %d may be", left, auth.MaxPendingBytes)
		}
	})
}
