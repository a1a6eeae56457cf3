package trace

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	// sendTime bounds one request to the collector.
	sendTime = 5 * time.Second
	// complainTime is how often a failure is logged.
	complainTime = time.Minute
	maxAnswer    = 64 << 10
)

// exporter sends spans by OTLP over HTTP, as JSON (opentelemetry-proto, docs/specification.md, "JSON Protobuf Encoding"). What
// can't be sent is dropped.
type exporter struct {
	endpoint string
	headers  http.Header
	client   *http.Client
	log      *slog.Logger

	ended   context.Context
	end     context.CancelFunc
	sending sync.Mutex // held by ExportSpans

	mu      sync.Mutex
	said    time.Time // when a failure was logged last
	dropped int       // spans since then
}

func newExporter(o Options) *exporter {
	ended, end := context.WithCancel(context.Background())
	return &exporter{
		endpoint: o.Endpoint, headers: o.Headers, log: o.Log, ended: ended, end: end,
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:                  nil, // never the environment's, as with all that Berth asks for
				TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
				MaxIdleConnsPerHost:    1,
				IdleConnTimeout:        time.Minute,
				MaxResponseHeaderBytes: maxAnswer,
			},
			// The headers are for the endpoint alone.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// ExportSpans implements sdk.SpanExporter. It returns no error: the library would log each.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	e.sending.Lock()
	defer e.sending.Unlock()
	if e.ended.Err() != nil {
		return nil
	}
	if err := e.send(ctx, spans); err != nil {
		e.complain(err, len(spans))
	}
	return nil
}

// close ends what is being sent: the library's shutdown may return before it. Nothing is sent or logged afterwards.
func (e *exporter) close() {
	e.end()
	e.sending.Lock()
	defer e.sending.Unlock()
	e.client.CloseIdleConnections()
}

// Shutdown implements sdk.SpanExporter. The library calls it while a request may still run; close waits for that.
func (e *exporter) Shutdown(context.Context) error { return nil }

func (e *exporter) send(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	body, err := json.Marshal(encode(spans))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	defer context.AfterFunc(e.ended, cancel)()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, values := range e.headers {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Berth")
	resp, err := e.client.Do(req)
	if err != nil {
		var inside *url.Error // which repeats the address
		if errors.As(err, &inside) {
			err = inside.Err
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("it answers with status %d", resp.StatusCode)
	}
	return nil
}

// complain logs a failure, once a minute at most.
func (e *exporter) complain(err error, spans int) {
	e.mu.Lock()
	e.dropped += spans
	dropped := e.dropped
	due := e.said.IsZero() || time.Since(e.said) >= complainTime
	if due {
		e.said, e.dropped = time.Now(), 0
	}
	e.mu.Unlock()
	if due {
		e.log.Warn("traces not sent", "spans", dropped, "cause", err)
	}
}

// The messages of OTLP, as far as they are used (opentelemetry/proto/trace/v1/trace.proto). Ids are hexadecimal and 64-bit numbers
// are texts.
type (
	request struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   attributed   `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	attributed struct {
		Attributes []keyValue `json:"attributes"`
	}
	scopeSpans struct {
		Scope scope  `json:"scope"`
		Spans []span `json:"spans"`
	}
	scope struct {
		Name string `json:"name"`
	}
	span struct {
		TraceID    string     `json:"traceId"`
		SpanID     string     `json:"spanId"`
		TraceState string     `json:"traceState,omitempty"`
		ParentID   string     `json:"parentSpanId,omitempty"`
		Flags      uint32     `json:"flags"`
		Name       string     `json:"name"`
		Kind       int        `json:"kind"`
		Start      string     `json:"startTimeUnixNano"`
		End        string     `json:"endTimeUnixNano"`
		Attributes []keyValue `json:"attributes"`
		Dropped    int        `json:"droppedAttributesCount,omitempty"`
		Status     status     `json:"status"`
	}
	status struct {
		Code int `json:"code,omitempty"`
	}
	keyValue struct {
		Key   string `json:"key"`
		Value value  `json:"value"`
	}
	value struct {
		String *string `json:"stringValue,omitempty"`
		Int    string  `json:"intValue,omitempty"`
	}
)

// statusError is STATUS_CODE_ERROR.
const statusError = 2

// encode makes a request of spans, which are all of one resource and one scope.
func encode(spans []sdk.ReadOnlySpan) request {
	if len(spans) == 0 {
		return request{ResourceSpans: []resourceSpans{}}
	}
	of := resourceSpans{
		Resource:   attributed{keyValues(spans[0].Resource().Attributes())},
		ScopeSpans: []scopeSpans{{Scope: scope{spans[0].InstrumentationScope().Name}, Spans: make([]span, len(spans))}},
	}
	for i, s := range spans {
		with := s.SpanContext()
		one := span{
			TraceID: with.TraceID().String(), SpanID: with.SpanID().String(), TraceState: with.TraceState().String(), Flags: uint32(with.TraceFlags()),
			Name: s.Name(), Kind: kinds[s.SpanKind()], Start: nanoseconds(s.StartTime()), End: nanoseconds(s.EndTime()),
			Attributes: keyValues(s.Attributes()), Dropped: s.DroppedAttributes(),
		}
		if parent := s.Parent(); parent.HasSpanID() {
			one.ParentID = parent.SpanID().String()
		}
		if failed(s) {
			one.Status.Code = statusError
		}
		of.ScopeSpans[0].Spans[i] = one
	}
	return request{ResourceSpans: []resourceSpans{of}}
}

// kinds are the numbers of OTLP's SpanKind.
var kinds = map[trace.SpanKind]int{trace.SpanKindInternal: 1, trace.SpanKindServer: 2, trace.SpanKindClient: 3}

func nanoseconds(at time.Time) string { return strconv.FormatInt(at.UnixNano(), 10) }

// keyValues are attributes that are texts or whole numbers; whatever else is one as text.
func keyValues(of []attribute.KeyValue) []keyValue {
	list := make([]keyValue, len(of))
	for i, a := range of {
		list[i].Key = string(a.Key)
		if a.Value.Type() == attribute.INT64 {
			list[i].Value.Int = strconv.FormatInt(a.Value.AsInt64(), 10)
			continue
		}
		text := a.Value.String()
		list[i].Value.String = &text
	}
	return list
}

func failed(s sdk.ReadOnlySpan) bool { return s.Status().Code == codes.Error }
