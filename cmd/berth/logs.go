package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"berth/internal/client"
	"berth/internal/fault"
)

type logsCommand struct {
	remote `embed:""`
	Of     string `arg:"" name:"container|upid" help:"A container (name, VMID or NODE/VMID), for its running or last task, or the UPID of a task."`
	Follow bool   `short:"f" help:"Go on until the task ends. The exit status is then 1 if it failed."`
}

// Help is the detail of berth logs --help.
func (logsCommand) Help() string { return statusHelp }

// Run prints the log of a task.
func (c *logsCommand) Run(ctx context.Context, stdout io.Writer) error {
	berth, err := c.open()
	if err != nil {
		return err
	}
	nodeID, upid, err := c.task(ctx, berth)
	if err != nil {
		return err
	}
	if _, err := berth.TaskLog(ctx, nodeID, upid, 0); err != nil {
		// Another door to the same cluster may be open: to an access token those are closed that go by a sign-in.
		if other, otherErr := somewhere(ctx, berth, upid); otherErr == nil {
			nodeID = other
		}
	}
	out := bufio.NewWriter(stdout)
	shown := 0
	for {
		log, err := berth.TaskLog(ctx, nodeID, upid, shown)
		if err != nil {
			return err
		}
		for _, line := range log.Lines {
			fmt.Fprintln(out, client.Printable(strings.ReplaceAll(line.Text, "\t", "    "))) // Flush tells if it failed
		}
		shown += len(log.Lines)
		if err := out.Flush(); err != nil {
			return err
		}
		switch {
		case len(log.Lines) > 0 && shown < log.Total:
			continue // there is more than one answer holds
		case c.Follow && log.Task.Running():
		case c.Follow && !log.Task.OK():
			return fmt.Errorf("the task failed: %s", word(log.Task.Exit))
		default:
			return nil
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// task finds the task whose log is wanted, and the node to read it through.
func (c *logsCommand) task(ctx context.Context, berth *client.Client) (nodeID, upid string, err error) {
	tasks, err := berth.Tasks(ctx)
	if err != nil {
		return "", "", err
	}
	if strings.HasPrefix(c.Of, "UPID:") {
		if i := slices.IndexFunc(tasks, func(t client.Task) bool { return t.UPID == c.Of }); i >= 0 {
			return tasks[i].NodeID, c.Of, nil
		}
		nodeID, err = somewhere(ctx, berth, c.Of)
		return nodeID, c.Of, err
	}
	fleet, err := berth.Containers(ctx, client.Query{})
	if err != nil {
		return "", "", err
	}
	one, err := choose(fleet, c.Of)
	if err != nil {
		return "", "", err
	}
	// A cluster's containers are listed through one of its doors, and its tasks may be through another one, which lists no
	// container.
	lists := func(nodeID string) bool {
		return slices.ContainsFunc(fleet.Items, func(c client.Container) bool { return c.NodeID == nodeID })
	}
	for _, t := range tasks {
		if t.VMID == one.VMID && (t.NodeID == one.NodeID || t.Node == one.Node && !lists(t.NodeID)) {
			fmt.Fprintf(os.Stderr, "berth: %s, %s: %s\n", word(t.Label), word(t.Status), client.Printable(t.UPID))
			return t.NodeID, t.UPID, nil
		}
	}
	return "", "", &fault.Error{Kind: fault.NotFound, Message: fmt.Sprintf("There is no recent task of %s.", called(one))}
}

// somewhere asks all nodes for a task that is not among the recent ones.
func somewhere(ctx context.Context, berth *client.Client, upid string) (nodeID string, err error) {
	fleet, err := berth.Containers(ctx, client.Query{Text: "no container has this, and the nodes are listed all the same"})
	if err != nil {
		return "", err
	}
	err = &fault.Error{Kind: fault.NotFound, Message: "None of your nodes knows this task."}
	for _, n := range fleet.Nodes {
		_, problem := berth.TaskLog(ctx, n.NodeID, upid, 0)
		if problem == nil {
			return n.NodeID, nil
		}
		if fault.KindOf(problem) != fault.NotFound {
			err = problem
		}
	}
	return "", err
}
