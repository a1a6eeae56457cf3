package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"berth/internal/config"
	"berth/internal/fault"
	"berth/internal/store"
)

// Migrate copies an installation from one database to another one; see store.Move. Its key is a file that stays where it is.
func Migrate(ctx context.Context, from, to config.Place, tell func(table string, rows int64)) ([]store.Moved, error) {
	if from.Server == "" {
		path := filepath.Join(from.Folder, store.FileName)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no %s", path)
		}
	}
	if to.Server == "" {
		if err := prepareFolder(to.Folder); err != nil {
			return nil, err
		}
	}
	moved, err := store.Move(ctx, store.Location(from), store.Location(to), time.Now(), tell)
	switch {
	case errors.Is(err, store.ErrNotEmpty):
		return nil, fmt.Errorf("nothing was copied: %w", err)
	case err != nil:
		if f := fault.As(err); f != nil && f.Cause != nil {
			err = f.Cause // its sentence is for visitors
		}
		return nil, fmt.Errorf("nothing is served from the new database before this command has come to its end: %w", err)
	}
	return moved, nil
}
