package failover

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/dnsname"
	"github.com/coredns-failover/failover/plugin/pool"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
)

// soon is how soon the members of these tests could change, and so what their answers have for a TTL.
const soon = 7 * time.Second

// serving is failover with the directives of the server block example.org, or of other keys. All
// members are up; nobody asks them.
func serving(t testing.TB, directives string, next plugin.Handler, keys ...string) Failover {
	t.Helper()
	if keys == nil {
		keys = []string{"example.org."}
	}
	configs, err := configured(directives, keys...)
	if err != nil {
		t.Fatal(err)
	}
	zones := plugin.OriginsFromArgsOrServerBlock(nil, keys)
	f := Failover{Next: next, handler: &handler{newBlock(&generation{zones: make(map[zoneKey]*zone)}, configs, zones, "test")}}
	for _, p := range f.generation.pools {
		turn(p, strings.Repeat("+", p.Size()))
	}
	return f
}

// turn gives each member a status, + up or - down, and answers by it from now on.
func turn(p *livePool, statuses string, last ...int) {
	memberHealth := make([]pool.Health, len(statuses))
	for i, s := range statuses {
		memberHealth[i] = pool.Health{Up: s == '+', Next: soon}
	}
	p.now.Store(answer.New(p.answers, p.names[0], p.Choose(memberHealth, last)))
}

// turnFirst is turn of the first pool.
func (f Failover) turnFirst(statuses string, last ...int) Failover {
	turn(f.generation.pools[0], statuses, last...)
	return f
}

// query is a query in words: the name, the type, and what else there is to it.
func query(t testing.TB, words string) *dns.Msg {
	t.Helper()
	w := strings.Fields(words)
	qtype, ok := dns.StringToType[w[1]]
	if !ok {
		t.Fatalf("No type: %q", w[1])
	}
	r := new(dns.Msg).SetQuestion(w[0], qtype)
	for _, more := range w[2:] {
		switch more {
		case "edns":
			r.SetEdns0(1232, false)
		case "ch":
			r.Question[0].Qclass = dns.ClassCHAOS
		case "notify":
			r.Opcode = dns.OpcodeNotify
		case "update":
			r.Opcode = dns.OpcodeUpdate
		case "two":
			r.Question = append(r.Question, r.Question[0])
		case "none":
			r.Question = nil
		default:
			t.Fatalf("No such query: %q", more)
		}
	}
	return r
}

// written is a writer that keeps what was written to it.
type written struct {
	test.ResponseWriter
	msgs []*dns.Msg
}

func (w *written) WriteMsg(m *dns.Msg) error {
	w.msgs = append(w.msgs, m)
	return nil
}

// ask is what comes of a query, in words.
func ask(t testing.TB, h plugin.Handler, question string) string {
	t.Helper()
	w := new(written)
	r := query(t, question)
	rcode, err := h.ServeDNS(context.Background(), w, r)
	switch {
	case len(w.msgs) > 1:
		t.Errorf("%s: %d answers, want one", question, len(w.msgs))
	case len(w.msgs) == 0 && err != nil:
		return fmt.Sprintf("%s unwritten: %v", dns.RcodeToString[rcode], err)
	case len(w.msgs) == 0:
		return dns.RcodeToString[rcode] + " unwritten"
	case !plugin.ClientWrite(rcode) || err != nil:
		t.Errorf("%s: written, and returns %s %v too", question, dns.RcodeToString[rcode], err)
	}
	if m := w.msgs[0]; m.Id != r.Id || !m.Response || !slices.Equal(m.Question, r.Question) || m.RecursionAvailable || m.RecursionDesired != r.RecursionDesired {
		t.Errorf("%s: not the answer to that: %s", question, m)
	}
	return words(w.msgs[0])
}

// words is a message in words: rcode, flags, answer, / authority, and the Extended DNS Error.
func words(m *dns.Msg) string {
	w := []string{dns.RcodeToString[m.Rcode]}
	if m.Authoritative {
		w = append(w, "aa")
	}
	if m.AuthenticatedData {
		w = append(w, "ad")
	}
	record := func(rr dns.RR) string {
		h := rr.Header()
		data := strings.TrimPrefix(rr.String(), h.String())
		if soa, ok := rr.(*dns.SOA); ok {
			data = "minimum " + strconv.Itoa(int(soa.Minttl))
		}
		return fmt.Sprintf("%s %d %s %s", h.Name, h.Ttl, dns.TypeToString[h.Rrtype], data)
	}
	for i, rr := range m.Answer {
		if i > 0 {
			w = append(w, ",")
		}
		w = append(w, record(rr))
	}
	for i, rr := range m.Ns {
		w = append(w, []string{"/", ","}[min(i, 1)], record(rr))
	}
	for _, rr := range m.Extra {
		opt, ok := rr.(*dns.OPT)
		if !ok {
			w = append(w, "+", record(rr))
			continue
		}
		for _, o := range opt.Option {
			w = append(w, "EDE", o.String())
		}
	}
	return strings.ReplaceAll(strings.Join(w, " "), " ,", ",")
}

const zoneOfTests = `failover www.example.org east=192.0.2.10:443 192.0.2.11:443 [2001:db8::10]:443 {
    backup 198.51.100.10:443
}
failover v4.example.org 192.0.2.9:443 192.0.2.1:443
failover a.b.example.org 192.0.2.20:443
failover *.wild.example.org deep.x.wild.example.org 192.0.2.30:443`

func TestServeDNS(t *testing.T) {
	f := serving(t, zoneOfTests, nil)
	const soa = "example.org. 5 SOA minimum 5"
	tests := []struct{ query, want string }{
		{"www.example.org. A", "NOERROR aa www.example.org. 7 A 192.0.2.10, www.example.org. 7 A 192.0.2.11"},
		{"www.example.org. AAAA", "NOERROR aa www.example.org. 7 AAAA 2001:db8::10"},
		{"www.example.org. ANY", "NOERROR aa www.example.org. 7 A 192.0.2.10, www.example.org. 7 A 192.0.2.11"},
		{"v4.example.org. A", "NOERROR aa v4.example.org. 7 A 192.0.2.9, v4.example.org. 7 A 192.0.2.1"},
		{"www.example.org. A edns", "NOERROR aa www.example.org. 7 A 192.0.2.10, www.example.org. 7 A 192.0.2.11"},

		// The owner is written as it was asked for.
		{"wWw.eXample.ORG. A", "NOERROR aa wWw.eXample.ORG. 7 A 192.0.2.10, wWw.eXample.ORG. 7 A 192.0.2.11"},
		{"WWW.example.org. AAAA", "NOERROR aa WWW.example.org. 7 AAAA 2001:db8::10"},
		{"V4.eXample.ORG. AAAA", "NOERROR aa / eXample.ORG. 5 SOA minimum 5"},

		// No data of that type, but the name exists.
		{"v4.example.org. AAAA", "NOERROR aa / " + soa},
		{"www.example.org. MX", "NOERROR aa / " + soa},
		{"www.example.org. TXT edns", "NOERROR aa / " + soa},
		{"www.example.org. HTTPS", "NOERROR aa / " + soa},
		{"www.example.org. CNAME", "NOERROR aa / " + soa},
		{"www.example.org. SOA", "NOERROR aa / " + soa},
		{"www.example.org. DS", "NOERROR aa / " + soa},
		{"b.example.org. A", "NOERROR aa / example.org. 5 SOA minimum 5"},
		{"b.example.org. TXT", "NOERROR aa / example.org. 5 SOA minimum 5"},
		{"x.wild.example.org. A", "NOERROR aa / example.org. 5 SOA minimum 5"},
		{"wild.example.org. A", "NOERROR aa / example.org. 5 SOA minimum 5"},
		{"example.org. A", "NOERROR aa / example.org. 5 SOA minimum 5"},
		{"example.org. NS", "NOERROR aa / example.org. 5 SOA minimum 5"},
		{"example.org. SOA", "NOERROR aa example.org. 5 SOA minimum 5"},
		{"ExamplE.org. SOA", "NOERROR aa ExamplE.org. 5 SOA minimum 5"},

		// No such name.
		{"x.example.org. A", "NXDOMAIN aa / example.org. 5 SOA minimum 5"},
		{"x.example.org. SOA", "NXDOMAIN aa / example.org. 5 SOA minimum 5"},
		{"x.www.example.org. A", "NXDOMAIN aa / example.org. 5 SOA minimum 5"},
		{"X.EXAMPLE.org. A", "NXDOMAIN aa / EXAMPLE.org. 5 SOA minimum 5"},
		{`\000.example.org. A`, "NXDOMAIN aa / example.org. 5 SOA minimum 5"},

		// Wildcards, with the owner that was asked for.
		{"*.wild.example.org. A", "NOERROR aa *.wild.example.org. 7 A 192.0.2.30"},
		{"y.wild.example.org. A", "NOERROR aa y.wild.example.org. 7 A 192.0.2.30"},
		{"Z.y.wild.example.org. A", "NOERROR aa Z.y.wild.example.org. 7 A 192.0.2.30"},
		{"y.wild.example.org. AAAA", "NOERROR aa / " + soa},
		{"y.wild.example.org. TXT", "NOERROR aa / " + soa},
		{"y.WILD.example.ORG. TXT", "NOERROR aa / example.ORG. 5 SOA minimum 5"},
		{"deep.x.wild.example.org. A", "NOERROR aa deep.x.wild.example.org. 7 A 192.0.2.30"},
		// An existing name covers all below it: the wildcard is not its closest encloser's.
		{"y.x.wild.example.org. A", "NXDOMAIN aa / example.org. 5 SOA minimum 5"},
		{"y.deep.x.wild.example.org. A", "NXDOMAIN aa / example.org. 5 SOA minimum 5"},

		// What is not ours.
		{"example.net. A", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
		{"org. A", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
		{". A", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
		{"badexample.org. A", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
		{`www\.example.org. A`, "SERVFAIL unwritten: plugin/failover: no next plugin found"},
		{"www.example.org. A ch", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
		{"www.example.org. AXFR", "REFUSED unwritten"},
		{"www.example.org. IXFR", "REFUSED unwritten"},
		{"www.example.org. SOA notify", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
		{"www.example.org. SOA update", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
		{"www.example.org. A two", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
		{"www.example.org. A none", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
	}
	for _, tc := range tests {
		if got := ask(t, f, tc.query); got != tc.want {
			t.Errorf("%s:\nGot  %s\nwant %s", tc.query, got, tc.want)
		}
	}
}

func TestServeStatuses(t *testing.T) {
	const (
		line    = "failover www.example.org 192.0.2.10:443 192.0.2.11:443 [2001:db8::10]:443 {\nbackup 198.51.100.10:443\n"
		nodata  = "NOERROR aa / example.org. 5 SOA minimum 5"
		www     = "www.example.org. 7 A "
		fall    = " EDE 0 (Other): (no tier is usable: fallback "
		allFour = "NOERROR aa " + www + "192.0.2.10, " + www + "192.0.2.11, " + www + "198.51.100.10"
	)
	tests := []struct {
		block    string
		statuses string
		last     []int
		query    string // of www.example.org
		want     string
	}{
		{"", "+++-", nil, "A", "NOERROR aa " + www + "192.0.2.10, " + www + "192.0.2.11"},
		{"", "-++-", nil, "A", "NOERROR aa " + www + "192.0.2.11"},
		{"", "--++", nil, "A", nodata},
		{"", "++-+", nil, "AAAA", nodata},
		{"", "--++", nil, "ANY", "NOERROR aa www.example.org. 7 AAAA 2001:db8::10"},
		{"", "---+", nil, "A", "NOERROR aa " + www + "198.51.100.10"},
		{"", "---+", nil, "AAAA", nodata},
		{"", "---+", nil, "A edns", "NOERROR aa " + www + "198.51.100.10"},
		{"answer 1", "++++", nil, "A", "NOERROR aa " + www + "192.0.2.10"},
		{"order sorted", "++++", nil, "A", "NOERROR aa " + www + "192.0.2.10, " + www + "192.0.2.11"},
		{"ttl 30", "++++", nil, "A", "NOERROR aa " + strings.ReplaceAll(www+"192.0.2.10, "+www+"192.0.2.11", " 7 ", " 30 ")},
		{"ttl 30", "--++", nil, "A", strings.ReplaceAll(nodata, "5", "30")},
		{"ttl 30", "--++", nil, "TXT", strings.ReplaceAll(nodata, "5", "30")},

		// The error of an answer out of the ordinary is for those who have EDNS only.
		{"", "----", nil, "A", allFour},
		{"", "----", nil, "A edns", allFour + fall + "all)"},
		{"", "----", nil, "AAAA edns", "NOERROR aa www.example.org. 7 AAAA 2001:db8::10" + fall + "all)"},
		{"", "----", nil, "TXT edns", nodata},
		{"fallback primary", "----", nil, "A edns", "NOERROR aa " + www + "192.0.2.10, " + www + "192.0.2.11" + fall + "primary)"},
		{"fallback last", "----", []int{1}, "A edns", "NOERROR aa " + www + "192.0.2.11 EDE 3 (Stale Answer): (no tier is usable: the last that was)"},
		{"fallback last", "----", []int{1}, "A", "NOERROR aa " + www + "192.0.2.11"},
		{"fallback last", "----", nil, "A edns", allFour + fall + "last)"},
		{"fallback none", "----", nil, "A", nodata},
		{"fallback none", "----", nil, "A edns", nodata + fall + "none)"},
		{"fallback nxdomain", "----", nil, "A", "NXDOMAIN aa / example.org. 5 SOA minimum 5"},
		{"fallback nxdomain", "----", nil, "TXT", "NXDOMAIN aa / example.org. 5 SOA minimum 5"},
		{"fallback nxdomain", "++++", nil, "TXT", nodata},
		{"fallback servfail", "----", nil, "A", "SERVFAIL"},
		{"fallback servfail", "----", nil, "A edns", "SERVFAIL" + fall + "servfail)"},
		{"fallback refused", "----", nil, "A edns", "REFUSED" + fall + "refused)"},
		{"fallback next", "----", nil, "A edns", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
		{"fallback 203.0.113.1 2001:db8::1", "----", nil, "A edns", "NOERROR aa " + www + "203.0.113.1" + fall + "203.0.113.1 2001:db8::1)"},
		{"fallback 203.0.113.1", "----", nil, "AAAA edns", nodata + fall + "203.0.113.1)"},
		{"min 50%", "++-+", nil, "A", "NOERROR aa " + www + "192.0.2.10, " + www + "192.0.2.11"},
		{"min 50%", "+--+", nil, "A", "NOERROR aa " + www + "198.51.100.10"},
	}
	for _, tc := range tests {
		f := serving(t, line+tc.block+"\n}", nil).turnFirst(tc.statuses, tc.last...)
		if got := ask(t, f, "www.example.org. "+tc.query); got != tc.want {
			t.Errorf("%q with members %s, %s:\nGot  %s\nwant %s", tc.block, tc.statuses, tc.query, got, tc.want)
		}
	}
}

// Of a pool whose order turns, each family turns by itself, and so do pools.
func TestServeOrders(t *testing.T) {
	f := serving(t, "failover www.example.org 192.0.2.3:1 192.0.2.1:1 192.0.2.2:1 2001:db8::2 2001:db8::1 {\norder cyclic\nprobe tcp://:1\n}", nil)
	owner := "www.example.org."
	shown := func(qtype string) string {
		w := new(written)
		if _, err := f.ServeDNS(context.Background(), w, query(t, owner+" "+qtype)); err != nil {
			t.Fatal(err)
		}
		var last []string
		for _, rr := range w.msgs[0].Answer {
			a := dns.Field(rr, 1)
			last = append(last, a[len(a)-1:])
		}
		return strings.Join(last, "")
	}
	var got []string
	for _, qtype := range []string{"A", "AAAA", "A", "AAAA", "A", "AAAA", "A", "ANY", "AAAA"} {
		got = append(got, shown(qtype))
	}
	if s, want := strings.Join(got, " "), "312 21 123 12 231 21 312 123 12"; s != want {
		t.Errorf("Cyclic answers %s, want %s", s, want)
	}
	owner = "WWW.example.org." // copies of the records turn like the records
	if s := shown("A") + " " + shown("A"); s != "231 312" {
		t.Errorf("Cyclic answers with another owner %s, want 231 312", s)
	}

	f = serving(t, "failover www.example.org 192.0.2.3:1 192.0.2.1:1 192.0.2.2:1 {\norder random\nanswer 2\n}", nil)
	owner = "www.example.org."
	seen := make(map[string]bool)
	for range 1000 {
		seen[shown("A")] = true
	}
	if len(seen) != 6 {
		t.Errorf("Random answers are %v, want all six pairs", seen)
	}
}

// reply is a next plugin that always says the same, as an authority or not.
type reply struct {
	rcode   int
	flags   string // aa ad
	answer  string // records, with commas between them
	ns      string
	returns int // without writing anything, when it is not 0
	err     error
	asked   *int
}

func (n reply) Name() string { return "next" }

func (n reply) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if n.asked != nil {
		*n.asked++
	}
	if n.returns != 0 || n.err != nil {
		return n.returns, n.err
	}
	if strings.HasPrefix(r.Question[0].Name, "no-such-name.") {
		return dns.RcodeSuccess, w.WriteMsg(new(dns.Msg).SetRcode(r, dns.RcodeNameError))
	}
	m := new(dns.Msg).SetRcode(r, n.rcode)
	m.Authoritative, m.AuthenticatedData = strings.Contains(n.flags, "aa"), strings.Contains(n.flags, "ad")
	m.Answer, m.Ns = rrs(n.answer), rrs(n.ns)
	return dns.RcodeSuccess, w.WriteMsg(m)
}

func rrs(text string) []dns.RR {
	var all []dns.RR
	for line := range strings.SplitSeq(text, ", ") {
		if line == "" {
			continue
		}
		rr, err := dns.NewRR(line)
		if err != nil {
			panic(err)
		}
		all = append(all, rr)
	}
	return all
}

func TestServeNext(t *testing.T) {
	const (
		theirs  = "example.org. 300 IN SOA ns1.example.org. admin.example.org. 1 2 3 4 60"
		nsec    = "a.example.org. 300 IN NSEC z.example.org. A RRSIG NSEC"
		sig     = "a.example.org. 300 IN RRSIG NSEC 13 3 300 20300101000000 20200101000000 1 example.org. AAAA"
		ours    = "/ example.org. 5 SOA minimum 5"
		nodata  = "NOERROR aa / example.org. 300 SOA minimum 60"
		members = "www.example.org. 7 A 192.0.2.10, www.example.org. 7 A 192.0.2.11"
	)
	var (
		mx       = reply{flags: "aa", answer: "www.example.org. 300 IN MX 10 mail.example.org."}
		nx       = reply{rcode: dns.RcodeNameError, flags: "aa", ns: theirs}
		signedNX = reply{rcode: dns.RcodeNameError, flags: "aa ad", ns: nsec + ", " + sig + ", " + theirs}
		bareNX   = reply{rcode: dns.RcodeNameError}
		bare     = reply{}
		noData   = reply{flags: "aa", ns: theirs}
		referral = reply{ns: "www.example.org. 300 IN NS ns.example.net."}
		failed   = reply{returns: dns.RcodeServerFailure, err: errors.New("zone expired")}
		refused  = reply{returns: dns.RcodeRefused}
		wrote    = reply{rcode: dns.RcodeServerFailure}
		alias    = reply{rcode: dns.RcodeNameError, flags: "aa", answer: "www.example.org. 300 IN CNAME www.example.net."}
		soa      = reply{flags: "aa", answer: theirs}
		txt      = reply{flags: "aa", answer: "y.wild.example.org. 300 IN TXT theirs"}
		guess    = reply{answer: "y.wild.example.org. 300 IN TXT theirs"}
	)
	tests := []struct {
		next  reply
		query string
		want  string
		asked int
	}{
		// Addresses of pools are never asked for, but a denial comes with the SOA of who has the zone.
		{mx, "www.example.org. A", "NOERROR aa " + members, 0},
		{mx, "www.example.org. AAAA", "NOERROR aa www.example.org. 7 AAAA 2001:db8::10", 0},
		{mx, "v4.example.org. AAAA", "NOERROR aa " + ours, 1},
		{noData, "v4.example.org. AAAA", "NOERROR aa / example.org. 5 SOA minimum 60", 1},
		{nx, "v4.example.org. AAAA", "NOERROR aa / example.org. 5 SOA minimum 60", 1},
		{failed, "v4.example.org. AAAA", "NOERROR aa " + ours, 1},
		{referral, "v4.example.org. AAAA", "NOERROR aa " + ours, 1},
		{reply{ns: theirs}, "v4.example.org. AAAA", "NOERROR aa " + ours, 1}, // nobody's authority
		{mx, "www.example.org. ANY", "NOERROR aa " + members, 0},

		// Other types of a name that exists.
		{mx, "www.example.org. MX", "NOERROR aa www.example.org. 300 MX 10 mail.example.org.", 1},
		{noData, "www.example.org. MX", nodata, 1},
		{nx, "www.example.org. MX", nodata, 1},
		{signedNX, "www.example.org. MX", nodata, 1},
		{bareNX, "www.example.org. MX", "NOERROR aa " + ours, 1},
		{bare, "www.example.org. MX edns", "NOERROR aa " + ours, 1},
		{alias, "www.example.org. MX", "NXDOMAIN aa www.example.org. 300 CNAME www.example.net.", 1},
		{referral, "www.example.org. MX", "NOERROR / www.example.org. 300 NS ns.example.net.", 1},
		{wrote, "www.example.org. MX", "SERVFAIL", 1},
		{failed, "www.example.org. MX", "SERVFAIL unwritten: zone expired", 1},
		{refused, "www.example.org. MX", "NOERROR aa / example.org. 5 SOA minimum 5", 1}, // as file does at the end of the chain

		// Names without a pool that exist for the sake of one that has.
		{nx, "b.example.org. A", nodata, 1},
		{bareNX, "b.example.org. A", "NOERROR aa / example.org. 5 SOA minimum 5", 1},
		{nx, "example.org. A", nodata, 1},
		{soa, "example.org. SOA", "NOERROR aa example.org. 300 SOA minimum 60", 1},
		{nx, "example.org. SOA", "NOERROR aa example.org. 5 SOA minimum 5", 1},
		{bareNX, "eXample.org. SOA", "NOERROR aa eXample.org. 5 SOA minimum 5", 1},
		{referral, "example.org. SOA", "NOERROR / www.example.org. 300 NS ns.example.net.", 1},

		// Names that are not ours.
		{nx, "x.example.org. A", "NXDOMAIN aa / example.org. 300 SOA minimum 60", 1},
		{bareNX, "x.example.org. A", "NXDOMAIN", 1},
		{bare, "x.example.org. A", "NOERROR", 1},
		{failed, "x.example.org. A", "SERVFAIL unwritten: zone expired", 1},
		{mx, "www.example.org. AXFR", "NOERROR aa www.example.org. 300 MX 10 mail.example.org.", 1},
		{refused, "x.example.org. AXFR", "REFUSED unwritten", 1},
		{refused, "example.net. AXFR", "REFUSED unwritten", 1},
		{mx, "www.example.org. MX ch", "NOERROR aa www.example.org. 300 MX 10 mail.example.org.", 1},

		// A wildcard covers a name unless the next plugins know it.
		{txt, "y.wild.example.org. A", "NOERROR aa y.wild.example.org. 300 TXT \"theirs\"", 2},
		{guess, "y.wild.example.org. A", "NOERROR aa y.wild.example.org. 7 A 192.0.2.30", 1},
		{noData, "y.wild.example.org. A", "NOERROR aa / example.org. 300 SOA minimum 60", 2},
		{nx, "y.wild.example.org. A", "NOERROR aa y.wild.example.org. 7 A 192.0.2.30", 1},
		{bare, "y.wild.example.org. A", "NOERROR aa y.wild.example.org. 7 A 192.0.2.30", 1},
		{referral, "y.wild.example.org. A", "NOERROR / www.example.org. 300 NS ns.example.net.", 2},
		{failed, "y.wild.example.org. A", "SERVFAIL unwritten: zone expired", 1},
		{refused, "y.wild.example.org. A", "NOERROR aa y.wild.example.org. 7 A 192.0.2.30", 1},
		{txt, "y.wild.example.org. TXT", "NOERROR aa y.wild.example.org. 300 TXT \"theirs\"", 1},
		{nx, "y.wild.example.org. TXT", nodata, 1},
		{txt, "*.wild.example.org. A", "NOERROR aa *.wild.example.org. 7 A 192.0.2.30", 0},
	}
	for _, tc := range tests {
		asked := 0
		tc.next.asked = &asked
		f := serving(t, zoneOfTests, tc.next)
		f.zonesBelow, f.soasBelow = true, true
		if got := ask(t, f, tc.query); got != tc.want || asked != tc.asked {
			t.Errorf("%s, next %+v:\nGot  %s\nwant %s\nwith the next plugin asked %d times, want %d", tc.query, tc.next, got, tc.want, asked, tc.asked)
		}
	}

	// ANY is whatever there is.
	none := serving(t, "failover www.example.org 192.0.2.10:443 {\nfallback none\n}", mx).turnFirst("-")
	none.zonesBelow = true
	if got, want := ask(t, none, "www.example.org. ANY"), "NOERROR aa www.example.org. 300 MX 10 mail.example.org."; got != want {
		t.Errorf("Got %s, want %s", got, want)
	}

	// Where nobody further down has zones, a wildcard waits for nobody.
	asked := 0
	txt.asked = &asked
	f := serving(t, zoneOfTests, txt)
	if got := ask(t, f, "y.wild.example.org. A"); got != "NOERROR aa y.wild.example.org. 7 A 192.0.2.30" || asked != 0 {
		t.Errorf("Wildcard without zones below: %s, next plugin asked %d times", got, asked)
	}
	if got := ask(t, f, "y.wild.example.org. TXT"); !strings.Contains(got, "theirs") || asked != 1 {
		t.Errorf("Wildcard's other types: %s, next plugin asked %d times", got, asked)
	}

	// Nobody transfers anything.
	for query, want := range map[string]string{"www.example.org. AXFR": "REFUSED unwritten", "x.example.org. AXFR": "REFUSED unwritten",
		"x.example.net. AXFR": "SERVFAIL unwritten: plugin/failover: no next plugin found"} {
		if got := ask(t, serving(t, zoneOfTests, nil), query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}

	// fallback next.
	f = serving(t, "failover www.example.org 192.0.2.1:443 {\nfallback next\n}", mx).turnFirst("-")
	if got, want := ask(t, f, "www.example.org. A edns"), "NOERROR aa www.example.org. 7 MX 10 mail.example.org."; got != want {
		t.Errorf("Fallback next: got %s, want %s", got, want)
	}
}

// What the next plugin wrote is the next plugin's: a message that is changed is a copy.
func TestServeNextUnchanged(t *testing.T) {
	var theirs *dns.Msg
	var before string
	next := plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		theirs = new(dns.Msg).SetRcode(r, dns.RcodeNameError)
		theirs.AuthenticatedData = true
		theirs.Ns = rrs("a.example.org. 300 IN NSEC z.example.org. A, example.org. 300 IN SOA ns1.example.org. admin.example.org. 1 2 3 4 60")
		before = theirs.String()
		return dns.RcodeSuccess, w.WriteMsg(theirs)
	})
	f := serving(t, zoneOfTests, next)
	for _, q := range []string{"www.example.org. TXT", "b.example.org. A", "example.org. SOA"} {
		ask(t, f, q)
		if theirs.String() != before {
			t.Errorf("%s: the next plugin's message is written to:\n%s\nbefore\n%s", q, theirs, before)
		}
	}
}

func TestServeZones(t *testing.T) {
	// Of two zones the longer one; nobody is the authority for the root.
	const directives = "failover www.example.org a.sub.example.org sub.example.org 192.0.2.1:443\nfailover *.w.example.org 192.0.2.2:443"
	tests := []struct{ query, want string }{
		{"www.example.org. TXT", "NOERROR aa / example.org. 5 SOA minimum 5"},
		{"a.sub.example.org. TXT", "NOERROR aa / sub.example.org. 5 SOA minimum 5"},
		{"sub.example.org. TXT", "NOERROR aa / sub.example.org. 5 SOA minimum 5"},
		{"sub.example.org. SOA", "NOERROR aa sub.example.org. 5 SOA minimum 5"},
		{"x.sub.example.org. A", "NXDOMAIN aa / sub.example.org. 5 SOA minimum 5"},
		{"x.example.org. A", "NXDOMAIN aa / example.org. 5 SOA minimum 5"},
	}
	for _, keys := range [][]string{{"example.org.", "sub.example.org."}, {"sub.example.org.", "example.org."}} {
		f := serving(t, directives, nil, keys...)
		for _, tc := range tests {
			if got := ask(t, f, tc.query); got != tc.want {
				t.Errorf("Zones %v, %s:\nGot  %s\nwant %s", keys, tc.query, got, tc.want)
			}
		}
	}
	f := serving(t, directives, nil, ".")
	tests = []struct{ query, want string }{
		{"www.example.org. A", "NOERROR aa www.example.org. 7 A 192.0.2.1"},
		{"www.example.org. TXT", "NOERROR aa / www.example.org. 5 SOA minimum 5"},
		{"WWW.example.org. SOA", "NOERROR aa WWW.example.org. 5 SOA minimum 5"},
		{"x.www.example.org. A", "NXDOMAIN aa / www.example.org. 5 SOA minimum 5"},
		{"y.w.example.org. TXT", "NOERROR aa / w.example.org. 5 SOA minimum 5"},
		{"w.example.org. SOA", "NOERROR aa w.example.org. 5 SOA minimum 5"},
		{"example.org. A", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
		{"org. SOA", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
		{". SOA", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
	}
	for _, tc := range tests {
		if got := ask(t, f, tc.query); got != tc.want {
			t.Errorf("The root, %s:\nGot  %s\nwant %s", tc.query, got, tc.want)
		}
	}
	// Unless a pool has its name.
	f = serving(t, "failover . 192.0.2.1:443\nfailover * 192.0.2.2:443", nil, ".")
	tests = []struct{ query, want string }{
		{". A", "NOERROR aa . 7 A 192.0.2.1"},
		{". TXT", "NOERROR aa / . 5 SOA minimum 5"},
		{"org. A", "NOERROR aa org. 7 A 192.0.2.2"},
		{"www.Example.org. A", "NOERROR aa www.Example.org. 7 A 192.0.2.2"},
		{"www.Example.org. TXT", "NOERROR aa / . 5 SOA minimum 5"},
	}
	for _, tc := range tests {
		if got := ask(t, f, tc.query); got != tc.want {
			t.Errorf("The name of the root, %s:\nGot  %s\nwant %s", tc.query, got, tc.want)
		}
	}
}

// A message belongs to its query, but for its records: nothing has room to append to, no record is
// made anew while the name is in the usual case, and none is ever handed out to be written to.
func TestServeShares(t *testing.T) {
	f := serving(t, zoneOfTests, nil)
	s := f.generation.pools[0].now.Load()
	get := func(question string) *dns.Msg {
		w := new(written)
		if _, err := f.ServeDNS(context.Background(), w, query(t, question)); err != nil {
			t.Fatal(err)
		}
		m := w.msgs[0]
		for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
			if cap(section) != len(section) {
				t.Errorf("%s: a section of %d has room for %d", question, len(section), cap(section))
			}
		}
		return m
	}
	one, two := get("www.example.org. A"), get("www.example.org. A")
	if one == two || &one.Question[0] == &two.Question[0] {
		t.Error("Two queries have one message or question")
	}
	for i := range s.V4() {
		if one.Answer[i] != s.V4()[i] || two.Answer[i] != s.V4()[i] {
			t.Errorf("Record %d is not that of the snapshot", i)
		}
	}
	other := get("Www.example.org. A")
	for i := range s.V4() {
		if other.Answer[i] == s.V4()[i] {
			t.Errorf("Record %d of another owner is that of the snapshot", i)
		}
	}
	if a, b := get("example.org. SOA"), get("example.org. SOA"); a.Answer[0] == b.Answer[0] {
		t.Error("Two queries have one SOA record, but its serial moves")
	}
	turn(f.generation.pools[0], "----")
	if a, b := get("www.example.org. A edns"), get("www.example.org. A edns"); a.Extra[0] == b.Extra[0] {
		t.Error("Two queries have one OPT record, which the server writes to")
	}
	// Cyclic: the slice is the query's, the records are not.
	f = serving(t, "failover www.example.org 192.0.2.1:1 192.0.2.2:1 192.0.2.3:1 {\norder cyclic\nanswer 2\n}", nil)
	s = f.generation.pools[0].now.Load()
	get("www.example.org. A")
	if m := get("www.example.org. A"); m.Answer[0] != s.V4()[1] || len(m.Answer) != 2 {
		t.Errorf("Second cyclic answer is %s", m)
	}
}

// Plugins above append to what we answer, pack it and re-slice it, whatever is going on here. This
// is for the race detector.
func TestServeRace(t *testing.T) {
	f := serving(t, zoneOfTests, nil)
	p := f.generation.pools[0]
	extra := rrs("extra.example.org. 1 IN TXT mine")[0]
	shown := map[string]bool{
		"192.0.2.10 192.0.2.11": true, "192.0.2.11": true, "192.0.2.10": true, "": true, "198.51.100.10": true,
		"192.0.2.10 192.0.2.11 198.51.100.10": true,
	}
	done := make(chan struct{})
	var queries, writers sync.WaitGroup
	for i := range 8 {
		owner := []string{"www.example.org. ", "wWw.example.org. "}[i%2]
		queries.Go(func() {
			for n := range 2000 {
				w := new(written)
				r := query(t, owner+[]string{"A edns", "AAAA", "TXT", "ANY"}[n%4])
				if _, err := f.ServeDNS(context.Background(), w, r); err != nil {
					t.Error(err)
					return
				}
				m := w.msgs[0]
				if n%4 == 0 {
					var got []string
					for _, rr := range m.Answer {
						got = append(got, dns.Field(rr, 1))
					}
					if !shown[strings.Join(got, " ")] {
						t.Errorf("Answer %v is that of no state", got)
						return
					}
				}
				m.Rcode, m.AuthenticatedData = dns.RcodeNotAuth, true
				m.Question[0].Name = "other.example.org."
				if opt := m.IsEdns0(); opt != nil {
					opt.SetUDPSize(512)
					opt.Option = append(opt.Option, new(dns.EDNS0_NSID))
				}
				m.Answer = append(m.Answer, extra)
				m.Ns = append(m.Ns, extra)
				m.Extra = append(m.Extra, extra)
				m.Answer[0], m.Ns[0] = extra, extra
				m.Compress = n%2 == 0
				if _, err := m.Pack(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
				turn(p, []string{"++++", "-+++", "---+", "----", "+-++", "--+-"}[n%6])
				f.names.find("www.example.org.").zone.serial.changed(time.Unix(int64(n), 0))
				runtime.Gosched()
			}
		}
	})
	queries.Wait()
	close(done)
	writers.Wait()
	turn(p, "++++")
	if got, want := ask(t, f, "www.example.org. A"), "NOERROR aa www.example.org. 7 A 192.0.2.10, www.example.org. 7 A 192.0.2.11"; got != want {
		t.Errorf("Got %s, want %s", got, want)
	}
}

// The same for one snapshot that all share: its records stay what they were.
func TestServeRecordsUnchanged(t *testing.T) {
	f := serving(t, zoneOfTests, nil)
	s := f.generation.pools[0].now.Load()
	before := copied(s)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				w := new(written)
				f.ServeDNS(context.Background(), w, query(t, "www.example.org. A"))
				m := w.msgs[0]
				m.Answer = append(m.Answer, rrs("x. 1 IN A 192.0.2.99")...)
				slices.Reverse(m.Answer[1:])
				m.Pack()
			}
		})
	}
	wg.Wait()
	if !reflect.DeepEqual(copied(s), before) {
		t.Errorf("Records are %v, before %v", s.V4(), before)
	}
}

// copied are copies of a snapshot's records.
func copied(s *answer.Snapshot) []dns.RR {
	var all []dns.RR
	for _, rr := range slices.Concat(s.V4(), s.V6()) {
		all = append(all, dns.Copy(rr))
	}
	return all
}

// No number of different names costs memory: they are the client's to choose.
func TestServeUnknownNames(t *testing.T) {
	const names = 1_000_000
	f := serving(t, zoneOfTests, nil)
	ctx := context.Background()
	w := discard{new(test.ResponseWriter)}
	r := query(t, "x.example.org. A")
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range names {
		n := strconv.Itoa(i)
		r.Question[0].Name = []string{n + ".example.org.", n + ".wild.example.org.", n + ".www.example.org.", "a." + n + ".net."}[i%4]
		f.ServeDNS(ctx, w, r)
	}
	if after := heap(); after > before+1<<19 {
		t.Errorf("Heap has grown by %d bytes for %d names, want nothing to be kept of them", after-before, names)
	}
	runtime.KeepAlive(f)
}

// discard is a writer that keeps nothing.
type discard struct{ dns.ResponseWriter }

func (discard) WriteMsg(*dns.Msg) error { return nil }

func TestNames(t *testing.T) {
	f := serving(t, "failover *.a.b.example.org 192.0.2.1:443\nfailover c.example.org 192.0.2.2:443\nfailover www.example.net 192.0.2.3:443", nil, "example.org.", "example.net.")
	n := f.names
	exist := []string{"*.a.b.example.org.", "a.b.example.org.", "b.example.org.", "c.example.org.", "example.net.", "example.org.", "www.example.net."}
	for _, name := range exist {
		e := n.find(name)
		if e == nil {
			t.Errorf("Name %s does not exist", name)
			continue
		}
		if zone := name[strings.LastIndex(name, "example"):]; e.zone.origin != zone {
			t.Errorf("Name %s is in zone %s, want %s", name, e.zone.origin, zone)
		}
		if has := e.pool != nil; has != (name[:2] == "c." || name[:2] == "ww" || name[:2] == "*.") {
			t.Errorf("Name %s has a pool: %t", name, has)
		}
		if has := e.wildcard != nil; has != (name == "a.b.example.org.") {
			t.Errorf("Name %s has a wildcard: %t", name, has)
		}
	}
	if len(n.entries) != len(exist) {
		t.Errorf("%d names exist, want %d: %v", len(n.entries), len(exist), n.entries)
	}
	for name, want := range map[string]string{
		"x.c.example.org.": "c.example.org.", "x.y.c.example.org.": "c.example.org.",
		"x.a.b.example.org.": "a.b.example.org.", "y.x.a.b.example.org.": "a.b.example.org.",
		"x.b.example.org.": "b.example.org.", "x.example.org.": "example.org.", "x.y.example.net.": "example.net.",
		"cc.example.org.": "example.org.", `x\.c.example.org.`: "example.org.", "example.com.": "", "org.": "", ".": "",
	} {
		e, next := n.closest(name)
		if want == "" {
			if e != nil {
				t.Errorf("Closest encloser of %s is in zone %s, want none", name, e.zone.origin)
			}
			continue
		}
		if e == nil || e != n.find(want) {
			t.Errorf("Closest encloser of %s is not %s", name, want)
		}
		if !strings.HasSuffix("."+name, "."+next) || dns.CountLabel(next) != dns.CountLabel(want)+1 {
			t.Errorf("One label below the closest encloser of %s is %s", name, next)
		}
	}
}

// A name exists when one below it does, whatever zones they are in (RFC 8020).
func TestNamesBetweenZones(t *testing.T) {
	for _, tc := range []struct{ directives, zones, name, want string }{
		{"failover example.org 192.0.2.1:443\nfailover db.prod.example.org 192.0.2.2:443", ".", "prod.example.org.", "NOERROR"},
		{"failover example.org 192.0.2.1:443\nfailover db.prod.example.org 192.0.2.2:443", ".", "x.prod.example.org.", "NXDOMAIN"},
		{"failover *.example.org 192.0.2.1:443\nfailover db.prod.example.org 192.0.2.2:443", ".", "prod.example.org.", "NOERROR"},
		{"failover *.example.org 192.0.2.1:443\nfailover db.prod.example.org 192.0.2.2:443", ".", "x.prod.example.org.", "NXDOMAIN"},
		{"failover www.example.org 192.0.2.1:443\nfailover x.a.b.example.org 192.0.2.2:443", "example.org. a.b.example.org.", "b.example.org.", "NOERROR"},
		{"failover www.example.org 192.0.2.1:443\nfailover x.a.b.example.org 192.0.2.2:443", "example.org. a.b.example.org.", "c.example.org.", "NXDOMAIN"},
		{"failover *.example.org 192.0.2.1:443", "example.org.", "ghost.*.example.org.", "NXDOMAIN"},
		{"failover . 192.0.2.1:443\nfailover www.example.org 192.0.2.2:443", ".", "example.org.", "NOERROR"},
		{"failover . 192.0.2.1:443\nfailover www.example.org 192.0.2.2:443", ".", "org.", "NOERROR"},
		{"failover *. 192.0.2.1:443\nfailover www.example.org 192.0.2.2:443", ".", "org.", "NOERROR"},
		{"failover *. 192.0.2.1:443\nfailover www.example.org 192.0.2.2:443", ".", "x.example.org.", "NXDOMAIN"},
		{"failover *. 192.0.2.1:443\nfailover www.example.org 192.0.2.2:443", ".", "x.example.net.", "NOERROR"},
	} {
		f := serving(t, tc.directives, nil, strings.Fields(tc.zones)...)
		if got := ask(t, f, tc.name+" TXT"); !strings.HasPrefix(got, tc.want+" aa /") {
			t.Errorf("Got %s for %s of %q in %s, want %s", got, tc.name, tc.directives, tc.zones, tc.want)
		}
	}
}

// That a name is gone would be true of all that there is of it and below it.
func TestFallbackOfANameThatExists(t *testing.T) {
	const directives = "failover example.org x.example.org s.example.org 192.0.2.1:443 {\nfallback nxdomain\n}\nfailover under.x.example.org 192.0.2.2:443"
	const nodata, gone = "NOERROR aa / example.org. 5 SOA minimum 5", "NXDOMAIN aa / example.org. 5 SOA minimum 5"
	for query, want := range map[string]string{
		"example.org. A": nodata, "x.example.org. A": nodata, "x.example.org. TXT": nodata, "s.example.org. A": gone, "s.example.org. TXT": gone,
	} {
		if got := ask(t, serving(t, directives, nil).turnFirst("-"), query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	services := serving(t, "failover x.example.org 192.0.2.1:443 {\nfallback nxdomain\nsrv http\n}", nil).turnFirst("-")
	if got := ask(t, services, "x.example.org. A"); got != nodata {
		t.Errorf("Above _http._tcp: %s, want %s", got, nodata)
	}
	const theirs = "example.org. 300 IN SOA ns.example.org. admin.example.org. 1 7200 1800 86400 60"
	for _, tc := range []struct {
		next        reply
		query, want string
	}{
		{reply{flags: "aa", ns: theirs}, "A", "NOERROR aa / example.org. 5 SOA minimum 60"}, // it has something else
		{reply{flags: "aa", ns: theirs}, "TXT", "NOERROR aa / example.org. 300 SOA minimum 60"},
		{reply{rcode: dns.RcodeNameError, flags: "aa", ns: theirs}, "A", "NXDOMAIN aa / example.org. 5 SOA minimum 60"},
		{reply{rcode: dns.RcodeNameError, flags: "aa", ns: theirs}, "TXT", "NXDOMAIN aa / example.org. 5 SOA minimum 60"},
		{reply{rcode: dns.RcodeNameError}, "TXT", gone},
	} {
		f := serving(t, directives, tc.next).turnFirst("-")
		f.zonesBelow, f.soasBelow = true, true
		if got := ask(t, f, "s.example.org. "+tc.query); got != tc.want {
			t.Errorf("%s, the next plugin says %+v: %s, want %s", tc.query, tc.next, got, tc.want)
		}
	}
}

// The DS records of a zone are those of the zone above (RFC 4035, section 3.1.4.1).
func TestDSAtACut(t *testing.T) {
	f := serving(t, "failover www.example.org www.sub.example.org 192.0.2.1:443", nil, "example.org.", "sub.example.org.")
	for query, want := range map[string]string{"sub.example.org. DS": "example.org.", "sub.example.org. TXT": "sub.example.org.", "example.org. DS": "example.org."} {
		if got, want := ask(t, f, query), "NOERROR aa / "+want+" 5 SOA minimum 5"; got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

// An SOA has names that fit, however long that of the zone is.
func TestLongZone(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 61)+".", 4)
	for _, name := range []string{long, long[1:], "www.example.org."} {
		f := serving(t, "failover "+name+" 192.0.2.1:443", nil, ".")
		w := new(written)
		if _, err := f.ServeDNS(context.Background(), w, new(dns.Msg).SetQuestion(name, dns.TypeAAAA)); err != nil {
			t.Fatal(err)
		}
		wire, err := w.msgs[0].Pack()
		if err != nil {
			t.Fatal(err)
		}
		if err := new(dns.Msg).Unpack(wire); err != nil {
			t.Errorf("NODATA for %s cannot be read: %v", name, err)
		}
	}
}

func TestBypassZones(t *testing.T) {
	var many, deep, far []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("n%d.example.org.", i))
		deep = append(deep, fmt.Sprintf("www.n%d.a%d.example.org.", i, i%4))
		far = append(far, fmt.Sprintf("www.example.t%d.", i))
	}
	var few []string
	for i := range maxBypass {
		few = append(few, fmt.Sprintf("n%d.example.org.", i))
	}
	tests := []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{[]string{"www.example.org."}, "www.example.org."},
		{[]string{"www.example.org.", "example.net."}, "example.net. www.example.org."},
		{[]string{"*.example.org."}, "example.org."},
		{[]string{"*.example.org.", "example.org.", "www.example.net."}, "example.org. www.example.net."},
		{[]string{"*."}, "."},
		{[]string{"."}, "."},
		{[]string{`a\.b.example.org.`}, `a\.b.example.org.`},
		{few, strings.Join(few, " ")},
		{append(slices.Clone(few), "x.example.org."), "example.org."},
		{many, "example.org."},
		{deep, "a0.example.org. a1.example.org. a2.example.org. a3.example.org."},
		{append(slices.Clone(many), "www.example.net."), "example.net. example.org."},
	}
	for _, tc := range tests {
		if got := strings.Join(bypassZones(tc.names), " "); got != tc.want {
			t.Errorf("Bypass of %d names, %.60v, is %q, want %q", len(tc.names), tc.names, got, tc.want)
		}
	}
	for _, names := range [][]string{many, deep, far} {
		zones := bypassZones(names)
		for _, name := range names {
			if dnsname.LongestZone(name, zones) == "" {
				t.Errorf("Name %s is in none of the zones %v", name, zones)
			}
		}
	}
	if n := len(bypassZones(far)); n != 100 {
		t.Errorf("%d zones for names with 100 different top labels, want as many", n)
	}
	f := serving(t, zoneOfTests, nil)
	if got, want := f.CacheBypassZones(), []string{"a.b.example.org.", "deep.x.wild.example.org.", "v4.example.org.", "wild.example.org.", "www.example.org."}; !slices.Equal(got, want) {
		t.Errorf("Bypass is %v, want %v", got, want)
	}
}

func TestMetadata(t *testing.T) {
	f := serving(t, zoneOfTests, nil)
	turn(f.generation.pools[0], "---+")
	turn(f.generation.pools[1], "--")
	for name, want := range map[string]string{
		"www.example.org.": "www.example.org. 1", "WWW.example.org.": "www.example.org. 1", "v4.example.org.": "v4.example.org. fallback",
		"y.wild.example.org.": "*.wild.example.org. 0", "wild.example.org.": "", "b.example.org.": "", "x.example.org.": "", "example.net.": "",
	} {
		ctx := metadata.ContextWithMetadata(context.Background())
		r := new(dns.Msg).SetQuestion(name, dns.TypeA)
		ctx = f.Metadata(ctx, request.Request{W: new(test.ResponseWriter), Req: r})
		var got []string
		for _, label := range []string{"failover/pool", "failover/tier"} {
			if value := metadata.ValueFunc(ctx, label); value != nil {
				got = append(got, value())
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("Metadata of %s is %q, want %q", name, s, want)
		}
	}
}

func TestZoneSerial(t *testing.T) {
	z := &zone{origin: "example.org.", ttl: 5, serial: new(serial)}
	for _, tc := range []struct {
		at   int64
		want uint32
	}{
		{1_000_000_000, 1_000_000_000}, {1_000_000_000, 1_000_000_000}, {1_000_000_005, 1_000_000_005},
		{999_999_999, 1_000_000_005},                                   // a clock set back moves no serial back
		{1<<31 + 5, 1<<31 + 5}, {1<<32 - 1, 1<<32 - 1}, {1<<32 + 5, 5}, // and it wraps (RFC 1982)
	} {
		z.serial.changed(time.Unix(tc.at, 0))
		if got := z.SOA("www.example.org.").Serial; got != tc.want {
			t.Errorf("Serial at %d is %d, want %d", tc.at, got, tc.want)
		}
	}
	if got := z.SOA("WWW.Example.Org.").Hdr.Name; got != "Example.Org." {
		t.Errorf("Owner is %s, want the case of the query", got)
	}
	root := newZone(".", authority{}, new(serial)).SOA("www.example.org.")
	if root.Hdr.Name != "." || root.Ns != "ns.dns." || root.Mbox != "hostmaster." {
		t.Errorf("SOA of the root is %s", root)
	}
}
