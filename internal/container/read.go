package container

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// subject is one thing that is read of a source.
type subject struct {
	name   Subject
	reader func(*feed) *reader
	// read asks the node, and returns what takes the answer over into the feed, which is then locked.
	read func(ctx context.Context, s *Service, caller session.Caller, f *feed) (take func(now time.Time), err error)
}

// guestList is the list of guests.
var guestList = subject{
	name:   Guests,
	reader: func(f *feed) *reader { return &f.guests },
	read: func(ctx context.Context, s *Service, caller session.Caller, f *feed) (func(time.Time), error) {
		f.mu.Lock()
		earlier := f.base
		f.mu.Unlock()
		var read collection
		err := s.nodes.Call(ctx, caller, f.node, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
			return host.EachResource(ctx, with, pve.GuestResources, func() func(pve.Resource) error {
				read = collection{node: f.node, earlier: earlier}
				return read.add
			})
		})
		return func(now time.Time) { f.take(&read, now) }, err
	},
}

// read brings feeds up to date: side by side, each at most once for all who ask meanwhile, and it waits only as long as is
// worth it. An error means that there is no session any more, or that the request was given up; what a node refused is in
// its feed.
func (s *Service) read(ctx context.Context, caller session.Caller, feeds []*feed, what subject) error {
	for range maxCallers {
		flights := make([]*flight, len(feeds))
		for i, f := range feeds {
			flights[i] = s.begin(ctx, caller, f, what)
		}
		if err := s.await(ctx, feeds, flights, what); err != nil {
			return err
		}
		again := false
		for _, fl := range flights {
			err := fl.outcome()
			switch {
			case err == nil, fault.KindOf(err) == fault.NotFound, fault.KindOf(err) == fault.Forbidden:
				// The node was removed meanwhile, or does not serve this caller.
			case fl.caller.Session.Hash == caller.Session.Hash && fl.caller.Token == caller.Token:
				return err
			default:
				again = true // somebody else's session has ended, not this one
			}
		}
		if !again {
			return nil
		}
	}
	return nil
}

// maxCallers bounds with how many callers' credentials a reading is tried in turn.
const maxCallers = 3

// begin begins to read a feed, unless what was read is fresh, and returns the reading that is under way; nil if there is
// none to wait for.
func (s *Service) begin(ctx context.Context, caller session.Caller, f *feed, what subject) *flight {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := what.reader(f)
	doubted := r.hinted && r.failures == 0
	if !doubted && !r.tried.IsZero() && s.now().Sub(r.tried) < r.pause() {
		return nil // whether or not somebody reads it again already
	}
	return s.start(ctx, caller, f, what)
}

// start begins to read a feed, which is locked, unless it is being read.
func (s *Service) start(ctx context.Context, caller session.Caller, f *feed, what subject) *flight {
	r := what.reader(f)
	if r.flight != nil || !s.enter() {
		return r.flight
	}
	begun := &flight{caller: caller, begun: time.Now(), done: make(chan struct{})}
	r.flight, r.hinted = begun, false
	go func() {
		defer s.active.Done()
		// Others wait for it too, so it does not end with the request that began it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.readTimeout)
		defer cancel()
		defer context.AfterFunc(s.life, cancel)()
		take, err := what.read(ctx, s, caller, f)
		s.land(ctx, f, what, begun, take, err)
	}()
	return begun
}

// land notes what came of a reading.
func (s *Service) land(ctx context.Context, f *feed, what subject, fl *flight, take func(time.Time), err error) {
	now := s.now()
	f.mu.Lock()
	r := what.reader(f)
	r.flight = nil
	before, known, rows, failed := f.state(), r.known, f.rows, r.failures > 0
	switch {
	case err == nil:
		r.tried, r.failures, r.err, r.known = now, 0, nil, true
		take(now)
	case !ofNode(err):
		fl.err = err
	default:
		if troubleOf(err) != troubleOf(r.err) {
			slog.WarnContext(ctx, string(what.name)+" not read", "identity", f.identity, "node", f.node, "cause", err)
		}
		r.tried, r.err = now, err
		r.failures++
	}
	if fl.err == nil {
		s.observe(Reading{Node: f.node, Subject: string(what.name), Took: time.Since(fl.begun), Err: err})
	}
	changed := f.state() != before
	tell := s.hints != nil && known && err == nil && (failed || changed && (what.name != Guests || differ(rows, f.rows)))
	weight := f.heavy()
	f.mu.Unlock()
	s.weigh(f, weight)
	close(fl.done)
	if changed {
		s.changed(f.identity)
	}
	if tell {
		s.hints.Read(f.node, what.name)
	}
}

// feedState changes with what is shown of a feed.
type feedState struct {
	revision, workRevision uint64
	known                  bool
	trouble                trouble
}

func (f *feed) state() feedState {
	return feedState{f.revision, f.workRevision, !f.at.IsZero(), troubleOf(f.guests.err)}
}

// ofNode tells whether a call failed for what the node did. Otherwise there is no session or no such node any more, or
// Berth ends.
func ofNode(err error) bool {
	var refused *pve.Error
	return errors.As(err, &refused) && refused.Kind != pve.KindCanceled || errors.Is(err, context.DeadlineExceeded)
}

// enter counts something that goes on until Close; it tells false when that was called.
func (s *Service) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.active.Add(1)
	return true
}

// outcome is why a reading that is over says nothing of its node; nil for one that does, and for one that goes on.
func (fl *flight) outcome() error {
	if fl == nil || !fl.over() {
		return nil
	}
	return fl.err
}

func (fl *flight) over() bool {
	select {
	case <-fl.done:
		return true
	default:
		return false
	}
}

// await waits for readings: for a node that works as long as patience says since its reading began, for one that failed
// not at all while another works, and for as long as it takes until anything is known.
func (s *Service) await(ctx context.Context, feeds []*feed, flights []*flight, what subject) error {
	works := false
	failing := make([]bool, len(feeds))
	known := make([]bool, len(feeds))
	for i, f := range feeds {
		if f == nil {
			continue
		}
		f.mu.Lock()
		r := what.reader(f)
		failing[i], known[i] = r.err != nil, r.known
		f.mu.Unlock()
		works = works || known[i] && !failing[i]
	}
	for i, fl := range flights {
		if fl == nil {
			continue
		}
		wait := firstPatience
		switch {
		case works && failing[i]:
			wait = 0
		case works && known[i]:
			wait = patience
		}
		if err := fl.wait(ctx, wait-time.Since(fl.begun)); err != nil {
			return err
		}
	}
	if anyKnown(feeds, what) {
		return nil
	}
	over := make(chan struct{}, len(flights))
	pending := 0
	for _, fl := range flights {
		if fl == nil || fl.over() {
			continue
		}
		pending++
		go func() {
			<-fl.done
			over <- struct{}{}
		}()
	}
	for ; pending > 0 && !anyKnown(feeds, what); pending-- {
		select {
		case <-over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (fl *flight) wait(ctx context.Context, most time.Duration) error {
	if most <= 0 || fl.over() {
		return ctx.Err()
	}
	enough := time.NewTimer(most)
	defer enough.Stop()
	select {
	case <-fl.done:
	case <-enough.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// anyKnown tells whether anything was read of any feed.
func anyKnown(feeds []*feed, what subject) bool {
	for _, f := range feeds {
		if f == nil {
			continue
		}
		f.mu.Lock()
		known := what.reader(f).known
		f.mu.Unlock()
		if known {
			return true
		}
	}
	return false
}
