package app

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/pve/sim"
)

// newProxiedBench starts the program behind a trusted proxy, so that a browser can choose its address.
func newProxiedBench(t *testing.T) *bench {
	t.Helper()
	return newBenchWith(t, func(s *config.Settings) {
		s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
}

type forwarded struct{ address string }

func (f forwarded) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("X-Forwarded-For", f.address)
	r.Header.Set("X-Forwarded-Proto", "http")
	return http.DefaultTransport.RoundTrip(r)
}

// from lets a browser's requests come from an address.
func (b *browser) from(address string) *browser {
	b.http.Transport = forwarded{address}
	return b
}

// form of a sign-in at a simulated host.
func signInForm(h *sim.Host, user, password string) url.Values {
	return url.Values{
		"host": {h.Address()}, "username": {user}, "password": {password}, "fingerprint": {h.Fingerprint()},
	}
}

func wrong(h *sim.Host, user string) map[string]any {
	in := input(h, user)
	in["password"] = "wrong"
	return in
}

// posts counts what reached a host.
func posts(h *sim.Host) int {
	return len(slices.DeleteFunc(h.Requests(), func(r sim.Request) bool { return r.Method != http.MethodPost }))
}

func TestAbuseBruteForceFromOneAddress(t *testing.T) {
	b := newProxiedBench(t)
	_, host := b.newHost(t, sim.Options{})
	b.browser(t).from("192.0.2.9").signIn(host, "alice@pve")
	known := posts(host)
	attacker := b.browser(t).from("192.0.2.1")
	guess := func() reply { return attacker.json("/api/auth/login", wrong(host, "alice@pve")) }
	for n := range 10 {
		if r := guess(); r.StatusCode != http.StatusUnauthorized {
			t.Fatalf("guess %d: %d %s", n+1, r.StatusCode, r.body)
		}
	}
	var last time.Duration
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256} {
		want *= time.Second
		r := guess()
		p := r.json(t)
		if r.StatusCode != http.StatusTooManyRequests || p["code"] != "too_many_attempts" || r.Header.Get("Retry-After") != fmt.Sprint(int(want.Seconds())) {
			t.Fatalf("%d, Retry-After %q, %s; want 429 and %v", r.StatusCode, r.Header.Get("Retry-After"), r.body, want)
		}
		// The right password is not tried either: nobody learns by waiting that it was right.
		if r := attacker.json("/api/auth/login", input(host, "alice@pve")); r.StatusCode != http.StatusTooManyRequests {
			t.Fatalf("the right password during the wait: %d", r.StatusCode)
		}
		b.advance(want)
		if r := guess(); r.StatusCode != http.StatusUnauthorized {
			t.Fatalf("after %v: %d %s", want, r.StatusCode, r.body)
		}
		last = want
	}
	if n := posts(host) - known; n != 18 {
		t.Errorf("%d guesses reached the host, want 18", n)
	}
	// It is no lock: the wait has an end, and the right password then clears it.
	b.advance(2 * last)
	attacker.signIn(host, "alice@pve")
	if r := guess(); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("mistyped after a success: %d", r.StatusCode)
	}

	// Other accounts from the same address run into the address's own limit.
	neighbour := b.browser(t).from("192.0.2.77")
	refused := 0
	for n := range 40 {
		if neighbour.json("/api/auth/login", wrong(host, fmt.Sprintf("user%d@pve", n))).StatusCode == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused != 20 {
		t.Errorf("%d of 40 guesses at 40 accounts were refused, want 20", refused)
	}
}

func TestAbuseManyAddressesCannotLockOutTheOwner(t *testing.T) {
	b := newProxiedBench(t)
	_, host := b.newHost(t, sim.Options{})
	at := func(browser *browser, password string) reply {
		return browser.form("/login", signInForm(host, "alice@pve", password))
	}
	laptop := b.browser(t).from("198.51.100.1")
	if r := at(laptop, sim.DefaultPassword); r.StatusCode != http.StatusSeeOther {
		t.Fatalf("the owner's first sign-in: %d", r.StatusCode)
	}
	through := 0
	for n := range 200 {
		if at(b.browser(t).from(fmt.Sprintf("203.0.113.%d", n+1)), "wrong").StatusCode == http.StatusUnauthorized {
			through++
		}
	}
	if through != 50 {
		t.Errorf("%d guesses from 200 addresses got through, want 50", through)
	}
	stranger := b.browser(t).from("192.0.2.200")
	page := at(stranger, sim.DefaultPassword)
	if page.StatusCode != http.StatusTooManyRequests || page.Header.Get("Retry-After") != "1" || !strings.Contains(page.body, "Try again in 1 second.") {
		t.Errorf("an unknown browser at an unknown address: %d, Retry-After %q", page.StatusCode, page.Header.Get("Retry-After"))
	}
	// Another account is nobody's business.
	if r := b.browser(t).from("192.0.2.201").json("/api/auth/login", input(host, "root@pam")); r.StatusCode != http.StatusOK {
		t.Errorf("another account: %d %s", r.StatusCode, r.body)
	}
	if r := at(b.browser(t).from("198.51.100.1"), sim.DefaultPassword); r.StatusCode != http.StatusSeeOther {
		t.Errorf("an unknown browser at the owner's address: %d", r.StatusCode)
	}
	if r := at(laptop.from("192.0.2.202"), sim.DefaultPassword); r.StatusCode != http.StatusSeeOther {
		t.Errorf("the owner's browser at an unknown address: %d", r.StatusCode)
	}
	// Nor can a neighbour behind the same address keep the browser out.
	for range 30 {
		at(b.browser(t).from("198.51.100.1"), "wrong")
	}
	if r := at(laptop.from("198.51.100.1"), sim.DefaultPassword); r.StatusCode != http.StatusSeeOther {
		t.Errorf("the owner's browser beside an attacker at its address: %d", r.StatusCode)
	}
	// What is remembered is in the database: another process over it knows it too.
	jar := laptop.http.Jar
	b.begin(t)
	again := b.browser(t).from("192.0.2.203")
	old, _ := url.Parse(laptop.base)
	now, _ := url.Parse(again.base)
	again.http.Jar.SetCookies(now, jar.Cookies(old))
	for n := range 60 {
		at(b.browser(t).from(fmt.Sprintf("203.0.113.%d", n+1)), "wrong")
	}
	if r := at(b.browser(t).from("192.0.2.204"), sim.DefaultPassword); r.StatusCode != http.StatusTooManyRequests {
		t.Errorf("another process, an unknown browser: %d", r.StatusCode)
	}
	if r := at(again, sim.DefaultPassword); r.StatusCode != http.StatusSeeOther {
		t.Errorf("another process, the owner's browser: %d", r.StatusCode)
	}
}

func TestAbuseBrowserCookieBuysFewGuesses(t *testing.T) {
	b := newProxiedBench(t)
	_, host := b.newHost(t, sim.Options{})
	browserCookie := func(cookies []*http.Cookie) *http.Cookie {
		i := slices.IndexFunc(cookies, func(c *http.Cookie) bool { return c.Name == "berth-browser" })
		if i < 0 {
			return nil
		}
		return cookies[i]
	}
	owner := b.browser(t).from("198.51.100.1")
	r := owner.form("/login", signInForm(host, "alice@pve", sim.DefaultPassword))
	c := browserCookie(r.Cookies())
	if c == nil || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || len(c.Value) != 26 {
		t.Fatalf("cookie %+v", c)
	}
	guesses := func(cookie, user string) int {
		t.Helper()
		n := 0
		for i := range 30 {
			r := b.browser(t).from(fmt.Sprintf("203.0.113.%d", i+1)).do("POST", "/login", "application/x-www-form-urlencoded",
				signInForm(host, user, "wrong").Encode(), "Cookie", "berth-browser="+cookie)
			if r.StatusCode == http.StatusUnauthorized {
				n++
			}
			if browserCookie(r.Cookies()) != nil {
				t.Error("a refused sign-in sets the browser's cookie")
			}
		}
		return n
	}
	// Stolen, it is one lane with the limit of one address, from wherever it is used.
	if n := guesses(c.Value, "alice@pve"); n != 10 {
		t.Errorf("%d guesses with the owner's cookie, want 10", n)
	}
	// The next sign-in replaces it, so that the owner's browser has a new lane.
	b.advance(time.Minute)
	r = owner.form("/login", signInForm(host, "alice@pve", sim.DefaultPassword))
	if next := browserCookie(r.Cookies()); r.StatusCode != http.StatusSeeOther || next == nil || next.Value == c.Value {
		t.Errorf("the next sign-in: %d, cookie %v", r.StatusCode, next)
	}
	if r := b.browser(t).from("198.51.100.3").do("GET", "/", "", "", "Cookie", "berth-browser="+c.Value); r.StatusCode != http.StatusSeeOther {
		t.Errorf("the cookie opens a page: %d", r.StatusCode)
	}
}

func TestAbuseHundredGuessesAtOnce(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	var mu sync.Mutex
	statuses := map[int]int{}
	var wg sync.WaitGroup
	for range 100 {
		browser := b.browser(t)
		wg.Go(func() {
			r := browser.json("/api/auth/login", wrong(host, "alice@pve"))
			mu.Lock()
			statuses[r.StatusCode]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if statuses[http.StatusUnauthorized] != 10 || statuses[http.StatusTooManyRequests] != 90 || posts(host) != 10 {
		t.Errorf("%v, and %d reached the host; want 10 refused and 90 not tried", statuses, posts(host))
	}
}

// A look at the certificates of many hosts is a scan of the network.
func TestAbuseFingerprintProbes(t *testing.T) {
	b := newBench(t)
	browser := b.browser(t)
	refused := 0
	for range 22 {
		_, host := b.newHost(t, sim.Options{})
		in := input(host, "alice@pve")
		delete(in, "fingerprint")
		switch r := browser.json("/api/auth/login", in); r.StatusCode {
		case http.StatusTooManyRequests:
			refused++
		case http.StatusConflict:
		default:
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
	}
	if refused != 2 {
		t.Errorf("%d of 22 probes were refused, want 2", refused)
	}
}

func TestAbuseSecondFactorGuesses(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	page := browser.form("/login", signInForm(host, "bob@pve", sim.DefaultPassword))
	field := regexp.MustCompile(`name="challenge" value="([^"]+)"`)
	challenge := func() string {
		t.Helper()
		m := field.FindStringSubmatch(page.body)
		if m == nil {
			t.Fatalf("no challenge: %d %s", page.StatusCode, page.body)
		}
		return m[1]
	}
	answer := func(kind, code string) {
		t.Helper()
		page = browser.form("/login/tfa", url.Values{"challenge": {challenge()}, "kind": {kind}, "code": {code}})
	}
	if strings.Contains(page.body, "left for authenticator codes") {
		t.Error("a warning before the first wrong code")
	}
	for wrong := 1; wrong <= 8; wrong++ {
		// Two challenges: the count is the account's, not the challenge's.
		if wrong == 5 {
			page = browser.form("/login", signInForm(host, "bob@pve", sim.DefaultPassword))
			if !strings.Contains(page.body, "At most 4 tries left for authenticator codes") {
				t.Error("a new challenge does not tell how many tries are left")
			}
		}
		answer("totp", "000001")
		want := ""
		switch left := 8 - wrong; {
		case left == 0:
			want = "Authenticator codes are probably locked"
		case left == 1:
			want = "At most 1 try left"
		case left <= 5:
			want = fmt.Sprintf("At most %d tries left", left)
		}
		if page.StatusCode != http.StatusUnauthorized || !strings.Contains(page.body, want) {
			t.Errorf("wrong code %d: %d, want %q on the page", wrong, page.StatusCode, want)
		}
		if want == "" && strings.Contains(page.body, "for authenticator codes") {
			t.Errorf("wrong code %d: a warning already", wrong)
		}
	}
	// Two questions and eight codes are ten attempts: the second step is throttled like the first, and both count together.
	answer("totp", "000001")
	if page.StatusCode != http.StatusTooManyRequests || page.Header.Get("Retry-After") != "2" {
		t.Errorf("after two questions and eight codes: %d, Retry-After %q", page.StatusCode, page.Header.Get("Retry-After"))
	}
	b.advance(2 * time.Second)
	// Proxmox VE has locked TOTP now, as was said; nothing is refused here on that account.
	answer("totp", sim.TOTP(sim.DefaultTOTPSecret, b.now()))
	if page.StatusCode != http.StatusUnauthorized {
		t.Errorf("the right code after eight wrong ones: %d", page.StatusCode)
	}
	answer("totp", "000001")
	if page.StatusCode != http.StatusTooManyRequests || page.Header.Get("Retry-After") == "" || !strings.Contains(page.body, "Try again in") {
		t.Errorf("the eleventh code: %d, Retry-After %q", page.StatusCode, page.Header.Get("Retry-After"))
	}
	challenge() // the page can still be sent
	b.advance(time.Minute)
	answer("recovery", sim.DefaultRecoveryCodes()[0])
	if page.StatusCode != http.StatusSeeOther {
		t.Fatalf("recovery code: %d %s", page.StatusCode, page.body)
	}
	page = b.browser(t).form("/login", signInForm(host, "bob@pve", sim.DefaultPassword))
	if strings.Contains(page.body, "for authenticator codes") {
		t.Error("a warning after the recovery code")
	}
}

// Whoever knows a password, and not the second factor, asks for it as often as for anything else; who completes it has
// counted nothing.
func TestAbuseEndlessQuestions(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	complete := func() {
		t.Helper()
		tfa, _ := browser.json("/api/auth/login", input(host, "bob@pve")).json(t)["tfa"].(map[string]any)
		if tfa == nil {
			t.Fatal("no question")
		}
		code := sim.TOTP(sim.DefaultTOTPSecret, b.now())
		if r := browser.json("/api/auth/tfa", map[string]any{"challenge": tfa["challenge"], "kind": "totp", "code": code}); r.StatusCode != http.StatusOK {
			t.Fatalf("second step: %d %s", r.StatusCode, r.body)
		}
	}
	for range 25 {
		complete()
		b.advance(30 * time.Second) // for another code
	}
	stranger := b.browser(t)
	asked := 0
	for range 400 {
		if stranger.json("/api/auth/login", input(host, "bob@pve")).StatusCode == http.StatusOK {
			asked++
		}
	}
	if asked != 10 {
		t.Errorf("%d of 400 questions were asked, want 10", asked)
	}
}

// Sessions are rows: nobody fills the database with those of one account.
func TestAbuseEndlessSignIns(t *testing.T) {
	b := newProxiedBench(t)
	_, host := b.newHost(t, sim.Options{})
	b.browser(t).from("192.0.2.9").signIn(host, "root@pam")
	signedIn := 0
	one := b.browser(t).from("192.0.2.1")
	for n := range 200 {
		browser := one
		if n%2 == 0 {
			browser = b.browser(t).from("192.0.2.1")
		}
		if browser.form("/login", signInForm(host, "alice@pve", sim.DefaultPassword)).StatusCode == http.StatusSeeOther {
			signedIn++
		}
	}
	if signedIn != 60 {
		t.Errorf("%d of 200 sign-ins in a moment, want 60", signedIn)
	}
	if r := b.browser(t).from("192.0.2.1").json("/api/auth/login", input(host, "root@pam")); r.StatusCode != http.StatusOK {
		t.Errorf("another account: %d", r.StatusCode)
	}
	if r := b.browser(t).from("192.0.2.2").json("/api/auth/login", input(host, "alice@pve")); r.StatusCode != http.StatusOK {
		t.Errorf("another address: %d", r.StatusCode)
	}
	b.advance(time.Second)
	if r := one.form("/login", signInForm(host, "alice@pve", sim.DefaultPassword)); r.StatusCode != http.StatusSeeOther {
		t.Errorf("after the wait: %d", r.StatusCode)
	}
}

// Hosts that nobody may sign in with count for the address alone: an account there is nobody's.
func TestAbuseHostsNotAllowedFillNoTables(t *testing.T) {
	b := newProxiedBench(t)
	_, other := b.newHost(t, sim.Options{})
	_, host := b.newHost(t, sim.Options{})
	at, err := addressOf(host)
	if err != nil {
		t.Fatal(err)
	}
	b.stop()
	inner := b.change
	b.change = func(s *config.Settings) {
		inner(s)
		s.LoginHosts = config.LoginHosts{Mode: config.ListedHosts, List: []pve.Address{at}}
	}
	b.begin(t)
	codes := map[int]int{}
	for n := range 120 {
		codes[b.browser(t).from(fmt.Sprintf("203.0.113.%d", n+1)).json("/api/auth/login", wrong(other, "alice@pve")).StatusCode]++
	}
	if codes[http.StatusForbidden] != 120 {
		t.Errorf("from many addresses: %v", codes)
	}
	codes = map[int]int{}
	for range 30 {
		codes[b.browser(t).from("192.0.2.1").json("/api/auth/login", wrong(other, "alice@pve")).StatusCode]++
	}
	if codes[http.StatusForbidden] != 20 || codes[http.StatusTooManyRequests] != 10 {
		t.Errorf("from one address: %v", codes)
	}
}

// docs/fail2ban.md is what people copy.
func fail2banExpressions(t *testing.T) []*regexp.Regexp {
	t.Helper()
	text, err := os.ReadFile("../../docs/fail2ban.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "failregex = ")
	lines, _, ends := strings.Cut(rest, "ignoreregex")
	if !found || !ends {
		t.Fatal("no failregex in the document")
	}
	var expressions []*regexp.Regexp
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line != "" {
			// fail2ban's own expression for an address takes a little more than this one.
			expressions = append(expressions, regexp.MustCompile(strings.Replace(line, "<ADDR>", `(?P<address>[0-9A-Fa-f:.]+)`, 1)))
		}
	}
	if len(expressions) != 2 {
		t.Fatalf("%d expressions, want one for the text log and one for JSON", len(expressions))
	}
	return expressions
}

func TestAbuseForgedLogLines(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	expressions := fail2banExpressions(t)
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		b := newProxiedBench(t)
		_, host := b.newHost(t, sim.Options{})
		var log bytes.Buffer
		slog.SetDefault(slog.New(handler(&log)))
		const forged = "198.51.100.66"
		evil := []string{
			"alice", `x"address=` + forged, "x\nlevel=WARN\tmsg=\"sign-in\u00a0failed\"\taddress=" + forged,
			`x","address":"` + forged + `","user":"`, "x=address=" + forged, "x\u2028address=" + forged, "x\x1b[2Kaddress=" + forged,
			`x"\u0020level=WARN\u0020msg="sign-in\u0020failed"\u0020address=` + forged + `\u0020user=`,
		}
		for n, user := range evil {
			address := fmt.Sprintf("2001:db8:%x::7", n+1)
			browser := b.browser(t).from(address)
			in := wrong(host, user+"@pve")
			// The same as a program would write it by hand, with lures in the query and the client's name.
			text := fmt.Sprintf(`{"host":%q,"port":%v,"username":%s,"password":"wrong","fingerprint":%q}`, in["host"], in["port"], strconv.Quote(user+"@pve"), host.Fingerprint())
			browser.do("POST", "/api/auth/login?"+url.QueryEscape("\naddress="+forged), "application/json", text, "User-Agent", "x address="+forged)
			if r := browser.json("/api/auth/login", in); r.StatusCode != http.StatusUnauthorized && r.StatusCode != http.StatusUnprocessableEntity {
				t.Errorf("%s: %q: %d %s", name, user, r.StatusCode, r.body)
			}
		}
		slog.SetDefault(before)
		matched := map[string]int{}
		for line := range strings.Lines(log.String()) {
			for _, e := range expressions {
				if m := e.FindStringSubmatch(line); m != nil {
					matched[m[e.SubexpIndex("address")]]++
				}
			}
		}
		if matched[forged] != 0 {
			t.Errorf("%s: a forged line was matched:\n%s", name, log.String())
		}
		if matched["2001:db8:1::7"] != 2 {
			t.Errorf("%s: %d lines for two honest failures, want 2:\n%s", name, matched["2001:db8:1::7"], log.String())
		}
		if strings.Contains(log.String(), "wrong\"") || strings.Contains(log.String(), "password=") {
			t.Errorf("%s: the log has a password", name)
		}
	}
}

// Every failure is one line, a refusal to try among them; a question is none.
func TestAbuseIsLoggedOncePerFailure(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	var log bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	browser := b.browser(t)
	in := input(host, "alice@pve")
	delete(in, "fingerprint")
	browser.json("/api/auth/login", in) // 409
	browser.json("/api/auth/login", map[string]any{"host": ""})
	for range 12 {
		browser.json("/api/auth/login", wrong(host, "alice@pve"))
	}
	b.advance(time.Minute)
	browser.signIn(host, "alice@pve")
	browser.json("/api/auth/tfa", map[string]any{"challenge": "none", "kind": "totp", "code": "123456"})
	slog.SetDefault(before)
	reasons := map[string]int{}
	line := regexp.MustCompile(`msg="sign-in failed" address=127\.0\.0\.1 user=\S+ host=\S+ reason=(\w+)\n`)
	for _, m := range line.FindAllStringSubmatch(log.String(), -1) {
		reasons[m[1]]++
	}
	// The look at the certificate was the first of the ten tries.
	want := map[string]int{"signin_failed": 9, "too_many_attempts": 3, "challenge_expired": 1}
	if fmt.Sprint(reasons) != fmt.Sprint(want) || strings.Count(log.String(), "sign-in failed") != 13 {
		t.Errorf("%v, want %v:\n%s", reasons, want, log.String())
	}
}

// Proxmox VE is told whose sign-in it is, in both steps, and never what the client itself claims.
func TestSignInsTellProxmoxTheClientsAddress(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(*testing.T) *bench
		want string
	}{
		{"behind a trusted proxy", newProxiedBench, "203.0.113.7"},
		{"a client that claims an address", newBench, "127.0.0.1"},
	} {
		b := test.make(t)
		_, host := b.newHost(t, sim.Options{})
		var mu sync.Mutex
		var seen []string
		front := httptest.NewTLSServer(&httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				if r.In.Method == http.MethodPost {
					mu.Lock()
					seen = append(seen, strings.Join(r.In.Header.Values("X-Forwarded-For"), " and "))
					mu.Unlock()
				}
				r.SetURL(&url.URL{Scheme: "https", Host: host.Address()})
			},
			Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		})
		defer front.Close()
		_, port, _ := net.SplitHostPort(front.Listener.Addr().String())
		sum := sha256.Sum256(front.Certificate().Raw)
		browser := b.browser(t).from("203.0.113.7")
		r := browser.json("/api/auth/login", map[string]any{
			"host": "127.0.0.1", "port": port, "username": "bob@pve", "password": sim.DefaultPassword, "fingerprint": fmt.Sprintf("%X", sum),
		})
		tfa, _ := r.json(t)["tfa"].(map[string]any)
		if tfa == nil {
			t.Fatalf("%s: %d %s", test.name, r.StatusCode, r.body)
		}
		r = browser.json("/api/auth/tfa", map[string]any{"challenge": tfa["challenge"], "kind": "totp", "code": sim.TOTP(sim.DefaultTOTPSecret, b.now())})
		if r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", test.name, r.StatusCode, r.body)
		}
		if want := []string{test.want, test.want}; !slices.Equal(seen, want) {
			t.Errorf("%s: the host was told %q, want %q", test.name, seen, want)
		}
	}
}
