package pve

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const apiRoot = "/api2/json/"

// Attempts of a GET, the first included, and the pause before the second; it doubles.
const (
	maxAttempts = 3
	firstPause  = 200 * time.Millisecond
)

// Bounds on answers, in bytes.
const (
	maxErrorBody = 64 << 10  // a refusal
	maxSmallBody = 256 << 10 // one object
	maxListBody  = 1 << 20   // a list of what an installation has dozens of
	maxLargeBody = 8 << 20   // a list of what it has thousands of; some 20,000 guests
)

// call is one call of the API before it is sent. Its attempts share it.
type call struct {
	method string
	path   []string // the segments below /api2/json, unescaped
	params url.Values
	// credentials are nil for the calls that need none (HS auth_handler).
	credentials Credentials
	// forwardedFor is the client's address for PVE's log, which shows it where PROXY_REAL_IP_HEADER is configured.
	forwardedFor netip.Addr
	// secrets must not come back in an error's text.
	secrets []string
	signIn  bool // has Options.SignInTimeout
	// password calls carry one, or a code: anybody can cause them, so they have turns of their own.
	password   bool
	maxBody    int64 // 0 means maxSmallBody, or maxListBody with entries; never more than Options.MaxBody
	maxEntries int   // of rows; 0 means maxKept
	// entries begins to take the entries of an answer whose data is a list, as they arrive; it is called for each attempt
	// that gets so far. With it, answer.data stays nil, and data that is no list is refused.
	entries func() (take func(record) error)
}

func get(credentials Credentials, path ...string) *call {
	return &call{method: http.MethodGet, credentials: credentials, path: path}
}

func post(credentials Credentials, path ...string) *call {
	return &call{method: http.MethodPost, credentials: credentials, path: path}
}

func put(credentials Credentials, path ...string) *call {
	return &call{method: http.MethodPut, credentials: credentials, path: path}
}

func remove(credentials Credentials, path ...string) *call {
	return &call{method: http.MethodDelete, credentials: credentials, path: path}
}

// op names the call in errors and logs.
func (c *call) op() string {
	return c.method + " " + printable(strings.Join(c.path, "/"), 256)
}

func (c *call) set(name, value string) {
	if c.params == nil {
		c.params = make(url.Values)
	}
	c.params.Set(name, value)
}

func (c *call) setInt(name string, value int64) { c.set(name, strconv.FormatInt(value, 10)) }

// setFlag sends a boolean that differs from its default of 0.
func (c *call) setFlag(name string, value bool) {
	if value {
		c.set(name, "1")
	}
}

// request builds one attempt. Parameters go into the query of GET and DELETE, since PVE refuses a body there, and
// url-encoded with a Content-Length into the body of everything else, since PVE refuses chunks (AE process_header,
// authenticate_and_handle_request).
func (c *call) request(ctx context.Context, h *Host) (*http.Request, error) {
	var path strings.Builder
	for i, segment := range c.path {
		// PVE decodes the path before it splits it, so an escaped slash would still separate.
		if segment == "" || segment == "." || segment == ".." || strings.ContainsRune(segment, '/') {
			return nil, &InputError{Field: "path", Message: "a name in the path is empty or contains a slash"}
		}
		if i > 0 {
			path.WriteByte('/')
		}
		path.WriteString(url.PathEscape(segment))
	}
	target := "https://" + h.address.String() + apiRoot + path.String()

	var body io.Reader
	if encoded := c.params.Encode(); c.method == http.MethodGet || c.method == http.MethodDelete {
		if encoded != "" {
			target += "?" + encoded
		}
	} else {
		body = strings.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("%s on %s: the request can't be built", c.op(), h.address)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", h.client.options.UserAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if c.forwardedFor.IsValid() {
		req.Header.Set("X-Forwarded-For", c.forwardedFor.Unmap().WithZone("").String())
	}
	if c.credentials != nil {
		if err := c.credentials.authorize(req); err != nil {
			return nil, err
		}
	}
	return req, nil
}

// answer is a 2xx answer of PVE.
type answer struct {
	status int
	data   json.RawMessage // nil where it is null
	total  int64           // how many entries a list has beyond the page that was asked for; 0 if not said
	skew   time.Duration   // as Error.ClockSkew
}

// do makes a call within its one time limit. Only a GET is sent again, and only when the network or a proxy on the way
// failed: whatever else was sent may have been acted upon.
func (h *Host) do(ctx context.Context, c *call) (a answer, err error) {
	if h.client.options.Observe != nil {
		began := time.Now()
		defer func(ctx context.Context) { h.called(ctx, c, began, a, err) }(ctx)
	}
	limit := h.client.options.CallTimeout
	if c.signIn {
		limit = h.client.options.SignInTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()

	wait := firstPause
	for attempt := 1; ; attempt++ {
		a, err := h.once(ctx, c)
		var failure *Error
		if err == nil || !errors.As(err, &failure) || !failure.transient || c.method != http.MethodGet || attempt == maxAttempts {
			return a, err
		}
		if h.client.pause(ctx, wait) != nil {
			return answer{}, err
		}
		wait *= 2
	}
}

func (h *Host) once(ctx context.Context, c *call) (answer, error) {
	ctx, turn := withTurn(ctx)
	req, err := c.request(ctx, h)
	if err != nil {
		return answer{}, err
	}
	turns := h.calls
	if c.password {
		turns = h.passwords
	}
	var resp *http.Response
	select {
	case turns <- struct{}{}:
		defer func() { <-turns }() // after the answer's body is closed
		// The transport itself, not an http.Client: it follows no redirect, keeps no cookie and puts no URL into errors.
		resp, err = h.transport.RoundTrip(req)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		failure := h.networkError(ctx, c.op(), err)
		if failure.Kind == KindHostUnreachable && ctx.Err() != nil && turn.starved() {
			failure.Kind = KindBusy
		}
		return answer{}, failure
	}
	defer resp.Body.Close()

	switch {
	case resp.StatusCode < 200:
		// 101: what follows is no body, and might never end.
		return answer{}, h.statusError(c, resp, nil)
	case resp.StatusCode > 299:
		// The status line says enough, whatever becomes of the body.
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
		return answer{}, h.statusError(c, resp, body)
	}
	return h.readAnswer(ctx, c, resp)
}

// readAnswer reads the body of a 2xx answer, as far as its bounds allow.
func (h *Host) readAnswer(ctx context.Context, c *call, resp *http.Response) (answer, error) {
	limit := int64(maxSmallBody)
	switch {
	case c.maxBody > 0:
		limit = c.maxBody
	case c.entries != nil:
		limit = maxListBody
	}
	limit = min(limit, h.client.options.MaxBody)
	body := &bounded{from: resp.Body, left: limit}
	if c.entries != nil {
		body.shape.row = maxRow
	}
	a, err := h.decodeAnswer(c, resp, json.NewDecoder(body))
	var refused *Error
	switch {
	case errors.Is(body.err, errTooLong):
		return answer{}, h.refusal(c, resp, KindTooLarge, fmt.Sprintf("the answer is longer than %d bytes", limit))
	case errors.Is(body.err, errShape):
		return answer{}, h.refusal(c, resp, KindTooLarge, errShape.Error())
	case body.err != nil:
		return answer{}, h.networkError(ctx, c.op(), body.err)
	case errors.As(err, &refused):
		return answer{}, err
	case err != nil:
		return answer{}, h.refusal(c, resp, KindNotProxmox, err.Error())
	}
	a.skew = h.clockSkew(resp)
	return a, nil
}

// refusal is an error about an answer, in our own words.
func (h *Host) refusal(c *call, resp *http.Response, kind Kind, message string) *Error {
	return &Error{
		Kind: kind, Op: c.op(), Host: h.address.String(), Status: resp.StatusCode, Reason: c.hostText(reason(resp)), Message: message,
		ClockSkew: h.clockSkew(resp),
	}
}

var (
	errNotJSON = errors.New("the answer is not JSON")
	errNoData  = errors.New("the answer has no data")
	errNoList  = errors.New("the answer is not a list of objects")
)

// decodeAnswer takes the envelope off a 2xx answer as it arrives. Errors that aren't an *Error are about the answer's form,
// unless reading it failed.
func (h *Host) decodeAnswer(c *call, resp *http.Response, dec *json.Decoder) (answer, error) {
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return answer{}, errNotJSON
	}
	a := answer{status: resp.StatusCode}
	var envelope record // what else matters of it
	found := false
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return answer{}, errNotJSON
		}
		if key == "data" && c.entries != nil {
			found = true
			if err := decodeList(dec, c.entries()); err != nil {
				return answer{}, err
			}
			continue
		}
		var value json.RawMessage
		if c.entries == nil && (key == "data" || key == "errors") {
			err = dec.Decode(&value)
		} else {
			value, err = decodeScalar(dec)
		}
		if err != nil {
			return answer{}, errNotJSON
		}
		switch key {
		case "data":
			found = true
			if a.data = value; isNull(value) {
				a.data = nil
			}
		case "success", "status", "message", "errors", "total":
			if envelope == nil {
				envelope = record{}
			}
			envelope[key.(string)] = value
		}
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return answer{}, errNotJSON
	}
	if _, err := dec.Token(); err != io.EOF {
		return answer{}, errNotJSON
	}
	if !found {
		return answer{}, errNoData
	}
	// PVE's other formatter, extjs, hides refusals behind 200. We never ask for it, and don't take it for success either.
	if _, ok := envelope["success"]; ok && !envelope.bool("success") {
		e := h.statusError(c, resp, nil)
		if e.Message, e.Fields = errorTexts(envelope, c.hostText); e.Message == "" {
			e.Message = e.Reason
		}
		e.Kind = statusKind(e.Status, false, e.Message, e.Fields)
		if status := envelope.int("status"); status >= 400 && status <= 599 {
			e.Status = int(status)
			e.Kind = statusKind(e.Status, false, e.Message, e.Fields)
		}
		return answer{}, e
	}
	a.total = envelope.int("total")
	return a, nil
}

// decodeScalar reads a text, a number or a boolean. Of anything larger nothing is kept.
func decodeScalar(dec *json.Decoder) (json.RawMessage, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if _, opens := t.(json.Delim); !opens {
		return json.Marshal(t)
	}
	for open := 1; open > 0; {
		if t, err = dec.Token(); err != nil {
			return nil, err
		}
		switch t {
		case json.Delim('['), json.Delim('{'):
			open++
		case json.Delim(']'), json.Delim('}'):
			open--
		}
	}
	return nil, nil
}

// decodeList reads a list of objects, or null, which is an empty one.
func decodeList(dec *json.Decoder, take func(record) error) error {
	switch t, err := dec.Token(); {
	case err == nil && t == nil:
		return nil
	case err != nil || t != json.Delim('['):
		return errNoList
	}
	err := decodeRows(dec, take)
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		return errNoList
	}
	return err
}

// statusError reads a refusal: any body, or none.
func (h *Host) statusError(c *call, resp *http.Response, body []byte) *Error {
	e := &Error{Op: c.op(), Host: h.address.String(), Status: resp.StatusCode, Reason: c.hostText(reason(resp)), ClockSkew: h.clockSkew(resp)}
	e.Message, e.Fields = decodeErrorBody(body, c.hostText)
	if e.Message == "" {
		e.Message = e.Reason
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	e.Kind = statusKind(e.Status, media == "text/html", e.Message, e.Fields)
	switch e.Status {
	case 502, 503, 595, 596, 599:
		e.transient = true
	}
	return e
}

// decodeErrorBody reads the message and the parameter errors of a refusal, as far as they are there, and passes each text
// through clean.
func decodeErrorBody(body []byte, clean func(string) string) (message string, fields map[string]string) {
	var envelope record
	if checkShape(body) != nil || json.Unmarshal(body, &envelope) != nil {
		return "", nil
	}
	return errorTexts(envelope, clean)
}

func errorTexts(envelope record, clean func(string) string) (message string, fields map[string]string) {
	message = clean(envelope.text("message"))
	errs := envelope.object("errors")
	if len(errs) == 0 {
		return message, nil
	}
	fields = make(map[string]string, min(len(errs), maxFields))
	for _, name := range slices.Sorted(maps.Keys(errs)) {
		if len(fields) == maxFields {
			break
		}
		fields[printable(clean(name), maxFieldName)] = clean(errs.text(name))
	}
	return message, fields
}

// hostText is a host's text that may stand in an error: one bounded line, and none of what we sent in secret, should the
// host repeat it, also with blanks or invisible characters strewn in or with percent escapes.
func (c *call) hostText(s string) string {
	secrets := c.secrets
	if c.credentials != nil {
		secrets = slices.Concat(secrets, c.credentials.secrets())
	}
	as := []string{s, bare(s), bare(unescape(s))}
	for _, secret := range secrets {
		for _, form := range []string{secret, url.QueryEscape(secret), bare(secret), bare(url.QueryEscape(secret))} {
			if form != "" && slices.ContainsFunc(as, func(text string) bool { return strings.Contains(text, form) }) {
				return "(withheld: it repeats a secret)"
			}
		}
	}
	return printable(s, maxMessage)
}

// bare is a text without blanks, combining characters and whatever else does not show on a screen by itself.
func bare(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r) || r == '\u2800' || // the Braille blank
			unicode.In(r, unicode.M, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			return -1
		}
		return r
	}, s)
}

// unescape decodes the percent escapes of a text, as far as they are some.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// clockSkew is by how much the host's clock is ahead of ours, by the Date of an answer; 0 if there is none that can be read.
func (h *Host) clockSkew(resp *http.Response) time.Duration {
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0
	}
	return at.Sub(h.client.options.Now())
}

// reason is the reason phrase of a status line.
func reason(resp *http.Response) string {
	_, phrase, _ := strings.Cut(resp.Status, " ")
	return phrase
}

// strange tells a peer that doesn't speak HTTP over TLS from one that can't be reached. net/http has no types for these
// errors, only texts.
func strange(err error) bool {
	var record tls.RecordHeaderError
	var alert tls.AlertError
	if errors.As(err, &record) || errors.As(err, &alert) || errors.Is(err, errUnreadable) {
		return true
	}
	text := err.Error()
	for _, sign := range []string{"malformed", "too many 1xx", "response headers exceeded", "tls: ", "invalid header", "Content-Length", "transfer encoding", "bad trailer"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// notProxmox is the error for a 2xx answer whose data isn't what PVE sends for this call.
func (h *Host) notProxmox(c *call, a answer, message string) *Error {
	return &Error{Kind: KindNotProxmox, Op: c.op(), Host: h.address.String(), Status: a.status, Message: message}
}

// object makes a call whose answer is one object.
func (h *Host) object(ctx context.Context, c *call) (record, answer, error) {
	if c.maxBody == 0 {
		c.maxBody = maxSmallBody
	}
	a, err := h.do(ctx, c)
	if err != nil {
		return nil, a, err
	}
	var r record
	if a.data == nil || json.Unmarshal(a.data, &r) != nil {
		return nil, a, h.notProxmox(c, a, "the answer is not an object")
	}
	return r, a, nil
}

// maxKept is how many entries of a list are kept; longer ones are read by EachResource.
const maxKept = 1 << 14

// rows makes a call whose answer is a list of objects, and reads each by read. Null is an empty list, null entries are
// skipped.
func rows[T any](ctx context.Context, h *Host, c *call, read func(record) T) ([]T, answer, error) {
	var list []T
	most := cmp.Or(c.maxEntries, maxKept)
	c.entries = func() func(record) error {
		list = nil
		return func(r record) error {
			if len(list) == most {
				return &Error{Kind: KindTooLarge, Op: c.op(), Host: h.address.String(), Message: fmt.Sprintf("the answer has more than %d entries", most)}
			}
			list = append(list, read(r))
			return nil
		}
	}
	a, err := h.do(ctx, c)
	if err != nil {
		return nil, a, err
	}
	return list, a, nil
}
