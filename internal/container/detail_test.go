package container_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/audit"
	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/pve/sim"
	"berth/internal/session"
)

// yard is a simulated host, the details of its containers, and what they wrote down.
type yard struct {
	*testing.T
	dc      *sim.Datacenter
	sim     *sim.Host
	host    *pve.Host
	tickets map[string]pve.Ticket
	details *container.Details

	mu      sync.Mutex
	at      time.Time
	entries []audit.Entry
}

func (y *yard) now() time.Time {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.at
}

func (y *yard) pass(d time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.at = y.at.Add(d)
}

func newYard(t *testing.T, members ...string) *yard {
	t.Helper()
	y := &yard{T: t, at: time.Now(), tickets: map[string]pve.Ticket{}}
	dc, err := sim.New(sim.Options{Name: "lab", Members: members, RefusalDelay: -1, Now: y.now})
	if err != nil {
		t.Fatal(err)
	}
	listening, err := dc.Listen("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(listening.Address())
	shown, err := pve.ParseFingerprint(listening.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	client := pve.NewClient(pve.Options{})
	y.dc, y.sim = dc, listening
	y.host = client.Host(pve.Address{Host: at.Addr().String(), Port: int(at.Port())}, pve.Trust{Certificate: &shown})
	containers := container.NewService(y, y.now)
	y.details = container.NewDetails(containers, y, y)
	t.Cleanup(func() {
		containers.Close()
		client.Close()
		_ = listening.Close()
	})
	return y
}

func (y *yard) caller(user string) session.Caller {
	y.Helper()
	if _, ok := y.tickets[user]; !ok {
		signedIn, err := y.host.SignIn(y.Context(), user, sim.DefaultPassword)
		if err != nil {
			y.Fatal(err)
		}
		y.tickets[user] = signedIn.Ticket
	}
	return session.Caller{Identity: session.Identity{Datacenter: "lab", UserID: user}, Session: session.Session{Hash: session.Hash{1}}}
}

// List, Call and Rights are those of the one node that everybody has.
func (y *yard) List(context.Context, session.Caller) ([]node.Node, error) {
	return []node.Node{{ID: "n", Name: "lab", Address: y.host.Address()}}, nil
}

func (y *yard) Call(ctx context.Context, caller session.Caller, id string, call func(context.Context, *pve.Host, pve.Credentials) error) error {
	ticket, ok := y.tickets[caller.Identity.UserID]
	if !ok {
		return fault.SignInRequired()
	}
	if id != "n" {
		return fault.NoSuch("node")
	}
	return call(ctx, y.host, ticket)
}

func (y *yard) Rights(ctx context.Context, caller session.Caller, id string) (held pve.Permissions, err error) {
	err = y.Call(ctx, caller, id, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
		held, err = host.Permissions(ctx, with)
		return err
	})
	return held, err
}

func (y *yard) Record(_ context.Context, e audit.Entry) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.entries = append(y.entries, e)
}

func choice(vmid string) container.Choice { return container.Choice{NodeID: "n", VMID: vmid} }

func TestDetail(t *testing.T) {
	y := newYard(t, "pve1", "pve2")
	root := y.caller("root@pam")
	d, err := y.details.Get(t.Context(), root, choice("101"))
	if err != nil || len(d.Problems) > 0 {
		t.Fatalf("%v, %v", err, d.Problems)
	}
	if d.Name != "nextcloud" || d.Live.Status != "running" || d.Live.MaxMem != 4<<30 || d.Live.Uptime == 0 || !d.MayEdit {
		t.Errorf("%+v, %+v", d.Container, d.Live)
	}
	c := d.Config
	if c.OSType != "debian" || c.Cores != 4 || c.Memory != 4<<30 || c.Swap != 1<<30 || !c.Onboot || !c.Unprivileged || !slices.Equal(c.Features, []string{"nesting"}) ||
		!strings.HasPrefix(c.Description, "# Nextcloud\n") || strings.HasSuffix(c.Description, "\n") || len(c.Digest) != 40 {
		t.Errorf("%+v", c)
	}
	if want := (container.Mount{ID: "rootfs", Source: "local-lvm:vm-101-disk-0", Path: "/", Size: 32 << 30, Backup: true}); len(c.Mounts) != 2 || c.Mounts[0] != want || c.Mounts[1].Path != "/var/www/data" {
		t.Errorf("mounts %+v", c.Mounts)
	}
	if len(c.Networks) != 1 || c.Networks[0].Bridge != "vmbr0" || c.Networks[0].Gateway != "192.168.0.1" || !c.Networks[0].Firewall {
		t.Errorf("networks %+v", c.Networks)
	}
	// What the container itself says, but for what only itself can reach.
	if len(d.Interfaces) != 1 || d.Interfaces[0].Configured || len(d.Interfaces[0].Addresses) != 1 || d.Interfaces[0].Addresses[0].String() != c.Networks[0].IP {
		t.Errorf("interfaces %+v", d.Interfaces)
	}

	stopped, err := y.details.Get(t.Context(), root, choice("112"))
	if err != nil || stopped.Live.Status != "stopped" || len(stopped.Interfaces) != 1 || !stopped.Interfaces[0].Configured || len(stopped.Interfaces[0].Addresses) != 1 {
		t.Errorf("%+v, %v", stopped.Interfaces, err)
	}
	for _, other := range []string{"200", "999", "0101", "x", ""} { // the first is a virtual machine
		if _, err := y.details.Get(t.Context(), root, choice(other)); fault.KindOf(err) != fault.NotFound {
			t.Errorf("%q: %v", other, err)
		}
	}
	if _, err := y.details.Get(t.Context(), root, container.Choice{NodeID: "m", VMID: "101"}); fault.KindOf(err) != fault.NotFound {
		t.Errorf("another node: %v", err)
	}
	alice := y.caller("alice@pve")
	if d, err := y.details.Get(t.Context(), alice, choice("101")); err != nil || d.MayEdit || len(d.Problems) > 0 {
		t.Errorf("without VM.Config.Options: %v, %v", d.Problems, err)
	}
	if _, err := y.details.Get(t.Context(), alice, choice("100")); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a container that is not hers: %v", err)
	}
	if _, err := y.details.Get(t.Context(), session.Caller{}, choice("101")); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("nobody: %v", err)
	}
}

// TestDetailInParts: what can't be read costs that part and says why.
func TestDetailInParts(t *testing.T) {
	y := newYard(t, "pve1", "pve2")
	root := y.caller("root@pam")
	if _, err := y.details.Get(t.Context(), root, choice("100")); err != nil {
		t.Fatal(err)
	}
	const at = "/nodes/pve1/lxc/100/"
	y.sim.SetFault("GET", at+"config", sim.Fault{Status: 403, Reason: "Permission check failed (/vms/100, VM.Audit)"})
	y.sim.SetFault("GET", at+"interfaces", sim.Fault{Status: 500, Reason: "unable to open netns"})
	y.sim.SetFault("GET", "/access/permissions", sim.Fault{Status: 500})
	d, err := y.details.Get(t.Context(), root, choice("100"))
	if err != nil || d.Live == nil || d.Config != nil || len(d.Interfaces) != 0 || !d.MayEdit || len(d.Problems) != 2 {
		t.Errorf("%+v, %v", d, err)
	}
	if got, want := d.Problems["config"], "Your account may not read this: Permission check failed (/vms/100, VM.Audit)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := d.Problems["interfaces"], "Proxmox VE answered: unable to open netns"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	y.sim.ClearFaults()
	y.sim.SetFault("GET", at+"status", sim.Fault{Status: 595})
	if d, err = y.details.Get(t.Context(), root, choice("100")); err != nil || d.Live != nil || d.Config == nil || d.Problems["live"] == "" {
		t.Errorf("%+v, %v", d, err)
	}
	y.sim.ClearFaults()
	if err := y.dc.StopMember("pve1"); err != nil {
		t.Fatal(err)
	}
	if d, err = y.details.Get(t.Context(), root, choice("100")); err != nil || d.Name != "gateway" || len(d.Problems) != 3 {
		t.Errorf("a host that is down: %+v, %v", d, err)
	}
}

// TestNowIsShared: however many pages show a container, its host is asked once in a while for each audience.
func TestNowIsShared(t *testing.T) {
	y := newYard(t, "pve1")
	root, alice := y.caller("root@pam"), y.caller("alice@pve")
	asked := func() (n int) {
		for _, r := range y.sim.Requests() {
			if strings.HasSuffix(r.Path, "/lxc/101/status/current") {
				n++
			}
		}
		return n
	}
	var together sync.WaitGroup
	for range 20 {
		together.Go(func() {
			if d, err := y.details.Now(t.Context(), root, choice("101")); err != nil || d.Live == nil || d.Live.Status != "running" || d.Config != nil {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
	together.Wait()
	if n := asked(); n != 1 {
		t.Errorf("the host was asked %d times", n)
	}
	if _, err := y.details.Now(t.Context(), alice, choice("101")); err != nil || asked() != 2 {
		t.Errorf("somebody else was shown root's reading: %v", err)
	}
	y.pass(time.Second)
	y.sim.SetFault("GET", "/nodes/pve1/lxc/101/status", sim.Fault{Status: 500, Reason: "no"})
	for range 3 {
		if d, err := y.details.Now(t.Context(), root, choice("101")); err != nil || d.Live != nil || d.Problems["live"] != "Proxmox VE answered: no" {
			t.Errorf("%+v, %v", d, err)
		}
	}
	if n := asked(); n != 3 {
		t.Errorf("the host was asked %d times", n)
	}
}

func TestEdit(t *testing.T) {
	y := newYard(t, "pve1")
	root := y.caller("root@pam")
	before, err := y.details.Get(t.Context(), root, choice("100"))
	if err != nil {
		t.Fatal(err)
	}
	tags, text := []string{"Web", "critical"}, "# Gate\n\nway"
	edit := container.Edit{Choice: choice("100"), Tags: &tags, Description: &text, Digest: before.Config.Digest}
	after, err := y.details.Edit(t.Context(), root, edit)
	if err != nil || !slices.Equal(after.Config.Tags, []string{"web", "critical"}) || after.Config.Description != text || after.Config.Digest == before.Config.Digest {
		t.Errorf("%+v, %v", after.Config, err)
	}
	if _, err := y.details.Edit(t.Context(), root, edit); fault.As(err) == nil || fault.As(err).Code != "changed_meanwhile" || fault.KindOf(err) != fault.Conflict {
		t.Errorf("from an old reading: %v", err)
	}
	empty := ""
	if after, err = y.details.Edit(t.Context(), root, container.Edit{Choice: choice("100"), Description: &empty}); err != nil || after.Config.Description != "" || len(after.Config.Tags) != 2 {
		t.Errorf("%+v, %v", after.Config, err)
	}
	if same, err := y.details.Edit(t.Context(), root, container.Edit{Choice: choice("100")}); err != nil || same.Config.Digest != after.Config.Digest {
		t.Errorf("nothing to change: %v", err)
	}
	if _, err := y.details.Edit(t.Context(), root, container.Edit{Choice: choice("109"), Tags: &tags}); fault.As(err) == nil || fault.As(err).Code != "refused_by_proxmox" || !strings.Contains(err.Error(), "locked (backup)") {
		t.Errorf("a locked one: %v", err)
	}
	if _, err := y.details.Edit(t.Context(), y.caller("alice@pve"), container.Edit{Choice: choice("101"), Tags: &tags}); !pve.IsKind(err, pve.KindForbidden) {
		t.Errorf("without VM.Config.Options: %v", err)
	}
	var got []string
	for _, e := range y.entries {
		got = append(got, strings.Join([]string{e.Identity.UserID, string(e.Action), e.Target, string(e.Result), e.Detail}, "; "))
	}
	want := []string{
		"root@pam; container_edit; lab / pve1 / 100 gateway; ok; tags and description",
		"root@pam; container_edit; lab / pve1 / 100 gateway; failed; tags and description",
		"root@pam; container_edit; lab / pve1 / 100 gateway; ok; description",
		"root@pam; container_edit; lab / pve1 / 109 paperless; failed; tags",
		"alice@pve; container_edit; lab / pve1 / 101 nextcloud; refused; tags",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the trail has\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if y.entries[1].ErrorID == "" || y.entries[0].ErrorID != "" {
		t.Errorf("error ids %q and %q", y.entries[0].ErrorID, y.entries[1].ErrorID)
	}
}

func TestEditValidate(t *testing.T) {
	long, many, odd := strings.Repeat("ä", 8193), make([]string, 65), []string{"a b"}
	for i := range many {
		many[i] = "x"
	}
	for field, edit := range map[string]container.Edit{
		"tags":        {Tags: &odd},
		"description": {Description: &long},
		"digest":      {Tags: &[]string{}, Digest: strings.Repeat("a", 65)},
	} {
		if f := fault.As(edit.Validate()); f == nil || f.Fields[field] == "" {
			t.Errorf("%s: %v", field, f)
		}
	}
	for _, tags := range [][]string{many, odd, {""}, {"-x"}, {"ä"}, {strings.Repeat("x", 65)}, {"a;b"}} {
		if f := fault.As(container.Edit{Tags: &tags}.Validate()); f == nil || f.Fields["tags"] == "" {
			t.Errorf("%q: %v", tags, f)
		}
	}
	fits := strings.Repeat("ä", 8192)
	if err := (container.Edit{Tags: &[]string{"a_b+c.d-1"}, Description: &fits}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestGraph(t *testing.T) {
	y := newYard(t, "pve1", "pve2")
	root := y.caller("root@pam")
	for frame, want := range map[string]struct {
		points int
		step   int64
		peaks  bool
	}{"": {60, 60, false}, "hour": {60, 60, false}, "day": {1440, 60, false}, "week": {336, 1800, true}, "month": {1440, 1800, true}, "year": {1440, 21600, true}} {
		g, err := y.details.Graph(t.Context(), root, container.GraphQuery{Choice: choice("101"), Timeframe: frame})
		if err != nil || len(g.Times) != want.points || g.Step != want.step || (g.CPU.Peaks != nil) != want.peaks {
			t.Fatalf("%s: %d points every %d s, %v", frame, len(g.Times), g.Step, err)
		}
		last := want.points - 1
		if g.CPU.Values[last] == nil || g.CPU.Limit != 4 || g.Mem.Limit != 4<<30 || g.NetIn.Limit != 0 || *g.NetOut.Values[last] <= 0 {
			t.Errorf("%s: %+v", frame, g.CPU)
		}
		if want.peaks && *g.CPU.Peaks[last] < *g.CPU.Values[last] {
			t.Errorf("%s: the peak %v is below the average %v", frame, *g.CPU.Peaks[last], *g.CPU.Values[last])
		}
	}
	g, err := y.details.Graph(t.Context(), root, container.GraphQuery{Choice: choice("112")})
	if err != nil || len(g.Times) != 60 || slices.ContainsFunc(g.CPU.Values, func(v *float64) bool { return v != nil }) {
		t.Errorf("of a stopped one: %v", err)
	}
	if _, err := y.details.Graph(t.Context(), root, container.GraphQuery{Choice: choice("101"), Timeframe: "decade"}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a decade: %v", err)
	}
	y.sim.SetFault("GET", "/nodes/pve2/lxc/101/rrddata", sim.Fault{Status: 500, Reason: "RRD error"})
	var refused *pve.Error
	if _, err := y.details.Graph(t.Context(), root, container.GraphQuery{Choice: choice("101")}); !errors.As(err, &refused) {
		t.Errorf("what the host said: %v", err)
	}
}

// Members of two hosts may have one name: what was done at one of them is told apart from what was done at the other.
func TestTarget(t *testing.T) {
	c := &container.Container{Node: "pve1", VMID: 101, Name: "web"}
	for node, want := range map[string]string{"attic": "attic / pve1 / 101 web", "pve1": "pve1 / 101 web", "": "pve1 / 101 web"} {
		if got := c.Target(node); got != want {
			t.Errorf("of node %q: %s, want %s", node, got, want)
		}
	}
}
