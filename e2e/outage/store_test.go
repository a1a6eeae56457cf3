package outage

import (
	"math/rand/v2"
	"net/http"
	"syscall"
	"testing"
	"time"

	"berth/internal/redis/redistest"
)

// Redis is killed and started again over what it wrote, PostgreSQL is stopped as by a crash or in good order, and the network
// between one replica and Redis is cut, or swallows everything without a sign: at 20 instants each, while everybody signs in and
// out, looks, and changes containers at both replicas. Nobody is signed out by it, no request hangs, both replicas go on by
// themselves, and in the end what was acknowledged is what the host carried out.
func TestStoresFailUnderLoad(t *testing.T) {
	random := seeded(t)
	postgres := startServer(t)
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	line := redistest.NewProxy(t, redis.Address)
	w := newWorld(t, "BERTH_DATABASE="+postgres.url("postgres"))
	w.begin(binary, "BERTH_REDIS="+redis.URL())
	w.begin(binary, "BERTH_REDIS="+line.URL())
	w.everybodySignsIn()
	end := w.load(random, 6)

	for _, fault := range []struct {
		name       string
		most       time.Duration // how long it lasts
		begin, end func(*rand.Rand)
	}{
		{"Redis is restarted", 700 * time.Millisecond, func(*rand.Rand) { redis.Kill(t) }, func(*rand.Rand) {
			if !redis.Run(t) {
				t.Fatal("Redis did not start again")
			}
		}},
		{"PostgreSQL is restarted", 700 * time.Millisecond, func(random *rand.Rand) {
			postgres.stop([]syscall.Signal{syscall.SIGQUIT, syscall.SIGINT}[random.IntN(2)])
		}, func(*rand.Rand) {
			if !postgres.start() {
				t.Fatal("PostgreSQL did not start again")
			}
		}},
		{"the network to Redis is cut", 700 * time.Millisecond, func(*rand.Rand) { line.Cut() }, func(*rand.Rand) { line.Heal() }},
		// Some of these are shorter than the second for which a session is believed, and some are longer than a call may take.
		{"the network to Redis is silent", 2500 * time.Millisecond, func(*rand.Rand) { line.Silence() }, func(*rand.Rand) { line.Heal() }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			began := time.Now()
			for range instants {
				time.Sleep(upTo(random, 500*time.Millisecond))
				fault.begin(random)
				time.Sleep(upTo(random, fault.most))
				fault.end(random)
				w.settled()
				w.everybodyStayed()
			}
			t.Logf("%d times in %s", instants, time.Since(began).Round(100*time.Millisecond))
		})
	}
	end()
	ended := time.Now()
	// All locks are free when the last lease is over, if not before.
	for i, p := range w.people {
		for _, vmid := range p.vmids[:6] {
			p.free(t, w.replicas[i%2], vmid, ended)
		}
	}
	w.balance(w.openServer(postgres.url("postgres")), redis)
}

// everybodyStayed looks whether each person's newest session works at both replicas again.
func (w *world) everybodyStayed() {
	w.t.Helper()
	for _, p := range w.people {
		for _, r := range w.asked() {
			var got answer
			for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
				cookie := p.session()
				if got = p.ask(r, "GET", "/api/auth/session", nil, cookie); got.status == http.StatusOK {
					break
				}
				if got.status == http.StatusUnauthorized && p.session() == cookie {
					w.t.Errorf("%s was signed out: %s", p.user, got.body)
					break
				}
				if time.Now().After(deadline) {
					w.t.Fatalf("the session of %s is not looked up again: %d %s", p.user, got.status, got.body)
				}
			}
		}
	}
}
