package web

import (
	"net/http"
	"net/url"
	"strings"
)

const maxNext = 2048

// safeNext is where a sign-in may lead to: a page of this site, or "/" for everything else. The text comes from a link
// that anybody can have made, so what a browser could read as another site does not pass, in any spelling.
func safeNext(next string) string {
	const home = "/"
	if next == "" || len(next) > maxNext || next[0] != '/' {
		return home
	}
	// Browsers drop tabs and line ends and read a backslash as a slash.
	for i := range len(next) {
		if next[i] <= ' ' || next[i] >= 0x7f || next[i] == '\\' {
			return home
		}
	}
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Fragment != "" {
		return home
	}
	for path := u.Path; ; {
		if strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t\x00") {
			return home
		}
		// It must not climb out of the base path, to what else the site has.
		for segment := range strings.SplitSeq(path, "/") {
			if segment == "." || segment == ".." {
				return home
			}
		}
		// Something on the way may decode once more than it should.
		decoded, err := url.PathUnescape(path)
		if err != nil {
			return home
		}
		if decoded == path {
			break
		}
		path = decoded
	}
	for _, elsewhere := range []string{"/login", "/logout", "/api", "/static"} {
		if u.Path == elsewhere || strings.HasPrefix(u.Path, elsewhere+"/") {
			return home
		}
	}
	// Escaping can make it longer.
	if next = u.RequestURI(); len(next) > maxNext {
		return home
	}
	return next
}

// signInPath is the sign-in page that leads back to the page that was asked for; not to what a form was sent to.
func (s *Site) signInPath(r *http.Request) string {
	path := s.o.BasePath + "/login"
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		path += "?next=" + url.QueryEscape(safeNext(r.URL.RequestURI()))
	}
	return path
}
