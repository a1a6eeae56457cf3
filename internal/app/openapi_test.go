package app

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"berth/internal/pve/sim"
	"berth/internal/web"
)

// document is as much of an OpenAPI document as these tests look at.
type document struct {
	OpenAPI string `json:"openapi"`
	Paths   map[string]map[string]struct {
		OperationID string                     `json:"operationId"`
		Security    []map[string][]string      `json:"security"`
		Parameters  []struct{ Name string }    `json:"parameters"`
		RequestBody *struct{ Content content } `json:"requestBody"`
		Responses   map[string]struct{ Content content }
	} `json:"paths"`
	Components struct {
		Schemas map[string]*schema `json:"schemas"`
	} `json:"components"`
}

type content map[string]struct{ Schema *schema }

type schema struct {
	Ref        string             `json:"$ref"`
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	Items      *schema            `json:"items"`
}

// fits checks a JSON value against a schema: nothing required is missing, nothing unknown is there.
func (d document) fits(t *testing.T, where string, s *schema, value any) {
	t.Helper()
	if s == nil {
		t.Errorf("%s: no schema", where)
		return
	}
	if s.Ref != "" {
		name := strings.TrimPrefix(s.Ref, "#/components/schemas/")
		if s = d.Components.Schemas[name]; s == nil {
			t.Errorf("%s: the schema %s does not exist", where, name)
			return
		}
	}
	switch v := value.(type) {
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				t.Errorf("%s: %s is missing", where, name)
			}
		}
		if s.Properties == nil {
			return
		}
		for name, inner := range v {
			property, ok := s.Properties[name]
			if !ok {
				t.Errorf("%s: %s is not in the document", where, name)
				continue
			}
			d.fits(t, where+"."+name, property, inner)
		}
	case []any:
		for _, inner := range v {
			d.fits(t, where+"[]", s.Items, inner)
		}
	}
}

func TestOpenAPIDocument(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "root@pam")
	var doc document
	if err := json.Unmarshal([]byte(browser.get("/api/openapi.json").body), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %q", doc.OpenAPI)
	}
	ids := map[string]bool{}
	described := 0
	for _, route := range b.Routes() {
		if route.Shape != web.API || !strings.HasPrefix(route.Path, "/api/") || route.Path == "/api/openapi.json" {
			continue
		}
		op, ok := doc.Paths[route.Path][strings.ToLower(route.Method)]
		if !ok {
			t.Errorf("%s is not in the document", route.Pattern())
			continue
		}
		described++
		if op.OperationID == "" || ids[op.OperationID] {
			t.Errorf("%s: operation id %q", route.Pattern(), op.OperationID)
		}
		ids[op.OperationID] = true
		if secured := len(op.Security) > 0; secured != (route.Access() == web.Authenticated) {
			t.Errorf("%s: secured in the document: %v", route.Pattern(), secured)
		}
		if _, ok := op.Responses["default"].Content["application/problem+json"]; !ok {
			t.Errorf("%s: no problem", route.Pattern())
		}
		// What really comes back must be what the document says.
		if route.Method != http.MethodGet || strings.Contains(route.Path, "{") {
			continue
		}
		r := browser.get(route.Path)
		media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
		answer, ok := op.Responses["200"].Content[media]
		if r.StatusCode != http.StatusOK || !ok {
			t.Errorf("%s: %d %q, the document has %v", route.Pattern(), r.StatusCode, media, slices.Sorted(maps.Keys(op.Responses["200"].Content)))
			continue
		}
		if media == "application/json" {
			doc.fits(t, route.Pattern(), answer.Schema, any(r.json(t)))
		}
	}
	if described < 8 {
		t.Errorf("only %d routes are described", described)
	}
	for name := range doc.Paths {
		if !slices.ContainsFunc(b.Routes(), func(r web.Route) bool { return r.Path == name }) {
			t.Errorf("the document has %s, which is no route", name)
		}
	}
	problem := b.browser(t).json("/api/auth/login", map[string]any{}).json(t)
	doc.fits(t, "problem", &schema{Ref: "#/components/schemas/Problem"}, problem)
}
