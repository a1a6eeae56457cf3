package container

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"berth/internal/node"
	"berth/internal/session"
)

// TestAbuseReadingsOfStrangers: somebody with a host and as many users of it as they like makes Berth forget what it knows of their
// own containers, and of nobody else's.
func TestAbuseReadingsOfStrangers(t *testing.T) {
	for name, weight := range map[string]int{"that weigh much": 4 << 20, "that are many": 0} {
		t.Run(name, func(t *testing.T) {
			at := time.Now()
			s := NewService(nil, func() time.Time { return at })
			read := func(datacenter, user string, weight int) {
				at = at.Add(time.Second)
				f := s.feedsOf(audience{session.Identity{Datacenter: datacenter, UserID: user}, true}, []node.Node{{ID: "n"}})[0]
				s.weigh(f, weight)
			}
			has := func(datacenter, user string) bool {
				return s.feeds[source{session.Identity{Datacenter: datacenter, UserID: user}, "n"}] != nil
			}
			read("dc", "alice@pve", 8<<10)
			read("fake", "root@pam", 8<<10)
			for i := range maxKept + 10 {
				read("fake", fmt.Sprintf("u%d@pam", i), weight)
			}
			if s.weight > maxWeight || len(s.feeds) > maxKept {
				t.Errorf("%d readings of %d bytes", len(s.feeds), s.weight)
			}
			if !has("dc", "alice@pve") {
				t.Error("those of another datacenter were forgotten")
			}
			if weight > 0 && !has("fake", "root@pam") {
				t.Error("those of an identity that takes little were forgotten")
			}
		})
	}
}

// TestAbuseStreamsOfStrangers: somebody with hosts and as many users as they like takes no stream away from others.
func TestAbuseStreamsOfStrangers(t *testing.T) {
	alice := session.Identity{Datacenter: "dc", UserID: "alice@pve"}
	home := networkOf(netip.MustParseAddr("192.0.2.7"))
	// takeAll takes what can be had.
	takeAll := func(s *seats, of session.Identity, from netip.Prefix) (n int) {
		for ; s.free(of, from); n++ {
			s.take(of, from, 1)
		}
		return n
	}
	for name, stranger := range map[string]func(i int) (session.Identity, netip.Prefix){
		"of one datacenter from many networks": func(i int) (session.Identity, netip.Prefix) {
			return session.Identity{Datacenter: "fake", UserID: fmt.Sprintf("u%d@pam", i)}, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 32)
		},
		"of many datacenters from one network": func(i int) (session.Identity, netip.Prefix) {
			from := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(i)})
			return session.Identity{Datacenter: fmt.Sprintf("fake%d", i), UserID: "root@pam"}, networkOf(from)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSeats()
			taken := 0
			for i := range 100 {
				of, from := stranger(i)
				n := takeAll(&s, of, from)
				if taken += n; i == 0 && n != maxWatchesOfOne {
					t.Errorf("the first has %d, want %d", n, maxWatchesOfOne)
				}
			}
			if taken > maxWatches/2 {
				t.Errorf("they took %d of %d", taken, maxWatches)
			}
			if n := takeAll(&s, alice, home); n < 1000 {
				t.Errorf("%d are left for one of another datacenter and network", n)
			}
		})
	}
	s := newSeats()
	for range 3 {
		s.take(alice, home, 1)
		s.take(alice, netip.Prefix{}, 1)
	}
	for range 3 {
		s.take(alice, home, -1)
		s.take(alice, netip.Prefix{}, -1)
	}
	if len(s.identities)+len(s.datacenters)+len(s.networks)+s.all != 0 {
		t.Errorf("what was given back is counted: %+v", s)
	}
}
