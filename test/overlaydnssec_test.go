package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// anchor is a file for delv with the key of example.org.
func anchor(t testing.TB, key *dns.DNSKEY) string {
	t.Helper()
	return write(t, "anchor", fmt.Sprintf("trust-anchors {\n example.org. static-key %d 3 13 \"%s\";\n};\n", key.Flags, key.PublicKey))
}

// wantValid has BIND's validator look at the answer to a query.
func wantValid(t testing.TB, s *server, anchor, name, qtype, want string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(s.udp())
	out, err := exec.Command("delv", "@"+host, "-p", port, "-a", anchor, "+root=example.org", name, qtype).CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) {
		t.Errorf("Delv says of %s %s: %v\n%s\nwant %q", name, qtype, err, out, want)
	}
}

// What an overlay makes of an unsigned zone can be signed on its way out, before and after a member's death.
func TestOverlayDNSSEC(t *testing.T) {
	needs(t, "delv")
	key, base := zoneKey(t)
	trust := anchor(t, key)
	for _, fallback := range []string{"next", "nxdomain", "127.0.0.99"} {
		t.Run(fallback, func(t *testing.T) {
			hosts := threeKin(t)
			s := start(t, block("dnssec {\n key file "+base+"\n}", over(hosts, "fallback "+fallback), overlayFile(t)))
			taken(t, s, "example.org.", "up", 3, "www.example.org.")
			valid := func(want ...string) {
				t.Helper()
				for _, name := range []string{"www.example.org.", "alias.example.org."} {
					m := exchange(t, s.udp(), "udp", secure(name, dns.TypeA))
					verify(t, m, key)
					if got := addresses(m); !slices.Equal(got, append([]string{}, want...)) {
						t.Errorf("The addresses of %s are %v, want %v", name, got, want)
					}
					if len(want) > 0 {
						wantValid(t, s, trust, name, "A", "; fully validated\n"+name)
					}
				}
				verify(t, exchange(t, s.udp(), "udp", secure("absent.example.org.", dns.TypeA)), key)
			}
			valid("127.0.0.3", "127.0.0.2", "127.0.0.4")
			dies(t, hosts[0])
			valid("127.0.0.2", "127.0.0.4")
			dies(t, hosts[1:]...)
			switch fallback {
			case "next":
				valid("127.0.0.3", "127.0.0.2", "127.0.0.4")
			case "127.0.0.99":
				valid("127.0.0.99")
			default:
				valid()
				wantValid(t, s, trust, "www.example.org.", "A", "; negative response, fully validated")
			}
		})
	}
}

// signedFile signs overlayZone with the plugin sign, and returns the directive of the signed file. www has an
// address more in it: file appends signatures to its own slices where these have room, and does so for two
// queries at once, which is a race of its own.
func signedFile(t testing.TB, base string) string {
	t.Helper()
	dir := t.TempDir()
	s := start(t, "example.org:0 {\n bind 127.0.0.1\n sign "+write(t, "db.example.org", overlayZone+"www 3600 IN A 127.0.0.5\n")+
		" {\n key file "+base+"\n directory "+dir+"\n}\n whoami\n}")
	file := filepath.Join(dir, "db.example.org.signed")
	eventually(t, bound, "the zone is signed", func() bool {
		content, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(content), "RRSIG")
	})
	s.stop()
	return "file " + file + " example.org"
}

// Of a zone that is signed already nobody gets a part of a set that comes with its signature: those that are
// up come first. For clients that do not ask for signatures it is like any other.
func TestOverlaySigned(t *testing.T) {
	needs(t, "delv")
	key, base := zoneKey(t)
	trust, below := anchor(t, key), signedFile(t, base)
	for _, properties := range []string{"order fixed", "order sorted\nanswer 1\nfallback nxdomain", "min 4\nfallback none"} {
		t.Run(strings.ReplaceAll(properties, "\n", " "), func(t *testing.T) {
			hosts := kin(t, "127.0.0.3", "127.0.0.2", "127.0.0.4", "127.0.0.5")
			s := start(t, block(over(hosts, properties), below)+blockOn(beneath, below))
			taken(t, s, "example.org.", "up", 4, "www.example.org.")
			order := addresses(exchange(t, s.udp(beneath), "udp", question("www.example.org.", dns.TypeA))) // sign has its own
			if strings.Contains(properties, "sorted") {
				slices.Sort(order)
			}
			valid := func(want ...string) {
				t.Helper()
				for _, name := range []string{"www.example.org.", "alias.example.org."} {
					m := exchange(t, s.tcp(), "tcp", secure(name, dns.TypeA))
					verify(t, m, key)
					if got := addresses(m); !slices.Equal(got, want) || m.Rcode != dns.RcodeSuccess || ede(m) != nil {
						t.Errorf("The signed addresses of %s are %v, want %v:\n%v", name, got, want, m)
					}
					wantValid(t, s, trust, name, "A", "; fully validated\n"+name)
				}
				m := exchange(t, s.tcp(), "tcp", secure("example.org.", dns.TypeMX))
				verify(t, &dns.Msg{Answer: m.Answer, Ns: slices.DeleteFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT })}, key)
				verify(t, exchange(t, s.tcp(), "tcp", secure("svc.example.org.", dns.TypeHTTPS)), key)
			}
			valid(order...)
			dies(t, hosts[0])
			up := slices.DeleteFunc(slices.Clone(order), func(a string) bool { return a == "127.0.0.3" })
			plain := s.ask("www.example.org.", dns.TypeA)
			switch {
			case strings.Contains(properties, "min 4"): // it is not usable any more
				valid(order...)
				wantRecords(t, plain, dns.RcodeSuccess, "IN SOA")
			case strings.Contains(properties, "answer 1"):
				valid(append(up, "127.0.0.3")...)
				wantAddresses(t, withoutNS(plain), up[:1]...)
			default:
				valid(append(up, "127.0.0.3")...)
				wantAddresses(t, withoutNS(plain), up...)
			}
			dies(t, hosts[1:]...)
			m := exchange(t, s.tcp(), "tcp", secure("www.example.org.", dns.TypeA))
			verify(t, m, key)
			if len(addresses(m)) != 4 {
				t.Errorf("The signed answer with all down is\n%v\nwant all addresses", m)
			}
			for _, name := range []string{"absent.example.org.", "any.wild.example.org."} {
				wantSame(t, s, secure(name, dns.TypeTXT), asIs)
			}
		})
	}
}
