package pve

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// ticketData is the data of a sign-in's 200.
func ticketData(user, ticket, more string) string {
	quote := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	return `{"username":` + quote(user) + `,"ticket":` + quote(ticket) + `,"CSRFPreventionToken":` + quote(alice.CSRF) + more + `}`
}

func TestSignIn(t *testing.T) {
	h, f := pinned(t, always(ok(ticketData("alice@pve", alice.Value, `,"clustername":"lab","cap":{"vms":{"VM.Audit":1,"VM.Console":"0"},"dc":{},"odd":7}`))))
	s, err := h.SignIn(t.Context(), "alice@pve", "secret")
	if err != nil {
		t.Fatal(err)
	}
	if s.Ticket != alice || s.Challenge != nil || s.ClusterName != "lab" {
		t.Errorf("%v %v %q", s.Ticket, s.Challenge, s.ClusterName)
	}
	if !s.Capabilities["vms"]["VM.Audit"] || s.Capabilities["vms"]["VM.Console"] || s.Capabilities["dc"] == nil || s.Capabilities["odd"] != nil {
		t.Errorf("capabilities %v", s.Capabilities)
	}
	if r := f.only(); r.Header.Get("X-Forwarded-For") != "" {
		t.Error("X-Forwarded-For without an address")
	}
	if _, err := h.SignIn(t.Context(), "alice@pve", "secret", WithForwardedFor(netip.Addr{})); err != nil {
		t.Error(err)
	}
	if r := f.seen()[1]; r.Header.Get("X-Forwarded-For") != "" {
		t.Error("X-Forwarded-For of an address that isn't one")
	}
}

func TestSignInAnswers(t *testing.T) {
	bob := testChallenge.Ticket
	for name, c := range map[string]struct {
		data      string
		challenge bool
		kind      Kind // where it is an error
	}{
		"challenge":                       {ticketData("bob@pve", bob, `,"NeedTFA":1`), true, 0},
		"challenge, NeedTFA as text":      {ticketData("bob@pve", bob, `,"NeedTFA":"1"`), true, 0},
		"challenge without NeedTFA":       {ticketData("bob@pve", bob, ``), true, 0},
		"challenge, NeedTFA 0":            {ticketData("bob@pve", bob, `,"NeedTFA":0,"cap":{}`), true, 0},
		"NeedTFA with a whole ticket":     {ticketData("alice@pve", alice.Value, `,"NeedTFA":1`), false, KindNotProxmox},
		"no ticket":                       {`{"username":"alice@pve"}`, false, KindNotProxmox},
		"ticket null":                     {`{"username":"alice@pve","ticket":null,"CSRFPreventionToken":"x"}`, false, KindNotProxmox},
		"ticket of somebody else":         {ticketData("root@pam", alice.Value, ``), false, KindNotProxmox},
		"no user":                         {ticketData("", alice.Value, ``), false, KindNotProxmox},
		"no CSRF token":                   {`{"username":"alice@pve","ticket":"` + alice.Value + `"}`, false, KindNotProxmox},
		"CSRF token with a line break":    {`{"username":"alice@pve","ticket":"` + alice.Value + `","CSRFPreventionToken":"a\r\nb"}`, false, KindNotProxmox},
		"ticket longer than PVE's header": {ticketData("alice@pve", alice.Value+strings.Repeat("x", 8<<10), ``), false, KindNotProxmox},
		"data null":                       {`null`, false, KindNotProxmox},
		"data a list":                     {`[]`, false, KindNotProxmox},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := pinned(t, always(ok(c.data)))
			s, err := h.SignIn(t.Context(), "bob@pve", "secret")
			if c.challenge {
				if err != nil || s.Challenge == nil || s.Ticket != (Ticket{}) || !s.Challenge.TOTP || !slices.Equal(s.Challenge.Recovery, []int{0, 1}) {
					t.Errorf("%v, %v", s, err)
				}
				return
			}
			e := wantKind(t, err, c.kind)
			if s.Challenge != nil || s.Ticket != (Ticket{}) {
				t.Error("an error came with an answer")
			}
			if strings.Contains(e.Error(), alice.Value) {
				t.Error("the error shows the ticket")
			}
		})
	}
}

func TestAnswerChallenge(t *testing.T) {
	bob := "PVE:bob@pve:6B04135C::" + testSignature
	for _, c := range []struct {
		kind Factor
		code string
		sent string // "" where it is refused here
	}{
		{FactorTOTP, "012345", "totp:012345"},
		{FactorTOTP, " 012 345\n", "totp:012345"},
		{FactorRecovery, "AAAA-bbbb-CCCC-0123 ", "recovery:aaaa-bbbb-cccc-0123"},
		{FactorYubico, "ccccccCCbcde", "yubico:ccccccCCbcde"},
		{FactorTOTP, "", ""},
		{FactorTOTP, "  ", ""},
		{FactorTOTP, "٠١٢٣٤٥", ""},
		{FactorTOTP, "1\x002", ""},
		{FactorRecovery, strings.Repeat("a", 300), ""},
		{"webauthn", "{}", ""},
		{"", "012345", ""},
	} {
		h, f := pinned(t, always(ok(ticketData("bob@pve", bob, `,"cap":{}`))))
		s, err := h.AnswerChallenge(t.Context(), testChallenge, c.kind, c.code)
		if c.sent == "" {
			var input *InputError
			if !errors.As(err, &input) || len(f.seen()) != 0 {
				t.Errorf("%s %q: %v", c.kind, c.code, err)
			}
			continue
		}
		if err != nil || s.Ticket.UserID != "bob@pve" || s.Challenge != nil {
			t.Errorf("%s %q: %v, %v", c.kind, c.code, s, err)
			continue
		}
		form, _ := url.ParseQuery(f.only().body)
		if form.Get("password") != c.sent || form.Get("tfa-challenge") != testChallenge.Ticket || form.Get("username") != "bob@pve" {
			t.Errorf("sent %v", form)
		}
	}
}

// TestSecondStepMustEnd: another challenge, or somebody else's ticket, is no session.
func TestSecondStepMustEnd(t *testing.T) {
	for _, data := range []string{
		ticketData("bob@pve", testChallenge.Ticket, `,"NeedTFA":1`),
		ticketData("alice@pve", alice.Value, ``),
	} {
		h, _ := pinned(t, always(ok(data)))
		s, err := h.AnswerChallenge(t.Context(), testChallenge, FactorTOTP, "012345")
		wantKind(t, err, KindNotProxmox)
		if s.Ticket != (Ticket{}) {
			t.Error("an error came with a ticket")
		}
		other := alice
		other.UserID, other.Value = "carol@pve", "PVE:carol@pve:6B04133E::x"
		renewed, err := h.Renew(t.Context(), other)
		wantKind(t, err, KindNotProxmox)
		if renewed != (Ticket{}) {
			t.Error("an error came with a ticket")
		}
	}
	h, f := pinned(t, always(ok(`{}`)))
	if _, err := h.AnswerChallenge(t.Context(), Challenge{UserID: "bob@pve", Ticket: alice.Value}, FactorTOTP, "1"); err == nil {
		t.Error("a ticket was taken for a challenge")
	}
	if _, err := h.Renew(t.Context(), Ticket{UserID: "bob@pve", Value: testChallenge.Ticket}); err == nil {
		t.Error("a challenge was renewed")
	}
	if len(f.seen()) != 0 {
		t.Error("something was sent")
	}
}

func TestRenew(t *testing.T) {
	fresh := "PVE:alice@pve:6B042000::" + testSignature
	h, f := pinned(t, always(ok(ticketData("alice@pve", fresh, ``))))
	got, err := h.Renew(t.Context(), alice)
	if err != nil || got.Value != fresh || got.UserID != "alice@pve" || got.CSRF == "" {
		t.Errorf("%v, %v", got, err)
	}
	if r := f.only(); r.Header.Get("Cookie") != "" || r.Method != http.MethodPost {
		t.Error("the ticket was sent twice")
	}
	h, _ = pinned(t, always(reply("401 authentication failure", `{"data":null,"message":"authentication failure\n"}`)))
	_, err = h.Renew(t.Context(), alice)
	wantKind(t, err, KindUnauthenticated)
}

func TestDomains(t *testing.T) {
	h, _ := pinned(t, always(ok(`[{"realm":"pam","type":"pam","comment":"Linux PAM","default":1},{"realm":"corp","type":"ad","tfa":"oath","default":null},null]`)))
	got, err := h.Domains(t.Context())
	want := []Domain{{Realm: "pam", Type: "pam", Comment: "Linux PAM", Default: true}, {Realm: "corp", Type: "ad", TFA: "oath"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}
