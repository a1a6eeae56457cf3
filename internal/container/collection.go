package container

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"berth/internal/pve"
)

// collection takes the guests out of a list of resources as it arrives, so that what else a host sends is never in memory.
// A host can fill neither more places nor more text than the bounds of a reading allow. Virtual machines beyond bounds of
// their own are left out, so that they keep no container from being listed.
type collection struct {
	node string
	// earlier are the guests of the reading before, by VMID. Those that are as they were are taken over, so that a list is not
	// in memory twice while it is read again.
	earlier    []*Container
	containers []*Container
	machines   []*Container
	// Of the containers, and of the machines.
	of, ofMachines account
	full           bool // of machines
	// words are texts that many containers share: one copy of each.
	words map[string]string
}

// account is what texts take.
type account struct {
	text     int // bytes in memory
	rendered int // bytes of a page or an answer
}

const (
	// maxTags and maxTag bound what is kept of one container's tags: how many, and how many bytes of each. Proxmox VE has
	// no such bounds; what is beyond them is counted.
	maxTags = 16
	maxTag  = 64
	// maxRendered bounds the texts of one reading as they are written down: each as often as it occurs, and escaped. A
	// word that thousands of containers share is small in memory alone.
	maxRendered = 3 << 19
	// machineShare is how much of these bounds virtual machines have beside the containers: one in so many.
	machineShare = 4
)

var (
	errManyContainers = fmt.Errorf("%w: more than %d containers", pve.ErrTooMany, maxContainers)
	errMuchText       = fmt.Errorf("%w: more than %d bytes of names and tags", pve.ErrTooMany, maxText)
	errLongPages      = fmt.Errorf("%w: more than %d bytes of names and tags, each time that they occur", pve.ErrTooMany, maxRendered)
)

// add takes a resource if it is a guest.
func (c *collection) add(r pve.Resource) error {
	if r.VMID == 0 {
		return nil
	}
	switch r.Type {
	case LXC:
		if len(c.containers) == maxContainers {
			return errManyContainers
		}
		added, err := c.take(r, &c.of, 1)
		if err != nil {
			return err
		}
		c.containers = append(c.containers, c.asBefore(added))
	case QEMU:
		if c.full || len(c.machines) == maxContainers/machineShare {
			return nil
		}
		before := c.ofMachines
		added, err := c.take(r, &c.ofMachines, machineShare)
		if err != nil {
			c.ofMachines, c.full = before, true
			return nil
		}
		c.machines = append(c.machines, c.asBefore(added))
	}
	return nil
}

// asBefore is the guest of the reading before if nothing about a new one differs, apart from the addresses, which are read
// elsewhere; else the new one.
func (c *collection) asBefore(added *Container) *Container {
	i, ok := slices.BinarySearchFunc(c.earlier, added, byVMID)
	if !ok {
		return added
	}
	before := c.earlier[i]
	now := *added
	now.Addresses = before.Addresses
	now.rate(before)
	if now.received != before.received || now.sent != before.sent || !now.equal(before) {
		return added
	}
	return before
}

// take makes a Container of a resource, on an account that has one part in so many of the bounds.
func (c *collection) take(r pve.Resource, on *account, share int) (*Container, error) {
	// Tags count as they were sent, so that a list is refused for what it is and not for what is left of it.
	on.text += len(r.Name) + len(r.Tags)*int(unsafe.Sizeof(""))
	for _, tag := range r.Tags {
		on.rendered += escapedLen(tag)
	}
	on.rendered += escapedLen(r.Name) + escapedLen(r.Node) + escapedLen(r.Status) + escapedLen(r.Lock)
	kept := min(len(r.Tags), maxTags)
	tags := make([]string, kept)
	for i, tag := range r.Tags[:kept] {
		tags[i] = c.shared(shortened(tag), on)
	}
	added := &Container{
		NodeID: c.node, Door: c.node, Kind: c.shared(r.Type, on), Node: c.shared(r.Node, on), VMID: r.VMID, Name: r.Name, Status: c.shared(r.Status, on),
		CPU: r.CPU, MaxCPU: r.MaxCPU, Mem: r.Mem, MaxMem: r.MaxMem, Disk: r.Disk, MaxDisk: r.MaxDisk,
		Uptime: int64(r.Uptime / time.Second), Tags: tags, MoreTags: int32(len(r.Tags) - kept), Addresses: []string{},
		Lock: c.shared(r.Lock, on), Template: r.Template, received: r.NetIn, sent: r.NetOut,
		folded: strings.ToLower(r.Name),
	}
	if added.folded != r.Name {
		on.text += len(added.folded)
	}
	if on.text > maxText/share {
		return nil, errMuchText
	}
	if on.rendered > maxRendered/share {
		return nil, errLongPages
	}
	return added, nil
}

func (c *collection) shared(word string, on *account) string {
	if word == "" {
		return ""
	}
	if same, ok := c.words[word]; ok {
		return same
	}
	if c.words == nil {
		c.words = map[string]string{}
	}
	word = strings.Clone(word) // a part of a long text would keep all of it
	c.words[word] = word
	on.text += len(word) + 2*int(unsafe.Sizeof(""))
	return word
}

// shortened is a tag as far as it is kept.
func shortened(tag string) string {
	if len(tag) <= maxTag {
		return tag
	}
	const mark = "…"
	end := maxTag - len(mark)
	for !utf8.RuneStart(tag[end]) {
		end--
	}
	return tag[:end] + mark
}

// escapedLen is how many bytes a text takes on a page or in JSON, whichever is more: encoding/json makes six bytes of the
// characters of markup, html.EscapeString five of quotes.
func escapedLen(s string) int {
	n := len(s)
	for i := range len(s) {
		switch s[i] {
		case '&', '<', '>':
			n += len(`\u0026`) - 1
		case '"', '\'':
			n += len("&#34;") - 1
		case '\\':
			n++
		}
	}
	return n
}

// guests are what was collected, by VMID. A host that names one twice is believed the first time.
func (c *collection) guests() []*Container {
	all := append(c.containers, c.machines...)
	slices.SortStableFunc(all, byVMID)
	return slices.CompactFunc(all, func(a, b *Container) bool { return a.VMID == b.VMID })
}

func byVMID(a, b *Container) int { return cmp.Compare(a.VMID, b.VMID) }

// weight is about how many bytes the guests take.
func (c *collection) weight() int {
	return (len(c.containers)+len(c.machines))*containerSize + c.of.text + c.ofMachines.text
}

const containerSize = int(unsafe.Sizeof(Container{}) + unsafe.Sizeof(&Container{}))
