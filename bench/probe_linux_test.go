package bench

import (
	"bufio"
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/probe"
)

// address is the n-th of the loopback addresses.
func address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(1 + n>>16&0x7f), byte(n >> 8), byte(n)})
}

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// overEpoll is the floor of connecting: a socket, and epoll to wait for it.
func overEpoll(tb testing.TB, port uint16) func(n int) {
	tb.Helper()
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { syscall.Close(epoll) })
	events := make([]syscall.EpollEvent, 16)
	to := &syscall.SockaddrInet4{Port: int(port)}
	reset := syscall.Linger{Onoff: 1}
	return func(n int) {
		for i := range n {
			fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
			if err != nil {
				tb.Fatal(err)
			}
			syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &reset)
			to.Addr = address(i).As4()
			if err := syscall.Connect(fd, to); err != nil && err != syscall.EINPROGRESS {
				tb.Fatal(err)
			}
			syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLOUT, Fd: int32(fd)})
			if _, err := syscall.EpollWait(epoll, events, 1000); err != nil && err != syscall.EINTR {
				tb.Fatal(err)
			}
			if code, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR); code != 0 || err != nil {
				tb.Fatal(code, err)
			}
			syscall.Close(fd)
		}
	}
}

// overNet dials with package net, and does something with the connection before it is reset.
func overNet(tb testing.TB, port uint16, then func(net.Conn)) func(n int) {
	tb.Helper()
	dialer := net.Dialer{KeepAlive: -1}
	return func(n int) {
		for i := range n {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			c, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(address(i), port).String())
			if err != nil {
				tb.Fatal(err)
			}
			then(c)
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
			cancel()
		}
	}
}

// byHand sends a request and reads the answer.
func byHand(tb testing.TB) func(net.Conn) {
	tb.Helper()
	request := []byte("GET / HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: CoreDNS-failover\r\nConnection: close\r\n\r\n")
	return func(c net.Conn) {
		c.SetDeadline(time.Now().Add(2 * time.Second))
		c.Write(request)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			tb.Fatal(resp, err)
		}
	}
}

// overHTTP asks with net/http, with a connection for each request.
func overHTTP(tb testing.TB, port uint16) func(n int) {
	tb.Helper()
	return func(n int) {
		for i := range n {
			t := &http.Transport{DisableKeepAlives: true}
			client := http.Client{Transport: t, Timeout: 2 * time.Second}
			resp, err := client.Get("http://" + netip.AddrPortFrom(address(i), port).String() + "/")
			if err != nil || resp.StatusCode != http.StatusOK {
				tb.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
}

// watcher is a monitor.Watcher that does nothing.
type watcher struct{}

func (watcher) Changed() {}

// overMonitor has a monitor ask each of so many targets once, ten thousand a second, with all that it does besides, and
// returns what that costs.
func overMonitor(tb testing.TB, url string, port uint16) func(n int) time.Duration {
	tb.Helper()
	spec, err := probe.Parse([]string{url}, "www.example.org", "")
	if err != nil {
		tb.Fatal(err)
	}
	return func(n int) time.Duration {
		var asked, failed atomic.Int64
		done := make(chan struct{})
		m := monitor.New(func(_ string, err error, _, _ time.Duration) {
			if err != nil {
				failed.Add(1)
			}
			if asked.Add(1) == int64(n) {
				close(done)
			}
		})
		settings := health.Settings{Interval: time.Hour, Recheck: time.Hour, Timeout: 10 * time.Second, Fall: 3, Rise: 2}
		checks := make([]*monitor.Check, n)
		for i := range checks {
			checks[i] = m.Acquire(spec.Prober, netip.AddrPortFrom(address(i), port), &settings, watcher{})
		}
		before, already := cpu(), asked.Load()
		<-done
		took := cpu() - before
		for _, c := range checks {
			m.Release(c, watcher{})
		}
		if failed.Load() > 0 {
			tb.Errorf("%d of %d probes have failed", failed.Load(), n)
		}
		return took * time.Duration(n) / time.Duration(int64(n)-already)
	}
}

// oneByOne is what so many probes of a floor cost.
func oneByOne(probe func(n int)) func(n int) time.Duration {
	return func(n int) time.Duration {
		before := cpu()
		probe(n)
		return cpu() - before
	}
}

// TestProbeCPU measures what a probe costs this process: both sides of the kernel's loopback are in it, but not the
// members, which are a process of their own. The ways take turns, and the best round of each counts.
func TestProbeCPU(t *testing.T) {
	if underRace {
		t.Skip("The race detector would be most of it")
	}
	accepts, answers := startMembers(t)
	n, rounds := 5000, 3
	if *full {
		n, rounds = 20_000, 5
	}
	const epoll, byNet, tcp, hand, byHTTP, web = 0, 1, 2, 3, 4, 5
	ways := []struct {
		name  string
		probe func(n int) time.Duration
	}{
		epoll:  {"epoll", oneByOne(overEpoll(t, accepts))},
		byNet:  {"net.Dialer", oneByOne(overNet(t, accepts, func(net.Conn) {}))},
		tcp:    {"tcp", overMonitor(t, "tcp://", accepts)},
		hand:   {"by hand", oneByOne(overNet(t, answers, byHand(t)))},
		byHTTP: {"net/http", oneByOne(overHTTP(t, answers))},
		web:    {"http", overMonitor(t, "http://", answers)},
	}
	best := make([]float64, len(ways))
	for i := range best {
		best[i] = math.Inf(1)
	}
	// What the figures are to be at most, with some room for what disturbs: see README.md for what they are.
	fine := func() bool { return best[tcp] <= 1.3*best[epoll] && best[web] <= 1.2*best[hand] }
	for round := 0; round < rounds || round < 4*rounds && !fine(); round++ {
		for i, w := range ways {
			best[i] = min(best[i], float64(w.probe(n).Nanoseconds())/float64(n)/1000)
		}
	}
	for i, w := range ways {
		t.Logf("%-12s %6.1f µs, %.2f times %s", w.name, best[i], best[i]/best[i/hand*hand], ways[i/hand*hand].name)
	}
	if !fine() {
		t.Errorf("A tcp probe costs %.1f µs and an http probe %.1f, want 1.3 times %.1f and 1.2 times %.1f at most", best[tcp], best[web], best[epoll], best[hand])
	}
}
