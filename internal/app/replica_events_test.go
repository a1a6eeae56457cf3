package app

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/pve/sim"
	"berth/internal/redis/redistest"
)

// yardOf is a person at one replica, with their node.
func (r *replicas) yardOf(t *testing.T, b *bench, user string) *yard {
	t.Helper()
	dc, host := b.newHost(t, sim.Options{})
	y := &yard{bench: b, dc: dc, host: host, browser: b.browser(t)}
	y.signIn(host, user)
	y.node = y.browser.nodeID(t)
	return y
}

// describe changes a container's description, after which Berth asks the container itself how it is.
func (y *yard) describe(t *testing.T, vmid int, text string) {
	t.Helper()
	r := y.do("PATCH", fmt.Sprintf("/api/containers/%s/%d", y.node, vmid), "application/json", jsonText(t, map[string]any{"description": text}))
	if r.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
}

// rowOf is a container as a replica lists it.
func (b *browser) rowOf(node string, vmid int) map[string]any {
	b.t.Helper()
	return b.get("/api/containers?all=true").items(b.t)[fmt.Sprint(node, "/", vmid)]
}

func isStatus(t *testing.T, vmid int, status string) func(event) bool {
	return func(e event) bool { row := e.row(t, vmid); return row != nil && row["status"] == status }
}

// What one replica finds out of a container by asking it shows at the other, although Proxmox VE's list does not have it yet: the
// clock stands still, so that no reading of the list ever will.
func TestChangesCrossReplicas(t *testing.T) {
	r := newReplicas(t)
	y := r.yardOf(t, r.one, "root@pam")
	two := y.browser.at(r.two)
	here, there := y.stream(""), two.stream("")
	var tookHere, tookThere []time.Duration
	for i := range 10 {
		status := []string{sim.Stopped, sim.Running}[i%2]
		if err := y.dc.SetContainerStatus(101, status); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		y.describe(t, 101, fmt.Sprint("change ", i))
		here.next(status+" here", isStatus(t, 101, status))
		tookHere = append(tookHere, time.Since(begun))
		there.next(status+" there", isStatus(t, 101, status))
		tookThere = append(tookThere, time.Since(begun))
	}
	t.Logf("here after %v, there after %v", tookHere, tookThere)

	// Nor does anybody have to watch: who asks the other replica next is told what is so.
	there.close()
	<-there.ended
	redistest.Eventually(t, "nobody to watch there", func() bool { return r.two.containers.Watches() == 0 })
	if err := y.dc.SetContainerStatus(101, sim.Stopped); err != nil {
		t.Fatal(err)
	}
	y.describe(t, 101, "and once more")
	redistest.Eventually(t, "the list there", func() bool { return two.rowOf(y.node, 101)["status"] == sim.Stopped })

	// Also where nobody has asked for the node before.
	alice := r.one.browser(t)
	alice.signIn(y.host, "alice@pve")
	hers := &yard{bench: r.one, dc: y.dc, host: y.host, browser: alice, node: alice.nodeID(t)}
	_, op := hers.order(t, hers.node, 101, "start", nil)
	hers.ended(t, op.ID)
	redistest.Eventually(t, "the list of a newcomer there", func() bool { return alice.at(r.two).rowOf(hers.node, 101)["status"] == sim.Running })
}

// A list that a replica has read shows something else than the one that another replica keeps: that one is read anew.
func TestReadingsCrossReplicas(t *testing.T) {
	r := newReplicas(t)
	y := r.yardOf(t, r.one, "root@pam")
	two := y.browser.at(r.two)
	has := func(row map[string]any, tag string) bool {
		tags, _ := row["tags"].([]any)
		return slices.Contains(tags, any(tag))
	}
	if has(two.rowOf(y.node, 101), "moved") {
		t.Fatal("it has the tag already")
	}
	here := y.stream("")
	if _, err := y.dc.Call("root@pam", "PUT", "/nodes/pve1/lxc/101/config", map[string][]string{"tags": {"moved"}}); err != nil {
		t.Fatal(err)
	}
	here.next("the tag", func(e event) bool { row := e.row(t, 101); return row != nil && has(row, "moved") })
	redistest.Eventually(t, "the tag at the other replica", func() bool { return has(two.rowOf(y.node, 101), "moved") })
	// A task that somebody else has begun.
	y.dc.HoldTasks(true)
	if _, err := y.dc.ChangeContainer("root@pam", 101, "shutdown"); err != nil {
		t.Fatal(err)
	}
	here.next("the task", func(e event) bool { return e.name == "tasks" && strings.Contains(e.data, "vzshutdown") })
	redistest.Eventually(t, "the task at the other replica", func() bool { return strings.Contains(two.get("/api/tasks").body, "vzshutdown") })
}

// A replica that could not read a node hears of another that can, and so sooner than it would try again by itself; what it was told
// of a container meanwhile is not lost.
func TestRecoveryCrossesReplicas(t *testing.T) {
	r := newReplicas(t)
	y := r.yardOf(t, r.one, "root@pam")
	two := y.browser.at(r.two)
	problem := func(b *browser) bool {
		list := b.get("/api/containers").json(t)
		return list["nodes"].([]any)[0].(map[string]any)["problem"] != nil
	}
	if problem(y.browser) || problem(two) {
		t.Fatal("the node can't be read to begin with")
	}
	y.advance(time.Minute)
	y.host.SetFault("", "", sim.Fault{Refuse: true})
	if !problem(two) {
		t.Fatal("the node can be read")
	}
	if err := y.dc.SetContainerStatus(101, sim.Stopped); err != nil {
		t.Fatal(err)
	}
	y.host.ClearFaults()
	y.advance(3 * time.Second) // by itself the other waits for five
	y.describe(t, 101, "moved")
	redistest.Eventually(t, "the other replica to read it", func() bool { return !problem(two) })
	redistest.Eventually(t, "the container's own word", func() bool { return two.rowOf(y.node, 101)["status"] == sim.Stopped })
}

// Who watches at one replica sees the nodes that were changed at another, long before the nodes are listed again by themselves.
func TestNodesCrossReplicas(t *testing.T) {
	r := newReplicas(t)
	y := r.yardOf(t, r.one, "root@pam")
	there := y.browser.at(r.two).stream("")
	var took []time.Duration
	for i := range 5 {
		name := fmt.Sprint("renamed-", i)
		begun := time.Now()
		if got := y.do("PATCH", "/api/nodes/"+y.node, "application/json", jsonText(t, map[string]any{"name": name})); got.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", got.StatusCode, got.body)
		}
		there.next(name, func(e event) bool { return e.name == "containers" && strings.Contains(e.data, name) })
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	t.Logf("a node's name at the other replica: median %v, most %v", took[2], took[4])
	if took[2] > 4*time.Second { // by itself each takes up to ten
		t.Errorf("it took %v", took)
	}
}

// Whoever can write to Redis shows nobody anything, and has nobody asked who is not Berth's.
func TestAbuseForgedHints(t *testing.T) {
	r := newReplicas(t)
	y := r.yardOf(t, r.one, "root@pam")
	stream := y.stream("")
	before := y.get("/api/containers?all=true").items(t)
	for _, text := range []string{
		"1 x touched %s 101 stopped", "1 x status %s stopped", "1 x touched %s 999999", `{"node":"%s","status":"stopped"}`, "1 x touched %s 101", "1 x read %s containers",
		"1 x nodes %s", "\x00%s", "1 x touched ../%s 101",
	} {
		r.redis.Do(t, "PUBLISH", "berth:events", fmt.Sprintf(text, y.node))
	}
	r.redis.Do(t, "EVAL", "for i = 1, 20000 do redis.call('PUBLISH', 'berth:events', '1 x touched "+y.node+" ' .. (100 + i)) end", "0")
	asked := resourcesAsked(y.host)
	begun := time.Now()
	// A true one that comes after them is heard.
	if err := y.dc.SetContainerStatus(101, sim.Stopped); err != nil {
		t.Fatal(err)
	}
	y.browser.at(r.two).get("/api/containers")
	other := &yard{bench: r.two, dc: y.dc, host: y.host, browser: y.browser.at(r.two), node: y.node}
	other.describe(t, 101, "true")
	stream.next("what is true", isStatus(t, 101, sim.Stopped))
	if n, most := resourcesAsked(y.host)-asked, 10+int(4*time.Since(begun)/time.Second); n > most {
		t.Errorf("the list was read %d times, want at most %d", n, most)
	}
	after := y.get("/api/containers?all=true").items(t)
	if !slices.Equal(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after))) {
		t.Errorf("other containers than before: %v", after)
	}
}

// opened reads what a stream begins with.
func (b *browser) opened(last string) (id, event string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), "GET", b.base+"/api/events", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", last)
	resp, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text := ""
	for part := make([]byte, 1); !strings.HasSuffix(text, "\n\n"); text += string(part) {
		if _, err := resp.Body.Read(part); err != nil {
			b.t.Fatal(err)
		}
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch name {
		case "id":
			id = value
		case "event":
			event = value
		}
	}
	return id, event
}

// An id of one replica's stream is never one of another's, even with the same number, and not of the same replica's before its
// restart: such a stream begins with a reset.
func TestStreamsResumeElsewhere(t *testing.T) {
	r := newReplicas(t)
	y := r.yardOf(t, r.one, "root@pam")
	two := y.browser.at(r.two)
	two.get("/api/containers")
	mine, _ := y.opened("")
	theirs, _ := two.opened("")
	of, _, ok := strings.Cut(mine, ".")
	other, _, alsoOK := strings.Cut(theirs, ".")
	if !ok || !alsoOK || of == other {
		t.Fatalf("the replicas' ids are %s and %s", mine, theirs)
	}
	// Once everything was read, a stream goes on where it was.
	for at, last := range map[*browser]*string{y.browser: &mine, two: &theirs} {
		redistest.Eventually(t, "a stream to go on where it was", func() bool {
			id, event := at.opened(*last)
			goesOn := event == "" && id == *last
			*last = id
			return goesOn
		})
	}
	_, mineNumber, _ := strings.Cut(mine, ".")
	_, theirNumber, _ := strings.Cut(theirs, ".")
	for name, test := range map[string]struct {
		at    *browser
		last  string
		event string
	}{
		"elsewhere":                          {two, mine, "reset"},
		"elsewhere with the number of there": {two, of + "." + theirNumber, "reset"},
		"the other's here":                   {y.browser, other + "." + mineNumber, "reset"},
		"an older one":                       {y.browser, of + ".0", "reset"},
		"no version at all":                  {y.browser, "<script>", "reset"},
	} {
		id, event := test.at.opened(test.last)
		now := map[*browser]string{y.browser: of, two: other}[test.at]
		if event != test.event || !strings.HasPrefix(id, now+".") {
			t.Errorf("%s: event %q with id %s, want %q with one of %s", name, event, id, test.event, now)
		}
	}
	r.two.stop()
	r.two.begin(t)
	if id, event := y.browser.at(r.two).opened(theirs); event != "reset" || strings.HasPrefix(id, other+".") {
		t.Errorf("after a restart: event %q with id %s", event, id)
	}
}

// follower is a program that has a list and follows it by events, at whatever replica it gets.
type follower struct {
	t        *testing.T
	replicas []*browser
	random   *rand.Rand
	node     string
	last     string // event id
	status   map[int]string
	resets   int
}

// list fetches the list, from whichever replica, as a proxy in front of them would have it.
func (f *follower) list() {
	f.t.Helper()
	f.status = map[int]string{}
	got := f.replicas[f.random.IntN(len(f.replicas))].get("/api/containers?all=true")
	for _, row := range got.items(f.t) {
		f.status[int(row["vmid"].(float64))] = row["status"].(string)
	}
}

// take follows one event.
func (f *follower) take(e event) {
	f.t.Helper()
	if e.id != "" {
		f.last = e.id
	}
	switch e.name {
	case "reset":
		f.resets++
		f.list()
	case "containers":
		var change struct {
			Changed []struct {
				VMID   int
				Status string
			}
			More bool
		}
		if err := json.Unmarshal([]byte(e.data), &change); err != nil {
			f.t.Fatal(err)
		}
		for _, row := range change.Changed {
			f.status[row.VMID] = row.Status
		}
		if change.More {
			f.list()
		}
	}
}

// Whoever is moved from one replica to the other again and again, at 20 moments, ends up with what is so.
func TestMovedStreamsLoseNothing(t *testing.T) {
	r := newReplicas(t)
	y := r.yardOf(t, r.one, "root@pam")
	f := &follower{t: t, replicas: []*browser{y.browser, y.browser.at(r.two)}, random: rand.New(rand.NewPCG(5, 20)), node: y.node}
	f.list()
	first := f.replicas[0].get("/api/containers?all=true").json(t)
	f.last, _ = first["version"].(string)
	containers := []int{101, 102, 104}
	want := map[int]string{}
	for i := range 20 {
		stream := f.replicas[i%2].stream("", "Last-Event-ID", f.last)
		vmid := containers[f.random.IntN(len(containers))]
		want[vmid] = []string{sim.Stopped, sim.Running}[f.random.IntN(2)]
		if err := y.dc.SetContainerStatus(vmid, want[vmid]); err != nil {
			t.Fatal(err)
		}
		if f.random.IntN(2) == 0 {
			r.one.advance(10 * time.Second)
		} else {
			y.describe(t, vmid, fmt.Sprint(i))
		}
		enough := time.After(time.Duration(f.random.IntN(400)) * time.Millisecond)
		for following := true; following; {
			select {
			case e := <-stream.events:
				f.take(e)
			case <-enough:
				following = false
			}
		}
		stream.close()
		<-stream.ended
		for len(stream.events) > 0 {
			f.take(<-stream.events)
		}
	}
	stream := f.replicas[0].stream("", "Last-Event-ID", f.last)
	agrees := func() bool {
		for vmid, status := range want {
			if f.status[vmid] != status {
				return false
			}
		}
		return true
	}
	for enough := time.After(redistest.Patience); !agrees(); {
		select {
		case e := <-stream.events:
			f.take(e)
		case <-enough:
			t.Fatalf("it has %v, want %v", f.status, want)
		}
	}
	if f.resets < 15 {
		t.Errorf("it was told %d times of 20 that it comes from elsewhere", f.resets)
	}
	t.Logf("%d resets", f.resets)
}
