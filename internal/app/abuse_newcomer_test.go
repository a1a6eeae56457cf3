package app

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

// TestAbuseMadeUpUsers: where any host may vouch, one that vouches for made-up users fills the tables slowly, from one address or
// from many, and what they leave is gone a month later. Nobody waits who was here before.
func TestAbuseMadeUpUsers(t *testing.T) {
	b := newProxiedBench(t)
	_, home := b.newHost(t, sim.Options{})
	loopback := forLoopback
	evil := newHostile(t, newAuthority(t).issue(t, &loopback), plausible(nil))
	signIn := func(user, from string) int {
		in := typed("127.0.0.1", evil.port())
		in["username"], in["fingerprint"] = user, evil.fingerprint()
		return b.browser(t).from(from).json("/api/auth/login", in).StatusCode
	}
	identities := func() int {
		t.Helper()
		var n int
		if err := b.count(t, &n, "SELECT COUNT(*) FROM identity"); err != nil {
			t.Fatal(err)
		}
		return n
	}
	root, alice := b.browser(t).from("192.0.2.1"), b.browser(t).from("192.0.2.1")
	root.signIn(home, "root@pam")
	for n := range 100 {
		signIn(fmt.Sprintf("one%d@pam", n), "192.0.2.1")
	}
	if n := identities(); n != 1+59 {
		t.Errorf("%d identities from one address, want 60", n)
	}
	b.browser(t).from("192.0.2.1").signIn(home, "root@pam")
	if r := alice.json("/api/auth/login", input(home, "alice@pve")); r.StatusCode != http.StatusTooManyRequests || r.Header.Get("Retry-After") != "1" {
		t.Errorf("somebody new at the same address: %d, Retry-After %q", r.StatusCode, r.Header.Get("Retry-After"))
	}
	if status := signIn("one0@pam", "192.0.2.1"); status != http.StatusOK {
		t.Errorf("a made-up user who was here before: %d", status)
	}
	for n := range 250 {
		signIn(fmt.Sprintf("many%d@pam", n), fmt.Sprintf("198.51.100.%d", n/4))
	}
	if n := identities(); n > 1+201 {
		t.Errorf("%d identities of one datacenter, want 201 at most", n)
	}
	b.advance(time.Second)
	alice.signIn(home, "alice@pve")

	b.advance(31 * 24 * time.Hour)
	root.signIn(home, "root@pam")
	for range 2 { // the sessions go with the first
		if err := b.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := identities(); n != 1 {
		t.Errorf("%d identities a month later, want root's alone", n)
	}
	if n := len(root.nodes()); n != 1 {
		t.Errorf("root has %d nodes", n)
	}
}
