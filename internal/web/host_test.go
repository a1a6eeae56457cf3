package web

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestKnownHosts(t *testing.T) {
	public, _ := url.Parse("https://Berth.Example.org:8443/berth")
	s := NewSite(Options{PublicURL: public, HostNames: []string{"dash.lan", "old.lan."}, MachineName: "Tower.home.lan"})
	known := []string{
		"localhost", "LOCALHOST:8080", "localhost.", "127.0.0.1", "127.0.0.1:8080", "192.0.2.1", "[::1]", "[::1]:8080", "[2001:db8::1]:443",
		"tower", "tower.home.lan", "TOWER.home.lan:8080", "tower.home.lan.", "berth.example.org", "berth.example.org:8443", "berth.example.org:1",
		"dash.lan", "dash.lan.", "old.lan:80",
	}
	for _, host := range known {
		if !s.knowsHost(host) {
			t.Errorf("%q is not known", host)
		}
	}
	unknown := []string{
		"", ":", ":8080", ".", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "evil.localhost",
		"tower.evil.example", "example.org", "www.berth.example.org", "dash.lan.evil.example", "tower.home", "home.lan", "lan",
		"127.1", "0x7f000001", "2130706433", "127.0.0.1@evil.example", "[fe80::1%eth0]", "[::1]evil.example", "[::1", "localhost:80:80", "local host", "localhost\x00", "*",
	}
	for _, host := range unknown {
		if s.knowsHost(host) {
			t.Errorf("%q is known", host)
		}
	}
}

func TestNoMachineNameMakesNoNameKnown(t *testing.T) {
	s := NewSite(Options{HostNames: []string{"", "."}})
	for _, host := range []string{"", ".", ":80"} {
		if s.knowsHost(host) {
			t.Errorf("%q is known", host)
		}
	}
}

func FuzzKnownHost(f *testing.F) {
	for _, host := range []string{"berth.lan", "[::1]:8080", "127.0.0.1:80", "evil.example", "berth.lan.", "BERTH.LAN:0", "[berth.lan]", "a:b:c"} {
		f.Add(host)
	}
	s := NewSite(Options{HostNames: []string{"berth.lan"}})
	f.Fuzz(func(t *testing.T, host string) {
		if !s.knowsHost(host) {
			return
		}
		// What a browser would have resolved must be a name of Berth's or an address.
		name := hostName(host)
		if _, err := netip.ParseAddr(name); err != nil && name != "berth.lan" && name != "localhost" {
			t.Fatalf("%q is known as %q", host, name)
		}
		if !strings.Contains(strings.ToLower(host), name) {
			t.Fatalf("%q became %q", host, name)
		}
	})
}

func TestNoticesAreRareAndBounded(t *testing.T) {
	var n notices
	now := time.Unix(1_800_000_000, 0)
	one := netip.MustParseAddr("192.0.2.1")
	if !n.first(one, now) || n.first(one, now.Add(noticeTime-time.Second)) || !n.first(one, now.Add(noticeTime)) {
		t.Error("one address is to be reported once an hour")
	}
	now = now.Add(noticeTime)
	six := netip.MustParseAddr("2001:db8::1")
	if !n.first(six, now) || n.first(six.Next(), now) {
		t.Error("a whole IPv6 network is one reporter")
	}
	if got := n.recent(now); got != 2 {
		t.Errorf("%d addresses of late, want 2", got)
	}
	for i := range 5 * maxNoticed {
		n.first(netip.MustParseAddr(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)), now)
	}
	if got := n.recent(now); got != maxNoticed {
		t.Errorf("%d addresses are remembered, want %d", got, maxNoticed)
	}
	if !n.first(netip.MustParseAddr("198.51.100.1"), now.Add(noticeTime)) {
		t.Error("nobody new is reported an hour later")
	}
	if got := n.recent(now.Add(3 * noticeTime)); got != 0 {
		t.Errorf("%d addresses are remembered for good", got)
	}
}
