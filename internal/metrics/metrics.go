package metrics

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// maxNodes bounds the values of the label "node".
	maxNodes = 200
	// others is the value for the nodes beyond that.
	others = "other"
	// maxScrapes is how many may ask at the same time.
	maxScrapes = 4
)

// Metrics are the metrics of one running Berth. They are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	requests    *prometheus.CounterVec
	durations   *prometheus.HistogramVec
	byRoute     sync.Map // route to *routeMetrics
	signIns     *prometheus.CounterVec
	renewals    *prometheus.CounterVec
	renewalTime prometheus.Observer
	readings    *prometheus.CounterVec
	readingTime *prometheus.HistogramVec
	storeTime   *prometheus.HistogramVec
	storeErrors *prometheus.CounterVec

	mu    sync.Mutex
	nodes map[string]struct{} // the values of the label "node" that are in use
}

// route is what tells requests apart: the methods and paths of the route table, never what was asked for.
type route struct{ method, path string }

// routeMetrics are kept at hand for each route, so that a request looks up no label.
type routeMetrics struct {
	classes  [6]prometheus.Counter // by the first digit of the status; 0 without one
	duration prometheus.Observer
}

// Seconds, from what memory answers to what a Proxmox VE host takes to refuse a password.
var (
	requestBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	storeBuckets   = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .1, .5, 2}
	hostBuckets    = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2, 4, 8}
)

// New returns metrics for a version of Berth, with those of the Go runtime and of the process.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), nodes: map[string]struct{}{}}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		m.registry.MustRegister(h)
		return h
	}
	m.requests = counter("berth_http_requests_total", "Requests that were answered, event streams when they ended; status is the class, none where the client had gone.", "method", "route", "status")
	m.durations = histogram("berth_http_request_duration_seconds", "How long answers took, but for event streams.", requestBuckets, "method", "route")
	m.signIns = counter("berth_sign_ins_total", "Steps of sign-ins, by how they ended.", "result")
	m.renewals = counter("berth_ticket_renewals_total", "Renewals of Proxmox VE tickets, by how they ended.", "result")
	m.renewalTime = histogram("berth_ticket_renewal_duration_seconds", "How long Proxmox VE hosts took to renew tickets.", hostBuckets).WithLabelValues()
	m.readings = counter("berth_node_readings_total", "Readings of nodes, by node id and how they ended.", "node", "result")
	m.readingTime = histogram("berth_node_reading_duration_seconds", "How long nodes took to answer readings, refusals included.", hostBuckets, "subject")
	m.storeTime = histogram("berth_store_duration_seconds", "How long stores took to answer, errors included.", storeBuckets, "store", "operation")
	m.storeErrors = counter("berth_store_errors_total", "Calls of stores that failed.", "store")
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "berth_build_info", Help: "1, with the version of Berth.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	m.registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers scrapes, whatever they ask for.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
}

// Request counts an answer. Method and path are those of the route, empty for one that takes all or when none was reached;
// status is 0 where there was no answer. A stream lasts as long as somebody watches, which says nothing about Berth.
func (m *Metrics) Request(method, path string, status int, took time.Duration, stream bool) {
	of := route{method, path}
	found, ok := m.byRoute.Load(of)
	if !ok {
		if method == "" {
			method = "any"
		}
		if path == "" {
			path = "none"
		}
		made := &routeMetrics{duration: m.durations.WithLabelValues(method, path)}
		for i := range made.classes {
			class := "none"
			if i > 0 {
				class = strconv.Itoa(i) + "xx"
			}
			made.classes[i] = m.requests.WithLabelValues(method, path, class)
		}
		found, _ = m.byRoute.LoadOrStore(of, made)
	}
	r := found.(*routeMetrics)
	class := status / 100
	if class < 0 || class >= len(r.classes) {
		class = 0
	}
	r.classes[class].Inc()
	if !stream {
		r.duration.Observe(took.Seconds())
	}
}

// SignIn counts a step of a sign-in by its result, one of a few words.
func (m *Metrics) SignIn(result string) { m.signIns.WithLabelValues(result).Inc() }

// Renewal counts the renewal of a ticket.
func (m *Metrics) Renewal(took time.Duration, err error) {
	m.renewals.WithLabelValues(resultOf(err)).Inc()
	m.renewalTime.Observe(took.Seconds())
}

// Reading counts a reading of a node. The subject is one of a few words.
func (m *Metrics) Reading(node, subject string, took time.Duration, err error) {
	m.readings.WithLabelValues(m.label(node), resultOf(err)).Inc()
	m.readingTime.WithLabelValues(subject).Observe(took.Seconds())
}

// Store notes a call of a store. Both names are among a few.
func (m *Metrics) Store(store, operation string, took time.Duration, err error) {
	m.storeTime.WithLabelValues(store, operation).Observe(took.Seconds())
	if err != nil {
		m.storeErrors.WithLabelValues(store).Inc()
	}
}

// Gauge shows a number that is asked for at each scrape.
func (m *Metrics) Gauge(name, help string, now func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(now()) }))
}

// Lags shows for each node that somebody watches how old is what was last read of it.
func (m *Metrics) Lags(now func() map[string]time.Duration) {
	m.registry.MustRegister(lags{
		m: m, now: now,
		desc: prometheus.NewDesc("berth_watch_lag_seconds", "Age of what was last read of a node that somebody watches, by node id.", []string{"node"}, nil),
	})
}

type lags struct {
	m    *Metrics
	now  func() map[string]time.Duration
	desc *prometheus.Desc
}

func (l lags) Describe(to chan<- *prometheus.Desc) { to <- l.desc }

// Collect tells the greatest lag of those that share a label.
func (l lags) Collect(to chan<- prometheus.Metric) {
	greatest := map[string]time.Duration{}
	for node, lag := range l.now() {
		label := l.m.label(node)
		greatest[label] = max(greatest[label], lag)
	}
	for label, lag := range greatest {
		to <- prometheus.MustNewConstMetric(l.desc, prometheus.GaugeValue, lag.Seconds(), label)
	}
}

// label is the value that stands for a node.
func (m *Metrics) label(node string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.nodes[node]; !known {
		if len(m.nodes) >= maxNodes {
			return others
		}
		m.nodes[node] = struct{}{}
	}
	return node
}

func resultOf(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}
