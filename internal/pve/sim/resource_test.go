package sim

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"
)

// TestResourcesRefresh: cluster/resources is as old as the last full ten seconds, while status/current is not.
func TestResourcesRefresh(t *testing.T) {
	f := newFixture(t, Options{Empty: true})
	must(f.dc.AddContainer(Container{VMID: 100, Name: "one", Status: Running, Uptime: time.Hour}))
	look := func() string {
		r := byVMID(get[[]object](f, rootUser, "GET /cluster/resources?type=vm"), 100)
		s := get[object](f, rootUser, "GET /nodes/pve1/lxc/100/status/current")
		return fmt.Sprint(r["status"], " ", s["status"])
	}
	uptimes := func() string {
		r := byVMID(get[[]object](f, rootUser, "GET /cluster/resources?type=vm"), 100)
		s := get[object](f, rootUser, "GET /nodes/pve1/lxc/100/status/current")
		return fmt.Sprint(r["uptime"], " ", s["uptime"])
	}
	f.pass(9 * time.Second) // 05:06:10
	if got := uptimes(); got != "3609 3609" {
		t.Error(got)
	}
	f.pass(9 * time.Second)
	if got := uptimes(); got != "3609 3618" {
		t.Error(got)
	}
	must(f.dc.SetContainerStatus(100, Stopped))
	if got := look(); got != "running stopped" {
		t.Error(got)
	}
	f.pass(time.Second)
	if got := look(); got != "stopped stopped" {
		t.Error(got)
	}
	// What happens between two looks shows as it was at the refresh, not at the look.
	get[string](f, rootUser, "POST /nodes/pve1/lxc/100/status/start")
	f.pass(9900 * time.Millisecond)
	must(f.dc.SetContainerStatus(100, Stopped))
	f.pass(5 * time.Second)
	if got := look(); got != "stopped stopped" {
		t.Error(got)
	}
	// Tags and locks come from the configuration, so they show at once.
	must(f.dc.LockContainer(100, "migrate"))
	f.call(rootUser, "PUT /nodes/pve1/lxc/100/config?tags=x") // refused: locked
	must(f.dc.LockContainer(100, ""))
	f.call(rootUser, "PUT /nodes/pve1/lxc/100/config?tags=b%3Ba")
	if r := byVMID(get[[]object](f, rootUser, "GET /cluster/resources"), 100); r["tags"] != "b;a" || r["lock"] != nil {
		t.Errorf("tags %v, lock %v", r["tags"], r["lock"])
	}
	must(f.dc.LockContainer(100, "disk"))
	if r := byVMID(get[[]object](f, rootUser, "GET /cluster/resources"), 100); r["lock"] != "disk" {
		t.Errorf("lock %v", r["lock"])
	}
}

func TestResourcesOfAStoppedMember(t *testing.T) {
	f := newFixture(t, cluster())
	must(f.dc.StopMember("pve2"))
	f.pass(10 * time.Second)
	find := func(id string) object {
		for _, r := range get[[]object](f, rootUser, "GET /cluster/resources") {
			if r["id"] == id {
				return r
			}
		}
		t.Fatalf("no %s", id)
		return nil
	}
	if r := find("lxc/101"); r["status"] != "unknown" || r["name"] != nil || r["mem"] != nil || r["tags"] != "cloud;family" || r["node"] != "pve2" {
		t.Errorf("a guest of it: %v", r)
	}
	if r := find("lxc/102"); r["status"] != Stopped || r["name"] != "jellyfin" {
		t.Errorf("a guest of the other: %v", r)
	}
	if r := find("node/pve2"); r["status"] != "offline" || r["maxmem"] != nil {
		t.Errorf("the member: %v", r)
	}
	if r := find("storage/pve2/local"); r["status"] != "unknown" || r["disk"] != nil {
		t.Errorf("a storage of it: %v", r)
	}
	must(f.dc.StartMember("pve2"))
	f.pass(10 * time.Second)
	if r := find("lxc/101"); r["status"] != Running || r["name"] != "nextcloud" {
		t.Errorf("a guest afterwards: %v", r)
	}
}

func TestResourcesByPermission(t *testing.T) {
	f := newFixture(t, Options{})
	must(f.dc.AddUser(User{ID: "store@pve", Password: "secret-store"}))
	must(f.dc.Grant(ACL{Path: "/storage/nas", User: "store@pve", Role: "PVEDatastoreUser"}))
	for who, want := range map[string]map[any]int{
		rootUser:    {"lxc": 15, "qemu": 3, "node": 1, "storage": 3, "sdn": 1},
		"alice@pve": {"lxc": 2, "node": 1},
		"store@pve": {"node": 1, "storage": 1},
	} {
		got := map[any]int{}
		for _, r := range get[[]object](f, who, "GET /cluster/resources") {
			got[r["type"]]++
			if _, known := r["maxmem"]; r["type"] == "node" && known != (who == rootUser) {
				t.Errorf("%s sees of the member: %v", who, r)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s sees %v, want %v", who, got, want)
		}
	}
}

// TestFigures: they stay within bounds, move, don't jump, and counters don't go back.
func TestFigures(t *testing.T) {
	f := newFixture(t, Options{Seed: 3})
	type status struct {
		VMID                                       int
		Status                                     string
		CPU                                        float64
		Mem, MaxMem, Disk, MaxDisk, Swap, MaxSwap  int64
		NetIn, NetOut, DiskRead, DiskWrite, Uptime int64
	}
	var before []status
	moved := map[int]bool{}
	for range 200 {
		list := get[[]status](f, rootUser, "GET /nodes/pve1/lxc")
		for i, s := range list {
			if s.Status == Stopped {
				if s.CPU != 0 || s.Mem != 0 || s.NetIn != 0 || s.Uptime != 0 || s.Disk != 0 {
					t.Fatalf("a stopped container uses something: %+v", s)
				}
				continue
			}
			if s.CPU < 0 || s.CPU > 1 || s.Mem <= 0 || s.Mem > s.MaxMem || s.Disk <= 0 || s.Disk > s.MaxDisk || s.Swap > s.MaxSwap {
				t.Fatalf("out of bounds: %+v", s)
			}
			if before == nil {
				continue
			}
			b := before[i]
			if s.NetIn < b.NetIn || s.NetOut < b.NetOut || s.DiskRead < b.DiskRead || s.DiskWrite < b.DiskWrite || s.Uptime != b.Uptime+1 {
				t.Fatalf("a counter went back: %+v after %+v", s, b)
			}
			if math.Abs(s.CPU-b.CPU) > 0.05 || math.Abs(float64(s.Mem-b.Mem)) > 0.02*float64(s.MaxMem) {
				t.Fatalf("a jump within a second: %+v after %+v", s, b)
			}
			moved[s.VMID] = moved[s.VMID] || math.Abs(s.CPU-b.CPU) > 1e-6
		}
		before = list
		f.pass(time.Second)
	}
	if len(moved) < 10 {
		t.Errorf("only %d containers ran", len(moved))
	}
	for vmid, did := range moved {
		if !did {
			t.Errorf("nothing moves in %d", vmid)
		}
	}
}

func TestWaveIntegral(t *testing.T) {
	w := newWave(42, "x", 7, 0.9)
	from, to := testStart, testStart.Add(2*time.Hour)
	sum := 0.0
	for at := from; at.Before(to); at = at.Add(time.Second) {
		sum += w.at(at.Add(500 * time.Millisecond))
	}
	if got := w.total(from, to); math.Abs(got-sum) > 1e-4*sum {
		t.Errorf("integral %v, sum of its values %v", got, sum)
	}
	if got := w.total(to, from); got != 0 {
		t.Errorf("backwards: %v", got)
	}
	if peak, mean := w.peak(from, to), w.average(from, to); peak <= mean {
		t.Errorf("peak %v is not above the mean %v", peak, mean)
	}
}

func TestInterfaces(t *testing.T) {
	f := newFixture(t, cluster())
	list := get[[]networkInterface](f, "alice@pve", "GET /nodes/pve2/lxc/101/interfaces")
	if len(list) != 2 || list[1].Name != "eth0" || list[1].HWAddr != "bc:24:11:00:00:65" || list[1].Addresses[0].Type != "inet" {
		t.Errorf("%+v", list)
	}
	conf := get[object](f, "alice@pve", "GET /nodes/pve2/lxc/101/config")
	if want := "name=eth0,bridge=vmbr0,firewall=1,gw=192.168.0.1,hwaddr=BC:24:11:00:00:65,ip=" + list[1].Inet + ",type=veth"; conf["net0"] != want {
		t.Errorf("net0 is %v, want %s", conf["net0"], want)
	}
	if a := f.call("alice@pve", "GET /nodes/pve1/lxc/102/interfaces"); a.status != 200 || string(a.body.Data) != "null" {
		t.Errorf("of a stopped one: %d %s", a.status, a.body.Data)
	}
}

func TestHistory(t *testing.T) {
	f := newFixture(t, Options{Empty: true})
	must(f.dc.AddContainer(Container{VMID: 100, Status: Running, Uptime: 10 * time.Minute}))
	f.pass(5 * time.Minute)
	must(f.dc.SetContainerStatus(100, Stopped))
	f.pass(10 * time.Minute)
	must(f.dc.SetContainerStatus(100, Running))
	f.pass(5 * time.Minute)

	rows := get[[]object](f, rootUser, "GET /nodes/pve1/lxc/100/rrddata?timeframe=hour")
	if len(rows) != 60 {
		t.Fatalf("%d rows in an hour", len(rows))
	}
	ran := ""
	for i, row := range rows {
		if want := float64(f.now.Truncate(time.Minute).Add(time.Duration(i-60) * time.Minute).Unix()); row["time"] != want {
			t.Errorf("row %d is of %v, want %v", i, row["time"], want)
		}
		if row["maxmem"] != float64(512*mebibyte) {
			t.Errorf("row %d: maxmem %v", i, row["maxmem"])
		}
		if _, ok := row["cpu"]; ok {
			ran += "|"
		} else {
			ran += "."
		}
	}
	// From 04:56 until 05:11, and from 05:21 on; the minutes in which it changed count.
	if want := ".............................." + "||||||||||||||||" + "........." + "|||||"; len(want) != 60 || ran != want {
		t.Errorf("it ran\n%s, want\n%s", ran, want)
	}

	for frame, want := range map[string]struct {
		rows int
		step float64
	}{"day": {1440, 60}, "week": {336, 1800}, "month": {1440, 1800}, "year": {1440, 21600}} {
		average := get[[]object](f, rootUser, "GET /nodes/pve1/rrddata?timeframe="+frame)
		peak := get[[]object](f, rootUser, "GET /nodes/pve1/rrddata?cf=MAX&timeframe="+frame)
		if len(average) != want.rows || average[1]["time"].(float64)-average[0]["time"].(float64) != want.step {
			t.Errorf("%s: %d rows", frame, len(average))
		}
		for i := range average {
			if a, p := average[i]["cpu"].(float64), peak[i]["cpu"].(float64); p < a || a <= 0 || p > 1 {
				t.Fatalf("%s, row %d: average %v, peak %v", frame, i, a, p)
			}
		}
	}
	if rows := get[[]object](f, rootUser, "GET /nodes/pve1/rrddata?timeframe=decade"); len(rows) != 570 {
		t.Errorf("decade: %d rows", len(rows))
	}
	if a := f.call(rootUser, "GET /nodes/pve1/lxc/100/rrddata?timeframe=decade"); a.status != 400 {
		t.Errorf("a guest's decade: %d", a.status)
	}
	if a := f.call(rootUser, "GET /nodes/pve1/lxc/100/rrddata"); a.body.Errors["timeframe"] == "" {
		t.Errorf("no time frame: %d", a.status)
	}
}

func TestStorages(t *testing.T) {
	f := newFixture(t, cluster())
	must(f.dc.AddUser(User{ID: "store@pve", Password: "secret-store"}))
	must(f.dc.Grant(ACL{Path: "/storage/nas", User: "store@pve", Role: "PVEDatastoreUser"}))
	must(f.dc.Grant(ACL{Path: "/storage/local-lvm", User: "store@pve", Role: "PVEDatastoreUser"}))
	must(f.dc.Grant(ACL{Path: "/vms/101", User: "store@pve", Role: "PVEVMAdmin"}))
	names := func(who, request, key string) string {
		var list []any
		for _, row := range get[[]object](f, who, request) {
			list = append(list, row[key])
		}
		return fmt.Sprint(list)
	}
	for _, c := range []struct{ who, request, key, want string }{
		{rootUser, "GET /storage", "storage", "[local local-lvm nas usb-backup]"},
		{"store@pve", "GET /storage", "storage", "[local-lvm nas]"},
		{"alice@pve", "GET /storage", "storage", "[]"},
		{rootUser, "GET /storage?type=nfs", "storage", "[nas]"},
		{rootUser, "GET /nodes/pve1/storage", "storage", "[local local-lvm nas usb-backup]"},
		{rootUser, "GET /nodes/pve1/storage?enabled=1", "storage", "[local local-lvm nas]"},
		{rootUser, "GET /nodes/pve1/storage?content=vztmpl&enabled=1", "storage", "[local nas]"},
		{rootUser, "GET /nodes/pve1/storage?content=rootdir", "storage", "[local-lvm]"},
		{rootUser, "GET /nodes/pve1/storage?target=pve2", "storage", "[nas]"},
		{rootUser, "GET /nodes/pve1/storage?storage=nas", "storage", "[nas]"},
		{"store@pve", "GET /nodes/pve1/storage", "storage", "[local-lvm nas]"},
		{rootUser, "GET /nodes/pve2/storage/local-lvm/content?vmid=101", "volid", "[local-lvm:vm-101-disk-0 local-lvm:vm-101-disk-1]"},
		{rootUser, "GET /nodes/pve1/storage/local-lvm/content?vmid=101", "volid", "[]"},
		{rootUser, "GET /nodes/pve1/storage/local-lvm/content?vmid=104", "volid", "[local-lvm:vm-104-disk-0 local-lvm:vm-104-disk-7]"},
		{rootUser, "GET /nodes/pve1/storage/local-lvm/content?content=images", "volid", "[local-lvm:vm-200-disk-0 local-lvm:vm-202-disk-0]"},
		{"store@pve", "GET /nodes/pve2/storage/local-lvm/content", "volid", "[local-lvm:vm-101-disk-0 local-lvm:vm-101-disk-1]"},
		{rootUser, "GET /nodes/pve2/storage/local/content?content=vztmpl", "format", "[txz tzst tzst txz tzst]"},
		{rootUser, "GET /nodes/pve1/storage/nas/content?vmid=101", "subtype", "[lxc lxc lxc]"},
		{"store@pve", "GET /nodes/pve1/storage/nas/content", "vmid", "[101 101 101]"},
	} {
		if got := names(c.who, c.request, c.key); got != c.want {
			t.Errorf("%s as %s: %s, want %s", c.request, c.who, got, c.want)
		}
	}
	for _, s := range get[[]storageStatus](f, rootUser, "GET /nodes/pve1/storage?enabled=1&format=1") {
		if s.Used <= 0 || s.Used+s.Avail != s.Total || s.Active != 1 || s.Formats == nil || *s.Fraction <= 0 || *s.Fraction >= 1 {
			t.Errorf("%+v", s)
		}
	}
}

func TestDestroySweepsDisks(t *testing.T) {
	for query, want := range map[string]int{"force=1": 1, "force=1&destroy-unreferenced-disks=1": 0} {
		f := newFixture(t, Options{})
		f.do(rootUser, "DELETE /nodes/pve1/lxc/104?"+query)
		if got := len(get[[]object](f, rootUser, "GET /nodes/pve1/storage/local-lvm/content?vmid=104")); got != want {
			t.Errorf("%s leaves %d disks, want %d", query, got, want)
		}
		if got := len(get[[]object](f, rootUser, "GET /nodes/pve1/storage/nas/content?vmid=104")); got != 3 {
			t.Errorf("%s leaves %d backups", query, got)
		}
	}
}

// BenchmarkResources is one look at cluster/resources of a large host, many of which fall between two refreshes.
func BenchmarkResources(b *testing.B) {
	now := testStart
	dc, err := New(Options{Containers: 100, Now: func() time.Time { return now }})
	if err != nil {
		b.Fatal(err)
	}
	c := &call{dc: dc, who: &principal{id: rootUser, user: rootUser}, params: map[string][]string{"type": {"vm"}}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%20 == 0 {
			now = now.Add(refreshInterval)
		}
		data, err := listResources(c)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := json.Marshal(data); err != nil {
			b.Fatal(err)
		}
	}
}
