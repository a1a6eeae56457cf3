package task

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/session"
)

const (
	// maxBulk bounds how many containers one run changes.
	maxBulk = 1000
	// perMember is how many containers of one cluster member a run changes at a time.
	perMember = 4
	// perRun is how many containers a run changes at a time: hosts say themselves how many members they have.
	perRun = 32
	// maxRuns bounds the runs that one identity has under way.
	maxRuns = 3
	// signedOut is why the rest of a run was canceled with its caller's session or access token.
	signedOut = "You were signed out, or the access token was revoked, before its turn"
)

// BulkActions are the actions that can be taken on many containers in one go: none that destroys anything.
var BulkActions = []Action{Start, Shutdown, Reboot, Stop, Tag}

// Ref names a container.
type Ref struct {
	NodeID string `json:"nodeId"`
	VMID   int    `json:"vmid"`
}

// BulkInput says what to do to which containers.
type BulkInput struct {
	Action Action `json:"action" doc:"start, shutdown, stop, reboot or tag" example:"start"`
	Items  []Ref  `json:"items,omitempty" doc:"the containers, at most 1000"`
	// Query stands for all that match it, in place of Items.
	Query   *container.Query `json:"query,omitempty" doc:"in place of items: all containers that match it"`
	Timeout Number           `json:"timeout,omitempty" doc:"how many seconds a shutdown or reboot waits, at most 3600; 60 if absent"`
	// Tags that all of them get and lose.
	AddTags    Words `json:"addTags,omitempty" doc:"tag: tags that each container gets beside those it has"`
	RemoveTags Words `json:"removeTags,omitempty" doc:"tag: tags that each container loses"`
}

func (in BulkInput) options() ChangeOptions {
	return ChangeOptions{Timeout: in.Timeout, AddTags: in.AddTags, RemoveTags: in.RemoveTags}
}

// Run is a bulk run: one action on many containers.
type Run struct {
	ID      string    `json:"id"`
	Action  Action    `json:"action"`
	Created time.Time `json:"createdAt"`

	Owner session.Identity `json:"-"`
	// Driven is until when a process works on it.
	Driven time.Time `json:"-"`
}

// RunStatus is a run with how far it is.
type RunStatus struct {
	Run
	// Counts are how many operations are in which state.
	Counts     map[State]int `json:"counts" doc:"how many containers are in which state"`
	Ended      bool          `json:"ended"`
	Operations []Operation   `json:"operations"`
}

// RunChoice names a run.
type RunChoice struct {
	ID string `json:"-" path:"id" doc:"of the run"`
}

// Validate reports every field that can't be right.
func (in BulkInput) Validate() error {
	fields := in.options().problems(in.Action)
	if !slices.Contains(BulkActions, in.Action) {
		fields["action"] = "The action must be one of start, shutdown, reboot, stop, tag"
	}
	switch {
	case len(in.Items) > maxBulk:
		fields["items"] = fmt.Sprintf("At most %d containers can be changed in one go", maxBulk)
	case len(in.Items) > 0 && in.Query != nil:
		fields["query"] = "Give items or a query, not both"
	case len(in.Items) == 0 && in.Query == nil:
		fields["items"] = "Choose at least one container"
	}
	if in.Query != nil {
		if err := in.Query.Validate(); err != nil {
			fields["query"] = "This query can't be read"
		}
	}
	return fault.InvalidInput(fields)
}

// Bulk is the authenticated action that changes many containers. It returns as soon as the run is stored, and the run goes on
// as long as the caller's session or access token lives.
func (s *Service) Bulk(ctx context.Context, caller session.Caller, in BulkInput) (RunStatus, error) {
	s.Attend(ctx, caller)
	if err := in.Validate(); err != nil {
		return RunStatus{}, err
	}
	if in.Action == Tag {
		if err := caller.Require(session.ScopeAll); err != nil {
			return RunStatus{}, err
		}
	}
	items, err := s.chosen(ctx, caller, in)
	if err != nil {
		return RunStatus{}, err
	}
	now := s.o.Now().UTC().Truncate(time.Millisecond)
	run := Run{ID: newID(), Action: in.Action, Created: now, Driven: now.Add(lease), Owner: caller.Identity}
	ops := make([]Operation, 0, len(items))
	for _, item := range items {
		ops = append(ops, s.waiting(ctx, caller, run, item))
	}
	s.mu.Lock()
	s.driven[run.ID] = true
	s.mu.Unlock()
	if err := s.o.Store.CreateRun(ctx, run, ops, maxRuns); err != nil {
		s.undriven(run.ID)
		if errors.Is(err, ErrTooMany) {
			return RunStatus{}, tooMany("You have %d runs under way. Wait until one has ended, or cancel one.", maxRuns)
		}
		return RunStatus{}, fault.StoreDown(err)
	}
	s.background(ctx, func(ctx context.Context) {
		defer s.undriven(run.ID)
		s.drive(ctx, caller, run, ops, in.options())
	})
	return status(run, ops), nil
}

// chosen are the containers that an input means, each once.
func (s *Service) chosen(ctx context.Context, caller session.Caller, in BulkInput) ([]Ref, error) {
	items := in.Items
	if in.Query != nil {
		q := *in.Query
		q.Kind, q.Limit, q.Cursor = container.LXC, "", ""
		list, err := s.o.Containers.List(ctx, caller, q)
		if err != nil {
			return nil, err
		}
		if list.Next != "" {
			return nil, fault.InvalidInput(map[string]string{
				"query": fmt.Sprintf("More than %d containers match, which is as many as can be changed in one go", maxBulk),
			})
		}
		for _, c := range list.Items {
			if c.Kind == container.LXC && (!c.Template || in.Action == Tag) {
				items = append(items, Ref{NodeID: c.NodeID, VMID: c.VMID})
			}
		}
		if len(items) == 0 {
			return nil, fault.InvalidInput(map[string]string{"query": "No container matches"})
		}
	}
	seen := make(map[Ref]bool, len(items))
	return slices.DeleteFunc(slices.Clone(items), func(r Ref) bool {
		again := seen[r]
		seen[r] = true
		return again
	}), nil
}

// waiting is the operation of a run on one container; one that has failed already if there is no such container.
func (s *Service) waiting(ctx context.Context, caller session.Caller, run Run, item Ref) Operation {
	op := Operation{
		ID: newID(), NodeID: item.NodeID, VMID: item.VMID, Action: run.Action, State: Waiting, BulkID: run.ID, Created: run.Created, Owner: run.Owner,
	}
	found, err := s.o.Containers.Find(ctx, caller, item.NodeID, item.VMID)
	if err != nil {
		op.State, op.Error, op.End = Failed, words(err), run.Created
		return op
	}
	op.Node, op.Name = found.Node, found.Name
	return op
}

func (s *Service) undriven(run string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.driven, run)
}

// drive works on a run until all its operations have ended: on at most perRun at a time, and perMember of each cluster member.
func (s *Service) drive(ctx context.Context, caller session.Caller, run Run, ops []Operation, o ChangeOptions) {
	var keeper sync.WaitGroup
	defer keeper.Wait()
	driving, done := context.WithCancel(ctx)
	defer done()
	keeper.Go(func() {
		for s.o.Pause(driving, renewAfter) == nil {
			if err := s.o.Store.DriveRun(driving, run.ID, s.o.Now().Add(lease)); err != nil && driving.Err() == nil {
				s.o.Log.ErrorContext(ctx, "run not renewed", "run", run.ID, "cause", err)
			}
		}
	})
	takeTurns(ctx, ops, func(op Operation) { s.takeTurn(ctx, caller, run, op, o) })
}

// takeTurns calls turn for each operation that waits, within the bounds of a run, until all calls have returned. It begins
// none after the context's end.
func takeTurns(ctx context.Context, ops []Operation, turn func(Operation)) {
	type member struct{ nodeID, node string }
	of := func(op Operation) member { return member{op.NodeID, op.Node} }
	waiting := slices.DeleteFunc(slices.Clone(ops), func(op Operation) bool { return op.State != Waiting })
	begun := map[member]int{} // turns that have not ended
	all := 0
	ended := make(chan member)
	for {
		next := -1
		if all < perRun && ctx.Err() == nil {
			next = slices.IndexFunc(waiting, func(op Operation) bool { return begun[of(op)] < perMember })
		}
		if next < 0 {
			if all == 0 {
				return
			}
			begun[<-ended]--
			all--
			continue
		}
		op := waiting[next]
		waiting = slices.Delete(waiting, next, next+1)
		begun[of(op)]++
		all++
		go func() {
			turn(op)
			ended <- of(op)
		}()
	}
}

// takeTurn carries out one operation of a run, to its end.
func (s *Service) takeTurn(ctx context.Context, caller session.Caller, run Run, op Operation, o ChangeOptions) {
	if !s.claim(op.ID) {
		return
	}
	defer s.release(op.ID)
	if s.over(ctx, op) {
		return // it was canceled
	}
	var c change
	err := s.o.Alive(ctx, caller)
	if err == nil {
		c, err = s.plan(ctx, caller, op.NodeID, op.VMID, op.Action, o)
	}
	if err == nil {
		c.op.ID, c.op.BulkID, c.op.Created = op.ID, op.BulkID, op.Created
		sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendingTime)
		op, err = s.send(sending, caller, c)
		cancel()
	}
	switch {
	case errors.Is(err, ErrNone):
		return // it was canceled
	case err != nil && fault.KindOf(err) == fault.Unauthenticated:
		if _, err := s.o.Store.CancelWaiting(context.WithoutCancel(ctx), run.Owner, run.ID, signedOut, s.o.Now()); err != nil {
			s.o.Log.ErrorContext(ctx, "run not canceled", "run", run.ID, "cause", err)
		}
		return
	case err != nil:
		s.end(ctx, op, Ending{State: Failed, Error: words(err)}) // of what was refused before it began
	case !op.State.Ended():
		s.pursue(ctx, caller, op)
	}
}

// BulkStatus is the authenticated action that shows how far a run of the caller's is.
func (s *Service) BulkStatus(ctx context.Context, caller session.Caller, in RunChoice) (RunStatus, error) {
	s.Attend(ctx, caller)
	run, ops, err := s.o.Store.Run(ctx, caller.Identity, in.ID)
	if errors.Is(err, ErrNone) {
		return RunStatus{}, fault.NoSuch("run")
	}
	if err != nil {
		return RunStatus{}, fault.StoreDown(err)
	}
	return status(run, ops), nil
}

// CancelBulk is the authenticated action that cancels what of a run has not begun.
func (s *Service) CancelBulk(ctx context.Context, caller session.Caller, in RunChoice) (RunStatus, error) {
	if _, err := s.BulkStatus(ctx, caller, in); err != nil {
		return RunStatus{}, err
	}
	// Their state says it all: whoever canceled them knows why.
	if _, err := s.o.Store.CancelWaiting(ctx, caller.Identity, in.ID, "", s.o.Now()); err != nil {
		return RunStatus{}, fault.StoreDown(err)
	}
	return s.BulkStatus(ctx, caller, in)
}

func status(run Run, ops []Operation) RunStatus {
	st := RunStatus{Run: run, Counts: map[State]int{}, Ended: true, Operations: ops}
	for _, op := range ops {
		st.Counts[op.State]++
		st.Ended = st.Ended && op.State.Ended()
	}
	return st
}
