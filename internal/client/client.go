package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"berth/internal/fault"
)

const (
	// sessionCookie is the cookie that carries a session.
	sessionCookie = "lxc-session"
	// callTime bounds one request. A sign-in is answered within 25 s, everything else sooner.
	callTime = 60 * time.Second
	// maxAnswer bounds an answer: a page of 1000 containers takes far less.
	maxAnswer = 32 << 20
)

// Options say which Berth to speak to, and as whom.
type Options struct {
	// URL is where Berth is, base path included; see ParseURL.
	URL *url.URL
	// Token is an access token. Session is what a session's cookie carries; it counts if there is no token. Without
	// either only a sign-in is possible.
	Token, Session string
	// Pin is the one certificate that is accepted, whoever signed it; nil for those that the system's roots vouch for.
	Pin *Fingerprint
	// UserAgent is what the list of sessions shows.
	UserAgent string
}

// Client speaks to one Berth. It is safe for concurrent use but for sign-ins.
type Client struct {
	base      url.URL
	token     string
	session   string
	userAgent string
	pinInVain bool // a certificate is pinned for an address that has none
	http      *http.Client
}

// ErrPinWithoutTLS says that a certificate is pinned for an address without one: whoever named it believes the line safe, so
// that nothing is sent.
var ErrPinWithoutTLS = errors.New("a fingerprint was given, but the address begins with http:// and has no certificate: use https://")

// New returns a client.
func New(o Options) *Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = tlsConfig(o.Pin)
	return &Client{
		base: *o.URL, token: o.Token, session: o.Session, userAgent: o.UserAgent,
		http: &http.Client{
			Transport: transport, Timeout: callTime,
			// What carries a secret goes where it was sent, and nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		pinInVain: o.Pin != nil && o.URL.Scheme != "https",
	}
}

// ParseURL reads the address of a Berth as people write it: https unless they say otherwise.
func ParseURL(text string) (*url.URL, error) {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the address of Berth must be like https://berth.example.org or http://127.0.0.1:8080")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

// UnreachableError says that no answer of a Berth came.
type UnreachableError struct {
	URL   string
	Cause error
}

func (e *UnreachableError) Error() string {
	return "no answer from Berth at " + e.URL + ": " + e.Cause.Error()
}

// Unwrap is the cause.
func (e *UnreachableError) Unwrap() error { return e.Cause }

// Session is what the cookie carries of the session that a sign-in has started; empty before.
func (c *Client) Session() string { return c.session }

// call sends a request and reads the answer into out. The body and out may be nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	if c.pinInVain {
		return ErrPinWithoutTLS
	}
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	at := c.base
	at.Path += path
	// A segment that was escaped stays one: the id of a task has colons, and may have more.
	if raw, err := url.PathUnescape(path); err == nil && raw != path {
		at.Path, at.RawPath = c.base.Path+raw, c.base.Path+path
	}
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, at.String(), body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.userAgent)
	switch {
	case c.token != "":
		req.Header.Set("Authorization", "Bearer "+c.token)
	case c.session != "":
		req.AddCookie(&http.Cookie{Name: sessionCookie, Value: c.session})
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreached(ctx, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return c.unreached(ctx, err)
	case len(text) > maxAnswer:
		return c.strange("its answer is too large")
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return c.strange("it sends elsewhere, to " + clean(resp.Header.Get("Location"), 200))
	case resp.StatusCode != http.StatusOK:
		return c.problem(resp, text)
	}
	for _, cookie := range resp.Cookies() {
		if cookie.Name == sessionCookie && cookie.MaxAge >= 0 && cookie.Value != "" {
			c.session = cookie.Value
		}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return c.strange("it does not answer as a Berth does")
	}
	return nil
}

// unreached is why no answer came, without the request in it, which may name what is nobody's business.
func (c *Client) unreached(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var untrusted *CertificateError
	if errors.As(err, &untrusted) {
		return untrusted
	}
	if found := unverified(err); found != nil {
		return found
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return &UnreachableError{URL: c.base.String(), Cause: err}
}

// strange is an answer that no Berth gives.
func (c *Client) strange(why string) error {
	return &UnreachableError{URL: c.base.String(), Cause: errors.New(why)}
}

// kinds are the kinds of refusals by their status.
var kinds = map[int]fault.Kind{
	http.StatusUnprocessableEntity: fault.Invalid, http.StatusBadRequest: fault.Malformed, http.StatusRequestEntityTooLarge: fault.TooLarge,
	http.StatusUnsupportedMediaType: fault.Unsupported, http.StatusUnauthorized: fault.Unauthenticated, http.StatusForbidden: fault.Forbidden,
	http.StatusNotFound: fault.NotFound, http.StatusMethodNotAllowed: fault.NotAllowed, http.StatusConflict: fault.Conflict,
	http.StatusTooManyRequests: fault.Throttled, http.StatusBadGateway: fault.Unreachable, http.StatusServiceUnavailable: fault.Unavailable,
	http.StatusMisdirectedRequest: fault.Misdirected,
}

// maxMessage bounds what is shown of a refusal.
const maxMessage = 1000

// problem reads a refusal (RFC 9457).
func (c *Client) problem(resp *http.Response, text []byte) error {
	var p struct {
		Detail, Code, Hint, ErrorID, Fingerprint string
		Errors                                   []struct{ Field, Message string }
	}
	if err := json.Unmarshal(text, &p); err != nil || p.Code == "" {
		return c.strange(fmt.Sprintf("it answers with status %d, and not as a Berth does", resp.StatusCode))
	}
	f := &fault.Error{
		Kind: kinds[resp.StatusCode], Code: p.Code, Message: clean(p.Detail, maxMessage), Hint: clean(p.Hint, maxMessage), ID: clean(p.ErrorID, 32),
	}
	if len(p.Errors) > 0 {
		f.Fields = map[string]string{}
		for _, e := range p.Errors {
			f.Fields[e.Field] = clean(e.Message, maxMessage)
		}
	}
	if p.Fingerprint != "" {
		f.Details = map[string]any{"fingerprint": clean(p.Fingerprint, 95)}
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		f.RetryAfter = time.Duration(seconds) * time.Second
	}
	return f
}
