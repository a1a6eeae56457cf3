package auth

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// MaxCounters bounds the counters of each limit. A counter takes about 150 bytes.
const MaxCounters = 1 << 15

// MemoryThrottle is a ThrottleStore in memory: a restart forgets all attempts.
//
// Beyond MaxCounters counters of a limit, a new one takes the place of the one with the fewest attempts of its own, and
// inherits all that was counted there, as in the Space-Saving algorithm: a full table makes people wait sooner, rather than
// nobody at all. To get rid of a counter that makes somebody wait, an attacker has to fill all others with as many attempts:
// a made-up address or account that is tried once pushes out nothing but its like.
type MemoryThrottle struct {
	mu     sync.Mutex
	limits map[string]*counters
}

var _ ThrottleStore = (*MemoryThrottle)(nil)

// NewMemoryThrottle returns an empty store.
func NewMemoryThrottle() *MemoryThrottle { return &MemoryThrottle{limits: map[string]*counters{}} }

// counted are the attempts of one counter. Because all counters of a limit forget at the same pace, one time tells it
// all: the number of attempts is how often the limit's Longest fits between now and empty.
type counted struct {
	key   [16]byte
	empty time.Time
	// rank is the same of a counter's own attempts alone, until the inherited ones make it wait: then it stands right behind
	// those whose own attempts do. The earliest goes first.
	rank  time.Time
	until time.Time // nothing may be tried before
	index int       // in the heap
}

func (c *counted) attempts(l Limit, at time.Time) int {
	left := c.empty.Sub(at)
	if left <= 0 {
		return 0
	}
	return int((left + l.Longest - 1) / l.Longest)
}

// counters are those of one limit: by key, and as a heap whose first is the one that goes first.
type counters struct {
	byKey map[[16]byte]*counted
	order byRank
}

// of finds a counter in the limit's own table; it is nil when there is none.
func (m *MemoryThrottle) of(c Counter) (*counters, *counted) {
	table := m.limits[c.Limit.Name]
	if table == nil {
		table = &counters{byKey: map[[16]byte]*counted{}}
		m.limits[c.Limit.Name] = table
	}
	return table, table.byKey[c.Key]
}

// add makes a counter. In a full table it inherits the attempts of the one whose place it takes, as far as they make a
// difference to its waits, and no wait: whoever is new may try once. Attempts that bring no wait are there to be told, so
// they are nobody's but their own.
func (t *counters) add(c Counter, at time.Time) *counted {
	added := &counted{key: c.Key}
	if len(t.order) >= MaxCounters {
		least := t.order[0]
		t.remove(least)
		if c.Limit.First > 0 {
			most := at.Add(time.Duration(c.Limit.Most()) * c.Limit.Longest)
			if added.empty = least.empty; added.empty.After(most) {
				added.empty = most
			}
		}
	}
	t.byKey[c.Key] = added
	heap.Push(&t.order, added)
	return added
}

func (t *counters) remove(c *counted) {
	heap.Remove(&t.order, c.index)
	delete(t.byKey, c.key)
}

// Take implements ThrottleStore.
func (m *MemoryThrottle) Take(_ context.Context, at time.Time, cs ...Counter) (Taken, time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var wait time.Duration
	for _, c := range cs {
		if _, found := m.of(c); found != nil {
			wait = max(wait, found.until.Sub(at))
		}
	}
	if wait > 0 {
		return nil, wait, nil
	}
	taken := make(Taken, 0, len(cs))
	for _, c := range cs {
		table, found := m.of(c)
		for len(table.order) > 0 && table.order[0] != found && !table.order[0].empty.After(at) {
			table.remove(table.order[0])
		}
		if found == nil {
			found = table.add(c, at)
		}
		found.empty = later(found.empty, at).Add(c.Limit.Longest)
		found.rank = later(found.rank, at).Add(c.Limit.Longest)
		found.until = time.Time{}
		if wait := c.Limit.WaitAfter(found.attempts(c.Limit, at)); wait > 0 {
			found.until = at.Add(wait)
			found.rank = later(found.rank, at.Add(time.Duration(c.Limit.Free-1)*c.Limit.Longest))
		}
		heap.Fix(&table.order, found.index)
		taken = append(taken, TakenFrom{Counter: c, Until: found.until})
	}
	return taken, 0, nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// GiveBack implements ThrottleStore.
func (m *MemoryThrottle) GiveBack(_ context.Context, at time.Time, taken Taken) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range taken {
		table, found := m.of(t.Counter)
		if found == nil {
			continue
		}
		if found.until.Equal(t.Until) {
			found.until = time.Time{}
		}
		found.empty = found.empty.Add(-t.Limit.Longest)
		found.rank = found.rank.Add(-t.Limit.Longest)
		heap.Fix(&table.order, found.index)
		if !found.empty.After(at) {
			table.remove(found)
		}
	}
	return nil
}

// Forget implements ThrottleStore.
func (m *MemoryThrottle) Forget(_ context.Context, cs ...Counter) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range cs {
		if table, found := m.of(c); found != nil {
			table.remove(found)
		}
	}
	return nil
}

// Attempts implements ThrottleStore.
func (m *MemoryThrottle) Attempts(_ context.Context, at time.Time, c Counter) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, found := m.of(c); found != nil {
		return found.attempts(c.Limit, at), nil
	}
	return 0, nil
}

// byRank implements heap.Interface.
type byRank []*counted

func (h byRank) Len() int           { return len(h) }
func (h byRank) Less(i, j int) bool { return h[i].rank.Before(h[j].rank) }
func (h byRank) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *byRank) Push(x any) {
	c := x.(*counted)
	c.index = len(*h)
	*h = append(*h, c)
}

// Pop implements heap.Interface.
func (h *byRank) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
