package node

import (
	"context"
	"errors"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// Node is one door to containers.
type Node struct {
	ID      string
	Name    string // unique among the nodes of its owner
	Address pve.Address
	// Cluster is shared by all nodes, whoever owns them, that were proven to be doors to the same Proxmox VE installation.
	Cluster string
	// Group is shared by the nodes of one owner whose containers are listed once: those of one cluster, and those that the
	// owner said are.
	Group     string
	IsDefault bool
}

// Service finds and calls nodes. It is safe for concurrent use.
type Service struct {
	hosts    *auth.Hosts
	sessions *session.Registry
}

// NewService returns a service over login hosts and sessions.
func NewService(hosts *auth.Hosts, sessions *session.Registry) *Service {
	return &Service{hosts: hosts, sessions: sessions}
}

// List returns the caller's nodes.
func (s *Service) List(ctx context.Context, caller session.Caller) ([]Node, error) {
	at, err := s.hosts.Address(ctx, caller.Session.LoginHost)
	if err != nil {
		return nil, fault.StoreDown(err)
	}
	id := caller.Session.LoginHost
	return []Node{{ID: id, Name: at.Host, Address: at, Cluster: caller.Identity.Datacenter, Group: caller.Identity.Datacenter, IsDefault: true}}, nil
}

// Call runs one call at a node with the caller's own credential. It returns a fault of kind not found for a node that
// isn't the caller's, one of kind unauthenticated when the caller's session has ended, and else what the call
// returned. The call may run more than once: see session.Registry.Call and auth.Hosts.Try.
func (s *Service) Call(ctx context.Context, caller session.Caller, id string, call func(context.Context, *pve.Host, pve.Credentials) error) error {
	if id != caller.Session.LoginHost {
		return fault.NoSuch("node")
	}
	err := s.sessions.Call(ctx, caller.Session.Hash, func(ctx context.Context, ticket pve.Ticket) error {
		return s.hosts.Try(ctx, id, func(ctx context.Context, host *pve.Host) error {
			return call(ctx, host, ticket)
		})
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
