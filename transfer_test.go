package failover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/dnsname"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/rrset"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/transfer"

	"github.com/miekg/dns"
)

// library is a next plugin that has zones and transfers them, as file does.
type library struct {
	mu    sync.Mutex
	zones map[string][]dns.RR // the SOA first
}

// has gives it a zone.
func (l *library) has(t testing.TB, apex string, serial uint32, text string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.zones == nil {
		l.zones = make(map[string][]dns.RR)
	}
	soa := fmt.Sprintf("%s 3600 SOA ns.%[1]s mbox.%[1]s %d 7200 1800 86400 300, %[1]s 3600 NS ns.example.net., ", apex, serial)
	l.zones[apex] = recordsOf(t, soa+text)
}

func (l *library) Name() string { return "library" }

// Names are those of its zones.
func (l *library) Names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.zones))
}

func (l *library) Transfer(zone string, serial uint32) (<-chan []dns.RR, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rrs := l.zones[zone]
	if rrs == nil {
		return nil, transfer.ErrNotAuthoritative
	}
	ch := make(chan []dns.RR, 3)
	defer close(ch)
	ch <- rrs[:1]
	if serial == 0 || rrs[0].(*dns.SOA).Serial != serial {
		ch <- rrs[1:]
		ch <- rrs[:1]
	}
	return ch, nil
}

// ServeDNS answers for the SOA, and denies everything else.
func (l *library) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := r.Question[0]
	m := new(dns.Msg).SetReply(r)
	m.Authoritative = true
	for apex, rrs := range l.zones {
		switch {
		case q.Name == apex && q.Qtype == dns.TypeSOA:
			m.Answer = rrs[:1]
		case dnsname.IsBelow(q.Name, apex):
			m.Ns, m.Rcode = rrs[:1], dns.RcodeNameError
		default:
			continue
		}
		return dns.RcodeSuccess, w.WriteMsg(m)
	}
	return plugin.NextOrFailure(l.Name(), nil, context.Background(), w, r)
}

// primary is a server block with the transfer plugin.
type primary struct {
	Failover
	g *generation

	mu      sync.Mutex
	told    []time.Time // of each NOTIFY
	refuses bool        // somebody does not take it
}

func (p *primary) notify(string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, time.Now())
	if p.refuses {
		return errors.New("notify was not accepted")
	}
	return nil
}

// notifies is how many there have been.
func (p *primary) notifies() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.told)
}

// newPrimary makes one that has not started, which takes over from another one, or from nobody.
func (w *world) newPrimary(t *testing.T, m *monitor.Monitor, before *primary, l *library, directives string) *primary {
	t.Helper()
	p := new(primary)
	var g *generation
	if before != nil {
		g = before.g
	}
	p.g, p.Failover = w.generate(t, m, g, directives)
	p.Next = l
	p.zonesBelow, p.soasBelow = true, true
	p.transfers = newTransfers(p.block, "test", []string{"example.org."}, []plugin.Handler{l}, p.notify)
	p.feed(p.transfers)
	return p
}

// startPrimary is newPrimary and start, until its first NOTIFY.
func (w *world) startPrimary(t *testing.T, l *library, directives string) *primary {
	t.Helper()
	p := w.newPrimary(t, monitor.New(nil), nil, l, directives)
	p.g.start()
	wait(together + time.Millisecond)
	return p
}

// together is how long it may take until all that has changed is in an edition.
const together = 2*time.Second + gather

// wait lets time pass.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// axfr is the zone as it goes out, without the SOA.
func (p *primary) axfr(t *testing.T, apex string) string {
	t.Helper()
	rrs, err := p.transfers.transfer(apex, 0)
	if err != nil {
		t.Fatal(err)
	}
	return inWords(rrs[1 : len(rrs)-1])
}

// serial is that of the SOA in an answer. It has to be the one that goes out.
func (p *primary) serial(t *testing.T) uint32 {
	t.Helper()
	w := new(written)
	if _, err := p.ServeDNS(t.Context(), w, query(t, "example.org. SOA")); err != nil {
		t.Fatal(err)
	}
	answered := w.msgs[0].Answer[0].(*dns.SOA)
	rrs, err := p.transfers.transfer("example.org.", 0)
	if err != nil {
		t.Fatal(err)
	}
	if sent := rrs[0].(*dns.SOA); !rrset.EqualSOA(sent, answered) {
		t.Errorf("SOA %s is answered, %s goes out", answered, sent)
	}
	return answered.Serial
}

const authorities = "failover {\nsoa ns1.example.net mbox.example.org\nns ns1.example.net ns.example.org\n}\n"

const twoNames = "failover www.example.org *.apps.example.org a=192.0.2.1:443 b=192.0.2.2:443 {\nsrv http\nhttps alpn=h2\n"

func TestTransferOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		p := w.startPrimary(t, new(library), authorities+"failover ns.example.org 192.0.2.53:53\n"+twoNames+"backup c=192.0.2.3:443\n}")
		w.set("down", "192.0.2.1")
		wait(wayDown)
		want := `*.apps.example.org. 6 A 192.0.2.2
*.apps.example.org. 6 HTTPS 1 . alpn="h2" ipv4hint="192.0.2.2"
_http._tcp.www.example.org. 6 SRV 0 1 443 b.www.example.org.
_http._tcp.www.example.org. 6 SRV 1 1 443 c.www.example.org.
a.www.example.org. 60 A 192.0.2.1
b.www.example.org. 60 A 192.0.2.2
c.www.example.org. 60 A 192.0.2.3
example.org. 3600 NS ns.example.org.
example.org. 3600 NS ns1.example.net.
ns.example.org. 7 A 192.0.2.53
www.example.org. 6 A 192.0.2.2
www.example.org. 6 HTTPS 1 . alpn="h2" ipv4hint="192.0.2.2"
www.example.org. 6 HTTPS 2 c.www.example.org. alpn="h2" ipv4hint="192.0.2.3"`
		if got := p.axfr(t, "example.org."); got != want {
			t.Errorf("The zone is\n%s\nwant\n%s", got, want)
		}
		rrs, _ := p.transfers.transfer("example.org.", 0)
		soa := rrs[0].(*dns.SOA)
		if soa.Ns != "ns1.example.net." || soa.Mbox != "mbox.example.org." || soa.Minttl != 5 {
			t.Errorf("SOA %s", soa)
		}
		for _, other := range []string{"www.example.org.", "example.net.", "org.", ".", "apps.example.org."} {
			if _, err := p.transfers.transfer(other, 0); !errors.Is(err, transfer.ErrNotAuthoritative) {
				t.Errorf("Transfer of %s: %v, want that it is no zone here", other, err)
			}
		}
		w2 := new(written)
		if _, err := p.ServeDNS(t.Context(), w2, query(t, "example.org. NS")); err != nil || inWords(w2.msgs[0].Answer) != "example.org. 3600 NS ns.example.org.\nexample.org. 3600 NS ns1.example.net." {
			t.Errorf("NS: %v %v", w2.msgs, err)
		}
	})
}

// Without NS records a zone is for no secondary.
func TestTransferWithoutNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines := newWorld(), logged(t, "warnings")
		l := new(library)
		p := w.startPrimary(t, l, three+"}")
		if _, err := p.transfers.transfer("example.org.", 0); !errors.Is(err, errNoNS) {
			t.Errorf("Transfer of a zone of ours: %v, want %v", err, errNoNS)
		}
		l.has(t, "example.org.", 1, "a.example.org. 5 A 192.0.2.1")
		l.zones["example.org."] = slices.Delete(l.zones["example.org."], 1, 2) // the NS
		if _, err := p.transfers.transfer("example.org.", 0); !errors.Is(err, errNoNS) {
			t.Errorf("Transfer: %v, want %v", err, errNoNS)
		}
		if said := strings.Join(lines(), "\n"); strings.Count(said, "example.org. is not transferred: the zone has no NS record") != 2 {
			t.Errorf("The log is %q", said)
		}
		if n := p.notifies(); n != 0 {
			t.Errorf("%d NOTIFY, want none", n)
		}
	})
}

// What the next plugins have goes out with the pools' records in place of theirs.
func TestTransferBelow(t *testing.T) {
	const zone = "www.example.org. 3600 A 192.0.2.80, www.example.org. 3600 AAAA 2001:db8::80, www.example.org. 3600 TXT \"theirs\", " +
		"alias.example.org. 3600 CNAME www.example.org., mail.example.org. 3600 A 192.0.2.25"
	const rest = "\nexample.org. 3600 NS ns.example.net.\nmail.example.org. 3600 A 192.0.2.25\nwww.example.org. 3600 TXT \"theirs\""
	for _, tc := range []struct{ fallback, down string }{
		{"none", ""},
		{"nxdomain", ""},
		{"servfail", "alias.example.org. 7 A 192.0.2.1\nwww.example.org. 7 A 192.0.2.1"},
		{"refused", "alias.example.org. 7 A 192.0.2.1\nwww.example.org. 7 A 192.0.2.1"},
		{"192.0.2.99", "alias.example.org. 6 A 192.0.2.99\nwww.example.org. 6 A 192.0.2.99"},
		{"next", "alias.example.org. 6 CNAME www.example.org.\nwww.example.org. 6 A 192.0.2.80\nwww.example.org. 6 AAAA 2001:db8::80"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, l := newWorld(), new(library)
			l.has(t, "example.org.", 2026110101, zone)
			p := w.startPrimary(t, l, "failover www.example.org alias.example.org 192.0.2.1:443 {\nfallback "+tc.fallback+"\n}")
			up := "alias.example.org. 7 A 192.0.2.1\nwww.example.org. 7 A 192.0.2.1"
			check := func(what, want string) {
				t.Helper()
				lines := strings.Split(strings.TrimPrefix(want+rest, "\n"), "\n")
				slices.Sort(lines)
				if got := p.axfr(t, "example.org."); got != strings.Join(lines, "\n") {
					t.Errorf("Fallback %s, %s: the zone is\n%s\nwant\n%s", tc.fallback, what, got, strings.Join(lines, "\n"))
				}
			}
			check("all up", up)
			w.set("down", "192.0.2.1")
			wait(wayDown + together)
			check("all down", tc.down)
			w.set("", "192.0.2.1")
			wait(wayUp + together)
			check("all back", up)
			p.serial(t)
			rrs, _ := p.transfers.transfer("example.org.", 0)
			if soa := rrs[0].(*dns.SOA); soa.Minttl != 5 || soa.Hdr.Ttl != 3600 {
				t.Errorf("SOA %s, want the MINIMUM of the pools' denials", soa)
			}
		})
	}
}

// The serial moves with every change of the pools or of the zone below, by itself, once a second at most, and is
// never ahead of the clock.
func TestTransferSerial(t *testing.T) {
	for _, first := range []uint32{1, 2026110101, 1<<32 - 1e9} {
		synctest.Test(t, func(t *testing.T) {
			w, l := newWorld(), new(library)
			l.has(t, "example.org.", first, "mail.example.org. 3600 A 192.0.2.25")
			p := w.startPrimary(t, l, three+"}")
			last, notifies := p.serial(t), p.notifies()
			if notifies != 1 {
				t.Errorf("%d NOTIFY at the start, want 1", notifies)
			}
			moves := func(what string, told int) {
				t.Helper()
				if now := p.serial(t); !isAfter(now, last) || isAfter(now, first+second(time.Now())+100) {
					t.Errorf("%s: serial %d after %d", what, now, last)
				} else {
					last = now
				}
				if n := p.notifies() - notifies; n != told {
					t.Errorf("%s: %d NOTIFY, want %d", what, n, told)
				}
				notifies = p.notifies()
			}
			w.set("down", "192.0.2.1", "192.0.2.2") // not in the same millisecond, but within a second
			wait(wayDown + together)
			moves("Two down", 2) // at once, and the rest together
			wait(time.Minute)
			if now := p.serial(t); now != last || p.notifies() != notifies {
				t.Errorf("Nothing happens: serial %d after %d", now, last)
			}
			l.has(t, "example.org.", first+1, "mail.example.org. 3600 A 192.0.2.26")
			if got := p.axfr(t, "example.org."); !strings.Contains(got, "192.0.2.26") {
				t.Errorf("A new zone file: %s", got)
			}
			moves("A new zone file", 0) // its plugin tells the secondaries
			wait(review)
			notifies = p.notifies()
			l.has(t, "example.org.", first+1, "mail.example.org. 3600 A 192.0.2.27")
			wait(review)
			moves("A zone file with the same serial", 1)
			l.has(t, "example.org.", first-5, "mail.example.org. 3600 A 192.0.2.28")
			wait(review)
			moves("A zone file whose serial went back", 1)
			w.set("", "192.0.2.1")
			wait(wayUp + together)
			moves("One is back", 1)

			// A restart, with other statuses.
			p.g.stop()
			w.set("down", "192.0.2.1")
			p = w.startPrimary(t, l, three+"}")
			l.has(t, "example.org.", first+2, "mail.example.org. 3600 A 192.0.2.28")
			notifies = 0
			moves("After a restart", 1)
		})
	}
}

// A burst of changes is one edition a second, and its serial does not run ahead of the clock: else the next process
// would begin behind it.
func TestTransferBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		p := w.startPrimary(t, new(library), authorities+"failover www.example.org 192.0.2.1:443 192.0.2.2:443 {\nfall 1\nrise 1\ninterval 100ms\nrecheck 100ms\ntimeout 100ms\n}")
		for i := range 300 {
			w.set([]string{"down", ""}[i%2], "192.0.2.1")
			wait(130 * time.Millisecond) // not in step with the probes
			if i%7 == 0 {                // secondaries ask in between
				p.axfr(t, "example.org.")
			}
		}
		now, serial := second(time.Now()), p.serial(t)
		if serial > now {
			t.Errorf("Serial %d, the clock says %d", serial, now)
		}
		if n := p.notifies(); n < 10 || n > 41 {
			t.Errorf("%d NOTIFY in 39 seconds of change, want one a second, where something is other than before", n)
		}
	})
}

// A secondary that takes IXFR whenever it can has the same as one that takes AXFR, whatever happens, and a flip in a
// large zone moves few records.
func TestTransferIncrements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(), new(library)
		rng := rand.New(rand.NewPCG(3, 4))
		file := func() string {
			text := "mail.example.org. 3600 A 192.0.2.25"
			for i := range 2000 {
				text += fmt.Sprintf(", n%d.example.org. 3600 A 192.0.2.%d", i, i%250)
			}
			text += ", six.example.org. 3600 CNAME mail.example.org."
			for range rng.IntN(5) {
				text += fmt.Sprintf(", x%d.example.org. 3600 A 192.0.2.1", rng.IntN(100))
			}
			return text
		}
		l.has(t, "example.org.", 1, file())
		p := w.startPrimary(t, l, twoNames+"backup 192.0.2.3:443\n}\nfailover six.example.org [2001:db8::1]:443 192.0.2.4:443 {\nfallback next\n}")
		all := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "2001:db8::1"}
		var r replica
		if rrs, err := p.transfers.transfer("example.org.", 0); err != nil || r.take(rrs) != nil {
			t.Fatal(err)
		}
		largest := 0
		for i := range 200 {
			w.set([]string{"down", ""}[rng.IntN(2)], all[rng.IntN(len(all))])
			fileToo := rng.IntN(10) == 0
			if fileToo {
				l.has(t, "example.org.", uint32(i+2), file())
			}
			wait(time.Duration(rng.IntN(8000)) * time.Millisecond)
			rrs, err := p.transfers.transfer("example.org.", r.serial)
			if err != nil {
				t.Fatal(err)
			}
			if !fileToo {
				largest = max(largest, len(rrs))
			}
			if err := r.take(rrs); err != nil {
				t.Fatal(err)
			}
			rrs, _ = p.transfers.transfer("example.org.", 0)
			var want replica
			_ = want.take(rrs)
			slices.Sort(r.records)
			slices.Sort(want.records)
			if r.serial != want.serial || !slices.Equal(r.records, want.records) {
				t.Fatalf("Step %d: IXFR leads to another zone than AXFR", i)
			}
			o := (*p.transfers.outgoing.Load())["example.org."]
			late := 0
			for ; late < 3; late++ { // the next change may have come just before
				wait(together)
				o.mu.Lock()
				deleted, added := rrset.Difference(o.current.sets, p.transfers.compose(o, false, nil))
				o.mu.Unlock()
				if len(deleted)+len(added) == 0 {
					break
				}
			}
			if late == 3 {
				t.Fatalf("Step %d: what goes out is not what is answered", i)
			}
		}
		if largest == 0 || largest > 100 {
			t.Errorf("Up to %d records for a flip, want a few", largest)
		}
		rrs, _ := p.transfers.transfer("example.org.", r.serial)
		later, _ := p.transfers.transfer("example.org.", r.serial+1000)
		unknown, _ := p.transfers.transfer("example.org.", r.serial-100_000)
		if len(rrs) != 1 || len(later) != 1 || len(unknown) < 2000 {
			t.Errorf("IXFR from the latest: %d records, from later: %d, from long ago: %d; want 1, 1 and the whole zone", len(rrs), len(later), len(unknown))
		}
	})
}

// A TTL that changes for a moment is not worth an edition, but one that stays is.
func TestTransferTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		p := w.startPrimary(t, new(library), authorities+"failover www.example.org 192.0.2.1:443 192.0.2.2:443 {\ninterval 10s\n}")
		serial, steady := p.serial(t), p.pools[0].now.Load().TTL()
		for range 20 {
			for w.set("lost", "192.0.2.1"); p.pools[0].now.Load().TTL() == steady; {
				wait(100 * time.Millisecond)
			}
			w.set("", "192.0.2.1")
			wait(30 * time.Second)
		}
		if now := p.serial(t); now != serial {
			t.Errorf("Serial moves from %d to %d because of single failures", serial, now)
		}
		w.set("down", "192.0.2.1")
		wait(8 * time.Second) // some failures, the last of which makes it down
		w.set("down", "192.0.2.2")
		wait(time.Minute)
		answered := new(written)
		_, _ = p.ServeDNS(t.Context(), answered, query(t, "www.example.org. A"))
		if got, want := p.axfr(t, "example.org."), inWords(answered.msgs[0].Answer); !strings.Contains(got, want) {
			t.Errorf("The zone is\n%s\nthough the answer has been this for long:\n%s", got, want)
		}
	})
}

// NOTIFY is sent again to those that do not take it, less and less, and what is newer goes first.
func TestNotifyAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines := newWorld(), logged(t, "warnings")
		p := w.startPrimary(t, new(library), authorities+three+"}")
		p.refuses = true
		w.set("down", "192.0.2.1")
		wait(time.Hour)
		said := strings.Join(lines(), "\n")
		if n := p.notifies(); n < 9 || n > 14 || strings.Count(said, "notify was not accepted") != 1 {
			t.Errorf("%d NOTIFY in an hour, want some; and one line in %s", n, said)
		}
		p.refuses = false
		w.set("", "192.0.2.1")
		before := p.notifies()
		wait(time.Hour)
		if n := p.notifies() - before; n != 1 {
			t.Errorf("%d NOTIFY, want 1", n)
		}
		if said := strings.Join(lines(), "\n"); !strings.Contains(said, "NOTIFY is taken again") {
			t.Errorf("The log is %s", said)
		}
	})
}

// Somebody who does not answer to NOTIFY takes six seconds each time. The others hear of the next change all the same,
// and rounds do not pile up.
func TestNotifyStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		p := w.newPrimary(t, monitor.New(nil), nil, new(library), authorities+"failover www.example.org 192.0.2.1:443 192.0.2.2:443 {\nfall 1\nrise 1\ninterval 100ms\nrecheck 100ms\ntimeout 100ms\n}")
		var under, most, rounds int
		var mu sync.Mutex
		p.transfers.notify = func(string) error {
			mu.Lock()
			under++
			rounds++
			most = max(most, under)
			mu.Unlock()
			time.Sleep(time.Minute) // ten that are silent
			mu.Lock()
			under--
			mu.Unlock()
			return errors.New("notify was not accepted")
		}
		p.g.start()
		for i := range 1000 {
			w.set([]string{"down", ""}[i%2], "192.0.2.1")
			wait(1300 * time.Millisecond)
		}
		wait(time.Hour)
		p.g.stop()
		wait(time.Hour)
		if most > maxRounds || rounds < 20 || under != 0 {
			t.Errorf("%d rounds, %d at once and %d at the end, want some, %d and none", rounds, most, under, maxRounds)
		}
	})
}

// Records that would not verify beside ours, or that would keep a secondary from taking the zone.
func TestTransferAwkward(t *testing.T) {
	for _, tc := range []struct{ name, pools, zone, want string }{
		{
			"a name without records under a wildcard exists", "failover www.example.org 192.0.2.1:443 {\nfallback none\n}",
			"*.example.org. 3600 A 192.0.2.80", "*.example.org. 3600 A 192.0.2.80\nwww.example.org. 3600 TXT \"\"",
		},
		{
			"as it does by records of other types", "failover www.example.org 192.0.2.1:443 {\nfallback none\n}",
			"*.example.org. 3600 A 192.0.2.80, www.example.org. 3600 MX 1 a.example.net.", "*.example.org. 3600 A 192.0.2.80\nwww.example.org. 3600 MX 1 a.example.net.",
		},
		{
			"below a pool's wildcard, too", "failover www.example.org 192.0.2.1:443 {\nfallback none\n}\nfailover *.example.org 192.0.2.9:443",
			"mail.example.org. 3600 A 192.0.2.25", "*.example.org. 7 A 192.0.2.9\nmail.example.org. 3600 A 192.0.2.25\nwww.example.org. 3600 TXT \"\"",
		},
		{"below a DNAME there is nothing", "failover www.old.example.org 192.0.2.9:443", "old.example.org. 3600 DNAME example.net.", "old.example.org. 3600 DNAME example.net."},
		{
			"below a delegation there are addresses of its servers", "failover www.sub.example.org ns.sub.example.org 192.0.2.9:443",
			"sub.example.org. 3600 NS ns.sub.example.org., ns.sub.example.org. 3600 A 192.0.2.80", "ns.sub.example.org. 7 A 192.0.2.9\nsub.example.org. 3600 NS ns.sub.example.org.",
		},
		{
			"a set has each record once, with one TTL", "failover www.example.org 192.0.2.9:443",
			"a.example.org. 300 A 192.0.2.1, a.example.org. 60 A 192.0.2.2, a.example.org. 300 A 192.0.2.1", "a.example.org. 60 A 192.0.2.1\na.example.org. 60 A 192.0.2.2\nwww.example.org. 7 A 192.0.2.9",
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, l := newWorld(), new(library)
			l.has(t, "example.org.", 5, tc.zone)
			w.set("down", "192.0.2.1")
			p := w.startPrimary(t, l, tc.pools)
			if got, want := p.axfr(t, "example.org."), "example.org. 3600 NS ns.example.net."; !slices.Equal(slices.Sorted(strings.SplitSeq(got, "\n")), slices.Sorted(strings.SplitSeq(want+"\n"+tc.want, "\n"))) {
				t.Errorf("%s: the zone is\n%s\nwant, beside NS,\n%s", tc.name, got, tc.want)
			}
		})
	}
}

// A zone that is signed already stays as it is, in transfers and in answers.
func TestTransferSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l, lines := newWorld(), new(library), logged(t, "warnings")
		l.has(t, "example.org.", 5, "example.org. 3600 DNSKEY 257 3 13 AAAA")
		p := w.startPrimary(t, l, three+"}")
		wait(time.Minute)
		if _, err := p.transfers.transfer("example.org.", 0); !errors.Is(err, transfer.ErrNotAuthoritative) {
			t.Errorf("Transfer: %v, want it left to the next plugin", err)
		}
		rec := new(written)
		_, _ = p.ServeDNS(t.Context(), rec, query(t, "nowhere.example.org. A"))
		if soa := rec.msgs[0].Ns[0].(*dns.SOA); soa.Serial != 5 {
			t.Errorf("SOA %s, want it as it is", soa)
		}
		if said := strings.Join(lines(), "\n"); strings.Count(said, "example.org. is signed already") != 1 {
			t.Errorf("The log is %s", said)
		}
	})
}

// A zone that the next plugins do not have any more is forgotten.
func TestTransferGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(), new(library)
		l.has(t, "example.org.", 5, "a.example.org. 5 A 192.0.2.25")
		p := w.startPrimary(t, l, three+"}")
		serial := p.serial(t)
		l.mu.Lock()
		delete(l.zones, "example.org.")
		l.mu.Unlock()
		wait(review)
		if n := len(*p.transfers.outgoing.Load()); n != 0 {
			t.Errorf("%d zones, want none", n)
		}
		l.has(t, "example.org.", 5, "a.example.org. 5 A 192.0.2.25")
		wait(review + together)
		if now := p.serial(t); !isAfter(now, serial) {
			t.Errorf("Serial %d when it is back, %d before", now, serial)
		}
	})
}

// A reload goes on where the Corefile before was.
func TestTransferReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l, m := newWorld(), new(library), monitor.New(nil)
		l.has(t, "example.org.", 5, "mail.example.org. 3600 A 192.0.2.25")
		one := w.newPrimary(t, m, nil, l, three+"}")
		one.g.start()
		wait(together + time.Millisecond)
		serial := one.serial(t)
		w.set("down", "192.0.2.1")
		wait(wayDown + together)
		later := one.serial(t)

		process.mu.Lock()
		process.reloading = one.g
		process.mu.Unlock()
		two := w.newPrimary(t, m, one, l, three+"}\nfailover more.example.org 192.0.2.7:443")
		two.g.start()
		if n := two.notifies(); n != 0 {
			t.Errorf("%d NOTIFY before it answers", n)
		}
		one.g.reloaded()
		wait(together + time.Millisecond)
		if now := two.serial(t); !isAfter(now, later) {
			t.Errorf("Serial %d after a reload that changes the zone, %d before", now, later)
		}
		if n := two.notifies(); n != 1 {
			t.Errorf("%d NOTIFY after a reload that changes the zone, want 1", n)
		}
		rrs, err := two.transfers.transfer("example.org.", serial)
		if err != nil || !strings.Contains(inWords(rrs), "more.example.org. 7 A 192.0.2.7") || strings.Contains(inWords(rrs), "mail.example.org.") {
			t.Errorf("IXFR over a reload: %s %v", inWords(rrs), err)
		}

		// One that fails further on, and one that changes nothing.
		for _, takes := range []bool{false, true} {
			before, notifies := two.serial(t), two.notifies()
			process.mu.Lock()
			process.reloading = two.g
			process.mu.Unlock()
			three := w.newPrimary(t, m, two, l, three+"}\nfailover more.example.org 192.0.2.7:443")
			three.g.start()
			if takes {
				two.g.reloaded()
			} else {
				two.g.reloadFailed()
			}
			wait(time.Minute)
			if takes {
				two, notifies = three, 0
			}
			if now := two.serial(t); now != before || two.notifies() != notifies {
				t.Errorf("Serial %d after a reload without a change, %d before; %d NOTIFY", now, before, two.notifies()-notifies)
			}
		}
		w.set("", "192.0.2.1")
		wait(wayUp + together)
		if n := two.notifies(); n != 1 {
			t.Errorf("%d NOTIFY after two reloads, want 1", n)
		}
	})
}

// The next plugins' denials have the serial that goes out, and keep their TTL.
func TestNumbered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(), new(library)
		l.has(t, "example.org.", 5, "mail.example.org. 3600 A 192.0.2.25")
		p := w.startPrimary(t, l, three+"fallback none\n}")
		serial := p.serial(t)
		given := l.zones["example.org."][0].String()
		for _, question := range []string{"nowhere.example.org. A", "www.example.org. AAAA", "www.example.org. TXT", "a.b.example.org. MX"} {
			rec := new(written)
			if _, err := p.ServeDNS(t.Context(), rec, query(t, question)); err != nil {
				t.Fatal(err)
			}
			soa, ok := rec.msgs[0].Ns[0].(*dns.SOA)
			if !ok || soa.Serial != serial || soa.Minttl != 300 {
				t.Errorf("%s: %s, want the serial %d", question, rec.msgs[0].Ns[0], serial)
			}
		}
		if after := l.zones["example.org."][0].String(); after != given {
			t.Errorf("The next plugin's own record is %s, was %s", after, given)
		}
	})
}

// A zone under an overlay goes out with what works, and its addresses stay known without a query.
func TestTransferOverlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(), new(library)
		l.has(t, "example.org.", 5, "www.example.org. 3600 A 192.0.2.1, www.example.org. 3600 A 192.0.2.2, mail.example.org. 3600 A 192.0.2.3, "+
			"www.example.org. 3600 MX 1 mail.example.org., cut.example.org. 3600 NS ns.cut.example.org., ns.cut.example.org. 3600 A 192.0.2.1")
		p := w.startPrimary(t, l, "failover {\nfrom next\nprobe tcp://:443\nfallback servfail\n}")
		wait(2 * review)
		serial := p.serial(t)
		w.set("down", "192.0.2.1", "192.0.2.3")
		wait(wayDown + together)
		got := p.axfr(t, "example.org.")
		for _, want := range []string{"www.example.org. 6 A 192.0.2.2", "mail.example.org. 7 A 192.0.2.3", "www.example.org. 3600 MX 1 mail.example.org.", "ns.cut.example.org. 3600 A 192.0.2.1"} {
			if !strings.Contains(got, want) {
				t.Errorf("Without %q:\n%s", want, got)
			}
		}
		if strings.Contains(got, "www.example.org. 7 A 192.0.2.1") {
			t.Errorf("With what is down:\n%s", got)
		}
		if now := p.serial(t); !isAfter(now, serial) {
			t.Errorf("Serial %d after %d", now, serial)
		}
		wait(time.Hour)
		if got := p.axfr(t, "example.org."); strings.Contains(got, "www.example.org. 7 A 192.0.2.1") {
			t.Errorf("An hour later:\n%s", got)
		}
	})
}

// Of two zones one of which lies in the other each has its own names.
func TestTransferDeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(), new(library)
		l.has(t, "example.org.", 5, "sub.example.org. 3600 NS ns.example.net.")
		l.has(t, "sub.example.org.", 5, "mail.sub.example.org. 3600 A 192.0.2.25")
		p := w.startPrimary(t, l, "failover www.example.org www.sub.example.org 192.0.2.1:443")
		if got, want := p.axfr(t, "example.org."), "example.org. 3600 NS ns.example.net.\nsub.example.org. 3600 NS ns.example.net.\nwww.example.org. 7 A 192.0.2.1"; got != want {
			t.Errorf("The zone is\n%s\nwant\n%s", got, want)
		}
		if got, want := p.axfr(t, "sub.example.org."), "mail.sub.example.org. 3600 A 192.0.2.25\nsub.example.org. 3600 NS ns.example.net.\nwww.sub.example.org. 7 A 192.0.2.1"; got != want {
			t.Errorf("The zone is\n%s\nwant\n%s", got, want)
		}
		if n := p.notifies(); n != 2 {
			t.Errorf("%d NOTIFY at the start, want one for each zone", n)
		}
	})
}

// Sets may be large.
func TestDifferenceOfMany(t *testing.T) {
	var before, now []dns.RR
	for i := range 20_000 {
		rr := &dns.A{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: []byte{10, 0, byte(i >> 8), byte(i)}}
		before, now = append(before, rr), slices.Insert(now, 0, dns.RR(rr))
	}
	began := time.Now()
	deleted, added := rrset.Difference(setsOfZone(before), setsOfZone(now[1:]))
	if len(deleted) != 1 || len(added) != 0 || !rrset.SameData(before, now) || rrset.SameData(before, now[1:]) {
		t.Errorf("%d deleted and %d added, want one and none", len(deleted), len(added))
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("20,000 records in another order take %s", took)
	}
}

// BenchmarkEdition is what a flip costs in a server block with many pools.
func BenchmarkEdition(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			directives := strings.Builder{}
			directives.WriteString(authorities)
			for i := range n {
				fmt.Fprintf(&directives, "failover n%d.example.org 192.0.2.%d:443 192.0.2.%d:443\n", i, i%100, 100+i%100)
			}
			f := serving(b, directives.String(), nil)
			f.transfers = newTransfers(f.block, "test", []string{"example.org."}, nil, nil)
			o := (*f.transfers.outgoing.Load())["example.org."]
			if _, _, err := f.transfers.update(o, moved, nil); err != nil {
				b.Fatal(err)
			}
			for i := 0; b.Loop(); i++ {
				turn(f.pools[0], []string{"++", "-+"}[i%2])
				if _, _, err := f.transfers.update(o, moved, f.pools[:1]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
