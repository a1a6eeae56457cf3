package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"berth/internal/client"
	"berth/internal/fault"
)

// power are the flags of the commands that change containers.
type power struct {
	remote     `embed:""`
	Containers []string      `arg:"" name:"container" help:"Names, VMIDs or NODE/VMID."`
	Wait       bool          `negatable:"" default:"true" help:"Wait for the end of the task, and tell how it ended."`
	Timeout    time.Duration `placeholder:"DURATION" help:"How long to wait, for example 90s. A shutdown or reboot gives up after it too, after 60s if it is not given."`
	JSON       bool          `name:"json" help:"Print JSON."`
}

type (
	startCommand struct {
		power `embed:""`
	}
	stopCommand struct {
		power `embed:""`
	}
	shutdownCommand struct {
		power `embed:""`
	}
	rebootCommand struct {
		power `embed:""`
	}
)

// Help is the detail of the --help of each.
func (power) Help() string {
	return "All containers are looked up before anything is done. With several the exit status is the highest of them.\n\n" + statusHelp
}

// Run starts containers.
func (c *startCommand) Run(ctx context.Context, stdout io.Writer) error {
	return c.change(ctx, stdout, "start", false)
}

// Run stops containers at once.
func (c *stopCommand) Run(ctx context.Context, stdout io.Writer) error {
	return c.change(ctx, stdout, "stop", false)
}

// Run shuts containers down.
func (c *shutdownCommand) Run(ctx context.Context, stdout io.Writer) error {
	return c.change(ctx, stdout, "shutdown", true)
}

// Run reboots containers.
func (c *rebootCommand) Run(ctx context.Context, stdout io.Writer) error {
	return c.change(ctx, stdout, "reboot", true)
}

const (
	// atOnce is how many containers are changed at a time.
	atOnce = 8
	// lookAgain is how often a task is asked for its end.
	lookAgain = 500 * time.Millisecond
	// grace is how much longer than the container's own time is waited for the end of its task.
	grace = 30 * time.Second
	// maxTimeout is the longest that Berth lets a container take.
	maxTimeout = time.Hour
)

// changed is what became of one container. Its JSON is what --json prints.
type changed struct {
	NodeID string `json:"nodeId"`
	Node   string `json:"node"`
	VMID   int    `json:"vmid"`
	Name   string `json:"name"`
	Action string `json:"action"`
	State  string `json:"state"` // done, failed, refused, running, unknown ...
	UPID   string `json:"upid,omitempty"`
	Error  string `json:"error,omitempty"`
}

func (p power) change(ctx context.Context, stdout io.Writer, action string, patient bool) error {
	if p.Timeout < 0 || p.Timeout > maxTimeout || p.Timeout != 0 && p.Timeout < time.Second {
		return usageError{fmt.Errorf("--timeout: %s is out of range: from 1s to %s", p.Timeout, maxTimeout)}
	}
	berth, err := p.open()
	if err != nil {
		return err
	}
	fleet, err := berth.Containers(ctx, client.Query{})
	if err != nil {
		return err
	}
	var chosen []client.Container
	seen := map[string]bool{}
	for _, ref := range p.Containers {
		one, err := choose(fleet, ref)
		if err != nil {
			tellProblems(os.Stderr, fleet)
			return err
		}
		if key := fmt.Sprint(one.NodeID, "/", one.VMID); !seen[key] {
			seen[key] = true
			chosen = append(chosen, one)
		}
	}
	results := make([]changed, len(chosen))
	problems := make([]error, len(chosen))
	var wait sync.WaitGroup
	var output sync.Mutex
	turns := make(chan struct{}, atOnce)
	for i, one := range chosen {
		wait.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			results[i], problems[i] = p.changeOne(ctx, berth, one, action, patient)
			output.Lock()
			defer output.Unlock()
			tellChanged(stdout, p.JSON, one, results[i], problems[i])
		})
	}
	wait.Wait()
	if p.JSON {
		if err := printJSON(stdout, results); err != nil {
			return err
		}
	}
	return told(problems)
}

// told are the errors among those of several containers, nil if there are none.
func told(problems []error) error {
	var failed manyErrors
	for _, err := range problems {
		if err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return failed
}

func tellChanged(stdout io.Writer, asJSON bool, one client.Container, r changed, err error) {
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "berth: %s of %s: %s\n", r.Action, called(one), describe(err))
	case asJSON:
	default:
		fmt.Fprintf(stdout, "%s of %s: %s\n", r.Action, called(one), r.State)
	}
}

// changeOne changes a container, and waits for the end if that is wanted.
func (p power) changeOne(ctx context.Context, berth *client.Client, one client.Container, action string, patient bool) (changed, error) {
	result := changed{NodeID: one.NodeID, Node: one.Node, VMID: one.VMID, Name: one.Name, Action: action}
	seconds := 0
	if patient {
		seconds = int(p.Timeout / time.Second)
	}
	op, err := berth.Change(ctx, one, action, seconds)
	if err != nil {
		result.State, result.Error = "refused", describe(err)
		if statusOf(err) != statusRefused {
			result.State = "unknown" // it may have come there
		}
		return result, err
	}
	if p.Wait {
		limit := p.Timeout
		if patient && limit > 0 {
			limit += grace
		}
		op, err = follow(ctx, berth, op, limit)
	}
	result.State, result.UPID, result.Error = op.State, op.UPID, client.Printable(op.Error)
	if err != nil {
		result.Error = describe(err)
		return result, err
	}
	if op.Ended() && op.State != "done" {
		return result, fmt.Errorf("%s", cmp.Or(client.Printable(op.Error), op.State))
	}
	return result, nil
}

// follow asks for the end of a change until it comes, or for so long; 0 is for ever. One answer that does not come is no end.
func follow(ctx context.Context, berth *client.Client, op client.Operation, limit time.Duration) (client.Operation, error) {
	waiting := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	ticks := time.NewTicker(lookAgain)
	defer ticks.Stop()
	missed := 0
	for !op.Ended() {
		select {
		case <-ticks.C:
		case <-waiting.Done():
			return op, stillRunning(ctx, op)
		}
		now, err := berth.Operation(waiting, op.ID)
		switch {
		case err == nil:
			op, missed = now, 0
		case waiting.Err() != nil:
			return op, stillRunning(ctx, op)
		default:
			if missed++; missed > maxMissed || fault.KindOf(err) == fault.Unauthenticated || fault.KindOf(err) == fault.NotFound {
				return op, fmt.Errorf("it can't be told how it ended: %w", err)
			}
		}
	}
	return op, nil
}

// maxMissed is how many times in a row the end may be asked for in vain.
const maxMissed = 10

func stillRunning(ctx context.Context, op client.Operation) error {
	if ctx.Err() != nil {
		return errors.New("not waited for any longer; the task goes on: " + client.Printable(op.UPID))
	}
	return errors.New("it has not ended in time; the task goes on: " + client.Printable(op.UPID))
}
