package app

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

// way is one of the ways in which a sign-in is refused.
type way struct {
	name string
	// known tells that people have signed in at the host before.
	known bool
	input func(user string) map[string]any
}

const timedTries = 200

func someUser(i int) string { return fmt.Sprintf("user%d@pve", i) }

// newWays prepares a host for each way. The users are known to those hosts where a password is wrong.
func newWays(t *testing.T, b *bench, newHost func(*testing.T) (*sim.Datacenter, *sim.Host)) []way {
	t.Helper()
	// at is a sign-in at a host, with a password that no user has.
	at := func(h *sim.Host) func(string) map[string]any {
		in := input(h, "")
		return func(user string) map[string]any {
			in := maps.Clone(in)
			in["username"], in["password"] = user, "not it"
			return in
		}
	}
	atHostile := func(h *hostile) func(string) map[string]any {
		return func(user string) map[string]any {
			in := typed("127.0.0.1", h.port())
			in["username"], in["fingerprint"] = user, h.fingerprint()
			return in
		}
	}
	elsewhere := func(name string, port int) func(string) map[string]any {
		return func(user string) map[string]any {
			in := typed(name, port)
			in["username"], in["fingerprint"] = user, strings.Repeat("AB", 32)
			return in
		}
	}
	host := func(known, withUsers bool) *sim.Host {
		dc, h := newHost(t)
		for i := range timedTries {
			if withUsers {
				if err := dc.AddUser(sim.User{ID: someUser(i), Password: sim.DefaultPassword}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if known {
			b.browser(t).signIn(h, "root@pam")
		}
		return h
	}
	var goes []*sim.Host // once all others have their ports
	gone := func(known bool) func(string) map[string]any {
		h := host(known, true)
		goes = append(goes, h)
		return at(h)
	}
	loopback := forLoopback
	ca := newAuthority(t)
	odd := newHostile(t, ca.issue(t, &loopback), http.NotFoundHandler())
	turned := turnedHost(t, b, ca)
	changed := host(true, true)
	if err := changed.ChangeCertificate(false); err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = server.Serve(plain) }()
	t.Cleanup(func() { _ = server.Close() })

	ways := []way{
		{"wrong password", false, at(host(false, true))},
		{"unknown user", false, at(host(false, false))},
		{"nothing listens", false, gone(false)},
		{"not a Proxmox host", false, atHostile(odd)},
		{"no TLS", false, elsewhere("127.0.0.1", plain.Addr().(*net.TCPAddr).Port)},
		{"an address that is never dialled", false, elsewhere("169.254.169.254", 8443)},
		{"wrong password", true, at(host(true, true))},
		{"unknown user", true, at(host(true, false))},
		{"nothing listens", true, gone(true)},
		{"not a Proxmox host", true, atHostile(turned)},
		{"refused certificate", true, at(changed)},
	}
	for _, h := range goes {
		h.Close()
	}
	b.each(func(a *App) { a.client.Close() }) // connections from before the changes
	return ways
}

// turnedHost signed somebody in, and does not answer as a Proxmox VE host does any more.
func turnedHost(t *testing.T, b *bench, ca *authority) *hostile {
	t.Helper()
	var mu sync.Mutex
	turned := false
	good := plausible(nil)
	loopback := forLoopback
	h := newHostile(t, ca.issue(t, &loopback), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if turned {
			http.NotFound(w, r)
			return
		}
		good.ServeHTTP(w, r)
	}))
	in := typed("127.0.0.1", h.port())
	in["fingerprint"] = h.fingerprint()
	if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	mu.Lock()
	defer mu.Unlock()
	turned = true
	return h
}

var errorID = regexp.MustCompile(`"errorId":"[^"]*"|<code[^>]*>[^<]*</code>`)

// TestAbuseRefusalsTellNothing: whatever the reason, an outsider gets the same answer, to the letter, at every host that is
// not a login host; at a login host the same status and sentence, with one line for its owner.
func TestAbuseRefusalsTellNothing(t *testing.T) {
	b := newBench(t)
	ways := newWays(t, b, func(t *testing.T) (*sim.Datacenter, *sim.Host) { return b.newHost(t, sim.Options{}) })
	hints := map[string]string{"nothing listens": "doesn't answer", "refused certificate": "certificate of"}
	var first [2]string
	for _, w := range ways {
		in := w.input(someUser(1))
		b.forget()
		r := b.browser(t).json("/api/auth/login", in)
		p := r.json(t)
		if r.StatusCode != http.StatusUnauthorized || p["detail"] != failure || p["code"] != "signin_failed" || p["errorId"] == nil {
			t.Errorf("%s: %d %s", w.name, r.StatusCode, r.body)
		}
		if hint, _ := p["hint"].(string); w.known && !strings.Contains(hint, hints[w.name]) || hints[w.name] == "" && hint != "" {
			t.Errorf("%s at a known host: hint %q, want one with %q", w.name, hint, hints[w.name])
		}
		if w.known {
			continue
		}
		b.forget()
		values := url.Values{}
		for name, value := range in {
			values.Set(name, fmt.Sprint(value))
		}
		form := b.browser(t).form("/login", values)
		if form.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: form %d", w.name, form.StatusCode)
		}
		// What the visitor typed comes back.
		typed := strings.NewReplacer(`"`+values.Get("port")+`"`, "PORT", ":"+values.Get("port"), "PORT", values.Get("host"), "HOST", values.Get("fingerprint"), "")
		for i, text := range []string{r.body, typed.Replace(form.body)} {
			text = errorID.ReplaceAllString(text, "ID")
			if first[i] == "" {
				first[i] = text
			} else if text != first[i] {
				t.Errorf("%s: answers\n%s\nand another way\n%s", w.name, text, first[i])
			}
		}
	}
}

// The owner of a login host is told when its clock is off; nobody learns that of another host.
func TestClockHint(t *testing.T) {
	b := newBench(t)
	for off, want := range map[time.Duration]string{
		7 * time.Minute: " differs by 7 minutes.", -7 * time.Minute: " differs by 7 minutes.", 4 * time.Minute: "",
		5 * time.Minute: " differs by 5 minutes.", 3 * time.Hour: " differs by 3 hours.", 72 * time.Hour: " differs by 3 days.",
	} {
		b.forget()
		_, host := b.newHost(t, sim.Options{})
		wrong := input(host, "alice@pve")
		wrong["password"] = "not it"
		host.SetFault("", "", sim.Fault{Skew: off})
		if r := b.browser(t).json("/api/auth/login", wrong); r.StatusCode != http.StatusUnauthorized || r.json(t)["hint"] != nil {
			t.Errorf("off by %s, not known: %d %s", off, r.StatusCode, r.body)
		}
		host.ClearFaults()
		b.browser(t).signIn(host, "alice@pve")
		host.SetFault("", "", sim.Fault{Skew: off})
		r := b.browser(t).json("/api/auth/login", wrong)
		if want != "" {
			want = "The clock of " + host.Address() + want
		}
		if hint, _ := r.json(t)["hint"].(string); r.StatusCode != http.StatusUnauthorized || hint != want {
			t.Errorf("off by %s: %d, hint %q, want %q", off, r.StatusCode, hint, want)
		}
	}
}

// TestMeasureRefusalTimes measures how long refusals take with the delays of a real host. It shows a table; the medians must
// not differ by more than an outsider could tell from the network's own noise.
func TestMeasureRefusalTimes(t *testing.T) {
	if os.Getenv("BERTH_MEASURE") != "timing" {
		t.Skip("takes minutes of real waiting: BERTH_MEASURE=timing runs it")
	}
	b := &bench{clock: newClock(), folder: t.TempDir()}
	b.startInRealTime(t)
	ways := newWays(t, b, func(t *testing.T) (*sim.Datacenter, *sim.Host) {
		dc, err := sim.New(sim.Options{})
		if err != nil {
			t.Fatal(err)
		}
		h, err := dc.Listen("", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		return dc, h
	})
	// All ways at once, so that a busy machine slows each as much, and from an address each, so that none has to wait for
	// the throttle.
	const atOnce = 20
	times := make([][]time.Duration, len(ways))
	var mu sync.Mutex
	var tries sync.WaitGroup
	for k, w := range ways {
		slots := make(chan struct{}, atOnce)
		tries.Go(func() {
			for i := range timedTries {
				slots <- struct{}{}
				tries.Go(func() {
					defer func() { <-slots }()
					in := w.input(someUser(i))
					browser := b.browser(t)
					browser.http.Timeout = time.Minute
					browser.http.Transport = &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{
						LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(20+k), byte(i/200), byte(1+i%200))},
					}).DialContext}
					began := time.Now()
					r := browser.json("/api/auth/login", in)
					took := time.Since(began)
					if r.StatusCode != http.StatusUnauthorized || r.json(t)["detail"] != failure {
						t.Errorf("%s: %d %s", w.name, r.StatusCode, r.body)
					}
					mu.Lock()
					defer mu.Unlock()
					times[k] = append(times[k], took)
				})
			}
		})
	}
	tries.Wait()
	for _, known := range []bool{false, true} {
		var lowest, highest time.Duration
		for k, w := range ways {
			if w.known != known {
				continue
			}
			slices.Sort(times[k])
			at := func(percent int) time.Duration { return times[k][(len(times[k])-1)*percent/100] }
			median := at(50)
			if lowest == 0 || median < lowest {
				lowest = median
			}
			highest = max(highest, median)
			t.Logf("%-34s login host %-5v  p5 %6.1f  median %6.1f  p95 %6.1f ms", w.name, known, ms(at(5)), ms(median), ms(at(95)))
		}
		t.Logf("login host %v: the medians differ by %.1f ms at most", known, ms(highest-lowest))
		if highest-lowest > 50*time.Millisecond {
			t.Errorf("the medians differ by %s", highest-lowest)
		}
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// startInRealTime starts the program with the real clock and the real delays.
func (b *bench) startInRealTime(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a, err := New(ctx, b.settings())
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	b.App, b.apps, b.address = a, []*App{a}, a.Address()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := cmp.Or(<-done, a.Close()); err != nil {
			t.Error(err)
		}
	})
}
