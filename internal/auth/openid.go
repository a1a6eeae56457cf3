package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"berth/internal/audit"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// OpenIDLife is how long somebody may take at an identity provider: as long as PVE remembers that it sent them there
// (proxmox-openid, auth_state.rs).
const OpenIDLife = 10 * time.Minute

// limitOpenID bounds how often sign-ins are begun that nobody has proven anything for. A finished one clears it.
var limitOpenID = Limit{Name: "openid", Free: 10, First: 2 * time.Second, Longest: 5 * time.Minute}

// OpenIDAttempt is a sign-in that is at an identity provider.
type OpenIDAttempt struct {
	// LoginHost is the one that sent the visitor there. No other one can finish the sign-in, not even of its cluster.
	LoginHost LoginHost
	Realm     string
	Callback  string
	// Browser is the SHA-256 of what only the visitor's browser holds.
	Browser [sha256.Size]byte
	// Network is where the visitor came from, as the throttle sees it.
	Network string
	// Next is the path that the visitor wanted to see; it is handed back as it came.
	Next string
}

// OpenIDStore keeps sign-ins that are at an identity provider, under the SHA-256 of their state.
type OpenIDStore interface {
	// KeepOpenID stores an attempt until the given time. It may forget the oldest ones when it holds too many, those of the
	// same network first.
	KeepOpenID(ctx context.Context, state [sha256.Size]byte, a OpenIDAttempt, until time.Time) error
	// TakeOpenID removes an attempt and returns it, to one caller only. It returns ErrNoAttempt if there is none, its time has
	// passed, or it is another browser's; that one's stays.
	TakeOpenID(ctx context.Context, state, browser [sha256.Size]byte) (OpenIDAttempt, error)
}

// openIDUnavailable says why nobody can sign in at an identity provider here; empty when people can.
func (s *Service) openIDUnavailable(ctx context.Context) (string, error) {
	if s.callback == "" {
		return "needs --public-url, an https:// address, set by whoever runs this Berth", nil
	}
	if s.hosts.policy.Mode != Claimed {
		return "", nil
	}
	claim, err := s.hosts.store.Claim(ctx)
	switch {
	case err != nil:
		return "", fault.StoreDown(err)
	case claim.Datacenter == "":
		return "can't be used for the first sign-in of all, which needs a password", nil
	}
	return "", nil
}

// ByProvider tells which realm of type openid a sign-in form is for, and whether it is for one at all. A host that nobody
// has signed in with yet has none: its certificate was never confirmed.
func (s *Service) ByProvider(ctx context.Context, in SignInInput) (realm string, yes bool) {
	fields := map[string]string{}
	c := credentials{address: ReadAddress(in.Host, in.Port, fields), name: strings.TrimSpace(in.Username), realm: in.Realm}
	if len(fields) > 0 || isBuiltin(c.realm) && !strings.Contains(c.name, "@") || len(c.realm) > pve.MaxRealm || len(c.name) > maxUserID {
		return "", false
	}
	c, _ = s.place(ctx, c) // what is wrong with the rest of the form is for SignIn to say
	return c.realm, c.openID
}

// OpenIDInput is what a visitor sends to sign in at an identity provider.
type OpenIDInput struct {
	Host, Realm string
	Port        Port
	// Next is the path that the visitor wants to see afterwards.
	Next string
}

// OpenIDStart is the way to an identity provider.
type OpenIDStart struct {
	// Link is an https address without user information; Provider is its host, and its port if it is a special one.
	Link, Provider string
	Realm, Host    string
	// Browser is what only the browser may hold that has begun, for a cookie.
	Browser string
}

// BeginOpenID asks a known login host where the users of a realm sign in. The sign-in then waits OpenIDLife for
// FinishOpenID.
func (s *Service) BeginOpenID(ctx context.Context, in OpenIDInput) (OpenIDStart, error) {
	began := s.now()
	fields := map[string]string{}
	at := ReadAddress(in.Host, in.Port, fields)
	if err := fault.InvalidInput(fields); err != nil {
		return OpenIDStart{}, err
	}
	known, err := s.knownHost(ctx, at)
	if err != nil {
		return OpenIDStart{}, err
	}
	why := unknownRealm
	if known != nil {
		if why, err = s.openIDUnavailable(ctx); err != nil {
			return OpenIDStart{}, err
		}
	}
	switch {
	case why == "" && !realmName.MatchString(in.Realm):
		why = badRealm
	case why != "" && known != nil:
		why = "This realm " + why
	}
	if why != "" {
		return OpenIDStart{}, fault.InvalidInput(map[string]string{"realm": why})
	}
	client := session.ClientFrom(ctx)
	if _, err := s.throttle.take(ctx, nil, counter(limitOpenID, network(client.Address))); err != nil {
		return OpenIDStart{}, err
	}

	a := OpenIDAttempt{Realm: in.Realm, Callback: s.callback, Network: network(client.Address), Next: in.Next}
	var link string
	err = s.hosts.tryFrom(ctx, *known, func(ctx context.Context, door LoginHost, host *pve.Host) (err error) {
		a.LoginHost = door
		link, err = host.OpenIDAuthURL(ctx, a.Realm, a.Callback, pve.WithForwardedFor(client.Address))
		return err
	})
	var way providerLink
	if err == nil {
		way, err = readProviderLink(link)
	}
	if err != nil {
		err := s.refuse(ctx, began, known, at, "somebody of "+a.Realm, err)
		if f := fault.As(err); f != nil {
			f.Message = "Nobody can sign in with the realm " + a.Realm + " just now"
			if f.Hint == "" {
				f.Hint = "The host did not say where to, or named an address that is not a safe one."
			}
		}
		s.recordRefusal(ctx, audit.SignIn, at, "", err)
		return OpenIDStart{}, err
	}
	browser := rand.Text()
	a.Browser = sha256.Sum256([]byte(browser))
	if err := s.openID.KeepOpenID(ctx, sha256.Sum256([]byte(way.state)), a, s.now().Add(OpenIDLife)); err != nil {
		return OpenIDStart{}, fault.StoreDown(err)
	}
	return OpenIDStart{Link: way.link, Provider: way.provider, Realm: a.Realm, Host: at.String(), Browser: browser}, nil
}

// providerLink is where a host sends people.
type providerLink struct{ link, provider, state string }

var errProviderLink = errors.New("the host names an address of its identity provider that nobody is sent to")

// readProviderLink judges the address that a host names. It comes from another machine and people are to click on it, so it
// is taken apart and put together again: what is handed out reads the same to every browser.
func readProviderLink(text string) (providerLink, error) {
	if strings.ContainsAny(text, "\\\"'<>`") {
		return providerLink{}, errProviderLink
	}
	u, err := url.Parse(text)
	// The error of url.Parse repeats the text, which holds the state.
	if err != nil || u.Scheme != "https" || u.Opaque != "" || u.User != nil || u.Fragment != "" {
		return providerLink{}, errProviderLink
	}
	const standard = 443
	at, err := pve.ParseAddress(u.Host, standard)
	if err != nil {
		return providerLink{}, errProviderLink
	}
	query, err := url.ParseQuery(u.RawQuery)
	states := query["state"]
	if err != nil || len(states) != 1 || states[0] == "" || len(states[0]) > pve.MaxOpenIDState {
		return providerLink{}, fmt.Errorf("%w: it has no state", errProviderLink)
	}
	u.Host = at.Host
	if strings.Contains(at.Host, ":") {
		u.Host = "[" + at.Host + "]"
	}
	if at.Port != standard {
		u.Host += ":" + strconv.Itoa(at.Port)
	}
	return providerLink{link: u.String(), provider: u.Host, state: states[0]}, nil
}

// OpenIDAnswer is what an identity provider sent a visitor back with.
type OpenIDAnswer struct {
	State string `json:"state"`
	Code  string `json:"code"`
}

func openIDExpired() error {
	return &fault.Error{
		Kind: fault.Unauthenticated, Code: "openid_expired",
		Message: "This sign-in is over: it has waited too long, was finished already, or was begun in another browser. Please start again.",
	}
}

// errAtProvider marks what a host refused after its identity provider had sent somebody back.
var errAtProvider = errors.New("OpenID Connect")

// errManySignIns says that an account has signed in from one address without end.
var errManySignIns = errors.New("too many sign-ins with one account from one address")

// FinishOpenID sends what an identity provider answered to the host that asked it, once, and starts the session. browser is
// OpenIDStart.Browser as the browser brought it back, empty if it brought none or several; next is OpenIDInput.Next.
func (s *Service) FinishOpenID(ctx context.Context, browser string, in OpenIDAnswer) (out SignedIn, next string, err error) {
	began := s.now()
	tooLong := len(in.State) > pve.MaxOpenIDState || len(in.Code) > pve.MaxOpenIDCode
	a, err := OpenIDAttempt{}, ErrNoAttempt
	if browser != "" && in.State != "" && in.Code != "" && !tooLong {
		a, err = s.openID.TakeOpenID(ctx, sha256.Sum256([]byte(in.State)), sha256.Sum256([]byte(browser)))
	}
	switch {
	case browser == "":
		// Another site can send anybody here. Nothing is looked up, so nothing is guessed either: it counts against nobody.
		return SignedIn{}, "", openIDExpired()
	case errors.Is(err, ErrNoAttempt):
		out, err = s.throttled(ctx, pve.Address{}, "", func(Taken) (SignedIn, error) {
			s.wait(ctx, FailureDelay-s.now().Sub(began))
			return SignedIn{}, openIDExpired()
		})
		return out, "", err
	case err != nil:
		return SignedIn{}, "", fault.StoreDown(err)
	}
	out, err = s.throttled(ctx, a.LoginHost.Address, "", func(taken Taken) (SignedIn, error) { return s.finishOpenID(ctx, began, a, in, taken) })
	if err != nil {
		s.recordRefusal(ctx, audit.SignIn, a.LoginHost.Address, "", err)
		return SignedIn{}, a.Next, err
	}
	if out.Success {
		noteProblem(ctx, s.throttle.store.Forget(ctx, counter(limitOpenID, a.Network)))
		s.recordSession(ctx, a.LoginHost.Address, out.Session, "by OpenID Connect")
	}
	return out, a.Next, nil
}

func (s *Service) finishOpenID(ctx context.Context, began time.Time, a OpenIDAttempt, in OpenIDAnswer, taken Taken) (SignedIn, error) {
	at := a.LoginHost.Address
	known, err := s.knownHost(ctx, at)
	switch {
	case err != nil:
		return SignedIn{}, err
	case known == nil || known.ID != a.LoginHost.ID || !samePin(known.Key, a.LoginHost.Key):
		return SignedIn{}, hostChanged() // while the visitor was away
	}
	somebody := "somebody of " + a.Realm
	client := session.ClientFrom(ctx)
	host := s.hosts.reach(*known)
	answer, err := host.OpenIDLogin(ctx, in.State, in.Code, a.Callback, pve.WithForwardedFor(client.Address))
	if err != nil {
		err := s.refuse(ctx, began, known, at, somebody, fmt.Errorf("%w: %w", errAtProvider, err))
		if f := fault.As(err); f != nil && f.Hint == "" {
			f.Hint = "The host did not accept what the identity provider sent, or has no account for you."
		}
		return SignedIn{}, err
	}
	attempt := Attempt{Address: at, Trust: known.trust(), Realm: a.Realm, Client: client, LoginHost: known.ID}
	if peer, ok := host.Peer(); ok {
		attempt.Peer = Certificate{Key: peer.Key, Fingerprint: peer.Fingerprint}
	}
	attempt.UserID = answer.Ticket.UserID
	if answer.Challenge != nil {
		attempt.UserID = answer.Challenge.UserID
	}
	// The host says who it is, but nobody of another realm comes in by this door.
	if !strings.HasSuffix(attempt.UserID, "@"+a.Realm) {
		return SignedIn{}, s.refuse(ctx, began, known, at, somebody, fmt.Errorf("%w: the host answered with somebody of another realm", errAtProvider))
	}
	if answer.Challenge != nil {
		attempt.Taken = taken
		return s.askSecondFactor(ctx, attempt, *answer.Challenge) // whose answer counts
	}
	// Whose sign-in it is, only the host could say: so it is limited once the host was asked.
	try, err := s.throttle.take(ctx, nil, counter(limitSuccess, network(client.Address), accountOf(at, attempt.UserID, known).thing()))
	if f := fault.As(err); f != nil && f.Kind == fault.Throttled {
		f.Hint = "Start again in " + inWords(f.RetryAfter) + "."
		f.Cause = errManySignIns
	}
	if err != nil {
		return SignedIn{}, err
	}
	out, err := s.finish(ctx, began, attempt, host, answer.Ticket)
	if err != nil {
		noteProblem(ctx, try.Failed(context.WithoutCancel(ctx)))
	}
	return out, err
}
