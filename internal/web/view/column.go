package view

import "slices"

// Column is one column of the list of containers.
type Column struct {
	Name  string // its value in the URL, in Filter.Sort and in Layout.Columns; Proxmox VE's name where it has one
	Label string
	Down  bool // the first click sorts downwards: the largest figure is what one looks for
	// Loose columns can't be sorted by.
	Loose bool
	// Fixed columns are always shown.
	Fixed bool
	// Extra columns are shown to those who choose them.
	Extra bool
}

// Columns are the columns of the list in the order in which they are shown. Tags stand below the name, so that they take
// no room of their own.
var Columns = []Column{
	{Name: "name", Label: "Name", Fixed: true},
	{Name: "tags", Label: "Tags", Loose: true},
	{Name: "vmid", Label: "VMID"},
	{Name: "status", Label: "Status", Fixed: true},
	{Name: "node", Label: "Node"},
	{Name: "cpu", Label: "CPU", Down: true},
	{Name: "mem", Label: "Memory", Down: true},
	{Name: "disk", Label: "Disk", Down: true},
	{Name: "netin", Label: "Network", Down: true, Extra: true},
	{Name: "uptime", Label: "Uptime", Down: true},
	{Name: "addresses", Label: "IP addresses", Loose: true, Extra: true},
}

// Layout is how somebody wants to see the list. Its zero value is what everybody begins with.
type Layout struct {
	// Columns are the names of the chosen columns; nil for those that everybody begins with. Names that no column has
	// are of no account.
	Columns []string
	// Cards shows every container as a card; a narrow screen does so in any case.
	Cards bool
}

// Shows tells whether a column is among the chosen ones.
func (l Layout) Shows(c Column) bool {
	switch {
	case c.Fixed:
		return true
	case l.Columns == nil:
		return !c.Extra
	}
	return slices.Contains(l.Columns, c.Name)
}

// shown are the columns with a place of their own.
func (l Layout) shown() []Column {
	shown := make([]Column, 0, len(Columns))
	for _, c := range Columns {
		if c.Name != "tags" && l.Shows(c) {
			shown = append(shown, c)
		}
	}
	return shown
}

// shows is Shows by a column's name.
func (l Layout) shows(name string) bool {
	i := slices.IndexFunc(Columns, func(c Column) bool { return c.Name == name })
	return i >= 0 && l.Shows(Columns[i])
}
