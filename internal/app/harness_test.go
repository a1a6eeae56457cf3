package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/pve/sim"
	"berth/internal/redis/redistest"
	"berth/internal/replicatest"
)

// clock is a time that only the test moves.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// bench is the program over a data folder of its own, and a clock that it shares with the simulated hosts. With
// BERTH_TEST_REPLICAS=2 it is two programs behind a load balancer, over one database and one Redis; browsers talk to the
// balancer, and what is asked of the bench itself is asked of the first.
type bench struct {
	*App
	*clock
	apps    []*App // all that run
	address string // where browsers find them
	folder  string
	waited  atomic.Int64 // how long refused sign-ins were held back in all
	// change adapts the settings before the program starts; nil leaves the bench's own, where any host may vouch.
	change func(*config.Settings)
	// alone is set where a test starts its replicas by itself, one for each bench.
	alone bool
	// common is what two replicas share; nil for a program alone.
	common *replicatest.Shared
	// proxmox is how hosts are called, where a test has to see or to change what is asked of the network.
	proxmox pve.Options
	stop    func() // ends what begin started last
}

// newBench starts the program on a free port.
func newBench(t *testing.T) *bench {
	t.Helper()
	return newBenchWith(t, nil)
}

// newBenchWith starts the program with changed settings.
func newBenchWith(t *testing.T, change func(*config.Settings)) *bench {
	t.Helper()
	b := &bench{clock: newClock(), folder: t.TempDir(), change: change}
	b.begin(t)
	return b
}

// beside is a bench over the same data, which has not begun.
func (b *bench) beside() *bench {
	return &bench{clock: b.clock, folder: b.folder, change: b.change, alone: b.alone, common: b.common}
}

// each does something to all programs that run.
func (b *bench) each(do func(*App)) {
	for _, a := range b.apps {
		do(a)
	}
}

// Sweep has all programs do what they do each minute.
func (b *bench) Sweep(ctx context.Context) (err error) {
	b.each(func(a *App) { err = errors.Join(err, a.Sweep(ctx)) })
	return err
}

// Address is where browsers find the programs: host:port.
func (b *bench) Address() string { return b.address }

// URL is the same with what goes before and after.
func (b *bench) URL() string { return "http://" + b.address + b.basePath }

func (b *bench) settings() config.Settings {
	s := config.Settings{
		Listen: "127.0.0.1:0", Data: b.folder, KeyFile: b.folder + "/berth.key",
		LoginHosts: config.LoginHosts{Mode: config.AnyHost},
	}
	if b.common != nil {
		s.Database, s.Redis, s.StartTimeout = b.common.Database, b.common.Redis, redistest.Patience
	}
	if b.change != nil {
		b.change(&s)
	}
	return s
}

// begin starts what the bench is over what is in the folder, and returns what ends it.
func (b *bench) begin(t *testing.T) (end func()) {
	t.Helper()
	two := replicatest.Wanted() && !b.alone
	if two && b.common == nil {
		b.common = replicatest.New(t)
	}
	settings := b.settings()
	a, endFirst := b.program(t, settings)
	b.App, b.apps, b.address = a, []*App{a}, a.Address()
	end = endFirst
	if two {
		settings.Data = t.TempDir()
		second, endSecond := b.program(t, settings)
		b.apps = append(b.apps, second)
		var endBalancer func()
		b.address, endBalancer = replicatest.Balance(t, "127.0.0.1:0", "http://"+a.Address(), "http://"+second.Address())
		end = func() { // at the same time, since each waits for its requests
			var both sync.WaitGroup
			both.Go(endFirst)
			both.Go(endSecond)
			both.Wait()
			endBalancer()
		}
	}
	b.stop = end
	return end
}

// program starts one program, and returns what ends it; the end of the test does too.
func (b *bench) program(t *testing.T, settings config.Settings) (a *App, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a, err := New(ctx, settings, WithClock(b.now), WithProxmox(b.proxmox), WithPause(briefly), WithWait(func(_ context.Context, d time.Duration) { b.waited.Add(int64(d)) }))
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	if code, err := a.ClaimCode(ctx); err == nil {
		used.add("claim code", code)
	}
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := a.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(end)
	return a, end
}

// briefly waits a hundredth of the time, so that tasks are looked at often.
func briefly(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d / 100)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// newHost starts a simulated datacenter with the default world, on the bench's clock. It listens until the test ends, which
// has to be the one that the program ends with; see newHostile.
func (b *bench) newHost(t *testing.T, o sim.Options) (*sim.Datacenter, *sim.Host) {
	t.Helper()
	o.Now, o.RefusalDelay = b.now, -1
	dc, err := sim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	h, err := dc.Listen("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return dc, h
}

// browser is a client with cookies that follows no redirects.
type browser struct {
	t    *testing.T
	base string
	http *http.Client
}

func (b *bench) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, base: b.URL(), http: &http.Client{
		Jar: jar, Timeout: time.Minute, Transport: &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// past is a browser that talks to the first program past the balancer: for what a program knows of itself alone, such as its own
// address and how often it has told something, and for requests that no proxy hands on as they are.
func (b *bench) past(t *testing.T) *browser {
	t.Helper()
	direct := b.browser(t)
	direct.base = b.App.URL()
	return direct
}

// written has all programs write down what they noted of uses, which others show from then on: within a minute by themselves.
func (b *bench) written(t *testing.T) {
	t.Helper()
	if len(b.apps) > 1 {
		b.each(func(a *App) {
			if err := errors.Join(a.sessions.Flush(t.Context()), a.tokens.Flush(t.Context())); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// settled waits until nothing more is asked of a host, and returns how often it was.
func settled(h *sim.Host) int {
	for last := -1; ; time.Sleep(300 * time.Millisecond) {
		n := len(h.Requests())
		if n == last {
			return n
		}
		last = n
	}
}

// reply is an answer, read to its end.
type reply struct {
	*http.Response
	body string
}

// json reads the body into a value.
func (r reply) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%d %s is not JSON: %v", r.StatusCode, r.body, err)
	}
	return v
}

func (b *browser) do(method, path, contentType, body string, header ...string) reply {
	b.t.Helper()
	used.addBody(body)
	req, err := http.NewRequest(method, b.base+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return b.send(req)
}

// send sends a request as it is, and reads the answer.
func (b *browser) send(req *http.Request) reply {
	b.t.Helper()
	resp, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	used.addCookies(resp.Cookies())
	if resp.Header.Get("Content-Type") == "text/event-stream" && req.Method != http.MethodHead {
		// It does not end: what it begins with is the answer.
		text, err := bufio.NewReader(resp.Body).ReadString('\n')
		if err != nil {
			b.t.Fatal(err)
		}
		return reply{resp, text}
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		b.t.Fatal(err)
	}
	used.addBody(string(text))
	return reply{resp, string(text)}
}

func (b *browser) get(path string) reply {
	b.t.Helper()
	return b.do("GET", path, "", "")
}

func (b *browser) form(path string, values url.Values) reply {
	b.t.Helper()
	return b.do("POST", path, "application/x-www-form-urlencoded", values.Encode())
}

func (b *browser) json(path string, body any) reply {
	b.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do("POST", path, "application/json", string(bytes.TrimSpace(text)))
}

// input is a sign-in at a simulated host.
func input(h *sim.Host, user string) map[string]any {
	host, port, _ := net.SplitHostPort(h.Address())
	n, _ := strconv.Atoi(port)
	return map[string]any{"host": host, "port": n, "username": user, "password": sim.DefaultPassword, "fingerprint": h.Fingerprint()}
}

// signIn signs in by the API, confirming the host's certificate.
func (b *browser) signIn(h *sim.Host, user string) {
	b.t.Helper()
	if r := b.json("/api/auth/login", input(h, user)); r.StatusCode != http.StatusOK || r.json(b.t)["success"] != true {
		b.t.Fatalf("sign-in of %s: %d %s", user, r.StatusCode, r.body)
	}
}

// signedIn tells whether the browser has a session.
func (b *browser) signedIn() bool {
	b.t.Helper()
	switch r := b.get("/api/auth/session"); r.StatusCode {
	case http.StatusOK:
		return true
	case http.StatusUnauthorized:
		return false
	default:
		b.t.Fatalf("session: %d %s", r.StatusCode, r.body)
		return false
	}
}

// token is what the browser's session cookie carries.
func (b *browser) token() string {
	u, _ := url.Parse(b.base + "/")
	for _, c := range b.http.Jar.Cookies(u) {
		if c.Name == "lxc-session" {
			return c.Value
		}
	}
	return ""
}
