package sim

import (
	"hash/fnv"
	"math"
	"time"
)

const (
	mebibyte = int64(1) << 20
	gibibyte = int64(1) << 30
)

// roll is a number in [0,1) that depends on nothing but the seed and what it is for.
func roll(seed uint64, what string) float64 {
	h := fnv.New64a()
	h.Write([]byte(what))
	x := h.Sum64() ^ seed*0x9e3779b97f4a7c15
	// FNV alone spreads short, similar labels badly; this is the finaliser of MurmurHash3.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// between is a roll scaled to [low, high).
func between(seed uint64, what string, low, high float64) float64 {
	return low + (high-low)*roll(seed, what)
}

// wavePeriods are the rhythms in every figure: restless, slow, and the day's. They are primes, so that no two guests
// fall into step.
var wavePeriods = [...]float64{97, 1801, 86400}

var waveShares = [...]float64{0.35, 0.35, 0.3}

// wave is a figure that wanders smoothly around its mean. It is a plain function of the clock: it needs no history, two
// looks at the same instant agree, and it can be integrated exactly, which is what counters and averages need.
type wave struct {
	mean  float64
	swing float64 // greatest deviation as a fraction of the mean; below 1, so that it never turns negative
	phase [len(wavePeriods)]float64
}

func newWave(seed uint64, what string, mean, swing float64) wave {
	w := wave{mean: mean, swing: swing}
	for i := range w.phase {
		w.phase[i] = 2 * math.Pi * roll(seed, what+string(rune('0'+i)))
	}
	return w
}

// at is the figure at one instant.
func (w wave) at(t time.Time) float64 { return w.mean * (1 + w.swing*w.lift(t)) }

// lift is the deviation at one instant, from -1 to 1.
func (w wave) lift(t time.Time) float64 {
	s, sum := seconds(t), 0.0
	for i, period := range wavePeriods {
		sum += waveShares[i] * math.Sin(2*math.Pi*s/period+w.phase[i])
	}
	return sum
}

// total is the integral from one instant to another, in units of the figure times seconds.
func (w wave) total(from, to time.Time) float64 {
	a, b := seconds(from), seconds(to)
	if b <= a {
		return 0
	}
	sum := 0.0
	for i, period := range wavePeriods {
		k := 2 * math.Pi / period
		sum += waveShares[i] * (math.Cos(k*a+w.phase[i]) - math.Cos(k*b+w.phase[i])) / k
	}
	return w.mean * ((b - a) + w.swing*sum)
}

// average is the mean between two instants.
func (w wave) average(from, to time.Time) float64 {
	span := seconds(to) - seconds(from)
	if span <= 0 {
		return w.at(from)
	}
	return w.total(from, to) / span
}

// peak is about the greatest value between two instants, read at points close enough for the fastest rhythm that the
// span can show.
func (w wave) peak(from, to time.Time) float64 {
	most := w.average(from, to)
	const points = 8
	for i := range points + 1 {
		most = max(most, w.at(from.Add(to.Sub(from)*time.Duration(i)/points)))
	}
	return most
}

func seconds(t time.Time) float64 {
	return float64(t.Unix()) + float64(t.Nanosecond())/1e9
}

// load is how one guest, or one member's own system, uses its resources.
type load struct {
	cpu                  wave // fraction of its own CPUs
	mem, swap, disk      wave // fraction of what it was given
	netin, netout        wave // bytes a second
	diskread, diskwrite  wave // bytes a second
	startup, shutdownFor time.Duration
}

func newLoad(seed uint64) load {
	// Squared rolls make most guests idle and a few busy, as they are.
	busy := roll(seed, "busy")
	busy *= busy
	return load{
		cpu:       newWave(seed, "cpu", 0.004+0.4*busy, 0.75),
		mem:       newWave(seed, "mem", between(seed, "memory", 0.18, 0.72), 0.12),
		swap:      newWave(seed, "swap", between(seed, "swapped", 0, 0.08), 0.1),
		disk:      newWave(seed, "disk", between(seed, "filled", 0.15, 0.78), 0.004),
		netin:     newWave(seed, "netin", 600+400e3*busy, 0.9),
		netout:    newWave(seed, "netout", 400+600e3*busy, 0.9),
		diskread:  newWave(seed, "diskread", 200+120e3*busy, 0.95),
		diskwrite: newWave(seed, "diskwrite", 4e3+300e3*busy, 0.9),

		startup:     milliseconds(between(seed, "startup", 900, 2600)),
		shutdownFor: milliseconds(between(seed, "shutdown", 1800, 6500)),
	}
}

func milliseconds(n float64) time.Duration { return time.Duration(n) * time.Millisecond }

// figures are one look at what a guest uses. Counters run since its start, as those of its cgroup and veth devices do.
type figures struct {
	CPU       float64 `json:"cpu"`
	Mem       int64   `json:"mem"`
	Disk      int64   `json:"disk"`
	NetIn     int64   `json:"netin"`
	NetOut    int64   `json:"netout"`
	DiskRead  int64   `json:"diskread"`
	DiskWrite int64   `json:"diskwrite"`
	Uptime    int64   `json:"uptime"`
	swap      int64
}

// figures are all zero for a stopped guest (pve-container, PVE::LXC::vmstatus).
func (g *guest) figures(now time.Time) figures {
	if !g.running() {
		return figures{}
	}
	up := now.Sub(g.started)
	if up < 0 { // the clock was set back
		up = 0
	}
	// A guest that has just started fills its memory over the first minute, and is busier while it boots.
	boot := math.Exp(-up.Seconds() / 12)
	f := figures{
		CPU:       min(1, g.load.cpu.at(now)+0.4*boot),
		Mem:       int64(g.load.mem.at(now) * float64(g.maxmem) * (1 - 0.8*boot)),
		Disk:      int64(g.load.disk.at(now) * float64(g.maxdisk)),
		NetIn:     int64(g.load.netin.total(g.started, now)),
		NetOut:    int64(g.load.netout.total(g.started, now)),
		DiskRead:  int64(g.load.diskread.total(g.started, now)),
		DiskWrite: int64(g.load.diskwrite.total(g.started, now)),
		Uptime:    int64(up / time.Second),
		swap:      int64(g.load.swap.at(now) * float64(g.maxswap)),
	}
	if g.kind == kindVM {
		f.Disk = 0 // nobody can look into a VM's disk (qemu-server, PVE::QemuServer::vmstatus)
	}
	return f
}

// pressure is how long tasks had to wait, in percent of the last ten seconds (/proc/pressure of the guest's cgroup).
type pressure struct {
	CPUSome    float64 `json:"pressurecpusome"`
	IOSome     float64 `json:"pressureiosome"`
	IOFull     float64 `json:"pressureiofull"`
	MemorySome float64 `json:"pressurememorysome"`
	MemoryFull float64 `json:"pressurememoryfull"`
}

func (g *guest) pressure(now time.Time) *pressure {
	if !g.running() {
		return nil
	}
	round := func(v float64) float64 { return math.Round(v*100) / 100 }
	cpu := g.load.cpu.at(now)
	io := g.load.diskwrite.at(now) / 1e6
	return &pressure{CPUSome: round(8 * cpu * cpu), IOSome: round(2 * io), IOFull: round(io)}
}

// capacity is what a member has.
type capacity struct {
	cpus                 int
	memory, swap, rootfs int64
}

// nodeUse is what a member uses: its own system, and the guests that run on it.
type nodeUse struct {
	capacity
	cpu, iowait, load                     float64
	memoryUsed, swapUsed, rootfsUsed, arc int64
	netin, netout                         float64 // bytes a second
}

// nodeLoad is how a member uses what it has. Its means are sums over what its running guests use on average, rather than
// over each guest's own wave, so that a year of history costs no more for a hundred guests than for one.
type nodeLoad struct {
	has                                                         capacity
	cpu, iowait, load, memory, swap, rootfs, arc, netin, netout wave
}

func (d *Datacenter) nodeLoad(m *member) nodeLoad {
	has, seed := d.guests.capacity, d.seedOf(m.name)
	cpus, memory, traffic := 0.0, 2.4*float64(gibibyte), 0.0
	for _, g := range d.guests.sorted {
		if g.node != m.name || !g.running() {
			continue
		}
		cpus += g.load.cpu.mean * g.cpus
		memory += g.load.mem.mean * float64(g.maxmem)
		traffic += g.load.netin.mean + g.load.netout.mean
	}
	return nodeLoad{
		has:    has,
		cpu:    newWave(seed, "cpu", 0.012+cpus/float64(has.cpus), 0.5),
		iowait: newWave(seed, "iowait", 0.004, 0.9),
		load:   newWave(seed, "load", 0.2+cpus, 0.6),
		memory: newWave(seed, "memory", memory, 0.04),
		swap:   newWave(seed, "swap", 0.02*float64(has.swap), 0.2),
		rootfs: newWave(seed, "rootfs", 0.23*float64(has.rootfs), 0.01),
		arc:    newWave(seed, "arc", 0.05*float64(has.memory), 0.1),
		netin:  newWave(seed, "netin", 4e3+0.45*traffic, 0.7),
		netout: newWave(seed, "netout", 3e3+0.55*traffic, 0.7),
	}
}

// use is the average between two instants, or about the greatest value if peak is set.
func (n nodeLoad) use(from, to time.Time, peak bool) nodeUse {
	read := wave.average
	if peak {
		read = wave.peak
	}
	return nodeUse{
		capacity:   n.has,
		cpu:        min(0.98, read(n.cpu, from, to)),
		iowait:     read(n.iowait, from, to),
		load:       read(n.load, from, to),
		memoryUsed: int64(min(0.93*float64(n.has.memory), read(n.memory, from, to))),
		swapUsed:   int64(read(n.swap, from, to)),
		rootfsUsed: int64(read(n.rootfs, from, to)),
		arc:        int64(read(n.arc, from, to)),
		netin:      read(n.netin, from, to),
		netout:     read(n.netout, from, to),
	}
}

// nodeFigures are a member's figures under the names that /nodes and cluster/resources give them. The datacenter's lock
// must be held.
func (d *Datacenter) nodeFigures(m *member, now time.Time) map[string]any {
	d.settle(now)
	u := d.nodeLoad(m).use(now, now, false)
	return map[string]any{
		"cpu": u.cpu, "maxcpu": u.cpus, "mem": u.memoryUsed, "maxmem": u.memory,
		"disk": u.rootfsUsed, "maxdisk": u.rootfs, "uptime": max(0, m.uptime(now)), "level": "",
	}
}

// seedOf is the seed of whatever has this name.
func (d *Datacenter) seedOf(name string) uint64 {
	return d.options.Seed ^ uint64(roll(d.options.Seed, name)*(1<<53))
}
