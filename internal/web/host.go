package web

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"berth/internal/fault"
	"berth/internal/web/view"
)

// hostName is the host of a Host header or an address without its port, in the one spelling that is compared.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// knownHosts are the names that Berth answers to, besides every IP literal: what the operator names, and this machine's
// own name, whole and without its domain.
func knownHosts(o Options) map[string]bool {
	known := map[string]bool{"localhost": true}
	for _, name := range o.HostNames {
		known[hostName(name)] = true
	}
	if machine := hostName(o.MachineName); machine != "" {
		short, _, _ := strings.Cut(machine, ".")
		known[machine], known[short] = true, true
	}
	if o.PublicURL != nil {
		known[hostName(o.PublicURL.Host)] = true
	}
	delete(known, "")
	return known
}

// knowsHost tells whether Berth answers to what a request asks for. A name of somebody else's that was made to lead here
// passes every same-origin check of a browser, so nothing is served under one; an address can't be made to lead elsewhere.
func (s *Site) knowsHost(host string) bool {
	name := hostName(host)
	if s.known[name] {
		return true
	}
	a, err := netip.ParseAddr(name)
	return err == nil && a.Zone() == ""
}

// onlyKnownHosts refuses requests for names that are not Berth's, health probes among them: one rule, without a way round.
func (s *Site) onlyKnownHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.knowsHost(r.Host) {
			next.ServeHTTP(w, r)
			return
		}
		a := arrivalOf(r.Context())
		if s.misled.first(a.client, s.o.Now()) {
			slog.WarnContext(r.Context(), "request refused: it asks for a host that neither --hosts nor --public-url names",
				"host", a.host, "address", addressText(a.client))
		}
		w.Header().Set("Cache-Control", "no-store")
		f := &fault.Error{
			Kind: fault.Misdirected, Code: "unknown_host", Message: "Berth does not serve this host name.",
			Hint: "Whoever runs Berth can name it in --hosts or --public-url.",
		}
		if s.shapeOf(r) == API {
			writeProblem(w, f, "")
			return
		}
		// The page carries its style sheet along: it would be asked for under the same name.
		w.Header().Set("Content-Security-Policy", unknownHostPolicy)
		s.render(w, r, status(f.Kind), view.UnknownHostPage(a.host))
	})
}

// unknownHostPolicy allows the one style sheet that is in the page itself, by its hash.
var unknownHostPolicy = func() string {
	hash := sha256.Sum256([]byte(view.UnknownHostStyle()))
	return contentPolicy + "; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'"
}()

// shapeOf is the shape of answers to a request that no route has taken yet.
func (s *Site) shapeOf(r *http.Request) Shape {
	path := strings.TrimPrefix(r.URL.Path, s.o.BasePath)
	if strings.HasPrefix(path, "/api/") || path == "/healthz" || path == "/readyz" {
		return API
	}
	return Page
}

// belowBasePath leads from the root of the site to the base path, and serves nothing else beside it.
func (s *Site) belowBasePath(next http.Handler) http.Handler {
	base := s.o.BasePath
	if base == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		switch reading := r.Method == http.MethodGet || r.Method == http.MethodHead; {
		case strings.HasPrefix(path, base+"/"):
			next.ServeHTTP(w, r)
		case reading && (path == "/" || path == base):
			http.Redirect(w, r, base+"/", http.StatusSeeOther)
		default:
			s.answerError(w, r, s.shapeOf(r), &fault.Error{
				Kind: fault.NotFound, Code: "not_found", Message: fmt.Sprintf("Berth is below %s/ here.", base),
			})
		}
	})
}

// noticeTime is how long the same address is not reported again; maxNoticed bounds how many are remembered.
const (
	noticeTime = time.Hour
	maxNoticed = 1024
)

// notices remembers which addresses were reported of late, so that whoever sends a bad request again and again costs one
// line an hour. When it is full nobody new is reported until an hour has passed.
type notices struct {
	mu   sync.Mutex
	seen map[netip.Addr]time.Time
}

// first tells whether an address is to be reported now, and notes that it was.
func (n *notices) first(a netip.Addr, now time.Time) bool {
	// Somebody with an IPv6 network has all its addresses.
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if at, ok := n.seen[a]; ok && now.Sub(at) < noticeTime {
		return false
	}
	if _, ok := n.seen[a]; !ok && len(n.seen) >= maxNoticed {
		if n.forget(now); len(n.seen) >= maxNoticed {
			return false
		}
	}
	if n.seen == nil {
		n.seen = map[netip.Addr]time.Time{}
	}
	n.seen[a] = now
	return true
}

// recent counts the addresses that were reported within the last hour.
func (n *notices) recent(now time.Time) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(now)
	return len(n.seen)
}

func (n *notices) forget(now time.Time) {
	for a, at := range n.seen {
		if now.Sub(at) >= noticeTime {
			delete(n.seen, a)
		}
	}
}
