package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"time"

	"berth/internal/session"
)

// familiarLife is how long a browser or address stays familiar with an account that is not signed in to from there.
const familiarLife = 180 * 24 * time.Hour

// MarkKind is what a Mark is of.
type MarkKind string

const (
	MarkBrowser MarkKind = "browser"
	MarkAddress MarkKind = "address"
)

// Mark is the SHA-256 of what a browser or an address is recognised by. That of an address hides it from a reader's eye and
// no more: there are few enough to try them all, and sessions and audit name them anyway.
type Mark struct {
	Kind MarkKind
	Hash [sha256.Size]byte
}

// FamiliarStore remembers from where accounts were signed in to. The user id of an identity comes in lower case, as
// attempts are counted. It is bounded: of each account and kind it keeps the latest few, of each datacenter a few thousand,
// so that a datacenter that vouches for anybody can't push out the marks of another.
type FamiliarStore interface {
	// IsFamiliar tells whether the account was signed in to from there, at or after a time.
	IsFamiliar(ctx context.Context, who session.Identity, m Mark, since time.Time) (bool, error)
	// NoteFamiliar notes that the account was signed in to from there.
	NoteFamiliar(ctx context.Context, who session.Identity, m Mark, at time.Time) error
	// ReplaceMark puts a new mark in the place of one, for all accounts that know it.
	ReplaceMark(ctx context.Context, from, to Mark) error
	// ForgetFamiliarBefore removes what was last noted before a time.
	ForgetFamiliarBefore(ctx context.Context, before time.Time) error
}

type browserKey struct{}

// WithBrowser notes that a request comes from a browser that keeps cookies, and what it brought of its last sign-in: the
// Browser of that SignedIn, or an empty text. Programs are known by their address alone.
func WithBrowser(ctx context.Context, token string) context.Context {
	return context.WithValue(ctx, browserKey{}, token)
}

// browserFrom is the token of a browser; it may be empty, or anything that somebody planted there. keeps tells whether the
// client keeps cookies at all.
func browserFrom(ctx context.Context) (token string, keeps bool) {
	token, keeps = ctx.Value(browserKey{}).(string)
	if len(token) != len(rand.Text()) {
		token = ""
	}
	return token, keeps
}

func browserMark(token string) Mark {
	return Mark{Kind: MarkBrowser, Hash: sha256.Sum256([]byte("browser\x00" + token))}
}

func addressMark(a netip.Addr) Mark {
	return Mark{Kind: MarkAddress, Hash: sha256.Sum256([]byte("address\x00" + network(a)))}
}

// knows tells whether an account was signed in to from this browser, or else from this address.
func (t *Throttle) knows(ctx context.Context, who session.Identity) (browser, address bool, err error) {
	if who.Datacenter == "" {
		return false, false, nil
	}
	since := t.now().Add(-familiarLife)
	if token, _ := browserFrom(ctx); token != "" {
		if browser, err = t.familiar.IsFamiliar(ctx, who, browserMark(token), since); browser || err != nil {
			return browser, false, err
		}
	}
	if from := session.ClientFrom(ctx).Address; from.IsValid() {
		address, err = t.familiar.IsFamiliar(ctx, who, addressMark(from), since)
	}
	return false, address, err
}

// remember notes a successful sign-in. It returns the browser's new token, or an empty text for a program.
//
// The token is a new one each time: one that somebody planted in the browser before never becomes familiar, and a copied
// one is worth nothing after the next sign-in.
func (t *Throttle) remember(ctx context.Context, who session.Identity) (token string, err error) {
	if from := session.ClientFrom(ctx).Address; from.IsValid() {
		if err := t.familiar.NoteFamiliar(ctx, who, addressMark(from), t.now()); err != nil {
			return "", err
		}
	}
	old, keeps := browserFrom(ctx)
	if !keeps {
		return "", nil
	}
	token = rand.Text()
	if old != "" {
		if err := t.familiar.ReplaceMark(ctx, browserMark(old), browserMark(token)); err != nil {
			return "", err
		}
	}
	return token, t.familiar.NoteFamiliar(ctx, who, browserMark(token), t.now())
}

// Sweep forgets browsers and addresses that were not used for long.
func (t *Throttle) Sweep(ctx context.Context) error {
	return t.familiar.ForgetFamiliarBefore(ctx, t.now().Add(-familiarLife))
}
