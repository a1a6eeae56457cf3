package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/internal/auth"
)

// schemaBefore takes a database back to before its last migration, as an older program left it.
func schemaBefore(t *testing.T, folder string) (newest int64) {
	t.Helper()
	on, err := sql.Open("sqlite", filepath.Join(folder, FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close()
	if err := on.QueryRow("SELECT MAX(version_id) FROM goose_db_version").Scan(&newest); err != nil {
		t.Fatal(err)
	}
	raw, err := sqliteMigrations.ReadFile("migrations/00005_transfer.sql")
	if err != nil || newest != 5 {
		t.Fatalf("the newest schema is %d, %v: this test takes back another one", newest, err)
	}
	_, down, _ := strings.Cut(string(raw), "-- +goose Down")
	if _, err := on.Exec(down + "; DELETE FROM goose_db_version WHERE version_id = 5"); err != nil {
		t.Fatal(err)
	}
	return newest
}

// Before its schema changes a copy of the database is kept beside it, for its owner alone; of those the last two.
func TestCopyIsKeptBeforeTheSchemaChanges(t *testing.T) {
	folder := t.TempDir()
	s := openTest(t, folder)
	h := newHost("pve.lan")
	if err := s.Admit(t.Context(), auth.Admission{Host: &h}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	copies := func() (names []string) {
		found, err := filepath.Glob(filepath.Join(folder, FileName+".before-*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			names = append(names, filepath.Base(f))
		}
		return names
	}
	if got := copies(); len(got) > 0 {
		t.Fatalf("copies of a new database: %v", got)
	}
	newest := schemaBefore(t, folder)
	for _, older := range []int64{newest - 2, newest - 1} {
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%s.before-%d", FileName, older)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = openTest(t, folder)
	if _, err := s.LoginHost(t.Context(), h.ID); err != nil {
		t.Error(err)
	}
	if got, want := fmt.Sprint(copies()), fmt.Sprintf("[%s.before-%d %s.before-%d]", FileName, newest-1, FileName, newest); got != want {
		t.Errorf("kept are %s, want %s", got, want)
	}
	kept := filepath.Join(folder, fmt.Sprintf("%s.before-%d", FileName, newest))
	if info, err := os.Stat(kept); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy: %v, %v", info.Mode(), err)
	}
	// Put back, it is the database of before.
	again := t.TempDir()
	if err := os.Rename(kept, filepath.Join(again, FileName)); err != nil {
		t.Fatal(err)
	}
	if _, err := openTest(t, again).LoginHost(context.Background(), h.ID); err != nil {
		t.Errorf("in the copy: %v", err)
	}
	s.Close()
	if openTest(t, folder).Close(); len(copies()) != 1 {
		t.Errorf("a start without a change of the schema kept a copy: %v", copies())
	}
}
