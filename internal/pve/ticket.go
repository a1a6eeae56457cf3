package pve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// TicketLifetime is how long PVE accepts a ticket and its CSRF token (AC get_ticket_age_range). There is no way to end
// one earlier: PVE knows no sign-out.
const TicketLifetime = 2 * time.Hour

const (
	maxTicket = 16 << 10 // a WebAuthn challenge is the longest
	// PVE refuses 8 KiB of headers (AE), so no working ticket or token is longer.
	maxHeaderSecret = 6 << 10
	maxUserID       = 128
)

// Credentials are what a call is made with: a Ticket or a Token.
type Credentials interface {
	// authorize adds the credentials to a request, or refuses to.
	authorize(*http.Request) error
	// secrets are what must not come back in an error's text.
	secrets() []string
}

var (
	_ Credentials = Ticket{}
	_ Credentials = Token{}
)

// Ticket is a signed-in user's credential. It is a secret in every form: fmt and slog show whose it is and nothing else,
// and it is not marshalled; what stores it stores its fields.
type Ticket struct {
	UserID string // user@realm, as PVE returned it
	Value  string
	CSRF   string // for everything but GET; bound to the user, as old as the ticket
}

// IssuedAt is when PVE issued the ticket, by the clock of the host that did. It is valid from 5 minutes before that
// until TicketLifetime after it.
func (t Ticket) IssuedAt() (time.Time, error) {
	_, issued, err := parseTicket(t.Value)
	return issued, err
}

// authorize refuses a challenge: it isn't a session, and PVE would only answer 401 after 3 s.
func (t Ticket) authorize(r *http.Request) error {
	if _, _, err := parseTicket(t.Value); err != nil || len(t.Value) > maxHeaderSecret {
		return &InputError{Field: "ticket", Message: "This is not a ticket"}
	}
	// PVE decodes percent escapes in the cookie and leaves + alone (Formatter.pm extract_auth_value).
	r.Header.Set("Cookie", "PVEAuthCookie="+url.QueryEscape(t.Value))
	if r.Method != http.MethodGet {
		if !headerSafe(t.CSRF) {
			return &InputError{Field: "ticket", Message: "This is not a CSRF token"}
		}
		r.Header.Set("CSRFPreventionToken", t.CSRF)
	}
	return nil
}

func (t Ticket) secrets() []string { return []string{t.Value, t.CSRF} }

// Token is an API token: ID is user@realm!name. Like a Ticket it never shows its secret.
type Token struct {
	ID     string
	Secret string
}

func (t Token) authorize(r *http.Request) error {
	user, name, found := strings.Cut(t.ID, "!")
	if !found || !validUserID(user) || name == "" || !headerSafe(t.ID) {
		return &InputError{Field: "token", Message: "A token's id is user@realm!name"}
	}
	if !headerSafe(t.Secret) {
		return &InputError{Field: "token", Message: "This is not a token's secret"}
	}
	r.Header.Set("Authorization", "PVEAPIToken="+t.ID+"="+t.Secret)
	return nil
}

func (t Token) secrets() []string { return []string{t.Secret} }

// headerSafe tells whether s can be sent as, or within, a header value.
func headerSafe(s string) bool {
	if s == "" || len(s) > maxHeaderSecret {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) < 0
}

var errSecret = errors.New("pve: secrets are not marshalled; store their fields")

func (t Ticket) String() string               { return "[ticket of " + printable(t.UserID, maxUserID) + "]" }
func (t Ticket) GoString() string             { return t.String() }
func (t Ticket) Format(s fmt.State, _ rune)   { _, _ = io.WriteString(s, t.String()) }
func (t Ticket) LogValue() slog.Value         { return slog.StringValue(t.String()) }
func (t Ticket) MarshalJSON() ([]byte, error) { return nil, errSecret }
func (t Ticket) MarshalText() ([]byte, error) { return nil, errSecret }

func (t Token) String() string               { return "[token " + printable(t.ID, 2*maxUserID) + "]" }
func (t Token) GoString() string             { return t.String() }
func (t Token) Format(s fmt.State, _ rune)   { _, _ = io.WriteString(s, t.String()) }
func (t Token) LogValue() slog.Value         { return slog.StringValue(t.String()) }
func (t Token) MarshalJSON() ([]byte, error) { return nil, errSecret }
func (t Token) MarshalText() ([]byte, error) { return nil, errSecret }

func (c Challenge) String() string               { return "[challenge of " + printable(c.UserID, maxUserID) + "]" }
func (c Challenge) GoString() string             { return c.String() }
func (c Challenge) Format(s fmt.State, _ rune)   { _, _ = io.WriteString(s, c.String()) }
func (c Challenge) LogValue() slog.Value         { return slog.StringValue(c.String()) }
func (c Challenge) MarshalJSON() ([]byte, error) { return nil, errSecret }
func (c Challenge) MarshalText() ([]byte, error) { return nil, errSecret }

const (
	ticketPrefix    = "PVE:"
	challengePrefix = ticketPrefix + "!tfa!"
)

var (
	errTicket    = errors.New("not a ticket")
	errChallenge = errors.New("not a two-factor challenge")
)

// parseTicket reads PVE:user@realm:TIME::SIGNATURE (Ticket.pm assemble_rsa_ticket of pve-common; TIME is 8 hexadecimal
// digits). The signature is PVE's to judge; here it only has to be there. A challenge isn't a ticket.
func parseTicket(s string) (userID string, issued time.Time, err error) {
	if strings.HasPrefix(s, challengePrefix) {
		return "", time.Time{}, errTicket
	}
	userID, issued, err = splitTicket(s)
	if err != nil || !validUserID(userID) {
		return "", time.Time{}, errTicket
	}
	return userID, issued, nil
}

// splitTicket takes a ticket of any kind apart: what stands between the first and the second colon, and the time.
func splitTicket(s string) (data string, issued time.Time, err error) {
	if len(s) > maxTicket || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return "", time.Time{}, errTicket
	}
	rest, ok := strings.CutPrefix(s, ticketPrefix)
	if !ok {
		return "", time.Time{}, errTicket
	}
	signed, signature, ok := strings.Cut(rest, "::")
	if !ok || signature == "" {
		return "", time.Time{}, errTicket
	}
	data, stamp, ok := strings.Cut(signed, ":")
	if !ok || data == "" || len(stamp) != 8 {
		return "", time.Time{}, errTicket
	}
	seconds, err := strconv.ParseUint(stamp, 16, 32)
	if err != nil {
		return "", time.Time{}, errTicket
	}
	return data, time.Unix(int64(seconds), 0), nil
}

// validUserID tells whether s is user@realm. The user's part may hold anything but white space, ':' and '/', an @ too
// (Auth/Plugin.pm user_regex); the realm is what follows the last one. What can't be seen is refused as well, so that no
// user id looks like another.
func validUserID(s string) bool {
	at := strings.LastIndexByte(s, '@')
	return at > 0 && at < len(s)-1 && len(s) <= maxUserID && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r == ':' || r == '/' || unicode.IsSpace(r) || !unicode.IsPrint(r) })
}

// Challenge is a sign-in that waits for its second factor. It authenticates nothing. As with a Ticket, fmt and slog show
// whose it is only.
type Challenge struct {
	UserID string
	Ticket string // secret; PVE accepts it for TicketLifetime
	// The factors that the user may answer with. WebAuthn and U2F answers are bound to the origin of PVE's own pages, so
	// they can't be given from elsewhere.
	TOTP, Yubico, WebAuthn, U2F bool
	// Recovery holds the indices of the recovery keys that are left: nil when none were ever made, empty when all are
	// used up.
	Recovery []int
}

// maxRecovery is several times the number of keys that PVE makes for a user, which is 10.
const maxRecovery = 64

// parseChallenge reads the ticket of a first step that needs a second one: PVE:!tfa!JSON:TIME::SIGNATURE, where JSON has
// its colons escaped as %3A and no others (Ticket.pm assemble_rsa_ticket, proxmox-tfa TfaChallenge).
func parseChallenge(userID, ticket string) (Challenge, error) {
	if !strings.HasPrefix(ticket, challengePrefix) || !validUserID(userID) {
		return Challenge{}, errChallenge
	}
	data, _, err := splitTicket(ticket)
	if err != nil {
		return Challenge{}, errChallenge
	}
	text, err := url.PathUnescape(strings.TrimPrefix(data, "!tfa!"))
	if err != nil {
		return Challenge{}, errChallenge
	}
	var r record
	if json.Unmarshal([]byte(text), &r) != nil || r == nil {
		return Challenge{}, errChallenge
	}
	c := Challenge{
		UserID: userID, Ticket: ticket,
		TOTP:     r.bool("totp"),
		Yubico:   r.bool("yubico"),
		WebAuthn: !isNull(r["webauthn"]),
		U2F:      !isNull(r["u2f"]),
	}
	if raw := r["recovery"]; !isNull(raw) {
		var left []int
		if json.Unmarshal(raw, &left) != nil || len(left) > maxRecovery {
			return Challenge{}, errChallenge
		}
		c.Recovery = left
	}
	return c, nil
}
