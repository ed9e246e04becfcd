// Package pool chooses. It turns what is believed of a pool's members into what the pool answers:
// which tier is in use, which addresses in which order, and for how long that can be relied on.
//
// It is arithmetic only: no clock, no socket, no DNS message. Everything in it may be called by any
// number of goroutines at once as long as nobody writes to the values it was given.
package pool

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"
)

// Member is one address of a pool.
type Member struct {
	Addr  netip.Addr
	Port  uint16 // 0: none was given
	Label string // "": none was given
}

// String is the member as people see it in logs and metrics: "east 192.0.2.10:443".
func (m Member) String() string {
	s := m.Addr.String()
	if m.Port != 0 {
		s = netip.AddrPortFrom(m.Addr, m.Port).String()
	}
	if m.Label != "" {
		s = m.Label + " " + s
	}
	return s
}

// Policy is the part of a pool that does not name its members. It never changes, and pools of the same configuration
// share it.
type Policy struct {
	Min      Min
	Answer   int            // the most addresses that one answer gives; 0: all
	Order    Order          // inside a tier
	Prefer   []netip.Prefix // these networks first, in this order, before Order applies
	Fallback Fallback
	Hold     time.Duration // how long a recovered member is kept out; see [Health.Held]
	MinTTL   time.Duration // at least a second
	MaxTTL   time.Duration // at least MinTTL
	Ranked   bool          // a choice has Ranks
}

// Pool is a policy and the members that it is for.
type Pool struct {
	*Policy

	// Tiers holds the members that are used together: the primaries first, then each backup in turn.
	Tiers [][]Member
}

// Health is what a choice has to know of one member.
type Health struct {
	Up   bool          // up, or not known yet: a member is used until it is known to be down
	Held time.Duration // it is up, but came back so lately that it is kept out for so much longer
	Next time.Duration // the soonest that Up could change

	// Returned is the time at which a held member came back. It gives the order in which held members are used.
	Returned time.Time

	// Drained is a member that the operator has taken out. It is not Up, and in no fallback either as long as there
	// is another.
	Drained bool
}

// Forever is a time for [Health] that does not come by itself.
const Forever time.Duration = math.MaxInt64 / 2 // so that there is room to add to it

// Min says how many members of a tier must be usable for the tier to be usable.
type Min struct {
	Count   int
	Percent bool // Count is a share of the tier in percent, rounded up
}

// Of is the number it takes in a tier of so many members.
func (m Min) Of(members int) int {
	if m.Percent {
		return (members*m.Count + 99) / 100
	}
	return m.Count
}

// Order is how the addresses inside a tier are arranged. The zero value is the order written.
type Order uint8

const (
	Fixed  Order = iota // as written
	Sorted              // by address
	Cyclic              // each answer begins one further on, as BIND's rrset-order cyclic
	Random              // shuffled for each answer, as BIND's rrset-order random
)

// Reply is the kind of answer a pool gives.
type Reply uint8

const (
	Addresses Reply = iota // the addresses of the choice
	NoData                 // the name exists and has no address
	NXDomain               // the name does not exist
	ServFail
	Refused
	Next // whatever the next plugin says
)

// Fallback is what a pool answers while no tier is usable. The zero value is to give out all
// members: a pool that is down in its entirety is more often a broken probe than a broken world.
type Fallback struct {
	Reply   Reply
	Members Source   // which addresses, when Reply is Addresses
	Other   []Member // when Members is Others
	Word    string   // the operator's words, for logs and Extended DNS Errors
}

// Source names the addresses of a fallback.
type Source uint8

const (
	All     Source = iota // every member, tier by tier
	Primary               // the first tier
	Last                  // the set in use before; all of them when there was none
	Others                // addresses that are not members
)

// InFallback is the tier of a choice when no tier is usable.
const InFallback = -1

// Choice is what a pool answers for one state of its members.
type Choice struct {
	Tier  int // in use, from 0; InFallback
	Reply Reply
	V4    Set
	V6    Set
	Used  []int         // the members in use, as indexes over all tiers; empty in fallback
	Stale bool          // the addresses are the last set that worked (RFC 8914, code 3)
	TTL   time.Duration // whole seconds

	// Ranks is what is answered of all tiers at once, where the pool is Ranked and Reply is Addresses. It
	// can be relied on for RanksTTL.
	Ranks    []Rank
	RanksTTL time.Duration
}

// Set is the addresses of one family in their order. Runs is nil when that order is final; else it
// holds the end of each run inside which [Turn] varies the order from answer to answer.
type Set struct {
	Addrs []netip.Addr
	Runs  []int
}

// Size is how many members the pool has in all its tiers.
func (p *Pool) Size() int {
	n := 0
	for _, t := range p.Tiers {
		n += len(t)
	}
	return n
}

// Member is the member with an index over all tiers.
func (p *Pool) Member(i int) Member {
	for _, t := range p.Tiers {
		if i < len(t) {
			return t[i]
		}
		i -= len(t)
	}
	panic("pool: no such member")
}

// Choose makes the choice for the present health of the members, which is indexed over all tiers.
// last is the Used of the latest choice that was not a fallback, nil when there was none.
//
// A held member has proved that it works. It is not used while other members can answer, but it is preferred to any
// fallback, which has addresses that do not work, or no addresses. If no tier has enough members that are not held, held
// members are used in the order in which they came back. So a later return never changes the answer.
func (p *Pool) Choose(health []Health, last []int) Choice {
	chosen, least, first, begin := InFallback, heldLimit{}, 0, 0
	for tier, members := range p.Tiers {
		limit, ok := limitOf(health[first:first+len(members)], p.Min.Of(len(members)))
		if ok && (chosen == InFallback || limit.compare(least) < 0) {
			chosen, least, begin = tier, limit, first
		}
		first += len(members)
	}
	if chosen == InFallback {
		return p.fallback(health, last)
	}
	members := p.Tiers[chosen]
	c := Choice{Tier: chosen, TTL: p.ttl(health[:begin+len(members)], least, p.Hold)}
	c.Used = make([]int, 0, len(members))
	for i := range members {
		if health[begin+i].use(least) {
			c.Used = append(c.Used, begin+i)
		}
	}
	c.V4, c.V6 = p.arrange([][]Member{pick(members, c.Used, begin)})
	if p.Ranked {
		c.Ranks, c.RanksTTL = p.ranks(health, &c), p.ttl(health, least, p.Hold)
	}
	return c
}

// heldLimit is the last of the held members that a tier needs. The zero value needs no held member.
type heldLimit struct {
	needed   bool
	returned time.Time
	held     time.Duration // decides between members that came back at the same time
}

// compare orders limits: no held member comes first, then the earlier return.
func (l heldLimit) compare(other heldLimit) int {
	switch {
	case !l.needed && !other.needed:
		return 0
	case !l.needed:
		return -1
	case !other.needed:
		return 1
	}
	return cmp.Or(l.returned.Compare(other.returned), cmp.Compare(l.held, other.held))
}

// limit returns the limit that a held member sets if it is the last one needed.
func (h *Health) limit() heldLimit { return heldLimit{true, h.Returned, h.Held} }

// limitOf returns the limit at which a tier has as many members as it needs. ok is false if too few of its members are up.
func limitOf(tier []Health, need int) (l heldLimit, ok bool) {
	usable := 0
	var held []heldLimit
	for i := range tier {
		switch h := &tier[i]; {
		case h.Up && h.Held > 0:
			held = append(held, h.limit())
		case h.Up:
			usable++
		}
	}
	if usable >= need {
		return heldLimit{}, true
	}
	if usable+len(held) < need {
		return heldLimit{}, false
	}
	slices.SortFunc(held, heldLimit.compare)
	return held[need-usable-1], true
}

func pick(members []Member, used []int, first int) []Member {
	if len(used) == len(members) {
		return members
	}
	picked := make([]Member, len(used))
	for i, u := range used {
		picked[i] = members[u-first]
	}
	return picked
}

func (p *Pool) fallback(health []Health, last []int) Choice {
	c := Choice{Tier: InFallback, Reply: p.Fallback.Reply, TTL: p.ttl(health, heldLimit{}, 0)}
	if c.Reply != Addresses {
		return c
	}
	var tiers []tier
	if p.Fallback.Members == Others {
		tiers = []tier{{members: p.Fallback.Other}}
	} else {
		tiers, c.Stale = p.fallbackTiers(health, last)
	}
	members := make([][]Member, len(tiers))
	for i, t := range tiers {
		members[i] = t.members
	}
	c.V4, c.V6 = p.arrange(members)
	if p.Ranked {
		c.Ranks, c.RanksTTL = p.fallbackRanks(tiers), c.TTL
	}
	return c
}

// tier is some members of the tier with a number.
type tier struct {
	number  int
	members []Member
}

// fallbackTiers are the members that a fallback to members gives out, without those that are drained unless nothing
// else would be left, and whether they are the last that worked.
func (p *Pool) fallbackTiers(health []Health, last []int) (tiers []tier, stale bool) {
	for _, which := range []func(i int) bool{
		func(i int) bool { return !health[i].Drained },
		func(int) bool { return true },
	} {
		stale = p.Fallback.Members == Last && slices.ContainsFunc(last, which)
		first := 0
		for number, members := range p.Tiers {
			t := tier{number: number}
			for i, m := range members {
				if which(first+i) && (!stale || slices.Contains(last, first+i)) {
					t.members = append(t.members, m)
				}
			}
			if len(t.members) > 0 && (p.Fallback.Members != Primary || number == 0) {
				tiers = append(tiers, t)
			}
			first += len(members)
		}
		if len(tiers) > 0 {
			break
		}
	}
	return tiers, stale
}

// ttl is how long an answer can be relied on: the soonest time at which it could change, in whole
// seconds within the operator's bounds. health holds the members that can change it: those of the tier
// in use and of every tier before it, and all of them in fallback. Held members are used up to the limit. One that comes
// up now is held for hold.
func (p *Policy) ttl(health []Health, limit heldLimit, hold time.Duration) time.Duration {
	soonest := p.MaxTTL
	for _, h := range health {
		next := h.Next
		switch {
		case !h.Up:
			next += hold
		case !h.use(limit):
			next = h.Held
		}
		soonest = min(soonest, next)
	}
	return max(soonest, p.MinTTL).Truncate(time.Second)
}
