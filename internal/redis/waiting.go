package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"berth/internal/auth"
)

// fieldValue is what waits. Beside it are check, what whoever takes it has to know, and until, when it is over.
const fieldValue = "value"

// waiting keeps what waits for its next step, under a hash, for a few minutes. Anybody can make something wait, so it is bounded
// by group and in all: a group that is full gives up its own oldest, and when there is no room in all, the heaviest group does.
//
// All keys share one hash tag, since each script has to see them all:
//
//	{name}:item:<hash>     value and check, living until it is over
//	{name}:group:<group>   what waits in a group, by when it is over
//	{name}:order           what waits at all, by when it is over
//	{name}:weights         groups by weight
//	{name}:weight          the sum
type waiting struct {
	client *Client
	name   string
	// mostInGroup and mostWeight are the bounds.
	mostInGroup, mostWeight int
	now                     func() time.Time
}

func (w *waiting) tag() string            { return "{" + w.name + "}" }
func (w *waiting) key(item string) string { return w.tag() + ":item:" + item }
func (w *waiting) order() string          { return w.tag() + ":order" }
func (w *waiting) groupName(g string) string {
	sum := sha256.Sum256([]byte(g))
	return hex.EncodeToString(sum[:16])
}

// keepScript. ARGV: tag, item, group, weight, now, until, most in a group, most weight, value, check.
//
// A member of the sorted sets is "group item weight", so that what has run out by itself can be subtracted.
var keepScript = rueidis.NewLuaScript(dropLua + `
local tag, item, group, weight = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now, untilAt = tonumber(ARGV[5]), tonumber(ARGV[6])
for _, over in ipairs(redis.call('ZRANGEBYSCORE', tag .. ':order', '-inf', now)) do drop(tag, over) end
local again = redis.call('HGET', tag .. ':item:' .. item, 'member')
if again then drop(tag, again) end
local member = group .. ' ' .. item .. ' ' .. weight
redis.call('HSET', tag .. ':item:' .. item, 'value', ARGV[9], 'check', ARGV[10], 'until', ARGV[6], 'member', member)
redis.call('PEXPIRE', tag .. ':item:' .. item, untilAt - now)
redis.call('ZADD', tag .. ':order', untilAt, member)
redis.call('ZADD', tag .. ':group:' .. group, untilAt, member)
redis.call('ZINCRBY', tag .. ':weights', weight, group)
redis.call('INCRBY', tag .. ':weight', weight)
while redis.call('ZCARD', tag .. ':group:' .. group) > tonumber(ARGV[7]) do
  drop(tag, redis.call('ZRANGE', tag .. ':group:' .. group, 0, 0)[1])
end
while tonumber(redis.call('GET', tag .. ':weight') or '0') > tonumber(ARGV[8]) do
  local heaviest = redis.call('ZRANGE', tag .. ':weights', -1, -1)[1]
  if not heaviest then break end
  local oldest = redis.call('ZRANGE', tag .. ':group:' .. heaviest, 0, 0)[1]
  if not oldest then break end
  drop(tag, oldest)
end
for _, key in ipairs({':order', ':weights', ':weight', ':group:' .. group}) do
  local life = redis.call('PTTL', tag .. key)
  if life < untilAt - now then redis.call('PEXPIRE', tag .. key, untilAt - now) end
end
return 1`)

// dropLua gives up one member everywhere.
const dropLua = `
local function drop(tag, member)
  local group, item, weight = string.match(member, '^(%S+) (%S+) (%d+)$')
  redis.call('ZREM', tag .. ':order', member)
  redis.call('ZREM', tag .. ':group:' .. group, member)
  redis.call('DEL', tag .. ':item:' .. item)
  if tonumber(redis.call('ZINCRBY', tag .. ':weights', -weight, group)) <= 0 then redis.call('ZREM', tag .. ':weights', group) end
  if redis.call('DECRBY', tag .. ':weight', weight) <= 0 then redis.call('DEL', tag .. ':weight') end
end
`

// takeScript removes an item and returns its value, if whoever asks knows its check. ARGV: tag, item, check, now.
var takeScript = rueidis.NewLuaScript(dropLua + `
local found = redis.call('HMGET', ARGV[1] .. ':item:' .. ARGV[2], 'value', 'check', 'member', 'until')
if not found[1] or found[2] ~= ARGV[3] or tonumber(found[4]) <= tonumber(ARGV[4]) then return false end
drop(ARGV[1], found[3])
return found[1]`)

func (w *waiting) keep(ctx context.Context, hash [sha256.Size]byte, group string, weight int, value, check string, until time.Time) error {
	now := w.now()
	if !until.After(now) {
		return nil
	}
	item := hex.EncodeToString(hash[:])
	return w.client.run(ctx, keepScript, []string{w.key(item)}, []string{
		w.tag(), item, w.groupName(group), strconv.Itoa(weight), millis(now), millis(until),
		strconv.Itoa(w.mostInGroup), strconv.Itoa(w.mostWeight), value, check,
	}).Error()
}

// take removes what waits and returns it, to one caller only; auth.ErrNoAttempt if there is nothing, or with another check.
func (w *waiting) take(ctx context.Context, hash [sha256.Size]byte, check string) (string, error) {
	item := hex.EncodeToString(hash[:])
	value, err := w.client.run(ctx, takeScript, []string{w.key(item)}, []string{w.tag(), item, check, millis(w.now())}).ToString()
	if rueidis.IsRedisNil(err) {
		return "", auth.ErrNoAttempt
	}
	return value, err
}

// dropScript removes an item, whoever asks. ARGV: tag, item.
var dropScript = rueidis.NewLuaScript(dropLua + `
local member = redis.call('HGET', ARGV[1] .. ':item:' .. ARGV[2], 'member')
if member then drop(ARGV[1], member) end
return 1`)

func (w *waiting) drop(ctx context.Context, hash [sha256.Size]byte) error {
	item := hex.EncodeToString(hash[:])
	return w.client.run(ctx, dropScript, []string{w.key(item)}, []string{w.tag(), item}).Error()
}

// peek returns what waits, or auth.ErrNoAttempt.
func (w *waiting) peek(ctx context.Context, hash [sha256.Size]byte) (string, error) {
	key := w.key(hex.EncodeToString(hash[:]))
	found, err := w.client.do(ctx, w.client.redis.B().Hmget().Key(key).Field(fieldValue, "until").Build()).AsStrSlice()
	if err != nil {
		return "", err
	}
	if len(found) != 2 || found[1] == "" {
		return "", auth.ErrNoAttempt
	}
	until, err := strconv.ParseInt(found[1], 10, 64)
	if err != nil || until <= w.now().UnixMilli() {
		return "", auth.ErrNoAttempt
	}
	return found[0], nil
}

// keys are the hashes of all that waits.
func (w *waiting) keys(ctx context.Context) ([]string, error) {
	members, err := w.client.do(ctx, w.client.redis.B().Zrange().Key(w.order()).Min("0").Max("-1").Build()).AsStrSlice()
	if err != nil {
		return nil, err
	}
	items := make([]string, 0, len(members))
	for _, m := range members {
		if parts := strings.Fields(m); len(parts) == 3 {
			items = append(items, parts[1])
		}
	}
	return items, nil
}
