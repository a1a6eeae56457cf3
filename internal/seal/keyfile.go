package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// maxKeyFile bounds what is read as a key file; a keyset of some hundred keys is smaller.
const maxKeyFile = 1 << 20

// keyring is the content of a key file.
type keyring struct {
	file    os.FileInfo // of the file, as it was read
	keys    *keyset.Handle
	aead    tink.AEAD
	primary uint32
}

// readFrom tells whether a file is the one that the keyring was read from, unchanged.
func (k *keyring) readFrom(info os.FileInfo) bool {
	return os.SameFile(k.file, info) && k.file.ModTime().Equal(info.ModTime()) && k.file.Size() == info.Size()
}

func (k *keyring) seal(secret []byte, at Place) ([]byte, error) {
	sealed, err := k.aead.Encrypt(secret, at.associatedData())
	if err != nil {
		return nil, fmt.Errorf("seal %s.%s: %w", at.Table, at.Column, err)
	}
	return sealed, nil
}

func (k *keyring) open(sealed []byte, at Place) ([]byte, error) {
	secret, err := k.aead.Decrypt(sealed, at.associatedData())
	if id, ok := keyOf(sealed); err != nil && ok && !k.has(id) {
		return nil, fmt.Errorf("open %s.%s: it is sealed with key %s, which the key file does not hold", at.Table, at.Column, keyName(id))
	}
	if err != nil {
		return nil, fmt.Errorf("open %s.%s: %w", at.Table, at.Column, err)
	}
	return secret, nil
}

// has tells whether a key is among those of the file.
func (k *keyring) has(id uint32) bool {
	ids, err := k.ids()
	return err != nil || slices.Contains(ids, id)
}

// Missing tells whether an error of Load means that there is no key file.
func Missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func readKeyFile(path string) (*keyring, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// Asked of the open file, so that it is about the content that is read, whatever takes the path in the meantime.
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("key file %s is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s may be read by others (mode %04o): make it private with chmod 600", path, info.Mode().Perm())
	}
	if info.Size() > maxKeyFile {
		return nil, fmt.Errorf("key file %s is too large to be a key", path)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return nil, err
	}
	unusable := fmt.Errorf("key file %s holds no usable key", path)
	keys, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		return nil, unusable
	}
	primary, err := keys.Primary()
	if err != nil {
		return nil, unusable
	}
	primitive, err := aead.New(keys)
	if err != nil {
		return nil, unusable
	}
	return &keyring{file: info, keys: keys, aead: primitive, primary: primary.KeyID()}, nil
}

// createKeyFile makes a file with one new key. It appears whole or not at all.
func createKeyFile(path string) error {
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	draft, err := draftKeyFile(path, keys)
	if err != nil {
		return err
	}
	defer os.Remove(draft)
	// A link fails where a rename would replace the key that another process has just made.
	return os.Link(draft, path)
}

// replace puts other keys in the place of those that were read from a file: whole, or not at all.
func (k *keyring) replace(path string, keys *keyset.Handle) (*keyring, error) {
	draft, err := draftKeyFile(path, keys)
	if err != nil {
		return nil, err
	}
	defer os.Remove(draft)
	if err := keepOwner(draft, k.file); err != nil {
		return nil, err
	}
	if err := os.Rename(draft, path); err != nil {
		return nil, err
	}
	// What is sealed with the new keys must not outlive them.
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return readKeyFile(path)
}

func draftPrefix(path string) string { return "." + filepath.Base(path) + "-" }

// removeDrafts removes what a killed rotation has left: a draft can hold the key that is to be retired.
func removeDrafts(path string) error {
	folder := filepath.Dir(path)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), draftPrefix(path)) {
			if err := os.Remove(filepath.Join(folder, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// draftKeyFile writes keys to a file of another name beside the path, readable by its owner only.
func draftKeyFile(path string, keys *keyset.Handle) (string, error) {
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(keys, keyset.NewJSONWriter(&text)); err != nil {
		return "", fmt.Errorf("encode the keys: %w", err)
	}
	draft, err := os.CreateTemp(filepath.Dir(path), draftPrefix(path)+"*")
	if err != nil {
		return "", err
	}
	_, err = draft.Write(text.Bytes())
	if err == nil {
		err = draft.Sync()
	}
	if err = errors.Join(err, draft.Close()); err != nil {
		return "", errors.Join(err, os.Remove(draft.Name()))
	}
	return draft.Name(), nil
}
