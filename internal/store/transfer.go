package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/internal/store/db"
)

// Location is where an installation's database is: a file in a folder, or on a server.
type Location struct {
	Folder string
	// Server is the address of a database, maybe with a password; empty for a file.
	Server string
}

// Moved is what was found of one table at both ends after it was copied.
type Moved struct {
	Table    string
	Rows     int64
	Checksum string // SHA-256 of all rows in the order of their keys
}

// stored is a table as it is moved: in the order in which rows may refer to each other, each with the columns of its key.
type stored struct {
	name string
	key  []string
	// own are columns that are about the database itself.
	own []string
}

var everything = []stored{
	{name: "datacenter", key: []string{"id"}},
	{name: "installation", key: []string{"id"}, own: []string{"epoch", "epoch_file"}},
	{name: "login_host", key: []string{"id"}},
	{name: "session", key: []string{"hash"}},
	{name: "ended_session", key: []string{"hash"}},
	{name: "audit", key: []string{"id"}},
	{name: "familiar", key: []string{"datacenter_id", "user_id", "kind", "mark"}},
	{name: "identity", key: []string{"datacenter_id", "user_id"}},
	{name: "node", key: []string{"id"}},
	{name: "api_token", key: []string{"id"}},
	{name: "access_token", key: []string{"id"}},
	{name: "container_lock", key: []string{"cluster_id", "vmid"}},
	{name: "bulk_run", key: []string{"id"}},
	{name: "operation", key: []string{"id"}},
}

// ErrNotEmpty says that there is something in the target that no move has put there, or one that has come to its end.
var ErrNotEmpty = errors.New("is not empty")

// moveBatch is how many rows are copied by one transaction.
const moveBatch = 200

// move is the copying of one installation.
type move struct {
	from, to *Store
	tell     func(table string, rows int64)
}

// Move copies an installation to a database that has nothing in it, and compares both ends. One that was interrupted goes on
// where it was; until it has ended no Berth starts on the target. Secrets are copied as they are, sealed. Nobody may change the
// source meanwhile: what differs in the end is an error, and the next run begins anew. The source stays as it is. Tell hears of
// each batch that was copied.
func Move(ctx context.Context, from, to Location, now time.Time, tell func(table string, rows int64)) (moved []Moved, err error) {
	source, err := from.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if err := source.whole(ctx); err != nil {
		return nil, fmt.Errorf("database %s: %w", source.place, err)
	}
	target, err := to.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	m := &move{source, target, tell}
	resumed, err := m.begin(ctx, now)
	if err != nil {
		return nil, err
	}
	for {
		if err := m.copy(ctx); err != nil {
			return nil, err
		}
		moved, err := m.compare(ctx)
		switch {
		case err == nil:
			return moved, target.queries.EndTransfer(ctx, target.writer)
		case !resumed || !errors.As(err, new(differs)):
			return nil, err
		}
		// The source has changed since the run before: what that one copied is of no use.
		if err := m.clear(ctx); err != nil {
			return nil, err
		}
		resumed = false
	}
}

func (l Location) open(ctx context.Context) (*Store, error) {
	if l.Server != "" {
		return openServer(ctx, l.Server, 0)
	}
	return openFile(ctx, filepath.Join(l.Folder, FileName))
}

// begin marks the target as one that has not got everything yet, or finds the mark of an earlier run.
func (m *move) begin(ctx context.Context, now time.Time) (resumed bool, err error) {
	made, err := m.from.queries.InstallationMade(ctx, m.from.reader)
	if errors.Is(err, sql.ErrNoRows) {
		return false, fmt.Errorf("there is no installation in %s", m.from.place)
	}
	if err != nil {
		return false, err
	}
	check, err := m.from.KeyCheck(ctx)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, uint64(made)), check...))
	source := hex.EncodeToString(sum[:])
	err = m.to.inTransaction(ctx, func(tx *sql.Tx) error {
		began, err := m.to.queries.Transfer(ctx, tx)
		resumed = began == source
		switch {
		case err == nil && resumed:
			return nil
		case err == nil:
			return fmt.Errorf("%s has a part of another installation, or of this one with another key: empty it first", m.to.place)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		for _, table := range everything {
			var found bool
			if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+table.name+")").Scan(&found); err != nil {
				return err
			}
			if found {
				return fmt.Errorf("%s %w: there is something in %s", m.to.place, ErrNotEmpty, table.name)
			}
		}
		return m.to.queries.BeginTransfer(ctx, tx, db.BeginTransferParams{Source: source, BeganAt: now.UnixMilli()})
	})
	return resumed, err
}

// copy adds the rows to the target that are behind those it has.
func (m *move) copy(ctx context.Context) error {
	for _, table := range everything {
		columns, err := m.columns(ctx, table)
		if err != nil {
			return err
		}
		last, err := m.last(ctx, table)
		if err != nil {
			return err
		}
		for {
			rows, err := m.from.rows(ctx, table, columns, last)
			if err != nil {
				return fmt.Errorf("read %s of %s: %w", table.name, m.from.place, err)
			}
			if len(rows) == 0 {
				break
			}
			if err := m.to.insert(ctx, table, columns, rows); err != nil {
				return fmt.Errorf("write %s of %s: %w", table.name, m.to.place, err)
			}
			last = keyOf(table, columns, rows[len(rows)-1])
			m.tell(table.name, int64(len(rows)))
		}
	}
	if m.to.Shared() {
		// Entries of the audit trail go on behind the last one.
		_, err := m.to.writer.ExecContext(ctx, "SELECT setval(pg_get_serial_sequence('audit', 'id'), COALESCE(MAX(id), 1), MAX(id) IS NOT NULL) FROM audit")
		return err
	}
	return nil
}

// clear takes away what an earlier run copied.
func (m *move) clear(ctx context.Context) error {
	return m.to.inTransaction(ctx, func(tx *sql.Tx) error {
		for _, table := range slices.Backward(everything) {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table.name); err != nil {
				return err
			}
		}
		return nil
	})
}

// differs says that the ends are not the same after everything was copied.
type differs struct{ table string }

func (d differs) Error() string {
	return fmt.Sprintf("%s was changed while it was copied: stop every Berth that uses the database, and run it again", d.table)
}

// compare counts the rows of both ends and makes checksums of them.
func (m *move) compare(ctx context.Context) (moved []Moved, err error) {
	for _, table := range everything {
		columns, err := m.columns(ctx, table)
		if err != nil {
			return nil, err
		}
		there, err := m.from.sum(ctx, table, columns)
		if err != nil {
			return nil, err
		}
		here, err := m.to.sum(ctx, table, columns)
		if err != nil {
			return nil, err
		}
		if there != here {
			return nil, differs{table.name}
		}
		moved = append(moved, here)
	}
	return moved, nil
}

// columns are those that are moved.
func (m *move) columns(ctx context.Context, table stored) ([]string, error) {
	rows, err := m.from.reader.QueryContext(ctx, "SELECT * FROM "+table.name+" LIMIT 0")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	return slices.DeleteFunc(columns, func(c string) bool { return slices.Contains(table.own, c) }), errors.Join(err, rows.Err())
}

// last is the key of the last row that the target has; nil for none.
func (m *move) last(ctx context.Context, table stored) ([]any, error) {
	key := make([]any, len(table.key))
	into := make([]any, len(key))
	for i := range key {
		into[i] = &key[i]
	}
	err := m.to.reader.QueryRowContext(ctx, fmt.Sprintf("SELECT %s FROM %s ORDER BY %s DESC LIMIT 1",
		names(table.key), table.name, strings.Join(quoted(table.key), " DESC, "))).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return key, err
}

// rows reads the next rows behind a key.
func (s *Store) rows(ctx context.Context, table stored, columns []string, behind []any) (found [][]any, err error) {
	query := fmt.Sprintf("SELECT %s FROM %s", names(columns), table.name)
	if behind != nil {
		query += fmt.Sprintf(" WHERE (%s) > (%s)", names(table.key), holders(len(table.key)))
	}
	rows, err := s.reader.QueryContext(ctx, fmt.Sprintf("%s ORDER BY %s LIMIT %d", query, names(table.key), moveBatch), behind...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		row := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		for i := range row {
			if number, ok := row[i].(int64); ok && types[i].DatabaseTypeName() == "BOOLEAN" {
				row[i] = number != 0 // SQLite has no values of this type
			}
		}
		found = append(found, row)
	}
	return found, rows.Err()
}

func (s *Store) insert(ctx context.Context, table stored, columns []string, rows [][]any) error {
	var values []any
	for _, row := range rows {
		values = append(values, row...)
	}
	one := "(" + holders(len(columns)) + ")"
	all := strings.TrimSuffix(strings.Repeat(one+", ", len(rows)), ", ")
	// A server may still be at the last statement of a run that was killed. What that brings is the same, and is compared in the end.
	_, err := s.writer.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s (%s) VALUES %s ON CONFLICT DO NOTHING", table.name, names(columns), all), values...)
	return err
}

// sum makes the checksum of a table.
func (s *Store) sum(ctx context.Context, table stored, columns []string) (Moved, error) {
	m := Moved{Table: table.name}
	all := sha256.New()
	var last []any
	for {
		rows, err := s.rows(ctx, table, columns, last)
		if err != nil {
			return m, fmt.Errorf("read %s of %s: %w", table.name, s.place, err)
		}
		if len(rows) == 0 {
			m.Checksum = hex.EncodeToString(all.Sum(nil))
			return m, nil
		}
		for _, row := range rows {
			for i, value := range row {
				if err := add(all, value); err != nil {
					return m, fmt.Errorf("%s.%s: %w", table.name, columns[i], err)
				}
			}
		}
		m.Rows += int64(len(rows))
		last = keyOf(table, columns, rows[len(rows)-1])
	}
}

// add adds a value to a checksum, the same for the same value of either kind of database.
func add(to hash.Hash, value any) error {
	var kind byte
	var raw []byte
	switch v := value.(type) {
	case nil:
	case int64:
		kind, raw = 'i', binary.BigEndian.AppendUint64(nil, uint64(v))
	case bool:
		kind, raw = 'b', []byte{0}
		if v {
			raw[0] = 1
		}
	case string:
		kind, raw = 't', []byte(v)
	case []byte:
		kind, raw = 'x', v
	default:
		return fmt.Errorf("a value of type %T", v)
	}
	to.Write(binary.BigEndian.AppendUint64([]byte{kind}, uint64(len(raw))))
	to.Write(raw)
	return nil
}

func keyOf(table stored, columns []string, row []any) (key []any) {
	for _, name := range table.key {
		key = append(key, row[slices.Index(columns, name)])
	}
	return key
}

// quoted are names of columns that may be words of SQL.
func quoted(columns []string) (names []string) {
	for _, c := range columns {
		names = append(names, `"`+c+`"`)
	}
	return names
}

func names(columns []string) string { return strings.Join(quoted(columns), ", ") }

func holders(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
