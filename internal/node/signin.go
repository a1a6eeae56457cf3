package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"strings"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// way is how a host is called while something is done there: the session's ticket or that of a sign-in there.
type way func(ctx context.Context, call func(context.Context, *pve.Host, pve.Credentials) error) error

// open finds a way to the host of a plan and does with it what it is wanted for. Where it needs a password it signs in there
// first; should the host then ask for a second factor, the answer is that question, and AnswerChallenge goes on.
func (s *Service) open(ctx context.Context, caller session.Caller, p plan, d Deed) (Saved, error) {
	switch {
	case p.loginHost != "":
		return s.do(ctx, caller, d, p, func(ctx context.Context, call func(context.Context, *pve.Host, pve.Credentials) error) error {
			return s.callWithTicket(ctx, caller, p.loginHost, call)
		})
	case p.password != "":
		return s.signInThere(ctx, caller, p, d)
	}
	return s.do(ctx, caller, d, p, with(s.client.Host(p.address, p.trust), pve.Token{ID: p.tokenID, Secret: p.secret}))
}

// do does what a way was wanted for.
func (s *Service) do(ctx context.Context, caller session.Caller, d Deed, p plan, w way) (Saved, error) {
	switch d.Kind {
	case DeedAdd:
		return s.save(ctx, caller, p, Record{Node: Node{ID: newID(), Owner: caller.Identity, Created: s.now(), IsDefault: d.IsDefault}}, d, w)
	case DeedChange:
		before, err := s.record(ctx, caller, d.Of)
		if err != nil {
			return Saved{}, err
		}
		if before.Version != d.Version {
			return Saved{}, s.notStored(ErrChanged)
		}
		return s.save(ctx, caller, p, before, d, w)
	case DeedRemove:
		t, err := s.leftOverToken(ctx, caller, d.Of)
		if err != nil {
			return Saved{}, err
		}
		return s.removeToken(ctx, t, w)
	}
	return s.tested(ctx, p, w)
}

func with(host *pve.Host, credentials pve.Credentials) way {
	return func(ctx context.Context, call func(context.Context, *pve.Host, pve.Credentials) error) error {
		return call(ctx, host, credentials)
	}
}

// signInThere signs in at a host that need not be a login host: its word counts for nothing but this node.
func (s *Service) signInThere(ctx context.Context, caller session.Caller, p plan, d Deed) (Saved, error) {
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
		w := Waiting{
			Owner: caller.Identity, Deed: d, Name: p.name, Unnamed: p.unnamed, Credential: p.credential, Address: p.address, Trust: p.trust,
			UserID: p.userID, Challenge: *answer.Challenge,
		}
		text := rand.Text()
		if err := s.waiting.KeepWaiting(ctx, sha256.Sum256([]byte(text)), w, s.now().Add(auth.PendingLife)); err != nil {
			return Saved{}, fault.StoreDown(err)
		}
		return Saved{TFA: question(text, p, *answer.Challenge)}, nil
	}
	return s.goOn(ctx, caller, d, p, host, answer.Ticket)
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

func (s *Service) goOn(ctx context.Context, caller session.Caller, d Deed, p plan, host *pve.Host, ticket pve.Ticket) (Saved, error) {
	if !strings.EqualFold(ticket.UserID, p.userID) {
		return Saved{}, &fault.Error{Kind: fault.Unreachable, Code: "not_proxmox", Message: p.address.String() + " answered with another account's ticket."}
	}
	p.userID = ticket.UserID
	return s.do(ctx, caller, d, p, with(host, ticket))
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
	w, err := s.waitingFor(ctx, caller, in.Challenge)
	if err != nil {
		return Saved{}, err
	}
	p, host := w.plan(), s.client.Host(w.Address, w.Trust)
	var answer pve.SignIn
	err = s.attempt(ctx, p, func() (err error) {
		answer, err = host.AnswerChallenge(ctx, w.Challenge, pve.Factor(in.Kind), strings.Join(strings.Fields(in.Code), ""), pve.WithForwardedFor(session.ClientFrom(ctx).Address))
		return err
	})
	if pve.IsKind(err, pve.KindUnauthenticated) {
		var e *pve.Error
		errors.As(err, &e)
		message := "The host did not accept this code"
		if words := clockWords(p.address, e.ClockSkew); words != "" {
			message += ". " + words
		}
		return Saved{}, fault.InvalidInput(map[string]string{"code": message})
	}
	if err != nil {
		return Saved{}, refused(p, err)
	}
	switch err := s.waiting.DropWaiting(ctx, sha256.Sum256([]byte(in.Challenge))); {
	case errors.Is(err, ErrNotWaiting):
		return Saved{}, challengeExpired() // answered twice at once
	case err != nil:
		return Saved{}, fault.StoreDown(err)
	}
	return s.goOn(ctx, caller, w.Deed, p, host, answer.Ticket)
}

// waitingFor is what of the caller's waits for a text.
func (s *Service) waitingFor(ctx context.Context, caller session.Caller, challenge string) (Waiting, error) {
	w, err := s.waiting.FindWaiting(ctx, sha256.Sum256([]byte(challenge)), caller.Identity)
	switch {
	case errors.Is(err, ErrNotWaiting):
		return Waiting{}, challengeExpired()
	case err != nil:
		return Waiting{}, fault.StoreDown(err)
	}
	return w, nil
}

// Question tells again what a sign-in at a host waits for, so that a page can be shown once more.
func (s *Service) Question(ctx context.Context, caller session.Caller, challenge string) (*auth.SecondFactor, error) {
	w, err := s.waitingFor(ctx, caller, challenge)
	if err != nil {
		return nil, err
	}
	return question(challenge, w.plan(), w.Challenge), nil
}

func challengeExpired() error {
	return &fault.Error{
		Kind: fault.Conflict, Code: "second_step_expired", Message: "This sign-in has waited too long for its second step. Please start again.",
	}
}
