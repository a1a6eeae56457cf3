package container

import (
	"context"
	"time"

	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/session"
)

// poller reads one node for one identity again and again, while somebody watches.
type poller struct {
	stop  context.CancelFunc
	begun time.Time
	// due gets a signal when what was read is known to be old, heard when another replica has found something else.
	due   chan struct{}
	heard map[Subject]chan struct{}
}

// reconcile starts and stops pollers, so that there is one for each node that somebody of an identity watches.
func (s *Service) reconcile(of session.Identity) {
	wanted := map[string]bool{}
	delete(s.watching, of.Hash())
	for _, signedIn := range []bool{true, false} {
		fl := s.fleets[audience{of, signedIn}]
		if fl == nil || len(fl.watches) == 0 {
			continue
		}
		s.watching[of.Hash()] = of
		for _, n := range fl.nodes {
			if fl.serves(n) {
				wanted[n.ID] = true
			}
		}
	}
	pollers := s.pollers[of]
	for id, p := range pollers {
		if !wanted[id] {
			p.stop()
			delete(pollers, id)
		}
	}
	for id := range wanted {
		if pollers[id] != nil || s.closed {
			continue
		}
		if pollers == nil {
			pollers = map[string]*poller{}
			s.pollers[of] = pollers
		}
		ctx, stop := context.WithCancel(s.life)
		p := &poller{stop: stop, begun: s.now(), due: make(chan struct{}, 1), heard: map[Subject]chan struct{}{}}
		for _, what := range Subjects {
			p.heard[what] = make(chan struct{}, 1)
		}
		pollers[id] = p
		from := source{of, id}
		s.active.Go(func() {
			s.poll(ctx, from, guestList, p.due, p.heard[Guests], func(callers []session.Caller, f *feed) { s.readAs(ctx, callers, f, guestList) })
		})
		s.active.Go(func() {
			s.poll(ctx, from, taskList, nil, p.heard[TaskLists], func(callers []session.Caller, f *feed) {
				s.readAs(ctx, callers, f, taskList)
				s.lookInto(ctx, callers, f)
			})
		})
	}
	if len(pollers) == 0 {
		delete(s.pollers, of)
	}
}

// poll reads one subject of a source until the context ends; one that fails keeps no other waiting.
func (s *Service) poll(ctx context.Context, from source, what subject, due, heard <-chan struct{}, read func([]session.Caller, *feed)) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	var hints allowance
	for first := true; ; first = false {
		hint := false
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		case <-due:
		case <-heard:
			hint = true
		}
		f, callers := s.target(from)
		if f == nil {
			wait.Reset(fresh)
			continue
		}
		hinted := f.hintedAt(what)
		if hint && !hinted {
			continue // somebody has looked already
		}
		if hinted {
			if rest := hints.take(time.Now()); rest > 0 && hint {
				wait.Reset(rest)
				continue
			}
		}
		if _, rest := f.pace(what, s.now()); first && rest > 0 && !hinted {
			wait.Reset(rest) // it was just read
			continue
		}
		begun := time.Now()
		read(callers, f)
		pause, _ := f.pace(what, s.now())
		// One that is slow is not asked again before it had time to breathe.
		again := max(pause-time.Since(begun), fresh/4)
		switch {
		case what.name == TaskLists && f.moreHinted():
			again = hintGap
		case hinted:
			again += hintLag
		}
		wait.Reset(again)
	}
}

// pace is how long to wait from one reading to the next, and how long what was read is fresh still.
func (f *feed) pace(what subject, now time.Time) (pause, rest time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := what.reader(f)
	if r.tried.IsZero() {
		return r.pause(), 0
	}
	return r.pause(), r.pause() - now.Sub(r.tried)
}

// target is a source's feed with those who watch it; nil if nobody does any more.
func (s *Service) target(from source) (*feed, []session.Caller) {
	var callers []session.Caller
	var through *node.Node
	s.mu.Lock()
	for _, signedIn := range []bool{true, false} {
		fl := s.fleets[audience{from.identity, signedIn}]
		if fl == nil || len(fl.watches) == 0 {
			continue
		}
		for i, n := range fl.nodes {
			if n.ID == from.node && fl.serves(n) {
				through = &fl.nodes[i]
				callers = append(callers, callersOf(fl)...)
			}
		}
	}
	s.mu.Unlock()
	if through == nil {
		return nil, nil
	}
	return s.feedsOf(audience{from.identity, callers[0].SignedIn()}, []node.Node{*through})[0], callers
}

// readAs reads a feed with the credential of the first caller whose session still holds.
func (s *Service) readAs(ctx context.Context, callers []session.Caller, f *feed, what subject) {
	for _, caller := range callers {
		f.mu.Lock()
		fl := s.start(ctx, caller, f, what)
		f.mu.Unlock()
		if fl == nil {
			return
		}
		select {
		case <-fl.done:
		case <-ctx.Done():
			return
		}
		if kind := fault.KindOf(fl.err); fl.err == nil || kind != fault.Unauthenticated && kind != fault.Forbidden {
			return
		}
	}
}
