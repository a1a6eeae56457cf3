package app

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/config"
	"berth/internal/pve/sim"
	"berth/internal/replicatest"
	"berth/internal/session"
	"berth/internal/task"
)

// newServerReplicas are two programs over one database on a server, one Redis and one key, with a data folder each.
func newServerReplicas(t *testing.T, change func(*config.Settings)) (one, two *bench) {
	t.Helper()
	one = &bench{clock: newClock(), folder: t.TempDir(), change: change, alone: true, common: replicatest.New(t)}
	one.begin(t)
	two = one.beside()
	key := one.folder + "/berth.key"
	two.folder = t.TempDir()
	two.change = func(s *config.Settings) {
		s.KeyFile = key
		if change != nil {
			change(s)
		}
	}
	two.begin(t)
	return one, two
}

// yards are a yard at each of two replicas, of the same browser.
func newYards(t *testing.T, o sim.Options, user string) (one, two *yard) {
	t.Helper()
	b, other := newServerReplicas(t, nil)
	dc, host := b.newHost(t, o)
	one = &yard{bench: b, dc: dc, host: host, browser: b.browser(t)}
	one.signIn(host, user)
	one.node = one.browser.nodeID(t)
	two = &yard{bench: other, dc: dc, host: host, browser: one.browser.at(other), node: one.node}
	return one, two
}

// What one replica has said, the other says too at the very next request, whatever it has in memory.
func TestWhatOneReplicaSaidTheOtherKnows(t *testing.T) {
	one, two := newYards(t, sim.Options{}, "root@pam")
	here, there := one.browser, two.browser
	_, away := one.newHost(t, sim.Options{})
	for i := range 10 {
		there.nodes() // fills its memory
		name := fmt.Sprint("attic ", i)
		id, _ := here.addNode(signInThere(away, "root@pam", name))["id"].(string)
		if there.nodes()[name] == nil {
			t.Fatalf("round %d: the new node is not there", i)
		}
		if r := here.json("/api/nodes/"+id+"/default", struct{}{}); r.StatusCode != http.StatusOK {
			t.Fatalf("default: %d %s", r.StatusCode, r.body)
		}
		if there.nodes()[name]["isDefault"] != true {
			t.Errorf("round %d: the default is another", i)
		}
		if r := here.patch(id, map[string]any{"name": name + " again"}); r.StatusCode != http.StatusOK {
			t.Fatalf("rename: %d %s", r.StatusCode, r.body)
		}
		if there.nodes()[name+" again"] == nil {
			t.Errorf("round %d: it has its old name", i)
		}
		if r := here.do("DELETE", "/api/nodes/"+id, "", ""); r.StatusCode != http.StatusOK {
			t.Fatalf("remove: %d %s", r.StatusCode, r.body)
		}
		if there.nodes()[name+" again"] != nil {
			t.Errorf("round %d: the node that was removed is there", i)
		}

		cards := i%2 == 0
		there.get("/")
		shape := map[bool]string{true: "cards", false: "table"}[cards]
		if r := here.form("/layout", url.Values{"shape": {shape}}); r.StatusCode != http.StatusSeeOther {
			t.Fatalf("layout: %d %s", r.StatusCode, r.body)
		}
		if got := strings.Contains(there.get("/").body, `class="list cards"`); got != cards {
			t.Errorf("round %d: cards %v, want %v", i, got, cards)
		}

		token, text := here.makeToken(fmt.Sprint("t", i), session.ScopeRead)
		if r := two.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusOK {
			t.Errorf("round %d: the new token: %d %s", i, r.StatusCode, r.body)
		}
		if r := here.do("DELETE", "/api/tokens/"+token, "", ""); r.StatusCode != http.StatusOK {
			t.Fatalf("revoke: %d %s", r.StatusCode, r.body)
		}
		if r := two.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("round %d: the revoked token: %d %s", i, r.StatusCode, r.body)
		}
	}
}

// A notice that was taken away on one replica is not shown by the other, and one of the other's is.
func TestNoticesCrossReplicas(t *testing.T) {
	one, two := newYards(t, sim.Options{}, "alice@pve")
	if err := one.dc.FailNextStart(102, "startup for container '102' failed"); err != nil {
		t.Fatal(err)
	}
	two.get("/api/notices")
	_, op := one.order(t, one.node, 102, "start", nil)
	one.ended(t, op.ID)
	if r := two.get("/api/notices"); !strings.Contains(r.body, op.ID) {
		t.Errorf("the other replica does not tell of the failure: %s", r.body)
	}
	if r := one.json("/api/notices/"+op.ID+"/seen", struct{}{}); r.StatusCode != http.StatusOK {
		t.Fatalf("seen: %d %s", r.StatusCode, r.body)
	}
	if r := two.get("/api/notices"); strings.Contains(r.body, op.ID) {
		t.Errorf("the other replica shows what was taken away: %s", r.body)
	}
}

// The second step of a sign-in at a node's host is taken on another replica than the first, and after the key was replaced.
func TestNodeSignInCrossesReplicas(t *testing.T) {
	one, two := newYards(t, sim.Options{}, "root@pam")
	away, host := one.newHost(t, sim.Options{})
	kinds := map[string]func(challenge any) reply{
		"added": func(challenge any) reply {
			return two.json("/api/nodes", map[string]any{"challenge": challenge, "kind": "totp", "code": sim.TOTP(sim.DefaultTOTPSecret, one.now())})
		},
		"after a rotation": func(challenge any) reply {
			operator, err := Operate(t.Context(), one.settings())
			if err != nil {
				t.Fatal(err)
			}
			rotation, err := operator.RotateKey(t.Context())
			if err != nil || rotation.Unreadable != 0 {
				t.Errorf("%+v, %v", rotation, err)
			}
			if err := operator.Close(); err != nil {
				t.Error(err)
			}
			return two.json("/api/nodes", map[string]any{"challenge": challenge, "kind": "totp", "code": sim.TOTP(sim.DefaultTOTPSecret, one.now())})
		},
	}
	for name, second := range kinds {
		one.advance(time.Minute) // another code
		before := len(tokensOn(t, away, "bob@pve"))
		tfa, ok := one.addNode(signInThere(host, "bob@pve", name))["tfa"].(map[string]any)
		if !ok {
			t.Fatal("no second step")
		}
		saved := second(tfa["challenge"]).want(t, name, http.StatusOK, "")
		if saved["name"] != name || one.nodes()[name] == nil || len(tokensOn(t, away, "bob@pve")) != before+1 {
			t.Errorf("%s: %v", name, saved)
		}
	}
}

// Of two first sign-ins on two replicas one claims the installation, and the other leaves nothing.
func TestClaimCrossesReplicas(t *testing.T) {
	for i := range 4 {
		t.Run(strconv.Itoa(i), claimCrosses)
	}
}

func claimCrosses(t *testing.T) {
	one, two := newServerReplicas(t, claimed)
	_, first := one.newHost(t, sim.Options{})
	_, second := one.newHost(t, sim.Options{})
	at := []struct {
		bench *bench
		host  *sim.Host
	}{{one, first}, {two, second}}
	var answers [2]reply
	var both sync.WaitGroup
	for i, a := range at {
		both.Go(func() { answers[i] = a.bench.browser(t).json("/api/auth/login", input(a.host, "root@pam")) })
	}
	both.Wait()
	winner := -1
	for i, r := range answers {
		switch {
		case r.StatusCode == http.StatusOK && winner < 0:
			winner = i
		case r.StatusCode == http.StatusUnauthorized && r.json(t)["detail"] == failure:
		case r.StatusCode == http.StatusForbidden && code(t, r) == "host_not_allowed": // it came after the other one had won
		default:
			t.Errorf("replica %d: %d %s", i+1, r.StatusCode, r.body)
		}
	}
	if winner < 0 {
		t.Fatal("nobody has claimed the installation")
	}
	loser := at[1-winner]
	for i, a := range at {
		hosts, err := a.bench.store.LoginHosts(t.Context())
		if err != nil || len(hosts) != 1 {
			t.Errorf("replica %d knows %d login hosts, %v", i+1, len(hosts), err)
		}
		if r := a.bench.browser(t).json("/api/auth/login", input(loser.host, "root@pam")); code(t, r) != "host_not_allowed" {
			t.Errorf("the other host at replica %d: %d %s", i+1, r.StatusCode, r.body)
		}
	}
	owner := loser.bench.browser(t) // signs in where the claim was lost
	owner.signIn(at[winner].host, "root@pam")
	if list := owner.sessionList("?whose=everyone"); len(list) != 2 {
		t.Errorf("%d sessions, want the winner's and this: %v", len(list), list)
	}
}

// A container that one replica changes is not changed by the other, by nobody's browser, until its task has ended.
func TestLockCrossesReplicas(t *testing.T) {
	one, two := newYards(t, sim.Options{}, "alice@pve")
	root := two.bench.browser(t)
	root.signIn(one.host, "root@pam")
	roots := root.nodeID(t)
	one.dc.HoldTasks(true)
	var replies [6]reply
	var all sync.WaitGroup
	for i := range replies {
		on := []*yard{one, two}[i%2]
		all.Go(func() { replies[i], _ = on.order(t, on.node, 102, "start", nil) })
	}
	all.Wait()
	done := 0
	for _, r := range replies {
		if r.StatusCode == http.StatusOK {
			done++
		} else if code(t, r) != "container_busy" {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	}
	if done != 1 {
		t.Errorf("%d were taken", done)
	}
	if r, _ := root.order(t, roots, 102, "stop", nil); code(t, r) != "container_busy" {
		t.Errorf("somebody else on the other replica: %d %s", r.StatusCode, r.body)
	}
	one.dc.HoldTasks(false)
	var r reply
	two.eventually(t, "the lock is free on the other replica", func() bool {
		r, _ = root.order(t, roots, 102, "stop", nil)
		return r.StatusCode == http.StatusOK || code(t, r) != "container_busy"
	})
	if r.StatusCode != http.StatusOK {
		t.Errorf("after the end: %d %s", r.StatusCode, r.body)
	}
	one.accepted(t, 102, "start", 1)
	one.accepted(t, 102, "stop", 1)
}

// stoppedYards are yards of which everything is stopped.
func stoppedYards(t *testing.T, n int) (one, two *yard) {
	t.Helper()
	one, two = newYards(t, sim.Options{Containers: n, Name: "lab", Members: []string{"pve1", "pve2"}}, "root@pam")
	for vmid := 100; vmid < 100+n; vmid++ {
		if err := one.dc.SetContainerStatus(vmid, sim.Stopped); err != nil {
			t.Fatal(err)
		}
	}
	one.advance(11 * time.Second)
	one.dc.HoldTasks(true)
	return one, two
}

func (y *yard) startedOf(first, n int) (started int) {
	for vmid := first; vmid < first+n; vmid++ {
		started += y.dc.Accepted(vmid, "start")
	}
	return started
}

// A run that was begun on one replica is watched on the other, and canceled there.
func TestBulkCrossesReplicas(t *testing.T) {
	one, two := stoppedYards(t, 20)
	run := one.bulk(t, map[string]any{"action": "start", "query": map[string]any{}})
	if seen := two.run(t, run.ID); len(seen.Operations) != 20 {
		t.Errorf("the other replica sees %d operations", len(seen.Operations))
	}
	two.eventually(t, "four of each member run", func() bool { return two.run(t, run.ID).Counts[task.Running] == 8 })
	if got := two.runFrom(t, two.json("/api/bulk/"+run.ID+"/cancel", struct{}{})); got.Counts[task.Canceled] != 12 {
		t.Errorf("canceled: %v", got.Counts)
	}
	if got := one.run(t, run.ID); got.Counts[task.Canceled] != 12 || got.Counts[task.Running] != 8 {
		t.Errorf("where it was begun: %v", got.Counts)
	}
	one.dc.HoldTasks(false)
	if got := two.runEnded(t, run.ID); got.Counts[task.Canceled] != 12 || got.Counts[task.Done] != 8 {
		t.Errorf("ended: %v", got.Counts)
	}
	if n := one.startedOf(100, 20); n != 8 {
		t.Errorf("the host carried out %d starts", n)
	}
}

// The replica that works on a run ends. What it had begun is followed to its end by the other, and what it had not is canceled
// once its lease is over.
func TestBulkOfAReplicaThatEnds(t *testing.T) {
	one, two := stoppedYards(t, 20)
	run := one.bulk(t, map[string]any{"action": "start", "query": map[string]any{}})
	two.eventually(t, "four of each member run", func() bool { return two.run(t, run.ID).Counts[task.Running] == 8 })
	one.stop()
	if got := two.run(t, run.ID); got.Counts[task.Waiting] != 12 {
		t.Errorf("within the lease: %v", got.Counts)
	}
	one.dc.HoldTasks(false)
	got := two.runEnded(t, run.ID)
	if got.Counts[task.Done] != 8 || got.Counts[task.Canceled] != 12 {
		t.Errorf("%v: %+v", got.Counts, got.Operations)
	}
	for _, op := range got.Operations {
		if op.State == task.Canceled && op.Error != "Berth was restarted before its turn" {
			t.Errorf("%d was canceled because %q", op.VMID, op.Error)
		}
	}
	if n := one.startedOf(100, 20); n != 8 {
		t.Errorf("the host carried out %d starts", n)
	}
	if n := strings.Count(two.trailOf(t, audit.ContainerStart), `"`+string(audit.ContainerStart)+`"`); n != 8 {
		t.Errorf("%d starts are in the trail", n)
	}
	// No lock is left.
	if r, _ := two.order(t, two.node, got.Operations[0].VMID, "stop", nil); r.StatusCode != http.StatusOK && code(t, r) == "container_busy" {
		t.Errorf("a container stays locked: %s", r.body)
	}
}
