package app

import (
	"database/sql"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/internal/pve/sim"
	"berth/internal/replicatest"
	"berth/internal/store"
)

// An older copy of the whole database, made while Berth did not run or while it did, brings back no session.
func TestAbuseRestoredDatabase(t *testing.T) {
	replicatest.Alone(t, replicatest.File)
	for name, running := range map[string]bool{"made before a start": false, "made while it ran": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			_, host := b.newHost(t, sim.Options{})
			browser := b.browser(t)
			browser.signIn(host, "alice@pve")
			token := browser.token()
			database, copied := filepath.Join(b.folder, store.FileName), filepath.Join(t.TempDir(), "copy.db")
			if !running {
				b.stop()
			}
			db, err := sql.Open("sqlite", "file:"+database+"?mode=ro")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.ExecContext(t.Context(), "VACUUM INTO ?", copied); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if !running {
				b.begin(t)
			}
			ask := func() int {
				t.Helper()
				return b.browser(t).do("GET", "/api/auth/session", "", "", "Cookie", "lxc-session="+token).StatusCode
			}
			if code := ask(); code != http.StatusOK {
				t.Fatalf("after an ordinary restart: %d", code)
			}
			if r := b.browser(t).do("POST", "/api/auth/logout", "application/json", "{}", "Cookie", "lxc-session="+token); r.StatusCode != http.StatusOK {
				t.Fatalf("sign-out: %d", r.StatusCode)
			}
			b.stop()
			text, err := os.ReadFile(copied)
			if err != nil {
				t.Fatal(err)
			}
			for _, rest := range []string{"-wal", "-shm"} {
				if err := os.Remove(database + rest); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(database, text, 0o600); err != nil {
				t.Fatal(err)
			}
			b.begin(t)
			if code := ask(); code != http.StatusUnauthorized {
				t.Errorf("after the database was put back: %d", code)
			}
			var told int
			err = b.count(t, &told, "SELECT COUNT(*) FROM audit WHERE action = 'session_end' AND detail LIKE '%older copy%'")
			if err != nil || told != 1 {
				t.Errorf("the trail tells it %d times, %v", told, err)
			}
			// It is told once; a session from then on survives a restart.
			browser = b.browser(t)
			browser.signIn(host, "alice@pve")
			token = browser.token()
			b.stop()
			b.begin(t)
			if code := ask(); code != http.StatusOK {
				t.Errorf("a session from afterwards: %d", code)
			}
		})
	}
}

// A database that is put back without the file beside it is taken for an older copy; a new one is not, whatever lies there.
func TestAbuseRestoredDatabaseAlone(t *testing.T) {
	replicatest.Alone(t, replicatest.File)
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	for _, text := range []string{"", "not a number\n"} {
		b.stop()
		file := filepath.Join(b.folder, epochFile)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if text != "" {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b.begin(t)
		browser.base = b.URL()
		if r := browser.get("/api/auth/session"); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("with %q beside it: %d", text, r.StatusCode)
		}
		browser = b.browser(t)
		browser.signIn(host, "alice@pve")
	}
	b.stop()
	files, err := filepath.Glob(filepath.Join(b.folder, store.FileName+"*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	b.begin(t)
	var told int
	if err := b.count(t, &told, "SELECT COUNT(*) FROM audit"); err != nil || told != 0 {
		t.Errorf("a new database was taken for an older copy: %d entries, %v", told, err)
	}
}

// copyFiles writes what is in the files of one folder into those of another, over what they have.
func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, f.Name()), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// An older copy of everything in the data folder brings back no session either, however it is put back.
func TestAbuseRestoredFolder(t *testing.T) {
	replicatest.Alone(t, replicatest.File)
	probe, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if id := fileIdentity(probe); !strings.Contains(id, "@") {
		t.Skipf("nothing tells a file from its copy here for sure: %q", id)
	}
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	for name, restore := range map[string]func(t *testing.T, b *bench, backup string){
		"elsewhere":           func(_ *testing.T, b *bench, backup string) { b.folder = backup },
		"into the same files": func(t *testing.T, b *bench, backup string) { copyFiles(t, backup, b.folder) },
		"in place of the folder": func(t *testing.T, b *bench, backup string) {
			if err := os.RemoveAll(b.folder); err != nil {
				t.Fatal(err)
			}
			copyFiles(t, backup, b.folder)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			_, host := b.newHost(t, sim.Options{})
			alice, root := b.browser(t), b.browser(t)
			alice.signIn(host, "alice@pve")
			root.signIn(host, "root@pam")
			ask := func(of *browser) int {
				t.Helper()
				return b.browser(t).do("GET", "/api/auth/session", "", "", "Cookie", "lxc-session="+of.token()).StatusCode
			}
			b.stop()
			backup := filepath.Join(t.TempDir(), "backup")
			copyFiles(t, b.folder, backup)
			// The original goes on, though it was moved and given to somebody else: that ends nothing.
			moved := b.folder + "-moved"
			if err := errors.Join(os.Rename(b.folder, moved), os.Chmod(filepath.Join(moved, epochFile), 0o400)); err != nil {
				t.Fatal(err)
			}
			b.folder = moved
			for range 3 {
				b.begin(t)
				if hers, others := ask(alice), ask(root); hers != http.StatusOK || others != http.StatusOK {
					t.Fatalf("after an ordinary restart: %d and %d", hers, others)
				}
				b.stop()
			}
			b.begin(t)
			if r := b.browser(t).do("POST", "/api/auth/logout", "application/json", "{}", "Cookie", "lxc-session="+alice.token()); r.StatusCode != http.StatusOK {
				t.Fatalf("sign-out: %d", r.StatusCode)
			}
			b.stop()
			restore(t, b, backup)
			b.begin(t)
			if hers, others := ask(alice), ask(root); hers != http.StatusUnauthorized || others != http.StatusUnauthorized {
				t.Errorf("after the folder was put back: the session that had ended %d, the other one %d", hers, others)
			}
			var told int
			err := b.count(t, &told, "SELECT COUNT(*) FROM audit WHERE action = 'session_end' AND detail LIKE 'the data folder is a copy%'")
			if err != nil || told != 1 {
				t.Errorf("the trail tells it %d times, %v", told, err)
			}
			// It is told once; a session from then on survives a restart.
			alice = b.browser(t)
			alice.signIn(host, "alice@pve")
			b.stop()
			b.begin(t)
			if code := ask(alice); code != http.StatusOK {
				t.Errorf("a session from afterwards: %d", code)
			}
		})
	}
}

// A program that was killed between the database and the file beside it, at its start or its end, goes on with its sessions.
func TestKilledBetweenEpochs(t *testing.T) {
	replicatest.Alone(t, replicatest.File)
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	token := browser.token()
	b.stop()
	for range 2 {
		s, err := store.Open(t.Context(), b.folder)
		if err != nil {
			t.Fatal(err)
		}
		killed := errors.New("killed")
		err = replaceEpoch(filepath.Join(b.folder, epochFile), func(next string) (int64, error) {
			mark, err := readEpoch(filepath.Join(b.folder, epochFile))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.EndEpoch(t.Context(), mark.File, next); err != nil {
				t.Fatal(err)
			}
			return 0, killed
		})
		if !errors.Is(err, killed) {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		b.begin(t)
		if r := b.browser(t).do("GET", "/api/auth/session", "", "", "Cookie", "lxc-session="+token); r.StatusCode != http.StatusOK {
			t.Errorf("%d", r.StatusCode)
		}
		b.stop()
	}
}

// count asks the database itself.
func (b *bench) count(t *testing.T, into *int, query string) error {
	t.Helper()
	driver, source := "sqlite", "file:"+filepath.Join(b.folder, store.FileName)+"?mode=ro"
	if b.common != nil {
		driver, source = "pgx", b.common.Database
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.QueryRowContext(t.Context(), query).Scan(into)
}
