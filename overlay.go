package failover

import (
	"context"
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/dnsname"
	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/pool"
)

const (
	// forgetAfter is how long an address is kept that no answer has had in it.
	forgetAfter = 10 * time.Minute

	// sweep is how often that is looked at. An address goes up to this much later.
	sweep = 30 * time.Second

	// maxFresh is how many addresses may wait to be taken up; what finds no room comes again with the
	// next answer.
	maxFresh = 1024
)

// overlay is a pool whose members are what the next plugins answer for a name and all names below it.
//
// It keeps addresses and no names: what is believed of an address does not depend on the name that it was
// found under, and a flood of names costs nothing.
type overlay struct {
	*pool.Policy
	inquiry
	names   []string // it is for these and all below them; the first is its name in metrics
	home    *block
	manual  bool // failback
	startup time.Duration
	allow   []netip.Prefix // what may be probed; nil: see mayProbe
	limit   int            // how many addresses are kept at most

	known   atomic.Pointer[map[netip.Addr]*found] // replaced, never written to
	fresh   chan netip.Addr                       // found by queries, to be taken up
	age     atomic.Uint32                         // in sweeps
	version atomic.Uint64                         // of all that an answer depends on
	recent  recent
	counted counters
	changed func() // told when an address comes or goes; nil: nobody is

	// These count what is passed on without being probed.
	notAllowed, overflowed atomic.Uint64

	mu         sync.Mutex // guards the rest, among writers
	generation *generation
	silent     bool      // the generation before speaks for both
	before     *overlay  // this overlay in that generation, while silent; nil: it has none
	unsure     int       // addresses taken over, without a status yet, that start has to wait for
	began      time.Time // the process has had the overlay since then
	full       bool      // as last made known
	warned     bool      // that something is not allowed
	cancel     context.CancelFunc
	wg         sync.WaitGroup
}

// found is an address that an answer had in it: a member.
type found struct {
	overlay *overlay
	addr    netip.Addr
	began   time.Time     // the process has had the address since then; guarded by overlay.mu
	asked   atomic.Uint32 // the overlay's age when it was in an answer last
	belief  atomic.Pointer[belief]

	// These are guarded by overlay.mu.
	checks  []*monitor.Check // nil: it has been forgotten
	status  health.Status    // as last made known
	unsure  bool             // it counts in overlay.unsure
	letBack time.Time        // by the operator, with failback manual
	agreed  []agreement      // by the sites, for each check; nil: there is but this one

	// recovered is a return that other checks saw before a reload; see memberState.recover. It is nil if there is none.
	recovered *time.Time

	// saidDown is set if the log says down, by probes of an earlier Corefile, and these probes have no result yet.
	saidDown bool
}

// belief is what is believed of an address. It never changes.
type belief struct {
	status  health.Status
	drained bool
	until   time.Time     // it is held; zero: it is not
	back    time.Time     // it came back, if it is held
	soonest time.Duration // the status could change
	worked  time.Time     // it was up last; zero: never
}

// overlays are those of a server block, one for each name that they are for, the longest first. There are few.
type overlays []covered

// covered is a name that an overlay is for, and the zone of the server block that it lies in.
type covered struct {
	*overlay
	name string
	zone *zone
}

// makeOverlays builds the overlays of one server block; see makeNames.
func makeOverlays(all []*overlay, zones []string, inZone func(origin string) *zone) overlays {
	var names overlays
	for _, o := range all {
		for _, name := range o.names {
			origin := dnsname.LongestZone(name, zones)
			if origin == "." {
				origin = name // nobody's server block is the authority for the root
			}
			z := inZone(origin)
			z.ttl = min(z.ttl, uint32(o.MinTTL.Seconds()))
			names = append(names, covered{o, name, z})
		}
	}
	slices.SortStableFunc(names, func(a, b covered) int { return len(b.name) - len(a.name) })
	return names
}

// find returns what covers a name, given in lower case, or nil.
func (o overlays) find(name string) *covered {
	for i := range o {
		if c := &o[i]; dnsname.IsBelow(name, c.name) {
			return c
		}
	}
	return nil
}

// key finds the same overlay in the next generation of the Corefile.
func (o *overlay) key() poolKey { return poolKey{o.home.key, o.names[0]} }

// title is its name in logs.
func (o *overlay) title() string { return o.home.titled(o.names[0]) }

// newOverlay makes an overlay that does nothing yet. home is its server block.
func newOverlay(c *config, home *block) *overlay {
	o := &overlay{
		Policy:  c.Policy,
		inquiry: inquiry{c.specs, c.require, c.settings, c.quorum},
		names:   c.names,
		home:    home,
		manual:  c.manual,
		startup: c.startup,
		allow:   c.allow,
		limit:   c.limit,
		fresh:   make(chan netip.Addr, maxFresh),
		recent:  recent{seed: maphash.MakeSeed()},
	}
	o.known.Store(&map[netip.Addr]*found{})
	return o
}

// start takes over what before has found, and begins to take up what queries find. before is this
// overlay's predecessor, which is still answering, or nil. An overlay that starts silent leaves it to
// speak to say what happens.
func (o *overlay) start(g *generation, before *overlay, silent bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.generation, o.silent, o.before, o.began = g, silent, before, time.Now()
	if before != nil && before.key() == o.key() {
		before.mu.Lock()
		o.began = before.began
		before.mu.Unlock()
	}
	if before == nil && g.kept != nil {
		o.recall(g.kept.Pools[o.id()])
	}
	for _, f := range o.follow() {
		if f.unsure = f.belief.Load().status == health.Unknown; f.unsure {
			o.unsure++
		}
	}
	if o.unsure == 0 {
		g.settled(o.startup)
	}
	ctx, cancel := context.WithCancel(context.Background())
	o.cancel = cancel
	o.wg.Go(func() { o.run(ctx) })
}

// takeOver is called when before has got its last query and is about to stop: it may have found more
// since start.
func (o *overlay) takeOver() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.follow()
}

// speak begins to make known what happens, with what has happened since before fell silent.
func (o *overlay) speak() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cancel == nil {
		return
	}
	o.follow()
	if o.before != nil {
		o.notAllowed.Add(o.before.notAllowed.Load())
		o.overflowed.Add(o.before.overflowed.Load())
	}
	o.silent, o.before = false, nil
	for _, f := range *o.known.Load() {
		o.announce(f, o.member(f))
	}
}

// follow takes over the addresses of before, and what it has made known of them, and returns the new ones.
func (o *overlay) follow() []*found {
	if o.before == nil {
		return nil
	}
	o.before.mu.Lock()
	defer o.before.mu.Unlock()
	known, same := maps.Clone(*o.known.Load()), o.asksTheSame(&o.before.inquiry)
	o.warned = o.before.warned
	var added []*found
	for addr, theirs := range *o.before.known.Load() {
		ours := known[addr]
		if ours == nil {
			if len(known) >= o.limit || !o.mayProbe(addr) {
				continue
			}
			ours = o.find(addr)
			ours.letBack, ours.began = theirs.letBack, theirs.began
			if o.manual && !o.before.manual && theirs.checks != nil && !o.before.member(theirs).kept() {
				ours.letBack = time.Now() // it was not held so far
			}
			if theirs.agreed != nil {
				ours.agreed = o.inherit(&o.before.inquiry, theirs.agreed)
			}
			if same {
				ours.recovered = theirs.recovered
			} else if theirs.checks != nil {
				ours.recovered = o.before.member(theirs).carried(o.manual && o.before.manual)
			}
			o.believe(ours)
			ours.remember(theirs.belief.Load().worked)
			ours.asked.Store(o.age.Load() - (o.before.age.Load() - theirs.asked.Load())) // it wraps
			known[addr] = ours
			added = append(added, ours)
		}
		if same {
			ours.status = theirs.status
		}
		ours.saidDown = ours.status == health.Unknown && (theirs.saidDown || theirs.status == health.Down)
	}
	o.known.Store(&known)
	return added
}

// stop ends what start began. What is known stays: queries may still be on their way.
func (o *overlay) stop() {
	o.mu.Lock()
	cancel := o.cancel
	o.cancel = nil
	o.mu.Unlock()
	if cancel == nil {
		return
	}
	cancel()
	o.wg.Wait()
	o.mu.Lock()
	checks := make(map[*found][]*monitor.Check)
	for _, f := range *o.known.Load() {
		checks[f], f.checks = f.checks, nil
	}
	o.mu.Unlock()
	o.release(checks)
}

// release gives up checks. It is called without o.mu: the last release of all waits for probes, which
// call Changed.
func (o *overlay) release(checks map[*found][]*monitor.Check) {
	for f, all := range checks {
		for _, c := range all {
			o.generation.monitor.Release(c, f)
		}
		o.withdraw(netip.AddrPortFrom(f.addr, 0), f)
	}
}

// run takes up what queries find, and forgets what they do not find any more.
func (o *overlay) run(ctx context.Context) {
	ticker := time.NewTicker(sweep)
	defer ticker.Stop()
	for {
		select {
		case addr := <-o.fresh:
			o.takeUp(addr)
		case <-ticker.C:
			o.release(o.forget())
		case <-ctx.Done():
			return
		}
	}
}

// remember notes when an address worked, if nobody has seen it up since.
func (f *found) remember(worked time.Time) {
	b := *f.belief.Load()
	if b.worked.IsZero() {
		b.worked = worked
		f.belief.Store(&b)
	}
}

// takeUp begins to probe an address, and those that wait behind it.
func (o *overlay) takeUp(addr netip.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known := maps.Clone(*o.known.Load())
	for range maxFresh { // in a flood there would be no end to it
		if known[addr] == nil && len(known) < o.limit {
			f := o.find(addr)
			known[addr] = f
			o.announce(f, o.member(f)) // others may have asked it already
		}
		select {
		case addr = <-o.fresh:
			continue
		default:
		}
		break
	}
	o.publish(known)
}

// find begins to probe an address.
func (o *overlay) find(addr netip.Addr) *found {
	f := &found{overlay: o, addr: addr, began: time.Now()}
	f.asked.Store(o.age.Load())
	f.checks = o.acquire(nil, o.generation.monitor, netip.AddrPortFrom(addr, 0), f)
	o.believe(f)
	return f
}

// forget drops the addresses that no answer has had in it for long, and returns their checks.
func (o *overlay) forget() map[*found][]*monitor.Check {
	o.mu.Lock()
	defer o.mu.Unlock()
	age, known := o.age.Add(1), maps.Clone(*o.known.Load())
	dropped := make(map[*found][]*monitor.Check)
	for addr, f := range known {
		if age-f.asked.Load() > uint32(forgetAfter/sweep) {
			dropped[f], f.checks = f.checks, nil
			delete(known, addr)
		} else if b := f.belief.Load(); !b.until.IsZero() && !time.Now().Before(b.until) {
			o.believe(f) // its hold is over, which other sites are told
		}
	}
	o.publish(known)
	if !o.silent && !o.warned && o.notAllowed.Load() > 0 {
		o.warned = true
		log.Warningf("%s has addresses in its answers that it may not probe, see allow", o.title())
	}
	return dropped
}

// publish gives queries what is known now.
func (o *overlay) publish(known map[netip.Addr]*found) {
	o.known.Store(&known)
	o.version.Add(1)
	full := len(known) >= o.limit || o.full && len(known) > o.limit/10*9 // not one more and one less in turn
	if o.silent || full == o.full {
		return
	}
	o.full = full
	if full {
		log.Warningf("%s has reached its limit of %d: other addresses go unprobed", o.title(), o.limit)
	} else {
		log.Infof("%s is below its limit of %d again: other addresses are probed", o.title(), o.limit)
	}
}

// Changed takes note of what is believed now. The monitor calls it.
func (f *found) Changed() {
	f.overlay.mu.Lock()
	defer f.overlay.mu.Unlock()
	if f.checks != nil {
		f.overlay.announce(f, f.overlay.believe(f))
		f.overlay.noted()
	}
}

// noted tells those who show or keep what is believed.
func (o *overlay) noted() {
	if !o.silent {
		process.events.touched(o)
		process.state.changed()
	}
}

// believe gives queries what is believed of an address now.
func (o *overlay) believe(f *found) *memberState {
	s := o.member(f)
	if s.probed == health.Down {
		f.recovered = nil
	}
	b := &belief{status: s.status, drained: s.drained, soonest: s.soonest}
	before := f.belief.Load()
	if before != nil {
		b.worked = before.worked
	}
	if s.status == health.Up || before != nil && before.status == health.Up {
		b.worked = time.Now()
	}
	if s.held > 0 {
		b.until, b.back = s.until, s.returned
	}
	f.belief.Store(b)
	o.version.Add(1)
	if o.changed != nil && (before == nil || before.status != b.status || before.drained != b.drained || !before.until.Equal(b.until)) {
		o.changed()
	}
	if f.unsure && s.status != health.Unknown {
		f.unsure = false
		if o.unsure--; o.unsure == 0 {
			o.generation.settled(o.startup)
		}
	}
	return s
}

// member reads the checks of an address.
func (o *overlay) member(f *found) *memberState {
	states := make([]health.State, len(f.checks))
	o.generation.monitor.States(f.checks, states)
	now := time.Now()
	sites, member := process.sharing.ballot(), netip.AddrPortFrom(f.addr, 0)
	if sites == nil {
		f.agreed = nil
	} else {
		if f.agreed == nil {
			f.agreed = make([]agreement, len(states))
		}
		o.agree(sites, o.generation.monitor, member, states, f.agreed, now)
	}
	s := combine(states, o.need(), o.Hold, now)
	if f.recovered != nil {
		s.recover(*f.recovered, o.Hold, now)
	}
	if o.manual {
		s.wait(f.letBack)
	}
	if sites != nil {
		o.cast(sites, member, f.agreed, s.kept(), f)
	}
	s.obey(process.overrides.Load().Find(o.names, pool.Member{Addr: f.addr}), now)
	return &s
}

// announce makes a transition known, by one line in the log and one count. A first result that is up has no line:
// the address was answered before, and goes on to be answered. In a cluster, addresses come and go all day.
func (o *overlay) announce(f *found, s *memberState) {
	if o.silent || s.status == f.status {
		return
	}
	transitions.count(o.names[0], s.status)
	if isFirstUp(f.status, s, f.saidDown) {
		f.status = s.status
		return
	}
	f.saidDown = false
	consequence := ""
	switch {
	case s.status == health.Down:
		consequence = "; now left out where others are up"
	case f.status == health.Down && s.held == 0:
		consequence = "; now answered again"
	}
	log.Infof("%s %s: %s -> %s (%s)%s", o.title(), f.addr, f.status, s.status, o.why(s, o.Hold), consequence)
	process.events.transition(o, pool.Member{Addr: f.addr}, f.status, s.status, o.why(s, o.Hold), "")
	f.status = s.status
}

// health is what a choice has to know of an address.
func (f *found) health() pool.Health {
	b := f.belief.Load()
	h := pool.Health{Up: b.status != health.Down && !b.drained, Next: b.soonest, Drained: b.drained}
	if !b.until.IsZero() {
		h.Held, h.Returned = max(0, time.Until(b.until)), b.back
	}
	return h
}
