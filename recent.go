package failover

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/coredns-failover/failover/plugin/rrset"
	"github.com/miekg/dns"
)

// recent remembers what became of the sets that an overlay was asked for last: most answers are the same as
// the one before. A set takes the place of any other that its owner leads to, so it never grows.
type recent struct {
	seed   maphash.Seed
	places [1024]atomic.Pointer[remembered]
	turns  [1024]atomic.Uint32 // counts the answers of sets whose order changes from one to the next
}

// remembered is a set of addresses as the next plugins gave it, and what became of it. It never changes.
type remembered struct {
	version uint64 // of what was believed
	owner   string
	addrs   []netip.Addr
	ttls    []uint32
	outcome
}

// maxRemembered is how large a set may be: the sets of all places together must not be a burden.
const maxRemembered = 32

func (r *recent) place(set *dns.RR_Header) *atomic.Pointer[remembered] {
	return &r.places[(maphash.String(r.seed, set.Name)+uint64(set.Rrtype))%uint64(len(r.places))]
}

// turn is the number of an answer of a set, from 0. Families turn by themselves, as those of a pool do.
func (r *recent) turn(set *dns.RR_Header) uint32 {
	i := maphash.String(r.seed, strings.ToLower(set.Name)) + uint64(set.Rrtype)
	return r.turns[i%uint64(len(r.turns))].Add(1) - 1
}

// recall returns what became of the same set when the same was believed.
func (r *recent) recall(rrs []dns.RR, version uint64) (o outcome, ok bool) {
	owner := rrs[0].Header().Name
	m := r.place(rrs[0].Header()).Load()
	if m == nil || m.version != version || m.owner != owner || len(m.addrs) != len(rrs) {
		return o, false
	}
	for i, rr := range rrs {
		addr, ok := rrset.AddrOf(rr)
		if h := rr.Header(); !ok || addr != m.addrs[i] || h.Ttl != m.ttls[i] || h.Name != owner {
			return o, false
		}
	}
	o = m.outcome
	if !o.reordered && !o.lowered {
		o.rrs = rrs
	}
	return o, true
}

// remember keeps what became of a set: copies, as the records may be the next plugin's, who may change them.
func (r *recent) remember(rrs []dns.RR, addrs []netip.Addr, version uint64, o outcome) {
	if len(rrs) > maxRemembered {
		return
	}
	m := &remembered{version: version, owner: rrs[0].Header().Name, addrs: addrs, ttls: make([]uint32, len(rrs)), outcome: o}
	for i, rr := range rrs {
		m.ttls[i] = rr.Header().Ttl
	}
	m.rrs = nil
	if o.reordered || o.lowered {
		m.rrs = make([]dns.RR, len(o.rrs))
		for i, rr := range o.rrs {
			m.rrs[i] = dns.Copy(rr)
		}
	}
	r.place(rrs[0].Header()).Store(m)
}
