package view

import "time"

// Shell is what every page needs around its content.
type Shell struct {
	Title    string
	BasePath string // "" at the root, else "/berth": no slash at the end
	UserID   string // "alice@pve"; empty when nobody is signed in
	Host     string // the login host of the session, for people: "pve.lan:8006"
	Current  string // which entry of the sidebar is the open one: "containers", or the Name of a NavLink
	// Settings are the entries of the sidebar's group of that name, in order; none for visitors.
	Settings []NavLink
	// Notices are what went wrong with the caller's own changes, as of Now, until they are seen.
	Notices []Notice
	Now     time.Time
	// But is the id of the operation or run that the page itself is about: it needs no notice above.
	But string
	// Insecure is set when, as far as Berth can see, passwords travel in the clear.
	Insecure bool
}

// Link is a path of this site as the browser must ask for it, below the base path.
func (s Shell) Link(path string) string { return s.BasePath + path }

// NavLink is one entry of the sidebar.
type NavLink struct {
	Name  string // what Shell.Current is on that page: "about"
	Label string
	Path  string // below the base path: "/settings/about"
	Icon  string // of icon.templ
}

// Option is one choice of a select.
type Option struct{ Value, Label string }

// Failure is why a form as a whole was refused.
type Failure struct {
	Message string // the one sentence
	Hint    string // at most one line that helps; may be empty
	ErrorID string // the log has the cause under this id; may be empty
}

// Certificate is a certificate that a host presented and that nobody vouches for yet.
type Certificate struct {
	Address     string // host:port, for people
	Fingerprint string // SHA-256, AB:CD:...
	Previous    string // the fingerprint that was pinned, when it changed; empty at first contact
}

// Login is the page /login in all its states. What the visitor typed comes back, but never the password.
type Login struct {
	Shell
	Host, Port, Username, Realm, Next string
	Realms                            []Realm
	Errors                            map[string]string // by field name: host, port, username, password, realm
	Failure                           *Failure
	// Confirm asks to compare the certificate's fingerprint; the form then carries it in the field "fingerprint", and
	// sending it again is the confirmation.
	Confirm *Certificate
	// Changed says that the host's certificate isn't the pinned one any more: refused, nothing to confirm.
	Changed *Certificate
	// Provider says that the visitor signs in at an identity provider, and leads there.
	Provider *Provider
	Notice   string // "You have signed out."
	// AskClaimCode asks for the code of an installation that nobody has claimed yet; ClaimCode is what was typed.
	AskClaimCode bool
	ClaimCode    string
}

// Factor is one kind of second factor.
type Factor struct {
	Kind  string // "totp", "recovery", "yubico"
	Label string
}

// SecondFactor is the second step of a sign-in, at /login/tfa.
type SecondFactor struct {
	Shell
	UserID    string // who signs in
	Address   string // where: host:port
	Challenge string
	Next      string
	Kinds     []Factor // what can be used here; empty when only WebAuthn or U2F is enrolled
	Kind      string   // the chosen one
	// BrowserKey is set when WebAuthn or U2F is enrolled: bound to Proxmox's own origin, so it cannot work here.
	BrowserKey bool
	// RecoveryLeft is how many recovery codes are unused; -1 when none were ever made.
	RecoveryLeft int
	// TOTPLeft is how many wrong codes Proxmox takes at most before it locks them for the account; nil before the first.
	TOTPLeft *int
	Errors   map[string]string // by field name: code, kind
	Failure  *Failure
}

// Problem is an error page: 403, 404, 500, 503.
type Problem struct {
	Shell
	Status  int
	Title   string
	Message string
	ErrorID string
}
