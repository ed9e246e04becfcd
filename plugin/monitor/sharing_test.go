package monitor

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
)

func TestSharing(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		up := new(alive)
		up.Store(true)
		f := &fake{text: "a", answer: up.answer}
		again := &fake{text: "a", answer: func(context.Context, netip.AddrPort) error {
			t.Error("The second Prober of the same question was asked")
			return nil
		}}
		settings, same := usual, usual // two of the same values
		one, two := newWatch(), newWatch()
		c := m.Acquire(f, number(1), &settings, one)
		d := m.Acquire(again, number(1), &same, two)
		if c != d {
			t.Fatal("The same question to the same target with the same settings is two checks")
		}
		if c.target() != number(1) || *c.settings != usual {
			t.Errorf("The check is of %v with %+v", c.target(), c.settings)
		}
		time.Sleep(time.Minute)
		if n := len(f.times(number(1))); n < 12 || n > 14 {
			t.Errorf("The target was asked %d times in a minute, want once every %s", n, usual.Interval)
		}
		up.Store(false)
		one.until(t, time.Minute, "down", func() bool { return m.state(c).Status == health.Down })
		synctest.Wait()
		if a, b := one.told.Load(), two.told.Load(); a != b || a != 4 {
			t.Errorf("The watchers were told %d and %d times of one pass and three failures", a, b)
		}

		// Each counts for itself, and nothing else does.
		m.Release(c, newWatch())
		m.Release(c, one)
		m.Release(c, one)
		told, asked := one.told.Load(), len(f.times(number(1)))
		up.Store(true)
		two.until(t, time.Minute, "up for the one that is left", func() bool { return m.state(c).Status == health.Up })
		if one.told.Load() != told {
			t.Error("The first watcher was told of changes after its release")
		}
		if len(f.times(number(1))) == asked {
			t.Error("The target is not asked any more, though one of two still wants it")
		}
		m.Release(c, two)
		asked = len(f.times(number(1)))
		time.Sleep(time.Hour)
		if n := len(f.times(number(1))); n != asked {
			t.Errorf("The target was asked %d times after the last release", n-asked)
		}
	})
}

// A watcher may watch one check several times over: each Acquire has its Release.
func TestSharingBySameWatcher(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		f, w := new(fake), newWatch()
		c := m.Acquire(f, number(1), &usual, w)
		m.Acquire(f, number(1), &usual, w)
		m.Release(c, w)
		time.Sleep(time.Minute)
		if n := len(f.times(number(1))); n < 12 {
			t.Errorf("After one of two releases the target was asked %d times in a minute", n)
		}
		m.Release(c, w)
	})
}

func TestSettingsInherit(t *testing.T) {
	// What may be asked besides, of the same target or another, and whether it knows the status at once.
	slower, patient := usual, usual
	slower.Interval = 30 * time.Second
	patient.Fall = 10
	tests := map[string]struct {
		text     string
		target   netip.AddrPort
		settings *health.Settings
		known    bool
	}{
		"Other interval": {"a", number(1), &slower, true},
		"Other fall":     {"a", number(1), &patient, true},
		"Other question": {"b", number(1), &usual, false},
		"Other target":   {"a", number(2), &usual, false},
		"Other port":     {"a", netip.AddrPortFrom(number(1).Addr(), 80), &usual, false},
	}
	for name, tc := range tests {
		for _, before := range []health.Status{health.Up, health.Down} {
			t.Run(name+", "+before.String(), func(t *testing.T) {
				bubble(t, nil, func(t *testing.T, m *Monitor) {
					results := map[health.Status]string{health.Up: "fffppp", health.Down: "f"}[before]
					f, w := &fake{text: "a", answer: script(results)}, newWatch()
					first := m.Acquire(f, number(1), &usual, w)
					w.until(t, time.Minute, "known", func() bool { return m.state(first).Status == before })
					known := m.state(first)
					time.Sleep(time.Second)

					other := newWatch()
					c := m.Acquire(&fake{text: tc.text, answer: hang}, tc.target, tc.settings, other)
					if c == first {
						t.Fatal("It is the same check")
					}
					got := m.state(c)
					want := health.State{EarliestChange: got.EarliestChange}
					if tc.known {
						want = known
						want.EarliestChange = got.EarliestChange
					}
					if got != want {
						t.Errorf("It begins with %+v, want %+v", got, want)
					}
					if n := len(f.times(number(1))); before == health.Up && tc.text == "a" && n < 5 {
						t.Errorf("The first was asked %d times", n)
					}

					// Neither depends on the other from now on.
					m.Release(first, w)
					if s := m.state(c); s.Status != got.Status {
						t.Errorf("The other was let go, and the status is %v, want %v", s.Status, got.Status)
					}
					m.Release(c, other)
				})
			})
		}
	}
}

// What is inherited is the status and not the count against it: with other settings that means
// something else.
func TestSettingsInheritNoCount(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		quick := usual
		quick.Fall = 2
		f, w := &fake{answer: script("pff" + "f")}, newWatch()
		c := m.Acquire(f, number(1), &usual, w)
		w.until(t, time.Minute, "two failures of three", func() bool { return len(f.times(number(1))) == 3 })
		d := m.Acquire(f, number(1), &quick, w)
		if s := m.state(d); s.Status != health.Up || s.EarliestChange != quick.Interval+quick.Recheck {
			t.Errorf("It begins with %+v, want it up and in good standing", s)
		}
		m.Release(c, w)
		m.Release(d, w)
	})
}

// Checks of the same target that differ in their settings are let go in any order.
func TestSiblings(t *testing.T) {
	for first := range 3 {
		for second := range 3 {
			bubble(t, nil, func(t *testing.T, m *Monitor) {
				f, w := new(fake), newWatch()
				var checks []*Check
				for i := range 3 {
					s := usual
					s.Rise += i
					checks = append(checks, m.Acquire(f, number(1), &s, w))
				}
				m.Release(checks[first], w)
				if second != first {
					m.Release(checks[second], w)
				}
				for i, c := range checks {
					if i == first || i == second {
						continue
					}
					s := *c.settings
					if again := m.Acquire(f, number(1), &s, w); again != c {
						t.Errorf("Without %d and %d, number %d is not found again", first, second, i)
					}
					m.Release(c, w)
					m.Release(c, w)
				}
			})
		}
	}
}

// A monitor with nothing left begins anew: no goroutine remains, no memory of the status, and the next
// Acquire is asked at once.
func TestAgainAfterTheLast(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		for range 3 {
			f, w := &fake{answer: script("f")}, newWatch()
			begin := time.Now()
			c := m.Acquire(f, number(1), &usual, w)
			if s := m.state(c); s.Status != health.Unknown {
				t.Errorf("It begins %v, though nobody has asked it for an hour", s.Status)
			}
			synctest.Wait()
			if at := f.times(number(1)); len(at) != 1 || at[0] != begin {
				t.Errorf("It was asked at %v, want at once: %v", at, begin)
			}
			w.until(t, 2*usual.Recheck, "down", func() bool { return m.state(c).Status == health.Down })
			m.Release(c, w)
			synctest.Wait()
			wantEmpty(t, m)
			time.Sleep(time.Hour)
		}
	})
}

// An engine that has ended may still look at the queue once. What is there by then belongs to the next:
// a probe that the former began would be broken off at once.
func TestEngineThatEnded(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		f, w := new(fake), newWatch()
		c := m.Acquire(f, number(1), &usual, w)
		ended := m.engine
		m.Release(c, w)

		m.firstDue = m.now() + time.Hour // the next engine has all the time
		c = m.Acquire(f, number(2), &usual, w)
		synctest.Wait()
		m.mu.Lock()
		m.queue.move(c, m.now())
		m.mu.Unlock()
		m.startDue(ended)
		synctest.Wait()
		if c.underWay() || len(f.times(number(2))) > 0 {
			t.Error("It began a probe")
		}
		m.Release(c, w)
	})
}

// Many at once acquire and release the same few checks. Whoever has one sees it asked, soon and again,
// whoever else lets go of it meanwhile, and in the end nothing is left.
func TestStorm(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *Monitor) {
		const workers, rounds = 50, 200
		up := &fake{text: "up"}
		down := &fake{text: "down", answer: script("f")}
		silent := &fake{text: "silent", answer: hang}
		var settings [3]health.Settings
		for i := range settings {
			settings[i] = usual
			settings[i].Recheck += time.Duration(i) * time.Millisecond
		}
		var wg sync.WaitGroup
		for i := range workers {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(9, uint64(i)))
				for range rounds {
					f, want := up, health.Up
					switch random.IntN(3) {
					case 1:
						f, want = down, health.Down
					case 2:
						f, want = silent, health.Unknown
					}
					w := newWatch()
					c := m.Acquire(f, number(random.IntN(5)), &settings[random.IntN(len(settings))], w)
					switch {
					case random.IntN(4) > 0: // away before the first probe has ended
					case want == health.Up:
						time.Sleep(time.Second)
						if s := m.state(c); s.Status != health.Up {
							t.Errorf("It is %v a second after it was acquired, want up", s.Status)
						}
					case want == health.Down:
						time.Sleep(2*usual.Recheck + time.Second)
						if s := m.state(c); s.Status != health.Down {
							t.Errorf("It is %v three seconds after it was acquired, want down", s.Status)
						}
					default:
						time.Sleep(time.Duration(random.IntN(10000)) * time.Millisecond)
					}
					m.Release(c, w)
					if random.IntN(10) == 0 {
						time.Sleep(time.Duration(random.IntN(20)) * time.Second) // so that at times there is nothing left
					}
				}
			})
		}
		wg.Wait()
		wantEmpty(t, m)
	})
}

// The same in real time and on several processors, for the race detector and for what only happens when
// the last release and the next acquire meet.
func TestStormAtTheLast(t *testing.T) {
	m := New(nil)
	quick := health.Settings{Interval: time.Minute, Recheck: time.Millisecond, Timeout: 30 * time.Second, Fall: 1, Rise: 1}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			f := &fake{text: string(rune('a' + i))}
			for range 300 {
				w := newWatch()
				c := m.Acquire(f, number(i), &quick, w)
				select {
				case <-w.news:
				case <-time.After(20 * time.Second):
					t.Error("Its first probe did not come")
				}
				m.Release(c, w)
			}
		})
	}
	wg.Wait()
	wantEmpty(t, m)
}
