package outage

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver "pgx"
	_ "modernc.org/sqlite"             // registers the driver "sqlite"

	"berth/internal/redis/redistest"
)

// lease is how long a container's lock outlives whoever held it.
const lease = 30 * time.Second

// deed is one kind of change of one container.
type deed struct {
	vmid   int
	action string
}

// acknowledged is an operation that a person was told of.
type acknowledged struct {
	by *person
	op operation
}

// ledger is what was asked for and what was acknowledged.
type ledger struct {
	mu      sync.Mutex
	asked   int            // sign-ins
	entered int            // those that were acknowledged
	answers map[string]int // what came of sign-ins
	sent    map[deed]int   // requests for changes, whatever came of them
	changes []acknowledged
	runs    []runBy
}

type runBy struct {
	by  *person
	run run
}

func (l *ledger) signIn(got answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if got.status == http.StatusOK {
		l.entered++
	}
	l.answers[cmp.Or(got.code(), strconv.Itoa(got.status))]++
}

func (l *ledger) sending(vmid int, action string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[deed{vmid, action}]++
}

func (l *ledger) accept(by *person, op operation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, acknowledged{by, op})
}

func (l *ledger) acceptRun(by *person, r run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs = append(l.runs, runBy{by, r})
}

// stored is an operation as the database has it.
type stored struct {
	id, user, action, state, upid, why string
	vmid                               int
}

// balance waits until all that was begun has ended, and then compares: every acknowledged session works on every replica, and
// no ended one does; every acknowledged change is listed and has ended; what the host carried out is what the operations
// say; nobody finds anybody else's; no lock is left.
func (w *world) balance(database *sql.DB, locks *redistest.Server) {
	t := w.t
	t.Helper()
	w.settled()
	w.sessionsHold()

	l := &w.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, ack := range l.changes {
		r := w.replicas[i%len(w.replicas)]
		op := w.ended(r, ack)
		// The host refused none and failed none, so each that was taken was carried out.
		if op.State != "done" {
			t.Errorf("acknowledged %s of %d: %s %q %s", op.Action, op.VMID, op.State, op.Error, op.ID)
		}
		other := w.people[(slices.Index(w.people, ack.by)+1)%len(w.people)]
		if got := other.ask(r, "GET", "/api/operations/"+ack.op.ID, nil, other.session()); i%10 == 0 && got.status != http.StatusNotFound {
			t.Errorf("%s is shown an operation of %s: %d %s", other.user, ack.by.user, got.status, got.body)
		}
	}
	for i, ack := range l.runs {
		r := w.replicas[i%len(w.replicas)]
		var now run
		eventually(t, "the end of a run", func() bool {
			got := ack.by.ask(r, "GET", "/api/bulk/"+ack.run.ID, nil, ack.by.session())
			if got.status == http.StatusNotFound {
				t.Errorf("an acknowledged run is lost: %s", got.body)
				return true
			}
			return json.Unmarshal([]byte(got.body), &now) == nil && now.Ended
		})
		if len(now.Operations) != len(ack.run.Operations) {
			t.Errorf("a run has %d operations, and %d were acknowledged", len(now.Operations), len(ack.run.Operations))
		}
		other := w.people[(slices.Index(w.people, ack.by)+1)%len(w.people)]
		if got := other.ask(r, "GET", "/api/bulk/"+ack.run.ID, nil, other.session()); got.status != http.StatusNotFound {
			t.Errorf("%s is shown a run of %s: %d %s", other.user, ack.by.user, got.status, got.body)
		}
	}

	// Those that nobody was told of end too, once their owners have been seen again.
	var all []stored
	eventually(t, "the end of all operations", func() bool {
		for i, p := range w.people {
			p.stayedIn(p.ask(w.replicas[i%len(w.replicas)], "GET", "/api/operations/none", nil, p.session()))
		}
		time.Sleep(200 * time.Millisecond)
		all = operations(w, database)
		return !slices.ContainsFunc(all, func(o stored) bool { return !operation{State: o.state}.over() })
	})
	w.compare(all)
	w.noLocks(database, locks)
	t.Logf("sign-ins by answer: %v", l.answers)
	t.Logf("%d of %d sign-ins, %d changes and %d runs were acknowledged; %d operations", l.entered, l.asked, len(l.changes), len(l.runs), len(all))
	if l.entered == 0 || len(all) == 0 {
		t.Error("nothing happened, so this test showed nothing")
	}
}

// ended waits for the end of an acknowledged operation.
func (w *world) ended(r *replica, ack acknowledged) (op operation) {
	w.t.Helper()
	eventually(w.t, "the end of an operation", func() bool {
		got := ack.by.ask(r, "GET", "/api/operations/"+ack.op.ID, nil, ack.by.session())
		if got.status == http.StatusNotFound {
			w.t.Errorf("an acknowledged operation is lost: %+v", ack.op)
			return true
		}
		return got.status == http.StatusOK && json.Unmarshal([]byte(got.body), &op) == nil && op.over()
	})
	return op
}

// sessionsHold looks at every session, at every replica.
func (w *world) sessionsHold() {
	w.t.Helper()
	for _, p := range w.people {
		for _, r := range w.asked() {
			for _, cookie := range p.sessions {
				eventually(w.t, "an acknowledged session", func() bool {
					got := p.ask(r, "GET", "/api/auth/session", nil, cookie)
					p.stayedIn(got)
					return got.status == http.StatusOK || got.status == http.StatusUnauthorized
				})
			}
			for _, old := range p.ended {
				if time.Since(old.at) < endBound {
					time.Sleep(time.Until(old.at.Add(endBound)))
				}
				if got := p.ask(r, "GET", "/api/auth/session", nil, old.cookie); got.status != http.StatusUnauthorized {
					w.t.Errorf("an ended session of %s: %d %s", p.user, got.status, got.body)
				}
			}
		}
	}
	if judged := w.signIns(); judged > w.ledger.asked || judged < w.ledger.entered {
		w.t.Errorf("the host took %d passwords, of %d sign-ins that were asked for and %d that were acknowledged", judged, w.ledger.asked, w.ledger.entered)
	}
}

// compare holds what the database says against what the host has done.
func (w *world) compare(all []stored) {
	w.t.Helper()
	begun, tasks := map[deed]int{}, map[string]stored{}
	for _, op := range all {
		of := deed{op.vmid, op.action}
		owner := w.people[(op.vmid-1000)/100]
		if op.user != owner.user {
			w.t.Errorf("an operation of %s on a container of %s", op.user, owner.user)
		}
		if op.upid == "" {
			if op.state == "done" {
				w.t.Errorf("%+v is done without a task", op)
			}
			continue
		}
		if other, twice := tasks[op.upid]; twice {
			w.t.Errorf("one task stands for two operations: %+v and %+v", op, other)
		}
		tasks[op.upid] = op
		begun[of]++
		if !strings.Contains(op.upid, ":vz"+op.action+":"+strconv.Itoa(op.vmid)+":"+owner.user+":") {
			w.t.Errorf("the task of %+v is another's", op)
		}
	}
	for of, sent := range w.ledger.sent {
		done := w.dc.Accepted(of.vmid, of.action)
		if done != begun[of] {
			w.t.Errorf("the host carried out %d × %s of %d, and the operations say %d", done, of.action, of.vmid, begun[of])
		}
		if done > sent {
			w.t.Errorf("the host carried out %d × %s of %d, which was asked for %d times", done, of.action, of.vmid, sent)
		}
	}
}

// noLocks looks for locks that outlive their lease. All operations have ended, and an end gives the lock back.
func (w *world) noLocks(database *sql.DB, locks *redistest.Server) {
	w.t.Helper()
	var left int
	query(w, database, "SELECT COUNT(*) FROM container_lock JOIN operation ON operation.id = container_lock.operation_id WHERE operation.ended_at IS NOT NULL",
		func(rows *sql.Rows) error { return rows.Scan(&left) })
	if left > 0 {
		w.t.Errorf("%d operations have ended and hold a lock", left)
	}
	if locks == nil {
		return
	}
	for _, p := range w.people {
		for _, vmid := range p.vmids {
			p.lockless(locks, vmid)
		}
	}
}

// lockless looks for a lock of a container in Redis without an end, or with one that is further away than a lease.
func (p *person) lockless(locks *redistest.Server, vmid int) {
	for _, key := range strings.Fields(locks.Text(p.w.t, "EVAL", "return table.concat(redis.call('KEYS', 'lock:*:"+strconv.Itoa(vmid)+"'), ' ')", "0")) {
		left, err := strconv.Atoi(strings.TrimPrefix(locks.Do(p.w.t, "PTTL", key), ":"))
		if err != nil || left == -1 || left > int(lease/time.Millisecond) {
			p.w.t.Errorf("the lock of %d in Redis lasts another %d ms, %v", vmid, left, err)
		}
	}
}

func operations(w *world, database *sql.DB) (all []stored) {
	query(w, database, "SELECT id, user_id, action, state, upid, error, vmid FROM operation ORDER BY created_at, id", func(rows *sql.Rows) error {
		var o stored
		err := rows.Scan(&o.id, &o.user, &o.action, &o.state, &o.upid, &o.why, &o.vmid)
		all = append(all, o)
		return err
	})
	return all
}

func query(w *world, database *sql.DB, text string, each func(*sql.Rows) error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rows, err := database.QueryContext(ctx, text)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
}

// openServer opens a database as the test looks at it.
func (w *world) openServer(address string) *sql.DB { return w.open("pgx", address) }

// openFile does so with SQLite's file in a data folder, beside whoever writes.
func (w *world) openFile(folder string) *sql.DB {
	return w.open("sqlite", "file:"+filepath.Join(folder, "berth.db")+"?mode=ro&_pragma=busy_timeout(5000)")
}

func (w *world) open(driver, address string) *sql.DB {
	w.t.Helper()
	database, err := sql.Open(driver, address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { database.Close() })
	return database
}
