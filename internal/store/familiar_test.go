package store

import (
	"encoding/binary"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/session"
)

func TestFamiliar(t *testing.T) {
	onEngines(t, func(t *testing.T, open func(*testing.T) *Store) {
		ctx := t.Context()
		s := open(t)
		datacenter := func(name string) string {
			h := newHost(name)
			if err := s.Admit(ctx, auth.Admission{Host: &h}); err != nil {
				t.Fatal(err)
			}
			return h.Datacenter
		}
		here, there := datacenter("here.lan"), datacenter("there.lan")
		alice := session.Identity{Datacenter: here, UserID: "alice@pve"}
		mark := func(kind auth.MarkKind, n int) (m auth.Mark) {
			m.Kind = kind
			binary.BigEndian.PutUint64(m.Hash[:], uint64(n))
			return m
		}
		is := func(who session.Identity, m auth.Mark, since time.Time) bool {
			t.Helper()
			known, err := s.IsFamiliar(ctx, who, m, since)
			if err != nil {
				t.Fatal(err)
			}
			return known
		}
		note := func(who session.Identity, m auth.Mark, when time.Time) {
			t.Helper()
			if err := s.NoteFamiliar(ctx, who, m, when); err != nil {
				t.Fatal(err)
			}
		}

		browser := mark(auth.MarkBrowser, 1)
		note(alice, browser, at)
		for name, test := range map[string]struct {
			who   session.Identity
			mark  auth.Mark
			since time.Time
			want  bool
		}{
			"the same":           {alice, browser, at, true},
			"too long ago":       {alice, browser, at.Add(time.Second), false},
			"another mark":       {alice, mark(auth.MarkBrowser, 2), at, false},
			"another kind":       {alice, mark(auth.MarkAddress, 1), at, false},
			"another user":       {session.Identity{Datacenter: here, UserID: "bob@pve"}, browser, at, false},
			"another datacenter": {session.Identity{Datacenter: there, UserID: "alice@pve"}, browser, at, false},
		} {
			if got := is(test.who, test.mark, test.since); got != test.want {
				t.Errorf("%s: %v, want %v", name, got, test.want)
			}
		}
		note(alice, browser, at.Add(time.Minute))
		if !is(alice, browser, at.Add(time.Minute)) {
			t.Error("noted again, and not as of now")
		}

		if err := s.ReplaceMark(ctx, browser, mark(auth.MarkBrowser, 3)); err != nil {
			t.Fatal(err)
		}
		if is(alice, browser, at) || !is(alice, mark(auth.MarkBrowser, 3), at) {
			t.Error("the mark was not replaced")
		}

		address := mark(auth.MarkAddress, 0)
		note(alice, address, at)
		for n := range familiarOfAccount {
			note(alice, mark(auth.MarkBrowser, 100+n), at.Add(time.Hour+time.Duration(n)*time.Second))
		}
		if is(alice, mark(auth.MarkBrowser, 3), at) || !is(alice, mark(auth.MarkBrowser, 100), at) {
			t.Errorf("of an account's browsers not exactly the latest %d are kept", familiarOfAccount)
		}
		if !is(alice, address, at) {
			t.Error("browsers pushed out an address")
		}

		if err := s.ForgetFamiliarBefore(ctx, at.Add(time.Hour+time.Second)); err != nil {
			t.Fatal(err)
		}
		if is(alice, address, at) || is(alice, mark(auth.MarkBrowser, 100), at) || !is(alice, mark(auth.MarkBrowser, 101), at) {
			t.Error("not exactly what is older was forgotten")
		}
	})
}

// A datacenter that vouches for anybody fills its own part of the table, and nobody else's.
func TestAbuseMadeUpUsersOfOneDatacenter(t *testing.T) {
	ctx := t.Context()
	s := openTest(t, t.TempDir())
	mine, theirs := newHost("mine.lan"), newHost("theirs.lan")
	for _, h := range []auth.LoginHost{mine, theirs} {
		if err := s.Admit(ctx, auth.Admission{Host: &h}); err != nil {
			t.Fatal(err)
		}
	}
	me := session.Identity{Datacenter: mine.Datacenter, UserID: "root@pam"}
	if err := s.NoteFamiliar(ctx, me, auth.Mark{Kind: auth.MarkAddress}, at); err != nil {
		t.Fatal(err)
	}
	// The rows are put in at once; each sign-in then trims what is too much.
	_, err := s.writer.ExecContext(ctx, `
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
		INSERT INTO familiar SELECT ?, 'user' || i || '@pve', 'address', CAST(i AS BLOB), ? + i FROM n`,
		theirs.Datacenter, at.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	them := session.Identity{Datacenter: theirs.Datacenter, UserID: "one-more@pve"}
	if err := s.NoteFamiliar(ctx, them, auth.Mark{Kind: auth.MarkAddress}, at.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := s.writer.QueryRowContext(ctx, "SELECT COUNT(*) FROM familiar WHERE datacenter_id = ?", theirs.Datacenter).Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if rows != familiarOfDatacenter {
		t.Errorf("%d rows, want %d", rows, familiarOfDatacenter)
	}
	if known, err := s.IsFamiliar(ctx, me, auth.Mark{Kind: auth.MarkAddress}, at); !known || err != nil {
		t.Errorf("the other datacenter's was pushed out: %v, %v", known, err)
	}
}
