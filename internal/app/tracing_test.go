package app

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve/sim"
	"berth/internal/session"
)

// sentSpan is a span as a collector gets it.
type sentSpan struct {
	TraceID      string
	SpanID       string
	ParentSpanID string
	Name         string
	Attributes   []struct {
		Key   string
		Value struct{ StringValue, IntValue string }
	}
	Status struct{ Code int }
}

func (s sentSpan) attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.StringValue + a.Value.IntValue
		}
	}
	return ""
}

// spanCollector is where a bench sends its spans.
type spanCollector struct {
	*httptest.Server
	mu   sync.Mutex
	sent []byte
	list []sentSpan
}

func newSpanCollector(t *testing.T) *spanCollector {
	t.Helper()
	c := &spanCollector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		var got struct {
			ResourceSpans []struct {
				ScopeSpans []struct{ Spans []sentSpan }
			}
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sent = append(append(c.sent, body...), '\n')
		for _, of := range got.ResourceSpans {
			for _, scope := range of.ScopeSpans {
				c.list = append(c.list, scope.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// named are the spans of a name.
func (c *spanCollector) named(name string) (found []sentSpan) {
	for _, s := range c.list {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

// TestTraces: requests, what they call and renewals arrive as spans of one trace each; nothing in them names anybody, no secret is
// among them, and nobody but a trusted proxy says which trace a request is of.
func TestTraces(t *testing.T) {
	const theirs = "0af7651916cd43dd8448eb211c80319c"
	for name, trusted := range map[string][]netip.Prefix{"a stranger's traceparent": nil, "a trusted proxy's": {netip.MustParsePrefix("127.0.0.0/8")}} {
		t.Run(name, func(t *testing.T) {
			c := newSpanCollector(t)
			b := newBenchWith(t, func(s *config.Settings) {
				s.Traces.Endpoint, s.TrustedProxies = c.URL+"/v1/traces", trusted
			})
			_, host := b.newHost(t, sim.Options{})
			alice := b.browser(t)
			alice.signIn(host, "alice@pve")
			token := alice.token()
			var node string
			for _, one := range alice.nodes() {
				node = one["id"].(string)
			}
			b.App.nodes.Wait() // what a sign-in leads to has a look at the host as well
			// A test of a node calls its host in the request itself, and nothing goes on in the background yet that could renew the
			// ticket before.
			b.advance(session.RenewAfter + time.Minute)
			if r := alice.json("/api/nodes/test", map[string]any{"id": node}); r.StatusCode != http.StatusOK {
				t.Fatalf("test of the node: %d %s", r.StatusCode, r.body)
			}
			r := alice.do("GET", "/api/containers?q=mysearch", "", "", "Traceparent", "00-"+theirs+"-b7ad6b7169203331-01", "Tracestate", "vendor=their-state")
			if r.StatusCode != http.StatusOK {
				t.Fatalf("list: %d %s", r.StatusCode, r.body)
			}
			if r := alice.get("/api/secretpath/" + node); r.StatusCode != http.StatusNotFound {
				t.Fatalf("nothing there: %d", r.StatusCode)
			}
			stream := alice.stream("")
			host.SetFault("", "", sim.Fault{Refuse: true})
			failed := alice.json("/api/auth/login", input(host, "bob@pve"))
			if failed.StatusCode != http.StatusUnauthorized {
				t.Fatalf("a host that is gone: %d %s", failed.StatusCode, failed.body)
			}
			stream.close()
			<-stream.ended
			b.stop()

			c.mu.Lock()
			defer c.mu.Unlock()
			lists := c.named("GET /api/containers")
			var list sentSpan
			for _, s := range lists {
				if s.attribute("berth.request_id") == r.Header.Get("X-Request-Id") {
					list = s
				}
			}
			if list.attribute("http.response.status_code") != "200" || (list.TraceID == theirs) != (trusted != nil) {
				t.Errorf("the list: %+v among %d", list, len(lists))
			}
			tests, renewals := c.named("POST /api/nodes/test"), c.named("renew ticket")
			if len(tests) != 1 || len(renewals) != 1 || renewals[0].TraceID != tests[0].TraceID || renewals[0].ParentSpanID != tests[0].SpanID {
				t.Errorf("the renewal %+v is no part of %+v", renewals, tests)
			}
			resources, stores := 0, 0
			for _, s := range c.list {
				if s.Name == "GET cluster/resources" && s.TraceID == list.TraceID {
					resources++
					if s.attribute("berth.node") != node || s.attribute("http.response.status_code") != "200" {
						t.Errorf("%+v", s)
					}
				}
				if (strings.HasPrefix(s.Name, "sqlite ") || strings.HasPrefix(s.Name, "postgresql ")) && s.TraceID == list.TraceID {
					stores++
				}
			}
			if resources != 1 || stores == 0 {
				t.Errorf("%d readings and %d calls of stores in the list's trace", resources, stores)
			}
			if found := c.named("any /api/"); len(found) != 1 || found[0].attribute("http.response.status_code") != "404" {
				t.Errorf("what is not there: %+v", found)
			}
			if found := c.named("GET /api/events"); len(found) != 1 {
				t.Errorf("%d spans of the stream", len(found))
			}
			wrong := 0
			for _, s := range c.named("POST /api/auth/login") {
				if s.attribute("http.response.status_code") == "401" && s.attribute("berth.error_id") == failed.json(t)["errorId"] {
					wrong++
				}
			}
			if wrong != 1 {
				t.Errorf("the failure is not among %+v, or without the id of %s", c.named("POST /api/auth/login"), failed.body)
			}
			if found := c.named("POST access/ticket"); len(found) == 0 || found[len(found)-1].Status.Code != 2 || found[len(found)-1].attribute("error.type") == "" {
				t.Errorf("the call that failed: %+v", found)
			}
			// Hosts are told nothing of it.
			for _, r := range host.Requests() {
				for _, name := range r.Headers {
					if !slices.Contains([]string{"Accept", "Accept-Encoding", "Content-Length", "Content-Type", "Cookie", "Csrfpreventiontoken", "Host", "User-Agent", "X-Forwarded-For"}, name) {
						t.Errorf("%s %s came with the header %s", r.Method, r.Path, name)
					}
				}
			}
			text := string(c.sent)
			for _, never := range []string{"alice", "bob@", token, "127.0.0.1", "mysearch", "secretpath", sim.DefaultPassword, "PVEAuthCookie", "nextcloud", "pve1", host.Address(), "their-state"} {
				if never != "" && strings.Contains(text, never) {
					t.Errorf("%q was sent", never)
				}
			}
			if lines := used.in([]byte(text)); len(lines) > 0 {
				t.Errorf("secrets were sent: %d", len(lines))
			}
		})
	}
}

// TestTracesCost: without a collector a request costs what it did.
func TestTracesCost(t *testing.T) {
	c := newSpanCollector(t)
	allocations := map[string]float64{}
	for name, change := range map[string]func(*config.Settings){"none": nil, "traces": func(s *config.Settings) { s.Traces.Endpoint = c.URL }} {
		b := newBenchWith(t, change)
		_, host := b.newHost(t, sim.Options{})
		alice := b.browser(t)
		alice.signIn(host, "alice@pve")
		request := httptest.NewRequest("GET", "http://127.0.0.1/api/auth/session", nil)
		request.AddCookie(&http.Cookie{Name: "lxc-session", Value: alice.token()})
		allocations[name] = testing.AllocsPerRun(1000, func() {
			w := httptest.NewRecorder()
			if b.server.Handler.ServeHTTP(w, request); w.Code != http.StatusOK {
				t.Fatal(w.Code)
			}
		})
		if name == "none" && (b.traces != nil) {
			t.Error("there is a tracer")
		}
	}
	t.Logf("%.0f allocations for each request without, %.0f with traces", allocations["none"], allocations["traces"])
	if allocations["none"] >= allocations["traces"] {
		t.Error("spans cost nothing, so there are none")
	}
}
