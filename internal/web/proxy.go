package web

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/session"
)

// arrival is how a request reached Berth, as far as Berth believes it. A proxy's word counts only if the operator named
// its address.
type arrival struct {
	peer    netip.Addr // whoever opened the connection; the zero value when that is not known
	client  netip.Addr // whom the request is from: the peer, or the one that trusted proxies name
	host    string     // the Host header, printable and bounded
	trusted bool       // the peer is a trusted proxy
	// encrypted: the client's side of the way here is HTTPS.
	encrypted bool
	// secureCookies: what the browser is handed may come back over HTTPS alone.
	secureCookies bool
	// protocolKnown: encrypted is what was seen or what a trusted proxy said, not a guess for want of a word from it.
	protocolKnown bool
	// malformed: a trusted proxy handed on an X-Forwarded-For in which the client could not be made out.
	malformed bool
	// forwarded holds the forwarded headers of the request by name, whether they are believed or not.
	forwarded []forwardedHeader
}

// forwardedHeader is one header that proxies add.
type forwardedHeader struct {
	name, value string // the value is bounded, and printable
	believed    bool
}

// The forwarded headers that are believed from a trusted proxy.
const (
	forwardedFor   = "X-Forwarded-For"
	forwardedProto = "X-Forwarded-Proto"
)

// forwardedHeaders are the headers that show that a proxy is there. The others are looked at for that alone: a proxy that
// hands on what clients send under a name that it doesn't set itself would let them choose their address.
var forwardedHeaders = []string{
	forwardedFor, forwardedProto, "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Real-Ip", "Forwarded",
}

const (
	// maxForwardedValue bounds what is kept of a forwarded header, for the page that shows it.
	maxForwardedValue = 256
	// maxHostName bounds what is kept of a Host header: a DNS name with its port fits.
	maxHostName = 262
	// maxHops bounds how many entries of X-Forwarded-For are looked at.
	maxHops = 16
)

// readArrival makes out how a request reached Berth.
func (s *Site) readArrival(r *http.Request) arrival {
	a := arrival{host: printable(r.Host, maxHostName), encrypted: r.TLS != nil, protocolKnown: true}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		a.peer = at.Addr().Unmap().WithZone("")
	}
	a.client = a.peer
	a.trusted = s.trusts(a.peer)
	for _, name := range forwardedHeaders {
		values := r.Header.Values(name)
		if len(values) == 0 {
			continue
		}
		a.forwarded = append(a.forwarded, forwardedHeader{
			name: name, value: printable(strings.Join(values, ", "), maxForwardedValue),
			believed: a.trusted && (name == forwardedFor || name == forwardedProto),
		})
	}
	if a.trusted {
		a.client, a.malformed = clientOf(r.Header.Values(forwardedFor), a.peer, s.trusts)
		a.encrypted, a.protocolKnown = protocolOf(r.Header.Values(forwardedProto), a.encrypted)
	}
	// That people reach this name by HTTPS is the operator's word, which a trusted proxy's "http" does not outweigh where
	// it is about cookies.
	public := s.publicHTTPS() && hostName(r.Host) == hostName(s.o.PublicURL.Host)
	a.encrypted = a.encrypted || public && !(a.trusted && a.protocolKnown)
	a.secureCookies = a.encrypted || public
	return a
}

// trusts tells whether forwarded headers from an address are believed.
func (s *Site) trusts(a netip.Addr) bool {
	return a.IsValid() && slices.ContainsFunc(s.o.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// publicHTTPS tells whether the operator says that people reach Berth by HTTPS.
func (s *Site) publicHTTPS() bool { return s.o.PublicURL != nil && s.o.PublicURL.Scheme == "https" }

// clientOf finds whom a request is from, which the trusted proxy at peer handed on. Each proxy appends whom it heard from,
// so the list is read from its right end, and the first address that is no trusted proxy counts: everything to the left of
// it may be made up. At an entry that is no address the nearest proxy before it stands for the client, and malformed is true.
func clientOf(values []string, peer netip.Addr, trusts func(netip.Addr) bool) (client netip.Addr, malformed bool) {
	client = peer
	hops := 0
	for _, list := range slices.Backward(values) {
		for rest, more := list, true; more; {
			var entry string
			if at := strings.LastIndexByte(rest, ','); at >= 0 {
				rest, entry = rest[:at], rest[at+1:]
			} else {
				entry, more = rest, false
			}
			hop, ok := parseHop(strings.Trim(entry, " \t"))
			if hops++; !ok || hops > maxHops {
				return client, true
			}
			if client = hop; !trusts(hop) {
				return client, false
			}
		}
	}
	return client, false
}

// parseHop reads one entry of X-Forwarded-For: an address, which some proxies write in brackets or with a port.
func parseHop(entry string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]"))
	if err != nil {
		at, err := netip.ParseAddrPort(entry)
		if err != nil {
			return netip.Addr{}, false
		}
		a = at.Addr()
	}
	a = a.Unmap()
	return a, a.Zone() == "" && !a.IsUnspecified()
}

// protocolOf tells whether the client's side is HTTPS, by what trusted proxies say; own is for the connection to Berth,
// which decides when they say nothing that can be understood. Of several words one "http" is enough: the way is not
// encrypted all along, or a client's own header was handed on.
func protocolOf(values []string, own bool) (encrypted, known bool) {
	for _, list := range values {
		for word := range strings.SplitSeq(list, ",") {
			switch strings.ToLower(strings.Trim(word, " \t")) {
			case "https", "wss":
				encrypted, known = true, true
			case "http", "ws":
				return false, true
			default:
				return own, own
			}
		}
	}
	if !known {
		return own, own
	}
	return encrypted, known
}

type arrivalKey struct{}

// arrivalOf is how the request of a context reached Berth.
func arrivalOf(ctx context.Context) arrival {
	a, _ := ctx.Value(arrivalKey{}).(arrival)
	return a
}

// identifyClient notes how each request reached Berth and whom it is from, before anything else looks at it.
func (s *Site) identifyClient(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := s.readArrival(r)
		if len(a.forwarded) > 0 && !a.trusted && s.strangers.first(a.peer, s.o.Now()) {
			slog.WarnContext(r.Context(), "forwarded headers ignored: they come from an address that --trusted-proxies does not name",
				"address", addressText(a.peer), "headers", strings.Join(a.headerNames(), " "))
		}
		id := strconv.FormatUint(rand.Uint64(), 36)
		w.Header().Set("X-Request-Id", id)
		ctx := context.WithValue(fault.WithRequest(r.Context(), id), arrivalKey{}, a)
		ctx = session.WithClient(ctx, session.Client{Address: a.client, UserAgent: printable(r.UserAgent(), maxUserAgent)})
		if len(a.forwarded) > 0 {
			ctx = auth.WithProxy(ctx)
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (a arrival) headerNames() []string {
	names := make([]string, len(a.forwarded))
	for i, h := range a.forwarded {
		names[i] = h.name
	}
	return names
}

// header is a forwarded header of the request; empty if it came without.
func (a arrival) header(name string) string {
	for _, h := range a.forwarded {
		if h.name == name {
			return h.value
		}
	}
	return ""
}

// addressText is an address for people.
func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return "an unknown address"
	}
	return a.String()
}

// inTheClear tells whether pages warn that what people type travels unencrypted: this client's, or everybody's when Berth
// itself is open to other machines without TLS.
func (s *Site) inTheClear(a arrival) bool {
	return !a.encrypted && (s.o.Exposed || a.inTheClear())
}

// inTheClear tells whether what the client types travels unencrypted. A client on the same machine has no way to travel,
// but one behind a proxy of which nothing is known does.
func (a arrival) inTheClear() bool {
	if a.encrypted {
		return false
	}
	return !a.client.IsLoopback() || len(a.forwarded) > 0 && !a.trusted
}
