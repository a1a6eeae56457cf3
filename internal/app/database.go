package app

import (
	"context"
	"fmt"

	"berth/internal/config"
	"berth/internal/store"
)

// openStore opens the database that the settings name: the file in the data folder, or one on a server.
func openStore(ctx context.Context, settings config.Settings) (*store.Store, error) {
	if settings.Database == "" {
		s, err := store.Open(ctx, settings.Data)
		if err != nil {
			return nil, fmt.Errorf("cannot open the database in %s: %w", settings.Data, reason(err))
		}
		return s, nil
	}
	s, err := store.OpenServer(ctx, settings.Database, settings.StartTimeout)
	if err != nil {
		return nil, fmt.Errorf("cannot open the %w", err)
	}
	return s, nil
}
