package monitor

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/probe"
)

const (
	// maxWatches bounds the connections that are held, as a quarter of the room for probes does: each is a descriptor
	// and a goroutine, here, and as much at the target. What is beyond is found out by probes alone.
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

	// These are guarded by Monitor.mu.
	letGo context.CancelFunc // of the connection; nil: there is none
	again bool               // it ended during a probe, which may have begun before
}

// watch begins to watch the target of a check, if its question wants that and there is room.
func (m *Monitor) watch(c *Check) {
	if w, ok := c.prober.(probe.Watching); !ok || !w.Watches() {
		return
	}
	if len(m.watches) >= min(maxWatches, m.engine.room/4) {
		m.unwatched[c] = true
		return
	}
	ctx, cancel := context.WithCancel(m.engine.ctx)
	w := &idle{cancel: cancel, up: make(chan struct{}, 1)}
	m.watches[c] = w
	if c.Status == health.Up {
		w.up <- struct{}{}
	}
	m.engine.wg.Go(func() { m.keep(ctx, c, w) })
}

// unwatch ends that, and watches another target for which there was no room.
func (m *Monitor) unwatch(c *Check) {
	delete(m.unwatched, c)
	w := m.watches[c]
	if w == nil {
		return
	}
	w.cancel()
	delete(m.watches, c)
	for next := range m.unwatched {
		delete(m.unwatched, next)
		m.watch(next)
		break
	}
}

// keep holds a connection whenever the target is up, and has it asked when that ends. What becomes of the connection
// is no verdict: it is for the probe to say what it means.
func (m *Monitor) keep(ctx context.Context, c *Check, w *idle) {
	for {
		select {
		case <-w.up:
		case <-ctx.Done():
			return
		}
		for wait := reopen; ; wait = min(2*wait, maxReopen) {
			held, ok := m.mayHold(ctx, c, w)
			if !ok {
				break
			}
			began := time.Now()
			if m.hold(held, c.target()) && held.Err() == nil {
				m.hurry(c, w)
			}
			if time.Since(began) >= maxReopen {
				wait = reopen
			}
			if !sleep(ctx, wait+rand.N(wait/2)) { // #nosec G404 -- any spread will do
				return
			}
		}
	}
}

// sleep waits, and says whether there is more to do after that.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// mayHold says whether the target is up, and how long a connection to it may be held.
func (m *Monitor) mayHold(ctx context.Context, c *Check, w *idle) (held context.Context, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.letGo != nil {
		w.letGo()
		w.letGo = nil
	}
	if c.Status != health.Up {
		return nil, false
	}
	held, w.letGo = context.WithCancel(ctx)
	return held, true
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
func (m *Monitor) seen(c *Check, before health.Status, now, due time.Duration) time.Duration {
	w := m.watches[c]
	if w == nil {
		return due
	}
	switch {
	case c.Status == health.Up && before != health.Up:
		select {
		case w.up <- struct{}{}:
		default:
		}
	case c.Status == health.Down && w.letGo != nil:
		w.letGo()
	}
	if w.again {
		w.again = false
		return now
	}
	return due
}
