package pve

import (
	"fmt"
	"net/netip"
	"syscall"
)

// AddressError says that the dial guard refused a resolved address: nothing was sent to it. It is the cause of errors of
// KindRefusedAddress.
type AddressError struct {
	Address netip.AddrPort
	Reason  string
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("address %s is never dialled: %s", e.Address, e.Reason)
}

// control is the net.Dialer's Control: it sees every address that is about to be dialled, after names were resolved, so
// a name can't lead where an address may not.
func (c *Client) control(network, address string, raw syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return &AddressError{Reason: "not an IP address"}
	}
	target = netip.AddrPortFrom(target.Addr().Unmap(), target.Port())
	if reason := forbidden(target.Addr()); reason != "" {
		return &AddressError{Address: target, Reason: reason}
	}
	if c.options.Forbidden != nil && c.options.Forbidden(target) {
		return &AddressError{Address: target, Reason: "forbidden here"}
	}
	if c.options.Control != nil {
		if err := c.options.Control(network, address, raw); err != nil {
			return fmt.Errorf("%w: %w", &AddressError{Address: target, Reason: "forbidden here"}, err)
		}
	}
	return nil
}

// Addresses at which clouds tell a machine about itself, its credentials included, beyond the link-local ones.
var metadataAddresses = map[netip.Addr]string{
	netip.MustParseAddr("fd00:ec2::254"):   "cloud metadata", // Amazon EC2
	netip.MustParseAddr("fd00:ec2::23"):    "cloud metadata", // Amazon EKS
	netip.MustParseAddr("fd20:ce::254"):    "cloud metadata", // Google Cloud
	netip.MustParseAddr("fd00:42::42"):     "cloud metadata", // Scaleway
	netip.MustParseAddr("100.100.100.200"): "cloud metadata",
	netip.MustParseAddr("168.63.129.16"):   "cloud metadata",
	netip.MustParseAddr("192.0.0.192"):     "cloud metadata",
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	broadcast   = netip.MustParseAddr("255.255.255.255")
	compatible  = netip.MustParsePrefix("::/96")
	translated  = netip.MustParsePrefix("::ffff:0:0:0/96") // IPv4-translated, RFC 2765
	nat64       = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local  = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToFour   = netip.MustParsePrefix("2002::/16")
)

// forbidden says why no Proxmox VE host is ever looked for at an address, "" if one may be. Loopback and private
// addresses are allowed: that is where Proxmox VE lives.
func forbidden(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if reason := forbiddenItself(addr); reason != "" {
		return reason
	}
	for _, inner := range embedded(addr) {
		if reason := forbiddenItself(inner); reason != "" {
			return reason + " behind " + addr.String()
		}
	}
	return ""
}

func forbiddenItself(addr netip.Addr) string {
	switch {
	case addr.IsUnspecified() || thisNetwork.Contains(addr):
		return "unspecified"
	case addr == broadcast:
		return "broadcast"
	case addr.IsMulticast():
		return "multicast"
	case addr.IsLinkLocalUnicast():
		return "link-local"
	}
	return metadataAddresses[addr]
}

// embedded returns the IPv4 addresses that an IPv6 address may stand for on its way, by the transition schemes that
// routers and kernels still know.
func embedded(addr netip.Addr) []netip.Addr {
	if !addr.Is6() {
		return nil
	}
	b := addr.As16()
	at := func(i, j, k, l int) netip.Addr { return netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]}) }
	switch {
	case compatible.Contains(addr):
		if addr == netip.IPv6Loopback() {
			return nil
		}
		return []netip.Addr{at(12, 13, 14, 15)}
	case nat64.Contains(addr), translated.Contains(addr):
		return []netip.Addr{at(12, 13, 14, 15)}
	case sixToFour.Contains(addr):
		return []netip.Addr{at(2, 3, 4, 5)}
	case nat64Local.Contains(addr):
		// The network chooses the length of its own prefix here, and with it where the IPv4 address stands (RFC 6052
		// section 2.2). Every place is looked at; one that holds nothing but zeros is another layout's padding.
		var found []netip.Addr
		for _, inner := range []netip.Addr{at(6, 7, 9, 10), at(7, 9, 10, 11), at(9, 10, 11, 12), at(12, 13, 14, 15)} {
			if !thisNetwork.Contains(inner) {
				found = append(found, inner)
			}
		}
		if found == nil {
			found = []netip.Addr{netip.IPv4Unspecified()}
		}
		return found
	}
	return nil
}
