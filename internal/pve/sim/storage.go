package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// storage is one entry of the datacenter's storage.cfg. Those that aren't shared exist on each member by itself.
type storage struct {
	id       string
	plugin   string // dir, lvmthin, nfs ...
	content  []string
	shared   bool
	disabled bool
	total    int64
	base     int64 // used by what its content doesn't show
	settings map[string]any
}

// volume is a file or disk image on a storage, besides the disks that guests' configurations name.
type volume struct {
	storage string
	node    string // "" on a shared storage, or on every member
	name    string // what follows the storage's name in its volume id: vztmpl/debian-13...tar.zst
	content string
	format  string
	size    int64
	created time.Time
	vmid    int
	notes   string
	keep    bool // protected from pruning
}

var storageTypes = []string{
	"btrfs", "cephfs", "cifs", "dir", "esxi", "iscsi", "iscsidirect", "lvm", "lvmthin", "nfs", "pbs", "rbd", "zfs", "zfspool",
}

// storageAudit are the privileges of which one lets somebody see a storage.
var storageAudit = []string{"Datastore.Audit", "Datastore.AllocateSpace"}

func onStorage(c *call) error { return c.needAny("/storage/"+c.param("storage"), storageAudit...) }

func storageEndpoints() []endpoint {
	return []endpoint{
		{
			method: "GET", path: "/storage", run: listStorageConfig,
			params: []param{{name: "type", kind: "string", enum: storageTypes}},
		},
		{
			method: "GET", path: "/storage/{storage}", run: showStorageConfig,
			check: func(c *call) error { return c.need("/storage/"+c.param("storage"), "Datastore.Allocate") },
		},
		{
			method: "GET", path: "/nodes/{node}/storage", run: listStorages,
			params: []param{
				{name: "content", kind: "string"}, {name: "enabled", kind: "boolean"},
				{name: "format", kind: "boolean"}, {name: "storage", kind: "string"}, {name: "target", kind: "string"},
			},
		},
		{method: "GET", path: "/nodes/{node}/storage/{storage}", check: onStorage, run: indexStorage},
		{method: "GET", path: "/nodes/{node}/storage/{storage}/status", check: onStorage, run: showStorage},
		{
			method: "GET", path: "/nodes/{node}/storage/{storage}/content", check: onStorage, run: listContent,
			params: []param{
				{name: "content", kind: "string"},
				{name: "vmid", kind: "integer", min: 100, max: 999999999},
			},
		},
	}
}

// storage is the storage that the path names.
func (c *call) storage() (storage, error) {
	return c.dc.storage(c.param("storage"))
}

func (d *Datacenter) storage(id string) (storage, error) {
	d.guests.init(d)
	for _, s := range d.guests.storages {
		if s.id == id {
			return s, nil
		}
	}
	return storage{}, fmt.Errorf("storage '%s' does not exist", id)
}

func (s storage) config() map[string]any {
	row := map[string]any{"storage": s.id, "type": s.plugin, "content": strings.Join(s.content, ",")}
	for key, value := range s.settings {
		row[key] = value
	}
	if s.shared {
		row["shared"] = 1
	}
	if s.disabled {
		row["disable"] = 1
	}
	return row
}

// listStorageConfig is PVE::API2::Storage::Config index.
func listStorageConfig(c *call) (any, error) {
	c.dc.settled()
	list := []map[string]any{}
	for _, s := range c.dc.guests.storages {
		if kind := c.param("type"); kind != "" && kind != s.plugin {
			continue
		}
		if c.dc.canAny(c.who, "/storage/"+s.id, storageAudit...) {
			list = append(list, s.config())
		}
	}
	return list, nil
}

func showStorageConfig(c *call) (any, error) {
	s, err := c.storage()
	if err != nil {
		return nil, err
	}
	return s.config(), nil
}

type storageStatus struct {
	Storage  string          `json:"storage,omitempty"`
	Type     string          `json:"type"`
	Content  string          `json:"content"`
	Active   int             `json:"active"`
	Enabled  int             `json:"enabled"`
	Shared   int             `json:"shared"`
	Total    int64           `json:"total"`
	Used     int64           `json:"used"`
	Avail    int64           `json:"avail"`
	Fraction *float64        `json:"used_fraction,omitempty"`
	Formats  *storageFormats `json:"formats,omitempty"`
}

type storageFormats struct {
	Default   string   `json:"default"`
	Supported []string `json:"supported"`
}

func (d *Datacenter) storageStatus(s storage, node string, now time.Time) storageStatus {
	st := storageStatus{Type: s.plugin, Content: strings.Join(s.content, ","), Shared: number(s.shared)}
	if s.disabled {
		return st // of a storage that isn't active nothing is known
	}
	used := d.storageUsed(s, node, now)
	st.Active, st.Enabled, st.Total, st.Used, st.Avail = 1, 1, s.total, used, s.total-used
	return st
}

// listStorages is PVE::API2::Storage::Status index.
func listStorages(c *call) (any, error) {
	now := c.dc.settled()
	node := c.param("node")
	if target := c.param("target"); target != "" && c.dc.member(target) == nil {
		return nil, plain("no such cluster node '" + target + "'")
	}
	wanted := splitList(c.param("content"))
	list := []storageStatus{}
	for _, s := range c.dc.guests.storages {
		switch {
		case !c.dc.canAny(c.who, "/storage/"+s.id, storageAudit...),
			c.has("storage") && c.param("storage") != s.id,
			c.flag("enabled") && s.disabled,
			len(wanted) > 0 && !slices.ContainsFunc(wanted, func(w string) bool { return slices.Contains(s.content, w) }),
			// What must be reachable from another member as well must be shared.
			c.param("target") != "" && c.param("target") != node && !s.shared:
			continue
		}
		st := c.dc.storageStatus(s, node, now)
		st.Storage = s.id
		if st.Total > 0 {
			fraction := float64(st.Used) / float64(st.Total)
			st.Fraction = &fraction
		}
		if c.flag("format") {
			st.Formats = s.formats()
		}
		list = append(list, st)
	}
	return list, nil
}

func (s storage) formats() *storageFormats {
	if s.plugin == "lvmthin" {
		return &storageFormats{"raw", []string{"raw"}}
	}
	return &storageFormats{"raw", []string{"raw", "qcow2", "vmdk", "subvol"}}
}

func indexStorage(c *call) (any, error) {
	type entry struct {
		Subdir string `json:"subdir"`
	}
	return []entry{{"content"}, {"download-url"}, {"file-restore"}, {"prunebackups"}, {"rrd"}, {"rrddata"}, {"status"}, {"upload"}}, nil
}

func showStorage(c *call) (any, error) {
	now := c.dc.settled()
	s, err := c.storage()
	if err != nil {
		return nil, err
	}
	return c.dc.storageStatus(s, c.param("node"), now), nil
}

type contentRow struct {
	VolID     string  `json:"volid"`
	Content   string  `json:"content"`
	Format    string  `json:"format"`
	Size      int64   `json:"size"`
	CTime     int64   `json:"ctime"`
	VMID      int     `json:"vmid,omitempty"`
	Subtype   string  `json:"subtype,omitempty"`
	Notes     string  `json:"notes,omitempty"`
	Protected *int    `json:"protected,omitempty"`
	Parent    *string `json:"parent,omitempty"`
}

// listContent is PVE::API2::Storage::Content index: what somebody who sees the storage may also use.
func listContent(c *call) (any, error) {
	c.dc.settled()
	s, err := c.storage()
	if err != nil {
		return nil, err
	}
	if s.disabled {
		return nil, fmt.Errorf("storage '%s' is disabled", s.id)
	}
	rows := []contentRow{}
	for _, v := range c.dc.volumes(s, c.param("node")) {
		if kind := c.param("content"); kind != "" && kind != v.content {
			continue
		}
		if c.has("vmid") && v.vmid != c.vmid() {
			continue
		}
		if c.mayUse(v) {
			rows = append(rows, v.row())
		}
	}
	slices.SortFunc(rows, func(a, b contentRow) int { return cmp.Compare(a.VolID, b.VolID) })
	return rows, nil
}

func (v volume) row() contentRow {
	r := contentRow{
		VolID: v.storage + ":" + v.name, Content: v.content, Format: v.format, Size: v.size, CTime: v.created.Unix(),
		VMID: v.vmid, Notes: v.notes,
	}
	if v.content == "backup" {
		keep := number(v.keep)
		r.Protected = &keep
		r.Subtype = kindVM
		if strings.Contains(v.name, "-lxc-") {
			r.Subtype = kindContainer
		}
	}
	return r
}

// mayUse is PVE::Storage::check_volume_access for a volume that no guest's owner asks for.
func (c *call) mayUse(v volume) bool {
	path, guest := "/storage/"+v.storage, "/vms/"+strconv.Itoa(v.vmid)
	switch {
	case c.dc.can(c.who, path, "Datastore.Allocate"):
		return true
	case v.content == "iso" || v.content == "vztmpl":
		return true // seeing the storage is enough, and that has been checked
	case v.content == "backup" && v.vmid > 0:
		return c.dc.can(c.who, path, "Datastore.AllocateSpace") && c.dc.can(c.who, guest, "VM.Backup")
	case v.vmid > 0:
		return c.dc.can(c.who, path, "Datastore.Audit") && c.dc.can(c.who, guest, "VM.Config.Disk")
	}
	return false
}

// volumes are what a storage holds as seen from a member: its files, and the disks that guests there name.
func (d *Datacenter) volumes(s storage, node string) []volume {
	var list []volume
	for _, v := range d.guests.volumes {
		if v.storage == s.id && (v.node == "" || v.node == node || s.shared) {
			list = append(list, v)
		}
	}
	for _, g := range d.guests.sorted {
		if g.node != node && !s.shared {
			continue
		}
		kind := "rootdir"
		if g.kind == kindVM {
			kind = "images"
		}
		for key, line := range g.conf {
			if !volumeKey(key) {
				continue
			}
			name, _, _ := strings.Cut(line, ",")
			name, ok := strings.CutPrefix(name, s.id+":")
			if ok {
				list = append(list, volume{
					storage: s.id, node: g.node, name: name, content: kind, format: "raw", size: volumeSize(line),
					created: d.guests.created.Add(-300 * time.Hour), vmid: g.vmid,
				})
			}
		}
	}
	return list
}

// storageUsed is how much of a storage is in use. Disks are thin: they take what their guests have written.
func (d *Datacenter) storageUsed(s storage, node string, now time.Time) int64 {
	used := float64(s.base)
	for _, v := range d.guests.volumes {
		if v.storage == s.id && (v.node == "" || v.node == node || s.shared) {
			used += float64(v.size)
		}
	}
	if slices.Contains(s.content, "rootdir") {
		for _, g := range d.guests.sorted {
			if g.node == node || s.shared {
				used += g.load.disk.at(now) * float64(g.maxdisk)
			}
		}
	}
	return int64(min(used, 0.97*float64(s.total)))
}

// freeVolumes takes a guest's disks off their storages, with those that its configuration doesn't name if sweep is set,
// and returns their names. Backups stay.
func (d *Datacenter) freeVolumes(g *guest, sweep bool) []string {
	var freed []string
	for key, line := range g.conf {
		if !volumeKey(key) {
			continue
		}
		name, _, _ := strings.Cut(line, ",")
		if _, name, ok := strings.Cut(name, ":"); ok {
			freed = append(freed, name)
		}
	}
	if sweep {
		d.guests.volumes = slices.DeleteFunc(d.guests.volumes, func(v volume) bool {
			orphan := v.vmid == g.vmid && v.content == "rootdir"
			if orphan {
				freed = append(freed, v.name)
			}
			return orphan
		})
	}
	slices.Sort(freed)
	return freed
}

// volumeKey tells whether an option of a guest's configuration names a volume.
func volumeKey(key string) bool {
	switch strings.TrimRight(key, "0123456789") {
	case "rootfs", "mp", "unused", "scsi":
		return true
	}
	return false
}
