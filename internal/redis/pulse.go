package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// beat is how often each server is asked for a sign of life.
	beat = 200 * time.Millisecond
	// trust is how long a sign of life proves anything.
	trust = time.Second
	// patience is how long servers may be silent before calls are refused at once, so that not each of them waits.
	patience = 3 * time.Second
)

// pulse proves that Redis's words about changed sessions arrive. To each server it holds a connection of its own on which they
// come, and asks for a sign of life on that very connection: Redis sends in order, so that once the answer is here, so is
// every word from before the question.
type pulse struct {
	log   *slog.Logger
	began time.Time
	// changed is told which session changed.
	changed atomic.Pointer[func(key string)]
	// generation counts how often words may have been missed, from 1.
	generation atomic.Uint64
	// lived is the last moment for which everything is proven, and answered the last one in which a server answered at all; both
	// in nanoseconds since began, 0 for never.
	lived, answered atomic.Int64
	failure         atomic.Pointer[error] // of the last round; nil if it went well

	stop    context.CancelFunc
	life    context.Context
	stopped chan struct{}

	links map[string]*link // by the server's address; run's alone
}

// link is the connection to one server.
type link struct {
	conn   rueidis.DedicatedClient
	master bool
}

func newPulse(log *slog.Logger) *pulse {
	p := &pulse{log: log, began: time.Now(), links: map[string]*link{}, stopped: make(chan struct{})}
	p.life, p.stop = context.WithCancel(context.Background())
	p.generation.Store(1)
	return p
}

func (p *pulse) close() {
	p.stop()
	<-p.stopped
}

func (p *pulse) now() int64 { return int64(time.Since(p.began)) }

// proven is Client.Proven.
func (p *pulse) proven() uint64 {
	// The generation comes first: one that ends meanwhile then counts as over.
	generation := p.generation.Load()
	if lived := p.lived.Load(); lived == 0 || p.now()-lived >= int64(trust) {
		return 0
	}
	return generation
}

// unreachable returns an error while no server answers, so that nobody waits for nothing.
func (p *pulse) unreachable() error {
	if p.now()-p.answered.Load() < int64(patience) {
		return nil
	}
	if failure := p.failure.Load(); failure != nil {
		return fmt.Errorf("%w: %w", ErrDown, *failure)
	}
	return ErrDown
}

// problem is why nothing is proven; nil if something is.
func (p *pulse) problem() error {
	failure := p.failure.Load()
	switch {
	case p.proven() != 0:
		return nil
	case failure != nil:
		return *failure
	}
	return ProblemSilent
}

// invalidated takes Redis's word that keys have changed. No keys means all: the database was emptied, or the connection is lost.
func (p *pulse) invalidated(keys []rueidis.RedisMessage) {
	if keys == nil {
		p.generation.Add(1)
		return
	}
	changed := p.changed.Load()
	if changed == nil {
		return
	}
	for _, k := range keys {
		if key, err := k.ToString(); err == nil {
			(*changed)(key)
		}
	}
}

// run beats until the pulse is closed.
func (p *pulse) run(client rueidis.Client) {
	defer close(p.stopped)
	defer func() {
		for at := range p.links {
			p.drop(at)
		}
	}()
	ticks := time.NewTicker(beat)
	defer ticks.Stop()
	for {
		p.round(client)
		select {
		case <-p.life.Done():
			return
		case <-ticks.C:
		}
	}
}

// round asks every server once.
func (p *pulse) round(client rueidis.Client) {
	at := max(p.now(), 1)
	nodes := client.Nodes()
	changed := false
	for address := range p.links {
		if _, ok := nodes[address]; !ok {
			p.drop(address)
			changed = true
		}
	}
	type result struct {
		address string
		link    *link
		master  bool
		err     error
	}
	results := make(chan result, len(nodes))
	var asked sync.WaitGroup
	for address, node := range nodes {
		known := p.links[address]
		asked.Go(func() {
			l := known
			if l == nil {
				l = &link{master: true}
				l.conn, _ = node.Dedicate() // which is closed, and never given back
			}
			master, err := l.ask(p.life)
			results <- result{address, l, master, err}
		})
	}
	asked.Wait()
	close(results)
	var failure error
	masters, answers := 0, 0
	for r := range results {
		was := p.links[r.address]
		if r.err != nil {
			if r.link.master {
				failure = errors.Join(failure, r.err)
			}
			if _, own := rueidis.IsRedisErr(r.err); own {
				answers++
			}
			r.link.conn.Close()
			delete(p.links, r.address)
			changed = changed || was != nil
			continue
		}
		answers++
		if r.master {
			masters++
		}
		changed = changed || was == nil || was.master != r.master
		r.link.master = r.master
		p.links[r.address] = r.link
	}
	if failure == nil && masters == 0 {
		failure = ProblemReplica
	}
	if changed {
		p.generation.Add(1)
	}
	if answers > 0 {
		p.answered.Store(p.now())
	}
	p.note(failure)
	if failure == nil {
		p.lived.Store(at)
	}
}

// note reports a failure when it begins, and its end.
func (p *pulse) note(failure error) {
	if p.life.Err() != nil {
		return
	}
	before := p.failure.Load()
	switch {
	case failure == nil:
		p.failure.Store(nil)
		if before != nil {
			p.log.Info("redis answers again")
		}
	default:
		p.failure.Store(&failure)
		if before == nil {
			p.log.Error("redis does not answer as it should", "cause", cause(failure))
		}
	}
}

func (p *pulse) drop(address string) {
	p.links[address].conn.Close()
	delete(p.links, address)
}

// ask asks for a sign of life, and whether the server is a master.
func (l *link) ask(ctx context.Context) (master bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, trust)
	defer cancel()
	role, err := l.conn.Do(ctx, l.conn.B().Role().Build()).ToArray()
	if err != nil {
		return false, err
	}
	if len(role) == 0 {
		return false, errors.New("an answer to ROLE without a role")
	}
	kind, err := role[0].ToString()
	return kind == "master", err
}
