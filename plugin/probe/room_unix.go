//go:build unix

package probe

import (
	"math"
	"syscall"
)

// Room is how many probes there may be at once, if each has a file open: three quarters of those that the
// process may have. The rest is for queries, and for what is open already.
func Room() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt32
	}
	return int(min(limit.Cur, math.MaxInt32) / 4 * 3) // #nosec G115 -- it has been made small enough
}
