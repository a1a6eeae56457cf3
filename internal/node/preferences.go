package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"berth/internal/fault"
	"berth/internal/session"
)

// maxPreferences bounds what one identity's pages can remember, in bytes.
const maxPreferences = 4 << 10

// Preferences fills into what the caller's pages remember under their JSON names; what was never stored stays as it is.
func (s *Service) Preferences(ctx context.Context, caller session.Caller, into any) error {
	text, err := s.preferences(ctx, caller.Identity)
	switch {
	case errors.Is(err, ErrNoIdentity), err == nil && text == "":
		return nil
	case err != nil:
		return fault.StoreDown(err)
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("read preferences: %w", err)
	}
	return nil
}

// preferences are an identity's, from memory if they are there: every page asks for them.
func (s *Service) preferences(ctx context.Context, of session.Identity) (string, error) {
	current := s.current(ctx)
	s.mu.Lock()
	text, ok := s.preferred[of]
	epoch := s.epoch
	s.mu.Unlock()
	if ok && current {
		return text, nil
	}
	text, err := s.store.Preferences(ctx, of)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch == epoch {
		if len(s.preferred) >= maxRemembered {
			dropOne(s.preferred)
		}
		s.preferred[of] = text
	}
	return text, nil
}

// SetPreferences stores what the caller's pages are to remember: JSON of at most 4 KiB, in place of all that was there.
func (s *Service) SetPreferences(ctx context.Context, caller session.Caller, from any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return fmt.Errorf("write preferences: %w", err)
	}
	if len(text) > maxPreferences {
		return &fault.Error{Kind: fault.TooLarge, Code: "preferences_too_large", Message: "That is more than can be remembered: at most 4 KiB."}
	}
	// The identity may not have been here before.
	if _, err := s.records(ctx, caller); err != nil {
		return err
	}
	// An error does not tell whether they were stored.
	err = s.store.SetPreferences(ctx, caller.Identity, string(text))
	s.mu.Lock()
	s.epoch++
	delete(s.preferred, caller.Identity)
	s.mu.Unlock()
	if err != nil {
		return fault.StoreDown(err)
	}
	return nil
}
