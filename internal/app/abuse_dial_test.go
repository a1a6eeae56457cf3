package app

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	_ "modernc.org/sqlite"

	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/pve/sim"
	"berth/internal/replicatest"
)

// network is what leaves the program on its way to Proxmox VE hosts: the questions to DNS and to the local network, and the
// addresses that a connection is made to. Names mean what it says.
type network struct {
	mu     sync.Mutex
	asked  []string
	dialed []string
	names  func(name string) netip.Addr // the zero value: no such name
}

// options are those of a client in this network.
func (n *network) options() pve.Options {
	return pve.Options{
		Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go n.serve(server)
			return client, nil
		}},
		LookupLocal: func(_ context.Context, name string) (netip.Addr, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.asked = append(n.asked, "mdns "+name)
			return netip.Addr{}, errors.New("nobody answers")
		},
		// Called once an address has passed the guard and a socket was made, before a packet is sent.
		Control: func(_, address string, _ syscall.RawConn) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.dialed = append(n.dialed, address)
			return nil
		},
	}
}

// serve answers one question of the resolver, in the form that DNS has over a stream.
func (n *network) serve(conn net.Conn) {
	defer conn.Close()
	length := make([]byte, 2)
	if _, err := conn.Read(length); err != nil {
		return
	}
	packet := make([]byte, int(length[0])<<8|int(length[1]))
	var m dnsmessage.Message
	if _, err := conn.Read(packet); err != nil || m.Unpack(packet) != nil || len(m.Questions) != 1 {
		return
	}
	q := m.Questions[0]
	name := strings.TrimSuffix(q.Name.String(), ".")
	n.mu.Lock()
	n.asked = append(n.asked, "dns "+name)
	var addr netip.Addr
	if n.names != nil {
		addr = n.names(name)
	}
	n.mu.Unlock()
	m.Header.Response, m.Header.RecursionAvailable, m.Additionals = true, true, nil
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, Type: q.Type}
	switch {
	case !addr.IsValid():
		m.Header.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA && addr.Is4():
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}}}
	case q.Type == dnsmessage.TypeAAAA && addr.Is6():
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}}}
	}
	packed, err := m.Pack()
	if err != nil {
		return
	}
	_, _ = conn.Write(append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...))
}

// taken is what left since it was asked last.
func (n *network) taken() (asked, dialed []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	asked, dialed, n.asked, n.dialed = n.asked, n.dialed, nil, nil
	return asked, dialed
}

// newNetworkBench starts the program in a network of its own.
func newNetworkBench(t *testing.T, n *network, change func(*config.Settings)) *bench {
	t.Helper()
	b := &bench{clock: newClock(), folder: t.TempDir(), change: change, proxmox: n.options()}
	b.begin(t)
	return b
}

// forget lets the throttle forget what was tried.
func (b *bench) forget() { b.advance(16 * time.Minute) }

func typed(host string, port int) map[string]any {
	return map[string]any{"host": host, "port": port, "username": "root@pam", "password": sim.DefaultPassword}
}

// Every public route that takes a host refuses one that nobody may sign in with before a name is looked up or a packet is
// sent.
func TestAbuseRefusedHostCausesNoTraffic(t *testing.T) {
	modes := map[string]func(*config.Settings){
		"claimed by another host": claimed,
		"not on the list": func(s *config.Settings) {
			s.LoginHosts = config.LoginHosts{Mode: config.ListedHosts, List: []pve.Address{{Host: "127.0.0.1", Port: 1}}}
		},
		"the claim code is missing": func(s *config.Settings) {
			claimed(s)
			s.Hosts = []string{"berth.example.org"}
		},
	}
	for name, change := range modes {
		t.Run(name, func(t *testing.T) {
			var n network
			b := newNetworkBench(t, &n, change)
			_, host := b.newHost(t, sim.Options{})
			want, code := http.StatusForbidden, "host_not_allowed"
			switch name {
			case "claimed by another host":
				b.browser(t).signIn(host, "root@pam")
			case "the claim code is missing":
				want, code = http.StatusUnprocessableEntity, "claim_code_required"
			}
			_, other := b.newHost(t, sim.Options{})
			n.taken()
			for _, at := range []string{"pve.example", "pve.local", "localhost", "192.0.2.1", "fd00::1", "169.254.169.254", other.Address()} {
				b.forget()
				r := b.browser(t).json("/api/auth/login", typed(at, 8006))
				if r.StatusCode != want || r.json(t)["code"] != code {
					t.Errorf("sign-in at %s: %d %s", at, r.StatusCode, r.body)
				}
				form := b.browser(t).form("/login", url.Values{"host": {at}, "username": {"root@pam"}, "password": {"secret"}})
				if form.StatusCode != want {
					t.Errorf("form for %s: %d", at, form.StatusCode)
				}
				b.browser(t).get("/api/auth/realms?host=" + url.QueryEscape(at))
				b.browser(t).get("/login?host=" + url.QueryEscape(at))
			}
			if asked, dialed := n.taken(); len(asked) != 0 || len(dialed) != 0 {
				t.Errorf("asked for %q, dialed %q", asked, dialed)
			}
			if len(other.Requests()) != 0 {
				t.Error("the refused host got a request")
			}
		})
	}
}

// Addresses at which no Proxmox VE host ever is are refused in all the forms that one can be written in, typed or as the
// answer of DNS, with the answer that every unknown host has.
func TestAbuseForbiddenAddresses(t *testing.T) {
	var named netip.Addr
	n := network{names: func(string) netip.Addr { return named }}
	b := newNetworkBench(t, &n, nil)
	for _, at := range []string{
		"0.0.0.0", "0.1.2.3", "::", "255.255.255.255", "224.0.0.1", "ff02::1", "169.254.1.1", "fe80::1", "169.254.169.254",
		"100.100.100.200", "168.63.129.16", "fd00:ec2::254", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::169.254.169.254",
		"::ffff:0:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b::0.0.0.0", "64:ff9b:1::169.254.169.254",
		"64:ff9b:1:a9fe:a9:fe00::", "2002:a9fe:a9fe::1", "2002::1", "2002:e000:1::",
	} {
		b.forget()
		if r := b.browser(t).json("/api/auth/login", typed(at, 8006)); r.StatusCode != http.StatusUnauthorized || r.json(t)["detail"] != failure || r.json(t)["hint"] != nil {
			t.Errorf("%s: %d %s", at, r.StatusCode, r.body)
		}
		if asked, dialed := n.taken(); len(asked) != 0 || len(dialed) != 0 {
			t.Errorf("%s: asked for %q, dialed %q", at, asked, dialed)
		}
		if named = netip.MustParseAddr(at); named.Is4In6() {
			continue // not an answer that DNS gives to anybody
		}
		b.forget()
		if r := b.browser(t).json("/api/auth/login", typed("pve.example", 8006)); r.StatusCode != http.StatusUnauthorized || r.json(t)["detail"] != failure {
			t.Errorf("a name for %s: %d %s", at, r.StatusCode, r.body)
		}
		if asked, dialed := n.taken(); len(asked) == 0 || len(dialed) != 0 {
			t.Errorf("a name for %s: asked for %q, dialed %q", at, asked, dialed)
		}
	}
}

// A name that has led to a harmless host, whose certificate was confirmed, and then leads elsewhere, gets no password
// there.
func TestAbuseReboundHostName(t *testing.T) {
	addr := netip.MustParseAddr("127.0.0.1")
	n := network{names: func(string) netip.Addr { return addr }}
	b := newNetworkBench(t, &n, func(s *config.Settings) { s.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} })
	_, host := b.newHost(t, sim.Options{})
	in := input(host, "root@pam")
	in["host"] = "pve.example"
	delete(in, "fingerprint")
	question := b.browser(t).json("/api/auth/login", in)
	if question.StatusCode != http.StatusConflict {
		t.Fatalf("%d %s", question.StatusCode, question.body)
	}
	in["fingerprint"] = question.json(t)["fingerprint"]
	n.taken()
	for _, elsewhere := range []string{"169.254.169.254", "127.0.0.2", "10.0.0.1"} {
		addr = netip.MustParseAddr(elsewhere)
		if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != http.StatusUnauthorized || r.json(t)["detail"] != failure {
			t.Errorf("now at %s: %d %s", elsewhere, r.StatusCode, r.body)
		}
		if _, dialed := n.taken(); len(dialed) != 0 {
			t.Errorf("now at %s: dialed %q", elsewhere, dialed)
		}
	}
	addr = netip.MustParseAddr("127.0.0.1")
	browser := b.browser(t)
	if r := browser.json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Fatalf("back again: %d %s", r.StatusCode, r.body)
	}
	// Once it is a login host the tickets of its sessions are as safe.
	before := len(host.Requests())
	addr = netip.MustParseAddr("169.254.169.254")
	b.each(func(a *App) { a.client.Close() }) // connections that were made before
	n.taken()
	b.advance(70 * time.Minute) // old enough to be renewed, too
	browser.get("/")
	browser.get("/api/containers")
	if _, dialed := n.taken(); len(dialed) != 0 || len(host.Requests()) != before {
		t.Errorf("with a session: dialed %q", dialed)
	}
}

// --allow-networks narrows every connection: a session from before does not get around it.
func TestAbuseAllowNetworksHoldsForSessions(t *testing.T) {
	var n network
	var allowed []netip.Prefix
	b := newNetworkBench(t, &n, func(s *config.Settings) { s.AllowNetworks = allowed })
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "root@pam")
	token := browser.token()
	b.stop()
	allowed = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fd00::/8")}
	b.begin(t)
	n.taken()
	before := len(host.Requests())
	cookie := []string{"Cookie", "lxc-session=" + token}
	b.advance(70 * time.Minute) // the ticket is to be renewed
	for _, path := range []string{"/", "/api/containers", "/api/hosts", "/settings/hosts"} {
		b.browser(t).do("GET", path, "", "", cookie...)
	}
	in, err := addressOf(host)
	if err != nil {
		t.Fatal(err)
	}
	if r := b.browser(t).json("/api/auth/login", input(host, "root@pam")); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a new sign-in: %d %s", r.StatusCode, r.body)
	}
	if _, err := b.KnowHost(t.Context(), in, pve.Fingerprint{}); !pve.IsKind(err, pve.KindRefusedAddress) {
		t.Errorf("the operator's own look: %v", err)
	}
	if _, dialed := n.taken(); len(dialed) != 0 || len(host.Requests()) != before {
		t.Errorf("dialed %q", dialed)
	}
}

// Berth never calls itself, by whatever name or address it can be reached.
func TestAbuseOwnAddress(t *testing.T) {
	var local []string
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			local = append(local, p.Addr().String())
		}
	}
	for listen, hosts := range map[string][]string{
		"127.0.0.1:0": {"127.0.0.1", "::ffff:127.0.0.1", "[::ffff:7f00:1]", "berth.example"},
		"0.0.0.0:0":   append([]string{"127.0.0.1", "127.0.0.2", "127.255.255.254", "::ffff:127.0.0.1", "berth.example", "0.0.0.0"}, local...),
		"[::]:0":      append([]string{"127.0.0.1", "::1", "127.9.9.9", "::ffff:127.0.0.1", "berth.example", "::"}, local...),
	} {
		t.Run(listen, func(t *testing.T) {
			n := network{names: func(string) netip.Addr { return netip.MustParseAddr("127.0.0.1") }}
			b := newNetworkBench(t, &n, func(s *config.Settings) { s.Listen = listen })
			_, text, err := net.SplitHostPort(b.App.Address())
			if err != nil {
				t.Fatal(err)
			}
			port, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range hosts {
				b.forget()
				r := b.past(t).json("/api/auth/login", typed(at, port))
				if r.StatusCode != http.StatusUnauthorized || r.json(t)["detail"] != failure {
					t.Errorf("%s: %d %s", at, r.StatusCode, r.body)
				}
				if _, dialed := n.taken(); len(dialed) != 0 {
					t.Errorf("%s: dialed %q", at, dialed)
				}
			}
			// The guard is about itself alone: another port of the same machine is dialed.
			b.forget()
			b.past(t).json("/api/auth/login", typed("127.0.0.1", 1))
			if _, dialed := n.taken(); len(dialed) != 1 {
				t.Errorf("another port: dialed %q", dialed)
			}
		})
	}
}

// authority is a certificate authority of a test's own.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	certificate := a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	a.certificate, a.key = certificate.Leaf, certificate.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

// issue makes a certificate with a key of its own, signed by the authority or, as long as there is none, by itself.
func (a *authority) issue(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent, signer := template, key
	if a.certificate != nil {
		parent, signer = a.certificate, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// file is the authority as --ca-file reads it.
func (a *authority) file(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

var forLoopback = x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}

// A certificate of an authority in --ca-file needs no confirmation and no pin; one for another name does, and one of
// another authority. A pin outranks the authority: its word does not replace the key of a pinned host.
func TestCertificateAuthorityFile(t *testing.T) {
	ca := newAuthority(t)
	var withFile bool
	b := &bench{clock: newClock(), folder: t.TempDir(), change: func(s *config.Settings) {
		if !withFile {
			return
		}
		flags := config.Serve{
			Listen: "127.0.0.1:0", Data: s.Data, SessionIdle: "2h", SessionMax: "168h", LoginHosts: "any", AuditDays: "90", StartTimeout: "30s", TokenIdle: "30",
			AllowNetworks: []string{"127.0.0.0/8"}, CAFile: ca.file(t), Log: config.Log{LogFormat: "text", LogLevel: "info"},
		}
		checked, err := flags.Check()
		if err != nil {
			t.Fatal(err)
		}
		s.Roots = checked.Roots
	}}
	b.begin(t)
	signIn := func(h *hostile) reply {
		t.Helper()
		b.forget()
		return b.browser(t).json("/api/auth/login", typed("127.0.0.1", h.port()))
	}
	loopback, elsewhere := forLoopback, forLoopback
	elsewhere.IPAddresses, elsewhere.DNSNames = nil, []string{"pve.example"}
	vouched := newHostile(t, ca.issue(t, &loopback), plausible(nil))
	if r := signIn(vouched); r.StatusCode != http.StatusConflict {
		t.Fatalf("without the file: %d %s", r.StatusCode, r.body)
	}
	b.stop()
	withFile = true
	b.begin(t)
	if r := signIn(vouched); r.StatusCode != http.StatusOK {
		t.Fatalf("with the file: %d %s", r.StatusCode, r.body)
	}
	hosts, err := b.store.LoginHosts(t.Context())
	if err != nil || len(hosts) != 1 || hosts[0].Key != nil {
		t.Errorf("login hosts %+v, %v; want one without a pin", hosts, err)
	}
	if r := signIn(newHostile(t, ca.issue(t, &elsewhere), plausible(nil))); r.StatusCode != http.StatusConflict {
		t.Errorf("for another name: %d %s", r.StatusCode, r.body)
	}
	loopback = forLoopback
	if r := signIn(newHostile(t, newAuthority(t).issue(t, &loopback), plausible(nil))); r.StatusCode != http.StatusConflict {
		t.Errorf("of another authority: %d %s", r.StatusCode, r.body)
	}

	// A host that was pinned, and whose certificate the authority then vouches for, with another key.
	loopback = forLoopback
	pinned := newHostile(t, newAuthority(t).issue(t, &loopback), plausible(nil))
	in := typed("127.0.0.1", pinned.port())
	in["fingerprint"] = pinned.fingerprint()
	b.forget()
	if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != http.StatusOK {
		t.Fatalf("confirmed: %d %s", r.StatusCode, r.body)
	}
	b.each(func(a *App) { a.client.Close() })
	loopback = forLoopback
	pinned.change(ca.issue(t, &loopback))
	before := pinned.requests.Load()
	if r := signIn(pinned); r.StatusCode != http.StatusUnauthorized || pinned.requests.Load() != before {
		t.Errorf("another key that the authority vouches for: %d %s", r.StatusCode, r.body)
	}
}

// A hundred refused sign-ins at a hundred made-up hosts leave nothing behind: no host, no datacenter, no pin, no name.
func TestAbuseMadeUpHostsLeaveNoTrace(t *testing.T) {
	replicatest.Alone(t, replicatest.File)
	n := network{names: func(name string) netip.Addr {
		if strings.HasSuffix(name, "0.madeup.example") {
			return netip.Addr{}
		}
		return netip.MustParseAddr("127.0.0.1")
	}}
	b := newNetworkBench(t, &n, nil)
	_, host := b.newHost(t, sim.Options{})
	b.browser(t).signIn(host, "root@pam") // so that there is a database worth looking at
	loopback := forLoopback
	strange := newHostile(t, newAuthority(t).issue(t, &loopback), http.NotFoundHandler())
	before := b.rows(t)
	for i := range 100 {
		in := input(host, fmt.Sprintf("madeup%d@pve", i))
		in["host"], in["password"] = fmt.Sprintf("host%d.madeup.example", i), "madeup-password"
		want := http.StatusUnauthorized
		switch i % 4 {
		case 0: // wrong password, at a host whose certificate was confirmed
		case 1: // not a Proxmox VE host
			in["port"], in["fingerprint"] = strange.port(), strange.fingerprint()
		case 2: // nothing listens
			in["port"] = 1
		case 3: // the certificate is not confirmed
			if delete(in, "fingerprint"); i%10 != 0 {
				want = http.StatusConflict
			}
		}
		b.forget()
		if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != want {
			t.Fatalf("sign-in %d: %d %s", i, r.StatusCode, r.body)
		}
	}
	if asked, _ := n.taken(); len(asked) < 100 {
		t.Fatalf("%d names were looked up: the hosts were not tried", len(asked))
	}
	for table, rows := range b.rows(t) {
		if rows != before[table] {
			t.Errorf("%s has %d rows, had %d", table, rows, before[table])
		}
	}
	if files := b.filesWith(t, "madeup"); len(files) != 0 {
		t.Errorf("the names are in %q", files)
	}
	b.stop()
	if files := b.filesWith(t, "madeup"); len(files) != 0 {
		t.Errorf("stopped: the names are in %q", files)
	}
}

// rows counts what each table of the database holds.
func (b *bench) rows(t *testing.T) map[string]int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.folder, "*.db"))
	if err != nil || len(files) != 1 {
		t.Fatalf("databases %q, %v", files, err)
	}
	db, err := sql.Open("sqlite", "file:"+files[0]+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	names, err := db.QueryContext(t.Context(), "SELECT name FROM sqlite_master WHERE type = 'table'")
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	for names.Next() {
		var name string
		if err := names.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, name)
	}
	if err := errors.Join(names.Err(), names.Close()); err != nil || len(tables) < 5 {
		t.Fatalf("tables %q, %v", tables, err)
	}
	rows := map[string]int{}
	for _, table := range tables {
		var n int
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM "`+table+`"`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		rows[table] = n
	}
	return rows
}

// filesWith are the files of the data folder that hold a text, those of the database's log among them.
func (b *bench) filesWith(t *testing.T, text string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(b.folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte(text)) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
