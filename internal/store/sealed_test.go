package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/node"
	"berth/internal/seal"
	"berth/internal/session"
)

// notSealed are the columns of bytes that hold no secret: hashes and pins.
var notSealed = []string{
	"login_host.key_pin", "login_host.fingerprint", "session.hash", "ended_session.hash", "familiar.mark", "node.key_pin", "node.fingerprint", "api_token.key_pin",
	"access_token.hash",
}

// Every column that can hold a ciphertext is either gone through by a rotation or named above.
func TestEveryColumnOfBytesIsSealedOrNamed(t *testing.T) {
	s := openTest(t, t.TempDir())
	rows, err := s.reader.QueryContext(t.Context(), `
		SELECT t.name || '.' || c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
		WHERE t.type = 'table' AND c.type = 'BLOB' ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	found := 0
	for rows.Next() {
		var column string
		if err := rows.Scan(&column); err != nil {
			t.Fatal(err)
		}
		found++
		table, name, _ := strings.Cut(column, ".")
		err := s.Reseal(t.Context(), seal.Place{Table: table, Column: name, Row: "00"}, []byte("old"), []byte("new"))
		if sealed := err == nil; sealed == slices.Contains(notSealed, column) {
			t.Errorf("%s: a rotation goes through it: %v (%v); and it is named as not sealed: %v", column, sealed, err, !sealed)
		}
	}
	if err := rows.Err(); err != nil || found < 5 {
		t.Errorf("found %d columns, %v", found, err)
	}
}

// fill makes an installation with a claim code and some sessions, and returns all that is sealed in it.
func fill(t *testing.T, s *Store, sessions int) map[seal.Place]string {
	t.Helper()
	ctx := t.Context()
	want := map[seal.Place]string{
		{Table: "installation", Column: "key_check", Row: "1"}:  "check",
		{Table: "installation", Column: "claim_code", Row: "1"}: "code",
	}
	if err := s.CreateInstallation(ctx, at, []byte("check")); err != nil {
		t.Fatal(err)
	}
	if err := s.SetClaimCode(ctx, []byte("code")); err != nil {
		t.Fatal(err)
	}
	h := newHost("pve.lan")
	if err := s.Admit(ctx, auth.Admission{Host: &h}); err != nil {
		t.Fatal(err)
	}
	for i := range sessions {
		r := session.Record{
			Session: session.Session{
				Hash: sha256.Sum256(fmt.Append(nil, i)), Identity: session.Identity{Datacenter: h.Datacenter, UserID: "alice@pve"},
				LoginHost: h.ID, Realm: "pve", Created: at, LastSeen: at, Ends: at,
			},
			Secret: fmt.Append(nil, "secret", i), Generation: 1, TicketAt: at,
		}
		if err := s.CreateSession(ctx, r); err != nil {
			t.Fatal(err)
		}
		want[seal.Place{Table: "session", Column: "secret", Row: r.Hash.String()}] = string(r.Secret)
	}
	of := session.Identity{Datacenter: h.Datacenter, UserID: "alice@pve"}
	first := node.Record{Node: node.Node{ID: "n0", Owner: of, Name: "first", Credential: node.BySession, LoginHost: h.ID, Cluster: "c", Created: at}}
	if _, err := s.Welcome(ctx, first, at); err != nil {
		t.Fatal(err)
	}
	for i := range sessions {
		id := fmt.Sprint("node", i)
		n := node.Record{Node: node.Node{ID: id, Owner: of, Name: id, Credential: node.ByToken, Cluster: "c", Created: at}, Secret: fmt.Append(nil, "token", i)}
		if err := s.CreateNode(ctx, n, "", sessions+1); err != nil {
			t.Fatal(err)
		}
		want[seal.Place{Table: "node", Column: "secret", Row: id}] = string(n.Secret)
	}
	return want
}

func TestSealedVisitsEverythingOnce(t *testing.T) {
	onEngines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		if err := s.Sealed(t.Context(), func(seal.Place, []byte) error { t.Error("an empty store has something sealed"); return nil }); err != nil {
			t.Fatal(err)
		}
		want := fill(t, s, sealedBatch+1)
		err := s.Sealed(t.Context(), func(at seal.Place, sealed []byte) error {
			if want[at] != string(sealed) {
				t.Errorf("%v: %q, want %q", at, sealed, want[at])
			}
			delete(want, at)
			// Writing in between is what a rotation does.
			return s.Reseal(t.Context(), at, sealed, append([]byte("fresh "), sealed...))
		})
		if err != nil || len(want) != 0 {
			t.Errorf("not visited: %d, %v", len(want), err)
		}
	})
}

func TestResealReplacesNothingElse(t *testing.T) {
	onEngines(t, func(t *testing.T, open func(*testing.T) *Store) {
		ctx := t.Context()
		s := open(t)
		want := fill(t, s, 3)
		for at, old := range want {
			if err := s.Reseal(ctx, at, []byte("not "+old), []byte("wrong")); err != nil {
				t.Errorf("%v: %v, want no error for what is not there", at, err)
			}
		}
		check := func() {
			t.Helper()
			if err := s.Sealed(ctx, func(at seal.Place, sealed []byte) error {
				if string(sealed) != want[at] {
					t.Errorf("%v: %q, want %q", at, sealed, want[at])
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
		check()
		for at, old := range want {
			if err := s.Reseal(ctx, at, []byte(old), []byte("fresh")); err != nil {
				t.Error(err)
			}
			want[at] = "fresh"
			check()
		}
		if err := s.Reseal(ctx, seal.Place{Table: "login_host", Column: "key_pin", Row: "1"}, nil, nil); err == nil {
			t.Error("a column that is not sealed was resealed")
		}
	})
}

// What was replaced or ended is not in the files any more.
func TestReplacedSecretsLeaveNoTrace(t *testing.T) {
	folder := t.TempDir()
	s := openTest(t, folder)
	ctx := context.Background()
	fill(t, s, 20)
	holds := func(text string) bool {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(folder, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			content, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(content, []byte(text)) {
				return true
			}
		}
		return false
	}
	if !holds("secret3") || !holds("secret5") {
		t.Fatal("the files do not hold what is in the store, so that this test could not fail")
	}
	hash := session.Hash(sha256.Sum256([]byte("3")))
	if err := s.Reseal(ctx, seal.Place{Table: "session", Column: "secret", Row: hash.String()}, []byte("secret3"), []byte("another")); err != nil {
		t.Fatal(err)
	}
	if err := s.EndSession(ctx, sha256.Sum256([]byte("5")), at, at.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	if holds("secret3") || holds("secret5") || !holds("another") {
		t.Errorf("in the files: replaced %v, ended %v, new %v", holds("secret3"), holds("secret5"), holds("another"))
	}
}
