package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"berth/internal/config"
	"berth/internal/pve"
)

// A certificate of Berth's own lives as long as browsers accept one, and is made anew a month before its end.
const (
	selfLife  = 825 * 24 * time.Hour
	selfRenew = 30 * 24 * time.Hour
)

// serverTLS is what to serve with, or nil for plain HTTP; the fingerprint is only told of a certificate made here.
func serverTLS(settings config.Settings, now func() time.Time) (*tls.Config, string, error) {
	var pair tls.Certificate
	var shown string
	switch {
	case settings.Certificate != nil:
		pair = *settings.Certificate
	case settings.SelfTLS:
		var err error
		if pair, err = selfCertificate(settings.Data, now()); err != nil {
			return nil, "", err
		}
		shown = pve.Fingerprint(sha256.Sum256(pair.Certificate[0])).String()
	default:
		return nil, "", nil
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}, shown, nil
}

// selfCertificate is the certificate in the data folder, or a new one if there is none or its end is near.
func selfCertificate(folder string, now time.Time) (tls.Certificate, error) {
	path := filepath.Join(folder, "tls-self.pem")
	if pair, err := tls.LoadX509KeyPair(path, path); err == nil && now.Before(pair.Leaf.NotAfter.Add(-selfRenew)) {
		return pair, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// People may have compared its fingerprint, so it is not silently replaced.
		return tls.Certificate{}, fmt.Errorf("cannot use the certificate that Berth made, %s: %w; remove it to have a new one made", path, reason(err))
	}
	text, err := newCertificate(now)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cannot make a certificate: %w", err)
	}
	draft := path + ".new"
	err = os.WriteFile(draft, text, 0o600)
	if err == nil {
		err = os.Rename(draft, path)
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cannot keep the certificate that Berth made in %s: %w", path, reason(err))
	}
	return tls.X509KeyPair(text, text)
}

// newCertificate makes a certificate for all that this machine is called, with its key behind it, in PEM form.
func newCertificate(now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"Berth"}, CommonName: "Berth"},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.Add(selfLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if name, err := os.Hostname(); err == nil && name != "" {
		template.DNSNames = append(template.DNSNames, name)
	}
	if local, err := net.InterfaceAddrs(); err == nil {
		for _, a := range local {
			if prefix, ok := a.(*net.IPNet); ok && prefix.IP.IsGlobalUnicast() {
				template.IPAddresses = append(template.IPAddresses, prefix.IP)
			}
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...), nil
}
