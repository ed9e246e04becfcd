// Package monitor decides when a target is asked and what is believed of it.
//
// One Monitor owns all probing of a process. It is a schedule, a heap of the times at which targets
// are due, and a bounded number of probes under way; between its probes a target costs memory only.
// Those who ask the same question of the same target with the same settings share one [Check], so
// that nothing is probed twice and a history outlives whoever began it.
package monitor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
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

	mu           sync.Mutex           // guards all below, and every Check
	questions    map[string]*question // those after the first differ in their settings
	checks       table
	queue        queue
	acquired     uint16        // checks ever made; places them on the grid
	firstDue     time.Duration // of the latest new check
	watches      map[*Check]*idle
	unwatched    map[*Check]bool                                            // there was no room for these
	certificates map[*Check]probe.Certificate                               // the latest certificate of the targets that showed one
	certified    func(probe.Prober, netip.AddrPort, probe.Certificate)      // told of each certificate that is seen; nil: nobody is
	trails       map[*Check]*trail                                          // nil: nobody wants them
	recall       func(question string, target netip.AddrPort) (Known, bool) // nil: there is nothing to recall
	engine       *engine                                                    // nil while there is nothing to probe
}

// question is a probe that checks ask, and how often.
type question struct {
	prober   probe.Prober
	settings *health.Settings
	checks   int
	next     *question // see Monitor.questions
}

// caller is the prober, or nil if that makes its own connections, where it does.
func (q *question) caller() probe.Caller {
	c, _ := q.prober.(probe.Caller)
	return c
}

// New returns a monitor that does nothing until something is acquired. observe may be nil.
func New(observe Observer) *Monitor {
	if observe == nil {
		observe = func(string, error, time.Duration, time.Duration) {}
	}
	m := &Monitor{
		observe:      observe,
		hold:         probe.Hold,
		epoch:        time.Now(),
		questions:    make(map[string]*question),
		checks:       newTable(),
		watches:      make(map[*Check]*idle),
		unwatched:    make(map[*Check]bool),
		certificates: make(map[*Check]probe.Certificate),
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

// Acquire has target, which has no zone, asked until the check is released as often as it was acquired. settings
// must not be written to any more. Where the same is asked with other settings already, the new check
// starts from the status known there.
func (m *Monitor) Acquire(p probe.Prober, target netip.AddrPort, settings *health.Settings, w Watcher) *Check {
	m.mu.Lock()
	defer m.mu.Unlock()

	text := p.String()
	c := &Check{question: m.question(text, p, settings), to: pack(target), watcher: w}
	var same *Check // but for its settings; the one that was asked last
	for known := *m.checks.chain(text, c.to); known != nil; known = known.sibling {
		if known.to != c.to || known.prober.String() != text {
			continue
		}
		if known.question == c.question {
			known.watch(w)
			return known
		}
		if same == nil || known.started > same.started {
			same = known
		}
	}
	if same != nil {
		c.inherit(same)
	} else if m.recall != nil {
		if k, ok := m.recall(p.String(), target); ok {
			c.Status, c.back, c.since, c.err = k.Status, k.Back, min(k.Since.Sub(m.epoch), m.now()), k.Err
		}
	}
	c.checks++
	m.checks.add(c)
	m.schedule(c)
	return c
}

// question finds the question that a probe asks, of which text is the String, or begins to ask it.
func (m *Monitor) question(text string, p probe.Prober, settings *health.Settings) *question {
	first := m.questions[text]
	for q := first; q != nil; q = q.next {
		if *q.settings == *settings {
			return q
		}
	}
	q := &question{prober: p, settings: settings, next: first}
	m.questions[text] = q
	return q
}

// drop ends a question that no check asks any more.
func (m *Monitor) drop(q *question) {
	text := q.prober.String()
	first := m.questions[text]
	at := &first
	for *at != q {
		at = &(*at).next
	}
	if *at = q.next; first == nil {
		delete(m.questions, text)
		return
	}
	m.questions[text] = first
}

// schedule gives a new check its place: its first probe at once, all others on a grid of its own.
func (m *Monitor) schedule(c *Check) {
	m.acquired++
	c.place = m.acquired * 40503 // the golden ratio of 2^16: any number of checks lies evenly
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
		ended, m.engine, m.queue, m.checks = m.engine, nil, nil, newTable()
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
	delete(m.certificates, c)
	if !c.underWay() {
		m.queue.remove(c)
	}
	m.checks.remove(c)
	if c.checks--; c.checks == 0 {
		m.drop(c.question)
	}
}

// States reads the states of several checks at one moment into a slice of the same length.
func (m *Monitor) States(checks []*Check, into []health.State) {
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
	before := c.History
	if errors.Is(err, probe.ErrNotAsked) {
		m.queue.move(c, max(now, c.next(started)))
		return nil
	}
	m.note(c, err == nil, now, now-started)
	c.History = before.After(err == nil, c.settings)
	if err != nil {
		c.err = err
	}
	if c.Status != before.Status {
		c.since = now
		c.back = before.Status == health.Down
	}
	m.queue.move(c, m.seen(c, before.Status, now, max(now, c.next(started))))
	if c.Status == before.Status && c.EarliestChange(c.settings) == before.EarliestChange(c.settings) {
		return nil
	}
	return c.watchers()
}

func tell(watchers []Watcher) {
	for _, w := range watchers {
		w.Changed()
	}
}
