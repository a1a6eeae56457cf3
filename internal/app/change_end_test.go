package app

import (
	"database/sql"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/pve/sim"
	"berth/internal/store"
	"berth/internal/task"
)

// crash ends a program as if it was killed: what it holds in memory is gone, and what it stored stays.
func (y *yard) crash(t *testing.T) {
	t.Helper()
	y.stop()
}

// again starts another program over the same folder, and signs in anew.
func (y *yard) again(t *testing.T, user string) {
	t.Helper()
	next := y.bench.beside()
	next.begin(t)
	y.bench, y.browser = next, next.browser(t)
	y.signIn(y.host, user)
}

// TestLockOutlivesACrashByItsLease: a program that is gone blocks a container for no longer than the lease, and its operation
// is followed again by the next one.
func TestLockOutlivesACrashByItsLease(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve")
	y.dc.HoldTasks(true)
	_, op := y.order(t, y.node, 102, "start", nil)
	y.crash(t)
	crashed := y.now()
	y.advance(10 * time.Second)
	y.again(t, "alice@pve")
	if r, _ := y.order(t, y.node, 102, "stop", nil); code(t, r) != "container_busy" || !strings.Contains(r.body, "You asked for a start") {
		t.Errorf("within the lease: %d %s", r.StatusCode, r.body)
	}
	// The task goes on, and the next program follows it as soon as the lease is over; until then it holds nothing. So what the
	// lock lasts is bounded by the lease from its last renewal, which was before the crash.
	if until := y.leaseOf(t, op.ID); until.Sub(crashed) > 30*time.Second || !until.After(crashed) {
		t.Errorf("the lock outlives the crash by %s", until.Sub(crashed))
	}
	y.advance(30 * time.Second)
	y.dc.HoldTasks(false)
	if op = y.ended(t, op.ID); op.State != task.Done {
		t.Errorf("%+v", op)
	}
	if r, _ := y.order(t, y.node, 102, "stop", nil); r.StatusCode != http.StatusOK {
		t.Errorf("after the end: %d %s", r.StatusCode, r.body)
	}
	if trail := y.trailOf(t, audit.ContainerStart); !strings.Contains(trail, op.UPID.String()) {
		t.Errorf("the trail: %s", trail)
	}
	y.accepted(t, 102, "start", 1)
}

// leaseOf is until when an operation has its container's lock.
func (y *yard) leaseOf(t *testing.T, id string) time.Time {
	t.Helper()
	driver, address := "sqlite", "file:"+filepath.Join(y.folder, store.FileName)+"?mode=ro&_pragma=busy_timeout(5000)"
	if server := y.settings().Database; server != "" {
		driver, address = "pgx", server
	}
	database, err := sql.Open(driver, address)
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	var until int64
	if err := database.QueryRowContext(t.Context(), "SELECT lease_until FROM container_lock WHERE operation_id = '"+id+"'").Scan(&until); err != nil {
		t.Fatal(err)
	}
	return time.UnixMilli(until)
}

// TestLockEndsWithItsTask: whoever asks for the next change does not wait for the lease, nor for who follows the task, if
// Proxmox VE says that it has ended.
func TestLockEndsWithItsTask(t *testing.T) {
	for _, next := range []string{"alice@pve", "root@pam"} {
		y := newYard(t, sim.Options{}, "alice@pve")
		_, op := y.order(t, y.node, 102, "start", nil)
		y.crash(t)                  // so that nobody follows it
		y.advance(10 * time.Second) // it ends at the host, the lease goes on
		y.again(t, next)
		if r, _ := y.order(t, y.browser.nodeID(t), 102, "stop", nil); r.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", next, r.StatusCode, r.body)
		}
		y.accepted(t, 102, "stop", 1)
		alice := y.bench.browser(t)
		alice.signIn(y.host, "alice@pve")
		if op = alice.operation(t, op.ID); op.State != task.Done {
			t.Errorf("%s: %+v", next, op)
		}
		if r := alice.get("/api/audit?action=" + string(audit.ContainerStart)); strings.Count(r.body, op.UPID.String()) != 1 {
			t.Errorf("%s: the trail: %s", next, r.body)
		}
	}
}

// TestFollowingEndsWithTheSession: an operation whose session has ended is followed again when its owner is seen again.
func TestFollowingEndsWithTheSession(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve")
	y.dc.HoldTasks(true)
	_, op := y.order(t, y.node, 102, "start", nil)
	if r := y.json("/api/auth/logout", map[string]any{}); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-out: %d %s", r.StatusCode, r.body)
	}
	asked := func() int {
		n := 0
		for _, r := range y.host.Requests() {
			if strings.HasSuffix(r.Path, "/status") {
				n++
			}
		}
		return n
	}
	y.eventually(t, "nobody asks any more", func() bool {
		before := asked()
		time.Sleep(50 * time.Millisecond)
		return asked() == before
	})
	y.dc.HoldTasks(false)
	y.browser = y.bench.browser(t)
	y.signIn(y.host, "alice@pve")
	if op = y.ended(t, op.ID); op.State != task.Done {
		t.Errorf("%+v", op)
	}
}

// TestFailedTaskSaysWhy: the last error line of its log, and a notice until it is seen.
func TestFailedTaskSaysWhy(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve")
	if err := y.dc.FailNextStart(102, "startup for container '102' failed"); err != nil {
		t.Fatal(err)
	}
	_, op := y.order(t, y.node, 102, "start", nil)
	if op = y.ended(t, op.ID); op.State != task.Failed || op.Error != "startup for container '102' failed" {
		t.Errorf("%+v", op)
	}
	if r := y.get("/api/notices"); !strings.Contains(r.body, op.ID) || !strings.Contains(r.body, "startup for container") {
		t.Errorf("notices: %s", r.body)
	}
	if trail := y.trailOf(t, audit.ContainerStart); !strings.Contains(trail, `"failed"`) {
		t.Errorf("the trail: %s", trail)
	}
	if r := y.json("/api/notices/"+op.ID+"/seen", map[string]any{}); r.StatusCode != http.StatusOK || r.json(t)["seen"] != 1.0 {
		t.Errorf("seen: %d %s", r.StatusCode, r.body)
	}
	if r := y.get("/api/notices"); strings.Contains(r.body, op.ID) {
		t.Errorf("notices after it was seen: %s", r.body)
	}
}

// TestShutdownThatTakesTooLong: it fails with the host's word, and a stop is offered.
func TestShutdownThatTakesTooLong(t *testing.T) {
	y := newYard(t, sim.Options{}, "root@pam")
	if err := y.dc.AddContainer(sim.Container{VMID: 300, Name: "slow", Status: sim.Running, ShutdownTime: time.Hour}); err != nil {
		t.Fatal(err)
	}
	y.advance(11 * time.Second)
	_, op := y.order(t, y.node, 300, "shutdown", map[string]any{"timeout": 1})
	if op = y.ended(t, op.ID); op.State != task.Failed || op.Error != "container did not stop" {
		t.Errorf("%+v", op)
	}
	if r := y.get("/api/notices"); !strings.Contains(r.body, `"offer":"stop"`) {
		t.Errorf("notices: %s", r.body)
	}
	y.status(t, 300, sim.Running)
}

// TestRightsOfAChange: what the account may not do is refused by privilege and path, before anything is asked of the host.
func TestRightsOfAChange(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve") // PVEVMUser has VM.PowerMgmt, and neither of the others
	for action, privilege := range map[string]string{"delete": "VM.Allocate", "tag": "VM.Config.Options"} {
		in := map[string]any{"confirm": "jellyfin"}
		if action == "tag" {
			in = map[string]any{"tags": []string{"a"}}
		}
		r, _ := y.order(t, y.node, 102, action, in)
		if r.StatusCode != http.StatusForbidden || code(t, r) != "privilege_missing" || !strings.Contains(r.body, privilege+" on /vms/102") {
			t.Errorf("%s: %d %s", action, r.StatusCode, r.body)
		}
		y.accepted(t, 102, action, 0)
	}
	// Rights that were taken away since they were read are the host's to refuse.
	if err := y.dc.Revoke(sim.ACL{Path: "/vms/102", User: "alice@pve", Role: "PVEVMUser"}); err != nil {
		t.Fatal(err)
	}
	if err := y.dc.Grant(sim.ACL{Path: "/vms/102", User: "alice@pve", Role: "PVEAuditor"}); err != nil {
		t.Fatal(err)
	}
	r, _ := y.order(t, y.node, 102, "start", nil)
	if r.StatusCode != http.StatusForbidden || code(t, r) != "forbidden_by_proxmox" || !strings.Contains(r.body, "VM.PowerMgmt") {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	y.accepted(t, 102, "start", 0)
}

func TestTasksOfAllNodes(t *testing.T) {
	y := newYard(t, sim.Options{}, "root@pam")
	y.dc.HoldTasks(true)
	upid, err := y.dc.ChangeContainer("alice@pve", 102, "start")
	if err != nil {
		t.Fatal(err)
	}
	list := y.get("/api/tasks?status=running&q=jellyfin").json(t)
	items, _ := list["items"].([]any)
	if len(items) != 1 || list["running"] != 1.0 || items[0].(map[string]any)["upid"] != upid || items[0].(map[string]any)["user"] != "alice@pve" {
		t.Fatalf("%v", list)
	}
	if label := items[0].(map[string]any)["label"]; label != "Start" {
		t.Errorf("in words: %v", label)
	}
	// Each of the words that are shown is found, and so is Proxmox VE's own.
	if _, err := y.dc.ChangeContainer("root@pam", 114, "delete"); err != nil {
		t.Fatal(err)
	}
	y.advance(3 * time.Second) // a reading of tasks is shared for two
	for words, want := range map[string]string{"start": "vzstart", "Delete": "vzdestroy", "vzdestroy": "vzdestroy"} {
		found, _ := y.get("/api/tasks?status=running&q=" + words).json(t)["items"].([]any)
		if len(found) != 1 || found[0].(map[string]any)["type"] != want {
			t.Errorf("looked for %s: %v", words, found)
		}
	}
	path := "/api/tasks/" + y.node + "/" + upid
	if r := y.json(path+"/stop", map[string]any{}); r.StatusCode != http.StatusOK {
		t.Fatalf("stop: %d %s", r.StatusCode, r.body)
	}
	if r := y.get(path).json(t); r["status"] != "failed" || r["exit"] != "received interrupt" {
		t.Errorf("after it was stopped: %v", r)
	}
	if r := y.get(path + "/log"); !strings.Contains(r.body, "TASK ERROR: received interrupt") {
		t.Errorf("log: %s", r.body)
	}
	if r := y.get(path + "/log?start=-1"); !strings.Contains(r.body, "TASK ERROR") {
		t.Errorf("the log's end: %s", r.body)
	}
	if r := y.json(path+"/stop", map[string]any{}); r.StatusCode != http.StatusConflict || code(t, r) != "task_ended" {
		t.Errorf("stopped again: %d %s", r.StatusCode, r.body)
	}
	if trail := y.trailOf(t, audit.TaskStop); !strings.Contains(trail, upid) {
		t.Errorf("the trail: %s", trail)
	}
	for _, no := range []string{"nonsense", strings.Replace(upid, "vzstart", "vzstop", 1)} {
		if r := y.get("/api/tasks/" + y.node + "/" + no); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d %s", no, r.StatusCode, r.body)
		}
	}
}

// TestTasksByToken: an API token without Sys.Audit sees what it began, and what others began is not told.
func TestTasksByToken(t *testing.T) {
	y := newYard(t, sim.Options{}, "root@pam")
	away, host := y.newHost(t, sim.Options{Name: "far", Members: []string{"far1", "far2"}})
	y.addNode(tokenNode(t, away, host, "alice@pve", "mine"))
	upid, err := away.ChangeContainer("alice@pve!mine", 102, "start")
	if err != nil {
		t.Fatal(err)
	}
	others, err := away.ChangeContainer("root@pam", 112, "start")
	if err != nil {
		t.Fatal(err)
	}
	var body string
	y.eventually(t, "the token's task is listed", func() bool {
		body = y.get("/api/tasks").body
		return strings.Contains(body, upid)
	})
	if strings.Contains(body, others) {
		t.Errorf("a task of others: %s", body)
	}
}
