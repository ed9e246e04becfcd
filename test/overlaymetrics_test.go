package test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// An overlay has the series of a pool, but for the tier, and those of what it does not probe.
func TestOverlayMetrics(t *testing.T) {
	hosts := threeKin(t)
	s := start(t, block(overNames(hosts, "www.example.org single.example.org absent.example.org", "fallback none"), overlayFile(t)))
	const pool = "pool=www.example.org."
	wantMetric(t, 0, "coredns_failover_members", pool)
	taken(t, s, "www.example.org.", "up", 3, "www.example.org.")
	dies(t, hosts[0])
	for labels, want := range map[string]float64{
		"coredns_failover_member_up " + pool + " member=127.0.0.3": 0,
		"coredns_failover_member_up " + pool + " member=127.0.0.2": 1,
		"coredns_failover_members " + pool + " status=up":          2,
		"coredns_failover_members " + pool + " status=down":        1,
		"coredns_failover_members " + pool + " status=unknown":     0,
		"coredns_failover_transitions_total " + pool + " to=up":    3,
		"coredns_failover_transitions_total " + pool + " to=down":  1,
	} {
		words := strings.Fields(labels)
		wantMetric(t, want, words[0], words[1:]...)
	}
	count := func(name string, labels ...string) float64 {
		n, _ := metric(t, name, append(labels, pool)...)
		return n
	}
	normal, fallback := count("coredns_failover_answers_total", "tier=0"), count("coredns_failover_answers_total", "tier=fallback")
	allow := count("coredns_failover_unprobed_total", "reason=allow")
	for range 3 {
		s.ask("www.example.org.", dns.TypeA)
		s.ask("single.example.org.", dns.TypeA)
		s.ask("www.example.org.", dns.TypeTXT)
		s.ask("absent.example.org.", dns.TypeA)
		s.ask("ns.example.org.", dns.TypeA) // not of the overlay
	}
	wantMetric(t, normal+3, "coredns_failover_answers_total", pool, "tier=0", "server=dns://127.0.0.1:0")
	wantMetric(t, fallback+3, "coredns_failover_answers_total", pool, "tier=fallback", "server=dns://127.0.0.1:0")
	wantMetric(t, allow, "coredns_failover_unprobed_total", pool, "reason=allow")
	s.ask("www.example.org.", dns.TypeAAAA) // ::1 may be probed, fe80::2 may not
	wantMetric(t, allow+1, "coredns_failover_unprobed_total", pool, "reason=allow")
	wantMetric(t, 0, "coredns_failover_unprobed_total", pool, "reason=limit")
	if _, ok := metric(t, "coredns_failover_tier", pool); ok {
		t.Error("An overlay has a tier")
	}
	s.stop()
	if names := seriesOf(t, "www.example.org."); len(names) > 0 {
		t.Errorf("There are still series of the overlay: %q", names)
	}
}

// numbered is a template whose names have the last two octets of their address in them.
const numbered = `template IN A example.org {
        match ^n(?P<a>[0-9]+)-(?P<b>[0-9]+)\.example\.org\.$
        answer "{{ .Name }} 60 IN A 127.7.{{ .Group.a }}.{{ .Group.b }}"
    }`

// However many names and addresses are asked for, an overlay keeps no more than its limit. What finds no room
// is answered as if there were no overlay, and counted.
func TestOverlayLimit(t *testing.T) {
	const n, limit = 2000, 100
	lines := record(t)
	s := start(t, block(fmt.Sprintf("failover {\n from next\n probe tcp://:9\n allow 127.0.0.0/8\n interval 10s\n limit %d\n fallback nxdomain\n}", limit), numbered)+
		blockOn(beneath, numbered))
	goroutines, _ := footprint(t)
	ask := func(i int) *dns.Msg {
		t.Helper()
		return s.ask(fmt.Sprintf("n%d-%d.example.org.", i/250, 1+i%250), dns.TypeA)
	}
	unprobed := 0
	for i := range n {
		m := ask(i)
		if len(m.Answer) != 1 && i >= limit {
			t.Fatalf("The answer to %s is\n%v\nwant its address", title(m), m)
		}
		if len(m.Answer) == 1 && m.Answer[0].Header().Ttl == 60 {
			unprobed++
		}
		if i%100 == 99 {
			if known, _ := metric(t, "coredns_failover_members", "pool=example.org."); known > limit {
				t.Fatalf("The overlay keeps %v addresses, want %d at most", known, limit)
			}
		}
	}
	wantMetric(t, limit, "coredns_failover_members", "pool=example.org.")
	over, _ := metric(t, "coredns_failover_unprobed_total", "pool=example.org.", "reason=limit")
	if int(over) != unprobed || over < n-2*limit {
		t.Errorf("%v addresses were counted as over the limit, and %d answered as such, of %d with a limit of %d", over, unprobed, n, limit)
	}
	if said := lines("[WARNING] plugin/failover: example.org. has reached its limit of 100"); len(said) != 1 {
		t.Errorf("The log has the limit as %q, want one line", said)
	}
	for _, i := range []int{n - 1, n / 2} {
		wantSame(t, s, question(fmt.Sprintf("n%d-%d.example.org.", i/250, 1+i%250), dns.TypeA), asIs)
	}
	// Those that there is room for are probed: nobody listens there, so these are down.
	eventually(t, bound, "those with room are down", func() bool {
		down, _ := metric(t, "coredns_failover_members", "pool=example.org.", "status=down")
		return down == limit
	})
	if m := ask(0); m.Rcode != dns.RcodeNameError {
		t.Errorf("The answer to %s is\n%v\nwant NXDOMAIN, for nobody listens there", title(m), m)
	}
	if now, _ := footprint(t); now > goroutines+100 {
		t.Errorf("There are %d goroutines for %d names, %d before", now, n, goroutines)
	}
}

// Names cost nothing: thousands with the same address are one member.
func TestOverlayNamesAreFree(t *testing.T) {
	hosts := kin(t, "127.0.0.2")
	s := start(t, block(over(hosts), "template IN A example.org {\n answer \"{{ .Name }} 60 IN A 127.0.0.2\"\n}"))
	for i := range 1000 {
		s.ask(fmt.Sprintf("name%d.example.org.", i), dns.TypeA)
	}
	taken(t, s, "example.org.", "up", 1)
	wantMetric(t, 1, "coredns_failover_members", "pool=example.org.")
	asked := hosts[0].probesOf()
	eventually(t, bound, "it is asked again", func() bool { return hosts[0].probesOf() > asked })
	if n := hosts[0].probesOf(); n > 200 {
		t.Errorf("The member was asked %d times for its names, want as often as for one", n)
	}
}

// Without allow an answer cannot make us probe this host, its link, or what a cloud tells its machines. Each of
// these comes as an answer; on the ones that are here somebody listens and counts.
func TestOverlayForbidden(t *testing.T) {
	six(t)
	var connections atomic.Int64
	port := freePort(t)
	for _, addr := range []string{"127.0.0.1", "127.0.0.2", "127.255.255.254", "::1"} {
		l, err := net.Listen("tcp", net.JoinHostPort(addr, port))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				connections.Add(1)
				conn.Close()
			}
		}()
	}
	four := []string{"127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.1.1", "224.0.0.1", "239.1.2.3",
		"255.255.255.255", "100.100.100.200", "168.63.129.16", "192.0.0.192", "240.0.0.1", "254.1.2.3", "192.0.0.8", "198.18.0.1", "198.19.255.254"}
	six := []string{"::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "fe80::1", "ff02::1", "fd00:ec2::254",
		"2001::1", "2001:2::1", "100::1", "5f00::1", "4000::1", "64:ff9b::f000:1", "2002:c612:1::1"}
	answer := stubbed(t, func(r *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(r)
		h := dns.RR_Header{Name: r.Question[0].Name, Rrtype: r.Question[0].Qtype, Class: dns.ClassINET, Ttl: 60}
		switch r.Question[0].Qtype {
		case dns.TypeA:
			for _, a := range four {
				m.Answer = append(m.Answer, &dns.A{Hdr: h, A: net.ParseIP(a)})
			}
		case dns.TypeAAAA:
			for _, a := range six {
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: h, AAAA: net.ParseIP(a)})
			}
		case dns.TypeHTTPS:
			m.Answer = reply(t, r, r.Question[0].Name+" 60 IN HTTPS 1 . ipv4hint="+strings.Join(four, ",")+" ipv6hint=::1,fe80::1").Answer
		case dns.TypeSRV:
			m.Answer = reply(t, r, r.Question[0].Name+" 60 IN SRV 0 0 80 www.example.org.").Answer
			for _, a := range four {
				m.Extra = append(m.Extra, reply(t, r, "www.example.org. 60 IN A "+a).Answer...)
			}
		}
		return m
	})
	quick := "interval 100ms\nrecheck 20ms\nprobe tcp://:" + port
	s := start(t, block("failover {\nfrom next\n"+quick+"\n}", answer)+blockOn(beneath, answer))
	count := 0
	for range 3 {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSRV} {
			wantSame(t, s, question("www.example.org.", qtype), asIs) // over UDP and TCP
			count += 2 * map[uint16]int{dns.TypeA: len(four), dns.TypeAAAA: len(six), dns.TypeHTTPS: len(four) + 2, dns.TypeSRV: len(four)}[qtype]
		}
	}
	wantMetric(t, float64(count), "coredns_failover_unprobed_total", "pool=example.org.", "reason=allow")
	wantMetric(t, 0, "coredns_failover_members", "pool=example.org.")
	still(t, "the listeners on this host", connections.Load)
	if n := connections.Load(); n > 0 {
		t.Errorf("There were %d connections to this host", n)
	}
	s.stop()

	// What is allowed is probed, and nothing else.
	s = start(t, block("failover {\nfrom next\n"+quick+"\nallow 127.0.0.1/32 ::1/128\n}", answer))
	s.ask("www.example.org.", dns.TypeAAAA)
	taken(t, s, "example.org.", "up", 2, "www.example.org.")
	wantMetric(t, 2, "coredns_failover_members", "pool=example.org.")
	for _, member := range []string{"127.0.0.1", "::1"} {
		wantMetric(t, 1, "coredns_failover_member_up", "pool=example.org.", "member="+member)
	}
	if got := addresses(s.ask("www.example.org.", dns.TypeA)); !slices.Equal(got, four) {
		t.Errorf("The addresses are %v, want %v", got, four)
	}
	s.stop()

	// An IPv4 address in IPv6 notation is not what it seems, so it is never probed, whatever is allowed.
	before := connections.Load()
	s = start(t, block("failover {\nfrom next\n"+quick+"\nallow ::/0\n}", stubbed(t, func(r *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(r)
		m.Answer = []dns.RR{&dns.AAAA{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: 60}, AAAA: net.ParseIP("::ffff:127.0.0.1")}}
		return m
	})))
	for range 3 {
		s.ask("www.example.org.", dns.TypeAAAA)
	}
	still(t, "the listener on 127.0.0.1", connections.Load)
	if n := connections.Load(); n > before {
		t.Errorf("There were %d connections to ::ffff:127.0.0.1", n-before)
	}
}
