package sim

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// apiSchema is PVE's own description of its API, kept outside of this repository.
const apiSchema = "../../../../shared/pve/api-schema.json"

type schemaProperty struct {
	Type                 string
	Optional             any
	Minimum, Maximum     bound
	MinLength, MaxLength bound
	Enum                 []string
}

// bound is a limit, which the schema writes as a number or as a string.
type bound struct{ *int64 }

func (b *bound) UnmarshalJSON(text []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(text), `"`), 64)
	n := int64(f)
	b.int64 = &n
	return err
}

func (b bound) differs(have int64) bool { return b.int64 != nil && *b.int64 != have }

type schemaMethod struct {
	AllowToken  *int
	Permissions *struct {
		User  string
		Check []any
	}
	Parameters struct {
		AdditionalProperties any
		Properties           map[string]schemaProperty
	}
}

func readSchema(t *testing.T) map[string]map[string]schemaMethod {
	t.Helper()
	text, err := os.ReadFile(apiSchema)
	if os.IsNotExist(err) {
		t.Skipf("%s is not here: this test needs PVE's own description of its API", apiSchema)
	} else if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Endpoints []struct {
			Path    string
			Methods map[string]schemaMethod
		}
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	paths := map[string]map[string]schemaMethod{}
	for _, e := range document.Endpoints {
		paths[e.Path] = e.Methods
	}
	return paths
}

// TestEndpointsAgreeWithSchema compares every declaration in this package with PVE's: that the method exists, who may
// call it, and each parameter that we know. What we do not declare is refused, so leaving a parameter out is a gap; a
// wrong one would be a lie.
func TestEndpointsAgreeWithSchema(t *testing.T) {
	schema := readSchema(t)
	for _, e := range slices.Concat(accessEndpoints(), openIDEndpoints(), clusterEndpoints(), guestEndpoints()) {
		name := e.method + " " + e.path
		m, ok := schema[e.path][e.method]
		if !ok {
			t.Errorf("%s: PVE has no such method", name)
			continue
		}
		if world := m.Permissions != nil && m.Permissions.User == "world"; world != e.world {
			t.Errorf("%s: open to the world is %v, in PVE %v", name, e.world, world)
		}
		if ticketOnly := m.AllowToken != nil && *m.AllowToken == 0; ticketOnly != e.ticket {
			t.Errorf("%s: tickets only is %v, in PVE %v", name, e.ticket, ticketOnly)
		}
		if m.Permissions != nil && len(m.Permissions.Check) > 0 && e.check == nil {
			t.Errorf("%s: lets everybody in, PVE checks %v", name, m.Permissions.Check)
		}
		for _, p := range e.params {
			want, ok := m.Parameters.Properties[p.name]
			if !ok {
				t.Errorf("%s: PVE knows no parameter %s", name, p.name)
				continue
			}
			if required := want.Optional == nil; required != p.required && !strings.Contains(e.path, "{"+p.name+"}") {
				t.Errorf("%s: %s is required: %v, in PVE %v", name, p.name, p.required, required)
			}
			if p.kind != want.Type && !(p.kind == "array" && want.Type == "string") {
				t.Errorf("%s: %s is of type %s, in PVE %s", name, p.name, p.kind, want.Type)
			}
			if len(want.Enum) > 0 && !slices.Equal(p.enum, want.Enum) {
				t.Errorf("%s: %s is one of %q, in PVE of %q", name, p.name, p.enum, want.Enum)
			}
			if p.kind == "string" && (want.MinLength.differs(p.min) || want.MaxLength.differs(p.max)) {
				t.Errorf("%s: %s has %d to %d characters, unlike in PVE", name, p.name, p.min, p.max)
			}
			if p.kind == "integer" && (want.Minimum.differs(p.min) || want.Maximum.differs(p.max)) {
				t.Errorf("%s: %s ranges from %d to %d, unlike in PVE", name, p.name, p.min, p.max)
			}
		}
		for p, want := range m.Parameters.Properties {
			declared := strings.Contains(e.path, "{"+p+"}") || slices.ContainsFunc(e.params, func(have param) bool { return have.name == p })
			if want.Optional == nil && !declared {
				t.Errorf("%s: parameter %s is required in PVE and unknown here", name, p)
			}
		}
	}
}
func TestParameterCheck(t *testing.T) {
	e := endpoint{params: []param{
		{name: "n", kind: "integer", min: 1, max: 5}, {name: "s", kind: "string", min: 2, max: 4, pattern: "^[a-z]+$"},
		{name: "b", kind: "boolean"}, {name: "f", kind: "number"}, {name: "e", kind: "string", enum: []string{"x", "y"}},
		{name: "net[n]", kind: "string"}, {name: "list", kind: "array"},
	}}
	s := newSchema(&e, []string{"vmid"})
	for _, tt := range []struct{ name, value, want string }{
		{"vmid", "101", ""}, {"vmid", "99", "value must have a minimum value of 100"}, {"vmid", "abc", "type check ('integer') failed - got 'abc'"},
		{"n", "5", ""}, {"n", "6", "value must have a maximum value of 5"}, {"n", "0", "value must have a minimum value of 1"}, {"n", "", "type check ('integer') failed - got ''"},
		{"s", "abc", ""}, {"s", "a", "value must be at least 2 characters long"}, {"s", "abcde", "value may only be 4 characters long"}, {"s", "AB", "value does not match the regex pattern"},
		{"b", "yes", ""}, {"b", "Off", ""}, {"b", "2", "type check ('boolean') failed - got '2'"},
		{"f", "1.5", ""}, {"f", "x", "type check ('number') failed - got 'x'"},
		{"e", "y", ""}, {"e", "z", "value 'z' does not have a value in the enumeration 'x, y'"},
		{"net0", "a", ""}, {"net15", "a", ""}, {"net", "a", "property is not defined in schema and the schema does not allow additional properties"},
		{"list", "a", ""}, {"other", "a", "property is not defined in schema and the schema does not allow additional properties"},
	} {
		values := map[string][]string{"vmid": {"101"}}
		values[tt.name] = []string{tt.value}
		err := s.check(values)
		got := ""
		if err != nil {
			got = err.(*reply).fields[tt.name]
		}
		if got != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s=%s: %q, want %q", tt.name, tt.value, got, tt.want)
		}
	}
	if err := s.check(map[string][]string{"vmid": {"101", "102"}}); err == nil || err.(*reply).fields["vmid"] != "type check ('integer') failed - got ARRAY" {
		t.Errorf("two values: %v", err)
	}
	if err := s.check(map[string][]string{}); err == nil || err.(*reply).fields["vmid"] != "property is missing and it is not optional" {
		t.Errorf("nothing: %v", err)
	}
}
