package pve

import (
	"encoding/json"
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

const callback = "https://berth.example.org/login/openid"

func TestOpenIDAuthURL(t *testing.T) {
	const link = `https://idp.example.org/authorize?client_id=pve&state=%7B%22realm%22%3A%22sso%22%7D`
	for name, c := range map[string]struct {
		data string
		kind Kind // where it is an error
	}{
		"an address":    {`"` + link + `"`, 0},
		"null":          {`null`, KindNotProxmox},
		"empty":         {`""`, KindNotProxmox},
		"a number":      {`7`, KindNotProxmox},
		"a list":        {`["` + link + `"]`, KindNotProxmox},
		"a line break":  {`"https://idp.example.org/\r\nSet-Cookie: a=b"`, KindNotProxmox},
		"a space":       {`"https://idp.example.org/ x"`, KindNotProxmox},
		"not ASCII":     {`"https://ïdp.example.org/"`, KindNotProxmox},
		"far too long":  {`"` + link + strings.Repeat("x", maxAuthURL) + `"`, KindNotProxmox},
		"an odd scheme": {`"javascript:alert(1)"`, 0}, // the caller's to judge
	} {
		t.Run(name, func(t *testing.T) {
			h, f := pinned(t, always(ok(c.data)))
			got, err := h.OpenIDAuthURL(t.Context(), "sso", callback)
			if c.kind != 0 {
				wantKind(t, err, c.kind)
				if got != "" {
					t.Error("an error came with an answer")
				}
				return
			}
			if err != nil || `"`+got+`"` != c.data {
				t.Errorf("%q, %v", got, err)
			}
			if form, _ := url.ParseQuery(f.only().body); form.Get("realm") != "sso" || form.Get("redirect-url") != callback {
				t.Errorf("sent %v", form)
			}
		})
	}
}

func TestOpenIDLogin(t *testing.T) {
	const state, code = `{"csrf_token":"a-b_c","realm":"sso"}`, "c0de/+&=%"
	erin := "PVE:erin@sso:6B04135C::" + testSignature
	h, f := pinned(t, always(ok(ticketData("erin@sso", erin, `,"cap":{}`))))
	s, err := h.OpenIDLogin(t.Context(), state, code, callback, WithForwardedFor(netip.MustParseAddr("192.0.2.7")))
	if err != nil || s.Ticket.UserID != "erin@sso" || s.Ticket.Value != erin || s.Challenge != nil {
		t.Fatalf("%v, %v", s, err)
	}
	r := f.only()
	form, _ := url.ParseQuery(r.body)
	if form.Get("state") != state || form.Get("code") != code || form.Get("redirect-url") != callback || r.URL.RawQuery != "" {
		t.Errorf("sent %v, query %q", form, r.URL.RawQuery)
	}
	if r.Header.Get("X-Forwarded-For") != "192.0.2.7" {
		t.Errorf("X-Forwarded-For %q", r.Header.Get("X-Forwarded-For"))
	}

	// What a host says about its refusal must not repeat what was sent to it.
	echo, _ := json.Marshal("code " + code + " state " + state)
	h, _ = pinned(t, always(reply("401 authentication failure", `{"data":null,"message":`+string(echo)+`}`)))
	_, err = h.OpenIDLogin(t.Context(), state, code, callback)
	if e := wantKind(t, err, KindUnauthenticated); strings.Contains(e.Error(), code) || strings.Contains(e.Error(), "a-b_c") {
		t.Errorf("the error shows a secret: %v", e)
	}
	for name, data := range map[string]string{"no ticket": `{"username":"erin@sso"}`, "null": `null`, "another's": ticketData("root@pam", erin, ``)} {
		h, _ := pinned(t, always(ok(data)))
		s, err := h.OpenIDLogin(t.Context(), state, code, callback)
		if wantKind(t, err, KindNotProxmox); s.Ticket != (Ticket{}) {
			t.Errorf("%s: an error came with a ticket", name)
		}
	}
}

func TestOpenIDInput(t *testing.T) {
	h, f := pinned(t, always(ok(`"https://idp.example.org/"`)))
	for _, c := range []struct{ realm, redirect, field string }{
		{"", callback, "realm"}, {strings.Repeat("r", 33), callback, "realm"}, {"s\x00o", callback, "realm"},
		{"sso", "", "redirect"}, {"sso", callback + strings.Repeat("x", 256), "redirect"},
	} {
		var input *InputError
		if _, err := h.OpenIDAuthURL(t.Context(), c.realm, c.redirect); !errors.As(err, &input) || input.Field != c.field {
			t.Errorf("%q %q: %v", c.realm, c.redirect, err)
		}
	}
	for _, c := range []struct{ state, code, redirect, field string }{
		{"", "c", callback, "state"}, {strings.Repeat("s", 1025), "c", callback, "state"}, {"s\n", "c", callback, "state"},
		{"s", "", callback, "code"}, {"s", strings.Repeat("c", 4097), callback, "code"}, {"s", "ç", callback, "code"},
		{"s", "c", "", "redirect"},
	} {
		var input *InputError
		if _, err := h.OpenIDLogin(t.Context(), c.state, c.code, c.redirect); !errors.As(err, &input) || input.Field != c.field {
			t.Errorf("%.10q %.10q: %v", c.state, c.code, err)
		}
	}
	if len(f.seen()) != 0 {
		t.Error("something was sent")
	}
}
