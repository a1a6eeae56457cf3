package task

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/internal/audit"
	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

const (
	// maxListed bounds a list of tasks.
	maxListed = 500
	// maxLog bounds the lines of one answer with a log.
	maxLog = 500
)

// Task is a task of Proxmox VE's, whoever began it.
type Task struct {
	NodeID  string    `json:"nodeId" doc:"id of the node that it was read through"`
	Host    string    `json:"host" doc:"name of that node"`
	Node    string    `json:"node" doc:"cluster member that carries it out" example:"pve1"`
	UPID    pve.UPID  `json:"upid"`
	Type    string    `json:"type" doc:"Proxmox VE's word for what it does" example:"vzstart"`
	Label   string    `json:"label" doc:"what it does, in words" example:"Start"`
	VMID    int       `json:"vmid,omitempty" doc:"of the guest that it works on"`
	Name    string    `json:"name,omitempty" doc:"of that guest, as far as it is known"`
	User    string    `json:"user" doc:"who began it" example:"alice@pve"`
	Status  Status    `json:"status" doc:"running, ok, warnings or failed" example:"running"`
	Exit    string    `json:"exit,omitempty" doc:"what Proxmox VE says of its end"`
	Started time.Time `json:"startedAt" doc:"by the host's clock"`
	Ended   time.Time `json:"endedAt,omitzero"`
}

// Status is how a task stands.
type Status string

// The values of Status.
const (
	TaskRunning  Status = "running"
	TaskOK       Status = "ok"
	TaskWarnings Status = "warnings"
	TaskFailed   Status = "failed"
)

// Trouble is a node whose tasks could not be read.
type Trouble struct {
	NodeID  string `json:"nodeId"`
	Name    string `json:"name"`
	Problem string `json:"problem"`
	Group   string `json:"-"` // shared by the nodes that lead to one installation
}

// Tasks are the tasks of all the caller's nodes.
type Tasks struct {
	Items   []Task    `json:"items" doc:"those that run, then those that have ended, the newest first; at most 500"`
	Running int       `json:"running" doc:"how many of all run"`
	Nodes   []Trouble `json:"nodes" doc:"the nodes whose tasks could not be read"`
}

// ListQuery chooses tasks.
type ListQuery struct {
	Node   string `json:"node,omitempty" doc:"id of a node"`
	Status Status `json:"status,omitempty" doc:"running, ok, warnings or failed" enum:"running,ok,warnings,failed"`
	Q      string `json:"q,omitempty" doc:"words that must all occur in label, type, VMID, name, user, member or node"`
}

const maxQuery = 200

// Validate reports every field that can't be right.
func (q ListQuery) Validate() error {
	fields := map[string]string{}
	if len(q.Q) > maxQuery {
		fields["q"] = "Search text is too long: at most " + strconv.Itoa(maxQuery) + " bytes"
	}
	if q.Status != "" && !slices.Contains([]Status{TaskRunning, TaskOK, TaskWarnings, TaskFailed}, q.Status) {
		fields["status"] = "Status must be one of running, ok, warnings, failed"
	}
	return fault.InvalidInput(fields)
}

// List is the authenticated action that lists the recent and the running tasks of all the caller's nodes, as far as Proxmox
// VE shows them to the caller. A task that two nodes of one cluster show is listed once. When nothing was ever read from any
// node, the error of the first comes back, as from container.Service.List, together with what can be told of the nodes.
func (s *Service) List(ctx context.Context, caller session.Caller, q ListQuery) (Tasks, error) {
	s.Attend(ctx, caller)
	if err := q.Validate(); err != nil {
		return Tasks{}, err
	}
	nodes, err := s.o.Nodes.List(ctx, caller)
	if err != nil {
		return Tasks{}, err
	}
	names := make(map[string]string, len(nodes))
	for _, n := range nodes {
		names[n.ID] = n.Name
	}
	// What keeps a node's containers from being read keeps its tasks too.
	guests, unseen := s.o.Containers.List(ctx, caller, container.Query{Kind: "all", All: true})
	if unseen != nil && (len(guests.Nodes) == 0 || fault.KindOf(unseen) == fault.Unauthenticated) {
		return Tasks{}, unseen
	}
	all, err := s.o.Containers.Tasks(ctx, caller)
	var unread *pve.Error
	if err != nil && !errors.As(err, &unread) && fault.KindOf(err) != fault.Unreachable {
		return Tasks{}, err
	}
	called := make(map[Ref]string, len(guests.Items))
	for _, c := range guests.Items {
		called[Ref{NodeID: c.NodeID, VMID: c.VMID}] = c.Name
	}
	list := Tasks{Items: []Task{}, Nodes: []Trouble{}}
	for _, n := range guests.Nodes {
		if n.Problem != "" && n.Through == "" {
			list.Nodes = append(list.Nodes, Trouble{NodeID: n.NodeID, Name: n.Name, Problem: n.Problem, Group: n.Group})
		}
	}
	words := strings.Fields(strings.ToLower(q.Q))
	for _, t := range all {
		if t.Running {
			list.Running++
		}
		row := listed(t.NodeID, names[t.NodeID], t.Task)
		row.Name = called[Ref{NodeID: t.NodeID, VMID: row.VMID}]
		if q.matches(row, words) {
			list.Items = append(list.Items, row)
		}
	}
	slices.SortFunc(list.Items, func(a, b Task) int {
		return cmp.Or(first(a.Status == TaskRunning, b.Status == TaskRunning), b.Started.Compare(a.Started), cmp.Compare(a.UPID.String(), b.UPID.String()))
	})
	list.Items = list.Items[:min(len(list.Items), maxListed)]
	return list, unseen
}

// first orders what is true before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func listed(nodeID, host string, t pve.Task) Task {
	row := Task{
		NodeID: nodeID, Host: host, Node: t.UPID.Node, UPID: t.UPID, Type: t.UPID.Type, Label: Label(t.UPID.Type), User: t.UPID.User, Exit: shortened(t.ExitStatus),
		Started: t.UPID.Start, Ended: t.End, Status: statusOf(t),
	}
	if vmid, err := strconv.Atoi(t.UPID.ID); err == nil && vmid >= pve.MinVMID && vmid <= pve.MaxVMID {
		row.VMID = vmid
	}
	return row
}

func statusOf(t pve.Task) Status {
	switch {
	case t.Running:
		return TaskRunning
	case t.ExitStatus == "OK":
		return TaskOK
	case t.OK():
		return TaskWarnings
	}
	return TaskFailed
}

func (q ListQuery) matches(t Task, words []string) bool {
	if q.Node != "" && t.NodeID != q.Node || q.Status != "" && t.Status != q.Status {
		return false
	}
	text := strings.ToLower(strings.Join([]string{t.Label, t.Type, t.UPID.ID, t.Name, t.User, t.Node, t.Host}, "\n"))
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) })
}

// TaskChoice names a task.
type TaskChoice struct {
	NodeID string `json:"-" path:"nodeId" doc:"id of the node"`
	UPID   string `json:"-" path:"upid" doc:"of the task"`
}

// chosen is the task that a choice names. What is no UPID names none.
func (c TaskChoice) chosen() (pve.UPID, error) {
	u, err := pve.ParseUPID(c.UPID)
	if err != nil {
		return pve.UPID{}, fault.NoSuch("task")
	}
	return u, nil
}

// Show is the authenticated action that shows how one task stands.
func (s *Service) Show(ctx context.Context, caller session.Caller, in TaskChoice) (Task, error) {
	upid, err := in.chosen()
	if err != nil {
		return Task{}, err
	}
	at, err := s.o.Nodes.Find(ctx, caller, in.NodeID)
	if err != nil {
		return Task{}, err
	}
	var t pve.Task
	err = s.o.Nodes.Call(ctx, caller, in.NodeID, func(ctx context.Context, host *pve.Host, with pve.Credentials) (err error) {
		t, err = host.TaskStatus(ctx, with, upid)
		return err
	})
	if err != nil {
		return Task{}, unknownTask(err)
	}
	return listed(at.ID, at.Name, t), nil
}

func unknownTask(err error) error {
	if pve.IsKind(err, pve.KindNotFound) {
		return fault.NoSuch("task")
	}
	return err
}

// LogQuery asks for a part of a task's log.
type LogQuery struct {
	NodeID string `json:"-" path:"nodeId" doc:"id of the node"`
	UPID   string `json:"-" path:"upid" doc:"of the task"`
	Start  Number `json:"start,omitempty" doc:"how many lines to leave out at the beginning; -1 for the last ones"`
}

// LogLine is a line of a task's log.
type LogLine struct {
	N    int    `json:"n" doc:"number of the line, from 1"`
	Text string `json:"text"`
}

// Log is a part of a task's log.
type Log struct {
	Lines []LogLine `json:"lines" doc:"at most 500"`
	Total int       `json:"total" doc:"how many lines there are so far"`
	Task  Task      `json:"task" doc:"the task, as it stood before the lines were read: when it has ended, no line comes after total"`
}

// Log is the authenticated action that reads a part of a task's log.
func (s *Service) Log(ctx context.Context, caller session.Caller, in LogQuery) (Log, error) {
	t, err := s.Show(ctx, caller, TaskChoice{NodeID: in.NodeID, UPID: in.UPID})
	if err != nil {
		return Log{}, err
	}
	log := Log{Lines: []LogLine{}, Task: t}
	start := int(in.Start)
	err = s.o.Nodes.Call(ctx, caller, in.NodeID, func(ctx context.Context, host *pve.Host, with pve.Credentials) (err error) {
		if start < 0 {
			if _, log.Total, err = host.TaskLog(ctx, with, t.UPID, 0, 1); err != nil {
				return err
			}
			start = max(0, log.Total-maxLog)
		}
		var lines []pve.LogLine
		if lines, log.Total, err = host.TaskLog(ctx, with, t.UPID, start, maxLog); err != nil {
			return err
		}
		for _, line := range lines[:min(len(lines), maxLog)] {
			log.Lines = append(log.Lines, LogLine{N: line.Number, Text: line.Text})
		}
		return nil
	})
	return log, unknownTask(err)
}

// Stopped says that a task was told to stop. It ends a moment later.
type Stopped struct {
	Success bool `json:"success"`
}

// Stop is the authenticated action that stops a running task.
func (s *Service) Stop(ctx context.Context, caller session.Caller, in TaskChoice) (Stopped, error) {
	t, err := s.Show(ctx, caller, in)
	if err != nil {
		return Stopped{}, err
	}
	if t.Status != TaskRunning {
		return Stopped{}, &fault.Error{Kind: fault.Conflict, Code: "task_ended", Message: "This task has ended already."}
	}
	if !t.power() {
		// A token that may switch containers on and off may not cut off a backup, a migration or an update of the host.
		if err := caller.Require(session.ScopeAll); err != nil {
			return Stopped{}, err
		}
	}
	err = s.o.Nodes.Call(ctx, caller, in.NodeID, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
		return host.StopTask(ctx, with, t.UPID)
	})
	s.recordStop(ctx, caller, t, err)
	if err != nil {
		return Stopped{}, refusal(err)
	}
	return Stopped{Success: true}, nil
}

// power tells whether a task switches a container on or off.
func (t Task) power() bool {
	return slices.ContainsFunc(Actions, func(a Action) bool { return known[a].privilege == powerPrivilege && a.becomes(t.UPID) })
}

func (s *Service) recordStop(ctx context.Context, caller session.Caller, t Task, err error) {
	entry := audit.Entry{
		Identity: caller.Identity, Action: audit.TaskStop, Target: strings.TrimSpace(t.Node + " / " + t.Type + " " + t.UPID.ID), Detail: t.UPID.String(),
	}
	switch {
	case pve.IsKind(err, pve.KindForbidden):
		entry.Result = audit.Refused
	case err != nil:
		entry.Result = audit.Failed
	}
	s.o.Audit.Record(ctx, entry)
}
