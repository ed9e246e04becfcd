//go:build !unix

package probe

import "math"

// Room is how many probes there may be at once. There is no limit on open files here.
func Room() int { return math.MaxInt32 }
