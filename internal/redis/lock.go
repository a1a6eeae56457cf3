package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"berth/internal/session"
	"berth/internal/task"
)

// Operations is a task.Store whose locks are in Redis and in the database, and count when an operation has both: Redis measures
// the lease by one clock for all replicas, and the database fences what Redis forgot.
type Operations struct {
	task.Store // the database
	Client     *Client
}

var _ task.Store = Operations{}

// lockKey is the lock of a container. It holds the operation with what its owner is told of it, and when the lease is over.
func lockKey(cluster string, vmid int) string {
	sum := sha256.Sum256([]byte(cluster))
	return "lock:" + hex.EncodeToString(sum[:16]) + ":" + strconv.Itoa(vmid)
}

// heldKey says which lock an operation holds.
func heldKey(operation string) string { return "locked-by:" + operation }

// lockScript takes a lock that is free, over, or the operation's own. ARGV: operation, datacenter, user, now, until, action,
// created. It returns nothing, or the operation that holds the lock, its owner, action and creation.
var lockScript = rueidis.NewLuaScript(`
local held = redis.call('HMGET', KEYS[1], 'operation', 'datacenter', 'user', 'until', 'action', 'created')
if held[1] and held[1] ~= ARGV[1] and tonumber(held[4]) > tonumber(ARGV[4]) then
  return {held[1], held[2], held[3], held[5] or '', held[6] or ''}
end
redis.call('HSET', KEYS[1], 'operation', ARGV[1], 'datacenter', ARGV[2], 'user', ARGV[3], 'until', ARGV[5], 'action', ARGV[6], 'created', ARGV[7])
redis.call('PEXPIRE', KEYS[1], ARGV[5] - ARGV[4])
return {}`)

// unlockScript gives a lock back that is still the operation's.
var unlockScript = rueidis.NewLuaScript(`
if redis.call('HGET', KEYS[1], 'operation') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)

// lock takes a lock and returns nil, or says who has it.
func (o Operations) lock(ctx context.Context, op task.Operation, now, until time.Time) (*task.BusyError, error) {
	life := until.Sub(now)
	if life <= 0 {
		return nil, errors.New("a lease that is over before it begins")
	}
	key := lockKey(op.Cluster, op.VMID)
	b := o.Client.redis.B()
	// What it holds comes first: a lock that nobody knows of could not be given back.
	err := o.Client.do(ctx, b.Set().Key(heldKey(op.ID)).Value(key).PxMilliseconds((life + time.Minute).Milliseconds()).Build()).Error()
	if err != nil {
		return nil, err
	}
	holder, err := o.Client.run(ctx, lockScript, []string{key}, []string{
		op.ID, op.Owner.Datacenter, op.Owner.UserID, millis(now), millis(until), string(op.Action), millis(op.Created),
	}).AsStrSlice()
	if err != nil || len(holder) != 5 {
		return nil, err
	}
	owner := session.Identity{Datacenter: holder[1], UserID: holder[2]}
	found, err := o.Store.Operation(ctx, owner, holder[0])
	created, parseErr := strconv.ParseInt(holder[4], 10, 64)
	switch {
	case errors.Is(err, task.ErrNone) && holder[3] != "" && parseErr == nil:
		// It is about to be stored.
		return &task.BusyError{Holder: task.Operation{
			ID: holder[0], Owner: owner, Cluster: op.Cluster, VMID: op.VMID, Action: task.Action(holder[3]), Created: time.UnixMilli(created).UTC(),
		}}, nil
	case errors.Is(err, task.ErrNone):
		return &task.BusyError{}, nil
	case err != nil:
		return nil, err
	}
	return &task.BusyError{Holder: found}, nil
}

// unlock gives an operation's lock back. What it can't give back runs out.
func (o Operations) unlock(ctx context.Context, id string) {
	ctx = context.WithoutCancel(ctx)
	key, err := o.Client.do(ctx, o.Client.redis.B().Getdel().Key(heldKey(id)).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return
	}
	if err == nil {
		err = o.Client.run(ctx, unlockScript, []string{key}, []string{id}).Error()
	}
	if err != nil {
		slog.WarnContext(ctx, "a container's lock not given back, so others wait until it runs out", "operation", id, "cause", cause(err))
	}
}

// Begin implements task.Store.
func (o Operations) Begin(ctx context.Context, op task.Operation, now, until time.Time, most int) error {
	busy, err := o.lock(ctx, op, now, until)
	switch {
	case err != nil:
		return err
	case busy != nil:
		return busy
	}
	err = o.Store.Begin(ctx, op, now, until, most)
	if err == nil {
		return nil
	}
	if errors.Is(err, task.ErrNone) {
		// Where it has begun already the lock is its own; where it has ended, canceled before its turn, nobody needs it.
		if stored, findErr := o.Store.Operation(ctx, op.Owner, op.ID); findErr == nil && !stored.State.Ended() {
			return err
		}
	}
	o.unlock(ctx, op.ID)
	return err
}

// Hold implements task.Store.
func (o Operations) Hold(ctx context.Context, op task.Operation, now, until time.Time) (bool, error) {
	busy, err := o.lock(ctx, op, now, until)
	if err != nil || busy != nil {
		return false, err
	}
	held, err := o.Store.Hold(ctx, op, now, until)
	if err == nil && !held {
		o.unlock(ctx, op.ID)
	}
	return held, err
}

// EndOperation implements task.Store.
func (o Operations) EndOperation(ctx context.Context, id string, e task.Ending) (bool, error) {
	first, err := o.Store.EndOperation(ctx, id, e)
	if err == nil {
		o.unlock(ctx, id)
	}
	return first, err
}
