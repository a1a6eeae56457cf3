package store

import (
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/node"
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

// What is under way through a node whose cluster is proven to be one with another goes on under that one's id.
func TestOperationsJoinWithTheirNodes(t *testing.T) {
	suite(t, func(t *testing.T, fresh func(t *testing.T) *Store) {
		s, ctx := fresh(t), t.Context()
		fill(t, s, 1)
		hosts, err := s.LoginHosts(ctx)
		if err != nil {
			t.Fatal(err)
		}
		dc := hosts[0].Datacenter
		alice := session.Identity{Datacenter: dc, UserID: "carol@pve"}
		now := time.UnixMilli(1_700_000_000_000)
		welcomed := node.Record{Node: node.Node{ID: "own", Owner: alice, Name: "own", Cluster: dc, Credential: node.BySession, IsDefault: true, Created: now}}
		if _, err := s.Welcome(ctx, welcomed, now); err != nil {
			t.Fatal(err)
		}
		other := node.Record{Node: node.Node{ID: "other", Owner: alice, Name: "other", Cluster: "c", Credential: node.ByToken, Created: now}, Secret: []byte("sealed")}
		if err := s.CreateNode(ctx, other, "", 10); err != nil {
			t.Fatal(err)
		}
		begin := func(id, nodeID, cluster string, vmid int) {
			op := task.Operation{ID: id, NodeID: nodeID, Node: "pve1", VMID: vmid, Action: task.Start, State: task.Sending, Created: now, Owner: alice, Cluster: cluster}
			if err := s.Begin(ctx, op, now, now.Add(time.Minute), 10); err != nil {
				t.Fatal(err)
			}
		}
		begin("a", "other", "c", 101)
		begin("b", "own", dc, 102)
		begin("c", "other", "c", 103)
		if _, err := s.EndOperation(ctx, "c", task.Ending{State: task.Done, At: now}); err != nil {
			t.Fatal(err)
		}
		if err := s.JoinClusters(ctx, "one", []string{"c", dc}); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]string{"a": "one", "b": dc, "c": "c"} {
			if op, err := s.Operation(ctx, alice, id); err != nil || op.Cluster != want {
				t.Errorf("%s: cluster %q, %v; want %q", id, op.Cluster, err, want)
			}
		}
	})
}
