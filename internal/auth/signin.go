package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"berth/internal/audit"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// FailureDelay is how long after it came in a refused sign-in is answered at the earliest: Proxmox VE itself holds its
// refusals back for 3 s (AnyEvent.pm, handle_api2_request), so that sooner would tell where the refusal came from.
const FailureDelay = 3500 * time.Millisecond

// strangerDelay is the same for a host that is not known: longer than the 5 s after which a connection that nobody answers
// is given up, so that the time does not tell an outsider whether there is a machine at an address.
const strangerDelay = 5500 * time.Millisecond

// failureMessage is all that a refused visitor learns.
const failureMessage = "Invalid credentials or Proxmox host unreachable"

// Recorder keeps what was done in the audit trail.
type Recorder interface {
	Record(ctx context.Context, e audit.Entry)
}

// SignInListener is told of every sign-in that succeeded, before it is answered.
type SignInListener interface {
	SignedIn(ctx context.Context, started session.Session)
}

// Options are what a Service needs.
type Options struct {
	Hosts    *Hosts
	Sessions *session.Registry
	Pending  PendingStore
	// OpenID keeps sign-ins that are at an identity provider.
	OpenID OpenIDStore
	// Callback is the address to which identity providers send people back, empty when there is none that they could.
	Callback string
	Audit    Recorder
	Throttle *Throttle
	// Listener is told of sign-ins; it may be nil.
	Listener SignInListener
	// Stepped is told how each step of a sign-in ended; it may be nil.
	Stepped func(SignInResult)
	Now     func() time.Time
	// Wait sleeps until the duration or the context ends; nil is the real thing.
	Wait func(context.Context, time.Duration)
}

// Service signs people in and out. It is safe for concurrent use.
type Service struct {
	hosts    *Hosts
	sessions *session.Registry
	pending  PendingStore
	openID   OpenIDStore
	callback string
	realms   realmCache
	audit    Recorder
	throttle *Throttle
	listener SignInListener
	stepped  func(SignInResult)
	now      func() time.Time
	wait     func(context.Context, time.Duration)

	ownersMu sync.Mutex
	owners   map[session.Hash]ownerAnswer
}

// NewService returns a service over hosts and sessions.
func NewService(o Options) *Service {
	s := &Service{
		hosts: o.Hosts, sessions: o.Sessions, pending: o.Pending, openID: o.OpenID, callback: o.Callback, audit: o.Audit,
		throttle: o.Throttle, listener: o.Listener, stepped: o.Stepped, now: o.Now, wait: o.Wait, owners: map[session.Hash]ownerAnswer{},
	}
	if s.wait == nil {
		s.wait = sleep
	}
	return s
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// SignedIn is the answer to a sign-in that was not refused: a session, or the question for a second factor.
type SignedIn struct {
	Success bool `json:"success"`
	// TFA is set, and Success false, when the sign-in needs its second step.
	TFA *SecondFactor `json:"tfa,omitempty"`
	// Token is for the cookie, and never part of an answer's body. It is empty while a second factor is missing.
	Token   string          `json:"-"`
	Session session.Session `json:"-"`
	// Browser is what the browser has to bring to its next sign-in to be recognised; see WithBrowser. It goes into a cookie,
	// never into a body, and is empty for a program.
	Browser string `json:"-"`
}

// SecondFactor says what a sign-in's second step can be done with.
type SecondFactor struct {
	Challenge string `json:"challenge"`
	// Kinds are those that work here, best first; empty when the account has only keys that are bound to the address of
	// Proxmox VE's own web interface.
	Kinds []string `json:"kinds"`
	// BrowserKey is set when such a key (WebAuthn, U2F) is enrolled.
	BrowserKey bool `json:"browserKey"`
	// RecoveryLeft is how many recovery codes are unused; null when none were ever made.
	RecoveryLeft *int   `json:"recoveryLeft"`
	UserID       string `json:"userId"`
	Host         string `json:"host"`
	// TOTPLeft is how many wrong codes Proxmox VE takes at most before it locks the account's TOTP; null before the first.
	TOTPLeft *int `json:"totpLeft" doc:"how many wrong TOTP codes Proxmox VE takes at most before it locks the account's TOTP; null before the first one"`
}

// SignIn is the public action behind the sign-in form: it asks the named host for a ticket and starts a session with it.
//
// Beside refusals it returns a fault of code certificate_unknown (kind conflict) with the detail "fingerprint" when the
// host is new and nobody vouches for its certificate: nothing was sent to it, and the same input with that fingerprint
// confirms it; and one of code too_many_attempts (kind throttled) before anything is sent.
func (s *Service) SignIn(ctx context.Context, in SignInInput) (SignedIn, error) {
	began := s.now()
	c, err := in.check()
	if err != nil {
		return SignedIn{}, err
	}
	if c, err = s.place(ctx, c); err != nil {
		return SignedIn{}, err
	}
	if c.openID {
		return SignedIn{}, fault.InvalidInput(map[string]string{"realm": "People sign in with this realm at its identity provider, from the sign-in page"})
	}
	out, err := s.throttled(ctx, c.address, c.userID, func(taken Taken) (SignedIn, error) { return s.signIn(ctx, began, c, taken) })
	return out, s.recordSignIn(ctx, c, out, err)
}

// signIn is the first step of a sign-in that may be tried.
func (s *Service) signIn(ctx context.Context, began time.Time, c credentials, taken Taken) (SignedIn, error) {
	known, err := s.known(ctx, c.address)
	if err != nil {
		return SignedIn{}, err
	}
	claims, err := s.allow(ctx, c, known)
	if err != nil {
		return SignedIn{}, err
	}
	attempt := Attempt{
		Address: c.address, UserID: c.userID, Realm: c.realm, Client: session.ClientFrom(ctx), Claims: claims,
	}
	var answer pve.SignIn
	var via *pve.Host
	ask := func(ctx context.Context, at pve.Address, trust pve.Trust, host *pve.Host) (err error) {
		attempt.Address, attempt.Trust, via = at, trust, host
		answer, err = host.SignIn(ctx, c.userID, c.password, pve.WithForwardedFor(attempt.Client.Address))
		return err
	}
	if known == nil {
		trust := pve.Trust{Certificate: c.fingerprint}
		err = ask(ctx, c.address, trust, s.hosts.client.Host(c.address, trust))
	} else {
		err = s.hosts.tryFrom(ctx, *known, func(ctx context.Context, door LoginHost, host *pve.Host) error {
			attempt.LoginHost = door.ID
			return ask(ctx, door.Address, door.trust(), host)
		})
	}
	if err != nil {
		if f := certificateQuestion(c, known, err); f != nil {
			return SignedIn{}, f
		}
		return SignedIn{}, s.refuse(ctx, began, known, c.address, c.userID, err)
	}
	if peer, ok := via.Peer(); ok {
		attempt.Peer = Certificate{Key: peer.Key, Fingerprint: peer.Fingerprint}
	}
	if answer.Challenge != nil {
		attempt.Taken = taken
		return s.askSecondFactor(ctx, attempt, *answer.Challenge)
	}
	return s.finish(ctx, began, attempt, via, answer.Ticket)
}

// known is the login host at an address, or nil for a stranger.
func (s *Service) known(ctx context.Context, at pve.Address) (*LoginHost, error) {
	host, err := s.hosts.store.LoginHostAt(ctx, at)
	switch {
	case errors.Is(err, ErrNoHost):
		return nil, nil
	case err != nil:
		return nil, fault.StoreDown(err)
	}
	return &host, nil
}

// certificateQuestion is the answer when a new host's certificate has to be confirmed; nil when err is something else.
// A known host's certificate is never a visitor's to confirm.
func certificateQuestion(c credentials, known *LoginHost, err error) *fault.Error {
	var cert *pve.CertificateError
	if known != nil || !errors.As(err, &cert) {
		return nil
	}
	f := &fault.Error{
		Kind: fault.Conflict, Code: "certificate_unknown",
		Message: "The certificate of " + c.address.String() + " is unknown. Compare its fingerprint with the one that the host itself shows, and confirm it.",
		Details: map[string]any{"fingerprint": cert.Peer.Fingerprint.String(), "host": c.address.Host, "port": c.address.Port},
		Cause:   err,
	}
	if c.fingerprint != nil {
		f.Message = "The host at " + c.address.String() + " shows another certificate than the one that was confirmed. Compare again."
	}
	return f
}

// refuse waits until the refusal may be told and returns it. Only the log learns the cause; a known host's people get one
// line that helps.
func (s *Service) refuse(ctx context.Context, began time.Time, known *LoginHost, at pve.Address, userID string, cause error) error {
	delay := FailureDelay
	if known == nil {
		delay = strangerDelay
	}
	s.wait(ctx, delay-s.now().Sub(began))
	f := &fault.Error{
		Kind: fault.Unauthenticated, Code: "signin_failed", Message: failureMessage,
		Cause: fmt.Errorf("sign-in of %s at %s: %w", userID, at, cause),
	}
	if known == nil {
		return f
	}
	var cert *pve.CertificateError
	switch {
	case errors.As(cause, &cert):
		f.Hint = "The certificate of " + at.String() + " has changed. Nothing was sent to it."
		f.Details = map[string]any{
			"fingerprint": cert.Peer.Fingerprint.String(), "knownFingerprint": known.Fingerprint.String(),
			"host": at.Host, "port": at.Port,
		}
	case pve.IsKind(cause, pve.KindBusy):
		f.Hint = at.String() + " is busy with other sign-ins. Please try again in a moment."
	case pve.IsKind(cause, pve.KindHostUnreachable), pve.IsKind(cause, pve.KindMemberUnreachable):
		f.Hint = at.String() + " doesn't answer."
	default:
		f.Hint = clockHint(at, cause)
	}
	return f
}

// clockTolerance is from where on a host's clock is worth a word: codes by time fail, and tickets seem older than they are.
const clockTolerance = 5 * time.Minute

// clockHint says that the clock of the host that refused is wrong, or Berth's own; it is empty when they agree.
func clockHint(at pve.Address, cause error) string {
	var answered *pve.Error
	if !errors.As(cause, &answered) {
		return ""
	}
	off := answered.ClockSkew.Abs().Round(time.Minute)
	minutes := int64(off / time.Minute)
	switch {
	case off < clockTolerance:
		return ""
	case minutes >= 48*60:
		return fmt.Sprintf("The clock of %s differs by %d days.", at, minutes/(24*60))
	case minutes >= 120:
		return fmt.Sprintf("The clock of %s differs by %d hours.", at, minutes/60)
	}
	return fmt.Sprintf("The clock of %s differs by %d minutes.", at, minutes)
}

// finish turns a ticket into a session, and a host that was new into a login host.
func (s *Service) finish(ctx context.Context, began time.Time, a Attempt, via *pve.Host, ticket pve.Ticket) (SignedIn, error) {
	// In a realm that ignores case Proxmox VE answers with its own spelling, and that one is the identity's.
	if !strings.EqualFold(ticket.UserID, a.UserID) {
		return SignedIn{}, s.refuse(ctx, began, nil, a.Address, a.UserID, errors.New("the host answered with a ticket of another user"))
	}
	newcomer, err := s.countNewcomer(ctx, a.Address, a.UserID)
	if err != nil {
		return SignedIn{}, s.settle(ctx, began, a, err)
	}
	var token string
	var started session.Session
	host, create, err := s.admit(ctx, a)
	for again := true; err == nil; again = false {
		token, started, err = s.sessions.Start(ctx, session.Grant{
			Identity:  session.Identity{Datacenter: host.Datacenter, UserID: ticket.UserID},
			LoginHost: host.ID, Realm: a.Realm, Ticket: ticket, Client: a.Client,
		}, create)
		if !again || !errors.Is(err, ErrHostKnown) && !errors.Is(err, ErrClaimed) {
			break
		}
		// Somebody else's first sign-in came between. It decided the pin of this address, and who has the installation.
		if a.Claims = a.Claims && !errors.Is(err, ErrClaimed); !a.Claims {
			if known, unknown := s.known(ctx, a.Address); unknown != nil || known == nil {
				break
			}
		}
		host, create, err = s.admit(ctx, a)
	}
	if err != nil {
		s.uncountNewcomer(ctx, newcomer)
		return SignedIn{}, s.settle(ctx, began, a, err)
	}
	if create == nil {
		s.noteCertificate(ctx, host, via)
	} else {
		s.recordAdmission(ctx, a, host, started.Identity)
	}
	if s.listener != nil {
		s.listener.SignedIn(context.WithoutCancel(ctx), started)
	}
	return SignedIn{Success: true, Token: token, Session: started}, nil
}

var errPinnedOtherwise = errors.New("the host was pinned with another key in the meantime")

// settle turns an error at the end of a sign-in into its answer.
func (s *Service) settle(ctx context.Context, began time.Time, a Attempt, err error) error {
	if errors.Is(err, errPinnedOtherwise) || errors.Is(err, ErrClaimed) {
		return s.refuse(ctx, began, nil, a.Address, a.UserID, err)
	}
	if f := fault.As(err); f != nil {
		return f
	}
	return fault.StoreDown(err)
}

// admit finds the login host of an attempt. Where more than the session is to be stored, because the host is new or the
// installation is claimed with it, create stores all of it in one step.
func (s *Service) admit(ctx context.Context, a Attempt) (host LoginHost, create func(context.Context, session.Record) error, err error) {
	var admission Admission
	switch known, err := s.standing(ctx, a); {
	case err != nil:
		return LoginHost{}, nil, err
	case known != nil:
		host = *known
	default:
		var pin *pve.KeyPin
		if a.Trust.Certificate != nil {
			pin = &a.Peer.Key
		}
		host = s.hosts.newHost(a.Address, pin, a.Peer.Fingerprint)
		admission.Host, admission.Stranger = &host, s.hosts.policy.Mode != Claimed
	}
	if a.Claims {
		admission.Claims = host.Datacenter
	}
	if admission == (Admission{}) {
		return host, nil, nil
	}
	return host, func(ctx context.Context, first session.Record) error {
		admission.Session = &first
		return s.hosts.store.Admit(ctx, admission)
	}, nil
}

// SignedOut is the answer to a sign-out.
type SignedOut struct {
	Success bool `json:"success"`
}

// None is the input of an action that takes none.
type None struct{}

// SignOut is the authenticated action that ends the caller's own session.
func (s *Service) SignOut(ctx context.Context, caller session.Caller, _ None) (SignedOut, error) {
	if err := s.sessions.End(ctx, caller.Session.Hash); err != nil {
		return SignedOut{}, fault.StoreDown(err)
	}
	s.audit.Record(ctx, audit.Entry{Identity: caller.Identity, Action: audit.SignOut, Target: caller.Session.Client.Device()})
	return SignedOut{Success: true}, nil
}

// Status is who is signed in, and where.
type Status struct {
	UserID    string    `json:"userId" doc:"user@realm" example:"root@pam"`
	Username  string    `json:"username" example:"root"`
	Realm     string    `json:"realm" example:"pam"`
	Host      string    `json:"host" doc:"the login host"`
	Port      int       `json:"port"`
	ExpiresAt time.Time `json:"expiresAt" doc:"when the session ends if it is not used again"`
}

// SessionStatus is the authenticated action that tells the caller about their own session.
func (s *Service) SessionStatus(ctx context.Context, caller session.Caller, _ None) (Status, error) {
	at, err := s.hosts.Address(ctx, caller.Session.LoginHost)
	if err != nil {
		return Status{}, fault.StoreDown(err)
	}
	name := caller.Identity.UserID
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		name = name[:at]
	}
	return Status{
		UserID: caller.Identity.UserID, Username: name, Realm: caller.Session.Realm,
		Host: at.Host, Port: at.Port, ExpiresAt: s.sessions.Expires(caller.Session),
	}, nil
}
