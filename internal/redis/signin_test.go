package redis_test

import (
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/auth/openidtest"
	"berth/internal/auth/pendingtest"
	"berth/internal/auth/throttletest"
	"berth/internal/node"
	"berth/internal/node/nodetest"
	"berth/internal/pve"
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
	client, sealer := open(t, server.URL()), newSealer(t)
	openidtest.Contract(t, func(t *testing.T, now func() time.Time) auth.OpenIDStore {
		server.Do(t, "FLUSHALL")
		return redis.NewOpenID(client, sealer, now)
	})
}

func TestNodeSignInsContract(t *testing.T) {
	server := redistest.Start(t)
	client, sealer := open(t, server.URL()), newSealer(t)
	nodetest.WaitingContract(t, func(t *testing.T, now func() time.Time) node.WaitingStore {
		server.Do(t, "FLUSHALL")
		return redis.NewNodeSignIns(client, sealer, now)
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

// TestAbuseOpenIDAttemptIsSealed: who can write to Redis alone can't say which host a sign-in at an identity provider is from.
func TestAbuseOpenIDAttemptIsSealed(t *testing.T) {
	server := redistest.Start(t)
	kept := redis.NewOpenID(open(t, server.URL()), newSealer(t), time.Now)
	browser := [32]byte{1}
	keep := func(state [32]byte, host string) {
		t.Helper()
		a := auth.OpenIDAttempt{LoginHost: auth.LoginHost{ID: host, Address: pve.Address{Host: host, Port: 8006}}, Browser: browser, Network: "192.0.2.0"}
		if err := kept.KeepOpenID(t.Context(), state, a, time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	victim, thief := [32]byte{2}, [32]byte{3}
	item := func(state [32]byte) string { return "{openid}:item:" + hex.EncodeToString(state[:]) }
	keep(victim, "pve.lan")
	if value := server.Text(t, "HGET", item(victim), "value"); value == "" || strings.Contains(value, "pve.lan") {
		t.Fatalf("in Redis lies %q", value)
	}
	keep(thief, "evil.lan")
	server.Do(t, "COPY", item(thief), item(victim), "REPLACE")
	if server.Text(t, "HGET", item(thief), "value") != server.Text(t, "HGET", item(victim), "value") {
		t.Fatal("nothing was copied")
	}
	if a, err := kept.TakeOpenID(t.Context(), victim, browser); err == nil {
		t.Errorf("the sign-in is finished at %s", a.LoginHost.Address)
	}
}
