package app

import (
	"net/http"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/pve/sim"
)

// TestAbuseOwnersProbesOfTheNetwork: an owner who has a host looked at, to add it or to pin it anew, learns whether anything
// answers there. So that a stolen session scans no network with it, looks are counted by address and by identity.
func TestAbuseOwnersProbesOfTheNetwork(t *testing.T) {
	const free = 20
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	owner := b.browser(t)
	owner.signIn(host, "root@pam")
	id := owner.get("/api/hosts").json(t)["items"].([]any)[0].(map[string]any)["id"].(string)
	for i := range free {
		r := owner.json("/api/hosts", map[string]any{"host": "127.0.0.1", "port": i + 1})
		if r.StatusCode != http.StatusConflict || r.json(t)["code"] != "host_not_proven" {
			t.Fatalf("look %d: %d %s", i+1, r.StatusCode, r.body)
		}
	}
	for path, in := range map[string]any{
		"/api/hosts": map[string]any{"host": "127.0.0.1", "port": 99}, "/api/hosts/certificate": map[string]any{"id": id},
		"/api/hosts/repin": map[string]any{"id": id, "fingerprint": host.Fingerprint()},
	} {
		r := owner.json(path, in)
		if r.StatusCode != http.StatusTooManyRequests || r.json(t)["code"] != "too_many_attempts" || r.Header.Get("Retry-After") == "" {
			t.Errorf("%s after %d looks: %d %s", path, free, r.StatusCode, r.body)
		}
	}
	form := owner.form("/settings/hosts", map[string][]string{"host": {"127.0.0.1"}, "port": {"98"}})
	if form.StatusCode != http.StatusTooManyRequests || form.Header.Get("Retry-After") == "" {
		t.Errorf("by the form: %d", form.StatusCode)
	}
	if !owner.signedIn() {
		t.Error("the owner was signed out")
	}
}

// TestAbuseOwnersOfAnotherEntry: with a list the installation belongs to its first entry, whoever signs in first, and where
// any host may vouch to nobody.
func TestAbuseOwnersOfAnotherEntry(t *testing.T) {
	var list []pve.Address
	b := newBenchWith(t, func(s *config.Settings) {
		if list != nil {
			s.LoginHosts = config.LoginHosts{Mode: config.ListedHosts, List: list}
		}
	})
	_, first := b.newHost(t, sim.Options{})
	_, second := b.newHost(t, sim.Options{})
	owns := func(h *sim.Host) bool {
		t.Helper()
		browser := b.browser(t)
		browser.signIn(h, "root@pam")
		r := browser.get("/api/hosts")
		if r.StatusCode != http.StatusOK && (r.StatusCode != http.StatusForbidden || r.json(t)["code"] != "owners_only") {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		return r.StatusCode == http.StatusOK
	}
	if owns(first) || owns(second) {
		t.Error("somebody owns an installation where any host may vouch")
	}
	b.stop()
	for _, h := range []*sim.Host{first, second} {
		at, err := addressOf(h)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, at)
	}
	b.begin(t)
	if owns(second) {
		t.Error("the second entry's root@pam is an owner")
	}
	if !owns(first) {
		t.Error("the first entry's root@pam is no owner")
	}
}

// TestAbuseSecretsStayInTheirDatacenter: when a host does not answer, neither the password nor the ticket that is meant for it
// goes to a login host of another installation.
func TestAbuseSecretsStayInTheirDatacenter(t *testing.T) {
	b := newBench(t)
	_, mine := b.newHost(t, sim.Options{Name: "same", Members: []string{"pve1", "pve2"}})
	_, other := b.newHost(t, sim.Options{Name: "same", Members: []string{"pve1", "pve2"}})
	browser := b.browser(t)
	browser.signIn(mine, "root@pam")
	b.browser(t).signIn(other, "root@pam")
	in := input(mine, "root@pam")
	mine.Close()
	before := len(other.Requests())
	b.advance(time.Minute)
	if r := browser.get("/api/containers"); r.StatusCode != http.StatusBadGateway && r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("containers of a host that is down: %d %s", r.StatusCode, r.body)
	}
	if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("sign-in at a host that is down: %d %s", r.StatusCode, r.body)
	}
	// The ticket is due for its renewal, and nobody is there who may be asked.
	b.advance(90 * time.Minute)
	browser.get("/api/containers")
	if n := len(other.Requests()); n != before {
		t.Errorf("the host of another installation got %d requests", n-before)
	}
}
