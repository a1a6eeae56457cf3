package store

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"berth/internal/fault"
)

// pool is a bounded number of connections. A statement on it ends within its limit, and runs again when it lost against
// another one.
type pool struct {
	*sql.DB
	statement, transaction time.Duration // 0 for no limit
	// observe is told of every call; see Store.Observe.
	observe func(ctx context.Context, operation string, took time.Duration, err error)
	// full tells that something did not fit on the disk, until somebody finds that there is room again; see Store.Ping.
	full atomic.Bool
}

// wrote notes how something ended that was to change the database, and returns what is to be said of it.
func (p *pool) wrote(err error) error {
	if !diskFull(err) {
		return err
	}
	p.full.Store(true)
	return fault.DiskFull(err)
}

// diskFull tells whether there was no room for what was to be written, on the disk or in what the program may use of it.
func diskFull(err error) bool {
	var ofFile *sqlite.Error
	var ofServer *pgconn.PgError
	switch {
	case errors.As(err, &ofFile):
		return ofFile.Code()&0xff == sqlite3.SQLITE_FULL || ofFile.Code() == sqlite3.SQLITE_IOERR_WRITE
	case errors.As(err, &ofServer):
		return ofServer.Code == "53100" // disk_full
	}
	return false
}

// observed tells of a call that is over.
func (p *pool) observed(ctx context.Context, operation string, began time.Time, err error) {
	if p.observe == nil {
		return
	}
	if !isFailure(operation, err) {
		err = nil
	}
	p.observe(ctx, operation, time.Since(began), err)
}

// isFailure tells whether the database is to blame for an error: not for a row that is there already, for whoever went away, nor
// for the decision that a transaction came to.
func isFailure(operation string, err error) bool {
	var ofFile *sqlite.Error
	var ofServer *pgconn.PgError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &ofFile):
		return ofFile.Code()&0xff != sqlite3.SQLITE_CONSTRAINT
	case errors.As(err, &ofServer):
		return !strings.HasPrefix(ofServer.Code, "23") // integrity constraint violation
	case operation != opTransaction:
		return true
	}
	return fault.KindOf(err) == fault.Unavailable || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, sql.ErrConnDone)
}

// What calls are told apart by; see Store.Observe.
const (
	opRead        = "read"
	opWrite       = "write"
	opTransaction = "transaction"
)

// ExecContext runs a statement of its own.
func (p *pool) ExecContext(ctx context.Context, query string, args ...any) (result sql.Result, err error) {
	began := time.Now()
	defer func() { p.observed(ctx, opWrite, began, err) }()
	err = repeat(ctx, p.statement, func(ctx context.Context) error {
		result, err = p.DB.ExecContext(ctx, query, args...)
		return err
	})
	return result, p.wrote(err)
}

// QueryContext reads rows. What changes rows and returns some of them belongs into a transaction: it is not repeated here.
func (p *pool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	began := time.Now()
	rows, err := p.DB.QueryContext(limited(ctx, p.statement), query, args...)
	p.observed(ctx, opRead, began, err)
	return rows, err
}

// QueryRowContext reads one row, as QueryContext does.
func (p *pool) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	began := time.Now()
	row := p.DB.QueryRowContext(limited(ctx, p.statement), query, args...)
	p.observed(ctx, opRead, began, row.Err())
	return row
}

func (p *pool) inTransaction(ctx context.Context, f func(*sql.Tx) error) (err error) {
	began := time.Now()
	defer func() { p.observed(ctx, opTransaction, began, err) }()
	return p.wrote(repeat(ctx, p.transaction, func(ctx context.Context) error {
		tx, err := p.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := f(tx); err != nil {
			return tooLate(ctx, err)
		}
		return tooLate(ctx, tx.Commit())
	}))
}

// tooLate is an error of a transaction, which package sql ends by itself when its time is over: then that is the reason.
func tooLate(ctx context.Context, err error) error {
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// repeat runs f until it does not lose against others, or the time for it is over.
func repeat(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx = limited(ctx, limit)
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := f(ctx)
		if !repeatable(err) {
			return err
		}
		select {
		case <-time.After(rand.N(pause)): // those that disturbed each other must not meet again
		case <-ctx.Done():
			return fault.StoreDown(err)
		}
	}
}

// limited is a context with a limit on its time. Rows are read after the function that asked for them has returned, so that
// what hangs on the context is let go when the time is over, or when its parent ends.
func limited(parent context.Context, limit time.Duration) context.Context {
	if limit == 0 {
		return parent
	}
	ctx, cancel := context.WithTimeout(parent, limit)
	context.AfterFunc(ctx, cancel)
	return limitedContext{ctx, parent}
}

// limitedContext says of itself, where its time is over, that the database is to blame: package sql returns it as it is.
type limitedContext struct {
	context.Context
	parent context.Context
}

func (c limitedContext) Err() error {
	err := c.Context.Err()
	if errors.Is(err, context.DeadlineExceeded) && c.parent.Err() == nil {
		return fault.StoreDown(err)
	}
	return err
}
