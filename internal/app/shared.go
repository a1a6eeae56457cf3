package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"berth/internal/auth"
	"berth/internal/config"
	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/redis"
	"berth/internal/seal"
	"berth/internal/session"
	"berth/internal/store"
	"berth/internal/task"
)

// shared is where what all replicas of an installation have to agree on is kept: in Redis, or, for one replica, in the database
// and in memory.
type shared struct {
	redis    *redis.Client  // nil without
	channel  *redis.Channel // nil before begin, and without Redis
	hosts    auth.Store
	sessions session.Store
	pending  auth.PendingStore
	openID   auth.OpenIDStore
	waiting  node.WaitingStore
	throttle auth.ThrottleStore
	tasks    task.Store
	vault    seal.Store
	// proven, lease and endAll are nil without Redis.
	proven func() uint64
	lease  func(context.Context, string, time.Duration) (session.Lease, error)
	endAll func(context.Context, time.Time) (int, error)
}

// share connects to Redis, if there is to be one. The database is db, and sealer may be nil for an operator, who has none;
// observe is told of calls to Redis, and may be nil too.
func share(ctx context.Context, settings config.Settings, db *store.Store, sealer *seal.Sealer, observe func(context.Context, time.Duration, error), now func() time.Time) (shared, error) {
	if settings.Redis == "" {
		return shared{
			hosts: db, sessions: db, pending: auth.NewMemoryPending(now), openID: auth.NewMemoryOpenID(now), waiting: node.NewMemoryWaiting(now),
			throttle: auth.NewMemoryThrottle(), tasks: db, vault: db,
		}, nil
	}
	client, err := redis.Open(ctx, redis.Options{URL: settings.Redis, Roots: settings.Roots, Wait: settings.StartTimeout, Observe: observe})
	if err != nil {
		return shared{}, fmt.Errorf("cannot use Redis: %w", err)
	}
	sessions := redis.NewSessions(client, db, cmp.Or(settings.SessionIdle, session.DefaultIdle), now)
	pending, openID, waiting := redis.NewPending(client, sealer, now), redis.NewOpenID(client, sealer, now), redis.NewNodeSignIns(client, sealer, now)
	return shared{
		redis: client, hosts: redis.Hosts{Store: db, Sessions: sessions}, sessions: sessions,
		pending: pending, openID: openID, waiting: waiting, throttle: redis.NewThrottle(client),
		tasks:  redis.Operations{Store: db, Client: client},
		vault:  redis.Vault{Store: db, Sessions: sessions, Pending: pending, OpenID: openID, Nodes: waiting},
		proven: client.Proven, lease: client.Lease, endAll: sessions.EndAll,
	}, nil
}

// watch tells a registry of the sessions that other replicas change.
func (s shared) watch(sessions *session.Registry) {
	if s.redis == nil {
		return
	}
	s.redis.Watch(func(key string) {
		if h, ok := redis.HashOfKey(key); ok {
			sessions.Doubt(h)
		}
	})
}

// begin opens the channel on which replicas tell each other what has changed; without Redis there is none.
func (s *shared) begin() {
	if s.redis != nil {
		s.channel = redis.NewChannel(s.redis, nil)
	}
}

// nodesChanged tells the other replicas whose nodes have changed; nil if there can be none.
func (s shared) nodesChanged() func(session.Identity) {
	if s.channel == nil {
		return nil
	}
	return s.channel.NodesChanged
}

// listen leads what other replicas say to those whom it concerns, and has the containers tell them.
func (s shared) listen(nodes *node.Service, containers *container.Service) {
	if s.channel == nil {
		return
	}
	containers.Tell(s.channel)
	s.channel.Listen(redis.Heard{
		Read: containers.HeardRead, Touched: containers.HeardTouched,
		Nodes: func(identity string) {
			if of, ok := containers.Watching(identity); ok {
				nodes.Doubt(of)
				containers.Relist(of)
			}
		},
	})
}

// ready tells whether the stores answer and the key file is the one that they are sealed with, and names what is wrong.
func (s shared) ready(db *store.Store, sealer *seal.Sealer) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := db.Ping(ctx); err != nil {
			if f := fault.As(err); db.Shared() && (f == nil || f.Code != fault.DiskFullCode) {
				return &fault.Error{Kind: fault.Unavailable, Code: "database_unavailable", Message: "PostgreSQL: it does not answer.", Cause: err}
			}
			return err
		}
		if err := keyFits(ctx, db, sealer); err != nil {
			return err
		}
		if s.redis == nil {
			return nil
		}
		if err := s.redis.Ready(ctx); err != nil {
			words := "it does not answer."
			var known redis.Problem
			if errors.As(err, &known) {
				words = known.Error() + "."
			}
			return &fault.Error{Kind: fault.Unavailable, Code: "redis_unavailable", Message: "Redis: " + words, Cause: err}
		}
		return nil
	}
}

func (s shared) close() {
	if s.channel != nil {
		s.channel.Close()
	}
	if s.redis != nil {
		s.redis.Close()
	}
}
