package web

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/session"
	"berth/internal/task"
	"berth/internal/web/view"
)

// changeRoutes are the pages on which containers are changed.
func (s *Site) changeRoutes() []Route {
	return []Route{
		AuthenticatedRoute("GET", "/containers/{nodeId}/{vmid}/{action}", Page, s.changeShow),
		AuthenticatedRoute("POST", "/containers/{nodeId}/{vmid}/{action}", Page, s.change),
		AuthenticatedRoute("GET", "/operations/{id}", Page, s.operation),
		AuthenticatedRoute("POST", "/bulk", Page, s.bulk),
		AuthenticatedRoute("GET", "/bulk/{id}", Page, s.run),
		AuthenticatedRoute("POST", "/bulk/{id}/cancel", Page, s.runCancel),
	}
}

// changePage is the page that asks before the change that an address names.
func (s *Site) changePage(r *http.Request, caller session.Caller) (view.Change, error) {
	action := task.Action(r.PathValue("action"))
	vmid, err := strconv.Atoi(r.PathValue("vmid"))
	if err != nil {
		return view.Change{}, fault.NoSuch("container")
	}
	found, err := s.o.Containers.Find(r.Context(), caller, r.PathValue("nodeId"), vmid)
	if err != nil {
		return view.Change{}, err
	}
	allowed, err := s.o.Tasks.Allowed(r.Context(), caller, found)
	if err != nil {
		return view.Change{}, err
	}
	refused, known := allowed[action]
	if !known {
		return view.Change{}, fault.NoSuch("action")
	}
	if refused != "" {
		if found, refused, err = s.refusedStill(r.Context(), caller, found, action); err != nil {
			return view.Change{}, err
		}
	}
	names, err := s.nodeNames(r.Context(), caller)
	if err != nil {
		return view.Change{}, err
	}
	page := view.Change{
		Shell:  s.callerShell(r.Context(), caller, "Change a container", "containers"),
		Action: string(action), Refused: refused, Subject: subject(found, names), Tags: strings.Join(found.Tags, " "), Back: s.cameFrom(r),
		Dialog: inDialog(r),
	}
	if found.MoreTags > 0 && action == task.Tag {
		page.Refused = "It has more tags than are shown here, and would lose them."
	}
	return page, nil
}

// refusedStill asks a container how it is now before an action is refused: what is known of it may be some seconds old. A node
// that can't be read is not waited for.
func (s *Site) refusedStill(ctx context.Context, caller session.Caller, c *container.Container, action task.Action) (*container.Container, string, error) {
	source, err := s.o.Containers.Source(ctx, caller, c.NodeID)
	if err != nil {
		return nil, "", err
	}
	if source.Problem == "" {
		s.o.Containers.Refresh(ctx, caller, c.NodeID, c.VMID)
		if c, err = s.o.Containers.Find(ctx, caller, c.NodeID, c.VMID); err != nil {
			return nil, "", err
		}
	}
	allowed, err := s.o.Tasks.Allowed(ctx, caller, c)
	return c, allowed[action], err
}

// inDialog tells whether a question is asked in a dialog over another page: scripts fetch it for one, and its form says so.
func inDialog(r *http.Request) bool {
	return r.Header.Get("HX-Request") != "" && (r.Method == http.MethodGet || r.URL.Query().Has("dialog"))
}

// cameFrom is the page that a question leads back to, below the base path: what the question's own form says, or the page
// with the link to it. It is the list or the page of a container; empty for all else.
func (s *Site) cameFrom(r *http.Request) string {
	from := r.URL.Query().Get("back")
	if from == "" {
		page, err := url.Parse(r.Referer())
		if err != nil || page.Host != r.Host {
			return ""
		}
		path, ours := strings.CutPrefix(page.RequestURI(), s.o.BasePath)
		if !ours {
			return ""
		}
		from = path
	}
	from = safeNext(from)
	path, _, _ := strings.Cut(from, "?")
	if rest, found := strings.CutPrefix(path, "/containers/"); path == "/" || found && strings.Count(rest, "/") == 1 {
		return from
	}
	return ""
}

func subject(c *container.Container, names map[string]string) view.Subject {
	return view.Subject{NodeID: c.NodeID, Host: names[c.NodeID], Node: c.Node, VMID: c.VMID, Name: c.Name, Status: c.Status}
}

// nodeNames are the names of the caller's nodes, by id.
func (s *Site) nodeNames(ctx context.Context, caller session.Caller) (map[string]string, error) {
	nodes, err := s.o.Nodes.List(ctx, caller)
	if err != nil {
		return nil, err
	}
	return namesOf(nodes), nil
}

func namesOf(nodes []node.Node) map[string]string {
	names := make(map[string]string, len(nodes))
	for _, n := range nodes {
		names[n.ID] = n.Name
	}
	return names
}

// changeShow asks before a container is changed.
func (s *Site) changeShow(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	page, err := s.changePage(r, caller)
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, view.ChangePage(page))
	return nil
}

// change changes a container, and shows how it goes. What is refused is shown where it was asked for.
func (s *Site) change(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	in, err := DecodeForm[task.ChangeInput](r)
	var op task.Operation
	if err == nil {
		op, err = s.o.Tasks.Change(r.Context(), caller, in)
	}
	if err == nil {
		if inDialog(r) {
			// It goes on with how the change goes.
			return s.showOperation(w, r, caller, op)
		}
		s.redirect(w, r, "/operations/"+op.ID)
		return nil
	}
	f := shown(err)
	if f.Kind == fault.NotFound || f.Kind == fault.Unauthenticated || f.Kind == fault.Unavailable {
		return err
	}
	page, pageErr := s.changePage(r, caller)
	if pageErr != nil {
		return err
	}
	f, id := explain(r.Context(), r, err)
	page.Errors, page.Confirm, page.Purge, page.DestroyUnreferenced = f.Fields, in.Confirm, bool(in.Purge), bool(in.DestroyUnreferenced)
	if in.Timeout != 0 {
		page.Timeout = strconv.Itoa(int(in.Timeout))
	}
	if in.Tags != nil {
		page.Tags = strings.Join(*in.Tags, " ")
	}
	if len(f.Fields) == 0 {
		page.Failure, page.Refused = &view.Failure{Message: f.Message, Hint: f.Hint, ErrorID: id}, ""
	}
	s.render(w, r, status(f.Kind), view.ChangePage(page))
	return nil
}

// operation shows how a change goes.
func (s *Site) operation(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	op, err := s.o.Tasks.Operation(r.Context(), caller, task.OperationChoice{ID: r.PathValue("id")})
	if err != nil {
		return err
	}
	return s.showOperation(w, r, caller, op)
}

func (s *Site) showOperation(w http.ResponseWriter, r *http.Request, caller session.Caller, op task.Operation) error {
	names, err := s.nodeNames(r.Context(), caller)
	if err != nil {
		return err
	}
	page := view.OperationStatus{
		Shell:     s.callerShell(r.Context(), caller, "A change", "containers"),
		Operation: operationRow(op, names), Offer: string(op.Offer()), Now: s.o.Now(),
	}
	// What the page is about need not be said above it too.
	page.But = op.ID
	if !op.UPID.IsZero() {
		log, err := s.o.Tasks.Log(r.Context(), caller, task.LogQuery{NodeID: op.NodeID, UPID: op.UPID.String(), Start: -1})
		if err != nil {
			page.LogError = "Its log can't be read just now: " + shown(err).Message
		}
		page.Lines = logLines(log)
	}
	s.render(w, r, http.StatusOK, view.OperationPage(page))
	return nil
}

func operationRow(op task.Operation, names map[string]string) view.Operation {
	return view.Operation{
		ID: op.ID, Action: string(op.Action), State: string(op.State), UPID: op.UPID.String(), Error: op.Error, Created: op.Created, Ended: op.End,
		Subject: view.Subject{NodeID: op.NodeID, Host: names[op.NodeID], Node: op.Node, VMID: op.VMID, Name: op.Name},
	}
}

// bulk asks before many containers are changed, and then changes them.
func (s *Site) bulk(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	if err := r.ParseForm(); err != nil {
		return unreadable(err)
	}
	in, err := bulkInput(r)
	if err == nil {
		err = in.Validate()
	}
	asked := r.PostForm.Get("confirmed") == ""
	if err == nil && !asked {
		run, err := s.o.Tasks.Bulk(r.Context(), caller, in)
		if err != nil {
			return err
		}
		s.redirect(w, r, "/bulk/"+run.ID)
		return nil
	}
	f := fault.As(err)
	if err != nil && (f == nil || f.Kind != fault.Invalid || f.Fields["items"] != "" || f.Fields["action"] != "") {
		return err
	}
	page := view.BulkChange{
		Shell: s.callerShell(r.Context(), caller, "Change containers", "containers"), Action: string(in.Action),
		Timeout: r.PostForm.Get("timeout"), AddTags: r.PostForm.Get("addTags"), RemoveTags: r.PostForm.Get("removeTags"),
	}
	if f != nil && !asked {
		page.Errors = f.Fields
	}
	names, err := s.nodeNames(r.Context(), caller)
	if err != nil {
		return err
	}
	for _, ref := range in.Items {
		found, err := s.o.Containers.Find(r.Context(), caller, ref.NodeID, ref.VMID)
		switch {
		case err == nil:
			page.Subjects = append(page.Subjects, subject(found, names))
		case fault.KindOf(err) == fault.NotFound:
			page.Missing++
		default:
			return err
		}
	}
	if len(page.Subjects) == 0 {
		return fault.NoSuch("container")
	}
	code := http.StatusOK
	if page.Errors != nil {
		code = status(f.Kind)
	}
	s.render(w, r, code, view.BulkPage(page))
	return nil
}

// bulkInput reads the form of many containers, each of which is a field "ref": node/vmid.
func bulkInput(r *http.Request) (task.BulkInput, error) {
	in := task.BulkInput{Action: task.Action(r.PostForm.Get("action"))}
	for _, ref := range r.PostForm["ref"] {
		id, number, _ := strings.Cut(ref, "/")
		if vmid, err := strconv.Atoi(number); err == nil {
			in.Items = append(in.Items, task.Ref{NodeID: id, VMID: vmid})
		}
	}
	in.AddTags, in.RemoveTags = task.ParseWords(r.PostForm.Get("addTags")), task.ParseWords(r.PostForm.Get("removeTags"))
	seconds, err := strconv.Atoi(cmp.Or(r.PostForm.Get("timeout"), "0"))
	if err != nil {
		return in, fault.InvalidInput(map[string]string{"timeout": "The timeout must be a number of seconds"})
	}
	in.Timeout = task.Number(seconds)
	return in, nil
}

// run shows how far a bulk run is.
func (s *Site) run(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	run, err := s.o.Tasks.BulkStatus(r.Context(), caller, task.RunChoice{ID: r.PathValue("id")})
	if err != nil {
		return err
	}
	names, err := s.nodeNames(r.Context(), caller)
	if err != nil {
		return err
	}
	page := view.Run{
		Shell: s.callerShell(r.Context(), caller, "Changes", "containers"), ID: run.ID, Action: string(run.Action), Created: run.Created,
		Ended: run.Ended, Counts: map[string]int{}, Now: s.o.Now(),
	}
	page.But = run.ID
	for state, n := range run.Counts {
		page.Counts[string(state)] = n
	}
	for _, op := range run.Operations {
		page.Operations = append(page.Operations, operationRow(op, names))
	}
	s.render(w, r, http.StatusOK, view.RunPage(page))
	return nil
}

// runCancel cancels what of a run has not begun.
func (s *Site) runCancel(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	run, err := s.o.Tasks.CancelBulk(r.Context(), caller, task.RunChoice{ID: r.PathValue("id")})
	if err != nil {
		return err
	}
	s.redirect(w, r, "/bulk/"+run.ID)
	return nil
}
