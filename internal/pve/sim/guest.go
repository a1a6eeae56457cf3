package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The kinds of guests, as in the type field of cluster/resources.
const (
	kindContainer = "lxc"
	kindVM        = "qemu"
)

// Guest states, as PVE spells them.
const (
	Running = "running"
	Stopped = "stopped"
)

// Container describes an LXC guest to AddContainer, and is what Container returns. Only VMID is required.
type Container struct {
	VMID        int
	Node        string // the member that it is on; default the first
	Name        string // host name; default CT<vmid>, as PVE itself names the nameless
	Status      string // Running or Stopped, which is the default
	Uptime      time.Duration
	OSType      string            // debian, alpine, ubuntu ...; default debian
	Tags        string            // separated by semicolons
	Description string            // Markdown
	Cores       int               // default 1
	Memory      int               // MiB; default 512
	Swap        int               // MiB; default 512
	Disk        int               // GiB; default 8
	Mounts      map[string]string // more mount points as in the configuration: "mp0": "/tank/media,mp=/media"
	Lock        string            // backup, snapshot, migrate ...
	Template    bool
	Privileged  bool
	Protected   bool
	OnBoot      bool
	// ShutdownTime is how long its services take to stop; by default a few seconds that depend on the seed.
	ShutdownTime time.Duration
}

// guest is a container or a VM. Everything is guarded by the datacenter's lock.
type guest struct {
	vmid    int
	kind    string
	node    string
	conf    config
	seed    uint64
	load    load
	started time.Time // zero while stopped
	pid     int
	runs    []run // earlier runs, oldest first: what the history graphs show

	// What the configuration says, read once per change by derive.
	name                     string
	cpus                     float64
	maxmem, maxswap, maxdisk int64
	tags, lock               string
	template                 bool

	pending config // changes that wait for the next start; "" deletes

	worker    *task  // the task that holds the flock on the configuration
	failStart string // how the next start fails, "" if it doesn't
	known     *known // what the last refresh of cluster/resources saw; nil before the first
}

// run is a time during which a guest was running.
type run struct{ from, to time.Time }

// maxRuns bounds a guest's remembered runs; nobody looks at more in a graph.
const maxRuns = 64

func (g *guest) running() bool { return !g.started.IsZero() }

func (g *guest) status() string {
	if g.running() {
		return Running
	}
	return Stopped
}

// start and stop change the state at an instant; both do nothing if it is so already.
func (g *guest) start(at time.Time, pid int) {
	if !g.running() {
		g.started, g.pid = at, pid
	}
}

func (g *guest) stop(at time.Time) {
	if !g.running() {
		return
	}
	if len(g.runs) == maxRuns {
		g.runs = slices.Delete(g.runs, 0, 1)
	}
	g.runs = append(g.runs, run{g.started, at})
	g.started, g.pid = time.Time{}, 0
}

// ranWithin tells whether it was running at any time between two instants.
func (g *guest) ranWithin(from, to time.Time) bool {
	if g.running() && g.started.Before(to) {
		return true
	}
	return slices.ContainsFunc(g.runs, func(r run) bool { return r.from.Before(to) && r.to.After(from) })
}

// id is how cluster/resources names it.
func (g *guest) id() string { return g.kind + "/" + strconv.Itoa(g.vmid) }

// checkLock is PVE::AbstractConfig::check_lock (pve-guest-common).
func (g *guest) checkLock() error {
	if g.lock != "" {
		return fmt.Errorf("CT is locked (%s)", g.lock)
	}
	return nil
}

// derive reads the configuration into the fields that figures and lists are made of. It must be called after each
// change. The defaults are those of pve-container's PVE::LXC::vmstatus.
func (g *guest) derive(hostCPUs int) {
	g.tags, g.lock, g.template = g.conf["tags"], g.conf["lock"], g.conf["template"] == "1"
	g.cpus = g.conf.number("cores", float64(hostCPUs))
	g.maxmem = int64(g.conf.number("memory", 512)) * mebibyte
	g.maxswap = int64(g.conf.number("swap", 0)) * mebibyte
	disk := "rootfs"
	g.name = g.conf["hostname"]
	if g.kind == kindVM {
		g.name, disk = g.conf["name"], "scsi0"
	}
	if g.name == "" {
		g.name = "CT" + strconv.Itoa(g.vmid)
	}
	g.maxdisk = volumeSize(g.conf[disk])
	if g.maxdisk == 0 {
		g.maxdisk = 4 * gibibyte
	}
}

// volumeSize reads the size of a volume from its configuration line: "local-lvm:vm-101-disk-0,size=8G".
func volumeSize(line string) int64 {
	for option := range strings.SplitSeq(line, ",") {
		text, ok := strings.CutPrefix(option, "size=")
		if !ok || text == "" {
			continue
		}
		unit := int64(1)
		if i := strings.IndexByte("KMGT", text[len(text)-1]); i >= 0 {
			unit, text = int64(1)<<(10*(i+1)), text[:len(text)-1]
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0
		}
		return n * unit
	}
	return 0
}

// guest finds a guest of one kind on one member; the error is PVE::AbstractConfig::load_config's for a missing one.
func (d *Datacenter) guest(node, kind string, vmid int) (*guest, error) {
	if g := d.guests.byID[vmid]; g != nil && g.node == node && g.kind == kind {
		return g, nil
	}
	folder := "lxc"
	if kind == kindVM {
		folder = "qemu-server"
	}
	return nil, plain(fmt.Sprintf("Configuration file 'nodes/%s/%s/%d.conf' does not exist", node, folder, vmid))
}

// insert adds a guest to the datacenter's list, which is kept in the order of VMIDs.
func (d *Datacenter) insert(g *guest) error {
	s := &d.guests
	if s.byID[g.vmid] != nil {
		return fmt.Errorf("VM %d already exists", g.vmid)
	}
	g.seed = d.seedOf(strconv.Itoa(g.vmid))
	g.load = newLoad(g.seed)
	g.derive(s.capacity.cpus)
	s.byID[g.vmid] = g
	at, _ := slices.BinarySearchFunc(s.sorted, g.vmid, func(o *guest, vmid int) int { return cmp.Compare(o.vmid, vmid) })
	s.sorted = slices.Insert(s.sorted, at, g)
	s.changes++
	return nil
}

// remove takes a guest off the list.
func (d *Datacenter) remove(g *guest) {
	s := &d.guests
	delete(s.byID, g.vmid)
	s.sorted = slices.DeleteFunc(s.sorted, func(o *guest) bool { return o == g })
	s.changes++
}

// AddContainer puts a container into the datacenter as if it had always been there: the next answer of any endpoint
// knows it. It fails on a VMID that is taken or out of PVE's range, and on an unknown member.
func (d *Datacenter) AddContainer(c Container) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.settled()
	return d.addContainer(c, now)
}

func (d *Datacenter) addContainer(c Container, now time.Time) error {
	if c.VMID < 100 || c.VMID > 999999999 {
		return fmt.Errorf("container %d: a VMID is from 100 to 999999999", c.VMID)
	}
	if c.Node == "" {
		c.Node = d.members[0].name
	}
	m := d.member(c.Node)
	if m == nil {
		return fmt.Errorf("container %d: no member %q", c.VMID, c.Node)
	}
	if c.Status != "" && c.Status != Running && c.Status != Stopped {
		return fmt.Errorf("container %d: status %q is neither running nor stopped", c.VMID, c.Status)
	}
	g := &guest{vmid: c.VMID, kind: kindContainer, node: c.Node, conf: newConfig(c)}
	if err := d.insert(g); err != nil {
		return err
	}
	if c.ShutdownTime > 0 {
		g.load.shutdownFor = c.ShutdownTime
	}
	if c.Status == Running {
		g.start(now.Add(-c.Uptime), d.guests.nextPID(m.name))
	}
	g.refresh(now)
	return nil
}

// Container returns a container as it is now, and whether there is one.
func (d *Datacenter) Container(vmid int) (Container, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.settled()
	g := d.guests.byID[vmid]
	if g == nil || g.kind != kindContainer {
		return Container{}, false
	}
	c := Container{
		VMID: g.vmid, Node: g.node, Name: g.name, Status: g.status(),
		OSType: g.conf["ostype"], Tags: g.tags, Description: strings.TrimSuffix(g.conf["description"], "\n"),
		Cores: int(g.cpus), Memory: int(g.maxmem / mebibyte), Swap: int(g.maxswap / mebibyte), Disk: int(g.maxdisk / gibibyte),
		Mounts: map[string]string{}, Lock: g.lock, Template: g.template,
		Privileged: g.conf["unprivileged"] != "1", Protected: g.conf["protection"] == "1", OnBoot: g.conf["onboot"] == "1",
		ShutdownTime: g.load.shutdownFor,
	}
	for key, line := range g.conf {
		if strings.HasPrefix(key, "mp") {
			c.Mounts[key] = line
		}
	}
	if g.running() {
		c.Uptime = now.Sub(g.started)
	}
	return c, true
}

// SetContainerStatus starts or stops a container at once and without a task, as somebody does who works inside it or on
// the host's own command line. cluster/resources shows it from its next refresh on.
func (d *Datacenter) SetContainerStatus(vmid int, status string) error {
	return d.changeContainer(vmid, func(g *guest, now time.Time) error {
		switch status {
		case Running:
			g.start(now, d.guests.nextPID(g.node))
		case Stopped:
			g.stop(now)
		default:
			return fmt.Errorf("status %q is neither running nor stopped", status)
		}
		return nil
	})
}

// LockContainer sets the lock of a container's configuration, such as "backup"; "" takes it away (pct unlock).
func (d *Datacenter) LockContainer(vmid int, lock string) error {
	return d.changeContainer(vmid, func(g *guest, _ time.Time) error {
		g.conf.set("lock", lock)
		return nil
	})
}

// FailNextStart makes a container's next start or reboot end in a failed task whose error is line, or PVE's own
// "startup for container '104' failed" if line is empty.
func (d *Datacenter) FailNextStart(vmid int, line string) error {
	return d.changeContainer(vmid, func(g *guest, _ time.Time) error {
		g.failStart = cmp.Or(line, fmt.Sprintf("startup for container '%d' failed", vmid))
		return nil
	})
}

func (d *Datacenter) changeContainer(vmid int, change func(*guest, time.Time) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.settled()
	g := d.guests.byID[vmid]
	if g == nil || g.kind != kindContainer {
		return fmt.Errorf("no container %d", vmid)
	}
	if err := change(g, now); err != nil {
		return fmt.Errorf("container %d: %w", vmid, err)
	}
	d.changed(g)
	return nil
}

// changed must be called after a change of a guest's configuration.
func (d *Datacenter) changed(g *guest) {
	g.derive(d.guests.capacity.cpus)
	d.guests.changes++
}
