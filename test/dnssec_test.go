package test

import (
	"crypto"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zoneKey makes a key for example.org and returns it with the start of its two files' names.
func zoneKey(t testing.TB) (*dns.DNSKEY, string) {
	t.Helper()
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: "example.org.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	return key, keyFiles(t, key, private)
}

// keyFiles writes a key in BIND's format.
func keyFiles(t testing.TB, key *dns.DNSKEY, private crypto.PrivateKey) string {
	t.Helper()
	base := filepath.Join(t.TempDir(), "Kexample.org")
	for file, content := range map[string]string{".key": key.String() + "\n", ".private": key.PrivateKeyString(private)} {
		if err := os.WriteFile(base+file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return base
}

// verify checks that every set of records in the answer and authority sections has a signature, that
// all signatures are good, and that there is something to check.
func verify(t testing.TB, m *dns.Msg, key *dns.DNSKEY) {
	t.Helper()
	type set struct {
		owner string
		rtype uint16
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns} {
		sets := make(map[set][]dns.RR)
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeRRSIG {
				sets[set{h.Name, h.Rrtype}] = append(sets[set{h.Name, h.Rrtype}], rr)
			}
		}
		for of, rrs := range sets {
			signed := 0
			for _, rr := range section {
				sig, ok := rr.(*dns.RRSIG)
				if !ok || sig.Hdr.Name != of.owner || sig.TypeCovered != of.rtype {
					continue
				}
				signed++
				if err := sig.Verify(key, rrs); err != nil || !sig.ValidityPeriod(time.Now()) {
					t.Errorf("The signature of %s %s is not good: %v", of.owner, dns.Type(of.rtype), err)
				}
				if ttl := rrs[0].Header().Ttl; sig.Hdr.Ttl != ttl || sig.OrigTtl < ttl || int(sig.Labels) != dns.CountLabel(of.owner) {
					t.Errorf("The signature of %v is %v, want its TTL and number of labels", rrs[0], sig)
				}
			}
			if signed != 1 {
				t.Errorf("%s %s has %d signatures, want one:\n%v", of.owner, dns.Type(of.rtype), signed, m)
			}
		}
	}
	if len(m.Answer)+len(m.Ns) == 0 {
		t.Errorf("There is nothing that could be signed:\n%v", m)
	}
}

// signedBlock is a server block whose answers are signed, with the pools that the tests ask for.
func signedBlock(t testing.TB, base string, below ...string) string {
	t.Helper()
	return block(append([]string{
		"dnssec {\n key file " + base + "\n}",
		upPool(t, "www.example.org", "*.wild.example.org", "a.b.example.org"),
		downPool(t, "gone.example.org", "fallback none"),
		downPool(t, "no.example.org", "fallback nxdomain")}, below...)...)
}

// secure asks for signatures.
func secure(name string, qtype uint16) *dns.Msg { return question(name, qtype).SetEdns0(1232, true) }

// Everything that failover answers can be signed on its way out.
func TestDNSSEC(t *testing.T) {
	key, base := zoneKey(t)
	for _, below := range []string{"", file(t)} {
		s := start(t, signedBlock(t, base, below))
		for _, name := range []string{"www.example.org.", "wWw.Example.ORG.", "any.wild.example.org.", "two.labels.wild.example.org."} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeANY} {
				for range 3 { // the second from the cache of signatures
					m := exchange(t, s.udp(), "udp", secure(name, qtype))
					verify(t, m, key)
					m.Answer = m.Answer[:max(0, len(m.Answer)-1)] // the signature is last
					wantAddresses(t, m, usual...)
				}
			}
		}
		for _, tc := range []struct {
			name  string
			qtype uint16
		}{
			{"www.example.org.", dns.TypeAAAA},
			{"www.example.org.", dns.TypeCAA},
			{"WWW.example.org.", dns.TypeCAA},
			{"any.wild.example.org.", dns.TypeAAAA},
			{"b.example.org.", dns.TypeA},
			{"gone.example.org.", dns.TypeA},
			{"no.example.org.", dns.TypeA}, // dnssec makes NODATA of NXDOMAIN
			{"absent.example.org.", dns.TypeA},
			{"example.org.", dns.TypeMX},
		} {
			m := exchange(t, s.udp(), "udp", secure(tc.name, tc.qtype))
			verify(t, m, key)
			var soas, nsecs int
			for _, rr := range m.Ns {
				switch rr := rr.(type) {
				case *dns.SOA:
					soas++
				case *dns.NSEC:
					nsecs++
					for _, has := range rr.TypeBitMap {
						if has == tc.qtype {
							t.Errorf("%v says that %s is there", rr, title(m))
						}
					}
				}
			}
			if m.Rcode != dns.RcodeSuccess || len(m.Answer) > 0 || soas != 1 || nsecs != 1 {
				t.Errorf("The denial of %s is\n%v\nwant one SOA and one NSEC", title(m), m)
			}
		}
		if m := s.ask("www.example.org.", dns.TypeA); len(m.Answer) != len(usual) {
			t.Errorf("The answer for a client that does not want signatures is\n%v", m)
		}
		s.stop()
	}
}

// A transition is signed as well: what is answered then has a signature of its own.
func TestDNSSECTransition(t *testing.T) {
	lines := record(t)
	key, base := zoneKey(t)
	hosts := members(t, usual...)
	s := start(t, block("dnssec {\n key file "+base+"\n}",
		fmt.Sprintf("failover www.example.org %s %s {\n interval 400ms\n recheck 20ms\n}", hosts[0], hosts[1])))
	verify(t, exchange(t, s.udp(), "udp", secure("www.example.org.", dns.TypeA)), key)
	hosts[0].stop()
	eventually(t, bound, "a member is down", func() bool { return len(lines(hosts[0].addr+": up -> down")) == 1 })
	m := exchange(t, s.udp(), "udp", secure("www.example.org.", dns.TypeA))
	verify(t, m, key)
	if got := addresses(m); len(got) != 1 || got[0] != usual[1] {
		t.Errorf("The answer is %v, want %v", got, usual[1:])
	}
}

// BIND's validator agrees.
func TestDelv(t *testing.T) {
	needs(t, "delv")
	key, base := zoneKey(t)
	anchor := write(t, "anchor", fmt.Sprintf("trust-anchors {\n example.org. static-key 257 3 13 \"%s\";\n};\n", key.PublicKey))
	s := start(t, signedBlock(t, base, file(t)))
	host, port, _ := net.SplitHostPort(s.udp())
	for _, tc := range []struct{ name, qtype, want string }{
		{"www.example.org", "A", "; fully validated\nwww.example.org."},
		{"any.wild.example.org", "A", "; fully validated\nany.wild.example.org."},
		{"www.example.org", "TXT", "; fully validated\nwww.example.org."},
		{"www.example.org", "AAAA", "; negative response, fully validated"},
		{"www.example.org", "CAA", "; negative response, fully validated"},
		{"gone.example.org", "A", "; negative response, fully validated"},
		{"b.example.org", "A", "; negative response, fully validated"},
		{"absent.example.org", "A", "; negative response, fully validated"},
	} {
		cmd := exec.Command("delv", "@"+host, "-p", port, "-a", anchor, "+root=example.org", tc.name, tc.qtype)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), tc.want) {
			t.Errorf("Delv says of %s %s: %v\n%s\nwant %q", tc.name, tc.qtype, err, out, tc.want)
		}
	}
}
