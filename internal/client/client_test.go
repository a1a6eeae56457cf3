package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"berth/internal/fault"
)

// at is a client of a server.
func at(t *testing.T, server *httptest.Server, o Options) *Client {
	t.Helper()
	u, err := ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	o.URL, o.UserAgent = u, "test/1"
	return New(o)
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestParseURL(t *testing.T) {
	for text, want := range map[string]string{
		"berth.lan": "https://berth.lan", " https://Berth.lan/ ": "https://berth.lan", "http://127.0.0.1:8080": "http://127.0.0.1:8080",
		"https://example.org/berth/": "https://example.org/berth", "[::1]:8443": "https://[::1]:8443",
	} {
		if u, err := ParseURL(text); err != nil || u.String() != want {
			t.Errorf("%q: %v, %v; want %s", text, u, err, want)
		}
	}
	for _, text := range []string{"", "ftp://berth.lan", "https://", "https://user:secret@berth.lan", "https://berth.lan/?a=b", "https://berth.lan/#x", "https://a b"} {
		if u, err := ParseURL(text); err == nil {
			t.Errorf("%q: %v", text, u)
		}
	}
}

// A token goes in its own header and without a cookie; below the base path, with what stands in a path escaped.
func TestRequest(t *testing.T) {
	var got *http.Request
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		fmt.Fprint(w, `{}`)
	})
	c := at(t, s, Options{Token: "berth_x", Session: "cookie"})
	c.base.Path = "/berth"
	if _, err := c.TaskLog(t.Context(), "n/1", "UPID:pve:0:0:0:aptupdate:a/b:root@pam:", 7); err != nil {
		t.Fatal(err)
	}
	if got.URL.EscapedPath() != "/berth/api/tasks/n%2F1/UPID:pve:0:0:0:aptupdate:a%2Fb:root@pam:/log" || got.URL.Query().Get("start") != "7" {
		t.Errorf("asked for %s", got.URL)
	}
	if got.Header.Get("Authorization") != "Bearer berth_x" || len(got.Cookies()) != 0 || got.UserAgent() != "test/1" {
		t.Errorf("with %v", got.Header)
	}
	c = at(t, s, Options{Session: "cookie"})
	if _, err := c.Change(t.Context(), Container{NodeID: "n1", VMID: 101}, "start", 0); err != nil {
		t.Fatal(err)
	}
	if got.Method != "POST" || got.URL.Path != "/api/containers/n1/101/start" || got.Header.Get("Cookie") != "lxc-session=cookie" || got.Header.Get("Authorization") != "" {
		t.Errorf("%s %s with %v", got.Method, got.URL, got.Header)
	}
}

func TestRefusal(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"code":"too_many_attempts","detail":"Wait \u001b[2J a moment","hint":"really","errorId":"abc","errors":[{"field":"a","message":"b"}],"fingerprint":"AB"}`)
	})
	_, err := at(t, s, Options{}).Caller(t.Context())
	f := fault.As(err)
	if f == nil || f.Kind != fault.Throttled || f.Code != "too_many_attempts" || f.Message != "Wait [2J a moment" || f.Hint != "really" ||
		f.ID != "abc" || f.RetryAfter != 3*time.Second || f.Fields["a"] != "b" || f.Details["fingerprint"] != "AB" {
		t.Errorf("%+v", err)
	}
}

// Whatever answers otherwise than a Berth does is none, and is sent nothing more.
func TestStrangeAnswers(t *testing.T) {
	asked := 0
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { asked++ })
	for name, h := range map[string]http.HandlerFunc{
		"a page":        func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"another error": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusForbidden) },
		"a redirect":    func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"a redirect that keeps the method": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusPermanentRedirect)
		},
		"too much": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, io.LimitReader(spaces{}, maxAnswer+1)) // the client may have gone
		},
		"half an answer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "{")
		},
	} {
		_, err := at(t, serve(t, h), Options{Token: "berth_x"}).Caller(t.Context())
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) || strings.Contains(err.Error(), "berth_x") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked != 0 {
		t.Errorf("%d requests went elsewhere", asked)
	}
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestListWithoutEnd(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"items":[],"next":"more"}`) })
	var unreachable *UnreachableError
	if _, err := at(t, s, Options{}).Containers(t.Context(), Query{}); !errors.As(err, &unreachable) {
		t.Errorf("%v", err)
	}
}

func TestPages(t *testing.T) {
	var cursors []string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		cursors = append(cursors, r.URL.Query().Get("cursor")+" "+r.URL.Query().Get("tag"))
		next := map[string]string{"": `,"next":"2"`, "2": `,"next":"3"`}[r.URL.Query().Get("cursor")]
		fmt.Fprintf(w, `{"items":[{"vmid":%d}],"nodes":[{"nodeId":"n1"}]%s}`, 100+len(cursors), next)
	})
	fleet, err := at(t, s, Options{}).Containers(t.Context(), Query{Tag: "a b"})
	if err != nil || len(fleet.Items) != 3 || fleet.Items[2].VMID != 103 || len(fleet.Nodes) != 1 || strings.Join(cursors, "|") != " a b|2 a b|3 a b" {
		t.Errorf("%+v, %v, asked %q", fleet, err, cursors)
	}
}

// A certificate is vouched for by the roots or is the confirmed one; with any other nothing is sent.
func TestCertificates(t *testing.T) {
	asked := 0
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		fmt.Fprint(w, `{"status":"ok"}`)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	right := Fingerprint(sha256.Sum256(s.Certificate().Raw))
	wrong := right
	wrong[0] ^= 1

	err := at(t, s, Options{}).Reach(t.Context())
	var untrusted *CertificateError
	if !errors.As(err, &untrusted) || untrusted.Pinned != nil || untrusted.Presented != right {
		t.Errorf("nobody vouches: %v", err)
	}
	err = at(t, s, Options{Pin: &wrong}).Reach(t.Context())
	if !errors.As(err, &untrusted) || untrusted.Pinned == nil || untrusted.Presented != right || !strings.Contains(err.Error(), right.String()) {
		t.Errorf("another one is known: %v", err)
	}
	if asked != 0 {
		t.Errorf("%d requests were sent", asked)
	}
	if err := at(t, s, Options{Pin: &right}).Reach(t.Context()); err != nil {
		t.Errorf("the confirmed one: %v", err)
	}
	if parsed, err := ParseFingerprint(strings.ToLower(right.String())); err != nil || parsed != right {
		t.Errorf("%v, %v", parsed, err)
	}
}

func TestGivenUp(t *testing.T) {
	held := make(chan struct{})
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-held })
	defer close(held)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := at(t, s, Options{}).Caller(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	u, _ := url.Parse("http://127.0.0.1:1")
	var unreachable *UnreachableError
	if err := New(Options{URL: u}).Reach(t.Context()); !errors.As(err, &unreachable) {
		t.Errorf("nobody listens: %v", err)
	}
}

// TestAbusePinWithoutTLS: who pins a certificate is not spoken to over a line without one.
func TestAbusePinWithoutTLS(t *testing.T) {
	asked := false
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer s.Close()
	u, err := ParseURL(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := New(Options{URL: u, Token: "a", Pin: &Fingerprint{1}})
	if err := c.Reach(t.Context()); !errors.Is(err, ErrPinWithoutTLS) {
		t.Errorf("reached: %v", err)
	}
	if _, err := c.Caller(t.Context()); !errors.Is(err, ErrPinWithoutTLS) || asked {
		t.Errorf("asked who it is: %v; a request was sent: %v", err, asked)
	}
}
