package app

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/fault"
	"berth/internal/pve/sim"
	"berth/internal/session"
	"berth/internal/task"
)

// caller is who a browser's session belongs to.
func (y *yard) caller(t *testing.T) session.Caller {
	t.Helper()
	found, err := y.sessions.Find(t.Context(), y.token())
	if err != nil {
		t.Fatal(err)
	}
	return session.Caller{Identity: found.Identity, Session: found}
}

// left stores an operation as a program leaves it that was killed before it sent anything.
func (y *yard) left(t *testing.T, id string, vmid int, action task.Action) {
	t.Helper()
	caller := y.caller(t)
	n, err := y.App.nodes.Find(t.Context(), caller, y.node)
	if err != nil {
		t.Fatal(err)
	}
	op := task.Operation{
		ID: id, NodeID: y.node, Node: "pve1", VMID: vmid, Name: "left", Action: action, State: task.Sending, Created: y.now(), Owner: caller.Identity, Cluster: n.Cluster,
	}
	if err := y.shared.tasks.Begin(t.Context(), op, y.now(), y.now().Add(30*time.Second), 64); err != nil {
		t.Fatal(err)
	}
}

// TestATaskIsOneOperation: an operation that was never sent is not taken for done by the task of the next one of its kind.
func TestATaskIsOneOperation(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve")
	y.left(t, "left", 102, task.Start)
	y.advance(31 * time.Second)
	// The order takes up what was left, too: both are looked for at the same time.
	r, op := y.order(t, y.node, 102, "start", nil)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	if op = y.ended(t, op.ID); op.State != task.Done {
		t.Errorf("the one that was sent: %+v", op)
	}
	if left := y.ended(t, "left"); left.State != task.Unknown || !left.UPID.IsZero() {
		t.Errorf("the one that was not: %+v", left)
	}
	y.accepted(t, 102, "start", 1)
	if trail := y.trailOf(t, audit.ContainerStart); strings.Count(trail, op.UPID.String()) != 1 {
		t.Errorf("the trail: %s", trail)
	}
}

// TestLockIsFreeWhenItsLeaseIsOver: not a moment later than 30 s after it was taken or renewed last, by the clock that the lease
// goes by.
func TestLockIsFreeWhenItsLeaseIsOver(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve")
	y.left(t, "left", 102, task.Start)
	y.advance(30*time.Second - time.Millisecond)
	if r, _ := y.order(t, y.node, 102, "start", nil); code(t, r) != "container_busy" {
		t.Errorf("before: %d %s", r.StatusCode, r.body)
	}
	y.advance(time.Millisecond)
	if r, _ := y.order(t, y.node, 102, "start", nil); r.StatusCode != http.StatusOK {
		t.Errorf("after: %d %s", r.StatusCode, r.body)
	}
}

// slowLock is a store in which a lock takes its time.
type slowLock struct {
	task.Store
	late func()
}

func (s slowLock) Hold(ctx context.Context, op task.Operation, now, until time.Time) (bool, error) {
	held, err := s.Store.Hold(ctx, op, now, until)
	s.late()
	return held, err
}

// TestNothingIsSentUnderALockThatMayLapse: a change is sent only if the lease outlasts the call by which it is.
func TestNothingIsSentUnderALockThatMayLapse(t *testing.T) {
	y := newYard(t, sim.Options{}, "root@pam")
	for _, test := range []struct {
		action  string
		vmid    int
		options task.ChangeOptions
		sim     string
	}{
		{"start", 102, task.ChangeOptions{}, "start"},
		{"tag", 101, task.ChangeOptions{AddTags: task.Words{"new"}}, "config"},
	} {
		for _, step := range []struct {
			took time.Duration
			sent int
		}{{11 * time.Second, 0}, {9 * time.Second, 1}} {
			late := task.NewService(task.Options{
				Store: slowLock{y.shared.tasks, func() { y.clock.advance(step.took) }}, Nodes: y.App.nodes, Containers: y.containers, Audit: y.trail, Alive: y.alive, Now: y.now, Pause: briefly,
			})
			in := task.ChangeInput{NodeID: y.node, VMID: strconv.Itoa(test.vmid), Action: test.action, ChangeOptions: test.options}
			_, err := late.Change(t.Context(), y.caller(t), in)
			late.Close()
			if refused := fault.KindOf(err) == fault.Unavailable; refused == (step.sent == 1) || !refused && err != nil {
				t.Errorf("%s with a lock that took %s: %v", test.action, step.took, err)
			}
			y.accepted(t, test.vmid, test.sim, step.sent)
		}
	}
}
