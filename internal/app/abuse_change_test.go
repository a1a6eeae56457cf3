package app

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/pve/sim"
	"berth/internal/session"
	"berth/internal/task"
)

// TestAbuseLockByAnotherHost: somebody who may start a container gives the node that they asked for it through the address of a
// host of their own, which says for ever that the task runs. That holds nobody up.
func TestAbuseLockByAnotherHost(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve")
	loopback := forLoopback
	var asked atomic.Int32
	h := newHostile(t, newAuthority(t).issue(t, &loopback), plausible(func(w http.ResponseWriter, r *http.Request) {
		answer := `{"data":[]}`
		switch p := r.URL.Path; {
		case strings.HasSuffix(p, "/version"):
			answer = `{"data":{"version":"9.0.3","release":"9.0","repoid":"abcdef"}}`
		case strings.HasSuffix(p, "/permissions"):
			answer = `{"data":{"/":{"VM.Audit":1,"VM.PowerMgmt":1},"/vms":{"VM.Audit":1,"VM.PowerMgmt":1}}}`
		case strings.HasSuffix(p, "/nodes"):
			answer = `{"data":[{"node":"pve1","status":"online","type":"node"}]}`
		case strings.HasSuffix(p, "/status") && strings.Contains(p, "/tasks/"):
			asked.Add(1)
			answer = `{"data":{"status":"running"}}`
		}
		_, _ = io.WriteString(w, answer)
	}))
	y.dc.HoldTasks(true)
	r, op := y.order(t, y.node, 102, "start", nil)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("start: %d %s", r.StatusCode, r.body)
	}
	r = y.patch(y.node, map[string]any{
		"credential": "token", "host": "127.0.0.1", "port": h.port(), "fingerprint": h.fingerprint(),
		"tokenId": "alice@pve!own", "tokenSecret": "12345678-1234-1234-1234-123456789012",
	})
	if r.StatusCode != http.StatusOK {
		t.Fatalf("patch: %d %s", r.StatusCode, r.body)
	}
	y.dc.HoldTasks(false)
	if op = y.ended(t, op.ID); op.State != task.Unknown || !strings.Contains(op.Error, "leads elsewhere") {
		t.Errorf("%+v", op)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the other host was asked for the task %d times", n)
	}
	root := y.bench.browser(t)
	root.signIn(y.host, "root@pam")
	y.eventually(t, "the start has ended", func() bool {
		c, _ := y.dc.Container(102)
		return c.Status == sim.Running
	})
	y.advance(11 * time.Second)
	if r, _ := root.order(t, root.nodeID(t), 102, "stop", nil); r.StatusCode != http.StatusOK {
		t.Errorf("stopped by another: %d %s", r.StatusCode, r.body)
	}
}

// TestAbuseRunOfAnEndedSession: a run ends with the session or the access token that asked for it, though its node has a token
// of its own, which would answer for ever.
func TestAbuseRunOfAnEndedSession(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, y *yard, id string){
		"session": func(t *testing.T, y *yard, _ string) {
			if r := y.json("/api/auth/logout", map[string]any{}); r.StatusCode != http.StatusOK {
				t.Fatalf("sign-out: %d %s", r.StatusCode, r.body)
			}
		},
		"access token": func(t *testing.T, y *yard, id string) {
			if r := y.do("DELETE", "/api/tokens/"+id, "", ""); r.StatusCode != http.StatusOK {
				t.Fatalf("revocation: %d %s", r.StatusCode, r.body)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			y := stopped(t, sim.Options{Containers: 20, TaskSpeed: 100}, 100, 20)
			node, _ := y.addNode(tokenNode(t, y.dc, y.host, "root@pam", "stored"))["id"].(string)
			id, text := y.makeToken("script", session.ScopePower)
			var items []map[string]any
			for vmid := 100; vmid < 120; vmid++ {
				items = append(items, map[string]any{"nodeId": node, "vmid": vmid})
			}
			in := jsonText(t, map[string]any{"action": "start", "items": items})
			y.dc.HoldTasks(true)
			var run task.RunStatus
			if name == "session" {
				run = y.runFrom(t, y.do("POST", "/api/bulk", "application/json", in))
			} else {
				run = y.runFrom(t, y.bench.browser(t).do("POST", "/api/bulk", "application/json", in, "Authorization", "Bearer "+text))
			}
			y.eventually(t, "four run", func() bool { return y.run(t, run.ID).Counts[task.Running] == 4 })
			end(t, y, id)
			y.dc.HoldTasks(false)
			if name == "session" {
				y.browser = y.bench.browser(t)
				y.signIn(y.host, "root@pam")
			}
			y.advance(time.Minute) // whoever comes back follows what was left
			run = y.runEnded(t, run.ID)
			if run.Counts[task.Canceled] != 16 {
				t.Errorf("%v", run.Counts)
			}
			accepted := 0
			for vmid := 100; vmid < 120; vmid++ {
				accepted += y.dc.Accepted(vmid, "start")
			}
			if accepted != 4 {
				t.Errorf("the host accepted %d starts, want the 4 from before", accepted)
			}
		})
	}
}

// TestAbuseTaskStoppedByAPowerToken: an access token that may switch containers on and off stops such tasks and no others.
func TestAbuseTaskStoppedByAPowerToken(t *testing.T) {
	y := newYard(t, sim.Options{}, "root@pam")
	node, _ := y.addNode(tokenNode(t, y.dc, y.host, "root@pam", "stored"))["id"].(string)
	_, text := y.makeToken("script", session.ScopePower)
	script := y.bench.browser(t)
	y.dc.HoldTasks(true)
	if err := y.dc.SetContainerStatus(101, sim.Stopped); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		method, path string
		want         int
	}{
		{"DELETE", "/nodes/pve1/lxc/101", http.StatusForbidden},
		{"POST", "/nodes/pve1/lxc/103/status/shutdown", http.StatusOK},
	} {
		raw, err := y.dc.Call("root@pam", test.method, test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		upid := strings.Trim(string(raw), `"`)
		r := script.do("POST", "/api/tasks/"+node+"/"+upid+"/stop", "application/json", "{}", "Authorization", "Bearer "+text)
		if r.StatusCode != test.want {
			t.Errorf("%s: %d %s, want %d", upid, r.StatusCode, r.body, test.want)
		}
	}
}
