package testneed

import (
	"cmp"
	"os"
	"os/exec"
	"slices"
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
