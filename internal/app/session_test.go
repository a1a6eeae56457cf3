package app

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/pve/sim"
	"berth/internal/replicatest"
	"berth/internal/session"
)

const otherAgent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0"

// sessionList is what a browser sees of sessions.
func (b *browser) sessionList(query string) []map[string]any {
	b.t.Helper()
	r := b.get("/api/sessions" + query)
	if r.StatusCode != http.StatusOK {
		b.t.Fatalf("sessions%s: %d %s", query, r.StatusCode, r.body)
	}
	var list []map[string]any
	for _, item := range r.json(b.t)["items"].([]any) {
		list = append(list, item.(map[string]any))
	}
	return list
}

// sessionID is the id of a browser's own session.
func (b *browser) sessionID() string {
	b.t.Helper()
	for _, one := range b.sessionList("") {
		if one["current"] == true {
			return one["id"].(string)
		}
	}
	b.t.Fatal("the browser's own session is not listed")
	return ""
}

func TestSessionsAreListedAndEnded(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	here, there, third := b.browser(t), b.browser(t), b.browser(t)
	here.signIn(host, "alice@pve")
	in := input(host, "alice@pve")
	delete(in, "fingerprint")
	if r := there.do("POST", "/api/auth/login", "application/json", jsonText(t, in), "User-Agent", otherAgent); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-in: %d %s", r.StatusCode, r.body)
	}
	b.advance(time.Minute)
	third.signIn(host, "alice@pve")

	list := here.sessionList("")
	if len(list) != 3 {
		t.Fatalf("%d sessions, want 3", len(list))
	}
	current := 0
	for _, one := range list {
		if one["current"] == true {
			current++
		}
		if one["userId"] != "alice@pve" || one["mine"] != true || one["address"] != "127.0.0.1" || one["host"] != host.Address() {
			t.Errorf("session %v", one)
		}
		if text := one["id"].(string); len(text) != 32 || strings.Contains(here.token()+there.token(), text) {
			t.Errorf("id %q", text)
		}
	}
	if current != 1 {
		t.Errorf("%d are this one, want 1", current)
	}
	if i := slices.IndexFunc(list, func(one map[string]any) bool { return one["device"] == "Firefox on Windows" }); i < 0 {
		t.Errorf("no session is Firefox on Windows: %v", list)
	}
	// The page has it too, and asks before it ends one.
	thereID, thirdID := there.sessionID(), third.sessionID()
	if r := here.get("/settings/sessions"); !strings.Contains(r.body, "Firefox on Windows") || !strings.Contains(r.body, "this one") {
		t.Errorf("the page: %d", r.StatusCode)
	}
	if r := here.get("/settings/sessions/" + thereID); r.StatusCode != http.StatusOK || !strings.Contains(r.body, "Firefox on Windows") || !strings.Contains(r.body, otherAgent) {
		t.Errorf("the question: %d %s", r.StatusCode, r.body)
	}
	if !there.signedIn() {
		t.Error("the question alone ended the session")
	}
	if r := here.form("/settings/sessions/"+thereID+"/end", url.Values{}); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/settings/sessions?ended=1" {
		t.Errorf("end: %d to %s", r.StatusCode, r.Header.Get("Location"))
	}
	if there.signedIn() {
		t.Error("the ended session lives")
	}
	if r := here.json("/api/sessions/"+thereID+"/end", struct{}{}); r.StatusCode != http.StatusNotFound {
		t.Errorf("end once more: %d", r.StatusCode)
	}
	if r := here.json("/api/sessions/end-others", struct{}{}); r.StatusCode != http.StatusOK || r.json(t)["ended"] != 1.0 {
		t.Errorf("end others: %d %s", r.StatusCode, r.body)
	}
	if third.signedIn() || !here.signedIn() {
		t.Error("not the others ended")
	}
	_ = thirdID
	// Who ended what is in the trail.
	got := brief(here.entries("?action=session_end"))
	if !slices.Equal(got, []string{"session_end ok alice@pve", "session_end ok alice@pve"}) {
		t.Errorf("the trail has %q", got)
	}
	// One's own, by its id, is a sign-out.
	if r := here.json("/api/sessions/"+here.sessionID()+"/end", struct{}{}); r.StatusCode != http.StatusOK || r.json(t)["own"] != true || here.token() != "" {
		t.Errorf("own: %d %s", r.StatusCode, r.body)
	}
}

func TestOwnersEndAnybodysSession(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	owner, alice, frank := b.browser(t), b.browser(t), b.browser(t)
	owner.signIn(host, "root@pam")
	alice.signIn(host, "alice@pve")
	frank.signIn(host, "alice@pve")
	if list := owner.sessionList("?whose=everyone&q=ALICE"); len(list) != 2 {
		t.Errorf("%d sessions of alice", len(list))
	}
	if list := owner.sessionList(""); len(list) != 1 {
		t.Errorf("%d sessions of the owner", len(list))
	}
	if r := owner.get("/settings/sessions?whose=everyone"); r.StatusCode != http.StatusOK || !strings.Contains(r.body, "alice@pve") {
		t.Errorf("the page: %d", r.StatusCode)
	}
	if r := owner.json("/api/sessions/"+alice.sessionID()+"/end", struct{}{}); r.StatusCode != http.StatusOK || alice.signedIn() {
		t.Errorf("end: %d %s", r.StatusCode, r.body)
	}
	// Alice learns by whom, and not from where.
	got := frank.entries("?action=session_end")
	if len(got) != 1 || got[0]["userId"] != "root@pam" || got[0]["subject"] != "alice@pve" || got[0]["address"] != "" {
		t.Errorf("alice sees %v", got)
	}
	if r := owner.json("/api/sessions/end-others", map[string]any{"whose": "everyone"}); r.StatusCode != http.StatusOK || frank.signedIn() || !owner.signedIn() {
		t.Errorf("end everyone's: %d %s", r.StatusCode, r.body)
	}
}

// Use costs no write: a hundred requests change nothing in the files until the next Sweep, which writes once.
func TestUseOfASessionIsNotWritten(t *testing.T) {
	replicatest.Alone(t, replicatest.File)
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	written := func() (size int64) {
		t.Helper()
		info, err := os.Stat(filepath.Join(b.folder, "berth.db-wal"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	stored := func() time.Time {
		t.Helper()
		hash, _ := session.HashToken(browser.token())
		r, err := b.store.FindSession(t.Context(), hash)
		if err != nil {
			t.Fatal(err)
		}
		return r.LastSeen
	}
	before, seen := written(), stored()
	for range 100 {
		b.advance(time.Second)
		if r := browser.get("/api/auth/session"); r.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
	}
	if after := written(); after != before {
		t.Errorf("100 requests wrote %d bytes", after-before)
	}
	if got := stored(); !got.Equal(seen) {
		t.Errorf("the store learned of a use before the Sweep")
	}
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := stored(); got.Sub(seen) < 99*time.Second {
		t.Errorf("after the Sweep the store knows of a use %v later, want 100 s", got.Sub(seen))
	}
}

// When the ticket is due for renewal, 200 requests at once cause one.
func TestManyRequestsRenewOnce(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	tickets := func() (n int) {
		for _, r := range host.Requests() {
			if r.Method == "POST" && strings.HasSuffix(r.Path, "/access/ticket") {
				n++
			}
		}
		return n
	}
	before := tickets()
	b.advance(session.RenewAfter + time.Minute)
	host.SetFault("POST", "/access/ticket", sim.Fault{Latency: 200 * time.Millisecond})
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if r := browser.get("/api/containers"); r.StatusCode != http.StatusOK {
				t.Errorf("%d %s", r.StatusCode, r.body)
			}
		})
	}
	wg.Wait()
	if n := tickets() - before; n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
}

// A 401 of a member that is ill ends nothing while the renewal works; when that is refused too the session is over.
func TestOnlyARefusedRenewalEndsASession(t *testing.T) {
	b := newBenchWith(t, claimed)
	dc, host := b.newHost(t, sim.Options{})
	browser, other := b.browser(t), b.browser(t)
	browser.signIn(host, "alice@pve")
	b.advance(time.Minute)
	host.SetFault("GET", "/cluster/resources", sim.Fault{Status: http.StatusUnauthorized})
	if r := browser.get("/api/containers"); r.StatusCode != http.StatusBadGateway || r.json(t)["code"] != "host_refused" {
		t.Errorf("with a sick member: %d %s", r.StatusCode, r.body)
	}
	if !browser.signedIn() {
		t.Fatal("a sick member signed the user out")
	}
	host.ClearFaults()
	b.advance(time.Minute)
	if r := browser.get("/api/containers"); r.StatusCode != http.StatusOK {
		t.Errorf("once it is well: %d %s", r.StatusCode, r.body)
	}
	if err := dc.DisableUser("alice@pve"); err != nil {
		t.Fatal(err)
	}
	b.advance(time.Minute)
	if r := browser.get("/api/containers"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a disabled user: %d %s", r.StatusCode, r.body)
	}
	other.signIn(host, "root@pam")
	if got := brief(other.entries("?action=session_lost")); !slices.Equal(got, []string{"session_lost ok alice@pve"}) {
		t.Errorf("the trail has %q", got)
	}
}
