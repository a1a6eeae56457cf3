package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"berth/internal/session"
	"berth/internal/store/db"
)

// CreateSession implements session.Store.
func (s *Store) CreateSession(ctx context.Context, r session.Record) error {
	return s.createSession(ctx, s.writer, r)
}

func (s *Store) createSession(ctx context.Context, on db.DBTX, r session.Record) error {
	return s.queries.CreateSession(ctx, on, db.CreateSessionParams{
		Hash: r.Hash[:], DatacenterID: r.Identity.Datacenter, UserID: r.Identity.UserID, LoginHostID: r.LoginHost,
		Realm: r.Realm, Secret: r.Secret, Generation: r.Generation, TicketAt: r.TicketAt.UnixMilli(),
		CreatedAt: r.Created.UnixMilli(), LastSeenAt: r.LastSeen.UnixMilli(), EndsAt: r.Ends.UnixMilli(),
		Address: addressText(r.Client.Address), UserAgent: r.Client.UserAgent,
		LastAddress: addressText(r.LastFrom),
	})
}

// FindSession implements session.Store.
func (s *Store) FindSession(ctx context.Context, h session.Hash) (session.Record, error) {
	row, err := s.queries.FindSession(ctx, s.reader, h[:])
	if errors.Is(err, sql.ErrNoRows) {
		return session.Record{}, session.ErrNone
	}
	if err != nil {
		return session.Record{}, err
	}
	return record(row)
}

// touchBatch is how many uses one transaction notes: on a busy server all of them could take longer than one may.
const touchBatch = 200

// TouchSessions implements session.Store.
func (s *Store) TouchSessions(ctx context.Context, seen map[session.Hash]session.Use) error {
	for batch := range slices.Chunk(slices.Collect(maps.Keys(seen)), touchBatch) {
		err := s.inTransaction(ctx, func(tx *sql.Tx) error {
			for _, h := range batch {
				if err := s.queries.TouchSession(ctx, tx, db.TouchSessionParams{
					Seen: seen[h].At.UnixMilli(), LastAddress: addressText(seen[h].From), Hash: h[:],
				}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// RenewSession implements session.Store.
func (s *Store) RenewSession(ctx context.Context, h session.Hash, generation int64, secret []byte, at time.Time) error {
	n, err := s.queries.RenewSession(ctx, s.writer, db.RenewSessionParams{
		Secret: secret, TicketAt: at.UnixMilli(), Hash: h[:], Generation: generation,
	})
	if err == nil && n == 0 {
		return session.ErrNone
	}
	return err
}

// FindSessionByID implements session.Store.
func (s *Store) FindSessionByID(ctx context.Context, id session.ID) (session.Record, error) {
	first, last := session.Hash{}, session.Hash{}
	for i := range last {
		last[i] = 0xff
	}
	copy(first[:], id[:])
	copy(last[:], id[:])
	rows, err := s.queries.FindSessionBetween(ctx, s.reader, db.FindSessionBetweenParams{First: first[:], Last: last[:]})
	switch {
	case err != nil:
		return session.Record{}, err
	case len(rows) == 0:
		return session.Record{}, session.ErrNone
	case len(rows) > 1:
		return session.Record{}, fmt.Errorf("two sessions have the id %s", id)
	}
	return record(rows[0])
}

// Sessions implements session.Store.
func (s *Store) Sessions(ctx context.Context, sel session.Selection, most int) ([]session.Session, error) {
	rows, err := s.queries.Sessions(ctx, s.reader, db.SessionsParams{
		Everyone: sel.Everyone, DatacenterID: sel.Of.Datacenter, UserID: sel.Of.UserID,
		Idle: sel.SeenAfter.UnixMilli(), Now: sel.EndsAfter.UnixMilli(), Text: sel.Text, Most: int64(most),
	})
	if err != nil {
		return nil, err
	}
	sessions := make([]session.Session, 0, len(rows))
	for _, row := range rows {
		r, err := record(row)
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, r.Session)
	}
	return sessions, nil
}

// EndSession implements session.Store.
func (s *Store) EndSession(ctx context.Context, h session.Hash, at, until time.Time) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error { return s.endSession(ctx, tx, h[:], at, until) })
}

// endSession marks before it deletes: the mark lasts as long as the row would have.
func (s *Store) endSession(ctx context.Context, tx *sql.Tx, hash []byte, at, until time.Time) error {
	err := s.queries.MarkEnded(ctx, tx, db.MarkEndedParams{Hash: hash, EndedAt: at.UnixMilli(), Until: until.UnixMilli()})
	if err != nil {
		return err
	}
	return s.queries.EndSession(ctx, tx, hash)
}

// EndOtherSessions implements session.Store.
func (s *Store) EndOtherSessions(ctx context.Context, sel session.Selection, keep session.Hash, at, until time.Time) ([]session.Ended, error) {
	var ended []session.Ended
	err := s.inTransaction(ctx, func(tx *sql.Tx) (err error) {
		ended, err = s.endOthers(ctx, tx, sel, keep[:], at, until)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ended, nil
}

// endOthers ends the selected sessions but the one with the hash keep; an empty one spares none.
func (s *Store) endOthers(ctx context.Context, tx *sql.Tx, sel session.Selection, keep []byte, at, until time.Time) ([]session.Ended, error) {
	// The marks come first: each lasts as long as its row would have.
	err := s.queries.MarkOthersEnded(ctx, tx, db.MarkOthersEndedParams{
		Everyone: sel.Everyone, DatacenterID: sel.Of.Datacenter, UserID: sel.Of.UserID, Keep: keep,
		EndedAt: at.UnixMilli(), Until: until.UnixMilli(),
	})
	if err != nil {
		return nil, err
	}
	rows, err := s.queries.EndOtherSessions(ctx, tx, db.EndOtherSessionsParams{
		Everyone: sel.Everyone, DatacenterID: sel.Of.Datacenter, UserID: sel.Of.UserID, Keep: keep,
	})
	if err != nil {
		return nil, err
	}
	var ended []session.Ended
	for _, row := range rows {
		if len(row.Hash) != len(session.Hash{}) {
			return nil, fmt.Errorf("session row with a hash of %d bytes", len(row.Hash))
		}
		ended = append(ended, session.Ended{
			Hash: session.Hash(row.Hash), Identity: session.Identity{Datacenter: row.DatacenterID, UserID: row.UserID},
		})
	}
	return ended, nil
}

// EndSessionsBefore implements session.Store.
func (s *Store) EndSessionsBefore(ctx context.Context, idle, now time.Time) (int64, error) {
	if err := s.queries.ForgetEnded(ctx, s.writer, now.UnixMilli()); err != nil {
		return 0, err
	}
	return s.queries.EndSessionsBefore(ctx, s.writer, db.EndSessionsBeforeParams{Idle: idle.UnixMilli(), Now: now.UnixMilli()})
}

// AgingSessions implements session.Store.
func (s *Store) AgingSessions(ctx context.Context, ticketBefore time.Time, limit int) ([]session.Record, error) {
	rows, err := s.queries.AgingSessions(ctx, s.reader, db.AgingSessionsParams{TicketBefore: ticketBefore.UnixMilli(), Most: int64(limit)})
	if err != nil {
		return nil, err
	}
	records := make([]session.Record, 0, len(rows))
	for _, row := range rows {
		r, err := record(row)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

func record(row db.Session) (session.Record, error) {
	r := session.Record{
		Session: session.Session{
			Identity:  session.Identity{Datacenter: row.DatacenterID, UserID: row.UserID},
			LoginHost: row.LoginHostID,
			Realm:     row.Realm,
			Created:   fromMillis(row.CreatedAt),
			LastSeen:  fromMillis(row.LastSeenAt),
			Ends:      fromMillis(row.EndsAt),
			Client:    session.Client{UserAgent: row.UserAgent},
		},
		Secret:     row.Secret,
		Generation: row.Generation,
		TicketAt:   fromMillis(row.TicketAt),
	}
	// What can't be read stays the zero value: it is for people only.
	r.Client.Address, _ = netip.ParseAddr(row.Address)
	r.LastFrom, _ = netip.ParseAddr(row.LastAddress)
	if copy(r.Hash[:], row.Hash) != len(r.Hash) || len(row.Hash) != len(r.Hash) {
		return session.Record{}, fmt.Errorf("session row with a hash of %d bytes", len(row.Hash))
	}
	return r, nil
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
