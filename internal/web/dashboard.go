package web

import (
	"context"
	"net/http"
	"strconv"

	"github.com/a-h/templ"

	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/task"
	"berth/internal/web/view"
)

// dashboardRoutes are the routes of the page /.
func (s *Site) dashboardRoutes() []Route {
	return []Route{
		AuthenticatedRoute("GET", "/{$}", Page, s.dashboard),
		AuthenticatedRoute("POST", "/layout", Page, s.layoutChange),
	}
}

// dashboard shows a window of the caller's containers: the one of so many "rows" that begins at the place "from", or the first. A node that
// can't be read costs a banner, never the page.
func (s *Site) dashboard(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	query, err := DecodeForm[container.Query](r)
	if fault.KindOf(err) == fault.Invalid && err != nil {
		// An address that somebody changed by hand shows the whole list rather than a refusal.
		query, err = container.Query{}, nil
	}
	if err != nil {
		return err
	}
	rows := windowRows(r.URL.Query().Get("rows"))
	query.Limit, query.Cursor = strconv.Itoa(rows), ""
	query.Offset = windowStart(r.URL.Query().Get("from"))
	list, err := s.o.Containers.List(r.Context(), caller, query)
	if err == nil && query.Offset > 0 && query.Offset+rows > list.Matched {
		// The list has become shorter: show its last window.
		query.Offset = max(list.Matched-rows, 0)
		list, err = s.o.Containers.List(r.Context(), caller, query)
	}
	if err != nil && (len(list.Nodes) == 0 || fault.KindOf(err) == fault.Unauthenticated) {
		return err
	}
	layout, err := s.layout(r.Context(), caller)
	if err != nil {
		return err
	}
	shell := s.callerShell(r.Context(), caller, "Containers", "containers")
	s.renderShared(w, r, newPageOf(caller, shell, query, list.Version, layout), func(ctx context.Context) templ.Component {
		return view.DashboardPage(s.dashboardPage(ctx, caller, shell, query, list, layout))
	})
	return nil
}

// dashboardPage is the page of a list.
func (s *Site) dashboardPage(ctx context.Context, caller session.Caller, shell view.Shell, query container.Query, list container.List, layout view.Layout) view.Dashboard {
	page := view.Dashboard{
		Shell: shell,
		Filter: view.Filter{
			Query: query.Q, Status: query.Status, Node: query.Node, Tag: query.Tag, Sort: query.Sort,
			VirtualMachines: query.Kind == "all",
		},
		Layout: layout, From: query.Offset, Matches: list.Matched,
		Total: list.Counts.Total, Running: list.Counts.Running, Stopped: list.Counts.Stopped, Other: list.Counts.Other,
		Version: list.Version, Selectable: true, Now: s.o.Now(),
	}
	nodes := make(map[string]container.Source, len(list.Nodes))
	for _, n := range list.Nodes {
		nodes[n.NodeID] = n
		page.NodeList = append(page.NodeList, view.Choice{Value: n.NodeID, Label: n.Name})
	}
	page.Nodes, page.Problems = installations(list.Nodes)
	for _, tag := range list.Tags {
		page.TagList = append(page.TagList, view.Choice{Value: tag, Label: tag})
	}
	s.o.Containers.Addresses(ctx, caller, container.Refs(list.Items))
	page.Rows = make([]view.Container, len(list.Items))
	reasons := s.o.Tasks.AllowedEach(ctx, caller, list.Items)
	for i, c := range list.Items {
		page.Rows[i] = dashboardRow(c, nodes)
		refuse(&page.Rows[i], reasons[i])
	}
	return page
}

// installations counts those that nodes lead to, and tells the problems of each once, however many nodes lead there.
func installations(nodes []container.Source) (count int, problems []view.NodeProblem) {
	seen, told := map[string]bool{}, map[string]int{}
	for _, n := range nodes {
		seen[n.Group] = true
		if n.Problem == "" {
			continue
		}
		if i, ok := told[n.Group]; ok {
			problems[i].Others = append(problems[i].Others, n.Name)
			continue
		}
		told[n.Group] = len(problems)
		problems = append(problems, view.NodeProblem{
			NodeID: n.NodeID, Name: n.Name, Address: pve.Address{Host: n.Host, Port: n.Port}.String(),
			Problem: n.Problem, WayOut: n.WayOut, ReadAt: n.ReadAt, Through: n.Through,
		})
	}
	return len(seen), problems
}

// windowStart is the place that a window begins at.
func windowStart(from string) int {
	n, err := strconv.Atoi(from)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// windowRows is how many rows a window has: as many as are asked for, or a page for browsers without scripts.
func windowRows(asked string) int {
	n, err := strconv.Atoi(asked)
	if err != nil || n < 1 {
		return view.PageRows
	}
	return min(n, view.MostRows)
}

func dashboardRow(c *container.Container, nodes map[string]container.Source) view.Container {
	row := view.Container{
		NodeID: c.NodeID, Node: c.Node, Host: nodes[c.NodeID].Name, VMID: c.VMID, Name: c.Name, Status: c.Status,
		CPU: c.CPU, MaxCPU: c.MaxCPU, Mem: c.Mem, MaxMem: c.MaxMem, Disk: c.Disk, MaxDisk: c.MaxDisk, NetIn: c.NetIn, NetOut: c.NetOut,
		Uptime: c.Uptime, Tags: c.Tags, MoreTags: int(c.MoreTags), Addresses: c.Addresses, Lock: c.Lock, Template: c.Template,
		VirtualMachine: c.Kind == container.QEMU,
	}
	if door := nodes[c.Door]; door.Problem != "" {
		row.LastKnown = door.ReadAt
	}
	if c.Task != nil {
		row.Doing = doing(c.Task.Type)
	}
	return row
}

// nodeDown is why nothing can be done to containers that are shown as they were last known.
const nodeDown = "Its node can't be reached just now."

// refuse notes what can't be done to the container of a row, and why.
func refuse(row *view.Container, reasons map[task.Action]string) {
	if row.VirtualMachine {
		return
	}
	row.Refused = map[string]string{}
	for action, reason := range reasons {
		switch {
		case !row.LastKnown.IsZero():
			reason = nodeDown
		case row.Doing != "" && reason == "":
			reason = "Something is being done to it just now."
		}
		if reason != "" {
			row.Refused[string(action)] = reason
		}
	}
}

// doing says what a running task does to its container, by Proxmox VE's name of the task.
func doing(task string) string {
	switch task {
	case "vzstart", "hastart", "qmstart":
		return "Starting"
	case "vzshutdown", "hashutdown", "qmshutdown":
		return "Shutting down"
	case "vzstop", "hastop", "qmstop":
		return "Stopping"
	case "vzreboot", "qmreboot":
		return "Rebooting"
	case "vzsuspend", "qmsuspend":
		return "Suspending"
	case "vzresume", "qmresume":
		return "Resuming"
	case "vzdestroy", "qmdestroy":
		return "Deleting"
	case "vzdump":
		return "Backing up"
	case "vzmigrate", "qmigrate", "hamigrate":
		return "Migrating"
	case "vzsnapshot", "qmsnapshot":
		return "Taking a snapshot"
	case "vzrollback", "qmrollback":
		return "Rolling back"
	case "vzclone", "qmclone":
		return "Cloning"
	}
	return "Busy"
}
