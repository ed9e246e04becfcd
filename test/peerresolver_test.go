package test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// resolverTTL is the TTL of the pools that resolvers ask for.
const resolverTTL = 2

// resolverRest is a zone file beside these pools.
const resolverRest = `$ORIGIN example.org.
@        300 IN SOA   ns.example.org. hostmaster.example.org. 2026110101 7200 1800 86400 300
@       3600 IN NS    ns.example.org.
ns      3600 IN A     127.0.0.1
www     3600 IN TXT   "of the zone file"
beside  3600 IN A     192.0.2.1
`

// resolver is a resolver in front of failover.
type resolver struct {
	*peer
	name      string
	validates bool
}

// resolvers starts one of each kind in front of a name server of example.org. With a key they validate.
func resolvers(t *testing.T, addr string, key *dns.DNSKEY) []resolver {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	front := func(name, program string, config func(at place) string) resolver {
		return resolver{startPeer(t, program, home, "example.org.", config), name, key != nil}
	}
	unbound := func(zone string) func(place) string {
		return func(at place) string {
			validate := `module-config: "iterator"`
			if key != nil {
				validate = fmt.Sprintf("module-config: \"validator iterator\"\n\ttrust-anchor: \"%s\"\n\taggressive-nsec: yes", key.String())
			}
			return fmt.Sprintf(`
server:
	directory: "%[1]s"
	chroot: ""
	username: ""
	pidfile: ""
	use-syslog: no
	interface: %[2]s@%[3]s
	outgoing-interface: %[2]s
	do-ip6: no
	do-not-query-localhost: no
	root-hints: "%[4]s"
	local-zone: "." refuse
	local-zone: "example.org." transparent
	use-caps-for-id: yes
	qname-minimisation: yes
	qname-minimisation-strict: yes
	harden-below-nxdomain: yes
	%[5]s
remote-control:
	control-enable: no
%[6]s
`, at.dir, at.host, at.port, at.file(t, "root", ". 3600 IN NS nowhere.invalid.\nnowhere.invalid. 3600 IN A "+home+"\n"), validate, zone)
		}
	}
	named := func(zone string) func(place) string {
		return func(at place) string {
			validate := "dnssec-validation no;\n};"
			if key != nil {
				validate = fmt.Sprintf("dnssec-validation yes; synth-from-dnssec yes;\n};\ntrust-anchors { example.org. static-key 257 3 13 \"%s\"; };", key.PublicKey)
			}
			root := at.file(t, "root", `$TTL 3600
. IN SOA nowhere.invalid. nobody.invalid. 1 7200 1800 86400 300
. IN NS nowhere.invalid.
nowhere.invalid. IN A `+host+`
example.org. IN NS ns.example.org.
ns.example.org. IN A `+host+"\n")
			// The port is that of the servers asked.
			return fmt.Sprintf(`
zone "." { type primary; file "%[1]s"; check-names ignore; };
%[2]s
options {
	directory "%[3]s"; pid-file none; session-keyfile none;
	port %[4]s; listen-on port %[5]s { %[6]s; }; listen-on-v6 { none; };
	query-source address %[6]s; recursion yes; notify no; max-cache-size 16m;
	empty-zones-enable no; trust-anchor-telemetry no; qname-minimization strict;
	%[7]s
controls { };
`, root, zone, at.dir, port, at.port, at.host, validate)
		}
	}
	return []resolver{
		front("Unbound with a stub zone", "unbound", unbound("stub-zone:\n\tname: example.org\n\tstub-addr: "+host+"@"+port)),
		front("Unbound that forwards", "unbound", unbound("forward-zone:\n\tname: example.org\n\tforward-addr: "+host+"@"+port)),
		front("BIND with a static stub", "named", named("zone example.org { type static-stub; server-addresses { "+host+"; }; };")),
		front("BIND that forwards", "named", named("zone example.org { type forward; forward only; forwarders { "+host+" port "+port+"; }; };")),
		front("BIND with a delegation", "named", named("")),
	}
}

// ask sends a query as a stub resolver does.
func (r resolver) ask(t testing.TB, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.AuthenticatedData = true
	return exchange(t, r.addr, "udp", m)
}

// want checks what a name resolves to: addresses in any order, or nothing.
func (r resolver) want(t testing.TB, name string, qtype uint16, addrs ...string) {
	t.Helper()
	m := r.ask(t, name, qtype)
	if got := sorted(addresses(m)); m.Rcode != dns.RcodeSuccess || !slices.Equal(got, sorted(addrs)) || len(got) != len(m.Answer) {
		t.Errorf("%s says of %s\n%v\nwant %v", r.name, title(m), m, addrs)
		return
	}
	r.check(t, m, resolverTTL)
}

// check checks that an answer is as good as it can be, and kept for no longer than it may.
func (r resolver) check(t testing.TB, m *dns.Msg, ttl uint32) {
	t.Helper()
	if m.AuthenticatedData != r.validates {
		t.Errorf("%s says AD %t to %s, want %t", r.name, m.AuthenticatedData, title(m), r.validates)
	}
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		limit := ttl
		if soa, ok := rr.(*dns.SOA); ok && strings.EqualFold(soa.Ns, "ns.example.org.") {
			limit = max(ttl, 300) // the zone file's
		}
		if rr.Header().Ttl > limit {
			t.Errorf("%s keeps %v for %s, want a TTL of at most %d", r.name, rr, title(m), limit)
		}
	}
}

func sorted(words []string) []string { return slices.Sorted(slices.Values(words)) }

// Behind resolvers of all kinds names resolve as they should, and a failover shows as soon as the TTL has passed.
func TestResolvers(t *testing.T) {
	for _, tc := range []struct {
		about        string
		signed, file bool
	}{
		{"unsigned without a zone file", false, false},
		{"unsigned with a zone file", false, true},
		{"signed without a zone file", true, false},
		{"signed with a zone file", true, true},
	} {
		t.Run(tc.about, func(t *testing.T) {
			one, two, alone, six := member(t, "127.0.0.3"), member(t, "127.0.0.2"), member(t, "127.0.0.4"), six(t)
			var key *dns.DNSKEY
			lines := []string{
				fmt.Sprintf("failover {\n interval 400ms\n recheck 20ms\n ttl %ds\n fallback none\n}", resolverTTL),
				fmt.Sprintf("failover www.example.org example.org *.apps.example.org a.b.c.example.org {\n primary %s\n backup %s\n srv http\n https alpn=h2\n}", one, two),
				fmt.Sprintf("failover n1.example.org n3.example.org gone.example.org %s", alone),
				fmt.Sprintf("failover n2.example.org %s %s", two, six),
			}
			if tc.signed {
				var base string
				key, base = zoneKey(t)
				lines = append(lines, "dnssec {\n key file "+base+"\n}")
			}
			if tc.file {
				lines = append(lines, "file "+write(t, "db.example.org", resolverRest)+" example.org")
			}
			s := start(t, block(lines...))
			all := resolvers(t, s.udp(), key)
			for _, r := range all {
				resolvesAll(t, r, s, tc.file)
			}
			for _, state := range []struct {
				change         func()
				www, gone, aaa []string
			}{
				{func() { one.stop(); alone.stop(); six.stop() }, []string{"127.0.0.2"}, nil, nil},
				{func() { one.start(); alone.start(); six.start() }, []string{"127.0.0.3"}, []string{"127.0.0.4"}, []string{"::1"}},
			} {
				state.change()
				shows := func(ask func(string, uint16) *dns.Msg) bool {
					return slices.Equal(addresses(ask("www.example.org.", dns.TypeA)), state.www) &&
						slices.Equal(addresses(ask("any.apps.example.org.", dns.TypeA)), state.www) &&
						slices.Equal(addresses(ask("gone.example.org.", dns.TypeA)), append([]string{}, state.gone...)) &&
						slices.Equal(addresses(ask("n2.example.org.", dns.TypeAAAA)), append([]string{}, state.aaa...))
				}
				eventually(t, bound, "the change shows", func() bool { return shows(s.ask) })
				for _, r := range all {
					eventually(t, resolverTTL*time.Second+bound/2, "the change shows behind "+r.name,
						func() bool { return shows(func(name string, qtype uint16) *dns.Msg { return r.ask(t, name, qtype) }) })
					r.want(t, "www.example.org.", dns.TypeA, state.www...)
					r.want(t, "gone.example.org.", dns.TypeA, state.gone...)
					r.want(t, "n2.example.org.", dns.TypeAAAA, state.aaa...)
					r.want(t, "n2.example.org.", dns.TypeA, "127.0.0.2")
				}
			}
		})
	}
}

// resolvesAll asks a resolver for all there is, in an order in which one answer might spoil the next.
func resolvesAll(t *testing.T, r resolver, s *server, file bool) {
	t.Helper()
	for range 2 { // the second time from the cache, as far as it has something
		r.want(t, "c.example.org.", dns.TypeA) // an empty non-terminal
		r.want(t, "b.c.example.org.", dns.TypeA)
		r.want(t, "a.b.c.example.org.", dns.TypeA, "127.0.0.3")
		r.want(t, "A.b.C.example.ORG.", dns.TypeAAAA)
		r.want(t, "apps.example.org.", dns.TypeA) // above a wildcard
		r.want(t, "any.apps.example.org.", dns.TypeA, "127.0.0.3")
		r.want(t, "any.apps.example.org.", dns.TypeAAAA)
		r.want(t, "other.apps.example.org.", dns.TypeA, "127.0.0.3")
		r.want(t, "two.labels.apps.example.org.", dns.TypeA, "127.0.0.3")
		r.want(t, "labels.apps.example.org.", dns.TypeA, "127.0.0.3")
		r.want(t, "www.example.org.", dns.TypeA, "127.0.0.3")
		r.want(t, "www.example.org.", dns.TypeAAAA)
		r.want(t, "example.org.", dns.TypeA, "127.0.0.3")
		r.want(t, "example.org.", dns.TypeAAAA)
		for _, name := range []string{"www.example.org.", "any.apps.example.org.", "third.apps.example.org.", "a.b.c.example.org."} {
			r.want(t, "_tcp."+name, dns.TypeA)
			r.want(t, "_http._tcp."+name, dns.TypeA)
			services := r.ask(t, "_http._tcp."+name, dns.TypeSRV)
			tiers := []*dns.Msg{services}
			if !r.validates { // else see TestResolverAggressive
				tiers = append(tiers, r.ask(t, name, dns.TypeHTTPS))
			}
			for _, m := range tiers {
				if len(m.Answer) != 2 {
					t.Errorf("%s says of %s\n%v\nwant a record for each tier", r.name, title(m), m)
				}
				r.check(t, m, resolverTTL)
			}
			for _, rr := range services.Answer {
				if srv, ok := rr.(*dns.SRV); ok {
					m := r.ask(t, srv.Target, dns.TypeA)
					if got, want := addresses(m), []string{[]string{"127.0.0.3", "127.0.0.2"}[srv.Priority]}; !slices.Equal(got, want) {
						t.Errorf("%s has the target %s at %v, want %v", r.name, srv.Target, got, want)
					}
					r.check(t, m, resolverTTL)
				}
			}
		}
		// Names side by side, with others between them that do not exist.
		for i, addr := range []string{"127.0.0.4", "127.0.0.2", "127.0.0.4"} {
			name := fmt.Sprintf("n%d.example.org.", i+1)
			r.want(t, name, dns.TypeA, addr)
			for _, absent := range []string{"below." + name, fmt.Sprintf("n%da.example.org.", i+1), "m9.example.org.", "ab.b.c.example.org."} {
				m := r.ask(t, absent, dns.TypeA)
				rcode := dns.RcodeNameError
				if r.validates {
					rcode = dns.RcodeSuccess // dnssec makes NODATA of NXDOMAIN
				}
				if len(m.Answer) > 0 || m.Rcode != rcode {
					t.Errorf("%s says of %s\n%v\nwant %s", r.name, title(m), m, dns.RcodeToString[rcode])
				}
				r.check(t, m, 300)
			}
			r.want(t, name, dns.TypeA, addr)
		}
		r.want(t, "n2.example.org.", dns.TypeAAAA, "::1")
		if file {
			for _, name := range []string{"beside.example.org.", "www.example.org."} {
				m := r.ask(t, name, map[string]uint16{"beside.example.org.": dns.TypeA, "www.example.org.": dns.TypeTXT}[name])
				if len(m.Answer) != 1 {
					t.Errorf("%s says of %s\n%v\nwant the record of the zone file", r.name, title(m), m)
				}
				r.check(t, m, 3600)
			}
		}
		// What is denied brings a SOA with it, and leaves alone that of the zone.
		got, want := r.ask(t, "example.org.", dns.TypeSOA), s.ask("example.org.", dns.TypeSOA)
		if set(got.Answer, false) != set(want.Answer, false) {
			t.Errorf("%s says of %s\n%s\nwant\n%s", r.name, title(got), set(got.Answer, false), set(want.Answer, false))
		}
	}
}

// What is denied of a signed name leaves alone its other types, for a resolver that makes use of the proof (RFC
// 8198), too: all that CoreDNS's dnssec does not deny along with it (README.md, Bugs).
func TestResolverAggressive(t *testing.T) {
	one := member(t, "127.0.0.3")
	key, base := zoneKey(t)
	rest := resolverRest + "www 3600 IN MX 10 beside.example.org.\nwww 3600 IN CAA 0 issue \"ca.example.net\"\n"
	s := start(t, block("dnssec {\n key file "+base+"\n}", fmt.Sprintf("failover www.example.org %s {\n ttl %ds\n srv http\n https alpn=h2\n}", one, resolverTTL),
		"file "+write(t, "db.example.org", rest)+" example.org"))
	proof := exchange(t, s.udp(), "udp", secure("www.example.org.", dns.TypeAAAA)).Ns
	var missing []uint16
	for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeSRV, dns.TypeHTTPS, dns.TypeMX, dns.TypeCAA} {
		if !slices.ContainsFunc(proof, func(rr dns.RR) bool {
			nsec, ok := rr.(*dns.NSEC)
			return ok && slices.Contains(nsec.TypeBitMap, qtype)
		}) {
			missing = append(missing, qtype)
		}
	}
	if want := []uint16{dns.TypeHTTPS, dns.TypeMX, dns.TypeCAA}; !slices.Equal(missing, want) {
		t.Errorf("The proof of dnssec denies the types %v as well, README.md says %v", missing, want)
	}
	for _, r := range resolvers(t, s.udp(), key) {
		t.Run(r.name, func(t *testing.T) {
			r.want(t, "www.example.org.", dns.TypeAAAA)
			for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeHTTPS, dns.TypeMX, dns.TypeCAA} {
				if slices.Contains(missing, qtype) {
					continue
				}
				m := r.ask(t, "www.example.org.", qtype)
				if len(m.Answer) != 1 {
					t.Errorf("The answer is\n%v\nwant a record", m)
				}
				r.check(t, m, 3600)
			}
		})
	}
}
