package app

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

// items are the containers of a list, by node and VMID, with the door that they were read through.
func (r reply) items(t *testing.T) map[string]map[string]any {
	t.Helper()
	byName := map[string]map[string]any{}
	for _, item := range r.json(t)["items"].([]any) {
		c := item.(map[string]any)
		byName[fmt.Sprint(c["nodeId"], "/", c["vmid"])] = c
	}
	return byName
}

// problems are the codes of the nodes' problems in a list, by name.
func (r reply) problems(t *testing.T) map[string]string {
	t.Helper()
	codes := map[string]string{}
	for _, n := range r.json(t)["nodes"].([]any) {
		node := n.(map[string]any)
		code, _ := node["code"].(string)
		codes[node["name"].(string)] = code
	}
	return codes
}

// readAt is when a node was read last.
func (r reply) readAt(t *testing.T, name string) time.Time {
	t.Helper()
	for _, n := range r.json(t)["nodes"].([]any) {
		if node := n.(map[string]any); node["name"] == name {
			at, err := time.Parse(time.RFC3339Nano, node["readAt"].(string))
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
	}
	t.Fatalf("no node %s", name)
	return time.Time{}
}

// Whatever one node of three does, lists of the others take as long as ever, changes there show as soon as ever, and its own
// containers stay as they were last known.
func TestFaultsOfOneNodeDelayNobody(t *testing.T) {
	b := newBench(t)
	b.each(func(a *App) { a.containers.SetPatience(2 * time.Second) }) // a node that hangs is given up sooner, so that the next fault can come
	_, home := b.newHost(t, sim.Options{})
	well, wellHost := b.newHost(t, sim.Options{Members: []string{"well"}})
	ill, illHost := b.newHost(t, sim.Options{Members: []string{"ill"}})
	browser := b.browser(t)
	browser.signIn(home, "root@pam")
	wellNode := browser.addNode(tokenNode(t, well, wellHost, "root@pam", "well"))["id"]
	illNode := browser.addNode(tokenNode(t, ill, illHost, "root@pam", "ill"))["id"]
	one := fmt.Sprint(illNode, "/", 101)
	lists := func(n int) (took []time.Duration, last reply) {
		for range n {
			b.advance(2 * time.Second)
			begun := time.Now()
			last = browser.get("/api/containers")
			took = append(took, time.Since(begun))
		}
		slices.Sort(took)
		return took, last
	}
	_, all := lists(1)
	if len(all.items(t)) != 45 || all.items(t)[one] == nil {
		t.Fatalf("%d containers of three nodes", len(all.items(t)))
	}
	for name, test := range map[string]struct {
		fault sim.Fault
		code  string
	}{
		"hangs":              {sim.Fault{Hang: true}, ""},
		"refuses":            {sim.Fault{Refuse: true}, "host_unreachable"},
		"is slow":            {sim.Fault{Latency: 2 * time.Second}, ""},
		"never stops":        {sim.Fault{EndlessBody: true}, ""},
		"answers with a 595": {sim.Fault{Status: 595}, "host_unreachable"},
		"is not itself":      {sim.Fault{WrongJSON: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			usual, _ := lists(30) // anew each time: what else the machine does changes between one fault and the next
			illHost.SetFault("", "", test.fault)
			defer illHost.ClearFaults()
			took, last := lists(30)
			t.Logf("lists take %v, at most %v; usually %v and %v", took[15], took[29], usual[15], usual[29])
			// One list finds out, after a moment that is given to every node that worked before.
			if most := 3*max(usual[15], 10*time.Millisecond) + 20*time.Millisecond; took[15] > most {
				t.Errorf("half of the lists take %v and more, usually %v", took[15], usual[15])
			}
			if items := last.items(t); len(items) != 45 || items[one] == nil {
				t.Errorf("%d containers are listed", len(items))
			}
			for deadline := time.Now().Add(30 * time.Second); ; last = browser.get("/api/containers") {
				codes := last.problems(t)
				if codes["well"] != "" || codes["127.0.0.1"] != "" {
					t.Errorf("problems %v of those that are well", codes)
				}
				if codes["ill"] == test.code || test.code == "" {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("problems %v, want %q of the ill one", codes, test.code)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
		// It is well again by itself.
		cleared := b.now()
		for deadline := time.Now().Add(30 * time.Second); browser.get("/api/containers").readAt(t, "ill").Before(cleared); b.advance(10 * time.Second) {
			if time.Now().After(deadline) {
				t.Fatal("the node is well and not read")
			}
			time.Sleep(5 * time.Millisecond)
		}
	}

	// The same for who watches.
	illHost.SetFault("", "", sim.Fault{Hang: true})
	s := browser.stream("")
	browser.get("/api/containers")
	if err := well.SetContainerStatus(101, sim.Stopped); err != nil {
		t.Fatal(err)
	}
	b.advance(10 * time.Second)
	begun := time.Now()
	s.next("a change at the node that is well", func(e event) bool {
		return slices.ContainsFunc(e.rows(t), func(row map[string]any) bool {
			return row["nodeId"] == wellNode && row["vmid"] == 101.0 && row["status"] == sim.Stopped
		})
	})
	t.Logf("a change shows after %v while another node hangs", time.Since(begun))
}

// Two doors to one cluster: each container is there once, and when one door closes pages are told, and what is done goes
// through the other.
func TestClusterGoesOnThroughItsOtherDoor(t *testing.T) {
	b := newBench(t)
	_, home := b.newHost(t, sim.Options{})
	dc, east := b.newHost(t, sim.Options{Name: "garden", Members: []string{"east", "west"}})
	west, err := dc.Listen("west", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { west.Close() })
	root := b.browser(t)
	root.signIn(home, "root@pam")
	first := root.addNode(tokenNode(t, dc, east, "root@pam", "east"))["id"]
	second := root.addNode(tokenNode(t, dc, west, "root@pam", "west"))["id"]
	const vmid = 101
	name := fmt.Sprint(first, "/", vmid)
	before := root.get("/api/containers").items(t)
	if c := before[name]; c == nil || c["door"] != first || before[fmt.Sprint(second, "/", vmid)] != nil {
		t.Fatalf("%v", before)
	}
	s := root.stream("")
	if err := dc.StopMember("east"); err != nil {
		t.Fatal(err)
	}
	// Its own containers are unknown now; the others are read through the other door.
	var moved map[string]any
	s.next("the other door", func(e event) bool {
		if e.name != "containers" {
			return false
		}
		moved = root.get("/api/containers").items(t)[name]
		return moved != nil && moved["door"] == second
	})
	b.eventually(t, "every replica goes through the other door", func() bool {
		for range b.apps {
			if c := root.get("/api/containers").items(t)[name]; c == nil || c["door"] != second {
				return false
			}
		}
		return true
	})
	after := root.get("/api/containers")
	if len(after.items(t)) != len(before) || after.problems(t)["east"] != "host_unreachable" || after.problems(t)["west"] != "" {
		t.Errorf("%d containers, %d before; problems %v", len(after.items(t)), len(before), after.problems(t))
	}
	for _, n := range after.json(t)["nodes"].([]any) {
		if n := n.(map[string]any); n["name"] != "127.0.0.1" && n["listedAs"] != first {
			t.Errorf("%v is listed as %v, want %v", n["name"], n["listedAs"], first)
		}
	}
	for name, c := range after.items(t) {
		if c["node"] != "west" || c["status"] != sim.Running || c["lock"] != nil {
			continue
		}
		r := root.json("/api/containers/"+name+"/stop", map[string]any{"confirm": c["name"]})
		if r.StatusCode != 200 {
			t.Errorf("stop %s through the other door: %d %s", name, r.StatusCode, r.body)
		}
		return
	}
	t.Error("no container runs on the other member")
}
