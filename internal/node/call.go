package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/seal"
	"berth/internal/session"
)

// ErrSignInNeeded refuses an access token at a node that goes by its owner's sign-in.
var ErrSignInNeeded = &fault.Error{
	Kind: fault.Forbidden, Code: "sign_in_needed", Message: "This node goes by your sign-in, which an access token has not.",
	Hint: "Give the node an API token of its own under Settings > Nodes.",
}

// Call runs one call at a node with the node's credential. It returns a fault of kind not found for a node that isn't the
// caller's, of kind unauthenticated when the caller's session has ended, ErrSignInNeeded when the node goes by a ticket and
// the caller has none, of code token_refused (with the *pve.Error as its cause) when the host does not accept
// the node's token, and else what the call returned.
//
// At a node that goes by the session's ticket the call may run more than once: see session.Registry.Call and
// auth.Hosts.Try. What must not be sent twice has to see to that itself.
func (s *Service) Call(ctx context.Context, caller session.Caller, id string, call func(context.Context, *pve.Host, pve.Credentials) error) error {
	r, err := s.record(ctx, caller, id)
	if err != nil {
		return err
	}
	ctx = pve.WithNode(ctx, id)
	if r.Credential == BySession {
		return s.callWithTicket(ctx, caller, r.LoginHost, call)
	}
	token, err := s.token(ctx, caller, r)
	if err != nil {
		return err
	}
	return tokenRefused(call(ctx, s.client.Host(r.Address, r.trust()), token))
}

// callWithTicket calls a login host of the caller's datacenter with the session's ticket, and its other doors if it
// doesn't answer. One that is a login host no more is passed by: the one that vouched takes its place.
func (s *Service) callWithTicket(ctx context.Context, caller session.Caller, loginHost string, call func(context.Context, *pve.Host, pve.Credentials) error) error {
	if !caller.SignedIn() {
		return ErrSignInNeeded
	}
	err := s.sessions.Call(ctx, caller.Session.Hash, func(ctx context.Context, ticket pve.Ticket) error {
		with := func(ctx context.Context, host *pve.Host) error { return call(ctx, host, ticket) }
		err := s.hosts.TryIn(ctx, caller.Identity.Datacenter, loginHost, with)
		if errors.Is(err, auth.ErrNoHost) && loginHost != caller.Session.LoginHost {
			err = s.hosts.TryIn(ctx, caller.Identity.Datacenter, caller.Session.LoginHost, with)
		}
		return err
	})
	if errors.Is(err, auth.ErrNoHost) {
		// The host was removed: whom it vouched for is not signed in any more.
		if err := s.sessions.End(ctx, caller.Session.Hash); err != nil {
			return fault.StoreDown(err)
		}
		return fault.SignInRequired()
	}
	if errors.Is(err, session.ErrNone) {
		return fault.SignInRequired()
	}
	return err
}

func tokenRefused(err error) error {
	if !pve.IsKind(err, pve.KindUnauthenticated) {
		return err
	}
	return &fault.Error{
		Kind: fault.Unreachable, Code: "token_refused", Message: "The Proxmox server does not accept this node's API token.",
		Hint: "It may have expired, or been removed there. Give the node another one under Settings > Nodes.", Cause: err,
	}
}

func place(id string) seal.Place { return seal.Place{Table: "node", Column: "secret", Row: id} }

// token opens the secret of a node's token. One that does not open was sealed anew in the store when the key was replaced.
func (s *Service) token(ctx context.Context, caller session.Caller, r Record) (pve.Token, error) {
	secret, err := s.sealer.Open(r.Secret, place(r.ID))
	if err != nil {
		s.Doubt(r.Owner)
		again, gone := s.record(ctx, caller, r.ID)
		if gone != nil {
			return pve.Token{}, gone
		}
		if bytes.Equal(again.Secret, r.Secret) {
			return pve.Token{}, fmt.Errorf("open the secret of node %s: %w", r.ID, err)
		}
		r = again
		if secret, err = s.sealer.Open(r.Secret, place(r.ID)); err != nil {
			return pve.Token{}, fmt.Errorf("open the secret of node %s: %w", r.ID, err)
		}
	}
	return pve.Token{ID: r.TokenID, Secret: string(secret)}, nil
}

// rightsFor is how long rights are remembered, and failedFor that a node did not answer: nobody waits for it twice at once.
const (
	rightsFor = time.Minute
	failedFor = 5 * time.Second
)

type asked struct {
	of   session.Identity
	node string
}

type heldRights struct {
	held pve.Permissions
	err  error // in place of held: the node did not answer
	at   time.Time
}

// fresh tells whether what is remembered still counts.
func (h heldRights) fresh(now time.Time) bool {
	if h.err != nil {
		return now.Sub(h.at) < failedFor
	}
	return now.Sub(h.at) < rightsFor
}

// Rights are what the node's credential may do, as its host says, remembered for a minute. They must not be changed. The
// error is one of Call; that a host does not answer is remembered for some seconds too.
func (s *Service) Rights(ctx context.Context, caller session.Caller, id string) (pve.Permissions, error) {
	key := asked{caller.Identity, id}
	current := s.current(ctx)
	s.mu.Lock()
	known, ok := s.rights[key]
	epoch := s.epoch
	s.mu.Unlock()
	now := s.now()
	if ok && current && known.fresh(now) {
		// Whether the caller may still be told is for the node to say.
		if _, err := s.record(ctx, caller, id); err != nil {
			return nil, err
		}
		return known.held, known.err
	}
	var held pve.Permissions
	err := s.Call(ctx, caller, id, func(ctx context.Context, host *pve.Host, with pve.Credentials) (err error) {
		held, err = host.Permissions(ctx, with)
		return err
	})
	if err != nil && !pve.IsKind(err, pve.KindHostUnreachable) {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch == epoch {
		if len(s.rights) >= maxRemembered {
			dropOne(s.rights)
		}
		s.rights[key] = heldRights{held, err, s.now()}
	}
	return held, err
}

// loginHosts are the login hosts that the caller's ticket may go to.
func (s *Service) loginHosts(ctx context.Context, of session.Identity) ([]auth.LoginHost, error) {
	hosts, err := s.hosts.In(ctx, of.Datacenter)
	if err != nil {
		return nil, fault.StoreDown(err)
	}
	return hosts, nil
}
