package test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// The order of an overlay applies to what the next plugin answers, and what is down goes out of it.
func TestOverlayOrder(t *testing.T) {
	const two, three, four = "127.0.0.2", "127.0.0.3", "127.0.0.4"
	for _, tc := range []struct {
		properties string
		want, left []string // with all up, and without the first that file has
	}{
		{"order fixed", []string{three, two, four}, []string{two, four}},
		{"order sorted", []string{two, three, four}, []string{two, four}},
		{"prefer 127.0.0.4/32 127.0.0.2/32", []string{four, two, three}, []string{four, two}},
		{"order sorted\nprefer 127.0.0.3/32", []string{three, two, four}, []string{two, four}},
		{"answer 1", []string{three}, []string{two}},
		{"answer 2\norder sorted", []string{two, three}, []string{two, four}},
		{"answer 1\nprefer 127.0.0.4/32", []string{four}, []string{four}},
		{"min 3", []string{three, two, four}, []string{three, two, four}},
		{"min 2", []string{three, two, four}, []string{two, four}},
		{"min 60%", []string{three, two, four}, []string{two, four}},
		{"min 70%", []string{three, two, four}, []string{three, two, four}},
	} {
		t.Run(strings.ReplaceAll(tc.properties, "\n", " "), func(t *testing.T) {
			hosts := threeKin(t)
			s := start(t, block(over(hosts, tc.properties), overlayFile(t)))
			taken(t, s, "example.org.", "up", 3, "www.example.org.")
			for i, want := range [][]string{tc.want, tc.left} {
				if i > 0 {
					dies(t, hosts[0])
				}
				for _, network := range []string{"udp", "tcp"} {
					conn := connection(t, s, network)
					first := wire(t, conn, question("www.example.org.", dns.TypeA))
					wantAddresses(t, withoutNS(unpack(t, first)), want...)
					for range 20 {
						if next := wire(t, conn, question("www.example.org.", dns.TypeA)); !slices.Equal(first, next) {
							t.Fatalf("The answer has changed to\n%v\nwant always\n%v", unpack(t, next), unpack(t, first))
						}
					}
				}
			}
		})
	}
}

// The order cyclic begins one further on in each answer to a name, whatever else is asked.
func TestOverlayCyclic(t *testing.T) {
	for what, others := range map[string][]string{
		"alone":                               nil,
		"beside a name that begins otherwise": {"ns.example.org."},
		"beside a name that begins alike":     {"short.example.org."},
		"beside an alias":                     {"_http._tcp.example.org."},
	} {
		t.Run(what, func(t *testing.T) {
			hosts := threeKin(t)
			s := start(t, block(over(hosts, "order cyclic"), overlayFile(t)))
			taken(t, s, "example.org.", "up", 3, "www.example.org.")
			turns := func(want []string) {
				t.Helper()
				var before []string
				for range 12 {
					got := addresses(s.ask("www.example.org.", dns.TypeA))
					if before != nil && !slices.Equal(got, slices.Concat(before[1:], before[:1])) {
						t.Fatalf("The answer after %v is %v, want it one further on", before, got)
					}
					before = got
					for _, name := range others {
						s.ask(name, dns.TypeA)
					}
				}
				if !slices.Equal(slices.Sorted(slices.Values(before)), want) {
					t.Errorf("The answer is %v, want %v in some order", before, want)
				}
			}
			turns([]string{"127.0.0.2", "127.0.0.3", "127.0.0.4"})
			dies(t, hosts[1])
			turns([]string{"127.0.0.3", "127.0.0.4"})
		})
	}
}

// The order random gives every order, and nobody's preference away.
func TestOverlayRandom(t *testing.T) {
	hosts := threeKin(t)
	s := start(t, block(over(hosts, "order random"), overlayFile(t))+
		"example.net:0 {\n bind 127.0.0.1\n "+strings.Replace(over(hosts, "order random", "prefer 127.0.0.4/32", "answer 2"), "failover ", "failover example.net ", 1)+
		"\n file "+write(t, "db.example.net", strings.ReplaceAll(overlayZone, "example.org.", "example.net."))+" example.net\n}")
	seen, preferred := make(map[string]int), make(map[string]int)
	for range 200 {
		seen[fmt.Sprint(addresses(s.ask("www.example.org.", dns.TypeA)))]++
		preferred[fmt.Sprint(addresses(s.ask("www.example.net.", dns.TypeA)))]++
	}
	if len(seen) != 6 {
		t.Errorf("There are %d orders of three addresses, want 6: %v", len(seen), seen)
	}
	if len(preferred) != 2 || preferred["[127.0.0.4 127.0.0.2]"] == 0 || preferred["[127.0.0.4 127.0.0.3]"] == 0 {
		t.Errorf("The answers with a preference are %v, want two, which begin with 127.0.0.4", preferred)
	}
}

// A plugin that answers in another order each time has one order behind sorted.
func TestOverlayShuffled(t *testing.T) {
	addrs := []string{"127.0.0.5", "127.0.0.3", "127.0.0.2", "127.0.0.4"}
	hosts := kin(t, addrs...)
	shuffle := stubbed(t, func(r *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(r)
		for _, i := range rand.Perm(len(addrs)) {
			m.Answer = append(m.Answer, reply(t, r, r.Question[0].Name+" 30 IN A "+addrs[i]).Answer...)
		}
		return m
	})
	s := start(t, block(over(hosts, "order sorted", "prefer 127.0.0.4/32"), shuffle)+blockOn(beneath, shuffle))
	taken(t, s, "example.org.", "up", 4, "www.example.org.")
	stays := func(want ...string) {
		t.Helper()
		for _, network := range []string{"udp", "tcp"} {
			conn := connection(t, s, network)
			first := wire(t, conn, question("www.example.org.", dns.TypeA))
			wantAddresses(t, unpack(t, first), want...)
			for range repeats {
				if next := wire(t, conn, question("www.example.org.", dns.TypeA)); !slices.Equal(first, next) {
					t.Fatalf("The answer over %s has changed to\n%v\nwant always\n%v", network, unpack(t, next), unpack(t, first))
				}
			}
		}
	}
	stays("127.0.0.4", "127.0.0.2", "127.0.0.3", "127.0.0.5")
	dies(t, hosts[2])
	stays("127.0.0.4", "127.0.0.3", "127.0.0.5")
	orders := make(map[string]bool)
	for range 50 {
		orders[fmt.Sprint(addresses(exchange(t, s.udp(beneath), "udp", question("www.example.org.", dns.TypeA))))] = true
	}
	if len(orders) < 5 {
		t.Errorf("The plugin beneath gives %d orders, want many", len(orders))
	}
}
