// Package test runs whole servers: CoreDNS in the process, with failover between its own plugins and
// members that really listen beside it. Everything is on the loopback interface.
//
// The tests run one after the other, because CoreDNS keeps its instances, its directives and its log
// once for the process.
package test

import (
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/coredns-failover/failover"
	"github.com/coredns-failover/failover/internal/directives"

	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/core"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/core/plugin"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

func TestMain(m *testing.M) {
	caddy.Quiet, dnsserver.Quiet = true, true
	log.SetOutput(journal)
	log.SetFlags(0)
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // where name servers are
	if err := directives.Insert(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// home is the address that servers listen on unless their Corefile binds them elsewhere.
const home = "127.0.0.1"

// server is a CoreDNS of a test's own. Its server blocks listen on port 0, one block or several that
// share a listener on each loopback address:
//
//	example.org:0 {
//	    bind 127.0.0.1
//	    ...
//	}
type server struct {
	t testing.TB
	*caddy.Instance
}

// start starts a CoreDNS, which ends with the test.
func start(t testing.TB, corefile string) *server {
	t.Helper()
	s, err := attempt(t, corefile)
	if err != nil {
		t.Fatalf("CoreDNS did not start: %v\n%s", err, corefile)
	}
	return s
}

// attempt starts a CoreDNS that may refuse its Corefile.
func attempt(t testing.TB, corefile string) (*server, error) {
	t.Helper()
	journal.showIfFailed(t)
	instance, err := caddy.Start(input(corefile))
	if err != nil {
		return nil, err
	}
	s := &server{t: t, Instance: instance}
	t.Cleanup(s.stop)
	return s, nil
}

// stop ends the server as the end of the process does. It may be called before the test ends.
func (s *server) stop() {
	if s.Instance == nil {
		return
	}
	for _, err := range s.ShutdownCallbacks() { // Stop alone does not call them
		s.t.Errorf("A shutdown callback failed: %v", err)
	}
	if err := s.Stop(); err != nil {
		s.t.Errorf("CoreDNS did not stop: %v", err)
	}
	s.Instance = nil
}

// reload gives the server another Corefile. When that fails the server goes on with the one it has.
func (s *server) reload(corefile string) error {
	next, err := s.Restart(input(corefile))
	if err == nil {
		s.Instance = next
	}
	return err
}

// input is a Corefile.
func input(corefile string) caddy.Input {
	return caddy.CaddyfileInput{Contents: []byte(corefile), Filepath: "Corefile", ServerTypeName: "dns"}
}

// udp is the address of the UDP listener on an IP address, home when none is given.
func (s *server) udp(host ...string) string {
	s.t.Helper()
	return s.listener(host, caddy.ServerListener.LocalAddr)
}

// tcp is the address of the TCP listener on an IP address, home when none is given. That of a server
// block for TLS, HTTPS or gRPC is found this way, too.
func (s *server) tcp(host ...string) string {
	s.t.Helper()
	return s.listener(host, caddy.ServerListener.Addr)
}

func (s *server) listener(host []string, addr func(caddy.ServerListener) net.Addr) string {
	s.t.Helper()
	want := append(host, home)[0]
	for _, l := range s.Servers() {
		a := addr(l)
		if a == nil {
			continue
		}
		if ip, _, err := net.SplitHostPort(a.String()); err == nil && ip == want {
			return a.String()
		}
	}
	s.t.Fatalf("CoreDNS has no such listener on %s", want)
	return ""
}

// ask sends one query over UDP to home, without EDNS, and returns the answer.
func (s *server) ask(name string, qtype uint16) *dns.Msg {
	s.t.Helper()
	return exchange(s.t, s.udp(), "udp", question(name, qtype))
}

// question is a query as a resolver sends it to an authority: without RD, without EDNS.
func question(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.RecursionDesired = false
	return m
}

// exchange sends a query, over udp, tcp or tcp-tls, and returns the answer.
func exchange(t testing.TB, addr, network string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network, Timeout: 5 * time.Second}
	r, _, err := c.Exchange(m, addr)
	if err != nil {
		t.Fatalf("No answer to %s over %s: %v", title(m), network, err)
	}
	return r
}

// title is the question of a message, for errors.
func title(m *dns.Msg) string {
	if len(m.Question) == 0 {
		return "nothing"
	}
	q := m.Question[0]
	return q.Name + " " + dns.Class(q.Qclass).String() + " " + dns.Type(q.Qtype).String()
}

// addresses are the addresses in the answer section, in its order.
func addresses(m *dns.Msg) []string {
	addrs := []string{}
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			addrs = append(addrs, rr.A.String())
		case *dns.AAAA:
			addrs = append(addrs, rr.AAAA.String())
		}
	}
	return addrs
}

// wantAddresses checks a whole positive answer: addresses and nothing else, in this order.
func wantAddresses(t testing.TB, m *dns.Msg, want ...string) {
	t.Helper()
	if got := addresses(m); m.Rcode != dns.RcodeSuccess || !slices.Equal(got, want) || len(got) != len(m.Answer) {
		t.Errorf("The answer to %s is %v, want the addresses %v", title(m), m, want)
	}
}

// eventually waits for a condition, and fails the test when it does not come true within bound.
func eventually(t testing.TB, bound time.Duration, what string, cond func() bool) {
	t.Helper()
	if !within(bound, cond) {
		t.Fatalf("Not within %v: %s", bound, what)
	}
}

// within says whether a condition comes true within bound.
func within(bound time.Duration, cond func() bool) bool {
	for end := time.Now().Add(bound); ; time.Sleep(5 * time.Millisecond) {
		if cond() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// book keeps what all of CoreDNS has logged.
type book struct {
	mu      sync.Mutex
	lines   []string
	watched map[string]bool // the tests that show it when they fail
}

// journal is the output of CoreDNS's log.
var journal = &book{watched: make(map[string]bool)}

// Write implements io.Writer. The log package writes one line at a time.
func (b *book) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

// since are the lines from one on that hold a text.
func (b *book) since(first int, text string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []string
	for _, line := range b.lines[first:] {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

func (b *book) end() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.lines)
}

// showIfFailed shows what is logged from now on when the test fails.
func (b *book) showIfFailed(t testing.TB) {
	t.Helper()
	if b.watched[t.Name()] {
		return
	}
	b.watched[t.Name()] = true
	first := b.end()
	t.Cleanup(func() {
		delete(b.watched, t.Name())
		if lines := b.since(first, ""); t.Failed() && len(lines) > 0 {
			t.Logf("The log:\n%s", strings.Join(lines, "\n"))
		}
	})
}

// record begins to record the log. What is returned gives the lines logged from then on that hold a
// text; those of this plugin hold "plugin/failover: ".
func record(t testing.TB) func(text string) []string {
	t.Helper()
	journal.showIfFailed(t)
	first := journal.end()
	return func(text string) []string { return journal.since(first, text) }
}

// reports are the lines of the plugin since record but the summaries of starts and reloads.
func reports(lines func(text string) []string) []string {
	return slices.DeleteFunc(lines("plugin/failover: "), func(line string) bool {
		return strings.Contains(line, "plugin/failover: Started ") || strings.Contains(line, "plugin/failover: Reloaded ")
	})
}

// metric is the value of a series of a counter or a gauge, with its labels written as name=value.
// ok is false when there is no such series. With fewer labels than the series has, all that match are
// added up.
func metric(t testing.TB, name string, labels ...string) (value float64, ok bool) {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatalf("The metrics cannot be read: %v", err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, series := range family.GetMetric() {
			var has []string
			for _, pair := range series.GetLabel() {
				has = append(has, pair.GetName()+"="+pair.GetValue())
			}
			if !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(has, l) }) {
				value += series.GetCounter().GetValue() + series.GetGauge().GetValue()
				ok = true
			}
		}
	}
	return value, ok
}

// needs skips a test that calls a program which is not there, but where everything has to run. It returns
// the path of the program.
func needs(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
}

// write makes a file in a folder of the test's own and returns its path.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
