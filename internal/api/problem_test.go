package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"berth/internal/fault"
	"berth/internal/web"
)

// faultKinds are the kinds by their names in the code.
var faultKinds = map[string]fault.Kind{
	"Internal": fault.Internal, "Invalid": fault.Invalid, "Malformed": fault.Malformed, "TooLarge": fault.TooLarge,
	"Unsupported": fault.Unsupported, "Unauthenticated": fault.Unauthenticated, "Forbidden": fault.Forbidden,
	"NotFound": fault.NotFound, "NotAllowed": fault.NotAllowed, "Conflict": fault.Conflict, "Throttled": fault.Throttled,
	"Unreachable": fault.Unreachable, "Unavailable": fault.Unavailable, "Misdirected": fault.Misdirected,
}

// written are the codes that stand in the code beside their kind.
func written(t *testing.T) map[string]fault.Kind {
	t.Helper()
	found := map[string]fault.Kind{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			code, kind := "", ""
			for _, element := range literal.Elts {
				pair, ok := element.(*ast.KeyValueExpr)
				if !ok {
					continue
				}
				name, _ := pair.Key.(*ast.Ident)
				switch value := pair.Value.(type) {
				case *ast.BasicLit:
					if name != nil && name.Name == "Code" {
						code, _ = strconv.Unquote(value.Value)
					}
				case *ast.SelectorExpr:
					if name != nil && name.Name == "Kind" {
						kind = value.Sel.Name
					}
				case *ast.Ident:
					if name != nil && name.Name == "Kind" {
						kind = value.Name
					}
				}
			}
			k, ok := faultKinds[kind]
			if !ok || code == "" {
				return true
			}
			if before, twice := found[code]; twice && before != k {
				t.Errorf("%s: the code %s has another kind elsewhere", path, code)
			}
			found[code] = k
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 20 {
		t.Fatalf("found only %d codes: the search is wrong", len(found))
	}
	return found
}

// TestProblemCodes: the document gives each code of a route the status that it really has.
func TestProblemCodes(t *testing.T) {
	real := written(t)
	for code, kind := range kinds {
		if k, ok := real[code]; !ok || k != kind {
			t.Errorf("%s: the document says %d, and it is %d (found: %v)", code, web.StatusOf(kind), web.StatusOf(k), ok)
		}
	}
	for _, route := range New(nil, nil, nil, nil, nil, nil, nil, nil, "test").Routes() {
		if route.Doc == nil {
			continue
		}
		for _, code := range route.Doc.Codes {
			if _, ok := kinds[code]; !ok {
				t.Errorf("%s names the code %s: add it to kinds", route.Pattern(), code)
			}
		}
		for status, codes := range problemsOf(route) {
			for _, code := range codes {
				if k, ok := real[code]; !ok || web.StatusOf(k) != status {
					t.Errorf("%s: %s is documented as %d, and is %d", route.Pattern(), code, status, web.StatusOf(k))
				}
			}
		}
	}
}
