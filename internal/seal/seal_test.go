package seal

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSealedSecretOpensInItsPlaceOnly(t *testing.T) {
	sealer, err := Create(filepath.Join(t.TempDir(), "berth.key"))
	if err != nil {
		t.Fatal(err)
	}
	home := Place{Table: "session", Column: "secret", Row: "a"}
	sealed, err := sealer.Seal([]byte("a ticket"), home)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("ticket")) {
		t.Error("the sealed text shows the secret")
	}
	if secret, err := sealer.Open(sealed, home); err != nil || string(secret) != "a ticket" {
		t.Errorf("opened in its place: %q, %v", secret, err)
	}
	for name, place := range map[string]Place{
		"another row":       {Table: "session", Column: "secret", Row: "b"},
		"another column":    {Table: "session", Column: "other", Row: "a"},
		"another table":     {Table: "node", Column: "secret", Row: "a"},
		"a moved boundary":  {Table: "sessions", Column: "ecret", Row: "a"},
		"an empty row name": {Table: "session", Column: "secret"},
	} {
		if _, err := sealer.Open(sealed, place); err == nil {
			t.Errorf("%s: the secret opened", name)
		}
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "berth.key")
	if _, err := Load(path); !Missing(err) {
		t.Fatalf("no key file: %v, want one that Missing recognises", err)
	}
	first, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, %v, want mode 0600", info.Mode(), err)
	}
	if _, err := Create(path); err == nil {
		t.Error("a second key replaced the first")
	}
	place := Place{Table: "t", Column: "c", Row: "r"}
	sealed, err := first.Seal([]byte("x"), place)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Open(sealed, place); err != nil {
		t.Errorf("the loaded key does not open what was sealed before: %v", err)
	}
	other, err := Create(filepath.Join(dir, "other.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Open(sealed, place); err == nil {
		t.Error("another key opened the secret")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*.key-*")); len(left) != 0 {
		t.Errorf("drafts left behind: %v", left)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open.key")
	if _, err := Create(open); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(dir, "garbage.key")
	if err := os.WriteFile(garbage, []byte(`{"primaryKeyId": 1, "hunter2"`), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{open: "chmod 600", garbage: "no usable key", dir: "not a regular file"} {
		_, err := Load(path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want one that names the file and says %q", path, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error quotes the file: %v", err)
		}
	}
}
