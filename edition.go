package failover

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/coredns-failover/failover/plugin/rrset"
	"github.com/miekg/dns"
)

// edition is a zone as it went out, or may go out, under one serial number. It never changes.
type edition struct {
	soa  *dns.SOA
	sets rrset.Sets // without the SOA
	rest func() []dns.RR
}

// newEdition makes an edition that has no SOA yet.
func newEdition(sets rrset.Sets) *edition {
	e := &edition{sets: sets}
	e.rest = sync.OnceValue(e.sorted)
	return e
}

// records are all of the edition as AXFR gives them (RFC 5936, section 2.2): the SOA first and last.
func (e *edition) records() []dns.RR {
	return slices.Concat([]dns.RR{e.soa}, e.rest(), []dns.RR{e.soa})
}

// sorted is the edition without the SOA, in an order that is the same each time: what the apex has comes first.
func (e *edition) sorted() []dns.RR {
	apex := e.soa.Hdr.Name
	keys := slices.SortedFunc(maps.Keys(e.sets), func(a, b rrset.Key) int {
		switch {
		case a.Owner != b.Owner && a.Owner == apex:
			return -1
		case a.Owner != b.Owner && b.Owner == apex:
			return 1
		}
		return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Type, b.Type))
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
