package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"berth/internal/fault"
	"berth/internal/session"
	"berth/internal/web"
)

// kinds are the codes of problems that routes name, with the kind that decides the status. What every route can answer with
// stands in common.
var kinds = map[string]fault.Kind{
	"certificate_changed":     fault.Unreachable,
	"certificate_unknown":     fault.Conflict,
	"challenge_expired":       fault.Unauthenticated,
	"changed_meanwhile":       fault.Conflict,
	"claim_code_required":     fault.Invalid,
	"clock_wrong":             fault.Conflict,
	"confirmation_required":   fault.Invalid,
	"container_busy":          fault.Conflict,
	"container_changed":       fault.Conflict,
	"container_locked":        fault.Conflict,
	"container_template":      fault.Conflict,
	"credential_not_accepted": fault.Conflict,
	"forbidden_by_proxmox":    fault.Forbidden,
	"host_known":              fault.Conflict,
	"host_not_allowed":        fault.Forbidden,
	"host_not_proven":         fault.Conflict,
	"host_refused":            fault.Unreachable,
	"host_unreachable":        fault.Unreachable,
	"last_host":               fault.Conflict,
	"not_found":               fault.NotFound,
	"not_proxmox":             fault.Unreachable,
	"owners_only":             fault.Forbidden,
	"privilege_missing":       fault.Forbidden,
	"refused_by_proxmox":      fault.Conflict,
	"rights_missing":          fault.Conflict,
	"second_step_expired":     fault.Conflict,
	"shutting_down":           fault.Unavailable,
	"sign_in_needed":          fault.Forbidden,
	"signin_failed":           fault.Unauthenticated,
	"task_ended":              fault.Conflict,
	"token_not_accepted":      fault.Conflict,
	"token_refused":           fault.Unreachable,
	"token_without_rights":    fault.Conflict,
	"too_many_attempts":       fault.Throttled,
	"too_many_nodes":          fault.Conflict,
	"too_many_operations":     fault.Throttled,
	"too_many_streams":        fault.Throttled,
	"too_many_tokens":         fault.Conflict,
	"virtual_machine":         fault.Conflict,
	"wrong_state":             fault.Conflict,
}

// common are the kinds of problems that any route can answer with, as the document's text explains them.
const common = "Any request can also be answered with 400 malformed_request, 413 body_too_large, 415 unsupported_media_type, " +
	"421 unknown_host, 500 internal_error, 503 store_unavailable or 503 disk_full, and one that changes something with 403 cross_origin if a browser " +
	"sent it from another site."

// problemsOf are the codes that a route can answer with, by status, in order.
func problemsOf(route web.Route) map[int][]string {
	byStatus := map[int][]string{}
	add := func(k fault.Kind, code string) {
		status := web.StatusOf(k)
		byStatus[status] = append(byStatus[status], code)
	}
	if route.Access() == web.Authenticated {
		add(fault.Unauthenticated, "authentication_required")
		for _, code := range []string{"token_invalid", "token_expired", "token_idle"} {
			add(fault.Unauthenticated, code)
		}
		if route.Scope == session.SessionOnly {
			add(fault.Forbidden, "session_required")
		} else if route.Scope != session.ScopeRead {
			add(fault.Forbidden, "scope_missing")
		}
	}
	for _, code := range route.Doc.Codes {
		add(kinds[code], code)
	}
	return byStatus
}

// documentProblems describes the refusals of a route, each status with its codes.
func documentProblems(op *huma.Operation, route web.Route, problem map[string]*huma.MediaType) {
	op.Responses["default"] = &huma.Response{Description: "Any other refusal", Content: problem}
	for status, codes := range problemsOf(route) {
		op.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status) + ": " + strings.Join(codes, ", "), Content: problem,
		}
	}
}

// documentInvalidInput says that the fields of an input may be refused.
func documentInvalidInput(op *huma.Operation, route web.Route, problem map[string]*huma.MediaType) {
	codes := slices.Concat([]string{"invalid_input"}, problemsOf(route)[http.StatusUnprocessableEntity])
	op.Responses[strconv.Itoa(http.StatusUnprocessableEntity)] = &huma.Response{
		Description: http.StatusText(http.StatusUnprocessableEntity) + ": " + strings.Join(codes, ", "), Content: problem,
	}
}

// documentSecurity says what a route asks of its caller: nothing, a session, or a session or a token.
func documentSecurity(op *huma.Operation, route web.Route) {
	if route.Access() != web.Authenticated {
		return
	}
	op.Security = []map[string][]string{{"session": {}}}
	if route.Scope != session.SessionOnly {
		op.Security = append(op.Security, map[string][]string{"token": {string(route.Scope)}})
	}
}

// securitySchemes are the two ways in.
var securitySchemes = map[string]*huma.SecurityScheme{
	"session": {Type: "apiKey", In: "cookie", Name: "lxc-session", Description: "Set by a sign-in."},
	"token": {
		Type: "http", Scheme: "bearer",
		Description: "An access token, made under Settings > Access tokens. Its scope is read, power or all, each with what the one " +
			"before may do; the one that an operation needs stands beside it. Beside a token no cookie is looked at.",
	},
}
