package container

import (
	"context"
	"sync"
	"time"

	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/session"
)

// poller reads one node for one identity again and again, while somebody watches.
type poller struct {
	stop context.CancelFunc
	// due gets a signal when what was read is known to be old.
	due chan struct{}
}

// reconcile starts and stops pollers, so that there is one for each node that somebody of an identity watches.
func (s *Service) reconcile(of session.Identity) {
	wanted := map[string]bool{}
	for _, signedIn := range []bool{true, false} {
		fl := s.fleets[audience{of, signedIn}]
		if fl == nil || len(fl.watches) == 0 {
			continue
		}
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
		p := &poller{stop: stop, due: make(chan struct{}, 1)}
		pollers[id] = p
		s.active.Go(func() { s.poll(ctx, p, source{of, id}) })
	}
	if len(pollers) == 0 {
		delete(s.pollers, of)
	}
}

// poll reads a source until the context ends.
func (s *Service) poll(ctx context.Context, p *poller, from source) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	var polled *feed
	defer func() {
		if polled != nil {
			polled.polled.Store(false)
		}
	}()
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		case <-p.due:
		}
		f, callers := s.target(from)
		if f == nil {
			wait.Reset(fresh)
			continue
		}
		if f != polled {
			if polled != nil {
				polled.polled.Store(false)
			}
			polled = f
			f.polled.Store(true)
		}
		if rest := f.rest(s.now()); first && rest > 0 {
			wait.Reset(rest) // it was just read
			continue
		}
		begun := time.Now()
		var both sync.WaitGroup
		both.Go(func() { s.readAs(ctx, callers, f, guestList) })
		both.Go(func() {
			s.readAs(ctx, callers, f, taskList)
			s.lookInto(ctx, callers, f)
		})
		both.Wait()
		// One that is slow is not asked again before it had time to breathe.
		wait.Reset(max(f.pause()-time.Since(begun), fresh/4))
	}
}

// rest is how long what was read of a feed is fresh.
func (f *feed) rest(now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.guests.tried.IsZero() || f.tasks.tried.IsZero() {
		return 0
	}
	return f.guests.pause() - now.Sub(f.guests.tried)
}

func (f *feed) pause() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.guests.pause()
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
