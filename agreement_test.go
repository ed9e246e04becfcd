package failover

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/quorum"
	"github.com/coredns-failover/failover/plugin/share"
)

// abroad is what other sites say, as a test has it.
type abroad struct {
	mu     sync.Mutex
	votes  map[netip.Addr][]quorum.Vote
	cast   map[quorum.Key]quorum.Vote
	kept   map[quorum.Key]map[any]bool
	told   []string // what this site has decided
	lost   string   // why it cannot be reached; "": it can
	closed bool
	ready  chan struct{}
}

// elsewhere is an abroad that this process has to do with until the test ends.
func elsewhere(t *testing.T) *abroad {
	t.Helper()
	a := &abroad{votes: make(map[netip.Addr][]quorum.Vote), cast: make(map[quorum.Key]quorum.Vote), kept: make(map[quorum.Key]map[any]bool), ready: make(chan struct{})}
	close(a.ready)
	var all sites = a
	process.sharing.now.Store(&all)
	t.Cleanup(func() { process.sharing.now.Store(nil) })
	return a
}

// say has sites vote on a member: "iad=down nrt=up". A site with "back@5" saw it return at 00:05.
func (a *abroad) say(addr, votes string) {
	a.mu.Lock()
	target := netip.MustParseAddr(addr)
	a.votes[target] = nil
	for word := range strings.FieldsSeq(votes) {
		site, said, _ := strings.Cut(word, "=")
		said, minute, _ := strings.Cut(said, "@")
		v := quorum.Vote{Voter: site, Status: map[string]health.Status{"up": health.Up, "back": health.Up, "down": health.Down}[said], Kept: said == "back"}
		if said == "down" {
			v.Why = "timeout"
		}
		if n, err := strconv.Atoi(minute); err == nil {
			v.Returned = time.Date(2000, 1, 1, 0, n, 0, 0, time.UTC)
		}
		a.votes[target] = append(a.votes[target], v)
	}
	var keys []quorum.Key
	for k := range a.cast {
		if k.Target.Addr() == target {
			keys = append(keys, k)
		}
	}
	a.mu.Unlock()
	process.Voted(keys)
}

// own are the votes of this site, each by the last number of its member.
func (a *abroad) own() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for k, v := range a.cast {
		b := k.Target.Addr().As4()
		all = append(all, fmt.Sprintf("%d=%s", b[3], v.Status))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (a *abroad) Site() string { return "fra" }

func (a *abroad) Cast(k quorum.Key, v quorum.Vote) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cast[k] = v; v.Status == health.Unknown {
		delete(a.cast, k)
	}
}

func (a *abroad) Keep(k quorum.Key, by any, kept bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept[k] == nil {
		a.kept[k] = make(map[any]bool)
	}
	if a.kept[k][by] = true; !kept {
		delete(a.kept[k], by)
	}
}

// keeps are the members that this site keeps out, each by its last number.
func (a *abroad) keeps() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for k, by := range a.kept {
		if b := k.Target.Addr().As4(); len(by) > 0 {
			all = append(all, fmt.Sprint(b[3]))
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " ")
}

func (a *abroad) Withdraw(k quorum.Key) { a.Cast(k, quorum.Vote{}) }

func (a *abroad) Votes(k quorum.Key) []quorum.Vote {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.votes[k.Target.Addr()]
}

func (a *abroad) decided(words string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = append(a.told, words)
}

// elsewhereDecided has these be the overrides of all sites.
func elsewhereDecided(all ...override.Override) {
	(&hearing{registry: process}).Decided(func() []override.Override { return all })
}

func (a *abroad) Override(o override.Override) { a.decided(string(o.Action) + " " + o.Target.String()) }
func (a *abroad) Clear(t override.Target)      { a.decided("clear " + t.String()) }
func (a *abroad) Over(o override.Override)     { a.decided("over " + o.Target.String()) }
func (a *abroad) Let(pool, member string)      { a.decided("let " + member + " of " + pool) }
func (a *abroad) Ready() <-chan struct{}       { return a.ready }
func (a *abroad) Sites() []share.Site          { return []share.Site{{Name: "fra", Ours: true, Fresh: true}} }
func (a *abroad) Stats() share.Stats           { return share.Stats{Connected: a.lost == "", Lost: a.lost} }
func (a *abroad) Close()                       { a.closed = true }

func TestAgreement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w := elsewhere(t), newWorld()
		_, f := w.begin(t, three+"}")
		lines := logbook(t)
		expect(t, "Nobody else is there", now(t, f), "1 2")
		if got := a.own(); got != "1=up 2=up 3=up" {
			t.Errorf("This site says %q", got)
		}

		for addr := range maps.Keys(map[string]bool{"192.0.2.1": true, "192.0.2.2": true, "192.0.2.3": true}) {
			a.say(addr, "iad=up nrt=up")
		}
		w.set("refused", "192.0.2.1", "192.0.2.2", "192.0.2.3")
		expect(t, "Blind, and outvoted", after(t, f, wayDown), "1 2")
		if got := a.own(); got != "1=down 2=down 3=down" {
			t.Errorf("This site says %q", got)
		}
		if len(lines("->")) > 0 {
			t.Errorf("The log has %q, though nothing has changed", lines("->"))
		}
		a.say("192.0.2.1", "iad=down nrt=up")
		expect(t, "Most see it down, at once", now(t, f), "2")
		if want := "www.example.org. east 192.0.2.1:443: up -> down (down by 2 of 3: fra, iad; up: nrt; fra: 3 failures: refused); now answering 192.0.2.2"; len(lines(want)) != 1 {
			t.Errorf("The log has %q, want %q", lines("->"), want)
		}
		votes := process.PoolsOf("www.example.org.")[0].Tiers[0].Members[0].Probes[0].Votes
		if got := fmt.Sprint(votes); got != "[{fra down 3 failures: refused} {iad down timeout} {nrt up }]" {
			t.Errorf("The votes are shown as %s", got)
		}
		a.say("192.0.2.2", "")
		expect(t, "Alone with what it sees", now(t, f), "3")
		a.say("192.0.2.1", "iad=up nrt=up")
		expect(t, "It is back for the others", now(t, f), "1")
		w.set("", "192.0.2.1", "192.0.2.2", "192.0.2.3")
		expect(t, "It sees again", after(t, f, wayUp), "1 2")
		a.say("192.0.2.1", "iad=down nrt=down")
		expect(t, "The others do not", now(t, f), "2")
		a.say("192.0.2.1", "iad=down")
		expect(t, "A tie", now(t, f), "1 2")
	})
}

func TestQuorums(t *testing.T) {
	for rule, want := range map[string]string{"majority": "1 2", "any": "1 2", "all": "2", "2": "1 2", "3": "2", "own": "1 2"} {
		synctest.Test(t, func(t *testing.T) {
			a, w := elsewhere(t), newWorld()
			_, f := w.begin(t, three+"quorum "+rule+"\n}")
			a.say("192.0.2.1", "iad=down nrt=up")
			expect(t, rule, now(t, f), want)
			a.say("192.0.2.1", "iad=down nrt=down")
			expect(t, rule+", two down", now(t, f), map[string]string{"any": "1 2", "own": "1 2"}[rule]+map[string]string{"majority": "2", "all": "2", "2": "2", "3": "2"}[rule])
		})
	}
}

// A replica that has just started knows what the others know.
func TestAgreementOfNewcomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w := elsewhere(t), newWorld()
		for _, addr := range []string{"192.0.2.1", "192.0.2.2"} {
			a.say(addr, "iad=down nrt=down")
		}
		_, f := w.begin(t, three+"failback manual\n}")
		expect(t, "Its own probes pass", now(t, f), "3")
		a.say("192.0.2.1", "iad=back nrt=back")
		expect(t, "It came back, and waits, as it does for them", now(t, f), "3")
		if len(a.told) > 0 {
			t.Errorf("It has decided %q", a.told)
		}
		process.LetBack("www.example.org.", "192.0.2.1:443")
		expect(t, "It is let back at another site", now(t, f), "1")
	})
}

// Others keep a member out that came back. One that starts does so from its first answer on, and for no longer than they
// do; whoever asks it may start after it.
func TestAgreementOfNewcomerOnHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w := elsewhere(t), newWorld()
		a.say("192.0.2.1", "iad=back nrt=back")
		g, f := w.begin(t, three+"hold 10m\n}")
		expect(t, "As they do", now(t, f), "2")
		if got := a.keeps(); got != "1" {
			t.Errorf("This site keeps out %q", got)
		}
		a.say("192.0.2.1", "iad=up nrt=back")
		expect(t, "Not all have let it back", after(t, f, time.Minute), "2")
		a.say("192.0.2.1", "nrt=back")
		a.say("192.0.2.1", "iad=up")
		expect(t, "They have, that are left", now(t, f), "1 2")
		if got := a.keeps(); got != "" {
			t.Errorf("This site keeps out %q", got)
		}
		a.say("192.0.2.1", "iad=back nrt=back")
		expect(t, "It was up here all the time", now(t, f), "1 2")
		a.say("192.0.2.1", "iad=down nrt=down")
		a.say("192.0.2.1", "iad=up nrt=up")
		expect(t, "It has come back for all", now(t, f), "2")
		g.stop()
		if got := a.keeps() + a.own(); got != "" {
			t.Errorf("At the end this site still says %q", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		a, w := elsewhere(t), newWorld()
		_, f := w.begin(t, three+"hold 10m\n}")
		expect(t, "Alone", now(t, f), "1 2")
		a.say("192.0.2.1", "iad=back nrt=up syd=back")
		expect(t, "Most keep it out", now(t, f), "2")
		a.say("192.0.2.1", "")
		expect(t, "They are gone again", after(t, f, 9*time.Minute), "2")
		expect(t, "The hold is over", after(t, f, time.Minute), "1 2")
	})
}

// Who starts waits for the others, and no longer than it waits for its members.
func TestStartWaitsForOthers(t *testing.T) {
	for after, want := range map[time.Duration]time.Duration{time.Millisecond: 0, 2 * time.Second: 2 * time.Second, time.Hour: 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			a, w := elsewhere(t), newWorld()
			a.ready = make(chan struct{})
			time.AfterFunc(after, func() { close(a.ready) })
			began := time.Now()
			w.begin(t, three+"}")
			if took := time.Since(began).Round(100 * time.Millisecond); took != want {
				t.Errorf("The others are known after %s, and it has started after %s, want %s", after, took, want)
			}
			time.Sleep(after)
		})
	}
}

// Who has been with the others, and was away, does as most do. Of two each knows as much as the other.
func TestAgreementOfReturner(t *testing.T) {
	for name, tc := range map[string]struct {
		votes string
		here  bool // it came back here, when this site was alone
		want  string
	}{
		"only this site has seen it down":   {"iad=up nrt=up", true, "1 2"},
		"only this site has not":            {"iad=back nrt=back", false, "2"},
		"all have":                          {"iad=back nrt=back", true, "2"},
		"none has":                          {"iad=up nrt=up", false, "1 2"},
		"this one of two has":               {"iad=up", true, "2"},
		"the other one of two has":          {"iad=back", false, "1 2"},
		"one of the others has":             {"iad=back nrt=up", false, "1 2"},
		"one of the others, and this, have": {"iad=back nrt=up", true, "2"},
	} {
		for _, rule := range []string{"hold 10m", "failback manual"} {
			synctest.Test(t, func(t *testing.T) {
				a, w := elsewhere(t), newWorld()
				_, f := w.begin(t, three+rule+"\n}")
				a.say("192.0.2.1", "iad=up nrt=up")
				time.Sleep(time.Hour)
				a.say("192.0.2.1", "")
				if tc.here {
					w.set("refused", "192.0.2.1")
					expect(t, "It goes by its own eyes", after(t, f, wayDown), "2")
					w.set("", "192.0.2.1")
					expect(t, "It is kept out", after(t, f, wayUp), "2")
				}
				a.say("192.0.2.1", tc.votes)
				expect(t, name+", "+rule, now(t, f), tc.want)
				if got, want := a.keeps() == "1", tc.want == "2"; got != want {
					t.Errorf("%s, %s: this site says that it keeps it out: %t, want %t", name, rule, got, want)
				}
			})
		}
	}
}

// Several others are not heard at one moment: who was first has no more to say than the others.
func TestAgreementOneAfterTheOther(t *testing.T) {
	for _, tc := range []struct{ first, all, want string }{
		{"iad=back", "iad=back nrt=up syd=up", "1 2"},
		{"iad=up", "iad=up nrt=back syd=back", "2"},
		{"iad=down", "iad=down nrt=up syd=up", "1 2"},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, w := elsewhere(t), newWorld()
			_, f := w.begin(t, three+"failback manual\n}")
			a.say("192.0.2.1", tc.first)
			time.Sleep(time.Second)
			a.say("192.0.2.1", tc.all)
			expect(t, tc.first+", then "+tc.all, after(t, f, time.Hour), tc.want)
		})
	}
}

// TestAgreementOnReturnOrder has sites that saw members return in the same order, also by clocks that differ.
func TestAgreementOnReturnOrder(t *testing.T) {
	for name, tc := range map[string]struct {
		votes [3]string // on each member
		want  string
	}{
		"the second returned first":          {[3]string{"iad=back@20 nrt=back@20", "iad=back@5 nrt=back@5", "iad=back@10 nrt=back@10"}, "2"},
		"the backup returned first":          {[3]string{"iad=back@20 nrt=back@20", "iad=back@15 nrt=back@15", "iad=back@10 nrt=back@10"}, "3"},
		"one of three clocks is wrong":       {[3]string{"iad=back@20 nrt=back@20 syd=back@1", "iad=back@5 nrt=back@5 syd=back@50", "iad=back@10 nrt=back@10 syd=back@2"}, "2"},
		"a site of an earlier version":       {[3]string{"iad=back@20 nrt=back", "iad=back@5 nrt=back", "iad=back@10 nrt=back"}, "2"},
		"one is released, whatever its time": {[3]string{"iad=back@20 nrt=back@20", "iad=up nrt=up", "iad=back@1 nrt=back@1"}, "2"},
	} {
		for _, rule := range []string{"hold 10m", "failback manual"} {
			synctest.Test(t, func(t *testing.T) {
				a, w := elsewhere(t), newWorld()
				for i, votes := range tc.votes {
					a.say(fmt.Sprintf("192.0.2.%d", i+1), votes)
				}
				_, f := w.begin(t, three+rule+"\n}")
				expect(t, name+", "+rule, now(t, f), tc.want)
				expect(t, name+", "+rule+", later", after(t, f, 9*time.Minute), tc.want)
				if tc.want == "2" && strings.HasPrefix(name, "the second") {
					var returned time.Time
					a.mu.Lock()
					for k, v := range a.cast {
						if k.Target.Addr().String() == "192.0.2.2" {
							returned = v.Returned
						}
					}
					a.mu.Unlock()
					if want := time.Date(2000, 1, 1, 0, 5, 0, 0, time.UTC); !returned.Equal(want) {
						t.Errorf("%s: this site votes that it returned at %s, want %s, as the others do", name, returned, want)
					}
				}
			})
		}
	}
}

// With failback manual a member that waits does so though one site after the other is started anew.
func TestAgreementWaitsForTheOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w := elsewhere(t), newWorld()
		a.say("192.0.2.1", "iad=back nrt=back")
		_, f := w.begin(t, three+"failback manual\n}")
		for _, votes := range []string{"nrt=back", "iad=back nrt=back", "iad=back", "", "iad=back", "iad=back nrt=back"} {
			a.say("192.0.2.1", votes)
			expect(t, votes, after(t, f, time.Hour), "2")
		}
		process.LetBack("www.example.org.", "192.0.2.1:443")
		expect(t, "It is let back at another site", now(t, f), "1 2")
	})
}

// What it takes for an answer to change is what bounds the TTL, be it the votes of this site or of others.
func TestAgreementTTL(t *testing.T) {
	for _, tc := range []struct {
		votes string // on the only member, besides that of this site
		fails bool   // here
		want  uint32
	}{
		{"", false, 32},                 // it takes this one
		{"iad=up nrt=up", false, 32},    // it takes two, the faster of which is as fast as the slower
		{"iad=up nrt=down", false, 32},  // it takes one
		{"iad=down nrt=down", true, 31}, // it takes two to come back, with rise 2
	} {
		synctest.Test(t, func(t *testing.T) {
			a, w := elsewhere(t), newWorld()
			g, _ := w.begin(t, "failover www.example.org 192.0.2.1:443 {\ninterval 30s\n}")
			if tc.fails {
				w.set("down", "192.0.2.1")
				time.Sleep(40 * time.Second)
				synctest.Wait()
			}
			a.say("192.0.2.1", tc.votes)
			if got := g.pools[0].now.Load().TTL(); got != tc.want {
				t.Errorf("With %q and here %t: TTL %d, want %d", tc.votes, !tc.fails, got, tc.want)
			}
		})
	}
}

func TestAgreementOfOverlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w := elsewhere(t), newWorld()
		f, _ := w.overlaying(t, "", "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2")
		settle(t, f, "www.example.org. A")
		a.say("192.0.2.1", "iad=down nrt=down")
		if got := shown(t, f, "www.example.org. A"); strings.Contains(got, "192.0.2.1") || !strings.Contains(got, "192.0.2.2") {
			t.Errorf("The others see one down: %s", got)
		}
		a.say("192.0.2.1", "iad=up nrt=up")
		w.set("refused", "192.0.2.2")
		time.Sleep(wayDown)
		synctest.Wait()
		if got := shown(t, f, "www.example.org. A"); !strings.Contains(got, "192.0.2.1") || strings.Contains(got, "192.0.2.2") {
			t.Errorf("This site sees the other one down, and nobody else votes on it: %s", got)
		}
		f.generation.stop()
		if got := a.own(); got != "" {
			t.Errorf("It still says %q", got)
		}
	})
}

// A reload keeps what was agreed, to a Corefile without some members, which withdraws the votes on these, and to one that
// asks them one thing more.
func TestAgreementOverReload(t *testing.T) {
	for directives, want := range map[string]string{
		"failover www.example.org east=192.0.2.1:443 192.0.2.2:443 {\nhold 10m\nprobe tcp://:443\n}": "1=up 2=up",
		three + "hold 10m\nprobe tcp://:443\nprobe tcp://:80\n}":                                     "1=up 1=up 2=up 2=up 3=up 3=up",
	} {
		synctest.Test(t, func(t *testing.T) {
			a, w := elsewhere(t), newWorld()
			g, _ := w.begin(t, three+"hold 10m\nprobe tcp://:443\n}")
			a.say("192.0.2.1", "iad=down nrt=down")
			time.Sleep(time.Minute)
			a.say("192.0.2.1", "iad=up nrt=up") // where it is not held
			before := g.pools[0].now.Load().String()
			next, _ := w.generate(t, g.monitor, g, directives)
			g.reload()
			next.start()
			g.reloaded()
			synctest.Wait()
			if got := next.pools[0].now.Load().String(); before != "192.0.2.2" || got != before {
				t.Errorf("A member that is held: %s, and after the reload %s", before, got)
			}
			if got := a.own(); got != want || a.keeps() != "1" {
				t.Errorf("This site says %q, want %q, and keeps out %q", got, want, a.keeps())
			}
		})
	}
}

// What is decided here is told, and what is decided elsewhere holds.
func TestDecisionsOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w := elsewhere(t), newWorld()
		_, f := w.begin(t, three+"failback manual\n}")
		lines := logbook(t)
		decide(t, "drain 192.0.2.1", 30*time.Second)
		theirs := decision("drain 192.0.2.2", 0)
		theirs.Author = "bob"
		elsewhereDecided(append(process.Overrides(), theirs)...)
		expect(t, "Both", now(t, f), "3")
		elsewhereDecided(append(process.Overrides()[:1:1], theirs)...)
		if n := len(lines("from another site")); n != 1 {
			t.Errorf("The log says so %d times, want once: %q", n, lines("Override"))
		}
		expect(t, "Ours has ended", after(t, f, time.Minute), "1")
		elsewhereDecided()
		expect(t, "Theirs is cleared", now(t, f), "1 2")
		w.set("down", "192.0.2.1")
		time.Sleep(wayDown)
		w.set("", "192.0.2.1")
		time.Sleep(wayUp)
		undo(t, "192.0.2.1")
		want := []string{"drain 192.0.2.1", "over 192.0.2.1", "let 192.0.2.1:443 of www.example.org."}
		if _, err := process.Override(decision("drain 192.0.2.1", 0), api.How{DryRun: true}); err != nil {
			t.Error(err)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if !slices.Equal(a.told, want) {
			t.Errorf("The others are told %q, want %q", a.told, want)
		}
	})
}

// What was agreed does not go with those who agreed: a hold goes on when etcd is away, and nobody is let back by that.
func TestAgreementEndsWithNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w := elsewhere(t), newWorld()
		_, f := w.begin(t, three+"hold 10m\n}")
		a.say("192.0.2.1", "iad=down nrt=down")
		expect(t, "Down", now(t, f), "2")
		time.Sleep(time.Minute)
		a.say("192.0.2.1", "iad=back nrt=back")
		expect(t, "Held", now(t, f), "2")
		a.say("192.0.2.1", "")
		expect(t, "Etcd is away", now(t, f), "2")
		a.say("192.0.2.1", "iad=back nrt=back")
		expect(t, "Etcd is back", now(t, f), "2")
		expect(t, "The hold is over", after(t, f, 10*time.Minute), "1 2")
	})
	synctest.Test(t, func(t *testing.T) {
		a, w := elsewhere(t), newWorld()
		_, f := w.begin(t, three+"failback manual\n}")
		a.say("192.0.2.1", "iad=down nrt=down")
		time.Sleep(time.Minute)
		a.say("192.0.2.1", "")
		expect(t, "Etcd is away, and nobody has let it back", now(t, f), "2")
	})
}

// A site that is outvoted does not act on what it sees while it ends.
func TestAgreementAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w := elsewhere(t), newWorld()
		g, _ := w.begin(t, three+"}")
		for _, m := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
			a.say(m, "iad=up nrt=up")
		}
		w.set("refused", "192.0.2.1", "192.0.2.2", "192.0.2.3")
		time.Sleep(wayDown)
		synctest.Wait()
		lines := logbook(t)
		process.sharing.place = new(sharePlace)
		defer func() { process.sharing.place = nil }()
		g.stop()
		if got := lines("->"); len(got) > 0 || !a.closed {
			t.Errorf("At the end it says %q, and has left the others: %t", got, a.closed)
		}
	})
}

// Two pools that ask the same with other settings have one vote, which does not go back and forth.
func TestOneVoteForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w := elsewhere(t), newWorld()
		w.begin(t, "failover www.example.org 192.0.2.1:443\nfailover www2.example.org 192.0.2.1:443 {\nfall 100\n}")
		w.set("refused", "192.0.2.1")
		time.Sleep(wayDown)
		synctest.Wait()
		seen := make(map[string]bool)
		for range 10 {
			for _, d := range process.speaking() {
				d.redecide("a test")
				seen[a.own()] = true
			}
		}
		if len(seen) != 1 {
			t.Errorf("This site says %v in turn, want one of these", slices.Sorted(maps.Keys(seen)))
		}
	})
}

// An overlay may ask more after a reload than it did before.
func TestAgreementOfOverlayOverReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		elsewhere(t)
		w := newWorld()
		f, s := w.overlaying(t, "", "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2")
		settle(t, f, "www.example.org. A")
		g := f.generation
		next, nf := w.generate(t, g.monitor, g, over("from next\nprobe tcp://:80"))
		nf.Next = s
		g.reload()
		next.start()
		g.reloaded()
		settle(t, nf, "www.example.org. A")
		if got := shown(t, nf, "www.example.org. A"); !strings.Contains(got, "192.0.2.1") || !strings.Contains(got, "192.0.2.2") {
			t.Errorf("It answers %s", got)
		}
	})
}

// An override that is over when it arrives ends.
func TestOverrideOfThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, f := newWorld().begin(t, three+"}")
		o := decision("drain 192.0.2.1", time.Minute)
		time.Sleep(time.Hour)
		elsewhereDecided(o)
		expect(t, "It has arrived", now(t, f), "2")
		expect(t, "It ends", after(t, f, 2*time.Second), "1 2")
	})
}

// What others may have ended is not told them as if it were new, whatever places there have been in between.
func TestWhatOthersKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		newWorld().begin(t, three+"}")
		s := &sharing{known: []override.Override{decision("drain 192.0.2.1", 0)}} // from the state file
		told := func(what, decided, known string) {
			t.Helper()
			past := s.past()
			words := func(all []override.Override) string {
				var words []string
				for _, o := range all {
					words = append(words, o.Target.String())
				}
				return strings.Join(words, " ")
			}
			if got, is := words(past.Decided), words(past.Known); got != decided || is != known {
				t.Errorf("%s: decided is %q, want %q; known %q, want %q", what, got, decided, is, known)
			}
		}
		process.put(new(override.Table).With(s.known...))
		decide(t, "drain 192.0.2.2", 0)
		told("At the start", "192.0.2.2", "192.0.2.1")
		s.hearing = &hearing{registry: process}
		told("A place that was never reached", "192.0.2.2", "192.0.2.1")
		s.hearing = &hearing{registry: process}
		late := s.hearing
		s.hearing.Decided(func() []override.Override {
			return []override.Override{decision("drain 192.0.2.2", 0), decision("drain 192.0.2.3", 0)}
		})
		told("The sites have been heard", "", "192.0.2.2 192.0.2.3")
		s.hearing = nil
		decide(t, "drain 192.0.2.1", 0)
		told("There are none for a while", "192.0.2.1", "192.0.2.2 192.0.2.3")
		late.Decided(func() []override.Override { return nil })
		if n := len(process.Overrides()); n != 3 {
			t.Errorf("A place that is no more still decides: %d are in force, want 3", n)
		}
	})
}

// A member that is kept out is let in again, and that is said, when the hold is over; so with an overlay's.
func TestOverlayKeepsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w := elsewhere(t), newWorld()
		f, _ := w.overlaying(t, "hold 1m", "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2")
		settle(t, f, "www.example.org. A")
		w.set("refused", "192.0.2.1")
		time.Sleep(wayDown)
		w.set("", "192.0.2.1")
		time.Sleep(wayUp)
		synctest.Wait()
		if got := a.keeps(); got != "1" {
			t.Errorf("This site keeps out %q, want 1", got)
		}
		time.Sleep(time.Minute + sweep)
		synctest.Wait()
		if got := a.keeps(); got != "" {
			t.Errorf("After the hold this site still says that it keeps out %q", got)
		}
	})
}
