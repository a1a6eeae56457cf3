package app

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"berth/internal/config"
	"berth/internal/pve/sim"
	"berth/internal/web"
)

// reference finds every attribute through which a page makes a browser ask for something.
var reference = regexp.MustCompile(`\s(href|src|srcset|action|formaction|poster|data|data-base|hx-(?:get|post|put|patch|delete|push-url|replace-url)(?::[a-z]+)?)="([^"]*)"`)

// below tells whether a reference of a page stays below the base path; references without a path of their own do.
func below(base, ref string) bool {
	if ref == "" || strings.HasPrefix(ref, "#") || strings.HasPrefix(ref, "?") || ref == "true" || ref == "false" {
		return true
	}
	return ref == base || strings.HasPrefix(ref, base+"/") && !strings.Contains(ref, "..")
}

// TestEveryLinkStaysBelowTheBasePath walks all pages of a stranger and of a signed-in user, and the answers to their forms.
func TestEveryLinkStaysBelowTheBasePath(t *testing.T) {
	const base = "/berth"
	b := newBenchWith(t, func(s *config.Settings) { s.BasePath, s.LoginHosts = base, config.LoginHosts{} })
	_, host := b.newHost(t, sim.Options{})
	if !strings.HasSuffix(b.URL(), base) {
		t.Fatalf("the program tells that it is at %s", b.URL())
	}
	checked, assets := 0, map[string]bool{}
	check := func(what string, r reply) {
		t.Helper()
		if to := r.Header.Get("Location") + r.Header.Get("HX-Redirect"); to != "" && !below(base, to) {
			t.Errorf("%s leads to %q", what, to)
		}
		for _, c := range r.Cookies() {
			if c.Path != base+"/" {
				t.Errorf("%s sets the cookie %s for %q", what, c.Name, c.Path)
			}
		}
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
			return
		}
		// What scripts fetch as a part of a page has no body of its own.
		if strings.Contains(r.body, "<body") && !strings.Contains(r.body, `data-base="`+base+`"`) {
			t.Errorf("%s does not tell its scripts the base path", what)
		}
		for _, found := range reference.FindAllStringSubmatch(r.body, -1) {
			ref := html.UnescapeString(found[2])
			if checked++; !below(base, ref) {
				t.Errorf("%s has %s=%q", what, found[1], ref)
			}
			if strings.HasPrefix(ref, base+"/static/") && r.StatusCode/100 != 3 {
				assets[strings.TrimPrefix(ref, base)] = true
			}
		}
	}

	stranger, alice := b.browser(t), b.browser(t)
	for _, path := range []string{"/login", "/", "/login/tfa", "/nothing", "/settings/about?x=1"} {
		check("a stranger's "+path, stranger.get(path))
	}
	values := url.Values{"next": {"/settings/about"}}
	for name, value := range input(host, "alice@pve") {
		values.Set(name, fmt.Sprint(value))
	}
	fingerprint := values.Get("fingerprint")
	values.Del("fingerprint")
	r := alice.form("/login", values)
	if check("the certificate's page", r); r.StatusCode != http.StatusConflict {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	values.Set("fingerprint", fingerprint)
	wrong := url.Values{}
	for name := range values {
		wrong.Set(name, values.Get(name))
	}
	wrong.Set("password", "not it")
	check("a refused sign-in", alice.form("/login", wrong))
	r = alice.form("/login", values)
	if check("the sign-in", r); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != base+"/settings/about" {
		t.Fatalf("%d to %q", r.StatusCode, r.Header.Get("Location"))
	}
	values.Set("username", "bob@pve")
	bob := b.browser(t)
	r = bob.form("/login", values)
	if check("the second factor's page", r); !strings.Contains(r.body, base+"/login/tfa") {
		t.Errorf("no second factor is asked for: %d %s", r.StatusCode, r.body)
	}
	check("the second factor refused", bob.form("/login/tfa", url.Values{"challenge": {"x"}, "kind": {"totp"}, "code": {"1"}}))

	root := b.browser(t) // an owner, since alice's sign-in claimed this Berth for her datacenter
	root.signIn(host, "root@pam")
	pages := 0
	for _, route := range b.Routes() {
		if route.Method == http.MethodGet && route.Shape == web.Page && !strings.HasPrefix(route.Path, "/static/") {
			check(route.Pattern(), alice.get(concrete(route)))
			check("an owner's "+route.Pattern(), root.get(concrete(route)))
			pages++
		}
	}
	if r := root.get("/settings/hosts"); r.StatusCode != http.StatusOK {
		t.Errorf("the owner's page: %d", r.StatusCode)
	}
	check("the list with a filter", alice.get("/?q=web&status=running&sort=-cpu"))
	check("a missing page", alice.get("/nothing"))
	check("a path to be cleaned", alice.get("/settings//about"))
	check("a folder without its slash", alice.get("/static"))
	if r := alice.do("POST", "/logout", "application/x-www-form-urlencoded", "", "HX-Request", "true"); r.Header.Get("HX-Redirect") != base+"/login?signed-out" {
		t.Errorf("a sign-out by script: %d %v", r.StatusCode, r.Header)
	}
	if pages < 4 || checked < 50 || len(assets) < 4 {
		t.Fatalf("only %d pages, %d references and %d assets were looked at", pages, checked, len(assets))
	}

	for path := range assets {
		r := stranger.get(path)
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
		if strings.HasSuffix(path, ".css") && regexp.MustCompile(`url\(["']?(/|http)`).MatchString(r.body) {
			t.Errorf("%s names a path of its own", path)
		}
	}
}

func TestNothingIsServedBesideTheBasePath(t *testing.T) {
	b := newBenchWith(t, func(s *config.Settings) { s.BasePath = "/apps/berth" })
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	beside := b.browser(t)
	beside.base = strings.TrimSuffix(b.URL(), "/apps/berth")
	ask := func(method, path string) reply {
		return beside.do(method, path, "", "", "Cookie", "lxc-session="+browser.token())
	}
	for _, path := range []string{"/", "/apps/berth"} {
		if r := ask("GET", path); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/apps/berth/" {
			t.Errorf("%s: %d to %q", path, r.StatusCode, r.Header.Get("Location"))
		}
	}
	for _, path := range []string{
		"/login", "/healthz", "/api/auth/session", "/settings/about", "/apps", "/apps/", "/apps/berthx/", "/apps/berth.evil/", "/APPS/BERTH/",
		"/apps%2Fberth/", "/static/", "//apps/berth/", "/x/../apps/berth/", "/apps/./berth/",
	} {
		r := ask("GET", path)
		if r.StatusCode != http.StatusNotFound || r.Header.Get("Location") != "" || strings.Contains(r.body, "alice") {
			t.Errorf("%s: %d to %q", path, r.StatusCode, r.Header.Get("Location"))
		}
		if api := strings.HasPrefix(path, "/api/") || path == "/healthz"; api != (r.Header.Get("Content-Type") == "application/problem+json") {
			t.Errorf("%s: %s", path, r.Header.Get("Content-Type"))
		}
	}
	for _, path := range []string{"/", "/apps/berth", "/logout"} {
		if r := ask("POST", path); r.StatusCode != http.StatusNotFound {
			t.Errorf("POST %s: %d", path, r.StatusCode)
		}
	}
	if r := browser.get("/healthz"); r.StatusCode != http.StatusOK {
		t.Errorf("the probe below the base path: %d", r.StatusCode)
	}
	// The methods of a path are told below the base path too.
	if r := browser.do("DELETE", "/api/containers", "", ""); r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET" {
		t.Errorf("DELETE: %d, Allow %q", r.StatusCode, r.Header.Get("Allow"))
	}
}

// TestNextBelowTheBasePath: what is remembered of where somebody wanted to go has no base path, so that it can't name a
// sibling of Berth's on the same site.
func TestNextBelowTheBasePath(t *testing.T) {
	b := newBenchWith(t, func(s *config.Settings) { s.BasePath = "/berth" })
	stranger := b.browser(t)
	if r := stranger.get("/settings/about?a=b"); r.Header.Get("Location") != "/berth/login?next="+url.QueryEscape("/settings/about?a=b") {
		t.Errorf("to %q", r.Header.Get("Location"))
	}
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	for next, want := range map[string]string{
		"/settings/about": "/berth/settings/about", "/../grafana/": "/berth/", "/%2e%2e/grafana/": "/berth/", "/x/../../grafana/": "/berth/",
		"//evil.example": "/berth/", "https://evil.example": "/berth/",
	} {
		if r := alice.get("/login?next=" + url.QueryEscape(next)); r.Header.Get("Location") != want {
			t.Errorf("next=%s: to %q, want %q", next, r.Header.Get("Location"), want)
		}
	}
}
