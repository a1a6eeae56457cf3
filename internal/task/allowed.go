package task

import (
	"context"
	"errors"
	"path"
	"strconv"

	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// Allowed tells for each action on a container why the caller can't take it just now, in words; "" where they can. It tells
// what is known: while a host's permissions can't be read nothing is refused for them, and Proxmox VE decides.
func (s *Service) Allowed(ctx context.Context, caller session.Caller, c *container.Container) (map[Action]string, error) {
	rights, err := s.rights(ctx, caller, c)
	if err != nil {
		return nil, err
	}
	return allowed(c, rights), nil
}

// allowed is why permissions and a container's state allow each action, or not; nil permissions refuse nothing.
func allowed(c *container.Container, rights pve.Permissions) map[Action]string {
	why := make(map[Action]string, len(Actions))
	for _, action := range Actions {
		if err := judge(action, c, rights); err != nil {
			why[action] = words(err)
		} else {
			why[action] = ""
		}
	}
	return why
}

// rights are the caller's permissions where a container is; nil while they can't be read.
func (s *Service) rights(ctx context.Context, caller session.Caller, c *container.Container) (pve.Permissions, error) {
	rights, err := s.o.Nodes.Rights(ctx, caller, doorOf(c))
	var refused *pve.Error
	if errors.As(err, &refused) {
		return nil, nil
	}
	return rights, err
}

func judge(action Action, c *container.Container, rights pve.Permissions) error {
	if err := permits(rights, c.VMID, action); err != nil {
		return err
	}
	return fits(action, c.Status, c.Lock, c.Template)
}

// permits refuses an action that permissions, where they are known, don't allow.
func permits(rights pve.Permissions, vmid int, action Action) error {
	at, privilege := "/vms/"+strconv.Itoa(vmid), known[action].privilege
	if rights == nil || holds(rights, at, privilege) {
		return nil
	}
	return &fault.Error{
		Kind: fault.Forbidden, Code: "privilege_missing", Message: "Your account lacks the privilege " + privilege + " on " + at + ".",
		Details: map[string]any{"privilege": privilege, "path": at},
	}
}

// holds tells whether a privilege is held at a path. Where Proxmox VE lists the path it has worked that out; else what holds is
// what the nearest path above passes on.
func holds(rights pve.Permissions, at, privilege string) bool {
	if _, listed := rights[at]; listed {
		return rights.Has(at, privilege)
	}
	for at != "/" {
		at = path.Dir(at)
		if _, listed := rights[at]; listed {
			return rights[at][privilege] // true if it propagates
		}
	}
	return false
}

// fits refuses an action that does not fit how a container is.
func fits(action Action, status, lock string, template bool) error {
	why := ""
	switch {
	case lock != "":
		return &fault.Error{Kind: fault.Conflict, Code: "container_locked", Message: "Proxmox VE has locked this container: " + lock + "."}
	case action == Tag:
		return nil
	case template && action != Delete:
		return &fault.Error{Kind: fault.Conflict, Code: "container_template", Message: "This is a template, which can't be run."}
	case status != running && status != stopped:
		why = "Its state is not known just now."
	case status == known[action].status:
		return nil
	case status == stopped:
		why = "It is not running."
	case action == Delete:
		why = "It is running. Stop it first."
	default:
		why = "It is running already."
	}
	return &fault.Error{Kind: fault.Conflict, Code: "wrong_state", Message: why}
}
