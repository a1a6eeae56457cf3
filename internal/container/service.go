package container

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
)

const (
	// fresh is how long a reading is shared, and how often a node is read while somebody watches. Proxmox VE itself
	// refreshes its list every 10 s (pvestatd).
	fresh = 2 * time.Second
	// A node that fails is left alone, each time twice as long, from firstPause up to lastPause.
	firstPause = 5 * time.Second
	lastPause  = 30 * time.Second
	// readTimeout is how long a reading may take: longer than the two refusals of 3 s each by which Proxmox VE tells that a
	// session is over.
	readTimeout = 8 * time.Second
	// patience is how long a list waits for a node of which something is known already, firstPatience for one that was
	// never heard of or when no node works.
	patience      = 300 * time.Millisecond
	firstPatience = time.Second
	// keptFor is how long a reading is remembered after it was asked for last.
	keptFor = time.Hour
	// maxKept bounds the readings in memory, and maxWeight what all of them weigh, in bytes.
	maxKept   = 5000
	maxWeight = 48 << 20
	// maxContainers and maxText bound one reading: how many containers, and bytes of what is written in them.
	maxContainers = 10_000
	maxText       = 1 << 20
)

// Nodes are the caller's nodes.
type Nodes interface {
	// List returns them in the order in which they are preferred.
	List(ctx context.Context, caller session.Caller) ([]node.Node, error)
	Call(ctx context.Context, caller session.Caller, id string, call func(context.Context, *pve.Host, pve.Credentials) error) error
}

// Service reads containers. It is safe for concurrent use.
type Service struct {
	nodes       Nodes
	now         func() time.Time
	readTimeout time.Duration
	observe     func(Reading)
	hints       Hints // nil for one replica
	// Versions are the instance and a number: no two of them, of whatever identity or process, are equal.
	instance string
	versions atomic.Uint64
	// life ends with the Service, and with it what is under way.
	life   context.Context
	end    context.CancelFunc
	active sync.WaitGroup

	mu     sync.Mutex
	closed bool
	feeds  map[source]*feed
	byNode map[string]*feed // the same: a node is one identity's
	weight int              // of all feeds
	// early are guests that were named by other replicas, by a node of which nobody has asked here.
	early map[string]*early
	// watching are the identities somebody watches for, by the hashes of their names.
	watching map[string]session.Identity
	fleets   map[audience]*fleet
	// pollers are those of the identities somebody watches for, by node.
	pollers map[session.Identity]map[string]*poller
	seats   seats
}

// audience is who sees the same of their nodes: an identity, with a session or without. An access token reaches no further
// than the credentials that are stored.
type audience struct {
	identity session.Identity
	signedIn bool
}

func audienceOf(caller session.Caller) audience { return audience{caller.Identity, caller.SignedIn()} }

// serves tells whether a node serves an audience.
func (a audience) serves(n node.Node) bool { return a.signedIn || n.Credential != node.BySession }

// fleet is what an audience sees.
type fleet struct {
	audience

	building sync.Mutex // held by who makes the next snapshot
	current  atomic.Pointer[snapshot]

	// dirty gets a signal when something may have changed, relist when the nodes may have.
	dirty, relist chan struct{}
	// Of the Service, which guards them. nodes are those that were listed last; they are kept up to date while there are
	// watches, as is everything else until stop is called.
	nodes   []node.Node
	watches map[*Watch]struct{}
	stop    context.CancelFunc
}

// NewService returns a service over nodes.
func NewService(nodes Nodes, now func() time.Time) *Service {
	s := &Service{
		nodes: nodes, now: now, readTimeout: readTimeout, observe: func(Reading) {}, instance: rand.Text()[:8],
		feeds: map[source]*feed{}, byNode: map[string]*feed{}, early: map[string]*early{}, watching: map[string]session.Identity{},
		fleets: map[audience]*fleet{}, pollers: map[session.Identity]map[string]*poller{}, seats: newSeats(),
	}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// SetPatience replaces how long a reading may take, 8 s. It must be called before the first reading.
func (s *Service) SetPatience(d time.Duration) { s.readTimeout = d }

// Close ends what is under way, and returns when it has.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.active.Wait()
}

// List is the authenticated action behind the container list. What a node has not said soon is answered from what was last
// known, and its Source says so; when nothing was ever read from any node, the error of the first comes back.
func (s *Service) List(ctx context.Context, caller session.Caller, q Query) (List, error) {
	if err := q.Validate(); err != nil {
		return List{}, err
	}
	seen, err := s.look(ctx, caller)
	if seen.snapshot == nil {
		return List{}, err
	}
	return seen.list(q), err
}

// Find returns a container of the caller's, by its node or any other door to the same cluster.
func (s *Service) Find(ctx context.Context, caller session.Caller, nodeID string, vmid int) (*Container, error) {
	seen, err := s.look(ctx, caller)
	if seen.snapshot == nil {
		return nil, err
	}
	if c := seen.find(nodeID, vmid); c != nil {
		return c, nil
	}
	// Of a node that was never read nobody knows what it has.
	for _, p := range seen.now {
		if p.node.ID == nodeID && p.at.IsZero() {
			if err := p.failure(); err != nil {
				return nil, err
			}
		}
	}
	return nil, fault.NoSuch("container")
}

// Source is what is known of one of the caller's nodes: whether it can be read, and if not since when and why.
func (s *Service) Source(ctx context.Context, caller session.Caller, nodeID string) (Source, error) {
	seen, err := s.look(ctx, caller)
	if seen.snapshot == nil {
		return Source{}, err
	}
	for _, source := range seen.sources() {
		if source.NodeID == nodeID {
			return source, nil
		}
	}
	return Source{}, fault.NoSuch("node")
}

// look returns what the caller sees, as recent as it can be had soon. With the error of a node, of which nothing was ever
// read and of no other either, comes what can be told of the nodes; any other comes alone.
func (s *Service) look(ctx context.Context, caller session.Caller) (view, error) {
	nodes, err := s.nodes.List(ctx, caller)
	if err != nil {
		return view{}, err
	}
	feeds := s.feedsOf(audienceOf(caller), nodes)
	if err := s.read(ctx, caller, feeds, guestList); err != nil {
		return view{}, err
	}
	s.askHinted(ctx, caller, feeds)
	seen := s.see(s.fleet(audienceOf(caller), nodes), nodes, feeds)
	var failed error
	for _, p := range seen.now {
		if !p.at.IsZero() {
			return seen, nil
		}
		if failed == nil {
			failed = p.failure()
		}
	}
	return seen, failed
}

// fleet is what an audience sees of its nodes, as they were just listed.
func (s *Service) fleet(who audience, nodes []node.Node) *fleet {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.fleets[who]
	if f == nil {
		f = &fleet{audience: who, dirty: make(chan struct{}, 1), relist: make(chan struct{}, 1), watches: map[*Watch]struct{}{}}
		s.fleets[who] = f
	}
	s.listed(f, nodes)
	return f
}

// see is the fleet as its feeds have it now.
func (s *Service) see(fl *fleet, nodes []node.Node, feeds []*feed) view {
	fl.building.Lock()
	defer fl.building.Unlock()
	parts := make([]part, len(nodes))
	current := fl.current.Load()
	same := current != nil && len(current.parts) == len(nodes)
	for i, n := range nodes {
		parts[i] = feeds[i].part(n)
		same = same && parts[i].same(&current.parts[i])
	}
	if !same {
		current = newSnapshot(parts, current, func() string { return fmt.Sprintf("%s.%d", s.instance, s.versions.Add(1)) })
		fl.current.Store(current)
	}
	return view{current, parts}
}

// feedsOf are the feeds of an audience's nodes, in their order; nil for a node that does not serve it. What was read at
// another address, or with another credential, says nothing of a node any more.
func (s *Service) feedsOf(who audience, nodes []node.Node) []*feed {
	feeds := make([]*feed, len(nodes))
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, n := range nodes {
		if !who.serves(n) {
			continue
		}
		from, through := source{who.identity, n.ID}, doorOf(n)
		f := s.feeds[from]
		if f != nil && f.door != through {
			s.forget(f)
			f = nil
		}
		if f == nil {
			for len(s.feeds) >= maxKept {
				s.forgetSome(nil, func(*feed) int { return 1 })
			}
			f = &feed{source: from, door: through, hinted: s.takeEarly(n.ID)}
			s.feeds[from] = f
			s.byNode[n.ID] = f
		}
		f.wanted = now
		feeds[i] = f
	}
	return feeds
}

// weigh notes what a feed weighs, and forgets others if all weigh too much.
func (s *Service) weigh(f *feed, weight int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feeds[f.source] != f {
		return // it was forgotten meanwhile
	}
	s.weight += weight - f.kept
	f.kept = weight
	for s.weight > maxWeight && s.forgetSome(f, func(f *feed) int { return f.kept }) {
	}
}

// forget drops a feed, and with it what was made of it.
func (s *Service) forget(f *feed) {
	s.weight -= f.kept
	delete(s.feeds, f.source)
	if s.byNode[f.node] == f {
		delete(s.byNode, f.node)
	}
	for _, signedIn := range []bool{true, false} {
		if fl := s.fleets[audience{f.identity, signedIn}]; fl != nil {
			fl.current.Store(nil)
			if len(fl.watches) == 0 {
				delete(s.fleets, fl.audience)
			}
		}
	}
}

// Sweep forgets readings that nobody has asked for in an hour. The program calls it once a minute.
func (s *Service) Sweep() {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.feeds {
		if now.Sub(f.wanted) > keptFor {
			s.forget(f)
		}
	}
	for node, e := range s.early {
		if now.Sub(e.at) > overlayLife {
			delete(s.early, node)
		}
	}
	// Of those who have no nodes nothing else reminds.
	for who, fl := range s.fleets {
		if len(fl.nodes)+len(fl.watches) == 0 {
			delete(s.fleets, who)
		}
	}
}

var _ Nodes = (*node.Service)(nil)
