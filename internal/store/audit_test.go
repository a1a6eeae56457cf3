package store

import (
	"testing"

	"berth/internal/audit"
	"berth/internal/audit/audittest"
)

func TestAuditContract(t *testing.T) {
	audittest.Contract(t, func(t *testing.T) audit.Store { return openTest(t, t.TempDir()) })
}

// The database itself refuses to change an entry, whatever a later version of the program tries.
func TestAuditEntriesAreNeverChanged(t *testing.T) {
	s := openTest(t, t.TempDir())
	if err := s.AddEntries(t.Context(), []audit.Entry{{Action: audit.SignIn, Result: audit.OK, Count: 1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.writer.ExecContext(t.Context(), "UPDATE audit SET detail = 'something else'"); err == nil {
		t.Error("an entry was changed")
	}
}
