package app

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/pve/sim"
	"berth/internal/web"
)

// publicRoutes are all routes that answer without a session. A route that isn't named here must refuse.
var publicRoutes = []string{
	"GET /login", "POST /login", "GET /login/tfa", "POST /login/tfa", "GET /static/", "GET /healthz", "GET /readyz",
	"POST /api/auth/login", "POST /api/auth/tfa",
	// What the sign-in page needs: the realms of a known host, and where an identity provider sends people back to.
	"GET /api/auth/realms", "GET /login/openid", "POST /login/openid",
}

// concrete fills in the wildcards of a route's path.
func concrete(route web.Route) string {
	path := strings.ReplaceAll(route.Path, "{$}", "")
	for strings.Contains(path, "{") {
		begin, end := strings.IndexByte(path, '{'), strings.IndexByte(path, '}')
		path = path[:begin] + "1" + path[end+1:]
	}
	return path
}

func TestEveryRouteIsPublicByNameOrRefuses(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})

	expired := b.browser(t)
	expired.signIn(host, "root@pam")
	b.advance(2 * time.Hour)
	destroyed := b.browser(t)
	destroyed.signIn(host, "root@pam")
	old := destroyed.token()
	if r := destroyed.json("/api/auth/logout", struct{}{}); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-out: %d %s", r.StatusCode, r.body)
	}
	alive := b.browser(t)
	alive.signIn(host, "root@pam")

	strangers := map[string]string{
		"no session":            "",
		"an unknown token":      "lxc-session=" + strings.Repeat("A", 43),
		"a token of junk":       "lxc-session=%00<script>",
		"an expired session":    "lxc-session=" + expired.token(),
		"a destroyed session":   "lxc-session=" + old,
		"two session cookies":   "lxc-session=" + alive.token() + "; lxc-session=" + alive.token(),
		"a session in its name": "LXC-SESSION=" + alive.token(),
	}
	routes := append(b.Routes(),
		web.AuthenticatedRoute("GET", "/nothing/here", web.Page, nil), web.AuthenticatedRoute("POST", "/nothing/here", web.Page, nil),
		web.AuthenticatedRoute("GET", "/api/nothing", web.API, nil), web.AuthenticatedRoute("DELETE", "/api/nothing", web.API, nil),
		web.AuthenticatedRoute("GET", "/api/auth/nothing", web.API, nil), web.AuthenticatedRoute("GET", "/login/nothing", web.Page, nil),
	)
	protected := 0
	for _, route := range routes {
		if slices.Contains(publicRoutes, route.Pattern()) {
			if route.Access() != web.Public {
				t.Errorf("%s should be public", route.Pattern())
			}
			continue
		}
		if route.Access() == web.Public {
			t.Errorf("%s is public, and not named as such", route.Pattern())
		}
		protected++
		for name, cookie := range strangers {
			b := b.browser(t)
			contentType := ""
			if route.Method != http.MethodGet {
				contentType = "application/json"
			}
			r := b.do(route.Method, concrete(route), contentType, "", "Cookie", cookie)
			checkRefused(t, route, name, cookie, r)
		}
	}
	if protected < 5 {
		t.Fatalf("only %d protected routes were tried", protected)
	}
	// The walk must not have ended the session that was alive.
	if !alive.signedIn() {
		t.Error("the living session ended")
	}
}

func checkRefused(t *testing.T, route web.Route, name, cookie string, r reply) {
	t.Helper()
	if route.Shape == web.API {
		if r.StatusCode != http.StatusUnauthorized || r.Header.Get("Content-Type") != "application/problem+json" ||
			r.json(t)["detail"] != "Authentication required. Please log in." {
			t.Errorf("%s with %s: %d %s", route.Pattern(), name, r.StatusCode, r.body)
		}
	} else {
		want := "/login"
		if route.Method == http.MethodGet {
			next := concrete(route)
			if strings.HasPrefix(next, "/login/") {
				next = "/" // no page to come back to
			}
			want += "?next=" + url.QueryEscape(next)
		}
		if r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != want {
			t.Errorf("%s with %s: %d to %q, want %q", route.Pattern(), name, r.StatusCode, r.Header.Get("Location"), want)
		}
	}
	cleared := slices.ContainsFunc(r.Cookies(), func(c *http.Cookie) bool { return c.Name == "lxc-session" && c.MaxAge < 0 && c.Value == "" })
	if sent := strings.HasPrefix(cookie, "lxc-session="); cleared != sent {
		t.Errorf("%s with %s: cookie cleared: %v, want %v", route.Pattern(), name, cleared, sent)
	}
	if !strings.Contains(r.Header.Get("Cache-Control"), "no-store") {
		t.Errorf("%s with %s: may be cached: %q", route.Pattern(), name, r.Header.Get("Cache-Control"))
	}
}

func TestSecurityHeadersOnEverything(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	for _, path := range []string{"/", "/login", "/nothing", "/api/containers", "/api/nothing", "/healthz", "/static/nothing", "/static/%00"} {
		r := browser.get(path)
		csp := r.Header.Get("Content-Security-Policy")
		if strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") || !strings.Contains(csp, "default-src 'self'") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Referrer-Policy") == "" {
			t.Errorf("%s: headers %v", path, r.Header)
		}
	}
}

// TestRequestForNoPath: a request for the server as a whole, which net/http would answer by itself, meets what all others do.
func TestRequestForNoPath(t *testing.T) {
	b := newBench(t)
	for name, want := range map[string]int{"localhost": http.StatusBadRequest, "evil.example": http.StatusMisdirectedRequest} {
		conn, err := net.Dial("tcp", b.App.Address()) // past a balancer, which would answer itself
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "OPTIONS * HTTP/1.1\r\nHost: "+name+"\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.StatusCode != want || !strings.Contains(r.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") ||
			r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Referrer-Policy") == "" {
			t.Errorf("for %s: %s, headers %v; want %d", name, r.Status, r.Header, want)
		}
	}
}

func TestWrongMethodsAndUnknownPaths(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	tests := []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/nothing", http.StatusNotFound, ""},
		{"GET", "/api/nothing", http.StatusNotFound, ""},
		{"DELETE", "/api/containers", http.StatusMethodNotAllowed, "GET"},
		{"GET", "/api/auth/login", http.StatusMethodNotAllowed, "POST"},
		{"PUT", "/login", http.StatusMethodNotAllowed, "GET, POST"},
		{"GET", "/logout", http.StatusMethodNotAllowed, "POST"},
	}
	for _, test := range tests {
		r := browser.do(test.method, test.path, "", "")
		if r.StatusCode != test.status || r.Header.Get("Allow") != test.allow {
			t.Errorf("%s %s: %d, Allow %q; want %d, %q", test.method, test.path, r.StatusCode, r.Header.Get("Allow"), test.status, test.allow)
		}
	}
}

func TestCrossOriginRequestsAreRefused(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		for _, route := range b.Routes() {
			if route.Method == http.MethodGet {
				continue
			}
			if r := browser.do(route.Method, concrete(route), "application/json", "{}", header...); r.StatusCode != http.StatusForbidden {
				t.Errorf("%s with %v: %d %s", route.Pattern(), header, r.StatusCode, r.body)
			}
		}
	}
	if !browser.signedIn() {
		t.Error("another site signed the user out")
	}
	if r := browser.do("OPTIONS", "/api/containers", "", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "GET"); r.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("CORS is open: %v", r.Header)
	}
}
