package pve

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeHost answers over real TLS with whatever bytes a test wants, status line included, which net/http's server can't.
type fakeHost struct {
	t        *testing.T
	listener net.Listener
	answer   func(n int, r *http.Request, body string) string
	done     chan struct{}

	mu       sync.Mutex
	cert     tls.Certificate
	accepted int
	requests []request
	received int64 // bytes after handshakes
}

// hangs is the answer of a host that has none and keeps the connection.
const hangs = "hangs"

// request is what a fakeHost saw.
type request struct {
	*http.Request
	body string
}

// newFakeHost serves one certificate on a loopback port. answer gets the number of the request, from 1; what it returns
// is sent as it is and, unless it announces its length and the request is kept alive, followed by the connection's end.
func newFakeHost(t *testing.T, cert tls.Certificate, answer func(n int, r *http.Request, body string) string) *fakeHost {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeHost{t: t, listener: listener, cert: cert, answer: answer, done: make(chan struct{})}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		close(f.done)
		conns.Wait()
	})
	return f
}

func (f *fakeHost) serve(raw net.Conn) {
	defer raw.Close()
	f.mu.Lock()
	f.accepted++
	conn := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{f.cert}})
	f.mu.Unlock()
	// A test's client gives up sooner; this only ends what a failed test left behind.
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	if conn.Handshake() != nil {
		return
	}
	reader := bufio.NewReader(&countingReader{conn, f})
	for {
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		f.mu.Lock()
		f.requests = append(f.requests, request{r, string(body)})
		n := len(f.requests)
		f.mu.Unlock()
		checkAgainstSchema(f.t, r, string(body))
		reply := f.answer(n, r, string(body))
		if reply == hangs {
			<-f.done
			return
		}
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
		if !strings.Contains(reply, "Content-Length:") || strings.Contains(reply, "Connection: close") {
			return
		}
	}
}

type countingReader struct {
	net.Conn
	f *fakeHost
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.f.mu.Lock()
	r.f.received += int64(n)
	r.f.mu.Unlock()
	return n, err
}

func (f *fakeHost) setCert(cert tls.Certificate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cert = cert
}

func (f *fakeHost) seen() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]request(nil), f.requests...)
}

// only is the only request that the host saw.
func (f *fakeHost) only() request {
	f.t.Helper()
	seen := f.seen()
	if len(seen) != 1 {
		f.t.Fatalf("the host saw %d requests, want 1", len(seen))
	}
	return seen[0]
}

func (f *fakeHost) address() Address {
	port := netip.MustParseAddrPort(f.listener.Addr().String()).Port()
	return Address{Host: "127.0.0.1", Port: int(port)}
}

func keyPin(cert tls.Certificate) *KeyPin {
	p := peerOf(cert.Leaf)
	return &p.Key
}

// reply is an answer as pveproxy writes it.
func reply(status, body string) string {
	head := "HTTP/1.1 " + status + "\r\nServer: pve-api-daemon/3.0\r\n"
	if body != "" {
		head += "Content-Type: application/json;charset=UTF-8\r\n"
	}
	if status >= "400" {
		head += "Connection: close\r\n"
	}
	return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
}

func ok(data string) string { return reply("200 OK", `{"data":`+data+`}`) }

// always is a host that has one answer.
func always(answer string) func(int, *http.Request, string) string {
	return func(int, *http.Request, string) string { return answer }
}

// newTestClient has time limits that a test can wait for, and no pauses.
func newTestClient(t *testing.T, o Options) *Client {
	t.Helper()
	c := NewClient(o)
	SkipPauses(c)
	t.Cleanup(c.Close)
	return c
}

// pinned is a host with one answer and the client's view of it.
func pinned(t *testing.T, answer func(int, *http.Request, string) string) (*Host, *fakeHost) {
	t.Helper()
	f := newFakeHost(t, testCert, answer)
	return newTestClient(t, Options{}).Host(f.address(), Trust{Key: keyPin(testCert)}), f
}

var (
	testKey  = newKey()
	testCert = newCert(testKey, time.Now())
)

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// newCert is a self-signed certificate for 127.0.0.1 that is valid for a day from notBefore; each call makes another one.
func newCert(key *ecdsa.PrivateKey, notBefore time.Time) tls.Certificate {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "pve1", Organization: []string{"PVE Cluster Node"}},
		NotBefore:    notBefore.Add(-time.Hour),
		NotAfter:     notBefore.Add(24 * time.Hour),
		DNSNames:     []string{"pve1", "localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

const testSignature = "c2lnbmF0dXJlK3dpdGgvc2xhc2g9"

var alice = Ticket{UserID: "alice@pve", Value: "PVE:alice@pve:6B04133E::" + testSignature, CSRF: "6B04133E:Y3NyZi1kaWdlc3Q"}

func wantKind(t *testing.T, err error, kind Kind) *Error {
	t.Helper()
	if !IsKind(err, kind) {
		t.Fatalf("error %v, want kind %v", err, kind)
	}
	return err.(*Error)
}
