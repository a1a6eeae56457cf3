package token

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"berth/internal/session"
)

// Token is an access token without its secret.
type Token struct {
	ID       string
	Identity session.Identity
	Name     string // unique among the tokens of its identity
	Scope    session.Scope
	Created  time.Time
	Expires  time.Time
	LastUsed time.Time // the zero value until it is used
}

// Hash is the SHA-256 of a token's text: all that the store, the memory and the log ever know of it.
type Hash [sha256.Size]byte

// Record is a token as it is stored first.
type Record struct {
	Token
	Hash Hash
}

// prefix makes a token known to people, and to programs that look for secrets in what is published.
const prefix = "berth_"

const secretBytes = 32

// newText makes the text of a token.
func newText() string {
	var raw [secretBytes]byte
	rand.Read(raw[:])
	return prefix + base64.RawURLEncoding.EncodeToString(raw[:])
}

// HashText hashes the text of a token. It tells false for what can't be one, so that nothing needs to be looked up for it.
func HashText(text string) (Hash, bool) {
	secret, ok := strings.CutPrefix(text, prefix)
	if !ok || len(secret) != base64.RawURLEncoding.EncodedLen(secretBytes) {
		return Hash{}, false
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(secret); err != nil {
		return Hash{}, false
	}
	return sha256.Sum256([]byte(text)), true
}

// What a Store says.
var (
	// ErrNone says that there is no such token: never was, was revoked, or is somebody else's.
	ErrNone = errors.New("no such access token")
	// ErrNameTaken says that the identity has a token of that name.
	ErrNameTaken = errors.New("the name of the access token is taken")
	// ErrTooMany says that the identity has as many tokens as it may have.
	ErrTooMany = errors.New("too many access tokens")
)

// Store keeps tokens. Every method may be called at the same time from many places, on several replicas; times come back
// to the millisecond, in UTC. A Store that can't be reached returns an error that is none of those above.
type Store interface {
	// CreateToken stores a new token. It returns ErrNameTaken if its identity has one of that name, and ErrTooMany if it
	// has so many already, those that have expired among them.
	CreateToken(ctx context.Context, r Record, most int) error
	// FindToken returns ErrNone if there is no token under the hash; it does not judge whether it has expired.
	FindToken(ctx context.Context, h Hash) (Token, error)
	// Tokens lists those of an identity, the newest first.
	Tokens(ctx context.Context, of session.Identity) ([]Token, error)
	// RevokeToken removes a token of an identity and returns it. It returns ErrNone if the identity has none of that id.
	RevokeToken(ctx context.Context, of session.Identity, id string) (Token, error)
	// TouchTokens notes the last use of those tokens that still exist, by id. It moves forward, never back.
	TouchTokens(ctx context.Context, used map[string]time.Time) error
	// RemoveTokensExpired removes what expired at or before a time, and counts it.
	RemoveTokensExpired(ctx context.Context, before time.Time) (int64, error)
}
