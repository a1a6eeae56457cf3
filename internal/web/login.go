package web

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/web/view"
)

// lastCookie remembers host, port, user name and realm of the last sign-in in the same browser. It holds no secret.
const (
	lastCookie     = "berth-last"
	lastCookieLife = 180 * 24 * time.Hour
	maxLast        = 1024
)

// loginShow shows the sign-in page, or leads on who is signed in already.
func (s *Site) loginShow(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	next := safeNext(r.URL.Query().Get("next"))
	switch _, err := s.signedIn(r); fault.KindOf(err) {
	case fault.Unauthenticated:
		s.ClearCookie(w, r)
	case fault.Unavailable:
		return err
	default:
		http.Redirect(w, r, s.o.BasePath+next, http.StatusSeeOther)
		return nil
	}
	page := s.loginPage(r.Context(), next)
	s.fillLast(r, &page)
	s.offerRealms(r.Context(), &page)
	asks, err := s.o.Hosts.AsksClaimCode(r.Context())
	if err != nil {
		return fault.StoreDown(err)
	}
	page.AskClaimCode = asks
	if r.URL.Query().Has("signed-out") {
		page.Notice = "You have signed out."
	}
	s.render(w, r, http.StatusOK, view.LoginPage(page))
	return nil
}

func (s *Site) loginPage(ctx context.Context, next string) view.Login {
	return view.Login{Shell: s.shell(ctx, "Sign in"), Next: next}
}

// fillLast fills in where and as whom this browser signed in last.
func (s *Site) fillLast(r *http.Request, page *view.Login) {
	page.Host, page.Port = s.o.SuggestHost, s.o.SuggestPort
	if page.Port == "" {
		page.Port = strconv.Itoa(pve.DefaultPort)
	}
	if c, err := r.Cookie(lastCookie); err == nil && len(c.Value) <= maxLast {
		if last, err := url.ParseQuery(c.Value); err == nil {
			page.Host, page.Port = last.Get("host"), last.Get("port")
			page.Username, page.Realm = last.Get("username"), last.Get("realm")
		}
	}
}

// login is the sign-in form.
func (s *Site) login(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	in, err := DecodeForm[auth.SignInInput](r)
	next := safeNext(r.PostForm.Get("next"))
	if realm, yes := s.o.Auth.ByProvider(r.Context(), in); yes {
		return s.beginOpenID(w, r, in, realm, next)
	}
	var out auth.SignedIn
	if err == nil {
		out, err = s.o.Auth.SignIn(browserContext(r), in)
	}
	switch {
	case err != nil:
		return s.loginRefused(w, r, in, next, err)
	case out.TFA != nil:
		s.rememberSignIn(w, r, in)
		s.render(w, r, http.StatusOK, view.SecondFactorPage(s.secondFactorPage(r.Context(), out.TFA, next)))
		return nil
	}
	s.rememberSignIn(w, r, in)
	s.rememberBrowser(w, r, out.Browser)
	s.SetCookie(w, r, out.Token)
	s.redirect(w, r, next)
	return nil
}

// loginRefused shows the form again with what was typed, the password apart.
func (s *Site) loginRefused(w http.ResponseWriter, r *http.Request, in auth.SignInInput, next string, err error) error {
	f := fault.As(err)
	if f == nil || f.Kind == fault.Unavailable || f.Kind == fault.Malformed || f.Kind == fault.TooLarge {
		return err
	}
	page := s.loginPage(r.Context(), next)
	page.Host, page.Port, page.Username = in.Host, in.Port.String(), in.Username
	if in.Realm != "" {
		page.Realm = in.Realm
	}
	s.offerRealms(r.Context(), &page)
	page.ClaimCode = in.ClaimCode
	page.AskClaimCode = in.ClaimCode != "" || f.Code == "claim_code_required"
	if f.Code == "certificate_unknown" {
		page.Host, page.Port = f.Details["host"].(string), strconv.Itoa(f.Details["port"].(int))
		page.Confirm = &view.Certificate{
			Address: addressIn(f), Fingerprint: f.Details["fingerprint"].(string),
		}
		s.render(w, r, status(f.Kind), view.LoginPage(page))
		return nil
	}
	f, id := explain(r.Context(), r, err)
	sayRetryAfter(w, f)
	page.Errors = f.Fields
	if f.Kind != fault.Invalid {
		page.Failure = &view.Failure{Message: f.Message, Hint: f.Hint, ErrorID: id}
	}
	if known, ok := f.Details["knownFingerprint"].(string); ok {
		presented, _ := f.Details["fingerprint"].(string)
		page.Changed = &view.Certificate{Address: addressIn(f), Fingerprint: presented, Previous: known}
	}
	s.render(w, r, status(f.Kind), view.LoginPage(page))
	return nil
}

// addressIn is the address of the host whose certificate a refusal is about.
func addressIn(f *fault.Error) string {
	host, _ := f.Details["host"].(string)
	port, _ := f.Details["port"].(int)
	return pve.Address{Host: host, Port: port}.String()
}

// rememberSignIn fills in the next sign-in of this browser.
func (s *Site) rememberSignIn(w http.ResponseWriter, r *http.Request, in auth.SignInInput) {
	last := url.Values{"host": {in.Host}, "port": {in.Port.String()}, "username": {in.Username}, "realm": {in.Realm}}.Encode()
	if len(last) > maxLast {
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: lastCookie, Value: last, Path: s.o.BasePath + "/", MaxAge: int(lastCookieLife / time.Second),
		HttpOnly: true, Secure: arrivalOf(r.Context()).secureCookies, SameSite: http.SameSiteLaxMode,
	})
}
