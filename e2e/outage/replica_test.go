package outage

import (
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	"berth/internal/redis/redistest"
)

// pair is a world of two replicas over PostgreSQL and Redis.
func pair(t *testing.T) (w *world, database string, redis *redistest.Server) {
	t.Helper()
	database, redis = startServer(t).url("postgres"), redistest.Start(t)
	w = newWorld(t, "BERTH_DATABASE="+database, "BERTH_REDIS="+redis.URL())
	w.begin(binary)
	w.begin(binary)
	w.everybodySignsIn()
	return w, database, redis
}

// A replica is killed while somebody signs in at it, while it changes a container, and while it works on a run, at 20 instants
// each, and others use both replicas. The other one knows everything that was acknowledged, carries on with what was begun and does
// nothing twice, and a container can be changed again when the lease is over, if not before.
func TestReplicaIsKilled(t *testing.T) {
	random := seeded(t)
	w, database, redis := pair(t)
	victim, survivor := w.replicas[0], w.replicas[1]
	end := w.load(random, 0)

	// strike kills the victim after a while in which it does something, which must have come to its end or broken off. Then the
	// victim comes back.
	strike := func(t *testing.T, after time.Duration, do func() answer) (answer, time.Time) {
		t.Helper()
		result := make(chan answer, 1)
		go func() { result <- do() }()
		time.Sleep(after)
		killed := victim.kill()
		got := <-result
		victim.start()
		victim.ready()
		return got, killed
	}
	// usual is how long something takes that nobody disturbs.
	usual := func(do func()) time.Duration {
		began := time.Now()
		do()
		return time.Since(began)
	}

	var probes sync.WaitGroup
	broken := map[string]int{}
	t.Run("change", func(t *testing.T) {
		// Each at a container of its own: two of each person's.
		p := w.people[0]
		whole := usual(func() { p.change(victim, p.vmids[15], "start") })
		for i := range instants {
			p, vmid := w.people[i%crowd], w.people[i%crowd].vmids[i/crowd]
			// Before the answer, and some time after it, while the task is followed.
			after := upTo(random, whole*3/2)
			if i%4 == 3 {
				after = whole + upTo(random, 1500*time.Millisecond)
			}
			got, killed := strike(t, after, func() answer { return p.change(victim, vmid, "start") })
			if got.err != nil {
				broken["change"]++
			} else if got.status != http.StatusOK {
				t.Errorf("instant %d: %d %s", i, got.status, got.body)
			} else {
				var op operation
				if err := json.Unmarshal([]byte(got.body), &op); err != nil {
					t.Fatal(err)
				}
				if other := p.ask(survivor, "GET", "/api/operations/"+op.ID, nil, p.session()); other.status != http.StatusOK {
					t.Errorf("instant %d, killed after %s: the other replica does not know an acknowledged change: %d %s", i, after, other.status, other.body)
				}
			}
			probes.Go(func() { p.free(w.t, survivor, vmid, killed) })
		}
	})
	t.Run("run", func(t *testing.T) {
		p := w.people[0]
		whole := usual(func() {
			got := p.bulk(victim, "start", p.vmids[12:15])
			var now run
			if err := json.Unmarshal([]byte(got.body), &now); err != nil {
				t.Fatal(got.body)
			}
			eventually(t, "a run", func() bool {
				return json.Unmarshal([]byte(p.ask(victim, "GET", "/api/bulk/"+now.ID, nil, p.session()).body), &now) == nil && now.Ended
			})
		})
		for i := range instants {
			p, vmids := w.people[i%crowd], w.people[i%crowd].vmids[2+5*(i/crowd):][:5]
			after := upTo(random, whole)
			got, _ := strike(t, after, func() answer { return p.bulk(victim, "start", vmids) })
			if got.err != nil {
				broken["run"]++
			} else if got.status != http.StatusOK {
				t.Errorf("instant %d: %d %s", i, got.status, got.body)
			}
		}
	})
	t.Run("sign-in", func(t *testing.T) {
		whole := usual(func() { w.people[0].signIn(victim) })
		for i := range instants {
			p := w.people[i%crowd]
			after := upTo(random, whole*3/2)
			got, _ := strike(t, after, func() answer { return p.signIn(victim) })
			if got.err != nil {
				broken["sign-in"]++
			} else if got.status != http.StatusOK {
				t.Errorf("instant %d: %d %s", i, got.status, got.body)
			}
			for _, r := range w.replicas {
				// The newest session is the acknowledged one, if there was one, else that of before.
				if seen := p.ask(r, "GET", "/api/auth/session", nil, p.session()); seen.status != http.StatusOK {
					t.Errorf("instant %d, killed after %s: %d %s", i, after, seen.status, seen.body)
				}
			}
		}
	})
	probes.Wait()
	end()
	w.balance(w.openServer(database), redis)
	t.Logf("broken off: %v", broken)
	for _, what := range []string{"change", "sign-in"} {
		if broken[what] == 0 || broken[what] == instants {
			t.Errorf("%d of %d were broken off (%s): the instants miss what they are for", broken[what], instants, what)
		}
	}
}
