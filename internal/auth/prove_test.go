package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"berth/internal/fault"
	"berth/internal/pve"
)

// presents serves TLS handshakes under a certificate for names, the first of them its common name, and returns where, with
// its fingerprint.
func presents(t *testing.T, common string, names ...string) (pve.Address, pve.Fingerprint) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: common}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake() // the client hangs up after it
			conn.Close()
		}
	}()
	return pve.Address{Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port}, pve.Fingerprint(sha256.Sum256(der))
}

// TestAbuseSharedCertificateProvesNothing: a certificate that two installations could present, because it is for many names,
// opens no datacenter, though a member names it as its own. Nor does one that no member names.
func TestAbuseSharedCertificateProvesNothing(t *testing.T) {
	hosts := NewHosts(HostsOptions{Client: pve.NewClient(pve.Options{}), Now: time.Now})
	own, ownPrint := presents(t, "pve2", "pve2.lan", "pve2")
	shared, sharedPrint := presents(t, "pve2", "pve2.lan", "*.lan")
	common, commonPrint := presents(t, "*.lan")
	stranger, _ := presents(t, "pve2", "pve2.lan", "pve2")
	named := map[pve.Fingerprint]bool{ownPrint: true, sharedPrint: true, commonPrint: true}
	if peer, _, err := hosts.prove(t.Context(), own, named); err != nil || peer.Fingerprint != ownPrint {
		t.Errorf("the certificate of one member: %v", err)
	}
	for name, at := range map[string]pve.Address{"for many names": shared, "for many names by its common name": common, "that no member names": stranger} {
		_, _, err := hosts.prove(t.Context(), at, named)
		var f *fault.Error
		if !errors.As(err, &f) || f.Code != "host_not_proven" {
			t.Errorf("a certificate %s: %v, want host_not_proven", name, err)
		}
	}
}
