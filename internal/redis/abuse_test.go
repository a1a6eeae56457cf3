package redis_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"berth/internal/redis"
	"berth/internal/redis/redistest"
	"berth/internal/seal"
	"berth/internal/session"
)

// TestAbuseBrokenRecords: what somebody has put in the place of a session, or what is left of one, is no session. It keeps nobody
// else's from being listed, renewed and ended, and the key from being rotated.
func TestAbuseBrokenRecords(t *testing.T) {
	broken := map[string]func(s *redistest.Server, key string){
		"a part of a record":    func(s *redistest.Server, key string) { s.Do(t, "HDEL", key, "created") },
		"a secret alone":        func(s *redistest.Server, key string) { s.Do(t, "DEL", key); s.Do(t, "HSET", key, "secret", "x") },
		"no number":             func(s *redistest.Server, key string) { s.Do(t, "HSET", key, "ends", "never") },
		"something else at all": func(s *redistest.Server, key string) { s.Do(t, "SET", key, "x") },
	}
	for name, breaks := range broken {
		t.Run(name, func(t *testing.T) {
			i, server := newInstallation(t), redistest.Start(t)
			r := i.replica(t, server.URL())
			lost, first := r.start(t, i.grant)
			kept, second := r.start(t, i.grant)
			_, third := r.start(t, i.grant)
			r.trusted(t)
			breaks(server, "session:"+first.Hash.String())
			r.eventually(t, lost, session.ErrNone)
			r.alive(t, kept)

			of := session.Selection{Of: i.grant.Identity}
			listed, err := r.store.Sessions(t.Context(), of, 10)
			if has := func(s session.Session) bool { return s.Hash == first.Hash }; err != nil || len(listed) != 2 || slices.ContainsFunc(listed, has) {
				t.Errorf("listed: %d, %v", len(listed), err)
			}
			ahead := time.Now().Add(time.Hour)
			if err := r.store.TouchSessions(t.Context(), map[session.Hash]session.Use{second.Hash: {At: ahead}, third.Hash: {At: ahead}}); err != nil {
				t.Error(err)
			}
			if aging, err := r.store.AgingSessions(t.Context(), ahead, 10); err != nil || len(aging) != 2 {
				t.Errorf("aging: %d, %v", len(aging), err)
			}
			vault := redis.Vault{
				Store: i.db, Sessions: r.store, Pending: redis.NewPending(r.client, nil, time.Now),
				OpenID: redis.NewOpenID(r.client, nil, time.Now), Nodes: redis.NewNodeSignIns(r.client, nil, time.Now),
			}
			sealed := map[string]bool{}
			if err := vault.Sealed(t.Context(), func(at seal.Place, _ []byte) error { sealed[at.Row] = true; return nil }); err != nil ||
				!sealed[second.Hash.String()] || !sealed[third.Hash.String()] {
				t.Errorf("what is sealed: %v, %v", sealed, err)
			}
			for _, everyone := range []bool{false, true} {
				if _, err := r.store.EndOtherSessions(t.Context(), session.Selection{Of: of.Of, Everyone: everyone}, second.Hash, time.Now(), ahead); err != nil {
					t.Errorf("end the others (of everyone: %t): %v", everyone, err)
				}
			}
			if _, err := r.store.FindSession(t.Context(), third.Hash); !errors.Is(err, session.ErrNone) {
				t.Errorf("the session that was to end: %v", err)
			}
			r.alive(t, kept)
			if err := r.registry.End(t.Context(), first.Hash); err != nil {
				t.Errorf("end what is broken: %v", err)
			}
			if left := server.Do(t, "EXISTS", "session:"+first.Hash.String()); left != ":0" {
				t.Errorf("what is broken is still there: %q", left)
			}
		})
	}
}
