package container

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
)

const (
	// fresh is how long a reading is shared among requests. Proxmox VE itself refreshes its list every 10 s (pvestatd).
	fresh = 2 * time.Second
	// failedPause keeps a node that doesn't answer from making every page wait for it.
	failedPause = 5 * time.Second
	// readTimeout is how long a page waits for a node: longer than the two refusals of 3 s each by which Proxmox VE tells
	// that a session is over.
	readTimeout = 8 * time.Second
	// keptFor is how long a reading is remembered after it was asked for last.
	keptFor = time.Hour
	// maxKept bounds the readings in memory, and maxWeight what all of them weigh, in bytes.
	maxKept   = 1000
	maxWeight = 64 << 20
	// maxContainers and maxText bound one reading: how many containers, and bytes of what is written in them.
	maxContainers = 10_000
	maxText       = 1 << 20
)

// Nodes are the caller's nodes.
type Nodes interface {
	List(ctx context.Context, caller session.Caller) ([]node.Node, error)
	Call(ctx context.Context, caller session.Caller, id string, call func(context.Context, *pve.Host, pve.Credentials) error) error
}

// Service reads containers. It is safe for concurrent use.
type Service struct {
	nodes    Nodes
	now      func() time.Time
	patience time.Duration // of one reading

	mu       sync.Mutex
	readings map[source]*reading
	weight   int // of all readings
	flights  singleflight.Group
}

// source is whose containers were read through which node. Nothing read for one identity is shown to another.
type source struct {
	identity session.Identity
	node     string
}

// reading is what one node said last. It is never changed once it is in the map.
type reading struct {
	containers []*Container
	weight     int       // of the containers
	at         time.Time // when the containers were read; zero if they never could be
	tried      time.Time
	asked      time.Time // when somebody wanted it last
	err        error     // of the last try
}

// NewService returns a service over nodes.
func NewService(nodes Nodes, now func() time.Time) *Service {
	return &Service{nodes: nodes, now: now, patience: readTimeout, readings: map[source]*reading{}}
}

// SetPatience replaces how long a reading may take, 8 s. It must be called before the first reading.
func (s *Service) SetPatience(d time.Duration) { s.patience = d }

// List is the authenticated action behind the container list. While a node doesn't answer its containers are those last
// known, and its Source says so; when nothing was ever read from any node, the error of the first comes back.
func (s *Service) List(ctx context.Context, caller session.Caller, q Query) (List, error) {
	if err := q.Validate(); err != nil {
		return List{}, err
	}
	nodes, err := s.nodes.List(ctx, caller)
	if err != nil {
		return List{}, err
	}
	list := List{Items: []*Container{}, Nodes: make([]Source, 0, len(nodes))}
	var all []*Container
	var failed error
	hosts := map[string]string{}
	for _, n := range nodes {
		r, err := s.read(ctx, caller, n.ID)
		if err != nil {
			return List{}, err
		}
		if r.err != nil && r.at.IsZero() && failed == nil {
			failed = r.err
		}
		if all == nil {
			all = slices.Clip(r.containers) // mostly there is one node
		} else {
			all = append(all, r.containers...)
		}
		hosts[n.ID] = n.Address.String()
		list.Nodes = append(list.Nodes, Source{
			NodeID: n.ID, Name: n.Name, Host: n.Address.Host, Port: n.Address.Port, ReadAt: r.at, Problem: problem(r.err),
		})
	}
	if len(all) == 0 && failed != nil {
		return list, failed
	}
	list.Counts = count(all)
	list.Items = choose(all, q, func(id string) string { return hosts[id] })
	return list, nil
}

// problem is what a person can know of a failed reading.
func problem(err error) string {
	switch {
	case err == nil:
		return ""
	case pve.IsKind(err, pve.KindCertificate):
		return "its certificate has changed, so nothing was sent to it"
	case pve.IsKind(err, pve.KindNotProxmox):
		return "it answers, but not as a Proxmox VE host does"
	case pve.IsKind(err, pve.KindForbidden):
		return "it refuses to list containers to this account"
	case pve.IsKind(err, pve.KindTooLarge):
		return "its answer is too large"
	case pve.IsKind(err, pve.KindServer), pve.IsKind(err, pve.KindUnauthenticated):
		return "it answered with an error"
	}
	return "it doesn't answer"
}

// read returns what a node says, from memory if that is fresh enough. An error means that there is no session or no such
// node any more, or that the request was given up; what the node itself refused is in the reading.
func (s *Service) read(ctx context.Context, caller session.Caller, nodeID string) (*reading, error) {
	from := source{caller.Identity, nodeID}
	now := s.now()
	s.mu.Lock()
	last := s.readings[from]
	if last != nil {
		kept := *last
		kept.asked = now
		s.readings[from] = &kept
		wait := fresh
		if last.err != nil {
			wait = failedPause
		}
		if now.Sub(last.tried) < wait {
			s.mu.Unlock()
			return last, nil
		}
	}
	s.mu.Unlock()

	key := caller.Identity.Datacenter + "\x00" + caller.Identity.UserID + "\x00" + nodeID + "\x00" + caller.Session.Hash.String()
	flight := s.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.patience)
		defer cancel()
		return s.readNow(ctx, caller, from)
	})
	select {
	case done := <-flight:
		if done.Err != nil {
			return nil, done.Err
		}
		return done.Val.(*reading), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *Service) readNow(ctx context.Context, caller session.Caller, from source) (*reading, error) {
	var read collection
	err := s.nodes.Call(ctx, caller, from.node, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
		return host.EachResource(ctx, with, pve.GuestResources, func() func(pve.Resource) error {
			read = collection{node: from.node}
			return read.add
		})
	})
	var refused *pve.Error
	if err != nil && !errors.As(err, &refused) {
		return nil, err
	}
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &reading{tried: now, asked: now, err: err}
	if last := s.readings[from]; err != nil && last != nil {
		r.containers, r.weight, r.at = last.containers, last.weight, last.at
	}
	if err == nil {
		r.containers, r.weight, r.at = read.containers, read.weight(), now
	} else {
		slog.WarnContext(ctx, "containers not read", "identity", from.identity, "node", from.node, "cause", err)
	}
	s.keep(from, r)
	return r, nil
}

// keep remembers a reading, in place of those that nobody has asked for the longest if there is no room.
func (s *Service) keep(from source, r *reading) {
	s.forget(from)
	for len(s.readings) > 0 && (len(s.readings) >= maxKept || s.weight+r.weight > maxWeight) {
		s.forgetLongestUnasked()
	}
	s.readings[from] = r
	s.weight += r.weight
}

func (s *Service) forget(from source) {
	if r := s.readings[from]; r != nil {
		s.weight -= r.weight
		delete(s.readings, from)
	}
}

func (s *Service) forgetLongestUnasked() {
	var oldest source
	var at time.Time
	for from, r := range s.readings {
		if at.IsZero() || r.asked.Before(at) {
			oldest, at = from, r.asked
		}
	}
	s.forget(oldest)
}

// Sweep forgets readings that nobody has asked for in an hour. The program calls it once a minute.
func (s *Service) Sweep() {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for from, r := range s.readings {
		if now.Sub(r.asked) > keptFor {
			s.forget(from)
		}
	}
}

var _ Nodes = (*node.Service)(nil)
