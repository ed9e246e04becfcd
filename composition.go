package failover

import (
	"maps"
	"slices"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/dnsname"
	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/rrset"

	"github.com/miekg/dns"
)

// composition is the making of an edition: what the next plugins have of a zone, with what the block answers in its
// place.
type composition struct {
	sets   rrset.Sets // so far
	before rrset.Sets // the edition before
	theirs rrset.Sets // what the next plugins have, which is that of
	base   *base      // nil: they do not have the zone

	// A set that is the same but for its TTL stays as it went out until two reviews in a row find the other TTL: a
	// probe that fails once lowers it, and is not worth a transfer.
	review        bool
	lately, drift map[rrset.Key]uint32 // the other TTLs, at the last review and at this one
}

// compose makes the records of a zone. Where only some pools have moved it begins with the edition before.
func (t *transfers) compose(o *outgoing, review bool, only []*livePool) rrset.Sets {
	c := &composition{base: o.base, review: review, lately: o.drift, drift: make(map[rrset.Key]uint32)}
	if o.current != nil {
		c.before = o.current.sets
	}
	if o.base != nil {
		c.theirs = o.base.sets
	}
	deeper := t.deeper(o.apex)
	wild, placed := t.block.names.wild || o.base != nil && o.base.wild, []string(nil)
	place := func(name string, e *entry) {
		if e.pool != nil && dnsname.IsBelow(name, o.apex) && !slices.ContainsFunc(deeper, func(apex string) bool { return dnsname.IsBelow(name, apex) }) {
			c.place(name, e)
			if wild && e.as == nil {
				placed = append(placed, name)
			}
		}
	}
	if only != nil {
		c.sets = maps.Clone(c.before)
		for _, p := range only {
			for _, name := range p.names {
				place(name, t.block.names.find(name))
				for prefix := range p.answers.Derived {
					if e := t.block.names.find(prefix + name); e != nil { // a wildcard has none
						place(prefix+name, e)
					}
				}
			}
		}
	} else {
		c.sets = make(rrset.Sets, len(c.before))
		maps.Copy(c.sets, c.theirs)
		if o.base == nil {
			c.sets[rrset.Key{Owner: o.apex, Type: dns.TypeNS}] = o.own.nameservers(o.apex)
		}
		c.overlay(t.block.overlays)
		for name, e := range t.block.names.entries {
			place(name, e)
		}
	}
	for _, name := range placed {
		c.hold(name)
	}
	if review {
		o.drift = c.drift
	}
	return c.sets
}

// place puts what a pool has for a name in the place of what stands there. Below a delegation that is the addresses of
// its servers only, and below a DNAME nothing.
func (c *composition) place(name string, e *entry) {
	cut := c.base.cut(name)
	if cut == dns.TypeDNAME {
		return
	}
	s := e.pool.now.Load()
	answered, ok := s.RRsets(name, e.as)
	types := e.pool.answers.RecordTypes(e.as)
	for _, rtype := range append(types, dns.TypeCNAME) {
		c.restore(rrset.Key{Owner: name, Type: rtype})
	}
	if !ok && s.Reply == pool.Next { // for as long as it is
		for _, rtype := range append(types, dns.TypeCNAME) {
			key := rrset.Key{Owner: name, Type: rtype}
			c.put(key, rrset.LimitTTL(c.sets[key], s.TTL()))
		}
		return
	}
	for _, rtype := range types {
		key := rrset.Key{Owner: name, Type: rtype}
		switch {
		case cut == dns.TypeNS && c.theirs[key] == nil:
		case ok:
			c.put(key, answered[rtype])
		default:
			c.put(key, c.before[key]) // no record says SERVFAIL or REFUSED
		}
	}
	delete(c.sets, rrset.Key{Owner: name, Type: dns.TypeCNAME}) // beside other data there can be none
}

// hold keeps a wildcard from answering for a name that has no records.
func (c *composition) hold(name string) {
	key := rrset.Key{Owner: name, Type: dns.TypeTXT}
	c.restore(key)
	if c.has(name) || c.base.cut(name) != 0 {
		return
	}
	off, end := dns.NextLabel(name, 0)
	for ; !end; off, end = dns.NextLabel(name, off) {
		if c.has("*." + name[off:]) {
			c.put(key, []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: nsTTL}, Txt: []string{""}}})
			return
		}
	}
}

// has says whether a name has any records.
func (c *composition) has(name string) bool {
	if c.base != nil && c.base.others[name] {
		return true
	}
	return slices.ContainsFunc(answer.Types, func(rtype uint16) bool { return len(c.sets[rrset.Key{Owner: name, Type: rtype}]) > 0 })
}

// restore puts back what the next plugins have.
func (c *composition) restore(key rrset.Key) {
	if rrs, ok := c.theirs[key]; ok {
		c.sets[key] = rrs
	} else {
		delete(c.sets, key)
	}
}

// put puts a set into its place.
func (c *composition) put(key rrset.Key, rrs []dns.RR) {
	if len(rrs) == 0 {
		delete(c.sets, key)
		return
	}
	was, ttl := c.before[key], rrs[0].Header().Ttl
	if rrset.SameData(was, rrs) {
		before := was[0].Header().Ttl
		if lately, ok := c.lately[key]; ttl == before || !c.review || !ok || lately != ttl {
			rrs = was
		}
		if ttl != before {
			c.drift[key] = ttl
		}
	}
	c.sets[key] = rrs
}

// overlay puts the addresses of the next plugins right where an overlay covers them, but for those of another zone's
// servers.
func (c *composition) overlay(over overlays) {
	if len(over) == 0 {
		return
	}
	for key, rrs := range c.theirs {
		if !slices.Contains([]uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB}, key.Type) {
			continue
		}
		by := over.find(key.Owner)
		if by == nil || c.base.cut(key.Owner) != 0 {
			continue
		}
		if revised, ok := by.revised(rrs); ok {
			c.put(key, revised)
		} else if c.before[key] != nil {
			c.put(key, c.before[key])
		}
	}
}
