package failover

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/pool"

	"github.com/miekg/dns"
)

// Two that see the same come to the same, and the primary hears of each transition once.
func TestReplicasAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := logbook(t)
		w, d := newWorld(), newDDNS(t)
		w.writesTo(t, d, writing+three+"}")
		wait(3 * time.Second) // so that they detect at different times
		w.writesTo(t, d, writing+three+"}")
		wait(time.Hour)
		for range 10 {
			w.set("down", "192.0.2.1")
			wait(wayDown + time.Second)
			d.at(t, "One fails", wwwA, "192.0.2.2")
			wait(10 * time.Minute)
			w.set("", "192.0.2.1")
			wait(wayUp + time.Second)
			d.at(t, "It is back", wwwA, "192.0.2.1 192.0.2.2")
			wait(10 * time.Minute)
		}
		if changes, _, writes := d.counts(); changes != 21 || writes > 2*21 {
			t.Errorf("%d changes by %d UPDATEs in 20 transitions, want 21", changes, writes)
		}
		if said := lines("[WARNING]"); len(said) > 0 {
			t.Errorf("Said of those that agree: %q", said)
		}
	})
}

// Two that start at once do not take each other for strangers.
func TestReplicasStartAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := logbook(t)
		w, d := newWorld(), newDDNS(t)
		a, _ := w.willWriteTo(t, d, nil, writing+three+"}")
		b, _ := w.willWriteTo(t, d, nil, writing+three+"}")
		go a.start()
		b.start()
		wait(time.Hour)
		d.at(t, "Started", wwwA, "192.0.2.1 192.0.2.2")
		if changes, _, _ := d.counts(); changes != 1 || len(lines("[WARNING]")) > 0 {
			t.Errorf("%d changes, and the log has %q", changes, lines("[WARNING]"))
		}
	})
}

// Two that do not see the same leave what the better view is, and do not fight.
func TestReplicasDisagree(t *testing.T) {
	for _, tc := range []struct {
		name  string
		block string
		a, b  []string // what is down for each
		want  string
	}{
		{"one sees one down", "}", []string{"192.0.2.1"}, nil, "192.0.2.1 192.0.2.2"},
		{"one sees both down", "}", []string{"192.0.2.1", "192.0.2.2"}, nil, "192.0.2.1 192.0.2.2"},
		{"one sees all down", "}", []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, []string{"192.0.2.1"}, "192.0.2.2"},
		{"one has no answer at all", "fallback none\n}", []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, []string{"192.0.2.1"}, "192.0.2.2"},
		{"each sees another down", "}", []string{"192.0.2.2"}, []string{"192.0.2.1"}, "192.0.2.1"},
	} {
		for _, swapped := range []bool{false, true} {
			t.Run(fmt.Sprint(tc.name, swapped), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lines := logbook(t)
					a, b, d := newWorld(), newWorld(), newDDNS(t)
					if swapped {
						tc.a, tc.b = tc.b, tc.a
					}
					a.writesTo(t, d, writing+three+tc.block)
					b.writesTo(t, d, writing+three+tc.block)
					wait(10 * time.Minute)
					a.set("down", tc.a...)
					wait(time.Minute)
					b.set("down", tc.b...)
					wait(4 * comparison)
					d.at(t, "Settled", wwwA, tc.want)
					before, _, _ := d.counts()
					if before > 8 {
						t.Errorf("%d changes until both are settled", before)
					}
					wait(time.Hour)
					d.at(t, "An hour later", wwwA, tc.want)
					if after, _, _ := d.counts(); after != before {
						t.Errorf("%d changes in an hour", after-before)
					}
					said := lines("another has written")
					if len(said) == 0 || len(said) > 2 {
						t.Errorf("The log has %q", said)
					}
					// They see the same again.
					a.set("", "192.0.2.1", "192.0.2.2", "192.0.2.3")
					b.set("", "192.0.2.1", "192.0.2.2", "192.0.2.3")
					wait(wayUp + 4*comparison)
					d.at(t, "All is well", wwwA, "192.0.2.1 192.0.2.2")
				})
			})
		}
	}
}

// What one has written that died is not for ever, unless it is nothing that the other is sure of.
func TestReplicasOneGone(t *testing.T) {
	for block, want := range map[string]string{"}": "192.0.2.2", "fallback none\n}": "192.0.2.1 192.0.2.2"} {
		synctest.Test(t, func(t *testing.T) {
			a, b, d := newWorld(), newWorld(), newDDNS(t)
			a.writesTo(t, d, writing+three+block)
			g, _ := b.writesTo(t, d, writing+three+block)
			wait(time.Minute)
			a.set("down", "192.0.2.1")
			if strings.Contains(block, "none") {
				a.set("down", "192.0.2.2", "192.0.2.3")
			}
			wait(4 * comparison)
			d.at(t, "Overruled", wwwA, "192.0.2.1 192.0.2.2")
			g.stop()
			wait(time.Hour)
			d.at(t, "An hour later", wwwA, "192.0.2.1 192.0.2.2")
			wait(2 * time.Hour)
			d.at(t, "Three hours later", wwwA, want)
			before, _, _ := d.counts()
			wait(oneDay)
			if after, _, _ := d.counts(); after != before {
				t.Errorf("%d changes in a day afterwards", after-before)
			}
		})
	}
}

// Those that are configured differently for good leave it, for ever longer.
func TestReplicasApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), newDDNS(t)
		w.writesTo(t, d, writing+"failover www.example.org 192.0.2.1:443")
		w.writesTo(t, d, writing+"failover www.example.org 192.0.2.2:443")
		wait(oneDay)
		if changes, _, _ := d.counts(); changes > 50 {
			t.Errorf("%d changes in a day, want one in half an hour and a few more", changes)
		}
	})
}

func TestBetter(t *testing.T) {
	configs, err := configured("failover www.example.org {\nprimary 192.0.2.1:443 192.0.2.2:443 [2001:db8::1]:443\nbackup b=192.0.2.3:443 192.0.2.4:443\nsrv http\nhttps\n}", "example.org.")
	if err != nil {
		t.Fatal(err)
	}
	p := &configs[0].Pool
	// From the worst to the best.
	order := []string{
		"fallback A 192.0.2.66",
		"fallback A 192.0.2.1 A 192.0.2.2 A 192.0.2.3",
		"fallback A 192.0.2.2",
		"fallback A 192.0.2.1 A 192.0.2.2",
		"",
		"A 192.0.2.2 A 192.0.2.3",
		"A 192.0.2.1 A 192.0.2.3",
		"A 192.0.2.4",
		"A 192.0.2.3",
		"A 192.0.2.3 A 192.0.2.4",
		"AAAA 2001:db8::1",
		"A 192.0.2.2",
		"A 192.0.2.2 AAAA 2001:db8::1",
		"A 192.0.2.1 AAAA 2001:db8::1",
		"A 192.0.2.1 A 192.0.2.2",
		"A 192.0.2.1 A 192.0.2.2 AAAA 2001:db8::1",
		"A 192.0.2.1 A 192.0.2.2 AAAA 2001:db8::1 HTTPS 1_._ipv4hint=192.0.2.1_ipv6hint=2001:db8::1",
		"A 192.0.2.1 A 192.0.2.2 AAAA 2001:db8::1 HTTPS 1_._ipv4hint=192.0.2.1,192.0.2.2",
		"A 192.0.2.1 A 192.0.2.2 AAAA 2001:db8::1 HTTPS 1_._ipv4hint=192.0.2.1,192.0.2.2 HTTPS 2_b.www.example.org._ipv4hint=192.0.2.3",
		"A 192.0.2.1 A 192.0.2.2 AAAA 2001:db8::1 HTTPS 1_._ipv4hint=192.0.2.1,192.0.2.2_ipv6hint=2001:db8::1",
	}
	check(t, p, order)
	check(t, p, []string{
		"",
		"SRV 1_1_443_b.www.example.org.",
		"SRV 0_1_443_192-0-2-2.www.example.org.",
		"SRV 0_1_443_192-0-2-1.www.example.org.",
		"SRV 0_1_443_192-0-2-1.www.example.org. SRV 1_1_443_b.www.example.org.",
		"SRV 0_1_443_192-0-2-1.www.example.org. SRV 0_1_443_192-0-2-2.www.example.org.",
	})
}

// check sees that better has the contents in this order, whichever is first.
func check(t *testing.T, p *pool.Pool, order []string) {
	t.Helper()
	for i, worse := range order {
		for j, best := range order {
			a, b := contentOf(t, worse), contentOf(t, best)
			if got := better(&a, &b, p); got != (i > j) {
				t.Errorf("better(%q, %q) is %v", worse, best, got)
			}
		}
	}
}

// contentOf makes a content of pairs of type and data.
func contentOf(t *testing.T, text string) content {
	t.Helper()
	text, fallback := strings.CutPrefix(text, "fallback ")
	words := strings.Fields(text)
	sets := make(map[uint16][]dns.RR)
	for i := 0; i < len(words); i += 2 {
		rr, err := dns.NewRR("www.example.org. 5 " + words[i] + " " + strings.ReplaceAll(words[i+1], "_", " "))
		if err != nil {
			t.Fatal(err)
		}
		sets[rr.Header().Rrtype] = append(sets[rr.Header().Rrtype], rr)
	}
	return newContent(sets, fallback)
}

// It is a total order over whatever there is: of three there is no ring.
func TestBetterIsTotal(t *testing.T) {
	var p pool.Pool
	var addrs []netip.Addr
	for i := range 6 {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		addrs = append(addrs, addr)
		if i%2 == 0 && i < 5 {
			p.Tiers = append(p.Tiers, nil)
		}
		if i < 5 { // the last is no member
			p.Tiers[i/2] = append(p.Tiers[i/2], pool.Member{Addr: addr})
		}
	}
	some := func() *content {
		var used []netip.Addr
		for _, a := range addrs {
			if rand.IntN(2) == 0 {
				used = append(used, a)
			}
		}
		c := newContent(map[uint16][]dns.RR{dns.TypeA: records("www.example.org.", used, 5)}, rand.IntN(4) == 0)
		return &c
	}
	for range 3000 {
		a, b, c := some(), some(), some()
		same := a.hash == b.hash && a.fallback == b.fallback
		if better(a, b, &p) == better(b, a, &p) != same {
			t.Fatalf("%s and %s: neither is better, or both", a, b)
		}
		if better(a, b, &p) && better(b, c, &p) && !better(a, c, &p) {
			t.Fatalf("%s is better than %s, and that than %s, but the first not than the last", a, b, c)
		}
	}
}

// The hash is of the data, and of nothing else.
func TestContentHash(t *testing.T) {
	same := [][2]string{
		{"A 192.0.2.1 A 192.0.2.2", "A 192.0.2.2 A 192.0.2.1"},
		{"SRV 0_1_443_b.www.example.org.", "SRV 0_1_443_B.WWW.example.ORG."},
		{"HTTPS 1_._alpn=h2_port=8443", "HTTPS 1_._port=8443_alpn=h2"},
	}
	for _, s := range same {
		if a, b := contentOf(t, s[0]), contentOf(t, s[1]); a.hash != b.hash {
			t.Errorf("%s has the hash %s, and %s has %s", s[0], a.hash, s[1], b.hash)
		}
	}
	seen := make(map[string]string)
	for _, s := range []string{"", "A 192.0.2.1", "A 192.0.2.2", "A 192.0.2.1 A 192.0.2.2", "AAAA ::192.0.2.1", "A 192.0.2.1 HTTPS 1_."} {
		c := contentOf(t, s)
		if before, ok := seen[c.hash]; ok {
			t.Errorf("%q and %q have the same hash", before, s)
		}
		seen[c.hash] = s
	}
	c := contentOf(t, "fallback A 192.0.2.1")
	if hash, fallback, ok := readMarker(c.marker()); !ok || !fallback || hash != c.hash {
		t.Errorf("The marker %q is read as %q, %v, %v", c.marker(), hash, fallback, ok)
	}
	for text, want := range map[string]bool{"": false, "failover": true, "failover 0123": true, "failovers": false, "Failover": false, "v=spf1": false} {
		if _, _, ok := readMarker(text); ok != want {
			t.Errorf("%q as a marker is %v, want %v", text, ok, want)
		}
	}
}
