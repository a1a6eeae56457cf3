package app

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"berth/internal/pve/sim"
	"berth/internal/replicatest"
	"berth/internal/store"
	"berth/internal/testneed"
)

// A backup as docs/operations.md has it, made while Berth runs and put back into a folder on another machine: everything is
// there, and everybody signs in again.
func TestBackup(t *testing.T) {
	replicatest.Alone(t, replicatest.File)
	sqlite := testneed.Command(t, "sqlite3")
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	other := t.TempDir()
	backup := exec.CommandContext(t.Context(), sqlite, filepath.Join(b.folder, store.FileName), ".backup '"+filepath.Join(other, store.FileName)+"'")
	if out, err := backup.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	key, err := os.ReadFile(filepath.Join(b.folder, "berth.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "berth.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	b.stop()

	b.folder = other
	b.begin(t)
	if code := b.browser(t).do("GET", "/api/auth/session", "", "", "Cookie", "lxc-session="+alice.token()).StatusCode; code != http.StatusUnauthorized {
		t.Errorf("a session of before the restore: %d", code)
	}
	// The host is known, with its pin: nothing is asked to be confirmed.
	again := b.browser(t)
	in := input(host, "alice@pve")
	delete(in, "fingerprint")
	if r := again.json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-in after the restore: %d %s", r.StatusCode, r.body)
	}
	if r := again.get("/api/containers"); r.StatusCode != http.StatusOK || !strings.Contains(r.body, `"vmid"`) {
		t.Errorf("containers after the restore: %d %.200s", r.StatusCode, r.body)
	}
	if r := again.get("/api/audit"); r.StatusCode != http.StatusOK || strings.Count(r.body, `"action":"sign_in"`) < 2 {
		t.Errorf("the audit trail has not both sign-ins: %d %.500s", r.StatusCode, r.body)
	}
}
