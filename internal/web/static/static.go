package static

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed dist
var embedded embed.FS

// Prefix is where Handler expects to be mounted.
const Prefix = "/static/"

// manifest maps a logical name ("app.css") to the name with the hash, assets the latter to what is served.
var manifest, assets = load(embedded)

// asset is one built file in each of its encodings.
type asset struct {
	contentType string
	identity    []byte
	br, gzip    []byte // nil when the file is not worth compressing
}

var contentTypes = map[string]string{
	".css":   "text/css; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".svg":   "image/svg+xml",
	".woff2": "font/woff2",
}

// load reads the built files. It panics on an incomplete build: the files are part of the program, so that no run of a
// binary that started once can meet it.
func load(files embed.FS) (map[string]string, map[string]asset) {
	names := make(map[string]string)
	raw, err := files.ReadFile("dist/manifest.json")
	if err == nil {
		err = json.Unmarshal(raw, &names)
	}
	if err != nil {
		panic(fmt.Sprintf("static: dist/manifest.json: %v", err))
	}
	read := func(name string) []byte {
		body, err := files.ReadFile("dist/" + name)
		if err != nil {
			return nil
		}
		return body
	}
	served := make(map[string]asset, len(names))
	for logical, hashed := range names {
		a := asset{
			contentType: contentTypes[path.Ext(hashed)],
			identity:    read(hashed),
			br:          read(hashed + ".br"),
			gzip:        read(hashed + ".gz"),
		}
		if a.identity == nil || a.contentType == "" {
			panic(fmt.Sprintf("static: %s: %s is missing or of no known type", logical, hashed))
		}
		served[hashed] = a
	}
	return names, served
}

// Path is the site path of an asset by its logical name: "app.css" gives "/static/app-<hash>.css", to be put below the
// base path. It panics on a name that the build doesn't know, since names are constants of the program.
func Path(name string) string {
	hashed, ok := manifest[name]
	if !ok {
		panic("static: no asset is called " + strconv.Quote(name))
	}
	return Prefix + hashed
}

// Licenses is the text of the licences under which the embedded files are passed on.
func Licenses() string {
	text, err := fs.ReadFile(embedded, "dist/LICENSES.txt")
	if err != nil {
		return ""
	}
	return string(text)
}

// Text is the content of an asset by its logical name, for a page that carries it along. It panics on a name that the build
// doesn't know.
func Text(name string) string { return string(assets[strings.TrimPrefix(Path(name), Prefix)].identity) }

// Has tells whether Handler serves something at a path.
func Has(path string) bool {
	name, below := strings.CutPrefix(path, Prefix)
	_, ok := assets[name]
	return below && ok
}

// Handler serves the assets at Prefix, for good: the hash in the name changes with the content. Everything else there,
// logical names and folders included, is 404.
func Handler() http.Handler {
	return http.HandlerFunc(serve)
}

func serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	if !Has(r.URL.Path) {
		http.NotFound(w, r)
		return
	}
	a := assets[strings.TrimPrefix(r.URL.Path, Prefix)]
	header := w.Header()
	header.Set("Content-Type", a.contentType)
	header.Set("Cache-Control", "public, max-age=31536000, immutable")
	header.Set("X-Content-Type-Options", "nosniff")
	body := a.identity
	if a.br != nil {
		header.Set("Vary", "Accept-Encoding")
		switch preferred(r.Header.Values("Accept-Encoding")) {
		case brotli:
			header.Set("Content-Encoding", brotli)
			body = a.br
		case gzip:
			header.Set("Content-Encoding", gzip)
			body = a.gzip
		}
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body) // the client has gone: nobody is left to tell
}
