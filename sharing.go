package failover

import (
	"net/netip"
	"slices"
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
	Ready() <-chan struct{}
	Sites() []share.Site
	Stats() share.Stats
	Close()
}

// sharing is where the process tells other sites what it sees. The zero value tells nobody.
type sharing struct {
	mu      sync.Mutex // one use after the other
	place   *sharePlace
	hearing *hearing
	now     atomic.Pointer[sites] // nil: there is but this one
}

// hearing is what hears of other sites, as long as it is they who count.
type hearing struct {
	*registry
	share *share.Share
	over  bool // guarded by deciding
}

// use has another place used from now on; nil is none. kept are the overrides that the state file had: the other sites
// may have ended them since, which they cannot of those made here.
func (s *sharing) use(place *sharePlace, kept []override.Override) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if place == s.place || place != nil && s.place != nil && place.same(s.place) {
		return
	}
	before := s.sites()
	if s.place = place; place != nil {
		s.open(kept)
	} else {
		s.now.Store(nil)
		s.hearing = nil
	}
	if before != nil {
		before.Close()
	}
	process.monitorInUse().NudgeAll() // those who voted, or will
}

// open has what is decided go to a new place from one moment on, which knows all that was decided before.
func (s *sharing) open(kept []override.Override) {
	process.deciding.Lock()
	defer process.deciding.Unlock()
	past := share.Past{Kept: kept}
	for _, o := range process.Overrides() {
		if !slices.ContainsFunc(kept, func(k override.Override) bool { return k.Equal(&o) }) {
			past.Decided = append(past.Decided, o)
		}
	}
	if s.hearing != nil {
		past.Share, s.hearing.over = s.hearing.share, true
	}
	s.hearing = &hearing{registry: process}
	s.hearing.share = share.Open(s.place.Config, past, s.hearing, log)
	var opened sites = s.hearing.share
	s.now.Store(&opened)
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
		return
	}
	m.Nudge(func(yield func(question string, target netip.AddrPort) bool) {
		for _, k := range keys {
			if !yield(k.Question, k.Target) {
				return
			}
		}
	})
}

// Decided has the overrides of all sites be those in force.
func (h *hearing) Decided(all func() []override.Override) {
	h.deciding.Lock()
	defer h.deciding.Unlock()
	if h.over {
		return
	}
	before, now := h.overrides.Load(), all()
	after := new(override.Table).With(now...)
	for _, o := range now {
		if known := before.Get(o.Target); known == nil || !known.Equal(&o) {
			log.Infof("Override of %s, from another site: %s", o.Target, &o)
			h.events.overridden("set", o)
		}
	}
	for _, o := range before.All() {
		if after.Get(o.Target) == nil {
			log.Infof("Override of %s: cleared at another site", o.Target)
			h.events.overridden("cleared", o)
		}
	}
	h.put(after)
	h.redecide(before, after, "an override at another site")
}

func (r *registry) LetBack(name, member string) {
	for _, d := range r.everybody() {
		if d.allNames()[0] == dns.CanonicalName(name) {
			d.letBackAll(func(m pool.Member) bool { return address(m) == member }, false)
		}
	}
}
