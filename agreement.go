package failover

import (
	"net/netip"
	"slices"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/quorum"
)

// agreement is what the voters have come to for one check of a pool. The zero value is nothing yet.
type agreement struct {
	status   health.Status
	since    time.Time
	back     bool      // see [health.State]
	returned time.Time // when the target came back, by the clock of this site, or of those that it was taken over from
	kept     bool      // out of the answers, as it is back
	heirOf   []string  // the sites that it was taken over from that it is kept out; nil: it was not
	company  company
	met      time.Time   // when it came to the others; zero: there are none
	ours     quorum.Vote // that of this site
}

// meeting is how long a site that comes to the others, or to which others come, goes by what it hears of them about the
// time before: longer than it takes them all to be heard.
const meeting = 5 * time.Second

// company is whether there are others who vote.
type company uint8

const (
	never company = iota // there were none so far
	alone                // there are none any more
	among                // there are
)

// set is a status that is another than before.
func (m *agreement) set(status health.Status, since time.Time, back bool) {
	m.status, m.since, m.back, m.returned, m.kept, m.heirOf = status, since, back, since, back, nil
}

// ballot is where votes are cast and found. [share.Share] is one.
type ballot interface {
	Site() string
	Keep(k quorum.Key, by any, kept bool)
	Cast(k quorum.Key, v quorum.Vote)
	Withdraw(k quorum.Key)
	Votes(k quorum.Key) []quorum.Vote
}

// key is what a vote on the i-th question to a member is about.
func (q *inquiry) key(i int, member netip.AddrPort) quorum.Key {
	target, _ := q.probes[i].Target(member) // setup has seen that there is one
	return quorum.Key{Question: q.probes[i].String(), Target: target}
}

// agree puts in the place of the states of a member what all voters come to. memory is what they came to last, one for
// each state.
func (q *inquiry) agree(b ballot, by *monitor.Monitor, member netip.AddrPort, states []health.State, memory []agreement, now time.Time) {
	for i := range states {
		k, m := q.key(i, member), &memory[i]
		m.ours = q.vote(b, by, k, &states[i])
		q.decide(&states[i], m, b.Votes(k), now)
	}
}

// cast casts the votes of this site on a member, and says whether somebody, a pool or an overlay's address, keeps it out
// as it is back. That comes first: there must be no vote to the contrary.
func (q *inquiry) cast(b ballot, member netip.AddrPort, memory []agreement, kept bool, by any) {
	for i := range q.probes {
		k, m := q.key(i, member), &memory[i]
		m.kept = kept && m.back
		b.Keep(k, by, m.kept && q.quorum != quorum.Own)
		b.Cast(k, m.ours)
	}
}

// withdraw takes back what somebody has cast on a member that he does not ask any more.
func (q *inquiry) withdraw(member netip.AddrPort, by any) {
	b := process.sharing.ballot()
	if b == nil {
		return
	}
	m := process.monitorInUse()
	for i := range q.probes {
		k := q.key(i, member)
		asked := m.Asks(k.Question, k.Target)
		if !asked {
			b.Withdraw(k)
		}
		b.Keep(k, by, false)
		if !asked {
			process.Voted([]quorum.Key{k}) // should somebody have begun to ask in between
		}
	}
}

// inherit is what was agreed for an inquiry before this one, as far as it asked the same.
func (q *inquiry) inherit(before *inquiry, agreed []agreement) []agreement {
	ours := make([]agreement, len(q.probes))
	for i := range q.probes {
		if j := slices.IndexFunc(before.probes, q.probes[i].Same); j >= 0 {
			ours[i] = agreed[j]
		}
	}
	return ours
}

// vote is that of this site. Where others here ask the same with other settings, it is the same for all of them.
func (q *inquiry) vote(b ballot, by *monitor.Monitor, k quorum.Key, s *health.State) quorum.Vote {
	v := quorum.Vote{Voter: b.Site(), Status: s.Status}
	if believed, ok := by.Believed(k.Question, k.Target); ok {
		v.Status = believed.Status
	}
	if s.Status != health.Unknown && s.Status == v.Status {
		v.Why = s.Why(&q.settings)
	}
	return v
}

// decide makes one state of our own and the votes of others.
func (q *inquiry) decide(s *health.State, m *agreement, others []quorum.Vote, now time.Time) {
	if len(others) == 0 || q.quorum == quorum.Own {
		if !m.met.IsZero() {
			m.company, m.met = alone, time.Time{}
		}
		switch { // what was agreed does not go with those who agreed
		case q.quorum == quorum.Own, m.status == health.Unknown, s.Status == health.Unknown, m.company == never && s.Since.After(m.since):
			m.set(s.Status, s.Since, s.Recovered)
		case m.status != s.Status:
			m.set(s.Status, now, m.status == health.Down)
		}
		s.Since, s.Recovered = m.since, m.back
		m.ours.Returned = m.returned
		if m.back {
			s.Returned = m.returned
		}
		return
	}
	votes := others
	if m.ours.Status != health.Unknown {
		votes = append(slices.Clip(others), m.ours)
	}
	d := q.quorum.Decide(votes)
	switch {
	case m.status == d.Status:
	case m.status == health.Unknown && s.Status == d.Status:
		m.set(s.Status, s.Since, s.Recovered)
	default:
		m.set(d.Status, now, m.status == health.Down)
	}
	if m.met.IsZero() {
		m.met = now
	}
	if now.Sub(m.met) >= meeting {
		m.company = among
	}
	if m.status == health.Up {
		m.keep(others, now)
	}
	s.EarliestChange = q.soonest(s, &d, m.ours, others)
	s.Status, s.Since, s.Recovered, s.Reason = m.status, m.since, m.back, d.String()
	if m.ours.Returned = m.returned; m.back {
		s.Returned = agreedReturn(m.returned, others)
	}
}

// agreedReturn returns the time at which a target came back, as most sites have it: the lower median of the kept votes and
// of ours. All sites have the same votes, so all of them use held members in the same order. A site whose clock is wrong
// does not change the order, if it is in the minority. It returns ours if no other vote has a time.
func agreedReturn(ours time.Time, others []quorum.Vote) time.Time {
	times := make([]time.Time, 0, len(others)+1)
	for _, v := range others {
		if v.Status == health.Up && v.Kept && !v.Returned.IsZero() {
			times = append(times, v.Returned)
		}
	}
	if !ours.IsZero() {
		times = append(times, ours.Round(0)) // all of them by the wall clock
	}
	if len(times) == 0 {
		return ours
	}
	slices.SortFunc(times, time.Time.Compare)
	return times[(len(times)-1)/2]
}

// keep sees to it that a member that is up is kept out here as it is at the other sites. As long as they are in touch they
// see it come back at one moment. One that has just come to the others does as most do: before, it did not know what they
// knew, or it has seen what nobody else has. One that has just started has no say in that, unless it knows better.
func (m *agreement) keep(others []quorum.Vote, now time.Time) {
	var keepers, released []string
	for _, v := range others {
		switch {
		case v.Status == health.Up && v.Kept:
			keepers = append(keepers, v.Voter)
		case v.Status == health.Up:
			released = append(released, v.Voter)
		}
	}
	if m.company == among {
		heirOf := func(name string) bool { return slices.Contains(m.heirOf, name) }
		if slices.ContainsFunc(released, heirOf) && !slices.ContainsFunc(keepers, heirOf) {
			m.back, m.heirOf = false, nil
		}
		return
	}
	keep, not := len(keepers), len(released)
	switch knows := m.kept && m.heirOf == nil; {
	case knows:
		keep++
	case m.company == alone:
		not++
	}
	switch {
	case m.kept && keep < not:
		m.set(health.Up, m.since, false)
	case m.kept && m.heirOf != nil: // of all who have kept it out since
		m.heirOf = slices.Compact(slices.Sorted(slices.Values(slices.Concat(m.heirOf, keepers))))
	case !m.kept && keep > not:
		m.set(health.Up, now, true)
		m.heirOf = keepers
		if at := agreedReturn(time.Time{}, others); !at.IsZero() {
			m.returned = at
		}
	}
}

// soonest is how soon so many votes could have changed that the decision does. What it takes another site from its last
// probe on is what it takes this one, as a rule: its Corefile is the same. The votes of those who are of another mind already cannot
// bring it about.
func (q *inquiry) soonest(s *health.State, d *quorum.Decision, ours quorum.Vote, others []quorum.Vote) time.Duration {
	var times []time.Duration
	if ours.Status == d.Status {
		times = append(times, s.EarliestChange)
	}
	for _, v := range others {
		if v.Status == d.Status {
			times = append(times, q.settings.EarliestChange(d.Status))
		}
	}
	slices.Sort(times)
	return times[d.Slack-1]
}
