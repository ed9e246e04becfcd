package failover

import (
	"context"
	"slices"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/nonwriter"

	"github.com/miekg/dns"
)

// below is what the next plugins answer to a query for another name and type than that of r; nil: nothing.
func (f Failover) below(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name string, qtype uint16) *dns.Msg {
	if _, ok := dns.IsDomainName(name); !ok {
		return nil // it would be too long
	}
	asked := r.Copy()
	asked.Question[0] = dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
	found := nonwriter.New(w)
	plugin.NextOrFailure(f.Name(), f.Next, ctx, found, asked)
	return found.Msg
}

// soaBelow is the SOA of the zone that the next plugins have a name in, for the denial of a query; the caller's
// own to change. nil: they have none. One that is only hearsay, not an authority's, is for those whose answer is
// hearsay, too.
func (f Failover) soaBelow(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name string, hearsay bool) *dns.SOA {
	m := f.below(ctx, w, r, name, dns.TypeSOA)
	if m == nil || !m.Authoritative && !hearsay {
		return nil
	}
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, name) {
			mine := *soa
			return &mine
		}
	}
	return nil
}

// isData says whether a message shows that a name exists in a zone: by data, an alias or NODATA.
func isData(m *dns.Msg) bool {
	return m != nil && m.Authoritative && (len(m.Answer) > 0 || m.Rcode == dns.RcodeSuccess && len(m.Ns) > 0)
}

// isThere says whether a message shows that a name exists, or that a zone has it in its power but cannot tell.
func isThere(m *dns.Msg) bool {
	return isData(m) || m != nil && (isReferral(m) || m.Authoritative && m.Rcode == dns.RcodeServerFailure)
}

func isReferral(m *dns.Msg) bool {
	return m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0 && len(m.Ns) > 0 && m.Ns[0].Header().Rrtype == dns.TypeNS
}

// onlyByWildcard says of a name that the next plugins have whether they have it by a wildcard alone. A name that
// somebody wrote down stands between a wildcard and what is below it (RFC 4592, section 3.3.1); so where there is
// something below it that nobody can have written down, neither did anybody the name.
func (f Failover) onlyByWildcard(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name string) bool {
	return isData(f.below(ctx, w, r, "no-such-name.*."+name, dns.TypeA)) // with the asterisk no wildcard below it covers that
}
