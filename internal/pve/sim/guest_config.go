package sim

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// config is a guest's configuration as its file has it: option to text. API answers turn whole numbers and booleans into
// JSON numbers, as PVE's parser does by the schema's types.
type config map[string]string

// number reads an option; absent or empty means fallback.
func (c config) number(name string, fallback float64) float64 {
	n, err := strconv.ParseFloat(c[name], 64)
	if err != nil {
		return fallback
	}
	return n
}

// set changes an option; "" takes it out.
func (c config) set(name, value string) {
	if value == "" {
		delete(c, name)
		return
	}
	c[name] = value
}

// digest is the SHA-1 of the file that PVE would keep: the description as comments, then options by name, then what is
// pending (pve-container, PVE::LXC::Config::write_pct_config and parse_pct_config).
func (g *guest) digest() string {
	h := sha1.New()
	for line := range strings.Lines(g.conf["description"]) {
		fmt.Fprintf(h, "#%s\n", strings.TrimSuffix(line, "\n"))
	}
	section := func(c config) {
		for _, key := range slices.Sorted(maps.Keys(c)) {
			if key != "description" {
				fmt.Fprintf(h, "%s: %s\n", key, c[key])
			}
		}
	}
	section(g.conf)
	if len(g.pending) > 0 {
		fmt.Fprint(h, "\n[pve:pending]\n")
		section(g.pending)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// json is the configuration as an API answer.
func (c config) json() map[string]any {
	out := make(map[string]any, len(c)+1)
	for key, text := range c {
		out[key] = typed(key, text)
	}
	return out
}

// typed is an option's text as the JSON type that its schema names.
func typed(key, text string) any {
	option, ok := optionNamed(key)
	if !ok || option.kind == "string" {
		return text
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		return n
	}
	return text
}

// newConfig writes the configuration that pct create would write for c.
func newConfig(c Container) config {
	orElse := func(n, fallback int) string {
		if n == 0 {
			n = fallback
		}
		return strconv.Itoa(n)
	}
	volume := fmt.Sprintf("local-lvm:vm-%d-disk-0", c.VMID)
	if c.Template {
		volume = fmt.Sprintf("local-lvm:base-%d-disk-0", c.VMID)
	}
	conf := config{
		"arch":   "amd64",
		"cores":  orElse(c.Cores, 1),
		"memory": orElse(c.Memory, 512),
		"swap":   orElse(c.Swap, 512),
		"net0":   network(c.VMID),
		"ostype": "debian",
		"rootfs": volume + ",size=" + orElse(c.Disk, 8) + "G",
	}
	maps.Copy(conf, c.Mounts)
	conf.set("hostname", c.Name)
	conf.set("tags", c.Tags)
	conf.set("lock", c.Lock)
	if c.OSType != "" {
		conf["ostype"] = c.OSType
	}
	if c.Description != "" {
		// Every comment line of the file ends in a newline, also the last.
		conf["description"] = strings.TrimSuffix(c.Description, "\n") + "\n"
	}
	for name, on := range map[string]bool{
		"unprivileged": !c.Privileged, "template": c.Template, "protection": c.Protected, "onboot": c.OnBoot,
	} {
		if on {
			conf[name] = "1"
		}
	}
	if !c.Privileged {
		conf["features"] = "nesting=1"
	}
	return conf
}

// hwaddr is a guest's MAC address below Proxmox's own prefix.
func hwaddr(vmid int) string {
	return fmt.Sprintf("BC:24:11:%02X:%02X:%02X", vmid>>16&0xff, vmid>>8&0xff, vmid&0xff)
}

// inet is a guest's IPv4 address: one of 192.168.0.0/16, the same in configuration and interfaces.
func inet(vmid int) string {
	return fmt.Sprintf("192.168.%d.%d/16", 10+vmid/200%200, 20+vmid%200)
}

func network(vmid int) string {
	line := "name=eth0,bridge=vmbr0,firewall=1,"
	if vmid%3 == 0 {
		return line + "hwaddr=" + hwaddr(vmid) + ",ip=dhcp,type=veth"
	}
	return line + "gw=192.168.0.1,hwaddr=" + hwaddr(vmid) + ",ip=" + inet(vmid) + ",type=veth"
}

// option is one key of a container's configuration that can be changed, with the privilege that changing it needs
// (pve-container, PVE::LXC::check_ct_modify_config_perm).
type option struct {
	param
	privilege string
	// pending tells that a running container takes the change at its next start
	// (PVE::LXC::Config::vmconfig_hotplug_pending).
	pending bool
	fixed   bool // cannot be deleted
}

const (
	needsDisk    = "VM.Config.Disk"
	needsCPU     = "VM.Config.CPU"
	needsMemory  = "VM.Config.Memory"
	needsNetwork = "VM.Config.Network"
	needsOptions = "VM.Config.Options"
	needsRoot    = "root@pam"
)

// configOptions are the options that can be changed here. What names volumes and devices (rootfs, mp0, unused0, dev0) is
// shown only: changing it would allocate and free disks.
var configOptions = []option{
	{param: param{name: "arch", kind: "string", enum: []string{"amd64", "i386", "arm64", "armhf", "riscv32", "riscv64"}}, privilege: needsOptions, pending: true, fixed: true},
	{param: param{name: "cmode", kind: "string", enum: []string{"shell", "console", "tty"}}, privilege: needsOptions, pending: true},
	{param: param{name: "console", kind: "boolean"}, privilege: needsOptions, pending: true},
	{param: param{name: "cores", kind: "integer", min: 1, max: 8192}, privilege: needsCPU},
	{param: param{name: "cpulimit", kind: "number", min: 0, max: 8192}, privilege: needsCPU},
	{param: param{name: "cpuunits", kind: "integer", min: 0, max: 500000}, privilege: needsCPU},
	{param: param{name: "debug", kind: "boolean"}, privilege: needsOptions, pending: true},
	{param: param{name: "description", kind: "string", max: 8192}, privilege: needsOptions},
	{param: param{name: "entrypoint", kind: "string"}, privilege: needsOptions, pending: true},
	{param: param{name: "env", kind: "string"}, privilege: needsOptions, pending: true},
	{param: param{name: "features", kind: "string"}, privilege: needsRoot, pending: true},
	{param: param{name: "hookscript", kind: "string"}, privilege: needsRoot},
	{param: param{name: "hostname", kind: "string", max: 255}, privilege: needsNetwork, pending: true, fixed: true},
	{param: param{name: "lock", kind: "string", enum: []string{"backup", "create", "destroyed", "disk", "fstrim", "migrate", "mounted", "rollback", "snapshot", "snapshot-delete"}}, privilege: needsRoot},
	{param: param{name: "memory", kind: "integer", min: 16, max: math.MaxInt64}, privilege: needsMemory, fixed: true},
	{param: param{name: "nameserver", kind: "string"}, privilege: needsNetwork, pending: true},
	{param: param{name: "net[n]", kind: "string"}, privilege: needsNetwork},
	{param: param{name: "onboot", kind: "boolean"}, privilege: needsOptions},
	{param: param{name: "ostype", kind: "string", enum: []string{"debian", "devuan", "ubuntu", "centos", "fedora", "opensuse", "archlinux", "alpine", "gentoo", "nixos", "unmanaged"}}, privilege: needsOptions, pending: true, fixed: true},
	{param: param{name: "protection", kind: "boolean"}, privilege: needsOptions},
	{param: param{name: "searchdomain", kind: "string"}, privilege: needsNetwork, pending: true},
	{param: param{name: "startup", kind: "string"}, privilege: needsOptions},
	{param: param{name: "swap", kind: "integer", min: 0, max: math.MaxInt64}, privilege: needsMemory},
	{param: param{name: "tags", kind: "string"}, privilege: needsOptions},
	{param: param{name: "template", kind: "boolean"}, privilege: needsOptions, pending: true, fixed: true},
	{param: param{name: "timezone", kind: "string"}, privilege: needsOptions, pending: true},
	{param: param{name: "tty", kind: "integer", min: 0, max: 6}, privilege: needsOptions, pending: true},
	{param: param{name: "unprivileged", kind: "boolean"}, privilege: needsOptions, pending: true, fixed: true},
}

var optionByName = func() map[string]option {
	m := make(map[string]option, len(configOptions))
	for _, o := range configOptions {
		m[o.name] = o
	}
	return m
}()

// maxNetworks is PVE::LXC::Config's $MAX_LXC_NETWORKS.
const maxNetworks = 32

// optionNamed finds an option, also one with an index: net0 to net31.
func optionNamed(name string) (option, bool) {
	if o, ok := optionByName[name]; ok && !strings.HasSuffix(name, "[n]") {
		return o, true
	}
	base := strings.TrimRight(name, "0123456789")
	index, err := strconv.Atoi(name[len(base):])
	if err != nil || index >= maxNetworks || strconv.Itoa(index) != name[len(base):] {
		return option{}, false
	}
	o, ok := optionByName[base+"[n]"]
	return o, ok
}

func configEndpoints() []endpoint {
	changes := []param{
		{name: "delete", kind: "string"},
		{name: "digest", kind: "string", max: 40},
		{name: "revert", kind: "string"},
	}
	for _, o := range configOptions {
		changes = append(changes, o.param)
	}
	return []endpoint{
		{
			method: "GET", path: "/nodes/{node}/lxc/{vmid}/config", check: onGuest("VM.Audit"),
			params: []param{{name: "current", kind: "boolean"}, {name: "snapshot", kind: "string", max: 40}},
			run:    showConfig,
		},
		{
			method: "GET", path: "/nodes/{node}/lxc/{vmid}/pending", check: onGuest("VM.Audit"),
			run: showPending,
		},
		{
			method: "PUT", path: "/nodes/{node}/lxc/{vmid}/config",
			check: func(c *call) error {
				return c.needAny("/vms/"+c.param("vmid"), needsDisk, needsCPU, needsMemory, needsNetwork, needsOptions)
			},
			params: changes,
			run:    changeConfig,
		},
	}
}

// showConfig is PVE::API2::LXC vm_config: with pending changes already in it, unless the current values are asked for.
func showConfig(c *call) (any, error) {
	g, err := c.container()
	if err != nil {
		return nil, err
	}
	if name := c.param("snapshot"); name != "" {
		return nil, fmt.Errorf("snapshot '%s' does not exist", name)
	}
	out := g.conf.json()
	if !c.flag("current") {
		for key, text := range g.pending {
			out[key] = typed(key, text)
			if text == "" {
				delete(out, key)
			}
		}
	}
	out["digest"] = g.digest()
	return out, nil
}

type pendingOption struct {
	Key     string  `json:"key"`
	Value   *string `json:"value,omitempty"`
	Pending *string `json:"pending,omitempty"`
	Delete  int     `json:"delete,omitempty"`
}

func showPending(c *call) (any, error) {
	g, err := c.container()
	if err != nil {
		return nil, err
	}
	keys := slices.Collect(maps.Keys(g.conf))
	for key := range g.pending {
		if _, ok := g.conf[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	out := make([]pendingOption, 0, len(keys)+1)
	for _, key := range keys {
		row := pendingOption{Key: key}
		if value, ok := g.conf[key]; ok {
			row.Value = &value
		}
		if value, ok := g.pending[key]; ok {
			if value == "" {
				row.Delete = 1
			} else {
				row.Pending = &value
			}
		}
		out = append(out, row)
	}
	digest := g.digest()
	return append(out, pendingOption{Key: "digest", Value: &digest}), nil
}

// changeConfig is PVE::API2::LXC::Config update_vm.
func changeConfig(c *call) (any, error) {
	var changed []string
	for name := range c.params {
		switch _, ok := optionNamed(name); {
		case ok:
			changed = append(changed, name)
		case strings.HasPrefix(name, "net"): // an index too many
			return nil, badParam(name, "property is not defined in schema and the schema does not allow additional properties")
		}
	}
	deleted, reverted := splitList(c.param("delete")), splitList(c.param("revert"))
	if len(changed)+len(deleted)+len(reverted) == 0 {
		return nil, errors.New("no options specified")
	}
	for _, name := range slices.Concat(deleted, reverted) {
		o, ok := optionNamed(name)
		switch {
		case !ok:
			return nil, badParam("delete", fmt.Sprintf("unknown or unsupported option '%s'", name))
		case slices.Contains(changed, name):
			return nil, badParam("delete", fmt.Sprintf("Cannot specify '-%s' and delete '%s' at the same time.", name, name))
		case o.fixed && slices.Contains(deleted, name):
			return nil, badParam("delete", fmt.Sprintf("unable to delete required option '%s'", name))
		}
	}
	if err := c.mayChange(slices.Concat(changed, deleted, reverted)); err != nil {
		return nil, err
	}
	tags, err := cleanTags(c.param("tags"))
	if err != nil {
		return nil, err
	}
	g, err := c.container()
	if err != nil {
		return nil, err
	}
	if err := g.checkLock(); err != nil {
		return nil, err
	}
	if digest := c.param("digest"); digest != "" && digest != g.digest() {
		return nil, plain("detected modified configuration - file changed by other user? Try again.")
	}
	for _, name := range reverted {
		delete(g.pending, name)
	}
	for _, name := range deleted {
		g.change(name, "")
	}
	for _, name := range changed {
		value := c.param(name)
		switch {
		case name == "tags":
			value = tags
		case name == "description" && value != "":
			value = strings.TrimSuffix(value, "\n") + "\n"
		}
		g.change(name, value)
	}
	c.dc.changed(g)
	c.accept("config")
	return nil, nil
}

// change sets an option now, or keeps it for the next start.
func (g *guest) change(name, value string) {
	if o, _ := optionNamed(name); g.running() && o.pending {
		if g.conf[name] == value {
			delete(g.pending, name)
			return
		}
		if g.pending == nil {
			g.pending = config{}
		}
		g.pending[name] = value
		return
	}
	g.conf.set(name, value)
}

// applyPending is what a start does first (PVE::LXC::vm_start).
func (g *guest) applyPending() {
	for name, value := range g.pending {
		g.conf.set(name, value)
	}
	g.pending = nil
}

// mayChange is PVE::LXC::check_ct_modify_config_perm.
func (c *call) mayChange(names []string) error {
	if c.who.id == rootUser {
		return nil
	}
	path := "/vms/" + c.param("vmid")
	for _, name := range names {
		o, _ := optionNamed(name)
		switch privilege := o.privilege; {
		case privilege == needsRoot && name == "features":
			return forbidden("changing feature flags (except nesting) is only allowed for root@pam")
		case privilege == needsRoot:
			return forbidden("only root can set '" + name + "' config")
		case !c.dc.can(c.who, path, privilege):
			return permissionDenied(path, privilege)
		}
	}
	return nil
}

func forbidden(why string) error {
	return &reply{status: 403, reason: "Permission check failed (" + why + ")"}
}

// listSeparators are those of PVE::Tools::split_list.
var listSeparators = regexp.MustCompile(`[,;\s\x00]+`)

func splitList(text string) []string {
	return slices.DeleteFunc(listSeparators.Split(text, -1), func(s string) bool { return s == "" })
}

var tagPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_+.-]*$`)

// cleanTags joins tags as PVE stores them: lower-case unless the datacenter says otherwise, each once.
func cleanTags(text string) (string, error) {
	var tags []string
	for _, tag := range splitList(strings.ToLower(text)) {
		if !tagPattern.MatchString(tag) {
			return "", badParam("tags", "invalid format - invalid characters in tag")
		}
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return strings.Join(tags, ";"), nil
}
