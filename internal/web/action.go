package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"

	"berth/internal/fault"
	"berth/internal/session"
)

// PublicAction is one thing that anybody can ask the server to do. It is declared once, by a feature, and serves form and
// JSON alike.
type PublicAction[In, Out any] func(ctx context.Context, in In) (Out, error)

// AuthenticatedAction is one thing that a signed-in caller can ask the server to do. Its caller is a parameter, so that it
// can't run without one.
type AuthenticatedAction[In, Out any] func(ctx context.Context, caller session.Caller, in In) (Out, error)

// validator is an input that can tell what is wrong with it, field by field.
type validator interface{ Validate() error }

// maxBody bounds the body of every request.
const maxBody = 64 << 10

// DecodeForm reads an input from a form or, for a GET, from the query, and validates it. The input comes back as far as it
// could be read, so that a form can be shown again as it was typed. Fields are named as in JSON. What a field's tag "path"
// names comes from the path.
func DecodeForm[In any](r *http.Request) (In, error) {
	var in In
	fromPath(r, &in)
	names := fieldNames(reflect.TypeFor[In]())
	var values url.Values
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		if err := r.ParseForm(); err != nil {
			return in, unreadable(err)
		}
		values = r.PostForm
	case len(names) > 0 && r.URL.RawQuery != "":
		values = r.URL.Query()
	}
	// A form becomes the JSON object that a program would have sent, so that there is one way to read an input.
	object := make(map[string]string, len(values))
	for _, name := range names {
		if v, ok := values[name]; ok && len(v) > 0 {
			object[name] = v[0]
		}
	}
	if len(object) == 0 {
		return in, validate(in)
	}
	text, err := json.Marshal(object)
	if err != nil {
		return in, err
	}
	if err := decode(bytes.NewReader(text), &in); err != nil {
		return in, err
	}
	return in, validate(in)
}

// DecodeJSON reads an input from a JSON body and validates it. An empty body is an empty object. What a field's tag "path"
// names comes from the path.
func DecodeJSON[In any](r *http.Request) (In, error) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return DecodeForm[In](r)
	}
	var in In
	fromPath(r, &in)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return in, unreadable(err)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return in, validate(in)
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return in, &fault.Error{Kind: fault.Unsupported, Code: "unsupported_media_type", Message: "The body must be JSON, with Content-Type: application/json."}
	}
	if err := decode(bytes.NewReader(body), &in); err != nil {
		return in, err
	}
	return in, validate(in)
}

func validate(in any) error {
	if v, ok := in.(validator); ok {
		return v.Validate()
	}
	return nil
}

func unreadable(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &fault.Error{Kind: fault.TooLarge, Code: "body_too_large", Message: "The request is too large: at most 64 KiB."}
	}
	var escape url.EscapeError
	if errors.As(err, &escape) {
		return malformed("The form is not correctly encoded.")
	}
	return malformed("The request could not be read.")
}

func malformed(message string) error {
	return &fault.Error{Kind: fault.Malformed, Code: "malformed_request", Message: message}
}

func decode(body io.Reader, in any) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	err := d.Decode(in)
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil:
		if _, err := d.Token(); err != io.EOF {
			return malformed("The body must be one JSON object and nothing else.")
		}
		return nil
	case errors.As(err, &wrongType) && wrongType.Field != "":
		return fault.InvalidInput(map[string]string{wrongType.Field: "Must be a " + jsonType(wrongType.Type)})
	case errors.As(err, &wrongType):
		return malformed("The body must be a JSON object.")
	}
	// The decoder has no type for this error, only its text.
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fault.InvalidInput(map[string]string{strings.Trim(name, `"`): "There is no such field"})
	}
	return malformed("The body is not valid JSON.")
}

func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Slice, reflect.Array:
		return "list"
	case reflect.Struct, reflect.Map:
		return "object"
	}
	return "number"
}

// inputs remembers what was found out of the types of inputs: every request asks for it.
var inputs sync.Map // of reflect.Type to inputFields

// inputFields are the fields of an input by where they come from.
type inputFields struct {
	named []string
	path  map[string]reflect.StructField
}

func fieldsOf(t reflect.Type) inputFields {
	if found, ok := inputs.Load(t); ok {
		return found.(inputFields)
	}
	found := inputFields{named: findNames(t), path: findPathFields(t)}
	inputs.Store(t, found)
	return found
}

// PathFields are the fields of an input that come from the path, by the name of their wildcard, those of the structs that it
// embeds among them.
func PathFields(t reflect.Type) map[string]reflect.StructField { return fieldsOf(t).path }

// fieldNames are the JSON names of an input's fields, likewise.
func fieldNames(t reflect.Type) []string { return fieldsOf(t).named }

func findPathFields(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		if name := f.Tag.Get("path"); name != "" {
			fields[name] = f
		}
	}
	return fields
}

func fromPath[In any](r *http.Request, in *In) {
	for name, f := range PathFields(reflect.TypeFor[In]()) {
		reflect.ValueOf(in).Elem().FieldByIndex(f.Index).SetString(r.PathValue(name))
	}
}

func findNames(t reflect.Type) []string {
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}
