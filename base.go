package failover

import (
	"errors"
	"slices"
	"strings"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/rrset"
	"github.com/miekg/dns"
)

// base is a zone as the next plugins have it. It never changes.
type base struct {
	soa  *dns.SOA
	sets rrset.Sets
	cuts map[string]uint16 // where the zone ends, NS, and what leads elsewhere with all names below it, DNAME

	others map[string]bool // the names with records that no pool takes the place of
	wild   bool            // there are wildcards
}

// readBase reads a zone from another plugin. One record is the SOA of what is known already.
func readBase(apex string, ch <-chan []dns.RR, known *base) (*base, error) {
	b := &base{sets: make(rrset.Sets), cuts: make(map[string]uint16), others: make(map[string]bool)}
	records := 0
	for rrs := range ch {
		for _, rr := range rrs {
			records++
			key := rrset.Key{Owner: strings.ToLower(rr.Header().Name), Type: rr.Header().Rrtype}
			if soa, ok := rr.(*dns.SOA); ok {
				if b.soa == nil {
					b.soa = soa
				}
				continue
			}
			b.sets.Add(key, rr)
			b.wild = b.wild || strings.HasPrefix(key.Owner, "*.")
			if key.Type == dns.TypeDNAME || key.Type == dns.TypeNS && key.Owner != apex {
				b.cuts[key.Owner] = key.Type
			}
			if !slices.Contains(answer.Types, key.Type) && key.Type != dns.TypeCNAME {
				b.others[key.Owner] = true
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
		b.sets[key] = rrset.Uniform(rrs)
	}
	return b, nil
}

// signed says whether whoever wrote the zone has signed it, so that it cannot be changed any more.
func (b *base) signed() bool {
	return len(b.sets[rrset.Key{Owner: strings.ToLower(b.soa.Hdr.Name), Type: dns.TypeDNSKEY}]) > 0
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
	deleted, added := rrset.Difference(b.sets, other.sets)
	return len(deleted)+len(added) == 0 && rrset.EqualSOA(b.soa, other.soa)
}
