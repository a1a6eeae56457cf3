package pve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseTicket(t *testing.T) {
	for s, want := range map[string]string{
		alice.Value:                          "alice@pve",
		"PVE:root@pam:00000000::x":           "root@pam",
		"PVE:a@b@my-realm.1:FFFFFFFF::x=":    "a@b@my-realm.1",
		"PVE:jörg@pve:6B04133E::<signature>": "jörg@pve",
		"PVE:alice@pve!dash:6B04133E::x":     "alice@pve!dash",
		"":                                   "",
		"PVE":                                "",
		"PVE::6B04133E::x":                   "",
		"PVE:alice:6B04133E::x":              "",
		"PVE:@pve:6B04133E::x":               "",
		"PVE:alice@:6B04133E::x":             "",
		"PVE:alice@pve:6B04133E::":           "",
		"PVE:alice@pve:6B04133E:x":           "",
		"PVE:alice@pve:6B04133::x":           "",
		"PVE:alice@pve:6B04133EE::x":         "",
		"PVE:alice@pve:GGGGGGGG::x":          "",
		"PVE:alice@pve:+B04133E::x":          "",
		"PVE:alice@pve::x":                   "",
		"PVE:root\u202e@pam:6B04133E::x":     "",
		"PVE:al ice@pve:6B04133E::x":         "",
		"PVE:alice@pve:6B04133E::x\r\nX: y":  "",
		"PVE:alice@pve:6B04133E::\xff":       "",
		"PVEVNC:6B04133E::x":                 "",
		"PVE:!tfa!{}:6B04133E::x":            "",
		"PVE:!tfa!alice@pve:6B04133E::x":     "",
		testChallenge.Ticket:                 "",
		"PVE:alice@pve:6B04133E::" + strings.Repeat("x", 1<<15): "",
	} {
		user, issued, err := parseTicket(s)
		if user != want || (err == nil) != (want != "") {
			t.Errorf("parseTicket(%.80q) = %q, %v", s, user, err)
		}
		if err != nil && !issued.IsZero() {
			t.Errorf("parseTicket(%.80q) has a time with its error", s)
		}
	}
	issued, err := alice.IssuedAt()
	if want := time.Unix(0x6B04133E, 0); err != nil || !issued.Equal(want) {
		t.Errorf("issued at %v, %v; want %v", issued, err, want)
	}
}

func TestParseChallenge(t *testing.T) {
	wrap := func(json string) string {
		return "PVE:!tfa!" + strings.ReplaceAll(json, ":", "%3A") + ":6B041353::" + testSignature
	}
	for json, want := range map[string]Challenge{
		`{"totp":true,"recovery":[0,1]}`: {TOTP: true, Recovery: []int{0, 1}},
		`{"recovery":[]}`:                {Recovery: []int{}},
		`{}`:                             {},
		`{"totp":false,"recovery":null,"webauthn":null}`:     {},
		`{"totp":1,"yubico":"1","later":{"a":1}}`:            {TOTP: true, Yubico: true},
		`{"webauthn":{"publicKey":{"a":"b+c"}},"u2f":{}}`:    {WebAuthn: true, U2F: true},
		`{"webauthn":{"publicKey":"` + testSignature + `"}}`: {WebAuthn: true},
	} {
		got, err := parseChallenge("bob@pve", wrap(json))
		if err != nil {
			t.Errorf("%s: %v", json, err)
			continue
		}
		if got.UserID != "bob@pve" || got.Ticket != wrap(json) {
			t.Errorf("%s: user id or ticket is lost", json)
		}
		if got.TOTP != want.TOTP || got.Yubico != want.Yubico || got.WebAuthn != want.WebAuthn || got.U2F != want.U2F ||
			!slices.Equal(got.Recovery, want.Recovery) || (got.Recovery == nil) != (want.Recovery == nil) {
			t.Errorf("%s: TOTP %v Yubico %v WebAuthn %v U2F %v recovery %v", json, got.TOTP, got.Yubico, got.WebAuthn, got.U2F, got.Recovery)
		}
	}
	for _, s := range []string{
		"", alice.Value, wrap(`[]`), wrap(`null`), wrap(`{`), wrap(`"totp"`), wrap(`{"recovery":"x"}`), wrap(`{"recovery":[1.5]}`),
		wrap(`{"recovery":[` + strings.Repeat("1,", maxRecovery) + `1]}`), "PVE:!tfa!%zz:6B041353::x", "PVE:!tfa!{}:6B041353::", "PVE:!tfa!{}",
		wrap(strings.Repeat("[", 100)), wrap("{\"totp\":\n true}"),
	} {
		if _, err := parseChallenge("bob@pve", s); err == nil {
			t.Errorf("parseChallenge(%.80q) has no error", s)
		}
	}
	for _, user := range []string{"", "bob", "bob@", "@pve", "b ob@pve", "bob@pve\n", strings.Repeat("b", 200) + "@pve"} {
		if _, err := parseChallenge(user, testChallenge.Ticket); err == nil {
			t.Errorf("a challenge of %q has no error", user)
		}
	}
}

func TestAuthorize(t *testing.T) {
	for _, c := range []Credentials{
		Ticket{},
		Ticket{UserID: "bob@pve", Value: testChallenge.Ticket, CSRF: alice.CSRF},
		Ticket{UserID: "alice@pve", Value: alice.Value},
		Ticket{UserID: "alice@pve", Value: alice.Value, CSRF: "a\r\nX: y"},
		Ticket{UserID: "alice@pve", Value: alice.Value + strings.Repeat("x", maxHeaderSecret), CSRF: alice.CSRF},
		Token{},
		Token{ID: "alice@pve", Secret: "x"},
		Token{ID: "alice!dash", Secret: "x"},
		Token{ID: "alice@pve!", Secret: "x"},
		Token{ID: "alice@pve!da sh", Secret: "x"},
		Token{ID: "alice@pve!dash", Secret: ""},
		Token{ID: "alice@pve!dash", Secret: "a\r\nX: y"},
	} {
		r, err := http.NewRequest(http.MethodPost, "https://pve.lan", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.authorize(r); err == nil {
			t.Errorf("%v was accepted", c)
		}
	}
	h, f := pinned(t, always(ok(`{}`)))
	if _, err := h.Version(t.Context(), Ticket{UserID: "bob@pve", Value: testChallenge.Ticket, CSRF: alice.CSRF}); err == nil {
		t.Error("a challenge was used as a ticket")
	}
	if len(f.seen()) != 0 {
		t.Error("a challenge was sent as a ticket")
	}
}

// TestSecretsStaySecret: no way to print, log or marshal shows one.
func TestSecretsStaySecret(t *testing.T) {
	token := Token{ID: "alice@pve!dash", Secret: "5ec3e7-70ken"}
	challenge := testChallenge
	secrets := []string{alice.Value, alice.CSRF, testSignature, token.Secret, "!tfa!"}
	check := func(how, text string) {
		t.Helper()
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s shows %q: %s", how, s, text)
			}
		}
	}
	type wrapper struct {
		T Ticket
		K Token
		C Challenge
		P *Ticket
		S SignIn
		A any
	}
	whole := wrapper{alice, token, challenge, &alice, SignIn{Ticket: alice, Challenge: &challenge}, []Credentials{alice, token}}
	for _, v := range []any{alice, &alice, token, &token, challenge, &challenge, SignIn{Ticket: alice}, whole, &whole, []Ticket{alice}, map[string]Token{"a": token}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3v"} {
			check(fmt.Sprintf("%T with %s", v, verb), fmt.Sprintf(verb, v))
		}
		check("Sprint", fmt.Sprint(v))
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		check("slog", log.String())
		text, err := json.Marshal(v)
		check("json", string(text))
		if err == nil {
			t.Errorf("%T is marshalled: %s", v, text)
		}
	}
	if got := fmt.Sprintf("%v %+v %s", alice, token, challenge); got != "[ticket of alice@pve] [token alice@pve!dash] [challenge of bob@pve]" {
		t.Error(got)
	}
	if _, err := alice.MarshalText(); err == nil {
		t.Error("a ticket has a text")
	}
}

// TestHostRepeatsSecrets: a host that sends back what it was sent doesn't get it into an error.
func TestHostRepeatsSecrets(t *testing.T) {
	echo := func(_ int, r *http.Request, body string) string {
		all := body + " " + r.Header.Get("Cookie") + " " + r.Header.Get("CSRFPreventionToken") + " " + r.Header.Get("Authorization")
		if values, err := url.ParseQuery(body); err == nil {
			all += fmt.Sprint(values)
		}
		text, _ := json.Marshal(all)
		return "HTTP/1.1 400 " + all + "\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" +
			fmt.Sprintf(`{"data":null,"message":%s,"errors":{"a":%s,%s:"b"}}`, text, text, text)
	}
	token := Token{ID: "alice@pve!dash", Secret: "5ec3e7-70ken"}
	for name, call := range everyCall {
		h, _ := pinned(t, echo)
		err := call(t.Context(), h)
		e := wantKind(t, err, KindInvalidParameters)
		for _, text := range []string{e.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e)} {
			for _, secret := range []string{alice.Value, url.QueryEscape(alice.Value), alice.CSRF, testSignature, "s e+c=r&e%t", url.QueryEscape("s e+c=r&e%t"), "012345", token.Secret, "12345678-aaaa"} {
				if strings.Contains(text, secret) {
					t.Errorf("%s: the error shows %q: %s", name, secret, text)
				}
			}
		}
	}
}

func FuzzTicket(f *testing.F) {
	f.Add(alice.Value)
	f.Add(testChallenge.Ticket)
	f.Add("PVE:a@b:00000000::x")
	f.Add("PVEVNC:6B04133E::x")
	f.Fuzz(func(t *testing.T, s string) {
		user, issued, err := parseTicket(s)
		if err != nil {
			return
		}
		if !validUserID(user) || strings.HasPrefix(s, challengePrefix) || issued.Unix() < 0 || issued.Unix() > 1<<32 {
			t.Fatalf("parseTicket(%q) = %q, %v", s, user, issued)
		}
		if _, err := parseChallenge(user, s); err == nil {
			t.Fatalf("%q is a ticket and a challenge", s)
		}
		r, _ := http.NewRequest(http.MethodGet, "https://pve.lan", nil)
		if (Ticket{UserID: user, Value: s}).authorize(r) == nil {
			cookies := r.Cookies()
			if len(cookies) != 1 {
				t.Fatalf("%q becomes %d cookies", s, len(cookies))
			}
			if back, err := url.QueryUnescape(cookies[0].Value); err != nil || back != s {
				t.Fatalf("%q becomes the cookie %q", s, cookies[0].Value)
			}
		}
	})
}

func FuzzChallenge(f *testing.F) {
	f.Add("bob@pve", testChallenge.Ticket)
	f.Add("bob@pve", `PVE:!tfa!{"webauthn"%3A{},"recovery"%3A[]}:6B041353::x`)
	f.Add("bob@pve", "PVE:!tfa!%7B%7D:6B041353::x")
	f.Fuzz(func(t *testing.T, user, s string) {
		c, err := parseChallenge(user, s)
		if err != nil {
			return
		}
		if c.Ticket != s || c.UserID != user || !validUserID(user) || len(c.Recovery) > maxRecovery {
			t.Fatalf("parseChallenge(%q, %q) = %#v", user, s, c)
		}
		if _, _, err := parseTicket(s); err == nil {
			t.Fatalf("%q is a challenge and a ticket", s)
		}
	})
}
