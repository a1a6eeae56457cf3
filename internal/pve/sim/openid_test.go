package sim

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

const cameBack = "https://berth.example.org/login/openid"

// newProvider starts an identity provider for the realm sso.
func (w *world) newProvider(r Realm, users ...string) *IdentityProvider {
	w.Helper()
	p, err := ListenProvider("127.0.0.1:0", w.now, users...)
	w.ok(err)
	w.Cleanup(func() { p.Close() })
	p.AllowRedirect(cameBack)
	r.Name, r.Type, r.Provider = "sso", "openid", p
	w.ok(w.dc.AddRealm(r))
	return p
}

func (w *world) authURL() string {
	w.Helper()
	got := w.call(who{}, "POST", "/access/openid/auth-url", url.Values{"realm": {"sso"}, "redirect-url": {cameBack}})
	link, _ := got.data.(string)
	if got.status != 200 || link == "" {
		w.Fatalf("auth-url: %d %s", got.status, got.body)
	}
	return link
}

// approve signs in at the provider, and returns what to send to login.
func (w *world) approve(p *IdentityProvider, link, user string) url.Values {
	w.Helper()
	back, err := p.Approve(link, user)
	w.ok(err)
	text, ok := strings.CutPrefix(back, cameBack+"?")
	q, err := url.ParseQuery(text)
	if !ok || err != nil {
		w.Fatalf("sent back to %q", back)
	}
	return url.Values{"state": {q.Get("state")}, "code": {q.Get("code")}, "redirect-url": {cameBack}}
}

func TestOpenIDSignIn(t *testing.T) {
	w := newWorld(t, Options{})
	p := w.newProvider(Realm{}, "grace", "heidi")
	w.ok(w.dc.AddUser(User{ID: "grace@sso", Password: DefaultPassword}))
	form := w.approve(p, w.authURL(), "grace")
	got := w.call(who{}, "POST", "/access/openid/login", form)
	m, _ := got.data.(map[string]any)
	if got.status != 200 || m["username"] != "grace@sso" || m["cap"] == nil {
		t.Fatalf("login: %d %s", got.status, got.body)
	}
	as := who{ticket: m["ticket"].(string), csrf: m["CSRFPreventionToken"].(string)}
	w.expect(w.call(as, "GET", "/version", nil), 200, "OK")
	w.expect(w.call(who{}, "POST", "/access/openid/login", form), 401, "authentication failure")
	if _, got := w.login("grace@sso", DefaultPassword); got.status != 401 {
		t.Errorf("with a password: %d", got.status)
	}
	w.takeHeld()

	// Each is the same slow refusal, and uses up the state.
	for name, change := range map[string]func(url.Values){
		"wrong code":           func(f url.Values) { f.Set("code", "x"+f.Get("code")) },
		"another redirect":     func(f url.Values) { f.Set("redirect-url", cameBack+"/") },
		"no state of ours":     func(f url.Values) { f.Set("state", `{"csrf_token":"x","realm":"sso"}`) },
		"state is not JSON":    func(f url.Values) { f.Set("state", "x") },
		"state of another one": func(f url.Values) { f.Set("state", strings.Replace(f.Get("state"), "sso", "pve", 1)) },
		"somebody unknown":     func(f url.Values) { f.Set("code", w.approve(p, w.authURL(), "heidi").Get("code")) },
		"ten minutes later":    func(url.Values) { w.advance(authStateLife + time.Second) },
		"code of one minute":   func(url.Values) { w.advance(codeLife + time.Second) },
	} {
		form := w.approve(p, w.authURL(), "grace")
		change(form)
		w.expect(w.call(who{}, "POST", "/access/openid/login", form), 401, "authentication failure")
		if w.takeHeld() == 0 {
			t.Errorf("%s: refused at once", name)
		}
	}
	stranger := w.approve(p, w.authURL(), "heidi")
	w.expect(w.call(who{}, "POST", "/access/openid/login", stranger), 401, "authentication failure")
	w.ok(w.dc.DisableUser("grace@sso"))
	w.expect(w.call(who{}, "POST", "/access/openid/login", w.approve(p, w.authURL(), "grace")), 401, "authentication failure")

	w.expect(w.call(who{}, "POST", "/access/openid/auth-url", url.Values{"realm": {"pve"}, "redirect-url": {cameBack}}), 500, "wrong realm type (pve != openid)")
	w.expect(w.call(who{}, "POST", "/access/openid/auth-url", url.Values{"realm": {"none"}, "redirect-url": {cameBack}}), 500, "authentication domain 'none' does not exist")
	w.expect(w.call(who{}, "POST", "/access/openid/auth-url", url.Values{"realm": {"sso"}}), 400, "Parameter verification failed.")
	if back, err := p.Approve(w.authURL(), ""); err != nil || !strings.Contains(back, "error=access_denied") {
		t.Errorf("cancelled: %q, %v", back, err)
	}
	if back, err := p.Approve(strings.Replace(w.authURL(), "berth.example.org", "evil.example.org", 1), "grace"); err == nil {
		t.Errorf("the provider sends people to %q", back)
	}
}

func TestOpenIDAutocreate(t *testing.T) {
	w := newWorld(t, Options{Name: "lab", Members: []string{"pve1", "pve2"}})
	p := w.newProvider(Realm{Autocreate: true}, "grace")
	form := w.approve(p, w.authURL(), "grace")
	// A state is known to the member that made it, and to no other.
	second, client := w.listen("pve2")
	w.expect(w.send(client, second.URL(), who{}, "POST", "/api2/json/access/openid/login", form), 401, "authentication failure")
	if got := w.call(who{}, "POST", "/access/openid/login", w.approve(p, w.authURL(), "grace")); got.status != 200 {
		t.Errorf("an account that is made on the way: %d %s", got.status, got.body)
	}
}

func TestRealms(t *testing.T) {
	w := newWorld(t, Options{})
	for _, bad := range []Realm{
		{Name: "1st", Type: "ldap"}, {Name: "a b", Type: "ldap"}, {Name: "pve", Type: "ldap"}, {Name: "x" + strings.Repeat("y", 32), Type: "ldap"},
		{Name: "ok", Type: "pam"}, {Name: "ok", Type: "openid"}, {Name: "ok", Type: ""},
	} {
		if w.dc.AddRealm(bad) == nil {
			t.Errorf("%+v was added", bad)
		}
	}
	w.ok(w.dc.AddRealm(Realm{Name: "lab", Type: "ad", Default: true}))
	var list []string
	for _, item := range w.call(who{}, "GET", "/access/domains", nil).data.([]any) {
		m := item.(map[string]any)
		entry := m["realm"].(string) + " " + m["type"].(string)
		if m["default"] != nil {
			entry += " default"
		}
		list = append(list, entry)
	}
	if got := strings.Join(list, ", "); got != "pam pam, pve pve, corp ldap, campus ad, lab ad default" {
		t.Errorf("domains %s", got)
	}
	// Only a realm that ignores case finds an account by another spelling, and it answers with the account's own.
	if _, got := w.login("Frank@campus", DefaultPassword); got.status != 200 || got.data.(map[string]any)["username"] != "frank@campus" {
		t.Errorf("another spelling: %d %s", got.status, got.body)
	}
	for _, user := range []string{"Erin@corp", "frank@nowhere"} {
		if _, got := w.login(user, DefaultPassword); got.status != 401 {
			t.Errorf("%s: %d", user, got.status)
		}
	}
	w.mustLogin("erin@corp")
}
