package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

const (
	// callTime bounds every call, whatever the state of the network or of Redis.
	callTime = 2 * time.Second
	// dialTime bounds making one connection.
	dialTime = time.Second
	// retryTime is how long Open waits before it tries again, and reportTime how often it says so.
	retryTime  = 250 * time.Millisecond
	reportTime = 5 * time.Second
	// bufferSize is of each direction of a connection. What is sent is small.
	bufferSize = 32 << 10
)

// sessionPrefix begins the key of each session: of those keys Redis tells when they change.
const sessionPrefix = "session:"

// ErrDown says that Redis does not answer at the moment, so that it was not asked.
var ErrDown = errors.New("redis does not answer")

// Options are what Open needs. URL is required.
type Options struct {
	// URL is redis://, rediss:// or unix://, as docs/deployment.md has it. It may hold a password.
	URL string
	// Roots verify the certificates of rediss://; nil for the system's.
	Roots *x509.CertPool
	// Wait is how long Open waits for a Redis that does not answer.
	Wait time.Duration
	// Observe is told of every call, with its context: how long it took, and whether it failed. It must not wait, and may be nil.
	Observe func(ctx context.Context, took time.Duration, err error)
	Log     *slog.Logger
}

// Client is the connection to Redis: to one server, to the master that Sentinels name, or to a cluster. It is safe for
// concurrent use, and connects again by itself.
type Client struct {
	redis   rueidis.Client
	pulse   *pulse
	observe func(ctx context.Context, took time.Duration, err error)
	// Address names the server in errors and logs, without user and password.
	Address string
}

// Open connects to Redis. One that does not answer is tried again until the wait is over; anything that time does not mend,
// such as a wrong password, is an error at once.
func Open(ctx context.Context, o Options) (*Client, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	option, address, err := clientOption(o)
	if err != nil {
		return nil, err
	}
	c := &Client{Address: address, pulse: newPulse(o.Log), observe: o.Observe}
	option.OnInvalidations = c.pulse.invalidated
	began := time.Now()
	reported := began.Add(-reportTime)
	for {
		if c.redis, err = rueidis.NewClient(option); err == nil {
			if err = c.usable(ctx); err == nil {
				break
			}
			c.redis.Close()
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		waited := time.Since(began)
		if answer := answered(err); answer != "" && !mends(answer) {
			return nil, fmt.Errorf("redis at %s refuses: %s", address, answer)
		}
		if waited+retryTime > o.Wait {
			waiting := ""
			if o.Wait > 0 {
				waiting = fmt.Sprintf(" within %s", o.Wait)
			}
			return nil, fmt.Errorf("redis at %s did not answer%s: %w", address, waiting, cause(err))
		}
		if time.Since(reported) >= reportTime {
			reported = time.Now()
			o.Log.WarnContext(ctx, "waiting for redis", "address", address, "cause", cause(err), "for", (o.Wait - waited).Round(time.Second).String())
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(retryTime):
		}
	}
	c.warnOfEviction(ctx, o.Log)
	c.pulse.round(c.redis)
	go c.pulse.run(c.redis)
	return c, nil
}

// usable asks for what Berth needs at the start, so that a wrong setting shows at once.
func (c *Client) usable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return c.redis.Do(ctx, c.redis.B().Exists().Key(sessionPrefix).Build()).Error()
}

// warnOfEviction says so when Redis is set to throw away keys once it is full.
func (c *Client) warnOfEviction(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	for address, node := range c.redis.Nodes() {
		text, err := node.Do(ctx, node.B().Info().Section("memory").Build()).ToString()
		if err != nil {
			continue // it is no more than a hint
		}
		limited := !strings.Contains(text, "\nmaxmemory:0\r\n")
		if limited && !strings.Contains(text, "\nmaxmemory_policy:noeviction\r\n") {
			log.WarnContext(ctx, "redis signs people out once it is full: set its maxmemory-policy to noeviction", "address", address)
		}
	}
}

// clientOption makes of a URL what the client library needs, and the servers' names for people. Its errors never repeat the
// URL, which may hold a password.
func clientOption(o Options) (rueidis.ClientOption, string, error) {
	option, err := rueidis.ParseURL(o.URL)
	if err != nil {
		return option, "", errors.New("the address of redis is not of the form redis://USER:PASSWORD@HOST:PORT/DATABASE")
	}
	u, err := url.Parse(o.URL)
	if err != nil {
		return option, "", errors.New("the address of redis is not a URL")
	}
	option.Sentinel.Username = u.Query().Get("sentinel_user")
	option.Sentinel.Password = u.Query().Get("sentinel_password")
	option.Sentinel.Dialer.Timeout = dialTime
	option.Sentinel.TopologyRefreshInterval = 5 * time.Second
	if option.TLSConfig != nil {
		option.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots, ServerName: option.TLSConfig.ServerName}
		if len(option.InitAddress) > 1 || option.Sentinel.MasterSet != "" {
			option.TLSConfig.ServerName = "" // each server by its own name
		}
		option.Sentinel.TLSConfig = option.TLSConfig
	}
	option.Dialer.Timeout = dialTime
	// An idle connection is asked after a second, and given up when it does not answer in time.
	option.Dialer.KeepAlive = time.Second
	option.ConnWriteTimeout = callTime
	option.ReadBufferEachConn, option.WriteBufferEachConn = bufferSize, bufferSize
	option.RingScaleEachConn = 8
	option.PipelineMultiplex = -1 // one connection carries all calls to a server
	// What is asked again is for the caller to decide: only it knows whether there is time left.
	option.DisableRetry = true
	option.DisableCache, option.AlwaysRESP2 = false, false
	option.ClientTrackingOptions = []string{"PREFIX", sessionPrefix, "BCAST"}
	option.ClusterOption.ShardsRefreshInterval = time.Second
	option.ClusterOption.MaxMovedRedirections = 5
	if option.ClientName == "" {
		option.ClientName = "berth"
	}
	return option, strings.Join(option.InitAddress, ","), nil
}

// answered is what Redis itself said of an error; empty if the error is not its own.
func answered(err error) string {
	if own, ok := rueidis.IsRedisErr(err); ok {
		return own.Error()
	}
	if errors.Is(err, rueidis.ErrNoCache) {
		return "it has no CLIENT TRACKING; Redis 6 or newer is needed"
	}
	return ""
}

// mends tells of an answer whether time may mend it: a server that starts, or a cluster or replica that waits for its master.
func mends(answer string) bool {
	for _, prefix := range []string{"LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "BUSY", "READONLY", "ERR max number of clients"} {
		if strings.HasPrefix(answer, prefix) {
			return true
		}
	}
	return false
}

// cause puts words for people before an error of which there are any.
func cause(err error) error {
	var known Problem
	var network net.Error
	answer := answered(err)
	switch {
	case errors.As(err, &known):
		return err
	case strings.HasPrefix(answer, "OOM"):
		known = ProblemFull
	case strings.HasPrefix(answer, "READONLY"):
		known = ProblemReplica
	case strings.HasPrefix(answer, "MISCONF"), strings.HasPrefix(answer, "NOREPLICAS"), strings.HasPrefix(answer, "CLUSTERDOWN"):
		known = ProblemRefuses
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &network) && network.Timeout():
		known = ProblemSilent
	case errors.Is(err, rueidis.ErrClosing), errors.As(err, &network), errors.Is(err, io.EOF):
		known = ProblemConnection
	default:
		return err
	}
	return fmt.Errorf("%w (%w)", known, err)
}

// Close lets go of all connections.
func (c *Client) Close() {
	c.pulse.close()
	c.redis.Close()
}

// Problem is what is wrong with Redis, in words that anybody may read.
type Problem string

func (p Problem) Error() string { return string(p) }

// The problems.
const (
	ProblemSilent     Problem = "there is no answer in time"
	ProblemConnection Problem = "there is no connection"
	ProblemReplica    Problem = "it is a replica, which takes no changes"
	ProblemFull       Problem = "it is full"
	ProblemRefuses    Problem = "it refuses to write"
)

// Ready tells what is wrong with Redis, if anything is; the error is or wraps a Problem where it is a known one. It writes, since
// a Redis that is full or can't reach its disk still answers.
func (c *Client) Ready(ctx context.Context) error {
	err := c.pulse.problem()
	if err == nil {
		err = c.do(ctx, c.redis.B().Set().Key("ready").Value("1").PxMilliseconds(time.Minute.Milliseconds()).Build()).Error()
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("redis at %s: %w", c.Address, cause(err))
}

// Proven is a number that changes whenever something that was read may have changed without a word to Watch. It is 0 while
// nothing proves that words arrive: what was read more than a second ago must then be read again.
func (c *Client) Proven() uint64 { return c.pulse.proven() }

// Watch sets who is told of each session that has changed, by its key. It must be called before anything is read.
func (c *Client) Watch(changed func(key string)) { c.pulse.changed.Store(&changed) }

// observed tells of a call that is over. That there is nothing under a key is an answer.
func (c *Client) observed(ctx context.Context, began time.Time, err error) {
	if c.observe == nil {
		return
	}
	if rueidis.IsRedisNil(err) {
		err = nil
	}
	c.observe(ctx, time.Since(began), err)
}

// do makes one call.
func (c *Client) do(ctx context.Context, cmd rueidis.Completed) (result rueidis.RedisResult) {
	began := time.Now()
	defer func(ctx context.Context) { c.observed(ctx, began, result.Error()) }(ctx)
	if err := c.pulse.unreachable(); err != nil {
		return rueidis.NewErrorResult(err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return c.redis.Do(ctx, cmd)
}

// doAll makes calls that don't depend on each other, in one go. The error is the first of all.
func (c *Client) doAll(ctx context.Context, cmds ...rueidis.Completed) ([]rueidis.RedisResult, error) {
	return c.multi(ctx, rueidis.IsRedisNil, cmds)
}

// readAll is doAll for reading what each may be of another type than Berth's: that is for the caller to see.
func (c *Client) readAll(ctx context.Context, cmds ...rueidis.Completed) ([]rueidis.RedisResult, error) {
	return c.multi(ctx, func(err error) bool { return rueidis.IsRedisNil(err) || ofAnotherType(err) }, cmds)
}

func (c *Client) multi(ctx context.Context, answered func(error) bool, cmds []rueidis.Completed) (_ []rueidis.RedisResult, err error) {
	if len(cmds) == 0 {
		return nil, nil
	}
	began := time.Now()
	defer func(ctx context.Context) { c.observed(ctx, began, err) }(ctx)
	if err := c.pulse.unreachable(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	results := c.redis.DoMulti(ctx, cmds...)
	for _, r := range results {
		if err := r.Error(); err != nil && !answered(err) {
			return nil, err
		}
	}
	return results, nil
}

// run runs a script, on keys of one slot.
func (c *Client) run(ctx context.Context, script *rueidis.Lua, keys, args []string) (result rueidis.RedisResult) {
	began := time.Now()
	defer func(ctx context.Context) { c.observed(ctx, began, result.Error()) }(ctx)
	if err := c.pulse.unreachable(); err != nil {
		return rueidis.NewErrorResult(err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return script.Exec(ctx, c.redis, keys, args)
}

// runAll runs a script many times, in one go; each on keys of one slot. The error is the first of all.
func (c *Client) runAll(ctx context.Context, script *rueidis.Lua, calls []rueidis.LuaExec) (_ []rueidis.RedisResult, err error) {
	began := time.Now()
	defer func(ctx context.Context) { c.observed(ctx, began, err) }(ctx)
	if err := c.pulse.unreachable(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	results := script.ExecMulti(ctx, c.redis, calls...)
	for _, r := range results {
		if err := r.Error(); err != nil && !rueidis.IsRedisNil(err) {
			return results, err
		}
	}
	return results, nil
}
