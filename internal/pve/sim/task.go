package sim

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// task is a worker process of a member and what remains of it: its log and exit status. It runs as a script of steps
// that advance executes as the clock passes them.
type task struct {
	upid
	log   []string
	steps []step
	next  time.Time // when steps[0] is due
	ended time.Time // zero while it runs
	exit  string    // "OK", or the error that it died of
	guest *guest    // the guest whose configuration it has locked; nil for none
}

// step is one thing that a worker does a while after the one before. An error ends the task with it.
type step struct {
	after time.Duration
	do    func(t *task, at time.Time) error
}

// maxTasks is how many finished tasks a datacenter remembers. PVE rotates its index by size; this is of that order.
const maxTasks = 1000

func (t *task) running() bool { return t.ended.IsZero() }

func (t *task) print(format string, args ...any) { t.log = append(t.log, fmt.Sprintf(format, args...)) }

// then puts steps in front of those that are left.
func (t *task) then(steps ...step) { t.steps = append(steps, t.steps...) }

// fork starts a worker for who on a member and returns it; pve-common's PVE::RESTEnvironment::fork_worker.
func (d *Datacenter) fork(m *member, kind, id, user string, now time.Time, steps ...step) *task {
	t := &task{upid: d.newUPID(m, kind, id, user, now), steps: steps}
	t.next = now.Add(d.pace(steps[0].after))
	d.guests.active = append(d.guests.active, t)
	d.guests.tasks[t.text] = t
	return t
}

// advance runs every step that is due at an instant, in the order in which they are due.
func (d *Datacenter) advance(to time.Time) {
	for !d.guests.held {
		var due *task
		for _, t := range d.guests.active {
			if !t.next.After(to) && (due == nil || t.next.Before(due.next)) {
				due = t
			}
		}
		if due == nil {
			return
		}
		d.step(due)
	}
}

func (d *Datacenter) step(t *task) {
	at, s := t.next, t.steps[0]
	t.steps = t.steps[1:]
	if err := s.do(t, at); err != nil {
		d.finish(t, at, err)
		return
	}
	if len(t.steps) == 0 {
		d.finish(t, at, nil)
		return
	}
	t.next = at.Add(d.pace(t.steps[0].after))
}

// pace is how long a step takes at the datacenter's speed.
func (d *Datacenter) pace(after time.Duration) time.Duration {
	if speed := d.options.TaskSpeed; speed > 0 {
		return time.Duration(float64(after) / speed)
	}
	return after
}

// finish ends a task as fork_worker does: with TASK OK or TASK ERROR as the log's last line, and with its locks given up.
func (d *Datacenter) finish(t *task, at time.Time, err error) {
	s := &d.guests
	t.ended, t.exit, t.steps = at, "OK", nil
	if err != nil {
		t.exit = err.Error()
		t.print("TASK ERROR: %s", t.exit)
	} else {
		t.print("TASK OK")
	}
	if t.guest != nil {
		t.guest.worker, t.guest = nil, nil
	}
	s.active = slices.DeleteFunc(s.active, func(o *task) bool { return o == t })
	if len(s.archive) >= maxTasks {
		drop := len(s.archive) - maxTasks + 1
		for _, old := range s.archive[:drop] {
			delete(s.tasks, old.text)
		}
		s.archive = slices.Delete(s.archive, 0, drop)
	}
	s.archive = append(s.archive, t)
}

// upid identifies a task: pve-common, PVE/UPID.pm.
type upid struct {
	text      string
	node      string
	pid       int
	pstart    int64 // the worker's start in ticks of 10 ms since the member's
	starttime int64 // Unix seconds
	kind      string
	id        string
	owner     string // user@realm, or user@realm!token
}

func (d *Datacenter) newUPID(m *member, kind, id, owner string, now time.Time) upid {
	u := upid{
		node: m.name, pid: d.guests.nextPID(m.name), pstart: max(0, int64(now.Sub(m.started)/(10*time.Millisecond))),
		starttime: now.Unix(), kind: kind, id: id, owner: owner,
	}
	u.text = fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%s:%s:%s:", u.node, u.pid, u.pstart, u.starttime, u.kind, u.id, u.owner)
	return u
}

var upidPattern = regexp.MustCompile(
	`^UPID:([a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8}):([^:\s]+):([^:\s]*):([^:\s]+):$`)

// parseUPID is PVE::UPID::decode.
func parseUPID(text string) (upid, bool) {
	m := upidPattern.FindStringSubmatch(text)
	if m == nil {
		return upid{}, false
	}
	hex := func(s string) int64 {
		n, _ := strconv.ParseInt(s, 16, 64) // at most nine hex digits
		return n
	}
	return upid{
		text: text, node: m[1], pid: int(hex(m[2])), pstart: hex(m[3]), starttime: hex(m[4]),
		kind: m[5], id: m[6], owner: m[7],
	}, true
}

// user and token are the owner's parts; PVE shows a token's tasks under its user (PVE::API2::Tasks, convert_token_task).
func (u upid) user() string { user, _, _ := strings.Cut(u.owner, "!"); return user }

func (u upid) token() string { _, token, _ := strings.Cut(u.owner, "!"); return token }

// belongsTo tells whether a task is who's own: a user's are also those of their tokens, a token's only its own
// (PVE::API2::Tasks, check_task_user).
func (u upid) belongsTo(who *principal) bool { return who.id == u.owner || who.id == u.user() }

// lockFile is the file whose flock PVE::LXC::Config::lock_config takes.
func lockFile(vmid int) string { return fmt.Sprintf("/run/lock/lxc/pve-config-%d.lock", vmid) }

// locked makes a step that takes the configuration's lock of a guest and then goes on with what. Where another worker
// has it, it waits as PVE::Tools::lock_file_full does: up to ten seconds, and says so in the log.
func (d *Datacenter) locked(node string, vmid int, what func(t *task, g *guest, at time.Time) error) step {
	const patience = 10 * time.Second
	var since time.Time
	var try step
	try.do = func(t *task, at time.Time) error {
		g, err := d.guest(node, kindContainer, vmid)
		if err != nil {
			return err
		}
		if since.IsZero() {
			since = at
		}
		if g.worker != nil && g.worker != t {
			if at == since {
				t.print("trying to acquire lock...")
			}
			if at.Sub(since) >= patience {
				return fmt.Errorf("can't lock file '%s' - got timeout", lockFile(vmid))
			}
			again := try
			again.after = 250 * time.Millisecond
			t.then(again)
			return nil
		}
		if at != since {
			t.print(" OK")
		}
		g.worker, t.guest = t, g
		if err := d.guests.failure(vmid); err != nil {
			return err
		}
		return what(t, g, at)
	}
	return try
}
