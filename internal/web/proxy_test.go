package web

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// trusting is a site whose trusted proxies are in 10.0.0.0/8 and in fd00::/8.
func trusting(publicURL string) *Site {
	o := Options{
		Now:            time.Now,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
	}
	if publicURL != "" {
		o.PublicURL, _ = url.Parse(publicURL)
	}
	return NewSite(o)
}

func TestWhomARequestIsFrom(t *testing.T) {
	const trusted, stranger = "10.0.0.1:5000", "192.0.2.9:5000"
	tests := []struct {
		name, remote string
		header       []string // X-Forwarded-For, one per line
		want         string
		malformed    bool
	}{
		{"no proxy", stranger, nil, "192.0.2.9", false},
		{"anybody can send the header", stranger, []string{"198.51.100.7"}, "192.0.2.9", false},
		{"a trusted proxy without the header", trusted, nil, "10.0.0.1", false},
		{"a trusted proxy", trusted, []string{"198.51.100.7"}, "198.51.100.7", false},
		{"the client's own entries don't count", trusted, []string{"127.0.0.1, 203.0.113.5, 198.51.100.7"}, "198.51.100.7", false},
		{"not in a line of their own either", trusted, []string{"203.0.113.5", "198.51.100.7"}, "198.51.100.7", false},
		{"two trusted proxies", trusted, []string{"203.0.113.5, 198.51.100.7, 10.9.9.9"}, "198.51.100.7", false},
		{"two trusted proxies, a line each", trusted, []string{"203.0.113.5, 198.51.100.7", "10.9.9.9"}, "198.51.100.7", false},
		{"trusted all the way", trusted, []string{"10.1.1.1, 10.2.2.2"}, "10.1.1.1", false},
		{"with a port", trusted, []string{"198.51.100.7:4711"}, "198.51.100.7", false},
		{"IPv6", trusted, []string{"2001:db8::7"}, "2001:db8::7", false},
		{"IPv6 in brackets", trusted, []string{"[2001:db8::7]"}, "2001:db8::7", false},
		{"IPv6 with a port", trusted, []string{"[2001:db8::7]:4711"}, "2001:db8::7", false},
		{"mapped", trusted, []string{"::ffff:198.51.100.7"}, "198.51.100.7", false},
		{"a mapped trusted proxy", "[::ffff:10.0.0.1]:5000", []string{"198.51.100.7, ::ffff:10.2.2.2"}, "198.51.100.7", false},
		{"tabs and spaces", trusted, []string{"203.0.113.5 ,\t198.51.100.7 "}, "198.51.100.7", false},
		{"a word instead of an address", trusted, []string{"198.51.100.7, unknown"}, "10.0.0.1", true},
		{"a word beyond a trusted proxy", trusted, []string{"unknown, 10.9.9.9"}, "10.9.9.9", true},
		{"an empty entry", trusted, []string{"198.51.100.7,"}, "10.0.0.1", true},
		{"an empty header", trusted, []string{""}, "10.0.0.1", true},
		{"a zone", trusted, []string{"fe80::1%eth0"}, "10.0.0.1", true},
		{"no address at all", trusted, []string{"0.0.0.0"}, "10.0.0.1", true},
		{"markup", trusted, []string{"<script>alert(1)</script>"}, "10.0.0.1", true},
		{"a chain without an end", trusted, []string{strings.Repeat("10.0.0.2, ", 400) + "10.0.0.2"}, "10.0.0.2", true},
		{"the peer is not known", "@", []string{"198.51.100.7"}, "", false},
	}
	s := trusting("")
	for _, test := range tests {
		r := httptest.NewRequest("GET", "http://berth.lan/", nil)
		r.RemoteAddr = test.remote
		r.Header["X-Forwarded-For"] = test.header
		a := s.readArrival(r)
		got := ""
		if a.client.IsValid() {
			got = a.client.String()
		}
		if got != test.want || a.malformed != test.malformed {
			t.Errorf("%s: client %q, malformed %t; want %q, %t", test.name, got, a.malformed, test.want, test.malformed)
		}
	}
}

func TestProtocolOfTheClientsSide(t *testing.T) {
	const trusted, stranger = "10.0.0.1:5000", "192.0.2.9:5000"
	tests := []struct {
		name, remote, host, public string
		tls                        bool
		header                     []string // X-Forwarded-Proto, one per line
		encrypted, cookies         bool
	}{
		{name: "plain", remote: stranger},
		{name: "TLS of Berth's own", remote: stranger, tls: true, encrypted: true, cookies: true},
		{name: "anybody's word", remote: stranger, header: []string{"https"}},
		{name: "anybody's word against our own TLS", remote: stranger, tls: true, header: []string{"http"}, encrypted: true, cookies: true},
		{name: "a trusted proxy's word", remote: trusted, header: []string{"https"}, encrypted: true, cookies: true},
		{name: "in capitals", remote: trusted, header: []string{"HTTPS"}, encrypted: true, cookies: true},
		{name: "a trusted proxy that says nothing", remote: trusted},
		{name: "a trusted proxy that talks nonsense", remote: trusted, header: []string{"ftp"}},
		{name: "TLS only between the proxy and Berth", remote: trusted, tls: true, header: []string{"http"}},
		{name: "TLS to a proxy that says nothing", remote: trusted, tls: true, encrypted: true, cookies: true},
		{name: "a client's own https before the proxy's http", remote: trusted, header: []string{"https, http"}},
		{name: "the same in two lines", remote: trusted, header: []string{"https", "http"}},
		{name: "encrypted twice", remote: trusted, header: []string{"https,https"}, encrypted: true, cookies: true},
		{name: "the public URL's word", remote: stranger, public: "https://berth.example.org", host: "Berth.example.org:443", encrypted: true, cookies: true},
		{name: "not for another name", remote: stranger, public: "https://berth.example.org", host: "192.0.2.1"},
		{name: "a public URL without TLS", remote: stranger, public: "http://berth.example.org", host: "berth.example.org"},
		{name: "a silent proxy, a public URL", remote: trusted, public: "https://berth.example.org", host: "berth.example.org", encrypted: true, cookies: true},
		{name: "a proxy that contradicts the public URL", remote: trusted, public: "https://berth.example.org", host: "berth.example.org", header: []string{"http"}, cookies: true},
	}
	for _, test := range tests {
		r := httptest.NewRequest("GET", "http://berth.lan/", nil)
		r.RemoteAddr, r.Header["X-Forwarded-Proto"] = test.remote, test.header
		if test.host != "" {
			r.Host = test.host
		}
		if test.tls {
			r.TLS = &tls.ConnectionState{}
		}
		a := trusting(test.public).readArrival(r)
		if a.encrypted != test.encrypted || a.secureCookies != test.cookies {
			t.Errorf("%s: encrypted %t, Secure cookies %t; want %t, %t", test.name, a.encrypted, a.secureCookies, test.encrypted, test.cookies)
		}
	}
}

func TestWhenWhatIsTypedTravelsInTheClear(t *testing.T) {
	tests := []struct {
		name, remote, header string // X-Forwarded-For
		want                 bool
	}{
		{"a browser on the same machine", "127.0.0.1:5000", "", false},
		{"a browser elsewhere", "192.0.2.9:5000", "", true},
		{"a proxy on the same machine, of which nothing is known", "127.0.0.1:5000", "192.0.2.9", true},
		{"through a trusted proxy", "10.0.0.1:5000", "192.0.2.9", true},
		{"a browser on the machine of the trusted proxy", "10.0.0.1:5000", "127.0.0.1", false},
	}
	for _, test := range tests {
		r := httptest.NewRequest("GET", "http://berth.lan/", nil)
		r.RemoteAddr = test.remote
		if test.header != "" {
			r.Header.Set("X-Forwarded-For", test.header)
		}
		if got := trusting("").readArrival(r).inTheClear(); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
}

// FuzzForwardedHeaders checks what holds whatever anybody sends: only trusted proxies are heard, nobody who sends a header
// through one can name the client's address, and what is kept is bounded and printable.
func FuzzForwardedHeaders(f *testing.F) {
	f.Add("198.51.100.7", "https", "for=192.0.2.60;proto=http;by=203.0.113.43")
	f.Add("203.0.113.5, 198.51.100.7, 10.9.9.9", "https, http", "")
	f.Add("[2001:db8::7]:4711", "HTTPS", "for=\"[2001:db8:cafe::17]:4711\"")
	f.Add(",,,,", "", ",")
	f.Add("fe80::1%\x00", "\xff", "\u202e")
	f.Add(strings.Repeat("10.0.0.1,", 5000), strings.Repeat("https,", 5000), strings.Repeat("for=_;", 5000))
	s := trusting("")
	client := netip.MustParseAddr("192.0.2.77")
	f.Fuzz(func(t *testing.T, forFor, proto, rest string) {
		request := func(remote string, values ...string) *http.Request {
			r := httptest.NewRequest("GET", "http://berth.lan/", nil)
			r.RemoteAddr = remote
			r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Proto"], r.Header["Forwarded"] = values, []string{proto}, []string{rest}
			return r
		}
		if a := s.readArrival(request("192.0.2.9:5000", forFor)); a.client != a.peer || a.encrypted {
			t.Fatalf("a stranger was believed: %v, encrypted %t", a.client, a.encrypted)
		}
		// A proxy that appends, in the same line or in one of its own.
		for _, values := range [][]string{{forFor + ", " + client.String()}, {forFor, client.String()}} {
			if a := s.readArrival(request("10.0.0.1:5000", values...)); a.client != client || a.malformed {
				t.Fatalf("%q: client %v", values, a.client)
			}
		}
		a := s.readArrival(request("10.0.0.1:5000", forFor))
		if !a.client.IsValid() || a.client.Zone() != "" || a.client.Is4In6() || a.client.IsUnspecified() {
			t.Fatalf("%q: client %v", forFor, a.client)
		}
		for _, h := range a.forwarded {
			if len(h.value) > maxForwardedValue || strings.ContainsFunc(h.value, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Fatalf("%s is kept as %q", h.name, h.value)
			}
			if h.believed != slices.Contains([]string{"X-Forwarded-For", "X-Forwarded-Proto"}, h.name) {
				t.Fatalf("%s is believed: %t", h.name, h.believed)
			}
		}
		s.warnings(a)
	})
}
