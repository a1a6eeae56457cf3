package app

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve/sim"
)

// realms asks for the realms of a host as the sign-in page does: "pam:pam*, corp:ldap", with a star at the default and a
// minus at what can't be chosen.
func (b *browser) realms(address string) string {
	b.t.Helper()
	host, port, _ := strings.Cut(address, ":")
	r := b.get("/api/auth/realms?host=" + url.QueryEscape(host) + "&port=" + port)
	if r.StatusCode != http.StatusOK {
		b.t.Fatalf("realms of %s: %d %s", address, r.StatusCode, r.body)
	}
	var list []string
	for _, item := range r.json(b.t)["items"].([]any) {
		m := item.(map[string]any)
		text := fmt.Sprintf("%s:%s", m["name"], m["type"])
		if m["default"] == true {
			text += "*"
		}
		if m["unavailable"] != nil {
			text += "-"
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}

const builtin = "pam:pam*, pve:pve"

// paths counts a host's requests for a path.
func paths(h *sim.Host, suffix string) int {
	n := 0
	for _, r := range h.Requests() {
		if strings.HasSuffix(r.Path, suffix) {
			n++
		}
	}
	return n
}

func TestRealmsComeFromTheHost(t *testing.T) {
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	if got := browser.realms(host.Address()); got != builtin {
		t.Errorf("a stranger's realms: %s", got)
	}
	if n := len(host.Requests()); n != 0 {
		t.Errorf("a stranger got %d requests", n)
	}
	browser.signIn(host, "alice@pve")
	if got := browser.realms(host.Address()); got != "campus:ad, corp:ldap, pam:pam*, pve:pve" {
		t.Errorf("a known host's realms: %s", got)
	}
	for range 20 {
		browser.realms(host.Address())
	}
	if n := paths(host, "/access/domains"); n != len(b.apps) {
		t.Errorf("the host was asked %d times within a minute, want once by each program", n)
	}
	// A default of its own, once the list is old.
	if err := dc.AddRealm(sim.Realm{Name: "lab", Type: "ldap", Default: true}); err != nil {
		t.Fatal(err)
	}
	b.advance(5*time.Minute + time.Second)
	const want = "campus:ad, corp:ldap, lab:ldap*, pam:pam, pve:pve"
	every := func() bool {
		for range b.apps {
			if browser.realms(host.Address()) != want {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(time.Minute); !every(); {
		if time.Now().After(deadline) {
			t.Fatalf("five minutes later: %s, want %s", browser.realms(host.Address()), want)
		}
	}
	// A host that gives no list now has the one that it gave before.
	host.SetFault("GET", "/access/domains", sim.Fault{Status: 500})
	b.advance(5*time.Minute + time.Second)
	if got := browser.realms(host.Address()); got != want {
		t.Errorf("the host gives no list: %s", got)
	}
}

func TestRealmsOfAHostThatIsDown(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	host.SetFault("GET", "/access/domains", sim.Fault{Hang: true})
	began := time.Now()
	if got := browser.realms(host.Address()); got != builtin {
		t.Errorf("a host that does not answer: %s", got)
	}
	// The call itself is given up after ten seconds, and nobody waits that long for a list.
	if took := time.Since(began); took >= 10*time.Second {
		t.Errorf("waited %v for a host that does not answer", took)
	}
	if r := b.browser(t).get("/login"); r.StatusCode != http.StatusOK {
		t.Errorf("the sign-in page: %d", r.StatusCode)
	}
	// The list is not needed to sign in with a realm of it.
	in := input(host, "erin")
	in["realm"] = "corp"
	if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Errorf("sign-in without the list: %d %s", r.StatusCode, r.body)
	}
}

func TestSignInWithADirectory(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	// Before anybody has signed in there, only the realms of every installation.
	for _, realm := range []string{"corp", "nonsense"} {
		in := input(host, "erin")
		in["realm"] = realm
		r := b.browser(t).json("/api/auth/login", in)
		if r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(r.body, "Realm must be one of pam, pve") || len(host.Requests()) != 0 {
			t.Errorf("%s at a stranger: %d %s, %d requests", realm, r.StatusCode, r.body, len(host.Requests()))
		}
	}
	b.browser(t).signIn(host, "root@pam")
	for _, c := range []struct{ user, realm, is string }{
		{"erin", "corp", "erin@corp"}, {"erin@corp", "", "erin@corp"}, {"erin@corp", "pam", "erin@corp"}, {"erin@corp", "corp", "erin@corp"},
		{"frank", "campus", "frank@campus"}, {"FRANK@campus", "pve", "frank@campus"}, {"alice@pve", "corp", "alice@pve"},
	} {
		in := input(host, c.user)
		if c.realm != "" {
			in["realm"] = c.realm
		}
		browser := b.browser(t)
		if r := browser.json("/api/auth/login", in); r.StatusCode != http.StatusOK {
			t.Errorf("%s in %q: %d %s", c.user, c.realm, r.StatusCode, r.body)
			continue
		}
		if got := browser.get("/api/auth/session").json(t)["userId"]; got != c.is {
			t.Errorf("%s in %q is %v, want %s", c.user, c.realm, got, c.is)
		}
	}
	// A realm that nobody has heard of is the host's to refuse; what is none is refused here.
	for realm, status := range map[string]int{"unheard": 401, "1st": 422, "a": 422, "two words": 422, strings.Repeat("r", 33): 422} {
		in := input(host, "erin")
		in["realm"] = realm
		if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != status {
			t.Errorf("realm %q: %d %s, want %d", realm, r.StatusCode, r.body, status)
		}
	}
	// An @ that is followed by no realm belongs to the name.
	if r := b.browser(t).json("/api/auth/login", input(host, "erin@example.org")); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}

func TestSignInPageOffersRealms(t *testing.T) {
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	if err := dc.AddRealm(sim.Realm{Name: "lab", Type: "ldap", Default: true, Comment: "<b>The lab</b>"}); err != nil {
		t.Fatal(err)
	}
	form := url.Values{"host": {"127.0.0.1"}, "port": {portOf(host)}, "username": {"alice"}, "password": {sim.DefaultPassword}, "realm": {"pve"}, "fingerprint": {host.Fingerprint()}}
	fresh := b.browser(t)
	if page := fresh.get("/login").body; strings.Contains(page, `value="corp"`) || !strings.Contains(page, `value="pam"`) {
		t.Error("before a host is known, only pam and pve are offered")
	}
	if r := fresh.form("/login", form); r.StatusCode != http.StatusSeeOther {
		t.Fatalf("sign-in: %d", r.StatusCode)
	}
	fresh.form("/logout", nil)
	page := fresh.get("/login").body
	for _, want := range []string{`value="corp"`, `value="campus"`, `corp · Company directory`, `lab · &lt;b&gt;The lab&lt;/b&gt;`, `value="pve" selected`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	// Another browser gets the host's own choice as soon as the host stands in its form.
	refused := b.browser(t).form("/login", url.Values{"host": {"127.0.0.1"}, "port": {portOf(host)}})
	if refused.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(refused.body, `value="lab" selected`) {
		t.Errorf("%d; the default realm is not chosen", refused.StatusCode)
	}
}

// TestAbuseRealmsOfStrangers: nobody can have a host contacted by asking for its realms, nor ask without end.
func TestAbuseRealmsOfStrangers(t *testing.T) {
	b := newBenchWith(t, func(s *config.Settings) { s.LoginHosts = config.LoginHosts{} })
	_, mine := b.newHost(t, sim.Options{})
	b.browser(t).signIn(mine, "root@pam")
	attacker := b.browser(t)
	// A connection is a packet, whether or not anything is said on it.
	trap, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trap.Close() })
	var contacted atomic.Int32
	go func() {
		for {
			c, err := trap.Accept()
			if err != nil {
				return
			}
			contacted.Add(1)
			c.Close()
		}
	}()
	if got := attacker.realms(trap.Addr().String()); got != builtin {
		t.Errorf("realms of a stranger: %s", got)
	}
	_, port, _ := strings.Cut(trap.Addr().String(), ":")
	attacker.do("GET", "/login", "", "", "Cookie", "berth-last="+url.Values{"host": {"127.0.0.1"}, "port": {port}}.Encode())
	attacker.form("/login", url.Values{"host": {"127.0.0.1"}, "port": {port}, "username": {"@sso"}, "realm": {"sso"}})
	attacker.form("/login", url.Values{"host": {"127.0.0.1"}, "port": {port}, "username": {"x"}, "password": {"x"}, "realm": {"sso"}})
	if n := contacted.Load(); n != 0 {
		t.Errorf("the stranger was contacted %d times", n)
	}
	for _, bad := range []string{"http://x/", "a b", "user@host", "[::1", "127.0.0.1:99999"} {
		if r := attacker.get("/api/auth/realms?host=" + url.QueryEscape(bad)); r.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%q: %d %s", bad, r.StatusCode, r.body)
		}
	}
	throttled := 0
	for range 100 {
		if r := attacker.get("/api/auth/realms?host=127.0.0.1"); r.StatusCode == http.StatusTooManyRequests {
			throttled++
			if r.Header.Get("Retry-After") == "" {
				t.Fatal("without Retry-After")
			}
		}
	}
	if throttled < 30 {
		t.Errorf("only %d of 100 were throttled", throttled)
	}
	// Somebody who asks too often can still sign in.
	attacker.signIn(mine, "alice@pve")
}

// A whole user id that was typed chooses the realm, also when the form comes back.
func TestTypedUserIDChoosesTheRealm(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	in := input(host, "carol@pve") // is disabled
	form := url.Values{"host": {in["host"].(string)}, "port": {fmt.Sprint(in["port"])}, "password": {sim.DefaultPassword}, "fingerprint": {host.Fingerprint()}}
	for _, c := range []struct{ username, realm, want string }{
		{"carol@pve", "pam", "pve"}, {"carol", "pve", "pve"}, {"carol@nowhere", "pve", "pve"}, {"carol", "pam", "pam"}, {"a@pve@pam", "pve", "pam"},
	} {
		form.Set("username", c.username)
		form.Set("realm", c.realm)
		r := browser.form("/login", form)
		if r.StatusCode != http.StatusUnauthorized || !strings.Contains(r.body, `value="`+c.username+`"`) || !strings.Contains(r.body, `<option value="`+c.want+`" selected`) {
			t.Errorf("%s in %s: %d, want %s chosen", c.username, c.realm, r.StatusCode, c.want)
		}
	}
}
