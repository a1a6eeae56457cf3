package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"berth/internal/pve/sim"
)

// strangeSite is the name of another site, which the browser finds on this machine.
const strangeSite = "strange.example"

// attacker is a site that serves whatever page a test puts there, to be opened as another port of Berth's own host
// (another origin of the same site, which is sent its cookies) and as another site.
type attacker struct {
	page      atomic.Value // string
	near, far string
}

func attack(t testing.TB) *attacker {
	t.Helper()
	a := &attacker{}
	a.page.Store("")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Connection", "close") // a name that leads elsewhere takes a new connection
		if r.URL.Path == "/" {
			fmt.Fprint(w, "<!doctype html><link rel=icon href='data:,'><title>attack</title>"+a.page.Load().(string))
		}
	}))
	t.Cleanup(server.Close)
	a.near = server.URL
	a.far = strings.Replace(server.URL, "127.0.0.1", strangeSite, 1)
	return a
}

// serve opens a page of the attacker's.
func (a *attacker) serve(p *page, from, body string) {
	p.Helper()
	a.page.Store(body)
	p.do(chromedp.Navigate(from + "/"))
}

// userID is who is signed in, by what the page at the site itself shows; "" for nobody.
func (p *page) userID() string {
	p.Helper()
	p.goTo("/")
	p.until("loaded", `document.querySelector(".account-user, #signin")`)
	return eval[string](p, `document.querySelector(".account-user")?.title ?? ""`)
}

// hidden is a form that sends itself.
func hidden(action string, values url.Values) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<form method="post" action="%s">`, action)
	for name := range values {
		fmt.Fprintf(&b, `<input type="hidden" name="%s" value="%s">`, name, values.Get(name))
	}
	return b.String() + `</form><script>document.forms[0].submit()</script>`
}

func TestAbuseFormsOfOtherOrigins(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	b := serve(t)
	a := attack(t)
	p := open(t, b)
	p.expect("POST /login 409", "POST /logout 403", "POST /login 403", "GET /logout 405")
	p.goTo("/")
	p.signIn(host, "alice", "pve")

	name, port, err := net.SplitHostPort(host.Address())
	if err != nil {
		t.Fatal(err)
	}
	mallory := url.Values{
		"host": {name}, "port": {port}, "username": {"root"}, "realm": {"pam"}, "password": {sim.DefaultPassword}, "fingerprint": {host.Fingerprint()},
	}
	for _, from := range []string{a.near, a.far} {
		a.serve(p, from, hidden(b.url+"/logout", nil))
		p.until("refused", `document.querySelector(".problem-status")?.innerText.includes("403")`)
		a.serve(p, from, hidden(b.url+"/login", mallory))
		p.until("refused", `document.querySelector(".problem-status")?.innerText.includes("403")`)
		a.serve(p, from, `<a href="`+b.url+`/logout">x</a><script>document.querySelector("a").click()</script>`)
		p.until("no such thing", `location.pathname === "/logout" && document.querySelector(".problem-status, #signin")`)
		if got := p.userID(); got != "alice@pve" {
			t.Errorf("after the forms of %s it is %q who is signed in", from, got)
		}
	}
	// A link from elsewhere is no attack, and finds the session.
	a.serve(p, a.far, `<a href="`+b.url+`/">x</a><script>document.querySelector("a").click()</script>`)
	p.until("alice's list", `document.querySelector(".account-user")?.title === "alice@pve"`)

	// Nor is a visitor signed in by one, to the attacker's account.
	visitor := open(t, b)
	visitor.expect("POST /login 403")
	for _, from := range []string{a.near, a.far} {
		a.serve(visitor, from, hidden(b.url+"/login", mallory))
		visitor.until("refused", `document.querySelector(".problem-status")?.innerText.includes("403")`)
		if got := visitor.sessionToken(); got != "" {
			t.Errorf("%s signed a visitor in", from)
		}
	}
}

// TestAbuseScriptsOfOtherOrigins: they read nothing, run nothing of Berth's, frame nothing and change nothing.
func TestAbuseScriptsOfOtherOrigins(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	b := serve(t)
	a := attack(t)
	p := open(t, b)
	p.goTo("/")
	p.expect("POST /login 409")
	p.signIn(host, "alice", "pve")

	q := openLoose(t, p)
	for _, from := range []string{a.near, a.far} {
		a.serve(q, from, "")
		for what, try := range map[string]string{
			"reads the session":    `fetch(berth + "/api/auth/session", {credentials: "include"}).then((r) => r.text())`,
			"reads the list":       `fetch(berth + "/", {credentials: "include"}).then((r) => r.text())`,
			"reads without cookie": `fetch(berth + "/healthz").then((r) => r.text())`,
			"sends JSON":           `fetch(berth + "/api/auth/logout", {method: "POST", credentials: "include", headers: {"Content-Type": "application/json"}, body: "{}"}).then((r) => r.text())`,
			"deletes":              `fetch(berth + "/api/containers", {method: "DELETE", credentials: "include"}).then((r) => r.text())`,
			"runs an answer": `new Promise((ok, no) => { const s = document.createElement("script"); s.onload = ok; s.onerror = no;
				s.src = berth + "/api/auth/session"; document.body.append(s); })`,
			"embeds the script": `new Promise((ok, no) => { const s = document.createElement("script"); s.onload = ok; s.onerror = no;
				s.src = berth + ` + quote(p.asset(`script[src*="/app-"]`, "src")) + `; document.body.append(s); })`,
		} {
			got := eval[string](q, `(() => { const berth = `+quote(b.url)+`; return `+try+`; })().then((v) => "done: " + v, () => "refused")`)
			if got != "refused" {
				t.Errorf("a script of %s %s: %s", from, what, got)
			}
		}
		// What needs no leave of Berth's to be sent, and no answer.
		for _, try := range []string{
			`fetch(berth + "/api/auth/logout", {method: "POST", mode: "no-cors", credentials: "include", body: "{}"})`,
			`fetch(berth + "/logout", {method: "POST", mode: "no-cors", credentials: "include", headers: {"Content-Type": "application/x-www-form-urlencoded"}, body: ""})`,
			`Promise.resolve(navigator.sendBeacon(berth + "/logout", new URLSearchParams()))`,
		} {
			eval[bool](q, `(() => { const berth = `+quote(b.url)+`; return `+try+`; })().then(() => true, () => true)`)
		}
		// A page in a frame is what click-jacking needs. (Frames of another site are not part of the attacker's tab, so that
		// it can't be told what they show; the answers that refuse them are the same.)
		for _, path := range []string{"/", "/login", "/settings/about"} {
			if from != a.near {
				break
			}
			eval[bool](q, `new Promise((ok) => { const f = document.createElement("iframe"); f.onload = () => ok(true); f.src = `+quote(b.url+path)+`; document.body.append(f); })`)
			if shown := q.framed(); shown != "" {
				t.Errorf("%s frames %s", from, shown)
			}
			eval[bool](q, `(document.querySelector("iframe").remove(), true)`)
		}
		if got := p.userID(); got != "alice@pve" {
			t.Errorf("after the scripts of %s it is %q who is signed in", from, got)
		}
	}
}

// asset is the path of something that a page loads.
func (p *page) asset(selector, attribute string) string {
	p.Helper()
	return eval[string](p, `document.querySelector(`+quote(selector)+`).getAttribute(`+quote(attribute)+`)`)
}

// openLoose opens a tab in the same browser profile whose complaints are not judged: it is the attacker's.
func openLoose(t testing.TB, beside *page) *page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(beside.ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return &page{t, &tab{ctx: ctx, base: beside.base}}
}

// framed is the address of what the first frame of the page shows; "" when the browser refused to show it.
func (p *page) framed() string {
	p.Helper()
	shown := ""
	call(p, func(ctx context.Context) error {
		tree, err := chromedp.Call(ctx, cdpage.GetFrameTree, cdp.Empty{})
		if err != nil {
			return err
		}
		for _, child := range tree.FrameTree.ChildFrames {
			if !strings.HasPrefix(child.Frame.URL, "chrome-error://") {
				shown = child.Frame.URL
			}
		}
		return nil
	})
	return shown
}

// TestAbuseNameThatRebinds: a page of the attacker's stays open while its name is made to lead to Berth instead. To the
// browser both are one origin, so that no rule about origins helps; a relay stands for the name's changing address.
func TestAbuseNameThatRebinds(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	b := serve(t)
	a := attack(t)
	a.page.Store("")
	relay := newRelay(t, strings.TrimPrefix(a.near, "http://"))
	_, port, err := net.SplitHostPort(relay.address)
	if err != nil {
		t.Fatal(err)
	}
	input, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, b)
	p.goTo("/")
	p.expect("POST /login 409")
	p.signIn(host, "alice", "pve")

	q := openLoose(t, p)
	name, hostPort, err := net.SplitHostPort(host.Address())
	if err != nil {
		t.Fatal(err)
	}
	form := "host=" + url.QueryEscape(name) + "&port=" + hostPort + "&username=root&realm=pam&password=" + sim.DefaultPassword
	tries := map[string]string{
		"the session":  `fetch("/api/auth/session")`,
		"the list":     `fetch("/")`,
		"the sign-in":  `fetch("/login")`,
		"the probe":    `fetch("/healthz")`,
		"a form":       `fetch("/login", {method: "POST", headers: {"Content-Type": "application/x-www-form-urlencoded"}, body: ` + quote(form) + `})`,
		"the sign-out": `fetch("/api/auth/logout", {method: "POST", headers: {"Content-Type": "application/json"}, body: "{}"})`,
	}
	const answer = `.then((r) => r.text().then((text) => r.status + (/alice|id="signin"|"ok"/.test(text) ? " told" : "")))`

	relay.to.Store(strings.TrimPrefix(a.near, "http://"))
	q.do(chromedp.Navigate("http://" + strangeSite + ":" + port + "/"))
	q.until("the attacker's page", `document.title === "attack"`)
	relay.to.Store(input.Host)
	for what, try := range tries {
		if got := eval[string](q, try+answer); got != "421" {
			t.Errorf("%s under a rebound name: %s", what, got)
		}
	}
	q.do(chromedp.Navigate("http://" + strangeSite + ":" + port + "/"))
	q.until("a page that says so", `document.querySelector("h1")?.innerText === "Berth is not known under this name"`)

	// The relay does lead to Berth: by its own address the same requests are answered.
	q.do(chromedp.Navigate("http://" + relay.address + "/login"))
	q.until("Berth", `document.querySelector("#signin, .account-user")`)
	for what, try := range map[string]string{"the probe": tries["the probe"], "the session": tries["the session"]} {
		if got := eval[string](q, try+answer); !strings.HasSuffix(got, " told") {
			t.Errorf("%s by the relay's own address: %s", what, got)
		}
	}
	if got := p.userID(); got != "alice@pve" {
		t.Errorf("it is %q who is signed in", got)
	}
}

// relay hands every connection on to wherever it leads at the time.
type relay struct {
	address string
	to      atomic.Value // string
}

func newRelay(t testing.TB, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := &relay{address: l.Addr().String()}
	r.to.Store(to)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			go r.hand(c)
		}
	}()
	return r
}

func (r *relay) hand(c net.Conn) {
	defer c.Close()
	to := r.to.Load().(string)
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	go func() { _, _ = io.Copy(up, c); up.Close() }()
	_, _ = io.Copy(c, up) // either side may end it
}
