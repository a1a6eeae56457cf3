package store

import (
	"crypto/rand"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/node/nodetest"
	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/task"
	"berth/internal/token"
)

func TestNodeContract(t *testing.T) {
	suite(t, func(t *testing.T, fresh func(t *testing.T) *Store) {
		nodetest.Contract(t, func(t *testing.T) nodetest.Fixture {
			s := fresh(t)
			h := newHost("stays.lan") // the last login host can't be removed
			if err := s.Admit(t.Context(), auth.Admission{Host: &h}); err != nil {
				t.Fatal(err)
			}
			return nodetest.Fixture{
				Store: s,
				NewHost: func(t *testing.T, key pve.KeyPin) (string, string) {
					h := newHost(rand.Text() + ".lan")
					h.Key = &key
					if err := s.Admit(t.Context(), auth.Admission{Host: &h}); err != nil {
						t.Fatal(err)
					}
					return h.Datacenter, h.ID
				},
				RemoveHost: func(t *testing.T, loginHost string) {
					if err := s.RemoveHost(t.Context(), loginHost); err != nil {
						t.Fatal(err)
					}
				},
				Attach: attachments(s),
			}
		})
	})
}

// attachments are what an identity can have besides nodes.
func attachments(s *Store) map[string]func(*testing.T, session.Identity) {
	now := time.Now()
	operation := func(of session.Identity) task.Operation {
		return task.Operation{ID: rand.Text(), NodeID: "n", Node: "pve1", VMID: 101, Action: task.Start, State: task.Waiting, Created: now, Owner: of, Cluster: of.Datacenter}
	}
	attach := func(having func(t *testing.T, of session.Identity) error) func(*testing.T, session.Identity) {
		return func(t *testing.T, of session.Identity) {
			t.Helper()
			if err := having(t, of); err != nil {
				t.Fatal(err)
			}
		}
	}
	return map[string]func(*testing.T, session.Identity){
		"a session": attach(func(t *testing.T, of session.Identity) error {
			hosts, err := s.LoginHosts(t.Context())
			if err != nil {
				return err
			}
			return s.CreateSession(t.Context(), session.Record{
				Session: session.Session{Hash: session.Hash{1}, Identity: of, LoginHost: hosts[0].ID, Created: now, LastSeen: now, Ends: now},
				Secret:  []byte("x"), TicketAt: now,
			})
		}),
		"an access token": attach(func(t *testing.T, of session.Identity) error {
			return s.CreateToken(t.Context(), token.Record{
				Token: token.Token{ID: rand.Text(), Identity: of, Name: "script", Scope: session.ScopeRead, Created: now, Expires: now}, Hash: token.Hash{2},
			}, 1)
		}),
		"an operation": attach(func(t *testing.T, of session.Identity) error {
			op := operation(of)
			op.State = task.Sending
			return s.Begin(t.Context(), op, now, now.Add(time.Minute), 1)
		}),
		"a run": attach(func(t *testing.T, of session.Identity) error {
			run := task.Run{ID: rand.Text(), Action: task.Start, Created: now, Owner: of, Driven: now}
			op := operation(of)
			op.BulkID = run.ID
			return s.CreateRun(t.Context(), run, []task.Operation{op}, 1)
		}),
	}
}
