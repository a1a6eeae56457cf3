package container

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
)

// doors are nodes whose answers the test decides. What hosts say is put straight into the feeds by answer.
type doors struct {
	mu    sync.Mutex
	nodes []node.Node
	// answer is what happens at a call; nil is a success with nothing in it.
	answer func(ctx context.Context, caller session.Caller, id string) error
	calls  map[string]int
}

func newDoors(ids ...string) *doors {
	d := &doors{calls: map[string]int{}}
	for _, id := range ids {
		d.nodes = append(d.nodes, node.Node{ID: id, Name: id, Address: addressOf(id)})
	}
	return d
}

func addressOf(id string) pve.Address { return pve.Address{Host: id + ".lan", Port: 8006} }

func (d *doors) List(context.Context, session.Caller) ([]node.Node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.nodes), nil
}

func (d *doors) Call(ctx context.Context, caller session.Caller, id string, _ func(context.Context, *pve.Host, pve.Credentials) error) error {
	d.mu.Lock()
	d.calls[id]++
	answer := d.answer
	d.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx, caller, id)
}

func (d *doors) called(id string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls[id]
}

func (d *doors) say(answer func(ctx context.Context, caller session.Caller, id string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = answer
}

// hang answers when the call is given up.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return &pve.Error{Kind: pve.KindHostUnreachable, Cause: ctx.Err()}
}

func caller(datacenter, user string, hash byte) session.Caller {
	id := session.Identity{Datacenter: datacenter, UserID: user}
	return session.Caller{Identity: id, Session: session.Session{Identity: id, Hash: session.Hash{hash}, LoginHost: "n"}}
}

// known puts guests into a feed as if they had been read at a time.
func (s *Service) known(of session.Identity, id string, at time.Time, containers ...Container) {
	f := s.feedsOf(audience{of, true}, []node.Node{{ID: id, Address: addressOf(id)}})[0]
	f.mu.Lock()
	defer f.mu.Unlock()
	read := collection{}
	for i := range containers {
		c := containers[i]
		c.NodeID, c.Door = id, id
		read.containers = append(read.containers, &c)
	}
	f.take(&read, at)
	f.guests.tried, f.guests.known = at, true
}

func TestReadingsAreSharedForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("n")
		s := NewService(d, time.Now)
		alice := caller("dc", "alice@pve", 1)
		list := func(c session.Caller) (List, error) { return s.List(t.Context(), c, Query{}) }
		var together sync.WaitGroup
		for range 3 {
			together.Go(func() {
				if _, err := list(alice); err != nil {
					t.Error(err)
				}
			})
		}
		together.Wait()
		if d.called("n") != 1 {
			t.Errorf("%d calls within the same moment, want 1", d.called("n"))
		}
		// The same user id of another datacenter is somebody else.
		for i, other := range []session.Caller{caller("other", "alice@pve", 2), caller("dc", "bob@pve", 3)} {
			if _, err := list(other); err != nil {
				t.Fatal(err)
			}
			if d.called("n") != 2+i {
				t.Errorf("%v was shown somebody else's reading", other.Identity)
			}
		}
		time.Sleep(fresh)
		if _, err := list(alice); err != nil || d.called("n") != 4 {
			t.Errorf("%v, %d calls after %v, want 4", err, d.called("n"), fresh)
		}
	})
}

func TestLastKnownContainersStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("n")
		s := NewService(d, time.Now)
		alice := caller("dc", "alice@pve", 1)
		read := time.Now()
		s.known(alice.Identity, "n", read, guests[:2]...)
		time.Sleep(4 * time.Minute)
		d.say(func(context.Context, session.Caller, string) error { return &pve.Error{Kind: pve.KindHostUnreachable} })
		for range 5 {
			got, err := s.List(t.Context(), alice, Query{})
			if err != nil || len(got.Items) != 2 || got.Nodes[0].Problem != "it doesn't answer" || got.Nodes[0].Code != "host_unreachable" || !got.Nodes[0].ReadAt.Equal(read) {
				t.Fatalf("%+v, %v; want what was last known", got, err)
			}
		}
		if d.called("n") != 1 {
			t.Errorf("a node that doesn't answer was asked %d times in a row, want 1", d.called("n"))
		}
		// It is left alone for longer and longer.
		calls := 1
		for _, pause := range []time.Duration{5, 10, 20, 30, 30} {
			for _, step := range []time.Duration{pause*time.Second - 1, 1} {
				time.Sleep(step)
				if _, err := s.List(t.Context(), alice, Query{}); err != nil {
					t.Fatal(err)
				}
			}
			if calls++; d.called("n") != calls {
				t.Fatalf("%d calls after a pause of %d s, want %d", d.called("n"), pause, calls)
			}
		}
		time.Sleep(keptFor + time.Second)
		s.Sweep()
		if got, err := s.List(t.Context(), alice, Query{}); err == nil || len(got.Items) != 0 || len(got.Nodes) != 1 {
			t.Errorf("%+v, %v; want the node's error once nothing is known any more", got, err)
		}
	})
}

func TestEndedSessionIsNotANodesProblem(t *testing.T) {
	d := newDoors("n")
	d.say(func(context.Context, session.Caller, string) error { return fault.SignInRequired() })
	s := NewService(d, time.Now)
	if _, err := s.List(t.Context(), caller("dc", "alice@pve", 1), Query{}); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("%v, want that a sign-in is required", err)
	}
}

// A reading that began with a session that ends is begun again with that of who waits for it too.
func TestSomebodyElsesEndedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("n")
		d.say(func(_ context.Context, c session.Caller, _ string) error {
			time.Sleep(time.Second / 10)
			if c.Session.Hash == (session.Hash{1}) {
				return fault.SignInRequired()
			}
			return nil
		})
		s := NewService(d, time.Now)
		var ended, living error
		var both sync.WaitGroup
		both.Go(func() { _, ended = s.List(t.Context(), caller("dc", "alice@pve", 1), Query{}) })
		synctest.Wait()
		both.Go(func() { _, living = s.List(t.Context(), caller("dc", "alice@pve", 2), Query{}) })
		both.Wait()
		if fault.KindOf(ended) != fault.Unauthenticated || living != nil || d.called("n") != 2 {
			t.Errorf("%v and %v after %d calls", ended, living, d.called("n"))
		}
	})
}

func TestReadingsAreBounded(t *testing.T) {
	now := time.Now()
	s := NewService(newDoors("n"), func() time.Time { now = now.Add(time.Millisecond); return now })
	for i := range maxKept + 50 {
		s.feedsOf(audience{session.Identity{Datacenter: "dc", UserID: fmt.Sprint(i)}, true}, []node.Node{{ID: "n"}})
	}
	if len(s.feeds) > maxKept {
		t.Errorf("%d readings kept, want at most %d", len(s.feeds), maxKept)
	}
}

// One node answers, one hangs, one refuses: nobody waits for those that don't work, beyond the first second.
func TestSlowNodesDelayNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("good", "hanging", "dead")
		d.say(func(ctx context.Context, _ session.Caller, id string) error {
			switch id {
			case "hanging":
				return hang(ctx)
			case "dead":
				return &pve.Error{Kind: pve.KindHostUnreachable}
			}
			time.Sleep(20 * time.Millisecond)
			return nil
		})
		s := NewService(d, time.Now)
		alice := caller("dc", "alice@pve", 1)
		look := func() (List, time.Duration) {
			t.Helper()
			begun := time.Now()
			list, err := s.List(t.Context(), alice, Query{})
			if err != nil {
				t.Fatal(err)
			}
			return list, time.Since(begun)
		}
		list, took := look()
		codes := func(list List) (codes []string) {
			for _, n := range list.Nodes {
				codes = append(codes, n.Code)
			}
			return codes
		}
		if want := []string{"", "pending", "host_unreachable"}; !slices.Equal(codes(list), want) || took != firstPatience {
			t.Errorf("%v after %v, want %v after %v", codes(list), took, want, firstPatience)
		}
		for range 60 {
			if list, took = look(); took > 20*time.Millisecond {
				t.Fatalf("waited %v: %v", took, codes(list))
			}
			time.Sleep(time.Second)
		}
		if want := []string{"", "host_unreachable", "host_unreachable"}; !slices.Equal(codes(list), want) {
			t.Errorf("%v, want %v", codes(list), want)
		}
		s.Close()
	})
}

// A node that has become slow is answered for from what was last known of it.
func TestSlowNodeOfWhichSomethingIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("n")
		s := NewService(d, time.Now)
		alice := caller("dc", "alice@pve", 1)
		s.known(alice.Identity, "n", time.Now(), guests[0])
		time.Sleep(time.Minute)
		d.say(func(ctx context.Context, _ session.Caller, _ string) error { time.Sleep(2 * time.Second); return nil })
		begun := time.Now()
		list, err := s.List(t.Context(), alice, Query{})
		if took := time.Since(begun); err != nil || len(list.Items) != 1 || took != patience {
			t.Errorf("%+v, %v after %v", list, err, took)
		}
		time.Sleep(2 * time.Second)
		if list, err := s.List(t.Context(), alice, Query{}); err != nil || len(list.Items) != 0 {
			t.Errorf("%+v, %v; want what the node said in the end", list, err)
		}
		s.Close()
	})
}

func TestVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("n", "m")
		s := NewService(d, time.Now)
		alice, bob := caller("dc", "alice@pve", 1), caller("dc", "bob@pve", 2)
		version := func(c session.Caller) string {
			t.Helper()
			list, err := s.List(t.Context(), c, Query{})
			if err != nil {
				t.Fatal(err)
			}
			return list.Version
		}
		s.known(alice.Identity, "n", time.Now(), guests[:3]...)
		s.known(alice.Identity, "m", time.Now())
		first := version(alice)
		if first == version(bob) {
			t.Error("two identities have the same version")
		}
		s.known(alice.Identity, "n", time.Now(), guests[:3]...)
		if version(alice) != first {
			t.Error("a reading that shows the same has a new version")
		}
		busy := guests[0]
		busy.CPU = 0.75
		s.known(alice.Identity, "n", time.Now(), busy, guests[1], guests[2])
		second := version(alice)
		if second == first {
			t.Error("a figure that moved has no new version")
		}
		d.say(func(context.Context, session.Caller, string) error { return &pve.Error{Kind: pve.KindCertificate} })
		time.Sleep(fresh)
		if version(alice) == second {
			t.Error("a node's problem has no new version")
		}
		if strings.Split(first, ".")[0] != strings.Split(second, ".")[0] {
			t.Errorf("%s and %s are of the same process", first, second)
		}
	})
}

// Two doors to one cluster: each container is listed once, under the first door's name, whichever works.
func TestDoorsOfOneCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("b", "a", "z")
		d.nodes[0].Group, d.nodes[1].Group = "cluster", "cluster"
		s := NewService(d, time.Now)
		alice := caller("dc", "alice@pve", 1)
		list := func() List {
			t.Helper()
			list, err := s.List(t.Context(), alice, Query{Kind: "all"})
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		fill := func() {
			for _, id := range []string{"a", "b"} {
				s.known(alice.Identity, id, time.Now(), guests[:3]...)
			}
			s.known(alice.Identity, "z", time.Now(), guests[3])
		}
		shown := func(l List) (shown []string) {
			for _, c := range l.Items {
				shown = append(shown, fmt.Sprintf("%s/%d by %s", c.NodeID, c.VMID, c.Door))
			}
			return shown
		}
		fill()
		if got, want := shown(list()), []string{"b/100 by b", "z/100 by z", "b/101 by b", "b/102 by b"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		// The first door dies.
		d.say(func(_ context.Context, _ session.Caller, id string) error {
			if id == "b" {
				return &pve.Error{Kind: pve.KindHostUnreachable}
			}
			return nil
		})
		time.Sleep(fresh)
		list()
		s.known(alice.Identity, "a", time.Now(), guests[:3]...)
		s.known(alice.Identity, "z", time.Now(), guests[3])
		l := list()
		if got, want := shown(l), []string{"b/100 by a", "z/100 by z", "b/101 by a", "b/102 by a"}; !slices.Equal(got, want) || l.Nodes[0].Code != "host_unreachable" || l.Nodes[0].Through != "a" || l.Nodes[1].Through != "" {
			t.Errorf("%v, %+v; want %v", got, l.Nodes, want)
		}
		// What the door that is not looked through says makes no difference.
		busy := guests[0]
		busy.CPU = 0.99
		s.known(alice.Identity, "b", time.Now(), busy)
		if again := list(); again.Version != l.Version {
			t.Error("a new version of which nothing shows")
		}
		for _, id := range []string{"a", "b"} {
			if c, err := s.Find(t.Context(), alice, id, 101); err != nil || c.NodeID != "b" || c.Door != "a" {
				t.Errorf("by %s: %+v, %v", id, c, err)
			}
		}
		if by, err := s.List(t.Context(), alice, Query{Node: "a"}); err != nil || len(by.Items) != 3 {
			t.Errorf("%v, %v; want the containers of the cluster by its other door too", shown(by), err)
		}
		for _, id := range []string{"z", "nobody's"} {
			if c, err := s.Find(t.Context(), alice, id, 101); fault.KindOf(err) != fault.NotFound {
				t.Errorf("by %s: %+v, %v; want that there is no such container", id, c, err)
			}
		}
	})
}

func TestRates(t *testing.T) {
	at := func(uptime, in, out int64) Container {
		return Container{Kind: LXC, VMID: 100, Uptime: uptime, received: in, sent: out}
	}
	for name, test := range map[string]struct {
		before, after Container
		netIn, netOut int64
	}{
		"ten seconds":      {at(100, 1000, 0), at(110, 6000, 70), 500, 7},
		"started again":    {at(100, 1000, 1000), at(3, 50, 50), 0, 0},
		"counters go back": {at(100, 1000, 1000), at(110, 50, 2000), 0, 0},
		"long ago":         {at(100, 1000, 1000), at(1000, 50_000, 50_000), 0, 0},
	} {
		s := NewService(nil, time.Now)
		who := session.Identity{UserID: name}
		s.known(who, "n", time.Now(), test.before)
		s.known(who, "n", time.Now(), test.after)
		// The same report once more: it is between two reports, not standing still.
		s.known(who, "n", time.Now(), test.after)
		if got := s.feeds[source{who, "n"}].rows[0]; got.NetIn != test.netIn || got.NetOut != test.netOut {
			t.Errorf("%s: %d and %d, want %d and %d", name, got.NetIn, got.NetOut, test.netIn, test.netOut)
		}
	}
}

// An access token reaches nodes with a credential of their own and no others, even if their owner has just looked.
func TestAbuseTokenSeesNothingByTicket(t *testing.T) {
	d := newDoors("ticket", "token")
	d.nodes[0].Credential = node.BySession
	s := NewService(d, time.Now)
	alice := caller("dc", "alice@pve", 1)
	byToken := session.Caller{Identity: alice.Identity, Token: "t"}
	if _, err := s.List(t.Context(), alice, Query{}); err != nil || d.called("ticket") != 1 {
		t.Fatal(err, d.called("ticket"))
	}
	f := s.feeds[source{alice.Identity, "ticket"}]
	f.mu.Lock()
	f.take(&collection{containers: []*Container{{NodeID: "ticket", Kind: LXC, VMID: 100}}}, time.Now())
	f.mu.Unlock()
	if list, err := s.List(t.Context(), alice, Query{}); err != nil || len(list.Items) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	list, err := s.List(t.Context(), byToken, Query{})
	if err != nil || len(list.Items) != 0 || list.Nodes[0].Code != "sign_in_needed" || list.Nodes[1].Code != "" || d.called("ticket") != 1 {
		t.Errorf("%+v, %v after %d calls", list, err, d.called("ticket"))
	}
	if _, err := s.Find(t.Context(), byToken, "ticket", 100); err == nil {
		t.Error("the container was found")
	}
	d.nodes = d.nodes[:1]
	if _, err := s.List(t.Context(), byToken, Query{}); fault.As(err) == nil || fault.As(err).Code != "sign_in_needed" {
		t.Errorf("%v, want that a sign-in is needed", err)
	}
}

// What was read at one address says nothing of what is at another.
func TestAbuseChangedNodeShowsNothingOld(t *testing.T) {
	d := newDoors("n")
	s := NewService(d, time.Now)
	alice := caller("dc", "alice@pve", 1)
	change := map[string]func(n *node.Node){
		"address":    func(n *node.Node) { n.Address.Host = "other.lan" },
		"credential": func(n *node.Node) { n.Credential = node.ByToken },
		"token":      func(n *node.Node) { n.TokenID = "root@pam!other" },
	}
	for name, change := range change {
		before := d.nodes[0]
		s.feedsOf(audience{alice.Identity, true}, d.nodes)
		f := s.feeds[source{alice.Identity, "n"}]
		f.mu.Lock()
		f.take(&collection{containers: []*Container{{NodeID: "n", Kind: LXC, VMID: 100}}}, time.Now())
		f.guests.tried, f.guests.known = time.Now(), true
		f.mu.Unlock()
		if list, err := s.List(t.Context(), alice, Query{}); err != nil || len(list.Items) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		change(&d.nodes[0])
		d.say(func(context.Context, session.Caller, string) error { return &pve.Error{Kind: pve.KindHostUnreachable} })
		if list, err := s.List(t.Context(), alice, Query{}); err == nil || len(list.Items) != 0 {
			t.Errorf("%s: %+v, %v; want nothing of what was there before", name, list, err)
		}
		d.nodes[0] = before
		d.say(nil)
	}
}
