package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// request is one HTTP request, read whole.
type request struct {
	proto  string // HTTP/1.0 or HTTP/1.1
	method string
	path   string // decoded
	query  string // raw
	header http.Header
	length int64 // of the body, as announced
	body   []byte
	clock  time.Time // what the member believes the time to be
}

// maxBody is AnyEvent.pm's limit_max_post.
const maxBody = 512 * 1024

// response is what goes out; see writeResponse.
type response struct {
	status      int
	reason      string // "" for the standard text
	contentType string // "" for none
	location    string
	body        []byte
	slow        bool // held back, as every refusal of credentials
	accepted    bool // an endpoint's code ran and succeeded
}

// refused is an answer of the HTTP layer, before any endpoint: the reason again as plain text.
func refused(status int, reason string) response {
	return response{status: status, reason: reason, body: []byte(reason)}
}

// unauthorized is a refusal of credentials, which has no body (HTTPServer.pm, auth_handler).
func unauthorized(reason string) response {
	return response{status: http.StatusUnauthorized, reason: reason, slow: true}
}

// answer does what pveproxy does once a request is read, in its order: authentication, CSRF, form of the request,
// format, route, duplicate path parameters, permissions, another member's turn, parameters, the endpoint itself.
func (h *Host) answer(r *request) response {
	below, ok := apiPath(r.path)
	if !ok {
		return refused(http.StatusInternalServerError, "no such file '"+r.path+"'")
	}
	format, uri, ok := splitFormat(below)
	if !ok {
		return refused(http.StatusNotImplemented, "no such uri")
	}
	route, fromPath := h.dc.routes.find(r.method, uri)
	ticket, apiToken := credentials(r.header)
	c := &call{dc: h.dc, host: h, now: h.dc.now(), clock: r.clock}
	ticketUser, ticketValid := "", false
	if ticket != "" {
		ticketUser, ticketValid = h.dc.ticketUser(ticket, r.clock) // slow, so not under the lock
	}

	h.dc.mu.Lock()
	defer h.dc.mu.Unlock()

	if route == nil || !route.world {
		switch {
		case ticket != "":
			if !ticketValid || !h.dc.access.users[ticketUser].active(r.clock) {
				return unauthorized("Authentication failed!")
			}
			c.who = newPrincipal(ticketUser)
			upload := r.method == http.MethodPost && strings.HasPrefix(uri, "/nodes/") && strings.HasSuffix(uri, "/upload")
			if r.method != http.MethodGet && !upload && !h.dc.verifyCSRFToken(r.header.Get("CSRFPreventionToken"), ticketUser, r.clock) {
				return unauthorized("Permission denied - invalid csrf token")
			}
		case apiToken != "":
			if c.who = h.dc.tokenPrincipal(apiToken, r.clock); c.who == nil {
				return unauthorized("Authentication failed!")
			}
		default:
			return unauthorized("No ticket")
		}
	}
	contentType := r.header.Get("Content-Type")
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.TrimSpace(kind)
	switch {
	case r.length <= 0:
	case r.method != http.MethodPost && r.method != http.MethodPut:
		return refused(http.StatusNotImplemented, "Unexpected content for method '"+r.method+"'")
	case r.length > maxBody:
		return refused(http.StatusNotImplemented, "for data too large")
	case kind != "" && kind != "application/x-www-form-urlencoded" && kind != "application/json":
		return refused(http.StatusVariantAlsoNegotiates, "upload 'Content-Type '"+contentType+"' not implemented")
	}
	if format != "json" && format != "extjs" {
		return refused(http.StatusNotImplemented, "no formatter for uri "+uri+", "+format)
	}
	values, err := parameters(r, kind)
	if err != nil {
		return refused(http.StatusInternalServerError, err.Error())
	}
	data, err := c.perform(r.method, uri, route, fromPath, values, ticket == "" && apiToken != "")
	var gone unreachable
	if errors.As(err, &gone) {
		return response{status: 595, reason: string(gone)}
	}
	return formatted(format, data, err)
}

// unreachable is the reason why a member could not be asked. AnyEvent::HTTP's pseudo status goes to the client as it
// is, without a body (AnyEvent.pm, proxy_request).
type unreachable string

func (u unreachable) Error() string { return string(u) }

// perform is rest_handler (pve-manager, PVE/HTTPServer.pm) from the route on.
func (c *call) perform(method, uri string, route *route, fromPath map[string]string, values map[string][]string, byToken bool) (any, error) {
	if route == nil {
		return nil, &reply{status: http.StatusNotImplemented, reason: "Method '" + method + " " + uri + "' not implemented", bare: true}
	}
	for name, v := range fromPath {
		if given, ok := values[name]; ok && (len(given) != 1 || given[0] != v) {
			return nil, badParam(name, "duplicate parameter (already defined in URI) with conflicting values!")
		}
		values[name] = []string{v}
	}
	c.params = values
	if byToken && route.ticket {
		return nil, &reply{
			status: http.StatusForbidden,
			reason: "Permission check failed (URI '" + uri + "' not available with API token, need proper ticket.\n)",
		}
	}
	if node, ok := fromPath["node"]; ok && node == "localhost" {
		c.params["node"] = []string{c.host.member.name}
	}
	if route.check != nil && c.who.id != rootUser {
		if err := route.check(c); err != nil {
			return nil, err
		}
	}
	if _, ok := fromPath["node"]; ok {
		node := c.param("node")
		switch m := c.dc.member(node); {
		case m == nil:
			return nil, plain("hostname lookup '" + node + "' failed - failed to get address info for: " + node + ": Name or service not known")
		case !m.online() && m != c.host.member:
			return nil, unreachable("No route to host")
		}
	}
	if err := route.schema.check(c.params); err != nil {
		return nil, err
	}
	return route.run(c)
}

// total is an answer that says beside its data how many rows there are in all, as task logs do.
type total struct {
	data  any
	total int
}

// formatted is prepare_response_data (Formatter/Standard.pm) for the formatters json and extjs.
func formatted(format string, data any, err error) response {
	body := map[string]any{"data": data}
	if t, ok := data.(total); ok {
		body["data"], body["total"] = t.data, t.total
	}
	r := response{status: http.StatusOK, contentType: "application/json;charset=UTF-8"}
	if err != nil {
		message := err.Error() + "\n"
		// extjs shows whether PVE's code died, which makes a number of the status, or raised an exception, which makes a
		// string of it.
		var code any = http.StatusInternalServerError
		r.status, r.reason = http.StatusInternalServerError, err.Error()
		var refusal *reply
		if errors.As(err, &refusal) {
			r.status, r.reason = refusal.status, refusal.reason
			message, code = refusal.reason+"\n", strconv.Itoa(refusal.status)
			if refusal.bare {
				message, code = refusal.reason, refusal.status
			}
			if len(refusal.fields) > 0 {
				body["errors"] = refusal.fields
			}
		}
		body["data"], body["message"] = nil, message
		r.slow = r.status == http.StatusUnauthorized
		if format == "extjs" {
			body["status"] = code
			r.status, r.reason = http.StatusOK, ""
		}
	}
	if format == "extjs" {
		body["success"] = number(err == nil)
	}
	r.accepted = err == nil
	r.body, err = encode(body)
	if err != nil {
		return refused(http.StatusInternalServerError, "encoding the answer failed")
	}
	return r
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// apiPath is what follows /api2.
func apiPath(path string) (string, bool) { return strings.CutPrefix(path, "/api2") }

// splitFormat is split_abs_uri (AnyEvent.pm): /json/version becomes json and /version.
func splitFormat(path string) (format, uri string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return "", "", false
	}
	format, uri, _ = strings.Cut(rest, "/")
	for i, c := range format {
		if (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return "", "", false
		}
	}
	return format, "/" + uri, format != ""
}

// credentials reads ticket and API token (Formatter.pm, extract_auth_value): the cookie, else the Authorization header
// as a ticket, else as a token.
func credentials(h http.Header) (ticket, apiToken string) {
	authorization := h.Get("Authorization")
	if ticket = authValue(strings.Join(h["Cookie"], "; "), "PVEAuthCookie"); ticket == "" {
		ticket = authValue(authorization, "PVEAuthCookie")
	}
	if ticket == "" {
		apiToken = authValue(authorization, "PVEAPIToken")
	}
	return ticket, apiToken
}

// authValue finds key=value or "key value" at the start of a header or behind white space, up to a semicolon, and
// decodes what is percent-encoded.
func authValue(header, key string) string {
	for at := 0; at < len(header); {
		i := strings.Index(header[at:], key)
		if i < 0 {
			return ""
		}
		start := at + i
		at = start + len(key)
		if at < len(header) && (header[at] == '=' || header[at] == ' ') && (start == 0 || header[start-1] == ' ' || header[start-1] == '\t') {
			value, _, _ := strings.Cut(header[at+1:], ";")
			return unescape(value)
		}
	}
	return ""
}

// unescape is uri_unescape (URI::Escape): what is no escape stays as it is, and so does a plus sign.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if decoded, err := url.PathUnescape(s[i : i+3]); err == nil {
				b = append(b, decoded...)
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// parameters are those of body and query; where both have one, the query wins (AnyEvent.pm, extract_params).
func parameters(r *request, contentType string) (map[string][]string, error) {
	values := map[string][]string{}
	switch {
	case len(r.body) == 0:
	case contentType == "application/json":
		if err := decodeJSON(values, r.body); err != nil {
			return nil, err
		}
	default:
		decodeForm(values, string(r.body))
	}
	if r.query != "" {
		inQuery := map[string][]string{}
		decodeForm(inQuery, r.query)
		maps.Copy(values, inQuery)
	}
	return values, nil
}

// decodeForm is decode_urlencoded (AnyEvent.pm): repeated keys make a list.
func decodeForm(into map[string][]string, text string) {
	for pair := range strings.FieldsFuncSeq(text, func(c rune) bool { return c == '&' || c == ';' }) {
		name, value, _ := strings.Cut(pair, "=")
		name = unescape(strings.ReplaceAll(name, "+", " "))
		if name != "" {
			into[name] = append(into[name], unescape(strings.ReplaceAll(value, "+", " ")))
		}
	}
}

// decodeJSON takes an object whose values are scalars or lists of scalars.
func decodeJSON(into map[string][]string, text []byte) error {
	var object map[string]any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&object); err != nil || object == nil {
		return plain("malformed JSON string")
	}
	for name, v := range object {
		list, isList := v.([]any)
		if !isList {
			list = []any{v}
		}
		for _, item := range list {
			switch item := item.(type) {
			case nil: // undefined, so not given
			case string:
				into[name] = append(into[name], item)
			case json.Number:
				into[name] = append(into[name], item.String())
			case bool:
				into[name] = append(into[name], strconv.Itoa(number(item)))
			default:
				return plain("parameter '" + name + "' is neither a value nor a list of values")
			}
		}
	}
	return nil
}
