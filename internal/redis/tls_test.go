package redis_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/redis"
	"berth/internal/redis/redistest"
	"berth/internal/testneed"
)

// With rediss:// the server's certificate is verified.
func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	file := func(name, kind string, content []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certFile, keyFile := file("cert.pem", "CERTIFICATE", certificate), file("key.pem", "PRIVATE KEY", private)
	server := redistest.Start(t)
	_, port, err := net.SplitHostPort(testneed.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	if answer := server.Do(t, "CONFIG", "SET", "tls-cert-file", certFile, "tls-key-file", keyFile, "tls-ca-cert-file", certFile, "tls-auth-clients", "no", "tls-port", port); answer != "+OK" {
		testneed.Missing(t, "redis", "this redis-server has no TLS: "+answer)
	}
	roots := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(certificate)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(parsed)
	url := "rediss://127.0.0.1:" + port
	c, err := redis.Open(t.Context(), redis.Options{URL: url, Roots: roots, Wait: redistest.Patience, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "readiness", func() bool { return c.Ready(t.Context()) == nil })
	c.Close()
	_, err = redis.Open(t.Context(), redis.Options{URL: url, Wait: 300 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
}
