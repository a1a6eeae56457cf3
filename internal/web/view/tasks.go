package view

import (
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Task is a task of Proxmox VE's.
type Task struct {
	NodeID, Host, Node string // Host is the node's name, Node the cluster member
	UPID               string
	Label              string // what it does, in words
	VMID               int
	Name               string // of the guest, as far as it is known
	User               string
	Status             string // running, ok, warnings, failed
	Exit               string
	Started, Ended     time.Time
}

func (t Task) subject() string {
	if t.VMID == 0 {
		return ""
	}
	return strconv.Itoa(t.VMID)
}

// Path is the address of the task's page, below the base path.
func (t Task) Path() string {
	return "/tasks/" + url.PathEscape(t.NodeID) + "/" + url.PathEscape(t.UPID)
}

// took is how long the task took, or has been taking.
func (t Task) took(now time.Time) string {
	if !t.Ended.IsZero() {
		now = t.Ended
	}
	return FormatUptime(int64(now.Sub(t.Started).Round(time.Second) / time.Second))
}

var statusLabels = []Option{{"", "Any status"}, {"running", "Running"}, {"ok", "Done"}, {"warnings", "Done with warnings"}, {"failed", "Failed"}}

func statusLabel(status string) string {
	for _, o := range statusLabels {
		if o.Value == status {
			return o.Label
		}
	}
	return status
}

// Notice is an operation of one's own that failed, or of which it is not known how it ended.
type Notice struct {
	Operation
	Offer string // an action that may help, or nothing
	// RunID names the run that this and More others are of; empty for an operation by itself.
	RunID string
	More  int
}

// glancePath is where a page learns again what tasks do.
func (s Shell) glancePath() string {
	if s.But != "" {
		return s.Link("/tasks/glance?but=" + url.QueryEscape(s.But))
	}
	return s.Link("/tasks/glance")
}

// notices are those that a page shows.
func (s Shell) notices() []Notice {
	return slices.DeleteFunc(slices.Clone(s.Notices), func(n Notice) bool { return s.But != "" && (n.ID == s.But || n.RunID == s.But) })
}

// headline says in a few words what went wrong.
func (n Notice) headline() string {
	if n.More == 0 {
		return n.sentence()
	}
	return actionText(n.Action).Verb + " failed for " + n.Subject.title() + " and " + strconv.Itoa(n.More) + " more"
}

// seenPath takes the notice away.
func (n Notice) seenPath() string {
	if n.RunID != "" {
		return "/notices/" + n.RunID + "/seen"
	}
	return "/notices/" + n.ID + "/seen"
}

// Glance is what every page shows of tasks: how many run, and what failed.
type Glance struct {
	Shell
	Running int
}

// Tasks is the page /tasks.
type Tasks struct {
	Shell
	Query, Node, Status string
	Nodes               []Option
	Rows                []Task
	Running             int
	Troubles            []Trouble
	Errors              map[string]string
	Now                 time.Time
}

// Trouble is a node whose tasks could not be read.
type Trouble struct{ Name, Problem string }

func (p Tasks) filtered() bool { return p.Query != "" || p.Node != "" || p.Status != "" }

// livePath is where the list comes from again.
func (p Tasks) livePath() string {
	q := url.Values{}
	for name, value := range map[string]string{"q": p.Query, "node": p.Node, "status": p.Status} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(q) == 0 {
		return p.Link("/tasks")
	}
	return p.Link("/tasks?" + q.Encode())
}

// TaskLog is the page of one task.
type TaskLog struct {
	Shell
	Task    Task
	Lines   []LogLine
	Before  int // how many lines come before these
	Now     time.Time
	Stopped bool // it was told to stop
	Problem string
}

// LogLine is a line of a log.
type LogLine struct {
	N    int
	Text string
}

// StopTask is the page that asks before a task is stopped.
type StopTask struct {
	Shell
	Task    Task
	Now     time.Time
	Failure *Failure
}

// taskOutcome is the word of the style sheet for how a task ended.
func taskOutcome(status string) string {
	switch status {
	case "ok":
		return "ok"
	case "failed":
		return "failed"
	}
	return "refused"
}
