package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"berth/internal/auth"
	"berth/internal/node"
	"berth/internal/session"
	"berth/internal/store/db"
)

//go:embed migrations/*.sql
var migrations embed.FS

// FileName is the database's name in the data folder.
const FileName = "berth.db"

// Store is an open database. It is safe for concurrent use.
type Store struct {
	writer  *sql.DB // one connection: SQLite has one writer, and waiting in Go is fairer than in its lock
	reader  *sql.DB
	queries *db.Queries
}

var (
	_ session.Store = (*Store)(nil)
	_ auth.Store    = (*Store)(nil)
	_ node.Store    = (*Store)(nil)
)

// Open opens the database in a folder, creates it if there is none, and brings its schema up to date. A schema newer than
// this program knows is refused.
func Open(ctx context.Context, folder string) (*Store, error) {
	path := filepath.Join(folder, FileName)
	// SQLite would make the file readable to all that the umask allows; its WAL and SHM files take over the mode.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		makePrivate(ctx, name)
	}
	s := &Store{queries: db.New()}
	if s.writer, err = open(path, "rwc"); err != nil {
		return nil, err
	}
	s.writer.SetMaxOpenConns(1)
	if err := migrate(ctx, s.writer); err != nil {
		s.writer.Close()
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	if s.reader, err = open(path, "ro"); err != nil {
		s.writer.Close()
		return nil, err
	}
	s.reader.SetMaxOpenConns(4)
	return s, nil
}

// makePrivate takes from all but the owner of a file what they may do with it, as after a copy that was put back.
func makePrivate(ctx context.Context, path string) {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return
	}
	if err := os.Chmod(path, 0o600); err != nil {
		slog.WarnContext(ctx, "other users of the machine may open a file of the database", "file", path, "cause", err)
	}
}

func open(path, mode string) (*sql.DB, error) {
	options := url.Values{
		"mode":    {mode},
		"_txlock": {"immediate"},
		// What was replaced or removed is overwritten: a ticket must not lie about in free pages.
		"_pragma": {"busy_timeout(5000)", "foreign_keys(1)", "synchronous(NORMAL)", "secure_delete(1)"},
	}
	if mode != "ro" {
		options.Add("_pragma", "journal_mode(WAL)")
	}
	// The path is escaped so that a "?" or "#" in a folder's name stays part of it.
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: options.Encode()}
	return sql.Open("sqlite", dsn.String())
}

func migrate(ctx context.Context, writer *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, writer, files)
	if err != nil {
		return err
	}
	current, newest, err := provider.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > newest {
		return fmt.Errorf("it was written by a newer version of Berth (schema %d, this program knows %d): run that version, or restore a copy from before", current, newest)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bring the schema up to date: %w", err)
	}
	return nil
}

// Close closes the database.
func (s *Store) Close() error {
	return errors.Join(s.reader.Close(), s.writer.Close())
}

// Ping tells whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.queries.KeyCheck(ctx, s.reader)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// Version is a number that changes whenever another process has changed the database, and only then.
func (s *Store) Version(ctx context.Context) (int64, error) {
	var version int64
	// SQLite counts the commits of other connections than the asking one; here that is the only one that writes.
	err := s.writer.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version)
	return version, err
}

// KeyCheck returns the sealed text that tells the right key from a wrong one, or nil in a database that has none yet.
func (s *Store) KeyCheck(ctx context.Context) ([]byte, error) {
	check, err := s.queries.KeyCheck(ctx, s.reader)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return check, err
}

// CreateInstallation stores the sealed text for KeyCheck in a new database.
func (s *Store) CreateInstallation(ctx context.Context, at time.Time, keyCheck []byte) error {
	return s.queries.CreateInstallation(ctx, s.writer, db.CreateInstallationParams{CreatedAt: at.UnixMilli(), KeyCheck: keyCheck})
}

// inTransaction runs f in one writing transaction, which stands only if f returns nil.
func (s *Store) inTransaction(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
