package app

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// fileIdentity is what a copy of a file does not share with it, and no program can give to another file: its inode, and when
// that was made, where the file system knows. It stays the same when the file is renamed, moved within the file system, or
// given another owner or mode, and over restarts of the machine, unlike the number of the device. It is empty when nothing
// can be known.
func fileIdentity(file *os.File) string {
	var s unix.Statx_t
	if unix.Statx(int(file.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &s) != nil || s.Mask&unix.STATX_INO == 0 {
		return ""
	}
	id := strconv.FormatUint(s.Ino, 10)
	if s.Mask&unix.STATX_BTIME != 0 {
		id += "@" + strconv.FormatInt(s.Btime.Sec, 10) + "." + strconv.FormatUint(uint64(s.Btime.Nsec), 10)
	}
	return id
}
