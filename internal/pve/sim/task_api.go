package sim

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
)

func taskEndpoints() []endpoint {
	start := param{name: "start", kind: "integer", min: 0, max: math.MaxInt64}
	limit := param{name: "limit", kind: "integer", min: 0, max: math.MaxInt64}
	return []endpoint{
		{method: "GET", path: "/cluster/tasks", run: listClusterTasks},
		{
			method: "GET", path: "/nodes/{node}/tasks", run: listNodeTasks,
			params: []param{
				start, limit,
				{name: "errors", kind: "boolean"},
				{name: "since", kind: "integer"},
				{name: "until", kind: "integer"},
				{name: "source", kind: "string", enum: []string{"archive", "active", "all"}},
				{name: "statusfilter", kind: "string"},
				{name: "typefilter", kind: "string"},
				{name: "userfilter", kind: "string"},
				{name: "vmid", kind: "integer", min: 100, max: 999999999},
			},
		},
		{method: "GET", path: "/nodes/{node}/tasks/{upid}", run: indexTask},
		{method: "DELETE", path: "/nodes/{node}/tasks/{upid}", run: stopTask},
		{method: "GET", path: "/nodes/{node}/tasks/{upid}/status", run: showTaskStatus},
		{
			method: "GET", path: "/nodes/{node}/tasks/{upid}/log", run: showTaskLog,
			params: []param{start, limit, {name: "download", kind: "boolean"}},
		},
	}
}

// taskRow is a task as lists and its status show it. The two differ in what status means.
type taskRow struct {
	UPID      string `json:"upid"`
	Node      string `json:"node"`
	PID       int    `json:"pid"`
	PStart    int64  `json:"pstart"`
	StartTime int64  `json:"starttime"`
	Type      string `json:"type"`
	ID        string `json:"id"`
	User      string `json:"user"`
	TokenID   string `json:"tokenid,omitempty"`
	EndTime   int64  `json:"endtime,omitempty"`
	Status    string `json:"status,omitempty"`
	Exit      string `json:"exitstatus,omitempty"`
}

func (u upid) row() taskRow {
	return taskRow{
		UPID: u.text, Node: u.node, PID: u.pid, PStart: u.pstart, StartTime: u.starttime,
		Type: u.kind, ID: u.id, User: u.user(), TokenID: u.token(),
	}
}

func (t *task) listed() taskRow {
	row := t.row()
	if !t.running() {
		row.EndTime, row.Status = t.ended.Unix(), t.exit
	}
	return row
}

// listClusterTasks is PVE::API2::Cluster tasks: what each member has broadcast, which is its running tasks and the 25
// newest others (PVE::RESTEnvironment::active_workers). Everybody's for an auditor of /, otherwise one's own. Whose a task
// is it tells by the user, after the token was split off: so a token that is no auditor sees nothing, not even its own.
func listClusterTasks(c *call) (any, error) {
	const broadcast = 25
	s := &c.dc.guests
	c.dc.settle(c.dc.now())
	all := c.dc.can(c.who, "/", "Sys.Audit")
	rows := []taskRow{}
	show := func(t *task) {
		if all || t.user() == c.who.id {
			rows = append(rows, t.listed())
		}
	}
	for _, t := range s.active {
		show(t)
	}
	seen := map[string]int{}
	for _, t := range slices.Backward(s.archive) {
		if seen[t.node]++; seen[t.node] <= broadcast {
			show(t)
		}
	}
	slices.SortStableFunc(rows, func(a, b taskRow) int { return cmp.Compare(b.StartTime, a.StartTime) })
	return rows, nil
}

// listNodeTasks is PVE::API2::Tasks node_tasks. What isn't archived yet comes first, then the archive from its end.
func listNodeTasks(c *call) (any, error) {
	c.dc.settle(c.dc.now())
	node := c.param("node")
	f := taskFilter{
		c: c, auditor: c.dc.can(c.who, "/nodes/"+node, "Sys.Audit"), states: c.wantedStates(),
		since: c.integerOr("since", math.MinInt64), until: c.integerOr("until", math.MaxInt64),
	}
	start, limit := c.integerOr("start", 0), c.integerOr("limit", 50)
	rows, count := []taskRow{}, int64(0)
	take := func(t *task) {
		if t.node != node || !f.wants(t) {
			return
		}
		if count++; count <= start || int64(len(rows)) >= limit {
			return
		}
		row := t.listed()
		if t.running() {
			row.Status = "RUNNING"
		}
		rows = append(rows, row)
	}
	source := cmp.Or(c.param("source"), "archive")
	if source != "archive" {
		for _, t := range slices.Backward(c.dc.guests.active) {
			take(t)
		}
	}
	if source != "active" {
		for _, t := range slices.Backward(c.dc.guests.archive) {
			take(t)
		}
	}
	return total{rows, int(count)}, nil
}

// wantedStates reads errors and statusfilter; errors wins, and only leaves out what is OK.
func (c *call) wantedStates() map[string]bool {
	if c.flag("errors") {
		return map[string]bool{"warning": true, "error": true, "unknown": true}
	}
	if !c.has("statusfilter") {
		return map[string]bool{"ok": true, "warning": true, "error": true, "unknown": true}
	}
	states := map[string]bool{}
	for _, state := range splitList(c.param("statusfilter")) {
		states[strings.ToLower(state)] = true
	}
	return states
}

type taskFilter struct {
	c            *call
	auditor      bool
	states       map[string]bool
	since, until int64
}

func (f taskFilter) wants(t *task) bool {
	c := f.c
	switch user, kind := c.param("userfilter"), c.param("typefilter"); {
	case user != "" && !strings.Contains(strings.ToLower(t.user()), strings.ToLower(user)),
		!f.auditor && !t.belongsTo(c.who),
		kind != "" && t.kind != kind,
		c.has("vmid") && t.id != c.param("vmid"),
		t.starttime < f.since, t.starttime > f.until:
		return false
	}
	return f.states[t.state()]
}

// state is PVE::Tools::upid_normalize_status_type.
func (t *task) state() string {
	switch {
	case t.running():
		return "unknown"
	case t.exit == "OK":
		return "ok"
	case strings.HasPrefix(t.exit, "WARNINGS: "):
		return "warning"
	}
	return "error"
}

func indexTask(*call) (any, error) {
	type entry struct {
		Name string `json:"name"`
	}
	return []entry{{"log"}, {"status"}}, nil
}

// task finds the task that a call names, if it is the caller's own or they hold a privilege on the member. With maybe, a
// task that doesn't exist is nil and no error. PVE looks for the task's file before it asks for the privilege, except
// where the log is read; so does this.
func (c *call) task(privilege string, maybe bool) (*task, error) {
	c.dc.settle(c.dc.now())
	u, ok := parseUPID(c.param("upid"))
	if !ok {
		return nil, badParam("upid", "unable to parse worker upid")
	}
	t := c.dc.guests.tasks[u.text]
	if t != nil && t.node != c.param("node") {
		t = nil // each member has only its own task files
	}
	if t == nil && !maybe {
		return nil, badParam("upid", "no such task")
	}
	if path := "/nodes/" + c.param("node"); !u.belongsTo(c.who) && !c.dc.can(c.who, path, privilege) {
		return nil, permissionDenied(path, privilege)
	}
	return t, nil
}

// showTaskStatus is read_task_status. As in PVE, a task that runs has no exitstatus.
func showTaskStatus(c *call) (any, error) {
	t, err := c.task("Sys.Audit", false)
	if err != nil {
		return nil, err
	}
	row := t.row()
	row.Status, row.Exit = Running, t.exit
	if !t.running() {
		row.Status = Stopped
	}
	return row, nil
}

type logLine struct {
	N int    `json:"n"`
	T string `json:"t"`
}

// showTaskLog is read_task_log with PVE::Tools::dump_logfile: a missing or empty file is a line that says so, and a
// limit of 0 means all.
func showTaskLog(c *call) (any, error) {
	t, err := c.task("Sys.Audit", true)
	if err != nil {
		return nil, err
	}
	if c.flag("download") {
		if c.has("start") || c.has("limit") {
			return nil, errors.New("'download' cannot be used together with 'start' or 'limit' parameters")
		}
		return nil, errors.New("download is not available from this simulated host")
	}
	if t == nil {
		return total{[]logLine{{1, "unable to open file - No such file or directory"}}, 1}, nil
	}
	if len(t.log) == 0 {
		return total{[]logLine{{1, "no content"}}, 1}, nil
	}
	start, limit := c.integerOr("start", 0), c.integerOr("limit", 50)
	lines := []logLine{}
	for i, text := range t.log {
		if int64(i) >= start && (limit == 0 || int64(len(lines)) < limit) {
			lines = append(lines, logLine{i + 1, text})
		}
	}
	return total{lines, len(t.log)}, nil
}

// stopTask is stop_task: the worker gets a signal and dies of it. What it has done by then stays done.
func stopTask(c *call) (any, error) {
	t, err := c.task("Sys.Modify", false)
	if err != nil {
		return nil, err
	}
	if t.running() {
		c.dc.finish(t, c.dc.now(), errInterrupted)
	}
	return nil, nil
}

// integerOr is an integer parameter that has passed the parameter check, or a fallback if it is absent.
func (c *call) integerOr(name string, fallback int64) int64 {
	n, err := strconv.ParseInt(c.param(name), 10, 64)
	if err != nil {
		return fallback
	}
	return n
}
