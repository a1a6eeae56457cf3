package web

import (
	"net/http"
	"reflect"

	"berth/internal/session"
)

// Access is who may call a route.
type Access int

const (
	// Authenticated routes need a valid session, or an access token if their Scope says so. It is the zero value: a route
	// is never open by omission.
	Authenticated Access = iota
	// Public routes answer everybody.
	Public
)

// Shape is what a route's answers are made for, refusals included.
type Shape int

const (
	// Page routes answer a browser: refusals are pages, and a missing session leads to the sign-in page.
	Page Shape = iota
	// API routes answer programs: refusals are application/problem+json.
	API
)

// Handler answers a request of a public route. An error it returns is answered by Site.
type Handler func(w http.ResponseWriter, r *http.Request) error

// CallerHandler answers a request of an authenticated route, for its caller. Without a scope that caller has a session.
type CallerHandler func(w http.ResponseWriter, r *http.Request, caller session.Caller) error

// Route is one line of the route table.
type Route struct {
	Method string
	Path   string // as http.ServeMux takes it, below the base path
	Shape  Shape
	// Passive requests do not count as use of the session.
	Passive bool
	// Scope is what an access token must cover to be let through. The zero value lets none through, and Page routes look
	// for none.
	Scope session.Scope
	// Doc describes a route of the JSON API; nil for pages.
	Doc *Doc

	public        Handler
	authenticated CallerHandler
}

// Doc is what the OpenAPI document says of a route.
type Doc struct {
	ID, Summary string
	In, Out     reflect.Type // input (body of a POST, query of a GET) and body of a 200; nil for none
	Codes       []string     // of problems beyond those that every route can answer with
	Media       string       // of a 200; "" for application/json
}

// PublicRoute is a route that everybody may call.
func PublicRoute(method, path string, shape Shape, h Handler) Route {
	return Route{Method: method, Path: path, Shape: shape, public: h}
}

// AuthenticatedRoute is a route that needs a valid session; see WithScope.
func AuthenticatedRoute(method, path string, shape Shape, h CallerHandler) Route {
	return Route{Method: method, Path: path, Shape: shape, authenticated: h}
}

// WithScope is the route, open to access tokens that cover a scope too.
func (r Route) WithScope(s session.Scope) Route {
	r.Scope = s
	return r
}

// Access is who may call the route.
func (r Route) Access() Access {
	if r.public != nil {
		return Public
	}
	return Authenticated
}

// Pattern is the route as http.ServeMux takes it.
func (r Route) Pattern() string {
	if r.Method == "" {
		return r.Path
	}
	return r.Method + " " + r.Path
}
