package sim

import (
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"time"
)

// Options describe a datacenter to New. The zero value is a standalone host "pve1" with the default world.
type Options struct {
	Name    string           // cluster name; "" is a standalone host
	Members []string         // member names; default "pve1"
	Now     func() time.Time // the clock of every member; default time.Now

	// RefusalDelay is how long a 401 is held back after its request began; 0 means PVE's own 3 s, negative means not at
	// all. PVE does this in AnyEvent.pm, handle_api2_request.
	RefusalDelay time.Duration

	// Refresh is how often the members report to each other what cluster/resources shows; 0 means PVE's own 10 s.
	Refresh time.Duration
	// TaskSpeed makes tasks work faster than they would, 100 for a hundred times as fast; 0 means 1.
	TaskSpeed float64

	Containers int    // how many containers the default world has; 0 means its fixed set
	Seed       uint64 // what the default world's figures grow from; equal seeds give equal worlds
	Empty      bool   // no users but root@pam (without a password), no containers: for tests that build their own world
}

// Datacenter is one simulated installation: the members, and what they share. Its methods may be called from any
// goroutine.
type Datacenter struct {
	options Options
	now     func() time.Time
	id      []byte // random; part of everything signed, so that no other datacenter accepts it
	members []*member
	routes  router

	// hold delays an answer; it reports false if the connection's host was closed meanwhile. Tests replace it.
	hold func(done <-chan struct{}, d time.Duration) bool

	hostMu sync.Mutex
	hosts  []*Host // those that listen

	mu     sync.Mutex // serialises endpoint code and guards what follows
	access accessState
	guests guestState
}

// member is one host of a datacenter, whether or not somebody listens in its name.
type member struct {
	name    string
	number  int       // 1 for the first, as in corosync.conf
	started time.Time // guarded by Datacenter.mu
	stopped atomic.Bool
	cert    atomic.Pointer[certificate]
}

func (m *member) certificate() *certificate { return m.cert.Load() }

// address is where the cluster believes the member to be. Nobody can connect to it, which is not rare in real clusters.
func (m *member) address() string { return fmt.Sprintf("192.0.2.%d", m.number) }

var memberName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

// New makes a datacenter that nobody can reach yet; see Listen.
func New(o Options) (*Datacenter, error) {
	if len(o.Members) == 0 {
		o.Members = []string{"pve1"}
	}
	if len(o.Members) > 1 && o.Name == "" {
		return nil, errors.New("a datacenter of several members needs a cluster name")
	}
	if len(o.Members) > 250 {
		return nil, errors.New("a datacenter has at most 250 members")
	}
	d := &Datacenter{options: o, now: o.Now, id: make([]byte, 32), hold: holdFor}
	if d.now == nil {
		d.now = time.Now
	}
	rand.Read(d.id)
	seen := map[string]bool{}
	for i, name := range o.Members {
		if !memberName.MatchString(name) || seen[name] {
			return nil, fmt.Errorf("member name %q is invalid or taken", name)
		}
		seen[name] = true
		cert, err := newCertificate(name, d.now(), nil)
		if err != nil {
			return nil, err
		}
		m := &member{name: name, number: i + 1, started: d.now().Add(-45 * 24 * time.Hour)}
		m.cert.Store(cert)
		d.members = append(d.members, m)
	}
	d.access = newAccessState()
	d.register(accessEndpoints()...)
	d.register(openIDEndpoints()...)
	d.register(clusterEndpoints()...)
	d.register(guestEndpoints()...)
	if !o.Empty {
		d.defaultAccess()
		d.defaultGuests()
	}
	return d, nil
}

// register adds endpoints. It must not run beside requests.
func (d *Datacenter) register(es ...endpoint) {
	for _, e := range es {
		d.routes.add(e)
	}
}

// member finds a member by name; nil if there is none.
func (d *Datacenter) member(name string) *member {
	for _, m := range d.members {
		if m.name == name {
			return m
		}
	}
	return nil
}

// StopMember makes a member unreachable: hosts that listen in its name drop every connection, the other members answer
// its node paths with 595 and call it offline.
func (d *Datacenter) StopMember(name string) error {
	m := d.member(name)
	if m == nil {
		return fmt.Errorf("no member %q", name)
	}
	m.stopped.Store(true)
	d.hostMu.Lock()
	defer d.hostMu.Unlock()
	for _, h := range d.hosts {
		if h.member == m {
			h.dropConnections()
		}
	}
	return nil
}

// StartMember ends what StopMember began; the member's uptime begins anew.
func (d *Datacenter) StartMember(name string) error {
	m := d.member(name)
	if m == nil {
		return fmt.Errorf("no member %q", name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.stopped.Swap(false) {
		m.started = d.now()
	}
	return nil
}

// refusalDelay is how long a refusal of credentials is held back after its request began.
func (d *Datacenter) refusalDelay() time.Duration {
	switch delay := d.options.RefusalDelay; {
	case delay == 0:
		return 3 * time.Second
	default:
		return max(delay, 0)
	}
}

func holdFor(done <-chan struct{}, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-done:
		return false
	}
}
