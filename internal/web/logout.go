package web

import (
	"net/http"

	"berth/internal/auth"
	"berth/internal/session"
)

// logout ends the caller's session and leads to the sign-in page.
func (s *Site) logout(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	if _, err := s.o.Auth.SignOut(r.Context(), caller, auth.None{}); err != nil {
		return err
	}
	s.ClearCookie(w, r)
	s.redirect(w, r, "/login?signed-out")
	return nil
}
