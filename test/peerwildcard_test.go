package test

import (
	"testing"

	"github.com/miekg/dns"
)

// peerStars is a zone file with wildcards around the names of pools.
const peerStars = `$ORIGIN example.org.
@          300 IN SOA ns.example.org. hostmaster.example.org. 2026110101 7200 1800 86400 300
@         3600 IN NS  ns.example.org.
ns        3600 IN A   192.0.2.53
*.star    3600 IN TXT "of the zone file's wildcard"
*.apps    3600 IN TXT "of both wildcards"
`

// A wildcard in the zone file does not take the addresses of pools away, and one of both the zone file and a pool
// has the records of both (RFC 4592, sections 2.2.1 and 2.2.2). It covers a name that exists for the sake of a pool
// in other types, though, and names below that, which it should not (section 3.3.1; README.md, Bugs): the zone file
// knows no pools. There the answer is that of the zone file alone.
func TestPeerWildcards(t *testing.T) {
	for _, tc := range []struct {
		about string
		pools []string
		names []string
	}{
		{"a name", []string{"pool.star.example.org"}, []string{"pool.star.example.org.", "beside.star.example.org."}},
		{"below a name", []string{"pool.star.example.org"}, []string{"below.pool.star.example.org.", "*.pool.star.example.org."}},
		{"an empty non-terminal", []string{"a.b.star.example.org"}, []string{"b.star.example.org.", "a.b.star.example.org."}},
		{"below an empty non-terminal", []string{"a.b.star.example.org"}, []string{"c.b.star.example.org.", "*.b.star.example.org."}},
		{"a wildcard above another", []string{"*.b.star.example.org"}, []string{"b.star.example.org.", "any.b.star.example.org.", "any.star.example.org."}},
		{"the same wildcard", []string{"*.apps.example.org"}, []string{"any.apps.example.org.", "two.any.apps.example.org.", "*.apps.example.org.", "apps.example.org."}},
		{"a name below the same wildcard", []string{"*.apps.example.org", "host.apps.example.org"},
			[]string{"host.apps.example.org.", "below.host.apps.example.org.", "any.apps.example.org."}},
	} {
		t.Run(tc.about, func(t *testing.T) {
			const alone = "127.0.0.53"
			zone := "file " + write(t, "db.example.org", peerStars) + " example.org"
			s := start(t, block("failover {\n ttl 30s\n}", upPool(t, tc.pools...), zone)+blockOn(alone, zone))
			static := peerStars
			for _, name := range tc.pools {
				for _, addr := range usual {
					static += name + ". 30 IN A " + addr + "\n"
				}
			}
			for _, program := range []string{"named", "nsd"} {
				p := authority(t, program, home, static)
				for _, name := range tc.names {
					for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT} {
						got, want := s.ask(name, qtype), exchange(t, p.addr, "udp", question(name, qtype))
						same := func(m *dns.Msg) bool {
							return got.Rcode == m.Rcode && set(got.Answer, true) == set(m.Answer, true)
						}
						ofPool := qtype != dns.TypeTXT && len(want.Answer) > 0
						if !same(want) && (ofPool || !same(exchange(t, s.udp(alone), "udp", question(name, qtype)))) {
							t.Errorf("The answer to %s is %s\n%s\nand that of %s %s\n%s", title(got), dns.RcodeToString[got.Rcode],
								set(got.Answer, true), program, dns.RcodeToString[want.Rcode], set(want.Answer, true))
						}
					}
				}
				p.end()
			}
		})
	}
}
