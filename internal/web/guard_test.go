package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzSessionCookie checks that a Cookie header, whatever is in it, gives one token or none, and that a header in which the
// session's name stands twice gives none.
func FuzzSessionCookie(f *testing.F) {
	token := strings.Repeat("A", 43)
	for _, header := range []string{
		"lxc-session=" + token, "a=b; lxc-session=" + token + "; c=d", "lxc-session=a; lxc-session=b", "lxc-session=\"" + token + "\"",
		"lxc-session", "lxc-session=", "LXC-SESSION=x", " lxc-session =x", "lxc-session=\x00", ";;;=;", "lxc-session=a,lxc-session=b", "__Host-lxc-session=x",
	} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest("GET", "http://berth.lan/", nil)
		r.Header["Cookie"] = []string{header}
		if got, ok := sessionToken(r); ok && !strings.Contains(header, got) || !ok && got != "" {
			t.Fatalf("%q gives %q, %t", header, got, ok)
		}
		r.Header["Cookie"] = []string{header, "lxc-session=" + token}
		if got, ok := sessionToken(r); ok && got != token {
			t.Fatalf("%q beside a good one gives %q", header, got)
		}
		r.Header["Cookie"] = []string{"lxc-session=" + token, header, "lxc-session=" + token}
		if got, ok := sessionToken(r); ok {
			t.Fatalf("two cookies give %q", got)
		}
	})
}

func TestDomainsAbove(t *testing.T) {
	for host, want := range map[string]string{
		"berth.home.example.org:8080": "berth.home.example.org home.example.org example.org",
		"localhost":                   "", "192.0.2.1:80": "", "[2001:db8::1]:80": "", "tower": "", "": "",
		"a.b.c.d.e.f": "a.b.c.d.e.f b.c.d.e.f c.d.e.f d.e.f",
	} {
		if got := strings.Join(domainsAbove(host), " "); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

func TestAbusePlantedCookieAtADeeperPath(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/", "": "/", "/berth/": "/ /berth /berth/",
		"/berth/settings/sessions": "/ /berth /berth/ /berth/settings /berth/settings/ /berth/settings/sessions",
		"/a/b/c/d/e/f":             "/ /a /a/ /a/b /a/b/ /a/b/c /a/b/c/ /a/b/c/d /a/b/c/d/",
	} {
		if got := strings.Join(cookiePaths(path), " "); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// A browser honours the header on connections that nobody listens to alone, and puts an error in its console elsewhere.
func TestOpenerPolicyWhereItIsHonoured(t *testing.T) {
	for _, c := range []struct {
		encrypted bool
		host      string
		want      string
	}{
		{true, "berth.example.org", "same-origin"}, {true, "192.0.2.1:8443", "same-origin"},
		{false, "localhost:8080", "same-origin"}, {false, "127.0.0.1:8080", "same-origin"}, {false, "[::1]", "same-origin"},
		{false, "berth.lan", ""}, {false, "192.0.2.1:8080", ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		secureHeaders(http.NotFoundHandler()).ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), arrivalKey{}, arrival{encrypted: c.encrypted})))
		if got := w.Header().Get("Cross-Origin-Opener-Policy"); got != c.want {
			t.Errorf("%s, encrypted %v: %q, want %q", c.host, c.encrypted, got, c.want)
		}
	}
}
