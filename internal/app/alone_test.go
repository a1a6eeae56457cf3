package app

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/internal/replicatest"
)

// Tests that two replicas skip do what the reason says: the source of each shows one of its marks.
func TestReasonsToRunAlone(t *testing.T) {
	reasons := map[string]replicatest.Reason{"File": replicatest.File, "Own": replicatest.Own, "NoRedis": replicatest.NoRedis}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	skipped := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, declared := range file.Decls {
			function, ok := declared.(*ast.FuncDecl)
			if !ok {
				continue
			}
			source := string(text[set.Position(function.Pos()).Offset:set.Position(function.End()).Offset])
			_, call, found := strings.Cut(source, "\treplicatest.Alone(t, replicatest.")
			if !found {
				continue
			}
			skipped++
			reason, _, _ := strings.Cut(call, ")")
			if !slices.ContainsFunc(reasons[reason].Marks, func(mark string) bool { return strings.Contains(source, mark) }) {
				t.Errorf("%s is skipped because %q, and its source shows none of %q", function.Name.Name, reasons[reason].Words, reasons[reason].Marks)
			}
		}
	}
	if skipped < 2 {
		t.Errorf("found only %d tests that are skipped: the search is wrong", skipped)
	}
}
