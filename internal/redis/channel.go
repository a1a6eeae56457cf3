package redis

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"berth/internal/container"
	"berth/internal/session"
)

const (
	// channelName is where replicas tell each other what has changed. Channels are not kept apart by database: whatever else
	// uses the same Redis, another Berth included, names nothing that is known here.
	channelName = "berth:events"
	// maxHints bounds what waits to be sent, and what was heard and is not passed on yet. What is beyond that is dropped.
	maxHints = 1000
	// breath is how far apart rounds of passing on what was heard are at least. The same hint counts once in each.
	breath = 100 * time.Millisecond
	// listenBeat is how often the connection that hints come on is asked for a sign of life.
	listenBeat = time.Second
	// lastListenPause is the longest wait between two attempts to listen; they double up to it, from retryTime.
	lastListenPause = 5 * time.Second
	// complainTime is how often a failure is logged.
	complainTime = time.Minute
	// maxSent is how many hints go out in one call.
	maxSent = 100
)

// Heard takes what other replicas say. Its methods must not wait.
type Heard struct {
	// Read and Touched are those of container.Hints.
	Read    func(node string, s container.Subject)
	Touched func(node string, vmid int)
	// Nodes names the identity whose nodes have changed by Identity.Hash.
	Nodes func(identity string)
}

// Channel carries hints between replicas: that something has changed, by its id, and never what it is now. Whoever hears one
// looks for itself, so that nothing that is written to Redis is shown to anybody. Hints may be lost; all that depends on them is
// how soon something is seen. It is safe for concurrent use.
type Channel struct {
	client *Client
	log    *slog.Logger
	from   string // this replica
	life   context.Context
	stop   context.CancelFunc
	work   sync.WaitGroup

	out, in  hints
	heard    Heard
	mu       sync.Mutex
	reported time.Time // when a failure was logged last
}

var _ container.Hints = (*Channel)(nil)

// hints are waiting for their turn, each once.
type hints struct {
	mu   sync.Mutex
	list []hint
	have map[hint]bool
	wake chan struct{}
}

func newHints() hints { return hints{have: map[hint]bool{}, wake: make(chan struct{}, 1)} }

// add notes a hint, unless it waits already or too many do.
func (h *hints) add(one hint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.have[one] || len(h.list) >= maxHints {
		return
	}
	h.have[one] = true
	h.list = append(h.list, one)
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// take returns the oldest hints, at most so many.
func (h *hints) take(most int) []hint {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := min(most, len(h.list))
	taken := h.list[:n:n]
	if h.list = h.list[n:]; len(h.list) == 0 {
		h.list = nil
	}
	for _, one := range taken {
		delete(h.have, one)
	}
	return taken
}

// NewChannel returns the channel of a client. It must be closed before the client is.
func NewChannel(c *Client, log *slog.Logger) *Channel {
	if log == nil {
		log = slog.Default()
	}
	ch := &Channel{client: c, log: log, from: strings.ToLower(rand.Text()[:16]), out: newHints(), in: newHints()}
	ch.life, ch.stop = context.WithCancel(context.Background())
	ch.work.Go(ch.send)
	return ch
}

// Listen begins to pass on what other replicas say. It must be called once at most.
func (c *Channel) Listen(to Heard) {
	c.heard = to
	c.work.Go(c.listen)
	c.work.Go(c.pass)
}

// Close ends sending and listening.
func (c *Channel) Close() {
	c.stop()
	c.work.Wait()
}

// Read implements container.Hints.
func (c *Channel) Read(node string, s container.Subject) {
	c.out.add(hint{kind: kindRead, id: node, detail: string(s)})
}

// Touched implements container.Hints.
func (c *Channel) Touched(node string, vmid int) { c.out.add(touchedHint(node, vmid)) }

// NodesChanged tells the other replicas that an identity's nodes have changed.
func (c *Channel) NodesChanged(of session.Identity) {
	c.out.add(hint{kind: kindNodes, id: of.Hash()})
}

// send sends what waits, until the channel is closed.
func (c *Channel) send() {
	for {
		select {
		case <-c.life.Done():
			return
		case <-c.out.wake:
		}
		for batch := c.out.take(maxSent); len(batch) > 0; batch = c.out.take(maxSent) {
			calls := make([]rueidis.Completed, len(batch))
			for i, one := range batch {
				calls[i] = c.client.redis.B().Publish().Channel(channelName).Message(one.encode(c.from)).Build()
			}
			if _, err := c.client.doAll(c.life, calls...); err != nil {
				c.complain("changes not told to other replicas", err)
			}
		}
	}
}

// listen listens until the channel is closed, on a connection of its own: a flood of messages keeps nothing else waiting.
func (c *Channel) listen() {
	for pause := retryTime; ; pause = min(2*pause, lastListenPause) {
		began := time.Now()
		err := c.subscribe()
		if c.life.Err() != nil {
			return
		}
		if err != nil {
			c.complain("changes by other replicas are seen later", err)
		}
		if time.Since(began) > lastListenPause {
			pause = retryTime // it worked for a while
		}
		select {
		case <-c.life.Done():
			return
		case <-time.After(pause):
		}
	}
}

// subscribe listens on one connection, until it fails or another server may be the one to listen to; then the error is nil.
func (c *Channel) subscribe() error {
	// Whatever changes after this look has it begin anew.
	generation := c.client.pulse.generation.Load()
	conn, _ := c.client.redis.Dedicate() // which is closed, and never given back
	defer conn.Close()
	lost := conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: c.message})
	ask := func(command rueidis.Completed) error {
		ctx, cancel := context.WithTimeout(c.life, callTime)
		defer cancel()
		return conn.Do(ctx, command).Error()
	}
	if err := ask(conn.B().Subscribe().Channel(channelName).Build()); err != nil {
		return err
	}
	beats := time.NewTicker(listenBeat)
	defer beats.Stop()
	for {
		select {
		case <-c.life.Done():
			return nil
		case err := <-lost:
			return err
		case <-beats.C:
			if c.client.pulse.generation.Load() != generation {
				return nil // a server has come, gone, or become another's replica
			}
			if err := ask(conn.B().Ping().Build()); err != nil {
				return err
			}
		}
	}
}

// message takes one message. It is called for one after the other, and the next one waits.
func (c *Channel) message(m rueidis.PubSubMessage) {
	from, one, ok := decodeHint(m.Message)
	if ok && m.Channel == channelName && from != c.from {
		c.in.add(one)
	}
}

// pass passes on what was heard, until the channel is closed.
func (c *Channel) pass() {
	for {
		select {
		case <-c.life.Done():
			return
		case <-c.in.wake:
		}
		for _, one := range c.in.take(maxHints) {
			one.tell(c.heard)
		}
		select {
		case <-c.life.Done():
			return
		case <-time.After(breath):
		}
	}
}

// complain logs a failure, unless one was logged a moment ago.
func (c *Channel) complain(what string, err error) {
	if c.life.Err() != nil {
		return
	}
	c.mu.Lock()
	due := c.reported.IsZero() || time.Since(c.reported) >= complainTime
	if due {
		c.reported = time.Now()
	}
	c.mu.Unlock()
	if !due {
		return
	}
	if strings.HasPrefix(answered(err), "NOPERM") {
		what += ": redis does not let Berth's user publish and subscribe on the channel " + channelName
	}
	c.log.Warn(what, "cause", cause(err))
}
