package app

import (
	"context"
	"time"

	"berth/internal/config"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/store"
	"berth/internal/trace"
	"berth/internal/web"
)

// watchers are who is told what goes on: the metrics and the traces, each nil without its flag. Where both are, so are the hooks.
type watchers struct {
	metrics *meter
	traces  *trace.Tracer
}

// newTracer returns what makes traces; nil if there is nowhere to send them.
func newTracer(settings config.Settings, version string) *trace.Tracer {
	if settings.Traces.Endpoint == "" {
		return nil
	}
	return trace.New(trace.Options{Endpoint: settings.Traces.Endpoint, Headers: settings.Traces.Headers, Roots: settings.Roots, Version: version})
}

// store hangs both on the database.
func (w watchers) store(s *store.Store) {
	if w.metrics == nil && w.traces == nil {
		return
	}
	name := "sqlite"
	if s.Shared() {
		name = "postgresql"
	}
	s.Observe(func(ctx context.Context, operation string, took time.Duration, err error) {
		w.called(ctx, name, operation, took, err)
	})
}

// redis is told of calls to Redis.
func (w watchers) redis() func(context.Context, time.Duration, error) {
	if w.metrics == nil && w.traces == nil {
		return nil
	}
	return func(ctx context.Context, took time.Duration, err error) { w.called(ctx, "redis", "call", took, err) }
}

func (w watchers) called(ctx context.Context, store, operation string, took time.Duration, err error) {
	if w.metrics != nil {
		w.metrics.Store(store, operation, took, err)
	}
	if w.traces != nil {
		w.traces.Store(ctx, store, operation, took, err != nil)
	}
}

// begin is told of requests.
func (w watchers) begin() func(context.Context, string) context.Context {
	if w.traces == nil {
		return nil
	}
	return w.traces.Begin
}

// answered is told of requests that are over.
func (w watchers) answered() func(context.Context, web.Answered) {
	if w.metrics == nil && w.traces == nil {
		return nil
	}
	return func(ctx context.Context, a web.Answered) {
		if w.metrics != nil {
			w.metrics.Request(a.Method, a.Path, a.Status, a.Took, a.Stream)
		}
		if w.traces != nil {
			w.end(ctx, a)
		}
	}
}

// streaming is told of event streams that have begun: a span that lasts as long as somebody watches would say nothing.
func (w watchers) streaming() func(context.Context, web.Answered) {
	if w.traces == nil {
		return nil
	}
	return w.end
}

func (w watchers) end(ctx context.Context, a web.Answered) {
	w.traces.End(ctx, trace.Request{Method: a.Method, Route: a.Path, Status: a.Status, ID: fault.RequestID(ctx), ErrorID: a.ErrorID})
}

// hosts is told of calls to Proxmox VE.
func (w watchers) hosts() func(context.Context, pve.Called) {
	if w.traces == nil {
		return nil
	}
	return func(ctx context.Context, c pve.Called) {
		w.traces.Host(ctx, c.Method, c.Path, c.Node, c.Status, c.Kind, c.Took)
	}
}

// renewer watches the renewals of another.
func (w watchers) renewer(of session.Renewer) session.Renewer {
	of = w.metrics.renewer(of)
	if w.traces == nil {
		return of
	}
	return tracedRenewer{of, w.traces}
}

type tracedRenewer struct {
	session.Renewer
	traces *trace.Tracer
}

// RenewTicket implements session.Renewer.
func (r tracedRenewer) RenewTicket(ctx context.Context, whose session.Identity, loginHost string, old pve.Ticket) (pve.Ticket, error) {
	ctx, end := r.traces.Renewal(ctx)
	fresh, err := r.Renewer.RenewTicket(ctx, whose, loginHost, old)
	end(err != nil)
	return fresh, err
}
