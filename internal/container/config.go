package container

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"berth/internal/pve"
)

// Config is a container's configuration as people read it, with the changes that wait for its next start.
type Config struct {
	Hostname     string    `json:"hostname,omitempty"`
	OSType       string    `json:"ostype" doc:"the system that Proxmox VE takes it for" example:"debian"`
	Arch         string    `json:"arch,omitempty" example:"amd64"`
	Cores        int       `json:"cores,omitempty" doc:"how many it may use; absent for all that the member has"`
	CPULimit     float64   `json:"cpulimit,omitempty" doc:"share of CPU time in cores; absent for no limit"`
	CPUUnits     int       `json:"cpuunits,omitempty" doc:"its weight among the others"`
	Memory       int64     `json:"memory" doc:"bytes"`
	Swap         int64     `json:"swap" doc:"bytes"`
	Unprivileged bool      `json:"unprivileged"`
	Onboot       bool      `json:"onboot" doc:"started with its member"`
	Protection   bool      `json:"protection" doc:"neither it nor its disks can be removed"`
	Startup      *Startup  `json:"startup,omitempty"`
	Features     []string  `json:"features,omitempty" doc:"what it is allowed beyond the ordinary" example:"nesting"`
	Nameservers  []string  `json:"nameservers,omitempty"`
	SearchDomain string    `json:"searchdomain,omitempty"`
	Timezone     string    `json:"timezone,omitempty"`
	Tags         []string  `json:"tags"`
	Description  string    `json:"description,omitempty" doc:"Markdown"`
	Mounts       []Mount   `json:"mounts" doc:"the root file system first"`
	Networks     []Network `json:"networks"`
	Devices      []Device  `json:"devices,omitempty" doc:"passed through from the member"`
	// Digest names this state of the configuration.
	Digest string `json:"digest" doc:"to be sent back with a change, so that nobody else's is overwritten"`
}

// Startup is the order in which a member starts its containers. -1 stands for what is not set.
type Startup struct {
	Order int `json:"order" doc:"place among the others, -1 for none"`
	Up    int `json:"up" doc:"seconds until the next one is started, -1 for the default"`
	Down  int `json:"down" doc:"seconds that it is given to shut down, -1 for the default"`
}

// Mount is the root file system or a mount point.
type Mount struct {
	ID       string `json:"id" example:"mp0"`
	Source   string `json:"source" doc:"a volume, or a path of the member" example:"local-lvm:vm-101-disk-0"`
	Path     string `json:"path" doc:"where it is inside the container" example:"/srv"`
	Size     int64  `json:"size,omitempty" doc:"bytes"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	Backup   bool   `json:"backup,omitempty" doc:"part of the container's backups"`
}

// Network is a network device.
type Network struct {
	ID       string `json:"id" example:"net0"`
	Name     string `json:"name" doc:"inside the container" example:"eth0"`
	Bridge   string `json:"bridge,omitempty" example:"vmbr0"`
	MAC      string `json:"mac,omitempty" example:"bc:24:11:00:00:65"`
	IP       string `json:"ip,omitempty" doc:"an address with the length of its prefix, dhcp or manual" example:"192.0.2.5/24"`
	Gateway  string `json:"gateway,omitempty"`
	IP6      string `json:"ip6,omitempty" doc:"the same for IPv6, or auto"`
	Gateway6 string `json:"gateway6,omitempty"`
	VLAN     int    `json:"vlan,omitempty"`
	MTU      int    `json:"mtu,omitempty"`
	// Rate is in megabytes a second, as Proxmox VE has it.
	Rate     float64 `json:"rate,omitempty" doc:"limit in megabytes a second"`
	Firewall bool    `json:"firewall,omitempty"`
	LinkDown bool    `json:"linkDown,omitempty"`
}

// Device is one of the member's devices that the container may use.
type Device struct {
	ID   string `json:"id" example:"dev0"`
	Path string `json:"path" example:"/dev/dri/renderD128"`
}

// Bounds on what is kept of one configuration. Proxmox VE allows 32 networks and 256 mount points and devices each, and a
// description of 8192 characters.
const (
	maxParts       = 256
	maxDescription = 8192
)

func readConfig(c pve.ContainerConfig) *Config {
	config := &Config{
		Hostname: c.Hostname, OSType: c.OSType, Arch: c.Arch, Cores: c.Cores, CPULimit: c.CPULimit, CPUUnits: c.CPUUnits,
		Memory: mebibytes(cmp.Or(c.Memory, 512)), Swap: mebibytes(c.Swap), Unprivileged: c.Unprivileged, Onboot: c.Onboot, Protection: c.Protection,
		Startup: readStartup(c.Startup), Features: readFeatures(c.Features), Nameservers: strings.Fields(strings.ReplaceAll(c.Nameserver, ",", " ")),
		SearchDomain: c.SearchDomain, Timezone: c.Timezone, Tags: c.Tags, Description: cleanDescription(c.Description), Digest: c.Digest,
		Mounts: []Mount{}, Networks: []Network{},
	}
	if config.Tags == nil {
		config.Tags = []string{}
	}
	if c.RootFS != "" {
		config.Mounts = append(config.Mounts, readMount("rootfs", c.RootFS))
	}
	for _, name := range slices.SortedFunc(maps.Keys(c.Options), byNumber) {
		line := c.Options[name]
		switch prefix, number := numbered(name); {
		case number < 0:
		case prefix == "mp" && len(config.Mounts) < maxParts:
			config.Mounts = append(config.Mounts, readMount(name, line))
		case prefix == "net" && len(config.Networks) < maxParts:
			config.Networks = append(config.Networks, readNetwork(name, line))
		case prefix == "dev" && len(config.Devices) < maxParts:
			path, _ := properties(line, "path")
			config.Devices = append(config.Devices, Device{ID: name, Path: path["path"]})
		}
	}
	return config
}

// mebibytes are bytes, as far as they can be written.
func mebibytes(n int64) int64 { return min(max(n, 0), 1<<42) << 20 }

// numbered takes a name such as mp10 apart; a name without a number is itself and -1.
func numbered(name string) (prefix string, number int) {
	prefix = strings.TrimRight(name, "0123456789")
	number, err := strconv.Atoi(name[len(prefix):])
	if err != nil {
		return name, -1
	}
	return prefix, number
}

// byNumber orders mp2 before mp10.
func byNumber(a, b string) int {
	prefixA, a1 := numbered(a)
	prefixB, b1 := numbered(b)
	return cmp.Or(cmp.Compare(prefixA, prefixB), cmp.Compare(a1, b1))
}

// properties reads a line such as "local-lvm:vm-101-disk-0,size=8G,mp=/srv": values by name, of which one may stand
// without its name (PVE::JSONSchema::parse_property_string). order has the names as they stand.
func properties(line, unnamed string) (values map[string]string, order []string) {
	values = map[string]string{}
	for part := range strings.SplitSeq(line, ",") {
		name, value, named := strings.Cut(part, "=")
		if !named {
			name, value = unnamed, part
		}
		if name = strings.TrimSpace(name); name != "" && value != "" {
			values[name] = strings.TrimSpace(value)
			order = append(order, name)
		}
	}
	return values, order
}

func on(value string) bool { return value == "1" || value == "yes" || value == "true" || value == "on" }

func readMount(id, line string) Mount {
	p, _ := properties(line, "volume")
	m := Mount{ID: id, Source: p["volume"], Path: p["mp"], Size: size(p["size"]), ReadOnly: on(p["ro"]), Backup: on(p["backup"])}
	if id == "rootfs" {
		m.Path, m.Backup = "/", true // always is
	}
	return m
}

// size reads 8G, 512M, 1.5T or bytes (PVE::JSONSchema::parse_size); 0 for what is none.
func size(text string) int64 {
	if text == "" {
		return 0
	}
	unit := 1.0
	if at := strings.IndexByte("KMGT", text[len(text)-1]); at >= 0 {
		unit, text = float64(int64(1)<<(10*(at+1))), text[:len(text)-1]
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0) || n*unit > 1<<62 {
		return 0
	}
	return int64(n * unit)
}

func readNetwork(id, line string) Network {
	p, _ := properties(line, "")
	number := func(name string) int {
		n, err := strconv.Atoi(p[name])
		if err != nil || n < 0 {
			return 0
		}
		return n
	}
	rate, err := strconv.ParseFloat(p["rate"], 64)
	if err != nil || !(rate > 0) || rate > 1e9 {
		rate = 0
	}
	return Network{
		ID: id, Name: p["name"], Bridge: p["bridge"], MAC: strings.ToLower(p["hwaddr"]), IP: p["ip"], Gateway: p["gw"], IP6: p["ip6"],
		Gateway6: p["gw6"], VLAN: number("tag"), MTU: number("mtu"), Rate: rate, Firewall: on(p["firewall"]), LinkDown: on(p["link_down"]),
	}
}

// static are the addresses that the configuration itself gives the container.
func (n Network) static() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range []string{n.IP, n.IP6} {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			list = append(list, prefix)
		}
	}
	return list
}

// readFeatures names what is switched on, with its value where that says more than that.
func readFeatures(line string) []string {
	values, order := properties(line, "")
	var list []string
	for _, name := range order {
		switch value := values[name]; {
		case on(value):
			list = append(list, name)
		case value != "0":
			list = append(list, name+" "+strings.ReplaceAll(value, ";", ", "))
		}
	}
	return list
}

// readStartup reads "order=2,up=30,down=60", or the order alone; nil if nothing is set.
func readStartup(line string) *Startup {
	p, _ := properties(line, "order")
	if len(p) == 0 {
		return nil
	}
	number := func(name string) int {
		n, err := strconv.Atoi(p[name])
		if err != nil || n < 0 {
			return -1
		}
		return n
	}
	return &Startup{Order: number("order"), Up: number("up"), Down: number("down")}
}

// cleanDescription keeps of a text of many lines what can be seen, without the line end that Proxmox VE ends it with. What
// joins characters stays, since some scripts and signs need it.
func cleanDescription(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\u200c' || r == '\u200d':
			return r
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > maxDescription {
		text = string(runes[:maxDescription])
	}
	return strings.TrimRight(text, "\n")
}
