package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"berth/internal/client"
)

type lsCommand struct {
	remote `embed:""`
	Search string `short:"q" placeholder:"WORDS" help:"Only those with all these words in name, VMID, tags, addresses, member or node."`
	Node   string `placeholder:"NODE" help:"Only those of this node, by its name in Berth, its id or its cluster member."`
	Status string `placeholder:"running|stopped|other" help:"Only those in this status."`
	Tag    string `placeholder:"TAG" help:"Only those with this tag."`
	JSON   bool   `name:"json" help:"Print JSON."`
}

// Help is the detail of berth ls --help.
func (lsCommand) Help() string {
	return "A node that can't be read is told on standard error, and its containers are those last known.\n\n" + statusHelp
}

// Run lists containers.
func (c *lsCommand) Run(ctx context.Context, stdout io.Writer) error {
	if !slices.Contains([]string{"", "running", "stopped", "other"}, c.Status) {
		return usageError{fmt.Errorf("--status: %q is none of running, stopped, other", client.Printable(c.Status))}
	}
	berth, err := c.open()
	if err != nil {
		return err
	}
	query := client.Query{Text: c.Search, Status: c.Status, Tag: c.Tag}
	fleet, err := berth.Containers(ctx, query)
	if err != nil {
		return err
	}
	names := nodeNames(fleet.Nodes)
	if c.Node != "" {
		// What else was asked for may have left out the containers that a member is known by.
		if c.Search == "" && c.Status == "" && c.Tag == "" {
			if err := knowsNode(fleet, c.Node); err != nil {
				return err
			}
		}
		fleet.Items = slices.DeleteFunc(fleet.Items, func(one client.Container) bool { return !isAt(one, c.Node, fleet.Nodes) })
	}
	tellProblems(os.Stderr, fleet)
	if c.JSON {
		return printJSON(stdout, struct {
			Items []client.Container `json:"items"`
			Nodes []client.Node      `json:"nodes"`
		}{fleet.Items, fleet.Nodes})
	}
	if len(fleet.Items) == 0 {
		_, err := fmt.Fprintln(os.Stderr, "No container.")
		return err
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "VMID\tNAME\tSTATUS\tNODE\tMEMBER\tCPU\tMEMORY\tUPTIME\tADDRESSES\tTAGS")
	for _, one := range fleet.Items {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			one.VMID, word(one.Name), word(condition(one)), word(names[one.NodeID]), word(one.Node), cpu(one), size(one.Mem, one.Status),
			uptime(one.Uptime), words(one.Addresses), words(one.Tags))
	}
	return table.Flush()
}

// knowsNode refuses a name that is neither a node's nor a member's that has containers, and says which nodes there are.
func knowsNode(fleet client.Fleet, node string) error {
	known := make([]string, 0, len(fleet.Nodes))
	for _, n := range fleet.Nodes {
		if n.NodeID == node || strings.EqualFold(n.Name, node) {
			return nil
		}
		known = append(known, client.Printable(n.Name))
	}
	if slices.ContainsFunc(fleet.Items, func(one client.Container) bool { return isAt(one, node, fleet.Nodes) }) {
		return nil
	}
	return usageError{fmt.Errorf("--node: there is no node %q; there are: %s", client.Printable(node), strings.Join(known, ", "))}
}

// tellProblems says which nodes could not be read.
func tellProblems(w io.Writer, fleet client.Fleet) {
	for _, n := range fleet.Nodes {
		if n.Problem != "" {
			fmt.Fprintf(w, "berth: %s: %s\n", client.Printable(n.Name), client.Printable(n.Problem))
		}
	}
}

// nodeNames are the names of nodes by their ids.
func nodeNames(nodes []client.Node) map[string]string {
	names := map[string]string{}
	for _, n := range nodes {
		names[n.NodeID] = n.Name
	}
	return names
}

// isAt tells whether a container is at a node that somebody named: any that leads to it, or its cluster member.
func isAt(one client.Container, node string, nodes []client.Node) bool {
	return one.Node == node || slices.ContainsFunc(nodes, func(n client.Node) bool {
		return (n.NodeID == node || strings.EqualFold(n.Name, node)) && n.Leads(one)
	})
}

// condition is the status with what keeps the container from being changed.
func condition(one client.Container) string {
	switch {
	case one.Template:
		return "template"
	case one.Lock != "":
		return one.Status + " (" + one.Lock + ")"
	}
	return one.Status
}

// word is a text for a cell of a table, - if there is none.
func word(s string) string {
	if s = client.Printable(s); s == "" {
		return "-"
	}
	return s
}

func words(all []string) string { return word(strings.Join(all, ",")) }

func cpu(one client.Container) string {
	if one.Status != "running" {
		return "-"
	}
	return strconv.FormatFloat(one.CPU*100, 'f', 0, 64) + "%"
}

// size is a number of bytes for people.
func size(bytes int64, status string) string {
	if status != "running" {
		return "-"
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	value, unit := float64(bytes), 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	digits := 0
	if value < 10 && unit > 0 {
		digits = 1
	}
	return strconv.FormatFloat(value, 'f', digits, 64) + units[unit]
}

// uptime is a number of seconds for people, by its two largest units.
func uptime(seconds int64) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case seconds <= 0:
		return "-"
	case d < time.Minute:
		return strconv.FormatInt(seconds, 10) + "s"
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}
