package container

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/session"
)

const (
	// settle is how long changes are gathered after one was told: many nodes answer at about the same time.
	settle = 100 * time.Millisecond
	// relist is how often the nodes of those who watch are listed anew, for changes that another process has made.
	relist = 10 * time.Second
)

// Watch tells somebody who looks when what they see has changed. While there is one the caller's nodes are read every two
// seconds, once however many watches there are.
type Watch struct {
	service *Service
	fleet   *fleet
	caller  session.Caller
	from    netip.Prefix // where the caller is; not valid if that is unknown
	changed chan struct{}
	closed  sync.Once
	// last is the version that the watch had a signal of; the Service guards it.
	last string

	mu   sync.Mutex
	told *snapshot // what Changes told last
}

// Watch begins to watch what the caller sees. Nodes are called with the caller's credential only until the watch is closed,
// which who watches does at the latest when the caller's session ends. An access token of which no node can be asked is refused
// with node.ErrSignInNeeded.
func (s *Service) Watch(ctx context.Context, caller session.Caller) (*Watch, error) {
	nodes, err := s.nodes.List(ctx, caller)
	if err != nil {
		return nil, err
	}
	who := audienceOf(caller)
	if len(nodes) > 0 && !slices.ContainsFunc(nodes, who.serves) {
		return nil, node.ErrSignInNeeded
	}
	fl := s.fleet(who, nodes)
	w := &Watch{service: s, fleet: fl, caller: caller, from: networkOf(session.ClientFrom(ctx).Address), changed: make(chan struct{}, 1)}
	w.told = s.see(fl, nodes, s.feedsOf(who, nodes)).snapshot
	w.last = w.told.version
	if err := s.enlist(w, nodes); err != nil {
		return nil, err
	}
	return w, nil
}

// enlist makes a watch count.
func (s *Service) enlist(w *Watch, nodes []node.Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fl := w.fleet
	switch {
	case s.closed:
		return &fault.Error{Kind: fault.Unavailable, Code: "shutting_down", Message: "Berth is about to end. Try again in a moment."}
	case !s.seats.free(fl.identity, w.from):
		return &fault.Error{Kind: fault.Throttled, Code: "too_many_streams", Message: "Too many pages and programs are watching. Close some of them.", RetryAfter: time.Minute}
	}
	if s.fleets[fl.audience] != fl {
		// It was forgotten since, for want of room; what is in place of it shows the same.
		if other := s.fleets[fl.audience]; other != nil {
			fl, w.fleet = other, other
		}
		s.fleets[fl.audience] = fl
	}
	s.seats.take(fl.identity, w.from, 1)
	fl.watches[w] = struct{}{}
	signal(fl.dirty) // it may have changed since the watch looked
	s.listed(fl, nodes)
	if fl.stop == nil {
		ctx, stop := context.WithCancel(s.life)
		fl.stop = stop
		s.active.Go(func() { s.tend(ctx, fl) })
	}
	s.reconcile(fl.identity)
	return nil
}

// Changed gets a signal when what the caller sees has changed; several changes may be one signal.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Version is of what Change told last, or of what the caller saw when the watch began.
func (w *Watch) Version() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told.version
}

// Close ends the watch. Of the last one's nodes no reading begins any more.
func (w *Watch) Close() {
	w.closed.Do(func() {
		s, fl := w.service, w.fleet
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seats.take(fl.identity, w.from, -1)
		delete(fl.watches, w)
		if len(fl.watches) == 0 {
			fl.stop()
			fl.stop = nil
		}
		s.reconcile(fl.identity)
	})
}

// tend keeps what an audience sees up to date, and tells its watches, until the context ends.
func (s *Service) tend(ctx context.Context, fl *fleet) {
	lists := time.NewTicker(relist)
	defer lists.Stop()
	for {
		nodes := s.nodesOf(fl)
		seen := s.see(fl, nodes, s.feedsOf(fl.audience, nodes))
		s.mu.Lock()
		for w := range fl.watches {
			if w.last != seen.version {
				w.last = seen.version
				signal(w.changed)
			}
		}
		s.mu.Unlock()
		rest := time.NewTimer(settle)
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
			return
		}
		select {
		case <-fl.dirty:
		case <-lists.C:
			s.listAgain(ctx, fl)
		case <-fl.relist:
			s.listAgain(ctx, fl)
		case <-ctx.Done():
			return
		}
	}
}

// signal puts a signal into a channel that holds one.
func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// changed tells who watches for an identity that something may have changed.
func (s *Service) changed(of session.Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, signedIn := range []bool{true, false} {
		if fl := s.fleets[audience{of, signedIn}]; fl != nil && len(fl.watches) > 0 {
			signal(fl.dirty)
		}
	}
}

func (s *Service) nodesOf(fl *fleet) []node.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fl.nodes
}

// listAgain lists the nodes of who watches.
func (s *Service) listAgain(ctx context.Context, fl *fleet) {
	s.mu.Lock()
	callers := callersOf(fl)
	s.mu.Unlock()
	for _, caller := range callers {
		ctx, cancel := context.WithTimeout(ctx, s.readTimeout)
		nodes, err := s.nodes.List(ctx, caller)
		cancel()
		if err == nil {
			s.mu.Lock()
			s.listed(fl, nodes)
			s.mu.Unlock()
			return
		}
	}
}

// listed takes over a list of nodes. Who watches sees a change at once.
func (s *Service) listed(fl *fleet, nodes []node.Node) {
	same := slices.EqualFunc(fl.nodes, nodes, func(a, b node.Node) bool {
		return a.ID == b.ID && a.Name == b.Name && a.Group == b.Group && doorOf(a) == doorOf(b)
	})
	if same {
		return
	}
	fl.nodes = nodes
	if len(fl.watches) == 0 {
		return
	}
	s.reconcile(fl.identity)
	for _, p := range s.pollers[fl.identity] {
		signal(p.due) // a node may be another host now
	}
	signal(fl.dirty)
}

// callersOf are those who watch a fleet, each once.
func callersOf(fl *fleet) []session.Caller {
	type key struct {
		hash  session.Hash
		token string
	}
	seen := map[key]bool{}
	var callers []session.Caller
	for w := range fl.watches {
		if k := (key{w.caller.Session.Hash, w.caller.Token}); !seen[k] {
			seen[k] = true
			callers = append(callers, w.caller)
		}
	}
	return callers
}
