package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"

	"berth/internal/seal"
	"berth/internal/store/db"
)

var _ seal.Store = (*Store)(nil)

// sealedBatch is how many rows Sealed reads at a time.
const sealedBatch = 200

// Sealed implements seal.Store. Nothing is being read while visit runs, so that visit may write.
func (s *Store) Sealed(ctx context.Context, visit func(at seal.Place, sealed []byte) error) error {
	installation, err := s.queries.SealedOfInstallation(ctx, s.reader)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	for column, sealed := range map[string][]byte{"key_check": installation.KeyCheck, "claim_code": installation.ClaimCode} {
		if sealed == nil {
			continue
		}
		if err := visit(seal.Place{Table: "installation", Column: column, Row: "1"}, sealed); err != nil {
			return err
		}
	}
	last := []byte{}
	for {
		rows, err := s.queries.SealedSessions(ctx, s.reader, db.SealedSessionsParams{Behind: last, Most: sealedBatch})
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return s.sealedNodes(ctx, visit)
		}
		for _, row := range rows {
			if err := visit(seal.Place{Table: "session", Column: "secret", Row: hex.EncodeToString(row.Hash)}, row.Secret); err != nil {
				return err
			}
			last = row.Hash
		}
	}
}

func (s *Store) sealedNodes(ctx context.Context, visit func(at seal.Place, sealed []byte) error) error {
	last := ""
	for {
		rows, err := s.queries.SealedNodes(ctx, s.reader, db.SealedNodesParams{Behind: last, Most: sealedBatch})
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			if err := visit(seal.Place{Table: "node", Column: "secret", Row: row.ID}, row.Secret); err != nil {
				return err
			}
			last = row.ID
		}
	}
}

// Reseal implements seal.Store.
func (s *Store) Reseal(ctx context.Context, at seal.Place, old, fresh []byte) error {
	switch at.Table + "." + at.Column {
	case "installation.key_check":
		return s.queries.ResealKeyCheck(ctx, s.writer, db.ResealKeyCheckParams{Old: old, Fresh: fresh})
	case "installation.claim_code":
		return s.queries.ResealClaimCode(ctx, s.writer, db.ResealClaimCodeParams{Old: old, Fresh: fresh})
	case "session.secret":
		hash, err := hex.DecodeString(at.Row)
		if err != nil {
			return fmt.Errorf("row of a session: %w", err)
		}
		return s.queries.ResealSession(ctx, s.writer, db.ResealSessionParams{Hash: hash, Old: old, Fresh: fresh})
	case "node.secret":
		return s.queries.ResealNode(ctx, s.writer, db.ResealNodeParams{ID: at.Row, Old: old, Fresh: fresh})
	}
	return fmt.Errorf("nothing is sealed in %s.%s", at.Table, at.Column)
}
