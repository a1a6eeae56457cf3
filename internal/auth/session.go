package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/internal/audit"
	"berth/internal/fault"
	"berth/internal/session"
)

// SessionsQuery says which sessions a caller wants to see.
type SessionsQuery struct {
	Whose string `json:"whose,omitempty" enum:"mine,everyone" doc:"mine if absent; everyone is for owners"`
	Text  string `json:"q,omitempty" doc:"part of a user id, address or user agent"`
}

const maxSessionText = 200

// Validate reports every field that can't be right.
func (q SessionsQuery) Validate() error {
	fields := map[string]string{}
	if !isWhose(q.Whose) {
		fields["whose"] = badWhose
	}
	if len(q.Text) > maxSessionText {
		fields["q"] = fmt.Sprintf("Search text is too long: at most %d bytes", maxSessionText)
	}
	return fault.InvalidInput(fields)
}

const (
	everyone = "everyone"
	badWhose = "Whose must be mine or everyone"
)

func isWhose(s string) bool { return s == "" || s == "mine" || s == everyone }

// SessionView is a session as people and programs see it.
type SessionView struct {
	ID        string    `json:"id" doc:"names the session; it is not what the cookie carries"`
	UserID    string    `json:"userId" example:"root@pam"`
	Realm     string    `json:"realm" example:"pam"`
	Host      string    `json:"host" doc:"login host that vouched, with its port" example:"192.168.1.100:8006"`
	Current   bool      `json:"current" doc:"whether it is the one that this was asked with"`
	Mine      bool      `json:"mine" doc:"whether it belongs to the caller"`
	CreatedAt time.Time `json:"createdAt"`
	LastSeen  time.Time `json:"lastSeenAt"`
	ExpiresAt time.Time `json:"expiresAt" doc:"when it ends if it is not used again"`
	Address   string    `json:"address" doc:"from where it was started; empty when unknown"`
	LastFrom  string    `json:"lastAddress" doc:"from where it was used last; empty when unknown"`
	UserAgent string    `json:"userAgent" doc:"as the client sent it"`
	Device    string    `json:"device" doc:"the user agent in words" example:"Firefox on Linux"`
}

// SessionList is the answer to a SessionsQuery.
type SessionList struct {
	Items []SessionView `json:"items" doc:"last used first"`
	More  bool          `json:"more" doc:"whether there are others, which a search finds"`
	// Everyone tells that everyone's are meant.
	Everyone bool `json:"everyone"`
}

// Sessions is the authenticated action that lists the caller's sessions, or for an owner everyone's.
func (s *Service) Sessions(ctx context.Context, caller session.Caller, q SessionsQuery) (SessionList, error) {
	if err := q.Validate(); err != nil {
		return SessionList{}, err
	}
	list := SessionList{Items: []SessionView{}, Everyone: q.Whose == everyone}
	if list.Everyone {
		if err := s.requireOwner(ctx, caller); err != nil {
			return SessionList{}, err
		}
	}
	found, more, err := s.sessions.List(ctx, caller.Identity, list.Everyone, strings.TrimSpace(q.Text))
	if err != nil {
		return SessionList{}, fault.StoreDown(err)
	}
	list.More = more
	for _, one := range found {
		list.Items = append(list.Items, s.viewSession(ctx, caller, one))
	}
	return list, nil
}

func (s *Service) viewSession(ctx context.Context, caller session.Caller, one session.Session) SessionView {
	v := SessionView{
		ID: one.Hash.ID().String(), UserID: one.Identity.UserID, Realm: one.Realm,
		Current: one.Hash == caller.Session.Hash, Mine: one.Identity == caller.Identity,
		CreatedAt: one.Created, LastSeen: one.LastSeen, ExpiresAt: s.sessions.Expires(one),
		UserAgent: one.Client.UserAgent, Device: one.Client.Device(),
	}
	if one.Client.Address.IsValid() {
		v.Address = one.Client.Address.String()
	}
	if one.LastFrom.IsValid() {
		v.LastFrom = one.LastFrom.String()
	}
	// Without its host the rest is still worth showing.
	if at, err := s.hosts.Address(ctx, one.LoginHost); err == nil {
		v.Host = at.String()
	}
	return v
}

// SessionChoice names a session.
type SessionChoice struct {
	ID string `json:"-" path:"id" doc:"of the session, as a list names it"`
}

// Session is the authenticated action that shows one session: of the caller, or for an owner of anybody. To everybody else
// it does not exist.
func (s *Service) Session(ctx context.Context, caller session.Caller, in SessionChoice) (SessionView, error) {
	found, err := s.chosen(ctx, caller, in.ID)
	if err != nil {
		return SessionView{}, err
	}
	return s.viewSession(ctx, caller, found), nil
}

func (s *Service) chosen(ctx context.Context, caller session.Caller, text string) (session.Session, error) {
	id, ok := session.ParseID(text)
	if !ok {
		return session.Session{}, fault.NoSuch("session")
	}
	found, err := s.sessions.ByID(ctx, id)
	switch {
	case errors.Is(err, session.ErrNone):
		return session.Session{}, fault.NoSuch("session")
	case err != nil:
		return session.Session{}, fault.StoreDown(err)
	case found.Identity == caller.Identity:
		return found, nil
	}
	owner, err := s.Owner(ctx, caller)
	if err != nil && fault.KindOf(err) == fault.Unauthenticated {
		return session.Session{}, err
	}
	if err != nil || !owner {
		// Also when the host can't be asked: who isn't known to be an owner must not learn that there is such a session.
		return session.Session{}, fault.NoSuch("session")
	}
	return found, nil
}

// EndedSession is the answer to the end of a session.
type EndedSession struct {
	Success bool `json:"success"`
	// Own tells that it was the session that this was asked with.
	Own bool `json:"own" doc:"whether it was the session that this was asked with"`
}

// EndSession is the authenticated action that ends a session of the caller's, or for an owner anybody's.
func (s *Service) EndSession(ctx context.Context, caller session.Caller, in SessionChoice) (EndedSession, error) {
	found, err := s.chosen(ctx, caller, in.ID)
	if err != nil {
		return EndedSession{}, err
	}
	own := found.Hash == caller.Session.Hash
	if own {
		_, err := s.SignOut(ctx, caller, None{})
		return EndedSession{Success: err == nil, Own: true}, err
	}
	if err := s.sessions.End(ctx, found.Hash); err != nil {
		return EndedSession{}, fault.StoreDown(err)
	}
	e := audit.Entry{Identity: caller.Identity, Action: audit.SessionEnd, Target: found.Client.Device()}
	if found.Identity != caller.Identity {
		e.Subject = found.Identity
		e.Detail = "a session of " + found.Identity.UserID
	}
	s.audit.Record(ctx, e)
	return EndedSession{Success: true}, nil
}

// OtherSessions says which sessions are to end.
type OtherSessions struct {
	Whose string `json:"whose,omitempty" enum:"mine,everyone" doc:"mine if absent; everyone, for owners, ends all sessions there are but the one that asks"`
}

// Validate reports every field that can't be right.
func (o OtherSessions) Validate() error {
	if !isWhose(o.Whose) {
		return fault.InvalidInput(map[string]string{"whose": badWhose})
	}
	return nil
}

// EndedSessions is the answer to the end of many sessions.
type EndedSessions struct {
	Success bool `json:"success"`
	Ended   int  `json:"ended" doc:"how many sessions ended"`
}

// EndOtherSessions is the authenticated action that ends all of the caller's sessions, or for an owner everyone's, but the
// one that asks.
func (s *Service) EndOtherSessions(ctx context.Context, caller session.Caller, in OtherSessions) (EndedSessions, error) {
	if err := in.Validate(); err != nil {
		return EndedSessions{}, err
	}
	all := in.Whose == everyone
	if all {
		if err := s.requireOwner(ctx, caller); err != nil {
			return EndedSessions{}, err
		}
	}
	ended, err := s.sessions.EndOthers(ctx, caller.Identity, all, caller.Session.Hash)
	if err != nil {
		return EndedSessions{}, fault.StoreDown(err)
	}
	byIdentity := map[session.Identity]int{}
	for _, one := range ended {
		byIdentity[one.Identity]++
	}
	for identity, n := range byIdentity {
		e := audit.Entry{Identity: caller.Identity, Action: audit.SessionEnd, Target: sessionsInWords(n)}
		if identity != caller.Identity {
			e.Subject = identity
			e.Detail = "all sessions of " + identity.UserID
		} else {
			e.Detail = "all but the one that asked"
		}
		s.audit.Record(ctx, e)
	}
	return EndedSessions{Success: true, Ended: len(ended)}, nil
}

func sessionsInWords(n int) string {
	if n == 1 {
		return "1 session"
	}
	return fmt.Sprintf("%d sessions", n)
}

// SessionReplaced ends the session that a browser had when it signed in anew. The new session stands whether or not the
// old one could be ended; it runs out by itself.
func (s *Service) SessionReplaced(ctx context.Context, old session.Session) {
	if err := s.sessions.End(ctx, old.Hash); err != nil {
		return
	}
	s.audit.Record(ctx, audit.Entry{
		Identity: old.Identity, Action: audit.SessionEnd, Target: old.Client.Device(), Detail: "the same browser signed in anew",
	})
}
