package redis_test

import (
	"errors"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/auth/openidtest"
	"berth/internal/auth/pendingtest"
	"berth/internal/auth/throttletest"
	"berth/internal/redis"
	"berth/internal/redis/redistest"
	"berth/internal/session"
	"berth/internal/session/sessiontest"
)

// All contracts hold in a cluster, whose servers each hold a part of the keys.
func TestCluster(t *testing.T) {
	url, servers := redistest.StartCluster(t, 3)
	client, sealer := open(t, url), newSealer(t)
	empty := func(t *testing.T) {
		for _, s := range servers {
			s.Do(t, "FLUSHALL")
		}
	}
	t.Run("sessions", func(t *testing.T) {
		sessiontest.Contract(t, func(t *testing.T) sessiontest.Fixture {
			empty(t)
			db := openStore(t)
			return sessiontest.Fixture{
				Store: redis.NewSessions(client, db, session.DefaultIdle, atBegin),
				NewHost: func(t *testing.T) (string, string) {
					h := admit(t, db)
					return h.Datacenter, h.ID
				},
			}
		})
	})
	t.Run("second factors", func(t *testing.T) {
		pendingtest.Contract(t, func(t *testing.T, now func() time.Time) auth.PendingStore {
			empty(t)
			return redis.NewPending(client, sealer, now)
		})
	})
	t.Run("identity providers", func(t *testing.T) {
		openidtest.Contract(t, func(t *testing.T, now func() time.Time) auth.OpenIDStore {
			empty(t)
			return redis.NewOpenID(client, sealer, now)
		})
	})
	t.Run("throttle", func(t *testing.T) {
		throttletest.Contract(t, func(t *testing.T) auth.ThrottleStore {
			empty(t)
			return redis.NewThrottle(client)
		})
	})
	t.Run("ends cross replicas", func(t *testing.T) {
		empty(t)
		i := newInstallation(t)
		one, two := i.replica(t, url), i.replica(t, url)
		for range 9 { // on all servers
			token, s := one.start(t, i.grant)
			two.trusted(t)
			two.alive(t, token)
			if err := one.registry.End(t.Context(), s.Hash); err != nil {
				t.Fatal(err)
			}
			two.eventually(t, token, session.ErrNone)
		}
	})
	t.Run("one server silent", func(t *testing.T) {
		empty(t)
		i := newInstallation(t)
		r := i.replica(t, url)
		token, _ := r.start(t, i.grant)
		r.trusted(t)
		r.alive(t, token)
		servers[1].Silence(t)
		redistest.Eventually(t, "the silence to be noticed", func() bool { return r.client.Proven() == 0 })
		if err := r.look(t, token); errors.Is(err, session.ErrNone) {
			t.Error("a silent server signed somebody out")
		}
		servers[1].Wake(t)
		r.trusted(t)
		r.eventually(t, token, nil)
	})
}

// Sentinels name the master. When they name another one, Berth goes on with it.
func TestSentinel(t *testing.T) {
	master := redistest.Start(t)
	second := redistest.Start(t, "--replicaof", "127.0.0.1 "+master.Address[len("127.0.0.1:"):])
	url, sentinel := redistest.StartSentinel(t, master)
	i := newInstallation(t)
	r := i.replica(t, url)
	token, s := r.start(t, i.grant)
	ended, over := r.start(t, i.grant)
	r.trusted(t)
	r.alive(t, token)
	for _, one := range []session.Session{s, over} {
		redistest.Eventually(t, "the replica to have the sessions", func() bool { return second.Do(t, "EXISTS", "session:"+one.Hash.String()) == ":1" })
	}
	redistest.Eventually(t, "the Sentinel to know the replica", func() bool { return sentinel.Do(t, "SENTINEL", "REPLICAS", "main") == "*1" })
	if err := r.registry.End(t.Context(), over.Hash); err != nil {
		t.Fatal(err)
	}
	master.Kill(t)
	r.eventually(t, token, nil)
	r.eventually(t, ended, session.ErrNone)
	redistest.Eventually(t, "sessions to be stored again", func() bool {
		_, _, err := r.registry.Start(t.Context(), i.grant, nil)
		return err == nil
	})
}

// The other forms of an address.
func TestAddresses(t *testing.T) {
	socket := t.TempDir() + "/redis.sock"
	server := redistest.Start(t, "--unixsocket", socket, "--requirepass", "s3cret")
	for _, url := range []string{
		"unix://:s3cret@" + socket, "unix://:s3cret@" + socket + "?db=3",
		"redis://:s3cret@" + server.Address, "redis://default:s3cret@" + server.Address + "/2",
	} {
		i := newInstallation(t)
		r := i.replica(t, url)
		token, _ := r.start(t, i.grant)
		r.trusted(t)
		r.alive(t, token)
	}
}
