package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
)

func TestCollection(t *testing.T) {
	c := collection{node: "n"}
	for _, r := range []pve.Resource{
		{Type: "qemu", VMID: 200, Name: "a machine", Node: "pve1"}, {Type: "lxc", Name: "no number"}, {Type: "node", Node: "pve1"},
		{Type: "lxc", VMID: 101, Name: "a", Node: "pve1", Uptime: 90 * time.Second, Lock: "backup", Template: true},
		{Type: "lxc", VMID: 102, Node: strings.Clone("pve1"), Tags: []string{"cloud"}},
	} {
		if err := c.add(r); err != nil {
			t.Fatal(err)
		}
	}
	got := c.guests()
	if len(got) != 3 || got[2].Kind != QEMU || got[2].Name != "a machine" || got[0].VMID != 101 || got[0].NodeID != "n" || got[0].Uptime != 90 || got[0].Tags == nil || !got[0].Template || got[1].Tags[0] != "cloud" {
		t.Errorf("%+v, want the containers alone", got)
	}
	if unsafe.StringData(got[0].Node) != unsafe.StringData(got[1].Node) {
		t.Error("two containers of one member do not share its name")
	}
}

func TestAbuseCollectionHasBounds(t *testing.T) {
	var many collection
	for i := range maxContainers {
		if err := many.add(pve.Resource{Type: "lxc", VMID: 100 + i, Name: fmt.Sprintf("container-%d", i), Node: fmt.Sprintf("pve%d", i%32), Tags: []string{"family", "cloud"}}); err != nil {
			t.Fatalf("container %d of a large cluster: %v", i, err)
		}
	}
	if err := many.add(pve.Resource{Type: "qemu", VMID: 100}); err != nil {
		t.Errorf("a machine beside them: %v", err)
	}
	if err := many.add(pve.Resource{Type: "lxc", VMID: 100}); !errors.Is(err, pve.ErrTooMany) {
		t.Errorf("one container more: %v", err)
	}
	long := strings.Repeat("x", 200)
	for name, fill := range map[string]func(i int) pve.Resource{
		"names":                        func(int) pve.Resource { return pve.Resource{Name: long} },
		"members":                      func(i int) pve.Resource { return pve.Resource{Node: fmt.Sprint(long, i)} },
		"statuses":                     func(i int) pve.Resource { return pve.Resource{Status: fmt.Sprint(long, i)} },
		"locks":                        func(i int) pve.Resource { return pve.Resource{Lock: fmt.Sprint(long, i)} },
		"tags":                         func(i int) pve.Resource { return pve.Resource{Tags: []string{fmt.Sprint(long, i)}} },
		"equal":                        func(int) pve.Resource { return pve.Resource{Tags: make([]string, 64)} },
		"same tags, long on a page":    func(int) pve.Resource { return pve.Resource{Tags: slices.Repeat([]string{long}, 64)} },
		"same member, again and again": func(int) pve.Resource { return pve.Resource{Node: long} },
		"same status, again and again": func(int) pve.Resource { return pve.Resource{Status: long} },
		"same lock, again and again":   func(int) pve.Resource { return pve.Resource{Lock: long} },
		"short names to be escaped":    func(int) pve.Resource { return pve.Resource{Name: strings.Repeat("&", 60)} },
	} {
		var c collection
		var err error
		for i := 0; err == nil && i < maxContainers; i++ {
			r := fill(i)
			r.Type, r.VMID = "lxc", 100+i
			err = c.add(r)
		}
		if !errors.Is(err, pve.ErrTooMany) || c.weight() > 4<<20 {
			t.Errorf("%s: %v after %d containers and %d bytes", name, err, len(c.containers), c.weight())
		}
	}
}

// What a collection accepts is bounded where it is written down too, not only in memory.
func TestAbuseCollectionIsSmallWrittenDown(t *testing.T) {
	for _, text := range []string{"a", "&", "<", `"`, "'", `\`, "é", "\U0001f433"} {
		for _, r := range []pve.Resource{
			{Name: strings.Repeat(text, 40)}, {Node: strings.Repeat(text, 40)}, {Tags: slices.Repeat([]string{strings.Repeat(text, 20)}, 64)},
		} {
			var c collection
			for i := 0; i < maxContainers; i++ {
				r.Type, r.VMID = "lxc", 100+i
				if c.add(r) != nil {
					break
				}
			}
			var page, list int
			for _, c := range c.containers {
				for _, s := range append([]string{c.Name, c.Node}, c.Tags...) {
					page += len(html.EscapeString(s))
				}
				empty := *c
				empty.Name, empty.Node, empty.Tags = "", "", make([]string, len(c.Tags))
				list += jsonLen(t, c) - jsonLen(t, &empty)
			}
			if len(c.containers) == 0 || page > maxRendered || list > maxRendered {
				t.Errorf("%d containers with %q: %d bytes of text on pages, %d in the API", len(c.containers), text, page, list)
			}
		}
	}
}

func jsonLen(t *testing.T, c *Container) int {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return len(text)
}

func TestTagsOfAContainer(t *testing.T) {
	many := make([]string, 20)
	for i := range many {
		many[i] = fmt.Sprintf("tag%d", i)
	}
	many[1] = strings.Repeat("é", 40)
	many[2] = strings.Repeat("x", maxTag)
	var c collection
	if err := c.add(pve.Resource{Type: "lxc", VMID: 101, Tags: many}); err != nil {
		t.Fatal(err)
	}
	got := c.containers[0]
	if len(got.Tags) != 16 || got.MoreTags != 4 || got.Tags[15] != "tag15" {
		t.Errorf("%q and %d more", got.Tags, got.MoreTags)
	}
	if cut := strings.Repeat("é", 30) + "…"; got.Tags[1] != cut || got.Tags[2] != many[2] {
		t.Errorf("%q and %q, want %q and the other whole", got.Tags[1], got.Tags[2], cut)
	}
}

// Machines have a share of their own, so that no number of them keeps containers from being listed.
func TestAbuseManyMachines(t *testing.T) {
	for name, machine := range map[string]pve.Resource{
		"many": {Name: "machine"}, "long": {Name: strings.Repeat("x", 250)}, "words": {}, "same tags": {Tags: slices.Repeat([]string{strings.Repeat("&", 60)}, 64)},
	} {
		var c collection
		for i := range maxContainers {
			machine.Type, machine.VMID = QEMU, 20_000+i
			if name == "words" {
				machine.Lock = fmt.Sprint(strings.Repeat("x", 200), i)
			}
			if err := c.add(machine); err != nil {
				t.Fatal(err)
			}
		}
		for i := range maxContainers {
			if err := c.add(pve.Resource{Type: LXC, VMID: 100 + i, Name: "container", Node: "pve1"}); err != nil {
				t.Fatalf("%s: container %d: %v", name, i, err)
			}
		}
		if len(c.words) > 5000 {
			t.Errorf("%s: %d words are kept", name, len(c.words))
		}
		if len(c.machines) == 0 || c.weight() > 6<<20 {
			t.Errorf("%s: %d machines, %d bytes", name, len(c.machines), c.weight())
		}
	}
}

func TestGuestsAreNamedOnce(t *testing.T) {
	var c collection
	for _, name := range []string{"first", "second"} {
		if err := c.add(pve.Resource{Type: LXC, VMID: 7, Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.guests(); len(got) != 1 || got[0].Name != "first" {
		t.Errorf("%v", names(got))
	}
}

func TestAbuseManyLargeReadings(t *testing.T) {
	at := time.Now()
	s := NewService(nil, func() time.Time { return at })
	who := func(i int) session.Identity {
		return session.Identity{Datacenter: "dc", UserID: fmt.Sprintf("user%d@pve", i)}
	}
	for i := range 100 {
		at = at.Add(time.Second)
		f := s.feedsOf(audience{who(i), true}, []node.Node{{ID: "n"}})[0]
		s.weigh(f, 3<<20)
		s.weigh(f, 3<<20) // read again
		if s.weight > maxWeight || s.weight != len(s.feeds)*3<<20 {
			t.Fatalf("%d readings weigh %d bytes", len(s.feeds), s.weight)
		}
	}
	if s.feeds[source{who(99), "n"}] == nil || s.feeds[source{who(0), "n"}] != nil {
		t.Error("not the reading that nobody asked for the longest was forgotten")
	}
	at = at.Add(2 * keptFor)
	if s.Sweep(); len(s.feeds) != 0 || s.weight != 0 {
		t.Errorf("%d readings are left, of %d bytes", len(s.feeds), s.weight)
	}
}

func TestCollectionTakesOverWhatIsAsBefore(t *testing.T) {
	guest := pve.Resource{Type: "lxc", VMID: 101, Name: "a", Status: "running", NetIn: 10, Tags: []string{"cloud"}}
	read := func(earlier []*Container, r pve.Resource) *Container {
		c := collection{node: "n", earlier: earlier}
		if err := c.add(r); err != nil {
			t.Fatal(err)
		}
		return c.guests()[0]
	}
	shown := *read(nil, guest)
	shown.Addresses = []string{"192.0.2.1"}
	before := []*Container{&shown}
	if read(before, guest) != before[0] {
		t.Error("a container that is as it was is in memory twice")
	}
	for what, change := range map[string]func(*pve.Resource){
		"counter": func(r *pve.Resource) { r.NetIn++ },
		"status":  func(r *pve.Resource) { r.Status = "stopped" },
		"tags":    func(r *pve.Resource) { r.Tags = nil },
		"kind":    func(r *pve.Resource) { r.Type = "qemu" },
	} {
		other := guest
		change(&other)
		if read(before, other) == before[0] {
			t.Errorf("another %s goes unseen", what)
		}
	}
}
