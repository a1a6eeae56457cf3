package task

import (
	"context"
	"errors"
	"testing"

	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
)

// movingNodes is a node that is given another address just after it was looked up for a call.
type movingNodes struct {
	Nodes
	cluster string
}

func (m *movingNodes) Find(context.Context, session.Caller, string) (node.Node, error) {
	return node.Node{Cluster: m.cluster}, nil
}

func (m *movingNodes) Call(ctx context.Context, _ session.Caller, _ string, call func(context.Context, *pve.Host, pve.Credentials) error) error {
	m.cluster = "elsewhere"
	return call(ctx, nil, nil)
}

// noOperations knows of none.
type noOperations struct{ Store }

func (noOperations) Operation(context.Context, session.Identity, string) (Operation, error) {
	return Operation{}, ErrNone
}

// A host that a node leads to only since the call was begun is not asked.
func TestAskedIsWhoWasMeant(t *testing.T) {
	s := NewService(Options{
		Nodes: &movingNodes{cluster: "here"}, Store: noOperations{}, Alive: func(context.Context, session.Caller) error { return nil },
	})
	defer s.Close()
	err := s.ask(t.Context(), session.Caller{}, &Operation{Cluster: "here"}, "n", func(context.Context, *pve.Host, pve.Credentials) error {
		t.Error("it was asked")
		return nil
	})
	if !errors.Is(err, errElsewhere) {
		t.Error(err)
	}
}
