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
	text, err := s.store.Preferences(ctx, caller.Identity)
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
	if err := s.store.SetPreferences(ctx, caller.Identity, string(text)); err != nil {
		return fault.StoreDown(err)
	}
	return nil
}
