package sim

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// onGuest lets in whoever holds a privilege on the guest that the path names.
func onGuest(privilege string) func(*call) error {
	return func(c *call) error { return c.need("/vms/"+c.param("vmid"), privilege) }
}

func (c *call) vmid() int { return int(c.integer("vmid")) }

// flag is a boolean parameter, which the parameter check has made 0 or 1.
func (c *call) flag(name string) bool { return c.param(name) == "1" }

// duration reads a parameter in seconds; what is beyond a year counts as a year.
func (c *call) duration(name string, fallback time.Duration) time.Duration {
	if !c.has(name) {
		return fallback
	}
	const year = 365 * 24 * 3600
	return time.Duration(min(year, c.integerOr(name, 0))) * time.Second
}

// container is the container that the path names, as it is now.
func (c *call) container() (*guest, error) {
	c.dc.settle(c.dc.now())
	return c.dc.guest(c.param("node"), kindContainer, c.vmid())
}

func (c *call) vm() (*guest, error) {
	c.dc.settle(c.dc.now())
	return c.dc.guest(c.param("node"), kindVM, c.vmid())
}

func listEndpoints() []endpoint {
	return []endpoint{
		{method: "GET", path: "/nodes/{node}/lxc", run: listGuests(kindContainer)},
		{method: "GET", path: "/nodes/{node}/lxc/{vmid}", run: index((*call).container,
			"config", "pending", "status", "vncproxy", "termproxy", "vncwebsocket", "spiceproxy", "migrate", "clone", "rrd",
			"rrddata", "firewall", "snapshot", "resize", "interfaces")},
		{method: "GET", path: "/nodes/{node}/lxc/{vmid}/status", run: index((*call).container,
			"current", "start", "stop", "shutdown", "reboot", "migrate")},
		{
			method: "GET", path: "/nodes/{node}/lxc/{vmid}/status/current", check: onGuest("VM.Audit"),
			run: showStatus((*call).container),
		},
		{
			method: "GET", path: "/nodes/{node}/lxc/{vmid}/interfaces", check: onGuest("VM.Audit"),
			run: showInterfaces,
		},
		{
			method: "GET", path: "/nodes/{node}/qemu", params: []param{{name: "full", kind: "boolean"}},
			run: listGuests(kindVM),
		},
		{method: "GET", path: "/nodes/{node}/qemu/{vmid}", run: index((*call).vm,
			"config", "pending", "status", "unlink", "vncproxy", "termproxy", "migrate", "resize", "rrd", "rrddata",
			"monitor", "agent", "snapshot", "spiceproxy", "sendkey", "firewall")},
		{method: "GET", path: "/nodes/{node}/qemu/{vmid}/status", run: index((*call).vm,
			"current", "start", "stop", "reset", "shutdown", "suspend", "reboot")},
		{
			method: "GET", path: "/nodes/{node}/qemu/{vmid}/status/current", check: onGuest("VM.Audit"),
			run: showStatus((*call).vm),
		},
	}
}

// index answers a directory index, to everybody, but only for a guest that exists (pve-container, vmdiridx).
func index(find func(*call) (*guest, error), names ...string) func(*call) (any, error) {
	type entry struct {
		Subdir string `json:"subdir"`
	}
	entries := make([]entry, len(names))
	for i, name := range names {
		entries[i] = entry{name}
	}
	return func(c *call) (any, error) {
		if _, err := find(c); err != nil {
			return nil, err
		}
		return entries, nil
	}
}

// guestStatus is a guest as lists and status/current show it: PVE::LXC::vmstatus and PVE::QemuServer::vmstatus.
type guestStatus struct {
	VMID    int     `json:"vmid"`
	Name    string  `json:"name"`
	Status  string  `json:"status"`
	CPUs    float64 `json:"cpus"`
	MaxMem  int64   `json:"maxmem"`
	MaxDisk int64   `json:"maxdisk"`
	figures
	PID      int    `json:"pid,omitempty"`
	Tags     string `json:"tags,omitempty"`
	Lock     string `json:"lock,omitempty"`
	Template int    `json:"template,omitempty"`
	*pressure

	// Containers have these ...
	Type    string `json:"type,omitempty"`
	Swap    *int64 `json:"swap,omitempty"`
	MaxSwap *int64 `json:"maxswap,omitempty"`
	// ... VMs these ...
	QMPStatus string `json:"qmpstatus,omitempty"`
	MemHost   *int64 `json:"memhost,omitempty"`
	// ... and status/current this.
	HA *haStatus `json:"ha,omitempty"`
}

type haStatus struct {
	Managed int `json:"managed"`
}

func (g *guest) current(now time.Time) guestStatus {
	s := guestStatus{
		VMID: g.vmid, Name: g.name, Status: g.status(), CPUs: g.cpus, MaxMem: g.maxmem, MaxDisk: g.maxdisk,
		figures: g.figures(now), PID: g.pid, Tags: g.tags, Lock: g.lock, pressure: g.pressure(now),
	}
	if g.template {
		s.Template = 1
	}
	s.CPU = math.Round(s.CPU*1e6) / 1e6
	if g.kind == kindVM {
		s.QMPStatus = s.Status
		s.MemHost = &s.Mem
	} else {
		s.Type, s.Swap, s.MaxSwap = kindContainer, &s.figures.swap, &g.maxswap
	}
	return s
}

// listGuests lists the guests of one kind on one member of which the caller holds VM.Audit.
func listGuests(kind string) func(*call) (any, error) {
	return func(c *call) (any, error) {
		now := c.dc.now()
		c.dc.settle(now)
		node := c.param("node")
		list := []guestStatus{}
		for _, g := range c.dc.guests.sorted {
			if g.node == node && g.kind == kind && c.dc.can(c.who, "/vms/"+strconv.Itoa(g.vmid), "VM.Audit") {
				list = append(list, g.current(now))
			}
		}
		return list, nil
	}
}

func showStatus(find func(*call) (*guest, error)) func(*call) (any, error) {
	return func(c *call) (any, error) {
		g, err := find(c)
		if err != nil {
			return nil, err
		}
		s := g.current(c.dc.now())
		s.HA = &haStatus{}
		return s, nil
	}
}

type networkInterface struct {
	Name      string             `json:"name"`
	HWAddr    string             `json:"hwaddr"`
	Hardware  string             `json:"hardware-address"`
	Inet      string             `json:"inet,omitempty"`
	Inet6     string             `json:"inet6,omitempty"`
	Addresses []interfaceAddress `json:"ip-addresses"`
}

type interfaceAddress struct {
	Address string `json:"ip-address"`
	Type    string `json:"ip-address-type"`
	Prefix  int    `json:"prefix"`
}

func newInterface(name, hwaddr string, inet, inet6 netip.Prefix) networkInterface {
	hwaddr = strings.ToLower(hwaddr)
	return networkInterface{
		Name: name, HWAddr: hwaddr, Hardware: hwaddr, Inet: inet.String(), Inet6: inet6.String(),
		Addresses: []interfaceAddress{
			{inet.Addr().String(), "inet", inet.Bits()}, {inet6.Addr().String(), "inet6", inet6.Bits()},
		},
	}
}

// showInterfaces reads the addresses of a running container. For a stopped one PVE::LXC::get_interfaces returns nothing,
// which is null on the wire rather than an empty list.
func showInterfaces(c *call) (any, error) {
	g, err := c.container()
	if err != nil {
		return nil, err
	}
	if !g.running() {
		return nil, nil
	}
	list := []networkInterface{
		newInterface("lo", "00:00:00:00:00:00", netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")),
	}
	if g.conf["net0"] != "" {
		// The link-local address is the MAC address as EUI-64: the second bit of BC is flipped, which makes it BE.
		local := fmt.Sprintf("fe80::be24:11ff:fe%02x:%x/64", g.vmid>>16&0xff, g.vmid&0xffff)
		list = append(list, newInterface("eth0", hwaddr(g.vmid), netip.MustParsePrefix(inet(g.vmid)), netip.MustParsePrefix(local)))
	}
	return list, nil
}
