// Package tokentest owns the contract that every token.Store must keep, as a suite of tests that each store runs against
// the real thing.
package tokentest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/session"
	"berth/internal/token"
)

// Fixture is a store under test. NewIdentity returns alice@pve of a datacenter of her own, who can have tokens.
type Fixture struct {
	Store       token.Store
	NewIdentity func(t *testing.T) session.Identity
}

var begin = time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)

const many = 1000

// record is a new token of an identity.
func record(of session.Identity, name string) token.Record {
	return token.Record{
		Token: token.Token{
			ID: "t-" + rand.Text(), Identity: of, Name: name, Scope: session.ScopePower,
			Created: begin, Expires: begin.Add(24 * time.Hour),
		},
		Hash: sha256.Sum256([]byte(rand.Text())),
	}
}

// Contract runs the suite. make returns an empty store each time it is called.
func Contract(t *testing.T, make func(t *testing.T) Fixture) {
	ctx := context.Background()
	create := func(t *testing.T, f Fixture, r token.Record) token.Record {
		t.Helper()
		if err := f.Store.CreateToken(ctx, r, many); err != nil {
			t.Fatalf("create: %v", err)
		}
		return r
	}
	list := func(t *testing.T, f Fixture, of session.Identity) []token.Token {
		t.Helper()
		found, err := f.Store.Tokens(ctx, of)
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		return found
	}
	gone := func(t *testing.T, f Fixture, r token.Record) {
		t.Helper()
		if found, err := f.Store.FindToken(ctx, r.Hash); !errors.Is(err, token.ErrNone) {
			t.Errorf("%s is still there: %+v, %v", r.Name, found, err)
		}
	}

	t.Run("what is created is found, whole", func(t *testing.T) {
		f := make(t)
		r := record(f.NewIdentity(t), "a script's – ünïque")
		create(t, f, r)
		if got, err := f.Store.FindToken(ctx, r.Hash); err != nil || !reflect.DeepEqual(got, r.Token) {
			t.Errorf("found %+v, %v; want %+v", got, err, r.Token)
		}
		used := record(r.Identity, "used")
		used.LastUsed = begin.Add(time.Minute)
		create(t, f, used)
		if got, err := f.Store.FindToken(ctx, used.Hash); err != nil || !reflect.DeepEqual(got, used.Token) {
			t.Errorf("found %+v, %v; want %+v", got, err, used.Token)
		}
	})

	t.Run("another hash is nothing", func(t *testing.T) {
		f := make(t)
		create(t, f, record(f.NewIdentity(t), "a"))
		gone(t, f, record(session.Identity{}, "never stored"))
	})

	t.Run("each identity has its own, the newest first", func(t *testing.T) {
		f := make(t)
		alice := f.NewIdentity(t)
		namesake := f.NewIdentity(t) // of another datacenter
		old, young, theirs := record(alice, "old"), record(alice, "young"), record(namesake, "old")
		young.Created = old.Created.Add(time.Millisecond)
		for _, r := range []token.Record{young, old, theirs} {
			create(t, f, r)
		}
		if got := list(t, f, alice); !reflect.DeepEqual(got, []token.Token{young.Token, old.Token}) {
			t.Errorf("hers: %+v", got)
		}
		if got := list(t, f, namesake); !reflect.DeepEqual(got, []token.Token{theirs.Token}) {
			t.Errorf("the namesake's: %+v", got)
		}
		if got := list(t, f, session.Identity{Datacenter: alice.Datacenter, UserID: "other@pve"}); len(got) != 0 {
			t.Errorf("nobody's: %+v", got)
		}
	})

	t.Run("a name is taken once for each identity", func(t *testing.T) {
		f := make(t)
		alice, bob := f.NewIdentity(t), f.NewIdentity(t)
		create(t, f, record(alice, "backup"))
		if err := f.Store.CreateToken(ctx, record(alice, "backup"), many); !errors.Is(err, token.ErrNameTaken) {
			t.Errorf("the same name again: %v", err)
		}
		create(t, f, record(alice, "Backup"))
		create(t, f, record(bob, "backup"))
	})

	t.Run("revoked is gone, and only by its owner", func(t *testing.T) {
		f := make(t)
		alice, bob := f.NewIdentity(t), f.NewIdentity(t)
		r := create(t, f, record(alice, "a"))
		kept := create(t, f, record(alice, "b"))
		if _, err := f.Store.RevokeToken(ctx, bob, r.ID); !errors.Is(err, token.ErrNone) {
			t.Errorf("by somebody else: %v", err)
		}
		if got, err := f.Store.RevokeToken(ctx, alice, r.ID); err != nil || !reflect.DeepEqual(got, r.Token) {
			t.Errorf("revoked %+v, %v", got, err)
		}
		gone(t, f, r)
		if _, err := f.Store.RevokeToken(ctx, alice, r.ID); !errors.Is(err, token.ErrNone) {
			t.Errorf("twice: %v", err)
		}
		if got := list(t, f, alice); !reflect.DeepEqual(got, []token.Token{kept.Token}) {
			t.Errorf("left: %+v", got)
		}
		create(t, f, record(alice, "a")) // its name is free again
	})

	t.Run("last use moves forward, and brings nothing back", func(t *testing.T) {
		f := make(t)
		alice := f.NewIdentity(t)
		a, b := create(t, f, record(alice, "a")), create(t, f, record(alice, "b"))
		late, early := begin.Add(time.Hour), begin.Add(time.Minute)
		for _, used := range []map[string]time.Time{{a.ID: late, "never-was": late}, {a.ID: early}, {}} {
			if err := f.Store.TouchTokens(ctx, used); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := f.Store.FindToken(ctx, a.Hash); err != nil || !got.LastUsed.Equal(late) {
			t.Errorf("used %v, %v; want %v", got.LastUsed, err, late)
		}
		if got, err := f.Store.FindToken(ctx, b.Hash); err != nil || !got.LastUsed.IsZero() {
			t.Errorf("another token was used %v, %v", got.LastUsed, err)
		}
		if _, err := f.Store.RevokeToken(ctx, alice, a.ID); err != nil {
			t.Fatal(err)
		}
		if err := f.Store.TouchTokens(ctx, map[string]time.Time{a.ID: late.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		gone(t, f, a)
	})

	t.Run("what expired goes", func(t *testing.T) {
		f := make(t)
		alice := f.NewIdentity(t)
		a, b := record(alice, "a"), record(alice, "b")
		b.Expires = a.Expires.Add(time.Millisecond)
		create(t, f, a)
		create(t, f, b)
		if n, err := f.Store.RemoveTokensExpired(ctx, a.Expires); err != nil || n != 1 {
			t.Errorf("removed %d, %v", n, err)
		}
		gone(t, f, a)
		if _, err := f.Store.FindToken(ctx, b.Hash); err != nil {
			t.Errorf("the other one: %v", err)
		}
	})

	t.Run("the bound holds, however many are made at once", func(t *testing.T) {
		f := make(t)
		alice, bob := f.NewIdentity(t), f.NewIdentity(t)
		const most, tries = 5, 20
		var made, refused atomic.Int64
		var wg sync.WaitGroup
		for range tries {
			wg.Go(func() {
				switch err := f.Store.CreateToken(ctx, record(alice, rand.Text()), most); {
				case err == nil:
					made.Add(1)
				case errors.Is(err, token.ErrTooMany):
					refused.Add(1)
				default:
					t.Errorf("create: %v", err)
				}
			})
		}
		wg.Wait()
		if made.Load() != most || refused.Load() != tries-most || len(list(t, f, alice)) != most {
			t.Errorf("%d made, %d refused, %d there", made.Load(), refused.Load(), len(list(t, f, alice)))
		}
		if err := f.Store.CreateToken(ctx, record(bob, "hers do not count"), most); err != nil {
			t.Errorf("somebody else's: %v", err)
		}
	})

	t.Run("of one name made at once one is made", func(t *testing.T) {
		f := make(t)
		alice := f.NewIdentity(t)
		var made atomic.Int64
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				switch err := f.Store.CreateToken(ctx, record(alice, "one"), many); {
				case err == nil:
					made.Add(1)
				case !errors.Is(err, token.ErrNameTaken):
					t.Errorf("create: %v", err)
				}
			})
		}
		wg.Wait()
		if made.Load() != 1 {
			t.Errorf("%d were made", made.Load())
		}
	})
}
