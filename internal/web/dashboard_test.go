package web

import (
	"testing"
	"time"

	"berth/internal/container"
	"berth/internal/web/view"
)

func TestWindowStart(t *testing.T) {
	for from, want := range map[string]int{"": 0, "x": 0, "-3": 0, "120": 120, "99999999999999999999": 0, "1e3": 0} {
		if got := windowStart(from); got != want {
			t.Errorf("a window from %q begins at %d, want %d", from, got, want)
		}
	}
}

func TestWindowRows(t *testing.T) {
	for asked, want := range map[string]int{"": view.PageRows, "x": view.PageRows, "0": view.PageRows, "45": 45, "100000": view.MostRows} {
		if got := windowRows(asked); got != want {
			t.Errorf("asked for %q rows, a window has %d, want %d", asked, got, want)
		}
	}
}

func TestDashboardRow(t *testing.T) {
	read := time.Unix(1000, 0)
	nodes := map[string]container.Source{"a": {NodeID: "a", Name: "attic", ReadAt: read, Problem: "it doesn't answer"}, "b": {NodeID: "b", Name: "cellar"}}
	through := func(door string) *container.Container {
		return &container.Container{NodeID: "a", Door: door, VMID: 101, Task: &container.RunningTask{Type: "vzshutdown"}}
	}
	if row := dashboardRow(through("a"), nodes); !row.LastKnown.Equal(read) || row.Host != "attic" || row.Doing != "Shutting down" {
		t.Errorf("through a door that is down: %+v", row)
	}
	// The other door to the same cluster says how it is now.
	if row := dashboardRow(through("b"), nodes); !row.LastKnown.IsZero() || row.Host != "attic" {
		t.Errorf("through the other door: %+v", row)
	}
	c := through("b")
	c.Task.Type = "vzinvented"
	if row := dashboardRow(c, nodes); row.Doing != "Busy" {
		t.Errorf("an unknown task: %q", row.Doing)
	}
}
