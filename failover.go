// Package failover is a CoreDNS plugin whose names answer with the addresses that work, in the order
// the operator chose.
package failover

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/pool"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/pkg/nonwriter"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
)

// Version is the version of this plugin.
const Version = "0.1.0"

var log = clog.NewWithPlugin("failover")

// Failover answers for the names of one server block. It is a value: each chain of plugins has its
// own, with its own Next, and all of a server block share the rest.
type Failover struct {
	Next plugin.Handler
	*handler
}

// handler is what the handlers of one server block share, and nobody else has.
type handler struct{ *block }

// block is what the failover directives of one server block come to.
type block struct {
	key        string // finds it again in the next generation of the Corefile, see corefile.key
	zones      []string
	view       string   // its name; known when all plugins are
	names      *names   // never written to after setup, nor is
	overlays   overlays // this
	pools      []*livePool
	bypass     func() []string // see CacheBypassZones
	transfers  *transfers      // nil: there is no transfer plugin, or nothing has started yet
	outlets    []outlet
	generation *generation

	// zonesBelow says whether plugins further down the chain know zones of their own, so that a name
	// may exist that a wildcard must not answer for, and soasBelow whether any of these has an SOA for its
	// zone. Set before the first query.
	zonesBelow, soasBelow bool
}

// titled is the name of a pool as it stands in logs: with the view where there is one.
func (b *block) titled(name string) string {
	if b.view == "" {
		return name
	}
	return name + " (view " + b.view + ")"
}

// newBlock makes a server block's pools and adds them to the generation.
func newBlock(g *generation, configs []*config, zones []string, key string) *block {
	b := &block{key: key, zones: zones, generation: g}
	compact(configs)
	pools, over := make([]*livePool, 0, len(configs)), []*overlay(nil)
	all := make([]livePool, len(configs)) // with nothing between them, either
	for i, c := range configs {
		if c.from {
			over = append(over, newOverlay(c, b))
			continue
		}
		var like *livePool // pools that stand together mostly have the same terms
		if len(pools) > 0 {
			like = pools[len(pools)-1]
		}
		all[i].init(c, b, like)
		pools = append(pools, &all[i])
	}
	inZone := func(origin string) *zone { return g.zone(zoneKey{key, origin}, configs[0].authority) }
	g.pools, g.overlays = append(g.pools, pools...), append(g.overlays, over...)
	b.names, b.overlays, b.pools = makeNames(pools, zones, inZone), makeOverlays(over, zones, inZone), pools
	b.bypass = sync.OnceValue(func() []string {
		var all []string
		for _, p := range pools {
			all = append(all, p.names...)
		}
		return bypassZones(all)
	})
	return b
}

// compact has the names and the members of all pools stand in one piece of memory each. Else there would be garbage
// between them once the Corefile has been read, and their pages a third larger.
func compact(configs []*config) {
	var text strings.Builder
	count, tiers, members := 0, 0, 0
	for _, c := range configs {
		count, tiers = count+len(c.names), tiers+len(c.Tiers)
		for _, name := range c.names {
			text.WriteString(name)
		}
		for _, tier := range c.Tiers {
			members += len(tier)
		}
	}
	rest := text.String()
	names, allTiers, allMembers := make([]string, 0, count), make([][]pool.Member, 0, tiers), make([]pool.Member, 0, members)
	for _, c := range configs {
		own := len(names)
		for _, name := range c.names {
			names, rest = append(names, rest[:len(name)]), rest[len(name):]
		}
		c.names = slices.Clip(names[own:])
		own = len(allTiers)
		for _, tier := range c.Tiers {
			first := len(allMembers)
			allMembers = append(allMembers, tier...)
			allTiers = append(allTiers, slices.Clip(allMembers[first:]))
		}
		c.Tiers = slices.Clip(allTiers[own:])
	}
}

// feed has the answers of the block's pools go to an outlet, too. It is called before the generation starts.
func (b *block) feed(o outlet) {
	b.generation.outlets, b.outlets = append(b.generation.outlets, o), append(b.outlets, o)
}

// Name implements the plugin.Handler interface.
func (f Failover) Name() string { return "failover" }

// ServeDNS implements the plugin.Handler interface.
func (f Failover) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if r.Opcode != dns.OpcodeQuery || len(r.Question) != 1 || r.Question[0].Qclass != dns.ClassINET {
		return plugin.NextOrFailure(f.Name(), f.Next, ctx, w, r)
	}
	name := strings.ToLower(r.Question[0].Name)
	if qtype := r.Question[0].Qtype; qtype == dns.TypeAXFR || qtype == dns.TypeIXFR {
		return f.serveTransfer(ctx, w, r, name)
	}
	e := f.names.find(name)
	if e == nil {
		return f.serveUnknown(ctx, w, r, name)
	}
	z := e.zone
	if r.Question[0].Qtype == dns.TypeDS && name == z.origin {
		z = f.names.cut(z)
	}
	if e.pool == nil {
		return f.serveOther(ctx, w, r, name, z, false)
	}
	return f.servePool(ctx, w, r, name, z, e.pool, e.as)
}

// serveTransfer leaves a transfer to the next plugins, which ask for the zone by Transfer. What nobody may have is
// refused.
func (f Failover) serveTransfer(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name string) (int, error) {
	rcode, err := plugin.NextOrFailure(f.Name(), f.Next, ctx, w, r)
	e, _ := f.names.closest(name)
	if errors.Is(err, errNoNS) || (e != nil || f.names.find(name) != nil) && err != nil && isUnknown(rcode, err) {
		return dns.RcodeRefused, nil
	}
	return rcode, err
}

// servePool answers a query for a name of a pool, or one that is made of it.
func (f Failover) servePool(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name string, z *zone, p *livePool, as *answer.Derived) (int, error) {
	isTarget, s := as != nil && as.Addrs != nil, p.now.Load()
	switch {
	case !p.answers.Has(r.Question[0].Qtype, as):
		return f.serveOther(ctx, w, r, name, z, s.Reply == pool.NXDomain && !isTarget && !f.encloses(name, z))
	case isTarget:
		return f.reply(ctx, w, r, name, z, p.answers.HostMsg(r, z, as))
	}
	p.counted.add(ctx, p.names[0], s.TierLabel())
	if s.Reply == pool.Next {
		return plugin.NextOrFailure(f.Name(), f.Next, ctx, &brief{f.numbered(w), s.TTL()}, r)
	}
	return f.reply(ctx, w, r, name, z, s.Msg(r, z, as, &p.turns))
}

// encloses says whether there are names below one, or it is the apex of a zone: then it exists, whatever becomes of its
// own records (RFC 8020, section 2).
func (f Failover) encloses(name string, z *zone) bool {
	return name == z.origin || f.names.encloses[name]
}

// reply writes the answer of a pool. What it denies may be there in the next plugins' zone, if any type will
// do; and a denial comes with the SOA of that zone where they have it, for a zone has but one. That there is no such name
// would be true of all types.
func (f Failover) reply(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name string, z *zone, m *dns.Msg) (int, error) {
	if m.Rcode == dns.RcodeNameError &&
		(f.encloses(name, z) || f.zonesBelow && isThere(f.below(ctx, w, r, name, r.Question[0].Qtype))) {
		m.Rcode = dns.RcodeSuccess
	}
	if denied := len(m.Answer) == 0 && len(m.Ns) > 0; denied && f.zonesBelow {
		if r.Question[0].Qtype == dns.TypeANY && m.Rcode == dns.RcodeSuccess {
			return f.serveOther(ctx, w, r, name, z, false)
		}
		if soa := f.zoneSOA(ctx, w, r, z); soa != nil {
			m.Ns = []dns.RR{soa}
		}
	}
	w.WriteMsg(m)
	return dns.RcodeSuccess, nil
}

// zoneSOA is the SOA that the next plugins have for a zone, with the TTL of the pools' denials. Those that have
// none are not asked, as the query could go on to the network.
func (f Failover) zoneSOA(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, z *zone) *dns.SOA {
	if !f.soasBelow {
		return nil
	}
	soa := f.soaBelow(ctx, w, r, z.origin, false)
	if soa != nil && f.transfers != nil {
		soa = f.transfers.number(soa, false)
	}
	if soa != nil {
		soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl, z.ttl)
	}
	return soa
}

// serveOther has the next plugin answer for a name that exists here without being of the type asked
// for: a zone file may know more of it. It says NODATA where the next plugin has no such name, unless the name is gone: it
// has nothing here any more.
func (f Failover) serveOther(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name string, z *zone, gone bool) (int, error) {
	e := &existing{watched: watched{ResponseWriter: w}, query: r, zone: z, gone: gone}
	rcode, err := f.next(ctx, e, r, name)
	if e.written || !isUnknown(rcode, err) {
		return rcode, err
	}
	w.WriteMsg(e.own())
	return dns.RcodeSuccess, nil
}

// serveUnknown passes on a query for a name that does not exist here, unless a wildcard covers it.
// Where nobody further down knows the zone of a pool either, the name does not exist at all.
func (f Failover) serveUnknown(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name string) (int, error) {
	e, next := f.names.closest(name)
	if e == nil {
		return f.next(ctx, w, r, name)
	}
	if e.wildcard != nil && !f.existsBelow(ctx, w, r, name, next) {
		return f.serveWildcard(ctx, w, r, name, e, next)
	}
	passed := &watched{ResponseWriter: w}
	rcode, err := f.next(ctx, passed, r, name)
	if passed.written || !isUnknown(rcode, err) {
		return rcode, err
	}
	w.WriteMsg(answer.Negative(r, e.zone, dns.RcodeNameError))
	return dns.RcodeSuccess, nil
}

// next has the next plugins answer, with their addresses put right where an overlay covers the name.
func (f Failover) next(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name string) (int, error) {
	return plugin.NextOrFailure(f.Name(), f.Next, ctx, f.under(ctx, w, r, name), r)
}

// under is w, or a writer to it that puts right what an overlay covers, and what goes out to secondaries.
func (f Failover) under(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name string) dns.ResponseWriter {
	w = f.numbered(w)
	if c := f.overlays.find(name); c != nil {
		return &overlaid{ResponseWriter: w, covered: c, ctx: ctx, query: r, next: f.Next}
	}
	return w
}

// numbered is w, or a writer to it that gives SOA records the serial numbers that go out.
func (f Failover) numbered(w dns.ResponseWriter) dns.ResponseWriter {
	if f.transfers != nil {
		return &numbered{ResponseWriter: w, transfers: f.transfers}
	}
	return w
}

// existsBelow says whether the next plugins have the name that is one label below a wildcard's place: then
// that encloses all names below it, and the wildcard does not cover them (RFC 4592, section 3.3.1).
func (f Failover) existsBelow(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name, next string) bool {
	if !f.zonesBelow || name == next {
		return false
	}
	return isThere(f.below(ctx, w, r, next, r.Question[0].Qtype)) && !f.onlyByWildcard(ctx, w, r, next)
}

// serveWildcard answers for a name below e, unless the next plugins know that name: a wildcard never
// covers a name that exists (RFC 4592, section 2.2.1). That can only be where it is one label below e.
func (f Failover) serveWildcard(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name string, e *entry, next string) (int, error) {
	as, ok := e.wildcard.answers.DerivedUnder(name, next)
	if !ok {
		return f.serveOther(ctx, w, r, name, e.zone, false)
	}
	if f.zonesBelow && name == next && e.wildcard.answers.Has(r.Question[0].Qtype, as) {
		theirs := nonwriter.New(w)
		rcode, err := plugin.NextOrFailure(f.Name(), f.Next, ctx, theirs, r)
		if rcode == dns.RcodeServerFailure && !isUnknown(rcode, err) {
			return rcode, err // a zone that is broken may have the name
		}
		if isThere(theirs.Msg) && !f.onlyByWildcard(ctx, w, r, name) {
			f.under(ctx, w, r, name).WriteMsg(theirs.Msg)
			return rcode, err
		}
	}
	return f.servePool(ctx, w, r, name, e.zone, e.wildcard, as)
}

// Metadata implements the metadata.Provider interface.
func (f Failover) Metadata(ctx context.Context, state request.Request) context.Context {
	name := state.Name()
	e := f.names.find(name)
	var p *livePool
	switch {
	case e != nil:
		p = e.pool
	default:
		if e, _ = f.names.closest(name); e != nil {
			p = e.wildcard
		}
	}
	if p != nil {
		metadata.SetValueFunc(ctx, "failover/pool", func() string { return p.names[0] })
		metadata.SetValueFunc(ctx, "failover/tier", func() string { return p.now.Load().TierLabel() })
	} else if c := f.overlays.find(name); c != nil {
		metadata.SetValueFunc(ctx, "failover/pool", func() string { return c.names[0] })
	}
	return ctx
}

// Ready implements the ready.Readiness interface: it tells whether the members have been asked, never
// whether they are up. One generation is ready as a whole, because CoreDNS keeps one entry for a
// plugin, whatever the number of server blocks.
func (f Failover) Ready() bool { return f.generation.answering() }

// CacheBypassZones implements the cache.ZoneBypasser interface: a transition has to show in the very
// next answer.
func (f Failover) CacheBypassZones() []string { return f.bypass() }
