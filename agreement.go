package failover

import (
	"net/netip"
	"slices"
	"time"

	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/quorum"
	"github.com/coredns-failover/failover/plugin/share"
)

// agreement is what the voters have come to for one check of a pool. The zero value is nothing yet.
type agreement struct {
	status monitor.Status
	since  time.Time
	back   bool // see [monitor.State]
}

// ballot is where votes are cast and found. [share.Share] is one.
type ballot interface {
	Site() string
	Cast(k share.Key, v quorum.Vote)
	Withdraw(k share.Key)
	Votes(k share.Key) []quorum.Vote
}

// key is what a vote on the i-th question to a member is about.
func (q *inquiry) key(i int, member netip.AddrPort) share.Key {
	target, _ := q.probes[i].Target(member) // setup has seen that there is one
	return share.Key{Question: q.probes[i].String(), Target: target}
}

// agree casts the votes of this site on a member, and puts in the place of the states what all voters come to. memory
// is what they came to last, one for each state.
func (q *inquiry) agree(b ballot, by *monitor.Monitor, member netip.AddrPort, states []monitor.State, memory []agreement, now time.Time) {
	for i := range states {
		k, s := q.key(i, member), &states[i]
		ours := q.vote(b, by, k, s)
		b.Cast(k, ours)
		q.decide(s, &memory[i], ours, b.Votes(k), now)
	}
}

// vote is that of this site. Where others here ask the same with other settings, it is the same for all of them.
func (q *inquiry) vote(b ballot, by *monitor.Monitor, k share.Key, s *monitor.State) quorum.Vote {
	v := quorum.Vote{Voter: b.Site(), Status: s.Status, Back: s.Back}
	if believed, ok := by.Believed(k.Question, k.Target); ok {
		v.Status, v.Back = believed.Status, believed.Back
	}
	if s.Status != monitor.Unknown && s.Status == v.Status {
		v.Why = s.Why(&q.settings)
	}
	return v
}

// decide makes one state of our own and the votes of others.
func (q *inquiry) decide(s *monitor.State, m *agreement, ours quorum.Vote, others []quorum.Vote, now time.Time) {
	if len(others) == 0 || q.quorum == quorum.Own {
		switch { // what was agreed does not go with those who agreed
		case q.quorum == quorum.Own, m.status == monitor.Unknown, s.Status == monitor.Unknown, s.Since.After(m.since):
			*m = agreement{s.Status, s.Since, s.Back}
		case m.status != s.Status:
			*m = agreement{s.Status, now, m.status == monitor.Down}
		}
		s.Since, s.Back = m.since, m.back
		return
	}
	votes := others
	if ours.Status != monitor.Unknown {
		votes = append(slices.Clip(others), ours)
	}
	d := q.quorum.Decide(votes)
	switch {
	case m.status == d.Status:
	case m.status == monitor.Unknown && s.Status == d.Status:
		*m = agreement{s.Status, s.Since, s.Back}
	case m.status == monitor.Unknown: // this replica is new: the others know whether it has been down
		*m = agreement{d.Status, now, slices.ContainsFunc(others, func(v quorum.Vote) bool { return v.Back })}
	default:
		*m = agreement{d.Status, now, m.status == monitor.Down}
	}
	s.Soonest = q.soonest(s, &d, ours, others)
	s.Status, s.Since, s.Back, s.Said = m.status, m.since, m.back, d.String()
}

// soonest is how soon so many votes could have changed that the decision does. What it takes another site from its last
// probe on is what it takes this one, as a rule: its Corefile is the same. The votes of those who are of another mind already cannot
// bring it about.
func (q *inquiry) soonest(s *monitor.State, d *quorum.Decision, ours quorum.Vote, others []quorum.Vote) time.Duration {
	var times []time.Duration
	if ours.Status == d.Status {
		times = append(times, s.Soonest)
	}
	for _, v := range others {
		if v.Status == d.Status {
			times = append(times, q.settings.Soonest(d.Status))
		}
	}
	slices.Sort(times)
	return times[d.Slack-1]
}
