package container

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/internal/fault"
)

// Container is an LXC container as Proxmox VE lists it (cluster/resources). Sizes are bytes, Uptime is seconds, CPU is
// the used share of MaxCPU cores, from 0 to 1.
type Container struct {
	NodeID   string   `json:"nodeId" doc:"id of the node that the container was read through"`
	Node     string   `json:"node" doc:"cluster member that holds the container" example:"pve1"`
	VMID     int      `json:"vmid" example:"101"`
	Name     string   `json:"name"`
	Status   string   `json:"status" doc:"running or stopped; unknown while its cluster member is down" example:"running"`
	CPU      float64  `json:"cpu" doc:"used share of maxcpu cores, 0 to 1"`
	MaxCPU   float64  `json:"maxcpu" doc:"cores"`
	Mem      int64    `json:"mem" doc:"bytes"`
	MaxMem   int64    `json:"maxmem" doc:"bytes"`
	Disk     int64    `json:"disk" doc:"bytes"`
	MaxDisk  int64    `json:"maxdisk" doc:"bytes"`
	Uptime   int64    `json:"uptime" doc:"seconds"`
	Tags     []string `json:"tags" doc:"the first 16; one of more than 64 bytes is cut and ends with …"`
	MoreTags int      `json:"moreTags,omitempty" doc:"how many tags there are beside these"`
	Lock     string   `json:"lock,omitempty" doc:"why the container can't be changed just now: backup, migrate, ..."`
	Template bool     `json:"template"`
}

// Query chooses and orders containers.
type Query struct {
	Q      string `json:"q,omitempty" doc:"words that must all occur in name, VMID, tags, member or node"`
	Status string `json:"status,omitempty" doc:"running or stopped" enum:"running,stopped,other"`
	Sort   string `json:"sort,omitempty" doc:"name, vmid, status, node, cpu, mem, disk or uptime; a leading - sorts downwards" default:"vmid"`
}

const maxQuery = 200

// Validate reports every field that can't be right.
func (q Query) Validate() error {
	fields := map[string]string{}
	if len(q.Q) > maxQuery {
		fields["q"] = "Search text is too long: at most " + strconv.Itoa(maxQuery) + " bytes"
	}
	switch q.Status {
	case "", "running", "stopped", "other":
	default:
		fields["status"] = "Status must be one of running, stopped, other"
	}
	if _, ok := columns[strings.TrimPrefix(q.Sort, "-")]; !ok && q.Sort != "" {
		fields["sort"] = "Sort must be one of name, vmid, status, node, cpu, mem, disk, uptime, with a leading - to sort downwards"
	}
	return fault.InvalidInput(fields)
}

// columns compare two containers by what a list can be sorted by.
var columns = map[string]func(a, b *Container) int{
	"vmid":   func(a, b *Container) int { return cmp.Compare(a.VMID, b.VMID) },
	"name":   func(a, b *Container) int { return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) },
	"status": func(a, b *Container) int { return cmp.Compare(a.Status, b.Status) },
	"node":   func(a, b *Container) int { return cmp.Compare(a.Node, b.Node) },
	"cpu":    func(a, b *Container) int { return cmp.Compare(a.CPU, b.CPU) },
	"mem":    func(a, b *Container) int { return cmp.Compare(a.Mem, b.Mem) },
	"disk":   func(a, b *Container) int { return cmp.Compare(a.Disk, b.Disk) },
	"uptime": func(a, b *Container) int { return cmp.Compare(a.Uptime, b.Uptime) },
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
	// Problem says why the node's containers are those last known; empty when they are current.
	Problem string `json:"problem,omitempty"`
}

// List is the answer to a Query.
type List struct {
	// Items are shared with the last reading, so they are never changed.
	Items []*Container `json:"items"`
	// Counts are of all that the caller sees, whatever was searched for.
	Counts Counts   `json:"counts"`
	Nodes  []Source `json:"nodes"`
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

func count(all []*Container) Counts {
	c := Counts{Total: len(all)}
	for i := range all {
		switch all[i].statusGroup() {
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

// choose returns the containers that a valid query asks for, in its order.
func choose(all []*Container, q Query, hostOf func(nodeID string) string) []*Container {
	words := strings.Fields(strings.ToLower(q.Q))
	chosen := make([]*Container, 0, len(all))
	for _, c := range all {
		if q.Status != "" && c.statusGroup() != q.Status {
			continue
		}
		if !slices.ContainsFunc(words, func(w string) bool { return !c.matches(w, hostOf(c.NodeID)) }) {
			chosen = append(chosen, c)
		}
	}
	column, downwards := strings.CutPrefix(q.Sort, "-")
	by := columns[column]
	if by == nil {
		by = columns["vmid"]
	}
	slices.SortStableFunc(chosen, func(a, b *Container) int {
		order := by(a, b)
		if downwards {
			order = -order
		}
		return cmp.Or(order, cmp.Compare(a.VMID, b.VMID), cmp.Compare(a.NodeID, b.NodeID))
	})
	return chosen
}

func (c *Container) matches(word, host string) bool {
	if strings.Contains(strings.ToLower(c.Name), word) || strings.HasPrefix(strconv.Itoa(c.VMID), word) ||
		strings.Contains(strings.ToLower(c.Node), word) || strings.Contains(strings.ToLower(host), word) {
		return true
	}
	return slices.ContainsFunc(c.Tags, func(tag string) bool { return strings.Contains(strings.ToLower(tag), word) })
}
