package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"berth/internal/audit"
	"berth/internal/store"
)

// epochFile holds the highest epoch that the database beside it had; see store.Epoch.
const epochFile = "berth.epoch"

// beginEpoch ends all sessions of a database that is an older copy, since some of them may have been ended after it was made.
func beginEpoch(ctx context.Context, s *store.Store, trail *audit.Trail, folder string, now func() time.Time) error {
	path := filepath.Join(folder, epochFile)
	// The file is read before the database: another program over the same folder advances the database first.
	seen, err := readEpoch(path)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", path, reason(err))
	}
	epoch, err := s.BeginEpoch(ctx, seen, now())
	if err != nil {
		return fmt.Errorf("cannot write to the database in %s: %w", folder, reason(err))
	}
	if epoch.Older {
		slog.WarnContext(ctx, "the database is an older copy, or its "+epochFile+" is missing, so all sessions in it were ended", "folder", folder, "sessions", epoch.Ended)
		trail.Record(ctx, audit.Entry{
			Action: audit.SessionEnd, Detail: fmt.Sprintf("the database is an older copy: all sessions in it were ended (%d)", epoch.Ended),
		})
	}
	if err := writeEpoch(path, epoch.Number); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, reason(err))
	}
	return nil
}

func endEpoch(ctx context.Context, s *store.Store, folder string) error {
	number, err := s.EndEpoch(ctx)
	if err != nil {
		return err
	}
	return writeEpoch(filepath.Join(folder, epochFile), number)
}

// readEpoch is nil when there is no file, or none that says a number: then nothing is known.
func readEpoch(path string) (*int64, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || number < 1 || number > 1<<53 {
		return nil, nil
	}
	return &number, nil
}

// writeEpoch replaces the file in one step, so that a crash leaves the old or the new one.
func writeEpoch(path string, number int64) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".epoch-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, number)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
