package web

import (
	"net/http"
	"net/url"
	"strconv"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/session"
	"berth/internal/web/view"
)

// sessions is the page Settings > Sessions.
func (s *Site) sessions(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	query, err := DecodeForm[auth.SessionsQuery](r)
	if err != nil && fault.KindOf(err) != fault.Invalid {
		return err
	}
	if err != nil {
		// An address that somebody changed by hand shows one's own rather than a refusal.
		query = auth.SessionsQuery{}
	}
	list, err := s.o.Auth.Sessions(r.Context(), caller, query)
	if err != nil {
		return err
	}
	owner := s.o.Auth.ShownAsOwner(r.Context(), caller)
	page := view.Sessions{
		Shell: s.callerShell(r.Context(), caller, "Sessions", "sessions"), Query: query.Text,
		Everyone: list.Everyone, MayAll: owner, More: list.More, Now: s.o.Now(), Done: endedText(r.URL.Query().Get("ended")),
	}
	for _, one := range list.Items {
		page.Rows = append(page.Rows, sessionRow(one))
	}
	s.render(w, r, http.StatusOK, view.SessionsPage(page))
	return nil
}

// endedText says how many sessions have just ended; the address only gives the number.
func endedText(count string) string {
	n, err := strconv.ParseUint(count, 10, 32)
	switch {
	case err != nil:
		return ""
	case n == 0:
		return "There was no other session to end."
	case n == 1:
		return "The session has ended."
	}
	return strconv.FormatUint(n, 10) + " sessions have ended."
}

func sessionRow(one auth.SessionView) view.Session {
	return view.Session{
		ID: one.ID, UserID: one.UserID, Host: one.Host, Device: one.Device, UserAgent: one.UserAgent, Address: one.Address,
		Current: one.Current, Mine: one.Mine, Created: one.CreatedAt, LastSeen: one.LastSeen, LastFrom: one.LastFrom, Expires: one.ExpiresAt,
	}
}

// sessionShow asks before a session is ended.
func (s *Site) sessionShow(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	one, err := s.o.Auth.Session(r.Context(), caller, auth.SessionChoice{ID: r.PathValue("id")})
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, view.EndSessionPage(view.EndSession{
		Shell: s.callerShell(r.Context(), caller, "End a session", "sessions"), Session: sessionRow(one), Now: s.o.Now(),
	}))
	return nil
}

// sessionEnd ends a session.
func (s *Site) sessionEnd(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	whose, err := s.o.Auth.Session(r.Context(), caller, auth.SessionChoice{ID: r.PathValue("id")})
	if err != nil {
		return err
	}
	ended, err := s.o.Auth.EndSession(r.Context(), caller, auth.SessionChoice{ID: whose.ID})
	switch {
	case err != nil:
		return err
	case ended.Own:
		s.ClearCookie(w, r)
		s.redirect(w, r, "/login?signed-out")
	default:
		s.redirect(w, r, sessionsPath(!whose.Mine, 1))
	}
	return nil
}

func sessionsPath(everyone bool, ended int) string {
	values := url.Values{"ended": {strconv.Itoa(ended)}}
	if everyone {
		values.Set("whose", "everyone")
	}
	return "/settings/sessions?" + values.Encode()
}

// otherSessionsShow asks before all other sessions are ended.
func (s *Site) otherSessionsShow(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	in, err := DecodeForm[auth.OtherSessions](r)
	if err != nil {
		return err
	}
	list, err := s.o.Auth.Sessions(r.Context(), caller, auth.SessionsQuery{Whose: in.Whose})
	if err != nil {
		return err
	}
	page := view.EndOthers{
		Shell: s.callerShell(r.Context(), caller, "End other sessions", "sessions"), Everyone: list.Everyone, More: list.More, Now: s.o.Now(),
	}
	for _, one := range list.Items {
		if !one.Current {
			page.Rows = append(page.Rows, sessionRow(one))
		}
	}
	s.render(w, r, http.StatusOK, view.EndOthersPage(page))
	return nil
}

// otherSessionsEnd ends all other sessions.
func (s *Site) otherSessionsEnd(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	in, err := DecodeForm[auth.OtherSessions](r)
	if err != nil {
		return err
	}
	ended, err := s.o.Auth.EndOtherSessions(r.Context(), caller, in)
	if err != nil {
		return err
	}
	s.redirect(w, r, sessionsPath(in.Whose == "everyone", ended.Ended))
	return nil
}
