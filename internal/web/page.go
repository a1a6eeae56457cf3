package web

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"

	"github.com/a-h/templ"

	"berth/internal/fault"
)

// maxHeld is how much of a page waits before its first byte is sent.
const maxHeld = 64 << 10

// render answers with a page. What is shorter than maxHeld is built whole before its first byte is sent, so that an error
// can still become an answer. Longer pages go on their way as they are built: whoever reads slowly holds no copy of them in
// memory.
func (s *Site) render(w http.ResponseWriter, r *http.Request, code int, page templ.Component) {
	out := &pageWriter{w: w, code: code}
	err := page.Render(context.WithoutCancel(r.Context()), out)
	if err == nil {
		err = out.send()
	}
	if err == nil || out.gone {
		return
	}
	id := fault.NewID()
	slog.ErrorContext(r.Context(), "page not rendered", "error_id", id, "path", r.URL.Path, "cause", err)
	if out.begun {
		panic(http.ErrAbortHandler) // half a page must not look like a whole one
	}
	http.Error(w, "Something went wrong. Error id "+id, http.StatusInternalServerError)
}

// pageWriter holds the beginning of a page back.
type pageWriter struct {
	w     http.ResponseWriter
	code  int
	held  bytes.Buffer
	begun bool
	gone  bool // the client
}

func (p *pageWriter) Write(text []byte) (int, error) {
	if !p.begun && p.held.Len()+len(text) <= maxHeld {
		return p.held.Write(text)
	}
	if err := p.send(); err != nil {
		return 0, err
	}
	n, err := p.w.Write(text)
	p.gone = p.gone || err != nil
	return n, err
}

// send sends what is held, and the head of the answer before it.
func (p *pageWriter) send() error {
	if p.begun {
		return nil
	}
	p.begun = true
	p.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	p.w.WriteHeader(p.code)
	_, err := p.held.WriteTo(p.w)
	p.gone = err != nil
	p.held = bytes.Buffer{}
	return err
}
