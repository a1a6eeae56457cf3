package app

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve/sim"
	"berth/internal/redis/redistest"
	"berth/internal/session"
)

// replicas are two programs that share one database and one Redis.
type replicas struct {
	one, two *bench
	redis    *redistest.Server
}

func newReplicas(t *testing.T, redisArgs ...string) *replicas {
	t.Helper()
	r := &replicas{redis: redistest.Start(t, redisArgs...)}
	change := func(s *config.Settings) {
		s.Redis, s.StartTimeout = r.redis.URL(), redistest.Patience
		s.LoginHosts = config.LoginHosts{Mode: config.AnyHost}
	}
	r.one = &bench{clock: newClock(), folder: t.TempDir(), change: change, alone: true}
	r.one.begin(t)
	r.two = r.one.beside()
	r.two.begin(t)
	return r
}

// at is a browser as it is, but at another replica: a proxy in front of them holds nobody to one.
func (b *browser) at(other *bench) *browser {
	return &browser{t: b.t, base: other.URL(), http: b.http}
}

// becomes waits until the browser's session is answered with a status.
func (b *browser) becomes(want int) {
	b.t.Helper()
	redistest.Eventually(b.t, "the session to be as it should", func() bool { return b.get("/api/auth/session").StatusCode == want })
}

// Signing in on one replica holds on the other; so do a sign-in's second step and every end of a session.
func TestSessionsCrossReplicas(t *testing.T) {
	r := newReplicas(t)
	_, host := r.one.newHost(t, sim.Options{})
	one := r.one.browser(t)
	one.signIn(host, "root@pam")
	two := one.at(r.two)
	if !two.signedIn() || two.get("/").StatusCode != http.StatusOK {
		t.Fatal("the other replica does not know the session")
	}
	if n := len(r.one.listed(t)); n != 0 {
		t.Errorf("%d sessions are in the database", n)
	}

	// The second step elsewhere.
	other := r.one.browser(t)
	p := other.json("/api/auth/login", input(host, "bob@pve")).json(t)
	tfa, ok := p["tfa"].(map[string]any)
	if !ok {
		t.Fatalf("no second step: %v", p)
	}
	code := map[string]any{"challenge": tfa["challenge"], "kind": "totp", "code": sim.TOTP(sim.DefaultTOTPSecret, r.one.now())}
	if answer := other.at(r.two).json("/api/auth/tfa", code); answer.StatusCode != http.StatusOK {
		t.Errorf("second step on the other replica: %d %s", answer.StatusCode, answer.body)
	}
	if !other.signedIn() {
		t.Error("the session of the second step is not known where the first was")
	}

	// Signed out there, refused here.
	stolen := r.one.browser(t)
	request, err := http.NewRequest(http.MethodGet, r.one.URL()+"/api/auth/session", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.AddCookie(&http.Cookie{Name: "lxc-session", Value: one.token()})
	if got := stolen.send(request.Clone(t.Context())); got.StatusCode != http.StatusOK {
		t.Fatalf("before: %d", got.StatusCode)
	}
	stream := one.stream("")
	if out := two.json("/api/auth/logout", struct{}{}); out.StatusCode != http.StatusOK {
		t.Fatalf("signing out: %d %s", out.StatusCode, out.body)
	}
	redistest.Eventually(t, "the end to cross", func() bool {
		return stolen.send(request.Clone(t.Context())).StatusCode == http.StatusUnauthorized
	})
	stream.next("the end of the session", func(e event) bool { return e.name == "end" })
	<-stream.ended
}

// listed are the sessions that lie in the database itself.
func (b *bench) listed(t *testing.T) []session.Session {
	t.Helper()
	list, err := b.store.Sessions(t.Context(), session.Selection{Everyone: true}, 100)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Guesses count on all replicas together.
func TestThrottleCrossesReplicas(t *testing.T) {
	r := newReplicas(t)
	_, host := r.one.newHost(t, sim.Options{})
	refused := 0
	for i := range 12 {
		at := r.one
		if i%2 == 1 {
			at = r.two
		}
		if got := at.browser(t).json("/api/auth/login", wrong(host, "alice@pve")); got.StatusCode == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("%d of 12 guesses were held back, want those after the tenth", refused)
	}
}

// The key is replaced while both serve, and opens what is in Redis: a session, and a sign-in that waits for its second step.
func TestKeyRotationCrossesReplicas(t *testing.T) {
	r := newReplicas(t)
	_, host := r.one.newHost(t, sim.Options{})
	one := r.one.browser(t)
	one.signIn(host, "root@pam")
	other := r.one.browser(t)
	tfa, ok := other.json("/api/auth/login", input(host, "bob@pve")).json(t)["tfa"].(map[string]any)
	if !ok {
		t.Fatal("no second step")
	}
	operator, err := Operate(t.Context(), r.one.settings())
	if err != nil {
		t.Fatal(err)
	}
	rotation, err := operator.RotateKey(t.Context())
	if err != nil || rotation.Unreadable != 0 || rotation.Resealed < 3 {
		t.Errorf("%+v, %v; want the key check, the session and the attempt at least", rotation, err)
	}
	if err := operator.Close(); err != nil {
		t.Error(err)
	}
	code := map[string]any{"challenge": tfa["challenge"], "kind": "totp", "code": sim.TOTP(sim.DefaultTOTPSecret, r.one.now())}
	if answer := other.at(r.two).json("/api/auth/tfa", code); answer.StatusCode != http.StatusOK {
		t.Errorf("second step after the rotation: %d %s", answer.StatusCode, answer.body)
	}
	r.two.stop()
	r.two.begin(t) // nothing is in memory
	r.one.advance(session.RenewAfter)
	two := one.at(r.two)
	if got := two.get("/api/containers"); got.StatusCode != http.StatusOK || strings.Contains(got.body, "problem\":{") {
		t.Errorf("with the session's ticket after the rotation: %d %.300s", got.StatusCode, got.body)
	}
}

// A Redis that hangs or is gone: every request is answered in time, with 503 and the cookie kept, readyz names it, and all goes on
// by itself when it is back.
func TestRedisDownIsNoSignOut(t *testing.T) {
	r := newReplicas(t, "--appendonly", "yes", "--appendfsync", "always")
	_, host := r.one.newHost(t, sim.Options{})
	browser := r.one.browser(t)
	browser.signIn(host, "alice@pve")
	token := browser.token()
	for name, fail := range map[string]struct{ down, up func() }{
		"silent": {func() { r.redis.Silence(t) }, func() { r.redis.Wake(t) }},
		"killed": {func() { r.redis.Kill(t) }, func() {
			if !r.redis.Run(t) {
				t.Fatal("Redis did not start again")
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			browser.becomes(http.StatusOK)
			fail.down()
			redistest.Eventually(t, "the failure to be noticed", func() bool { return r.one.shared.proven() == 0 })
			for _, path := range []string{"/", "/api/containers", "/api/auth/session", "/readyz"} {
				began := time.Now()
				got := browser.get(path)
				// 2 s for the call, and what a busy machine adds.
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("%s took %v", path, took)
				}
				if got.StatusCode != http.StatusServiceUnavailable || len(got.Cookies()) != 0 {
					t.Errorf("%s: %d, cookies %v; want 503 and none", path, got.StatusCode, got.Cookies())
				}
				if path == "/readyz" && (got.json(t)["code"] != "redis_unavailable" || !strings.HasPrefix(got.json(t)["detail"].(string), "Redis: ")) {
					t.Errorf("%s does not name Redis: %s", path, got.body)
				}
				if strings.Contains(got.body, r.redis.Address) {
					t.Errorf("%s tells where Redis is: %s", path, got.body)
				}
			}
			if got := r.one.browser(t).json("/api/auth/login", input(host, "alice@pve")); got.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("signing in: %d %s", got.StatusCode, got.body)
			}
			if browser.get("/healthz").StatusCode != http.StatusOK {
				t.Error("the process does not live")
			}
			fail.up()
			browser.becomes(http.StatusOK)
			if browser.token() != token {
				t.Error("the browser has lost its cookie")
			}
			redistest.Eventually(t, "readiness", func() bool { return browser.get("/readyz").StatusCode == http.StatusOK })
		})
	}
}

// An emptied Redis signs everybody out, cleanly: the next request is asked to sign in, and can.
func TestEmptiedRedis(t *testing.T) {
	r := newReplicas(t)
	_, host := r.one.newHost(t, sim.Options{})
	browser := r.one.browser(t)
	browser.signIn(host, "alice@pve")
	if !browser.at(r.two).signedIn() {
		t.Fatal("not signed in")
	}
	r.redis.Do(t, "FLUSHALL")
	browser.at(r.two).becomes(http.StatusUnauthorized)
	browser.becomes(http.StatusUnauthorized)
	browser.signIn(host, "alice@pve")
	if !browser.at(r.two).signedIn() {
		t.Error("not signed in again")
	}
}

// The start waits for Redis no longer than it is told to, and says where it looked, without the password.
func TestStartWithoutRedis(t *testing.T) {
	server := redistest.Start(t)
	server.Kill(t)
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	b := &bench{clock: newClock(), folder: t.TempDir()}
	b.change = func(s *config.Settings) {
		s.Redis, s.StartTimeout = "redis://berth:s3cret@"+server.Address, 600*time.Millisecond
	}
	_, err := New(context.Background(), b.settings(), WithClock(b.now))
	if err == nil || !strings.Contains(err.Error(), server.Address) || !strings.Contains(err.Error(), "600ms") {
		t.Errorf("error %v", err)
	}
	if text := log.String(); !strings.Contains(text, "waiting for redis") || strings.Contains(text, "s3cret") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the log: %s", text)
	}
}

// A data folder that was put back to an older copy may have forgotten the ends of sessions, so those in Redis end too.
func TestOlderDatabaseEndsSessionsInRedis(t *testing.T) {
	server := redistest.Start(t)
	b := &bench{clock: newClock(), folder: t.TempDir(), alone: true, change: func(s *config.Settings) { s.Redis, s.StartTimeout = server.URL(), redistest.Patience }}
	b.begin(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	b.stop()
	b.begin(t)
	browser.base = b.URL()
	if !browser.signedIn() {
		t.Fatal("a restart signed somebody out")
	}
	b.stop()
	if err := os.Remove(filepath.Join(b.folder, epochFile)); err != nil {
		t.Fatal(err)
	}
	b.begin(t)
	browser.base = b.URL()
	if browser.signedIn() {
		t.Error("the session lives on")
	}
}

// A replica whose copy of the key file was left out of a rotation is not ready, and says why; with the new one it is.
func TestReadyTellsAnOutdatedKey(t *testing.T) {
	r := newReplicas(t)
	_, host := r.one.newHost(t, sim.Options{})
	r.one.browser(t).signIn(host, "root@pam")
	settings := r.one.settings()
	text, err := os.ReadFile(settings.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy.key")
	if err := os.WriteFile(copied, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r.two.stop()
	was := r.two.change
	r.two.change = func(s *config.Settings) { was(s); s.KeyFile = copied }
	r.two.begin(t)
	if got := r.two.browser(t).get("/readyz"); got.StatusCode != http.StatusOK {
		t.Fatalf("before: %d %s", got.StatusCode, got.body)
	}
	operator, err := Operate(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operator.RotateKey(t.Context()); err != nil {
		t.Error(err)
	}
	if err := operator.Close(); err != nil {
		t.Error(err)
	}
	if got := r.two.browser(t).get("/readyz"); got.StatusCode != http.StatusServiceUnavailable || got.json(t)["code"] != "key_outdated" {
		t.Errorf("with the old key: %d %s", got.StatusCode, got.body)
	}
	if got := r.one.browser(t).get("/readyz"); got.StatusCode != http.StatusOK {
		t.Errorf("where it was rotated: %d %s", got.StatusCode, got.body)
	}
	if text, err = os.ReadFile(settings.KeyFile); err == nil {
		err = os.WriteFile(copied, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := r.two.browser(t).get("/readyz"); got.StatusCode != http.StatusOK {
		t.Errorf("with the new key: %d %s", got.StatusCode, got.body)
	}
}
