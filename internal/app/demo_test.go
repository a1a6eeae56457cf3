package app

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/config"
	"berth/internal/pve"
)

func demoOptions(folder string, hosts int) DemoOptions {
	return DemoOptions{Hosts: hosts, Settings: config.Settings{
		Listen: "127.0.0.1:0", Data: folder, KeyFile: filepath.Join(folder, "berth.key"),
		SessionIdle: 2 * time.Hour, SessionMax: 24 * time.Hour,
	}}
}

// runDemo starts a demo on free ports and ends it, and returns what it left of login hosts, and which of them have the
// installation.
func runDemo(t *testing.T, folder string, count int) (hosts []auth.LoginHost, owner string) {
	t.Helper()
	d, err := NewDemo(t.Context(), demoOptions(folder, count))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	hosts, err = d.App.store.LoginHosts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	claim, err := d.App.store.Claim(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var listening, listed []string
	for _, h := range d.Hosts {
		listening = append(listening, h.Host.Address())
	}
	for _, h := range hosts {
		listed = append(listed, h.Address.String())
		if h.Datacenter == claim.Datacenter && h.Address.String() != d.Hosts[0].Host.Address() {
			t.Errorf("%s has the installation, not the first host, %s", h.Address, d.Hosts[0].Host.Address())
		}
	}
	slices.Sort(listening)
	slices.Sort(listed)
	if !slices.Equal(listening, listed) {
		t.Errorf("login hosts %v, want %v", listed, listening)
	}
	return hosts, claim.Datacenter
}

// A kept folder whose ports are taken the next time: the hosts move, and everything stays whose it is.
func TestDemoMovesToOtherPorts(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	datacenters := func(hosts []auth.LoginHost) (ids []string) {
		for _, h := range hosts {
			ids = append(ids, h.Datacenter)
		}
		slices.Sort(ids)
		return ids
	}
	first, owner := runDemo(t, folder, 3)
	second, ownerAgain := runDemo(t, folder, 3)
	if owner == "" || owner != ownerAgain || !slices.Equal(datacenters(first), datacenters(second)) {
		t.Errorf("owner %q of %v, then %q of %v", owner, first, ownerAgain, second)
	}
	if one, stillOwner := runDemo(t, folder, 1); len(one) != 1 || stillOwner != owner {
		t.Errorf("with one host: %v of %q, want one of %q", one, stillOwner, owner)
	}
}

// The first host keeps the installation; another that is still at its address keeps its place, whatever the order in which
// they are listed; the others take what is left.
func TestTakePlaces(t *testing.T) {
	t.Parallel()
	at := func(port int) pve.Address { return pve.Address{Host: demoAddress, Port: port} }
	host := func(id string, port int) auth.LoginHost { return auth.LoginHost{ID: id, Address: at(port)} }
	ids := func(hosts []auth.LoginHost) string {
		var b strings.Builder
		for _, h := range hosts {
			b.WriteString(h.ID + ".")
		}
		return b.String()
	}
	for name, c := range map[string]struct {
		addresses    []pve.Address
		earlier      []auth.LoginHost
		places, gone string
	}{
		"a new folder":     {[]pve.Address{at(1), at(2)}, nil, "..", ""},
		"the same":         {[]pve.Address{at(1), at(2)}, []auth.LoginHost{host("a", 1), host("b", 2)}, "a.b.", ""},
		"in another order": {[]pve.Address{at(1), at(2), at(3)}, []auth.LoginHost{host("a", 1), host("c", 3), host("b", 2)}, "a.b.c.", ""},
		"all moved":        {[]pve.Address{at(7), at(8)}, []auth.LoginHost{host("a", 1), host("b", 2)}, "a.b.", ""},
		"one moved":        {[]pve.Address{at(7), at(2)}, []auth.LoginHost{host("a", 1), host("b", 2)}, "a.b.", ""},
		"one more":         {[]pve.Address{at(1), at(2)}, []auth.LoginHost{host("a", 7)}, "a..", ""},
		"one less":         {[]pve.Address{at(8)}, []auth.LoginHost{host("a", 1), host("b", 2)}, "a.", "b."},
	} {
		places, gone := takePlaces(c.addresses, c.earlier)
		if ids(places) != c.places || ids(gone) != c.gone {
			t.Errorf("%s: places %q, gone %q, want %q and %q", name, ids(places), ids(gone), c.places, c.gone)
		}
	}
}

func TestDemoLeavesOtherInstallationsAlone(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	a, err := New(t.Context(), demoOptions(folder, 1).Settings)
	if err != nil {
		t.Fatal(err)
	}
	at := pve.Address{Host: "pve.example.org", Port: 8006}
	if err := a.hosts.Add(t.Context(), at, nil, pve.Fingerprint{1}, ""); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := NewDemo(t.Context(), demoOptions(folder, 1))
	if err == nil {
		d.Close()
	}
	if err == nil || !strings.Contains(err.Error(), at.String()) {
		t.Errorf("a demo over an installation with real hosts: %v", err)
	}
}
