package failover

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/monitor"
)

// process is what all generations share, and which of them there are.
var process = registry{monitor: monitor.New(observeProbe)}

// registry knows every generation that has started and not been stopped. During a reload there are
// two, and there is a third kind: one whose reload failed after it had started.
type registry struct {
	monitor *monitor.Monitor

	mu          sync.Mutex // guards all below
	generations []*generation
	reloading   *generation // the one whose reload has begun and not ended
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
	zones    map[string]*zone // of the pools, by origin

	silent  atomic.Bool   // the generation before still speaks for both
	pending atomic.Int64  // pools that have a member without a status
	known   chan struct{} // closed when pending is 0
	ready   atomic.Bool   // nothing is pending, or the time for that is over
	stopped sync.Once
}

// newGeneration begins what a Corefile asks for.
func (r *registry) newGeneration() *generation {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := &generation{
		monitor:  r.monitor,
		replaces: r.reloading,
		zones:    make(map[string]*zone),
		known:    make(chan struct{}),
	}
	g.silent.Store(g.replaces != nil)
	return g
}

// zone returns the generation's zone of origin.
func (g *generation) zone(origin string) *zone {
	z := g.zones[origin]
	if z == nil {
		z = &zone{origin: origin, ttl: math.MaxUint32, serial: process.serial(origin)}
		g.zones[origin] = z
	}
	return z
}

// serial returns the serial of origin that a generation has already, or a new one.
func (r *registry) serial(origin string) *serial {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.generations {
		if z := g.zones[origin]; z != nil {
			return z.serial
		}
	}
	return new(serial)
}

// start begins the probing and returns when every member has a status, or after the longest of the
// startup times.
func (g *generation) start() {
	process.mu.Lock()
	process.generations = append(process.generations, g)
	process.mu.Unlock()

	before := make(map[string]*livePool)
	if g.replaces != nil {
		for _, p := range g.replaces.pools {
			before[p.key] = p
		}
	}
	var patience time.Duration
	g.pending.Store(int64(len(g.pools)))
	for _, p := range g.pools {
		p.start(g, before[p.key])
		patience = max(patience, p.startup)
	}
	select {
	case <-g.known:
	case <-time.After(patience):
	}
	g.ready.Store(true)
}

// poolSettled is called once by every pool, as soon as each of its members has a status.
func (g *generation) poolSettled() {
	if g.pending.Add(-1) == 0 {
		close(g.known)
	}
}

// stop ends the probing that no other generation asks for. It may be called more than once.
func (g *generation) stop() {
	g.stopped.Do(func() {
		for _, p := range g.pools {
			p.stop()
		}
		process.mu.Lock()
		defer process.mu.Unlock()
		process.generations = slices.DeleteFunc(process.generations, func(o *generation) bool { return o == g })
		forgetSeries(g.pools, process.generations)
	})
}

// reload notes that a Corefile is being read that may replace this one.
func (g *generation) reload() {
	process.mu.Lock()
	defer process.mu.Unlock()
	process.reloading = g
}

// reloadFailed ends what reload began: g goes on, and what was to succeed it stops.
func (g *generation) reloadFailed() {
	for _, next := range g.successors() {
		next.stop()
	}
}

// reloaded ends what reload began: g stops, and its successor speaks for itself.
func (g *generation) reloaded() {
	g.stop()
	for _, next := range g.successors() {
		next.silent.Store(false)
		for _, p := range next.pools {
			p.speak()
		}
	}
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
	process.reloading = nil
	var next []*generation
	for _, o := range process.generations {
		if o.replaces == g {
			o.replaces = nil
			next = append(next, o)
		}
	}
	return next
}

// answering says whether the process can answer rightly: this generation can, or one that it is about
// to replace still does.
func (g *generation) answering() bool {
	if g.ready.Load() {
		return true
	}
	process.mu.Lock()
	defer process.mu.Unlock()
	return slices.ContainsFunc(process.generations, func(o *generation) bool { return o.ready.Load() })
}
