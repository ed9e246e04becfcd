package monitor

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
)

// Check is one question asked of one target over and over, and what has come of it. There may be a hundred
// thousand of them: each field more is a size class more, or a name server of so many members grows by megabytes.
type Check struct {
	// The first three never change. The rest is guarded by Monitor.mu.
	*question
	to    packed
	place uint16 // on the grid, as a fraction of 2^16

	phase   phase
	back    bool   // see State
	index   int32  // in the queue
	late    uint32 // microseconds by which the latest probe began after its time
	sibling *Check // see table
	watcher any    // a Watcher, or the *[]Watcher of more than one; nil: it has been released
	health.History
	started time.Duration // the latest probe, as since counted from Monitor.epoch
	since   time.Duration // see State
	err     error         // the latest failure
}

// packed is a [netip.AddrPort] without a zone in 20 bytes instead of 32.
type packed struct {
	addr [16]byte
	port uint16
	bits uint8 // of the address: 0, 32 or 128
}

func pack(target netip.AddrPort) packed {
	addr := target.Addr()
	return packed{addr.As16(), target.Port(), uint8(addr.BitLen())} // #nosec G115 -- 128 at most
}

// target is what is asked.
func (c *Check) target() netip.AddrPort {
	addr := netip.AddrFrom16(c.to.addr)
	switch c.to.bits {
	case 0:
		addr = netip.Addr{}
	case 32:
		addr = addr.Unmap()
	}
	return netip.AddrPortFrom(addr, c.to.port)
}

// phase is what a check is doing.
type phase uint8

const (
	resting    phase = iota // until it is due
	connecting              // by the dialer
	waiting                 // for a goroutine, with a connection
	asking                  // in a goroutine
	stuck                   // in a goroutine that has been given up
)

// underWay says whether a probe is out that is waited for.
func (c *Check) underWay() bool { return c.phase != resting && c.phase != stuck }

func (c *Check) watch(w Watcher) {
	switch known := c.watcher.(type) {
	case *[]Watcher:
		*known = append(*known, w)
	case Watcher:
		c.watcher = &[]Watcher{known, w}
	}
}

// unwatch takes a watcher off, and says whether it was there. Their order means nothing, and there may be
// very many.
func (c *Check) unwatch(w Watcher) bool {
	several, ok := c.watcher.(*[]Watcher)
	if !ok {
		if c.watcher != any(w) {
			return false
		}
		c.watcher = nil
		return true
	}
	i, last := slices.Index(*several, w), len(*several)-1
	if i < 0 {
		return false
	}
	(*several)[i], (*several)[last] = (*several)[last], nil
	if *several = (*several)[:last]; last == 1 {
		c.watcher = (*several)[0]
	}
	return true
}

// watchers are all of them.
func (c *Check) watchers() []Watcher {
	switch known := c.watcher.(type) {
	case *[]Watcher:
		return slices.Clone(*known)
	case Watcher:
		return []Watcher{known}
	}
	return nil
}

func (c *Check) state(epoch time.Time) health.State {
	s := health.State{Status: c.Status, Recovered: c.back, Err: c.err, EarliestChange: c.EarliestChange(c.settings)}
	if c.Status != health.Unknown {
		s.Since = epoch.Add(c.since)
	}
	return s
}

// inherit takes over what is known of the same target under other settings.
func (c *Check) inherit(known *Check) {
	c.Status, c.back, c.since, c.err = known.Status, known.back, known.since, known.err
}

// next is when to ask again after a probe that began at started.
//
// A target in doubt is asked after Recheck. One that is not in doubt returns to its grid: a lattice
// whose width and jitter together make Interval the longest distance between two probes, so that the
// TTLs that count on Interval hold, with the beat by which a batch may begin later. The grids of all
// targets lie evenly over Interval, and stay so however often their targets have been in doubt.
func (c *Check) next(started time.Duration) time.Duration {
	if !c.IsSettled() {
		return started + c.settings.Recheck
	}
	jitter := c.settings.Interval / 50 // so that replicas and cron jobs fall out of step
	width := c.settings.Interval - jitter
	phase := time.Duration(float64(width) * float64(c.place) / (1 << 16))
	line := (started - phase).Truncate(width) + width
	if started < phase {
		line = 0
	}
	return phase + line + rand.N(max(jitter-beat, jitter/2)) // #nosec G404 -- any spread will do
}
