package seal

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
)

// Place is where a ciphertext belongs. A secret sealed for one place opens in no other.
type Place struct {
	Table, Column, Row string
}

func (p Place) associatedData() []byte {
	// Lengths keep ("a", "bc") and ("ab", "c") apart.
	return fmt.Appendf(nil, "berth|%d:%s|%d:%s|%d:%s", len(p.Table), p.Table, len(p.Column), p.Column, len(p.Row), p.Row)
}

// Sealer seals and opens secrets with the keys in a file, and follows what a rotation does to that file. It is safe for
// concurrent use.
type Sealer struct {
	path string
	ring atomic.Pointer[keyring]
}

// Create makes a new key in a file that must not exist yet, readable by its owner only.
func Create(path string) (*Sealer, error) {
	if err := createKeyFile(path); err != nil {
		return nil, err
	}
	return Load(path)
}

// Load reads the key file. The error wraps fs.ErrNotExist when there is none, and never quotes the file's content.
func Load(path string) (*Sealer, error) {
	ring, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	s := &Sealer{path: path}
	s.ring.Store(ring)
	return s, nil
}

// current is what the key file holds now. Should the file be out of reach or unusable for a moment, what was read before
// goes on to be used: no session should suffer from that.
func (s *Sealer) current() *keyring {
	known := s.ring.Load()
	info, err := os.Stat(s.path)
	if err != nil || known.readFrom(info) {
		return known
	}
	fresh, err := readKeyFile(s.path)
	if err != nil {
		return known
	}
	s.ring.Store(fresh)
	return fresh
}

// Seal encrypts a secret for one place, with the key that is in use at this moment. What is sealed to be kept should go
// through Keep.
func (s *Sealer) Seal(secret []byte, at Place) ([]byte, error) { return s.current().seal(secret, at) }

// Keep seals a secret for one place and hands it to write, which stores it. Should the key be replaced between the two,
// a rotation may have passed the place already, and retired the key: Keep then calls write once more, with the secret
// sealed anew. A later call of write must replace what an earlier one has stored.
func (s *Sealer) Keep(secret []byte, at Place, write func(sealed []byte) error) error {
	for {
		sealed, err := s.Seal(secret, at)
		if err != nil {
			return err
		}
		if err := write(sealed); err != nil {
			return err
		}
		if id, _ := keyOf(sealed); id == s.current().primary {
			return nil
		}
	}
}

// Open decrypts what was sealed for the same place with a key that the file holds.
func (s *Sealer) Open(sealed []byte, at Place) ([]byte, error) {
	ring := s.ring.Load()
	secret, err := ring.open(sealed, at)
	if err == nil {
		return secret, nil
	}
	if fresh := s.current(); fresh != ring {
		return fresh.open(sealed, at)
	}
	return nil, err
}

// keyOf is the id of the key that something was sealed with: Tink writes a byte 1 and the id before the ciphertext
// (cryptofmt.OutputPrefix). It tells false for what no key of Berth's has sealed.
func keyOf(sealed []byte) (uint32, bool) {
	if len(sealed) < 5 || sealed[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(sealed[1:5]), true
}
