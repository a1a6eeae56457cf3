package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"sync"

	"github.com/a-h/templ"

	"berth/internal/fault"
	"berth/internal/web/static"
)

// maxHeld is how much of a page waits before its first byte is sent.
const maxHeld = 64 << 10

// render answers with a page. Clients that take gzip, which all browsers do, get it packed: a page is built whole before its
// first byte is sent, so that an error can still become an answer, and it is small enough to be kept for whoever reads
// slowly. For others that holds for what is shorter than maxHeld, and longer pages go on their way as they are built.
func (s *Site) render(w http.ResponseWriter, r *http.Request, code int, page templ.Component) {
	ctx := context.WithoutCancel(r.Context())
	if takesGzip(r) {
		packed, err := pack(ctx, page)
		if err != nil {
			s.notRendered(w, r, err)
			return
		}
		sendPacked(w, code, packed)
		return
	}
	out := &pageWriter{w: w, code: code}
	err := page.Render(ctx, out)
	if err == nil {
		err = out.send()
	}
	if err == nil || out.gone {
		return
	}
	if out.begun {
		id := fault.NewID()
		slog.ErrorContext(r.Context(), "page broken off", "error_id", id, "path", r.URL.Path, "cause", err)
		panic(http.ErrAbortHandler) // half a page must not look like a whole one
	}
	s.notRendered(w, r, err)
}

// notRendered answers in place of a page that could not be built.
func (s *Site) notRendered(w http.ResponseWriter, r *http.Request, err error) {
	id := fault.NewID()
	slog.ErrorContext(r.Context(), "page not rendered", "error_id", id, "path", r.URL.Path, "cause", err)
	http.Error(w, "Something went wrong. Error id "+id, http.StatusInternalServerError)
}

// packers are what packs pages. The fastest level takes a third of the time of the default one, for a page that is a tenth
// longer.
var packers = sync.Pool{New: func() any {
	packer, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // there is such a level
	}
	return packer
}}

// pack builds a page and packs it. A packer is large, so it is given back before anything is sent.
func pack(ctx context.Context, page templ.Component) ([]byte, error) {
	var packed bytes.Buffer
	packer := packers.Get().(*gzip.Writer)
	defer packers.Put(packer)
	packer.Reset(&packed)
	if err := page.Render(ctx, packer); err != nil {
		return nil, err
	}
	if err := packer.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// sendPacked answers with a page that was packed.
func sendPacked(w http.ResponseWriter, code int, packed []byte) {
	h := w.Header()
	h.Set("Content-Type", pageType)
	h.Set("Content-Encoding", "gzip")
	h.Set("Content-Length", strconv.Itoa(len(packed)))
	h.Add("Vary", "Accept-Encoding")
	w.WriteHeader(code)
	_, _ = w.Write(packed) // the client may have gone
}

const pageType = "text/html; charset=utf-8"

// takesGzip tells whether a client takes a page packed.
func takesGzip(r *http.Request) bool { return static.TakesGzip(r.Header["Accept-Encoding"]) }

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
	p.w.Header().Set("Content-Type", pageType)
	p.w.Header().Add("Vary", "Accept-Encoding")
	p.w.WriteHeader(p.code)
	_, err := p.held.WriteTo(p.w)
	p.gone = err != nil
	p.held = bytes.Buffer{}
	return err
}
