package sim

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestMembersShareAndProxy(t *testing.T) {
	w := newWorld(t, Options{Name: "lab", Members: []string{"pve1", "pve2", "pve3"}})
	second, client := w.listen("pve2")
	as := w.mustLogin("root@pam")
	at := func(h *Host, c *http.Client, path string) reading {
		t.Helper()
		return w.send(c, h.URL(), as, "GET", "/api2/json"+path, nil)
	}
	if w.host.Fingerprint() == second.Fingerprint() {
		t.Error("two members have one certificate")
	}
	w.expect(at(second, client, "/version"), 200, "OK") // a ticket counts everywhere
	for _, h := range []*Host{w.host, second} {
		c := w.client
		if h == second {
			c = client
		}
		for _, member := range w.dc.members {
			got := at(h, c, "/nodes/"+member.name+"/certificates/info")
			if want := member.certificate().fingerprint(); !strings.Contains(got.body, want) {
				t.Errorf("%s of %s: %s", member.name, h.Member(), got.body)
			}
		}
	}
	if got := at(second, client, "/nodes/localhost/certificates/info"); !strings.Contains(got.body, second.Fingerprint()) {
		t.Errorf("localhost: %s", got.body)
	}
	w.expect(at(w.host, w.client, "/nodes/nowhere/certificates/info"), 500,
		"hostname lookup 'nowhere' failed - failed to get address info for: nowhere: Name or service not known")
	join := at(w.host, w.client, "/cluster/config/join")
	for _, m := range w.dc.members {
		if !strings.Contains(join.body, m.certificate().fingerprint()) {
			t.Errorf("join information lacks %s: %s", m.name, join.body)
		}
	}
}

func TestStoppedMember(t *testing.T) {
	w := newWorld(t, Options{Name: "lab", Members: []string{"pve1", "pve2", "pve3"}})
	second, client := w.listen("pve2")
	as := w.mustLogin("root@pam")
	w.expect(w.send(client, second.URL(), as, "GET", "/api2/json/version", nil), 200, "OK")
	w.ok(w.dc.StopMember("pve2"))
	got := w.call(as, "GET", "/nodes/pve2/certificates/info", nil)
	w.expect(got, 595, "No route to host")
	if got.body != "" || got.header.Get("Content-Type") != "" {
		t.Errorf("body %q of type %q", got.body, got.header.Get("Content-Type"))
	}
	r, _ := http.NewRequest("GET", second.URL()+"/api2/json/version", nil)
	if _, err := client.Do(r); err == nil {
		t.Error("a stopped member answers")
	}
	status := w.call(as, "GET", "/cluster/status", nil).body
	if strings.Count(status, `"online":1`) != 2 || !strings.Contains(status, `"quorate":1`) {
		t.Errorf("status: %s", status)
	}
	nodes := w.call(as, "GET", "/nodes", nil).body
	if strings.Count(nodes, `"status":"online"`) != 2 || strings.Count(nodes, `"status":"offline"`) != 1 {
		t.Errorf("nodes: %s", nodes)
	}
	w.ok(w.dc.StopMember("pve3"))
	if status := w.call(as, "GET", "/cluster/status", nil).body; !strings.Contains(status, `"quorate":0`) {
		t.Errorf("status of one in three: %s", status)
	}
	w.ok(w.dc.StartMember("pve2"))
	w.expect(w.call(as, "GET", "/nodes/pve2/certificates/info", nil), 200, "OK")
	w.expect(w.send(client, second.URL(), as, "GET", "/api2/json/version", nil), 200, "OK")
	if w.dc.StopMember("nowhere") == nil || w.dc.StartMember("nowhere") == nil {
		t.Error("an unknown member was stopped or started")
	}
}

func TestStandaloneHost(t *testing.T) {
	w := newWorld(t, Options{Members: []string{"solo"}})
	as := w.mustLogin("root@pam")
	if got := w.call(as, "GET", "/cluster/status", nil); len(got.data.([]any)) != 1 || !strings.Contains(got.body, `"nodeid":0`) {
		t.Errorf("status: %s", got.body)
	}
	w.expect(w.call(as, "GET", "/cluster/config/join", nil), 500, "node is not in a cluster, no join info available!")
}

func TestCertificate(t *testing.T) {
	w := newWorld(t, Options{})
	leaf := w.host.member.certificate().leaf
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "pve1"} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if y := leaf.NotAfter.Year() - w.now().Year(); y != 10 {
		t.Errorf("valid for %d years", y)
	}
	first := w.host.Fingerprint()
	as := w.mustLogin("root@pam")
	w.ok(w.host.ChangeCertificate(true))
	second := w.host.member.certificate()
	if w.host.Fingerprint() == first || !second.key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("a renewed certificate has the same key and another fingerprint")
	}
	w.expect(w.call(as, "GET", "/version", nil), 200, "OK") // the connection that exists keeps its certificate
	w.client.CloseIdleConnections()
	if _, err := w.client.Get(w.host.URL() + "/api2/json/version"); err == nil {
		t.Error("a new connection got the old certificate")
	}
	got := w.send(trusting(t, w.host), w.host.URL(), as, "GET", "/api2/json/nodes/pve1/certificates/info", nil)
	if !strings.Contains(got.body, w.host.Fingerprint()) {
		t.Errorf("certificates: %s", got.body)
	}
	w.ok(w.host.ChangeCertificate(false))
	if w.host.member.certificate().key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("a new certificate has the old key")
	}
}

func TestNewRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"several members, no name": {Members: []string{"a", "b"}},
		"one name twice":           {Name: "lab", Members: []string{"a", "a"}},
		"an impossible name":       {Members: []string{"a/b"}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	d, err := New(Options{Empty: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Listen("nowhere", "127.0.0.1:0"); err == nil {
		t.Error("an unknown member listens")
	}
	if _, err := d.Listen("", "256.0.0.1:0"); err == nil {
		t.Error("an impossible address is listened on")
	}
}

// TestRefusalsAreReallySlow goes without the stand-in for waiting.
func TestRefusalsAreReallySlow(t *testing.T) {
	const delay = 150 * time.Millisecond
	w := newWorld(t, Options{RefusalDelay: delay})
	w.dc.hold = holdFor
	start := time.Now()
	w.expect(w.call(who{}, "POST", "/access/ticket", url.Values{"username": {"alice@pve"}, "password": {"x"}}), 401, "authentication failure")
	if took := time.Since(start); took < delay {
		t.Errorf("took %v", took)
	}
	for option, want := range map[time.Duration]time.Duration{0: 3 * time.Second, time.Second: time.Second, -1: 0} {
		d := &Datacenter{options: Options{RefusalDelay: option}}
		if got := d.refusalDelay(); got != want {
			t.Errorf("RefusalDelay %v means %v, want %v", option, got, want)
		}
	}
}

// TestNoResumptionAcrossCertificates makes sure that a client which pins sees a changed certificate, although it keeps
// TLS sessions.
func TestNoResumptionAcrossCertificates(t *testing.T) {
	w := newWorld(t, Options{})
	config := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	dial := func() tls.ConnectionState {
		t.Helper()
		c, err := tls.Dial("tcp", w.host.Address(), config)
		w.ok(err)
		defer c.Close()
		io.WriteString(c, "GET /api2/json/access/domains HTTP/1.0\r\n\r\n")
		io.Copy(io.Discard, c) // the session ticket comes with the answer
		return c.ConnectionState()
	}
	dial()
	if !dial().DidResume {
		t.Error("a session can't be resumed")
	}
	w.ok(w.host.ChangeCertificate(false))
	state := dial()
	if state.DidResume || !state.PeerCertificates[0].Equal(w.host.member.certificate().leaf) {
		t.Error("a session from before the change was resumed")
	}
}

func TestRoutes(t *testing.T) {
	var r router
	for _, path := range []string{"/nodes/{node}/lxc/{vmid}", "/nodes/{node}/lxc", "/nodes/{node}/storage/{storage}/content/{volume}"} {
		r.add(endpoint{method: "GET", path: path})
	}
	for path, want := range map[string]string{
		"/nodes/pve1/lxc/101":    "/nodes/{node}/lxc/{vmid}",
		"//nodes/pve1//lxc/101/": "/nodes/{node}/lxc/{vmid}",
		"/nodes/pve1/lxc":        "/nodes/{node}/lxc",
		"/nodes/pve1/lxc/101/x":  "",
		"/nodes/pve1":            "",
		"/":                      "",
		"/nodes/pve1/storage/local/content/local:vztmpl/debian.tar.zst": "/nodes/{node}/storage/{storage}/content/{volume}",
	} {
		found, values := r.find("GET", path)
		got := ""
		if found != nil {
			got = found.path
			if values["node"] != "pve1" {
				t.Errorf("%s: %v", path, values)
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if _, values := r.find("GET", "/nodes/a/storage/b/content/local:vztmpl/c"); values["volume"] != "local:vztmpl/c" {
		t.Errorf("volume: %v", values)
	}
	if found, _ := r.find("POST", "/nodes/pve1/lxc"); found != nil {
		t.Error("another method was found")
	}
}
