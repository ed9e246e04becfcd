package failover

import (
	"slices"
	"strings"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/rrset"

	"github.com/miekg/dns"
)

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
	m := answer.Negative(e.query, e.zone, rcode)
	q := e.query.Question[0]
	switch {
	case e.ofApex():
		m.Answer, m.Ns = m.Ns, nil
	case q.Qtype == dns.TypeNS && len(e.zone.ns) > 0 && strings.EqualFold(q.Name, e.zone.origin):
		m.Answer, m.Ns = e.zone.nameservers(q.Name), nil
	}
	return m
}
