package pve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

// Kind sorts what can go wrong with a call by what its caller can do about it.
type Kind int

const (
	// KindServer is every refusal that has no kind of its own, mostly a 500 with PVE's reason: "CT 101 not running", "CT
	// is locked (backup)".
	KindServer Kind = iota
	// KindUnauthenticated (401): the credentials are wrong, used up or expired, or the CSRF token is.
	KindUnauthenticated
	// KindForbidden (403): a privilege is missing; Message names the path and the privilege.
	KindForbidden
	// KindInvalidParameters (400): Fields has PVE's word on each parameter.
	KindInvalidParameters
	// KindNotFound: no such container, task, token.
	KindNotFound
	// KindChanged: what was to be changed is not as it was when it was read; nothing was changed.
	KindChanged
	// KindUnsupported (501): this version of Proxmox VE does not know the call.
	KindUnsupported
	// KindMemberUnreachable (595 to 599): the host answered, and could not reach the cluster member that was asked for.
	KindMemberUnreachable
	// KindHostUnreachable: no connection, none in time, or one that broke. A change may have happened all the same.
	KindHostUnreachable
	// KindBusy: no connection became free in time, because other calls to the host had all that there may be. It says
	// nothing about the host. If one became free at the very end, a change may have happened all the same.
	KindBusy
	// KindCertificate: the certificate isn't trusted; the cause is a *CertificateError.
	KindCertificate
	// KindRefusedAddress: the address is one that is never dialled; the cause is an *AddressError.
	KindRefusedAddress
	// KindNotProxmox: something answered, and not as Proxmox VE does.
	KindNotProxmox
	// KindTooLarge: the answer is longer than Options.MaxBody or has more entries than any cluster could have.
	KindTooLarge
	// KindCanceled: the caller's context was canceled.
	KindCanceled
)

var kindNames = [...]string{
	KindServer:            "server error",
	KindUnauthenticated:   "unauthenticated",
	KindForbidden:         "forbidden",
	KindInvalidParameters: "invalid parameters",
	KindNotFound:          "not found",
	KindChanged:           "changed meanwhile",
	KindUnsupported:       "unsupported",
	KindMemberUnreachable: "member unreachable",
	KindHostUnreachable:   "host unreachable",
	KindBusy:              "busy",
	KindCertificate:       "certificate",
	KindRefusedAddress:    "refused address",
	KindNotProxmox:        "not a Proxmox VE host",
	KindTooLarge:          "answer too large",
	KindCanceled:          "canceled",
}

// String names the kind, for logs and as a metric's label.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return "kind " + strconv.Itoa(int(k))
	}
	return kindNames[k]
}

// Error is what went wrong with one call to a host. None of its texts holds a secret; what the host sent is bounded and
// free of control characters, but still the host's words.
type Error struct {
	Kind Kind
	// Op is the call, method and path below /api2/json: "GET nodes/pve1/lxc".
	Op string
	// Host is the address that was called.
	Host string
	// Status is the HTTP status, 0 if there was no answer.
	Status int
	// Reason is the reason phrase of the status line, where PVE puts the first line of its message (AE response).
	Reason string
	// Message is the whole message: from the body since PVE 8.3, the reason phrase before.
	Message string
	// Fields has what PVE says of single parameters, by their names on the wire.
	Fields map[string]string
	// ClockSkew is by how much the host's clock is ahead of Options.Now, to the second and as far as its answer took no
	// time; 0 if the host didn't say.
	ClockSkew time.Duration
	// Cause is the error underneath, if there is one.
	Cause error

	// transient errors of a GET are worth another attempt.
	transient bool
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op + " on " + e.Host + ": " + e.Kind.String())
	if e.Status != 0 {
		b.WriteString(": " + strconv.Itoa(e.Status))
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		b.WriteString("; " + name + ": " + e.Fields[name])
	}
	if e.Cause != nil {
		b.WriteString(": " + printable(e.Cause.Error(), maxMessage))
	}
	return b.String()
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }

// IsKind tells whether err is, or wraps, an *Error of a kind.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

// Bounds on the texts that a host can put into an error.
const (
	maxMessage   = 1 << 10
	maxFields    = 32
	maxFieldName = 64
)

// printable makes one line of bounded length of a text that somebody else wrote, so that it can't forge a log line or
// move a terminal's cursor.
func printable(s string, limit int) string {
	if len(s) <= limit && visible(s) {
		return s
	}
	if len(s) > 4*limit {
		s = s[:4*limit]
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if len(s) <= limit {
		return strings.Clone(s) // a part of a long text would keep all of it
	}
	cut := limit - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// visible tells whether a text is visible ASCII without blanks: nearly all names are, and have nothing to be cleaned of.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// statusKind sorts a refusal by its status and, where PVE has none of its own for it, by its text.
func statusKind(status int, html bool, message string, fields map[string]string) Kind {
	switch {
	case status == 502, status == 503, status == 504:
		// pveproxy has none of these: a proxy before the host can't reach it.
		return KindHostUnreachable
	case status >= 595 && status <= 599:
		// Pseudo status codes of AnyEvent::HTTP, passed on by AE proxy_request.
		return KindMemberUnreachable
	case status < 400, html && status < 500:
		// The API never redirects and never speaks HTML.
		return KindNotProxmox
	case status == 401:
		return KindUnauthenticated
	case status == 403:
		return KindForbidden
	case status == 404:
		return KindNotFound
	case status == 400:
		// API2/Tasks.pm of pve-manager raises a parameter error for a task that isn't there.
		if strings.HasPrefix(fields["upid"], "no such task") {
			return KindNotFound
		}
		return KindInvalidParameters
	case status == 501 && strings.HasPrefix(message, "Method '"):
		return KindUnsupported // HS rest_handler
	case status == 500:
		return serverKind(message)
	}
	return KindServer
}

// serverKind reads the kinds that PVE hides behind a plain die, which is always a 500 (HS rest_handler).
func serverKind(message string) Kind {
	switch {
	// AbstractConfig.pm load_config of pve-guest-common: Configuration file 'nodes/N/lxc/ID.conf' does not exist
	case strings.HasPrefix(message, "Configuration file '") && strings.Contains(message, "' does not exist"):
		return KindNotFound
	// AC check_token_exist and check_user_exist; a user takes their tokens along.
	case strings.HasPrefix(message, "no such token '"), strings.HasPrefix(message, "no such user ('"):
		return KindNotFound
	// Tools.pm assert_if_modified of pve-common.
	case strings.HasPrefix(message, "detected modified configuration"):
		return KindChanged
	// AE, for a path outside the API.
	case strings.HasPrefix(message, "no such file '"):
		return KindNotFound
	// Network.pm get_ip_from_hostname of pve-common, for a member name that doesn't resolve. Not "not found": a member
	// whose name can't be looked up just now isn't gone.
	case strings.HasPrefix(message, "hostname lookup '"):
		return KindMemberUnreachable
	}
	return KindServer
}

// networkError sorts what went wrong before there was a whole answer. Of what net/http says of an answer no text is kept.
func (h *Host) networkError(ctx context.Context, op string, err error) *Error {
	e := &Error{Kind: KindHostUnreachable, Op: op, Host: h.address.String(), transient: true}
	var connect *connectError
	if e.Cause = inOwnWords(err); errors.As(err, &connect) {
		e.Cause = connect
	}
	var certificate *CertificateError
	var address *AddressError
	var name *net.DNSError
	switch {
	case errors.As(err, &certificate):
		e.Kind, e.Cause, e.transient = KindCertificate, certificate, false
	case errors.As(err, &address):
		e.Kind, e.transient = KindRefusedAddress, false
	case errors.Is(ctx.Err(), context.Canceled):
		e.Kind, e.Cause, e.transient = KindCanceled, ctx.Err(), false
	case ctx.Err() != nil:
		e.Cause, e.transient = ctx.Err(), false
		if cause := context.Cause(ctx); cause != ctx.Err() {
			e.Cause = fmt.Errorf("%w: %w", cause, ctx.Err())
		}
	case errors.As(err, &name) && (name.IsNotFound || isLocalName(h.address.Host)):
		// A name that isn't there won't be there in a moment, and each look at the local network asks all of it.
		e.transient = false
	case strange(err):
		e.Kind, e.transient = KindNotProxmox, false
	}
	return e
}

// What can be wrong with a connection, in words that hold nothing of what the host sent.
var (
	errBroken     = errors.New("the connection broke")
	errUnreadable = errors.New("what it answered can't be read")
)

// inOwnWords replaces an error of net/http or crypto/tls. Their texts quote what a host sent, lines of an answer and names
// of a certificate, and a host may send back the very password that it got. What stays is known by its type and has a text
// of the Go library or of Berth alone.
func inOwnWords(err error) error {
	var certificate *CertificateError
	var errno syscall.Errno
	var alert tls.AlertError
	switch {
	case errors.As(err, &certificate):
		return certificate
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %w", errBroken, os.ErrDeadlineExceeded)
	case errors.As(err, &errno):
		return fmt.Errorf("%w: %w", errBroken, errno)
	case errors.As(err, &alert):
		return fmt.Errorf("%w: %w", errBroken, alert)
	case strange(err):
		return errUnreadable
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", errBroken, io.ErrUnexpectedEOF)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: %w", errBroken, io.EOF)
	}
	return errBroken
}
