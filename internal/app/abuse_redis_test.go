package app

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"berth/internal/config"
	"berth/internal/pve/sim"
	"berth/internal/redis/redistest"
	"berth/internal/replicatest"
	"berth/internal/session"
)

// keyOf is where the browser's session lies in Redis.
func (b *browser) keyOf() string {
	b.t.Helper()
	h, ok := session.HashToken(b.token())
	if !ok {
		b.t.Fatal("no session")
	}
	return "session:" + h.String()
}

// TestAbuseRedisWriter: whoever can write to Redis, and has no key, becomes nobody else, and has nobody's ticket sent to a host of
// theirs.
func TestAbuseRedisWriter(t *testing.T) {
	server := redistest.Start(t)
	b := newBenchWith(t, func(s *config.Settings) {
		s.Redis, s.StartTimeout = server.URL(), redistest.Patience
		s.LoginHosts = config.LoginHosts{Mode: config.AnyHost}
	})
	_, host := b.newHost(t, sim.Options{})
	loopback := forLoopback
	var sent atomic.Int64 // tickets that the thief's host got as passwords
	answers := plausible(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"data":[]}`) })
	evil := newHostile(t, newAuthority(t).issue(t, &loopback), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/access/ticket") && strings.HasPrefix(r.PostFormValue("password"), "PVE:root@pam:") {
			sent.Add(1)
		}
		answers.ServeHTTP(w, r)
	}))
	victim, thief := b.browser(t), b.browser(t)
	victim.signIn(host, "root@pam")
	in := typed("127.0.0.1", evil.port())
	in["username"], in["fingerprint"] = "root@pam", evil.fingerprint()
	if got := thief.json("/api/auth/login", in); got.StatusCode != http.StatusOK {
		t.Fatalf("the thief's sign-in: %d %s", got.StatusCode, got.body)
	}
	of := func(key, field string) string { return strings.TrimSpace(server.Text(t, "HGET", key, field)) }
	victims, thiefs := victim.keyOf(), thief.keyOf()

	// The victim's session is said to be from the thief's host, and its ticket is due.
	server.Do(t, "HSET", victims, "login_host", of(thiefs, "login_host"))
	victim.becomes(http.StatusUnauthorized)
	b.advance(session.RenewAfter)
	_ = victim.get("/api/containers")
	if err := b.sessions.RenewAging(t.Context()); err != nil {
		t.Error(err)
	}
	if n := sent.Load(); n != 0 {
		t.Errorf("the thief's host was sent %d tickets", n)
	}

	// The thief's session is said to be the victim's.
	server.Do(t, "HSET", thiefs, "datacenter", of(victims, "datacenter"), "user", "root@pam")
	thief.becomes(http.StatusUnauthorized)
	if got := thief.get("/api/nodes"); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("nodes for the thief: %d %s", got.StatusCode, got.body)
	}
}

// TestAbuseSessionFromBeforeRedis: a session that was there before an installation had Redis is in no list of sessions then, so it
// must not live again without.
func TestAbuseSessionFromBeforeRedis(t *testing.T) {
	replicatest.Alone(t, replicatest.NoRedis)
	server := redistest.Start(t)
	shared := ""
	b := newBenchWith(t, func(s *config.Settings) { s.Redis, s.StartTimeout = shared, redistest.Patience })
	_, host := b.newHost(t, sim.Options{})
	thief := b.browser(t)
	thief.signIn(host, "root@pam")
	ask := func(token string) int {
		t.Helper()
		return b.browser(t).do("GET", "/api/auth/session", "", "", "Cookie", "lxc-session="+token).StatusCode
	}
	token := thief.token()
	b.stop()
	b.begin(t)
	if code := ask(token); code != http.StatusOK {
		t.Fatalf("after an ordinary restart: %d", code)
	}
	b.stop()
	shared = server.URL()
	b.begin(t)
	if code := ask(token); code != http.StatusUnauthorized {
		t.Errorf("with Redis: %d", code)
	}
	owner := b.browser(t)
	owner.signIn(host, "root@pam")
	if got := owner.json("/api/sessions/end-others", map[string]any{}); got.StatusCode != http.StatusOK {
		t.Errorf("end the others: %d %s", got.StatusCode, got.body)
	}
	b.stop()
	shared = ""
	b.begin(t)
	if code := ask(token); code != http.StatusUnauthorized {
		t.Errorf("without Redis again: %d", code)
	}
}
