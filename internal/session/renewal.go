package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/seal"
)

// secret is what a record seals.
type secret struct {
	UserID string `json:"u"`
	Ticket string `json:"t"`
	CSRF   string `json:"c"`
	Of     grant  `json:"s"`
}

// grant is what a session was granted and never changes. It is sealed with the ticket, so that whoever can write to the store
// alone can't make a session that of somebody else, lead its ticket to another host, or have it last longer.
type grant struct {
	Datacenter string `json:"d"`
	UserID     string `json:"u"`
	LoginHost  string `json:"h"`
	Created    int64  `json:"c"`
	Ends       int64  `json:"e"`
}

func (s Session) grant() grant {
	return grant{s.Identity.Datacenter, s.Identity.UserID, s.LoginHost, s.Created.UnixMilli(), s.Ends.UnixMilli()}
}

func place(h Hash) seal.Place {
	return seal.Place{Table: "session", Column: "secret", Row: h.String()}
}

// keepTicket seals a session's ticket and stores it with write; see seal.Sealer.Keep.
func (r *Registry) keepTicket(s Session, t pve.Ticket, write func(sealed []byte) error) error {
	text, err := json.Marshal(secret{UserID: t.UserID, Ticket: t.Value, CSRF: t.CSRF, Of: s.grant()})
	if err != nil {
		return err
	}
	return r.sealer.Keep(text, place(s.Hash), write)
}

// openTicket opens what keepTicket sealed. It returns ErrNone if the session is not the one that it was sealed for.
func (r *Registry) openTicket(of Session, sealed []byte) (pve.Ticket, error) {
	text, err := r.sealer.Open(sealed, place(of.Hash))
	if err != nil {
		return pve.Ticket{}, err
	}
	var s secret
	if err := json.Unmarshal(text, &s); err != nil {
		// The decoder's own error could quote the secret.
		return pve.Ticket{}, errors.New("a sealed ticket is not in the expected form")
	}
	if s.Of != of.grant() {
		return pve.Ticket{}, ErrNone
	}
	return pve.Ticket{UserID: s.UserID, Value: s.Ticket, CSRF: s.CSRF}, nil
}

// genuine returns an error unless a record says what was sealed with its ticket: ErrNone if it says something else. One
// that does not open is read once more, since it may have been sealed anew while the key was replaced.
func (r *Registry) genuine(ctx context.Context, rec Record) (Record, error) {
	h := rec.Hash
	_, err := r.openTicket(rec.Session, rec.Secret)
	if err != nil && !errors.Is(err, ErrNone) {
		if rec, err = r.store.FindSession(ctx, h); err == nil {
			_, err = r.openTicket(rec.Session, rec.Secret)
		}
	}
	switch {
	case errors.Is(err, ErrNone):
		return Record{}, ErrNone
	case err != nil:
		return Record{}, fmt.Errorf("open session %s: %w", short(h), err)
	}
	return rec, nil
}

// Call runs one call to the session's own datacenter with the session's ticket. A ticket over an hour old is renewed
// first. When the call is refused as unauthenticated, the ticket is renewed and the call runs once more; only when
// that renewal is refused too has the session ended: Call then ends it and returns ErrNone. A refusal without that, such
// as a sick cluster member's, comes back as it is and ends nothing.
//
// The call must be safe to repeat after an answer of 401, which Proxmox VE gives before it does anything
// (HTTPServer.pm, auth_handler).
func (r *Registry) Call(ctx context.Context, h Hash, call func(context.Context, pve.Ticket) error) error {
	e, err := r.entry(ctx, h)
	if err != nil {
		return unread(err)
	}
	_ = r.renewIfDue(ctx, e) // the old ticket may still do
	ticket, generation, err := r.ticket(ctx, e)
	if err != nil {
		return err
	}
	refused := call(ctx, ticket)
	if !pve.IsKind(refused, pve.KindUnauthenticated) {
		return refused
	}
	switch err := r.renewOrEnd(ctx, e, generation); {
	case errors.Is(err, ErrNone):
		return ErrNone
	case err != nil:
		return refused
	}
	if ticket, _, err = r.ticket(ctx, e); err != nil {
		return err
	}
	return call(ctx, ticket)
}

// unread says of a session that was not read whether the store is to blame, which is no word about the session.
func unread(err error) error {
	if errors.Is(err, ErrNone) {
		return err
	}
	return fault.StoreDown(err)
}

// short names a session in the log: enough to tell sessions apart, useless as anything else.
func short(h Hash) string { return h.String()[:8] }

// ticket opens a session's ticket. One that does not open was sealed anew in the store when the key was replaced.
func (r *Registry) ticket(ctx context.Context, e *entry) (pve.Ticket, int64, error) {
	sealed, generation := e.sealed()
	t, err := r.openTicket(e.Session, sealed)
	if err == nil {
		return t, generation, nil
	}
	if err := r.reload(ctx, e); err != nil {
		return pve.Ticket{}, 0, unread(err)
	}
	again, generation := e.sealed()
	if bytes.Equal(again, sealed) {
		return pve.Ticket{}, 0, err
	}
	t, err = r.openTicket(e.Session, again)
	return t, generation, err
}

func (e *entry) sealed() (secret []byte, generation int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.secret, e.generation
}

// renewIfDue renews a ticket over an hour old. What goes wrong is logged too, and the old ticket works for another hour.
func (r *Registry) renewIfDue(ctx context.Context, e *entry) error {
	now := r.now()
	e.mu.Lock()
	due, generation := e.due(now), e.generation
	e.mu.Unlock()
	if !due {
		return nil
	}
	err := r.renew(ctx, e, generation)
	if err != nil && !errors.Is(err, context.Canceled) {
		r.log.WarnContext(ctx, "ticket not renewed", "identity", e.Identity, "session", short(e.Hash), "cause", err)
	}
	return err
}

// due tells whether it is time to renew the ticket. The caller holds mu.
func (e *entry) due(now time.Time) bool {
	return now.Sub(e.ticketAt) >= RenewAfter && !now.Before(e.retryAt)
}

// renewOrEnd renews a ticket that was refused, and ends the session when the renewal is refused too: then it returns
// ErrNone. Both refusals take Proxmox VE 3 s each, so whoever began it may have gone; the verdict stands all the same.
func (r *Registry) renewOrEnd(ctx context.Context, e *entry, generation int64) error {
	verdict := make(chan error, 1)
	go func() {
		ctx := context.WithoutCancel(ctx)
		err := r.renew(ctx, e, generation)
		if pve.IsKind(err, pve.KindUnauthenticated) {
			err = r.lose(ctx, e)
		}
		verdict <- err
	}()
	select {
	case err := <-verdict:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lose ends a session whose ticket Proxmox VE refused for good, and returns ErrNone. Of many calls that were refused at the
// same time one tells.
func (r *Registry) lose(ctx context.Context, e *entry) error {
	first, err := r.end(ctx, e.Hash)
	if first {
		r.log.InfoContext(ctx, "session ended: Proxmox VE refused its ticket and the renewal", "identity", e.Identity, "session", short(e.Hash))
		if r.lost != nil {
			r.lost(ctx, e.session())
		}
	}
	if err != nil {
		return err
	}
	return ErrNone
}

// renew replaces the ticket of the given generation, once however many ask; when that generation has been replaced
// already there is nothing to do. The renewal itself does not end with the request that began it.
func (r *Registry) renew(ctx context.Context, e *entry, generation int64) error {
	key := fmt.Sprintf("%s/%d", e.Hash, generation)
	done := r.renewals.DoChan(key, func() (any, error) {
		if !r.background.begin() {
			return nil, context.Canceled
		}
		defer r.background.end()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewTimeout)
		defer cancel()
		defer context.AfterFunc(r.background.life, cancel)()
		return nil, r.renewOnce(ctx, e, generation)
	})
	select {
	case res := <-done:
		return res.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// renewOnce renews a ticket here, or waits for the replica that does.
func (r *Registry) renewOnce(ctx context.Context, e *entry, generation int64) error {
	for {
		lease, err := r.lease(ctx, fmt.Sprintf("renewal:%s:%d", e.Hash, generation), renewLease)
		if err != nil {
			return fmt.Errorf("take the lease of a renewal: %w", err)
		}
		if !lease.Taken {
			err := r.renewHere(ctx, e, generation)
			if err != nil {
				lease.Release(context.WithoutCancel(ctx)) // so that others need not wait for it to run out
			}
			return err
		}
		if err := r.reload(ctx, e); err != nil {
			return err
		}
		if _, current := e.sealed(); current != generation {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(leasePause):
		}
	}
}

func (r *Registry) renewHere(ctx context.Context, e *entry, generation int64) error {
	// What is in memory may be from before another renewal, by another process or around a Reload here.
	if err := r.reload(ctx, e); err != nil {
		return err
	}
	old, current, err := r.ticket(ctx, e)
	if err != nil || current != generation {
		return err
	}
	// The ticket is at most as old as the question.
	now := r.now()
	fresh, err := r.renewer.RenewTicket(ctx, e.Identity, e.LoginHost, old)
	if err != nil {
		e.mu.Lock()
		e.retryAt = r.now().Add(renewPause)
		e.mu.Unlock()
		return err
	}
	var sealed []byte
	next := generation
	err = r.keepTicket(e.Session, fresh, func(s []byte) error {
		if err := r.store.RenewSession(ctx, e.Hash, next, s, now); err != nil {
			return err
		}
		sealed = s
		next++
		return nil
	})
	if errors.Is(err, ErrNone) {
		return r.reload(ctx, e)
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.secret, e.generation, e.ticketAt, e.retryAt = sealed, next, now, time.Time{}
	e.mu.Unlock()
	return nil
}

// reload takes over what was renewed elsewhere; ErrNone if the session has ended.
func (r *Registry) reload(ctx context.Context, e *entry) error {
	rec, err := r.store.FindSession(ctx, e.Hash)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.secret, e.generation, e.ticketAt, e.retryAt = rec.Secret, rec.Generation, rec.TicketAt, time.Time{}
	e.mu.Unlock()
	return nil
}
