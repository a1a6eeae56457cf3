package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	// The event streams, and how far they may be behind.
	manyStreams   = 1000
	moreStreams   = 2000
	slowStream    = 3.5
	mostMemory    = 300
	streamChanges = 6
	// observed is how long the requests that a host gets are counted.
	observed = 30 * time.Second
	// reports is how often a host's figures change, all at the same moment: the simulated hosts do as Proxmox VE does.
	reports = 10 * time.Second
)

// streams measures what many who watch the large fleet cost, and how soon they see a change.
func (r *run) streams(ctx context.Context) error {
	p, err := r.large(ctx)
	if err != nil {
		return err
	}
	cookies, err := p.sessions(ctx, connections)
	if err != nil {
		return err
	}
	w := newWatchers(p.Address, cookies)
	defer w.close()
	for _, n := range []int{1, manyStreams, moreStreams} {
		if err := w.grow(ctx, n); err != nil {
			return err
		}
		r.say("%d streams", n)
		asked, cpu, err := r.watched(ctx, p)
		if err != nil {
			return err
		}
		r.figure(fmt.Sprintf("requests that a host sees in a minute, %d streams", n), asked, "", 0, fmt.Sprintf("Berth takes %s of a processor", short(cpu)))
		if n == 1 {
			continue
		}
		if n == manyStreams {
			if err := r.late(ctx, p, w); err != nil {
				return err
			}
		}
		memory, err := p.memory()
		if err != nil {
			return err
		}
		below := 0.0
		if n == manyStreams {
			below = mostMemory
		}
		r.figure(fmt.Sprintf("memory with %d streams", n), memory, "MiB (PSS)", below, "100 nodes x 100 containers")
	}
	return w.failed()
}

// watched counts the requests of a host in a minute, on average, and Berth's share of a processor meanwhile.
func (r *run) watched(ctx context.Context, p *pair) (asked, cpu float64, err error) {
	if err := sleep(ctx, 3*time.Second); err != nil {
		return 0, 0, err
	}
	before, err := p.cpu()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := sleep(ctx, observed); err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	seen, err := p.fleet.asked(ctx, began.Add(p.ahead))
	if err != nil {
		return 0, 0, err
	}
	after, err := p.cpu()
	sum := 0
	for _, n := range seen.Hosts {
		sum += n
	}
	return float64(sum) / float64(len(seen.Hosts)) / took.Minutes(), (after - before).Seconds() / took.Seconds(), err
}

// late measures how long after a change in cluster/resources all streams have told it. The change comes between two reports
// of the hosts, so that its own event can be told from others.
func (r *run) late(ctx context.Context, p *pair, w *watchers) error {
	var all []time.Duration
	for i := range streamChanges {
		phase := time.Duration(time.Now().Add(p.ahead).UnixNano()) % reports
		pause := 4*time.Second + rand.N(2*time.Second) - phase
		if pause < 0 {
			pause += reports
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		told, err := p.fleet.change(ctx, (i*17)%len(p.fleet.Hosts))
		if err != nil {
			return err
		}
		times, err := w.until(ctx, told.Tag, 30*time.Second)
		if err != nil {
			return err
		}
		for _, at := range times {
			all = append(all, at.Sub(told.At))
		}
	}
	p99 := quantile(all, 0.99)
	r.figure(fmt.Sprintf("from cluster/resources to %d streams, p99", manyStreams), p99.Seconds(), "s", slowStream,
		fmt.Sprintf("p50 %s s, %d changes", short(quantile(all, 0.5).Seconds()), streamChanges))
	return nil
}

// watchers are open event streams.
type watchers struct {
	address string
	cookies []string
	open    []*watcher
}

func newWatchers(address string, cookies []string) *watchers {
	return &watchers{address: address, cookies: cookies}
}

// grow opens streams until there are n.
func (w *watchers) grow(ctx context.Context, n int) error {
	for len(w.open) < n {
		c, err := dial(ctx, target{address: w.address, path: "/api/events", cookie: w.cookies[len(w.open)%len(w.cookies)]})
		if err != nil {
			return err
		}
		one := &watcher{client: c, seen: map[string]time.Time{}}
		if _, err := c.conn.Write(c.request); err != nil {
			return err
		}
		if _, chunked, err := c.head(); err != nil || !chunked {
			return errors.Join(fmt.Errorf("stream %d did not open", len(w.open)), err)
		}
		w.open = append(w.open, one)
		go one.read()
	}
	return nil
}

// until waits until all streams have told of a mark, and returns when each did.
func (w *watchers) until(ctx context.Context, mark string, limit time.Duration) ([]time.Time, error) {
	deadline := time.Now().Add(limit)
	for {
		var times []time.Time
		for _, one := range w.open {
			if at := one.when(mark); !at.IsZero() {
				times = append(times, at)
			}
		}
		if len(times) == len(w.open) {
			return times, nil
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("only %d of %d streams told of %s", len(times), len(w.open), mark), w.failed())
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// failed tells whether a stream has ended.
func (w *watchers) failed() error {
	for _, one := range w.open {
		one.mu.Lock()
		err := one.err
		one.mu.Unlock()
		if err != nil && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("a stream ended: %w", err)
		}
	}
	return nil
}

func (w *watchers) close() {
	for _, one := range w.open {
		one.client.close()
	}
}

// watcher reads one stream and looks for marks in it.
type watcher struct {
	client *client
	mu     sync.Mutex
	seen   map[string]time.Time
	err    error
}

const (
	markBegins = `"mark`
	markLength = len(`"mark000000`)
)

func (w *watcher) read() {
	// A mark may lie across two readings.
	buffer := make([]byte, 16<<10)
	kept := 0
	for {
		n, err := w.client.in.Read(buffer[kept:])
		if err != nil {
			w.mu.Lock()
			w.err = err
			w.mu.Unlock()
			return
		}
		text := buffer[:kept+n]
		for at := 0; ; {
			i := bytes.Index(text[at:], []byte(markBegins))
			if i < 0 || at+i+markLength > len(text) {
				break
			}
			w.note(string(text[at+i+1 : at+i+markLength]))
			at += i + markLength
		}
		kept = copy(buffer, text[max(0, len(text)-markLength):])
	}
}

func (w *watcher) note(mark string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[mark].IsZero() {
		w.seen[mark] = time.Now()
	}
}

func (w *watcher) when(mark string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[mark]
}
