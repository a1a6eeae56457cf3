package api

import (
	"berth/internal/session"
	"berth/internal/web"
)

// tokenRoutes manage access tokens, which is for sessions alone: a token must not outlive itself by making others.
func (a *API) tokenRoutes() []web.Route {
	return []web.Route{
		authenticated("GET", "/api/tokens", "listTokens", "The caller's access tokens", a.tokens.List, nil),
		authenticated("POST", "/api/tokens", "createToken", "Make an access token; its text is in this answer and nowhere else", a.tokens.Create, nil,
			"too_many_tokens"),
		authenticated("DELETE", "/api/tokens/{id}", "revokeToken", "Revoke one of the caller's access tokens, at once", a.tokens.Revoke, nil,
			"not_found"),
		authenticated("GET", "/api/caller", "caller", "Who asks, and with what", a.tokens.Caller, nil).WithScope(session.ScopeRead),
	}
}
