package view

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// PageRows is how many rows a page begins with. The scripts fetch the next ones while one scrolls, as many as the screen
	// can show; without them, links do.
	PageRows = 60
	// MostRows bounds the rows of a page, for the largest screens.
	MostRows = 200
)

// Container is one row of the list. Sizes are bytes, Uptime is seconds, CPU is a fraction of MaxCPU's cores (0 to 1).
type Container struct {
	NodeID string // of the node that it is addressed by
	Node   string // Proxmox VE's member name
	Host   string // the node's name, for people
	VMID   int
	Name   string
	Status string // running, stopped, or what PVE says

	CPU            float64
	MaxCPU         float64
	Mem, MaxMem    int64
	Disk, MaxDisk  int64
	NetIn, NetOut  int64 // bytes a second
	Uptime         int64
	Tags           []string
	MoreTags       int // how many there are beside these
	Addresses      []string
	Lock           string
	Template       bool
	VirtualMachine bool // shown, and nothing else
	// Doing is what is being done to it just now: "Starting"; empty when nothing is.
	Doing string
	// LastKnown is when it was read, if its node can't be read any more.
	LastKnown time.Time
	// Refused says by action why it can't be done.
	Refused map[string]string
}

// Filter says which containers are shown, and in which order: all that a URL of the page holds.
type Filter struct {
	Query  string // what is searched for
	Status string // "", "running", "stopped", "other"
	Node   string // id of a node, or empty for all
	Tag    string
	// VirtualMachines are shown beside the containers.
	VirtualMachines bool
	Sort            string // column name; a leading "-" sorts downwards
}

// Choice is one value of a filter.
type Choice struct {
	Value, Label string
}

// NodeProblem says why what is shown of a node's containers is not what they are now.
type NodeProblem struct {
	NodeID, Name string
	Address      string // host:port
	Problem      string // "it doesn't answer"
	WayOut       string // what to do about it
	// ReadAt is when its containers were read last; zero if they never were.
	ReadAt time.Time
	// Through names the node that its containers are read through meanwhile, being a door to the same cluster; "" if none.
	Through string
	// Others are the nodes of the same cluster that can't be read either.
	Others []string
}

// lastKnown tells whether its containers are shown as they were at ReadAt.
func (p *NodeProblem) lastKnown() bool { return p.Through == "" && !p.ReadAt.IsZero() }

// Dashboard is the page /, the signed-in user's containers.
type Dashboard struct {
	Shell
	Filter
	Layout
	// Rows are a window of those that match, From the place of its first one.
	Rows    []Container
	From    int
	Matches int

	Total   int // all containers, whatever the filter
	Running int
	Stopped int
	Other   int // neither running nor stopped

	Nodes    int // how many there are; several that lead to one installation count once
	NodeList []Choice
	TagList  []Choice
	Problems []NodeProblem
	// Version changes with whatever is shown: the stream of events begins behind it. Empty without a stream.
	Version string
	// Selectable says that containers can be selected and acted on.
	Selectable bool
	Now        time.Time
}

// result says how many containers are shown, for eyes and for screen readers.
func (d *Dashboard) result() string {
	switch {
	case d.Total == 0 && d.Matches == 0:
		return ""
	case d.filtered():
		return Grouped(d.Matches) + " of " + d.count()
	default:
		return d.count()
	}
}

// count is how many containers there are, filtered out or not, and virtual machines if they are shown too.
func (d *Dashboard) count() string {
	switch {
	case d.VirtualMachines:
		return Grouped(d.Total) + " containers and VMs"
	case d.Total == 1:
		return "1 container"
	}
	return Grouped(d.Total) + " containers"
}

// Grouped writes a number with its thousands apart: 10,000.
func Grouped(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// URL is the page with this filter; what is empty is left out, so that one state has one URL.
func (f Filter) URL(s Shell) string {
	values := f.values()
	if len(values) == 0 {
		return s.Link("/")
	}
	return s.Link("/") + "?" + values.Encode()
}

func (f Filter) values() url.Values {
	values := url.Values{}
	for name, value := range map[string]string{"q": f.Query, "status": f.Status, "node": f.Node, "tag": f.Tag, "sort": f.Sort} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if f.VirtualMachines {
		values.Set("kind", "all")
	}
	return values
}

// withStatus, withTag and sortedBy are the page's URL after a click.
func (d *Dashboard) withStatus(status string) string {
	f := d.Filter
	f.Status = status
	return f.URL(d.Shell)
}

func (d *Dashboard) withTag(tag string) string {
	f := d.Filter
	f.Tag = tag
	return f.URL(d.Shell)
}

// sortedBy is the list after a click on the head of a column: sorted by it, or the other way round if it already is.
func (d *Dashboard) sortedBy(c Column) string {
	f := d.Filter
	f.Sort = c.Name
	if (d.sorted(c) == "" && c.Down) || d.sorted(c) == "ascending" {
		f.Sort = "-" + c.Name
	}
	return f.URL(d.Shell)
}

// unfiltered keeps the order and nothing else.
func (d *Dashboard) unfiltered() string { return Filter{Sort: d.Sort}.URL(d.Shell) }

// window is the page's URL for the rows from a place on, for browsers without scripts.
func (d *Dashboard) window(from int) string {
	values := d.values()
	if from > 0 {
		values.Set("from", strconv.Itoa(from))
	}
	if len(values) == 0 {
		return d.Link("/")
	}
	return d.Link("/") + "?" + values.Encode()
}

// sorted is the aria-sort of a column; empty when the list is in another order.
func (d *Dashboard) sorted(c Column) string {
	switch name, down := strings.CutPrefix(d.Sort, "-"); {
	case name != c.Name:
		return ""
	case down:
		return "descending"
	default:
		return "ascending"
	}
}

// filtered says whether a search or a filter is on. Virtual machines beside the containers are no filter.
func (d *Dashboard) filtered() bool {
	return d.Query != "" || d.Status != "" || d.Node != "" || d.Tag != ""
}

// allDown says that nothing can be read: no node, and none of the other ways to where it leads.
func (d *Dashboard) allDown() bool {
	for i := range d.Problems {
		if d.Problems[i].Through != "" {
			return false
		}
	}
	return d.Nodes > 0 && len(d.Problems) == d.Nodes
}

// statusKind is the part of a status that has a colour and a shape of its own.
func (c *Container) statusKind() string {
	switch c.Status {
	case "running", "stopped":
		return c.Status
	default:
		return "other"
	}
}

// rowID names the row of a container, so that a refresh changes that row and no other.
func (c *Container) rowID() string { return "ct-" + c.NodeID + "-" + strconv.Itoa(c.VMID) }

// ref is how requests name the container.
func (c *Container) ref() string { return c.NodeID + "/" + strconv.Itoa(c.VMID) }

// where says on which member of which node the container is.
func (c *Container) where() string {
	if c.Host == "" || c.Host == c.Node {
		return c.Node
	}
	return c.Node + " (" + c.Host + ")"
}

// path is the page of the container, or of one of its actions.
func (c *Container) path(d *Dashboard, action string) string {
	path := "/containers/" + url.PathEscape(c.NodeID) + "/" + strconv.Itoa(c.VMID)
	if action != "" {
		path += "/" + action
	}
	return d.Link(path)
}

// title names the guest: what is on a member that has gone has no name either.
func (c *Container) title() string {
	switch {
	case c.Name != "":
		return c.Name
	case c.VirtualMachine:
		return "VM " + strconv.Itoa(c.VMID)
	}
	return "CT " + strconv.Itoa(c.VMID)
}

// called is how a control of the row names the container to screen readers.
func (c *Container) called() string { return c.title() + " (" + strconv.Itoa(c.VMID) + ")" }

// power is the one action that stands in the row itself.
func (c *Container) power() string {
	if c.Status == "running" {
		return "shutdown"
	}
	return "start"
}

// RowAction is one entry of a row's menu.
type RowAction struct {
	Name         string
	Asks         bool // its page asks before it is done
	Experimental bool
	Grave        bool // it can't be undone
	Apart        bool // a line stands above it
}

// RowActions are what can be done to a container from its row, in the order of the menu.
var RowActions = []RowAction{
	{Name: "start"},
	{Name: "shutdown", Asks: true},
	{Name: "reboot", Asks: true},
	{Name: "stop", Asks: true},
	{Name: "tag", Asks: true, Apart: true},
	{Name: "suspend", Asks: true, Experimental: true},
	{Name: "resume", Asks: true, Experimental: true},
	{Name: "delete", Asks: true, Grave: true, Apart: true},
}

// BulkActions are what can be done to many containers in one go.
var BulkActions = []string{"start", "shutdown", "reboot", "stop", "tag"}

// refusals are the reasons of what can't be done, a line for each, for the menu.
func (c *Container) refusals() string {
	var b strings.Builder
	for _, a := range RowActions {
		if reason := c.Refused[a.Name]; reason != "" {
			b.WriteString(a.Name + ": " + strings.ReplaceAll(reason, "\n", " ") + "\n")
		}
	}
	return b.String()
}

// gaugeLevel is how full a gauge is, as the style sheet colours it.
func gaugeLevel(f float64) string {
	switch {
	case f >= 0.95:
		return "full"
	case f >= 0.8:
		return "high"
	default:
		return "calm"
	}
}

func gaugeWidth(f float64) string {
	return strconv.FormatFloat(f*100, 'f', 1, 64) + "%"
}
