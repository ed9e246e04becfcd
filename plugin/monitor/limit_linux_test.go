package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/probe"
)

// limitKey is the variable that makes this program the process of few files, and says which port is open and which is
// silent.
const limitKey = "FAILOVER_MONITOR_LIMIT"

// files is how many that process may have open.
const files = 128

// TestLimit has a process that may open few files ask members that are there and members that do not answer at all.
func TestLimit(t *testing.T) {
	if ports := os.Getenv(limitKey); ports != "" {
		var open, silent uint16
		if _, err := fmt.Sscan(ports, &open, &silent); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: files, Max: files}); err != nil {
			t.Fatal(err)
		}
		t.Run("Watch", func(t *testing.T) { watchLimited(t, open) })
		t.Run("Room", func(t *testing.T) { roomLimited(t, open, silent) })
		t.Run("None", func(t *testing.T) { noneLeft(t, open) })
		return
	}
	open, silent := taking(t), full(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestLimit$", "-test.v")
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", limitKey, open, silent))
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if n := bytes.Count(out, []byte("--- PASS")); n != 4 {
		t.Errorf("%d tests have passed, want 4:\n%s", n, out)
	}
}

// toLoopback has a socket be for the loopback device only, on all of its addresses.
func toLoopback(fd int) error {
	return syscall.SetsockoptString(fd, syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, "lo")
}

// taking is a port that takes connections, and keeps them until the other side ends them.
func taking(t *testing.T) uint16 {
	t.Helper()
	var wg sync.WaitGroup
	only := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		raw.Control(func(fd uintptr) { err = toLoopback(int(fd)) })
		return err
	}}
	l, err := only.Listen(t.Context(), "tcp4", "0.0.0.0:0")
	if errors.Is(err, syscall.EPERM) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			wg.Go(func() {
				io.Copy(io.Discard, c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// full is a port whose queue is full: no connection is made, nor refused.
func full(t *testing.T) uint16 {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(toLoopback(fd), syscall.Bind(fd, &syscall.SockaddrInet4{}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	local, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(local.(*syscall.SockaddrInet4).Port)
	for range 10 {
		c, err := net.DialTimeout("tcp", fmt.Sprint("127.0.0.1:", port), 50*time.Millisecond)
		if os.IsTimeout(err) {
			return port
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	if os.Getenv("CI") != "" {
		t.Fatal("A listener takes any number of connections here")
	}
	t.Skip("A listener takes any number of connections here")
	return 0
}

// soon bounds what takes no time on a machine that has nothing else to do.
const soon = 20 * time.Second

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("Not within %s: %s", soon, what)
		}
	}
}

// ledger counts results.
type ledger struct {
	mu                   sync.Mutex
	passes, fails, skips int
}

func (l *ledger) observe(_ string, err error, _, _ time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, probe.ErrNotAsked):
		l.skips++
	case err != nil:
		l.fails++
	default:
		l.passes++
	}
}

// counts are the results so far.
func (l *ledger) counts() (passes, fails, skips int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.passes, l.fails, l.skips
}

// quick are settings for a process that is watched.
var quick = health.Settings{Interval: 500 * time.Millisecond, Recheck: 200 * time.Millisecond, Timeout: 200 * time.Millisecond, Fall: 3, Rise: 2}

// acquired has so many targets asked at a port, until the test ends.
func acquired(t *testing.T, m *Monitor, first, count int, port uint16, words ...string) []*Check {
	t.Helper()
	spec, err := probe.Parse(words, "", "")
	if err != nil {
		t.Fatal(err)
	}
	w := newWatch()
	checks := make([]*Check, 0, count)
	for i := range count {
		checks = append(checks, m.Acquire(spec.Prober, netip.AddrPortFrom(number(first+i).Addr(), port), &quick, w))
	}
	t.Cleanup(func() {
		for _, c := range checks {
			m.Release(c, w)
		}
	})
	return checks
}

// all says whether all checks have a status.
func (m *Monitor) all(checks []*Check, status health.Status) bool {
	for _, c := range checks {
		if m.state(c).Status != status {
			return false
		}
	}
	return true
}

// openFiles is how many files this process has open, but for the one that it takes to tell.
func openFiles(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open) - 1
}

// Of the room for probes no more than a quarter is taken by connections that are held.
func watchLimited(t *testing.T, open uint16) {
	before := openFiles(t)
	m := New(nil)
	checks := acquired(t, m, 1, 2*files, open, "tcp://", "watch")
	eventually(t, "all up", func() bool { return m.all(checks, health.Up) })
	want := files * 3 / 4 / 4
	eventually(t, "connections held", func() bool { return openFiles(t) >= before+want })
	m.mu.Lock()
	held := len(m.watches)
	m.mu.Unlock()
	if held != want {
		t.Errorf("%d connections are held, want %d: a quarter of three quarters of %d", held, want, files)
	}
}

// What finds no room begins later: it is neither failed for that, nor left out.
func roomLimited(t *testing.T, open, silent uint16) {
	var l ledger
	m := New(l.observe)
	living := acquired(t, m, 1, 20, open, "tcp://")
	dead := acquired(t, m, 1000, 3*files, silent, "tcp://")
	most := 0
	eventually(t, "all settled", func() bool {
		most = max(most, openFiles(t))
		return m.all(living, health.Up) && m.all(dead, health.Down)
	})
	if most < files/2 || most >= files {
		t.Errorf("%d files were open at most, want the room of %d used, and something left", most, files*3/4)
	}
	for _, c := range dead {
		if why := m.state(c).Why(&quick); why != "3 failures: timeout while connecting" {
			t.Fatalf("It is down because of %q", why)
		}
	}
	for _, c := range living {
		if s := m.state(c); s.Err != nil {
			t.Errorf("A member that is there has failed: %v", s.Err)
		}
	}
	if _, _, skips := l.counts(); skips > 0 {
		t.Errorf("%d probes were left out, want them later", skips)
	}
}

// Where no file is left that is no verdict, and over as soon as there are some.
func noneLeft(t *testing.T, open uint16) {
	var l ledger
	m := New(l.observe)
	checks := acquired(t, m, 1, 20, open, "tcp://")
	eventually(t, "all up", func() bool { return m.all(checks, health.Up) })
	var taken []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, f)
	}
	eventually(t, "probes left out", func() bool { _, _, skips := l.counts(); return skips > 5*len(checks) })
	if !m.all(checks, health.Up) {
		t.Error("Members are no longer up for want of files")
	}
	for _, f := range taken {
		f.Close()
	}
	passes, _, _ := l.counts()
	eventually(t, "members asked again", func() bool { now, _, _ := l.counts(); return now > passes+len(checks) })
	for _, c := range checks {
		if s := m.state(c); s.Err != nil {
			t.Errorf("A member that is there has failed: %v", s.Err)
		}
	}
}
