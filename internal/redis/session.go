package redis

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"berth/internal/session"
)

// Ends is the database's part in sessions: what is dead there is dead, whatever Redis forgot or brings back.
type Ends interface {
	// MarkSessionsEnded marks hashes as ended, each until its time at least; all or none.
	MarkSessionsEnded(ctx context.Context, at time.Time, until map[session.Hash]time.Time) error
	// DeadSessions tells which of some sessions are marked as ended, or at a login host that is gone.
	DeadSessions(ctx context.Context, sessions []session.Session) (map[session.Hash]bool, error)
	// ForgetEndedSessions forgets the marks that are over at a time.
	ForgetEndedSessions(ctx context.Context, now time.Time) error
}

// Sessions is a session.Store in Redis. Each record lives there as long as its session may, idle included.
type Sessions struct {
	client *Client
	ends   Ends
	now    func() time.Time
	idle   time.Duration
}

var _ session.Store = (*Sessions)(nil)

// NewSessions returns a store of sessions that end when they were not used for the given time.
func NewSessions(c *Client, ends Ends, idle time.Duration, now func() time.Time) *Sessions {
	return &Sessions{client: c, ends: ends, idle: idle, now: now}
}

// The indexes of all sessions. They may name what is gone already, and what is written last is the record: so nothing lives
// that no index names.
const (
	indexByHash   = "{sessions}:hash"   // all scores are 0
	indexByEnd    = "{sessions}:end"    // when it ends unless it is used
	indexByTicket = "{sessions}:ticket" // when its ticket was received
)

// page is how many sessions one call asks for.
const page = 500

func sessionKey(hash string) string { return sessionPrefix + hash }

// identityKey is the index of an identity's sessions. It holds a hash, so that no user id can be mistaken for a part of a key.
func identityKey(i session.Identity) string { return "sessions:" + i.Hash() }

// HashOfKey is the hash of the session that a key holds.
func HashOfKey(key string) (session.Hash, bool) {
	text, ok := strings.CutPrefix(key, sessionPrefix)
	if !ok {
		return session.Hash{}, false
	}
	return parseHash(text)
}

func parseHash(text string) (h session.Hash, ok bool) {
	if len(text) != hex.EncodedLen(len(h)) {
		return session.Hash{}, false
	}
	_, err := hex.Decode(h[:], []byte(text))
	return h, err == nil
}

// fields of a record.
const (
	fieldDatacenter = "datacenter"
	fieldUser       = "user"
	fieldLoginHost  = "login_host"
	fieldRealm      = "realm"
	fieldCreated    = "created"
	fieldSeen       = "seen"
	fieldEnds       = "ends"
	fieldAddress    = "address"
	fieldAgent      = "user_agent"
	fieldFrom       = "last_address"
	fieldSecret     = "secret"
	fieldGeneration = "generation"
	fieldTicketAt   = "ticket_at"
)

func millis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// end is when a session ends unless it is used again.
func (s *Sessions) end(seen, ends time.Time) time.Time {
	if idle := seen.Add(s.idle); idle.Before(ends) {
		return idle
	}
	return ends
}

// indexing are the calls that note a session under everything that it is found by. The identity's own index lives as long as
// any session in it can.
func (s *Sessions) indexing(hash string, of session.Identity, end, ticketAt time.Time) []rueidis.Completed {
	b := s.client.redis.B()
	return []rueidis.Completed{
		b.Zadd().Key(indexByHash).ScoreMember().ScoreMember(0, hash).Build(),
		b.Zadd().Key(indexByEnd).ScoreMember().ScoreMember(float64(end.UnixMilli()), hash).Build(),
		b.Zadd().Key(indexByTicket).ScoreMember().ScoreMember(float64(ticketAt.UnixMilli()), hash).Build(),
		b.Zadd().Key(identityKey(of)).ScoreMember().ScoreMember(float64(end.UnixMilli()), hash).Build(),
		b.Zremrangebyscore().Key(identityKey(of)).Min("-inf").Max("(" + millis(s.now())).Build(),
		b.Pexpire().Key(identityKey(of)).Milliseconds((s.idle + identityGrace).Milliseconds()).Build(),
	}
}

// identityGrace is how much longer than its sessions an identity's index lives: uses are noted a little later than they were.
const identityGrace = 10 * time.Minute

// forget takes sessions out of the indexes.
func (s *Sessions) forget(ctx context.Context, hashes ...string) error {
	if len(hashes) == 0 {
		return nil
	}
	b := s.client.redis.B()
	_, err := s.client.doAll(ctx,
		b.Zrem().Key(indexByHash).Member(hashes...).Build(),
		b.Zrem().Key(indexByEnd).Member(hashes...).Build(),
		b.Zrem().Key(indexByTicket).Member(hashes...).Build(),
	)
	return err
}

// createScript stores a record with its life in milliseconds, so that there is none without an end.
var createScript = rueidis.NewLuaScript(`
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1`)

// CreateSession implements session.Store.
func (s *Sessions) CreateSession(ctx context.Context, r session.Record) error {
	hash, end := r.Hash.String(), s.end(r.LastSeen, r.Ends)
	life := end.Sub(s.now())
	if life <= 0 {
		return nil // it has run out already
	}
	if _, err := s.client.doAll(ctx, s.indexing(hash, r.Identity, end, r.TicketAt)...); err != nil {
		return err
	}
	return s.client.run(ctx, createScript, []string{sessionKey(hash)}, []string{
		strconv.FormatInt(life.Milliseconds(), 10),
		fieldDatacenter, r.Identity.Datacenter, fieldUser, r.Identity.UserID, fieldLoginHost, r.LoginHost, fieldRealm, r.Realm,
		fieldCreated, millis(r.Created), fieldSeen, millis(r.LastSeen), fieldEnds, millis(r.Ends),
		fieldAddress, addressText(r.Client.Address), fieldAgent, r.Client.UserAgent, fieldFrom, addressText(r.LastFrom),
		fieldSecret, rueidis.BinaryString(r.Secret), fieldGeneration, strconv.FormatInt(r.Generation, 10), fieldTicketAt, millis(r.TicketAt),
	}).Error()
}

// ofAnotherType tells that under a key lies what Berth never puts there.
func ofAnotherType(err error) bool {
	said, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(said.Error(), "WRONGTYPE")
}

// record reads what CreateSession wrote; ErrNone if there is nothing, or what no Berth wrote or only a part of it is left of. That
// is nobody's session, and must not keep other ones from being listed, renewed and ended.
func record(hash session.Hash, result rueidis.RedisResult) (session.Record, error) {
	fields, err := result.AsStrMap()
	if ofAnotherType(err) {
		return session.Record{}, fmt.Errorf("%w: what lies under the key of %s is no record", session.ErrNone, hash.ID())
	}
	if err != nil {
		return session.Record{}, err
	}
	if len(fields) == 0 {
		return session.Record{}, session.ErrNone
	}
	var bad error
	number := func(field string) int64 {
		n, err := strconv.ParseInt(fields[field], 10, 64)
		if err != nil && bad == nil {
			bad = fmt.Errorf("%w: field %s of %s is not a number", session.ErrNone, field, hash.ID())
		}
		return n
	}
	at := func(field string) time.Time { return time.UnixMilli(number(field)).UTC() }
	r := session.Record{
		Session: session.Session{
			Hash: hash, Identity: session.Identity{Datacenter: fields[fieldDatacenter], UserID: fields[fieldUser]},
			LoginHost: fields[fieldLoginHost], Realm: fields[fieldRealm],
			Created: at(fieldCreated), LastSeen: at(fieldSeen), Ends: at(fieldEnds),
			Client: session.Client{UserAgent: fields[fieldAgent]},
		},
		Secret: []byte(fields[fieldSecret]), Generation: number(fieldGeneration), TicketAt: at(fieldTicketAt),
	}
	// What can't be read stays the zero value: it is for people only.
	r.Client.Address, _ = netip.ParseAddr(fields[fieldAddress])
	r.LastFrom, _ = netip.ParseAddr(fields[fieldFrom])
	if bad != nil {
		return session.Record{}, bad
	}
	return r, nil
}

// FindSession implements session.Store.
func (s *Sessions) FindSession(ctx context.Context, h session.Hash) (session.Record, error) {
	r, err := record(h, s.client.do(ctx, s.client.redis.B().Hgetall().Key(sessionKey(h.String())).Build()))
	if err != nil {
		return session.Record{}, err
	}
	living, err := s.living(ctx, []session.Record{r})
	if err == nil && len(living) == 0 {
		err = session.ErrNone
	}
	if err != nil {
		return session.Record{}, err
	}
	return r, nil
}

// living leaves out what is dead in the database.
func (s *Sessions) living(ctx context.Context, records []session.Record) ([]session.Record, error) {
	if len(records) == 0 {
		return nil, nil
	}
	sessions := make([]session.Session, len(records))
	for i, r := range records {
		sessions[i] = r.Session
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	dead, err := s.ends.DeadSessions(ctx, sessions)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(records, func(r session.Record) bool { return dead[r.Hash] }), nil
}

// FindSessionByID implements session.Store.
func (s *Sessions) FindSessionByID(ctx context.Context, id session.ID) (session.Record, error) {
	first := "[" + id.String()
	hashes, err := s.client.do(ctx, s.client.redis.B().Zrangebylex().Key(indexByHash).Min(first).Max(first+"\xff").Limit(0, 2).Build()).AsStrSlice()
	switch {
	case err != nil:
		return session.Record{}, err
	case len(hashes) == 0:
		return session.Record{}, session.ErrNone
	case len(hashes) > 1:
		return session.Record{}, fmt.Errorf("two sessions have the id %s", id)
	}
	h, ok := parseHash(hashes[0])
	if !ok {
		return session.Record{}, session.ErrNone
	}
	return s.FindSession(ctx, h)
}

// read reads records, in pages, and gives each to visit that is there and can be read.
func (s *Sessions) read(ctx context.Context, hashes []string, visit func(session.Record)) error {
	for part := range slices.Chunk(hashes, page) {
		known := make([]session.Hash, 0, len(part))
		calls := make([]rueidis.Completed, 0, len(part))
		for _, text := range part {
			if h, ok := parseHash(text); ok {
				known = append(known, h)
				calls = append(calls, s.client.redis.B().Hgetall().Key(sessionKey(text)).Build())
			}
		}
		results, err := s.client.readAll(ctx, calls...)
		if err != nil {
			return err
		}
		for i, result := range results {
			switch r, err := record(known[i], result); {
			case err == nil:
				visit(r)
			case !errors.Is(err, session.ErrNone):
				return err
			}
		}
	}
	return nil
}

// hashesOf are the hashes of an identity's sessions, or of everyone's.
func (s *Sessions) hashesOf(ctx context.Context, sel session.Selection) ([]string, error) {
	key := indexByHash
	if !sel.Everyone {
		key = identityKey(sel.Of)
	}
	return s.client.do(ctx, s.client.redis.B().Zrange().Key(key).Min("0").Max("-1").Build()).AsStrSlice()
}

// Sessions implements session.Store.
func (s *Sessions) Sessions(ctx context.Context, sel session.Selection, most int) ([]session.Session, error) {
	hashes, err := s.hashesOf(ctx, sel)
	if err != nil {
		return nil, err
	}
	text := lower(sel.Text)
	var found []session.Record
	err = s.read(ctx, hashes, func(r session.Record) {
		if !sel.Everyone && r.Identity != sel.Of || !r.LastSeen.After(sel.SeenAfter) || !r.Ends.After(sel.EndsAfter) {
			return
		}
		if strings.Contains(lower(r.Identity.UserID+"\n"+addressText(r.Client.Address)+"\n"+r.Client.UserAgent), text) {
			r.Secret = nil
			found = append(found, r)
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b session.Record) int {
		if order := b.LastSeen.Compare(a.LastSeen); order != 0 {
			return order
		}
		return strings.Compare(a.Hash.String(), b.Hash.String())
	})
	if found, err = s.living(ctx, found); err != nil {
		return nil, err
	}
	sessions := make([]session.Session, 0, min(most, len(found)))
	for _, r := range found[:min(most, len(found))] {
		sessions = append(sessions, r.Session)
	}
	return sessions, nil
}

// lower makes ASCII letters small and leaves all others, as the database does.
func lower(text string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, text)
}

// touchScript notes a use that is later than the last one, if the record is there. The longer life comes first: a Redis that is
// full takes no new values, and still nobody in use is to be signed out. A life that is over takes the record with it, which a
// value set after it would bring back for good. It returns when the session ends, whose it is and how
// old its ticket.
var touchScript = rueidis.NewLuaScript(`
local was = redis.call('HMGET', KEYS[1], 'seen', 'ends', 'datacenter', 'user', 'ticket_at')
if not was[1] or tonumber(was[1]) >= tonumber(ARGV[1]) then return false end
local last = math.min(tonumber(ARGV[1]) + tonumber(ARGV[4]), tonumber(was[2]))
local life = last - tonumber(ARGV[3])
if life <= 0 then
  redis.call('DEL', KEYS[1])
  return false
end
redis.call('PEXPIRE', KEYS[1], life)
redis.call('HSET', KEYS[1], 'seen', ARGV[1], 'last_address', ARGV[2])
return {string.format('%.0f', last), was[3], was[4], was[5]}`)

// TouchSessions implements session.Store.
func (s *Sessions) TouchSessions(ctx context.Context, seen map[session.Hash]session.Use) error {
	var problems []error
	for part := range slices.Chunk(slices.Collect(maps.Keys(seen)), page) {
		problems = append(problems, s.touch(ctx, part, seen))
	}
	return errors.Join(problems...)
}

func (s *Sessions) touch(ctx context.Context, hashes []session.Hash, seen map[session.Hash]session.Use) error {
	calls := make([]rueidis.LuaExec, len(hashes))
	for i, h := range hashes {
		calls[i] = rueidis.LuaExec{Keys: []string{sessionKey(h.String())}, Args: []string{
			millis(seen[h].At), addressText(seen[h].From), millis(s.now()), strconv.FormatInt(s.idle.Milliseconds(), 10),
		}}
	}
	results, problem := s.client.runAll(ctx, touchScript, calls)
	// A server that took over without the last writes may have lost the indexes' entries and kept the record.
	var index []rueidis.Completed
	for i, result := range results {
		touched, err := result.AsStrSlice()
		if err != nil || len(touched) != 4 {
			continue // it is not there any more, or was seen later
		}
		end, _ := strconv.ParseInt(touched[0], 10, 64)
		ticketAt, _ := strconv.ParseInt(touched[3], 10, 64)
		of := session.Identity{Datacenter: touched[1], UserID: touched[2]}
		index = append(index, s.indexing(hashes[i].String(), of, time.UnixMilli(end), time.UnixMilli(ticketAt))...)
	}
	_, err := s.client.doAll(ctx, index...)
	return errors.Join(problem, err)
}

// renewScript replaces the ticket of one generation.
var renewScript = rueidis.NewLuaScript(`
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'secret', ARGV[2], 'ticket_at', ARGV[3])
return redis.call('HINCRBY', KEYS[1], 'generation', 1)`)

// RenewSession implements session.Store.
func (s *Sessions) RenewSession(ctx context.Context, h session.Hash, generation int64, secret []byte, at time.Time) error {
	if _, err := s.FindSession(ctx, h); err != nil {
		return err
	}
	renewed, err := s.client.run(ctx, renewScript, []string{sessionKey(h.String())}, []string{
		strconv.FormatInt(generation, 10), rueidis.BinaryString(secret), millis(at),
	}).AsInt64()
	switch {
	case err != nil:
		return err
	case renewed == 0:
		return session.ErrNone
	}
	b := s.client.redis.B()
	return s.client.do(ctx, b.Zadd().Key(indexByTicket).ScoreMember().ScoreMember(float64(at.UnixMilli()), h.String()).Build()).Error()
}

// EndSession implements session.Store. The database marks the end first. Should it not answer, the record goes all the same,
// which ends the session everywhere, and the error has the mark tried again.
func (s *Sessions) EndSession(ctx context.Context, h session.Hash, at, until time.Time) error {
	r, err := record(h, s.client.do(ctx, s.client.redis.B().Hgetall().Key(sessionKey(h.String())).Build()))
	if err == nil && r.Ends.After(until) {
		until = r.Ends
	}
	if errors.Is(err, session.ErrNone) {
		err = nil
	}
	return errors.Join(err, s.mark(ctx, at, map[session.Hash]time.Time{h: until}), s.remove(ctx, r.Identity, h.String()))
}

func (s *Sessions) mark(ctx context.Context, at time.Time, until map[session.Hash]time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return s.ends.MarkSessionsEnded(ctx, at, until)
}

// remove removes a record, and then what leads to it.
func (s *Sessions) remove(ctx context.Context, of session.Identity, hash string) error {
	if err := s.client.do(ctx, s.client.redis.B().Del().Key(sessionKey(hash)).Build()).Error(); err != nil {
		return err
	}
	if of != (session.Identity{}) {
		if err := s.client.do(ctx, s.client.redis.B().Zrem().Key(identityKey(of)).Member(hash).Build()).Error(); err != nil {
			return err
		}
	}
	return s.forget(ctx, hash)
}

// EndOtherSessions implements session.Store. What decides is the one transaction in the database.
func (s *Sessions) EndOtherSessions(ctx context.Context, sel session.Selection, keep session.Hash, at, until time.Time) ([]session.Ended, error) {
	var hashes []string
	var err error
	if sel.Everyone {
		hashes, err = s.scan(ctx) // no index may be missing one
	} else {
		hashes, err = s.hashesOf(ctx, sel)
	}
	if err != nil {
		return nil, err
	}
	var ended []session.Ended
	marks := map[session.Hash]time.Time{}
	err = s.read(ctx, hashes, func(r session.Record) {
		if r.Hash == keep || !sel.Everyone && r.Identity != sel.Of {
			return
		}
		ended = append(ended, session.Ended{Hash: r.Hash, Identity: r.Identity})
		marks[r.Hash] = until
		if r.Ends.After(until) {
			marks[r.Hash] = r.Ends
		}
	})
	if err != nil {
		return nil, err
	}
	if err := s.mark(ctx, at, marks); err != nil {
		return nil, err
	}
	for _, one := range ended {
		if err := s.remove(ctx, one.Identity, one.Hash.String()); err != nil {
			return nil, err
		}
	}
	return ended, nil
}

// scan finds the hashes of all records there are, by looking at every key.
func (s *Sessions) scan(ctx context.Context) ([]string, error) {
	seen := map[string]bool{}
	for _, node := range s.client.redis.Nodes() {
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			entry, err := func() (rueidis.ScanEntry, error) {
				ctx, cancel := context.WithTimeout(ctx, callTime)
				defer cancel()
				return node.Do(ctx, node.B().Scan().Cursor(cursor).Match(sessionPrefix+"*").Count(1000).Build()).AsScanEntry()
			}()
			if err != nil {
				return nil, err
			}
			for _, key := range entry.Elements {
				if h, ok := HashOfKey(key); ok {
					seen[h.String()] = true // replicas name them once more
				}
			}
			cursor = entry.Cursor
		}
	}
	hashes := make([]string, 0, len(seen))
	for h := range seen {
		hashes = append(hashes, h)
	}
	slices.Sort(hashes)
	return hashes, nil
}

// EndSessionsBefore implements session.Store. Redis itself has removed most of them; what is left to do are the indexes.
func (s *Sessions) EndSessionsBefore(ctx context.Context, idle, now time.Time) (int64, error) {
	forgetting, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if err := s.ends.ForgetEndedSessions(forgetting, now); err != nil {
		return 0, err
	}
	var removed int64
	for kept := 0; ; {
		hashes, err := s.client.do(ctx, s.client.redis.B().Zrangebyscore().Key(indexByEnd).Min("-inf").Max(millis(now)).Limit(int64(kept), page).Build()).AsStrSlice()
		if err != nil || len(hashes) == 0 {
			return removed, err
		}
		gone := map[string]bool{}
		for _, h := range hashes {
			gone[h] = true
		}
		var over []session.Record
		err = s.read(ctx, hashes, func(r session.Record) {
			gone[r.Hash.String()] = false
			if !r.LastSeen.After(idle) || !r.Ends.After(now) {
				over = append(over, r)
			}
		})
		if err != nil {
			return removed, err
		}
		for _, r := range over {
			if err := s.remove(ctx, r.Identity, r.Hash.String()); err != nil {
				return removed, err
			}
			removed++
		}
		var left []string
		for h, is := range gone {
			if is {
				left = append(left, h)
			}
		}
		if err := s.forget(ctx, left...); err != nil {
			return removed, err
		}
		kept += len(hashes) - len(over) - len(left)
	}
}

// AgingSessions implements session.Store.
func (s *Sessions) AgingSessions(ctx context.Context, ticketBefore time.Time, limit int) ([]session.Record, error) {
	var aging []session.Record
	for offset := int64(0); len(aging) < limit; offset += page {
		hashes, err := s.client.do(ctx, s.client.redis.B().Zrangebyscore().Key(indexByTicket).Min("-inf").Max(millis(ticketBefore)).Limit(offset, page).Build()).AsStrSlice()
		if err != nil {
			return nil, err
		}
		if len(hashes) == 0 {
			break
		}
		var found []session.Record
		err = s.read(ctx, hashes, func(r session.Record) {
			if !r.TicketAt.After(ticketBefore) && r.LastSeen.After(r.TicketAt) {
				found = append(found, r)
			}
		})
		if err != nil {
			return nil, err
		}
		if found, err = s.living(ctx, found); err != nil {
			return nil, err
		}
		aging = append(aging, found...)
	}
	return aging[:min(limit, len(aging))], nil
}
