package trace

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	// maxQueue bounds the spans that wait to be sent. What is beyond that is dropped, and nobody waits.
	maxQueue = 4096
	maxBatch = 512
	// sendEvery is how long a span waits at most before it is sent.
	sendEvery = 5 * time.Second
	// closeTime bounds what Close waits for.
	closeTime = 2 * time.Second
	// maxParent bounds a traceparent that is looked at.
	maxParent = 256
)

// Options are what New needs. Endpoint is required.
type Options struct {
	// Endpoint takes spans by OTLP over HTTP, as JSON: the whole address, such as http://127.0.0.1:4318/v1/traces.
	Endpoint string
	// Headers go with each request to it; they may hold secrets.
	Headers http.Header
	// Roots verify its certificate; nil for the system's.
	Roots   *x509.CertPool
	Version string
	Log     *slog.Logger
}

// Tracer makes spans. It is safe for concurrent use.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	exporter *exporter
}

// New returns a tracer, which connects when there is something to send. It must be closed.
func New(o Options) *Tracer {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	e := newExporter(o)
	provider := sdk.NewTracerProvider(
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "berth"), attribute.String("service.version", o.Version))),
		sdk.WithSampler(sdk.ParentBased(sdk.AlwaysSample())),
		sdk.WithBatcher(e, sdk.WithMaxQueueSize(maxQueue), sdk.WithMaxExportBatchSize(maxBatch), sdk.WithBatchTimeout(sendEvery), sdk.WithExportTimeout(sendTime)),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("berth"), exporter: e}
}

// Close sends what waits, within two seconds. Nothing is sent or logged once it has returned.
func (t *Tracer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	// What could not be sent by then is lost, and the exporter has said so.
	_ = t.provider.Shutdown(ctx)
	t.exporter.close()
}

// Begin begins the span of a request. The traceparent, empty for none, is that of whoever sent it on, whose word about the trace
// counts.
func (t *Tracer) Begin(ctx context.Context, traceparent string) context.Context {
	if traceparent != "" && len(traceparent) <= maxParent {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
	}
	ctx, _ = t.tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer))
	return ctx
}

// Request is a request that is over, or a stream that has begun.
type Request struct {
	// Method and Route are those of the route table, never what was asked for; empty where the route takes all or none was
	// reached.
	Method, Route string
	Status        int // 0 without an answer
	// ID is the request's, and ErrorID that of its error in the log, if it has one.
	ID, ErrorID string
}

// End ends the span of a request. What comes after the first end is not noted.
func (t *Tracer) End(ctx context.Context, r Request) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	method, route := r.Method, r.Route
	if method == "" {
		method = "any"
	}
	if route == "" {
		route = "none"
	}
	span.SetName(method + " " + route)
	span.SetAttributes(attribute.String("http.request.method", method), attribute.String("http.route", route), attribute.String("berth.request_id", r.ID))
	if r.Status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", r.Status))
	}
	if r.ErrorID != "" {
		span.SetAttributes(attribute.String("berth.error_id", r.ErrorID))
	}
	if r.Status == 0 || r.Status >= 500 {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// Host notes a call to a Proxmox VE host. The path is a template, node is Berth's id of the node or empty, status 0 without an
// answer, and kind says in one of a few words what went wrong; it is empty if nothing did.
func (t *Tracer) Host(ctx context.Context, method, path, node string, status int, kind string, took time.Duration) {
	attributes := []attribute.KeyValue{attribute.String("http.request.method", method), attribute.String("url.template", path)}
	if node != "" {
		attributes = append(attributes, attribute.String("berth.node", node))
	}
	if status != 0 {
		attributes = append(attributes, attribute.Int("http.response.status_code", status))
	}
	if kind != "" {
		attributes = append(attributes, attribute.String("error.type", kind))
	}
	t.note(ctx, method+" "+path, took, kind != "", attributes...)
}

// Store notes a call of a store. Both names are among a few.
func (t *Tracer) Store(ctx context.Context, store, operation string, took time.Duration, failed bool) {
	t.note(ctx, store+" "+operation, took, failed, attribute.String("db.system.name", store), attribute.String("db.operation.name", operation))
}

// note makes a span of what is over, if it belongs to one that goes on.
func (t *Tracer) note(ctx context.Context, name string, took time.Duration, failed bool, attributes ...attribute.KeyValue) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	end := time.Now()
	_, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(end.Add(-took)), trace.WithAttributes(attributes...))
	if failed {
		span.SetStatus(codes.Error, "")
	}
	span.End(trace.WithTimestamp(end))
}

// Renewal begins the span of the renewal of a ticket, in a request or by itself; end is called when it is over.
func (t *Tracer) Renewal(ctx context.Context) (_ context.Context, end func(failed bool)) {
	ctx, span := t.tracer.Start(ctx, "renew ticket")
	return ctx, func(failed bool) {
		if failed {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}
