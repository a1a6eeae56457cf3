package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"berth/internal/pve/sim"
)

// users is how many accounts the first host of a fleet has for the measurements, beside root@pam. Each may have a hundred
// sessions, and may sign in only so often.
const users = 40

func userName(i int) string { return fmt.Sprintf("bench%02d", i%users) }

// fleet is a simulated fleet as its process tells it.
type fleet struct {
	Control string `json:"control"`
	Hosts   []host `json:"hosts"`
}

// host is one simulated Proxmox VE host: a datacenter of its own, with a token that may do everything.
type host struct {
	Address     string `json:"address"`
	Fingerprint string `json:"fingerprint"`
	TokenID     string `json:"tokenId"`
	Secret      string `json:"secret"`
}

// simulated is a fleet from inside.
type simulated struct {
	centers []*sim.Datacenter
	hosts   []*sim.Host
	changes atomic.Int64
	stop    context.CancelFunc // of the changes that go on
	mu      sync.Mutex
}

// Fleet runs so many simulated hosts with so many containers each until ctx ends, and tells on w how to reach them.
func Fleet(ctx context.Context, w io.Writer, hosts, containers int) error {
	control, err := NewControl()
	if err != nil {
		return err
	}
	f := &simulated{centers: make([]*sim.Datacenter, hosts), hosts: make([]*sim.Host, hosts), stop: func() {}}
	told := fleet{Control: control.Address(), Hosts: make([]host, hosts)}
	problems := make([]error, hosts)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i := range hosts {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			told.Hosts[i], problems[i] = f.start(i, containers, control.Now)
		})
	}
	wg.Wait()
	if err := errors.Join(problems...); err != nil {
		return err
	}
	control.mux.HandleFunc("POST /change", f.change)
	control.mux.HandleFunc("POST /changing", f.changing)
	control.mux.HandleFunc("GET /requests", f.requests)
	go func() { _ = control.Serve() }()
	if err := Tell(w, told); err != nil {
		return err
	}
	<-ctx.Done()
	for _, h := range f.hosts {
		err = errors.Join(err, h.Close())
	}
	return err
}

// start makes one host.
func (f *simulated) start(i, containers int, now func() time.Time) (host, error) {
	dc, err := sim.New(sim.Options{Members: []string{fmt.Sprintf("pve%d", i+1)}, Now: now, Containers: containers, Seed: uint64(i + 1)})
	if err != nil {
		return host{}, err
	}
	if i == 0 {
		for n := range users {
			id := userName(n) + "@pve"
			if err := dc.AddUser(sim.User{ID: id, Password: sim.DefaultPassword}); err != nil {
				return host{}, err
			}
			if err := dc.Grant(sim.ACL{Path: "/", User: id, Role: "PVEAdmin"}); err != nil {
				return host{}, err
			}
		}
	}
	secret, err := dc.AddToken("root@pam", "bench", false, time.Time{})
	if err != nil {
		return host{}, err
	}
	h, err := dc.Listen("", "127.0.0.1:0")
	if err != nil {
		return host{}, err
	}
	f.centers[i], f.hosts[i] = dc, h
	return host{Address: h.Address(), Fingerprint: h.Fingerprint(), TokenID: "root@pam!bench", Secret: secret}, nil
}

// changed is a change that cluster/resources shows.
type changed struct {
	Tag string    `json:"tag"`
	At  time.Time `json:"at"`
}

// change gives a container of one host another tag, which cluster/resources shows at once.
func (f *simulated) change(w http.ResponseWriter, r *http.Request) {
	i, err := strconv.Atoi(r.FormValue("host"))
	if err != nil || i < 0 || i >= len(f.hosts) {
		http.Error(w, "no such host", http.StatusBadRequest)
		return
	}
	what, err := f.tag(i)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(what)
}

func (f *simulated) tag(i int) (changed, error) {
	tag := fmt.Sprintf("mark%06d", f.changes.Add(1))
	path := fmt.Sprintf("/nodes/%s/lxc/100/config", f.hosts[i].Member())
	if _, err := f.centers[i].Call("root@pam", http.MethodPut, path, url.Values{"tags": {tag}}); err != nil {
		return changed{}, err
	}
	return changed{Tag: tag, At: time.Now()}, nil
}

// changing begins to change a container of every host at each interval, in place of what was begun before; 0 ends it.
func (f *simulated) changing(w http.ResponseWriter, r *http.Request) {
	interval, err := time.ParseDuration(r.FormValue("every"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stop()
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	if interval <= 0 {
		return
	}
	go func() {
		ticks := time.NewTicker(interval)
		defer ticks.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
				for i := range f.hosts {
					_, _ = f.tag(i) // a guest that is locked for a moment is changed at the next tick
				}
			}
		}
	}()
}

// asked is what the hosts were asked since a time.
type asked struct {
	Hosts []int    `json:"hosts"` // how often each
	First []string `json:"first"` // what the first was asked, "GET /api2/json/version"
	// Tickets is how many the first has given, ever.
	Tickets int `json:"tickets"`
}

func (f *simulated) requests(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.ParseInt(r.FormValue("since"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	since := time.UnixMilli(ms)
	var out asked
	for i, h := range f.hosts {
		n := 0
		for _, one := range h.Requests() {
			if one.Time.Before(since) {
				continue
			}
			n++
			if i == 0 {
				out.First = append(out.First, one.Method+" "+strings.TrimSpace(one.Path))
			}
		}
		out.Hosts = append(out.Hosts, n)
	}
	out.Tickets = f.hosts[0].AcceptedPosts()["/api2/json/access/ticket"]
	_ = json.NewEncoder(w).Encode(out)
}

// asked tells what the hosts were asked since a time by the fleet's own clock.
func (f fleet) asked(ctx context.Context, since time.Time) (asked, error) {
	var out asked
	text, err := ask(ctx, http.MethodGet, f.Control, fmt.Sprintf("/requests?since=%d", since.UnixMilli()))
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	return out, err
}

// change changes a container of one host.
func (f fleet) change(ctx context.Context, host int) (changed, error) {
	var out changed
	text, err := ask(ctx, http.MethodPost, f.Control, fmt.Sprintf("/change?host=%d", host))
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	return out, err
}

// changing changes a container of every host again and again; 0 ends it.
func (f fleet) changing(ctx context.Context, every time.Duration) error {
	_, err := ask(ctx, http.MethodPost, f.Control, "/changing?every="+every.String())
	return err
}
