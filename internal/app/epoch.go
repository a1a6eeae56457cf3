package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"berth/internal/audit"
	"berth/internal/session"
	"berth/internal/store"
)

// epochFile holds the highest epoch that the database beside it had; see store.Epoch. Each is a new file, and the database
// knows which: a copy of the folder has others.
const epochFile = "berth.epoch"

// beginEpoch ends all sessions of a database that is an older copy, or may be one because the folder is a copy, and revokes all
// access tokens in it: some of them may have been ended or revoked after it was made. Sessions that are kept elsewhere endAll ends,
// if it isn't nil.
func beginEpoch(ctx context.Context, s *store.Store, endAll func(context.Context, time.Time) (int, error), trail *audit.Trail, folder string, now func() time.Time) error {
	if s.Shared() {
		epoch, err := s.BeginShared(ctx, now())
		if err != nil {
			return fmt.Errorf("cannot write to the database %s: %w", s.Place(), err)
		}
		if epoch.Older {
			if endAll != nil {
				elsewhere, err := endAll(ctx, now())
				if err != nil {
					return err
				}
				epoch.Ended += elsewhere
			}
			tellEpoch(ctx, trail, s.Place(), "the database was restored from a dump", epoch)
		}
		return nil
	}
	path := filepath.Join(folder, epochFile)
	// The file is read before the database: another program over the same folder advances the database first.
	mark, err := readEpoch(path)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", path, reason(err))
	}
	err = replaceEpoch(path, func(next string) (int64, error) {
		epoch, err := s.BeginEpoch(ctx, mark, next, now())
		what := ""
		switch {
		case err != nil:
			return 0, err
		case epoch.Older:
			what = "the database is an older copy, or its " + epochFile + " is missing"
		case epoch.Copied:
			what = "the data folder is a copy"
		default:
			return epoch.Number, nil
		}
		if endAll != nil {
			elsewhere, err := endAll(ctx, now())
			if err != nil {
				return 0, err
			}
			epoch.Ended += elsewhere
		}
		tellEpoch(ctx, trail, folder, what, epoch)
		return epoch.Number, nil
	})
	if err != nil {
		return fmt.Errorf("cannot write to the database and to %s in %s: %w", epochFile, folder, err)
	}
	return nil
}

// endBesideRedis ends the sessions that are in the database of an installation that keeps them in Redis: they are from before, nobody
// could see or end them, and they would live again without Redis.
func endBesideRedis(ctx context.Context, s *store.Store, trail *audit.Trail, at time.Time) error {
	ended, err := s.EndOtherSessions(ctx, session.Selection{Everyone: true}, session.Hash{}, at, at)
	if err != nil {
		return fmt.Errorf("cannot write to the database %s: %w", s.Place(), reason(err))
	}
	if len(ended) == 0 {
		return nil
	}
	const what = "sessions are kept in Redis from now on: those in the database were ended"
	slog.WarnContext(ctx, what, "database", s.Place(), "sessions", len(ended))
	trail.Record(ctx, audit.Entry{Action: audit.SessionEnd, Detail: fmt.Sprintf("%s (%d)", what, len(ended))})
	return nil
}

func tellEpoch(ctx context.Context, trail *audit.Trail, where, what string, epoch store.Epoch) {
	slog.WarnContext(ctx, what+": all sessions in it were ended and all access tokens revoked", "database", where,
		"sessions", epoch.Ended, "tokens", epoch.Revoked)
	trail.Record(ctx, audit.Entry{
		Action: audit.SessionEnd,
		Detail: fmt.Sprintf("%s: all sessions in it were ended (%d) and all access tokens revoked (%d)", what, epoch.Ended, epoch.Revoked),
	})
}

func endEpoch(ctx context.Context, s *store.Store, folder string) error {
	if s.Shared() {
		return nil
	}
	path := filepath.Join(folder, epochFile)
	mark, err := readEpoch(path)
	if err != nil {
		return err
	}
	present := ""
	if mark != nil {
		present = mark.File
	}
	return replaceEpoch(path, func(next string) (int64, error) { return s.EndEpoch(ctx, present, next) })
}

// readEpoch is nil when there is no file, or none that says a number: then nothing is known.
func readEpoch(path string) (*store.EpochMark, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 64))
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || number < 1 || number > 1<<53 {
		return nil, nil
	}
	return &store.EpochMark{Number: number, File: fileIdentity(file)}, nil
}

// replaceEpoch puts a new file in the place of the one that there is, with the number that advance says. Advance is told the
// new file's identity. Both happen in one step, so that a crash leaves the old file or the new one.
func replaceEpoch(path string, advance func(next string) (int64, error)) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".epoch-*") // mode 0600
	if err != nil {
		return reason(err)
	}
	number, err := advance(fileIdentity(file))
	if err == nil {
		_, err = fmt.Fprintln(file, number)
	}
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(reason(err), os.Remove(file.Name()))
	}
	return nil
}
