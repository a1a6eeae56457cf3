package auth

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"
)

// Nobody has proven anything when a sign-in at an identity provider begins, so that what waits is bounded twice: of one
// network, which then only pushes out its own, and in all.
const (
	MaxOpenIDOfNetwork = 8
	MaxOpenID          = 4096
)

// MemoryOpenID is an OpenIDStore in memory: what waits is lost with the process, and the visitor starts again.
type MemoryOpenID struct {
	now  func() time.Time
	most int // MaxOpenID, but in tests
	mu   sync.Mutex
	kept map[[sha256.Size]byte]keptOpenID
}

type keptOpenID struct {
	OpenIDAttempt
	until time.Time
}

var _ OpenIDStore = (*MemoryOpenID)(nil)

// NewMemoryOpenID returns an empty store.
func NewMemoryOpenID(now func() time.Time) *MemoryOpenID {
	return &MemoryOpenID{now: now, most: MaxOpenID, kept: map[[sha256.Size]byte]keptOpenID{}}
}

// KeepOpenID implements OpenIDStore.
func (m *MemoryOpenID) KeepOpenID(_ context.Context, state [sha256.Size]byte, a OpenIDAttempt, until time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	var oldest, oldestOfNetwork [sha256.Size]byte
	ofNetwork := 0
	for key, k := range m.kept {
		if !now.Before(k.until) {
			delete(m.kept, key)
			continue
		}
		if o, ok := m.kept[oldest]; !ok || k.until.Before(o.until) {
			oldest = key
		}
		if k.Network == a.Network {
			ofNetwork++
			if o, ok := m.kept[oldestOfNetwork]; !ok || k.until.Before(o.until) {
				oldestOfNetwork = key
			}
		}
	}
	switch {
	case ofNetwork >= MaxOpenIDOfNetwork:
		delete(m.kept, oldestOfNetwork)
	case len(m.kept) >= m.most:
		delete(m.kept, oldest)
	}
	m.kept[state] = keptOpenID{a, until}
	return nil
}

// TakeOpenID implements OpenIDStore.
func (m *MemoryOpenID) TakeOpenID(_ context.Context, state, browser [sha256.Size]byte) (OpenIDAttempt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.kept[state]
	if !ok || !m.now().Before(k.until) || k.Browser != browser {
		return OpenIDAttempt{}, ErrNoAttempt
	}
	delete(m.kept, state)
	return k.OpenIDAttempt, nil
}
