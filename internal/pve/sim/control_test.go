package sim

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCall: what somebody does with another client has its task where everybody can see it, and counts for no host.
func TestCall(t *testing.T) {
	f := newFixture(t, cluster())
	upid, err := f.dc.ChangeContainer("alice@pve", 101, "stop")
	if err != nil {
		t.Fatal(err)
	}
	tasks := get[[]object](f, rootUser, "GET /cluster/tasks")
	at := slices.IndexFunc(tasks, func(o object) bool { return o["upid"] == upid })
	if at < 0 || tasks[at]["user"] != "alice@pve" || tasks[at]["endtime"] != nil {
		t.Errorf("the task is not running: %v", tasks)
	}
	f.pass(time.Minute)
	if c, _ := f.dc.Container(101); c.Status != Stopped || f.dc.Accepted(101, "stop") != 0 {
		t.Errorf("it is %s and was counted %d times", c.Status, f.dc.Accepted(101, "stop"))
	}
	const config = "/nodes/pve2/lxc/101/config"
	if _, err := f.dc.Call(rootUser, "PUT", config, url.Values{"tags": {"a,b"}}); err != nil {
		t.Error(err)
	}
	if conf, err := f.dc.Call(rootUser, "GET", config, nil); err != nil || !strings.Contains(string(conf), `"tags":"a;b"`) {
		t.Errorf("%s, %v", conf, err)
	}
	f.call(rootUser, "PUT "+config+"?tags=c")
	if n := f.dc.Accepted(101, "config"); n != 1 {
		t.Errorf("%d changes of the configuration were counted", n)
	}
	for name, call := range map[string]func() error{
		"without a privilege": func() error { _, err := f.dc.ChangeContainer("alice@pve", 100, "stop"); return err },
		"delete by a user":    func() error { _, err := f.dc.ChangeContainer("alice@pve", 101, "delete"); return err },
		"no such user":        func() error { _, err := f.dc.ChangeContainer("nobody@pve", 101, "start"); return err },
		"no such token":       func() error { _, err := f.dc.ChangeContainer("alice@pve!x", 101, "start"); return err },
		"no such container":   func() error { _, err := f.dc.ChangeContainer(rootUser, 99, "start"); return err },
		"no such path":        func() error { _, err := f.dc.Call(rootUser, "GET", "/nosuch", nil); return err },
		"stopping twice":      func() error { _, err := f.dc.ChangeContainer(rootUser, 101, "stop"); return err },
	} {
		if call() == nil {
			t.Errorf("%s: done", name)
		}
	}
	if upid, err = f.dc.ChangeContainer(rootUser, 112, "delete"); err != nil || !strings.Contains(upid, ":vzdestroy:112:") {
		t.Errorf("%q, %v", upid, err)
	}
}

func TestFailTasks(t *testing.T) {
	f := newFixture(t, Options{})
	const line = "unable to open /dev/pve/vm-102-disk-0: no such device"
	f.dc.FailTasks(line, 102, 112)
	for range 2 {
		upid, status := f.do(rootUser, "POST /nodes/pve1/lxc/102/status/start")
		if log := f.log(upid); status["exitstatus"] != line || log[len(log)-1] != "TASK ERROR: "+line {
			t.Errorf("ended with %v and the log %q", status["exitstatus"], log)
		}
	}
	f.dc.FailTasks("", 102)
	if _, status := f.do(rootUser, "POST /nodes/pve1/lxc/102/status/start"); status["exitstatus"] != "OK" {
		t.Errorf("it still ends with %v", status["exitstatus"])
	}
	if _, status := f.do(rootUser, "POST /nodes/pve1/lxc/112/status/start"); status["exitstatus"] != line {
		t.Errorf("the other ends with %v", status["exitstatus"])
	}
}

func TestHoldTasks(t *testing.T) {
	f := newFixture(t, Options{})
	begun := get[string](f, rootUser, "POST /nodes/pve1/lxc/102/status/start")
	f.dc.HoldTasks(true)
	later := get[string](f, rootUser, "POST /nodes/pve1/lxc/112/status/start")
	f.pass(time.Hour)
	for _, upid := range []string{begun, later} {
		if status := get[object](f, rootUser, "GET /nodes/pve1/tasks/"+upid+"/status"); status["status"] != Running {
			t.Errorf("%s ended: %v", upid, status)
		}
	}
	f.dc.HoldTasks(false)
	for _, upid := range []string{begun, later} {
		if status := get[object](f, rootUser, "GET /nodes/pve1/tasks/"+upid+"/status"); status["exitstatus"] != "OK" {
			t.Errorf("%s goes on: %v", upid, status)
		}
	}
}

func TestSpeed(t *testing.T) {
	f := newFixture(t, Options{Refresh: time.Second, TaskSpeed: 1000})
	upid := get[string](f, rootUser, "POST /nodes/pve1/lxc/102/status/start")
	f.pass(50 * time.Millisecond)
	if status := get[object](f, rootUser, "GET /nodes/pve1/tasks/"+upid+"/status"); status["exitstatus"] != "OK" {
		t.Errorf("after 50 ms: %v", status)
	}
	f.pass(time.Second)
	if got := byVMID(get[[]object](f, rootUser, "GET /cluster/resources"), 102)["status"]; got != Running {
		t.Errorf("after a refresh: %v", got)
	}
}
