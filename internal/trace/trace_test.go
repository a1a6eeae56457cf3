package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// collector is where spans are sent.
type collector struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	spans    []span
	bodies   strings.Builder
	resource map[string]string
}

func texts(of []keyValue) map[string]string {
	by := map[string]string{}
	for _, a := range of {
		if a.Value.String != nil {
			by[a.Key] = *a.Value.String
		} else {
			by[a.Key] = a.Value.Int
		}
	}
	return by
}

func newCollector(t *testing.T, answer http.HandlerFunc) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		c.mu.Lock()
		c.requests = append(c.requests, r)
		c.bodies.Write(body)
		c.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.DisallowUnknownFields()
		var sent request
		if err := decoder.Decode(&sent); err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, of := range sent.ResourceSpans {
			c.resource = texts(of.Resource.Attributes)
			for _, scope := range of.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{}")
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) options(log *bytes.Buffer) Options {
	return Options{Endpoint: c.URL + "/v1/traces", Version: "v1.2.3", Log: slog.New(slog.NewTextHandler(log, nil))}
}

func TestSpans(t *testing.T) {
	c := newCollector(t, nil)
	var log bytes.Buffer
	o := c.options(&log)
	o.Headers = http.Header{"Authorization": {"Bearer s3cret"}}
	tracer := New(o)
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	ctx := tracer.Begin(context.Background(), "00-"+trace+"-"+parent+"-01")
	tracer.Host(ctx, "GET", "nodes/{}/lxc", "n1", 200, "", 30*time.Millisecond)
	tracer.Host(ctx, "GET", "version", "", 0, "host unreachable", time.Millisecond)
	tracer.Store(ctx, "sqlite", "read", time.Millisecond, true)
	_, end := tracer.Renewal(ctx)
	end(true)
	tracer.End(ctx, Request{Method: "GET", Route: "/containers/{node}/{vmid}", Status: 502, ID: "r1", ErrorID: "e1"})
	tracer.End(ctx, Request{Method: "GET", Route: "/again", Status: 200})
	tracer.Store(ctx, "sqlite", "read", time.Millisecond, false) // its request is over
	tracer.Store(context.Background(), "sqlite", "write", time.Millisecond, false)
	// What is no traceparent begins a trace of its own, and one that is not sampled is not sent.
	for _, text := range []string{"", "nonsense", "00-" + strings.Repeat("0", 32) + "-" + parent + "-01", strings.Repeat("0", 1<<20)} {
		tracer.End(tracer.Begin(context.Background(), text), Request{Status: 404, ID: "r2"})
	}
	tracer.End(tracer.Begin(context.Background(), "00-"+trace+"-"+parent+"-00"), Request{Status: 200, ID: "unsampled"})
	tracer.Close()

	if log.Len() > 0 {
		t.Errorf("the log: %s", log.String())
	}
	for _, r := range c.requests {
		if r.Method != "POST" || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Authorization") != "Bearer s3cret" {
			t.Errorf("%s %s with %v", r.Method, r.URL.Path, r.Header)
		}
	}
	if c.resource["service.name"] != "berth" || c.resource["service.version"] != "v1.2.3" {
		t.Errorf("resource %v", c.resource)
	}
	by := map[string]span{}
	for _, s := range c.spans {
		by[s.Name] = s
	}
	whole := by["GET /containers/{node}/{vmid}"]
	of := texts(whole.Attributes)
	if whole.TraceID != trace || whole.ParentID != parent || whole.Kind != 2 || whole.Status.Code != 2 ||
		of["http.response.status_code"] != "502" || of["berth.request_id"] != "r1" || of["berth.error_id"] != "e1" || of["http.route"] != "/containers/{node}/{vmid}" {
		t.Errorf("%+v %v", whole, of)
	}
	for name, failed := range map[string]bool{"GET nodes/{}/lxc": false, "GET version": true, "sqlite read": true, "renew ticket": true} {
		s, ok := by[name]
		if !ok || s.TraceID != trace || s.ParentID != whole.SpanID || (s.Status.Code == 2) != failed || s.Start > s.End {
			t.Errorf("%s: %v %+v", name, ok, s)
		}
	}
	if of := texts(by["GET nodes/{}/lxc"].Attributes); of["berth.node"] != "n1" || of["http.response.status_code"] != "200" {
		t.Errorf("%v", of)
	}
	alone := by["any none"]
	if alone.TraceID == trace || alone.ParentID != "" || alone.Status.Code != 0 {
		t.Errorf("%+v", alone)
	}
	if len(c.spans) != 9 {
		t.Errorf("%d spans", len(c.spans))
	}
}

// A collector that hangs, refuses or leads elsewhere holds nobody up, is complained of once, and gets the headers alone.
func TestCollectorThatFails(t *testing.T) {
	elsewhere := newCollector(t, nil)
	for name, answer := range map[string]http.HandlerFunc{
		"hangs":   func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"refuses": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) },
		"leads elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		},
		"never stops": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCollector(t, answer)
			var log bytes.Buffer
			o := c.options(&log)
			o.Headers = http.Header{"Authorization": {"Bearer s3cret"}}
			tracer := New(o)
			began := time.Now()
			for range 3 * maxQueue {
				tracer.End(tracer.Begin(context.Background(), ""), Request{Method: "GET", Route: "/", Status: 200})
			}
			spent := time.Since(began)
			began = time.Now()
			tracer.Close()
			closing := time.Since(began)
			if closing > closeTime+10*time.Second { // and what a busy machine adds
				t.Errorf("the end took %v", closing)
			}
			t.Logf("%d requests in %v, the end in %v", 3*maxQueue, spent, closing)
			if name != "hangs" && name != "never stops" {
				if n := strings.Count(log.String(), "traces not sent"); n != 1 {
					t.Errorf("it is said %d times: %s", n, log.String())
				}
			}
			if text := log.String(); strings.Contains(text, "s3cret") || strings.Contains(text, c.URL) {
				t.Errorf("the log: %s", text)
			}
		})
	}
	if len(elsewhere.requests) > 0 {
		t.Error("spans and headers went where the collector led")
	}
}

// What the environment says of proxies is not for this.
func TestNoProxy(t *testing.T) {
	c := newCollector(t, nil)
	if e := newExporter(c.options(&bytes.Buffer{})); e.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("spans go by a proxy")
	}
}

// BenchmarkRequest is what each request pays.
func BenchmarkRequest(b *testing.B) {
	c := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer c.Close()
	tracer := New(Options{Endpoint: c.URL})
	defer tracer.Close()
	b.ReportAllocs()
	for b.Loop() {
		tracer.End(tracer.Begin(context.Background(), ""), Request{Method: "GET", Route: "/api/auth/session", Status: 200, ID: "r"})
	}
}
