package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"berth/internal/pve"
	"berth/internal/seal"
	"berth/internal/session"
)

// LoginHost is an address that people sign in with. It belongs to exactly one datacenter.
type LoginHost struct {
	ID         string
	Datacenter string
	Address    pve.Address
	// Key is the pinned public key; nil when the certificate verifies against the roots.
	Key *pve.KeyPin
	// Fingerprint is of the certificate that was last accepted, for people to compare.
	Fingerprint pve.Fingerprint
	Created     time.Time
}

// trust is what a connection to a known login host accepts.
func (h LoginHost) trust() pve.Trust { return pve.Trust{Key: h.Key} }

// ErrNoHost says that an address or id belongs to no login host.
var ErrNoHost = errors.New("no such login host")

// ErrHostKnown says that the address became a login host in the meantime.
var ErrHostKnown = errors.New("the login host is known already")

// ErrLastHost says that a login host can't be removed because nobody could sign in without it.
var ErrLastHost = errors.New("the last login host stays")

// Admission is what the first session at a host stores in one step: all of it or nothing.
type Admission struct {
	// Host is new, and so is its datacenter unless Joins is set; nil when the host is known.
	Host *LoginHost
	// Joins says that the host's datacenter exists already.
	Joins bool
	// Stranger says that the policy takes new hosts from anybody, though somebody has claimed the installation.
	Stranger bool
	// Claims is the datacenter that claims the installation with it; empty for none.
	Claims string
	// Session is nil when the operator or an owner adds a host.
	Session *session.Record
	// SessionElsewhere says that the session is kept in another store than what comes with it.
	SessionElsewhere bool
}

// Store keeps datacenters and login hosts.
type Store interface {
	// LoginHostAt returns ErrNoHost if the address is not a login host's.
	LoginHostAt(ctx context.Context, at pve.Address) (LoginHost, error)
	// LoginHost returns ErrNoHost if there is none of that id.
	LoginHost(ctx context.Context, id string) (LoginHost, error)
	// NoteCertificate replaces a login host's fingerprint if its pin is still the given one; a host that was removed or
	// pinned anew in the meantime stays as it is.
	NoteCertificate(ctx context.Context, id string, key *pve.KeyPin, fingerprint pve.Fingerprint) error
	// LoginHosts lists all of them, the oldest first.
	LoginHosts(ctx context.Context) ([]LoginHost, error)
	// Admit stores an admission. It returns ErrHostKnown if the address is a login host's already, and ErrClaimed if it
	// claims what is claimed, or if a visitor who is no Stranger brings a new host to what is claimed.
	Admit(ctx context.Context, a Admission) error
	// RemoveHost removes a login host and the sessions there. It returns ErrNoHost if there is none of that id, and
	// ErrLastHost for the last one of all or of the datacenter that claimed the installation.
	RemoveHost(ctx context.Context, id string) error
	// Claim is who claimed the installation.
	Claim(ctx context.Context) (Claim, error)
	// SetClaimCode stores a sealed claim code unless there is one, or the installation is claimed.
	SetClaimCode(ctx context.Context, sealed []byte) error
	// Reseal is seal.Store's, for the claim code.
	Reseal(ctx context.Context, at seal.Place, old, fresh []byte) error
	// ClaimInstallation returns ErrClaimed if somebody has it.
	ClaimInstallation(ctx context.Context, datacenter string) error
	// PinHost replaces a login host's pin and fingerprint. It returns ErrNoHost if there is none of that id.
	PinHost(ctx context.Context, id string, key *pve.KeyPin, fingerprint pve.Fingerprint) error
}

// Hosts are the login hosts, and the way to reach them. It is safe for concurrent use.
type Hosts struct {
	store  Store
	client *pve.Client
	sealer *seal.Sealer
	policy Policy
	now    func() time.Time
	// addresses holds pve.Address by login host id. An address never changes, so what is here stays true.
	addresses sync.Map
	// down holds when a login host was found not to answer, by its id.
	down sync.Map
	// claimed is the datacenter that has the installation, once it is known.
	claimed atomic.Pointer[string]
}

// HostsOptions are what Hosts need; all are required.
type HostsOptions struct {
	Store  Store
	Client *pve.Client
	Sealer *seal.Sealer
	Policy Policy
	Now    func() time.Time
}

// NewHosts returns the login hosts of a store, reached by a client.
func NewHosts(o HostsOptions) *Hosts {
	return &Hosts{store: o.Store, client: o.Client, sealer: o.Sealer, policy: o.Policy, now: o.Now}
}

var _ session.Renewer = (*Hosts)(nil)

// reach is the connection to a known login host, which accepts only what is pinned or verifies.
func (h *Hosts) reach(host LoginHost) *pve.Host { return h.client.Host(host.Address, host.trust()) }

// downTime is how long a login host that did not answer is tried last.
const downTime = 30 * time.Second

// TryIn calls a login host of a datacenter, and when it can't be reached the other login hosts there, one after the other:
// they vouch for the same identities. The call may run several times, so it must be safe to repeat. Any answer of a host ends
// it, a refusal too. It returns ErrNoHost when the login host is none any more, or one of another datacenter.
func (h *Hosts) TryIn(ctx context.Context, datacenter, id string, call func(context.Context, *pve.Host) error) error {
	first, err := h.store.LoginHost(ctx, id)
	if err != nil {
		return err
	}
	if first.Datacenter != datacenter {
		return ErrNoHost
	}
	return h.tryFrom(ctx, first, func(ctx context.Context, _ LoginHost, host *pve.Host) error { return call(ctx, host) })
}

// In lists the login hosts of a datacenter that may vouch, the oldest first.
func (h *Hosts) In(ctx context.Context, datacenter string) ([]LoginHost, error) {
	all, err := h.store.LoginHosts(ctx)
	return slices.DeleteFunc(all, func(host LoginHost) bool {
		return host.Datacenter != datacenter || !h.policy.permits(host.Address)
	}), err
}

func (h *Hosts) tryFrom(ctx context.Context, first LoginHost, call func(context.Context, LoginHost, *pve.Host) error) error {
	doors, err := h.doors(ctx, first)
	if err != nil {
		return err
	}
	for i, door := range doors {
		err = call(ctx, door, h.reach(door))
		if !pve.IsKind(err, pve.KindHostUnreachable) {
			return err
		}
		h.down.Store(door.ID, h.now())
		if ctx.Err() != nil || i == len(doors)-1 {
			break
		}
	}
	return err
}

// doors are the login hosts of a datacenter in the order to try them: the given one first, those that did not answer a
// moment ago last.
func (h *Hosts) doors(ctx context.Context, first LoginHost) ([]LoginHost, error) {
	if !h.policy.permits(first.Address) {
		return nil, ErrNoHost
	}
	all, err := h.store.LoginHosts(ctx)
	if err != nil {
		return nil, err
	}
	doors := []LoginHost{first}
	for _, host := range all {
		if host.Datacenter == first.Datacenter && host.ID != first.ID && h.policy.permits(host.Address) {
			doors = append(doors, host)
		}
	}
	now := h.now()
	slices.SortStableFunc(doors, func(a, b LoginHost) int { return cmp.Compare(h.isDown(a, now), h.isDown(b, now)) })
	return doors, nil
}

// isDown is 1 for a host that did not answer a moment ago, else 0.
func (h *Hosts) isDown(host LoginHost, now time.Time) int {
	if at, ok := h.down.Load(host.ID); ok && now.Sub(at.(time.Time)) < downTime {
		return 1
	}
	return 0
}

// Address is where a login host is, from memory when it was asked for before.
func (h *Hosts) Address(ctx context.Context, id string) (pve.Address, error) {
	if at, ok := h.addresses.Load(id); ok {
		return at.(pve.Address), nil
	}
	host, err := h.store.LoginHost(ctx, id)
	if err != nil {
		return pve.Address{}, err
	}
	h.addresses.Store(id, host.Address)
	return host.Address, nil
}

// Permitted tells whether a login host may vouch for sessions: an operator can take its address off the list. One that was
// removed may not.
func (h *Hosts) Permitted(ctx context.Context, id string) (bool, error) {
	if h.policy.Mode != Listed {
		return true, nil
	}
	at, err := h.Address(ctx, id)
	if errors.Is(err, ErrNoHost) {
		return false, nil
	}
	return err == nil && h.policy.permits(at), err
}

// Vouches tells whether there is a login host that may vouch for a datacenter's identities.
func (h *Hosts) Vouches(ctx context.Context, datacenter string) (bool, error) {
	all, err := h.store.LoginHosts(ctx)
	return slices.ContainsFunc(all, func(host LoginHost) bool {
		return host.Datacenter == datacenter && h.policy.permits(host.Address)
	}), err
}

// RenewTicket implements session.Renewer.
func (h *Hosts) RenewTicket(ctx context.Context, of session.Identity, loginHost string, ticket pve.Ticket) (pve.Ticket, error) {
	var fresh pve.Ticket
	err := h.TryIn(ctx, of.Datacenter, loginHost, func(ctx context.Context, host *pve.Host) (err error) {
		fresh, err = host.Renew(ctx, ticket)
		return err
	})
	return fresh, err
}

// Know makes an address a login host with a datacenter of its own, pinned by key, or pins it anew if it is one. Only the
// operator may ask for it, never a visitor.
func (h *Hosts) Know(ctx context.Context, at pve.Address, key *pve.KeyPin, fingerprint pve.Fingerprint) (LoginHost, error) {
	host, err := h.store.LoginHostAt(ctx, at)
	switch {
	case errors.Is(err, ErrNoHost):
		host = h.newHost(at, key, fingerprint)
		return host, h.store.Admit(ctx, Admission{Host: &host})
	case err != nil:
		return LoginHost{}, err
	}
	host.Key, host.Fingerprint = key, fingerprint
	return host, h.store.PinHost(ctx, host.ID, key, fingerprint)
}

// Add makes an address a login host of an existing datacenter, or of a new one if none is named. Only the operator may ask
// for it. It returns ErrHostKnown if the address is a login host already.
func (h *Hosts) Add(ctx context.Context, at pve.Address, key *pve.KeyPin, fingerprint pve.Fingerprint, datacenter string) error {
	host := h.newHost(at, key, fingerprint)
	if datacenter != "" {
		host.Datacenter = datacenter
	}
	return h.store.Admit(ctx, Admission{Host: &host, Joins: datacenter != ""})
}

func (h *Hosts) newHost(at pve.Address, key *pve.KeyPin, fingerprint pve.Fingerprint) LoginHost {
	return LoginHost{ID: newID(), Datacenter: newID(), Address: at, Key: key, Fingerprint: fingerprint, Created: h.now()}
}

// newID makes an id that nobody guesses: 80 random bits.
func newID() string { return strings.ToLower(rand.Text()[:16]) }

// noteCertificate keeps the fingerprint for people up to date after a certificate was renewed with the pinned key, or
// replaced by another that verifies where no key is pinned, and tells the new one when there is one.
func (h *Hosts) noteCertificate(ctx context.Context, host LoginHost, via *pve.Host) (renewed pve.Fingerprint, changed bool, err error) {
	peer, ok := via.Peer()
	if !ok || peer.Fingerprint == host.Fingerprint {
		return pve.Fingerprint{}, false, nil
	}
	if err := h.store.NoteCertificate(ctx, host.ID, host.Key, peer.Fingerprint); err != nil {
		return pve.Fingerprint{}, false, fmt.Errorf("note the renewed certificate of %s: %w", host.Address, err)
	}
	return peer.Fingerprint, true, nil
}
