package failover

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/rrset"

	"github.com/miekg/dns"
)

// has says whether a pool has records of a type for a name in a role.
func (p *livePool) has(qtype uint16, as *role) bool {
	switch qtype {
	case dns.TypeANY:
		return true
	case dns.TypeA, dns.TypeAAAA:
		return as == nil || as.targets != nil
	case dns.TypeHTTPS:
		return as == nil && p.https
	case dns.TypeSRV:
		return as != nil && as.targets == nil
	}
	return false
}

// ofPools are the types of records that pools have.
var ofPools = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSRV}

// types are the types of records that a pool has for a name in a role.
func (p *livePool) types(as *role) []uint16 {
	return slices.DeleteFunc(slices.Clone(ofPools), func(t uint16) bool { return !p.has(t, as) })
}

// records are what the pool has for a query, and what goes with it.
func (p *livePool) records(s *snapshot, q dns.Question, as *role) (answer, extra []dns.RR) {
	switch {
	case as != nil:
		return s.srvs(q.Name, as.prefix)
	case q.Qtype == dns.TypeHTTPS:
		return p.httpsOf(s, q.Name)
	}
	return p.addresses(s, q.Qtype, q.Name), nil
}

// target is the reply to a query for the target of records: its address, whatever the status of that.
func (p *livePool) target(r *dns.Msg, z *zone, as *role) *dns.Msg {
	q := r.Question[0]
	for _, addr := range as.targets {
		if q.Qtype == dns.TypeANY || addr.Is4() == (q.Qtype == dns.TypeA) {
			m := new(dns.Msg).SetReply(r)
			m.Authoritative = true
			m.Answer = rrset.Addresses(q.Name, []netip.Addr{addr}, uint32(p.MaxTTL.Seconds()))
			return m
		}
	}
	return negative(r, z, dns.RcodeSuccess)
}

// answer is the reply to a query for what a pool has for a name in a role. The message is the query's own;
// its records may belong to the snapshot.
func (p *livePool) answer(r *dns.Msg, z *zone, s *snapshot, as *role) *dns.Msg {
	q := r.Question[0]
	var m *dns.Msg
	switch s.choice.Reply {
	case pool.NXDomain:
		m = negative(r, z, dns.RcodeNameError)
	case pool.ServFail:
		m = new(dns.Msg).SetRcode(r, dns.RcodeServerFailure)
	case pool.Refused:
		m = new(dns.Msg).SetRcode(r, dns.RcodeRefused)
	default:
		rrs, extra := p.records(s, q, as)
		if len(rrs) == 0 {
			m = negative(r, z, dns.RcodeSuccess)
			break
		}
		m = new(dns.Msg).SetReply(r)
		m.Authoritative = true
		m.Answer, m.Extra = rrs, extra
	}
	if s.extended != nil && r.IsEdns0() != nil {
		m.Extra = withOption(m.Extra, s.extended)
	}
	return m
}

// sets are what a pool has for a name in a role as a zone would hold it: the records of each of its types, none
// where it denies them. Not ok: no zone can say what the pool answers.
func (p *livePool) sets(s *snapshot, name string, as *role) (sets map[uint16][]dns.RR, ok bool) {
	if as == nil || as.targets == nil {
		switch s.choice.Reply {
		case pool.ServFail, pool.Refused, pool.Next:
			return nil, false
		}
	}
	sets = make(map[uint16][]dns.RR, 2)
	switch {
	case as == nil:
		sets[dns.TypeA], sets[dns.TypeAAAA] = p.front(rrset.WithOwner(s.v4(), name)), p.front(rrset.WithOwner(s.v6(), name))
		if p.https {
			sets[dns.TypeHTTPS], _ = p.httpsOf(s, name)
			if strings.HasPrefix(name, "*.") { // a target would lie below each name that the wildcard is for
				sets[dns.TypeHTTPS] = slices.DeleteFunc(sets[dns.TypeHTTPS], func(rr dns.RR) bool { return rr.(*dns.HTTPS).Target != "." })
			}
		}
	case as.targets == nil:
		sets[dns.TypeSRV], _ = s.srvs(name, as.prefix)
	default:
		sets[dns.TypeA], sets[dns.TypeAAAA] = nil, nil
		for _, addr := range as.targets {
			of := rrset.Addresses(name, []netip.Addr{addr}, uint32(p.MaxTTL.Seconds()))
			sets[of[0].Header().Rrtype] = of
		}
	}
	return sets, true
}

// withOption returns an additional section with an EDNS option more in it.
func withOption(extra []dns.RR, option dns.EDNS0) []dns.RR {
	extra = slices.Clone(extra)
	for i, rr := range extra {
		if opt, ok := rr.(*dns.OPT); ok {
			extra[i] = &dns.OPT{Hdr: opt.Hdr, Option: append(slices.Clip(opt.Option), option)}
			return extra
		}
	}
	// The server fills in all but the option, for it is the one to know what the client can take.
	return append(extra, &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}, Option: []dns.EDNS0{option}})
}

// negative is the reply that there is no such name or no such data, with the SOA that lets resolvers
// remember it for a while (RFC 2308).
func negative(r *dns.Msg, z *zone, rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(r, rcode)
	m.Authoritative = true
	m.Ns = []dns.RR{z.soa(r.Question[0].Name)}
	return m
}

// isUnknown says whether a query came to the end of the chain with nobody to answer it. CoreDNS has no
// error value for that, only plugin.NextOrFailure's text; and file and auto refuse it there.
func isUnknown(rcode int, err error) bool {
	if err == nil {
		return rcode == dns.RcodeRefused
	}
	return rcode == dns.RcodeServerFailure && strings.HasSuffix(err.Error(), "no next plugin found")
}

// watched is a writer that knows whether anything was written, whatever the plugin that did it returns.
type watched struct {
	dns.ResponseWriter
	written bool
}

// WriteMsg passes m on.
func (w *watched) WriteMsg(m *dns.Msg) error {
	w.written = true
	return w.ResponseWriter.WriteMsg(m)
}

// brief is the writer for an answer of the next plugin that is given in place of a pool's, and no longer.
type brief struct {
	dns.ResponseWriter
	ttl uint32
}

// WriteMsg passes a copy of m on, as it is the next plugin's, with TTLs of its answer, or its denial, that are no longer.
func (b *brief) WriteMsg(m *dns.Msg) error {
	mine := *m
	section := &mine.Answer
	if len(m.Answer) == 0 {
		section = &mine.Ns
	}
	*section = slices.Clone(*section)
	for i, rr := range *section {
		(*section)[i] = rrset.LimitTTL([]dns.RR{rr}, b.ttl)[0]
	}
	return b.ResponseWriter.WriteMsg(&mine)
}

// existing is the writer for the next plugin's answer about a name that exists here.
type existing struct {
	watched
	query *dns.Msg
	zone  *zone
	gone  bool // it exists only if the next plugin says so
}

// WriteMsg passes m on, and a denial of the name as one of its type only.
func (e *existing) WriteMsg(m *dns.Msg) error {
	denied := len(m.Answer) == 0 && m.Rcode == dns.RcodeNameError || m.Rcode == dns.RcodeSuccess && isBare(m)
	if !denied || m.Truncated { // what is missing may be in the answer over TCP
		return e.watched.WriteMsg(m)
	}
	soa := slices.IndexFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
	if soa < 0 || e.ofApex() {
		return e.watched.WriteMsg(e.own())
	}
	if e.gone { // for no longer than the pool says so
		return (&brief{&e.watched, e.zone.ttl}).WriteMsg(m)
	}
	nodata := *m // m and its records are the next plugin's
	nodata.Rcode = dns.RcodeSuccess
	nodata.AuthenticatedData = false
	nodata.Ns = []dns.RR{m.Ns[soa]} // without the proof that there is no such name (RFC 8198)
	return e.watched.WriteMsg(&nodata)
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
	rcode := dns.RcodeSuccess
	if e.gone {
		rcode = dns.RcodeNameError
	}
	m := negative(e.query, e.zone, rcode)
	q := e.query.Question[0]
	switch {
	case e.ofApex():
		m.Answer, m.Ns = m.Ns, nil
	case q.Qtype == dns.TypeNS && len(e.zone.ns) > 0 && strings.EqualFold(q.Name, e.zone.origin):
		m.Answer, m.Ns = e.zone.nameservers(q.Name), nil
	}
	return m
}
