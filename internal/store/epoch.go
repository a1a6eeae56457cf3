package store

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"berth/internal/store/db"
)

// EpochMark is what a file beside the database says of the epoch: the highest number that there was.
type EpochMark struct {
	Number int64
	// File is what no copy of that file has, without blanks; empty where nothing is known that would tell.
	File string
}

// Epoch is the number that grows with each beginning and end of serving, and what was found out by it.
type Epoch struct {
	Number int64
	// Older tells that the database is an older copy of itself, Copied that the mark beside it is a copy, so that both may be
	// older ones. Ended is how many sessions were ended for either, Revoked how many access tokens were revoked.
	Older, Copied bool
	Ended         int
	Revoked       int64
}

// BeginEpoch advances the epoch of the installation, for a mark in a file of its own (next, as in EpochMark.File). The
// database is an older copy when its epoch is lower than that of the mark, or when there is none (nil) although it has been
// served before. Then, and when the mark is a copy, every session in the database is ended and every access token revoked: for
// which of them that had been done since cannot be told.
func (s *Store) BeginEpoch(ctx context.Context, mark *EpochMark, next string, at time.Time) (Epoch, error) {
	var e Epoch
	err := s.inTransaction(ctx, func(tx *sql.Tx) error {
		e = Epoch{}
		was, err := s.queries.Epoch(ctx, tx)
		if err != nil {
			return err
		}
		e.Number = was.Epoch + 1
		present := ""
		if mark != nil {
			e.Number, present = max(e.Number, mark.Number+1), mark.File
		}
		// A database that was never served holds no session, whatever was in the folder before.
		e.Older = was.Epoch > 0 && (mark == nil || was.Epoch < mark.Number)
		e.Copied = !e.Older && was.EpochFile != "" && !slices.Contains(strings.Fields(was.EpochFile), present)
		if e.Older || e.Copied {
			if err := s.endAll(ctx, tx, &e, at); err != nil {
				return err
			}
		}
		return s.setEpoch(ctx, tx, e.Number, present, next)
	})
	return e, err
}

// EndEpoch advances the epoch once more, so that copies made until then are older ones. Present and next are files as in
// EpochMark: of the mark that there is, and of the one in its place.
func (s *Store) EndEpoch(ctx context.Context, present, next string) (int64, error) {
	var number int64
	err := s.inTransaction(ctx, func(tx *sql.Tx) error {
		was, err := s.queries.Epoch(ctx, tx)
		if err != nil {
			return err
		}
		number = was.Epoch + 1
		return s.setEpoch(ctx, tx, number, present, next)
	})
	return number, err
}

// setEpoch notes the file that is to hold the number beside the one that does until then: the program may be killed in between.
func (s *Store) setEpoch(ctx context.Context, tx *sql.Tx, number int64, present, next string) error {
	files := ""
	if next != "" {
		files = strings.TrimSpace(present + " " + next)
	}
	return s.queries.SetEpoch(ctx, tx, db.SetEpochParams{Epoch: number, EpochFile: files})
}
