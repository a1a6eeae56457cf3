package task

import (
	"context"
	"time"

	"berth/internal/fault"
	"berth/internal/session"
)

const (
	// maxNotices bounds how many notices are shown at a time.
	maxNotices = 20
	// noticedFor is how long notices are remembered.
	noticedFor = 2 * time.Second
)

// Notices are what the caller should know of their own operations.
type Notices struct {
	Items []Notice `json:"items" doc:"the newest 20"`
}

// Notice is an operation that failed, or of which it is not known how it ended, until its owner has seen it.
type Notice struct {
	Operation
	// Offer is what could be done next: a stop after a shutdown that took too long.
	Offer Action `json:"offer,omitempty" doc:"an action that may help: stop after a shutdown that failed"`
}

// NoticesQuery asks for all notices.
type NoticesQuery struct{}

// Notices is the authenticated action that lists the caller's notices, newest first.
func (s *Service) Notices(ctx context.Context, caller session.Caller, _ NoticesQuery) (Notices, error) {
	s.Attend(ctx, caller)
	unseen, err := s.unseen(ctx, caller.Identity)
	if err != nil {
		return Notices{}, fault.StoreDown(err)
	}
	list := Notices{Items: make([]Notice, 0, len(unseen))}
	for _, op := range unseen {
		list.Items = append(list.Items, Notice{Operation: op, Offer: op.Offer()})
	}
	return list, nil
}

// noticed is what an identity has not seen, as it was read last.
type noticed struct {
	unseen []Operation
	at     time.Time
}

// unseen are the operations that an identity should know of. Every page shows them, so they are remembered for a moment, unless
// other replicas change them too: what one of them has said must not be gone at the next.
func (s *Service) unseen(ctx context.Context, of session.Identity) ([]Operation, error) {
	now := s.o.Now()
	s.mu.Lock()
	known, ok := s.noticed[of]
	s.mu.Unlock()
	if ok && !s.o.Shared && now.Sub(known.at) < noticedFor {
		return known.unseen, nil
	}
	unseen, err := s.o.Store.Unseen(ctx, of, maxNotices)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noticed[of] = noticed{unseen, now}
	return unseen, nil
}

// noticesChanged has an identity's notices read again.
func (s *Service) noticesChanged(of session.Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.noticed, of)
}

// Offer is what may help after an operation has failed: a stop after a shutdown. It is empty otherwise.
func (op Operation) Offer() Action {
	if op.Action == Shutdown && op.State == Failed && !op.UPID.IsZero() {
		return Stop
	}
	return ""
}

// NoticeChoice names a notice.
type NoticeChoice struct {
	ID string `json:"-" path:"id" doc:"of the operation or of the run, or all"`
}

// Seen tells how many notices were marked.
type Seen struct {
	Seen int64 `json:"seen"`
}

// MarkSeen is the authenticated action that takes one notice away, or all.
func (s *Service) MarkSeen(ctx context.Context, caller session.Caller, in NoticeChoice) (Seen, error) {
	id := in.ID
	if id == "all" {
		id = ""
	} else if _, err := s.Operation(ctx, caller, OperationChoice(in)); err != nil {
		if _, err := s.BulkStatus(ctx, caller, RunChoice(in)); err != nil {
			return Seen{}, fault.NoSuch("notice")
		}
	}
	n, err := s.o.Store.MarkSeen(ctx, caller.Identity, id)
	s.noticesChanged(caller.Identity)
	if err != nil {
		return Seen{}, fault.StoreDown(err)
	}
	return Seen{Seen: n}, nil
}
