package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/a-h/templ"
)

// A page is sent as it is built, so that whoever reads slowly, a thousand times at once, holds no whole page in memory.
func TestAbuseSlowReaderHoldsNoPage(t *testing.T) {
	s := &Site{}
	line := strings.Repeat("x", 1023) + "\n"
	lines := func(n int, each func(), end error) templ.Component {
		return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
			for range n {
				if _, err := io.WriteString(w, line); err != nil {
					return err
				}
				each()
			}
			return end
		})
	}
	nothing := func() {}
	failed := errors.New("failed")
	r := httptest.NewRequest("GET", "/", nil)

	w := httptest.NewRecorder()
	behind, written := 0, 0
	s.render(w, r, http.StatusTeapot, lines(1000, func() { written += len(line); behind = max(behind, written-w.Body.Len()) }, nil))
	if w.Code != http.StatusTeapot || w.Body.String() != strings.Repeat(line, 1000) || behind > maxHeld || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("status %d, %d bytes, of which %d were held", w.Code, w.Body.Len(), behind)
	}

	w = httptest.NewRecorder()
	s.render(w, r, http.StatusOK, lines(50, nothing, failed))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), line[:20]) {
		t.Errorf("a short page that fails: status %d, %.100s", w.Code, w.Body)
	}

	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler {
				t.Errorf("a long page that fails: %v, want that the connection is cut", p)
			}
		}()
		s.render(httptest.NewRecorder(), r, http.StatusOK, lines(1000, nothing, failed))
	}()

	built := 0
	s.render(&hungUp{ResponseRecorder: httptest.NewRecorder()}, r, http.StatusOK, lines(1000, func() { built++ }, nil))
	if built > 2*maxHeld/len(line) {
		t.Errorf("%d lines were built for a client that has gone", built)
	}
}

// hungUp is a client that has gone.
type hungUp struct{ *httptest.ResponseRecorder }

func (*hungUp) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
