package sim

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestFaults(t *testing.T) {
	w := newWorld(t, Options{})
	as := w.mustLogin("root@pam")
	get := func(path string) (*http.Response, string, error) {
		r, _ := http.NewRequest("GET", w.host.URL()+"/api2/json"+path, nil)
		r.Header.Set("Cookie", "PVEAuthCookie="+as.ticket)
		resp, err := w.client.Do(r)
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return resp, string(body), err
	}
	healthy := func(name string) {
		t.Helper()
		if resp, _, err := get("/access/roles"); err != nil || resp.StatusCode != 200 {
			t.Errorf("%s: another path is not well: %v", name, err)
		}
		w.host.ClearFaults()
		if resp, _, err := get("/version"); err != nil || resp.StatusCode != 200 {
			t.Errorf("%s: not well again: %v", name, err)
		}
	}

	w.host.SetFault("", "/version", Fault{Latency: 2 * time.Second})
	w.takeHeld()
	if resp, _, err := get("/version"); err != nil || resp.StatusCode != 200 || w.takeHeld() != 2*time.Second {
		t.Errorf("latency: %v", err)
	}
	healthy("latency")

	w.host.SetFault("GET", "/version", Fault{Refuse: true, Times: 2})
	for range 2 {
		// net/http repeats a GET whose kept connection is reset before an answer: a new connection shows each refusal.
		w.client.CloseIdleConnections()
		if _, _, err := get("/version"); err == nil {
			t.Error("refuse: answered")
		}
	}
	if resp, _, err := get("/version"); err != nil || resp.StatusCode != 200 {
		t.Errorf("refuse: still so after its times: %v", err)
	}
	healthy("refuse")

	w.client.CloseIdleConnections()
	w.host.SetFault("", "", Fault{Refuse: true})
	if _, _, err := get("/version"); err == nil {
		t.Error("refuse everything: answered")
	}
	w.host.ClearFaults()
	healthy("refuse everything")

	w.host.SetFault("", "/version", Fault{CutBody: true})
	if resp, body, err := get("/version"); err == nil || !errors.Is(err, io.ErrUnexpectedEOF) || body == "" {
		t.Errorf("cut: %v %q %v", resp, body, err)
	}
	healthy("cut")

	w.host.SetFault("", "/version", Fault{EndlessBody: true})
	if resp, body, err := get("/version"); err != nil || len(body) != 1<<20 || resp.ContentLength != -1 {
		t.Errorf("endless: %d bytes, %v", len(body), err)
	}
	healthy("endless")

	w.host.SetFault("", "/version", Fault{WrongJSON: true})
	if resp, body, err := get("/version"); err != nil || resp.StatusCode != 200 || !strings.HasPrefix(body, `{"data":`) || strings.HasSuffix(body, "}") {
		t.Errorf("wrong JSON: %q %v", body, err)
	}
	healthy("wrong JSON")

	for status, want := range map[int]struct{ line, body string }{
		595: {"595 No route to host", ""},
		596: {"596 Connection timed out", ""},
		500: {"500 Internal Server Error", `{"data":null,"message":"Internal Server Error\n"}`},
		401: {"401 Unauthorized", ""},
	} {
		w.host.SetFault("", "/version", Fault{Status: status})
		if resp, body, err := get("/version"); err != nil || resp.Status != want.line || body != want.body {
			t.Errorf("status %d: %v %q %v", status, resp.Status, body, err)
		}
	}
	w.host.SetFault("", "/api2/json/version", Fault{Status: 595, Reason: "Connection refused"})
	if resp, _, err := get("/version"); err != nil || resp.Status != "595 Connection refused" {
		t.Errorf("reason: %v %v", resp, err)
	}
	healthy("status")

	w.host.SetFault("POST", "/version", Fault{Status: 500})
	if resp, _, _ := get("/version"); resp.StatusCode != 200 {
		t.Error("a fault for POST hits a GET")
	}
	healthy("method")

	w.host.SetFault("", "", Fault{Skew: -10 * time.Minute})
	resp, _, err := get("/access/domains")
	if err != nil || resp.Header.Get("Date") != "Fri, 20 Nov 2026 11:50:00 GMT" {
		t.Errorf("skew: %v %v", resp, err)
	}
	if resp, _, _ := get("/version"); resp.StatusCode != 401 { // ten minutes from the future
		t.Errorf("skew: a ticket from elsewhere got %s", resp.Status)
	}
	if as := w.mustLogin("alice@pve"); as.ticket != w.dc.newTicket("alice@pve", w.now().Add(-10*time.Minute)) {
		t.Error("skew: a new ticket has the right time")
	}
	w.host.ClearFaults()
	healthy("skew")
}

func TestHangEndsWithTheClient(t *testing.T) {
	w := newWorld(t, Options{})
	w.host.SetFault("", "/version", Fault{Hang: true})
	w.client.Timeout = 100 * time.Millisecond
	if _, err := w.client.Get(w.host.URL() + "/api2/json/version"); err == nil {
		t.Fatal("answered")
	}
	for range 6000 {
		w.host.mu.Lock()
		open := len(w.host.connections)
		w.host.mu.Unlock()
		if open == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("the connection is still held")
}

func TestSpoiledPostIsCarriedOut(t *testing.T) {
	w := newWorld(t, Options{})
	w.host.SetFault("POST", "/access/ticket", Fault{CutBody: true})
	r, _ := http.NewRequest("POST", w.host.URL()+"/api2/json/access/ticket", strings.NewReader("username=alice@pve&password="+DefaultPassword))
	resp, err := w.client.Do(r)
	w.ok(err)
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the body is whole")
	}
	if posts := w.host.AcceptedPosts(); posts["/api2/json/access/ticket"] != 1 {
		t.Errorf("accepted: %v", posts)
	}
}

// TestCutAnswer: the client sees a broken connection, and what it asked for has happened once.
func TestCutAnswer(t *testing.T) {
	w := newWorld(t, Options{})
	as := w.mustLogin("root@pam")
	const path = "/nodes/pve1/lxc/102/status/start"
	w.host.SetFault("POST", path, Fault{CutAnswer: true, Times: 1})
	r, _ := http.NewRequest("POST", w.host.URL()+"/api2/json"+path, strings.NewReader(""))
	r.Header.Set("Cookie", "PVEAuthCookie="+as.ticket)
	r.Header.Set("CSRFPreventionToken", as.csrf)
	if resp, err := w.client.Do(r); err == nil {
		t.Errorf("it was answered with %s", resp.Status)
	}
	if n := w.host.AcceptedPosts()["/api2/json"+path]; n != 1 || w.dc.Accepted(102, "start") != 1 {
		t.Errorf("accepted %d times, %d of them for the container", n, w.dc.Accepted(102, "start"))
	}
	w.advance(time.Minute)
	if c, _ := w.dc.Container(102); c.Status != Running {
		t.Errorf("the container is %s", c.Status)
	}
	if got := w.call(as, "PUT", "/nodes/pve1/lxc/102/config", url.Values{"tags": {"x"}}); got.status != 200 {
		t.Errorf("the next call: %d %s", got.status, got.reason)
	}
	if got := w.host.AcceptedChanges(); got["PUT /api2/json/nodes/pve1/lxc/102/config"] != 1 || got["POST /api2/json"+path] != 1 {
		t.Errorf("accepted changes: %v", got)
	}
}

func TestParseFault(t *testing.T) {
	for text, want := range map[string]activeFault{
		"latency=2s,path=/cluster/resources":         {prefix: "/cluster/resources", Fault: Fault{Latency: 2 * time.Second}},
		"method=post, status=595, reason=No route":   {method: "POST", Fault: Fault{Status: 595, Reason: "No route"}},
		"cutanswer,method=PUT":                       {method: "PUT", Fault: Fault{CutAnswer: true}},
		"cut,times=3":                                {Fault: Fault{CutBody: true, Times: 3}},
		"skew=-10m":                                  {Fault: Fault{Skew: -10 * time.Minute}},
		"refuse":                                     {Fault: Fault{Refuse: true}},
		"hang,path=/nodes/pve1":                      {prefix: "/nodes/pve1", Fault: Fault{Hang: true}},
		"endless,latency=10ms,path=/api2/json/nodes": {prefix: "/api2/json/nodes", Fault: Fault{EndlessBody: true, Latency: 10 * time.Millisecond}},
		"wrongjson":                                  {Fault: Fault{WrongJSON: true}},
	} {
		method, path, f, err := ParseFault(text)
		if err != nil || method != want.method || path != want.prefix || f != want.Fault {
			t.Errorf("%q: %q %q %+v %v", text, method, path, f, err)
		}
	}
	for _, text := range []string{
		"", ",", "nonsense", "latency", "latency=", "latency=-1s", "latency=soon", "status=99", "status=1000", "status=x", "path=version",
		"times=0,cut", "cut=1", "times=3", "path=/version", "reason=x", "hang,,", "what=1", "skew=1",
	} {
		if _, _, f, err := ParseFault(text); err == nil {
			t.Errorf("%q was taken as %+v", text, f)
		}
	}
}

func FuzzParseFault(f *testing.F) {
	for _, s := range []string{"latency=2s,path=/cluster/resources", "status=595,reason=x", "cut,times=3", "=", ",=,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, path, fault, err := ParseFault(text)
		if err == nil && (fault.Latency < 0 || fault.Times < 0 || path != "" && path[0] != '/' || fault == Fault{}) {
			t.Errorf("%q: %+v for %q", text, fault, path)
		}
	})
}
