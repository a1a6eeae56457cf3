package app

import (
	"context"

	"berth/internal/container"
	"berth/internal/session"
)

// containers are the containers as changes need them.
type containers struct{ *container.Service }

// Refresh has nothing to do: a reading is two seconds old at most.
func (containers) Refresh(context.Context, session.Caller, string, int) {}
