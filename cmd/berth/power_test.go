package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/internal/client"
	"berth/internal/config"
	"berth/internal/fault"
	"berth/internal/pve/sim"
)

func TestPower(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	u := newUser(t)
	u.signIn(d, "root@pam", d.hosts[0])

	if s := u.must("", "stop", "nextcloud"); s.out != "stop of 101 nextcloud on pve2: done\n" {
		t.Errorf("stopped: %q", s.out)
	}
	if got := u.must("", "ls", "-q", "nextcloud").out; !strings.Contains(got, "stopped") {
		t.Errorf("afterwards: %s", got)
	}
	u.fails(statusRefused, "stop of 101 nextcloud on pve2: ", "", "stop", "101")
	log := u.must("", "logs", "101")
	if !strings.Contains(log.out, "TASK OK") || !strings.HasPrefix(log.err, "berth: Stop, ok: UPID:") {
		t.Errorf("the log: %q %q", log.out, log.err)
	}
	upid := regexp.MustCompile(`UPID:\S+`).FindString(log.err)
	if got := u.must("", "logs", upid, "--follow"); got.out != log.out {
		t.Errorf("by its UPID: %q, want %q", got.out, log.out)
	}

	// What can't be meant is said before anything is done.
	u.fails(statusRefused, `no container "nothing"`, "", "start", "101", "nothing")
	u.fails(statusUsage, "is not a container", "", "start", "pve2/")
	u.fails(statusUsage, "expected", "", "start")
	u.fails(statusUsage, "--timeout", "", "start", "101", "--timeout", "2h")
	if got := u.must("", "ls", "-q", "nextcloud").out; !strings.Contains(got, "stopped") {
		t.Errorf("after what was not understood: %s", got)
	}

	// Several at once: each has its result, and the highest status counts.
	s := u.fails(statusRefused, "start of 100 gateway", "", "start", "pve2/101", "100", "101", "--json")
	var results []changed
	if err := json.Unmarshal([]byte(s.out), &results); err != nil || len(results) != 2 {
		t.Fatalf("as JSON: %s, %v", s.out, err)
	}
	if r := results[0]; r.VMID != 101 || r.State != "done" || r.Error != "" || !strings.HasPrefix(r.UPID, "UPID:") {
		t.Errorf("the first: %+v", r)
	}
	if r := results[1]; r.VMID != 100 || r.State != "refused" || r.Error == "" || r.UPID != "" {
		t.Errorf("the second: %+v", r)
	}

	if s := u.must("", "reboot", "101", "--no-wait"); s.out != "reboot of 101 nextcloud on pve2: running\n" {
		t.Errorf("not waited for: %q", s.out)
	}
	if s := u.must("", "logs", "nextcloud", "-f"); !strings.HasPrefix(s.err, "berth: Reboot, ") || !strings.HasSuffix(s.out, "TASK OK\n") {
		t.Errorf("followed: %q %q", s.out, s.err)
	}
	u.fails(statusRefused, "no recent task", "", "logs", "102")
	u.fails(statusRefused, "None of your nodes knows", "", "logs", "UPID:pve1:00000001:00000001:65000000:vzstart:101:root@pam:")
	d.stop()
}

// A task that fails is told with what Proxmox VE says of it, and one that takes too long goes on.
func TestPowerThatFails(t *testing.T) {
	t.Parallel()
	dc, err := sim.New(sim.Options{RefusalDelay: -1})
	if err != nil {
		t.Fatal(err)
	}
	host, err := dc.Listen("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	s := serve(t, t.TempDir())
	u := newUser(t)
	u.must(host.Address()+"\nroot@pam\n"+sim.DefaultPassword+"\ny\n", "login", s.url)
	const why = "startup for container '101' failed"
	dc.FailTasks(why, 101)
	failed := u.fails(statusFailed, "stop of 101 nextcloud", "", "stop", "101")
	if failed.out != "" || !strings.Contains(failed.err, why) {
		t.Errorf("said %q and %q", failed.out, failed.err)
	}
	u.fails(statusFailed, "the task failed", "", "logs", "101", "--follow")
	u.must("", "logs", "101") // only shows it
	s.stop()
}

// An access token does what its scope allows, through the credentials that are stored.
func TestPowerWithAccessTokens(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	read, _ := d.makeToken("root@pam", d.hosts[0], "read")
	power, _ := d.makeToken("root@pam", d.hosts[0], "power")
	reader := newUser(t, "BERTH_URL="+d.url, "BERTH_TOKEN="+read)
	reader.must("", "ls")
	reader.fails(statusRefused, "It needs one with the scope power.", "", "stop", "101")
	worker := newUser(t, "BERTH_URL="+d.url, "BERTH_TOKEN="+power)
	worker.must("", "stop", "101")
	worker.must("", "logs", "101")
	d.stop()
}

// TestChooseBesideUnreadNodes: a name that a node which can't be read may have too is not taken for the one that is known.
func TestChooseBesideUnreadNodes(t *testing.T) {
	readAt := time.Unix(1, 0)
	fleet := client.Fleet{
		Items: []client.Container{{NodeID: "n1", Node: "pve1", VMID: 100, Name: "web"}, {NodeID: "n3", Node: "pve3", VMID: 101, Name: "db"}},
		Nodes: []client.Node{
			{NodeID: "n1", Name: "attic", ReadAt: readAt}, {NodeID: "n2", Name: "cellar", Problem: "it doesn't answer", Code: "host_unreachable"},
			{NodeID: "n3", Name: "shed", Problem: "it doesn't answer", Code: "host_unreachable", ReadAt: readAt},
			{NodeID: "n4", Name: "mine", Problem: "it needs a sign-in", Code: "sign_in_needed"},
		},
	}
	for _, ref := range []string{"web", "100", "db", "nothing", "cellar/100"} {
		if _, err := choose(fleet, ref); statusOf(err) != statusUnreachable || !strings.Contains(err.Error(), "cellar") {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for ref, want := range map[string]string{"attic/web": "n1", "pve1/100": "n1", "shed/db": "n3"} {
		if one, err := choose(fleet, ref); err != nil || one.NodeID != want {
			t.Errorf("%s: %+v, %v", ref, one, err)
		}
	}
	if err := knowsNode(fleet, "barn"); statusOf(err) != statusUsage || !strings.Contains(err.Error(), "attic, cellar, shed, mine") {
		t.Errorf("a node that is not there: %v", err)
	}
	for _, node := range []string{"Attic", "n2", "pve3"} {
		if err := knowsNode(fleet, node); err != nil {
			t.Errorf("%s: %v", node, err)
		}
	}
}

// A node that was never read keeps nobody waiting whose cluster is read through another one.
func TestChooseThroughAnotherDoor(t *testing.T) {
	fleet := client.Fleet{
		Items: []client.Container{{NodeID: "n1", Node: "pve1", VMID: 100, Name: "web"}},
		Nodes: []client.Node{
			{NodeID: "n1", Name: "west", ListedAs: "n1", ReadAt: time.Unix(1, 0)},
			{NodeID: "n2", Name: "east", ListedAs: "n1", Problem: "it doesn't answer", Code: "host_unreachable", Through: "west"},
		},
	}
	for _, ref := range []string{"web", "100", "west/web", "east/100"} {
		if one, err := choose(fleet, ref); err != nil || one.NodeID != "n1" {
			t.Errorf("%s: %+v, %v", ref, one, err)
		}
	}
	if _, err := choose(fleet, "east/101"); statusOf(err) != statusRefused {
		t.Errorf("what is not there: %v", err)
	}
}

func TestChoose(t *testing.T) {
	fleet := client.Fleet{
		Items: []client.Container{
			{NodeID: "n1", Node: "pve1", VMID: 100, Name: "web"},
			{NodeID: "n2", Node: "pve", VMID: 100, Name: "db"},
			{NodeID: "n3", Node: "pve", VMID: 101, Name: "web"},
			{NodeID: "n1", Node: "pve2", VMID: 102, Name: "103"},
			{NodeID: "n1", Node: "pve2", VMID: 103, Name: "mail\x1b[2J"},
			{NodeID: "n4", Node: "pve4", VMID: 200, Name: "twin"},
			{NodeID: "n5", Node: "pve4", VMID: 200, Name: "twin"},
		},
		Nodes: []client.Node{{NodeID: "n1", Name: "Attic"}, {NodeID: "n2", Name: "cellar"}, {NodeID: "n3", Name: "shed"}, {NodeID: "n4", Name: "far"}, {NodeID: "n5", Name: "FAR"}, {NodeID: "n6", Name: "back", ListedAs: "n1"}},
	}
	for ref, want := range map[string]string{
		"db": "n2/100", "101": "n3/101", "attic/100": "n1/100", "n2/100": "n2/100", "cellar/db": "n2/100", "pve1/web": "n1/100",
		"pve2/102": "n1/102", "102": "n1/102", "n5/twin": "n5/200", "back/web": "n1/100", "n6/102": "n1/102",
	} {
		one, err := choose(fleet, ref)
		if got := one.NodeID + "/" + strconv.Itoa(one.VMID); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", ref, got, err, want)
		}
	}
	for ref, candidates := range map[string][]string{
		"web": {"Attic/100", "shed/101"}, "100": {"Attic/100", "cellar/100"}, "103": {"Attic/102", "Attic/103"},
		"200": {"n4/200", "n5/200"}, "far/twin": {"n4/200", "n5/200"},
	} {
		_, err := choose(fleet, ref)
		if err == nil || statusOf(err) != statusUsage {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		for _, c := range candidates {
			if !strings.Contains(err.Error(), "\n  "+c+"  ") {
				t.Errorf("%s: %v, want %s in it", ref, err, c)
			}
		}
		if strings.ContainsRune(err.Error(), '\x1b') {
			t.Errorf("%s: %q", ref, err)
		}
	}
	for _, ref := range []string{"nothing", "99", "shed/100", "pve/102", "1e2", " 100"} {
		if _, err := choose(fleet, ref); statusOf(err) != statusRefused {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, ref := range []string{"", "/", "attic/", "/100"} {
		if _, err := choose(fleet, ref); statusOf(err) != statusUsage {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestStatusOf(t *testing.T) {
	refusal := func(k fault.Kind) error { return fmt.Errorf("around: %w", &fault.Error{Kind: k}) }
	for want, all := range map[int][]error{
		statusOK:          {nil},
		statusFailed:      {config.Problems{"x"}, errors.New("x"), context.Canceled, refusal(fault.Internal), manyErrors{errors.New("x")}},
		statusUsage:       {usageError{errors.New("x")}, usageError{config.Problems{"x"}}},
		statusNotSignedIn: {notSignedInError{"x"}, refusal(fault.Unauthenticated)},
		statusRefused:     {refusal(fault.Forbidden), refusal(fault.NotFound), refusal(fault.Conflict), refusal(fault.Invalid), refusal(fault.Throttled), manyErrors{errors.New("x"), refusal(fault.Conflict)}},
		statusUnreachable: {refusal(fault.Unreachable), refusal(fault.Unavailable), &client.UnreachableError{Cause: errors.New("x")}, fmt.Errorf("around: %w", &client.CertificateError{})},
	} {
		for _, err := range all {
			if got := statusOf(err); got != want {
				t.Errorf("%#v: %d, want %d", err, got, want)
			}
		}
	}
	f := &fault.Error{Message: "No.", Fields: map[string]string{"b": "B", "a": "A"}, Hint: "Do.", RetryAfter: 3 * time.Second, ID: "abc"}
	if got := describe(f); got != "No. A. B. Do. Try again in 3s. (error id abc)" {
		t.Errorf("described as %q", got)
	}
	if got := describe(fmt.Errorf("it can't be told: %w", f)); got != "it can't be told: No." {
		t.Errorf("with words around it %q", got)
	}
}

func TestFiguresForPeople(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0B", 1023: "1023B", 1024: "1.0KiB", 10 << 20: "10MiB", 5 << 40: "5.0TiB", 5 << 50: "5120TiB"} {
		if got := size(bytes, "running"); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
	for seconds, want := range map[int64]string{-1: "-", 0: "-", 59: "59s", 60: "1m", 3599: "59m", 3600: "1h0m", 86399: "23h59m", 90000: "1d1h"} {
		if got := uptime(seconds); got != want {
			t.Errorf("%d: %s, want %s", seconds, got, want)
		}
	}
}
