package redis

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/rueidis"

	"berth/internal/seal"
)

// Vault is a seal.Store of all that is sealed: in the database, and in Redis.
type Vault struct {
	seal.Store // the database
	Sessions   *Sessions
	Pending    *Pending
	OpenID     *OpenID
	Nodes      *NodeSignIns
}

// Sealed implements seal.Store.
func (v Vault) Sealed(ctx context.Context, visit func(at seal.Place, sealed []byte) error) error {
	if err := v.Store.Sealed(ctx, visit); err != nil {
		return err
	}
	hashes, err := v.Sessions.scan(ctx)
	if err != nil {
		return err
	}
	if err := v.Sessions.client.sealed(ctx, hashes, sessionKey, fieldSecret, sessionPlace, visit); err != nil {
		return err
	}
	for _, room := range v.rooms() {
		items, err := room.keys(ctx)
		if err != nil {
			return err
		}
		if err := room.client.sealed(ctx, items, room.key, fieldValue, room.place, visit); err != nil {
			return err
		}
	}
	return nil
}

// rooms are what holds sign-ins that wait.
func (v Vault) rooms() []*waiting {
	return []*waiting{&v.Pending.waiting, &v.OpenID.waiting, &v.Nodes.waiting}
}

func sessionPlace(hash string) seal.Place {
	return seal.Place{Table: "session", Column: "secret", Row: hash}
}

// sealed visits one field of each of some hashes.
func (c *Client) sealed(ctx context.Context, names []string, key func(string) string, field string, place func(string) seal.Place, visit func(seal.Place, []byte) error) error {
	for part := range slices.Chunk(names, page) {
		calls := make([]rueidis.Completed, len(part))
		for i, name := range part {
			calls[i] = c.redis.B().Hget().Key(key(name)).Field(field).Build()
		}
		results, err := c.readAll(ctx, calls...)
		if err != nil {
			return err
		}
		for i, result := range results {
			text, err := result.ToString()
			if rueidis.IsRedisNil(err) || ofAnotherType(err) {
				continue
			}
			if err == nil {
				err = visit(place(part[i]), []byte(text))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// resealScript replaces a field that has not changed.
var resealScript = rueidis.NewLuaScript(`
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1`)

// Reseal implements seal.Store.
func (v Vault) Reseal(ctx context.Context, at seal.Place, old, fresh []byte) error {
	key, field := "", ""
	if at == sessionPlace(at.Row) {
		if _, ok := parseHash(at.Row); !ok {
			return fmt.Errorf("row of a session: %q is no hash", at.Row)
		}
		key, field = sessionKey(at.Row), fieldSecret
	}
	for _, room := range v.rooms() {
		if at == room.place(at.Row) {
			key, field = room.key(at.Row), fieldValue
		}
	}
	if key == "" {
		return v.Store.Reseal(ctx, at, old, fresh)
	}
	args := []string{field, rueidis.BinaryString(old), rueidis.BinaryString(fresh)}
	if err := v.Sessions.client.run(ctx, resealScript, []string{key}, args).Error(); err != nil {
		return err
	}
	if field == fieldSecret {
		return v.Store.Reseal(ctx, at, old, fresh) // one from before Redis may be in the database
	}
	return nil
}
