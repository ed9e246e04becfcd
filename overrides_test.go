package failover

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/override"
)

// decide puts an override in force, be a pool left without a usable tier or not. Words are ACTION and TARGET, which
// is ADDRESS, POOL/ADDRESS or label=LABEL.
func decide(t *testing.T, words string, lasts time.Duration) api.Outcome {
	t.Helper()
	o := decision(words, lasts)
	outcome, err := process.Override(o, api.How{Force: true})
	if err != nil {
		t.Fatalf("%s: %v", words, err)
	}
	return outcome
}

func decision(words string, lasts time.Duration) override.Override {
	action, target, _ := strings.Cut(words, " ")
	o := override.Override{Action: override.Action(action), Target: targeted(target), Author: "alice", Reason: "new disks", Since: time.Now()}
	if lasts > 0 {
		o.Until = time.Now().Add(lasts)
	}
	return o
}

func targeted(target string) override.Target {
	if label, ok := strings.CutPrefix(target, "label="); ok {
		return override.Target{Label: label}
	}
	if name, member, ok := strings.Cut(target, "/"); ok {
		return override.Target{Pool: name, Member: member}
	}
	return override.Target{Member: target}
}

func undo(t *testing.T, target string) {
	t.Helper()
	if _, err := process.Clear(targeted(target), api.By{Author: "bob"}, api.How{Force: true}); err != nil {
		t.Fatalf("clear %s: %v", target, err)
	}
}

func TestOverrides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		_, f := w.begin(t, three+"}")
		lines := logbook(t)
		expect(t, "Started", now(t, f), "1 2")

		decide(t, "drain 192.0.2.1", 0)
		expect(t, "Drained", now(t, f), "2")
		decide(t, "drain www.example.org/192.0.2.2:443", 0)
		expect(t, "Both drained", now(t, f), "3")
		undo(t, "192.0.2.1")
		expect(t, "One is back", now(t, f), "1")
		undo(t, "www.example.org/192.0.2.2")

		decide(t, "down label=EAST", 0)
		expect(t, "Forced down", now(t, f), "2")
		w.set("down", "192.0.2.2", "192.0.2.3")
		expect(t, "The others are down, in earnest", after(t, f, wayDown), "1 2 3")
		decide(t, "up 192.0.2.2", time.Minute)
		expect(t, "Forced up", now(t, f), "2")
		expect(t, "As long as it is", after(t, f, time.Minute-time.Millisecond), "2")
		expect(t, "It is over", after(t, f, time.Millisecond), "1 2 3")
		undo(t, "label=east")
		expect(t, "What its probes say", now(t, f), "1")

		for _, want := range []string{
			"Override of 192.0.2.1: drain by alice: new disks",
			"www.example.org. override of 192.0.2.1, drain by alice: new disks; now answering 192.0.2.2",
			"www.example.org. east 192.0.2.1:443: up -> down (down by alice: new disks); now answering 192.0.2.2",
			"Override of label east is cleared: it was down by alice: new disks; cleared by bob",
			"is over: up by alice until ",
		} {
			if len(lines(want)) != 1 {
				t.Errorf("The log has %q %d times, want once:\n%s", want, len(lines(want)), strings.Join(lines(""), "\n"))
			}
		}
	})
}

// What its probes have found out in the meantime is what a member is when an override ends, at once.
func TestOverrideHidesNothing(t *testing.T) {
	for action, during := range map[string]string{"drain": "2", "down": "2", "up": "1 2"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			_, f := w.begin(t, three+"}")
			decide(t, action+" 192.0.2.1", 0)
			w.set("down", "192.0.2.1")
			expect(t, action, after(t, f, wayDown), during)
			undo(t, "192.0.2.1")
			expect(t, action+" cleared: it is down now", now(t, f), "2")

			decide(t, action+" 192.0.2.1", 0)
			w.set("", "192.0.2.1")
			expect(t, action+" again", after(t, f, wayUp), during)
			undo(t, "192.0.2.1")
			expect(t, action+" cleared: it is up now", now(t, f), "1 2")
		})
	}
}

// The narrower decision is the one that counts.
func TestOverridesRank(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, f := newWorld().begin(t, three+"}")
		decide(t, "down label=east", 0)
		expect(t, "The label", now(t, f), "2")
		decide(t, "up 192.0.2.1", 0)
		expect(t, "The member", now(t, f), "1 2")
		decide(t, "drain www.example.org/192.0.2.1", 0)
		expect(t, "The member in the pool", now(t, f), "2")
		decide(t, "up www.example.org/EAST", 0)
		expect(t, "Its label in the pool", now(t, f), "2")
		undo(t, "www.example.org/192.0.2.1")
		undo(t, "192.0.2.1")
		expect(t, "The label in the pool before the label", now(t, f), "1 2")
	})
}

// A drained member is in no fallback as long as there is another.
func TestDrainedInFallback(t *testing.T) {
	for fallback, want := range map[string][3]string{ // one is drained, both primaries are, all are
		"all": {"2 3", "3", "1 2 3"}, "primary": {"2", "1 2", "1 2"}, "last": {"2", "3", "2"}, "203.0.113.9": {"9", "9", "9"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			_, f := w.begin(t, three+"fallback "+fallback+"\n}")
			w.set("down", "192.0.2.3")
			expect(t, "Both primaries, and they are the last that worked", after(t, f, wayDown), "1 2")
			decide(t, "drain 192.0.2.1", 0)
			w.set("down", "192.0.2.1", "192.0.2.2")
			expect(t, fallback+", one is drained", after(t, f, wayDown), want[0])
			decide(t, "drain 192.0.2.2", 0)
			expect(t, fallback+", two are drained", now(t, f), want[1])
			decide(t, "drain 192.0.2.3", 0)
			expect(t, fallback+", all are drained", now(t, f), want[2])
		})
	}
}

// What would be answered is said before, and a pool loses its last usable tier only to those who insist.
func TestOverrideOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, f := newWorld().begin(t, "failover www.example.org www2.example.org 192.0.2.1:443 192.0.2.2:443\nfailover a.example.org 192.0.2.1:443")
		o := decision("drain WWW2.example.org/192.0.2.1", 0)
		outcome, err := process.Override(o, api.How{DryRun: true})
		if err != nil || len(outcome.Effects) != 1 || len(outcome.Warnings) != 0 || outcome.Override.Pool != "www2.example.org." {
			t.Fatalf("Outcome %+v, %v, want one effect on the pool that has the name", outcome, err)
		}
		if e := outcome.Effects[0]; e.Before.Text != "192.0.2.1 192.0.2.2" || e.After.Text != "192.0.2.2" || e.Bare || e.Member != "192.0.2.1:443" {
			t.Errorf("Effect %+v", e)
		}
		expect(t, "Only asked", now(t, f), "1 2")

		o = decision("drain 192.0.2.1:443", 0)
		outcome, err = process.Override(o, api.How{})
		if !errors.Is(err, api.ErrBare) || outcome.Pools != 2 || !outcome.Effects[0].Bare || outcome.Effects[0].Pool != "a.example.org." {
			t.Errorf("Outcome %+v, %v, want the pool that has no other member first", outcome, err)
		}
		if want := "a.example.org. would be left without a usable tier, and answer 192.0.2.1 (fallback all)"; len(outcome.Warnings) != 1 || outcome.Warnings[0] != want {
			t.Errorf("Warnings %q, want %q", outcome.Warnings, want)
		}
		expect(t, "Refused", now(t, f), "1 2")
		decide(t, "drain 192.0.2.1:443", 0)
		expect(t, "Forced", now(t, f), "2")

		for words, want := range map[string]error{
			"drain 192.0.2.7": api.ErrNotFound, "drain 192.0.2.1:80": api.ErrNotFound, "drain label=west": api.ErrNotFound,
			"drain other.example.org/192.0.2.1": api.ErrNotFound, "drain a.example.org/192.0.2.2": api.ErrNotFound,
			"stop 192.0.2.1": api.ErrInvalid, "drain east": api.ErrInvalid, "drain a.example.org/": api.ErrInvalid,
		} {
			if _, err := process.Override(decision(words, 0), api.How{Force: true}); !errors.Is(err, want) {
				t.Errorf("%q: %v, want %v", words, err, want)
			}
		}
		if _, err := process.Clear(override.Target{Member: "192.0.2.2"}, api.By{}, api.How{}); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("Nothing to clear: %v, want %v", err, api.ErrNotFound)
		}
		if n := len(process.Overrides()); n != 1 {
			t.Errorf("%d overrides, want the one that was forced", n)
		}
	})
}

// An override is nothing that probes can change: it does not shorten the TTL, unless it ends.
func TestOverrideTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := newWorld().begin(t, "failover www.example.org 192.0.2.1:443 {\ninterval 30s\n}")
		p := g.pools[0]
		if got := p.now.Load().TTL(); got != 32 {
			t.Fatalf("TTL %d by probes alone, want 32", got)
		}
		decide(t, "up 192.0.2.1", 0)
		if got := p.now.Load().TTL(); got != 60 {
			t.Errorf("TTL %d while it is forced up, want the most", got)
		}
		decide(t, "up 192.0.2.1", 20*time.Second)
		if got := p.now.Load().TTL(); got != 20 {
			t.Errorf("TTL %d with 20s to go", got)
		}
		undo(t, "192.0.2.1")
		if got := p.now.Load().TTL(); got != 32 {
			t.Errorf("TTL %d after it is cleared, want 32", got)
		}
	})
}

func TestFailbackManual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		g, f := w.begin(t, three+"failback manual\n}")
		expect(t, "First seen up, nobody waits", now(t, f), "1 2")
		w.set("down", "192.0.2.1")
		expect(t, "Down", after(t, f, wayDown), "2")
		w.set("", "192.0.2.1")
		expect(t, "Up, and waits", after(t, f, wayUp), "2")
		expect(t, "However long", after(t, f, 48*time.Hour), "2")
		if m := g.pools[0].document().Tiers[0].Members[0]; !m.Waiting || m.Status != "up" || m.Answered || !strings.Contains(m.Why, "waits to be let back") {
			t.Errorf("It is shown as %+v", m)
		}
		w.set("down", "192.0.2.2", "192.0.2.3")
		expect(t, "Nobody else is there: before any fallback", after(t, f, wayDown), "1")
		w.set("", "192.0.2.2", "192.0.2.3")
		expect(t, "They all wait: the first that came back is used", after(t, f, wayUp), "1")
		undo(t, "www.example.org/192.0.2.1")
		expect(t, "One is let back", now(t, f), "1")
		undo(t, "192.0.2.2")
		expect(t, "Another, wherever it is", now(t, f), "1 2")

		next, _ := w.generate(t, g.monitor, g, three+"failback manual\n}")
		g.reload()
		next.start()
		g.reloaded()
		p := next.pools[0]
		if got := p.now.Load().String(); got != "192.0.2.1 192.0.2.2" {
			t.Errorf("After a reload %s, want those that were let back", got)
		}
		w.set("down", "192.0.2.1")
		time.Sleep(wayDown)
		w.set("", "192.0.2.1")
		time.Sleep(wayUp)
		synctest.Wait()
		if got := p.now.Load().String(); got != "192.0.2.2" {
			t.Errorf("After the next failure %s: it has to wait again", got)
		}
	})
}

// Decisions are the process's: a reload keeps them, and so does one that fails.
func TestOverridesOverReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		g, f := w.begin(t, three+"}")
		decide(t, "drain 192.0.2.1", 0)
		failed, _ := w.generate(t, g.monitor, g, three+"}")
		g.reload()
		failed.start()
		decide(t, "drain 192.0.2.2", 0)
		if got := failed.pools[0].now.Load().String(); got != "192.0.2.3" {
			t.Errorf("What is decided during a reload does not bear on the Corefile to come: %s", got)
		}
		g.reloadFailed()
		expect(t, "A failed reload", now(t, f), "3")
		next, ff := w.generate(t, g.monitor, g, three+"}")
		g.reload()
		next.start()
		g.reloaded()
		expect(t, "A reload", now(t, ff), "3")
		undo(t, "192.0.2.2")
		expect(t, "Cleared", now(t, ff), "2")
		next.stop()
		if n := len(process.Overrides()); n != 0 {
			t.Errorf("%d overrides after the last Corefile is gone", n)
		}
	})
}

// An address under an overlay is one like any other.
func TestOverridesOfOverlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		f, _ := w.overlaying(t, "fallback all\nfailback manual", "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2")
		answers := func(what, want string) {
			t.Helper()
			synctest.Wait()
			got := shown(t, f, "www.example.org. A")
			var addresses []string
			for word := range strings.FieldsSeq(got) {
				if strings.HasPrefix(word, "192.0.2.") {
					addresses = append(addresses, strings.Trim(word, ",")[len("192.0.2."):])
				}
			}
			expect(t, what, strings.Join(addresses, " "), want)
		}
		settle(t, f, "www.example.org. A")
		answers("Both are up", "1 2")
		decide(t, "drain 192.0.2.1", 0)
		answers("One is drained", "2")
		w.set("down", "192.0.2.2")
		time.Sleep(wayDown)
		answers("The other is down: the fallback without the drained one", "2")
		w.set("", "192.0.2.2")
		time.Sleep(wayUp)
		answers("It is back, and nobody else is there", "2")
		undo(t, "192.0.2.1")
		answers("The first is cleared, the second waits", "1")
		undo(t, "192.0.2.2")
		answers("It is let back", "1 2")
	})
}

// What is shown of a pool says which member is how, and what could happen next.
func TestDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := monitor.New(nil)
		m.KeepTrails(true)
		g, _ := w.generate(t, m, nil, three+"interval 10s\n}")
		g.start()
		time.Sleep(time.Minute)
		w.set("connection refused", "192.0.2.1")
		p := g.pools[0]
		var d api.Pool
		for range 100 { // until its first failure
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if d = p.document(); d.Tiers[0].Members[0].Probes[0].Against > 0 {
				break
			}
		}
		doubtful := d.Tiers[0].Members[0]
		probe := doubtful.Probes[0]
		if probe.Against != 1 || probe.Needed != 3 || probe.Last.Passed || probe.Last.Error != "connection refused" || doubtful.Status != "up" || !doubtful.Answered {
			t.Errorf("After one failure: %+v", doubtful)
		}
		if in := doubtful.Next.Sub(probe.Last.At); in != 2*time.Second {
			t.Errorf("It could change %s after the latest probe, want 2s", in)
		}
		if in := probe.Due.Sub(probe.Last.At); in != time.Second {
			t.Errorf("It is asked again %s after the latest probe, want 1s", in)
		}
		if n := len(probe.Trail); n < 6 || probe.Trail[n-1] >= 0 || probe.Trail[n-2] < 0 {
			t.Errorf("The trail is %v, want passes and one failure", probe.Trail)
		}
		if d.Unwell || d.Answer.Tier != "0" || len(d.Answer.Addresses) != 2 || !d.Tiers[1].Usable {
			t.Errorf("The pool is %+v", d)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		d = p.document()
		if down := d.Tiers[0].Members[0]; !d.Unwell || down.Status != "down" || down.Why != "3 failures: connection refused" || down.Answered {
			t.Errorf("Down: %+v", down)
		}
		if s := process.Summary(); s.Pools != 1 || s.Unwell != 1 || s.Members != 3 || s.Down != 1 || s.Up != 2 {
			t.Errorf("Summary %+v", s)
		}
	})
}

func TestPoolsAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		newWorld().begin(t, "failover www.example.org web.example.org fra=192.0.2.1:443\nfailover *.apps.example.org 192.0.2.2:443\n"+
			"failover {\nfrom next\nprobe tcp://:80\n}")
		names := func(pools iter.Seq[api.Pool]) string {
			var all []string
			for p := range pools {
				all = append(all, p.Name)
			}
			return strings.Join(all, " ")
		}
		for name, want := range map[string]string{
			"www.example.org.": "www.example.org.", "web.example.org.": "www.example.org.", "a.b.apps.example.org.": "*.apps.example.org. example.org.",
			"other.example.org.": "example.org.", "example.com.": "",
		} {
			if got := names(slices.Values(process.PoolsOf(name))); got != want {
				t.Errorf("%s is answered by %q, want %q", name, got, want)
			}
		}
		for text, want := range map[string]string{"web": "www.example.org.", "192.0.2.2": "*.apps.example.org.", "fra": "www.example.org.", "": "*.apps.example.org. example.org. www.example.org."} {
			pools, total := process.Pools(api.Query{Text: text, Limit: 10})
			if got := names(pools); got != want || total != len(strings.Fields(got)) {
				t.Errorf("%q finds %q of %d, want %q", text, got, total, want)
			}
		}
		if pools, total := process.Pools(api.Query{Limit: 1, Offset: 1}); names(pools) != "example.org." || total != 3 {
			t.Errorf("The second of all is %q of %d", names(pools), total)
		}
	})
}

// TestOverride decides about a member, and takes it back in other words than it was said in.
func TestOverride(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, f := newWorld().begin(t, "failover www.example.org fra1=192.0.2.1:443 fra2=192.0.2.2:443")
		set := func(target override.Target, how api.How) error {
			_, err := process.Override(override.Override{Target: target, Action: override.Drain, Since: time.Now()}, how)
			return err
		}
		if err := set(override.Target{Pool: "WWW.example.org", Member: "FRA2"}, api.How{}); err != nil {
			t.Fatal(err)
		}
		expect(t, "fra2 drained", now(t, f), "1")
		if err := set(override.Target{Label: "fra1"}, api.How{}); !errors.Is(err, api.ErrBare) {
			t.Errorf("draining both: %v, want %v", err, api.ErrBare)
		}
		if err := set(override.Target{Label: "fra1"}, api.How{DryRun: true}); err != nil {
			t.Error(err)
		}
		expect(t, "nothing else done", now(t, f), "1")
		for _, target := range []override.Target{{Member: "192.0.2.3"}, {Pool: "api.example.org", Member: "192.0.2.1"}, {Label: "fra3"}, {Pool: "www.example.org", Member: "192.0.2.1:80"}} {
			if err := set(target, api.How{}); !errors.Is(err, api.ErrNotFound) {
				t.Errorf("%s: %v, want %v", target, err, api.ErrNotFound)
			}
		}
		if _, err := process.Clear(override.Target{Member: "[::ffff:192.0.2.2]:443"}, api.By{Author: "alice"}, api.How{}); err == nil || !strings.Contains(err.Error(), "that of label FRA2 in www.example.org. bears on it") {
			t.Errorf("clearing it by another name: %v, want an error that says what to clear", err)
		}
		if _, err := process.Clear(override.Target{Pool: "www.Example.org", Member: "fra2"}, api.By{Author: "alice"}, api.How{}); err != nil {
			t.Error(err)
		}
		expect(t, "cleared", now(t, f), "1 2")
		if _, err := process.Clear(override.Target{Label: "fra1"}, api.By{}, api.How{}); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("clearing what is not there: %v, want %v", err, api.ErrNotFound)
		}
	})
}

// TestOverrideOfNobody clears the override of a member that there is no more.
func TestOverrideOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _ = newWorld().begin(t, "failover www.example.org 192.0.2.1:443")
		process.deciding.Lock()
		process.put(new(override.Table).With(override.Override{Target: override.Target{Member: "[2001:db8::1]:443"}, Action: override.Down}))
		process.deciding.Unlock()
		if _, err := process.Clear(override.Target{Member: "[2001:DB8:0::1]:443"}, api.By{}, api.How{}); err != nil || process.Summary().Overrides != 0 {
			t.Errorf("%v, and %d are left, want none", err, process.Summary().Overrides)
		}
	})
}

// TestOverridesExpire has many end at the same moment.
func TestOverridesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, f := newWorld().begin(t, "failover www.example.org 192.0.2.1:443 192.0.2.2:443")
		var many []override.Override
		for i := range 5000 {
			many = append(many, override.Override{Target: override.Target{Member: fmt.Sprintf("192.0.2.2:%d", 1+i)}, Action: override.Drain,
				Since: time.Now(), Until: time.Now().Add(time.Hour)})
		}
		process.deciding.Lock()
		process.put(new(override.Table).With(many...))
		process.redecide(nil, process.overrides.Load(), "test")
		process.deciding.Unlock()
		expect(t, "drained", now(t, f), "1")
		expect(t, "over", after(t, f, time.Hour), "1 2")
		if n := process.Summary().Overrides; n != 0 {
			t.Errorf("%d are left, want none", n)
		}
	})
}

// A decision may come while the server starts, from a listener that is open already.
func TestClearBeforeStart(t *testing.T) {
	g, _ := newWorld().generate(t, monitor.New(nil), nil, three+"failback manual\n}")
	process.mu.Lock()
	process.generations = append(process.generations, g)
	process.mu.Unlock()
	t.Cleanup(func() { process.forget(g) })
	if _, err := process.Clear(targeted("192.0.2.1"), api.By{}, api.How{}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("Nothing to clear: %v, want %v", err, api.ErrNotFound)
	}
	if !g.pools[0].mu.TryLock() {
		t.Fatal("The pool can never start")
	}
	g.pools[0].mu.Unlock()
}

// Members that were answered, as nobody kept them out, go on to be when failback manual comes into the Corefile.
func TestFailbackManualBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		g, f := w.begin(t, three+"}")
		w.set("down", "192.0.2.1", "192.0.2.2")
		expect(t, "Down", after(t, f, wayDown), "3")
		w.set("", "192.0.2.1", "192.0.2.2")
		expect(t, "Back", after(t, f, wayUp), "1 2")
		next, ff := w.generate(t, g.monitor, g, three+"failback manual\n}")
		g.reload()
		next.start()
		g.reloaded()
		expect(t, "After the reload", now(t, ff), "1 2")
		w.set("down", "192.0.2.1")
		expect(t, "Down again", after(t, ff, wayDown), "2")
		w.set("", "192.0.2.1")
		expect(t, "From now on it waits", after(t, ff, wayUp), "2")
	})
}

// Who is let back during a reload is so after it.
func TestLetBackDuringReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		g, f := w.begin(t, three+"failback manual\n}")
		w.set("down", "192.0.2.1", "192.0.2.2")
		expect(t, "Down", after(t, f, wayDown), "3")
		w.set("", "192.0.2.1", "192.0.2.2")
		expect(t, "They wait", after(t, f, wayUp), "3")
		next, ff := w.generate(t, g.monitor, g, three+"failback manual\n}")
		g.reload()
		next.start()
		outcome, err := process.Clear(targeted("192.0.2.1"), api.By{}, api.How{DryRun: true})
		if err != nil || outcome.Pools != 1 || len(outcome.Effects) != 1 || outcome.Effects[0].After.Text != "192.0.2.1" {
			t.Errorf("What it would do: %+v, %v", outcome, err)
		}
		decide(t, "drain 192.0.2.1", 0)
		undo(t, "192.0.2.1") // ends the override, and the waiting that it hid
		expect(t, "During the reload", now(t, f), "1")
		g.reloaded()
		expect(t, "After the reload", now(t, ff), "1")
	})
}

// An override of a pool is one of the pools that have the name, whatever their first name, in each view.
func TestOverrideInPools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		g, f := w.begin(t, "failover www.example.org web.example.org 192.0.2.1:443 192.0.2.2:443")
		decide(t, "drain www.example.org/192.0.2.1", 0)
		next, ff := w.generate(t, g.monitor, g, "failover web.example.org www.example.org 192.0.2.1:443 192.0.2.2:443")
		expect(t, "Before", now(t, f), "2")
		configs, err := configured("failover www.example.org fra=192.0.2.1:443 192.0.2.12:443", "example.org.")
		if err != nil {
			t.Fatal(err)
		}
		configs[0].specs[0].Prober = &sight{w, "0"}
		newBlock(next, configs, []string{"example.org."}, "test#2")
		g.reload()
		next.start()
		g.reloaded()
		expect(t, "With its names the other way round", now(t, ff), "2")
		if got := next.pools[1].now.Load().String(); got != "192.0.2.12" {
			t.Errorf("In the other view it is %s", got)
		}
		undo(t, "WWW.example.org/192.0.2.1:443")
		expect(t, "Cleared", now(t, ff), "1 2")
	})
}

// A preview lists each pool whose answer changes, the worst first, and counts the others exactly.
func TestOutcomeOfManyPools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var directives strings.Builder
		for i := range 46 { // the first 20 keep their answer: the site is their backup
			switch {
			case i < 26:
				fmt.Fprintf(&directives, "failover p%02d.example.org nyc=192.0.2.1:443 {\nbackup fra=192.0.2.2:443 fra=192.0.2.3:443\n}\n", i)
			case i < 45:
				fmt.Fprintf(&directives, "failover p%02d.example.org fra=192.0.2.2:443 fra=192.0.2.3:443 {\nbackup nyc=192.0.2.1:443\n}\n", i)
			default:
				fmt.Fprintf(&directives, "failover p%02d.example.org fra=192.0.2.2:443\n", i)
			}
		}
		newWorld().begin(t, directives.String())
		outcome, err := process.Override(decision("drain label=fra", 0), api.How{DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		if outcome.Pools != 46 || outcome.Unchanged != 26 || outcome.Members != 91 || len(outcome.Effects) != 20 {
			t.Fatalf("%d pools, %d unchanged, %d members, %d effects; want 46, 26, 91 and 20", outcome.Pools, outcome.Unchanged, outcome.Members, len(outcome.Effects))
		}
		if e := outcome.Effects[0]; e.Pool != "p45.example.org." || !e.Bare {
			t.Errorf("The first effect is %+v, want the pool that loses its last usable tier", e)
		}
		if e, want := outcome.Effects[1], []string{"fra 192.0.2.2:443", "fra 192.0.2.3:443"}; e.Pool != "p26.example.org." || !slices.Equal(e.Members, want) || e.Member != want[0] {
			t.Errorf("The second effect is %+v, want both members of p26", e)
		}
		page, err := process.Override(decision("drain label=fra", 0), api.How{DryRun: true, Limit: 3, Offset: 18})
		if err != nil || len(page.Effects) != 2 || page.Effects[1].Pool != "p44.example.org." || page.Pools != 46 || page.Unchanged != 26 {
			t.Errorf("The page of 3 from 18 on is %+v, %v", page, err)
		}
	})
}

// An event of an override says who set it, who ended it, and which override it took the place of.
func TestOverrideAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		process.events.Keep(true)
		t.Cleanup(func() { process.events.Keep(false) })
		newWorld().begin(t, three+"}")
		process.events.Keep(true)
		lines := logbook(t)
		decide(t, "drain 192.0.2.1", 0)
		down := decision("down 192.0.2.1", time.Hour)
		down.Author, down.Reason = "bob", "it lies"
		if _, err := process.Override(down, api.How{}); err != nil {
			t.Fatal(err)
		}
		if _, err := process.Clear(targeted("192.0.2.1"), api.By{Author: "root", Reason: "done"}, api.How{}); err != nil {
			t.Fatal(err)
		}
		decide(t, "drain 192.0.2.1", time.Minute)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		type audit struct{ change, author, by, why, replaced string }
		var got []audit
		for e := range process.events.Events("") {
			if e.Kind != "override" {
				continue
			}
			a := audit{change: e.Change, author: e.Override.Author, by: e.By, why: e.Why}
			if e.Replaced != nil {
				a.replaced = e.Replaced.Author
			}
			got = append(got, a)
		}
		want := []audit{
			{"set", "alice", "alice", "new disks", ""},
			{"set", "bob", "bob", "it lies", "alice"},
			{"cleared", "bob", "root", "done", ""},
			{"set", "alice", "alice", "new disks", ""},
			{"expired", "alice", "", "", ""},
		}
		if !slices.Equal(got, want) {
			t.Errorf("The events are\n%+v, want\n%+v", got, want)
		}
		text := strings.Join(lines("Override of"), "\n")
		for _, line := range []string{
			"Override of 192.0.2.1: down by bob until 2000-01-01T01:",
			": it lies; it was drain by alice: new disks",
			": it lies; cleared by root: done",
		} {
			if !strings.Contains(text, line) {
				t.Errorf("The log has no %q:\n%s", line, text)
			}
		}
	})
}

// Each error of a target says what is not there.
func TestTargetErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		newWorld().begin(t, three+"}")
		decide(t, "drain label=east", 0)
		for target, want := range map[string]string{
			"10.9.9.9":                     `no pool has the member "10.9.9.9"`,
			"label=nyc":                    `no pool has a member with the label "nyc"`,
			"www.example.org/10.9.9.9":     `pool "www.example.org." does not have the member "10.9.9.9"`,
			"www.example.org/nyc":          `pool "www.example.org." does not have a member with the label "nyc"`,
			"nosuch.example.org/192.0.2.1": `no pool has the name "nosuch.example.org."`,
			"192.0.2.2":                    `there is no override of 192.0.2.2, and no member of it waits to be let back`,
			"www.example.org/192.0.2.2":    `there is no override of 192.0.2.2 in www.example.org., and no member of it waits to be let back`,
			"192.0.2.1":                    `there is no override of 192.0.2.1, but that of label east bears on it`,
		} {
			_, err := process.Clear(targeted(target), api.By{}, api.How{})
			if err == nil || err.Error() != want || !errors.Is(err, api.ErrNotFound) {
				t.Errorf("clear %s: %v, want %q", target, err, want)
			}
		}
	})
}

// Refused changes are counted, and the log has a line for them, not more often than every ten seconds.
func TestRefusedChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := logbook(t)
		before := refusals(t, "wrong-token")
		for range 300 {
			process.Refused(api.Refusal{Reason: "wrong-token", Client: "192.0.2.99:1234", Request: "PUT /api/v1/overrides/members/%0a" + strings.Repeat("x", 500)})
			time.Sleep(100 * time.Millisecond)
		}
		if got := lines("A change is refused (wrong-token)"); len(got) != 3 || !strings.Contains(got[1], `" from 192.0.2.99:1234, and 99 more before it`) || len(got[0]) > 350 {
			t.Errorf("The lines are %q, want 3", got)
		}
		if n := refusals(t, "wrong-token") - before; n != 300 {
			t.Errorf("%v are counted, want 300", n)
		}
	})
}

// refusals returns how many changes were refused for a reason.
func refusals(t *testing.T, reason string) (n float64) {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, series := range family.GetMetric() {
			if labels := series.GetLabel(); family.GetName() == "coredns_failover_refused_changes_total" && labels[0].GetValue() == reason {
				n += series.GetCounter().GetValue()
			}
		}
	}
	return n
}
