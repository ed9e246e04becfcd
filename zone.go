package failover

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// zone is a zone that the pools of a generation make answers in.
type zone struct {
	origin string
	ns     string // the MNAME and
	mbox   string // the RNAME of its SOA
	ttl    uint32 // of negative answers: the least that any answer of its pools has, in seconds
	serial *serial
}

// newZone makes a zone without pools. Its SOA names the same hosts as those of CoreDNS's other plugins
// that invent one, as far as these fit into a name.
func newZone(origin string, s *serial) *zone {
	z := &zone{origin: origin, ns: "ns.dns." + origin, mbox: "hostmaster." + origin, ttl: math.MaxUint32, serial: s}
	if origin == "." {
		z.ns, z.mbox = "ns.dns.", "hostmaster."
	}
	if _, ok := dns.IsDomainName(z.mbox); !ok {
		z.ns, z.mbox = origin, origin
	}
	return z
}

// serial is the serial number of a zone: the second of the latest change, counted from 1970. All
// generations share that of an origin, so that it only ever moves forward.
type serial struct{ atomic.Uint32 }

// newSerial begins now.
func newSerial() *serial {
	s := new(serial)
	s.Store(uint32(time.Now().Unix())) // #nosec G115 -- serials wrap
	return s
}

// changed moves the serial to now, if that is forward (RFC 1982, section 3.2).
func (s *serial) changed(now time.Time) {
	after := uint32(now.Unix()) // #nosec G115 -- serials wrap
	for before := s.Load(); after-before-1 < 1<<31-1; before = s.Load() {
		if s.CompareAndSwap(before, after) {
			return
		}
	}
}

// soa is the zone's SOA record for an answer to qname, as it was written in the query: the owner
// keeps its case. Its TTL and its MINIMUM are those of negative answers (RFC 2308, section 5).
func (z *zone) soa(qname string) *dns.SOA {
	return &dns.SOA{
		Hdr:     dns.RR_Header{Name: suffix(qname, z.origin), Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: z.ttl},
		Ns:      z.ns,
		Mbox:    z.mbox,
		Serial:  z.serial.Load(),
		Refresh: 7200, // these three are the values of CoreDNS's other plugins that invent an SOA
		Retry:   1800,
		Expire:  86400,
		Minttl:  z.ttl,
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
