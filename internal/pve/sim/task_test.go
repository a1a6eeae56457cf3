package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestUPID(t *testing.T) {
	f := newFixture(t, Options{})
	text := get[string](f, "bob@pve", "POST /nodes/pve1/lxc/102/status/start")
	u, ok := parseUPID(text)
	if !ok {
		t.Fatalf("%q", text)
	}
	if u.node != "pve1" || u.kind != "vzstart" || u.id != "102" || u.owner != "bob@pve" || u.starttime != f.now.Unix() || u.pid == 0 || u.pstart == 0 {
		t.Errorf("%+v", u)
	}
	for _, bad := range []string{
		"", "UPID", text[:len(text)-1], text + "x", strings.Replace(text, "vzstart", "", 1), strings.Replace(text, "bob@pve", "", 1),
		strings.Replace(text, "UPID:pve1", "UPID:-", 1), strings.Replace(text, ":102:", ":1 2:", 1), "UPID:pve1:123:00000000:00000000:x::y:",
	} {
		if u, ok := parseUPID(bad); ok {
			t.Errorf("%q is taken for %+v", bad, u)
		}
	}
}

func FuzzParseUPID(f *testing.F) {
	f.Add("UPID:pve1:00000ABC:0001E240:6985A8C9:vzstart:102:root@pam:")
	f.Add("UPID:pve-2:00000ABC:10001E240:6985A8C9:startall::alice@pve!dash:")
	f.Fuzz(func(t *testing.T, text string) {
		u, ok := parseUPID(text)
		if !ok {
			return
		}
		if again, ok := parseUPID(u.text); !ok || again != u {
			t.Errorf("%q reads as %+v, then as %+v", text, u, again)
		}
		if u.user() == "" && !strings.HasPrefix(u.owner, "!") || u.kind == "" || u.node == "" {
			t.Errorf("%q: %+v", text, u)
		}
	})
}

// TestTaskProgress: a task and its container change as the clock moves, not before.
func TestTaskProgress(t *testing.T) {
	f := newFixture(t, Options{Empty: true})
	must(f.dc.AddContainer(Container{VMID: 100, Status: Running, ShutdownTime: 4 * time.Second}))
	upid := get[string](f, rootUser, "POST /nodes/pve1/lxc/100/status/shutdown")
	look := func() string {
		status := get[object](f, rootUser, "GET /nodes/pve1/tasks/"+upid+"/status")
		_, hasExit := status["exitstatus"]
		c, _ := f.dc.Container(100)
		return fmt.Sprint(status["status"], " ", hasExit, " ", c.Status, " ", f.log(upid))
	}
	const going, done = "running false running [no content]", "stopped true stopped [TASK OK]"
	for _, step := range []struct {
		pass time.Duration
		want string
	}{{0, going}, {3900 * time.Millisecond, going}, {200 * time.Millisecond, done}, {time.Hour, done}} {
		f.pass(step.pass)
		if got := look(); got != step.want {
			t.Errorf("after %v more: %s, want %s", step.pass, got, step.want)
		}
	}
	row := get[[]object](f, rootUser, "GET /nodes/pve1/tasks?vmid=100")[0]
	if took := row["endtime"].(float64) - row["starttime"].(float64); took != 4 {
		t.Errorf("it took %v s", took)
	}
	f.pass(-time.Hour) // a clock that is set back
	if got := look(); got != done {
		t.Errorf("an hour earlier: %s", got)
	}
}

// TestConfigLock: workers on one container wait for each other.
func TestConfigLock(t *testing.T) {
	for _, c := range []struct {
		name      string
		shutdown  time.Duration
		second    string
		exit, log string
		firstExit string
		elapsed   int
		status    string
	}{
		{
			name: "the first ends soon", shutdown: 4 * time.Second, second: "stop", exit: "OK",
			log: "trying to acquire lock...| OK|TASK OK", firstExit: "OK", elapsed: 4, status: Stopped,
		},
		{
			name: "the first takes long", shutdown: 50 * time.Second, second: "stop", elapsed: 10, status: Stopped, firstExit: "OK",
			exit: "can't lock file '/run/lock/lxc/pve-config-100.lock' - got timeout",
			log:  "trying to acquire lock...|TASK ERROR: can't lock file '/run/lock/lxc/pve-config-100.lock' - got timeout",
		},
		{
			name: "the first is overruled", shutdown: 50 * time.Second, second: "stop?overrule-shutdown=1", exit: "OK",
			log: "overruled vzshutdown tasks: UPID|TASK OK", firstExit: "received interrupt", status: Stopped,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, Options{Empty: true})
			must(f.dc.AddContainer(Container{VMID: 100, Status: Running, ShutdownTime: c.shutdown}))
			first := get[string](f, rootUser, "POST /nodes/pve1/lxc/100/status/shutdown")
			second, status := f.do(rootUser, "POST /nodes/pve1/lxc/100/status/"+c.second)
			log := strings.ReplaceAll(strings.Join(f.log(second), "|"), first, "UPID")
			if status["exitstatus"] != c.exit || log != c.log {
				t.Errorf("ended with %v, log %q", status["exitstatus"], log)
			}
			row := get[[]object](f, rootUser, "GET /nodes/pve1/tasks?typefilter=vzstop")[0]
			if took := int(row["endtime"].(float64) - row["starttime"].(float64)); took < c.elapsed || took > c.elapsed+1 {
				t.Errorf("it took %d s, want about %d", took, c.elapsed)
			}
			if got := get[object](f, rootUser, "GET /nodes/pve1/tasks/"+first+"/status"); got["exitstatus"] != c.firstExit {
				t.Errorf("the first ended with %v", got["exitstatus"])
			}
			if got, _ := f.dc.Container(100); got.Status != c.status {
				t.Errorf("the container is %s", got.Status)
			}
		})
	}
}

func TestTaskLists(t *testing.T) {
	f := newFixture(t, Options{Empty: true})
	must(f.dc.AddUser(User{ID: "alice@pve", Password: "secret-alice"}))
	must(f.dc.AddUser(User{ID: "audit@pve", Password: "secret-audit"}))
	must(f.dc.Grant(ACL{Path: "/vms", User: "alice@pve", Role: "PVEVMUser"}))
	must(f.dc.Grant(ACL{Path: "/nodes/pve1", User: "audit@pve", Role: "PVEAuditor"}))
	for vmid := 100; vmid < 104; vmid++ {
		must(f.dc.AddContainer(Container{VMID: vmid}))
	}
	must(f.dc.FailNextStart(101, ""))
	for _, task := range []struct {
		who  string
		vmid int
	}{{rootUser, 100}, {rootUser, 101}, {"alice@pve", 102}} {
		get[string](f, task.who, fmt.Sprintf("POST /nodes/pve1/lxc/%d/status/start", task.vmid))
		f.pass(time.Minute)
	}
	secret, err := f.dc.AddToken("alice@pve", "dash", false, time.Time{})
	if err != nil || secret == "" {
		t.Fatal(err)
	}
	get[string](f, "alice@pve!dash", "POST /nodes/pve1/lxc/103/status/start") // still runs
	since := f.now.Add(-time.Minute).Unix()

	for _, c := range []struct {
		who, query string
		want       string // ids, in the order of the list
		total      int
	}{
		{rootUser, "", "102 101 100", 3},
		{rootUser, "source=active", "103", 1},
		{rootUser, "source=all", "103 102 101 100", 4},
		{rootUser, "errors=1", "101", 1},
		{rootUser, "statusfilter=ok", "102 100", 2},
		{rootUser, "statusfilter=error,unknown&source=all", "103 101", 2},
		{rootUser, "vmid=101", "101", 1},
		{rootUser, "userfilter=ALICE", "102", 1},
		{rootUser, "typefilter=vzstop", "", 0},
		{rootUser, fmt.Sprint("since=", since), "102", 1},
		{rootUser, fmt.Sprint("until=", since-1), "101 100", 2},
		{rootUser, "limit=1", "102", 3},
		{rootUser, "start=1&limit=1", "101", 3},
		{rootUser, "start=5", "", 3},
		{"alice@pve", "source=all", "103 102", 2},
		{"alice@pve!dash", "source=all", "103", 1},
		{"audit@pve", "source=all", "103 102 101 100", 4},
	} {
		a := f.call(c.who, "GET /nodes/pve1/tasks?"+c.query)
		var ids []string
		for _, row := range get[[]object](f, c.who, "GET /nodes/pve1/tasks?"+c.query) {
			ids = append(ids, row["id"].(string))
		}
		if got := strings.Join(ids, " "); got != c.want || a.body.Total == nil || *a.body.Total != c.total {
			t.Errorf("%s as %s: %q of %v, want %q of %d", c.query, c.who, got, a.body.Total, c.want, c.total)
		}
	}
	// audit@pve would need Sys.Audit on /, and so would the token, even for its own.
	for who, want := range map[string]int{rootUser: 4, "alice@pve": 2, "alice@pve!dash": 0, "audit@pve": 0} {
		if got := len(get[[]object](f, who, "GET /cluster/tasks")); got != want {
			t.Errorf("cluster/tasks as %s: %d, want %d", who, got, want)
		}
	}
	running := get[[]object](f, rootUser, "GET /nodes/pve1/tasks?source=active")[0]
	if running["status"] != "RUNNING" || running["endtime"] != nil {
		t.Errorf("the running one is %v", running)
	}
}

func TestTaskAccess(t *testing.T) {
	f := newFixture(t, Options{})
	roots := get[string](f, rootUser, "POST /nodes/pve1/lxc/102/status/start")
	f.pass(time.Minute)
	own := get[string](f, "alice@pve", "POST /nodes/pve1/lxc/102/status/shutdown")
	unknown := strings.Replace(own, ":vzshutdown:", ":vzstop:", 1)
	const denied = "Permission check failed (/nodes/pve1, Sys.Audit)"
	for _, c := range []struct {
		who, request string
		status       int
		reason       string
		field        string
	}{
		{"alice@pve", "GET /nodes/pve1/tasks/" + own + "/status", 200, "", ""},
		{"alice@pve", "GET /nodes/pve1/tasks/" + own + "/log", 200, "", ""},
		{rootUser, "GET /nodes/pve1/tasks/" + own + "/status", 200, "", ""},
		{"alice@pve", "GET /nodes/pve1/tasks/" + roots + "/status", 403, denied, ""},
		{"alice@pve", "GET /nodes/pve1/tasks/" + roots + "/log", 403, denied, ""},
		{"bob@pve", "DELETE /nodes/pve1/tasks/" + own, 403, "Permission check failed (/nodes/pve1, Sys.Modify)", ""},
		{rootUser, "GET /nodes/pve1/tasks/" + unknown + "/status", 400, "Parameter verification failed.", "no such task"},
		{rootUser, "DELETE /nodes/pve1/tasks/" + unknown, 400, "Parameter verification failed.", "no such task"},
		{rootUser, "GET /nodes/pve1/tasks/nonsense/status", 400, "Parameter verification failed.", "unable to parse worker upid"},
		{"alice@pve", "DELETE /nodes/pve1/tasks/" + own, 200, "", ""},
	} {
		a := f.call(c.who, c.request)
		if a.status != c.status || a.reason != c.reason || a.body.Errors["upid"] != c.field {
			t.Errorf("%s as %s: %d %s %v", c.request, c.who, a.status, a.reason, a.body.Errors)
		}
	}
	if got := get[object](f, "alice@pve", "GET /nodes/pve1/tasks/"+own+"/status"); got["exitstatus"] != "received interrupt" {
		t.Errorf("the stopped task ended with %v", got["exitstatus"])
	}
	if c, _ := f.dc.Container(102); c.Status != Running {
		t.Errorf("the container whose shutdown was interrupted is %s", c.Status)
	}
	if got := f.log(unknown); !slices.Equal(got, []string{"unable to open file - No such file or directory"}) {
		t.Errorf("log of an unknown task: %q", got)
	}
	f.pass(time.Minute)
	if c, _ := f.dc.Container(102); c.Status != Running {
		t.Errorf("an interrupted shutdown went on: %s", c.Status)
	}
}

func TestTaskLogPages(t *testing.T) {
	f := newFixture(t, Options{})
	var backup string
	for _, row := range get[[]object](f, rootUser, "GET /nodes/pve1/tasks?typefilter=vzdump") {
		backup = row["upid"].(string)
	}
	all := f.log(backup)
	if len(all) < 60 {
		t.Fatalf("the backup's log has %d lines", len(all))
	}
	for query, want := range map[string][2]int{"": {0, 50}, "?start=10&limit=5": {10, 15}, "?start=55": {55, len(all)}, "?start=1000": {0, 0}} {
		a := f.call(rootUser, "GET /nodes/pve1/tasks/"+backup+"/log"+query)
		lines := get[[]logLine](f, rootUser, "GET /nodes/pve1/tasks/"+backup+"/log"+query)
		if len(lines) != want[1]-want[0] || a.body.Total == nil || *a.body.Total != len(all) {
			t.Errorf("%q: %d lines of %v", query, len(lines), a.body.Total)
		}
		if len(lines) > 0 && (lines[0].N != want[0]+1 || lines[0].T != all[want[0]]) {
			t.Errorf("%q begins with %+v", query, lines[0])
		}
	}
}

func TestTasksAreForgottenInTime(t *testing.T) {
	f := newFixture(t, Options{Empty: true})
	must(f.dc.AddContainer(Container{VMID: 100}))
	first := get[string](f, rootUser, "POST /nodes/pve1/lxc/100/status/resume")
	for range maxTasks {
		f.pass(time.Second)
		get[string](f, rootUser, "POST /nodes/pve1/lxc/100/status/resume")
	}
	f.pass(time.Second)
	if a := f.call(rootUser, "GET /nodes/pve1/tasks/"+first+"/status"); a.body.Errors["upid"] != "no such task" {
		t.Errorf("the oldest of %d tasks is still there: %d", maxTasks+1, a.status)
	}
	if n := len(f.dc.guests.tasks); n != maxTasks {
		t.Errorf("%d tasks are remembered", n)
	}
}
