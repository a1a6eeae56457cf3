package store

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"

	"berth/internal/fault"
)

// pool is a bounded number of connections. A statement on it ends within its limit, and runs again when it lost against
// another one.
type pool struct {
	*sql.DB
	statement, transaction time.Duration // 0 for no limit
}

// ExecContext runs a statement of its own.
func (p *pool) ExecContext(ctx context.Context, query string, args ...any) (result sql.Result, err error) {
	err = repeat(ctx, p.statement, func(ctx context.Context) error {
		result, err = p.DB.ExecContext(ctx, query, args...)
		return err
	})
	return result, err
}

// QueryContext reads rows. What changes rows and returns some of them belongs into a transaction: it is not repeated here.
func (p *pool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return p.DB.QueryContext(limited(ctx, p.statement), query, args...)
}

// QueryRowContext reads one row, as QueryContext does.
func (p *pool) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return p.DB.QueryRowContext(limited(ctx, p.statement), query, args...)
}

func (p *pool) inTransaction(ctx context.Context, f func(*sql.Tx) error) error {
	return repeat(ctx, p.transaction, func(ctx context.Context) error {
		tx, err := p.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := f(tx); err != nil {
			return err
		}
		return tx.Commit()
	})
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
