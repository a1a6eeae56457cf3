package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"berth/internal/pve"
)

// Identity is who owns things in Berth: a user id as one datacenter vouches for it. The same user id of another
// datacenter is somebody else. Every row that a user owns is keyed by it.
type Identity struct {
	Datacenter string // Berth's own random id of the datacenter
	UserID     string // user@realm, as Proxmox VE returned it
}

// Hash is what an identity goes by where its name must not stand: 64 hexadecimal digits.
func (i Identity) Hash() string {
	sum := sha256.Sum256([]byte(i.Datacenter + "\x00" + i.UserID))
	return hex.EncodeToString(sum[:])
}

// LogValue shows both parts; neither is secret.
func (i Identity) LogValue() slog.Value {
	return slog.GroupValue(slog.String("datacenter", i.Datacenter), slog.String("user", i.UserID))
}

// Caller is who runs an authenticated action. Only the guard in front of the routes makes one, from a valid session or a
// valid access token.
type Caller struct {
	Identity Identity
	// Session is the zero value for a caller who came with an access token.
	Session Session
	// Token is the id of the access token that the caller came with, empty for a session.
	Token string
	// Scope is what the access token may do; it says nothing of a session, which may do everything.
	Scope Scope
}

// SignedIn tells whether the caller has a session, and with it a ticket. One with an access token has none.
func (c Caller) SignedIn() bool { return c.Session.Hash != Hash{} }

// Client is where a request came from, for people and for the audit trail. It proves nothing.
type Client struct {
	Address   netip.Addr // the zero value when it is unknown
	UserAgent string     // bounded
}

// Hash is the SHA-256 of a session's token: all that the store, the memory and the log ever know of it.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ID names a session to people and programs: the first half of its hash, from which neither the token nor the hash can be
// told.
type ID [16]byte

// ID is the session's name for people and programs.
func (h Hash) ID() ID { return ID(h[:len(ID{})]) }

// String is the id in hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String wrote, and nothing else.
func ParseID(text string) (ID, bool) {
	var id ID
	if len(text) != hex.EncodedLen(len(id)) || strings.ToLower(text) != text {
		return ID{}, false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return id, err == nil
}

const tokenBytes = 32

// newToken makes the text that the cookie carries.
func newToken() string {
	var raw [tokenBytes]byte
	rand.Read(raw[:])
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// HashToken hashes what a cookie carried. It tells false for a text that can't be a token, so that nothing needs to be
// looked up for it.
func HashToken(token string) (Hash, bool) {
	if len(token) != base64.RawURLEncoding.EncodedLen(tokenBytes) {
		return Hash{}, false
	}
	if strings.ContainsFunc(token, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_')
	}) {
		return Hash{}, false
	}
	return sha256.Sum256([]byte(token)), true
}

// Session is one signed-in browser or client, without its secret.
type Session struct {
	Hash      Hash
	Identity  Identity
	LoginHost string // id of the login host that vouched
	Realm     string
	Created   time.Time
	LastSeen  time.Time
	// Ends is the absolute limit, set when the session starts and never moved.
	Ends   time.Time
	Client Client
	// LastFrom is where the session was used from last, so that a stolen cookie shows. It is Client's address until then,
	// and the zero value when it is unknown.
	LastFrom netip.Addr
}

// Use is one use of a session.
type Use struct {
	At   time.Time
	From netip.Addr // the zero value when it is unknown
}

// Record is a session as the store keeps it.
type Record struct {
	Session
	// Secret is the sealed ticket with its CSRF token, and what the session was granted.
	Secret []byte
	// Generation counts renewals. A renewal replaces exactly the generation that it started from.
	Generation int64
	// TicketAt is when the ticket was received, by Berth's own clock.
	TicketAt time.Time
}

// ErrNone says that there is no such session: never was, has ended, or has run out.
var ErrNone = errors.New("no such session")

// Selection says which sessions are meant.
type Selection struct {
	// Of is whose; Everyone means all there are, whoever Of is.
	Of       Identity
	Everyone bool
	// Text is part of a user id, address or user agent, whatever its case (of ASCII letters); "" for any.
	Text string
	// SeenAfter and EndsAfter leave out what has run out.
	SeenAfter, EndsAfter time.Time
}

// Ended is a session that was ended with others.
type Ended struct {
	Hash     Hash
	Identity Identity
}

// Store keeps records. Every method may be called at the same time from many places, on several replicas; times come
// back to the millisecond, in UTC. A Store that can't be reached returns an error that is not ErrNone.
type Store interface {
	// CreateSession stores a new record. Its hash was never used before.
	CreateSession(ctx context.Context, r Record) error
	// FindSession returns ErrNone if there is no record under the hash, or it is marked as ended; it does not judge
	// whether it has run out.
	FindSession(ctx context.Context, h Hash) (Record, error)
	// FindSessionByID is FindSession by the session's id.
	FindSessionByID(ctx context.Context, id ID) (Record, error)
	// Sessions lists those that a selection means, last used first, at most so many.
	Sessions(ctx context.Context, s Selection, most int) ([]Session, error)
	// TouchSessions notes the last use of those records that still exist. LastSeen moves forward, never back; a use that is
	// not later than the last one changes nothing.
	TouchSessions(ctx context.Context, seen map[Hash]Use) error
	// RenewSession replaces secret and ticket time if the record still exists in the given generation, and counts the
	// generation up. It returns ErrNone if it does not.
	RenewSession(ctx context.Context, h Hash, generation int64, secret []byte, at time.Time) error
	// EndSession removes a record and marks its hash as ended, in one step; one that is not there is no error, and is
	// marked all the same. Until the mark is forgotten, at the given time or when the record itself would have ended,
	// whichever is later, no copy of the record that comes back, from a restored or another store, is alive.
	EndSession(ctx context.Context, h Hash, at, until time.Time) error
	// EndOtherSessions is EndSession for all that are Of an identity, or Everyone's, but one: all or none. Only these two
	// parts of the selection count. It returns which were ended.
	EndOtherSessions(ctx context.Context, s Selection, keep Hash, at, until time.Time) ([]Ended, error)
	// EndSessionsBefore removes what was last seen at or before idle, or ends at or before now, and counts them. Nothing
	// is marked, since what has run out is dead by its times, and marks that are over are forgotten.
	EndSessionsBefore(ctx context.Context, idle, now time.Time) (int64, error)
	// AgingSessions lists up to limit records whose ticket was received at or before the given time and that were used
	// since it was received.
	AgingSessions(ctx context.Context, ticketBefore time.Time, limit int) ([]Record, error)
}

// Renewer asks the login host that vouched for an identity for a new ticket, the old one serving as password. The ticket goes
// to login hosts of the identity's datacenter alone. It returns a *pve.Error of kind unauthenticated when the host refuses.
type Renewer interface {
	RenewTicket(ctx context.Context, of Identity, loginHost string, ticket pve.Ticket) (pve.Ticket, error)
}
