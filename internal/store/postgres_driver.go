package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"berth/internal/fault"
)

// connector makes connections that understand the queries of package db, which are written as SQLite has them.
type connector struct{ driver.Connector }

// newConnector returns a connector for a server. Each new connection runs the statements in setup.
func newConnector(server *pgx.ConnConfig, setup string) connector {
	return connector{stdlib.GetConnector(*server, stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.PgConn().Exec(ctx, setup).ReadAll()
		if err != nil {
			err = errors.Join(err, c.Close(ctx))
		}
		return err
	}))}
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	made, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, storeDown(err)
	}
	return conn{made.(*stdlib.Conn)}, nil
}

type conn struct{ *stdlib.Conn }

func (c conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.Conn.PrepareContext(ctx, translate(query))
	return stmt, storeDown(err)
}

func (c conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	result, err := c.Conn.ExecContext(ctx, translate(query), args)
	return result, storeDown(err)
}

func (c conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.Conn.QueryContext(ctx, translate(query), args)
	return rows, storeDown(err)
}

func (c conn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	begun, err := c.Conn.BeginTx(ctx, o)
	if err != nil {
		return nil, storeDown(err)
	}
	return tx{begun}, nil
}

// CheckNamedValue makes the values of SQLite's driver of arguments. PostgreSQL takes no text with a NUL in it or one that is
// not UTF-8, and both can be in what a stranger sends.
func (c conn) CheckNamedValue(v *driver.NamedValue) error {
	value, err := driver.DefaultParameterConverter.ConvertValue(v.Value)
	if text, ok := value.(string); ok {
		value = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\uFFFD"), "\uFFFD")
	}
	v.Value = value
	return err
}

type tx struct{ driver.Tx }

func (t tx) Commit() error { return storeDown(t.Tx.Commit()) }

var (
	translated sync.Map // query as it is written -> for PostgreSQL
	// functions are those that go by another name in PostgreSQL.
	functions = strings.NewReplacer("instr(", "strpos(", "char(10)", "chr(10)", "lower(", "lower_ascii(")
)

// translate makes of a query in the words of SQLite one for PostgreSQL: ?1 becomes $1, a ? without a number the next one, and
// some functions have other names. Texts in quotes stay as they are.
func translate(query string) string {
	if known, ok := translated.Load(query); ok {
		return known.(string)
	}
	var out strings.Builder
	last := 0
	for i, part := range strings.Split(query, "'") {
		if quoted := i%2 == 1; quoted {
			out.WriteString("'" + part + "'")
			continue
		}
		part = functions.Replace(part)
		for {
			before, after, found := strings.Cut(part, "?")
			out.WriteString(before)
			if !found {
				break
			}
			digits := len(after) - len(strings.TrimLeft(after, "0123456789"))
			number, err := strconv.Atoi(after[:digits])
			if err != nil {
				number = last + 1
			}
			last = max(last, number)
			fmt.Fprintf(&out, "$%d", number)
			part = after[digits:]
		}
	}
	translated.Store(query, out.String())
	return out.String()
}

// storeDown makes a fault of what says that the database can't be used just now. Other errors stay what they are, one among
// them that makes package sql try another connection.
func storeDown(err error) error {
	var refused *pgconn.PgError
	var unconnected *pgconn.ConnectError
	var broken net.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled), fault.As(err) != nil:
		return err
	case errors.As(err, &refused):
		if !temporary(refused.Code) {
			return err
		}
	case errors.As(err, &unconnected), errors.As(err, &broken), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
	default:
		return err
	}
	return fault.StoreDown(err)
}

// temporary tells of a refusal whether it is about the server's state rather than about what was asked of it: no connection,
// no resources, not allowed to wait any longer, going down, or read only because another server has taken over.
func temporary(code string) bool {
	switch code {
	case "25006", "25P03", "55P03", "57014":
		return true
	}
	if misconfigured(code) {
		return true
	}
	switch code[:min(2, len(code))] {
	case "08", "53", "57", "58":
		return true
	}
	return false
}

// misconfigured tells of a refusal whether the server knows no such database or user, or no such password.
func misconfigured(code string) bool { return code == "3D000" || strings.HasPrefix(code, "28") }

// repeatable tells of an error whether the statement or transaction lost against another one, and does no harm when it runs
// again from its beginning.
func repeatable(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (refused.Code == "40001" || refused.Code == "40P01")
}
