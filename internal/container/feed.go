package container

import (
	"slices"
	"sync"
	"time"

	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
)

// source is whose containers were read through which node. Nothing read for one identity is shown to another.
type source struct {
	identity session.Identity
	node     string
}

// door is what a source was read through.
type door struct {
	address    pve.Address
	credential node.Credential
	tokenID    string
	loginHost  string
}

func doorOf(n node.Node) door { return door{n.Address, n.Credential, n.TokenID, n.LoginHost} }

// feed is what is known of a source. What its slices and their containers hold is never changed.
type feed struct {
	source
	door door

	// Of the Service, which guards them.
	kept   int       // bytes
	wanted time.Time // when somebody asked for it last

	mu     sync.Mutex
	guests reader
	tasks  reader
	// base are the guests of the last reading that worked, by VMID; at is when that was, zero before the first.
	base   []*Container
	at     time.Time
	weight int
	// overlays are what was learnt of single containers since.
	overlays map[int]overlay
	// work are the tasks of the last reading of theirs that worked, newest first; touched are the guests that tasks have
	// begun or ended to change since somebody last looked into that.
	work       []pve.Task
	workWeight int
	touched    []touched
	// hinted are guests that other replicas say were changed; asked are closed when guests that are being asked have answered.
	hinted []int
	asked  []chan struct{}
	// addresses are those that were asked for, by VMID; lookups those that are to be asked for, lookers how many ask.
	addresses map[int]address
	lookups   []lookup
	lookers   int
	looking   chan struct{} // closed when none is to be asked for any more; nil while nobody asks
	lookedAt  time.Time     // when one was asked for first
	laidAt    time.Time     // when addresses were laid over the rows last
	// rows are the guests as they are shown: base, with what else is known laid over it; laid is how many are not base's.
	rows []*Container
	laid int
	// Counted up when rows or the trouble have changed, and when the tasks have.
	revision, workRevision uint64
}

// reader is how reading one thing of a source goes.
type reader struct {
	tried    time.Time
	failures int   // in a row
	err      error // of the last try, if the node is to blame
	known    bool  // whether any try worked
	hinted   bool  // another replica has found something else since it was begun last
	flight   *flight
}

// flight is a reading under way.
type flight struct {
	caller session.Caller // whose credential it goes with
	begun  time.Time
	done   chan struct{}
	// err is set when the reading says nothing of the node: the caller's session has ended, there is no such node, Berth
	// ends. It may be read when done is closed.
	err error
}

// overlay is a container's own word on how it is (status/current), which is ahead of the list of resources.
type overlay struct {
	status pve.Container
	at     time.Time
}

const (
	// overlayLife is how long an overlay holds at most: members report to each other every 10 s, so that what is listed
	// after this is newer for certain.
	overlayLife = 20 * time.Second
	// maxOverlays bounds the overlays of a feed.
	maxOverlays = 256
	// rateSpan is the longest time between two readings whose difference still is a rate.
	rateSpan = 2 * time.Minute
)

// pause is how long what was read is shared, or a node that failed is left alone.
func (r *reader) pause() time.Duration {
	if r.failures == 0 || r.hinted {
		return fresh
	}
	return min(firstPause<<min(r.failures-1, 8), lastPause)
}

// take accepts a reading. It tells whether the rows have changed.
func (f *feed) take(read *collection, now time.Time) {
	next := read.guests()
	old := f.base
	f.keepAddresses(next)
	for i, c := range next {
		if a := f.addresses[c.VMID]; len(a.list) > 0 && !slices.Equal(a.list, c.Addresses) {
			row := *c // which may be shown already
			row.Addresses = a.list
			c, next[i] = &row, &row
		}
		for len(old) > 0 && old[0].VMID < c.VMID {
			old = old[1:]
		}
		if len(old) == 0 || old[0].VMID != c.VMID || old[0] == c {
			continue
		}
		c.rate(old[0])
		if c.equal(old[0]) {
			next[i] = old[0]
		}
	}
	f.base, f.at, f.weight = next, now, read.weight()
	for vmid, o := range f.overlays {
		if i, ok := slices.BinarySearchFunc(next, &Container{VMID: vmid}, byVMID); !ok || next[i].Status == o.status.Status || now.Sub(o.at) >= overlayLife {
			delete(f.overlays, vmid)
		}
	}
	f.lay()
}

// rate fills in what a container sent and received each second since an earlier reading. Its counters and its uptime are
// reported together, so that they tell the time between two reports better than any clock of Berth's.
func (c *Container) rate(earlier *Container) {
	span := c.Uptime - earlier.Uptime
	switch {
	case c.Kind != earlier.Kind || span < 0 || span > int64(rateSpan/time.Second) || c.received < earlier.received || c.sent < earlier.sent:
		// It was started again, or not looked at for long.
	case span == 0:
		if c.received == earlier.received && c.sent == earlier.sent {
			c.NetIn, c.NetOut = earlier.NetIn, earlier.NetOut
		}
	default:
		c.NetIn, c.NetOut = (c.received-earlier.received)/span, (c.sent-earlier.sent)/span
	}
}

// lay makes the rows anew, of those that have not changed the same ones.
func (f *feed) lay() {
	running := f.running()
	before, old := f.rows, f.rows
	rows := f.base
	f.laid = 0
	if len(f.overlays)+len(running)+len(f.addresses) > 0 {
		rows = make([]*Container, 0, len(f.base))
		for _, c := range f.base {
			o, over := f.overlays[c.VMID]
			task := running[c.VMID]
			addresses := c.Addresses
			if a := f.addresses[c.VMID]; a.list != nil {
				addresses = a.list
			}
			if over || task != nil || !slices.Equal(addresses, c.Addresses) {
				c = c.with(o, over, task, addresses)
				f.laid++
				for len(old) > 0 && old[0].VMID < c.VMID {
					old = old[1:]
				}
				if len(old) > 0 && old[0].equal(c) {
					c = old[0]
				}
			}
			rows = append(rows, c)
		}
	}
	f.rows = rows
	if !slices.Equal(before, rows) {
		f.revision++
	}
}

// heavy is about how many bytes the feed takes.
func (f *feed) heavy() int {
	return f.weight + f.workWeight + f.laid*containerSize + len(f.addresses)*addressSize
}

// with is a copy of a container with what else is known of it.
func (c *Container) with(o overlay, over bool, task *RunningTask, addresses []string) *Container {
	row := *c
	row.Task, row.Addresses = task, addresses
	if over {
		row.Status, row.CPU, row.Mem, row.Disk = o.status.Status, o.status.CPU, o.status.Mem, o.status.Disk
		row.Uptime = int64(o.status.Uptime / time.Second)
		if row.Status != c.Status {
			row.NetIn, row.NetOut = 0, 0
		}
	}
	return &row
}

// running are the changes that are at work on guests.
func (f *feed) running() map[int]*RunningTask {
	var all map[int]*RunningTask
	for _, t := range f.work {
		if vmid, ok := changes(t); ok && t.Running {
			if all == nil {
				all = map[int]*RunningTask{}
			}
			all[vmid] = &RunningTask{UPID: t.UPID.String(), Type: t.UPID.Type, User: t.UPID.User, Started: t.UPID.Start}
		}
	}
	return all
}
