package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"berth/internal/audit"
	"berth/internal/config"
	"berth/internal/fault"
	"berth/internal/seal"
	"berth/internal/store"
)

// keyCheck is the known text that a new installation seals, to tell its key from others later.
const keyCheck = "berth"

var keyCheckPlace = seal.Place{Table: "installation", Column: "key_check", Row: "1"}

// openSealer loads the key of an installation, or makes one for a new installation. A database whose key is missing or
// another one is refused and left as it is.
func openSealer(ctx context.Context, s *store.Store, settings config.Settings, now func() time.Time) (*seal.Sealer, error) {
	database := s.Place()
	check, err := s.KeyCheck(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot read the database %s: %w", database, reason(err))
	}
	sealer, err := seal.Load(settings.KeyFile)
	switch {
	case seal.Missing(err) && check == nil:
		if sealer, err = seal.Create(settings.KeyFile); err != nil {
			return nil, fmt.Errorf("cannot make the key file %s: %w", settings.KeyFile, reason(err))
		}
	case seal.Missing(err):
		return nil, fmt.Errorf("key file %s is missing, and the secrets in %s can only be opened with it: put it back, or move the database away to begin anew (nothing was changed)", settings.KeyFile, database)
	case err != nil:
		return nil, fmt.Errorf("cannot use the key: %w", err)
	}
	if check == nil {
		sealed, err := sealer.Seal([]byte(keyCheck), keyCheckPlace)
		if err != nil {
			return nil, err
		}
		if err := s.CreateInstallation(ctx, now(), sealed); err != nil {
			return nil, fmt.Errorf("cannot write to the database %s: %w", database, reason(err))
		}
		// Of several replicas that begin together one has made it, maybe with another key.
		if check, err = s.KeyCheck(ctx); err != nil {
			return nil, fmt.Errorf("cannot read the database %s: %w", database, reason(err))
		}
	}
	if err := checkKey(sealer, check, settings.KeyFile, database); err != nil {
		return nil, err
	}
	return sealer, nil
}

// checkKey refuses a key that is not the one of the installation.
func checkKey(sealer *seal.Sealer, check []byte, file, database string) error {
	if text, err := sealer.Open(check, keyCheckPlace); err != nil || string(text) != keyCheck {
		return fmt.Errorf("key file %s is not the one that %s was sealed with: put the right one back (nothing was changed)", file, database)
	}
	return nil
}

// keyFits tells whether the key opens what is sealed in the database: after a rotation that a copy of the key file was left out of it
// does not.
func keyFits(ctx context.Context, s *store.Store, sealer *seal.Sealer) error {
	var wrong error
	for range 2 { // a rotation may come to its end between the two
		check, err := s.KeyCheck(ctx)
		if err != nil {
			return err
		}
		if _, wrong = sealer.Open(check, keyCheckPlace); wrong == nil {
			return nil
		}
	}
	return &fault.Error{
		Kind: fault.Unavailable, Code: "key_outdated", Message: "The key file is not the one that the database is sealed with.", Cause: wrong,
	}
}

// Keys lists the keys of the installation, oldest first.
func (o *Operator) Keys() ([]seal.Key, error) {
	keys, err := seal.Keys(o.settings.KeyFile)
	if seal.Missing(err) {
		return nil, fmt.Errorf("key file %s is missing", o.settings.KeyFile)
	}
	return keys, err
}

// RotateKey replaces the key of the installation and seals all that is kept anew, or brings an earlier rotation to its
// end. Programs that serve the installation go on meanwhile.
func (o *Operator) RotateKey(ctx context.Context) (seal.Rotation, error) {
	// Keys of another installation must not be touched.
	check, err := o.store.KeyCheck(ctx)
	if err != nil {
		return seal.Rotation{}, fmt.Errorf("cannot read the database %s: %w", o.store.Place(), reason(err))
	}
	if check == nil {
		return seal.Rotation{}, fmt.Errorf("the installation in %s has no key yet: berth serve makes it", o.store.Place())
	}
	sealer, err := seal.Load(o.settings.KeyFile)
	if seal.Missing(err) {
		return seal.Rotation{}, fmt.Errorf("key file %s is missing", o.settings.KeyFile)
	}
	if err != nil {
		return seal.Rotation{}, fmt.Errorf("cannot use the key: %w", err)
	}
	if err := checkKey(sealer, check, o.settings.KeyFile, o.store.Place()); err != nil {
		return seal.Rotation{}, err
	}

	r, err := seal.Rotate(ctx, o.settings.KeyFile, o.shared.vault)
	entry := audit.Entry{Action: audit.KeyRotate, Target: r.Key, Detail: fmt.Sprintf("%d sealed anew", r.Resealed)}
	if err != nil {
		entry.Result = audit.Failed
	}
	// What was done is told even if the operator has interrupted it.
	after := context.WithoutCancel(ctx)
	o.trail.Record(after, entry)
	for _, id := range r.Retired {
		o.trail.Record(after, audit.Entry{Action: audit.KeyRetire, Target: id})
	}
	if err != nil {
		return r, fmt.Errorf("the key in %s was not rotated to the end; everything works, and the next rotation goes on from here: %w", o.settings.KeyFile, err)
	}
	if err := o.store.Checkpoint(after); err != nil {
		slog.WarnContext(ctx, "the database's log still holds what was sealed with the old key", "cause", err)
	}
	return r, nil
}
