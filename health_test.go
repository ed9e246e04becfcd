package failover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	golog "log"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/probe"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/miekg/dns"
)

// world is what the probes of these tests see. Addresses are given without their ports; an address
// that is not in it works.
type world struct {
	mu     sync.Mutex
	broken map[string]error
	takes  time.Duration // each probe
	asked  int
	series string // begins the names of the probes: pools of another series ask another question
}

// set has addresses fail with why, or work again where that is "". An address may have the name of a
// probe behind it: then only this probe fails.
func (w *world) set(why string, addrs ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range addrs {
		delete(w.broken, a)
		if why != "" {
			w.broken[a] = errors.New(why)
		}
	}
}

func (w *world) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

// sight is a probe of a world.
type sight struct {
	*world
	name string
}

func (s *sight) Kind() string   { return "sight" }
func (s *sight) String() string { return "sight://" + s.name }

func (s *sight) Probe(ctx context.Context, target netip.AddrPort) error {
	s.mu.Lock()
	s.asked++
	a := target.Addr().String()
	err := errors.Join(s.broken[a], s.broken[a+" "+s.name])
	takes := s.takes
	s.mu.Unlock()
	if takes == 0 { // the race detector does not bear timers of a bubble that are due at once (golang.org/issue/78156)
		return err
	}
	select {
	case <-time.After(takes):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newWorld() *world { return &world{broken: make(map[string]error)} }

// generate is a generation of its own, with the directives of example.org, that looks at the world w.
// It does not start.
func (w *world) generate(t *testing.T, m *monitor.Monitor, before *generation, directives string) (*generation, Failover) {
	t.Helper()
	configs, err := configured(directives, "example.org.")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range configs {
		c.specs = slices.Clone(c.specs)
		for i := range c.specs {
			c.specs[i].Prober = &sight{w, w.series + fmt.Sprint(i)}
		}
	}
	g := &generation{monitor: m, first: before == nil, replaces: before, zones: make(map[zoneKey]*zone), pending: make(map[time.Duration]*atomic.Int64), known: make(chan struct{}, 1)}
	if err := g.join(&configs[0].operation); err != nil {
		t.Fatal(err)
	}
	b := newBlock(g, configs, []string{"example.org."}, "test")
	t.Cleanup(g.stop)
	return g, Failover{handler: &handler{b}}
}

// begin is generate and start.
func (w *world) begin(t *testing.T, directives string) (*generation, Failover) {
	t.Helper()
	g, f := w.generate(t, monitor.New(nil), nil, directives)
	g.start()
	synctest.Wait()
	return g, f
}

// now is the addresses that the first pool gives, each by its last number.
func now(t *testing.T, f Failover) string {
	t.Helper()
	w := new(written)
	if _, err := f.ServeDNS(context.Background(), w, query(t, "www.example.org. A")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, rr := range w.msgs[0].Answer {
		a := rr.(*dns.A).A
		got = append(got, fmt.Sprint(a[len(a)-1]))
	}
	return strings.Join(got, " ")
}

// after is now, d later.
func after(t *testing.T, f Failover, d time.Duration) string {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	return now(t, f)
}

// expect says which answer there should be.
func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: answers %q, want %q", what, got, want)
	}
}

// three is a pool of two members and a backup with the times by default: a change takes 7 seconds at
// most on the way down, 6 on the way up.
const three = "failover www.example.org east=192.0.2.1:443 192.0.2.2:443 {\nbackup 192.0.2.3:443\n"

const (
	wayDown = 7*time.Second + time.Millisecond
	wayUp   = 6*time.Second + time.Millisecond
)

// A member that goes down changes the answers of its pools, and of no other.
func TestOnePoolChanges(t *testing.T) {
	const pools = 1000
	var directives strings.Builder
	for i := range pools {
		fmt.Fprintf(&directives, "failover n%d.example.org 192.0.%d.%d:443 198.51.100.1:443\n", i, i/250, 1+i%250)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		g, _ := w.begin(t, directives.String())
		time.Sleep(time.Minute)
		before := make([]*answer.Snapshot, pools)
		for i, p := range g.pools {
			before[i] = p.now.Load()
		}
		w.set("connection refused", "192.0.2.1")
		time.Sleep(wayDown)
		synctest.Wait()
		for i, p := range g.pools {
			if changed := p.now.Load() != before[i]; changed != (i == 500) {
				t.Errorf("Pool %d: a new snapshot is %t", i, changed)
			}
		}
		if got := g.pools[500].now.Load().String(); got != "198.51.100.1" {
			t.Errorf("The pool answers %s", got)
		}
	})
}

func TestTransitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		_, f := w.begin(t, three+"}")
		expect(t, "Started", now(t, f), "1 2")
		expect(t, "A minute later", after(t, f, time.Minute), "1 2")

		w.set("connection refused", "192.0.2.1")
		expect(t, "One fails: not before three failures", after(t, f, 1900*time.Millisecond), "1 2")
		expect(t, "One fails", after(t, f, wayDown-1900*time.Millisecond), "2")
		w.set("connection refused", "192.0.2.2")
		expect(t, "Both fail", after(t, f, wayDown), "3")
		w.set("", "192.0.2.1")
		expect(t, "One is back: not before two passes", after(t, f, 900*time.Millisecond), "3")
		expect(t, "One is back", after(t, f, wayUp-900*time.Millisecond), "1")
		w.set("", "192.0.2.2")
		expect(t, "Both are back", after(t, f, wayUp), "1 2")
		w.set("no route to host", "192.0.2.1", "192.0.2.2", "192.0.2.3")
		expect(t, "All fail", after(t, f, wayDown), "1 2 3")
	})
}

// A single failure changes nothing, however often it comes, unless there is a window.
func TestFlapping(t *testing.T) {
	for block, want := range map[string]string{"}": "1 2", "fall 2 5\n}": "2"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			_, f := w.begin(t, "failover www.example.org 192.0.2.1:443 192.0.2.2:443 {\ninterval 1s\nrecheck 1s\ntimeout 1s\n"+block)
			for i := range 20 {
				w.set([]string{"lost", ""}[i%2], "192.0.2.1")
				time.Sleep(time.Second)
			}
			expect(t, "Every second probe fails, "+block, after(t, f, 0), want)
		})
	}
}

func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		g, f := w.begin(t, three+"hold 1m\ninterval 10m\nrecheck 1s\n}")
		expect(t, "First seen up, nobody is held", now(t, f), "1 2")
		w.set("down", "192.0.2.1", "192.0.2.2")
		expect(t, "Both fail", after(t, f, 10*time.Minute+wayDown), "3")

		w.set("", "192.0.2.1")
		p, at := g.pools[0], time.Time{}
		for at.IsZero() { // until it is believed to be up
			time.Sleep(time.Second)
			synctest.Wait()
			p.mu.Lock()
			if p.status[0] == health.Up {
				at = p.members()[0].since(p)
			}
			p.mu.Unlock()
		}
		ttl := time.Duration(p.now.Load().TTL()) * time.Second
		if left := time.Until(at.Add(time.Minute)); ttl > left+time.Second || ttl < left-2*time.Second {
			t.Errorf("TTL %s with %s of the hold left, want as much", ttl, left)
		}
		asked := w.count()
		serial := f.names.find("www.example.org.").zone.serial.Load()
		expect(t, "Held", after(t, f, time.Until(at.Add(time.Minute-time.Millisecond))), "3")
		expect(t, "The hold is over", after(t, f, time.Until(at.Add(time.Minute))), "1")
		if n := w.count() - asked; n != 0 {
			t.Errorf("%d probes during the hold: it has to end without any", n)
		}
		if f.names.find("www.example.org.").zone.serial.Load() == serial {
			t.Error("End of a hold changes the answer, but not the serial of the zone")
		}

		// Without anybody else a held member answers at once.
		w.set("down", "192.0.2.1", "192.0.2.2", "192.0.2.3")
		expect(t, "All fail", after(t, f, 10*time.Minute+wayDown), "1 2 3")
		w.set("", "192.0.2.2")
		expect(t, "Back, and nobody else", after(t, f, 10*time.Minute+wayUp), "2")
	})
}

// since is when a member's hold began.
func (s memberState) since(p *livePool) time.Time { return time.Now().Add(s.held - p.Hold) }

// A member that fails while it is held never gets into an answer.
func TestHoldBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		_, f := w.begin(t, three+"hold 1m\n}")
		w.set("down", "192.0.2.1")
		expect(t, "Down", after(t, f, wayDown), "2")
		for range 5 {
			w.set("", "192.0.2.1")
			expect(t, "Up and held", after(t, f, 30*time.Second), "2")
			w.set("down", "192.0.2.1")
			expect(t, "Down again", after(t, f, 30*time.Second), "2")
		}
	})
}

func TestStartup(t *testing.T) {
	tests := []struct {
		name   string
		block  string
		takes  time.Duration
		broken []string
		want   time.Duration // that start takes, to the tenth of a second
		answer string
	}{
		{name: "all known at once", want: 0, answer: "1 2"},
		{name: "known when the slowest is", takes: 700 * time.Millisecond, want: 700 * time.Millisecond, answer: "1 2"},
		{name: "down is known too", broken: []string{"192.0.2.1"}, want: 2 * time.Second, answer: "2"},
		{name: "all down", broken: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, want: 2 * time.Second, answer: "1 2 3"},
		{name: "too slow: the time is over, and who is not known counts as up", block: "startup 500ms\n", takes: time.Second, broken: []string{"192.0.2.1"}, want: 500 * time.Millisecond, answer: "1 2"},
		{name: "failing too slowly", block: "startup 1500ms\n", broken: []string{"192.0.2.1"}, want: 1500 * time.Millisecond, answer: "1 2"},
		{name: "no time at all", block: "startup 0\n", takes: time.Second, want: 0, answer: "1 2"},
		{name: "the longest of all pools, the first", block: "startup 1s\n}\nfailover b.example.org 192.0.2.9:443 {\nstartup 500ms\n", takes: 10 * time.Second, want: time.Second, answer: "1 2"},
		{name: "the longest of all pools", block: "startup 500ms\n}\nfailover b.example.org 192.0.2.9:443 {\nstartup 1s\n", takes: 10 * time.Second, want: time.Second, answer: "1 2"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.takes = tc.takes
				w.set("down", tc.broken...)
				g, f := w.generate(t, monitor.New(nil), nil, three+tc.block+"}")
				if g.answering() {
					t.Error("Ready before it has started")
				}
				began := time.Now()
				go func() {
					time.Sleep(tc.want - tc.want/10)
					if tc.want > 0 && g.answering() {
						t.Error("Ready before the time")
					}
				}()
				g.start()
				if took := time.Since(began); took < tc.want || took > tc.want+50*time.Millisecond {
					t.Errorf("Started after %s, want %s", took, tc.want)
				}
				if !g.answering() || !f.Ready() {
					t.Error("Not ready after the start")
				}
				expect(t, "Started", now(t, f), tc.answer)
			})
		})
	}
}

// Each pool is waited for, and counts once, however often it changes.
func TestStartupOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("down", "192.0.2.9")
		g, f := w.generate(t, monitor.New(nil), nil, three+"}\nfailover b.example.org 192.0.2.9:443")
		began := time.Now()
		go func() {
			for range 10 {
				time.Sleep(100 * time.Millisecond)
				g.pools[0].Changed()
			}
		}()
		g.start()
		if took := time.Since(began); took < 2*time.Second || took > 2050*time.Millisecond {
			t.Errorf("Started after %s, want the 2s that the second pool takes", took)
		}
		expect(t, "Started", now(t, f), "1 2")
	})
}

// With several probes a member has to pass them all.
func TestSeveralProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines := newWorld(), logged(t)
		_, f := w.begin(t, three+"probe tcp://\nprobe tcp://:80\nprobe tcp://:81\n}")
		expect(t, "All pass", now(t, f), "1 2")
		w.set("status 503", "192.0.2.1 1")
		expect(t, "One of three fails", after(t, f, wayDown), "2")
		w.set("reset", "192.0.2.1 2")
		expect(t, "Two of three fail", after(t, f, wayDown), "2")
		w.set("", "192.0.2.1 1")
		expect(t, "One of three fails still", after(t, f, wayUp), "2")
		w.set("", "192.0.2.1 2")
		expect(t, "All pass again", after(t, f, wayUp), "1 2")
		want := []string{
			"www.example.org. east 192.0.2.1:443: up -> down (tcp://:80: 3 failures: status 503); now answering 192.0.2.2",
			"www.example.org. east 192.0.2.1:443: down -> up (2 passes); now answering 192.0.2.1 192.0.2.2",
		}
		if got := lines()[1:]; !slices.Equal(got, want) {
			t.Errorf("Got the lines\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// Where some of the probes are enough, the log says which of them decided.
func TestRequire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines := newWorld(), logged(t)
		_, f := w.begin(t, three+"probe tcp://\nprobe tcp://:80\nprobe tcp://:81\nrequire 2\n}")
		w.set("status 503", "192.0.2.1 1")
		expect(t, "One of three fails", after(t, f, wayDown), "1 2")
		w.set("reset", "192.0.2.1 2")
		expect(t, "Two of three fail", after(t, f, wayDown), "2")
		w.set("", "192.0.2.1 1")
		expect(t, "One of three fails still", after(t, f, wayUp), "1 2")
		want := []string{
			"www.example.org. east 192.0.2.1:443: up -> down (tcp://:81: 3 failures: reset); now answering 192.0.2.2",
			"www.example.org. east 192.0.2.1:443: down -> up (tcp://:80: 2 passes); now answering 192.0.2.1 192.0.2.2",
		}
		if got := lines()[1:]; !slices.Equal(got, want) {
			t.Errorf("Got the lines\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestCombine(t *testing.T) {
	const up, down, unknown = health.Up, health.Down, health.Unknown
	type s = health.State
	start := time.Unix(1_000_000_000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	tests := []struct {
		name    string
		states  []s
		status  health.Status
		soonest time.Duration
		held    time.Duration // at second 20, with a hold of 15 seconds
		require int
	}{
		{"one up", []s{{Status: up, EarliestChange: 7}}, up, 7, 0, 0},
		{"one down", []s{{Status: down, EarliestChange: 4}}, down, 4, 0, 0},
		{"one unknown", []s{{Status: unknown, EarliestChange: 3}}, unknown, 3, 0, 0},
		{"all up: the first to fail", []s{{Status: up, EarliestChange: 7}, {Status: up, EarliestChange: 2}, {Status: up, EarliestChange: 5}}, up, 2, 0, 0},
		{"one down: it has to come up", []s{{Status: up, EarliestChange: 1}, {Status: down, EarliestChange: 4}, {Status: up, EarliestChange: 2}}, down, 4, 0, 0},
		{"two down: both have to come up", []s{{Status: down, EarliestChange: 4}, {Status: up, EarliestChange: 1}, {Status: down, EarliestChange: 6}}, down, 6, 0, 0},
		{"two down, the other way round", []s{{Status: down, EarliestChange: 6}, {Status: down, EarliestChange: 4}}, down, 6, 0, 0},
		{"down goes before unknown", []s{{Status: unknown, EarliestChange: 1}, {Status: down, EarliestChange: 4}}, down, 4, 0, 0},
		{"unknown goes before up", []s{{Status: up, EarliestChange: 7}, {Status: unknown, EarliestChange: 3}}, unknown, 3, 0, 0},
		{"unknown, but one that is up fails sooner", []s{{Status: up, EarliestChange: 1}, {Status: unknown, EarliestChange: 3}}, unknown, 1, 0, 0},
		{"unknown, but one that is up fails sooner, the other way round", []s{{Status: unknown, EarliestChange: 3}, {Status: up, EarliestChange: 1}}, unknown, 1, 0, 0},
		{"back", []s{{Status: up, EarliestChange: 7, Recovered: true, Since: at(15)}}, up, 7, 10 * time.Second, 0},
		{"back for long", []s{{Status: up, EarliestChange: 7, Recovered: true, Since: at(1)}}, up, 7, 0, 0},
		{"first seen up", []s{{Status: up, EarliestChange: 7, Since: at(15)}}, up, 7, 0, 0},
		{"the latest counts", []s{{Status: up, EarliestChange: 7, Recovered: true, Since: at(1)}, {Status: up, EarliestChange: 7, Recovered: true, Since: at(15)}}, up, 7, 10 * time.Second, 0},
		{"the latest counts, the other way round", []s{{Status: up, EarliestChange: 7, Recovered: true, Since: at(15)}, {Status: up, EarliestChange: 7, Recovered: true, Since: at(1)}}, up, 7, 10 * time.Second, 0},
		{"a member that is down is not held", []s{{Status: up, EarliestChange: 7, Recovered: true, Since: at(15)}, {Status: down, EarliestChange: 4}}, down, 4, 0, 0},
		{"any of one up", []s{{Status: up, EarliestChange: 7}, {Status: down, EarliestChange: 1}}, up, 7, 0, 1},
		{"any of two up: both have to fail", []s{{Status: up, EarliestChange: 7}, {Status: up, EarliestChange: 2}, {Status: down, EarliestChange: 1}}, up, 7, 0, 1},
		{"any of none up", []s{{Status: down, EarliestChange: 7}, {Status: down, EarliestChange: 2}}, down, 2, 0, 1},
		{"any, while one may come up", []s{{Status: down, EarliestChange: 7}, {Status: unknown, EarliestChange: 3}}, unknown, 3, 0, 1},
		{"any, and one up is enough", []s{{Status: unknown, EarliestChange: 1}, {Status: up, EarliestChange: 7}}, up, 7, 0, 1},
		{"two of three up: one has to fail", []s{{Status: up, EarliestChange: 7}, {Status: up, EarliestChange: 6}, {Status: down, EarliestChange: 1}}, up, 6, 0, 2},
		{"three of three up where two are enough: two have to fail", []s{{Status: up, EarliestChange: 7}, {Status: up, EarliestChange: 6}, {Status: up, EarliestChange: 1}}, up, 6, 0, 2},
		{"one of three up where it takes two", []s{{Status: up, EarliestChange: 1}, {Status: down, EarliestChange: 6}, {Status: down, EarliestChange: 5}}, down, 5, 0, 2},
		{"none of three up where it takes two", []s{{Status: down, EarliestChange: 1}, {Status: down, EarliestChange: 6}, {Status: down, EarliestChange: 5}}, down, 5, 0, 2},
		{"one more that comes back is not waited for", []s{{Status: up, EarliestChange: 7, Since: at(1)}, {Status: up, EarliestChange: 7, Recovered: true, Since: at(15)}}, up, 7, 0, 1},
		{"the one that is enough came back", []s{{Status: down, EarliestChange: 1}, {Status: up, EarliestChange: 7, Recovered: true, Since: at(15)}}, up, 7, 10 * time.Second, 1},
	}
	for _, tc := range tests {
		p := &livePool{terms: &terms{Policy: &pool.Policy{Hold: 15 * time.Second}}, inquiry: new(inquiry)}
		for i := range tc.states {
			p.probes = append(p.probes, probe.Spec{Prober: &sight{name: fmt.Sprint(i)}})
		}
		p.require = tc.require
		got := combine(tc.states, p.need(), p.Hold, at(20))
		if got.status != tc.status || got.soonest != tc.soonest || got.held != tc.held {
			t.Errorf("%s: %s, soonest %d, held %s; want %s, %d, %s", tc.name, got.status, got.soonest, got.held, tc.status, tc.soonest, tc.held)
		}
	}
}

// logged has the log kept until the test ends, and returns the lines of this plugin: those of transitions, and
// where that is said, warnings.
func logged(t *testing.T, others ...string) func() []string {
	t.Helper()
	var kept struct {
		sync.Mutex
		bytes.Buffer
	}
	golog.SetOutput(writerFunc(func(b []byte) (int, error) {
		kept.Lock()
		defer kept.Unlock()
		return kept.Write(b)
	}))
	t.Cleanup(clog.Discard)
	return func() []string {
		kept.Lock()
		defer kept.Unlock()
		var lines []string
		for line := range strings.Lines(kept.String()) {
			_, words, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "[INFO] plugin/failover: ")
			if !ok && slices.Contains(others, "warnings") {
				_, words, ok = strings.Cut(strings.TrimSuffix(line, "\n"), "[WARNING] plugin/failover: ")
			}
			if !ok {
				t.Errorf("Line %q, want no other than those of transitions", line)
			}
			lines = append(lines, words)
		}
		return lines
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestLog(t *testing.T) {
	const many = "failover www.example.org 192.0.2.1:443 192.0.2.2:443 192.0.2.3:443 192.0.2.4:443 192.0.2.5:443 192.0.2.6:443 192.0.2.7:443 192.0.2.8:443 192.0.2.9:443 192.0.2.10:443 [2001:db8::1]:443 {\nmin 100%\nbackup 192.0.2.99:443\n}"
	tests := []struct {
		name       string
		directives string
		why        string // the addresses fail
		broken     []string
		mend       bool     // them afterwards
		want       []string // after those of the start
	}{
		{"down and up", three + "}", "status 503, want 200-399", []string{"192.0.2.1"}, true, []string{
			"www.example.org. east 192.0.2.1:443: up -> down (3 failures: status 503, want 200-399); now answering 192.0.2.2",
			"www.example.org. east 192.0.2.1:443: down -> up (2 passes); now answering 192.0.2.1 192.0.2.2",
		}},
		{"one failure and one pass", three + "fall 1\nrise 1\n}", "connection refused", []string{"192.0.2.2"}, true, []string{
			"www.example.org. 192.0.2.2:443: up -> down (1 failure: connection refused); now answering 192.0.2.1",
			"www.example.org. 192.0.2.2:443: down -> up (1 pass); now answering 192.0.2.1 192.0.2.2",
		}},
		{"a window", three + "fall 2 5\n}", "timeout", []string{"192.0.2.2"}, false, []string{
			"www.example.org. 192.0.2.2:443: up -> down (2 failures in 5: timeout); now answering 192.0.2.1",
		}},
		{"a backup", three + "}", "timeout", []string{"192.0.2.3"}, false, []string{
			"www.example.org. 192.0.2.3:443: up -> down (3 failures: timeout); now answering 192.0.2.1 192.0.2.2",
		}},
		{"the fallback", "failover www.example.org 192.0.2.1:443", "timeout", []string{"192.0.2.1"}, true, []string{
			"www.example.org. 192.0.2.1:443: up -> down (3 failures: timeout); now answering 192.0.2.1 (fallback all)",
			"www.example.org. 192.0.2.1:443: down -> up (2 passes); now answering 192.0.2.1",
		}},
		{"fallback none", "failover www.example.org 192.0.2.1:443 {\nfallback none\n}", "timeout", []string{"192.0.2.1"}, false, []string{
			"www.example.org. 192.0.2.1:443: up -> down (3 failures: timeout); now answering NODATA (fallback none)",
		}},
		{"fallback next", "failover www.example.org 192.0.2.1:443 {\nfallback next\n}", "timeout", []string{"192.0.2.1"}, false, []string{
			"www.example.org. 192.0.2.1:443: up -> down (3 failures: timeout); now answering the next plugin's answer (fallback next)",
		}},
		{"fallback to others", "failover www.example.org 192.0.2.1:443 {\nfallback 203.0.113.1 2001:db8::1\n}", "timeout", []string{"192.0.2.1"}, false, []string{
			"www.example.org. 192.0.2.1:443: up -> down (3 failures: timeout); now answering 203.0.113.1 2001:db8::1 (fallback 203.0.113.1 2001:db8::1)",
		}},
		{"more than a line holds", many, "timeout", []string{"192.0.2.99"}, false, []string{
			"www.example.org. 192.0.2.99:443: up -> down (3 failures: timeout); now answering 192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 2001:db8::1 and 6 more",
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, lines := newWorld(), logged(t)
				w.begin(t, tc.directives)
				time.Sleep(time.Minute)
				start := len(lines())
				if first := lines(); start != 1 || !strings.HasPrefix(first[0], "Started 1 pool: ") || !strings.HasSuffix(first[0], " up, 0 down") {
					t.Errorf("Lines at the start: %q, want the summary", first)
				}
				w.set(tc.why, tc.broken...)
				time.Sleep(wayDown)
				if tc.mend {
					w.set("", tc.broken...)
				}
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if got := lines()[start:]; !slices.Equal(got, tc.want) {
					t.Errorf("Got the lines\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
				}
			})
		})
	}
}

// As long as no status and no count of failures changes, nothing is made anew, and nothing is said.
func TestSteadyState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines := newWorld(), logged(t)
		w.set("down", "192.0.2.2")
		g, f := w.begin(t, three+"}")
		time.Sleep(time.Minute)
		synctest.Wait()
		before, said, asked := g.pools[0].now.Load(), len(lines()), w.count()
		serial := f.names.find("www.example.org.").zone.serial.Load()
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		if n := w.count() - asked; n < 3*6*3600/5 {
			t.Errorf("%d probes in six hours, want some %d", n, 3*6*3600/5)
		}
		if g.pools[0].now.Load() != before {
			t.Error("Snapshot is made anew though nothing has changed")
		}
		if n := len(lines()); n != said {
			t.Errorf("Lines in the steady state: %q", lines()[said:])
		}
		if got := f.names.find("www.example.org.").zone.serial.Load(); got != serial {
			t.Errorf("Serial moves from %d to %d though nothing has changed", serial, got)
		}
	})
}

// However wildly the world changes: when it rests, answers are those of what is believed, and in the
// end those of the world.
func TestStorm(t *testing.T) {
	const members = 40
	synctest.Test(t, func(t *testing.T) {
		var line []string
		for i := range members {
			line = append(line, fmt.Sprintf("192.0.2.%d:443", i+1))
		}
		w := newWorld()
		g, f := w.begin(t, "failover www.example.org "+strings.Join(line, " ")+" {\ninterval 1s\nrecheck 100ms\ntimeout 500ms\nfall 2\nrise 2\nhold 300ms\n}")
		p := g.pools[0]
		w.mu.Lock()
		w.takes = 20 * time.Millisecond
		w.mu.Unlock()
		r := rand.New(rand.NewPCG(1, 2)) // the same storm each time
		for range 500 {
			why := []string{"", "down"}[r.IntN(2)]
			for range 1 + r.IntN(members) {
				w.set(why, fmt.Sprintf("192.0.2.%d", 1+r.IntN(members)))
			}
			time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
			synctest.Wait()
			var up []netip.Addr
			p.mu.Lock()
			for i, m := range p.members() {
				if m.status != health.Down && m.held == 0 {
					up = append(up, p.Member(i).Addr)
				}
			}
			p.mu.Unlock()
			if used := addrsOf(p.now.Load().V4()); len(up) > 0 && !slices.Equal(used, up) {
				t.Fatalf("Uses %v, but up are %v", used, up)
			}
		}
		var want []string
		for i := range members {
			why := ""
			if i%3 == 0 {
				why = "down"
			} else {
				want = append(want, fmt.Sprint(i+1))
			}
			w.set(why, fmt.Sprintf("192.0.2.%d", i+1))
		}
		expect(t, "After the storm", after(t, f, 5*time.Second), strings.Join(want, " "))
	})
}

// The same with real goroutines, for the race detector: whoever is told of a change last, what is
// stored last is what was believed last.
func TestChangedAtOnce(t *testing.T) {
	w := newWorld()
	g, f := w.generate(t, monitor.New(nil), nil, three+"interval 100ms\nrecheck 10ms\ntimeout 50ms\nfall 1\nrise 1\nstartup 10s\n}")
	g.start()
	p := g.pools[0]
	stop := make(chan struct{})
	var storm sync.WaitGroup
	for i := range 4 {
		storm.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					w.set([]string{"", "down"}[n%2], fmt.Sprintf("192.0.2.%d", 1+i%3))
					p.Changed()
					now(t, f)
				}
			}
		})
	}
	deadline := time.Now().Add(5 * time.Second)
	for w.count() < 30 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	storm.Wait()
	w.set("", "192.0.2.1", "192.0.2.3")
	w.set("down", "192.0.2.2")
	for now(t, f) != "1" && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	expect(t, "After the storm", now(t, f), "1")
	g.stop()
	p.Changed() // once more after its Release
	expect(t, "Stopped", now(t, f), "1")
}

// The next generation starts from what this one knows: statuses, and which members answered last.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const fast = "fallback last\n}"
		w, lines := newWorld(), logged(t)
		m := monitor.New(nil)
		one, f := w.generate(t, m, nil, three+fast)
		one.start()
		w.set("down", "192.0.2.1")
		expect(t, "One is down", after(t, f, wayDown), "2")
		serial := f.names.find("www.example.org.").zone.serial.Load()

		// The same again: nothing is probed at once, nobody is waited for, nothing is said.
		asked, said, began := w.count(), len(lines()), time.Now()
		two, g := w.generate(t, m, one, three+fast)
		two.start()
		if took, n := time.Since(began), w.count()-asked; took != 0 || n != 0 {
			t.Errorf("Start of the same again takes %s and %d probes, want nothing", took, n)
		}
		expect(t, "The same again", now(t, g), "2")
		if got := g.names.find("www.example.org.").zone.serial.Load(); got != serial {
			t.Errorf("Serial moves from %d to %d though the answer is the same", serial, got)
		}
		if g.names.find("www.example.org.").zone.serial != f.names.find("www.example.org.").zone.serial {
			t.Error("Two generations have two serials of one zone")
		}
		w.set("down", "192.0.2.2")
		expect(t, "Two are down", after(t, f, wayDown), "3")
		w.set("down", "192.0.2.3")
		expect(t, "All down, in the old generation", after(t, f, wayDown), "3")
		expect(t, "All down, in the new one", now(t, g), "3")
		if got := lines()[said:]; len(got) != 2 {
			t.Errorf("Lines of two generations: %q, want one for each of two transitions", got)
		}
		if w.count()-asked > 3*2*8 {
			t.Errorf("%d probes of 3 targets in 14 seconds: two generations share them", w.count()-asked)
		}
		one.stop()
		for _, p := range two.pools {
			p.Changed() // a result may come in between
			p.speak()
		}
		if got := lines()[said:]; len(got) != 2 {
			t.Errorf("Lines once the new generation speaks: %q, want none that the old one has written", got)
		}

		// Other members, in another order: who answered last does so still.
		three, h := w.generate(t, m, two, "failover www.example.org 192.0.2.9:443 192.0.2.3:443 192.0.2.1:443 {\n"+fast)
		w.set("down", "192.0.2.9")
		three.start()
		expect(t, "Other members", after(t, h, 0), "3")
		if extendedCode(t, three.pools[0]) != dns.ExtendedErrorCodeStaleAnswer {
			t.Error("Last set that worked is not said to be stale")
		}
		two.stop()

		// When none of them is a member any more, all of them answer.
		four, i := w.generate(t, m, three, "failover www.example.org 192.0.2.1:443 192.0.2.2:443 {\n"+fast)
		four.start()
		synctest.Wait()
		expect(t, "None of the last", now(t, i), "1 2")
		three.stop()
		if !slices.Equal(process.generations, []*generation{four}) {
			t.Errorf("%d generations go on, want one", len(process.generations))
		}
	})
}

// The last set that worked has worked: a member nobody has seen up yet is used, but is not it.
func TestLastWasUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("down", "192.0.2.1", "192.0.2.2", "192.0.2.3")
		g, f := w.begin(t, three+"fallback last\n}")
		expect(t, "Never any up", after(t, f, time.Minute), "1 2 3")
		if code := extendedCode(t, g.pools[0]); code != dns.ExtendedErrorCodeOther {
			t.Errorf("Extended DNS Error is %d, want %d: nothing is stale", code, dns.ExtendedErrorCodeOther)
		}
		w.set("", "192.0.2.2", "192.0.2.3")
		expect(t, "Two up", after(t, f, wayUp), "2")
		w.set("down", "192.0.2.3")
		expect(t, "One up", after(t, f, wayDown), "2")
		w.set("down", "192.0.2.2")
		expect(t, "None up", after(t, f, wayDown), "2")
	})
}

// A stopped generation asks nobody, and goes on answering what it answered last.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		g, f := w.begin(t, three+"hold 1m\n}")
		w.set("down", "192.0.2.1")
		expect(t, "One is down", after(t, f, wayDown), "2")
		w.set("", "192.0.2.1")
		expect(t, "One is held", after(t, f, wayUp), "2")
		g.stop()
		g.stop()
		asked := w.count()
		expect(t, "Stopped, and the hold is over", after(t, f, time.Hour), "2")
		g.pools[0].Changed()
		expect(t, "Stopped, and told of a change", now(t, f), "2")
		if n := w.count() - asked; n != 0 {
			t.Errorf("%d probes after the stop", n)
		}
	})
}

// A reload that asks one thing more of the members is no reason to keep one out that came back long ago.
func TestReloadWithAnotherProbe(t *testing.T) {
	for _, rule := range []string{"hold 10m", "failback manual"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			g, f := w.begin(t, three+rule+"\nprobe tcp://\n}")
			w.set("refused", "192.0.2.1")
			time.Sleep(wayDown)
			w.set("", "192.0.2.1")
			expect(t, "It is back", after(t, f, wayUp), "2")
			if rule == "failback manual" {
				undo(t, "192.0.2.1")
			}
			expect(t, "For long", after(t, f, time.Hour), "1 2")
			next, ff := w.generate(t, g.monitor, g, three+rule+"\nprobe tcp://\nprobe tcp://:80\n}")
			g.reload()
			next.start()
			g.reloaded()
			expect(t, "After the reload, with "+rule, now(t, ff), "1 2")
		})
	}
}

// extendedCode returns the code of the Extended DNS Error in the replies of a pool.
func extendedCode(t *testing.T, p *livePool) uint16 {
	t.Helper()
	r := new(dns.Msg).SetQuestion(p.names[0], dns.TypeA).SetEdns0(1232, false)
	if opt := p.now.Load().Msg(r, nil, nil, &p.turns).IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				return e.InfoCode
			}
		}
	}
	t.Fatal("The reply has no Extended DNS Error")
	return 0
}
