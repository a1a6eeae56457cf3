package outage

import (
	"net/http"
	"regexp"
	"testing"
	"time"
)

// A rotation of the key is killed at 20 instants, while two replicas serve over PostgreSQL and Redis and everybody looks at their
// containers with sealed tickets: everything opens on both, new sessions too, and the next rotation comes to its end. Then
// everything opens in replicas that know the present key alone.
func TestKeyRotationIsKilled(t *testing.T) {
	random := seeded(t)
	w, _, _ := pair(t)
	for range 3 { // so that there is something to seal
		for i, p := range w.people {
			if got := p.signIn(w.replicas[i%2]); got.status != http.StatusOK {
				t.Fatalf("%d %s %v", got.status, got.body, got.err)
			}
		}
	}
	data := t.TempDir()
	keys := func(verb string) *process {
		return start(t, binary, append(w.settings(), "BERTH_DATA="+data), "keys", verb)
	}
	known := func() int {
		p := keys("list")
		if code := p.end(t); code != 0 {
			t.Fatalf("keys list: status %d\n%s", code, p.tail())
		}
		return len(regexp.MustCompile(`(?m)^[0-9a-f]{8} `).FindAllString(p.log.String(), -1))
	}
	rotate := func() {
		p := keys("rotate")
		if code := p.end(t); code != 0 {
			t.Fatalf("keys rotate: status %d\n%s", code, p.tail())
		}
	}
	opens := func(i int) {
		for k, p := range w.people {
			r := w.replicas[(i+k)%2]
			eventually(t, "the list of "+p.user, func() bool {
				got := p.ask(r, "GET", "/api/containers", nil, p.session())
				p.stayedIn(got)
				return p.learn(got.body) == holdings
			})
		}
	}
	end := w.load(random, 0)
	began := time.Now()
	rotate()
	whole := time.Since(began)
	halfway := 0
	for i := range instants {
		p := keys("rotate")
		time.Sleep(upTo(random, whole))
		p.kill()
		if known() > 1 {
			halfway++
		}
		if by := w.people[i%crowd]; i%4 == 0 {
			if got := by.signIn(w.replicas[i/4%2]); got.status != http.StatusOK {
				t.Errorf("instant %d: a sign-in: %d %s %v", i, got.status, got.body, got.err)
			}
		}
		opens(i)
		rotate()
		if n := known(); n != 1 {
			t.Errorf("instant %d: %d keys after the next rotation", i, n)
		}
	}
	end()
	t.Logf("%d of %d rotations were ended halfway; a whole one takes %s", halfway, instants, whole.Round(time.Millisecond))
	if halfway == 0 {
		t.Error("no rotation was ended halfway, so this test showed nothing")
	}
	for i, r := range w.replicas {
		r.kill()
		r.start()
		r.ready()
		opens(i)
	}
	opens(0)
	opens(1)
	w.sessionsHold()
}
