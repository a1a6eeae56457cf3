package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// shelf is a Store in memory that can fail.
type shelf struct {
	mu   sync.Mutex
	kept map[Place][]byte
	// calls counts; before the call with the number fail nothing more works.
	calls, fail int
	// between runs before each Reseal.
	between func(at Place)
}

var errPower = errors.New("the power went")

func (s *shelf) call() error {
	s.calls++
	if s.fail > 0 && s.calls >= s.fail {
		return errPower
	}
	return nil
}

func (s *shelf) Sealed(_ context.Context, visit func(Place, []byte) error) error {
	s.mu.Lock()
	snapshot := maps.Clone(s.kept)
	err := s.call()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	for at, sealed := range snapshot {
		if err := visit(at, sealed); err != nil {
			return err
		}
	}
	return nil
}

func (s *shelf) Reseal(_ context.Context, at Place, old, fresh []byte) error {
	if s.between != nil {
		s.between(at)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call(); err != nil {
		return err
	}
	if bytes.Equal(s.kept[at], old) {
		s.kept[at] = fresh
	}
	return nil
}

func (s *shelf) put(at Place, sealed []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[at] = sealed
}

func row(i int) Place { return Place{Table: "t", Column: "c", Row: fmt.Sprint(i)} }

const secrets = 5

// installation is a key file and a store with secrets in it.
func installation(t *testing.T) (path string, sealer *Sealer, s *shelf) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "berth.key")
	sealer, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	s = &shelf{kept: map[Place][]byte{}}
	for i := range secrets {
		sealed, err := sealer.Seal(fmt.Append(nil, "secret ", i), row(i))
		if err != nil {
			t.Fatal(err)
		}
		s.kept[row(i)] = sealed
	}
	return path, sealer, s
}

// wantAll opens all secrets.
func (s *shelf) wantAll(t *testing.T, sealer *Sealer) {
	t.Helper()
	for i := range secrets {
		if secret, err := sealer.Open(s.kept[row(i)], row(i)); err != nil || string(secret) != fmt.Sprint("secret ", i) {
			t.Errorf("secret %d: %q, %v", i, secret, err)
		}
	}
}

func wantOneKey(t *testing.T, path string, not ...string) string {
	t.Helper()
	keys, err := Keys(path)
	if err != nil || len(keys) != 1 || !keys[0].InUse {
		t.Fatalf("keys %+v, %v, want one, in use", keys, err)
	}
	for _, id := range not {
		if keys[0].ID == id {
			t.Errorf("the key is still %s", id)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v, want mode 0600", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*.key-*")); len(left) != 0 {
		t.Errorf("drafts left behind: %v", left)
	}
	return keys[0].ID
}

func TestRotate(t *testing.T) {
	path, running, s := installation(t)
	first := wantOneKey(t, path)
	old := maps.Clone(s.kept)
	copied := filepath.Join(t.TempDir(), "copy.key")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, text, 0o600); err != nil {
		t.Fatal(err)
	}
	// A rotation that was killed can leave a draft with the old key in it.
	if _, err := draftKeyFile(path, running.current().keys); err != nil {
		t.Fatal(err)
	}
	r, err := Rotate(t.Context(), path, s)
	if err != nil {
		t.Fatal(err)
	}
	now := wantOneKey(t, path, first)
	if r.Key != now || len(r.Retired) != 1 || r.Retired[0] != first || r.Resealed != secrets || r.Unreadable != 0 || r.Resumed {
		t.Errorf("%+v", r)
	}
	s.wantAll(t, running) // a sealer that was there before follows
	fresh, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s.wantAll(t, fresh)
	before, err := Load(copied)
	if err != nil {
		t.Fatal(err)
	}
	for at, sealed := range s.kept {
		if _, err := before.Open(sealed, at); err == nil {
			t.Errorf("%v opens with the retired key", at)
		}
		if _, err := fresh.Open(old[at], at); err == nil {
			t.Errorf("what %v was before opens with the new key", at)
		}
	}
	if again, err := Rotate(t.Context(), path, s); err != nil || again.Resumed || again.Key == now {
		t.Errorf("a second rotation: %+v, %v", again, err)
	}
	wantOneKey(t, path, first, now)
	s.wantAll(t, running)
}

// Wherever a rotation ends, everything opens, and the next run brings it to its end with the same key.
func TestRotateIsResumable(t *testing.T) {
	for fail := 1; ; fail++ {
		path, running, s := installation(t)
		first := wantOneKey(t, path)
		s.fail = fail
		_, err := Rotate(t.Context(), path, s)
		if err == nil {
			if fail < secrets {
				t.Fatalf("only %d calls could fail", fail)
			}
			break
		}
		if !errors.Is(err, errPower) {
			t.Fatal(err)
		}
		s.fail = 0
		s.wantAll(t, running)
		half, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		s.wantAll(t, half)
		keys, err := Keys(path)
		if err != nil || len(keys) != 2 || keys[0].ID != first {
			t.Fatalf("ended at call %d: keys %+v, %v", fail, keys, err)
		}
		r, err := Rotate(t.Context(), path, s)
		if err != nil || !r.Resumed || r.Key != keys[1].ID {
			t.Errorf("ended at call %d, then %+v, %v, want the new key %s", fail, r, err, keys[1].ID)
		}
		wantOneKey(t, path, first)
		s.wantAll(t, running)
	}
}

// A rotation can end before the new key is used, and just before the old one is retired.
func TestRotateResumesFromEachStateOfTheFile(t *testing.T) {
	for name, prepare := range map[string]func(path string, k *keyring) (*keyring, error){
		"added": func(path string, k *keyring) (*keyring, error) { return k.addKey(path) },
		"in use": func(path string, k *keyring) (*keyring, error) {
			k, err := k.addKey(path)
			if err != nil {
				return nil, err
			}
			return k.useNewest(path)
		},
	} {
		path, running, s := installation(t)
		first := wantOneKey(t, path)
		ring, err := prepare(path, running.current())
		if err != nil {
			t.Fatal(err)
		}
		if inUse := keyName(ring.primary) != first; inUse != (name == "in use") {
			t.Errorf("%s: secrets are sealed with the new key: %v", name, inUse)
		}
		sealed, err := running.Seal([]byte("x"), row(0))
		if id, ok := keyOf(sealed); err != nil || !ok || id != ring.primary {
			t.Errorf("%s: a sealer that was there before seals with %08x, %v, want %08x", name, id, err, ring.primary)
		}
		s.wantAll(t, running)
		if r, err := Rotate(t.Context(), path, s); err != nil || !r.Resumed {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		wantOneKey(t, path, first)
		s.wantAll(t, running)
	}
}

// What changes under a rotation is not overwritten with what was there before.
func TestRotateKeepsWhatIsWrittenMeanwhile(t *testing.T) {
	path, running, s := installation(t)
	renewed := false
	s.between = func(at Place) {
		if at != row(2) || renewed {
			return
		}
		renewed = true
		if err := running.Keep([]byte("renewed"), at, func(sealed []byte) error { s.put(at, sealed); return nil }); err != nil {
			t.Error(err)
		}
	}
	if _, err := Rotate(t.Context(), path, s); err != nil || !renewed {
		t.Fatal(renewed, err)
	}
	if secret, err := running.Open(s.kept[row(2)], row(2)); err != nil || string(secret) != "renewed" {
		t.Errorf("%q, %v, want what was written while the rotation ran", secret, err)
	}
}

// A secret that is on its way to the store while a whole rotation passes is stored again.
func TestKeepOutlivesARotation(t *testing.T) {
	path, running, s := installation(t)
	place := row(secrets)
	writes := 0
	err := running.Keep([]byte("late"), place, func(sealed []byte) error {
		if writes++; writes == 1 {
			if _, err := Rotate(t.Context(), path, s); err != nil {
				t.Fatal(err)
			}
		}
		s.put(place, sealed)
		return nil
	})
	if err != nil || writes != 2 {
		t.Fatalf("%d writes, %v, want 2", writes, err)
	}
	fresh, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := fresh.Open(s.kept[place], place); err != nil || string(secret) != "late" {
		t.Errorf("%q, %v", secret, err)
	}
	if err := running.Keep(nil, place, func([]byte) error { return errPower }); !errors.Is(err, errPower) {
		t.Errorf("a failed write: %v", err)
	}
}

// A process that goes on sealing with the old key keeps the rotation from retiring it.
func TestRotateKeepsAKeyThatIsStillUsed(t *testing.T) {
	path, _, s := installation(t)
	stuck, err := readKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.between = func(Place) {
		sealed, err := stuck.seal([]byte("secret 0"), row(0))
		if err != nil {
			t.Error(err)
		}
		s.put(row(0), sealed)
	}
	if _, err := Rotate(t.Context(), path, s); !errors.Is(err, errStillInUse) {
		t.Errorf("%v, want that the old key is still in use", err)
	}
	if keys, err := Keys(path); err != nil || len(keys) != 2 {
		t.Errorf("keys %+v, %v, want both", keys, err)
	}
	s.between = nil
	if _, err := Rotate(t.Context(), path, s); err != nil {
		t.Error(err)
	}
	wantOneKey(t, path)
}

// What does not open in its place stays as it is, fails closed, and does not stop the rest.
func TestRotateLeavesWhatDoesNotOpen(t *testing.T) {
	path, running, s := installation(t)
	s.kept[row(0)], s.kept[row(1)] = s.kept[row(1)], s.kept[row(0)]
	s.kept[row(2)] = []byte("never sealed")
	swapped := [][]byte{s.kept[row(0)], s.kept[row(1)], s.kept[row(2)]}
	r, err := Rotate(t.Context(), path, s)
	if err != nil || r.Unreadable != 3 || r.Resealed != secrets-3 {
		t.Errorf("%+v, %v", r, err)
	}
	for i, was := range swapped {
		if !bytes.Equal(s.kept[row(i)], was) {
			t.Errorf("row %d was changed", i)
		}
		if _, err := running.Open(s.kept[row(i)], row(i)); err == nil {
			t.Errorf("row %d opens", i)
		}
	}
}

func TestRotateRefuses(t *testing.T) {
	path, running, s := installation(t)
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Rotate(t.Context(), path, s); err == nil || !strings.Contains(err.Error(), "another rotation") {
		t.Errorf("while another runs: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err := Rotate(t.Context(), filepath.Join(t.TempDir(), "none"), s); !Missing(err) {
		t.Errorf("without a file: %v", err)
	}
	if s.calls != 0 {
		t.Errorf("the store was asked %d times", s.calls)
	}
	s.wantAll(t, running)
}

// The file may be a link into another folder; the link stays.
func TestRotateThroughALink(t *testing.T) {
	path, running, s := installation(t)
	link := filepath.Join(t.TempDir(), "linked.key")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Rotate(t.Context(), link, s); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	s.wantAll(t, running)
}

// A file that is out of reach or spoiled for a moment does not disturb a running process.
func TestSealerOutlivesALostFile(t *testing.T) {
	path, running, s := installation(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"removed": func() error { return os.Remove(path) },
		"spoiled": func() error { return os.WriteFile(path, []byte("{"), 0o600) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		sealed, err := running.Seal([]byte("x"), row(9))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := running.Open(sealed, row(9)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s.wantAll(t, running)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Sealing and opening go on from many places while keys are rotated.
func TestRotateUnderUse(t *testing.T) {
	path, running, s := installation(t)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		place := row(100 + i)
		wg.Go(func() {
			for n := 0; ; n++ {
				text := fmt.Sprint(i, n)
				if err := running.Keep([]byte(text), place, func(sealed []byte) error { s.put(place, sealed); return nil }); err != nil {
					t.Error(err)
				}
				s.mu.Lock()
				sealed := s.kept[place]
				s.mu.Unlock()
				secret, err := running.Open(sealed, place)
				if err != nil {
					// It was sealed anew after it was read here, as a process finds that holds it in memory.
					s.mu.Lock()
					sealed = s.kept[place]
					s.mu.Unlock()
					secret, err = running.Open(sealed, place)
				}
				if err != nil || string(secret) != text {
					t.Errorf("%q, %v, want %q", secret, err, text)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for range 10 {
		if _, err := Rotate(t.Context(), path, s); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
	wantOneKey(t, path)
	s.wantAll(t, running)
}

func FuzzOpen(f *testing.F) {
	sealer, err := Create(filepath.Join(f.TempDir(), "berth.key"))
	if err != nil {
		f.Fatal(err)
	}
	good, err := sealer.Seal([]byte("secret"), row(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0})
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, sealed []byte) {
		secret, err := sealer.Open(sealed, row(1))
		if (err == nil) != bytes.Equal(sealed, good) {
			t.Errorf("%x opens as %q, %v", sealed, secret, err)
		}
	})
}
