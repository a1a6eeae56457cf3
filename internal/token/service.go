package token

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"berth/internal/audit"
	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/session"
)

const (
	// DefaultIdle is for how long after their owner's last sign-in tokens work.
	DefaultIdle = 30 * 24 * time.Hour
	// maxTokens bounds the tokens of one identity.
	maxTokens = 50
	// expiredKept is how long an expired token is still listed, for whoever wonders why a program stopped working.
	expiredKept = 30 * 24 * time.Hour
	// fresh is how long a token is believed without the store being asked: what another process changes, whoever revokes a
	// token there, counts here within it.
	fresh = time.Second
	// maxCached bounds the tokens in memory.
	maxCached = 10_000
)

// SignIns knows when people signed in.
type SignIns interface {
	// LastSignIn is when an identity signed in last; the zero value if it never did.
	LastSignIn(ctx context.Context, of session.Identity) (time.Time, error)
}

// Hosts knows who may vouch for people.
type Hosts interface {
	// Vouches tells whether there is still a login host that may vouch for a datacenter's identities.
	Vouches(ctx context.Context, datacenter string) (bool, error)
}

// Options are what a Service needs; all but CatchUp and Idle are required.
type Options struct {
	Store   Store
	SignIns SignIns
	Hosts   Hosts
	Audit   auth.Recorder
	Now     func() time.Time
	// CatchUp returns once Forget was called if anybody else had changed the Store before; with its error nothing in memory
	// counts. Nil means that changes by others may count a second later.
	CatchUp func(context.Context) error
	// Idle is for how long after their owner's last sign-in tokens work; 0 means DefaultIdle.
	Idle time.Duration
}

// Service makes, finds and revokes access tokens. It is safe for concurrent use.
type Service struct {
	store   Store
	signIns SignIns
	hosts   Hosts
	audit   auth.Recorder
	now     func() time.Time
	idle    time.Duration
	catchUp func(context.Context) error
	loads   singleflight.Group

	mu     sync.Mutex
	cached map[Hash]entry
	// epoch counts revocations and calls of Forget: what was read from the store before one is not kept.
	epoch uint64
	used  map[string]time.Time // by id, what the store has not been told yet
}

// entry is what was found out about a token that worked.
type entry struct {
	Token
	at time.Time
}

// NewService returns a service over a store.
func NewService(o Options) *Service {
	s := &Service{
		store: o.Store, signIns: o.SignIns, hosts: o.Hosts, audit: o.Audit, now: o.Now, idle: o.Idle, catchUp: o.CatchUp,
		cached: map[Hash]entry{}, used: map[string]time.Time{},
	}
	if s.idle == 0 {
		s.idle = DefaultIdle
	}
	return s
}

// Use finds the token of a text and notes its use. The error is a fault of kind unauthenticated that says why the token
// does not work, or one of kind unavailable. Nobody guesses 256 bits, so whoever has the text may know.
func (s *Service) Use(ctx context.Context, text string) (Token, error) {
	hash, ok := HashText(text)
	if !ok {
		return Token{}, invalid("This is not an access token of Berth's.")
	}
	current := s.catchUp == nil || s.catchUp(ctx) == nil
	now := s.now()
	s.mu.Lock()
	known, ok := s.cached[hash]
	epoch := s.epoch
	s.mu.Unlock()
	if age := now.Sub(known.at); !ok || !current || age < 0 || age >= fresh {
		found, err, _ := s.loads.Do(fmt.Sprintf("%x/%d", hash, epoch), func() (any, error) {
			// Others wait for this, so it must not end with the first one's request.
			return s.load(context.WithoutCancel(ctx), hash, epoch)
		})
		if err != nil {
			return Token{}, err
		}
		known = found.(entry)
	}
	if !now.Before(known.Expires) {
		return Token{}, expired(known.Token)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[known.ID] = now
	known.LastUsed = now
	return known.Token, nil
}

// Forget makes every token be looked up again. The program calls it when another process has changed the store.
func (s *Service) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	clear(s.cached)
}

// load asks the store for a token, and judges it.
func (s *Service) load(ctx context.Context, hash Hash, epoch uint64) (entry, error) {
	now := s.now()
	found, err := s.store.FindToken(ctx, hash)
	switch {
	case errors.Is(err, ErrNone):
		return entry{}, invalid("There is no such access token, or it was revoked.")
	case err != nil:
		return entry{}, fault.StoreDown(err)
	}
	if err := s.judge(ctx, found, now); err != nil {
		return entry{}, err
	}
	e := entry{Token: found, at: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch == epoch {
		if len(s.cached) >= maxCached {
			clear(s.cached)
		}
		s.cached[hash] = e
	}
	return e, nil
}

// Alive returns nil as long as an identity's token of an id works, with the errors of Use. It does not count as use.
func (s *Service) Alive(ctx context.Context, of session.Identity, id string) error {
	tokens, err := s.store.Tokens(ctx, of)
	if err != nil {
		return fault.StoreDown(err)
	}
	i := slices.IndexFunc(tokens, func(t Token) bool { return t.ID == id })
	if i < 0 {
		return invalid("This access token was revoked.")
	}
	return s.judge(ctx, tokens[i], s.now())
}

// judge tells why a token that is there does not work.
func (s *Service) judge(ctx context.Context, found Token, now time.Time) error {
	if !now.Before(found.Expires) {
		return expired(found)
	}
	vouched, err := s.hosts.Vouches(ctx, found.Identity.Datacenter)
	if err != nil {
		return fault.StoreDown(err)
	}
	if !vouched {
		return invalid("Nobody can sign in to this Berth any more with the Proxmox installation that this access token's owner is from.")
	}
	last, err := s.signIns.LastSignIn(ctx, found.Identity)
	if err != nil {
		return fault.StoreDown(err)
	}
	if now.Sub(last) >= s.idle {
		return &fault.Error{
			Kind: fault.Unauthenticated, Code: "token_idle",
			Message: fmt.Sprintf("The owner of this access token has not signed in to Berth for %s.", days(s.idle)),
			Hint:    "It works again once they have.",
		}
	}
	return nil
}

func invalid(message string) error {
	return &fault.Error{Kind: fault.Unauthenticated, Code: "token_invalid", Message: message}
}

func expired(t Token) error {
	return &fault.Error{Kind: fault.Unauthenticated, Code: "token_expired", Message: "This access token expired on " + t.Expires.Add(-1).Format("2 January 2006") + "."}
}

func days(d time.Duration) string {
	if n := int(d / (24 * time.Hour)); n != 1 {
		return fmt.Sprintf("%d days", n)
	}
	return "a day"
}

// Create is the authenticated action that makes an access token. Its answer is the only time that the text is known.
func (s *Service) Create(ctx context.Context, caller session.Caller, in CreateInput) (Created, error) {
	if err := caller.Require(session.SessionOnly); err != nil {
		return Created{}, err
	}
	// The store keeps milliseconds, and nobody must know more than it does.
	now := s.now().UTC().Truncate(time.Millisecond)
	made, err := in.check(now)
	if err != nil {
		return Created{}, err
	}
	made.ID, made.Identity, made.Created = strings.ToLower(rand.Text()[:16]), caller.Identity, now
	text := newText()
	hash, _ := HashText(text)
	switch err := s.store.CreateToken(ctx, Record{Token: made, Hash: hash}, maxTokens); {
	case errors.Is(err, ErrNameTaken):
		return Created{}, fault.InvalidInput(map[string]string{"name": "You have an access token of this name already"})
	case errors.Is(err, ErrTooMany):
		return Created{}, &fault.Error{
			Kind: fault.Conflict, Code: "too_many_tokens", Message: fmt.Sprintf("You have %d access tokens, and there can't be more.", maxTokens),
			Hint: "Revoke one that is not needed any more.",
		}
	case err != nil:
		return Created{}, fault.StoreDown(err)
	}
	s.audit.Record(ctx, audit.Entry{
		Identity: caller.Identity, Action: audit.TokenCreate, Target: made.Name,
		Detail: fmt.Sprintf("scope %s, until %s UTC", made.Scope, made.Expires.Format("2006-01-02 15:04")),
	})
	return Created{View: s.view(made), Text: text}, nil
}

// List is the authenticated action that lists the caller's access tokens.
func (s *Service) List(ctx context.Context, caller session.Caller, _ auth.None) (List, error) {
	if err := caller.Require(session.SessionOnly); err != nil {
		return List{}, err
	}
	found, err := s.store.Tokens(ctx, caller.Identity)
	if err != nil {
		return List{}, fault.StoreDown(err)
	}
	list := List{Items: make([]View, 0, len(found))}
	for _, t := range found {
		list.Items = append(list.Items, s.view(t))
	}
	last, err := s.signIns.LastSignIn(ctx, caller.Identity)
	if err != nil {
		return List{}, fault.StoreDown(err)
	}
	list.WorkUntil = last.Add(s.idle)
	return list, nil
}

// Show is the authenticated action that shows one of the caller's access tokens.
func (s *Service) Show(ctx context.Context, caller session.Caller, in Choice) (View, error) {
	list, err := s.List(ctx, caller, auth.None{})
	if err != nil {
		return View{}, err
	}
	for _, v := range list.Items {
		if v.ID == in.ID {
			return v, nil
		}
	}
	return View{}, noSuch()
}

// Caller is the authenticated action that tells who asks, and with what.
func (s *Service) Caller(ctx context.Context, caller session.Caller, _ auth.None) (CallerView, error) {
	v := CallerView{UserID: caller.Identity.UserID}
	if caller.SignedIn() {
		return v, nil
	}
	found, err := s.store.Tokens(ctx, caller.Identity)
	if err != nil {
		return CallerView{}, fault.StoreDown(err)
	}
	for _, t := range found {
		if t.ID == caller.Token {
			with := s.view(t)
			v.Token = &with
			return v, nil
		}
	}
	return CallerView{}, invalid("There is no such access token, or it was revoked.") // since the guard looked
}

func noSuch() error { return fault.NoSuch("access token") }

// Revoke is the authenticated action that revokes one of the caller's access tokens, at once.
func (s *Service) Revoke(ctx context.Context, caller session.Caller, in Choice) (Revoked, error) {
	if err := caller.Require(session.SessionOnly); err != nil {
		return Revoked{}, err
	}
	gone, err := s.store.RevokeToken(ctx, caller.Identity, in.ID)
	switch {
	case errors.Is(err, ErrNone):
		return Revoked{}, noSuch()
	case err != nil:
		return Revoked{}, fault.StoreDown(err)
	}
	s.mu.Lock()
	s.epoch++
	clear(s.cached) // hashes are not looked up by id; one read each brings the others back
	delete(s.used, gone.ID)
	s.mu.Unlock()
	s.audit.Record(ctx, audit.Entry{
		Identity: caller.Identity, Action: audit.TokenRevoke, Target: gone.Name, Detail: "scope " + string(gone.Scope),
	})
	return Revoked{Success: true}, nil
}

// view is a token for people and programs, its last use as memory knows it.
func (s *Service) view(t Token) View {
	s.mu.Lock()
	used := s.used[t.ID]
	s.mu.Unlock()
	if used = used.UTC().Truncate(time.Millisecond); used.After(t.LastUsed) {
		t.LastUsed = used
	}
	return View{
		ID: t.ID, Name: t.Name, Scope: t.Scope, CreatedAt: t.Created, ExpiresAt: t.Expires, LastUsedAt: t.LastUsed,
		Expired: !s.now().Before(t.Expires),
	}
}

// Flush writes when tokens were used last. Sweep does it too; the program calls Flush when it ends.
func (s *Service) Flush(ctx context.Context) error {
	s.mu.Lock()
	used := maps.Clone(s.used)
	s.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	if err := s.store.TouchTokens(ctx, used); err != nil {
		return fmt.Errorf("note the use of access tokens: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, at := range used {
		if s.used[id].Equal(at) {
			delete(s.used, id)
		}
	}
	return nil
}

// Sweep writes what Use noted, and removes what expired long ago. The program calls it once a minute.
func (s *Service) Sweep(ctx context.Context) error {
	err := s.Flush(ctx)
	if _, removeErr := s.store.RemoveTokensExpired(ctx, s.now().Add(-expiredKept)); removeErr != nil {
		err = errors.Join(err, fmt.Errorf("remove expired access tokens: %w", removeErr))
	}
	return err
}
