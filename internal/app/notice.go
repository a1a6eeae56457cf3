package app

import (
	"context"
	"errors"
	"sync"
)

// Notice brings memory up to date with what other processes have changed in the database before it was called. Run does it by
// itself every second. Over a database on a server it also goes before each use of what is in memory, since a load balancer may
// have shown the caller another replica's answer a moment ago; many that come at once share a look.
func (a *App) Notice(ctx context.Context) error { return a.notices.await(ctx) }

// look looks whether another process has changed the database, and forgets what memory knew of it.
func (a *App) look(ctx context.Context) error {
	version, err := a.store.Version(ctx)
	if err == nil && version == a.notices.version {
		return nil
	}
	// While nobody knows what others do nothing in memory counts either.
	a.notices.version = version
	a.nodes.Forget()
	a.tokens.Forget()
	return errors.Join(err, a.sessions.Reload(ctx))
}

// notices are looks at the database, one after the other.
type notices struct {
	look    func(context.Context) error
	version int64 // of the database, as the last look saw it

	mu         sync.Mutex
	last, next *notice // the one that began last, and one that has not begun
}

type notice struct {
	done chan struct{} // closed at its end
	err  error
}

// await waits for a look that begins after the call.
func (n *notices) await(ctx context.Context) error {
	n.mu.Lock()
	own := n.next
	if own == nil {
		own = &notice{done: make(chan struct{})}
		n.next = own
		go n.run(context.WithoutCancel(ctx), own, n.last) // others wait for it too
	}
	n.mu.Unlock()
	select {
	case <-own.done:
		return own.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *notices) run(ctx context.Context, own, before *notice) {
	if before != nil {
		<-before.done
	}
	n.mu.Lock()
	n.last, n.next = own, nil
	n.mu.Unlock()
	own.err = n.look(ctx)
	close(own.done)
}
