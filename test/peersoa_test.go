package test

import (
	"fmt"
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

// A family without addresses is denied for no longer than it has none, to those behind a resolver too, whatever
// else the resolver has been asked of the zone.
func TestPeerNegativeTTL(t *testing.T) {
	s := start(t, block(fmt.Sprintf("failover {\n ttl %ds\n}", resolverTTL), upPool(t, "www.example.org"),
		"file "+write(t, "db.example.org", resolverRest)+" example.org"))
	for _, r := range resolvers(t, s.udp(), nil) {
		t.Run(r.name, func(t *testing.T) {
			for _, qtype := range []uint16{dns.TypeMX, dns.TypeAAAA, dns.TypeSRV, dns.TypeAAAA} {
				m := r.ask(t, "www.example.org.", qtype)
				if len(m.Ns) != 1 || qtype == dns.TypeAAAA && m.Ns[0].Header().Ttl > resolverTTL {
					t.Errorf("The answer is\n%v\nwant a SOA with a TTL of at most %d", m, resolverTTL)
				}
			}
		})
	}
}
