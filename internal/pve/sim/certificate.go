package sim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// certificate is a member's pve-ssl.pem with its key.
type certificate struct {
	config *tls.Config
	leaf   *x509.Certificate
	key    *ecdsa.PrivateKey
}

// newCertificate makes a self-signed certificate for a member, with its old key if one is given. The subject looks like
// the one that pvecm updatecerts writes (PVE/Cluster/Setup.pm, gen_pve_ssl_cert), the names are those that a client on
// the same machine can use.
//
// Each certificate has a TLS configuration, hence session ticket keys, of its own: a session from before a change of
// certificate can't be resumed, as after a restart of pveproxy.
func newCertificate(name string, now time.Time, key *ecdsa.PrivateKey) (*certificate, error) {
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject: pkix.Name{
			OrganizationalUnit: []string{"PVE Cluster Node"},
			Organization:       []string{"Proxmox Virtual Environment"},
			CommonName:         name,
		},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost", name},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &certificate{
		config: &tls.Config{
			MinVersion:   tls.VersionTLS12,
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}},
		},
		leaf: leaf,
		key:  key,
	}, nil
}

// fingerprint is the SHA-256 fingerprint as PVE shows it: upper-case pairs joined by colons.
func (c *certificate) fingerprint() string {
	sum := sha256.Sum256(c.leaf.Raw)
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(pairs, ":")
}
