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
	Address pve.Address
}

// Name is what people call the node.
func (n Node) Name() string { return n.Address.Host }

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
	return []Node{{ID: caller.Session.LoginHost, Address: at}}, nil
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
