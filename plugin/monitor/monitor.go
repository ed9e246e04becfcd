// Package monitor decides when a target is asked and what is believed of it.
//
// One Monitor owns all probing of a process. It is a schedule, a heap of the times at which targets
// are due, and a bounded number of probes under way; between its probes a target costs memory only.
// Those who ask the same question of the same target with the same settings share one [Check], so
// that nothing is probed twice and a history outlives whoever began it.
package monitor

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/coredns-failover/failover/plugin/probe"
)

const (
	// firstSpread is the distance between the first probes of targets that arrive together: ten
	// thousand a second, which a process that may watch a hundred thousand has to bear anyway.
	firstSpread = 100 * time.Microsecond

	// maxUnderWay bounds the probes under way, and so the sockets and goroutines: enough for two
	// thousand dead targets a second at the default timeout, and far below any limit on open files.
	maxUnderWay = 4096

	// grace is what a probe gets beyond its timeout to close what it opened and return. It is judged
	// without being heard after that.
	grace = time.Second
)

var errStuck = errors.New("the probe has not returned after its timeout")

// Watcher is told that what is believed of a target has changed: its status, or how soon that could
// change. It may be called by several goroutines at once, and once more after its Release.
type Watcher interface{ Changed() }

// Observer is told of every probe: how it ended, how long it took, and how late it began. It may be
// called by several goroutines at once.
type Observer func(kind string, err error, took, late time.Duration)

// Monitor owns the probing of a process. All methods may be called at once.
type Monitor struct {
	observe Observer
	epoch   time.Time // every time in the schedule counts from here

	mu        sync.Mutex // guards all below, and every Check
	questions map[string]*question
	queue     queue
	acquired  uint32        // checks ever made; places them on the grid
	firstDue  time.Duration // of the latest new check
	engine    *engine       // nil while there is nothing to probe
}

// question is a probe and everything it is asked of.
type question struct {
	prober  probe.Prober
	targets map[netip.AddrPort]*Check // the first of those with different settings
}

// engine is the goroutines of a monitor while it has something to probe.
type engine struct {
	ctx    context.Context // ends with the last check
	cancel context.CancelFunc
	wake   chan struct{} // the head of the queue has changed
	wg     sync.WaitGroup

	// These are guarded by Monitor.mu.
	underWay int           // probes
	swept    time.Duration // when giveUpAll was called last
}

// New returns a monitor that does nothing until something is acquired. observe may be nil.
func New(observe Observer) *Monitor {
	if observe == nil {
		observe = func(string, error, time.Duration, time.Duration) {}
	}
	return &Monitor{observe: observe, epoch: time.Now(), questions: make(map[string]*question)}
}

// Acquire has target asked until the check is released as often as it was acquired. settings must
// not be written to any more. Where the same is asked with other settings already, the new check
// starts from the status known there.
func (m *Monitor) Acquire(p probe.Prober, target netip.AddrPort, settings *Settings, w Watcher) *Check {
	m.mu.Lock()
	defer m.mu.Unlock()

	text := p.String()
	q := m.questions[text]
	if q == nil {
		q = &question{prober: p, targets: make(map[netip.AddrPort]*Check, 1)}
		m.questions[text] = q
	}
	known := q.targets[target]
	for c := known; c != nil; c = c.sibling {
		if *c.settings == *settings {
			c.watchers = append(c.watchers, w)
			return c
		}
	}
	c := &Check{question: q, target: target, settings: settings, watchers: []Watcher{w}, sibling: known}
	if known != nil {
		c.inherit(known)
	}
	q.targets[target] = c
	m.schedule(c)
	return c
}

// schedule gives a new check its place: its first probe at once, all others on a grid of its own.
func (m *Monitor) schedule(c *Check) {
	m.acquired++
	c.place = m.acquired * 2654435769 // the golden ratio of 2^32: any number of checks lies evenly
	m.firstDue = max(m.firstDue+firstSpread, m.now())
	c.due = m.firstDue
	heap.Push(&m.queue, c)
	if m.engine == nil {
		m.start()
	}
	m.engine.poke()
}

func (m *Monitor) start() {
	e := &engine{wake: make(chan struct{}, 1)}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	m.engine = e
	e.wg.Go(func() { m.run(e) })
}

// Release ends what one Acquire with this watcher began. The last Release of all breaks off every
// probe under way and returns when the goroutines of the monitor have ended.
func (m *Monitor) Release(c *Check, w Watcher) {
	m.mu.Lock()
	i := slices.Index(c.watchers, w)
	if i < 0 {
		m.mu.Unlock()
		return
	}
	last := len(c.watchers) - 1 // their order means nothing, and there may be very many
	c.watchers[i], c.watchers[last] = c.watchers[last], nil
	c.watchers = c.watchers[:last]
	if len(c.watchers) == 0 {
		m.forget(c)
	}
	var ended *engine
	if len(m.questions) == 0 {
		ended, m.engine, m.queue = m.engine, nil, nil
	}
	m.mu.Unlock()

	if ended != nil {
		ended.stop()
	}
}

// stop ends the engine and waits for its goroutines, but not for longer than grace: a probe that
// does not obey its context must not keep a name server from shutting down.
func (e *engine) stop() {
	e.cancel()
	ended := make(chan struct{})
	go func() {
		e.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(grace):
	}
}

// forget takes a check out of the schedule, or leaves that to the end of the probe that is under way.
func (m *Monitor) forget(c *Check) {
	if !c.underWay {
		heap.Remove(&m.queue, c.index)
	}
	q := c.question
	if head := q.targets[c.target]; head == c {
		q.targets[c.target] = c.sibling
	} else {
		for head.sibling != c {
			head = head.sibling
		}
		head.sibling = c.sibling
	}
	if q.targets[c.target] == nil {
		delete(q.targets, c.target)
	}
	if len(q.targets) == 0 {
		delete(m.questions, q.prober.String())
	}
}

// States reads the states of several checks at one moment into a slice of the same length.
func (m *Monitor) States(checks []*Check, into []State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, c := range checks {
		into[i] = c.state(m.epoch)
	}
}

func (m *Monitor) now() time.Duration { return time.Since(m.epoch) }

// run is the schedule: it sleeps until the head of the queue is due and starts what is.
func (m *Monitor) run(e *engine) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-e.wake:
		case <-e.ctx.Done():
			return
		}
		timer.Reset(m.startDue(e))
	}
}

// poke has the schedule look again. It never blocks: one token is enough for any number of changes.
func (e *engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// startDue starts every probe that is due and returns the time until it has to look again.
func (m *Monitor) startDue(e *engine) time.Duration {
	var told []Watcher
	defer func() { tell(told) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.engine != e {
		return time.Hour // it has ended, and what is in the queue now is another's
	}
	now := m.now()
	for {
		for len(m.queue) > 0 && m.queue[0].due <= now && e.underWay < maxUnderWay {
			if c := m.queue[0]; c.underWay || c.stuck {
				told = append(told, m.giveUp(e, c, now)...)
			} else {
				m.begin(e, c, now)
			}
		}
		if e.underWay < maxUnderWay || now < e.swept+grace {
			break
		}
		e.swept = now
		told = append(told, m.giveUpAll(e, now)...)
	}
	switch {
	case e.underWay >= maxUnderWay:
		return e.swept + grace - now // the result of a probe wakes the schedule before
	case len(m.queue) > 0:
		return m.queue[0].due - now
	}
	return time.Hour // a new check wakes it
}

// begin sends out the probe of a check that is due.
func (m *Monitor) begin(e *engine, c *Check, now time.Duration) {
	late := now - c.due
	c.underWay, c.started = true, now
	c.due = now + c.settings.Timeout + grace
	heap.Fix(&m.queue, c.index)
	e.underWay++
	e.wg.Add(1)
	go m.ask(e, c, late)
}

// giveUp judges a probe that has not returned by its timeout. Until it does, the target is not asked
// again: it fails each time that it would be.
func (m *Monitor) giveUp(e *engine, c *Check, now time.Duration) []Watcher {
	if c.underWay {
		c.underWay, c.stuck = false, true
		e.underWay--
		e.wg.Done()
	}
	return m.record(c, errStuck, now)
}

// giveUpAll judges what is overdue anywhere in the queue. It is called when nothing more can be
// started, for then the head of the queue is not what is in the way.
func (m *Monitor) giveUpAll(e *engine, now time.Duration) []Watcher {
	var told []Watcher
	for _, c := range slices.Clone(m.queue) {
		if c.underWay && c.due <= now {
			told = append(told, m.giveUp(e, c, now)...)
		}
	}
	return told
}

func tell(watchers []Watcher) {
	for _, w := range watchers {
		w.Changed()
	}
}

// ask makes one probe and records its result. The engine waits for it, unless the schedule has given
// up on it.
func (m *Monitor) ask(e *engine, c *Check, late time.Duration) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(e.ctx, c.settings.Timeout)
	err := askSafely(ctx, c.question.prober, c.target)
	cancel()
	if e.ctx.Err() == nil { // a probe that was broken off says nothing of its target
		m.observe(c.question.prober.Kind(), err, time.Since(began), late)
	}
	tell(m.finish(e, c, err))
}

func (m *Monitor) finish(e *engine, c *Check, err error) []Watcher {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.stuck { // it has been judged; from now on its target may be asked again
		c.stuck = false
		return nil
	}
	defer e.wg.Done()
	c.underWay = false
	full := e.underWay == maxUnderWay
	e.underWay--
	if m.engine != e {
		return nil
	}
	watchers := m.record(c, err, c.started)
	if full || c.index == 0 {
		e.poke()
	}
	return watchers
}

// askSafely turns a panic into a failed probe: one faulty probe must not end a name server.
func askSafely(ctx context.Context, p probe.Prober, target netip.AddrPort) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in the probe: %v", r)
		}
	}()
	return p.Probe(ctx, target)
}

// record takes a result, sets the time of the next probe, and returns whom to tell of a change.
func (m *Monitor) record(c *Check, err error, started time.Duration) []Watcher {
	if len(c.watchers) == 0 {
		heap.Remove(&m.queue, c.index)
		return nil
	}
	now := m.now()
	before := c.history
	c.history = before.after(err == nil, c.settings)
	if err != nil {
		c.err = err
	}
	if c.status != before.status {
		c.since = now
		c.back = before.status == Down
	}
	c.due = max(now, c.next(started))
	heap.Fix(&m.queue, c.index)
	if c.status == before.status && c.soonest(c.settings) == before.soonest(c.settings) {
		return nil
	}
	return slices.Clone(c.watchers)
}
