package container

import "time"

// Reading is a node's answer to a reading, or its failure, for who counts them.
type Reading struct {
	Node    string // id
	Subject string // "containers" or "tasks"
	Took    time.Duration
	Err     error // of the node
}

// Observe sets who is told of every reading, which must not wait. It must be called before the first one.
func (s *Service) Observe(told func(Reading)) { s.observe = told }

// Watches is how many watches there are.
func (s *Service) Watches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seats.all
}

// Lags tells for each node that somebody watches, by its id, how old is what was last read of its containers, or for how long
// nothing could be.
func (s *Service) Lags() map[string]time.Duration {
	type watched struct {
		feed  *feed
		begun time.Time
	}
	nodes := map[string]watched{}
	s.mu.Lock()
	for of, pollers := range s.pollers {
		for id, p := range pollers {
			nodes[id] = watched{s.feeds[source{of, id}], p.begun}
		}
	}
	s.mu.Unlock()
	now := s.now()
	lags := make(map[string]time.Duration, len(nodes))
	for id, w := range nodes {
		since := w.begun
		if w.feed != nil {
			w.feed.mu.Lock()
			if w.feed.at.After(since) {
				since = w.feed.at
			}
			w.feed.mu.Unlock()
		}
		lags[id] = max(0, now.Sub(since))
	}
	return lags
}
