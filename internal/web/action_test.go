package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestInputsFromPaths: what stands in the path is a part of the input, whatever the rest of it comes from.
func TestInputsFromPaths(t *testing.T) {
	type Choice struct {
		ID string `json:"-" path:"id"`
	}
	type input struct {
		Choice
		Name string `json:"name"`
	}
	for _, c := range []struct{ method, target, kind, body string }{
		{"GET", "/things/7?name=x", "", ""},
		{"POST", "/things/7", "application/x-www-form-urlencoded", "name=x"},
		{"PATCH", "/things/7", "application/json", `{"name":"x"}`},
	} {
		var got input
		var err error
		mux := http.NewServeMux()
		mux.HandleFunc(c.method+" /things/{id}", func(_ http.ResponseWriter, r *http.Request) {
			if c.kind == "application/x-www-form-urlencoded" {
				got, err = DecodeForm[input](r)
			} else {
				got, err = DecodeJSON[input](r)
			}
		})
		r := httptest.NewRequest(c.method, c.target, strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		mux.ServeHTTP(httptest.NewRecorder(), r)
		if err != nil || got != (input{Choice{"7"}, "x"}) {
			t.Errorf("%s: %+v, %v", c.method, got, err)
		}
	}
}
