package redis

import (
	"context"
	"errors"
	"time"

	"berth/internal/auth"
	"berth/internal/session"
)

// Hosts is an auth.Store whose sessions are in Redis.
type Hosts struct {
	auth.Store // the database
	Sessions   *Sessions
}

// Admit implements auth.Store. The session comes first: should the database refuse, or the program end between the two, what is
// left is a session whose token nobody was told.
func (h Hosts) Admit(ctx context.Context, a auth.Admission) error {
	if a.Session == nil {
		return h.Store.Admit(ctx, a)
	}
	if err := h.Sessions.CreateSession(ctx, *a.Session); err != nil {
		return err
	}
	r := *a.Session
	a.SessionElsewhere = true
	err := h.Store.Admit(ctx, a)
	if err != nil {
		// Its token was told to nobody, so that no mark is needed.
		err = errors.Join(err, h.Sessions.remove(context.WithoutCancel(ctx), r.Identity, r.Hash.String()))
	}
	return err
}

// RemoveHost implements auth.Store. Once the database has no such host its sessions are dead; that they go from Redis tells
// other replicas so.
func (h Hosts) RemoveHost(ctx context.Context, id string) error {
	if err := h.Store.RemoveHost(ctx, id); err != nil {
		return err
	}
	hashes, err := h.Sessions.scan(ctx)
	if err != nil {
		return err
	}
	var there []session.Record
	err = h.Sessions.read(ctx, hashes, func(r session.Record) {
		if r.LoginHost == id {
			there = append(there, r)
		}
	})
	for _, r := range there {
		err = errors.Join(err, h.Sessions.remove(ctx, r.Identity, r.Hash.String()))
	}
	return err
}

// EndAll ends all sessions there are, as after the database was put back to an older state.
func (s *Sessions) EndAll(ctx context.Context, at time.Time) (int, error) {
	ended, err := s.EndOtherSessions(ctx, session.Selection{Everyone: true}, session.Hash{}, at, at)
	return len(ended), err
}
