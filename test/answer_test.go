package test

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The header of an answer, its owner and what is not in it.
func TestAnswerHeader(t *testing.T) {
	s := start(t, block(upPool(t, "www.example.org")))
	for _, network := range []string{"udp", "tcp"} {
		for _, rd := range []bool{true, false} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeANY} {
				query := question("wWw.eXample.ORG.", qtype)
				query.RecursionDesired = rd
				m := unpack(t, wire(t, connection(t, s, network), query))
				if m.Rcode != dns.RcodeSuccess || !m.Response || !m.Authoritative || m.RecursionAvailable ||
					m.AuthenticatedData || m.Truncated || m.RecursionDesired != rd {
					t.Errorf("The header of the answer to %s with RD %t over %s is\n%v", title(query), rd, network, m)
				}
				if len(m.Extra) > 0 {
					t.Errorf("The additional section for %s is %v, want none without EDNS", title(query), m.Extra)
				}
				for _, rr := range m.Answer {
					if rr.Header().Name != "wWw.eXample.ORG." {
						t.Errorf("An owner is %q, want the name as it was asked", rr.Header().Name)
					}
				}
				if len(m.Question) != 1 || m.Question[0] != query.Question[0] {
					t.Errorf("The question in the answer is %v, want %v", m.Question, query.Question)
				}
			}
		}
	}
	m := exchange(t, s.udp(), "udp", question("www.example.org.", dns.TypeA).SetEdns0(1232, false))
	if opt := m.IsEdns0(); opt == nil || len(m.Extra) != 1 || len(opt.Option) > 0 {
		t.Errorf("The additional section is %v, want one OPT without options", m.Extra)
	}
}

// wantNegative checks an answer without data: the rcode and exactly one SOA, whose TTL and minimum are
// no longer than those of the pool's addresses.
func wantNegative(t testing.TB, m *dns.Msg, rcode int, zone string, ttl uint32) {
	t.Helper()
	if m.Rcode != rcode || !m.Authoritative || len(m.Answer) > 0 || len(m.Ns) != 1 {
		t.Errorf("The answer to %s is\n%v\nwant %s with one SOA", title(m), m, dns.RcodeToString[rcode])
		return
	}
	soa, ok := m.Ns[0].(*dns.SOA)
	if !ok || soa.Hdr.Name != zone {
		t.Errorf("The authority section for %s is %v, want the SOA of %s", title(m), m.Ns, zone)
		return
	}
	if soa.Hdr.Ttl == 0 || soa.Hdr.Ttl > ttl || soa.Minttl == 0 || soa.Minttl > ttl {
		t.Errorf("The SOA for %s is %v, want a TTL and a minimum from 1 to %d", title(m), soa, ttl)
	}
	if age := time.Now().Unix() - int64(soa.Serial); age < 0 || age > 600 {
		t.Errorf("The serial for %s is %d, want the time of the latest change", title(m), soa.Serial)
	}
}

// A name without the type that is asked for says so, with the SOA of the right zone.
func TestNoData(t *testing.T) {
	for _, tc := range []struct{ keys, name, zone string }{
		{"example.org:0", "www.example.org.", "example.org."},
		{"example.org:0 sub.example.org:0 org:0", "www.sub.example.org.", "sub.example.org."},
		{"sub.example.org:0 example.org:0", "www.example.org.", "example.org."},
		{".:0", "www.example.org.", "www.example.org."},
		{"example.org:0", "example.org.", "example.org."},
		{"www.example.org:0", "www.example.org.", "www.example.org."},
	} {
		t.Run(tc.keys+" "+tc.name, func(t *testing.T) {
			s := start(t, tc.keys+" {\n bind 127.0.0.1\n "+upPool(t, tc.name)+"\n}")
			positive := s.ask(tc.name, dns.TypeA)
			wantAddresses(t, positive, usual...)
			for _, qtype := range []uint16{dns.TypeAAAA, dns.TypeTXT, dns.TypeMX, dns.TypeHTTPS, dns.TypeSRV, dns.TypeCAA, dns.TypeDS, dns.TypeNSEC, 65280} {
				wantNegative(t, s.ask(tc.name, qtype), dns.RcodeSuccess, tc.zone, positive.Answer[0].Header().Ttl)
			}
			mixed := s.ask(strings.ToUpper(tc.name), dns.TypeTXT)
			wantNegative(t, mixed, dns.RcodeSuccess, strings.ToUpper(tc.zone), positive.Answer[0].Header().Ttl)
		})
	}
}

// The apex of a zone that nobody else has tells its SOA.
func TestApex(t *testing.T) {
	s := start(t, block(upPool(t, "www.example.org")))
	m := s.ask("example.org.", dns.TypeSOA)
	if len(m.Answer) != 1 || m.Answer[0].Header().Rrtype != dns.TypeSOA || len(m.Ns) > 0 || !m.Authoritative {
		t.Errorf("The answer is\n%v\nwant the SOA", m)
	}
	ns := s.ask("www.example.org.", dns.TypeTXT).Ns
	if len(ns) != 1 || len(m.Answer) != 1 || dns.Field(ns[0], 3) != dns.Field(m.Answer[0], 3) || dns.Field(ns[0], 1) != dns.Field(m.Answer[0], 1) {
		t.Errorf("The SOA with NODATA is %v, want the one of the apex, %v", ns, m.Answer)
	}
	wantNegative(t, s.ask("example.org.", dns.TypeA), dns.RcodeSuccess, "example.org.", 60)
}

// ANY is answered with the addresses of one family.
func TestAny(t *testing.T) {
	one, six := member(t, "127.0.0.2"), six(t)
	s := start(t, block(
		"failover both.example.org "+six.addr+" "+one.addr,
		"failover six.example.org "+six.addr,
		downPool(t, "none.example.org", "fallback none")))
	wantAddresses(t, s.ask("both.example.org.", dns.TypeANY), "127.0.0.2")
	wantAddresses(t, s.ask("both.example.org.", dns.TypeAAAA), "::1")
	wantAddresses(t, s.ask("six.example.org.", dns.TypeANY), "::1")
	wantNegative(t, s.ask("none.example.org.", dns.TypeANY), dns.RcodeSuccess, "example.org.", 60)
}

// A family whose members are all down has no data as long as the other one works.
func TestOneFamilyDown(t *testing.T) {
	lines := record(t)
	four, six := member(t, "127.0.0.2"), six(t)
	s := start(t, block("failover www.example.org "+four.addr+" "+six.addr+" {\n interval 400ms\n recheck 20ms\n}"))
	wantAddresses(t, s.ask("www.example.org.", dns.TypeAAAA), "::1")
	six.stop()
	eventually(t, bound, "the IPv6 member is down", func() bool { return len(lines(six.addr+": up -> down")) == 1 })
	wantNegative(t, s.ask("www.example.org.", dns.TypeAAAA), dns.RcodeSuccess, "example.org.", 60)
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2")
	wantAddresses(t, s.ask("www.example.org.", dns.TypeANY), "127.0.0.2")
}

// bound is how long a test waits for a transition: hundreds of milliseconds, were it not for machines
// that have something else to do.
const bound = 10 * time.Second

// What exists and what does not, where failover is the last to be asked.
func TestNames(t *testing.T) {
	s := start(t, block(
		upPool(t, "a.b.c.example.org"),
		upPool(t, "*.wild.example.org", "host.wild.example.org", "x.deep.wild.example.org", "*.host2.wild.example.org"),
		upPool(t, "*.x.y.example.org"),
	))
	const (
		data = iota
		nodata
		nxdomain
	)
	for name, want := range map[string]int{
		"a.b.c.example.org.":       data,
		"b.c.example.org.":         nodata, // an empty non-terminal
		"c.example.org.":           nodata,
		"example.org.":             nodata,
		"d.example.org.":           nxdomain,
		"z.b.c.example.org.":       nxdomain,
		"below.a.b.c.example.org.": nxdomain,

		"any.wild.example.org.":           data,
		"*.wild.example.org.":             data, // the asterisk itself
		"two.labels.wild.example.org.":    data,
		"*.any.wild.example.org.":         data,
		"host.wild.example.org.":          data,
		"below.host.wild.example.org.":    nxdomain, // the closest that exists has no wildcard
		"*.host.wild.example.org.":        nxdomain,
		"deep.wild.example.org.":          nodata, // exists, because x.deep.wild does
		"beside-x.deep.wild.example.org.": nxdomain,
		"wild.example.org.":               nodata,
		"host2.wild.example.org.":         nodata, // the parent of a wildcard
		"any.host2.wild.example.org.":     data,
		"x.y.example.org.":                nodata,
		"y.example.org.":                  nodata,
		"any.x.y.example.org.":            data,
		"any.y.example.org.":              nxdomain,
		"anywild.example.org.":            nxdomain, // no label of its own
	} {
		t.Run(name, func(t *testing.T) {
			for _, name := range []string{name, strings.ToUpper(name)} {
				m, text := s.ask(name, dns.TypeA), s.ask(name, dns.TypeTXT)
				zone := name[len(name)-len("example.org."):]
				switch want {
				case data:
					wantAddresses(t, m, usual...)
					if len(m.Answer) > 0 && m.Answer[0].Header().Name != name {
						t.Errorf("The owner is %q, want %q", m.Answer[0].Header().Name, name)
					}
					wantNegative(t, text, dns.RcodeSuccess, zone, 60)
				case nodata:
					wantNegative(t, m, dns.RcodeSuccess, zone, 60)
					wantNegative(t, text, dns.RcodeSuccess, zone, 60)
				case nxdomain:
					wantNegative(t, m, dns.RcodeNameError, zone, 60)
					wantNegative(t, text, dns.RcodeNameError, zone, 60)
				}
			}
		})
	}
}
