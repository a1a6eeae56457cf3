package app

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

// nodeInput is the address of a simulated host, with its certificate confirmed.
func nodeInput(h *sim.Host) map[string]any {
	host, port, _ := net.SplitHostPort(h.Address())
	n, _ := strconv.Atoi(port)
	return map[string]any{"host": host, "port": n, "fingerprint": h.Fingerprint()}
}

// tokenNode is a node with a new token of a user's, without privilege separation.
func tokenNode(t *testing.T, dc *sim.Datacenter, h *sim.Host, user, name string) map[string]any {
	t.Helper()
	secret, err := dc.AddToken(user, name, false, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	in := nodeInput(h)
	maps.Copy(in, map[string]any{"name": name, "credential": "token", "tokenId": user + "!" + name, "tokenSecret": secret})
	return in
}

// signInThere is a node with a token that Berth makes after a sign-in at its host.
func signInThere(h *sim.Host, user, name string) map[string]any {
	in := nodeInput(h)
	maps.Copy(in, map[string]any{"name": name, "credential": "made", "username": user, "password": sim.DefaultPassword})
	return in
}

// addNode adds a node and returns the answer.
func (b *browser) addNode(in map[string]any) map[string]any {
	b.t.Helper()
	r := b.json("/api/nodes", in)
	if r.StatusCode != http.StatusOK {
		b.t.Fatalf("add %v: %d %s", in["name"], r.StatusCode, r.body)
	}
	return r.json(b.t)
}

// nodes lists the nodes by name.
func (b *browser) nodes() map[string]map[string]any {
	b.t.Helper()
	r := b.get("/api/nodes")
	if r.StatusCode != http.StatusOK {
		b.t.Fatalf("nodes: %d %s", r.StatusCode, r.body)
	}
	byName := map[string]map[string]any{}
	for _, item := range r.json(b.t)["items"].([]any) {
		node := item.(map[string]any)
		byName[node["name"].(string)] = node
	}
	return byName
}

// want asks for a status and a code.
func (r reply) want(t *testing.T, what string, status int, code string) map[string]any {
	t.Helper()
	if r.StatusCode != status {
		t.Fatalf("%s: %d %s, want %d", what, r.StatusCode, r.body, status)
	}
	answer := r.json(t)
	if code != "" && answer["code"] != code {
		t.Errorf("%s: code %v, want %s (%s)", what, answer["code"], code, r.body)
	}
	return answer
}

// refusedFields are the refused fields of an answer.
func refusedFields(answer map[string]any) map[string]string {
	found := map[string]string{}
	errs, _ := answer["errors"].([]any)
	for _, e := range errs {
		one := e.(map[string]any)
		found[one["field"].(string)] = one["message"].(string)
	}
	return found
}

func (b *browser) patch(id string, in map[string]any) reply {
	b.t.Helper()
	return b.do("PATCH", "/api/nodes/"+id, "application/json", jsonText(b.t, in))
}

// tokensOn are the names of a user's API tokens on a host.
func tokensOn(t *testing.T, dc *sim.Datacenter, user string) []string {
	t.Helper()
	raw, err := dc.Call("root@pam", "GET", "/access/users/"+user+"/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		TokenID string `json:"tokenid"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, one := range list {
		names = append(names, one.TokenID)
	}
	return names
}

func containerNodes(t *testing.T, b *browser) map[string]int {
	t.Helper()
	count := map[string]int{}
	for _, item := range b.get("/api/containers?limit=500").json(t)["items"].([]any) {
		count[item.(map[string]any)["nodeId"].(string)]++
	}
	return count
}

func TestNodesBeginWithTheLoginHost(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	list := alice.get("/api/nodes").json(t)
	nodes := alice.nodes()
	first := nodes["127.0.0.1"]
	if len(nodes) != 1 || first["credential"] != "session" || first["isDefault"] != true {
		t.Errorf("nodes %v", nodes)
	}
	if hosts := list["loginHosts"].([]any); len(hosts) != 1 || hosts[0].(map[string]any)["id"] != first["loginHost"] {
		t.Errorf("login hosts %v", hosts)
	}
	// Somebody who removed it does not get it again.
	alice.do("DELETE", "/api/nodes/"+first["id"].(string), "", "").want(t, "remove", 200, "")
	again := b.browser(t)
	again.signIn(host, "alice@pve")
	if nodes := again.nodes(); len(nodes) != 0 {
		t.Errorf("nodes after the removal: %v", nodes)
	}
	if r := again.get("/api/containers"); r.StatusCode != 200 || len(r.json(t)["items"].([]any)) != 0 {
		t.Errorf("containers without a node: %d %s", r.StatusCode, r.body)
	}
	if r := again.get("/"); r.StatusCode != 200 {
		t.Errorf("page without a node: %d", r.StatusCode)
	}
	loginHost := first["loginHost"].(string)
	back := again.addNode(map[string]any{"name": "back", "credential": "session", "loginHost": loginHost})
	if back["isDefault"] != true || len(containerNodes(t, again)) != 1 {
		t.Errorf("added again: %v, containers %v", back, containerNodes(t, again))
	}
}

func TestNodeOfEachKind(t *testing.T) {
	b := newBench(t)
	_, home := b.newHost(t, sim.Options{})
	away, host := b.newHost(t, sim.Options{Members: []string{"far"}})
	root := b.browser(t)
	root.signIn(home, "root@pam")

	pasted := root.addNode(tokenNode(t, away, host, "root@pam", "pasted"))
	if pasted["credential"] != "token" || pasted["tokenId"] != "root@pam!pasted" || pasted["fingerprint"] != host.Fingerprint() || pasted["pinned"] != true ||
		pasted["isDefault"] != false || pasted["version"] == "" {
		t.Errorf("pasted token: %v", pasted)
	}
	for _, right := range pasted["rights"].([]any) {
		if r := right.(map[string]any); r["held"] != "everywhere" {
			t.Errorf("root has %v", r)
		}
	}
	made := root.addNode(signInThere(host, "root@pam", "made"))
	expires, err := time.Parse(time.RFC3339, made["tokenExpires"].(string))
	if err != nil || expires.Sub(b.now()).Round(time.Minute) != 90*24*time.Hour {
		t.Errorf("made token expires at %v, %v", made["tokenExpires"], err)
	}
	if names := tokensOn(t, away, "root@pam"); len(names) != 2 || made["tokenId"] != "root@pam!"+names[0] || !strings.HasPrefix(names[0], "berth-") {
		t.Errorf("tokens on the host: %v; the node's: %v", names, made["tokenId"])
	}
	loginHost := root.nodes()["127.0.0.1"]["loginHost"].(string)
	own := root.addNode(map[string]any{"name": "own", "credential": "made", "loginHost": loginHost})
	if own["loginHost"] != loginHost || !strings.HasPrefix(own["tokenId"].(string), "root@pam!berth-") {
		t.Errorf("token made with the session: %v", own)
	}
	// Two doors to each installation: its containers are listed once.
	nodes := root.nodes()
	same := func(a, c string) bool {
		list, _ := nodes[a]["sameAs"].([]any)
		return len(list) == 1 && list[0] == nodes[c]["id"]
	}
	if !same("made", "pasted") || !same("pasted", "made") || !same("own", "127.0.0.1") || !same("127.0.0.1", "own") {
		t.Errorf("doors: %v", nodes)
	}
	if count := containerNodes(t, root); len(count) != 2 {
		t.Errorf("containers by node: %v", count)
	}
	for name, node := range nodes {
		r := root.json("/api/nodes/test", map[string]any{"id": node["id"]})
		if answer := r.want(t, "test of "+name, 200, ""); answer["version"] == nil {
			t.Errorf("test of %s: %v", name, answer)
		}
		if shown := root.get("/api/nodes/"+node["id"].(string)).want(t, "show", 200, ""); shown["name"] != name {
			t.Errorf("shown %v, want %s", shown, name)
		}
	}
	for _, action := range []string{"node_add", "node_change"} {
		if found := root.entries("?action=" + action); action == "node_add" && len(found) != 3 {
			t.Errorf("trail of %s: %v", action, found)
		}
	}
}

func TestWrongNodesAreRefusedWithTheReason(t *testing.T) {
	b := newBench(t)
	_, home := b.newHost(t, sim.Options{})
	away, host := b.newHost(t, sim.Options{Members: []string{"far"}})
	root := b.browser(t)
	root.signIn(home, "root@pam")
	good := tokenNode(t, away, host, "root@pam", "good")
	if err := away.AddUser(sim.User{ID: "nobody@pve", Password: "x"}); err != nil {
		t.Fatal(err)
	}
	withoutACL, err := away.AddToken("root@pam", "separated", true, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	powerless, err := away.AddToken("nobody@pve", "full", false, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	_, gone := b.newHost(t, sim.Options{})
	goneAt := nodeInput(gone)
	gone.Close()
	web := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	webPort := web.Listener.Addr().(*net.TCPAddr).Port
	sum := sha256.Sum256(web.Certificate().Raw)

	with := func(change map[string]any) map[string]any {
		in := maps.Clone(good)
		maps.Copy(in, change)
		return in
	}
	before := len(root.nodes())
	for _, test := range []struct {
		name   string
		in     map[string]any
		status int
		code   string
		field  string
	}{
		{"unknown certificate", with(map[string]any{"fingerprint": ""}), 409, "certificate_unknown", ""},
		{"another certificate", with(map[string]any{"fingerprint": home.Fingerprint()}), 409, "certificate_unknown", ""},
		{"no answer", with(map[string]any{"port": goneAt["port"]}), 502, "host_unreachable", ""},
		{"not Proxmox", with(map[string]any{"port": webPort, "fingerprint": hex.EncodeToString(sum[:])}), 502, "not_proxmox", ""},
		{"refused address", with(map[string]any{"host": "169.254.169.254"}), 422, "invalid_input", "host"},
		{"wrong secret", with(map[string]any{"tokenSecret": "00000000-0000-4000-8000-000000000000"}), 409, "token_not_accepted", ""},
		{"privilege separation without ACL", with(map[string]any{"tokenId": "root@pam!separated", "tokenSecret": withoutACL}), 409, "token_without_rights", ""},
		{"no rights", with(map[string]any{"tokenId": "nobody@pve!full", "tokenSecret": powerless}), 409, "token_without_rights", ""},
		{"form of the id", with(map[string]any{"tokenId": "root@pam"}), 422, "invalid_input", "tokenId"},
		{"form of the secret", with(map[string]any{"tokenSecret": "secret"}), 422, "invalid_input", "tokenSecret"},
		{"form of the port", with(map[string]any{"port": "70000"}), 422, "invalid_input", "port"},
		{"no host", with(map[string]any{"host": " "}), 422, "invalid_input", "host"},
		{"credential", with(map[string]any{"credential": "magic"}), 422, "invalid_input", "credential"},
		{"name taken", with(map[string]any{"name": "127.0.0.1"}), 422, "invalid_input", "name"},
		{"long name", with(map[string]any{"name": strings.Repeat("n", 65)}), 422, "invalid_input", "name"},
		{"login host of nobody", map[string]any{"credential": "session", "loginHost": "x"}, 422, "invalid_input", "loginHost"},
		{"no login host", map[string]any{"credential": "made"}, 422, "invalid_input", "loginHost"},
		{"wrong password", func() map[string]any {
			in := signInThere(host, "root@pam", "n")
			in["password"] = "wrong"
			return in
		}(), 409, "credential_not_accepted", ""},
		{"another node that is none", with(map[string]any{"sameAs": "x"}), 422, "invalid_input", "sameAs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.advance(time.Minute) // the throttle is another test's
			answer := root.json("/api/nodes", test.in).want(t, test.name, test.status, test.code)
			if found := refusedFields(answer); test.field != "" && found[test.field] == "" {
				t.Errorf("fields %v, want %s", found, test.field)
			}
			if test.code == "certificate_unknown" && answer["fingerprint"] != host.Fingerprint() {
				t.Errorf("fingerprint %v", answer["fingerprint"])
			}
			if strings.Contains(fmt.Sprint(answer), fmt.Sprint(test.in["tokenSecret"])) && test.in["tokenSecret"] != nil {
				t.Errorf("the answer has the secret: %v", answer)
			}
		})
	}
	b.advance(time.Minute)
	host.SetFault("", "", sim.Fault{Skew: 3 * time.Hour})
	answer := root.json("/api/nodes", with(map[string]any{"tokenSecret": "00000000-0000-4000-8000-000000000000"})).want(t, "clock", 409, "clock_wrong")
	if hint, _ := answer["hint"].(string); !strings.Contains(hint, "3 hours ahead") {
		t.Errorf("hint %q", hint)
	}
	host.ClearFaults()
	if now := len(root.nodes()); now != before {
		t.Errorf("%d nodes, and there were %d", now, before)
	}
	if names := tokensOn(t, away, "root@pam"); len(names) != 2 {
		t.Errorf("tokens on the host: %v", names)
	}
}

// A user who may use two containers sees what the credential can't do, and where it can.
func TestRightsOfANode(t *testing.T) {
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	node := alice.addNode(tokenNode(t, dc, host, "alice@pve", "token"))
	got := map[string]string{}
	for _, item := range node["rights"].([]any) {
		right := item.(map[string]any)
		got[right["part"].(string)] = fmt.Sprint(right["privilege"], " ", right["held"], " ", right["paths"])
	}
	want := map[string]string{
		"list": "VM.Audit some [/vms/101 /vms/102]", "power": "VM.PowerMgmt some [/vms/101 /vms/102]",
		"console": "VM.Console some [/vms/101 /vms/102]", "config": "VM.Config.Options nowhere <nil>",
		"snapshots": "VM.Snapshot nowhere <nil>", "delete": "VM.Allocate nowhere <nil>",
	}
	if !maps.Equal(got, want) {
		t.Errorf("rights %v, want %v", got, want)
	}
}

// A node that is given no name has its host's own, or its cluster's, with a number where that is taken.
func TestUnnamedNode(t *testing.T) {
	b := newBench(t)
	_, home := b.newHost(t, sim.Options{})
	root := b.browser(t)
	root.signIn(home, "root@pam")
	for i, test := range []struct {
		is   sim.Options
		want string
	}{
		{sim.Options{Members: []string{"attic"}}, "attic"}, {sim.Options{Members: []string{"attic"}}, "attic (2)"},
		{sim.Options{Name: "harbour", Members: []string{"pier1", "pier2"}}, "harbour"},
	} {
		dc, host := b.newHost(t, test.is)
		in := tokenNode(t, dc, host, "root@pam", "unnamed")
		delete(in, "name")
		if got := root.addNode(in)["name"]; got != test.want {
			t.Errorf("node %d is called %v, want %s", i, got, test.want)
		}
	}
}
