package node

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"berth/internal/audit"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

const (
	// tokenLife is how long a token that Berth makes works, and renewBelow what must remain for it not to be renewed.
	tokenLife  = 90 * 24 * time.Hour
	renewBelow = 45 * 24 * time.Hour
	// pendingFor is how long making a token may take. One that is pending longer was given up by a crash.
	pendingFor = 2 * time.Minute
	// removalTime bounds the removal of a token on its host, and renewalTime that of an expiry.
	removalTime = 10 * time.Second
	renewalTime = 30 * time.Second
)

// makeToken makes an API token with a ticket. It is stored as pending before, so that it is known whatever happens.
func (s *Service) makeToken(ctx context.Context, caller session.Caller, p plan, r Record, w way) (MadeToken, pve.Token, error) {
	now := s.now()
	name := "berth-" + strings.ToLower(rand.Text()[:10])
	t := MadeToken{
		ID: newID(), Owner: caller.Identity, NodeID: r.ID, NodeName: r.Name, Address: r.Address, LoginHost: p.loginHost, Key: r.Key,
		TokenID: p.userID + "!" + name, State: TokenPending, Created: now, Expires: now.Add(tokenLife),
	}
	if err := s.store.BeginToken(ctx, t); err != nil {
		return MadeToken{}, pve.Token{}, storeDown(err)
	}
	var token pve.Token
	var last error
	sent := false
	err := w(ctx, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
		// Another door must not be asked for what the first may have done. A 401 comes before anything is done.
		if sent && !pve.IsKind(last, pve.KindUnauthenticated) {
			return last
		}
		sent = true
		token, last = host.CreateToken(ctx, with, p.userID, name, pve.TokenOptions{FullPrivileges: true, Expire: t.Expires, Comment: "made by Berth"})
		return last
	})
	if err == nil {
		return t, token, nil
	}
	settle := s.store.LeaveToken
	if !sent || refusedOutright(last) {
		settle = s.store.DropToken
	}
	if problem := settle(ctx, caller.Identity, t.ID); problem != nil {
		slog.ErrorContext(ctx, "token that was not made stays listed", "token", t.TokenID, "cause", problem)
	}
	return MadeToken{}, pve.Token{}, refused(p, err)
}

// refusedOutright tells of an error that says for sure that the host has done nothing.
func refusedOutright(err error) bool {
	var e *pve.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Kind {
	case pve.KindUnauthenticated, pve.KindForbidden, pve.KindInvalidParameters, pve.KindNotFound, pve.KindUnsupported,
		pve.KindCertificate, pve.KindRefusedAddress:
		return true
	}
	return false
}

// unmake removes a token that no node uses on its host, and forgets it; if that can't be done it is left over. It tells
// whether it was done.
func (s *Service) unmake(ctx context.Context, t MadeToken, w way) bool {
	ctx, cancel := context.WithTimeout(ctx, removalTime)
	defer cancel()
	err := w(ctx, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
		user, name := splitTokenID(t.TokenID)
		err := host.DeleteToken(ctx, with, user, name)
		if pve.IsKind(err, pve.KindNotFound) {
			return nil
		}
		return err
	})
	after := context.WithoutCancel(ctx)
	if err != nil {
		slog.WarnContext(ctx, "token not removed on its host", "host", t.Address, "token", t.TokenID, "cause", err)
		if err := s.store.LeaveToken(after, t.Owner, t.ID); err != nil {
			slog.ErrorContext(ctx, "token not noted as left over", "token", t.TokenID, "cause", err)
		}
		return false
	}
	if err := s.store.DropToken(after, t.Owner, t.ID); err != nil && !errors.Is(err, ErrNone) {
		slog.ErrorContext(ctx, "removed token stays listed", "token", t.TokenID, "cause", err)
	}
	s.audit.Record(after, audit.Entry{Identity: t.Owner, Action: audit.NodeTokenRemove, Target: t.NodeName, Detail: t.TokenID + " at " + t.Address.String()})
	return true
}

// removeReplaced removes the tokens that a node used before on their host, if the way leads there.
func (s *Service) removeReplaced(ctx context.Context, r Record, p plan, w way) {
	made, err := s.store.MadeTokens(ctx, r.Owner)
	if err != nil {
		slog.ErrorContext(ctx, "replaced tokens not looked up", "cause", err)
		return
	}
	for _, t := range made {
		user, _ := splitTokenID(t.TokenID)
		if t.NodeID == r.ID && t.State == TokenLeftOver && t.Address == r.Address && user == p.userID {
			s.unmake(ctx, t, w)
		}
	}
}

// leftOver tells whether a token belongs to no node, nor is being made.
func (s *Service) leftOver(t MadeToken) bool {
	return t.State == TokenLeftOver || t.State == TokenPending && s.now().Sub(t.Created) > pendingFor
}

func leftOverView(t MadeToken, caller session.Caller) LeftOver {
	user, name := splitTokenID(t.TokenID)
	return LeftOver{
		ID: t.ID, NodeName: t.NodeName, Host: t.Address.Host, Port: t.Address.Port, TokenID: t.TokenID, Created: t.Created,
		Expires: t.Expires, Certain: t.State != TokenPending, BySignIn: bySignIn(t, caller),
		Command: "pveum user token remove " + shellWord(user) + " " + shellWord(name),
	}
}

// shellWord quotes a word for a shell, if it needs that.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("@.-_", r)
	}
	if !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) && !strings.HasPrefix(s, "-") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// bySignIn tells whether the caller's own ticket can remove a token.
func bySignIn(t MadeToken, caller session.Caller) bool {
	user, _ := splitTokenID(t.TokenID)
	return caller.SignedIn() && t.LoginHost != "" && user == caller.Identity.UserID
}

// Removed is the answer to the removal of a node.
type Removed struct {
	Success bool `json:"success"`
	// LeftOver is the token that Berth had made for it and could not remove on the host now.
	LeftOver *LeftOver `json:"leftOver,omitempty" doc:"the API token that Berth had made for it and that is still on the host"`
}

// Remove is the authenticated action that removes a node. Nothing on its host is lost but the token that Berth made there.
func (s *Service) Remove(ctx context.Context, caller session.Caller, in ID) (Removed, error) {
	r, err := s.record(ctx, caller, in.ID)
	if err != nil {
		return Removed{}, err
	}
	if err := s.store.RemoveNode(ctx, caller.Identity, in.ID); err != nil {
		return Removed{}, s.notStored(err)
	}
	ctx = context.WithoutCancel(ctx)
	s.changed(caller.Identity)
	s.note(ctx, caller, audit.NodeRemove, r, r.Address.String())
	made, err := s.store.MadeTokens(ctx, caller.Identity)
	if err != nil {
		return Removed{}, fault.StoreDown(err)
	}
	removed := Removed{Success: true}
	for _, t := range made {
		if t.NodeID != r.ID || t.State != TokenLeftOver {
			continue
		}
		if !bySignIn(t, caller) || !s.unmake(ctx, t, s.ticketWay(caller, t.LoginHost)) {
			view := leftOverView(t, caller)
			removed.LeftOver = &view
		}
	}
	return removed, nil
}

func (s *Service) ticketWay(caller session.Caller, loginHost string) way {
	return func(ctx context.Context, call func(context.Context, *pve.Host, pve.Credentials) error) error {
		return s.callWithTicket(ctx, caller, loginHost, call)
	}
}

// RemoveTokenInput removes a token that is left over, with the caller's own sign-in or with a password for its user.
type RemoveTokenInput struct {
	ID       string `json:"-" path:"id" doc:"id of the token that is left over"`
	Password string `json:"password,omitempty" doc:"of the token's user, used once; not needed where your own sign-in will do"`
	// Fingerprint confirms a certificate that has changed since.
	Fingerprint string `json:"fingerprint,omitempty" doc:"SHA-256 fingerprint that a 409 certificate_unknown answer named, to confirm it"`
	SecondStep
}

func (in RemoveTokenInput) check() error {
	if in.Challenge != "" {
		return in.SecondStep.validate()
	}
	if _, err := pve.ParseFingerprint(in.Fingerprint); in.Fingerprint != "" && err != nil {
		return fault.InvalidInput(map[string]string{"fingerprint": "Fingerprint must be the 32 bytes of a SHA-256 in hexadecimal"})
	}
	return nil
}

// RemoveToken is the authenticated action that removes a left over token on its host.
func (s *Service) RemoveToken(ctx context.Context, caller session.Caller, in RemoveTokenInput) (Saved, error) {
	t, err := s.leftOverToken(ctx, caller, in.ID)
	if err != nil {
		return Saved{}, err
	}
	if err := in.check(); err != nil {
		return Saved{}, err
	}
	if in.Challenge != "" {
		return s.answerChallenge(ctx, caller, in.SecondStep)
	}
	user, _ := splitTokenID(t.TokenID)
	p := plan{name: t.NodeName, credential: ByMadeToken, address: t.Address, trust: pve.Trust{Key: t.Key}, userID: user, password: in.Password}
	switch {
	case in.Password == "" && bySignIn(t, caller):
		p.loginHost = t.LoginHost
	case in.Password == "":
		return Saved{}, fault.InvalidInput(map[string]string{"password": "Password is required: your sign-in to Berth is not good for this host"})
	case in.Fingerprint != "":
		confirmed, err := pve.ParseFingerprint(in.Fingerprint)
		if err != nil {
			return Saved{}, err
		}
		p.trust = pve.Trust{Certificate: &confirmed}
	}
	if err := s.throttle.TestNode(ctx, caller.Identity); err != nil {
		return Saved{}, err
	}
	return s.open(ctx, caller, p, Deed{Kind: DeedRemove, Of: t.ID})
}

func (s *Service) removeToken(ctx context.Context, t MadeToken, w way) (Saved, error) {
	if !s.unmake(ctx, t, w) {
		return Saved{}, &fault.Error{Kind: fault.Unreachable, Code: "host_unreachable", Message: "The token could not be removed: " + t.Address.String() + " does not answer, or refuses it."}
	}
	return Saved{}, nil
}

// ForgetToken is the authenticated action that takes a left over token off the list, for whoever has removed it on the host.
func (s *Service) ForgetToken(ctx context.Context, caller session.Caller, in ID) (Removed, error) {
	t, err := s.leftOverToken(ctx, caller, in.ID)
	if err != nil {
		return Removed{}, err
	}
	if err := s.store.DropToken(ctx, caller.Identity, t.ID); err != nil {
		return Removed{}, s.notStored(err)
	}
	return Removed{Success: true}, nil
}

func (s *Service) leftOverToken(ctx context.Context, caller session.Caller, id string) (MadeToken, error) {
	made, err := s.store.MadeTokens(ctx, caller.Identity)
	if err != nil {
		return MadeToken{}, fault.StoreDown(err)
	}
	i := slices.IndexFunc(made, func(t MadeToken) bool { return t.ID == id && s.leftOver(t) })
	if i < 0 {
		return MadeToken{}, fault.NoSuch("token")
	}
	return made[i], nil
}

// renewTokens extends the tokens that were made with the ticket of somebody who has just signed in, where little of their
// life is left. It waits for no host.
func (s *Service) renewTokens(ctx context.Context, started session.Session) {
	caller := session.Caller{Identity: started.Identity, Session: started}
	records, err := s.records(ctx, caller)
	if err != nil {
		slog.ErrorContext(ctx, "tokens not renewed", "identity", started.Identity, "cause", err)
		return
	}
	now := s.now()
	for _, r := range records {
		user, name := splitTokenID(r.TokenID)
		if r.Credential != ByMadeToken || r.LoginHost == "" || user != started.Identity.UserID || r.TokenExpires.Sub(now) >= renewBelow {
			continue
		}
		s.background.Go(func() {
			ctx, cancel := context.WithTimeout(s.running, renewalTime)
			defer cancel()
			expires := now.Add(tokenLife)
			err := s.callWithTicket(ctx, caller, r.LoginHost, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
				return host.SetTokenExpiry(ctx, with, user, name, expires)
			})
			if err == nil {
				err = s.store.ExtendToken(context.WithoutCancel(ctx), r.Owner, r.ID, r.TokenID, expires)
				s.changed(r.Owner)
			}
			if err != nil {
				slog.WarnContext(ctx, "token not renewed; the next sign-in tries again", "identity", r.Owner, "node", r.ID, "cause", err)
			}
		})
	}
}
