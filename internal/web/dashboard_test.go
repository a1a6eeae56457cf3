package web

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"berth/internal/audit"
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

// An installation that can't be read has one banner, however many nodes lead there, and counts once.
func TestInstallations(t *testing.T) {
	down := func(id, group string) container.Source {
		return container.Source{NodeID: id, Name: "node " + id, Group: group, Problem: "it doesn't answer"}
	}
	count, problems := installations([]container.Source{down("a", "g"), {NodeID: "b", Group: "h"}, down("c", "g"), down("d", "i"), down("e", "g")})
	if count != 3 || len(problems) != 2 || strings.Join(problems[0].Others, ";") != "node c;node e" || problems[0].NodeID != "a" || problems[1].NodeID != "d" || problems[1].Others != nil {
		t.Errorf("%d installations with the problems %+v", count, problems)
	}
}

// A question leads back to the list as it was filtered, or to the container's page, and nowhere else.
func TestCameFrom(t *testing.T) {
	s := &Site{o: Options{BasePath: "/berth"}}
	for _, test := range []struct{ target, referer, want string }{
		{"/", "", ""},
		{"/", "http://example.com/berth/?q=web&status=running", "/?q=web&status=running"},
		{"/", "http://example.com/berth/containers/n1/101?timeframe=day", "/containers/n1/101?timeframe=day"},
		{"/", "http://example.com/berth/containers/n1/101/suspend", ""},
		{"/", "http://example.com/berth/tasks", ""},
		{"/", "http://example.com/elsewhere/", ""},
		{"/", "http://evil.example/berth/", ""},
		{"/?back=%2Fcontainers%2Fn1%2F101", "http://example.com/berth/tasks", "/containers/n1/101"},
		{"/?back=%2F%2Fevil.example", "", "/"},
		{"/?back=https%3A%2F%2Fevil.example%2Fcontainers%2Fa%2Fb", "", "/"},
	} {
		r := httptest.NewRequest("GET", test.target, nil)
		r.Header.Set("Referer", test.referer)
		if got := s.cameFrom(r); got != test.want {
			t.Errorf("%s from %s leads back to %q, want %q", test.target, test.referer, got, test.want)
		}
	}
}

// Every action of the trail has words for people.
func TestActionsHaveWords(t *testing.T) {
	page := view.Audit{}
	for _, action := range audit.Actions {
		page.Actions = append(page.Actions, string(action))
	}
	var html strings.Builder
	if err := view.AuditPage(page).Render(t.Context(), &html); err != nil {
		t.Fatal(err)
	}
	for _, action := range page.Actions {
		if !strings.Contains(html.String(), `value="`+action+`"`) || strings.Contains(html.String(), ">"+action+"<") {
			t.Errorf("%s has none", action)
		}
	}
}
