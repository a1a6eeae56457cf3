package app

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/pve/sim"
)

func claimed(s *config.Settings) { s.LoginHosts = config.LoginHosts{} }

func TestFirstSignInClaims(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, mine := b.newHost(t, sim.Options{})
	_, other := b.newHost(t, sim.Options{})
	if r := b.browser(t).json("/api/auth/login", input(mine, "carol@pve")); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a refused sign-in: %d", r.StatusCode)
	}
	b.browser(t).signIn(other, "alice@pve") // a refused sign-in claimed nothing
	before := len(mine.Requests())
	r := b.browser(t).json("/api/auth/login", input(mine, "root@pam"))
	if r.StatusCode != http.StatusForbidden || r.json(t)["code"] != "host_not_allowed" {
		t.Errorf("another host after the claim: %d %s", r.StatusCode, r.body)
	}
	if len(mine.Requests()) != before {
		t.Error("the refused host was contacted")
	}
	b.browser(t).signIn(other, "root@pam")
}

func TestAbuseClaimRace(t *testing.T) {
	for i := range 10 {
		t.Run(strconv.Itoa(i), claimRace)
	}
}

func claimRace(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, one := b.newHost(t, sim.Options{})
	_, two := b.newHost(t, sim.Options{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	results := map[string]reply{}
	for _, h := range []*sim.Host{one, two} {
		wg.Go(func() {
			r := b.browser(t).json("/api/auth/login", input(h, "root@pam"))
			mu.Lock()
			defer mu.Unlock()
			results[h.Address()] = r
		})
	}
	wg.Wait()
	winners := 0
	for _, r := range results {
		switch {
		case r.StatusCode == http.StatusOK:
			winners++
		case r.StatusCode == http.StatusUnauthorized && r.json(t)["detail"] == failure:
		case r.StatusCode == http.StatusForbidden && r.json(t)["code"] == "host_not_allowed":
			// It came after the other one had won.
		default:
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	}
	if winners != 1 {
		t.Errorf("%d claimed the installation, want 1", winners)
	}
	if hosts, err := b.store.LoginHosts(t.Context()); err != nil || len(hosts) != 1 {
		t.Errorf("%d login hosts, %v; want the winner's alone", len(hosts), err)
	}
}

func TestClaimCode(t *testing.T) {
	b := newBenchWith(t, func(s *config.Settings) {
		claimed(s)
		s.Hosts = []string{"berth.example.org"} // strangers can reach it
	})
	_, host := b.newHost(t, sim.Options{})
	code, err := b.ClaimCode(t.Context())
	if err != nil || len(code) != 19 {
		t.Fatalf("code %q, %v", code, err)
	}
	if again, err := b.ClaimCode(t.Context()); err != nil || again != code {
		t.Errorf("asked again: %q, %v; want the same", again, err)
	}
	in := input(host, "root@pam")
	for name, given := range map[string]string{"none": "", "a wrong one": "aaaa-bbbb-cccc-dddd", "a long one": strings.Repeat("a", 1000)} {
		in["claimCode"] = given
		r := b.browser(t).json("/api/auth/login", in)
		errors, _ := r.json(t)["errors"].([]any)
		if r.StatusCode != http.StatusUnprocessableEntity || len(errors) != 1 || errors[0].(map[string]any)["field"] != "claimCode" {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
		if given == "" && r.json(t)["code"] != "claim_code_required" {
			t.Errorf("%s: %s", name, r.body)
		}
	}
	if n := len(host.Requests()); n != 0 {
		t.Errorf("the host was contacted %d times before the code was right", n)
	}
	in["claimCode"] = " " + strings.ToUpper(code) + " "
	if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Errorf("the right code: %d %s", r.StatusCode, r.body)
	}
	delete(in, "claimCode")
	if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Errorf("once claimed: %d %s", r.StatusCode, r.body)
	}
	if code, err := b.ClaimCode(t.Context()); err != nil || code != "" {
		t.Errorf("code of a claimed installation: %q, %v", code, err)
	}
}

func TestListedHosts(t *testing.T) {
	var listed *sim.Host
	b := newBenchWith(t, func(s *config.Settings) {
		s.LoginHosts.Mode = config.ListedHosts
		s.LoginHosts.List = []pve.Address{{Host: "127.0.0.1", Port: 1}}
		if listed != nil {
			at, err := addressOf(listed)
			if err != nil {
				t.Fatal(err)
			}
			s.LoginHosts.List = []pve.Address{at}
		}
	})
	_, listed = b.newHost(t, sim.Options{})
	if r := b.browser(t).json("/api/auth/login", input(listed, "root@pam")); r.StatusCode != http.StatusForbidden || len(listed.Requests()) != 0 {
		t.Errorf("not on the list: %d %s, %d requests", r.StatusCode, r.body, len(listed.Requests()))
	}
	end := b.begin(t)
	browser := b.browser(t)
	browser.signIn(listed, "root@pam")
	token := browser.token()
	end()
	// Taken off the list: the session that it vouched for is worth nothing any more.
	listed = nil
	b.begin(t)
	b.advance(time.Minute)
	if r := b.browser(t).do("GET", "/api/containers", "", "", "Cookie", "lxc-session="+token); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a session of a host that was taken off the list: %d %s", r.StatusCode, r.body)
	}
}

// A login host of the same datacenter answers in place of one that is down, and it is the same identity.
func TestAnotherDoorOfTheDatacenter(t *testing.T) {
	b := newBenchWith(t, claimed)
	dc, first := b.newHost(t, sim.Options{Name: "cluster", Members: []string{"pve1", "pve2"}})
	second, err := dc.Listen("pve2", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { second.Close() })
	browser := b.browser(t)
	browser.signIn(first, "root@pam")
	if r := browser.json("/api/hosts", hostInput(second)); r.StatusCode != http.StatusOK {
		t.Fatalf("adding a host: %d %s", r.StatusCode, r.body)
	}
	in := input(first, "root@pam")
	first.Close()
	b.advance(3 * time.Second)
	if r := browser.get("/api/containers"); r.StatusCode != http.StatusOK || !strings.Contains(r.body, `"vmid":101`) {
		t.Errorf("containers through the other door: %d %s", r.StatusCode, r.body)
	}
	again := b.browser(t)
	if r := again.json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-in through the other door: %d %s", r.StatusCode, r.body)
	}
	hosts, err := b.store.LoginHosts(t.Context())
	if err != nil || len(hosts) != 2 || hosts[0].Datacenter != hosts[1].Datacenter {
		t.Errorf("login hosts %+v, %v; want two of one datacenter", hosts, err)
	}
}

func hostInput(h *sim.Host) map[string]any {
	in := input(h, "")
	return map[string]any{"host": in["host"], "port": in["port"]}
}

// A further login host joins a datacenter only by a certificate that a known member of it names, and is sent nothing.
func TestAddHostByProof(t *testing.T) {
	b := newBenchWith(t, claimed)
	dc, first := b.newHost(t, sim.Options{Name: "cluster", Members: []string{"pve1", "pve2"}})
	second, err := dc.Listen("pve2", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { second.Close() })
	_, stranger := b.newHost(t, sim.Options{Name: "cluster", Members: []string{"pve1", "pve2"}})
	root := b.browser(t)
	root.signIn(first, "root@pam")

	if r := root.json("/api/hosts", hostInput(stranger)); r.StatusCode != http.StatusConflict || r.json(t)["code"] != "host_not_proven" {
		t.Errorf("a host that gives itself the same names: %d %s", r.StatusCode, r.body)
	}
	if r := root.json("/api/hosts", map[string]any{"host": "127.0.0.1", "port": 1}); r.StatusCode != http.StatusConflict || r.json(t)["code"] != "host_not_proven" {
		t.Errorf("no host at all: %d %s", r.StatusCode, r.body)
	}
	if r := root.json("/api/hosts", map[string]any{"host": "a b"}); r.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("not an address: %d %s", r.StatusCode, r.body)
	}
	if r := root.json("/api/hosts", hostInput(first)); r.StatusCode != http.StatusConflict || r.json(t)["code"] != "host_known" {
		t.Errorf("a known host: %d %s", r.StatusCode, r.body)
	}
	if r := root.json("/api/hosts", hostInput(second)); r.StatusCode != http.StatusOK || r.json(t)["yours"] != true {
		t.Fatalf("the other member: %d %s", r.StatusCode, r.body)
	}
	if n := len(stranger.Requests()) + len(second.Requests()); n != 0 {
		t.Errorf("the hosts to be proven got %d requests", n)
	}
	list := root.get("/api/hosts").json(t)["items"].([]any)
	if len(list) != 2 {
		t.Errorf("login hosts %v", list)
	}
	page := root.get("/settings/hosts")
	if page.StatusCode != http.StatusOK || !strings.Contains(page.body, second.Address()) {
		t.Errorf("page: %d", page.StatusCode)
	}
}

// The login hosts belong to owners: Sys.Modify on / of the datacenter that claimed the installation.
func TestAbuseLoginHostsAreForOwners(t *testing.T) {
	b := newBenchWith(t, claimed)
	dc, first := b.newHost(t, sim.Options{Name: "cluster", Members: []string{"pve1", "pve2"}})
	_, other := b.newHost(t, sim.Options{})
	root := b.browser(t)
	root.signIn(first, "root@pam")
	at, err := addressOf(other)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := pve.ParseFingerprint(other.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	known, err := b.KnowHost(t.Context(), at, shown)
	if err != nil {
		t.Fatal(err)
	}
	alice, stranger := b.browser(t), b.browser(t)
	alice.signIn(first, "alice@pve")
	stranger.signIn(other, "root@pam")
	before := len(other.Requests())
	for name, browser := range map[string]*browser{"alice": alice, "root of another datacenter": stranger} {
		for _, path := range []string{"/api/hosts", "/settings/hosts", "/settings/hosts/" + known.ID + "/repin", "/settings/hosts/" + known.ID + "/remove"} {
			if r := browser.get(path); r.StatusCode != http.StatusForbidden {
				t.Errorf("%s: GET %s: %d %s", name, path, r.StatusCode, r.body)
			}
		}
		for path, body := range map[string]any{
			"/api/hosts": hostInput(other), "/api/hosts/certificate": map[string]any{"id": known.ID},
			"/api/hosts/repin": map[string]any{"id": known.ID, "fingerprint": other.Fingerprint()}, "/api/hosts/remove": map[string]any{"id": known.ID},
		} {
			if r := browser.json(path, body); r.StatusCode != http.StatusForbidden || r.json(t)["code"] != "owners_only" {
				t.Errorf("%s: POST %s: %d %s", name, path, r.StatusCode, r.body)
			}
		}
	}
	if n := len(other.Requests()); n != before {
		t.Errorf("the other installation was asked %d times who its root@pam is", n-before)
	}
	// Who loses the privilege is no owner from that moment on.
	if err := dc.Grant(sim.ACL{Path: "/", User: "alice@pve", Role: "Administrator"}); err != nil {
		t.Fatal(err)
	}
	if r := alice.get("/api/hosts"); r.StatusCode != http.StatusOK {
		t.Errorf("alice as administrator: %d %s", r.StatusCode, r.body)
	}
	if err := dc.Revoke(sim.ACL{Path: "/", User: "alice@pve", Role: "Administrator"}); err != nil {
		t.Fatal(err)
	}
	if r := alice.get("/api/hosts"); r.StatusCode != http.StatusForbidden {
		t.Errorf("alice no longer: %d %s", r.StatusCode, r.body)
	}
}

func TestRepinAndRemoveHosts(t *testing.T) {
	b := newBenchWith(t, claimed)
	dc, first := b.newHost(t, sim.Options{Name: "cluster", Members: []string{"pve1", "pve2"}})
	second, err := dc.Listen("pve2", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { second.Close() })
	root := b.browser(t)
	root.signIn(first, "root@pam")
	if r := root.json("/api/hosts/remove", map[string]any{"id": root.get("/api/hosts").json(t)["items"].([]any)[0].(map[string]any)["id"]}); r.StatusCode != http.StatusConflict || r.json(t)["code"] != "last_host" {
		t.Errorf("removing the last host: %d %s", r.StatusCode, r.body)
	}
	added := root.json("/api/hosts", hostInput(second)).json(t)
	id := added["id"].(string)
	throughSecond := b.browser(t)
	if r := throughSecond.json("/api/auth/login", input(second, "alice@pve")); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-in at the second: %d %s", r.StatusCode, r.body)
	}

	if err := second.ChangeCertificate(false); err != nil {
		t.Fatal(err)
	}
	shown := root.json("/api/hosts/certificate", map[string]any{"id": id}).json(t)
	if shown["fingerprint"] != second.Fingerprint() || shown["changed"] != true || shown["refused"] != true {
		t.Errorf("presented: %v", shown)
	}
	if r := root.json("/api/hosts/repin", map[string]any{"id": id, "fingerprint": added["fingerprint"]}); r.StatusCode != http.StatusConflict {
		t.Errorf("re-pin with the old fingerprint: %d %s", r.StatusCode, r.body)
	}
	page := root.get("/settings/hosts/" + id + "/repin")
	if page.StatusCode != http.StatusOK || !strings.Contains(page.body, second.Fingerprint()) {
		t.Errorf("re-pin page: %d", page.StatusCode)
	}
	if r := root.json("/api/hosts/repin", map[string]any{"id": id, "fingerprint": second.Fingerprint()}); r.StatusCode != http.StatusOK {
		t.Errorf("re-pin: %d %s", r.StatusCode, r.body)
	}
	if shown := root.json("/api/hosts/certificate", map[string]any{"id": id}).json(t); shown["changed"] != false || shown["refused"] != false {
		t.Errorf("after the re-pin: %v", shown)
	}
	if r := root.get("/settings/hosts/nobody/remove"); r.StatusCode != http.StatusNotFound {
		t.Errorf("a host that is none: %d", r.StatusCode)
	}
	if r := root.form("/settings/hosts/"+id+"/remove", nil); r.StatusCode != http.StatusSeeOther {
		t.Errorf("remove: %d %s", r.StatusCode, r.body)
	}
	if throughSecond.signedIn() {
		t.Error("a session of the removed host is still alive")
	}
	if r := b.browser(t).json("/api/auth/login", input(second, "alice@pve")); r.StatusCode != http.StatusForbidden {
		t.Errorf("sign-in at the removed host: %d %s", r.StatusCode, r.body)
	}
}

// What the operator does on the command line takes effect in the running program.
func TestOperatorOnARunningInstallation(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, first := b.newHost(t, sim.Options{})
	_, other := b.newHost(t, sim.Options{})
	b.browser(t).signIn(first, "root@pam")
	operator, err := Operate(t.Context(), b.settings())
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	at, err := addressOf(other)
	if err != nil {
		t.Fatal(err)
	}
	peer, trusted, err := operator.Presented(t.Context(), at)
	if err != nil || trusted || peer.Fingerprint.String() != other.Fingerprint() {
		t.Fatalf("presented %v, %v, %v", peer.Fingerprint, trusted, err)
	}
	if err := operator.AddHost(t.Context(), at, &peer.Fingerprint, nil); err != nil {
		t.Fatal(err)
	}
	guest := b.browser(t)
	guest.signIn(other, "root@pam")
	if err := operator.RemoveHost(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if err := b.Notice(t.Context()); err != nil {
		t.Fatal(err)
	}
	if guest.signedIn() {
		t.Error("the session of a host that the operator removed is alive")
	}
	first2, err := addressOf(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := operator.RemoveHost(t.Context(), first2); err == nil {
		t.Error("the last login host was removed")
	}
}
