package redis_test

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/redis"
	"berth/internal/redis/redistest"
)

// Redis counts as memory does, whatever is done in whatever order.
func TestThrottleCountsAsMemoryDoes(t *testing.T) {
	client := open(t, redistest.Start(t).URL())
	stores := []auth.ThrottleStore{auth.NewMemoryThrottle(), redis.NewThrottle(client)}
	limits := []auth.Limit{
		{Name: "a limit", Free: 3, First: 2 * time.Second, Longest: time.Minute},
		{Name: "another", Free: 10, First: time.Second, Longest: 15 * time.Minute},
		{Name: "told", Free: 1 << 30, Longest: 30 * 24 * time.Hour},
	}
	const seed = 7
	dice := rand.New(rand.NewPCG(seed, seed))
	counter := func() auth.Counter {
		return auth.Counter{Limit: limits[dice.IntN(len(limits))], Key: [16]byte{byte(dice.IntN(3))}}
	}
	at := begin
	var taken []auth.Taken
	for step := range 2000 {
		at = at.Add(time.Duration(dice.IntN(3000)) * time.Millisecond)
		counters := []auth.Counter{counter()}
		if other := counter(); other.Limit != counters[0].Limit {
			counters = append(counters, other)
		}
		what := dice.IntN(10)
		pick := 0
		if len(taken) > 0 {
			pick = dice.IntN(len(taken))
		}
		type result struct {
			taken    auth.Taken
			wait     time.Duration
			attempts int
		}
		results := make([]result, len(stores))
		for i, s := range stores {
			var err error
			switch {
			case what < 6:
				results[i].taken, results[i].wait, err = s.Take(t.Context(), at, counters...)
			case what < 8 && len(taken) > 0:
				err = s.GiveBack(t.Context(), at, taken[pick])
			case what == 8:
				err = s.Forget(t.Context(), counters...)
			default:
				results[i].attempts, err = s.Attempts(t.Context(), at, counters[0])
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(results[0], results[1]) {
			t.Fatalf("step %d (%d) at %v: memory %+v, Redis %+v", step, what, at, results[0], results[1])
		}
		switch {
		case results[0].taken != nil:
			taken = append(taken, results[0].taken)
		case what >= 6 && what < 8 && len(taken) > 0:
			taken = append(taken[:pick], taken[pick+1:]...)
		}
	}
}

// Made-up accounts and addresses fill no memory, and push out nothing that makes anybody wait.
func TestFullThrottle(t *testing.T) {
	server := redistest.Start(t)
	const most = 20
	s := redis.NewSmallThrottle(open(t, server.URL()), most)
	limit := auth.Limit{Name: "full", Free: 3, First: time.Minute, Longest: time.Hour}
	guessed := auth.Counter{Limit: limit, Key: [16]byte{1, 1}}
	take := func(c auth.Counter) time.Duration {
		t.Helper()
		_, wait, err := s.Take(t.Context(), begin, c)
		if err != nil {
			t.Fatal(err)
		}
		return wait
	}
	for range limit.Free {
		if wait := take(guessed); wait != 0 {
			t.Fatal(wait)
		}
	}
	for n := range 10 * most {
		if wait := take(auth.Counter{Limit: limit, Key: [16]byte{2, byte(n), byte(n >> 8)}}); wait != 0 {
			t.Fatalf("whoever is new waits %v", wait)
		}
	}
	if wait := take(guessed); wait != limit.First {
		t.Errorf("the counter that makes wait: %v, want %v", wait, limit.First)
	}
	if n := server.Do(t, "HLEN", "{throttle}:full:state"); n != ":20" {
		t.Errorf("%s counters, want %d", n, most)
	}
	if n := server.Do(t, "ZCARD", "{throttle}:full:rank"); n != ":20" {
		t.Errorf("%s ranks, want %d", n, most)
	}
	// Whoever is new inherits, so that filling the store gets nobody round a limit.
	fresh := auth.Counter{Limit: limit, Key: [16]byte{3}}
	take(fresh)
	if n, err := s.Attempts(t.Context(), begin, fresh); err != nil || n < 2 {
		t.Errorf("a new counter in a full store has %d attempts, %v; want what it inherited and its own", n, err)
	}
	// It forgets by itself.
	if life := server.Do(t, "PTTL", "{throttle}:full:state"); life == ":-1" {
		t.Error("counters live for ever")
	}
}
