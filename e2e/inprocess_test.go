package e2e

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"berth/internal/app"
	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/pve/sim"
	"berth/internal/replicatest"
)

// clock is a time that moves when a test says so. Its zero value is the real time.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
	fixed time.Time // zero: the real time goes on beneath
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.fixed.IsZero() {
		return c.fixed.Add(c.ahead)
	}
	return time.Now().Add(c.ahead)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// inProcess runs Berth in the test process with a clock of the test's, and without the time that refused sign-ins take.
// The given hosts are known to it and pinned. With BERTH_TEST_REPLICAS=2 it is two programs behind a load balancer.
func inProcess(t testing.TB, c *clock, known ...*sim.Host) *berth {
	t.Helper()
	if !replicatest.Wanted() {
		a := program(t, c)
		know(t, a, known)
		return &berth{url: a.URL()}
	}
	flags := common(t)
	first := program(t, c, flags...)
	know(t, first, known)
	address, _ := replicatest.Balance(t, "127.0.0.1:0", first.URL(), program(t, c, flags...).URL())
	return &berth{url: "http://" + address}
}

// program starts one program.
func program(t testing.TB, c *clock, more ...string) *app.App {
	t.Helper()
	var flags config.Serve
	parser, err := kong.New(&flags)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"--listen", "127.0.0.1:0", "--data", t.TempDir()}, more...)); err != nil {
		t.Fatal(err)
	}
	settings, err := flags.Check()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	a, err := app.New(ctx, settings, app.WithClock(c.now), app.WithWait(func(context.Context, time.Duration) {}))
	if err != nil {
		stop()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// know makes hosts known login hosts.
func know(t testing.TB, a *app.App, hosts []*sim.Host) {
	t.Helper()
	for _, h := range hosts {
		at, err := pve.ParseAddress(h.Address(), 0)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := pve.ParseFingerprint(h.Fingerprint())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.KnowHost(t.Context(), at, shown); err != nil {
			t.Fatal(err)
		}
	}
}

// proxmox starts a simulated Proxmox VE host that refuses without delay.
func proxmox(t testing.TB, o sim.Options) (*sim.Datacenter, *sim.Host) {
	t.Helper()
	o.RefusalDelay = -1
	dc, err := sim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	host, err := dc.Listen("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	return dc, host
}
