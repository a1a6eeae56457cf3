package web

import (
	"context"
	"net/http"
	"time"

	"berth/internal/auth"
)

// browserCookie recognises a browser that signed in before, so that what others try with the same account does not slow
// it. It opens nothing.
const (
	browserCookie     = "berth-browser"
	browserCookieLife = 180 * 24 * time.Hour
)

// browserContext is the context of a sign-in by a form, with what the browser is recognised by. Of two such cookies neither
// counts: one of them was planted.
func browserContext(r *http.Request) context.Context {
	token := ""
	if cookies := r.CookiesNamed(browserCookie); len(cookies) == 1 {
		token = cookies[0].Value
	}
	return auth.WithBrowser(r.Context(), token)
}

// rememberBrowser hands the browser what it is recognised by next time.
func (s *Site) rememberBrowser(w http.ResponseWriter, r *http.Request, token string) {
	if token == "" {
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: browserCookie, Value: token, Path: s.o.BasePath + "/", MaxAge: int(browserCookieLife / time.Second),
		HttpOnly: true, Secure: arrivalOf(r.Context()).secureCookies, SameSite: http.SameSiteLaxMode,
	})
}
