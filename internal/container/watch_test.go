package container

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
)

// watching begins a watch that ends with the test.
func watching(t *testing.T, s *Service, c session.Caller) *Watch {
	t.Helper()
	w, err := s.Watch(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// A host is asked the same, however many watch.
func TestOnePollerHoweverManyWatch(t *testing.T) {
	var first int
	for _, viewers := range []int{1, 50} {
		synctest.Test(t, func(t *testing.T) {
			d := newDoors("n", "m")
			s := NewService(d, time.Now)
			for i := range viewers {
				defer watching(t, s, caller("dc", "alice@pve", byte(i%3+1))).Close()
			}
			time.Sleep(time.Minute + time.Second)
			// Each reading is of containers and of tasks.
			if n := d.called("n"); n < 58 || n > 64 || viewers > 1 && n != first {
				t.Errorf("%d viewers: %d calls in a minute; with one there were %d", viewers, n, first)
			} else {
				first = n
			}
			if d.called("n") != d.called("m") {
				t.Errorf("the nodes were called %d and %d times", d.called("n"), d.called("m"))
			}
			// Lists come from what the poller reads.
			before := d.called("n")
			for range 10 {
				if _, err := s.List(t.Context(), caller("dc", "alice@pve", 1), Query{}); err != nil {
					t.Fatal(err)
				}
			}
			if d.called("n") != before {
				t.Errorf("lists made %d calls beside the poller's", d.called("n")-before)
			}
			s.Close()
		})
	}
}

func TestPollingEndsWithTheLastWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("n")
		s := NewService(d, time.Now)
		alice := caller("dc", "alice@pve", 1)
		for range 100 {
			w := watching(t, s, alice)
			w.Close()
			w.Close()
		}
		one, other := watching(t, s, alice), watching(t, s, alice)
		time.Sleep(10 * time.Second)
		one.Close()
		before := d.called("n")
		time.Sleep(10 * time.Second)
		if d.called("n") == before {
			t.Error("the nodes are not read although somebody watches")
		}
		other.Close()
		synctest.Wait()
		before = d.called("n")
		time.Sleep(time.Minute)
		if d.called("n") != before {
			t.Errorf("%d calls while nobody watches", d.called("n")-before)
		}
		synctest.Wait()
		if s.seats.all != 0 || len(s.pollers) != 0 {
			t.Errorf("%d watches and %d pollers are left", s.seats.all, len(s.pollers))
		}
		// Whoever looks again at once finds what was just read.
		again := watching(t, s, alice)
		time.Sleep(time.Second)
		again.Close()
		if n := d.called("n") - before; n != 2 {
			t.Errorf("%d calls at once after a pause, want 2", n)
		}
		before = d.called("n")
		again = watching(t, s, alice)
		time.Sleep(fresh / 4)
		if again.Close(); d.called("n") != before {
			t.Errorf("%d calls of what was just read", d.called("n")-before)
		}
		// No goroutine is left, or the test would not end.
	})
}

// A node that hangs or fails is read less and less, and keeps no other waiting.
func TestFailingNodesArePolledLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("good", "dead", "hanging")
		d.say(func(ctx context.Context, _ session.Caller, id string) error {
			switch id {
			case "dead":
				return &pve.Error{Kind: pve.KindHostUnreachable}
			case "hanging":
				return hang(ctx)
			}
			return nil
		})
		s := NewService(d, time.Now)
		defer s.Close()
		defer watching(t, s, caller("dc", "alice@pve", 1)).Close()
		time.Sleep(5 * time.Minute)
		good, dead, hanging := d.called("good")/2, d.called("dead")/2, d.called("hanging")/2
		// Five minutes: every 2 s; after 5, 10, 20 and then 30 s; likewise, each of them 8 s long.
		if good < 148 || good > 152 || dead < 11 || dead > 14 || hanging < 10 || hanging > 13 {
			t.Errorf("%d, %d and %d readings", good, dead, hanging)
		}
	})
}

// Nodes are called with the credential of whose session holds, and never with that of one who watches no more.
func TestAbuseEndedSessionIsNeverUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("n")
		ended := map[session.Hash]time.Time{}
		refused := 0
		d.say(func(_ context.Context, c session.Caller, _ string) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			at, over := ended[c.Session.Hash]
			if !over {
				return nil
			}
			refused++
			if time.Since(at) >= time.Second {
				t.Errorf("the credential of a session that ended %v ago is used", time.Since(at))
			}
			return fault.SignInRequired()
		})
		s := NewService(d, time.Now)
		defer s.Close()
		watches := map[byte]*Watch{}
		for i := byte(1); i <= 5; i++ {
			watches[i] = watching(t, s, caller("dc", "alice@pve", i))
		}
		end := func(i byte) {
			d.mu.Lock()
			ended[session.Hash{i}] = time.Now()
			d.mu.Unlock()
			// Whoever watches notices within a second.
			time.Sleep(900 * time.Millisecond)
			watches[i].Close()
			time.Sleep(10 * time.Second)
		}
		for i := byte(1); i <= 4; i++ {
			synctest.Wait()
			before := d.called("n") - refused
			end(i)
			synctest.Wait()
			if d.called("n")-refused-before < 8 {
				t.Errorf("after the end of session %d the node is not read with the others'", i)
			}
		}
		end(5)
		before := d.called("n")
		if time.Sleep(time.Minute); d.called("n") != before {
			t.Errorf("%d calls for nobody", d.called("n")-before)
		}
	})
}

// Tasks that can't be read keep the list of containers from nothing, and the other way round.
func TestOneSubjectKeepsNoOtherWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("n")
		s := NewService(d, time.Now)
		defer s.Close()
		reads := map[string]int{}
		hanging := ""
		for _, what := range []*subject{&guestList, &taskList} {
			usual := what.read
			defer func() { what.read = usual }()
			what.read = func(ctx context.Context, s *Service, c session.Caller, f *feed) (func(time.Time), error) {
				d.mu.Lock()
				reads[string(what.name)]++
				wait := hanging == string(what.name)
				d.mu.Unlock()
				if wait {
					return nil, hang(ctx)
				}
				return usual(ctx, s, c, f)
			}
		}
		for _, what := range []string{"tasks", "containers"} {
			d.mu.Lock()
			clear(reads)
			hanging = what
			d.mu.Unlock()
			w := watching(t, s, caller("dc", what, 1))
			time.Sleep(time.Minute)
			w.Close()
			time.Sleep(readTimeout)
			d.mu.Lock()
			for name, n := range reads {
				if least := 29; name != what && n < least || name == what && n > 6 {
					t.Errorf("%s were read %d times while %s hang", name, n, what)
				}
			}
			d.mu.Unlock()
		}
	})
}

// One whose session has ended, and who has not noticed yet, keeps the others of the same identity from nothing.
func TestOneOfManyHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("n")
		worked := 0
		d.say(func(_ context.Context, c session.Caller, _ string) error {
			if c.Session.Hash == (session.Hash{1}) {
				return fault.SignInRequired()
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			worked++
			return nil
		})
		s := NewService(d, time.Now)
		defer s.Close()
		for i := byte(1); i <= 2; i++ {
			defer watching(t, s, caller("dc", "alice@pve", i)).Close()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if worked < 58 {
			t.Errorf("%d calls worked in a minute", worked)
		}
	})
}

func TestWatchesOfTwoIdentitiesShareNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("n")
		who := map[session.Identity]int{}
		d.say(func(_ context.Context, c session.Caller, _ string) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			who[c.Identity]++
			return nil
		})
		s := NewService(d, time.Now)
		defer s.Close()
		alice, namesake := caller("dc", "alice@pve", 1), caller("other", "alice@pve", 2)
		mine, other := watching(t, s, alice), watching(t, s, namesake)
		defer mine.Close()
		defer other.Close()
		time.Sleep(30*time.Second + fresh/2)
		drain(mine, other)
		synctest.Wait()
		if who[alice.Identity] != who[namesake.Identity] || who[alice.Identity] < 28 {
			t.Errorf("calls %v", who)
		}
		s.known(alice.Identity, "n", time.Now(), guests[0])
		s.changed(alice.Identity)
		time.Sleep(settle)
		if len(mine.Changed()) != 1 || len(other.Changed()) != 0 {
			t.Error("not just the one whose containers changed was told")
		}
		if c := mine.Change(); c == nil || len(c.Rows) != 1 || mine.Change() != nil {
			t.Errorf("%+v, want one row, and once", c)
		}
		if other.Change() != nil {
			t.Error("somebody else was told what changed")
		}
	})
}

func drain(watches ...*Watch) {
	for _, w := range watches {
		w.Change()
		select {
		case <-w.Changed():
		default:
		}
	}
}

func TestWatchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewService(newDoors(), time.Now)
		defer s.Close()
		alice := caller("dc", "alice@pve", 1)
		for range maxWatchesOfOne {
			defer watching(t, s, alice).Close()
		}
		if _, err := s.Watch(t.Context(), alice); fault.KindOf(err) != fault.Throttled {
			t.Errorf("%v, want that there are too many", err)
		}
		byToken := session.Caller{Identity: alice.Identity, Token: "t"}
		if _, err := s.Watch(t.Context(), byToken); fault.KindOf(err) != fault.Throttled {
			t.Errorf("%v with a token, want that there are too many", err)
		}
		defer watching(t, s, caller("dc", "bob@pve", 1)).Close()
		s.mu.Lock()
		s.seats.all += maxWatches
		s.mu.Unlock()
		if _, err := s.Watch(t.Context(), caller("dc", "carol@pve", 1)); fault.KindOf(err) != fault.Throttled {
			t.Errorf("%v, want that there are too many", err)
		}
	})
}

// A node that is added, or becomes another host, is read at once, and one that is removed no more.
func TestWatchFollowsTheNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoors("n")
		s := NewService(d, time.Now)
		defer s.Close()
		alice := caller("dc", "alice@pve", 1)
		w := watching(t, s, alice)
		defer w.Close()
		time.Sleep(time.Second)
		drain(w)
		change := func(nodes ...node.Node) {
			d.mu.Lock()
			d.nodes = nodes
			d.mu.Unlock()
		}
		n, m := d.nodes[0], newDoors("m").nodes[0]
		change(n, m)
		// The page that lists them lets the watch know.
		if _, err := s.List(t.Context(), alice, Query{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if c := w.Change(); c == nil || len(c.Nodes) != 2 || d.called("m") == 0 {
			t.Errorf("%+v after %d calls of the new node", c, d.called("m"))
		}
		before := d.called("m")
		time.Sleep(10 * time.Second)
		if calls := d.called("m") - before; calls < 8 {
			t.Errorf("%d calls of the new node in ten seconds", calls)
		}
		drain(w)
		before = d.called("n")
		n.Address.Host = "other.lan"
		change(n, m)
		if time.Sleep(relist + 200*time.Millisecond); d.called("n") <= before || w.Change() == nil {
			t.Error("a node at another address is not read there")
		}
		change(m)
		time.Sleep(relist + time.Second)
		before = d.called("n")
		time.Sleep(time.Minute)
		if c := w.Change(); c == nil || len(c.Nodes) != 1 || d.called("n") != before {
			t.Errorf("%+v, and %d calls of the node that is gone", c, d.called("n")-before)
		}
	})
}

func TestChanges(t *testing.T) {
	s := NewService(newDoors("n"), time.Now)
	alice := caller("dc", "alice@pve", 1)
	look := func(containers ...Container) *snapshot {
		t.Helper()
		s.known(alice.Identity, "n", time.Now(), containers...)
		seen, err := s.look(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		return seen.snapshot
	}
	first := look(guests[0], guests[1])
	busy := guests[1]
	busy.Mem = 77
	second := look(busy, guests[2])
	c := second.since(first)
	if c.Version != second.version || len(c.Rows) != 2 || c.Rows[0].Mem != 77 || c.Rows[1].Name != "jellyfin" || fmt.Sprint(c.Removed) != "[{n 100}]" ||
		c.More || c.Nodes != nil || c.Tasks != nil || c.Counts.Total != 2 {
		t.Errorf("%+v", c)
	}
	if again := second.since(first); again != c {
		t.Error("a change is made for each who asks")
	}
	var many []Container
	for i := range maxTold + 1 {
		many = append(many, Container{Kind: LXC, VMID: 1000 + i})
	}
	if c := look(many...).since(second); !c.More || len(c.Rows) != maxTold {
		t.Errorf("%d rows, more %v", len(c.Rows), c.More)
	}
}

// What happens after a watch began is a change, and no reason for who watches to begin anew.
func TestVersionIsOfWhatWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewService(newDoors("n"), time.Now)
		defer s.Close()
		w := watching(t, s, caller("dc", "alice@pve", 1))
		defer w.Close()
		begun := w.Version()
		<-w.Changed() // the node was read for the first time
		if w.Version() != begun {
			t.Errorf("%s before anything was told, it began at %s", w.Version(), begun)
		}
		if c := w.Change(); c == nil || c.Version == begun || c.Version != w.Version() {
			t.Errorf("%+v was told, and the version is %s", c, w.Version())
		}
	})
}
