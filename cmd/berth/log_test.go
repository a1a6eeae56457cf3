package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve"
)

// TestAbuseUnaskedAnswersInTheLog: a host that sends the password back on a connection on which nothing was asked gets it
// into no log, at no level: net/http writes such bytes to the standard one.
func TestAbuseUnaskedAnswersInTheLog(t *testing.T) {
	const password = "Hunter2Correct9"
	before, flags, writer := slog.Default(), log.Flags(), log.Writer()
	t.Cleanup(func() { slog.SetDefault(before); log.SetFlags(flags); log.SetOutput(writer) })

	// Only for its certificate.
	web := httptest.NewTLSServer(http.NotFoundHandler())
	web.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: web.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	hungUp := make(chan struct{}, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			reader := bufio.NewReader(conn)
			if r, err := http.ReadRequest(reader); err == nil && r.ParseForm() == nil {
				said := r.PostFormValue("password")
				fmt.Fprintf(conn, "HTTP/1.1 401 no\r\nContent-Length: 0\r\n\r\n%s\r\n", said)
				_, _ = io.Copy(io.Discard, reader)
				hungUp <- struct{}{}
			}
			_ = conn.Close()
		}
	}()

	for _, json := range []bool{false, true} {
		text := newOutput()
		setLog(config.LogSettings{JSON: json, Level: slog.LevelDebug}, text)
		client := pve.NewClient(pve.Options{})
		at := pve.Address{Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port}
		_, err := client.Host(at, pve.Trust{}).SignIn(t.Context(), "alice@pve", password)
		var unknown *pve.CertificateError
		if !errors.As(err, &unknown) {
			t.Fatal(err)
		}
		_, err = client.Host(at, pve.Trust{Key: &unknown.Peer.Key}).SignIn(t.Context(), "alice@pve", password)
		if !pve.IsKind(err, pve.KindUnauthenticated) || strings.Contains(err.Error(), password) {
			t.Errorf("%v", err)
		}
		select {
		case <-hungUp: // net/http logs before it does
		case <-time.After(patience):
			t.Fatal("the connection was kept")
		}
		client.Close()
		if got := text.String(); strings.Contains(got, password) || !strings.Contains(got, "left out what a library logged") {
			t.Errorf("the log: %s", got)
		}
	}
}

// TestStandardLog: of what a library logs nothing is passed on but that there was something.
func TestStandardLog(t *testing.T) {
	before, flags, writer := slog.Default(), log.Flags(), log.Writer()
	t.Cleanup(func() { slog.SetDefault(before); log.SetFlags(flags); log.SetOutput(writer) })
	var text bytes.Buffer
	setLog(config.LogSettings{Level: slog.LevelDebug}, &text)
	log.Print("from a library")
	if got := text.String(); strings.Contains(got, "library\n") || strings.Contains(got, "from") || !strings.Contains(got, "bytes=15") {
		t.Errorf("the log: %s", got)
	}
	text.Reset()
	slog.Info("from Berth")
	if !strings.Contains(text.String(), "from Berth") {
		t.Errorf("the log: %s", text.String())
	}
}
