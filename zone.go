package failover

import (
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// zone is a zone that pools make answers in. All server blocks and all generations of a Corefile
// share the zone of one origin, so that its serial only ever moves forward.
type zone struct {
	origin string
	serial atomic.Uint32 // seconds since 1970 of the latest change of an answer
}

// changed moves the serial to now, if that is forward (RFC 1982, section 3.2).
func (z *zone) changed(now time.Time) {
	after := uint32(now.Unix()) // #nosec G115 -- serials wrap (RFC 1982)
	for before := z.serial.Load(); before == 0 || after-before-1 < 1<<31-1; before = z.serial.Load() {
		if z.serial.CompareAndSwap(before, after) {
			return
		}
	}
}

// soa is the zone's SOA record for an answer to qname, as it was written in the query: the owner
// keeps its case. ttl goes for the record and, as RFC 2308 wants it, for the negative answer.
func (z *zone) soa(qname string, ttl uint32) *dns.SOA {
	return &dns.SOA{
		Hdr:     dns.RR_Header{Name: suffix(qname, z.origin), Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:      "ns.dns." + undotted(z.origin),
		Mbox:    "hostmaster." + undotted(z.origin),
		Serial:  z.serial.Load(),
		Refresh: 7200, // these three are the values of CoreDNS's other plugins that invent an SOA
		Retry:   1800,
		Expire:  86400,
		Minttl:  ttl,
	}
}

// suffix is the end of qname that is the origin, in the case of qname. A zone is never asked about a
// name outside of it.
func suffix(qname, origin string) string {
	if origin == "." {
		return "."
	}
	return qname[len(qname)-len(origin):]
}

func undotted(origin string) string {
	if origin == "." {
		return ""
	}
	return origin
}
