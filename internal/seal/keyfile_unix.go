//go:build unix

package seal

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFolder makes sure that one rotation at a time works on the key files of a folder. The lock ends with the process.
func lockFolder(folder string) (unlock func() error, err error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("another rotation of the keys in %s is running", folder)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// keepOwner gives a draft to the owner of the file that it replaces, so that a rotation by root does not take the key
// away from the user that Berth runs as.
func keepOwner(draft string, replaced os.FileInfo) error {
	owner, ok := replaced.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	mine, err := os.Stat(draft)
	if err != nil {
		return err
	}
	if m, ok := mine.Sys().(*syscall.Stat_t); ok && m.Uid == owner.Uid && m.Gid == owner.Gid {
		return nil
	}
	return os.Chown(draft, int(owner.Uid), int(owner.Gid))
}

func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
