package redistest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy stands between a client and a server, and lets the network fail.
type Proxy struct {
	// Address is where it listens.
	Address string

	mu       sync.Mutex
	target   string
	silent   chan struct{} // closed while everything is passed on
	cut      bool
	conns    map[net.Conn]bool
	listener net.Listener
}

// NewProxy starts a proxy to a server. It is gone when the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Address: l.Addr().String(), target: target, silent: make(chan struct{}), conns: map[net.Conn]bool{}, listener: l}
	close(p.silent)
	go p.serve()
	t.Cleanup(func() {
		l.Close()
		p.Heal() // so that nobody waits
		p.closeAll()
	})
	return p
}

// URL is the proxy's address for --redis.
func (p *Proxy) URL() string { return "redis://" + p.Address }

// Silence passes nothing on any more, and says nothing of it: connections stay, and new ones are taken.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.silent:
		p.silent = make(chan struct{})
	default:
	}
}

// Cut closes all connections, and each new one at once.
func (p *Proxy) Cut() {
	p.mu.Lock()
	p.cut = true
	p.mu.Unlock()
	p.closeAll()
}

// Heal passes on everything again, what was held back first.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
	select {
	case <-p.silent:
	default:
		close(p.silent)
	}
}

// Lead closes all connections and leads new ones to another server.
func (p *Proxy) Lead(target string) {
	p.mu.Lock()
	p.target = target
	p.mu.Unlock()
	p.closeAll()
}

func (p *Proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *Proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.pass(client)
	}
}

func (p *Proxy) pass(client net.Conn) {
	defer client.Close()
	p.mu.Lock()
	target, cut := p.target, p.cut
	p.conns[client] = true
	p.mu.Unlock()
	if cut {
		return
	}
	server, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.conns[server] = true
	p.mu.Unlock()
	go func() {
		p.copy(server, client)
		server.Close()
		client.Close()
	}()
	p.copy(client, server)
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

func (p *Proxy) copy(to io.Writer, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		silent := p.silent
		p.mu.Unlock()
		<-silent
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
