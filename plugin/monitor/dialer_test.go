package monitor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/probe"
)

// caller is a fake that is connected to its targets first; with talks it asks over the connection.
type caller struct {
	fake
	talks bool
}

func (c *caller) Talks() bool { return c.talks }

func (c *caller) Talk(ctx context.Context, made net.Conn, target netip.AddrPort) error {
	defer made.Close()
	return c.Probe(ctx, target)
}

// switchboard is a dialer in a bubble's time.
type switchboard struct {
	connected func(who any, c net.Conn, err error)
	silent    func(netip.AddrPort) bool // whether a target does not answer at all

	mu    sync.Mutex
	asked map[netip.AddrPort][]time.Time
	calls int // in the making
	most  int
	open  atomic.Int64 // connections
	wg    sync.WaitGroup
	over  chan struct{}
}

var errNoAnswer = errors.New("timeout while connecting")

func (s *switchboard) Dial(calls []probe.Call) {
	for _, c := range calls {
		s.mu.Lock()
		s.asked[c.Target] = append(s.asked[c.Target], time.Now())
		if s.calls++; s.calls > s.most {
			s.most = s.calls
		}
		s.mu.Unlock()
		s.wg.Go(func() {
			var conn net.Conn
			var err error
			if s.silent != nil && s.silent(c.Target) {
				err = errNoAnswer
				select {
				case <-time.After(c.Timeout):
				case <-s.over:
				}
			} else if c.Keep {
				conn = &line{open: &s.open}
				s.open.Add(1)
			}
			s.mu.Lock()
			s.calls--
			s.mu.Unlock()
			s.connected(c.Who, conn, err)
		})
	}
}

func (s *switchboard) Close() {
	close(s.over)
	s.wg.Wait()
}

// line is a connection that is counted while it is open.
type line struct {
	net.Conn
	open *atomic.Int64
}

func (l *line) Close() error {
	l.open.Add(-1)
	return nil
}

// plug has the monitor's engine call over a switchboard.
func plug(m *Monitor, silent func(netip.AddrPort) bool) *switchboard {
	s := &switchboard{silent: silent, asked: make(map[netip.AddrPort][]time.Time), over: make(chan struct{})}
	m.dialer = func(e *engine) dialer {
		s.connected = func(who any, c net.Conn, err error) { m.connected(e, who.(*Check), c, err) }
		return s
	}
	return s
}

// Twenty thousand targets that do not answer at all take up nothing that the others need.
func TestUnreachable(t *testing.T) {
	const targets, good = 20_000, 100
	settings := health.Settings{Interval: 10 * time.Second, Recheck: time.Second, Timeout: 2 * time.Second, Fall: 3, Rise: 2}
	var latest atomic.Int64
	observe := func(_ string, _ error, _, late time.Duration) {
		for before := latest.Load(); int64(late) > before && !latest.CompareAndSwap(before, int64(late)); before = latest.Load() {
		}
	}
	bubble(t, observe, func(t *testing.T, m *Monitor) {
		plug(m, func(target netip.AddrPort) bool {
			return slices.Compare(target.Addr().AsSlice(), number(good).Addr().AsSlice()) >= 0
		})
		tcp, http := &caller{fake: fake{text: "tcp"}}, &caller{fake: fake{text: "http"}, talks: true}
		plain, w := &fake{text: "plain"}, newWatch()
		var checks []*Check
		for i := range targets {
			checks = append(checks, m.Acquire(tcp, number(good+i), &settings, w))
		}
		m.mu.Lock()
		m.engine.room = targets + good
		m.mu.Unlock()
		for i := range good {
			checks = append(checks, m.Acquire([]probe.Prober{tcp, http, plain}[i%3], number(i), &settings, w))
		}
		time.Sleep(45 * time.Second)
		if late := time.Duration(latest.Load()); late > beat {
			t.Errorf("A probe began %s later than it was due", late)
		}
		m.mu.Lock()
		asking := m.engine.asking
		m.mu.Unlock()
		if asking > 0 {
			t.Errorf("There are %d goroutines that ask", asking)
		}
		states := make([]health.State, len(checks))
		m.States(checks, states)
		for i, s := range states {
			if want := map[bool]health.Status{true: health.Down, false: health.Up}[i < targets]; s.Status != want {
				t.Fatalf("Target %d is %v, want %v", i, s.Status, want)
			}
		}
		if why := states[0].Why(&settings); why != "3 failures: timeout while connecting" {
			t.Errorf("It is down because of %q", why)
		}
		for _, c := range checks {
			m.Release(c, w)
		}
	})
}

// No more probes are under way than there are files to be opened, and each gets its turn.
func TestRoom(t *testing.T) {
	const targets, room = 1000, 100
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		s := plug(m, func(netip.AddrPort) bool { return true })
		f, w := new(caller), newWatch()
		var checks []*Check
		for i := range targets {
			checks = append(checks, m.Acquire(f, number(i), &usual, w))
		}
		m.mu.Lock()
		m.engine.room = room
		m.mu.Unlock()
		time.Sleep(21 * usual.Timeout)
		synctest.Wait()
		if s.most != room {
			t.Errorf("There were %d connections in the making, want %d", s.most, room)
		}
		for i := range targets {
			if n := len(s.asked[number(i)]); n < 2 || n > 3 {
				t.Fatalf("Target %d was called %d times in the time for two rounds", i, n)
			}
		}
		for _, c := range checks {
			m.Release(c, w)
		}
	})
}

// What is connected and finds no goroutine waits for one, and is not blamed for that.
func TestWaitingForGoroutine(t *testing.T) {
	const targets = maxAsking + 1000
	slow := func(ctx context.Context, _ netip.AddrPort) error {
		select {
		case <-time.After(usual.Timeout - 100*time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		s := plug(m, nil)
		f, w := &caller{fake: fake{answer: slow}, talks: true}, newWatch()
		var checks []*Check
		for i := range targets {
			checks = append(checks, m.Acquire(f, number(i), &usual, w))
		}
		m.mu.Lock()
		m.engine.room = targets
		m.mu.Unlock()
		time.Sleep(usual.Timeout - 200*time.Millisecond)
		synctest.Wait()
		m.mu.Lock()
		if m.engine.asking != maxAsking || len(m.engine.waiting) != targets-maxAsking {
			t.Errorf("%d ask and %d wait, want %d and %d", m.engine.asking, len(m.engine.waiting), maxAsking, targets-maxAsking)
		}
		m.mu.Unlock()
		time.Sleep(2 * usual.Timeout)
		states := make([]health.State, len(checks))
		m.States(checks, states)
		for i, s := range states {
			if s.Status != health.Up || s.Err != nil {
				t.Fatalf("Target %d is %+v", i, s)
			}
		}
		for _, c := range checks {
			m.Release(c, w)
		}
		synctest.Wait()
		if n := s.open.Load(); n != 0 {
			t.Errorf("%d connections are open after the last release", n)
		}
	})
}

// The last release ends what is connected, too, wherever it is.
func TestReleaseOfCalls(t *testing.T) {
	for _, after := range []time.Duration{0, 500 * time.Millisecond, time.Second} {
		bubble(t, nil, func(t *testing.T, m *Monitor) {
			s := plug(m, func(target netip.AddrPort) bool { return target.Addr().As4()[3]%2 == 0 })
			f, w := &caller{fake: fake{answer: hang}, talks: true}, newWatch()
			var checks []*Check
			for i := range 3 * maxAsking {
				checks = append(checks, m.Acquire(f, number(i), &usual, w))
			}
			m.mu.Lock()
			m.engine.room = len(checks)
			m.mu.Unlock()
			time.Sleep(after)
			begin := time.Now()
			for _, c := range checks {
				m.Release(c, w)
			}
			if took := time.Since(begin); took != 0 {
				t.Errorf("The releases took %s", took)
			}
			synctest.Wait()
			if n := s.open.Load(); n != 0 {
				t.Errorf("%d connections are open after the last release", n)
			}
		})
	}
}

// A dialer that does not come back is given up, and what it says later disturbs nobody.
func TestDeafDialer(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		s := plug(m, nil)
		var held []probe.Call
		m.dialer = func(e *engine) dialer {
			s.connected = func(who any, c net.Conn, err error) { m.connected(e, who.(*Check), c, err) }
			return holding{&held}
		}
		f, w := &caller{talks: true}, newWatch()
		c := m.Acquire(f, number(1), &usual, w)
		w.until(t, time.Minute, "down", func() bool { return m.state(c).Status == health.Down })
		if err := m.state(c).Err; !errors.Is(err, errStuck) || len(held) != 1 {
			t.Errorf("It is down because of %v, after %d calls", err, len(held))
		}
		s.open.Add(1)
		s.connected(held[0].Who, &line{open: &s.open}, nil)
		if n := s.open.Load(); n != 0 {
			t.Error("The connection that came too late is open")
		}
		time.Sleep(usual.Interval)
		synctest.Wait()
		if len(held) != 2 {
			t.Errorf("There were %d calls, want another one", len(held))
		}
		go func() {
			time.Sleep(time.Millisecond)
			s.connected(held[1].Who, nil, errNoAnswer)
		}()
		m.Release(c, w)
	})
}

// holding is a dialer that does nothing.
type holding struct{ calls *[]probe.Call }

func (h holding) Dial(calls []probe.Call) { *h.calls = append(*h.calls, calls...) }
func (h holding) Close()                  {}

// A system that has no dialer to give when it is asked may have one later.
func TestDialerLater(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		s := plug(m, nil)
		plugged, tries := m.dialer, 0
		m.dialer = func(e *engine) dialer {
			if tries++; tries < 3 {
				return nil
			}
			return plugged(e)
		}
		f, w := new(caller), newWatch()
		c := m.Acquire(f, number(1), &usual, w)
		time.Sleep(3*usual.Interval + time.Second)
		synctest.Wait()
		if own, dialled := len(f.times(number(1))), len(s.asked[number(1)]); own != 2 || dialled < 1 {
			t.Errorf("It was asked %d times by itself and %d times over the dialer, want twice, and then over that", own, dialled)
		}
		m.Release(c, w)
	})
}

// What was released while it waited for a goroutine is not asked any more.
func TestReleaseOfWaiting(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		s := plug(m, nil)
		f, w := &caller{fake: fake{answer: hang}, talks: true}, newWatch()
		var checks []*Check
		for i := range maxAsking + 2 {
			checks = append(checks, m.Acquire(f, number(i), &usual, w))
		}
		m.mu.Lock()
		m.engine.room = len(checks)
		m.mu.Unlock()
		time.Sleep(usual.Timeout - time.Second)
		m.mu.Lock()
		gone, stays := m.engine.waiting[0].Check, m.engine.waiting[1].Check
		m.mu.Unlock()
		m.Release(gone, w)
		time.Sleep(usual.Timeout)
		synctest.Wait()
		if n := len(f.times(gone.target())); n != 0 {
			t.Errorf("It was asked %d times after its release", n)
		}
		if n := len(f.times(stays.target())); n != 1 {
			t.Errorf("The one behind it was asked %d times, want once", n)
		}
		for _, c := range checks {
			if c != gone {
				m.Release(c, w)
			}
		}
		synctest.Wait()
		if n := s.open.Load(); n != 0 {
			t.Errorf("%d connections are open after the last release", n)
		}
	})
}
