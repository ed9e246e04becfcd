package monitor

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/coredns-failover/failover/plugin/probe"
)

const (
	// maxWatches bounds the connections that are held: each is a descriptor and a goroutine, here, and as much at the
	// target. What is beyond is found out by probes alone.
	maxWatches = 4096

	// A connection that ends is made anew after reopen, and after longer and longer, up to maxReopen, where the target
	// does not keep them that long.
	reopen    = time.Second
	maxReopen = time.Minute
)

// idle is the holding of a connection to the target of a check while it is up.
type idle struct {
	cancel context.CancelFunc
	up     chan struct{} // the target has come up
	again  bool          // the connection ended during a probe, which may have begun before; guarded by Monitor.mu
}

// watch begins to watch the target of a new check, if its question wants that and there is room.
func (m *Monitor) watch(c *Check) {
	w, ok := c.question.prober.(probe.Watching)
	if !ok || !w.Watches() || len(m.watches) >= maxWatches {
		return
	}
	ctx, cancel := context.WithCancel(m.engine.ctx)
	held := &idle{cancel: cancel, up: make(chan struct{}, 1)}
	if m.watches == nil {
		m.watches = make(map[*Check]*idle)
	}
	m.watches[c] = held
	if c.status == Up {
		held.up <- struct{}{}
	}
	m.engine.wg.Go(func() { m.keep(ctx, c, held) })
}

// unwatch ends that.
func (m *Monitor) unwatch(c *Check) {
	if w := m.watches[c]; w != nil {
		w.cancel()
		delete(m.watches, c)
	}
}

// keep holds a connection whenever the target is up, and has it asked when that ends. What becomes of the connection
// is no verdict: it is for the probe to say what it means.
func (m *Monitor) keep(ctx context.Context, c *Check, w *idle) {
	for {
		select {
		case <-w.up:
		case <-time.After(maxReopen): // it may have been up without taking the connection
		case <-ctx.Done():
			return
		}
		for wait := reopen; m.isUp(c); wait = min(2*wait, maxReopen) {
			began := time.Now()
			held := m.hold(ctx, c.target)
			if ctx.Err() != nil {
				return
			}
			if !held {
				break
			}
			m.hurry(c, w)
			if time.Since(began) >= maxReopen {
				wait = reopen
			}
			select {
			case <-time.After(wait + rand.N(wait/2)): // #nosec G404 -- any spread will do
			case <-ctx.Done():
				return
			}
		}
	}
}

func (m *Monitor) isUp(c *Check) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return c.status == Up
}

// hurry has a target asked now.
func (m *Monitor) hurry(c *Check, w *idle) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.watches[c] != w || c.phase == stuck:
	case c.phase == resting:
		m.queue.move(c, m.now())
		m.engine.poke()
	default:
		w.again = true
	}
}

// seen takes note of a result: it returns when the target is to be asked again, which is due unless there is a reason
// for now.
func (m *Monitor) seen(c *Check, before Status, now, due time.Duration) time.Duration {
	w := m.watches[c]
	if w == nil {
		return due
	}
	if c.status == Up && before != Up {
		select {
		case w.up <- struct{}{}:
		default:
		}
	}
	if w.again {
		w.again = false
		return now
	}
	return due
}
