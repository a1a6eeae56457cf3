package pve

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Fingerprint is the SHA-256 of a certificate, what the Proxmox VE web UI and `pvenode cert info` show.
type Fingerprint [sha256.Size]byte

// KeyPin is the SHA-256 of a certificate's SubjectPublicKeyInfo: it survives a renewal that keeps the key.
type KeyPin [sha256.Size]byte

// String is the text that people compare: AB:CD:...
func (f Fingerprint) String() string { return colonHex(f) }

// String has the form of a fingerprint: AB:CD:...
func (p KeyPin) String() string { return colonHex(p) }

// ParseFingerprint reads a fingerprint in any usual spelling: upper or lower case, with or without colons and spaces.
func ParseFingerprint(s string) (Fingerprint, error) {
	sum, err := parseColonHex(s)
	return Fingerprint(sum), err
}

// ParseKeyPin reads what KeyPin.String wrote, as tolerantly as ParseFingerprint.
func ParseKeyPin(s string) (KeyPin, error) {
	sum, err := parseColonHex(s)
	return KeyPin(sum), err
}

func colonHex(sum [sha256.Size]byte) string {
	var b strings.Builder
	for i, c := range sum {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", c)
	}
	return b.String()
}

var errFingerprint = errors.New("not a SHA-256 fingerprint: 32 bytes in hexadecimal expected")

func parseColonHex(s string) (sum [sha256.Size]byte, err error) {
	if len(s) > 256 {
		return sum, errFingerprint
	}
	digits := strings.NewReplacer(":", "", " ", "").Replace(s)
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != len(sum) {
		return sum, errFingerprint
	}
	return [sha256.Size]byte(raw), nil
}

// Trust is what a connection accepts. The zero value accepts a certificate that verifies for the host's name or address
// against the roots (Options.Roots, else the system's). A pin outranks the roots: with one the certificate's names, dates
// and issuer decide nothing, which Peer shows to whoever wants to warn. Where both are set, both must hold.
//
// The contents that the pointers point to must not change while the Trust is in use.
type Trust struct {
	// Key accepts every certificate with this public key, so a renewed one too.
	Key *KeyPin
	// Certificate accepts exactly this certificate: for the one attempt whose fingerprint a visitor confirmed.
	Certificate *Fingerprint
}

// Peer is what a host showed of itself in the TLS handshake.
type Peer struct {
	Fingerprint Fingerprint
	Key         KeyPin
	NotBefore   time.Time
	NotAfter    time.Time
	Subject     string       // bounded, without control characters
	Issuer      string       // as Subject
	DNSNames    []string     // the first 100, each bounded
	IPAddresses []netip.Addr // the first 100
	// Wildcard tells whether any name of the certificate is a pattern, its common names and those beyond the first 100 included.
	Wildcard bool
}

// maxPeerNames bounds the names that are kept of a certificate, which may be 256 KiB long (crypto/tls).
const maxPeerNames = 100

// CertificateError says that a host's certificate isn't trusted. It is the cause of errors of KindCertificate; nothing
// was sent to that host but the TLS handshake. Peer is what the host showed: a claim, not proven by a finished handshake.
type CertificateError struct {
	Peer  Peer
	Trust Trust
	Cause error
}

// Changed tells a certificate other than the expected one (a pin that doesn't match) from one that is merely unknown.
func (e *CertificateError) Changed() bool { return e.Trust.Key != nil || e.Trust.Certificate != nil }

func (e *CertificateError) Error() string {
	if e.Changed() {
		return "certificate " + e.Peer.Fingerprint.String() + " is not the expected one"
	}
	return "certificate " + e.Peer.Fingerprint.String() + " is unknown: " + untrusted(e.Cause)
}

// untrusted says why a certificate does not verify. The texts of crypto/x509 are not used: they quote the certificate, in
// which a host can write what it likes.
func untrusted(err error) string {
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &name):
		return "it is for other names"
	case errors.As(err, &authority):
		return "no known authority has signed it"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it has expired or is not yet valid"
	}
	return "it does not verify"
}

func (e *CertificateError) Unwrap() error { return e.Cause }

var errPin = errors.New("the certificate does not match the pin")

// verify is the whole check of a host's certificate. crypto/tls calls it as VerifyConnection: on every connection,
// resumed or not, before anything but the handshake is sent.
func (h *Host) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the host showed no certificate")
	}
	leaf := state.PeerCertificates[0]
	peer := peerOf(leaf)
	if h.trust.Key != nil || h.trust.Certificate != nil {
		if (h.trust.Key != nil && *h.trust.Key != peer.Key) ||
			(h.trust.Certificate != nil && *h.trust.Certificate != peer.Fingerprint) {
			return &CertificateError{Peer: peer, Trust: h.trust, Cause: errPin}
		}
		return nil
	}
	intermediates := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		DNSName:       h.address.Host,
		Roots:         h.client.options.Roots,
		Intermediates: intermediates,
		CurrentTime:   h.client.options.Now(),
	})
	if err != nil {
		return &CertificateError{Peer: peer, Trust: h.trust, Cause: err}
	}
	return nil
}

func wildcard(c *x509.Certificate) bool {
	hasStar := func(name string) bool { return strings.Contains(name, "*") }
	if slices.ContainsFunc(c.DNSNames, hasStar) {
		return true
	}
	// A subject may hold several common names, of which CommonName is only the last one.
	return slices.ContainsFunc(c.Subject.Names, func(n pkix.AttributeTypeAndValue) bool {
		text, ok := n.Value.(string)
		return ok && n.Type.Equal(commonName) && hasStar(text)
	})
}

// commonName is id-at-commonName (RFC 5280, appendix A.1).
var commonName = asn1.ObjectIdentifier{2, 5, 4, 3}

func peerOf(c *x509.Certificate) Peer {
	p := Peer{
		Fingerprint: sha256.Sum256(c.Raw),
		Key:         sha256.Sum256(c.RawSubjectPublicKeyInfo),
		NotBefore:   c.NotBefore,
		NotAfter:    c.NotAfter,
		Subject:     printable(c.Subject.String(), maxMessage),
		Issuer:      printable(c.Issuer.String(), maxMessage),
	}
	p.Wildcard = wildcard(c)
	for _, name := range c.DNSNames[:min(len(c.DNSNames), maxPeerNames)] {
		p.DNSNames = append(p.DNSNames, printable(name, maxNameLength))
	}
	for _, ip := range c.IPAddresses[:min(len(c.IPAddresses), maxPeerNames)] {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			p.IPAddresses = append(p.IPAddresses, addr.Unmap())
		}
	}
	return p
}
