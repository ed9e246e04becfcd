package test

import (
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// sharedID is the ID of all queries that a shared message is the answer to.
const sharedID = 4711

// shared is one message that a plugin hands out again and again. Its slices have room behind them, in which
// there is a record that nobody may write over.
type shared struct {
	*dns.Msg
	before *dns.Msg
	behind dns.RR
}

// share makes a message that is shared: the answer to a query, with a set at the end of a chain, others
// beside it and hints.
func share(t testing.TB, query *dns.Msg) *shared {
	t.Helper()
	records := func(lines ...string) []dns.RR { return reply(t, query, lines...).Answer }
	s := &shared{Msg: reply(t, query), behind: records("behind.example.org. 1 IN TXT behind")[0]}
	s.Id = sharedID
	s.AuthenticatedData = true
	s.Answer = records(
		"www.example.org. 3600 IN CNAME real.example.org.",
		"real.example.org. 3600 IN A 127.0.0.3",
		"real.example.org. 3600 IN A 127.0.0.2",
		"real.example.org. 3600 IN A 127.0.0.4",
		`svc.example.org. 3600 IN HTTPS 1 . alpn=h2 ipv4hint=127.0.0.3,127.0.0.2,127.0.0.4`)
	s.Ns = records("example.org. 3600 IN NS ns.example.org.")
	s.Extra = records(
		"mail.example.org. 3600 IN A 127.0.0.4",
		"mail.example.org. 3600 IN A 127.0.0.2",
		"ns.example.org. 3600 IN AAAA ::1")
	for _, rrs := range []*[]dns.RR{&s.Answer, &s.Ns, &s.Extra} {
		n := len(*rrs)
		for range 4 {
			*rrs = append(*rrs, s.behind)
		}
		*rrs = (*rrs)[:n]
	}
	// One record of each kind is given in the form that package net makes of an address.
	s.Answer[1].(*dns.A).A = net.ParseIP("127.0.0.3").To16()
	s.before = s.Copy()
	return s
}

// untouched checks that nobody has written to the message, its slices, its records, nor behind them.
func (s *shared) untouched(t testing.TB) {
	t.Helper()
	if now := s.Copy(); !reflect.DeepEqual(now, s.before) {
		t.Errorf("What the next plugin hands out has become\n%v\nit was\n%v", now, s.before)
	}
	for name, rrs := range map[string][]dns.RR{"answer": s.Answer, "authority": s.Ns, "additional": s.Extra} {
		for i, rr := range rrs[len(rrs):cap(rrs)] {
			if rr != nil && rr != s.behind {
				t.Errorf("Behind the %s section, at %d, somebody has written %v", name, i, rr)
			}
		}
	}
	if got := s.behind.String(); got != "behind.example.org.\t1\tIN\tTXT\t\"behind\"" {
		t.Errorf("The record behind the sections has become %q", got)
	}
}

// What the next plugin hands out may be everybody's, such as the records of a zone. One message is the answer
// to thousands of queries at once, which the overlay changes in every way, while members die and return.
func TestOverlayShared(t *testing.T) {
	six(t)
	for _, properties := range []string{
		"order random", "order cyclic\nanswer 2", "order sorted\nprefer 127.0.0.4/32", "fallback none",
		"fallback last\nmin 2", "fallback 127.0.0.99 127.0.0.98\norder random", "ttl 1s\nmin 3\nfallback all\norder sorted",
	} {
		t.Run(strings.ReplaceAll(properties, "\n", " "), func(t *testing.T) {
			hosts := kin(t, "127.0.0.3", "127.0.0.2", "127.0.0.4", "::1")
			query := question("www.example.org.", dns.TypeA)
			query.Id = sharedID
			message := share(t, query)
			s := start(t, block(over(hosts, properties), stubbed(t, func(*dns.Msg) *dns.Msg { return message.Msg })))
			// Once these are known, every answer differs from the message: its TTLs are lower.
			exchange(t, s.udp(), "udp", query)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					query := query.Copy()
					if i%2 == 1 {
						query.SetEdns0(1232, i%4 == 1)
					}
					conn, err := dns.Dial("udp", s.udp())
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						default:
						}
						conn.SetDeadline(time.Now().Add(5 * time.Second))
						if err := conn.WriteMsg(query); err != nil {
							t.Error(err)
							return
						}
						m, err := conn.ReadMsg()
						if err != nil {
							t.Errorf("No answer after %d: %v", n, err)
							return
						}
						for _, rr := range slices.Concat(m.Answer, m.Extra) {
							if h := rr.Header(); (h.Rrtype == dns.TypeA || h.Rrtype == dns.TypeHTTPS) && h.Ttl > overlayTTL {
								t.Errorf("The TTL of %v is more than %d", rr, overlayTTL)
								return
							}
							if rr.Header().Name == "behind.example.org." {
								t.Errorf("The answer has what is behind the message:\n%v", m)
								return
							}
						}
					}
				})
			}
			for _, h := range hosts[:3] {
				dies(t, h)
			}
			returns(t, hosts[1])
			close(stop)
			wg.Wait()
			s.stop()
			message.untouched(t)
		})
	}
}

// Plugins above add to answers: they get slices that end where they end.
func TestOverlaySharedAbove(t *testing.T) {
	key, base := zoneKey(t)
	hosts := threeKin(t)
	query := secure("real.example.org.", dns.TypeA)
	query.Id = sharedID
	query.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_NSID{Code: dns.EDNS0NSID}}
	message := share(t, query)
	message.Answer[4] = message.behind
	message.Answer = message.Answer[1:4]
	message.before = message.Copy()
	s := start(t, block("dnssec {\n key file "+base+"\n}", "nsid here", over(hosts, "order random"),
		stubbed(t, func(*dns.Msg) *dns.Msg { return message.Msg })))
	for i := range 30 {
		verify(t, exchange(t, s.udp(), "udp", query.Copy()), key)
		if i == 10 {
			dies(t, hosts[0])
		}
	}
	s.stop()
	message.untouched(t)
}

// A zone file answers the same after thousands of queries through overlays that turn it, while members die.
func TestOverlaySharedFile(t *testing.T) {
	hosts := threeKin(t)
	s := start(t, block(over(hosts, "order random"), "transfer {\n to *\n}", overlayFile(t)))
	query := secure("alias.example.org.", dns.TypeA)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c := &dns.Client{Timeout: 5 * time.Second}
			for {
				select {
				case <-stop:
					return
				default:
				}
				query := query.Copy()
				query.Id = dns.Id()
				if _, _, err := c.Exchange(query, s.udp()); err != nil {
					t.Errorf("No answer: %v", err)
					return
				}
			}
		})
	}
	dies(t, hosts[0])
	dies(t, hosts[1])
	returns(t, hosts[0])
	returns(t, hosts[1])
	close(stop)
	wg.Wait()
	// A transfer has no turns, and soon all that work.
	want := []string{"127.0.0.3", "127.0.0.2", "127.0.0.4"}
	eventually(t, bound, "the zone has the addresses as in the file", func() bool { return slices.Equal(transferred(t, s), want) })
}

// transferred are the addresses of www in a transfer of the zone.
func transferred(t testing.TB, s *server) []string {
	t.Helper()
	envelopes, err := new(dns.Transfer).In(new(dns.Msg).SetAxfr("example.org."), s.tcp())
	if err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for e := range envelopes {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		for _, rr := range e.RR {
			if a, ok := rr.(*dns.A); ok && a.Hdr.Name == "www.example.org." {
				addrs = append(addrs, a.A.String())
			}
		}
	}
	return addrs
}
