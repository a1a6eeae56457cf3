package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"berth/internal/auth"
	"berth/internal/pve"
	"berth/internal/store/db"
)

// LoginHostAt implements auth.Store.
func (s *Store) LoginHostAt(ctx context.Context, at pve.Address) (auth.LoginHost, error) {
	row, err := s.queries.LoginHostAt(ctx, s.reader, db.LoginHostAtParams{Host: at.Host, Port: int64(at.Port)})
	return loginHost(row, err)
}

// LoginHost implements auth.Store.
func (s *Store) LoginHost(ctx context.Context, id string) (auth.LoginHost, error) {
	row, err := s.queries.LoginHost(ctx, s.reader, id)
	return loginHost(row, err)
}

// LoginHosts implements auth.Store.
func (s *Store) LoginHosts(ctx context.Context) ([]auth.LoginHost, error) {
	rows, err := s.queries.LoginHosts(ctx, s.reader)
	if err != nil {
		return nil, err
	}
	hosts := make([]auth.LoginHost, 0, len(rows))
	for _, row := range rows {
		h, err := loginHost(row, nil)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// Admit implements auth.Store.
func (s *Store) Admit(ctx context.Context, a auth.Admission) error {
	// Nobody comes between a question and what follows from it; see inTransaction.
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		if a.Host != nil {
			if err := s.mayBring(ctx, tx, a); err != nil {
				return err
			}
			if err := s.createHost(ctx, tx, *a.Host, a.Joins); err != nil {
				return err
			}
		}
		if a.Claims != "" {
			if err := s.claim(ctx, tx, a.Claims); err != nil {
				return err
			}
		}
		if a.Session == nil || a.SessionElsewhere {
			return nil
		}
		return s.createSession(ctx, tx, *a.Session)
	})
}

// mayBring refuses the new host of a visitor once somebody has the installation.
func (s *Store) mayBring(ctx context.Context, tx *sql.Tx, a auth.Admission) error {
	if a.Session == nil || a.Stranger || a.Claims != "" {
		return nil
	}
	row, err := s.queries.Claim(ctx, tx)
	switch {
	case err == nil && row.ClaimedBy.Valid:
		return auth.ErrClaimed
	case errors.Is(err, sql.ErrNoRows):
		return nil
	}
	return err
}

func (s *Store) createHost(ctx context.Context, tx *sql.Tx, h auth.LoginHost, joins bool) error {
	_, err := s.queries.LoginHostAt(ctx, tx, db.LoginHostAtParams{Host: h.Address.Host, Port: int64(h.Address.Port)})
	switch {
	case err == nil:
		return auth.ErrHostKnown
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	if !joins {
		err := s.queries.CreateDatacenter(ctx, tx, db.CreateDatacenterParams{ID: h.Datacenter, CreatedAt: h.Created.UnixMilli()})
		if err != nil {
			return err
		}
	}
	return s.queries.CreateLoginHost(ctx, tx, db.CreateLoginHostParams{
		ID: h.ID, DatacenterID: h.Datacenter, Host: h.Address.Host, Port: int64(h.Address.Port),
		KeyPin: pinBytes(h.Key), Fingerprint: h.Fingerprint[:], CreatedAt: h.Created.UnixMilli(),
	})
}

// RemoveHost implements auth.Store.
func (s *Store) RemoveHost(ctx context.Context, id string) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		host, err := loginHost(s.queries.LoginHost(ctx, tx, id))
		if err != nil {
			return err
		}
		all, err := s.queries.LoginHosts(ctx, tx)
		if err != nil {
			return err
		}
		claim, err := s.queries.Claim(ctx, tx)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		same := 0
		for _, other := range all {
			if other.DatacenterID == host.Datacenter {
				same++
			}
		}
		if len(all) == 1 || (same == 1 && claim.ClaimedBy.String == host.Datacenter) {
			return auth.ErrLastHost
		}
		if err := s.queries.EndSessionsAtHost(ctx, tx, id); err != nil {
			return err
		}
		_, err = s.queries.DeleteLoginHost(ctx, tx, id)
		return err
	})
}

// Claim implements auth.Store.
func (s *Store) Claim(ctx context.Context) (auth.Claim, error) {
	row, err := s.queries.Claim(ctx, s.reader)
	if errors.Is(err, sql.ErrNoRows) {
		return auth.Claim{}, nil
	}
	return auth.Claim{Datacenter: row.ClaimedBy.String, Code: row.ClaimCode}, err
}

// SetClaimCode implements auth.Store.
func (s *Store) SetClaimCode(ctx context.Context, sealed []byte) error {
	return s.queries.SetClaimCode(ctx, s.writer, sealed)
}

// ClaimInstallation implements auth.Store.
func (s *Store) ClaimInstallation(ctx context.Context, datacenter string) error {
	return s.claim(ctx, s.writer, datacenter)
}

func (s *Store) claim(ctx context.Context, on db.DBTX, datacenter string) error {
	n, err := s.queries.SetClaimed(ctx, on, sql.NullString{String: datacenter, Valid: true})
	if err == nil && n == 0 {
		return auth.ErrClaimed
	}
	return err
}

// PinHost implements auth.Store.
func (s *Store) PinHost(ctx context.Context, id string, key *pve.KeyPin, fingerprint pve.Fingerprint) error {
	n, err := s.queries.PinLoginHost(ctx, s.writer, db.PinLoginHostParams{KeyPin: pinBytes(key), Fingerprint: fingerprint[:], ID: id})
	if err == nil && n == 0 {
		return auth.ErrNoHost
	}
	return err
}

// NoteCertificate implements auth.Store.
func (s *Store) NoteCertificate(ctx context.Context, id string, key *pve.KeyPin, fingerprint pve.Fingerprint) error {
	return s.queries.NoteCertificate(ctx, s.writer, db.NoteCertificateParams{Fingerprint: fingerprint[:], ID: id, KeyPin: pinBytes(key)})
}

func pinBytes(key *pve.KeyPin) []byte {
	if key == nil {
		return nil
	}
	return key[:]
}

func loginHost(row db.LoginHost, err error) (auth.LoginHost, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return auth.LoginHost{}, auth.ErrNoHost
	}
	if err != nil {
		return auth.LoginHost{}, err
	}
	h := auth.LoginHost{
		ID: row.ID, Datacenter: row.DatacenterID, Address: pve.Address{Host: row.Host, Port: int(row.Port)},
		Created: fromMillis(row.CreatedAt),
	}
	if copy(h.Fingerprint[:], row.Fingerprint) != len(h.Fingerprint) {
		return auth.LoginHost{}, fmt.Errorf("login host %s has a fingerprint of %d bytes", row.ID, len(row.Fingerprint))
	}
	if row.KeyPin != nil {
		// A pin that can't be read must never become "no pin".
		var key pve.KeyPin
		if len(row.KeyPin) != len(key) {
			return auth.LoginHost{}, fmt.Errorf("login host %s has a pin of %d bytes", row.ID, len(row.KeyPin))
		}
		copy(key[:], row.KeyPin)
		h.Key = &key
	}
	return h, nil
}
