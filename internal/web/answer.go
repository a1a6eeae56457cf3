package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/web/view"
)

// explain turns any error into what may be shown, and logs what may not under an id that is shown with it. The id is empty
// when there is nothing to look up.
func explain(ctx context.Context, r *http.Request, err error) (*fault.Error, string) {
	f := shown(err)
	cause := f.Cause
	if f.Kind == fault.Internal {
		cause = err
	}
	if cause == nil {
		return f, ""
	}
	id := f.ID
	if id == "" {
		id = fault.NewID()
	}
	level := slog.LevelWarn
	if f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		level = slog.LevelError
	}
	slog.Log(ctx, level, "request refused", "error_id", id, "code", f.Code, "method", r.Method, "path", r.URL.Path,
		"address", clientText(ctx), "cause", cause)
	return f, id
}

// shown is the part of an error that whoever asked may see.
func shown(err error) *fault.Error {
	if f := fault.As(err); f != nil {
		return f
	}
	if errors.Is(err, session.ErrNone) {
		return fault.SignInRequired()
	}
	var refused *pve.Error
	if errors.As(err, &refused) {
		switch refused.Kind {
		case pve.KindHostUnreachable, pve.KindMemberUnreachable, pve.KindBusy, pve.KindRefusedAddress:
			return &fault.Error{Kind: fault.Unreachable, Code: "host_unreachable", Message: "Unable to reach Proxmox server", Cause: err}
		case pve.KindNotProxmox:
			return &fault.Error{Kind: fault.Unreachable, Code: "host_unreachable", Message: "Unable to reach Proxmox server",
				Hint: "It answers, but not as a Proxmox VE host does.", Cause: err}
		case pve.KindTooLarge:
			return &fault.Error{Kind: fault.Unreachable, Code: "host_unreachable", Message: "Unable to reach Proxmox server",
				Hint: "Its answer is too large.", Cause: err}
		case pve.KindCertificate:
			return &fault.Error{Kind: fault.Unreachable, Code: "certificate_changed", Message: "Unable to reach Proxmox server",
				Hint: "Its certificate has changed, so nothing was sent to it.", Cause: err}
		case pve.KindUnauthenticated:
			// The session still holds, or this would be the answer to a session that has ended.
			return &fault.Error{Kind: fault.Unreachable, Code: "host_refused", Message: "The Proxmox server refused this for a moment",
				Hint: "You are still signed in. A member of the cluster may be ill, or its clock wrong.", Cause: err}
		case pve.KindForbidden:
			return &fault.Error{Kind: fault.Forbidden, Code: "forbidden_by_proxmox", Message: "Proxmox VE does not allow this: " + refused.Reason, Cause: err}
		}
	}
	return &fault.Error{Kind: fault.Internal, Code: "internal_error", Message: "Something went wrong"}
}

func clientText(ctx context.Context) string {
	if a := session.ClientFrom(ctx).Address; a.IsValid() {
		return a.String()
	}
	return ""
}

// status is the HTTP status of a kind of error.
func status(k fault.Kind) int {
	switch k {
	case fault.Invalid:
		return http.StatusUnprocessableEntity
	case fault.Malformed:
		return http.StatusBadRequest
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.Unsupported:
		return http.StatusUnsupportedMediaType
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.NotAllowed:
		return http.StatusMethodNotAllowed
	case fault.Conflict:
		return http.StatusConflict
	case fault.Misdirected:
		return http.StatusMisdirectedRequest
	case fault.Throttled:
		return http.StatusTooManyRequests
	case fault.Unreachable:
		return http.StatusBadGateway
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// StatusOf is the HTTP status that answers an error of a kind.
func StatusOf(k fault.Kind) int { return status(k) }

// answerError answers a request with an error, in the shape of its route.
func (s *Site) answerError(w http.ResponseWriter, r *http.Request, shape Shape, err error) {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return // nobody is listening any more
	}
	f, id := explain(r.Context(), r, err)
	if answer, ok := w.(*answerWriter); ok {
		answer.errorID = id
	}
	sayRetryAfter(w, f)
	signedOut := f.Kind == fault.Unauthenticated && f.Code == fault.SignInRequired().Code
	if signedOut {
		s.ClearCookie(w, r)
	}
	if shape == API {
		sayScheme(w, f)
	}
	switch {
	case shape == API, signedOut && r.Header.Get("HX-Request") != "":
		writeProblem(w, f, id)
	case signedOut:
		http.Redirect(w, r, s.signInPath(r), http.StatusSeeOther)
	default:
		if id == "" {
			id = noteRefusal(r, f)
		}
		s.render(w, r, status(f.Kind), view.ProblemPage(view.Problem{
			Shell: s.shellFor(r, problemTitle(f.Kind)), Status: status(f.Kind), Title: problemTitle(f.Kind),
			Message: strings.TrimSpace(f.Message + " " + f.Hint), ErrorID: id,
		}))
	}
}

// noteRefusal logs a page that was refused for no hidden cause under an id, so that who is asked about it finds the request.
func noteRefusal(r *http.Request, f *fault.Error) string {
	id := fault.NewID()
	slog.InfoContext(r.Context(), "page refused", "error_id", id, "code", f.Code, "method", r.Method, "path", printable(r.URL.Path, maxLoggedPath),
		"address", clientText(r.Context()))
	return id
}

// maxLoggedPath bounds what a visitor can write into the log with one request.
const maxLoggedPath = 256

// sayRetryAfter tells programs how long to wait, in whole seconds, so that nobody comes too early.
func sayRetryAfter(w http.ResponseWriter, f *fault.Error) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
	}
}

// sayScheme tells programs that an access token would do, or what is wrong with theirs (RFC 6750).
func sayScheme(w http.ResponseWriter, f *fault.Error) {
	const scheme = `Bearer realm="Berth"`
	switch {
	case strings.HasPrefix(f.Code, "token_") && f.Kind == fault.Unauthenticated:
		w.Header().Set("WWW-Authenticate", scheme+`, error="invalid_token"`)
	case f.Code == fault.SignInRequired().Code:
		w.Header().Set("WWW-Authenticate", scheme)
	case f.Code == "scope_missing":
		w.Header().Set("WWW-Authenticate", scheme+`, error="insufficient_scope"`)
	}
}

func problemTitle(k fault.Kind) string {
	switch k {
	case fault.NotFound:
		return "Nothing here"
	case fault.Forbidden:
		return "Not allowed"
	case fault.Unreachable:
		return "No answer from Proxmox"
	case fault.Unavailable:
		return "Back in a moment"
	case fault.Internal:
		return "Something went wrong"
	}
	return http.StatusText(status(k))
}

// fieldProblem is one refused field of an input.
type fieldProblem struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Problem is the body of every refusal of the JSON API (RFC 9457), beside members of its own that a code may bring.
type Problem struct {
	Title   string         `json:"title" example:"Unprocessable Entity"`
	Status  int            `json:"status" example:"422"`
	Detail  string         `json:"detail" doc:"the message, for people"`
	Code    string         `json:"code" doc:"stable, for programs" example:"invalid_input"`
	Hint    string         `json:"hint,omitempty"`
	ErrorID string         `json:"errorId,omitempty" doc:"the log has the cause under this id"`
	Errors  []fieldProblem `json:"errors,omitempty" doc:"one entry per refused field"`
	// Fingerprint comes with certificate_unknown and, beside the known one, with a certificate that has changed.
	Fingerprint      string `json:"fingerprint,omitempty" doc:"SHA-256 fingerprint that a host presents"`
	KnownFingerprint string `json:"knownFingerprint,omitempty" doc:"SHA-256 fingerprint that was accepted before"`
}

func writeProblem(w http.ResponseWriter, f *fault.Error, id string) {
	code := status(f.Kind)
	p := map[string]any{}
	maps.Copy(p, f.Details)
	p["title"], p["status"], p["detail"], p["code"] = http.StatusText(code), code, f.Message, f.Code
	if f.Hint != "" {
		p["hint"] = f.Hint
	}
	if id != "" {
		p["errorId"] = id
	}
	if len(f.Fields) > 0 {
		var fields []fieldProblem
		for _, name := range slices.Sorted(maps.Keys(f.Fields)) {
			fields = append(fields, fieldProblem{Field: name, Message: f.Fields[name]})
		}
		p["errors"] = fields
	}
	body, err := json.Marshal(p)
	if err != nil {
		http.Error(w, "Something went wrong", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(code)
	_, _ = w.Write(body) // the client may have gone
}

// WriteJSON answers with a JSON body. A value with a method EncodeJSON writes itself, without being in memory as a whole.
func WriteJSON(w http.ResponseWriter, v any) error {
	if large, ok := v.(interface{ EncodeJSON(io.Writer) error }); ok {
		w.Header().Set("Content-Type", "application/json")
		_ = large.EncodeJSON(w) // the client may have gone
		return nil
	}
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the client may have gone
	return nil
}
