package failover

import (
	"net/netip"
	"slices"
	"time"

	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/probe"
)

// inquiry is what a pool asks of each of its members, and how often. It never changes.
type inquiry struct {
	probes   []probe.Spec
	settings monitor.Settings
}

// acquire appends the checks of a member: one for each probe.
func (q *inquiry) acquire(checks []*monitor.Check, m *monitor.Monitor, member netip.AddrPort, w monitor.Watcher) []*monitor.Check {
	for _, spec := range q.probes {
		target, _ := spec.Target(member) // setup has seen that there is one
		checks = append(checks, m.Acquire(spec.Prober, target, &q.settings, w))
	}
	return checks
}

// asksTheSame says whether what another inquiry has found out is an answer to this one, too.
func (q *inquiry) asksTheSame(other *inquiry) bool {
	return slices.EqualFunc(q.probes, other.probes, func(a, b probe.Spec) bool {
		return a.String() == b.String() && a.Port == b.Port
	})
}

// why is the reason for a member's status in words.
func (q *inquiry) why(s *memberState, hold time.Duration) string {
	why := s.deciding.Why(&q.settings)
	if len(q.probes) > 1 && s.status == monitor.Down { // to come up takes all of them
		why = q.probes[s.probe].Word + ": " + why
	}
	if s.held > 0 {
		why += ", held for " + short(hold)
	}
	return why
}

// memberState is what the checks of one member come to.
type memberState struct {
	status   monitor.Status
	held     time.Duration // still to go
	soonest  time.Duration // that status could change
	probe    int           // whose check decided
	deciding *monitor.State
}

// combine makes one status of a member's checks: all have to pass. It is down when one of them is,
// and up when all are. One that came back is held for so long.
func combine(states []monitor.State, hold time.Duration, now time.Time) memberState {
	deciding := 0
	for i, s := range states {
		if d := states[deciding]; weight(s.Status) > weight(d.Status) || s.Status == d.Status && s.Since.After(d.Since) {
			deciding = i
		}
	}
	d := &states[deciding]
	m := memberState{status: d.Status, soonest: d.Soonest, probe: deciding, deciding: d}
	for _, s := range states {
		switch {
		case d.Status != monitor.Down: // any of them can bring it down
			m.soonest = min(m.soonest, s.Soonest)
		case s.Status == monitor.Down: // all of these have to come up
			m.soonest = max(m.soonest, s.Soonest)
		}
	}
	if d.Status == monitor.Up && slices.ContainsFunc(states, func(s monitor.State) bool { return s.Back }) {
		m.held = max(0, d.Since.Add(hold).Sub(now))
	}
	return m
}

// weight orders the statuses by how much they decide.
func weight(s monitor.Status) int {
	return [...]int{monitor.Up: 0, monitor.Unknown: 1, monitor.Down: 2}[s]
}
