package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// entry is a record in memory. What changes while it lives is atomic or behind mu.
type entry struct {
	Session
	seen    atomic.Int64 // LastSeen in Unix milliseconds
	written atomic.Int64 // LastSeen as the store has it
	from    atomic.Pointer[netip.Addr]
	proven  atomic.Uint64 // what Options.Proven was before the store was read; 0 if it must be read again

	mu         sync.Mutex
	secret     []byte
	generation int64
	ticketAt   time.Time
	retryAt    time.Time // no renewal of a ticket that still works before this
	flight     *flight   // the renewal in the background; nil when there is none
}

// entry finds a living session in memory, or loads it.
func (r *Registry) entry(ctx context.Context, h Hash) (*entry, error) {
	e, err := r.load(ctx, h)
	if err != nil {
		return nil, err
	}
	if !r.alive(e, r.now()) {
		// The row goes with the next Sweep; refusing it needs no write.
		return nil, ErrNone
	}
	return e, r.vouched(ctx, e)
}

func (r *Registry) load(ctx context.Context, h Hash) (*entry, error) {
	for {
		as := r.moment()
		r.mu.RLock()
		e := r.cached[h]
		as.epoch = r.epoch
		_, ended := r.ended[h]
		r.mu.RUnlock()
		switch {
		case ended:
			return nil, ErrNone
		case e != nil && r.trusts(e, as):
			return e, nil
		}
		e, err := r.loadAs(ctx, h, as)
		if err != nil {
			return nil, err
		}
		if e != nil {
			return e, nil
		}
		// It ended in the meantime, or what was read is stale: look again.
	}
}

// loadAs reads a record from the store. Of many who ask under the same moment one reads for all; where nothing is proven, each
// does, because an answer that was asked for earlier proves nothing to whoever comes later.
func (r *Registry) loadAs(ctx context.Context, h Hash, as moment) (*entry, error) {
	read := func() (any, error) {
		// Others may wait for this load, so it must not end with the first one's request.
		ctx := context.WithoutCancel(ctx)
		rec, err := r.store.FindSession(ctx, h)
		if err == nil {
			rec, err = r.genuine(ctx, rec)
		}
		if errors.Is(err, ErrNone) {
			r.mu.Lock()
			delete(r.cached, h)
			r.mu.Unlock()
		}
		if err != nil {
			return nil, err
		}
		return r.remember(rec, as), nil
	}
	var loaded any
	var err error
	if r.proven != nil && as.proven == 0 {
		loaded, err = read()
	} else {
		loaded, err, _ = r.loads.Do(fmt.Sprintf("%s/%v", h, as), read)
	}
	if err != nil {
		return nil, err
	}
	return loaded.(*entry), nil
}

// moment is when the store was asked, as far as it tells whether the answer still holds.
type moment struct{ epoch, proven, doubts uint64 }

// current is the moment to note before the store is asked.
func (r *Registry) current() moment {
	as := r.moment()
	r.mu.RLock()
	as.epoch = r.epoch
	r.mu.RUnlock()
	return as
}

// moment is current without the epoch.
func (r *Registry) moment() (as moment) {
	if r.proven != nil {
		as.proven = r.proven()
		as.doubts = r.doubts.Load()
	}
	return as
}

// trusts tells whether what memory has of a session needs no look at the store.
func (r *Registry) trusts(e *entry, as moment) bool {
	return r.proven == nil || as.proven != 0 && e.proven.Load() == as.proven
}

// Doubt tells that a session was changed in the store, or may have been, so that it is read again before it counts.
func (r *Registry) Doubt(h Hash) {
	// The count comes first: an answer that is on its way does not become trusted behind this.
	r.doubts.Add(1)
	r.mu.RLock()
	e := r.cached[h]
	r.mu.RUnlock()
	if e != nil {
		e.proven.Store(0)
	}
}

func (r *Registry) alive(e *entry, now time.Time) bool {
	return now.Before(e.Ends) && now.Sub(time.UnixMilli(e.seen.Load())) < r.idle
}

// remember puts a record that was read in a moment into memory, or brings the entry that is there already up to date. It returns
// nil if the session was ended in the meantime, or may have been: the epoch is over.
func (r *Registry) remember(rec Record, as moment) *entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ended := r.ended[rec.Hash]; ended || as.epoch != r.epoch {
		return nil
	}
	e := r.cached[rec.Hash]
	if e == nil {
		if len(r.cached) >= maxCached {
			r.forgetSome()
		}
		e = &entry{Session: rec.Session, secret: rec.Secret, generation: rec.Generation, ticketAt: rec.TicketAt}
		e.seen.Store(rec.LastSeen.UnixMilli())
		e.written.Store(rec.LastSeen.UnixMilli())
		e.from.Store(&rec.LastFrom)
		r.cached[rec.Hash] = e
	} else if r.proven != nil {
		e.catchUp(rec)
	}
	if as.doubts == r.doubts.Load() {
		e.proven.Store(as.proven)
	}
	return e
}

// catchUp takes over what other replicas have stored since the entry was read.
func (e *entry) catchUp(rec Record) {
	if seen := rec.LastSeen.UnixMilli(); seen > e.seen.Load() {
		e.from.Store(&rec.LastFrom)
		e.written.Store(seen)
		e.seen.Store(seen)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if rec.Generation > e.generation {
		e.secret, e.generation, e.ticketAt, e.retryAt = rec.Secret, rec.Generation, rec.TicketAt, time.Time{}
	}
}

// forgetSome drops a tenth of the entries that the store knows all about. Map order is random enough: a session in use
// comes back with one read.
func (r *Registry) forgetSome() {
	drop := maxCached / 10
	for h, e := range r.cached {
		if e.seen.Load() == e.written.Load() {
			delete(r.cached, h)
			if drop--; drop == 0 {
				return
			}
		}
	}
}

// writeSoon notes a use in the store before the next Sweep does, where the store would let go of the session until then.
func (r *Registry) writeSoon(e *entry, now int64) {
	written := e.written.Load()
	unwritten := time.Duration(now-written) * time.Millisecond
	if r.proven == nil || unwritten < max(r.idle/2, r.idle-touchLag) || !e.written.CompareAndSwap(written, now) {
		return
	}
	if !r.background.begin() {
		return
	}
	go func() {
		defer r.background.end()
		use := Use{At: time.UnixMilli(now).UTC(), From: *e.from.Load()}
		if err := r.store.TouchSessions(r.background.life, map[Hash]Use{e.Hash: use}); err != nil {
			e.written.CompareAndSwap(now, written)
		}
	}()
}

func (e *entry) session() Session {
	s := e.Session
	s.LastSeen = time.UnixMilli(e.seen.Load()).UTC()
	s.LastFrom = *e.from.Load()
	return s
}
