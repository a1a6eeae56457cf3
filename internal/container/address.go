package container

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unsafe"

	"berth/internal/pve"
	"berth/internal/session"
)

const (
	// addressLife is how long addresses are taken for true.
	addressLife = time.Minute
	// maxLookups bounds the containers of one node whose addresses are still to be asked for, maxLookers how many are asked
	// at the same time, and lookupTimeout how long one may take.
	maxLookups    = 1000
	maxLookers    = 4
	lookupTimeout = 5 * time.Second
	// firstAddresses is how long a list may wait for the first addresses of a node, from when they were asked for.
	firstAddresses = time.Second
	// gatherAddresses is how long addresses are gathered before those who watch are told.
	gatherAddresses = 300 * time.Millisecond
	// maxAddresses bounds the addresses of one container.
	maxAddresses = 16
)

// address is what is known of a container's addresses.
type address struct {
	list   []string
	at     time.Time // when they were asked for last
	status string    // of the container at that time
}

// addressSize is about how many bytes that takes, with two addresses.
const addressSize = int(unsafe.Sizeof(address{})) + 2*(int(unsafe.Sizeof(""))+16)

// lookup is a container whose addresses are to be asked for, and with whose credential.
type lookup struct {
	caller session.Caller
	touched
	status string
}

// Addresses has the addresses of containers asked for that are not known, or were a minute ago: in the background, a few at
// a time. Who watches is told when they are there.
func (s *Service) Addresses(ctx context.Context, caller session.Caller, of []Ref) {
	s.askAddresses(ctx, caller, of)
}

// FirstAddresses is Addresses for who does not watch: within the first second in which a node's addresses are asked for, it
// waits for them. It tells whether it did, so that a list may have more than before.
func (s *Service) FirstAddresses(ctx context.Context, caller session.Caller, of []Ref) (waited bool) {
	for _, f := range s.askAddresses(ctx, caller, of) {
		f.mu.Lock()
		looking, left := f.looking, firstAddresses-time.Since(f.lookedAt)
		f.mu.Unlock()
		if looking == nil || left <= 0 {
			continue
		}
		waited = true
		enough := time.NewTimer(left)
		select {
		case <-looking:
		case <-enough.C:
		case <-ctx.Done():
		}
		enough.Stop()
	}
	return waited
}

// askAddresses has addresses asked for, and returns the feeds of the containers.
func (s *Service) askAddresses(ctx context.Context, caller session.Caller, of []Ref) map[string]*feed {
	nodes, err := s.nodes.List(ctx, caller)
	if err != nil {
		return nil
	}
	who := audienceOf(caller)
	feeds := s.feedsOf(who, nodes)
	seen := s.see(s.fleet(who, nodes), nodes, feeds)
	byDoor, asked := map[string]*feed{}, map[string]*feed{}
	for i, n := range nodes {
		byDoor[n.ID] = feeds[i]
	}
	for _, ref := range of {
		c := seen.find(ref.NodeID, ref.VMID)
		if c == nil || c.Kind != LXC || c.Template {
			continue
		}
		if f := byDoor[c.Door]; f != nil {
			s.lookUp(f, lookup{caller, touched{member: c.Node, vmid: c.VMID}, c.Status})
			asked[c.Door] = f
		}
	}
	return asked
}

// lookUp puts a container among those whose addresses are asked for, if that is due.
func (s *Service) lookUp(f *feed, l lookup) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.addresses[l.vmid]
	due := known.at.IsZero() || known.status != l.status || s.now().Sub(known.at) >= addressLife
	if !due || f.guests.err != nil || len(f.lookups) >= maxLookups || slices.ContainsFunc(f.lookups, func(o lookup) bool { return o.vmid == l.vmid }) {
		return
	}
	f.lookups = append(f.lookups, l)
	if f.lookers == maxLookers || !s.enter() {
		return
	}
	if f.lookers++; f.looking == nil {
		f.looking = make(chan struct{})
	}
	if f.lookedAt.IsZero() {
		f.lookedAt = time.Now()
	}
	go func() {
		defer s.active.Done()
		s.lookUpAll(f)
	}()
}

// lookUpAll asks for addresses until there are no more to be asked for.
func (s *Service) lookUpAll(f *feed) {
	for {
		f.mu.Lock()
		if len(f.lookups) == 0 || s.life.Err() != nil {
			if f.lookers--; f.lookers == 0 {
				close(f.looking)
				f.looking = nil
			}
			f.mu.Unlock()
			return
		}
		next := f.lookups[0]
		f.lookups = f.lookups[1:]
		if f.addresses == nil {
			f.addresses = map[int]address{}
		}
		// Until it has answered, and if it does not, those last known hold on: nobody asks twice.
		known := f.addresses[next.vmid]
		known.at, known.status = s.now(), next.status
		f.addresses[next.vmid] = known
		f.mu.Unlock()

		list, err := s.addressesOf(f, next)
		f.mu.Lock()
		if _, there := f.addresses[next.vmid]; there && err == nil {
			f.addresses[next.vmid] = address{list, s.now(), next.status}
		}
		before := f.state()
		if len(f.lookups) == 0 || time.Since(f.laidAt) >= gatherAddresses {
			f.laidAt = time.Now()
			f.lay()
		}
		changed, weight := f.state() != before, f.heavy()
		f.mu.Unlock()
		if s.weigh(f, weight); changed {
			s.changed(f.identity)
		}
	}
}

// addressesOf asks a running container for its addresses. Of any other, and of one that can't tell, they are those that its
// configuration gives it.
func (s *Service) addressesOf(f *feed, l lookup) ([]string, error) {
	ctx, cancel := context.WithTimeout(s.life, lookupTimeout)
	defer cancel()
	var found []netip.Addr
	if l.status == "running" {
		var interfaces []pve.Interface
		err := s.nodes.Call(ctx, l.caller, f.node, func(ctx context.Context, host *pve.Host, with pve.Credentials) (err error) {
			interfaces, err = host.Interfaces(ctx, with, l.member, l.vmid)
			return err
		})
		if err != nil && !pve.IsKind(err, pve.KindUnsupported) && !pve.IsKind(err, pve.KindServer) {
			return nil, err
		}
		for _, i := range interfaces {
			for _, a := range i.Addresses {
				found = append(found, a.Addr())
			}
		}
	}
	if len(found) == 0 {
		var config pve.ContainerConfig
		err := s.nodes.Call(ctx, l.caller, f.node, func(ctx context.Context, host *pve.Host, with pve.Credentials) (err error) {
			config, err = host.ContainerConfig(ctx, with, l.member, l.vmid)
			return err
		})
		if err != nil {
			return nil, err
		}
		found = configured(config.Options)
	}
	return shownAddresses(found), nil
}

// configured are the addresses that a container's configuration gives it: net0 is "name=eth0,bridge=vmbr0,ip=10.0.0.5/24".
func configured(options map[string]string) []netip.Addr {
	var found []netip.Addr
	for name, value := range options {
		if !strings.HasPrefix(name, "net") {
			continue
		}
		for option := range strings.SplitSeq(value, ",") {
			key, text, _ := strings.Cut(option, "=")
			if key != "ip" && key != "ip6" {
				continue
			}
			if prefix, err := netip.ParsePrefix(text); err == nil { // not dhcp, auto or manual
				found = append(found, prefix.Addr())
			}
		}
	}
	return found
}

// shownAddresses are addresses as they are shown: those by which others reach a container, of the fourth version first.
func shownAddresses(found []netip.Addr) []string {
	found = slices.DeleteFunc(found, func(a netip.Addr) bool { return a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() })
	slices.SortFunc(found, netip.Addr.Compare)
	found = slices.Compact(found)
	list := make([]string, 0, min(len(found), maxAddresses))
	for _, a := range found[:min(len(found), maxAddresses)] {
		list = append(list, a.WithZone("").String())
	}
	return list
}

// keepAddresses forgets those of containers that are gone.
func (f *feed) keepAddresses(guests []*Container) {
	for vmid := range f.addresses {
		if _, ok := slices.BinarySearchFunc(guests, &Container{VMID: vmid}, byVMID); !ok {
			delete(f.addresses, vmid)
		}
	}
}
