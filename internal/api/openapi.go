package api

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"berth/internal/auth"
	"berth/internal/web"
)

// portSchema stands for auth.Port in the document: a number, or its decimal text.
type portSchema struct{}

// Schema implements huma.SchemaProvider.
func (portSchema) Schema(huma.Registry) *huma.Schema {
	least, most := 1.0, 65535.0
	return &huma.Schema{
		OneOf: []*huma.Schema{
			{Type: huma.TypeInteger, Minimum: &least, Maximum: &most},
			{Type: huma.TypeString, Pattern: "^[0-9]{1,5}$"},
		},
		Description: "1 to 65535, as a number or its decimal text; 8006 if absent",
	}
}

// schemaName is a type's name, behind the noun that it belongs to: each of them may have a List.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch noun := path.Base(t.PkgPath()); noun {
	case "audit", "container", "node", "session", "task", "token":
		if prefix := strings.ToUpper(noun[:1]) + noun[1:]; !strings.HasPrefix(name, prefix) {
			return prefix + name
		}
	}
	return name
}

// openAPI is the document of all routes that have a description.
func openAPI(routes []web.Route, version string) []byte {
	schemas := huma.NewMapRegistry("#/components/schemas/", schemaName)
	schemas.RegisterTypeAlias(reflect.TypeFor[auth.Port](), reflect.TypeFor[portSchema]())
	problemSchema := schemas.Schema(reflect.TypeFor[web.Problem](), true, "Problem")
	// A code may bring members of its own: the fingerprint of an unknown certificate.
	schemas.Map()["Problem"].AdditionalProperties = true
	problem := map[string]*huma.MediaType{"application/problem+json": {Schema: problemSchema}}
	paths := map[string]*huma.PathItem{}
	for _, route := range routes {
		if route.Doc == nil {
			continue
		}
		item := paths[route.Path]
		if item == nil {
			item = &huma.PathItem{}
			paths[route.Path] = item
		}
		op := operation(route, schemas, problem)
		switch route.Method {
		case http.MethodGet:
			item.Get = op
		case http.MethodPost:
			item.Post = op
		case http.MethodPut:
			item.Put = op
		case http.MethodPatch:
			item.Patch = op
		case http.MethodDelete:
			item.Delete = op
		default:
			panic("no place in the OpenAPI document for " + route.Pattern())
		}
	}
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{Title: "Berth", Version: version,
			Description: "Sign in with a Proxmox VE account and see what that account may see. Problems carry a stable `code`. " + common},
		Paths: paths,
		Components: &huma.Components{
			Schemas:         schemas,
			SecuritySchemes: securitySchemes,
		},
	}
	text, err := json.Marshal(doc)
	if err != nil {
		panic("the OpenAPI document can't be written: " + err.Error())
	}
	return text
}

func operation(route web.Route, schemas huma.Registry, problem map[string]*huma.MediaType) *huma.Operation {
	op := &huma.Operation{
		OperationID: route.Doc.ID, Summary: route.Doc.Summary,
		Responses: map[string]*huma.Response{
			"200": {Description: "OK", Content: map[string]*huma.MediaType{
				cmp.Or(route.Doc.Media, "application/json"): {Schema: schemas.Schema(route.Doc.Out, true, "")},
			}},
		},
	}
	documentProblems(op, route, problem)
	documentSecurity(op, route)
	for name, f := range web.PathFields(route.Doc.In) {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: name, In: "path", Required: true, Description: f.Tag.Get("doc"), Schema: &huma.Schema{Type: huma.TypeString},
		})
	}
	if route.Method == http.MethodGet {
		// What is asked for in the query is no schema of the document's own, so its name may be anything: most are a Query.
		schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	}
	in := schemas.Schema(route.Doc.In, false, "")
	if len(in.Properties) == 0 {
		return op
	}
	documentInvalidInput(op, route, problem)
	if route.Method == http.MethodGet {
		for _, name := range slices.Sorted(maps.Keys(in.Properties)) {
			op.Parameters = append(op.Parameters, &huma.Param{
				Name: name, In: "query", Schema: in.Properties[name], Description: in.Properties[name].Description,
				Required: slices.Contains(in.Required, name),
			})
		}
		return op
	}
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/json": {Schema: schemas.Schema(route.Doc.In, true, "")},
	}}
	return op
}
