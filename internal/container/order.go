package container

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
)

// columns compare two containers by what a list can be sorted by.
var columns = map[string]func(a, b *Container) int{
	"vmid":   func(a, b *Container) int { return cmp.Compare(a.VMID, b.VMID) },
	"name":   func(a, b *Container) int { return cmp.Compare(a.fold(), b.fold()) },
	"status": func(a, b *Container) int { return cmp.Compare(a.Status, b.Status) },
	"node":   func(a, b *Container) int { return cmp.Compare(a.Node, b.Node) },
	"cpu":    func(a, b *Container) int { return cmp.Compare(a.CPU, b.CPU) },
	"mem":    func(a, b *Container) int { return cmp.Compare(a.Mem, b.Mem) },
	"disk":   func(a, b *Container) int { return cmp.Compare(a.Disk, b.Disk) },
	"netin":  func(a, b *Container) int { return cmp.Compare(a.NetIn, b.NetIn) },
	"netout": func(a, b *Container) int { return cmp.Compare(a.NetOut, b.NetOut) },
	"uptime": func(a, b *Container) int { return cmp.Compare(a.Uptime, b.Uptime) },
}

// order compares containers by a column of a valid query; which is before which is always decided.
func order(sort string) func(a, b *Container) int {
	column, downwards := strings.CutPrefix(sort, "-")
	by := columns[column]
	if by == nil {
		by = columns["vmid"]
	}
	return func(a, b *Container) int {
		o := by(a, b)
		if downwards {
			o = -o
		}
		return cmp.Or(o, cmp.Compare(a.VMID, b.VMID), cmp.Compare(a.NodeID, b.NodeID))
	}
}

// cursor is where a page ended: at a container, of which it holds what lists are sorted by. The next page begins behind it
// even if it has gone meanwhile.
type cursor struct {
	Sort   string  `json:"o,omitempty"`
	NodeID string  `json:"i"`
	VMID   int     `json:"v"`
	Name   string  `json:"n,omitempty"`
	Status string  `json:"s,omitempty"`
	Node   string  `json:"m,omitempty"`
	Figure float64 `json:"f,omitempty"`
}

// figures are the columns that are numbers.
var figures = map[string]func(c *Container) *int64{
	"mem":    func(c *Container) *int64 { return &c.Mem },
	"disk":   func(c *Container) *int64 { return &c.Disk },
	"netin":  func(c *Container) *int64 { return &c.NetIn },
	"netout": func(c *Container) *int64 { return &c.NetOut },
	"uptime": func(c *Container) *int64 { return &c.Uptime },
}

// cursorAt is the cursor of a page that ends with a container.
func cursorAt(last *Container, sort string) string {
	at := cursor{Sort: sort, NodeID: last.NodeID, VMID: last.VMID}
	switch column := strings.TrimPrefix(sort, "-"); column {
	case "name":
		at.Name = last.Name
	case "status":
		at.Status = last.Status
	case "node":
		at.Node = last.Node
	case "cpu":
		at.Figure = last.CPU
	default:
		if figure := figures[column]; figure != nil {
			at.Figure = float64(*figure(last))
		}
	}
	text, err := json.Marshal(at)
	if err != nil {
		return "" // figures that no JSON has were never read
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

var errCursor = errors.New("not a cursor of this list")

// after is the container that the page before ended with, as far as it is sorted by; nil for a first page.
func (q Query) after() (*Container, error) {
	if q.Cursor == "" {
		return nil, nil
	}
	if len(q.Cursor) > maxCursor {
		return nil, errCursor
	}
	text, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err != nil {
		return nil, errCursor
	}
	var at cursor
	if json.Unmarshal(text, &at) != nil || at.Sort != q.Sort || math.Abs(at.Figure) >= math.MaxInt64 {
		return nil, errCursor
	}
	last := &Container{NodeID: at.NodeID, VMID: at.VMID, Name: at.Name, Status: at.Status, Node: at.Node, CPU: at.Figure}
	if figure := figures[strings.TrimPrefix(q.Sort, "-")]; figure != nil {
		*figure(last) = int64(at.Figure)
	}
	return last, nil
}

// choose returns the containers of a sorted list that a valid query asks for, how many match at all, and the cursor of what
// follows.
func choose(sorted []*Container, f filter) (page []*Container, matched int, next string) {
	after, _ := f.after() // which is valid
	by := order(f.Sort)
	limit := f.limit()
	page = []*Container{}
	for _, c := range sorted {
		if !f.matches(c) {
			continue
		}
		matched++
		switch {
		case after != nil && by(c, after) <= 0, matched <= f.Offset:
		case f.All || len(page) < limit:
			page = append(page, c)
		case next == "":
			next = cursorAt(page[len(page)-1], f.Sort)
		}
	}
	return page, matched, next
}

// sortedBy returns containers in the order of a valid query.
func sortedBy(all []*Container, sort string) []*Container {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, order(sort))
	return sorted
}
