package store

import (
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/session"
	"berth/internal/task"
	"berth/internal/task/tasktest"
)

func TestTaskContract(t *testing.T) {
	suite(t, func(t *testing.T, fresh func(t *testing.T) *Store) {
		tasktest.Contract(t, func(t *testing.T) task.Store { return fresh(t) })
	})
}

// The end of an operation and its entry in the audit trail are one step, and only the first end counts.
func TestEndHasItsEntry(t *testing.T) {
	suite(t, func(t *testing.T, fresh func(t *testing.T) *Store) {
		s, ctx := fresh(t), t.Context()
		alice := session.Identity{Datacenter: "dc", UserID: "alice@pve"}
		now := time.UnixMilli(1_700_000_000_000)
		op := task.Operation{ID: "a", NodeID: "n", Node: "pve1", VMID: 102, Action: task.Start, State: task.Sending, Created: now, Owner: alice, Cluster: "c"}
		if err := s.Begin(ctx, op, now, now.Add(time.Minute), 10); err != nil {
			t.Fatal(err)
		}
		for _, detail := range []string{"first", "second"} {
			entry := audit.Entry{At: now, Identity: alice, Action: audit.ContainerStart, Result: audit.OK, Detail: detail, Count: 1}
			if _, err := s.EndOperation(ctx, "a", task.Ending{State: task.Done, At: now, Entry: &entry}); err != nil {
				t.Fatal(err)
			}
		}
		entries, err := s.Entries(ctx, audit.Selection{Of: alice}, 10)
		if err != nil || len(entries) != 1 || entries[0].Detail != "first" {
			t.Errorf("%+v, %v", entries, err)
		}
	})
}
