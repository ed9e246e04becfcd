package monitor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/probe"
)

func TestFirstProbe(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		f, w := new(fake), newWatch()
		begin := time.Now()
		c := m.Acquire(f, number(1), &usual, w)
		synctest.Wait()
		if at := f.times(number(1)); len(at) != 1 || at[0] != begin {
			t.Errorf("A single target was asked first at %v, want at once: %v", at, begin)
		}
		if s := m.state(c); s.Status != health.Up || s.Recovered || s.Since != begin || s.Err != nil {
			t.Errorf("The state after one pass is %+v", s)
		}
		if told := w.told.Load(); told != 1 {
			t.Errorf("The watcher was told %d times of one change", told)
		}

		time.Sleep(time.Hour)
		if s := m.state(c); s.Status != health.Up || s.Since != begin {
			t.Errorf("The state after an hour of passes is %+v, want it up since %v", s, begin)
		}
		begin = time.Now()
		late := m.Acquire(f, number(2), &usual, w)
		synctest.Wait()
		if at := f.times(number(2)); len(at) != 1 || at[0] != begin {
			t.Errorf("One that came later was asked first at %v, want at once: %v", at, begin)
		}
		m.Release(c, w)
		m.Release(late, w)
	})
}

// A thousand targets on one interval are a steady stream: not a burst at any time, not even at first.
func TestSpread(t *testing.T) {
	const targets = 1000
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		f, w := new(fake), newWatch()
		begin := time.Now()
		var checks []*Check
		for i := range targets {
			checks = append(checks, m.Acquire(f, number(i), &usual, w))
		}
		time.Sleep(5 * time.Minute)
		for _, c := range checks {
			m.Release(c, w)
		}

		var all []time.Duration
		for i := range targets {
			for _, at := range f.times(number(i)) {
				all = append(all, at.Sub(begin))
			}
		}
		slices.Sort(all)
		for i := range targets - 1 {
			if all[i] == all[i+1] {
				t.Fatalf("Two of the first probes at the same instant, %s", all[i])
			}
		}
		if all[targets-1] > 200*time.Millisecond {
			t.Errorf("The last of %d first probes came %s after the start", targets, all[targets-1])
		}
		wantSpread(t, all, usual.Interval, targets)
	})
}

// wantSpread checks that so many targets with one interval have been asked evenly over it, once the
// first interval was over.
func wantSpread(t *testing.T, all []time.Duration, interval time.Duration, targets int) {
	t.Helper()
	const bins = 20
	bin, most := make(map[int]int), make(map[time.Duration]int)
	last := all[len(all)-1]
	for _, at := range all {
		if at > interval && at < last-interval {
			bin[int(at/(interval/bins))]++
			most[at.Truncate(time.Millisecond)]++
		}
	}
	first, end := int(interval/(interval/bins))+1, int((last-interval)/(interval/bins))-1
	low, high := targets, 0
	for i := first; i < end; i++ {
		low, high = min(low, bin[i]), max(high, bin[i])
	}
	mean := targets / bins
	t.Logf("Probes in a twentieth of the interval: %d to %d, with %d on average", low, high, mean)
	if low < mean*6/10 || high > mean*14/10 {
		t.Errorf("There are %d to %d probes in a twentieth of the interval, want about %d", low, high, mean)
	}
	// A thousand in five seconds are one in five milliseconds.
	for at, n := range most {
		if n > 8 {
			t.Errorf("There are %d probes within a millisecond, at %s", n, at)
		}
	}
}

// The traffic is even: how many probes begin in a tenth of a second varies no more than chance would have it, though
// far less would be wrong, too, as then there were no jitter. A reload that changes nothing disturbs it in no way,
// and one that changes a setting is over with its first probes.
func TestEvenTraffic(t *testing.T) {
	const targets, bin = 2000, 100 * time.Millisecond
	settings := health.Settings{Interval: 10 * time.Second, Recheck: time.Second, Timeout: 2 * time.Second, Fall: 3, Rise: 2}
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		f, w := new(fake), newWatch()
		acquire := func(s *health.Settings, w Watcher) (checks []*Check) {
			for i := range targets {
				checks = append(checks, m.Acquire(f, number(i), s, w))
			}
			return checks
		}
		release := func(checks []*Check, w Watcher) {
			for _, c := range checks {
				m.Release(c, w)
			}
		}
		// deviation is that of the probes in each bin of a minute.
		deviation := func() (mean, deviation float64) {
			f.mu.Lock()
			clear(f.asked)
			f.mu.Unlock()
			begin := time.Now()
			time.Sleep(time.Minute)
			bins := make([]float64, time.Minute/bin)
			for i := range targets {
				for _, at := range f.times(number(i)) {
					if n := int(at.Sub(begin) / bin); n < len(bins) {
						bins[n]++
						mean += 1 / float64(len(bins))
					}
				}
			}
			for _, n := range bins {
				deviation += (n - mean) * (n - mean) / float64(len(bins))
			}
			return mean, math.Sqrt(deviation)
		}
		want := func(when string) {
			mean, got := deviation()
			t.Logf("%s: %.1f probes in %s on average, deviation %.2f; by chance it were %.2f", when, mean, bin, got, math.Sqrt(mean))
			if got > math.Sqrt(mean) || mean < 19.5 || mean > 21 {
				t.Errorf("%s: %.1f probes in %s on average and a deviation of %.2f, want 20 and %.2f at most", when, mean, bin, got, math.Sqrt(mean))
			}
		}
		checks := acquire(&settings, w)
		time.Sleep(2 * settings.Interval)
		want("In the beginning")

		again, next := settings, newWatch()
		same := acquire(&again, next)
		release(checks, w)
		want("After a reload that changes nothing")

		other := settings
		other.Timeout = time.Second
		changed := acquire(&other, w)
		release(same, next)
		time.Sleep(2 * settings.Interval)
		want("After a reload that changes a setting")
		release(changed, w)
	})
}

// The grid stays even when every target has been in doubt at the same moment, and so asked in step.
func TestSpreadAfterOutage(t *testing.T) {
	const targets = 1000
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		w, up := newWatch(), new(alive)
		f := &fake{answer: up.answer}
		up.Store(true)
		var checks []*Check
		for i := range targets {
			checks = append(checks, m.Acquire(f, number(i), &usual, w))
		}
		for _, status := range []bool{false, true, false, true} {
			time.Sleep(time.Minute)
			up.Store(status)
		}
		time.Sleep(time.Minute)
		begin := time.Now()
		f.mu.Lock()
		clear(f.asked)
		f.mu.Unlock()
		time.Sleep(3 * time.Minute)
		for _, c := range checks {
			m.Release(c, w)
		}
		var all []time.Duration
		for i := range targets {
			for _, at := range f.times(number(i)) {
				all = append(all, at.Sub(begin))
			}
		}
		slices.Sort(all)
		wantSpread(t, all, usual.Interval, targets)
	})
}

// A target that is surely up, or surely down, is asked once in an interval: never later, because TTLs
// count on it, and not much sooner.
func TestInterval(t *testing.T) {
	const targets = 20
	slow := func(took time.Duration, err error) func(context.Context, netip.AddrPort) error {
		return func(ctx context.Context, _ netip.AddrPort) error {
			select {
			case <-time.After(took):
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	long := usual
	long.Timeout = long.Interval
	brief := health.Settings{Interval: 100 * time.Millisecond, Recheck: 10 * time.Millisecond, Timeout: 100 * time.Millisecond, Fall: 3, Rise: 2}
	day := health.Settings{Interval: 24 * time.Hour, Recheck: time.Hour, Timeout: time.Minute, Fall: 3, Rise: 2}
	tests := map[string]struct {
		settings health.Settings
		answer   func(context.Context, netip.AddrPort) error
	}{
		"Up":                           {usual, nil},
		"Up, slow":                     {usual, slow(1900*time.Millisecond, nil)},
		"Down":                         {usual, slow(0, errDead)},
		"Down, silent":                 {usual, hang},
		"Down, silent for an interval": {long, hang},
		"Every 100ms":                  {brief, nil},
		"Every 100ms, slow":            {brief, slow(99*time.Millisecond, nil)},
		"Every day":                    {day, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, m *Monitor) {
				f, w := &fake{answer: tc.answer}, newWatch()
				begin := time.Now()
				var checks []*Check
				for i := range targets {
					checks = append(checks, m.Acquire(f, number(i), &tc.settings, w))
				}
				time.Sleep(500 * tc.settings.Interval)
				for _, c := range checks {
					m.Release(c, w)
				}
				total := 0
				distances := make(map[time.Duration]bool)
				for i := range targets {
					at := f.times(number(i))
					total += len(at)
					for n := range len(at) - 1 {
						distance := at[n+1].Sub(at[n])
						distances[distance] = true
						if distance > tc.settings.Interval {
							t.Fatalf("Target %d was left alone for %s, want an interval of %s at most", i, distance, tc.settings.Interval)
						}
						// Its first lines on the grid come when they come.
						if at[n].Sub(begin) > 4*tc.settings.Interval && distance < tc.settings.Interval*9/10 {
							t.Fatalf("Target %d was asked again after %s, want about an interval of %s", i, distance, tc.settings.Interval)
						}
					}
				}
				if tc.answer == nil && len(distances) < 1000 {
					t.Errorf("There are only %d different distances between probes, want jitter", len(distances))
				}
				if average := total / targets; average < 500 || average > 520 {
					t.Errorf("A target was asked %d times in 500 intervals", average)
				}
			})
		})
	}
}

// Whenever the last result disagrees with the status the next question comes after recheck, counted
// from the one before.
func TestRecheck(t *testing.T) {
	tests := []struct {
		results string
		doubt   string // y: the next probe comes after Recheck
	}{
		{"fff", "yyn"},
		{"ffp", "yyn"},
		{"pfff", "nyyn"},
		{"pfp", "nyn"},
		{"fffpp", "yynyn"},
		{"fffpffpp", "yynynnyn"},
	}
	for _, tc := range tests {
		t.Run(tc.results, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, m *Monitor) {
				f, w := &fake{answer: script(tc.results)}, newWatch()
				c := m.Acquire(f, number(1), &usual, w)
				time.Sleep(time.Duration(len(tc.results)) * usual.Interval)
				m.Release(c, w)
				at := f.times(number(1))
				for i, doubt := range tc.doubt {
					distance := at[i+1].Sub(at[i])
					if doubt == 'y' && distance != usual.Recheck {
						t.Errorf("Result %d of %s: the next probe came after %s, want the recheck of %s", i, tc.results, distance, usual.Recheck)
					}
					// Back to the grid: its next line may be at any time.
					if doubt == 'n' && distance > usual.Interval {
						t.Errorf("Result %d of %s: the next probe came after %s, want an interval at most", i, tc.results, distance)
					}
				}
			})
		})
	}

	// A probe that takes longer than recheck is followed by the next at once, and never by two.
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		f, w := &fake{answer: hang}, newWatch()
		begin := time.Now()
		c := m.Acquire(f, number(1), &usual, w)
		time.Sleep(2*usual.Timeout + usual.Timeout/2)
		at := f.times(number(1))
		if len(at) != 3 || at[1].Sub(at[0]) != usual.Timeout || at[2].Sub(at[1]) != usual.Timeout {
			t.Errorf("A silent target was asked at %v, want once every timeout", at)
		}
		// The status begins with the result, not with the question.
		w.until(t, time.Minute, "down", func() bool { return m.state(c).Status == health.Down })
		if s, want := m.state(c), begin.Add(3*usual.Timeout); s.Since != want {
			t.Errorf("It is down since %v, want %v", s.Since, want)
		}
		m.Release(c, w)
	})
}

// How long an outage and its end stay unnoticed, at whatever moment they come.
func TestDetection(t *testing.T) {
	tests := map[string]struct {
		settings health.Settings
		dead     func(context.Context, netip.AddrPort) error
		took     time.Duration // a probe of a dead target
	}{
		"Refused": {usual, func(context.Context, netip.AddrPort) error { return errDead }, 0},
		"Silent":  {usual, hang, usual.Timeout},
		"Fall 1":  {health.Settings{Interval: 5 * time.Second, Recheck: time.Second, Timeout: 2 * time.Second, Fall: 1, Rise: 1}, hang, usual.Timeout},
		"Window": {health.Settings{Interval: 5 * time.Second, Recheck: time.Second, Timeout: 2 * time.Second, Fall: 4, Window: 10, Rise: 2},
			func(context.Context, netip.AddrPort) error { return errDead }, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(5, 6))
			var longest, shortest time.Duration
			for range 200 {
				bubble(t, nil, func(t *testing.T, m *Monitor) {
					var dead atomic.Bool
					f := &fake{answer: func(ctx context.Context, target netip.AddrPort) error {
						if dead.Load() {
							return tc.dead(ctx, target)
						}
						return nil
					}}
					w := newWatch()
					c := m.Acquire(f, number(random.IntN(1000)), &tc.settings, w)
					time.Sleep(time.Minute + time.Duration(random.Int64N(int64(time.Minute))))

					soonest := m.state(c).EarliestChange
					dead.Store(true)
					// A result at recheck pace comes no sooner than the probe before has ended.
					pace := max(tc.settings.Recheck, tc.took)
					bound := tc.settings.Interval + time.Duration(tc.settings.Fall-1)*pace + tc.took
					took := w.until(t, bound, "a dead target is down", func() bool { return m.state(c).Status == health.Down })
					longest, shortest = max(longest, took), min(shortest, took)
					if least := time.Duration(tc.settings.Fall-1) * tc.settings.Recheck; took < least {
						t.Errorf("Down after %s, want %d failures, which take %s", took, tc.settings.Fall, least)
					}
					if want := tc.settings.Interval + time.Duration(tc.settings.Fall-1)*tc.settings.Recheck; soonest != want {
						t.Errorf("The soonest change was %s away, want %s", soonest, want)
					}
					if s := m.state(c); s.Err == nil {
						t.Error("It is down without an error")
					}

					time.Sleep(time.Duration(random.Int64N(int64(time.Minute))))
					dead.Store(false)
					// One probe may be on its way to the dead.
					bound = tc.took + tc.settings.Interval + time.Duration(tc.settings.Rise-1)*tc.settings.Recheck
					w.until(t, bound, "a target that came back is up", func() bool { return m.state(c).Status == health.Up })
					if s := m.state(c); !s.Recovered || time.Since(s.Since) > time.Millisecond {
						t.Errorf("A target that came back just now is %+v", s)
					}
					m.Release(c, w)
				})
			}
			t.Logf("Down %s after its death at most", longest)
			if least := tc.settings.Interval * 8 / 10; longest < least {
				t.Errorf("Of 200 deaths none took longer than %s to notice: what was measured?", longest)
			}
		})
	}
}

// A target that is dead from the start is known to be after its failures at recheck pace: a server
// that waits for the first statuses does not wait for an interval.
func TestUnknownDown(t *testing.T) {
	for _, fall := range []int{1, 2, 3, 10} {
		bubble(t, nil, func(t *testing.T, m *Monitor) {
			s := usual
			s.Fall = fall
			f, w := &fake{answer: script("f")}, newWatch()
			c := m.Acquire(f, number(1), &s, w)
			took := w.until(t, time.Minute, "down", func() bool { return m.state(c).Status == health.Down })
			if want := time.Duration(fall-1) * s.Recheck; took != want {
				t.Errorf("Fall %d: down after %s, want %s", fall, took, want)
			}
			if n := len(f.times(number(1))); n != fall {
				t.Errorf("Fall %d: down after %d probes", fall, n)
			}
			m.Release(c, w)
		})
	}
}

func TestTimeout(t *testing.T) {
	var took []time.Duration
	var errs []error
	observe := func(_ string, err error, d, _ time.Duration) {
		took, errs = append(took, d), append(errs, err)
	}
	bubble(t, observe, func(t *testing.T, m *Monitor) {
		f := &fake{answer: func(ctx context.Context, target netip.AddrPort) error {
			if end, ok := ctx.Deadline(); !ok || time.Until(end) != usual.Timeout {
				t.Errorf("The context of the probe ends at %v, %t, want in %s", end, ok, usual.Timeout)
			}
			return hang(ctx, target)
		}}
		w := newWatch()
		c := m.Acquire(f, number(1), &usual, w)
		time.Sleep(usual.Timeout)
		synctest.Wait()
		if s := m.state(c); !errors.Is(s.Err, context.DeadlineExceeded) {
			t.Errorf("The error of a silent target is %v", s.Err)
		}
		if len(took) != 1 || took[0] != usual.Timeout || !errors.Is(errs[0], context.DeadlineExceeded) {
			t.Errorf("Observed: took %v, errors %v, want one that took the timeout of %s", took, errs, usual.Timeout)
		}
		m.Release(c, w)
	})
}

// A member that loses half of its packets is not seen by counting in a row when the losses are spread
// evenly; a window sees it.
func TestLossy(t *testing.T) {
	coin := func() func(context.Context, netip.AddrPort) error {
		random := rand.New(rand.NewPCG(7, 8))
		results := make([]byte, 10000)
		for i := range results {
			results[i] = "pf"[random.IntN(2)]
		}
		return script(string(results))
	}
	row, window := usual, usual
	window.Fall, window.Window = 5, 10
	few := func(n int) func(context.Context, netip.AddrPort) error { // one failure in n
		return script("f" + string(slices.Repeat([]byte{'p'}, n-1)))
	}
	tests := map[string]struct {
		settings health.Settings
		answer   func(context.Context, netip.AddrPort) error
		down     bool
	}{
		"Alternating, fall 3":      {row, script("pf"), false},
		"Alternating, fall 5 10":   {window, script("pf"), true},
		"Random, fall 3":           {row, coin(), true},
		"Random, fall 5 10":        {window, coin(), true},
		"One in three, fall 5 10":  {window, few(3), false},
		"One in twenty, fall 3":    {row, few(20), false},
		"One in twenty, fall 5 10": {window, few(20), false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, m *Monitor) {
				f := &fake{answer: tc.answer}
				var downs int
				var first time.Duration
				var c *Check
				known := make(chan struct{})
				begin, before := time.Now(), health.Unknown
				w := newWatch()
				w.also = func() {
					<-known
					status := m.state(c).Status
					if status == health.Down && before != health.Down {
						downs++
						if downs == 1 {
							first = time.Since(begin)
						}
					}
					before = status
				}
				c = m.Acquire(f, number(1), &tc.settings, w)
				close(known)
				time.Sleep(3 * time.Hour)
				m.Release(c, w)
				if (downs > 0) != tc.down {
					t.Errorf("Down %d times in three hours, want that it is down at all: %t", downs, tc.down)
				}
				t.Logf("Down %d times, first after %s", downs, first)
				if tc.settings.Window > 0 && tc.down && first > time.Duration(2*tc.settings.Window)*usual.Interval {
					t.Errorf("Down after %s only, want within about the window", first)
				}
			})
		})
	}
}

// A target that comes and goes changes as often as the chart says, and every change is told, once.
func TestFlapping(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		f := &fake{answer: script("pfffppfffp")} // up, down, up, down, and one pass of two
		var statuses []string
		var c *Check
		known := make(chan struct{})
		w := newWatch()
		w.also = func() {
			<-known
			if s := m.state(c).Status.String(); len(statuses) == 0 || statuses[len(statuses)-1] != s {
				statuses = append(statuses, s)
			}
		}
		c = m.Acquire(f, number(1), &usual, w)
		close(known)
		for len(f.times(number(1))) < 20 {
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		m.Release(c, w)
		// The second round begins where the first has ended, down with a pass: its first result is the
		// second pass.
		want := "up down up down up down up down"
		if got := strings.Join(statuses, " "); got != want {
			t.Errorf("The statuses were %s, want %s", got, want)
		}
		if told := w.told.Load(); told < 8 || told > 20 {
			t.Errorf("The watcher was told %d times of 20 results with 8 changes", told)
		}
	})
}

// A probe that could not ask says nothing of its target.
func TestNotAsked(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		up, busy, w := new(alive), new(alive), newWatch()
		up.Store(true)
		f := &fake{answer: func(ctx context.Context, target netip.AddrPort) error {
			if busy.Load() {
				return fmt.Errorf("%w: so many run", probe.ErrNotAsked)
			}
			return up.answer(ctx, target)
		}}
		c := m.Acquire(f, number(1), &usual, w)
		time.Sleep(time.Minute)
		busy.Store(true)
		asked := len(f.times(number(1)))
		time.Sleep(time.Minute)
		if s := m.state(c); s.Status != health.Up || s.Err != nil || len(f.times(number(1)))-asked < 12 {
			t.Errorf("%+v after %d probes that could not ask", s, len(f.times(number(1)))-asked)
		}
		up.Store(false)
		busy.Store(false)
		w.until(t, 10*time.Second, "down", func() bool { return m.state(c).Status == health.Down })
		m.Release(c, w)
	})
}
