package failover

import (
	"strings"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/dnsname"
	"github.com/miekg/dns"
)

// names are the names that a server block's pools make exist, and where each of them leads. They
// never change once made.
type names struct {
	entries  map[string]*entry
	encloses map[string]bool // those of them that have others below them in their zone
	wild     bool            // there are wildcards
}

// entry is one existing name.
type entry struct {
	pool     *livePool       // nil: an empty non-terminal, or the apex of a zone
	as       *answer.Derived // of the name to the pool; nil: it is one of the pool's own
	wildcard *livePool       // answers for names below this one that do not exist; nil: none
	zone     *zone           // it lies in
}

// makeNames builds the names for pools, which lie in the zones of one server block. inZone finds or makes
// the zone of an origin.
func makeNames(pools []*livePool, zones []string, inZone func(origin string) *zone) *names {
	n := &names{entries: make(map[string]*entry, len(pools)), encloses: make(map[string]bool)}
	origins := make(map[string]bool)
	for _, p := range pools {
		for _, name := range p.names {
			owner, below := strings.CutPrefix(name, "*.")
			if owner == "" {
				owner = "."
			}
			origin := dnsname.LongestZone(name, zones)
			if origin == "." {
				origin = owner // nobody's server block is the authority for the root
			}
			z := inZone(origin)
			z.ttl = min(z.ttl, uint32(p.MinTTL.Seconds()))
			if n := len(p.serials); n == 0 || p.serials[n-1] != z.serial {
				p.serials = append(p.serials, z.serial)
			}
			e := n.add(owner, z)
			if below {
				n.wild = true
				e.wildcard = p
				e = n.add(name, z) // exists, too (RFC 4592, section 2.2.1)
			}
			e.pool = p
			for prefix, as := range p.answers.Derived {
				if !below {
					made := n.add(prefix+name, z)
					made.pool, made.as = p, as
				}
			}
			origins[origin] = true
		}
	}
	for origin := range origins {
		n.join(origin)
	}
	return n
}

// join makes the names exist that lie between the apex of a zone and the zone that it lies in, if that is
// one of these, too.
func (n *names) join(origin string) {
	between := []string{}
	for name := origin; name != "."; between = append(between, name) {
		name = dnsname.Parent(name)
		if e := n.entries[name]; e != nil {
			for _, name := range between {
				n.entries[name], n.encloses[name] = &entry{zone: e.zone}, true
			}
			n.encloses[name] = true
			return
		}
	}
}

// cut is the zone that a zone is delegated from, if that is one of these, too: it has the DS records (RFC 4035, section
// 3.1.4.1).
func (n *names) cut(z *zone) *zone {
	for name := z.origin; name != "."; {
		name = dnsname.Parent(name)
		if e := n.entries[name]; e != nil {
			return e.zone
		}
	}
	return z
}

// add makes a name exist, and with it every name between it and the apex of its zone.
func (n *names) add(name string, z *zone) *entry {
	e := n.entries[name]
	if e == nil {
		e = &entry{zone: z}
		n.entries[name] = e
		if name != z.origin {
			n.add(dnsname.Parent(name), z)
			n.encloses[dnsname.Parent(name)] = true
		}
	}
	return e
}

// find returns the entry of a name, given in lower case, or nil.
func (n *names) find(name string) *entry { return n.entries[name] }

// closest returns the entry of the closest encloser of a name that does not exist (RFC 4592, section
// 3.3.1), and next, what is one label below it: the name itself, or a name above that. The entry is nil
// where the name lies in no zone of a pool.
func (n *names) closest(name string) (e *entry, next string) {
	if len(n.entries) == 0 {
		return nil, name
	}
	next = name
	for off, end := dns.NextLabel(name, 0); !end; off, end = dns.NextLabel(name, off) {
		if e := n.entries[name[off:]]; e != nil {
			return e, next
		}
		next = name[off:]
	}
	return n.entries["."], next
}
