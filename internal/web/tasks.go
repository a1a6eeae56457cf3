package web

import (
	"context"
	"log/slog"
	"net/http"

	"berth/internal/fault"
	"berth/internal/session"
	"berth/internal/task"
	"berth/internal/web/view"
)

// taskRoutes are the pages about Proxmox VE's tasks, and what every page shows of them.
func (s *Site) taskRoutes() []Route {
	glance := AuthenticatedRoute("GET", "/tasks/glance", Page, s.glance)
	glance.Passive = true
	return []Route{
		glance,
		AuthenticatedRoute("GET", "/tasks", Page, s.tasks),
		AuthenticatedRoute("GET", "/tasks/{nodeId}/{upid}", Page, s.task),
		AuthenticatedRoute("GET", "/tasks/{nodeId}/{upid}/stop", Page, s.taskStopShow),
		AuthenticatedRoute("POST", "/tasks/{nodeId}/{upid}/stop", Page, s.taskStop),
		AuthenticatedRoute("POST", "/notices/{id}/seen", Page, s.noticeSeen),
	}
}

// tasks is the page of running and recent tasks.
func (s *Site) tasks(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	query, err := DecodeForm[task.ListQuery](r)
	if err != nil && fault.KindOf(err) != fault.Invalid {
		return err
	}
	if err != nil {
		query = task.ListQuery{} // an address that somebody changed by hand shows all
	}
	list, err := s.o.Tasks.List(r.Context(), caller, query)
	if err != nil && len(list.Nodes) == 0 {
		return err
	}
	nodes, err := s.o.Nodes.List(r.Context(), caller)
	if err != nil {
		return err
	}
	page := view.Tasks{
		Shell: s.callerShell(r.Context(), caller, "Tasks", "tasks"), Query: query.Q, Node: query.Node, Status: string(query.Status),
		Nodes: []view.Option{{Value: "", Label: "All nodes"}}, Running: list.Running, Now: s.o.Now(),
	}
	for _, n := range nodes {
		page.Nodes = append(page.Nodes, view.Option{Value: n.ID, Label: n.Name})
	}
	told := map[string]bool{}
	for _, n := range list.Nodes {
		if told[n.Group] {
			continue // another way to the same installation
		}
		told[n.Group] = true
		page.Troubles = append(page.Troubles, view.Trouble{Name: n.Name, Problem: n.Problem})
	}
	for _, t := range list.Items {
		page.Rows = append(page.Rows, taskRow(t))
	}
	s.render(w, r, http.StatusOK, view.TasksPage(page))
	return nil
}

func taskRow(t task.Task) view.Task {
	return view.Task{
		NodeID: t.NodeID, Host: t.Host, Node: t.Node, UPID: t.UPID.String(), Label: t.Label, VMID: t.VMID, Name: t.Name, User: t.User, Status: string(t.Status),
		Exit: t.Exit, Started: t.Started, Ended: t.Ended,
	}
}

func logLines(log task.Log) []view.LogLine {
	lines := make([]view.LogLine, 0, len(log.Lines))
	for _, line := range log.Lines {
		lines = append(lines, view.LogLine{N: line.N, Text: line.Text})
	}
	return lines
}

// task is the page of one task with its log.
func (s *Site) task(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	choice := task.TaskChoice{NodeID: r.PathValue("nodeId"), UPID: r.PathValue("upid")}
	log, err := s.o.Tasks.Log(r.Context(), caller, task.LogQuery{NodeID: choice.NodeID, UPID: choice.UPID, Start: -1})
	page := view.TaskLog{Task: taskRow(log.Task), Lines: logLines(log), Now: s.o.Now(), Stopped: r.URL.Query().Has("stopped")}
	switch {
	case err != nil && log.Task.UPID.IsZero():
		return err
	case err != nil:
		page.Problem = "The log can't be read just now: " + shown(err).Message
	case len(log.Lines) > 0:
		page.Before = log.Lines[0].N - 1
	}
	page.Shell = s.callerShell(r.Context(), caller, "Task", "tasks")
	page.Stopped = page.Stopped && log.Task.Status == task.TaskRunning
	s.render(w, r, http.StatusOK, view.TaskPage(page))
	return nil
}

// taskStopShow asks before a task is stopped.
func (s *Site) taskStopShow(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	t, err := s.o.Tasks.Show(r.Context(), caller, task.TaskChoice{NodeID: r.PathValue("nodeId"), UPID: r.PathValue("upid")})
	if err != nil {
		return err
	}
	page := view.StopTask{Shell: s.callerShell(r.Context(), caller, "Stop a task", "tasks"), Task: taskRow(t), Now: s.o.Now()}
	s.render(w, r, http.StatusOK, view.StopTaskPage(page))
	return nil
}

// taskStop stops a task.
func (s *Site) taskStop(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	choice := task.TaskChoice{NodeID: r.PathValue("nodeId"), UPID: r.PathValue("upid")}
	_, err := s.o.Tasks.Stop(r.Context(), caller, choice)
	if err == nil {
		s.redirect(w, r, view.Task{NodeID: choice.NodeID, UPID: choice.UPID}.Path()+"?stopped")
		return nil
	}
	f := shown(err)
	if f.Kind != fault.Conflict && f.Kind != fault.Forbidden {
		return err
	}
	t, showErr := s.o.Tasks.Show(r.Context(), caller, choice)
	if showErr != nil {
		return err
	}
	f, id := explain(r.Context(), r, err)
	s.render(w, r, status(f.Kind), view.StopTaskPage(view.StopTask{
		Shell: s.callerShell(r.Context(), caller, "Stop a task", "tasks"), Task: taskRow(t), Now: s.o.Now(),
		Failure: &view.Failure{Message: f.Message, Hint: f.Hint, ErrorID: id},
	}))
	return nil
}

// notices are what the caller should know of their own changes, as pages show it. A page without them is better than none.
func (s *Site) notices(ctx context.Context, caller session.Caller) []view.Notice {
	list, err := s.o.Tasks.Notices(ctx, caller, task.NoticesQuery{})
	if err != nil {
		if ctx.Err() == nil { // or whoever asked has gone
			slog.ErrorContext(ctx, "notices not read", "cause", err)
		}
		return nil
	}
	var notices []view.Notice
	runs := map[string]int{} // where the notice of a run is
	for _, n := range list.Items {
		if at, ok := runs[n.BulkID]; ok && n.BulkID != "" {
			notices[at].More++
			continue
		}
		runs[n.BulkID] = len(notices)
		notices = append(notices, view.Notice{Operation: operationRow(n.Operation, nil), Offer: string(n.Offer), RunID: n.BulkID})
	}
	return notices
}

// glance answers with what every page shows of tasks. Open pages ask for it every few seconds, which is no use of the session.
func (s *Site) glance(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	list, err := s.o.Tasks.List(r.Context(), caller, task.ListQuery{Status: task.TaskRunning})
	if err != nil && len(list.Nodes) == 0 {
		return err
	}
	shell := s.shell(r.Context(), "")
	shell.Notices, shell.Now, shell.But = s.notices(r.Context(), caller), s.o.Now(), r.URL.Query().Get("but")
	s.render(w, r, http.StatusOK, view.GlanceParts(view.Glance{Shell: shell, Running: list.Running}))
	return nil
}

// noticeSeen takes a notice away.
func (s *Site) noticeSeen(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	if _, err := s.o.Tasks.MarkSeen(r.Context(), caller, task.NoticeChoice{ID: r.PathValue("id")}); err != nil {
		return err
	}
	if r.Header.Get("HX-Request") != "" {
		return s.glance(w, r, caller)
	}
	s.redirect(w, r, "/tasks")
	return nil
}
