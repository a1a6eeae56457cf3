package app

import (
	"net"
	"strconv"
	"testing"

	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/pve/sim"
)

// An operator who takes a host off the list ends what it vouched for, also for requests that call no host.
func TestAbuseSessionAfterTheListChanged(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "alice@pve")
	list := func(address string) {
		t.Helper()
		name, digits, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		port, err := strconv.Atoi(digits)
		if err != nil {
			t.Fatal(err)
		}
		at, err := pve.ParseAddress(name, port)
		if err != nil {
			t.Fatal(err)
		}
		b.stop()
		b.change = func(s *config.Settings) {
			s.LoginHosts = config.LoginHosts{Mode: config.ListedHosts, List: []pve.Address{at}}
		}
		b.begin(t)
		moved := b.browser(t)
		moved.http.Jar = browser.http.Jar
		browser = moved
	}
	list(host.Address())
	if !browser.signedIn() {
		t.Fatal("signed out though the host is on the list")
	}
	list("other.example.org:8006")
	if browser.signedIn() {
		t.Error("still signed in with a host that is not on the list")
	}
}
