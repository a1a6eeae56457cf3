package app

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/pve/sim"
	"berth/internal/task"
)

// bulk begins a run.
func (y *yard) bulk(t *testing.T, in map[string]any) task.RunStatus {
	t.Helper()
	return y.runFrom(t, y.json("/api/bulk", in))
}

func (y *yard) runFrom(t *testing.T, r reply) task.RunStatus {
	t.Helper()
	var run task.RunStatus
	if err := json.Unmarshal([]byte(r.body), &run); r.StatusCode != http.StatusOK || err != nil {
		t.Fatalf("run: %d %s", r.StatusCode, r.body)
	}
	return run
}

func (y *yard) run(t *testing.T, id string) task.RunStatus {
	t.Helper()
	return y.runFrom(t, y.get("/api/bulk/"+id))
}

func (y *yard) runEnded(t *testing.T, id string) task.RunStatus {
	t.Helper()
	var run task.RunStatus
	y.eventually(t, "a run ends", func() bool {
		run = y.run(t, id)
		return run.Ended
	})
	return run
}

// stopped is a fleet of which everything is stopped.
func stopped(t *testing.T, o sim.Options, first, n int) *yard {
	t.Helper()
	y := newYard(t, o, "root@pam")
	for vmid := first; vmid < first+n; vmid++ {
		if err := y.dc.SetContainerStatus(vmid, sim.Stopped); err != nil {
			t.Fatal(err)
		}
	}
	y.advance(11 * time.Second)
	return y
}

// TestBulk: of 200 containers ten fail, each by itself and with its own word; at most four of a member are changed at a time.
func TestBulk(t *testing.T) {
	y := stopped(t, sim.Options{Containers: 200, Name: "lab", Members: []string{"pve1", "pve2"}, TaskSpeed: 100}, 100, 200)
	failing := make([]int, 10)
	for i := range failing {
		failing[i] = 100 + 20*i
	}
	y.dc.FailTasks("no space left on device", failing...)
	run := y.bulk(t, map[string]any{"action": "start", "query": map[string]any{}})
	if len(run.Operations) != 200 {
		t.Fatalf("%d operations", len(run.Operations))
	}
	run = y.runEnded(t, run.ID)
	if run.Counts[task.Done] != 190 || run.Counts[task.Failed] != 10 {
		t.Errorf("%v", run.Counts)
	}
	for _, op := range run.Operations {
		failed := op.VMID%20 == 0
		if failed != (op.State == task.Failed) || failed && op.Error != "no space left on device" {
			t.Errorf("%d: %s %q", op.VMID, op.State, op.Error)
		}
		y.accepted(t, op.VMID, "start", 1)
	}
	if trail := y.trailOf(t, audit.ContainerStart); !strings.Contains(trail, `"failed"`) {
		t.Errorf("the trail has no failure: %s", trail)
	}
}

func TestBulkIsBoundedAndCanceled(t *testing.T) {
	y := stopped(t, sim.Options{Containers: 20, Name: "lab", Members: []string{"pve1", "pve2"}}, 100, 20)
	y.dc.HoldTasks(true)
	var items []map[string]any
	for vmid := 100; vmid < 120; vmid++ {
		items = append(items, map[string]any{"nodeId": y.node, "vmid": vmid}, map[string]any{"nodeId": y.node, "vmid": vmid})
	}
	items = append(items, map[string]any{"nodeId": y.node, "vmid": 998})
	run := y.bulk(t, map[string]any{"action": "start", "items": items})
	if len(run.Operations) != 21 {
		t.Fatalf("%d operations, want each container once", len(run.Operations))
	}
	y.eventually(t, "four of each member run", func() bool { return y.run(t, run.ID).Counts[task.Running] == 8 })
	run = y.run(t, run.ID)
	if run.Counts[task.Waiting] != 12 || run.Counts[task.Failed] != 1 {
		t.Errorf("%v", run.Counts)
	}
	run = y.runFrom(t, y.json("/api/bulk/"+run.ID+"/cancel", map[string]any{}))
	if run.Counts[task.Canceled] != 12 || run.Counts[task.Running] != 8 {
		t.Errorf("canceled: %v", run.Counts)
	}
	y.dc.HoldTasks(false)
	run = y.runEnded(t, run.ID)
	if run.Counts[task.Canceled] != 12 || run.Counts[task.Done] != 8 {
		t.Errorf("ended: %v", run.Counts)
	}
	started := 0
	for vmid := 100; vmid < 120; vmid++ {
		started += y.dc.Accepted(vmid, "start")
	}
	if started != 8 {
		t.Errorf("the host carried out %d starts", started)
	}
}

func TestBulkTags(t *testing.T) {
	y := newYard(t, sim.Options{}, "root@pam")
	run := y.bulk(t, map[string]any{"action": "tag", "query": map[string]any{"tag": "family"}, "addTags": []string{"kept"}, "removeTags": "family"})
	run = y.runEnded(t, run.ID)
	if run.Counts[task.Done] < 3 {
		t.Errorf("%v", run.Counts)
	}
	for _, op := range run.Operations {
		if op.State == task.Failed && strings.Contains(op.Error, "locked") {
			continue // 109 is locked
		}
		c, _ := y.dc.Container(op.VMID)
		if !strings.Contains(c.Tags, "kept") || strings.Contains(c.Tags, "family") {
			t.Errorf("%d has %q", op.VMID, c.Tags)
		}
	}
}

// TestBulkEndsWithTheSession: what has not begun by then is not begun any more.
func TestBulkEndsWithTheSession(t *testing.T) {
	y := stopped(t, sim.Options{Containers: 20}, 100, 20)
	y.dc.HoldTasks(true)
	run := y.bulk(t, map[string]any{"action": "start", "query": map[string]any{}})
	y.eventually(t, "four run", func() bool { return y.run(t, run.ID).Counts[task.Running] == 4 })
	if r := y.json("/api/auth/logout", map[string]any{}); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-out: %d %s", r.StatusCode, r.body)
	}
	y.dc.HoldTasks(false)
	y.browser = y.bench.browser(t)
	y.signIn(y.host, "root@pam")
	run = y.runEnded(t, run.ID)
	if run.Counts[task.Canceled] != 16 || run.Counts[task.Done] != 4 {
		t.Errorf("%v: %+v", run.Counts, run.Operations)
	}
}

func TestBulkInput(t *testing.T) {
	y := newYard(t, sim.Options{}, "root@pam")
	for name, in := range map[string]map[string]any{
		"nothing chosen":   {"action": "start"},
		"a deletion":       {"action": "delete", "items": []any{map[string]any{"nodeId": y.node, "vmid": 112}}},
		"no tags":          {"action": "tag", "query": map[string]any{}},
		"both":             {"action": "start", "query": map[string]any{}, "items": []any{map[string]any{"nodeId": y.node, "vmid": 112}}},
		"a query of junk":  {"action": "start", "query": map[string]any{"sort": "color"}},
		"none that match":  {"action": "start", "query": map[string]any{"q": "nowhere"}},
		"tags for a start": {"action": "start", "query": map[string]any{}, "addTags": "a"},
		"a tag of junk":    {"action": "tag", "query": map[string]any{}, "addTags": "a;-b"},
	} {
		if r := y.json("/api/bulk", in); r.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
}
