package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"berth/internal/session"
	"berth/internal/store/db"
	"berth/internal/token"
)

var _ token.Store = (*Store)(nil)

// CreateToken implements token.Store.
func (s *Store) CreateToken(ctx context.Context, r token.Record, most int) error {
	// Nobody comes between the questions and what follows from them; see inTransaction.
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		rows, err := s.queries.AccessTokens(ctx, tx, db.AccessTokensParams{DatacenterID: r.Identity.Datacenter, UserID: r.Identity.UserID})
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.Name == r.Name {
				return token.ErrNameTaken
			}
		}
		if len(rows) >= most {
			return token.ErrTooMany
		}
		return s.queries.CreateAccessToken(ctx, tx, db.CreateAccessTokenParams{
			ID: r.ID, Hash: r.Hash[:], DatacenterID: r.Identity.Datacenter, UserID: r.Identity.UserID, Name: r.Name,
			Scope: string(r.Scope), CreatedAt: r.Created.UnixMilli(), ExpiresAt: r.Expires.UnixMilli(), LastUsedAt: moment(r.LastUsed),
		})
	})
}

// FindToken implements token.Store.
func (s *Store) FindToken(ctx context.Context, h token.Hash) (token.Token, error) {
	return accessToken(s.queries.FindAccessToken(ctx, s.reader, h[:]))
}

// Tokens implements token.Store.
func (s *Store) Tokens(ctx context.Context, of session.Identity) ([]token.Token, error) {
	rows, err := s.queries.AccessTokens(ctx, s.reader, db.AccessTokensParams{DatacenterID: of.Datacenter, UserID: of.UserID})
	if err != nil {
		return nil, err
	}
	tokens := make([]token.Token, 0, len(rows))
	for _, row := range rows {
		t, err := accessToken(row, nil)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
	}
	return tokens, nil
}

// RevokeToken implements token.Store.
func (s *Store) RevokeToken(ctx context.Context, of session.Identity, id string) (token.Token, error) {
	var revoked token.Token
	err := s.inTransaction(ctx, func(tx *sql.Tx) (err error) {
		revoked, err = accessToken(s.queries.RevokeAccessToken(ctx, tx, db.RevokeAccessTokenParams{
			ID: id, DatacenterID: of.Datacenter, UserID: of.UserID,
		}))
		return err
	})
	return revoked, err
}

// TouchTokens implements token.Store.
func (s *Store) TouchTokens(ctx context.Context, used map[string]time.Time) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		for id, at := range used {
			if err := s.queries.TouchAccessToken(ctx, tx, db.TouchAccessTokenParams{Used: at.UnixMilli(), ID: id}); err != nil {
				return err
			}
		}
		return nil
	})
}

// RemoveTokensExpired implements token.Store.
func (s *Store) RemoveTokensExpired(ctx context.Context, before time.Time) (int64, error) {
	return s.queries.RemoveAccessTokensExpired(ctx, s.writer, before.UnixMilli())
}

func accessToken(row db.AccessToken, err error) (token.Token, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return token.Token{}, token.ErrNone
	}
	return token.Token{
		ID: row.ID, Identity: session.Identity{Datacenter: row.DatacenterID, UserID: row.UserID}, Name: row.Name,
		Scope: session.Scope(row.Scope), Created: fromMillis(row.CreatedAt), Expires: fromMillis(row.ExpiresAt),
		LastUsed: fromMoment(row.LastUsedAt),
	}, err
}

// moment is a time as it is stored where there may be none: 0 for the zero value.
func moment(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMoment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return fromMillis(ms)
}
