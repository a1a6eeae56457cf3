package pve

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"
)

const (
	// localTimeout bounds the one query for a name that DNS does not know. Responders answer a question for a name of their
	// own at once (RFC 6762 section 6).
	localTimeout = time.Second
	// maxLocalPacket is the largest packet that a responder may send (RFC 6762 section 17).
	maxLocalPacket = 9000
	// maxLocalPackets is how many packets are looked at before the query is given up.
	maxLocalPackets = 64
	// maxLocalInterfaces is how many networks are asked.
	maxLocalInterfaces = 16
)

// The group and port of Multicast DNS (RFC 6762 section 3).
var localGroup = &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}

var errNoLocalAnswer = errors.New("no answer from the local network")

// isLocalName tells whether a name belongs to the local network's own (RFC 6762 section 3).
func isLocalName(host string) bool { return strings.HasSuffix(host, ".local") }

// lookupLocal finds the address behind a .local name by one Multicast DNS query, sent once on each network of the machine.
// The answer is as good as a neighbour's word: it passes the dial guard as every address does, and who answers there is
// known by the certificate.
func lookupLocal(ctx context.Context, name string) (netip.Addr, error) {
	var interfaces []net.Interface
	all, err := net.Interfaces()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("networks of this machine: %w", err)
	}
	for _, i := range all {
		if i.Flags&net.FlagUp != 0 && i.Flags&net.FlagMulticast != 0 && len(interfaces) < maxLocalInterfaces {
			interfaces = append(interfaces, i)
		}
	}
	return queryLocal(ctx, name, localGroup, interfaces)
}

// queryLocal sends the one-shot query of RFC 6762 section 5.1: from a port of its own, so that answers come back to that
// port alone and no part of the program has to listen to the local network.
func queryLocal(ctx context.Context, name string, group *net.UDPAddr, interfaces []net.Interface) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	query, id, err := localQuery(name)
	if err != nil {
		return netip.Addr{}, err
	}
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ask the local network: %w", err)
	}
	defer conn.Close()
	// The deadline also ends a read under way when the caller gives up sooner.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()

	sender := ipv4.NewPacketConn(conn)
	sent := false
	for _, i := range interfaces {
		if sender.SetMulticastInterface(&i) != nil {
			continue // without an IPv4 address
		}
		if _, err := conn.WriteTo(query, group); err == nil {
			sent = true
		}
	}
	if !sent {
		return netip.Addr{}, fmt.Errorf("%w: it has no network for multicast", errNoLocalAnswer)
	}

	packet := make([]byte, maxLocalPacket)
	for range maxLocalPackets {
		n, _, err := conn.ReadFromUDPAddrPort(packet)
		if err != nil {
			if ctx.Err() != nil {
				return netip.Addr{}, errNoLocalAnswer
			}
			return netip.Addr{}, fmt.Errorf("ask the local network: %w", err)
		}
		if addr, ok := localAnswer(packet[:n], id, name); ok {
			return addr, nil
		}
	}
	return netip.Addr{}, errNoLocalAnswer
}

// localQuery asks for both kinds of addresses of a name.
func localQuery(name string) (packet []byte, id uint16, err error) {
	question, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, 0, fmt.Errorf("%s is no name for the local network", name)
	}
	var random [2]byte
	rand.Read(random[:])
	id = binary.BigEndian.Uint16(random[:])
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id}}
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		m.Questions = append(m.Questions, dnsmessage.Question{Name: question, Type: kind, Class: dnsmessage.ClassINET})
	}
	packet, err = m.Pack()
	return packet, id, err
}

// cacheFlush is the bit that responders may set in the class of a record (RFC 6762 section 10.2).
const cacheFlush = 1 << 15

// localAnswer reads the address of a name out of a packet that anybody may have sent. An IPv4 address comes first: an IPv6
// one of the local network is mostly link-local, and never dialled.
func localAnswer(packet []byte, id uint16, name string) (netip.Addr, bool) {
	var p dnsmessage.Parser
	header, err := p.Start(packet)
	if err != nil || !header.Response || header.ID != id || header.RCode != dnsmessage.RCodeSuccess || p.SkipAllQuestions() != nil {
		return netip.Addr{}, false
	}
	var six netip.Addr
	for {
		h, err := p.AnswerHeader()
		if err != nil {
			return six, six.IsValid()
		}
		ours := h.Class&^cacheFlush == dnsmessage.ClassINET && strings.EqualFold(h.Name.String(), name+".")
		switch {
		case ours && h.Type == dnsmessage.TypeA:
			r, err := p.AResource()
			if err != nil {
				return six, six.IsValid()
			}
			return netip.AddrFrom4(r.A), true
		case ours && h.Type == dnsmessage.TypeAAAA && !six.IsValid():
			r, err := p.AAAAResource()
			if err != nil {
				return netip.Addr{}, false
			}
			six = netip.AddrFrom16(r.AAAA)
		default:
			if p.SkipAnswer() != nil {
				return six, six.IsValid()
			}
		}
	}
}
