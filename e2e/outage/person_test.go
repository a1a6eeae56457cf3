package outage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"
)

const (
	// answerBound is what an answer may take that asks no host: 2 s for each store, and what a busy machine adds.
	answerBound = 2*2*time.Second + 10*time.Second
	// endBound is after which time an ended session is refused everywhere.
	endBound = time.Second
)

// person is one identity, which owns containers that nobody else may see.
type person struct {
	w       *world
	mark    string // what names of this person's begin with, and nobody else's
	user    string
	address string // where they come from, as the load balancer says
	vmids   []int

	mu       sync.Mutex
	node     string   // id of their node
	sessions []string // cookies of sessions that were acknowledged and not ended
	ended    []ended
}

// ended is a session whose end was acknowledged.
type ended struct {
	cookie string
	at     time.Time
}

// answer is what a request got: a status, or an error if there was no answer.
type answer struct {
	status int
	body   string
	cookie string
	err    error
	sent   time.Time
}

// client keeps no connections: each request goes where it is sent, and is sent once.
var client = &http.Client{
	Timeout:       patience,
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// marks are what tells people's names apart.
var marks = regexp.MustCompile(`\bp\d\d\b`)

// ask sends one request. Whatever comes back must not hold anything of somebody else.
func (p *person) ask(r *replica, method, path string, body any, cookie string) answer {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		in = bytes.NewReader(text)
	}
	url, up := r.at()
	got := answer{sent: time.Now()}
	request, err := http.NewRequest(method, url+path, in)
	if err != nil {
		panic(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("X-Forwarded-For", p.address)
	if cookie != "" {
		request.AddCookie(&http.Cookie{Name: "lxc-session", Value: cookie})
	}
	response, err := client.Do(request)
	if err == nil {
		defer response.Body.Close()
		var text []byte
		if text, err = io.ReadAll(io.LimitReader(response.Body, 8<<20)); err == nil {
			got.status, got.body = response.StatusCode, string(text)
		}
		for _, c := range response.Cookies() {
			if c.Name == "lxc-session" {
				got.cookie = c.Value
			}
		}
	}
	if got.err = err; err != nil {
		if !r.excused(url, up, err) {
			p.w.t.Errorf("%s %s: no answer from a replica that nobody killed: %v", method, path, err)
		}
		return got
	}
	for _, mark := range marks.FindAllString(got.body, -1) {
		if mark != p.mark {
			p.w.t.Errorf("%s %s shows %s what belongs to %s: %.300s", method, path, p.user, mark, got.body)
			break
		}
	}
	if got.status == http.StatusInternalServerError {
		p.w.t.Errorf("%s %s: %s\n%s", method, path, got.body, r.logged(got.body))
	}
	return got
}

// signIn signs in once more. The session counts as acknowledged if the answer says so.
func (p *person) signIn(r *replica) answer {
	got := p.ask(r, "POST", "/api/auth/login", p.w.credentials(p.user), "")
	p.w.ledger.signIn(got)
	if got.status == http.StatusOK {
		if got.cookie == "" {
			p.w.t.Errorf("a sign-in without a cookie: %s", got.body)
		}
		p.mu.Lock()
		p.sessions = append(p.sessions, got.cookie)
		p.mu.Unlock()
	}
	return got
}

// signOut ends the oldest session.
func (p *person) signOut(r *replica) {
	p.mu.Lock()
	cookie := p.sessions[0]
	p.sessions = p.sessions[1:]
	p.mu.Unlock()
	got := p.ask(r, "POST", "/api/auth/logout", struct{}{}, cookie)
	if got.status == http.StatusOK {
		p.mu.Lock()
		p.ended = append(p.ended, ended{cookie, time.Now()})
		p.mu.Unlock()
	}
	// Without an answer nobody knows: it is in neither list.
}

// session is the cookie of the newest session.
func (p *person) session() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[len(p.sessions)-1]
}

// learn finds the person's node in a list of containers, and tells how many there are.
func (p *person) learn(list string) int {
	var found struct {
		Items []struct {
			NodeID string
			VMID   int
		}
	}
	if json.Unmarshal([]byte(list), &found) != nil || len(found.Items) == 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.node = found.Items[0].NodeID
	return len(found.Items)
}

// operation is what the API tells of a change.
type operation struct {
	ID, State, UPID, Action, Error string
	VMID                           int
}

func (o operation) over() bool {
	return o.State != "waiting" && o.State != "sending" && o.State != "running"
}

// change asks for a change of a container. It is acknowledged if the answer says so.
func (p *person) change(r *replica, vmid int, action string) answer {
	p.w.ledger.sending(vmid, action)
	got := p.ask(r, "POST", fmt.Sprintf("/api/containers/%s/%d/%s", p.node, vmid, action), struct{}{}, p.session())
	if got.status == http.StatusOK {
		var op operation
		if err := json.Unmarshal([]byte(got.body), &op); err != nil || op.ID == "" || op.VMID != vmid || op.Action != action {
			p.w.t.Errorf("%s of %d: %s", action, vmid, got.body)
			return got
		}
		p.w.ledger.accept(p, op)
	}
	return got
}

// bulk asks for a run over containers.
func (p *person) bulk(r *replica, action string, vmids []int) answer {
	var items []map[string]any
	for _, vmid := range vmids {
		p.w.ledger.sending(vmid, action)
		items = append(items, map[string]any{"nodeId": p.node, "vmid": vmid})
	}
	got := p.ask(r, "POST", "/api/bulk", map[string]any{"action": action, "items": items}, p.session())
	if got.status == http.StatusOK {
		var run run
		if err := json.Unmarshal([]byte(got.body), &run); err != nil || run.ID == "" || len(run.Operations) != len(vmids) {
			p.w.t.Errorf("run: %s", got.body)
			return got
		}
		p.w.ledger.acceptRun(p, run)
	}
	return got
}

// run is what the API tells of a bulk run.
type run struct {
	ID         string
	Ended      bool
	Operations []operation
}

// code is the code of a refusal.
func (a answer) code() string {
	var e struct{ Code string }
	_ = json.Unmarshal([]byte(a.body), &e)
	return e.Code
}

// stayedIn fails the test if a person was signed out who need not be. What the answer is else is not its business: a store may
// be away.
func (p *person) stayedIn(got answer) {
	if got.status == http.StatusUnauthorized {
		p.w.t.Errorf("%s was signed out: %s", p.user, got.body)
	}
}

// bounded fails the test if an answer took too long.
func (p *person) bounded(what string, got answer) {
	if took := time.Since(got.sent); got.err == nil && took > answerBound {
		p.w.t.Errorf("%s took %s", what, took)
	}
}

// use does one of the things that people do, at a replica that chance finds. It changes, and signs in and out,
// only where there are containers to change.
func (p *person) use(random *rand.Rand, vmids []int) {
	changes := len(vmids) > 0
	some := p.w.asked()
	r := some[random.IntN(len(some))]
	switch roll := random.IntN(20); {
	case roll < 5:
		got := p.ask(r, "GET", "/api/auth/session", nil, p.session())
		p.stayedIn(got)
		p.bounded("a look at the session", got)
	case roll < 8:
		got := p.ask(r, "GET", "/api/containers", nil, p.session())
		p.stayedIn(got)
	case roll < 9:
		got := p.ask(r, "GET", "/api/sessions", nil, p.session())
		p.stayedIn(got)
		p.bounded("a list of sessions", got)
	case roll < 10:
		p.stayedIn(p.ask(r, "GET", "/api/audit", nil, p.session()))
	case roll < 11:
		p.stayedIn(p.ask(r, "GET", "/api/tasks", nil, p.session()))
	case roll < 13:
		p.mu.Lock()
		var old ended
		if len(p.ended) > 0 {
			old = p.ended[random.IntN(len(p.ended))]
		}
		p.mu.Unlock()
		if old.cookie == "" || time.Since(old.at) < endBound {
			return
		}
		if got := p.ask(r, "GET", "/api/auth/session", nil, old.cookie); got.status == http.StatusOK {
			p.w.t.Errorf("a session of %s lives %s after its end was acknowledged", p.user, got.sent.Sub(old.at))
		}
	case roll < 14 && changes:
		p.signIn(r)
	case roll < 15 && changes:
		p.mu.Lock()
		several := len(p.sessions) > 2
		p.mu.Unlock()
		if several {
			p.signOut(r)
		}
	case changes:
		vmid := vmids[random.IntN(len(vmids))]
		action := "start"
		if c, _ := p.w.dc.Container(vmid); c.Status == "running" {
			action = "stop"
		}
		p.stayedIn(p.change(r, vmid, action))
	}
}

// load lets everybody use the installation until the function that it returns is called: they look, and change the first so
// many of their containers.
func (w *world) load(random *rand.Rand, changed int) (end func()) {
	var busy sync.WaitGroup
	done := make(chan struct{})
	for _, p := range w.people {
		chance := rand.New(rand.NewPCG(random.Uint64(), 7))
		busy.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(upTo(chance, 120*time.Millisecond)):
					p.use(chance, p.vmids[:changed])
				}
			}
		})
	}
	once := sync.OnceFunc(func() { close(done); busy.Wait() })
	w.t.Cleanup(once)
	return once
}

// free measures the lock of a container: it asks for another change until it is not refused as busy, and fails the test when one
// that was sent after the lease is.
func (p *person) free(t *testing.T, r *replica, vmid int, since time.Time) {
	for {
		action := "start"
		if c, _ := p.w.dc.Container(vmid); c.Status == "running" {
			action = "stop"
		}
		got := p.change(r, vmid, action)
		switch {
		case got.err != nil || got.status == http.StatusServiceUnavailable:
			if got.sent.Sub(since) > patience {
				t.Errorf("container %d can't be changed: %v %s", vmid, got.err, got.body)
				return
			}
		case got.code() == "container_busy":
			if late := got.sent.Sub(since); late > lease {
				t.Errorf("the lock of %d is held %s after the fault: %s", vmid, late, got.body)
				return
			}
		case got.status == http.StatusOK, got.code() == "wrong_state":
			return // it was begun, so the lock was taken
		default:
			t.Errorf("%s of %d: %d %s", action, vmid, got.status, got.body)
			return
		}
		time.Sleep(400 * time.Millisecond)
	}
}
