package failover

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// edition is a zone as it went out, or may go out, under one serial number. It never changes.
type edition struct {
	soa  *dns.SOA
	sets recordSets // without the SOA
	rest func() []dns.RR
}

// newEdition makes an edition that has no SOA yet.
func newEdition(sets recordSets) *edition {
	e := &edition{sets: sets}
	e.rest = sync.OnceValue(e.sorted)
	return e
}

// recordSets are the records of a zone by their owner and type.
type recordSets map[setKey][]dns.RR

// add puts a record into its set.
func (s recordSets) add(key setKey, rr dns.RR) { s[key] = append(s[key], rr) }

// records are all of the edition as AXFR gives them (RFC 5936, section 2.2): the SOA first and last.
func (e *edition) records() []dns.RR {
	return slices.Concat([]dns.RR{e.soa}, e.rest(), []dns.RR{e.soa})
}

// sorted is the edition without the SOA, in an order that is the same each time: what the apex has comes first.
func (e *edition) sorted() []dns.RR {
	apex := e.soa.Hdr.Name
	keys := slices.SortedFunc(maps.Keys(e.sets), func(a, b setKey) int {
		switch {
		case a.owner != b.owner && a.owner == apex:
			return -1
		case a.owner != b.owner && b.owner == apex:
			return 1
		}
		return cmp.Or(cmp.Compare(a.owner, b.owner), cmp.Compare(a.rtype, b.rtype))
	})
	var rrs []dns.RR
	for _, key := range keys {
		rrs = append(rrs, e.sets[key]...)
	}
	return rrs
}

// change is what makes one edition out of the one before.
type change struct {
	from, to       *dns.SOA
	deleted, added []dns.RR
}

// size is how many records the change has in a transfer.
func (c *change) size() int { return 2 + len(c.deleted) + len(c.added) }

// difference is what makes sets out of what was before.
func difference(before, now recordSets) (deleted, added []dns.RR) {
	for key, rrs := range before {
		deleted = append(deleted, missing(rrs, now[key])...)
	}
	for key, rrs := range now {
		added = append(added, missing(rrs, before[key])...)
	}
	slices.SortFunc(deleted, compareRecords)
	slices.SortFunc(added, compareRecords)
	return deleted, added
}

// compareRecords orders records by owner, type and what is in them.
func compareRecords(a, b dns.RR) int {
	h, o := a.Header(), b.Header()
	return cmp.Or(cmp.Compare(h.Name, o.Name), cmp.Compare(h.Rrtype, o.Rrtype), cmp.Compare(a.String(), b.String()))
}

// manyRecords is from how many records on it takes less to write each down than to compare it with all others.
const manyRecords = 16

// missing are the records of a set that another does not have, with the same TTL.
func missing(rrs, other []dns.RR) []dns.RR {
	if len(rrs) == len(other) && (len(rrs) == 0 || &rrs[0] == &other[0]) {
		return nil // the same memory, as it is in most sets of two editions
	}
	return lacking(rrs, other, func(a, b dns.RR) bool { return a.Header().Ttl == b.Header().Ttl && dns.IsDuplicate(a, b) })
}

// lacking are those of some records that another set does not have. What same takes for the same has the same data.
func lacking(rrs, other []dns.RR, same func(a, b dns.RR) bool) []dns.RR {
	var index map[string]dns.RR
	var lost []dns.RR
	for i, rr := range rrs {
		if i < len(other) && same(rr, other[i]) {
			continue
		}
		if len(other) <= manyRecords {
			if !slices.ContainsFunc(other, func(o dns.RR) bool { return same(rr, o) }) {
				lost = append(lost, rr)
			}
			continue
		}
		if index == nil {
			index = make(map[string]dns.RR, len(other))
			for _, o := range other {
				index[dataOf(o)] = o
			}
		}
		if o := index[dataOf(rr)]; o == nil || !same(rr, o) {
			lost = append(lost, rr)
		}
	}
	return lost
}

// dataOf is the data of a record in words, which within a set tells it from the others.
func dataOf(rr dns.RR) string { return strings.TrimPrefix(rr.String(), rr.Header().String()) }

// sameData says whether two sets, with each record once, are the same but for their order and their TTL.
func sameData(a, b []dns.RR) bool {
	return len(a) == len(b) && len(lacking(a, b, dns.IsDuplicate)) == 0
}

// The journal of a zone goes back so far. What has more records than that, or than the zone where that is larger,
// is sooner sent as a whole.
const (
	maxChanges        = 100
	maxChangedRecords = 10_000
)

// journal is the latest changes of a zone, each from where the one before it led to.
type journal struct {
	changes []change
	records int
}

// add appends a change of a zone of so many sets.
func (j *journal) add(c change, size int) {
	j.changes = append(j.changes, c)
	j.records += c.size()
	for len(j.changes) > maxChanges || j.records > max(maxChangedRecords, size) {
		j.records -= j.changes[0].size()
		j.changes = slices.Clone(j.changes[1:]) // whoever has been given the others keeps them
	}
}

// since are the changes that lead on from a serial number; none: the journal does not go back so far.
func (j *journal) since(serial uint32) []change {
	i := slices.IndexFunc(j.changes, func(c change) bool { return c.from.Serial == serial })
	if i < 0 {
		return nil
	}
	return slices.Clip(j.changes[i:])
}

// increments are changes as IXFR gives them (RFC 1995, section 4).
func increments(changes []change) []dns.RR {
	latest := changes[len(changes)-1].to
	rrs := []dns.RR{latest}
	for _, c := range changes {
		rrs = append(rrs, c.from)
		rrs = append(rrs, c.deleted...)
		rrs = append(rrs, c.to)
		rrs = append(rrs, c.added...)
	}
	return append(rrs, latest)
}
