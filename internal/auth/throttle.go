package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"berth/internal/fault"
	"berth/internal/session"
)

// Limit is how often one thing may be tried. Free attempts need no wait between them; the last of them brings a wait of
// First, and each further attempt twice the wait of the one before, up to Longest. Within Longest one attempt is forgotten,
// so that nothing is ever locked for good.
type Limit struct {
	// Name tells limits apart. A ThrottleStore bounds the counters of each by themselves, so that those of one limit never
	// push out those of another.
	Name    string
	Free    int
	First   time.Duration
	Longest time.Duration
}

// WaitAfter is how long nothing may be tried once so many attempts are counted.
func (l Limit) WaitAfter(attempts int) time.Duration {
	if attempts < l.Free {
		return 0
	}
	wait := l.First
	for ; attempts > l.Free && wait < l.Longest; attempts-- {
		wait *= 2
	}
	return min(wait, l.Longest)
}

// Most is the number of attempts after which one waits Longest.
func (l Limit) Most() int {
	n := l.Free
	for l.First > 0 && l.WaitAfter(n) < l.Longest {
		n++
	}
	return n
}

// What is limited. Somebody who mistypes a password a few times never waits; somebody who guesses gets about a hundred
// tries a day from one address.
var (
	// limitAddress is for all that comes from one address: it also bounds how many hosts and accounts can be probed.
	limitAddress = Limit{Name: "address", Free: 20, First: time.Second, Longest: 15 * time.Minute}
	// limitPair is for one account from one address, or from one browser that signed in with it before.
	limitPair = Limit{Name: "account and address", Free: 10, First: 2 * time.Second, Longest: 15 * time.Minute}
	// limitAccount is for one account from everywhere where nobody signed in with it before. Its longest wait is short: the
	// owner may be among those who wait.
	limitAccount = Limit{Name: "account", Free: 50, First: time.Second, Longest: time.Minute}
	// limitSuccess is for successful sign-ins with one account from one address: each stores a session, and costs the host
	// and the disk what a failed one costs.
	limitSuccess = Limit{Name: "success", Free: 60, First: time.Second, Longest: 30 * time.Second}
	// limitNewcomers and limitNewHere are for accounts that sign in where any host may vouch, from where nobody has signed in
	// with them before: by address, and by datacenter. Each leaves an identity with its rows, and a host can vouch for as
	// many made-up users as it likes. Whoever was here before does not wait for them.
	limitNewcomers = Limit{Name: "newcomers", Free: 60, First: time.Second, Longest: 5 * time.Minute}
	limitNewHere   = Limit{Name: "newcomers of a datacenter", Free: 200, First: time.Second, Longest: time.Minute}
	// limitTOTP never lets anybody wait: it counts towards Proxmox VE's own lock, which does not forget.
	limitTOTP = Limit{Name: "totp", Free: 1 << 30, Longest: 30 * 24 * time.Hour}
)

// Counter names what attempts are counted for.
type Counter struct {
	Limit Limit
	// Key is a hash, so that whoever reads a store learns no names from it.
	Key [16]byte
}

func counter(l Limit, parts ...string) Counter {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return Counter{Limit: l, Key: [16]byte(sum[:16])}
}

// Taken is one counted attempt, to be given back if it was none after all.
type Taken []TakenFrom

// TakenFrom is the part of an attempt that one counter holds.
type TakenFrom struct {
	Counter
	// Until is the wait that the attempt itself brought; the zero time for none.
	Until time.Time
}

// ThrottleStore counts attempts. Every method may be called at the same time from many places, on several replicas. It may
// forget counters when it holds too many, those with the fewest attempts first; the attempts of a forgotten one count for the
// one in its place, so that nobody gets round a limit by filling the store.
type ThrottleStore interface {
	// Take counts an attempt under every counter, or, if one of them has to wait still, under none, and returns the longest
	// of the waits. Both happen in one step: of many attempts at once no more get through than the limits let.
	Take(ctx context.Context, at time.Time, counters ...Counter) (Taken, time.Duration, error)
	// GiveBack takes an attempt out of its counters again, and lifts the waits that it brought. A counter that was
	// forgotten in the meantime stays forgotten.
	GiveBack(ctx context.Context, at time.Time, taken Taken) error
	// Forget removes counters; one that is not there is no error.
	Forget(ctx context.Context, counters ...Counter) error
	// Attempts is how many attempts are counted.
	Attempts(ctx context.Context, at time.Time, c Counter) (int, error)
}

// Throttle slows down whoever tries too often. It is safe for concurrent use.
type Throttle struct {
	store    ThrottleStore
	familiar FamiliarStore
	now      func() time.Time
}

// NewThrottle returns a throttle over its counters and over what it remembers of successful sign-ins.
func NewThrottle(store ThrottleStore, familiar FamiliarStore, now func() time.Time) *Throttle {
	return &Throttle{store: store, familiar: familiar, now: now}
}

// Try is an attempt that the throttle let through. It counts as failed until Succeeded or Void says otherwise, so that
// many at once can't outrun the count, and an attempt that its client broke off has counted.
type Try struct {
	throttle *Throttle
	taken    Taken
	// own are the counters that a success clears: those that only whoever succeeded has filled.
	own []Counter
	// success is the part of taken that a success leaves counted, and that counts for nothing else.
	success Taken
}

// Begin asks for an attempt of the client of ctx at something: an account, a host, or, with an empty name, nothing in
// particular. The error is a fault: too many attempts, with the time to wait, or the store can't be reached.
func (t *Throttle) Begin(ctx context.Context, thing string) (*Try, error) {
	from := network(session.ClientFrom(ctx).Address)
	var own []Counter
	if thing != "" {
		own = []Counter{counter(limitPair, from, thing)}
	}
	return t.take(ctx, own, counter(limitAddress, from))
}

// take takes an attempt from the counters that a success clears, and from those that it does not.
func (t *Throttle) take(ctx context.Context, own []Counter, shared ...Counter) (*Try, error) {
	taken, wait, err := t.store.Take(ctx, t.now(), append(shared, own...)...)
	switch {
	case err != nil:
		return nil, fault.StoreDown(err)
	case wait > 0:
		return nil, tooManyAttempts(wait)
	}
	try := &Try{throttle: t, own: own}
	for _, part := range taken {
		if part.Limit == limitSuccess {
			try.success = append(try.success, part)
		} else {
			try.taken = append(try.taken, part)
		}
	}
	return try, nil
}

// Succeeded gives the attempt back and clears what only the same client at the same thing has counted. What others counted
// stays: somebody who guesses can't start anew by signing in with an account of their own.
func (t *Try) Succeeded(ctx context.Context) error {
	if err := t.throttle.store.GiveBack(ctx, t.throttle.now(), t.taken); err != nil {
		return err
	}
	return t.throttle.store.Forget(ctx, t.own...)
}

// Failed leaves the attempt counted as what it was.
func (t *Try) Failed(ctx context.Context) error {
	return t.throttle.store.GiveBack(ctx, t.throttle.now(), t.success)
}

// Void gives the attempt back: nothing was tried.
func (t *Try) Void(ctx context.Context) error {
	return t.throttle.store.GiveBack(ctx, t.throttle.now(), slices.Concat(t.taken, t.success))
}

// limitTest and limitTestAddress are for tests of nodes: about 10 a minute for each identity, and 30 from each address,
// behind which there may be several people.
var (
	limitTest        = Limit{Name: "node test", Free: 10, First: 6 * time.Second, Longest: 6 * time.Second}
	limitTestAddress = Limit{Name: "node test address", Free: 30, First: 2 * time.Second, Longest: 2 * time.Second}
)

// TestNode counts one test of a node for the client of ctx and for an identity: each tells whether something answers at
// an address that they chose. The error is a fault: too many attempts, or the store can't be reached.
func (t *Throttle) TestNode(ctx context.Context, of session.Identity) error {
	_, err := t.take(ctx, nil, counter(limitTestAddress, network(session.ClientFrom(ctx).Address)),
		counter(limitTest, of.Datacenter, strings.ToLower(of.UserID)))
	return err
}

func tooManyAttempts(wait time.Duration) *fault.Error {
	return &fault.Error{
		Kind: fault.Throttled, Code: "too_many_attempts", Message: "Too many attempts",
		Hint: "Nothing was sent to the host. Try again in " + inWords(wait) + ".", RetryAfter: wait,
	}
}

// inWords is a wait for people, rounded up so that they never come too early.
func inWords(wait time.Duration) string {
	n, unit := int64((wait+time.Second-1)/time.Second), "second"
	if n > 90 {
		n, unit = (n+59)/60, "minute"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}

// network is what one client can choose addresses from: an IPv4 address, or the /64 that a provider gives to one customer.
func network(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a.String()
	}
	return netip.PrefixFrom(a, 64).Masked().String()
}
