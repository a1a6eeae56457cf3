package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"berth/internal/fault"
	"berth/internal/session"
	"berth/internal/store/db"
)

//go:embed migrations/postgres/*.sql
var serverMigrations embed.FS

// Limits of what one program asks of a server.
const (
	maxReaders     = 6
	maxWriters     = 4
	statementLimit = 2 * time.Second
	// transactionLimit is for all statements of a transaction, and for its repetitions.
	transactionLimit = 4 * time.Second
	connectLimit     = 2 * time.Second
	retryPause       = time.Second
	// migrationLimit is how long other programs may take to bring the schema up to date.
	migrationLimit = 5 * time.Minute
)

// setup are the statements that each connection begins with. Writing transactions are serializable: what their statements find
// and what they change fits together as if they ran one after the other, as it is with SQLite.
const setup = `SET statement_timeout = 2000; SET idle_in_transaction_session_timeout = 5000; SET TIME ZONE 'UTC';
SET default_transaction_isolation = 'serializable'; SET berth.program = '%s';`

// shared is what a database on a server needs beyond its pools: a connection that hears of other programs' changes.
type shared struct {
	server  *pgx.ConnConfig
	program string // tells this program's changes from others'

	mu      sync.Mutex
	hears   *pgx.Conn // nil when it has to be made
	changes int64
}

// OpenServer opens a database on a PostgreSQL server and brings its schema up to date, which programs that start at the same
// time leave to one of them. It waits up to patience for a server that can't be reached; then, and at once for what no waiting
// helps, it returns an error. The address may hold a password: it is in no error.
func OpenServer(ctx context.Context, address string, patience time.Duration) (*Store, error) {
	s, err := openServer(ctx, address, patience)
	if err != nil {
		return nil, err
	}
	if err := s.whole(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", s.place, err), s.Close())
	}
	return s, nil
}

func openServer(ctx context.Context, address string, patience time.Duration) (*Store, error) {
	server, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, errors.New("the address of the database can't be read") // what the parser says may quote the password
	}
	server.ConnectTimeout = connectLimit
	place := serverPlace(server)
	if err := await(ctx, place, patience, func(ctx context.Context) error { return migrateServer(ctx, server) }); err != nil {
		return nil, fmt.Errorf("database %s: %w", place, cause(err))
	}
	program := rand.Text()
	begin := fmt.Sprintf(setup, program)
	writer := sql.OpenDB(newConnector(server, begin))
	writer.SetMaxOpenConns(maxWriters)
	writer.SetMaxIdleConns(maxWriters)
	// A snapshot is all that a lone question needs.
	reader := sql.OpenDB(newConnector(server, begin+" SET default_transaction_read_only = on; SET default_transaction_isolation = 'read committed';"))
	reader.SetMaxOpenConns(maxReaders)
	reader.SetMaxIdleConns(maxReaders)
	for _, p := range []*sql.DB{writer, reader} {
		p.SetConnMaxIdleTime(5 * time.Minute)
	}
	return &Store{
		queries: db.New(), place: place,
		writer: &pool{DB: writer, statement: statementLimit, transaction: transactionLimit},
		reader: &pool{DB: reader, statement: statementLimit, transaction: transactionLimit},
		shared: &shared{server: server, program: program},
	}, nil
}

// serverPlace names a database for people.
func serverPlace(server *pgx.ConnConfig) string {
	return server.Database + " at " + net.JoinHostPort(server.Host, strconv.Itoa(int(server.Port)))
}

// await tries until the server answers, or patience is over.
func await(ctx context.Context, place string, patience time.Duration, try func(context.Context) error) error {
	until := time.Now().Add(patience)
	for told := false; ; told = true {
		err := try(ctx)
		var refused *pgconn.PgError
		switch {
		case err == nil, fault.KindOf(err) != fault.Unavailable, errors.As(err, &refused) && misconfigured(refused.Code):
			return err
		case patience == 0:
			return fmt.Errorf("it does not answer: %w", cause(err))
		case time.Now().Add(retryPause).After(until):
			return fmt.Errorf("it did not answer within %s: %w", patience, cause(err))
		}
		if !told {
			slog.WarnContext(ctx, "the database does not answer; it is tried again until it does", "database", place, "for", patience, "cause", cause(err))
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cause is an error without the sentence for visitors around it.
func cause(err error) error {
	if f := fault.As(err); f != nil && f.Cause != nil {
		return f.Cause
	}
	return err
}

// migrateServer brings the schema up to date over a connection of its own, without the limits of others.
func migrateServer(ctx context.Context, server *pgx.ConnConfig) (err error) {
	on := stdlib.OpenDB(*server) // migrations are written for PostgreSQL, so that nothing has to be translated
	defer func() { err = errors.Join(err, on.Close()) }()
	on.SetMaxOpenConns(2)
	if err := on.PingContext(ctx); err != nil {
		return storeDown(err)
	}
	if err := knownVersion(ctx, on); err != nil {
		return storeDown(err)
	}
	locker, err := lock.NewPostgresSessionLocker(
		lock.WithLockTimeout(1, uint64(migrationLimit/time.Second)), lock.WithUnlockTimeout(1, 5),
	)
	if err != nil {
		return err
	}
	provider, err := migrations(goose.DialectPostgres, on, serverMigrations, "migrations/postgres", goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return storeDown(fmt.Errorf("bring the schema up to date: %w", err))
	}
	return storeDown(knownVersion(ctx, on))
}

// knownVersion refuses a schema that a later version of Berth made. It only looks: other programs may be changing it.
func knownVersion(ctx context.Context, on *sql.DB) error {
	var current, newest int64
	err := on.QueryRowContext(ctx, "SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version").Scan(&current)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42P01" { // no such table: it is new
		return nil
	}
	if err != nil {
		return err
	}
	provider, err := migrations(goose.DialectPostgres, on, serverMigrations, "migrations/postgres")
	if err != nil {
		return err
	}
	for _, source := range provider.ListSources() {
		newest = max(newest, source.Version)
	}
	if current > newest {
		return errNewer{current, newest}
	}
	return nil
}

// Version is a number that changes whenever another process has changed what this one may have in memory, and not by what this
// one does. An error means that nobody knows; after one the number is another.
func (s *Store) Version(ctx context.Context) (int64, error) {
	if s.shared == nil {
		return s.dataVersion(ctx)
	}
	return s.shared.version(limited(ctx, statementLimit))
}

// version asks the server for anything at all: what it has to tell arrives before the answer, and the answer shows that
// nothing got lost.
func (s *shared) version(ctx context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.hears == nil {
		s.changes++
		err = s.listen(ctx)
	} else {
		err = s.hears.Ping(ctx)
	}
	if err != nil {
		err = errors.Join(err, s.hangUp())
		return 0, storeDown(err)
	}
	return s.changes, nil
}

func (s *shared) listen(ctx context.Context) error {
	server := s.server.Copy()
	server.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		if n.Payload != s.program {
			s.changes++ // mu is held by whoever reads from the connection
		}
	}
	conn, err := pgx.ConnectConfig(ctx, server)
	if err != nil {
		return err
	}
	s.hears = conn
	_, err = conn.PgConn().Exec(ctx, "LISTEN berth_change").ReadAll()
	return err
}

func (s *shared) hangUp() error {
	if s.hears == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.hears.Close(ctx)
	s.hears = nil
	return err
}

func (s *shared) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hangUp()
}

// Shared tells that the database is on a server, where other programs may work with it at the same time.
func (s *Store) Shared() bool { return s.shared != nil }

// BeginShared is BeginEpoch for a database on a server, beside which there is no file. It tells a database that was made from a
// dump by what a dump does not hold: the server's own name and the table's number there. A copy of the server's whole storage
// can't be told.
func (s *Store) BeginShared(ctx context.Context, at time.Time) (Epoch, error) {
	mark, err := s.serverMark(ctx)
	if err != nil {
		return Epoch{}, err
	}
	var e Epoch
	err = s.inTransaction(ctx, func(tx *sql.Tx) error {
		e = Epoch{}
		was, err := s.queries.Epoch(ctx, tx)
		if err != nil {
			return err
		}
		e.Number = was.Epoch
		if was.EpochFile == mark {
			return nil
		}
		if e.Older = was.EpochFile != ""; e.Older {
			if err := s.endAll(ctx, tx, &e, at); err != nil {
				return err
			}
		}
		return s.queries.SetEpoch(ctx, tx, db.SetEpochParams{Epoch: was.Epoch, EpochFile: mark})
	})
	return e, err
}

// serverMark is what no database that was made from a dump has. Not everybody may ask for the name of the server.
func (s *Store) serverMark(ctx context.Context) (mark string, err error) {
	err = s.reader.QueryRowContext(ctx, "SELECT 'installation'::regclass::oid::text").Scan(&mark)
	if err != nil {
		return "", err
	}
	var server string
	err = s.reader.QueryRowContext(ctx, "SELECT system_identifier::text FROM pg_control_system()").Scan(&server)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && strings.HasPrefix(refused.Code, "42") {
		return mark, nil
	}
	return mark + "/" + server, err
}

// endAll ends all sessions and revokes all access tokens.
func (s *Store) endAll(ctx context.Context, tx *sql.Tx, e *Epoch, at time.Time) error {
	ended, err := s.endOthers(ctx, tx, session.Selection{Everyone: true}, []byte{}, at, at)
	if err != nil {
		return err
	}
	e.Ended = len(ended)
	e.Revoked, err = s.queries.RevokeAllAccessTokens(ctx, tx)
	return err
}
