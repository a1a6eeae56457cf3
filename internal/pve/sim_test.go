package pve_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/pve"
	"berth/internal/pve/sim"
)

// wiretap stands between the client and a simulated host, passes every byte on, and keeps the exchanges.
type wiretap struct {
	t        *testing.T
	listener net.Listener
	cert     tls.Certificate
	host     string
	faulty   bool // answers may be cut or spoiled
	conns    sync.WaitGroup

	mu        sync.Mutex
	exchanges []exchange
}

// exchange is what went over one connection, in both directions.
type exchange struct{ sent, received *bytes.Buffer }

func newWiretap(t *testing.T, host string) *wiretap {
	t.Helper()
	cert := pve.NewTestCertificate()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	w := &wiretap{t: t, listener: listener, cert: cert, host: host}
	w.conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.conns.Go(func() { w.pass(conn) })
		}
	})
	return w
}

func (w *wiretap) pass(client net.Conn) {
	defer client.Close()
	if client.(*tls.Conn).Handshake() != nil {
		return // a client that doesn't trust us
	}
	// What the client makes of the host's own certificate is tested elsewhere.
	host, err := tls.Dial("tcp", w.host, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		w.t.Error(err)
		return
	}
	defer host.Close()
	e := exchange{new(bytes.Buffer), new(bytes.Buffer)}
	var sending sync.WaitGroup
	sending.Go(func() {
		_, _ = io.Copy(host, io.TeeReader(client, e.sent))
		_ = host.CloseWrite()
	})
	_, _ = io.Copy(client, io.TeeReader(host, e.received))
	_ = client.Close()
	sending.Wait()
	w.mu.Lock()
	w.exchanges = append(w.exchanges, e)
	w.mu.Unlock()
}

// check compares every request and every successful answer with PVE's API schema. All connections must be closed.
func (w *wiretap) check(t *testing.T) {
	_ = w.listener.Close()
	w.conns.Wait()
	schema := pve.LoadSchema()
	if schema == nil {
		t.Log("no API schema to check requests and answers against")
	}
	count := 0
	for _, e := range w.exchanges {
		sent, received := bufio.NewReader(e.sent), bufio.NewReader(e.received)
		for {
			r, err := http.ReadRequest(sent)
			if err != nil {
				break
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			var text []byte
			answer, err := http.ReadResponse(received, r)
			if err == nil {
				text, err = io.ReadAll(answer.Body)
			}
			if err != nil {
				if !w.faulty {
					t.Errorf("%s %s: answer: %v", r.Method, r.URL.Path, err)
				}
				break
			}
			count++
			if schema != nil && (!w.faulty || json.Valid(text)) {
				checkExchange(t, schema, r, string(body), answer, text)
			}
		}
	}
	if count == 0 {
		t.Error("nothing went over the wire")
	}
}

func checkExchange(t *testing.T, schema *pve.Schema, r *http.Request, body string, answer *http.Response, text []byte) {
	for _, err := range schema.CheckRequest(r, body) {
		t.Errorf("%s %s: request: %v", r.Method, r.URL.Path, err)
	}
	if answer.StatusCode != http.StatusOK {
		return
	}
	method, _, err := schema.Find(r.Method, strings.TrimPrefix(r.URL.Path, "/api2/json"))
	if err != nil {
		t.Error(err)
		return
	}
	var envelope struct{ Data any }
	if err := json.Unmarshal(text, &envelope); err != nil {
		t.Errorf("%s %s: answer: %v", r.Method, r.URL.Path, err)
		return
	}
	if envelope.Data == nil && strings.HasSuffix(r.URL.Path, "/interfaces") {
		return // of a stopped container; the schema knows nothing of it
	}
	for _, err := range method.CheckAnswer(envelope.Data) {
		t.Errorf("%s %s: answer: %v", r.Method, r.URL.Path, err)
	}
}

// world is a simulated cluster with the client's way to it.
type world struct {
	*testing.T
	dc   *sim.Datacenter
	sim  *sim.Host
	tap  *wiretap
	host *pve.Host

	mu sync.Mutex
	at time.Time
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, at: time.Now()}
	dc, err := sim.New(sim.Options{Name: "lab", Members: []string{"pve1", "pve2"}, Now: w.now, RefusalDelay: -1})
	if err != nil {
		t.Fatal(err)
	}
	w.dc = dc
	if w.sim, err = dc.Listen("pve1", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	w.tap = newWiretap(t, w.sim.Address())
	client := pve.NewClient(pve.Options{})
	pve.SkipPauses(client)
	t.Cleanup(func() {
		client.Close()
		w.tap.check(t)
		_ = w.sim.Close()
	})

	// First contact: the fingerprint comes back and is confirmed.
	at := netip.MustParseAddrPort(w.tap.listener.Addr().String())
	address := pve.Address{Host: at.Addr().String(), Port: int(at.Port())}
	_, err = client.Host(address, pve.Trust{}).SignIn(t.Context(), "root@pam", sim.DefaultPassword)
	var unknown *pve.CertificateError
	if !errors.As(err, &unknown) || unknown.Changed() {
		t.Fatalf("first contact: %v", err)
	}
	w.host = client.Host(address, pve.Trust{Key: &unknown.Peer.Key})
	return w
}

func (w *world) signIn(user string) pve.Ticket {
	w.Helper()
	s, err := w.host.SignIn(w.Context(), user, sim.DefaultPassword)
	if err != nil || s.Challenge != nil {
		w.Fatalf("signing in as %s: %v, %v", user, s, err)
	}
	return s.Ticket
}

// finish moves the clock until a task ends.
func (w *world) finish(credentials pve.Credentials, upid pve.UPID) pve.Task {
	w.Helper()
	for range 200 {
		task, err := w.host.TaskStatus(w.Context(), credentials, upid)
		if err != nil {
			w.Fatal(err)
		}
		if !task.Running {
			return task
		}
		w.pass(time.Second)
	}
	w.Fatalf("%s does not end", upid)
	return pve.Task{}
}

func TestSimulatedSignIn(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for user, kind := range map[string]pve.Kind{"carol@pve": pve.KindUnauthenticated, "nobody@pve": pve.KindUnauthenticated, "alice": pve.KindUnauthenticated} {
		if _, err := w.host.SignIn(ctx, user, sim.DefaultPassword); !pve.IsKind(err, kind) {
			t.Errorf("%s: %v", user, err)
		}
	}
	if _, err := w.host.SignIn(ctx, "alice@pve", "wrong"); !pve.IsKind(err, pve.KindUnauthenticated) {
		t.Errorf("wrong password: %v", err)
	}
	domains, err := w.host.Domains(ctx)
	if err != nil || !slices.ContainsFunc(domains, func(d pve.Domain) bool { return d.Realm == "pam" }) {
		t.Errorf("domains %v, %v", domains, err)
	}

	bob, err := w.host.SignIn(ctx, "bob@pve", sim.DefaultPassword)
	if err != nil || bob.Challenge == nil || !bob.Challenge.TOTP || len(bob.Challenge.Recovery) == 0 {
		t.Fatalf("%v, %v", bob, err)
	}
	if _, err := w.host.AnswerChallenge(ctx, *bob.Challenge, pve.FactorTOTP, "000000"); !pve.IsKind(err, pve.KindUnauthenticated) {
		t.Errorf("wrong code: %v", err)
	}
	code := sim.TOTP(sim.DefaultTOTPSecret, w.now())
	second, err := w.host.AnswerChallenge(ctx, *bob.Challenge, pve.FactorTOTP, code[:3]+" "+code[3:])
	if err != nil || second.Ticket.UserID != "bob@pve" {
		t.Fatalf("%v, %v", second, err)
	}
	third, err := w.host.AnswerChallenge(ctx, *bob.Challenge, pve.FactorRecovery, strings.ToUpper(sim.DefaultRecoveryCodes()[0]))
	if err != nil || third.Ticket.UserID != "bob@pve" {
		t.Fatalf("%v, %v", third, err)
	}

	// Renewal, for as long as the ticket lives; with the session renewed, it goes on.
	w.pass(90 * time.Minute)
	renewed, err := w.host.Renew(ctx, second.Ticket)
	if err != nil || renewed.UserID != "bob@pve" || renewed.Value == second.Ticket.Value || renewed.CSRF == second.Ticket.CSRF {
		t.Fatalf("%v, %v", renewed, err)
	}
	w.pass(time.Hour)
	if _, err := w.host.Version(ctx, second.Ticket); !pve.IsKind(err, pve.KindUnauthenticated) {
		t.Errorf("an expired ticket: %v", err)
	}
	if _, err := w.host.Renew(ctx, second.Ticket); !pve.IsKind(err, pve.KindUnauthenticated) {
		t.Errorf("renewing an expired ticket: %v", err)
	}
	if v, err := w.host.Version(ctx, renewed); err != nil || v.Release == "" {
		t.Errorf("%v, %v", v, err)
	}
	if err := w.dc.DisableUser("bob@pve"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.host.Version(ctx, renewed); !pve.IsKind(err, pve.KindUnauthenticated) {
		t.Errorf("a disabled user: %v", err)
	}
}

// TestDefaultWorldIsFixed: scripts rely on these accounts, their words and what they see, so all of it is spelled out here.
func TestDefaultWorldIsFixed(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	const password = "berth-demo"
	sees := func(user string) []int {
		t.Helper()
		in, err := w.host.SignIn(ctx, user, password)
		if err != nil || in.Challenge != nil {
			t.Fatalf("%s: %v, %v", user, in.Challenge, err)
		}
		list, err := w.host.Resources(ctx, in.Ticket, pve.GuestResources)
		if err != nil {
			t.Fatal(err)
		}
		var vmids []int
		for _, r := range list {
			if r.Type == "lxc" {
				vmids = append(vmids, r.VMID)
			}
			if len(r.Name) < 2 || strings.Trim(r.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
				t.Errorf("%d is called %q", r.VMID, r.Name)
			}
		}
		slices.Sort(vmids)
		return vmids
	}
	if all := sees("root@pam"); len(all) < 10 || all[0] != 100 {
		t.Errorf("root@pam sees %v, want many from 100 up", all)
	}
	if few := sees("alice@pve"); !slices.Equal(few, []int{101, 102}) {
		t.Errorf("alice@pve sees %v, want 101 and 102", few)
	}
	bob, err := w.host.SignIn(ctx, "bob@pve", password)
	if err != nil || bob.Challenge == nil || len(bob.Challenge.Recovery) != 10 {
		t.Fatalf("bob@pve: %+v, %v", bob.Challenge, err)
	}
	if in, err := w.host.AnswerChallenge(ctx, *bob.Challenge, pve.FactorTOTP, sim.TOTP("JBSWY3DPEHPK3PXP", w.now())); err != nil || in.Ticket.UserID != "bob@pve" {
		t.Errorf("bob@pve: %v", err)
	}
	if _, err := w.host.SignIn(ctx, "carol@pve", password); !pve.IsKind(err, pve.KindUnauthenticated) {
		t.Errorf("carol@pve: %v", err)
	}
}

// TestSimulatedUser is everything a user who holds PVEVMUser on two containers can do, and can't.
func TestSimulatedUser(t *testing.T) {
	w := newWorld(t)
	ctx, alice := t.Context(), w.signIn("alice@pve")

	permissions, err := w.host.Permissions(ctx, alice)
	if err != nil || !permissions.Has("/vms/101", "VM.PowerMgmt") || permissions.Has("/", "Sys.Audit") {
		t.Errorf("%v, %v", permissions, err)
	}
	list, err := w.host.Resources(ctx, alice, pve.GuestResources)
	var ids []int
	for _, r := range list {
		ids = append(ids, r.VMID)
	}
	if slices.Sort(ids); err != nil || !slices.Equal(ids, []int{101, 102}) {
		t.Fatalf("sees %v, %v", ids, err)
	}
	node := list[slices.IndexFunc(list, func(r pve.Resource) bool { return r.VMID == 101 })].Node

	if _, err := w.host.ClusterStatus(ctx, alice); !pve.IsKind(err, pve.KindForbidden) {
		t.Errorf("cluster status: %v", err)
	}
	if _, err := w.host.ContainerStatus(ctx, alice, node, 100); !pve.IsKind(err, pve.KindForbidden) {
		t.Errorf("another's container: %v", err)
	}
	if _, err := w.host.DeleteContainer(ctx, alice, node, 101, pve.DeleteOptions{}); !pve.IsKind(err, pve.KindForbidden) {
		t.Errorf("deleting: %v", err)
	}
	for name, call := range map[string]func() (int, error){
		"nodes": func() (int, error) { l, err := w.host.Nodes(ctx, alice); return len(l), err },
		"certificates": func() (int, error) {
			l, err := w.host.Certificates(ctx, alice, "pve2")
			return len(l), err
		},
		"containers": func() (int, error) { l, err := w.host.Containers(ctx, alice, node); return len(l), err },
	} {
		if n, err := call(); err != nil || n == 0 {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	if _, err := w.host.Storages(ctx, alice, node); err != nil {
		t.Error(err)
	}
	if id, err := w.host.NextID(ctx, alice, 0); err != nil || id < pve.MinVMID {
		t.Errorf("%d, %v", id, err)
	}
	if _, err := w.host.NextID(ctx, alice, 101); !pve.IsKind(err, pve.KindInvalidParameters) {
		t.Errorf("a taken VMID: %v", err)
	}
	status, err := w.host.ContainerStatus(ctx, alice, node, 101)
	if err != nil || status.Status != "running" || status.VMID != 101 {
		t.Errorf("%+v, %v", status, err)
	}
	if config, err := w.host.ContainerConfig(ctx, alice, node, 101); err != nil || config.Hostname != status.Name {
		t.Errorf("%+v, %v", config, err)
	}

	upid, err := w.host.Change(ctx, alice, node, 101, pve.ActionShutdown, pve.ChangeOptions{Timeout: time.Minute, ForceStop: true})
	if err != nil || upid.User != "alice@pve" || upid.ID != "101" || upid.Type != "vzshutdown" {
		t.Fatalf("%v, %v", upid, err)
	}
	if task := w.finish(alice, upid); !task.OK() {
		t.Errorf("%+v", task)
	}
	lines, total, err := w.host.TaskLog(ctx, alice, upid, 0, 500)
	if err != nil || len(lines) == 0 || total < len(lines) {
		t.Errorf("%v, %d, %v", lines, total, err)
	}
	tasks, _, err := w.host.Tasks(ctx, alice, node, pve.TaskFilter{VMID: 101, Source: pve.AllTasks, Limit: 10})
	if err != nil || !slices.ContainsFunc(tasks, func(t pve.Task) bool { return t.UPID == upid && t.OK() }) {
		t.Errorf("%v, %v", tasks, err)
	}
	if tasks, err := w.host.ClusterTasks(ctx, alice); err != nil || !slices.ContainsFunc(tasks, func(t pve.Task) bool { return t.UPID == upid && t.OK() }) {
		t.Errorf("tasks of the cluster: %v, %v", tasks, err)
	}
	if status, err := w.host.ContainerStatus(ctx, alice, node, 101); err != nil || status.Status != "stopped" {
		t.Errorf("%+v, %v", status, err)
	}
	if _, err := w.host.Change(ctx, alice, node, 101, pve.ActionStop, pve.ChangeOptions{}); err != nil && !pve.IsKind(err, pve.KindServer) {
		t.Errorf("stopping what is stopped: %v", err)
	}
	upid, err = w.host.Change(ctx, alice, node, 101, pve.ActionStart, pve.ChangeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if task := w.finish(alice, upid); !task.OK() {
		t.Errorf("%+v", task)
	}
	wrong := alice
	wrong.CSRF = alice.CSRF[:9] + "AAAA" + alice.CSRF[13:]
	if _, err := w.host.Change(ctx, wrong, node, 101, pve.ActionStop, pve.ChangeOptions{}); !pve.IsKind(err, pve.KindUnauthenticated) {
		t.Errorf("a wrong CSRF token: %v", err)
	}
}

func TestSimulatedRoot(t *testing.T) {
	w := newWorld(t)
	ctx, root := t.Context(), w.signIn("root@pam")

	entries, err := w.host.ClusterStatus(ctx, root)
	if err != nil || len(entries) != 3 || !slices.ContainsFunc(entries, func(e pve.ClusterEntry) bool { return e.Type == "cluster" && e.Quorate && e.Members == 2 }) {
		t.Errorf("%+v, %v", entries, err)
	}
	for _, kind := range []pve.ResourceKind{pve.AllResources, pve.NodeResources, pve.StorageResources, pve.GuestResources} {
		if list, err := w.host.Resources(ctx, root, kind); err != nil || len(list) == 0 {
			t.Errorf("resources %q: %d, %v", kind, len(list), err)
		}
	}
	if list, err := w.host.Storages(ctx, root, "pve1"); err != nil || len(list) == 0 || list[0].Total == 0 {
		t.Errorf("%+v, %v", list, err)
	}
	// What isn't there.
	if _, err := w.host.ContainerStatus(ctx, root, "pve1", 99999); !pve.IsKind(err, pve.KindNotFound) {
		t.Errorf("no such container: %v", err)
	}
	gone, err := pve.ParseUPID("UPID:pve1:0000C0DE:00A1B2C3:6B04135C:vzstart:101:root@pam:")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.host.TaskStatus(ctx, root, gone); !pve.IsKind(err, pve.KindNotFound) {
		t.Errorf("no such task: %v", err)
	}
	if _, err := w.host.Containers(ctx, root, "pve9"); !pve.IsKind(err, pve.KindMemberUnreachable) {
		t.Errorf("no such member: %v", err)
	}

	// Tokens: shown once, less than their user by default, dead when they are deleted.
	token, err := w.host.CreateToken(ctx, root, "alice@pve", "dash", pve.TokenOptions{FullPrivileges: true, Comment: "a & b"})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := w.host.Resources(ctx, token, pve.GuestResources); err != nil || len(list) != 2 {
		t.Errorf("by token: %d, %v", len(list), err)
	}
	if _, err := w.host.CreateToken(ctx, root, "alice@pve", "dash", pve.TokenOptions{}); !pve.IsKind(err, pve.KindInvalidParameters) {
		t.Errorf("a taken name: %v", err)
	}
	less, err := w.host.CreateToken(ctx, root, "alice@pve", "less", pve.TokenOptions{Expire: w.now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := w.host.Resources(ctx, less, pve.GuestResources); err != nil || len(list) != 0 {
		t.Errorf("by a token with privilege separation: %d, %v", len(list), err)
	}
	w.checkExpiry(root, less)
	if err := w.host.DeleteToken(ctx, root, "alice@pve", "dash"); err != nil {
		t.Error(err)
	}
	if _, err := w.host.Version(ctx, token); !pve.IsKind(err, pve.KindUnauthenticated) {
		t.Errorf("a deleted token: %v", err)
	}

	// A stopped container is deleted, a running task is stopped.
	list, err := w.host.Resources(ctx, root, pve.GuestResources)
	if err != nil {
		t.Fatal(err)
	}
	stopped := list[slices.IndexFunc(list, func(r pve.Resource) bool { return r.Status == "stopped" && !r.Template && r.Lock == "" })]
	running := list[slices.IndexFunc(list, func(r pve.Resource) bool { return r.Status == "running" && r.Lock == "" })]
	upid, err := w.host.DeleteContainer(ctx, root, stopped.Node, stopped.VMID, pve.DeleteOptions{Purge: true, UnreferencedDisks: true})
	if err != nil {
		t.Fatal(err)
	}
	if task := w.finish(root, upid); !task.OK() {
		t.Errorf("%+v", task)
	}
	if _, err := w.host.ContainerConfig(ctx, root, stopped.Node, stopped.VMID); !pve.IsKind(err, pve.KindNotFound) {
		t.Errorf("a deleted container: %v", err)
	}
	upid, err = w.host.Change(ctx, root, running.Node, running.VMID, pve.ActionReboot, pve.ChangeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.host.StopTask(ctx, root, upid); err != nil {
		t.Error(err)
	}
	if task := w.finish(root, upid); task.OK() {
		t.Errorf("%+v", task)
	}
	upid, err = w.host.Change(ctx, root, running.Node, running.VMID, pve.ActionSuspend, pve.ChangeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if task := w.finish(root, upid); task.OK() || task.ExitStatus == "" {
		t.Errorf("suspending on a host like most: %+v", task)
	}
}

// TestSimulatedFaults: whatever the host does, a call ends, with the kind that it is.
func TestSimulatedFaults(t *testing.T) {
	w := newWorld(t)
	w.tap.faulty = true
	ctx, root := t.Context(), w.signIn("root@pam")
	for _, c := range []struct {
		name  string
		fault sim.Fault
		kind  pve.Kind
	}{
		{"cut", sim.Fault{CutBody: true}, pve.KindHostUnreachable},
		{"endless", sim.Fault{EndlessBody: true}, pve.KindTooLarge},
		{"half JSON", sim.Fault{WrongJSON: true}, pve.KindNotProxmox},
		{"595", sim.Fault{Status: 595}, pve.KindMemberUnreachable},
		{"596", sim.Fault{Status: 596}, pve.KindMemberUnreachable},
		{"503", sim.Fault{Status: 503}, pve.KindHostUnreachable},
		{"500", sim.Fault{Status: 500, Reason: "got lock request timeout"}, pve.KindServer},
		{"401", sim.Fault{Status: 401}, pve.KindUnauthenticated},
	} {
		w.sim.SetFault("GET", "/nodes", c.fault)
		if _, err := w.host.Nodes(ctx, root); !pve.IsKind(err, c.kind) {
			t.Errorf("%s: %v, want %v", c.name, err, c.kind)
		}
		w.sim.ClearFaults()
	}
	// What passes is not noticed, and a POST that was carried out is not repeated.
	w.sim.SetFault("GET", "/nodes", sim.Fault{Status: 595, Times: 2})
	if _, err := w.host.Nodes(ctx, root); err != nil {
		t.Errorf("two faults: %v", err)
	}
	const path = "/nodes/pve1/lxc/101/status/"
	list, err := w.host.Resources(ctx, root, pve.GuestResources)
	if err != nil {
		t.Fatal(err)
	}
	node := list[slices.IndexFunc(list, func(r pve.Resource) bool { return r.VMID == 101 })].Node
	w.sim.SetFault("POST", strings.Replace(path, "pve1", node, 1), sim.Fault{CutBody: true})
	if _, err := w.host.Change(ctx, root, node, 101, pve.ActionReboot, pve.ChangeOptions{}); !pve.IsKind(err, pve.KindHostUnreachable) {
		t.Errorf("a cut answer: %v", err)
	}
	posts := 0
	for path, n := range w.sim.AcceptedPosts() {
		if strings.HasSuffix(path, "/status/reboot") {
			posts += n
		}
	}
	if posts != 1 {
		t.Errorf("the reboot was carried out %d times", posts)
	}
}
