package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve/sim"
	"berth/internal/web"
)

// everyRoute is the route table, and paths that are in no route.
func (b *bench) everyRoute() []web.Route {
	return append(b.Routes(),
		web.AuthenticatedRoute("GET", "/nothing/here", web.Page, nil), web.AuthenticatedRoute("POST", "/nothing/here", web.Page, nil),
		web.AuthenticatedRoute("GET", "/api/nothing", web.API, nil), web.AuthenticatedRoute("DELETE", "/api/nothing", web.API, nil))
}

// as sends requests with another Host header, as a browser does that was made to believe in another address of the name.
func (b *browser) as(host, method, path string, header ...string) reply {
	b.t.Helper()
	req, err := http.NewRequest(method, b.base+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Host = host
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return b.send(req)
}

// TestAbuseReboundName: a name of the attacker's that now leads here passes the browser's same-origin checks, and the
// browser even says so. Nothing is served under it, by no route.
func TestAbuseReboundName(t *testing.T) {
	for _, base := range []string{"", "/berth"} {
		b := newBenchWith(t, func(s *config.Settings) { s.BasePath = base })
		_, host := b.newHost(t, sim.Options{})
		alice := b.browser(t)
		alice.signIn(host, "alice@pve")
		_, port, _ := net.SplitHostPort(b.Address())
		for _, name := range []string{"evil.example", "evil.example:" + port, "127.0.0.1.evil.example", "localhost.evil.example:" + port, "127.1:" + port} {
			for _, route := range b.everyRoute() {
				r := alice.as(name, route.Method, concrete(route), "Origin", "http://"+name, "Sec-Fetch-Site", "same-origin",
					"Cookie", "lxc-session="+alice.token())
				what := base + " " + route.Pattern() + " as " + name
				if r.StatusCode != http.StatusMisdirectedRequest || strings.Contains(r.body, "alice") || len(r.Cookies()) > 0 || r.Header.Get("Location") != "" {
					t.Errorf("%s: %d %v %s", what, r.StatusCode, r.Header, r.body)
				}
				if route.Shape == web.API && (r.Header.Get("Content-Type") != "application/problem+json" || r.json(t)["code"] != "unknown_host") ||
					route.Shape == web.Page && !strings.Contains(r.body, "<h1>Berth is not known under this name</h1>") {
					t.Errorf("%s: %s %s", what, r.Header.Get("Content-Type"), r.body)
				}
			}
		}
		if !alice.signedIn() {
			t.Error("a refused name ended the session")
		}
	}
}

// TestAbuseReboundNameSignIn: no packet goes out for a sign-in that came in under a strange name.
func TestAbuseReboundNameSignIn(t *testing.T) {
	b := newBench(t)
	dialled := make(chan struct{}, 8)
	trap, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	go func() {
		for {
			c, err := trap.Accept()
			if err != nil {
				return
			}
			dialled <- struct{}{}
			c.Close()
		}
	}()
	at, port, _ := net.SplitHostPort(trap.Addr().String())
	form := url.Values{"host": {at}, "port": {port}, "username": {"root"}, "password": {"guess"}, "realm": {"pam"}}.Encode()
	for _, name := range []string{"evil.example", b.Address()} {
		req, err := http.NewRequest("POST", b.URL()+"/login", strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = name
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		b.browser(t).send(req)
		if got, want := len(dialled) > 0, name != "evil.example"; got != want {
			t.Errorf("as %s: the host was called: %t, want %t", name, got, want)
		}
	}
}

// TestAbuseUnknownNamesFillNoLog: whoever asks under strange names again and again costs one line an hour.
func TestAbuseUnknownNamesFillNoLog(t *testing.T) {
	log := recordLog(t)
	b := newBench(t)
	for range 50 {
		b.past(t).as("evil.example\"\x7f", "GET", "/")
	}
	if got := log.count("asks for a host"); got != 1 {
		t.Errorf("%d lines, want 1", got)
	}
	b.advance(time.Hour)
	b.past(t).as("evil.example", "GET", "/")
	if got := log.count("asks for a host"); got != 2 {
		t.Errorf("%d lines after an hour, want 2", got)
	}
}

// TestKnownNames: what the operator named, and the machine's own name.
func TestKnownNames(t *testing.T) {
	public, _ := url.Parse("https://Berth.example.org/berth")
	b := newBenchWith(t, func(s *config.Settings) { s.PublicURL, s.BasePath, s.Hosts = public, "/berth", []string{"dash.lan"} })
	names := []string{"berth.example.org", "dash.lan:8080", "localhost", "192.0.2.5", "[2001:db8::5]:8080"}
	if machine, err := os.Hostname(); err == nil && machine != "" {
		short, _, _ := strings.Cut(machine, ".")
		names = append(names, machine, short)
	}
	for _, name := range names {
		if r := b.browser(t).as(name, "GET", "/login"); r.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", name, r.StatusCode)
		}
	}
}

// about is what Berth sees of a request.
func (b *browser) about(header ...string) map[string]any {
	b.t.Helper()
	r := b.do("GET", "/api/about", "", "", header...)
	if r.StatusCode != http.StatusOK {
		b.t.Fatalf("about: %d %s", r.StatusCode, r.body)
	}
	return r.json(b.t)
}

func request(about map[string]any, name string) any { return about["request"].(map[string]any)[name] }

func warned(about map[string]any, words string) bool {
	return slices.ContainsFunc(about["warnings"].([]any), func(w any) bool { return strings.Contains(w.(string), words) })
}

// TestAbuseForgedForwardedHeaders: whoever is no trusted proxy can claim no address and no HTTPS, and is found out.
func TestAbuseForgedForwardedHeaders(t *testing.T) {
	forged := []string{
		"X-Forwarded-For", "198.51.100.7", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example", "X-Real-IP", "198.51.100.7",
		"Forwarded", "for=198.51.100.7;proto=https;host=evil.example", "X-Forwarded-Prefix", "/evil",
	}
	for name, proxies := range map[string][]netip.Prefix{"none": nil, "others": {netip.MustParsePrefix("192.0.2.0/24")}} {
		log := recordLog(t)
		b := newBenchWith(t, func(s *config.Settings) { s.TrustedProxies = proxies })
		_, host := b.newHost(t, sim.Options{})
		alice := b.past(t)
		r := alice.do("POST", "/api/auth/login", "application/json", jsonOf(t, input(host, "alice@pve")), forged...)
		if r.StatusCode != http.StatusOK || len(r.Cookies()) != 1 || r.Cookies()[0].Secure || r.Header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: sign-in: %d %v", name, r.StatusCode, r.Header)
		}
		seen := alice.about(forged...)
		if request(seen, "address") != "127.0.0.1" || request(seen, "protocol") != "http" || request(seen, "host") != b.App.Address() || request(seen, "trusted") != false {
			t.Errorf("%s: %v", name, seen)
		}
		if headers := request(seen, "forwarded").([]any); len(headers) != 6 {
			t.Errorf("%s: headers %v", name, headers)
		} else {
			for _, h := range headers {
				if h.(map[string]any)["believed"] != false {
					t.Errorf("%s: %v is believed", name, h)
				}
			}
		}
		if !warned(seen, "name it in --trusted-proxies") || !warned(seen, "unencrypted") {
			t.Errorf("%s: warnings %v", name, seen["warnings"])
		}
		if page := alice.do("GET", "/settings/about", "", "", forged...).body; !strings.Contains(page, "198.51.100.7") || !strings.Contains(page, "ignored") ||
			!strings.Contains(page, "Something on the way to Berth needs a look") {
			t.Errorf("%s: the page does not say it: %s", name, page)
		}
		if !warned(alice.about(), "1 address sent forwarded headers") {
			t.Errorf("%s: nobody else is told of it", name)
		}
		if got := log.count("forwarded headers ignored"); got != 1 {
			t.Errorf("%s: %d lines in the log, want 1", name, got)
		}
		if log.count("198.51.100.7") != 0 {
			t.Errorf("%s: the forged address is in the log:\n%s", name, log.text())
		}
		b.advance(time.Hour)
		if seen := alice.about(); len(seen["warnings"].([]any)) != 0 {
			t.Errorf("%s: an hour later: %v", name, seen["warnings"])
		}
	}
}

// TestAbuseForgedAddressThroughTheProxy: what a client sends in front of the trusted proxy's own entry counts for nothing.
func TestAbuseForgedAddressThroughTheProxy(t *testing.T) {
	b := newBenchWith(t, func(s *config.Settings) { s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	r := alice.do("POST", "/api/auth/login", "application/json", jsonOf(t, input(host, "alice@pve")),
		"X-Forwarded-For", "127.0.0.1, 203.0.113.5, 198.51.100.7", "X-Forwarded-Proto", "https")
	if r.StatusCode != http.StatusOK || !r.Cookies()[0].Secure || r.Header.Get("Strict-Transport-Security") == "" {
		t.Fatalf("sign-in: %d %v", r.StatusCode, r.Header)
	}
	// The client's jar keeps a Secure cookie back from plain HTTP, as it should: between proxy and Berth it is handed on.
	cookie := "lxc-session=" + r.Cookies()[0].Value
	tests := []struct {
		name, address, protocol, warning string
		header                           []string
	}{
		{"as it should be", "198.51.100.7", "https", "", []string{"X-Forwarded-For", "203.0.113.5, 198.51.100.7", "X-Forwarded-Proto", "https"}},
		{"a forged https in front of the proxy's own word", "198.51.100.7", "http", "unencrypted", []string{"X-Forwarded-For", "198.51.100.7", "X-Forwarded-Proto", "https, http"}},
		{"no address", "127.0.0.1", "https", "Have it set X-Forwarded-For", []string{"X-Forwarded-Proto", "https"}},
		{"no protocol", "198.51.100.7", "http", "Have it set X-Forwarded-Proto", []string{"X-Forwarded-For", "198.51.100.7"}},
		{"junk", "127.0.0.1", "https", "no client can be made out", []string{"X-Forwarded-For", "198.51.100.7, <b>", "X-Forwarded-Proto", "https"}},
		{"another Host", "198.51.100.7", "https", "keep the Host header", []string{"X-Forwarded-For", "198.51.100.7", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "berth.example.org"}},
	}
	for _, test := range tests {
		seen := b.browser(t).about(append([]string{"Cookie", cookie}, test.header...)...)
		if request(seen, "address") != test.address || request(seen, "protocol") != test.protocol || request(seen, "peer") != "127.0.0.1" {
			t.Errorf("%s: %v", test.name, seen)
		}
		if test.warning == "" && len(seen["warnings"].([]any)) != 0 || test.warning != "" && !warned(seen, test.warning) {
			t.Errorf("%s: warnings %v", test.name, seen["warnings"])
		}
		page := b.browser(t).do("GET", "/", "", "", append([]string{"Cookie", cookie}, test.header...)...).body
		if got, want := strings.Contains(page, "not encrypted"), test.protocol == "http"; got != want && test.address != "127.0.0.1" {
			t.Errorf("%s: the page says that it is not encrypted: %t, want %t", test.name, got, want)
		}
	}
}

// TestAbuseCrossSiteRequests: another site's forms and scripts change nothing, whatever method they use and wherever they
// aim; its reading scripts get nothing that they may look at; and it can frame nothing.
func TestAbuseCrossSiteRequests(t *testing.T) {
	public, _ := url.Parse("https://berth.example.org")
	for name, change := range map[string]func(*config.Settings){
		"at the root":  nil,
		"below a path": func(s *config.Settings) { s.BasePath = "/berth" },
		"behind a proxy": func(s *config.Settings) {
			s.PublicURL, s.TrustedProxies = public, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		},
	} {
		b := newBenchWith(t, change)
		_, host := b.newHost(t, sim.Options{})
		alice := b.browser(t)
		alice.signIn(host, "alice@pve")
		session := "lxc-session=" + alice.token()
		for _, header := range [][]string{
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "cross-site", "Origin", b.URL()},
			{"Origin", "https://evil.example"}, {"Origin", "null"}, {"Origin", "http://localhost.evil.example"},
			{"Origin", "https://evil.example", "X-Forwarded-Host", "evil.example", "X-HTTP-Method-Override", "GET"},
		} {
			for _, route := range b.everyRoute() {
				for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
					r := alice.do(method, concrete(route), "application/x-www-form-urlencoded", "", append(header, "Cookie", session)...)
					if r.StatusCode != http.StatusForbidden || len(r.Cookies()) > 0 {
						t.Errorf("%s: %s %s with %v: %d %v", name, method, concrete(route), header, r.StatusCode, r.Cookies())
					}
					if route.Shape == web.API && r.json(t)["code"] != "cross_origin" {
						t.Errorf("%s: %s %s: %s", name, method, concrete(route), r.body)
					}
				}
			}
		}
		if !alice.signedIn() {
			t.Errorf("%s: another site signed the user out", name)
		}
		for _, route := range b.everyRoute() {
			if route.Method != http.MethodGet {
				continue
			}
			r := alice.do("GET", concrete(route), "", "", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
			for header := range r.Header {
				if strings.HasPrefix(header, "Access-Control-") {
					t.Errorf("%s: %s opens %s", name, route.Pattern(), header)
				}
			}
			if r.Header.Get("X-Frame-Options") != "DENY" || !strings.Contains(r.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") ||
				r.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
				t.Errorf("%s: %s can be framed or embedded: %v", name, route.Pattern(), r.Header)
			}
			preflight := alice.do("OPTIONS", concrete(route), "", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST")
			if preflight.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: a preflight for %s is granted", name, route.Pattern())
			}
		}
	}
}

// TestAbuseLoginFromAnotherSite: nobody is signed in to the attacker's account by a form of another site.
func TestAbuseLoginFromAnotherSite(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	form := url.Values{}
	for name, value := range input(host, "alice@pve") {
		form.Set(name, fmt.Sprint(value))
	}
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		victim := b.browser(t)
		r := victim.do("POST", "/login", "application/x-www-form-urlencoded", form.Encode(), header...)
		if r.StatusCode != http.StatusForbidden || victim.token() != "" {
			t.Errorf("%v: %d %v", header, r.StatusCode, r.Cookies())
		}
	}
	// The very same form is good when it is Berth's own.
	own := b.browser(t)
	if r := own.do("POST", "/login", "application/x-www-form-urlencoded", form.Encode(), "Sec-Fetch-Site", "same-origin"); r.StatusCode != http.StatusSeeOther || own.token() == "" {
		t.Errorf("our own form: %d %s", r.StatusCode, r.body)
	}
}

// TestAbusePlantedSessionCookie: a sibling of Berth's, above it or beside it, plants a second session cookie. Neither
// counts, and both are gone afterwards, so that the next sign-in works.
func TestAbusePlantedSessionCookie(t *testing.T) {
	b := newBenchWith(t, func(s *config.Settings) { s.BasePath, s.Hosts = "/berth", []string{"berth.home.example.org"} })
	_, host := b.newHost(t, sim.Options{})
	mallory := b.browser(t)
	mallory.signIn(host, "root@pam")
	planted := mallory.token()
	for _, where := range []http.Cookie{
		{Path: "/"}, {Path: "/berth"}, {Path: "/", Domain: "example.org"}, {Path: "/berth/", Domain: "home.example.org"},
		{Path: "/berth", Domain: "berth.home.example.org"},
	} {
		_, port, _ := net.SplitHostPort(b.Address())
		alice := b.browser(t)
		alice.base = "http://berth.home.example.org:" + port + "/berth"
		alice.http.Transport = &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, b.Address())
		}}
		alice.signIn(host, "alice@pve")
		u, _ := url.Parse(alice.base + "/")
		where.Name, where.Value = "lxc-session", planted
		alice.http.Jar.SetCookies(u, []*http.Cookie{&where})
		if got := len(alice.http.Jar.Cookies(u)); got != 2 {
			t.Fatalf("%v: the browser has %d cookies, want two", where, got)
		}
		if alice.signedIn() {
			t.Errorf("%v: one of two cookies was taken", where)
		}
		if got := alice.http.Jar.Cookies(u); len(got) != 0 {
			t.Errorf("%v: the browser still has %v", where, got)
		}
		alice.signIn(host, "alice@pve")
		if got := alice.get("/api/auth/session").json(t)["userId"]; got != "alice@pve" {
			t.Errorf("%v: signed in as %v afterwards", where, got)
		}
		// Planted before the sign-in, it is gone with it.
		if r := alice.json("/api/auth/logout", struct{}{}); r.StatusCode != http.StatusOK {
			t.Fatalf("sign-out: %d", r.StatusCode)
		}
		alice.http.Jar.SetCookies(u, []*http.Cookie{&where})
		alice.signIn(host, "alice@pve")
		if got := alice.http.Jar.Cookies(u); len(got) != 1 || got[0].Value == planted || !alice.signedIn() {
			t.Errorf("%v: cookies after a sign-in: %v", where, got)
		}
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// logged is what the program logs during a test.
type logged struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(p)
}

func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

// count is how many lines hold some words.
func (l *logged) count(words string) int {
	n := 0
	for line := range strings.Lines(l.text()) {
		if strings.Contains(line, words) {
			n++
		}
	}
	return n
}

func recordLog(t *testing.T) *logged {
	t.Helper()
	l := &logged{}
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(l, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return l
}
