package failover

import (
	"cmp"
	"math"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/dnsname"
	"github.com/miekg/dns"
)

// zone is a zone that the pools of a generation make answers in.
type zone struct {
	origin string
	authority
	ttl    uint32 // of negative answers: the least that any answer of its pools has, in seconds
	serial *serial
}

// authority is who is responsible for a zone.
type authority struct {
	mname, rname string   // of the SOA; "": the zone says
	ns           []string // its name servers; none: it has no NS records, and is for no secondary
}

// nsTTL is the TTL of NS records, in seconds: they change when the operator says so.
const nsTTL = 3600

// newZone makes a zone without pools. What its SOA does not say is the first name server, and the hosts that
// CoreDNS's other plugins name that invent one, as far as these fit into a name.
func newZone(origin string, by authority, s *serial) *zone {
	z := &zone{origin: origin, authority: by, ttl: math.MaxUint32, serial: s}
	mname, rname := "ns.dns."+origin, "hostmaster."+origin
	if origin == "." {
		mname, rname = "ns.dns.", "hostmaster."
	}
	if _, ok := dns.IsDomainName(rname); !ok {
		mname, rname = origin, origin
	}
	if len(z.ns) > 0 {
		mname = z.ns[0]
	}
	z.mname, z.rname = cmp.Or(z.mname, mname), cmp.Or(z.rname, rname)
	return z
}

// nameservers are the zone's NS records.
func (z *zone) nameservers(owner string) []dns.RR {
	rrs := make([]dns.RR, len(z.ns))
	for i, name := range z.ns {
		rrs[i] = &dns.NS{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: nsTTL}, Ns: name}
	}
	return rrs
}

// serial is the serial number of a zone: the second of the latest change, counted from 1970. The generations
// share it, so that it only ever moves forward.
type serial struct{ atomic.Uint32 }

// newSerial begins now.
func newSerial() *serial {
	s := new(serial)
	s.Store(second(time.Now()))
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
func (z *zone) SOA(qname string) *dns.SOA {
	refresh, retry := uint32(7200), uint32(1800) // as CoreDNS's other plugins have it that invent an SOA
	if len(z.ns) > 0 {
		refresh, retry = 60, 10 // a NOTIFY that is lost must not cost a secondary hours
	}
	return &dns.SOA{
		Hdr:     dns.RR_Header{Name: dnsname.OriginIn(qname, z.origin), Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: z.ttl},
		Ns:      z.mname,
		Mbox:    z.rname,
		Serial:  z.serial.Load(),
		Refresh: refresh,
		Retry:   retry,
		Expire:  86400,
		Minttl:  z.ttl,
	}
}
