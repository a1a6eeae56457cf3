package web

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"berth/internal/fault"
	"berth/internal/session"
)

// cookieName is the cookie that carries a session's token, and nothing else.
const cookieName = "lxc-session"

// maxUserAgent bounds what is kept of a client's own name.
const maxUserAgent = 256

// callerKey marks the context of a request whose session the guard found valid. Only pages that are shown to visitors
// and callers alike look at it; handlers get their caller as a parameter.
type callerKey struct{}

// guard stands in front of one route: the caller of an authenticated one has a valid session or, where the route takes it, a
// valid access token, or never gets there.
func (s *Site) guard(route Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer, ok := w.(*answerWriter); ok {
			answer.route = &route
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		var err error
		if route.Access() == Public {
			err = route.public(w, r)
		} else {
			w.Header().Set("Cache-Control", "no-store")
			var caller session.Caller
			if caller, err = s.caller(r, route); err == nil {
				if !route.Passive && caller.SignedIn() {
					s.o.Sessions.Touch(r.Context(), caller.Session.Hash, session.ClientFrom(r.Context()).Address)
				}
				r = r.WithContext(context.WithValue(r.Context(), callerKey{}, caller))
				err = route.authenticated(w, r, caller)
			}
		}
		if err != nil {
			s.answerError(w, r, route.Shape, err)
		}
	})
}

// caller finds out who sends a request to an authenticated route. An API route takes an access token, and looks at no cookie
// beside it. The error is a fault: nobody may call it like this, or the store can't be reached.
func (s *Site) caller(r *http.Request, route Route) (session.Caller, error) {
	if text, ok := bearer(r); ok && route.Shape == API {
		used, err := s.o.Tokens.Use(r.Context(), text)
		if err != nil {
			return session.Caller{}, err
		}
		caller := session.Caller{Identity: used.Identity, Token: used.ID, Scope: used.Scope}
		return caller, caller.Require(route.Scope)
	}
	return s.signedIn(r)
}

// bearer is the access token of a request. Other schemes than Bearer are somebody else's, such as a proxy's own password.
func bearer(r *http.Request) (string, bool) {
	headers := r.Header.Values("Authorization")
	for _, header := range headers {
		scheme, text, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			continue
		}
		if len(headers) > 1 {
			text = "" // which one is meant can't be told, so none is
		}
		return strings.TrimLeft(text, " "), true
	}
	return "", false
}

// signedIn finds out whose session a request comes with. The error is a fault: nobody is signed in, or the store can't be
// reached.
func (s *Site) signedIn(r *http.Request) (session.Caller, error) {
	token, ok := sessionToken(r)
	if !ok {
		return session.Caller{}, fault.SignInRequired()
	}
	found, err := s.o.Sessions.Find(r.Context(), token)
	switch {
	case errors.Is(err, session.ErrNone):
		return session.Caller{}, fault.SignInRequired()
	case err != nil:
		return session.Caller{}, fault.StoreDown(err)
	}
	return session.Caller{Identity: found.Identity, Session: found}, nil
}

// sessionToken is what the session cookie carries. Of two such cookies neither counts: one of them was planted.
func sessionToken(r *http.Request) (string, bool) {
	cookies := r.CookiesNamed(cookieName)
	if len(cookies) != 1 {
		return "", false
	}
	return cookies[0].Value, true
}

// SetCookie hands a new session's token to the browser, and ends the session that the browser had before.
func (s *Site) SetCookie(w http.ResponseWriter, r *http.Request, token string) {
	if old, err := s.signedIn(r); err == nil {
		s.o.Auth.SessionReplaced(r.Context(), old.Session)
	}
	// Whatever the browser sent may lie elsewhere than the new cookie will, and would then be sent beside it.
	if len(r.CookiesNamed(cookieName)) > 0 {
		s.clearPlanted(w, r)
	}
	http.SetCookie(w, s.cookie(r, token, s.o.Sessions.Absolute()))
}

// ClearCookie takes a session cookie away, if the browser sent one.
func (s *Site) ClearCookie(w http.ResponseWriter, r *http.Request) {
	sent := len(r.CookiesNamed(cookieName))
	if sent == 0 {
		return
	}
	http.SetCookie(w, s.cookie(r, "", -1))
	if sent > 1 {
		s.clearPlanted(w, r)
	}
}

// clearPlanted takes away session cookies that are not Berth's own but are sent to it: they were planted from a path or a
// name above. A request does not tell from where, so they are cleared wherever they can come from.
func (s *Site) clearPlanted(w http.ResponseWriter, r *http.Request) {
	c := s.cookie(r, "", -1)
	asked := r.URL.EscapedPath()
	if !strings.HasPrefix(asked, c.Path) {
		asked = s.o.BasePath + asked // the routes do not know the base path
	}
	domains := append([]string{""}, domainsAbove(r.Host)...)
	cleared := 0
	for _, path := range cookiePaths(asked) {
		for _, domain := range domains {
			if path == c.Path && domain == "" {
				continue
			}
			if cleared++; cleared > maxPlanted {
				return
			}
			planted := *c
			planted.Path, planted.Domain = path, domain
			http.SetCookie(w, &planted)
		}
	}
}

// maxPlanted bounds how many cookies one answer clears: some proxies take no more than 4 KiB of header from behind them.
const maxPlanted = 20

// maxCookiePaths bounds how many paths are cleared of planted cookies; an answer's header must stay small enough for proxies.
const maxCookiePaths = 8

// cookiePaths are the paths whose cookies a request for a path is sent, from the root downwards.
func cookiePaths(path string) []string {
	paths := []string{"/"}
	for i := 1; i <= len(path) && len(paths) < maxCookiePaths; i++ {
		switch {
		case i == len(path):
			if path[i-1] != '/' {
				paths = append(paths, path)
			}
		case path[i] == '/':
			paths = append(paths, path[:i], path[:i+1])
		}
	}
	return paths
}

// maxDomains bounds how many names above a host are cleared of planted cookies.
const maxDomains = 4

// domainsAbove are the domains whose cookies a host is sent, from the host's own name upwards; none for an address.
func domainsAbove(host string) []string {
	var domains []string
	name := hostName(host)
	if _, err := netip.ParseAddr(name); err == nil {
		return nil
	}
	for len(domains) < maxDomains && strings.Contains(name, ".") {
		domains = append(domains, name)
		_, name, _ = strings.Cut(name, ".")
	}
	return domains
}

func (s *Site) cookie(r *http.Request, value string, life time.Duration) *http.Cookie {
	c := &http.Cookie{
		Name: cookieName, Value: value, Path: s.o.BasePath + "/",
		HttpOnly: true, Secure: arrivalOf(r.Context()).secureCookies, SameSite: http.SameSiteLaxMode,
	}
	if c.MaxAge = int(life / time.Second); life < 0 {
		c.MaxAge = -1
	}
	return c
}

// printable is at most n bytes of printable ASCII of a text that a client chose.
func printable(s string, n int) string {
	b := make([]byte, 0, min(len(s), n))
	for i := 0; i < len(s) && len(b) < n; i++ {
		if s[i] >= ' ' && s[i] <= '~' {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// contentPolicy lets pages load from this site alone, run no inline script or style, and be framed by nobody.
const contentPolicy = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// fixedHeaders are the same in every answer. They are ready-made, and never changed.
var fixedHeaders = http.Header{
	"Content-Security-Policy":      {contentPolicy},
	"X-Content-Type-Options":       {"nosniff"},
	"X-Frame-Options":              {"DENY"},
	"Referrer-Policy":              {"same-origin"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
	"Permissions-Policy":           {"camera=(), geolocation=(), microphone=()"},
}

func secureHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		maps.Copy(h, fixedHeaders)
		a := arrivalOf(r.Context())
		if a.encrypted || isLoopback(hostName(r.Host)) {
			h.Set("Cross-Origin-Opener-Policy", "same-origin") // elsewhere a browser ignores it, with an error in its console
		}
		if a.encrypted {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}
