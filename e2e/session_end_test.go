package e2e

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"testing"
	"time"

	"berth/internal/pve/sim"
	"berth/internal/replicatest"
)

// post sends JSON with a session's token and reads the status and what came back.
func post(t testing.TB, url, token string, body any) (int, map[string]any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.AddCookie(&http.Cookie{Name: "lxc-session", Value: token})
	}
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var got map[string]any
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if token == "" {
		for _, c := range answer.Cookies() {
			if c.Name == "lxc-session" {
				got["token"] = c.Value
			}
		}
	}
	return answer.StatusCode, got
}

// signInElsewhere is a second device: it signs in by the API and returns its token.
func signInElsewhere(t testing.TB, b *berth, host *sim.Host, user, realm string) string {
	t.Helper()
	name, port, err := net.SplitHostPort(host.Address())
	if err != nil {
		t.Fatal(err)
	}
	status, got := post(t, b.url+"/api/auth/login", "", map[string]any{
		"host": name, "port": port, "username": user, "realm": realm, "password": sim.DefaultPassword,
	})
	token, _ := got["token"].(string)
	if status != http.StatusOK || token == "" {
		t.Fatalf("sign-in elsewhere: %d %v", status, got)
	}
	return token
}

// A session is ended from another device while somebody types: the page says so, and after the sign-in what was typed is
// searched for.
func TestEndedElsewhereWhileTyping(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	now := &clock{}
	b := inProcess(t, now, host)
	p := open(t, b)
	p.goTo("/login")
	p.signIn(host, "alice", "pve")
	p.goTo("/?status=running")
	p.until("the list", `document.querySelector("table.list")`)

	elsewhere := signInElsewhere(t, b, host, "alice", "pve")
	p.allowSessionEnd()
	if replicatest.Wanted() {
		p.fill("q", "nextcloud") // replicas tell the page at once, so that nobody could type after it
	}
	if status, got := post(t, b.url+"/api/sessions/end-others", elsewhere, struct{}{}); status != http.StatusOK || got["ended"] != 1.0 {
		t.Fatalf("end others: %d %v", status, got)
	}
	if !replicatest.Wanted() {
		p.fill("q", "nextcloud")
	}
	p.until("a word about it", `document.querySelector("dialog[open]")`)
	if got := p.text("dialog[open] h2"); got != "You have been signed out" {
		t.Errorf("the page says %q", got)
	}
	p.click("dialog[open] a")
	p.until("the sign-in page", `location.pathname === "/login"`)
	p.fill("password", sim.DefaultPassword)
	p.click(submit)
	p.until("the list again", `location.pathname === "/" && document.querySelector("table.list")`)
	if got := p.value("q"); got != "nextcloud" {
		t.Errorf("searched for is %q", got)
	}
	p.untilRows("101")
	if got := eval[string](p, `new URLSearchParams(location.search).get("status")`); got != "running" {
		t.Errorf("the filter is %q", got)
	}
}

// Ending sessions on their page, as a person does it: the other device first, then this one.
func TestSessionsPage(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	b := inProcess(t, &clock{}, host)
	p := open(t, b)
	p.goTo("/login")
	p.signIn(host, "alice", "pve")
	elsewhere := signInElsewhere(t, b, host, "alice", "pve")

	p.goTo("/settings/sessions")
	if got := eval[int](p, `document.querySelectorAll("table.sessions tbody tr").length`); got != 2 {
		t.Fatalf("%d sessions are shown, want 2", got)
	}
	p.click(`table.sessions tr:not(:has(.badge-here)) a`)
	p.until("the question", `document.querySelector("h1")?.innerText === "End this session?"`)
	if got := status(t, b.url+"/api/containers", elsewhere); got != http.StatusOK {
		t.Errorf("the question alone ended it: %d", got)
	}
	p.click(`.btn-danger`)
	p.untilPath("/settings/sessions?ended=1")
	if got := p.text("[role=status]"); got != "The session has ended." {
		t.Errorf("the page says %q", got)
	}
	got := status(t, b.url+"/api/containers", elsewhere)
	// Where it was ended this holds at once, at another replica within a moment.
	for deadline := time.Now().Add(startTime); replicatest.Wanted() && got != http.StatusUnauthorized && time.Now().Before(deadline); {
		got = status(t, b.url+"/api/containers", elsewhere)
	}
	if got != http.StatusUnauthorized {
		t.Errorf("the ended session's token: %d", got)
	}
	p.click(`table.sessions tr:has(.badge-here) a`)
	p.until("the question", `document.querySelector("h1")?.innerText === "Sign out here?"`)
	p.signOutBy(func() { p.click(`.btn-danger`) })
	if p.sessionToken() != "" {
		t.Error("the cookie is still there")
	}
}

// Somebody comes back to a page that is not a list of containers: it finds out by itself.
func TestEndedElsewhereUnderSettings(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	b := inProcess(t, &clock{}, host)
	p := open(t, b)
	p.goTo("/login")
	p.signIn(host, "alice", "pve")
	p.goTo("/settings/audit?result=ok")
	p.until("the trail", `document.querySelector("table.audit")`)
	elsewhere := signInElsewhere(t, b, host, "alice", "pve")
	if status, got := post(t, b.url+"/api/sessions/end-others", elsewhere, struct{}{}); status != http.StatusOK {
		t.Fatalf("end others: %d %v", status, got)
	}
	p.fill("q", "typed")
	p.allowSessionEnd()
	p.later(time.Minute)
	eval[bool](p, `document.dispatchEvent(new Event("visibilitychange"))`) // somebody comes back to the tab
	p.until("a word about it", `document.querySelector("dialog[open]")`)
	p.click("dialog[open] a")
	p.until("the sign-in page", `location.pathname === "/login"`)
	p.fill("password", sim.DefaultPassword)
	p.click(submit)
	p.until("the page again", `location.pathname === "/settings/audit" && document.querySelector("[name=q]")`)
	if got := p.value("q"); got != "typed" {
		t.Errorf("what was typed is %q", got)
	}
}
