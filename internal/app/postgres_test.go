package app

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve/sim"
	"berth/internal/testneed"
)

// line is a network line to a server, which can be cut.
type line struct {
	listener net.Listener
	cut      atomic.Bool // what is sent gets lost, and nobody is told
	mu       sync.Mutex
	open     []net.Conn
}

// newLine makes a line to a database, and returns the database's address at this end of it.
func newLine(t *testing.T, address string) (*line, string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	far := u.Host
	l := &line{}
	if l.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.listener.Close(); l.hangUp() })
	go func() {
		for {
			near, err := l.listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", far)
			if err != nil {
				near.Close()
				continue
			}
			l.mu.Lock()
			l.open = append(l.open, near, server)
			l.mu.Unlock()
			go l.carry(server, near)
			go l.carry(near, server)
		}
	}()
	u.Host = l.listener.Addr().String()
	return l, u.String()
}

func (l *line) carry(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if l.cut.Load() {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// hangUp ends the connections that there are.
func (l *line) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		c.Close()
	}
	l.open = nil
}

// overPostgres starts the program over a database on a server.
func overPostgres(t *testing.T, address string) *bench {
	t.Helper()
	b := &bench{clock: newClock(), folder: t.TempDir(), alone: true, change: func(s *config.Settings) { s.Database, s.StartTimeout = address, 10*time.Second }}
	b.begin(t)
	return b
}

// While the database can't be reached nobody is let in and nobody is signed out, no request waits long, and when it is back
// everything goes on without a restart.
func TestDatabaseIsAway(t *testing.T) {
	l, address := newLine(t, testneed.Postgres(t))
	b := overPostgres(t, address)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	for name, fault := range map[string]struct{ begin, end func() }{
		"silent": {func() { l.cut.Store(true) }, func() { l.cut.Store(false); l.hangUp() }},
		"lost":   {func() { l.cut.Store(true); l.hangUp() }, func() { l.cut.Store(false); l.hangUp() }},
	} {
		if !alice.signedIn() {
			t.Fatalf("%s: not signed in before", name)
		}
		fault.begin()
		until := time.Now().Add(20 * time.Second)
		for alice.get("/api/auth/session").StatusCode == http.StatusOK {
			if time.Now().After(until) {
				t.Fatalf("%s: what nobody can check is still trusted", name)
			}
		}
		for _, path := range []string{"/api/auth/session", "/", "/api/tokens"} {
			began := time.Now()
			r := alice.get(path)
			if r.StatusCode != http.StatusServiceUnavailable || len(r.Cookies()) > 0 {
				t.Errorf("%s: %s: %d, cookies %v: %s", name, path, r.StatusCode, r.Cookies(), r.body)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("%s: %s took %s", name, path, took)
			}
		}
		if r := alice.get("/readyz"); r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(r.body, "PostgreSQL") {
			t.Errorf("%s: readyz: %d %s", name, r.StatusCode, r.body)
		}
		fault.end()
		for until := time.Now().Add(30 * time.Second); alice.get("/api/auth/session").StatusCode != http.StatusOK; {
			if time.Now().After(until) {
				t.Fatalf("%s: it does not recover", name)
			}
		}
		if r := alice.get("/readyz"); r.StatusCode != http.StatusOK {
			t.Errorf("%s: readyz after it: %d %s", name, r.StatusCode, r.body)
		}
	}
}

// What one program changes counts at the other one within a moment.
func TestTwoProgramsOverOneDatabase(t *testing.T) {
	address := testneed.Postgres(t)
	first := overPostgres(t, address)
	second := first.beside()
	second.begin(t)
	_, host := first.newHost(t, sim.Options{})
	alice := first.browser(t)
	alice.signIn(host, "alice@pve")
	there := second.browser(t)
	there.http.Jar = alice.http.Jar
	if !there.signedIn() {
		t.Fatal("the other program does not know the session")
	}
	token := alice.token()
	if r := alice.json("/api/auth/logout", map[string]any{}); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-out: %d", r.StatusCode)
	}
	stolen := second.browser(t)
	for until := time.Now().Add(10 * time.Second); ; {
		if r := stolen.do("GET", "/api/auth/session", "", "", "Cookie", "lxc-session="+token); r.StatusCode == http.StatusUnauthorized {
			break
		}
		if time.Now().After(until) {
			t.Fatal("the session that was ended lives on at the other program")
		}
	}
}

// A key of another installation is refused, whichever replica comes with it.
func TestReplicaWithAnotherKey(t *testing.T) {
	address := testneed.Postgres(t)
	first := overPostgres(t, address)
	settings := first.settings()
	settings.Data = t.TempDir()
	settings.KeyFile = settings.Data + "/berth.key"
	if _, err := New(context.Background(), settings); err == nil || !strings.Contains(err.Error(), "is missing") || !strings.Contains(err.Error(), settings.KeyFile) {
		t.Errorf("without a key: %v", err)
	}
	other := newBench(t) // makes another key
	settings.KeyFile = other.settings().KeyFile
	if _, err := New(context.Background(), settings); err == nil || !strings.Contains(err.Error(), "is not the one") {
		t.Errorf("with another one: %v", err)
	}
}

// A backup that is put back as docs/operations.md says brings back everything but the sessions and access tokens, some of which
// may have been ended since.
func TestRestoredDumpEndsItsSessions(t *testing.T) {
	dump, psql := testneed.Command(t, "pg_dump"), testneed.Command(t, "psql")
	address := testneed.Postgres(t)
	b := overPostgres(t, address)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	file := t.TempDir() + "/berth.sql"
	if out, err := exec.Command(dump, "--no-owner", "--file="+file, address).CombinedOutput(); err != nil {
		t.Fatalf("pg_dump: %v: %s", err, out)
	}
	b.stop()
	b.begin(t)
	if alice.base = b.URL(); !alice.signedIn() {
		t.Error("a restart ended the session")
	}
	b.stop()

	restored := testneed.Postgres(t)
	if out, err := exec.Command(psql, "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction", "--file="+file, restored).CombinedOutput(); err != nil {
		t.Fatalf("psql: %v: %s", err, out)
	}
	b.change = func(s *config.Settings) { s.Database, s.StartTimeout = restored, 10*time.Second }
	b.begin(t)
	if alice.base = b.URL(); alice.signedIn() {
		t.Error("the restored session still opens the door")
	}
	alice.signIn(host, "alice@pve")
	b.stop()
	b.begin(t)
	if alice.base = b.URL(); !alice.signedIn() {
		t.Error("the next start over the restored database ended sessions again")
	}
}
