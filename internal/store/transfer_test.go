package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/auth"
	"berth/internal/node"
	"berth/internal/session"
	"berth/internal/task"
	"berth/internal/testneed"
	"berth/internal/token"
)

// installation fills a database with something in every table, more of it than one batch.
func installation(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	fill(t, s, moveBatch+50)
	hosts, err := s.LoginHosts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	of := session.Identity{Datacenter: hosts[0].Datacenter, UserID: "alice@pve"}
	var entries []audit.Entry
	for i := range 2*moveBatch + 1 {
		entries = append(entries, audit.Entry{At: at, Identity: of, Action: audit.SignIn, Result: audit.OK, Detail: fmt.Sprint("Ä entry ", i), Count: 1})
	}
	op := task.Operation{ID: "op", Owner: of, NodeID: "n0", Cluster: "c", Node: "pve", VMID: 100, Action: "start", Created: at}
	part := op
	part.ID, part.VMID, part.State = "part", 101, "waiting"
	for _, err := range []error{
		s.AddEntries(ctx, entries),
		s.EndSession(ctx, session.Hash{1}, at, at.Add(time.Hour)),
		s.NoteFamiliar(ctx, of, authMark(1), at),
		s.CreateToken(ctx, token.Record{Token: token.Token{ID: "t", Identity: of, Name: "token", Scope: session.ScopeRead, Created: at, Expires: at.Add(time.Hour)}, Hash: token.Hash{1}}, 5),
		s.BeginToken(ctx, madeToken(of)),
		s.Begin(ctx, op, at, at.Add(time.Minute), 10),
		s.CreateRun(ctx, task.Run{ID: "run", Owner: of, Action: "start", Created: at, Driven: at}, []task.Operation{part}, 3),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Every table is moved but the one that marks a move.
func TestEverythingIsMoved(t *testing.T) {
	s := openTest(t, t.TempDir())
	var moved []string
	for _, table := range everything {
		moved = append(moved, table.name)
	}
	there := texts(t, s, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'goose%' AND name <> 'transfer'")
	slices.Sort(moved)
	slices.Sort(there)
	if !slices.Equal(moved, there) {
		t.Errorf("moved are %v, and there are %v", moved, there)
	}
}

func TestMoveThereAndBack(t *testing.T) {
	ctx := t.Context()
	first, server, back := Location{Folder: t.TempDir()}, Location{Server: testneed.Postgres(t)}, Location{Folder: t.TempDir()}
	s := openTest(t, first.Folder)
	installation(t, s)
	told := map[string]int64{}
	there, err := Move(ctx, first, server, at, func(table string, rows int64) { told[table] += rows })
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range there {
		if m.Rows == 0 || m.Rows != told[m.Table] {
			t.Errorf("%s: %d rows, told %d: this test shows nothing of a table without rows", m.Table, m.Rows, told[m.Table])
		}
	}
	on := openServerTest(t, server.Server)
	// The trail goes on behind the last entry, which nobody has to read twice.
	if err := on.AddEntries(ctx, []audit.Entry{{At: at, Action: audit.SignOut, Result: audit.OK, Count: 1}}); err != nil {
		t.Fatal(err)
	}
	if got, err := on.Entries(ctx, audit.Selection{Shared: true}, 1); err != nil || len(got) != 1 || got[0].ID != 2*moveBatch+2 {
		t.Errorf("the next entry: %+v, %v", got, err)
	}
	again, err := Move(ctx, server, back, at, func(string, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	for i := range there {
		if there[i] != again[i] && there[i].Table != "audit" {
			t.Errorf("there %+v, back %+v", there[i], again[i])
		}
	}
	if e, err := openTest(t, back.Folder).BeginEpoch(ctx, nil, "file", at); err != nil || e.Older || e.Copied {
		t.Errorf("the sessions that were moved count as those of a copy: %+v, %v", e, err)
	}
	_, err = Move(ctx, first, Location{Server: "postgres://berth:hunter2@127.0.0.1:1/berth"}, at, func(string, int64) {})
	if err == nil || !strings.Contains(err.Error(), "it does not answer") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("to a server that is not there: %v", err)
	}
	for name, try := range map[string]struct{ from, to Location }{
		"not empty": {first, server}, "not empty, a file": {server, first}, "nothing there": {Location{Folder: t.TempDir()}, Location{Folder: t.TempDir()}},
	} {
		if _, err := Move(ctx, try.from, try.to, at, func(string, int64) {}); err == nil {
			t.Errorf("%s: it was moved", name)
		} else if errors.Is(err, ErrNotEmpty) != strings.HasPrefix(name, "not empty") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A move that was interrupted goes on where it was, wherever that is, and until then nothing else begins there.
func TestMoveGoesOn(t *testing.T) {
	first := Location{Folder: t.TempDir()}
	source := openTest(t, first.Folder)
	installation(t, source)
	whole, err := Move(t.Context(), first, Location{Folder: t.TempDir()}, at, func(string, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]Location{"SQLite": {Folder: t.TempDir()}, "PostgreSQL": {Server: testneed.Postgres(t)}} {
		t.Run(name, func(t *testing.T) {
			copied := int64(0)
			interrupted := 0
			for {
				ctx, cancel := context.WithCancel(t.Context())
				moved, err := Move(ctx, first, target, at, func(_ string, rows int64) {
					copied += rows
					if interrupted < 8 {
						interrupted++
						cancel()
					}
				})
				cancel()
				if err == nil {
					if !slices.Equal(moved, whole) {
						t.Errorf("moved %v, want %v", moved, whole)
					}
					break
				}
				if !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "interrupted") {
					t.Fatal(err)
				}
				if _, err := Move(t.Context(), Location{Folder: t.TempDir()}, target, at, func(string, int64) {}); err == nil {
					t.Fatal("another move began on the same target")
				}
				opened, err := openLocation(t, target)
				if !errors.Is(err, ErrUnfinished) {
					t.Fatalf("half of an installation was opened: %v, %v", opened, err)
				}
			}
			rows := int64(0)
			for _, m := range whole {
				rows += m.Rows
			}
			if interrupted != 8 || copied != rows {
				t.Errorf("interrupted %d times; %d rows were copied, and there are %d", interrupted, copied, rows)
			}
		})
	}
}

// What was copied before the source changed is of no use: the next run begins anew.
func TestMoveOfWhatHasChanged(t *testing.T) {
	first, target := Location{Folder: t.TempDir()}, Location{Folder: t.TempDir()}
	source := openTest(t, first.Folder)
	installation(t, source)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Move(ctx, first, target, at, func(table string, _ int64) {
		if table == "audit" {
			cancel()
		}
	})
	if err == nil {
		t.Fatal("it was not interrupted")
	}
	if _, err := source.RemoveEntries(t.Context(), at.Add(time.Second), 0); err != nil {
		t.Fatal(err)
	}
	if err := source.EndSession(t.Context(), session.Hash{2}, at, at.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	moved, err := Move(t.Context(), first, target, at, func(string, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range moved {
		if m.Table == "audit" && m.Rows != 0 {
			t.Errorf("%d entries were moved that are not there any more", m.Rows)
		}
	}
	// Whoever changes it while it is copied is told.
	other := Location{Folder: t.TempDir()}
	_, err = Move(t.Context(), first, other, at, func(table string, _ int64) {
		if table == "node" {
			if err := source.EndSession(t.Context(), session.Hash{3}, at, at.Add(time.Hour)); err != nil {
				t.Error(err)
			}
		}
	})
	if !errors.As(err, new(differs)) {
		t.Errorf("changed meanwhile: %v", err)
	}
	if _, err := Move(t.Context(), first, other, at, func(string, int64) {}); err != nil {
		t.Errorf("and once more: %v", err)
	}
}

func openLocation(t *testing.T, l Location) (*Store, error) {
	if l.Server != "" {
		return OpenServer(t.Context(), l.Server, time.Minute)
	}
	return Open(t.Context(), l.Folder)
}

func authMark(n byte) (m auth.Mark) {
	m.Kind, m.Hash[0] = auth.MarkBrowser, n
	return m
}

func madeToken(of session.Identity) node.MadeToken {
	return node.MadeToken{ID: "made", Owner: of, NodeID: "n0", NodeName: "first", TokenID: "alice@pve!berth", Created: at}
}
