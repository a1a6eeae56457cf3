package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"berth/internal/api"
	"berth/internal/audit"
	"berth/internal/auth"
	"berth/internal/config"
	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/store"
	"berth/internal/task"
	"berth/internal/token"
	"berth/internal/trace"
	"berth/internal/web"
)

const (
	// drainTime is how long running requests get when the program ends.
	drainTime = 10 * time.Second
	sweepTime = time.Minute
	// noticeTime is how soon changes by another process (berth hosts, berth keys) are noticed.
	noticeTime = time.Second
)

// Option changes what New would do by itself. The program uses none but Version and Suggest; the others are for tests.
type Option func(*options)

type options struct {
	now        func() time.Time
	wait       func(context.Context, time.Duration)
	pause      func(context.Context, time.Duration) error
	pve        pve.Options
	version    string
	host, port string
}

// WithClock replaces the clock of sessions, sign-ins and readings.
func WithClock(now func() time.Time) Option { return func(o *options) { o.now = now } }

// WithWait replaces the sleep before a refused sign-in is answered.
func WithWait(wait func(context.Context, time.Duration)) Option {
	return func(o *options) { o.wait = wait }
}

// WithPause replaces the wait between two looks at a task.
func WithPause(pause func(context.Context, time.Duration) error) Option {
	return func(o *options) { o.pause = pause }
}

// WithProxmox changes how Proxmox VE hosts are called.
func WithProxmox(p pve.Options) Option { return func(o *options) { o.pve = p } }

// WithVersion is the version that the API's document names.
func WithVersion(v string) Option { return func(o *options) { o.version = v } }

// WithSuggestion fills in the sign-in page of a browser that has not signed in yet.
func WithSuggestion(host, port string) Option {
	return func(o *options) { o.host, o.port = host, port }
}

// App is the running program.
type App struct {
	listener   net.Listener
	server     *http.Server
	store      *store.Store
	shared     shared
	client     *pve.Client
	hosts      *auth.Hosts
	sessions   *session.Registry
	tokens     *token.Service
	throttle   *auth.Throttle
	trail      *audit.Trail
	nodes      *node.Service
	containers *container.Service
	tasks      *task.Service
	routes     []web.Route
	metrics    *meter        // nil without --metrics-listen
	traces     *trace.Tracer // nil without --traces-endpoint
	tls        *tls.Config
	// Fingerprint is of the certificate that Berth made itself, as PVE writes fingerprints; empty without --tls self.
	Fingerprint string
	insecure    bool
	notices     notices
	basePath    string
	folder      string // where the data lies
}

// New opens the data folder, makes everything and listens. Its errors are a sentence for the operator.
func New(ctx context.Context, settings config.Settings, opts ...Option) (*App, error) {
	o := options{now: time.Now, version: "development"}
	for _, opt := range opts {
		opt(&o)
	}
	if err := prepareFolder(settings.Data); err != nil {
		return nil, err
	}
	a := &App{basePath: settings.BasePath}
	done := false
	defer func() {
		if !done {
			_ = a.Close() // the first error is the one to tell
		}
	}()

	var err error
	if a.tls, a.Fingerprint, err = serverTLS(settings, o.now); err != nil {
		return nil, err
	}
	if a.listener, err = net.Listen("tcp", settings.Listen); err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", settings.Listen, reason(err))
	}
	a.insecure = a.tls == nil && !loopback(a.listener.Addr()) && len(settings.TrustedProxies) == 0

	if a.metrics, err = newMeter(settings.MetricsListen, o.version); err != nil {
		return nil, err
	}

	a.traces = newTracer(settings, o.version)
	told := watchers{a.metrics, a.traces}

	a.folder = settings.Data
	if a.store, err = openStore(ctx, settings); err != nil {
		return nil, err
	}
	told.store(a.store)
	sealer, err := openSealer(ctx, a.store, settings, o.now)
	if err != nil {
		return nil, err
	}

	if a.shared, err = share(ctx, settings, a.store, sealer, told.redis(), o.now); err != nil {
		return nil, err
	}

	a.shared.begin()

	own := []net.Addr{a.listener.Addr()}
	if a.metrics != nil {
		own = append(own, a.metrics.listener.Addr())
	}
	outside := outside(settings.AllowNetworks)
	o.pve.Forbidden = func(to netip.AddrPort) bool {
		return outside(to) || slices.ContainsFunc(own, func(l net.Addr) bool { return isListener(l.(*net.TCPAddr), to) })
	}
	if o.pve.Roots == nil {
		o.pve.Roots = settings.Roots
	}
	if o.pve.Now == nil {
		o.pve.Now = o.now
	}
	o.pve.Observe = told.hosts()
	a.client = pve.NewClient(o.pve)
	a.hosts = auth.NewHosts(auth.HostsOptions{Store: a.shared.hosts, Client: a.client, Sealer: sealer, Policy: policy(settings, a.listener.Addr()), Now: o.now})
	a.trail = audit.NewTrail(audit.Options{Store: a.store, Now: o.now, Kept: settings.AuditKept})
	if err := beginEpoch(ctx, a.store, a.shared.endAll, a.trail, settings.Data, o.now); err != nil {
		return nil, err
	}
	if a.shared.redis != nil {
		if err := endBesideRedis(ctx, a.store, a.trail, o.now()); err != nil {
			return nil, err
		}
	}
	a.sessions = session.NewRegistry(session.Options{
		Store: a.shared.sessions, Sealer: sealer, Renewer: told.renewer(a.hosts), Now: o.now, Idle: settings.SessionIdle, Absolute: settings.SessionMax,
		Lost: auth.SessionLost(a.trail), Ended: auth.SessionEnded(a.trail), Vouches: a.hosts.Permitted,
		Proven: a.shared.proven, Lease: a.shared.lease,
	})
	a.shared.watch(a.sessions)
	a.throttle = auth.NewThrottle(a.shared.throttle, a.store, o.now)
	a.notices.look = a.look
	var catchUp func(context.Context) error
	if a.store.Shared() {
		catchUp = a.Notice
	}
	a.nodes = node.NewService(node.Options{Store: a.store, Waiting: a.shared.waiting, Hosts: a.hosts, Sessions: a.sessions, Client: a.client, Sealer: sealer, Throttle: a.throttle, Audit: a.trail, Now: o.now, CatchUp: catchUp, Most: settings.MaxNodes, Changed: a.shared.nodesChanged()})
	signIns := auth.NewService(auth.Options{
		Hosts: a.hosts, Sessions: a.sessions, Listener: a.nodes, Pending: a.shared.pending, Throttle: a.throttle, Audit: a.trail,
		OpenID: a.shared.openID, Callback: web.OpenIDCallback(settings.PublicURL, settings.BasePath),
		Stepped: a.metrics.stepped(), Now: o.now, Wait: o.wait,
	})
	a.tokens = token.NewService(token.Options{
		Store: a.store, SignIns: a.nodes, Hosts: a.hosts, Audit: a.trail, Now: o.now, CatchUp: catchUp, Idle: settings.TokenIdle,
	})
	trail := audit.NewReader(a.store, signIns)
	a.containers = container.NewService(a.nodes, o.now)
	details := container.NewDetails(a.containers, a.nodes, a.trail)
	a.tasks = task.NewService(task.Options{
		Store: a.shared.tasks, Nodes: a.nodes, Containers: a.containers, Audit: a.trail, Alive: a.alive, Now: o.now, Pause: o.pause, Shared: a.store.Shared(),
	})
	a.shared.listen(a.nodes, a.containers)
	site := web.NewSite(web.Options{
		Auth: signIns, Hosts: a.hosts, Sessions: a.sessions, Nodes: a.nodes, Tokens: a.tokens, Containers: a.containers, Details: details, Tasks: a.tasks, Trail: trail, Now: o.now, Ready: a.shared.ready(a.store, sealer),
		Begin: told.begin(), Answered: told.answered(), Streaming: told.streaming(), SuggestHost: o.host, SuggestPort: o.port, Exposed: a.insecure,
		BasePath: settings.BasePath, PublicURL: settings.PublicURL, HostNames: settings.Hosts, MachineName: machineName(),
		TrustedProxies: settings.TrustedProxies, Version: o.version,
	})
	a.routes = append(site.Routes(), api.New(site, signIns, a.nodes, a.tokens, a.containers, details, a.tasks, trail, o.version).Routes()...)
	a.server = &http.Server{
		Handler:           site.Handler(a.routes),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		// The server's own answer to "OPTIONS *" would have no headers, and come under any name.
		DisableGeneralOptionsHandler: true,

		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	a.server.RegisterOnShutdown(site.EndStreams)
	a.metrics.watch(a.sessions, a.containers)
	if _, err := a.hosts.ClaimCode(ctx); err != nil {
		return nil, fmt.Errorf("cannot make the claim code: %w", reason(err))
	}
	done = true
	return a, nil
}

// prepareFolder makes the data folder and shows that it can be written to. One that exists keeps its mode, which may be
// somebody's intention; Run reports it when others than Berth's user may look into it.
func prepareFolder(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("cannot make the data folder %s: %w", folder, reason(err))
	}
	probe, err := os.CreateTemp(folder, ".writable-*")
	if err != nil {
		return fmt.Errorf("cannot write to the data folder %s: %w", folder, reason(err))
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// reportFolder warns when others than Berth's user may look into the data folder.
func reportFolder(ctx context.Context, folder string) {
	if info, err := os.Stat(folder); err == nil && info.Mode().Perm()&0o077 != 0 {
		slog.WarnContext(ctx, "other users of the machine may look into the data folder: chmod 700 keeps them out", "folder", folder, "mode", info.Mode().Perm().String())
	}
}

// reason is the innermost cause: "permission denied" without the system call around it.
func reason(err error) error {
	var path *os.PathError
	var call *os.SyscallError
	if f := fault.As(err); f != nil && f.Cause != nil {
		err = f.Cause // its sentence is for visitors
	}
	switch {
	case errors.As(err, &call):
		return call.Err
	case errors.As(err, &path):
		return path.Err
	}
	return err
}

// machineName is the machine's own name; a machine without one is asked for by others.
func machineName() string {
	name, err := os.Hostname()
	if err != nil {
		slog.Debug("the machine's name is not known", "cause", err)
	}
	return name
}

func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// policy is who may sign in where. A claim needs its code as soon as somebody else can reach the installation, be it
// through a proxy on the same machine.
func policy(s config.Settings, listening net.Addr) auth.Policy {
	p := auth.Policy{
		List:         s.LoginHosts.List,
		AskClaimCode: !loopback(listening) || s.PublicURL != nil || len(s.TrustedProxies) > 0 || len(s.Hosts) > 0,
	}
	switch s.LoginHosts.Mode {
	case config.ListedHosts:
		p.Mode = auth.Listed
	case config.AnyHost:
		p.Mode = auth.Any
	}
	return p
}

// outside tells of an address whether it is in none of the networks that Proxmox hosts may be in. Without networks there is
// no outside.
func outside(networks []netip.Prefix) func(netip.AddrPort) bool {
	return func(to netip.AddrPort) bool {
		return len(networks) > 0 && !slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(to.Addr()) })
	}
}

// isListener tells whether an address is where Berth itself listens: signing in there would make Berth call itself.
func isListener(own *net.TCPAddr, to netip.AddrPort) bool {
	if int(to.Port()) != own.Port {
		return false
	}
	addr := to.Addr().Unmap()
	if listening, ok := netip.AddrFromSlice(own.IP); ok && !listening.IsUnspecified() {
		return listening.Unmap() == addr
	}
	if addr.IsLoopback() {
		return true
	}
	local, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, l := range local {
		if prefix, err := netip.ParsePrefix(l.String()); err == nil && prefix.Addr().Unmap() == addr {
			return true
		}
	}
	return false
}

// Address is where the program listens: host:port.
func (a *App) Address() string { return a.listener.Addr().String() }

// URL is where a browser on the same machine finds the program, without a slash at the end.
func (a *App) URL() string {
	scheme := "http"
	if a.tls != nil {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(a.Address())
	if err == nil {
		if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
			host = "localhost"
		}
	}
	return scheme + "://" + net.JoinHostPort(host, port) + a.basePath
}

// Routes is the route table.
func (a *App) Routes() []web.Route { return a.routes }

// KnowHost makes an address a login host, pinned to the certificate with the given fingerprint, for the operator.
func (a *App) KnowHost(ctx context.Context, at pve.Address, fingerprint pve.Fingerprint) (auth.LoginHost, error) {
	peer, err := a.client.Host(at, pve.Trust{Certificate: &fingerprint}).Handshake(ctx)
	if err != nil {
		return auth.LoginHost{}, fmt.Errorf("look at the certificate of %s: %w", at, err)
	}
	return a.hosts.Know(ctx, at, &peer.Key, peer.Fingerprint)
}

// ClaimCode is what the first sign-in must know that comes from beyond this machine; empty when there is none.
func (a *App) ClaimCode(ctx context.Context) (string, error) { return a.hosts.ClaimCode(ctx) }

// AsksClaimCode tells whether the first sign-in needs the code even from this machine itself.
func (a *App) AsksClaimCode(ctx context.Context) (bool, error) { return a.hosts.AsksClaimCode(ctx) }

// alive tells whether what a caller came with lives; see task.Options.
func (a *App) alive(ctx context.Context, caller session.Caller) error {
	if !caller.SignedIn() {
		return a.tokens.Alive(ctx, caller.Identity, caller.Token)
	}
	switch err := a.sessions.Alive(ctx, caller.Session.Hash); {
	case errors.Is(err, session.ErrNone):
		return fault.SignInRequired()
	case err != nil:
		return fault.StoreDown(err)
	}
	return nil
}

// Sweep does what has to be done about once a minute, and waits for no host; Run does it by itself.
func (a *App) Sweep(ctx context.Context) error {
	a.containers.Sweep()
	return errors.Join(a.sessions.Sweep(ctx), a.tokens.Sweep(ctx), a.throttle.Sweep(ctx), a.trail.Sweep(ctx), a.tasks.Sweep(ctx), a.nodes.Sweep(ctx))
}

// Run serves until the context ends. Running requests then get up to ten seconds.
func (a *App) Run(ctx context.Context) error {
	if a.insecure {
		slog.WarnContext(ctx, "passwords travel in the clear: Berth is reachable from other machines without TLS; use --tls self or --tls-cert, or listen on 127.0.0.1 behind a proxy that adds TLS", "listen", a.Address())
	}
	reportFolder(ctx, a.folder)
	listener := a.listener
	if a.tls != nil {
		listener = tls.NewListener(listener, a.tls)
	}
	failed := make(chan error, 1)
	go func() { failed <- a.server.Serve(listener) }()
	a.metrics.run(failed)

	ticks := time.NewTicker(sweepTime)
	defer ticks.Stop()
	notices := time.NewTicker(noticeTime)
	defer notices.Stop()
	// Hosts that hang keep nothing else waiting.
	var renewals sync.WaitGroup
	renewing, stopRenewing := context.WithCancel(ctx)
	defer renewals.Wait()
	defer stopRenewing()
	blind := false // Notice failed last, which was told
	for {
		select {
		case err := <-failed:
			return fmt.Errorf("cannot serve on %s: %w", a.Address(), reason(err))
		case <-ticks.C:
			if err := a.Sweep(ctx); err != nil && ctx.Err() == nil {
				slog.ErrorContext(ctx, "sweep", "cause", err)
			}
			renewals.Go(func() {
				if err := a.sessions.RenewAging(renewing); err != nil && renewing.Err() == nil {
					slog.ErrorContext(ctx, "aging tickets not renewed", "cause", err)
				}
			})
		case <-notices.C:
			err := a.Notice(ctx)
			switch {
			case err != nil && !blind && ctx.Err() == nil:
				slog.ErrorContext(ctx, "changes by other processes are not noticed", "cause", err)
			case err == nil && blind:
				slog.InfoContext(ctx, "changes by other processes are noticed again")
			}
			blind = err != nil
		case <-ctx.Done():
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
			defer cancel()
			if err := a.server.Shutdown(drain); err != nil {
				slog.WarnContext(drain, "requests were still running", "after", drainTime)
				_ = a.server.Close() // nothing is left to do about what it says
			}
			a.tasks.Close()
			a.containers.Close()
			a.sessions.Close(drain)
			// The last use of each session, so that a restart does not shorten it.
			if err := a.sessions.Flush(context.WithoutCancel(ctx)); err != nil {
				slog.ErrorContext(drain, "use of sessions not stored", "cause", err)
			}
			if err := a.tokens.Flush(context.WithoutCancel(ctx)); err != nil {
				slog.ErrorContext(drain, "use of access tokens not stored", "cause", err)
			}
			a.trail.Flush(context.WithoutCancel(ctx))
			if err := endEpoch(context.WithoutCancel(ctx), a.store, a.folder); err != nil {
				slog.ErrorContext(drain, "a copy of the database that was made meanwhile can't be told from it", "cause", err)
			}
			return nil
		}
	}
}

// Close lets go of everything that New took.
func (a *App) Close() error {
	var problems []error
	if a.listener != nil {
		if err := a.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			problems = append(problems, err)
		}
	}
	problems = append(problems, a.metrics.close())
	if a.tasks != nil {
		a.tasks.Close()
	}
	if a.nodes != nil {
		a.nodes.Close()
	}
	if a.client != nil {
		a.client.Close()
	}
	a.shared.close()
	if a.traces != nil {
		a.traces.Close()
	}
	if a.store != nil {
		problems = append(problems, a.store.Close())
	}
	return errors.Join(problems...)
}
