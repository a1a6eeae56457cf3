package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"berth/internal/auth"
	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/seal"
	"berth/internal/session"
)

// Pending is an auth.PendingStore in Redis. What it keeps is sealed: an attempt holds what Proxmox VE gave for the password.
type Pending struct {
	client  *Client
	sealer  *seal.Sealer
	waiting waiting
}

var _ auth.PendingStore = (*Pending)(nil)

// NewPending returns a store of sign-ins that wait for their second factor. Without a sealer it keeps and opens none.
func NewPending(c *Client, sealer *seal.Sealer, now func() time.Time) *Pending {
	return &Pending{client: c, sealer: sealer, waiting: waiting{
		client: c, name: "pending", mostInGroup: auth.MaxPendingAtHost, mostWeight: auth.MaxPendingBytes, now: now,
	}}
}

// place is where something of a waiting room belongs.
func (w *waiting) place(row string) seal.Place {
	return seal.Place{Table: w.name, Column: "attempt", Row: row}
}

// keptAttempt is an attempt in JSON. The challenge stands beside it, since pve.Challenge lets itself be written nowhere.
type keptAttempt struct {
	auth.Attempt
	Challenge keptChallenge
}

type keptChallenge pve.Challenge

// KeepAttempt implements auth.PendingStore.
func (p *Pending) KeepAttempt(ctx context.Context, key [sha256.Size]byte, a auth.Attempt, until time.Time) error {
	text, err := json.Marshal(keptAttempt{Attempt: a, Challenge: keptChallenge(a.Challenge)})
	if err != nil {
		return err
	}
	return p.sealer.Keep(text, p.waiting.place(hex.EncodeToString(key[:])), func(sealed []byte) error {
		return p.waiting.keep(ctx, key, a.Address.String(), a.Weight(), string(sealed), "", until)
	})
}

// PendingAttempt implements auth.PendingStore.
func (p *Pending) PendingAttempt(ctx context.Context, key [sha256.Size]byte) (auth.Attempt, error) {
	sealed, err := p.waiting.peek(ctx, key)
	if err != nil {
		return auth.Attempt{}, err
	}
	text, err := p.sealer.Open([]byte(sealed), p.waiting.place(hex.EncodeToString(key[:])))
	if err != nil {
		return auth.Attempt{}, err
	}
	var kept keptAttempt
	if err := json.Unmarshal(text, &kept); err != nil {
		// The decoder's own error could quote the secret.
		return auth.Attempt{}, errors.New("a sign-in that waits is not in the expected form")
	}
	a := kept.Attempt
	a.Challenge = pve.Challenge(kept.Challenge)
	return a, nil
}

// DropAttempt implements auth.PendingStore.
func (p *Pending) DropAttempt(ctx context.Context, key [sha256.Size]byte) error {
	return p.waiting.drop(ctx, key)
}

// OpenID is an auth.OpenIDStore in Redis. What it keeps is sealed: an attempt says which host is to be believed who came back.
type OpenID struct {
	sealer  *seal.Sealer
	waiting waiting
}

var _ auth.OpenIDStore = (*OpenID)(nil)

// NewOpenID returns a store of sign-ins that are at an identity provider. Without a sealer it keeps and opens none.
func NewOpenID(c *Client, sealer *seal.Sealer, now func() time.Time) *OpenID {
	return &OpenID{sealer, waiting{client: c, name: "openid", mostInGroup: auth.MaxOpenIDOfNetwork, mostWeight: auth.MaxOpenID, now: now}}
}

// KeepOpenID implements auth.OpenIDStore.
func (o *OpenID) KeepOpenID(ctx context.Context, state [sha256.Size]byte, a auth.OpenIDAttempt, until time.Time) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return o.sealer.Keep(text, o.waiting.place(hex.EncodeToString(state[:])), func(sealed []byte) error {
		return o.waiting.keep(ctx, state, a.Network, 1, string(sealed), hex.EncodeToString(a.Browser[:]), until)
	})
}

// TakeOpenID implements auth.OpenIDStore.
func (o *OpenID) TakeOpenID(ctx context.Context, state, browser [sha256.Size]byte) (auth.OpenIDAttempt, error) {
	sealed, err := o.waiting.take(ctx, state, hex.EncodeToString(browser[:]))
	if err != nil {
		return auth.OpenIDAttempt{}, err
	}
	text, err := o.sealer.Open([]byte(sealed), o.waiting.place(hex.EncodeToString(state[:])))
	if err != nil {
		return auth.OpenIDAttempt{}, err
	}
	var a auth.OpenIDAttempt
	if err := json.Unmarshal(text, &a); err != nil {
		return auth.OpenIDAttempt{}, err
	}
	if a.Browser != browser {
		return auth.OpenIDAttempt{}, auth.ErrNoAttempt // Redis said something else
	}
	return a, nil
}

// NodeSignIns is a node.WaitingStore in Redis. What it keeps is sealed: it holds what Proxmox VE gave for a password, and says what
// is to be done with it.
type NodeSignIns struct {
	sealer  *seal.Sealer
	waiting waiting
}

var _ node.WaitingStore = (*NodeSignIns)(nil)

// NewNodeSignIns returns a store of sign-ins at hosts of nodes that wait for their second factor. Without a sealer it keeps and
// opens none.
func NewNodeSignIns(c *Client, sealer *seal.Sealer, now func() time.Time) *NodeSignIns {
	return &NodeSignIns{sealer, waiting{client: c, name: "node-sign-in", mostInGroup: node.MaxWaitingOfOne, mostWeight: node.MaxWaiting, now: now}}
}

// keptWaiting is what waits in JSON; see keptAttempt.
type keptWaiting struct {
	node.Waiting
	Challenge keptChallenge
}

// KeepWaiting implements node.WaitingStore.
func (n *NodeSignIns) KeepWaiting(ctx context.Context, key [sha256.Size]byte, w node.Waiting, until time.Time) error {
	text, err := json.Marshal(keptWaiting{Waiting: w, Challenge: keptChallenge(w.Challenge)})
	if err != nil {
		return err
	}
	return n.sealer.Keep(text, n.waiting.place(hex.EncodeToString(key[:])), func(sealed []byte) error {
		return n.waiting.keep(ctx, key, w.Owner.Datacenter+"\x00"+w.Owner.UserID, 1, string(sealed), "", until)
	})
}

// FindWaiting implements node.WaitingStore.
func (n *NodeSignIns) FindWaiting(ctx context.Context, key [sha256.Size]byte, of session.Identity) (node.Waiting, error) {
	sealed, err := n.waiting.peek(ctx, key)
	if errors.Is(err, auth.ErrNoAttempt) {
		err = node.ErrNotWaiting
	}
	if err != nil {
		return node.Waiting{}, err
	}
	text, err := n.sealer.Open([]byte(sealed), n.waiting.place(hex.EncodeToString(key[:])))
	if err != nil {
		return node.Waiting{}, err
	}
	var kept keptWaiting
	if err := json.Unmarshal(text, &kept); err != nil {
		return node.Waiting{}, errors.New("a sign-in at a host that waits is not in the expected form")
	}
	if kept.Owner != of {
		return node.Waiting{}, node.ErrNotWaiting
	}
	w := kept.Waiting
	w.Challenge = pve.Challenge(kept.Challenge)
	return w, nil
}

// DropWaiting implements node.WaitingStore.
func (n *NodeSignIns) DropWaiting(ctx context.Context, key [sha256.Size]byte) error {
	_, err := n.waiting.take(ctx, key, "")
	if errors.Is(err, auth.ErrNoAttempt) {
		return node.ErrNotWaiting
	}
	return err
}
