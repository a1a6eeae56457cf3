package task

import (
	"context"
	"errors"
	"time"

	"berth/internal/audit"
	"berth/internal/container"
	"berth/internal/pve"
	"berth/internal/session"
)

// State is how an operation stands.
type State string

// The states. The first three are those of an operation that has not ended.
const (
	// Waiting for its turn, in a bulk run.
	Waiting State = "waiting"
	// Sending: Proxmox VE is being asked, or was and its answer was lost.
	Sending State = "sending"
	// Running: Proxmox VE carries it out.
	Running State = "running"

	Done     State = "done"
	Failed   State = "failed"
	Canceled State = "canceled"
	// Unknown: it can't be found out any more what became of it.
	Unknown State = "unknown"
)

// Ended tells whether nothing more will happen.
func (s State) Ended() bool { return s != Waiting && s != Sending && s != Running }

// Operation is one change of one container that a caller asked for.
type Operation struct {
	ID     string   `json:"id"`
	NodeID string   `json:"nodeId" doc:"id of the node that it was asked for through"`
	Node   string   `json:"node" doc:"cluster member that holds the container" example:"pve1"`
	VMID   int      `json:"vmid" example:"101"`
	Name   string   `json:"name" doc:"of the container, when it was asked for"`
	Action Action   `json:"action" example:"start"`
	State  State    `json:"state" doc:"waiting, sending, running, done, failed, canceled or unknown" example:"running"`
	UPID   pve.UPID `json:"upid" doc:"of the task by which Proxmox VE carries it out; empty before there is one"`
	Error  string   `json:"error,omitempty" doc:"why it failed, was canceled or is unknown: for a failed task the last error line of its log"`
	// BulkID names the run that it is a part of.
	BulkID  string    `json:"bulkId,omitempty"`
	Created time.Time `json:"createdAt"`
	End     time.Time `json:"endedAt,omitzero"`

	Owner   session.Identity `json:"-"`
	Cluster string           `json:"-"` // what the lock holds for, with the VMID
	// After is the container's newest task before this one was sent: what this one became is newer.
	After pve.UPID `json:"-"`
	// Seen tells that its owner knows of the end.
	Seen bool `json:"-"`
}

// Ending is how an operation ended.
type Ending struct {
	State State // one that has ended
	Error string
	At    time.Time
	Seen  bool
	// UPID is of the task that it had become, in case that could not be stored by Accept. One that was stored stays.
	UPID pve.UPID
	// Entry is what the audit trail is to have of it; nil for nothing.
	Entry *audit.Entry
}

// ErrNone says that there is no such operation or run: never was, isn't the asking one's, or was forgotten; or that it is
// not in a state in which it can be begun.
var ErrNone = errors.New("no such operation")

// ErrTooMany says that an identity has as many operations or runs under way as it may have.
var ErrTooMany = errors.New("too many operations")

// BusyError says that another operation has the container's lock.
type BusyError struct{ Holder Operation }

func (e *BusyError) Error() string {
	return "the container is being changed by operation " + e.Holder.ID
}

// Store keeps operations and locks. Every method may be called at the same time from many places, in several processes;
// times come back to the millisecond, in UTC.
type Store interface {
	// Begin stores a new operation, or begins a waiting one, in state Sending, and takes the lock of its container until a
	// time, in one step. It returns a *BusyError if another operation holds the lock at now, ErrNone if the operation exists
	// and is not waiting, and ErrTooMany if the owner has so many in state Sending or Running already, those of runs left
	// out; one of a run is not counted.
	Begin(ctx context.Context, op Operation, now, until time.Time, most int) error
	// Hold extends an operation's lock, or takes it if nobody holds it at now, and tells whether the operation has it.
	Hold(ctx context.Context, op Operation, now, until time.Time) (bool, error)
	// NoteAfter stores Operation.After, before anything is sent.
	NoteAfter(ctx context.Context, id string, after pve.UPID) error
	// Accept notes the task that an operation in state Sending has become; it is Running from then on.
	Accept(ctx context.Context, id string, upid pve.UPID) error
	// Others tells of the other operations on an operation's container: which tasks they have become, and whether one is in
	// state Sending that was created later, or that holds the lock at now, so that the newest task may be that one's.
	Others(ctx context.Context, op Operation, now time.Time) (tasks []pve.UPID, contended bool, err error)
	// EndOperation ends an operation that has not ended, gives its lock back, and adds the entry to the audit trail, in one
	// step: whoever sees the end sees the entry. It tells whether it was this call that ended it; otherwise it adds nothing.
	EndOperation(ctx context.Context, id string, e Ending) (bool, error)
	// Operation returns an operation of an identity, or ErrNone.
	Operation(ctx context.Context, of session.Identity, id string) (Operation, error)
	// Abandoned lists an identity's operations in state Sending or Running whose lock's lease is over at now, oldest first.
	Abandoned(ctx context.Context, of session.Identity, now time.Time, most int) ([]Operation, error)
	// Unseen lists an identity's operations that failed or are unknown and that it has not seen, newest first.
	Unseen(ctx context.Context, of session.Identity, most int) ([]Operation, error)
	// MarkSeen notes that an identity has seen the end of an operation, of all operations of a run, or with "" of all there
	// are. It tells how many were marked.
	MarkSeen(ctx context.Context, of session.Identity, id string) (int64, error)

	// CreateRun stores a bulk run with its operations, all waiting or ended, in one step. It returns ErrTooMany if the owner
	// has so many runs already whose operations have not all ended.
	CreateRun(ctx context.Context, r Run, operations []Operation, most int) error
	// Run returns a run of an identity with its operations in their order, or ErrNone.
	Run(ctx context.Context, of session.Identity, id string) (Run, []Operation, error)
	// DriveRun notes that a run is being worked on until a time.
	DriveRun(ctx context.Context, id string, until time.Time) error
	// CancelWaiting ends the waiting operations of an identity's run as Canceled, and tells how many.
	CancelWaiting(ctx context.Context, of session.Identity, run, why string, at time.Time) (int64, error)
	// AbandonedRuns lists the ids of an identity's runs that have waiting operations and that nobody works on at now.
	AbandonedRuns(ctx context.Context, of session.Identity, now time.Time) ([]string, error)

	// Lost lists operations of all identities that began before a time, have not ended, and whose lock's lease is over at now.
	Lost(ctx context.Context, before, now time.Time, most int) ([]Operation, error)
	// Forget removes what ended before a time, of each identity all but the newest so many, and locks that are over at now.
	Forget(ctx context.Context, before, now time.Time, kept int) error
}

// Target names a container in the audit trail: by its node as well, since two hosts may have members of one name.
func Target(node, member string, vmid int, name string) string {
	return (&container.Container{Node: member, VMID: vmid, Name: name}).Target(node)
}
