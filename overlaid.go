package failover

import (
	"context"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/pool"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/nonwriter"

	"github.com/miekg/dns"
)

// overlaid is the writer for what the next plugins answer about a name in an overlay.
type overlaid struct {
	dns.ResponseWriter
	covered
	ctx   context.Context
	query *dns.Msg
	next  plugin.Handler
}

// WriteMsg passes m on with its addresses put right.
func (w *overlaid) WriteMsg(m *dns.Msg) error { return w.ResponseWriter.WriteMsg(w.revised(m)) }

// Write does the same for a message that is packed already.
func (w *overlaid) Write(wire []byte) (int, error) {
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		return 0, err
	}
	return len(wire), w.WriteMsg(m)
}

// revised is m where there is nothing to put right, and a copy of it otherwise: m is the next plugin's, as
// are its slices and its records, which may be somebody's zone.
//
// Addresses beside a referral are those of another zone's servers, and stay. So do those of a truncated
// message, which is asked for again over TCP.
func (w *overlaid) revised(m *dns.Msg) *dns.Msg {
	if len(m.Answer) == 0 || m.Truncated {
		return m
	}
	v := revision{overlaid: w, table: *w.overlay.known.Load()}
	answer := v.section(m.Answer, w.query.Question[0].Qtype)
	extra := v.section(m.Extra, dns.TypeNone)
	if v.tier != "" {
		w.counted.add(w.ctx, w.names[0], v.tier)
	}
	if !v.lowered && !v.reordered && v.extended == nil {
		return m
	}
	r := *m
	r.AuthenticatedData = m.AuthenticatedData && !v.reordered // any cache lowers TTLs
	r.Answer, r.Ns, r.Extra = slices.Clip(answer), slices.Clip(m.Ns), slices.Clip(extra)
	if v.denied != nil {
		v.deny(&r)
	}
	if v.extended != nil && w.query.IsEdns0() != nil {
		r.Extra = withOption(r.Extra, v.extended)
	}
	return &r
}

// revision is what becomes of one message.
type revision struct {
	*overlaid
	table     map[netip.Addr]*found // what the overlay knows
	lowered   bool                  // a TTL
	reordered bool                  // or something is left out, or put in its place
	tier      string                // that a set of the type asked for came from; "": there was none
	denied    *dns.RR_Header        // of the set that is not to be had; nil: none
	extended  *dns.EDNS0_EDE        // what is said about the set; nil: nothing
}

// setKey tells the sets of records in a section apart.
type setKey struct {
	owner string // in lower case
	rtype uint16
}

// recordSet is a set of records and what becomes of it.
type recordSet struct {
	rrs     []dns.RR
	signed  bool
	revised []dns.RR
	ttl     uint32 // at most; what signs it has the same (RFC 4034, section 3)
	done    bool   // it stands in the section
}

// section puts the addresses in a section right and returns the section, or a new one where anything
// changed. asked is the type of a set that a fallback may take the place of.
func (v *revision) section(rrs []dns.RR, asked uint16) []dns.RR {
	if first, end, ok := onlySet(rrs); ok {
		if first == end {
			return rrs
		}
		set := recordSet{rrs: rrs[first:end]}
		v.set(&set, asked)
		if first == 0 && end == len(rrs) {
			return set.revised
		}
		return slices.Concat(rrs[:first], set.revised, rrs[end:])
	}

	sets, order := make(map[setKey]*recordSet), []*recordSet{}
	of := make([]*recordSet, len(rrs))
	for i, rr := range rrs {
		rtype := rr.Header().Rrtype
		sig, isSig := rr.(*dns.RRSIG)
		if isSig {
			rtype = sig.TypeCovered
		}
		if rtype != dns.TypeA && rtype != dns.TypeAAAA && rtype != dns.TypeHTTPS && rtype != dns.TypeSVCB {
			continue
		}
		key := setKey{strings.ToLower(rr.Header().Name), rtype}
		if sets[key] == nil {
			sets[key] = new(recordSet)
			order = append(order, sets[key])
		}
		of[i] = sets[key]
		if isSig {
			of[i].signed = true
		} else {
			of[i].rrs = append(of[i].rrs, rr)
		}
	}
	for _, set := range order {
		v.set(set, asked)
	}
	section := make([]dns.RR, 0, len(rrs))
	for i, rr := range rrs {
		switch set := of[i]; {
		case set == nil:
			section = append(section, rr)
		case rr.Header().Rrtype == dns.TypeRRSIG:
			section = append(section, v.limited([]dns.RR{rr}, set.ttl)...)
		case !set.done:
			set.done = true
			section = append(section, set.revised...)
		}
	}
	return section
}

// onlySet returns where the addresses of a section begin and end, if these are one set that stands together
// and nothing else in the section has anything to do with addresses: so it is in most answers.
func onlySet(rrs []dns.RR) (first, end int, ok bool) {
	for i, rr := range rrs {
		switch h := rr.Header(); h.Rrtype {
		case dns.TypeA, dns.TypeAAAA:
			if end == 0 {
				first = i
			} else if before := rrs[first].Header(); end < i || h.Rrtype != before.Rrtype || !strings.EqualFold(h.Name, before.Name) {
				return 0, 0, false
			}
			end = i + 1
		case dns.TypeRRSIG, dns.TypeHTTPS, dns.TypeSVCB:
			return 0, 0, false
		}
	}
	return first, end, true
}

// set works out what becomes of a set.
func (v *revision) set(s *recordSet, asked uint16) {
	s.revised, s.ttl = s.rrs, math.MaxUint32
	if len(s.rrs) == 0 {
		return
	}
	switch rtype := s.rrs[0].Header().Rrtype; rtype {
	case dns.TypeA, dns.TypeAAAA:
		v.addresses(s, rtype == asked)
	default:
		v.hints(s)
	}
	s.revised = v.limited(s.revised, s.ttl)
}

// addresses chooses among the records of a set of addresses. Signed ones are put in order only: a part of
// them would not verify.
func (v *revision) addresses(s *recordSet, asked bool) {
	addrs := make([]netip.Addr, 0, 8) // on the stack, as long as there are no more
	for _, rr := range s.rrs {
		addr, ok := addressOf(rr)
		if !ok {
			return // of another making than the type says
		}
		addrs = append(addrs, addr)
	}
	places, used, ttl := v.judge(addrs)
	s.ttl = ttl
	if asked {
		v.tier = "0"
		if used == 0 {
			v.tier = "fallback"
		}
	}
	switch {
	case used > 0 && s.signed:
		s.revised = v.pick(s.rrs, places)
	case used > 0:
		s.revised = v.pick(s.rrs, v.cut(places, used))
	case asked && !s.signed && v.Fallback.Reply != pool.Next:
		v.fallback(s, addrs, places)
	}
}

// judge has the overlay choose among addresses, of which there is one at least. ttl is how long that can be
// relied on, in seconds: for ever where none of them is probed.
func (v *revision) judge(addrs []netip.Addr) (places []int, used int, ttl uint32) {
	health, probed := make([]pool.Health, 0, 8), false
	for _, a := range addrs {
		h, ok := v.health(a)
		health, probed = append(health, h), probed || ok
	}
	n := uint32(0)
	if v.Order == pool.Cyclic {
		turn := &v.overlay.turn
		if f := v.table[addrs[0]]; f != nil {
			turn = &f.turn // names do not turn each other
		}
		n = turn.Add(1) - 1
	}
	places, used, reliable := v.Sift(addrs, health, n)
	if !probed {
		return places, used, math.MaxUint32
	}
	return places, used, uint32(reliable / time.Second) // #nosec G115 -- a week at most
}

// health is what a choice has to know of an address, and whether it is, or will be, probed. What is not
// counts as up.
func (v *revision) health(a netip.Addr) (h pool.Health, probed bool) {
	if f := v.table[a]; f != nil {
		if age := v.age.Load(); f.asked.Load() != age {
			f.asked.Store(age)
		}
		return f.health(), true
	}
	h = pool.Health{Up: true, Next: math.MaxInt64}
	switch {
	case !v.mayProbe(a):
		v.notAllowed.Add(1)
	case len(v.table) >= v.limit:
		v.overflowed.Add(1)
	default:
		select {
		case v.fresh <- a:
		default:
		}
		h.Next, probed = time.Duration(v.settings.Fall)*v.settings.Recheck, true
	}
	return h, probed
}

// cut leaves the first places: those in use, and no more than an answer gives. nil is all of them as they
// stand, of which there are as many as are in use.
func (v *revision) cut(places []int, used int) []int {
	if v.Answer == 0 || v.Answer >= used {
		return places[:min(used, len(places))]
	}
	if places == nil {
		for i := range v.Answer {
			places = append(places, i)
		}
	}
	return places[:v.Answer]
}

// pick returns the records at places; see pick below.
func (v *revision) pick(rrs []dns.RR, places []int) []dns.RR {
	picked, changed := pick(rrs, places)
	v.reordered = v.reordered || changed
	return picked
}

// pick returns the items at places, or the same slice where that is all of them as they stand, as it is for
// nil.
func pick[T any](items []T, places []int) (picked []T, changed bool) {
	changed = places != nil && len(places) != len(items)
	for i, place := range places {
		changed = changed || i != place
	}
	if !changed {
		return items, false
	}
	picked = make([]T, len(places))
	for i, place := range places {
		picked[i] = items[place]
	}
	return picked, true
}

// limited returns records with a TTL of at most ttl: copies, where one has more.
func (v *revision) limited(rrs []dns.RR, ttl uint32) []dns.RR {
	if !slices.ContainsFunc(rrs, func(rr dns.RR) bool { return rr.Header().Ttl > ttl }) {
		return rrs
	}
	v.lowered = true
	return altered(rrs, func(h *dns.RR_Header) { h.Ttl = min(h.Ttl, ttl) })
}

// fallback puts what the operator chose in place of a set that is not usable.
func (v *revision) fallback(s *recordSet, addrs []netip.Addr, places []int) {
	owner := s.rrs[0].Header()
	v.extended = extendedError(&v.Fallback, false)
	switch {
	case v.Fallback.Reply != pool.Addresses:
		s.revised = nil
	case v.Fallback.Members == pool.Others:
		s.revised = v.others(owner, s.ttl)
	case v.Fallback.Members == pool.Last:
		v.extended = extendedError(&v.Fallback, true)
		places = v.last(addrs, places)
		s.revised = v.pick(s.rrs, v.cut(places, len(places)))
	default:
		s.revised = v.pick(s.rrs, v.cut(places, len(places)))
	}
	if len(s.revised) == 0 {
		v.reordered = true
		v.denied = &dns.RR_Header{Name: owner.Name, Ttl: s.ttl}
	}
}

// others are the records of the addresses that are given out in a fallback.
func (v *revision) others(owner *dns.RR_Header, ttl uint32) []dns.RR {
	var addrs []netip.Addr
	for _, m := range v.Fallback.Other {
		if m.Addr.Is4() == (owner.Rrtype == dns.TypeA) {
			addrs = append(addrs, m.Addr)
		}
	}
	v.reordered = true
	health := slices.Repeat([]pool.Health{{Up: true}}, len(addrs))
	places, used, _ := v.Sift(addrs, health, v.overlay.turn.Add(1)-1)
	rrs := records(owner.Name, addrs, ttl)
	return v.pick(rrs, v.cut(places, used))
}

// last leaves those of the places whose addresses worked last: as many as make a set usable.
func (v *revision) last(addrs []netip.Addr, places []int) []int {
	since := func(place int) time.Time {
		if f := v.table[addrs[place]]; f != nil {
			if b := f.belief.Load(); b.status == monitor.Down {
				return b.since
			}
		}
		return time.Now() // it works still
	}
	latest := slices.Clone(places)
	slices.SortStableFunc(latest, func(a, b int) int { return since(b).Compare(since(a)) })
	latest = latest[:min(len(latest), v.Min.Of(len(latest)))]
	return slices.DeleteFunc(slices.Clone(places), func(place int) bool { return !slices.Contains(latest, place) })
}

// hints leaves out what is down of the addresses in HTTPS and SVCB records (RFC 9460, section 7.3), unless
// the set is signed, or nothing would be left of a hint.
func (v *revision) hints(s *recordSet) {
	if s.signed {
		return
	}
	s.revised = make([]dns.RR, len(s.rrs))
	for i, rr := range s.rrs {
		s.revised[i] = rr
		switch rr := rr.(type) {
		case *dns.SVCB:
			if values, changed := v.values(s, rr.Value); changed {
				mine := *rr
				mine.Value = values
				s.revised[i] = &mine
			}
		case *dns.HTTPS:
			if values, changed := v.values(s, rr.Value); changed {
				mine := *rr
				mine.Value = values
				s.revised[i] = &mine
			}
		}
	}
}

// values are the parameters of a SVCB record with their hints put right.
func (v *revision) values(s *recordSet, values []dns.SVCBKeyValue) (mine []dns.SVCBKeyValue, changed bool) {
	mine = slices.Clone(values)
	for i, value := range values {
		switch value := value.(type) {
		case *dns.SVCBIPv4Hint:
			if hint, ok := v.hint(s, value.Hint); ok {
				mine[i], changed = &dns.SVCBIPv4Hint{Hint: hint}, true
			}
		case *dns.SVCBIPv6Hint:
			if hint, ok := v.hint(s, value.Hint); ok {
				mine[i], changed = &dns.SVCBIPv6Hint{Hint: hint}, true
			}
		}
	}
	v.reordered = v.reordered || changed
	return mine, changed
}

// hint chooses among the addresses of a hint.
func (v *revision) hint(s *recordSet, ips []net.IP) (hint []net.IP, changed bool) {
	addrs := make([]netip.Addr, 0, 8)
	for _, ip := range ips {
		addr, _ := netip.AddrFromSlice(ip)
		addrs = append(addrs, addr)
	}
	if len(addrs) == 0 {
		return ips, false
	}
	places, used, ttl := v.judge(addrs)
	s.ttl = min(s.ttl, ttl)
	if used == 0 {
		return ips, false
	}
	return pick(ips, v.cut(places, used))
}

// deny makes the message say that the addresses are not to be had.
func (v *revision) deny(m *dns.Msg) {
	m.Extra = slices.DeleteFunc(slices.Clone(m.Extra), func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeOPT })
	switch v.Fallback.Reply {
	case pool.ServFail, pool.Refused:
		m.Rcode = map[pool.Reply]int{pool.ServFail: dns.RcodeServerFailure, pool.Refused: dns.RcodeRefused}[v.Fallback.Reply]
		m.Authoritative = false
		m.Answer, m.Ns = nil, nil
		return
	case pool.NXDomain:
		m.Rcode = dns.RcodeNameError
	}
	soa := v.soa()
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, v.denied.Ttl)
	m.Ns = []dns.RR{soa}
}

// soa is the SOA that lets resolvers remember a denial: the next plugins', or ours where they have none.
func (v *revision) soa() *dns.SOA {
	owner := v.denied.Name
	asked := v.query.Copy()
	asked.Question[0] = dns.Question{Name: owner, Qtype: dns.TypeSOA, Qclass: dns.ClassINET}
	w := nonwriter.New(v.ResponseWriter)
	plugin.NextOrFailure("failover", v.next, v.ctx, w, asked)
	if w.Msg != nil {
		for _, rr := range slices.Concat(w.Msg.Answer, w.Msg.Ns) {
			if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, owner) {
				mine := *soa
				return &mine
			}
		}
	}
	return v.zone.soa(v.query.Question[0].Name)
}

// addressOf is the address in a record of one.
func addressOf(rr dns.RR) (addr netip.Addr, ok bool) {
	switch rr := rr.(type) {
	case *dns.A:
		addr, ok = netip.AddrFromSlice(rr.A)
		return addr.Unmap(), ok // package net has both forms of IPv4
	case *dns.AAAA:
		return netip.AddrFromSlice(rr.AAAA)
	}
	return addr, false
}
