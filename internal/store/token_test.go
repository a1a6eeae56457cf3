package store

import (
	"crypto/rand"
	"testing"

	"berth/internal/auth"
	"berth/internal/node"
	"berth/internal/session"
	"berth/internal/token/tokentest"
)

func TestTokenContract(t *testing.T) {
	suite(t, func(t *testing.T, fresh func(t *testing.T) *Store) {
		tokentest.Contract(t, func(t *testing.T) tokentest.Fixture {
			s := fresh(t)
			return tokentest.Fixture{Store: s, NewIdentity: func(t *testing.T) session.Identity {
				h := newHost(rand.Text() + ".lan")
				if err := s.Admit(t.Context(), auth.Admission{Host: &h}); err != nil {
					t.Fatal(err)
				}
				alice := session.Identity{Datacenter: h.Datacenter, UserID: "alice@pve"}
				first := node.Record{Node: node.Node{ID: "n-" + rand.Text(), Owner: alice, Name: "first", Credential: node.BySession, Created: at}}
				if _, err := s.Welcome(t.Context(), first, at); err != nil {
					t.Fatal(err)
				}
				return alice
			}}
		})
	})
}
