package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// way is how a host is called while something is done there: the session's ticket or that of a sign-in there.
type way func(ctx context.Context, call func(context.Context, *pve.Host, pve.Credentials) error) error

// step is what is done with a way: to test a node, save it, or remove a token.
type step func(ctx context.Context, p plan, w way) (Saved, error)

// open finds a way to the host of a plan and takes the step. Where it needs a password it signs in there first; should the
// host then ask for a second factor, the answer is that question, and AnswerChallenge goes on.
func (s *Service) open(ctx context.Context, caller session.Caller, p plan, then step) (Saved, error) {
	switch {
	case p.loginHost != "":
		return then(ctx, p, func(ctx context.Context, call func(context.Context, *pve.Host, pve.Credentials) error) error {
			return s.callWithTicket(ctx, caller, p.loginHost, call)
		})
	case p.password != "":
		return s.signInThere(ctx, caller, p, then)
	}
	return then(ctx, p, with(s.client.Host(p.address, p.trust), pve.Token{ID: p.tokenID, Secret: p.secret}))
}

func with(host *pve.Host, credentials pve.Credentials) way {
	return func(ctx context.Context, call func(context.Context, *pve.Host, pve.Credentials) error) error {
		return call(ctx, host, credentials)
	}
}

// signInThere signs in at a host that need not be a login host: its word counts for nothing but this node.
func (s *Service) signInThere(ctx context.Context, caller session.Caller, p plan, then step) (Saved, error) {
	host := s.client.Host(p.address, p.trust)
	password := p.password
	p.password = "" // whatever comes now, nobody keeps it
	var answer pve.SignIn
	err := s.attempt(ctx, p, func() (err error) {
		answer, err = host.SignIn(ctx, p.userID, password, pve.WithForwardedFor(session.ClientFrom(ctx).Address))
		return err
	})
	switch {
	case err != nil:
		return Saved{}, refused(p, err)
	case answer.Challenge != nil:
		text := s.waiting.keep(s.now(), waiting{of: caller.Identity, plan: p, host: host, challenge: *answer.Challenge, then: then})
		return Saved{TFA: question(text, p, *answer.Challenge)}, nil
	}
	return s.goOn(ctx, p, host, answer.Ticket, then)
}

// attempt counts a try of a password or code against the throttle of sign-ins.
func (s *Service) attempt(ctx context.Context, p plan, do func() error) error {
	try, err := s.throttle.Begin(ctx, p.address.String()+" "+strings.ToLower(p.userID))
	if err != nil {
		return err
	}
	err = do()
	after := context.WithoutCancel(ctx)
	counted := try.Failed
	if err == nil {
		counted = try.Succeeded
	} else if !pve.IsKind(err, pve.KindUnauthenticated) {
		counted = try.Void
	}
	if problem := counted(after); problem != nil {
		slog.WarnContext(ctx, "attempt not counted", "cause", problem)
	}
	return err
}

func (s *Service) goOn(ctx context.Context, p plan, host *pve.Host, ticket pve.Ticket, then step) (Saved, error) {
	if !strings.EqualFold(ticket.UserID, p.userID) {
		return Saved{}, &fault.Error{Kind: fault.Unreachable, Code: "not_proxmox", Message: p.address.String() + " answered with another account's ticket."}
	}
	p.userID = ticket.UserID
	return then(ctx, p, with(host, ticket))
}

// question is what to ask for a second factor.
func question(text string, p plan, c pve.Challenge) *auth.SecondFactor {
	q := &auth.SecondFactor{
		Challenge: text, Kinds: []string{}, BrowserKey: c.WebAuthn || c.U2F, UserID: p.userID, Host: p.address.String(),
	}
	if c.TOTP {
		q.Kinds = append(q.Kinds, string(pve.FactorTOTP))
	}
	if c.Yubico {
		q.Kinds = append(q.Kinds, string(pve.FactorYubico))
	}
	if c.Recovery != nil {
		left := len(c.Recovery)
		q.RecoveryLeft = &left
		if left > 0 {
			q.Kinds = append(q.Kinds, string(pve.FactorRecovery))
		}
	}
	return q
}

// answerChallenge takes the second step of a sign-in at a host, and what was to be done there then.
func (s *Service) answerChallenge(ctx context.Context, caller session.Caller, in SecondStep) (Saved, error) {
	w, ok := s.waiting.find(s.now(), caller.Identity, in.Challenge)
	if !ok {
		return Saved{}, challengeExpired()
	}
	var answer pve.SignIn
	err := s.attempt(ctx, w.plan, func() (err error) {
		answer, err = w.host.AnswerChallenge(ctx, w.challenge, pve.Factor(in.Kind), strings.Join(strings.Fields(in.Code), ""), pve.WithForwardedFor(session.ClientFrom(ctx).Address))
		return err
	})
	if pve.IsKind(err, pve.KindUnauthenticated) {
		var e *pve.Error
		errors.As(err, &e)
		message := "The host did not accept this code"
		if words := clockWords(w.plan.address, e.ClockSkew); words != "" {
			message += ". " + words
		}
		return Saved{}, fault.InvalidInput(map[string]string{"code": message})
	}
	if err != nil {
		return Saved{}, refused(w.plan, err)
	}
	if !s.waiting.drop(in.Challenge) {
		return Saved{}, challengeExpired() // answered twice at once
	}
	return s.goOn(ctx, w.plan, w.host, answer.Ticket, w.then)
}

// Question tells again what a sign-in at a host waits for, so that a page can be shown once more.
func (s *Service) Question(caller session.Caller, challenge string) (*auth.SecondFactor, error) {
	w, ok := s.waiting.find(s.now(), caller.Identity, challenge)
	if !ok {
		return nil, challengeExpired()
	}
	return question(challenge, w.plan, w.challenge), nil
}

func challengeExpired() error {
	return &fault.Error{
		Kind: fault.Conflict, Code: "second_step_expired", Message: "This sign-in has waited too long for its second step. Please start again.",
	}
}

// waiting is a sign-in at a host that waits for its second factor.
type waiting struct {
	of        session.Identity
	plan      plan
	host      *pve.Host
	challenge pve.Challenge
	then      step
	until     time.Time
}

// Bounds of what waits in memory.
const (
	maxWaiting         = 500
	maxWaitingOfOneOwn = 5
)

// waitingRoom keeps sign-ins that wait, under the SHA-256 of the text that continues them. What waits is lost with the
// process, and its owner starts again.
type waitingRoom struct {
	mu   sync.Mutex
	kept map[[sha256.Size]byte]waiting
}

// keep lets a sign-in wait and returns the text that continues it. One identity's sixth takes the place of its oldest; when
// the room is full the oldest of all gives way.
func (r *waitingRoom) keep(now time.Time, w waiting) string {
	text := rand.Text()
	w.until = now.Add(auth.PendingLife)
	r.mu.Lock()
	defer r.mu.Unlock()
	var own, all [][sha256.Size]byte
	for key, other := range r.kept {
		if !now.Before(other.until) {
			delete(r.kept, key)
			continue
		}
		all = append(all, key)
		if other.of == w.of {
			own = append(own, key)
		}
	}
	oldest := func(keys [][sha256.Size]byte) [sha256.Size]byte {
		return slices.MinFunc(keys, func(a, b [sha256.Size]byte) int {
			return cmp.Compare(r.kept[a].until.UnixNano(), r.kept[b].until.UnixNano())
		})
	}
	switch {
	case len(own) >= maxWaitingOfOneOwn:
		delete(r.kept, oldest(own))
	case len(all) >= maxWaiting:
		delete(r.kept, oldest(all))
	}
	if r.kept == nil {
		r.kept = map[[sha256.Size]byte]waiting{}
	}
	r.kept[sha256.Sum256([]byte(text))] = w
	return text
}

// find returns what waits under a text, if it is the identity's own.
func (r *waitingRoom) find(now time.Time, of session.Identity, text string) (waiting, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w, ok := r.kept[sha256.Sum256([]byte(text))]
	if !ok || w.of != of || !now.Before(w.until) {
		return waiting{}, false
	}
	return w, true
}

// drop takes away what waits under a text, and tells whether it was there.
func (r *waitingRoom) drop(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := sha256.Sum256([]byte(text))
	_, ok := r.kept[key]
	delete(r.kept, key)
	return ok
}
