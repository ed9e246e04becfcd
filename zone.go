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

// serial is the serial number of a zone: the second of the latest change, counted from 1970. The generations
// share it, so that it only ever moves forward.
type serial struct{ atomic.Uint32 }

// newSerial begins a second from now: this one may be used up, by the process before.
func newSerial() *serial {
	s := new(serial)
	s.Store(second(time.Now()) + 1)
	return s
}

// second is a time as a serial.
func second(t time.Time) uint32 { return uint32(t.Unix()) } // #nosec G115 -- serials wrap

// changed moves the serial to now, if that is forward.
func (s *serial) changed(now time.Time) { s.advance(second(now)) }

// advance moves the serial, if that is forward.
func (s *serial) advance(to uint32) {
	for before := s.Load(); isAfter(to, before); before = s.Load() {
		if s.CompareAndSwap(before, to) {
			return
		}
	}
}

// isAfter says whether a serial number is greater than another (RFC 1982, section 3.2).
func isAfter(a, b uint32) bool { return a-b-1 < 1<<31-1 }

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
