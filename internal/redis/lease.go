package redis

import (
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/redis/rueidis"

	"berth/internal/session"
)

// releaseScript gives back what is still one's own.
var releaseScript = rueidis.NewLuaScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)

// Lease takes the right to something for a time, unless another replica has it; see session.Options. A lease can be lost with
// Redis's memory: what must not happen twice needs a check of its own where it is stored.
func (c *Client) Lease(ctx context.Context, what string, life time.Duration) (session.Lease, error) {
	key, holder := "lease:"+what, rand.Text()
	err := c.do(ctx, c.redis.B().Set().Key(key).Value(holder).Nx().PxMilliseconds(life.Milliseconds()).Build()).Error()
	switch {
	case rueidis.IsRedisNil(err):
		return session.Lease{Taken: true}, nil
	case err != nil:
		return session.Lease{}, err
	}
	return session.Lease{Release: func(ctx context.Context) {
		if err := c.run(ctx, releaseScript, []string{key}, []string{holder}).Error(); err != nil {
			slog.WarnContext(ctx, "lease not given back, so others wait until it runs out", "cause", cause(err))
		}
	}}, nil
}
