package container

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/pve/sim"
	"berth/internal/session"
)

// host is a node that is a simulated host, with the ticket of a user of it.
type host struct {
	dc     *sim.Datacenter
	at     *pve.Host
	ticket pve.Ticket

	mu         sync.Mutex
	calls      int
	busy, most int // calls at the same time
}

// newHost starts a simulated host and signs in.
func newHost(t *testing.T, user string, o sim.Options) *host {
	t.Helper()
	dc, err := sim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	listening, err := dc.Listen("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listening.Close() })
	client := pve.NewClient(pve.Options{Now: o.Now})
	t.Cleanup(client.Close)
	at, err := pve.ParseAddress(listening.Address(), 0)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := pve.ParseFingerprint(listening.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	h := &host{dc: dc, at: client.Host(at, pve.Trust{Certificate: &shown})}
	in, err := h.at.SignIn(t.Context(), user, sim.DefaultPassword)
	if err != nil {
		t.Fatal(err)
	}
	h.ticket = in.Ticket
	return h
}

func (h *host) List(context.Context, session.Caller) ([]node.Node, error) {
	return []node.Node{{ID: "n", Name: "n"}}, nil
}

func (h *host) Call(ctx context.Context, _ session.Caller, _ string, call func(context.Context, *pve.Host, pve.Credentials) error) error {
	h.mu.Lock()
	h.calls++
	h.busy++
	h.most = max(h.most, h.busy)
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.busy--
		h.mu.Unlock()
	}()
	return call(ctx, h.at, h.ticket)
}

// simClock is the time of a simulated host, which the test moves.
type simClock struct{ at atomic.Int64 }

func newSimClock() *simClock {
	c := &simClock{}
	c.at.Store(time.Now().Truncate(10 * time.Second).UnixNano()) // just when members have reported to each other
	return c
}

func (c *simClock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *simClock) advance(d time.Duration) { c.at.Add(int64(d)) }

// await waits until what is watched is as wanted.
func await(t *testing.T, what string, s *Service, c session.Caller, vmid int, wanted func(*Container) bool) *Container {
	t.Helper()
	var last *Container
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var err error
		if last, err = s.Find(t.Context(), c, "n", vmid); err == nil && wanted(last) {
			return last
		}
	}
	t.Fatalf("%s: %+v", what, last)
	return nil
}

// A task that somebody else begins shows on its container at once, and how the container is when it ends, long before the
// list of resources has heard of it.
func TestTasksShowAtOnce(t *testing.T) {
	clock := newSimClock()
	h := newHost(t, "root@pam", sim.Options{Now: clock.now})
	s := NewService(h, clock.now)
	defer s.Close()
	alice := caller("dc", "root@pam", 1)
	w := watching(t, s, alice)
	defer w.Close()
	const vmid = 101
	await(t, "before", s, alice, vmid, func(c *Container) bool { return c.Status == sim.Running && c.Task == nil })
	if _, err := h.dc.ChangeContainer("root@pam", vmid, "stop"); err != nil {
		t.Fatal(err)
	}
	stopping := await(t, "while it is stopped", s, alice, vmid, func(c *Container) bool { return c.Task != nil })
	if stopping.Task.Type != "vzstop" || stopping.Task.User != "root@pam" || stopping.Task.Started.IsZero() {
		t.Errorf("%+v", stopping.Task)
	}
	clock.advance(5 * time.Second) // too early for the list of resources
	await(t, "stopped", s, alice, vmid, func(c *Container) bool { return c.Status == sim.Stopped && c.Task == nil && c.Mem == 0 })
	if list, err := h.at.Resources(t.Context(), h.ticket, pve.GuestResources); err != nil {
		t.Fatal(err)
	} else if i := slices.IndexFunc(list, func(r pve.Resource) bool { return r.VMID == vmid }); list[i].Status != sim.Running {
		t.Error("the list of resources has heard of it already: nothing was shown")
	}
	tasks, err := s.Tasks(t.Context(), alice)
	if err != nil || len(tasks) == 0 || tasks[0].NodeID != "n" || tasks[0].UPID.Type != "vzstop" || tasks[0].Running {
		t.Errorf("%+v, %v", tasks, err)
	}
	// What is listed is believed again as soon as it agrees.
	clock.advance(5 * time.Second)
	f := s.feeds[source{alice.Identity, "n"}]
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		f.mu.Lock()
		left := len(f.overlays)
		f.mu.Unlock()
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("what the container said of itself is still laid over the list")
		}
	}
	await(t, "at rest", s, alice, vmid, func(c *Container) bool { return c.Status == sim.Stopped })
}

// Refresh shows a container's own word, for as long as the list may be behind it.
func TestRefresh(t *testing.T) {
	clock := newSimClock()
	h := newHost(t, "root@pam", sim.Options{Now: clock.now})
	s := NewService(h, clock.now)
	defer s.Close()
	alice := caller("dc", "root@pam", 1)
	const vmid = 101
	status := func() string {
		t.Helper()
		c, err := s.Find(t.Context(), alice, "n", vmid)
		if err != nil {
			t.Fatal(err)
		}
		return c.Status
	}
	if status() != sim.Running {
		t.Fatal(status())
	}
	if err := h.dc.SetContainerStatus(vmid, sim.Stopped); err != nil {
		t.Fatal(err)
	}
	if status() != sim.Running {
		t.Fatal("it is known before anybody said so")
	}
	s.Refresh(t.Context(), alice, "n", vmid)
	if status() != sim.Stopped {
		t.Error("the container's own word does not show")
	}
	clock.advance(fresh) // a reading that is behind
	if status() != sim.Stopped {
		t.Error("an older list is believed more")
	}
	// Somebody starts it again, and nobody asks it. At the latest after 20 s the list is newer.
	if err := h.dc.SetContainerStatus(vmid, sim.Running); err != nil {
		t.Fatal(err)
	}
	if clock.advance(overlayLife); status() != sim.Running {
		t.Error("what the container said 20 s ago is believed more than the list")
	}
	// One that is gone goes at once, although the reading is fresh.
	if _, err := h.dc.Call("root@pam", "POST", "/nodes/pve1/lxc/101/status/stop", nil); err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Minute)
	if _, err := h.dc.ChangeContainer("root@pam", vmid, "delete"); err != nil {
		t.Fatal(err)
	}
	status()
	clock.advance(time.Second)
	if _, there := h.dc.Container(vmid); there {
		t.Fatal("it is not removed yet")
	}
	s.Refresh(t.Context(), alice, "n", vmid)
	if c, err := s.Find(t.Context(), alice, "n", vmid); err == nil {
		t.Errorf("%+v is still there", c)
	}
}

// A user who may see two containers watches those two, and their own tasks.
func TestWatchWithFewRights(t *testing.T) {
	clock := newSimClock()
	h := newHost(t, "alice@pve", sim.Options{Now: clock.now})
	s := NewService(h, clock.now)
	defer s.Close()
	alice := caller("dc", "alice@pve", 1)
	defer watching(t, s, alice).Close()
	list, err := s.List(t.Context(), alice, Query{Kind: "all"})
	if err != nil || len(list.Items) != 2 {
		t.Fatalf("%d containers, %v", len(list.Items), err)
	}
	if tasks, err := s.Tasks(t.Context(), alice); err != nil || len(tasks) != 0 {
		t.Errorf("%v, %v", tasks, err)
	}
}

// Addresses are asked for when somebody looks, a few at a time, of running containers themselves and of others in their
// configuration; then they are found by searching, and kept for a minute.
func TestAddresses(t *testing.T) {
	clock := newSimClock()
	h := newHost(t, "root@pam", sim.Options{Now: clock.now, Containers: 60})
	s := NewService(h, clock.now)
	defer s.Close()
	alice := caller("dc", "root@pam", 1)
	list := func(q Query) List {
		t.Helper()
		l, err := s.List(t.Context(), alice, q)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first := list(Query{})
	of := slices.DeleteFunc(slices.Clone(first.Items), func(c *Container) bool { return c.Template })
	static := map[int]bool{} // of those that don't run
	for _, c := range of {
		if config, err := h.at.ContainerConfig(t.Context(), h.ticket, c.Node, c.VMID); err != nil {
			t.Fatal(err)
		} else if c.Status != sim.Running {
			static[c.VMID] = !strings.Contains(config.Options["net0"], "ip=dhcp")
		}
	}
	ask := func() (calls int) {
		t.Helper()
		h.mu.Lock()
		before := h.calls
		h.most = 0
		h.mu.Unlock()
		s.Addresses(t.Context(), alice, Refs(first.Items))
		s.Addresses(t.Context(), alice, Refs(first.Items)) // another page
		f := s.feeds[source{alice.Identity, "n"}]
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			f.mu.Lock()
			over := f.lookers == 0
			f.mu.Unlock()
			if over {
				break
			}
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.calls - before
	}
	if calls := ask(); calls != len(of) || h.most > maxLookers {
		t.Errorf("%d calls for %d containers, %d of them at once", calls, len(of), h.most)
	}
	got := list(Query{})
	if got.Version == first.Version {
		t.Error("nobody is told that there are addresses")
	}
	running, stopped := 0, 0
	for _, c := range got.Items {
		known := slices.ContainsFunc(c.Addresses, func(a string) bool { return strings.HasPrefix(a, "192.168.") })
		switch {
		case c.Template:
			if len(c.Addresses) > 0 {
				t.Errorf("template %d has %v", c.VMID, c.Addresses)
			}
		case c.Status == sim.Running:
			if running++; !known || slices.Contains(c.Addresses, "127.0.0.1") {
				t.Errorf("%d runs and has %v", c.VMID, c.Addresses)
			}
		default:
			if stopped++; known != static[c.VMID] {
				t.Errorf("%d is stopped and has %v, static %v", c.VMID, c.Addresses, static[c.VMID])
			}
		}
	}
	if running == 0 || stopped == 0 {
		t.Fatalf("%d run and %d don't", running, stopped)
	}
	one := got.Items[slices.IndexFunc(got.Items, func(c *Container) bool { return len(c.Addresses) > 0 })]
	if found := list(Query{Q: one.Addresses[0]}); !slices.Contains(found.Items, one) {
		t.Errorf("%d is not found by %s", one.VMID, one.Addresses[0])
	}
	if calls := ask(); calls != 0 {
		t.Errorf("%d calls for addresses that were just asked for", calls)
	}
	clock.advance(fresh)
	if again := list(Query{}); again.Version != got.Version {
		t.Error("the next reading has lost the addresses")
	}
	clock.advance(addressLife)
	list(Query{})
	if calls := ask(); calls != len(of) {
		t.Errorf("%d calls after a minute, want %d", calls, len(of))
	}
}

func TestShownAddresses(t *testing.T) {
	found := configured(map[string]string{
		"net0": "name=eth0,bridge=vmbr0,gw=10.0.0.1,ip=10.0.0.5/24,ip6=2001:db8::5/64", "net1": "name=eth1,ip=dhcp,ip6=auto", "net2": "name=eth2,ip=10.0.0.4/24",
		"mp0": "/srv,mp=/srv,ip=10.9.9.9/24", "net3": "ip=127.0.0.1/8,ip6=fe80::1/64", "net4": "ip=10.0.0.4/8",
	})
	if got := shownAddresses(found); !slices.Equal(got, []string{"10.0.0.4", "10.0.0.5", "2001:db8::5"}) {
		t.Errorf("%v", got)
	}
	var many []netip.Addr
	for i := range 100 {
		many = append(many, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	if got := shownAddresses(many); len(got) != maxAddresses {
		t.Errorf("%d addresses", len(got))
	}
}
