package sim

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// recordedReplies are exchanges with PVE's own code, kept outside of this repository.
const recordedReplies = "../../../../shared/pve/recorded-replies.json"

type recordedReply struct {
	Case, Method, Path, Params, Reason, Body string
	Status                                   int
	ContentType                              string `json:"content_type"`
	Seconds                                  float64
}

// TestRecordedReplies sends what was recorded, in the order in which it was, and compares status, reason phrase, content
// type, body and speed. What the recording replaced (signatures, digests) is replaced here too.
func TestRecordedReplies(t *testing.T) {
	text, err := os.ReadFile(recordedReplies)
	if os.IsNotExist(err) {
		t.Skipf("%s is not here: this test needs the recorded replies of a real host", recordedReplies)
	} else if err != nil {
		t.Fatal(err)
	}
	var recorded []recordedReply
	if err := json.Unmarshal(text, &recorded); err != nil {
		t.Fatal(err)
	}
	r := newReplay(t)
	for _, want := range recorded {
		t.Run(want.Case, func(t *testing.T) {
			r.T = t
			r.advance(time.Second)
			r.takeHeld()
			got := r.do(r.client, r.request(want))
			r.learn(want, got)
			r.expect(got, want.Status, want.Reason)
			if ct := got.header.Get("Content-Type"); ct != want.ContentType {
				t.Errorf("content type %q, want %q", ct, want.ContentType)
			}
			held := r.takeHeld()
			if slow := want.Seconds >= 3; slow != (held > 2*time.Second) || held > 3*time.Second {
				t.Errorf("held back %v, recorded were %v s", held, want.Seconds)
			}
			compareBodies(t, got.body, want.Body)
		})
	}
}

// replay is the world of the recording: alice may do three things on /vms/101, bob has two factors, carol is disabled,
// old is expired.
type replay struct {
	*world
	alice, bobsChallenge who
	dash                 string
	usedTOTP             string
}

const replayRecoveryCode = "aaaa-bbbb-cccc-dddd"

func newReplay(t *testing.T) *replay {
	w := newWorld(t, Options{Empty: true})
	w.ok(w.dc.AddRole("Recorded", "VM.Audit", "VM.PowerMgmt", "VM.Console"))
	for _, u := range []User{
		{ID: "alice@pve", FirstName: "Alice", Email: "alice@example.org"},
		{ID: "bob@pve", TOTPSecret: DefaultTOTPSecret, RecoveryCodes: []string{replayRecoveryCode, "0000-1111-2222-3333"}},
		{ID: "carol@pve", Disabled: true},
		{ID: "old@pve", Expire: w.now().Add(-time.Hour)},
	} {
		u.Password = "secret123"
		w.ok(w.dc.AddUser(u))
	}
	w.ok(w.dc.Grant(ACL{User: "alice@pve", Path: "/vms/101", Role: "Recorded"}))
	w.ok(w.dc.Grant(ACL{User: "bob@pve", Path: "/vms/101", Role: "PVEVMUser"}))
	secret, err := w.dc.AddToken("alice@pve", "dash", false, time.Time{})
	w.ok(err)
	check := func(c *call) error { return c.need("/vms/"+c.param("vmid"), "VM.PowerMgmt") }
	w.dc.register(
		endpoint{
			method: "POST", path: "/testvm/{vmid}", check: check,
			params: []param{{name: "fail", kind: "string", enum: []string{"plain", "raise", "locked"}}},
			run: func(c *call) (any, error) {
				switch c.param("fail") {
				case "plain":
					return nil, plain("CT " + c.param("vmid") + " not running")
				case "locked":
					return nil, plain("CT is locked (backup)")
				case "raise":
					return nil, &reply{status: http.StatusNotFound, reason: "no such thing"}
				}
				return "UPID:pve1:00000001:00000001:00000001:vzstart:100:root@pam:", nil
			},
		},
		endpoint{method: "DELETE", path: "/testvm/{vmid}", check: check, run: func(*call) (any, error) { return nil, nil }},
	)
	return &replay{world: w, dash: "alice@pve!dash=" + secret}
}

var pythonPair = regexp.MustCompile(`'([^']*)': '((?:[^'\\]|\\.)*)'`)

// request rebuilds a recorded request. The recording tells parameters only; credentials follow from the case.
func (r *replay) request(rec recordedReply) *http.Request {
	r.Helper()
	body, contentType := "", "application/x-www-form-urlencoded"
	switch {
	case strings.HasPrefix(rec.Params, "{'"):
		form := url.Values{}
		for _, m := range pythonPair.FindAllStringSubmatch(rec.Params, -1) {
			form.Set(m[1], r.current(m[2]))
		}
		body = form.Encode()
	case strings.HasPrefix(rec.Params, `{"`):
		body, contentType = rec.Params, "application/json"
	case rec.Case == "bad content type":
		body, contentType = rec.Params, "text/plain"
	default:
		body = rec.Params
	}
	req, err := http.NewRequest(rec.Method, r.host.URL()+rec.Path, strings.NewReader(body))
	r.ok(err)
	if body != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if rec.Path == "/api2/json/access/ticket" && rec.Method == "POST" && rec.Case != "ticket w/ token header" ||
		rec.Path == "/api2/extjs/access/ticket" || rec.Case == "domains unauth" {
		return req
	}
	cookie, csrf, authorization := "PVEAuthCookie="+r.alice.ticket, r.alice.csrf, ""
	switch rec.Case {
	case "use !tfa! ticket as auth cookie":
		cookie = "PVEAuthCookie=" + r.bobsChallenge.ticket
	case "GET with cookie (url-encoded)":
		cookie = "PVEAuthCookie=" + url.QueryEscape(r.alice.ticket)
	case "GET with ticket in Authorization":
		cookie, authorization = "", cookie
	case "GET bad ticket":
		cookie = "PVEAuthCookie=PVE:alice@pve:6B04133E::AAAA"
	case "api token ok", "ticket w/ token header", "create token via token":
		cookie, csrf, authorization = "", "", "PVEAPIToken="+r.dash
	case "api token bad":
		cookie, csrf, authorization = "", "", "PVEAPIToken=alice@pve!dash=00000000-0000-0000-0000-000000000000"
	case "api token + bad cookie":
		cookie, csrf, authorization = "PVEAuthCookie=nonsense", "", "PVEAPIToken="+r.dash
	case "POST without CSRF":
		csrf = ""
	case "POST bad CSRF":
		csrf = "6B04133E:AAAA"
	}
	for name, value := range map[string]string{"Cookie": cookie, "CSRFPreventionToken": csrf, "Authorization": authorization} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	return req
}

// current puts what is valid now in place of a recorded ticket or code.
func (r *replay) current(value string) string {
	switch {
	case strings.HasPrefix(value, "PVE:!tfa!"):
		return r.bobsChallenge.ticket
	case strings.HasPrefix(value, "PVE:alice@pve:"):
		return r.alice.ticket
	case value == "totp:840966": // once good, then used up
		if r.usedTOTP == "" {
			r.usedTOTP = TOTP(DefaultTOTPSecret, r.now())
		}
		return "totp:" + r.usedTOTP
	case value == "totp:947561":
		r.advance(time.Minute)
		return "totp:" + TOTP(DefaultTOTPSecret, r.now())
	case value == "totp:000000":
		return "totp:" + TOTP(DefaultTOTPSecret, r.now().Add(-time.Hour))
	}
	return value
}

// learn keeps the tickets that later requests need.
func (r *replay) learn(rec recordedReply, got reading) {
	m, _ := got.data.(map[string]any)
	ticket, _ := m["ticket"].(string)
	csrf, _ := m["CSRFPreventionToken"].(string)
	switch rec.Case {
	case "login ok":
		r.alice = who{ticket: ticket, csrf: csrf}
	case "TFA login step1":
		r.bobsChallenge = who{ticket: ticket, csrf: csrf}
	}
}

var recordedStamp = regexp.MustCompile(`\b[0-9A-F]{8}\b`)

// compareBodies compares JSON by value. What differs for a good reason is made equal first; a recorded body that was
// cut is compared as far as it goes, by the names of its fields.
func compareBodies(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	wantErr := json.Unmarshal([]byte(want), &w)
	gotErr := json.Unmarshal([]byte(got), &g)
	switch {
	case !strings.HasPrefix(want, "{"):
		if got != want {
			t.Errorf("body %q, want %q", got, want)
		}
		return
	case gotErr != nil:
		t.Errorf("body is no JSON: %q", got)
		return
	case wantErr != nil:
		data, _ := g.(map[string]any)["data"].(map[string]any)
		if len(data) != 4 || data["cap"] == nil || data["NeedTFA"] != nil {
			t.Errorf("body %s, want one that begins %s", got, want)
		}
		vms, recorded, found := data["cap"].(map[string]any)["vms"], "", false
		if _, recorded, found = strings.Cut(want, `"vms":`); found {
			recorded, _, _ = strings.Cut(recorded, "}")
			var wantVMs any
			if json.Unmarshal([]byte(recorded+"}"), &wantVMs) != nil || !reflect.DeepEqual(vms, wantVMs) {
				t.Errorf("cap.vms %v, want %s}", vms, recorded)
			}
		}
		return
	}
	g, w = normalised("", g), normalised("", w)
	if !reflect.DeepEqual(g, w) {
		gt, _ := json.Marshal(g)
		wt, _ := json.Marshal(w)
		t.Errorf("body\n%s, want\n%s", gt, wt)
	}
}

// normalised replaces signatures, time stamps and what depends on the installation: its version, the comments of its
// realms, the order of lists, and capabilities, which the recording left out.
func normalised(name string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = normalised(k, v[k])
		}
		if name == "cap" {
			return "..."
		}
		return v
	case []any:
		byRealm := map[string]any{}
		for i, item := range v {
			v[i] = normalised("", item)
			if m, ok := item.(map[string]any); ok && m["realm"] != nil {
				byRealm[m["realm"].(string)] = m
			}
		}
		if len(byRealm) > 0 {
			return byRealm
		}
		return v
	case string:
		switch name {
		case "ticket":
			text, _, _ := strings.Cut(v, "::")
			text = recordedStamp.ReplaceAllString(text, "<time>")
			if challenge, ok := strings.CutPrefix(text, "PVE:!tfa!"); ok {
				challenge, _, _ = strings.Cut(challenge, ":<time>")
				var c map[string]any
				if json.Unmarshal([]byte(strings.ReplaceAll(challenge, "%3A", ":")), &c) != nil {
					return "unreadable challenge " + challenge
				}
				return c
			}
			return text
		case "CSRFPreventionToken":
			stamp, _, _ := strings.Cut(v, ":")
			return recordedStamp.ReplaceAllString(stamp, "<time>")
		case "value":
			if len(v) == 36 {
				return "<uuid>"
			}
		case "version", "release", "repoid", "comment":
			return "..."
		}
	}
	return v
}
