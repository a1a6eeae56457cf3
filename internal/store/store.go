package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"

	"berth/internal/auth"
	"berth/internal/node"
	"berth/internal/session"
	"berth/internal/store/db"
)

// Store is an open database. It is safe for concurrent use.
type Store struct {
	writer  *pool
	reader  *pool // refuses to write
	queries *db.Queries
	// place names the database for people: a file, or a server without its password.
	place string
	// shared is what a database on a server needs beyond that; nil for a file.
	shared *shared
}

var (
	_ session.Store = (*Store)(nil)
	_ auth.Store    = (*Store)(nil)
	_ node.Store    = (*Store)(nil)
)

// errNewer is the refusal of a schema that a later version of Berth made.
type errNewer struct{ current, newest int64 }

func (e errNewer) Error() string {
	return fmt.Sprintf("it was written by a newer version of Berth (schema %d, this program knows %d): run that version, or restore a copy from before", e.current, e.newest)
}

// ErrUnfinished is the refusal of a database that an installation is being moved to.
var ErrUnfinished = errors.New("berth migrate has not finished moving an installation to it: run that to its end first")

// migrations returns what brings a database's schema up to date.
func migrations(dialect goose.Dialect, on *sql.DB, folder fs.FS, name string, o ...goose.ProviderOption) (*goose.Provider, error) {
	files, err := fs.Sub(folder, name)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(dialect, on, files, append(o, goose.WithVerbose(false))...)
}

// whole refuses a database that holds a part of an installation only.
func (s *Store) whole(ctx context.Context) error {
	switch _, err := s.queries.Transfer(ctx, s.reader); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return ErrUnfinished
}

// Observe sets who is told of every call to the database: whether it read, wrote or was a transaction, until its first row, and
// whether the database failed. It must not wait, and must be set before the Store is used.
func (s *Store) Observe(told func(ctx context.Context, operation string, took time.Duration, err error)) {
	s.reader.observe, s.writer.observe = told, told
}

// Place names the database for people.
func (s *Store) Place() string { return s.place }

// Close closes the database.
func (s *Store) Close() error {
	err := errors.Join(s.reader.Close(), s.writer.Close())
	if s.shared != nil {
		err = errors.Join(err, s.shared.close())
	}
	return err
}

// Ping tells whether the database answers, and whether there is room for more once something did not fit.
func (s *Store) Ping(ctx context.Context) error {
	if s.writer.full.Load() {
		if err := s.room(ctx); err != nil {
			return err
		}
		s.writer.full.Store(false)
	}
	_, err := s.queries.KeyCheck(ctx, s.reader)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// room tells whether changes fit on the database's disk. A server is asked for a small one. Beside a file that shows nothing, since
// what failed may have left its log a little room.
func (s *Store) room(ctx context.Context) error {
	if s.shared == nil {
		return roomBeside(s.place)
	}
	_, err := s.writer.ExecContext(ctx, "UPDATE installation SET epoch = epoch")
	return err
}

// KeyCheck returns the sealed text that tells the right key from a wrong one, or nil in a database that has none yet.
func (s *Store) KeyCheck(ctx context.Context) ([]byte, error) {
	check, err := s.queries.KeyCheck(ctx, s.reader)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return check, err
}

// CreateInstallation stores the sealed text for KeyCheck in a new database. Where another program was faster nothing changes.
func (s *Store) CreateInstallation(ctx context.Context, at time.Time, keyCheck []byte) error {
	return s.queries.CreateInstallation(ctx, s.writer, db.CreateInstallationParams{CreatedAt: at.UnixMilli(), KeyCheck: keyCheck})
}

// inTransaction runs f in one writing transaction, which stands only if f returns nil. It has the same effect as if no other
// one ran meanwhile: SQLite lets one write at a time, and PostgreSQL refuses those that disturbed each other, after which f runs
// again. So f must set anew whatever it leaves behind.
func (s *Store) inTransaction(ctx context.Context, f func(*sql.Tx) error) error {
	return s.writer.inTransaction(ctx, f)
}

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
