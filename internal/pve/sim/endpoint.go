package sim

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// call is one request to one endpoint, past authentication and the CSRF check. Its run and check functions are called
// with the datacenter's lock held, so that they read and change its state without further locking; they must not block.
type call struct {
	dc     *Datacenter
	host   *Host // the member whose address was called
	who    *principal
	now    time.Time           // the datacenter's clock
	clock  time.Time           // what the called member believes the time to be: now, but for a fault
	direct bool                // by Datacenter.Call rather than by a client
	params map[string][]string // path, query and body together, after the endpoint's parameter check
}

// param is the first value of a parameter, or "" if it is absent.
func (c *call) param(name string) string {
	if v := c.params[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// integer is the first value of an integer parameter, or 0 if it is absent.
func (c *call) integer(name string) int64 {
	n, _ := strconv.ParseInt(c.param(name), 10, 64)
	return n
}

// has tells whether a parameter was given at all.
func (c *call) has(name string) bool { return len(c.params[name]) > 0 }

// principal is who calls: a user by ticket, or one of a user's API tokens.
type principal struct {
	id    string // user@realm, or user@realm!token
	user  string // user@realm
	token string // "" when called by ticket
}

func newPrincipal(id string) *principal {
	user, token, _ := strings.Cut(id, "!")
	return &principal{id: id, user: user, token: token}
}

// endpoint is one method on one path of the API, declared once: who may call it, what it takes, what it does. The
// order in which PVE checks is kept: path and method (501), permission (403), parameters (400), run.
type endpoint struct {
	method string
	path   string // PVE's own template below /api2/json, as in its schema: /nodes/{node}/lxc/{vmid}/status/start
	world  bool   // no sign-in needed
	ticket bool   // not available with an API token (allowtoken 0 in the schema)
	// check refuses with a *reply error (see permissionDenied); nil lets every signed-in user in.
	check  func(*call) error
	params []param
	// run returns what stands under "data". A returned *reply error is sent as it is; any other error is a plain die: 500
	// with the text as reason phrase.
	run func(*call) (any, error)
}

// param is one parameter's schema: as much of PVE's JSON schema as its refusals need.
type param struct {
	name     string
	required bool
	kind     string // "string", "integer", "boolean", "number"
	enum     []string
	min, max int64 // for integers, when max > min; for strings the least and greatest length
	pattern  string
}

// reply is a refusal with its own status line.
type reply struct {
	status int
	reason string            // the whole text; its first line becomes the reason phrase
	fields map[string]string // parameter errors, for a 400
	bare   bool              // not from Perl's die: the message in the body ends without a line break
}

// plain is the text of a die in PVE's code: a 500 that says so.
type plain string

func (p plain) Error() string { return string(p) }

func (r *reply) Error() string { return fmt.Sprintf("%d %s", r.status, r.reason) }

// permissionDenied is the answer of PVE's RPCEnvironment::check for a missing privilege on an ACL path.
func permissionDenied(path, privileges string) error {
	return &reply{status: http.StatusForbidden, reason: "Permission check failed (" + path + ", " + privileges + ")"}
}

// badParam is the answer of PVE's raise_param_exc for one parameter.
func badParam(name, why string) error {
	return &reply{status: http.StatusBadRequest, reason: "Parameter verification failed.", fields: map[string]string{name: why}}
}
