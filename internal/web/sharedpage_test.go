package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/a-h/templ"

	"berth/internal/container"
	"berth/internal/session"
	"berth/internal/web/view"
)

func textPage(text string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

func unpacked(t *testing.T, packed []byte) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Whatever makes a difference to what is shown, or to who may see it, makes another page.
func TestPagesAreSharedByThoseWhoSeeTheSame(t *testing.T) {
	alice := session.Caller{Identity: session.Identity{Datacenter: "one", UserID: "root@pam"}, Session: session.Session{Hash: session.Hash{1}}}
	elsewhere := alice
	elsewhere.Identity.Datacenter = "two"
	byToken := session.Caller{Identity: alice.Identity, Token: "t"}
	shell := view.Shell{Title: "Containers", UserID: "root@pam", Host: "pve:8006", Settings: settingsPages}
	owner, insecure, host := shell, shell, shell
	owner.Settings, insecure.Insecure, host.Host = allSettingsPages, true, "other:8006"
	query := container.Query{Limit: "60"}
	search := query
	search.Q = "grafana"
	all := map[pageOf]string{}
	for name, of := range map[string]pageOf{
		"plain":              newPageOf(alice, shell, query, "v.1", view.Layout{}),
		"other datacenter":   newPageOf(elsewhere, shell, query, "v.1", view.Layout{}),
		"access token":       newPageOf(byToken, shell, query, "v.1", view.Layout{}),
		"owner":              newPageOf(alice, owner, query, "v.1", view.Layout{}),
		"in the clear":       newPageOf(alice, insecure, query, "v.1", view.Layout{}),
		"another login host": newPageOf(alice, host, query, "v.1", view.Layout{}),
		"search":             newPageOf(alice, shell, search, "v.1", view.Layout{}),
		"next version":       newPageOf(alice, shell, query, "v.2", view.Layout{}),
		"cards":              newPageOf(alice, shell, query, "v.1", view.Layout{Cards: true}),
		"no columns":         newPageOf(alice, shell, query, "v.1", view.Layout{Columns: []string{}}),
		"columns":            newPageOf(alice, shell, query, "v.1", view.Layout{Columns: []string{"cpu"}}),
	} {
		if other, same := all[of]; same {
			t.Errorf("%s and %s share a page", name, other)
		}
		all[of] = name
	}
	another := alice
	another.Session.Hash = session.Hash{2}
	if newPageOf(alice, shell, query, "v.1", view.Layout{}) != newPageOf(another, shell, query, "v.1", view.Layout{}) {
		t.Error("two sessions of one identity share no page")
	}
}

// A page is made once for all who ask within a second, and no longer than that.
func TestSharedPages(t *testing.T) {
	var pages sharedPages
	var made atomic.Int64
	build := func(context.Context) templ.Component { return textPage(fmt.Sprint("page ", made.Add(1))) }
	now := time.Unix(1000, 0)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			packed, err := pages.page(t.Context(), pageOf{version: "a"}, now, build)
			if err != nil || unpacked(t, packed) != "page 1" {
				t.Errorf("got %v, %v", packed, err)
			}
		})
	}
	wg.Wait()
	for _, c := range []struct {
		version string
		after   time.Duration
		want    string
	}{
		{"a", sharedFor - 1, "page 1"}, {"b", sharedFor - 1, "page 2"}, {"a", sharedFor, "page 3"}, {"a", 0, "page 4"},
	} {
		packed, err := pages.page(t.Context(), pageOf{version: c.version}, now.Add(c.after), build)
		if err != nil {
			t.Fatal(err)
		}
		if got := unpacked(t, packed); got != c.want {
			t.Errorf("version %s after %v: %s, want %s", c.version, c.after, got, c.want)
		}
	}
	for i := range 10 * maxSharedPages {
		if _, err := pages.page(t.Context(), pageOf{version: fmt.Sprint(i)}, now, build); err != nil {
			t.Fatal(err)
		}
	}
	if len(pages.pages) > maxSharedPages {
		t.Errorf("%d pages are kept", len(pages.pages))
	}
}

// A page that could not be built is tried again by the next who asks.
func TestSharedPageThatFails(t *testing.T) {
	var pages sharedPages
	broken := errors.New("broken")
	failing := func(context.Context) templ.Component {
		return templ.ComponentFunc(func(context.Context, io.Writer) error { return broken })
	}
	now := time.Unix(1000, 0)
	if _, err := pages.page(t.Context(), pageOf{}, now, failing); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	packed, err := pages.page(t.Context(), pageOf{}, now, func(context.Context) templ.Component { return textPage("whole") })
	if err != nil || unpacked(t, packed) != "whole" {
		t.Errorf("got %v, %v", packed, err)
	}
}

// A page that panics while it is built leaves nothing behind that others would be sent.
func TestSharedPageThatPanics(t *testing.T) {
	var pages sharedPages
	now := time.Unix(1000, 0)
	func() {
		defer func() { _ = recover() }()
		_, _ = pages.page(t.Context(), pageOf{}, now, func(context.Context) templ.Component { panic("oh") })
	}()
	packed, err := pages.page(t.Context(), pageOf{}, now, func(context.Context) templ.Component { return textPage("whole") })
	if err != nil || len(packed) == 0 || unpacked(t, packed) != "whole" {
		t.Errorf("got %v, %v", packed, err)
	}
}

// Pages go out packed to those who take that, and say so to caches; a page that fails is an error, not half a page.
func TestPackedPages(t *testing.T) {
	s := NewSite(Options{Now: time.Now})
	for accepts, packed := range map[string]bool{"": false, "gzip, deflate, br": true, "gzip;q=0": false, "br": false, "*": true} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept-Encoding", accepts)
		w := httptest.NewRecorder()
		s.render(w, r, http.StatusTeapot, textPage("hello"))
		got := w.Body.String()
		if packed {
			got = unpacked(t, w.Body.Bytes())
		}
		if got != "hello" || w.Code != http.StatusTeapot || (w.Header().Get("Content-Encoding") == "gzip") != packed || w.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: %d %v %q", accepts, w.Code, w.Header(), got)
		}
		w = httptest.NewRecorder()
		s.render(w, r, http.StatusOK, templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
			_, _ = io.WriteString(w, "half")
			return errors.New("broken")
		}))
		if w.Code != http.StatusInternalServerError || bytes.Contains(w.Body.Bytes(), []byte("half")) || w.Header().Get("Content-Encoding") != "" {
			t.Errorf("Accept-Encoding %q, a page that fails: %d %v %q", accepts, w.Code, w.Header(), w.Body)
		}
	}
}
