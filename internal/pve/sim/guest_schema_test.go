package sim

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// unsupported are parameters that the schema has and the simulated host refuses.
var unsupported = map[string][]string{
	"PUT /nodes/{node}/lxc/{vmid}/config": {"dev[n]", "mp[n]", "rootfs", "unused[n]"},
}

// TestNoParameterIsMissing: whatever PVE takes is taken here too. That the declarations themselves agree is tested for
// all endpoints of the package together.
func TestNoParameterIsMissing(t *testing.T) {
	schema := readSchema(t)
	for _, e := range guestEndpoints() {
		name := e.method + " " + e.path
		for _, want := range slices.Sorted(maps.Keys(schema[e.path][e.method].Parameters.Properties)) {
			inPath := strings.Contains(e.path, "{"+want+"}")
			declared := slices.ContainsFunc(e.params, func(p param) bool { return p.name == want })
			if !inPath && !declared && !slices.Contains(unsupported[name], want) {
				t.Errorf("%s: no parameter %s", name, want)
			}
		}
	}
}

var placeholder = regexp.MustCompile(`\{(\w+)\}`)

// TestPermissionsMatchSchema calls each endpoint as somebody without any privilege, and as somebody who has just what the
// schema asks for.
func TestPermissionsMatchSchema(t *testing.T) {
	schema := readSchema(t)
	values := map[string]string{"node": "pve1", "vmid": "102", "storage": "local", "upid": "x"}
	fill := func(template string) string {
		return placeholder.ReplaceAllStringFunc(template, func(p string) string { return values[strings.Trim(p, "{}")] })
	}
	for _, e := range guestEndpoints() {
		name := e.method + " " + e.path
		var check []any
		if p := schema[e.path][e.method].Permissions; p != nil {
			check = p.Check
		}
		f := newFixture(t, Options{})
		must(f.dc.AddUser(User{ID: "nobody@pve", Password: "secret-nobody"}))
		request := e.method + " " + fill(e.path)
		refusal := ""
		if len(check) > 0 { // ["perm", path, [privileges], "any", 1]
			path := fill(check[1].(string))
			var privileges []string
			for _, p := range check[2].([]any) {
				privileges = append(privileges, p.(string))
			}
			refusal = fmt.Sprintf("Permission check failed (%s, %s)", path, strings.Join(privileges, "|"))
			must(f.dc.AddRole("Just", privileges[0]))
			must(f.dc.AddUser(User{ID: "just@pve", Password: "secret-just"}))
			must(f.dc.Grant(ACL{Path: path, User: "just@pve", Role: "Just"}))
			if a := f.call("just@pve", request); a.status == 403 {
				t.Errorf("%s: refused in spite of %s: %s", name, privileges[0], a.reason)
			}
		}
		a := f.call("nobody@pve", request)
		if (a.status == 403) != (refusal != "") || a.status == 403 && a.reason != refusal {
			t.Errorf("%s without privileges: %d %s, want %q", name, a.status, a.reason, refusal)
		}
	}
}

// TestGuestAnswersInManySituations compares what guests' endpoints answer with the schema: also what changes something,
// and what depends on the state of a guest, a task or a member.
func TestGuestAnswersInManySituations(t *testing.T) {
	readSchema(t) // skips where it is absent
	text, err := os.ReadFile(apiSchema)
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Endpoints []struct {
			Path    string
			Methods map[string]struct{ Returns returns }
		}
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	answers := map[string]returns{}
	for _, e := range document.Endpoints {
		for method, m := range e.Methods {
			answers[method+" "+e.Path] = m.Returns
		}
	}
	f := newFixture(t, cluster())
	must(f.dc.AddContainer(Container{VMID: 300, Node: "pve1"}))
	must(f.dc.StopMember("pve2"))
	done := get[string](f, rootUser, "POST /nodes/pve1/lxc/102/status/start")
	f.pass(time.Minute)
	failed := get[string](f, rootUser, "POST /nodes/pve1/lxc/300/status/resume")
	f.pass(time.Minute)
	running := get[string](f, rootUser, "POST /nodes/pve1/lxc/102/status/shutdown")

	covered := map[string]bool{}
	check := func(template, request string) {
		t.Helper()
		covered[template] = true
		a := f.call(rootUser, request)
		if a.status != 200 {
			t.Errorf("%s: %d %s %v", request, a.status, a.reason, a.body.Errors)
			return
		}
		var v any
		if err := json.Unmarshal(a.body.Data, &v); err != nil {
			t.Fatal(err)
		}
		want := answers[template]
		for _, problem := range want.compare("data", v) {
			t.Errorf("%s: %s", request, problem)
		}
	}
	gets := map[string][]string{
		"/cluster/resources":                      {"", "?type=vm", "?type=node", "?type=storage", "?type=sdn"},
		"/cluster/nextid":                         {"", "?vmid=4711"},
		"/cluster/tasks":                          {""},
		"/nodes/{node}/status":                    {"/nodes/pve1/status"},
		"/nodes/{node}/lxc":                       {"/nodes/pve1/lxc"},
		"/nodes/{node}/lxc/{vmid}":                {"/nodes/pve1/lxc/100"},
		"/nodes/{node}/lxc/{vmid}/status":         {"/nodes/pve1/lxc/100/status"},
		"/nodes/{node}/lxc/{vmid}/status/current": {"/nodes/pve1/lxc/100/status/current", "/nodes/pve1/lxc/112/status/current"},
		"/nodes/{node}/lxc/{vmid}/config":         {"/nodes/pve1/lxc/100/config", "/nodes/pve1/lxc/102/config?current=1"},
		"/nodes/{node}/lxc/{vmid}/pending":        {"/nodes/pve1/lxc/100/pending"},
		"/nodes/{node}/lxc/{vmid}/interfaces":     {"/nodes/pve1/lxc/100/interfaces"},
		"/nodes/{node}/lxc/{vmid}/rrddata":        {"/nodes/pve1/lxc/100/rrddata?timeframe=hour", "/nodes/pve1/lxc/300/rrddata?timeframe=year&cf=MAX"},
		"/nodes/{node}/rrddata":                   {"/nodes/pve1/rrddata?timeframe=hour"},
		"/nodes/{node}/qemu":                      {"/nodes/pve1/qemu"},
		"/nodes/{node}/qemu/{vmid}":               {"/nodes/pve1/qemu/200"},
		"/nodes/{node}/qemu/{vmid}/status":        {"/nodes/pve1/qemu/200/status"},
		"/nodes/{node}/qemu/{vmid}/status/current": {
			"/nodes/pve1/qemu/200/status/current",
		},
		"/nodes/{node}/tasks":                     {"/nodes/pve1/tasks", "/nodes/pve1/tasks?source=all"},
		"/nodes/{node}/tasks/{upid}":              {"/nodes/pve1/tasks/" + done},
		"/nodes/{node}/tasks/{upid}/log":          {"/nodes/pve1/tasks/" + done + "/log", "/nodes/pve1/tasks/" + running + "/log"},
		"/storage":                                {""},
		"/storage/{storage}":                      {"/storage/nas"},
		"/nodes/{node}/storage":                   {"/nodes/pve1/storage", "/nodes/pve1/storage?format=1"},
		"/nodes/{node}/storage/{storage}":         {"/nodes/pve1/storage/local"},
		"/nodes/{node}/storage/{storage}/status":  {"/nodes/pve1/storage/local/status", "/nodes/pve1/storage/usb-backup/status"},
		"/nodes/{node}/storage/{storage}/content": {"/nodes/pve1/storage/local/content", "/nodes/pve1/storage/local-lvm/content", "/nodes/pve1/storage/nas/content"},
		"/nodes/{node}/storage/{storage}/rrddata": {"/nodes/pve1/storage/nas/rrddata?timeframe=week"},
		"/nodes/{node}/tasks/{upid}/status": {
			"/nodes/pve1/tasks/" + done + "/status", "/nodes/pve1/tasks/" + failed + "/status", "/nodes/pve1/tasks/" + running + "/status",
		},
	}
	for template, requests := range gets {
		for _, r := range requests {
			if !strings.HasPrefix(r, "/") {
				r = template + r
			}
			check("GET "+template, "GET "+r)
		}
	}
	check("DELETE /nodes/{node}/tasks/{upid}", "DELETE /nodes/pve1/tasks/"+running)
	check("PUT /nodes/{node}/lxc/{vmid}/config", "PUT /nodes/pve1/lxc/300/config?tags=x")
	for _, action := range []string{"start", "suspend", "reboot", "shutdown", "start", "stop", "resume"} {
		check("POST /nodes/{node}/lxc/{vmid}/status/"+action, "POST /nodes/pve1/lxc/300/status/"+action)
		f.pass(time.Minute)
	}
	check("DELETE /nodes/{node}/lxc/{vmid}", "DELETE /nodes/pve1/lxc/300")

	for _, e := range guestEndpoints() {
		if !covered[e.method+" "+e.path] {
			t.Errorf("%s %s is not checked", e.method, e.path)
		}
	}
}
