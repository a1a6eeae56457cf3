package redis_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/pve"
	"berth/internal/redis"
	"berth/internal/redis/redistest"
	"berth/internal/session"
	"berth/internal/session/sessiontest"
	"berth/internal/store"
)

// begin is where the contracts' clocks stand.
var begin = time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)

func atBegin() time.Time { return begin }

func open(t *testing.T, url string) *redis.Client {
	t.Helper()
	c, err := redis.Open(t.Context(), redis.Options{URL: url, Wait: redistest.Patience, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// admit makes a login host that sessions can refer to.
func admit(t *testing.T, s *store.Store) auth.LoginHost {
	t.Helper()
	h := auth.LoginHost{
		ID: "h-" + rand.Text(), Datacenter: "d-" + rand.Text(), Address: pve.Address{Host: rand.Text() + ".lan", Port: 8006}, Created: begin,
	}
	if err := s.Admit(context.Background(), auth.Admission{Host: &h}); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSessionContract(t *testing.T) {
	server := redistest.Start(t)
	client := open(t, server.URL())
	sessiontest.Contract(t, func(t *testing.T) sessiontest.Fixture {
		server.Do(t, "FLUSHALL")
		db := openStore(t)
		return sessiontest.Fixture{
			Store: redis.NewSessions(client, db, session.DefaultIdle, atBegin),
			NewHost: func(t *testing.T) (string, string) {
				h := admit(t, db)
				return h.Datacenter, h.ID
			},
		}
	})
}

// A use that is noted only after the session's end leaves nothing in Redis.
func TestUseNotedTooLate(t *testing.T) {
	server := redistest.Start(t)
	db, now := openStore(t), begin
	sessions := redis.NewSessions(open(t, server.URL()), db, session.DefaultIdle, func() time.Time { return now })
	host := admit(t, db)
	r := session.Record{
		Session: session.Session{
			Hash: sha256.Sum256([]byte(rand.Text())), Identity: session.Identity{Datacenter: host.Datacenter, UserID: "alice@pve"},
			LoginHost: host.ID, Realm: "pve", Created: begin, LastSeen: begin, Ends: begin.Add(7 * 24 * time.Hour),
		},
		Secret: []byte{1}, Generation: 1, TicketAt: begin,
	}
	if err := sessions.CreateSession(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	now = begin.Add(session.DefaultIdle + time.Hour)
	late := map[session.Hash]session.Use{r.Hash: {At: begin.Add(time.Minute)}}
	for range 2 {
		if err := sessions.TouchSessions(t.Context(), late); err != nil {
			t.Error(err)
		}
	}
	if left := server.Do(t, "EXISTS", "session:"+r.Hash.String()); left != ":0" {
		t.Errorf("%s records are left", left)
	}
}
