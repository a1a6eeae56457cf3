package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"html"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve/sim"
	"berth/internal/testneed"
)

// snippet is a configuration as docs/deployment.md shows it.
func snippet(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/deployment.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "<!-- "+name+" -->\n```"+name+"\n")
	block, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatalf("docs/deployment.md has no configuration of %s", name)
	}
	return block
}

// change replaces what is different in a test from what the documentation shows; all of it must be there.
func change(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q is not in\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// freePort is a port of this machine that nobody listens on at the moment.
func freePort(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(testneed.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// runProxy runs a proxy until the test ends, and waits until it listens.
func runProxy(t *testing.T, port, program string, arguments ...string) {
	t.Helper()
	command := exec.Command(program, arguments...)
	var said logged
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = command.Wait() // how it ends is not what the test is about
		close(ended)
	}()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = command.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", program, said.text())
		}
	})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			c.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s ended:\n%s", program, said.text())
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not listen:\n%s", program, said.text())
}

// proxySetting is one way in which a proxy stands in front of Berth.
type proxySetting struct {
	tls  bool
	base string
}

// proxies start each a proxy for "example.org" on a port, in front of Berth, as the documentation shows.
var proxies = map[string]func(t *testing.T, o proxySetting, port, berth, folder string){
	"nginx": func(t *testing.T, o proxySetting, port, berth, folder string) {
		program := testneed.Command(t, "nginx")
		server := change(t, snippet(t, "nginx"), "127.0.0.1:8080", berth, "location /berth/ ", "location "+o.base+"/ ")
		if o.tls {
			server = change(t, server, "listen 443 ssl", "listen 127.0.0.1:"+port+" ssl",
				"/etc/ssl/example.org.pem", folder+"/example.org.pem", "/etc/ssl/example.org.key", folder+"/example.org.key")
		} else {
			server = change(t, server, "listen 443 ssl", "listen 127.0.0.1:"+port,
				"    ssl_certificate     /etc/ssl/example.org.pem;\n    ssl_certificate_key /etc/ssl/example.org.key;\n", "")
		}
		conf := filepath.Join(folder, "nginx.conf")
		text := "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n"
		for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
			text += kind + "_temp_path " + folder + "/" + kind + ";\n"
		}
		if err := os.WriteFile(conf, []byte(text+server+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		runProxy(t, port, program, "-p", folder, "-c", conf, "-e", "stderr")
	},
	"haproxy": func(t *testing.T, o proxySetting, port, berth, folder string) {
		program := testneed.Command(t, "haproxy")
		text := change(t, snippet(t, "haproxy"), "127.0.0.1:8080", berth)
		if o.base == "" {
			text = change(t, text, "use_backend berth if { path /berth } or { path_beg /berth/ }", "default_backend berth")
		}
		if o.tls {
			text = change(t, text, "bind :443 ssl crt /etc/haproxy/example.org.pem", "bind 127.0.0.1:"+port+" ssl crt "+folder+"/both.pem")
		} else {
			text = change(t, text, "bind :443 ssl crt /etc/haproxy/example.org.pem", "bind 127.0.0.1:"+port)
		}
		conf := filepath.Join(folder, "haproxy.cfg")
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		runProxy(t, port, program, "-f", conf, "-db")
	},
}

// writeCertificate writes a certificate for example.org in the shapes that proxies want, and returns who vouches for it.
func writeCertificate(t *testing.T, folder string) *x509.CertPool {
	t.Helper()
	certificate, key := newSelfSigned(t, "example.org")
	for name, text := range map[string][]byte{
		"example.org.pem": certificate, "example.org.key": key, "both.pem": append(append([]byte{}, certificate...), key...),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	block, _ := pem.Decode(certificate)
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return roots
}

// TestBehindRealProxies signs in through nginx and HAProxy, with TLS below a path, and without at the root of a site.
func TestBehindRealProxies(t *testing.T) {
	for name, start := range proxies {
		for setting, o := range map[string]proxySetting{"TLS and a path": {true, "/berth"}, "neither": {}} {
			t.Run(name+", "+setting, func(t *testing.T) {
				public, _ := url.Parse("http://example.org" + o.base)
				if o.tls {
					public.Scheme = "https"
				}
				b := newBenchWith(t, func(s *config.Settings) {
					s.PublicURL, s.BasePath, s.TrustedProxies = public, o.base, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
				})
				_, host := b.newHost(t, sim.Options{})
				folder, port := t.TempDir(), freePort(t)
				roots := writeCertificate(t, folder)
				start(t, o, port, b.Address(), folder)

				// The client has another address than the proxy, so that the two can be told apart.
				const client = "127.0.0.2"
				dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
				newBrowser := func() *browser {
					browser := b.browser(t)
					browser.base = public.String()
					browser.http.Transport = &http.Transport{
						TLSClientConfig: &tls.Config{RootCAs: roots},
						DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
							return dialer.DialContext(ctx, network, "127.0.0.1:"+port)
						},
					}
					return browser
				}
				signInThroughProxy(t, newBrowser(), o, host)
				checkProxied(t, newBrowser, o, client, host)
			})
		}
	}
}

// signInThroughProxy signs in by forms, as people do, from a path that needs it, with a second factor, and signs out.
func signInThroughProxy(t *testing.T, browser *browser, o proxySetting, host *sim.Host) {
	t.Helper()
	r := browser.get("/settings/about")
	if r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != o.base+"/login?next=%2Fsettings%2Fabout" {
		t.Fatalf("a stranger: %d to %q", r.StatusCode, r.Header.Get("Location"))
	}
	if r = browser.get("/login?next=%2Fsettings%2Fabout"); r.StatusCode != http.StatusOK {
		t.Fatalf("the sign-in page: %d", r.StatusCode)
	}
	for _, found := range regexp.MustCompile(`(?:href|src)="([^"]*/static/[^"]*)"`).FindAllStringSubmatch(r.body, -1) {
		if asset := browser.get(strings.TrimPrefix(found[1], o.base)); asset.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", found[1], asset.StatusCode)
		}
	}
	origin := strings.TrimSuffix(browser.base, o.base)
	form := url.Values{"next": {"/settings/about"}}
	for name, value := range input(host, "bob@pve") {
		form.Set(name, fmt.Sprint(value))
	}
	post := func(path string, values url.Values) reply {
		// What an old browser sends: its origin, which must be the host that Berth sees.
		return browser.do("POST", path, "application/x-www-form-urlencoded", values.Encode(), "Origin", origin)
	}
	if r = post("/login", form); r.StatusCode != http.StatusOK {
		t.Fatalf("the first step: %d %s", r.StatusCode, r.body)
	}
	challenge := regexp.MustCompile(`name="challenge" value="([^"]+)"`).FindStringSubmatch(r.body)
	if challenge == nil {
		t.Fatalf("no second factor is asked for: %s", r.body)
	}
	r = post("/login/tfa", url.Values{
		"challenge": {html.UnescapeString(challenge[1])}, "kind": {"recovery"}, "code": {sim.DefaultRecoveryCodes()[0]}, "next": {"/settings/about"},
	})
	if r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != o.base+"/settings/about" {
		t.Fatalf("the second step: %d to %q: %s", r.StatusCode, r.Header.Get("Location"), r.body)
	}
	for _, c := range r.Cookies() {
		if c.Secure != o.tls || c.Path != o.base+"/" || !c.HttpOnly {
			t.Errorf("cookie %+v", c)
		}
	}
	if got := r.Header.Get("Strict-Transport-Security") != ""; got != o.tls {
		t.Errorf("HSTS: %t, want %t", got, o.tls)
	}
	r = browser.get("/")
	// Without TLS too there is nothing to warn of: the client is on the proxy's own machine.
	if r.StatusCode != http.StatusOK || !strings.Contains(r.body, "bob@pve") || strings.Contains(r.body, "not encrypted") {
		t.Errorf("the list: %d %s", r.StatusCode, r.body)
	}
	if r = post("/logout", nil); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != o.base+"/login?signed-out" || browser.signedIn() {
		t.Errorf("sign-out: %d to %q", r.StatusCode, r.Header.Get("Location"))
	}
}

// checkProxied checks what Berth sees of requests through the proxy, and that the proxy opens no way round the rules.
func checkProxied(t *testing.T, newBrowser func() *browser, o proxySetting, client string, host *sim.Host) {
	t.Helper()
	alice := newBrowser()
	alice.signIn(host, "alice@pve")
	protocol, other := "http", "https"
	if o.tls {
		protocol, other = other, protocol
	}
	for name, header := range map[string][]string{
		"as it is": nil, "with forged headers": {"X-Forwarded-For", "198.51.100.7, 127.0.0.1", "X-Forwarded-Proto", other, "Forwarded", "for=198.51.100.7"},
	} {
		seen := alice.about(header...)
		if request(seen, "address") != client || request(seen, "peer") != "127.0.0.1" || request(seen, "trusted") != true ||
			request(seen, "protocol") != protocol || request(seen, "host") != "example.org" || request(seen, "basePath") != o.base {
			t.Errorf("%s: %v", name, seen)
		}
		if len(seen["warnings"].([]any)) != 0 {
			t.Errorf("%s: warnings %v", name, seen["warnings"])
		}
	}
	if r := alice.do("POST", "/api/auth/logout", "application/json", "{}", "Origin", "https://evil.example"); r.StatusCode != http.StatusForbidden {
		t.Errorf("a request of another site: %d", r.StatusCode)
	}
	if r := alice.as("evil.example", "GET", "/login"); r.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a rebound name: %d", r.StatusCode)
	}
	if r := alice.get("/healthz"); r.StatusCode != http.StatusOK {
		t.Errorf("the probe: %d", r.StatusCode)
	}
	if !alice.signedIn() {
		t.Error("signed out by it")
	}
	if o.base != "" {
		beside := newBrowser()
		beside.base = strings.TrimSuffix(beside.base, o.base)
		if r := beside.get("/login"); r.StatusCode == http.StatusOK {
			t.Errorf("the proxy hands on what is beside the base path: %d", r.StatusCode)
		}
	}
}

// newSelfSigned makes a certificate for a name that vouches for itself, with its key, in PEM form.
func newSelfSigned(t *testing.T, name string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}
