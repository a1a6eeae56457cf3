package redis

import (
	"context"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"berth/internal/auth"
)

// Throttle is an auth.ThrottleStore in Redis, which counts as auth.MemoryThrottle does and keeps as many counters; see there. All
// replicas' clocks have to be right to the second.
//
// The counters of a limit are a hash, with "empty until rank" in Unix milliseconds under the counter's key, and a sorted set of
// the keys by rank. All limits share a hash tag, since an attempt counts under several of them in one step.
type Throttle struct {
	client *Client
	most   int // counters of one limit
}

var _ auth.ThrottleStore = (*Throttle)(nil)

// NewThrottle returns a store of counters.
func NewThrottle(c *Client) *Throttle { return &Throttle{client: c, most: auth.MaxCounters} }

func throttleKeys(l auth.Limit) (state, rank string) {
	name := "{throttle}:" + strings.ReplaceAll(l.Name, " ", "-")
	return name + ":state", name + ":rank"
}

const throttleLua = `
local function load(state, key)
  local text = redis.call('HGET', state, key)
  if not text then return nil end
  local empty, untilAt, rank = string.match(text, '^(%S+) (%S+) (%S+)$')
  return {empty = tonumber(empty), untilAt = tonumber(untilAt), rank = tonumber(rank)}
end
local function save(state, ranks, key, c)
  redis.call('HSET', state, key, string.format('%.0f %.0f %.0f', c.empty, c.untilAt, c.rank))
  redis.call('ZADD', ranks, string.format('%.0f', c.rank), key)
end
local function remove(state, ranks, key)
  redis.call('HDEL', state, key)
  redis.call('ZREM', ranks, key)
end
`

// takeAttempt. KEYS: state and ranks of each counter's limit. ARGV: now, the most counters of a limit, then of each counter its
// key and its limit's free attempts, first wait, longest wait, and number of attempts after which one waits longest.
//
// It returns the wait, or 0 and the wait's end that the attempt brought to each counter.
var takeAttempt = rueidis.NewLuaScript(throttleLua + `
local now, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local function counter(i)
  local at = 3 + (i - 1) * 5
  return KEYS[2 * i - 1], KEYS[2 * i], ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
end
local function waitAfter(attempts, free, first, longest)
  if attempts < free then return 0 end
  local wait = first
  while attempts > free and wait < longest do
    wait, attempts = wait * 2, attempts - 1
  end
  return math.min(wait, longest)
end
local counters, wait = #KEYS / 2, 0
for i = 1, counters do
  local state, _, key = counter(i)
  local c = load(state, key)
  if c then wait = math.max(wait, c.untilAt - now) end
end
if wait > 0 then return {wait} end
local answer = {0}
for i = 1, counters do
  local state, ranks, key, free, first, longest, enough = counter(i)
  for _ = 1, 1000 do
    local lowest = redis.call('ZRANGE', ranks, 0, 0)[1]
    if not lowest or lowest == key then break end
    local c = load(state, lowest)
    if c and c.empty > now then break end
    remove(state, ranks, lowest)
  end
  local c = load(state, key)
  if not c then
    c = {empty = 0, untilAt = 0, rank = 0}
    if redis.call('ZCARD', ranks) >= most then
      local lowest = redis.call('ZRANGE', ranks, 0, 0)[1]
      local least = load(state, lowest)
      remove(state, ranks, lowest)
      if least and first > 0 then c.empty = math.min(least.empty, now + enough * longest) end
    end
  end
  c.empty = math.max(c.empty, now) + longest
  c.rank = math.max(c.rank, now) + longest
  c.untilAt = 0
  local after = waitAfter(math.ceil((c.empty - now) / longest), free, first, longest)
  if after > 0 then
    c.untilAt = now + after
    c.rank = math.max(c.rank, now + (free - 1) * longest)
  end
  save(state, ranks, key, c)
  for _, k in ipairs({state, ranks}) do
    if redis.call('PTTL', k) < c.empty - now then redis.call('PEXPIRE', k, c.empty - now) end
  end
  answer[i + 1] = c.untilAt
end
return answer`)

// giveBackAttempt. KEYS as takeAttempt; ARGV: now, then of each counter its key, its limit's longest wait, and the end of the wait
// that the attempt brought.
var giveBackAttempt = rueidis.NewLuaScript(throttleLua + `
local now = tonumber(ARGV[1])
for i = 1, #KEYS / 2 do
  local state, ranks, key, longest, untilAt = KEYS[2 * i - 1], KEYS[2 * i], ARGV[3 * i - 1], tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local c = load(state, key)
  if c then
    if c.untilAt == untilAt then c.untilAt = 0 end
    c.empty, c.rank = c.empty - longest, c.rank - longest
    if c.empty > now then save(state, ranks, key, c) else remove(state, ranks, key) end
  end
end
return 1`)

func count(n int64) string { return strconv.FormatInt(n, 10) }

// moment is a time in Unix milliseconds, 0 for the zero time.
func moment(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return millis(t)
}

// Take implements auth.ThrottleStore.
func (t *Throttle) Take(ctx context.Context, at time.Time, counters ...auth.Counter) (auth.Taken, time.Duration, error) {
	if len(counters) == 0 {
		return nil, 0, nil
	}
	keys, args := []string{}, []string{millis(at), strconv.Itoa(t.most)}
	for _, c := range counters {
		state, rank := throttleKeys(c.Limit)
		keys = append(keys, state, rank)
		args = append(args, hex.EncodeToString(c.Key[:]), count(int64(c.Limit.Free)), count(c.Limit.First.Milliseconds()),
			count(c.Limit.Longest.Milliseconds()), count(int64(c.Limit.Most())))
	}
	answer, err := t.client.run(ctx, takeAttempt, keys, args).AsIntSlice()
	switch {
	case err != nil:
		return nil, 0, err
	case len(answer) > 0 && answer[0] > 0:
		return nil, time.Duration(answer[0]) * time.Millisecond, nil
	case len(answer) != 1+len(counters):
		return nil, 0, errors.New("attempts were counted in part")
	}
	taken := make(auth.Taken, len(counters))
	for i, c := range counters {
		taken[i].Counter = c
		if answer[i+1] > 0 {
			taken[i].Until = time.UnixMilli(answer[i+1]).UTC()
		}
	}
	return taken, 0, nil
}

// GiveBack implements auth.ThrottleStore.
func (t *Throttle) GiveBack(ctx context.Context, at time.Time, taken auth.Taken) error {
	if len(taken) == 0 {
		return nil
	}
	keys, args := []string{}, []string{millis(at)}
	for _, c := range taken {
		state, rank := throttleKeys(c.Limit)
		keys = append(keys, state, rank)
		args = append(args, hex.EncodeToString(c.Key[:]), count(c.Limit.Longest.Milliseconds()), moment(c.Until))
	}
	return t.client.run(ctx, giveBackAttempt, keys, args).Error()
}

// Forget implements auth.ThrottleStore.
func (t *Throttle) Forget(ctx context.Context, counters ...auth.Counter) error {
	var calls []rueidis.Completed
	for _, c := range counters {
		state, rank := throttleKeys(c.Limit)
		key := hex.EncodeToString(c.Key[:])
		calls = append(calls, t.client.redis.B().Hdel().Key(state).Field(key).Build(), t.client.redis.B().Zrem().Key(rank).Member(key).Build())
	}
	_, err := t.client.doAll(ctx, calls...)
	return err
}

// Attempts implements auth.ThrottleStore.
func (t *Throttle) Attempts(ctx context.Context, at time.Time, c auth.Counter) (int, error) {
	state, _ := throttleKeys(c.Limit)
	text, err := t.client.do(ctx, t.client.redis.B().Hget().Key(state).Field(hex.EncodeToString(c.Key[:])).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(text, " ")
	empty, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, errors.New("a counter of attempts is not a number")
	}
	left := time.UnixMilli(empty).Sub(at)
	if left <= 0 {
		return 0, nil
	}
	return int((left + c.Limit.Longest - 1) / c.Limit.Longest), nil
}
