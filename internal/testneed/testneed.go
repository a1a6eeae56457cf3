package testneed

import (
	"cmp"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Variable is the environment variable that names what must be there.
const Variable = "BERTH_TEST_REQUIRE"

// Missing ends a test for want of a thing, by the name that the variable knows it by: skipped, or failed if it is required.
func Missing(t testing.TB, thing, sentence string) {
	t.Helper()
	if required(os.Getenv(Variable), thing) {
		t.Fatalf("%s, and %s requires %s", sentence, Variable, thing)
	}
	t.Skip(sentence)
}

// partOf are programs that the variable knows by another name than their own.
var partOf = map[string]string{"redis-server": "redis", "pg_dump": "postgres", "psql": "postgres"}

// Command is the path of a program that a test needs. Besides PATH it looks where Debian keeps programs for root.
func Command(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		Missing(t, cmp.Or(partOf[name], name), "there is no "+name+" here")
	}
	return path
}

func required(list, thing string) bool {
	return slices.ContainsFunc(strings.Split(list, ","), func(s string) bool { return strings.TrimSpace(s) == thing })
}

// FreeAddress is an address of this machine for what has to be told its port before it listens. Nobody listens on it, and
// nobody is given it in passing: it lies below what systems hand out for port 0 and for connections.
func FreeAddress(t testing.TB) string {
	t.Helper()
	const from, until = 20000, 32000
	for range 100 {
		address := "127.0.0.1:" + strconv.Itoa(from+rand.IntN(until-from))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close() // it had no connections
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}
