package store

import (
	"fmt"
	"slices"
	"testing"

	"berth/internal/testneed"
)

// column is a column of either kind of database, in the words of SQLite.
type column struct {
	table, name, kind string
	nullable          bool
}

// untold are the tables whose changes other programs over the same server are not told of: nobody keeps them in memory.
var untold = []string{"audit", "familiar", "transfer", "container_lock", "bulk_run", "operation"}

// Both kinds of database have the same tables with the same columns, so that a migration can't be forgotten on one side.
func TestBothSchemasAreOne(t *testing.T) {
	file, server := openTest(t, t.TempDir()), openServerTest(t, testneed.Postgres(t))
	inFile := columns(t, file, `
		SELECT t.name, c.name, c.type, c."notnull" = 0 AND c.pk = 0 FROM sqlite_schema AS t JOIN pragma_table_info(t.name) AS c
		WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name NOT LIKE 'goose%'`)
	onServer := columns(t, server, `
		SELECT table_name, column_name, upper(data_type), is_nullable = 'YES' FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name NOT LIKE 'goose%'`)
	if len(inFile) < 50 {
		t.Fatalf("only %d columns were found", len(inFile))
	}
	for _, c := range inFile {
		if !slices.Contains(onServer, c) {
			t.Errorf("PostgreSQL has no %v", c)
		}
	}
	for _, c := range onServer {
		if !slices.Contains(inFile, c) {
			t.Errorf("SQLite has no %v", c)
		}
	}

	// So that the order of rows and what a search finds are the same everywhere.
	local := texts(t, server, `
		SELECT table_name || '.' || column_name FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name NOT LIKE 'goose%' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'`)
	if len(local) > 0 {
		t.Errorf(`these are compared as the database's locale has it, for want of COLLATE "C": %v`, local)
	}

	telling := texts(t, server, `SELECT DISTINCT event_object_table::text FROM information_schema.triggers WHERE action_statement LIKE '%tell_change()'`)
	for _, table := range texts(t, server, `SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema() AND table_name NOT LIKE 'goose%'`) {
		if told := slices.Contains(telling, table); told == slices.Contains(untold, table) {
			t.Errorf("other programs are told of changes to %s: %v, and it is named as untold: %v", table, told, !told)
		}
	}

	indexes := func(s *Store, query string) []string { return texts(t, s, query) }
	mine := indexes(file, "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
	theirs := indexes(server, `
		SELECT i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
		WHERE i.relnamespace = current_schema()::regnamespace AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = x.indexrelid)`)
	slices.Sort(mine)
	slices.Sort(theirs)
	if !slices.Equal(mine, theirs) {
		t.Errorf("indexes of SQLite %v, of PostgreSQL %v", mine, theirs)
	}
}

// columns reads what a query says of columns.
func columns(t *testing.T, s *Store, query string) (found []column) {
	t.Helper()
	rows, err := s.reader.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var c column
		if err := rows.Scan(&c.table, &c.name, &c.kind, &c.nullable); err != nil {
			t.Fatal(err)
		}
		switch c.kind {
		case "INTEGER":
			c.kind = "BIGINT"
		case "BYTEA":
			c.kind = "BLOB"
		}
		found = append(found, c)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

func texts(t *testing.T, s *Store, query string) (found []string) {
	t.Helper()
	rows, err := s.reader.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		found = append(found, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

func (c column) String() string {
	text := fmt.Sprintf("%s.%s %s", c.table, c.name, c.kind)
	if !c.nullable {
		text += " NOT NULL"
	}
	return text
}

func TestTranslate(t *testing.T) {
	for query, want := range map[string]string{
		"SELECT ?1, ?2, ?1":                      "SELECT $1, $2, $1",
		"a = ? AND b IN (?,?)":                   "a = $1 AND b IN ($2,$3)",
		"a = ?2 AND b IN (?,?)":                  "a = $2 AND b IN ($3,$4)",
		"a = ?12 AND 'why? it''s ?1' = b":        "a = $12 AND 'why? it''s ?1' = b",
		"instr(lower(a || char(10)), lower(?3))": "strpos(lower_ascii(a || chr(10)), lower_ascii($3))",
		"SELECT 'instr(' || lower('X')":          "SELECT 'instr(' || lower_ascii('X')",
		"UPDATE t SET a = 1":                     "UPDATE t SET a = 1",
	} {
		if got := translate(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for range 2 { // the second time it is known already
		if got := translate("a IN (?,?)"); got != "a IN ($1,$2)" {
			t.Error(got)
		}
	}
}
