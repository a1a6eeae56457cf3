package client

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Fingerprint is the SHA-256 of a certificate.
type Fingerprint [sha256.Size]byte

// String writes it as browsers and Berth's log do: AB:CD:...
func (f Fingerprint) String() string {
	parts := make([]string, len(f))
	for i, b := range f {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

// ParseFingerprint reads 64 hexadecimal digits, with or without colons.
func ParseFingerprint(text string) (Fingerprint, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), ":", ""))
	if err != nil || len(raw) != len(Fingerprint{}) {
		return Fingerprint{}, errors.New("a fingerprint must be the 32 bytes of a SHA-256 in hexadecimal")
	}
	return Fingerprint(raw), nil
}

// CertificateError says that a Berth presented a certificate that is not accepted. Nothing was sent to it.
type CertificateError struct {
	Presented Fingerprint
	// Pinned is the one that it is known by; nil if the system's roots were to vouch for it.
	Pinned *Fingerprint
	Cause  error
}

func (e *CertificateError) Error() string {
	if e.Pinned != nil {
		return fmt.Sprintf("Berth presents another certificate than the one that it is known by, so nothing was sent to it.\nknown:     %s\npresented: %s", e.Pinned, e.Presented)
	}
	return fmt.Sprintf("nobody vouches for Berth's certificate, so nothing was sent to it (%v)", e.Cause)
}

// Unwrap is the cause.
func (e *CertificateError) Unwrap() error { return e.Cause }

func tlsConfig(pin *Fingerprint) *tls.Config {
	if pin == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// Verified below, on every connection, by what was confirmed in place of what others vouch for.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			presented := Fingerprint(sha256.Sum256(state.PeerCertificates[0].Raw))
			if presented != *pin {
				return &CertificateError{Presented: presented, Pinned: pin}
			}
			return nil
		},
	}
}

// unverified is the error of a certificate that the roots don't vouch for, or that is for another name; nil for any other.
func unverified(err error) *CertificateError {
	var failed *tls.CertificateVerificationError
	if !errors.As(err, &failed) || len(failed.UnverifiedCertificates) == 0 {
		return nil
	}
	cause := failed.Err
	var name x509.HostnameError
	if errors.As(cause, &name) {
		cause = errors.New("it is for another name")
	}
	return &CertificateError{Presented: sha256.Sum256(failed.UnverifiedCertificates[0].Raw), Cause: cause}
}
