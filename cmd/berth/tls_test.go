package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// trusting makes a browser accept the certificates in a file, and nothing else.
func (b *browser) trusting(file string) *browser {
	b.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		b.t.Fatalf("%s holds no certificate", file)
	}
	b.http.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	return b
}

func TestOwnCertificate(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	host := newHost(t)
	s := serve(t, folder, "--tls", "self")
	logged := s.await(s.err, `compare its SHA-256 fingerprint in the browser" fingerprint=([0-9A-F:]{95})`)
	if !strings.HasPrefix(s.url, "https://127.0.0.1:") {
		t.Fatalf("serves on %s", s.url)
	}
	file := filepath.Join(folder, "tls-self.pem")
	b := newBrowser(t, s.url).trusting(file)
	resp := b.signIn(credentials(t, host.Address(), host.Fingerprint(), "alice@pve"))
	sum := sha256.Sum256(resp.TLS.PeerCertificates[0].Raw)
	if shown := strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":"); shown != logged {
		t.Errorf("shows %s, and logged %s", shown, logged)
	}
	cookies := resp.Cookies()
	if len(cookies) != 1 || cookies[0].Name != "lxc-session" || !cookies[0].Secure || !cookies[0].HttpOnly {
		t.Errorf("cookies %v, want the session's alone, Secure and HttpOnly", cookies)
	}
	for _, path := range []string{"/", "/login", "/healthz", "/static/nothing"} {
		resp, _ := b.do("GET", path, nil)
		if hsts := resp.Header.Get("Strict-Transport-Security"); !strings.Contains(hsts, "max-age=31536000") {
			t.Errorf("%s: Strict-Transport-Security %q", path, hsts)
		}
		if resp.ProtoMajor != 2 {
			t.Errorf("%s: served by %s", path, resp.Proto)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v, want mode 0600", file, info, err)
	}
	s.stop()

	// The fingerprint that people have compared stays.
	s = serve(t, folder, "--tls", "self")
	if again := s.await(s.err, `fingerprint=([0-9A-F:]{95})`); again != logged {
		t.Errorf("after a restart the fingerprint is %s, before it was %s", again, logged)
	}
	if !b.at(s.url).signedIn() {
		t.Error("the session did not survive")
	}
	s.stop()

	if err := os.WriteFile(file, []byte("spoiled"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := refused(t, nil, "serve", "--listen", "127.0.0.1:0", "--data", folder, "--tls", "self"); !oneSentence(said, file) {
		t.Errorf("a spoiled certificate: %q, want one sentence that names %s", said, file)
	}
	if text, err := os.ReadFile(file); err != nil || !bytes.Equal(text, []byte("spoiled")) {
		t.Errorf("a spoiled certificate was replaced: %q, %v", text, err)
	}
}

// newCertificate writes a certificate for loopback and its key into files.
func newCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "berth.lan"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	certificate, key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	for path, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

func TestGivenCertificate(t *testing.T) {
	t.Parallel()
	certificate, key := newCertificate(t)
	// The variable is another way to give the flag, and the one with _FILE says what is in it.
	s := serveWith(t, []string{"BERTH_TLS_CERT=" + certificate, "BERTH_TLS_KEY_FILE=" + key}, "--listen", "127.0.0.1:0", "--data", t.TempDir())
	resp, _ := newBrowser(t, s.url).trusting(certificate).do("GET", "/healthz", nil)
	if resp.StatusCode != http.StatusOK || resp.TLS.PeerCertificates[0].Subject.CommonName != "berth.lan" {
		t.Errorf("%d with the certificate of %s", resp.StatusCode, resp.TLS.PeerCertificates[0].Subject)
	}
	if strings.Contains(s.err.String(), "fingerprint=") {
		t.Errorf("speaks of a certificate of its own: %s", s.err)
	}
	s.stop()
}

func TestCertificateThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	certificate, key := newCertificate(t)
	_, otherKey := newCertificate(t)
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ args, want []string }{
		"no such file":   {[]string{"--tls-cert", "/nowhere/cert.pem", "--tls-key", key}, []string{"--tls-cert (BERTH_TLS_CERT)", "/nowhere/cert.pem", "no such file"}},
		"no such key":    {[]string{"--tls-cert", certificate, "--tls-key", "/nowhere/key.pem"}, []string{"--tls-", "/nowhere/key.pem", "no such file"}},
		"garbage":        {[]string{"--tls-cert", garbage, "--tls-key", key}, []string{"--tls-cert (BERTH_TLS_CERT)", garbage}},
		"a garbage key":  {[]string{"--tls-cert", certificate, "--tls-key", garbage}, []string{"--tls-", garbage}},
		"another key":    {[]string{"--tls-cert", certificate, "--tls-key", otherKey}, []string{"--tls-", certificate, otherKey}},
		"no key at all":  {[]string{"--tls-cert", certificate}, []string{"--tls-key (BERTH_TLS_KEY)"}},
		"a key alone":    {[]string{"--tls-key", key}, []string{"--tls-cert (BERTH_TLS_CERT)"}},
		"both ways":      {[]string{"--tls", "self", "--tls-cert", certificate, "--tls-key", key}, []string{"--tls (BERTH_TLS)"}},
		"a folder":       {[]string{"--tls-cert", t.TempDir(), "--tls-key", key}, []string{"--tls-cert (BERTH_TLS_CERT)", "is a directory"}},
		"an unknown way": {[]string{"--tls", "yes"}, []string{"--tls (BERTH_TLS)", `"yes"`, "self"}},
	} {
		said := refused(t, nil, append([]string{"serve", "--listen", "127.0.0.1:0", "--data", t.TempDir()}, test.args...)...)
		if !oneSentence(said, test.want...) || strings.Contains(said, "hunter2") {
			t.Errorf("%s: said %q, want one sentence with %q", name, said, test.want)
		}
	}
}
