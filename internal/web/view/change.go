package view

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// Subject is a container that is about to be changed, or was.
type Subject struct {
	NodeID, Host, Node string // Host is the node's name, Node the cluster member
	VMID               int
	Name, Status       string
}

// title names the container to people: its name, or what Proxmox VE calls one without.
func (s Subject) title() string {
	if s.Name == "" {
		return "CT " + strconv.Itoa(s.VMID)
	}
	return s.Name
}

func (s Subject) path() string {
	return "/containers/" + url.PathEscape(s.NodeID) + "/" + strconv.Itoa(s.VMID)
}

// actionWords are an action on its button, while it goes on, and when it is done.
type actionWords struct{ Verb, Doing, Done, Meaning string }

var actionTexts = map[string]actionWords{
	"start":    {"Start", "Starting", "was started", ""},
	"shutdown": {"Shut down", "Shutting down", "was shut down", "The container is asked to shut down, and its services end in order."},
	"stop":     {"Stop", "Stopping", "was stopped", "It is switched off at once, as if the power went. What its services have not written is lost. Shutting down is gentler."},
	"reboot":   {"Reboot", "Rebooting", "was rebooted", "It shuts down and starts again. Changes to its configuration that are pending take effect."},
	"suspend":  {"Suspend", "Suspending", "was suspended", "Experimental in Proxmox VE: it needs checkpoints, which most hosts can't make of containers."},
	"resume":   {"Resume", "Resuming", "was resumed", "Experimental in Proxmox VE: it needs checkpoints, which most hosts can't make of containers."},
	"tag":      {"Change tags", "Changing the tags of", "has its new tags", ""},
	"delete":   {"Delete", "Deleting", "was deleted", "The container and its disks are destroyed on the host. Backups of it stay."},
}

func actionText(action string) actionWords {
	if w, ok := actionTexts[action]; ok {
		return w
	}
	return actionWords{Verb: action, Doing: action, Done: action}
}

// Change is the page that asks before a container is changed.
type Change struct {
	Shell
	Subject Subject
	Action  string
	Refused string // why it can't be done just now; the page then has no button
	// What was typed.
	Timeout, Tags, Confirm     string
	Purge, DestroyUnreferenced bool
	Errors                     map[string]string
	Failure                    *Failure
	// Dialog tells that it stands in a dialog over another page, which also shows what comes of it.
	Dialog bool
	// Back is the page that one came from, below the base path: the list as it was filtered, or the container's own page.
	Back string
}

func (c Change) danger() bool       { return c.Action == "stop" || c.Action == "delete" }
func (c Change) waits() bool        { return c.Action == "shutdown" || c.Action == "reboot" }
func (c Change) experimental() bool { return c.Action == "suspend" || c.Action == "resume" }

// actionPath is where the form goes. Where one came from goes along, for a form that is shown again, and where it stands.
func (c Change) actionPath() string {
	path, along := c.Link(c.Subject.path()+"/"+c.Action), url.Values{}
	if c.Back != "" {
		along.Set("back", c.Back)
	}
	if c.Dialog {
		along.Set("dialog", "true")
	}
	if len(along) > 0 {
		path += "?" + along.Encode()
	}
	return path
}

// backPath leads to where one came from.
func (c Change) backPath() string { return cmp.Or(c.Back, "/") }

// question is what stands before the container's name.
func (c Change) question() string {
	if c.Action == "tag" {
		return "Tags of"
	}
	return actionText(c.Action).Verb
}

// mark ends the question; changing tags is none.
func (c Change) mark() string {
	if c.Action == "tag" {
		return ""
	}
	return "?"
}

// toType is what confirms a deletion.
func (c Change) toType() string {
	if c.Subject.Name == "" {
		return strconv.Itoa(c.Subject.VMID)
	}
	return c.Subject.Name
}

// Operation is a change and how it stands.
type Operation struct {
	ID      string
	Subject Subject
	Action  string
	State   string // waiting, sending, running, done, failed, canceled, unknown
	UPID    string
	Error   string
	Created time.Time
	Ended   time.Time
}

func (o Operation) over() bool { return !o.Ended.IsZero() }

// sentence says how the operation stands.
func (o Operation) sentence() string {
	w := actionText(o.Action)
	switch o.State {
	case "done":
		return o.Subject.title() + " " + w.Done
	case "failed":
		return w.Verb + " failed: " + o.Subject.title()
	case "canceled":
		return w.Verb + " canceled: " + o.Subject.title()
	case "unknown":
		return w.Verb + " of " + o.Subject.title() + ": it is not known how it ended"
	case "waiting":
		return w.Verb + " " + o.Subject.title() + " is waiting for its turn"
	}
	return w.Doing + " " + o.Subject.title()
}

// taskPath leads to the operation's task.
func (o Operation) taskPath() string {
	return Task{NodeID: o.Subject.NodeID, UPID: o.UPID}.Path()
}

// OperationStatus is the page of one operation.
type OperationStatus struct {
	Shell
	Operation Operation
	Offer     string
	Lines     []LogLine // of its task, so far
	LogError  string
	Now       time.Time
}

// Run is the page of a bulk run.
type Run struct {
	Shell
	ID, Action string
	Created    time.Time
	Ended      bool
	Counts     map[string]int
	Operations []Operation
	Now        time.Time
}

func (r Run) over() int {
	return r.Counts["done"] + r.Counts["failed"] + r.Counts["canceled"] + r.Counts["unknown"]
}

// summary is how far the run is, in words.
func (r Run) summary() string {
	text := fmt.Sprintf("%d of %d done", r.Counts["done"], len(r.Operations))
	for _, part := range []struct{ state, words string }{
		{"failed", "failed"}, {"unknown", "not known"}, {"canceled", "canceled"}, {"waiting", "waiting"},
	} {
		if n := r.Counts[part.state]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, part.words)
		}
	}
	if n := r.Counts["running"] + r.Counts["sending"]; n > 0 {
		text += fmt.Sprintf(", %d under way", n)
	}
	return text
}

var stateLabels = map[string]string{
	"waiting": "Waiting", "sending": "Asking", "running": "Running", "done": "Done", "failed": "Failed", "canceled": "Canceled", "unknown": "Not known",
}

// outcome is the word of the style sheet for a state.
func outcome(state string) string {
	switch state {
	case "failed":
		return "failed"
	case "done", "ok":
		return "ok"
	case "running", "sending":
		return "running"
	case "waiting", "canceled":
		return "none"
	}
	return "refused"
}

// BulkChange is the page that asks before many containers are changed.
type BulkChange struct {
	Shell
	Action              string
	Subjects            []Subject
	Missing             int // how many of those chosen there are not any more
	Timeout             string
	AddTags, RemoveTags string
	Errors              map[string]string
	Failure             *Failure
}

func (c BulkChange) waits() bool { return c.Action == "shutdown" || c.Action == "reboot" }

// count is how many containers are meant, in words.
func (c BulkChange) count() string {
	if len(c.Subjects) == 1 {
		return "1 container"
	}
	return strconv.Itoa(len(c.Subjects)) + " containers"
}

func (s Subject) ref() string { return s.NodeID + "/" + strconv.Itoa(s.VMID) }

// timeoutHint says what happens when the time is over.
func timeoutHint(action string) string {
	if action == "reboot" {
		return "After that it is stopped and started."
	}
	return "If it has not shut down by then it stays as it is, and can be stopped."
}
