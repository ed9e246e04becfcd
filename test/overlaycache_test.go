package test

import (
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// cache keeps what an overlay answers, for its TTL: so long, and no longer, it may be out of date.
func TestOverlayCache(t *testing.T) {
	hosts := threeKin(t)
	s := start(t, block("cache 3600", over(hosts), overlayFile(t))+blockOn(beneath, over(hosts), overlayFile(t)))
	taken(t, s, "example.org.", "up", 3, "short.example.org.", "ns.example.org.")
	exchange(t, s.udp(beneath), "udp", question("www.example.org.", dns.TypeA))
	hits := func() float64 {
		n, _ := metric(t, "coredns_cache_hits_total")
		return n
	}
	before, asked := hits(), time.Now()
	for range 4 {
		m := s.ask("www.example.org.", dns.TypeA)
		wantAddresses(t, withoutNS(m), "127.0.0.3", "127.0.0.2", "127.0.0.4")
		if ttl := m.Answer[0].Header().Ttl; ttl > overlayTTL {
			t.Errorf("The TTL is %d, want %d at most", ttl, overlayTTL)
		}
	}
	if n := hits() - before; n != 3 {
		t.Errorf("cache has answered %v of four queries, want three", n)
	}
	dies(t, hosts[0])
	wantAddresses(t, withoutNS(exchange(t, s.udp(beneath), "udp", question("www.example.org.", dns.TypeA))), "127.0.0.2", "127.0.0.4")
	for {
		m, now := s.ask("www.example.org.", dns.TypeA), time.Since(asked)
		if got := addresses(m); slices.Equal(got, []string{"127.0.0.2", "127.0.0.4"}) {
			break
		}
		if now > (overlayTTL+1)*time.Second {
			t.Fatalf("The answer of cache is %v after %s, want it gone after its TTL", m, now)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if zones := bypass(t, "failover {\n from next\n probe tcp://:443\n}"); len(zones) > 0 {
		t.Errorf("cache is told to leave %q alone, want nothing", zones)
	}
	if zones := bypass(t, "failover {\n from next\n probe tcp://:443\n}\nfailover www.example.org 127.0.0.2:80"); !slices.Equal(zones, []string{"www.example.org."}) {
		t.Errorf("cache is told to leave %q alone, want the name with addresses of its own", zones)
	}
}
