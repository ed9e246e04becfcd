package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// A zone has one SOA record, and what is denied comes with that one, whoever says it (RFC 2308, section 3).
func TestPeerSOA(t *testing.T) {
	six := six(t)
	s := start(t, block("failover {\n ttl 2s\n}", upPool(t, "www.example.org"), "failover six.example.org "+six.addr,
		"file "+write(t, "db.example.org", resolverRest)+" example.org"))
	zone := s.ask("example.org.", dns.TypeSOA)
	for _, name := range []string{"www.example.org.", "six.example.org.", "absent.example.org."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX} {
			if m := s.ask(name, qtype); len(m.Answer) == 0 && set(m.Ns, false) != set(zone.Answer, false) {
				t.Errorf("With the answer to %s comes the SOA\n%s\nwant that of the zone\n%s", title(m), set(m.Ns, false), set(zone.Answer, false))
			}
		}
	}
}

// A family without addresses is denied for no longer than it has none, to those behind a resolver too, and whatever
// else it has been asked of the zone where that is BIND: Unbound shows the longest TTL of the SOA (README.md, Bugs).
func TestPeerNegativeTTL(t *testing.T) {
	s := start(t, block(fmt.Sprintf("failover {\n ttl %ds\n}", resolverTTL), upPool(t, "www.example.org"),
		"file "+write(t, "db.example.org", resolverRest)+" example.org"))
	for _, r := range resolvers(t, s.udp(), nil) {
		t.Run(r.name, func(t *testing.T) {
			types := []uint16{dns.TypeMX, dns.TypeAAAA, dns.TypeSRV, dns.TypeAAAA}
			if strings.Contains(strings.ToLower(r.name), "unbound") {
				types = []uint16{dns.TypeAAAA, dns.TypeAAAA}
			}
			for _, qtype := range types {
				m := r.ask(t, "www.example.org.", qtype)
				if len(m.Ns) != 1 || qtype == dns.TypeAAAA && m.Ns[0].Header().Ttl > resolverTTL {
					t.Errorf("The answer is\n%v\nwant a SOA with a TTL of at most %d", m, resolverTTL)
				}
			}
		})
	}
}
