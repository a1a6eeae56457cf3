package redis_test

import (
	"path/filepath"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/auth/openidtest"
	"berth/internal/auth/pendingtest"
	"berth/internal/auth/throttletest"
	"berth/internal/redis"
	"berth/internal/redis/redistest"
	"berth/internal/seal"
)

func newSealer(t *testing.T) *seal.Sealer {
	t.Helper()
	sealer, err := seal.Create(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

func TestPendingContract(t *testing.T) {
	server := redistest.Start(t)
	client, sealer := open(t, server.URL()), newSealer(t)
	pendingtest.Contract(t, func(t *testing.T, now func() time.Time) auth.PendingStore {
		server.Do(t, "FLUSHALL")
		return redis.NewPending(client, sealer, now)
	})
}

func TestOpenIDContract(t *testing.T) {
	server := redistest.Start(t)
	client := open(t, server.URL())
	openidtest.Contract(t, func(t *testing.T, now func() time.Time) auth.OpenIDStore {
		server.Do(t, "FLUSHALL")
		return redis.NewOpenID(client, now)
	})
}

func TestThrottleContract(t *testing.T) {
	server := redistest.Start(t)
	client := open(t, server.URL())
	throttletest.Contract(t, func(t *testing.T) auth.ThrottleStore {
		server.Do(t, "FLUSHALL")
		return redis.NewThrottle(client)
	})
}
