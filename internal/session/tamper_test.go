package session_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"berth/internal/pve"
	"berth/internal/session"
)

// tampered is a store somebody can write to who has no key: records come back as change makes them.
type tampered struct {
	session.Store
	change func(*session.Record)
}

func (s *tampered) FindSession(ctx context.Context, h session.Hash) (session.Record, error) {
	rec, err := s.Store.FindSession(ctx, h)
	if err == nil && s.change != nil {
		s.change(&rec)
	}
	return rec, err
}

func (s *tampered) AgingSessions(ctx context.Context, before time.Time, limit int) ([]session.Record, error) {
	all, err := s.Store.AgingSessions(ctx, before, limit)
	for i := range all {
		if s.change != nil {
			s.change(&all[i])
		}
	}
	return all, err
}

// TestAbuseRecordChangedInTheStore: whoever can write to the store, without the key, makes no session somebody else's, leads no
// ticket to another host, and has none last longer.
func TestAbuseRecordChangedInTheStore(t *testing.T) {
	for name, change := range map[string]func(*session.Record){
		"another user":            func(r *session.Record) { r.Identity.UserID = "root@pam" },
		"another datacenter":      func(r *session.Record) { r.Identity.Datacenter = "other" },
		"another login host":      func(r *session.Record) { r.LoginHost = "other" },
		"a later beginning":       func(r *session.Record) { r.Created = r.Created.Add(time.Hour) },
		"a later end":             func(r *session.Record) { r.Ends = r.Ends.Add(time.Hour) },
		"what was sealed is gone": func(r *session.Record) { r.Secret = []byte("{}") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplicas(t)
			token, s := r.start(t)
			r.find(t, r.registry, token, nil)
			r.find(t, r.other, token, nil)
			store := &tampered{Store: r.store, change: change}
			poisoned := session.NewRegistry(session.Options{Store: store, Sealer: r.sealer, Renewer: r.renewer, Now: r.now, Proven: r.proven.Load})
			t.Cleanup(func() { poisoned.Close(context.Background()) })

			store.change = nil
			r.find(t, poisoned, token, nil)
			store.change = change
			for _, when := range []string{"in memory, and in doubt", "not in memory"} {
				if when == "not in memory" {
					if err := poisoned.Reload(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				poisoned.Doubt(s.Hash)
				if found, err := poisoned.Find(t.Context(), token); err == nil {
					t.Errorf("%s: it is the session of %+v until %v", when, found.Identity, found.Ends)
				} else if opens := name != "what was sealed is gone"; opens && !errors.Is(err, session.ErrNone) {
					t.Errorf("%s: %v, want ErrNone", when, err)
				}
				err := poisoned.Call(t.Context(), s.Hash, func(context.Context, pve.Ticket) error { return nil })
				if err == nil {
					t.Errorf("%s: a call was made", when)
				}
			}

			// Used since the ticket came, and about to run out.
			r.advance(time.Minute)
			r.use(t, token)
			if err := r.registry.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.advance(110 * time.Minute)
			if err := poisoned.RenewAging(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := r.renewer.count.Load(); n != 0 {
				t.Errorf("%d renewals of a session that is none", n)
			}
			store.change = nil
			if err := poisoned.RenewAging(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := r.renewer.count.Load(); n != 1 {
				t.Errorf("%d renewals of the session as it was, want 1", n)
			}
		})
	}
}
