package failover

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/monitor"
)

func TestSummaryText(t *testing.T) {
	for want, tc := range map[string]struct{ pools, overlays api.Summary }{
		"25,000 pools: 99,990 members up, 10 down":            {pools: api.Summary{Pools: 25_000, Members: 100_000, Up: 99_990, Down: 10}},
		"1 pool: 1 member up, 0 down":                         {pools: api.Summary{Pools: 1, Members: 1, Up: 1}},
		"2 pools: 0 members up, 0 down, 1,234,567 unknown":    {pools: api.Summary{Pools: 2, Members: 1_234_567, Unknown: 1_234_567}},
		"2 pools: 1 member up, 2 down; 1 pool on backup":      {pools: api.Summary{Pools: 2, Members: 3, Up: 1, Down: 2, Backup: 1}},
		"9 pools: 1 member up, 999 down; 8 pools on fallback": {pools: api.Summary{Pools: 9, Members: 1000, Up: 1, Down: 999, Fallback: 8}},
		"1,000 pools: 998 members up, 1,002 down; 1 pool on backup, 2 pools on fallback": {
			pools: api.Summary{Pools: 1000, Members: 2000, Up: 998, Down: 1002, Backup: 1, Fallback: 2}},
		"1 overlay: no address yet": {overlays: api.Summary{Pools: 1}},
		"1 pool: 2 members up, 0 down; 2 overlays: 1 address up, 3 down, 4 unknown": {
			pools: api.Summary{Pools: 1, Members: 2, Up: 2}, overlays: api.Summary{Pools: 2, Members: 8, Up: 1, Down: 3, Unknown: 4}},
		"0 pools: 0 members up, 0 down": {},
	} {
		if got := summaryText(&tc.pools, &tc.overlays); got != want {
			t.Errorf("Got %q, want %q", got, want)
		}
	}
}

// counts returns how many transitions of a pool to a status there were.
func (l *transitionList) counts(pool string, to health.Status) uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byPool[pool][to]
}

// journaled returns the events that the process keeps, each as its kind and text.
func journaled(t *testing.T) func() []string {
	t.Helper()
	process.events.Keep(true)
	t.Cleanup(func() { process.events.Keep(false) })
	return func() (all []string) {
		for e := range process.events.Events("") {
			all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s>%s %s", e.Kind, e.Change, e.Pool, e.Member, e.From, e.To, e.Why)))
		}
		return all
	}
}

// A start writes one line for all members, and one line for each member that is down.
func TestStartSummary(t *testing.T) {
	const pools = 500
	var directives strings.Builder
	for i := range pools {
		fmt.Fprintf(&directives, "failover n%d.example.org 192.0.%d.%d:443 198.51.100.1:443\n", i, i/250, 1+i%250)
	}
	synctest.Test(t, func(t *testing.T) {
		w, lines, events := newWorld(), logged(t), journaled(t)
		w.set("refused", "192.0.0.1", "192.0.1.250")
		w.begin(t, directives.String())
		time.Sleep(time.Minute)
		synctest.Wait()
		got := lines()
		if len(got) != 3 || got[2] != "Started 500 pools: 998 members up, 2 down" {
			t.Fatalf("Lines %q, want two members that are down, and then the summary", got)
		}
		slices.Sort(got[:2])
		if want := []string{
			"n0.example.org. 192.0.0.1:443: unknown -> down (3 failures: refused); now answering 198.51.100.1",
			"n499.example.org. 192.0.1.250:443: unknown -> down (3 failures: refused); now answering 198.51.100.1",
		}; !slices.Equal(got[:2], want) {
			t.Errorf("Lines %q, want %q", got[:2], want)
		}
		all := events()
		if len(all) != 3 || all[2] != "server started   > 500 pools: 998 members up, 2 down" {
			t.Errorf("Events %q, want two transitions and then the summary", all)
		}
		// The metric counts a first status as before.
		if up, down := transitions.counts("n0.example.org.", health.Up), transitions.counts("n0.example.org.", health.Down); up != 1 || down != 1 {
			t.Errorf("%d transitions to up and %d to down are counted, want 1 and 1", up, down)
		}
		// The summary counts what the API counts.
		if s := process.Summary(); s.Up != 998 || s.Down != 2 || s.Unknown != 0 || s.Pools != pools {
			t.Errorf("The API counts %+v", s)
		}
		w.set("", "192.0.0.1")
		time.Sleep(wayUp)
		synctest.Wait()
		if got := lines()[3:]; len(got) != 1 || got[0] != "n0.example.org. 192.0.0.1:443: down -> up (2 passes); now answering 192.0.0.1 198.51.100.1" {
			t.Errorf("Lines %q once a member is up again, want one", got)
		}
	})
}

// A first result that comes after the start is over has no line if it is up.
func TestStartSummaryUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines := newWorld(), logged(t)
		w.takes = 500 * time.Millisecond
		w.set("refused", "192.0.2.3")
		_, f := w.begin(t, three+"startup 100ms\n}")
		if got, want := lines(), []string{"Started 1 pool: 0 members up, 0 down, 3 unknown"}; !slices.Equal(got, want) {
			t.Errorf("Lines %q, want %q", got, want)
		}
		expect(t, "All have a result", after(t, f, time.Minute), "1 2")
		if got, want := lines()[1:], []string{"www.example.org. 192.0.2.3:443: unknown -> down (3 failures: refused); now answering 192.0.2.1 192.0.2.2"}; !slices.Equal(got, want) {
			t.Errorf("Lines %q, want %q", got, want)
		}
	})
}

// A reload writes one line, also if it changes nothing. A new member has a line only if it is down.
func TestReloadSummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines := newWorld(), logged(t)
		m := monitor.New(nil)
		w.set("refused", "192.0.2.2", "192.0.2.9")
		said := 0
		is := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			if got := lines()[said:]; !slices.Equal(got, want) {
				t.Errorf("%s: lines\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			said = len(lines())
		}
		g, _ := w.generate(t, m, nil, three+"}")
		g.start()
		is("A start",
			"www.example.org. 192.0.2.2:443: unknown -> down (3 failures: refused); now answering 192.0.2.1",
			"Started 1 pool: 2 members up, 1 down")
		reload := func(when, directives string, want ...string) {
			t.Helper()
			g.reload()
			next, _ := w.generate(t, m, g, directives)
			next.start()
			is(when + ", before it takes over")
			g.reloaded()
			g = next
			is(when, want...)
		}
		time.Sleep(time.Minute)
		reload("Nothing has changed", three+"}", "Reloaded 1 pool: 2 members up, 1 down")
		time.Sleep(time.Minute)
		reload("New members", three+"}\nfailover new.example.org 192.0.2.8:443 192.0.2.9:443",
			"new.example.org. 192.0.2.9:443: unknown -> down (3 failures: refused); now answering 192.0.2.8",
			"Reloaded 2 pools: 3 members up, 2 down")

		// The log says that a member is down. Other probes find it up: that is no first result to the reader of the log.
		time.Sleep(time.Minute)
		w.set("refused", "192.0.2.2 0")
		w.set("", "192.0.2.2")
		reload("Other probes", three+"require 1\nprobe tcp://\nprobe tcp://:80\n}",
			"www.example.org. 192.0.2.2:443: unknown -> up (tcp://:80: 1 pass); now answering 192.0.2.1 192.0.2.2",
			"Reloaded 1 pool: 3 members up, 0 down")
		// So it is if the result comes after a second reload.
		w.set("refused", "192.0.2.2")
		time.Sleep(wayDown)
		is("It is down again", "www.example.org. 192.0.2.2:443: up -> down (tcp://:80: 3 failures: refused); now answering 192.0.2.1")
		w.set("refused", "192.0.2.2 1")
		w.set("", "192.0.2.2")
		w.mu.Lock()
		w.takes = 500 * time.Millisecond
		w.mu.Unlock()
		for range 2 {
			reload("Without a result", three+"startup 0s\nrequire 1\nprobe tcp://\nprobe tcp://:80\nprobe tcp://:81\n}",
				"Reloaded 1 pool: 2 members up, 0 down, 1 unknown")
		}
		time.Sleep(time.Minute)
		is("The results are there", "www.example.org. 192.0.2.2:443: unknown -> up (tcp://:81: 1 pass); now answering 192.0.2.1 192.0.2.2")
		g.stop()
	})
}

// A reload that fails has no line, and the one after it has one.
func TestFailedReloadHasNoSummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines := newWorld(), logged(t)
		m := monitor.New(nil)
		g, _ := w.generate(t, m, nil, three+"}")
		g.start()
		g.reload()
		refused, _ := w.generate(t, m, g, three+"}\nfailover new.example.org 192.0.2.8:443")
		refused.start()
		g.reloadFailed()
		synctest.Wait()
		if got, want := lines(), []string{"Started 1 pool: 3 members up, 0 down"}; !slices.Equal(got, want) {
			t.Errorf("Lines %q, want %q", got, want)
		}
	})
}

// The operator decides that a member without a result is up: that is no first result.
func TestOverrideOfUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines := newWorld(), logbook(t)
		w.takes = time.Second
		w.begin(t, three+"startup 0s\n}")
		decide(t, "up 192.0.2.1", 0)
		synctest.Wait()
		if got := lines("->"); len(got) != 1 || !strings.Contains(got[0], "192.0.2.1:443: unknown -> up (up by alice: new disks)") {
			t.Errorf("Lines %q, want one", got)
		}
	})
}

// An overlay writes no line about a new address that is up, and one about each new address that is down.
func TestOverlayFirstUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines, events := newWorld(), logged(t), journaled(t)
		w.set("refused", "192.0.2.2")
		f, _ := w.overlaying(t, "", "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2, www.example.org. 60 A 192.0.2.3")
		for range 3 {
			settle(t, f, "www.example.org. A")
		}
		if got, want := lines(), []string{
			"Started 1 overlay: no address yet",
			"example.org. 192.0.2.2: unknown -> down (3 failures: refused); now left out where others are up",
		}; !slices.Equal(got, want) {
			t.Errorf("Lines %q, want %q", got, want)
		}
		if got := events(); len(got) != 2 {
			t.Errorf("Events %q, want the summary and one transition", got)
		}
		w.set("", "192.0.2.2")
		time.Sleep(wayUp)
		synctest.Wait()
		if got := lines()[2:]; len(got) != 1 || got[0] != "example.org. 192.0.2.2: down -> up (2 passes); now answered again" {
			t.Errorf("Lines %q once the address is up again, want one", got)
		}
	})
}

// beganOf returns when the process first had a member of a pool or an overlay, or the zero time if it had it with the pool.
func beganOf(t *testing.T, v visible, address string) time.Time {
	t.Helper()
	d := v.document()
	for _, tier := range d.Tiers {
		for _, m := range tier.Members {
			if m.Address == address {
				return m.Began
			}
		}
	}
	t.Fatalf("%s has no member %s", d.Name, address)
	return time.Time{}
}

// A member says since when it is there, because its first result is no event. A reload that keeps it keeps this.
func TestMemberBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, m := newWorld(), monitor.New(nil)
		g, _ := w.generate(t, m, nil, three+"}")
		g.start()
		var joined time.Time
		for i, line := range []string{"failover www.example.org east=192.0.2.1:443 192.0.2.2:443 192.0.2.4:443 {\nbackup 192.0.2.3:443\n",
			"failover www.example.org 192.0.2.4:443 {\nprobe tcp://:80\nprobe tcp://\nbackup 192.0.2.1:443\n"} {
			time.Sleep(time.Minute)
			if i == 0 {
				joined = time.Now()
			}
			g.reload()
			next, _ := w.generate(t, m, g, line+"}")
			next.start()
			g.reloaded()
			g = next
			time.Sleep(time.Minute)
			if got := beganOf(t, g.pools[0], "192.0.2.4:443"); !got.Equal(joined) {
				t.Errorf("After reload %d the new member began at %v, want %v", i+1, got, joined)
			}
			if got := beganOf(t, g.pools[0], "192.0.2.1:443"); !got.IsZero() {
				t.Errorf("After reload %d the first member began at %v, want none: it began with the pool", i+1, got)
			}
		}
		g.stop()

		o, f := w.generate(t, m, nil, over("from next"))
		f.Next = newSource(t, "www.example.org. 60 A 192.0.2.1")
		o.start()
		time.Sleep(time.Minute)
		found := time.Now()
		settle(t, f, "www.example.org. A")
		time.Sleep(time.Minute)
		o.reload()
		next, _ := w.generate(t, m, o, over("from next\ninterval 10s"))
		next.start()
		o.reloaded()
		if got := beganOf(t, next.overlays[0], "192.0.2.1"); !got.Equal(found) {
			t.Errorf("The address of the overlay began at %v, want %v", got, found)
		}
	})
}
