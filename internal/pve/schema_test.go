package pve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// shared is where the API schema and the recorded replies lie, if they are there: beside the repository.
const shared = "../../../shared/pve"

// Schema is the part of PVE's API schema that requests and answers are checked against.
type Schema struct {
	Endpoints []struct {
		Path    string
		Methods map[string]Method
	}
}

// Method is one method of an endpoint.
type Method struct {
	Parameters Property
	Returns    Property
}

// Property is a node of a JSON schema in PVE's dialect: booleans are 0 and 1, optional is a property's own mark.
type Property struct {
	Type                 string
	Properties           map[string]*Property
	Items                *Property
	Optional             flag
	AdditionalProperties any
	Enum                 []any
	Pattern              string
	Minimum, Maximum     *number
	MinLength, MaxLength *number
	Requires             string
}

// flag and number read what may be 0, 1, "0", "1", a number or its text.
type flag bool

func (f *flag) UnmarshalJSON(b []byte) error {
	*f = flag(!slices.Contains([]string{"0", `"0"`, "false", "null", `""`}, string(b)))
	return nil
}

type number float64

func (n *number) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(b), `"`), 64)
	*n = number(f)
	return err
}

// LoadSchema returns nil where there is no schema.
var LoadSchema = sync.OnceValue(func() *Schema {
	text, err := os.ReadFile(filepath.Join(shared, "api-schema.json"))
	if err != nil {
		return nil
	}
	var s Schema
	if err := json.Unmarshal(text, &s); err != nil {
		panic(err)
	}
	return &s
})

// Find returns the method that a path below /api2/json leads to, and the parameters that the path holds.
func (s *Schema) Find(method, path string) (Method, map[string]string, error) {
	parts := strings.Split(path, "/")
	// A literal segment wins over a parameter, as in PVE.
	best, bestLiterals := -1, -1
	var bestValues map[string]string
	for i, e := range s.Endpoints {
		want := strings.Split(e.Path, "/")
		if len(want) != len(parts) {
			continue
		}
		values, literals, match := map[string]string{}, 0, true
		for j := range want {
			if name, ok := strings.CutPrefix(want[j], "{"); ok {
				values[strings.TrimSuffix(name, "}")] = parts[j]
			} else if want[j] == parts[j] {
				literals++
			} else {
				match = false
			}
		}
		if match && literals > bestLiterals {
			best, bestLiterals, bestValues = i, literals, values
		}
	}
	if best < 0 {
		return Method{}, nil, fmt.Errorf("no endpoint has the path %s", path)
	}
	m, ok := s.Endpoints[best].Methods[method]
	if !ok {
		return Method{}, nil, fmt.Errorf("%s has no method %s", s.Endpoints[best].Path, method)
	}
	return m, bestValues, nil
}

// CheckRequest says what PVE would refuse about a request, nil if nothing.
func (s *Schema) CheckRequest(r *http.Request, body string) []error {
	escaped, ok := strings.CutPrefix(r.URL.EscapedPath(), "/api2/json")
	if !ok {
		return []error{fmt.Errorf("path %s is outside the API", r.URL.Path)}
	}
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return []error{err}
	}
	m, values, err := s.Find(r.Method, path)
	if err != nil {
		return []error{err}
	}
	var errs []error
	var params url.Values
	switch r.Method {
	case http.MethodGet, http.MethodDelete:
		params = r.URL.Query()
		if body != "" {
			errs = append(errs, fmt.Errorf("%s has a body", r.Method))
		}
	default:
		if r.URL.RawQuery != "" {
			errs = append(errs, fmt.Errorf("%s has a query", r.Method))
		}
		if len(r.TransferEncoding) > 0 || r.Header.Get("Content-Length") == "" && r.ContentLength < 0 {
			errs = append(errs, fmt.Errorf("%s has no Content-Length", r.Method))
		}
		if got := r.Header.Get("Content-Type"); got != "application/x-www-form-urlencoded" {
			errs = append(errs, fmt.Errorf("content type %q", got))
		}
		if params, err = url.ParseQuery(body); err != nil {
			return append(errs, err)
		}
	}
	all := make(map[string]any)
	for name, v := range values {
		all[name] = v
	}
	for name, v := range params {
		if _, twice := all[name]; twice || len(v) != 1 {
			errs = append(errs, fmt.Errorf("parameter %s is sent twice", name))
		}
		all[name] = v[0]
	}
	m.Parameters.AdditionalProperties = 0.0
	m.Parameters.Type = "object"
	return append(errs, m.Parameters.check("parameter", all, true)...)
}

// CheckAnswer says how the data of an answer differs from what the schema promises.
func (m Method) CheckAnswer(data any) []error { return m.Returns.check("data", data, false) }

// check is PVE's JSONSchema.pm check_prop as far as the client can break it. Text stands for numbers and booleans where
// text is set, as it does in a form.
func (p *Property) check(where string, v any, text bool) (errs []error) {
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf(where+": "+format, args...))
	}
	switch p.Type {
	case "object":
		object, ok := v.(map[string]any)
		if !ok {
			wrong("%T is not an object", v)
			return errs
		}
		for name, prop := range p.Properties {
			value, present := object[name]
			if !present {
				// Indexed names stand for any number of properties.
				if !bool(prop.Optional) && !strings.Contains(name, "[n]") {
					wrong("%s is missing", name)
				}
				continue
			}
			if prop.Requires != "" {
				if _, ok := object[prop.Requires]; !ok {
					wrong("%s needs %s", name, prop.Requires)
				}
			}
			errs = append(errs, prop.check(where+"."+name, value, text)...)
		}
		if closed(p.AdditionalProperties) {
			for name := range object {
				if _, known := p.Properties[name]; !known {
					wrong("%s is not in the schema", name)
				}
			}
		}
	case "array":
		list, ok := v.([]any)
		if !ok {
			wrong("%T is not a list", v)
			return errs
		}
		if p.Items != nil {
			for i, item := range list {
				errs = append(errs, p.Items.check(fmt.Sprintf("%s[%d]", where, i), item, text)...)
			}
		}
	case "null":
		if v != nil {
			wrong("%v is not null", v)
		}
	case "boolean":
		if s := fmt.Sprint(v); !slices.Contains([]string{"0", "1", "true", "false"}, s) || text && len(s) > 1 {
			wrong("%q is not a boolean", s)
		}
	case "integer", "number":
		p.checkNumber(v, wrong)
	case "string":
		p.checkString(v, wrong)
	}
	if len(p.Enum) > 0 && !slices.ContainsFunc(p.Enum, func(e any) bool { return fmt.Sprint(e) == fmt.Sprint(v) }) {
		wrong("%v is not one of %v", v, p.Enum)
	}
	return errs
}

func closed(additional any) bool {
	n, ok := additional.(float64)
	return ok && n == 0
}

func (p *Property) checkNumber(v any, wrong func(string, ...any)) {
	var n float64
	switch v := v.(type) {
	case float64:
		n = v
	case string:
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			wrong("%q is not a number", v)
			return
		}
		n = f
	default:
		wrong("%T is not a number", v)
		return
	}
	if p.Type == "integer" && n != float64(int64(n)) {
		wrong("%v is not a whole number", n)
	}
	if p.Minimum != nil && n < float64(*p.Minimum) || p.Maximum != nil && n > float64(*p.Maximum) {
		wrong("%v is out of range", n)
	}
}

func (p *Property) checkString(v any, wrong func(string, ...any)) {
	s, ok := v.(string)
	if !ok {
		// Perl writes a string of digits as a number where it was last used as one.
		if _, ok := v.(float64); !ok {
			wrong("%T is not a string", v)
		}
		return
	}
	if p.MinLength != nil && len(s) < int(*p.MinLength) || p.MaxLength != nil && len(s) > int(*p.MaxLength) {
		wrong("a text of %d characters is too short or too long", len(s))
	}
	if p.Pattern != "" {
		// (?^:...) is Perl's way to print a compiled pattern.
		if re, err := regexp.Compile("^(?:" + strings.ReplaceAll(p.Pattern, "(?^:", "(?:") + ")$"); err == nil && !re.MatchString(s) {
			wrong("a text does not match %s", p.Pattern)
		}
	}
}

// checkAgainstSchema fails the test if PVE's schema is there and refuses the request.
func checkAgainstSchema(t *testing.T, r *http.Request, body string) {
	s := LoadSchema()
	if s == nil {
		return
	}
	for _, err := range s.CheckRequest(r, body) {
		t.Errorf("%s %s does not fit the API schema: %v", r.Method, r.URL.Path, err)
	}
}

func TestSchemaCheck(t *testing.T) {
	s := LoadSchema()
	if s == nil {
		t.Skip("no API schema at", shared)
	}
	for _, c := range []struct {
		method, target, body string
		fits                 bool
	}{
		{"GET", "/api2/json/version", "", true},
		{"GET", "/api2/json/nosuch", "", false},
		{"PUT", "/api2/json/version", "", false},
		{"GET", "/api2/json/cluster/resources?type=vm", "", true},
		{"GET", "/api2/json/cluster/resources?type=lxc", "", false},
		{"GET", "/api2/json/cluster/resources?kind=vm", "", false},
		{"GET", "/api2/json/cluster/nextid?vmid=99", "", false},
		{"GET", "/api2/json/cluster/nextid?vmid=abc", "", false},
		{"GET", "/api2/json/cluster/nextid?vmid=100", "", true},
		{"DELETE", "/api2/json/nodes/pve1/lxc/101?force=1", "", true},
		{"DELETE", "/api2/json/nodes/pve1/lxc/101?force=yes", "", false},
		{"DELETE", "/api2/json/nodes/pve1/lxc/101", "force=1", false},
		{"POST", "/api2/json/access/ticket", "username=a&password=b", true},
		{"POST", "/api2/json/access/ticket", "username=a", false},
		{"POST", "/api2/json/access/ticket", "username=a&password=b&path=%2F", false},
		{"POST", "/api2/json/access/ticket?x=1", "username=a&password=b", false},
	} {
		r, err := http.NewRequest(c.method, "https://pve"+c.target, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if errs := s.CheckRequest(r, c.body); (len(errs) == 0) != c.fits {
			t.Errorf("%s %s %s: %v", c.method, c.target, c.body, errs)
		}
	}
}
