package failover

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/quorum"
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
	known   []override.Override   // by other sites, or from before the process began: they may have ended them since
	now     atomic.Pointer[sites] // nil: there is but this one
}

// hearing is what hears of other sites, as long as it is they who count.
type hearing struct {
	*registry
	share *share.Share

	// Guarded by deciding.
	heard bool // the overrides of all sites
	over  bool
}

// use has another place used from now on; nil is none. kept are the overrides that the state file had.
func (s *sharing) use(place *sharePlace, kept []override.Override) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = append(s.known, kept...)
	if place == s.place || place != nil && s.place != nil && place.same(s.place) {
		return
	}
	before := s.sites()
	s.place = place
	s.turn()
	if before != nil {
		before.Close()
	}
	process.monitorInUse().NudgeAll() // those who voted, or will
}

// turn has what is decided go to the new place from one moment on, which knows all that was decided before.
func (s *sharing) turn() {
	process.deciding.Lock()
	defer process.deciding.Unlock()
	past := s.past()
	if s.place == nil {
		s.hearing = nil
		s.now.Store(nil)
		return
	}
	s.hearing = &hearing{registry: process}
	s.hearing.share = share.Open(s.place.Config, past, s.hearing, log)
	var opened sites = s.hearing.share
	s.now.Store(&opened)
}

// failure is why this site and the others do not hear each other, and since when; "": they do, or there are none.
func (s *sharing) failure() (text string, since time.Time) {
	all := s.sites()
	if all == nil {
		return "", time.Time{}
	}
	switch stats := all.Stats(); {
	case stats.Lost != "":
		return "votes and overrides are not shared over etcd: " + stats.Lost, stats.Since
	case stats.Refused != "":
		return "the votes of this process are not shared: " + stats.Refused, stats.Since
	}
	return "", time.Time{}
}

// cutOff is why the other sites do not hear of a decision now; "": they do, or there are none.
func (s *sharing) cutOff() string {
	all := s.sites()
	if all == nil {
		return ""
	}
	stats := all.Stats()
	if stats.Connected {
		return ""
	}
	return "there is no connection to etcd: " + cmp.Or(stats.Lost, "the attempt goes on")
}

// past ends the hearing, and is what a new place has to know of the time before.
func (s *sharing) past() (past share.Past) {
	if s.hearing != nil {
		s.hearing.over, past.Share = true, s.hearing.share
		if s.hearing.heard {
			s.known = process.Overrides()
		}
	}
	for _, o := range process.Overrides() {
		if slices.ContainsFunc(s.known, func(k override.Override) bool { return k.Equal(&o) }) {
			past.Known = append(past.Known, o)
		} else {
			past.Decided = append(past.Decided, o)
		}
	}
	return past
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
func (r *registry) Voted(keys []quorum.Key) {
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
	h.heard = true
	before, now := h.overrides.Load(), all()
	after := new(override.Table).With(now...)
	for _, o := range now {
		if known := before.Get(o.Target); known == nil || !known.Equal(&o) {
			log.Infof("Override of %s, from another site: %s", o.Target, &o)
			h.events.overridden(api.Event{Change: "set", Override: &o, Replaced: before.Get(o.Target), By: o.Author, Why: o.Reason})
		}
	}
	for _, o := range before.All() {
		if after.Get(o.Target) == nil {
			log.Infof("Override of %s is cleared at another site: it was %s", o.Target, &o)
			h.events.overridden(api.Event{Change: "cleared", Override: &o, Why: "at another site"})
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
