package pve

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// echoed is in every secret below, told apart from all else by its letters and digits alone.
const echoed = "unter2Correct"

// echoes tells whether a text has the secret, whatever else stands between its characters or before the last of them.
func echoes(text string) bool {
	return strings.Contains(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, text), strings.TrimPrefix(echoed, "un"))
}

// wantNoEcho looks at all that can be written of an error: its text, those of its causes, and a line of the log.
func wantNoEcho(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	var log bytes.Buffer
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	slog.New(slog.NewTextHandler(&log, options)).Debug("x", "err", err)
	slog.New(slog.NewJSONHandler(&log, options)).Debug("x", "err", err)
	if echoes(log.String()) {
		t.Errorf("%s: the log has the secret: %s", what, log.String())
	}
	if text := fmt.Sprintf("%v %+v", err, err); echoes(text) {
		t.Errorf("%s: the error has the secret: %s", what, text)
	}
	for left := []error{err}; len(left) > 0; left = left[1:] {
		// A refused certificate's cause is for code to look at, by its type; CertificateError has the text.
		if _, ok := left[0].(*CertificateError); ok {
			continue
		}
		switch e := left[0].(type) {
		case interface{ Unwrap() error }:
			if cause := e.Unwrap(); cause != nil {
				left = append(left, cause)
			}
		case interface{ Unwrap() []error }:
			left = append(left, e.Unwrap()...)
		}
		if echoes(left[0].Error()) {
			t.Errorf("%s: the cause has the secret: %s", what, left[0])
		}
	}
	var e *Error
	if errors.As(err, &e) && echoes(fmt.Sprint(e.Op, e.Reason, e.Message, e.Fields)) {
		t.Errorf("%s: %+v", what, e)
	}
}

// TestAbuseHostEchoesSecrets: a host that sends back what it was sent in secret, anywhere in its answer and thinly
// disguised, gets it into no error and so into no log.
func TestAbuseHostEchoesSecrets(t *testing.T) {
	const password = "H" + echoed + "9"
	ticket := Ticket{UserID: "alice@pve", Value: "PVE:alice@pve:6B04133E::H" + echoed, CSRF: "6B04133E:H" + echoed + "8"}
	token := Token{ID: "alice@pve!dash", Secret: "h" + echoed}
	calls := map[string]struct {
		secret string
		call   func(*Host) error
	}{
		"sign-in": {password, func(h *Host) error { _, err := h.SignIn(t.Context(), "alice@pve", password); return err }},
		"renewal": {ticket.Value, func(h *Host) error { _, err := h.Renew(t.Context(), ticket); return err }},
		"ticket":  {ticket.Value, func(h *Host) error { _, err := h.Nodes(t.Context(), ticket); return err }},
		"CSRF token": {ticket.CSRF, func(h *Host) error {
			_, err := h.Change(t.Context(), ticket, "pve1", 101, ActionStart, ChangeOptions{})
			return err
		}},
		"token": {token.Secret, func(h *Host) error { _, err := h.Version(t.Context(), token); return err }},
		"code": {"H" + echoed, func(h *Host) error {
			_, err := h.AnswerChallenge(t.Context(), testChallenge, FactorYubico, "H"+echoed)
			return err
		}},
		"provider's code": {"H" + echoed, func(h *Host) error {
			_, err := h.OpenIDLogin(t.Context(), "state", "H"+echoed, "https://berth.example.org/login/openid")
			return err
		}},
	}
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
	answers := map[string]func(secret string) string{
		"response":      func(s string) string { return s + "\r\n\r\n" },
		"version":       func(s string) string { return s + " 200 OK\r\n\r\n" },
		"status code":   func(s string) string { return "HTTP/1.1 " + s + " x\r\n\r\n" },
		"no colon":      func(s string) string { return "HTTP/1.1 200 OK\r\n" + s + "\r\n\r\n" },
		"first header":  func(s string) string { return "HTTP/1.1 200 OK\r\n " + s + ": x\r\n\r\n" },
		"header's name": func(s string) string { return "HTTP/1.1 200 OK\r\n" + s + " x: y\r\n\r\n" },
		"length":        func(s string) string { return "HTTP/1.1 200 OK\r\nContent-Length: " + s + "\r\n\r\n" },
		"lengths": func(s string) string {
			return "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: " + s + "\r\n\r\n"
		},
		"transfer encoding": func(s string) string { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + s + "\r\n\r\n" },
		"chunk's length":    func(s string) string { return chunked + "\r\n" + s + "\r\n" },
		"trailer's name":    func(s string) string { return chunked + "Trailer: " + s + ", Content-Length\r\n\r\n0\r\n\r\n" },
		"trailer":           func(s string) string { return chunked + "\r\n0\r\n" + s + "\r\n\r\n" },
		"interim answers":   func(s string) string { return strings.Repeat("HTTP/1.1 103 "+s+"\r\nX: "+s+"\r\n\r\n", 10) },
		"other protocol": func(s string) string {
			return "HTTP/1.1 101 " + s + "\r\nUpgrade: " + s + "\r\nConnection: upgrade\r\n\r\n"
		},
		"redirect": func(s string) string {
			return "HTTP/1.1 301 x\r\nLocation: https://" + s + "/\r\nContent-Length: 0\r\n\r\n"
		},
		"headers": func(s string) string { return "HTTP/1.1 400 x\r\nDate: " + s + "\r\nContent-Type: " + s + "\r\n\r\n" },
		"text":    func(s string) string { return reply("200 OK", s) },
		"data": func(s string) string {
			return ok(`{"username":"` + s + `","ticket":"` + s + `","CSRFPreventionToken":"` + s + `"}`)
		},
		"reason":         func(s string) string { return reply("500 "+s, "") },
		"message":        func(s string) string { return reply("401 x", `{"data":null,"message":"so `+s+`!"}`) },
		"parameter":      func(s string) string { return reply("400 x", `{"errors":{"a":"`+s+`","`+s+`":"b"}}`) },
		"hidden refusal": func(s string) string { return reply("200 OK", `{"success":0,"data":null,"message":"`+s+`"}`) },
	}
	between := func(sep string) func(string) string {
		return func(s string) string { return strings.Join(strings.Split(s, ""), sep) }
	}
	disguises := map[string]func(string) string{
		"as it is":           func(s string) string { return s },
		"zero-width space":   func(s string) string { return s[:4] + "\u200b" + s[4:] },
		"between all":        between("\u200b"),
		"blanks":             between(" "),
		"no-break spaces":    between("\u00a0"),
		"soft hyphens":       between("\u00ad"),
		"variation selector": between("\ufe0f"),
		"joiners":            between("\u034f"),
		"Hangul fillers":     between("\u3164"),
		"Braille blanks":     between("\u2800"),
		"direction":          between("\u202e"),
		"no UTF-8":           between("\xff"),
		"escapes":            strings.NewReplacer("u", "%75", "n", "%6E", ":", "%3a").Replace,
	}
	for disguise, dress := range disguises {
		t.Run(disguise, func(t *testing.T) {
			for name, c := range calls {
				for place, answer := range answers {
					h, f := pinned(t, always(answer(dress(c.secret))))
					wantNoEcho(t, name+", "+place, c.call(h))
					if len(f.seen()) == 0 {
						t.Errorf("%s, %s: nothing was sent, so this shows nothing", name, place)
					}
					h.client.Close()
				}
			}
		})
	}
}

// certFor is a self-signed certificate for names.
func certFor(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	key := newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	for range 3 * maxPeerNames {
		template.IPAddresses = append(template.IPAddresses, net.IPv4(127, 0, 0, 1))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestAbuseCertificateEchoesSecrets: nor by a certificate that has the password for a name.
func TestAbuseCertificateEchoesSecrets(t *testing.T) {
	cert := certFor(t, "H"+echoed+"9.example")
	f := newFakeHost(t, cert, always(ok(`{}`)))
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	for why, c := range map[string]struct {
		roots *x509.CertPool
		host  string
	}{"for other names": {roots, "localhost"}, "no known authority": {x509.NewCertPool(), "127.0.0.1"}} {
		h := newTestClient(t, Options{Roots: c.roots}).Host(Address{Host: c.host, Port: f.address().Port}, Trust{})
		_, err := h.SignIn(t.Context(), "alice@pve", "H"+echoed+"9")
		if e := wantKind(t, err, KindCertificate); !strings.Contains(e.Error(), why) {
			t.Errorf("%v, want %s", e, why)
		}
		wantNoEcho(t, why, err)
	}
}

// TestAbuseCertificateOfManyNames: of a certificate with thousands of names a hundred are kept while somebody may look at
// them, none with the host, and a pattern is noticed wherever it stands.
func TestAbuseCertificateOfManyNames(t *testing.T) {
	names := make([]string, 8000)
	for i := range names {
		names[i] = fmt.Sprintf("name%d.of.many.example", i)
	}
	names[len(names)-1] = "*.example"
	cert := certFor(t, names...)
	f := newFakeHost(t, cert, always(ok(`[]`)))
	c := newTestClient(t, Options{Roots: x509.NewCertPool()})

	_, err := c.Host(f.address(), Trust{}).Handshake(t.Context())
	var unknown *CertificateError
	if !errors.As(err, &unknown) {
		t.Fatal(err)
	}
	h := c.Host(f.address(), Trust{Key: &unknown.Peer.Key})
	shown, err := h.Handshake(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []Peer{unknown.Peer, shown} {
		if len(p.DNSNames) != maxPeerNames || len(p.IPAddresses) != maxPeerNames || p.DNSNames[0] != names[0] || !p.Wildcard {
			t.Errorf("%d names, %d addresses, a pattern: %t", len(p.DNSNames), len(p.IPAddresses), p.Wildcard)
		}
	}
	if kept, ok := h.Peer(); !ok || kept.DNSNames != nil || kept.IPAddresses != nil || kept.Key != unknown.Peer.Key || !kept.Wildcard {
		t.Errorf("the host keeps %d names", len(kept.DNSNames))
	}
	if peerOf(testCert.Leaf).Wildcard {
		t.Error("a pattern where there is none")
	}
}
