package sim

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"time"
)

// authStateLife is how long PVE waits for somebody to come back from an identity provider (proxmox-openid,
// auth_state.rs).
const authStateLife = 10 * time.Minute

// authState is what a member remembers of an authorization that it asked for. It is in the member's own files, so no other
// member knows of it.
type authState struct {
	member, realm, nonce, verifier string
	created                        time.Time
}

// publicState is the state parameter: which realm it is for, and the name under which the rest is remembered.
type publicState struct {
	CSRFToken string `json:"csrf_token"`
	Realm     string `json:"realm"`
}

// openIDEndpoints are the two calls of OpenID Connect (API2/OpenId.pm).
func openIDEndpoints() []endpoint {
	redirect := param{name: "redirect-url", required: true, kind: "string", max: 255}
	return []endpoint{
		{
			method: "POST", path: "/access/openid/auth-url", world: true, run: authURL,
			params: []param{{name: "realm", required: true, kind: "string", max: 32, pattern: realmName.String()}, redirect},
		},
		{
			method: "POST", path: "/access/openid/login", world: true, run: openIDLogin,
			params: []param{
				{name: "state", required: true, kind: "string", max: 1024}, {name: "code", required: true, kind: "string", max: 4096}, redirect,
			},
		},
	}
}

// authURL is auth_url.
func authURL(c *call) (any, error) {
	r := c.dc.access.realm(c.param("realm"))
	switch {
	case r == nil:
		return nil, plain("authentication domain '" + c.param("realm") + "' does not exist")
	case r.Type != "openid":
		return nil, plain("wrong realm type (" + r.Type + " != openid)")
	}
	token := secret()
	state := authState{member: c.host.member.name, realm: r.Name, nonce: secret(), verifier: secret(), created: c.clock}
	for other, s := range c.dc.access.authStates {
		if c.clock.Sub(s.created) > authStateLife {
			delete(c.dc.access.authStates, other)
		}
	}
	c.dc.access.authStates[token] = state
	public, err := json.Marshal(publicState{CSRFToken: token, Realm: r.Name})
	if err != nil {
		return nil, err
	}
	challenge := sha256.Sum256([]byte(state.verifier))
	query := url.Values{
		"response_type": {"code"}, "client_id": {r.clientID}, "redirect_uri": {c.param("redirect-url")},
		"scope": {"openid email profile"}, "state": {string(public)}, "nonce": {state.nonce},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	endpoint := r.AuthorizationEndpoint
	if endpoint == "" {
		endpoint = r.Provider.URL() + authorizePath
	}
	return endpoint + "?" + query.Encode(), nil
}

// openIDLogin is login: every mistake is the same refusal, so that nobody learns which users exist.
func openIDLogin(c *call) (any, error) {
	name, err := c.openIDUser()
	if err != nil {
		return nil, authenticationFailure()
	}
	return c.dc.fullTicket(c, name), nil
}

// openIDUser finds out who came back from the identity provider. A state is good for one try, whatever becomes of it.
func (c *call) openIDUser() (string, error) {
	s := &c.dc.access
	var public publicState
	if err := json.Unmarshal([]byte(c.param("state")), &public); err != nil {
		return "", err
	}
	state, ok := s.authStates[public.CSRFToken]
	if !ok || state.member != c.host.member.name || state.realm != public.Realm || c.clock.Sub(state.created) > authStateLife {
		return "", errors.New("no openid auth state found (possible timeout)")
	}
	delete(s.authStates, public.CSRFToken)
	r := s.realm(state.realm)
	if r == nil {
		return "", errors.New("the realm is gone")
	}
	claims, err := r.Provider.redeem(tokenRequest{
		code: c.param("code"), clientID: r.clientID, clientSecret: r.clientSecret, redirect: c.param("redirect-url"), verifier: state.verifier,
	})
	switch {
	case err != nil:
		return "", err
	case claims.nonce != state.nonce:
		return "", errors.New("the identity token is for another authorization")
	}
	name := claims.user + "@" + r.Name
	if r.Impersonates != "" {
		return r.Impersonates, nil
	}
	if s.users[name] == nil && r.Autocreate && userID.MatchString(name) {
		if err := s.setUser(User{ID: name}); err != nil {
			return "", err
		}
	}
	if !s.users[name].active(c.clock) {
		return "", errors.New("no such user, or disabled")
	}
	return name, nil
}

// secret is a random text that nobody guesses.
func secret() string {
	var b [24]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
