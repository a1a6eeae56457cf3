//go:build unix

package store

import (
	"os"
	"syscall"
)

// lockFolder waits until no other process changes the schema of the database in a folder. The lock ends with the process. The
// database file itself must not be opened for it: closing it would let go of SQLite's own locks.
func lockFolder(folder string) (unlock func() error, err error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f.Close, nil
}
