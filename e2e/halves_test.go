package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"berth/internal/pve/sim"
)

// enoughToPaint is how long the first half of a page is alone. A browser that can show it does so within a few frames; one
// that is told to wait for the rest shows nothing.
const enoughToPaint = 500 * time.Millisecond

// halves is a Berth behind a line on which each page arrives in two halves.
func halves(t *testing.T, b *berth) *berth {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := http.NewRequestWithContext(r.Context(), r.Method, b.url+r.URL.RequestURI(), r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		out.Header = r.Header.Clone()
		out.Header.Del("Accept-Encoding")
		answer, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			return // the browser has left the page
		}
		defer func() { _ = answer.Body.Close() }()
		for name, values := range answer.Header {
			if name != "Content-Length" {
				w.Header()[name] = values
			}
		}
		w.WriteHeader(answer.StatusCode)
		line := http.NewResponseController(w)
		if r.Header.Get("Sec-Fetch-Dest") != "document" {
			// What a page asks for arrives as it comes: the event stream has no end that could be waited for.
			_ = line.Flush()
			for piece := make([]byte, 32<<10); err == nil; {
				var n int
				n, err = answer.Body.Read(piece)
				_, _ = w.Write(piece[:n])
				_ = line.Flush()
			}
			return
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return
		}
		half := len(body) / 2
		_, _ = w.Write(body[:half]) // whoever left does not want the rest either
		_ = line.Flush()
		select {
		case <-time.After(enoughToPaint):
		case <-r.Context().Done():
		}
		_, _ = w.Write(body[half:])
	}))
	t.Cleanup(func() {
		s.CloseClientConnections() // Close alone would wait for event streams
		s.Close()
	})
	return &berth{url: s.URL}
}

// TestHalves loads pages piece by piece: what has been shown stays where it is.
func TestHalves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, path string
		signedIn   bool
	}{{"login", "/login", false}, {"containers", "/", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, host := proxmox(t, sim.Options{})
			whole := inProcess(t, &clock{}, host)
			p := open(t, whole)
			if c.signedIn {
				p.goTo("/login")
				p.signIn(host, "root", "pam")
			}
			p.base = halves(t, whole).url                                // cookies are the same on every port
			t.Cleanup(func() { p.do(chromedp.Navigate("about:blank")) }) // before the line goes down
			for _, on := range []screen{screens[0], screens[2]} {
				t.Run(on.name, func(t *testing.T) {
					p := p.in(t)
					p.do(chromedp.Navigate("about:blank"))
					p.lookAt(on)
					p.goTo(c.path) // fills the cache, so that nothing but the page is slow
					p.goTo(c.path)
					if took := eval[float64](p, `(({ responseStart, responseEnd }) => responseEnd - responseStart)(performance.getEntriesByType("navigation")[0])`); took < 400 {
						t.Errorf("the page arrived within %.0f ms, so not in halves", took)
					}
					p.untilStill()
					if shift := eval[float64](p, `window.berthTest.shift`); shift >= maxShift {
						t.Errorf("the page jumps by %.3f while it arrives, at most %.3f: %s", shift, maxShift, eval[string](p, `window.berthTest.moved.join("; ")`))
					}
				})
			}
		})
	}
}
