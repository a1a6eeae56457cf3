package sim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// refreshInterval is how often pvestatd reports a member's figures to the cluster (pve-manager, PVE/Service/pvestatd.pm,
// $updatetime). Between two reports cluster/resources shows the same.
const refreshInterval = 10 * time.Second

// known is what a report said of a guest. Its lock and tags are no part of it: cluster/resources reads them from the
// configuration.
type known struct {
	status string
	guestReport
}

func (g *guest) refresh(now time.Time) {
	k := &known{g.status(), guestReport{
		Name: g.name, Template: number(g.template), MaxCPU: g.cpus, MaxMem: g.maxmem, MaxDisk: g.maxdisk, figures: g.figures(now),
	}}
	k.CPU = math.Round(k.CPU*1e6) / 1e6
	k.MemHost = k.Mem
	g.known = k
}

// settle brings the datacenter to an instant: everything that was due by then has happened, and cluster/resources has
// been refreshed as of the last tick. A clock that goes back changes nothing. The datacenter's lock must be held.
func (d *Datacenter) settle(now time.Time) {
	s := &d.guests
	s.init(d)
	if now.Before(s.settled) {
		return
	}
	interval := cmp.Or(d.options.Refresh, refreshInterval)
	if tick := now.Truncate(interval); tick.After(s.tick) {
		d.advance(tick)
		for _, g := range s.sorted {
			if m := d.member(g.node); m != nil && m.online() {
				g.refresh(tick)
			} else {
				g.known = nil // reports of a member that is gone are dropped (pmxcfs, status.c)
			}
		}
		s.tick = tick
	}
	d.advance(now)
	s.settled = now
}

// settled settles at the present, which it returns.
func (d *Datacenter) settled() time.Time {
	now := d.now()
	d.settle(now)
	return now
}

func resourceEndpoints() []endpoint {
	return []endpoint{
		{
			method: "GET", path: "/cluster/resources", run: listResources,
			params: []param{{name: "type", kind: "string", enum: []string{"vm", "storage", "node", "sdn"}}},
		},
		{
			method: "GET", path: "/cluster/nextid", run: nextID,
			params: []param{{name: "vmid", kind: "integer", min: 100, max: 999999999}},
		},
		{
			method: "GET", path: "/nodes/{node}/status", run: showNode,
			check: onNode("Sys.Audit"),
		},
	}
}

func onNode(privilege string) func(*call) error {
	return func(c *call) error { return c.need("/nodes/"+c.param("node"), privilege) }
}

// resource is what all entries of cluster/resources have. Each kind has a type of its own around it, as in PVE::API2Tools:
// extract_vm_stats, extract_node_stats and extract_storage_stats. What nobody reported is left out.
type resource struct {
	ID     string `json:"id"`
	Type   string `json:"type"`
	Node   string `json:"node"`
	Status string `json:"status"`
}

type guestResource struct {
	resource
	VMID int    `json:"vmid"`
	Lock string `json:"lock,omitempty"`
	Tags string `json:"tags,omitempty"`
	*guestReport
}

type guestReport struct {
	Name     string  `json:"name"`
	Template int     `json:"template"`
	MaxCPU   float64 `json:"maxcpu"`
	MaxMem   int64   `json:"maxmem"`
	MaxDisk  int64   `json:"maxdisk"`
	figures
	MemHost int64 `json:"memhost"`
}

type nodeResource struct {
	resource
	Level      string `json:"level"`
	CGroupMode int    `json:"cgroup-mode"`
	*nodeReport
}

type nodeReport struct {
	MaxCPU  int     `json:"maxcpu"`
	MaxMem  int64   `json:"maxmem"`
	MaxDisk int64   `json:"maxdisk"`
	CPU     float64 `json:"cpu"`
	Mem     int64   `json:"mem"`
	Disk    int64   `json:"disk"`
	Uptime  int64   `json:"uptime"`
}

type storageResource struct {
	resource
	Storage    string `json:"storage"`
	PluginType string `json:"plugintype"`
	Content    string `json:"content"`
	Shared     int    `json:"shared"`
	*storageReport
}

type storageReport struct {
	MaxDisk int64 `json:"maxdisk"`
	Disk    int64 `json:"disk"`
}

type networkResource struct {
	resource
	SDN string `json:"sdn"`
}

// resourceCache holds the entries of cluster/resources encoded, so that many viewers cost one encoding per refresh.
// Permissions are asked per call.
type resourceCache struct {
	key      resourceKey
	guests   []cachedResource
	nodes    []cachedResource // with their figures
	bare     []cachedResource // the same for whoever may not audit them
	storages []cachedResource
	zones    []cachedResource
}

type cachedResource struct {
	path string // the ACL path that decides who sees it
	json json.RawMessage
}

// resourceKey is what the cached entries were made from.
type resourceKey struct {
	tick    time.Time
	changes uint64 // of configurations and the list of guests
	online  string
}

func (d *Datacenter) resources() *resourceCache {
	s := &d.guests
	online := make([]byte, len(d.members))
	for i, m := range d.members {
		online[i] = byte(number(m.online()))
	}
	key := resourceKey{s.tick, s.changes, string(online)}
	if s.resources != nil && s.resources.key == key {
		return s.resources
	}
	r := &resourceCache{key: key}
	for _, g := range s.sorted {
		r.guests = append(r.guests, encoded("/vms/"+strconv.Itoa(g.vmid), g.resource()))
	}
	for _, m := range d.members {
		path := "/nodes/" + m.name
		r.nodes = append(r.nodes, encoded(path, d.nodeResource(m, true)))
		r.bare = append(r.bare, encoded(path, d.nodeResource(m, false)))
		r.zones = append(r.zones, encoded("/sdn/zones/localnetwork", networkResource{
			resource{ID: "sdn/" + m.name + "/localnetwork", Type: "sdn", Node: m.name, Status: "ok"}, "localnetwork",
		}))
	}
	for _, storage := range d.guests.storages {
		for _, m := range d.members {
			if !storage.disabled {
				r.storages = append(r.storages, encoded("/storage/"+storage.id, d.storageResource(storage, m)))
			}
		}
	}
	s.resources = r
	return r
}

func encoded(path string, entry any) cachedResource {
	text, err := json.Marshal(entry)
	if err != nil {
		panic(fmt.Sprintf("sim: encoding an entry for %s: %v", path, err)) // plain structs always encode
	}
	return cachedResource{path, text}
}

func (g *guest) resource() guestResource {
	r := guestResource{
		resource: resource{ID: g.id(), Type: g.kind, Node: g.node, Status: "unknown"},
		VMID:     g.vmid, Lock: g.lock, Tags: g.tags,
	}
	if k := g.known; k != nil {
		r.Status, r.guestReport = k.status, &k.guestReport
	}
	return r
}

func (d *Datacenter) nodeResource(m *member, figures bool) nodeResource {
	r := nodeResource{resource: resource{ID: "node/" + m.name, Type: "node", Node: m.name, Status: "online"}, CGroupMode: 2}
	if !m.online() {
		r.Status = "offline"
		return r
	}
	if figures {
		tick := d.guests.tick
		u := d.nodeLoad(m).use(tick, tick, false)
		r.nodeReport = &nodeReport{
			MaxCPU: u.cpus, MaxMem: u.memory, MaxDisk: u.rootfs,
			CPU: u.cpu, Mem: u.memoryUsed, Disk: u.rootfsUsed, Uptime: max(0, m.uptime(tick)),
		}
	}
	return r
}

func (d *Datacenter) storageResource(s storage, m *member) storageResource {
	r := storageResource{
		resource: resource{ID: "storage/" + m.name + "/" + s.id, Type: "storage", Node: m.name, Status: "unknown"},
		Storage:  s.id, PluginType: s.plugin, Content: strings.Join(s.content, ","), Shared: number(s.shared),
	}
	if m.online() {
		r.Status = "available"
		r.storageReport = &storageReport{MaxDisk: s.total, Disk: d.storageUsed(s, m.name, d.guests.tick)}
	}
	return r
}

// listResources is PVE::API2::Cluster resources.
func listResources(c *call) (any, error) {
	c.dc.settle(c.dc.now())
	r, kind := c.dc.resources(), c.param("type")
	all := make([]json.RawMessage, 0, len(r.guests)+len(r.nodes)+len(r.storages)+len(r.zones))
	show := func(entries []cachedResource, privileges ...string) {
		for _, e := range entries {
			if c.dc.canAny(c.who, e.path, privileges...) {
				all = append(all, e.json)
			}
		}
	}
	if kind == "" || kind == "vm" {
		show(r.guests, "VM.Audit")
	}
	if kind == "" || kind == "node" {
		for i, e := range r.nodes {
			if !c.dc.can(c.who, e.path, "Sys.Audit") {
				e = r.bare[i]
			}
			all = append(all, e.json)
		}
	}
	if kind == "" || kind == "storage" {
		show(r.storages, "Datastore.Audit", "Datastore.AllocateSpace")
	}
	if kind == "" || kind == "sdn" {
		show(r.zones, "SDN.Audit", "SDN.Use", "SDN.Allocate")
	}
	return all, nil
}

// nextID is PVE::API2::Cluster nextid. It looks at every guest, whoever asks.
func nextID(c *call) (any, error) {
	c.dc.settle(c.dc.now())
	taken := c.dc.guests.byID
	if c.has("vmid") {
		vmid := c.vmid()
		if taken[vmid] != nil {
			return nil, badParam("vmid", fmt.Sprintf("VM %d already exists", vmid))
		}
		return vmid, nil
	}
	vmid := 100
	for taken[vmid] != nil {
		vmid++
	}
	return vmid, nil
}

// showNode is PVE::API2::Nodes status.
func showNode(c *call) (any, error) {
	now := c.dc.settled()
	m := c.dc.member(c.param("node"))
	u := c.dc.nodeLoad(m).use(now, now, false)
	space := func(total, used int64) map[string]any {
		return map[string]any{"total": total, "used": used, "free": total - used, "avail": total - used, "available": total - used}
	}
	load := func(share float64) string { return strconv.FormatFloat(u.load*share, 'f', 2, 64) }
	return map[string]any{
		"cpu": u.cpu, "wait": u.iowait, "idle": 0, "uptime": max(0, m.uptime(now)),
		"loadavg": []string{load(1), load(0.96), load(0.93)},
		"memory":  space(u.memory, u.memoryUsed), "rootfs": space(u.rootfs, u.rootfsUsed), "swap": space(u.swap, u.swapUsed),
		"ksm": map[string]any{"shared": 0},
		"cpuinfo": map[string]any{
			"cores": u.cpus / 2, "cpus": u.cpus, "sockets": 1, "model": "AMD Ryzen 7 5700G with Radeon Graphics",
			"mhz": "3793.000", "hvm": "1", "user_hz": 100,
		},
		"current-kernel": map[string]any{
			"sysname": "Linux", "release": "6.14.11-4-pve", "machine": "x86_64",
			"version": "#1 SMP PREEMPT_DYNAMIC PMX 6.14.11-4 (2025-10-10T08:04Z)",
		},
		"kversion":   "Linux 6.14.11-4-pve #1 SMP PREEMPT_DYNAMIC PMX 6.14.11-4 (2025-10-10T08:04Z)",
		"boot-info":  map[string]any{"mode": "efi", "secureboot": 0},
		"pveversion": "pve-manager/" + version + "/" + repoID,
	}, nil
}
