package pve

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Container is an LXC container as its member sees it at the moment.
type Container struct {
	VMID   int
	Name   string
	Status string // running or stopped

	CPU     float64 // share of CPUs in use, 0 to 1
	CPUs    float64
	Mem     int64 // bytes, as are the next five
	MaxMem  int64
	Swap    int64
	MaxSwap int64
	Disk    int64
	MaxDisk int64
	Uptime  time.Duration

	// Counters since the start, in bytes.
	NetIn, NetOut, DiskRead, DiskWrite int64

	Tags     []string
	Template bool
	Lock     string
	// HA tells whether high availability manages the container, HAState how it stands. Only ContainerStatus has them.
	HA      bool
	HAState string
}

func readContainer(r record) Container {
	ha := r.object("ha")
	return Container{
		VMID:      r.vmid("vmid"),
		Name:      r.name("name"),
		Status:    r.name("status"),
		CPU:       r.float("cpu"),
		CPUs:      r.float("cpus"),
		Mem:       r.int("mem"),
		MaxMem:    r.int("maxmem"),
		Swap:      r.int("swap"),
		MaxSwap:   r.int("maxswap"),
		Disk:      r.int("disk"),
		MaxDisk:   r.int("maxdisk"),
		Uptime:    r.seconds("uptime"),
		NetIn:     r.int("netin"),
		NetOut:    r.int("netout"),
		DiskRead:  r.int("diskread"),
		DiskWrite: r.int("diskwrite"),
		Tags:      r.words("tags"),
		Template:  r.bool("template"),
		Lock:      r.name("lock"),
		HA:        ha.bool("managed"),
		HAState:   ha.name("state"),
	}
}

// Containers lists a member's containers for which the credentials hold VM.Audit.
func (h *Host) Containers(ctx context.Context, credentials Credentials, node string) ([]Container, error) {
	c := get(credentials, "nodes", node, "lxc")
	c.maxBody = maxLargeBody
	list, _, err := rows(ctx, h, c, readContainer)
	return list, err
}

// ContainerStatus is a container's state right now, where Resources may be 10 s old. It needs VM.Audit.
func (h *Host) ContainerStatus(ctx context.Context, credentials Credentials, node string, vmid int) (Container, error) {
	c := get(credentials, "nodes", node, "lxc", strconv.Itoa(vmid), "status", "current")
	r, a, err := h.object(ctx, c)
	if err != nil {
		return Container{}, err
	}
	ct := readContainer(r)
	if ct.Status == "" {
		return Container{}, h.notProxmox(c, a, "the answer has no status")
	}
	ct.VMID = vmid // older versions leave it out
	return ct, nil
}

// ContainerConfig is a container's configuration.
type ContainerConfig struct {
	Hostname string
	// Description is what somebody wrote, line ends included: not cleaned as the other texts are.
	Description  string
	OSType       string
	Arch         string
	Cores        int     // 0: all of the member's
	CPULimit     float64 // 0: none
	CPUUnits     int
	Memory       int64 // MiB
	Swap         int64 // MiB
	Onboot       bool
	Protection   bool
	Unprivileged bool
	Template     bool
	Tags         []string
	Features     string
	Nameserver   string
	SearchDomain string
	Startup      string
	Timezone     string
	Lock         string
	// Digest names this state of the configuration; a change that carries it fails if there is a newer one.
	Digest string
	RootFS string
	// Options holds every option but the description as a line of text under PVE's own name, those above included: net0,
	// mp0, dev0, unused0, ...
	Options map[string]string
}

// ContainerConfig reads a container's configuration with its pending changes. It needs VM.Audit.
func (h *Host) ContainerConfig(ctx context.Context, credentials Credentials, node string, vmid int) (ContainerConfig, error) {
	c := get(credentials, "nodes", node, "lxc", strconv.Itoa(vmid), "config")
	r, a, err := h.object(ctx, c)
	if err != nil {
		return ContainerConfig{}, err
	}
	if r.text("digest") == "" {
		return ContainerConfig{}, h.notProxmox(c, a, "the answer has no digest")
	}
	config := ContainerConfig{
		Hostname:     r.name("hostname"),
		Description:  r.text("description"),
		OSType:       r.name("ostype"),
		Arch:         r.name("arch"),
		Cores:        int(r.int("cores")),
		CPULimit:     r.float("cpulimit"),
		CPUUnits:     int(r.int("cpuunits")),
		Memory:       r.int("memory"),
		Swap:         r.int("swap"),
		Onboot:       r.bool("onboot"),
		Protection:   r.bool("protection"),
		Unprivileged: r.bool("unprivileged"),
		Template:     r.bool("template"),
		Tags:         r.words("tags"),
		Features:     r.prose("features"),
		Nameserver:   r.prose("nameserver"),
		SearchDomain: r.prose("searchdomain"),
		Startup:      r.prose("startup"),
		Timezone:     r.name("timezone"),
		Lock:         r.name("lock"),
		Digest:       r.name("digest"),
		RootFS:       r.prose("rootfs"),
		Options:      make(map[string]string, len(r)),
	}
	for name := range r {
		if text := r.prose(name); text != "" && name != "description" {
			config.Options[name] = text
		}
	}
	return config, nil
}

// ConfigChange is what SetContainerConfig writes. What is nil stays as it is, what is empty is taken out.
type ConfigChange struct {
	// Tags replace all that there are. PVE makes them lower-case and drops doubles, unless the datacenter's tag style says
	// otherwise; one with characters that no tag has is KindInvalidParameters with Fields["tags"].
	Tags *[]string
	// Description has at most 8192 characters.
	Description *string
	// Digest is that of the ContainerConfig that the change was made from: if the configuration is another one by then, the
	// answer is KindChanged. Empty leaves out the check.
	Digest string
}

// SetContainerConfig changes a container's configuration; what is changed here takes effect at once, also while it runs. It
// needs VM.Config.Options. A container that is locked is not changed.
func (h *Host) SetContainerConfig(ctx context.Context, credentials Credentials, node string, vmid int, change ConfigChange) error {
	c := put(credentials, "nodes", node, "lxc", strconv.Itoa(vmid), "config")
	var gone []string
	option := func(name, value string) {
		if value == "" {
			gone = append(gone, name)
			return
		}
		c.set(name, value)
	}
	if change.Tags != nil {
		option("tags", strings.Join(*change.Tags, ";"))
	}
	if change.Description != nil {
		option("description", *change.Description)
	}
	if len(gone) > 0 {
		c.set("delete", strings.Join(gone, ","))
	}
	if len(c.params) == 0 {
		return &InputError{Field: "config", Message: "There is nothing to change"}
	}
	if change.Digest != "" {
		c.set("digest", change.Digest)
	}
	_, err := h.do(ctx, c)
	return err
}

// Interface is a network interface inside a running container.
type Interface struct {
	Name      string
	MAC       string // lower-case
	Addresses []netip.Prefix
}

const (
	// maxInterfaces bounds the interfaces of one container, which may be host to containers of its own: many containers are
	// asked at the same time.
	maxInterfaces = 256
	// maxAddresses bounds the addresses of one interface.
	maxAddresses = 64
)

// Interfaces asks a running container for its network interfaces, lo included. One that isn't running has none. It needs
// VM.Audit.
func (h *Host) Interfaces(ctx context.Context, credentials Credentials, node string, vmid int) ([]Interface, error) {
	c := get(credentials, "nodes", node, "lxc", strconv.Itoa(vmid), "interfaces")
	c.maxEntries = maxInterfaces
	list, _, err := rows(ctx, h, c, readInterface)
	return slices.DeleteFunc(list, func(i Interface) bool { return i.Name == "" }), err
}

// readInterface reads all addresses where the host lists them, which it does since PVE 8.3, else the last of each family.
func readInterface(r record) Interface {
	i := Interface{Name: r.name("name"), MAC: strings.ToLower(r.name("hwaddr"))}
	add := func(address string) {
		prefix, err := netip.ParsePrefix(address)
		if err == nil && len(i.Addresses) < maxAddresses && !slices.Contains(i.Addresses, prefix) {
			i.Addresses = append(i.Addresses, prefix)
		}
	}
	for _, a := range r.objects("ip-addresses") {
		add(a.text("ip-address") + "/" + a.text("prefix"))
	}
	for _, family := range []string{"inet", "inet6"} {
		add(r.text(family))
	}
	return i
}

// Action is a change of a container's state.
type Action string

// The actions, by the names of their paths below nodes/{node}/lxc/{vmid}/status. All need VM.PowerMgmt.
const (
	ActionStart    Action = "start"
	ActionStop     Action = "stop" // at once, as if the power went
	ActionShutdown Action = "shutdown"
	ActionReboot   Action = "reboot"
	ActionSuspend  Action = "suspend" // fails on most hosts: it needs working checkpoints
	ActionResume   Action = "resume"
)

// ChangeOptions refine a change. One that its action doesn't have is an *InputError.
type ChangeOptions struct {
	// Timeout is how long a shutdown or reboot waits for the container, in whole seconds; 0 means PVE's default, 60 s.
	Timeout time.Duration
	// ForceStop lets a shutdown that isn't done in time stop the container.
	ForceStop bool
	// OverruleShutdown lets a stop end a shutdown of the same container that is under way.
	OverruleShutdown bool
}

// Change starts a change of a container's state and returns the task that carries it out: success here says that it
// began. It is sent once; after KindHostUnreachable it may have begun all the same.
func (h *Host) Change(ctx context.Context, credentials Credentials, node string, vmid int, action Action, o ChangeOptions) (UPID, error) {
	switch action {
	case ActionStart, ActionStop, ActionShutdown, ActionReboot, ActionSuspend, ActionResume:
	default:
		return UPID{}, &InputError{Field: "action", Message: "There is no such action"}
	}
	waits := action == ActionShutdown || action == ActionReboot
	if o.Timeout != 0 && !waits || o.ForceStop && action != ActionShutdown || o.OverruleShutdown && action != ActionStop {
		return UPID{}, &InputError{Field: "action", Message: "This action does not have that option"}
	}
	if o.Timeout < 0 {
		return UPID{}, &InputError{Field: "timeout", Message: "The timeout must not be negative"}
	}

	c := post(credentials, "nodes", node, "lxc", strconv.Itoa(vmid), "status", string(action))
	if o.Timeout > 0 {
		c.setInt("timeout", int64((o.Timeout+time.Second-1)/time.Second))
	}
	c.setFlag("forceStop", o.ForceStop)
	c.setFlag("overrule-shutdown", o.OverruleShutdown)
	return h.task(ctx, c)
}

// DeleteOptions refine the removal of a container.
type DeleteOptions struct {
	Force bool // even while it runs
	Purge bool // from backup jobs, replication, HA and firewall as well
	// UnreferencedDisks removes disks with the container's VMID that its configuration doesn't name.
	UnreferencedDisks bool
}

// DeleteContainer destroys a container and its disks, and returns the task that does. It needs VM.Allocate.
func (h *Host) DeleteContainer(ctx context.Context, credentials Credentials, node string, vmid int, o DeleteOptions) (UPID, error) {
	c := remove(credentials, "nodes", node, "lxc", strconv.Itoa(vmid))
	c.setFlag("force", o.Force)
	c.setFlag("purge", o.Purge)
	c.setFlag("destroy-unreferenced-disks", o.UnreferencedDisks)
	return h.task(ctx, c)
}
