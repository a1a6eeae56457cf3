package app

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/pve/sim"
	"berth/internal/replicatest"
	"berth/internal/session"
)

// scrape is what Prometheus gets from a bench that serves metrics.
func (b *bench) scrape(t *testing.T) string {
	t.Helper()
	resp, err := http.Get("http://" + b.metrics.listener.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %v: %s", resp.StatusCode, err, text)
	}
	return string(text)
}

func measured(s *config.Settings) { s.MetricsListen = "127.0.0.1:0" }

// measure makes a bench do some of everything that is counted, and returns the metrics. The session stays, and its name and
// that of its host are among what no label may hold.
func measure(t *testing.T) (b *bench, text string) {
	t.Helper()
	b = newBenchWith(t, measured)
	_, host := b.newHost(t, sim.Options{})
	alice := b.past(t)
	wrong := input(host, "alice@pve")
	wrong["password"] = "not-hers"
	if r := alice.json("/api/auth/login", wrong); r.StatusCode != http.StatusUnauthorized {
		t.Fatalf("a wrong password: %d", r.StatusCode)
	}
	alice.signIn(host, "alice@pve")
	b.advance(session.RenewAfter + time.Minute)
	if r := alice.get("/api/containers"); r.StatusCode != http.StatusOK {
		t.Fatalf("list: %d %s", r.StatusCode, r.body)
	}
	if r := alice.get("/no/such/page"); r.StatusCode != http.StatusNotFound {
		t.Fatalf("a page that is not there: %d", r.StatusCode)
	}
	if r := alice.do("GET", "/api/about", "", "", "Authorization", "Bearer nonsense"); r.StatusCode != http.StatusUnauthorized {
		t.Fatalf("a wrong token: %d", r.StatusCode)
	}
	request, err := http.NewRequest("GET", b.App.URL()+"/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := alice.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Body.Close() })
	if _, err := stream.Body.Read(make([]byte, 1)); err != nil { // it has begun, and goes on
		t.Fatal(err)
	}
	return b, b.scrape(t)
}

func TestMetrics(t *testing.T) {
	b, text := measure(t)
	kind := "sqlite"
	if b.store.Shared() {
		kind = "postgresql"
	}
	for _, line := range []string{
		`berth_http_requests_total{method="GET",route="/api/containers",status="2xx"} 1`,
		`berth_http_requests_total{method="POST",route="/api/auth/login",status="4xx"} 1`,
		`berth_http_requests_total{method="POST",route="/api/auth/login",status="2xx"} 1`,
		`berth_http_requests_total{method="GET",route="/api/about",status="4xx"} 1`,
		`berth_http_requests_total{method="any",route="/",status="4xx"} 1`,
		`berth_http_request_duration_seconds_count{method="GET",route="/api/containers"} 1`,
		`berth_sign_ins_total{result="ok"} 1`,
		`berth_sign_ins_total{result="refused"} 1`,
		`berth_ticket_renewals_total{result="ok"} 1`,
		`berth_sessions 1`,
		`berth_watches 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("there is no line %q", line)
		}
	}
	for _, pattern := range []string{
		`berth_node_readings_total\{node="\w+",result="ok"\} [1-9]`,
		`berth_watch_lag_seconds\{node="\w+"\} `,
		`berth_store_duration_seconds_count\{operation="read",store="` + kind + `"\} [1-9]`,
		`berth_store_duration_seconds_count\{operation="transaction",store="` + kind + `"\} [1-9]`,
	} {
		if !regexp.MustCompile(`(?m)^` + pattern).MatchString(text) {
			t.Errorf("nothing matches %s", pattern)
		}
	}
	for _, name := range []string{"alice", "127.0.0.1", "nextcloud", "no/such", "nonsense"} {
		if strings.Contains(text, name) {
			t.Errorf("the metrics hold %q", name)
		}
	}
	if strings.Contains(text, `berth_store_errors_total{`) {
		t.Error("a store failed, or an answer of it counts as a failure")
	}
	// Nobody finds them where people sign in.
	if r := b.browser(t).get("/metrics"); r.StatusCode != http.StatusSeeOther {
		t.Errorf("/metrics beside the pages: %d", r.StatusCode)
	}
	resp, err := http.Get("http://" + b.metrics.listener.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("pages beside the metrics: %d", resp.StatusCode)
	}
}

// A database that fails shows.
func TestMetricsOfAStoreThatFails(t *testing.T) {
	replicatest.Alone(t, replicatest.Own)
	b := newBenchWith(t, measured)
	if r := b.browser(t).get("/readyz"); r.StatusCode != http.StatusOK {
		t.Fatalf("/readyz: %d", r.StatusCode)
	}
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	if r := b.browser(t).get("/readyz"); r.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("/readyz: %d", r.StatusCode)
	}
	if text := b.scrape(t); !strings.Contains(text, "\nberth_store_errors_total{store=\"sqlite\"} 1\n") {
		t.Errorf("the failure does not show: %s", regexp.MustCompile(`(?m)^berth_store_err.*`).FindAllString(text, -1))
	}
}

// TestDashboardFile: each metric that the Grafana dashboard asks for is there, with the labels that it asks for.
func TestDashboardFile(t *testing.T) {
	_, text := measure(t)
	exported := map[string][]string{} // labels by name
	for _, line := range regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? `).FindAllStringSubmatch(text, -1) {
		var labels []string
		for _, l := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(line[2], -1) {
			labels = append(labels, l[1])
		}
		exported[line[1]] = labels
	}
	// These have no series before something has failed.
	exported["berth_store_errors_total"] = []string{"store"}

	raw, err := os.ReadFile("../../deploy/grafana/berth.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &dashboard); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			names := regexp.MustCompile(`\b(?:berth|go|process)_[a-z_]+`).FindAllString(target.Expr, -1)
			if len(names) == 0 {
				t.Errorf("%s asks for no metric: %s", panel.Title, target.Expr)
			}
			for _, name := range names {
				asked++
				labels, ok := exported[name]
				if !ok {
					t.Errorf("%s asks for %s, which is not there", panel.Title, name)
				}
				for _, by := range regexp.MustCompile(`by \(([^)]*)\)`).FindAllStringSubmatch(target.Expr, -1) {
					for _, label := range strings.Split(by[1], ",") {
						if label = strings.TrimSpace(label); label != "instance" && !slices.Contains(labels, label) {
							t.Errorf("%s: %s has no label %s", panel.Title, name, label)
						}
					}
				}
			}
		}
	}
	if asked < 10 {
		t.Errorf("found only %d metrics in the dashboard: the search is wrong", asked)
	}
}

// TestMetricsCost: what counts a request allocates nothing. With -v it also tells what it adds to the session check's time,
// without the network.
func TestMetricsCost(t *testing.T) {
	replicatest.Alone(t, replicatest.Own)
	allocations, times := map[string]float64{}, map[string]float64{}
	for name, change := range map[string]func(*config.Settings){"bare": nil, "metrics": measured} {
		b := newBenchWith(t, change)
		_, host := b.newHost(t, sim.Options{})
		alice := b.browser(t)
		alice.signIn(host, "alice@pve")
		request := httptest.NewRequest("GET", "http://127.0.0.1/api/auth/session", nil)
		request.AddCookie(&http.Cookie{Name: "lxc-session", Value: alice.token()})
		check := func() {
			w := httptest.NewRecorder()
			if b.server.Handler.ServeHTTP(w, request); w.Code != http.StatusOK {
				t.Fatal(w.Code)
			}
		}
		allocations[name] = testing.AllocsPerRun(1000, check)
		if testing.Verbose() {
			times[name] = float64(testing.Benchmark(func(b *testing.B) {
				for range b.N {
					check()
				}
			}).NsPerOp())
		}
	}
	if more := allocations["metrics"] - allocations["bare"]; more > 0.5 {
		t.Errorf("%v allocations for each request, and %v with metrics", allocations["bare"], allocations["metrics"])
	}
	t.Logf("%.0f ns without and %.0f ns with metrics, %v allocations", times["bare"], times["metrics"], allocations["bare"])
}

// The address of the metrics is Berth's own: nobody can have Berth call it.
func TestMetricsAreNoHost(t *testing.T) {
	b := newBenchWith(t, measured)
	for name, listener := range map[string]net.Listener{"pages": b.listener, "metrics": b.metrics.listener} {
		port := listener.Addr().(*net.TCPAddr).Port
		_, err := b.client.Host(pve.Address{Host: "127.0.0.1", Port: port}, pve.Trust{}).Handshake(t.Context())
		if !pve.IsKind(err, pve.KindRefusedAddress) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
