package failover

import (
	"slices"
	"strings"

	"github.com/coredns-failover/failover/plugin/pool"

	"github.com/miekg/dns"
)

// answer is the reply to a query for the addresses of a pool. The message is the query's own; its
// records belong to the snapshot.
func (p *livePool) answer(r *dns.Msg, z *zone, s *snapshot) *dns.Msg {
	q := r.Question[0]
	var m *dns.Msg
	switch s.choice.Reply {
	case pool.NXDomain:
		m = negative(r, z, dns.RcodeNameError, s.ttl)
	case pool.ServFail:
		m = new(dns.Msg).SetRcode(r, dns.RcodeServerFailure)
	case pool.Refused:
		m = new(dns.Msg).SetRcode(r, dns.RcodeRefused)
	default:
		rrs := p.addresses(s, q.Qtype, q.Name)
		if len(rrs) == 0 {
			m = negative(r, z, dns.RcodeSuccess, s.ttl)
			break
		}
		m = new(dns.Msg).SetReply(r)
		m.Authoritative = true
		m.Answer = rrs
	}
	if s.extended != nil && r.IsEdns0() != nil {
		// The server fills in all but the option, for it is the one to know what the client can take.
		m.Extra = []dns.RR{&dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}, Option: []dns.EDNS0{s.extended}}}
	}
	return m
}

// negative is the reply that there is no such name or no such data, with the SOA that lets resolvers
// remember it for ttl (RFC 2308).
func negative(r *dns.Msg, z *zone, rcode int, ttl uint32) *dns.Msg {
	m := new(dns.Msg).SetRcode(r, rcode)
	m.Authoritative = true
	m.Ns = []dns.RR{z.soa(r.Question[0].Name, ttl)}
	return m
}

// negativeTTL is for names that do not exist, or have no data in any state of the pools: only another
// Corefile changes that, and five seconds are what cache would make of anything less.
const negativeTTL = 5

// isUnknown says whether a query came to the end of the chain without an answer. CoreDNS has no error
// value for that, only plugin.NextOrFailure's text.
func isUnknown(rcode int, err error) bool {
	return rcode == dns.RcodeServerFailure && err != nil && strings.HasSuffix(err.Error(), "no next plugin found")
}

// existing is the writer for the next plugin's answer about a name that exists here.
type existing struct {
	dns.ResponseWriter
	query *dns.Msg
	zone  *zone
	ttl   uint32
}

// WriteMsg passes m on, and a denial of the name as one of its type only.
func (e *existing) WriteMsg(m *dns.Msg) error {
	denied := len(m.Answer) == 0 && m.Rcode == dns.RcodeNameError || m.Rcode == dns.RcodeSuccess && isBare(m)
	if !denied || m.Truncated { // what is missing may be in the answer over TCP
		return e.ResponseWriter.WriteMsg(m)
	}
	soa := slices.IndexFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
	if soa < 0 || e.ofApex() {
		return e.ResponseWriter.WriteMsg(e.own())
	}
	nodata := *m // m and its records are the next plugin's
	nodata.Rcode = dns.RcodeSuccess
	nodata.AuthenticatedData = false
	nodata.Ns = []dns.RR{m.Ns[soa]} // without the proof that there is no such name (RFC 8198)
	return e.ResponseWriter.WriteMsg(&nodata)
}

// isBare says whether m has nothing but an OPT record: no answer, no referral, no SOA.
func isBare(m *dns.Msg) bool {
	return len(m.Answer) == 0 && len(m.Ns) == 0 && (len(m.Extra) == 0 || len(m.Extra) == 1 && m.IsEdns0() != nil)
}

// ofApex says whether the query is for the zone's own SOA.
func (e *existing) ofApex() bool {
	q := e.query.Question[0]
	return q.Qtype == dns.TypeSOA && strings.EqualFold(q.Name, e.zone.origin)
}

// own is the answer where the next plugin has none.
func (e *existing) own() *dns.Msg {
	m := negative(e.query, e.zone, dns.RcodeSuccess, e.ttl)
	if e.ofApex() {
		m.Answer, m.Ns = m.Ns, nil
	}
	return m
}

// known is a writer that lets through only what shows that a name exists in the zone: data, NODATA or
// a referral.
type known struct {
	dns.ResponseWriter
	written bool
}

// WriteMsg passes m on or drops it.
func (k *known) WriteMsg(m *dns.Msg) error {
	referral := len(m.Answer) == 0 && len(m.Ns) > 0 && m.Ns[0].Header().Rrtype == dns.TypeNS
	exists := m.Authoritative && (len(m.Answer) > 0 || len(m.Ns) > 0)
	if m.Rcode != dns.RcodeSuccess || !referral && !exists {
		return nil
	}
	k.written = true
	return k.ResponseWriter.WriteMsg(m)
}
