package testneed

import (
	"os"
	"os/exec"
	"testing"
)

func TestRequired(t *testing.T) {
	for _, c := range []struct {
		list string
		want bool
	}{
		{"", false}, {"nginx", true}, {"axe, nginx", true}, {"nginxx", false}, {"axe", false},
	} {
		if got := required(c.list, "nginx"); got != c.want {
			t.Errorf("required(%q, nginx) = %t", c.list, got)
		}
	}
}

// programVariable names the program that TestHelperCommand needs.
const programVariable = "BERTH_TEST_HELPER_PROGRAM"

// TestHelperCommand is a test that needs a program, for TestMissingCommand.
func TestHelperCommand(t *testing.T) {
	program := os.Getenv(programVariable)
	if program == "" {
		t.Skip("only runs within TestMissingCommand")
	}
	Command(t, program)
}

// TestMissingCommand: a program that is not there fails a test where the thing that it belongs to is required.
func TestMissingCommand(t *testing.T) {
	for program, thing := range map[string]string{"redis-server": "redis", "pg_dump": "postgres", "psql": "postgres", "sqlite3": "sqlite3"} {
		for required, fails := range map[string]bool{"": false, "chromium": false, "chromium," + thing: true} {
			c := exec.Command(os.Args[0], "-test.run", "^TestHelperCommand$")
			c.Env = []string{"PATH=/nowhere", programVariable + "=" + program, Variable + "=" + required}
			if out, err := c.CombinedOutput(); (err != nil) != fails {
				t.Errorf("without %s, requiring %q: %v\n%s", program, required, err, out)
			}
		}
	}
}
