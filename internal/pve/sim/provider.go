package sim

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// authorizePath is where an identity provider asks people whether they want to sign in.
const authorizePath = "/authorize"

// codeLife is how long an authorization code may be redeemed. RFC 6749, section 4.1.2, allows ten minutes at most.
const codeLife = time.Minute

// IdentityProvider is an OpenID Connect provider of the authorization code flow, with PKCE, over TLS with a certificate of
// its own. People sign in with one click, as if they had a session there. Its methods may be called from any goroutine.
//
// Tokens are fetched by PVE hosts of the same process, without a connection in between; browsers use real ones.
type IdentityProvider struct {
	now      func() time.Time
	listener net.Listener
	server   *http.Server
	cert     *certificate

	mu        sync.Mutex
	users     []string
	redirects []string          // what clients registered
	clients   map[string]string // secret by client id
	codes     map[string]grant
}

// grant is what a code stands for.
type grant struct {
	clientID, redirect, challenge string
	claims                        claims
	issued                        time.Time
}

// claims are what an identity token says.
type claims struct{ user, nonce string }

// ListenProvider starts an identity provider for some users, on an address such as "127.0.0.1:0". A nil clock is the real
// one.
func ListenProvider(address string, now func() time.Time, users ...string) (*IdentityProvider, error) {
	if now == nil {
		now = time.Now
	}
	cert, err := newCertificate("idp", now(), nil)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &IdentityProvider{
		now: now, listener: l, cert: cert, users: users, clients: map[string]string{}, codes: map[string]grant{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+authorizePath, p.ask)
	mux.HandleFunc("POST "+authorizePath, p.consent)
	p.server = &http.Server{
		Handler: mux, TLSConfig: cert.config, ReadTimeout: requestTimeout, WriteTimeout: writeTimeout,
		ErrorLog: log.New(io.Discard, "", 0), // browsers that don't trust the certificate
	}
	go p.server.ServeTLS(l, "", "")
	return p, nil
}

// URL is the issuer, without a slash at the end.
func (p *IdentityProvider) URL() string { return "https://" + p.Address() }

// Address is host and port, as in a dial.
func (p *IdentityProvider) Address() string { return p.listener.Addr().String() }

// Certificate is what the provider shows, in DER.
func (p *IdentityProvider) Certificate() []byte { return slices.Clone(p.cert.leaf.Raw) }

// Close ends the provider and its connections.
func (p *IdentityProvider) Close() error { return p.server.Close() }

// AllowRedirect registers an address that people may be sent back to. Every other one is refused.
func (p *IdentityProvider) AllowRedirect(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.redirects = append(p.redirects, to)
}

// newClient registers a client.
func (p *IdentityProvider) newClient() (id, password string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, password = "pve-"+secret()[:8], secret()
	p.clients[id] = password
	return id, password
}

// checkRequest says what is wrong with a request for authorization; nobody is sent back from a wrong one.
func (p *IdentityProvider) checkRequest(q url.Values) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.clients[q.Get("client_id")] == "":
		return "unknown client"
	case !slices.Contains(p.redirects, q.Get("redirect_uri")):
		return "this client may not send people to " + q.Get("redirect_uri")
	case q.Get("response_type") != "code" || q.Get("state") == "":
		return "response_type must be code, and a state is needed"
	case q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "":
		return "a code challenge of the method S256 is needed"
	}
	return ""
}

var askPage = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en"><title>Identity provider</title><link rel="icon" href="data:,">
<h1>Continue to Proxmox VE as</h1>
<form method="post">{{range .}}<p><button name="user" value="{{.}}">{{.}}</button></p>{{end}}
<p><button name="cancel" value="1">Cancel</button></p></form></html>
`))

// ask shows who can sign in.
func (p *IdentityProvider) ask(w http.ResponseWriter, r *http.Request) {
	if why := p.checkRequest(r.URL.Query()); why != "" {
		http.Error(w, why, http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	askPage.Execute(w, p.users)
}

// consent sends a person back with a code, or with the word that they did not want to.
func (p *IdentityProvider) consent(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if why := p.checkRequest(q); why != "" {
		http.Error(w, why, http.StatusBadRequest)
		return
	}
	back := url.Values{"state": {q.Get("state")}}
	switch user := r.PostFormValue("user"); {
	case r.PostFormValue("cancel") != "":
		back.Set("error", "access_denied")
	case !slices.Contains(p.users, user):
		http.Error(w, "unknown user", http.StatusBadRequest)
		return
	default:
		code := secret()
		p.mu.Lock()
		p.codes[code] = grant{
			clientID: q.Get("client_id"), redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"),
			claims: claims{user: user, nonce: q.Get("nonce")}, issued: p.now(),
		}
		p.mu.Unlock()
		back.Set("code", code)
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusSeeOther)
}

// Approve does what a browser does whose owner signs in as a user, or cancels where user is empty: it follows the link that
// a PVE host made, over a connection of its own, and returns where it is sent back to.
func (p *IdentityProvider) Approve(link, user string) (back string, err error) {
	roots := x509.NewCertPool()
	roots.AddCert(p.cert.leaf)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Time: p.now}}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport: transport, Timeout: requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	form := url.Values{"user": {user}}
	if user == "" {
		form = url.Values{"cancel": {"1"}}
	}
	resp, err := client.PostForm(link, form)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return "", fmt.Errorf("the identity provider answers %d: %s", resp.StatusCode, text)
	}
	return resp.Header.Get("Location"), nil
}

// tokenRequest is what a client sends to have a code redeemed.
type tokenRequest struct{ code, clientID, clientSecret, redirect, verifier string }

// redeem exchanges a code for what the provider says about a user. A code is good for one try.
func (p *IdentityProvider) redeem(r tokenRequest) (claims, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, ok := p.codes[r.code]
	delete(p.codes, r.code)
	challenge := sha256.Sum256([]byte(r.verifier))
	switch {
	case !ok || p.now().Sub(g.issued) > codeLife:
		return claims{}, errors.New("invalid_grant")
	case p.clients[r.clientID] == "" || p.clients[r.clientID] != r.clientSecret || g.clientID != r.clientID:
		return claims{}, errors.New("invalid_client")
	case g.redirect != r.redirect || g.challenge != base64.RawURLEncoding.EncodeToString(challenge[:]):
		return claims{}, errors.New("invalid_grant")
	}
	return g.claims, nil
}
