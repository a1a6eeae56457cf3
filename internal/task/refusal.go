package task

import (
	"context"
	"errors"
	"strconv"
	"syscall"
	"time"

	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// mayHaveArrived tells of an error of a call that changes something whether Proxmox VE may have acted upon it.
func mayHaveArrived(err error) bool {
	var refused *pve.Error
	if !errors.As(err, &refused) {
		return false // it was never sent
	}
	switch refused.Kind {
	case pve.KindServer, pve.KindUnauthenticated, pve.KindForbidden, pve.KindInvalidParameters, pve.KindNotFound, pve.KindUnsupported,
		pve.KindChanged, pve.KindCertificate, pve.KindRefusedAddress:
		return false
	case pve.KindMemberUnreachable:
		return refused.Status != 595 // then the host had no connection to the member
	}
	return !errors.Is(err, syscall.ECONNREFUSED)
}

// refusal makes a fault of what Proxmox VE says to a change. What isn't about the change itself stays as it is.
func refusal(err error) error {
	var refused *pve.Error
	if fault.As(err) != nil || !errors.As(err, &refused) {
		return err
	}
	switch refused.Kind {
	case pve.KindServer, pve.KindInvalidParameters, pve.KindNotFound, pve.KindUnsupported:
		return &fault.Error{Kind: fault.Conflict, Code: "refused_by_proxmox", Message: "Proxmox VE refused this: " + refused.Message, Cause: err}
	case pve.KindChanged:
		return &fault.Error{Kind: fault.Conflict, Code: "container_changed", Message: "Somebody else has changed this container meanwhile. Look at it again.", Cause: err}
	case pve.KindForbidden:
		return &fault.Error{Kind: fault.Forbidden, Code: "forbidden_by_proxmox", Message: "Proxmox VE does not allow this: " + refused.Message, Cause: err}
	}
	return err
}

// words are what a person can know of a refusal.
func words(err error) string {
	if f := fault.As(err); f != nil {
		if confirm := f.Fields["confirm"]; confirm != "" {
			return confirm
		}
		return f.Message
	}
	switch {
	case pve.IsKind(err, pve.KindCertificate):
		return "The host's certificate has changed, so nothing was sent to it"
	case pve.IsKind(err, pve.KindUnauthenticated):
		return "The host refused the sign-in for a moment"
	case pve.IsKind(err, pve.KindNotProxmox):
		return "The host answers, but not as Proxmox VE does"
	}
	var refused *pve.Error
	if errors.As(err, &refused) {
		return "The host did not answer"
	}
	return "Something went wrong"
}

func busyFault(message string, details map[string]any) error {
	return &fault.Error{Kind: fault.Conflict, Code: "container_busy", Message: message, Details: details}
}

// busyTask refuses a change because of a task that Proxmox VE shows to the caller.
func busyTask(t pve.Task, now time.Time) error {
	return busyFault(t.UPID.User+" began a task on this container "+ago(now.Sub(t.UPID.Start))+": "+Label(t.UPID.Type)+". Wait until it has ended.",
		map[string]any{"upid": t.UPID.String()})
}

// busy refuses a change because another operation has the lock. Whose it is, is said to the same identity, and to whom
// Proxmox VE itself shows the task.
func (s *Service) busy(ctx context.Context, caller session.Caller, c change, holder Operation) error {
	if holder.Owner == caller.Identity {
		return busyFault("You asked for "+known[holder.Action].doing+" of this container "+ago(s.o.Now().Sub(holder.Created))+". Wait until it has ended.",
			map[string]any{"operation": holder.ID})
	}
	var shown error
	_ = s.o.Nodes.Call(ctx, caller, c.door, func(ctx context.Context, host *pve.Host, with pve.Credentials) error { // it is refused in any case
		tasks, _, err := host.Tasks(ctx, with, c.op.Node, pve.TaskFilter{VMID: c.op.VMID, Source: pve.RunningTasks, Limit: 10})
		for _, t := range tasks {
			if blocks(t) {
				shown = busyTask(t, s.o.Now())
			}
		}
		return err
	})
	if shown != nil {
		return shown
	}
	return busyFault("Somebody else is changing this container. Wait until it has ended.", nil)
}

func ago(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < 2*time.Second:
		return "just now"
	case d < 2*time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " seconds ago"
	default:
		return strconv.Itoa(int(d/time.Minute)) + " minutes ago"
	}
}
