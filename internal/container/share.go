package container

import (
	"cmp"
	"net/netip"

	"berth/internal/session"
)

// Memory and streams are shared by all who use Berth, and there may be as many identities as somebody makes up at a host of
// their own. So whoever takes much is the first to go without: a datacenter before others, and in it an identity before others.

// forgetSome forgets a feed, but not the given one, for want of what each takes a size of: in the datacenter that takes most, of
// the identity that takes most there, the one that nobody has asked for the longest. It tells whether there was any.
func (s *Service) forgetSome(but *feed, size func(*feed) int) bool {
	datacenters, identities := map[string]int{}, map[session.Identity]int{}
	for _, f := range s.feeds {
		datacenters[f.identity.Datacenter] += size(f)
		identities[f.identity] += size(f)
	}
	var first *feed
	for _, f := range s.feeds {
		if f == but {
			continue
		}
		if first == nil || cmp.Or(
			cmp.Compare(datacenters[f.identity.Datacenter], datacenters[first.identity.Datacenter]),
			cmp.Compare(identities[f.identity], identities[first.identity]),
			first.wanted.Compare(f.wanted),
		) > 0 {
			first = f
		}
	}
	if first != nil {
		s.forget(first)
	}
	return first != nil
}

// seats counts watches by who has them.
type seats struct {
	all         int
	identities  map[session.Identity]int
	datacenters map[string]int
	networks    map[netip.Prefix]int
}

func newSeats() seats {
	return seats{identities: map[session.Identity]int{}, datacenters: map[string]int{}, networks: map[netip.Prefix]int{}}
}

const (
	// maxWatches bounds the watches there are, and maxWatchesOfOne those of one identity.
	maxWatches      = 10_000
	maxWatchesOfOne = 2_000
)

// free tells whether an identity may have one more watch. No datacenter and no network takes more than it leaves free for all
// others, and an identity no more than its datacenter and network may still take.
func (s *seats) free(of session.Identity, from netip.Prefix) bool {
	left := maxWatches - s.all - max(s.datacenters[of.Datacenter], s.networks[from])
	return s.identities[of] < min(left, maxWatchesOfOne)
}

// take counts one more watch, or with -1 one less.
func (s *seats) take(of session.Identity, from netip.Prefix, n int) {
	s.all += n
	tally(s.identities, of, n)
	tally(s.datacenters, of.Datacenter, n)
	if from.IsValid() {
		tally(s.networks, from, n)
	}
}

func tally[K comparable](in map[K]int, of K, n int) {
	if in[of] += n; in[of] == 0 {
		delete(in, of)
	}
}

// networkOf is what one client can choose addresses from: an IPv4 address, or a /64; not valid for one that is not known.
func networkOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // of the zero value there is none
	return p
}
