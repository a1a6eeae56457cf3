package auth_test

import (
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/auth/openidtest"
	"berth/internal/auth/pendingtest"
)

func TestMemoryPendingContract(t *testing.T) {
	pendingtest.Contract(t, func(_ *testing.T, now func() time.Time) auth.PendingStore { return auth.NewMemoryPending(now) })
}

func TestMemoryOpenIDContract(t *testing.T) {
	openidtest.Contract(t, func(_ *testing.T, now func() time.Time) auth.OpenIDStore { return auth.NewMemoryOpenID(now) })
}
