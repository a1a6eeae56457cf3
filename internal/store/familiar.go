package store

import (
	"context"
	"database/sql"
	"time"

	"berth/internal/auth"
	"berth/internal/session"
	"berth/internal/store/db"
)

// How many marks are kept: of one account and kind, and of one datacenter.
const (
	familiarOfAccount    = 16
	familiarOfDatacenter = 5000
)

var _ auth.FamiliarStore = (*Store)(nil)

// IsFamiliar implements auth.FamiliarStore.
func (s *Store) IsFamiliar(ctx context.Context, who session.Identity, m auth.Mark, since time.Time) (bool, error) {
	n, err := s.queries.IsFamiliar(ctx, s.reader, db.IsFamiliarParams{
		DatacenterID: who.Datacenter, UserID: who.UserID, Kind: string(m.Kind), Mark: m.Hash[:], Since: since.UnixMilli(),
	})
	return n > 0, err
}

// NoteFamiliar implements auth.FamiliarStore.
func (s *Store) NoteFamiliar(ctx context.Context, who session.Identity, m auth.Mark, at time.Time) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		err := s.queries.NoteFamiliar(ctx, tx, db.NoteFamiliarParams{
			DatacenterID: who.Datacenter, UserID: who.UserID, Kind: string(m.Kind), Mark: m.Hash[:], SeenAt: at.UnixMilli(),
		})
		if err != nil {
			return err
		}
		err = s.queries.TrimFamiliarOfAccount(ctx, tx, db.TrimFamiliarOfAccountParams{
			DatacenterID: who.Datacenter, UserID: who.UserID, Kind: string(m.Kind), Kept: familiarOfAccount,
		})
		if err != nil {
			return err
		}
		return s.queries.TrimFamiliarOfDatacenter(ctx, tx, db.TrimFamiliarOfDatacenterParams{
			DatacenterID: who.Datacenter, Last: familiarOfDatacenter - 1,
		})
	})
}

// ReplaceMark implements auth.FamiliarStore.
func (s *Store) ReplaceMark(ctx context.Context, from, to auth.Mark) error {
	return s.queries.ReplaceMark(ctx, s.writer, db.ReplaceMarkParams{Renewed: to.Hash[:], Mark: from.Hash[:], Kind: string(from.Kind)})
}

// ForgetFamiliarBefore implements auth.FamiliarStore.
func (s *Store) ForgetFamiliarBefore(ctx context.Context, before time.Time) error {
	return s.queries.ForgetFamiliarBefore(ctx, s.writer, before.UnixMilli())
}
