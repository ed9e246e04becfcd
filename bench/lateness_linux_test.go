package bench

import (
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

// lateness has so many members asked ten thousand times a second, all of them once at first and then, if so told,
// for longer, and returns by how much these probes were late, in order.
func lateness(tb testing.TB, members, silent int, longer time.Duration) []time.Duration {
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
	var late []time.Duration
	m := monitor.New(func(_ string, _ error, _, by time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		late = append(late, by)
	})
	settings := monitor.Settings{Interval: 10 * time.Second, Recheck: time.Second, Timeout: 2 * time.Second, Fall: 3, Rise: 2}
	var checks []*monitor.Check
	for i := range silent {
		checks = append(checks, m.Acquire(spec.Prober, netip.AddrPortFrom(address(i), dead), &settings, watcher{}))
	}
	for i := range members {
		checks = append(checks, m.Acquire(spec.Prober, netip.AddrPortFrom(address(i), accepts), &settings, watcher{}))
	}
	time.Sleep(time.Duration(members+silent)*100*time.Microsecond + longer)
	for _, c := range checks {
		m.Release(c, watcher{})
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(late)
	return late
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

// A probe begins when it is due, whatever the number of members, and of those that do not answer at all. A busy
// machine gets another try.
func TestLateness(t *testing.T) {
	members, silent, longer := 20_000, 5_000, 3*time.Second
	if *full {
		members, silent, longer = 100_000, 20_000, time.Minute
	}
	if files := openFiles(t, uint64(silent)*3/2+10_000); files < uint64(silent)*3/2+1000 {
		silent = int(files) / 2
		t.Logf("Only %d files may be open, and so %d members not answer", files, silent)
	}
	for _, silent := range []int{0, silent} {
		var p99 time.Duration
		for range 5 {
			late := lateness(t, members, silent, longer)
			p99 = late[len(late)*99/100]
			t.Logf("%d members, and %d that do not answer: %d probes late by %s at the median, %s for one of a hundred, %s at most",
				members, silent, len(late), late[len(late)/2], p99, late[len(late)-1])
			if p99 < 100*time.Millisecond {
				break
			}
		}
		if load := load(t); p99 >= 100*time.Millisecond && load > 2*float64(runtime.NumCPU()) {
			t.Skipf("The load is %.1f: a probe is late for want of a processor", load)
		}
		if p99 >= 100*time.Millisecond {
			t.Errorf("With %d members that do not answer one of a hundred is late by %s, want 100ms at most", silent, p99)
		}
	}
}
