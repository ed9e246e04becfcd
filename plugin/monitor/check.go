package monitor

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// Check is one question asked of one target over and over, and what has come of it.
type Check struct {
	// These never change.
	question *question
	target   netip.AddrPort
	settings *Settings
	place    uint32 // on the grid, as a fraction of 2^32

	// The rest is guarded by Monitor.mu.
	sibling  *Check    // the same question of the same target with other settings
	watchers []Watcher // one for each Acquire
	history
	back     bool          // see State
	underWay bool          // a probe is out
	stuck    bool          // a probe is out that has been given up
	index    int           // in the queue
	since    time.Duration // see State; counts from Monitor.epoch, as do those below
	started  time.Duration // the latest probe
	due      time.Duration // the next probe, or the end of patience with the one under way
	err      error         // the latest failure
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
// TTLs that count on Interval hold. The grids of all targets lie evenly over Interval, and stay so
// however often their targets have been in doubt.
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
	return phase + line + rand.N(jitter) // #nosec G404 -- any spread will do
}

// queue is a heap of checks by the time they are due (container/heap).
type queue []*Check

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due < q[j].due }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push appends x, as heap.Push wants it.
func (q *queue) Push(x any) {
	c := x.(*Check)
	c.index = len(*q)
	*q = append(*q, c)
}

// Pop takes the last check off, as heap.Pop wants it.
func (q *queue) Pop() any {
	last := len(*q) - 1
	c := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return c
}
