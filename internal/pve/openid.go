package pve

import (
	"context"
	"encoding/json"
	"strings"
)

// Limits of the parameters of PVE's OpenID Connect calls (PVE/API2/OpenId.pm, auth_url and login).
const (
	MaxRealm       = 32
	MaxRedirectURL = 255
	MaxOpenIDState = 1024
	MaxOpenIDCode  = 4096
)

// maxAuthURL bounds the address of an identity provider's page. Browsers and servers take 8 KiB and more; PVE's own have
// some hundred characters.
const maxAuthURL = 8 << 10

// OpenIDAuthURL asks where people sign in to a realm of type openid, to come back to redirect (auth_url). PVE remembers
// what it asked for, on this very host and for ten minutes: OpenIDLogin has to go there too (proxmox-openid,
// auth_state.rs). The answer is printable ASCII and bounded, but what kind of address it is, or whether it is one at all,
// is for the caller to judge before anybody is sent there.
func (h *Host) OpenIDAuthURL(ctx context.Context, realm, redirect string, opts ...SignInOption) (string, error) {
	switch {
	case !sendable(realm, MaxRealm):
		return "", &InputError{Field: "realm", Message: "This is not the name of a realm"}
	case !sendable(redirect, MaxRedirectURL):
		return "", &InputError{Field: "redirect", Message: "The address to come back to is too long"}
	}
	c := openIDCall("auth-url", opts)
	c.set("realm", realm)
	c.set("redirect-url", redirect)
	a, err := h.do(ctx, c)
	if err != nil {
		return "", err
	}
	var link string
	if json.Unmarshal(a.data, &link) != nil || link == "" || len(link) > maxAuthURL || !headerSafe(link) {
		return "", h.notProxmox(c, a, "the answer is not an address")
	}
	return link, nil
}

// OpenIDLogin exchanges what an identity provider sent back for a ticket (login). It has to be the host that
// OpenIDAuthURL asked, and the same redirect. PVE takes each state once; whatever is wrong, it says the same:
// KindUnauthenticated. It is sent once, never again. The user is whoever the provider said, so the caller checks the
// ticket's realm.
//
// Exactly one of the answer's Ticket and Challenge is set.
func (h *Host) OpenIDLogin(ctx context.Context, state, code, redirect string, opts ...SignInOption) (SignIn, error) {
	for _, p := range []struct {
		name, value string
		most        int
	}{{"state", state, MaxOpenIDState}, {"code", code, MaxOpenIDCode}, {"redirect", redirect, MaxRedirectURL}} {
		if !sendable(p.value, p.most) {
			return SignIn{}, &InputError{Field: p.name, Message: "This is not what an identity provider sends"}
		}
	}
	c := openIDCall("login", opts)
	c.secrets = []string{state, code}
	c.set("state", state)
	c.set("code", code)
	c.set("redirect-url", redirect)
	return h.signIn(ctx, c)
}

func openIDCall(name string, opts []SignInOption) *call {
	c := post(nil, "access", "openid", name)
	// The host asks the identity provider in turn, before it answers either call.
	c.signIn, c.password = true, true
	c.maxBody = maxSignInBody
	for _, opt := range opts {
		opt(c)
	}
	return c
}

// sendable tells whether a text is printable ASCII of at most so many characters: all that OAuth 2.0 has in a state or
// code (RFC 6749, appendix A).
func sendable(s string, most int) bool {
	return s != "" && len(s) <= most && strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f }) < 0
}
