package api

import (
	"bufio"
	"encoding/json"
	"net/http"
	"time"

	"berth/internal/audit"
	"berth/internal/session"
	"berth/internal/web"
)

// exportTime bounds how long a client may take for one batch of an export.
const exportTime = 30 * time.Second

// auditExport is the route of the audit trail as JSON lines. It is read and sent a batch at a time, so that a long trail
// takes no more memory than a short one.
func (a *API) auditExport() web.Route {
	route := web.AuthenticatedRoute("GET", "/api/audit.jsonl", web.API, a.exportAudit).WithScope(session.ScopeRead)
	route = document[audit.Filter, audit.Line](route, "exportAudit", "What listAudit lists, all of it, one JSON object a line, newest first", []string{"owners_only"})
	route.Doc.Media = "application/jsonl"
	return route
}

func (a *API) exportAudit(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	filter, err := web.DecodeForm[audit.Filter](r)
	if err != nil {
		return err
	}
	control := http.NewResponseController(w)
	out := bufio.NewWriterSize(w, 32<<10)
	lines := json.NewEncoder(out)
	begun := false
	err = a.trail.Export(r.Context(), caller, filter, func(batch []audit.Line) error {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/jsonl")
			w.Header().Set("Content-Disposition", `attachment; filename="berth-audit.jsonl"`)
		}
		// The deadline of an ordinary answer is too short for a long trail, and none at all would let a client hold on for
		// ever.
		_ = control.SetWriteDeadline(time.Now().Add(exportTime)) // without deadlines the server's own remains
		for _, line := range batch {
			if err := lines.Encode(line); err != nil {
				return err
			}
		}
		return out.Flush()
	})
	if err != nil && begun {
		// The answer has begun: only an end without its last chunk tells the client that something is missing.
		panic(http.ErrAbortHandler)
	}
	return err
}
