package pve

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"
)

// Version is what a host runs.
type Version struct {
	Version string // "9.1.1"
	Release string // "9.1"
	RepoID  string
	// ClockSkew is as that of an Error.
	ClockSkew time.Duration
}

// Version asks what the host runs; every user may.
func (h *Host) Version(ctx context.Context, credentials Credentials) (Version, error) {
	c := get(credentials, "version")
	r, a, err := h.object(ctx, c)
	if err != nil {
		return Version{}, err
	}
	v := Version{Version: r.name("version"), Release: r.name("release"), RepoID: r.name("repoid"), ClockSkew: a.skew}
	if v.Version == "" {
		return Version{}, h.notProxmox(c, a, "the answer has no version")
	}
	return v, nil
}

// ResourceKind selects what Resources lists.
type ResourceKind string

// The values of the parameter type of cluster/resources.
const (
	AllResources     ResourceKind = ""
	GuestResources   ResourceKind = "vm" // containers and virtual machines
	NodeResources    ResourceKind = "node"
	StorageResources ResourceKind = "storage"
)

// Resource is an entry of cluster/resources: a guest, a member, a storage or a pool. Fields that its type doesn't have
// are zero; so are figures that the user may not see, and those of a member that is offline.
type Resource struct {
	ID     string // "lxc/101", "node/pve1", "storage/pve1/local"
	Type   string // lxc, qemu, node, storage, pool, sdn
	Status string // running, stopped, online, offline, available, unknown
	Node   string
	VMID   int
	Name   string

	CPU     float64 // share of MaxCPU in use, 0 to 1
	MaxCPU  float64
	Mem     int64 // bytes, as are the next three
	MaxMem  int64
	Disk    int64
	MaxDisk int64
	Uptime  time.Duration

	// Counters since the start of the guest, in bytes.
	NetIn, NetOut, DiskRead, DiskWrite int64

	Tags     []string
	Template bool
	Lock     string // "backup", "migrate", ...: what keeps the guest from being changed
	Pool     string
	HAState  string

	Storage    string
	PluginType string // of a storage: dir, zfspool, ...
	Content    []string
	Shared     bool
}

// Resources lists what the credentials may see of the whole cluster, from the figures that its members report to each
// other every 10 s or so (pvestatd). Everybody may ask; the list is shorter for those who may see less.
func (h *Host) Resources(ctx context.Context, credentials Credentials, kind ResourceKind) ([]Resource, error) {
	list, _, err := rows(ctx, h, resourcesCall(credentials, kind), readResource)
	return list, err
}

// ErrTooMany is what EachResource's take returns when it keeps no more: the answer is then KindTooLarge.
var ErrTooMany = errors.New("more than is kept")

// EachResource is Resources for long lists: it hands over the entries as they arrive, so that only what is kept of them is
// in memory. begin is called for each attempt that gets an answer, and returns what takes its entries; those of an attempt
// before it count no more. When take returns ErrTooMany the rest is not read.
func (h *Host) EachResource(ctx context.Context, credentials Credentials, kind ResourceKind, begin func() (take func(Resource) error)) error {
	c := resourcesCall(credentials, kind)
	c.entries = func() func(record) error {
		take := begin()
		return func(r record) error {
			if err := take(readResource(r)); err != nil {
				return &Error{Kind: KindTooLarge, Op: c.op(), Host: h.address.String(), Message: "the answer has " + err.Error(), Cause: err}
			}
			return nil
		}
	}
	_, err := h.do(ctx, c)
	return err
}

func resourcesCall(credentials Credentials, kind ResourceKind) *call {
	c := get(credentials, "cluster", "resources")
	c.maxBody = maxLargeBody
	if kind != AllResources {
		c.set("type", string(kind))
	}
	return c
}

func readResource(r record) Resource {
	return Resource{
		ID:         r.name("id"),
		Type:       r.name("type"),
		Status:     r.name("status"),
		Node:       r.name("node"),
		VMID:       r.vmid("vmid"),
		Name:       r.name("name"),
		CPU:        r.float("cpu"),
		MaxCPU:     r.float("maxcpu"),
		Mem:        r.int("mem"),
		MaxMem:     r.int("maxmem"),
		Disk:       r.int("disk"),
		MaxDisk:    r.int("maxdisk"),
		Uptime:     r.seconds("uptime"),
		NetIn:      r.int("netin"),
		NetOut:     r.int("netout"),
		DiskRead:   r.int("diskread"),
		DiskWrite:  r.int("diskwrite"),
		Tags:       r.words("tags"),
		Template:   r.bool("template"),
		Lock:       r.name("lock"),
		Pool:       r.name("pool"),
		HAState:    r.name("hastate"),
		Storage:    r.name("storage"),
		PluginType: r.name("plugintype"),
		Content:    r.words("content"),
		Shared:     r.bool("shared"),
	}
}

// ClusterEntry is an entry of cluster/status: the cluster itself, which a standalone host doesn't have, or a member.
type ClusterEntry struct {
	Type string // "cluster" or "node"
	ID   string
	Name string

	// Of the cluster.
	Members int
	Quorate bool
	Version int64 // of its configuration

	// Of a member.
	NodeID int64
	IP     string
	Online bool
	Local  bool // the one that answered
	Level  string
}

// ClusterStatus tells the members and whether they are a quorum. It needs Sys.Audit on "/"; without it the answer is
// KindForbidden, and Nodes is what everybody may ask.
func (h *Host) ClusterStatus(ctx context.Context, credentials Credentials) ([]ClusterEntry, error) {
	list, _, err := rows(ctx, h, get(credentials, "cluster", "status"), func(r record) ClusterEntry {
		return ClusterEntry{
			Type:    r.name("type"),
			ID:      r.name("id"),
			Name:    r.name("name"),
			Members: int(r.int("nodes")),
			Quorate: r.bool("quorate"),
			Version: r.int("version"),
			NodeID:  r.int("nodeid"),
			IP:      r.name("ip"),
			Online:  r.bool("online"),
			Local:   r.bool("local"),
			Level:   r.name("level"),
		}
	})
	return list, err
}

// Node is a cluster member.
type Node struct {
	Node           string
	Status         string  // online, offline, unknown
	CPU            float64 // share of MaxCPU in use, 0 to 1
	MaxCPU         float64
	Mem, MaxMem    int64 // bytes
	Disk, MaxDisk  int64 // bytes, of the root file system
	Uptime         time.Duration
	Level          string // of the subscription
	SSLFingerprint string // of the certificate that the member shows to its peers
}

// Nodes lists the members. Everybody may ask; the figures need Sys.Audit on the member.
func (h *Host) Nodes(ctx context.Context, credentials Credentials) ([]Node, error) {
	list, _, err := rows(ctx, h, get(credentials, "nodes"), func(r record) Node {
		return Node{
			Node:           r.name("node"),
			Status:         r.name("status"),
			CPU:            r.float("cpu"),
			MaxCPU:         r.float("maxcpu"),
			Mem:            r.int("mem"),
			MaxMem:         r.int("maxmem"),
			Disk:           r.int("disk"),
			MaxDisk:        r.int("maxdisk"),
			Uptime:         r.seconds("uptime"),
			Level:          r.name("level"),
			SSLFingerprint: r.text("ssl_fingerprint"),
		}
	})
	return list, err
}

// Storage is a storage as one member sees it.
type Storage struct {
	Storage string
	Type    string   // dir, zfspool, ...
	Content []string // what it may hold: rootdir, vztmpl, backup, ...
	Total   int64    // bytes, as are the next two; zero while it isn't active
	Used    int64
	Avail   int64
	Active  bool
	Enabled bool
	Shared  bool
}

// Storages lists a member's storages for which the credentials hold Datastore.Audit or Datastore.AllocateSpace.
func (h *Host) Storages(ctx context.Context, credentials Credentials, node string) ([]Storage, error) {
	list, _, err := rows(ctx, h, get(credentials, "nodes", node, "storage"), func(r record) Storage {
		return Storage{
			Storage: r.name("storage"),
			Type:    r.name("type"),
			Content: r.words("content"),
			Total:   r.int("total"),
			Used:    r.int("used"),
			Avail:   r.int("avail"),
			Active:  r.bool("active"),
			Enabled: r.bool("enabled"),
			Shared:  r.bool("shared"),
		}
	})
	return list, err
}

// The range of VMIDs (pve-vmid in JSONSchema.pm of pve-common).
const (
	MinVMID = 100
	MaxVMID = 999_999_999
)

// NextID returns a VMID that nothing in the cluster uses: vmid itself if it is free, any if it is 0. One that is taken is
// KindInvalidParameters with Fields["vmid"] (API2/Cluster.pm nextid). It is not reserved.
func (h *Host) NextID(ctx context.Context, credentials Credentials, vmid int) (int, error) {
	c := get(credentials, "cluster", "nextid")
	c.maxBody = maxSmallBody
	if vmid != 0 {
		c.set("vmid", strconv.Itoa(vmid))
	}
	a, err := h.do(ctx, c)
	if err != nil {
		return 0, err
	}
	// Some versions send a number, others a string.
	next := record{"data": a.data}.vmid("data")
	if next == 0 {
		return 0, h.notProxmox(c, a, "the answer is not a VMID")
	}
	return next, nil
}

// vmid reads a VMID; what can't be one is 0.
func (r record) vmid(name string) int {
	if id := r.int(name); id >= MinVMID && id <= MaxVMID {
		return int(id)
	}
	return 0
}

// Certificate is one of the certificates that a member names as its own.
type Certificate struct {
	Filename    string // pve-ssl.pem, pveproxy-ssl.pem, pve-root-ca.pem
	Fingerprint Fingerprint
}

// Certificates lists the certificates of a cluster member, as the member itself names them; everybody may ask. Those whose
// fingerprint can't be read are left out.
func (h *Host) Certificates(ctx context.Context, credentials Credentials, node string) ([]Certificate, error) {
	list, _, err := rows(ctx, h, get(credentials, "nodes", node, "certificates", "info"), func(r record) Certificate {
		c := Certificate{Filename: r.name("filename")}
		c.Fingerprint, _ = ParseFingerprint(r.text("fingerprint")) // zero when it can't be read
		return c
	})
	return slices.DeleteFunc(list, func(c Certificate) bool { return c.Fingerprint == Fingerprint{} }), err
}
