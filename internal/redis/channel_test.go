package redis_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/container"
	"berth/internal/redis"
	"berth/internal/redis/redistest"
	"berth/internal/session"
)

// hearer is a replica's channel, and what it heard.
type hearer struct {
	*redis.Channel
	client *redis.Client
	log    *bytes.Buffer

	mu    sync.Mutex
	heard map[string]int
	all   int
}

func (h *hearer) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard[fmt.Sprintf(format, args...)]++
	h.all++
}

func (h *hearer) times(what string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard[what]
}

func (h *hearer) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all
}

func (h *hearer) logged() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.String()
}

func newHearer(t *testing.T, url string) *hearer {
	t.Helper()
	h := &hearer{client: open(t, url), heard: map[string]int{}, log: &bytes.Buffer{}}
	h.Channel = redis.NewChannel(h.client, slog.New(slog.NewTextHandler(&lockedWriter{&h.mu, h.log}, nil)))
	t.Cleanup(h.Close)
	h.Listen(redis.Heard{
		Read:    func(node string, s container.Subject) { h.note("read %s %s", node, s) },
		Touched: func(node string, vmid int) { h.note("touched %s %d", node, vmid) },
		Nodes:   func(identity string) { h.note("nodes %s", identity) },
	})
	return h
}

var told int

// reaches waits until what one says is heard by the other: it is said again and again, as changes are.
func (h *hearer) reaches(t *testing.T, others ...*hearer) {
	t.Helper()
	told++
	node := fmt.Sprintf("n%d", told)
	for i, other := range others {
		redistest.Eventually(t, fmt.Sprintf("replica %d to hear", i), func() bool {
			h.Touched(node, 101)
			return other.times("touched "+node+" 101") > 0
		})
	}
}

// What one replica says all others hear, but not itself; what else is on the channel nobody does.
func TestChannel(t *testing.T) {
	server := redistest.Start(t)
	one, two, three := newHearer(t, server.URL()), newHearer(t, server.URL()), newHearer(t, server.URL())
	one.reaches(t, two, three)
	two.reaches(t, one, three)
	alice := session.Identity{Datacenter: "dc", UserID: "alice@pve"}
	one.Read("node", container.Guests)
	one.Read("node", container.TaskLists)
	one.NodesChanged(alice)
	said := []string{"read node containers", "read node tasks", "nodes " + alice.Hash()}
	for _, what := range said {
		redistest.Eventually(t, what, func() bool { return two.times(what) == 1 && three.times(what) == 1 })
	}
	for _, text := range []string{"", "1 x show node stopped", "1 x touched <b>node</b> 101", `{"node":"node"}`, strings.Repeat("1 x touched node 101 ", 1<<16)} {
		server.Do(t, "PUBLISH", "berth:events", text)
	}
	server.Do(t, "PUBLISH", "berth:elsewhere", "1 x touched elsewhere 101")
	server.Do(t, "PUBLISH", "berth:events", "1 x touched last 101")
	redistest.Eventually(t, "the last message", func() bool { return two.times("touched last 101") == 1 })
	if n := two.times("touched node 101") + two.times("touched elsewhere 101"); n != 0 {
		t.Errorf("%d hints were made of what is none", n)
	}
	redistest.Eventually(t, "the last message", func() bool { return one.times("touched last 101") == 1 })
	for _, what := range said {
		if one.times(what) != 0 {
			t.Errorf("a replica heard itself: %s", what)
		}
	}
	if text := one.logged() + two.logged() + three.logged(); text != "" {
		t.Errorf("the log: %s", text)
	}
}

// A flood of messages costs bounded work, keeps no session from being checked from memory, and is over when it is over.
func TestAbuseFloodOnTheChannel(t *testing.T) {
	server := redistest.Start(t)
	one, two := newHearer(t, server.URL()), newHearer(t, server.URL())
	one.reaches(t, two)
	redistest.Eventually(t, "proof", func() bool { return two.client.Proven() != 0 })
	before, began := two.count(), time.Now()
	const messages = 100_000
	server.Do(t, "EVAL", fmt.Sprintf("for i = 1, %d do redis.call('PUBLISH', 'berth:events', '1 x touched n' .. i .. ' 101') end", messages), "0")
	server.Do(t, "EVAL", fmt.Sprintf("for i = 1, %d do redis.call('PUBLISH', 'berth:events', '1 x touched again 101') end", messages), "0")
	one.reaches(t, two)
	// Rounds of 1,000 hints, 100 ms apart.
	most := 1000 * int(2+time.Since(began)/(100*time.Millisecond))
	if n := two.count() - before; n > most || n < 1 {
		t.Errorf("%d of %d hints were passed on, want at most %d", n, 2*messages, most)
	}
	if n := two.times("touched again 101"); n > most/1000 {
		t.Errorf("the same hint was passed on %d times", n)
	}
	redistest.Eventually(t, "proof", func() bool { return two.client.Proven() != 0 })
}

// Whatever happens to the connection, replicas hear each other again by themselves.
func TestChannelSurvives(t *testing.T) {
	t.Run("the network cut", func(t *testing.T) {
		server := redistest.Start(t)
		proxy := redistest.NewProxy(t, server.Address)
		one, two := newHearer(t, server.URL()), newHearer(t, proxy.URL())
		one.reaches(t, two)
		proxy.Cut()
		redistest.Eventually(t, "the cut to be noticed", func() bool { return two.client.Proven() == 0 })
		proxy.Heal()
		one.reaches(t, two)
		two.reaches(t, one)
	})
	t.Run("the network silent", func(t *testing.T) {
		server := redistest.Start(t)
		proxy := redistest.NewProxy(t, server.Address)
		one, two := newHearer(t, server.URL()), newHearer(t, proxy.URL())
		one.reaches(t, two)
		proxy.Silence()
		redistest.Eventually(t, "the silence to be noticed", func() bool { return strings.Contains(two.logged(), "seen later") })
		proxy.Lead(server.Address) // what was held back is gone
		proxy.Heal()
		one.reaches(t, two)
		two.reaches(t, one)
	})
	t.Run("a restart", func(t *testing.T) {
		server := redistest.Start(t)
		one, two := newHearer(t, server.URL()), newHearer(t, server.URL())
		one.reaches(t, two)
		server.Kill(t)
		redistest.Eventually(t, "the end to be noticed", func() bool { return one.client.Proven() == 0 && two.client.Proven() == 0 })
		if !server.Run(t) {
			t.Fatal("Redis did not start again")
		}
		one.reaches(t, two)
	})
	t.Run("another master", func(t *testing.T) {
		master := redistest.Start(t)
		second := redistest.Start(t, "--replicaof", "127.0.0.1 "+master.Address[len("127.0.0.1:"):])
		url, sentinel := redistest.StartSentinel(t, master)
		one, two := newHearer(t, url), newHearer(t, url)
		one.reaches(t, two)
		redistest.Eventually(t, "the Sentinel to know the replica", func() bool { return sentinel.Do(t, "SENTINEL", "REPLICAS", "main") == "*1" })
		redistest.Eventually(t, "the replica to follow", func() bool { return strings.Contains(second.Text(t, "INFO", "replication"), "master_link_status:up") })
		master.Kill(t)
		one.reaches(t, two)
		two.reaches(t, one)
	})
	t.Run("a cluster", func(t *testing.T) {
		url, servers := redistest.StartCluster(t, 3)
		var all []*hearer
		for range 4 { // on whichever server each listens
			all = append(all, newHearer(t, url))
		}
		for i, one := range all {
			one.reaches(t, append(append([]*hearer{}, all[:i]...), all[i+1:]...)...)
		}
		servers[1].Silence(t)
		redistest.Eventually(t, "the silence to be noticed", func() bool { return all[0].client.Proven() == 0 })
		servers[1].Wake(t)
		for i, one := range all {
			one.reaches(t, append(append([]*hearer{}, all[:i]...), all[i+1:]...)...)
		}
	})
}

// A Redis that does not let Berth use the channel is told from one that is down, and all else works.
func TestChannelWithoutPermission(t *testing.T) {
	server := redistest.Start(t)
	rules := append([]string{"ACL", "SETUSER", "berth", "on", ">s3cret", "~*", "resetchannels"}, permissions(t)...)
	if answer := server.Do(t, rules...); answer != "+OK" {
		t.Fatal(answer)
	}
	one := newHearer(t, "redis://berth:s3cret@"+server.Address)
	redistest.Eventually(t, "the log to say so", func() bool { return strings.Contains(one.logged(), "channel berth:events") })
	for range 10 {
		one.Touched("n1", 101)
	}
	if err := one.client.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	redistest.Eventually(t, "proof", func() bool { return one.client.Proven() != 0 })
	if text := one.logged(); strings.Count(text, "\n") != 1 || strings.Contains(text, "s3cret") {
		t.Errorf("the log: %s", text)
	}
}
