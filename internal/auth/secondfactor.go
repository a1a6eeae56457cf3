package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"time"

	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// PendingLife is how long a sign-in waits for its second factor.
const PendingLife = 5 * time.Minute

// Bounds of the half-done sign-ins in memory. A host that vouches for everybody can ask for second factors as often as
// its owner likes, so what one host causes must not push out what others did.
const (
	// MaxPendingAtHost is how many wait at one Proxmox VE address; a further one takes the place of the oldest there.
	MaxPendingAtHost = 500
	// MaxPendingBytes is what all of them weigh. When there is no room the host that weighs most gives up its oldest.
	MaxPendingBytes = 16 << 20
)

// Certificate is what the host of an attempt showed.
type Certificate struct {
	Key         pve.KeyPin
	Fingerprint pve.Fingerprint
}

// Attempt is a sign-in on its way: which host said yes so far, and to whom.
type Attempt struct {
	Address pve.Address
	// LoginHost is the id of the known login host that it began at; empty at a host that was new.
	LoginHost string
	// Trust is what the connection accepted: at a known login host its pin of that moment.
	Trust  pve.Trust
	Peer   Certificate
	UserID string
	Realm  string
	Client session.Client
	// Claims is set when the sign-in claims the installation if it succeeds.
	Claims    bool
	Challenge pve.Challenge
	// Taken is the attempt that the first step counted as; the second one gives it back.
	Taken Taken
}

// PendingStore keeps sign-ins that wait for their second factor, under the SHA-256 of the text that continues them.
type PendingStore interface {
	// KeepAttempt stores an attempt until the given time.
	KeepAttempt(ctx context.Context, key [sha256.Size]byte, a Attempt, until time.Time) error
	// PendingAttempt returns ErrNoAttempt if there is none, or its time has passed.
	PendingAttempt(ctx context.Context, key [sha256.Size]byte) (Attempt, error)
	// DropAttempt removes an attempt; one that is not there is no error.
	DropAttempt(ctx context.Context, key [sha256.Size]byte) error
}

// ErrNoAttempt says that a second step has no first.
var ErrNoAttempt = errors.New("no such sign-in is waiting")

// MemoryPending is a PendingStore in memory: what waits is lost with the process, and the visitor starts again.
type MemoryPending struct {
	now    func() time.Time
	mu     sync.Mutex
	kept   map[[sha256.Size]byte]pendingAttempt
	hosts  map[pve.Address]*pendingHost
	weight int // of all hosts
}

type pendingAttempt struct {
	Attempt
	until time.Time
}

// pendingHost is what waits at one address: keys in the order of their ends, those that are gone among them.
type pendingHost struct {
	keys   [][sha256.Size]byte
	weight int
}

var _ PendingStore = (*MemoryPending)(nil)

// NewMemoryPending returns an empty store.
func NewMemoryPending(now func() time.Time) *MemoryPending {
	return &MemoryPending{now: now, kept: map[[sha256.Size]byte]pendingAttempt{}, hosts: map[pve.Address]*pendingHost{}}
}

// Weight is about what an attempt takes in memory.
func (a Attempt) Weight() int {
	return 1<<10 + len(a.Challenge.Ticket) + len(a.UserID) + len(a.Client.UserAgent) + 8*len(a.Challenge.Recovery)
}

// KeepAttempt implements PendingStore.
func (m *MemoryPending) KeepAttempt(_ context.Context, key [sha256.Size]byte, a Attempt, until time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.hosts[a.Address]
	if at == nil {
		at = &pendingHost{}
		m.hosts[a.Address] = at
	}
	m.kept[key] = pendingAttempt{a, until}
	at.keys = append(at.keys, key)
	at.weight += a.Weight()
	m.weight += a.Weight()

	now := m.now()
	for host, waiting := range m.hosts {
		for len(waiting.keys) > 0 {
			oldest, ok := m.kept[waiting.keys[0]]
			if ok && now.Before(oldest.until) && len(waiting.keys) <= MaxPendingAtHost {
				break
			}
			m.dropOldest(host)
		}
	}
	for m.weight > MaxPendingBytes {
		heaviest := a.Address
		for host, waiting := range m.hosts {
			if waiting.weight > m.hosts[heaviest].weight {
				heaviest = host
			}
		}
		m.dropOldest(heaviest)
	}
	return nil
}

// dropOldest gives up the oldest attempt at a host. m.mu is held.
func (m *MemoryPending) dropOldest(host pve.Address) {
	waiting := m.hosts[host]
	m.drop(waiting.keys[0])
	if waiting.keys = waiting.keys[1:]; len(waiting.keys) == 0 {
		delete(m.hosts, host)
	}
}

// drop forgets an attempt; its key stays in its host's order until it is the oldest. m.mu is held.
func (m *MemoryPending) drop(key [sha256.Size]byte) {
	p, ok := m.kept[key]
	if !ok {
		return
	}
	delete(m.kept, key)
	m.weight -= p.Weight()
	m.hosts[p.Address].weight -= p.Weight()
}

// PendingAttempt implements PendingStore.
func (m *MemoryPending) PendingAttempt(_ context.Context, key [sha256.Size]byte) (Attempt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.kept[key]
	if !ok || !m.now().Before(p.until) {
		return Attempt{}, ErrNoAttempt
	}
	return p.Attempt, nil
}

// DropAttempt implements PendingStore.
func (m *MemoryPending) DropAttempt(_ context.Context, key [sha256.Size]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(key)
	return nil
}

// askSecondFactor keeps an attempt and tells what would complete it.
func (s *Service) askSecondFactor(ctx context.Context, a Attempt, c pve.Challenge) (SignedIn, error) {
	a.Challenge = c
	text := rand.Text()
	if err := s.pending.KeepAttempt(ctx, sha256.Sum256([]byte(text)), a, s.now().Add(PendingLife)); err != nil {
		return SignedIn{}, fault.StoreDown(err)
	}
	return SignedIn{TFA: s.question(ctx, text, a)}, nil
}

func (s *Service) question(ctx context.Context, text string, a Attempt) *SecondFactor {
	q := &SecondFactor{
		Challenge: text, Kinds: []string{}, BrowserKey: a.Challenge.WebAuthn || a.Challenge.U2F,
		UserID: a.UserID, Host: a.Address.String(), TOTPLeft: s.totpLeft(ctx, a),
	}
	if a.Challenge.TOTP {
		q.Kinds = append(q.Kinds, string(pve.FactorTOTP))
	}
	if a.Challenge.Yubico {
		q.Kinds = append(q.Kinds, string(pve.FactorYubico))
	}
	if a.Challenge.Recovery != nil {
		left := len(a.Challenge.Recovery)
		q.RecoveryLeft = &left
		if left > 0 {
			q.Kinds = append(q.Kinds, string(pve.FactorRecovery))
		}
	}
	return q
}

func challengeExpired() error {
	return &fault.Error{
		Kind: fault.Unauthenticated, Code: "challenge_expired",
		Message: "This sign-in has waited too long for its second step. Please start again.",
	}
}

// Question tells again what a half-done sign-in waits for, so that a page can be shown once more.
func (s *Service) Question(ctx context.Context, challenge string) (*SecondFactor, error) {
	a, err := s.pending.PendingAttempt(ctx, sha256.Sum256([]byte(challenge)))
	switch {
	case errors.Is(err, ErrNoAttempt):
		return nil, challengeExpired()
	case err != nil:
		return nil, fault.StoreDown(err)
	}
	return s.question(ctx, challenge, a), nil
}

// AnswerChallenge is the public action of the second step: it sends the code to the host that asked for it and starts the
// session. A wrong code may be tried again until the five minutes are over, as far as the throttle lets it.
func (s *Service) AnswerChallenge(ctx context.Context, in SecondFactorInput) (SignedIn, error) {
	began := s.now()
	if err := in.Validate(); err != nil {
		return SignedIn{}, err
	}
	key := sha256.Sum256([]byte(in.Challenge))
	a, err := s.pending.PendingAttempt(ctx, key)
	switch {
	case errors.Is(err, ErrNoAttempt):
		return s.throttled(ctx, pve.Address{}, "", func(Taken) (SignedIn, error) {
			s.wait(ctx, FailureDelay-s.now().Sub(began))
			return SignedIn{}, challengeExpired()
		})
	case err != nil:
		return SignedIn{}, fault.StoreDown(err)
	}
	out, err := s.throttled(ctx, a.Address, a.UserID, func(Taken) (SignedIn, error) { return s.answerChallenge(ctx, began, key, a, in) })
	if out.Success {
		ctx := context.WithoutCancel(ctx)
		noteProblem(ctx, s.throttle.store.GiveBack(ctx, s.now(), a.Taken))
	}
	return out, s.recordSecondFactor(ctx, a, in.Kind, out, err)
}

// answerChallenge is the second step of a sign-in that may be tried.
func (s *Service) answerChallenge(ctx context.Context, began time.Time, key [sha256.Size]byte, a Attempt, in SecondFactorInput) (SignedIn, error) {
	known, err := s.standing(ctx, a)
	if err != nil {
		if fault.KindOf(err) == fault.Forbidden {
			noteProblem(ctx, s.pending.DropAttempt(ctx, key))
		}
		return SignedIn{}, s.settle(ctx, began, a, err)
	}
	if known != nil {
		a.LoginHost, a.Trust = known.ID, known.trust()
	}
	host := s.hosts.client.Host(a.Address, a.Trust)
	kind := pve.Factor(in.Kind)
	answer, err := host.AnswerChallenge(ctx, a.Challenge, kind, in.code(), pve.WithForwardedFor(session.ClientFrom(ctx).Address))
	s.noteCode(ctx, a, kind, err)
	if err != nil {
		refused := s.refuse(ctx, began, known, a.Address, a.UserID, err)
		if f := fault.As(refused); f != nil {
			// Whoever is here knew the password, so this tells nothing new.
			if clock := clockHint(a.Address, err); f.Hint == "" || f.Hint == clock {
				f.Hint = strings.TrimSpace("The code was not accepted, or the host did not answer. " + f.Hint)
			}
			if left := s.totpLeft(ctx, a); left != nil {
				f.Details = map[string]any{"totpLeft": *left}
			}
		}
		return SignedIn{}, refused
	}
	// The second connection may have met a renewed certificate with the same key.
	if peer, ok := host.Peer(); ok {
		a.Peer = Certificate{Key: peer.Key, Fingerprint: peer.Fingerprint}
	}
	if err := s.pending.DropAttempt(ctx, key); err != nil {
		return SignedIn{}, fault.StoreDown(err)
	}
	return s.finish(ctx, began, a, host, answer.Ticket)
}
