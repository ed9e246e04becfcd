package failover

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/share"

	"github.com/miekg/dns"
)

// sites is the way to the other sites. [share.Share] is one.
type sites interface {
	ballot
	Override(o override.Override)
	Clear(t override.Target)
	Over(o override.Override)
	Let(pool, member string)
	Sites() []share.Site
	Stats() share.Stats
	Close()
}

// sharing is where the process tells other sites what it sees. The zero value tells nobody.
type sharing struct {
	mu    sync.Mutex // one use after the other
	place *sharePlace
	now   atomic.Pointer[sites] // nil: there is but this one
}

// use has another place used from now on; nil is none. ours are the overrides that the other sites are told of then.
func (s *sharing) use(place *sharePlace, ours []override.Override) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if place == s.place || place != nil && s.place != nil && place.same(s.place) {
		return
	}
	if before := s.now.Swap(nil); before != nil {
		(*before).Close()
	}
	if s.place = place; place != nil {
		var opened sites = share.Open(place.Config, process, log)
		for _, o := range ours {
			opened.Override(o)
		}
		s.now.Store(&opened)
	}
	process.monitorInUse().NudgeAll() // those who voted, or will
}

// ballot is where votes are cast; nil: there is but this site.
func (s *sharing) ballot() ballot {
	if all := s.sites(); all != nil {
		return all
	}
	return nil
}

func (s *sharing) sites() sites {
	if now := s.now.Load(); now != nil {
		return *now
	}
	return nil
}

// Voted implements the [share.Heard] interface, as do the methods below.
func (r *registry) Voted(keys []share.Key) {
	m := r.monitorInUse()
	if keys == nil {
		m.NudgeAll()
	}
	for _, k := range keys {
		m.Nudge(k.Question, k.Target)
	}
}

// Decided has the overrides of all sites be those in force.
func (r *registry) Decided(all []override.Override) {
	r.deciding.Lock()
	defer r.deciding.Unlock()
	before := r.overrides.Load()
	after := new(override.Table).With(all...)
	for _, o := range all {
		if known := before.Get(o.Target); known == nil || !known.Equal(&o) {
			log.Infof("Override of %s, from another site: %s", o.Target, &o)
			r.events.overridden("set", o)
		}
	}
	for _, o := range before.All() {
		if after.Get(o.Target) == nil {
			log.Infof("Override of %s: cleared at another site", o.Target)
			r.events.overridden("cleared", o)
		}
	}
	r.put(after)
	r.redecide(before, after, "an override at another site")
}

func (r *registry) LetBack(name, member string) {
	for _, d := range r.everybody() {
		if d.allNames()[0] == dns.CanonicalName(name) {
			d.letBackAll(func(m pool.Member) bool { return address(m) == member }, false)
		}
	}
}

// withdraw takes back the votes on what nobody here asks any more.
func (q *inquiry) withdraw(member netip.AddrPort) {
	b := process.sharing.ballot()
	if b == nil {
		return
	}
	for i := range q.probes {
		if k := q.key(i, member); !process.monitorInUse().Asks(k.Question, k.Target) {
			b.Withdraw(k)
		}
	}
}
