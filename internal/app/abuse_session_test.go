package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/pve/sim"
	"berth/internal/session"
)

func jsonText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// An attacker plants a token of their own before somebody signs in: the sign-in brings a new one, and the planted one is
// worth nothing.
func TestAbuseSessionFixation(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	attacker, victim := b.browser(t), b.browser(t)
	attacker.signIn(host, "alice@pve")
	planted := attacker.token()
	u, err := url.Parse(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	victim.http.Jar.SetCookies(u, []*http.Cookie{{Name: "lxc-session", Value: planted, Path: "/"}})
	victim.signIn(host, "root@pam")
	if victim.token() == planted || victim.token() == "" {
		t.Fatalf("the planted token stayed")
	}
	if r := attacker.get("/api/auth/session"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("the planted token is good for %d %s", r.StatusCode, r.body)
	}
	if r := victim.get("/api/auth/session"); r.json(t)["userId"] != "root@pam" {
		t.Errorf("the victim is %s", r.body)
	}
}

// Somebody guesses, or has seen, the id of another identity's session: it does not exist for them.
func TestAbuseSessionOfAnotherIdentity(t *testing.T) {
	b := newBenchWith(t, claimed)
	dc, host := b.newHost(t, sim.Options{})
	if err := dc.AddUser(sim.User{ID: "grace@pve", Password: sim.DefaultPassword}); err != nil {
		t.Fatal(err)
	}
	alice, mallory, owner := b.browser(t), b.browser(t), b.browser(t)
	owner.signIn(host, "root@pam")
	alice.signIn(host, "alice@pve")
	mallory.signIn(host, "grace@pve")
	id := alice.sessionID()
	hash, _ := session.HashToken(alice.token())
	for _, guess := range []string{id, owner.sessionID(), hash.String(), strings.Repeat("0", 32), "1", "%00", id + "'--", strings.ToUpper(id)} {
		for _, try := range []reply{
			mallory.json("/api/sessions/"+url.PathEscape(guess)+"/end", struct{}{}),
			mallory.form("/settings/sessions/"+url.PathEscape(guess)+"/end", url.Values{}),
			mallory.get("/settings/sessions/" + url.PathEscape(guess)),
		} {
			if try.StatusCode != http.StatusNotFound || strings.Contains(try.body, "alice") {
				t.Errorf("%s %s: %d", try.Request.Method, try.Request.URL.Path, try.StatusCode)
			}
		}
	}
	if !alice.signedIn() || !owner.signedIn() {
		t.Error("a session ended")
	}
	for _, try := range []reply{
		mallory.get("/api/sessions?whose=everyone"), mallory.get("/settings/sessions?whose=everyone"),
		mallory.json("/api/sessions/end-others", map[string]any{"whose": "everyone"}),
		mallory.form("/settings/sessions/end-others", url.Values{"whose": {"everyone"}}),
		mallory.get("/settings/sessions/end-others?whose=everyone"),
	} {
		if try.StatusCode != http.StatusForbidden || strings.Contains(try.body, "alice") {
			t.Errorf("%s %s: %d", try.Request.Method, try.Request.URL.Path, try.StatusCode)
		}
	}
	for _, query := range []string{"", "?q=alice"} {
		for _, one := range mallory.sessionList(query) {
			if one["userId"] != "grace@pve" {
				t.Errorf("listed %v", one)
			}
		}
	}
	if !alice.signedIn() {
		t.Error("the session of alice ended")
	}
}

// The same user id, vouched for by another installation: neither sessions nor trail are shared.
func TestAbuseNamesakeOfAnotherDatacenter(t *testing.T) {
	b := newBench(t)
	_, mine := b.newHost(t, sim.Options{})
	_, hostile := b.newHost(t, sim.Options{})
	root, fake := b.browser(t), b.browser(t)
	root.signIn(mine, "root@pam")
	fake.signIn(hostile, "root@pam")
	if list := fake.sessionList(""); len(list) != 1 || list[0]["host"] != hostile.Address() {
		t.Errorf("the namesake sees %v", list)
	}
	for _, e := range fake.entries("") {
		if e["target"] != hostile.Address() {
			t.Errorf("the namesake reads %v", e)
		}
	}
	if r := fake.json("/api/sessions/"+root.sessionID()+"/end", struct{}{}); r.StatusCode != http.StatusNotFound {
		t.Errorf("end: %d %s", r.StatusCode, r.body)
	}
	if r := fake.json("/api/sessions/end-others", struct{}{}); r.StatusCode != http.StatusOK || r.json(t)["ended"] != 0.0 {
		t.Errorf("end others: %d %s", r.StatusCode, r.body)
	}
	// Where anybody's host may vouch nobody owns the installation.
	if r := root.get("/api/audit?whose=everyone"); r.StatusCode != http.StatusForbidden {
		t.Errorf("everyone's trail: %d", r.StatusCode)
	}
	if !root.signedIn() {
		t.Error("the session of the other root@pam ended")
	}
}

// A stolen cookie was ended, and then an older copy of the sessions is restored: the cookie stays worth nothing.
func TestAbuseRestoredSession(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	stolen := browser.token()
	hash, _ := session.HashToken(stolen)
	copied, err := b.shared.sessions.FindSession(t.Context(), hash)
	if err != nil {
		t.Fatal(err)
	}
	if r := browser.json("/api/auth/logout", struct{}{}); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-out: %d", r.StatusCode)
	}
	if err := b.shared.sessions.CreateSession(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	use := func(when string) {
		t.Helper()
		if r := b.browser(t).do("GET", "/api/auth/session", "", "", "Cookie", "lxc-session="+stolen); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", when, r.StatusCode, r.body)
		}
	}
	use("at once")
	end := b.begin(t) // another process, which remembers nothing
	use("after a restart")
	for range 3 {
		b.advance(time.Hour)
		if err := b.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	use("later")
	end()
}

// A flood of refused sign-ins, from one address and from a thousand, fills neither disk nor memory, and the trail still
// says how many there were.
func TestAbuseAuditFlood(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	owner := b.browser(t)
	owner.signIn(host, "root@pam")
	const flood = 5000
	// Past the throttle, which would let far fewer through.
	for i := range flood {
		address := fmt.Sprintf("2001:db8:%x::%x", i%1000, i)
		b.trail.Record(t.Context(), audit.Entry{
			Identity: session.Identity{UserID: strings.Repeat("x", 1<<16)}, Address: netip.MustParseAddr(address),
			Action: audit.SignIn, Result: audit.Refused, Target: strings.Repeat("\u202e\x1b[2J", 1<<14),
		})
	}
	b.advance(time.Minute)
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	var rows, attempts int
	next := ""
	for range 100 {
		r := owner.get("/api/audit?result=refused&limit=200&before=" + next).json(t)
		for _, item := range r["items"].([]any) {
			e := item.(map[string]any)
			rows++
			attempts += int(e["count"].(float64))
			if len(e["userId"].(string)) > 64 || strings.ContainsAny(e["target"].(string), "\u202e\x1b") || len(e["target"].(string)) > 300 {
				t.Fatalf("entry not bounded: %v", e)
			}
		}
		var more bool
		if next, more = r["next"].(string); !more {
			break
		}
	}
	if attempts != flood {
		t.Errorf("the trail tells of %d attempts, want %d", attempts, flood)
	}
	if most := 4 * audit.RefusedPerMinute; rows > most {
		t.Errorf("%d rows for one flood, want at most %d", rows, most)
	}
}

// What was typed as a user name can be anything: it comes back as text.
func TestAbuseMarkupInTheTrail(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	owner := b.browser(t)
	owner.signIn(host, "root@pam")
	in := input(host, `<script>alert(1)<script>`)
	if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != http.StatusUnauthorized {
		t.Fatalf("sign-in: %d %s", r.StatusCode, r.body)
	}
	r := owner.get("/settings/audit?q=" + url.QueryEscape("<script>alert"))
	if r.StatusCode != http.StatusOK || strings.Contains(r.body, "<script>alert") || !strings.Contains(r.body, "&lt;script&gt;alert") {
		t.Errorf("the page: %d", r.StatusCode)
	}
}

// Where any host may vouch, refused sign-ins at hosts that nobody signed in with leave nothing in the trail.
func TestAbuseVisitorsLeaveNoEntries(t *testing.T) {
	b := newBench(t)
	for i := range 20 {
		in := map[string]any{"host": fmt.Sprintf("127.0.0.%d", i+2), "port": 1, "username": "root", "password": "x"}
		b.browser(t).json("/api/auth/login", in)
	}
	entries, err := b.store.Entries(t.Context(), audit.Selection{Shared: true}, 100)
	if err != nil || len(entries) != 0 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// A stolen cookie shows: the list names the address that the session was used from last.
func TestAbuseStolenCookieShows(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	owner := b.browser(t)
	owner.signIn(host, "alice@pve")
	thief := b.browser(t)
	thief.http.Transport = &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}}).DialContext}
	b.advance(time.Minute)
	if r := thief.do("GET", "/api/auth/session", "", "", "Cookie", "lxc-session="+owner.token()); r.StatusCode != http.StatusOK {
		t.Fatalf("the stolen cookie: %d", r.StatusCode)
	}
	// Looking uses the session too, from where it was started; so another one looks.
	other := b.browser(t)
	other.signIn(host, "alice@pve")
	b.written(t)
	var shown []string
	for _, item := range other.get("/api/sessions").json(t)["items"].([]any) {
		one := item.(map[string]any)
		shown = append(shown, one["address"].(string)+" "+one["lastAddress"].(string))
	}
	slices.Sort(shown)
	if want := []string{"127.0.0.1 127.0.0.1", "127.0.0.1 127.0.0.66"}; !slices.Equal(shown, want) {
		t.Errorf("addresses %q, want %q", shown, want)
	}
	if page := other.get("/settings/sessions"); !strings.Contains(page.body, "127.0.0.66") {
		t.Error("the page does not name the other address")
	}
	b.each(func(a *App) {
		if err := errors.Join(a.sessions.Flush(t.Context()), a.sessions.Reload(t.Context())); err != nil {
			t.Fatal(err)
		}
	})
	if r := other.get("/api/sessions"); !strings.Contains(r.body, "127.0.0.66") {
		t.Errorf("after a reload: %s", r.body)
	}
}

// Sixty refusals from other addresses hide neither the address that guesses at an account nor how often it did.
func TestAbuseGuessesBehindNoise(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	owner := b.browser(t)
	owner.signIn(host, "root@pam")
	identity := b.identity(t, owner)
	for i := range 60 {
		b.trail.Record(t.Context(), audit.Entry{
			Identity: session.Identity{UserID: "x@pam"}, Address: netip.AddrFrom4([4]byte{203, 0, 113, byte(i / 10)}),
			Action: audit.SignIn, Result: audit.Refused, Target: "nowhere.lan:8006",
		})
	}
	const guesses = 9
	for range guesses {
		b.trail.Record(t.Context(), audit.Entry{
			Identity: session.Identity{Datacenter: identity.Datacenter, UserID: "ROOT@pam"}, Address: netip.MustParseAddr("198.51.100.66"),
			Action: audit.SignIn, Result: audit.Refused, Target: host.Address(),
		})
	}
	b.advance(2 * time.Minute)
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := owner.entries("?result=refused&q=198.51.100.66"); len(got) != 1 || got[0]["userId"] != "ROOT@pam" {
		t.Errorf("of the address that guesses the trail tells %v", got)
	}
	var counted float64
	for _, e := range owner.entries("?result=refused&whose=mine") {
		counted += e["count"].(float64)
	}
	for _, e := range owner.entries("?result=refused&q=198.51.100.66") {
		counted += e["count"].(float64)
	}
	if counted != guesses {
		t.Errorf("the trail tells of %v guesses at the account, want %d", counted, guesses)
	}
}
