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
