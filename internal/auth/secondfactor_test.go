package auth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"berth/internal/pve"
)

func attemptAt(host string, ticket int) Attempt {
	return Attempt{
		Address: pve.Address{Host: host, Port: 8006}, UserID: "bob@pve",
		Challenge: pve.Challenge{UserID: "bob@pve", Ticket: strings.Repeat("x", ticket), TOTP: true},
	}
}

func TestPendingSignIns(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	m := NewMemoryPending(func() time.Time { return now })
	key := sha256.Sum256([]byte("a"))
	want := attemptAt("pve.lan", 100)
	if err := m.KeepAttempt(t.Context(), key, want, now.Add(PendingLife)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(PendingLife - time.Second)
	if got, err := m.PendingAttempt(t.Context(), key); err != nil || got.UserID != want.UserID || got.Address != want.Address {
		t.Errorf("%+v, %v", got.UserID, err)
	}
	now = now.Add(time.Second)
	if _, err := m.PendingAttempt(t.Context(), key); !errors.Is(err, ErrNoAttempt) {
		t.Errorf("after its time: %v, want ErrNoAttempt", err)
	}
	other := sha256.Sum256([]byte("b"))
	if err := m.KeepAttempt(t.Context(), other, want, now.Add(PendingLife)); err != nil {
		t.Fatal(err)
	}
	if len(m.kept) != 1 {
		t.Errorf("%d kept, want the one that is still alive", len(m.kept))
	}
	for range 2 {
		if err := m.DropAttempt(t.Context(), other); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.PendingAttempt(t.Context(), other); !errors.Is(err, ErrNoAttempt) || m.weight != 0 {
		t.Errorf("after the drop: %v, weight %d", err, m.weight)
	}
}

// A host that asks everybody for a second factor fills no memory and takes nobody else's place.
func TestAbuseEndlessSecondFactors(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	m := NewMemoryPending(func() time.Time { return now })
	victim := sha256.Sum256([]byte("victim"))
	if err := m.KeepAttempt(t.Context(), victim, attemptAt("pve.lan", 400), now.Add(PendingLife)); err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 {
		a := attemptAt(fmt.Sprintf("evil%d.example", i%20), 16<<10)
		if err := m.KeepAttempt(t.Context(), sha256.Sum256(fmt.Append(nil, i)), a, now.Add(PendingLife)); err != nil {
			t.Fatal(err)
		}
		if m.weight > MaxPendingBytes {
			t.Fatalf("%d bytes are kept, at most %d may be", m.weight, MaxPendingBytes)
		}
	}
	if _, err := m.PendingAttempt(t.Context(), victim); err != nil {
		t.Errorf("somebody else's sign-in was pushed out: %v", err)
	}
	// Light ones at a single host, in the time that one of them lives.
	for i := range 2 * MaxPendingAtHost {
		if err := m.KeepAttempt(t.Context(), sha256.Sum256(fmt.Append(nil, "light", i)), attemptAt("evil.example", 0), now.Add(PendingLife)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(m.hosts[attemptAt("evil.example", 0).Address].keys); n != MaxPendingAtHost {
		t.Errorf("%d wait at one host, want at most %d", n, MaxPendingAtHost)
	}
	if _, err := m.PendingAttempt(t.Context(), victim); err != nil {
		t.Errorf("somebody else's sign-in was pushed out by many light ones: %v", err)
	}
	weight := 0
	for _, p := range m.kept {
		weight += p.Weight()
	}
	if weight != m.weight || len(m.hosts) > 22 {
		t.Errorf("counted %d bytes at %d hosts, there are %d", m.weight, len(m.hosts), weight)
	}
	now = now.Add(PendingLife)
	if err := m.KeepAttempt(t.Context(), victim, attemptAt("pve.lan", 400), now.Add(PendingLife)); err != nil {
		t.Fatal(err)
	}
	if len(m.kept) != 1 || len(m.hosts) != 1 {
		t.Errorf("%d kept at %d hosts once their time was over, want 1", len(m.kept), len(m.hosts))
	}
}
