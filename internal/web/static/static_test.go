package static

import (
	"bytes"
	stdgzip "compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	brotlidec "github.com/andybalholm/brotli"
)

func get(t *testing.T, method, target, acceptEncoding string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	if acceptEncoding != "" {
		r.Header.Set("Accept-Encoding", acceptEncoding)
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

func TestHandlerServesEveryAssetInEveryEncoding(t *testing.T) {
	hashed := regexp.MustCompile(`^/static/[a-z-]+-[0-9a-f]{12}\.[a-z0-9]+$`)
	for name := range manifest {
		target := Path(name)
		if !hashed.MatchString(target) {
			t.Errorf("Path(%q) = %q, which holds no hash", name, target)
		}
		plain, err := io.ReadAll(get(t, "GET", target, "").Body)
		if err != nil || len(plain) == 0 {
			t.Fatalf("%s: %d bytes, %v", target, len(plain), err)
		}
		for _, coding := range []string{identity, brotli, gzip} {
			res := get(t, "GET", target, coding)
			body, err := io.ReadAll(decoded(t, res))
			if err != nil || !bytes.Equal(body, plain) {
				t.Errorf("%s as %s decodes to something else (%v)", target, coding, err)
			}
			if got := res.Header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
				t.Errorf("%s: Cache-Control %q", target, got)
			}
			if got := res.Header.Get("Content-Type"); got != contentTypes[path.Ext(target)] {
				t.Errorf("%s: Content-Type %q", target, got)
			}
			if path.Ext(target) == ".woff2" {
				continue
			}
			if got := res.Header.Get("Vary"); got != "Accept-Encoding" {
				t.Errorf("%s: Vary %q", target, got)
			}
			if got, want := res.Header.Get("Content-Encoding"), strings.TrimPrefix(coding, identity); got != want {
				t.Errorf("%s asked for %s: Content-Encoding %q", target, coding, got)
			}
		}
	}
}

func decoded(t *testing.T, res *http.Response) io.Reader {
	t.Helper()
	switch coding := res.Header.Get("Content-Encoding"); coding {
	case "":
		return res.Body
	case brotli:
		return brotlidec.NewReader(res.Body)
	case gzip:
		r, err := stdgzip.NewReader(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r
	default:
		t.Fatalf("unexpected Content-Encoding %q", coding)
		return nil
	}
}

func TestHandlerRefuses(t *testing.T) {
	css := Path("app.css")
	for _, target := range []string{
		"/static/", "/static", "/", "/static/app.css", "/static/manifest.json", "/static/LICENSES.txt",
		css + ".br", css + "/", "/other/" + path.Base(css), "/static/../static.go", "/static/dist/" + path.Base(css),
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = target
		w := httptest.NewRecorder()
		Handler().ServeHTTP(w, r)
		if w.Code != http.StatusNotFound {
			t.Errorf("GET %s: %d", target, w.Code)
		}
		if got := w.Header().Get("Cache-Control"); strings.Contains(got, "immutable") {
			t.Errorf("GET %s: a 404 is cached for good", target)
		}
	}
	if res := get(t, "POST", css, ""); res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") == "" {
		t.Errorf("POST: %d, Allow %q", res.StatusCode, res.Header.Get("Allow"))
	}
}

func TestHandlerHead(t *testing.T) {
	res := get(t, "HEAD", Path("app.js"), "br")
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK || len(body) != 0 || res.ContentLength <= 0 {
		t.Errorf("HEAD: %d, %d bytes, Content-Length %d", res.StatusCode, len(body), res.ContentLength)
	}
}

func TestPathOfUnknownAsset(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a misspelt asset went unnoticed")
		}
	}()
	Path("misspelt.css")
}

func TestDistHoldsNothingUnserved(t *testing.T) {
	entries, err := fs.ReadDir(embedded, "dist")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := strings.TrimSuffix(strings.TrimSuffix(entry.Name(), ".br"), ".gz")
		if _, ok := assets[name]; !ok && name != "manifest.json" && name != "LICENSES.txt" {
			t.Errorf("dist/%s is left over from an earlier build", entry.Name())
		}
	}
}

func TestLicenses(t *testing.T) {
	for _, of := range []string{"htmx.org", "SIL Open Font License", "instrument-sans", "red-hat-mono"} {
		if !strings.Contains(strings.ToLower(Licenses()), strings.ToLower(of)) {
			t.Errorf("LICENSES.txt says nothing of %s", of)
		}
	}
}

func TestPreferred(t *testing.T) {
	for _, c := range []struct{ header, want string }{
		{"", identity},
		{"gzip, deflate, br, zstd", brotli},
		{"gzip, deflate", gzip},
		{"x-gzip", gzip},
		{"GZIP", gzip},
		{"deflate, zstd", identity},
		{"br;q=0.5, gzip;q=0.8", gzip},
		{"br;q=0.8, gzip;q=0.8", brotli},
		{"br; q=0, gzip; q=0", identity},
		{"br;q=0, *", gzip},
		{"*", brotli},
		{"*;q=0", identity},
		{"identity;q=1, gzip;q=0.5", identity},
		{"identity;q=0.5, gzip;q=1", gzip},
		{"identity;q=0, gzip;q=0.1", gzip},
		{"br;q=nonsense, gzip", gzip},
		{"br;q=2, gzip", gzip},
		{"br;q=NaN", identity},
		{";;;,,,=", identity},
	} {
		if got := preferred([]string{c.header}); got != c.want {
			t.Errorf("preferred(%q) = %q, want %q", c.header, got, c.want)
		}
	}
	if got := preferred([]string{"gzip", "br"}); got != brotli {
		t.Errorf("two header lines: %q", got)
	}
}

func FuzzPreferred(f *testing.F) {
	for _, seed := range []string{"", "gzip, br", "br;q=0.5, *;q=0", "identity;q=1", ";q=,=;,", "br;q=1e309"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		got := preferred([]string{header})
		if got != identity && !strings.Contains(header, "*") && !strings.Contains(strings.ToLower(header), got) {
			t.Errorf("preferred(%q) = %q, which was not offered", header, got)
		}
	})
}
