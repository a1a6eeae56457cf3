package web

import (
	"net/http"

	"berth/internal/audit"
	"berth/internal/fault"
	"berth/internal/session"
	"berth/internal/web/view"
)

// audit is the page Settings > Audit.
func (s *Site) audit(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	query, err := DecodeForm[audit.Query](r)
	var list audit.Page
	if err == nil {
		list, err = s.o.Trail.List(r.Context(), caller, query)
	}
	code, problems := http.StatusOK, map[string]string{}
	if f := fault.As(err); f != nil && f.Kind == fault.Invalid {
		code, problems = status(f.Kind), f.Fields
		// The page around the filter is that of the same entries.
		list, err = s.o.Trail.List(r.Context(), caller, audit.Query{Filter: audit.Filter{Whose: query.Whose}})
		if fault.KindOf(err) == fault.Invalid {
			list, err = s.o.Trail.List(r.Context(), caller, audit.Query{})
		}
		list.Items, list.Next = nil, ""
	}
	if err != nil {
		return err
	}
	page := view.Audit{
		Shell:  s.callerShell(r.Context(), caller, "Audit", "audit"),
		Action: query.Action, Result: query.Result, Text: query.Text, From: query.From, To: query.To, Whose: query.Whose,
		Paged: query.Before != "", Next: list.Next, Everyone: list.Everyone, Owner: list.Owner, Errors: problems,
	}
	for _, action := range audit.Actions {
		page.Actions = append(page.Actions, string(action))
	}
	for _, line := range list.Items {
		page.Rows = append(page.Rows, view.AuditEntry{
			ID: line.ID, At: line.At, UserID: line.UserID, Known: line.Datacenter != "", Host: line.Host, Subject: line.Subject, SubjectHost: line.SubjectHost, Address: line.Address,
			Action: string(line.Action), Target: line.Target, Result: string(line.Result), ErrorID: line.ErrorID,
			Detail: line.Detail, Count: line.Count,
		})
	}
	s.render(w, r, code, view.AuditPage(page))
	return nil
}
