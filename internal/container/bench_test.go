package container

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
)

// largeFleet is a service that knows so many nodes with so many containers each, which never grow old.
func largeFleet(tb testing.TB, nodes, each int) *Service {
	tb.Helper()
	at := time.Now()
	d := newDoors()
	s := NewService(d, func() time.Time { return at })
	alice := caller("dc", "alice@pve", 1)
	for n := range nodes {
		id := fmt.Sprintf("node%03d", n)
		d.nodes = append(d.nodes, node.Node{ID: id, Name: id, Address: addressOf(id)})
		s.fill(tb, alice, id, each, 0)
	}
	return s
}

// fill reads so many containers through a node, whose figures differ with the round.
func (s *Service) fill(tb testing.TB, c session.Caller, id string, each, round int) {
	tb.Helper()
	f := s.feedsOf(audienceOf(c), []node.Node{{ID: id, Address: addressOf(id)}})[0]
	read := collection{node: id}
	for i := range each {
		err := read.add(pve.Resource{
			Type: LXC, VMID: 100 + i, Name: fmt.Sprintf("Container-%d", i*7919%each), Node: fmt.Sprintf("pve%d", i%3), Status: "running",
			CPU: float64(i*31%1000) / 1000, MaxCPU: 4, Mem: int64(i + round), MaxMem: 1 << 30, Uptime: time.Duration(1000+round) * time.Second,
			Tags: []string{"family", fmt.Sprint("team", i%20)},
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	f.mu.Lock()
	f.take(&read, s.now())
	f.guests.tried, f.guests.known = s.now(), true
	f.mu.Unlock()
	s.weigh(f, read.weight())
}

// The list of ten thousand containers, as a page asks for it: a window, a window that is searched for, and the first window
// after everything has changed.
func BenchmarkList(b *testing.B) {
	alice := caller("dc", "alice@pve", 1)
	window := Query{Sort: "name", Offset: 5000, Limit: "300"}
	for _, size := range []struct{ nodes, each int }{{1, 100}, {1, 10_000}, {100, 100}} {
		s := largeFleet(b, size.nodes, size.each)
		for name, q := range map[string]Query{
			"window": window, "search": {Sort: "-cpu", Q: "container-77 team", Limit: "300"}, "nothing found": {Q: "10.1.2.3"},
		} {
			b.Run(fmt.Sprintf("%dx%d/%s", size.nodes, size.each, name), func(b *testing.B) {
				for b.Loop() {
					if _, err := s.List(b.Context(), alice, q); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("%dx%d/changed", size.nodes, size.each), func(b *testing.B) {
			for round := 0; b.Loop(); round++ {
				b.StopTimer()
				for n := range size.nodes {
					s.fill(b, alice, fmt.Sprintf("node%03d", n), size.each, round)
				}
				b.StartTimer()
				if _, err := s.List(b.Context(), alice, window); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A search over ten thousand containers costs no more than a small multiple of looking at their names once, and the window
// of an order that is known already no more than that.
func TestLargeListsAreQuick(t *testing.T) {
	s := largeFleet(t, 100, 100)
	alice := caller("dc", "alice@pve", 1)
	seen, err := s.look(t.Context(), alice)
	if err != nil || len(seen.rows) != 10_000 {
		t.Fatal(len(seen.rows), err)
	}
	fastest := func(do func()) time.Duration {
		var all []time.Duration
		for range 20 {
			begun := time.Now()
			do()
			all = append(all, time.Since(begun))
		}
		return slices.Min(all)
	}
	found := 0
	names := fastest(func() {
		for _, c := range seen.rows {
			if strings.Contains(strings.ToLower(c.Name), "container-77") {
				found++
			}
		}
	})
	search := fastest(func() {
		if l, err := s.List(t.Context(), alice, Query{Q: "container-77 team", Limit: "300"}); err != nil || l.Matched == 0 {
			t.Fatal(l.Matched, err)
		}
	})
	window := fastest(func() {
		if l, err := s.List(t.Context(), alice, Query{Sort: "name", Offset: 5000, Limit: "300"}); err != nil || len(l.Items) != 300 {
			t.Fatal(len(l.Items), err)
		}
	})
	t.Logf("names alone %v, search %v (%.1f times), window %v (%.1f times)", names, search, float64(search)/float64(names), window, float64(window)/float64(names))
	if search > 40*names || window > 20*names {
		t.Errorf("names alone %v, search %v, window %v: far too slow", names, search, window)
	}
}
