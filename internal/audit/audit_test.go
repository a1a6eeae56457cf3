package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"berth/internal/session"
)

// recorded is a store that only takes entries, for what a Trail does before the store.
type recorded struct {
	Store
	entries []Entry
	err     error
}

func (r *recorded) AddEntries(_ context.Context, entries []Entry) error {
	if r.err == nil {
		r.entries = append(r.entries, entries...)
	}
	return r.err
}

// IsAccount knows root@pam of the datacenter "dc".
func (r *recorded) IsAccount(_ context.Context, who session.Identity) (bool, error) {
	return who.Datacenter == "dc" && strings.EqualFold(who.UserID, "root@pam"), nil
}

func (r *recorded) RemoveEntries(context.Context, time.Time, int) (int64, error) { return 0, nil }

func TestRefusedSignInsAreBounded(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	kept := &recorded{}
	trail := NewTrail(Options{Store: kept, Now: func() time.Time { return now }})
	refuse := func(address string, times int) {
		for range times {
			trail.Record(t.Context(), Entry{Action: SignIn, Result: Refused, Address: netip.MustParseAddr(address)})
		}
	}
	refuse("192.0.2.1", 100)
	// All of one /64 is one source.
	refuse("2001:db8::1", 6)
	refuse("2001:db8::2", 6)
	if n := len(kept.entries); n != 2*RefusedPerSource {
		t.Errorf("%d entries of two sources, want %d", n, 2*RefusedPerSource)
	}
	// What is not a refused sign-in is never left out.
	trail.Record(t.Context(), Entry{Action: SignIn, Address: netip.MustParseAddr("192.0.2.1")})
	trail.Record(t.Context(), Entry{Action: HostAdd, Result: Refused})
	if n := len(kept.entries); n != 2*RefusedPerSource+2 {
		t.Errorf("%d entries, want 2 more", n)
	}
	now = now.Add(time.Minute)
	if err := trail.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, e := range kept.entries[2*RefusedPerSource+2:] {
		counts[e.Address.String()] = e.Count
	}
	if len(counts) != 2 || counts["192.0.2.1"] != 90 || counts["2001:db8::"] != 2 {
		t.Errorf("summaries %v", counts)
	}
	// A new minute begins anew, and the end of the program loses no count.
	kept.entries = nil
	refuse("192.0.2.1", RefusedPerSource+1)
	trail.Flush(t.Context())
	if n := len(kept.entries); n != RefusedPerSource+1 || kept.entries[n-1].Count != 1 {
		t.Errorf("%d entries: %+v", n, kept.entries[n-1])
	}
}

// Noise, be it at made-up accounts of the same host, does not hide the addresses that try a known account, nor how often.
func TestAbuseNoiseHidesNoGuesses(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	kept := &recorded{}
	trail := NewTrail(Options{Store: kept, Now: func() time.Time { return now }})
	refuse := func(address, user string) {
		trail.Record(t.Context(), Entry{
			Action: SignIn, Result: Refused, Address: netip.MustParseAddr(address), Identity: session.Identity{Datacenter: "dc", UserID: user},
		})
	}
	for i := range 600 {
		refuse(fmt.Sprintf("203.0.113.%d", i%100), fmt.Sprintf("made-up-%d@pve", i))
	}
	if n := len(kept.entries); n != RefusedPerMinute {
		t.Fatalf("%d entries of noise, want %d", n, RefusedPerMinute)
	}
	// One address that guesses, and one that made noise before.
	for range 9 {
		refuse("198.51.100.66", "Root@pam")
	}
	refuse("203.0.113.1", "root@pam")
	guesses := kept.entries[RefusedPerMinute:]
	if len(guesses) != 2 || guesses[0].Address.String() != "198.51.100.66" || guesses[1].Address.String() != "203.0.113.1" {
		t.Fatalf("entries of the guesses: %+v", guesses)
	}
	// However many addresses guess, there is a bound, and the account keeps the count.
	for i := range 1000 {
		refuse(fmt.Sprintf("2001:db8:%x::1", i), "root@pam")
	}
	if n := len(kept.entries) - RefusedPerMinute; n != RefusedPerAccount {
		t.Errorf("%d entries of one account, want %d", n, RefusedPerAccount)
	}
	kept.entries = nil
	trail.Flush(t.Context())
	var at, all int64
	for _, e := range kept.entries {
		all += e.Count
		if e.Identity == (session.Identity{Datacenter: "dc", UserID: "root@pam"}) {
			at += e.Count
		}
	}
	if at != 8+1000-(RefusedPerAccount-2) || all != at+600-RefusedPerMinute {
		t.Errorf("summaries count %d at the account, %d in all: %+v", at, all, kept.entries)
	}
}

// An entry that can't be stored goes to the log.
func TestUnstoredEntriesAreLogged(t *testing.T) {
	var text strings.Builder
	trail := NewTrail(Options{
		Store: &recorded{err: errors.New("disk full")}, Now: time.Now, Log: slog.New(slog.NewTextHandler(&text, nil)),
	})
	trail.Record(t.Context(), Entry{Action: HostRemove, Target: "pve.lan:8006", Identity: session.Identity{Datacenter: "dc", UserID: "root@pam"}})
	for _, part := range []string{"disk full", "host_remove", "pve.lan:8006", "root@pam"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("the log misses %q: %s", part, text.String())
		}
	}
}

// An action that nobody sorted is its user's alone.
func TestUnknownActionsArePrivate(t *testing.T) {
	if c := Action("container_start").Category(); c != CategoryPrivate {
		t.Errorf("category %q", c)
	}
	for _, a := range Actions {
		if _, sorted := categories[a]; !sorted {
			t.Errorf("%s has no category", a)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("root@pam")
	f.Add("\x1b[2J\u202eevil\x00\xff")
	f.Add(strings.Repeat("ü", 500))
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s, maxUserID)
		if len(got) > maxUserID || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func FuzzFilter(f *testing.F) {
	f.Add("sign_in", "ok", "x", "2026-03-01", "2026-03-01T12:00:00+25:00", "everyone", "1", "50")
	f.Add("", "", "", "9999-12-31", "0000-01-01", "", "-1", "99999999999999999999")
	f.Fuzz(func(t *testing.T, action, result, text, from, to, whose, before, limit string) {
		q := Query{Filter: Filter{Action: action, Result: result, Text: text, From: from, To: to, Whose: whose}, Before: before, Limit: limit}
		s, most, err := q.selection()
		if err != nil {
			return
		}
		if most < 1 || most > maxLimit || s.Before < 0 || len(s.Text) > maxText || s.Shared {
			t.Errorf("%+v became %+v, %d", q, s, most)
		}
		for _, at := range []time.Time{s.From, s.To} {
			if !at.IsZero() && at.UnixMilli() < 0 {
				t.Errorf("%+v has time %v", q, at)
			}
		}
	})
}
