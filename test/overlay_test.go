package test

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// overlayZone is example.org with addresses that can be probed. No set of them is in the order of its
// addresses.
const overlayZone = `$ORIGIN example.org.
@              3600 IN SOA   ns.example.org. hostmaster.example.org. 2026110101 7200 1800 86400 300
               3600 IN NS    ns.example.org.
               3600 IN MX    10 www.example.org.
               3600 IN MX    20 single.example.org.
ns             3600 IN A     127.0.0.4
www            3600 IN A     127.0.0.3
www            3600 IN A     127.0.0.2
www            3600 IN A     127.0.0.4
www            3600 IN AAAA  ::1
www            3600 IN AAAA  fe80::2
www            3600 IN TXT   "of the zone file"
short             1 IN A     127.0.0.3
short             1 IN A     127.0.0.2
single         3600 IN A     127.0.0.3
single         3600 IN TXT   "alone"
alias          3600 IN CNAME second.example.org.
second         1800 IN CNAME www.example.org.
out            3600 IN CNAME www.example.net.
*.wild         3600 IN A     127.0.0.3
*.wild         3600 IN A     127.0.0.2
_http._tcp     3600 IN SRV   0 0 80 www.example.org.
_http._tcp     3600 IN SRV   1 0 80 single.example.org.
cut            3600 IN NS    ns.cut.example.org.
ns.cut         3600 IN A     127.0.0.3
ns.cut         3600 IN A     127.0.0.2
into           3600 IN CNAME host.cut.example.org.
svc            3600 IN HTTPS 1 . alpn=h2 ipv4hint=127.0.0.3,127.0.0.2
`

// hostsLines are some of overlayZone as hosts has it.
const hostsLines = `hosts {
        127.0.0.3 www.example.org
        127.0.0.2 www.example.org
        127.0.0.4 www.example.org
        ::1 www.example.org
        fe80::2 www.example.org
        127.0.0.3 single.example.org
    }`

// templateLines are some of overlayZone as template has it.
const templateLines = `template IN A example.org {
        match ^www\.example\.org\.$
        answer "{{ .Name }} 3600 IN A 127.0.0.3"
        answer "{{ .Name }} 3600 IN A 127.0.0.2"
        answer "{{ .Name }} 3600 IN A 127.0.0.4"
        fallthrough
    }
    template IN A example.org {
        match ^single\.example\.org\.$
        answer "{{ .Name }} 3600 IN A 127.0.0.3"
        fallthrough
    }
    template IN AAAA example.org {
        match ^www\.example\.org\.$
        answer "{{ .Name }} 3600 IN AAAA ::1"
        answer "{{ .Name }} 3600 IN AAAA fe80::2"
        fallthrough
    }
    template IN ANY example.org {
        match ^any\.example\.org\.$
        answer "{{ .Name }} 3600 IN A 127.0.0.3"
        answer "{{ .Name }} 3600 IN A 127.0.0.2"
        answer "{{ .Name }} 3600 IN TXT between"
        answer "{{ .Name }} 3600 IN AAAA ::1"
        fallthrough
    }
    template IN ANY example.org {
        rcode NXDOMAIN
        authority "example.org. 60 IN SOA ns.example.org. hostmaster.example.org. 1 7200 1800 86400 60"
    }`

// beneath is the address where the plugins of a test answer without an overlay over them.
const beneath = "127.0.0.53"

// overlayTTL is the longest that an address keeps in the tests' overlays.
const overlayTTL = 5

// overlayFile is the directive of overlayZone as a zone file.
func overlayFile(t testing.TB) string {
	t.Helper()
	return "file " + write(t, "db.example.org", overlayZone) + " example.org"
}

// kin are members that listen on the same port of different addresses: there is none in what an overlay
// takes its members from.
func kin(t testing.TB, addrs ...string) []*host {
	t.Helper()
	hosts := members(t, addrs[:1]...)
	_, port, _ := net.SplitHostPort(hosts[0].addr)
	for _, addr := range addrs[1:] {
		hosts = append(hosts, member(t, net.JoinHostPort(addr, port)))
	}
	return hosts
}

// threeKin are the members that www.example.org of overlayZone has, in its order.
func threeKin(t testing.TB) []*host {
	t.Helper()
	return kin(t, "127.0.0.3", "127.0.0.2", "127.0.0.4")
}

// over is the directive of an overlay over the whole server block, with times that let a test go on.
func over(hosts []*host, properties ...string) string { return overNames(hosts, "", properties...) }

// overNames is the same for some names.
func overNames(hosts []*host, names string, properties ...string) string {
	_, port, _ := net.SplitHostPort(hosts[0].addr)
	return fmt.Sprintf("failover %s {\n        from next\n        probe http://example.org:%s\n        interval 200ms\n        recheck 20ms\n"+
		"        allow 127.0.0.0/8 ::1/128\n        %s\n    }", names, port, strings.Join(properties, "\n        "))
}

// settles waits until the A records of a name are these addresses, in this order.
func settles(t testing.TB, s *server, name string, want ...string) {
	t.Helper()
	var got []string
	if !within(bound, func() bool { got = addresses(s.ask(name, dns.TypeA)); return slices.Equal(got, want) }) {
		t.Fatalf("The addresses of %s are %v after %v, want %v", name, got, bound, want)
	}
}

// dies stops members and waits until that is known. Those that nobody has asked for yet have to be asked for.
func dies(t testing.TB, hosts ...*host) {
	t.Helper()
	change(t, hosts, (*host).stop, "-> down")
}

// returns starts members and waits until that is known.
func returns(t testing.TB, hosts ...*host) {
	t.Helper()
	change(t, hosts, (*host).start, "-> up")
}

func change(t testing.TB, hosts []*host, what func(*host), text string) {
	t.Helper()
	lines := record(t)
	for _, h := range hosts {
		what(h)
	}
	for _, h := range hosts {
		host, _, _ := net.SplitHostPort(h.addr)
		eventually(t, bound, host+" is said to be "+text, func() bool {
			return slices.ContainsFunc(lines(" "+host+": "), func(line string) bool { return strings.Contains(line, text) })
		})
	}
}

// taken waits until so many members of a pool have a status, and asks for A records of names meanwhile.
func taken(t testing.TB, s *server, pool string, status string, n float64, names ...string) {
	t.Helper()
	eventually(t, bound, fmt.Sprintf("%v members of %s are %s", n, pool, status), func() bool {
		for _, name := range names {
			s.ask(name, dns.TypeA)
		}
		got, ok := metric(t, "coredns_failover_members", "pool="+pool, "status="+status)
		return ok && got == n
	})
}

// packed is a message as bytes, without its ID.
func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire[2:]
}

// wantSame checks that a query has the same answer as without the overlay, byte for byte. Only the addresses
// have a TTL of at most so much, where there is an answer.
func wantSame(t testing.TB, s *server, query *dns.Msg, ttl uint32) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		at, alone := s.udp(), s.udp(beneath)
		if network == "tcp" {
			at, alone = s.tcp(), s.tcp(beneath)
		}
		got, want := exchange(t, at, network, query), exchange(t, alone, network, query)
		for _, rr := range slices.Concat(want.Answer, want.Extra) {
			if h := rr.Header(); len(want.Answer) > 0 && (h.Rrtype == dns.TypeA || h.Rrtype == dns.TypeAAAA || h.Rrtype == dns.TypeHTTPS) {
				h.Ttl = min(h.Ttl, ttl)
			}
		}
		if !bytes.Equal(packed(t, got), packed(t, want)) {
			t.Errorf("The answer over %s is\n%v\nwant what the plugin says, with TTLs of %d at most,\n%v", network, got, ttl, want)
		}
	}
}

// asIs are the TTLs of what an overlay does not touch.
const asIs = 1<<31 - 1

// An overlay takes its members from whatever answers: those that are up are answered, in the plugin's own order.
func TestOverlay(t *testing.T) {
	for plugin, directive := range map[string]func(testing.TB) string{
		"file": overlayFile,
		"auto": func(t testing.TB) string {
			t.Helper()
			return "auto example.org {\n directory " + filepath.Dir(write(t, "db.example.org", overlayZone)) + "\n reload 0\n}"
		},
		"hosts":    func(testing.TB) string { return hostsLines },
		"template": func(testing.TB) string { return templateLines },
	} {
		t.Run(plugin, func(t *testing.T) {
			hosts := threeKin(t)
			below := directive(t)
			s := start(t, block(over(hosts), below)+blockOn(beneath, below))
			same := func() {
				t.Helper()
				for _, name := range []string{"www.example.org.", "wWw.Example.ORG.", "single.example.org.", "absent.example.org."} {
					for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeMX} {
						wantSame(t, s, question(name, qtype), overlayTTL)
						wantSame(t, s, secure(name, qtype), overlayTTL)
					}
				}
			}
			wantAddresses(t, withoutNS(s.ask("www.example.org.", dns.TypeA)), "127.0.0.3", "127.0.0.2", "127.0.0.4")
			same()
			hosts[0].stop()
			settles(t, s, "www.example.org.", "127.0.0.2", "127.0.0.4")
			// What has one address only keeps it: fallback next is the default.
			settles(t, s, "single.example.org.", "127.0.0.3")
			hosts[1].stop()
			settles(t, s, "www.example.org.", "127.0.0.4")
			hosts[2].stop()
			settles(t, s, "www.example.org.", "127.0.0.3", "127.0.0.2", "127.0.0.4")
			same()
			hosts[1].start()
			settles(t, s, "www.example.org.", "127.0.0.2")
			hosts[2].start()
			settles(t, s, "www.example.org.", "127.0.0.2", "127.0.0.4")
			hosts[0].start()
			settles(t, s, "www.example.org.", "127.0.0.3", "127.0.0.2", "127.0.0.4")
			same()
		})
	}
}

// withoutNS is a message without the authority section that some plugins add.
func withoutNS(m *dns.Msg) *dns.Msg {
	m.Ns = nil
	return m
}

// What has no addresses to put right is passed on byte for byte, and so is everything whose addresses may not
// be probed: those of the loopback interface, unless that is allowed.
func TestOverlayUntouched(t *testing.T) {
	names := []string{
		"example.org.", "www.example.org.", "WWW.Example.org.", "alias.example.org.", "second.example.org.", "out.example.org.",
		"any.wild.example.org.", "wild.example.org.", "_http._tcp.example.org.", "_tcp.example.org.", "cut.example.org.",
		"host.cut.example.org.", "into.example.org.", "svc.example.org.", "short.example.org.", "absent.example.org.", "any.example.org.",
	}
	types := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeSOA, dns.TypeNS, dns.TypeMX, dns.TypeSRV, dns.TypeHTTPS, dns.TypeDS, dns.TypeANY, dns.TypeCNAME}
	six(t)
	hosts := kin(t, "127.0.0.3", "127.0.0.2", "127.0.0.4", "::1")
	everything := strings.ReplaceAll(over(hosts), "allow 127.0.0.0/8 ::1/128", "")
	for what, tc := range map[string]struct {
		overlay string
		ttl     uint32
	}{
		"not allowed": {everything, asIs},
		"no room":     {over(hosts, "limit 1"), overlayTTL},
		"all up":      {over(hosts), overlayTTL},
	} {
		for plugin, below := range map[string]string{"file": overlayFile(t), "hosts": hostsLines, "template": templateLines} {
			t.Run(what+" "+plugin, func(t *testing.T) {
				s := start(t, block(tc.overlay, below)+blockOn(beneath, below))
				s.ask("single.example.org.", dns.TypeA) // the one for which there is room
				for _, name := range names {
					for _, qtype := range types {
						for _, query := range []*dns.Msg{question(name, qtype), secure(name, qtype)} {
							got, want := exchange(t, s.udp(), "udp", query), exchange(t, s.udp(beneath), "udp", query)
							if what == "not allowed" || len(want.Answer) == 0 {
								if !bytes.Equal(packed(t, got), packed(t, want)) {
									t.Errorf("The answer is\n%v\nwithout the overlay\n%v", got, want)
								}
								continue
							}
							for _, m := range []*dns.Msg{got, want} { // which of them are probed is not the question here
								for _, rr := range slices.Concat(m.Answer, m.Extra) {
									if h := rr.Header(); h.Rrtype == dns.TypeA || h.Rrtype == dns.TypeAAAA || h.Rrtype == dns.TypeHTTPS {
										h.Ttl = min(h.Ttl, tc.ttl)
									}
								}
							}
							if !bytes.Equal(packed(t, got), packed(t, want)) {
								t.Errorf("The answer is\n%v\nwithout the overlay\n%v", got, want)
							}
						}
					}
				}
			})
		}
	}
}

// A referral is passed on as it is, with its glue, also behind an alias that leads to it.
func TestOverlayReferral(t *testing.T) {
	hosts := threeKin(t)
	below := overlayFile(t)
	s := start(t, block(over(hosts), below)+blockOn(beneath, below))
	taken(t, s, "example.org.", "up", 3, "www.example.org.")
	dies(t, hosts[1])
	for _, name := range []string{"cut.example.org.", "host.cut.example.org.", "into.example.org."} {
		t.Run(name, func(t *testing.T) {
			wantSame(t, s, question(name, dns.TypeA), asIs)
			wantSame(t, s, secure(name, dns.TypeAAAA), asIs)
		})
	}
}

// The set at the end of a chain of aliases is put right, and a wildcard's. The chain stays.
func TestOverlayChain(t *testing.T) {
	hosts := threeKin(t)
	below := overlayFile(t)
	s := start(t, block(over(hosts), below)+blockOn(beneath, below))
	taken(t, s, "example.org.", "up", 3, "www.example.org.")
	dies(t, hosts[0])
	for _, network := range []string{"udp", "tcp"} {
		at := map[string]string{"udp": s.udp(), "tcp": s.tcp()}[network]
		for _, tc := range []struct {
			name string
			want []string
		}{
			{"www.example.org.", []string{"www.example.org. 5 IN A 127.0.0.2", "www.example.org. 5 IN A 127.0.0.4"}},
			{"WWW.example.ORG.", []string{"WWW.example.ORG. 5 IN A 127.0.0.2", "WWW.example.ORG. 5 IN A 127.0.0.4"}},
			{"alias.example.org.", []string{
				"alias.example.org. 3600 IN CNAME second.example.org.", "second.example.org. 1800 IN CNAME www.example.org.",
				"www.example.org. 5 IN A 127.0.0.2", "www.example.org. 5 IN A 127.0.0.4"}},
			{"out.example.org.", []string{"out.example.org. 3600 IN CNAME www.example.net."}},
			{"Any.Wild.example.org.", []string{"Any.Wild.example.org. 5 IN A 127.0.0.2"}},
			{"two.labels.wild.example.org.", []string{"two.labels.wild.example.org. 5 IN A 127.0.0.2"}},
			{"short.example.org.", []string{"short.example.org. 1 IN A 127.0.0.2"}},
			{"single.example.org.", []string{"single.example.org. 5 IN A 127.0.0.3"}},
		} {
			query := question(tc.name, dns.TypeA)
			got, plain := exchange(t, at, network, query), exchange(t, s.udp(beneath), "udp", query)
			if answer := texts(got.Answer); !slices.EqualFunc(answer, tc.want, strings.EqualFold) || got.Rcode != plain.Rcode ||
				!slices.Equal(texts(got.Ns), texts(plain.Ns)) || got.Authoritative != plain.Authoritative {
				t.Errorf("The answer over %s is\n%v\nwant %q and the rest as in\n%v", network, got, tc.want, plain)
			}
			if n := len(got.Answer); n > 0 && got.Answer[0].Header().Name != plain.Answer[0].Header().Name {
				t.Errorf("The owner is %q, want it as without the overlay: %q", got.Answer[0].Header().Name, plain.Answer[0].Header().Name)
			}
		}
	}
}

// texts are records as a zone file has them.
func texts(rrs []dns.RR) []string {
	lines := make([]string, 0, len(rrs))
	for _, rr := range rrs {
		lines = append(lines, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	return lines
}

// Addresses that come along are put right as well, but never to nothing, whatever the fallback is.
func TestOverlayAdditional(t *testing.T) {
	for _, fallback := range []string{"next", "servfail"} {
		t.Run(fallback, func(t *testing.T) {
			hosts := threeKin(t)
			s := start(t, block(over(hosts, "fallback "+fallback), overlayFile(t)))
			taken(t, s, "example.org.", "up", 3, "www.example.org.")
			dies(t, hosts[0])
			want := func(qtype uint16, name string, want ...string) {
				t.Helper()
				m := exchange(t, s.udp(), "udp", question(name, qtype).SetEdns0(1232, false))
				if e := ede(m); e != nil || m.Rcode != dns.RcodeSuccess {
					t.Errorf("The answer to %s is\n%v\nwant one without an error", title(m), m)
				}
				var got []string
				for _, rr := range slices.Concat(m.Answer, m.Extra) {
					if a, ok := rr.(*dns.A); ok {
						got = append(got, a.Hdr.Name+" "+a.A.String())
						if a.Hdr.Ttl > overlayTTL {
							t.Errorf("The TTL of %v is more than %d", a, overlayTTL)
						}
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("The addresses that come with %s are %q, want %q:\n%v", title(m), got, want, m)
				}
			}
			want(dns.TypeSRV, "_http._tcp.example.org.", "www.example.org. 127.0.0.2", "www.example.org. 127.0.0.4", "single.example.org. 127.0.0.3")
			want(dns.TypeMX, "example.org.", "www.example.org. 127.0.0.2", "www.example.org. 127.0.0.4", "single.example.org. 127.0.0.3")
			dies(t, hosts[1:3]...)
			want(dns.TypeSRV, "_http._tcp.example.org.", "www.example.org. 127.0.0.3", "www.example.org. 127.0.0.2", "www.example.org. 127.0.0.4", "single.example.org. 127.0.0.3")
			hint := s.ask("svc.example.org.", dns.TypeHTTPS)
			if got := texts(hint.Answer); len(got) != 1 || !strings.HasSuffix(got[0], `alpn="h2" ipv4hint="127.0.0.3,127.0.0.2"`) {
				t.Errorf("The record with the hint is %q, want all addresses in it", got)
			}
			returns(t, hosts[1])
			hint = s.ask("svc.example.org.", dns.TypeHTTPS)
			if got := texts(hint.Answer); len(got) != 1 || !strings.HasSuffix(got[0], `alpn="h2" ipv4hint="127.0.0.2"`) || hint.Answer[0].Header().Ttl > overlayTTL {
				t.Errorf("The record with the hint is %q, want the address that is up", got)
			}
			want(dns.TypeMX, "example.org.", "www.example.org. 127.0.0.2", "single.example.org. 127.0.0.3")
		})
	}
}

// ANY has several sets: each is put right, never to nothing, and stands where its first record stood.
func TestOverlayAny(t *testing.T) {
	six(t)
	hosts := kin(t, "127.0.0.3", "127.0.0.2", "::1")
	four, six := hosts[:2], hosts[2]
	s := start(t, block(over(four, "fallback nxdomain"), templateLines))
	want := func(want ...string) {
		t.Helper()
		m := s.ask("any.example.org.", dns.TypeANY)
		var got []string
		for _, rr := range m.Answer {
			got = append(got, dns.Field(rr, 1))
		}
		if m.Rcode != dns.RcodeSuccess || !slices.Equal(got, want) {
			t.Errorf("The answer is\n%v\nwant %q", m, want)
		}
	}
	want("127.0.0.3", "127.0.0.2", "between", "::1")
	taken(t, s, "example.org.", "up", 3)
	dies(t, four[0])
	want("127.0.0.2", "between", "::1")
	dies(t, six)
	want("127.0.0.2", "between", "::1")
	dies(t, four[1])
	want("127.0.0.3", "127.0.0.2", "between", "::1")
}

// The families do not know of each other: each is a set of its own.
func TestOverlayFamilies(t *testing.T) {
	six(t)
	hosts := kin(t, "127.0.0.3", "127.0.0.2", "127.0.0.4", "::1")
	s := start(t, block(over(hosts), overlayFile(t)))
	s.ask("www.example.org.", dns.TypeAAAA)
	taken(t, s, "example.org.", "up", 4, "www.example.org.")
	want6 := func(want ...string) {
		t.Helper()
		wantAddresses(t, s.ask("www.example.org.", dns.TypeAAAA), want...)
	}
	want6("::1", "fe80::2")
	dies(t, hosts[3])
	want6("fe80::2") // which may not be probed, and counts as up
	settles(t, s, "www.example.org.", "127.0.0.3", "127.0.0.2", "127.0.0.4")
	dies(t, hosts[0])
	settles(t, s, "www.example.org.", "127.0.0.2", "127.0.0.4")
	returns(t, hosts[3])
	want6("::1", "fe80::2")
	settles(t, s, "www.example.org.", "127.0.0.2", "127.0.0.4")
}

// Of a set that is too large for UDP the front of the order comes, with TC, and over TCP all of it.
func TestOverlayLarge(t *testing.T) {
	const n = 500
	addrs := from("127.0.8.1", n)
	var zone strings.Builder
	zone.WriteString(overlayZone)
	for _, a := range addrs {
		fmt.Fprintf(&zone, "large 3600 IN A %s\n", a)
	}
	hosts := kin(t, addrs...)
	below := "file " + write(t, "db.example.org", zone.String()) + " example.org"
	s := start(t, block(strings.Replace(over(hosts), "interval 200ms", "interval 1s", 1), below)+blockOn(beneath, below))
	truncated := func(want []string) {
		t.Helper()
		for _, size := range []uint16{0, 1232} {
			query := question("large.example.org.", dns.TypeA)
			if size > 0 {
				query.SetEdns0(size, false)
			}
			answer := wire(t, connection(t, s, "udp"), query)
			m := unpack(t, answer)
			if !m.Truncated || len(answer)+2 > max(int(size), 512) || len(m.Answer) < 25 {
				t.Errorf("The answer has %d bytes, TC %t and %d addresses, want at most %d bytes with TC", len(answer)+2, m.Truncated, len(m.Answer), max(size, 512))
			}
			wantAddresses(t, withoutNS(m), want[:len(m.Answer)]...)
		}
		m := exchange(t, s.tcp(), "tcp", question("large.example.org.", dns.TypeA))
		wantAddresses(t, m, want...)
		if m.Truncated {
			t.Error("The answer over TCP is truncated")
		}
	}
	truncated(addrs)
	wantSame(t, s, question("large.example.org.", dns.TypeA), overlayTTL)
	taken(t, s, "example.org.", "up", n, "large.example.org.")
	dies(t, hosts[0], hosts[2], hosts[499])
	left := slices.Concat(addrs[1:2], addrs[3:499])
	truncated(left)
}
