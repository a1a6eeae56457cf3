package pve

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// UPID names a task: UPID:node:pid:pstart:starttime:type:id:user: (UPID.pm of pve-common). It is comparable, and String
// gives back the very text that was parsed.
type UPID struct {
	Node   string
	PID    uint64
	PStart uint64    // the process's start in clock ticks since boot, so that a reused PID isn't the same task
	Start  time.Time // whole seconds
	Type   string    // vzstart, vzstop, vzshutdown, ...
	ID     string    // what it works on: a VMID, or nothing
	User   string    // who started it: user@realm or user@realm!token

	text string
}

const maxUPID = 512

// IsZero tells whether the UPID names no task.
func (u UPID) IsZero() bool { return u.text == "" }

// String is the UPID as PVE writes it, empty for the zero value.
func (u UPID) String() string { return u.text }

// MarshalText writes String.
func (u UPID) MarshalText() ([]byte, error) { return []byte(u.text), nil }

// UnmarshalText reads what MarshalText wrote.
func (u *UPID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*u = UPID{}
		return nil
	}
	parsed, err := ParseUPID(string(text))
	if err == nil {
		*u = parsed
	}
	return err
}

// ParseUPID reads a UPID. Its error is an *InputError for "upid".
func ParseUPID(s string) (UPID, error) {
	invalid := &InputError{Field: "upid", Message: "This is not a task id"}
	parts := strings.Split(s, ":")
	if len(s) > maxUPID || len(parts) != 9 || parts[0] != "UPID" || parts[8] != "" {
		return UPID{}, invalid
	}
	node, typ, id, user := parts[1], parts[5], parts[6], parts[7]
	if !validNode(node) || typ == "" || user == "" || !plain(typ) || !plain(id) || !plain(user) {
		return UPID{}, invalid
	}
	pid, ok1 := parseHex(parts[2], 8, 8)
	pstart, ok2 := parseHex(parts[3], 8, 9) // more than 32 bits after 497 days of uptime
	start, ok3 := parseHex(parts[4], 8, 8)
	if !ok1 || !ok2 || !ok3 {
		return UPID{}, invalid
	}
	return UPID{
		Node: node, PID: pid, PStart: pstart, Start: time.Unix(int64(start), 0).UTC(),
		Type: typ, ID: id, User: user, text: s,
	}, nil
}

func parseHex(s string, shortest, longest int) (uint64, bool) {
	if len(s) < shortest || len(s) > longest {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 16, 64)
	return n, err == nil
}

// validNode tells whether s is a member's name: letters, digits and inner hyphens.
func validNode(s string) bool {
	if s == "" || len(s) > maxLabelLength || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// plain tells whether s can stand in a path and in a line of text: printable ASCII without a slash or a space.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '/' {
			return false
		}
	}
	return true
}

// task makes a call that is answered with a UPID.
func (h *Host) task(ctx context.Context, c *call) (UPID, error) {
	c.maxBody = maxSmallBody
	a, err := h.do(ctx, c)
	if err != nil {
		return UPID{}, err
	}
	var text string
	if json.Unmarshal(a.data, &text) != nil {
		return UPID{}, h.notProxmox(c, a, "the answer is not a task id")
	}
	upid, err := ParseUPID(text)
	if err != nil {
		return UPID{}, h.notProxmox(c, a, "the answer is not a task id")
	}
	return upid, nil
}

// Task is a task as it stands.
type Task struct {
	UPID UPID
	// Running tells whether the task is still at work. Its ExitStatus is empty until it ends.
	Running bool
	// ExitStatus is "OK", "WARNINGS: n", or the error that ended the task.
	ExitStatus string
	// End is when it ended. TaskStatus doesn't know it.
	End time.Time
}

// OK tells whether the task ended well, warnings included (Tools.pm upid_status_is_error).
func (t Task) OK() bool {
	if t.Running {
		return false
	}
	warnings, ok := strings.CutPrefix(t.ExitStatus, "WARNINGS: ")
	return t.ExitStatus == "OK" || ok && warnings != "" && strings.Trim(warnings, "0123456789") == ""
}

// TaskFilter selects tasks. The zero value selects the 50 newest that have ended.
type TaskFilter struct {
	VMID   int
	Source TaskSource
	Type   string // vzstart, ...
	User   string // a part of the user id
	Errors bool   // only those that failed
	Since  time.Time
	Until  time.Time
	Start  int // how many to skip
	Limit  int // 0 means 50
}

// TaskSource tells running tasks from ended ones.
type TaskSource string

// The values of the parameter source.
const (
	EndedTasks   TaskSource = "archive"
	RunningTasks TaskSource = "active"
	AllTasks     TaskSource = "all"
)

// Tasks lists a member's tasks, newest first: the caller's own, or everybody's with Sys.Audit on the member. total is how
// many there are beyond the page asked for, 0 if the host doesn't say.
func (h *Host) Tasks(ctx context.Context, credentials Credentials, node string, f TaskFilter) (tasks []Task, total int, err error) {
	c := get(credentials, "nodes", node, "tasks")
	c.maxBody = maxLargeBody
	if f.VMID != 0 {
		c.setInt("vmid", int64(f.VMID))
	}
	if f.Source != "" {
		c.set("source", string(f.Source))
	}
	if f.Type != "" {
		c.set("typefilter", f.Type)
	}
	if f.User != "" {
		c.set("userfilter", f.User)
	}
	c.setFlag("errors", f.Errors)
	if !f.Since.IsZero() {
		c.setInt("since", f.Since.Unix())
	}
	if !f.Until.IsZero() {
		c.setInt("until", f.Until.Unix())
	}
	if f.Start > 0 {
		c.setInt("start", int64(f.Start))
	}
	if f.Limit > 0 {
		c.setInt("limit", int64(f.Limit))
	}
	list, a, err := rows(ctx, h, c, readTask)
	if err != nil {
		return nil, 0, err
	}
	tasks = withNames(list)
	return tasks, int(max(a.total, 0)), nil
}

// ClusterTasks lists what the members have told each other of their tasks: those that run, and of each member the newest
// that have ended (active_workers in RESTEnvironment.pm of pve-common: 25). It is what one call can know of a whole cluster,
// and a second or so late. Who holds Sys.Audit on "/" sees everybody's, a user their own and those of their tokens. A token
// without that privilege sees none, not even those that it started itself (API2/Cluster.pm tasks compares the user alone);
// Tasks of a member shows it those.
func (h *Host) ClusterTasks(ctx context.Context, credentials Credentials) ([]Task, error) {
	c := get(credentials, "cluster", "tasks")
	c.maxBody = maxLargeBody
	list, _, err := rows(ctx, h, c, readTask)
	return withNames(list), err
}

// readTask reads an entry of a list of tasks. Its status is the exit status there, and RUNNING or nothing before there is
// one (API2/Tasks.pm).
func readTask(r record) Task {
	upid, _ := ParseUPID(r.text("upid")) // zero when it can't be read
	t := Task{UPID: upid, End: r.time("endtime"), ExitStatus: r.prose("status")}
	if t.End.IsZero() {
		t.Running, t.ExitStatus = true, ""
	}
	return t
}

// withNames leaves out tasks that can't be named: nobody could ask about them.
func withNames(tasks []Task) []Task {
	return slices.DeleteFunc(tasks, func(t Task) bool { return t.UPID.IsZero() })
}

// TaskStatus asks how a task stands. Its owner may, and who holds Sys.Audit on the member. KindNotFound means that the
// member has forgotten it, or never knew it.
func (h *Host) TaskStatus(ctx context.Context, credentials Credentials, upid UPID) (Task, error) {
	c := get(credentials, "nodes", upid.Node, "tasks", upid.String(), "status")
	r, a, err := h.object(ctx, c)
	if err != nil {
		return Task{}, err
	}
	switch status := r.text("status"); status {
	case "running", "stopped":
		return Task{UPID: upid, Running: status == "running", ExitStatus: r.prose("exitstatus")}, nil
	}
	return Task{}, h.notProxmox(c, a, "the answer has no task status")
}

// LogLine is a line of a task's log.
type LogLine struct {
	Number int // from 1
	Text   string
}

// TaskLog reads up to limit lines of a task's log after the first start ones; total is how many the log has so far. The
// rights are those of TaskStatus.
func (h *Host) TaskLog(ctx context.Context, credentials Credentials, upid UPID, start, limit int) (lines []LogLine, total int, err error) {
	if start < 0 || limit < 1 {
		return nil, 0, &InputError{Field: "limit", Message: fmt.Sprintf("Lines %d to %d can't be asked for", start, start+limit)}
	}
	c := get(credentials, "nodes", upid.Node, "tasks", upid.String(), "log")
	c.maxBody = maxLargeBody
	c.setInt("start", int64(start))
	c.setInt("limit", int64(limit))
	lines, a, err := rows(ctx, h, c, func(r record) LogLine {
		return LogLine{Number: int(r.int("n")), Text: r.prose("t")}
	})
	if err != nil {
		return nil, 0, err
	}
	// Proxmox VE puts a line in place of a log that is still empty (PVE/Tools.pm, dump_logfile).
	if a.total == 1 && slices.Equal(lines, []LogLine{{1, "no content"}}) {
		return nil, 0, nil
	}
	return lines, int(max(a.total, 0)), nil
}

// StopTask asks a running task to end. Its owner may, and who holds Sys.Modify on the member.
func (h *Host) StopTask(ctx context.Context, credentials Credentials, upid UPID) error {
	_, err := h.do(ctx, remove(credentials, "nodes", upid.Node, "tasks", upid.String()))
	return err
}
