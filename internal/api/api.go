package api

import (
	"net/http"
	"reflect"

	"berth/internal/audit"
	"berth/internal/auth"
	"berth/internal/container"
	"berth/internal/node"
	"berth/internal/session"
	"berth/internal/task"
	"berth/internal/token"
	"berth/internal/web"
)

// API is the JSON API over the features' actions.
type API struct {
	site       *web.Site
	auth       *auth.Service
	tokens     *token.Service
	nodes      *node.Service
	containers *container.Service
	details    *container.Details
	tasks      *task.Service
	trail      *audit.Reader
	version    string
}

// New returns the API. The site keeps its cookies.
func New(site *web.Site, a *auth.Service, nodes *node.Service, tokens *token.Service, containers *container.Service, details *container.Details, tasks *task.Service, trail *audit.Reader, version string) *API {
	return &API{site: site, auth: a, nodes: nodes, tokens: tokens, containers: containers, details: details, tasks: tasks, trail: trail, version: version}
}

// Routes are the API's routes, its document among them.
func (a *API) Routes() []web.Route {
	routes := []web.Route{
		public("POST", "/api/auth/login", "login", "Sign in with a Proxmox VE account", a.auth.SignIn, a.signedIn,
			"signin_failed", "certificate_unknown", "claim_code_required", "host_not_allowed", "too_many_attempts"),
		public("POST", "/api/auth/tfa", "answerChallenge", "Second step of a sign-in", a.auth.AnswerChallenge, a.signedIn,
			"signin_failed", "challenge_expired", "too_many_attempts"),
		public("GET", "/api/auth/realms", "realms", "The realms to sign in with at a known login host", a.auth.ListRealms, nil, "too_many_attempts"),
		authenticated("POST", "/api/auth/logout", "logout", "Sign out", a.auth.SignOut, a.signedOut),
		authenticated("GET", "/api/auth/session", "session", "Who is signed in", a.auth.SessionStatus, nil),
		authenticated("GET", "/api/hosts", "listHosts", "The login hosts, for owners", a.auth.ListHosts, nil, "owners_only"),
		authenticated("POST", "/api/hosts", "addHost", "Add a login host of the owner's own Proxmox installation, by proof", a.auth.AddHost, nil,
			"owners_only", "host_not_proven", "host_known", "too_many_attempts"),
		authenticated("POST", "/api/hosts/certificate", "presentedCertificate", "Compare what a login host presents with what is pinned", a.auth.PresentedCertificate, nil,
			"owners_only", "too_many_attempts"),
		authenticated("POST", "/api/hosts/repin", "repinHost", "Accept the changed certificate of a login host", a.auth.RepinHost, nil,
			"owners_only", "certificate_unknown", "too_many_attempts"),
		authenticated("POST", "/api/hosts/remove", "removeHost", "Remove a login host; the sessions there end", a.auth.RemoveHost, nil,
			"owners_only", "last_host"),
		authenticated("GET", "/api/sessions", "listSessions", "The caller's sessions, or for an owner everyone's", a.auth.Sessions, nil, "owners_only"),
		authenticated("POST", "/api/sessions/{id}/end", "endSession", "End a session of the caller's, or for an owner anybody's", a.auth.EndSession, a.endedSession),
		authenticated("POST", "/api/sessions/end-others", "endOtherSessions", "End all sessions but the one that asks", a.auth.EndOtherSessions, nil, "owners_only"),
		authenticated("GET", "/api/audit", "listAudit", "What the caller did and what concerns them; for an owner everyone's sign-ins, sessions, hosts and keys too", a.trail.List, nil, "owners_only").WithScope(session.ScopeRead),
		a.auditExport(),
	}
	routes = append(routes, a.containerRoutes()...)
	routes = append(routes, a.tokenRoutes()...)
	routes = append(routes, a.taskRoutes()...)
	routes = append(routes, a.nodeRoutes()...)
	routes = append(routes, authenticated("GET", "/api/about", "about", "What Berth is, and what it sees of this request", a.site.About, nil))
	var document []byte
	routes = append(routes, web.AuthenticatedRoute("GET", "/api/openapi.json", web.API,
		func(w http.ResponseWriter, _ *http.Request, _ session.Caller) error {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(document) // the client may have gone
			return nil
		}).WithScope(session.ScopeRead))
	document = openAPI(routes, a.version)
	return routes
}

// after runs between an action and its answer, where an answer is more than its body.
type after[Out any] func(w http.ResponseWriter, r *http.Request, out Out)

func (a *API) signedIn(w http.ResponseWriter, r *http.Request, out auth.SignedIn) {
	if out.Token != "" {
		a.site.SetCookie(w, r, out.Token)
	}
}

func (a *API) endedSession(w http.ResponseWriter, r *http.Request, out auth.EndedSession) {
	if out.Own {
		a.site.ClearCookie(w, r)
	}
}

func (a *API) signedOut(w http.ResponseWriter, r *http.Request, _ auth.SignedOut) {
	a.site.ClearCookie(w, r)
}

func public[In, Out any](method, path, id, summary string, action web.PublicAction[In, Out], then after[Out], codes ...string) web.Route {
	route := web.PublicRoute(method, path, web.API, func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "no-store")
		in, err := web.DecodeJSON[In](r)
		if err != nil {
			return err
		}
		out, err := action(r.Context(), in)
		if err != nil {
			return err
		}
		return answer(w, r, out, then)
	})
	return document[In, Out](route, id, summary, codes)
}

func authenticated[In, Out any](method, path, id, summary string, action web.AuthenticatedAction[In, Out], then after[Out], codes ...string) web.Route {
	route := web.AuthenticatedRoute(method, path, web.API, func(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
		in, err := web.DecodeJSON[In](r)
		if err != nil {
			return err
		}
		out, err := action(r.Context(), caller, in)
		if err != nil {
			return err
		}
		return answer(w, r, out, then)
	})
	return document[In, Out](route, id, summary, codes)
}

func answer[Out any](w http.ResponseWriter, r *http.Request, out Out, then after[Out]) error {
	if then != nil {
		then(w, r, out)
	}
	return web.WriteJSON(w, out)
}

func document[In, Out any](route web.Route, id, summary string, codes []string) web.Route {
	route.Doc = &web.Doc{ID: id, Summary: summary, In: reflect.TypeFor[In](), Out: reflect.TypeFor[Out](), Codes: codes}
	return route
}
