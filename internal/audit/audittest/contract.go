// Package audittest owns the contract that every audit.Store must keep, as a suite of tests that each store runs against
// the real thing.
package audittest

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/session"
)

var (
	begin = time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)
	alice = session.Identity{Datacenter: "dc1", UserID: "alice@pve"}
	other = session.Identity{Datacenter: "dc2", UserID: "alice@pve"}
	owner = session.Identity{Datacenter: "dc1", UserID: "root@pam"}
)

// Contract runs the suite. make returns an empty store each time it is called.
func Contract(t *testing.T, make func(t *testing.T) audit.Store) {
	ctx := context.Background()
	add := func(t *testing.T, s audit.Store, entries ...audit.Entry) {
		t.Helper()
		for i := range entries {
			if entries[i].At.IsZero() {
				entries[i].At = begin
			}
			if entries[i].Count == 0 {
				entries[i].Count = 1
			}
			if entries[i].Result == "" {
				entries[i].Result = audit.OK
			}
		}
		if err := s.AddEntries(ctx, entries); err != nil {
			t.Fatalf("add: %v", err)
		}
	}
	// details are what a selection lets through, newest first.
	details := func(t *testing.T, s audit.Store, sel audit.Selection, most int) []string {
		t.Helper()
		entries, err := s.Entries(ctx, sel, most)
		if err != nil {
			t.Fatalf("entries: %v", err)
		}
		got := []string{}
		for _, e := range entries {
			got = append(got, e.Detail)
		}
		return got
	}
	expect := func(t *testing.T, s audit.Store, sel audit.Selection, want ...string) {
		t.Helper()
		if got := details(t, s, sel, 100); !slices.Equal(got, want) {
			t.Errorf("%+v lets through %q, want %q", sel, got, want)
		}
	}

	t.Run("what is added is found, whole", func(t *testing.T) {
		s := make(t)
		want := audit.Entry{
			At: begin, Identity: alice, Subject: owner, Address: netip.MustParseAddr("2001:db8::7"), Action: audit.SessionEnd,
			Target: "a browser", Result: audit.Failed, ErrorID: "abcdefgh", Detail: "a line", Count: 7,
		}
		add(t, s, want)
		got, err := s.Entries(ctx, audit.Selection{Of: alice}, 10)
		if err != nil || len(got) != 1 {
			t.Fatalf("found %+v, %v", got, err)
		}
		if got[0].ID < 1 {
			t.Errorf("id %d", got[0].ID)
		}
		want.ID = got[0].ID
		if !reflect.DeepEqual(got[0], want) {
			t.Errorf("found\n%+v, want\n%+v", got[0], want)
		}
	})
	t.Run("everybody sees what is about themselves", func(t *testing.T) {
		s := make(t)
		add(t, s,
			audit.Entry{Identity: alice, Action: audit.SignIn, Detail: "mine"},
			audit.Entry{Identity: other, Action: audit.SignIn, Detail: "of my namesake elsewhere"},
			audit.Entry{Identity: owner, Subject: alice, Action: audit.SessionEnd, Detail: "done to me"},
			audit.Entry{Identity: owner, Subject: other, Action: audit.SessionEnd, Detail: "done to my namesake"},
			audit.Entry{Identity: session.Identity{UserID: "alice@pve"}, Action: audit.SignIn, Result: audit.Refused, Detail: "somewhere"},
			audit.Entry{Identity: alice, Action: "container_start", Detail: "with my container"},
		)
		expect(t, s, audit.Selection{Of: alice}, "with my container", "done to me", "mine")
		expect(t, s, audit.Selection{Of: owner}, "done to my namesake", "done to me")
		expect(t, s, audit.Selection{})
	})
	t.Run("everyone's means the shared categories only", func(t *testing.T) {
		s := make(t)
		var want []string
		for _, action := range audit.Actions {
			add(t, s, audit.Entry{Identity: alice, Action: action, Detail: string(action)})
			if slices.Contains(audit.Shared, action.Category()) {
				want = slices.Insert(want, 0, string(action))
			}
		}
		add(t, s,
			audit.Entry{Identity: alice, Action: "container_start", Detail: "hers"},
			audit.Entry{Identity: alice, Subject: owner, Action: "container_stop", Detail: "done to the owner"},
			audit.Entry{Identity: owner, Action: "node_add", Detail: "the owner's own"},
			audit.Entry{Action: audit.SignIn, Detail: "nobody's"},
		)
		want = slices.Insert(want, 0, "nobody's", "the owner's own", "done to the owner")
		expect(t, s, audit.Selection{Of: owner, Shared: true}, want...)
	})
	t.Run("the filter", func(t *testing.T) {
		s := make(t)
		add(t, s,
			audit.Entry{Identity: alice, Action: audit.SignIn, Target: "pve.lan:8006", Address: netip.MustParseAddr("192.0.2.1"), Detail: "one"},
			audit.Entry{Identity: alice, Action: audit.SignIn, Result: audit.Refused, ErrorID: "abcdefgh", At: begin.Add(time.Hour), Detail: "two"},
			audit.Entry{Identity: alice, Action: audit.SignOut, At: begin.Add(2 * time.Hour), Detail: "THREE % _"},
			audit.Entry{Identity: owner, Subject: alice, Action: audit.SessionEnd, Address: netip.MustParseAddr("198.51.100.9"), At: begin.Add(3 * time.Hour), Detail: "four"},
		)
		for _, shared := range []bool{false, true} {
			of := audit.Selection{Of: alice, Shared: shared}
			with := func(f func(*audit.Selection)) audit.Selection { sel := of; f(&sel); return sel }
			expect(t, s, of, "four", "THREE % _", "two", "one")
			expect(t, s, with(func(s *audit.Selection) { s.Action = audit.SignIn }), "two", "one")
			expect(t, s, with(func(s *audit.Selection) { s.Action = "sign%" }))
			expect(t, s, with(func(s *audit.Selection) { s.Result = audit.Refused }), "two")
			expect(t, s, with(func(s *audit.Selection) { s.Text = "PVE.lan" }), "one")
			expect(t, s, with(func(s *audit.Selection) { s.Text = "192.0.2." }), "one")
			expect(t, s, with(func(s *audit.Selection) { s.Text = "cdef" }), "two")
			expect(t, s, with(func(s *audit.Selection) { s.Text = "three" }), "THREE % _")
			expect(t, s, with(func(s *audit.Selection) { s.Text = "%" }), "THREE % _")
			expect(t, s, with(func(s *audit.Selection) { s.Text = "root@" }), "four")
			expect(t, s, with(func(s *audit.Selection) { s.From = begin.Add(time.Hour) }), "four", "THREE % _", "two")
			expect(t, s, with(func(s *audit.Selection) { s.To = begin.Add(time.Hour) }), "one")
		}
		// From where somebody else acted is not shown to the one concerned, so it can't be found out by searching either.
		expect(t, s, audit.Selection{Of: alice, Text: "198.51.100.9"})
		expect(t, s, audit.Selection{Of: owner, Text: "198.51.100.9"}, "four")
		expect(t, s, audit.Selection{Of: alice, Shared: true, Text: "198.51.100.9"}, "four")
	})
	t.Run("pages neither skip nor repeat, whatever is added meanwhile", func(t *testing.T) {
		s := make(t)
		for i := range 25 {
			add(t, s, audit.Entry{Identity: alice, Action: audit.SignIn, Detail: fmt.Sprint(i)})
		}
		var seen []string
		sel := audit.Selection{Of: alice}
		for page := 0; ; page++ {
			entries, err := s.Entries(ctx, sel, 10)
			if err != nil {
				t.Fatal(err)
			}
			if len(entries) == 0 {
				break
			}
			for _, e := range entries {
				seen = append(seen, e.Detail)
			}
			sel.Before = entries[len(entries)-1].ID
			add(t, s, audit.Entry{Identity: alice, Action: audit.SignIn, Detail: "later"})
		}
		if len(seen) != 25 || seen[0] != "24" || seen[24] != "0" {
			t.Errorf("pages held %q", seen)
		}
	})
	t.Run("entries are added all or none", func(t *testing.T) {
		s := make(t)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := s.AddEntries(ended, []audit.Entry{{Identity: alice, Action: audit.SignIn, At: begin}}); err == nil {
			t.Error("added although the context had ended")
		}
		expect(t, s, audit.Selection{Of: alice})
	})
	t.Run("many at the same time", func(t *testing.T) {
		s := make(t)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { add(t, s, audit.Entry{Identity: alice, Action: audit.SignIn, Detail: "x"}) })
		}
		wg.Wait()
		if got := details(t, s, audit.Selection{Of: alice}, 100); len(got) != 20 {
			t.Errorf("%d entries, want 20", len(got))
		}
	})
	t.Run("what is old goes, and no id comes again", func(t *testing.T) {
		s := make(t)
		add(t, s,
			audit.Entry{Identity: alice, Action: audit.SignIn, Detail: "old"},
			audit.Entry{Identity: alice, Action: audit.SignIn, At: begin.Add(time.Hour), Detail: "young"},
		)
		young, err := s.Entries(ctx, audit.Selection{Of: alice}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := s.RemoveEntries(ctx, begin.Add(time.Hour), 10); err != nil || n != 1 {
			t.Errorf("removed %d, %v; want 1", n, err)
		}
		expect(t, s, audit.Selection{Of: alice}, "young")
		if n, err := s.RemoveEntries(ctx, begin.Add(2*time.Hour), 10); err != nil || n != 1 {
			t.Errorf("removed %d, %v; want 1", n, err)
		}
		add(t, s, audit.Entry{Identity: alice, Action: audit.SignIn})
		again, err := s.Entries(ctx, audit.Selection{Of: alice}, 1)
		if err != nil || len(again) != 1 || again[0].ID <= young[0].ID {
			t.Errorf("after removing %+v came %+v, %v", young, again, err)
		}
	})
	t.Run("of refused sign-ins the newest are kept, of all else everything", func(t *testing.T) {
		s := make(t)
		add(t, s, audit.Entry{Identity: alice, Action: audit.SignIn, Detail: "in"}, audit.Entry{Identity: alice, Action: audit.SessionEnd, Result: audit.Refused, Detail: "end"})
		for i := range 5 {
			add(t, s, audit.Entry{Identity: alice, Action: audit.SecondFactor, Result: audit.Refused, Detail: fmt.Sprint(i)})
		}
		if n, err := s.RemoveEntries(ctx, begin, 3); err != nil || n != 2 {
			t.Errorf("removed %d, %v; want 2", n, err)
		}
		expect(t, s, audit.Selection{Of: alice}, "4", "3", "2", "end", "in")
	})
	t.Run("of refused sign-ins each network keeps its share", func(t *testing.T) {
		s := make(t)
		refuse := func(address, detail string) {
			add(t, s, audit.Entry{Identity: alice, Action: audit.SignIn, Result: audit.Refused, Address: netip.MustParseAddr(address), Detail: detail})
		}
		refuse("192.0.2.1", "quiet")
		refuse("2001:db8:1::1", "quiet too")
		for i := range 10 {
			refuse(fmt.Sprintf("198.51.100.%d", i), fmt.Sprint(i))
		}
		if n, err := s.RemoveEntries(ctx, begin, 4); err != nil || n != 8 {
			t.Errorf("removed %d, %v; want 8", n, err)
		}
		expect(t, s, audit.Selection{Of: alice}, "9", "8", "quiet too", "quiet")
	})
}
