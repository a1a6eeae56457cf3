package auth

import (
	"context"
	"errors"
	"time"

	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// The privilege that makes an owner, on the top of the owning datacenter's tree.
const (
	ownerPath      = "/"
	ownerPrivilege = "Sys.Modify"
)

// mayOwn tells whether a caller's datacenter owns the installation, without asking Proxmox VE whether the caller may act
// for it.
func (s *Service) mayOwn(ctx context.Context, caller session.Caller) (bool, error) {
	owner, err := s.hosts.owningDatacenter(ctx)
	if err != nil {
		return false, fault.StoreDown(err)
	}
	return owner != "" && owner == caller.Identity.Datacenter, nil
}

// Bounds of what is remembered of owners.
const (
	ownerKnownFor = time.Minute
	ownerPatience = time.Second
	maxOwnersKept = 10_000
)

// ownerAnswer is what Proxmox VE said of one session a moment ago.
type ownerAnswer struct {
	held bool
	at   time.Time
}

// ShownAsOwner tells whether a caller's pages show what owners may do: it asks Proxmox VE at most once a minute for each
// session, and doesn't wait long. It is for links alone; what stands behind them asks Owner.
func (s *Service) ShownAsOwner(ctx context.Context, caller session.Caller) bool {
	if may, err := s.mayOwn(ctx, caller); err != nil || !may {
		return false
	}
	now := s.now()
	s.ownersMu.Lock()
	known, ok := s.owners[caller.Session.Hash]
	s.ownersMu.Unlock()
	if ok && now.Sub(known.at) < ownerKnownFor {
		return known.held
	}
	ctx, cancel := context.WithTimeout(ctx, ownerPatience)
	defer cancel()
	held, err := s.Owner(ctx, caller)
	s.ownersMu.Lock()
	defer s.ownersMu.Unlock()
	if len(s.owners) >= maxOwnersKept {
		clear(s.owners)
	}
	s.owners[caller.Session.Hash] = ownerAnswer{held: held && err == nil, at: now}
	return held && err == nil
}

// owningDatacenter is the one that claimed the installation, or that of the list's first entry; empty if there is none.
func (h *Hosts) owningDatacenter(ctx context.Context) (string, error) {
	switch h.policy.Mode {
	case Any:
		return "", nil
	case Listed:
		first, err := h.store.LoginHostAt(ctx, h.policy.List[0])
		if errors.Is(err, ErrNoHost) {
			return "", nil
		}
		return first.Datacenter, err
	}
	// Once somebody has claimed it that stays so.
	if known := h.claimed.Load(); known != nil {
		return *known, nil
	}
	claim, err := h.store.Claim(ctx)
	if err == nil && claim.Datacenter != "" {
		h.claimed.Store(&claim.Datacenter)
	}
	return claim.Datacenter, err
}

// Owner tells whether the caller may change the installation: Proxmox VE is asked each time, with the session's own
// ticket. A caller without a session of a browser is never an owner.
func (s *Service) Owner(ctx context.Context, caller session.Caller) (bool, error) {
	if !caller.SignedIn() {
		return false, nil
	}
	may, err := s.mayOwn(ctx, caller)
	if err != nil || !may {
		return false, err
	}
	var held bool
	err = s.sessions.Call(ctx, caller.Session.Hash, func(ctx context.Context, ticket pve.Ticket) error {
		return s.hosts.TryIn(ctx, caller.Identity.Datacenter, caller.Session.LoginHost, func(ctx context.Context, host *pve.Host) error {
			permissions, err := host.Permissions(ctx, ticket)
			held = err == nil && permissions.Has(ownerPath, ownerPrivilege)
			return err
		})
	})
	if errors.Is(err, session.ErrNone) {
		return false, fault.SignInRequired()
	}
	return held, err
}

// requireOwner refuses everybody but owners.
func (s *Service) requireOwner(ctx context.Context, caller session.Caller) error {
	owner, err := s.Owner(ctx, caller)
	if err != nil {
		return err
	}
	if !owner {
		return &fault.Error{
			Kind: fault.Forbidden, Code: "owners_only",
			Message: "This belongs to the owners of this Berth: accounts with Sys.Modify on / of the Proxmox installation that claimed it.",
		}
	}
	return nil
}
