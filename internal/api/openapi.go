package api

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
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

// openAPI is the document of all routes that have a description.
func openAPI(routes []web.Route, version string) []byte {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schemas.RegisterTypeAlias(reflect.TypeFor[auth.Port](), reflect.TypeFor[portSchema]())
	problemSchema := schemas.Schema(reflect.TypeFor[web.Problem](), true, "Problem")
	// A code may bring members of its own: the fingerprint of an unknown certificate.
	schemas.Map()["Problem"].AdditionalProperties = true
	problem := &huma.Response{
		Description: "The request was refused",
		Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: problemSchema}},
	}
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
			Description: "Sign in with a Proxmox VE account and see what that account may see. Problems carry a stable `code`."},
		Paths: paths,
		Components: &huma.Components{
			Schemas: schemas,
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"session": {Type: "apiKey", In: "cookie", Name: "lxc-session", Description: "Set by a sign-in"},
			},
		},
	}
	text, err := json.Marshal(doc)
	if err != nil {
		panic("the OpenAPI document can't be written: " + err.Error())
	}
	return text
}

func operation(route web.Route, schemas huma.Registry, problem *huma.Response) *huma.Operation {
	op := &huma.Operation{
		OperationID: route.Doc.ID, Summary: route.Doc.Summary,
		Responses: map[string]*huma.Response{
			"200": {Description: "OK", Content: map[string]*huma.MediaType{
				cmp.Or(route.Doc.Media, "application/json"): {Schema: schemas.Schema(route.Doc.Out, true, "")},
			}},
			"default": problem,
		},
	}
	if len(route.Doc.Codes) > 0 {
		op.Description = "Problem codes of its own: " + strings.Join(route.Doc.Codes, ", ") + "."
	}
	if route.Access() == web.Authenticated {
		op.Security = []map[string][]string{{"session": {}}}
	}
	for name, f := range web.PathFields(route.Doc.In) {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: name, In: "path", Required: true, Description: f.Tag.Get("doc"), Schema: &huma.Schema{Type: huma.TypeString},
		})
	}
	if route.Method == http.MethodGet {
		// What is asked for in the query is no schema of the document's own, so its name may be anything: most are a Query.
		schemas = huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	}
	in := schemas.Schema(route.Doc.In, false, "")
	if len(in.Properties) == 0 {
		return op
	}
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
	op.Responses[strconv.Itoa(http.StatusUnprocessableEntity)] = problem
	return op
}
