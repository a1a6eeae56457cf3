package app

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/pve/sim"
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
