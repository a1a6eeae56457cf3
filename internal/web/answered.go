package web

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
)

// Answered is a request that is over, for who counts them.
type Answered struct {
	// Method and Path are those of its route; empty where the route takes all, or none was reached.
	Method, Path string
	// Status is 0 if the client got no answer, or the half of one.
	Status int
	Took   time.Duration
	// ErrorID is what the log has the cause of a failure under; empty if there is nothing to look up.
	ErrorID string
	// Stream tells of an event stream, which lasts as long as somebody watches.
	Stream bool
}

// answered tells of a request that is over.
func (s *Site) answered(r *http.Request, w *answerWriter, began time.Time) {
	ctx := r.Context()
	logs := slog.Default().Enabled(ctx, slog.LevelDebug)
	if s.o.Answered == nil && !logs {
		return
	}
	a := Answered{Status: w.status, Took: time.Since(began), ErrorID: w.errorID, Stream: w.Header().Get("Content-Type") == eventStreamType}
	switch {
	case w.broken, !w.begun && ctx.Err() != nil:
		a.Status = 0
	case w.status == 0:
		a.Status = http.StatusOK // what the server sends by itself
	}
	if w.route != nil {
		a.Method, a.Path = w.route.Method, w.route.Path
	}
	if s.o.Answered != nil {
		s.o.Answered(ctx, a)
	}
	if logs {
		// The path that was asked for may hold what somebody typed; that of the route doesn't.
		slog.DebugContext(ctx, "request", "method", a.Method, "route", a.Path, "status", a.Status, "took", a.Took.String())
	}
}

// recoverPanics makes a problem page of a panic. Where the answer has begun it breaks the connection off instead: half a page
// with another one behind it must not look like a whole one.
func (s *Site) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &answerWriter{ResponseWriter: w}
		began := time.Now()
		if s.o.Begin != nil {
			r = r.WithContext(s.o.Begin(r.Context(), traceparentOf(r)))
		}
		defer func() {
			p := recover()
			if p == nil {
				s.answered(r, answer, began)
				return
			}
			answer.broken = answer.begun || p == http.ErrAbortHandler
			defer s.answered(r, answer, began)
			if p == http.ErrAbortHandler {
				panic(p)
			}
			err := fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			if answer.begun {
				_, answer.errorID = explain(r.Context(), r, err)
				panic(http.ErrAbortHandler)
			}
			// What was said of the answer that there was to be does not hold for this one.
			for _, name := range []string{"Content-Encoding", "Content-Length", "Content-Disposition"} {
				w.Header().Del(name)
			}
			w.Header().Set("Cache-Control", "no-store")
			s.answerError(answer, r, s.shapeOf(r), err)
		}()
		next.ServeHTTP(answer, r)
	})
}

// answerWriter knows what has become of an answer.
type answerWriter struct {
	http.ResponseWriter
	begun, broken bool
	status        int    // 0 for one that began without a word about it
	route         *Route // nil while none was reached
	errorID       string // see Answered
}

// traceparentOf is the trace that a request is a part of, if a trusted proxy says so.
func traceparentOf(r *http.Request) string {
	if values := r.Header.Values("Traceparent"); len(values) == 1 && arrivalOf(r.Context()).trusted {
		return values[0]
	}
	return ""
}

// streaming tells of an event stream that has begun.
func (s *Site) streaming(w http.ResponseWriter, r *http.Request) {
	if answer, ok := w.(*answerWriter); ok && s.o.Streaming != nil && answer.route != nil {
		s.o.Streaming(r.Context(), Answered{Method: answer.route.Method, Path: answer.route.Path, Status: http.StatusOK, Stream: true})
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *answerWriter) WriteHeader(code int) {
	if code >= 200 && !w.begun {
		w.begun, w.status = true, code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *answerWriter) Write(text []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(text)
}

// FlushError is what http.ResponseController flushes by.
func (w *answerWriter) FlushError() error {
	w.begun = true
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach what else the server's own writer can do.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
