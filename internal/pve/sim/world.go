package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// guestState is the guests' half of a datacenter: guests, tasks, storages and what is remembered of them.
type guestState struct {
	byID     map[int]*guest
	sorted   []*guest // by VMID
	changes  uint64   // counts changes of the list and of configurations
	capacity capacity // of each member

	active   []*task          // running, in the order of their start
	archive  []*task          // finished, in the order of their end
	tasks    map[string]*task // both, by UPID
	accepted map[lifecycle]int
	pids     map[string]int // the last process of each member
	failing  map[int]string // what tasks fail with, by VMID; see FailTasks
	held     bool           // see HoldTasks

	storages []storage
	volumes  []volume

	created   time.Time
	settled   time.Time // everything until then has happened
	tick      time.Time // the last refresh of cluster/resources
	resources *resourceCache
}

// init makes the empty state usable; later calls do nothing.
func (s *guestState) init(d *Datacenter) {
	if s.byID != nil {
		return
	}
	s.byID, s.tasks, s.accepted, s.pids = map[int]*guest{}, map[string]*task{}, map[lifecycle]int{}, map[string]int{}
	s.failing = map[int]string{}
	s.created = d.now()
	s.capacity = capacity{cpus: 16, memory: 64 * gibibyte, swap: 8 * gibibyte, rootfs: 94 * gibibyte}
	if perMember := d.options.Containers / len(d.members); perMember > 40 {
		s.capacity.cpus, s.capacity.memory = 64, 512*gibibyte
	}
	s.storages = defaultStorages(d.members[0].name)
}

// nextPID is the process id of whatever a member starts next. The steps between are what else it has to do.
func (s *guestState) nextPID(node string) int {
	pid := s.pids[node]
	if pid == 0 {
		pid = 1800 + int(1000*roll(0, node))
	}
	if pid += 3 + int(40*roll(uint64(pid), "pid")); pid >= 1<<22 { // kernel.pid_max on 64-bit hosts
		pid = 300
	}
	s.pids[node] = pid
	return pid
}

// guestEndpoints are the endpoints of guests, tasks, storages and figures.
func guestEndpoints() []endpoint {
	return slices.Concat(listEndpoints(), configEndpoints(), powerEndpoints(), taskEndpoints(), resourceEndpoints(),
		rrdEndpoints(), storageEndpoints())
}

const day = 24 * time.Hour

// defaultContainers are those of the default world. Scripts, tests and documentation rely on them. In a cluster, a
// container whose Node is empty goes to the members in turn.
var defaultContainers = []Container{
	{
		VMID: 100, Name: "gateway", Status: Running, Uptime: 41 * day, OSType: "alpine", Tags: "critical;network",
		Cores: 1, Memory: 256, Swap: 128, Disk: 2, OnBoot: true, Protected: true,
		Description: "# Gateway\n\nReverse proxy for everything in `lab.example`. **Do not stop**: nothing else is reachable without it.",
	},
	{
		VMID: 101, Name: "nextcloud", Status: Running, Uptime: 12*day + 5*time.Hour, OSType: "debian", Tags: "cloud;family",
		Cores: 4, Memory: 4096, Swap: 1024, Disk: 32, OnBoot: true,
		Mounts:      map[string]string{"mp0": "local-lvm:vm-101-disk-1,mp=/var/www/data,backup=1,size=200G"},
		Description: "# Nextcloud\n\nFiles, calendar and contacts of the family.\n\n- Web: <https://cloud.lab.example>\n- Data: `/var/www/data`\n",
	},
	{
		VMID: 102, Name: "jellyfin", Status: Stopped, OSType: "ubuntu", Tags: "family;media",
		Cores: 4, Memory: 4096, Disk: 24, Mounts: map[string]string{"mp0": "/tank/media,mp=/media,ro=1"},
		Description: "Streaming. Stopped while the films are being moved.",
	},
	{VMID: 103, Name: "adguard", Status: Running, Uptime: 41 * day, OSType: "alpine", Tags: "critical;network", Cores: 1, Memory: 512, Swap: 256, Disk: 4, OnBoot: true},
	{VMID: 104, Name: "gitea", Status: Running, Uptime: 8*day + 7*time.Hour, OSType: "alpine", Tags: "dev", Cores: 2, Memory: 1024, Disk: 16, OnBoot: true},
	{
		VMID: 105, Name: "postgres", Status: Running, Uptime: 30*day + 11*time.Hour, OSType: "debian", Tags: "critical;database",
		Cores: 4, Memory: 8192, Swap: 2048, Disk: 64, OnBoot: true, ShutdownTime: 15 * time.Second,
		Description: "PostgreSQL 17 for Nextcloud, Gitea and Paperless. Takes its time to stop: let it.",
	},
	{VMID: 106, Name: "vaultwarden", Status: Running, Uptime: 41 * day, OSType: "alpine", Tags: "critical;security", Cores: 1, Memory: 512, Disk: 4, OnBoot: true},
	{
		VMID: 107, Name: "homeassistant", Status: Running, Uptime: 3*day + 2*time.Hour, OSType: "debian", Tags: "home;iot",
		Cores: 2, Memory: 2048, Disk: 16, OnBoot: true, Privileged: true,
	},
	{VMID: 108, Name: "grafana", Status: Running, Uptime: 19 * day, OSType: "debian", Tags: "monitoring", Cores: 2, Memory: 1024, Disk: 12, OnBoot: true},
	{
		VMID: 109, Name: "paperless", Status: Running, Uptime: 5*day + 19*time.Hour, OSType: "debian", Tags: "documents;family",
		Cores: 2, Memory: 2048, Disk: 40, OnBoot: true, Lock: "backup",
	},
	{VMID: 110, Name: "immich", Status: Running, Uptime: 12 * day, OSType: "ubuntu", Tags: "family;media", Cores: 6, Memory: 8192, Swap: 2048, Disk: 48, OnBoot: true},
	{VMID: 111, Name: "mosquitto", Status: Running, Uptime: 26*day + 3*time.Hour, OSType: "alpine", Tags: "home;iot", Cores: 1, Memory: 256, Swap: 0, Disk: 2, OnBoot: true},
	{VMID: 112, Name: "minecraft", Status: Stopped, OSType: "debian", Tags: "games", Cores: 4, Memory: 6144, Disk: 20},
	{VMID: 113, Name: "debian-13-base", Status: Stopped, OSType: "debian", Tags: "template", Cores: 1, Memory: 512, Disk: 4, Template: true},
	{VMID: 114, Name: "build", Status: Stopped, OSType: "fedora", Tags: "dev", Cores: 8, Memory: 8192, Disk: 60},
}

// defaultVMs are there so that a client has something to leave out.
var defaultVMs = []vmTemplate{
	{vmid: 200, name: "opnsense", cores: 2, memory: 4096, disk: 32, uptime: 41 * day, tags: "critical;network"},
	{vmid: 201, name: "windows-11", cores: 4, memory: 8192, disk: 128},
	{vmid: 202, name: "truenas", cores: 4, memory: 16384, disk: 64, uptime: 41 * day, tags: "storage"},
}

type vmTemplate struct {
	vmid         int
	name         string
	cores        int
	memory, disk int // MiB, GiB
	uptime       time.Duration
	tags         string
}

// services name the containers of a generated fleet.
var services = []struct{ name, ostype, tags string }{
	{"nextcloud", "debian", "cloud"}, {"jellyfin", "ubuntu", "media"}, {"gitea", "alpine", "dev"},
	{"postgres", "debian", "critical;database"}, {"vaultwarden", "alpine", "critical;security"}, {"grafana", "debian", "monitoring"},
	{"prometheus", "debian", "monitoring"}, {"redis", "alpine", "database"}, {"traefik", "alpine", "critical;network"},
	{"minio", "debian", "storage"}, {"mailcow", "ubuntu", "critical;mail"}, {"keycloak", "debian", "critical;security"},
	{"immich", "ubuntu", "media"}, {"paperless", "debian", "documents"}, {"mosquitto", "alpine", "iot"},
	{"influxdb", "debian", "database;monitoring"}, {"runner", "debian", "dev"}, {"registry", "alpine", "dev"},
	{"wiki", "ubuntu", "documents"}, {"matrix", "debian", "chat"},
}

// defaultGuests builds the guests of the default world: the fixed set, or as many containers as were asked for. Their
// sizes and uptimes come from the seed alone.
func (d *Datacenter) defaultGuests() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.settled()
	containers, vms := defaultContainers, defaultVMs
	if n := d.options.Containers; n > 0 {
		containers = d.fleet(n)
		first := max(9000, 100+n)
		vms = []vmTemplate{
			{vmid: first, name: "router", cores: 2, memory: 2048, disk: 16, uptime: 44 * day, tags: "network"},
			{vmid: first + 1, name: "desktop", cores: 4, memory: 8192, disk: 64},
		}
	}
	for i, c := range containers {
		if c.Node == "" {
			c.Node = d.members[i%len(d.members)].name
		}
		must(d.addContainer(c, now))
	}
	for i, vm := range vms {
		must(d.addVM(vm, d.members[i%len(d.members)], now))
	}
	d.defaultVolumes(now)
	d.defaultHistory(now)
}

// fleet is n containers with names such as grafana-03.
func (d *Datacenter) fleet(n int) []Container {
	digits := max(2, len(strconv.Itoa((n-1)/len(services)+1)))
	list := make([]Container, n)
	for i := range list {
		s, vmid := services[i%len(services)], 100+i
		seed := d.seedOf("fleet " + strconv.Itoa(vmid))
		c := Container{
			VMID: vmid, Name: fmt.Sprintf("%s-%0*d", s.name, digits, i/len(services)+1), OSType: s.ostype, Tags: s.tags,
			Cores: 1 << int(between(seed, "cores", 0, 4)), Memory: 512 << int(between(seed, "memory", 0, 4)),
			Disk: 4 << int(between(seed, "disk", 0, 4)), OnBoot: true,
		}
		if roll(seed, "on") < 0.86 {
			c.Status, c.Uptime = Running, time.Duration(between(seed, "uptime", 0.1, 44)*float64(day)).Round(time.Second)
		}
		list[i] = c
	}
	return list
}

func (d *Datacenter) addVM(vm vmTemplate, m *member, now time.Time) error {
	conf := config{
		"name": vm.name, "cores": strconv.Itoa(vm.cores), "memory": strconv.Itoa(vm.memory), "sockets": "1", "ostype": "l26",
		"scsi0": fmt.Sprintf("local-lvm:vm-%d-disk-0,size=%dG", vm.vmid, vm.disk), "net0": "virtio=" + hwaddr(vm.vmid) + ",bridge=vmbr0",
	}
	conf.set("tags", vm.tags)
	g := &guest{vmid: vm.vmid, kind: kindVM, node: m.name, conf: conf}
	if err := d.insert(g); err != nil {
		return err
	}
	if vm.uptime > 0 {
		g.start(now.Add(-vm.uptime), d.guests.nextPID(m.name))
	}
	g.refresh(now)
	return nil
}

// defaultStorages is what an installation with a NAS looks like; the NAS is configured once for all members.
func defaultStorages(first string) []storage {
	return []storage{
		{
			id: "local", plugin: "dir", content: []string{"backup", "iso", "vztmpl"}, total: 94 * gibibyte, base: 19 * gibibyte,
			settings: map[string]any{"path": "/var/lib/vz"},
		},
		{
			id: "local-lvm", plugin: "lvmthin", content: []string{"images", "rootdir"}, total: 1862 * gibibyte,
			settings: map[string]any{"vgname": "pve", "thinpool": "data"},
		},
		{
			id: "nas", plugin: "nfs", content: []string{"backup", "vztmpl"}, shared: true, total: 7452 * gibibyte, base: 1630 * gibibyte,
			settings: map[string]any{"server": "192.0.2.250", "export": "/volume1/pve", "path": "/mnt/pve/nas"},
		},
		{
			id: "usb-backup", plugin: "dir", content: []string{"backup"}, disabled: true, total: 931 * gibibyte,
			settings: map[string]any{"path": "/mnt/usb", "nodes": first},
		},
	}
}

// defaultVolumes fills the storages: templates, an installer image, a week of backups, and one disk that nobody uses.
func (d *Datacenter) defaultVolumes(now time.Time) {
	s := &d.guests
	for i, t := range []struct {
		name, format string
		mebibytes    int64
	}{
		{"alpine-3.22-default_20250617_amd64.tar.xz", "txz", 3},
		{"debian-12-standard_12.12-1_amd64.tar.zst", "tzst", 120},
		{"debian-13-standard_13.1-2_amd64.tar.zst", "tzst", 123},
		{"fedora-42-default_20250428_amd64.tar.xz", "txz", 78},
		{"ubuntu-24.04-standard_24.04-2_amd64.tar.zst", "tzst", 135},
	} {
		s.volumes = append(s.volumes, volume{
			storage: "local", name: "vztmpl/" + t.name, content: "vztmpl", format: t.format, size: t.mebibytes * mebibyte,
			created: now.Add(-time.Duration(40+9*i) * day),
		})
	}
	s.volumes = append(s.volumes, volume{
		storage: "local", name: "iso/debian-13.1.0-amd64-netinst.iso", content: "iso", format: "iso", size: 783 * mebibyte, created: now.Add(-33 * day),
	})
	// One backup a night for the first containers; hundreds of them in a fleet would show nothing more.
	for _, g := range s.sorted[:min(len(s.sorted), 12)] {
		if g.kind != kindContainer || g.template {
			continue
		}
		for night := 1; night <= 3; night++ {
			at := backupTime(now, night)
			s.volumes = append(s.volumes, volume{
				storage: "nas", name: fmt.Sprintf("backup/vzdump-lxc-%d-%s.tar.zst", g.vmid, at.Format("2006_01_02-15_04_05")),
				content: "backup", format: "tar.zst", size: int64(0.4 * g.load.disk.mean * float64(g.maxdisk)), created: at, vmid: g.vmid,
				notes: g.name, keep: night == 3 && strings.Contains(g.tags, "critical"),
			})
		}
	}
	if g := s.byID[104]; g != nil && g.kind == kindContainer {
		s.volumes = append(s.volumes, volume{
			storage: "local-lvm", node: g.node, name: "vm-104-disk-7", content: "rootdir", format: "raw", size: 8 * gibibyte,
			created: now.Add(-200 * day), vmid: 104,
		})
	}
}

// backupTime is when the backup job of some nights ago began.
func backupTime(now time.Time, nights int) time.Time {
	y, m, d := now.Date()
	return time.Date(y, m, d, 2, 30, 0, 0, now.Location()).AddDate(0, 0, -nights)
}

// defaultHistory writes the tasks that a member has behind it: what started at boot, and last night's jobs.
func (d *Datacenter) defaultHistory(now time.Time) {
	for _, m := range d.members {
		d.finished(m, "startall", "", m.started.Add(40*time.Second), 25*time.Second, nil)
		at := backupTime(now, 1)
		if at.Before(m.started) {
			at = m.started.Add(10 * time.Minute)
		}
		d.finished(m, "aptupdate", "", at.Add(90*time.Minute), 9*time.Second, []string{
			"starting apt-get update", "Hit:1 http://deb.debian.org/debian trixie InRelease",
			"Hit:2 http://download.proxmox.com/debian/pve trixie InRelease", "Reading package lists...",
		})
		d.finished(m, "vzdump", "", at, 4*time.Minute, d.backupLog(m, at))
	}
	slices.SortStableFunc(d.guests.archive, func(a, b *task) int { return a.ended.Compare(b.ended) })
}

// backupLog is the log of a night's backup job on one member.
func (d *Datacenter) backupLog(m *member, at time.Time) []string {
	log := []string{"INFO: starting new backup job: vzdump --all 1 --storage nas --mode snapshot --compress zstd --quiet 1"}
	shown := 0
	for _, g := range d.guests.sorted {
		if g.node != m.name || g.kind != kindContainer || g.template || shown == 12 {
			continue
		}
		shown++
		log = append(log,
			fmt.Sprintf("INFO: Starting Backup of VM %d (lxc)", g.vmid),
			fmt.Sprintf("INFO: Backup started at %s", at.Format(time.DateTime)),
			"INFO: status = "+g.status(),
			"INFO: CT Name: "+g.name,
			fmt.Sprintf("INFO: creating vzdump archive '/mnt/pve/nas/dump/vzdump-lxc-%d-%s.tar.zst'", g.vmid, at.Format("2006_01_02-15_04_05")),
			fmt.Sprintf("INFO: archive file size: %dMB", int64(0.4*g.load.disk.mean*float64(g.maxdisk))/mebibyte),
			fmt.Sprintf("INFO: Finished Backup of VM %d (00:00:%02d)", g.vmid, 10+g.vmid%40),
		)
		at = at.Add(time.Duration(10+g.vmid%40) * time.Second)
	}
	return append(log, "INFO: Backup job finished successfully")
}

// finished records a task of root's that is over.
func (d *Datacenter) finished(m *member, kind, id string, at time.Time, took time.Duration, log []string) {
	t := &task{upid: d.newUPID(m, kind, id, rootUser, at), log: log}
	d.guests.tasks[t.text] = t
	d.finish(t, at.Add(took), nil)
}
