package failover

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/probe"
	"github.com/coredns-failover/failover/plugin/quorum"
)

// inquiry is what a pool asks of each of its members, and how often. It never changes.
type inquiry struct {
	probes   []probe.Spec
	require  int // how many of them have to pass; 0: all
	settings health.Settings
	quorum   quorum.Rule
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
	return slices.EqualFunc(q.probes, other.probes, probe.Spec.Same)
}

// why is the reason for a member's status in words.
func (q *inquiry) why(s *memberState, hold time.Duration) string {
	if s.override != nil && s.override.Action != override.Drain {
		return s.override.String()
	}
	return q.whyProbed(s, hold)
}

// whyProbed is the reason for the status that its probes give a member.
func (q *inquiry) whyProbed(s *memberState, hold time.Duration) string {
	why := s.deciding.Why(&q.settings)
	if len(q.probes) > 1 && (s.probed == health.Down || q.need() < len(q.probes)) { // else to come up takes all of them
		why = q.probes[s.probe].Word + ": " + why
	}
	switch {
	case s.waiting:
		why += ", waits to be let back"
	case s.held > 0:
		why += ", held for " + short(hold)
	}
	return why
}

// need is how many probes of a member have to pass.
func (q *inquiry) need() int {
	if q.require == 0 {
		return len(q.probes)
	}
	return q.require
}

// memberState is what the checks of one member come to.
type memberState struct {
	status   health.Status
	held     time.Duration // still to go
	soonest  time.Duration // that status could change
	probe    int           // whose check decided
	deciding *health.State
	back     bool               // it is up, and was down before
	cameBack time.Time          // when
	returned time.Time          // when it came back, as all sites have it: the order of the members that are held
	until    time.Time          // the end of the hold
	probed   health.Status      // what the checks come to, whatever the operator says
	drained  bool               // the operator has taken it out
	waiting  bool               // it is held until the operator lets it back
	override *override.Override // nil: there is none
}

// combine makes one status of a member's checks, of which so many have to be up: it is down as soon as too many of
// them are down for that. One that came back is held for so long.
func combine(states []health.State, need int, hold time.Duration, now time.Time) memberState {
	up, down := having(states, health.Up), having(states, health.Down)
	var m memberState
	switch most := len(states) - need; {
	case len(down) > most:
		m.status, m.probe = health.Down, down[most]
		m.soonest = nth(states, down, len(down)-most) // so many have to come up
	case len(up) >= need:
		m.status, m.probe = health.Up, up[need-1]
		m.soonest = nth(states, up, len(up)-need+1) // so many have to go down
		for _, i := range up[:need] {               // the last of them is the latest
			if states[i].Recovered {
				m.returns(states[i].Since, hold, now)
				if at := states[i].Returned; !at.IsZero() {
					m.returned = at
				}
			}
		}
	default:
		m.probe = having(states, health.Unknown)[0]
		m.soonest = slices.MinFunc(states, func(a, b health.State) int { return cmp.Compare(a.EarliestChange, b.EarliestChange) }).EarliestChange
	}
	m.deciding = &states[m.probe]
	m.probed = m.status
	return m
}

// returns notes when a member came back, and holds it for so long from then on.
func (m *memberState) returns(at time.Time, hold time.Duration, now time.Time) {
	m.back, m.cameBack, m.returned, m.until = true, at, at, at.Add(hold)
	m.held = max(0, m.until.Sub(now))
}

// recover applies a return that the checks do not know of, because other checks saw it before a reload. A zero time means
// that the member was down then: it comes back with its first pass.
func (m *memberState) recover(at time.Time, hold time.Duration, now time.Time) {
	switch {
	case m.back || m.probed == health.Down:
		return
	case at.IsZero() && m.probed == health.Up:
		at = m.deciding.Since
	case at.IsZero():
		at = now
	}
	m.returns(at, hold, now)
}

// wait holds a member that came back since the operator has let it back last. It is for failback manual.
func (m *memberState) wait(letBack time.Time) {
	switch {
	case !m.back:
	case m.cameBack.After(letBack):
		m.waiting, m.held, m.until = true, pool.Forever, m.cameBack.Add(pool.Forever)
	default:
		m.held = 0
	}
}

// carried returns the return of a member that is held, for checks that ask something else, as recover takes it. A member
// that is down comes back later, if wasDown is set. It returns nil if there is nothing to carry.
func (m *memberState) carried(wasDown bool) *time.Time {
	switch {
	case m.kept():
		return &m.cameBack
	case wasDown && m.probed == health.Down:
		return new(time.Time)
	}
	return nil
}

// kept says whether it is kept out of the answers though it is up, as it came back.
func (m *memberState) kept() bool { return m.waiting || m.held > 0 }

// obey puts an operator's decision before what the probes say. nil is none.
func (m *memberState) obey(o *override.Override, now time.Time) {
	if o == nil {
		return
	}
	m.override, m.held, m.waiting = o, 0, false
	switch o.Action {
	case override.Drain:
		m.drained = true
	case override.Down:
		m.status = health.Down
	case override.Up:
		m.status = health.Up
	}
	m.soonest = pool.Forever
	if !o.Until.IsZero() {
		m.soonest = max(0, o.Until.Sub(now))
	}
}

// unwell says whether there is something about a member that is out of the ordinary.
func (m memberState) unwell() bool { return m.status != health.Up || m.held > 0 || m.override != nil }

// health is what a choice has to know of a member.
func (m *memberState) health() pool.Health {
	return pool.Health{Up: m.status != health.Down && !m.drained, Held: m.held, Next: m.soonest, Returned: m.returned, Drained: m.drained}
}

// having are the places of the states that have a status, the one that has had it longest first.
func having(states []health.State, status health.Status) []int {
	var places []int
	for i := range states {
		if states[i].Status == status {
			places = append(places, i)
		}
	}
	slices.SortStableFunc(places, func(a, b int) int { return states[a].Since.Compare(states[b].Since) })
	return places
}

// nth is the soonest time at which so many of the places could have changed.
func nth(states []health.State, places []int, n int) time.Duration {
	soonest := make([]time.Duration, len(places))
	for i, place := range places {
		soonest[i] = states[place].EarliestChange
	}
	slices.Sort(soonest)
	return soonest[n-1]
}

// weight orders the statuses by how bad they are.
func weight(s health.Status) int {
	return [...]int{health.Up: 0, health.Unknown: 1, health.Down: 2}[s]
}
