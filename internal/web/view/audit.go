package view

import (
	"net/url"
	"strconv"
	"time"
)

// AuditEntry is one line of the audit trail.
type AuditEntry struct {
	ID          string
	At          time.Time
	UserID      string
	Known       bool   // a datacenter stands for the user id; else it is what was typed
	Host        string // where the user id is from, among everyone's entries
	Subject     string
	SubjectHost string
	Address     string
	Action      string
	Target      string
	Result      string // ok, refused, failed
	ErrorID     string
	Detail      string
	Count       int64
}

// Audit is the page /settings/audit.
type Audit struct {
	Shell
	// The filter, as it was asked for.
	Action, Result, Text, From, To, Whose string
	Actions                               []string
	Errors                                map[string]string
	Rows                                  []AuditEntry
	// Paged tells that this is not the first page; Next leads to what is older, if there is more.
	Paged bool
	Next  string
	// Everyone tells that everyone's entries are shown, Owner that this may be chosen.
	Everyone, Owner bool
}

// actionLabels are the actions of the trail in words.
var actionLabels = map[string]string{
	"sign_in": "Sign-in", "second_factor": "Second factor", "sign_out": "Sign-out", "session_end": "Session ended",
	"session_lost": "Session lost", "installation_claim": "Installation claimed", "host_add": "Login host added",
	"host_repin": "Login host pinned anew", "host_certificate": "Certificate renewed", "host_remove": "Login host removed",
	"key_rotate": "Key added", "key_retire": "Key retired",
	"token_create": "Access token made", "token_revoke": "Access token revoked",
	"container_start": "Container started", "container_shutdown": "Container shut down", "container_stop": "Container stopped",
	"container_reboot": "Container rebooted", "container_suspend": "Container suspended", "container_resume": "Container resumed",
	"container_tag": "Container tagged", "container_edit": "Container edited", "container_delete": "Container deleted", "task_stop": "Task stopped",
	"node_add": "Node added", "node_change": "Node changed", "node_default": "Default node chosen", "node_remove": "Node removed",
	"node_token_remove": "Node's token removed",
}

func actionLabel(action string) string {
	if label, ok := actionLabels[action]; ok {
		return label
	}
	return action
}

var resultLabels = []Option{{"", "Any result"}, {"ok", "Done"}, {"refused", "Refused"}, {"failed", "Failed"}}

func resultLabel(result string) string {
	for _, o := range resultLabels {
		if o.Value == result {
			return o.Label
		}
	}
	return result
}

func (a Audit) actionOptions() []Option {
	options := []Option{{"", "Any action"}}
	for _, action := range a.Actions {
		options = append(options, Option{action, actionLabel(action)})
	}
	return options
}

// who is who did it, in words.
func (e AuditEntry) who() string {
	switch {
	case e.UserID != "":
		return e.UserID
	case e.Result == "refused":
		return "Somebody"
	}
	return "Berth"
}

func (e AuditEntry) count() string { return strconv.FormatInt(e.Count, 10) }

// filter is the query of the filter; what is empty is left out, so that one state has one URL.
func (a Audit) filter() url.Values {
	values := url.Values{}
	for name, value := range map[string]string{
		"action": a.Action, "result": a.Result, "q": a.Text, "from": a.From, "to": a.To, "whose": a.Whose,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return values
}

func (a Audit) filtered() bool {
	return len(a.filter()) > 0 && !(len(a.filter()) == 1 && a.Whose != "")
}

func (a Audit) path(path string, values url.Values) string {
	if len(values) == 0 {
		return a.Link(path)
	}
	return a.Link(path) + "?" + values.Encode()
}

func (a Audit) newestPath() string { return a.path("/settings/audit", a.filter()) }

func (a Audit) olderPath() string {
	values := a.filter()
	values.Set("before", a.Next)
	return a.path("/settings/audit", values)
}

func (a Audit) exportPath() string { return a.path("/api/audit.jsonl", a.filter()) }

func (a Audit) clearPath() string {
	values := url.Values{}
	if a.Whose != "" {
		values.Set("whose", a.Whose)
	}
	return a.path("/settings/audit", values)
}

func (a Audit) whosePath(whose string) string {
	values := a.filter()
	values.Del("whose")
	if whose != "" {
		values.Set("whose", whose)
	}
	return a.path("/settings/audit", values)
}
