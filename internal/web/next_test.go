package web

import (
	"net/url"
	"strings"
	"testing"
)

func FuzzSafeNext(f *testing.F) {
	for _, seed := range []string{"/", "/?q=a", "//evil", `/\evil`, "https:evil", "/%2F%2Fevil", "/%5cevil", "/%252f/evil", "/a/../b", "/\t/evil", "/a#b", "/.//evil", "/login"} {
		f.Add(seed)
	}
	site, err := url.Parse("https://berth.example.org/login")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, next string) {
		got := safeNext(next)
		if got == "" || got[0] != '/' || strings.HasPrefix(got, "//") || strings.ContainsAny(got, "\\\r\n\t\x00") {
			t.Fatalf("%q became %q", next, got)
		}
		u, err := site.Parse(got)
		if err != nil || u.Host != site.Host || u.Scheme != site.Scheme {
			t.Fatalf("%q became %q, which leads to %v, %v", next, got, u, err)
		}
		if again := safeNext(got); again != got {
			t.Fatalf("%q became %q, and that %q", next, got, again)
		}
	})
}
