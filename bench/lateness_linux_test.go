package bench

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/probe"
)

// full has the tests measure as much as the figures in README.md are about, which takes minutes.
var full = flag.Bool("full", false, "measure at full scale")

// openFiles raises the limit on open files, as far as this process may, and returns what it is then.
func openFiles(tb testing.TB, want uint64) uint64 {
	tb.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		tb.Fatal(err)
	}
	if before.Cur >= want {
		return before.Cur
	}
	for _, limit := range []syscall.Rlimit{{Cur: want, Max: max(want, before.Max)}, {Cur: before.Max, Max: before.Max}} {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
			tb.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: before.Cur, Max: limit.Max}) })
			return limit.Cur
		}
	}
	return before.Cur
}

// unreachable is a port of all loopback addresses where no connection is ever made, nor refused: the queue of its
// listener is full.
func unreachable(tb testing.TB) uint16 {
	tb.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.SetsockoptString(fd, syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, "lo"); err != nil {
		tb.Skip(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{}); err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		tb.Fatal(err)
	}
	local, err := syscall.Getsockname(fd)
	if err != nil {
		tb.Fatal(err)
	}
	port := local.(*syscall.SockaddrInet4).Port
	for range 10 {
		c, err := net.DialTimeout("tcp", fmt.Sprint("127.0.0.1:", port), 50*time.Millisecond)
		if os.IsTimeout(err) {
			return uint16(port)
		}
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { c.Close() })
	}
	tb.Skip("A listener takes any number of connections here")
	return 0
}

// lateness has so many members asked, all of them once at first, ten thousand a second, and then, if so told, for longer,
// and returns by how much these probes were late, in order. Besides there are silent ones, which take until the timeout
// and are asked again right after that, and the most that were waited for at once.
func lateness(tb testing.TB, members, silent int, longer time.Duration) (late []time.Duration, most int) {
	tb.Helper()
	accepts, _ := startMembers(tb)
	dead := uint16(0)
	if silent > 0 {
		dead = unreachable(tb)
	}
	spec, err := probe.Parse([]string{"tcp://"}, "", "")
	if err != nil {
		tb.Fatal(err)
	}
	var mu sync.Mutex
	fails := 0
	m := monitor.New(func(_ string, err error, _, by time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			fails++
			return
		}
		late = append(late, by)
	})
	settings := health.Settings{Interval: 10 * time.Second, Recheck: time.Second, Timeout: 2 * time.Second, Fall: 3, Rise: 2}
	relentless := settings
	relentless.Interval, relentless.Recheck = settings.Timeout, settings.Timeout
	var checks []*monitor.Check
	for i := range silent {
		checks = append(checks, m.Acquire(spec.Prober, netip.AddrPortFrom(address(i), dead), &relentless, watcher{}))
	}
	for i := range members {
		checks = append(checks, m.Acquire(spec.Prober, netip.AddrPortFrom(address(i), accepts), &settings, watcher{}))
	}
	for end := time.Now().Add(time.Duration(members+silent)*100*time.Microsecond + longer); time.Now().Before(end); time.Sleep(time.Second) {
		if silent > 0 {
			most = max(most, connecting(tb, dead))
		}
	}
	for _, c := range checks {
		m.Release(c, watcher{})
	}
	mu.Lock()
	defer mu.Unlock()
	if silent > 0 && fails < silent {
		tb.Errorf("%d probes of %d silent members have failed, want each of them to", fails, silent)
	}
	slices.Sort(late)
	return late, most
}

// connecting is how many connections to a port are waited for.
func connecting(tb testing.TB, port uint16) int {
	tb.Helper()
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.Count(text, fmt.Appendf(nil, ":%04X 02 ", port)) // SYN_SENT
}

// load is how many programs have wanted a processor in the last minute, on average.
func load(tb testing.TB) float64 {
	tb.Helper()
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		tb.Fatal(err)
	}
	var load float64
	fmt.Sscan(string(text), &load)
	return load
}

// The probe of a member that answers begins when it is due, whatever the number of members, and of those that do not
// answer at all. A busy machine gets another try.
func TestLateness(t *testing.T) {
	members, living, silent, longer := 20_000, 5_000, 5_000, 5*time.Second
	if *full {
		members, living, silent, longer = 100_000, 10_000, 20_000, time.Minute
	}
	openFiles(t, uint64(silent)*3/2+10_000)
	if room := probe.Room(); silent > room*2/3 {
		silent = room * 2 / 3
		t.Logf("There is room for %d probes at once, and so %d members do not answer", room, silent)
	}
	for _, tc := range []struct{ members, silent int }{{members, 0}, {living, silent}} {
		t.Run(fmt.Sprintf("%d and %d", tc.members, tc.silent), func(t *testing.T) {
			var p99 time.Duration
			for range 5 {
				late, most := lateness(t, tc.members, tc.silent, longer)
				p99 = late[len(late)*99/100]
				t.Logf("%d members, and %d that do not answer, %d of them waited for at once: load %.1f, %d probes late by %s at the median, %s for one of a hundred, %s at most",
					tc.members, tc.silent, most, load(t), len(late), late[len(late)/2], p99, late[len(late)-1])
				if want := tc.silent * 3 / 4; most < want {
					t.Errorf("%d members were waited for at once, want %d at least", most, want)
				}
				if p99 < 100*time.Millisecond {
					break
				}
			}
			if load := load(t); p99 >= 100*time.Millisecond && load > 2*float64(runtime.NumCPU()) {
				t.Skipf("The load is %.1f: a probe is late for want of a processor", load)
			}
			if p99 >= 100*time.Millisecond {
				t.Errorf("With %d members that do not answer one of a hundred is late by %s, want 100ms at most", tc.silent, p99)
			}
		})
	}
}
