package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The floor below package net: a connect that epoll is waited for.
func BenchmarkEpollFloor(b *testing.B) {
	target := serve(b, "127.0.0.1:0", hangsUp)
	ep, _ := syscall.EpollCreate1(0)
	events := make([]syscall.EpollEvent, 16)
	sa := &syscall.SockaddrInet4{Port: int(target.Port()), Addr: target.Addr().As4()}
	for b.Loop() {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &reset)
		if err := syscall.Connect(fd, sa); err != nil && err != syscall.EINPROGRESS {
			b.Fatal(err)
		}
		ev := syscall.EpollEvent{Events: syscall.EPOLLOUT, Fd: int32(fd)}
		syscall.EpollCtl(ep, syscall.EPOLL_CTL_ADD, fd, &ev)
		if n, _ := syscall.EpollWait(ep, events, -1); n > 0 {
			syscall.GetsockoptInt(int(events[0].Fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		}
		syscall.Close(fd)
	}
	syscall.Close(ep)
}

func BenchmarkDialer(b *testing.B) {
	target := serve(b, "127.0.0.1:0", hangsUp)
	got := make(chan error, 1)
	d := NewDialer(func(_ any, _ net.Conn, err error) { got <- err })
	defer d.Close()
	b.ReportAllocs()
	for b.Loop() {
		d.Dial([]Call{{target, time.Minute, false, d}})
		if err := <-got; err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDialer16(b *testing.B) {
	target := serve(b, "127.0.0.1:0", hangsUp)
	var wg sync.WaitGroup
	d := NewDialer(func(any, net.Conn, error) { wg.Done() })
	defer d.Close()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		wg.Add(1)
		d.Dial([]Call{{target, time.Minute, false, d}})
		if n++; n%16 == 0 {
			wg.Wait()
		}
	}
	wg.Wait()
}

// dialAll has a Dialer make calls, and returns what has become of each when all are over.
func dialAll(t *testing.T, d *Dialer, results chan result, calls []Call) map[any]result {
	t.Helper()
	d.Dial(calls)
	all := make(map[any]result)
	for range calls {
		select {
		case r := <-results:
			if _, twice := all[r.who]; twice {
				t.Errorf("%v: a second result", r.who)
			}
			all[r.who] = r
		case <-time.After(soon):
			t.Fatalf("%d results of %d", len(all), len(calls))
		}
	}
	return all
}

type result struct {
	who  any
	conn net.Conn
	err  error
}

func newTestDialer(t *testing.T) (*Dialer, chan result) {
	t.Helper()
	results := make(chan result, 10_000)
	d := NewDialer(func(who any, c net.Conn, err error) { results <- result{who, c, err} })
	if d == nil {
		t.Fatal("no epoll")
	}
	t.Cleanup(d.Close)
	return d, results
}

func TestDialer(t *testing.T) {
	d, results := newTestDialer(t)
	full := fullPort(t)
	var calls []Call
	for family, address := range loopback {
		open := serve(t, address, silent)
		calls = append(calls,
			Call{open, soon, false, family},
			Call{open, soon, true, family + " kept"},
			Call{closedPort(t, address), soon, false, family + " refused"})
	}
	calls = append(calls, Call{full, brief, false, "timeout"}, Call{netip.AddrPort{}, soon, false, "no target"},
		Call{netip.MustParseAddrPort("[::ffff:127.0.0.1]:1"), soon, false, "v4 in v6 refused"})
	began := time.Now()
	for who, r := range dialAll(t, d, results, calls) {
		want := map[string]string{"timeout": "timeout while connecting", "no target": "cannot dial invalid AddrPort, want an address and a port"}[who.(string)]
		if strings.HasSuffix(who.(string), "refused") {
			want = "connection refused"
		}
		wantError(t, r.err, want)
		if kept := strings.HasSuffix(who.(string), "kept"); kept != (r.conn != nil) {
			t.Errorf("%s: the connection is %v", who, r.conn)
		}
		if r.conn != nil {
			r.conn.Close()
		}
	}
	if took := time.Since(began); took < brief || took > brief+soon/2 {
		t.Errorf("All of them took %s, want the timeout of %s", took, brief)
	}
}

// Whatever is called over a Dialer ends as it does without, and leaves nothing behind.
func TestDialerNothingLeft(t *testing.T) {
	ways := everyWay(t)
	left := make(map[string]int) // by a server before, which had the same port
	for name, way := range ways {
		left[name] = sockets(t, way.target.Port(), "06")
	}
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	results := make(chan result, 1)
	d := NewDialer(func(who any, c net.Conn, err error) { results <- result{who, c, err} })
	for name, way := range ways {
		c, ok := way.p.(Spec).Prober.(Caller)
		if !ok {
			continue
		}
		r := dialAll(t, d, results, []Call{{way.target, timeoutOf(name), c.Talks(), name}})[name]
		if r.conn != nil {
			ctx, cancel := context.WithTimeout(t.Context(), timeoutOf(name))
			r.err = c.Talk(ctx, r.conn, way.target)
			cancel()
		}
		want := ask(t, way.p, way.target, timeoutOf(name))
		if got, want := fmt.Sprint(r.err), fmt.Sprint(want); got != want {
			t.Errorf("%s: got %s over a Dialer, and %s without", name, got, want)
		}
		for state, word := range map[string]string{"01": "established", "06": "in TIME_WAIT"} {
			if n := sockets(t, way.target.Port(), state); n > 0 && (state == "01" || n > left[name]) {
				t.Errorf("%s: %d connections are %s after the probe", name, n, word)
			}
		}
	}
	d.Close()
	nothingLeft(t, files, goroutines)
}

// A thousand targets that do not answer at all are waited for together, and the end of the Dialer ends them.
func TestDialerClose(t *testing.T) {
	full := fullPort(t)
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	results := make(chan result, 1001)
	d := NewDialer(func(who any, c net.Conn, err error) { results <- result{who, c, err} })
	var calls []Call
	for i := range 1000 {
		calls = append(calls, Call{full, time.Hour, i%2 == 0, i})
	}
	d.Dial(calls)
	time.Sleep(50 * time.Millisecond)
	if g := runtime.NumGoroutine(); g > goroutines+2 {
		t.Errorf("There are %d goroutines more", g-goroutines)
	}
	if n := len(results); n > 0 {
		t.Errorf("There are %d results", n)
	}
	d.Close()
	d.Dial(calls[:1])
	for range 1001 {
		wantError(t, (<-results).err, "canceled while connecting")
	}
	if f := openFiles(t); f != files {
		t.Errorf("%d open files, want the %d of before", f, files)
	}
}

// What the kernel says of a connection that has timed out must not be taken for the next one's.
func TestDialerTurn(t *testing.T) {
	d, _ := newTestDialer(t)
	d.attempts = []attempt{{who: 1, turn: 2}}
	if _, ok := d.take(0, 1); ok {
		t.Error("It has taken another turn's attempt")
	}
	if a, ok := d.take(0, 2); !ok || a.who != 1 {
		t.Errorf("It has taken %v", a)
	}
	if _, ok := d.take(0, 2); ok {
		t.Error("It has taken the same attempt twice")
	}
}

// A socket that has met itself has met nobody.
func TestOwn(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1"} {
		own := closedPort(t, net.JoinHostPort(address, "0"))
		var d Dialer
		family, local := syscall.AF_INET, syscall.Sockaddr(&syscall.SockaddrInet4{Port: int(own.Port()), Addr: [4]byte{127, 0, 0, 1}})
		if own.Addr().Is6() {
			family, local = syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(own.Port()), Addr: own.Addr().As16()}
		}
		fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fd)
		if err := errors.Join(syscall.Bind(fd, local), d.connect(fd, own)); err != nil {
			skip(t, "%v", err)
		}
		if !isOwn(fd, own) {
			t.Errorf("%s: its own connection is taken for that of another", own)
		}
	}
}
