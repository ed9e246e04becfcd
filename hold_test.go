package failover

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sites3 has three members in three tiers.
const sites3 = "failover www.example.org fra=192.0.2.1:443 {\nbackup nyc=192.0.2.2:443\nbackup sin=192.0.2.3:443\n"

// reloaded replaces the generation g by one with these directives.
func reloaded(t *testing.T, w *world, g *generation, directives string) (*generation, Failover) {
	t.Helper()
	next, f := w.generate(t, g.monitor, g, directives)
	g.reload()
	next.start()
	g.reloaded()
	synctest.Wait()
	return next, f
}

// TestReturnOrder fails all members, and lets them return one after the other: the first one stays in the answer.
func TestReturnOrder(t *testing.T) {
	for _, rule := range []string{"failback manual", "hold 20h"} {
		t.Run(rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				g, f := w.begin(t, sites3+rule+"\n}")
				w.set("down", "192.0.2.1", "192.0.2.2", "192.0.2.3")
				expect(t, "All are down: the fallback", after(t, f, wayDown), "1 2 3")
				w.set("", "192.0.2.2")
				expect(t, "nyc returns", after(t, f, wayUp), "2")
				w.set("", "192.0.2.1")
				expect(t, "fra returns later", after(t, f, wayUp), "2")
				w.set("", "192.0.2.3")
				expect(t, "sin returns last", after(t, f, wayUp), "2")
				expect(t, "Hours later", after(t, f, 9*time.Hour), "2")

				g, f = reloaded(t, w, g, sites3+rule+"\n}")
				expect(t, "A reload", after(t, f, time.Minute), "2")
				w.series = "other"
				g, f = reloaded(t, w, g, sites3+rule+"\n}")
				expect(t, "A reload with another probe", now(t, f), "2")
				expect(t, "Its results are known", after(t, f, time.Minute), "2")
				w.series = ""
				_, f = reloaded(t, w, g, sites3+rule+"\n}")
				expect(t, "A reload with the first probe again", after(t, f, time.Minute), "2")

				w.set("down", "192.0.2.2")
				expect(t, "nyc fails: fra returned before sin", after(t, f, wayDown), "1")
				w.set("", "192.0.2.2")
				expect(t, "nyc is the last to return now", after(t, f, wayUp), "1")
				if rule == "failback manual" {
					undo(t, "192.0.2.3")
					expect(t, "sin is released", now(t, f), "3")
					undo(t, "192.0.2.1")
					expect(t, "fra is released", now(t, f), "1")
				} else {
					expect(t, "The hold of fra ends first", after(t, f, 11*time.Hour), "1")
				}
			})
		})
	}
}

// TestReturnOrderInTier has several members in a tier, and a tier that needs two of them.
func TestReturnOrderInTier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		_, f := w.begin(t, "failover www.example.org 192.0.2.1:443 192.0.2.2:443 {\nbackup 192.0.2.3:443 192.0.2.4:443\nfailback manual\nmin 2\n}")
		w.set("down", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
		expect(t, "All are down", after(t, f, wayDown), "1 2 3 4")
		w.set("", "192.0.2.1")
		expect(t, "One is too few", after(t, f, wayUp), "1 2 3 4")
		w.set("", "192.0.2.4")
		expect(t, "One of each tier is too few", after(t, f, wayUp), "1 2 3 4")
		w.set("", "192.0.2.3")
		expect(t, "The backup has two first", after(t, f, wayUp), "3 4")
		w.set("", "192.0.2.2")
		expect(t, "The primary is complete later", after(t, f, wayUp), "3 4")
	})
}

// TestReturnOrderAfterRestart restarts with a state file.
func TestReturnOrderAfterRestart(t *testing.T) {
	for _, rule := range []string{"failback manual", "hold 20h"} {
		for _, series := range []string{"", "other"} {
			file := filepath.Join(t.TempDir(), "state")
			directives := keeping(file, sites3+rule+"\n}")
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				g, f := w.begin(t, directives)
				w.set("down", "192.0.2.1", "192.0.2.2", "192.0.2.3")
				time.Sleep(wayDown)
				w.set("", "192.0.2.2")
				time.Sleep(wayUp)
				w.set("", "192.0.2.1")
				expect(t, "fra returned later", after(t, f, wayUp), "2")
				if w.series = series; series != "" { // what the new probe does not know stands in the file by itself
					g, _ = reloaded(t, w, g, directives)
				}
				g.stop()
				time.Sleep(5 * time.Second)
				restarted(t, w, directives, func(first string, _ *generation, f Failover) {
					expect(t, "The first answer after a restart, "+rule, first, "2")
					expect(t, "The members are probed again", after(t, f, time.Minute), "2")
				})
			})
		}
	}
}

// TestReturnOrderOfOverlay does the same with one set of records.
func TestReturnOrderOfOverlay(t *testing.T) {
	for _, rule := range []string{"failback manual", "hold 20h"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			f, _ := w.overlaying(t, "fallback all\n"+rule, "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2, www.example.org. 60 A 192.0.2.3")
			settle(t, f, "www.example.org. A")
			answered := func(what, want string) {
				t.Helper()
				time.Sleep(wayDown)
				synctest.Wait()
				if got := now(t, f); got != want {
					t.Errorf("%s, %s: %q, want %q", rule, what, got, want)
				}
			}
			w.set("down", "192.0.2.1", "192.0.2.2", "192.0.2.3")
			answered("all are down", "1 2 3")
			w.set("", "192.0.2.2")
			answered("the second returns", "2")
			w.set("", "192.0.2.1")
			answered("the first returns later", "2")
			w.set("", "192.0.2.3")
			answered("the third returns last", "2")
			w.set("down", "192.0.2.2")
			answered("the second fails", "1")
			w.set("", "192.0.2.2")
			answered("it returns last", "1")
			if rule == "failback manual" {
				undo(t, "192.0.2.3")
				answered("the third is released", "3")
			}
		})
	}
}

// TestReturnOrderOfAnotherRule changes the rule with a reload: a member that is held stays so.
func TestReturnOrderOfAnotherRule(t *testing.T) {
	for _, tc := range []struct{ before, after, series string }{
		{"hold 20h", "failback manual", ""},
		{"hold 20h", "failback manual", "other"},
		{"failback manual", "hold 20h", ""},
		{"failback manual", "hold 20h", "other"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			g, f := w.begin(t, sites3+tc.before+"\n}")
			w.set("down", "192.0.2.1", "192.0.2.2", "192.0.2.3")
			time.Sleep(wayDown)
			w.set("", "192.0.2.2")
			time.Sleep(wayUp)
			w.set("", "192.0.2.1")
			expect(t, "fra returned later", after(t, f, wayUp), "2")
			w.series = tc.series
			_, f = reloaded(t, w, g, sites3+tc.after+"\n}")
			expect(t, fmt.Sprintf("%+v", tc), now(t, f), "2")
			expect(t, fmt.Sprintf("%+v, later", tc), after(t, f, time.Minute), "2")
		})
	}
}

// modelMember is a member as the manual page describes it.
type modelMember struct {
	tier                  int
	down, held, isDrained bool
	returned              int // the step at which it came back, while it is held
}

// modelAnswer is the answer that the manual page promises: free members of the first tier that has enough of them; else held
// members join in the order of their return, until a tier has enough; else all members that are not drained.
func modelAnswer(members []modelMember, least int) string {
	enough := func(isUsed func(m *modelMember) bool) string {
		for tier := range 3 {
			var used []string
			for i := range members {
				if m := &members[i]; m.tier == tier && !m.down && !m.isDrained && isUsed(m) {
					used = append(used, fmt.Sprint(i+1))
				}
			}
			if len(used) >= least {
				return strings.Join(used, " ")
			}
		}
		return ""
	}
	if answer := enough(func(m *modelMember) bool { return !m.held }); answer != "" {
		return answer
	}
	var returns []int
	for _, m := range members {
		if m.held {
			returns = append(returns, m.returned)
		}
	}
	slices.Sort(returns)
	for _, last := range returns {
		if answer := enough(func(m *modelMember) bool { return !m.held || m.returned <= last }); answer != "" {
			return answer
		}
	}
	var all, drained []string
	for i, m := range members {
		if drained = append(drained, fmt.Sprint(i+1)); !m.isDrained {
			all = append(all, fmt.Sprint(i+1))
		}
	}
	if len(all) == 0 {
		all = drained
	}
	return strings.Join(all, " ")
}

// TestReturnOrderModel compares the answers to random sequences of failures, returns, releases, overrides and reloads with
// the model.
func TestReturnOrderModel(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			rule, least := []string{"failback manual", "hold 24h"}[seed%2], 1+rnd.IntN(2)
			directives := "failover www.example.org 192.0.2.1:443 192.0.2.2:443 {\nbackup 192.0.2.3:443 192.0.2.4:443 192.0.2.5:443\nbackup 192.0.2.6:443 192.0.2.7:443\n" +
				rule + fmt.Sprintf("\nmin %d\n}", least)
			w := newWorld()
			g, f := w.begin(t, directives)
			members := []modelMember{{tier: 0}, {tier: 0}, {tier: 1}, {tier: 1}, {tier: 1}, {tier: 2}, {tier: 2}}
			var steps []string
			for step := range 60 {
				i := rnd.IntN(len(members))
				m, addr := &members[i], fmt.Sprintf("192.0.2.%d", i+1)
				var done string
				switch n := rnd.IntN(20); {
				case n < 7 && !m.down:
					done = "fail"
					w.set("down", addr)
					m.down, m.held = true, false
				case n < 7 || n < 14 && m.down:
					w.set("", addr)
					m.held, m.down, m.returned = m.down || m.held, false, step
					if done = "return"; !m.held { // it was up
						done = "nothing"
					}
				case n < 15:
					done = "drain"
					decide(t, "drain "+addr, 0)
					m.isDrained = true
				case n < 17 && (m.isDrained || m.held && !m.down && rule == "failback manual"):
					done = "clear"
					undo(t, addr)
					m.isDrained = false
					m.held = m.held && rule != "failback manual"
				case n == 18:
					done = "reload"
					g, f = reloaded(t, w, g, directives)
				case n == 19:
					done = "reload with another probe"
					w.series = fmt.Sprint(step, " ")
					g, f = reloaded(t, w, g, directives)
				}
				if done == "" || done == "nothing" {
					continue
				}
				steps = append(steps, done+" "+fmt.Sprint(i+1))
				if got, want := after(t, f, wayDown), modelAnswer(members, least); got != want {
					t.Fatalf("seed %d, %s, min %d, after %s: the answer is %q, want %q", seed, rule, least, strings.Join(steps, ", "), got, want)
				}
			}
		})
	}
}
