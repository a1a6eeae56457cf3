package node

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"berth/internal/pve"
	"berth/internal/session"
)

// Bounds of the sign-ins at hosts that wait for their second factor.
const (
	MaxWaiting      = 500
	MaxWaitingOfOne = 5
)

// Deed is what a way to a host is wanted for.
type Deed struct {
	Kind DeedKind
	// Of is the id of the node that is changed, or of the token that is removed.
	Of string
	// Version is that of the node's record which a change was made from.
	Version int64
	// IsDefault and SameAs are those of the input.
	IsDefault bool
	SameAs    string
}

// DeedKind is one of what can be done with a way to a host.
type DeedKind string

// The values of DeedKind.
const (
	DeedAdd    DeedKind = "add"
	DeedChange DeedKind = "change"
	DeedTest   DeedKind = "test"
	DeedRemove DeedKind = "remove token"
)

// Waiting is a sign-in at a host that waits for its second factor, with what is to be done there then.
type Waiting struct {
	Owner session.Identity
	Deed  Deed
	// The others are those of a plan.
	Name       string
	Unnamed    bool
	Credential Credential
	Address    pve.Address
	Trust      pve.Trust
	UserID     string

	Challenge pve.Challenge
}

func (w Waiting) plan() plan {
	return plan{name: w.Name, unnamed: w.Unnamed, credential: w.Credential, address: w.Address, trust: w.Trust, userID: w.UserID}
}

// WaitingStore keeps sign-ins at hosts that wait for their second factor, under the SHA-256 of the text that continues them.
type WaitingStore interface {
	// KeepWaiting stores one until the given time. An identity's sixth takes the place of its oldest; when there are MaxWaiting
	// an older one gives way.
	KeepWaiting(ctx context.Context, key [sha256.Size]byte, w Waiting, until time.Time) error
	// FindWaiting returns ErrNotWaiting if there is none, its time has passed, or it is somebody else's.
	FindWaiting(ctx context.Context, key [sha256.Size]byte, of session.Identity) (Waiting, error)
	// DropWaiting removes one. To one caller only it does not return ErrNotWaiting.
	DropWaiting(ctx context.Context, key [sha256.Size]byte) error
}

// ErrNotWaiting says that a second step has no first.
var ErrNotWaiting = errors.New("no such sign-in at a host is waiting")

// MemoryWaiting is a WaitingStore in memory: what waits is lost with the process, and its owner starts again.
type MemoryWaiting struct {
	now  func() time.Time
	mu   sync.Mutex
	kept map[[sha256.Size]byte]keptWaiting
}

type keptWaiting struct {
	Waiting
	until time.Time
}

var _ WaitingStore = (*MemoryWaiting)(nil)

// NewMemoryWaiting returns an empty store.
func NewMemoryWaiting(now func() time.Time) *MemoryWaiting {
	return &MemoryWaiting{now: now, kept: map[[sha256.Size]byte]keptWaiting{}}
}

// KeepWaiting implements WaitingStore.
func (m *MemoryWaiting) KeepWaiting(_ context.Context, key [sha256.Size]byte, w Waiting, until time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	var own, all [][sha256.Size]byte
	for key, other := range m.kept {
		if !now.Before(other.until) {
			delete(m.kept, key)
			continue
		}
		all = append(all, key)
		if other.Owner == w.Owner {
			own = append(own, key)
		}
	}
	oldest := func(keys [][sha256.Size]byte) [sha256.Size]byte {
		return slices.MinFunc(keys, func(a, b [sha256.Size]byte) int {
			return cmp.Compare(m.kept[a].until.UnixNano(), m.kept[b].until.UnixNano())
		})
	}
	switch {
	case len(own) >= MaxWaitingOfOne:
		delete(m.kept, oldest(own))
	case len(all) >= MaxWaiting:
		delete(m.kept, oldest(all))
	}
	m.kept[key] = keptWaiting{w, until}
	return nil
}

// FindWaiting implements WaitingStore.
func (m *MemoryWaiting) FindWaiting(_ context.Context, key [sha256.Size]byte, of session.Identity) (Waiting, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w, ok := m.kept[key]
	if !ok || w.Owner != of || !m.now().Before(w.until) {
		return Waiting{}, ErrNotWaiting
	}
	return w.Waiting, nil
}

// DropWaiting implements WaitingStore.
func (m *MemoryWaiting) DropWaiting(_ context.Context, key [sha256.Size]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w, ok := m.kept[key]; !ok || !m.now().Before(w.until) {
		return ErrNotWaiting
	}
	delete(m.kept, key)
	return nil
}
