package web

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"berth/internal/audit"
	"berth/internal/auth"
	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/session"
	"berth/internal/task"
	"berth/internal/token"
	"berth/internal/web/static"
	"berth/internal/web/view"
)

// Options are what a Site needs.
type Options struct {
	Auth       *auth.Service
	Hosts      *auth.Hosts
	Sessions   *session.Registry
	Nodes      *node.Service
	Tokens     *token.Service
	Containers *container.Service
	Details    *container.Details
	Tasks      *task.Service
	Trail      *audit.Reader
	Now        func() time.Time
	// Ready tells whether the stores answer, for /readyz.
	Ready func(context.Context) error
	// Exposed is set when Berth listens beyond loopback without TLS, and knows of no proxy that adds it.
	Exposed bool
	// BasePath is "" at the root of the site, else "/berth": no slash at the end.
	BasePath string
	// PublicURL is the address that people open, without a slash at the end; nil if the operator gave none.
	PublicURL *url.URL
	// HostNames are further names that Berth is asked for under, MachineName is this machine's.
	HostNames   []string
	MachineName string
	// TrustedProxies are the addresses whose forwarded headers are believed.
	TrustedProxies []netip.Prefix
	Version        string
	// Begin is told of every request, with the header traceparent if a trusted proxy sent it on, and returns the context that
	// the request goes on with; it may be nil.
	Begin func(ctx context.Context, traceparent string) context.Context
	// Answered is told of every request when it is over, Streaming of an event stream when it has begun; both may be nil.
	Answered, Streaming func(context.Context, Answered)
	// SuggestHost and SuggestPort fill in the sign-in page of a browser that has not signed in yet.
	SuggestHost, SuggestPort string
}

// Site serves the pages, and guards every route.
type Site struct {
	o     Options
	known map[string]bool // the host names that Berth answers to
	// strangers sent forwarded headers that were not believed; misled asked for a host that is not Berth's.
	strangers, misled notices
	shared            sharedPages
	// streams ends when event streams have to.
	streams    context.Context
	endStreams context.CancelFunc
}

// NewSite returns a site.
func NewSite(o Options) *Site {
	s := &Site{o: o, known: knownHosts(o)}
	s.streams, s.endStreams = context.WithCancel(context.Background())
	return s
}

// Routes are the routes of the pages, the assets and the health probes.
func (s *Site) Routes() []Route {
	return append(slices.Concat(s.hostRoutes(), s.containerRoutes(), s.nodeRoutes(), s.tokenRoutes(), s.dashboardRoutes(), s.changeRoutes(), s.taskRoutes()), []Route{
		PublicRoute("GET", "/login", Page, s.loginShow),
		PublicRoute("POST", "/login", Page, s.login),
		PublicRoute("GET", "/login/tfa", Page, s.secondFactorShow),
		PublicRoute("POST", "/login/tfa", Page, s.secondFactor),
		PublicRoute("GET", openIDPath, Page, s.openIDShow),
		PublicRoute("POST", openIDPath, Page, s.openID),
		AuthenticatedRoute("POST", "/logout", Page, s.logout),
		AuthenticatedRoute("GET", "/settings/sessions", Page, s.sessions),
		AuthenticatedRoute("GET", "/settings/sessions/{id}", Page, s.sessionShow),
		AuthenticatedRoute("POST", "/settings/sessions/{id}/end", Page, s.sessionEnd),
		AuthenticatedRoute("GET", "/settings/sessions/end-others", Page, s.otherSessionsShow),
		AuthenticatedRoute("POST", "/settings/sessions/end-others", Page, s.otherSessionsEnd),
		AuthenticatedRoute("GET", "/settings/audit", Page, s.audit),
		AuthenticatedRoute("GET", "/settings/about", Page, s.about),

		PublicRoute("GET", static.Prefix, Page, asset),
		PublicRoute("GET", "/healthz", API, s.healthz),
		PublicRoute("GET", "/readyz", API, s.readyz),
	}...)
}

// asset serves what a browser loads besides pages.
func asset(w http.ResponseWriter, r *http.Request) error {
	if !static.Has(r.URL.Path) {
		w.Header().Set("Cache-Control", "no-store") // the next version may have it
		return fault.NoSuch("page")
	}
	static.Handler().ServeHTTP(w, r)
	return nil
}

// Handler serves a table of routes. What is in no route needs a session too, so that a stranger can't tell what exists.
func (s *Site) Handler(routes []Route) http.Handler {
	mux := http.NewServeMux()
	for _, route := range routes {
		s.mount(mux, route)
	}
	s.mount(mux, AuthenticatedRoute("", "/api/", API, s.nothingHere(mux)).WithScope(session.ScopeRead))
	s.mount(mux, AuthenticatedRoute("", "/", Page, s.nothingHere(mux)))

	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.answerError(w, r, s.shapeOf(r), &fault.Error{
			Kind: fault.Forbidden, Code: "cross_origin", Message: "This request came from another site, so it was refused.",
		})
	}))
	var h http.Handler = crossOrigin.Handler(mux)
	h = s.belowBasePath(h)
	h = s.onlyKnownHosts(h)
	h = s.recoverPanics(h)
	h = secureHeaders(h)
	return s.identifyClient(h)
}

// mount puts a route below the base path. The mux knows the whole path, so that the redirects of its own (of "/a//b", and
// of "/static" to "/static/") stay below it; handlers see the path of their route.
func (s *Site) mount(mux *http.ServeMux, route Route) {
	whole := route
	whole.Path = s.o.BasePath + route.Path
	mux.Handle(whole.Pattern(), http.StripPrefix(s.o.BasePath, s.guard(route)))
}

// nothingHere tells a path that exists for other methods from one that does not.
func (s *Site) nothingHere(mux *http.ServeMux) CallerHandler {
	return func(w http.ResponseWriter, r *http.Request, _ session.Caller) error {
		var allowed []string
		whole := *r.URL
		whole.Path, whole.RawPath = s.o.BasePath+r.URL.Path, ""
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			probe := &http.Request{Method: method, URL: &whole, Host: r.Host}
			if _, pattern := mux.Handler(probe); strings.HasPrefix(pattern, method+" ") {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			return fault.NoSuch("page")
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return &fault.Error{Kind: fault.NotAllowed, Code: "method_not_allowed", Message: "This address does not take " + r.Method + " requests."}
	}
}

// redirect leads the browser on after a form: htmx follows its own header, everything else a 303.
func (s *Site) redirect(w http.ResponseWriter, r *http.Request, path string) {
	if r.Header.Get("HX-Request") != "" {
		w.Header().Set("HX-Redirect", s.o.BasePath+path)
		w.WriteHeader(http.StatusOK)
		return
	}
	http.Redirect(w, r, s.o.BasePath+path, http.StatusSeeOther)
}

// shell is what a page of a visitor shows around its content.
func (s *Site) shell(ctx context.Context, title string) view.Shell {
	return view.Shell{Title: title, BasePath: s.o.BasePath, Insecure: s.inTheClear(arrivalOf(ctx))}
}

// callerShell is what a page of a caller shows around its content.
func (s *Site) callerShell(ctx context.Context, caller session.Caller, title, current string) view.Shell {
	shell := s.shell(ctx, title)
	shell.UserID, shell.Current, shell.Settings = caller.Identity.UserID, current, s.settingsFor(ctx, caller)
	shell.Notices, shell.Now = s.notices(ctx, caller), s.o.Now()
	if at, err := s.o.Hosts.Address(ctx, caller.Session.LoginHost); err == nil {
		shell.Host = at.String()
	}
	return shell
}

// shellFor is the shell of a page that is shown to visitors and callers alike.
func (s *Site) shellFor(r *http.Request, title string) view.Shell {
	if caller, ok := r.Context().Value(callerKey{}).(session.Caller); ok {
		return s.callerShell(r.Context(), caller, title, "")
	}
	return s.shell(r.Context(), title)
}
