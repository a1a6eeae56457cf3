package task

import (
	"slices"

	"berth/internal/audit"
	"berth/internal/pve"
)

// Action is what can be done to a container.
type Action string

// The actions. Suspend and Resume need working checkpoints, which most hosts don't have: experimental in Proxmox VE itself.
const (
	Start    Action = "start"
	Shutdown Action = "shutdown"
	Stop     Action = "stop"
	Reboot   Action = "reboot"
	Suspend  Action = "suspend"
	Resume   Action = "resume"
	Tag      Action = "tag"
	Delete   Action = "delete"
)

// Actions lists all actions, in the order in which they are offered to people.
var Actions = []Action{Start, Shutdown, Reboot, Stop, Suspend, Resume, Tag, Delete}

// traits are what is known of an action.
type traits struct {
	// doing is what a container in it is called: "a shutdown is under way".
	doing string
	// privilege must be held on the container's path.
	privilege string
	// status is how the container has to be for it; empty for any.
	status string
	// types are those of the tasks that Proxmox VE makes of it; the second is that of a container under high availability.
	types []string
	audit audit.Action
}

const (
	powerPrivilege  = "VM.PowerMgmt"
	deletePrivilege = "VM.Allocate"
	tagPrivilege    = "VM.Config.Options"
)

// What a container is, as Proxmox VE says it.
const (
	running = "running"
	stopped = "stopped"
)

var known = map[Action]traits{
	Start:    {"a start", powerPrivilege, stopped, []string{"vzstart", "hastart"}, audit.ContainerStart},
	Shutdown: {"a shutdown", powerPrivilege, running, []string{"vzshutdown", "hastop"}, audit.ContainerShutdown},
	Stop:     {"a stop", powerPrivilege, running, []string{"vzstop", "hastop"}, audit.ContainerStop},
	Reboot:   {"a reboot", powerPrivilege, running, []string{"vzreboot"}, audit.ContainerReboot},
	Suspend:  {"a suspend", powerPrivilege, running, []string{"vzsuspend"}, audit.ContainerSuspend},
	Resume:   {"a resume", powerPrivilege, stopped, []string{"vzresume"}, audit.ContainerResume},
	// Tags are a part of the configuration, which Proxmox VE changes at once and without a task.
	Tag:    {"a change of tags", tagPrivilege, "", nil, audit.ContainerTag},
	Delete: {"a deletion", deletePrivilege, stopped, []string{"vzdestroy"}, audit.ContainerDelete},
}

// Experimental tells of an action that Proxmox VE itself calls experimental for containers.
func (a Action) Experimental() bool { return a == Suspend || a == Resume }

// waits tells whether the action takes a timeout.
func (a Action) waits() bool { return a == Shutdown || a == Reboot }

// becomes tells whether a task can be what Proxmox VE made of the action.
func (a Action) becomes(u pve.UPID) bool { return slices.Contains(known[a].types, u.Type) }

// blocks tells whether a running task keeps its container from being changed: all but an open console.
func blocks(t pve.Task) bool {
	return t.Running && !slices.Contains([]string{"vncproxy", "vncshell", "termproxy", "spiceproxy"}, t.UPID.Type)
}
