package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/session/sessiontest"
	"berth/internal/testneed"
)

func openTest(t *testing.T, folder string) *Store {
	t.Helper()
	s, err := Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newHost(name string) auth.LoginHost {
	key := pve.KeyPin{1, 2, 3}
	return auth.LoginHost{
		ID: "h-" + rand.Text(), Datacenter: "d-" + rand.Text(), Address: pve.Address{Host: name, Port: 8006},
		Key: &key, Fingerprint: pve.Fingerprint{9, 8, 7}, Created: at,
	}
}

func TestSessionContract(t *testing.T) {
	suite(t, func(t *testing.T, fresh func(t *testing.T) *Store) {
		sessiontest.Contract(t, func(t *testing.T) sessiontest.Fixture {
			s := fresh(t)
			return sessiontest.Fixture{Store: s, NewHost: func(t *testing.T) (string, string) {
				h := newHost(rand.Text() + ".lan")
				if err := s.Admit(t.Context(), auth.Admission{Host: &h}); err != nil {
					t.Fatal(err)
				}
				return h.Datacenter, h.ID
			}}
		})
	})
}

func TestLoginHosts(t *testing.T) {
	onEngines(t, func(t *testing.T, open func(*testing.T) *Store) {
		ctx := t.Context()
		s := open(t)
		pinned, byRoots := newHost("pve.lan"), newHost("10.0.0.2")
		byRoots.Key = nil
		for _, h := range []auth.LoginHost{pinned, byRoots} {
			if err := s.Admit(ctx, auth.Admission{Host: &h}); err != nil {
				t.Fatal(err)
			}
			if got, err := s.LoginHostAt(ctx, h.Address); err != nil || !reflect.DeepEqual(got, h) {
				t.Errorf("by address: %+v, %v; want %+v", got, err, h)
			}
			if got, err := s.LoginHost(ctx, h.ID); err != nil || !reflect.DeepEqual(got, h) {
				t.Errorf("by id: %+v, %v; want %+v", got, err, h)
			}
		}
		if _, err := s.LoginHostAt(ctx, pve.Address{Host: "pve.lan", Port: 8007}); !errors.Is(err, auth.ErrNoHost) {
			t.Errorf("another port: %v, want ErrNoHost", err)
		}
		if _, err := s.LoginHost(ctx, "nobody"); !errors.Is(err, auth.ErrNoHost) {
			t.Errorf("another id: %v, want ErrNoHost", err)
		}
		again := newHost("pve.lan")
		if err := s.Admit(ctx, auth.Admission{Host: &again}); !errors.Is(err, auth.ErrHostKnown) {
			t.Errorf("the same address again: %v, want ErrHostKnown", err)
		}
		key, shown := pve.KeyPin{4}, pve.Fingerprint{5}
		if err := s.PinHost(ctx, pinned.ID, &key, shown); err != nil {
			t.Fatal(err)
		}
		if got, err := s.LoginHost(ctx, pinned.ID); err != nil || *got.Key != key || got.Fingerprint != shown {
			t.Errorf("after a new pin: %+v, %v", got, err)
		}
		renewed := pve.Fingerprint{6}
		for _, host := range []struct {
			auth.LoginHost
			key  *pve.KeyPin
			want pve.Fingerprint
		}{{pinned, pinned.Key, shown}, {pinned, nil, shown}, {pinned, &key, renewed}, {byRoots, &key, byRoots.Fingerprint}, {byRoots, nil, renewed}} {
			if err := s.NoteCertificate(ctx, host.ID, host.key, renewed); err != nil {
				t.Fatal(err)
			}
			if got, err := s.LoginHost(ctx, host.ID); err != nil || got.Fingerprint != host.want {
				t.Errorf("noted under %v: %v, %v; want %v", host.key, got.Fingerprint, err, host.want)
			}
		}
		if err := s.PinHost(ctx, "nobody", &key, shown); !errors.Is(err, auth.ErrNoHost) {
			t.Errorf("pin of nobody: %v, want ErrNoHost", err)
		}
	})
}

// A host, its datacenter and the first session there appear together or not at all.
func TestAdmitHostIsOneStep(t *testing.T) {
	onEngines(t, func(t *testing.T, open func(*testing.T) *Store) {
		ctx := t.Context()
		s := open(t)
		h := newHost("pve.lan")
		broken := session.Record{Session: session.Session{LoginHost: "no such host", Identity: session.Identity{Datacenter: h.Datacenter}}}
		if err := s.Admit(ctx, auth.Admission{Host: &h, Session: &broken}); err == nil {
			t.Fatal("a session of an unknown host was stored")
		}
		if _, err := s.LoginHostAt(ctx, h.Address); !errors.Is(err, auth.ErrNoHost) {
			t.Errorf("the host was left behind: %v", err)
		}
		var wg sync.WaitGroup
		won := make(chan string, 10)
		for range 10 {
			wg.Go(func() {
				mine := newHost("pve.lan")
				switch err := s.Admit(ctx, auth.Admission{Host: &mine}); {
				case err == nil:
					won <- mine.ID
				case !errors.Is(err, auth.ErrHostKnown):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Errorf("%d admitted the same address, want 1", len(won))
		}
	})
}

func TestReopenKeepsEverything(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "odd name? #1 %20")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	first := openTest(t, folder)
	h := newHost("pve.lan")
	if err := first.Admit(t.Context(), auth.Admission{Host: &h}); err != nil {
		t.Fatal(err)
	}
	if check, err := first.KeyCheck(t.Context()); err != nil || check != nil {
		t.Errorf("key check of a new database: %v, %v; want none", check, err)
	}
	if err := first.CreateInstallation(t.Context(), at, []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again := openTest(t, folder)
	if _, err := again.LoginHost(t.Context(), h.ID); err != nil {
		t.Error(err)
	}
	if check, err := again.KeyCheck(t.Context()); err != nil || !bytes.Equal(check, []byte("sealed")) {
		t.Errorf("key check: %q, %v", check, err)
	}
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %v, %v", f.Name(), info.Mode(), err)
		}
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	const later = "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)"
	refuses := func(t *testing.T, s *Store, again func() (*Store, error)) {
		if _, err := s.writer.ExecContext(t.Context(), later); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if _, err := again(); err == nil || !strings.Contains(err.Error(), "newer version of Berth") || !strings.Contains(err.Error(), "schema 9999") {
			t.Errorf("%v, want one that says a newer version wrote it", err)
		}
	}
	t.Run("SQLite", func(t *testing.T) {
		folder := t.TempDir()
		refuses(t, openTest(t, folder), func() (*Store, error) { return Open(context.Background(), folder) })
		if copies, err := filepath.Glob(filepath.Join(folder, "*before*")); err != nil || len(copies) > 0 {
			t.Errorf("it left %v behind, %v", copies, err)
		}
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		address := testneed.Postgres(t)
		refuses(t, openServerTest(t, address), func() (*Store, error) { return OpenServer(context.Background(), address, time.Minute) })
	})
}

func TestVersionTellsOtherProcessesChanges(t *testing.T) {
	onEngines(t, func(t *testing.T, open func(*testing.T) *Store) {
		mine, other := open(t), open(t)
		version := func() int64 {
			t.Helper()
			v, err := mine.Version(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		first := version()
		h := newHost("mine.lan")
		if err := mine.Admit(t.Context(), auth.Admission{Host: &h}); err != nil {
			t.Fatal(err)
		}
		if got := version(); got != first {
			t.Errorf("after a change of our own: %d, want %d", got, first)
		}
		h = newHost("other.lan")
		if err := other.Admit(t.Context(), auth.Admission{Host: &h}); err != nil {
			t.Fatal(err)
		}
		// A server tells of it by itself, and nearly at once.
		for until := time.Now().Add(10 * time.Second); version() == first; {
			if time.Now().After(until) {
				t.Fatal("another process's change was not noticed")
			}
		}
	})
}

// Once an installation is claimed a visitor brings no new host, be it that the question was asked before somebody else's
// claim. Owners, the operator, and a policy that takes strangers go on adding them.
func TestClaimedInstallationTakesNoNewHost(t *testing.T) {
	onEngines(t, func(t *testing.T, open func(*testing.T) *Store) {
		ctx := t.Context()
		s := open(t)
		if err := s.CreateInstallation(ctx, at, []byte("check")); err != nil {
			t.Fatal(err)
		}
		first := newHost("first.lan")
		if err := s.Admit(ctx, auth.Admission{Host: &first, Claims: first.Datacenter}); err != nil {
			t.Fatal(err)
		}
		admit := func(name string, stranger bool) error {
			h := newHost(name)
			r := session.Record{Session: session.Session{
				Hash: session.Hash{byte(len(name))}, LoginHost: h.ID, Identity: session.Identity{Datacenter: h.Datacenter, UserID: "m@pve"},
			}}
			r.Secret = []byte("sealed")
			return s.Admit(ctx, auth.Admission{Host: &h, Session: &r, Stranger: stranger})
		}
		if err := admit("late.lan", false); !errors.Is(err, auth.ErrClaimed) {
			t.Errorf("a visitor's new host: %v, want ErrClaimed", err)
		}
		if hosts, err := s.LoginHosts(ctx); err != nil || len(hosts) != 1 {
			t.Errorf("%d login hosts, %v", len(hosts), err)
		}
		if err := admit("stranger.lan", true); err != nil {
			t.Errorf("a stranger's host where the policy takes them: %v", err)
		}
		added := newHost("added.lan")
		if err := s.Admit(ctx, auth.Admission{Host: &added}); err != nil {
			t.Errorf("the operator's host: %v", err)
		}
	})
}
