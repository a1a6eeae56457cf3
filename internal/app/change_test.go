package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/pve"
	"berth/internal/pve/sim"
	"berth/internal/task"
)

// yard is a bench with a host that somebody is signed in at.
type yard struct {
	*bench
	dc   *sim.Datacenter
	host *sim.Host
	*browser
	node string // id of the caller's node
}

func newYard(t *testing.T, o sim.Options, user string) *yard {
	t.Helper()
	b := newBench(t)
	dc, host := b.newHost(t, o)
	y := &yard{bench: b, dc: dc, host: host, browser: b.browser(t)}
	y.signIn(host, user)
	y.node = y.browser.nodeID(t)
	return y
}

// nodeID is the id of the only node that a caller has.
func (b *browser) nodeID(t *testing.T) string {
	t.Helper()
	var list struct {
		Nodes []struct {
			NodeID string `json:"nodeId"`
		} `json:"nodes"`
	}
	r := b.get("/api/containers")
	if err := json.Unmarshal([]byte(r.body), &list); err != nil || len(list.Nodes) != 1 {
		t.Fatalf("nodes: %d %s", r.StatusCode, r.body)
	}
	return list.Nodes[0].NodeID
}

// order asks for a change, and returns what came of it.
func (b *browser) order(t *testing.T, node string, vmid int, action string, in map[string]any) (reply, task.Operation) {
	t.Helper()
	if in == nil {
		in = map[string]any{}
	}
	r := b.json(fmt.Sprintf("/api/containers/%s/%d/%s", node, vmid, action), in)
	var op task.Operation
	if r.StatusCode == http.StatusOK {
		if err := json.Unmarshal([]byte(r.body), &op); err != nil {
			t.Fatalf("%s: %v", r.body, err)
		}
	}
	return r, op
}

// operation reads an operation.
func (b *browser) operation(t *testing.T, id string) task.Operation {
	t.Helper()
	r := b.get("/api/operations/" + id)
	var op task.Operation
	if err := json.Unmarshal([]byte(r.body), &op); r.StatusCode != http.StatusOK || err != nil {
		t.Fatalf("operation: %d %s", r.StatusCode, r.body)
	}
	return op
}

// eventually waits until a condition holds, moving the clock on.
func (b *bench) eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
		b.advance(50 * time.Millisecond)
	}
	t.Fatalf("waited in vain: %s", what)
}

// ended waits for the end of an operation.
func (y *yard) ended(t *testing.T, id string) task.Operation {
	t.Helper()
	var op task.Operation
	y.eventually(t, "an operation ends", func() bool {
		op = y.operation(t, id)
		return op.State.Ended()
	})
	return op
}

func (y *yard) accepted(t *testing.T, vmid int, action string, want int) {
	t.Helper()
	if n := y.dc.Accepted(vmid, action); n != want {
		t.Errorf("the host carried out %d × %s of %d, want %d", n, action, vmid, want)
	}
}

func (y *yard) status(t *testing.T, vmid int, want string) {
	t.Helper()
	if c, ok := y.dc.Container(vmid); !ok || c.Status != want {
		t.Errorf("container %d is %q, want %q", vmid, c.Status, want)
	}
}

func code(t *testing.T, r reply) string {
	t.Helper()
	text, _ := r.json(t)["code"].(string)
	return text
}

func (y *yard) trailOf(t *testing.T, action audit.Action) string {
	t.Helper()
	r := y.get("/api/audit?action=" + string(action))
	if r.StatusCode != http.StatusOK {
		t.Fatalf("audit: %d %s", r.StatusCode, r.body)
	}
	return r.body
}

func TestLifecycle(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve")
	for _, step := range []struct {
		vmid   int
		action string
		in     map[string]any
		status string
	}{
		{102, "start", nil, sim.Running},
		{102, "reboot", map[string]any{"timeout": 30}, sim.Running},
		{102, "shutdown", map[string]any{"timeout": "90"}, sim.Stopped},
		{101, "stop", nil, sim.Stopped},
	} {
		r, op := y.order(t, y.node, step.vmid, step.action, step.in)
		if r.StatusCode != http.StatusOK || op.State != task.Running || op.UPID.Type != "vz"+step.action || op.Name == "" {
			t.Fatalf("%s: %d %s", step.action, r.StatusCode, r.body)
		}
		if op = y.ended(t, op.ID); op.State != task.Done || op.Error != "" || op.End.IsZero() {
			t.Errorf("%s: %+v", step.action, op)
		}
		y.status(t, step.vmid, step.status)
		y.accepted(t, step.vmid, step.action, 1)
		if trail := y.trailOf(t, audit.Action("container_"+step.action)); !strings.Contains(trail, op.UPID.String()) || !strings.Contains(trail, `"ok"`) ||
			!strings.Contains(trail, fmt.Sprintf("/ %d %s", op.VMID, op.Name)) {
			t.Errorf("%s in the trail: %s", step.action, trail)
		}
	}
}

func TestDeletionIsConfirmed(t *testing.T) {
	y := newYard(t, sim.Options{}, "root@pam")
	for _, typed := range []string{"", "nextcloud", "MINECRAFT", "112"} {
		r, _ := y.order(t, y.node, 112, "delete", map[string]any{"confirm": typed})
		if r.StatusCode != http.StatusUnprocessableEntity || code(t, r) != "confirmation_required" {
			t.Errorf("confirmed by %q: %d %s", typed, r.StatusCode, r.body)
		}
	}
	y.accepted(t, 112, "delete", 0)
	r, op := y.order(t, y.node, 112, "delete", map[string]any{"confirm": "minecraft", "purge": true, "destroyUnreferenced": true})
	if r.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	if op = y.ended(t, op.ID); op.State != task.Done {
		t.Errorf("%+v", op)
	}
	if _, ok := y.dc.Container(112); ok {
		t.Error("the container is still there")
	}
	y.accepted(t, 112, "delete", 1)
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	y := newYard(t, sim.Options{}, "root@pam")
	tests := []struct {
		vmid   int
		action string
		in     map[string]any
		status int
		code   string
	}{
		{101, "start", nil, http.StatusConflict, "wrong_state"},
		{102, "stop", nil, http.StatusConflict, "wrong_state"},
		{101, "delete", map[string]any{"confirm": "nextcloud"}, http.StatusConflict, "wrong_state"},
		{113, "start", nil, http.StatusConflict, "container_template"},
		{109, "stop", nil, http.StatusConflict, "container_locked"},
		{101, "stop", map[string]any{"timeout": 5}, http.StatusUnprocessableEntity, "invalid_input"},
		{101, "reboot", map[string]any{"timeout": 3601}, http.StatusUnprocessableEntity, "invalid_input"},
		{101, "start", map[string]any{"purge": true}, http.StatusUnprocessableEntity, "invalid_input"},
		{101, "explode", nil, http.StatusNotFound, "not_found"},
		{999, "start", nil, http.StatusNotFound, "not_found"},
	}
	for _, test := range tests {
		r, _ := y.order(t, y.node, test.vmid, test.action, test.in)
		if r.StatusCode != test.status || code(t, r) != test.code {
			t.Errorf("%s of %d with %v: %d %s, want %d %s", test.action, test.vmid, test.in, r.StatusCode, r.body, test.status, test.code)
		}
		y.accepted(t, test.vmid, test.action, 0)
	}
	if r, _ := y.order(t, "nobody", 102, "start", nil); r.StatusCode != http.StatusNotFound {
		t.Errorf("somebody else's node: %d %s", r.StatusCode, r.body)
	}
}

// A page refuses an action for what the container is now, not for what it was when the list was read.
func TestQuestionIsAboutTheContainerAsItIs(t *testing.T) {
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	root := b.browser(t)
	root.signIn(host, "root@pam")
	node := root.nodeID(t)
	question := "/containers/" + node + "/101/delete"
	const asks = `name="confirm"`
	if r := root.get(question); strings.Contains(r.body, asks) || !strings.Contains(r.body, "It is running") {
		t.Errorf("of one that runs: %d %s", r.StatusCode, r.body)
	}
	if err := dc.SetContainerStatus(101, sim.Stopped); err != nil {
		t.Fatal(err)
	}
	if r := root.get(question); !strings.Contains(r.body, asks) {
		t.Errorf("of one that was stopped on its host: %d %s", r.StatusCode, r.body)
	}
}

// TestOneChangeAtATime: of many requests at once Proxmox VE sees one, and the others are told what is under way.
func TestOneChangeAtATime(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve")
	y.dc.HoldTasks(true)
	var wait sync.WaitGroup
	replies := make([]reply, 8)
	for i := range replies {
		wait.Go(func() { replies[i], _ = y.order(t, y.node, 102, "start", nil) })
	}
	wait.Wait()
	done := 0
	for _, r := range replies {
		switch {
		case r.StatusCode == http.StatusOK:
			done++
		case r.StatusCode != http.StatusConflict || code(t, r) != "container_busy" || !strings.Contains(r.body, "You asked for a start"):
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	}
	if done != 1 {
		t.Errorf("%d of %d were taken", done, len(replies))
	}
	y.accepted(t, 102, "start", 1)

	// The lock holds as long as the task runs, however long that is, and no longer.
	for range 8 {
		y.advance(10 * time.Second)
		y.eventually(t, "the lease is renewed", func() bool {
			r, _ := y.order(t, y.node, 102, "start", nil)
			return r.StatusCode == http.StatusConflict && code(t, r) == "container_busy" && strings.Contains(r.body, "You asked for a start")
		})
	}
	y.dc.HoldTasks(false)
	y.eventually(t, "the lock is given back", func() bool {
		r, _ := y.order(t, y.node, 102, "stop", nil)
		return r.StatusCode == http.StatusOK
	})
}

// TestTasksOfOthersCount: a task that was begun elsewhere keeps a container from being changed, and is named to whom Proxmox VE
// shows it.
func TestTasksOfOthersCount(t *testing.T) {
	y := newYard(t, sim.Options{}, "root@pam")
	y.dc.HoldTasks(true)
	if _, err := y.dc.ChangeContainer("alice@pve", 102, "start"); err != nil {
		t.Fatal(err)
	}
	r, _ := y.order(t, y.node, 102, "start", nil)
	if code(t, r) != "container_busy" || !strings.Contains(r.body, "alice@pve began a task on this container") || !strings.Contains(r.body, ": Start. Wait") {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	y.accepted(t, 102, "start", 0)
}

// TestTwoIdentitiesOfOneCluster: the lock holds across users, and who has it is said only where Proxmox VE says it.
func TestTwoIdentitiesOfOneCluster(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve")
	root := y.bench.browser(t)
	root.signIn(y.host, "root@pam")
	rootNode := root.nodeID(t)
	y.dc.HoldTasks(true)
	if r, _ := root.order(t, rootNode, 102, "start", nil); r.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	r, _ := y.order(t, y.node, 102, "start", nil)
	if code(t, r) != "container_busy" || strings.Contains(r.body, "root@pam") || !strings.Contains(r.body, "Somebody else") {
		t.Errorf("to alice, whom Proxmox VE shows her own tasks alone: %d %s", r.StatusCode, r.body)
	}
	if r, _ := y.order(t, y.node, 101, "stop", nil); r.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	r, _ = root.order(t, rootNode, 101, "stop", nil)
	if code(t, r) != "container_busy" || !strings.Contains(r.body, "alice@pve began a task on this container") || !strings.Contains(r.body, ": Stop. Wait") {
		t.Errorf("to root, whom Proxmox VE shows everything: %d %s", r.StatusCode, r.body)
	}
	y.accepted(t, 102, "start", 1)
	y.accepted(t, 101, "stop", 1)
}

// TestTwoProcesses: the lock holds across programs on one data folder.
func TestTwoProcesses(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve")
	second := y.bench.beside()
	second.begin(t)
	other := second.browser(t)
	other.signIn(y.host, "alice@pve")
	y.dc.HoldTasks(true)
	var wait sync.WaitGroup
	var replies [6]reply
	for i := range replies {
		on := y.browser
		if i%2 == 1 {
			on = other
		}
		wait.Go(func() { replies[i], _ = on.order(t, y.node, 102, "start", nil) })
	}
	wait.Wait()
	done := 0
	for _, r := range replies {
		if r.StatusCode == http.StatusOK {
			done++
		} else if code(t, r) != "container_busy" {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	}
	if done != 1 {
		t.Errorf("%d were taken", done)
	}
	y.accepted(t, 102, "start", 1)
}

// TestLostAnswers: when the connection breaks after a change was sent, it is not sent again, and what came of it is found.
func TestLostAnswers(t *testing.T) {
	for name, fault := range map[string]sim.Fault{
		"before the answer": {CutAnswer: true, Times: 1}, "in the answer": {CutBody: true, Times: 1}, "an answer that is none": {WrongJSON: true, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			y := newYard(t, sim.Options{}, "alice@pve")
			// An older task of the same kind must not be taken for the one that was lost.
			for _, action := range []string{"start", "stop"} {
				if _, err := y.dc.ChangeContainer("alice@pve", 102, action); err != nil {
					t.Fatal(err)
				}
				y.advance(time.Minute)
				if !y.signedIn() {
					t.Fatal("signed out")
				}
			}
			y.host.SetFault("POST", "/nodes/pve1/lxc/102/status", fault)
			r, op := y.order(t, y.node, 102, "start", nil)
			if r.StatusCode != http.StatusOK || op.State != task.Running {
				t.Fatalf("%d %s", r.StatusCode, r.body)
			}
			if op = y.ended(t, op.ID); op.State != task.Done {
				t.Errorf("%+v", op)
			}
			y.status(t, 102, sim.Running)
			y.accepted(t, 102, "start", 1)
		})
	}
	t.Run("a change that never arrived", func(t *testing.T) {
		y := newYard(t, sim.Options{}, "alice@pve")
		y.host.SetFault("POST", "/nodes/pve1/lxc/102/status", sim.Fault{Status: 596})
		r, op := y.order(t, y.node, 102, "start", nil)
		if r.StatusCode != http.StatusOK || op.State != task.Unknown || !strings.Contains(op.Error, "shows no task") {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		y.accepted(t, 102, "start", 0)
		if r := y.get("/api/notices"); !strings.Contains(r.body, op.ID) {
			t.Errorf("notices: %s", r.body)
		}
		y.host.ClearFaults()
		if r, _ := y.order(t, y.node, 102, "start", nil); r.StatusCode != http.StatusOK {
			t.Errorf("again: %d %s", r.StatusCode, r.body)
		}
	})
	t.Run("a tag", func(t *testing.T) {
		y := newYard(t, sim.Options{}, "root@pam")
		y.host.SetFault("PUT", "/nodes/pve1/lxc/102/config", sim.Fault{CutAnswer: true, Times: 1})
		r, op := y.order(t, y.node, 102, "tag", map[string]any{"addTags": []string{"new"}})
		if r.StatusCode != http.StatusOK || op.State != task.Done {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		y.accepted(t, 102, "config", 1)
	})
}

// TestHostCutOffInTheMiddle: the operation waits for the host, and ends when it is back.
func TestHostCutOffInTheMiddle(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve")
	y.dc.HoldTasks(true)
	_, op := y.order(t, y.node, 102, "start", nil)
	y.host.SetFault("", "", sim.Fault{Refuse: true})
	y.dc.HoldTasks(false)
	y.advance(2 * time.Minute)
	if got := y.operation(t, op.ID); got.State != task.Running {
		t.Errorf("%+v", got)
	}
	y.host.ClearFaults()
	if op = y.ended(t, op.ID); op.State != task.Done {
		t.Errorf("%+v", op)
	}
	y.accepted(t, 102, "start", 1)
}

// secondDoor makes another host of the same installation a login host of the same datacenter.
func (y *yard) secondDoor(t *testing.T) *sim.Host {
	t.Helper()
	other, err := y.dc.Listen("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	at, err := addressOf(other)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := pve.ParseFingerprint(other.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := y.client.Host(at, pve.Trust{Certificate: &shown}).Handshake(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found, err := y.sessions.Find(t.Context(), y.token())
	if err != nil {
		t.Fatal(err)
	}
	if err := y.hosts.Add(t.Context(), at, &peer.Key, shown, found.Identity.Datacenter); err != nil {
		t.Fatal(err)
	}
	return other
}

// TestLostAnswerIsNotSentThroughAnotherDoor: what was sent through one host of a datacenter is not sent again through the next,
// even when the container is by then as it was before.
func TestLostAnswerIsNotSentThroughAnotherDoor(t *testing.T) {
	y := newYard(t, sim.Options{TaskSpeed: 1000}, "alice@pve")
	// The other door takes its time, so that the reboot is over before it says how the container is.
	y.secondDoor(t).SetFault("GET", "/nodes/pve1/lxc/101/status", sim.Fault{Latency: 300 * time.Millisecond})
	y.host.SetFault("POST", "/nodes/pve1/lxc/101/status", sim.Fault{CutAnswer: true, Times: 1})
	rebooted := make(chan reply, 1)
	go func() {
		r, _ := y.order(t, y.node, 101, "reboot", nil)
		rebooted <- r
	}()
	var r reply
	y.eventually(t, "an answer", func() bool { // the reboot is over as soon as it has begun
		select {
		case r = <-rebooted:
			return true
		default:
			y.advance(time.Second)
			return false
		}
	})
	var op task.Operation
	if err := json.Unmarshal([]byte(r.body), &op); r.StatusCode != http.StatusOK || err != nil {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	if op = y.ended(t, op.ID); op.State != task.Done {
		t.Errorf("%+v", op)
	}
	y.accepted(t, 101, "reboot", 1)
	// A door that is known to be down is no hindrance: the change goes through the next one.
	y.host.SetFault("", "", sim.Fault{Refuse: true})
	if r, _ := y.order(t, y.node, 101, "stop", nil); r.StatusCode != http.StatusOK {
		t.Errorf("through the other door: %d %s", r.StatusCode, r.body)
	}
	y.accepted(t, 101, "stop", 1)
}

// TestTwoDoorsOfOneCluster: the lock holds for identities that come through different hosts of one installation.
func TestTwoDoorsOfOneCluster(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve")
	other := y.secondDoor(t)
	root := y.bench.browser(t)
	root.signIn(other, "root@pam")
	nodes := root.get("/api/containers").json(t)["nodes"].([]any)
	y.dc.HoldTasks(true)
	var wait sync.WaitGroup
	var replies [2]reply
	wait.Go(func() { replies[0], _ = y.order(t, y.node, 102, "start", nil) })
	wait.Go(func() {
		replies[1], _ = root.order(t, nodes[0].(map[string]any)["nodeId"].(string), 102, "start", nil)
	})
	wait.Wait()
	if taken := replies[0].StatusCode == http.StatusOK; taken == (replies[1].StatusCode == http.StatusOK) {
		t.Errorf("%d %s and %d %s", replies[0].StatusCode, replies[0].body, replies[1].StatusCode, replies[1].body)
	}
	y.accepted(t, 102, "start", 1)
}
