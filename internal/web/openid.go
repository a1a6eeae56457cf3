package web

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/web/view"
)

// openIDPath is where identity providers send people back to.
const openIDPath = "/login/openid"

// openIDCookie ties a sign-in at an identity provider to the browser that began it. The browser sends it to openIDPath only.
const openIDCookie = "berth-openid"

// OpenIDCallback is the address that identity providers send people back to, or empty when there can be none: it needs the
// address that people open, and a browser that is asked over plain HTTP says nothing of where a form came from once the page
// keeps its address to itself. On the machine itself plain HTTP will do.
func OpenIDCallback(public *url.URL, basePath string) string {
	if public == nil || public.Scheme != "https" && !isLoopback(public.Hostname()) {
		return ""
	}
	back := *public
	back.Path, back.RawPath = basePath+openIDPath, ""
	if text := back.String(); len(text) <= pve.MaxRedirectURL {
		return text
	}
	return ""
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// beginOpenID shows the way to the identity provider of a realm.
func (s *Site) beginOpenID(w http.ResponseWriter, r *http.Request, in auth.SignInInput, realm, next string) error {
	in.Realm = realm
	if elsewhere := s.otherOrigin(r); elsewhere != "" {
		return s.loginRefused(w, r, in, next, fault.InvalidInput(map[string]string{
			"realm": "With this realm, people sign in at " + elsewhere + " only: open that address first",
		}))
	}
	start, err := s.o.Auth.BeginOpenID(r.Context(), auth.OpenIDInput{Host: in.Host, Port: in.Port, Realm: realm, Next: next})
	if err != nil {
		return s.loginRefused(w, r, in, next, err)
	}
	s.rememberSignIn(w, r, in)
	http.SetCookie(w, s.openIDCookie(r, start.Browser, auth.OpenIDLife))
	page := s.loginPage(r.Context(), next)
	page.Provider = &view.Provider{Link: start.Link, Host: start.Provider, Realm: start.Realm, Address: start.Host}
	s.render(w, r, http.StatusOK, view.LoginPage(page))
	return nil
}

// otherOrigin is the address that people open, when the browser says that it is at another one: what it is handed there
// would be missing when it comes back.
func (s *Site) otherOrigin(r *http.Request) string {
	if s.o.PublicURL == nil {
		return ""
	}
	at, err := url.Parse(r.Header.Get("Origin"))
	if err != nil || at.Host == "" || strings.EqualFold(at.Host, s.o.PublicURL.Host) && at.Scheme == s.o.PublicURL.Scheme {
		return ""
	}
	return s.o.PublicURL.Scheme + "://" + s.o.PublicURL.Host + s.o.BasePath
}

func (s *Site) openIDCookie(r *http.Request, value string, life time.Duration) *http.Cookie {
	c := &http.Cookie{
		Name: openIDCookie, Value: value, Path: s.o.BasePath + openIDPath, MaxAge: int(life / time.Second),
		HttpOnly: true, Secure: arrivalOf(r.Context()).secureCookies, SameSite: http.SameSiteLaxMode,
	}
	if life < 0 {
		c.MaxAge = -1
	}
	return c
}

// openIDShow is where an identity provider sends a browser back to. What stands in its address is worth a session, so the
// page tells nobody where it is, nothing keeps it, and it changes nothing: its form does.
func (s *Site) openIDShow(w http.ResponseWriter, r *http.Request) error {
	openIDHeaders(w)
	q := r.URL.Query()
	page := view.OpenIDReturn{Shell: s.shell(r.Context(), "Sign in"), Code: q.Get("code"), State: q.Get("state"), Refused: q.Has("error"), Begun: len(r.CookiesNamed(openIDCookie)) == 1}
	s.render(w, r, http.StatusOK, view.OpenIDReturnPage(page))
	return nil
}

func openIDHeaders(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
}

// openID is the form of that page.
func (s *Site) openID(w http.ResponseWriter, r *http.Request) error {
	openIDHeaders(w)
	in, err := DecodeForm[auth.OpenIDAnswer](r)
	if err != nil {
		return err
	}
	// Of two such cookies neither counts: one of them was planted.
	browser := ""
	if cookies := r.CookiesNamed(openIDCookie); len(cookies) == 1 {
		browser = cookies[0].Value
	}
	out, next, err := s.o.Auth.FinishOpenID(browserContext(r), browser, in)
	next = safeNext(next)
	switch {
	case fault.KindOf(err) == fault.Unauthenticated || fault.KindOf(err) == fault.Throttled || fault.KindOf(err) == fault.Forbidden:
		f, id := explain(r.Context(), r, err)
		sayRetryAfter(w, f)
		page := s.loginPage(r.Context(), next)
		s.fillLast(r, &page)
		s.offerRealms(r.Context(), &page)
		page.Failure = &view.Failure{Message: f.Message, Hint: f.Hint, ErrorID: id}
		s.render(w, r, status(f.Kind), view.LoginPage(page))
		return nil
	case err != nil:
		return err
	}
	http.SetCookie(w, s.openIDCookie(r, "", -1))
	if out.TFA != nil {
		s.render(w, r, http.StatusOK, view.SecondFactorPage(s.secondFactorPage(r.Context(), out.TFA, next)))
		return nil
	}
	s.rememberBrowser(w, r, out.Browser)
	s.SetCookie(w, r, out.Token)
	s.redirect(w, r, next)
	return nil
}
