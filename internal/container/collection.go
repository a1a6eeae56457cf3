package container

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"berth/internal/pve"
)

// collection takes the containers out of a list of resources as it arrives, so that what else a host sends is never in
// memory. A host can fill neither more places nor more text than the bounds of a reading allow.
type collection struct {
	node       string
	containers []*Container
	text       int // bytes in memory
	rendered   int // bytes of a page or an answer
	// words are texts that many containers share: one copy of each.
	words map[string]string
}

const (
	// maxTags and maxTag bound what is kept of one container's tags: how many, and how many bytes of each. Proxmox VE has
	// no such bounds; what is beyond them is counted.
	maxTags = 16
	maxTag  = 64
	// maxRendered bounds the texts of one reading as they are written down: each as often as it occurs, and escaped. A
	// word that thousands of containers share is small in memory alone.
	maxRendered = 3 << 19
)

var (
	errManyContainers = fmt.Errorf("%w: more than %d containers", pve.ErrTooMany, maxContainers)
	errMuchText       = fmt.Errorf("%w: more than %d bytes of names and tags", pve.ErrTooMany, maxText)
	errLongPages      = fmt.Errorf("%w: more than %d bytes of names and tags, each time that they occur", pve.ErrTooMany, maxRendered)
)

// add takes a resource if it is a container.
func (c *collection) add(r pve.Resource) error {
	if r.Type != "lxc" || r.VMID == 0 {
		return nil
	}
	if len(c.containers) == maxContainers {
		return errManyContainers
	}
	kept := min(len(r.Tags), maxTags)
	tags := make([]string, kept)
	for i, tag := range r.Tags[:kept] {
		tags[i] = c.shared(shortened(tag))
	}
	// Tags count as they were sent, so that a list is refused for what it is and not for what is left of it.
	c.text += len(r.Name) + len(r.Tags)*int(unsafe.Sizeof(""))
	for _, tag := range r.Tags {
		c.rendered += escapedLen(tag)
	}
	c.rendered += escapedLen(r.Name) + escapedLen(r.Node) + escapedLen(r.Status) + escapedLen(r.Lock)
	added := &Container{
		NodeID: c.node, Node: c.shared(r.Node), VMID: r.VMID, Name: r.Name, Status: c.shared(r.Status),
		CPU: r.CPU, MaxCPU: r.MaxCPU, Mem: r.Mem, MaxMem: r.MaxMem, Disk: r.Disk, MaxDisk: r.MaxDisk,
		Uptime: int64(r.Uptime / time.Second), Tags: tags, MoreTags: len(r.Tags) - kept, Lock: c.shared(r.Lock), Template: r.Template,
	}
	if c.text > maxText {
		return errMuchText
	}
	if c.rendered > maxRendered {
		return errLongPages
	}
	c.containers = append(c.containers, added)
	return nil
}

func (c *collection) shared(word string) string {
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
	c.text += len(word) + 2*int(unsafe.Sizeof(""))
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

// weight is about how many bytes the containers take.
func (c *collection) weight() int {
	return len(c.containers)*int(unsafe.Sizeof(Container{})+unsafe.Sizeof(&Container{})) + c.text
}
