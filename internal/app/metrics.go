package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"berth/internal/auth"
	"berth/internal/container"
	"berth/internal/metrics"
	"berth/internal/pve"
	"berth/internal/session"
)

// meter hangs the metrics on the hooks of the other parts, and serves them at an address of their own. Of a nil meter all hooks
// are nil, so that what nobody wants to know costs nothing.
type meter struct {
	*metrics.Metrics
	listener net.Listener
	server   *http.Server
}

// newMeter listens for scrapes; nil if there is no address to listen on.
func newMeter(address, version string) (*meter, error) {
	if address == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s for metrics: %w", address, reason(err))
	}
	m := &meter{Metrics: metrics.New(version), listener: listener}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	m.server = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    8 << 10,
	}
	return m, nil
}

// run serves until close.
func (m *meter) run(failed chan<- error) {
	if m == nil {
		return
	}
	go func() {
		if err := m.server.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
}

func (m *meter) close() error {
	if m == nil {
		return nil
	}
	err := m.server.Close()
	// The server closes a listener only if it has served.
	if again := m.listener.Close(); !errors.Is(again, net.ErrClosed) {
		err = errors.Join(err, again)
	}
	return err
}

func (m *meter) stepped() func(auth.SignInResult) {
	if m == nil {
		return nil
	}
	return func(r auth.SignInResult) { m.SignIn(string(r)) }
}

// renewer counts the renewals of another.
func (m *meter) renewer(of session.Renewer) session.Renewer {
	if m == nil {
		return of
	}
	return meteredRenewer{of, m}
}

type meteredRenewer struct {
	session.Renewer
	meter *meter
}

// RenewTicket implements session.Renewer.
func (r meteredRenewer) RenewTicket(ctx context.Context, whose session.Identity, loginHost string, old pve.Ticket) (pve.Ticket, error) {
	began := time.Now()
	fresh, err := r.Renewer.RenewTicket(ctx, whose, loginHost, old)
	r.meter.Renewal(time.Since(began), err)
	return fresh, err
}

// watch shows what the sessions and the watching of nodes come to.
func (m *meter) watch(sessions *session.Registry, containers *container.Service) {
	if m == nil {
		return
	}
	m.Gauge("berth_sessions", "Living sessions that were used here.", sessions.InUse)
	m.Gauge("berth_watches", "Pages and programs that watch, by event streams.", containers.Watches)
	m.Lags(containers.Lags)
	containers.Observe(func(r container.Reading) { m.Reading(r.Node, r.Subject, r.Took, r.Err) })
}
