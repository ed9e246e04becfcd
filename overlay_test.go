package failover

import (
	"context"
	"fmt"
	golog "log"
	"math/rand/v2"
	"net"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/dnsname"
	"github.com/coredns-failover/failover/plugin/monitor"

	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/miekg/dns"
)

// source is a next plugin that hands out the same message for every query, with room behind its slices, as a
// zone in memory does. Sections are separated by "/", records by ",".
type source struct {
	msg *dns.Msg
}

func newSource(t testing.TB, text string) *source {
	t.Helper()
	s := &source{msg: new(dns.Msg)}
	s.msg.Response, s.msg.Authoritative = true, true
	for i, section := range strings.Split(text, "/") {
		rrs := make([]dns.RR, 0, 16)
		for record := range strings.SplitSeq(section, ", ") {
			switch record = strings.TrimSpace(record); record {
			case "":
			case "ad":
				s.msg.AuthenticatedData = true
			case "tc":
				s.msg.Truncated = true
			case "nxdomain":
				s.msg.Rcode = dns.RcodeNameError
			default:
				rr, err := dns.NewRR(record)
				if err != nil || rr == nil {
					t.Fatalf("No record: %q: %v", record, err)
				}
				rrs = append(rrs, rr)
			}
		}
		*[]*[]dns.RR{&s.msg.Answer, &s.msg.Ns, &s.msg.Extra}[i] = rrs
	}
	return s
}

func (s *source) Name() string { return "source" }

// ServeDNS implements plugin.Handler. The SOA of the zone is the same whatever the message.
func (s *source) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	var m *dns.Msg
	if r.Question[0].Qtype == dns.TypeSOA && len(s.msg.Question) == 0 {
		soa, _ := dns.NewRR("example.org. 3600 SOA ns.example.org. hostmaster.example.org. 7 7200 1800 86400 300")
		m = new(dns.Msg).SetReply(r)
		m.Authoritative, m.Ns = true, []dns.RR{soa}
	} else {
		copied := *s.msg // the header is the query's
		copied.Id, copied.Question, copied.RecursionDesired = r.Id, r.Question, r.RecursionDesired
		m = &copied
	}
	return dns.RcodeSuccess, w.WriteMsg(m)
}

// overlaying is an overlay over a source, in a world of its own.
func (w *world) overlaying(t *testing.T, properties, text string) (Failover, *source) {
	t.Helper()
	_, f := w.begin(t, over("from next\n"+properties))
	s := newSource(t, text)
	f.Next = s
	return f, s
}

// shown is what comes of a query, the additional section as well. It sees to it that what the source has
// handed out stays as it was.
func shown(t testing.TB, f Failover, question string) string {
	t.Helper()
	s := f.Next.(*source)
	before, spare := s.msg.Copy(), func() []dns.RR {
		return slices.Concat(s.msg.Answer[:cap(s.msg.Answer)], s.msg.Ns[:cap(s.msg.Ns)], s.msg.Extra[:cap(s.msg.Extra)])
	}
	room := spare()
	w := new(written)
	r := query(t, question)
	if _, err := f.ServeDNS(context.Background(), w, r); err != nil || len(w.msgs) != 1 {
		t.Fatalf("%s: %d messages, %v", question, len(w.msgs), err)
	}
	m := w.msgs[0]
	said := words(m)
	if len(m.Answer) > 0 && &m.Answer[0] != &s.msg.Answer[0] { // it is not passed on as it is
		for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
			if cap(section) != len(section) {
				t.Errorf("%s: a section has room for %d records more, want none: plugins above append", question, cap(section)-len(section))
			}
		}
	}
	if !reflect.DeepEqual(before, s.msg.Copy()) || !slices.Equal(room, spare()) {
		t.Errorf("%s: the next plugin's message is written to: now\n%v\nbefore\n%v", question, s.msg, before)
	}
	return said
}

// settle has an overlay learn of what is in its answers, and its addresses be what the world says.
func settle(t *testing.T, f Failover, questions ...string) {
	t.Helper()
	for _, q := range questions {
		shown(t, f, q)
	}
	time.Sleep(20 * time.Second)
	synctest.Wait()
}

func TestOverlay(t *testing.T) {
	const (
		two     = "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2"
		four    = two + ", www.example.org. 60 A 192.0.2.3, www.example.org. 60 A 192.0.2.4"
		ns      = "/ example.org. 3600 NS ns.example.org. /"
		sig     = "www.example.org. 60 RRSIG A 13 3 60 20300101000000 20200101000000 1 example.org. c2ln"
		soa     = " / example.org. 6 SOA minimum 300"
		www     = "NOERROR aa www.example.org. "
		another = ", www.example.org. "
		dual    = "www.example.org. 60 A 192.0.2.1, www.example.org. 60 AAAA 2001:db8::1, www.example.org. 60 A 192.0.2.2, www.example.org. 60 AAAA 2001:db8::2"
	)
	tests := []struct {
		name       string
		properties string
		source     string
		down       string // the last numbers of addresses
		question   string // "": www A
		want       string
	}{
		{name: "all up", source: two, want: www + "7 A 192.0.2.1" + another + "7 A 192.0.2.2"},
		{name: "one down", source: two, down: "1", want: www + "6 A 192.0.2.2"},
		{name: "all down is as it was", source: two, down: "1 2", question: "www.example.org. A edns", want: www + "6 A 192.0.2.1" + another + "6 A 192.0.2.2"},
		{name: "a low TTL stays", source: "www.example.org. 3 A 192.0.2.1, www.example.org. 60 A 192.0.2.2", want: www + "3 A 192.0.2.1" + another + "7 A 192.0.2.2"},
		{name: "low TTLs stay as they are", source: "www.example.org. 3 A 192.0.2.1", want: www + "3 A 192.0.2.1"},
		{name: "authority and additional stay", source: two + " / example.org. 3600 NS ns.example.org. / ns.example.org. 3600 TXT x", down: "1",
			want: www + "6 A 192.0.2.2 / example.org. 3600 NS ns.example.org. + ns.example.org. 3600 TXT \"x\""},
		{name: "the case of the owner", source: "wWw.eXample.org. 60 A 192.0.2.1, wWw.eXample.org. 60 A 192.0.2.2", question: "wWw.eXample.org. A", down: "2", want: "NOERROR aa wWw.eXample.org. 6 A 192.0.2.1"},
		{name: "an alias", source: "alias.example.org. 3600 CNAME www.example.net., www.example.net. 60 A 192.0.2.1, www.example.net. 60 A 192.0.2.2", question: "alias.example.org. A", down: "1",
			want: "NOERROR aa alias.example.org. 3600 CNAME www.example.net., www.example.net. 6 A 192.0.2.2"},
		{name: "an alias to nowhere", source: "nxdomain, alias.example.org. 3600 CNAME no.example.org. / example.org. 3600 SOA ns.example.org. h.example.org. 1 1 1 1 300", question: "alias.example.org. A",
			want: "NXDOMAIN aa alias.example.org. 3600 CNAME no.example.org. / example.org. 3600 SOA minimum 300"},
		{name: "both families, turn and turn about", source: dual, down: "1", question: "www.example.org. ANY",
			want: www + "6 A 192.0.2.2" + another + "7 AAAA 2001:db8::1" + another + "7 AAAA 2001:db8::2"},
		{name: "a referral", source: "/ sub.example.org. 3600 NS ns.sub.example.org. / ns.sub.example.org. 3600 A 192.0.2.1, ns.sub.example.org. 3600 A 192.0.2.2", down: "1", question: "www.sub.example.org. A",
			want: "NOERROR aa / sub.example.org. 3600 NS ns.sub.example.org. + ns.sub.example.org. 3600 A 192.0.2.1 + ns.sub.example.org. 3600 A 192.0.2.2"},
		{name: "a truncated answer", source: "tc, " + two, down: "1", want: "NOERROR aa www.example.org. 60 A 192.0.2.1" + another + "60 A 192.0.2.2"},
		{name: "another type", source: "www.example.org. 60 TXT x", question: "www.example.org. TXT", want: www + `60 TXT "x"`},

		{name: "additional addresses", source: "_s.example.org. 60 SRV 0 0 80 a.example.org., _s.example.org. 60 SRV 0 0 80 b.example.org. / / a.example.org. 60 A 192.0.2.1, a.example.org. 60 A 192.0.2.2, b.example.org. 60 A 192.0.2.1", down: "1", question: "_s.example.org. SRV",
			want: "NOERROR aa _s.example.org. 60 SRV 0 0 80 a.example.org., _s.example.org. 60 SRV 0 0 80 b.example.org. + a.example.org. 6 A 192.0.2.2 + b.example.org. 6 A 192.0.2.1"},
		{name: "additional addresses are never denied", properties: "fallback nxdomain", source: "example.org. 60 MX 0 a.example.org. / / a.example.org. 60 A 192.0.2.1", down: "1", question: "example.org. MX",
			want: "NOERROR aa example.org. 60 MX 0 a.example.org. + a.example.org. 6 A 192.0.2.1"},
		{name: "ANY is never denied", properties: "fallback none", source: two, down: "1 2", question: "www.example.org. ANY", want: www + "6 A 192.0.2.1" + another + "6 A 192.0.2.2"},

		{name: "hints", source: "www.example.org. 60 HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1", down: "1", question: "www.example.org. HTTPS",
			want: www + `6 HTTPS 1 . alpn="h2" ipv4hint="192.0.2.2" ipv6hint="2001:db8::1"`},
		{name: "hints of what is down", source: "www.example.org. 60 SVCB 1 . ipv4hint=192.0.2.1", down: "1", question: "www.example.org. SVCB",
			want: www + `6 SVCB 1 . ipv4hint="192.0.2.1"`},
		{name: "hints that are signed", source: "www.example.org. 60 HTTPS 1 . ipv4hint=192.0.2.1,192.0.2.2, " + strings.Replace(sig, "RRSIG A", "RRSIG HTTPS", 1), down: "1", question: "www.example.org. HTTPS",
			want: www + `60 HTTPS 1 . ipv4hint="192.0.2.1,192.0.2.2"` + another + "60 RRSIG HTTPS 13 3 60 20300101000000 20200101000000 1 example.org. c2ln"},
		{name: "an alias of HTTPS", source: "www.example.org. 60 HTTPS 0 a.example.org.", question: "www.example.org. HTTPS", want: www + "60 HTTPS 0 a.example.org."},

		{name: "sorted", properties: "order sorted", source: "www.example.org. 60 A 192.0.2.3, www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2", down: "2", want: www + "6 A 192.0.2.1" + another + "6 A 192.0.2.3"},
		{name: "preferred", properties: "prefer 192.0.2.4/32 192.0.2.2/31", source: four, want: www + "7 A 192.0.2.4" + another + "7 A 192.0.2.2" + another + "7 A 192.0.2.3" + another + "7 A 192.0.2.1"},
		{name: "one of many", properties: "answer 1", source: four, down: "1", want: www + "6 A 192.0.2.2"},
		{name: "one of those that are all up", properties: "answer 1", source: two, want: www + "7 A 192.0.2.1"},
		{name: "a minimum", properties: "min 2\nfallback servfail", source: four, down: "1 2", want: www + "6 A 192.0.2.3" + another + "6 A 192.0.2.4"},
		{name: "too few", properties: "min 3\nfallback servfail", source: four, down: "1 2", want: "SERVFAIL"},
		{name: "a minimum larger than the set", properties: "min 3\nfallback servfail", source: two, want: www + "7 A 192.0.2.1" + another + "7 A 192.0.2.2"},
		{name: "exactly this TTL", properties: "ttl 30", source: two, want: www + "30 A 192.0.2.1" + another + "30 A 192.0.2.2"},

		{name: "signed, one down", source: "ad, " + two + ", " + sig + ns, down: "1",
			want: "NOERROR aa www.example.org. 6 A 192.0.2.2" + another + "6 A 192.0.2.1" + another + "6 RRSIG A 13 3 60 20300101000000 20200101000000 1 example.org. c2ln / example.org. 3600 NS ns.example.org."},
		{name: "signed, all up", source: "ad, " + sig + ", " + two,
			want: "NOERROR aa ad www.example.org. 7 RRSIG A 13 3 60 20300101000000 20200101000000 1 example.org. c2ln" + another + "7 A 192.0.2.1" + another + "7 A 192.0.2.2"},
		{name: "signed, in order and whole", properties: "order sorted\nanswer 1\nprefer 192.0.2.4/32", source: "www.example.org. 60 A 192.0.2.3, www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.4, " + sig, down: "1",
			want: www + "6 A 192.0.2.4" + another + "6 A 192.0.2.3" + another + "6 A 192.0.2.1" + another + "6 RRSIG A 13 3 60 20300101000000 20200101000000 1 example.org. c2ln"},
		{name: "signed, all down", properties: "fallback none", source: "ad, " + two + ", " + sig, down: "1 2",
			want: "NOERROR aa ad www.example.org. 6 A 192.0.2.1" + another + "6 A 192.0.2.2" + another + "6 RRSIG A 13 3 60 20300101000000 20200101000000 1 example.org. c2ln"},
		{name: "filtered, and so not authentic", source: "ad, " + two, down: "1", want: www + "6 A 192.0.2.2"},
		{name: "with a lower TTL only, and so still authentic", source: "ad, " + two, want: "NOERROR aa ad www.example.org. 7 A 192.0.2.1" + another + "7 A 192.0.2.2"},

		{name: "fallback all", properties: "fallback all\norder sorted", source: "www.example.org. 60 A 192.0.2.2, www.example.org. 60 A 192.0.2.1", down: "1 2", question: "www.example.org. A edns",
			want: www + "6 A 192.0.2.1" + another + "6 A 192.0.2.2 EDE 0 (Other): (no tier is usable: fallback all)"},
		{name: "fallback all, without EDNS", properties: "fallback all\nanswer 1", source: two, down: "1 2", want: www + "6 A 192.0.2.1"},
		{name: "fallback primary", properties: "fallback primary", source: two, down: "1 2", question: "www.example.org. A edns",
			want: www + "6 A 192.0.2.1" + another + "6 A 192.0.2.2 EDE 0 (Other): (no tier is usable: fallback primary)"},
		{name: "fallback none", properties: "fallback none", source: two + ns + "x.example.org. 60 A 192.0.2.9", down: "1 2", question: "www.example.org. A edns",
			want: "NOERROR aa" + soa + " EDE 0 (Other): (no tier is usable: fallback none)"},
		{name: "fallback none behind an alias", properties: "fallback none", source: "alias.example.org. 3600 CNAME www.example.org., " + two, down: "1 2", question: "alias.example.org. A",
			want: "NOERROR aa alias.example.org. 3600 CNAME www.example.org." + soa},
		{name: "fallback nxdomain", properties: "fallback nxdomain", source: two, down: "1 2", want: "NXDOMAIN aa" + soa},
		{name: "fallback servfail", properties: "fallback servfail", source: two + ns, down: "1 2", question: "www.example.org. A edns", want: "SERVFAIL EDE 0 (Other): (no tier is usable: fallback servfail)"},
		{name: "fallback refused", properties: "fallback refused", source: two, down: "1 2", want: "REFUSED"},
		{name: "fallback to others", properties: "fallback 203.0.113.2 203.0.113.1 2001:db8::99\norder sorted", source: two, down: "1 2", question: "www.example.org. A edns",
			want: www + "6 A 203.0.113.1" + another + "6 A 203.0.113.2 EDE 0 (Other): (no tier is usable: fallback 203.0.113.2 203.0.113.1 2001:db8::99)"},
		{name: "fallback to others of another family", properties: "fallback 2001:db8::99", source: two, down: "1 2", want: "NOERROR aa" + soa},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				for n := range strings.FieldsSeq(tc.down) {
					w.set("down", "192.0.2."+n)
				}
				f, _ := w.overlaying(t, tc.properties, tc.source)
				if tc.question == "" {
					tc.question = "www.example.org. A"
				}
				settle(t, f, tc.question)
				for range 2 { // the second from what is remembered
					if got := shown(t, f, tc.question); got != tc.want {
						t.Errorf("Got\n%s\nwant\n%s", got, tc.want)
					}
				}
			})
		})
	}
}

// The last set that worked is those that failed last, and as many as it takes.
func TestOverlayLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		f, _ := w.overlaying(t, "fallback last\nmin 2", "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2, www.example.org. 60 A 192.0.2.3, www.example.org. 60 A 192.0.2.4")
		settle(t, f, "www.example.org. A")
		for _, step := range []struct{ down, want string }{
			{"3", "1 2 4"},
			{"1", "2 4"},
			{"4", "2 4"}, // now it is the fallback
			{"2", "2 4"},
		} {
			w.set("down", "192.0.2."+step.down)
			expect(t, step.down+" fails", after(t, f, 10*time.Second), step.want)
		}
		if got := shown(t, f, "www.example.org. A edns"); !strings.Contains(got, "EDE 3 (Stale Answer): (no tier is usable: the last that was)") {
			t.Errorf("Got %s, want it said to be stale", got)
		}
		w.set("", "192.0.2.1", "192.0.2.3")
		expect(t, "Two are back", after(t, f, 10*time.Second), "1 3")
	})
}

// What has never worked is not what worked last.
func TestOverlayLastWorked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("down", "192.0.2.2")
		f, _ := w.overlaying(t, "fallback last", "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2, www.example.org. 60 A 192.0.2.3")
		settle(t, f, "www.example.org. A")
		w.set("down", "192.0.2.3", "192.0.2.1")
		expect(t, "Others worked", after(t, f, 30*time.Second), map[string]string{"1": "1", "3": "3"}[after(t, f, 0)])
		if got := shown(t, f, "www.example.org. A edns"); strings.Contains(got, "192.0.2.2") || !strings.Contains(got, "EDE 3 (Stale Answer)") {
			t.Errorf("Got %s, want one that worked, said to be stale", got)
		}

		never, _ := w.overlaying(t, "fallback last", "www.example.org. 60 A 192.0.2.2, www.example.org. 60 A 192.0.2.1")
		settle(t, never, "www.example.org. A")
		if got, want := shown(t, never, "www.example.org. A edns"), "NOERROR aa www.example.org. 6 A 192.0.2.2, www.example.org. 6 A 192.0.2.1 EDE 0 (Other): (no tier is usable: fallback last)"; got != want {
			t.Errorf("Got %s, want %s", got, want)
		}
	})
}

// An address that others have asked already is known at once, and said to be.
func TestOverlayKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines := newWorld(), logged(t)
		w.set("down", "192.0.2.1")
		f, s := w.overlaying(t, "}\nfailover other.example.org {\nfrom next\nprobe tcp://:443", "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2")
		settle(t, f, "www.example.org. A")
		said, asked := len(lines()), w.count()
		shown(t, f, "other.example.org. A")
		synctest.Wait()
		if got := lines()[said:]; len(got) != 1 || !strings.HasPrefix(got[0], "other.example.org. 192.0.2.1: unknown -> down (") || w.count() != asked {
			t.Errorf("Lines %q and %d probes, want one line for the address that is down and no probe", got, w.count()-asked)
		}
		if got := shown(t, f, "other.example.org. A"); strings.Contains(got, "192.0.2.1") {
			t.Errorf("Got %s from %v, want what is down left out", got, s.msg)
		}
	})
}

// A first answer is not held up, and has what nobody has asked yet in it.
func TestOverlayFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("down", "192.0.2.1")
		f, _ := w.overlaying(t, "", "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2")
		if got, want := shown(t, f, "www.example.org. A"), "NOERROR aa www.example.org. 5 A 192.0.2.1, www.example.org. 5 A 192.0.2.2"; got != want {
			t.Errorf("Got %s, want %s", got, want)
		}
		expect(t, "Soon after", after(t, f, 2100*time.Millisecond), "2")
	})
}

func TestOverlayTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newWorld().overlaying(t, "order cyclic\nanswer 2", "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2, www.example.org. 60 A 192.0.2.3")
		other := newSource(t, "b.example.org. 60 A 192.0.2.2, b.example.org. 60 A 192.0.2.9")
		settle(t, f, "www.example.org. A")
		begin := now(t, f)
		for _, want := range map[string][]string{"1 2": {"2 3", "3 1", "1 2"}, "2 3": {"3 1", "1 2", "2 3"}, "3 1": {"1 2", "2 3", "3 1"}}[begin] {
			f.Next = other
			now(t, f) // another set does not turn this one
			f.Next = s
			expect(t, "Next", now(t, f), want)
		}
	})
}

func TestOverlayHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		f, _ := w.overlaying(t, "hold 1m", "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2")
		settle(t, f, "www.example.org. A")
		w.set("down", "192.0.2.1")
		expect(t, "One fails", after(t, f, wayDown), "2")
		w.set("", "192.0.2.1")
		expect(t, "One is held", after(t, f, time.Minute), "2")
		expect(t, "The hold is over", after(t, f, 7*time.Second), "1 2")
		w.set("down", "192.0.2.1", "192.0.2.2")
		expect(t, "Both fail", after(t, f, wayDown), "1 2")
		w.set("", "192.0.2.1")
		expect(t, "Held, and better than none", after(t, f, wayUp), "1")
	})
}

// An overlay keeps what is asked for, and forgets what is not.
func TestOverlayForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		f, s := w.overlaying(t, "", "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2")
		o := f.overlays[0]
		settle(t, f, "www.example.org. A")
		known := func() int { synctest.Wait(); return len(*o.known.Load()) }
		for range 4 {
			time.Sleep(forgetAfter - time.Minute)
			now(t, f)
		}
		if n := known(); n != 2 {
			t.Errorf("Knows %d addresses that are asked for, want 2", n)
		}
		s.msg.Answer = s.msg.Answer[:1]
		time.Sleep(forgetAfter - time.Second)
		now(t, f)
		if n := known(); n != 2 {
			t.Errorf("Knows %d addresses after less than %s, want 2", n, forgetAfter)
		}
		time.Sleep(sweep + time.Second)
		if n := known(); n != 1 {
			t.Errorf("Knows %d addresses after %s, want 1", n, forgetAfter+sweep)
		}
		time.Sleep(forgetAfter + sweep)
		if n := known(); n != 0 {
			t.Errorf("Knows %d addresses that nobody asks for, want none", n)
		}
		asked := w.count()
		time.Sleep(time.Hour)
		if n := w.count() - asked; n != 0 {
			t.Errorf("%d probes of what is forgotten", n)
		}
		expect(t, "Asked for again", after(t, f, time.Second), "1")
		if n := known(); n != 1 {
			t.Errorf("Knows %d addresses, want 1", n)
		}
	})
}

// A flood of names, and one of addresses, ends where the limit is.
func TestOverlayFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 50
		f, s := newWorld().overlaying(t, "limit 50", "www.example.org. 60 A 192.0.2.1")
		o := f.overlays[0]
		settle(t, f, "www.example.org. A")
		flood := func(n int, names, addresses bool) {
			w := new(written)
			for i := range n {
				r := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
				a := &dns.A{Hdr: s.msg.Answer[0].(*dns.A).Hdr, A: net.IP{192, 0, 2, 1}}
				if names {
					r.Question[0].Name = fmt.Sprintf("n%d.example.org.", i)
					a.Hdr.Name = r.Question[0].Name
				}
				if addresses {
					a.A = net.IP{byte(i>>16) + 11, byte(i >> 8), byte(i), 1}
				}
				f.Next = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
					m := new(dns.Msg).SetReply(r)
					m.Answer = []dns.RR{a}
					return dns.RcodeSuccess, w.WriteMsg(m)
				})
				f.ServeDNS(context.Background(), w, r)
				if got := w.msgs[0].Answer[0].(*dns.A).A; !got.Equal(a.A) {
					t.Fatalf("Answer %s, want %s", got, a.A)
				}
				w.msgs = w.msgs[:0]
			}
		}
		heap := func() uint64 {
			synctest.Wait()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		flood(100_000, true, true)
		before := heap()
		if n := len(*o.known.Load()); n != limit {
			t.Errorf("Knows %d addresses, want %d", n, limit)
		}
		flood(1_000_000, true, true)
		if after := heap(); after > before+1<<20 {
			t.Errorf("The heap grows from %d to %d bytes", before, after)
		}
		if n := o.overflowed.Load(); n < 1_000_000 {
			t.Errorf("%d addresses over the limit are counted, want a million and more", n)
		}
		time.Sleep(forgetAfter + sweep)
		flood(1000, true, false)
		if after := heap(); after > before+1<<20 {
			t.Errorf("The heap is %d bytes, before %d", after, before)
		}
		if n := len(*o.known.Load()); n != 1 {
			t.Errorf("Knows %d addresses of many names, want one", n)
		}
	})
}

func TestMayProbe(t *testing.T) {
	byDefault, allowed := &overlay{}, &overlay{allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}}
	for addr, want := range map[string][2]bool{
		"192.0.2.1":              {true, false},
		"10.0.0.1":               {true, false},
		"2001:db8::1":            {true, true},
		"fd00::1":                {true, false},
		"127.0.0.1":              {false, true},
		"127.255.255.254":        {false, true},
		"::1":                    {false, false},
		"0.0.0.0":                {false, false},
		"0.0.0.1":                {false, false},
		"::":                     {false, false},
		"::127.0.0.1":            {false, false},
		"::ffff:127.0.0.1":       {false, false},
		"::ffff:192.0.2.1":       {false, false},
		"::ffff:169.254.169.254": {false, false},
		"169.254.1.1":            {false, false},
		"169.254.169.254":        {false, false},
		"fe80::1":                {false, false},
		"febf::1":                {false, false},
		"fd00:ec2::254":          {false, false},
		"224.0.0.1":              {false, false},
		"239.1.1.1":              {false, false},
		"255.255.255.255":        {false, false},
		"ff02::1":                {false, false},
		"64:ff9b::a9fe:a9fe":     {false, false},
		"64:ff9b::c000:201":      {true, false},
		"64:ff9b:1::a9fe:a9fe":   {false, false},
		"2002:7f00:1::1":         {false, false},
		// Private and documentation networks: clusters, laboratories and the README use them.
		"172.16.0.1":     {true, false},
		"192.168.0.1":    {true, false},
		"100.64.0.1":     {true, false},
		"198.51.100.1":   {true, false},
		"203.0.113.1":    {true, false},
		"fc00::1":        {true, false},
		"3fff::1":        {true, false},
		"2606:4700::1":   {true, false},
		"2001:200::1":    {true, false},
		"2002:808:808::": {true, false},
		// The last address before and the first one after a network that is never probed.
		"191.255.255.255": {true, false},
		"192.0.1.0":       {true, false},
		"198.17.255.255":  {true, false},
		"198.20.0.0":      {true, false},
		"223.255.255.255": {true, false},
		"1.0.0.0":         {true, false},
		"2000::":          {true, false},
		// An IPv4 address inside an IPv6 address.
		"64:ff9b::f000:1":                      {false, false},
		"64:ff9b::c612:1":                      {false, false},
		"64:ff9b::a00:1":                       {true, false},
		"2002:f000:1::1":                       {false, false},
		"2002:a9fe:a9fe::1":                    {false, false},
		"2002:c000:aa::1":                      {false, false},
		"2001:db8::5efe:7f00:1":                {false, true},  // allow has both addresses
		"2001:db8::200:5efe:f000:1":            {false, false}, // allow has the IPv6 address only
		"2001:db8::5efe:c000:201":              {true, true},
		"::ffff:0:127.0.0.1":                   {false, false},
		"2001:0:4136:e378:8000:63bf:3fff:fdd2": {false, false}, // Teredo
	} {
		a := netip.MustParseAddr(addr)
		if got := [2]bool{byDefault.mayProbe(a), allowed.mayProbe(a)}; got != want {
			t.Errorf("%s may be probed by default and with allow: %t, want %t", addr, got, want)
		}
	}
}

// Each network that is never probed has a reason. No address of it is probed unless allow names the network.
func TestNeverProbed(t *testing.T) {
	for network, reason := range map[string]string{
		"0.0.0.0/8":              "this host",
		"127.0.0.0/8":            "loopback",
		"168.63.129.16/32":       "Azure",
		"100.100.100.200/32":     "Alibaba",
		"169.254.0.0/16":         "link-local",
		"192.0.0.0/24":           "protocol",
		"198.18.0.0/15":          "benchmark",
		"224.0.0.0/4":            "multicast",
		"240.0.0.0/4":            "reserved",
		"::/3":                   "loopback",
		"2001::/23":              "Teredo",
		"4000::/2":               "reserved",
		"8000::/2":               "reserved",
		"c000::/3":               "reserved",
		"e000::/4":               "reserved",
		"f000::/5":               "reserved",
		"f800::/6":               "reserved",
		"fd00:c1::a9fe:a9fe/128": "Oracle",
		"fd00:ec2::254/128":      "AWS",
		"fd20:ce::254/128":       "Google",
		"fe00::/9":               "reserved",
		"fe80::/10":              "link-local",
		"fec0::/10":              "site-local",
		"ff00::/8":               "multicast",
	} {
		n := netip.MustParsePrefix(network)
		i := slices.IndexFunc(neverProbed, func(s specialNetwork) bool { return s.Prefix == n })
		if i < 0 || !strings.Contains(neverProbed[i].reason, reason) {
			t.Errorf("%s is not among the networks never probed with a reason that has %q", network, reason)
		}
		byDefault, allowed := &overlay{}, &overlay{allow: []netip.Prefix{n}}
		for _, a := range []netip.Addr{n.Addr(), n.Addr().Next(), lastOf(n)} {
			if !n.Contains(a) {
				continue
			}
			if byDefault.mayProbe(a) {
				t.Errorf("%s of %s may be probed by default", a, n)
			}
			if !allowed.mayProbe(a) {
				t.Errorf("%s of %s may not be probed with allow %s", a, n, n)
			}
		}
	}
	if got, want := len(neverProbed), 24; got != want {
		t.Errorf("%d networks are never probed, want %d", got, want)
	}
}

// lastOf returns the last address of a network.
func lastOf(n netip.Prefix) netip.Addr {
	b := n.Addr().AsSlice()
	for i := n.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// What must not be probed is not, and is passed on as it is.
func TestOverlayForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			mu   sync.Mutex
			said strings.Builder
		)
		golog.SetOutput(writerFunc(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return said.Write(b)
		}))
		t.Cleanup(clog.Discard)
		w := newWorld()
		f, s := w.overlaying(t, "", "www.example.org. 60 AAAA ::1, www.example.org. 60 AAAA ::ffff:127.0.0.1, www.example.org. 60 AAAA fe80::1")
		s.msg.Answer[1].(*dns.AAAA).AAAA = net.IPv4(127, 0, 0, 1)
		for range 3 {
			settle(t, f, "www.example.org. AAAA")
		}
		if got, want := shown(t, f, "www.example.org. AAAA"), "NOERROR aa www.example.org. 60 AAAA ::1, www.example.org. 60 AAAA ::ffff:127.0.0.1, www.example.org. 60 AAAA fe80::1"; got != want {
			t.Errorf("Got %s, want %s", got, want)
		}
		time.Sleep(10 * sweep)
		synctest.Wait()
		mu.Lock()
		if n := strings.Count(said.String(), "example.org. has addresses in its answers that it may not probe, see allow"); n != 1 {
			t.Errorf("The log is %q, want it said once", said.String())
		}
		mu.Unlock()
		if n := w.count(); n > 0 {
			t.Errorf("%d probes of loopback and link-local addresses", n)
		}
		o := f.overlays[0].overlay
		if n := o.notAllowed.Load(); n != 4*3 {
			t.Errorf("%d are counted, want 12", n)
		}
		// The count goes on in the next generation.
		g, h := w.generate(t, f.generation.monitor, f.generation, over("from next"))
		g.start()
		process.reloading = f.generation
		f.generation.reloaded()
		if n := h.overlays[0].notAllowed.Load(); n != 4*3 {
			t.Errorf("%d are counted after a reload, want 12", n)
		}
	})
}

// The next generation of an overlay starts from what this one knows, and does so once more before this one
// stops.
func TestOverlayReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const text = "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2"
		w, lines := newWorld(), logged(t)
		m := monitor.New(nil)
		one, f := w.generate(t, m, nil, over("from next"))
		f.Next = newSource(t, text)
		one.start()
		w.set("down", "192.0.2.1")
		settle(t, f, "www.example.org. A")
		expect(t, "One is down", now(t, f), "2")

		asked, said, began := w.count(), len(lines()), time.Now()
		two, g := w.generate(t, m, one, over("from next"))
		g.Next = f.Next
		two.start()
		if took, n := time.Since(began), w.count()-asked; took != 0 || n != 0 {
			t.Errorf("Start of the same again takes %s and %d probes, want nothing", took, n)
		}
		expect(t, "The same again", now(t, g), "2")
		f.Next = newSource(t, "www.example.org. 60 A 192.0.2.3, www.example.org. 60 A 192.0.2.4")
		w.set("down", "192.0.2.3", "192.0.2.2")
		settle(t, f, "www.example.org. A")
		expect(t, "More in the old generation", now(t, f), "4")
		expect(t, "Both down, in the new one", now(t, g), "1 2")
		if got := lines()[said:]; len(got) != 2 {
			t.Errorf("Lines of two generations: %q, want one for each of two addresses that are down", got)
		}
		process.reloading, asked = one, w.count()
		one.reloaded()
		g.Next = f.Next
		expect(t, "What the old one has found", now(t, g), "4")
		if got := lines()[said:]; len(got) != 3 || got[2] != "Reloaded 1 overlay: 1 address up, 3 down" || w.count() != asked {
			t.Errorf("Lines %q and %d probes once the new generation speaks, want the summary and nothing else", got, w.count()-asked)
		}
		w.set("down", "192.0.2.4")
		expect(t, "The new one alone", after(t, g, wayDown), "3 4")
		if got := lines()[said:]; len(got) != 4 {
			t.Errorf("Lines %q, want one more", got)
		}

		// Other settings start from the statuses; another question has to be asked, and is waited for.
		three, h := w.generate(t, m, two, over("from next\ninterval 10s\nallow 192.0.2.0/29\nlimit 3"))
		h.Next = f.Next
		three.start()
		if n := len(*h.overlays[0].known.Load()); n != 3 {
			t.Errorf("Takes over %d addresses, want 3, its limit", n)
		}
		three.stop()
		w.set("", "192.0.2.4")
		began = time.Now()
		w.mu.Lock()
		w.takes = 100 * time.Millisecond
		w.mu.Unlock()
		four, i := w.generate(t, m, two, "failover {\nfrom next\nprobe tcp://:80\n}")
		i.Next = f.Next
		four.start()
		if took := time.Since(began); took < 100*time.Millisecond || took > 3*time.Second {
			t.Errorf("Start with another question takes %s", took)
		}
		expect(t, "Another question", after(t, i, 3*time.Second), "4")
		two.stop()
		// Another server block's overlay knows what this one did, if it asks the same.
		five, j := w.generate(t, m, four, "failover www.example.org {\nfrom next\nprobe tcp://:80\n}")
		j.Next = f.Next
		five.start()
		expect(t, "Under another name", now(t, j), "4")
		five.stop()
		four.stop()
		four.overlays[0].speak()
		four.overlays[0].stop()
	})
}

// A set that was answered before is answered as if it were the first time, whatever has changed.
func TestOverlayRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		rng := rand.New(rand.NewPCG(1, 2))
		f, s := w.overlaying(t, "order sorted\nanswer 3\nmin 2", "www.example.org. 60 A 192.0.2.1")
		forgetful := func() string {
			clear(f.overlays[0].recent.places[:])
			return shown(t, f, "www.example.org. A")
		}
		for range 2000 {
			n := rng.IntN(6) + 1
			s.msg.Answer = s.msg.Answer[:0]
			for range n {
				rr, _ := dns.NewRR(fmt.Sprintf("www.example.org. %d A 192.0.2.%d", 4+rng.IntN(5), rng.IntN(8)))
				s.msg.Answer = append(s.msg.Answer, rr)
			}
			if rng.IntN(3) == 0 {
				w.set([]string{"", "down"}[rng.IntN(2)], fmt.Sprintf("192.0.2.%d", rng.IntN(8)))
				time.Sleep(time.Duration(rng.IntN(8)) * time.Second)
				synctest.Wait()
			}
			first := shown(t, f, "www.example.org. A")
			synctest.Wait()
			second := shown(t, f, "www.example.org. A")
			third := shown(t, f, "www.example.org. A")
			if fresh := forgetful(); second != fresh || third != fresh {
				t.Fatalf("Answers %s, then %s and %s, want %s", first, second, third, fresh)
			}
		}
	})
}

// Queries, results, sweeps and generations at once.
func TestOverlayStorm(t *testing.T) {
	w := newWorld()
	synctest.Test(t, func(t *testing.T) {
		f, s := w.overlaying(t, "order random\nfallback last", "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2, www.example.org. 60 A 192.0.2.3")
		before := s.msg.Copy()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for n := range 2000 {
					out := new(written)
					f.ServeDNS(context.Background(), out, new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA))
					m := out.msgs[0]
					if len(m.Answer) == 0 || len(m.Answer) > 3 {
						t.Errorf("Answer is %v", m.Answer)
					}
					m.Answer = append(m.Answer, &dns.TXT{}) // as dnssec does
					if _, err := m.Pack(); err == nil && n%10 == 0 {
						w.set([]string{"", "down"}[n/10%2], fmt.Sprintf("192.0.2.%d", i%3+1))
						time.Sleep(time.Second)
					}
				}
			})
		}
		wg.Wait()
		if !reflect.DeepEqual(before, s.msg.Copy()) {
			t.Errorf("The next plugin's message is now\n%v\nbefore\n%v", s.msg, before)
		}
	})
}

func TestIsBelow(t *testing.T) {
	names := []string{".", "org.", "example.org.", "www.example.org.", "wwwexample.org.", `a\.example.org.`, `a\\.example.org.`, `\\\.example.org.`, `x.a\.example.org.`, "n.example.org.", "example.org.example.org."}
	for _, name := range names {
		for _, origin := range names {
			if got, want := dnsname.IsBelow(name, origin), dns.IsSubDomain(origin, name); got != want {
				t.Errorf("%s is below %s: %t, want %t", name, origin, got, want)
			}
		}
	}
}

// The longest name that covers a name counts, and a pool's own names are its own.
func TestOverlayCovers(t *testing.T) {
	f := serving(t, "failover {\nfrom next\nprobe tcp://:1\nttl 1\n}\nfailover apps.example.org {\nfrom next\nprobe tcp://:2\nttl 2\n}\nfailover www.example.org *.pool.example.org 192.0.2.10:443", nil)
	for name, want := range map[string]string{
		"example.org.": "example.org.", "a.example.org.": "example.org.", "apps.example.org.": "apps.example.org.", "a.b.apps.example.org.": "apps.example.org.",
		"myapps.example.org.": "example.org.", "example.com.": "",
	} {
		got := ""
		if c := f.overlays.find(name); c != nil {
			got = c.names[0]
		}
		if got != want {
			t.Errorf("%s is covered by %q, want %q", name, got, want)
		}
	}
	f.Next = newSource(t, "x.example.org. 60 A 192.0.2.1")
	for question, want := range map[string]string{
		"www.example.org. A":      "NOERROR aa www.example.org. 7 A 192.0.2.10",
		"any.pool.example.org. A": "NOERROR aa any.pool.example.org. 7 A 192.0.2.10",
		"www.example.org. MX":     "NOERROR aa x.example.org. 1 A 192.0.2.1",
		"x.example.org. A":        "NOERROR aa x.example.org. 1 A 192.0.2.1",
		"x.apps.example.org. A":   "NOERROR aa x.example.org. 2 A 192.0.2.1",
		"x.example.org. A ch":     "NOERROR aa x.example.org. 60 A 192.0.2.1",
		"x.example.org. AXFR":     "NOERROR aa x.example.org. 60 A 192.0.2.1",
	} {
		if got := shown(t, f, question); got != want {
			t.Errorf("%s: %s, want %s", question, got, want)
		}
	}
}

// A plugin that writes the bytes itself is put right as well.
func TestOverlayWrite(t *testing.T) {
	f := serving(t, over("from next\nttl 9"), nil)
	f.Next = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := new(dns.Msg).SetReply(r)
		rr, _ := dns.NewRR("www.example.org. 60 A 192.0.2.1")
		m.Answer = []dns.RR{rr}
		wire, _ := m.Pack()
		if n, err := w.Write(wire); n != len(wire) || err != nil {
			t.Errorf("Write takes %d of %d bytes: %v", n, len(wire), err)
		}
		if _, err := w.Write(wire[:5]); err == nil {
			t.Error("Write takes what is no message")
		}
		return dns.RcodeSuccess, nil
	})
	if got, want := ask(t, f, "www.example.org. A"), "NOERROR www.example.org. 9 A 192.0.2.1"; got != want {
		t.Errorf("Got %s, want %s", got, want)
	}
}
