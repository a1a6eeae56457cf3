package config

import (
	"slices"
	"strings"
	"testing"
)

// serve are the flags of `berth serve` as they are when none is given, changed by the test.
func serve(t *testing.T, change func(*Serve)) Serve {
	t.Helper()
	s := Serve{
		Listen: "127.0.0.1:8080", Data: t.TempDir(), SessionIdle: "2h", SessionMax: "168h", LoginHosts: "claim", AuditDays: "90", StartTimeout: "30s", TokenIdle: "30",
		Log: Log{LogFormat: "text", LogLevel: "info"},
	}
	change(&s)
	return s
}

func TestHowBerthIsReached(t *testing.T) {
	tests := []struct {
		name, public, base string
		want               string // the base path
		problem            string // words of the only problem; empty when all is well
	}{
		{name: "the root"},
		{name: "a base path", base: "/berth", want: "/berth"},
		{name: "with a slash at its end", base: "/berth/", want: "/berth"},
		{name: "a slash alone", base: "/"},
		{name: "of two parts", base: "/apps/berth-1.2_x~", want: "/apps/berth-1.2_x~"},
		{name: "the public URL's", public: "https://example.org/berth/", want: "/berth"},
		{name: "both alike", public: "https://example.org/berth", base: "/berth", want: "/berth"},
		{name: "a public URL whose path a proxy takes away", public: "https://example.org", base: "/berth", want: "/berth"},
		{name: "both, and different", public: "https://example.org/a", base: "/b", problem: "is not the path of --public-url"},
		{name: "no slash at the beginning", base: "berth", problem: "is not a path such as"},
		{name: "another site", base: "//evil.example", problem: "is not a path such as"},
		{name: "climbing", base: "/a/../b", problem: "is not a path such as"},
		{name: "a wildcard of the routes", base: "/{x}", problem: "is not a path such as"},
		{name: "letters that are written in two ways", base: "/h\u00e4fen", problem: "is not a path such as"},
		{name: "escapes", base: "/a%2fb", problem: "is not a path such as"},
		{name: "an end of a header", base: "/a\r\nX: y", problem: "is not a path such as"},
		{name: "a public URL without a scheme", public: "example.org/berth", problem: "such as https://berth.example.org"},
		{name: "a public URL with a password", public: "https://me:it@example.org", problem: "such as https://berth.example.org"},
		{name: "a public URL with a query", public: "https://example.org/?a", problem: "such as https://berth.example.org"},
		{name: "a public URL of another kind", public: "ftp://example.org", problem: "such as https://berth.example.org"},
		{name: "a space in the public URL", public: "https://example.org/a%20b", problem: "is not a path such as"},
	}
	for _, test := range tests {
		got, err := serve(t, func(s *Serve) { s.PublicURL, s.BasePath = test.public, test.base }).Check()
		switch {
		case test.problem == "" && (err != nil || got.BasePath != test.want):
			t.Errorf("%s: %q, %v; want %q", test.name, got.BasePath, err, test.want)
		case test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem) || strings.Contains(err.Error(), "\n--")):
			t.Errorf("%s: %v, want a problem about %q", test.name, err, test.problem)
		}
	}
}

func TestNamesAndProxies(t *testing.T) {
	got, err := serve(t, func(s *Serve) {
		s.Hosts, s.TrustedProxies = []string{" Dash.LAN", "old.lan"}, []string{"10.1.2.3/8", "192.0.2.1", " fd00::1/8", "::1"}
	}).Check()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"dash.lan", "old.lan"}; !slices.Equal(got.Hosts, want) {
		t.Errorf("names %q, want %q", got.Hosts, want)
	}
	var networks []string
	for _, p := range got.TrustedProxies {
		networks = append(networks, p.String())
	}
	if want := []string{"10.0.0.0/8", "192.0.2.1/32", "fd00::/8", "::1/128"}; !slices.Equal(networks, want) {
		t.Errorf("proxies %q, want %q", networks, want)
	}
	for _, bad := range []string{"", "https://dash.lan", "dash.lan:8080", "a b", "me@dash.lan"} {
		if _, err := serve(t, func(s *Serve) { s.Hosts = []string{bad} }).Check(); err == nil || !strings.Contains(err.Error(), "is not a host name") {
			t.Errorf("--hosts %q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "proxy.lan", "10.0.0.0/33", "fe80::1%eth0", "10.0.0.1:80"} {
		if _, err := serve(t, func(s *Serve) { s.TrustedProxies = []string{bad} }).Check(); err == nil || !strings.Contains(err.Error(), "is neither a network") {
			t.Errorf("--trusted-proxies %q: %v", bad, err)
		}
	}
}

// A variable that should name a file may hold its content by mistake: it is refused, and never repeated.
func TestKeyInPlaceOfItsFile(t *testing.T) {
	const key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----"
	flags := Serve{
		Listen: "127.0.0.1:0", Data: t.TempDir(), TLSCert: "chain.pem", TLSKey: key, Key: key, CAFile: key,
		SessionIdle: "2h", SessionMax: "168h", LoginHosts: "claim", AuditDays: "90", StartTimeout: "30s", TokenIdle: "30", Log: Log{LogFormat: "text", LogLevel: "info"},
	}
	_, err := flags.Check()
	for _, flag := range []string{"--tls-key", "--key-file", "--ca-file"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v, want that it is refused", flag, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the message repeats the key: %v", err)
	}
}
