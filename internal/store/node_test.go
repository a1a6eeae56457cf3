package store

import (
	"crypto/rand"
	"testing"

	"berth/internal/auth"
	"berth/internal/node/nodetest"
	"berth/internal/pve"
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
			}
		})
	})
}
