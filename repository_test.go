// Package berth_test checks what holds for the repository as a whole and no compiler sees: which package may import which,
// where package comments stand, how long files get, which words never occur, and that the documentation's links and
// tables are true.
package berth_test

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"berth/internal/config"
)

const module = "berth"

var update = flag.Bool("update", false, "write the tables of flags in README.md anew")

// Packages that are named together below.
const (
	features = "internal/auth internal/session internal/node internal/container internal/task internal/token internal/audit"
	leaves   = "internal/pve internal/seal internal/fault"
	adapters = "internal/web internal/api internal/store internal/redis"
)

// mayImport names, for each package, the packages of this module that its code may import; tests may import more. A new
// package needs a line here, and with it a thought about where it stands. A suite of tests that the stores of a feature
// share, such as internal/session/sessiontest, may import what features may and needs no line.
var mayImport = map[string]string{
	"cmd/berth":    "internal/app internal/bench internal/client internal/config internal/pve/sim " + features + " " + leaves,
	"internal/app": "internal/config internal/metrics internal/trace internal/pve/sim " + adapters + " " + features + " " + leaves,

	"internal/client":     "internal/fault",   // it knows the API as any program does
	"internal/bench":      "internal/pve/sim", // it measures the program from outside
	"internal/config":     leaves,
	"internal/metrics":    "",                                        // it is told everything by hooks
	"internal/trace":      "",                                        // and so is this
	"internal/api":        "internal/web " + features + " " + leaves, // its routes stand in web's table
	"internal/web":        "internal/web/view internal/web/static " + features + " " + leaves,
	"internal/web/view":   "internal/web/static",
	"internal/web/static": "",
	"internal/store":      "internal/store/db " + features + " " + leaves,
	"internal/store/db":   "",
	"internal/redis":      features + " " + leaves,

	// The compiler keeps features from importing each other in circles.
	"internal/auth":      features + " " + leaves,
	"internal/session":   features + " " + leaves,
	"internal/node":      features + " " + leaves,
	"internal/container": features + " " + leaves,
	"internal/task":      features + " " + leaves,
	"internal/token":     features + " " + leaves,
	"internal/audit":     features + " " + leaves,

	"internal/pve":             "",
	"internal/seal":            "",
	"internal/fault":           "",
	"e2e":                      "",
	"e2e/outage":               "",
	"internal/testneed":        "",                                           // for tests alone
	"internal/redis/redistest": "internal/testneed",                          // so is this one
	"internal/replicatest":     "internal/testneed internal/redis/redistest", // and this one
	"internal/pve/sim":         "",                                           // nothing of the client it is tested against, so that a mistake there is not repeated
}

// neverImport names what some packages must not import of the standard library.
var neverImport = map[string]string{
	"internal/auth":      "net/http database/sql",
	"internal/session":   "net/http database/sql",
	"internal/node":      "net/http database/sql",
	"internal/container": "net/http database/sql",
	"internal/task":      "net/http database/sql",
	"internal/token":     "net/http database/sql",
	"internal/audit":     "net/http database/sql",
	"internal/fault":     "net/http database/sql",
	"internal/store":     "net/http",
	"internal/redis":     "net/http database/sql",
}

// standardOnly are packages that do with the standard library, but for the modules that are named.
var standardOnly = map[string][]string{
	"internal/pve":   {"golang.org/x/net"}, // the packets of Multicast DNS
	"internal/fault": nil,
}

func TestImports(t *testing.T) {
	for folder, files := range packages(t) {
		allowed, listed := mayImport[folder]
		if !listed && slices.Contains(strings.Fields(features), path.Dir(folder)) && strings.HasSuffix(folder, "test") {
			allowed, listed = features+" "+leaves, true
		}
		code := slices.DeleteFunc(slices.Clone(files), func(f file) bool { return f.test })
		if !listed {
			if len(code) > 0 {
				t.Errorf("%s is not in the table of imports: add a line to mayImport", folder)
			}
			continue
		}
		for _, f := range code {
			for _, spec := range f.ast.Imports {
				name, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				inner, ours := strings.CutPrefix(name, module+"/")
				switch {
				case ours && !slices.Contains(strings.Fields(allowed), inner):
					t.Errorf("%s imports %s, which %s may not", f.path, inner, folder)
				case slices.Contains(strings.Fields(neverImport[folder]), name):
					t.Errorf("%s imports %s, which is not the business of %s", f.path, name, folder)
				case !ours && strings.Contains(strings.Split(name, "/")[0], "."):
					modules, only := standardOnly[folder]
					if only && !slices.ContainsFunc(modules, func(m string) bool { return strings.HasPrefix(name, m+"/") }) {
						t.Errorf("%s imports %s, and %s does with the standard library", f.path, name, folder)
					}
				}
			}
		}
	}
	for folder := range mayImport {
		if _, err := os.Stat(filepath.FromSlash(folder)); err != nil {
			t.Errorf("the table of imports names %s, which is not there", folder)
		}
	}
}

func TestPackageComments(t *testing.T) {
	for folder, files := range packages(t) {
		if !slices.ContainsFunc(files, func(f file) bool { return !f.generated }) {
			continue
		}
		code := slices.DeleteFunc(slices.Clone(files), func(f file) bool { return f.test })
		name := files[0].ast.Name.Name
		if len(code) > 0 {
			name = code[0].ast.Name.Name // a test may be of a package beside it
		}
		place, begin := "doc.go", "Package "+name+" "
		switch {
		case name == "main":
			place, begin = "main.go", "Command "+path.Base(folder)+" "
		case len(code) == 1:
			place = path.Base(code[0].path)
		case len(code) == 0 && len(files) == 1:
			place = path.Base(files[0].path)
		}
		found := false
		for _, f := range files {
			if f.generated || f.ast.Doc == nil {
				continue // some generators leave a comment where a package's belongs
			}
			if path.Base(f.path) != place {
				t.Errorf("%s has a package comment: it belongs in %s", f.path, place)
				continue
			}
			found = true
			if !strings.HasPrefix(f.ast.Doc.Text(), begin) {
				t.Errorf("the package comment of %s does not begin with %q", f.path, begin)
			}
		}
		if !found {
			t.Errorf("%s has no package comment in %s", folder, place)
		}
	}
}

func TestFileLengths(t *testing.T) {
	const most = 600
	for _, files := range packages(t) {
		for _, f := range files {
			if !f.generated && f.lines > most {
				t.Errorf("%s has %d lines: at most %d can be taken in", f.path, f.lines, most)
			}
		}
	}
	walk(t, func(path string) {
		if !slices.Contains([]string{".templ", ".ts", ".css", ".mjs"}, filepath.Ext(path)) || strings.Contains(filepath.ToSlash(path), "/static/dist/") {
			return
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(text, []byte("\n")); lines > most {
			t.Errorf("%s has %d lines: at most %d can be taken in", path, lines, most)
		}
	})
}

// TestNoRootPasswordInEnvironment keeps out the variables with which other dashboards are given one powerful account. They
// are put together here so that the test does not find itself.
func TestNoRootPasswordInEnvironment(t *testing.T) {
	words := regexp.MustCompile(`\bPVE_` + `(HOST|PORT|ROOT_PASSWORD)\b`)
	walk(t, func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(text[:min(len(text), 8000)], 0) >= 0 {
			return // not text
		}
		for i, line := range strings.Split(string(text), "\n") {
			if found := words.FindString(line); found != "" {
				t.Errorf("%s:%d names %s", path, i+1, found)
			}
		}
	})
}

// link finds [text](target), the target without its fragment. Addresses of other sites have a colon.
var link = regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)\s]*)?\)`)

func TestDocumentationLinks(t *testing.T) {
	walk(t, func(path string) {
		if filepath.Ext(path) != ".md" {
			return
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), filepath.FromSlash(found[1]))); err != nil {
				t.Errorf("%s links to %s, which is not there", path, found[1])
			}
		}
	})
}

// testNames finds the tests that a document names.
var testNames = regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")

// TestThreatModel: each attack that is tested stands in docs/security.md, and each test that stands there is in the code. So is each
// that docs/operations.md names.
func TestThreatModel(t *testing.T) {
	const document = "docs/security.md"
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, found := range testNames.FindAllSubmatch(text, -1) {
		named[string(found[1])] = true
	}
	attacks, there := 0, map[string]bool{}
	for _, files := range packages(t) {
		for _, f := range files {
			for _, decl := range f.ast.Decls {
				function, ok := decl.(*ast.FuncDecl)
				if !ok || !f.test || function.Recv != nil {
					continue
				}
				name := function.Name.Name
				there[name] = true
				if !strings.HasPrefix(name, "TestAbuse") {
					continue
				}
				if attacks++; !named[name] {
					t.Errorf("%s has %s, which %s does not name", f.path, name, document)
				}
			}
		}
	}
	for name := range named {
		if !there[name] {
			t.Errorf("%s names %s, which is not there", document, name)
		}
	}
	const faults = "docs/operations.md"
	if text, err = os.ReadFile(faults); err != nil {
		t.Fatal(err)
	}
	for _, found := range testNames.FindAllSubmatch(text, -1) {
		if name := string(found[1]); !there[name] {
			t.Errorf("%s names %s, which is not there", faults, name)
		}
	}
	if attacks < 50 {
		t.Errorf("found only %d tests of attacks: the search is wrong", attacks)
	}
}

// TestNothingIsSkippedInCI: what tests can lack is required by .ci/run, which installs it, and CONTRIBUTING.md says how.
func TestNothingIsSkippedInCI(t *testing.T) {
	lists := map[string]string{}
	for file, pattern := range map[string]string{".ci/run": `BERTH_TEST_REQUIRE=(\S+)`, "CONTRIBUTING.md": "`BERTH_TEST_REQUIRE=(\\S+) go test"} {
		text, err := os.ReadFile(filepath.FromSlash(file))
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindSubmatch(text)
		if found == nil {
			t.Fatalf("%s requires nothing", file)
		}
		lists[file] = strings.Join(slices.Sorted(strings.SplitSeq(string(found[1]), ",")), ",")
	}
	if lists[".ci/run"] != lists["CONTRIBUTING.md"] {
		t.Errorf(".ci/run requires %s, CONTRIBUTING.md %s", lists[".ci/run"], lists["CONTRIBUTING.md"])
	}
	programs := map[string]string{"redis-server": "redis", "pg_dump": "postgres", "psql": "postgres"} // as in testneed
	things := 0
	for _, files := range packages(t) {
		for _, f := range files {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) < 2 {
					return true
				}
				name := ""
				switch fun := call.Fun.(type) {
				case *ast.Ident:
					name = fun.Name
				case *ast.SelectorExpr:
					name = fun.Sel.Name
				}
				test, ok := call.Args[0].(*ast.Ident)
				thing, literal := call.Args[1].(*ast.BasicLit)
				if !ok || test.Name != "t" || !literal || !strings.EqualFold(name, "missing") && name != "Command" {
					return true
				}
				things++
				// Whether a machine hears itself by multicast is not for a test run to install.
				word, _ := strconv.Unquote(thing.Value)
				if word != "multicast" && !slices.Contains(strings.Split(lists[".ci/run"], ","), cmp.Or(programs[word], word)) {
					t.Errorf("%s skips for want of %s, which .ci/run does not require", f.path, word)
				}
				return true
			})
		}
	}
	if things < 10 {
		t.Errorf("found only %d places that skip: the search is wrong", things)
	}
}

// TestFlagTables compares the tables in README.md with the flags that the program takes. With -update it writes them.
func TestFlagTables(t *testing.T) {
	raw, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(raw)
	for verb, flags := range map[string]any{
		"serve": &struct {
			config.Serve `embed:""`
		}{},
		"demo": &struct {
			config.Demo `embed:""`
		}{},
	} {
		begin, end := fmt.Sprintf("<!-- flags of %s -->\n", verb), "<!-- end of flags -->\n"
		before, rest, ok := strings.Cut(readme, begin)
		table, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			t.Errorf("README.md has no table between %q and %q", begin, end)
			continue
		}
		want := flagTable(t, flags)
		if *update {
			readme = before + begin + want + end + after
		} else if table != want {
			t.Errorf("the flags of berth %s are not those in README.md: run \"go test . -update\". It would have\n%s", verb, want)
		}
	}
	if *update && readme != string(raw) {
		if err := os.WriteFile("README.md", []byte(readme), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func flagTable(t *testing.T, flags any) string {
	t.Helper()
	parser, err := kong.New(flags)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| flag | variable | default | what it does |\n| --- | --- | --- | --- |\n")
	for _, f := range parser.Model.Flags {
		if f.Name == "help" {
			continue
		}
		variables := "`" + strings.Join(f.Envs, "`, `") + "`"
		value := f.Default
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s | %s |\n", f.Name, variables, value, strings.ReplaceAll(f.Help, "|", `\|`))
	}
	return b.String()
}

// file is one parsed Go file.
type file struct {
	path            string // from the root, with slashes
	test, generated bool
	lines           int
	ast             *ast.File
}

// packages are the module's Go files by folder. The external tests of a package count as part of it.
func packages(t *testing.T) map[string][]file {
	t.Helper()
	found := map[string][]file{}
	files := token.NewFileSet()
	walk(t, func(name string) {
		if filepath.Ext(name) != ".go" || slices.Contains(strings.Split(filepath.ToSlash(name), "/"), "testdata") {
			return
		}
		parsed, err := parser.ParseFile(files, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		slashed := filepath.ToSlash(name)
		folder := path.Dir(slashed)
		found[folder] = append(found[folder], file{
			path: slashed, test: strings.HasSuffix(name, "_test.go"), generated: ast.IsGenerated(parsed),
			lines: files.File(parsed.FileStart).LineCount(), ast: parsed,
		})
	})
	if len(found) < 10 {
		t.Fatalf("found only %d packages: the walk is wrong", len(found))
	}
	return found
}

// walk calls f for every file of the repository, by its path from the root; not for what other programs keep here.
func walk(t *testing.T, f func(path string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{".git", "node_modules"}, entry.Name()) {
			return filepath.SkipDir
		}
		if entry.Type().IsRegular() {
			f(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
