package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// What is said where too few of a set are up. The last of them to die is 127.0.0.4.
func TestOverlayFallback(t *testing.T) {
	const two, three, four = "127.0.0.2", "127.0.0.3", "127.0.0.4"
	for _, tc := range []struct {
		properties string
		rcode      int
		want       []string
		code       uint16
	}{
		{"", dns.RcodeSuccess, []string{three, two, four}, noEDE},
		{"fallback next\norder sorted\nanswer 1", dns.RcodeSuccess, []string{three, two, four}, noEDE},
		{"fallback all", dns.RcodeSuccess, []string{three, two, four}, dns.ExtendedErrorCodeOther},
		{"fallback all\norder sorted", dns.RcodeSuccess, []string{two, three, four}, dns.ExtendedErrorCodeOther},
		{"fallback all\nprefer 127.0.0.4/32\nanswer 2", dns.RcodeSuccess, []string{four, three}, dns.ExtendedErrorCodeOther},
		{"fallback primary", dns.RcodeSuccess, []string{three, two, four}, dns.ExtendedErrorCodeOther},
		{"fallback last", dns.RcodeSuccess, []string{four}, dns.ExtendedErrorCodeStaleAnswer},
		{"fallback last\nmin 2\norder sorted", dns.RcodeSuccess, []string{two, four}, dns.ExtendedErrorCodeStaleAnswer},
		{"fallback none", dns.RcodeSuccess, nil, dns.ExtendedErrorCodeOther},
		{"fallback nxdomain", dns.RcodeSuccess, nil, dns.ExtendedErrorCodeOther}, // it has AAAA records
		{"fallback servfail", dns.RcodeServerFailure, nil, dns.ExtendedErrorCodeOther},
		{"fallback refused", dns.RcodeRefused, nil, dns.ExtendedErrorCodeOther},
		{"fallback 127.0.0.99 127.0.0.98 ::9", dns.RcodeSuccess, []string{"127.0.0.99", "127.0.0.98"}, dns.ExtendedErrorCodeOther},
		{"fallback 127.0.0.99 127.0.0.98\norder sorted", dns.RcodeSuccess, []string{"127.0.0.98", "127.0.0.99"}, dns.ExtendedErrorCodeOther},
		{"fallback 127.0.0.99 127.0.0.98\nanswer 1\nttl 1s", dns.RcodeSuccess, []string{"127.0.0.99"}, dns.ExtendedErrorCodeOther},
		{"fallback ::9", dns.RcodeSuccess, nil, dns.ExtendedErrorCodeOther},
		{"fallback none\nttl 1s", dns.RcodeSuccess, nil, dns.ExtendedErrorCodeOther},
	} {
		t.Run(strings.ReplaceAll("default "+tc.properties, "\n", " "), func(t *testing.T) {
			hosts := threeKin(t)
			below := overlayFile(t)
			s := start(t, block(over(hosts, tc.properties), below)+blockOn(beneath, below))
			taken(t, s, "example.org.", "up", 3, "www.example.org.")
			if strings.Contains(tc.properties, "last") {
				dies(t, hosts[0])
				dies(t, hosts[1])
				dies(t, hosts[2])
			} else {
				dies(t, hosts...)
			}
			ttl := uint32(overlayTTL)
			if strings.Contains(tc.properties, "ttl 1s") {
				ttl = 1
			}
			for _, name := range []string{"www.example.org.", "wWw.example.org.", "alias.example.org."} {
				m := s.ask(name, dns.TypeA)
				var chain []string
				var addrs []dns.RR
				for _, rr := range m.Answer {
					switch h := rr.Header(); h.Rrtype {
					case dns.TypeCNAME:
						chain = append(chain, rr.(*dns.CNAME).Target)
					default:
						addrs = append(addrs, rr)
						if h.Name != "www.example.org." || h.Ttl > ttl { // file has its own case
							t.Errorf("The answer has %v, want the owner www.example.org. and a TTL of %d at most", rr, ttl)
						}
					}
				}
				if got := addresses(m); m.Rcode != tc.rcode || !slices.Equal(got, append([]string{}, tc.want...)) || len(got) != len(addrs) {
					t.Errorf("The answer to %s is\n%v\nwant %s with %v", title(m), m, dns.RcodeToString[tc.rcode], tc.want)
				}
				failed := tc.rcode == dns.RcodeServerFailure || tc.rcode == dns.RcodeRefused
				if want := map[bool]int{true: 2}[name == "alias.example.org." && !failed]; len(chain) != want {
					t.Errorf("The answer to %s has the chain %q, want %d links", title(m), chain, want)
				}
				switch {
				case failed:
					if len(m.Answer)+len(m.Ns)+len(m.Extra) > 0 || m.Authoritative {
						t.Errorf("The answer to %s is\n%v\nwant nothing but its rcode", title(m), m)
					}
				case len(tc.want) == 0:
					if len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA || !m.Authoritative ||
						!strings.Contains(texts(m.Ns)[0], fileSOA) || m.Ns[0].Header().Ttl > ttl {
						t.Errorf("The authority section for %s is %v, want the file's SOA with a TTL of %d at most", title(m), m.Ns, ttl)
					}
				default:
					if !slices.Equal(texts(m.Ns), []string{"example.org. 3600 IN NS ns.example.org."}) || !m.Authoritative {
						t.Errorf("The answer to %s is\n%v\nwant the rest as the file has it", title(m), m)
					}
				}
				if tc.code == noEDE {
					if e := ede(exchange(t, s.udp(), "udp", question(name, dns.TypeA).SetEdns0(1232, false))); e != nil {
						t.Errorf("The next plugin's answer comes with %v", e)
					}
					continue
				}
				_, text, _ := strings.Cut(strings.Split(tc.properties, "\n")[0], " ")
				if tc.code == dns.ExtendedErrorCodeStaleAnswer {
					text = ""
				}
				wantEDE(t, s, name, dns.TypeA, tc.code, text)
			}
			// Other types and families are as ever.
			wantSame(t, s, question("www.example.org.", dns.TypeTXT), asIs)
			wantSame(t, s, question("www.example.org.", dns.TypeCAA), asIs)
			wantSame(t, s, question("ns.cut.example.org.", dns.TypeA), asIs)
		})
	}
}

// noEDE stands for an answer without an Extended DNS Error.
const noEDE = 65535

// Where the next plugin has no SOA the one of a denial is ours.
func TestOverlayFallbackWithoutSOA(t *testing.T) {
	for _, tc := range []struct {
		fallback, keys, names, zone string
		rcode                       int
	}{
		{"none", "example.org:0", "", "example.org.", dns.RcodeSuccess},
		{"nxdomain", "example.org:0", "", "example.org.", dns.RcodeNameError},
		{"none", "example.org:0", "single.example.org", "example.org.", dns.RcodeSuccess},
		{"none", "org:0 example.org:0", "", "example.org.", dns.RcodeSuccess},
		{"none", ".:0", "", ".", dns.RcodeSuccess},
		{"none", ".:0", "example.org", "example.org.", dns.RcodeSuccess},
		{"::9", "example.org:0", "", "example.org.", dns.RcodeSuccess},
	} {
		t.Run(tc.fallback+" "+tc.keys+" "+tc.names, func(t *testing.T) {
			hosts := kin(t, "127.0.0.3")
			s := start(t, tc.keys+" {\n bind 127.0.0.1\n "+overNames(hosts, tc.names, "fallback "+tc.fallback)+"\n "+hostsLines+"\n}")
			s.ask("single.example.org.", dns.TypeA)
			dies(t, hosts[0])
			m := s.ask("single.example.org.", dns.TypeA)
			wantNegative(t, m, tc.rcode, tc.zone, overlayTTL)
			m = s.ask("Single.EXAMPLE.org.", dns.TypeA)
			if zone := "Single.EXAMPLE.org."[len("Single."):]; tc.zone != "." {
				wantNegative(t, m, tc.rcode, zone, overlayTTL)
			}
			wantEDE(t, s, "single.example.org.", dns.TypeA, dns.ExtendedErrorCodeOther, "fallback "+tc.fallback)
		})
	}
}

// A set is in fallback while another is not, though their names are the same pool's.
func TestOverlayFallbackOfOneSet(t *testing.T) {
	hosts := threeKin(t)
	s := start(t, block(over(hosts, "fallback nxdomain"), overlayFile(t)))
	const pool = "pool=example.org."
	taken(t, s, "example.org.", "up", 3, "www.example.org.")
	dies(t, hosts[0])
	count := func(tier string) float64 {
		n, _ := metric(t, "coredns_failover_answers_total", pool, "tier="+tier)
		return n
	}
	normal, fallback := count("0"), count("fallback")
	for range 3 {
		wantAddresses(t, withoutNS(s.ask("www.example.org.", dns.TypeA)), "127.0.0.2", "127.0.0.4")
		wantRecords(t, s.ask("single.example.org.", dns.TypeA), dns.RcodeNameError, fmt.Sprintf("example.org. %d %s", overlayTTL, fileSOA))
		wantRecords(t, s.ask("single.example.org.", dns.TypeTXT), dns.RcodeSuccess, `"alone"`, "IN NS")
		wantRecords(t, s.ask("absent.example.org.", dns.TypeA), dns.RcodeNameError, "example.org. 3600 "+fileSOA)
	}
	if n := count("0") - normal; n != 3 {
		t.Errorf("%v answers were counted for tier 0, want 3", n)
	}
	if n := count("fallback") - fallback; n != 3 {
		t.Errorf("%v answers were counted for the fallback, want 3", n)
	}
	returns(t, hosts[0])
	wantAddresses(t, withoutNS(s.ask("single.example.org.", dns.TypeA)), "127.0.0.3")
}

// A name is not gone while it has addresses of the other family (RFC 8020).
func TestOverlayFallbackOfOneFamily(t *testing.T) {
	hosts := kin(t, "127.0.0.3", "::1")
	zone := "$ORIGIN example.org.\n@ 3600 " + fileSOA + "\nmixed 60 IN A 127.0.0.3\nmixed 60 IN AAAA ::1\n"
	s := start(t, block(over(hosts, "fallback nxdomain"), "file "+write(t, "db.example.org", zone)+" example.org"))
	taken(t, s, "example.org.", "up", 1, "mixed.example.org.")
	wantAddresses(t, s.ask("mixed.example.org.", dns.TypeAAAA), "::1")
	dies(t, hosts[0])
	wantRecords(t, s.ask("mixed.example.org.", dns.TypeA), dns.RcodeSuccess, fmt.Sprintf("example.org. %d %s", overlayTTL, fileSOA))
	wantAddresses(t, s.ask("mixed.example.org.", dns.TypeAAAA), "::1")
	dies(t, hosts[1])
	wantRecords(t, s.ask("mixed.example.org.", dns.TypeA), dns.RcodeNameError, fmt.Sprintf("example.org. %d %s", overlayTTL, fileSOA))
}
