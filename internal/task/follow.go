package task

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"berth/internal/audit"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

const (
	// pollEvery is how often a task is looked at, and pollLater how often one that has been running for longer than
	// pollSoon.
	pollEvery = time.Second
	pollSoon  = time.Minute
	pollLater = 5 * time.Second
	// maxFollow is how long a task is followed.
	maxFollow = 24 * time.Hour
	// searchBriefly is how often a lost task is looked for while somebody waits for it, and searchLong how often after that
	// as long as the host does not answer.
	searchBriefly = 8
	searchLong    = 300
	// refreshTime bounds the look at a container after its task.
	refreshTime = 5 * time.Second
	// logTail is how many lines of a failed task's log are read.
	logTail = 20
	maxLine = 400
)

// pursue sees an operation in state Sending or Running to its end, as long as the caller's session lives.
func (s *Service) pursue(ctx context.Context, caller session.Caller, op Operation) {
	door, err := s.doorTo(ctx, caller, &op)
	switch {
	case errors.Is(err, errElsewhere):
		s.conclude(ctx, op, Ending{State: Unknown, Error: elsewhere})
		return
	case err != nil:
		return // whoever attends to its owner comes back to it
	}
	if op.UPID.IsZero() {
		if op, err = s.search(ctx, caller, op, door, searchLong); err != nil || op.State != Running {
			return
		}
	}
	s.follow(ctx, caller, op, door)
}

// search looks for the task that a change became whose answer was lost. When the host says that there is none the operation is
// Unknown: it may still be on its way. As long as the host does not answer it stays in state Sending.
func (s *Service) search(ctx context.Context, caller session.Caller, op Operation, door string, tries int) (Operation, error) {
	looked := 0
	for range tries {
		if s.o.Pause(ctx, pollEvery) != nil || s.ctx.Err() != nil {
			return op, nil
		}
		upid, err := s.find(ctx, caller, &op, door)
		switch {
		case errors.Is(err, errElsewhere):
			op.State, op.Error, op.End = Unknown, elsewhere, s.o.Now()
			s.conclude(ctx, op, Ending{State: op.State, Error: op.Error})
			return op, nil
		case err == nil && !upid.IsZero():
			return s.accept(ctx, op, upid)
		case err == nil:
			looked++
		case sessionOver(err):
			return op, nil
		}
		if looked == searchBriefly-1 {
			break
		}
	}
	if looked == 0 && tries == searchBriefly {
		return op, nil
	}
	why := "The connection broke, and Proxmox VE shows no task for this. Most likely it was not begun. Look at the container before you try again"
	if looked == 0 {
		why = "The connection broke, and the host has not answered since. Look at the container before you try again"
	}
	op.State, op.Error, op.End = Unknown, why, s.o.Now()
	s.conclude(ctx, op, Ending{State: Unknown, Error: why})
	return op, nil
}

// errContended says that a task may be that of an operation which was sent later.
var errContended = errors.New("another change of the container is on its way")

// find looks for the task once. The zero UPID says that there is none. A task is one operation's: what others on the container
// have become is not looked at, and as long as one of them may become something nothing is believed.
func (s *Service) find(ctx context.Context, caller session.Caller, op *Operation, door string) (found pve.UPID, err error) {
	err = s.ask(ctx, caller, op, door, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
		tasks, _, err := host.Tasks(ctx, with, op.Node, pve.TaskFilter{VMID: op.VMID, Source: pve.AllTasks, Limit: 50})
		if err != nil {
			return err
		}
		// Asked for after the tasks: whose any of those is has been sent by now.
		others, contended, err := s.o.Store.Others(ctx, *op, s.o.Now())
		switch {
		case err != nil:
			return fault.StoreDown(err)
		case contended:
			return errContended
		}
		who := userOf(with)
		// The host's own clock told when the newest task before it began, so nothing depends on ours.
		for _, t := range tasks {
			u := t.UPID
			if op.Action.becomes(u) && u.User == who && u != op.After && !u.Start.Before(op.After.Start) && !slices.Contains(others, u) {
				found = u
			}
		}
		return nil
	})
	return found, err
}

// userOf is who Proxmox VE says began a task that was asked for with credentials.
func userOf(with pve.Credentials) string {
	switch c := with.(type) {
	case pve.Ticket:
		return c.UserID
	case pve.Token:
		return c.ID
	}
	return ""
}

// sessionOver tells that nothing can be asked any more with what the caller has.
func sessionOver(err error) bool {
	switch fault.KindOf(err) {
	case fault.Unauthenticated, fault.NotFound, fault.Forbidden:
		return true
	}
	return errors.Is(err, session.ErrNone)
}

// follow looks at a task until it ends. The lock is renewed by what the host says and by nothing else.
func (s *Service) follow(ctx context.Context, caller session.Caller, op Operation, door string) {
	begun := s.o.Now()
	var held time.Time
	for {
		wait, now := pollEvery, s.o.Now()
		if now.Sub(begun) > pollSoon {
			wait = pollLater
		}
		if s.o.Pause(ctx, wait) != nil {
			return
		}
		if now.Sub(begun) > maxFollow {
			s.conclude(ctx, op, Ending{State: Unknown, Error: "Its task was still running after a day, and is not followed any more"})
			return
		}
		var t pve.Task
		err := s.ask(ctx, caller, &op, door, func(ctx context.Context, host *pve.Host, with pve.Credentials) (err error) {
			t, err = host.TaskStatus(ctx, with, op.UPID)
			return err
		})
		switch {
		case pve.IsKind(err, pve.KindNotFound):
			s.finish(ctx, caller, op, Ending{State: Unknown, Error: "Proxmox VE does not know its task any more"})
			return
		case sessionOver(err):
			return
		case err != nil:
			// Another node of the same cluster may have taken over.
			switch other, otherErr := s.doorTo(ctx, caller, &op); {
			case otherErr == nil:
				door = other
			case errors.Is(err, errElsewhere) && errors.Is(otherErr, errElsewhere):
				s.conclude(ctx, op, Ending{State: Unknown, Error: elsewhere})
				return
			}
		case t.Running:
			if now = s.o.Now(); now.Sub(held) >= renewAfter {
				switch ok, err := s.o.Store.Hold(ctx, op, now, now.Add(lease)); {
				case err == nil && ok:
					held = now
				case err == nil && s.over(ctx, op):
					return
				}
			}
		default:
			s.finish(ctx, caller, op, s.outcome(ctx, caller, t, door))
			return
		}
	}
}

// over tells whether somebody else has ended an operation.
func (s *Service) over(ctx context.Context, op Operation) bool {
	stored, err := s.o.Store.Operation(ctx, op.Owner, op.ID)
	return errors.Is(err, ErrNone) || err == nil && stored.State.Ended()
}

// outcome is how the operation of a task ended that has ended.
func (s *Service) outcome(ctx context.Context, caller session.Caller, t pve.Task, door string) Ending {
	if t.OK() {
		return Ending{State: Done}
	}
	return Ending{State: Failed, Error: s.lastError(ctx, caller, t, door)}
}

// lastError is what a failed task says of itself: the last error line of its log.
func (s *Service) lastError(ctx context.Context, caller session.Caller, t pve.Task, door string) string {
	var lines []pve.LogLine
	err := s.o.Nodes.Call(ctx, caller, door, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
		_, total, err := host.TaskLog(ctx, with, t.UPID, 0, 1)
		if err != nil {
			return err
		}
		lines, _, err = host.TaskLog(ctx, with, t.UPID, max(0, total-logTail), logTail)
		return err
	})
	if err != nil {
		s.o.Log.WarnContext(ctx, "log of a failed task not read", "upid", t.UPID.String(), "cause", err)
	}
	if line := errorLine(lines); line != "" {
		return line
	}
	if t.ExitStatus != "" {
		return shortened(t.ExitStatus)
	}
	return "Its task failed and left no word about it"
}

// errorLine finds what went wrong in the end of a log: what follows TASK ERROR, else the last line that says anything.
func errorLine(lines []pve.LogLine) string {
	last := ""
	for _, line := range slices.Backward(lines) {
		text := strings.TrimSpace(line.Text)
		if why, ok := strings.CutPrefix(text, "TASK ERROR:"); ok && strings.TrimSpace(why) != "" {
			return shortened(strings.TrimSpace(why))
		}
		if last == "" && text != "TASK ERROR:" {
			last = text
		}
	}
	return shortened(last)
}

func shortened(line string) string {
	if len(line) <= maxLine {
		return line
	}
	return strings.ToValidUTF8(line[:maxLine], "") + "…"
}

// finish ends an operation whose task has ended: the container is read at once, so that whoever sees the end sees its result.
func (s *Service) finish(ctx context.Context, caller session.Caller, op Operation, e Ending) {
	reading, cancel := context.WithTimeout(ctx, refreshTime)
	s.o.Containers.Refresh(reading, caller, op.NodeID, op.VMID)
	cancel()
	s.conclude(ctx, op, e)
}

// end stores the end of an operation, which gives its lock back. What has ended already stays as it is.
func (s *Service) end(ctx context.Context, op Operation, e Ending) {
	e.At, e.UPID = s.o.Now().UTC(), op.UPID
	if _, err := s.o.Store.EndOperation(context.WithoutCancel(ctx), op.ID, e); err != nil {
		s.o.Log.ErrorContext(ctx, "end of an operation not stored", "operation", op.ID, "state", string(e.State), "cause", err)
	}
	s.noticesChanged(op.Owner)
}

// nodeName is what the owner of an operation calls its node; empty once it is gone.
func (s *Service) nodeName(ctx context.Context, op Operation) string {
	n, err := s.o.Nodes.Find(context.WithoutCancel(ctx), session.Caller{Identity: op.Owner}, op.NodeID)
	if err != nil {
		return "" // what was done is written down all the same
	}
	return n.Name
}

// conclude is end, with an entry in the audit trail.
func (s *Service) conclude(ctx context.Context, op Operation, e Ending) {
	entry := audit.Entry{
		Identity: op.Owner, Action: known[op.Action].audit, Target: Target(s.nodeName(ctx, op), op.Node, op.VMID, op.Name), Result: audit.OK, Detail: op.UPID.String(),
	}
	switch {
	case e.State == Failed && op.UPID.IsZero():
		entry.Result = audit.Refused
	case e.State == Failed:
		entry.Result = audit.Failed
	case e.State == Unknown:
		entry.Result = audit.Failed
		entry.Detail = strings.TrimSpace("how it ended is not known " + op.UPID.String())
	}
	entry = s.o.Audit.Entry(ctx, entry)
	e.Entry = &entry
	s.end(ctx, op, e)
}
