package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/internal/web/static"
)

// logged collects what the program logs while a test runs.
func logged(t *testing.T) *bytes.Buffer {
	t.Helper()
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &log
}

// A panic before the first byte becomes a problem page; one behind it must not append a page to what was sent.
func TestPanics(t *testing.T) {
	s := NewSite(Options{Now: time.Now})
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		whole  bool
	}{
		"before anything": {func(http.ResponseWriter, *http.Request) { panic("out of order") }, true},
		"after headers were set": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			w.Header().Set("Content-Encoding", "br")
			panic("out of order")
		}, true},
		"after an informational answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			panic("out of order")
		}, true},
		"after the status": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			panic("out of order")
		}, false},
		"in the middle": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "the first half")
			panic("out of order")
		}, false},
		"after a flush": {func(w http.ResponseWriter, _ *http.Request) {
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			panic("out of order")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			log := logged(t)
			server := httptest.NewServer(s.recoverPanics(test.answer))
			resp, err := server.Client().Get(server.URL)
			var body []byte
			if err == nil {
				body, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			server.Close() // no handler writes to the log any more
			id := regexp.MustCompile(`error_id=(\S+)`).FindStringSubmatch(log.String())
			if id == nil || !strings.Contains(log.String(), "out of order") {
				t.Fatalf("the log has no cause under an id: %s", log)
			}
			if !test.whole {
				if err == nil || strings.Contains(string(body), "<html") {
					t.Errorf("the answer ends well (%v): %.200s", err, body)
				}
				return
			}
			if err != nil || resp.StatusCode != http.StatusInternalServerError || !strings.Contains(string(body), "<code>"+id[1]+"</code>") ||
				resp.Header.Get("Cache-Control") != "no-store" || strings.Contains(string(body), "out of order") {
				t.Errorf("%v, %+v: %.200s", err, resp, body)
			}
		})
	}
}

// Every error page names an id, and the log says under that id what was refused; of a path it keeps no more than it must.
func TestErrorPagesHaveAnID(t *testing.T) {
	s := NewSite(Options{Now: time.Now})
	h := s.Handler([]Route{
		PublicRoute("GET", static.Prefix, Page, asset),
		PublicRoute("POST", "/form", Page, func(http.ResponseWriter, *http.Request) error { return nil }),
		PublicRoute("GET", "/fails", Page, func(http.ResponseWriter, *http.Request) error { return errors.New("out of order") }),
	})
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/static/nothing", http.StatusNotFound},
		{"GET", "/static/" + strings.Repeat("x", 10_000), http.StatusNotFound},
		{"POST", "/form", http.StatusForbidden},
		{"GET", "/fails", http.StatusInternalServerError},
	} {
		log := logged(t)
		r := httptest.NewRequest(test.method, "http://127.0.0.1"+test.path, nil)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		id := regexp.MustCompile(`Error id <code[^>]*>([a-z0-9]{8})</code>`).FindStringSubmatch(w.Body.String())
		if w.Code != test.status || id == nil || strings.Count(log.String(), "error_id="+id[1]+" ") != 1 || log.Len() > 1000 {
			t.Errorf("%s %.20s: %d, id %q, log of %d bytes: %.300s", test.method, test.path, w.Code, id, log.Len(), log)
		}
		said := strings.Count(w.Body.String(), "finds the cause in its log, under this id") == 1
		if strings.Count(w.Body.String(), "Something went wrong</") > 1 || said != (test.status == http.StatusInternalServerError) {
			t.Errorf("%s: %s", test.path, w.Body)
		}
	}
}

// The page for an unknown host name asks for nothing under that name: its style sheet is in it, and allowed by its hash.
func TestUnknownHostPageStandsAlone(t *testing.T) {
	s := NewSite(Options{Now: time.Now})
	r := httptest.NewRequest("GET", "/", nil)
	r.Host = `evil.example`
	w := httptest.NewRecorder()
	s.Handler(nil).ServeHTTP(w, r)
	page := w.Body.String()
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(page)
	if w.Code != http.StatusMisdirectedRequest || style == nil || !strings.Contains(page, `<bdi class="address">evil.example</bdi>`) {
		t.Fatalf("%d %s", w.Code, page)
	}
	hash := sha256.Sum256([]byte(style[1]))
	policy := w.Header().Get("Content-Security-Policy")
	if want := "; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'"; !strings.HasPrefix(policy, contentPolicy) || !strings.HasSuffix(policy, want) {
		t.Errorf("policy %q, want %q and %q", policy, contentPolicy, want)
	}
	if found := regexp.MustCompile(`(?i)<link|<script|\s(?:src|href)=|url\(|@import`).FindString(page); found != "" {
		t.Errorf("the page asks for more: %q", found)
	}
	for _, class := range []string{".quayside", ".pier", ".card", ".problem"} {
		if !strings.Contains(style[1], class) {
			t.Errorf("the style sheet knows no %s", class)
		}
	}
}

// What is not there below /static/ is a page like any other that is not there; no browser keeps that.
func TestMissingAsset(t *testing.T) {
	s := NewSite(Options{Now: time.Now})
	h := s.Handler([]Route{PublicRoute("GET", static.Prefix, Page, asset)})
	for path, want := range map[string]int{
		static.Path("app.css"): http.StatusOK, "/static/": http.StatusNotFound, "/static/app.css": http.StatusNotFound, "/static/app-000000000000.css": http.StatusNotFound,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1"+path, nil))
		missing := want == http.StatusNotFound
		if w.Code != want || missing != strings.Contains(w.Body.String(), `<h1 id="problem-title">Nothing here</h1>`) ||
			missing != (w.Header().Get("Cache-Control") == "no-store") {
			t.Errorf("%s: %d %q %.200s", path, w.Code, w.Header(), w.Body)
		}
	}
}
