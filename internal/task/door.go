package task

import (
	"context"
	"errors"

	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// errElsewhere says that a node is no door any more to the cluster in which an operation began: its owner has given it another
// address since, or another pin.
var errElsewhere = errors.New("the node leads elsewhere now")

// elsewhere is what the owner of such an operation reads.
const elsewhere = "Its node leads elsewhere now, so nothing more is known of it. Look at the container"

// ask is Nodes.Call for an operation that has begun. It asks, and believes, only a node that leads to the cluster whose lock
// the operation holds: otherwise whoever may start a container could hold it by the word of a host of their own.
func (s *Service) ask(
	ctx context.Context, caller session.Caller, op *Operation, door string, call func(context.Context, *pve.Host, pve.Credentials) error,
) error {
	if err := s.o.Alive(ctx, caller); err != nil {
		return err
	}
	err := s.o.Nodes.Call(ctx, caller, door, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
		// The host was looked up before: as the node leads there still, that one is the right one.
		if err := s.leads(ctx, caller, op, door); err != nil {
			return err
		}
		return call(ctx, host, with)
	})
	if moved := s.leads(ctx, caller, op, door); moved != nil {
		return moved
	}
	return err
}

// leads returns nil if a node is a door to an operation's cluster, and errElsewhere if it is none. A cluster that was proven to
// be one with another meanwhile has that one's id, which the operation gets.
func (s *Service) leads(ctx context.Context, caller session.Caller, op *Operation, door string) error {
	n, err := s.o.Nodes.Find(ctx, caller, door)
	if err != nil || n.Cluster == op.Cluster {
		return err
	}
	switch stored, err := s.o.Store.Operation(ctx, op.Owner, op.ID); {
	case errors.Is(err, ErrNone) || err == nil && stored.Cluster != n.Cluster:
		return errElsewhere
	case err != nil:
		return fault.StoreDown(err)
	}
	op.Cluster = n.Cluster
	return nil
}

// doorTo finds a node that leads to an operation's cluster: the one that its container is read through just now, else the one
// that it was asked for through.
func (s *Service) doorTo(ctx context.Context, caller session.Caller, op *Operation) (string, error) {
	ids := []string{op.NodeID}
	if found, err := s.o.Containers.Find(ctx, caller, op.NodeID, op.VMID); err == nil && doorOf(found) != op.NodeID {
		ids = []string{doorOf(found), op.NodeID}
	}
	var err error
	for _, id := range ids {
		if err = s.leads(ctx, caller, op, id); err == nil {
			return id, nil
		}
	}
	return "", err
}
