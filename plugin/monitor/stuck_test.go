package monitor

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
)

// A thousand silent targets, each of which takes its whole timeout, delay nobody.
func TestSilentTargetsDelayNobody(t *testing.T) {
	const targets = 1000
	var latest atomic.Int64
	observe := func(kind string, _ error, _, late time.Duration) {
		if kind == "fake" {
			for before := latest.Load(); int64(late) > before && !latest.CompareAndSwap(before, int64(late)); {
				before = latest.Load()
			}
		}
	}
	bubble(t, observe, func(t *testing.T, m *Monitor) {
		silent, good := &fake{text: "silent", answer: hang}, &fake{text: "good"}
		w := newWatch()
		var checks []*Check
		for i := range targets {
			checks = append(checks, m.Acquire(silent, number(i), &usual, w))
		}
		c := m.Acquire(good, number(targets), &usual, w)
		time.Sleep(4 * time.Minute)
		at := good.times(number(targets))
		if len(at) < 48 {
			t.Errorf("The good one was asked %d times in four minutes", len(at))
		}
		for i := 1; i < len(at); i++ {
			if distance := at[i].Sub(at[i-1]); distance > usual.Interval {
				t.Errorf("The good one was left alone for %s", distance)
			}
		}
		if late := time.Duration(latest.Load()); late > time.Millisecond {
			t.Errorf("A probe began %s later than it was due", late)
		}
		for _, c := range append(checks, c) {
			m.Release(c, w)
		}
	})
}

// deaf does not hear its context, and returns when it is told to.
type deaf struct {
	fake
	back chan error
}

func newDeaf(text string) *deaf {
	d := &deaf{fake: fake{text: text}, back: make(chan error)}
	d.answer = func(context.Context, netip.AddrPort) error { return <-d.back }
	return d
}

// A probe that does not return is judged without being heard, as often as it would have been asked. Its
// target is asked again once it has returned.
func TestDeafProbe(t *testing.T) {
	var observed atomic.Int64
	bubble(t, func(string, error, time.Duration, time.Duration) { observed.Add(1) }, func(t *testing.T, m *Monitor) {
		d, w := newDeaf(""), newWatch()
		c := m.Acquire(d, number(1), &usual, w)
		time.Sleep(usual.Timeout + grace - time.Nanosecond)
		synctest.Wait()
		if s := m.state(c); s.Err != nil {
			t.Errorf("Judged before its time: %+v", s)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if s := m.state(c); s.Status != health.Unknown || !errors.Is(s.Err, errStuck) || s.EarliestChange != 2*usual.Recheck {
			t.Errorf("After its timeout and %s the state is %+v, want one failure", grace, s)
		}
		w.until(t, 2*usual.Recheck, "down", func() bool { return m.state(c).Status == health.Down })
		if why := m.state(c).Why(&usual); why != "3 failures: the probe has not returned after its timeout" {
			t.Errorf("It is down because of %q", why)
		}
		time.Sleep(time.Hour)
		if n := len(d.times(number(1))); n != 1 {
			t.Errorf("The target was asked %d times while its first probe was out", n)
		}
		if told := w.told.Load(); told != 3 {
			t.Errorf("The watcher was told %d times of three failures", told)
		}
		if n := observed.Load(); n != 0 {
			t.Errorf("%d probes were observed, want none that has not ended", n)
		}

		d.back <- nil // too late for this pass to say anything
		synctest.Wait()
		if s := m.state(c); s.Status != health.Down || s.EarliestChange != usual.Interval+usual.Recheck {
			t.Errorf("The state after a pass that came too late is %+v", s)
		}
		if n := observed.Load(); n != 1 {
			t.Errorf("%d probes were observed, want the one that has ended", n)
		}
		for pass := range 2 {
			begin := time.Now()
			for len(d.times(number(1))) < pass+2 {
				time.Sleep(10 * time.Millisecond)
				synctest.Wait()
			}
			if took := time.Since(begin); took > usual.Interval+10*time.Millisecond {
				t.Errorf("The target was asked again after %s, want an interval at most", took)
			}
			d.back <- nil
			synctest.Wait()
		}
		if s := m.state(c); s.Status != health.Up {
			t.Errorf("After two passes it is %+v", s)
		}
		m.Release(c, w)
	})
}

// Neither a shutdown nor what begins after it waits for a probe that does not return.
func TestReleaseWhileDeaf(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		d, w := newDeaf(""), newWatch()
		c := m.Acquire(d, number(1), &usual, w)
		synctest.Wait()
		begin := time.Now()
		m.Release(c, w)
		if took := time.Since(begin); took != grace {
			t.Errorf("The last release took %s, want it to wait for %s", took, grace)
		}
		wantEmpty(t, m)

		c = m.Acquire(d, number(1), &usual, w)
		synctest.Wait()
		if n := len(d.times(number(1))); n != 2 {
			t.Errorf("The new check was asked %d times, want at once", n-1)
		}
		d.back <- errDead // one of them, whichever: neither may disturb the other
		d.back <- errDead
		synctest.Wait()
		if s := m.state(c); s.Status != health.Unknown || s.EarliestChange != 2*usual.Recheck {
			t.Errorf("The state is %+v, want one failure", s)
		}

		// One that has been given up is not waited for at all.
		time.Sleep(usual.Recheck + usual.Timeout + grace + time.Millisecond)
		begin = time.Now()
		m.Release(c, w)
		if took := time.Since(begin); took != 0 {
			t.Errorf("The last release took %s, want it not to wait for what was given up", took)
		}
		d.back <- nil
	})
}

// The last release breaks off what is under way, at once, and what is broken off counts for nothing.
func TestReleaseBreaksOff(t *testing.T) {
	var observed atomic.Int64
	bubble(t, func(string, error, time.Duration, time.Duration) { observed.Add(1) }, func(t *testing.T, m *Monitor) {
		f, w := &fake{answer: hang}, newWatch()
		var checks []*Check
		for i := range 100 {
			checks = append(checks, m.Acquire(f, number(i), &usual, w))
		}
		time.Sleep(time.Second)
		begin := time.Now()
		for _, c := range checks {
			m.Release(c, w)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("The releases took %s", took)
		}
		synctest.Wait()
		if n := observed.Load(); n != 0 {
			t.Errorf("%d probes were observed that were broken off", n)
		}
		if told := w.told.Load(); told != 0 {
			t.Errorf("The watcher was told %d times of probes that were broken off", told)
		}
	})
}

// A release that is not the last leaves the probe under way to its end: it is observed, and nobody is
// told.
func TestReleaseOfOneUnderWay(t *testing.T) {
	var observed atomic.Int64
	bubble(t, func(string, error, time.Duration, time.Duration) { observed.Add(1) }, func(t *testing.T, m *Monitor) {
		f, w, gone := new(fake), newWatch(), newWatch()
		slow := &fake{text: "slow", answer: hang}
		other := m.Acquire(f, number(1), &usual, w)
		time.Sleep(time.Second)
		n := observed.Load()
		c := m.Acquire(slow, number(2), &usual, gone)
		synctest.Wait()
		m.Release(c, gone)
		time.Sleep(usual.Timeout)
		synctest.Wait()
		if gone.told.Load() != 0 {
			t.Error("A watcher was told after its release")
		}
		if observed.Load() != n+1 {
			t.Errorf("%d probes were observed, want the one that ended after its release", observed.Load()-n)
		}
		m.mu.Lock()
		if len(m.queue) != 1 || m.engine.underWay != 0 {
			t.Errorf("There are %d checks in the queue and %d probes under way, want one and none", len(m.queue), m.engine.underWay)
		}
		m.mu.Unlock()
		m.Release(other, w)
	})
}

// More targets stuck than there may be probes under way: all the others get their turn all the same, and
// those that are stuck are down.
func TestMoreStuckThanUnderWay(t *testing.T) {
	const stuck, good = maxAsking + 1000, 50
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		d, f, w := newDeaf("deaf"), &fake{text: "good"}, newWatch()
		var checks []*Check
		for i := range stuck {
			checks = append(checks, m.Acquire(d, number(i), &usual, w))
		}
		for i := range good {
			checks = append(checks, m.Acquire(f, number(stuck+i), &usual, w))
		}
		time.Sleep(2 * (usual.Timeout + grace))
		for i := range good {
			if n := len(f.times(number(stuck + i))); n == 0 {
				t.Fatalf("The good target %d has not been asked yet", i)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		m.mu.Lock()
		if m.engine.underWay != 0 {
			t.Errorf("There are %d probes under way, want none: all that were are given up", m.engine.underWay)
		}
		m.mu.Unlock()
		states := make([]health.State, len(checks))
		m.States(checks, states)
		for i, s := range states {
			if want := map[bool]health.Status{true: health.Down, false: health.Up}[i < stuck]; s.Status != want {
				t.Fatalf("Target %d is %v, want %v", i, s.Status, want)
			}
		}
		// And now that nothing is in the way the good ones keep their pace.
		asked := len(f.times(number(stuck)))
		time.Sleep(time.Minute)
		if n := len(f.times(number(stuck))) - asked; n < 12 {
			t.Errorf("A good target was asked %d times in a minute", n)
		}
		for _, c := range checks {
			m.Release(c, w)
		}
		close(d.back)
	})
}

// The same with targets that are let go while they are stuck: what they held is free again.
func TestReleaseOfStuck(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		d, f, w := newDeaf("deaf"), &fake{text: "good"}, newWatch()
		good := m.Acquire(f, number(0), &usual, w)
		for round := range 3 {
			var checks []*Check
			for i := range maxAsking {
				checks = append(checks, m.Acquire(d, number(1+round*maxAsking+i), &usual, w))
			}
			time.Sleep(time.Second)
			for _, c := range checks {
				m.Release(c, w)
			}
			time.Sleep(time.Minute)
		}
		asked := len(f.times(number(0)))
		time.Sleep(time.Minute)
		if n := len(f.times(number(0))) - asked; n < 12 {
			t.Errorf("The only target that is left was asked %d times in a minute", n)
		}
		m.mu.Lock()
		if len(m.queue) != 1 || m.engine.underWay != 0 {
			t.Errorf("There are %d checks in the queue and %d probes under way, want one and none", len(m.queue), m.engine.underWay)
		}
		m.mu.Unlock()
		m.Release(good, w)
		close(d.back)
	})
}

// More targets due than there may be probes under way, all of them silent: each gets its turn, those
// that have waited longest first, and there are never more under way.
func TestOverload(t *testing.T) {
	const targets = 3 * maxAsking
	var now, most atomic.Int64
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		f, w := &fake{}, newWatch()
		f.answer = func(ctx context.Context, target netip.AddrPort) error {
			n := now.Add(1)
			defer now.Add(-1)
			for before := most.Load(); n > before && !most.CompareAndSwap(before, n); {
				before = most.Load()
			}
			return hang(ctx, target)
		}
		var checks []*Check
		for i := range targets {
			checks = append(checks, m.Acquire(f, number(i), &usual, w))
		}
		time.Sleep(19 * time.Second)
		least, highest := targets, 0
		for i := range targets {
			n := len(f.times(number(i)))
			least, highest = min(least, n), max(highest, n)
		}
		if most.Load() != maxAsking {
			t.Errorf("There were %d probes under way at most, want %d", most.Load(), maxAsking)
		}
		// Three rounds take three timeouts, so that makes three probes of each, and for some a fourth.
		if least < 3 || highest > 4 {
			t.Errorf("The targets were asked %d to %d times", least, highest)
		}
		for _, c := range checks {
			m.Release(c, w)
		}
	})
}

func TestPanic(t *testing.T) {
	var errs []error
	bubble(t, func(_ string, err error, _, _ time.Duration) { errs = append(errs, err) }, func(t *testing.T, m *Monitor) {
		f, w := &fake{answer: func(context.Context, netip.AddrPort) error {
			panic("division by zero")
		}}, newWatch()
		c := m.Acquire(f, number(1), &usual, w)
		w.until(t, time.Minute, "down", func() bool { return m.state(c).Status == health.Down })
		if why := m.state(c).Why(&usual); !strings.Contains(why, "3 failures: panic in the probe: division by zero") {
			t.Errorf("It is down because of %q", why)
		}
		if len(errs) != 3 || errs[0] == nil {
			t.Errorf("Observed: %v, want three failures", errs)
		}
		m.Release(c, w)
	})
}

func TestObserver(t *testing.T) {
	type observation struct {
		kind       string
		err        error
		took, late time.Duration
	}
	var mu sync.Mutex
	var all []observation
	observe := func(kind string, err error, took, late time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, observation{kind, err, took, late})
	}
	bubble(t, observe, func(t *testing.T, m *Monitor) {
		took := map[netip.AddrPort]time.Duration{number(1): 0, number(2): 700 * time.Millisecond}
		f := &fake{answer: func(_ context.Context, target netip.AddrPort) error {
			time.Sleep(took[target])
			if target == number(2) {
				return errDead
			}
			return nil
		}}
		w := newWatch()
		a := m.Acquire(f, number(1), &usual, w)
		time.Sleep(time.Second)
		b := m.Acquire(f, number(2), &usual, w)
		time.Sleep(time.Second)
		mu.Lock()
		got := all
		mu.Unlock()
		if len(got) != 2 || got[0] != (observation{kind: "fake"}) || got[1] != (observation{kind: "fake", err: errDead, took: 700 * time.Millisecond}) {
			t.Errorf("Observed: %v", got)
		}
		m.Release(a, w)
		time.Sleep(time.Second)
		m.Release(b, w)
	})

	// What waits for others to return is late by as much.
	all = nil
	bubble(t, observe, func(t *testing.T, m *Monitor) {
		silent, good, w := &fake{text: "silent", answer: hang}, &fake{text: "good"}, newWatch()
		var checks []*Check
		for i := range maxAsking + 1 {
			checks = append(checks, m.Acquire(silent, number(i), &usual, w))
		}
		checks = append(checks, m.Acquire(good, number(-1), &usual, w))
		time.Sleep(usual.Timeout + time.Second)
		mu.Lock()
		var late time.Duration
		for _, o := range all {
			if o.err == nil {
				late = o.late
			}
		}
		mu.Unlock()
		due := (maxAsking + 1) * firstSpread
		if want := usual.Timeout + firstSpread - due; late != want {
			t.Errorf("The good one was %s late, want %s", late, want)
		}
		for _, c := range checks {
			m.Release(c, w)
		}
	})

	// It is allowed to have none.
	bubble(t, nil, func(_ *testing.T, m *Monitor) {
		w := newWatch()
		c := m.Acquire(new(fake), number(1), &usual, w)
		time.Sleep(time.Second)
		m.Release(c, w)
	})
}

// A watcher is told when the status changes or how soon it could, and never otherwise.
func TestTold(t *testing.T) {
	window := usual
	window.Fall, window.Window = 3, 5
	tests := map[string]struct {
		settings health.Settings
		results  string
		told     string // y: this result is told
	}{
		"Steady, up":     {usual, "pppppppp", "ynnnnnnn"},
		"Steady, down":   {usual, "ffffffff", "yyynnnnn"},
		"One failure":    {usual, "ppfppp", "ynyynn"},
		"Down and up":    {usual, "pfffffpfpppp", "yyyynnyyyynn"},
		"Window, steady": {window, "pppppp", "ynnnnn"},
		// In a window of five the failure slides out with the fifth result after it.
		"Window, one failure": {window, "pfpppppp", "yyynnnyn"},
		"Window, down and up": {window, "pfpffpppp", "yyyyyyynn"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, m *Monitor) {
				results := make(chan error)
				f := &fake{answer: func(ctx context.Context, _ netip.AddrPort) error {
					select {
					case err := <-results:
						return err
					case <-ctx.Done():
						return ctx.Err()
					}
				}}
				w := newWatch()
				c := m.Acquire(f, number(1), &tc.settings, w)
				for i, r := range tc.results {
					for asked := i + 1; len(f.times(number(1))) < asked; synctest.Wait() {
						time.Sleep(10 * time.Millisecond)
					}
					told, before := w.told.Load(), m.state(c)
					var err error
					if r == 'f' {
						err = errDead
					}
					results <- err
					synctest.Wait()
					after := m.state(c)
					got := w.told.Load() - told
					if want := map[byte]int64{'y': 1}[tc.told[i]]; got != want {
						t.Errorf("Result %d of %s was told %d times, want %d: %v %s, then %v %s", i, tc.results, got, want,
							before.Status, before.EarliestChange, after.Status, after.EarliestChange)
					}
					if changed := before.Status != after.Status || before.EarliestChange != after.EarliestChange; changed != (tc.told[i] == 'y') {
						t.Errorf("Result %d of %s: changed is %t", i, tc.results, changed)
					}
				}
				m.Release(c, w)
			})
		})
	}
}
