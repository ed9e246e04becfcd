package pool

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// arrange puts the members of the tiers into the pool's order, tier after tier and each family by
// itself, and keeps the front of it where the operator asked for no more.
func (p *Policy) arrange(tiers [][]Member) (v4, v6 Set) {
	for _, tier := range tiers {
		var four, six []netip.Addr
		for _, m := range tier {
			if m.Addr.Is4() {
				four = append(four, m.Addr)
			} else {
				six = append(six, m.Addr)
			}
		}
		v4 = p.add(v4, four)
		v6 = p.add(v6, six)
	}
	return p.cut(v4), p.cut(v6)
}

// add appends addrs to the set in order: by preference first, then as Order says.
func (p *Policy) add(s Set, addrs []netip.Addr) Set {
	slices.SortStableFunc(addrs, p.compare)
	if p.turns() {
		for _, end := range p.runs(addrs) {
			s.Runs = append(s.Runs, len(s.Addrs)+end)
		}
	}
	s.Addrs = append(s.Addrs, addrs...)
	return s
}

// runs returns the end of each run of addresses, in order, that are preferred alike.
func (p *Policy) runs(addrs []netip.Addr) []int {
	var ends []int
	for i := range addrs {
		if i+1 == len(addrs) || p.preference(addrs[i]) != p.preference(addrs[i+1]) {
			ends = append(ends, i+1)
		}
	}
	return ends
}

// compare is the order of two addresses, as slices.SortStableFunc wants it: 0 is that in which they came.
func (p *Policy) compare(a, b netip.Addr) int {
	if c := cmp.Compare(p.preference(a), p.preference(b)); c != 0 || p.Order != Sorted {
		return c
	}
	return a.Compare(b)
}

// turns says whether the order differs from answer to answer.
func (p *Policy) turns() bool { return p.Order == Cyclic || p.Order == Random }

// preference is the place of the first preferred network that holds a.
func (p *Policy) preference(a netip.Addr) int {
	for i, network := range p.Prefer {
		if network.Contains(a) {
			return i
		}
	}
	return len(p.Prefer)
}

// cut keeps the first Answer addresses. A set that turns keeps them all: which ones are first is
// known only when it is asked for.
func (p *Policy) cut(s Set) Set {
	if s.Runs == nil && p.Answer > 0 && len(s.Addrs) > p.Answer {
		s.Addrs = s.Addrs[:p.Answer:p.Answer]
	}
	return s
}

// Turn returns the first limit (0: all) of the items with each run rotated by n (Cyclic) or shuffled
// (Random), in a slice of its own.
func Turn[T any](items []T, runs []int, order Order, n uint32, limit int) []T {
	turned := make([]T, 0, len(items))
	first := 0
	for _, end := range runs {
		run := items[first:end]
		k := int(n % uint32(len(run))) // #nosec G115 -- a run is neither empty nor as long as 2^32
		turned = append(append(turned, run[k:]...), run[:k]...)
		if order == Random {
			run = turned[first:end]
			rand.Shuffle(len(run), func(i, j int) { run[i], run[j] = run[j], run[i] }) // #nosec G404 -- nobody gains by guessing it
		}
		first = end
	}
	if limit > 0 && len(turned) > limit {
		turned = turned[:limit:limit]
	}
	return turned
}
