package view

import (
	"net/url"
	"strings"
)

// Column is one column of the list of containers that can be sorted by.
type Column struct {
	Name  string // its value in the URL and in Dashboard.Sort; Proxmox VE's name where it has one
	Label string
	Down  bool // the first click sorts downwards: the largest figure is what one looks for
}

// Columns are the columns of the list in the order in which they are shown. Dashboard.Sort is one of their names, with
// a leading "-" for downwards, or empty.
var Columns = []Column{
	{Name: "name", Label: "Name"},
	{Name: "vmid", Label: "VMID"},
	{Name: "status", Label: "Status"},
	{Name: "node", Label: "Node"},
	{Name: "cpu", Label: "CPU", Down: true},
	{Name: "mem", Label: "Memory", Down: true},
	{Name: "disk", Label: "Disk", Down: true},
	{Name: "uptime", Label: "Uptime", Down: true},
}

// listPath is the list with a search, a filter and an order; what is empty is left out, so that one state has one URL.
func (d Dashboard) listPath(query, status, sort string) string {
	values := url.Values{}
	for name, value := range map[string]string{"q": query, "status": status, "sort": sort} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if len(values) == 0 {
		return d.Link("/")
	}
	return d.Link("/") + "?" + values.Encode()
}

// sortPath is the list after a click on the head of a column: sorted by it, or the other way round if it already is.
func (d Dashboard) sortPath(c Column) string {
	next := c.Name
	if (d.sorted(c) == "" && c.Down) || d.sorted(c) == "ascending" {
		next = "-" + c.Name
	}
	return d.listPath(d.Query, d.Status, next)
}

// sorted is the aria-sort of a column; empty when the list is in another order.
func (d Dashboard) sorted(c Column) string {
	switch name, down := strings.CutPrefix(d.Sort, "-"); {
	case name != c.Name:
		return ""
	case down:
		return "descending"
	default:
		return "ascending"
	}
}

// filtered says whether a search or a filter is on.
func (d Dashboard) filtered() bool { return d.Query != "" || d.Status != "" }

// groups breaks a fingerprint ("AB:CD:...") into groups of four bytes, which the eye can hold while it compares.
func groups(fingerprint string) []string {
	const width = 4
	var out []string
	octets := strings.Split(fingerprint, ":")
	for len(octets) > width {
		out = append(out, strings.Join(octets[:width], ":"))
		octets = octets[width:]
	}
	return append(out, strings.Join(octets, ":"))
}
