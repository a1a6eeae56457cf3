package node

import (
	"context"
	"errors"
	"time"

	"berth/internal/pve"
	"berth/internal/session"
)

// Record is a node as the store keeps it.
type Record struct {
	Node
	// Secret is the sealed secret of the token; nil for a node that goes by the session's ticket.
	Secret []byte
	// Members is what the node showed of the installation behind it.
	Members Members
	// SaidGroup is shared by nodes whose owner said that they lead to the same installation; empty for none.
	SaidGroup string
	// Version counts the changes of what else is in a record that a change would write back; the store counts it.
	Version int64
}

// Members is what a node showed of the installation behind it when it was tested last. A host may write into it what it
// likes.
type Members struct {
	// Names are those of the cluster's members.
	Names []string `json:"names,omitempty"`
	// Fingerprints are of the certificates that the members name as theirs.
	Fingerprints []pve.Fingerprint `json:"fingerprints,omitempty"`
	// Guests are hashes of member, VMID and name of guests.
	Guests []string `json:"guests,omitempty"`
	// Shared says that the node's own certificate is for many names, so that another installation could present it too.
	Shared bool `json:"shared,omitempty"`
}

// TokenState is how far Berth is with a token that it makes on a host.
type TokenState string

const (
	// TokenPending: the call that makes it was begun. Once that is a while ago, nobody knows whether the token exists.
	TokenPending TokenState = "pending"
	// TokenActive: a node uses it.
	TokenActive TokenState = "active"
	// TokenLeftOver: no node uses it any more, and it was not removed on the host, as far as Berth knows.
	TokenLeftOver TokenState = "left_over"
)

// MadeToken is an API token that Berth made on a host, or began to. Its secret is the node's.
type MadeToken struct {
	ID       string
	Owner    session.Identity
	NodeID   string
	NodeName string
	Address  pve.Address
	// LoginHost and Key are as those of the node.
	LoginHost string
	Key       *pve.KeyPin
	TokenID   string // user@realm!name
	State     TokenState
	Created   time.Time
	Expires   time.Time
}

// Errors of a Store.
var (
	// ErrNoIdentity says that the identity has never signed in since there are nodes.
	ErrNoIdentity = errors.New("no such identity")
	// ErrNone says that the identity has no such node or token.
	ErrNone = errors.New("no such node")
	// ErrNameTaken says that another node of the identity has the name.
	ErrNameTaken = errors.New("the name is taken")
	// ErrChanged says that a node is not what a change of it was made from any more.
	ErrChanged = errors.New("the node has changed meanwhile")
	// ErrTooMany says that the identity has as many nodes as it may have.
	ErrTooMany = errors.New("too many nodes")
)

// Store keeps identities and their nodes. Every method may be called at the same time from many places, on several
// replicas; each is one step, of which all or nothing stands. Of an identity that has nodes exactly one is the default
// at any time. Times come back to the millisecond, in UTC.
type Store interface {
	// Welcome makes an identity, with its first node, which is its default, unless it is there already. It tells whether
	// it made it.
	Welcome(ctx context.Context, first Record, signedIn time.Time) (bool, error)
	// NoteSignIn notes when an identity signed in last. It returns ErrNoIdentity if there is none.
	NoteSignIn(ctx context.Context, of session.Identity, at time.Time) error
	// LastSignIn returns ErrNoIdentity if there is none.
	LastSignIn(ctx context.Context, of session.Identity) (time.Time, error)
	// RemoveIdle removes identities, at most so many at a time, that last signed in before a time and that have nothing but
	// the node that they were welcomed with: no session, no access token, no token that was made on a host, no operation. It
	// returns them.
	RemoveIdle(ctx context.Context, before time.Time, most int) ([]session.Identity, error)
	// Preferences are what SetPreferences stored, "" at first. Both return ErrNoIdentity if there is none.
	Preferences(ctx context.Context, of session.Identity) (string, error)
	SetPreferences(ctx context.Context, of session.Identity, text string) error

	// Nodes lists the nodes of an identity, the default first, then by name. It returns ErrNoIdentity if there is none.
	Nodes(ctx context.Context, of session.Identity) ([]Record, error)
	// CreateNode stores a new node, which is the default if it is the first or says so. made is the pending token that it
	// uses, active from now on; empty for none. It returns ErrNameTaken, ErrTooMany if there are most nodes already, or
	// ErrNoIdentity.
	CreateNode(ctx context.Context, r Record, made string, most int) error
	// ChangeNode replaces a node, but for whether it is the default. A made token that it used before is left over. made is
	// as for CreateNode. It returns ErrNameTaken, ErrNone if the node is not there any more, or ErrChanged if it has
	// another version than r.
	ChangeNode(ctx context.Context, r Record, made string) error
	// RenameNode changes nothing but a node's name. It returns ErrNameTaken or ErrNone.
	RenameNode(ctx context.Context, of session.Identity, id, name string) error
	// NoteMembers notes the fingerprint and the members that a node showed when it was tested. One that was removed in the
	// meantime, or leads to another address, stays as it is.
	NoteMembers(ctx context.Context, r Record) error
	// RemoveNode removes a node; a made token of its is left over. If it was the default, the next by name is. It returns
	// ErrNone if there is none.
	RemoveNode(ctx context.Context, of session.Identity, id string) error
	// SetDefaultNode makes a node the default. It returns ErrNone if there is none.
	SetDefaultNode(ctx context.Context, of session.Identity, id string) error
	// GroupNodes notes that nodes of an identity lead to the same installation, as their owner says.
	GroupNodes(ctx context.Context, of session.Identity, group string, ids ...string) error

	// NodesShowing lists nodes, whoever owns them, that have a key pinned or that showed one of the certificates.
	NodesShowing(ctx context.Context, key *pve.KeyPin, shown []pve.Fingerprint) ([]Record, error)
	// DatacentersPinning lists the datacenters that have a login host with a key pinned.
	DatacentersPinning(ctx context.Context, key pve.KeyPin) ([]string, error)
	// JoinClusters makes the nodes of some clusters nodes of another one, and the operations under way through them its. Those
	// that go by a session's ticket stay.
	JoinClusters(ctx context.Context, into string, from []string) error

	// BeginToken stores a token that is about to be made.
	BeginToken(ctx context.Context, t MadeToken) error
	// MadeTokens lists the tokens that were made for an identity, the oldest first.
	MadeTokens(ctx context.Context, of session.Identity) ([]MadeToken, error)
	// LeaveToken makes a token left over, and DropToken forgets it. Both return ErrNone if there is none.
	LeaveToken(ctx context.Context, of session.Identity, id string) error
	DropToken(ctx context.Context, of session.Identity, id string) error
	// ExtendToken notes when the token that a node uses expires. It returns ErrNone if the node uses another one.
	ExtendToken(ctx context.Context, of session.Identity, nodeID, tokenID string, expires time.Time) error
}
