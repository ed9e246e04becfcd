package monitor

import (
	"context"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"
)

// nothing is a Prober that takes no time.
type nothing struct{}

func (nothing) Probe(context.Context, netip.AddrPort) error { return nil }
func (nothing) Kind() string                                { return "nothing" }
func (nothing) String() string                              { return "nothing://" }

// deafWatch is a Watcher that does nothing.
type deafWatch struct{}

func (deafWatch) Changed() {}

// BenchmarkProbe is what the monitor adds to one probe: the schedule, a goroutine, a context and the state
// chart. Every target is due all the time.
func BenchmarkProbe(b *testing.B) {
	for _, checks := range []int{1, 1000, 100_000} {
		b.Run(strconv.Itoa(checks), func(b *testing.B) {
			done := make(chan struct{}, maxAsking)
			m := New(func(string, error, time.Duration, time.Duration) { done <- struct{}{} })
			settings := usual
			settings.Interval = 100 * time.Nanosecond
			all := make([]*Check, 0, checks)
			for i := range checks {
				m.firstDue = 0
				all = append(all, m.Acquire(nothing{}, number(i), &settings, deafWatch{}))
			}
			b.ReportAllocs()
			for b.Loop() {
				<-done
			}
			go func() { // until the last of them
				for range done {
				}
			}()
			for _, c := range all {
				m.Release(c, deafWatch{})
			}
			close(done)
		})
	}
}

// BenchmarkMemory is what one check costs while it waits for its time, and how long it takes to make.
func BenchmarkMemory(b *testing.B) {
	const checks = 100_000
	for b.Loop() {
		m := New(nil)
		m.firstDue = time.Hour // none is under way
		all := make([]*Check, 0, checks)
		settings := usual
		before := inUse()
		for i := range checks {
			all = append(all, m.Acquire(nothing{}, number(i), &settings, deafWatch{}))
		}
		b.ReportMetric(float64(inUse()-before)/checks, "B/check")
		slices.Reverse(all)
		for _, c := range all {
			m.Release(c, deafWatch{})
		}
	}
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
