package sim

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// world is a datacenter under test with one listening host, a clock that stands still until it is moved, and a record of
// how long answers would have been held back.
type world struct {
	*testing.T
	dc     *Datacenter
	host   *Host
	client *http.Client

	mu   sync.Mutex
	at   time.Time
	held []time.Duration
}

func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	w := &world{T: t, at: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	o.Now = w.now
	dc, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	dc.hold = func(_ <-chan struct{}, d time.Duration) bool {
		if d > 0 {
			w.mu.Lock()
			w.held = append(w.held, d)
			w.mu.Unlock()
		}
		return true
	}
	w.dc = dc
	w.host, w.client = w.listen("")
	return w
}

// listen adds a host and a client that trusts exactly its certificate.
func (w *world) listen(member string) (*Host, *http.Client) {
	w.Helper()
	h, err := w.dc.Listen(member, "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { h.Close() })
	return h, trusting(w.T, h)
}

func trusting(t testing.TB, h *Host) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(h.member.certificate().leaf)
	transport := &http.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: roots, ServerName: "localhost", Time: h.dc.now},
		DisableCompression: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

// takeHeld returns and forgets how long answers were held back since the last call.
func (w *world) takeHeld() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var sum time.Duration
	for _, d := range w.held {
		sum += d
	}
	w.held = nil
	return sum
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func discard(r *http.Response) (int64, error) {
	defer r.Body.Close()
	return io.Copy(io.Discard, r.Body)
}

// reading is an answer, read.
type reading struct {
	status int
	reason string
	header http.Header
	body   string
	data   any // what stands under "data"
}

// who is a set of credentials.
type who struct{ ticket, csrf, token string }

func (w *world) send(client *http.Client, url string, as who, method, path string, form url.Values) reading {
	w.Helper()
	var body io.Reader
	if form != nil && (method == "POST" || method == "PUT") {
		body = strings.NewReader(form.Encode())
	} else if form != nil {
		path += "?" + form.Encode()
	}
	r, err := http.NewRequest(method, url+path, body)
	w.ok(err)
	if body != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if as.ticket != "" {
		r.Header.Set("Cookie", "PVEAuthCookie="+as.ticket)
	}
	if as.csrf != "" {
		r.Header.Set("CSRFPreventionToken", as.csrf)
	}
	if as.token != "" {
		r.Header.Set("Authorization", "PVEAPIToken="+as.token)
	}
	return w.do(client, r)
}

func (w *world) do(client *http.Client, r *http.Request) reading {
	w.Helper()
	resp, err := client.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	w.ok(err)
	got := reading{
		status: resp.StatusCode, header: resp.Header, body: string(body),
		reason: strings.TrimPrefix(resp.Status, fmt.Sprint(resp.StatusCode, " ")),
	}
	var decoded struct{ Data any }
	if json.Unmarshal(body, &decoded) == nil {
		got.data = decoded.Data
	}
	return got
}

// call calls the first host's JSON API.
func (w *world) call(as who, method, path string, form url.Values) reading {
	w.Helper()
	return w.send(w.client, w.host.URL(), as, method, "/api2/json"+path, form)
}

func (w *world) login(user, password string) (who, reading) {
	w.Helper()
	got := w.call(who{}, "POST", "/access/ticket", url.Values{"username": {user}, "password": {password}})
	m, _ := got.data.(map[string]any)
	ticket, _ := m["ticket"].(string)
	csrf, _ := m["CSRFPreventionToken"].(string)
	return who{ticket: ticket, csrf: csrf}, got
}

func (w *world) mustLogin(user string) who {
	w.Helper()
	as, got := w.login(user, DefaultPassword)
	if got.status != 200 || as.ticket == "" {
		w.Fatalf("sign-in of %s: %d %s", user, got.status, got.reason)
	}
	return as
}

func (w *world) expect(got reading, status int, reason string) {
	w.Helper()
	if got.status != status || got.reason != reason {
		w.Errorf("got %d %q, want %d %q", got.status, got.reason, status, reason)
	}
}

func TestHeaders(t *testing.T) {
	w := newWorld(t, Options{})
	got := w.call(w.mustLogin("alice@pve"), "GET", "/version", nil)
	for name, want := range map[string]string{
		"Server":        "pve-api-daemon/3.0",
		"Content-Type":  "application/json;charset=UTF-8",
		"Cache-Control": "max-age=0",
		"Pragma":        "no-cache",
		"Date":          "Fri, 20 Nov 2026 12:00:00 GMT",
		"Expires":       "Fri, 20 Nov 2026 12:00:00 GMT",
		"Connection":    "Keep-Alive",
		"Set-Cookie":    "",
	} {
		if v := got.header.Get(name); v != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
}

// rawConn opens a TLS connection for requests that net/http would not send.
func (w *world) rawConn() *tls.Conn {
	w.Helper()
	c, err := tls.Dial("tcp", w.host.Address(), w.client.Transport.(*http.Transport).TLSClientConfig)
	w.ok(err)
	w.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func TestKeepAlive(t *testing.T) {
	w := newWorld(t, Options{})
	c := w.rawConn()
	in := bufio.NewReader(c)
	for range 3 {
		io.WriteString(c, "GET /api2/json/access/domains HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(in, nil)
		w.ok(err)
		io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != 200 || resp.Close {
			t.Fatalf("got %s, close %v", resp.Status, resp.Close)
		}
	}
	io.WriteString(c, "GET /api2/json/version HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(in, nil)
	w.ok(err)
	if resp.Status != "401 No ticket" || !resp.Close {
		t.Errorf("got %s, close %v", resp.Status, resp.Close)
	}
	if rest, err := io.ReadAll(in); err != nil || len(rest) != 0 {
		t.Errorf("after a refusal the connection went on: %q, %v", rest, err)
	}
}

func TestConnectionEndsAfterManyRequests(t *testing.T) {
	w := newWorld(t, Options{})
	c := w.rawConn()
	in := bufio.NewReader(c)
	for n := 1; ; n++ {
		io.WriteString(c, "GET /api2/json/access/domains HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(in, nil)
		w.ok(err)
		io.Copy(io.Discard, resp.Body)
		if resp.Close {
			if n != requestsPerConnection {
				t.Errorf("closed after %d requests", n)
			}
			return
		}
	}
}

func TestRequestsThatAreRefusedBeforeTheAPI(t *testing.T) {
	w := newWorld(t, Options{})
	many := strings.Repeat("X-Filler: y\r\n", 70)
	for _, tt := range []struct{ name, request, status, body string }{
		{"verb", "PATCH /api2/json/version HTTP/1.1\r\nHost: x\r\n\r\n", "501 method 'PATCH' not available", ""},
		{"head", "HEAD /api2/json/version HTTP/1.1\r\nHost: x\r\n\r\n", "501 method 'HEAD' not available", ""},
		{"chunked", "POST /api2/json/access/ticket HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			"501 chunked transfer encoding not supported", "chunked transfer encoding not supported"},
		{"large body", "POST /api2/json/access/ticket HTTP/1.1\r\nHost: x\r\nContent-Length: 524289\r\n\r\n",
			"501 for data too large", "for data too large"},
		{"many lines", "GET / HTTP/1.1\r\nHost: x\r\n" + many + "\r\n", "400 bad request", "bad request"},
		{"long line", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 9000) + "\r\n\r\n", "400 bad request", "bad request"},
		{"nonsense", "hello\r\n\r\n", "400 bad request", "bad request"},
		{"no format", "GET /api2 HTTP/1.1\r\nHost: x\r\n\r\n", "501 no such uri", "no such uri"},
		{"no file", "GET /nothing HTTP/1.0\r\n\r\n", "500 no such file '/nothing'", "no such file '/nothing'"},
		{"empty lines first", "\r\n\r\nGET /nothing HTTP/1.0\r\n\r\n", "500 no such file '/nothing'", "no such file '/nothing'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := w.rawConn()
			io.WriteString(c, tt.request)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if resp.Status != tt.status || string(body) != tt.body || err != nil || !resp.Close {
				t.Errorf("got %s, body %q, %v", resp.Status, body, err)
			}
		})
	}
}

func TestReasonPhraseIsOneCleanLine(t *testing.T) {
	w := newWorld(t, Options{})
	w.dc.register(endpoint{method: "GET", path: "/bad", world: true, run: func(*call) (any, error) {
		return nil, plain("first\tline\r\nX-Injected: 1\nthird")
	}})
	got := w.call(who{}, "GET", "/bad", nil)
	w.expect(got, 500, "firstline")
	if got.header.Get("X-Injected") != "" || got.body != `{"data":null,"message":"first\tline\r\nX-Injected: 1\nthird\n"}` {
		t.Errorf("body %s, header %v", got.body, got.header)
	}
}

func TestGzipOnlyWhenAskedAndWorthIt(t *testing.T) {
	w := newWorld(t, Options{})
	as := w.mustLogin("root@pam")
	for _, tt := range []struct {
		path, accept string
		want         bool
	}{
		{"/access/roles", "gzip", true},
		{"/access/roles", "", false},
		{"/version", "gzip", false},
	} {
		r, _ := http.NewRequest("GET", w.host.URL()+"/api2/json"+tt.path, nil)
		r.Header.Set("Cookie", "PVEAuthCookie="+as.ticket)
		if tt.accept != "" {
			r.Header.Set("Accept-Encoding", tt.accept)
		}
		got := w.do(w.client, r)
		if (got.header.Get("Content-Encoding") == "gzip") != tt.want {
			t.Errorf("%s with %q: Content-Encoding %q", tt.path, tt.accept, got.header.Get("Content-Encoding"))
		}
		if tt.want {
			z, err := gzip.NewReader(strings.NewReader(got.body))
			w.ok(err)
			text, err := io.ReadAll(z)
			if err != nil || !json.Valid(text) || len(text) <= 1024 {
				t.Errorf("%s: %v, %d bytes", tt.path, err, len(text))
			}
		}
	}
}

func TestPlainHTTPIsRedirected(t *testing.T) {
	w := newWorld(t, Options{})
	for method, status := range map[string]int{"GET": 301, "HEAD": 301, "POST": 308} {
		r, _ := http.NewRequest(method, "http://"+w.host.Address()+"/a?b=c", nil)
		got := w.do(w.client, r)
		if want := w.host.URL() + "/a?b=c"; got.status != status || got.header.Get("Location") != want {
			t.Errorf("%s: %d to %q, want %d to %q", method, got.status, got.header.Get("Location"), status, want)
		}
	}
}

func TestBodiesAsFormOrJSON(t *testing.T) {
	w := newWorld(t, Options{})
	w.dc.register(endpoint{
		method: "POST", path: "/echo", world: true,
		params: []param{{name: "text", kind: "string"}, {name: "on", kind: "boolean"}, {name: "n", kind: "integer"}, {name: "list", kind: "array"}},
		run:    func(c *call) (any, error) { return c.params, nil },
	})
	for _, tt := range []struct{ contentType, query, body, want string }{
		{"application/x-www-form-urlencoded", "", "text=a+b%2Bc&list=1&list=2", `{"list":["1","2"],"text":["a b+c"]}`},
		{"application/json", "", `{"text":"a","on":true,"n":5,"list":["x",2]}`, `{"list":["x","2"],"n":["5"],"on":["1"],"text":["a"]}`},
		{"application/json;charset=UTF-8", "", `{"text":null,"on":"yes"}`, `{"on":["1"]}`},
		{"", "?text=query", "text=body", `{"text":["query"]}`},
	} {
		r, _ := http.NewRequest("POST", w.host.URL()+"/api2/json/echo"+tt.query, strings.NewReader(tt.body))
		if tt.contentType != "" {
			r.Header.Set("Content-Type", tt.contentType)
		}
		if got := w.do(w.client, r); got.body != `{"data":`+tt.want+`}` {
			t.Errorf("%s %s: %s", tt.contentType, tt.body, got.body)
		}
	}
	r, _ := http.NewRequest("POST", w.host.URL()+"/api2/json/echo", strings.NewReader("[]"))
	r.Header.Set("Content-Type", "application/json")
	if got := w.do(w.client, r); got.status != 500 {
		t.Errorf("a JSON array as parameters: %d %s", got.status, got.reason)
	}
}

func TestCloseReturnsWithConnectionsOpen(t *testing.T) {
	w := newWorld(t, Options{})
	w.host.SetFault("", "/version", Fault{Hang: true})
	answered := make(chan error, 1)
	go func() {
		_, err := w.client.Get(w.host.URL() + "/api2/json/version")
		answered <- err
	}()
	idle := w.rawConn()
	half := w.rawConn()
	io.WriteString(half, "GET /api2/json/ver")
	for len(w.host.Requests()) == 0 { // the hanging request has arrived
		time.Sleep(time.Millisecond)
	}
	closed := make(chan struct{})
	go func() { w.host.Close(); w.host.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("Close did not return")
	}
	if err := <-answered; err == nil {
		t.Error("the hanging request was answered")
	}
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("the idle connection went on")
	}
	if _, err := w.client.Get(w.host.URL() + "/api2/json/version"); err == nil {
		t.Error("a closed host answers")
	}
}

func TestRequestLogKeepsNoSecrets(t *testing.T) {
	w := newWorld(t, Options{})
	as := w.mustLogin("alice@pve")
	w.call(as, "GET", "/version", url.Values{"secret": {"hunter2"}})
	log := w.host.Requests()
	if len(log) != 2 || log[0].Status != 200 || log[1].Status != 400 || log[1].Path != "/api2/json/version" || log[1].Member != "pve1" {
		t.Errorf("log: %+v", log)
	}
	if posts := w.host.AcceptedPosts(); posts["/api2/json/access/ticket"] != 1 {
		t.Errorf("accepted POSTs: %v", posts)
	}
	text := fmt.Sprintf("%+v", log)
	for _, secret := range []string{"hunter2", DefaultPassword, as.ticket} {
		if strings.Contains(text, secret) {
			t.Error("a secret is in the log")
		}
	}
	for range 3 * loggedRequests {
		w.host.record(&request{method: "GET", path: "/x"}, 200, true)
	}
	if n := len(w.host.Requests()); n != loggedRequests || len(w.host.requests) > 2*loggedRequests {
		t.Errorf("%d requests are kept", n)
	}
}

// FuzzRequest sends bytes through request parsing, dispatch and answer, without a network.
func FuzzRequest(f *testing.F) {
	dc, err := New(Options{})
	if err != nil {
		f.Fatal(err)
	}
	h := &Host{dc: dc, member: dc.members[0], changes: map[string]int{}}
	ticket := dc.newTicket(rootUser, dc.now())
	for _, s := range []string{
		"GET /api2/json/version HTTP/1.1\r\nCookie: PVEAuthCookie=TICKET\r\n\r\n",
		"POST /api2/json/access/ticket HTTP/1.1\r\nContent-Length: 24\r\n\r\nusername=a@pve&password=",
		"POST /api2/extjs/access/ticket HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"username\":1}",
		"PUT /api2/json/access/password HTTP/1.0\r\nAuthorization: PVEAPIToken alice@pve!x=y\r\n\r\n",
		"GET /api2/json/access/permissions?userid=alice@pve&path=//vms HTTP/1.1\r\nCookie: PVEAuthCookie=TICKET\r\n\r\n",
		"GET /api2/json/nodes/pve2/lxc HTTP/1.1\r\nCookie: a=b; PVEAuthCookie=TICKET\r\n\r\n",
		"DELETE /api2/json/access/users/alice@pve/token/%41%zz HTTP/1.1\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.ReplaceAll(data, []byte("TICKET"), []byte(ticket))
		c := &connection{host: h, in: bufio.NewReader(bytes.NewReader(data)), parse: bufio.NewReaderSize(nil, 1024)}
		r, _, _, refusal := c.read()
		if r == nil || refusal.status != 0 {
			return
		}
		r.clock = dc.now()
		answer := h.answer(r)
		if answer.status < 200 || answer.status > 599 {
			t.Errorf("status %d", answer.status)
		}
		if answer.contentType != "" && !json.Valid(answer.body) {
			t.Errorf("body is no JSON: %q", answer.body)
		}
		if strings.ContainsAny(reasonPhrase(answer), "\r\n") {
			t.Errorf("reason %q", reasonPhrase(answer))
		}
	})
}
