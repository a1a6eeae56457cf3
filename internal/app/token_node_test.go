package app

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"berth/internal/pve/sim"
	"berth/internal/session"
)

// Whatever an access token is to do at a node that goes by its owner's sign-in, it is told the same: that only a sign-in would do.
// Beside a node that it may use, the lists name the other one.
func TestTokenAtANodeThatNeedsASignIn(t *testing.T) {
	b := newBenchWith(t, claimed)
	dc, host := b.newHost(t, sim.Options{})
	_, away := b.newHost(t, sim.Options{})
	owner := b.browser(t)
	owner.signIn(host, "root@pam")
	node := owner.nodeID(t)
	upid, err := dc.ChangeContainer("root@pam", 102, "start")
	if err != nil {
		t.Fatal(err)
	}
	_, text := owner.makeToken("script", session.ScopeAll)

	said := ""
	for _, path := range []string{
		"/api/containers", "/api/tasks", "/api/events", "/api/containers/" + node + "/101", "/api/containers/" + node + "/101/graph",
		"/api/tasks/" + node + "/" + upid, "/api/tasks/" + node + "/" + upid + "/log",
	} {
		r := b.with(t, text, "GET", path)
		p := r.json(t)
		detail, _ := p["detail"].(string)
		if r.StatusCode != http.StatusForbidden || p["code"] != "sign_in_needed" || !strings.Contains(detail, "sign-in") || p["hint"] == "" {
			t.Errorf("%s: %d %s", path, r.StatusCode, r.body)
		}
		if said == "" {
			said = detail
		} else if detail != said {
			t.Errorf("%s says %q, others %q", path, detail, said)
		}
	}
	if r := b.with(t, text, "POST", "/api/containers/"+node+"/101/stop"); r.StatusCode != http.StatusForbidden || !strings.Contains(r.body, said) {
		t.Errorf("a change: %d %s", r.StatusCode, r.body)
	}

	owner.addNode(signInThere(away, "root@pam", "attic"))
	for _, path := range []string{"/api/containers", "/api/tasks"} {
		r := b.with(t, text, "GET", path)
		nodes, _ := r.json(t)["nodes"].([]any)
		named := false
		for _, n := range nodes {
			n := n.(map[string]any)
			named = named || n["nodeId"] == node && strings.Contains(n["problem"].(string), "sign-in")
		}
		if r.StatusCode != http.StatusOK || !named {
			t.Errorf("%s with a node of its own: %d %s", path, r.StatusCode, r.body)
		}
	}
	if r := b.with(t, text, "GET", "/api/containers"); !strings.Contains(r.body, `"vmid":101`) {
		t.Errorf("containers of the other node: %s", r.body)
	}
}

// When nothing was ever read of any node, both lists of the API say why, and the pages still say it in their place.
func TestListsOfNodesThatNeverAnswered(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	owner := b.browser(t)
	owner.signIn(host, "root@pam")
	host.SetFault("GET", "/cluster", sim.Fault{Refuse: true})
	for _, path := range []string{"/api/containers", "/api/tasks"} {
		if r := owner.get(path); r.StatusCode != http.StatusBadGateway || code(t, r) != "host_unreachable" {
			t.Errorf("%s: %d %s", path, r.StatusCode, r.body)
		}
	}
	for _, path := range []string{"/", "/tasks", "/tasks/glance"} {
		if r := owner.get(path); r.StatusCode != http.StatusOK || path == "/tasks" && !strings.Contains(r.body, "answer") {
			t.Errorf("%s: %d %s", path, r.StatusCode, r.body)
		}
	}
}

// The very first list of the API has addresses already. A node that does not tell them costs the lists of its first second a wait,
// and later ones nothing.
func TestFirstListHasAddresses(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	owner := b.browser(t)
	owner.signIn(host, "root@pam")
	if r := owner.get("/api/containers?q=nextcloud"); !strings.Contains(r.body, `"addresses":["`) {
		t.Errorf("the first list: %s", r.body)
	}

	_, hanging := b.newHost(t, sim.Options{})
	hanging.SetFault("GET", "/nodes", sim.Fault{Hang: true})
	other := b.browser(t)
	other.signIn(hanging, "root@pam")
	if r := other.get("/api/containers"); r.StatusCode != http.StatusOK || !strings.Contains(r.body, `"vmid":101`) {
		t.Errorf("of a node that hangs: %d %s", r.StatusCode, r.body)
	}
	// The first second is over, and hardly any of its containers was asked.
	began := time.Now()
	for range 10 {
		if r := other.get("/api/containers"); r.StatusCode != http.StatusOK {
			t.Errorf("again: %d %s", r.StatusCode, r.body)
		}
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("ten more lists took %s", took)
	}
}
