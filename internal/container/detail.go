package container

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"berth/internal/audit"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// partTimeout is how long a page about one container waits for its parts, which are asked for side by side.
const partTimeout = 8 * time.Second

// Audit takes what was done.
type Audit interface {
	Record(ctx context.Context, e audit.Entry)
}

// RightsNodes are the caller's nodes with what may be done there.
type RightsNodes interface {
	Nodes
	Rights(ctx context.Context, caller session.Caller, id string) (pve.Permissions, error)
}

// Details reads and edits single containers: what Proxmox VE's lists have no room for. It is safe for
// concurrent use.
type Details struct {
	containers *Service
	nodes      RightsNodes
	audit      Audit
	recently   liveReadings
}

// NewDetails returns the details of a service's containers.
func NewDetails(containers *Service, nodes RightsNodes, trail Audit) *Details {
	return &Details{containers: containers, nodes: nodes, audit: trail}
}

// Choice names a container in an address.
type Choice struct {
	NodeID string `json:"-" path:"nodeId" doc:"id of the node"`
	VMID   string `json:"-" path:"vmid" doc:"of the container"`
}

func (c Choice) vmid() int {
	vmid, err := strconv.Atoi(c.VMID)
	if err != nil || strconv.Itoa(vmid) != c.VMID {
		return 0
	}
	return vmid
}

// Detail is one container: its row in the list, and what its host says of it now. A part that could not be read is null, or
// empty, and Problems says why; the others are as if nothing were wrong.
type Detail struct {
	*Container
	Live       *Live             `json:"live" doc:"what it uses at this moment"`
	Config     *Config           `json:"config"`
	Interfaces []Interface       `json:"interfaces" doc:"its network interfaces with their addresses, as it has them itself while it runs, else as its configuration gives them"`
	MayEdit    bool              `json:"mayEdit" doc:"tags and description can be changed with the credentials that the node has, as far as their rights could be read"`
	Problems   map[string]string `json:"problems,omitempty" doc:"why a part could not be read, by its name: live, config, interfaces"`
}

// The parts of a Detail in its Problems.
const (
	PartLive       = "live"
	PartConfig     = "config"
	PartInterfaces = "interfaces"
	partRights     = "rights"
)

// Live is what a container uses at this moment. Sizes are bytes, Uptime is seconds; the last four are counters since its
// start.
type Live struct {
	Status    string  `json:"status" example:"running"`
	CPU       float64 `json:"cpu" doc:"used share of maxcpu cores, 0 to 1"`
	MaxCPU    float64 `json:"maxcpu" doc:"cores"`
	Mem       int64   `json:"mem"`
	MaxMem    int64   `json:"maxmem"`
	Swap      int64   `json:"swap"`
	MaxSwap   int64   `json:"maxswap"`
	Disk      int64   `json:"disk"`
	MaxDisk   int64   `json:"maxdisk"`
	Uptime    int64   `json:"uptime"`
	Lock      string  `json:"lock,omitempty"`
	HA        string  `json:"ha,omitempty" doc:"how high availability has it, where that manages it" example:"started"`
	NetIn     int64   `json:"netin" doc:"bytes since its start, as are the next three"`
	NetOut    int64   `json:"netout"`
	DiskRead  int64   `json:"diskread"`
	DiskWrite int64   `json:"diskwrite"`
}

// Interface is a network interface of a container.
type Interface struct {
	Name      string         `json:"name" example:"eth0"`
	MAC       string         `json:"mac,omitempty"`
	Addresses []netip.Prefix `json:"addresses" doc:"with the lengths of their prefixes; those of the loopback interface and of single links are left out"`
	// Configured tells addresses of the configuration from those that the container has told of.
	Configured bool `json:"configured,omitempty" doc:"the addresses are those of the configuration, not what the container has now"`
}

// maxInterfaces bounds the interfaces that are kept of one container; one with containers of its own has many.
const maxInterfaces = 64

// Get is the authenticated action that shows one container. Only a container that isn't there, or isn't the caller's, and
// an ended session are errors; whatever else fails costs the part that it belongs to.
func (d *Details) Get(ctx context.Context, caller session.Caller, in Choice) (Detail, error) {
	c, err := d.find(ctx, caller, in)
	if err != nil {
		return Detail{}, err
	}
	detail := Detail{Container: c, Interfaces: []Interface{}, MayEdit: true, Problems: map[string]string{}}
	var inside []Interface
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	err = d.side(map[string]func() error{
		PartLive: func() (err error) {
			detail.Live, err = d.live(ctx, caller, c)
			return err
		},
		PartConfig: func() error {
			return d.call(ctx, caller, c, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
				config, err := host.ContainerConfig(ctx, with, c.Node, c.VMID)
				if err == nil {
					detail.Config = readConfig(config)
				}
				return err
			})
		},
		PartInterfaces: func() error {
			return d.call(ctx, caller, c, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
				list, err := host.Interfaces(ctx, with, c.Node, c.VMID)
				inside = readInterfaces(list)
				return err
			})
		},
		partRights: func() error {
			rights, err := d.nodes.Rights(ctx, caller, c.Door)
			if err == nil {
				detail.MayEdit = rights.Holds("/vms/"+strconv.Itoa(c.VMID), "VM.Config.Options")
			}
			return err
		},
	}, detail.Problems)
	delete(detail.Problems, partRights) // then Proxmox VE says what may be done when it is tried
	if err != nil {
		return Detail{}, err
	}
	if detail.Interfaces = inside; len(inside) == 0 {
		detail.Interfaces = configuredInterfaces(detail.Config)
	}
	return detail, nil
}

// shownTasks is how many tasks of one container are shown.
const shownTasks = 15

// Tasks are the newest tasks of one container on its member, those that run first, as far as Proxmox VE shows them to the
// caller.
func (d *Details) Tasks(ctx context.Context, caller session.Caller, in Choice) ([]pve.Task, error) {
	c, err := d.find(ctx, caller, in)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	var tasks []pve.Task
	err = d.call(ctx, caller, c, func(ctx context.Context, host *pve.Host, with pve.Credentials) (err error) {
		tasks, _, err = host.Tasks(ctx, with, c.Node, pve.TaskFilter{VMID: c.VMID, Source: pve.AllTasks, Limit: shownTasks})
		return err
	})
	return tasks[:min(len(tasks), shownTasks)], err
}

// Trouble is why a part of a page about a container could not be read, as a sentence; empty for what is no part's own
// trouble, such as the end of the session.
func Trouble(err error) string { return partProblem(err) }

// Target names a container in the audit trail: by what its node is called, its member unless that has the same name, and
// its number. Members of two hosts may have one name, and nodes of one owner can't.
func (c *Container) Target(node string) string {
	place := c.Node
	if node != "" && node != c.Node {
		place = node + " / " + c.Node
	}
	return strings.TrimSpace(fmt.Sprintf("%s / %d %s", place, c.VMID, c.Name))
}

// nodeName is what the caller calls the node of a container; empty once it is gone.
func (d *Details) nodeName(ctx context.Context, caller session.Caller, c *Container) string {
	nodes, err := d.nodes.List(ctx, caller)
	if err != nil {
		return ""
	}
	for _, n := range nodes {
		if n.ID == c.NodeID {
			return n.Name
		}
	}
	return ""
}

// find is the container that was chosen. A virtual machine is none.
func (d *Details) find(ctx context.Context, caller session.Caller, in Choice) (*Container, error) {
	c, err := d.containers.Find(ctx, caller, in.NodeID, in.vmid())
	if err == nil && c.Kind != LXC {
		return nil, fault.NoSuch("container")
	}
	return c, err
}

// call runs a call through the door that the container was read through last.
func (d *Details) call(ctx context.Context, caller session.Caller, c *Container, call func(context.Context, *pve.Host, pve.Credentials) error) error {
	return d.nodes.Call(ctx, caller, c.Door, call)
}

// side runs parts side by side, and notes why one failed by its name. What is wrong with the caller rather than with a part
// is an error.
func (d *Details) side(parts map[string]func() error, problems map[string]string) error {
	var wait sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for name, part := range parts {
		wait.Go(func() {
			err := part()
			if err == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if why := partProblem(err); why != "" {
				problems[name] = why
			} else {
				failed = err
			}
		})
	}
	wait.Wait()
	return failed
}

// partProblem is why a part could not be read, as a sentence; empty for what is no part's own trouble.
func partProblem(err error) string {
	var refused *pve.Error
	if !errors.As(err, &refused) {
		if f := fault.As(err); f != nil && f.Kind == fault.Forbidden {
			return f.Message
		}
		return ""
	}
	switch refused.Kind {
	case pve.KindForbidden:
		return "Your account may not read this: " + refused.Message
	case pve.KindServer, pve.KindInvalidParameters, pve.KindNotFound:
		return "Proxmox VE answered: " + refused.Message
	case pve.KindUnsupported:
		return "This version of Proxmox VE does not tell."
	case pve.KindMemberUnreachable:
		return "The host that was asked could not reach the cluster member that has the container."
	}
	return "The host could not be asked: " + troubleOf(err).text + "."
}

func readLive(c pve.Container) *Live {
	live := &Live{
		Status: c.Status, CPU: c.CPU, MaxCPU: c.CPUs, Mem: c.Mem, MaxMem: c.MaxMem, Swap: c.Swap, MaxSwap: c.MaxSwap,
		Disk: c.Disk, MaxDisk: c.MaxDisk, Uptime: int64(c.Uptime / time.Second), Lock: c.Lock,
		NetIn: c.NetIn, NetOut: c.NetOut, DiskRead: c.DiskRead, DiskWrite: c.DiskWrite,
	}
	if c.HA {
		live.HA = c.HAState
	}
	return live
}

// readInterfaces keeps the interfaces and addresses by which others reach the container.
func readInterfaces(list []pve.Interface) []Interface {
	var kept []Interface
	for _, i := range list {
		addresses := slices.DeleteFunc(slices.Clone(i.Addresses), func(p netip.Prefix) bool {
			return p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast()
		})
		if i.Name == "lo" && len(addresses) == 0 {
			continue
		}
		if len(kept) == maxInterfaces {
			break
		}
		kept = append(kept, Interface{Name: i.Name, MAC: i.MAC, Addresses: slices.Clip(addresses)})
	}
	return kept
}

// configuredInterfaces are those that a configuration gives, for a container that can't be asked itself.
func configuredInterfaces(c *Config) []Interface {
	list := []Interface{}
	if c == nil {
		return list
	}
	for _, n := range c.Networks {
		addresses := n.static()
		if addresses == nil {
			addresses = []netip.Prefix{}
		}
		list = append(list, Interface{Name: n.Name, MAC: n.MAC, Addresses: addresses, Configured: true})
	}
	return list
}
