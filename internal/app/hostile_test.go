package app

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/pve"
)

// hostile is a host over real TLS that answers whatever a test wants: the simulator only fails as Proxmox VE does.
type hostile struct {
	listener net.Listener
	requests atomic.Int64
	mu       sync.Mutex
	cert     tls.Certificate
}

// newHostile starts one that listens until the test ends. The test has to be the one that the program ends with, not one of
// its parts: a port that is free again can be the next host's, whose certificate is not the one that the program knows there.
func newHostile(t testing.TB, cert tls.Certificate, handler http.Handler) *hostile {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{listener: listener, cert: cert}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.requests.Add(1)
			w.Header()["Date"] = nil // its clock is not the bench's
			handler.ServeHTTP(w, r)
		}),
		ErrorLog: log.New(io.Discard, "", 0),
	}
	over := tls.NewListener(listener, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		return &h.cert, nil
	}})
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(over) })
	t.Cleanup(func() { _ = server.Close(); running.Wait() })
	return h
}

func (h *hostile) port() int { return h.listener.Addr().(*net.TCPAddr).Port }

// fingerprint is of the certificate that new connections get.
func (h *hostile) fingerprint() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fingerprintOf(h.cert)
}

func (h *hostile) change(cert tls.Certificate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cert = cert
}

func fingerprintOf(cert tls.Certificate) string {
	return pve.Fingerprint(sha256.Sum256(cert.Leaf.Raw)).String()
}

// plausible is a host that signs everybody in, and answers everything else as after says; nil means an empty list.
func plausible(after http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		if r.URL.Path == "/api2/json/access/ticket" {
			user := r.PostFormValue("username")
			stamp := fmt.Sprintf("%08X", time.Now().Unix())
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{
				"username": user, "ticket": "PVE:" + user + ":" + stamp + "::c2lnbmF0dXJl", "CSRFPreventionToken": stamp + ":Y3NyZg",
			}})
			return
		}
		if after == nil {
			_, _ = io.WriteString(w, `{"data":[]}`)
			return
		}
		after(w, r)
	})
}
