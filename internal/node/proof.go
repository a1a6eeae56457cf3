package node

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"berth/internal/pve"
)

// Bounds of what is read of the installation behind a node.
const (
	// maxMembers is how many members are asked for their certificates; a Proxmox VE cluster has at most about 32.
	maxMembers      = 64
	maxCertificates = 200
	maxGuests       = 200
)

// readMembers asks a node about the installation behind it, as far as its credential may know: what it can't read only
// makes a proof impossible.
func readMembers(ctx context.Context, host *pve.Host, with pve.Credentials) (Members, error) {
	var m Members
	members, err := host.Nodes(ctx, with)
	if err != nil {
		return m, err
	}
	for _, member := range members[:min(len(members), maxMembers)] {
		m.Names = append(m.Names, member.Node)
		certificates, err := host.Certificates(ctx, with, member.Node)
		if err != nil {
			continue // a member that is down names nothing
		}
		for _, c := range certificates {
			if len(m.Fingerprints) < maxCertificates {
				m.Fingerprints = append(m.Fingerprints, c.Fingerprint)
			}
		}
	}
	slices.Sort(m.Names)
	err = host.EachResource(ctx, with, pve.GuestResources, func() func(pve.Resource) error {
		m.Guests = nil
		return func(r pve.Resource) error {
			if r.VMID != 0 && len(m.Guests) < maxGuests {
				sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%s", r.Node, r.VMID, r.Name))
				m.Guests = append(m.Guests, hex.EncodeToString(sum[:6]))
			}
			return nil
		}
	})
	slices.Sort(m.Guests)
	return m, err
}

// same tells whether two nodes are proven to lead to the same installation: the same public key is pinned, or each names
// the other's certificate as that of a member. One that only names the other proves nothing: any host can do that. Neither
// does a certificate for many names, which two installations could share.
func same(a, b Record) bool {
	if a.Members.Shared || b.Members.Shared {
		return false
	}
	if a.Key != nil && b.Key != nil && *a.Key == *b.Key {
		return true
	}
	var none pve.Fingerprint
	return a.Fingerprint != none && b.Fingerprint != none &&
		slices.Contains(a.Members.Fingerprints, b.Fingerprint) && slices.Contains(b.Members.Fingerprints, a.Fingerprint)
}

// alike tells whether two nodes look as if they led to the same installation: members and most guests have the same names.
func alike(a, b Record) bool {
	if len(a.Members.Names) == 0 || !slices.Equal(a.Members.Names, b.Members.Names) {
		return false
	}
	common := 0
	for _, guest := range a.Members.Guests {
		if _, found := slices.BinarySearch(b.Members.Guests, guest); found {
			common++
		}
	}
	// One of them may be allowed to see less.
	return common > 0 && 2*common >= min(len(a.Members.Guests), len(b.Members.Guests))
}

// join puts a node that was just tested, and is stored, into one cluster with all that it is proven to be the same as,
// whoever owns those. Each of two that are tested at the same moment is stored before it looks for the other.
func (s *Service) join(ctx context.Context, r Record) error {
	if r.Members.Shared {
		return nil
	}
	others, err := s.store.NodesShowing(ctx, r.Key, r.Members.Fingerprints)
	if err != nil {
		return err
	}
	clusters := []string{r.Cluster}
	datacenters := map[string]bool{}
	if r.Credential == BySession {
		datacenters[r.Cluster] = true
	}
	for _, other := range others {
		if other.ID == r.ID || !same(r, other) {
			continue
		}
		clusters = append(clusters, other.Cluster)
		if other.Credential == BySession {
			datacenters[other.Cluster] = true
		}
	}
	if r.Key != nil {
		pinning, err := s.store.DatacentersPinning(ctx, *r.Key)
		if err != nil {
			return err
		}
		for _, datacenter := range pinning {
			clusters = append(clusters, datacenter)
			datacenters[datacenter] = true
		}
	}
	// A datacenter's own id comes first, the owner's before others', so that its login hosts are of the same cluster.
	rank := func(cluster string) int {
		switch {
		case datacenters[cluster] && cluster == r.Owner.Datacenter:
			return 0
		case datacenters[cluster]:
			return 1
		}
		return 2
	}
	slices.SortFunc(clusters, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	clusters = slices.Compact(clusters)
	if len(clusters) == 1 {
		return nil
	}
	if err := s.store.JoinClusters(ctx, clusters[0], clusters[1:]); err != nil {
		return err
	}
	s.Forget()
	return nil
}
