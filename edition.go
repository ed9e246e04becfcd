package failover

import (
	"cmp"
	"maps"
	"slices"

	"github.com/miekg/dns"
)

// edition is a zone as it went out, or may go out, under one serial number. It never changes.
type edition struct {
	soa  *dns.SOA
	sets recordSets // without the SOA
}

// recordSets are the records of a zone by their owner and type.
type recordSets map[setKey][]dns.RR

// add puts a record into its set.
func (s recordSets) add(key setKey, rr dns.RR) { s[key] = append(s[key], rr) }

// records are all of the edition as AXFR gives them (RFC 5936, section 2.2): the SOA first and last, and next to it
// what else the apex has.
func (e *edition) records() []dns.RR {
	apex := e.soa.Hdr.Name
	keys := slices.SortedFunc(maps.Keys(e.sets), func(a, b setKey) int {
		return cmp.Or(-compareBool(a.owner == apex, b.owner == apex), cmp.Compare(a.owner, b.owner), cmp.Compare(a.rtype, b.rtype))
	})
	rrs := []dns.RR{e.soa}
	for _, key := range keys {
		rrs = append(rrs, e.sets[key]...)
	}
	return append(rrs, e.soa)
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
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

// missing are the records of a set that another does not have, with the same TTL.
func missing(rrs, other []dns.RR) []dns.RR {
	if len(rrs) == len(other) && (len(rrs) == 0 || &rrs[0] == &other[0]) {
		return nil // the same memory, as it is in most sets of two editions
	}
	var lost []dns.RR
	for i, rr := range rrs {
		same := func(o dns.RR) bool { return rr.Header().Ttl == o.Header().Ttl && dns.IsDuplicate(rr, o) }
		if i < len(other) && same(other[i]) || slices.ContainsFunc(other, same) {
			continue
		}
		lost = append(lost, rr)
	}
	return lost
}

// sameData says whether two sets are the same but for their order and their TTL.
func sameData(a, b []dns.RR) bool {
	if len(a) != len(b) {
		return false
	}
	for i, rr := range a {
		if !dns.IsDuplicate(rr, b[i]) && !slices.ContainsFunc(b, func(o dns.RR) bool { return dns.IsDuplicate(rr, o) }) {
			return false
		}
	}
	return true
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

// add appends a change of a zone of so many records.
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
