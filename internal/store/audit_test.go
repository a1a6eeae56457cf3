package store

import (
	"testing"

	"berth/internal/audit"
	"berth/internal/audit/audittest"
)

func TestAuditContract(t *testing.T) {
	suite(t, func(t *testing.T, fresh func(t *testing.T) *Store) {
		audittest.Contract(t, func(t *testing.T) audit.Store { return fresh(t) })
	})
}

// The database itself refuses to change an entry, whatever a later version of the program tries.
func TestAuditEntriesAreNeverChanged(t *testing.T) {
	onEngines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		if err := s.AddEntries(t.Context(), []audit.Entry{{Action: audit.SignIn, Result: audit.OK, Count: 1}}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.writer.ExecContext(t.Context(), "UPDATE audit SET detail = 'something else'"); err == nil {
			t.Error("an entry was changed")
		}
	})
}
