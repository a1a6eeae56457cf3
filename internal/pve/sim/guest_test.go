package sim

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// fixture is a datacenter with a clock of its own, called without HTTP.
type fixture struct {
	t    *testing.T
	dc   *Datacenter
	now  time.Time
	host *Host
}

// testStart is a second past a full ten, so that the next refresh is nine seconds away.
var testStart = time.Date(2026, 3, 4, 5, 6, 1, 0, time.UTC)

func newFixture(t *testing.T, o Options) *fixture {
	t.Helper()
	f := &fixture{t: t, now: testStart}
	o.Now = func() time.Time { return f.now }
	dc, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	f.dc, f.host = dc, &Host{dc: dc, member: dc.members[0]}
	return f
}

func cluster() Options { return Options{Name: "lab", Members: []string{"pve1", "pve2"}} }

func (f *fixture) pass(d time.Duration) { f.now = f.now.Add(d) }

// answer is what a caller gets: the refusal in err's place if status isn't 200.
type answer struct {
	status int
	reason string
	body   struct {
		Data   json.RawMessage
		Total  *int
		Errors map[string]string
	}
}

// call performs "GET /path?query" as a user or token.
func (f *fixture) call(who, request string) answer {
	f.t.Helper()
	method, target, _ := strings.Cut(request, " ")
	path, query, _ := strings.Cut(target, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		f.t.Fatal(err)
	}
	c := &call{dc: f.dc, host: f.host, who: newPrincipal(who), now: f.now, clock: f.now}
	route, fromPath := f.dc.routes.find(method, path)
	f.dc.mu.Lock()
	defer f.dc.mu.Unlock()
	data, err := c.perform(method, path, route, fromPath, values, c.who.token != "")
	r := formatted("json", data, err)
	a := answer{status: r.status, reason: r.reason}
	if err := json.Unmarshal(r.body, &a.body); err != nil {
		f.t.Fatalf("%s: %v in %s", request, err, r.body)
	}
	return a
}

// get decodes the data of a call that must succeed.
func get[T any](f *fixture, who, request string) T {
	f.t.Helper()
	a := f.call(who, request)
	if a.status != 200 {
		f.t.Fatalf("%s as %s: %d %s %v", request, who, a.status, a.reason, a.body.Errors)
	}
	var v T
	if err := json.Unmarshal(a.body.Data, &v); err != nil {
		f.t.Fatalf("%s: %v in %s", request, err, a.body.Data)
	}
	return v
}

type object = map[string]any

// byVMID finds a guest in a list.
func byVMID(list []object, vmid int) object {
	for _, o := range list {
		if o["vmid"] == float64(vmid) {
			return o
		}
	}
	return nil
}

// do starts an action that must be accepted, lets it end, and returns its task's status.
func (f *fixture) do(who, request string) (upid string, status object) {
	f.t.Helper()
	upid = get[string](f, who, request)
	f.pass(5 * time.Minute)
	u, ok := parseUPID(upid)
	if !ok {
		f.t.Fatalf("%s: %q is no UPID", request, upid)
	}
	return upid, get[object](f, rootUser, "GET /nodes/"+u.node+"/tasks/"+upid+"/status")
}

func (f *fixture) log(upid string) []string {
	f.t.Helper()
	u, _ := parseUPID(upid)
	var lines []string
	for _, l := range get[[]logLine](f, rootUser, "GET /nodes/"+u.node+"/tasks/"+upid+"/log?limit=0") {
		lines = append(lines, l.T)
	}
	return lines
}

func TestDefaultWorld(t *testing.T) {
	f := newFixture(t, cluster())
	list := get[[]object](f, rootUser, "GET /cluster/resources?type=vm")
	containers, vms, stopped, templates := 0, 0, 0, 0
	nodes := map[any]int{}
	for _, r := range list {
		switch r["type"] {
		case "lxc":
			containers++
			nodes[r["node"]]++
			if r["status"] == Stopped {
				stopped++
			}
			templates += int(r["template"].(float64))
		case "qemu":
			vms++
		}
	}
	if containers != 15 || vms != 3 || stopped != 4 || templates != 1 || len(nodes) != 2 {
		t.Errorf("%d containers (%d stopped, %d templates) on %d members and %d VMs", containers, stopped, templates, len(nodes), vms)
	}
	for vmid, want := range map[int]object{
		100: {"name": "gateway", "status": Running},
		101: {"name": "nextcloud", "status": Running},
		102: {"name": "jellyfin", "status": Stopped, "uptime": 0.0, "mem": 0.0, "cpu": 0.0},
		109: {"name": "paperless", "lock": "backup"},
		113: {"template": 1.0, "status": Stopped},
	} {
		for key, value := range want {
			if got := byVMID(list, vmid)[key]; got != value {
				t.Errorf("%d: %s is %v, want %v", vmid, key, got, value)
			}
		}
	}
	if c, ok := f.dc.Container(101); !ok || c.Name != "nextcloud" || c.Status != Running || c.Memory != 4096 || c.Disk != 32 || c.Mounts["mp0"] == "" {
		t.Errorf("Container(101) = %+v, %v", c, ok)
	}
	if _, ok := f.dc.Container(200); ok {
		t.Error("a VM is shown as a container")
	}
}

func TestFleet(t *testing.T) {
	o := cluster()
	o.Containers, o.Seed = 250, 7
	f := newFixture(t, o)
	first := f.call(rootUser, "GET /cluster/resources")
	names := map[any]bool{}
	nodes := map[any]int{}
	running := 0
	for _, r := range get[[]object](f, rootUser, "GET /cluster/resources?type=vm") {
		if r["type"] != "lxc" {
			continue
		}
		names[r["name"]] = true
		nodes[r["node"]]++
		if r["status"] == Running {
			running++
		}
	}
	if len(names) != 250 || nodes["pve1"] != 125 || nodes["pve2"] != 125 {
		t.Errorf("%d names, %v", len(names), nodes)
	}
	if running < 180 || running > 240 {
		t.Errorf("%d of 250 run", running)
	}
	if again := newFixture(t, o).call(rootUser, "GET /cluster/resources"); string(again.body.Data) != string(first.body.Data) {
		t.Error("equal seeds give different worlds")
	}
	o.Seed = 8
	if other := newFixture(t, o).call(rootUser, "GET /cluster/resources"); string(other.body.Data) == string(first.body.Data) {
		t.Error("different seeds give equal worlds")
	}
}

func TestGuestsSeenByPermission(t *testing.T) {
	f := newFixture(t, cluster())
	for _, c := range []struct {
		who, request string
		want         []int
	}{
		{"alice@pve", "GET /cluster/resources?type=vm", []int{101, 102}},
		{"alice@pve", "GET /nodes/pve1/lxc", []int{102}},
		{"alice@pve", "GET /nodes/pve2/lxc", []int{101}},
		{"alice@pve", "GET /nodes/pve1/qemu", nil},
		{rootUser, "GET /nodes/pve1/qemu", []int{200, 202}},
		{rootUser, "GET /nodes/pve2/lxc", []int{101, 103, 105, 107, 109, 111, 113}},
		{"bob@pve", "GET /nodes/pve2/qemu", []int{201}},
	} {
		var got []int
		for _, g := range get[[]object](f, c.who, c.request) {
			got = append(got, int(g["vmid"].(float64)))
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s as %s: %v, want %v", c.request, c.who, got, c.want)
		}
	}
}

// TestRefusals are what is refused before a task is made.
func TestRefusals(t *testing.T) {
	f := newFixture(t, cluster())
	must(f.dc.AddContainer(Container{VMID: 300, Protected: true}))
	must(f.dc.AddContainer(Container{VMID: 301, Lock: "migrate"}))
	for _, c := range []struct {
		who, request string
		status       int
		reason       string
	}{
		{rootUser, "POST /nodes/pve2/lxc/101/status/start", 500, "CT 101 already running"},
		{rootUser, "POST /nodes/pve1/lxc/102/status/stop", 500, "CT 102 not running"},
		{rootUser, "POST /nodes/pve1/lxc/102/status/shutdown", 500, "CT 102 not running"},
		{rootUser, "POST /nodes/pve1/lxc/102/status/reboot", 500, "VM 102 not running"},
		{rootUser, "POST /nodes/pve1/lxc/102/status/suspend", 500, "CT 102 not running"},
		{rootUser, "POST /nodes/pve2/lxc/101/status/resume", 500, "CT 101 already running"},
		{rootUser, "POST /nodes/pve1/lxc/999/status/stop", 500, "CT 999 not running"},
		{rootUser, "GET /nodes/pve1/lxc/999/status/current", 500, "Configuration file 'nodes/pve1/lxc/999.conf' does not exist"},
		{rootUser, "GET /nodes/pve1/lxc/101/config", 500, "Configuration file 'nodes/pve1/lxc/101.conf' does not exist"},
		{rootUser, "GET /nodes/pve1/lxc/200/config", 500, "Configuration file 'nodes/pve1/lxc/200.conf' does not exist"},
		{rootUser, "GET /nodes/pve1/qemu/100/status/current", 500, "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist"},
		{rootUser, "DELETE /nodes/pve2/lxc/101", 500, "unable to destroy CT 101 - container is running"},
		{rootUser, "DELETE /nodes/pve1/lxc/300", 500, "can't remove CT 300 - protection mode enabled"},
		{rootUser, "DELETE /nodes/pve1/lxc/301?force=1", 500, "CT is locked (migrate)"},
		{rootUser, "DELETE /nodes/pve1/lxc/999", 500, "Configuration file 'nodes/pve1/lxc/999.conf' does not exist"},
		{"alice@pve", "POST /nodes/pve1/lxc/103/status/start", 403, "Permission check failed (/vms/103, VM.PowerMgmt)"},
		{"alice@pve", "GET /nodes/pve1/lxc/999/config", 403, "Permission check failed (/vms/999, VM.Audit)"},
		{"alice@pve", "DELETE /nodes/pve1/lxc/102", 403, "Permission check failed (/vms/102, VM.Allocate)"},
		{"alice@pve", "GET /nodes/pve1/status", 403, "Permission check failed (/nodes/pve1, Sys.Audit)"},
		{"alice@pve", "GET /nodes/pve1/storage/local/content", 403, "Permission check failed (/storage/local, Datastore.Audit|Datastore.AllocateSpace)"},
		{"bob@pve", "POST /nodes/pve1/lxc/102/status/start?skiplock=1", 400, "Parameter verification failed."},
		{rootUser, "POST /nodes/pve2/lxc/101/status/shutdown?timeout=-1", 400, "Parameter verification failed."},
		{rootUser, "GET /cluster/resources?type=lxc", 400, "Parameter verification failed."},
		{rootUser, "GET /nodes/pve9/lxc", 500, "hostname lookup 'pve9' failed - failed to get address info for: pve9: Name or service not known"},
		{rootUser, "GET /nodes/pve1/storage/nowhere/status", 500, "storage 'nowhere' does not exist"},
		{rootUser, "GET /nodes/pve1/storage/usb-backup/content", 500, "storage 'usb-backup' is disabled"},
	} {
		if a := f.call(c.who, c.request); a.status != c.status || a.reason != c.reason {
			t.Errorf("%s as %s: %d %s, want %d %s", c.request, c.who, a.status, a.reason, c.status, c.reason)
		}
	}
	if n := f.dc.Accepted(101, "start"); n != 0 {
		t.Errorf("a refused start counts as accepted: %d", n)
	}
}

// TestLifecycle are whole actions: how their tasks end, what they say, and what the container is afterwards.
func TestLifecycle(t *testing.T) {
	const ok = "OK"
	for _, c := range []struct {
		name    string
		before  Container
		prepare func(*Datacenter)
		request string // after /nodes/pve1/lxc/300, with its method
		kind    string
		exit    string
		log     []string // all lines
		after   string   // Running, Stopped or "" for gone
	}{
		{name: "start", request: "POST /status/start", kind: "vzstart", exit: ok, log: []string{"TASK OK"}, after: Running},
		{name: "stop", before: Container{Status: Running}, request: "POST /status/stop", kind: "vzstop", exit: ok, after: Stopped},
		{name: "shutdown", before: Container{Status: Running}, request: "POST /status/shutdown", kind: "vzshutdown", exit: ok, after: Stopped},
		{name: "reboot", before: Container{Status: Running}, request: "POST /status/reboot", kind: "vzreboot", exit: ok, after: Running},
		{
			name: "suspend", before: Container{Status: Running}, request: "POST /status/suspend", kind: "vzsuspend",
			exit: "command 'lxc-checkpoint -n 300 -s -D /var/lib/vz/dump' failed: exit code 1", after: Running,
		},
		{
			name: "resume", request: "POST /status/resume", kind: "vzresume",
			exit: "command 'lxc-checkpoint -n 300 -r --foreground -D /var/lib/vz/dump' failed: exit code 1", after: Stopped,
		},
		{
			name: "start of a locked one", before: Container{Lock: "backup"}, request: "POST /status/start", kind: "vzstart",
			exit: "CT is locked (backup)", log: []string{"TASK ERROR: CT is locked (backup)"}, after: Stopped,
		},
		{
			name: "start of a locked one, skipping the lock", before: Container{Lock: "backup"}, request: "POST /status/start?skiplock=1",
			kind: "vzstart", exit: ok, after: Running,
		},
		{
			name: "start of a mounted one", before: Container{Lock: "mounted"}, request: "POST /status/start", kind: "vzstart", exit: ok, after: Running,
		},
		{
			name: "shutdown of a locked one", before: Container{Status: Running, Lock: "snapshot"}, request: "POST /status/shutdown",
			kind: "vzshutdown", exit: "CT is locked (snapshot)", after: Running,
		},
		{
			name: "reboot of a locked one", before: Container{Status: Running, Lock: "snapshot"}, request: "POST /status/reboot",
			kind: "vzreboot", exit: ok, after: Running,
		},
		{
			name: "start of a template", before: Container{Template: true}, request: "POST /status/start", kind: "vzstart",
			exit: "you can't start a CT if it's a template", after: Stopped,
		},
		{
			name: "a start that fails", prepare: func(d *Datacenter) { must(d.FailNextStart(300, "")) }, request: "POST /status/start",
			kind: "vzstart", exit: "startup for container '300' failed", after: Stopped,
		},
		{
			name: "a reboot that fails half-way", before: Container{Status: Running},
			prepare: func(d *Datacenter) { must(d.FailNextStart(300, "unable to activate storage 'nas'")) }, request: "POST /status/reboot",
			kind: "vzreboot", exit: "unable to activate storage 'nas'", after: Stopped,
		},
		{
			name: "shutdown that takes too long", before: Container{Status: Running, ShutdownTime: 3 * time.Minute}, request: "POST /status/shutdown",
			kind: "vzshutdown", exit: "container did not stop", after: Running, log: []string{
				"command 'lxc-stop -n 300 --nokill --timeout 60' failed: exit code 1", "TASK ERROR: container did not stop",
			},
		},
		{
			name: "shutdown that is late but in time for the second wait", before: Container{Status: Running, ShutdownTime: 12 * time.Second},
			request: "POST /status/shutdown?timeout=10", kind: "vzshutdown", exit: ok, after: Stopped,
		},
		{
			name: "shutdown by force", before: Container{Status: Running, ShutdownTime: 3 * time.Minute},
			request: "POST /status/shutdown?timeout=10&forceStop=1", kind: "vzshutdown", exit: ok, log: []string{"TASK OK"}, after: Stopped,
		},
		{name: "delete", request: "DELETE ", kind: "vzdestroy", exit: ok, log: []string{
			`  Logical volume "vm-300-disk-0" successfully removed.`, "TASK OK",
		}},
		{
			name: "delete with all that belongs to it", before: Container{Status: Running, Mounts: map[string]string{"mp0": "local-lvm:vm-300-disk-1,mp=/srv,size=1G"}},
			request: "DELETE ?force=1&purge=1&destroy-unreferenced-disks=1", kind: "vzdestroy", exit: ok, log: []string{
				"forced to stop CT 300 before destroying!",
				`  Logical volume "vm-300-disk-0" successfully removed.`, `  Logical volume "vm-300-disk-1" successfully removed.`,
				"purging CT 300 from related configurations..", "TASK OK",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, Options{Empty: true})
			c.before.VMID = 300
			must(f.dc.AddContainer(c.before))
			if c.prepare != nil {
				c.prepare(f.dc)
			}
			method, rest, _ := strings.Cut(c.request, " ")
			upid, status := f.do(rootUser, method+" /nodes/pve1/lxc/300"+rest)
			if status["status"] != Stopped || status["exitstatus"] != c.exit || status["type"] != c.kind || status["id"] != "300" {
				t.Errorf("task ended as %v", status)
			}
			if log := f.log(upid); c.log != nil && strings.Join(log, "\n") != strings.Join(c.log, "\n") {
				t.Errorf("log is %q", log)
			}
			if got, ok := f.dc.Container(300); ok != (c.after != "") || got.Status != c.after {
				t.Errorf("afterwards it is %q, want %q", got.Status, c.after)
			}
			action, _, _ := strings.Cut(strings.TrimPrefix(rest, "/status/"), "?")
			if action == "" {
				action = "delete"
			}
			if n := f.dc.Accepted(300, action); n != 1 {
				t.Errorf("%s was accepted %d times", action, n)
			}
			for _, task := range f.dc.guests.active {
				t.Errorf("%s still runs", task.text)
			}
		})
	}
}

// TestStartOfNothing: PVE looks for a container only inside the worker.
func TestStartOfNothing(t *testing.T) {
	f := newFixture(t, Options{})
	if _, status := f.do(rootUser, "POST /nodes/pve1/lxc/999/status/start"); status["exitstatus"] != "Configuration file 'nodes/pve1/lxc/999.conf' does not exist" {
		t.Errorf("ended as %v", status)
	}
}

func TestDestroyTakesPermissionsAndVMIDAlong(t *testing.T) {
	f := newFixture(t, Options{})
	if f.call("alice@pve", "GET /nodes/pve1/lxc/102/config").status != 200 {
		t.Fatal("alice can't see 102")
	}
	get[string](f, rootUser, "DELETE /nodes/pve1/lxc/102")
	f.pass(300 * time.Millisecond)
	if conf := get[object](f, rootUser, "GET /nodes/pve1/lxc/102/config"); conf["lock"] != "destroyed" {
		t.Errorf("while its disks go, its lock is %v", conf["lock"])
	}
	f.pass(time.Minute)
	if got := get[int](f, rootUser, "GET /cluster/nextid?vmid=102"); got != 102 {
		t.Errorf("nextid for 102 says %d", got)
	}
	must(f.dc.AddContainer(Container{VMID: 102, Name: "another"}))
	if a := f.call("alice@pve", "GET /nodes/pve1/lxc/102/config"); a.status != 403 {
		t.Errorf("alice's permission outlived the container: %d", a.status)
	}
}

func TestNextID(t *testing.T) {
	f := newFixture(t, cluster())
	if got := get[int](f, "alice@pve", "GET /cluster/nextid"); got != 115 {
		t.Errorf("next is %d", got)
	}
	// alice may not see 200, and is told of it nevertheless.
	if a := f.call("alice@pve", "GET /cluster/nextid?vmid=200"); a.status != 400 || a.body.Errors["vmid"] != "VM 200 already exists" {
		t.Errorf("%d %v", a.status, a.body.Errors)
	}
}
