package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"berth/internal/session"
)

// DefaultKept is how long entries are kept.
const DefaultKept = 90 * 24 * time.Hour

// Bounds of refused sign-ins; see the package's own text.
const (
	RefusedPerSource = 10
	RefusedPerMinute = 60
	// RefusedReserve is for accounts that were signed in to before, beyond RefusedPerMinute, and RefusedPerAccount what one
	// of them gets of it.
	RefusedReserve    = 60
	RefusedPerAccount = 10
	RefusedKept       = 100_000
)

// Store keeps entries. Its methods may be called at the same time from many places. Times come back to the millisecond,
// in UTC.
type Store interface {
	// AddEntries adds entries in their order, all or none; their ids are ignored. Ids only ever grow, and none is
	// used again, however many entries were removed.
	AddEntries(ctx context.Context, entries []Entry) error
	// Entries lists the newest entries that a selection lets through, newest first, at most so many.
	Entries(ctx context.Context, s Selection, most int) ([]Entry, error)
	// RemoveEntries removes entries from before a time, and of refused sign-ins and second factors all but so many: the
	// oldest go first of the networks (Network) that have the most. It returns how many went.
	RemoveEntries(ctx context.Context, before time.Time, refusedKept int) (int64, error)
	// IsAccount tells whether somebody has signed in as this identity, whatever the case of its user id.
	IsAccount(ctx context.Context, who session.Identity) (bool, error)
	// Doors tells for each datacenter the address of its oldest login host, host:port. One without has none.
	Doors(ctx context.Context) (map[string]string, error)
}

// Options are what a Trail needs. Store and Now are required.
type Options struct {
	Store Store
	Now   func() time.Time
	// Kept is how long entries are kept; 0 means DefaultKept.
	Kept time.Duration
	Log  *slog.Logger
}

// Trail adds to the trail; Reader reads it. It is safe for concurrent use.
type Trail struct {
	store Store
	now   func() time.Time
	kept  time.Duration
	log   *slog.Logger

	mu     sync.Mutex
	minute time.Time
	// stored is how many refused sign-ins of the current minute were stored, sources those of each source. Only a source
	// of which one was stored is in the map, so RefusedPerMinute bounds it.
	stored  int
	sources map[netip.Prefix]*source
	// reserved is how many were stored of the reserve, accounts what each account got of it, told from which sources those
	// of an account have an entry. Their sizes are bounded by RefusedReserve and RefusedPerMinute.
	reserved int
	accounts map[session.Identity]*source
	told     map[attempt]struct{}
	// others counts what came from sources beyond those, at no account that is known.
	others int64
}

// attempt is who was tried from where.
type attempt struct {
	at   session.Identity
	from netip.Prefix
}

// source is where refused sign-ins come from, or the account that they are at.
type source struct {
	stored int
	more   int64
}

// NewTrail returns a trail over a store.
func NewTrail(o Options) *Trail {
	t := &Trail{
		store: o.Store, now: o.Now, kept: o.Kept, log: o.Log,
		sources: map[netip.Prefix]*source{}, accounts: map[session.Identity]*source{}, told: map[attempt]struct{}{},
	}
	if t.kept == 0 {
		t.kept = DefaultKept
	}
	if t.log == nil {
		t.log = slog.Default()
	}
	return t
}

// Entry completes an entry for who stores it in one step with what it tells of. It fills in the time, the client's address
// from the context, and the result OK where they are missing, and cleans and bounds every text. Refused sign-ins and second
// factors have bounds of their own, and are Record's alone.
func (t *Trail) Entry(ctx context.Context, e Entry) Entry {
	e.At = t.now().UTC().Truncate(time.Millisecond)
	if !e.Address.IsValid() {
		e.Address = session.ClientFrom(ctx).Address
	}
	if e.Result == "" {
		e.Result = OK
	}
	if e.Count == 0 {
		e.Count = 1
	}
	e.clean()
	return e
}

// Record completes an entry, as Entry does, and adds it. It goes on when ctx ends: what was done has been done. An entry
// that can't be stored goes to the log instead, so that nothing is undone or refused for it.
func (t *Trail) Record(ctx context.Context, e Entry) {
	e = t.Entry(ctx, e)
	entries, keep := t.bound(e, t.account(ctx, e))
	if keep {
		entries = append(entries, e)
	}
	t.add(ctx, entries)
}

func (t *Trail) add(ctx context.Context, entries []Entry) {
	if len(entries) == 0 {
		return
	}
	if err := t.store.AddEntries(context.WithoutCancel(ctx), entries); err != nil {
		for _, e := range entries {
			t.log.ErrorContext(ctx, "audit entry not stored", "cause", err, "action", string(e.Action), "result", string(e.Result),
				"identity", e.Identity, "target", e.Target, "error_id", e.ErrorID, "count", e.Count)
		}
	}
}

// account is the known account that a sign-in was refused at; the zero identity when there is none. Made-up user ids must
// not use up what is meant for accounts.
func (t *Trail) account(ctx context.Context, e Entry) session.Identity {
	if !bounded(e) || e.Identity.Datacenter == "" || e.Identity.UserID == "" {
		return session.Identity{}
	}
	switch known, err := t.store.IsAccount(context.WithoutCancel(ctx), e.Identity); {
	case err != nil:
		t.log.WarnContext(ctx, "it is not known whether an account was signed in to before", "cause", err)
		return session.Identity{}
	case !known:
		return session.Identity{}
	}
	return session.Identity{Datacenter: e.Identity.Datacenter, UserID: strings.ToLower(e.Identity.UserID)}
}

// bounded tells of which entries strangers can cause as many as they like.
func bounded(e Entry) bool { return e.Result == Refused && e.Action.Category() == CategorySignIn }

// bound tells whether an entry is to be stored, and returns the summaries of a minute that has passed.
func (t *Trail) bound(e Entry, at session.Identity) (summaries []Entry, keep bool) {
	if !bounded(e) {
		return nil, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if minute := e.At.Truncate(time.Minute); !minute.Equal(t.minute) {
		summaries = t.summarize(e.At)
		t.minute = minute
	}
	from, isAccount := sourceOf(e.Address), at != session.Identity{}
	s := t.sources[from]
	if t.stored < RefusedPerMinute && (s == nil || s.stored < RefusedPerSource) {
		if s == nil {
			s = &source{}
			t.sources[from] = s
		}
		s.stored++
		t.stored++
		if isAccount {
			t.told[attempt{at, from}] = struct{}{}
		}
		return summaries, true
	}
	account := t.accounts[at]
	if isAccount && account == nil && len(t.accounts) < RefusedReserve {
		account = &source{}
		t.accounts[at] = account
	}
	_, told := t.told[attempt{at, from}]
	switch {
	case account != nil && !told && account.stored < RefusedPerAccount && t.reserved < RefusedReserve:
		t.told[attempt{at, from}] = struct{}{}
		account.stored++
		t.reserved++
		return summaries, true
	case s != nil:
		s.more++
	case account != nil:
		account.more++
	default:
		t.others++
	}
	return summaries, false
}

// summarize ends the current minute: what was only counted becomes one entry for each source, and for each account that
// was tried from yet others. t.mu is held.
func (t *Trail) summarize(at time.Time) []Entry {
	var entries []Entry
	summary := func(who session.Identity, address netip.Addr, n int64, from string) {
		if n > 0 {
			entries = append(entries, Entry{
				At: at, Identity: who, Address: address, Action: SignIn, Result: Refused, Count: n,
				Detail: fmt.Sprintf("%d more attempts from %s within a minute", n, from),
			})
		}
	}
	for from, s := range t.sources {
		summary(session.Identity{}, from.Addr(), s.more, "the same address")
	}
	for who, a := range t.accounts {
		summary(who, netip.Addr{}, a.more, "other addresses")
	}
	summary(session.Identity{}, netip.Addr{}, t.others, "other addresses")
	clear(t.sources)
	clear(t.accounts)
	clear(t.told)
	t.stored, t.reserved, t.others = 0, 0, 0
	return entries
}

// Network is what an address belongs to, as a text: the /24 of an IPv4 address, the /48 that an IPv6 client can have been
// given as a whole. It is empty for no address.
func Network(a netip.Addr) string {
	bits := 24
	if a = a.Unmap(); a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}

// sourceOf is what counts as one source: an IPv4 address, or the /64 that an IPv6 client chooses its addresses from.
func sourceOf(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() && !a.Is4In6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Flush stores what was only counted so far. The program calls it when it ends; Sweep does it for every minute that has
// passed.
func (t *Trail) Flush(ctx context.Context) {
	now := t.now().UTC().Truncate(time.Millisecond)
	t.mu.Lock()
	entries := t.summarize(now)
	t.mu.Unlock()
	t.add(ctx, entries)
}

// Sweep stores the summaries of minutes that have passed and removes what is not kept any longer. The program calls it
// once a minute.
func (t *Trail) Sweep(ctx context.Context) error {
	now := t.now().UTC().Truncate(time.Millisecond)
	var entries []Entry
	t.mu.Lock()
	if minute := now.Truncate(time.Minute); !minute.Equal(t.minute) {
		entries = t.summarize(now)
		t.minute = minute
	}
	t.mu.Unlock()
	t.add(ctx, entries)
	if _, err := t.store.RemoveEntries(ctx, now.Add(-t.kept), RefusedKept); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("remove old audit entries: %w", err)
	}
	return nil
}
