package failover

import (
	"cmp"
	"context"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/rrset"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// overlaid is the writer for what the next plugins answer about a name in an overlay.
type overlaid struct {
	dns.ResponseWriter
	*covered
	ctx   context.Context
	query *dns.Msg
	next  plugin.Handler
	own   dns.Msg // what is written in place of a message that has something to put right
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
// Addresses beside a referral are those of another zone's servers, and stay, as do all that are not there for
// the sake of the answer. So do those of a truncated message, which is asked for again over TCP.
func (w *overlaid) revised(m *dns.Msg) *dns.Msg {
	if len(m.Answer) == 0 || m.Truncated {
		return m
	}
	v := revision{overlaid: w, version: w.version.Load(), table: *w.known.Load()}
	section := v.section(m.Answer, w.query.Question[0].Qtype)
	extra := m.Extra
	if len(m.Extra) > 0 && slices.ContainsFunc(m.Answer, hasTarget) {
		extra = v.section(m.Extra, dns.TypeNone)
	}
	if v.tier != "" {
		w.counted.add(w.ctx, w.names[0], v.tier)
	}
	if !v.lowered && !v.reordered && v.extended == nil {
		return m
	}
	r := &w.own
	*r = *m
	r.AuthenticatedData = m.AuthenticatedData && !v.reordered // any cache lowers TTLs
	r.Answer, r.Ns, r.Extra = slices.Clip(section), slices.Clip(m.Ns), slices.Clip(extra)
	if v.denied != nil && !slices.ContainsFunc(section, func(rr dns.RR) bool { return rr.Header().Rrtype == w.query.Question[0].Qtype }) {
		v.deny(r)
	}
	if v.extended != nil && w.query.IsEdns0() != nil {
		r.Extra = answer.WithOption(r.Extra, v.extended)
	}
	return r
}

// revised is a set of the zone that the next plugins have, as it is answered. Not ok: no zone can say it.
func (c *covered) revised(rrs []dns.RR) (revised []dns.RR, ok bool) {
	rtype := rrs[0].Header().Rrtype
	w := &overlaid{covered: c, query: new(dns.Msg).SetQuestion(rrs[0].Header().Name, rtype)}
	v := revision{overlaid: w, version: w.version.Load(), table: *w.known.Load(), still: true}
	s := &recordSet{given: rrs}
	v.set(s, rtype)
	if reply := c.Fallback.Reply; len(s.rrs) == 0 && (reply == pool.ServFail || reply == pool.Refused) {
		return nil, false
	}
	return s.rrs, true
}

// hasTarget says whether a record has a name in it whose addresses go with it.
func hasTarget(rr dns.RR) bool {
	switch rr.Header().Rrtype {
	case dns.TypeSRV, dns.TypeMX, dns.TypeNS, dns.TypeHTTPS, dns.TypeSVCB:
		return true
	}
	return false
}

// revision is what becomes of one message.
type revision struct {
	*overlaid
	version   uint64                // of what is believed
	table     map[netip.Addr]*found // what is known
	reordered bool                  // or something is left out, or put in its place
	lowered   bool                  // a TTL
	tier      string                // that a set of the type asked for came from; "": there was none
	denied    *dns.RR_Header        // of the set that is not to be had; nil: none
	extended  *dns.EDNS0_EDE        // what is said about the set; nil: nothing
	still     bool                  // the order does not turn
}

// recordSet is a set of records and what becomes of it.
type recordSet struct {
	given  []dns.RR // never empty
	signed bool
	outcome
	places int // of the set in its section that are not taken yet
}

// outcome is what becomes of a set of records.
type outcome struct {
	rrs       []dns.RR // may be those of the set
	ttl       uint32   // at most; what signs the set has the same (RFC 4034, section 3)
	reordered bool     // or something is left out, or put in its place
	lowered   bool     // a TTL
}

// section puts the addresses in a section right and returns the section, or a new one where anything
// changed. asked is the type of a set that a fallback may take the place of.
func (v *revision) section(rrs []dns.RR, asked uint16) []dns.RR {
	if first, end, ok := onlySet(rrs); ok {
		if first == end {
			return rrs
		}
		set := recordSet{given: rrs[first:end]}
		v.set(&set, asked)
		if first == 0 && end == len(rrs) {
			return set.rrs
		}
		return slices.Concat(rrs[:first], set.rrs, rrs[end:])
	}
	sets, of := setsOf(rrs)
	for _, set := range sets {
		v.set(set, asked)
	}
	section := make([]dns.RR, 0, len(rrs))
	for i, rr := range rrs {
		switch set := of[i]; {
		case set == nil:
			section = append(section, rr)
		case rr.Header().Rrtype == dns.TypeRRSIG:
			section = append(section, rrset.LimitTTL([]dns.RR{rr}, set.ttl)...)
		default: // each in the place of another, and what is more in the last
			n := min(1, len(set.rrs))
			if set.places--; set.places == 0 {
				n = len(set.rrs)
			}
			section = append(section, set.rrs[:n]...)
			set.rrs = set.rrs[n:]
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
			} else if before := rrs[first].Header(); end < i || h.Rrtype != before.Rrtype || h.Name != before.Name {
				return 0, 0, false
			}
			end = i + 1
		case dns.TypeRRSIG, dns.TypeHTTPS, dns.TypeSVCB:
			return 0, 0, false
		}
	}
	return first, end, true
}

// setsOf returns the sets of a section that have to do with addresses, and which of them each record
// belongs to: nil where it is none of them.
func setsOf(rrs []dns.RR) (sets []*recordSet, of []*recordSet) {
	of = make([]*recordSet, len(rrs))
	known := make(map[rrset.Key]*recordSet)
	for i, rr := range rrs {
		switch h := rr.Header(); h.Rrtype {
		case dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB:
			key := rrset.Key{Owner: strings.ToLower(h.Name), Type: h.Rrtype}
			if known[key] == nil {
				known[key] = new(recordSet)
				sets = append(sets, known[key])
			}
			of[i] = known[key]
			of[i].given = append(of[i].given, rr)
			of[i].places++
		}
	}
	for i, rr := range rrs {
		if sig, ok := rr.(*dns.RRSIG); ok {
			if of[i] = known[rrset.Key{Owner: strings.ToLower(sig.Hdr.Name), Type: sig.TypeCovered}]; of[i] != nil {
				of[i].signed = true
			}
		}
	}
	return sets, of
}

// set works out what becomes of a set.
func (v *revision) set(s *recordSet, asked uint16) {
	s.outcome = outcome{rrs: s.given, ttl: math.MaxUint32}
	switch rtype := s.given[0].Header().Rrtype; rtype {
	case dns.TypeA, dns.TypeAAAA:
		v.addresses(s, rtype == asked)
	default:
		v.hints(s)
		s.limit()
	}
	v.reordered, v.lowered = v.reordered || s.reordered, v.lowered || s.lowered
}

// addresses chooses among the records of a set of addresses. Signed ones are put in order only: a part of
// them would not verify.
func (v *revision) addresses(s *recordSet, asked bool) {
	used := 1
	if before, ok := v.recent.recall(s.given, v.version); ok && !s.signed {
		s.outcome = before
	} else {
		used = v.judged(s, asked)
	}
	switch {
	case asked && used > 0:
		v.tier = "0"
	case asked:
		v.tier = "fallback"
	}
}

// judged is addresses for a set that is not known from before. used is how many of its addresses are in use.
func (v *revision) judged(s *recordSet, asked bool) (used int) {
	addrs := make([]netip.Addr, 0, len(s.given))
	for _, rr := range s.given {
		addr, ok := rrset.AddrOf(rr)
		if !ok {
			return 1 // it is not what its type says, and stays
		}
		addrs = append(addrs, addr)
	}
	j := v.judge(addrs, v.turn(s))
	s.ttl = j.ttl
	switch {
	case j.used > 0 && s.signed:
		s.pick(j.places)
	case j.used > 0:
		s.pick(v.cut(j.places, j.used))
	case asked && !s.signed && v.Fallback.Reply != pool.Next:
		v.fallback(s, addrs, j.places)
	}
	s.limit()
	if j.used > 0 && j.steady && !s.signed {
		v.recent.remember(s.given, addrs, v.version, s.outcome)
	}
	return j.used
}

// judgement is a choice among addresses; see [pool.Pool.Sift].
type judgement struct {
	places []int
	used   int
	ttl    uint32 // in seconds; the most where none of them is probed
	steady bool   // it is the same until something else is believed
}

// turn is the number of this answer of a set.
func (v *revision) turn(s *recordSet) uint32 {
	if v.Order != pool.Cyclic || v.still {
		return 0
	}
	return v.recent.turn(s.given[0].Header())
}

// sift is the overlay's [pool.Pool.Sift].
func (v *revision) sift(addrs []netip.Addr, memberHealth []pool.Health, n uint32) (places []int, used int, ttl time.Duration) {
	p := v.Policy
	if v.still && p.Order == pool.Random {
		fixed := *v.Policy
		fixed.Order, p = pool.Fixed, &fixed
	}
	return p.Sift(addrs, memberHealth, n)
}

// judge has the overlay choose among addresses. n tells one answer from the next.
func (v *revision) judge(addrs []netip.Addr, n uint32) judgement {
	j := judgement{ttl: math.MaxUint32, steady: v.Order == pool.Fixed || v.Order == pool.Sorted}
	memberHealth, probed := make([]pool.Health, 0, 8), false // on the stack, as long as there are no more
	for _, a := range addrs {
		h, ok := v.health(a)
		memberHealth, probed = append(memberHealth, h), probed || ok
		j.steady = j.steady && v.table[a] != nil && h.Held == 0
	}
	var reliable time.Duration
	if j.places, j.used, reliable = v.sift(addrs, memberHealth, n); probed {
		j.ttl = uint32(reliable / time.Second) // #nosec G115 -- a week at most
	}
	return j
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
		default: // it comes again
		}
		h.Next, probed = time.Duration(v.settings.Fall)*v.settings.Recheck, true
	}
	return h, probed
}

// cut leaves the places that are used, and no more than an answer gives. nil is all of a set as they stand.
func (v *revision) cut(places []int, used int) []int {
	if v.Answer == 0 || v.Answer >= used {
		return places[:min(used, len(places))]
	}
	for i := len(places); i < v.Answer; i++ {
		places = append(places, i)
	}
	return places[:v.Answer]
}

// fallback puts what the operator chose in place of a set that is not usable.
func (v *revision) fallback(s *recordSet, addrs []netip.Addr, places []int) {
	owner, f := s.given[0].Header(), &v.Fallback
	if f.Reply == pool.Addresses && f.Members != pool.Others {
		places = v.notDrained(addrs, places)
	}
	latest := []int(nil)
	if f.Reply == pool.Addresses && f.Members == pool.Last {
		latest = v.last(addrs, places)
	}
	v.extended = answer.ExtendedError(f, latest != nil)
	switch {
	case f.Reply != pool.Addresses:
		s.rrs = nil
	case f.Members == pool.Others:
		v.others(s, owner)
	case latest != nil:
		s.pick(v.cut(latest, len(latest)))
	default:
		s.pick(v.cut(places, len(places)))
	}
	if len(s.rrs) == 0 {
		s.reordered = true
		v.denied = &dns.RR_Header{Name: owner.Name, Ttl: s.ttl}
	}
}

// others gives out the addresses that are no members.
func (v *revision) others(s *recordSet, owner *dns.RR_Header) {
	var addrs []netip.Addr
	for _, m := range v.Fallback.Other {
		if m.Addr.Is4() == (owner.Rrtype == dns.TypeA) {
			addrs = append(addrs, m.Addr)
		}
	}
	memberHealth := slices.Repeat([]pool.Health{{Up: true}}, len(addrs))
	places, used, _ := v.sift(addrs, memberHealth, v.turn(s))
	s.rrs = rrset.Addresses(owner.Name, addrs, s.ttl)
	s.pick(v.cut(places, used))
	s.reordered = true
}

// notDrained leaves out the places of addresses that the operator has taken out, unless that is all of them.
func (v *revision) notDrained(addrs []netip.Addr, places []int) []int {
	left := slices.DeleteFunc(slices.Clone(places), func(place int) bool {
		f := v.table[addrs[place]]
		return f != nil && f.belief.Load().drained
	})
	if len(left) == 0 {
		return places
	}
	return left
}

// last leaves those of the places whose addresses worked last: as many as make a set usable. nil: none ever did.
func (v *revision) last(addrs []netip.Addr, places []int) []int {
	worked := make(map[int]time.Time)
	for _, place := range places {
		f := v.table[addrs[place]]
		if f == nil || f.belief.Load().status != health.Down {
			worked[place] = time.Now() // as far as anybody knows it does still
		} else if at := f.belief.Load().worked; !at.IsZero() {
			worked[place] = at
		}
	}
	latest := slices.SortedStableFunc(maps.Keys(worked), func(a, b int) int {
		return cmp.Or(worked[b].Compare(worked[a]), slices.Index(places, a)-slices.Index(places, b))
	})
	latest = latest[:min(len(latest), v.Min.Of(len(places)))]
	if len(latest) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(places), func(place int) bool { return !slices.Contains(latest, place) })
}

// pick leaves the records at places; see pick below.
func (s *recordSet) pick(places []int) {
	picked, changed := pick(s.rrs, places)
	s.rrs = picked
	s.reordered = s.reordered || changed
}

// limit sees to it that no TTL is more than the set can be relied on.
func (s *recordSet) limit() {
	before := s.rrs
	s.rrs = rrset.LimitTTL(before, s.ttl)
	s.lowered = len(before) > 0 && &before[0] != &s.rrs[0]
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

// hints leaves out what is down of the addresses in HTTPS and SVCB records (RFC 9460, section 7.3), unless
// the set is signed, or nothing would be left of a hint.
func (v *revision) hints(s *recordSet) {
	if s.signed {
		return
	}
	revised, n := slices.Clone(s.given), v.turn(s) // of both families
	for i, rr := range revised {
		svcb := svcbOf(rr)
		if svcb == nil {
			continue
		}
		if values, changed := v.values(s, svcb.Value, n); changed {
			revised[i] = dns.Copy(rr)
			svcbOf(revised[i]).Value = values
		}
	}
	if s.reordered {
		s.rrs = revised
	}
}

// svcbOf is what HTTPS and SVCB records are alike in; nil: it is none of them.
func svcbOf(rr dns.RR) *dns.SVCB {
	switch rr := rr.(type) {
	case *dns.SVCB:
		return rr
	case *dns.HTTPS:
		return &rr.SVCB
	}
	return nil
}

// values are the parameters of a SVCB record with their hints put right.
func (v *revision) values(s *recordSet, values []dns.SVCBKeyValue, n uint32) (mine []dns.SVCBKeyValue, changed bool) {
	mine = slices.Clone(values)
	for i, value := range values {
		switch value := value.(type) {
		case *dns.SVCBIPv4Hint:
			if hint, ok := v.hint(s, value.Hint, n); ok {
				mine[i], changed = &dns.SVCBIPv4Hint{Hint: hint}, true
			}
		case *dns.SVCBIPv6Hint:
			if hint, ok := v.hint(s, value.Hint, n); ok {
				mine[i], changed = &dns.SVCBIPv6Hint{Hint: hint}, true
			}
		}
	}
	s.reordered = s.reordered || changed
	return mine, changed
}

// hint chooses among the addresses of a hint.
func (v *revision) hint(s *recordSet, ips []net.IP, n uint32) (hint []net.IP, changed bool) {
	addrs := make([]netip.Addr, 0, len(ips))
	for _, ip := range ips {
		addr, ok := netip.AddrFromSlice(ip)
		if !ok {
			return ips, false
		}
		addrs = append(addrs, addr.Unmap())
	}
	if len(addrs) == 0 {
		return ips, false
	}
	j := v.judge(addrs, n)
	s.ttl = min(s.ttl, j.ttl)
	if j.used == 0 {
		return ips, false
	}
	return pick(ips, v.cut(j.places, j.used))
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
		if !v.hasOther() {
			m.Rcode = dns.RcodeNameError
		}
	}
	m.Ns = nil
	soa := Failover{Next: v.next}.soaBelow(v.ctx, v.ResponseWriter, v.query, v.denied.Name, true)
	if q := v.query.Question[0].Name; soa == nil && strings.EqualFold(q, v.denied.Name) {
		soa = v.zone.SOA(q)
	} else if soa == nil && dns.IsSubDomain(v.zone.origin, v.denied.Name) {
		soa = v.zone.SOA(v.denied.Name)
	}
	if soa != nil { // at the end of an alias there may be a zone that nobody knows here
		soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl, v.denied.Ttl)
		m.Ns = []dns.RR{soa}
	}
}

// hasOther says whether the name that is denied has addresses of the other family, as far as its answer goes: that there is
// no such name would be true of these, too (RFC 8020, section 2).
func (v *revision) hasOther() bool {
	other := dns.TypeA
	if v.query.Question[0].Qtype == dns.TypeA {
		other = dns.TypeAAAA
	}
	below := Failover{Next: v.next}
	m := below.below(v.ctx, v.ResponseWriter, v.query, v.denied.Name, other)
	if m == nil {
		return false
	}
	sets, _ := setsOf(m.Answer)
	return slices.ContainsFunc(sets, func(s *recordSet) bool {
		if s.given[0].Header().Rrtype != other {
			return false
		}
		v := revision{overlaid: v.overlaid, version: v.version, table: v.table, still: true}
		v.set(s, other)
		return len(s.rrs) > 0
	})
}
