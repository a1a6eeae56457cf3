package sim

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Host is one listening address of a member. Its methods may be called from any goroutine.
type Host struct {
	dc       *Datacenter
	member   *member
	listener net.Listener
	done     chan struct{} // closed by Close
	running  sync.WaitGroup
	slots    chan struct{} // one for each connection

	mu          sync.Mutex
	closed      bool
	connections map[net.Conn]struct{}
	faults      []*activeFault // newest first
	requests    []Request
	changes     map[string]int // by method and path
}

// Limits of pveproxy (pve-manager, PVE/Service/pveproxy.pm, and AnyEvent.pm's defaults).
const (
	maxConnections        = 500
	requestsPerConnection = 100
	idleTimeout           = 5 * time.Second
)

// Listen makes a member answer on an address such as "127.0.0.1:0", with its own certificate. An empty member is the
// first. A member may listen on several addresses.
func (d *Datacenter) Listen(memberName, address string) (*Host, error) {
	m := d.members[0]
	if memberName != "" {
		if m = d.member(memberName); m == nil {
			return nil, fmt.Errorf("no member %q", memberName)
		}
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	h := &Host{
		dc: d, member: m, listener: l,
		done:        make(chan struct{}),
		slots:       make(chan struct{}, maxConnections),
		connections: map[net.Conn]struct{}{},
		changes:     map[string]int{},
	}
	d.hostMu.Lock()
	d.hosts = append(d.hosts, h)
	d.hostMu.Unlock()
	h.running.Go(h.accept)
	return h, nil
}

// Member is the name of the member that answers here.
func (h *Host) Member() string { return h.member.name }

// Address is host and port, as in a dial.
func (h *Host) Address() string { return h.listener.Addr().String() }

// URL is the address with its scheme and no path.
func (h *Host) URL() string { return "https://" + h.Address() }

// Fingerprint is the SHA-256 fingerprint of the certificate that new connections get, in the form AB:CD:...
func (h *Host) Fingerprint() string { return h.member.certificate().fingerprint() }

// ChangeCertificate gives the member a new certificate, with its old key or a new one. Connections that exist keep
// theirs.
func (h *Host) ChangeCertificate(keepKey bool) error {
	old := h.member.certificate()
	key := old.key
	if !keepKey {
		key = nil
	}
	c, err := newCertificate(h.member.name, h.dc.now(), key)
	if err != nil {
		return err
	}
	h.member.cert.Store(c)
	return nil
}

// Close stops listening and ends all connections, answered or not. It returns when no goroutine of the host is left.
func (h *Host) Close() error {
	h.mu.Lock()
	first := !h.closed
	h.closed = true
	h.mu.Unlock()
	var err error
	if first {
		close(h.done)
		err = h.listener.Close()
		h.dc.hostMu.Lock()
		h.dc.hosts = slices.DeleteFunc(h.dc.hosts, func(other *Host) bool { return other == h })
		h.dc.hostMu.Unlock()
	}
	h.dropConnections()
	h.running.Wait()
	return err
}

// dropConnections resets every connection.
func (h *Host) dropConnections() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.connections {
		reset(c)
	}
}

// reset closes a connection so that its client sees an error, not an end.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

// track remembers a connection for Close; false if the host is closed already.
func (h *Host) track(c net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.connections[c] = struct{}{}
	return true
}

func (h *Host) untrack(c net.Conn) {
	h.mu.Lock()
	delete(h.connections, c)
	h.mu.Unlock()
	c.Close()
}

func (h *Host) accept() {
	for {
		select {
		case h.slots <- struct{}{}:
		case <-h.done:
			return
		}
		c, err := h.listener.Accept()
		if err != nil {
			<-h.slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if !holdFor(h.done, 10*time.Millisecond) { // out of file descriptors, for one: it passes
				return
			}
			continue
		}
		if h.member.stopped.Load() || h.refusesConnections() {
			reset(c)
			<-h.slots
			continue
		}
		h.running.Go(func() {
			defer func() { <-h.slots }()
			if !h.track(c) {
				c.Close()
				return
			}
			defer h.untrack(c)
			h.serve(c)
		})
	}
}

// handshake finds out whether the client speaks TLS; a nil answer means that it is taken care of.
func (h *Host) handshake(raw net.Conn) *tls.Conn {
	raw.SetDeadline(time.Now().Add(2 * idleTimeout))
	first := make([]byte, 1)
	if _, err := raw.Read(first); err != nil {
		return nil
	}
	c := &replayConn{Conn: raw, first: first}
	const handshakeRecord = 0x16
	if first[0] != handshakeRecord {
		redirectToHTTPS(c)
		return nil
	}
	t := tls.Server(c, h.member.certificate().config)
	if t.Handshake() != nil {
		return nil
	}
	t.SetDeadline(time.Time{})
	return t
}

// replayConn is a connection of which the first byte was read already.
type replayConn struct {
	net.Conn
	first []byte
}

func (c *replayConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 && len(p) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// Request is one line of a host's log.
type Request struct {
	Time   time.Time // by the datacenter's clock
	Member string
	Method string
	Path   string // as asked, without its query
	Status int    // 0 if no answer was sent
	// Headers are the names of those that came, in their canonical form, sorted.
	Headers []string
}

const loggedRequests = 1000

// Requests returns the latest requests, at most 1000, oldest first. A request is in it before its answer is sent.
func (h *Host) Requests() []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.requests[max(0, len(h.requests)-loggedRequests):])
}

// AcceptedPosts tells for each path how many POSTs the host has carried out, whether or not the answer arrived: what a
// client that repeats a POST would double.
func (h *Host) AcceptedPosts() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	posts := map[string]int{}
	for change, n := range h.changes {
		if path, ok := strings.CutPrefix(change, "POST "); ok {
			posts[path] = n
		}
	}
	return posts
}

// AcceptedChanges is AcceptedPosts for all methods but GET, by method and path: "PUT /api2/json/nodes/pve1/lxc/101/config".
func (h *Host) AcceptedChanges() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.changes)
}

func (h *Host) record(r *request, status int, accepted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.requests) >= 2*loggedRequests {
		h.requests = h.requests[:copy(h.requests, h.requests[loggedRequests:])]
	}
	h.requests = append(h.requests, Request{Time: h.dc.now(), Member: h.member.name, Method: r.method, Path: r.path, Status: status, Headers: slices.Sorted(maps.Keys(r.header))})
	if !accepted || r.method == http.MethodGet {
		return
	}
	if change := r.method + " " + r.path; len(h.changes) < 10*loggedRequests || h.changes[change] > 0 {
		h.changes[change]++
	}
}
