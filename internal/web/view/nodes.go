package view

import (
	"strconv"
	"strings"
	"time"
)

// Nodes is the page /settings/nodes.
type Nodes struct {
	Shell
	Rows     []Node
	LeftOver []LeftOverToken
	Most     int    // how many nodes one can have
	Done     string // what was just done, in a sentence
	Now      time.Time
}

// Node is one of the caller's nodes.
type Node struct {
	ID, Name, Address string
	Credential        string // session, made or token
	TokenID           string
	Expires           time.Time // of the token; zero if that is not known
	Fingerprint       string
	Shown             string // what its host shows in place of it now, to be confirmed; empty while it is accepted
	Pinned            bool
	IsDefault         bool
	// Problem says why the node can't be used, WayOut what can be done about it; both are empty when it works.
	Problem, WayOut string
	Rights          []NodeRight // nil when they are not known
	SameAs          []string    // names of the nodes that lead to the same installation
	Perhaps         []NodeRef   // nodes of which nobody has said yet whether they do
}

// NodeRef names another node.
type NodeRef struct{ ID, Name string }

// NodeRight is whether a node's credential may do one thing.
type NodeRight struct {
	Part, Privilege, Held string
	Paths                 []string
	More                  int
}

// credentialWords say what a node is called with.
func (n Node) credentialWords() string {
	switch n.Credential {
	case "session":
		return "your sign-in"
	case "made":
		return "a token that Berth made"
	}
	return "your token"
}

// rightWords are the parts as people know them.
var rightWords = map[string]string{
	"list": "see containers", "power": "start and stop", "config": "change tags and description", "snapshots": "take snapshots", "console": "open the console",
	"delete": "delete",
}

func (r NodeRight) words() string { return rightWords[r.Part] }

// where says for which containers a right is held.
func (r NodeRight) where() string {
	switch r.Held {
	case "everywhere":
		return "all containers"
	case "nowhere":
		return "none"
	}
	text := "only under " + strings.Join(r.Paths, ", ")
	if r.More > 0 {
		text += " and " + strconv.Itoa(r.More) + " more"
	}
	return text
}

// rightsSummary is what a credential may do, in a line.
func (n Node) rightsSummary() string {
	var some, none []string
	for _, r := range n.Rights {
		switch r.Held {
		case "some":
			some = append(some, r.words())
		case "nowhere":
			none = append(none, r.words())
		}
	}
	switch {
	case n.Rights == nil:
		return "not known just now"
	case len(some) == 0 && len(none) == 0:
		return "everything, for all containers"
	case len(none) == 0:
		return "everything, for some containers"
	case len(some) > 0:
		return "for some containers; may not " + strings.Join(none, ", ")
	}
	return "may not " + strings.Join(none, ", ")
}

// LeftOverToken is an API token on a host that Berth made and no node uses.
type LeftOverToken struct {
	ID, NodeName, Address, TokenID, Command string
	Expires                                 time.Time
	Certain, BySignIn                       bool
}

// LeftOverPage asks how a token that is left over is to go.
type LeftOverPage struct {
	Shell
	Token   LeftOverToken
	Errors  map[string]string
	Failure *Failure
	Confirm *Certificate
}

// NodeForm adds a node, or changes one.
type NodeForm struct {
	Shell
	Node *Node  // nil to add one
	Kind string // which of NodeKinds
	// What was typed; a secret never comes back.
	Name, Host, Port, Username, Realm, TokenID, LoginHost string
	LoginHosts                                            []LoginHostChoice
	Errors                                                map[string]string
	Failure                                               *Failure
	Confirm                                               *Certificate // to be confirmed
	Confirmed                                             string       // the fingerprint that was
	Tested                                                *TestedNode  // how a test ended well
}

// TestedNode is how a test ended well.
type TestedNode struct{ Version, Warning string }

// LoginHostChoice is a login host that the caller's sign-in is good for.
type LoginHostChoice struct{ ID, Address string }

// NodeKind is one way to reach a node.
type NodeKind struct{ Value, Credential, Label, Meaning string }

// NodeKinds are the ways to reach a node, in the order of their ease.
var NodeKinds = []NodeKind{
	{"session", "session", "My sign-in", "For the Proxmox installation that you signed in with. Nothing is stored; it works while you are signed in."},
	{"signin", "made", "Sign in there once", "For any other host. Your password makes an API token there and is forgotten."},
	{"own", "made", "A token for my sign-in", "For the installation that you signed in with, where programs shall work while you are away."},
	{"token", "token", "A token I paste", "For an API token that you have made yourself."},
}

// KindOf is the kind of a node.
func KindOf(n Node, atLoginHost bool) string {
	switch {
	case n.Credential == "made" && atLoginHost:
		return "own"
	case n.Credential == "made":
		return "signin"
	}
	return n.Credential
}

func (f NodeForm) credential() string {
	for _, k := range NodeKinds {
		if k.Value == f.Kind {
			return k.Credential
		}
	}
	return ""
}

// focus is the first field with an error; empty if none has.
func (f NodeForm) focus() string {
	for _, name := range []string{"name", "loginHost", "host", "port", "username", "realm", "password", "tokenId", "tokenSecret"} {
		if f.Errors[name] != "" {
			return name
		}
	}
	return ""
}

func (f NodeForm) path() string {
	if f.Node == nil {
		return "/settings/nodes/add"
	}
	return "/settings/nodes/" + f.Node.ID
}

// NodeSecondFactor asks for the second factor of a sign-in at a node's host.
type NodeSecondFactor struct {
	Shell
	Action                     string // where the answer goes, with what it is for
	UserID, Address, Challenge string
	Kinds                      []Factor
	Kind                       string
	BrowserKey                 bool
	Errors                     map[string]string
	Failure                    *Failure
}

// RemoveNode asks before a node is removed.
type RemoveNode struct {
	Shell
	Node Node
}

// User is whose the token is.
func (t LeftOverToken) User() string {
	user, _, _ := strings.Cut(t.TokenID, "!")
	return user
}

// joinNames are names in a sentence.
func joinNames(names []string) string { return strings.Join(names, ", ") }
