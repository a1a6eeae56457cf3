package web

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/fault"
)

// Each request has an id of its own, which what is done for it knows.
func TestRequestID(t *testing.T) {
	s := NewSite(Options{Now: time.Now})
	var known []string
	h := s.Handler([]Route{PublicRoute("GET", "/probe", API, func(_ http.ResponseWriter, r *http.Request) error {
		known = append(known, fault.RequestID(r.Context()))
		return nil
	})})
	var told []string
	for range 3 {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "http://127.0.0.1/probe", nil)
		r.Header.Set("X-Request-Id", "chosen by a stranger")
		h.ServeHTTP(w, r)
		told = append(told, w.Header().Get("X-Request-Id"))
	}
	if !slices.Equal(told, known) || len(told[0]) < 8 || told[0] == told[1] || strings.Contains(told[0], " ") {
		t.Errorf("told %q, known %q", told, known)
	}
}

// Who counts requests is told of each once, by its route and never by what was asked for.
func TestAnswered(t *testing.T) {
	var told []Answered
	s := NewSite(Options{Now: time.Now, BasePath: "/berth", Answered: func(_ context.Context, a Answered) {
		if a.Took < 0 || a.Took > time.Minute {
			t.Errorf("took %s", a.Took)
		}
		a.Took = 0
		told = append(told, a)
	}})
	answer := func(path string, h Handler) Route { return PublicRoute("GET", path, API, h) }
	gone, leave := context.WithCancel(t.Context())
	h := s.Handler([]Route{
		answer("/fine", func(http.ResponseWriter, *http.Request) error { return nil }),
		answer("/of/{what}", func(http.ResponseWriter, *http.Request) error { return errors.New("out of order") }),
		answer("/panics", func(http.ResponseWriter, *http.Request) error { panic("out of order") }),
		answer("/half", func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusOK)
			panic("out of order")
		}),
		answer("/gone", func(http.ResponseWriter, *http.Request) error {
			leave()
			return context.Canceled
		}),
		answer("/stream", func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", eventStreamType)
			w.WriteHeader(http.StatusOK)
			return nil
		}),
	})
	for _, test := range []struct {
		method, target string
		want           Answered
	}{
		{"GET", "/berth/fine?q=1", Answered{Method: "GET", Path: "/fine", Status: 200}},
		{"HEAD", "/berth/fine", Answered{Method: "GET", Path: "/fine", Status: 200}},
		{"GET", "/berth/of/somebody", Answered{Method: "GET", Path: "/of/{what}", Status: 500}},
		{"GET", "/berth/panics", Answered{Method: "GET", Path: "/panics", Status: 500}},
		{"GET", "/berth/half", Answered{Method: "GET", Path: "/half"}},
		{"GET", "/berth/gone", Answered{Method: "GET", Path: "/gone"}},
		{"GET", "/berth/stream", Answered{Method: "GET", Path: "/stream", Status: 200, Stream: true}},
		{"BREW", "/berth/no/such", Answered{Path: "/", Status: 303}},
		{"BREW", "/elsewhere", Answered{Status: 404}},
	} {
		told = nil
		func() {
			defer func() {
				if p := recover(); p != nil && p != http.ErrAbortHandler {
					panic(p)
				}
			}()
			ctx := t.Context()
			if strings.HasSuffix(test.target, "/gone") {
				ctx = gone
			}
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(test.method, "http://127.0.0.1"+test.target, nil).WithContext(ctx))
		}()
		// What failed here, and not at the client, has a cause in the log.
		failed := test.want.Status == 500 || strings.HasSuffix(test.target, "/half")
		if len(told) == 1 && (told[0].ErrorID != "") == failed {
			told[0].ErrorID = "" // which nobody knows before
		}
		if len(told) != 1 || told[0] != test.want {
			t.Errorf("%s %s: %+v, want %+v", test.method, test.target, told, test.want)
		}
	}
}
