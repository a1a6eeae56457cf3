package store

import (
	"database/sql"
	"testing"
	"time"

	"berth/internal/fault"
)

// A transaction whose time is over says that the database is to blame, wherever it was by then.
func TestTransactionThatTakesTooLong(t *testing.T) {
	onEngines(t, func(t *testing.T, open func(t *testing.T) *Store) {
		p := &pool{DB: open(t).writer.DB, transaction: 50 * time.Millisecond}
		for name, last := range map[string]func(*sql.Tx) error{
			"at a statement": func(tx *sql.Tx) error {
				_, err := tx.ExecContext(t.Context(), "SELECT 1")
				return err
			},
			"at its end": func(*sql.Tx) error { return nil },
		} {
			err := p.inTransaction(t.Context(), func(tx *sql.Tx) error {
				for {
					if _, err := tx.ExecContext(t.Context(), "SELECT 1"); err != nil {
						break // its time is over
					}
				}
				return last(tx)
			})
			if fault.KindOf(err) != fault.Unavailable {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
