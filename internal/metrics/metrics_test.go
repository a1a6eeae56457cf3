package metrics

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// scrape is what Prometheus gets.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d %v: %s", w.Code, err, text)
	}
	return string(text)
}

func expect(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("there is no line %q", line)
		}
	}
}

func TestCounts(t *testing.T) {
	m := New("v1.2.3")
	m.Request("GET", "/containers/{node}/{vmid}", 200, 30*time.Millisecond, false)
	m.Request("GET", "/containers/{node}/{vmid}", 204, 30*time.Millisecond, false)
	m.Request("GET", "/containers/{node}/{vmid}", 502, 30*time.Millisecond, false)
	m.Request("GET", "/api/events", 200, time.Hour, true)
	m.Request("", "/", 404, time.Millisecond, false)
	m.Request("", "", 421, time.Millisecond, false)
	m.Request("GET", "/healthz", 0, time.Millisecond, false)
	m.Request("GET", "/healthz", 999, time.Millisecond, false)
	m.SignIn("refused")
	m.Renewal(time.Second, nil)
	m.Renewal(time.Second, errors.New("no answer"))
	m.Reading("n1", "containers", 20*time.Millisecond, nil)
	m.Reading("n1", "tasks", 20*time.Millisecond, errors.New("no answer"))
	m.Store("sqlite", "read", 200*time.Microsecond, nil)
	m.Store("sqlite", "write", 200*time.Microsecond, errors.New("disk full"))
	watching := 3
	m.Gauge("berth_watches", "Watches.", func() int { return watching })
	m.Lags(func() map[string]time.Duration { return map[string]time.Duration{"n1": 1500 * time.Millisecond} })
	text := scrape(t, m)
	expect(t, text,
		`berth_build_info{version="v1.2.3"} 1`,
		`berth_http_requests_total{method="GET",route="/containers/{node}/{vmid}",status="2xx"} 2`,
		`berth_http_requests_total{method="GET",route="/containers/{node}/{vmid}",status="5xx"} 1`,
		`berth_http_request_duration_seconds_count{method="GET",route="/containers/{node}/{vmid}"} 3`,
		`berth_http_request_duration_seconds_bucket{method="GET",route="/containers/{node}/{vmid}",le="0.025"} 0`,
		`berth_http_request_duration_seconds_bucket{method="GET",route="/containers/{node}/{vmid}",le="0.05"} 3`,
		`berth_http_requests_total{method="GET",route="/api/events",status="2xx"} 1`,
		`berth_http_requests_total{method="any",route="/",status="4xx"} 1`,
		`berth_http_requests_total{method="any",route="none",status="4xx"} 1`,
		`berth_http_requests_total{method="GET",route="/healthz",status="none"} 2`,
		`berth_sign_ins_total{result="refused"} 1`,
		`berth_ticket_renewals_total{result="ok"} 1`,
		`berth_ticket_renewals_total{result="error"} 1`,
		`berth_node_readings_total{node="n1",result="ok"} 1`,
		`berth_node_readings_total{node="n1",result="error"} 1`,
		`berth_node_reading_duration_seconds_count{subject="tasks"} 1`,
		`berth_store_duration_seconds_count{operation="write",store="sqlite"} 1`,
		`berth_store_errors_total{store="sqlite"} 1`,
		`berth_watches 3`,
		`berth_watch_lag_seconds{node="n1"} 1.5`,
	)
	if strings.Contains(text, `berth_http_request_duration_seconds_count{method="GET",route="/api/events"} 1`) {
		t.Error("an event stream is among the durations")
	}
	if !strings.Contains(text, "\ngo_goroutines ") {
		t.Error("there is nothing of the Go runtime")
	}
	watching = 0
	expect(t, scrape(t, m), `berth_watches 0`)
}

// Whoever adds nodes without end makes no more than maxNodes series of them, beside one for the rest.
func TestNodesAreBounded(t *testing.T) {
	m := New("")
	lags := map[string]time.Duration{}
	for i := range 3 * maxNodes {
		node := fmt.Sprintf("n%d", i)
		m.Reading(node, "containers", time.Millisecond, nil)
		lags[node] = time.Duration(i) * time.Second
	}
	m.Lags(func() map[string]time.Duration { return lags })
	text := scrape(t, m)
	expect(t, text,
		fmt.Sprintf(`berth_node_readings_total{node="other",result="ok"} %d`, 2*maxNodes),
		fmt.Sprintf(`berth_watch_lag_seconds{node="other"} %d`, 3*maxNodes-1),
		`berth_node_readings_total{node="n0",result="ok"} 1`,
	)
	if n := strings.Count(text, "\nberth_watch_lag_seconds{"); n != maxNodes+1 {
		t.Errorf("%d lags, want %d", n, maxNodes+1)
	}
}

// BenchmarkRequest is what each request pays.
func BenchmarkRequest(b *testing.B) {
	m := New("")
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			m.Request("GET", "/api/auth/session", 200, 80*time.Microsecond, false)
		}
	})
}
