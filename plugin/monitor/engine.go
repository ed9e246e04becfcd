package monitor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/coredns-failover/failover/plugin/probe"
)

// maxAsking bounds the goroutines that ask. A target that cannot even be connected to takes none, so these
// are for those that connect and then say nothing: two thousand a second at the default timeout.
const maxAsking = 4096

// beat is the least time from one batch of connections to the next. To begin several at once costs a fourth less than
// to wake up for each. A probe may be late by as much, which is no more than the jitter of all but the shortest
// intervals.
const beat = 5 * time.Millisecond

// forever is the patience with a probe that is not to blame for the time it takes.
const forever = math.MaxInt64

var errStuck = errors.New("the probe has not returned after its timeout")

// engine is the goroutines of a monitor while it has something to probe.
type engine struct {
	ctx    context.Context // ends with the last check
	cancel context.CancelFunc
	wake   chan struct{} // the head of the queue has changed
	wg     sync.WaitGroup
	calls  []probe.Call // that run is about to make

	// These are guarded by Monitor.mu.
	dialer   dialer        // nil: there was no need for one yet, or the system has none
	dials    time.Duration // when the system is asked for one again
	room     int           // for probes under way, each of which may have a file open
	underWay int           // probes,
	asking   int           // in a goroutine
	waiting  []call        // for one
	blocked  bool          // what is due cannot begin
	rest     time.Duration // until when nothing is begun
	swept    time.Duration // when giveUpAll was called last
}

// dialer is a [probe.Dialer].
type dialer interface {
	Dial(calls []probe.Call)
	Close()
}

// call is a check that is connected to its target.
type call struct {
	*Check
	conn net.Conn
}

func (m *Monitor) start() *engine {
	e := &engine{wake: make(chan struct{}, 1), room: max(probe.Room(), 1)}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.wg.Go(func() { m.run(e) })
	return e
}

// stop ends the engine and waits for its goroutines, but not for longer than grace: a probe that
// does not obey its context must not keep a name server from shutting down.
func (e *engine) stop() {
	e.cancel()
	ended := make(chan struct{})
	go func() {
		if e.dialer != nil {
			e.dialer.Close()
		}
		for _, c := range e.waiting {
			c.conn.Close()
			e.wg.Done()
		}
		e.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(grace):
	}
}

// poke has the schedule look again. It never blocks: one token is enough for any number of changes.
func (e *engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run is the schedule: it sleeps until the head of the queue is due and starts what is.
func (m *Monitor) run(e *engine) {
	timer := time.NewTimer(time.Hour) // a new check wakes it
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-e.wake:
		case <-e.ctx.Done():
			return
		}
		timer.Reset(max(m.startDue(e), 1))
		if len(e.calls) > 0 {
			e.dialer.Dial(e.calls)
			clear(e.calls)
			e.calls = e.calls[:0]
		}
	}
}

// startDue starts every probe that is due and returns the time until it has to look again. Those that have to
// be connected first are left in e.calls.
func (m *Monitor) startDue(e *engine) time.Duration {
	var told []Watcher
	defer func() { tell(told) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.engine != e {
		return time.Hour // it has ended, and what is in the queue now is another's
	}
	now := m.now()
	if now < e.rest {
		return e.rest - now
	}
	for {
		e.blocked = false
		for len(m.queue) > 0 && m.queue[0].due <= now && !e.blocked {
			switch c := m.queue[0].check; {
			case c.phase != resting:
				told = append(told, m.giveUp(e, c, now)...)
			case m.hasRoom(e, c):
				m.begin(e, c, now)
			default:
				e.blocked = true
			}
		}
		if !e.blocked || now < e.swept+grace {
			break
		}
		e.swept = now
		told = append(told, m.giveUpAll(e, now)...)
	}
	if len(e.calls) > 0 {
		e.rest = now + beat
	}
	switch {
	case e.blocked:
		return e.swept + grace - now // the result of a probe wakes the schedule before
	case len(m.queue) > 0:
		return max(m.queue[0].due, e.rest) - now
	}
	return time.Hour // a new check wakes it
}

// hasRoom says whether the probe of a check can begin.
func (m *Monitor) hasRoom(e *engine, c *Check) bool {
	return e.underWay+len(m.watches) < e.room && (m.connects(e, c) || e.asking < maxAsking)
}

// connects says whether the dialer can make the connection of a check.
func (m *Monitor) connects(e *engine, c *Check) bool {
	if c.caller() == nil {
		return false
	}
	if now := m.now(); e.dialer == nil && now >= e.dials {
		e.dialer, e.dials = m.dialer(e), now+grace
	}
	return e.dialer != nil
}

// begin sends out the probe of a check that is due.
func (m *Monitor) begin(e *engine, c *Check, now time.Duration) {
	c.late, c.started = uint32(min((now-m.queue[0].due).Microseconds(), math.MaxUint32)), now // #nosec G115 -- it is due, and has been made small enough
	m.queue.move(c, now+c.settings.Timeout+grace)
	e.underWay++
	e.wg.Add(1)
	if m.connects(e, c) {
		c.phase = connecting
		e.calls = append(e.calls, probe.Call{Target: c.target(), Timeout: c.settings.Timeout, Keep: c.caller().Talks(), Who: c})
		return
	}
	m.ask(e, call{Check: c}, now+c.settings.Timeout)
}

// connected goes on with a probe as the dialer says.
func (m *Monitor) connected(e *engine, c *Check, conn net.Conn, err error) {
	switch {
	case conn == nil:
		m.ended(e, c, err)
	case !m.takeCall(e, call{c, conn}):
		m.ended(e, c, probe.ErrNotAsked)
	}
}

// takeCall has the probe of a check go on over its connection, unless nobody waits for that any more.
func (m *Monitor) takeCall(e *engine, c call) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case c.phase == stuck || m.engine != e || c.watcher == nil:
		c.conn.Close()
		return false
	case e.asking < maxAsking:
		m.ask(e, c, c.started+c.settings.Timeout)
	default:
		c.phase = waiting
		m.queue.move(c.Check, forever)
		e.waiting = append(e.waiting, c)
	}
	return true
}

// ask has a goroutine ask the question of a check. The engine waits for it, unless the schedule has given up
// on it.
func (m *Monitor) ask(e *engine, c call, until time.Duration) {
	c.phase = asking
	e.asking++
	go func() {
		ctx, cancel := context.WithDeadline(e.ctx, m.epoch.Add(until))
		var cert *probe.Certificate
		if _, ok := probe.ExpiryOf(c.prober); ok {
			cert = new(probe.Certificate)
			ctx = probe.WithCertificate(ctx, cert)
		}
		err := c.askSafely(ctx)
		cancel()
		if cert != nil && !cert.NotAfter.IsZero() {
			m.certificateSeen(c.Check, *cert)
		}
		m.ended(e, c.Check, err)
	}()
}

// askSafely turns a panic into a failed probe: one faulty probe must not end a name server.
func (c call) askSafely(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in the probe: %v", r)
		}
	}()
	if c.conn != nil {
		return c.caller().Talk(ctx, c.conn, c.target())
	}
	return c.prober.Probe(ctx, c.target())
}

// ended makes the result of a probe known.
func (m *Monitor) ended(e *engine, c *Check, err error) {
	if e.ctx.Err() == nil { // a probe that was broken off says nothing of its target
		m.observe(c.prober.Kind(), err, m.now()-c.started, time.Duration(c.late)*time.Microsecond)
	}
	tell(m.finish(e, c, err))
}

func (m *Monitor) finish(e *engine, c *Check, err error) []Watcher {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.phase == stuck { // it has been judged; from now on its target may be asked again
		c.phase = resting
		return nil
	}
	m.leave(e, c, resting)
	if m.engine != e {
		return nil
	}
	watchers := m.record(c, err, c.started)
	if e.blocked || c.index == 0 {
		e.poke()
	}
	return watchers
}

// leave ends the part of a check in what is under way. What it leaves may be taken by those that wait: they get
// their timeout anew, as it was not their target that kept them waiting.
func (m *Monitor) leave(e *engine, c *Check, to phase) {
	if c.phase == asking {
		e.asking--
	}
	c.phase = to
	e.underWay--
	e.wg.Done()
	for m.engine == e && len(e.waiting) > 0 && e.asking < maxAsking {
		next := e.waiting[0]
		e.waiting[0] = call{}
		if e.waiting = e.waiting[1:]; next.watcher == nil {
			next.conn.Close()
			next.phase = resting
			e.underWay--
			e.wg.Done()
			m.queue.remove(next.Check)
			continue
		}
		until := m.now() + next.settings.Timeout
		m.queue.move(next.Check, until+grace)
		m.ask(e, next, until)
		if next.index == 0 {
			e.poke()
		}
	}
}

// giveUp judges a probe that has not returned by its timeout. Until it does, the target is not asked
// again: it fails each time that it would be.
func (m *Monitor) giveUp(e *engine, c *Check, now time.Duration) []Watcher {
	if c.underWay() {
		m.leave(e, c, stuck)
	}
	return m.record(c, errStuck, now)
}

// giveUpAll judges what is overdue anywhere in the queue. It is called when nothing more can be
// started, for then the head of the queue is not what is in the way.
func (m *Monitor) giveUpAll(e *engine, now time.Duration) []Watcher {
	var told []Watcher
	for _, s := range slices.Clone(m.queue) {
		if s.check.underWay() && s.due <= now {
			told = append(told, m.giveUp(e, s.check, now)...)
		}
	}
	return told
}
