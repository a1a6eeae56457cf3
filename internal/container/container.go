package container

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/internal/fault"
)

// The kinds of guests, as Proxmox VE names them.
const (
	LXC  = "lxc"
	QEMU = "qemu"
)

// Container is an LXC container, or a virtual machine, which is shown and never changed, as Proxmox VE lists it
// (cluster/resources). Sizes are bytes, Uptime is seconds, CPU is the used share of MaxCPU cores, from 0 to 1.
type Container struct {
	NodeID  string   `json:"nodeId" doc:"id of the node, which with vmid names the container"`
	Door    string   `json:"door" doc:"id of the node that it was read through: nodeId, or while that one is down another door to the same cluster"`
	Kind    string   `json:"kind" doc:"lxc for a container, qemu for a virtual machine" example:"lxc"`
	Node    string   `json:"node" doc:"cluster member that holds the container" example:"pve1"`
	VMID    int      `json:"vmid" example:"101"`
	Name    string   `json:"name"`
	Status  string   `json:"status" doc:"running or stopped; unknown while its cluster member is down" example:"running"`
	CPU     float64  `json:"cpu" doc:"used share of maxcpu cores, 0 to 1"`
	MaxCPU  float64  `json:"maxcpu" doc:"cores"`
	Mem     int64    `json:"mem" doc:"bytes"`
	MaxMem  int64    `json:"maxmem" doc:"bytes"`
	Disk    int64    `json:"disk" doc:"bytes"`
	MaxDisk int64    `json:"maxdisk" doc:"bytes"`
	NetIn   int64    `json:"netin" doc:"bytes per second that it received between the last two readings; 0 when they are not known"`
	NetOut  int64    `json:"netout" doc:"bytes per second that it sent, likewise"`
	Uptime  int64    `json:"uptime" doc:"seconds"`
	Tags    []string `json:"tags" doc:"the first 16; one of more than 64 bytes is cut and ends with …"`
	// Addresses are those that are known: see Service.Addresses.
	Addresses []string `json:"addresses" doc:"IP addresses, as far as they are known"`
	Lock      string   `json:"lock,omitempty" doc:"why the container can't be changed just now: backup, migrate, ..."`
	// MoreTags and Template share a word: there are many containers in memory, and what is larger takes the next larger place.
	MoreTags int32        `json:"moreTags,omitempty" doc:"how many tags there are beside these"`
	Template bool         `json:"template"`
	Task     *RunningTask `json:"task,omitempty" doc:"what is being done with it; known while somebody watches"`

	// Counters since the start, in bytes, of which the rates are made.
	received, sent int64
	// folded is the name in small letters, for sorting and searching; empty until somebody made it.
	folded string
}

func (c *Container) fold() string {
	if c.folded != "" {
		return c.folded
	}
	return strings.ToLower(c.Name)
}

// RunningTask is a task of Proxmox VE's that is at work on a container.
type RunningTask struct {
	UPID    string    `json:"upid"`
	Type    string    `json:"type" example:"vzstart"`
	User    string    `json:"user" example:"root@pam"`
	Started time.Time `json:"started"`
}

// Ref names a container.
type Ref struct {
	NodeID string `json:"nodeId"`
	VMID   int    `json:"vmid"`
}

// Ref is the container's name for programs.
func (c *Container) Ref() Ref { return Ref{c.NodeID, c.VMID} }

// Refs are the containers' names for programs.
func Refs(of []*Container) []Ref {
	refs := make([]Ref, len(of))
	for i, c := range of {
		refs[i] = c.Ref()
	}
	return refs
}

// equal tells whether two readings of a container show the same.
func (c *Container) equal(o *Container) bool {
	return c.NodeID == o.NodeID && c.Door == o.Door && c.Kind == o.Kind && c.Node == o.Node && c.VMID == o.VMID && c.Name == o.Name &&
		c.Status == o.Status && c.CPU == o.CPU && c.MaxCPU == o.MaxCPU && c.Mem == o.Mem && c.MaxMem == o.MaxMem &&
		c.Disk == o.Disk && c.MaxDisk == o.MaxDisk && c.NetIn == o.NetIn && c.NetOut == o.NetOut && c.Uptime == o.Uptime &&
		c.MoreTags == o.MoreTags && c.Lock == o.Lock && c.Template == o.Template &&
		slices.Equal(c.Tags, o.Tags) && slices.Equal(c.Addresses, o.Addresses) &&
		(c.Task == o.Task || c.Task != nil && o.Task != nil && *c.Task == *o.Task)
}

// Query chooses and orders containers.
type Query struct {
	Q      string `json:"q,omitempty" doc:"words that must all occur in name, tags, addresses as far as they are known, member or node, or begin the VMID"`
	Node   string `json:"node,omitempty" doc:"id of a node"`
	Status string `json:"status,omitempty" doc:"running or stopped" enum:"running,stopped,other"`
	Tag    string `json:"tag,omitempty" doc:"a whole tag"`
	Kind   string `json:"kind,omitempty" doc:"lxc for containers, qemu for virtual machines, or all" enum:"lxc,qemu,all" default:"lxc"`
	Sort   string `json:"sort,omitempty" doc:"name, vmid, status, node, cpu, mem, disk, netin, netout or uptime; a leading - sorts downwards" default:"vmid"`
	// Limit is text, as it comes from an address; "" for MaxLimit.
	Limit  string `json:"limit,omitempty" doc:"how many at most: 1 to 1000, 1000 if absent" example:"100"`
	Cursor string `json:"cursor,omitempty" doc:"the next of the page before, with the same sort"`

	// Offset skips so many, and All takes all the rest: for Berth's own pages, which know how long the list is.
	Offset int  `json:"-"`
	All    bool `json:"-"`
}

const (
	maxQuery = 200
	// MaxLimit is how many containers one answer has at most.
	MaxLimit = 1000
	// maxCursor bounds the text of a cursor: two names of 253 bytes in base64, and figures.
	maxCursor = 2 << 10
)

// Validate reports every field that can't be right.
func (q Query) Validate() error {
	fields := map[string]string{}
	if len(q.Q) > maxQuery {
		fields["q"] = "Search text is too long: at most " + strconv.Itoa(maxQuery) + " bytes"
	}
	if len(q.Node) > maxQuery {
		fields["node"] = "Node must be the id of a node"
	}
	if len(q.Tag) > maxQuery {
		fields["tag"] = "Tag is too long: at most " + strconv.Itoa(maxQuery) + " bytes"
	}
	switch q.Status {
	case "", "running", "stopped", "other":
	default:
		fields["status"] = "Status must be one of running, stopped, other"
	}
	switch q.Kind {
	case "", LXC, QEMU, "all":
	default:
		fields["kind"] = "Kind must be one of lxc, qemu, all"
	}
	if _, ok := columns[strings.TrimPrefix(q.Sort, "-")]; !ok && q.Sort != "" {
		fields["sort"] = "Sort must be one of name, vmid, status, node, cpu, mem, disk, netin, netout, uptime, with a leading - to sort downwards"
	}
	if n, err := strconv.Atoi(q.Limit); q.Limit != "" && (err != nil || n < 1 || n > MaxLimit) {
		fields["limit"] = "Limit must be a whole number from 1 to " + strconv.Itoa(MaxLimit)
	}
	if _, err := q.after(); err != nil {
		fields["cursor"] = "Cursor must be the next of a page with the same sort"
	}
	return fault.InvalidInput(fields)
}

// limit is how many containers a valid query asks for.
func (q Query) limit() int {
	if n, err := strconv.Atoi(q.Limit); err == nil {
		return n
	}
	return MaxLimit
}

// Counts are containers by status.
type Counts struct {
	Total   int `json:"total"`
	Running int `json:"running"`
	Stopped int `json:"stopped"`
	Other   int `json:"other" doc:"neither running nor stopped"`
}

// Source is one of the caller's nodes, as the last reading found it.
type Source struct {
	NodeID string `json:"nodeId"`
	Name   string `json:"name"`
	Host   string `json:"host"`
	Port   int    `json:"port"`
	// ReadAt is when its containers were read last; zero if they never could be.
	ReadAt time.Time `json:"readAt,omitzero"`
	// Problem says why the node could not be read; its containers are those last known then, unless Through reads them.
	Group   string `json:"-"` // shared by the nodes that lead to one installation
	Problem string `json:"problem,omitempty" doc:"why it can't be read, so that its containers are those last known; absent when they are current" example:"it doesn't answer"`
	// Through names another door to the same cluster that its containers are read through while it has a problem.
	Through string `json:"through,omitempty" doc:"name of another node of the same cluster that its containers are read through while it has a problem, so that they are current all the same"`
	// Listed is the node whose id its containers have: of several doors to one cluster it is the same for all.
	Listed string `json:"listedAs" doc:"id of the node that its containers are listed with: its own, or that of another node of the same cluster" example:"gv4bxk3qz7rma2hd"`
	Code   string `json:"code,omitempty" doc:"the problem for programs: pending, host_unreachable, not_proxmox, certificate_changed, forbidden_by_proxmox, answer_too_large, host_refused, token_refused, sign_in_needed" example:"host_unreachable"`
	WayOut string `json:"wayOut,omitempty" doc:"what to do about the problem"`
}

// List is the answer to a Query.
type List struct {
	// Items are shared with the last reading, so they are never changed.
	Items []*Container `json:"items"`
	// Matched is how many the query matches, on this page and on others.
	Matched int    `json:"matched" doc:"how many containers match, on all pages"`
	Next    string `json:"next,omitempty" doc:"give it as cursor to list what follows; absent on the last page"`
	// Counts are of all that the caller sees, whatever was searched for.
	Counts Counts `json:"counts" doc:"of all the caller's containers, or of what kind asks for"`
	// Tags are those that the caller's containers have, the most frequent ones first; a hundred at most.
	Tags  []string `json:"-"`
	Nodes []Source `json:"nodes"`
	// Version changes whenever anything does that the caller can see.
	Version string `json:"version" doc:"changes whenever anything changes that is shown of any container; GET /api/events tells"`
}

// EncodeJSON writes what json.Marshal would return, container by container: thousands of them are the one answer that is
// too large to be put together in memory for each who asks.
func (l List) EncodeJSON(w io.Writer) error {
	out := bufio.NewWriterSize(w, 32<<10)
	items := l.Items
	l.Items = []*Container{}
	rest, err := json.Marshal(l)
	if err != nil {
		return err
	}
	const head = `{"items":[`
	if !bytes.HasPrefix(rest, []byte(head)) {
		return errors.New("the list does not begin with its items")
	}
	if _, err := out.WriteString(head); err != nil {
		return err
	}
	for i, c := range items {
		item, err := json.Marshal(c)
		if err != nil {
			return err
		}
		if i > 0 {
			_ = out.WriteByte(',') // its error comes again from what follows
		}
		if _, err := out.Write(item); err != nil {
			return err
		}
	}
	if _, err := out.Write(rest[len(head):]); err != nil {
		return err
	}
	return out.Flush()
}

func count(all []*Container, kind string) Counts {
	var c Counts
	for _, one := range all {
		if !one.isKind(kind) {
			continue
		}
		c.Total++
		switch one.statusGroup() {
		case "running":
			c.Running++
		case "stopped":
			c.Stopped++
		default:
			c.Other++
		}
	}
	return c
}

func (c *Container) statusGroup() string {
	if c.Status == "running" || c.Status == "stopped" {
		return c.Status
	}
	return "other"
}

// isKind tells whether a query for a kind is for this one too.
func (c *Container) isKind(kind string) bool {
	return kind == "all" || c.Kind == kind || kind == "" && c.Kind == LXC
}

// filter is a Query ready to be compared with containers.
type filter struct {
	Query
	words []string
	hosts map[string]string // what a node is called and where it is, for searching
}

func (f filter) matches(c *Container) bool {
	switch {
	case !c.isKind(f.Kind), f.Status != "" && c.statusGroup() != f.Status, f.Node != "" && c.NodeID != f.Node,
		f.Tag != "" && !slices.Contains(c.Tags, f.Tag):
		return false
	}
	for _, w := range f.words {
		if !c.matches(w) && !strings.Contains(f.hosts[c.NodeID], w) {
			return false
		}
	}
	return true
}

// matches tells whether a word in small letters occurs in what is shown of the container itself.
func (c *Container) matches(word string) bool {
	contains := func(text string) bool { return strings.Contains(strings.ToLower(text), word) }
	return strings.Contains(c.fold(), word) || strings.HasPrefix(strconv.Itoa(c.VMID), word) || contains(c.Node) ||
		slices.ContainsFunc(c.Tags, contains) || slices.ContainsFunc(c.Addresses, contains)
}
