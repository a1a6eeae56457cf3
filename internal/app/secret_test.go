package app

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/pve/sim"
	"berth/internal/replicatest"
	"berth/internal/seal"
	"berth/internal/session"
	"berth/internal/store"
)

// sessionTicket is the Proxmox ticket that a browser's session holds.
func (b *bench) sessionTicket(t *testing.T, browser *browser) pve.Ticket {
	t.Helper()
	hash, ok := session.HashToken(browser.token())
	if !ok {
		t.Fatal("the browser has no token")
	}
	var held pve.Ticket
	err := b.sessions.Call(t.Context(), hash, func(_ context.Context, ticket pve.Ticket) error {
		held = ticket
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// signInTwice signs in with a second factor, and returns the code.
func (b *bench) signInTwice(t *testing.T, browser *browser, h *sim.Host) string {
	t.Helper()
	first := browser.json("/api/auth/login", input(h, "bob@pve")).json(t)
	tfa, ok := first["tfa"].(map[string]any)
	if !ok {
		t.Fatalf("first step: %v", first)
	}
	code := sim.TOTP(sim.DefaultTOTPSecret, b.now())
	r := browser.json("/api/auth/tfa", map[string]any{"challenge": tfa["challenge"], "kind": "totp", "code": code})
	if r.StatusCode != http.StatusOK {
		t.Fatalf("second step: %d %s", r.StatusCode, r.body)
	}
	return code
}

// folderFiles are all files in the data folder but the key, by name.
func (b *bench) folderFiles(t *testing.T) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(b.folder)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if e.Name() == "berth.key" {
			continue
		}
		if files[e.Name()], err = os.ReadFile(filepath.Join(b.folder, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// Whoever copies the data folder without the key learns who signed in where, and nothing to sign in or call with.
func TestAbuseCopiedDatabaseRevealsNoSecret(t *testing.T) {
	replicatest.Alone(t, replicatest.File)
	b := newBenchWith(t, func(s *config.Settings) {
		claimed(s)
		s.Hosts = []string{"berth.example.org"} // strangers can reach it, so there is a claim code
	})
	_, host := b.newHost(t, sim.Options{})
	secrets := map[string]string{"password": sim.DefaultPassword}
	var err error
	if secrets["claim code"], err = b.ClaimCode(t.Context()); err != nil {
		t.Fatal(err)
	}
	look := func(when string) {
		t.Helper()
		found := false
		for name, content := range b.folderFiles(t) {
			found = found || bytes.Contains(content, []byte("alice@pve"))
			for what, secret := range secrets {
				if secret == "" {
					t.Fatalf("there is no %s to look for", what)
				}
				for form, text := range map[string]string{
					"as it is": secret, "in Base64": base64.StdEncoding.EncodeToString([]byte(secret)), "in hexadecimal": hex.EncodeToString([]byte(secret)),
				} {
					if bytes.Contains(content, []byte(text)) {
						t.Errorf("%s, %s holds the %s %s", when, name, what, form)
					}
				}
			}
		}
		if when != "unclaimed" && !found {
			t.Errorf("%s, no file names alice@pve, so that this test could not fail", when)
		}
	}
	look("unclaimed")

	alice, bob := b.browser(t), b.browser(t)
	wrong := input(host, "alice@pve")
	wrong["password"], wrong["claimCode"] = "not-her-password", secrets["claim code"]
	if r := alice.json("/api/auth/login", wrong); r.StatusCode != http.StatusUnauthorized {
		t.Fatalf("a wrong password: %d %s", r.StatusCode, r.body)
	}
	secrets["wrong password"] = "not-her-password"
	in := input(host, "alice@pve")
	in["claimCode"] = secrets["claim code"]
	if r := alice.json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-in: %d %s", r.StatusCode, r.body)
	}
	secrets["TOTP code"] = b.signInTwice(t, bob, host)
	add := func(who string, browser *browser) {
		ticket := b.sessionTicket(t, browser)
		_, signature, _ := strings.Cut(ticket.Value, "::")
		secrets["token of "+who], secrets["ticket of "+who], secrets["CSRF token of "+who] = browser.token(), ticket.Value, ticket.CSRF
		secrets["signature of the ticket of "+who] = signature
	}
	add("alice", alice)
	add("bob", bob)
	look("after the sign-ins")
	if _, err := os.Stat(filepath.Join(b.folder, "berth.db-wal")); err != nil {
		t.Errorf("the write-ahead log was not looked at: %v", err)
	}

	b.advance(session.RenewAfter + time.Minute)
	for _, browser := range []*browser{alice, bob} {
		if r := browser.get("/api/containers"); r.StatusCode != http.StatusOK {
			t.Fatalf("list: %d %s", r.StatusCode, r.body)
		}
	}
	old := secrets["ticket of alice"]
	add("renewed alice", alice)
	if secrets["ticket of renewed alice"] == old {
		t.Fatal("the ticket was not renewed")
	}
	look("after a renewal")
	b.stop()
	look("after the end")
}

func TestDataFolderIsPrivate(t *testing.T) {
	b := newBenchWith(t, func(s *config.Settings) {
		s.SelfTLS, s.Data, s.KeyFile = true, s.Data+"/new/berth", s.Data+"/new/berth/berth.key"
	})
	found := 0
	err := filepath.WalkDir(filepath.Join(b.folder, "new"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		} else {
			found++
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	want := 4 // the database, its log, key and certificate
	if b.common != nil {
		want = 2
	}
	if err != nil || found < want {
		t.Errorf("%d files, %v; want %d", found, err, want)
	}
}

// A database that can't be reached signs nobody out.
func TestStoreDownIsNoSignOut(t *testing.T) {
	replicatest.Alone(t, replicatest.Own)
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	token := browser.token()
	b.stop()
	b.begin(t) // what was in memory is gone
	browser.base = b.URL()
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/api/containers", "/api/auth/session", "/readyz"} {
		r := browser.get(path)
		if r.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s, want 503", path, r.StatusCode, r.body)
		}
		if len(r.Cookies()) != 0 {
			t.Errorf("%s: sets cookies %v", path, r.Cookies())
		}
		if strings.Contains(r.body, "sql") || strings.Contains(r.body, b.folder) {
			t.Errorf("%s tells the cause: %s", path, r.body)
		}
	}
	if r := browser.get("/healthz"); r.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %d, want 200: the process lives", r.StatusCode)
	}
	for path, r := range map[string]reply{
		"/api/auth/login":  browser.json("/api/auth/login", input(host, "alice@pve")),
		"/api/auth/logout": browser.json("/api/auth/logout", struct{}{}),
		"/logout":          browser.form("/logout", nil),
	} {
		if r.StatusCode != http.StatusServiceUnavailable || len(r.Cookies()) != 0 {
			t.Errorf("%s: %d %s, cookies %v; want 503 and none", path, r.StatusCode, r.body, r.Cookies())
		}
	}
	if browser.token() != token {
		t.Error("the browser has lost its cookie")
	}
	b.stop()
	b.begin(t)
	browser.base = b.URL()
	if !browser.signedIn() {
		t.Error("the session is gone when the store is back")
	}
	if r := browser.get("/readyz"); r.StatusCode != http.StatusOK {
		t.Errorf("/readyz: %d", r.StatusCode)
	}
}

// A ciphertext of one column does not pass for that of the other.
func TestAbuseSwappedSecretsOfTheInstallation(t *testing.T) {
	b := newBenchWith(t, func(s *config.Settings) {
		claimed(s)
		s.Hosts = []string{"berth.example.org"}
	})
	_, host := b.newHost(t, sim.Options{})
	code, err := b.ClaimCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sealed := map[string][]byte{}
	place := func(column string) seal.Place { return seal.Place{Table: "installation", Column: column, Row: "1"} }
	err = b.store.Sealed(t.Context(), func(at seal.Place, s []byte) error {
		sealed[at.Column] = s
		return nil
	})
	if err != nil || len(sealed) != 2 {
		t.Fatalf("sealed %v, %v", sealed, err)
	}
	for from, to := range map[string]string{"key_check": "claim_code", "claim_code": "key_check"} {
		if err := b.store.Reseal(t.Context(), place(to), sealed[to], sealed[from]); err != nil {
			t.Fatal(err)
		}
	}
	for _, given := range []string{code, keyCheck} {
		in := input(host, "root@pam")
		in["claimCode"] = given
		if r := b.browser(t).json("/api/auth/login", in); r.StatusCode == http.StatusOK || len(host.Requests()) != 0 {
			t.Errorf("with %q: %d %s, and the host got %d requests", given, r.StatusCode, r.body, len(host.Requests()))
		}
	}
	b.stop()
	if a, err := New(t.Context(), b.settings()); err == nil || !strings.Contains(err.Error(), "is not the one") {
		if err == nil {
			_ = a.Close() // it should not have started
		}
		t.Errorf("a start with the swapped key check: %v", err)
	}
}

func TestRotateKeyIsInTheTrail(t *testing.T) {
	b := newBenchWith(t, func(s *config.Settings) {
		claimed(s)
		s.Hosts = []string{"berth.example.org"}
	})
	_, host := b.newHost(t, sim.Options{})
	code, err := b.ClaimCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	operator, err := Operate(t.Context(), b.settings())
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	before, err := operator.Keys()
	if err != nil || len(before) != 1 {
		t.Fatalf("keys %v, %v", before, err)
	}
	r, err := operator.RotateKey(t.Context())
	if err != nil || r.Resealed != 2 || r.Unreadable != 0 { // the key check and the claim code
		t.Fatalf("%+v, %v", r, err)
	}
	// The claim code is the same, and works.
	if again, err := b.ClaimCode(t.Context()); err != nil || again != code {
		t.Errorf("claim code %q, %v; want %q", again, err, code)
	}
	in := input(host, "root@pam")
	in["claimCode"] = code
	if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Errorf("sign-in with the claim code: %d %s", r.StatusCode, r.body)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := operator.RotateKey(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}

	entries, err := b.store.Entries(t.Context(), audit.Selection{Shared: true}, 100)
	if err != nil {
		t.Fatal(err)
	}
	found := map[audit.Action]string{}
	for _, e := range entries {
		if e.Action.Category() == audit.CategoryKey {
			found[e.Action] += e.Target + " " + string(e.Result) + ";"
		}
	}
	if found[audit.KeyRotate] != r.Key+" ok;" || found[audit.KeyRetire] != before[0].ID+" ok;" {
		t.Errorf("trail %v, want the rotation to %s and the end of %s", found, r.Key, before[0].ID)
	}
}

// A folder that exists keeps its mode, and the operator is told; a database that is put back with a wide mode loses it.
func TestExistingFilesOfOthersEyes(t *testing.T) {
	replicatest.Alone(t, replicatest.File)
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	b := newBench(t)
	b.stop()
	database := filepath.Join(b.folder, store.FileName)
	if err := errors.Join(os.Chmod(b.folder, 0o755), os.Chmod(database, 0o644)); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&text, nil)))
	b.begin(t)
	b.stop() // whatever it has to say was said
	slog.SetDefault(before)
	if strings.Count(text.String(), "look into the data folder") != 1 {
		t.Errorf("the log: %q", text.String())
	}
	for path, want := range map[string]fs.FileMode{b.folder: 0o755, database: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %04o", path, info.Mode(), err, want)
		}
	}
}
