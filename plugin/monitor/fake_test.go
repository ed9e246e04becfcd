package monitor

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
)

var errDead = errors.New("connection refused")

// usual are the settings that a Corefile has without saying so.
var usual = health.Settings{Interval: 5 * time.Second, Recheck: time.Second, Timeout: 2 * time.Second, Fall: 3, Rise: 2}

// fake is a Prober whose answers a test makes up.
type fake struct {
	text   string
	answer func(ctx context.Context, target netip.AddrPort) error // nil: every target passes

	mu    sync.Mutex
	asked map[netip.AddrPort][]time.Time
}

func (f *fake) Kind() string   { return "fake" }
func (f *fake) String() string { return "fake://" + f.text }

func (f *fake) Probe(ctx context.Context, target netip.AddrPort) error {
	f.mu.Lock()
	if f.asked == nil {
		f.asked = make(map[netip.AddrPort][]time.Time)
	}
	f.asked[target] = append(f.asked[target], time.Now())
	f.mu.Unlock()
	if f.answer == nil {
		return nil
	}
	return f.answer(ctx, target)
}

// times are when a target was asked.
func (f *fake) times(target netip.AddrPort) []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]time.Time(nil), f.asked[target]...)
}

// script has every target give the results one after the other, from the start when they are used up.
func script(results string) func(context.Context, netip.AddrPort) error {
	var mu sync.Mutex
	next := make(map[netip.AddrPort]int)
	return func(_ context.Context, target netip.AddrPort) error {
		mu.Lock()
		defer mu.Unlock()
		r := results[next[target]%len(results)]
		next[target]++
		if r == 'f' {
			return errDead
		}
		return nil
	}
}

// hang waits for the end of its context, as a probe of a silent host does.
func hang(ctx context.Context, _ netip.AddrPort) error {
	<-ctx.Done()
	return ctx.Err()
}

// alive answers as long as it is true.
type alive struct{ atomic.Bool }

func (a *alive) answer(context.Context, netip.AddrPort) error {
	if a.Load() {
		return nil
	}
	return errDead
}

// number is a target for each number.
func number(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(i >> 16), byte(i >> 8), byte(i)}), 443)
}

// watch is a Watcher that counts, and does something else besides when told to, one after the other.
type watch struct {
	told atomic.Int64
	news chan struct{} // a token for any number of changes
	mu   sync.Mutex
	also func()
}

func newWatch() *watch { return &watch{news: make(chan struct{}, 1)} }

func (w *watch) Changed() {
	w.told.Add(1)
	if w.also != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.also()
	}
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// until lets time pass until a condition is true, which changes only when w is told. It returns how long
// that took.
func (w *watch) until(t *testing.T, bound time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	end := time.NewTimer(bound)
	defer end.Stop()
	for {
		synctest.Wait()
		if cond() {
			return time.Since(begin)
		}
		select {
		case <-w.news:
		case <-end.C:
			synctest.Wait() // what happens at this very moment is in time
			if !cond() {
				t.Fatalf("Not within %s: %s", bound, what)
			}
		}
	}
}

// state reads one check.
func (m *Monitor) state(c *Check) health.State {
	var s [1]health.State
	m.States([]*Check{c}, s[:])
	return s[0]
}

// bubble runs a test in time of its own. Its monitor has to be left without anything to do: a goroutine
// that is left fails the test.
func bubble(t *testing.T, observe Observer, test func(t *testing.T, m *Monitor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := New(observe)
		time.Sleep(time.Hour) // it has been there for a while
		test(t, m)
		synctest.Wait()
		wantEmpty(t, m)
	})
}

// wantEmpty checks that a monitor keeps nothing.
func wantEmpty(t *testing.T, m *Monitor) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.questions) > 0 || len(m.queue) > 0 || m.engine != nil {
		t.Errorf("After the last release there are %d questions, %d checks in the queue, and the engine is %v", len(m.questions), len(m.queue), m.engine)
	}
}
