package pve

import (
	"context"
	"encoding/json"
	"path"
	"slices"
	"time"
)

// Permissions are the privileges that a user or token holds, by ACL path ("/vms/101") and privilege ("VM.Audit"). A
// privilege that is in the map is held at that path; its value tells whether it propagates to what lies below.
type Permissions map[string]map[string]bool

// Has tells whether a privilege is held at exactly this path. PVE lists its top paths ("/", "/vms", "/nodes", "/storage",
// ...) and every path that has an ACL entry; what holds for a path that isn't listed follows from the ones above it.
func (p Permissions) Has(path, privilege string) bool {
	_, ok := p[path][privilege]
	return ok
}

// Holds tells whether a privilege is held at a path, as far as it can be told: where the path isn't listed, by the nearest
// one above it that is and passes the privilege on. PVE lists no path at which nothing is held, so an entry that takes
// everything away is not seen; PVE itself decides.
func (p Permissions) Holds(at, privilege string) bool {
	if _, listed := p[at]; listed {
		return p.Has(at, privilege)
	}
	for at != "/" && at != "." {
		at = path.Dir(at)
		if held, listed := p[at]; listed {
			return held[privilege] // true if it propagates
		}
	}
	return false
}

// maxPermissionsBody holds some 800 paths with every privilege that there is, and many more with a role's.
const maxPermissionsBody = 1 << 20

// Permissions asks what the credentials may do. Everybody may ask that about themselves.
func (h *Host) Permissions(ctx context.Context, credentials Credentials) (Permissions, error) {
	c := get(credentials, "access", "permissions")
	c.maxBody = maxPermissionsBody
	a, err := h.do(ctx, c)
	if err != nil {
		return nil, err
	}
	if a.data == nil {
		return Permissions{}, nil
	}
	paths := flags(a.data)
	if paths == nil {
		return nil, h.notProxmox(c, a, "the answer is not an object")
	}
	return paths, nil
}

// flags reads an object of objects of booleans. What has another shape is left out.
func flags(raw json.RawMessage) map[string]map[string]bool {
	var outer record
	if isNull(raw) || json.Unmarshal(raw, &outer) != nil {
		return nil
	}
	result := make(map[string]map[string]bool, len(outer))
	for name, raw := range outer {
		var inner record
		if json.Unmarshal(raw, &inner) != nil {
			continue
		}
		set := make(map[string]bool, len(inner))
		for privilege := range inner {
			set[privilege] = inner.bool(privilege)
		}
		result[name] = set
	}
	return result
}

// TokenOptions say what a new token may do and how long.
type TokenOptions struct {
	// FullPrivileges gives the token everything that its user may do. Otherwise it holds what is granted to it as well,
	// which at first is nothing (privsep in PVE).
	FullPrivileges bool
	// Expire is when it stops working; zero means with its user.
	Expire  time.Time
	Comment string
}

// CreateToken makes an API token for a user id. PVE shows the secret this once. A name that is taken is
// KindInvalidParameters with Fields["tokenid"]; a token may not make tokens.
func (h *Host) CreateToken(ctx context.Context, credentials Credentials, userID, name string, o TokenOptions) (Token, error) {
	c := post(credentials, "access", "users", userID, "token", name)
	c.set("privsep", "1")
	if o.FullPrivileges {
		c.set("privsep", "0")
	}
	if !o.Expire.IsZero() {
		c.setInt("expire", o.Expire.Unix())
	}
	if o.Comment != "" {
		c.set("comment", o.Comment)
	}
	r, a, err := h.object(ctx, c)
	if err != nil {
		return Token{}, err
	}
	t := Token{ID: userID + "!" + name, Secret: r.text("value")}
	if r.text("full-tokenid") != t.ID || !headerSafe(t.Secret) {
		return Token{}, h.notProxmox(c, a, "the answer is not a token")
	}
	return t, nil
}

// TokenInfo is what PVE tells of an API token. Its secret is no part of it.
type TokenInfo struct {
	Name           string    // the part of its id behind the exclamation mark
	FullPrivileges bool      // see TokenOptions
	Expire         time.Time // zero: with its user
	Comment        string
}

// Tokens lists a user's API tokens. Users may ask that about themselves, by ticket: a token may not, whatever it holds.
func (h *Host) Tokens(ctx context.Context, credentials Credentials, userID string) ([]TokenInfo, error) {
	list, _, err := rows(ctx, h, get(credentials, "access", "users", userID, "token"), readTokenInfo)
	return slices.DeleteFunc(list, func(t TokenInfo) bool { return t.Name == "" }), err
}

func readTokenInfo(r record) TokenInfo {
	return TokenInfo{
		Name:           r.name("tokenid"),
		FullPrivileges: r.text("privsep") != "" && !r.bool("privsep"), // its default is 1
		Expire:         r.time("expire"),
		Comment:        r.prose("comment"),
	}
}

// SetTokenExpiry sets when a token stops working; zero means with its user. All else about the token stays as it is. One
// that isn't there is KindNotFound.
func (h *Host) SetTokenExpiry(ctx context.Context, credentials Credentials, userID, name string, expire time.Time) error {
	c := put(credentials, "access", "users", userID, "token", name)
	c.setInt("expire", 0)
	if !expire.IsZero() {
		c.setInt("expire", expire.Unix())
	}
	_, err := h.do(ctx, c)
	return err
}

// DeleteToken removes an API token; it stops working at once. One that isn't there is KindNotFound.
func (h *Host) DeleteToken(ctx context.Context, credentials Credentials, userID, name string) error {
	_, err := h.do(ctx, remove(credentials, "access", "users", userID, "token", name))
	return err
}
