package pve

import (
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"

	"berth/internal/testneed"
)

// nameServer is a resolver's name server that knows its names alone. Its answers may change from one question to the next.
type nameServer struct {
	mu    sync.Mutex
	asked int
	// answer is called with the number of the question, from 1; nothing means that there is no such name.
	answer func(n int, name string) []netip.Addr
}

// resolver asks the name server, whatever the machine's own are.
func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go s.serve(server)
		return client, nil
	}}
}

// serve answers as over TCP, with two bytes of length first: a pipe is no packet connection.
func (s *nameServer) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var length [2]byte
		if _, err := conn.Read(length[:]); err != nil {
			return
		}
		packet := make([]byte, int(length[0])<<8|int(length[1]))
		if _, err := conn.Read(packet); err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(packet) != nil || len(m.Questions) != 1 {
			return
		}
		q := m.Questions[0]
		name := strings.TrimSuffix(q.Name.String(), ".")
		var found []netip.Addr
		s.mu.Lock()
		if q.Type == dnsmessage.TypeA {
			s.asked++
			found = s.answer(s.asked, name)
		}
		s.mu.Unlock()
		reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
		for _, a := range found {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.AResource{A: a.As4()},
			})
		}
		if len(found) == 0 && q.Type == dnsmessage.TypeA {
			reply.RCode = dnsmessage.RCodeNameError
		}
		packed, err := reply.Pack()
		if err != nil {
			return
		}
		if _, err := conn.Write(append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...)); err != nil {
			return
		}
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")

// TestLocalName: the local network is asked for names under .local alone, and only when DNS does not know them.
func TestLocalName(t *testing.T) {
	f := newFakeHost(t, testCert, always(ok(`[]`)))
	dns := &nameServer{answer: func(_ int, name string) []netip.Addr {
		if name == "known.local" {
			return []netip.Addr{loopback}
		}
		return nil
	}}
	var asked []string
	c := newTestClient(t, Options{Resolver: dns.resolver(), LookupLocal: func(_ context.Context, name string) (netip.Addr, error) {
		if asked = append(asked, name); name == "gone.local" {
			return netip.Addr{}, errNoLocalAnswer
		}
		return loopback, nil
	}})
	call := func(name string) error {
		_, err := c.Host(Address{Host: name, Port: f.address().Port}, Trust{Key: keyPin(testCert)}).Nodes(t.Context(), alice)
		return err
	}
	if err := call("known.local"); err != nil || len(asked) != 0 {
		t.Errorf("a name that DNS knows: %v, the local network was asked for %q", err, asked)
	}
	if err := call("pve.local"); err != nil || len(asked) != 1 || asked[0] != "pve.local" {
		t.Errorf("a name that DNS does not know: %v, the local network was asked for %q", err, asked)
	}
	for _, name := range []string{"pve.lan", "local", "pve.local.example"} {
		asked = nil
		if err := call(name); !IsKind(err, KindHostUnreachable) || len(asked) != 0 {
			t.Errorf("%s: %v, the local network was asked for %q", name, err, asked)
		}
	}
	if err := call("gone.local"); !IsKind(err, KindHostUnreachable) || !errors.Is(err, errNoLocalAnswer) {
		t.Errorf("a name that nobody knows: %v", err)
	}
}

// TestAbuseLocalNameAnswersForbiddenAddress: whatever a neighbour answers passes the same check as every address.
func TestAbuseLocalNameAnswersForbiddenAddress(t *testing.T) {
	dns := &nameServer{answer: func(int, string) []netip.Addr { return nil }}
	for _, answer := range []string{"0.0.0.0", "169.254.169.254", "224.0.0.251", "255.255.255.255", "::ffff:169.254.169.254", "fe80::1", "64:ff9b::a9fe:a9fe", "10.9.9.9"} {
		c := newTestClient(t, Options{
			Resolver:    dns.resolver(),
			LookupLocal: func(context.Context, string) (netip.Addr, error) { return netip.MustParseAddr(answer), nil },
			Forbidden:   func(to netip.AddrPort) bool { return to.Addr() == netip.MustParseAddr("10.9.9.9") },
		})
		_, err := c.Host(Address{Host: "pve.local", Port: 8006}, Trust{}).SignIn(t.Context(), "alice@pve", "secret")
		if !IsKind(err, KindRefusedAddress) {
			t.Errorf("%s: %v", answer, err)
		}
	}
}

// packetOf is an answer with an address.
func packetOf(t testing.TB, id uint16, name string, change func(*dnsmessage.Message), addrs ...string) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, Response: true, Authoritative: true}}
	for _, a := range addrs {
		addr := netip.MustParseAddr(a)
		h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET | cacheFlush, TTL: 120}
		var body dnsmessage.ResourceBody = &dnsmessage.AAAAResource{AAAA: addr.As16()}
		if h.Type = dnsmessage.TypeAAAA; addr.Is4() {
			h.Type, body = dnsmessage.TypeA, &dnsmessage.AResource{A: addr.As4()}
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: body})
	}
	if change != nil {
		change(&m)
	}
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

func TestLocalAnswer(t *testing.T) {
	whole := packetOf(t, 7, "pve.local.", nil, "10.0.0.2")
	for name, test := range map[string]struct {
		packet []byte
		want   string
	}{
		"an address":        {whole, "10.0.0.2"},
		"in capitals":       {packetOf(t, 7, "PVE.Local.", nil, "10.0.0.2"), "10.0.0.2"},
		"both kinds":        {packetOf(t, 7, "pve.local.", nil, "fd00::2", "10.0.0.2"), "10.0.0.2"},
		"IPv6 alone":        {packetOf(t, 7, "pve.local.", nil, "fd00::2", "fd00::3"), "fd00::2"},
		"another question":  {packetOf(t, 8, "pve.local.", nil, "10.0.0.2"), ""},
		"another name":      {packetOf(t, 7, "evil.local.", nil, "10.0.0.2"), ""},
		"no address":        {packetOf(t, 7, "pve.local.", nil), ""},
		"a question itself": {packetOf(t, 7, "pve.local.", func(m *dnsmessage.Message) { m.Response = false }, "10.0.0.2"), ""},
		"a refusal":         {packetOf(t, 7, "pve.local.", func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError }, "10.0.0.2"), ""},
		"cut":               {whole[:len(whole)-2], ""},
		"nothing":           {nil, ""},
	} {
		addr, ok := localAnswer(test.packet, 7, "pve.local")
		if ok != (test.want != "") || ok && addr.String() != test.want {
			t.Errorf("%s: %v, %v; want %q", name, addr, ok, test.want)
		}
	}
}

func FuzzLocalAnswer(f *testing.F) {
	f.Add(packetOf(f, 7, "pve.local.", nil, "10.0.0.2"))
	f.Add(packetOf(f, 7, "pve.local.", nil, "fd00::2", "10.0.0.2"))
	f.Add([]byte{0, 7, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xc0, 12})
	f.Fuzz(func(t *testing.T, packet []byte) {
		if addr, ok := localAnswer(packet, 7, "pve.local"); ok != addr.IsValid() {
			t.Errorf("%v, %v", addr, ok)
		}
	})
}

// TestLocalQuery asks a responder that listens as those of Linux and macOS do, over real multicast on the loopback
// interface.
func TestLocalQuery(t *testing.T) {
	responder, lo := listenMulticast(t)
	go func() {
		packet := make([]byte, maxLocalPacket)
		for {
			n, from, err := responder.ReadFromUDPAddrPort(packet)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(packet[:n]) != nil || m.Response || len(m.Questions) != 2 || m.Questions[0].Name.String() != "pve.local." {
				continue
			}
			// A neighbour's answer to another question comes first.
			for _, p := range [][]byte{{1, 2, 3}, packetOf(t, m.ID+1, "pve.local.", nil, "10.6.6.6"), packetOf(t, m.ID, "pve.local.", nil, "127.0.0.1")} {
				if _, err := responder.WriteToUDPAddrPort(p, from); err != nil {
					return
				}
			}
		}
	}()
	group := &net.UDPAddr{IP: localGroup.IP, Port: responder.LocalAddr().(*net.UDPAddr).Port}
	addr, err := queryLocal(t.Context(), "pve.local", group, []net.Interface{lo})
	if err != nil || addr != loopback {
		t.Fatalf("%v, %v", addr, err)
	}

	// The whole way: a name that only the local network knows, to a host behind it.
	f := newFakeHost(t, testCert, always(ok(`[]`)))
	dns := &nameServer{answer: func(int, string) []netip.Addr { return nil }}
	c := newTestClient(t, Options{Resolver: dns.resolver(), LookupLocal: func(ctx context.Context, name string) (netip.Addr, error) {
		return queryLocal(ctx, name, group, []net.Interface{lo})
	}})
	if _, err := c.Host(Address{Host: "pve.local", Port: f.address().Port}, Trust{Key: keyPin(testCert)}).Nodes(t.Context(), alice); err != nil {
		t.Error(err)
	}

	// Nobody answers: one bounded wait, or as long as the caller has.
	quickest := time.Duration(math.MaxInt64) // a busy machine may take its time now and then
	for range 5 {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if _, err := queryLocal(ctx, "nobody.local", group, []net.Interface{lo}); !errors.Is(err, errNoLocalAnswer) {
			t.Errorf("nobody answers: %v", err)
		}
		quickest = min(quickest, time.Since(began))
	}
	if quickest >= localTimeout {
		t.Errorf("nobody answers: known after %s at best", quickest)
	}
	if _, err := queryLocal(t.Context(), "pve.local", group, nil); !errors.Is(err, errNoLocalAnswer) {
		t.Errorf("without a network: %v", err)
	}
	if _, err := queryLocal(t.Context(), strings.Repeat("a", 300)+".local", group, nil); err == nil {
		t.Error("a name that is too long was asked for")
	}
}

// listenMulticast joins the group on the loopback interface, at a port of its own.
func listenMulticast(t *testing.T) (*net.UDPConn, net.Interface) {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 || i.Flags&net.FlagUp == 0 {
			continue
		}
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{})
		if err != nil {
			t.Fatal(err)
		}
		p := ipv4.NewPacketConn(conn)
		if p.JoinGroup(&i, &net.UDPAddr{IP: localGroup.IP}) == nil && p.SetMulticastInterface(&i) == nil && reaches(conn) {
			t.Cleanup(func() { _ = conn.Close() })
			return conn, i
		}
		_ = conn.Close()
	}
	testneed.Missing(t, "multicast", "no multicast on the loopback interface here")
	panic("unreachable")
}

// reaches tells whether a packet to the group comes back.
func reaches(conn *net.UDPConn) bool {
	to := &net.UDPAddr{IP: localGroup.IP, Port: conn.LocalAddr().(*net.UDPAddr).Port}
	if _, err := conn.WriteTo([]byte("?"), to); err != nil {
		return false
	}
	if conn.SetReadDeadline(time.Now().Add(10*time.Second)) != nil {
		return false
	}
	_, err := conn.Read(make([]byte, 1))
	return err == nil && conn.SetReadDeadline(time.Time{}) == nil
}

// TestAbuseLocalNameIsAskedForOnce: one call asks the local network one question, however often it would be sent again.
func TestAbuseLocalNameIsAskedForOnce(t *testing.T) {
	unknown := &nameServer{answer: func(int, string) []netip.Addr { return nil }}
	silent := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no name server")
	}}
	for what, resolver := range map[string]*net.Resolver{"unknown to DNS": unknown.resolver(), "without DNS": silent} {
		asked, pauses := 0, 0
		c := newTestClient(t, Options{Resolver: resolver, LookupLocal: func(context.Context, string) (netip.Addr, error) {
			asked++
			return netip.Addr{}, errNoLocalAnswer
		}})
		c.pause = func(context.Context, time.Duration) error { pauses++; return nil }
		_, err := c.Host(Address{Host: "nobody.local", Port: 8006}, Trust{}).Domains(t.Context())
		if wantKind(t, err, KindHostUnreachable); asked != 1 || pauses != 0 {
			t.Errorf("%s: the local network was asked %d times, with %d pauses", what, asked, pauses)
		}
	}
	// Nor is DNS asked again for a name that it does not know.
	c := newTestClient(t, Options{Resolver: unknown.resolver()})
	c.pause = func(context.Context, time.Duration) error {
		t.Error("a name that is not there is looked up again")
		return nil
	}
	_, err := c.Host(Address{Host: "nobody.example", Port: 8006}, Trust{}).Domains(t.Context())
	wantKind(t, err, KindHostUnreachable)
}
