package task

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/container"
	"berth/internal/pve"
	"berth/internal/session"
)

// rightsOf are nodes that tell permissions, each after a time of its own.
type rightsOf struct {
	Nodes
	held  map[string]pve.Permissions
	after map[string]time.Duration
	asked atomic.Int32
}

func (r *rightsOf) Rights(ctx context.Context, _ session.Caller, id string) (pve.Permissions, error) {
	r.asked.Add(1)
	select {
	case <-time.After(r.after[id]):
		return r.held[id], nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A node that doesn't tell the caller's permissions soon delays no list and refuses nothing; the others are asked once each.
func TestAllowedEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := &rightsOf{
			held: map[string]pve.Permissions{
				"quick": {"/": {"VM.PowerMgmt": true}, "/vms/102": {"VM.Audit": true}},
				"slow":  {"/": {}},
			},
			after: map[string]time.Duration{"slow": time.Hour},
		}
		s := NewService(Options{Nodes: nodes})
		defer s.Close()
		var list []*container.Container
		for _, c := range []struct {
			door   string
			vmid   int
			status string
		}{{"quick", 101, "running"}, {"quick", 101, "stopped"}, {"quick", 102, "running"}, {"slow", 103, "running"}} {
			list = append(list, &container.Container{NodeID: c.door, Door: c.door, VMID: c.vmid, Status: c.status})
		}
		began := time.Now()
		each := s.AllowedEach(t.Context(), session.Caller{}, list)
		if took := time.Since(began); took > rightsPatience {
			t.Errorf("the list waited for %s", took)
		}
		if n := nodes.asked.Load(); n != 2 {
			t.Errorf("%d times permissions were asked for, of two nodes", n)
		}
		for i, want := range []struct{ stop, remove string }{
			{"", "Your account lacks the privilege VM.Allocate on /vms/101."},
			{"It is not running.", "Your account lacks the privilege VM.Allocate on /vms/101."},
			{"Your account lacks the privilege VM.PowerMgmt on /vms/102.", "Your account lacks the privilege VM.Allocate on /vms/102."},
			{"", "It is running. Stop it first."},
		} {
			if got := each[i]; got[Stop] != want.stop || got[Delete] != want.remove {
				t.Errorf("container %d: stop %q, delete %q", i, got[Stop], got[Delete])
			}
		}
	})
}
