package container

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// refreshTimeout is how long a container may take to say how it is.
const refreshTimeout = 5 * time.Second

// Refresh asks a container how it is, lays that over the last reading, which may be ten seconds behind, and tells who
// watches, and other replicas. What goes wrong changes nothing: the next reading comes.
func (s *Service) Refresh(ctx context.Context, caller session.Caller, nodeID string, vmid int) {
	nodes, err := s.nodes.List(ctx, caller)
	if err != nil {
		return
	}
	who := audienceOf(caller)
	feeds := s.feedsOf(who, nodes)
	seen := s.see(s.fleet(who, nodes), nodes, feeds)
	c := seen.find(nodeID, vmid)
	for _, n := range nodes {
		if seen.groupOf[n.ID] == seen.groupOf[nodeID] {
			s.tellTouched(n.ID, vmid) // whichever door another replica reads it through
		}
	}
	for i, n := range nodes {
		switch f := feeds[i]; {
		case f == nil:
		case c == nil && n.ID == nodeID:
			s.expire(f) // it may be new
		case c != nil && n.ID == c.Door && c.Kind == LXC:
			_ = s.refresh(ctx, caller, f, c.Node, vmid)
		}
	}
}

// refresh is Refresh by a feed and a member. Its error only tells whether somebody else's session may do better.
func (s *Service) refresh(ctx context.Context, caller session.Caller, f *feed, member string, vmid int) error {
	if !s.enter() {
		return nil
	}
	defer s.active.Done()
	f.mu.Lock()
	i, ok := slices.BinarySearchFunc(f.base, &Container{VMID: vmid}, byVMID)
	ok = ok && f.base[i].Kind == LXC
	f.mu.Unlock()
	if !ok {
		s.expire(f)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	var status pve.Container
	err := s.nodes.Call(ctx, caller, f.node, func(ctx context.Context, host *pve.Host, with pve.Credentials) (err error) {
		status, err = host.ContainerStatus(ctx, with, member, vmid)
		return err
	})
	switch {
	case err == nil:
		s.lay(f, vmid, status)
	case signedOut(err):
		return err
	case pve.IsKind(err, pve.KindNotFound):
		s.expire(f) // it was removed, or is on another member
	default:
		slog.DebugContext(ctx, "container not refreshed", "identity", f.identity, "node", f.node, "vmid", vmid, "cause", err)
	}
	return nil
}

func signedOut(err error) bool { return fault.KindOf(err) == fault.Unauthenticated }

// lay lays a container's own word over what was read.
func (s *Service) lay(f *feed, vmid int, status pve.Container) {
	f.mu.Lock()
	before := f.state()
	i, ok := slices.BinarySearchFunc(f.base, &Container{VMID: vmid}, byVMID)
	switch {
	case !ok, f.base[i].Status == status.Status:
		delete(f.overlays, vmid) // what was read is as true, and will be newer
	case f.overlays[vmid].at.IsZero() && len(f.overlays) >= maxOverlays:
	default:
		if f.overlays == nil {
			f.overlays = map[int]overlay{}
		}
		f.overlays[vmid] = overlay{status, s.now()}
	}
	f.lay()
	changed := f.state() != before
	f.mu.Unlock()
	if changed {
		s.changed(f.identity)
	}
}

// expire makes what was read of a feed old, so that it is read at once.
func (s *Service) expire(f *feed) {
	f.mu.Lock()
	if f.guests.failures == 0 {
		f.guests.tried = time.Time{}
	}
	f.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pollers[f.identity][f.node]; p != nil {
		signal(p.due)
	}
}
