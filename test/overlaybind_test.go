package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// A zone that comes by transfer from BIND is put right like one in a file.
func TestOverlaySecondary(t *testing.T) {
	primary := bind(t, "allow-transfer { any; };", `zone example.org { type primary; file "db.example.org"; };`,
		map[string]string{"db.example.org": overlayZone}, "example.org.", dns.TypeSOA)
	hosts := threeKin(t)
	below := "secondary example.org {\n transfer from " + primary.addr + "\n}"
	s := start(t, block(over(hosts), below)+blockOn(beneath, below))
	eventually(t, bound, "the zone is there", func() bool {
		return len(s.ask("www.example.org.", dns.TypeA).Answer) > 0 &&
			len(exchange(t, s.udp(beneath), "udp", question("www.example.org.", dns.TypeA)).Answer) > 0
	})
	first := addresses(s.ask("www.example.org.", dns.TypeA)) // BIND sorts what it transfers
	taken(t, s, "example.org.", "up", 3, "www.example.org.")
	for _, name := range []string{"www.example.org.", "alias.example.org.", "absent.example.org.", "host.cut.example.org.", "example.org."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeSOA, dns.TypeMX} {
			wantSame(t, s, question(name, qtype), overlayTTL)
		}
	}
	dies(t, hosts[0])
	wantAddresses(t, withoutNS(s.ask("www.example.org.", dns.TypeA)), slices.DeleteFunc(slices.Clone(first), func(a string) bool { return a == "127.0.0.3" })...)
	returns(t, hosts[0])
	wantAddresses(t, withoutNS(s.ask("www.example.org.", dns.TypeA)), first...)
}

// forwarded are the addresses of an answer as a set, for BIND may turn them.
func forwarded(m *dns.Msg) string {
	addrs := addresses(m)
	slices.Sort(addrs)
	return strings.Join(addrs, " ")
}

// What BIND answers to forward is put right, and the TTLs that BIND lowers stay low.
func TestOverlayForward(t *testing.T) {
	upstream := bind(t, "", `zone example.org { type primary; file "db.example.org"; };`,
		map[string]string{"db.example.org": overlayZone}, "example.org.", dns.TypeSOA)
	hosts := threeKin(t)
	below := "forward . " + upstream.addr
	s := start(t, ".:0 {\n bind 127.0.0.1\n "+overNames(hosts, "example.org", "order sorted", "fallback none")+"\n "+below+"\n}\n.:0 {\n bind "+beneath+"\n "+below+"\n}")
	taken(t, s, "example.org.", "up", 3, "www.example.org.")
	for range 20 {
		wantAddresses(t, withoutNS(s.ask("www.example.org.", dns.TypeA)), "127.0.0.2", "127.0.0.3", "127.0.0.4")
	}
	for _, name := range []string{"www.example.org.", "absent.example.org.", "host.cut.example.org.", "example.org."} {
		for _, qtype := range []uint16{dns.TypeTXT, dns.TypeSOA, dns.TypeCAA} {
			wantSame(t, s, question(name, qtype), asIs) // the addresses that BIND adds are not there for the sake of the answer
		}
	}
	dies(t, hosts[0])
	wantAddresses(t, withoutNS(s.ask("wWw.example.org.", dns.TypeA)), "127.0.0.2", "127.0.0.4")
	wantRecords(t, s.ask("alias.example.org.", dns.TypeA), dns.RcodeSuccess, "alias.example.org. 3600 IN CNAME second.example.org.",
		"second.example.org. 1800 IN CNAME www.example.org.", "www.example.org. 5 IN A 127.0.0.2", "www.example.org. 5 IN A 127.0.0.4", "IN NS")
	wantRecords(t, s.ask("short.example.org.", dns.TypeA), dns.RcodeSuccess, "short.example.org. 1 IN A 127.0.0.2", "IN NS")
	wantRecords(t, s.ask("single.example.org.", dns.TypeA), dns.RcodeSuccess, "example.org. 5 "+fileSOA) // the upstream's SOA
	// ANY gives several sets, and is never nothing.
	m := exchange(t, s.tcp(), "tcp", question("www.example.org.", dns.TypeANY))
	if got := forwarded(m); got != "127.0.0.2 127.0.0.4 ::1 fe80::2" && got != "127.0.0.2 127.0.0.4 fe80::2" {
		t.Errorf("The addresses with ANY are %q, want those that are up", got)
	}
	m = s.ask("_http._tcp.example.org.", dns.TypeSRV)
	for _, rr := range m.Extra {
		if a, ok := rr.(*dns.A); ok && a.Hdr.Name == "www.example.org." && a.A.String() == "127.0.0.3" {
			t.Errorf("The answer to %s is\n%v\nwant no address that is down where others are up", title(m), m)
		}
	}
	// When the upstream is gone its failure is passed on.
	upstream.end()
	if m := s.ask("www.example.org.", dns.TypeTXT); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("Without the upstream the answer is\n%v\nwant SERVFAIL", m)
	}
}

// A BIND that signs, and one that validates: signed sets stay whole, and so good, and AD is for what is as it was.
func TestOverlayForwardSigned(t *testing.T) {
	needs(t, "delv")
	signer := bind(t, "", `zone example.org { type primary; file "db.example.org"; dnssec-policy default; inline-signing yes; };`,
		map[string]string{"db.example.org": overlayZone}, "example.org.", dns.TypeDNSKEY)
	key := signer.key(t)
	resolver := bind(t, "recursion yes; dnssec-validation yes;", fmt.Sprintf(
		`zone example.org { type forward; forward only; forwarders { 127.0.0.1 port %s; }; };
trust-anchors { example.org. static-key %d 3 13 "%s"; };`, signer.port, key.Flags, key.PublicKey), nil, "www.example.org.", dns.TypeA)
	trust := anchor(t, key)
	for what, upstream := range map[string]*nameserver{"authority": signer, "resolver": resolver} {
		t.Run(what, func(t *testing.T) {
			hosts := threeKin(t)
			s := start(t, ".:0 {\n bind 127.0.0.1\n "+overNames(hosts, "example.org", "order sorted", "fallback nxdomain")+"\n forward . "+upstream.addr+"\n}")
			taken(t, s, "example.org.", "up", 3, "www.example.org.")
			secured := func(name string, qtype uint16) *dns.Msg {
				query := secure(name, qtype)
				query.RecursionDesired, query.AuthenticatedData = true, true
				return exchange(t, s.tcp(), "tcp", query)
			}
			signed := func(want ...string) {
				t.Helper()
				for _, name := range []string{"www.example.org.", "alias.example.org."} {
					m := secured(name, dns.TypeA)
					verify(t, &dns.Msg{Answer: m.Answer}, key)
					if got := addresses(m); want != nil && !slices.Equal(got, want) || len(got) != 3 {
						t.Errorf("The signed addresses of %s are %v, want %v", name, got, want)
					}
				}
				wantValid(t, s, trust, "www.example.org.", "A", "; fully validated\nwww.example.org.")
			}
			signed("127.0.0.2", "127.0.0.3", "127.0.0.4")
			if m := secured("www.example.org.", dns.TypeTXT); m.AuthenticatedData != (what == "resolver") {
				t.Errorf("AD is %t for what the overlay has nothing to do with:\n%v", m.AuthenticatedData, m)
			}
			if m := secured("single.example.org.", dns.TypeA); m.AuthenticatedData != (what == "resolver") {
				t.Errorf("AD is %t where only a TTL is lower:\n%v", m.AuthenticatedData, m)
			}
			dies(t, hosts[0])
			signed("127.0.0.2", "127.0.0.4", "127.0.0.3")
			plain := question("www.example.org.", dns.TypeA)
			plain.RecursionDesired, plain.AuthenticatedData = true, true
			m := exchange(t, s.udp(), "udp", plain)
			if got := addresses(m); !slices.Equal(got, []string{"127.0.0.2", "127.0.0.4"}) || m.AuthenticatedData {
				t.Errorf("The answer without signatures is\n%v\nwant the two that are up, and no AD", m)
			}
			plain.Question[0].Name = "single.example.org."
			m = exchange(t, s.udp(), "udp", plain)
			if m.Rcode != dns.RcodeNameError || m.AuthenticatedData || len(m.Ns) != 1 {
				t.Errorf("The answer of the fallback is\n%v\nwant NXDOMAIN with one SOA, and no AD", m)
			}
			dies(t, hosts[1:]...)
			signed()
		})
	}
}

// key is the key that BIND has made to sign example.org.
func (n *nameserver) key(t testing.TB) *dns.DNSKEY {
	t.Helper()
	var key *dns.DNSKEY
	eventually(t, bound, "BIND has signed the zone", func() bool {
		m := exchange(t, n.addr, "tcp", secure("www.example.org.", dns.TypeA))
		return slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG })
	})
	for _, rr := range exchange(t, n.addr, "tcp", secure("example.org.", dns.TypeDNSKEY)).Answer {
		if k, ok := rr.(*dns.DNSKEY); ok {
			key = k
		}
	}
	if key == nil || key.Algorithm != dns.ECDSAP256SHA256 {
		t.Fatalf("The key of BIND is %v, want one for ECDSA", key)
	}
	return key
}
