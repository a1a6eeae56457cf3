package app

import (
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/pve/sim"
	"berth/internal/session"
)

// loopbacks are trusted as proxies by tests that let clients come from many addresses.
var loopbacks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestAbuseOpenIDReplay: what an identity provider answered is good for one sign-in.
func TestAbuseOpenIDReplay(t *testing.T) {
	b := newOpenIDBench(t, sim.Realm{})
	first := b.browser(t)
	path := b.goThere(t, b.link(first, ""), "grace")
	form := fields(first.get(path).body)
	cookie := ""
	for _, c := range first.http.Jar.Cookies(mustParse(t, first.base+"/login/openid")) {
		if c.Name == "berth-openid" {
			cookie = c.Value
		}
	}
	if r := first.form("/login/openid", form); r.StatusCode != http.StatusSeeOther {
		t.Fatalf("first time: %d %s", r.StatusCode, r.body)
	}
	before := paths(b.host, "/access/openid/login")
	for name, jar := range map[string]*browser{"the same browser": first, "a thief of everything": b.browser(t)} {
		jar.form("/logout", nil)
		r := jar.do("POST", "/login/openid", "application/x-www-form-urlencoded", form.Encode(), "Cookie", "berth-openid="+cookie)
		if r.StatusCode != http.StatusUnauthorized || !strings.Contains(r.body, "finished already") || jar.signedIn() {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
	if paths(b.host, "/access/openid/login") != before {
		t.Error("a replay reached the host")
	}

	// A refused try has used it up too: nobody guesses codes for a state.
	state := fields(first.get(b.goThere(t, b.link(first, ""), "grace")).body)
	guess := url.Values{"state": state["state"], "code": {"guessed"}}
	for i, form := range []url.Values{guess, state} {
		if r := first.form("/login/openid", form); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("try %d: %d", i+1, r.StatusCode)
		}
	}
	if first.signedIn() {
		t.Error("signed in after all")
	}
}

// TestAbuseOpenIDAnotherBrowser: the way back works in the browser that began, and for nobody who learns its address.
func TestAbuseOpenIDAnotherBrowser(t *testing.T) {
	b := newOpenIDBench(t, sim.Realm{})
	victim, thief := b.browser(t), b.browser(t)
	path := b.goThere(t, b.link(victim, ""), "grace")
	b.link(thief, "") // has a cookie of its own
	for name, cookie := range map[string]string{"its own cookie": "", "a made-up one": "berth-openid=AAAAAAAAAAAAAAAAAAAAAAAAAA", "two": "berth-openid=a; berth-openid=b", "an empty one": "berth-openid="} {
		form := fields(thief.get(path).body)
		browser := thief
		if cookie != "" {
			browser = b.browser(t)
		}
		r := browser.do("POST", "/login/openid", "application/x-www-form-urlencoded", form.Encode(), "Cookie", cookie)
		if r.StatusCode != http.StatusUnauthorized || browser.signedIn() {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
	if paths(b.host, "/access/openid/login") != 0 {
		t.Error("it reached the host")
	}
	// The thief has not spoiled it either.
	if r := victim.form("/login/openid", fields(victim.get(path).body)); r.StatusCode != http.StatusSeeOther {
		t.Errorf("the victim: %d %s", r.StatusCode, r.body)
	}
}

// TestAbuseOpenIDLoginCSRF: an attacker can't have a visitor's browser signed in with the attacker's account.
func TestAbuseOpenIDLoginCSRF(t *testing.T) {
	b := newOpenIDBench(t, sim.Realm{})
	attacker, victim, idle := b.browser(t), b.browser(t), b.browser(t)
	path := b.goThere(t, b.link(attacker, ""), "grace")
	b.link(victim, "") // happens to be at a provider too
	for name, browser := range map[string]*browser{"who is at a provider too": victim, "who is not": idle} {
		// A link to the callback: its page sends the form.
		if r := browser.form("/login/openid", fields(browser.get(path).body)); r.StatusCode != http.StatusUnauthorized || browser.signedIn() {
			t.Errorf("%s: %d", name, r.StatusCode)
		}
	}
	// A form on the attacker's own page.
	form := fields(attacker.get(path).body).Encode()
	for _, header := range [][]string{{"Origin", "https://evil.example"}, {"Origin", "null"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
		if r := attacker.do("POST", "/login/openid", "application/x-www-form-urlencoded", form, header...); r.StatusCode != http.StatusForbidden {
			t.Errorf("%v: %d", header, r.StatusCode)
		}
	}
	if attacker.signedIn() || paths(b.host, "/access/openid/login") != 0 {
		t.Error("a form of another site was taken")
	}
}

// TestAbuseOpenIDSentHere: whoever is sent to the way back by another site has tried nothing.
func TestAbuseOpenIDSentHere(t *testing.T) {
	b := newOpenIDBench(t, sim.Realm{})
	log := recordLog(t)
	visitor := b.browser(t)
	page := visitor.get("/login/openid?code=a&state=b")
	if page.StatusCode != http.StatusOK || strings.Contains(page.body, "data-send") {
		t.Errorf("%d: the page goes on by itself", page.StatusCode)
	}
	for range 30 {
		if r := visitor.form("/login/openid", fields(page.body)); r.StatusCode != http.StatusUnauthorized {
			t.Fatalf("%d", r.StatusCode)
		}
	}
	if strings.Contains(log.text(), "sign-in failed") {
		t.Error("it is logged as a failed sign-in")
	}
	b.link(visitor, "")
	if !strings.Contains(visitor.get("/login/openid?code=a&state=b").body, "data-send") {
		t.Error("the page does not go on by itself in the browser that began")
	}
}

func TestAbuseOpenIDTooLate(t *testing.T) {
	b := newOpenIDBench(t, sim.Realm{})
	browser := b.browser(t)
	link := b.link(browser, "")
	b.advance(10*time.Minute - time.Second)
	path := b.goThere(t, link, "grace")
	b.advance(time.Second)
	r := browser.form("/login/openid", fields(browser.get(path).body))
	if r.StatusCode != http.StatusUnauthorized || !strings.Contains(r.body, "waited too long") || browser.signedIn() || paths(b.host, "/access/openid/login") != 0 {
		t.Errorf("after ten minutes: %d %s", r.StatusCode, r.body)
	}
	// In time is in time.
	link = b.link(browser, "")
	b.advance(10*time.Minute - time.Second)
	if r := browser.form("/login/openid", fields(browser.get(b.goThere(t, link, "grace")).body)); r.StatusCode != http.StatusSeeOther {
		t.Errorf("a second before: %d %s", r.StatusCode, r.body)
	}
}

// TestAbuseOpenIDEvilProvider: a host that names something else than a plain https address leads nobody there.
func TestAbuseOpenIDEvilProvider(t *testing.T) {
	for _, evil := range []string{
		"javascript:alert(document.cookie)//", "JavaScript:alert(1)", "data:text/html,<script>alert(1)</script>", "http://idp.example.org/authorize",
		"//idp.example.org/authorize", "/logout", "ftp://idp.example.org/", "https://user:secret@idp.example.org/", "https://idp.example.org@evil.example/",
		`https:\\evil.example/`, `https://idp.example.org\@evil.example/`, "https:evil.example", "https://", "https:///path", "https://evil example/",
		"https://idp.example.org/\"onclick=\"alert(1)", "https://idp.example.org/#", "https://[::1%25eth0]/", "https://%65vil.example/", "vbscript:x",
	} {
		t.Run(evil, func(t *testing.T) { // which ends this program before the next one begins
			b := newOpenIDBench(t, sim.Realm{AuthorizationEndpoint: evil})
			browser := b.browser(t)
			r := b.beginOpenID(browser, "")
			if r.StatusCode != http.StatusUnauthorized || strings.Contains(r.body, "data-provider") || strings.Contains(r.body, "evil") || strings.Contains(r.body, "javascript:") {
				t.Errorf("%q: %d %s", evil, r.StatusCode, linkOnPage.FindString(r.body))
			}
			for _, c := range r.Cookies() {
				if c.Name == "berth-openid" {
					t.Errorf("%q: a sign-in was begun", evil)
				}
			}
		})
	}
}

// TestAbuseOpenIDSecretsInLogs: what stands in the address of the way back is worth a session. It is in no log, in no other
// page, and not in the data folder.
func TestAbuseOpenIDSecretsInLogs(t *testing.T) {
	var log logged
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(func() { slog.SetDefault(before) })
	b := newOpenIDBench(t, sim.Realm{})
	browser := b.browser(t)
	secrets := map[string]string{}
	note := func(what, secret string) {
		if len(secret) < 10 {
			t.Fatalf("%s is %q", what, secret)
		}
		secrets[what] = secret
	}
	link := b.link(browser, "")
	state := mustParse(t, link).Query().Get("state")
	note("state", state[len(`{"csrf_token":"`):][:20])
	for _, c := range browser.http.Jar.Cookies(mustParse(t, browser.base+"/login/openid")) {
		if c.Name == "berth-openid" {
			note("cookie", c.Value)
		}
	}
	// Refused, after the host was asked; with a host that repeats what it was sent.
	path := b.goThere(t, link, "heidi")
	form := fields(browser.get(path).body)
	note("code", form.Get("code"))
	answers := []reply{browser.form("/login/openid", form), browser.form("/login/openid", form)}
	// Accepted.
	path = b.goThere(t, b.link(browser, ""), "grace")
	form = fields(browser.get(path).body)
	note("second code", form.Get("code"))
	answers = append(answers,
		browser.do("POST", path, "application/x-www-form-urlencoded", "x=%zz"), // an address with the query, and a body that can't be read
		browser.do("PUT", path, "", ""), browser.do("GET", path, "", "", "Host-Is", "evil"),
		browser.as("evil.example", "GET", path), browser.form("/login/openid", form))
	for i, r := range answers {
		for what, secret := range secrets {
			own := r.Request.Method == http.MethodGet && strings.HasPrefix(r.Request.URL.Path, "/login/openid") && r.StatusCode == http.StatusOK
			if strings.Contains(html.UnescapeString(r.body), secret) && !own || strings.Contains(r.Header.Get("Location"), secret) {
				t.Errorf("answer %d shows the %s", i, what)
			}
		}
	}
	if !browser.signedIn() {
		t.Fatal("not signed in")
	}
	b.begin(t)()
	if !strings.Contains(log.text(), "OpenID Connect") {
		t.Error("nothing was logged about the refusal: the test looks at nothing")
	}
	for what, secret := range secrets {
		if strings.Contains(log.text(), secret) || strings.Contains(log.text(), url.QueryEscape(secret)) {
			t.Errorf("the log holds the %s", what)
		}
	}
	err := filepath.WalkDir(b.folder, func(name string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(name)
		for what, secret := range secrets {
			if strings.Contains(string(text), secret) {
				t.Errorf("%s holds the %s", filepath.Base(name), what)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestAbuseOpenIDFlood: sign-ins that are begun and never finished are slowed down, and push out nobody else's.
func TestAbuseOpenIDFlood(t *testing.T) {
	b := newOpenIDBench(t, sim.Realm{})
	b.change = func(s *config.Settings) { public(s); s.TrustedProxies = loopbacks }
	b.begin(t)
	victim, attacker := b.browser(t), b.browser(t)
	link := b.link(victim, "")
	host, port, _ := strings.Cut(b.host.Address(), ":")
	form := url.Values{"host": {host}, "port": {port}, "realm": {"sso"}}.Encode()
	slowed, begun := 0, 0
	for range 60 {
		r := attacker.do("POST", "/login", "application/x-www-form-urlencoded", form, "X-Forwarded-For", "203.0.113.9")
		switch r.StatusCode {
		case http.StatusTooManyRequests:
			slowed++
			b.advance(time.Second)
		case http.StatusOK:
			begun++
		default:
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
	}
	if slowed < 30 || begun > 20 {
		t.Errorf("%d begun and %d slowed down", begun, slowed)
	}
	if r := victim.form("/login/openid", fields(victim.get(b.goThere(t, link, "grace")).body)); r.StatusCode != http.StatusSeeOther {
		t.Errorf("the victim: %d %s", r.StatusCode, r.body)
	}
}

// TestAbuseEndlessOpenIDSignIns: each success stores a session, so that the same account and address have as many as with a
// password, and then wait.
func TestAbuseEndlessOpenIDSignIns(t *testing.T) {
	b := newOpenIDBench(t, sim.Realm{})
	b.change = func(s *config.Settings) { public(s); s.TrustedProxies = loopbacks }
	b.begin(t)
	if err := b.dc.AddUser(sim.User{ID: "heidi@sso"}); err != nil {
		t.Fatal(err)
	}
	signIn := func(user, address string) reply {
		t.Helper()
		browser := b.browser(t).from(address)
		return browser.form("/login/openid", fields(browser.get(b.goThere(t, b.link(browser, ""), user)).body))
	}
	for n := range 60 {
		if r := signIn("grace", "203.0.113.9"); r.StatusCode != http.StatusSeeOther {
			t.Fatalf("sign-in %d: %d %s", n+1, r.StatusCode, r.body)
		}
	}
	r := signIn("grace", "203.0.113.9")
	if r.StatusCode != http.StatusTooManyRequests || r.Header.Get("Retry-After") != "1" || !strings.Contains(r.body, "Start again in 1 second.") {
		t.Errorf("one more: %d, Retry-After %q", r.StatusCode, r.Header.Get("Retry-After"))
	}
	stored, err := b.shared.sessions.Sessions(t.Context(), session.Selection{Everyone: true, Text: "grace@sso"}, 100)
	if err != nil || len(stored) != 60 {
		t.Errorf("%d sessions, %v; want 60", len(stored), err)
	}
	for range 8 {
		signIn("grace", "203.0.113.9")
	}
	if r := signIn("heidi", "203.0.113.9"); r.StatusCode != http.StatusSeeOther {
		t.Errorf("another account: %d %s", r.StatusCode, r.body)
	}
	if r := signIn("grace", "203.0.113.10"); r.StatusCode != http.StatusSeeOther {
		t.Errorf("another address: %d %s", r.StatusCode, r.body)
	}
	b.advance(time.Second)
	if r := signIn("grace", "203.0.113.9"); r.StatusCode != http.StatusSeeOther {
		t.Errorf("after the wait: %d %s", r.StatusCode, r.body)
	}
	// Nor was any of it a failure of the address.
	for n := range 20 {
		if r := b.browser(t).from("203.0.113.9").json("/api/auth/login", wrong(b.host, fmt.Sprintf("user%d@pve", n))); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("mistyped password %d at the same address: %d", n+1, r.StatusCode)
		}
	}
}

// TestAbuseOpenIDOtherRealm: a host's word about somebody of another realm than the one that was chosen does not count.
func TestAbuseOpenIDOtherRealm(t *testing.T) {
	for _, liar := range []string{"root@pam", "alice@pve", "grace@sso2", "sso@other"} {
		b := newOpenIDBench(t, sim.Realm{Impersonates: liar})
		browser := b.browser(t)
		r := browser.form("/login/openid", fields(browser.get(b.goThere(t, b.link(browser, ""), "grace")).body))
		if r.StatusCode != http.StatusUnauthorized || browser.signedIn() || paths(b.host, "/access/openid/login") != 1 {
			t.Errorf("%s: %d %s", liar, r.StatusCode, r.body)
		}
	}
	// Nor does a state that was changed on its way.
	b := newOpenIDBench(t, sim.Realm{})
	browser := b.browser(t)
	state := mustParse(t, b.link(browser, "")).Query().Get("state")
	r := browser.form("/login/openid", url.Values{"state": {strings.Replace(state, "sso", "pam", 1)}, "code": {"x"}})
	if r.StatusCode != http.StatusUnauthorized || paths(b.host, "/access/openid/login") != 0 {
		t.Errorf("a changed state: %d %s", r.StatusCode, r.body)
	}
}

// TestAbuseOpenIDRemovedHost: a host that is taken off while somebody is away can't finish the sign-in.
func TestAbuseOpenIDRemovedHost(t *testing.T) {
	b := newOpenIDBench(t, sim.Realm{})
	browser := b.browser(t)
	path := b.goThere(t, b.link(browser, ""), "grace")
	_, another := b.newHost(t, sim.Options{})
	b.browser(t).signIn(another, "root@pam")
	at, err := addressOf(b.host)
	if err != nil {
		t.Fatal(err)
	}
	host, err := b.store.LoginHostAt(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.RemoveHost(t.Context(), host.ID); err != nil {
		t.Fatal(err)
	}
	r := browser.form("/login/openid", fields(browser.get(path).body))
	if r.StatusCode != http.StatusForbidden || browser.signedIn() || paths(b.host, "/access/openid/login") != 0 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}

// TestAbuseOpenIDOldPin: the host was pinned anew while somebody was at the identity provider that the old key had named.
func TestAbuseOpenIDOldPin(t *testing.T) {
	b := newOpenIDBench(t, sim.Realm{})
	browser := b.browser(t)
	path := b.goThere(t, b.link(browser, ""), "grace")
	at, err := addressOf(b.host)
	if err != nil {
		t.Fatal(err)
	}
	host, err := b.store.LoginHostAt(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.PinHost(t.Context(), host.ID, &pve.KeyPin{1}, host.Fingerprint); err != nil {
		t.Fatal(err)
	}
	r := browser.form("/login/openid", fields(browser.get(path).body))
	if r.StatusCode != http.StatusForbidden || browser.signedIn() || paths(b.host, "/access/openid/login") != 0 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}
