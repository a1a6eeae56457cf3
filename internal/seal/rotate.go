package seal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// Store is where sealed secrets are kept, as a rotation sees it.
type Store interface {
	// Sealed visits all that is sealed and where. What is stored while it runs may or may not be visited.
	Sealed(ctx context.Context, visit func(at Place, sealed []byte) error) error
	// Reseal puts one ciphertext in the place of another. If the other is not there any more it does nothing, and that is
	// no error.
	Reseal(ctx context.Context, at Place, old, fresh []byte) error
}

// Key is one key of a key file, without the key itself.
type Key struct {
	ID string
	// InUse is set for the one key that secrets are sealed with. The others only open what was sealed before.
	InUse bool
}

func keyName(id uint32) string { return fmt.Sprintf("%08x", id) }

// Keys lists the keys of a key file, oldest first. More than one means that a rotation has not come to its end.
func Keys(path string) ([]Key, error) {
	ring, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	ids, err := ring.ids()
	if err != nil {
		return nil, err
	}
	var keys []Key
	for _, id := range ids {
		keys = append(keys, Key{ID: keyName(id), InUse: id == ring.primary})
	}
	return keys, nil
}

// ids are of the keys, oldest first: keys are only ever appended.
func (k *keyring) ids() ([]uint32, error) {
	ids := make([]uint32, k.keys.Len())
	for i := range ids {
		entry, err := k.keys.Entry(i)
		if err != nil {
			return nil, err
		}
		ids[i] = entry.KeyID()
	}
	return ids, nil
}

// Rotation is what a rotation did.
type Rotation struct {
	Key     string   // id of the key that is in use now
	Retired []string // ids of the keys that are gone
	// Resumed is set when the rotation was another one's, ended by Rotate.
	Resumed bool
	// Resealed counts what was sealed anew; Unreadable what no key opened in its place, which stays as it is.
	Resealed, Unreadable int
}

// maxPasses bounds how often a rotation goes through a store that is being written to. Two is usual: one that seals anew
// and one that finds nothing left.
const maxPasses = 20

// errStillInUse says that a process does not follow the key file.
var errStillInUse = errors.New("something goes on to seal with the old key; it was kept. End programs that run on another copy of the key file, and rotate again")

// Rotate replaces the key in a file by a new one, in the steps that the package's documentation names, or brings an
// earlier rotation to its end. It may be interrupted anywhere, and run again.
func Rotate(ctx context.Context, path string, store Store) (r Rotation, err error) {
	// A rename would replace a link by a file.
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return Rotation{}, err
	}
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return Rotation{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	ring, err := readKeyFile(path)
	if err != nil {
		return Rotation{}, err
	}
	if err := removeDrafts(path); err != nil {
		return r, fmt.Errorf("remove what an earlier rotation left: %w", err)
	}
	if r.Resumed = ring.keys.Len() > 1; !r.Resumed {
		if ring, err = ring.addKey(path); err != nil {
			return r, fmt.Errorf("add a key: %w", err)
		}
	}
	if ring, err = ring.useNewest(path); err != nil {
		return r, fmt.Errorf("use the new key: %w", err)
	}
	r.Key = keyName(ring.primary)
	if err := r.resealAll(ctx, ring, store); err != nil {
		return r, err
	}
	return r, r.retire(path, ring)
}

// addKey appends a key that nothing is sealed with yet.
func (k *keyring) addKey(path string) (*keyring, error) {
	m := keyset.NewManagerFromHandle(k.keys)
	if _, err := m.Add(aead.AES256GCMKeyTemplate()); err != nil {
		return nil, err
	}
	return k.replaceBy(path, m)
}

func (k *keyring) useNewest(path string) (*keyring, error) {
	ids, err := k.ids()
	if err != nil {
		return nil, err
	}
	newest := ids[len(ids)-1]
	if newest == k.primary {
		return k, nil
	}
	m := keyset.NewManagerFromHandle(k.keys)
	if err := m.SetPrimary(newest); err != nil {
		return nil, err
	}
	return k.replaceBy(path, m)
}

func (k *keyring) replaceBy(path string, m *keyset.Manager) (*keyring, error) {
	keys, err := m.Handle()
	if err != nil {
		return nil, err
	}
	return k.replace(path, keys)
}

// resealAll goes through the store until a pass finds nothing that an old key could open.
func (r *Rotation) resealAll(ctx context.Context, ring *keyring, store Store) error {
	for range maxPasses {
		found := 0
		r.Unreadable = 0
		err := store.Sealed(ctx, func(at Place, sealed []byte) error {
			if id, ok := keyOf(sealed); ok && id == ring.primary {
				return nil
			}
			secret, err := ring.open(sealed, at)
			if err != nil {
				r.Unreadable++
				return nil
			}
			fresh, err := ring.seal(secret, at)
			if err != nil {
				return err
			}
			found++
			return store.Reseal(ctx, at, sealed, fresh)
		})
		if err != nil {
			return fmt.Errorf("seal anew: %w", err)
		}
		if found == 0 {
			return nil
		}
		r.Resealed += found
	}
	return errStillInUse
}

// retire removes every key but the one in use.
func (r *Rotation) retire(path string, ring *keyring) error {
	ids, err := ring.ids()
	if err != nil {
		return err
	}
	m := keyset.NewManagerFromHandle(ring.keys)
	var retired []string
	for _, id := range ids {
		if id == ring.primary {
			continue
		}
		if err := m.Delete(id); err != nil {
			return fmt.Errorf("retire the old key: %w", err)
		}
		retired = append(retired, keyName(id))
	}
	if _, err := ring.replaceBy(path, m); err != nil {
		return fmt.Errorf("retire the old key: %w", err)
	}
	r.Retired = retired
	return nil
}
