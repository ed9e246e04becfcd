package pool

import (
	"net/netip"
	"slices"
	"time"
)

// Sift chooses among the addresses of one set of records that somebody else answers: a tier that is known
// only when it is there. health is what is believed of each of them.
//
// It returns the places that the addresses had in the set, in the pool's order, those in use before those
// that are not, and how many are in use: none where the set is not usable. places is nil where all of
// them are and stay where they are. It is for the caller to leave out the rest, and what is more than
// Answer, as a set that is signed has to stay whole. n tells one answer from the next, as it does for
// [Turn].
//
// The answer can be relied on for ttl: whole seconds, from MinTTL to MaxTTL.
func (p *Policy) Sift(addrs []netip.Addr, health []Health, n uint32) (places []int, used int, ttl time.Duration) {
	// Nobody could write down how many members there will be: a small set has to have all that it takes.
	least, usable := limitOf(health, min(p.Min.Of(len(health)), len(health)))
	ttl = p.ttl(health, heldLimit{}, 0)
	if usable {
		ttl = p.ttl(health, least, p.Hold)
	}
	inUse := func(i int) bool { return usable && health[i].use(least) }
	for i := range health {
		if inUse(i) {
			used++
		}
	}
	if used == len(addrs) && p.Order == Fixed && len(p.Prefer) == 0 {
		return nil, used, ttl
	}

	places = make([]int, 0, len(addrs))
	for i := range addrs {
		if inUse(i) {
			places = append(places, i)
		}
	}
	for i := range addrs {
		if !inUse(i) {
			places = append(places, i)
		}
	}
	p.sort(places[:used], addrs, n)
	p.sort(places[used:], addrs, n)
	return places, used, ttl
}

// sort puts places of addresses into the pool's order.
func (p *Policy) sort(places []int, addrs []netip.Addr, n uint32) {
	slices.SortStableFunc(places, func(a, b int) int { return p.compare(addrs[a], addrs[b]) })
	if !p.turns() {
		return
	}
	sorted := make([]netip.Addr, len(places))
	for i, place := range places {
		sorted[i] = addrs[place]
	}
	copy(places, Turn(places, p.runs(sorted), p.Order, n, 0))
}

// use reports whether a member is used in a tier with this limit.
func (h Health) use(limit heldLimit) bool {
	return h.Up && (h.Held <= 0 || h.limit().compare(limit) <= 0)
}
