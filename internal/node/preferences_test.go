package node

import (
	"context"
	"testing"
	"time"

	"berth/internal/session"
)

// remembering is a store that counts how often it is asked for preferences.
type remembering struct {
	Store
	text  string
	asked int
}

func (r *remembering) Preferences(context.Context, session.Identity) (string, error) {
	r.asked++
	return r.text, nil
}

func (r *remembering) SetPreferences(_ context.Context, _ session.Identity, text string) error {
	r.text = text
	return nil
}

func (r *remembering) Nodes(context.Context, session.Identity) ([]Record, error) { return nil, nil }

// Preferences are read once, and are never older than what this process or, once Forget was called, another has stored.
func TestPreferencesAreRemembered(t *testing.T) {
	store := &remembering{text: `{"n":1}`}
	s := NewService(Options{Store: store, Now: time.Now})
	caller := session.Caller{Identity: session.Identity{Datacenter: "dc", UserID: "alice@pve"}}
	read := func(want, asked int) {
		t.Helper()
		var p struct{ N int }
		if err := s.Preferences(t.Context(), caller, &p); err != nil || p.N != want {
			t.Errorf("preferences %v, %v; want %d", p, err, want)
		}
		if store.asked != asked {
			t.Errorf("the store was asked %d times, want %d", store.asked, asked)
		}
	}
	read(1, 1)
	read(1, 1)
	if err := s.SetPreferences(t.Context(), caller, map[string]int{"n": 2}); err != nil {
		t.Fatal(err)
	}
	read(2, 2)
	store.text = `{"n":3}`
	read(2, 2)
	s.Forget()
	read(3, 3)
}
