package store

import (
	"database/sql"
	"fmt"
	"net/url"
	"testing"
	"time"

	"berth/internal/testneed"
)

// onEngines runs a test against each kind of database. Open opens a new one of the test's own; what it is called with a
// second time is the same one, as another program would open it.
func onEngines(t *testing.T, test func(t *testing.T, open func(t *testing.T) *Store)) {
	t.Run("SQLite", func(t *testing.T) {
		folder := t.TempDir()
		test(t, func(t *testing.T) *Store { return openTest(t, folder) })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		address := testneed.Postgres(t)
		test(t, func(t *testing.T) *Store { return openServerTest(t, address) })
	})
}

// suite runs a contract, whose every test wants a database of its own.
func suite(t *testing.T, contract func(t *testing.T, fresh func(t *testing.T) *Store)) {
	t.Run("SQLite", func(t *testing.T) {
		contract(t, func(t *testing.T) *Store { return openTest(t, t.TempDir()) })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		// A schema of its own is as good as a database, and made much sooner.
		address := testneed.Postgres(t)
		on, err := sql.Open("pgx", address)
		if err != nil {
			t.Fatal(err)
		}
		defer on.Close()
		made := 0
		contract(t, func(t *testing.T) *Store {
			made++
			name := fmt.Sprint("fresh", made)
			if _, err := on.ExecContext(t.Context(), "CREATE SCHEMA "+name); err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			query := u.Query()
			query.Set("search_path", name)
			u.RawQuery = query.Encode()
			return openServerTest(t, u.String())
		})
	})
}

func openServerTest(t *testing.T, address string) *Store {
	t.Helper()
	s, err := OpenServer(t.Context(), address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
