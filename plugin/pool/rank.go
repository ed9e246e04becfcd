package pool

import "slices"

// Rank is the members of one tier that an answer may name, in the pool's order, but for what turns from
// answer to answer.
type Rank struct {
	Tier    int // from 0
	Members []Member
}

// ranks are all the tiers that can be used, for an answer that leaves the choice to the client. A tier that
// is not usable is left out, be some of its members up or not: the one after it is what is answered.
func (p *Pool) ranks(health []Health, c *Choice) []Rank {
	var ranks []Rank
	first := 0
	for tier, members := range p.Tiers {
		last := first + len(members)
		used := c.Used
		if tier != c.Tier {
			used = used[:0:0]
			limit, ok := limitOf(health[first:last], p.Min.Of(len(members)))
			for i := first; ok && !limit.needed && i < last; i++ {
				if health[i].use(heldLimit{}) {
					used = append(used, i)
				}
			}
		}
		if len(used) > 0 {
			ranks = append(ranks, Rank{tier, p.sorted(pick(members, used, first))})
		}
		first = last
	}
	return ranks
}

// fallbackRanks are the ranks of a fallback to addresses. Those that are no members have no ports of their
// own, and get that of the first member.
func (p *Pool) fallbackRanks(tiers []tier) []Rank {
	ranks := make([]Rank, len(tiers))
	for i, t := range tiers {
		if p.Fallback.Members == Others {
			t.members = slices.Clone(t.members)
			for j := range t.members {
				t.members[j].Port = p.Tiers[0][0].Port
			}
		}
		ranks[i] = Rank{t.number, p.sorted(t.members)}
	}
	return ranks
}

// sorted returns members in the pool's order, no more of each family than an answer gives.
func (p *Policy) sorted(members []Member) []Member {
	sorted := slices.SortedStableFunc(slices.Values(members), func(a, b Member) int { return p.compare(a.Addr, b.Addr) })
	if p.Answer == 0 {
		return sorted
	}
	left := map[bool]int{true: p.Answer, false: p.Answer}
	return slices.DeleteFunc(sorted, func(m Member) bool {
		left[m.Addr.Is4()]--
		return left[m.Addr.Is4()] < 0
	})
}
