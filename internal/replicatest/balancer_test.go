package replicatest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Requests of one connection go to both, unchanged, and an event comes while its stream goes on.
func TestBalance(t *testing.T) {
	goOn := make(chan struct{})
	program := func(name string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stream" {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, "data: 1\n")
				_ = http.NewResponseController(w).Flush()
				<-goOn
				return
			}
			from, _, _ := net.SplitHostPort(r.RemoteAddr)
			fmt.Fprintln(w, name, r.Host, from, r.Header.Get("X-Forwarded-For"), r.RequestURI)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	address, _ := Balance(t, "127.0.0.1:0", program("one"), program("two"))
	connections := 0
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 7)}}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
		connections++
		return dialer.DialContext(ctx, network, to)
	}}}
	get := func(path string) *http.Response {
		r, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "berth.example.org"
		r.Header.Set("X-Forwarded-For", "192.0.2.1")
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	for _, name := range []string{"one", "two", "one", "two"} {
		answer := get("/a%2Fb?x=%zz;y")
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if want := name + " berth.example.org 127.0.0.7 192.0.2.1 /a%2Fb?x=%zz;y"; err != nil || strings.TrimSpace(string(text)) != want {
			t.Errorf("%q, %v; want %q", text, err, want)
		}
	}
	if connections != 1 {
		t.Errorf("%d connections", connections)
	}
	stream := get("/stream")
	defer stream.Body.Close()
	if line, err := bufio.NewReader(stream.Body).ReadString('\n'); err != nil || line != "data: 1\n" {
		t.Errorf("%q, %v", line, err)
	}
	close(goOn)
}
