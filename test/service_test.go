package test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// walk is what a client does that honours SRV records (RFC 2782, section "Usage rules"): it goes through them by
// priority, and at random inside of one, asks for the addresses of each target that did not come along, and
// takes the first that lets it in. It returns where it got in, and how many it had to try.
func walk(t testing.TB, s *server, service string) (where netip.AddrPort, tries int) {
	t.Helper()
	answer := s.ask(service, dns.TypeSRV)
	var srvs []*dns.SRV
	for _, rr := range answer.Answer {
		srvs = append(srvs, rr.(*dns.SRV))
	}
	rand.Shuffle(len(srvs), func(i, j int) { srvs[i], srvs[j] = srvs[j], srvs[i] })
	slices.SortStableFunc(srvs, func(a, b *dns.SRV) int { return int(a.Priority) - int(b.Priority) })
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	for _, srv := range srvs {
		along := slices.DeleteFunc(slices.Clone(answer.Extra), func(rr dns.RR) bool { return rr.Header().Name != srv.Target })
		asked := s.ask(srv.Target, dns.TypeA).Answer
		if len(along) > 0 && dns.Field(along[0], 1) != dns.Field(asked[0], 1) {
			t.Errorf("The target %s comes with %v, and by itself has %v", srv.Target, along, asked)
		}
		for _, rr := range asked {
			tries++
			at := netip.AddrPortFrom(netip.MustParseAddr(dns.Field(rr, 1)), srv.Port)
			if r, err := client.Get("http://" + at.String()); err == nil {
				r.Body.Close()
				return at, tries
			}
		}
	}
	return netip.AddrPort{}, tries
}

// ranked is a pool of two tiers with SRV and HTTPS records, whose members are seen to be down in a moment.
func ranked(hosts []*host, more ...string) string {
	return fmt.Sprintf("failover www.example.org *.apps.example.org {\n primary a=%s b=%s\n backup %s\n srv http\n https alpn=h2,h3\n interval 400ms\n recheck 20ms\n %s\n}",
		hosts[0], hosts[1], hosts[2], strings.Join(more, "\n"))
}

// A client that honours SRV records gets to a member that works at its first try, in every state.
func TestClientWalksSRV(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	s := start(t, block(ranked(hosts)))
	for _, state := range []struct {
		stop, start []int
		up          []int // all of them
		want        []int // of the first tier
	}{
		{up: []int{0, 1, 2}, want: []int{0, 1}},
		{stop: []int{0}, up: []int{1, 2}, want: []int{1}},
		{stop: []int{1}, up: []int{2}, want: []int{2}},
		{start: []int{0}, up: []int{0, 2}, want: []int{0}},
		{start: []int{1}, stop: []int{2}, up: []int{0, 1}, want: []int{0, 1}},
	} {
		for _, i := range state.stop {
			hosts[i].stop()
		}
		for _, i := range state.start {
			hosts[i].start()
		}
		for _, service := range []string{"_http._tcp.www.example.org.", "_http._tcp.any.apps.example.org."} {
			eventually(t, bound, fmt.Sprintf("%s has %v", service, state.up), func() bool {
				var has []string
				for _, rr := range s.ask(service, dns.TypeSRV).Answer {
					has = append(has, fmt.Sprint(rr.(*dns.SRV).Port))
				}
				return slices.Equal(has, ports(hosts, state.up))
			})
			for range 20 {
				at, tries := walk(t, s, service)
				if tries != 1 || !slices.ContainsFunc(state.want, func(i int) bool { return hosts[i].String() == at.String() }) {
					t.Errorf("%s leads to %s at try %d, want one of %v", service, at, tries, state.want)
				}
			}
		}
	}
	for _, h := range hosts {
		h.stop()
	}
	eventually(t, bound, "all members are in the answer of the fallback", func() bool {
		return len(s.ask("_http._tcp.www.example.org.", dns.TypeSRV).Answer) == 3 && len(s.ask("www.example.org.", dns.TypeA).Answer) == 3
	})
	if at, tries := walk(t, s, "_http._tcp.www.example.org."); at.IsValid() || tries != 3 {
		t.Errorf("With all of them down the client gets to %s at try %d, want nowhere after 3", at, tries)
	}
}

// ports are those of some of the hosts.
func ports(hosts []*host, which []int) []string {
	var ports []string
	for _, i := range which {
		_, port, _ := net.SplitHostPort(hosts[i].String())
		ports = append(ports, port)
	}
	return ports
}

// SRV and HTTPS records, their targets, and what is denied beside them can be signed, wildcards as well, and BIND's
// validator agrees.
func TestServicesDNSSEC(t *testing.T) {
	needs(t, "delv")
	key, base := zoneKey(t)
	anchor := write(t, "anchor", fmt.Sprintf("trust-anchors {\n example.org. static-key 257 3 13 \"%s\";\n};\n", key.PublicKey))
	hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	for _, below := range []string{"", file(t)} {
		s := start(t, block("dnssec {\n key file "+base+"\n}", ranked(hosts), below))
		host, port, _ := net.SplitHostPort(s.udp())
		for _, name := range []string{"www", "any.apps", "more.any.apps"} {
			name += ".example.org."
			for _, q := range []struct {
				name  string
				qtype uint16
				data  bool
			}{
				{"_http._tcp." + name, dns.TypeSRV, true},
				{"_http._tcp." + name, dns.TypeANY, true},
				{name, dns.TypeHTTPS, true},
				{"a." + name, dns.TypeA, true},
				{"a." + name, dns.TypeAAAA, false},
				{"127-0-0-4." + name, dns.TypeA, true},
				{"_http._tcp." + name, dns.TypeHTTPS, false},
				{"_http._tcp." + name, dns.TypeA, false},
				{"_tcp." + name, dns.TypeSRV, false},
			} {
				m := exchange(t, s.udp(), "udp", secure(q.name, q.qtype))
				verify(t, m, key)
				if m.Rcode != dns.RcodeSuccess || (len(m.Answer) > 0) != q.data {
					t.Errorf("The answer to %s is\n%v\nwant data: %t", title(m), m, q.data)
				}
				if q.qtype != dns.TypeANY {
					want := map[bool]string{true: "; fully validated\n" + q.name, false: "; negative response, fully validated"}[q.data]
					if out := output(t, "delv", "@"+host, "-p", port, "-a", anchor, "+root=example.org", q.name, dns.TypeToString[q.qtype]); !strings.Contains(out, want) {
						t.Errorf("Delv says of %s\n%s\nwant %q", title(m), out, want)
					}
				}
			}
		}
		s.stop()
	}
}

// output runs a program and returns what it says.
func output(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}
