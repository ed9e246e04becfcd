package monitor

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/probe"
)

// watched is a fake whose targets are watched.
type watched struct{ *fake }

func (watched) Watches() bool    { return true }
func (w watched) String() string { return w.fake.String() + " watch" }

// wire is the connection to a target, while it is up.
type wire struct {
	mu    sync.Mutex
	begun []time.Time
	cut   chan struct{}
	dead  bool // nobody takes a connection
}

func (l *wire) hold(ctx context.Context, _ netip.AddrPort) bool {
	l.mu.Lock()
	l.begun = append(l.begun, time.Now())
	dead, cut := l.dead, l.cut
	l.mu.Unlock()
	if dead {
		return false
	}
	select {
	case <-cut:
	case <-ctx.Done():
	}
	return true
}

// end ends the connection, and says whether another one would be taken.
func (l *wire) end(dead bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.cut)
	l.cut, l.dead = make(chan struct{}), dead
}

// attempts is how often a connection was begun.
func (l *wire) attempts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.begun)
}

func newLine(m *Monitor) *wire {
	l := &wire{cut: make(chan struct{})}
	m.hold = l.hold
	return l
}

// A process that dies is found out by the end of its connection, however long the interval is.
func TestWatch(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		l, up, w := newLine(m), new(alive), newWatch()
		up.Store(true)
		settings := usual
		settings.Interval = time.Hour
		c := m.Acquire(watched{&fake{answer: up.answer}}, number(1), &settings, w)
		time.Sleep(90 * time.Minute)
		if l.attempts() != 1 {
			t.Fatalf("%d connections, want one", l.attempts())
		}
		up.Store(false)
		l.end(true)
		if took := w.until(t, time.Minute, "down", func() bool { return m.state(c).Status == health.Down }); took > 2*time.Second {
			t.Errorf("Down after %s, want twice the recheck", took)
		}
		begun := l.attempts()
		time.Sleep(30 * time.Second)
		if n := l.attempts(); n > begun+1 {
			t.Errorf("%d connections are tried while it is down", n-begun)
		}
		up.Store(true)
		l.mu.Lock()
		l.dead = false
		l.mu.Unlock()
		w.until(t, 2*time.Hour, "up", func() bool { return m.state(c).Status == health.Up })
		synctest.Wait()
		if n := l.attempts(); n != begun+1 && n != begun+2 {
			t.Errorf("%d connections after it came up, want one at once", n-begun)
		}
		m.Release(c, w)
	})
}

// The end of a connection is no verdict. A target that ends all of them costs a probe each time, and less and less often.
func TestWatchNoVerdict(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		l, f, w := newLine(m), new(fake), newWatch()
		settings := usual
		settings.Interval = 24 * time.Hour
		c := m.Acquire(watched{f}, number(1), &settings, w)
		time.Sleep(time.Second)
		for range 3600 {
			time.Sleep(time.Second)
			l.end(false)
		}
		if n := len(f.times(number(1))); m.state(c).Status != health.Up || n < 40 || n > 80 {
			t.Errorf("%s after %d probes in an hour, want it up after some 50", m.state(c).Status, n)
		}
		m.Release(c, w)
	})
}

// A connection that ends while a probe is under way makes another: that one may have begun before.
func TestWatchDuringProbe(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		l, w := newLine(m), newWatch()
		settings := usual
		settings.Interval = time.Hour
		f := &fake{answer: func(context.Context, netip.AddrPort) error {
			time.Sleep(time.Second)
			return nil
		}}
		c := m.Acquire(watched{f}, number(1), &settings, w)
		time.Sleep(2 * time.Hour)
		asked := f.times(number(1))
		for len(f.times(number(1))) == len(asked) {
			time.Sleep(100 * time.Millisecond)
		}
		l.end(false) // the next is under way
		time.Sleep(2 * time.Second)
		if n := len(f.times(number(1))) - len(asked); n != 2 {
			t.Errorf("%d probes, want another one at once", n)
		}
		m.Release(c, w)
	})
}

// There are only so many connections, and none is left.
func TestWatchMany(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		l, w := newLine(m), newWatch()
		checks := make([]*Check, 0, maxWatches+100)
		for i := range maxWatches + 100 {
			checks = append(checks, m.Acquire(watched{new(fake)}, number(i+1), &usual, w))
		}
		time.Sleep(time.Minute)
		want := min(maxWatches, probe.Room()/4)
		if l.attempts() != want {
			t.Errorf("%d connections, want %d", l.attempts(), want)
		}
		for _, c := range checks[:100] { // others take their place
			m.Release(c, w)
		}
		time.Sleep(time.Minute)
		if l.attempts() != want+100 || len(m.watches) != want {
			t.Errorf("%d connections after 100 releases, and %d at the end, want %d and %d", l.attempts(), len(m.watches), want+100, want)
		}
		for _, c := range checks[100:] {
			m.Release(c, w)
		}
		if len(m.watches)+len(m.unwatched) != 0 {
			t.Errorf("%d and %d are left", len(m.watches), len(m.unwatched))
		}
	})
}
