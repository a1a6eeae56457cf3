package view

import (
	"net/url"
	"slices"
	"strconv"
	"time"
)

// ContainerPage is the page /containers/{nodeId}/{vmid}.
type ContainerPage struct {
	Shell
	NodeID   string
	NodeName string // as its owner calls it
	VMID     int
	Name     string
	Member   string // of the cluster
	Status   string
	Lock     string
	Template bool
	Tags     []string
	MoreTags int
	Now      time.Time
	Done     string // what has just happened, in words
	// Part is what of the page is asked for: "live", "graphs", "tasks", or all of it.
	Part string
	// Running is the task that is at work on the container, if there is one.
	Running *Task

	Live       *LiveFigures
	Facts      []Fact
	Interfaces []InterfaceRow
	Networks   []NetworkRow
	Mounts     []MountRow
	// Down is why the node can't be read; then the container is shown as it was last known.
	Down *NodeProblem
	// Problems say why a part could not be read, by its name: live, config, interfaces, tasks, events.
	Problems map[string]string

	Notes   NotesForm
	Actions []ContainerAction

	Frame        string // of the graphs: "hour", ...
	Graphs       []Graph
	GraphProblem string

	Tasks  []Task
	Events []AuditEntry
}

// LiveFigures are what a container uses at this moment, in bytes and seconds.
type LiveFigures struct {
	Running          bool
	CPU, MaxCPU      float64
	Mem, MaxMem      int64
	Swap, MaxSwap    int64
	Disk, MaxDisk    int64
	Uptime           int64
	NetIn, NetOut    int64
	Read, Written    int64
	HighAvailability string
}

// Fact is a line of what is known of a container: one text or several.
type Fact struct {
	Name   string
	Values []string
	Mono   bool
}

// InterfaceRow is a network interface with its addresses.
type InterfaceRow struct {
	Name, MAC  string
	Addresses  []string
	Configured bool // as the configuration says, which may not be so
	DHCP       bool // an address will come from elsewhere
}

// NetworkRow is a network device of the configuration.
type NetworkRow struct {
	ID, Name, Bridge, MAC string
	Notes                 []string // "VLAN 30", "firewall"
}

// MountRow is the root file system or a mount point.
type MountRow struct {
	ID, Source, Path string
	Size             int64
	Notes            []string
}

// NotesForm is what people write about a container: shown, and as a form.
type NotesForm struct {
	HTML string // of the description, safe
	// The form, as it was typed last.
	Tags, Description, Digest string
	MayEdit                   bool
	Open                      bool // the form is
	Errors                    map[string]string
	Failure                   *Failure
}

// ContainerAction is something that can be done to the container.
type ContainerAction struct {
	Name    string // "start"
	Refused string // why not, in words; empty if it can
	// Asks tells that a page comes first that asks for a confirmation.
	Asks         bool
	Experimental bool
	Primary      bool
	Danger       bool
	More         bool // of those that are used seldom
}

func (p ContainerPage) path(below string) string {
	return p.Link("/containers/" + url.PathEscape(p.NodeID) + "/" + strconv.Itoa(p.VMID) + below)
}

// framePath is the page with graphs of another time frame.
func (p ContainerPage) framePath(frame string) string {
	if frame == graphFrames[0].name {
		return p.path("")
	}
	return p.path("?timeframe=" + frame)
}

// tagPath is the list of the containers with a tag.
func (p ContainerPage) tagPath(tag string) string {
	return p.Link("/?" + url.Values{"tag": {tag}}.Encode())
}

func (p ContainerPage) statusKind() string { return statusKind(p.Status) }

func statusKind(status string) string {
	switch status {
	case "running", "stopped":
		return status
	}
	return "other"
}

// undrawn tells that there is nothing to draw.
func (p ContainerPage) undrawn() bool {
	return !slices.ContainsFunc(p.Graphs, func(g Graph) bool { return !g.Empty() })
}

// frameLabel names the time frame of the graphs: "the last hour".
func (p ContainerPage) frameLabel() string {
	for _, f := range graphFrames {
		if f.name == p.Frame {
			return f.last
		}
	}
	return ""
}

// why is why a part is not there, unless the head of the page says so already.
func (p ContainerPage) why(problem string) string {
	if p.Down != nil || problem == p.Problems["live"] {
		return ""
	}
	return problem
}

// has tells whether a part of the page is asked for.
func (p ContainerPage) has(part string) bool { return p.Part == "" || p.Part == part }

// partPath is where scripts ask for a part of the page.
func (p ContainerPage) partPath(part string) string {
	return p.path("?" + url.Values{"part": {part}, "timeframe": {p.Frame}}.Encode())
}

// every is how often a part is asked for, in milliseconds.
func (p ContainerPage) every(part string) string {
	switch {
	case part == "live" && p.Running != nil:
		return "1000"
	case part == "live":
		return "2000"
	case part == "tasks":
		return "5000"
	case p.Frame == "hour" || p.Frame == "day":
		return "60000"
	}
	return "900000"
}

// actions are those of the first line, or of the menu beside it.
func (p ContainerPage) actions(more bool) []ContainerAction {
	var list []ContainerAction
	for _, a := range p.Actions {
		if a.More == more {
			list = append(list, a)
		}
	}
	return list
}

func (a ContainerAction) class() string {
	switch {
	case a.Primary:
		return "btn btn-primary"
	case a.Danger:
		return "btn btn-danger"
	}
	return "btn"
}
