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
	"slices"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"berth/internal/fault"
	"berth/internal/store/db"
)

//go:embed migrations/*.sql
var sqliteMigrations embed.FS

// FileName is the database's name in the data folder.
const FileName = "berth.db"

// Open opens the database in a folder, creates it if there is none, and brings its schema up to date; a copy of what was there
// before stays beside it. A schema newer than this program knows is refused.
func Open(ctx context.Context, folder string) (*Store, error) {
	s, err := openFile(ctx, filepath.Join(folder, FileName))
	if err != nil {
		return nil, err
	}
	if err := s.whole(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", s.place, err), s.Close())
	}
	return s, nil
}

func openFile(ctx context.Context, path string) (*Store, error) {
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
	writer, err := connect(path, "rwc")
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1) // SQLite has one writer, and waiting in Go is fairer than in its lock
	if err := migrateFile(ctx, writer, path); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), writer.Close())
	}
	reader, err := connect(path, "ro")
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	reader.SetMaxOpenConns(4)
	return &Store{queries: db.New(), writer: &pool{DB: writer}, reader: &pool{DB: reader}, place: path}, nil
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

func connect(path, mode string) (*sql.DB, error) {
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

func migrateFile(ctx context.Context, writer *sql.DB, path string) error {
	provider, err := migrations(goose.DialectSQLite3, writer, sqliteMigrations, "migrations")
	if err != nil {
		return err
	}
	sources := provider.ListSources()
	if upToDate(ctx, writer, sources[len(sources)-1].Version) {
		return nil
	}
	// Another program may be at it already.
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("lock its folder: %w", err)
	}
	defer unlock()
	current, newest, err := provider.GetVersions(ctx)
	switch {
	case err != nil:
		return err
	case current > newest:
		return errNewer{current, newest}
	case current == newest:
		return nil
	case current > 0:
		if err := keepCopy(ctx, writer, path, newest); err != nil {
			return fmt.Errorf("keep a copy of it before its schema changes: %w", err)
		}
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bring the schema up to date: %w", err)
	}
	return nil
}

// upToDate tells whether nothing has to be done, and so nothing to be waited for: that is how nearly every start begins.
func upToDate(ctx context.Context, on *sql.DB, newest int64) bool {
	var current sql.NullInt64
	// Of a new database the answer is an error.
	err := on.QueryRowContext(ctx, "SELECT MAX(version_id) FROM goose_db_version").Scan(&current)
	return err == nil && current.Int64 == newest
}

// copiesKept is how many copies from before a change of the schema are kept.
const copiesKept = 2

// keepCopy puts a copy of the database beside it, named after the schema that it is from before, and removes the oldest ones.
func keepCopy(ctx context.Context, writer *sql.DB, path string, newest int64) error {
	draft := path + ".before-draft"
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// SQLite fills an empty file, and leaves its mode as it is.
	file, err := os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if _, err := writer.ExecContext(ctx, "VACUUM INTO ?", draft); err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	kept := fmt.Sprintf("%s.before-%d", path, newest)
	if err := os.Rename(draft, kept); err != nil {
		return err
	}
	slog.InfoContext(ctx, "the database's schema changes; a copy from before was kept", "copy", kept)
	return removeCopies(path)
}

func removeCopies(path string) error {
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	var schemas []int
	for _, file := range files {
		if text, ok := strings.CutPrefix(file.Name(), filepath.Base(path)+".before-"); ok {
			if schema, err := strconv.Atoi(text); err == nil {
				schemas = append(schemas, schema)
			}
		}
	}
	slices.Sort(schemas)
	for _, schema := range schemas[:max(0, len(schemas)-copiesKept)] {
		if err := os.Remove(fmt.Sprintf("%s.before-%d", path, schema)); err != nil {
			return err
		}
	}
	return nil
}

// roomNeeded is more than any change takes.
const roomNeeded = 256 << 10

// roomBeside tries whether more fits into the folder of a file.
func roomBeside(path string) error {
	probe, err := os.CreateTemp(filepath.Dir(path), ".room-*")
	if err == nil {
		_, err = probe.Write(make([]byte, roomNeeded))
		err = errors.Join(err, probe.Close(), os.Remove(probe.Name()))
	}
	if err != nil {
		return fault.DiskFull(err)
	}
	return nil
}

// Checkpoint moves what the write-ahead log of a file holds into the database and empties the log, so that the files hold
// nothing any more that was replaced. While another process reads it does what it can. What a server keeps is its own business.
func (s *Store) Checkpoint(ctx context.Context) error {
	if s.shared != nil {
		return nil
	}
	_, err := s.writer.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// dataVersion is SQLite's count of the commits of other connections than the asking one; here that is the only one that writes.
func (s *Store) dataVersion(ctx context.Context) (version int64, err error) {
	err = s.writer.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version)
	return version, err
}
