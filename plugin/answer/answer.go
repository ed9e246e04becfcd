// Package answer turns the choice of a pool into DNS records and replies.
//
// It is arithmetic: it reads no clock, opens no connection and takes no lock. A [Rotation] has atomic counters.
package answer

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/rrset"

	"github.com/miekg/dns"
)

// Types are the record types that pools have.
var Types = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSRV}

// Config is the part of a pool's configuration that its records depend on. It never changes. Pools with the same
// configuration share it.
type Config struct {
	Policy *pool.Policy
	HTTPS  bool               // the pool has HTTPS records
	Params []dns.SVCBKeyValue // the parameters of the HTTPS records

	// Derived has the names that SRV and HTTPS records make of a pool's name, by the text before the pool's name. It
	// is nil if the pool has no such records.
	Derived map[string]*Derived

	// protocolLabels has the labels that stand between an SRV owner and a name that a wildcard covers.
	protocolLabels map[string]bool
}

// NewConfig returns the configuration of a pool with SRV records for the services, and HTTPS records if https is set.
func NewConfig(p pool.Pool, services []string, https bool, params []dns.SVCBKeyValue) *Config {
	return &Config{
		Policy:         p.Policy,
		HTTPS:          https,
		Params:         params,
		Derived:        DerivedNames(services, p),
		protocolLabels: protocolLabels(services),
	}
}

// Authority gives the SOA record of a negative reply. The owner of the record is a suffix of qname, in the case of qname.
type Authority interface {
	SOA(qname string) *dns.SOA
}

// Has reports whether a pool has records of a type for a derived name, or for its own name if d is nil.
func (c *Config) Has(qtype uint16, d *Derived) bool {
	switch qtype {
	case dns.TypeANY:
		return true
	case dns.TypeA, dns.TypeAAAA:
		return d == nil || d.Addrs != nil
	case dns.TypeHTTPS:
		return d == nil && c.HTTPS
	case dns.TypeSRV:
		return d != nil && d.Addrs == nil
	}
	return false
}

// RecordTypes returns the record types that a pool has for a derived name, or for its own name if d is nil.
func (c *Config) RecordTypes(d *Derived) []uint16 {
	return slices.DeleteFunc(slices.Clone(Types), func(t uint16) bool { return !c.Has(t, d) })
}

// HostMsg returns the reply to a query for a host name that SRV and HTTPS records lead to. The reply has the host's
// addresses, whatever their status is.
func (c *Config) HostMsg(r *dns.Msg, a Authority, d *Derived) *dns.Msg {
	q := r.Question[0]
	for _, addr := range d.Addrs {
		if q.Qtype == dns.TypeANY || addr.Is4() == (q.Qtype == dns.TypeA) {
			m := new(dns.Msg).SetReply(r)
			m.Authoritative = true
			m.Answer = rrset.Addresses(q.Name, []netip.Addr{addr}, uint32(c.Policy.MaxTTL.Seconds()))
			return m
		}
	}
	return Negative(r, a, dns.RcodeSuccess)
}

// Msg returns the reply to a query for the pool's name, or for a derived name if d is not nil. The message belongs to
// the query. Its records may belong to the snapshot: the caller does not write to them.
func (s *Snapshot) Msg(r *dns.Msg, a Authority, d *Derived, rotation *Rotation) *dns.Msg {
	q := r.Question[0]
	var m *dns.Msg
	switch s.Reply {
	case pool.NXDomain:
		m = Negative(r, a, dns.RcodeNameError)
	case pool.ServFail:
		m = new(dns.Msg).SetRcode(r, dns.RcodeServerFailure)
	case pool.Refused:
		m = new(dns.Msg).SetRcode(r, dns.RcodeRefused)
	default:
		rrs, additional := s.records(q, d, rotation)
		if len(rrs) == 0 {
			m = Negative(r, a, dns.RcodeSuccess)
			break
		}
		m = new(dns.Msg).SetReply(r)
		m.Authoritative = true
		m.Answer, m.Extra = rrs, additional
	}
	if s.extra != nil && s.extra.extendedError != nil && r.IsEdns0() != nil {
		m.Extra = WithOption(m.Extra, s.extra.extendedError)
	}
	return m
}

// records returns the answer section and the additional section of the reply to a question.
func (s *Snapshot) records(q dns.Question, d *Derived, rotation *Rotation) (answer, additional []dns.RR) {
	switch {
	case d != nil:
		return s.srvRecords(q.Name, d.PrefixLen)
	case q.Qtype == dns.TypeHTTPS:
		return s.httpsRecords(q.Name)
	}
	return s.addresses(q.Qtype, q.Name, rotation), nil
}

// addresses returns the address records of the family that is asked for, in the order of this one reply.
func (s *Snapshot) addresses(qtype uint16, owner string, rotation *Rotation) []dns.RR {
	rrs, six := s.V4(), false
	if qtype == dns.TypeAAAA || qtype == dns.TypeANY && len(rrs) == 0 {
		rrs, six = s.V6(), true
	}
	if s.extra != nil {
		runs, turn := s.extra.runs4, &rotation.v4
		if six {
			runs, turn = s.extra.runs6, &rotation.v6
		}
		if runs != nil {
			rrs = pool.Turn(rrs, runs, s.config.Policy.Order, turn.Add(1)-1, s.config.Policy.Answer)
		}
	}
	return rrset.WithOwner(rrs, owner)
}

// RRsets returns the record sets that a zone has for the pool's name, or for a derived name if d is not nil. A set that
// the pool denies has no records. ok is false if no zone can express the pool's answer, as with SERVFAIL.
func (s *Snapshot) RRsets(owner string, d *Derived) (sets map[uint16][]dns.RR, ok bool) {
	if d == nil || d.Addrs == nil {
		switch s.Reply {
		case pool.ServFail, pool.Refused, pool.Next:
			return nil, false
		}
	}
	sets = make(map[uint16][]dns.RR, 2)
	switch {
	case d == nil:
		sets[dns.TypeA], sets[dns.TypeAAAA] = s.limit(rrset.WithOwner(s.V4(), owner)), s.limit(rrset.WithOwner(s.V6(), owner))
		if s.config.HTTPS {
			sets[dns.TypeHTTPS], _ = s.httpsRecords(owner)
			if strings.HasPrefix(owner, "*.") { // a target would lie below each name that the wildcard covers
				sets[dns.TypeHTTPS] = slices.DeleteFunc(sets[dns.TypeHTTPS], func(rr dns.RR) bool { return rr.(*dns.HTTPS).Target != "." })
			}
		}
	case d.Addrs == nil:
		sets[dns.TypeSRV], _ = s.srvRecords(owner, d.PrefixLen)
	default:
		sets[dns.TypeA], sets[dns.TypeAAAA] = nil, nil
		for _, addr := range d.Addrs {
			host := rrset.Addresses(owner, []netip.Addr{addr}, uint32(s.config.Policy.MaxTTL.Seconds()))
			sets[host[0].Header().Rrtype] = host
		}
	}
	return sets, true
}

// limit returns as many records as one answer gives. A set whose order rotates has all its records until here.
func (s *Snapshot) limit(rrs []dns.RR) []dns.RR {
	if most := s.config.Policy.Answer; most > 0 && most < len(rrs) {
		return rrs[:most]
	}
	return rrs
}

// Negative returns a reply with the rcode and no records but the SOA, which lets resolvers keep it (RFC 2308).
func Negative(r *dns.Msg, a Authority, rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(r, rcode)
	m.Authoritative = true
	m.Ns = []dns.RR{a.SOA(r.Question[0].Name)}
	return m
}

// WithOption returns a copy of an additional section with one more EDNS option.
func WithOption(additional []dns.RR, option dns.EDNS0) []dns.RR {
	additional = slices.Clone(additional)
	for i, rr := range additional {
		if opt, ok := rr.(*dns.OPT); ok {
			additional[i] = &dns.OPT{Hdr: opt.Hdr, Option: append(slices.Clip(opt.Option), option)}
			return additional
		}
	}
	// The server sets the other fields of the OPT record, because it knows the size that the client can take.
	return append(additional, &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}, Option: []dns.EDNS0{option}})
}
