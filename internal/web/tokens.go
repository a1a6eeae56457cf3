package web

import (
	"net/http"
	"time"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/session"
	"berth/internal/token"
	"berth/internal/web/view"
)

// tokenRoutes are the pages with which people manage their access tokens.
func (s *Site) tokenRoutes() []Route {
	return []Route{
		AuthenticatedRoute("GET", "/settings/tokens", Page, s.tokens),
		AuthenticatedRoute("POST", "/settings/tokens", Page, s.tokenMake),
		AuthenticatedRoute("GET", "/settings/tokens/{id}", Page, s.tokenShow),
		AuthenticatedRoute("POST", "/settings/tokens/{id}/revoke", Page, s.tokenRevoke),
	}
}

// usualLife is how long a token lives unless its owner chooses another day.
const usualLife = 90 * 24 * time.Hour

func (s *Site) tokensPage(r *http.Request, caller session.Caller) (view.Tokens, error) {
	list, err := s.o.Tokens.List(r.Context(), caller, auth.None{})
	if err != nil {
		return view.Tokens{}, err
	}
	now := s.o.Now()
	page := view.Tokens{
		Shell: s.callerShell(r.Context(), caller, "Access tokens", "tokens"), Now: now, WorkUntil: list.WorkUntil,
		Scope: string(session.ScopeRead), Expires: now.Add(usualLife).UTC().Format(time.DateOnly),
		First: now.UTC().Format(time.DateOnly), Last: token.LatestExpiry(now).Format(time.DateOnly),
	}
	for _, one := range list.Items {
		page.Rows = append(page.Rows, tokenRow(one))
	}
	return page, nil
}

func tokenRow(one token.View) view.Token {
	return view.Token{
		ID: one.ID, Name: one.Name, Scope: string(one.Scope), Created: one.CreatedAt, Expires: one.ExpiresAt,
		LastUsed: one.LastUsedAt, Expired: one.Expired,
	}
}

// tokens is the page Settings > Access tokens.
func (s *Site) tokens(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	page, err := s.tokensPage(r, caller)
	if err != nil {
		return err
	}
	if r.URL.Query().Has("revoked") {
		page.Done = "The access token was revoked."
	}
	s.render(w, r, http.StatusOK, view.TokensPage(page))
	return nil
}

// tokenMake makes an access token. Its text is in the answer itself: an address that leads to it must not exist.
func (s *Site) tokenMake(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	in, err := DecodeForm[token.CreateInput](r)
	var made token.Created
	if err == nil {
		made, err = s.o.Tokens.Create(r.Context(), caller, in)
	}
	f := fault.As(err)
	if err != nil && (f == nil || f.Kind != fault.Invalid && f.Kind != fault.Conflict) {
		return err
	}
	page, listErr := s.tokensPage(r, caller)
	if listErr != nil {
		return listErr
	}
	if err == nil {
		row := tokenRow(made.View)
		page.Made, page.Text = &row, made.Text
		s.render(w, r, http.StatusOK, view.TokensPage(page))
		return nil
	}
	page.Name, page.Scope, page.Expires, page.Errors = in.Name, string(in.Scope), in.ExpiresAt, f.Fields
	if f.Kind != fault.Invalid {
		page.Failure = &view.Failure{Message: f.Message, Hint: f.Hint}
	}
	s.render(w, r, status(f.Kind), view.TokensPage(page))
	return nil
}

// tokenShow asks before a token is revoked.
func (s *Site) tokenShow(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	one, err := s.o.Tokens.Show(r.Context(), caller, token.Choice{ID: r.PathValue("id")})
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, view.RevokeTokenPage(view.RevokeToken{
		Shell: s.callerShell(r.Context(), caller, "Revoke an access token", "tokens"), Token: tokenRow(one), Now: s.o.Now(),
	}))
	return nil
}

// tokenRevoke revokes a token.
func (s *Site) tokenRevoke(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	if _, err := s.o.Tokens.Revoke(r.Context(), caller, token.Choice{ID: r.PathValue("id")}); err != nil {
		return err
	}
	s.redirect(w, r, "/settings/tokens?revoked")
	return nil
}
