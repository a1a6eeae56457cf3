package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"berth/internal/pve"
)

const (
	// agingBatch bounds how many tickets one pass looks at, and agingParallel how many it renews at once.
	agingBatch    = 1000
	agingParallel = 16
	// agingPerHost bounds how many tickets one pass renews at once with one login host.
	agingPerHost = 2
	// soonPerHost bounds the renewals with one login host that requests begin and don't wait for.
	soonPerHost = 4
)

// background is what goes on when nobody waits for it.
type background struct {
	// life ends when what goes on has to.
	life context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	closed  bool
	count   int
	running sync.WaitGroup // as many as count
	busy    map[string]int // renewals that requests began, by login host
}

func newBackground() background {
	life, stop := context.WithCancel(context.Background())
	return background{life: life, stop: stop, busy: map[string]int{}}
}

// begin counts one that goes on; end counts it down. Once closed only what goes on already may begin another.
func (b *background) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed && b.count == 0 {
		return false
	}
	b.count++
	b.running.Add(1)
	return true
}

func (b *background) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count--
	b.running.Done()
}

// take gets one of the few places of a login host.
func (b *background) take(loginHost string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy[loginHost] >= soonPerHost {
		return false
	}
	b.busy[loginHost]++
	return true
}

func (b *background) leave(loginHost string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy[loginHost]--; b.busy[loginHost] == 0 {
		delete(b.busy, loginHost)
	}
}

// flight is a renewal in the background, of one generation of a ticket.
type flight struct {
	generation int64
	over       chan struct{} // closed when it is
}

// Close waits for the renewals that go on, breaks off those that go on when the context ends, and lets no other begin.
func (r *Registry) Close(ctx context.Context) {
	b := &r.background
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	defer context.AfterFunc(ctx, b.stop)()
	b.running.Wait()
	b.stop()
}

// renewSoon begins to renew a ticket that is due, unless that goes on already or its login host has enough to do: then the
// next use tries it again. It does not wait.
func (r *Registry) renewSoon(ctx context.Context, e *entry) {
	now := r.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.flight != nil && e.flight.generation == e.generation || !e.due(now) || e.over(now) || !r.background.take(e.LoginHost) {
		return
	}
	if !r.background.begin() {
		r.background.leave(e.LoginHost)
		return
	}
	begun := &flight{generation: e.generation, over: make(chan struct{})}
	e.flight = begun
	go func() {
		defer r.background.end()
		_ = r.renewIfDue(context.WithoutCancel(ctx), e) // which logs it, and ends with the program
		r.background.leave(e.LoginHost)
		e.mu.Lock()
		if e.flight == begun {
			e.flight = nil
		}
		e.mu.Unlock()
		close(begun.over)
	}()
}

// over tells whether the ticket is past its life: no host renews it any more. The caller holds mu.
func (e *entry) over(now time.Time) bool { return now.Sub(e.ticketAt) >= ticketLife }

// vouched returns ErrNone unless somebody still vouches for a session: its login host may, and gave it a ticket that is not
// past its life. One whose user was disabled, or whose host is gone, gets no other.
func (r *Registry) vouched(ctx context.Context, e *entry) error {
	if r.vouches != nil {
		switch may, err := r.vouches(ctx, e.LoginHost); {
		case err != nil:
			return fmt.Errorf("look whether a login host vouches: %w", err)
		case !may:
			return ErrNone
		}
	}
	over := func() (bool, *flight) {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.over(r.now()), e.flight
	}
	isOver, underWay := over()
	if !isOver {
		return nil
	}
	if underWay != nil {
		select {
		case <-underWay.over:
		case <-ctx.Done():
			return ctx.Err()
		}
		if isOver, _ = over(); !isOver {
			return nil
		}
	}
	// Another process may have renewed it.
	if err := r.reload(ctx, e); err != nil {
		return err
	}
	if isOver, _ = over(); isOver {
		return ErrNone
	}
	return nil
}

// endOver ends the sessions that are in use and whose tickets ran out. One replica does it, and tells of it.
func (r *Registry) endOver(ctx context.Context, now time.Time) error {
	const what, life = "tickets that ran out", 50 * time.Second // less than there is between two of them
	switch lease, err := r.lease(ctx, what, life); {
	case err != nil:
		return fmt.Errorf("end sessions whose tickets ran out: %w", err)
	case lease.Taken:
		return nil
	}
	over, err := r.store.AgingSessions(ctx, now.Add(-ticketLife), agingBatch)
	if err != nil {
		return fmt.Errorf("list tickets that ran out: %w", err)
	}
	var problems []error
	for _, rec := range over {
		if _, err := r.genuine(ctx, rec); err != nil {
			continue // nobody goes on with it
		}
		r.mu.RLock()
		e := r.cached[rec.Hash]
		r.mu.RUnlock()
		if e != nil {
			e.mu.Lock()
			// It may have been renewed since it was listed.
			undecided := e.flight != nil || !e.over(now)
			e.mu.Unlock()
			if undecided {
				continue
			}
		}
		problems = append(problems, r.endFor(ctx, rec.Session, TicketOver))
	}
	return errors.Join(problems...)
}

// RenewAging renews the tickets that would run out before their sessions do: without it, a session last used before its
// ticket was due would lose it before its idle limit. It waits for hosts, though not twice for one that fails, so the
// program runs it beside everything else; while one runs another returns at once.
func (r *Registry) RenewAging(ctx context.Context) error {
	if !r.aging.TryLock() {
		return nil
	}
	defer r.aging.Unlock()
	now, as := r.now(), r.current()
	aging, err := r.store.AgingSessions(ctx, now.Add(-renewLatest), agingBatch)
	if err != nil {
		return fmt.Errorf("list aging tickets: %w", err)
	}
	byHost := map[string][]*entry{}
	for _, rec := range aging {
		if now.Sub(rec.TicketAt) >= ticketLife {
			continue
		}
		if rec, err = r.genuine(ctx, rec); err != nil {
			continue // no host is to have its ticket
		}
		if e := r.remember(rec, as); e != nil && r.alive(e, now) {
			byHost[e.LoginHost] = append(byHost[e.LoginHost], e)
		}
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, agingParallel)
	for _, entries := range byHost {
		queue := make(chan *entry, len(entries))
		for _, e := range entries {
			queue <- e
		}
		close(queue)
		pass, giveUp := context.WithCancel(ctx)
		defer giveUp()
		for range min(agingPerHost, len(entries)) {
			wg.Go(func() {
				for e := range queue {
					select {
					case slots <- struct{}{}:
					case <-pass.Done():
						return
					}
					if pass.Err() == nil && failing(r.renewIfDue(ctx, e)) {
						giveUp()
					}
					<-slots
				}
			})
		}
	}
	wg.Wait()
	return nil
}

// failing tells whether a renewal failed as the next one with the same host would: a refusal is about one session alone.
func failing(err error) bool {
	return err != nil && !pve.IsKind(err, pve.KindUnauthenticated) && !errors.Is(err, ErrNone)
}
