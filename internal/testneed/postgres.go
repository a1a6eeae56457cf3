package testneed

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresVariable names another server than the one of this machine, as an address of a database where tests may make others.
const PostgresVariable = "BERTH_TEST_POSTGRES"

// Postgres is the address of a new, empty database of a test's own, which goes when the test ends.
func Postgres(t testing.TB) string {
	t.Helper()
	server := os.Getenv(PostgresVariable)
	if server == "" {
		server = "postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable"
	}
	name := "berth_test_" + strings.ToLower(rand.Text())
	if err := onServer(server, "CREATE DATABASE "+name); err != nil {
		Missing(t, "postgres", "there is no PostgreSQL server here that lets tests make databases ("+PostgresVariable+" names one): "+err.Error())
	}
	t.Cleanup(func() {
		if err := onServer(server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("the test's database stays behind: %v", err)
		}
	})
	address, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	address.Path = "/" + name
	return address.String()
}

func onServer(address, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}
