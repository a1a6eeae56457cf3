package replicatest

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// Balance listens at an address and hands each request to the next of some programs (http://host:port), those of one connection
// too. It changes nothing of requests and answers, and calls from the address that the client has, so that it needs no trust;
// what the program makes of proxies that do otherwise has tests of its own. Event streams come as they are sent. It returns
// where it listens, and what ends it, which the end of the test does too.
func Balance(t testing.TB, listen string, programs ...string) (address string, end func()) {
	t.Helper()
	to := make([]*url.URL, len(programs))
	for i, p := range programs {
		u, err := url.Parse(p)
		if err != nil {
			t.Fatal(err)
		}
		to[i] = u
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	quiet := log.New(io.Discard, "", 0) // whoever asked is told
	var turn atomic.Uint64
	lines := &lines{}
	server := &http.Server{ErrorLog: quiet, Handler: &httputil.ReverseProxy{
		Transport: lines, FlushInterval: -1, ErrorLog: quiet,
		Rewrite: func(r *httputil.ProxyRequest) {
			next := to[int(turn.Add(1)-1)%len(to)]
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.RawQuery = next.Scheme, next.Host, r.In.URL.RawQuery
			r.Out.Host = r.In.Host
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if values, ok := r.In.Header[name]; ok {
					r.Out.Header[name] = values
				}
			}
		},
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // it says that it was closed
	}()
	end = sync.OnceFunc(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
		lines.close()
	})
	t.Cleanup(end)
	return l.Addr().String(), end
}

// lines are the connections to the programs, for each address that clients have.
type lines struct {
	mu sync.Mutex
	by map[string]*http.Transport
}

func (l *lines) RoundTrip(r *http.Request) (*http.Response, error) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return nil, err
	}
	return l.from(host).RoundTrip(r)
}

func (l *lines) from(host string) *http.Transport {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.by[host]
	if t == nil {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
		t = &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, DialContext: dialer.DialContext}
		if l.by == nil {
			l.by = map[string]*http.Transport{}
		}
		l.by[host] = t
	}
	return t
}

func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.by {
		t.CloseIdleConnections()
	}
}
