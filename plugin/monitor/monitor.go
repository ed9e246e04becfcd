// Package monitor decides when a target is asked and what is believed of it.
//
// One Monitor owns all probing of a process. It is a schedule, a heap of the times at which targets
// are due, and a bounded number of probes under way; between its probes a target costs memory only.
// Those who ask the same question of the same target with the same settings share one [Check], so
// that nothing is probed twice and a history outlives whoever began it.
package monitor

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/coredns-failover/failover/plugin/probe"
)

const (
	// firstSpread is the distance between the first probes of targets that arrive together: ten
	// thousand a second, which a process that may watch a hundred thousand has to bear anyway.
	firstSpread = 100 * time.Microsecond

	// grace is what a probe gets beyond its timeout to close what it opened and return. It is judged
	// without being heard after that.
	grace = time.Second
)

// Watcher is told that what is believed of a target has changed: its status, or how soon that could
// change. It may be called by several goroutines at once, and once more after its Release.
type Watcher interface{ Changed() }

// Observer is told of every probe: how it ended, how long it took, and how late it began. It may be
// called by several goroutines at once.
type Observer func(kind string, err error, took, late time.Duration)

// Monitor owns the probing of a process. All methods may be called at once.
type Monitor struct {
	observe Observer
	dialer  func(*engine) dialer
	hold    func(context.Context, netip.AddrPort) bool // see probe.Hold
	epoch   time.Time                                  // every time in the schedule counts from here
	seed    maphash.Seed

	mu        sync.Mutex // guards all below, and every Check
	questions map[string]*question
	checks    map[uint64]*Check // by what they ask of whom; those after the first are its siblings
	queue     queue
	acquired  uint32        // checks ever made; places them on the grid
	firstDue  time.Duration // of the latest new check
	watches   map[*Check]*idle
	unwatched map[*Check]bool                                            // there was no room for these
	trails    map[*Check]*trail                                          // nil: nobody wants them
	recall    func(question string, target netip.AddrPort) (Known, bool) // nil: there is nothing to recall
	engine    *engine                                                    // nil while there is nothing to probe
}

// question is a probe that checks ask.
type question struct {
	prober probe.Prober
	caller probe.Caller // the same; nil: it makes its own connections, if it does
	checks int
}

// New returns a monitor that does nothing until something is acquired. observe may be nil.
func New(observe Observer) *Monitor {
	if observe == nil {
		observe = func(string, error, time.Duration, time.Duration) {}
	}
	m := &Monitor{
		observe:   observe,
		hold:      probe.Hold,
		epoch:     time.Now(),
		seed:      maphash.MakeSeed(),
		questions: make(map[string]*question),
		checks:    make(map[uint64]*Check),
		watches:   make(map[*Check]*idle),
		unwatched: make(map[*Check]bool),
	}
	m.dialer = m.newDialer
	return m
}

// newDialer is a dialer for an engine, or nil.
func (m *Monitor) newDialer(e *engine) dialer {
	d := probe.NewDialer(func(who any, c net.Conn, err error) { m.connected(e, who.(*Check), c, err) })
	if d == nil {
		return nil
	}
	return d
}

// Acquire has target asked until the check is released as often as it was acquired. settings must
// not be written to any more. Where the same is asked with other settings already, the new check
// starts from the status known there.
func (m *Monitor) Acquire(p probe.Prober, target netip.AddrPort, settings *Settings, w Watcher) *Check {
	m.mu.Lock()
	defer m.mu.Unlock()

	q := m.question(p)
	key := m.key(q, target)
	c := &Check{question: q, target: target, settings: settings, watcher: w, sibling: m.checks[key]}
	var same *Check // but for its settings; the latest
	for known := c.sibling; known != nil; known = known.sibling {
		if known.question != q || known.target != target {
			continue
		}
		if *known.settings == *settings {
			known.watch(w)
			return known
		}
		same = cmp.Or(same, known)
	}
	if same != nil {
		c.inherit(same)
	} else if m.recall != nil {
		if k, ok := m.recall(p.String(), target); ok {
			c.status, c.back, c.since, c.err = k.Status, k.Back, k.Since.Sub(m.epoch), k.Err
		}
	}
	q.checks++
	m.checks[key] = c
	m.schedule(c)
	return c
}

// Known is what was known of a target before.
type Known struct {
	Status Status
	Since  time.Time
	Back   bool  // see [State]
	Err    error // the latest failure; nil: there was none
}

// Recall has checks that are new begin with what recall knows of their targets, where it is ok; nil ends that. They are
// probed at once all the same.
func (m *Monitor) Recall(recall func(question string, target netip.AddrPort) (k Known, ok bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recall = recall
}

// All calls yield with what is known of each target that has a status, question by question. yield must not call the
// monitor.
func (m *Monitor) All(yield func(question string, target netip.AddrPort, k Known)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	type key struct {
		*question
		netip.AddrPort
	}
	seen := make(map[key]bool)
	for _, head := range m.checks {
		for c := head; c != nil; c = c.sibling {
			if k := (key{c.question, c.target}); c.status != Unknown && !seen[k] {
				seen[k] = c.sibling != nil // else there is no other
				yield(c.question.prober.String(), c.target, Known{c.status, m.epoch.Add(c.since), c.back, c.err})
			}
		}
	}
}

// question finds the question that a probe asks, or begins to ask it.
func (m *Monitor) question(p probe.Prober) *question {
	text := p.String()
	q := m.questions[text]
	if q == nil {
		q = &question{prober: p}
		q.caller, _ = p.(probe.Caller)
		m.questions[text] = q
	}
	return q
}

// key is where the checks of a question and a target are found, and maybe some others.
func (m *Monitor) key(q *question, target netip.AddrPort) uint64 {
	return maphash.Comparable(m.seed, struct {
		q      *question
		target netip.AddrPort
	}{q, target})
}

// schedule gives a new check its place: its first probe at once, all others on a grid of its own.
func (m *Monitor) schedule(c *Check) {
	m.acquired++
	c.place = m.acquired * 2654435769 // the golden ratio of 2^32: any number of checks lies evenly
	m.firstDue = max(m.firstDue+firstSpread, m.now())
	m.queue.add(c, m.firstDue)
	if m.engine == nil {
		m.engine = m.start()
	}
	m.watch(c)
	m.engine.poke()
}

// Release ends what one Acquire with this watcher began. The last Release of all breaks off every
// probe under way and returns when the goroutines of the monitor have ended.
func (m *Monitor) Release(c *Check, w Watcher) {
	m.mu.Lock()
	if !c.unwatch(w) {
		m.mu.Unlock()
		return
	}
	if c.watcher == nil {
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

// forget takes a check out of the schedule, or leaves that to the end of the probe that is under way.
func (m *Monitor) forget(c *Check) {
	m.unwatch(c)
	delete(m.trails, c)
	if !c.underWay() {
		m.queue.remove(c)
	}
	q, key := c.question, m.key(c.question, c.target)
	if head := m.checks[key]; head != c {
		for head.sibling != c {
			head = head.sibling
		}
		head.sibling = c.sibling
	} else if m.checks[key] = c.sibling; c.sibling == nil {
		delete(m.checks, key)
	}
	if q.checks--; q.checks == 0 {
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

// record takes a result, sets the time of the next probe, and returns whom to tell of a change.
func (m *Monitor) record(c *Check, err error, started time.Duration) []Watcher {
	if c.watcher == nil {
		m.queue.remove(c)
		return nil
	}
	now := m.now()
	before := c.history
	if errors.Is(err, probe.ErrNotAsked) {
		m.queue.move(c, max(now, c.next(started)))
		return nil
	}
	m.note(c, err == nil, now, now-started)
	c.history = before.after(err == nil, c.settings)
	if err != nil {
		c.err = err
	}
	if c.status != before.status {
		c.since = now
		c.back = before.status == Down
	}
	m.queue.move(c, m.seen(c, before.status, now, max(now, c.next(started))))
	if c.status == before.status && c.soonest(c.settings) == before.soonest(c.settings) {
		return nil
	}
	return c.watchers()
}

func tell(watchers []Watcher) {
	for _, w := range watchers {
		w.Changed()
	}
}
