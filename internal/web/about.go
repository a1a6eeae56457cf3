package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"berth/internal/auth"
	"berth/internal/session"
	"berth/internal/web/view"
)

// About is what Berth says of itself and of the request that asks.
type About struct {
	Version string       `json:"version"`
	Request RequestFacts `json:"request"`
	// Warnings are sentences for people; none when all is well.
	Warnings []string `json:"warnings"`
}

// RequestFacts are what Berth sees of a request, and what it makes of it.
type RequestFacts struct {
	Address   string         `json:"address" doc:"whom the request is from, as far as Berth believes"`
	Peer      string         `json:"peer" doc:"who opened the connection: the proxy, if there is one"`
	Trusted   bool           `json:"trusted" doc:"the peer is one of --trusted-proxies"`
	Protocol  string         `json:"protocol" doc:"of the client's side" enum:"http,https"`
	Host      string         `json:"host" doc:"the Host header"`
	BasePath  string         `json:"basePath" doc:"empty at the root of the site"`
	Forwarded []ForwardFacts `json:"forwarded" doc:"the forwarded headers of the request"`
}

// ForwardFacts is one forwarded header.
type ForwardFacts struct {
	Name     string `json:"name"`
	Value    string `json:"value"`
	Believed bool   `json:"believed"`
}

// About tells a caller what Berth sees of the very request that asks.
func (s *Site) About(ctx context.Context, _ session.Caller, _ auth.None) (About, error) {
	a := arrivalOf(ctx)
	facts := RequestFacts{
		Address: addressText(a.client), Peer: addressText(a.peer), Trusted: a.trusted, Protocol: "http", Host: a.host,
		BasePath: s.o.BasePath, Forwarded: make([]ForwardFacts, 0, len(a.forwarded)),
	}
	if a.encrypted {
		facts.Protocol = "https"
	}
	for _, h := range a.forwarded {
		facts.Forwarded = append(facts.Forwarded, ForwardFacts{Name: h.name, Value: h.value, Believed: h.believed})
	}
	return About{Version: s.o.Version, Request: facts, Warnings: s.warnings(a)}, nil
}

// warnings says in plain words what is wrong with the way that a request took, and what to do about it.
func (s *Site) warnings(a arrival) []string {
	found := []string{}
	warn := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if len(a.forwarded) > 0 && !a.trusted {
		warn("This request came with forwarded headers (%s) from %s, which Berth was not told to trust, so they were ignored. If that is your proxy, name it in --trusted-proxies.",
			strings.Join(a.headerNames(), ", "), addressText(a.peer))
	}
	// Whose addresses they are is in the log: it is nothing for everybody who may sign in.
	others := s.strangers.recent(s.o.Now())
	if len(a.forwarded) > 0 && !a.trusted {
		others--
	}
	if others > 0 {
		warn("Within the last hour %s sent forwarded headers that were ignored. The log names them. Is a proxy missing in --trusted-proxies?", addresses(others))
	}
	if a.trusted {
		switch {
		case a.malformed:
			warn("In X-Forwarded-For of the proxy at %s no client can be made out, so the nearest proxy stands for it. The header must hold addresses alone, %d at most.", addressText(a.peer), maxHops)
		case a.header(forwardedFor) == "":
			warn("The proxy at %s does not say whom it forwards for, so that everybody behind it looks like one client. Have it set X-Forwarded-For.", addressText(a.peer))
		}
		if !a.protocolKnown && !a.encrypted {
			warn("The proxy at %s does not say whether you reached it by HTTPS. Have it set X-Forwarded-Proto to http or https.", addressText(a.peer))
		}
		if host := a.header("X-Forwarded-Host"); host != "" && hostName(host) != hostName(a.host) {
			warn("The proxy at %s was asked for %s and asks Berth for %s. Have it keep the Host header, or names that lead here by fraud are not found out.", addressText(a.peer), host, a.host)
		}
	}
	if s.inTheClear(a) {
		warn("As far as Berth can see, what you type travels unencrypted. Use --tls self or --tls-cert, or a trusted proxy that speaks HTTPS.")
	}
	if public := s.o.PublicURL; public != nil {
		if hostName(public.Host) != hostName(a.host) {
			warn("You opened Berth as %s, and --public-url says %s: links that lead back to Berth from elsewhere go there.", a.host, public)
		} else if public.Scheme == "https" && a.trusted && a.protocolKnown && !a.encrypted {
			warn("--public-url says that people come by HTTPS, and the proxy at %s says that you did not. Cookies are sent over HTTPS only.", addressText(a.peer))
		}
	}
	return found
}

func addresses(n int) string {
	if n == 1 {
		return "1 address"
	}
	return fmt.Sprintf("%d addresses", n)
}

// about is the page Settings > About.
func (s *Site) about(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	known, err := s.About(r.Context(), caller, auth.None{})
	if err != nil {
		return err
	}
	page := view.About{
		Shell: s.callerShell(r.Context(), caller, "About", "about"), Version: known.Version, Warnings: known.Warnings,
		Address: known.Request.Address, Protocol: strings.ToUpper(known.Request.Protocol), HTTP: r.Proto,
		AskedHost: known.Request.Host, Base: known.Request.BasePath + "/",
	}
	page.Insecure = false // it is one of the warnings
	if known.Request.Peer != known.Request.Address {
		page.Proxy = known.Request.Peer
	}
	for _, h := range known.Request.Forwarded {
		page.Headers = append(page.Headers, view.ForwardedHeader(h))
	}
	s.render(w, r, http.StatusOK, view.AboutPage(page))
	return nil
}
