package task

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

const (
	maxTimeout = time.Hour
	// sendingTime bounds one attempt of a change, the look before it and the search after a lost answer included: less than
	// the program gives an answer.
	sendingTime = 50 * time.Second
	// callLimit bounds the one call by which a change is sent. It is less than a lease.
	callLimit = 20 * time.Second
)

// Number is a whole number, which forms and queries send as text.
type Number int

// UnmarshalJSON takes a number or its decimal text; an empty text is 0.
func (s *Number) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if text == "" {
			*s = 0
			return nil
		}
		raw = []byte(text)
	}
	return json.Unmarshal(raw, (*int)(s))
}

// Choice is a yes or no, which forms send as text.
type Choice bool

// UnmarshalJSON takes true, false, or what a ticked box sends.
func (c *Choice) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		*c = text != "" && text != "false" && text != "0"
		return nil
	}
	return json.Unmarshal(raw, (*bool)(c))
}

// ChangeInput is what a change of one container needs.
type ChangeInput struct {
	NodeID string `json:"-" path:"nodeId" doc:"id of the node"`
	VMID   string `json:"-" path:"vmid" doc:"of the container"`
	Action string `json:"-" path:"action" doc:"start, shutdown, stop, reboot, suspend, resume, tag or delete"`
	ChangeOptions
}

// ChangeOptions refine a change.
type ChangeOptions struct {
	Timeout             Number `json:"timeout,omitempty" doc:"how many seconds a shutdown or reboot waits for the container, at most 3600; 60 if absent" example:"60"`
	Purge               Choice `json:"purge,omitempty" doc:"a deletion takes the container out of backup jobs, replication, high availability and firewall too"`
	DestroyUnreferenced Choice `json:"destroyUnreferenced,omitempty" doc:"a deletion removes disks too that have the container's VMID and are not in its configuration"`
	Tags                *Words `json:"tags,omitempty" doc:"tag: the container's tags from now on, a list or a text with one after the other"`
	AddTags             Words  `json:"addTags,omitempty" doc:"tag: tags that the container gets beside those it has"`
	RemoveTags          Words  `json:"removeTags,omitempty" doc:"tag: tags that the container loses"`
	Confirm             string `json:"confirm,omitempty" doc:"the container's name, which a deletion must give; its VMID if it has no name"`
}

// Validate reports every field that can't be right. An unknown action is no field: there is no such address.
func (in ChangeInput) Validate() error {
	return fault.InvalidInput(in.ChangeOptions.problems(Action(in.Action)))
}

func (o ChangeOptions) problems(action Action) map[string]string {
	fields := map[string]string{}
	switch most := int(maxTimeout / time.Second); {
	case o.Timeout < 0 || int(o.Timeout) > most:
		fields["timeout"] = fmt.Sprintf("The timeout must be from 0 to %d seconds", most)
	case o.Timeout != 0 && !action.waits():
		fields["timeout"] = "Only shutdown and reboot take a timeout"
	}
	if action != Delete {
		if o.Purge {
			fields["purge"] = "Only a deletion takes this option"
		}
		if o.DestroyUnreferenced {
			fields["destroyUnreferenced"] = "Only a deletion takes this option"
		}
	}
	o.tagProblems(action, fields)
	return fields
}

// change is one operation with what it needs beyond the store.
type change struct {
	op      Operation
	door    string // id of the node that it is asked for through
	options ChangeOptions
}

// Change is the authenticated action that changes a container. It returns when Proxmox VE has taken the change, as a task that
// is then followed, or has refused it. An operation in state Sending or Unknown says that its answer was lost: in the first
// case it is still being looked for.
func (s *Service) Change(ctx context.Context, caller session.Caller, in ChangeInput) (Operation, error) {
	s.Attend(ctx, caller)
	vmid, err := strconv.Atoi(in.VMID)
	action := Action(in.Action)
	if _, ok := known[action]; !ok || err != nil {
		return Operation{}, fault.NoSuch("action")
	}
	if err := in.Validate(); err != nil {
		return Operation{}, err
	}
	c, err := s.plan(ctx, caller, in.NodeID, vmid, action, in.ChangeOptions)
	if err != nil {
		return Operation{}, err
	}
	// From here on it goes to its end, whether or not anybody still waits for the answer.
	sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendingTime)
	defer cancel()
	if !s.claim(c.op.ID) {
		return Operation{}, fmt.Errorf("operation %s is followed already", c.op.ID)
	}
	op, err := s.send(sending, caller, c)
	if err != nil || op.State.Ended() {
		s.release(c.op.ID)
		return op, err
	}
	s.background(ctx, func(ctx context.Context) {
		defer s.release(op.ID)
		s.pursue(ctx, caller, op)
	})
	return op, nil
}

// plan makes an operation of what a caller asked for, or refuses what can't be right by what is known.
func (s *Service) plan(ctx context.Context, caller session.Caller, nodeID string, vmid int, action Action, o ChangeOptions) (change, error) {
	if action == Delete || action == Tag {
		// A token that may switch containers on and off may not take them away, nor change what they are.
		if err := caller.Require(session.ScopeAll); err != nil {
			return change{}, err
		}
	}
	found, err := s.o.Containers.Find(ctx, caller, nodeID, vmid)
	if err != nil {
		return change{}, err
	}
	if found.Kind != container.LXC {
		return change{}, &fault.Error{Kind: fault.Conflict, Code: "virtual_machine", Message: "This is a virtual machine. Berth shows those and changes only containers."}
	}
	door, err := s.o.Nodes.Find(ctx, caller, doorOf(found))
	if err != nil {
		return change{}, err
	}
	// How it is just now is looked at later: what is known of it here may be some seconds old.
	rights, err := s.rights(ctx, caller, found)
	if err != nil {
		return change{}, err
	}
	if err := permits(rights, vmid, action); err != nil {
		return change{}, err
	}
	if action == Delete {
		if err := confirmed(o.Confirm, found.Name, vmid); err != nil {
			return change{}, err
		}
	}
	return change{
		op: Operation{
			ID: newID(), NodeID: found.NodeID, Node: found.Node, VMID: vmid, Name: found.Name, Action: action, State: Sending,
			Created: s.o.Now().UTC().Truncate(time.Millisecond), Owner: caller.Identity, Cluster: door.Cluster,
		},
		door: door.ID, options: o,
	}, nil
}

// doorOf is the id of the node that a container is reached through just now.
func doorOf(c *container.Container) string { return cmp.Or(c.Door, c.NodeID) }

// confirmed refuses a deletion whose container was not named.
func confirmed(typed, name string, vmid int) error {
	want := name
	if want == "" {
		want = strconv.Itoa(vmid)
	}
	if typed == want {
		return nil
	}
	wrong := "Type " + want + " to confirm"
	switch {
	case typed != "" && name != "":
		wrong = "That is not its name"
	case typed != "":
		wrong = "That is not its VMID"
	}
	return &fault.Error{
		Kind: fault.Invalid, Code: "confirmation_required", Message: "A container that is deleted is gone with its disks. Confirm it by its name.",
		Fields: map[string]string{"confirm": wrong},
	}
}

// send takes the lock of a container and asks Proxmox VE for the change. The error is a refusal, after which the operation has
// ended; the operation returned is in state Running, or Sending or Unknown where the answer was lost.
func (s *Service) send(ctx context.Context, caller session.Caller, c change) (Operation, error) {
	op := c.op
	err := s.begin(ctx, op)
	var busy *BusyError
	if errors.As(err, &busy) && s.concluded(ctx, caller, c, busy.Holder) {
		err = s.begin(ctx, op)
	}
	if err != nil {
		switch {
		case errors.As(err, &busy):
			return op, s.busy(ctx, caller, c, busy.Holder)
		case errors.Is(err, ErrNone):
			return op, err
		case errors.Is(err, ErrTooMany):
			return op, tooMany("You have %d changes under way. Wait until some have ended, or change many in one go.", maxUnfinished)
		}
		return op, fault.StoreDown(err)
	}
	if op.Action == Tag {
		return s.tag(ctx, caller, c)
	}
	upid, sent, err := s.post(ctx, caller, &c)
	op = c.op
	switch {
	case err == nil:
		return s.accept(ctx, op, upid)
	case !sent:
		return op, s.refused(ctx, op, err)
	}
	s.lost(ctx, op, err)
	return s.search(ctx, caller, op, c.door, searchBriefly)
}

// begin stores an operation with the lock of its container.
func (s *Service) begin(ctx context.Context, op Operation) error {
	now := s.o.Now()
	return s.o.Store.Begin(ctx, op, now, now.Add(lease), maxUnfinished)
}

// tooMany refuses what is beyond a bound on what one identity has under way.
func tooMany(message string, most int) error {
	return &fault.Error{Kind: fault.Throttled, Code: "too_many_operations", RetryAfter: 10 * time.Second, Message: fmt.Sprintf(message, most)}
}

// concluded ends the operation that stands in the way of a change if its task has ended and whoever follows it has not looked
// since, and tells whether it did. What Proxmox VE does not show this caller stays.
func (s *Service) concluded(ctx context.Context, caller session.Caller, c change, holder Operation) bool {
	if holder.State != Running {
		return false
	}
	var t pve.Task
	err := s.ask(ctx, caller, &c.op, c.door, func(ctx context.Context, host *pve.Host, with pve.Credentials) (err error) {
		t, err = host.TaskStatus(ctx, with, holder.UPID)
		return err
	})
	if err != nil || t.Running {
		return false
	}
	how := s.outcome(ctx, caller, t, c.door)
	if holder.Owner != caller.Identity {
		ctx = session.WithClient(ctx, session.Client{}) // where this caller is does not belong into the holder's trail
	}
	s.conclude(ctx, holder, how)
	return true
}

// refused ends an operation that Proxmox VE or a look at the container refused, and returns why. Its owner is told at once,
// but for those of a run.
func (s *Service) refused(ctx context.Context, op Operation, err error) error {
	why := refusal(err)
	e := Ending{State: Failed, Error: words(why), Seen: op.BulkID == ""}
	if op.BulkID != "" && fault.KindOf(why) == fault.Unauthenticated {
		e = Ending{State: Canceled, Error: signedOut}
	}
	var byHost *pve.Error
	if errors.As(err, &byHost) {
		s.conclude(ctx, op, e)
	} else {
		s.end(ctx, op, e) // nothing was asked for at the host, so there is nothing to record
	}
	return why
}

func (s *Service) lost(ctx context.Context, op Operation, err error) {
	s.o.Log.WarnContext(ctx, "the answer to a change was lost", "operation", op.ID, "action", string(op.Action), "vmid", op.VMID, "cause", err)
}

func (s *Service) accept(ctx context.Context, op Operation, upid pve.UPID) (Operation, error) {
	op.State, op.UPID = Running, upid
	err := s.o.Store.Accept(ctx, op.ID, upid)
	if err != nil && !errors.Is(err, ErrNone) {
		// It runs all the same, and is followed; only a restart would have to look for it again.
		s.o.Log.ErrorContext(ctx, "task not stored", "operation", op.ID, "upid", upid.String(), "cause", err)
	}
	return op, nil
}

// post looks at the container and then sends the change, at most once. sent tells of an error whether the change may have been
// made all the same.
func (s *Service) post(ctx context.Context, caller session.Caller, c *change) (upid pve.UPID, sent bool, err error) {
	var lost error
	err = s.o.Nodes.Call(ctx, caller, c.door, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
		if sent {
			return lost // this is another door, or another try, after an answer that did not come
		}
		if err := s.look(ctx, caller, host, with, c); err != nil {
			return err
		}
		if err := s.o.Alive(ctx, caller); err != nil {
			return err
		}
		ctx, cancel, err := s.secure(ctx, c.op)
		if err != nil {
			return err
		}
		defer cancel()
		upid, err = c.ask(ctx, host, with)
		sent = err != nil && mayHaveArrived(err)
		lost = err
		return err
	})
	return upid, sent, err
}

// secure extends the lock of an operation just before its change is sent. Proxmox VE does not know of the lock, so the call must
// be over while the lock holds for certain: it gets a limit that the lease outlasts, and is not made where too little is left.
func (s *Service) secure(ctx context.Context, op Operation) (context.Context, context.CancelFunc, error) {
	now := s.o.Now()
	until := now.Add(lease)
	held, err := s.o.Store.Hold(ctx, op, now, until)
	switch {
	case err != nil:
		return nil, nil, fault.StoreDown(err)
	case !held:
		return nil, nil, busyFault("Another change to this container has begun meanwhile.", nil)
	}
	if left := until.Sub(s.o.Now()); left <= callLimit {
		return nil, nil, fault.StoreDown(fmt.Errorf("taking the lock of the container took so long that only %s of it are left", left))
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	return ctx, cancel, nil
}

// ask makes the call that the change consists of.
func (c *change) ask(ctx context.Context, host *pve.Host, with pve.Credentials) (pve.UPID, error) {
	op, o := c.op, c.options
	if op.Action == Delete {
		return host.DeleteContainer(ctx, with, op.Node, op.VMID, pve.DeleteOptions{Purge: bool(o.Purge), UnreferencedDisks: bool(o.DestroyUnreferenced)})
	}
	return host.Change(ctx, with, op.Node, op.VMID, pve.Action(op.Action), pve.ChangeOptions{Timeout: time.Duration(o.Timeout) * time.Second})
}

// look refuses a change that does not fit the container as it is right now, and notes the container's newest task, so that the
// one that the change becomes can be told from it.
func (s *Service) look(ctx context.Context, caller session.Caller, host *pve.Host, with pve.Credentials, c *change) error {
	now, err := host.ContainerStatus(ctx, with, c.op.Node, c.op.VMID)
	if err != nil {
		return err
	}
	if err := fits(c.op.Action, now.Status, now.Lock, now.Template); err != nil {
		return err
	}
	if c.op.Action == Delete && now.Name != c.op.Name {
		return &fault.Error{
			Kind: fault.Conflict, Code: "container_changed", Message: "This is not the container that you confirmed: it has another name now. Look at it again.",
		}
	}
	tasks, _, err := host.Tasks(ctx, with, c.op.Node, pve.TaskFilter{VMID: c.op.VMID, Source: pve.AllTasks, Limit: 50})
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if blocks(t) {
			return busyTask(t, s.o.Now())
		}
		if t.UPID.Start.After(c.op.After.Start) {
			c.op.After = t.UPID
		}
	}
	if err := s.o.Store.NoteAfter(ctx, c.op.ID, c.op.After); err != nil {
		return fault.StoreDown(err)
	}
	return nil
}
