package pve

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultPort is where pveproxy listens.
const DefaultPort = 8006

// Limits of DNS names, from RFC 1035 section 2.3.4.
const (
	maxNameLength  = 253
	maxLabelLength = 63
)

// Address is where a Proxmox VE host is reached: Host is a lower-case DNS name, an IPv4 address or an IPv6 address
// without brackets and zone, in its canonical spelling, so that equal addresses are equal values. ParseAddress makes it.
type Address struct {
	Host string
	Port int
}

// String is host:port, with brackets around an IPv6 address. ParseAddress takes it back.
func (a Address) String() string { return net.JoinHostPort(a.Host, strconv.Itoa(a.Port)) }

// InputError says that a value can't be sent to any Proxmox VE host. Field names the input ("host", "port", "code",
// "node", ...), Message is a sentence that may be shown to whoever typed it; it never repeats the value.
type InputError struct {
	Field   string
	Message string
}

func (e *InputError) Error() string { return e.Field + ": " + e.Message }

// ParseAddress reads the host and port fields of a form as people fill them: a DNS name, an IPv4 address, an IPv6 address
// with or without brackets, any of them with ":port", or a pasted "https://pve.lan:8006/", also with the state of PVE's web
// interface behind it. A port in the host text wins over port; where neither names one (port is 0) it is DefaultPort. Every
// error is an *InputError for "host" or "port".
//
// Names are ASCII; underscores are let through, since names in private networks have them. Names that end in a number
// and aren't IPv4 addresses ("127.1", "0x7f.1", "2130706433") are refused, because resolvers disagree about them.
func ParseAddress(host string, port int) (Address, error) {
	if port < 0 || port > 65535 {
		return Address{}, &InputError{Field: "port", Message: portMessage}
	}
	if port == 0 {
		port = DefaultPort
	}
	if host == "" {
		return Address{}, invalidHost("Proxmox host is required")
	}
	host = withoutUIState(host)
	if err := checkHostText(host); err != nil {
		return Address{}, err
	}

	rest := host
	if scheme, after, found := strings.Cut(host, "://"); found {
		switch strings.ToLower(scheme) {
		case "https":
		case "http":
			return Address{}, invalidHost("Proxmox VE is reached by https:// only")
		default:
			return Address{}, invalidHost("Enter a host name or an address, or a link that begins with https://")
		}
		rest = strings.TrimSuffix(after, "/")
	}
	if strings.ContainsAny(rest, `/\?#`) {
		return Address{}, invalidHost("Enter the host alone, without a path")
	}

	name, explicit, err := splitPort(rest)
	if err != nil {
		return Address{}, err
	}
	if explicit != 0 {
		port = explicit
	}
	name, err = canonicalHost(name)
	if err != nil {
		return Address{}, err
	}
	return Address{Host: name, Port: port}, nil
}

const portMessage = "Port must be a whole number from 1 to 65535"

func invalidHost(message string) *InputError { return &InputError{Field: "host", Message: message} }

// withoutUIState cuts what PVE's web interface keeps of its own state in the address that people copy, as in
// "https://pve.lan:8006/#v1:0:=node%2Fpve:4" (pve-manager StateProvider.js). Browsers send it nowhere. What does not look like
// that stays, to be refused.
func withoutUIState(s string) string {
	before, state, found := strings.Cut(s, "/#v1:")
	unlike := func(r rune) bool { return r <= ' ' || r >= 0x7f }
	if !found || len(state) > 500 || !strings.Contains(before, "://") || strings.ContainsFunc(state, unlike) {
		return s
	}
	return before
}

// checkHostText refuses what can stand in no host, port or link, whatever its form.
func checkHostText(s string) error {
	// The longest name, "https://", a port and a slash.
	if len(s) > maxNameLength+len("https://:65535./") {
		return invalidHost("The host name is too long")
	}
	for _, r := range s {
		switch {
		case r == ' ':
			return invalidHost("The host must not contain spaces")
		case r < ' ' || r == 0x7f:
			return invalidHost("The host must not contain control characters")
		case r > 0x7f:
			return invalidHost("Write the host name in its ASCII form (xn--...)")
		case r == '@':
			return invalidHost("Enter the host alone, without a user name")
		case r == '%':
			return invalidHost("The host must not contain a zone or escapes")
		}
	}
	return nil
}

// splitPort takes a port off a host. Without brackets, two colons or more make an IPv6 address, which then has no port.
func splitPort(s string) (host string, port int, err error) {
	if inside, ok := strings.CutPrefix(s, "["); ok {
		inside, after, found := strings.Cut(inside, "]")
		addr, err := netip.ParseAddr(inside)
		if !found || err != nil || !addr.Is6() {
			return "", 0, invalidHost("Brackets are for an IPv6 address: [fd00::1]")
		}
		if after == "" {
			return inside, 0, nil
		}
		digits, found := strings.CutPrefix(after, ":")
		if !found {
			return "", 0, invalidHost("Only a port may follow the brackets: [fd00::1]:8006")
		}
		port, err := parsePort(digits)
		return inside, port, err
	}
	if strings.Count(s, ":") != 1 {
		return s, 0, nil
	}
	host, digits, _ := strings.Cut(s, ":")
	port, err = parsePort(digits)
	return host, port, err
}

// parsePort reads a port that stands in the host text, so that is the field its errors belong to.
func parsePort(digits string) (int, error) {
	if len(digits) > 5 || strings.Trim(digits, "0123456789") != "" {
		return 0, invalidHost(portMessage)
	}
	port, err := strconv.Atoi(digits)
	if err != nil || port < 1 || port > 65535 {
		return 0, invalidHost(portMessage)
	}
	return port, nil
}

func canonicalHost(s string) (string, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		// ::ffff:10.0.0.2 is the same host as 10.0.0.2, so it is the same address.
		return addr.Unmap().String(), nil
	}
	if strings.Contains(s, ":") {
		return "", invalidHost("This is not a valid IPv6 address")
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if s == "" {
		return "", invalidHost("Proxmox host is required")
	}
	if len(s) > maxNameLength {
		return "", invalidHost("The host name is too long")
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if err := checkLabel(label); err != nil {
			return "", err
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") {
		return "", invalidHost("This is not a valid IPv4 address")
	}
	return s, nil
}

func checkLabel(label string) error {
	switch {
	case label == "":
		return invalidHost("The host name has an empty part")
	case len(label) > maxLabelLength:
		return invalidHost("A part of the host name is too long")
	case label[0] == '-' || label[len(label)-1] == '-':
		return invalidHost("No part of a host name begins or ends with a hyphen")
	}
	for i := range len(label) {
		switch c := label[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return invalidHost("A host name has letters, digits, hyphens and dots only")
		}
	}
	return nil
}
