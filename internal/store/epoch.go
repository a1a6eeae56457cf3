package store

import (
	"context"
	"database/sql"
	"time"

	"berth/internal/session"
)

// Epoch is the number that grows with each beginning and end of serving, and what was found out by it.
type Epoch struct {
	Number int64
	// Older tells that the database is an older copy of itself, Ended how many sessions in it were ended for that.
	Older bool
	Ended int
}

// BeginEpoch advances the epoch of the installation. The database is an older copy when its epoch is lower than seen, the
// highest one known from elsewhere, or when nothing is known from elsewhere (nil) although it has been served before. Then
// every session in it is ended: which of them had been ended since cannot be told.
func (s *Store) BeginEpoch(ctx context.Context, seen *int64, at time.Time) (Epoch, error) {
	var e Epoch
	err := s.inTransaction(ctx, func(tx *sql.Tx) error {
		e = Epoch{}
		was, err := s.queries.Epoch(ctx, tx)
		if err != nil {
			return err
		}
		// A database that was never served holds no session, whatever was in the folder before.
		e.Older = was > 0 && (seen == nil || was < *seen)
		e.Number = was + 1
		if seen != nil {
			e.Number = max(e.Number, *seen+1)
		}
		if e.Older {
			ended, err := s.endOthers(ctx, tx, session.Selection{Everyone: true}, []byte{}, at, at)
			if err != nil {
				return err
			}
			e.Ended = len(ended)
		}
		return s.queries.SetEpoch(ctx, tx, e.Number)
	})
	return e, err
}

// EndEpoch advances the epoch once more, so that copies made until then are older ones.
func (s *Store) EndEpoch(ctx context.Context) (int64, error) {
	var number int64
	err := s.inTransaction(ctx, func(tx *sql.Tx) error {
		was, err := s.queries.Epoch(ctx, tx)
		if err != nil {
			return err
		}
		number = was + 1
		return s.queries.SetEpoch(ctx, tx, number)
	})
	return number, err
}
