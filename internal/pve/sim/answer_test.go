package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// returns is what PVE's schema says of an answer. Properties may name further ones that the schema does not.
type returns struct {
	Type                 string
	Optional             any
	Enum                 []string
	Minimum, Maximum     bound
	Pattern              string
	Properties           map[string]returns
	Items                *returns
	AdditionalProperties any
}

// TestAnswersAgreeWithSchema reads everything that root@pam can read of the default world and compares the answers with
// what PVE's schema says of them.
func TestAnswersAgreeWithSchema(t *testing.T) {
	readSchema(t) // skips
	text, err := os.ReadFile(apiSchema)
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Endpoints []struct {
			Path    string
			Methods map[string]struct{ Returns json.RawMessage }
		}
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	want := map[string]json.RawMessage{}
	for _, e := range document.Endpoints {
		want[e.Path] = e.Methods["GET"].Returns
	}

	w := newWorld(t, Options{Name: "lab", Members: []string{"pve1", "pve2"}})
	w.ok(w.dc.AddGroup("staff", "the staff"))
	_, err = w.dc.AddToken("alice@pve", "dash", true, w.now())
	w.ok(err)
	root := w.mustLogin("root@pam")
	values := map[string]string{
		"node": "pve1", "userid": "alice@pve", "tokenid": "dash", "roleid": "PVEVMUser", "storage": "local", "vmid": "100", "snapname": "current",
	}
	query := map[string]string{"rrddata": "?timeframe=hour"}
	if list, ok := w.call(root, "GET", "/nodes/pve1/tasks", nil).data.([]any); ok && len(list) > 0 {
		values["upid"] = list[0].(map[string]any)["upid"].(string)
	}
	for _, e := range slices.Concat(accessEndpoints(), clusterEndpoints(), guestEndpoints()) {
		path := e.path
		for name, v := range values {
			path = strings.ReplaceAll(path, "{"+name+"}", v)
		}
		if e.method != "GET" || strings.Contains(path, "{") || strings.Contains(path, "/qemu/") {
			continue
		}
		t.Run(strings.TrimPrefix(e.path, "/"), func(t *testing.T) {
			var r returns
			if err := json.Unmarshal(want[e.path], &r); err != nil && len(want[e.path]) > 0 {
				t.Fatal(err)
			}
			got := w.call(root, "GET", path+query[path[strings.LastIndexByte(path, '/')+1:]], nil)
			if got.status != 200 {
				t.Fatalf("%s: %d %s", path, got.status, got.reason)
			}
			for _, problem := range r.compare("data", got.data) {
				t.Error(problem)
			}
		})
	}
}

// compare lists what an answer does that its description does not allow.
func (r *returns) compare(at string, v any) (problems []string) {
	wrong := func(format string, a ...any) []string {
		return append(problems, at+": "+fmt.Sprintf(format, a...))
	}
	switch r.Type {
	case "null":
		if v != nil {
			return wrong("is %v, not null", v)
		}
	case "array":
		list, ok := v.([]any)
		if !ok {
			return wrong("is %T, not a list", v)
		}
		for i, item := range list {
			if r.Items != nil {
				problems = append(problems, r.Items.compare(fmt.Sprintf("%s[%d]", at, i), item)...)
			}
		}
	case "object":
		object, ok := v.(map[string]any)
		if !ok {
			return wrong("is %T, not an object", v)
		}
		for name, p := range r.Properties {
			if field, given := object[name]; given {
				problems = append(problems, p.compare(at+"."+name, field)...)
			} else if p.Optional == nil && !strings.HasSuffix(name, "[n]") {
				problems = wrong("lacks %s", name)
			}
		}
		if more, ok := r.AdditionalProperties.(float64); ok && more == 0 {
			for name := range object {
				if _, ok := r.Properties[name]; !ok && r.Properties[strings.TrimRight(name, "0123456789")+"[n]"].Type == "" {
					problems = wrong("has %s", name)
				}
			}
		}
	case "string":
		s, ok := v.(string)
		if !ok {
			return wrong("is %T %v, not a string", v, v)
		}
		if len(r.Enum) > 0 && !slices.Contains(r.Enum, s) {
			return wrong("is %q, not one of %q", s, r.Enum)
		}
		if p, err := regexp.Compile("^(?:" + r.Pattern + ")$"); r.Pattern != "" && err == nil && !p.MatchString(s) {
			return wrong("%q does not match %s", s, r.Pattern)
		}
	case "integer", "number":
		n, ok := v.(float64)
		if !ok || r.Type == "integer" && n != float64(int64(n)) {
			return wrong("is %T %v, not of type %s", v, v, r.Type)
		}
		if low, high := r.Minimum.int64, r.Maximum.int64; low != nil && n < float64(*low) || high != nil && n > float64(*high) {
			return wrong("is %v, out of its range", n)
		}
	case "boolean":
		if n, ok := v.(float64); !ok || n != 0 && n != 1 {
			return wrong("is %T %v, not 0 or 1", v, v)
		}
	}
	return problems
}

// TestCompareFindsProblems keeps the comparison honest.
func TestCompareFindsProblems(t *testing.T) {
	var r returns
	err := json.Unmarshal([]byte(`{"type":"array","items":{"type":"object","additionalProperties":0,"properties":{
		"id":{"type":"string","enum":["a","b"]},"n":{"type":"integer","minimum":1,"optional":1},"on":{"type":"boolean","optional":1},
		"net[n]":{"type":"string","optional":1},"hex":{"type":"string","pattern":"[0-9a-f]+","optional":1}}}}`), &r)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{
		`[]`: 0, `[{"id":"a"}]`: 0, `[{"id":"a","n":1,"on":0,"net0":"x","hex":"0f"},{"id":"b"}]`: 0,
		`{}`: 1, `null`: 1, `[{}]`: 1, `[{"id":"c"}]`: 1, `[{"id":1}]`: 1, `[{"id":"a","n":"1"}]`: 1, `[{"id":"a","n":1.5}]`: 1, `[{"id":"a","n":0}]`: 1,
		`[{"id":"a","on":true}]`: 1, `[{"id":"a","x":1}]`: 1, `[{"id":"a","hex":"xyz"}]`: 1, `[1,null]`: 2,
	} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		if got := r.compare("data", v); len(got) != want {
			t.Errorf("%s: %q, want %d problems", text, got, want)
		}
	}
}
