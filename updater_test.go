package failover

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	golog "log"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/monitor"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// writesTo is begin, with what the directives' updates send going to d.
func (w *world) writesTo(t *testing.T, d *ddns, directives string) (*generation, Failover) {
	t.Helper()
	g, f := w.willWriteTo(t, d, nil, directives)
	g.start()
	synctest.Wait()
	return g, f
}

// willWriteTo is writesTo before the start.
func (w *world) willWriteTo(t *testing.T, d *ddns, before *generation, directives string) (*generation, Failover) {
	t.Helper()
	g, f := w.generate(t, monitor.New(nil), before, directives)
	configs, err := configured(directives, "example.org.")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.write(configs[0].updates, nil, make(map[place]position)); err != nil {
		t.Fatal(err)
	}
	for u := range g.updaters() {
		u.send = d.send
		if before == nil { // a process of its own
			u.writer = rand.Text()
		}
	}
	return g, f
}

const (
	writing = "failover {\nupdate 192.0.2.53 example.org\n}\n"
	oneDay  = 24 * time.Hour
	wwwA    = "www.example.org. A"
	wwwAAAA = "www.example.org. AAAA"
)

// comparison is longer than the time between two of them.
const comparison = compareEvery * 5 / 4

func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), newDDNS(t, "www.example.org. 300 TXT \"of the zone\"")
		_, f := w.writesTo(t, d, writing+three+"}")
		wait(time.Second)
		d.at(t, "Started", wwwA, "192.0.2.1 192.0.2.2", wwwAAAA, "", "www.example.org. TXT", `"of the zone"`)
		if got := d.has("_failover.www.example.org.", dns.TypeTXT); !strings.HasPrefix(got, `"failover `) || strings.Contains(got, "fallback") {
			t.Errorf("The marker is %s", got)
		}
		wait(oneDay)
		if changes, _, writes := d.counts(); changes != 1 || writes != 1 {
			t.Errorf("%d changes by %d UPDATEs in a day without transitions, want one", changes, writes)
		}
		w.set("down", "192.0.2.1")
		wait(wayDown)
		d.at(t, "One fails", wwwA, "192.0.2.2")
		if now := now(t, f); now != "2" {
			t.Errorf("We answer %s", now)
		}
		w.set("down", "192.0.2.1", "192.0.2.2", "192.0.2.3")
		wait(wayDown + time.Second)
		d.at(t, "All fail", wwwA, "192.0.2.1 192.0.2.2 192.0.2.3")
		if got := d.has("_failover.www.example.org.", dns.TypeTXT); !strings.HasSuffix(got, ` fallback"`) {
			t.Errorf("The marker is %s, want that it is the fallback", got)
		}
		w.set("", "192.0.2.1", "192.0.2.2", "192.0.2.3")
		wait(wayUp + time.Second)
		d.at(t, "All are back", wwwA, "192.0.2.1 192.0.2.2", "www.example.org. TXT", `"of the zone"`)
	})
}

// A server that answers whatever it is sent has not done it.
func TestUpdateOfNoPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := logbook(t)
		w, d := newWorld(), newDDNS(t)
		g, _ := w.willWriteTo(t, d, nil, writing+three+"}")
		u := g.outlets[0].(*updater)
		u.send = func(_ context.Context, m *dns.Msg) (*dns.Msg, error) {
			r := new(dns.Msg).SetReply(m)
			r.Answer = d.find(m.Question[0])
			return r, nil
		}
		g.start()
		wait(time.Minute)
		if n, _ := u.pending(); n != 1 || len(lines("takes an update for a query")) != 1 {
			t.Errorf("%d names are pending, and the log has %q", n, lines("update of"))
		}
	})
}

// All names of a pool are written, with all that a zone can say of them: one message for each.
func TestUpdateNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), newDDNS(t)
		w.writesTo(t, d, writing+"failover www.example.org example.org *.apps.example.org 192.0.2.1:443 [2001:db8::1]:443 {\nsrv http\nhttps alpn=h2\nbackup b=192.0.2.2:8443\n}")
		wait(time.Second)
		for _, owner := range []string{"www.example.org.", "example.org.", "*.apps.example.org."} {
			d.at(t, "Started", owner+" A", "192.0.2.1", owner+" AAAA", "2001:db8::1")
		}
		d.at(t, "Started",
			"www.example.org. HTTPS", `1 . alpn="h2" ipv4hint="192.0.2.1" ipv6hint="2001:db8::1" 2 b.www.example.org. alpn="h2" port="8443" ipv4hint="192.0.2.2"`,
			"*.apps.example.org. HTTPS", `1 . alpn="h2" ipv4hint="192.0.2.1" ipv6hint="2001:db8::1"`,
			"_http._tcp.www.example.org. SRV", "0 1 443 192-0-2-1.www.example.org. 0 1 443 2001-db8--1.www.example.org. 1 1 8443 b.www.example.org.",
			"b.www.example.org. A", "192.0.2.2",
			"2001-db8--1.example.org. AAAA", "2001:db8::1")
		owners := slices.Sorted(maps.Keys(d.zone))
		if len(owners) != 2*11 || !slices.Contains(owners, "_failover.*.apps.example.org.") {
			t.Errorf("The primary has %d names, want eleven and their markers, with its own apex: %q", len(owners), owners)
		}
		if len(d.writes) != 11 {
			t.Errorf("%d UPDATEs for 11 names: %q", len(d.writes), d.writes)
		}
	})
}

// Each server has what it is to have, whatever becomes of another; and a name goes to the zone that it is nearest to.
func TestUpdateSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dead, d := newWorld(), newDDNS(t), newDDNS(t)
		dead.hangs = true
		g, _ := w.willWriteTo(t, d, nil, "failover {\nupdate 192.0.2.53 example.org\nupdate 192.0.2.54 example.org\nupdate 192.0.2.54 apps.example.org\n}\n"+
			three+"}\nfailover *.apps.example.org 192.0.2.1:443 192.0.2.2:443")
		var names []string
		for u := range g.updaters() {
			if u.server.Addr().String() == "192.0.2.53" {
				u.send = dead.send
			}
			for _, p := range u.names {
				names = append(names, u.server.String()+" "+u.zone+" "+p.name)
			}
		}
		slices.Sort(names)
		if want := []string{
			"192.0.2.53:53 example.org. *.apps.example.org.", "192.0.2.53:53 example.org. www.example.org.",
			"192.0.2.54:53 apps.example.org. *.apps.example.org.", "192.0.2.54:53 example.org. www.example.org.",
		}; !slices.Equal(names, want) {
			t.Errorf("Written are %q, want %q", names, want)
		}
		g.start()
		for i := range 10 {
			w.set([]string{"down", ""}[i%2], "192.0.2.1")
			wait(wayDown + time.Second)
			want := []string{"192.0.2.2", "192.0.2.1 192.0.2.2"}[i%2]
			d.at(t, "One of two servers is dead", wwwA, want, "*.apps.example.org. A", want)
		}
		dead.set(func() { dead.hangs = false })
		wait(90 * time.Second)
		dead.at(t, "Back", wwwA, "192.0.2.1 192.0.2.2", "*.apps.example.org. A", "192.0.2.1 192.0.2.2")
	})
}

// What is not ours stays as it is, is said once, and becomes ours when it is handed over in the way that is said.
func TestUpdateForeign(t *testing.T) {
	for _, tc := range []struct {
		name     string
		has      []string
		line     string
		handover func(*testing.T, *ddns)
	}{
		{
			"an address", []string{"www.example.org. 300 A 192.0.2.80"}, "it has 192.0.2.80. To hand it over, have nsupdate say: update add _failover.www.example.org. 60 TXT failover",
			func(t *testing.T, d *ddns) { d.add(t, "_failover.www.example.org. 60 TXT failover") },
		},
		{
			"an address, which goes", []string{"www.example.org. 300 AAAA 2001:db8::80"}, "it has 2001:db8::80.",
			func(_ *testing.T, d *ddns) { d.remove("www.example.org.", dns.TypeAAAA) },
		},
		{
			"an alias", []string{"www.example.org. 300 CNAME a.example.org."}, "it has an alias. To hand it over, have nsupdate say: update delete www.example.org. CNAME",
			func(_ *testing.T, d *ddns) { d.remove("www.example.org.", dns.TypeCNAME) },
		},
		{
			"an alias beside a marker", []string{"www.example.org. 300 CNAME a.example.org.", "_failover.www.example.org. 60 TXT failover"}, "it has an alias. To hand it over, have nsupdate say: update delete www.example.org. CNAME",
			func(_ *testing.T, d *ddns) { d.remove("www.example.org.", dns.TypeCNAME) },
		},
		{
			"another text", []string{"_failover.www.example.org. 60 TXT mine"}, "have nsupdate say: update delete _failover.www.example.org. TXT",
			func(_ *testing.T, d *ddns) { d.remove("_failover.www.example.org.", dns.TypeTXT) },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := logbook(t)
				w, d := newWorld(), newDDNS(t, tc.has...)
				all := map[string]bool{"www.example.org.": true, "_failover.www.example.org.": true}
				before := d.text(all)
				w.writesTo(t, d, writing+three+"}")
				wait(10 * time.Minute)
				w.set("down", "192.0.2.1")
				wait(10 * time.Minute)
				if after := d.text(all); after != before {
					t.Errorf("The primary has\n%s\nwant\n%s", after, before)
				}
				said := lines("update of www.example.org. at 192.0.2.53:53")
				if len(said) != 1 || !strings.Contains(said[0], "it is not ours, and stays as it is") || !strings.Contains(said[0], tc.line) {
					t.Errorf("The log has %q, want one line with %q", said, tc.line)
				}
				if n := counted(t, "foreign"); n < 5 {
					t.Errorf("It is counted %v times, want each comparison", n)
				}
				tc.handover(t, d)
				wait(comparison)
				d.at(t, "Handed over", wwwA, "192.0.2.2", wwwAAAA, "")
				if said := lines("all is well again"); len(said) != 1 {
					t.Errorf("The log has %q, want one line that all is well again", said)
				}
			})
		})
	}
}

// A wildcard of the zone is no record of a name, though queries see it there.
func TestUpdateBesideWildcard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), newDDNS(t, "*.example.org. 300 A 192.0.2.80", `*.example.org. 300 TXT "failover 0123"`)
		w.writesTo(t, d, writing+three+"fallback none\n}")
		wait(time.Second)
		d.at(t, "Started", wwwA, "192.0.2.1 192.0.2.2", "*.example.org. A", "192.0.2.80")
		w.set("down", "192.0.2.1", "192.0.2.2", "192.0.2.3")
		wait(time.Hour)
		d.at(t, "Down", wwwA, "")
		if changes, _, _ := d.counts(); changes > 4 {
			t.Errorf("%d changes, want one for each transition", changes)
		}
	})
}

// What somebody changes by hand does not last, and what they take away comes back.
func TestUpdateTampered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), newDDNS(t)
		w.writesTo(t, d, writing+three+"}")
		wait(time.Second)
		for _, tamper := range []func(){
			func() { d.add(t, "www.example.org. 300 A 192.0.2.80") },
			func() { d.add(t, "www.example.org. 300 AAAA 2001:db8::80") },
			func() { d.remove("www.example.org.", dns.TypeA) },
			func() { d.remove("www.example.org.", dns.TypeA); d.remove("_failover.www.example.org.", dns.TypeTXT) },
			func() {
				d.remove("_failover.www.example.org.", dns.TypeTXT)
				d.add(t, "_failover.www.example.org. 60 TXT failover")
			},
		} {
			tamper()
			wait(comparison)
			d.at(t, "A comparison later", wwwA, "192.0.2.1 192.0.2.2", wwwAAAA, "")
			if got := d.has("_failover.www.example.org.", dns.TypeTXT); !strings.HasSuffix(got, ` A,AAAA"`) {
				t.Errorf("The marker is %s", got)
			}
			wait(comparison) // all is well, so that what comes next is not the same again
		}
		// Without the marker it is not ours any more.
		d.remove("_failover.www.example.org.", dns.TypeTXT)
		w.set("down", "192.0.2.1")
		wait(time.Hour)
		d.at(t, "Taken away", wwwA, "192.0.2.1 192.0.2.2")
	})
}

// Who changes the same again and again, as another that is configured differently, is not fought for each time.
func TestUpdateTamperedAlways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), newDDNS(t)
		w.writesTo(t, d, writing+three+"}")
		w.writesTo(t, d, writing+three+"https\n}")
		wait(8 * time.Hour)
		if changes, _, _ := d.counts(); changes > 70 {
			t.Errorf("%d changes in eight hours, want a few in an hour", changes)
		}
		w.set("down", "192.0.2.1")
		wait(wayDown + time.Second)
		d.at(t, "A transition is written all the same", wwwA, "192.0.2.2")
	})
}

// What zones cannot say leaves the records as they are, and what a pool denies takes them away.
func TestUpdateFallback(t *testing.T) {
	for fallback, want := range map[string]string{
		"servfail": "192.0.2.1", "refused": "192.0.2.1", "next": "192.0.2.1",
		"none": "", "nxdomain": "", "all": "192.0.2.1 192.0.2.2", "203.0.113.1": "203.0.113.1",
	} {
		synctest.Test(t, func(t *testing.T) {
			w, d := newWorld(), newDDNS(t)
			w.set("down", "192.0.2.2")
			w.writesTo(t, d, writing+"failover www.example.org 192.0.2.1:443 192.0.2.2:443 {\nfallback "+fallback+"\n}")
			wait(wayDown)
			d.at(t, "Started with one down", wwwA, "192.0.2.1")
			w.set("down", "192.0.2.1")
			wait(time.Hour)
			d.at(t, "Both down, fallback "+fallback, wwwA, want)
			w.set("", "192.0.2.2")
			wait(wayUp)
			d.at(t, "The other is up", wwwA, "192.0.2.2")
		})
	}
}

// When an answer is lost, what it was for is found done, and not done again.
func TestUpdateLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), newDDNS(t)
		w.writesTo(t, d, writing+three+"}")
		wait(time.Second)
		w.set("down", "192.0.2.1")
		d.set(func() { d.loses = true })
		wait(wayDown)
		d.set(func() { d.loses = false })
		wait(time.Minute)
		d.at(t, "Lost", wwwA, "192.0.2.2")
		if changes, _, _ := d.counts(); changes != 2 {
			t.Errorf("%d changes, want two", changes)
		}
		wait(time.Hour)
		if changes, _, _ := d.counts(); changes != 2 {
			t.Errorf("%d changes an hour later, want two", changes)
		}
	})
}

// A server that is dead is asked ever more rarely, about one name at a time, and has all that is to be written as
// soon as it is back, in its latest state only.
func TestUpdateServerDead(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			lines := logbook(t)
			w, d := newWorld(), newDDNS(t)
			directives := writing
			for i := range 50 {
				directives += fmt.Sprintf("failover a%d.example.org 192.0.2.1:443 192.0.2.2:443\n", i)
			}
			g, _ := w.writesTo(t, d, directives)
			wait(time.Second)
			_, before, _ := d.counts()
			d.set(func() { d.err, d.hangs = errors.New("connection refused"), hangs })
			for range 20 {
				w.set("down", "192.0.2.1")
				wait(wayDown)
				w.set("", "192.0.2.1")
				wait(wayUp)
			}
			w.set("down", "192.0.2.1")
			wait(time.Hour)
			if _, asked, _ := d.counts(); asked-before > 100 || asked-before < 40 {
				t.Errorf("A dead server is asked %d times in an hour and some minutes, want about once a minute", asked-before)
			}
			if said := lines("update of"); len(said) != 1 || !strings.Contains(said[0], "update of example.org. at 192.0.2.53:53: ") {
				t.Errorf("The log has %q, want one line", said)
			}
			u := g.outlets[0].(*updater)
			if n, _ := u.pending(); n != 50 {
				t.Errorf("%d names are pending, want 50", n)
			}
			d.set(func() { d.err, d.hangs, d.changes = nil, false, 0 })
			wait(80 * time.Second) // a minute, a quarter more, and the time it takes
			for i := range 50 {
				d.at(t, "Back", fmt.Sprintf("a%d.example.org. A", i), "192.0.2.2")
			}
			if changes, _, _ := d.counts(); changes != 50 {
				t.Errorf("%d changes for 50 names, want one for each", changes)
			}
			if n, _ := u.pending(); n != 0 {
				t.Errorf("%d names are pending, want none", n)
			}
			if said := lines("update of"); len(said) != 2 || !strings.Contains(said[1], "all is well again") {
				t.Errorf("The log has %q, want one more line", said)
			}
		})
	}
}

// One name that the server refuses, or cannot do, does not hold up the others, and is said with its name.
func TestUpdateOneRefused(t *testing.T) {
	for rcode, word := range map[int]string{dns.RcodeRefused: "REFUSED", dns.RcodeServerFailure: "SERVFAIL"} {
		synctest.Test(t, func(t *testing.T) {
			lines := logbook(t)
			w, d := newWorld(), newDDNS(t)
			d.rcode = func(owner string, _ *dns.Msg) int {
				if strings.HasSuffix(owner, "bad.example.org.") {
					return rcode
				}
				return dns.RcodeSuccess
			}
			w.writesTo(t, d, writing+"failover bad.example.org 192.0.2.1:443 192.0.2.2:443\nfailover www.example.org 192.0.2.1:443 192.0.2.2:443")
			wait(time.Minute)
			for i := range 100 {
				w.set([]string{"down", ""}[i%2], "192.0.2.1")
				wait(wayDown + time.Second)
				d.at(t, fmt.Sprint("After transition ", i, " with ", word), wwwA, []string{"192.0.2.2", "192.0.2.1 192.0.2.2"}[i%2])
			}
			_, before, _ := d.counts()
			wait(time.Hour)
			if _, asked, _ := d.counts(); asked-before > 140 {
				t.Errorf("The server is asked %d times in an hour without transitions, want one name every minute, and one every two", asked-before)
			}
			if said := lines("update of"); len(said) != 1 || !strings.Contains(said[0], "bad.example.org. at 192.0.2.53:53: "+word) {
				t.Errorf("The log has %q, want one line", said)
			}
			d.set(func() { d.rcode = nil })
			wait(80 * time.Second)
			d.at(t, "Allowed", "bad.example.org. A", "192.0.2.1 192.0.2.2")
		})
	}
}

// What is too large for a message is no trouble of the server.
func TestUpdateTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := logbook(t)
		w, d := newWorld(), newDDNS(t)
		var large strings.Builder
		for i := range 2400 {
			fmt.Fprintf(&large, " [2001:db8::%x]:443", i+1)
		}
		w.writesTo(t, d, writing+"failover large.example.org"+large.String()+"\n"+three+"}")
		wait(20 * time.Second)
		w.set("down", "192.0.2.1")
		wait(wayDown + time.Second)
		d.at(t, "Beside one that is too large", wwwA, "192.0.2.2", "large.example.org. AAAA", "")
		if said := lines("update of"); len(said) != 1 || !strings.Contains(said[0], "large.example.org. at 192.0.2.53:53: its records do not fit into one message") {
			t.Errorf("The log has %q, want one line", said)
		}
	})
}

// A server that is back and refuses has not become well, and many names with one trouble are counted.
func TestUpdateRefusesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := logbook(t)
		w, d := newWorld(), newDDNS(t)
		directives := writing
		for i := range 50 {
			directives += fmt.Sprintf("failover a%d.example.org 192.0.2.1:443 192.0.2.2:443\n", i)
		}
		w.writesTo(t, d, directives)
		wait(time.Minute)
		d.set(func() { d.err = errors.New("connection refused") })
		w.set("down", "192.0.2.1")
		wait(time.Hour)
		d.set(func() {
			d.err, d.rcode = nil, func(string, *dns.Msg) int { return dns.RcodeRefused }
		})
		wait(time.Hour)
		said := lines("update of")
		if len(said) != 1+1+maxSpoken+1 || !strings.Contains(said[1], "it answers again") || !strings.HasSuffix(said[22], "30 more names are not as they should be") {
			t.Errorf("The log has %d lines: %q", len(said), said)
		}
		d.set(func() { d.rcode = nil })
		wait(time.Hour)
		if said := lines("update of")[len(said):]; len(said) != maxSpoken {
			t.Errorf("The log has %q, want a line for each name that it has spoken of", said)
		}
	})
}

// An old copy of the zone does not stand for what it has been.
func TestUpdateRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := logbook(t)
		w, d := newWorld(), newDDNS(t)
		w.writesTo(t, d, writing+three+"}")
		wait(time.Second)
		old := make(map[string]map[uint16][]dns.RR)
		for owner, sets := range d.zone {
			old[owner] = maps.Clone(sets)
		}
		w.set("down", "192.0.2.1")
		wait(10 * time.Minute)
		d.set(func() { d.zone = old })
		wait(comparison)
		d.at(t, "Restored", wwwA, "192.0.2.2")
		if said := lines("[WARNING]"); len(said) > 0 {
			t.Errorf("The log has %q", said)
		}
	})
}

// Members that nobody has probed yet are not written at a start, unless there is nothing.
func TestUpdateUnprobed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), newDDNS(t)
		g, _ := w.writesTo(t, d, writing+three+"}")
		w.set("down", "192.0.2.1")
		wait(time.Minute)
		g.stop()
		before, _, _ := d.counts()
		w.mu.Lock()
		w.takes = 1900 * time.Millisecond
		w.mu.Unlock()
		w.writesTo(t, d, writing+three+"}\nfailover new.example.org 192.0.2.1:443")
		for range 20 {
			wait(time.Second)
			d.at(t, "Started again", wwwA, "192.0.2.2", "new.example.org. A", "192.0.2.1")
		}
		if after, _, _ := d.counts(); after != before+1 {
			t.Errorf("%d changes, want only that of the new name", after-before)
		}
	})
}

// Records of a type that a marker does not name are somebody else's, and those that it names go with the property.
func TestUpdateTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := logbook(t)
		w, d := newWorld(), newDDNS(t, "www.example.org. 300 HTTPS 1 somebody.example.net.")
		start := func(rest string) func() {
			g, _ := w.writesTo(t, d, writing+three+rest)
			wait(time.Minute)
			return g.stop
		}
		start("}")()
		stop := start("https\n}")
		d.at(t, "Somebody's", "www.example.org. HTTPS", "1 somebody.example.net.", wwwA, "192.0.2.1 192.0.2.2")
		if said := lines("[WARNING]"); len(said) != 1 || !strings.HasSuffix(said[0], "have nsupdate say: update delete www.example.org. HTTPS") {
			t.Errorf("The log has %q", said)
		}
		d.remove("www.example.org.", dns.TypeHTTPS)
		wait(comparison)
		d.at(t, "Ours", "www.example.org. HTTPS", `1 . ipv4hint="192.0.2.1,192.0.2.2" 2 192-0-2-3.www.example.org. ipv4hint="192.0.2.3"`)
		stop()
		defer start("}")()
		d.at(t, "Taken out", "www.example.org. HTTPS", "", wwwA, "192.0.2.1 192.0.2.2")
	})
}

// Where the server delegates, nothing is written, and the log says why.
func TestUpdateDelegated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := logbook(t)
		w, d := newWorld(), newDDNS(t)
		d.cut = "sub.example.org."
		w.writesTo(t, d, writing+"failover www.sub.example.org 192.0.2.1:443")
		wait(time.Hour)
		d.at(t, "Delegated", "www.sub.example.org. A", "")
		if said := lines("update of"); len(said) != 1 || !strings.HasSuffix(said[0], "it lies in sub.example.org., which the server delegates") {
			t.Errorf("The log has %q", said)
		}
	})
}

// However many names have to be compared, a transition goes first.
func TestUpdateTransitionFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), newDDNS(t)
		d.takes = time.Second
		directives := writing
		for i := range 300 {
			directives += fmt.Sprintf("failover a%d.example.org 192.0.2.9:443\n", i)
		}
		w.writesTo(t, d, directives+"failover www.example.org 192.0.2.1:443 192.0.2.2:443")
		wait(10 * time.Minute) // all are there; they are compared all the time now
		w.set("down", "192.0.2.1")
		wait(wayDown + 2*time.Second)
		d.at(t, "Soon", wwwA, "192.0.2.2")
	})
}

// Names that change together do not wait for each other's round trips.
func TestUpdateTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), newDDNS(t)
		d.takes = 50 * time.Millisecond
		directives := writing
		for i := range 1000 {
			directives += fmt.Sprintf("failover a%d.example.org 192.0.2.1:443 192.0.2.2:443\n", i)
		}
		w.writesTo(t, d, directives)
		wait(time.Minute)
		w.set("down", "192.0.2.1")
		wait(wayDown + 1000/workers*d.takes + time.Second)
		for i := range 1000 {
			d.at(t, "Soon", fmt.Sprintf("a%d.example.org. A", i), "192.0.2.2")
		}
	})
}

// To stop does not wait for a server that hangs, nor for one that is being left alone.
func TestUpdateStop(t *testing.T) {
	for _, hangs := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w, d := newWorld(), newDDNS(t)
			d.hangs, d.err = hangs, errors.New("connection refused")
			g, _ := w.willWriteTo(t, d, nil, writing+three+"}")
			g.start()
			wait(time.Minute)
			began := time.Now()
			g.stop()
			if took := time.Since(began); took > 0 {
				t.Errorf("It takes %s to stop", took)
			}
			_, before, _ := d.counts()
			wait(time.Hour)
			if _, asked, _ := d.counts(); asked != before {
				t.Errorf("%d messages after the stop", asked-before)
			}
		})
	}
}

// A generation that never answers writes nothing, and one that takes over puts right what was left undone.
func TestUpdateReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), newDDNS(t)
		directives := writing + three + "}"
		g, _ := w.writesTo(t, d, directives)
		wait(time.Second)
		g.reload()
		discarded, _ := w.willWriteTo(t, d, g, strings.Replace(directives, "192.0.2.2:443", "192.0.2.7:443", 1))
		discarded.start()
		wait(time.Minute)
		g.reloadFailed()
		d.at(t, "A reload has failed", wwwA, "192.0.2.1 192.0.2.2")
		_, asked, _ := d.counts()

		d.set(func() { d.err = errors.New("connection refused") })
		w.set("down", "192.0.2.1")
		wait(wayDown)
		g.reload()
		next, _ := w.willWriteTo(t, d, g, directives)
		next.start()
		d.set(func() { d.err = nil })
		g.reloaded()
		wait(time.Second)
		d.at(t, "Another has taken over", wwwA, "192.0.2.2")
		if changes, now, _ := d.counts(); changes != 2 || now-asked > 20 {
			t.Errorf("%d changes and %d messages", changes, now-asked)
		}
	})
}

// logbook records the log. What is returned gives the lines so far that hold a text.
func logbook(t *testing.T) func(text string) []string {
	t.Helper()
	var mu sync.Mutex
	var all []string
	golog.SetOutput(writerFunc(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, strings.TrimSuffix(string(b), "\n"))
		return len(b), nil
	}))
	t.Cleanup(clog.Discard)
	return func(text string) []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.DeleteFunc(slices.Clone(all), func(line string) bool { return !strings.Contains(line, text) })
	}
}

// counted is how many updates there were with a result.
func counted(t *testing.T, result string) (n float64) {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, series := range family.GetMetric() {
			for _, label := range series.GetLabel() {
				if family.GetName() == "coredns_failover_updates_total" && label.GetName() == "result" && label.GetValue() == result {
					n += series.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}
