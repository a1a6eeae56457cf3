package container

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"berth/internal/pve"
	"berth/internal/session"
)

const (
	// liveFor is how long what a container uses now is shared among pages that show it, so that its host is asked as often
	// by fifty of them as by one.
	liveFor = time.Second
	// maxLive bounds the readings in memory.
	maxLive = 1000
)

// liveReadings are what containers used a moment ago. Nothing read for one audience is shown to another.
type liveReadings struct {
	flights singleflight.Group

	mu   sync.Mutex
	read map[liveKey]liveReading
}

type liveKey struct {
	audience
	door, member string
	vmid         int
}

type liveReading struct {
	live *Live
	err  error
	at   time.Time
}

// recent is a reading that still holds.
func (r *liveReadings) recent(key liveKey, now time.Time) (liveReading, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.read[key]
	return last, ok && now.Sub(last.at) < liveFor
}

func (r *liveReadings) keep(key liveKey, reading liveReading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.read) >= maxLive || r.read == nil {
		r.read = map[liveKey]liveReading{}
	}
	r.read[key] = reading
}

// Now is Get with nothing but the row and what the container uses now, which may be a second old: for pages that ask again
// and again.
func (d *Details) Now(ctx context.Context, caller session.Caller, in Choice) (Detail, error) {
	c, err := d.find(ctx, caller, in)
	if err != nil {
		return Detail{}, err
	}
	detail := Detail{Container: c, Interfaces: []Interface{}, Problems: map[string]string{}}
	err = d.side(map[string]func() error{PartLive: func() (err error) {
		detail.Live, err = d.sharedLive(ctx, caller, c)
		return err
	}}, detail.Problems)
	return detail, err
}

func (d *Details) sharedLive(ctx context.Context, caller session.Caller, c *Container) (*Live, error) {
	key := liveKey{audienceOf(caller), c.Door, c.Node, c.VMID}
	if last, ok := d.recently.recent(key, d.containers.now()); ok {
		return last.live, last.err
	}
	// A session that has ended must not be the one that asks for others.
	flight := d.recently.flights.DoChan(fmt.Sprint(key, caller.Session.Hash, caller.Token), func() (any, error) {
		if last, ok := d.recently.recent(key, d.containers.now()); ok { // the flight before this one has just landed
			return last.live, last.err
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partTimeout)
		defer cancel()
		live, err := d.live(ctx, caller, c)
		if err == nil || partProblem(err) != "" {
			d.recently.keep(key, liveReading{live, err, d.containers.now()})
		}
		return live, err
	})
	select {
	case done := <-flight:
		return done.Val.(*Live), done.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// live asks a container what it uses now.
func (d *Details) live(ctx context.Context, caller session.Caller, c *Container) (live *Live, err error) {
	err = d.call(ctx, caller, c, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
		now, err := host.ContainerStatus(ctx, with, c.Node, c.VMID)
		if err == nil {
			live = readLive(now)
		}
		return err
	})
	return live, err
}
