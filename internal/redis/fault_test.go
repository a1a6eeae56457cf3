package redis_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/pve"
	"berth/internal/redis"
	"berth/internal/redis/redistest"
	"berth/internal/session"
	"berth/internal/store"
)

// callBound is what a call may take: its 2 s, and what a machine with much to do adds.
const callBound = 2*time.Second + 10*time.Second

// installation is a database, and replicas that share it.
type installation struct {
	db    *store.Store
	grant session.Grant
	seal  func(session.Options) session.Options
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	db, sealer := openStore(t), newSealer(t)
	host := admit(t, db)
	return &installation{
		db: db,
		grant: session.Grant{
			Identity: session.Identity{Datacenter: host.Datacenter, UserID: "alice@pve"}, LoginHost: host.ID, Realm: "pve",
			Ticket: pve.Ticket{UserID: "alice@pve", Value: "PVE:the-ticket", CSRF: "the-csrf-token"},
		},
		seal: func(o session.Options) session.Options {
			o.Sealer = sealer
			return o
		},
	}
}

// replica is one process of an installation.
type replica struct {
	client   *redis.Client
	store    *redis.Sessions
	registry *session.Registry
}

func (i *installation) replica(t *testing.T, url string) *replica {
	t.Helper()
	r := &replica{client: open(t, url)}
	r.store = redis.NewSessions(r.client, i.db, session.DefaultIdle, time.Now)
	r.registry = session.NewRegistry(i.seal(session.Options{
		Store: r.store, Now: time.Now, Proven: r.client.Proven, Lease: r.client.Lease, Log: slog.New(slog.DiscardHandler),
	}))
	r.client.Watch(func(key string) {
		if h, ok := redis.HashOfKey(key); ok {
			r.registry.Doubt(h)
		}
	})
	t.Cleanup(func() { r.registry.Close(context.Background()) })
	return r
}

func (r *replica) start(t *testing.T, g session.Grant) (string, session.Session) {
	t.Helper()
	token, s, err := r.registry.Start(t.Context(), g, nil)
	if err != nil {
		t.Fatal(err)
	}
	return token, s
}

// look looks a session up and tells what came of it, which must not take long.
func (r *replica) look(t *testing.T, token string) error {
	t.Helper()
	began := time.Now()
	_, err := r.registry.Find(t.Context(), token)
	if took := time.Since(began); took > callBound {
		t.Errorf("a look took %v", took)
	}
	return err
}

// alive fails the test unless a session is found, and says what was found else.
func (r *replica) alive(t *testing.T, token string) {
	t.Helper()
	if err := r.look(t, token); err != nil {
		t.Errorf("the session: %v, want it alive", err)
	}
}

func (r *replica) eventually(t *testing.T, token string, want error) {
	t.Helper()
	redistest.Eventually(t, "the session to be as it should", func() bool { return errors.Is(r.look(t, token), want) })
}

// trusted waits until a replica takes sessions from memory.
func (r *replica) trusted(t *testing.T) {
	t.Helper()
	redistest.Eventually(t, "signs of life", func() bool { return r.client.Proven() != 0 })
}

// A session that one replica ends is refused by the others, though they have it in memory; so is one whose host is removed, one
// that an operator deletes in Redis, and all of them when Redis is emptied.
func TestEndCrossesReplicas(t *testing.T) {
	i, server := newInstallation(t), redistest.Start(t)
	one, two := i.replica(t, server.URL()), i.replica(t, server.URL())
	for name, end := range map[string]func(token string, s session.Session) error{
		"ended":   func(_ string, s session.Session) error { return one.registry.End(t.Context(), s.Hash) },
		"deleted": func(_ string, s session.Session) error { server.Do(t, "DEL", "session:"+s.Hash.String()); return nil },
		"emptied": func(string, session.Session) error { server.Do(t, "FLUSHALL"); return nil },
		"with others": func(string, session.Session) error {
			_, err := one.registry.EndOthers(t.Context(), i.grant.Identity, false, session.Hash{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			token, s := one.start(t, i.grant)
			two.trusted(t)
			two.alive(t, token)
			two.alive(t, token)
			if err := end(token, s); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			two.eventually(t, token, session.ErrNone)
			t.Logf("refused after %v", time.Since(began))
		})
	}
	t.Run("its host removed", func(t *testing.T) {
		host := admit(t, i.db)
		grant := i.grant
		grant.Identity.Datacenter, grant.LoginHost = host.Datacenter, host.ID
		token, _ := one.start(t, grant)
		two.trusted(t)
		two.alive(t, token)
		if err := (redis.Hosts{Store: i.db, Sessions: one.store}).RemoveHost(t.Context(), host.ID); err != nil {
			t.Fatal(err)
		}
		two.eventually(t, token, session.ErrNone)
	})
}

// A valid session is checked from memory: no call goes to Redis.
func TestValidSessionIsCheckedFromMemory(t *testing.T) {
	i, server := newInstallation(t), redistest.Start(t)
	r := i.replica(t, server.URL())
	token, _ := r.start(t, i.grant)
	r.trusted(t)
	r.alive(t, token)
	reads := func() string {
		for line := range strings.Lines(server.Text(t, "INFO", "commandstats")) {
			if name, rest, ok := strings.Cut(line, ":calls="); ok && name == "cmdstat_hgetall" {
				n, _, _ := strings.Cut(rest, ",")
				return n
			}
		}
		return "0"
	}
	// A busy machine may leave a beat out, and then Redis is rightly asked.
	redistest.Eventually(t, "a thousand looks without a call", func() bool {
		before := reads()
		for range 1000 {
			r.alive(t, token)
		}
		return reads() == before
	})
}

// Once words can't arrive, because the network swallows everything without a sign, what is in memory counts for a second and no
// longer: nobody is let in, and nobody is thrown out. It heals by itself.
func TestSilentNetwork(t *testing.T) {
	i, server := newInstallation(t), redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Address)
	near, far := i.replica(t, server.URL()), i.replica(t, proxy.URL())
	token, _ := near.start(t, i.grant)
	ended, s := near.start(t, i.grant)
	far.trusted(t)
	far.alive(t, token)
	far.alive(t, ended)

	proxy.Silence()
	silent := time.Now()
	if err := near.registry.End(t.Context(), s.Hash); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(silent.Add(time.Second))) // the very bound
	for range 3 {
		for what, token := range map[string]string{"ended": ended, "living": token} {
			if err := far.look(t, token); err == nil || errors.Is(err, session.ErrNone) {
				t.Errorf("the %s session %v after the network fell silent: %v, want that the store can't be reached", what, time.Since(silent), err)
			}
		}
	}
	redistest.Eventually(t, "the problem to be told", func() bool { return far.client.Ready(t.Context()) != nil })
	if err := far.client.Ready(t.Context()); !errors.As(err, new(redis.Problem)) {
		t.Errorf("ready: %v, want a known problem", err)
	}
	// Calls don't wait for nothing any more.
	redistest.Eventually(t, "quick refusals", func() bool {
		began := time.Now()
		return errors.Is(far.look(t, token), redis.ErrDown) && time.Since(began) < time.Second
	})

	proxy.Heal()
	far.eventually(t, token, nil)
	far.eventually(t, ended, session.ErrNone)
	redistest.Eventually(t, "readiness", func() bool { return far.client.Ready(t.Context()) == nil })
}

// A network that breaks and heals costs nobody their session.
func TestCutNetwork(t *testing.T) {
	i, server := newInstallation(t), redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Address)
	r := i.replica(t, proxy.URL())
	token, _ := r.start(t, i.grant)
	for range 3 {
		r.trusted(t)
		r.alive(t, token)
		proxy.Cut()
		redistest.Eventually(t, "the cut to be noticed", func() bool { return r.client.Proven() == 0 })
		if err := r.look(t, token); err == nil || errors.Is(err, session.ErrNone) {
			t.Errorf("while cut: %v, want that the store can't be reached", err)
		}
		proxy.Heal()
		r.eventually(t, token, nil)
	}
}

// A Redis that hangs lets no call hang, and nobody in or out.
func TestSilentRedis(t *testing.T) {
	i, server := newInstallation(t), redistest.Start(t)
	r := i.replica(t, server.URL())
	token, _ := r.start(t, i.grant)
	r.trusted(t)
	server.Silence(t)
	silent := time.Now()
	time.Sleep(time.Until(silent.Add(time.Second)))
	if err := r.look(t, token); err == nil || errors.Is(err, session.ErrNone) {
		t.Errorf("while silent: %v", err)
	}
	began := time.Now()
	if _, _, err := r.registry.Start(t.Context(), i.grant, nil); err == nil {
		t.Error("a session was stored in a Redis that does not answer")
	}
	if took := time.Since(began); took > callBound {
		t.Errorf("a start took %v", took)
	}
	server.Wake(t)
	r.eventually(t, token, nil)
}

// Killed and started again over what it wrote, Redis still has the sessions; without that everybody is signed out, cleanly.
func TestRestartedRedis(t *testing.T) {
	for name, keeps := range map[string]bool{"with persistence": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			i := newInstallation(t)
			args := []string{}
			if keeps {
				args = []string{"--appendonly", "yes", "--appendfsync", "always"}
			}
			server := redistest.Start(t, args...)
			r := i.replica(t, server.URL())
			token, _ := r.start(t, i.grant)
			gone, s := r.start(t, i.grant)
			if err := r.registry.End(t.Context(), s.Hash); err != nil {
				t.Fatal(err)
			}
			r.trusted(t)
			r.alive(t, token)
			server.Kill(t)
			redistest.Eventually(t, "the end of Redis to be noticed", func() bool { return r.client.Proven() == 0 })
			if err := r.look(t, token); err == nil || errors.Is(err, session.ErrNone) {
				t.Errorf("while Redis is gone: %v", err)
			}
			if !server.Run(t) {
				t.Fatal("Redis did not start again")
			}
			want := session.ErrNone
			if keeps {
				want = nil
			}
			r.eventually(t, token, want)
			r.eventually(t, gone, session.ErrNone)
			again, _ := r.start(t, i.grant)
			r.alive(t, again)
		})
	}
}

// A replica that is promoted without the last writes has sessions that were ended; they stay ended.
func TestPromotedReplicaBringsNoEndedSessionBack(t *testing.T) {
	i, master := newInstallation(t), redistest.Start(t)
	host, port, _ := strings.Cut(master.Address, ":")
	second := redistest.Start(t, "--replicaof", host+" "+port)
	proxy := redistest.NewProxy(t, master.Address)
	r := i.replica(t, proxy.URL())
	token, _ := r.start(t, i.grant)
	ended, s := r.start(t, i.grant)
	key := "session:" + s.Hash.String()
	redistest.Eventually(t, "the replica to have the sessions", func() bool { return second.Do(t, "EXISTS", key) == ":1" })
	// A replica is no place to go on with.
	proxy.Lead(second.Address)
	redistest.Eventually(t, "the replica to be told from a master", func() bool {
		var problem redis.Problem
		return errors.As(r.client.Ready(t.Context()), &problem) && problem == redis.ProblemReplica
	})
	redistest.Eventually(t, "nothing to be proven by a replica", func() bool { return r.client.Proven() == 0 })
	proxy.Lead(master.Address)
	r.eventually(t, token, nil)

	second.Do(t, "REPLICAOF", "NO", "ONE")
	redistest.Eventually(t, "the end to be stored", func() bool { return r.registry.End(t.Context(), s.Hash) == nil })
	if answer := second.Do(t, "EXISTS", key); answer != ":1" {
		t.Fatalf("the second server has the ended session no more: %s", answer)
	}
	master.Kill(t)
	proxy.Lead(second.Address)
	r.eventually(t, token, nil)
	fresh := i.replica(t, second.URL()) // with nothing in memory
	fresh.alive(t, token)
	for _, one := range []*replica{r, fresh} {
		if err := one.look(t, ended); !errors.Is(err, session.ErrNone) {
			t.Errorf("the ended session: %v, want ErrNone", err)
		}
	}
	listed, _, err := fresh.registry.List(t.Context(), i.grant.Identity, false, "")
	if err != nil || len(listed) != 1 {
		t.Errorf("%d sessions are listed, %v; want the living one", len(listed), err)
	}
}

// A Redis that is full starts no sessions, throws nobody out, and ends what is ended.
func TestFullRedis(t *testing.T) {
	i, server := newInstallation(t), redistest.Start(t)
	r := i.replica(t, server.URL())
	token, s := r.start(t, i.grant)
	server.Do(t, "CONFIG", "SET", "maxmemory", "1")
	if _, _, err := r.registry.Start(t.Context(), i.grant, nil); err == nil {
		t.Error("a session was stored in a full Redis")
	}
	var problem redis.Problem
	if err := r.client.Ready(t.Context()); !errors.As(err, &problem) || problem != redis.ProblemFull {
		t.Errorf("ready: %v, want that it is full", err)
	}
	r.alive(t, token)
	key := "session:" + s.Hash.String()
	server.Do(t, "PEXPIRE", key, "100000")
	if err := r.store.TouchSessions(t.Context(), map[session.Hash]session.Use{s.Hash: {At: time.Now().Add(time.Second)}}); err == nil {
		t.Error("a full Redis took a use")
	}
	if life := server.Do(t, "PTTL", key); len(life) < len(":7000000") {
		t.Errorf("a session in use lives for %s ms", life)
	}
	if err := r.registry.End(t.Context(), s.Hash); err != nil {
		t.Errorf("end: %v", err)
	}
	r.eventually(t, token, session.ErrNone)
	server.Do(t, "CONFIG", "SET", "maxmemory", "0")
	redistest.Eventually(t, "readiness", func() bool { return r.client.Ready(t.Context()) == nil })
}

// A record lives as long as its session may be left unused.
func TestLifeOfARecord(t *testing.T) {
	i, server := newInstallation(t), redistest.Start(t)
	r := i.replica(t, server.URL())
	_, s := r.start(t, i.grant)
	if life := server.Do(t, "TTL", "session:"+s.Hash.String()); life != ":7200" && life != ":7199" && life != ":7198" {
		t.Errorf("a new session lives for %s s, want 7200", life)
	}
	if server.Do(t, "EXISTS", "session:"+s.Hash.String()) != ":1" || strings.Contains(server.Text(t, "HGET", "session:"+s.Hash.String(), "secret"), "the-ticket") {
		t.Error("the ticket lies open in Redis")
	}
}

// What Open says while it waits, and when it gives up.
func TestStartWithoutRedis(t *testing.T) {
	server := redistest.Start(t)
	server.Kill(t)
	var mu sync.Mutex
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&lockedWriter{&mu, &log}, nil))
	opened := make(chan error, 1)
	go func() {
		c, err := redis.Open(context.Background(), redis.Options{URL: "redis://:s3cret@" + server.Address, Wait: redistest.Patience, Log: logger})
		if err == nil {
			c.Close()
		}
		opened <- err
	}()
	redistest.Eventually(t, "a word in the log", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(log.String(), "waiting for redis") && strings.Contains(log.String(), server.Address)
	})
	if !server.Run(t) {
		t.Fatal("Redis did not start")
	}
	server.Do(t, "CONFIG", "SET", "requirepass", "s3cret")
	select {
	case err := <-opened:
		// It may have come before the password was set.
		if err != nil && !strings.Contains(err.Error(), "AUTH") {
			t.Errorf("once Redis was there: %v", err)
		}
	case <-time.After(redistest.Patience):
		t.Fatal("Open goes on waiting")
	}
	for wait, url := range map[time.Duration]string{
		redistest.Patience:     "redis://:wr0ng@" + server.Address, // refused at once, however long it might wait
		200 * time.Millisecond: "redis://:wr0ng@" + redistest.NewProxy(t, "127.0.0.1:1").Address,
	} {
		began := time.Now()
		_, err := redis.Open(t.Context(), redis.Options{URL: url, Wait: wait, Log: logger})
		if err == nil || strings.Contains(err.Error(), "wr0ng") || time.Since(began) > redistest.Patience/2 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(log.String(), "s3cret") || strings.Contains(log.String(), "wr0ng") {
		t.Errorf("the log shows a password: %s", log.String())
	}
}

// A Redis that throws sessions away when it is full is warned of.
func TestEvictionIsWarnedOf(t *testing.T) {
	for policy, want := range map[string]bool{"noeviction": false, "allkeys-lru": true, "volatile-ttl": true} {
		for limit, limited := range map[string]bool{"0": false, "100mb": true} {
			server := redistest.Start(t, "--maxmemory", limit, "--maxmemory-policy", policy)
			var log bytes.Buffer
			c, err := redis.Open(t.Context(), redis.Options{URL: server.URL(), Wait: redistest.Patience, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			if got := strings.Contains(log.String(), "noeviction"); got != (want && limited) {
				t.Errorf("maxmemory %s, policy %s: log %q", limit, policy, log.String())
			}
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (w *lockedWriter) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(text)
}

// One replica has a lease, until it gives it back or the time is over.
func TestLease(t *testing.T) {
	server := redistest.Start(t)
	one, two := open(t, server.URL()), open(t, server.URL())
	first, err := one.Lease(t.Context(), "x", time.Hour)
	if err != nil || first.Taken {
		t.Fatalf("%+v, %v", first.Taken, err)
	}
	if other, err := two.Lease(t.Context(), "x", time.Hour); err != nil || !other.Taken {
		t.Errorf("taken twice: %v", err)
	}
	if other, err := two.Lease(t.Context(), "y", time.Hour); err != nil || other.Taken {
		t.Errorf("something else: %v", err)
	}
	first.Release(t.Context())
	brief, err := two.Lease(t.Context(), "x", 50*time.Millisecond)
	if err != nil || brief.Taken {
		t.Fatalf("after it was given back: %v", err)
	}
	var third session.Lease
	redistest.Eventually(t, "the lease to run out", func() bool {
		third, err = one.Lease(t.Context(), "x", time.Hour)
		return err == nil && !third.Taken
	})
	brief.Release(t.Context()) // too late: it is another's
	if other, err := two.Lease(t.Context(), "x", time.Hour); err != nil || !other.Taken {
		t.Errorf("one gave back another's lease: %v", err)
	}
}
