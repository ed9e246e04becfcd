package monitor

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// Check is one question asked of one target over and over, and what has come of it. There may be a hundred
// thousand of them.
type Check struct {
	// These never change.
	question *question
	target   netip.AddrPort
	settings *Settings
	place    uint32 // on the grid, as a fraction of 2^32

	// The rest is guarded by Monitor.mu.
	index   int32     // in the queue
	sibling *Check    // see Monitor.checks
	watcher Watcher   // nil: it has been released
	others  []Watcher // one for each further Acquire
	history
	phase   phase
	back    bool          // see State
	late    uint32        // microseconds by which the latest probe began after its time
	started time.Duration // the latest probe, as since counted from Monitor.epoch
	since   time.Duration // see State
	err     error         // the latest failure
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

func (c *Check) watch(w Watcher) { c.others = append(c.others, w) }

// unwatch takes a watcher off, and says whether it was there. Their order means nothing, and there may be
// very many.
func (c *Check) unwatch(w Watcher) bool {
	last := len(c.others) - 1
	i := slices.Index(c.others, w)
	switch {
	case i >= 0:
		c.others[i] = c.others[last]
	case c.watcher != w:
		return false
	case last < 0:
		c.watcher = nil
		return true
	default:
		c.watcher = c.others[last]
	}
	if c.others[last] = nil; last == 0 {
		c.others = nil
		return true
	}
	c.others = c.others[:last]
	return true
}

// watchers are all of them.
func (c *Check) watchers() []Watcher {
	return append([]Watcher{c.watcher}, c.others...)
}

func (c *Check) state(epoch time.Time) State {
	s := State{Status: c.status, Back: c.back, Err: c.err, Soonest: c.soonest(c.settings)}
	if c.status != Unknown {
		s.Since = epoch.Add(c.since)
	}
	return s
}

// inherit takes over what is known of the same target under other settings.
func (c *Check) inherit(known *Check) {
	c.status, c.back, c.since, c.err = known.status, known.back, known.since, known.err
}

// next is when to ask again after a probe that began at started.
//
// A target in doubt is asked after Recheck. One that is not in doubt returns to its grid: a lattice
// whose width and jitter together make Interval the longest distance between two probes, so that the
// TTLs that count on Interval hold, with the beat by which a batch may begin later. The grids of all
// targets lie evenly over Interval, and stay so however often their targets have been in doubt.
func (c *Check) next(started time.Duration) time.Duration {
	if !c.settled() {
		return started + c.settings.Recheck
	}
	jitter := c.settings.Interval / 50 // so that replicas and cron jobs fall out of step
	width := c.settings.Interval - jitter
	phase := time.Duration(float64(width) * float64(c.place) / (1 << 32))
	line := (started - phase).Truncate(width) + width
	if started < phase {
		line = 0
	}
	return phase + line + rand.N(max(jitter-beat, jitter/2)) // #nosec G404 -- any spread will do
}
