package app

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/pve/sim"
)

const (
	publicURL = "https://berth.example.org"
	callback  = publicURL + "/login/openid"
)

func public(s *config.Settings) {
	s.PublicURL = &url.URL{Scheme: "https", Host: "berth.example.org"}
}

// openIDBench is a bench with a known host, whose realm sso has an identity provider that knows grace and heidi.
type openIDBench struct {
	*bench
	dc       *sim.Datacenter
	host     *sim.Host
	provider *sim.IdentityProvider
}

func newOpenIDBench(t *testing.T, r sim.Realm) *openIDBench {
	t.Helper()
	b := &openIDBench{bench: newBenchWith(t, public)}
	b.dc, b.host = b.newHost(t, sim.Options{})
	var err error
	if b.provider, err = sim.ListenProvider("127.0.0.1:0", b.now, "grace", "heidi"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.provider.Close() })
	b.provider.AllowRedirect(callback)
	r.Name, r.Type, r.Provider = "sso", "openid", b.provider
	if err := b.dc.AddRealm(r); err != nil {
		t.Fatal(err)
	}
	if err := b.dc.AddUser(sim.User{ID: "grace@sso"}); err != nil {
		t.Fatal(err)
	}
	if err := b.dc.Grant(sim.ACL{Path: "/vms/103", User: "grace@sso", Role: "PVEVMUser"}); err != nil {
		t.Fatal(err)
	}
	b.browser(t).signIn(b.host, "root@pam")
	return b
}

// begin sends the sign-in form with the realm sso.
func (b *openIDBench) beginOpenID(browser *browser, next string) reply {
	browser.t.Helper()
	host, port, _ := strings.Cut(b.host.Address(), ":")
	return browser.form("/login", url.Values{"host": {host}, "port": {port}, "realm": {"sso"}, "username": {""}, "password": {""}, "next": {next}})
}

var linkOnPage = regexp.MustCompile(`<a [^>]*href="([^"]*)"[^>]* data-provider>`)

// link begins a sign-in and returns the link that the page shows.
func (b *openIDBench) link(browser *browser, next string) string {
	browser.t.Helper()
	r := b.beginOpenID(browser, next)
	found := linkOnPage.FindStringSubmatch(r.body)
	if r.StatusCode != http.StatusOK || found == nil {
		browser.t.Fatalf("begin: %d %s", r.StatusCode, r.body)
	}
	return html.UnescapeString(found[1])
}

// goThere signs in at the provider, and returns the path and query that it sends the browser back to.
func (b *openIDBench) goThere(t *testing.T, link, user string) string {
	t.Helper()
	back, err := b.provider.Approve(link, user)
	if err != nil {
		t.Fatal(err)
	}
	path, ok := strings.CutPrefix(back, publicURL)
	if !ok {
		t.Fatalf("sent back to %q", back)
	}
	return path
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="(state|code)" value="([^"]*)">`)

// fields are what the page's form would send.
func fields(page string) url.Values {
	v := url.Values{}
	for _, found := range hiddenField.FindAllStringSubmatch(page, -1) {
		v.Set(found[1], html.UnescapeString(found[2]))
	}
	return v
}

func TestOpenIDSignIn(t *testing.T) {
	b := newOpenIDBench(t, sim.Realm{})
	browser := b.browser(t)
	if got := browser.realms(b.host.Address()); !strings.Contains(got, "sso:openid") || strings.Contains(got, "sso:openid-") {
		t.Errorf("realms: %s", got)
	}
	begun := b.beginOpenID(browser, "/?q=gitea")
	if c := begun.Cookies(); len(c) != 2 || c[1].Name != "berth-openid" || !c[1].HttpOnly || c[1].SameSite != http.SameSiteLaxMode ||
		c[1].Path != "/login/openid" || c[1].MaxAge != 600 || c[1].Domain != "" || len(c[1].Value) < 26 {
		t.Errorf("cookies %v", c)
	}
	if !strings.Contains(begun.body, "Continue at <bdi class=\"address\">"+b.provider.Address()) || !strings.Contains(begun.body, `referrerpolicy="no-referrer"`) {
		t.Errorf("the page does not name the provider: %s", begun.body)
	}
	link := html.UnescapeString(linkOnPage.FindStringSubmatch(begun.body)[1])
	if u, err := url.Parse(link); err != nil || u.Scheme != "https" || u.Host != b.provider.Address() || u.Query().Get("redirect_uri") != callback {
		t.Errorf("link %q", link)
	}

	page := browser.get(b.goThere(t, link, "grace"))
	if page.StatusCode != http.StatusOK || page.Header.Get("Referrer-Policy") != "no-referrer" || !strings.Contains(page.Header.Get("Cache-Control"), "no-store") {
		t.Fatalf("callback: %d %v", page.StatusCode, page.Header)
	}
	if browser.signedIn() || paths(b.host, "/access/openid/login") != 0 {
		t.Error("a GET signed in")
	}
	form := fields(page.body)
	r := browser.form("/login/openid", form)
	if r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/?q=gitea" || r.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Fatalf("finish: %d to %q %s", r.StatusCode, r.Header.Get("Location"), r.body)
	}
	got := browser.get("/api/auth/session").json(t)
	if got["userId"] != "grace@sso" || got["realm"] != "sso" || got["username"] != "grace" {
		t.Errorf("session %v", got)
	}
	list := browser.get("/api/containers").body
	if !strings.Contains(list, `"vmid":103`) || strings.Contains(list, `"vmid":101`) {
		t.Errorf("grace sees %s", list)
	}
	b.advance(90 * time.Minute) // its ticket is renewed like any other
	if !browser.signedIn() || !strings.Contains(browser.get("/api/containers").body, `"vmid":103`) {
		t.Error("the session does not last")
	}
	audit := browser.get("/api/audit").body
	if !strings.Contains(audit, "by OpenID Connect") || !strings.Contains(audit, "grace@sso") {
		t.Errorf("audit: %s", audit)
	}
}

func TestOpenIDByUserName(t *testing.T) {
	b := newOpenIDBench(t, sim.Realm{Autocreate: true})
	browser := b.browser(t)
	host, port, _ := strings.Cut(b.host.Address(), ":")
	r := browser.form("/login", url.Values{"host": {host}, "port": {port}, "username": {"heidi@sso"}, "password": {"typed all the same"}, "realm": {"pam"}})
	found := linkOnPage.FindStringSubmatch(r.body)
	if found == nil {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	browser.form("/login/openid", fields(browser.get(b.goThere(t, html.UnescapeString(found[1]), "heidi")).body))
	if got := browser.get("/api/auth/session").json(t); got["userId"] != "heidi@sso" {
		t.Errorf("session %v", got)
	}
}

func TestOpenIDRefusals(t *testing.T) {
	b := newOpenIDBench(t, sim.Realm{})
	browser := b.browser(t)
	// The provider's word alone is not enough: PVE has no such account.
	r := browser.form("/login/openid", fields(browser.get(b.goThere(t, b.link(browser, ""), "heidi")).body))
	if r.StatusCode != http.StatusUnauthorized || !strings.Contains(r.body, failure) || !strings.Contains(r.body, "has no account for you") || browser.signedIn() {
		t.Errorf("no account: %d %s", r.StatusCode, r.body)
	}
	page := browser.get(b.goThere(t, b.link(browser, ""), ""))
	if page.StatusCode != http.StatusOK || !strings.Contains(page.body, "without signing you in") || len(fields(page.body)) != 0 {
		t.Errorf("cancelled: %d %s", page.StatusCode, page.body)
	}
	if page := browser.get("/login/openid"); page.StatusCode != http.StatusOK || !strings.Contains(page.body, "No sign-in waits here") {
		t.Errorf("nothing: %d", page.StatusCode)
	}
	// By the API there is no way to a provider.
	in := input(b.host, "grace")
	in["realm"] = "sso"
	if r := browser.json("/api/auth/login", in); r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(r.body, "identity provider") {
		t.Errorf("API: %d %s", r.StatusCode, r.body)
	}
	if paths(b.host, "/access/ticket") != 1 {
		t.Error("a password was sent for a realm that takes none")
	}
	// A host that can't reach its provider, or is down.
	b.host.SetFault("POST", "/access/openid/auth-url", sim.Fault{Status: 500, Reason: "Failed to discover OpenID Provider"})
	if r := b.beginOpenID(browser, ""); r.StatusCode != http.StatusUnauthorized || !strings.Contains(r.body, "Nobody can sign in with the realm sso just now") {
		t.Errorf("no provider: %d %s", r.StatusCode, r.body)
	}
	// A sign-in that was begun at another of Berth's addresses would come back without its cookie.
	host, port, _ := strings.Cut(b.host.Address(), ":")
	form := url.Values{"host": {host}, "port": {port}, "realm": {"sso"}}.Encode()
	if r := browser.do("POST", "/login", "application/x-www-form-urlencoded", form, "Origin", b.URL()); r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(r.body, publicURL) {
		t.Errorf("at another address: %d %s", r.StatusCode, r.body)
	}
}

// Without --public-url, or one that can't do, the realm is there, and says what is missing.
func TestOpenIDNeedsPublicURL(t *testing.T) {
	for name, change := range map[string]func(*config.Settings){
		"none":       func(*config.Settings) {},
		"plain HTTP": func(s *config.Settings) { s.PublicURL = &url.URL{Scheme: "http", Host: "berth.lan"} },
		"too long":   func(s *config.Settings) { public(s); s.BasePath = "/" + strings.Repeat("b", 255) },
	} {
		t.Run(name, func(t *testing.T) {
			b := &openIDBench{bench: newBenchWith(t, change)}
			b.dc, b.host = b.newHost(t, sim.Options{})
			provider, err := sim.ListenProvider("127.0.0.1:0", b.now, "grace")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { provider.Close() })
			if err := b.dc.AddRealm(sim.Realm{Name: "sso", Type: "openid", Provider: provider, Default: true}); err != nil {
				t.Fatal(err)
			}
			browser := b.browser(t)
			browser.signIn(b.host, "root@pam")
			if got := browser.realms(b.host.Address()); !strings.Contains(got, "sso:openid*-") {
				t.Errorf("realms: %s", got)
			}
			r := b.beginOpenID(b.browser(t), "")
			if r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(r.body, "--public-url") || !strings.Contains(r.body, `value="sso" disabled`) ||
				!strings.Contains(r.body, `value="campus" selected`) {
				t.Errorf("%d %s", r.StatusCode, r.body)
			}
			if paths(b.host, "/access/openid/auth-url") != 0 {
				t.Error("the host was asked")
			}
		})
	}
}

// An unclaimed installation is claimed with a password: the host's certificate has to be confirmed first.
func TestOpenIDDoesNotClaim(t *testing.T) {
	b := &openIDBench{bench: newBenchWith(t, func(s *config.Settings) { public(s); s.LoginHosts = config.LoginHosts{} })}
	b.dc, b.host = b.newHost(t, sim.Options{})
	provider, err := sim.ListenProvider("127.0.0.1:0", b.now, "grace")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { provider.Close() })
	if err := b.dc.AddRealm(sim.Realm{Name: "sso", Type: "openid", Provider: provider}); err != nil {
		t.Fatal(err)
	}
	if r := b.beginOpenID(b.browser(t), ""); r.StatusCode != http.StatusUnprocessableEntity || len(b.host.Requests()) != 0 {
		t.Errorf("at a stranger: %d, %d requests", r.StatusCode, len(b.host.Requests()))
	}
	// A host that the operator vouched for before anybody has signed in.
	at, err := addressOf(b.host)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := pve.ParseFingerprint(b.host.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.KnowHost(t.Context(), at, shown); err != nil {
		t.Fatal(err)
	}
	r := b.beginOpenID(b.browser(t), "")
	if r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(r.body, "for the first sign-in of all") || paths(b.host, "/access/openid/auth-url") != 0 {
		t.Errorf("unclaimed: %d %s", r.StatusCode, r.body)
	}
}
