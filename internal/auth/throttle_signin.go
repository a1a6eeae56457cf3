package auth

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// account is whose password or code is tried. In the realms that ignore case one account has many spellings, so all count
// as one.
type account struct {
	at   pve.Address
	user string
	// datacenter is empty when nobody has signed in at the address yet.
	datacenter string
}

// identity names an account at a known login host as the throttle remembers it.
func (a account) identity() session.Identity {
	return session.Identity{Datacenter: a.datacenter, UserID: strings.ToLower(a.user)}
}

// thing names the account for counting. All login hosts of a datacenter are doors to the same one.
func (a account) thing() string {
	if a.user == "" {
		return ""
	}
	place := a.datacenter
	if place == "" {
		place = a.at.String()
	}
	return place + "\x00" + strings.ToLower(a.user)
}

func (s *Service) accountAt(ctx context.Context, at pve.Address, user string) (account, error) {
	known, err := s.known(ctx, at)
	return accountOf(at, user, known), err
}

// accountOf is an account at a known login host, or at a stranger's address.
func accountOf(at pve.Address, user string, known *LoginHost) account {
	if known == nil {
		return account{at: at, user: user}
	}
	return account{at: at, user: user, datacenter: known.Datacenter}
}

// beginSignIn asks for an attempt at an account. A browser that signed in with the account before has a lane of its own,
// which nobody else can fill; an address that did is not slowed by what others try. Everybody else is, and whoever guesses
// from many addresses is among them.
func (t *Throttle) beginSignIn(ctx context.Context, a account) (*Try, error) {
	browser, address, err := t.knows(ctx, a.identity())
	if err != nil {
		return nil, fault.StoreDown(err)
	}
	from := network(session.ClientFrom(ctx).Address)
	pair, success := []Counter{counter(limitPair, from, a.thing())}, counter(limitSuccess, from, a.thing())
	switch {
	case browser:
		token, _ := browserFrom(ctx)
		return t.take(ctx, []Counter{counter(limitPair, "browser", token, a.thing())}, success)
	case a.user == "":
		return t.Begin(ctx, "")
	case address:
		return t.take(ctx, pair, counter(limitAddress, from), success)
	}
	return t.take(ctx, pair, counter(limitAddress, from), counter(limitAccount, a.thing()), success)
}

// throttled runs a step of a sign-in as one attempt at an account: not at all while the throttle makes its client wait. A
// step that ends in a fault has failed, be it a wrong password, a host that does not answer or a certificate that has to be
// confirmed; so hosts can't be probed any faster than passwords. A session clears what this client counted. The question
// for a second factor stays counted until the second step gives it back, for which the first one keeps what was taken.
func (s *Service) throttled(ctx context.Context, at pve.Address, user string, step func(Taken) (SignedIn, error)) (SignedIn, error) {
	known, err := s.known(ctx, at)
	if err != nil {
		return SignedIn{}, err
	}
	a := accountOf(at, user, known)
	counted := a
	if user != "" {
		if _, err := s.allow(ctx, credentials{address: at}, known); fault.KindOf(err) == fault.Forbidden {
			// Nothing is tried at any account of such a host, so that nobody fills the tables with made-up ones.
			counted = account{}
		}
	}
	try, err := s.throttle.beginSignIn(ctx, counted)
	if err != nil {
		logFailure(ctx, a, err)
		return SignedIn{}, err
	}
	out, err := step(try.taken)
	// The count must be right even when the client has gone meanwhile.
	ctx = context.WithoutCancel(ctx)
	switch kind := fault.KindOf(err); {
	case err != nil && (kind == fault.Unavailable || kind == fault.Internal):
		noteProblem(ctx, try.Void(ctx))
	case kind == fault.Throttled: // a success, of which there were too many
		noteProblem(ctx, try.Void(ctx))
		logFailure(ctx, a, err)
	case err != nil:
		noteProblem(ctx, try.Failed(ctx))
		logFailure(ctx, a, err)
	case out.Token == "":
		noteProblem(ctx, try.Failed(ctx))
	default:
		noteProblem(ctx, try.Succeeded(ctx))
		who := session.Identity{Datacenter: out.Session.Identity.Datacenter, UserID: strings.ToLower(out.Session.Identity.UserID)}
		var problem error
		out.Browser, problem = s.throttle.remember(ctx, who)
		noteProblem(ctx, problem)
	}
	return out, err
}

// errManyNewcomers says that too many accounts have signed in for the first time.
var errManyNewcomers = errors.New("too many new accounts")

// countNewcomer counts a sign-in that its host has accepted, if any host may vouch and nobody has signed in with the account
// from this browser or address before. The error is a fault: too many, or the store can't be reached.
func (s *Service) countNewcomer(ctx context.Context, at pve.Address, user string) (Taken, error) {
	if s.hosts.policy.Mode != Any {
		return nil, nil
	}
	a, err := s.accountAt(ctx, at, user)
	if err != nil {
		return nil, err
	}
	if browser, address, err := s.throttle.knows(ctx, a.identity()); browser || address || err != nil {
		return nil, err
	}
	place := a.datacenter
	if place == "" {
		place = at.String()
	}
	from := network(session.ClientFrom(ctx).Address)
	taken, wait, err := s.throttle.store.Take(ctx, s.now(), counter(limitNewcomers, from), counter(limitNewHere, place))
	if err != nil {
		return nil, fault.StoreDown(err)
	}
	if wait > 0 {
		f := tooManyAttempts(wait)
		f.Message, f.Cause = "Too many people have signed in here for the first time", errManyNewcomers
		f.Hint = "Start again in " + inWords(wait) + "."
		return nil, f
	}
	return taken, nil
}

// uncountNewcomer gives back what countNewcomer took, for a sign-in that came to nothing.
func (s *Service) uncountNewcomer(ctx context.Context, taken Taken) {
	if len(taken) > 0 {
		noteProblem(ctx, s.throttle.store.GiveBack(context.WithoutCancel(ctx), s.now(), taken))
	}
}

// noteProblem logs what must not undo a sign-in that stands.
func noteProblem(ctx context.Context, err error) {
	if err != nil {
		slog.WarnContext(ctx, "sign-in not noted by the throttle", "cause", err)
	}
}

// logFailure writes the line that a fail2ban filter looks for (docs/fail2ban.md). Message, names and order of the fields
// stay as they are; the address comes first, so that nothing a client chose stands before it. Quotes and control
// characters in values are escaped by the log's handlers.
//
// The question for a certificate is no failure, and is not logged as one.
func logFailure(ctx context.Context, a account, err error) {
	f := fault.As(err)
	if f == nil || f.Kind == fault.Conflict || f.Kind == fault.Unavailable {
		return
	}
	address := ""
	if from := session.ClientFrom(ctx).Address; from.IsValid() {
		address = from.String()
	}
	host := ""
	if a.at != (pve.Address{}) {
		host = a.at.String()
	}
	slog.WarnContext(ctx, "sign-in failed", "address", address, "user", a.user, "host", host, "reason", f.Code)
}

// totpTries is how many wrong codes in a row Proxmox VE takes before it locks an account's TOTP until a recovery code is
// used or an administrator unlocks it (proxmox-tfa, api/mod.rs, totp_failure_limit).
const totpTries = 8

// noteCode counts wrong TOTP codes of an account as Proxmox VE does: one after the other, whoever sent them, and a right
// TOTP or recovery code ends the row.
func (s *Service) noteCode(ctx context.Context, a Attempt, kind pve.Factor, err error) {
	account, unknown := s.accountAt(ctx, a.Address, a.UserID)
	if unknown != nil {
		noteProblem(ctx, unknown)
		return
	}
	c := counter(limitTOTP, account.thing())
	switch {
	case err == nil && (kind == pve.FactorTOTP || kind == pve.FactorRecovery):
		noteProblem(ctx, s.throttle.store.Forget(ctx, c))
	case kind == pve.FactorTOTP && pve.IsKind(err, pve.KindUnauthenticated):
		_, _, problem := s.throttle.store.Take(ctx, s.now(), c)
		noteProblem(ctx, problem)
	}
}

// totpLeft is how many wrong codes Proxmox VE still takes, or nil before the first one. Others may have been sent to it
// past this Berth.
func (s *Service) totpLeft(ctx context.Context, a Attempt) *int {
	if !a.Challenge.TOTP {
		return nil
	}
	account, err := s.accountAt(ctx, a.Address, a.UserID)
	if err != nil {
		return nil
	}
	wrong, err := s.throttle.store.Attempts(ctx, s.now(), counter(limitTOTP, account.thing()))
	if err != nil || wrong == 0 {
		return nil
	}
	left := max(0, totpTries-wrong)
	return &left
}
