package replicatest

import (
	"net/url"
	"os"
	"testing"

	"berth/internal/redis/redistest"
	"berth/internal/testneed"
)

// Variable is the environment variable that has the tests of the whole program run two replicas, where it is 2.
const Variable = "BERTH_TEST_REPLICAS"

// Wanted tells whether there are to be two.
func Wanted() bool { return os.Getenv(Variable) == "2" }

// Reason is what a test is about that two replicas have not, in words. Marks are what the source of such a test shows of it, one
// of them at least.
type Reason struct {
	Words string
	Marks []string
}

// The reasons there are.
var (
	// File is for tests that read, copy, replace or measure the SQLite file and what lies beside it.
	File = Reason{
		"this is about the files of the database in the data folder, and replicas have theirs on a server",
		[]string{"store.FileName", "store.Open(", "epochFile", "berth.db", "b.rows(", "b.folderFiles(", "copyFiles("},
	}
	// Own is for tests that measure what one program takes, or take its store away.
	Own = Reason{
		"this measures what one program takes, or takes its own store away; two in one process can't be told apart",
		[]string{"b.store.Close()", "testing.AllocsPerRun(", "heap", "SetPatience("},
	}
	// NoRedis is for tests of a program that has none, or has it from some time on.
	NoRedis = Reason{
		"this is about a program without Redis, and replicas share one",
		[]string{"without Redis"},
	}
)

// Alone skips a test where there are to be two replicas.
func Alone(t testing.TB, why Reason) {
	t.Helper()
	if Wanted() {
		t.Skip(why.Words)
	}
}

// Shared is what replicas share: the addresses for --database and --redis.
type Shared struct{ Database, Redis string }

// New makes a database and starts a Redis for one test, which end with it. The database need not outlive its server, and each
// test makes and drops one: nothing waits for the disk that all of them share.
func New(t testing.TB) *Shared {
	t.Helper()
	database, err := url.Parse(testneed.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	query := database.Query()
	query.Set("synchronous_commit", "off")
	database.RawQuery = query.Encode()
	return &Shared{Database: database.String(), Redis: redistest.Start(t).URL()}
}
