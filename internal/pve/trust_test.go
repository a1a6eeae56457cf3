package pve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestFingerprintText(t *testing.T) {
	var f Fingerprint
	for i := range f {
		f[i] = byte(i * 7)
	}
	text := f.String()
	if len(text) != 95 || !strings.HasPrefix(text, "00:07:0E:15:") {
		t.Fatalf("String() = %s", text)
	}
	for _, s := range []string{text, strings.ToLower(text), strings.ReplaceAll(text, ":", ""), strings.ReplaceAll(text, ":", " "), " " + text + " "} {
		if got, err := ParseFingerprint(s); err != nil || got != f {
			t.Errorf("ParseFingerprint(%q) = %v, %v", s, got, err)
		}
		if got, err := ParseKeyPin(s); err != nil || got != KeyPin(f) {
			t.Errorf("ParseKeyPin(%q) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "AB", text + ":00", text[:93], strings.Repeat("G", 64), strings.Repeat("AB:", 1<<16)} {
		if _, err := ParseFingerprint(s); err == nil {
			t.Errorf("ParseFingerprint(%.80q) has no error", s)
		}
	}
}

// TestUnknownCertificate: the fingerprint comes back, the password stays here.
func TestUnknownCertificate(t *testing.T) {
	f := newFakeHost(t, testCert, always(ok(`{}`)))
	c := newTestClient(t, Options{Roots: x509.NewCertPool()})
	h := c.Host(f.address(), Trust{})
	_, err := h.SignIn(t.Context(), "alice@pve", "secret")
	e := wantKind(t, err, KindCertificate)
	var certificate *CertificateError
	if !errors.As(err, &certificate) || certificate.Changed() {
		t.Fatalf("the cause is %v", e.Cause)
	}
	if certificate.Peer.Fingerprint != peerOf(testCert.Leaf).Fingerprint {
		t.Error("not the fingerprint of the host's certificate")
	}
	if !strings.Contains(certificate.Peer.Subject, "pve1") || len(certificate.Peer.DNSNames) != 2 || len(certificate.Peer.IPAddresses) != 1 {
		t.Errorf("peer %+v", certificate.Peer)
	}
	if _, err := h.Domains(t.Context()); !IsKind(err, KindCertificate) { // a GET isn't repeated either
		t.Errorf("GET: %v", err)
	}
	nothingSent(t, f, 2)
	if _, ok := h.Peer(); ok {
		t.Error("a refused certificate became the host's peer")
	}

	// What the visitor confirmed is accepted, for this trust and no other.
	confirmed := c.Host(f.address(), Trust{Certificate: &certificate.Peer.Fingerprint})
	if _, err := confirmed.Domains(t.Context()); IsKind(err, KindCertificate) {
		t.Errorf("confirmed: %v", err)
	}
	if peer, ok := confirmed.Peer(); !ok || peer.Key != certificate.Peer.Key {
		t.Errorf("peer %v, %v", peer, ok)
	}
	if _, err := h.Domains(t.Context()); !IsKind(err, KindCertificate) {
		t.Errorf("the confirmation leaked to the plain host: %v", err)
	}
}

func nothingSent(t *testing.T, f *fakeHost, connections int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.received != 0 || len(f.requests) != 0 {
		t.Errorf("the host got %d bytes and %d requests", f.received, len(f.requests))
	}
	if f.accepted != connections {
		t.Errorf("the host saw %d connections, want %d", f.accepted, connections)
	}
}

func TestRoots(t *testing.T) {
	roots := x509.NewCertPool()
	roots.AddCert(testCert.Leaf)
	f := newFakeHost(t, testCert, always(ok(`[]`)))
	c := newTestClient(t, Options{Roots: roots})
	if _, err := c.Host(f.address(), Trust{}).Domains(t.Context()); err != nil {
		t.Errorf("trusted by the roots: %v", err)
	}
	byName := c.Host(Address{Host: "localhost", Port: f.address().Port}, Trust{})
	if _, err := byName.Domains(t.Context()); err != nil {
		t.Errorf("by a name of the certificate: %v", err)
	}

	// The dates are judged by the clock that was given.
	later := newTestClient(t, Options{Roots: roots, Now: func() time.Time { return time.Now().Add(48 * time.Hour) }})
	_, err := later.Host(f.address(), Trust{}).Domains(t.Context())
	wantKind(t, err, KindCertificate)
	// A pin outranks roots and dates.
	if _, err := later.Host(f.address(), Trust{Key: keyPin(testCert)}).Domains(t.Context()); err != nil {
		t.Errorf("pinned and expired: %v", err)
	}
	// A certificate that the roots vouch for is refused where the pin says another.
	other := peerOf(newCert(newKey(), time.Now()).Leaf)
	_, err = c.Host(f.address(), Trust{Key: &other.Key}).Domains(t.Context())
	wantKind(t, err, KindCertificate)
}

func TestWrongName(t *testing.T) {
	cert := newCert(testKey, time.Now())
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	f := newFakeHost(t, cert, always(ok(`[]`)))
	h := newTestClient(t, Options{Roots: roots}).Host(Address{Host: "localhost.localdomain", Port: f.address().Port}, Trust{})
	if err := h.verify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}); err == nil {
		t.Error("a certificate for other names was accepted")
	}
}

// TestChangedCertificate: a new certificate with the pinned key is accepted on the next connection, another key is not,
// and sees nothing of the request.
func TestChangedCertificate(t *testing.T) {
	f := newFakeHost(t, testCert, always(reply("200 OK\r\nConnection: close", `{"data":[]}`)))
	c := newTestClient(t, Options{Roots: x509.NewCertPool()})
	first := peerOf(testCert.Leaf)
	byKey := c.Host(f.address(), Trust{Key: &first.Key})
	exact := c.Host(f.address(), Trust{Certificate: &first.Fingerprint})
	both := c.Host(f.address(), Trust{Key: &first.Key, Certificate: &first.Fingerprint})
	for _, h := range []*Host{byKey, exact, both} {
		if _, err := h.Domains(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	f.setCert(newCert(testKey, time.Now()))
	if _, err := byKey.Domains(t.Context()); err != nil {
		t.Errorf("renewed with the same key: %v", err)
	}
	if peer, _ := byKey.Peer(); peer.Fingerprint == first.Fingerprint || peer.Key != first.Key {
		t.Error("the host's peer is still the old certificate")
	}
	for _, h := range []*Host{exact, both} {
		_, err := h.Domains(t.Context())
		wantKind(t, err, KindCertificate)
	}

	f.setCert(newCert(newKey(), time.Now()))
	f.mu.Lock()
	before := f.received
	f.mu.Unlock()
	_, err := byKey.SignIn(t.Context(), "alice@pve", "secret")
	wantKind(t, err, KindCertificate)
	var certificate *CertificateError
	if !errors.As(err, &certificate) || !certificate.Changed() || *certificate.Trust.Key != first.Key || certificate.Peer.Key == first.Key {
		t.Errorf("%+v", certificate)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.received != before {
		t.Errorf("the changed host got %d bytes", f.received-before)
	}
}

func TestHandshake(t *testing.T) {
	f := newFakeHost(t, testCert, always(ok(`[]`)))
	h := newTestClient(t, Options{}).Host(f.address(), Trust{Key: keyPin(testCert)})
	peer, err := h.Handshake(t.Context())
	if err != nil || peer.Fingerprint != peerOf(testCert.Leaf).Fingerprint {
		t.Fatalf("%v, %v", peer, err)
	}
	nothingSent(t, f, 1)
}

// TestStolenCertificate: showing somebody's certificate without its key completes no handshake.
func TestStolenCertificate(t *testing.T) {
	stolen := testCert
	stolen.PrivateKey = newKey()
	f := newFakeHost(t, stolen, always(ok(`[]`)))
	h := newTestClient(t, Options{}).Host(f.address(), Trust{Key: keyPin(testCert)})
	if _, err := h.SignIn(t.Context(), "alice@pve", "secret"); err == nil {
		t.Fatal("signed in")
	}
	nothingSent(t, f, 1)
	if _, ok := h.Peer(); ok {
		t.Error("an unfinished handshake became the host's peer")
	}
}

// TestTrustIsCopied: moving a pin that a caller still holds doesn't move the trust of a pooled connection.
func TestTrustIsCopied(t *testing.T) {
	f := newFakeHost(t, testCert, always(ok(`[]`)))
	c := newTestClient(t, Options{})
	pin := *keyPin(testCert)
	h := c.Host(f.address(), Trust{Key: &pin})
	pin = KeyPin{}
	if _, err := h.Domains(t.Context()); err != nil {
		t.Error(err)
	}
	if c.Host(f.address(), Trust{Key: &pin}) == h {
		t.Error("another pin has the same connections")
	}
}
