package app

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/pve/sim"
)

// knowHost makes a host that presents a certificate a login host, as the operator does, and returns its id.
func (b *bench) knowHost(t *testing.T, at, fingerprint string) string {
	t.Helper()
	address, err := pve.ParseAddress(at, pve.DefaultPort)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := pve.ParseFingerprint(fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	known, err := b.KnowHost(t.Context(), address, shown)
	if err != nil {
		t.Fatal(err)
	}
	return known.ID
}

// hostsAt are the login hosts at an address.
func (b *bench) hostsAt(t *testing.T, at string) (n int) {
	t.Helper()
	all, err := b.store.LoginHosts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		if h.Address.String() == at {
			n++
		}
	}
	return n
}

var challengeField = regexp.MustCompile(`name="challenge" value="([^"]+)"`)

// half makes the first of two steps, and returns what continues it.
func (b *browser) half(at, fingerprint, user string) (challenge string) {
	b.t.Helper()
	page := b.form("/login", url.Values{
		"host": {at}, "username": {user}, "password": {sim.DefaultPassword}, "fingerprint": {fingerprint},
	})
	found := challengeField.FindStringSubmatch(page.body)
	if found == nil {
		b.t.Fatalf("no question for a second factor: %d %s", page.StatusCode, page.body)
	}
	return found[1]
}

// TestAbuseRemovedHostAsksForACode: somebody has given the password at a login host when an owner removes it. The code goes
// nowhere, and the host does not come back.
func TestAbuseRemovedHostAsksForACode(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, first := b.newHost(t, sim.Options{})
	_, other := b.newHost(t, sim.Options{})
	root := b.browser(t)
	root.signIn(first, "root@pam")
	id := b.knowHost(t, other.Address(), other.Fingerprint())
	page, program := b.browser(t), b.browser(t)
	ofPage := page.half(other.Address(), other.Fingerprint(), "bob@pve")
	ofProgram := program.half(other.Address(), other.Fingerprint(), "bob@pve")
	if r := root.json("/api/hosts/remove", map[string]any{"id": id}); r.StatusCode != http.StatusOK {
		t.Fatalf("remove: %d %s", r.StatusCode, r.body)
	}
	before := len(other.Requests())
	code := sim.TOTP(sim.DefaultTOTPSecret, b.now())
	r := page.form("/login/tfa", url.Values{"challenge": {ofPage}, "kind": {"totp"}, "code": {code}})
	if r.StatusCode != http.StatusForbidden || !strings.Contains(r.body, "This login host was removed or pinned anew") {
		t.Errorf("the second step by the page: %d %s", r.StatusCode, r.body)
	}
	r = program.json("/api/auth/tfa", map[string]any{"challenge": ofProgram, "kind": "totp", "code": code})
	if r.StatusCode != http.StatusForbidden || r.json(t)["code"] != "host_not_allowed" {
		t.Errorf("the second step by the API: %d %s", r.StatusCode, r.body)
	}
	if n := len(other.Requests()) - before; n != 0 {
		t.Errorf("the removed host got %d requests", n)
	}
	if page.signedIn() || program.signedIn() || b.hostsAt(t, other.Address()) != 0 {
		t.Error("the removed host is back")
	}
	// Whoever adds it again begins anew: the old question belongs to a host that is gone.
	third := b.browser(t)
	b.knowHost(t, other.Address(), other.Fingerprint())
	if r := third.json("/api/auth/login", input(other, "alice@pve")); r.StatusCode != http.StatusOK {
		t.Errorf("after the host was added again: %d %s", r.StatusCode, r.body)
	}
}

// TestAbuseCodeForTheOldPin: a login host is pinned anew, because its key is in other hands. A code that was asked for by
// the holder of the old key is sent to nobody.
func TestAbuseCodeForTheOldPin(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, first := b.newHost(t, sim.Options{})
	_, other := b.newHost(t, sim.Options{})
	root := b.browser(t)
	root.signIn(first, "root@pam")
	id := b.knowHost(t, other.Address(), other.Fingerprint())
	bob := b.browser(t)
	challenge := bob.half(other.Address(), other.Fingerprint(), "bob@pve")
	// The host still has the old key, as its thief would.
	host, err := b.store.LoginHost(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.PinHost(t.Context(), id, &pve.KeyPin{1}, host.Fingerprint); err != nil {
		t.Fatal(err)
	}
	before := len(other.Requests())
	r := bob.json("/api/auth/tfa", map[string]any{"challenge": challenge, "kind": "totp", "code": sim.TOTP(sim.DefaultTOTPSecret, b.now())})
	if r.StatusCode != http.StatusForbidden || r.json(t)["code"] != "host_not_allowed" {
		t.Errorf("the second step: %d %s", r.StatusCode, r.body)
	}
	if n := len(other.Requests()) - before; n != 0 {
		t.Errorf("the holder of the old key got %d requests", n)
	}
	if bob.signedIn() {
		t.Error("the holder of the old key vouched for somebody")
	}
}

// TestAbuseRemovedHostHoldsItsAnswer: a host that is about to be removed holds its answer to a password until it is. The
// answer then opens nothing, whether the host was pinned anew or removed.
func TestAbuseRemovedHostHoldsItsAnswer(t *testing.T) {
	for _, fate := range []string{"removed", "pinned anew"} {
		t.Run(fate, func(t *testing.T) {
			cert := forLoopback
			var held atomic.Bool
			asked, hold := make(chan struct{}, 1), make(chan struct{})
			inner := plausible(nil)
			evil := newHostile(t, newAuthority(t).issue(t, &cert), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if held.Load() {
					asked <- struct{}{}
					<-hold
				}
				inner.ServeHTTP(w, r)
			}))
			b := newBenchWith(t, claimed)
			_, first := b.newHost(t, sim.Options{})
			root := b.browser(t)
			root.signIn(first, "root@pam")
			at := fmt.Sprintf("127.0.0.1:%d", evil.port())
			id := b.knowHost(t, at, evil.fingerprint())
			held.Store(true)
			mallory, done := b.browser(t), make(chan reply)
			go func() {
				done <- mallory.json("/api/auth/login", map[string]any{
					"host": "127.0.0.1", "port": evil.port(), "username": "m@pve", "password": "x", "fingerprint": evil.fingerprint(),
				})
			}()
			<-asked
			if fate == "removed" {
				if r := root.json("/api/hosts/remove", map[string]any{"id": id}); r.StatusCode != http.StatusOK {
					t.Errorf("remove: %d %s", r.StatusCode, r.body)
				}
			} else if err := b.store.PinHost(t.Context(), id, &pve.KeyPin{1}, pve.Fingerprint{1}); err != nil {
				t.Error(err)
			}
			close(hold)
			if r := <-done; r.StatusCode != http.StatusForbidden || r.json(t)["code"] != "host_not_allowed" {
				t.Errorf("the answer that was held: %d %s", r.StatusCode, r.body)
			}
			if mallory.signedIn() || fate == "removed" && b.hostsAt(t, at) != 0 {
				t.Error("the removed host is back")
			}
		})
	}
}

// TestAbuseClaimThroughUnknownProxy: Berth listens on loopback and was told of no proxy, but one hands on requests of
// strangers. It gives itself away by any header that proxies add, and the claim needs its code.
func TestAbuseClaimThroughUnknownProxy(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	code, err := b.ClaimCode(t.Context())
	if err != nil || code == "" {
		t.Fatalf("code %q, %v", code, err)
	}
	text := func(code string) string {
		return fmt.Sprintf(`{"host":%q,"username":"root@pam","password":%q,"fingerprint":%q,"claimCode":%q}`,
			host.Address(), sim.DefaultPassword, host.Fingerprint(), code)
	}
	for _, header := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Real-IP"} {
		r := b.browser(t).do("POST", "/api/auth/login", "application/json", text(""), header, "127.0.0.1")
		if r.StatusCode != http.StatusUnprocessableEntity || r.json(t)["code"] != "claim_code_required" {
			t.Errorf("with %s: %d %s", header, r.StatusCode, r.body)
		}
		if r := b.browser(t).do("GET", "/login", "", "", header, "127.0.0.1"); !strings.Contains(r.body, `name="claimCode"`) {
			t.Errorf("the page for a request with %s does not ask for the code", header)
		}
		b.forget()
	}
	if n := len(host.Requests()); n != 0 {
		t.Errorf("the host was contacted %d times without the code", n)
	}
	if r := b.browser(t).get("/login"); strings.Contains(r.body, `name="claimCode"`) {
		t.Error("the page for a browser of the same machine asks for the code")
	}
	if r := b.browser(t).do("POST", "/api/auth/login", "application/json", text(code), "X-Forwarded-For", "192.0.2.1"); r.StatusCode != http.StatusOK {
		t.Errorf("with the code: %d %s", r.StatusCode, r.body)
	}

	direct := newBenchWith(t, func(s *config.Settings) { claimed(s) })
	_, mine := direct.newHost(t, sim.Options{})
	direct.browser(t).signIn(mine, "root@pam")
}
