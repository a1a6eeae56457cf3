package store

import (
	"context"
	"database/sql"
	"time"

	"berth/internal/session"
	"berth/internal/store/db"
)

// The database's part in sessions that are kept elsewhere; see redis.Ends.

// MarkSessionsEnded implements redis.Ends.
func (s *Store) MarkSessionsEnded(ctx context.Context, at time.Time, until map[session.Hash]time.Time) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		for h, t := range until {
			err := s.queries.MarkSessionEnded(ctx, tx, db.MarkSessionEndedParams{Hash: h[:], EndedAt: at.UnixMilli(), Until: t.UnixMilli()})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// DeadSessions implements redis.Ends.
func (s *Store) DeadSessions(ctx context.Context, sessions []session.Session) (map[session.Hash]bool, error) {
	dead, hosts := map[session.Hash]bool{}, map[string]bool{}
	for _, one := range sessions {
		known, asked := hosts[one.LoginHost]
		if !asked {
			n, err := s.queries.LoginHostCount(ctx, s.reader, one.LoginHost)
			if err != nil {
				return nil, err
			}
			known = n > 0
			hosts[one.LoginHost] = known
		}
		marks, err := s.queries.EndedSession(ctx, s.reader, one.Hash[:])
		if err != nil {
			return nil, err
		}
		if marks > 0 || !known {
			dead[one.Hash] = true
		}
	}
	return dead, nil
}

// ForgetEndedSessions implements redis.Ends.
func (s *Store) ForgetEndedSessions(ctx context.Context, now time.Time) error {
	return s.queries.ForgetEnded(ctx, s.writer, now.UnixMilli())
}
