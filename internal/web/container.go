package web

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"berth/internal/audit"
	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/task"
	"berth/internal/web/view"
)

// containerRoutes are the page about one container.
func (s *Site) containerRoutes() []Route {
	return []Route{
		AuthenticatedRoute("GET", "/containers/{nodeId}/{vmid}", Page, s.container),
		AuthenticatedRoute("POST", "/containers/{nodeId}/{vmid}/edit", Page, s.containerEdit),
	}
}

// maxEvents is how many entries of the trail one container's page shows, of the last so many.
const (
	maxEvents     = 15
	lookedThrough = "100"
)

// container is the page about one container. What its host does not say costs a part of it.
func (s *Site) container(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	page, err := s.containerPage(r, caller)
	if err != nil {
		return err
	}
	if r.URL.Query().Has("saved") {
		page.Done = "Notes and tags were saved."
	}
	s.render(w, r, http.StatusOK, view.ContainerDetailPage(page))
	return nil
}

func chosen(r *http.Request) container.Choice {
	return container.Choice{NodeID: r.PathValue("nodeId"), VMID: r.PathValue("vmid")}
}

// containerPage reads everything that the page shows side by side. With part=live, graphs or tasks in the query, which
// is what scripts ask for again, it leaves out the rest.
func (s *Site) containerPage(r *http.Request, caller session.Caller) (view.ContainerPage, error) {
	ctx, in, part := r.Context(), chosen(r), r.URL.Query().Get("part")
	if !slices.Contains([]string{"live", "graphs", "tasks"}, part) {
		part = ""
	}
	frame := r.URL.Query().Get("timeframe")
	if !slices.Contains(container.Timeframes, frame) {
		frame = container.Timeframes[0]
	}
	var wait sync.WaitGroup
	var graph container.Graph
	var tasks []pve.Task
	var graphErr, tasksErr error
	if part == "" || part == "graphs" {
		wait.Go(func() {
			graph, graphErr = s.o.Details.Graph(ctx, caller, container.GraphQuery{Choice: in, Timeframe: frame})
		})
	}
	if part == "" || part == "tasks" {
		wait.Go(func() { tasks, tasksErr = s.o.Details.Tasks(ctx, caller, in) })
	}
	read := s.o.Details.Get
	if part != "" {
		read = s.o.Details.Now
	}
	detail, err := read(ctx, caller, in)
	wait.Wait()
	if err != nil {
		return view.ContainerPage{}, err
	}
	for _, err := range []error{graphErr, tasksErr} {
		if err != nil && container.Trouble(err) == "" {
			return view.ContainerPage{}, err
		}
	}
	page := s.containerView(ctx, caller, detail)
	page.Part, page.Frame, page.Now = part, frame, s.o.Now()
	if names, err := s.nodeNames(ctx, caller); err == nil { // a name more is not worth a page less
		page.NodeName = names[detail.NodeID]
	}
	if page.Actions, err = s.containerActions(ctx, caller, detail); err != nil {
		return view.ContainerPage{}, err
	}
	if err := s.containerDown(ctx, caller, detail, &page); err != nil {
		return view.ContainerPage{}, err
	}
	if graphErr != nil {
		page.GraphProblem = container.Trouble(graphErr)
	} else if len(graph.Times) > 0 {
		page.Graphs = graphs(graph)
	}
	if tasksErr != nil {
		page.Problems["tasks"] = container.Trouble(tasksErr)
	}
	for _, t := range tasks {
		page.Tasks = append(page.Tasks, view.Task{
			NodeID: page.NodeID, Node: page.Member, VMID: page.VMID, UPID: t.UPID.String(), Label: task.Label(t.UPID.Type), User: t.UPID.User,
			Status: taskStatus(t), Exit: t.ExitStatus, Started: t.UPID.Start, Ended: t.End,
		})
	}
	if part == "" {
		if page.Events, err = s.containerEvents(ctx, caller, page.NodeName, detail.Container); err != nil {
			if fault.KindOf(err) == fault.Unauthenticated {
				return view.ContainerPage{}, err
			}
			page.Problems["events"] = "Berth can't read it just now."
		}
	}
	return page, nil
}

// containerActions are what can be done to a container, as it is now.
func (s *Site) containerActions(ctx context.Context, caller session.Caller, d container.Detail) ([]view.ContainerAction, error) {
	now := *d.Container
	if d.Live != nil {
		now.Status, now.Lock = d.Live.Status, d.Live.Lock
	}
	refused, err := s.o.Tasks.Allowed(ctx, caller, &now)
	if err != nil {
		return nil, err
	}
	running := now.Status == "running"
	var actions []view.ContainerAction
	for _, action := range task.Actions {
		if action == task.Tag {
			continue // there is a form for them
		}
		a := view.ContainerAction{Name: string(action), Refused: refused[action], Asks: true, More: true, Experimental: action.Experimental()}
		switch action {
		case task.Start:
			a.More, a.Primary, a.Asks = running, true, false
		case task.Shutdown, task.Reboot:
			a.More = !running
		case task.Stop:
			a.More, a.Danger = !running, true
		case task.Delete:
			a.Danger = true
		}
		actions = append(actions, a)
	}
	return actions, nil
}

// containerDown notes on the page of a container that its node can't be read, so that all of it is as it was last known.
func (s *Site) containerDown(ctx context.Context, caller session.Caller, d container.Detail, page *view.ContainerPage) error {
	if d.Live != nil {
		return nil // it answers
	}
	door, err := s.o.Containers.Source(ctx, caller, d.Door)
	if err != nil || door.Problem == "" {
		return err
	}
	page.Down = &view.NodeProblem{NodeID: door.NodeID, Name: door.Name, Problem: door.Problem, WayOut: door.WayOut, ReadAt: door.ReadAt}
	for i := range page.Actions {
		page.Actions[i].Refused = nodeDown
	}
	return nil
}

func taskStatus(t pve.Task) string {
	switch {
	case t.Running:
		return "running"
	case t.ExitStatus == "OK":
		return "ok"
	case t.OK():
		return "warnings"
	}
	return "failed"
}

// containerEvents are the caller's latest entries of the trail that name a container.
func (s *Site) containerEvents(ctx context.Context, caller session.Caller, node string, c *container.Container) ([]view.AuditEntry, error) {
	// Its name may have changed since, so it is not looked for.
	target := (&container.Container{Node: c.Node, VMID: c.VMID}).Target(node)
	list, err := s.o.Trail.List(ctx, caller, audit.Query{Filter: audit.Filter{Whose: "mine", Text: target}, Limit: lookedThrough})
	if err != nil {
		return nil, err
	}
	var events []view.AuditEntry
	for _, line := range list.Items {
		if line.Target != target && !strings.HasPrefix(line.Target, target+" ") || len(events) == maxEvents {
			continue
		}
		events = append(events, view.AuditEntry{
			ID: line.ID, At: line.At, Address: line.Address, Action: string(line.Action), Result: string(line.Result), Detail: line.Detail, ErrorID: line.ErrorID,
		})
	}
	return events, nil
}

// containerView is what the page shows of a container's details.
func (s *Site) containerView(ctx context.Context, caller session.Caller, d container.Detail) view.ContainerPage {
	page := view.ContainerPage{
		Shell:  s.callerShell(ctx, caller, cmp.Or(d.Name, strconv.Itoa(d.VMID)), "containers"),
		NodeID: d.NodeID, VMID: d.VMID, Name: cmp.Or(d.Name, strconv.Itoa(d.VMID)), Member: d.Node, Status: d.Status, Lock: d.Lock,
		Template: d.Template, Tags: d.Tags, MoreTags: int(d.MoreTags), Problems: d.Problems,
	}
	if t := d.Task; t != nil {
		page.Running = &view.Task{NodeID: d.NodeID, Node: d.Node, VMID: d.VMID, UPID: t.UPID, Label: task.Label(t.Type), User: t.User, Status: "running", Started: t.Started}
	}
	if live := d.Live; live != nil {
		page.Status, page.Lock = live.Status, live.Lock
		page.Live = &view.LiveFigures{
			Running: live.Status == "running", CPU: live.CPU, MaxCPU: live.MaxCPU, Mem: live.Mem, MaxMem: live.MaxMem, Swap: live.Swap, MaxSwap: live.MaxSwap,
			Disk: live.Disk, MaxDisk: live.MaxDisk, Uptime: live.Uptime, NetIn: live.NetIn, NetOut: live.NetOut,
			Read: live.DiskRead, Written: live.DiskWrite, HighAvailability: live.HA,
		}
	}
	for _, i := range d.Interfaces {
		row := view.InterfaceRow{Name: i.Name, MAC: i.MAC, Configured: i.Configured, DHCP: i.Configured && dhcp(d.Config, i.Name)}
		for _, a := range i.Addresses {
			row.Addresses = append(row.Addresses, a.String())
		}
		page.Interfaces = append(page.Interfaces, row)
	}
	if c := d.Config; c != nil {
		page.Tags, page.MoreTags = c.Tags, 0
		page.Facts = configFacts(c)
		page.Mounts, page.Networks = mountRows(c), networkRows(c)
		page.Notes = view.NotesForm{
			Tags: strings.Join(c.Tags, " "), Description: c.Description, Digest: c.Digest, MayEdit: d.MayEdit,
		}
		if c.Description != "" {
			page.Notes.HTML = markdown(c.Description)
		}
	}
	return page
}

// dhcp tells whether a network device of a configuration gets its address from elsewhere.
func dhcp(c *container.Config, name string) bool {
	return c != nil && slices.ContainsFunc(c.Networks, func(n container.Network) bool {
		return n.Name == name && (n.IP == "dhcp" || n.IP6 == "dhcp" || n.IP6 == "auto")
	})
}

// configFacts are the parts of a configuration that are a line of text.
func configFacts(c *container.Config) []view.Fact {
	var facts []view.Fact
	add := func(name string, mono bool, values ...string) {
		if values = slices.DeleteFunc(values, func(v string) bool { return v == "" }); len(values) > 0 {
			facts = append(facts, view.Fact{Name: name, Values: values, Mono: mono})
		}
	}
	when := func(yes bool, text string) string {
		if yes {
			return text
		}
		return ""
	}
	add("Host name", true, c.Hostname)
	add("System", false, strings.TrimSpace(c.OSType+" "+c.Arch))
	cores := "all cores of its member"
	if c.Cores > 0 {
		cores = view.FormatCores(float64(c.Cores))
	}
	add("Processor", false, cores, when(c.CPULimit > 0, "at most "+view.FormatCores(c.CPULimit)+" of CPU time"),
		when(c.CPUUnits > 0, "weight "+strconv.Itoa(c.CPUUnits)))
	add("Memory", false, view.FormatBytes(c.Memory), when(c.Swap > 0, view.FormatBytes(c.Swap)+" of swap"))
	privileges := "unprivileged"
	if !c.Unprivileged {
		privileges = "privileged: root in it is root on its member"
	}
	add("Privileges", false, privileges, when(len(c.Features) > 0, "features: "+strings.Join(c.Features, ", ")))
	start := "not started with its member"
	if c.Onboot {
		start = "with its member"
	}
	add("Start", false, append([]string{start}, startupText(c.Startup)...)...)
	add("Protection", false, when(c.Protection, "on: neither it nor its disks can be removed"))
	add("DNS", true, append(slices.Clone(c.Nameservers), when(c.SearchDomain != "", "search "+c.SearchDomain))...)
	add("Time zone", false, c.Timezone)
	var devices []string
	for _, d := range c.Devices {
		devices = append(devices, d.Path)
	}
	add("Devices", true, devices...)
	return facts
}

func startupText(s *container.Startup) []string {
	if s == nil {
		return nil
	}
	var texts []string
	if s.Order >= 0 {
		texts = append(texts, "order "+strconv.Itoa(s.Order))
	}
	if s.Up >= 0 {
		texts = append(texts, strconv.Itoa(s.Up)+" s until the next one")
	}
	if s.Down >= 0 {
		texts = append(texts, strconv.Itoa(s.Down)+" s to shut down")
	}
	return texts
}

func mountRows(c *container.Config) []view.MountRow {
	var rows []view.MountRow
	for _, m := range c.Mounts {
		row := view.MountRow{ID: m.ID, Source: m.Source, Path: m.Path, Size: m.Size}
		if m.ReadOnly {
			row.Notes = append(row.Notes, "read-only")
		}
		if m.Backup && m.ID != "rootfs" {
			row.Notes = append(row.Notes, "backed up")
		}
		rows = append(rows, row)
	}
	return rows
}

func networkRows(c *container.Config) []view.NetworkRow {
	var rows []view.NetworkRow
	for _, n := range c.Networks {
		row := view.NetworkRow{ID: n.ID, Name: n.Name, Bridge: n.Bridge, MAC: n.MAC}
		note := func(yes bool, text string) {
			if yes {
				row.Notes = append(row.Notes, text)
			}
		}
		note(n.IP != "", n.IP)
		note(n.Gateway != "", "gateway "+n.Gateway)
		note(n.IP6 != "", n.IP6)
		note(n.Gateway6 != "", "gateway "+n.Gateway6)
		note(n.VLAN > 0, "VLAN "+strconv.Itoa(n.VLAN))
		note(n.MTU > 0, "MTU "+strconv.Itoa(n.MTU))
		note(n.Rate > 0, "at most "+strconv.FormatFloat(n.Rate, 'f', -1, 64)+" MB/s")
		note(n.Firewall, "firewall")
		note(n.LinkDown, "link down")
		rows = append(rows, row)
	}
	return rows
}

// graphs are the four graphs of a container.
func graphs(g container.Graph) []view.Graph {
	draw := func(name, title string, unit view.Unit, most float64, series ...view.Figures) view.Graph {
		return view.NewGraph(name, title, unit, g.Timeframe, g.Times, most, series...)
	}
	figures := func(label string, s container.Series) view.Figures {
		return view.Figures{Label: label, Values: s.Values, Peaks: s.Peaks}
	}
	return []view.Graph{
		draw("cpu", "CPU", view.Share, 0, figures("CPU", g.CPU)),
		draw("mem", "Memory", view.Bytes, g.Mem.Limit, figures("Memory", g.Mem)),
		draw("net", "Network", view.Rate, 0, figures("Received", g.NetIn), figures("Sent", g.NetOut)),
		draw("io", "Disk", view.Rate, 0, figures("Read", g.DiskRead), figures("Written", g.DiskWrite)),
		draw("disk", "Root disk", view.Bytes, g.Disk.Limit, figures("Used", g.Disk)),
	}
}

// notesInput is the form of notes and tags.
type notesInput struct {
	Tags        string `json:"tags"`
	Description string `json:"description"`
	Digest      string `json:"digest"`
}

// containerEdit saves notes and tags: those of the two that are not as they were.
func (s *Site) containerEdit(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	form, err := DecodeForm[notesInput](r)
	if err != nil {
		return err
	}
	before, err := s.o.Details.Get(r.Context(), caller, chosen(r))
	if err != nil {
		return err
	}
	description := strings.TrimRight(strings.ReplaceAll(form.Description, "\r\n", "\n"), "\n")
	tags := strings.FieldsFunc(form.Tags, func(c rune) bool { return strings.ContainsRune(" \t\r\n,;", c) })
	in := container.Edit{Choice: chosen(r), Digest: form.Digest}
	if before.Config == nil || description != before.Config.Description {
		in.Description = &description
	}
	if before.Config == nil || !slices.Equal(tags, before.Config.Tags) {
		in.Tags = &tags
	}
	if in.Tags != nil || in.Description != nil {
		if _, err = s.o.Details.Edit(r.Context(), caller, in); err != nil {
			return s.containerEditRefused(w, r, caller, form, err)
		}
	}
	path := "/containers/" + before.NodeID + "/" + strconv.Itoa(before.VMID)
	s.redirect(w, r, path+"?saved#notes")
	return nil
}

// containerEditRefused shows the form again, as it was typed, with what is wrong.
func (s *Site) containerEditRefused(w http.ResponseWriter, r *http.Request, caller session.Caller, form notesInput, err error) error {
	f, id := explain(r.Context(), r, err)
	if f.Kind == fault.Unauthenticated || f.Kind == fault.NotFound {
		return err
	}
	page, readErr := s.containerPage(r, caller)
	if readErr != nil {
		return readErr
	}
	// The digest stays that of what was edited: to overwrite what others did is not for a second click.
	page.Notes.Open, page.Notes.Tags, page.Notes.Description, page.Notes.Digest = true, form.Tags, form.Description, form.Digest
	page.Notes.Errors = f.Fields
	if len(f.Fields) == 0 {
		page.Notes.Failure = &view.Failure{Message: f.Message, Hint: f.Hint, ErrorID: id}
	}
	delete(page.Problems, container.PartConfig)
	s.render(w, r, status(f.Kind), view.ContainerDetailPage(page))
	return nil
}
