package failover

import (
	"errors"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// base is a zone as the next plugins have it. It never changes.
type base struct {
	soa  *dns.SOA
	sets recordSets
	cuts map[string]uint16 // where the zone ends, NS, and what leads elsewhere with all names below it, DNAME

	others map[string]bool // the names with records that no pool takes the place of
	wild   bool            // there are wildcards
}

// readBase reads a zone from another plugin. One record is the SOA of what is known already.
func readBase(apex string, ch <-chan []dns.RR, known *base) (*base, error) {
	b := &base{sets: make(recordSets), cuts: make(map[string]uint16), others: make(map[string]bool)}
	records := 0
	for rrs := range ch {
		for _, rr := range rrs {
			records++
			key := setKey{strings.ToLower(rr.Header().Name), rr.Header().Rrtype}
			if soa, ok := rr.(*dns.SOA); ok {
				if b.soa == nil {
					b.soa = soa
				}
				continue
			}
			b.sets.add(key, rr)
			b.wild = b.wild || strings.HasPrefix(key.owner, "*.")
			if key.rtype == dns.TypeDNAME || key.rtype == dns.TypeNS && key.owner != apex {
				b.cuts[key.owner] = key.rtype
			}
			if !slices.Contains(ofPools, key.rtype) && key.rtype != dns.TypeCNAME {
				b.others[key.owner] = true
			}
		}
	}
	if b.soa == nil {
		return nil, errors.New("zone " + apex + " of the next plugin has no SOA record")
	}
	if records == 1 && known != nil {
		return known, nil
	}
	for key, rrs := range b.sets {
		b.sets[key] = uniform(rrs)
	}
	return b, nil
}

// uniform is a set with each record once, and with one TTL, the least (RFC 2181, sections 5 and 5.2).
func uniform(rrs []dns.RR) []dns.RR {
	if len(rrs) == 1 {
		return rrs
	}
	seen, ttl, same := make(map[string]bool, len(rrs)), rrs[0].Header().Ttl, true
	kept := make([]dns.RR, 0, len(rrs))
	for _, rr := range rrs {
		h := rr.Header()
		same, ttl = same && h.Ttl == ttl, min(ttl, h.Ttl)
		if data := dataOf(rr); !seen[data] {
			seen[data] = true
			kept = append(kept, rr)
		}
	}
	switch {
	case !same:
		return limited(kept, ttl)
	case len(kept) < len(rrs):
		return kept
	}
	return rrs
}

// signed says whether whoever wrote the zone has signed it, so that it cannot be changed any more.
func (b *base) signed() bool {
	return len(b.sets[setKey{strings.ToLower(b.soa.Hdr.Name), dns.TypeDNSKEY}]) > 0
}

// cut is what stands between the apex and a name that lies in the zone no more, or at the name itself; 0: nothing.
func (b *base) cut(name string) uint16 {
	if b == nil || len(b.cuts) == 0 {
		return 0
	}
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if rtype := b.cuts[name[off:]]; rtype == dns.TypeNS || rtype == dns.TypeDNAME && off > 0 {
			return rtype
		}
	}
	return 0
}

// same says whether both are the same zone with the same records.
func (b *base) same(other *base) bool {
	if b == other {
		return true
	}
	deleted, added := difference(b.sets, other.sets)
	return len(deleted)+len(added) == 0 && sameSOA(b.soa, other.soa)
}

// sameSOA says whether two SOA records are the same, their TTL included.
func sameSOA(a, b *dns.SOA) bool { return a.Hdr.Ttl == b.Hdr.Ttl && dns.IsDuplicate(a, b) }
