package app

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

const failure = "Invalid credentials or Proxmox host unreachable"

func TestSignInByAPI(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")

	got := browser.get("/api/auth/session").json(t)
	in := input(host, "alice@pve")
	if got["userId"] != "alice@pve" || got["username"] != "alice" || got["realm"] != "pve" || got["host"] != in["host"] || got["port"] != float64(in["port"].(int)) {
		t.Errorf("session %v", got)
	}
	expires, err := time.Parse(time.RFC3339, got["expiresAt"].(string))
	if err != nil || expires.Sub(b.now()).Round(time.Minute) != 2*time.Hour {
		t.Errorf("expires %v, %v", expires, err)
	}
	list := browser.get("/api/containers").json(t)
	var vmids []float64
	for _, item := range list["items"].([]any) {
		vmids = append(vmids, item.(map[string]any)["vmid"].(float64))
	}
	if !slices.Equal(vmids, []float64{101, 102}) {
		t.Errorf("alice sees %v, want 101 and 102", vmids)
	}
}

func TestCookie(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	r := b.browser(t).json("/api/auth/login", input(host, "alice@pve"))
	cookies := r.Cookies()
	if len(cookies) != 1 {
		t.Fatalf("cookies %v, want the session's alone", cookies)
	}
	c := cookies[0]
	if c.Name != "lxc-session" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.Secure || len(c.Value) != 43 {
		t.Errorf("cookie %+v", c)
	}
	if strings.Contains(r.body, c.Value) {
		t.Error("the body repeats the token")
	}
}

func TestEverySignInGetsANewTokenAndEndsTheOldSession(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	first := browser.token()
	browser.signIn(host, "alice@pve")
	if browser.token() == first {
		t.Error("the token stayed the same")
	}
	if r := b.browser(t).do("GET", "/api/auth/session", "", "", "Cookie", "lxc-session="+first); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("the first token still works: %d", r.StatusCode)
	}
}

func TestRefusedSignIns(t *testing.T) {
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	_, dead := b.newHost(t, sim.Options{})
	deadInput := input(dead, "root@pam")
	_, odd := b.newHost(t, sim.Options{})
	dead.Close() // when nobody looks for a port any more
	odd.SetFault("", "/", sim.Fault{WrongJSON: true})
	_ = dc
	wrong := input(host, "alice@pve")
	wrong["password"] = "not it"
	tests := map[string]map[string]any{
		"wrong password": wrong, "unknown user": input(host, "nobody@pve"), "disabled": input(host, "carol@pve"),
		"expired": input(host, "dave@pve"), "no host there": deadInput, "not a Proxmox host": input(odd, "root@pam"),
	}
	for name, in := range tests {
		browser := b.browser(t)
		b.waited.Store(0)
		r := browser.json("/api/auth/login", in)
		problem := r.json(t)
		if r.StatusCode != http.StatusUnauthorized || problem["detail"] != failure || problem["code"] != "signin_failed" || problem["errorId"] == nil {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
		if problem["hint"] != nil {
			t.Errorf("%s: an unknown host's refusal has a hint: %v", name, problem["hint"])
		}
		if waited := time.Duration(b.waited.Load()); waited != 5500*time.Millisecond {
			t.Errorf("%s: held back for %v, want 5.5 s", name, waited)
		}
		if browser.token() != "" || browser.signedIn() {
			t.Errorf("%s: signed in", name)
		}
	}
}

func TestFieldErrorsOnBothDoors(t *testing.T) {
	b := newBench(t)
	browser := b.browser(t)
	r := browser.json("/api/auth/login", map[string]any{"port": 0})
	want := map[string]string{
		"host": "Proxmox host is required", "port": "Port must be a whole number from 1 to 65535",
		"username": "Username is required", "password": "Password is required",
	}
	got := map[string]string{}
	for _, e := range r.json(t)["errors"].([]any) {
		got[e.(map[string]any)["field"].(string)] = e.(map[string]any)["message"].(string)
	}
	if r.StatusCode != http.StatusUnprocessableEntity || len(got) != len(want) {
		t.Errorf("%d %v, want %v", r.StatusCode, got, want)
	}
	page := browser.form("/login", url.Values{"host": {""}, "port": {"0"}, "username": {""}, "password": {""}})
	for field, message := range want {
		if got[field] != message {
			t.Errorf("API: %s: %q, want %q", field, got[field], message)
		}
		if !strings.Contains(page.body, message) {
			t.Errorf("page: %q is missing", message)
		}
	}
	if page.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("page: %d", page.StatusCode)
	}
}

func TestMalformedRequests(t *testing.T) {
	b := newBench(t)
	browser := b.browser(t)
	const login = "/api/auth/login"
	tests := []struct {
		name, contentType, body string
		status                  int
		code, field             string
	}{
		{"not JSON", "application/json", "{", 400, "malformed_request", ""},
		{"a list", "application/json", "[]", 400, "malformed_request", ""},
		{"two objects", "application/json", "{}{}", 400, "malformed_request", ""},
		{"a form", "application/x-www-form-urlencoded", "host=a", 415, "unsupported_media_type", ""},
		{"no type", "", "{}", 415, "unsupported_media_type", ""},
		{"too large", "application/json", `{"host":"` + strings.Repeat("a", 70_000) + `"}`, 413, "body_too_large", ""},
		{"a number for a text", "application/json", `{"host":7}`, 422, "invalid_input", "host"},
		{"an unknown field", "application/json", `{"hosst":"a"}`, 422, "invalid_input", "hosst"},
		{"deep", "application/json", strings.Repeat(`{"host":`, 7_000), 400, "malformed_request", ""},
	}
	for _, test := range tests {
		r := browser.do("POST", login, test.contentType, test.body)
		p := r.json(t)
		if r.StatusCode != test.status || p["code"] != test.code {
			t.Errorf("%s: %d %s; want %d %s", test.name, r.StatusCode, r.body, test.status, test.code)
		}
		if test.field != "" && p["errors"].([]any)[0].(map[string]any)["field"] != test.field {
			t.Errorf("%s: %s, want the field %s", test.name, r.body, test.field)
		}
	}
	if r := browser.do("POST", "/login", "application/x-www-form-urlencoded", "host=%zz"); r.StatusCode != http.StatusBadRequest {
		t.Errorf("a form with a broken escape: %d", r.StatusCode)
	}
}

func TestUnknownCertificate(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	in := input(host, "alice@pve")
	delete(in, "fingerprint")
	r := browser.json("/api/auth/login", in)
	p := r.json(t)
	if r.StatusCode != http.StatusConflict || p["code"] != "certificate_unknown" || p["fingerprint"] != host.Fingerprint() {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	if n := len(host.Requests()); n != 0 {
		t.Errorf("the host got %d requests before its certificate was confirmed", n)
	}
	in["fingerprint"] = strings.Repeat("AB:", 31) + "AB"
	if r := browser.json("/api/auth/login", in); r.StatusCode != http.StatusConflict || len(host.Requests()) != 0 {
		t.Errorf("another fingerprint: %d, %d requests", r.StatusCode, len(host.Requests()))
	}
	// What one visitor confirmed and did not sign in with holds for nobody.
	in["fingerprint"], in["password"] = host.Fingerprint(), "wrong"
	if r := browser.json("/api/auth/login", in); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("wrong password: %d", r.StatusCode)
	}
	delete(in, "fingerprint")
	in["password"] = sim.DefaultPassword
	if r := browser.json("/api/auth/login", in); r.StatusCode != http.StatusConflict {
		t.Errorf("after a refused sign-in: %d, want 409 again", r.StatusCode)
	}
	browser.signIn(host, "alice@pve")
	// Now it is pinned: nobody has to confirm it again.
	if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Errorf("at a known host: %d %s", r.StatusCode, r.body)
	}
}

func TestChangedCertificate(t *testing.T) {
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	first := b.browser(t)
	first.signIn(host, "alice@pve")
	known := host.Fingerprint()
	// restart ends the connections that were made before the change.
	restart := func(keepKey bool) {
		t.Helper()
		address := host.Address()
		host.Close()
		var err error
		if host, err = dc.Listen("", address); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { host.Close() })
		if err := host.ChangeCertificate(keepKey); err != nil {
			t.Fatal(err)
		}
	}

	restart(true)
	in := input(host, "alice@pve")
	delete(in, "fingerprint")
	if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Fatalf("renewed with the same key: %d %s", r.StatusCode, r.body)
	}
	renewed := host.Fingerprint()
	if renewed == known {
		t.Fatal("the certificate did not change")
	}
	restart(false)
	before := len(host.Requests())
	for name, fingerprint := range map[string]any{"nothing confirmed": "", "its fingerprint confirmed": host.Fingerprint()} {
		in["fingerprint"] = fingerprint
		r := b.browser(t).json("/api/auth/login", in)
		p := r.json(t)
		if r.StatusCode != http.StatusUnauthorized || p["detail"] != failure || p["fingerprint"] != host.Fingerprint() || p["knownFingerprint"] != renewed {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
	b.advance(3 * time.Second)
	if r := first.get("/"); r.StatusCode != http.StatusOK || !strings.Contains(r.body, "certificate has changed") {
		t.Errorf("the dashboard at a changed host: %d", r.StatusCode)
	}
	if n := len(host.Requests()); n != before {
		t.Errorf("the changed host got %d requests", n-before)
	}
	page := b.browser(t).form("/login", url.Values{"host": {in["host"].(string)}, "port": {portOf(host)}, "username": {"alice@pve"}, "password": {sim.DefaultPassword}})
	// The page shows fingerprints in groups; without markup and colons their digits stand there in a row.
	text := regexp.MustCompile(`<[^>]*>|\s|:`).ReplaceAllString(page.body, "")
	digits := func(fingerprint string) string { return strings.ReplaceAll(fingerprint, ":", "") }
	if page.StatusCode != http.StatusUnauthorized || !strings.Contains(text, digits(host.Fingerprint())) || !strings.Contains(text, digits(renewed)) {
		t.Errorf("page: %d, want both fingerprints", page.StatusCode)
	}
}

func portOf(h *sim.Host) string {
	return h.Address()[strings.LastIndexByte(h.Address(), ':')+1:]
}

func TestSecondFactor(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	ask := func(browser *browser) string {
		t.Helper()
		r := browser.json("/api/auth/login", input(host, "bob@pve"))
		tfa, ok := r.json(t)["tfa"].(map[string]any)
		if r.StatusCode != http.StatusOK || !ok || browser.token() != "" {
			t.Fatalf("first step: %d %s, cookie %q", r.StatusCode, r.body, browser.token())
		}
		kinds := tfa["kinds"].([]any)
		if !slices.Contains(kinds, any("totp")) || !slices.Contains(kinds, any("recovery")) {
			t.Errorf("kinds %v", kinds)
		}
		return tfa["challenge"].(string)
	}
	code := func() string { return sim.TOTP(sim.DefaultTOTPSecret, b.now()) }
	// A code with a leading zero must survive.
	for !strings.HasPrefix(code(), "0") {
		b.advance(30 * time.Second)
	}
	browser := b.browser(t)
	challenge := ask(browser)
	if r := browser.json("/api/auth/tfa", map[string]any{"challenge": challenge, "kind": "totp", "code": "999999"}); r.StatusCode != http.StatusUnauthorized || r.json(t)["detail"] != failure {
		t.Errorf("wrong code: %d %s", r.StatusCode, r.body)
	}
	if r := browser.json("/api/auth/tfa", map[string]any{"challenge": challenge, "kind": "totp", "code": code()}); r.StatusCode != http.StatusOK || browser.token() == "" {
		t.Errorf("right code %s: %d %s", code(), r.StatusCode, r.body)
	}
	if r := browser.json("/api/auth/tfa", map[string]any{"challenge": challenge, "kind": "recovery", "code": sim.DefaultRecoveryCodes()[0]}); r.StatusCode != http.StatusUnauthorized || r.json(t)["code"] != "challenge_expired" {
		t.Errorf("a finished sign-in again: %d %s", r.StatusCode, r.body)
	}

	second := b.browser(t)
	challenge = ask(second)
	if r := second.json("/api/auth/tfa", map[string]any{"challenge": challenge, "kind": "recovery", "code": sim.DefaultRecoveryCodes()[1]}); r.StatusCode != http.StatusOK || !second.signedIn() {
		t.Errorf("recovery code: %d %s", r.StatusCode, r.body)
	}

	third := b.browser(t)
	challenge = ask(third)
	b.advance(5 * time.Minute)
	if r := third.json("/api/auth/tfa", map[string]any{"challenge": challenge, "kind": "totp", "code": code()}); r.StatusCode != http.StatusUnauthorized || r.json(t)["code"] != "challenge_expired" {
		t.Errorf("after five minutes: %d %s", r.StatusCode, r.body)
	}
}

// A host that answers with the ticket of somebody else signs nobody in; another spelling of the same name is no somebody else.
func TestTicketOfAnotherUser(t *testing.T) {
	b := newBench(t)
	loopback := forLoopback
	var answers atomic.Value
	host := newHostile(t, newAuthority(t).issue(t, &loopback), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		r.PostForm.Set("username", answers.Load().(string))
		plausible(nil).ServeHTTP(w, r)
	}))
	for _, test := range []struct {
		user string
		in   bool
	}{
		{"root@pam", false}, {"alice@pam", false}, {"alic@pve", false},
		{"Alice@pve", true}, {"alice@pve", true},
	} {
		answers.Store(test.user)
		browser := b.browser(t)
		r := browser.json("/api/auth/login", map[string]any{
			"host": "127.0.0.1", "port": host.port(), "username": "alice@pve", "password": "x", "fingerprint": host.fingerprint(),
		})
		switch {
		case test.in:
			if r.StatusCode != http.StatusOK || browser.get("/api/auth/session").json(t)["userId"] != test.user {
				t.Errorf("%s: %d %s", test.user, r.StatusCode, r.body)
			}
		case r.StatusCode != http.StatusUnauthorized || r.json(t)["detail"] != failure || browser.token() != "":
			t.Errorf("%s: %d %s", test.user, r.StatusCode, r.body)
		}
	}
}

// A security key works at its host's own address alone: whoever has nothing else is told so, and what to do.
func TestSecurityKeys(t *testing.T) {
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	const why, what = "bound to the web address of Proxmox itself", "Datacenter › Permissions › Two Factor"
	for _, test := range []struct {
		user  sim.User
		kinds []any
	}{
		{sim.User{ID: "gina@pve"}, []any{}},
		{sim.User{ID: "hugo@pve", TOTPSecret: sim.DefaultTOTPSecret}, []any{"totp"}},
	} {
		test.user.Password, test.user.SecurityKey = sim.DefaultPassword, true
		if err := dc.AddUser(test.user); err != nil {
			t.Fatal(err)
		}
		browser := b.browser(t)
		r := browser.json("/api/auth/login", input(host, test.user.ID))
		tfa, ok := r.json(t)["tfa"].(map[string]any)
		if r.StatusCode != http.StatusOK || !ok || tfa["browserKey"] != true || !slices.Equal(tfa["kinds"].([]any), test.kinds) || browser.token() != "" {
			t.Errorf("%s: %d %s", test.user.ID, r.StatusCode, r.body)
		}
		form := url.Values{"host": {host.Address()}, "username": {test.user.ID}, "password": {sim.DefaultPassword}, "fingerprint": {host.Fingerprint()}}
		page := browser.form("/login", form)
		alone := len(test.kinds) == 0
		if page.StatusCode != http.StatusOK || !strings.Contains(page.body, why) || strings.Contains(page.body, what) != alone ||
			strings.Contains(page.body, `name="code"`) == alone || browser.token() != "" {
			t.Errorf("%s: %d %s", test.user.ID, page.StatusCode, page.body)
		}
	}
}

// A code is refused as late as a password: by what is known of the host when it comes, not when the password did.
func TestRefusedCodes(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	bob := b.browser(t)
	ask := func() string { return bob.half(host.Address(), host.Fingerprint(), "bob@pve") }
	const generic = "The code was not accepted, or the host did not answer."
	first := ask()
	for _, step := range []struct {
		what   string
		do     func() (challenge string)
		want   time.Duration
		hint   string
		faults sim.Fault
	}{
		{"a host that is not known", func() string { return first }, 5500 * time.Millisecond, generic, sim.Fault{}},
		{"a host that is known since", func() string { b.browser(t).signIn(host, "alice@pve"); return first }, 3500 * time.Millisecond, generic, sim.Fault{}},
		{"a known host", ask, 3500 * time.Millisecond, generic, sim.Fault{}},
		{"its clock is wrong", ask, 3500 * time.Millisecond, generic + " The clock of " + host.Address() + " differs by 7 minutes.", sim.Fault{Skew: 7 * time.Minute}},
		{"it does not answer", ask, 3500 * time.Millisecond, host.Address() + " doesn't answer.", sim.Fault{Refuse: true}},
	} {
		challenge := step.do()
		host.SetFault("", "", step.faults)
		b.waited.Store(0)
		r := bob.json("/api/auth/tfa", map[string]any{"challenge": challenge, "kind": "totp", "code": "999999"})
		p := r.json(t)
		if hint, _ := p["hint"].(string); r.StatusCode != http.StatusUnauthorized || p["detail"] != failure || hint != step.hint {
			t.Errorf("%s: %d, hint %q, want %q", step.what, r.StatusCode, hint, step.hint)
		}
		if waited := time.Duration(b.waited.Load()); waited != step.want {
			t.Errorf("%s: held back for %v, want %v", step.what, waited, step.want)
		}
		host.ClearFaults()
	}
}

func TestSignOutKillsTheCookieAtOnce(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	token := browser.token()
	r := browser.form("/logout", nil)
	if r.StatusCode != http.StatusSeeOther || !strings.HasPrefix(r.Header.Get("Location"), "/login") || browser.token() != "" {
		t.Errorf("%d to %q, cookie %q", r.StatusCode, r.Header.Get("Location"), browser.token())
	}
	if r := b.browser(t).do("GET", "/", "", "", "Cookie", "lxc-session="+token); r.StatusCode != http.StatusSeeOther {
		t.Errorf("the old cookie still works: %d", r.StatusCode)
	}
}

func TestNextLeadsBack(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	for next, want := range map[string]string{
		"/?q=nextcloud": "/?q=nextcloud", "//evil": "/", `/\evil`: "/", "https:evil": "/", "https://evil": "/", "/%2F%2Fevil": "/",
		"%2F%2Fevil": "/", "/%5Cevil": "/", "/%252Fevil": "/", "/\tevil/x": "/", "": "/", "/login": "/", "/logout": "/", "evil": "/",
		"/some/page?a=1&b=%20": "/some/page?a=1&b=%20",
	} {
		in := url.Values{"next": {next}, "host": {host.Address()}, "username": {"alice@pve"}, "password": {sim.DefaultPassword}, "fingerprint": {host.Fingerprint()}}
		browser := b.browser(t)
		if r := browser.form("/login", in); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != want {
			t.Errorf("%q: %d to %q, want %q", next, r.StatusCode, r.Header.Get("Location"), want)
		}
		if r := browser.get("/login?next=" + url.QueryEscape(next)); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != want {
			t.Errorf("signed in already, %q: %d to %q, want %q", next, r.StatusCode, r.Header.Get("Location"), want)
		}
	}
}

func TestLastSignInIsFilledIn(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	in := input(host, "alice")
	browser.form("/login", url.Values{"host": {in["host"].(string)}, "port": {portOf(host)}, "username": {"alice"}, "realm": {"pve"}, "password": {sim.DefaultPassword}, "fingerprint": {host.Fingerprint()}})
	if !browser.signedIn() {
		t.Fatal("not signed in")
	}
	browser.form("/logout", nil)
	page := browser.get("/login")
	for _, want := range []string{`value="127.0.0.1"`, `value="` + portOf(host) + `"`, `value="alice"`} {
		if !strings.Contains(page.body, want) {
			t.Errorf("%s is not filled in", want)
		}
	}
	if strings.Contains(page.body, sim.DefaultPassword) {
		t.Error("the page holds the password")
	}
}

func TestIdentityIsDatacenterAndUser(t *testing.T) {
	b := newBench(t)
	one, oneHost := b.newHost(t, sim.Options{Name: "same", Members: []string{"pve1"}})
	_, twoHost := b.newHost(t, sim.Options{Name: "same", Members: []string{"pve1"}})
	if err := one.AddContainer(sim.Container{VMID: 777, Name: "only-here"}); err != nil {
		t.Fatal(err)
	}
	b.advance(11 * time.Second)
	first, second := b.browser(t), b.browser(t)
	first.signIn(oneHost, "root@pam")
	second.signIn(twoHost, "root@pam")
	if !strings.Contains(first.get("/api/containers").body, "only-here") {
		t.Error("the first does not see its container")
	}
	if strings.Contains(second.get("/api/containers").body, "only-here") {
		t.Error("root@pam of another datacenter sees it too")
	}
}

func TestManySignInsAtOnceAtANewHost(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if r := b.browser(t).json("/api/auth/login", input(host, "alice@pve")); r.StatusCode != http.StatusOK {
				t.Errorf("%d %s", r.StatusCode, r.body)
			}
		})
	}
	wg.Wait()
}
