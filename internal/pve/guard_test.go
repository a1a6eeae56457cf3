package pve

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestForbiddenAddresses(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1":    "",
		"::1":          "",
		"10.0.0.2":     "",
		"192.168.1.10": "",
		"172.16.0.1":   "",
		"100.64.0.1":   "",
		"203.0.113.5":  "",
		"fd00::1":      "",
		"2001:db8::1":  "",

		"0.0.0.0":         "unspecified",
		"0.1.2.3":         "unspecified",
		"::":              "unspecified",
		"255.255.255.255": "broadcast",
		"224.0.0.1":       "multicast",
		"239.255.255.250": "multicast",
		"ff02::1":         "multicast",
		"ff05::2":         "multicast",
		"169.254.0.1":     "link-local",
		"169.254.169.254": "link-local",
		"169.254.170.2":   "link-local",
		"fe80::1":         "link-local",
		"fe80::1%eth0":    "link-local",
		"febf::1":         "link-local",
		"fd00:ec2::254":   "cloud metadata",
		"fd00:ec2::23":    "cloud metadata",
		"fd20:ce::254":    "cloud metadata",
		"fd20:ce::253":    "",
		"fd00:42::42":     "cloud metadata",
		"fd00:42::42%lo":  "cloud metadata",
		"fd00:42::43":     "",
		"100.100.100.200": "cloud metadata",
		"168.63.129.16":   "cloud metadata",
		"192.0.0.192":     "cloud metadata",

		// IPv4-mapped
		"::ffff:10.0.0.2":        "",
		"::ffff:169.254.169.254": "link-local",
		"::ffff:0.0.0.0":         "unspecified",
		"::ffff:255.255.255.255": "broadcast",
		"::ffff:224.0.0.1":       "multicast",
		"::ffff:100.100.100.200": "cloud metadata",
		// IPv4-compatible and IPv4-translated
		"::10.0.0.2":               "",
		"::169.254.169.254":        "link-local",
		"::255.255.255.255":        "broadcast",
		"::2":                      "unspecified",
		"::ffff:0:169.254.169.254": "link-local",
		// NAT64
		"64:ff9b::10.0.0.2":             "",
		"64:ff9b::169.254.169.254":      "link-local",
		"64:ff9b::0.0.0.0":              "unspecified",
		"64:ff9b::224.0.0.1":            "multicast",
		"64:ff9b:1::10.0.0.2":           "",
		"64:ff9b:1::169.254.169.254":    "link-local",
		"64:ff9b:1:0:a9:fea9:fe00:0":    "link-local", // /64: bits 72 to 103
		"64:ff9b:1:a9:fe:a9fe::":        "link-local", // /56
		"64:ff9b:1:a9fe:a9:fe00::":      "link-local", // /48
		"64:ff9b:1:fffe::100.64.0.1":    "",
		"64:ff9b:1::":                   "unspecified",
		"64:ff9b:1:2::255.255.255.255":  "broadcast",
		"2002:a9fe:a9fe::1":             "link-local", // 6to4
		"2002:0a00:0002::1":             "",
		"2002:e000:0001::":              "multicast",
		"2002:0000:0000::1":             "unspecified",
		"2002:ffff:ffff::":              "broadcast",
		"2002:6464:64c8:1:2:3:4:5":      "cloud metadata",
		"64:ff9b::168.63.129.16":        "cloud metadata",
		"2001:db8:a9fe:a9fe::":          "",
		"64:ff9b:0:1:0:0:169.254.1.1":   "",
		"fec0::1":                       "",
		"::ffff:ffff:169.254.169.254":   "",
		"fd00:ec2::253":                 "",
		"192.0.0.170":                   "",
		"64:ff9b:1:ffff:ff:ff00::":      "broadcast",
		"64:ff9b:1:e000:0:100::":        "multicast",
		"2002:7f00:0001::":              "",
		"::127.0.0.1":                   "",
		"64:ff9b::127.0.0.1":            "",
		"ff0e::1%2":                     "multicast",
		"2002:a83f:8110::":              "cloud metadata",
		"64:ff9b::192.0.0.192":          "cloud metadata",
		"::ffff:0:224.0.0.251":          "multicast",
		"::ffff:0:10.1.2.3":             "",
		"::ffff:127.0.0.1":              "",
		"2002:a9fd:ffff::":              "",
		"169.253.255.255":               "",
		"169.255.0.0":                   "",
		"223.255.255.255":               "",
		"255.255.255.254":               "",
		"1.0.0.0":                       "",
		"fe7f:ffff::1":                  "",
		"::1:0:0":                       "",
		"64:ff9a::169.254.169.254":      "",
		"64:ff9b:2::169.254.169.254":    "",
		"2003:a9fe:a9fe::1":             "",
		"64:ff9b:1:0:64:6464:c800::":    "cloud metadata",
		"64:ff9b:1:ffff:ffff::10.0.0.1": "",
	} {
		got := forbidden(netip.MustParseAddr(addr))
		if reason, _, _ := strings.Cut(got, " behind "); reason != want {
			t.Errorf("forbidden(%s) = %q, want %q", addr, got, want)
		}
	}
}

func TestControl(t *testing.T) {
	own := netip.MustParseAddrPort("127.0.0.1:8080")
	refused := errors.New("outside the allowed networks")
	c := newTestClient(t, Options{
		Forbidden: func(a netip.AddrPort) bool { return a == own },
		Control: func(_, address string, _ syscall.RawConn) error {
			if address == "203.0.113.1:8006" {
				return refused
			}
			return nil
		},
	})
	for address, allowed := range map[string]bool{
		"127.0.0.1:8006":          true,
		"127.0.0.1:8080":          false,
		"[::ffff:127.0.0.1]:8080": false,
		"[fe80::1%lo]:8006":       false,
		"203.0.113.1:8006":        false,
		"203.0.113.2:8006":        true,
		"/run/pve.sock":           false,
	} {
		err := c.control("tcp", address, nil)
		var guard *AddressError
		if (err == nil) != allowed || (err != nil && !errors.As(err, &guard)) {
			t.Errorf("control(%s) = %v", address, err)
		}
	}
	if err := c.control("tcp", "203.0.113.1:8006", nil); !errors.Is(err, refused) {
		t.Errorf("the extra guard's reason is lost: %v", err)
	}
}

// TestRefusedAddress shows that the guard sees resolved addresses, and that nothing is repeated or sent.
func TestRefusedAddress(t *testing.T) {
	f := newFakeHost(t, testCert, always(ok(`{}`)))
	var asked atomic.Int32
	c := newTestClient(t, Options{Forbidden: func(a netip.AddrPort) bool {
		asked.Add(1)
		return int(a.Port()) == f.address().Port
	}})
	for _, host := range []string{"127.0.0.1", "localhost"} {
		asked.Store(0)
		h := c.Host(Address{Host: host, Port: f.address().Port}, Trust{})
		_, err := h.Domains(t.Context())
		e := wantKind(t, err, KindRefusedAddress)
		var guard *AddressError
		if !errors.As(e, &guard) {
			t.Errorf("the cause is %v", e.Cause)
		}
		if n := asked.Load(); n == 0 || n > 2 { // localhost may be two addresses
			t.Errorf("%s: %d addresses were tried", host, n)
		}
	}
	_, err := c.Host(Address{Host: "169.254.169.254", Port: 80}, Trust{}).Handshake(t.Context())
	wantKind(t, err, KindRefusedAddress)
	nothingSent(t, f, 0)
}

// TestResolver shows that names go to the resolver that was given, and that what it fails at is a host out of reach.
func TestResolver(t *testing.T) {
	var dials atomic.Int32
	resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return nil, errors.New("no name server")
	}}
	h := newTestClient(t, Options{Resolver: resolver}).Host(Address{Host: "pve.example", Port: 8006}, Trust{})
	_, err := h.SignIn(t.Context(), "alice@pve", "secret")
	wantKind(t, err, KindHostUnreachable)
	if dials.Load() == 0 {
		t.Error("the resolver was not asked")
	}
}
