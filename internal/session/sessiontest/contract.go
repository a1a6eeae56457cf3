// Package sessiontest owns the contract that every session.Store must keep, as a suite of tests that each store runs
// against the real thing.
package sessiontest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"berth/internal/session"
)

// Fixture is a store under test. NewHost returns the ids of a datacenter and a login host that sessions can refer to.
type Fixture struct {
	Store   session.Store
	NewHost func(t *testing.T) (datacenter, loginHost string)
}

var elsewhere = netip.MustParseAddr("198.51.100.7")

var begin = time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)

// record is a new session of a new host.
func (f Fixture) record(t *testing.T) session.Record {
	t.Helper()
	datacenter, host := f.NewHost(t)
	return session.Record{
		Session: session.Session{
			Hash:     sha256.Sum256([]byte(rand.Text())),
			Identity: session.Identity{Datacenter: datacenter, UserID: "alice@pve"}, LoginHost: host, Realm: "pve",
			Created: begin, LastSeen: begin, Ends: begin.Add(7 * 24 * time.Hour),
			Client:   session.Client{Address: netip.MustParseAddr("2001:db8::7"), UserAgent: "a browser"},
			LastFrom: netip.MustParseAddr("2001:db8::7"),
		},
		Secret: []byte{0, 1, 2, 255}, Generation: 1, TicketAt: begin,
	}
}

// Contract runs the suite. make returns an empty store each time it is called.
func Contract(t *testing.T, make func(t *testing.T) Fixture) {
	ctx := context.Background()
	create := func(t *testing.T, f Fixture) session.Record {
		t.Helper()
		r := f.record(t)
		if err := f.Store.CreateSession(ctx, r); err != nil {
			t.Fatalf("create: %v", err)
		}
		return r
	}
	find := func(t *testing.T, f Fixture, h session.Hash) session.Record {
		t.Helper()
		r, err := f.Store.FindSession(ctx, h)
		if err != nil {
			t.Fatalf("find: %v", err)
		}
		return r
	}
	gone := func(t *testing.T, f Fixture, h session.Hash) {
		t.Helper()
		if r, err := f.Store.FindSession(ctx, h); !errors.Is(err, session.ErrNone) {
			t.Errorf("found %+v, %v; want ErrNone", r.Session, err)
		}
	}

	t.Run("what is created is found, whole", func(t *testing.T) {
		f := make(t)
		want := create(t, f)
		create(t, f)
		if got := find(t, f, want.Hash); !reflect.DeepEqual(got, want) {
			t.Errorf("found\n%+v, want\n%+v", got, want)
		}
	})
	t.Run("an unknown hash is ErrNone", func(t *testing.T) {
		f := make(t)
		create(t, f)
		gone(t, f, sha256.Sum256([]byte("never")))
	})
	t.Run("a session without a client address", func(t *testing.T) {
		f := make(t)
		r := f.record(t)
		r.Client = session.Client{}
		if err := f.Store.CreateSession(ctx, r); err != nil {
			t.Fatal(err)
		}
		if got := find(t, f, r.Hash); got.Client != r.Client {
			t.Errorf("client %+v", got.Client)
		}
	})
	t.Run("touch moves forward, never back, and brings nothing to life", func(t *testing.T) {
		f := make(t)
		r, ended := create(t, f), create(t, f)
		if err := f.Store.EndSession(ctx, ended.Hash, begin, begin); err != nil {
			t.Fatal(err)
		}
		later := begin.Add(time.Hour)
		if err := f.Store.TouchSessions(ctx, map[session.Hash]session.Use{r.Hash: {At: later, From: elsewhere}, ended.Hash: {At: later}}); err != nil {
			t.Fatal(err)
		}
		if err := f.Store.TouchSessions(ctx, map[session.Hash]session.Use{r.Hash: {At: begin.Add(time.Minute)}}); err != nil {
			t.Fatal(err)
		}
		if got := find(t, f, r.Hash); !got.LastSeen.Equal(later) || got.LastFrom != elsewhere {
			t.Errorf("last seen %v from %v, want %v from %v", got.LastSeen, got.LastFrom, later, elsewhere)
		}
		gone(t, f, ended.Hash)
	})
	t.Run("a renewal replaces its own generation only", func(t *testing.T) {
		f := make(t)
		r := create(t, f)
		at := begin.Add(time.Hour)
		if err := f.Store.RenewSession(ctx, r.Hash, 1, []byte("second"), at); err != nil {
			t.Fatal(err)
		}
		if err := f.Store.RenewSession(ctx, r.Hash, 1, []byte("late"), at.Add(time.Hour)); !errors.Is(err, session.ErrNone) {
			t.Errorf("renewal of an old generation: %v, want ErrNone", err)
		}
		got := find(t, f, r.Hash)
		if string(got.Secret) != "second" || got.Generation != 2 || !got.TicketAt.Equal(at) {
			t.Errorf("found secret %q, generation %d, ticket at %v", got.Secret, got.Generation, got.TicketAt)
		}
	})
	t.Run("of many renewals of one generation one stands", func(t *testing.T) {
		f := make(t)
		r := create(t, f)
		var wg sync.WaitGroup
		var mu sync.Mutex
		stood := 0
		for range 20 {
			wg.Go(func() {
				switch err := f.Store.RenewSession(ctx, r.Hash, 1, []byte("x"), begin); {
				case err == nil:
					mu.Lock()
					stood++
					mu.Unlock()
				case !errors.Is(err, session.ErrNone):
					t.Errorf("renew: %v", err)
				}
			})
		}
		wg.Wait()
		if stood != 1 {
			t.Errorf("%d renewals stood, want 1", stood)
		}
	})
	t.Run("an ended session is gone, whatever comes after", func(t *testing.T) {
		f := make(t)
		r := create(t, f)
		for range 2 {
			if err := f.Store.EndSession(ctx, r.Hash, begin, begin.Add(time.Hour)); err != nil {
				t.Fatalf("end: %v", err)
			}
		}
		if err := f.Store.RenewSession(ctx, r.Hash, 1, []byte("x"), begin); !errors.Is(err, session.ErrNone) {
			t.Errorf("renew: %v, want ErrNone", err)
		}
		gone(t, f, r.Hash)
	})
	t.Run("what has run out is removed, and nothing else", func(t *testing.T) {
		f := make(t)
		idle, old, young := create(t, f), f.record(t), create(t, f)
		now := begin.Add(3 * time.Hour)
		old.Ends = now
		if err := f.Store.CreateSession(ctx, old); err != nil {
			t.Fatal(err)
		}
		if err := f.Store.TouchSessions(ctx, map[session.Hash]session.Use{young.Hash: {At: now}, old.Hash: {At: now}}); err != nil {
			t.Fatal(err)
		}
		n, err := f.Store.EndSessionsBefore(ctx, begin, now)
		if err != nil || n != 2 {
			t.Errorf("removed %d, %v; want 2", n, err)
		}
		gone(t, f, idle.Hash)
		gone(t, f, old.Hash)
		find(t, f, young.Hash)
	})
	t.Run("an ended session stays ended when an old copy of it comes back", func(t *testing.T) {
		f := make(t)
		r, other := create(t, f), create(t, f)
		ends := func(h session.Hash) {
			t.Helper()
			if err := f.Store.EndSession(ctx, h, begin, begin.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		restore := func(r session.Record) {
			t.Helper()
			if err := f.Store.CreateSession(ctx, r); err != nil {
				t.Fatalf("restore: %v", err)
			}
		}
		ends(r.Hash)
		restore(r)
		gone(t, f, r.Hash)
		if found, err := f.Store.FindSessionByID(ctx, r.Hash.ID()); !errors.Is(err, session.ErrNone) {
			t.Errorf("by id: %+v, %v; want ErrNone", found.Session, err)
		}
		if err := f.Store.RenewSession(ctx, r.Hash, 1, []byte("x"), begin); !errors.Is(err, session.ErrNone) {
			t.Errorf("renew: %v, want ErrNone", err)
		}
		if err := f.Store.TouchSessions(ctx, map[session.Hash]session.Use{r.Hash: {At: begin.Add(time.Minute)}}); err != nil {
			t.Fatal(err)
		}
		if aging, err := f.Store.AgingSessions(ctx, begin.Add(time.Hour), 10); err != nil || len(aging) != 0 {
			t.Errorf("aging %d, %v; want none", len(aging), err)
		}
		if listed, err := f.Store.Sessions(ctx, session.Selection{Everyone: true}, 10); err != nil || len(listed) != 1 || listed[0].Hash != other.Hash {
			t.Errorf("listed %d, %v; want the other alone", len(listed), err)
		}
		// The mark lasts as long as the session would have, though its end was to be remembered for an hour only.
		if _, err := f.Store.EndSessionsBefore(ctx, time.Time{}, r.Ends.Add(-time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		gone(t, f, r.Hash)
		// One that was never here, because another store had it, is marked too.
		elsewhere := f.record(t)
		ends(elsewhere.Hash)
		restore(elsewhere)
		gone(t, f, elsewhere.Hash)
	})
	t.Run("marks of ended sessions are forgotten when they are over", func(t *testing.T) {
		f := make(t)
		r := f.record(t)
		until := begin.Add(time.Hour)
		if err := f.Store.EndSession(ctx, r.Hash, begin, until); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Store.EndSessionsBefore(ctx, begin.Add(-time.Hour), until); err != nil {
			t.Fatal(err)
		}
		if err := f.Store.CreateSession(ctx, r); err != nil {
			t.Fatal(err)
		}
		find(t, f, r.Hash)
	})
	t.Run("a session is found by its id, and by no other", func(t *testing.T) {
		f := make(t)
		r := create(t, f)
		create(t, f)
		if got, err := f.Store.FindSessionByID(ctx, r.Hash.ID()); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("found %+v, %v; want %+v", got, err, r)
		}
		near := r.Hash
		near[len(session.ID{})-1]++
		if got, err := f.Store.FindSessionByID(ctx, near.ID()); !errors.Is(err, session.ErrNone) {
			t.Errorf("found %+v, %v; want ErrNone", got.Session, err)
		}
	})
	t.Run("lists are of one identity or of everyone, last used first", func(t *testing.T) {
		f := make(t)
		old, recent := create(t, f), f.record(t)
		recent.Identity, recent.LoginHost = old.Identity, old.LoginHost
		recent.LastSeen = begin.Add(time.Hour)
		recent.Client.UserAgent = "Another Browser"
		if err := f.Store.CreateSession(ctx, recent); err != nil {
			t.Fatal(err)
		}
		// The same user id, vouched for by another datacenter.
		namesake := create(t, f)
		list := func(s session.Selection, most int, want ...session.Record) {
			t.Helper()
			got, err := f.Store.Sessions(ctx, s, most)
			if err != nil {
				t.Fatal(err)
			}
			var wanted []session.Session
			for _, r := range want {
				wanted = append(wanted, r.Session)
			}
			if len(got) != len(wanted) || len(got) > 0 && !reflect.DeepEqual(got, wanted) {
				t.Errorf("%+v lists\n%+v, want\n%+v", s, got, wanted)
			}
		}
		list(session.Selection{Of: old.Identity}, 10, recent, old)
		list(session.Selection{Of: old.Identity}, 1, recent)
		list(session.Selection{Of: namesake.Identity}, 10, namesake)
		list(session.Selection{Of: session.Identity{Datacenter: old.Identity.Datacenter, UserID: "bob@pve"}}, 10)
		list(session.Selection{Everyone: true, Text: "another"}, 10, recent)
		list(session.Selection{Of: old.Identity, Text: "2001:DB8"}, 10, recent, old)
		list(session.Selection{Of: old.Identity, Text: "alice@"}, 10, recent, old)
		list(session.Selection{Of: old.Identity, SeenAfter: begin}, 10, recent)
		list(session.Selection{Of: old.Identity, EndsAfter: old.Ends}, 10)
		if all, err := f.Store.Sessions(ctx, session.Selection{Everyone: true}, 10); err != nil || len(all) != 3 {
			t.Errorf("everyone has %d, %v; want 3", len(all), err)
		}
	})
	t.Run("all others of one identity end, and nobody else's", func(t *testing.T) {
		f := make(t)
		kept, other := create(t, f), f.record(t)
		other.Identity, other.LoginHost = kept.Identity, kept.LoginHost
		if err := f.Store.CreateSession(ctx, other); err != nil {
			t.Fatal(err)
		}
		namesake := create(t, f)
		until := begin.Add(time.Hour)
		ended, err := f.Store.EndOtherSessions(ctx, session.Selection{Of: kept.Identity}, kept.Hash, begin, until)
		if err != nil || !reflect.DeepEqual(ended, []session.Ended{{Hash: other.Hash, Identity: other.Identity}}) {
			t.Fatalf("ended %v, %v; want the other", ended, err)
		}
		gone(t, f, other.Hash)
		find(t, f, kept.Hash)
		find(t, f, namesake.Hash)
		if err := f.Store.CreateSession(ctx, other); err != nil {
			t.Fatal(err)
		}
		gone(t, f, other.Hash)
		// Everyone's: the copy that came back is among them, and dead before and after.
		if ended, err = f.Store.EndOtherSessions(ctx, session.Selection{Everyone: true}, kept.Hash, begin, until); err != nil || len(ended) != 2 {
			t.Errorf("ended %d, %v; want 2", len(ended), err)
		}
		gone(t, f, namesake.Hash)
		find(t, f, kept.Hash)
	})
	t.Run("aging sessions are those used since their old ticket came", func(t *testing.T) {
		f := make(t)
		unused, used, fresh := create(t, f), create(t, f), create(t, f)
		_ = unused
		seen := begin.Add(30 * time.Minute)
		if err := f.Store.TouchSessions(ctx, map[session.Hash]session.Use{used.Hash: {At: seen}, fresh.Hash: {At: seen}}); err != nil {
			t.Fatal(err)
		}
		if err := f.Store.RenewSession(ctx, fresh.Hash, 1, []byte("x"), begin.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		aging, err := f.Store.AgingSessions(ctx, begin, 10)
		if err != nil || len(aging) != 1 || aging[0].Hash != used.Hash {
			t.Errorf("aging %d, %v; want the used one alone", len(aging), err)
		}
		if aging, err = f.Store.AgingSessions(ctx, begin.Add(time.Hour), 1); err != nil || len(aging) != 1 {
			t.Errorf("aging %d, %v; want the limit of 1", len(aging), err)
		}
	})
}
