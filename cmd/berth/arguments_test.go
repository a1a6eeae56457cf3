package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestTieValues: a value is tied to its flag, and a switch of one command is none to another that has a flag of that name.
func TestTieValues(t *testing.T) {
	parser, err := kong.New(&commands{}, kong.Vars{"version": ""}, kong.ExplicitGroups([]kong.Group{{Key: "remote"}}))
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"serve --audit-days -1 --listen :0": "serve --audit-days=-1 --listen=:0",
		"ls --json":                         "ls --json",
		"keys list --json --data x":         "keys list --json --data=x",
		"stop web --timeout 2m -- --json":   "stop web --timeout=2m -- --json",
		"--version":                         "--version",
	} {
		got, err := tieValues(parser.Model, strings.Fields(args))
		if err != nil || !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %q, %v", args, got, err)
		}
	}
	if _, err := tieValues(parser.Model, []string{"serve", "--data"}); err == nil || !strings.Contains(err.Error(), "--data (BERTH_DATA): a value is missing") {
		t.Errorf("a flag without its value: %v", err)
	}
}
