package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// listenShort listens on a loopback address with room for one connection that waits.
func listenShort() (net.Listener, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, err
	}
	if err := syscall.Listen(fd, 0); err != nil {
		return nil, err
	}
	return net.FileListener(f)
}

func TestConnect(t *testing.T) {
	for family, address := range loopback {
		t.Run(family, func(t *testing.T) {
			wantError(t, ask(t, mustParse(t, "tcp://"), serve(t, address, silent), soon), "")
			closed := closedPort(t, address)
			for _, url := range []string{"tcp://", "tls://", "http://", "https://", "grpc://", "grpcs://"} {
				err := ask(t, mustParse(t, url), closed, soon)
				wantError(t, err, "connection refused")
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%s: the error is not ECONNREFUSED: %#v", url, err)
				}
			}
		})
	}
}

func TestConnectTimeout(t *testing.T) {
	full := fullPort(t)
	wantError(t, ask(t, mustParse(t, "tcp://"), full, brief), "timeout while connecting")

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	wantError(t, mustParse(t, "tcp://").Probe(ctx, full), "canceled while connecting")
}

// What is no target must not become the local host, as package net has it.
func TestNoTarget(t *testing.T) {
	port := serve(t, "127.0.0.1:0", silent).Port()
	p := mustParse(t, "tcp://")
	wantError(t, ask(t, p, netip.AddrPortFrom(netip.Addr{}, port), soon), "cannot dial invalid AddrPort, want an address and a port")
	wantError(t, ask(t, p, netip.MustParseAddrPort("127.0.0.1:0"), soon), "cannot dial 127.0.0.1:0, want an address and a port")
}

func TestCancel(t *testing.T) {
	tests := map[string]struct {
		words []string
		want  string
	}{
		"tcp":   {[]string{"tcp://", "expect", "x"}, `canceled while reading: got nothing, want match for "x"`},
		"tls":   {[]string{"tls://"}, "canceled in the TLS handshake"},
		"http":  {[]string{"http://"}, "canceled while reading"},
		"https": {[]string{"https://"}, "canceled in the TLS handshake"},
		"grpc":  {[]string{"grpc://"}, "canceled while reading"},
		"grpcs": {[]string{"grpcs://"}, "canceled in the TLS handshake"},
	}
	target := serve(t, "127.0.0.1:0", silent)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := mustParse(t, tc.words...)
			for _, timeout := range []time.Duration{time.Hour, 0} {
				ctx, cancel := context.WithCancel(t.Context())
				if timeout > 0 {
					ctx, cancel = context.WithTimeout(t.Context(), timeout)
				}
				time.AfterFunc(30*time.Millisecond, cancel)
				begun := time.Now()
				wantError(t, p.Probe(ctx, target), tc.want)
				if took := time.Since(begun); took > time.Second {
					t.Errorf("returned %s after being called", took)
				}
			}

			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			wantError(t, p.Probe(ctx, target), "canceled while connecting")
			ctx, cancel = context.WithTimeout(t.Context(), -time.Second)
			defer cancel()
			wantError(t, p.Probe(ctx, target), "timeout while connecting")
		})
	}
}

// A watched context counts what waits for its end. Package context must not find the one inside.
type watched struct {
	context.Context
	waiting *atomic.Int32
}

func (w watched) Value(any) any { return nil }

func (w watched) AfterFunc(f func()) func() bool {
	w.waiting.Add(1)
	stop := context.AfterFunc(w.Context, f)
	return func() bool {
		w.waiting.Add(-1)
		return stop()
	}
}

// A context may live much longer than a probe, and must not keep anything of it.
func TestForgets(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := watched{ctx, new(atomic.Int32)}
	target := serve(t, "127.0.0.1:0", hangsUp)
	for _, words := range [][]string{{"tcp://"}, {"tls://"}, {"http://"}, {"tcp://", "expect", "x"}, {"grpc://"}, {"dns://"}} {
		mustParse(t, words...).Probe(w, target)
		if n := w.waiting.Load(); n != 0 {
			t.Errorf("%q: %d still wait for the context's end", words, n)
		}
	}
}

// everyWay is probes and members of all kinds, some of which fail.
func everyWay(t *testing.T) map[string]struct {
	p      Prober
	target netip.AddrPort
} {
	cert, _, _ := trusted().sign("www.example.org", time.Hour)
	ca := file(t, trusted().pem)
	config := serverConfig(cert)
	plain := serve(t, "127.0.0.1:0", silent)
	closed := closedPort(t, "127.0.0.1:0")
	page := answers(says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	type way = struct {
		p      Prober
		target netip.AddrPort
	}
	return map[string]way{
		"tcp":            {mustParse(t, "tcp://"), plain},
		"tcp refused":    {mustParse(t, "tcp://"), closed},
		"tcp hears":      {mustParse(t, "tcp://", "expect", "^220"), serve(t, "127.0.0.1:0", says("220 "))},
		"tcp timeout":    {mustParse(t, "tcp://", "expect", "^220"), plain},
		"tcp flood":      {mustParse(t, "tcp://", "expect", "^220"), serve(t, "127.0.0.1:0", floods("", "A"))},
		"tls":            {mustParse(t, "tls://", "ca", ca), serveTLS(t, "127.0.0.1:0", config, nil, silent)},
		"tls unknown":    {mustParse(t, "tls://"), serveTLS(t, "127.0.0.1:0", config, nil, silent)},
		"tls timeout":    {mustParse(t, "tls://"), plain},
		"http":           {mustParse(t, "http://", "body", "^ok$"), serve(t, "127.0.0.1:0", page)},
		"http status":    {mustParse(t, "http://", "status", "204"), serve(t, "127.0.0.1:0", page)},
		"http timeout":   {mustParse(t, "http://"), plain},
		"http endless":   {mustParse(t, "http://"), serve(t, "127.0.0.1:0", floods("HTTP/1.1 200 OK\r\n\r\n", "A"))},
		"https":          {mustParse(t, "https://", "ca", ca), serveTLS(t, "127.0.0.1:0", config, nil, page)},
		"https2":         {mustParse(t, "https://", "ca", ca), serveHTTPS(t, "www.example.org", []string{"h2"}, func(http.ResponseWriter, *http.Request) {})},
		"https2 status":  {mustParse(t, "https://", "ca", ca, "status", "204"), serveHTTPS(t, "www.example.org", []string{"h2"}, func(http.ResponseWriter, *http.Request) {})},
		"https2 timeout": {mustParse(t, "https://", "ca", ca), serveHTTPS(t, "www.example.org", []string{"h2"}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })},
		"grpc":           {mustParse(t, "grpc://"), serveGRPC(t, "127.0.0.1:0", nil, healthy)},
		"grpc down":      {mustParse(t, "grpc:///my.pkg.Down"), serveGRPC(t, "127.0.0.1:0", nil, healthy)},
		"grpc timeout":   {mustParse(t, "grpc://"), plain},
		"grpc refused":   {mustParse(t, "grpc://"), closed},
		"grpc garbage":   {mustParse(t, "grpc://"), serve(t, "127.0.0.1:0", floods("", "A"))},
		"grpcs":          {mustParse(t, "grpcs://", "ca", ca), serveGRPC(t, "127.0.0.1:0", config, healthy)},
		"grpcs unknown":  {mustParse(t, "grpcs://"), serveGRPC(t, "127.0.0.1:0", config, healthy)},
		"dns":            {mustParse(t, "dns://"), nameserver(t, "127.0.0.1:0", noerror, nil)},
		"dns refused":    {mustParse(t, "dns://"), closed},
		"dns cut":        {mustParse(t, "dns://"), nameserver(t, "127.0.0.1:0", truncated, nil)},
		"dns timeout":    {mustParse(t, "dns://"), nameserver(t, "127.0.0.1:0", func(*dns.Msg) [][]byte { return nil }, nil)},
		"exec":           {mustParse(t, "exec:///bin/sh", "-c", "exit 0"), closed},
		"exec fails":     {mustParse(t, "exec:///bin/sh", "-c", "echo no >&2; exit 1"), closed},
		"exec timeout":   {mustParse(t, "exec:///bin/sh", "-c", "sleep 60 & sleep 60"), closed},
		"https mismatch": {mustParse(t, "https://", "ca", ca, "body", "no"), serveTLS(t, "127.0.0.1:0", config, nil, page)},
	}
}

func TestNothingLeft(t *testing.T) {
	ways := everyWay(t)
	left := make(map[string]int) // by a server before, which had the same port
	for name, way := range ways {
		left[name] = sockets(t, way.target.Port(), "06")
	}
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for name, way := range ways {
		for range 3 {
			err := ask(t, way.p, way.target, timeoutOf(name))
			if fails := strings.Contains(name, " ") && name != "tcp hears" && name != "http endless"; (err != nil) != fails {
				t.Errorf("%s: got %v", name, err)
			}
		}
		if n := sockets(t, way.target.Port(), "01"); n > 0 { // established
			t.Errorf("%s: the connection is open after the probe", name)
		}
	}
	for name, way := range ways {
		if n := sockets(t, way.target.Port(), "06"); n > left[name] {
			t.Errorf("%s: %d connections in TIME_WAIT and %d before, want a reset", name, n, left[name])
		}
	}
	nothingLeft(t, files, goroutines)
}

// timeoutOf returns the timeout of a probe of everyWay: short only if the probe is to run into it.
func timeoutOf(name string) time.Duration {
	if strings.HasSuffix(name, "timeout") {
		return brief
	}
	return soon
}

// nothingLeft waits until there are no more open files and goroutines than before. The servers are in this process too,
// and may take a moment to see the end.
func nothingLeft(t *testing.T, files, goroutines int) {
	t.Helper()
	for end := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		f, g := openFiles(t), runtime.NumGoroutine()
		if f <= files && g <= goroutines {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d open files and %d goroutines, want the %d and %d of before", f, g, files, goroutines)
		}
	}
}

// skip skips a test that this system does not allow, but where everything has to run.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		skip(t, "%v", err)
	}
	return len(entries)
}

// sockets counts the client's ends of connections to a port of the local host that are in a state.
func sockets(t *testing.T, port uint16, state string) int {
	t.Helper()
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		skip(t, "%v", err)
	}
	defer f.Close()
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) > 3 && strings.HasSuffix(fields[2], fmt.Sprintf(":%04X", port)) && fields[3] == state {
			n++
		}
	}
	return n
}

func TestReset(t *testing.T) {
	ends := make(chan error, 1)
	target := serve(t, "127.0.0.1:0", func(c net.Conn) {
		_, err := io.Copy(io.Discard, c)
		ends <- err
	})
	for _, words := range [][]string{{"tcp://"}, {"tls://"}, {"http://"}, {"tcp://", "expect", "x"}, {"grpc://"}, {"grpcs://"}} {
		ask(t, mustParse(t, words...), target, brief)
		if err := <-ends; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: the member's connection ended with %v, want a reset", words, err)
		}
	}
}

func TestAtOnce(t *testing.T) {
	ways := everyWay(t)
	var wg sync.WaitGroup
	for range 8 {
		for name, way := range ways {
			if strings.Contains(name, " ") {
				continue
			}
			for range 4 {
				wg.Go(func() {
					if err := ask(t, way.p, way.target, soon); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
		}
	}
	wg.Wait()
}

func TestPlain(t *testing.T) {
	evil := errors.New("malformed: \x1b[31m\r\n" + strings.Repeat("x", 1000))
	got := plain(t.Context(), reading, evil).Error()
	if want := "malformed: \ufffd[31m\ufffd\ufffdxxx"; !strings.HasPrefix(got, want) || len(got) > 520 {
		t.Errorf("got %q, want %q and not much more", got, want)
	}
	wantError(t, plain(t.Context(), reading, fmt.Errorf("read: %w", syscall.ECONNRESET)), "connection reset by peer while reading")
	wantError(t, plain(t.Context(), reading, io.ErrUnexpectedEOF), "connection closed while reading")
	wantError(t, plain(t.Context(), handshaking, errors.New("tls: odd")), "tls: odd")
}

// The floor of a TCP probe: what package net takes to dial, and to close with a reset.
func BenchmarkTCPFloor(b *testing.B) {
	target := serve(b, "127.0.0.1:0", hangsUp).String()
	d := net.Dialer{KeepAlive: -1}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	for b.Loop() {
		c, err := d.DialContext(ctx, "tcp", target)
		if err != nil {
			b.Fatal(err)
		}
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

func BenchmarkTCP(b *testing.B) {
	target := serve(b, "127.0.0.1:0", hangsUp)
	p := mustParse(b, "tcp://")
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	for b.Loop() {
		if err := p.Probe(ctx, target); err != nil {
			b.Fatal(err)
		}
	}
}

// What is lacking here says nothing of the member, and what the member's host says does.
func TestNotAsked(t *testing.T) {
	for errno, ours := range map[syscall.Errno]bool{syscall.EMFILE: true, syscall.ENFILE: true, syscall.ENOBUFS: true, syscall.ENOMEM: true, syscall.ECONNREFUSED: false, syscall.ENETUNREACH: false} {
		err := plain(t.Context(), connecting, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", errno)})
		if errors.Is(err, ErrNotAsked) != ours {
			t.Errorf("%v: got %v, want it to be one that says nothing of the member: %v", errno, err, ours)
		}
	}
}
