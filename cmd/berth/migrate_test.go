package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/store"
	"berth/internal/testneed"
)

// A move that is killed again and again comes to its end all the same, with everything and nothing twice; then Berth serves
// from the new database with the key of before, and with no other one.
func TestMigrateIsKilledAndGoesOn(t *testing.T) {
	t.Parallel()
	data, server := t.TempDir(), testneed.Postgres(t)
	s := serveWith(t, nil, "--listen", "127.0.0.1:0", "--data", data)
	s.stop()
	db, err := store.Open(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	const entries = 10_000
	batch := make([]audit.Entry, entries)
	for i := range batch {
		batch[i] = audit.Entry{At: time.Unix(int64(i), 0), Action: audit.SignIn, Result: audit.OK, Detail: fmt.Sprint("entry ", i), Count: 1}
	}
	if err := db.AddEntries(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	env := []string{"BERTH_MIGRATE_FROM=sqlite:" + data, "BERTH_MIGRATE_TO=" + server}
	seed := rand.New(rand.NewPCG(1, 2))
	for i := range 20 {
		p := start(t, env, "migrate")
		// At least one batch more than the time before, so that it comes to an end; the rest of the instant is chance.
		p.await(p.out, `audit: \d+ rows copied|hold the same`) // nothing may be left to copy
		time.Sleep(time.Duration(seed.IntN(20)) * time.Millisecond)
		if err := p.cmd.Process.Kill(); err != nil && !strings.Contains(err.Error(), "finished") {
			t.Fatal(err)
		}
		<-p.ended
		if p.code == 0 {
			t.Logf("it came to its end at the attempt %d", i+1)
			break
		}
		if i == 3 {
			said := refused(t, []string{"BERTH_DATABASE=" + server}, "serve", "--listen", "127.0.0.1:0", "--data", data)
			if !strings.Contains(said, "berth migrate has not finished") {
				t.Errorf("served from a half: %q", said)
			}
		}
	}
	switch p := start(t, env, "migrate"); {
	case p.end() == 0:
	case !strings.Contains(p.err.String(), "is not empty"): // where one of those above came to its end
		t.Fatalf("it does not come to its end: %s", p.err)
	}
	moved, err := store.OpenServer(t.Context(), server, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer moved.Close()
	// A page at a time: a statement has two seconds, and the machine may be busy.
	arrived, page := 0, audit.Selection{}
	for {
		got, err := moved.Entries(t.Context(), page, 500)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			break
		}
		arrived, page.Before = arrived+len(got), got[len(got)-1].ID
	}
	if arrived != entries {
		t.Errorf("%d entries of nobody, want %d", arrived, entries)
	}
	if said := refused(t, []string{"BERTH_DATABASE=" + server}, "serve", "--listen", "127.0.0.1:0", "--data", t.TempDir()); !strings.Contains(said, "key file") {
		t.Errorf("without the key: %q", said)
	}
	served := serveWith(t, []string{"BERTH_DATABASE=" + server}, "--listen", "127.0.0.1:0", "--data", data)
	served.stop()
}

// What can't be right is refused before anything is opened, and no password is repeated.
func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		from, to, want string
		status         int
	}{
		{"berth.db", "sqlite:/tmp/x", "--from (BERTH_MIGRATE_FROM)", statusFailed},
		{"sqlite:/tmp/x", "mysql://root:hunter2@db/berth", "--to (BERTH_MIGRATE_TO)", statusFailed},
		{"sqlite:/tmp/x", "sqlite:/tmp/x/berth.db", "the same database", statusFailed},
		{"sqlite:" + t.TempDir(), "postgres://berth:hunter2@127.0.0.1:1/berth", "there is no ", statusFailed},
	} {
		said := ends(t, test.status, nil, "migrate", "--from", test.from, "--to", test.to)
		if !oneSentence(said, test.want) || strings.Contains(said, "hunter2") {
			t.Errorf("%s to %s: %q", test.from, test.to, said)
		}
	}
}

// A move names the server that does not answer, and shows no password, not even one that is written as it must not be.
func TestMigrateNamesWhatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	serveWith(t, nil, "--listen", "127.0.0.1:0", "--data", data).stop()
	for server, want := range map[string]string{
		"postgres://berth:hunter2@127.0.0.1:1/berth":      "database berth at 127.0.0.1:1: it does not answer",
		"postgres://berth:an@hunter2/x@127.0.0.1:1/berth": "--to (BERTH_MIGRATE_TO)",
	} {
		said := ends(t, statusFailed, nil, "migrate", "--from", "sqlite:"+data, "--to", server)
		if !strings.Contains(said, want) || strings.Contains(said, "hunter2") {
			t.Errorf("%q, want %q", said, want)
		}
	}
}

// A start waits for a server that does not answer, and not longer than it is told.
func TestServeWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	password := t.TempDir() + "/database"
	if err := os.WriteFile(password, []byte("postgres://berth:hunter2@127.0.0.1:1/berth\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{"BERTH_DATABASE_FILE=" + password}, "serve", "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--start-timeout", "2s")
	p.await(p.err, `(the database does not answer)`)
	if code := p.end(); code != 1 || !strings.Contains(p.err.String(), "did not answer within 2s") || strings.Contains(p.err.String(), "hunter2") {
		t.Errorf("status %d: %s", code, p.err)
	}
	for _, args := range [][]string{
		{"--database", "mysql://root:hunter2@db/berth"}, {"--database", "postgres://berth:hunter2@db.lan"}, {"--database", "postgres://berth:an@hunter2/x@db.lan/berth"}, {"--database-file", password, "--database", "postgres://db/berth"},
	} {
		said := ends(t, statusFailed, nil, append([]string{"serve"}, args...)...)
		if !oneSentence(said, "(BERTH_DATABASE") || strings.Contains(said, "hunter2") {
			t.Errorf("%v: %q", args, said)
		}
	}
}

// A program that is killed while it makes the schema leaves a database in which the next start goes on.
func TestServeIsKilledWhileItMakesTheSchema(t *testing.T) {
	t.Parallel()
	for name, database := range map[string]func(t *testing.T) string{
		"SQLite":     func(*testing.T) string { return "" },
		"PostgreSQL": func(t *testing.T) string { return testneed.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := rand.New(rand.NewPCG(3, 4))
			early := 0
			for range 20 {
				env, data := []string{"BERTH_DATABASE=" + database(t)}, t.TempDir()
				p := start(t, env, "serve", "--listen", "127.0.0.1:0", "--data", data)
				time.Sleep(time.Duration(seed.IntN(200)) * time.Millisecond)
				if err := p.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				<-p.ended
				if !strings.Contains(p.err.String(), "Berth is ready") {
					early++
				}
				again := serveWith(t, env, "--listen", "127.0.0.1:0", "--data", data)
				again.stop()
			}
			if early == 0 {
				t.Log("every one had been ready before it was killed")
			}
		})
	}
}
