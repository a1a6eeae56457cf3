package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/node"
	"berth/internal/session"
	"berth/internal/task"
	"berth/internal/testneed"
	"berth/internal/token"
)

// atOnce runs something on several programs over one database, a few times on each at the same moment.
func atOnce(programs []*Store, each int, do func(s *Store, n int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range each * len(programs) {
		wg.Go(func() {
			<-start
			do(programs[i%len(programs)], i)
		})
	}
	close(start)
	wg.Wait()
}

// What transactions decide holds however many programs work on one database.
func TestSeveralProgramsDecideAsOne(t *testing.T) {
	onEngines(t, func(t *testing.T, open func(*testing.T) *Store) {
		ctx := t.Context()
		programs := []*Store{open(t), open(t), open(t)}
		s := programs[0]
		if err := s.CreateInstallation(ctx, at, []byte("check")); err != nil {
			t.Fatal(err)
		}

		var mu sync.Mutex
		count := map[string]int{}
		tell := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			count[what]++
		}
		// Of many first sign-ins at hosts of their own one claims the installation, and the others leave nothing.
		atOnce(programs, 4, func(s *Store, n int) {
			h := newHost(fmt.Sprintf("host%d.lan", n))
			r := session.Record{Session: session.Session{
				Hash: session.Hash{byte(n)}, LoginHost: h.ID, Identity: session.Identity{Datacenter: h.Datacenter, UserID: "root@pam"},
			}, Secret: []byte("sealed")}
			switch err := s.Admit(ctx, auth.Admission{Host: &h, Session: &r, Claims: h.Datacenter}); {
			case err == nil:
				tell("claimed")
			case !errors.Is(err, auth.ErrClaimed):
				t.Errorf("claim: %v", err)
			}
		})
		hosts, err := s.LoginHosts(ctx)
		if err != nil || len(hosts) != 1 || count["claimed"] != 1 {
			t.Fatalf("%d claimed it, and %d hosts are there, %v", count["claimed"], len(hosts), err)
		}

		// Of many first looks one makes the identity and its first node.
		of := session.Identity{Datacenter: hosts[0].Datacenter, UserID: "root@pam"}
		atOnce(programs, 4, func(s *Store, n int) {
			first := node.Record{Node: node.Node{ID: fmt.Sprint("first", n), Owner: of, Name: "first", Credential: node.BySession, IsDefault: true, Created: at}}
			made, err := s.Welcome(ctx, first, at)
			if err != nil {
				t.Errorf("welcome: %v", err)
			}
			if made {
				tell("welcomed")
			}
		})
		if count["welcomed"] != 1 {
			t.Errorf("%d made the identity", count["welcomed"])
		}

		// However many are added at once: no more than there may be, and one is the default.
		const most = 6
		atOnce(programs, 4, func(s *Store, n int) {
			r := node.Record{Node: node.Node{
				ID: fmt.Sprint("node", n), Owner: of, Name: fmt.Sprint("node", n), Credential: node.ByToken, IsDefault: true, Created: at,
			}, Secret: []byte("sealed")}
			if err := s.CreateNode(ctx, r, "", most); err != nil && !errors.Is(err, node.ErrTooMany) {
				t.Errorf("create: %v", err)
			}
		})
		nodes, err := s.Nodes(ctx, of)
		if err != nil || len(nodes) != most {
			t.Errorf("%d nodes, %v; want %d", len(nodes), err, most)
		}
		atOnce(programs, 3, func(s *Store, n int) {
			if err := s.SetDefaultNode(ctx, of, nodes[n%len(nodes)].ID); err != nil {
				t.Errorf("default: %v", err)
			}
		})
		if nodes, err = s.Nodes(ctx, of); err != nil || !nodes[0].IsDefault || slices.ContainsFunc(nodes[1:], func(r node.Record) bool { return r.IsDefault }) {
			t.Errorf("not exactly one is the default: %v", err)
		}
		// Nodes are removed while the default moves: whatever is left, one of it is the default.
		atOnce(programs, 2, func(s *Store, n int) {
			if n%2 == 0 {
				if err := s.RemoveNode(ctx, of, nodes[n/2].ID); err != nil {
					t.Errorf("remove: %v", err)
				}
			} else if err := s.SetDefaultNode(ctx, of, nodes[n/2].ID); err != nil && !errors.Is(err, node.ErrNone) {
				t.Errorf("default: %v", err)
			}
		})
		if nodes, err = s.Nodes(ctx, of); err != nil || len(nodes) != most-3 || !nodes[0].IsDefault {
			t.Errorf("%d nodes are left, and the first is the default: %v, %v", len(nodes), nodes[0].IsDefault, err)
		}

		// Access tokens: no more than there may be.
		atOnce(programs, 4, func(s *Store, n int) {
			r := token.Record{Token: token.Token{ID: rand.Text(), Identity: of, Name: fmt.Sprint("token", n), Scope: session.ScopeRead, Created: at, Expires: at.Add(time.Hour)}, Hash: token.Hash{byte(n)}}
			switch err := s.CreateToken(ctx, r, 5); {
			case err == nil:
				tell("tokens")
			case !errors.Is(err, token.ErrTooMany):
				t.Errorf("token: %v", err)
			}
		})
		if count["tokens"] != 5 {
			t.Errorf("%d access tokens, want 5", count["tokens"])
		}

		// A container's lock has one holder.
		until := at.Add(time.Minute)
		atOnce(programs, 4, func(s *Store, n int) {
			op := task.Operation{ID: fmt.Sprint("op", n), Owner: of, NodeID: "n", Cluster: "c", Node: "pve", VMID: 100, Action: "start", Created: at}
			var busy *task.BusyError
			switch err := s.Begin(ctx, op, at, until, 1000); {
			case err == nil:
				tell("locks")
			case !errors.As(err, &busy):
				t.Errorf("lock: %v", err)
			}
		})
		if count["locks"] != 1 {
			t.Errorf("%d hold one lock", count["locks"])
		}
	})
}

// Programs that start at the same time over an empty database leave its schema to one of them.
func TestManyStartAtOnce(t *testing.T) {
	start := func(t *testing.T, open func() (*Store, error)) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				s, err := open()
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				if err := s.Ping(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	t.Run("SQLite", func(t *testing.T) {
		folder := t.TempDir()
		start(t, func() (*Store, error) { return Open(context.Background(), folder) })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		address := testneed.Postgres(t)
		start(t, func() (*Store, error) { return OpenServer(context.Background(), address, time.Minute) })
	})
}

// Texts that PostgreSQL would refuse are stored all the same: strangers send them.
func TestTextsThatAreNone(t *testing.T) {
	onEngines(t, func(t *testing.T, open func(*testing.T) *Store) {
		ctx := t.Context()
		s := open(t)
		h := newHost("pve.lan")
		of := session.Identity{Datacenter: h.Datacenter, UserID: "Ärger@pve"}
		r := session.Record{Session: session.Session{
			Hash: session.Hash{1}, LoginHost: h.ID, Identity: of, LastSeen: at, Ends: at.Add(time.Hour),
			Client: session.Client{UserAgent: "bad \xff\x00 Browser"},
		}, Secret: []byte("sealed")}
		if err := s.Admit(ctx, auth.Admission{Host: &h, Session: &r}); err != nil {
			t.Fatal(err)
		}
		// Only A to Z are the same in both cases, whatever the locale of the server.
		for text, want := range map[string]int{"bROWSER": 1, "Ärger": 1, "ÄRGER": 1, "ärger": 0, "\x00x": 0} {
			found, err := s.Sessions(ctx, session.Selection{Of: of, Text: text}, 10)
			if err != nil || len(found) != want {
				t.Errorf("%q finds %d, %v; want %d", text, len(found), err, want)
			}
		}
	})
}
