package task

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"berth/internal/audit"
	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
)

const (
	// lease is how long a lock holds without being renewed. It outlasts any single call, so that a lock that was extended
	// just before something is sent holds until its answer.
	lease = 30 * time.Second
	// renewAfter is how old a lease gets before an answer renews it.
	renewAfter = 10 * time.Second
	// maxUnfinished bounds what one identity has under way at a time, runs left out.
	maxUnfinished = 64
	// keptFor is how long operations are remembered after their end, and maxKept how many of one identity.
	keptFor = 30 * 24 * time.Hour
	maxKept = 1000
	// lostAfter is when an operation that nobody follows any more is given up, its owner not having come back.
	lostAfter = 24 * time.Hour
	// attendEvery is how often an identity is looked after.
	attendEvery = 5 * time.Second
)

// Containers are the caller's containers.
type Containers interface {
	List(ctx context.Context, caller session.Caller, q container.Query) (container.List, error)
	Find(ctx context.Context, caller session.Caller, nodeID string, vmid int) (*container.Container, error)
	Refresh(ctx context.Context, caller session.Caller, nodeID string, vmid int)
	Tasks(ctx context.Context, caller session.Caller) ([]container.NodeTask, error)
}

// Nodes are the caller's nodes.
type Nodes interface {
	List(ctx context.Context, caller session.Caller) ([]node.Node, error)
	Find(ctx context.Context, caller session.Caller, id string) (node.Node, error)
	Rights(ctx context.Context, caller session.Caller, id string) (pve.Permissions, error)
	Call(ctx context.Context, caller session.Caller, id string, call func(context.Context, *pve.Host, pve.Credentials) error) error
}

// Audit takes what was done.
type Audit interface {
	// Entry completes an entry that the Store adds.
	Entry(ctx context.Context, e audit.Entry) audit.Entry
	Record(ctx context.Context, e audit.Entry)
}

// Options are what a Service needs. All but Pause, Shared and Log are required.
type Options struct {
	Store      Store
	Nodes      Nodes
	Containers Containers
	Audit      Audit
	// Alive returns nil as long as what a caller came with lives, their session or their access token, and a fault of kind
	// unauthenticated after its end. Work that outlasts a request asks it again and again: a node with a token of its own
	// would answer for ever.
	Alive func(context.Context, session.Caller) error
	Now   func() time.Time
	// Pause waits between two looks at a task; nil really does. It returns the context's error when that ends first.
	Pause func(context.Context, time.Duration) error
	// Shared tells that other replicas write to the Store, so that little of it may be remembered.
	Shared bool
	Log    *slog.Logger
}

// Service changes containers and follows their tasks. It is safe for concurrent use.
type Service struct {
	o    Options
	ctx  context.Context // ends with the service; followers run in it
	stop context.CancelFunc
	work sync.WaitGroup

	mu       sync.Mutex
	followed map[string]bool // the operations that are followed here, by id
	driven   map[string]bool // the runs that are worked on here, by id
	attended map[session.Identity]time.Time
	noticed  map[session.Identity]noticed
}

// NewService returns a service. It must be closed.
func NewService(o Options) *Service {
	if o.Pause == nil {
		o.Pause = pause
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Service{o: o, followed: map[string]bool{}, driven: map[string]bool{}, attended: map[session.Identity]time.Time{}, noticed: map[session.Identity]noticed{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close stops following and waits until nothing runs any more. Operations that have not ended stay in the store, for their
// owner to come back to.
func (s *Service) Close() {
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	s.work.Wait()
}

// background runs f for a request that does not wait for it, unless the service is closed. The context of f ends with the
// service and knows where the request came from.
func (s *Service) background(ctx context.Context, f func(context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	ctx = session.WithClient(s.ctx, session.ClientFrom(ctx))
	s.work.Go(func() { f(ctx) })
}

// claim marks an operation as followed here; false if it is already.
func (s *Service) claim(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.followed[id] {
		return false
	}
	s.followed[id] = true
	return true
}

func (s *Service) release(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.followed, id)
}

// Attend takes up again what an identity's earlier sessions left behind: operations are followed, and runs that were cut
// short are canceled. Whatever serves a caller who looks at tasks calls it; it does little when it is called often.
func (s *Service) Attend(ctx context.Context, caller session.Caller) {
	now := s.o.Now()
	s.mu.Lock()
	due := now.Sub(s.attended[caller.Identity]) >= attendEvery
	if due {
		s.attended[caller.Identity] = now
	}
	s.mu.Unlock()
	if !due {
		return
	}
	if err := s.attend(context.WithoutCancel(ctx), caller, now); err != nil {
		s.o.Log.ErrorContext(ctx, "operations not taken up again", "identity", caller.Identity, "cause", err)
	}
}

func (s *Service) attend(ctx context.Context, caller session.Caller, now time.Time) error {
	left, err := s.o.Store.Abandoned(ctx, caller.Identity, now, maxUnfinished)
	if err != nil {
		return err
	}
	for _, op := range left {
		if s.claim(op.ID) {
			s.background(ctx, func(ctx context.Context) {
				defer s.release(op.ID)
				s.pursue(ctx, caller, op)
			})
		}
	}
	runs, err := s.o.Store.AbandonedRuns(ctx, caller.Identity, now)
	for _, id := range runs {
		s.mu.Lock()
		driven := s.driven[id]
		s.mu.Unlock()
		if !driven {
			_, cancelErr := s.o.Store.CancelWaiting(ctx, caller.Identity, id, "Berth was restarted before its turn", now)
			err = errors.Join(err, cancelErr)
		}
	}
	return err
}

// Sweep gives up what nobody has followed for a day, and forgets what is old. The program calls it once a minute.
func (s *Service) Sweep(ctx context.Context) error {
	now := s.o.Now()
	s.mu.Lock()
	for who, at := range s.attended {
		if now.Sub(at) > time.Hour {
			delete(s.attended, who)
		}
	}
	clear(s.noticed)
	s.mu.Unlock()
	lost, err := s.o.Store.Lost(ctx, now.Add(-lostAfter), now, maxKept)
	if err != nil {
		return err
	}
	for _, op := range lost {
		s.conclude(ctx, op, Ending{State: Unknown, Error: "Nobody was signed in any more to follow its task"})
	}
	return s.o.Store.Forget(ctx, now.Add(-keptFor), now, maxKept)
}

// OperationChoice names an operation.
type OperationChoice struct {
	ID string `json:"-" path:"id" doc:"of the operation"`
}

// Operation is the authenticated action that shows one of the caller's operations.
func (s *Service) Operation(ctx context.Context, caller session.Caller, in OperationChoice) (Operation, error) {
	s.Attend(ctx, caller)
	op, err := s.o.Store.Operation(ctx, caller.Identity, in.ID)
	if errors.Is(err, ErrNone) {
		return Operation{}, fault.NoSuch("operation")
	}
	if err != nil {
		return Operation{}, fault.StoreDown(err)
	}
	return op, nil
}

// newID makes an id that nobody guesses: 80 random bits.
func newID() string { return strings.ToLower(rand.Text()[:16]) }
