package app

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/config"
	"berth/internal/pve/sim"
	"berth/internal/session"
)

// entries are the lines of one page of the trail, newest first: action, result, user.
func (b *browser) entries(query string) []map[string]any {
	b.t.Helper()
	r := b.get("/api/audit" + query)
	if r.StatusCode != http.StatusOK {
		b.t.Fatalf("audit%s: %d %s", query, r.StatusCode, r.body)
	}
	var list []map[string]any
	for _, item := range r.json(b.t)["items"].([]any) {
		list = append(list, item.(map[string]any))
	}
	return list
}

// brief writes entries so that they can be compared.
func brief(entries []map[string]any) []string {
	list := []string{}
	for _, e := range entries {
		list = append(list, fmt.Sprintf("%s %s %s", e["action"], e["result"], e["userId"]))
	}
	return list
}

func TestAuditOfSignIns(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	owner := b.browser(t)
	owner.signIn(host, "root@pam")

	// Refused, and shown with the id that the trail has.
	in := input(host, "alice@pve")
	in["password"] = "the wrong one"
	refused := b.browser(t).json("/api/auth/login", in)
	id, _ := refused.json(t)["errorId"].(string)
	if refused.StatusCode != http.StatusUnauthorized || id == "" {
		t.Fatalf("a wrong password: %d %s", refused.StatusCode, refused.body)
	}
	// The same on the page.
	form := url.Values{"host": {in["host"].(string)}, "port": {fmt.Sprint(in["port"])}, "username": {"alice"}, "realm": {"pve"}, "password": {"wrong again"}}
	page := b.browser(t).form("/login", form)
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	if r := alice.json("/api/auth/logout", struct{}{}); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-out: %d", r.StatusCode)
	}
	alice.signIn(host, "alice@pve")

	mine := alice.entries("")
	want := []string{"sign_in ok alice@pve", "sign_out ok alice@pve", "sign_in ok alice@pve", "sign_in refused alice@pve", "sign_in refused alice@pve"}
	if got := brief(mine); !slices.Equal(got, want) {
		t.Fatalf("alice sees\n%q, want\n%q", got, want)
	}
	if got := mine[4]["errorId"]; got != id {
		t.Errorf("the trail has error id %v, the visitor saw %q", got, id)
	}
	if got, _ := mine[3]["errorId"].(string); got == "" || !strings.Contains(page.body, got) {
		t.Errorf("the page shows another error id than the trail's %q", got)
	}
	for _, e := range mine {
		if e["address"] != "127.0.0.1" || e["target"] != host.Address() || e["time"] == "" || e["datacenter"] == "" {
			if e["action"] != "sign_out" {
				t.Errorf("entry %v", e)
			}
		}
	}
	all := owner.entries("")
	want = append(want, "installation_claim ok root@pam")
	if got := brief(all); !slices.Contains(got, want[0]) || !slices.Contains(got, want[5]) || len(got) != 7 {
		t.Errorf("the owner sees %q", got)
	}
	if text := fmt.Sprint(all); strings.Contains(text, "wrong") && strings.Contains(text, "the wrong one") || strings.Contains(text, sim.DefaultPassword) {
		t.Error("a password is in the trail")
	}
}

func TestAuditOfSecondFactor(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	b.browser(t).signIn(host, "root@pam")
	browser := b.browser(t)
	challenge := func() string {
		t.Helper()
		r := browser.json("/api/auth/login", input(host, "bob@pve"))
		tfa, _ := r.json(t)["tfa"].(map[string]any)
		if r.StatusCode != http.StatusOK || tfa == nil {
			t.Fatalf("first step: %d %s", r.StatusCode, r.body)
		}
		return tfa["challenge"].(string)
	}
	c := challenge()
	wrong := browser.json("/api/auth/tfa", map[string]any{"challenge": c, "kind": "totp", "code": "000000"})
	if wrong.StatusCode != http.StatusUnauthorized {
		t.Fatalf("a wrong code: %d %s", wrong.StatusCode, wrong.body)
	}
	right := browser.json("/api/auth/tfa", map[string]any{"challenge": c, "kind": "totp", "code": sim.TOTP(sim.DefaultTOTPSecret, b.now())})
	if right.StatusCode != http.StatusOK {
		t.Fatalf("the right code: %d %s", right.StatusCode, right.body)
	}
	got := browser.entries("")
	if want := []string{"sign_in ok bob@pve", "second_factor refused bob@pve"}; !slices.Equal(brief(got), want) {
		t.Fatalf("bob sees %q, want %q", brief(got), want)
	}
	if got[1]["errorId"] != wrong.json(t)["errorId"] || got[0]["detail"] != "with a second factor: totp" {
		t.Errorf("entries %v", got)
	}
}

// An owner reads everybody's sign-ins, sessions, hosts and keys, and nothing of what others do with their containers.
func TestAuditCategories(t *testing.T) {
	b := newBenchWith(t, claimed)
	dc, host := b.newHost(t, sim.Options{})
	if err := dc.AddUser(sim.User{ID: "grace@pve", Password: sim.DefaultPassword}); err != nil {
		t.Fatal(err)
	}
	owner, alice, grace := b.browser(t), b.browser(t), b.browser(t)
	owner.signIn(host, "root@pam")
	alice.signIn(host, "alice@pve")
	grace.signIn(host, "grace@pve")
	identity := b.identity(t, alice)
	b.trail.Record(t.Context(), audit.Entry{Identity: identity, Action: "container_start", Target: "CT 101"})
	b.trail.Record(t.Context(), audit.Entry{Action: audit.KeyRotate})

	if got := brief(alice.entries("")); !slices.Equal(got, []string{"container_start ok alice@pve", "sign_in ok alice@pve"}) {
		t.Errorf("alice sees %q", got)
	}
	if got := brief(grace.entries("")); !slices.Equal(got, []string{"sign_in ok grace@pve"}) {
		t.Errorf("grace sees %q", got)
	}
	got := brief(owner.entries(""))
	if slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "container") }) || !slices.Contains(got, "key_rotate ok ") || !slices.Contains(got, "sign_in ok grace@pve") {
		t.Errorf("the owner sees %q", got)
	}
	if got := brief(owner.entries("?whose=mine")); !slices.Equal(got, []string{"sign_in ok root@pam", "installation_claim ok root@pam"}) {
		t.Errorf("of their own the owner sees %q", got)
	}
	for _, path := range []string{"/api/audit?whose=everyone", "/api/audit.jsonl?whose=everyone", "/settings/audit?whose=everyone"} {
		if r := alice.get(path); r.StatusCode != http.StatusForbidden {
			t.Errorf("%s for somebody who owns nothing: %d", path, r.StatusCode)
		}
	}
	// While the owner's host does not answer they still read their own.
	host.SetFault("GET", "/access/permissions", sim.Fault{Status: 500})
	b.advance(time.Minute)
	if got := brief(owner.entries("")); len(got) != 2 {
		t.Errorf("while the host is ill the owner sees %q", got)
	}
}

func TestAuditFilterAndPages(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	identity := b.identity(t, alice)
	for i := range 130 {
		b.trail.Record(t.Context(), audit.Entry{Identity: identity, Action: audit.SessionEnd, Target: fmt.Sprintf("device %03d", i)})
	}
	var seen []string
	next := ""
	for range 10 {
		r := alice.get("/api/audit?action=session_end&limit=50&before=" + next).json(t)
		for _, item := range r["items"].([]any) {
			seen = append(seen, item.(map[string]any)["target"].(string))
		}
		var more bool
		if next, more = r["next"].(string); !more {
			break
		}
	}
	if len(seen) != 130 || seen[0] != "device 129" || seen[129] != "device 000" || !slices.IsSortedFunc(seen, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("pages held %d: %v", len(seen), seen)
	}
	if got := alice.entries("?q=device+07"); len(got) != 10 {
		t.Errorf("a search found %d, want 10", len(got))
	}
	today := b.now().UTC().Format(time.DateOnly)
	yesterday := b.now().UTC().Add(-24 * time.Hour).Format(time.DateOnly)
	for query, want := range map[string]int{"?from=" + today: 50, "?to=" + yesterday: 0, "?from=" + yesterday + "&to=" + today + "&action=sign_in": 1, "?result=refused": 0} {
		if got := alice.entries(query); len(got) != want {
			t.Errorf("%s lets %d through, want %d", query, len(got), want)
		}
	}
	for _, query := range []string{"action=x", "result=x", "from=x", "to=99999-01-01", "before=x", "before=-1", "limit=0", "limit=201", "whose=x", "q=" + strings.Repeat("x", 201)} {
		if r := alice.get("/api/audit?" + query); r.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", query, r.StatusCode, r.body)
		}
		if r := alice.get("/settings/audit?" + query); r.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("page with %s: %d", query, r.StatusCode)
		}
	}
	// The page has the same, with a way to what is older that keeps the filter.
	r := alice.get("/settings/audit?action=session_end")
	if r.StatusCode != http.StatusOK || !strings.Contains(r.body, "device 129") || strings.Contains(r.body, "device 001") || !strings.Contains(r.body, "action=session_end&amp;before=") {
		t.Errorf("the page: %d", r.StatusCode)
	}
}

// A filter that can't be right leaves the page around it as it was, and does not say that nothing matches.
func TestAuditPageWithABadFilter(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	owner := b.browser(t)
	owner.signIn(host, "root@pam")
	for _, query := range []string{"from=2026-13-01", "whose=mine&from=x", "whose=x"} {
		r := owner.get("/settings/audit?" + query)
		for _, want := range []string{`aria-label="Whose entries"`, "can't be used as it is", `class="filter-fold" open`} {
			if r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(r.body, want) {
				t.Errorf("%s: %d, no %q", query, r.StatusCode, want)
			}
		}
		if strings.Contains(r.body, "No entry matches") {
			t.Errorf("%s: says that nothing matches", query)
		}
	}
}

func TestAuditExport(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	identity := b.identity(t, alice)
	const many = 1203 // more than two batches
	for i := range many {
		b.trail.Record(t.Context(), audit.Entry{Identity: identity, Action: audit.SessionEnd, Target: fmt.Sprint(i)})
	}
	r := alice.get("/api/audit.jsonl?action=session_end")
	if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/jsonl" || !strings.Contains(r.Header.Get("Content-Disposition"), "attachment") {
		t.Fatalf("export: %d %v", r.StatusCode, r.Header)
	}
	lines := bufio.NewScanner(strings.NewReader(r.body))
	n := many
	for lines.Scan() {
		var e struct{ Target, Action string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if n--; e.Target != fmt.Sprint(n) || e.Action != "session_end" {
			t.Fatalf("line %d is %+v", many-n, e)
		}
	}
	if n != 0 {
		t.Errorf("%d entries are missing", n)
	}
	if r := alice.get("/api/audit.jsonl?action=nothing"); r.StatusCode != http.StatusUnprocessableEntity || r.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("a bad filter: %d %s", r.StatusCode, r.body)
	}
}

func TestAuditIsKeptAsLongAsSet(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	b.browser(t).signIn(host, "alice@pve")
	b.advance(audit.DefaultKept - time.Minute)
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	if got := alice.entries("?action=sign_in"); len(got) != 2 {
		t.Errorf("before its time: %d sign-ins, want 2", len(got))
	}
	b.advance(2 * time.Minute)
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := alice.entries("?action=sign_in"); len(got) != 1 {
		t.Errorf("after 90 days: %d sign-ins, want 1", len(got))
	}
}

// Of a certificate that the authorities vouch for, the trail does not claim to know that its key is the one of before.
func TestAbuseOtherKeyIsNoRenewal(t *testing.T) {
	authority := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(authority.certificate)
	loopback, again := forLoopback, forLoopback
	first, second := authority.issue(t, &loopback), authority.issue(t, &again)
	host := newHostile(t, first, plausible(nil))
	b := newBenchWith(t, func(s *config.Settings) { s.Roots = pool })
	in := map[string]any{"host": "127.0.0.1", "port": host.port(), "username": "m@pve", "password": "x"}
	if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-in: %d %s", r.StatusCode, r.body)
	}
	host.change(second)
	b.stop() // with it the connections of before
	b.begin(t)
	who := b.browser(t)
	if r := who.json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-in: %d %s", r.StatusCode, r.body)
	}
	var same, verified int
	if err := b.count(t, &same, "SELECT COUNT(*) FROM audit WHERE detail LIKE '%same key%'"); err != nil || same != 0 {
		t.Errorf("the same key, says the trail %d times, %v", same, err)
	}
	err := b.count(t, &verified, "SELECT COUNT(*) FROM audit WHERE action = 'host_certificate' AND detail LIKE '%of whatever key, that the certificate authorities verify%'")
	if err != nil || verified != 1 {
		t.Errorf("the trail tells of the new certificate %d times, %v", verified, err)
	}
}

// Another installation's root@pam does not look like the owner, in the API, in the export and on the page.
func TestAbuseNamesakeInTheTrail(t *testing.T) {
	b := newBench(t)
	_, mine := b.newHost(t, sim.Options{})
	_, other := b.newHost(t, sim.Options{})
	b.stop()
	b.change = func(s *config.Settings) {
		s.LoginHosts.Mode = config.ListedHosts
		for _, host := range []*sim.Host{mine, other} {
			at, err := addressOf(host)
			if err != nil {
				t.Fatal(err)
			}
			s.LoginHosts.List = append(s.LoginHosts.List, at)
		}
	}
	b.begin(t)
	owner, namesake := b.browser(t), b.browser(t)
	owner.signIn(mine, "root@pam")
	namesake.signIn(other, "root@pam")
	if r := namesake.json("/api/auth/logout", struct{}{}); r.StatusCode != http.StatusOK {
		t.Fatalf("sign-out: %d", r.StatusCode)
	}
	got := owner.entries("?action=sign_out")
	if len(got) != 1 || got[0]["userId"] != "root@pam" || got[0]["host"] != other.Address() {
		t.Errorf("the API tells of the namesake %v", got)
	}
	if got := owner.entries("?action=sign_in&whose=everyone"); len(got) != 2 || got[0]["host"] != other.Address() || got[1]["host"] != mine.Address() {
		t.Errorf("the API tells of both %v", got)
	}
	if r := owner.get("/api/audit.jsonl?action=sign_out"); !strings.Contains(r.body, `"host":"`+other.Address()+`"`) {
		t.Errorf("the export: %d %s", r.StatusCode, r.body)
	}
	if r := owner.get("/settings/audit?action=sign_out"); !strings.Contains(r.body, `of <bdi class="address">`+other.Address()) {
		t.Errorf("the page does not tell where the namesake is from: %d", r.StatusCode)
	}
}

// identity is who a browser is signed in as.
func (b *bench) identity(t *testing.T, who *browser) session.Identity {
	t.Helper()
	s, err := b.sessions.Find(t.Context(), who.token())
	if err != nil {
		t.Fatal(err)
	}
	return s.Identity
}
