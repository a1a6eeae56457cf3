package app

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"berth/internal/pve/sim"
)

func (y *yard) page(vmid int) string { return fmt.Sprintf("/containers/%s/%d", y.node, vmid) }

func (y *yard) asked(part string) int {
	n := 0
	for _, r := range y.host.Requests() {
		if strings.Contains(r.Path, part) {
			n++
		}
	}
	return n
}

func TestOneContainer(t *testing.T) {
	y := newYard(t, sim.Options{}, "root@pam")
	r := y.get(y.page(101))
	if r.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	for _, want := range []string{
		`<h1><bdi>nextcloud</bdi></h1>`, `192.168.10.121/16`, `<h3>Nextcloud</h3>`, `<a href="https://cloud.lab.example" rel="noopener noreferrer">`,
		`name="digest"`, `/var/www/data`, `class="graph-line"`, `action="` + y.page(101) + `/edit"`, `href="` + y.page(101) + `/shutdown"`,
	} {
		if !strings.Contains(r.body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	// A part is read by itself.
	configs, graphs := y.asked("/lxc/101/config"), y.asked("/lxc/101/rrddata")
	live := y.get(y.page(101) + "?part=live")
	if !strings.Contains(live.body, `id="live"`) || strings.Contains(live.body, `id="graphs"`) || strings.Contains(live.body, `id="notes"`) {
		t.Error("the live part is not alone")
	}
	if y.asked("/lxc/101/config") != configs || y.asked("/lxc/101/rrddata") != graphs {
		t.Error("more than the live part was read")
	}
	if r := y.get(y.page(101) + "?part=graphs&timeframe=year"); !strings.Contains(r.body, `data-frame="year"`) || strings.Contains(r.body, `id="live"`) {
		t.Error("the graphs are not alone")
	}
	for _, odd := range []string{y.page(99), y.page(200), "/containers/" + y.node + "/x", "/containers/nowhere/101"} {
		if r := y.get(odd); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", odd, r.StatusCode)
		}
	}
	if r := y.get(y.page(101) + "?timeframe=decade&part=x"); r.StatusCode != http.StatusOK || !strings.Contains(r.body, `data-frame="hour"`) {
		t.Errorf("an address that somebody changed by hand: %d", r.StatusCode)
	}
}

func TestOneContainerOfAUser(t *testing.T) {
	y := newYard(t, sim.Options{}, "alice@pve")
	r := y.get(y.page(101))
	if r.StatusCode != http.StatusOK || strings.Contains(r.body, `name="digest"`) || !strings.Contains(r.body, "<code>VM.Config.Options</code>") {
		t.Errorf("%d, and a form for somebody who may not use it", r.StatusCode)
	}
	if r := y.get(y.page(100)); r.StatusCode != http.StatusNotFound {
		t.Errorf("a container that is not hers: %d", r.StatusCode)
	}
	r = y.form(y.page(101)+"/edit", url.Values{"tags": {"x"}, "description": {"y"}})
	if r.StatusCode != http.StatusForbidden || !strings.Contains(r.body, "VM.Config") {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	y.accepted(t, 101, "config", 0)
}

var digestField = regexp.MustCompile(`name="digest" value="([0-9a-f]{40})"`)

func TestEditNotes(t *testing.T) {
	y := newYard(t, sim.Options{}, "root@pam")
	digest := func() string {
		t.Helper()
		found := digestField.FindStringSubmatch(y.get(y.page(100)).body)
		if found == nil {
			t.Fatal("the page has no digest")
		}
		return found[1]
	}
	old := digest()
	in := url.Values{"digest": {old}, "tags": {" Edge, critical "}, "description": {"# Gate\r\n\r\nway\r\n"}}
	if r := y.form(y.page(100)+"/edit", in); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != y.page(100)+"?saved#notes" {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if r := y.get(y.page(100) + "?saved"); !strings.Contains(r.body, "Notes and tags were saved.") || !strings.Contains(r.body, "<h3>Gate</h3>") {
		t.Error("the page does not show what was saved")
	}
	c, _ := y.dc.Container(100)
	if c.Tags != "edge;critical" || c.Description != "# Gate\n\nway" {
		t.Errorf("the host has the tags %q and the description %q", c.Tags, c.Description)
	}
	// Sent again as it was: somebody else's change is not overwritten, and what was typed is not lost.
	in.Set("tags", "mine")
	r := y.form(y.page(100)+"/edit", in)
	if r.StatusCode != http.StatusConflict || !strings.Contains(r.body, "changed this container&#39;s configuration meanwhile") || !strings.Contains(r.body, `value="mine"`) || !strings.Contains(r.body, old) {
		t.Errorf("from an old page: %d %s", r.StatusCode, r.body)
	}
	in.Set("digest", digest())
	in.Set("tags", "a$b")
	if r := y.form(y.page(100)+"/edit", in); r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(r.body, `id="tags-error"`) {
		t.Errorf("what is no tag: %d", r.StatusCode)
	}
	y.accepted(t, 100, "config", 1)
	// Nothing changed is nothing sent.
	in.Set("tags", "edge critical")
	if r := y.form(y.page(100)+"/edit", in); r.StatusCode != http.StatusSeeOther {
		t.Errorf("as it is: %d", r.StatusCode)
	}
	y.accepted(t, 100, "config", 1)
	if got := y.trailOf(t, "container_edit"); strings.Count(got, `"target":"127.0.0.1 / pve1 / 100 gateway"`) != 2 {
		t.Errorf("the trail: %s", got)
	}
	if r := y.get(y.page(100)); !strings.Contains(r.body, "Container edited") {
		t.Error("the page does not show what was done")
	}
}

func TestContainerAPI(t *testing.T) {
	y := newYard(t, sim.Options{}, "root@pam")
	path := "/api" + y.page(101)
	detail := y.get(path).json(t)
	config := detail["config"].(map[string]any)
	if detail["name"] != "nextcloud" || detail["live"].(map[string]any)["status"] != "running" || config["ostype"] != "debian" || detail["mayEdit"] != true || detail["problems"] != nil {
		t.Errorf("%v", detail)
	}
	graph := y.get(path + "/graph?timeframe=week").json(t)
	if graph["timeframe"] != "week" || len(graph["times"].([]any)) != 336 || len(graph["cpu"].(map[string]any)["peaks"].([]any)) != 336 {
		t.Errorf("%v", graph["times"])
	}
	if r := y.get(path + "/graph?timeframe=decade"); r.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("a decade: %d", r.StatusCode)
	}
	edit := func(body string) reply { return y.do(http.MethodPatch, path, "application/json", body) }
	r := edit(`{"tags":["x","y"],"digest":"` + config["digest"].(string) + `"}`)
	if r.StatusCode != http.StatusOK || fmt.Sprint(r.json(t)["config"].(map[string]any)["tags"]) != "[x y]" {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if r := edit(`{"tags":[],"digest":"` + config["digest"].(string) + `"}`); r.StatusCode != http.StatusConflict || code(t, r) != "changed_meanwhile" {
		t.Errorf("from an old reading: %d %s", r.StatusCode, r.body)
	}
	if r := edit(`{"tags":["a b"]}`); r.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("what is no tag: %d %s", r.StatusCode, r.body)
	}
	if r := y.do(http.MethodPatch, "/api"+y.page(109), "application/json", `{"tags":[]}`); r.StatusCode != http.StatusConflict || code(t, r) != "refused_by_proxmox" {
		t.Errorf("a locked one: %d %s", r.StatusCode, r.body)
	}
	y.host.SetFault("GET", "/nodes/pve1/lxc/101/rrddata", sim.Fault{Status: 595})
	if r := y.get(path + "/graph"); r.StatusCode != http.StatusBadGateway || code(t, r) != "host_unreachable" {
		t.Errorf("no graph: %d %s", r.StatusCode, r.body)
	}
}
