package test

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// loadbalance would undo the order, and is refused in the same server block.
func TestLoadbalance(t *testing.T) {
	pool := upPool(t, "www.example.org")
	_, err := attempt(t, block("loadbalance", "errors", pool))
	if err == nil {
		t.Fatal("CoreDNS starts with loadbalance and failover in one server block")
	}
	for _, want := range []string{"plugin/failover: Corefile:5 - ", "loadbalance", "server block of their own"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("The error is %q, want %q in it", err, want)
		}
	}
	s := start(t, block(pool)+"example.net:0 {\n bind 127.0.0.1\n loadbalance\n hosts {\n 192.0.2.1 www.example.net\n }\n}")
	for range 20 {
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
	}
	wantAddresses(t, s.ask("www.example.net.", dns.TypeA), "192.0.2.1")
}

// cache leaves the names of the pools alone and keeps what else there is in the block.
func TestCache(t *testing.T) {
	lines := record(t)
	hosts := members(t, usual...)
	s := start(t, block("cache 3600", fmt.Sprintf(
		"failover www.example.org %s %s {\n interval 400ms\n recheck 20ms\n ttl 60s\n}", hosts[0], hosts[1]), file(t)))
	hits := func() float64 {
		n, _ := metric(t, "coredns_cache_hits_total")
		return n
	}

	before := hits()
	for range 3 {
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
	}
	if now := hits(); now != before {
		t.Errorf("Cache has answered %v queries for a name of a pool", now-before)
	}
	for i, change := range []func(){hosts[0].stop, hosts[0].start, hosts[1].stop} {
		text := hosts[i/2].addr + ": " + []string{"up -> down", "down -> up"}[i%2]
		change()
		eventually(t, bound, text, func() bool { return len(lines(text)) == 1 })
		// The very next answer.
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), [][]string{usual[1:], usual, usual[:1]}[i]...)
	}

	before = hits()
	for range 3 {
		wantAddresses(t, s.ask("beside.example.org.", dns.TypeA), "192.0.2.1", "192.0.2.2")
	}
	if now := hits(); now != before+2 {
		t.Errorf("Cache has answered %v of three queries for another name, want two", now-before)
	}
}

// cache compares every query with each zone that it is to leave alone: there may be only a few,
// whatever the number of names, and they have to cover them all.
func TestCacheBypass(t *testing.T) {
	for _, tc := range []struct {
		n    int
		name string // with the number in place of %d
	}{
		{1, "www%d.example.org."}, {8, "www%d.example.org."}, {100, "www%d.example.org."}, {5000, "www%d.example.org."},
		{100, "www.customer%d.example.org."}, {100, "www.example%d.org."}, {5000, "*.w%d.example.org."},
	} {
		t.Run(fmt.Sprintf("%d %s", tc.n, tc.name), func(t *testing.T) {
			var names []string
			var corefile strings.Builder
			for i := range tc.n {
				names = append(names, fmt.Sprintf(tc.name, i))
				fmt.Fprintf(&corefile, "failover %s 127.0.0.2:80\n", names[i])
			}
			zones := bypass(t, corefile.String())
			if len(zones) == 0 || len(zones) > 8 {
				t.Errorf("%d zones for %d names, want from 1 to 8: %.200q", len(zones), tc.n, zones)
			}
			for _, name := range names {
				if !slices.ContainsFunc(zones, func(z string) bool { return dns.IsSubDomain(z, name) }) {
					t.Fatalf("%s is in none of %q", name, zones)
				}
			}
			if tc.n == 1 && !slices.Equal(zones, names) {
				t.Errorf("The zones are %q, want nothing but the name", zones)
			}
		})
	}
}

// bypass are the zones that cache is told to leave alone by the plugin as a Corefile's lines make it.
func bypass(t *testing.T, directives string) []string {
	t.Helper()
	setup, err := caddy.DirectiveAction("dns", "failover")
	if err != nil {
		t.Fatal(err)
	}
	c := caddy.NewTestController("dns", directives)
	c.ServerBlockKeys = []string{"org.:0"}
	if err := setup(c); err != nil {
		t.Fatal(err)
	}
	handler := dnsserver.GetConfig(c).Plugin[0](nil)
	return handler.(interface{ CacheBypassZones() []string }).CacheBypassZones()
}

// askFrom is a query over UDP from another address than usual.
func askFrom(t testing.TB, s *server, client, name string, qtype uint16) *dns.Msg {
	t.Helper()
	c := &dns.Client{Timeout: 5 * time.Second, Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(client)}}}
	m, _, err := c.Exchange(question(name, qtype), s.udp())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestACL(t *testing.T) {
	s := start(t, block("acl {\n block net 127.0.0.66/32\n filter net 127.0.0.67/32\n}", upPool(t, "www.example.org")))
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
	for _, qtype := range []uint16{dns.TypeA, dns.TypeANY, dns.TypeTXT} {
		wantRecords(t, askFrom(t, s, "127.0.0.66", "www.example.org.", qtype), dns.RcodeRefused)
		wantRecords(t, askFrom(t, s, "127.0.0.67", "www.example.org.", qtype), dns.RcodeSuccess)
	}
}

func TestTSIG(t *testing.T) {
	s := start(t, block("tsig {\n secret key.example.org. "+tsigSecret+"\n require all\n}", upPool(t, "www.example.org")))
	wantRecords(t, s.ask("www.example.org.", dns.TypeA), dns.RcodeRefused)
	for _, query := range []*dns.Msg{question("www.example.org.", dns.TypeA), question("www.example.org.", dns.TypeA).SetEdns0(1232, false)} {
		m := signedExchange(t, s.udp(), query)
		wantAddresses(t, m, usual...)
		if m.IsTsig() == nil {
			t.Errorf("The answer is not signed:\n%v", m)
		}
	}
}

func TestRewrite(t *testing.T) {
	s := start(t, block(
		"rewrite name exact into.example.org www.example.org",
		"rewrite name exact out.example.org beside.example.org answer auto",
		"rewrite ttl exact fast.example.org. 1",
		upPool(t, "www.example.org", "out.example.org", "fast.example.org"), file(t)))
	m := s.ask("into.example.org.", dns.TypeA)
	wantAddresses(t, m, usual...)
	for _, rr := range m.Answer {
		if rr.Header().Name != "into.example.org." {
			t.Errorf("An owner is %q, want the name as it was asked", rr.Header().Name)
		}
	}
	wantAddresses(t, s.ask("out.example.org.", dns.TypeA), "192.0.2.1", "192.0.2.2")
	for range 2 { // the records are the pool's and stay what they are
		m = s.ask("fast.example.org.", dns.TypeA)
		wantAddresses(t, m, usual...)
		if ttl := m.Answer[0].Header().Ttl; ttl != 1 {
			t.Errorf("The rewritten TTL is %d, want 1", ttl)
		}
		if ttl := s.ask("www.example.org.", dns.TypeA).Answer[0].Header().Ttl; ttl < 5 {
			t.Errorf("The TTL of the pool is %d after it was rewritten for another name, want at least 5", ttl)
		}
	}
}

func TestHeader(t *testing.T) {
	s := start(t, block("header {\n response set ra\n response clear aa\n}", upPool(t, "www.example.org"))+
		blockOn("127.0.0.53", upPool(t, "www.example.org")))
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		if m := s.ask("www.example.org.", qtype); !m.RecursionAvailable || m.Authoritative {
			t.Errorf("The header of the answer is not the one ordered:\n%v", m)
		}
	}
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
	if m := exchange(t, s.udp("127.0.0.53"), "udp", question("www.example.org.", dns.TypeA)); m.RecursionAvailable || !m.Authoritative {
		t.Errorf("The header of the answer in another block is\n%v", m)
	}
}

func TestMinimal(t *testing.T) {
	s := start(t, block("minimal", upPool(t, "www.example.org"), file(t)))
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
	wantRecords(t, s.ask("www.example.org.", dns.TypeTXT), dns.RcodeSuccess, `"of the zone file"`)
	wantRecords(t, s.ask("www.example.org.", dns.TypeAAAA), dns.RcodeSuccess, fileSOA)
	wantRecords(t, s.ask("absent.example.org.", dns.TypeAAAA), dns.RcodeNameError, fileSOA)
}

func TestDNS64(t *testing.T) {
	six := six(t)
	s := start(t, block("dns64 {\n allow_ipv4\n}", upPool(t, "www.example.org"), "failover six.example.org "+six.addr,
		downPool(t, "gone.example.org", "fallback nxdomain")))
	m := s.ask("www.example.org.", dns.TypeAAAA)
	wantAddresses(t, m, "64:ff9b::7f00:3", "64:ff9b::7f00:2")
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
	wantAddresses(t, s.ask("six.example.org.", dns.TypeAAAA), "::1")
	wantNegative(t, s.ask("gone.example.org.", dns.TypeAAAA), dns.RcodeNameError, "example.org.", 60)
}

// With any in the block it is any that answers.
func TestAnyPlugin(t *testing.T) {
	s := start(t, block("any", upPool(t, "www.example.org")))
	wantRecords(t, s.ask("www.example.org.", dns.TypeANY), dns.RcodeSuccess, "HINFO")
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
}

func TestNSID(t *testing.T) {
	s := start(t, block("nsid here", upPool(t, "www.example.org"), downPool(t, "gone.example.org")))
	query := question("www.example.org.", dns.TypeA).SetEdns0(1232, false)
	query.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_NSID{Code: dns.EDNS0NSID}}
	for _, name := range []string{"www.example.org.", "gone.example.org.", "gone.example.org."} {
		query.Question[0].Name = name
		m := exchange(t, s.udp(), "udp", query)
		var nsids, edes int
		for _, o := range m.IsEdns0().Option {
			switch o.Option() {
			case dns.EDNS0NSID:
				nsids++
			case dns.EDNS0EDE:
				edes++
			}
		}
		if want := map[string]int{"gone.example.org.": 1}[name]; nsids != 1 || edes != want || m.IsEdns0().UDPSize() != 1232 {
			t.Errorf("The OPT record for %s is %v, want one NSID and %d errors", name, m.IsEdns0(), want)
		}
	}
}

func TestBufsize(t *testing.T) {
	var all []string
	v4 := from("127.0.1.1", 50)
	for _, h := range members(t, v4...) {
		all = append(all, h.addr)
	}
	s := start(t, block("bufsize 600", "failover www.example.org "+strings.Join(all, " ")))
	answer := wire(t, connection(t, s, "udp"), question("www.example.org.", dns.TypeA).SetEdns0(4096, false))
	m := unpack(t, answer)
	if !m.Truncated || len(answer)+2 > 600 {
		t.Errorf("The answer has %d bytes and TC %t, want at most 600 and TC", len(answer)+2, m.Truncated)
	}
	wantAddresses(t, m, v4[:len(m.Answer)]...)
}

// log and errors see the queries, and metadata tells which pool and which of its tiers answered.
func TestLogMetadata(t *testing.T) {
	lines := record(t)
	host := member(t, "127.0.0.2")
	s := start(t, block("metadata", "errors", `log . "seen {name} {type} {rcode} pool={/failover/pool} tier={/failover/tier}"`,
		upPool(t, "www.example.org", "*.wild.example.org"),
		"failover backup.example.org {\n backup "+host.addr+"\n primary "+deadMember(t)+"\n fall 1\n}",
		downPool(t, "gone.example.org", "fallback next")))
	for _, tc := range []struct{ name, want string }{
		{"www.example.org.", "NOERROR pool=www.example.org. tier=0"},
		{"WWW.example.org.", "NOERROR pool=www.example.org. tier=0"},
		{"any.wild.example.org.", "NOERROR pool=www.example.org. tier=0"},
		{"backup.example.org.", "NOERROR pool=backup.example.org. tier=1"},
		{"gone.example.org.", "SERVFAIL pool=gone.example.org. tier=fallback"},
		{"wild.example.org.", "NOERROR pool=- tier=-"},
		{"absent.example.org.", "NXDOMAIN pool=- tier=-"},
	} {
		first := journal.end()
		s.ask(tc.name, dns.TypeA)
		want := "seen " + strings.ToLower(tc.name) + " A " + tc.want
		eventually(t, bound, want, func() bool { return len(journal.since(first, "[INFO] seen ")) == 1 })
		if line := journal.since(first, "[INFO] seen ")[0]; line != "[INFO] "+want {
			t.Errorf("The log says %q, want %q", line, want)
		}
	}
	if failed := lines("[ERROR] "); len(failed) != 1 || !regexp.MustCompile(`plugin/errors: 2 gone\.example\.org\. A: .*no next plugin found`).MatchString(failed[0]) {
		t.Errorf("The errors in the log are %q, want the one of gone.example.org", failed)
	}
}

// deadMember is an address where nobody listens.
func deadMember(t testing.TB) string {
	t.Helper()
	h := member(t, "127.0.0.4")
	h.stop()
	return h.addr
}

// prometheus counts the queries like those of any plugin, and failover counts by pool and tier.
func TestMetrics(t *testing.T) {
	s := start(t, block("prometheus 127.0.0.1:0", upPool(t, "metrics.example.org")))
	const server = "server=dns://127.0.0.1:0"
	for range 3 {
		s.ask("metrics.example.org.", dns.TypeA)
	}
	s.ask("metrics.example.org.", dns.TypeTXT)
	for _, tc := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"coredns_failover_answers_total", []string{server, "pool=metrics.example.org.", "tier=0"}, 3},
		{"coredns_failover_tier", []string{"pool=metrics.example.org."}, 0},
		{"coredns_failover_members", []string{"pool=metrics.example.org.", "status=up"}, 2},
		{"coredns_failover_members", []string{"pool=metrics.example.org.", "status=down"}, 0},
		{"coredns_failover_member_up", []string{"pool=metrics.example.org."}, 2},
	} {
		if got, ok := metric(t, tc.name, tc.labels...); !ok || got != tc.want {
			t.Errorf("%s%v is %v, %t, want %v", tc.name, tc.labels, got, ok, tc.want)
		}
	}
	s.stop()
	for _, name := range []string{"coredns_failover_answers_total", "coredns_failover_tier", "coredns_failover_members", "coredns_failover_member_up"} {
		if _, ok := metric(t, name, "pool=metrics.example.org."); ok {
			t.Errorf("%s is still there after the server", name)
		}
	}
}

// Many at once get the records that they share, through plugins that add to answers, while the answers
// change: the race detector sees who writes to them.
func TestConcurrent(t *testing.T) {
	lines := record(t)
	_, base := zoneKey(t)
	hosts := members(t, usual...)
	s := start(t, block("dnssec {\n key file "+base+"\n}", "nsid here", "cache", "rewrite ttl exact fast.example.org. 1", "log",
		fmt.Sprintf("failover www.example.org fast.example.org *.example.org %s %s {\n interval 400ms\n recheck 20ms\n}", hosts[0], hosts[1])))
	addr, stop := s.udp(), make(chan struct{})
	var wg sync.WaitGroup
	for _, name := range []string{"www.example.org.", "WWW.example.org.", "fast.example.org.", "any.example.org."} {
		for _, do := range []bool{false, true} {
			wg.Go(func() { askUntil(t, addr, stop, question(name, dns.TypeA).SetEdns0(1232, do)) })
		}
	}
	for _, change := range []struct {
		make func()
		text string
	}{{hosts[0].stop, "up -> down"}, {hosts[0].start, "down -> up"}} {
		change.make()
		eventually(t, bound, change.text, func() bool {
			return len(lines("plugin/failover: www.example.org. "+hosts[0].addr+": "+change.text)) == 1
		})
	}
	close(stop)
	wg.Wait()
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
}

// askUntil asks one query again and again. Every answer has addresses of the pool, in its order.
func askUntil(t *testing.T, addr string, stop <-chan struct{}, query *dns.Msg) {
	c := &dns.Client{Timeout: 5 * time.Second}
	for {
		select {
		case <-stop:
			return
		default:
		}
		query.Id = dns.Id()
		m, _, err := c.Exchange(query, addr)
		if err != nil {
			t.Errorf("No answer: %v", err)
			return
		}
		if got := addresses(m); !slices.Equal(got, usual) && !slices.Equal(got, usual[1:]) {
			t.Errorf("The answer is\n%v\nwant %v, or the last of them", m, usual)
			return
		}
	}
}
