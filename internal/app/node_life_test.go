package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/pve/sim"
	"berth/internal/session"
)

func (b *browser) remove(id string) map[string]any {
	b.t.Helper()
	return b.do("DELETE", "/api/nodes/"+id, "", "").want(b.t, "remove", http.StatusOK, "")
}

func (b *browser) leftOver() []map[string]any {
	b.t.Helper()
	var left []map[string]any
	for _, one := range b.get("/api/nodes").json(b.t)["leftOver"].([]any) {
		left = append(left, one.(map[string]any))
	}
	return left
}

// A host that asks for a second factor gets it, and the sign-in leaves nothing but the token.
func TestNodeWithASecondFactor(t *testing.T) {
	b := newBench(t)
	_, home := b.newHost(t, sim.Options{})
	away, host := b.newHost(t, sim.Options{})
	root, other := b.browser(t), b.browser(t)
	root.signIn(home, "root@pam")
	other.signIn(home, "alice@pve")
	asked := root.addNode(signInThere(host, "bob@pve", "bob's"))
	tfa := asked["tfa"].(map[string]any)
	if asked["id"] != nil || fmt.Sprint(tfa["kinds"]) != "[totp recovery]" || len(root.nodes()) != 1 {
		t.Fatalf("question %v, nodes %v", asked, root.nodes())
	}
	answer := func(code string) map[string]any {
		return map[string]any{"challenge": tfa["challenge"], "kind": "totp", "code": code}
	}
	code := sim.TOTP(sim.DefaultTOTPSecret, b.now())
	other.json("/api/nodes", answer(code)).want(t, "somebody else's answer", 409, "second_step_expired")
	if r := root.json("/api/nodes", answer("000000")).want(t, "wrong code", 422, ""); refusedFields(r)["code"] == "" {
		t.Errorf("wrong code: %v", r)
	}
	saved := root.json("/api/nodes", answer(code)).want(t, "right code", 200, "")
	if saved["name"] != "bob's" || !strings.HasPrefix(saved["tokenId"].(string), "bob@pve!berth-") || len(tokensOn(t, away, "bob@pve")) != 1 {
		t.Errorf("saved %v, tokens %v", saved, tokensOn(t, away, "bob@pve"))
	}
	root.json("/api/nodes", answer(code)).want(t, "the same answer again", 409, "second_step_expired")

	late := root.addNode(signInThere(host, "bob@pve", "late"))["tfa"].(map[string]any)
	b.advance(5 * time.Minute)
	root.json("/api/nodes", map[string]any{"challenge": late["challenge"], "kind": "recovery", "code": sim.DefaultRecoveryCodes()[0]}).
		want(t, "too late", 409, "second_step_expired")
}

// TestAbuseStoredSecretElsewhere: what is stored of a token is sent to no other address, under no other certificate and with
// no other token id, neither by a change nor by a test.
func TestAbuseStoredSecretElsewhere(t *testing.T) {
	b := newBench(t)
	_, home := b.newHost(t, sim.Options{})
	dc, host := b.newHost(t, sim.Options{})
	_, hostile := b.newHost(t, sim.Options{})
	root := b.browser(t)
	root.signIn(home, "root@pam")
	in := tokenNode(t, dc, host, "root@pam", "good")
	saved := root.addNode(in)
	id := saved["id"].(string)
	elsewhere := nodeInput(hostile)
	asked, known := len(hostile.Requests()), len(host.Requests())
	for _, change := range []map[string]any{
		{"host": elsewhere["host"], "port": elsewhere["port"]},
		{"port": elsewhere["port"]},
		{"port": elsewhere["port"], "fingerprint": hostile.Fingerprint()},
		{"fingerprint": hostile.Fingerprint()},
		{"tokenId": "root@pam!another"},
		{"port": elsewhere["port"], "tokenId": in["tokenId"], "credential": "token"},
	} {
		answer := root.patch(id, change).want(t, fmt.Sprint(change), 422, "invalid_input")
		if refusedFields(answer)["tokenSecret"] == "" {
			t.Errorf("%v: %v", change, answer)
		}
		with := map[string]any{"id": id}
		for name, value := range change {
			with[name] = value
		}
		root.json("/api/nodes/test", with).want(t, "test of "+fmt.Sprint(with), 422, "invalid_input")
	}
	if len(hostile.Requests()) != asked || len(host.Requests()) != known {
		t.Error("a host was asked for a change that was refused")
	}
	if now := root.get("/api/nodes/" + id).json(t); now["port"] != in["port"] && fmt.Sprint(now["port"]) != fmt.Sprint(in["port"]) {
		t.Errorf("the node is now %v", now)
	}
	// With the secret given again it moves: the hostile host does not know it, and the node stays what it was.
	moved := map[string]any{"port": elsewhere["port"], "fingerprint": hostile.Fingerprint(), "tokenSecret": in["tokenSecret"]}
	root.patch(id, moved).want(t, "given again", 409, "token_not_accepted")
	if answer := root.patch(id, map[string]any{"name": "renamed"}).want(t, "rename", 200, ""); answer["name"] != "renamed" {
		t.Errorf("renamed: %v", answer)
	}
	root.json("/api/nodes/test", map[string]any{"id": id}).want(t, "test as it is", 200, "")
}

// TestAbuseTicketStaysInItsDatacenter: the session's ticket goes to the login hosts of its own datacenter and to nothing that
// a user can name.
func TestAbuseTicketStaysInItsDatacenter(t *testing.T) {
	b := newBench(t)
	_, home := b.newHost(t, sim.Options{})
	_, other := b.newHost(t, sim.Options{})
	root, stranger := b.browser(t), b.browser(t)
	root.signIn(home, "root@pam")
	stranger.signIn(other, "root@pam")
	foreign := stranger.nodes()["127.0.0.1"]["loginHost"]
	asked := len(other.Requests())
	for _, credential := range []string{"session", "made"} {
		in := nodeInput(other)
		in["credential"], in["loginHost"], in["name"] = credential, foreign, credential
		for _, path := range []string{"/api/nodes", "/api/nodes/test"} {
			answer := root.json(path, in).want(t, path+" "+credential, 422, "invalid_input")
			if refusedFields(answer)["loginHost"] == "" {
				t.Errorf("%s with %s: %v", path, credential, answer)
			}
		}
		delete(in, "loginHost")
		root.json("/api/nodes", in).want(t, "typed "+credential, 422, "invalid_input")
		mine := root.nodes()["127.0.0.1"]["id"].(string)
		root.patch(mine, map[string]any{"credential": credential, "loginHost": foreign}).want(t, "change to "+credential, 422, "invalid_input")
	}
	if n := len(other.Requests()); n != asked {
		t.Errorf("the other installation was asked %d times", n-asked)
	}
}

// A changed certificate stops the node until its owner has compared it; a renewed one with the same key does not.
func TestNodeWithAChangedCertificate(t *testing.T) {
	b := newBench(t)
	_, home := b.newHost(t, sim.Options{})
	dc, host := b.newHost(t, sim.Options{Members: []string{"far"}})
	root := b.browser(t)
	root.signIn(home, "root@pam")
	in := tokenNode(t, dc, host, "root@pam", "far")
	id := root.addNode(in)["id"].(string)
	if err := host.ChangeCertificate(true); err != nil {
		t.Fatal(err)
	}
	root.json("/api/nodes/test", map[string]any{"id": id}).want(t, "renewed with the same key", 200, "")
	if shown := root.get("/api/nodes/" + id).json(t)["fingerprint"]; shown != host.Fingerprint() {
		t.Errorf("fingerprint %v, want that of the renewed certificate", shown)
	}
	if err := host.ChangeCertificate(false); err != nil {
		t.Fatal(err)
	}
	b.each(func(a *App) { a.client.Close() }) // connections that are there have shown theirs
	b.advance(10 * time.Second)
	answer := root.json("/api/nodes/test", map[string]any{"id": id}).want(t, "another key", 409, "certificate_unknown")
	if answer["fingerprint"] != host.Fingerprint() {
		t.Errorf("fingerprint %v, want %s", answer["fingerprint"], host.Fingerprint())
	}
	root.patch(id, map[string]any{"fingerprint": host.Fingerprint()}).want(t, "without the secret", 422, "invalid_input")
	root.patch(id, map[string]any{"fingerprint": host.Fingerprint(), "tokenSecret": in["tokenSecret"]}).want(t, "confirmed", 200, "")
	root.json("/api/nodes/test", map[string]any{"id": id}).want(t, "after that", 200, "")
}

// What was begun on a host when the program died is known afterwards, and can be removed.
func TestCrashWhileATokenIsMade(t *testing.T) {
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	root := b.browser(t)
	root.signIn(host, "root@pam")
	loginHost := root.nodes()["127.0.0.1"]["loginHost"].(string)

	// The answer never comes: nobody knows whether the token was made. It was.
	host.SetFault("POST", "/access/users", sim.Fault{CutAnswer: true})
	root.json("/api/nodes", map[string]any{"name": "own", "credential": "made", "loginHost": loginHost}).want(t, "cut", 502, "host_unreachable")
	host.ClearFaults()
	if n := host.AcceptedPosts(); len(tokensOn(t, dc, "root@pam")) != 1 {
		t.Fatalf("tokens on the host %v, posts %v: it was to be made once", tokensOn(t, dc, "root@pam"), n)
	}
	left := root.leftOver()
	if len(left) != 1 || left[0]["bySignIn"] != true || left[0]["tokenId"] != "root@pam!"+tokensOn(t, dc, "root@pam")[0] {
		t.Fatalf("left over: %v", left)
	}
	root.json("/api/nodes/tokens/"+left[0]["id"].(string)+"/remove", map[string]any{}).want(t, "remove", 200, "")
	if names := tokensOn(t, dc, "root@pam"); len(names) != 0 || len(root.leftOver()) != 0 {
		t.Errorf("tokens on the host: %v, left over: %v", names, root.leftOver())
	}

	// The program dies between the note that a token is to be made and the node.
	of := identityOf(t, b, root)
	pending := node.MadeToken{
		ID: "pending", Owner: of, NodeID: "never", NodeName: "own", Address: addressIn(t, host), LoginHost: loginHost,
		TokenID: "root@pam!berth-pending", Created: b.now(), Expires: b.now().Add(time.Hour),
	}
	if err := b.store.BeginToken(t.Context(), pending); err != nil {
		t.Fatal(err)
	}
	if left := root.leftOver(); len(left) != 0 {
		t.Errorf("a token that is being made is left over: %v", left)
	}
	b.stop()
	b.advance(3 * time.Minute)
	b.begin(t)
	root.base = b.URL()
	left = root.leftOver()
	if len(left) != 1 || left[0]["certain"] != false || left[0]["command"] != "pveum user token remove root@pam berth-pending" {
		t.Fatalf("left over after a crash: %v", left)
	}
	// It was never made, so there is nothing to remove, and no question is left.
	root.json("/api/nodes/tokens/pending/remove", map[string]any{}).want(t, "remove what is not there", 200, "")
	if left := root.leftOver(); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func identityOf(t *testing.T, b *bench, who *browser) session.Identity {
	t.Helper()
	found, err := b.sessions.Find(t.Context(), who.token())
	if err != nil {
		t.Fatal(err)
	}
	return found.Identity
}

func addressIn(t *testing.T, h *sim.Host) pve.Address {
	t.Helper()
	at, err := addressOf(h)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// A token that Berth made is extended by a later sign-in once half of its life is over, and not before.
func TestMadeTokensAreRenewed(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	root := b.browser(t)
	root.signIn(host, "root@pam")
	root.addNode(map[string]any{"name": "own", "credential": "made", "loginHost": root.nodes()["127.0.0.1"]["loginHost"]})
	expires := func(who *browser) time.Time {
		at, err := time.Parse(time.RFC3339, who.nodes()["own"]["tokenExpires"].(string))
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	first := expires(root)
	b.advance(44 * 24 * time.Hour)
	early := b.browser(t)
	early.signIn(host, "root@pam")
	b.each(func(a *App) { a.nodes.Wait() })
	if at := expires(early); !at.Equal(first) {
		t.Errorf("renewed with 46 days left: %v, was %v", at, first)
	}
	b.advance(2 * 24 * time.Hour)
	late := b.browser(t)
	late.signIn(host, "root@pam")
	b.each(func(a *App) { a.nodes.Wait() })
	if left := expires(late).Sub(b.now()); left.Round(time.Minute) != 90*24*time.Hour {
		t.Errorf("%v left after a renewal", left)
	}
	// It works beyond the day on which it would have ended.
	b.advance(50 * 24 * time.Hour)
	again := b.browser(t)
	again.signIn(host, "root@pam")
	again.json("/api/nodes/test", map[string]any{"id": again.nodes()["own"]["id"]}).want(t, "test", 200, "")
}

// Removing a node removes its token on the host; if the host is down the token stays listed, with the way to remove it.
func TestRemovedNodesAndTheirTokens(t *testing.T) {
	b := newBench(t)
	home, host := b.newHost(t, sim.Options{})
	away, far := b.newHost(t, sim.Options{Members: []string{"far"}})
	root := b.browser(t)
	root.signIn(host, "root@pam")
	loginHost := root.nodes()["127.0.0.1"]["loginHost"]
	own := root.addNode(map[string]any{"name": "own", "credential": "made", "loginHost": loginHost})
	if removed := root.remove(own["id"].(string)); removed["leftOver"] != nil || len(tokensOn(t, home, "root@pam")) != 0 {
		t.Errorf("removed %v, tokens %v", removed, tokensOn(t, home, "root@pam"))
	}

	second := root.addNode(map[string]any{"name": "second", "credential": "made", "loginHost": loginHost})
	host.SetFault("DELETE", "/access", sim.Fault{Status: 500, Reason: "cluster not ready - no quorum?"})
	if removed := root.remove(second["id"].(string)); removed["leftOver"] == nil {
		t.Errorf("removed %v, and the host refused", removed)
	}
	left := root.leftOver()
	if len(left) != 1 || left[0]["tokenId"] != second["tokenId"] || left[0]["nodeName"] != "second" || left[0]["certain"] != true {
		t.Fatalf("left over %v", left)
	}
	root.json("/api/nodes/tokens/"+left[0]["id"].(string)+"/remove", map[string]any{}).want(t, "still refused", 502, "host_unreachable")
	host.ClearFaults()
	root.json("/api/nodes/tokens/"+left[0]["id"].(string)+"/remove", map[string]any{}).want(t, "remove", 200, "")
	if names := tokensOn(t, home, "root@pam"); len(names) != 0 || len(root.leftOver()) != 0 {
		t.Errorf("tokens %v, left over %v", names, root.leftOver())
	}

	// At a host that is none of the login hosts only a password helps.
	third := root.addNode(signInThere(far, "root@pam", "third"))
	if removed := root.remove(third["id"].(string)); removed["leftOver"].(map[string]any)["bySignIn"] != false {
		t.Errorf("removed %v", removed)
	}
	path := "/api/nodes/tokens/" + root.leftOver()[0]["id"].(string)
	if answer := root.json(path+"/remove", map[string]any{}).want(t, "without a password", 422, ""); refusedFields(answer)["password"] == "" {
		t.Errorf("without a password: %v", answer)
	}
	root.json(path+"/remove", map[string]any{"password": "wrong"}).want(t, "wrong password", 409, "credential_not_accepted")
	root.json(path+"/remove", map[string]any{"password": sim.DefaultPassword}).want(t, "with the password", 200, "")
	if names := tokensOn(t, away, "root@pam"); len(names) != 0 || len(root.leftOver()) != 0 {
		t.Errorf("tokens %v, left over %v", names, root.leftOver())
	}

	// Or one removes it by hand.
	b.advance(time.Minute)
	fourth := root.addNode(signInThere(far, "root@pam", "fourth"))
	root.remove(fourth["id"].(string))
	root.json("/api/nodes/tokens/"+root.leftOver()[0]["id"].(string)+"/forget", map[string]any{}).want(t, "forget", 200, "")
	if len(root.leftOver()) != 0 {
		t.Errorf("left over %v", root.leftOver())
	}
	if found := root.entries("?action=node_remove"); len(found) != 4 {
		t.Errorf("trail: %v", found)
	}
}

// A new sign-in at a node's host replaces its token, and removes the old one.
func TestTokenIsReplacedByANewSignIn(t *testing.T) {
	b := newBench(t)
	_, home := b.newHost(t, sim.Options{})
	away, far := b.newHost(t, sim.Options{Members: []string{"far"}})
	root := b.browser(t)
	root.signIn(home, "root@pam")
	before := root.addNode(signInThere(far, "root@pam", "far"))
	after := root.patch(before["id"].(string), map[string]any{"username": "root", "password": sim.DefaultPassword}).want(t, "change", 200, "")
	names := tokensOn(t, away, "root@pam")
	if after["tokenId"] == before["tokenId"] || len(names) != 1 || after["tokenId"] != "root@pam!"+names[0] || len(root.leftOver()) != 0 {
		t.Errorf("token %v, was %v; on the host %v; left over %v", after["tokenId"], before["tokenId"], names, root.leftOver())
	}
	root.json("/api/nodes/test", map[string]any{"id": before["id"]}).want(t, "test", 200, "")
}

// Two members of a cluster name each other's certificate: that is proof. A host that only claims to be one proves nothing.
func TestDoorsToOneCluster(t *testing.T) {
	b := newBench(t)
	_, home := b.newHost(t, sim.Options{})
	dc, one := b.newHost(t, sim.Options{Name: "garden", Members: []string{"east", "west"}})
	two, err := dc.Listen("west", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { two.Close() })
	twin, twinHost := b.newHost(t, sim.Options{Name: "garden", Members: []string{"east", "west"}})
	root := b.browser(t)
	root.signIn(home, "root@pam")
	root.addNode(tokenNode(t, dc, one, "root@pam", "east"))
	if west := root.addNode(tokenNode(t, dc, two, "root@pam", "west")); len(west["sameAs"].([]any)) != 1 {
		t.Errorf("the other member: %v", west)
	}
	per := containerNodes(t, root)
	if len(per) != 2 {
		t.Errorf("containers by node: %v", per)
	}
	// Another installation with the same names of members and containers: only its owner knows that it is another one.
	twinNode := root.addNode(tokenNode(t, twin, twinHost, "root@pam", "twin"))
	if twinNode["sameAs"] != nil || len(twinNode["perhapsSameAs"].([]any)) != 2 {
		t.Fatalf("a twin: %v", twinNode)
	}
	if per := containerNodes(t, root); len(per) != 3 {
		t.Errorf("containers by node: %v", per)
	}
	id := twinNode["id"].(string)
	if said := root.patch(id, map[string]any{"sameAs": "none"}).want(t, "it is another", 200, ""); said["perhapsSameAs"] != nil || said["sameAs"] != nil {
		t.Errorf("after no: %v", said)
	}
	east := root.nodes()["east"]["id"]
	if said := root.patch(id, map[string]any{"sameAs": east}).want(t, "it is the same", 200, ""); len(said["sameAs"].([]any)) != 2 {
		t.Errorf("after yes: %v", said)
	}
	if per := containerNodes(t, root); len(per) != 2 {
		t.Errorf("containers by node: %v", per)
	}
	// One door closes, the containers go on through the other.
	two.Close()
	one.Close()
	b.advance(time.Minute)
	if per := containerNodes(t, root); len(per) != 2 {
		t.Errorf("containers by node with one door left: %v", per)
	}
}

// There is exactly one default whatever many requests do at once, and at most 50 nodes.
func TestNodesAtOnce(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	root := b.browser(t)
	root.signIn(host, "root@pam")
	loginHost := root.nodes()["127.0.0.1"]["loginHost"]
	caller := session.Caller{}
	found, err := b.sessions.Find(t.Context(), root.token())
	if err != nil {
		t.Fatal(err)
	}
	caller.Identity, caller.Session = found.Identity, found
	for i := range 49 {
		b.advance(7 * time.Second)
		root.addNode(map[string]any{"name": fmt.Sprint("n", i), "credential": "session", "loginHost": loginHost})
	}
	b.advance(time.Minute)
	root.json("/api/nodes", map[string]any{"name": "one more", "credential": "session", "loginHost": loginHost}).want(t, "51st", 409, "too_many_nodes")
	var wg sync.WaitGroup
	for _, n := range root.nodes() {
		wg.Go(func() {
			id := node.ID{ID: n["id"].(string)}
			if _, err := b.nodes.MakeDefault(context.Background(), caller, id); err != nil {
				t.Errorf("make default: %v", err)
			}
			if n["name"].(string) < "n3" {
				if _, err := b.nodes.Remove(context.Background(), caller, id); err != nil {
					t.Errorf("remove: %v", err)
				}
			}
			nodes, err := b.nodes.List(context.Background(), caller)
			if n := slices.IndexFunc(nodes, func(n node.Node) bool { return n.IsDefault }); err != nil || n != 0 || slices.ContainsFunc(nodes[1:], func(n node.Node) bool { return n.IsDefault }) {
				t.Errorf("nodes with %v: the default is not exactly the first", err)
			}
		})
	}
	wg.Wait()
}

// Tests of nodes are slowed down, for each identity and each address.
func TestAbuseNodeTestsAreThrottled(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	_, target := b.newHost(t, sim.Options{})
	root := b.browser(t)
	root.signIn(host, "root@pam")
	in := nodeInput(target)
	in["name"], in["credential"], in["tokenId"], in["tokenSecret"] = "target", "token", "root@pam!xx", "00000000-0000-4000-8000-000000000000"
	tried := 0
	for range 20 {
		r := root.json("/api/nodes/test", in)
		if r.StatusCode == http.StatusTooManyRequests {
			break
		}
		tried++
	}
	if tried != 10 {
		t.Errorf("%d tests in a moment, want 10", tried)
	}
	asked := len(target.Requests())
	for _, r := range []reply{root.json("/api/nodes/test", in), root.json("/api/nodes", in), root.json("/api/nodes/test", map[string]any{"id": root.nodes()["127.0.0.1"]["id"]})} {
		if r.StatusCode != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" {
			t.Errorf("after that: %d %s", r.StatusCode, r.body)
		}
	}
	if len(target.Requests()) != asked {
		t.Error("a throttled test reached the host")
	}
	// What concerns no host is not slowed.
	root.patch(root.nodes()["127.0.0.1"]["id"].(string), map[string]any{"name": "home"}).want(t, "rename", 200, "")
	within := 0
	for range 60 {
		b.advance(time.Second)
		if root.json("/api/nodes/test", in).StatusCode != http.StatusTooManyRequests {
			within++
		}
	}
	if within < 9 || within > 11 {
		t.Errorf("%d tests in the next minute, want about 10", within)
	}
}

// A key that is replaced while the program serves opens the secrets of nodes as before.
func TestNodeSecretsAreSealedAnew(t *testing.T) {
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	root := b.browser(t)
	root.signIn(host, "root@pam")
	id := root.addNode(tokenNode(t, dc, host, "root@pam", "pasted"))["id"].(string)
	o, err := Operate(t.Context(), b.settings())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if r, err := o.RotateKey(t.Context()); err != nil || r.Unreadable != 0 || len(r.Retired) != 1 {
		t.Fatalf("rotation %+v, %v", r, err)
	}
	root.json("/api/nodes/test", map[string]any{"id": id}).want(t, "test after the rotation", 200, "")
}

// That a host does not answer is told again at once, and asked again some seconds later.
func TestRightsOfADeadNode(t *testing.T) {
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	_, home := b.newHost(t, sim.Options{})
	root := b.browser(t)
	root.signIn(home, "root@pam")
	id := root.addNode(tokenNode(t, dc, host, "root@pam", "pasted"))["id"].(string)
	caller := session.Caller{Identity: identityOf(t, b, root)}
	host.SetFault("", "", sim.Fault{Refuse: true})
	b.each(func(a *App) { a.client.Close() }) // connections that are there go on
	for range 2 {
		if _, err := b.nodes.Rights(t.Context(), caller, id); !pve.IsKind(err, pve.KindHostUnreachable) {
			t.Fatalf("rights of a dead node: %v", err)
		}
	}
	host.ClearFaults()
	if _, err := b.nodes.Rights(t.Context(), caller, id); !pve.IsKind(err, pve.KindHostUnreachable) {
		t.Errorf("asked again at once: %v", err)
	}
	b.advance(6 * time.Second)
	held, err := b.nodes.Rights(t.Context(), caller, id)
	if err != nil || !held.Has("/vms", "VM.Audit") {
		t.Fatalf("rights: %v, %v", held, err)
	}
	asked := len(host.Requests())
	b.advance(50 * time.Second)
	if _, err := b.nodes.Rights(t.Context(), caller, id); err != nil || len(host.Requests()) != asked {
		t.Errorf("within a minute the host was asked %d times, %v", len(host.Requests())-asked, err)
	}
	b.advance(20 * time.Second)
	if _, err := b.nodes.Rights(t.Context(), caller, id); err != nil || len(host.Requests()) != asked+1 {
		t.Errorf("after a minute the host was asked %d times, %v", len(host.Requests())-asked, err)
	}
}

// TestAbuseNodeSecretsStayInside: of a secret nothing comes back, whatever is asked, and none lies in the files or the log.
func TestAbuseNodeSecretsStayInside(t *testing.T) {
	log := &logged{}
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(func() { slog.SetDefault(before) })
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	root := b.browser(t)
	root.signIn(host, "root@pam")
	in := tokenNode(t, dc, host, "root@pam", "pasted")
	secret := in["tokenSecret"].(string)
	pasted := root.addNode(in)["id"].(string)
	made := root.addNode(map[string]any{"name": "made", "credential": "made", "loginHost": root.nodes()["127.0.0.1"]["loginHost"]})["id"].(string)
	caller := session.Caller{Identity: identityOf(t, b, root)}
	secrets := []string{secret, sim.DefaultPassword}
	err := b.nodes.Call(t.Context(), caller, made, func(_ context.Context, _ *pve.Host, with pve.Credentials) error {
		secrets = append(secrets, with.(pve.Token).Secret)
		return nil
	})
	if err != nil || len(secrets) != 3 || len(secrets[2]) != 36 {
		t.Fatalf("the made token's secret: %v", err)
	}
	var answers []string
	see := func(r reply) { answers = append(answers, r.body) }
	for _, id := range []string{pasted, made} {
		see(root.get("/api/nodes/" + id))
		see(root.json("/api/nodes/test", map[string]any{"id": id}))
		see(root.patch(id, map[string]any{"name": "renamed " + id}))
	}
	in["name"], in["tokenSecret"] = "wrong", strings.ToUpper(secret)
	see(root.json("/api/nodes", in))
	in["tokenId"] = "no form"
	see(root.json("/api/nodes", in))
	see(root.get("/api/nodes"))
	see(root.get("/api/containers"))
	see(root.get("/api/audit"))
	see(root.do("DELETE", "/api/nodes/"+made, "", ""))
	answers = append(answers, log.text())
	files, err := filepath.Glob(filepath.Join(b.folder, "*"))
	if err != nil || len(files) < 1 || b.common == nil && len(files) < 2 { // the key, and the database if it is there
		t.Fatalf("files %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, string(text))
	}
	for _, answer := range answers {
		for _, secret := range secrets {
			if strings.Contains(strings.ToLower(answer), strings.ToLower(secret)) {
				t.Errorf("a secret is in %.300q", answer)
			}
		}
	}
}
