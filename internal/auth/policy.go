package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"

	"berth/internal/fault"
	"berth/internal/pve"
)

// Mode is how it is decided which hosts people may sign in with.
type Mode int

const (
	// Claimed: the first successful sign-in of a new installation claims it; from then on only known login hosts are
	// contacted, and owners or the operator add others.
	Claimed Mode = iota
	// Listed: exactly the hosts of a list.
	Listed
	// Any host may vouch, each for its own datacenter.
	Any
)

// Policy says with which hosts people may sign in.
type Policy struct {
	Mode Mode
	List []pve.Address // of the mode Listed; the owners are those of its first entry
	// AskClaimCode is set when strangers can reach an unclaimed installation, so that the first sign-in must know the code
	// that the operator was shown. Without it the code is asked for where a proxy shows itself; see WithProxy.
	AskClaimCode bool
}

// ErrClaimed says that somebody else claimed the installation first.
var ErrClaimed = errors.New("the installation is claimed already")

// Claim is who claimed the installation.
type Claim struct {
	// Datacenter is empty while nobody has.
	Datacenter string
	// Code is the sealed claim code of an unclaimed installation; nil if none was made.
	Code []byte
}

// hostNotAllowed is the answer for a host that nobody may sign in with. Nothing was looked up or sent for it.
func hostNotAllowed() *fault.Error {
	return &fault.Error{
		Kind: fault.Forbidden, Code: "host_not_allowed",
		Message: "People can't sign in with this host here. Whoever runs this Berth can add it.",
	}
}

// errHostChanged marks a sign-in whose login host did not stay what it was.
var errHostChanged = errors.New("the login host was removed or pinned anew during the sign-in")

// hostChanged is the answer to a sign-in that began at a login host that is none any more, or is pinned otherwise.
func hostChanged() *fault.Error {
	f := hostNotAllowed()
	f.Message = "This login host was removed or pinned anew while you signed in. Please start again."
	f.Cause = errHostChanged
	return f
}

// samePin tells whether two login hosts, or one at two times, are recognised by the same key.
func samePin(a, b *pve.KeyPin) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// standing judges an attempt by what holds now, before anything more is sent for it and before a session comes of it: while
// it waited for its host or for its second factor, the host may have been removed or pinned anew, and the installation
// claimed. It returns the login host as it is now, or nil for one that is still new and still allowed.
func (s *Service) standing(ctx context.Context, a Attempt) (*LoginHost, error) {
	if !s.hosts.policy.permits(a.Address) {
		return nil, hostNotAllowed()
	}
	if a.LoginHost != "" {
		switch known, err := s.hosts.store.LoginHost(ctx, a.LoginHost); {
		case errors.Is(err, ErrNoHost):
			return nil, hostChanged()
		case err != nil:
			return nil, fault.StoreDown(err)
		case !samePin(known.Key, a.Trust.Key):
			return nil, hostChanged()
		default:
			return &known, nil
		}
	}
	known, err := s.known(ctx, a.Address)
	if err != nil {
		return nil, err
	}
	if known != nil {
		// Somebody else's first sign-in came between. What this one was answered by must be what that one's pin accepts.
		if known.Key != nil && *known.Key != a.Peer.Key || known.Key == nil && a.Trust.Certificate != nil {
			return nil, errPinnedOtherwise
		}
		return known, nil
	}
	if s.hosts.policy.Mode != Claimed {
		return nil, nil
	}
	claim, err := s.hosts.store.Claim(ctx)
	switch {
	case err != nil:
		return nil, fault.StoreDown(err)
	case claim.Datacenter != "" || !a.Claims:
		return nil, hostNotAllowed()
	}
	return nil, nil
}

// allow decides whether a sign-in may contact its host at all. claims tells that the sign-in, if it succeeds, claims the
// installation.
func (s *Service) allow(ctx context.Context, c credentials, known *LoginHost) (claims bool, err error) {
	switch s.hosts.policy.Mode {
	case Any:
		return false, nil
	case Listed:
		if !slices.Contains(s.hosts.policy.List, c.address) {
			return false, hostNotAllowed()
		}
		return false, nil
	}
	claim, err := s.hosts.store.Claim(ctx)
	switch {
	case err != nil:
		return false, fault.StoreDown(err)
	case claim.Datacenter != "" && known == nil:
		return false, hostNotAllowed()
	case claim.Datacenter != "":
		return false, nil
	}
	if !s.hosts.asksClaimCode(ctx) {
		return true, nil
	}
	return true, s.checkClaimCode(claim, c.claimCode)
}

func (s *Service) checkClaimCode(claim Claim, given string) error {
	refused := func(message string) error {
		return &fault.Error{
			Kind: fault.Invalid, Code: "claim_code_required", Message: "Please check the marked fields.",
			Fields: map[string]string{"claimCode": message},
		}
	}
	if given == "" {
		return refused("The first sign-in needs the claim code that Berth printed when it started")
	}
	want, err := s.hosts.openClaimCode(claim)
	if err != nil {
		return err
	}
	// Hashes have equal lengths, so that the comparison takes equally long whatever was given.
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(given))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return refused("This is not the claim code that Berth printed when it started")
	}
	return nil
}

// Open tells whether any host may vouch, so that anybody can make up users.
func (h *Hosts) Open() bool { return h.policy.Mode == Any }

// permits tells whether a known login host may still be contacted: an operator can take an address off the list.
func (p Policy) permits(at pve.Address) bool {
	return p.Mode != Listed || slices.Contains(p.List, at)
}
