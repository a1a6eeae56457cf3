package outage

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/internal/redis/redistest"
)

// next is the program's next version, which brings one more migration: a column that those of before don't know, and a table.
type next struct {
	binary string
	schema int // its newest migration
}

// built is the next version, once it is.
var built next

// buildNext builds it from a copy of this module, once for all tests.
func buildNext(t *testing.T) next {
	t.Helper()
	if built.binary != "" {
		return built
	}
	folder := filepath.Join(filepath.Dir(binary), "next")
	const root = "../.."
	for _, part := range []string{"cmd", "internal", "go.mod", "go.sum"} {
		err := filepath.WalkDir(filepath.Join(root, part), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			below, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			to := filepath.Join(folder, below)
			switch {
			case entry.IsDir():
				return os.MkdirAll(to, 0o755)
			case !entry.Type().IsRegular() || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(to, text, 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	migrations, err := filepath.Glob(filepath.Join(root, "internal/store/migrations/*.sql"))
	if err != nil || len(migrations) == 0 {
		t.Fatalf("%d migrations, %v", len(migrations), err)
	}
	newest, _, _ := strings.Cut(filepath.Base(slices.Max(migrations)), "_")
	n := next{binary: filepath.Join(folder, "berth")}
	if n.schema, err = strconv.Atoi(newest); err != nil {
		t.Fatal(err)
	}
	n.schema++
	const migration = `-- +goose Up
ALTER TABLE operation ADD COLUMN note TEXT NOT NULL DEFAULT 'none';
CREATE TABLE novelty (id BIGINT PRIMARY KEY);

-- +goose Down
DROP TABLE novelty;
ALTER TABLE operation DROP COLUMN note;
`
	for _, dialect := range []string{"", "postgres"} {
		file := filepath.Join(folder, "internal/store/migrations", dialect, fmt.Sprintf("%05d_novelty.sql", n.schema))
		if err := os.WriteFile(file, []byte(migration), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := build(folder, n.binary).CombinedOutput(); err != nil {
		t.Fatalf("build the next version: %v\n%s", err, out)
	}
	built = n
	return n
}

// newer is what a program says that is older than a database's schema.
func (n next) newer() string {
	return fmt.Sprintf("it was written by a newer version of Berth (schema %d, this program knows %d)", n.schema, n.schema-1)
}

// refused starts a program that must end by itself, and say why.
func (w *world) refused(program, want string, env ...string) {
	w.t.Helper()
	p := start(w.t, program, append(w.settings(), env...), "serve", "--listen", "127.0.0.1:0")
	if code := p.end(w.t); code != 1 || !strings.Contains(p.log.String(), want) {
		w.t.Errorf("status %d, want 1 and %q\n%s", code, want, p.log.String())
	}
}

// The next version is started beside the old one, over the same PostgreSQL and Redis, while everybody uses what there is: it
// changes the schema, both serve over it, each knows what the other does, and then the old ones end, in good order. Nobody notices,
// and an old one does not start any more.
func TestRollingUpdate(t *testing.T) {
	random := seeded(t)
	next := buildNext(t)
	postgres, redis := startServer(t), redistest.Start(t)
	w := newWorld(t, "BERTH_DATABASE="+postgres.url("postgres"), "BERTH_REDIS="+redis.URL())
	old := []*replica{w.begin(binary), w.begin(binary)}
	w.everybodySignsIn()
	end := w.load(random, 6)
	fresh := w.begin(next.binary)

	database := w.openServer(postgres.url("postgres"))
	var schema int
	query(w, database, "SELECT MAX(version_id) FROM goose_db_version", func(rows *sql.Rows) error { return rows.Scan(&schema) })
	if schema != next.schema {
		t.Fatalf("the schema is %d, want %d", schema, next.schema)
	}
	w.refused(binary, next.newer(), "BERTH_DATA="+t.TempDir())

	// Side by side: signed in on one, acting on the other, and watching on both.
	for i, pair := range [][2]*replica{{old[0], fresh}, {fresh, old[1]}} {
		p := w.people[i]
		vmid := p.vmids[10]
		if got := p.signIn(pair[0]); got.status != http.StatusOK {
			t.Fatalf("sign-in %d: %d %s %v", i, got.status, got.body, got.err)
		}
		streams := []<-chan string{p.watch(pair[0]), p.watch(pair[1])}
		if got := p.change(pair[1], vmid, "start"); got.status != http.StatusOK {
			t.Errorf("a change on the other one: %d %s", got.status, got.body)
		}
		for k, stream := range streams {
			await(t, fmt.Sprintf("the start on stream %d of %d", k, i), stream, strconv.Itoa(vmid))
		}
	}
	time.Sleep(upTo(random, time.Second))
	for i, r := range old {
		r.leave()
		if i == 0 {
			w.begin(next.binary)
		}
		w.settled()
		w.everybodyStayed()
	}
	end()
	w.refused(binary, next.newer(), "BERTH_DATA="+t.TempDir())
	w.balance(database, redis)
	query(w, database, "SELECT COUNT(*) FROM operation WHERE note <> 'none'", func(rows *sql.Rows) error {
		var others int
		if err := rows.Scan(&others); err != nil {
			return err
		}
		if others > 0 {
			t.Errorf("%d operations have something in the column that nobody writes", others)
		}
		return nil
	})
}

// leave ends a replica as a load balancer's rolling update does: nothing is sent to it any more, then it is told to end.
func (r *replica) leave() {
	r.w.t.Helper()
	r.w.mu.Lock()
	r.w.replicas = slices.DeleteFunc(r.w.replicas, func(other *replica) bool { return other == r })
	r.w.mu.Unlock()
	r.mu.Lock()
	p := r.process
	r.leaving = true
	r.mu.Unlock()
	p.stop(r.w.t) // requests that it has taken come to their end, and ask says if not
}

// watch opens an event stream and returns what comes on it, once it has begun.
func (p *person) watch(r *replica) <-chan string {
	p.w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p.w.t.Cleanup(cancel)
	url, _ := r.at()
	request, err := http.NewRequestWithContext(ctx, "GET", url+"/api/events", nil)
	if err != nil {
		p.w.t.Fatal(err)
	}
	request.Header.Set("X-Forwarded-For", p.address)
	request.AddCookie(&http.Cookie{Name: "lxc-session", Value: p.session()})
	response, err := (&http.Client{Transport: &http.Transport{}}).Do(request)
	if err != nil || response.StatusCode != http.StatusOK {
		p.w.t.Fatalf("event stream: %v", err)
	}
	lines, begun := make(chan string, 1000), make(chan struct{})
	go func() {
		defer response.Body.Close()
		defer close(lines)
		in := bufio.NewScanner(response.Body)
		in.Buffer(nil, 8<<20)
		for first := true; in.Scan(); first = false {
			if first {
				close(begun)
				continue // how it is now, which a later event tells the change from
			}
			select {
			case lines <- in.Text():
			default: // nobody looks any more
			}
		}
	}()
	select {
	case <-begun:
	case <-time.After(patience):
		p.w.t.Fatal("the event stream does not begin")
	}
	return lines
}

// await waits for a row of a container that runs.
func await(t *testing.T, what string, lines <-chan string, vmid string) {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatalf("the stream ended before %s", what)
			}
			if strings.HasPrefix(line, "data: ") && strings.Contains(line, `"vmid":`+vmid) && strings.Contains(line, `"running"`) {
				return
			}
		case <-limit:
			t.Errorf("waited in vain for %s", what)
			return
		}
	}
}

// Without PostgreSQL the next version takes over from the old one. A copy of the file is kept from before, over which the old
// one, which refuses the changed file, can serve again.
func TestUpdateOverSQLite(t *testing.T) {
	next := buildNext(t)
	w := newWorld(t)
	folder := t.TempDir()
	env := []string{"BERTH_DATA=" + folder}
	r := w.begin(binary, env...)
	w.everybodySignsIn()
	p := w.people[0]
	if got := p.change(r, p.vmids[0], "start"); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	w.ended(r, w.ledger.changes[0])
	r.leave()
	r = w.begin(next.binary, env...)
	w.everybodyStayed()
	w.balance(w.openFile(folder), nil)
	r.leave()
	w.refused(binary, next.newer(), env...)

	file := filepath.Join(folder, "berth.db")
	before := fmt.Sprintf("%s.before-%d", file, next.schema)
	if err := os.Rename(before, file); err != nil {
		t.Fatalf("no copy was kept: %v", err)
	}
	for _, name := range []string{file + "-wal", file + "-shm"} {
		if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	r = w.begin(binary, env...)
	// What has ended since the copy was made is not known to it, so everybody signs in again.
	if got := p.ask(r, "GET", "/api/auth/session", nil, p.session()); got.status != http.StatusUnauthorized {
		t.Errorf("a session of before: %d %s", got.status, got.body)
	}
	if got := p.signIn(r); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := p.change(r, p.vmids[1], "start"); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
}
