package test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"
)

// load is clients that ask for the addresses of one name, over and over, and look at every answer.
type load struct {
	t          testing.TB
	udp, tcp   atomic.Int64 // queries
	lost       atomic.Int64 // of those over UDP, without an answer in time
	broken     atomic.Int64 // of those over TCP, whose connection ended without an answer
	over       chan struct{}
	wg         sync.WaitGroup
	mu         sync.Mutex
	wrong      []string
	wrongTimes int
}

// press begins to ask the server for the A records of name: so many queries a second over UDP and over
// TCP, as far as the machine can. There are few clients, each with one query at a time, so that nothing
// can get lost for want of a buffer. Every answer has to be want, in this order.
func press(t testing.TB, s *server, name string, perSecondUDP, perSecondTCP int, want ...string) *load {
	t.Helper()
	const clients = 8
	l := &load{t: t, over: make(chan struct{})}
	udp, tcp := s.udp(), s.tcp()
	client := func(perSecond int, ask func() *dns.Msg, done func() error) {
		l.wg.Go(func() {
			defer done()
			pace := time.NewTicker(time.Second / time.Duration(perSecond))
			defer pace.Stop()
			for {
				select {
				case <-l.over:
					return
				case <-pace.C:
					if r := ask(); r != nil {
						l.look(r, want)
					}
				}
			}
		})
	}
	for range clients {
		if perSecondUDP > 0 {
			conn, err := net.Dial("udp", udp)
			if err != nil {
				t.Fatal(err)
			}
			client(max(1, perSecondUDP/clients), func() *dns.Msg { return l.overUDP(&dns.Conn{Conn: conn}, question(name, dns.TypeA)) }, conn.Close)
		}
	}
	if perSecondTCP > 0 {
		client(perSecondTCP, func() *dns.Msg { return l.overTCP(tcp, question(name, dns.TypeA)) }, func() error { return nil })
	}
	t.Cleanup(l.stop)
	return l
}

// overUDP sends a query that may take five seconds, as long as resolvers have patience.
func (l *load) overUDP(conn *dns.Conn, m *dns.Msg) *dns.Msg {
	l.udp.Add(1)
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if err := conn.WriteMsg(m); err != nil {
		l.lost.Add(1)
		return nil
	}
	for {
		r, err := conn.ReadMsg()
		if err != nil {
			l.lost.Add(1)
			return nil
		}
		if r.Id == m.Id {
			return r
		}
	}
}

// overTCP sends a query over a connection of its own.
func (l *load) overTCP(addr string, m *dns.Msg) *dns.Msg {
	l.tcp.Add(1)
	c := &dns.Client{Net: "tcp", Timeout: 5 * time.Second}
	r, _, err := c.Exchange(m, addr)
	if err != nil {
		l.broken.Add(1)
		return nil
	}
	return r
}

func (l *load) look(m *dns.Msg, want []string) {
	if m.Rcode == dns.RcodeSuccess && slices.Equal(addresses(m), want) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrongTimes++
	if len(l.wrong) < 3 {
		l.wrong = append(l.wrong, fmt.Sprintf("%s %v", dns.RcodeToString[m.Rcode], addresses(m)))
	}
}

// stop ends the load and fails the test when an answer was wrong or got lost over UDP. It may be called
// more than once.
func (l *load) stop() {
	l.t.Helper()
	select {
	case <-l.over:
		return
	default:
	}
	close(l.over)
	l.wg.Wait()
	if l.wrongTimes > 0 {
		l.t.Errorf("%d answers were wrong, such as %q", l.wrongTimes, l.wrong)
	}
	if n := l.lost.Load(); n > 0 {
		l.t.Errorf("%d of %d queries over UDP got no answer", n, l.udp.Load())
	}
}

// footprint returns the numbers that a leak raises: goroutines and open files. It first releases the discarded instance.
func footprint(t testing.TB) (goroutines, files int) {
	t.Helper()
	releaseDiscarded(t)
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("Open files cannot be counted: %v", err)
	}
	return runtime.NumGoroutine(), len(open)
}

// wantFootprint waits until there are no more goroutines and open files than before.
func wantFootprint(t testing.TB, goroutines, files int) {
	t.Helper()
	var g, f int
	if !within(bound, func() bool {
		g, f = footprint(t)
		return g <= goroutines && f <= files
	}) {
		stacks := make([]byte, 1<<20)
		t.Errorf("There are %d goroutines and %d open files, want %d and %d as before\n%s", g, f, goroutines, files, stacks[:runtime.Stack(stacks, true)])
	}
}

// releaseDiscarded closes the files of the instance that CoreDNS discarded after the last failed reload.
//
// If a reload fails because an address is in use, the new instance already has duplicates of the listeners of the servers
// before that address. The order of the servers is that of a map, so the number of duplicates differs between reloads.
// Nothing closes the duplicates except their finalizers. The list of instances of caddy keeps a pointer to the discarded
// instance behind its last element until the next reload overwrites it, so a collection alone does not run these finalizers.
func releaseDiscarded(t testing.TB) {
	t.Helper()
	instances := caddy.Instances()
	clear(instances[len(instances):cap(instances)])
	for range 2 { // the finalizers of one collection run in any order, and before those of a later collection
		ran := make(chan struct{})
		runtime.SetFinalizer(&sentinel{ran}, func(s *sentinel) { close(s.ran) })
		if !within(bound, func() bool {
			runtime.GC()
			select {
			case <-ran:
				return true
			default:
				return false
			}
		}) {
			t.Fatalf("The finalizer of an object without references did not run in %s", bound)
		}
	}
}

// sentinel is an object that has a finalizer. It has a pointer, because small objects without one share memory.
type sentinel struct{ ran chan struct{} }

// given is the last port that freePort gave. They are below those that the system gives to connections and to who
// asks for none: one of those could be given twice, or to a connection before its listener has it.
var given atomic.Uint32

func init() { given.Store(20_000 + rand.Uint32N(10_000)) }

// freePort is a port on home that nobody listens on, over UDP and TCP, and that it gives once.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(int(given.Add(1)))
		l, err := net.Listen("tcp", net.JoinHostPort(home, port))
		if err != nil {
			continue
		}
		p, err := net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err == nil {
			p.Close()
			return port
		}
	}
	t.Fatal("none of 100 ports is free")
	return ""
}

// takenPort is a port on home that cannot be listened on any more, not even the way CoreDNS does it.
func takenPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(home, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// still checks for a while that a count does not go up. One that was on its way is let pass.
func still(t testing.TB, what string, count func() int64) {
	t.Helper()
	eventually(t, bound, what+" comes to rest", func() bool {
		before := count()
		time.Sleep(700 * time.Millisecond)
		return count() == before
	})
}

// renew reloads a server that has begun to serve. CoreDNS has no hold yet of one that has not: it would not
// stop it, and that one would go on to answer for the Corefile before.
func renew(t testing.TB, s *server, corefile string) error {
	t.Helper()
	exchange(t, s.udp(), "udp", question("example.org.", dns.TypeSOA))
	exchange(t, s.tcp(), "tcp", question("example.org.", dns.TypeSOA))
	return s.reload(corefile)
}
