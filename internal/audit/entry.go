package audit

import (
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"berth/internal/session"
)

// Category says whose business an entry is beside its user's.
type Category string

// The categories that owners read of everybody, and the one that is its user's alone.
const (
	CategorySignIn  Category = "sign_in"
	CategorySession Category = "session"
	CategoryHost    Category = "host"
	CategoryKey     Category = "key"
	CategoryPrivate Category = "private"
)

// Shared are the categories that owners read of everybody.
var Shared = []Category{CategorySignIn, CategorySession, CategoryHost, CategoryKey}

// Action is what was done or tried. Its text is stable: it is stored, filtered by, and part of the API.
type Action string

// Actions. What concerns a user's own nodes and containers has no category but CategoryPrivate.
const (
	SignIn       Action = "sign_in"
	SecondFactor Action = "second_factor"
	SignOut      Action = "sign_out"
	// SessionEnd is the end of a session by its user from elsewhere, or by an owner; the entry's subject is whose it was.
	SessionEnd Action = "session_end"
	// SessionLost is the end of a session because Proxmox VE refused its ticket and the renewal.
	SessionLost Action = "session_lost"

	InstallationClaim Action = "installation_claim"
	HostAdd           Action = "host_add"
	HostRepin         Action = "host_repin"
	// HostCertificate is a new certificate of a login host that was accepted because its key is the pinned one, or because it
	// verifies and no key is pinned.
	HostCertificate Action = "host_certificate"
	HostRemove      Action = "host_remove"

	KeyRotate Action = "key_rotate"
	KeyRetire Action = "key_retire"

	TokenCreate Action = "token_create"
	TokenRevoke Action = "token_revoke"
	// What is done to a container; the detail names the task.
	ContainerStart    Action = "container_start"
	ContainerShutdown Action = "container_shutdown"
	ContainerStop     Action = "container_stop"
	ContainerReboot   Action = "container_reboot"
	ContainerSuspend  Action = "container_suspend"
	ContainerResume   Action = "container_resume"
	ContainerTag      Action = "container_tag"
	ContainerEdit     Action = "container_edit"
	ContainerDelete   Action = "container_delete"
	// TaskStop is the end of a running task before its time.
	TaskStop Action = "task_stop"

	NodeAdd     Action = "node_add"
	NodeChange  Action = "node_change"
	NodeDefault Action = "node_default"
	NodeRemove  Action = "node_remove"
	// NodeTokenRemove is the removal of an API token that Berth had made on a host.
	NodeTokenRemove Action = "node_token_remove"
)

var categories = map[Action]Category{
	SignIn: CategorySignIn, SecondFactor: CategorySignIn,
	SignOut: CategorySession, SessionEnd: CategorySession, SessionLost: CategorySession,
	InstallationClaim: CategoryHost, HostAdd: CategoryHost, HostRepin: CategoryHost, HostCertificate: CategoryHost, HostRemove: CategoryHost,
	KeyRotate: CategoryKey, KeyRetire: CategoryKey,
	TokenCreate: CategoryPrivate, TokenRevoke: CategoryPrivate,
	ContainerStart: CategoryPrivate, ContainerShutdown: CategoryPrivate, ContainerStop: CategoryPrivate, ContainerReboot: CategoryPrivate,
	ContainerSuspend: CategoryPrivate, ContainerResume: CategoryPrivate, ContainerTag: CategoryPrivate, ContainerEdit: CategoryPrivate, ContainerDelete: CategoryPrivate,
	TaskStop: CategoryPrivate,
	NodeAdd:  CategoryPrivate, NodeChange: CategoryPrivate, NodeDefault: CategoryPrivate, NodeRemove: CategoryPrivate, NodeTokenRemove: CategoryPrivate,
}

// Actions lists all actions, in the order in which they are offered to people.
var Actions = []Action{
	SignIn, SecondFactor, SignOut, SessionEnd, SessionLost,
	InstallationClaim, HostAdd, HostRepin, HostCertificate, HostRemove,
	KeyRotate, KeyRetire,
	TokenCreate, TokenRevoke,
	ContainerStart, ContainerShutdown, ContainerStop, ContainerReboot, ContainerSuspend, ContainerResume, ContainerTag, ContainerEdit, ContainerDelete, TaskStop,
	NodeAdd, NodeChange, NodeDefault, NodeRemove, NodeTokenRemove,
}

// Category is the category of an action; an action that was given none is its user's alone.
func (a Action) Category() Category {
	if c, ok := categories[a]; ok {
		return c
	}
	return CategoryPrivate
}

// Result is how it ended.
type Result string

const (
	// OK: it was done.
	OK Result = "ok"
	// Refused: it was not allowed, or not believed.
	Refused Result = "refused"
	// Failed: it was allowed, and did not work.
	Failed Result = "failed"
)

// Entry is one line of the trail.
type Entry struct {
	// ID orders entries: a later one has a higher id. The store gives it.
	ID int64
	// At is when it happened; Record fills it in.
	At time.Time
	// Identity is who did it. Without a datacenter nobody was signed in, and the user id is what was typed. Both parts
	// are empty for what the operator did on the command line and for what Berth did by itself.
	Identity session.Identity
	// Subject is whose session or thing it was done to, if that was somebody else; empty otherwise.
	Subject session.Identity
	// Address is where it came from; Record takes it from the context (session.WithClient) when it is not set.
	Address netip.Addr
	Action  Action
	// Target is what it was done to, as people know it: the address of a login host, a device.
	Target string
	Result Result
	// ErrorID is what the one who asked was shown, and what the log has the cause under.
	ErrorID string
	// Detail is one more line for people. It never holds a secret, nor anything that a host or a stranger sent.
	Detail string
	// Count is how many attempts the entry stands for, 1 if it is not a summary.
	Count int64
}

// Bounds of the texts, in bytes.
const (
	maxUserID = 64
	maxTarget = 270 // a host name with its port
	maxID     = 32
	maxDetail = 400
)

func (e *Entry) clean() {
	e.Identity.UserID = clean(e.Identity.UserID, maxUserID)
	e.Subject.UserID = clean(e.Subject.UserID, maxUserID)
	e.Target = clean(e.Target, maxTarget)
	e.ErrorID = clean(e.ErrorID, maxID)
	e.Detail = clean(e.Detail, maxDetail)
}

// clean is a text without control and direction characters and at most so many bytes of it.
func clean(s string, most int) string {
	// What can't fit need not be looked at.
	if len(s) > 4*most {
		s = s[:4*most]
	}
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
