package store

import (
	"context"
	"database/sql"
	"math"
	"net/netip"
	"strings"
	"time"

	"berth/internal/audit"
	"berth/internal/session"
	"berth/internal/store/db"
)

var _ audit.Store = (*Store)(nil)

// AddEntries implements audit.Store.
func (s *Store) AddEntries(ctx context.Context, entries []audit.Entry) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		for _, e := range entries {
			if err := s.addEntry(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) addEntry(ctx context.Context, tx *sql.Tx, e audit.Entry) error {
	return s.queries.AddAudit(ctx, tx, db.AddAuditParams{
		At: e.At.UnixMilli(), DatacenterID: e.Identity.Datacenter, UserID: e.Identity.UserID,
		SubjectDatacenterID: e.Subject.Datacenter, SubjectUserID: e.Subject.UserID, Address: addressText(e.Address),
		Network:  audit.Network(e.Address),
		Category: string(e.Action.Category()), Action: string(e.Action), Target: e.Target, Result: string(e.Result),
		ErrorID: e.ErrorID, Detail: e.Detail, Attempts: e.Count,
	})
}

// Entries implements audit.Store.
func (s *Store) Entries(ctx context.Context, sel audit.Selection, most int) ([]audit.Entry, error) {
	p := db.AuditOfParams{
		DatacenterID: sel.Of.Datacenter, UserID: sel.Of.UserID, Before: sel.Before, FromAt: math.MinInt64, ToAt: math.MaxInt64,
		Action: string(sel.Action), Result: string(sel.Result), Text: sel.Text, Most: int64(most),
	}
	if p.Before == 0 {
		p.Before = math.MaxInt64
	}
	if !sel.From.IsZero() {
		p.FromAt = sel.From.UnixMilli()
	}
	if !sel.To.IsZero() {
		p.ToAt = sel.To.UnixMilli()
	}
	var rows []db.Audit
	var err error
	if sel.Shared {
		rows, err = s.queries.AuditShared(ctx, s.reader, db.AuditSharedParams(p))
	} else {
		rows, err = s.queries.AuditOf(ctx, s.reader, p)
	}
	if err != nil {
		return nil, err
	}
	entries := make([]audit.Entry, 0, len(rows))
	for _, row := range rows {
		e := audit.Entry{
			ID: row.ID, At: fromMillis(row.At),
			Identity: session.Identity{Datacenter: row.DatacenterID, UserID: row.UserID},
			Subject:  session.Identity{Datacenter: row.SubjectDatacenterID, UserID: row.SubjectUserID},
			Action:   audit.Action(row.Action), Target: row.Target, Result: audit.Result(row.Result),
			ErrorID: row.ErrorID, Detail: row.Detail, Count: row.Attempts,
		}
		// What can't be read stays the zero value: it is for people only.
		e.Address, _ = netip.ParseAddr(row.Address)
		entries = append(entries, e)
	}
	return entries, nil
}

// RemoveEntries implements audit.Store.
func (s *Store) RemoveEntries(ctx context.Context, before time.Time, refusedKept int) (int64, error) {
	old, err := s.queries.RemoveAuditBefore(ctx, s.writer, before.UnixMilli())
	if err != nil {
		return 0, err
	}
	// Ranking them all takes a moment, so it is done only when there are too many.
	refused, err := s.queries.CountAuditRefused(ctx, s.reader)
	if err != nil || refused <= int64(refusedKept) {
		return old, err
	}
	surplus, err := s.queries.RemoveAuditRefused(ctx, s.writer, int64(refusedKept))
	return old + surplus, err
}

// IsAccount implements audit.Store.
func (s *Store) IsAccount(ctx context.Context, who session.Identity) (bool, error) {
	return s.queries.IsAccount(ctx, s.reader, db.IsAccountParams{DatacenterID: who.Datacenter, UserID: strings.ToLower(who.UserID)})
}

// Doors implements audit.Store.
func (s *Store) Doors(ctx context.Context) (map[string]string, error) {
	hosts, err := s.LoginHosts(ctx)
	if err != nil {
		return nil, err
	}
	doors := make(map[string]string, len(hosts))
	for _, h := range hosts {
		if _, ok := doors[h.Datacenter]; !ok {
			doors[h.Datacenter] = h.Address.String()
		}
	}
	return doors, nil
}
