package failover

import (
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/state"
)

// process is what all generations share, and which of them there are.
var process = newRegistry()

func newRegistry() *registry {
	r := &registry{monitor: monitor.New(observeProbe)}
	r.monitor.OnCertificate(new(certificateLog).observe)
	r.listeners.Server = api.NewServer(r, &r.events.Journal)
	return r
}

// registry knows every generation that has started and not been stopped. During a reload there are
// two, and there is a third kind: one whose reload failed after it had started.
type registry struct {
	monitor   *monitor.Monitor
	events    events
	overrides atomic.Pointer[override.Table] // in force; replaced, never written to
	listeners api.Listeners
	state     keeper
	sharing   sharing
	refusals  refusalLog
	refusal   refusal

	settling sync.Mutex  // one settle after the other
	deciding sync.Mutex  // one decision after the other; guards
	expiry   *time.Timer // of the first override that ends by itself; nil: none does

	mu          sync.Mutex // guards all below
	generations []*generation
	reloading   *generation // the one whose reload has begun and not ended
	opening     *generation // the one that opens its listeners and has not started; nil: there is none
	index       *index      // of the generations that answer; nil: to be made anew
}

// generation is everything that one Corefile asks of this plugin: the pools of all its server blocks.
//
// CoreDNS starts the next one before it stops the one before, so what both ask for is never given up
// in between. One that CoreDNS discards, because its reload failed further on, is told nothing: then
// the one before, which lives on, stops it.
type generation struct {
	monitor  *monitor.Monitor
	replaces *generation // the one that answers until this one does; nil: there is none
	pools    []*livePool
	overlays []*overlay
	zones    map[zoneKey]*zone // of the pools
	outlets  []outlet
	operation
	kept    *state.Restored // what the state file had; nil: nothing that is of use
	notKept string          // why the state is not written although the Corefile says so; "": it is, or is not to be

	members int         // of all pools
	tidy    *time.Timer // see tidyAfter
	first   bool        // no other Corefile has been answered by before; set before start
	ready   atomic.Bool // start is over
	stopped sync.Once

	// pending counts the pools that have a member without a status, by their startup; known is told when
	// it is none for one of these.
	pending map[time.Duration]*atomic.Int64
	known   chan struct{}
	longest time.Duration // of these startups
}

const (
	// many members leave so much garbage when they start, as text of the Corefile, as what was made of that, and with
	// their first results, that the process stays at three times the memory that it needs. It is given back to the system
	// once, tidyAfter the start is over.
	manyMembers = 10_000
	tidyAfter   = 10 * time.Second
)

// outlet is where the answers of a server block's pools go besides the replies to queries.
type outlet interface {
	// open is called when it is this generation that answers, close when it does not any more; close may come
	// without open.
	open()
	close()

	// moved is told that what a pool answers has changed. It may be called at any time, also before open, and by
	// several at once; it does not wait for anything.
	moved(p *livePool)
}

// newGeneration begins what a Corefile asks for.
func (r *registry) newGeneration() *generation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &generation{
		monitor:  r.monitor,
		replaces: r.reloading,
		zones:    make(map[zoneKey]*zone),
		pending:  make(map[time.Duration]*atomic.Int64),
		known:    make(chan struct{}, 1),
	}
}

// zoneKey is what tells one zone from another: server blocks with a view may have the same origin, and different
// answers in it.
type zoneKey struct{ block, origin string }

// zone returns the generation's zone of an origin in a server block, for which by is responsible.
func (g *generation) zone(key zoneKey, by authority) *zone {
	z := g.zones[key]
	if z == nil {
		z = newZone(key.origin, by, process.serial(key))
		g.zones[key] = z
	}
	return z
}

// serial returns the serial of a zone that a generation has already, or a new one.
func (r *registry) serial(key zoneKey) *serial {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := newSerial()
	for _, g := range r.generations {
		for k, z := range g.zones {
			switch {
			case k == key:
				return z.serial
			case k.origin == key.origin: // it was in another server block, maybe
				s.advance(z.serial.Load())
			}
		}
	}
	return s
}

// start begins the probing and returns when every member has a status, or no pool has to be waited for
// any longer.
func (g *generation) start() {
	process.mu.Lock()
	process.generations, process.index = append(process.generations, g), nil
	process.opening = nil
	replaces := g.replaces
	process.mu.Unlock()

	process.watched(len(g.listens) > 0 || process.events.Keeps())
	if g.restore(); replaces == nil {
		process.sharing.use(g.share, process.adopt(g.kept))
	}
	if g.kept != nil {
		g.monitor.Recall(func(question string, target netip.AddrPort) (monitor.Known, bool) {
			k, ok := g.kept.Status(question, target)
			return monitor.Known(k), ok
		})
	}

	before := make(map[poolKey]*livePool)
	if replaces != nil {
		for _, p := range replaces.pools {
			before[p.key()] = p
		}
	}
	began := time.Now()
	for _, p := range g.pools {
		g.expect(p.startup)
		g.members += p.Size()
	}
	for _, o := range g.overlays {
		g.expect(o.startup)
	}
	for _, p := range g.pools {
		p.start(g, before[p.key()], replaces != nil)
	}
	for _, o := range g.overlays {
		o.start(g, predecessor(o, replaces), replaces != nil)
	}
	g.monitor.Recall(nil)
	for left := g.patience(began); left > 0; left = g.patience(began) {
		select {
		case <-g.known:
		case <-time.After(left):
		}
	}
	if s := process.sharing.sites(); s != nil && replaces == nil { // what is down for most is not answered first
		select {
		case <-s.Ready():
		case <-time.After(max(0, g.longest-time.Since(began))):
		}
	}
	g.ready.Store(true)
	if g.members >= manyMembers {
		// Not before each has been asked, however long that takes: see monitor.
		g.tidy = time.AfterFunc(tidyAfter+time.Duration(g.members)*100*time.Microsecond, debug.FreeOSMemory)
	}
	if replaces == nil {
		g.open()
		summary := g.summary()
		log.Infof("Started %s", summary)
		process.events.server("started", summary)
	}
}

// open is called when the generation is the one that answers.
func (g *generation) open() {
	process.sharing.use(g.share, process.adopt(g.kept))
	g.kept = nil
	process.state.use(g.state, g.notKept)
	for _, o := range g.outlets {
		o.open()
	}
}

// predecessor is the overlay of the generation before whose addresses o takes over: the same one, or another that
// asks the same of them. nil: there is none.
func predecessor(o *overlay, replaces *generation) *overlay {
	if replaces == nil {
		return nil
	}
	for _, same := range []func(*overlay) bool{
		func(before *overlay) bool { return before.key() == o.key() },
		func(before *overlay) bool { return o.asksTheSame(&before.inquiry) },
	} {
		if i := slices.IndexFunc(replaces.overlays, same); i >= 0 {
			return replaces.overlays[i]
		}
	}
	return nil
}

// patience is how long some pool may still be waited for.
func (g *generation) patience(began time.Time) time.Duration {
	longest := time.Duration(0)
	for startup, pools := range g.pending {
		if pools.Load() > 0 {
			longest = max(longest, startup)
		}
	}
	return longest - time.Since(began)
}

// expect notes that a pool has to be waited for.
func (g *generation) expect(startup time.Duration) {
	if g.pending[startup] == nil {
		g.pending[startup] = new(atomic.Int64)
		g.longest = max(g.longest, startup)
	}
	g.pending[startup].Add(1)
}

// settled is called once for every pool, as soon as each of its members has a status.
func (g *generation) settled(startup time.Duration) {
	if g.pending[startup].Add(-1) == 0 {
		select {
		case g.known <- struct{}{}:
		default:
		}
	}
}

// stop ends the probing that no other generation asks for. It may be called more than once.
func (g *generation) stop() {
	g.stopped.Do(func() {
		last := process.isLast(g)
		if last {
			process.state.use(nil, "") // while there is something to write
		}
		if g.tidy != nil {
			g.tidy.Stop()
		}
		for _, o := range g.outlets {
			o.close()
		}
		for _, p := range g.pools {
			p.stop()
		}
		for _, o := range g.overlays {
			o.stop()
		}
		if last { // when nobody is left who would go by his own
			process.sharing.use(nil, nil)
		}
		process.forget(g)
		process.settle()
	})
}

// isLast says whether a generation is the only one.
func (r *registry) isLast(g *generation) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.generations) == 1 && r.generations[0] == g
}

// forget takes a generation out, and with the last one what operators have decided: the state file has it. One that has
// never started, because somebody has dropped its instance, leaves nothing behind.
func (r *registry) forget(g *generation) {
	r.mu.Lock()
	if !slices.Contains(r.generations, g) {
		r.mu.Unlock()
		return
	}
	r.generations, r.index = slices.DeleteFunc(r.generations, func(o *generation) bool { return o == g }), nil
	forgetSeries(g, r.generations)
	r.mu.Unlock()
	r.deciding.Lock()
	defer r.deciding.Unlock()
	r.mu.Lock()
	none := len(r.generations) == 0 && r.opening == nil // another may have begun in between
	r.mu.Unlock()
	if none {
		r.put(new(override.Table))
	}
}

// reload notes that a Corefile is being read that may replace this one.
func (g *generation) reload() {
	process.refusal.begin()
	process.mu.Lock()
	defer process.mu.Unlock()
	process.reloading = g
}

// reloadFailed ends what reload began: g goes on, and what was to succeed it stops.
func (g *generation) reloadFailed() {
	for _, next := range g.successors() {
		next.stop()
	}
	process.events.server("refused", process.refusal.refuse(corefilePath(g)))
}

// reloaded ends what reload began: g stops, and its successor speaks for itself.
func (g *generation) reloaded() {
	successors := g.successors()
	for _, next := range successors {
		for _, o := range next.overlays {
			o.takeOver()
		}
	}
	g.stop()
	summary := "" // of a Corefile without this plugin
	for _, next := range successors {
		for _, p := range next.pools {
			p.speak()
		}
		for _, o := range next.overlays {
			o.speak()
		}
		next.open()
		summary = next.summary()
		log.Infof("Reloaded %s", summary)
		process.events.Reload()
	}
	process.refusal.end()
	process.events.server("reloaded", summary)
}

// reloading says whether reload has been called and its end has not.
func (g *generation) reloading() bool {
	process.mu.Lock()
	defer process.mu.Unlock()
	return process.reloading == g
}

// successors ends the reload of g and returns what it brought forth: one, or none, generation.
func (g *generation) successors() []*generation {
	process.mu.Lock()
	defer process.mu.Unlock()
	process.reloading, process.index = nil, nil
	var next []*generation
	for _, o := range process.generations {
		if o.replaces == g {
			o.replaces = nil
			next = append(next, o)
		}
	}
	return next
}

// answering says whether the process can answer rightly. In a reload it can: the Corefile before does it
// until this one is ready.
func (g *generation) answering() bool { return g.ready.Load() || !g.first }
