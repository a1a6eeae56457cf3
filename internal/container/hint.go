package container

import (
	"context"
	"slices"
	"time"

	"berth/internal/pve"
	"berth/internal/session"
)

// Hints tells the other replicas what was found out here, so that they look as well. Its methods must not wait, and may lose
// what they are told. One replica alone has none.
type Hints interface {
	// Read says that a list of a node, which is by its id, shows something else than before, and not only other figures.
	Read(node string, what Subject)
	// Touched says that a guest of a node was changed, by Berth or by a task.
	Touched(node string, vmid int)
}

// Subject is one thing that is read of a node again and again.
type Subject string

// The subjects.
const (
	Guests    Subject = "containers"
	TaskLists Subject = "tasks"
)

// Subjects are all there are.
var Subjects = []Subject{Guests, TaskLists}

const (
	// A node is read at once for a hint, up to hintBurst times and then once in hintGap.
	hintBurst = 4
	hintGap   = 500 * time.Millisecond
	// hintLag is how much later than by itself a node is read that was read because of a hint. So of several replicas one is
	// ahead, and the others follow it rather than ask at the same moment.
	hintLag = 500 * time.Millisecond
	// maxHinted is how many guests are asked in one go for being named by other replicas.
	maxHinted = 8
	// maxEarly bounds the nodes whose guests were named before anybody asked for the nodes here.
	maxEarly = 1000
)

// early are guests of a node that other replicas have named, and that nobody has asked for here.
type early struct {
	guests []int
	at     time.Time
}

// Tell sets who is told what was found out. It must be called before the first reading.
func (s *Service) Tell(h Hints) { s.hints = h }

// HeardRead takes the hint of another replica that a list shows something else there: what was read here is old.
func (s *Service) HeardRead(node string, what Subject) {
	subject := guestList
	if what == TaskLists {
		subject = taskList
	}
	s.mu.Lock()
	f := s.byNode[node]
	s.mu.Unlock()
	if f != nil {
		s.doubt(f, subject, nil)
	}
}

// HeardTouched takes the hint of another replica that a guest was changed: the guest itself is asked, with the credential of
// whoever watches or looks.
func (s *Service) HeardTouched(node string, vmid int) {
	s.mu.Lock()
	f := s.byNode[node]
	if f == nil {
		s.noteEarly(node, vmid)
	}
	s.mu.Unlock()
	if f != nil {
		s.doubt(f, taskList, &vmid)
	}
}

// noteEarly keeps a guest for who asks for its node first: Proxmox VE's list may not show yet what was changed.
func (s *Service) noteEarly(node string, vmid int) {
	e := s.early[node]
	if e == nil {
		if len(s.early) >= maxEarly {
			return
		}
		e = &early{}
		s.early[node] = e
	}
	e.at = s.now()
	e.guests = named(e.guests, vmid)
}

// takeEarly returns what noteEarly has kept of a node.
func (s *Service) takeEarly(node string) []int {
	e := s.early[node]
	delete(s.early, node)
	if e == nil || s.now().Sub(e.at) > overlayLife {
		return nil
	}
	return e.guests
}

// named adds a guest, unless it is there or there are too many.
func named(guests []int, vmid int) []int {
	if len(guests) >= maxTouched || slices.Contains(guests, vmid) {
		return guests
	}
	return append(guests, vmid)
}

// doubt has a subject of a feed read again, soon if anybody watches, else when somebody asks. What fails here is left alone no
// longer than what works: another replica could read of that node.
func (s *Service) doubt(f *feed, what subject, vmid *int) {
	f.mu.Lock()
	if vmid != nil {
		f.hinted = named(f.hinted, *vmid)
	}
	var doubted []Subject
	for _, one := range []subject{guestList, taskList} {
		if r := one.reader(f); one.name == what.name || r.failures > 0 {
			r.hinted = true
			doubted = append(doubted, one.name)
		}
	}
	f.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pollers[f.identity][f.node]; p != nil {
		for _, name := range doubted {
			signal(p.heard[name])
		}
	}
}

// differ tells whether rows show anything else than others, figures left out that change all the time.
func differ(before, after []*Container) bool {
	return !slices.EqualFunc(before, after, func(a, b *Container) bool {
		if a == b {
			return true
		}
		c := *a
		c.CPU, c.Mem, c.Disk, c.NetIn, c.NetOut, c.Uptime = b.CPU, b.Mem, b.Disk, b.NetIn, b.NetOut, b.Uptime
		return c.equal(b)
	})
}

// allowance is how many readings hints may lead to just now.
type allowance struct {
	left   int
	filled time.Time // when it was filled up last
}

// take takes one, or returns how long to wait for it.
func (a *allowance) take(now time.Time) time.Duration {
	if gaps := now.Sub(a.filled) / hintGap; gaps > 0 {
		a.left, a.filled = min(hintBurst, a.left+int(min(gaps, hintBurst))), now
	}
	if a.left == 0 {
		return hintGap - now.Sub(a.filled)
	}
	a.left--
	return 0
}

// hintedAt tells whether a hint about a subject waits.
func (f *feed) hintedAt(what subject) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return what.reader(f).hinted
}

// takeGuests returns the guests that are to be asked for their own word: those that tasks have changed, and some of those that
// other replicas have named, and notes that they are being asked; nil if there are none. What was there for longer comes first.
func (f *feed) takeGuests() (own, hinted []touched, asked chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	own, f.touched = f.touched, nil
	n := 0
	// While nothing was read nobody knows on which member they are, and a node that fails would be asked in vain.
	if f.guests.known && f.guests.failures == 0 {
		n = min(len(f.hinted), maxHinted)
	}
	for _, vmid := range f.hinted[:n] {
		if slices.ContainsFunc(own, func(t touched) bool { return t.vmid == vmid }) {
			continue
		}
		guest := touched{vmid: vmid}
		if i, ok := slices.BinarySearchFunc(f.base, &Container{VMID: vmid}, byVMID); ok {
			guest.member = f.base[i].Node
		}
		hinted = append(hinted, guest)
	}
	f.hinted = slices.Clone(f.hinted[n:])
	if len(own)+len(hinted) == 0 {
		return nil, nil, nil
	}
	asked = make(chan struct{})
	f.asked = append(f.asked, asked)
	return own, hinted, asked
}

// moreHinted tells whether guests wait that other replicas have named, of a node that works.
func (f *feed) moreHinted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.hinted) > 0 && f.tasks.failures+f.guests.failures == 0
}

// answered notes that guests were asked.
func (f *feed) answered(asked chan struct{}) {
	f.mu.Lock()
	f.asked = slices.DeleteFunc(f.asked, func(c chan struct{}) bool { return c == asked })
	f.mu.Unlock()
	close(asked)
}

// askHinted asks the guests that other replicas have named, and waits a moment for their answers and for those that are on
// their way already.
func (s *Service) askHinted(ctx context.Context, caller session.Caller, feeds []*feed) {
	if s.hints == nil {
		return
	}
	var waits []chan struct{}
	for _, f := range feeds {
		if f == nil {
			continue
		}
		f.mu.Lock()
		named := len(f.hinted) > 0 && f.guests.failures == 0
		waits = append(waits, f.asked...)
		f.mu.Unlock()
		if named && s.enter() {
			over := make(chan struct{})
			waits = append(waits, over)
			go func() {
				defer s.active.Done()
				defer close(over)
				// Others may wait for it too.
				s.lookInto(context.WithoutCancel(ctx), []session.Caller{caller}, f)
			}()
		}
	}
	if len(waits) == 0 {
		return
	}
	enough := time.NewTimer(patience)
	defer enough.Stop()
	for _, over := range waits {
		select {
		case <-over:
		case <-enough.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// Watching is who watches by the hash of their name; false if nobody of that name does.
func (s *Service) Watching(identity string) (session.Identity, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, ok := s.watching[identity]
	return of, ok
}

// Relist has the nodes of who watches listed again, soon.
func (s *Service) Relist(of session.Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, signedIn := range []bool{true, false} {
		if fl := s.fleets[audience{of, signedIn}]; fl != nil && len(fl.watches) > 0 {
			signal(fl.relist)
		}
	}
}

// tellTouched tells other replicas of a guest that was changed.
func (s *Service) tellTouched(node string, vmid int) {
	if s.hints != nil && vmid >= pve.MinVMID && vmid <= pve.MaxVMID {
		s.hints.Touched(node, vmid)
	}
}
