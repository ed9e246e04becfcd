package monitor

import (
	"math"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/probe"
)

// trailLength is how many results of a check are kept for people to look at: five minutes at the usual interval.
const trailLength = 60

// trail is the latest results of a check.
type trail struct {
	ended  time.Duration // the latest probe, as counted from Monitor.epoch
	passed bool          // it did
	count  int           // of all results there have been
	took   [trailLength]int32
}

// add takes a result.
func (t *trail) add(ended, took time.Duration, passed bool) {
	us := int32(min(max(took.Microseconds(), 1), math.MaxInt32)) // #nosec G115 -- it has been made small enough
	if !passed {
		us = -us
	}
	t.took[t.count%trailLength] = us
	t.count++
	t.ended, t.passed = ended, passed
}

// latest are the results, the newest last.
func (t *trail) latest() []time.Duration {
	n := min(t.count, trailLength)
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = time.Duration(t.took[(t.count-n+i)%trailLength]) * time.Microsecond
	}
	return all
}

// Report is all there is to say of a check at one moment, for people to look at.
type Report struct {
	health.State
	Against int               // results that speak against the status,
	Needed  int               // of so many that would change it
	Due     time.Time         // when it is asked next
	Ended   time.Time         // when its latest probe did; zero: it is not known
	Passed  bool              // that probe did
	Cert    probe.Certificate // the latest that its target has shown; zero: none
	Took    []time.Duration   // how long the latest probes took, the newest last; below 0: it failed after so long
}

// KeepTrails has the results of all checks kept for [Monitor.Reports], which takes some 300 bytes for each, or not any
// more.
func (m *Monitor) KeepTrails(keep bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !keep:
		m.trails = nil
	case m.trails == nil:
		m.trails = make(map[*Check]*trail)
	}
}

// Reports reads several checks at one moment into a slice of the same length.
func (m *Monitor) Reports(checks []*Check, into []Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, c := range checks {
		against := c.Against(c.settings)
		r := Report{State: c.state(m.epoch), Against: against, Needed: against + c.Left(c.settings), Due: m.epoch.Add(m.dueOf(c)), Cert: m.certificates[c]}
		if t := m.trails[c]; t != nil {
			r.Ended, r.Passed, r.Took = m.epoch.Add(t.ended), t.passed, t.latest()
		}
		into[i] = r
	}
}

// dueOf is when a check is asked next; one that is being asked now, when it would be if that passed.
func (m *Monitor) dueOf(c *Check) time.Duration {
	if c.phase == resting && c.watcher != nil {
		return m.queue[c.index].due
	}
	return c.started + c.settings.Interval
}

// note adds to the trail of a check.
func (m *Monitor) note(c *Check, passed bool, ended, took time.Duration) {
	if m.trails == nil {
		return
	}
	t := m.trails[c]
	if t == nil {
		t = new(trail)
		m.trails[c] = t
	}
	t.add(ended, took, passed)
}
