package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// ede is the Extended DNS Error of an answer, or nil.
func ede(m *dns.Msg) *dns.EDNS0_EDE {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				return e
			}
		}
	}
	return nil
}

// wantEDE asks with EDNS and without. Only with it the answer says that it is out of the ordinary; in
// all else the two are the same.
func wantEDE(t testing.TB, s *server, name string, qtype, code uint16, text string) {
	t.Helper()
	without := s.ask(name, qtype)
	if len(without.Extra) > 0 {
		t.Errorf("The additional section is %v, want none without EDNS", without.Extra)
	}
	with := exchange(t, s.udp(), "udp", question(name, qtype).SetEdns0(1232, false))
	if e := ede(with); e == nil || e.InfoCode != code || !strings.Contains(e.ExtraText, text) {
		t.Errorf("The error that comes with %s is %v, want code %d and %q", title(with), e, code, text)
	}
	with.Extra, with.Id = nil, without.Id
	if with.String() != without.String() {
		t.Errorf("The answer with EDNS is\n%v\nwithout\n%v", with, without)
	}
}

// What is answered when no member is up.
func TestFallback(t *testing.T) {
	hosts := members(t, "127.0.0.3", "127.0.0.2", "127.0.0.4")
	for _, h := range hosts {
		h.stop()
	}
	beside := file(t)
	template := "template IN A example.org {\n answer \"{{ .Name }} 60 IN A 192.0.2.9\"\n}"
	for _, tc := range []struct {
		fallback, below string
		rcode           int
		want            []string
	}{
		{"", "", dns.RcodeSuccess, []string{"127.0.0.3", "127.0.0.2", "127.0.0.4"}}, // fail open
		{"all", "", dns.RcodeSuccess, []string{"127.0.0.3", "127.0.0.2", "127.0.0.4"}},
		{"primary", beside, dns.RcodeSuccess, []string{"127.0.0.3", "127.0.0.2"}},
		{"last", "", dns.RcodeSuccess, []string{"127.0.0.3", "127.0.0.2", "127.0.0.4"}}, // there was none
		{"192.0.2.66 2001:db8::66 192.0.2.65", beside, dns.RcodeSuccess, []string{"192.0.2.66", "192.0.2.65"}},
		{"none", "", dns.RcodeSuccess, nil},
		{"nxdomain", "", dns.RcodeNameError, nil},
		{"servfail", beside, dns.RcodeServerFailure, nil},
		{"refused", beside, dns.RcodeRefused, nil},
		{"next", beside, dns.RcodeSuccess, []string{"192.0.2.80"}},
		{"next", template, dns.RcodeSuccess, []string{"192.0.2.9"}},
		{"next", "", dns.RcodeServerFailure, nil},
	} {
		t.Run(tc.fallback+" "+strings.Fields(tc.below + " last")[0], func(t *testing.T) {
			word := "all"
			properties := "fall 1\n backup " + hosts[2].addr
			if tc.fallback != "" {
				word = tc.fallback
				properties += "\n fallback " + tc.fallback
			}
			s := start(t, block(fmt.Sprintf("failover www.example.org %s %s {\n %s\n}", hosts[0], hosts[1], properties), tc.below))
			m := s.ask("www.example.org.", dns.TypeA)
			if got := addresses(m); m.Rcode != tc.rcode || !slices.Equal(got, append([]string{}, tc.want...)) {
				t.Errorf("The answer is\n%v\nwant %s with %v", m, dns.RcodeToString[tc.rcode], tc.want)
			}
			conn := connection(t, s, "tcp")
			for range 3 { // one answer each: the IDs would show a second one
				if rcode := unpack(t, wire(t, conn, question("www.example.org.", dns.TypeA))).Rcode; rcode != tc.rcode {
					t.Errorf("The answer over TCP is %s, want %s", dns.RcodeToString[rcode], dns.RcodeToString[tc.rcode])
				}
			}
			if tier, ok := metric(t, "coredns_failover_tier", "pool=www.example.org."); !ok || tier != -1 {
				t.Errorf("The tier is %v, want -1 for the fallback", tier)
			}
			if word == "next" {
				if e := ede(exchange(t, s.udp(), "udp", question("www.example.org.", dns.TypeA).SetEdns0(1232, false))); e != nil {
					t.Errorf("The next plugin's answer comes with %v", e)
				}
				return
			}
			if len(tc.want) == 0 && tc.rcode <= dns.RcodeNameError && tc.rcode != dns.RcodeServerFailure {
				wantNegative(t, m, tc.rcode, "example.org.", 60)
			}
			wantEDE(t, s, "www.example.org.", dns.TypeA, dns.ExtendedErrorCodeOther, "fallback "+word)
		})
	}
}

// The set that worked last is given out as stale, and not as such again when a member is back.
func TestFallbackLast(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.3", "127.0.0.2", "127.0.0.4")
	s := start(t, block(fmt.Sprintf("failover www.example.org %s %s {\n backup %s\n interval 400ms\n recheck 20ms\n fallback last\n}", hosts[0], hosts[1], hosts[2])))
	for i, want := range [][]string{{"127.0.0.2"}, {"127.0.0.4"}} {
		hosts[i].stop()
		eventually(t, bound, "a member is down", func() bool { return len(lines(hosts[i].addr+": up -> down")) == 1 })
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), want...)
	}
	if e := ede(exchange(t, s.udp(), "udp", question("www.example.org.", dns.TypeA).SetEdns0(1232, false))); e != nil {
		t.Errorf("The answer from the backup comes with %v", e)
	}
	hosts[2].stop()
	eventually(t, bound, "the last member is down", func() bool { return len(lines("now answering 127.0.0.4 (fallback last)")) == 1 })
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.4")
	wantEDE(t, s, "www.example.org.", dns.TypeA, dns.ExtendedErrorCodeStaleAnswer, "")
	wantEDE(t, s, "www.example.org.", dns.TypeAAAA, dns.ExtendedErrorCodeStaleAnswer, "")

	hosts[1].start()
	eventually(t, bound, "a member is up again", func() bool { return len(lines(hosts[1].addr+": down -> up")) == 1 })
	m := exchange(t, s.udp(), "udp", question("www.example.org.", dns.TypeA).SetEdns0(1232, false))
	wantAddresses(t, m, "127.0.0.2")
	if e := ede(m); e != nil {
		t.Errorf("The answer comes with %v though a member is up", e)
	}
}

// Only addresses are replaced by a fallback: other types are asked for below as ever.
func TestFallbackOtherTypes(t *testing.T) {
	s := start(t, block(downPool(t, "www.example.org", "fallback nxdomain"), file(t)))
	wantRecords(t, s.ask("www.example.org.", dns.TypeTXT), dns.RcodeSuccess, `"of the zone file"`, "IN NS")
}
