package sim

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

func (w *world) secondStep(user string, challenge who, response string) reading {
	w.Helper()
	return w.call(who{}, "POST", "/access/ticket", url.Values{"username": {user}, "tfa-challenge": {challenge.ticket}, "password": {response}})
}

func TestTicketAge(t *testing.T) {
	w := newWorld(t, Options{})
	as := w.mustLogin("alice@pve")
	issued := w.now()
	for _, tt := range []struct {
		age    time.Duration
		status int
	}{
		{0, 200}, {time.Hour, 200}, {7199 * time.Second, 200}, {7200 * time.Second, 401},
		{-299 * time.Second, 200}, {-300 * time.Second, 401},
	} {
		w.advance(issued.Add(tt.age).Sub(w.now()))
		if got := w.call(as, "GET", "/version", nil); got.status != tt.status {
			t.Errorf("ticket at age %v: %d %s", tt.age, got.status, got.reason)
		}
		w.advance(issued.Add(tt.age).Sub(w.now()))
		valid := w.dc.verifyCSRFToken(as.csrf, "alice@pve", w.now())
		if valid != (tt.status == 200) {
			t.Errorf("CSRF token at age %v: %v", tt.age, valid)
		}
	}
}

func TestTicketForm(t *testing.T) {
	w := newWorld(t, Options{})
	as := w.mustLogin("alice@pve")
	text, signature, _ := strings.Cut(as.ticket, "::")
	if want := fmt.Sprintf("PVE:alice@pve:%08X", w.now().Unix()); text != want || len(signature) != 344 {
		t.Errorf("ticket %s, signature of %d characters", text, len(signature))
	}
	stamp, digest, _ := strings.Cut(as.csrf, ":")
	if stamp != fmt.Sprintf("%08X", w.now().Unix()) || len(digest) != 43 {
		t.Errorf("CSRF token with stamp %s and digest of %d characters", stamp, len(digest))
	}
	if again := w.mustLogin("alice@pve"); again != as {
		t.Error("within one second a ticket comes out the same")
	}
}

func TestForgedTickets(t *testing.T) {
	w := newWorld(t, Options{})
	as := w.mustLogin("alice@pve")
	other := newWorld(t, Options{})
	foreign := other.mustLogin("alice@pve")
	text, signature, _ := strings.Cut(as.ticket, "::")
	_, challenge := w.login("bob@pve", DefaultPassword)
	half := challenge.data.(map[string]any)["ticket"].(string)
	for name, ticket := range map[string]string{
		"another datacenter's":    foreign.ticket,
		"another user's name":     strings.Replace(as.ticket, "alice", "bob", 1),
		"root's name":             strings.Replace(as.ticket, "alice@pve", rootUser, 1),
		"a later time":            fmt.Sprintf("PVE:alice@pve:%08X::%s", w.now().Unix()+60, signature),
		"no signature":            text + "::",
		"a signature with a tail": as.ticket + "AAAA",
		"a challenge":             half,
		"a challenge, decoded":    unescape(half),
		"an empty user":           "PVE::" + signature,
		"nonsense":                "x",
	} {
		got := w.call(who{ticket: ticket}, "GET", "/version", nil)
		if got.status != 401 || got.reason != "Authentication failed!" || got.body != "" {
			t.Errorf("%s: %d %s %q", name, got.status, got.reason, got.body)
		}
	}
}

func TestCSRF(t *testing.T) {
	w := newWorld(t, Options{})
	alice, root := w.mustLogin("alice@pve"), w.mustLogin("root@pam")
	path := "/access/users/alice@pve/token/"
	for name, tt := range map[string]struct {
		as     who
		status int
	}{
		"none":        {who{ticket: alice.ticket}, 401},
		"wrong":       {who{ticket: alice.ticket, csrf: alice.csrf + "x"}, 401},
		"another's":   {who{ticket: alice.ticket, csrf: root.csrf}, 401},
		"its own":     {alice, 200},
		"of the user": {who{ticket: alice.ticket, csrf: w.dc.newCSRFToken("alice@pve", w.now().Add(-time.Hour))}, 200},
	} {
		got := w.call(tt.as, "POST", path+"t"+strings.ReplaceAll(strings.ReplaceAll(name, " ", ""), "'", ""), url.Values{})
		if got.status != tt.status || tt.status == 401 && (got.reason != "Permission denied - invalid csrf token" || got.body != "") {
			t.Errorf("%s: %d %s %q", name, got.status, got.reason, got.body)
		}
	}
}

func TestRenewal(t *testing.T) {
	w := newWorld(t, Options{})
	alice := w.mustLogin("alice@pve")
	_, got := w.login("bob@pve", DefaultPassword)
	half := who{ticket: got.data.(map[string]any)["ticket"].(string)}
	got = w.secondStep("bob@pve", half, "totp:"+TOTP(DefaultTOTPSecret, w.now()))
	bob := got.data.(map[string]any)["ticket"].(string)

	w.advance(time.Hour)
	renewed, got := w.login("alice@pve", alice.ticket)
	if got.status != 200 || renewed.ticket == alice.ticket || renewed.csrf == alice.csrf {
		t.Fatalf("renewal: %d %s", got.status, got.reason)
	}
	if again, got := w.login("bob@pve", bob); got.status != 200 || again.ticket == "" || got.data.(map[string]any)["NeedTFA"] != nil {
		t.Errorf("renewal with a second factor: %d %s", got.status, got.body)
	}
	w.advance(time.Hour + time.Second)
	if _, got := w.login("alice@pve", alice.ticket); got.status != 401 {
		t.Errorf("renewal with an expired ticket: %d", got.status)
	}
	if got := w.call(renewed, "GET", "/version", nil); got.status != 200 {
		t.Errorf("the renewed ticket: %d %s", got.status, got.reason)
	}
	root := w.mustLogin("root@pam")
	if _, got := w.login("alice@pve", root.ticket); got.status != 200 {
		t.Errorf("root@pam's ticket makes one for alice: %d %s", got.status, got.reason)
	}
	if _, got := w.login("carol@pve", root.ticket); got.status != 401 {
		t.Errorf("root@pam's ticket for a disabled user: %d %s", got.status, got.reason)
	}
	if _, got := w.login("root@pam", renewed.ticket); got.status != 401 {
		t.Errorf("alice's ticket for root@pam: %d %s", got.status, got.reason)
	}
}

func TestDisablingWorksAtOnce(t *testing.T) {
	w := newWorld(t, Options{})
	as := w.mustLogin("alice@pve")
	secret, err := w.dc.AddToken("alice@pve", "dash", false, time.Time{})
	w.ok(err)
	token := who{token: "alice@pve!dash=" + secret}
	for _, c := range []who{as, token} {
		if got := w.call(c, "GET", "/version", nil); got.status != 200 {
			t.Fatalf("before: %d %s", got.status, got.reason)
		}
	}
	w.ok(w.dc.DisableUser("alice@pve"))
	for _, c := range []who{as, token} {
		w.expect(w.call(c, "GET", "/version", nil), 401, "Authentication failed!")
	}
	if _, got := w.login("alice@pve", as.ticket); got.status != 401 {
		t.Errorf("renewal of a disabled user: %d", got.status)
	}
}

func TestAccountExpiry(t *testing.T) {
	w := newWorld(t, Options{})
	w.ok(w.dc.AddUser(User{ID: "temp@pve", Password: DefaultPassword, Expire: w.now().Add(time.Hour)}))
	as := w.mustLogin("temp@pve")
	w.advance(time.Hour)
	w.expect(w.call(as, "GET", "/version", nil), 401, "Authentication failed!")
	if _, got := w.login("dave@pve", DefaultPassword); got.status != 401 {
		t.Errorf("dave's account expired long ago: %d", got.status)
	}
}

func TestSecondFactor(t *testing.T) {
	w := newWorld(t, Options{})
	challenge := func() who {
		t.Helper()
		half, got := w.login("bob@pve", DefaultPassword)
		m := got.data.(map[string]any)
		if got.status != 200 || m["NeedTFA"] != 1.0 || m["cap"] != nil {
			t.Fatalf("first step: %d %s", got.status, got.body)
		}
		return half
	}
	code := func(after time.Duration) string { return "totp:" + TOTP(DefaultTOTPSecret, w.now().Add(after)) }
	step := func(name string, half who, response string, want int) {
		t.Helper()
		w.takeHeld()
		got := w.secondStep("bob@pve", half, response)
		if got.status != want {
			t.Errorf("%s: %d %s", name, got.status, got.reason)
		}
		if slow := w.takeHeld() > 0; slow != (want == 401) {
			t.Errorf("%s: slow is %v", name, slow)
		}
	}
	half := challenge()
	if want := `PVE:!tfa!{"totp"%3Atrue,"recovery"%3A[0,1,2,3,4,5,6,7,8,9]}:`; !strings.HasPrefix(half.ticket, want) {
		t.Errorf("challenge %s", half.ticket[:min(len(half.ticket), len(want))])
	}
	step("the code of two steps ago", half, code(-time.Minute), 401)
	step("the code of two steps ahead", half, code(time.Minute), 401)
	step("the code of the last step", half, code(-30*time.Second), 200)
	step("the same again", half, code(-30*time.Second), 401)
	step("the code of this step, with the challenge used before", half, code(0), 200)
	step("the code of the next step", half, code(30*time.Second), 200)
	step("an older code than the newest used", half, code(0), 401)
	w.advance(5 * time.Minute)
	step("without its kind", half, strings.TrimPrefix(code(0), "totp:"), 401)
	step("an unknown kind", half, "yubico:abc", 401)
	if got := w.secondStep("alice@pve", half, code(0)); got.status != 401 {
		t.Errorf("bob's challenge for alice: %d", got.status)
	}
	w.ok(w.dc.AddUser(User{ID: "frank@pve", Password: DefaultPassword, TOTPSecret: DefaultTOTPSecret}))
	if got := w.secondStep("frank@pve", half, code(0)); got.status != 401 {
		t.Errorf("bob's challenge for frank, who could answer it: %d", got.status)
	}
	both := url.Values{"username": {"bob@pve"}, "tfa-challenge": {half.ticket}, "password": {code(0)}, "otp": {code(0)}}
	if got := w.call(who{}, "POST", "/access/ticket", both); got.status != 401 {
		t.Errorf("otp beside a challenge: %d", got.status)
	}
	step("the code that nobody used so far", half, code(0), 200)
	w.advance(2 * time.Hour)
	step("with an expired challenge", half, code(0), 401)

	half = challenge()
	codes := DefaultRecoveryCodes()
	step("a recovery code", half, "recovery:"+codes[3], 200)
	step("the same recovery code", half, "recovery:"+codes[3], 401)
	if want := `"recovery"%3A[0,1,2,4,5,6,7,8,9]`; !strings.Contains(challenge().ticket, want) {
		t.Errorf("the next challenge lacks %s", want)
	}
}

func TestTOTPLocks(t *testing.T) {
	w := newWorld(t, Options{})
	half, _ := w.login("bob@pve", DefaultPassword)
	good := func() string { return "totp:" + TOTP(DefaultTOTPSecret, w.now()) }
	wrong := "totp:" + TOTP(DefaultTOTPSecret, w.now().Add(-time.Hour))
	for range totpFailureLimit - 1 {
		w.secondStep("bob@pve", half, wrong)
	}
	if got := w.secondStep("bob@pve", half, good()); got.status != 200 {
		t.Fatalf("after seven failures: %d", got.status)
	}
	w.advance(time.Minute)
	for range totpFailureLimit {
		w.secondStep("bob@pve", half, wrong)
	}
	if got := w.secondStep("bob@pve", half, good()); got.status != 401 {
		t.Errorf("after eight failures: %d", got.status)
	}
	root := w.mustLogin("root@pam")
	if got := w.call(root, "GET", "/access/users", nil); !strings.Contains(got.body, `"totp-locked":1`) {
		t.Errorf("users: %s", got.body)
	}
	if got := w.secondStep("bob@pve", half, "recovery:"+DefaultRecoveryCodes()[0]); got.status != 200 {
		t.Errorf("recovery: %d", got.status)
	}
	if got := w.secondStep("bob@pve", half, good()); got.status != 200 {
		t.Errorf("after recovery: %d", got.status)
	}
}

func TestSecondFactorsLockAltogether(t *testing.T) {
	f, err := newFactors("", DefaultRecoveryCodes(), false)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for range tfaFailureLimit {
		if f.verify(f.challenge(), "recovery:ffff-ffff-ffff-ffff", now) == nil {
			t.Fatal("accepted")
		}
	}
	good := "recovery:" + DefaultRecoveryCodes()[0]
	if f.verify(f.challenge(), good, now.Add(tfaLockTime-time.Second)) == nil {
		t.Error("accepted while locked")
	}
	if f.verify(f.challenge(), good, now.Add(tfaLockTime)) != nil {
		t.Error("refused when the lock has ended")
	}
}

// TestTOTPVectors are the SHA-1 rows of RFC 6238, appendix B, with the last six of their eight digits.
func TestTOTPVectors(t *testing.T) {
	const secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // 12345678901234567890
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if got := TOTP(secret, time.Unix(at, 0)); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
	if TOTP("not base32!", time.Now()) != "" || TOTP("", time.Now()) != "" {
		t.Error("an invalid secret has a code")
	}
}

func TestTokens(t *testing.T) {
	w := newWorld(t, Options{})
	as := w.mustLogin("alice@pve")
	got := w.call(as, "POST", "/access/users/alice@pve/token/narrow", url.Values{"comment": {"c"}, "expire": {fmt.Sprint(w.now().Unix() + 60)}})
	m := got.data.(map[string]any)
	narrow := who{token: m["full-tokenid"].(string) + "=" + m["value"].(string)}
	if len(m["value"].(string)) != 36 {
		t.Errorf("value of %d characters", len(m["value"].(string)))
	}
	got = w.call(as, "POST", "/access/users/alice@pve/token/wide", url.Values{"privsep": {"0"}})
	wide := who{token: "alice@pve!wide=" + got.data.(map[string]any)["value"].(string)}

	if got := w.call(narrow, "GET", "/access/permissions", nil); got.body != `{"data":{}}` {
		t.Errorf("a separated token without entries: %s", got.body)
	}
	own := w.call(as, "GET", "/access/permissions", nil)
	if got := w.call(wide, "GET", "/access/permissions", nil); got.body != own.body || !strings.Contains(own.body, "/vms/102") {
		t.Errorf("a token that is not separated: %s, its user: %s", got.body, own.body)
	}
	list := w.call(as, "GET", "/access/users/alice@pve/token", nil)
	if strings.Contains(list.body, m["value"].(string)) || !strings.Contains(list.body, `"tokenid":"narrow"`) {
		t.Errorf("list: %s", list.body)
	}
	spaced := who{token: narrow.token}
	r, _ := http.NewRequest("GET", w.host.URL()+"/api2/json/version", nil)
	r.Header.Set("Authorization", "PVEAPIToken "+spaced.token)
	if got := w.do(w.client, r); got.status != 200 {
		t.Errorf("a blank in place of the first =: %d %s", got.status, got.reason)
	}
	w.expect(w.call(narrow, "PUT", "/access/password", url.Values{}), 403,
		"Permission check failed (URI '/access/password' not available with API token, need proper ticket.")
	w.expect(w.call(narrow, "GET", "/access/users/alice@pve/token", nil), 403, "Permission check failed")
	w.advance(61 * time.Second)
	w.expect(w.call(narrow, "GET", "/version", nil), 401, "Authentication failed!")

	const path = "/access/users/alice@pve/token/narrow"
	later := w.now().Unix() + 3600
	want := fmt.Sprintf(`{"data":{"comment":"c","expire":%d,"privsep":1}}`, later)
	if got := w.call(as, "PUT", path, url.Values{"expire": {fmt.Sprint(later)}}); got.body != want {
		t.Errorf("a later expiry: %s, want %s", got.body, want)
	}
	w.expect(w.call(narrow, "GET", "/version", nil), 200, "OK")
	if got := w.call(narrow, "GET", "/access/permissions", nil); got.body != `{"data":{}}` {
		t.Errorf("it has gained privileges: %s", got.body)
	}
	w.expect(w.call(narrow, "PUT", path, url.Values{"expire": {"0"}}), 403, "Permission check failed")
	if got := w.call(as, "PUT", path, url.Values{"privsep": {"0"}, "expire": {"0"}, "comment": {"d"}}); got.body != `{"data":{"comment":"d","expire":0,"privsep":0}}` {
		t.Errorf("everything changed: %s", got.body)
	}
	if got := w.call(narrow, "GET", "/access/permissions", nil); got.body != own.body {
		t.Errorf("no longer separated: %s", got.body)
	}
	w.expect(w.call(as, "PUT", "/access/users/alice@pve/token/gone", url.Values{}), 500, "no such token 'gone' for user 'alice@pve'")
	if got := w.call(as, "DELETE", "/access/users/alice@pve/token/wide", nil); got.body != `{"data":null}` {
		t.Errorf("delete: %d %s", got.status, got.body)
	}
	w.expect(w.call(wide, "GET", "/version", nil), 401, "Authentication failed!")
	w.expect(w.call(as, "POST", "/access/users/alice@pve/token/%20", url.Values{}), 400, "Parameter verification failed.")
	w.expect(w.call(as, "POST", "/access/users/bob@pve/token/t", url.Values{}), 403, "Permission check failed")
}

func TestPasswordChange(t *testing.T) {
	w := newWorld(t, Options{})
	as := w.mustLogin("alice@pve")
	change := func(as who, form url.Values) reading { return w.call(as, "PUT", "/access/password", form) }
	w.expect(change(as, url.Values{"userid": {"alice@pve"}, "password": {"new-password"}, "confirmation-password": {"wrong"}}), 500, "authentication failure")
	w.expect(change(as, url.Values{"userid": {"bob@pve"}, "password": {"new-password"}, "confirmation-password": {DefaultPassword}}), 403, "Permission check failed")
	w.expect(change(as, url.Values{"userid": {"alice@pve"}, "password": {"new-password"}, "confirmation-password": {DefaultPassword}}), 200, "OK")
	if _, got := w.login("alice@pve", "new-password"); got.status != 200 {
		t.Errorf("the new password: %d", got.status)
	}
	if _, got := w.login("alice@pve", DefaultPassword); got.status != 401 {
		t.Errorf("the old password: %d", got.status)
	}
	w.expect(w.call(as, "GET", "/version", nil), 200, "OK") // PVE has no logout
	w.expect(change(w.mustLogin("root@pam"), url.Values{"userid": {"bob@pve"}, "password": {"new-password"}}), 200, "OK")
}

func TestAnswersDependOnPrivileges(t *testing.T) {
	w := newWorld(t, Options{})
	w.ok(w.dc.AddGroup("staff", "the staff"))
	w.ok(w.dc.AddUser(User{ID: "erin@pve", Password: DefaultPassword, Groups: []string{"staff"}}))
	w.ok(w.dc.AddUser(User{ID: "lead@pve", Password: DefaultPassword}))
	w.ok(w.dc.Grant(ACL{User: "lead@pve", Path: "/access/groups/staff", Role: "PVEUserAdmin"}))
	alice, root, lead := w.mustLogin("alice@pve"), w.mustLogin("root@pam"), w.mustLogin("lead@pve")
	names := func(got reading, key string) []string {
		var list []string
		for _, item := range got.data.([]any) {
			list = append(list, item.(map[string]any)[key].(string))
		}
		return list
	}
	for _, tt := range []struct {
		as        who
		path, key string
		want      []string
	}{
		{alice, "/access/users", "userid", []string{"alice@pve"}},
		{lead, "/access/users", "userid", []string{"erin@pve", "lead@pve"}},
		{root, "/access/users", "userid", []string{"alice@pve", "bob@pve", "carol@pve", "dave@pve", "erin@corp", "erin@pve", "frank@campus", "lead@pve", "root@pam"}},
		{root, "/access/users?enabled=0", "userid", []string{"carol@pve"}},
		{alice, "/access/groups", "groupid", nil},
		{lead, "/access/groups", "groupid", []string{"staff"}},
		{alice, "/access/acl", "path", nil},
		{root, "/access/acl", "path", []string{"/access/groups/staff", "/vms", "/vms", "/vms/101", "/vms/102", "/vms/104"}},
		{alice, "/nodes", "node", []string{"pve1"}},
	} {
		if got := names(w.call(tt.as, "GET", tt.path, nil), tt.key); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.path, got, tt.want)
		}
	}
	w.expect(w.call(alice, "GET", "/access/users/bob@pve", nil), 403, "Permission check failed")
	w.expect(w.call(lead, "GET", "/access/users/erin@pve", nil), 200, "OK")
	w.expect(w.call(alice, "GET", "/cluster/status", nil), 403, "Permission check failed (/, Sys.Audit)")
	w.expect(w.call(alice, "GET", "/access/permissions", url.Values{"userid": {"bob@pve"}}), 403, "Permission check failed (/access, Sys.Audit)")
	if got := w.call(root, "GET", "/access/permissions", url.Values{"userid": {"alice@pve"}, "path": {"/vms/103"}}); got.body != `{"data":{"/vms/103":{}}}` {
		t.Errorf("alice on /vms/103: %s", got.body)
	}
	if got := w.call(root, "GET", "/access/permissions", url.Values{"userid": {"alice@pve"}}); len(got.data.(map[string]any)) != 2 {
		t.Errorf("alice: %s", got.body)
	}
	if got := w.call(alice, "GET", "/nodes", nil); strings.Contains(got.body, "uptime") {
		t.Errorf("alice sees figures: %s", got.body)
	}
	if got := w.call(root, "GET", "/nodes", nil); !strings.Contains(got.body, "uptime") {
		t.Errorf("root@pam sees no figures: %s", got.body)
	}
}

func TestClusterNameNeedsAudit(t *testing.T) {
	w := newWorld(t, Options{Name: "lab", Members: []string{"pve1", "pve2"}})
	for user, want := range map[string]any{"root@pam": "lab", "alice@pve": nil} {
		_, got := w.login(user, DefaultPassword)
		if name := got.data.(map[string]any)["clustername"]; name != want {
			t.Errorf("%s: cluster name %v", user, name)
		}
	}
}
