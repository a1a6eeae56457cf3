package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/seal"
	"berth/internal/session"
)

// Credential is what a node is called with.
type Credential string

const (
	// BySession is the ticket of the caller's session. Nothing is stored.
	BySession Credential = "session"
	// ByToken is an API token that the owner gave.
	ByToken Credential = "token"
	// ByMadeToken is an API token that Berth made on the host with a ticket.
	ByMadeToken Credential = "made"
)

// Node is one door to containers.
type Node struct {
	ID      string
	Owner   session.Identity
	Name    string // unique among the nodes of its owner, whatever its case
	Address pve.Address
	// Key is the pinned public key; nil when the certificate verifies against the roots, and for a login host, whose pin is
	// its own.
	Key *pve.KeyPin
	// Fingerprint is of the certificate that was accepted last, for people to compare; zero for a login host.
	Fingerprint pve.Fingerprint
	Credential  Credential
	// LoginHost is the login host behind a node that goes by the session's ticket, or whose token was made with it; empty
	// once it is none any more.
	LoginHost string
	// TokenID is user@realm!name; empty without a token.
	TokenID string
	// TokenExpires is when a token that Berth made stops working; zero for any other.
	TokenExpires time.Time
	// Cluster is shared by all nodes, whoever owns them, that were proven to be doors to the same Proxmox VE installation.
	Cluster string
	// Group is shared by the nodes of one owner whose containers are listed once: those of one cluster, and those that the
	// owner said are.
	Group     string
	IsDefault bool
	Created   time.Time
}

// trust is what a connection to the node accepts.
func (n Node) trust() pve.Trust { return pve.Trust{Key: n.Key} }

// maxRemembered bounds the identities whose nodes are in memory, and the rights that are.
const maxRemembered = 1000

// Options are what a Service needs; all but CatchUp, Most and Changed are required.
type Options struct {
	Store    Store
	Waiting  WaitingStore
	Hosts    *auth.Hosts
	Sessions *session.Registry
	Client   *pve.Client
	Sealer   *seal.Sealer
	Throttle *auth.Throttle
	Audit    auth.Recorder
	Now      func() time.Time
	// CatchUp returns once Forget was called if anybody else had changed the Store before; with its error nothing in memory
	// counts. Nil means that it is enough if Forget is called soon after.
	CatchUp func(context.Context) error
	// Most is how many nodes an identity can have; 0 for DefaultMost.
	Most int
	// Changed is told whose nodes have changed here, so that others look as well. It must not wait, and may be nil.
	Changed func(session.Identity)
}

// Service finds and calls nodes. It is safe for concurrent use.
type Service struct {
	store    Store
	hosts    *auth.Hosts
	sessions *session.Registry
	client   *pve.Client
	sealer   *seal.Sealer
	throttle *auth.Throttle
	audit    auth.Recorder
	now      func() time.Time
	waiting  WaitingStore
	catchUp  func(context.Context) error
	told     func(session.Identity) // see Options.Changed

	// background are renewals of tokens; they end when running does.
	background sync.WaitGroup
	running    context.Context
	stop       context.CancelFunc

	mu sync.Mutex
	// owned are the nodes of those who asked for theirs: every page does. Its slices are never changed.
	owned map[session.Identity][]Record
	// preferred are the preferences of those who looked at pages.
	preferred map[session.Identity]string
	// epoch counts what made the memory forget: what was read from the store in an earlier one is not kept.
	epoch  uint64
	rights map[asked]heldRights
	most   int
}

// NewService returns a service over a store.
func NewService(o Options) *Service {
	s := &Service{
		store: o.Store, waiting: o.Waiting, catchUp: o.CatchUp, hosts: o.Hosts, sessions: o.Sessions, client: o.Client, sealer: o.Sealer, throttle: o.Throttle,
		audit: o.Audit, now: o.Now, told: o.Changed, owned: map[session.Identity][]Record{}, preferred: map[session.Identity]string{}, rights: map[asked]heldRights{},
	}
	if s.most = o.Most; s.most == 0 {
		s.most = DefaultMost
	}
	s.running, s.stop = context.WithCancel(context.Background())
	return s
}

// Wait waits for what runs in the background.
func (s *Service) Wait() { s.background.Wait() }

// Close ends what runs in the background, and waits for it.
func (s *Service) Close() {
	s.stop()
	s.Wait()
}

// List returns the caller's nodes, the default first, then by name. A caller who has never been here before gets one: the
// login host that vouched for them.
func (s *Service) List(ctx context.Context, caller session.Caller) ([]Node, error) {
	records, err := s.records(ctx, caller)
	if err != nil {
		return nil, err
	}
	nodes := make([]Node, len(records))
	for i, r := range records {
		nodes[i] = r.Node
	}
	return nodes, nil
}

// Find returns one of the caller's nodes, or a fault of kind not found.
func (s *Service) Find(ctx context.Context, caller session.Caller, id string) (Node, error) {
	r, err := s.record(ctx, caller, id)
	return r.Node, err
}

func (s *Service) record(ctx context.Context, caller session.Caller, id string) (Record, error) {
	records, err := s.records(ctx, caller)
	if err != nil {
		return Record{}, err
	}
	i := slices.IndexFunc(records, func(r Record) bool { return r.ID == id })
	if i < 0 {
		return Record{}, fault.NoSuch("node")
	}
	return records[i], nil
}

// records are the caller's nodes, from memory when they were asked for before. The slice must not be changed.
func (s *Service) records(ctx context.Context, caller session.Caller) ([]Record, error) {
	of := caller.Identity
	current := s.current(ctx)
	s.mu.Lock()
	records, ok := s.owned[of]
	epoch := s.epoch
	s.mu.Unlock()
	if ok && current {
		return records, nil
	}
	records, err := s.store.Nodes(ctx, of)
	if errors.Is(err, ErrNoIdentity) && caller.SignedIn() {
		if err = s.welcome(ctx, caller.Session); err == nil {
			records, err = s.store.Nodes(ctx, of)
		}
	}
	switch {
	case errors.Is(err, ErrNoIdentity):
		return nil, nil
	case err != nil:
		return nil, storeDown(err)
	}
	group(records)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch == epoch {
		if len(s.owned) >= maxRemembered {
			dropOne(s.owned)
		}
		s.owned[of] = records
	}
	return records, nil
}

// current tells whether what is in memory counts: it holds what anybody has changed before.
func (s *Service) current(ctx context.Context) bool { return s.catchUp == nil || s.catchUp(ctx) == nil }

// storeDown is the fault for what a store returned, unless it is a fault already.
func storeDown(err error) error {
	if fault.As(err) != nil {
		return err
	}
	return fault.StoreDown(err)
}

// dropOne makes room; map order is random enough, since whatever is in use comes back with one read.
func dropOne[K comparable, V any](from map[K]V) {
	for key := range from {
		delete(from, key)
		return
	}
}

// Forget makes every node be looked up again. The program calls it when another process has changed the store.
func (s *Service) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	clear(s.owned)
	clear(s.preferred)
	clear(s.rights)
}

// changed notes that one identity's nodes have changed.
func (s *Service) changed(of session.Identity) {
	s.Doubt(of)
	if s.told != nil {
		s.told(of)
	}
}

// Doubt forgets what memory knew of one identity's nodes, as when another replica has changed them.
func (s *Service) Doubt(of session.Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	delete(s.owned, of)
	maps.DeleteFunc(s.rights, func(a asked, _ heldRights) bool { return a.of == of })
}

// group fills in which nodes lead to the same installation: those of one cluster, those that their owner put together, and
// whatever follows from both. A group has the cluster of its oldest node as its name.
func group(records []Record) {
	by := map[string]int{} // the node with each cluster and each group that the owner named
	first := make([]int, len(records))
	root := func(i int) int {
		for first[i] != i {
			i = first[i]
		}
		return i
	}
	older := func(a, b int) int {
		return cmp.Or(records[a].Created.Compare(records[b].Created), cmp.Compare(records[a].ID, records[b].ID))
	}
	for i, r := range records {
		first[i] = i
		for _, mark := range []string{"cluster " + r.Cluster, "group " + r.SaidGroup} {
			if mark == "group " {
				continue
			}
			other, ok := by[mark]
			if !ok {
				by[mark] = i
				continue
			}
			a, b := root(i), root(other)
			if older(a, b) > 0 {
				a, b = b, a
			}
			first[b] = a
		}
	}
	for i := range records {
		records[i].Group = records[root(i)].Cluster
	}
}

// newID makes an id that nobody guesses: 80 random bits.
func newID() string { return strings.ToLower(rand.Text()[:16]) }

// maxName is how long a name may be, in bytes.
const maxName = 64

// welcome makes the caller's identity known, with the login host that vouched as its first node.
func (s *Service) welcome(ctx context.Context, by session.Session) error {
	at, err := s.hosts.Address(ctx, by.LoginHost)
	if errors.Is(err, auth.ErrNoHost) {
		return fault.SignInRequired()
	}
	if err != nil {
		return err
	}
	name := at.Host
	for len(name) > maxName || !utf8.ValidString(name) {
		name = name[:min(len(name)-1, maxName)]
	}
	made, err := s.store.Welcome(ctx, Record{Node: Node{
		ID: newID(), Owner: by.Identity, Name: name, Address: at, Credential: BySession, LoginHost: by.LoginHost,
		Cluster: by.Identity.Datacenter, IsDefault: true, Created: s.now(),
	}}, by.Created)
	if made {
		s.changed(by.Identity)
	}
	return err
}

// SignedIn notes that somebody has signed in, so that their nodes are there from the first time on, and renews the tokens
// that were made with their ticket in the background. What goes wrong is
// logged alone: nobody must be kept from signing in by it.
func (s *Service) SignedIn(ctx context.Context, started session.Session) {
	err := s.welcome(ctx, started)
	if err == nil {
		err = s.store.NoteSignIn(ctx, started.Identity, started.Created)
	}
	if err != nil {
		slog.ErrorContext(ctx, "sign-in not noted", "identity", started.Identity, "cause", err)
		return
	}
	s.renewTokens(ctx, started)
}

const (
	// idleAfter is how long after their last sign-in those are forgotten who have nothing here, and idleBatch how many by one
	// Sweep.
	idleAfter = 30 * 24 * time.Hour
	idleBatch = 1000
)

// Sweep forgets who has not signed in for a month and has nothing here but the node that everybody begins with, where any host
// may vouch: it could have made them up. Whoever comes back begins anew. The program calls it once a minute.
func (s *Service) Sweep(ctx context.Context) error {
	if !s.hosts.Open() {
		return nil
	}
	removed, err := s.store.RemoveIdle(ctx, s.now().Add(-idleAfter), idleBatch)
	for _, of := range removed {
		s.changed(of)
	}
	return err
}

// LastSignIn is when an identity signed in last; the zero time if it never did.
func (s *Service) LastSignIn(ctx context.Context, of session.Identity) (time.Time, error) {
	at, err := s.store.LastSignIn(ctx, of)
	switch {
	case errors.Is(err, ErrNoIdentity):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, fault.StoreDown(err)
	}
	return at, nil
}
