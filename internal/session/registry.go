package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"berth/internal/pve"
	"berth/internal/seal"
)

// Limits of a session and of the ticket inside it.
const (
	// DefaultIdle is a Proxmox VE ticket's life (Ticket.pm, verify_rsa_ticket: 7200 s).
	DefaultIdle = 2 * time.Hour
	// DefaultAbsolute ends a session however much it is used.
	DefaultAbsolute = 7 * 24 * time.Hour
	// RenewAfter is the age at which a ticket in use is renewed.
	RenewAfter = time.Hour
	// renewLatest is the age at which Sweep renews the ticket of a session that was used since the ticket came: without
	// it, a session last used before RenewAfter would lose its ticket before its idle limit.
	renewLatest = 105 * time.Minute
	ticketLife  = 2 * time.Hour
	// renewPause keeps a host that refuses or doesn't answer from being asked at every request.
	renewPause = time.Minute
	// endedKept is how long the end of a session is remembered in memory, longer than any load from the store takes.
	endedKept = 5 * time.Minute
	// renewTimeout bounds one renewal; it goes on when the request that began it has gone.
	renewTimeout = 20 * time.Second
	// renewLease is longer than that, so that no other replica begins before this one has given up. leasePause is how often
	// they look.
	renewLease = renewTimeout + 5*time.Second
	leasePause = 200 * time.Millisecond
	maxCached  = 10_000
	// maxLiving bounds the living sessions of one identity.
	maxLiving = 100
	// touchLag is how far the store's last use of a session may be behind, a few Sweeps.
	touchLag = 5 * time.Minute
)

// Options are what a Registry needs. Store, Sealer, Renewer and Now are required.
type Options struct {
	Store   Store
	Sealer  *seal.Sealer
	Renewer Renewer
	Now     func() time.Time
	// Idle and Absolute are the limits; 0 means the defaults.
	Idle, Absolute time.Duration
	// Lost is told of every session that ended because Proxmox VE refused its ticket and the renewal; it may be nil.
	Lost func(context.Context, Session)
	// Ended is told of every session that the registry ended by itself for another cause; it may be nil.
	Ended func(context.Context, Session, Cause)
	// Vouches tells whether a login host may still vouch for sessions. Nil means that all may.
	Vouches func(ctx context.Context, loginHost string) (bool, error)
	// Proven is for a Store that several replicas write to. It is a number under which what was read may be trusted until Doubt
	// says otherwise, as long as the number stays; with 0 nothing may be trusted, and every look goes to the Store. Nil means
	// that nobody else writes to the Store without Reload.
	Proven func() uint64
	// Lease is for what only one of several replicas is to do: it takes the right to something for a time, unless another has
	// it. Nil means that there is one replica.
	Lease func(ctx context.Context, what string, life time.Duration) (Lease, error)
	Log   *slog.Logger
}

// Lease is the right to do something, for a time.
type Lease struct {
	// Taken tells that another replica has it.
	Taken bool
	// Release gives it back early.
	Release func(context.Context)
}

// Cause is why the registry ended a session, in words for people.
type Cause string

// The causes.
const (
	TicketOver Cause = "its ticket ran out and was not renewed"
	Crowded    Cause = "the same user has too many others"
)

// Registry owns the living sessions: it starts, finds, renews and ends them, with those in use held in memory in front of
// the store. It is safe for concurrent use.
type Registry struct {
	store          Store
	sealer         *seal.Sealer
	renewer        Renewer
	now            func() time.Time
	idle, absolute time.Duration
	lost           func(context.Context, Session)
	told           func(context.Context, Session, Cause)
	vouches        func(context.Context, string) (bool, error)
	proven         func() uint64
	lease          func(context.Context, string, time.Duration) (Lease, error)
	log            *slog.Logger

	mu     sync.RWMutex
	cached map[Hash]*entry
	ended  map[Hash]ending
	// epoch counts how often memory forgot what the store may have removed: what was read in an earlier one is stale.
	epoch uint64
	// doubts counts what Doubt was told: what was read before may be older than that.
	doubts atomic.Uint64

	loads, renewals singleflight.Group
	background      background
	aging           sync.Mutex // held by the one RenewAging that runs
}

// ending is a session that has ended, remembered so that a load in flight does not bring it back. One that the store has
// not confirmed stays until it has.
type ending struct {
	at     time.Time
	stored bool
}

// NewRegistry returns a registry over a store.
func NewRegistry(o Options) *Registry {
	r := &Registry{
		store: o.Store, sealer: o.Sealer, renewer: o.Renewer, now: o.Now, idle: o.Idle, absolute: o.Absolute, lost: o.Lost, log: o.Log,
		told: o.Ended, vouches: o.Vouches, proven: o.Proven, lease: o.Lease, cached: map[Hash]*entry{}, ended: map[Hash]ending{}, background: newBackground(),
	}
	if r.idle == 0 {
		r.idle = DefaultIdle
	}
	if r.absolute == 0 {
		r.absolute = DefaultAbsolute
	}
	if r.log == nil {
		r.log = slog.Default()
	}
	if r.lease == nil {
		r.lease = func(context.Context, string, time.Duration) (Lease, error) {
			return Lease{Release: func(context.Context) {}}, nil
		}
	}
	return r
}

// Grant is a ticket that a login host has just given, and to whom.
type Grant struct {
	Identity  Identity
	LoginHost string // id
	Realm     string
	Ticket    pve.Ticket
	Client    Client
}

// Start makes a session for a grant and returns the token for the cookie: the only time that it is known. Where the
// record must be stored together with something else, create does it in place of the Store; it may be nil. Of more than
// maxLiving sessions of one identity, those used longest ago end.
func (r *Registry) Start(ctx context.Context, g Grant, create func(context.Context, Record) error) (token string, s Session, err error) {
	token = newToken()
	hash, _ := HashToken(token)
	// The store keeps milliseconds, and memory must not know more than it does.
	now := r.now().UTC().Truncate(time.Millisecond)
	s = Session{
		Hash: hash, Identity: g.Identity, LoginHost: g.LoginHost, Realm: g.Realm, Client: g.Client,
		Created: now, LastSeen: now, Ends: now.Add(r.absolute), LastFrom: g.Client.Address,
	}
	if create == nil {
		create = r.store.CreateSession
	}
	rec := Record{Session: s, Generation: 1, TicketAt: now}
	as := r.current()
	stored := false
	err = r.keepTicket(s, g.Ticket, func(sealed []byte) error {
		rec.Secret = sealed
		if !stored {
			stored = true
			return create(ctx, rec)
		}
		rec.Generation++
		return r.store.RenewSession(ctx, hash, rec.Generation-1, sealed, now)
	})
	if err != nil {
		return "", Session{}, fmt.Errorf("store the session: %w", err)
	}
	r.remember(rec, as)
	if err := r.endCrowd(ctx, s); err != nil {
		// The next sign-in tries it again.
		r.log.WarnContext(ctx, "too many sessions of one user", "identity", s.Identity, "cause", err)
	}
	return token, s, nil
}

// endCrowd ends the sessions that an identity has too many of, but not the given one.
func (r *Registry) endCrowd(ctx context.Context, keep Session) error {
	living, _, err := r.List(ctx, keep.Identity, false, "")
	if err != nil {
		return err
	}
	var problems []error
	for _, s := range slices.Backward(living) {
		if len(living) <= maxLiving {
			break
		}
		if s.Hash != keep.Hash {
			problems = append(problems, r.endFor(ctx, s, Crowded))
			living = living[:len(living)-1]
		}
	}
	return errors.Join(problems...)
}

// endFor ends a session for a cause and tells of it once.
func (r *Registry) endFor(ctx context.Context, s Session, why Cause) error {
	first, err := r.end(ctx, s.Hash)
	if first {
		r.log.InfoContext(ctx, "session ended: "+string(why), "identity", s.Identity, "session", short(s.Hash))
		if r.told != nil {
			r.told(ctx, s, why)
		}
	}
	return err
}

// Find returns the session that a token belongs to, or ErrNone. It does not count as use; see Touch. Any other error
// means that the store can't be reached, and says nothing about the session.
func (r *Registry) Find(ctx context.Context, token string) (Session, error) {
	hash, ok := HashToken(token)
	if !ok {
		return Session{}, ErrNone
	}
	e, err := r.entry(ctx, hash)
	if err != nil {
		return Session{}, err
	}
	return e.session(), nil
}

// Alive returns nil as long as a session lives, ErrNone after its end, and any other error if the store can't be reached. It
// does not count as use.
func (r *Registry) Alive(ctx context.Context, h Hash) error {
	_, err := r.entry(ctx, h)
	return err
}

// Touch notes that a session is in use. The store learns of it at the next Sweep. A ticket that is due is renewed in the
// background: whoever uses a session without calling its host must not outlive the ticket. What is logged and traced of that
// renewal says by ctx which request began it.
func (r *Registry) Touch(ctx context.Context, h Hash, from netip.Addr) {
	r.mu.RLock()
	e := r.cached[h]
	r.mu.RUnlock()
	if e == nil {
		return
	}
	if *e.from.Load() != from {
		e.from.Store(&from)
	}
	r.renewSoon(ctx, e)
	now := r.now().UnixMilli()
	for {
		seen := e.seen.Load()
		if seen >= now {
			return
		}
		if e.seen.CompareAndSwap(seen, now) {
			r.writeSoon(e, now)
			return
		}
	}
}

// Expires is when a session ends if it is not used again.
func (r *Registry) Expires(s Session) time.Time {
	idle := s.LastSeen.Add(r.idle)
	if s.Ends.Before(idle) {
		return s.Ends
	}
	return idle
}

// Absolute is the longest life of a session.
func (r *Registry) Absolute() time.Duration { return r.absolute }

// End ends a session for good. Ending one that has already ended is no error. If the store can't be reached the session
// is dead here all the same, and the next Sweep tells the store.
func (r *Registry) End(ctx context.Context, h Hash) error {
	_, err := r.end(ctx, h)
	return err
}

// end is End; it tells whether the session had not been ended here before.
func (r *Registry) end(ctx context.Context, h Hash) (first bool, err error) {
	now := r.now()
	r.mu.Lock()
	_, before := r.ended[h]
	r.ended[h] = ending{at: now}
	delete(r.cached, h)
	r.mu.Unlock()
	if err := r.store.EndSession(ctx, h, now, now.Add(r.absolute)); err != nil {
		return !before, fmt.Errorf("end the session: %w", err)
	}
	r.mu.Lock()
	r.ended[h] = ending{at: now, stored: true}
	r.mu.Unlock()
	return !before, nil
}

// EndOthers ends all sessions of an identity but one, or with everyone set all sessions there are but that one, and tells
// which. If the store can't be reached none has ended.
func (r *Registry) EndOthers(ctx context.Context, of Identity, everyone bool, keep Hash) ([]Ended, error) {
	now := r.now()
	ended, err := r.store.EndOtherSessions(ctx, Selection{Of: of, Everyone: everyone}, keep, now, now.Add(r.absolute))
	if err != nil {
		return nil, fmt.Errorf("end other sessions: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range ended {
		r.ended[one.Hash] = ending{at: now, stored: true}
		delete(r.cached, one.Hash)
	}
	return ended, nil
}

// maxListed bounds a list of sessions.
const maxListed = 500

// List lists the living sessions of an identity, or with everyone set all, whose user id, address or user agent holds a
// text: those used last first, and at most maxListed. more tells that there are others.
func (r *Registry) List(ctx context.Context, of Identity, everyone bool, text string) (sessions []Session, more bool, err error) {
	now := r.now()
	// The store may know of a use a little later than it was.
	found, err := r.store.Sessions(ctx, Selection{
		Of: of, Everyone: everyone, Text: text, SeenAfter: now.Add(-r.idle - touchLag), EndsAfter: now,
	}, maxListed+1)
	if err != nil {
		return nil, false, fmt.Errorf("list sessions: %w", err)
	}
	if more = len(found) > maxListed; more {
		found = found[:maxListed]
	}
	r.mu.RLock()
	for _, s := range found {
		if _, ended := r.ended[s.Hash]; ended {
			continue
		}
		if e := r.cached[s.Hash]; e != nil && e.seen.Load() > s.LastSeen.UnixMilli() {
			s = e.session()
		}
		if now.Sub(s.LastSeen) < r.idle {
			sessions = append(sessions, s)
		}
	}
	r.mu.RUnlock()
	slices.SortStableFunc(sessions, func(a, b Session) int { return b.LastSeen.Compare(a.LastSeen) })
	return sessions, more, nil
}

// ByID returns a living session by its id, or ErrNone.
func (r *Registry) ByID(ctx context.Context, id ID) (Session, error) {
	rec, err := r.store.FindSessionByID(ctx, id)
	if err != nil {
		return Session{}, err
	}
	e, err := r.entry(ctx, rec.Hash)
	if err != nil {
		return Session{}, err
	}
	return e.session(), nil
}

// ForgetHost drops the sessions of a login host from memory, after the store has removed them.
func (r *Registry) ForgetHost(loginHost string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch++
	for h, e := range r.cached {
		if e.LoginHost == loginHost {
			r.ended[h] = ending{at: r.now(), stored: true}
			delete(r.cached, h)
		}
	}
}

// Reload makes every session be looked up again. The program calls it when another process has changed the store.
func (r *Registry) Reload(ctx context.Context) error {
	err := r.Flush(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch++
	clear(r.cached)
	return err
}

// InUse is how many sessions are held in memory: those that were used here and live.
func (r *Registry) InUse() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.cached)
}

// Flush writes what Touch noted. Sweep does it too; the program calls Flush when it ends.
func (r *Registry) Flush(ctx context.Context) error {
	seen := map[Hash]Use{}
	r.mu.RLock()
	for h, e := range r.cached {
		if at := e.seen.Load(); at != e.written.Load() {
			seen[h] = Use{At: time.UnixMilli(at).UTC(), From: *e.from.Load()}
		}
	}
	r.mu.RUnlock()
	if len(seen) == 0 {
		return nil
	}
	if err := r.store.TouchSessions(ctx, seen); err != nil {
		return fmt.Errorf("note the use of sessions: %w", err)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for h, use := range seen {
		if e := r.cached[h]; e != nil {
			e.written.Store(use.At.UnixMilli())
		}
	}
	return nil
}

// Sweep writes what Touch noted, removes what has run out, tells the store of ends that it missed, and ends sessions whose
// tickets ran out. It waits for no host; see RenewAging for what does. The program calls it once a minute.
func (r *Registry) Sweep(ctx context.Context) error {
	now := r.now()
	var unstored []Hash
	r.mu.Lock()
	for h, end := range r.ended {
		switch {
		case !end.stored:
			unstored = append(unstored, h)
		case now.Sub(end.at) > endedKept:
			delete(r.ended, h)
		}
	}
	for h, e := range r.cached {
		if !r.alive(e, now) {
			delete(r.cached, h)
		}
	}
	r.mu.Unlock()

	var problems []error
	for _, h := range unstored {
		problems = append(problems, r.End(ctx, h))
	}
	problems = append(problems, r.Flush(ctx))
	if _, err := r.store.EndSessionsBefore(ctx, now.Add(-r.idle), now); err != nil {
		problems = append(problems, fmt.Errorf("remove sessions that ran out: %w", err))
	}
	problems = append(problems, r.endOver(ctx, now))
	return errors.Join(problems...)
}
