// Package kubernetes tests what is in deploy: the image as a pod would run it, the manifests at a real API server, and
// the program beside that server.
//
// All of it runs in a sandbox, so addresses and ports are free to choose.
package kubernetes

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/test/sandbox"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	code, in, err := sandbox.Enter()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "None of these tests can run:", err)
		if os.Getenv("CI") == "" {
			code = 0
		}
	case in:
		code = m.Run()
		stopCluster()
	}
	os.Exit(code)
}

// root is the folder of the repository.
var root = func() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}()

// needs skips a test that calls a program which is not there, but where everything has to run.
func needs(t testing.TB, program, from string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not there; %s", program, from)
	}
	t.Skipf("%s is not there; %s", program, from)
}

// beside runs a program until the test ends.
func beside(t testing.TB, program string, args ...string) *sandbox.Process {
	t.Helper()
	p, err := sandbox.Start(exec.Command(program, args...))
	if err != nil {
		t.Fatalf("%s did not start: %v", program, err)
	}
	t.Cleanup(func() {
		p.End(3 * time.Second)
		if t.Failed() {
			said := p.Said()
			t.Logf("%s said:\n%s", program, said[max(0, len(said)-8000):])
		}
	})
	return p
}

// run runs a program to its end and returns what it says.
func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// within waits for a condition to come true.
func within(t testing.TB, bound time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if cond() {
			return time.Since(begin)
		}
		if time.Since(begin) > bound {
			t.Fatalf("Not within %v: %s", bound, what)
		}
	}
}

// ask asks a server once.
func ask(server, network, name string, qtype uint16) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, qtype)
	c := &dns.Client{Net: network, Timeout: 2 * time.Second}
	r, _, err := c.Exchange(m, server)
	return r, err
}

// answers are the addresses that a server answers, or what is wrong.
func answers(server, name string) []string {
	m, err := ask(server, "udp", name, dns.TypeA)
	if err != nil {
		return []string{"no answer"}
	}
	if m.Rcode != dns.RcodeSuccess {
		return []string{dns.RcodeToString[m.Rcode]}
	}
	addrs := []string{}
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			addrs = append(addrs, a.A.String())
		}
	}
	return addrs
}

// wantAnswers waits until a server answers these addresses, in this order.
func wantAnswers(t testing.TB, bound time.Duration, server, name string, want ...string) time.Duration {
	t.Helper()
	got := []string{}
	defer func() {
		if t.Failed() {
			t.Logf("The answer for %s was %v, want %v", name, got, want)
		}
	}()
	return within(t, bound, name+" is "+strings.Join(want, " "), func() bool {
		got = answers(server, name)
		return slices.Equal(got, want)
	})
}

// enter runs a function in the network namespace of a process.
func enter(t testing.TB, pid int, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("The namespace of %d: %v", pid, err)
	}
}

// listen accepts connections at an address until it is closed.
func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return l
}

// metric is the value of a series that a server exports.
func metric(t testing.TB, host, series string) (value float64, ok bool) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", host, 2*time.Second)
	if err != nil {
		return 0, false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(conn, "GET /metrics HTTP/1.0\r\n\r\n")
	b, err := io.ReadAll(conn)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if text, found := strings.CutPrefix(line, series+" "); found {
			value, err = strconv.ParseFloat(strings.TrimSpace(text), 64)
			return value, err == nil
		}
	}
	return 0, false
}
