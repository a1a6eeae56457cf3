package outage

import (
	"database/sql"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a folder that can be made full.
type disk struct {
	t      *testing.T
	folder string
	own    bool // a file system of its own; else only the program is kept from writing
}

// newDisk makes a small file system in memory where the test may, which is as root. Elsewhere a limit on the size of files makes
// writes fail, of the one program alone.
func newDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{t: t, folder: t.TempDir()}
	err := unix.Mount("berth-test", d.folder, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=12m,mode=0700")
	if err != nil {
		t.Logf("a file system of the test's own can't be mounted (%v): RLIMIT_FSIZE makes the program's writes fail", err)
		return d
	}
	d.own = true
	t.Log("the disk is a file system of 12 MiB, which is filled")
	t.Cleanup(func() {
		if err := unix.Unmount(d.folder, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *disk) ballast() string { return filepath.Join(d.folder, "ballast") }

// fill leaves the program no room but for so many bytes.
func (d *disk) fill(p *process, left int64) {
	d.t.Helper()
	// SQLite writes over its log once that has grown, for which no room is needed.
	d.emptyLog()
	if !d.own {
		d.limit(p, uint64(left))
		return
	}
	file, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer file.Close()
	n, err := io.Copy(file, zeros{})
	if !errors.Is(err, unix.ENOSPC) {
		d.t.Fatalf("the disk does not get full: %v", err)
	}
	if err := file.Truncate(max(0, n-left)); err != nil {
		d.t.Fatal(err)
	}
}

// free makes room again.
func (d *disk) free(p *process) {
	d.t.Helper()
	if !d.own {
		d.limit(p, unix.RLIM_INFINITY)
		return
	}
	if err := os.Remove(d.ballast()); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Fatal(err)
	}
}

func (d *disk) limit(p *process, most uint64) {
	d.t.Helper()
	limit := unix.Rlimit{Cur: most, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil && !errors.Is(err, unix.ESRCH) {
		d.t.Fatal(err)
	}
}

// emptyLog moves what SQLite's log holds into the database, as any program may that opens it.
func (d *disk) emptyLog() {
	d.t.Helper()
	database, err := sql.Open("sqlite", "file:"+filepath.Join(d.folder, "berth.db")+"?mode=rw&_pragma=busy_timeout(10000)")
	if err != nil {
		d.t.Fatal(err)
	}
	defer database.Close()
	if _, err := database.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		d.t.Fatal(err)
	}
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The disk under SQLite is full at 20 instants, while everybody uses Berth; at some of them Berth is killed as well. What can't be
// kept is refused with a sentence, nobody is signed out, everything goes on when there is room again, and what was acknowledged is
// there in the end.
func TestDiskIsFull(t *testing.T) {
	random := seeded(t)
	d := newDisk(t)
	w := newWorld(t)
	r := w.begin(binary, "BERTH_DATA="+d.folder)
	w.everybodySignsIn()
	end := w.load(random, 6)
	refused := 0
	for i := range instants {
		time.Sleep(upTo(random, 400*time.Millisecond))
		// Some changes fit, some don't, and most instants leave room for none.
		d.fill(r.process, []int64{0, 0, 8 << 10, random.Int64N(64 << 10)}[i%4])
		full := time.Now()
		until := full.Add(upTo(random, 800*time.Millisecond))
		for once := true; once || time.Now().Before(until); once = false {
			p := w.people[random.IntN(crowd)]
			got := p.change(r, p.vmids[random.IntN(6)], "start")
			p.stayedIn(got)
			if got.status == http.StatusServiceUnavailable {
				refused++
				if got.code() != "disk_full" || !strings.Contains(got.body, "full") {
					t.Errorf("instant %d: %s", i, got.body)
				}
				if ready := p.ask(r, "GET", "/readyz", nil, ""); i%4 < 2 && (ready.status != http.StatusServiceUnavailable || ready.code() != "disk_full") {
					t.Errorf("instant %d: readyz: %d %s", i, ready.status, ready.body)
				}
			}
			// Who is signed in stays so, and can look.
			if got := p.ask(r, "GET", "/api/auth/session", nil, p.session()); got.status != http.StatusOK {
				t.Errorf("instant %d: the session of %s on a full disk: %d %s", i, p.user, got.status, got.body)
			}
		}
		killed := i%4 == 1
		if killed {
			r.kill()
		}
		d.free(r.process)
		if killed {
			r.start()
			r.ready()
		}
		w.settled()
		w.everybodyStayed()
		// Without a restart, unless there was one.
		eventually(t, "changes to be taken again", func() bool {
			p := w.people[random.IntN(crowd)]
			got := p.change(r, p.vmids[random.IntN(6)], "start")
			return got.status == http.StatusOK || got.code() == "wrong_state"
		})
	}
	end()
	t.Logf("%d changes were refused for want of room", refused)
	if refused < instants/2 {
		t.Error("the disk was hardly ever full")
	}
	w.balance(w.openFile(d.folder), nil)

	// A start without room says so.
	r.kill()
	if !d.own {
		return // the limit is of a program that runs
	}
	d.fill(r.process, 0)
	p := start(t, binary, append(w.settings(), "BERTH_DATA="+d.folder), "serve", "--listen", "127.0.0.1:0")
	if code := p.end(t); code != 1 || !strings.Contains(p.log.String(), "no space left on device") && !strings.Contains(p.log.String(), "full") {
		t.Errorf("a start on a full disk: status %d\n%s", code, p.log.String())
	}
	t.Logf("a start on a full disk says: %s", p.log.String())
	d.free(r.process)
	r.start()
	r.ready()
	w.everybodyStayed()
}
