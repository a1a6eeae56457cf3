package pve

import (
	"container/list"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// What Options leaves at zero.
const (
	defaultConnectTimeout = 5 * time.Second
	defaultCallTimeout    = 15 * time.Second
	defaultSignInTimeout  = 20 * time.Second // a refusal takes PVE 3 s (AE handle_api2_request)
	defaultMaxBody        = maxLargeBody
	defaultUserAgent      = "Berth"
)

const (
	maxHeader = 64 << 10
	maxHosts  = 256
	// What a host is asked at once: calls of those who have proven who they are, and calls that anybody can cause. Neither
	// kind takes turns from the other.
	maxCallsPerHost         = 32
	maxPasswordCallsPerHost = 8
	// Shorter than the 5 s after which pveproxy closes an idle connection (AE new), so that a POST, which is never sent again,
	// doesn't meet a connection that is just being closed.
	idleTimeout = 4 * time.Second
)

// Options are the settings of a Client. The zero value is ready to use.
type Options struct {
	// Roots verify certificates that aren't pinned; nil means the system's.
	Roots *x509.CertPool
	// Forbidden refuses further addresses at dial time, such as Berth's own listeners. It gets resolved, unmapped ones.
	Forbidden func(netip.AddrPort) bool
	// Control, as of net.Dialer, is asked after the built-in guard and Forbidden; an error refuses the address.
	Control func(network, address string, c syscall.RawConn) error
	// Observe is told of every call when it is over, its attempts as one. It must not wait, and may be nil.
	Observe func(context.Context, Called)
	// Resolver looks up names; nil means net.DefaultResolver.
	Resolver *net.Resolver
	// LookupLocal finds a .local name that the resolver does not know; nil means one Multicast DNS query of at most 1 s.
	LookupLocal func(ctx context.Context, name string) (netip.Addr, error)

	ConnectTimeout time.Duration // TCP and TLS handshake together; 0 means 5 s
	CallTimeout    time.Duration // a whole call with its repetitions; 0 means 15 s
	SignInTimeout  time.Duration // the same for everything that carries a password; 0 means 20 s

	// MaxBody bounds an answer, in bytes; 0 means 8 MiB. Answers that can't be large have smaller bounds of their own.
	MaxBody int64
	// Now is the clock that certificates are judged by; nil means time.Now.
	Now func() time.Time
	// UserAgent is what PVE's access log shows; empty means "Berth".
	UserAgent string
}

// Client owns the connections to all hosts. It is safe for concurrent use.
type Client struct {
	options Options
	// pause waits between two attempts of a call, or until ctx ends. Tests replace it.
	pause func(ctx context.Context, d time.Duration) error

	mu    sync.Mutex
	hosts map[hostKey]*list.Element // of *Host
	used  *list.List                // most recently used first
}

// hostKey is what two calls must share to share a connection.
type hostKey struct {
	address     Address
	pinned      bool
	key         KeyPin
	exact       bool
	certificate Fingerprint
}

// NewClient returns a Client that dials when it is first used.
func NewClient(o Options) *Client {
	orDefault := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	orDefault(&o.ConnectTimeout, defaultConnectTimeout)
	orDefault(&o.CallTimeout, defaultCallTimeout)
	orDefault(&o.SignInTimeout, defaultSignInTimeout)
	if o.MaxBody <= 0 {
		o.MaxBody = defaultMaxBody
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LookupLocal == nil {
		o.LookupLocal = lookupLocal
	}
	if o.UserAgent == "" {
		o.UserAgent = defaultUserAgent
	}
	return &Client{options: o, pause: pause, hosts: make(map[hostKey]*list.Element), used: list.New()}
}

// Close closes the idle connections. Calls under way end by themselves; a closed Client may be used again.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.used.Front(); e != nil; e = e.Next() {
		e.Value.(*Host).transport.CloseIdleConnections()
	}
	clear(c.hosts)
	c.used.Init()
}

// Host returns the host at an address under a trust. It dials nothing and is cheap enough to be asked for each call; hosts
// that are equal in both share their connections, and no others do. The Client remembers the 256 last used; a Host that
// somebody still holds beyond that works as before.
func (c *Client) Host(address Address, trust Trust) *Host {
	key := hostKey{address: address}
	if trust.Key != nil {
		key.pinned, key.key = true, *trust.Key
	}
	if trust.Certificate != nil {
		key.exact, key.certificate = true, *trust.Certificate
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.hosts[key]; ok {
		c.used.MoveToFront(e)
		return e.Value.(*Host)
	}
	h := c.newHost(key)
	c.hosts[key] = c.used.PushFront(h)
	if c.used.Len() > maxHosts {
		oldest := c.used.Back()
		old := c.used.Remove(oldest).(*Host)
		delete(c.hosts, old.key)
		old.transport.CloseIdleConnections()
	}
	return h
}

// Host is one Proxmox VE host: an address under a trust. It is safe for concurrent use.
//
// Its calls return an *Error, or an *InputError for what can't be sent.
type Host struct {
	client    *Client
	key       hostKey
	address   Address
	trust     Trust
	transport *http.Transport
	// calls and passwords hold one entry for each call of their kind that is under way.
	calls, passwords chan struct{}
	peer             atomic.Pointer[Peer]
}

func (c *Client) newHost(key hostKey) *Host {
	h := &Host{
		client: c, key: key, address: key.address,
		calls: make(chan struct{}, maxCallsPerHost), passwords: make(chan struct{}, maxPasswordCallsPerHost),
	}
	// Copies, so that nobody can move a pin under a live connection pool.
	if key.pinned {
		h.trust.Key = &key.key
	}
	if key.exact {
		h.trust.Certificate = &key.certificate
	}
	const connections = maxCallsPerHost + maxPasswordCallsPerHost
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	h.transport = &http.Transport{
		Proxy:                  nil, // never the environment's: a proxy would see where Berth's users sign in
		DialTLSContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return h.connect(ctx) },
		Protocols:              &protocols,
		DisableCompression:     true, // so that the bound on an answer is a bound on what it unpacks to
		MaxResponseHeaderBytes: maxHeader,
		MaxConnsPerHost:        connections,
		MaxIdleConnsPerHost:    connections,
		IdleConnTimeout:        idleTimeout,
	}
	return h
}

// Address is where the host is reached.
func (h *Host) Address() Address { return h.address }

// Peer is what the host showed in its last successful handshake under this trust, if there was one; without the names of
// its certificate, which would be kept for as long as the host is.
func (h *Host) Peer() (Peer, bool) {
	if p := h.peer.Load(); p != nil {
		return *p, true
	}
	return Peer{}, false
}

// Handshake connects, looks at the certificate and closes: the host is sent nothing else. Unlike the Peer of a
// CertificateError, the one it returns has proven that it holds the certificate's key.
func (h *Host) Handshake(ctx context.Context) (Peer, error) {
	conn, err := h.connect(ctx)
	if err != nil {
		return Peer{}, h.networkError(ctx, "handshake", err)
	}
	peer := peerOf(conn.ConnectionState().PeerCertificates[0])
	_ = conn.Close() // nothing was sent that could be lost
	return peer, nil
}

// connect makes one connection: guarded dial, handshake, certificate. http.Transport may let it outlive the call that
// asked for it, so it has its own time limit.
func (h *Host) connect(ctx context.Context) (*tls.Conn, error) {
	noteTurn(ctx)
	limit := h.client.options.ConnectTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no connection within %s", limit))
	defer cancel()

	raw, err := h.dial(ctx)
	if err != nil {
		return nil, &connectError{withCause(ctx, err)}
	}
	conn := tls.Client(raw, &tls.Config{
		ServerName: h.address.Host,
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		// The check isn't left out: verify does all of it, because a pin outranks the roots. There is no session cache,
		// and VerifyConnection would run for resumed sessions too.
		InsecureSkipVerify: true,
		VerifyConnection:   h.verify,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the handshake's error is the one that counts
		return nil, &connectError{withCause(ctx, inOwnWords(err))}
	}
	peer := peerOf(conn.ConnectionState().PeerCertificates[0])
	peer.DNSNames, peer.IPAddresses = nil, nil
	h.peer.Store(&peer)
	return conn, nil
}

// dial makes the TCP connection. Whatever an address came from, a form, DNS or the local network, control sees it last.
func (h *Host) dial(ctx context.Context) (net.Conn, error) {
	dialer := &net.Dialer{Resolver: h.client.options.Resolver, Control: h.client.control}
	conn, err := dialer.DialContext(ctx, "tcp", h.address.String())
	var unknown *net.DNSError
	if !errors.As(err, &unknown) || !isLocalName(h.address.Host) || ctx.Err() != nil {
		return conn, err
	}
	addr, lookup := h.client.options.LookupLocal(ctx, h.address.Host)
	if lookup != nil {
		return nil, fmt.Errorf("%w; %w", err, lookup)
	}
	return dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(addr, uint16(h.address.Port)).String())
}

// turn is when a request got its turn: a connection that was there, or leave to make one.
type turn struct {
	began time.Time
	at    atomic.Pointer[time.Time]
}

type turnKey struct{}

func withTurn(ctx context.Context) (context.Context, *turn) {
	t := &turn{began: time.Now()}
	ctx = context.WithValue(ctx, turnKey{}, t)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { noteTurn(ctx) }}), t
}

// noteTurn is called with a request's context, or with one that http.Transport made of it to dial.
func noteTurn(ctx context.Context) {
	if t, ok := ctx.Value(turnKey{}).(*turn); ok {
		now := time.Now()
		t.at.CompareAndSwap(nil, &now)
	}
}

// starved tells whether a request whose time is over has waited longer for its turn than for the host.
func (t *turn) starved() bool {
	at := t.at.Load()
	return at == nil || at.Sub(t.began) > time.Since(*at)
}

// connectError marks what happened before a byte of the request was sent. Nothing in it is the host's own text.
type connectError struct{ cause error }

func (e *connectError) Error() string { return e.cause.Error() }
func (e *connectError) Unwrap() error { return e.cause }

// withCause adds why a context ended to an error that only says that it did.
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && cause != ctx.Err() && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// pause waits for d with jitter, from half of it to one and a half.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
