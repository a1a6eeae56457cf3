package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// connections is how many clients ask at the same time.
const connections = 16

// target is what one client asks again and again.
type target struct {
	address string
	path    string
	cookie  string
	gzip    bool
	status  int // what the answer must have; 0 for 200
}

// request is what goes over the connection.
func (t target) request() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: berth-bench\r\n", t.path, t.address)
	if t.gzip {
		b.WriteString("Accept-Encoding: gzip\r\n")
	}
	if t.cookie != "" {
		fmt.Fprintf(&b, "Cookie: %s\r\n", t.cookie)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// sample is what one spell of load found.
type sample struct {
	requests int
	took     time.Duration
	cpu      time.Duration // of the server
	times    []time.Duration
}

func (s sample) perSecond() float64 { return float64(s.requests) / s.took.Seconds() }

// cpuEach is the server's processor time for one request, in microseconds.
func (s sample) cpuEach() float64 {
	return float64(s.cpu.Microseconds()) / float64(max(s.requests, 1))
}

// load asks one target per connection for a time, each anew as soon as it has its answer. An answer that is not as it must
// be is an error: what is fast and wrong counts for nothing.
func load(ctx context.Context, server *process, targets []target, duration time.Duration) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, duration+30*time.Second)
	defer cancel()
	clients := make([]*client, len(targets))
	for i, t := range targets {
		c, err := dial(ctx, t)
		if err != nil {
			return sample{}, err
		}
		defer c.close()
		// The first answer is no part of the figures: what is to be made once is made now.
		if _, err := c.ask(); err != nil {
			return sample{}, fmt.Errorf("GET %s: %w", t.path, err)
		}
		clients[i] = c
	}
	before, err := server.cpu()
	if err != nil {
		return sample{}, err
	}
	var wg sync.WaitGroup
	began := time.Now()
	problems := make([]error, len(clients))
	times := make([][]time.Duration, len(clients))
	for i, c := range clients {
		wg.Go(func() { times[i], problems[i] = c.repeat(began.Add(duration)) })
	}
	wg.Wait()
	s := sample{took: time.Since(began)}
	after, err := server.cpu()
	s.cpu = after - before
	s.times = slices.Concat(times...)
	s.requests = len(s.times)
	return s, errors.Join(append(problems, err)...)
}

// client is one connection that is kept.
type client struct {
	target  target
	request []byte
	conn    net.Conn
	in      *bufio.Reader
}

func dial(ctx context.Context, t target) (*client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if t.status == 0 {
		t.status = 200
	}
	return &client{target: t, request: t.request(), conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}, nil
}

func (c *client) close() { _ = c.conn.Close() }

// repeat asks until a time has come.
func (c *client) repeat(until time.Time) ([]time.Duration, error) {
	times := make([]time.Duration, 0, 1<<14)
	for last := time.Now(); last.Before(until); {
		if _, err := c.ask(); err != nil {
			return times, fmt.Errorf("GET %s: %w", c.target.path, err)
		}
		now := time.Now()
		times = append(times, now.Sub(last))
		last = now
	}
	return times, nil
}

// ask sends the request and reads the answer; it returns how long its body is.
func (c *client) ask() (int, error) {
	if _, err := c.conn.Write(c.request); err != nil {
		return 0, err
	}
	length, chunked, err := c.head()
	switch {
	case err != nil:
		return 0, err
	case !chunked:
		_, err := c.in.Discard(length)
		return length, err
	}
	for total := 0; ; {
		line, err := c.line()
		if err != nil {
			return 0, err
		}
		size, err := strconv.ParseInt(string(line), 16, 32)
		if err != nil {
			return 0, err
		}
		if _, err := c.in.Discard(int(size) + len("\r\n")); err != nil {
			return 0, err
		}
		if total += int(size); size == 0 {
			return total, nil
		}
	}
}

// head reads the head of an answer.
func (c *client) head() (length int, chunked bool, err error) {
	line, err := c.line()
	if err != nil {
		return 0, false, err
	}
	const version = "HTTP/1.1 "
	if status := strconv.Itoa(c.target.status); !bytes.HasPrefix(line, []byte(version+status)) {
		return 0, false, fmt.Errorf("answered %q, and should have with %s", line, status)
	}
	packed := false
	for {
		if line, err = c.line(); err != nil || len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch string(name) {
		case "Content-Length":
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, false, err
			}
		case "Transfer-Encoding":
			chunked = true
		case "Content-Encoding":
			packed = true
		}
	}
	if err == nil && c.target.gzip && !packed {
		err = errors.New("the answer is not compressed")
	}
	return length, chunked, err
}

func (c *client) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}

// quantile is the value below which a part of some durations lie; 0 of none.
func quantile(of []time.Duration, part float64) time.Duration {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}
