package pve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// dialled records the addresses that passed the guard, which are all that packets are sent to.
type dialled struct {
	mu sync.Mutex
	to []string
}

func (d *dialled) control(_, address string, _ syscall.RawConn) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = append(d.to, address)
	return nil
}

func (d *dialled) taken() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	to := d.to
	d.to = nil
	return to
}

// TestAbuseReboundHostName: a name that leads to an allowed address when it is first looked at and elsewhere when a
// connection is made gets nowhere: each connection is checked by itself, at the moment of its dial.
func TestAbuseReboundHostName(t *testing.T) {
	f := newFakeHost(t, testCert, always(reply("200 OK\r\nConnection: close", `{"data":[]}`)))
	own := newFakeHost(t, testCert, always(ok(`[]`))) // stands for what must not be reached
	var answer atomic.Pointer[[]netip.Addr]
	dns := &nameServer{answer: func(int, string) []netip.Addr { return *answer.Load() }}
	answers := func(texts ...string) {
		var addrs []netip.Addr
		for _, text := range texts {
			addrs = append(addrs, netip.MustParseAddr(text))
		}
		answer.Store(&addrs)
	}
	var out dialled
	c := newTestClient(t, Options{Resolver: dns.resolver(), Control: out.control, Forbidden: func(to netip.AddrPort) bool {
		return to.Addr() != loopback || int(to.Port()) == own.address().Port
	}})
	h := c.Host(Address{Host: "pve.example", Port: f.address().Port}, Trust{Key: keyPin(testCert)})

	answers("127.0.0.1")
	if _, err := h.Nodes(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	if to := out.taken(); len(to) != 1 || to[0] != f.address().String() {
		t.Fatalf("dialled %q", to)
	}
	for _, elsewhere := range []string{"169.254.169.254", "0.0.0.0", "127.0.0.2", "10.0.0.1", "255.255.255.255", "224.0.0.1"} {
		answers(elsewhere)
		for name, call := range everyCall {
			if err := call(t.Context(), h); !IsKind(err, KindRefusedAddress) {
				t.Errorf("%s, now at %s: %v", name, elsewhere, err)
			}
		}
		if to := out.taken(); len(to) != 0 {
			t.Errorf("now at %s: dialled %q", elsewhere, to)
		}
	}
	// Of several addresses only those that are allowed are tried.
	answers("169.254.169.254", "127.0.0.1")
	if _, err := h.Nodes(t.Context(), alice); err != nil {
		t.Errorf("an allowed address among others: %v", err)
	}
	for _, to := range out.taken() {
		if to != f.address().String() {
			t.Errorf("dialled %s", to)
		}
	}
	// The same name with the port of what must not be reached.
	answers("127.0.0.1")
	_, err := c.Host(Address{Host: "pve.example", Port: own.address().Port}, Trust{}).Handshake(t.Context())
	wantKind(t, err, KindRefusedAddress)
	nothingSent(t, own, 0)
}

// proxyVariable makes this test binary run the inside of the test below, with an environment of its own: net/http reads it
// once per process.
const proxyVariable = "BERTH_TEST_PROXY"

// TestAbuseProxyEnvironment: no proxy of the environment sees where people sign in, nor what is sent there.
func TestAbuseProxyEnvironment(t *testing.T) {
	if os.Getenv(proxyVariable) != "" {
		f := newFakeHost(t, testCert, always(ok(`[]`)))
		dns := &nameServer{answer: func(int, string) []netip.Addr { return []netip.Addr{loopback} }}
		// A name, since net/http asks no proxy for addresses of the machine itself.
		at := Address{Host: "pve.example", Port: f.address().Port}
		r, err := http.NewRequest(http.MethodGet, "https://"+at.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if proxy, err := http.ProxyFromEnvironment(r); err != nil || proxy == nil {
			t.Fatalf("the environment has no proxy: %v, %v", proxy, err)
		}
		h := newTestClient(t, Options{Resolver: dns.resolver()}).Host(at, Trust{Key: keyPin(testCert)})
		for name, call := range everyCall {
			if err := call(t.Context(), h); IsKind(err, KindHostUnreachable) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(f.seen()) != len(everyCall) {
			t.Errorf("%d requests arrived, want %d", len(f.seen()), len(everyCall))
		}
		return
	}
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	var used atomic.Int32
	go func() {
		for {
			conn, err := proxy.Accept()
			if err != nil {
				return
			}
			used.Add(1)
			_ = conn.Close()
		}
	}()
	inner := exec.Command(os.Args[0], "-test.run=^TestAbuseProxyEnvironment$", "-test.v")
	at := "http://" + proxy.Addr().String()
	inner.Env = append(os.Environ(), proxyVariable+"=1", "NO_PROXY=", "no_proxy=")
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
		inner.Env = append(inner.Env, name+"="+at)
	}
	if text, err := inner.CombinedOutput(); err != nil || !strings.Contains(string(text), "--- PASS") {
		t.Errorf("%v\n%s", err, text)
	}
	if n := used.Load(); n != 0 {
		t.Errorf("the proxy got %d connections", n)
	}
}

// resumable is a TLS host that hands out session tickets, so that a client which keeps them comes back without a
// certificate being shown. Its ticket key outlives a change of its certificate, as with an attacker who stole it.
type resumable struct {
	listener net.Listener
	mu       sync.Mutex
	cert     tls.Certificate
	resumed  int
	received int
}

func newResumable(t *testing.T) *resumable {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &resumable{listener: listener, cert: testCert}
	config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return &r.cert, nil
	}}
	config.SetSessionTicketKeys([][32]byte{{1}})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer raw.Close()
				_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
				conn := tls.Server(raw, config)
				if conn.Handshake() != nil {
					return
				}
				buffer := make([]byte, 64<<10)
				n, _ := conn.Read(buffer)
				r.mu.Lock()
				r.received += n
				if conn.ConnectionState().DidResume {
					r.resumed++
				}
				r.mu.Unlock()
				_, _ = conn.Write([]byte(reply("200 OK\r\nConnection: close", `{"data":[]}`)))
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); running.Wait() })
	return r
}

func (r *resumable) address() Address {
	return Address{Host: "127.0.0.1", Port: r.listener.Addr().(*net.TCPAddr).Port}
}

// TestAbuseChangedCertificateEveryCall: a host whose key has changed gets not a byte of any call, be it with a password, a
// ticket, a code or a token; also one that offers to resume the sessions of before.
func TestAbuseChangedCertificateEveryCall(t *testing.T) {
	r := newResumable(t)
	// The host does resume, for whoever asks.
	cache := tls.NewLRUClientSessionCache(1)
	for range 2 {
		conn, err := tls.Dial("tcp", r.address().String(), &tls.Config{ClientSessionCache: cache, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("x"))
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	r.mu.Lock()
	if r.resumed == 0 {
		t.Fatal("the host resumes nothing, so this test shows nothing")
	}
	r.resumed, r.received = 0, 0
	r.mu.Unlock()

	roots := x509.NewCertPool()
	roots.AddCert(testCert.Leaf)
	first := peerOf(testCert.Leaf)
	c := newTestClient(t, Options{Roots: roots})
	hosts := map[string]*Host{
		"pinned by key":         c.Host(r.address(), Trust{Key: &first.Key}),
		"pinned by certificate": c.Host(r.address(), Trust{Certificate: &first.Fingerprint}),
		"by the roots":          c.Host(r.address(), Trust{}),
	}
	for trust, h := range hosts {
		for range 2 {
			if _, err := h.Nodes(t.Context(), alice); err != nil {
				t.Fatalf("%s: %v", trust, err)
			}
		}
	}
	r.mu.Lock()
	if r.resumed != 0 {
		t.Errorf("%d connections were resumed", r.resumed)
	}
	r.cert, r.received = newCert(newKey(), time.Now()), 0
	r.mu.Unlock()
	for trust, h := range hosts {
		for name, call := range everyCall {
			if err := call(t.Context(), h); !IsKind(err, KindCertificate) {
				t.Errorf("%s, %s: %v", trust, name, err)
			}
		}
		if _, err := h.Handshake(t.Context()); !IsKind(err, KindCertificate) {
			t.Errorf("%s, handshake: %v", trust, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.received != 0 || r.resumed != 0 {
		t.Errorf("the changed host got %d bytes, and %d connections were resumed", r.received, r.resumed)
	}
}

// TestAbuseRedirectEveryCall: no call follows a host elsewhere.
func TestAbuseRedirectEveryCall(t *testing.T) {
	elsewhere := newFakeHost(t, testCert, always(ok(`[]`)))
	h, f := pinned(t, always(fmt.Sprintf("HTTP/1.1 307 Temporary Redirect\r\nLocation: https://%s/api2/json/access/ticket\r\nContent-Length: 0\r\n\r\n", elsewhere.address())))
	for name, call := range everyCall {
		if err := call(t.Context(), h); !IsKind(err, KindNotProxmox) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(f.seen()); n != len(everyCall) {
		t.Errorf("%d requests, want %d", n, len(everyCall))
	}
	nothingSent(t, elsewhere, 0)
}

// TestAbuseDirectionCharacters: what turns the direction of writing or can't be seen is left out of every short text that
// people are shown.
func TestAbuseDirectionCharacters(t *testing.T) {
	const dirty = "a\u202eb\u2066c\u200bd\u0000e\u001b[31mf\u00adg\u2028h\ufeffi\u061cj\U000e0041k\x7fl"
	const clean = "abcde[31mfghijkl"
	data := func(fields ...string) string {
		var b strings.Builder
		for i, field := range fields {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `%q:"a\u202eb\u2066c\u200bd\u0000e\u001b[31mf\u00adg\u2028h\ufeffi\u061cj\udb40\udc41k\u007fl"`, field)
		}
		return "{" + b.String() + "}"
	}
	h, _ := pinned(t, always(ok("["+data("id", "type", "status", "node", "name", "tags", "lock", "pool", "hastate", "storage", "plugintype", "content")+"]")))
	resources, err := h.Resources(t.Context(), alice, AllResources)
	if err != nil || len(resources) != 1 {
		t.Fatal(resources, err)
	}
	r := resources[0]
	for i, text := range []string{r.ID, r.Type, r.Status, r.Node, r.Name, strings.Join(r.Tags, ""), r.Lock, r.Pool, r.HAState, r.Storage, r.PluginType, strings.Join(r.Content, "")} {
		if text != clean {
			t.Errorf("text %d of a resource: %q", i, text)
		}
	}
	h, _ = pinned(t, always(ok("["+data("realm", "type", "comment", "tfa")+"]")))
	realms, err := h.Domains(t.Context())
	if err != nil || realms[0] != (Domain{Realm: clean, Type: clean, Comment: clean, TFA: clean}) {
		t.Errorf("realm %+v, %v", realms, err)
	}
	h, _ = pinned(t, always(ok("["+data("type", "id", "name", "ip", "level")+"]")))
	cluster, err := h.ClusterStatus(t.Context(), alice)
	if err != nil || cluster[0] != (ClusterEntry{Type: clean, ID: clean, Name: clean, IP: clean, Level: clean}) {
		t.Errorf("cluster %+v, %v", cluster, err)
	}
	h, _ = pinned(t, always(ok("["+data("node", "status", "level")+"]")))
	nodes, err := h.Nodes(t.Context(), alice)
	if err != nil || nodes[0] != (Node{Node: clean, Status: clean, Level: clean}) {
		t.Errorf("node %+v, %v", nodes, err)
	}
	h, _ = pinned(t, always(reply("403 no\u202ewords", `{"data":null,"message":"x\u202ey\u001b","errors":{"p\u202e":"q\u2066"}}`)))
	_, err = h.Nodes(t.Context(), alice)
	var refused *Error
	if !errors.As(err, &refused) || refused.Reason != "nowords" || refused.Message != "xy" || refused.Fields["p"] != "q" {
		t.Errorf("error %+v", refused)
	}
	if got := printable(dirty, 100); got != clean {
		t.Errorf("printable: %q", got)
	}
}

// TestClockSkew: an error tells how far the host's clock is off.
func TestClockSkew(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for date, want := range map[string]time.Duration{
		"Fri, 20 Nov 2026 12:00:00 GMT": 0,
		"Fri, 20 Nov 2026 12:07:00 GMT": 7 * time.Minute,
		"Fri, 20 Nov 2026 10:00:00 GMT": -2 * time.Hour,
		"yesterday":                     0,
		"":                              0,
	} {
		f := newFakeHost(t, testCert, always("HTTP/1.1 401 authentication failure\r\nDate: "+date+"\r\nContent-Length: 0\r\n\r\n"))
		h := newTestClient(t, Options{Now: func() time.Time { return now }}).Host(f.address(), Trust{Key: keyPin(testCert)})
		_, err := h.SignIn(context.Background(), "alice@pve", "secret")
		if e := wantKind(t, err, KindUnauthenticated); e.ClockSkew != want {
			t.Errorf("Date %q: skew %s, want %s", date, e.ClockSkew, want)
		}
	}
}

// Sign-ins that hang take no connection away from people who are signed in, and what waited for a connection in vain says
// nothing about the host.
func TestAbuseSignInsStarveNobody(t *testing.T) {
	t.Parallel() // it takes as long as sign-ins may
	cert := newCert(newKey(), time.Now())
	fresh := `{"username":"alice@pve","ticket":"` + alice.Value + `","CSRFPreventionToken":"x"}`
	f := newFakeHost(t, cert, func(_ int, r *http.Request, body string) string {
		switch {
		case r.Method == http.MethodGet:
			return ok(`[{"node":"pve1"}]`)
		case strings.Contains(body, "password=wrong"):
			return hangs
		}
		return ok(fresh)
	})
	c := newTestClient(t, Options{SignInTimeout: 5 * time.Second})
	h := c.Host(f.address(), Trust{Key: keyPin(cert)})
	const tries = 40
	kinds := make(chan Kind, tries)
	for range tries {
		go func() {
			_, err := h.SignIn(t.Context(), "alice@pve", "wrong")
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("sign-in: %v", err)
				e = &Error{}
			}
			kinds <- e.Kind
		}()
	}
	for len(f.seen()) < maxPasswordCallsPerHost {
		time.Sleep(time.Millisecond)
	}
	if _, err := h.Nodes(t.Context(), alice); err != nil {
		t.Errorf("list: %v", err)
	}
	if _, err := h.Renew(t.Context(), alice); err != nil {
		t.Errorf("renewal: %v", err)
	}
	counts := map[Kind]int{}
	for range tries {
		counts[<-kinds]++
	}
	if counts[KindHostUnreachable] != maxPasswordCallsPerHost || counts[KindBusy] != tries-maxPasswordCallsPerHost {
		t.Errorf("%v, want %d without an answer and the others without a connection", counts, maxPasswordCallsPerHost)
	}
	if p, ok := h.Peer(); !ok || p.Key != *keyPin(cert) {
		t.Error("no peer")
	}
}
