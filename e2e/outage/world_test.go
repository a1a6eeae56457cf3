package outage

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

const (
	// crowd is how many people there are, and holdings how many containers each of them has.
	crowd    = 10
	holdings = 16
)

// world is an installation in use: replicas of the program, a simulated host, and people with containers of their own.
type world struct {
	t      *testing.T
	dc     *sim.Datacenter
	host   *sim.Host
	env    []string // of each replica, beside what is its own
	folder string   // of the key
	people []*person
	ledger ledger

	mu       sync.Mutex
	replicas []*replica // those that are asked
}

// asked are the replicas that requests go to.
func (w *world) asked() []*replica {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.replicas)
}

// replica is a `berth serve`, which may be started again elsewhere.
type replica struct {
	w       *world
	program string
	env     []string

	mu      sync.Mutex
	process *process
	url     string
	down    bool // killed, and not ready again
	leaving bool // told to end: what it has not taken yet it takes no more
}

// newWorld makes the host and the people; replicas are begun by the test.
func newWorld(t *testing.T, env ...string) *world {
	t.Helper()
	dc, err := sim.New(sim.Options{RefusalDelay: -1, TaskSpeed: 5, Refresh: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dc: dc, env: env, folder: t.TempDir()}
	w.ledger.sent, w.ledger.answers = map[deed]int{}, map[string]int{}
	if w.host, err = dc.Listen("", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.host.Close() })
	for i := range crowd {
		p := &person{w: w, mark: fmt.Sprintf("p%02d", i), address: fmt.Sprintf("10.0.0.%d", i+1)}
		p.user = p.mark + "@pve"
		if err := dc.AddUser(sim.User{ID: p.user, Password: sim.DefaultPassword}); err != nil {
			t.Fatal(err)
		}
		for k := range holdings {
			vmid := 1000 + 100*i + k
			if err := dc.AddContainer(sim.Container{VMID: vmid, Name: fmt.Sprintf("%s-c%02d", p.mark, k), ShutdownTime: time.Second}); err != nil {
				t.Fatal(err)
			}
			if err := dc.Grant(sim.ACL{Path: "/vms/" + strconv.Itoa(vmid), User: p.user, Role: "PVEVMUser"}); err != nil {
				t.Fatal(err)
			}
			p.vmids = append(p.vmids, vmid)
		}
		w.people = append(w.people, p)
	}
	return w
}

// begin starts one more replica, of a program.
func (w *world) begin(program string, env ...string) *replica {
	w.t.Helper()
	r := &replica{w: w, program: program, env: env, down: true}
	r.start()
	r.ready()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replicas = append(w.replicas, r)
	return r
}

// settings are what each `berth` of this world is told by its environment.
func (w *world) settings() []string {
	return append([]string{
		"BERTH_KEY_FILE=" + filepath.Join(w.folder, "berth.key"), "BERTH_LOGIN_HOSTS=" + w.host.Address(),
	}, w.env...)
}

// start runs the replica's program, on a port of its own and with a data folder of its own unless it was given one.
func (r *replica) start() {
	r.w.t.Helper()
	data := r.w.t.TempDir()
	env := append(r.w.settings(), "BERTH_DATA="+data)
	env = append(env, r.env...)
	p := start(r.w.t, r.program, env, "serve", "--listen", "127.0.0.1:0", "--trusted-proxies", "127.0.0.1", "--start-timeout", "60s")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.process = p
}

// ready waits until the replica serves.
func (r *replica) ready() {
	r.w.t.Helper()
	r.mu.Lock()
	p := r.process
	r.mu.Unlock()
	url := p.await(r.w.t, `msg="Berth is ready" url=(\S+)`)
	if url == "" {
		r.w.t.Fatalf("a replica does not start:\n%s", p.tail())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.url, r.down = url, false
}

// kill ends the replica as kill -9 does, and returns just before when.
func (r *replica) kill() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = true
	_ = r.process.cmd.Process.Kill()
	<-r.process.ended
	return time.Now()
}

// at is where the replica serves, and whether it is expected to.
func (r *replica) at() (url string, up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.url, !r.down
}

// logged is what the replica's log has under the error id of an answer.
func (r *replica) logged(body string) string {
	var e struct{ ErrorID string }
	if json.Unmarshal([]byte(body), &e) != nil || e.ErrorID == "" {
		return ""
	}
	r.mu.Lock()
	text := r.process.log.String()
	r.mu.Unlock()
	for line := range strings.Lines(text) {
		if strings.Contains(line, e.ErrorID) {
			return line
		}
	}
	return "the log has nothing about it"
}

// excused tells whether a request that began when the replica was at an address may have got no answer.
func (r *replica) excused(url string, up bool, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaving && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)) {
		return true
	}
	return !up || r.down || r.url != url
}

// settled waits until all replicas say that their stores answer.
func (w *world) settled() {
	w.t.Helper()
	for i, r := range w.asked() {
		var last answer
		deadline := time.Now().Add(patience)
		for {
			if last = w.people[0].ask(r, "GET", "/readyz", nil, ""); last.status == 200 {
				break
			}
			if time.Now().After(deadline) {
				w.t.Fatalf("replica %d is not ready again: %d %s %v\n%s", i, last.status, last.body, last.err, r.process.tail())
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// everybodySignsIn signs each person in, at the replicas in turn, and finds their node.
func (w *world) everybodySignsIn() {
	w.t.Helper()
	for i, p := range w.people {
		if got := p.signIn(w.replicas[i%len(w.replicas)]); got.status != 200 {
			w.t.Fatalf("%s does not get in: %d %s %v", p.user, got.status, got.body, got.err)
		}
	}
	for i, p := range w.people {
		eventually(w.t, "the containers of "+p.user, func() bool {
			got := p.ask(w.replicas[i%len(w.replicas)], "GET", "/api/containers", nil, p.session())
			return p.learn(got.body) == holdings
		})
	}
}

// credentials are a sign-in at the simulated host.
func (w *world) credentials(user string) map[string]any {
	host, port, err := net.SplitHostPort(w.host.Address())
	if err != nil {
		w.t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		w.t.Fatal(err)
	}
	return map[string]any{"host": host, "port": n, "username": user, "password": sim.DefaultPassword, "fingerprint": w.host.Fingerprint()}
}

// signIns is how many passwords the host has judged as right.
func (w *world) signIns() int {
	n := 0
	for path, times := range w.host.AcceptedPosts() {
		if strings.HasSuffix(path, "/access/ticket") {
			n += times
		}
	}
	return n
}
