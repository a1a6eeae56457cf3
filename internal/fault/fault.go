package fault

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"
)

// Kind sorts errors by what the one who asked can do about them.
type Kind int

const (
	// Internal is the kind of every error that isn't a fault: nothing about it may be shown.
	Internal Kind = iota
	// Invalid input: Fields says where.
	Invalid
	// Malformed: the request as such can't be read.
	Malformed
	// TooLarge: more than is ever needed.
	TooLarge
	// Unsupported: a form of request that is not understood here.
	Unsupported
	// Unauthenticated: nobody is signed in, or the sign-in was refused.
	Unauthenticated
	// Forbidden: signed in, and not allowed.
	Forbidden
	// NotFound also stands for what exists but isn't the caller's.
	NotFound
	// NotAllowed: the path is there, but not for this method.
	NotAllowed
	// Conflict: what was asked does not fit the state of things.
	Conflict
	// Throttled: too many attempts; RetryAfter says how long to wait.
	Throttled
	// Unreachable: a Proxmox VE host did not answer.
	Unreachable
	// Unavailable: a store or service of Berth's own did not answer.
	Unavailable
	// Misdirected: asked for under a host name that is not Berth's.
	Misdirected
)

// Error is an error with a message for whoever asked. Message, Hint and Fields are shown as they are, so they never hold
// a secret nor what a stranger must not learn; Cause goes to the log alone.
type Error struct {
	Kind Kind
	// Code is stable and meant for programs: "invalid_input", "certificate_unknown".
	Code    string
	Message string
	// Hint is at most one more line that helps.
	Hint string
	// Fields holds one message per input field, by the field's name in forms and JSON.
	Fields map[string]string
	// RetryAfter is how long to wait before trying again; 0 says nothing about it.
	RetryAfter time.Duration
	// Details are further members of the answer for programs, such as the fingerprint of an unknown certificate.
	Details map[string]any
	Cause   error
	// ID is what the log has the cause under, and what is shown instead of it. It is made when the error is answered,
	// or before that (NewID) where something else has to name it too.
	ID string
}

// NewID makes an id for an error: short enough to be read out, long enough to be found.
func NewID() string { return strings.ToLower(rand.Text()[:8]) }

type requestKey struct{}

// WithRequest notes the id of the request that something is done for, for whoever logs it.
func WithRequest(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// RequestID is the id of the request that something is done for; empty outside of one.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// Error is the text for the log: the message with its cause.
func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Message
	}
	return e.Message + ": " + e.Cause.Error()
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }

// As returns the first fault in the chain of err, or nil.
func As(err error) *Error {
	var f *Error
	if errors.As(err, &f) {
		return f
	}
	return nil
}

// KindOf is the kind of the first fault in the chain of err, Internal where there is none.
func KindOf(err error) Kind {
	if f := As(err); f != nil {
		return f.Kind
	}
	return Internal
}

// InvalidInput reports every field that was refused, or nil when none was, so that a validation can end with it.
func InvalidInput(fields map[string]string) error {
	if len(fields) == 0 {
		return nil
	}
	return &Error{Kind: Invalid, Code: "invalid_input", Message: "Please check the marked fields.", Fields: fields}
}

// SignInRequired is the answer to whoever needs a valid session and has none.
func SignInRequired() *Error {
	return &Error{Kind: Unauthenticated, Code: "authentication_required", Message: "Authentication required. Please log in."}
}

// NoSuch is the answer for what does not exist, or is somebody else's; what names it: "container", "page".
func NoSuch(what string) *Error {
	return &Error{Kind: NotFound, Code: "not_found", Message: "There is no such " + what + "."}
}

// StoreDown says that a store of Berth's own did not answer. Nobody is signed out by it. A cause that says so already is returned
// as it is, since it may know more.
func StoreDown(cause error) *Error {
	if f := As(cause); f != nil && f.Kind == Unavailable {
		return f
	}
	return &Error{Kind: Unavailable, Code: "store_unavailable", Message: "Berth can't reach its own storage just now. Nothing is lost; try again in a moment.", Cause: cause}
}

// DiskFullCode is the code of DiskFull.
const DiskFullCode = "disk_full"

// DiskFull says that there is no room left where Berth's own database is.
func DiskFull(cause error) *Error {
	return &Error{
		Kind: Unavailable, Code: DiskFullCode, Message: "The disk that Berth keeps its database on is full, so nothing can be changed just now. What was there is not lost.",
		Hint: "Whoever runs Berth has to make room there; it goes on by itself then.", Cause: cause,
	}
}
