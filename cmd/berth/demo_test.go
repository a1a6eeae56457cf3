package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/pve"
	"berth/internal/pve/sim"
)

// demo is a running `berth demo`.
type demo struct {
	site
	hosts []string // addresses of the simulated hosts
	temp  string   // where it may make a temporary folder
}

func startDemo(t *testing.T, args ...string) demo {
	t.Helper()
	temp := t.TempDir()
	p := start(t, []string{"TMPDIR=" + temp}, append([]string{"demo", "--listen", "127.0.0.1:0"}, args...)...)
	d := demo{site: site{p, p.await(p.out, `open (http://127\.0\.0\.1:\d+)`)}, temp: temp}
	p.await(p.out, `Ctrl-C ends it`)
	for _, m := range regexp.MustCompile(`(?m)^  (127\.0\.0\.1:\d+) +\S+ +[0-9A-F:]{23}`).FindAllStringSubmatch(p.out.String(), -1) {
		d.hosts = append(d.hosts, m[1])
	}
	if len(d.hosts) == 0 {
		t.Fatalf("names no hosts: %s", p.out)
	}
	return d
}

// containers signs in at a host in one step, and returns how many containers the user sees there.
func (d demo) containers(user, host string) int {
	d.t.Helper()
	b := newBrowser(d.t, d.url)
	b.signIn(credentials(d.t, host, "", user))
	_, body := b.do("GET", "/api/containers", nil)
	var list struct{ Items []struct{ VMID int } }
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		d.t.Fatalf("%s: %v", body, err)
	}
	return len(list.Items)
}

func TestDemo(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	out := d.out.String()
	for _, user := range []string{"root +pam", "alice +pve", "bob +pve", "carol +pve", "dave +pve"} {
		if !regexp.MustCompile(`(?m)^  ` + user + ` +` + sim.DefaultPassword + ` +\S`).MatchString(out) {
			t.Errorf("does not say what %s is for\n%s", user, out)
		}
	}
	if len(d.hosts) != 2 {
		t.Errorf("hosts %v, want two", d.hosts)
	}
	for _, host := range d.hosts {
		if n := d.containers("root@pam", host); n < 3 {
			t.Errorf("root@pam sees %d containers at %s", n, host)
		}
		if n := d.containers("alice@pve", host); n != 2 {
			t.Errorf("alice@pve sees %d containers at %s, want 2", n, host)
		}
	}
	// The printed code is bob's, now or half a minute ago.
	m := regexp.MustCompile(`secret (\S+), the code right now is (\d{6}); recovery codes (\S+),`).FindStringSubmatch(out)
	now := time.Now()
	if m == nil || m[1] != sim.DefaultTOTPSecret || !slices.Contains([]string{sim.TOTP(m[1], now), sim.TOTP(m[1], now.Add(-30*time.Second))}, m[2]) {
		t.Errorf("second factor: %q", m)
	}
	b := newBrowser(t, d.url)
	resp, body := b.do("POST", "/api/auth/login", credentials(t, d.hosts[0], "", "bob@pve"))
	var first struct{ TFA struct{ Challenge string } }
	if err := json.Unmarshal([]byte(body), &first); err != nil || resp.StatusCode != http.StatusOK || first.TFA.Challenge == "" {
		t.Fatalf("bob's first step: %d %s", resp.StatusCode, body)
	}
	resp, body = b.do("POST", "/api/auth/tfa", map[string]any{"challenge": first.TFA.Challenge, "kind": "totp", "code": sim.TOTP(sim.DefaultTOTPSecret, time.Now())})
	if resp.StatusCode != http.StatusOK || !b.signedIn() {
		t.Errorf("bob's second step: %d %s", resp.StatusCode, body)
	}
	// The page of a newcomer is filled in, so that name and password are all there is to type.
	host, port, _ := strings.Cut(d.hosts[0], ":")
	if _, page := newBrowser(t, d.url).do("GET", "/login", nil); !strings.Contains(page, `value="`+host+`"`) || !strings.Contains(page, `value="`+port+`"`) {
		t.Error("the sign-in page does not suggest the first host")
	}

	if kept, err := filepath.Glob(filepath.Join(d.temp, "berth-demo-*", "berth.db")); err != nil || len(kept) != 1 {
		t.Errorf("database while it runs: %v, %v, want one in a temporary folder", kept, err)
	}
	d.stop()
	if left, err := os.ReadDir(d.temp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A demo that can't start leaves nothing behind either.
func TestDemoOnBusyPortLeavesNothing(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	temp := t.TempDir()
	said := refused(t, []string{"TMPDIR=" + temp}, "demo", "--listen", strings.TrimPrefix(d.url, "http://"))
	if !oneSentence(said, "address already in use") {
		t.Errorf("said %q", said)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	d.stop()
}

// A kept folder is usable again, though the hosts of the next run have other certificates and keys.
func TestDemoKeepsItsFolder(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "kept")
	d := startDemo(t, "--data", folder)
	b := newBrowser(t, d.url)
	b.signIn(credentials(t, d.hosts[0], "", "alice@pve"))
	d.stop()
	for _, name := range []string{"berth.db", "berth.key"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
	d = startDemo(t, "--data", folder)
	for _, host := range d.hosts {
		if n := d.containers("alice@pve", host); n != 2 {
			t.Errorf("alice@pve sees %d containers at %s, want 2", n, host)
		}
	}
	// The session of the first run holds a ticket that nobody knows any more: it leads to the sign-in page, not to an error.
	if resp, _ := b.at(d.url).do("GET", "/", nil); resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the dashboard of the old session: %d", resp.StatusCode)
	}
	d.stop()
}

func TestDemoFleet(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "--hosts", "5", "--containers", "50")
	if len(d.hosts) != 5 {
		t.Fatalf("hosts %v, want five", d.hosts)
	}
	for _, host := range []string{d.hosts[0], d.hosts[4]} {
		if n := d.containers("root@pam", host); n != 50 {
			t.Errorf("root@pam sees %d containers at %s, want 50", n, host)
		}
	}
	d.stop()
}

func TestSim(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "sim", "--listen", "127.0.0.1:0", "--containers", "7",
		"--fault", "status=595,path=/cluster/status", "--fault", "latency=300ms,path=/version", "--fault", "status=500,reason=out of order,path=/nodes,times=1")
	address := strings.TrimPrefix(p.await(p.out, `(https://127\.0\.0\.1:\d+)`), "https://")
	shown := p.await(p.out, `certificate +([0-9A-F:]{95})`)
	p.await(p.out, `password +`+sim.DefaultPassword)
	at, err := pve.ParseAddress(address, 0)
	if err != nil {
		t.Fatal(err)
	}
	fingerprint, err := pve.ParseFingerprint(shown)
	if err != nil {
		t.Fatal(err)
	}
	client := pve.NewClient(pve.Options{})
	defer client.Close()
	ctx := t.Context()
	host := client.Host(at, pve.Trust{Certificate: &fingerprint})
	in, err := host.SignIn(ctx, "root@pam", sim.DefaultPassword)
	if err != nil || in.Challenge != nil {
		t.Fatalf("sign-in: %+v, %v", in.Challenge, err)
	}
	guests, err := host.Resources(ctx, in.Ticket, pve.GuestResources)
	guests = slices.DeleteFunc(guests, func(r pve.Resource) bool { return r.Type != "lxc" })
	if err != nil || len(guests) != 7 {
		t.Errorf("%d containers, %v, want 7", len(guests), err)
	}
	if _, err := host.ClusterStatus(ctx, in.Ticket); !pve.IsKind(err, pve.KindMemberUnreachable) {
		t.Errorf("with status=595: %v", err)
	}
	began := time.Now()
	if _, err := host.Version(ctx, in.Ticket); err != nil || time.Since(began) < 300*time.Millisecond {
		t.Errorf("with latency=300ms: %v after %v", err, time.Since(began))
	}
	if _, err := host.Nodes(ctx, in.Ticket); err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("with status=500: %v", err)
	}
	if _, err := host.Nodes(ctx, in.Ticket); err != nil {
		t.Errorf("after times=1 was used up: %v", err)
	}
	p.stop()
}

// Faults come from the variable as well; a comma belongs to a fault.
func TestSimFaultFromVariable(t *testing.T) {
	t.Parallel()
	said := refused(t, []string{"BERTH_FAULT=latency=soon,path=/version"}, "sim")
	if !oneSentence(said, "--fault (BERTH_FAULT)", `"latency=soon,path=/version"`) {
		t.Errorf("said %q", said)
	}
}
