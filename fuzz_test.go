package failover

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/dnsname"
	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/rrset"
	"github.com/coredns-failover/failover/plugin/state"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin"
	transport "github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// inPosition is how every error in a Corefile begins.
var inPosition = regexp.MustCompile(`^Testfile:(\d+) - Error during parsing: .`)

// FuzzParse reads arbitrary directives in a server block with arbitrary keys: each is either refused
// with its place, or comes to pools that can answer.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		www,
		zoneOfTests,
		"failover {\ninterval 10s\nprobe tcp://:80\n}\nfailover *.example.org bücher.example.org a\\.b.example.org east=192.0.2.1 [2001:db8::1]:443 {\nbackup 192.0.2.2\nprobe https://www.example.org/x status 200-299,301 body ok expires 1h insecure\n}",
		inBlock("fall 3 10\nrise 1\nrecheck 1s\ntimeout 1s\nhold 1m\nmin 50%\nanswer 1\norder cyclic\nprefer 192.0.2.0/24 2001:db8::/32\nfallback 203.0.113.1\nttl 5s 60s\nstartup 1s"),
		inBlock(`probe tls:// ca ca.pem cert cert.pem key.pem send "a \"b\"\r\n" expect "^\\d+"`),
		over("from next\nallow 192.0.2.0/24\nlimit 5\nfallback none"), "failover a.example.org {\nfrom next\nprobe http://\n}\nfailover a.example.org east=192.0.2.1:1 {\nsrv http sip/udp\nhttps alpn=h2,h3 no-default-alpn\n}",
		into("192.0.2.53:5353 example.org key hmac-sha512\nupdate [2001:db8::53] ."),
		inBlock("probe dns:///a.example.org?type=MX rcode NXDOMAIN answer ^a\nprobe grpcs:///a.B insecure\nprobe grpc://"),
		"failover a.example.org 192.0.2.1 {\nprobe icmp://\nprobe exec:///bin/true \"a b\" c\n}",
		"failover 192.0.2.1:443", "failover . * *.* \"\"", "failover www.example.org { rise 3 }", inBlock("rise 3 {\n}") + " x {",
	} {
		f.Add(s, "example.org. .")
		f.Add(s, "dns://example.org:53 https://10.0.0.0/8")
	}
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, directives, keys string) {
		c := caddy.NewTestController("dns", directives)
		if !c.Next() || c.Val() != "failover" || opensOutside(directives) {
			return // what caddy or the test's author does not let through
		}
		c = caddy.NewTestController("dns", directives)
		for key := range strings.FieldsSeq(keys) {
			_, host := transport.Transport(key)
			if _, _, err := plugin.SplitHostPort(host); err != nil {
				return // CoreDNS refuses it
			}
			c.ServerBlockKeys = append(c.ServerBlockKeys, key)
		}
		if len(c.ServerBlockKeys) == 0 {
			return
		}
		zones := plugin.OriginsFromArgsOrServerBlock(nil, c.ServerBlockKeys)
		d, err := parse(c)
		var configs []*config
		if err == nil {
			configs, err = configure(d, zones, root)
		}
		if err != nil {
			place := inPosition.FindStringSubmatch(err.Error())
			if place == nil {
				t.Fatalf("Error %q has no position", err)
			}
			if line, _ := strconv.Atoi(place[1]); line < 1 || line > 1+strings.Count(directives, "\n") {
				t.Errorf("Error %q is behind the end of the file", err)
			}
			return
		}
		checkConfigs(t, configs, zones)
	})
}

// opensOutside says whether directives name a file that is not below the root.
func opensOutside(directives string) bool {
	d := caddyfile.NewDispenser("Testfile", strings.NewReader(directives))
	files, outside := false, false
	for d.Next() {
		files = files || d.Val() == "ca" || d.Val() == "cert"
		outside = outside || !filepath.IsLocal(d.Val())
	}
	return files && outside
}

// checkConfigs sees to it that pools that were accepted can answer.
func checkConfigs(t *testing.T, configs []*config, zones []string) {
	t.Helper()
	if len(configs) == 0 {
		t.Fatal("Neither a pool nor an error")
	}
	b := newBlock(&generation{zones: make(map[zoneKey]*zone)}, configs, zones, "fuzz")
	h := Failover{handler: &handler{b}}
	taken := make(map[string]bool)
	pools := b.generation.pools
	for _, c := range configs {
		s := &c.settings
		switch {
		case s.Timeout <= 0 || s.Recheck <= 0 || s.Timeout > s.Interval || s.Recheck > s.Interval:
			t.Errorf("Settings are %+v", *s)
		case s.Fall < 1 || s.Rise < 1 || s.Window != 0 && s.Window < s.Fall:
			t.Errorf("Settings are %+v", *s)
		case c.MinTTL < 1 || c.MinTTL > c.MaxTTL || c.Hold < 0 || c.Answer < 0:
			t.Errorf("Pool is %+v", c.Pool)
		case len(c.specs) == 0 || len(c.names) == 0:
			t.Errorf("Config is %+v", c)
		}
		if c.from {
			defer checkOverlay(t, h, c, zones) // when all pools have answers
			continue
		}
		p := pools[0]
		pools = pools[1:]
		seen := make(map[netip.Addr]bool)
		for _, tier := range c.Tiers {
			if len(tier) == 0 || c.Min.Of(len(tier)) > len(tier) {
				t.Errorf("Tier of %d, min %+v", len(tier), c.Min)
			}
			for _, m := range tier {
				if seen[m.Addr] || !m.Addr.IsValid() || m.Addr.Is4In6() || m.Addr.Zone() != "" {
					t.Errorf("Member is %s", m)
				}
				seen[m.Addr] = true
			}
		}
		for _, statuses := range []string{strings.Repeat("+", p.Size()), strings.Repeat("-", p.Size())} {
			turn(p, statuses)
			for _, name := range c.names {
				askAnything(t, h, name)
			}
		}
		for _, name := range c.names {
			if taken[name] || dnsname.LongestZone(name, zones) == "" || !dns.IsFqdn(name) || name != strings.ToLower(name) {
				t.Errorf("Name is %q in %v", name, zones)
			}
			taken[name] = true
			if dnsname.LongestZone(strings.TrimPrefix(name, "*."), b.bypass()) == "" && name != "*." {
				t.Errorf("Name %q is not in the bypass %v", name, b.bypass())
			}
		}
	}
}

// checkOverlay sees to it that an overlay covers its names.
func checkOverlay(t *testing.T, h Failover, c *config, zones []string) {
	t.Helper()
	if c.limit < 1 || len(c.Tiers) > 0 || c.https || len(c.services) > 0 {
		t.Errorf("Overlay is %+v", c)
	}
	for _, name := range c.names {
		if o := h.overlays.find(name); o == nil || o.name != name || dnsname.LongestZone(name, zones) == "" {
			t.Errorf("Overlay %q covers %v in %v", name, o, zones)
		}
		askAnything(t, h, name)
	}
}

// askAnything asks for a name, and for one below it, in ways that could go wrong.
func askAnything(t *testing.T, h Failover, name string) {
	t.Helper()
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeANY, dns.TypeTXT, dns.TypeSOA} {
		for _, owner := range []string{name, strings.ToUpper(name), "x." + name} {
			w := &written{}
			r := new(dns.Msg).SetQuestion(owner, qtype)
			if _, err := h.ServeDNS(context.Background(), w, r); err != nil && !isUnknown(dns.RcodeServerFailure, err) {
				t.Errorf("%s: %v", owner, err)
			}
			if _, err := r.Pack(); err != nil {
				continue // one label too long
			}
			for _, m := range w.msgs {
				if _, err := m.Pack(); err != nil && len(name) < 200 {
					t.Errorf("Answer for %s cannot be packed: %v\n%s", owner, err, m)
				}
			}
		}
	}
}

// anything is a next plugin that does as a fuzzer says.
type anything struct {
	does    uint8
	message *dns.Msg // what it writes
	wrote   *dns.Msg
}

func (n *anything) Name() string { return "anything" }

func (n *anything) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if len(r.Question) == 1 && strings.HasPrefix(r.Question[0].Name, "no-such-name.") {
		return dns.RcodeSuccess, w.WriteMsg(new(dns.Msg).SetRcode(r, dns.RcodeNameError))
	}
	switch n.does % 8 {
	case 0:
		return dns.RcodeSuccess, nil // it drops the query
	case 1:
		return dns.RcodeServerFailure, errors.New("failed")
	case 2:
		return []int{dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeFormatError, dns.RcodeNotImplemented}[n.does>>3%4], nil
	case 3:
		return dns.RcodeServerFailure, plugin.Error("another", errors.New("no next plugin found"))
	case 4:
		n.wrote = new(dns.Msg).SetRcode(r, int(n.does>>3%16))
	default:
		n.wrote = n.message.Copy()
		n.wrote.SetRcode(r, []int{dns.RcodeSuccess, dns.RcodeNameError, n.message.Rcode}[n.does>>3%3])
		n.wrote.Authoritative = n.does>>6%2 == 0
	}
	return dns.RcodeSuccess, w.WriteMsg(n.wrote)
}

// FuzzServeDNS asks arbitrary questions of a server block with every kind of name, over next plugins
// that say anything, in any state of the members.
func FuzzServeDNS(f *testing.F) {
	add := func(words string, does uint8, statuses uint16) {
		r := query(f, words)
		said := new(dns.Msg).SetReply(r)
		said.Ns = rrs("a.example.org. 300 IN NSEC z.example.org. A, example.org. 300 IN SOA ns1.example.org. admin.example.org. 1 2 3 4 60")
		for _, next := range []*dns.Msg{new(dns.Msg), said} {
			query, err := r.Pack()
			if err != nil {
				f.Fatal(err)
			}
			message, err := next.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(query, message, does, statuses)
		}
	}
	for does := range uint8(16) {
		for _, words := range []string{"www.example.org. A edns", "WWW.example.org. AAAA", "y.wild.example.org. A", "b.example.org. TXT", "example.org. SOA", "x.example.org. A",
			"_http._tcp.sub.example.org. SRV", "_http._tcp.y.sub.example.org. ANY", "EAST.sub.example.org. A", "_tcp.y.sub.example.org. SRV", "sub.example.org. HTTPS edns"} {
			add(words, does*13, uint16(does)*4099)
		}
	}
	for _, words := range []string{". A", "example.net. A", "www.example.org. A ch", "www.example.org. AXFR", "www.example.org. SOA notify", "www.example.org. A two", "www.example.org. ANY", `\000\..example.org. A`} {
		add(words, 5, 0xffff)
	}
	const more = "\nfailover sub.example.org a.sub.example.org *.sub.example.org east=192.0.2.40:1 192.0.2.39:1 [2001:db8::40]:1 {\nbackup 192.0.2.41:1\nsrv http\nhttps alpn=h2\nfallback %s\n}"
	type setting struct {
		keys     []string
		fallback string
	}
	var blocks []Failover
	for _, s := range []setting{
		{[]string{"example.org.", "sub.example.org."}, "all"}, {[]string{"."}, "none"}, {[]string{"org."}, "next"},
		{[]string{"example.org."}, "nxdomain"}, {[]string{"example.org."}, "servfail"}, {[]string{"."}, "203.0.113.9 203.0.113.1"},
	} {
		blocks = append(blocks, serving(f, zoneOfTests+strings.ReplaceAll(more, "%s", s.fallback), nil, s.keys...))
	}

	f.Fuzz(func(t *testing.T, query, message []byte, does uint8, statuses uint16) {
		r, said := new(dns.Msg), new(dns.Msg)
		if r.Unpack(query) != nil || said.Unpack(message) != nil {
			return
		}
		block := blocks[int(statuses>>13)%len(blocks)]
		block.zonesBelow, block.soasBelow = does&1 == 0, does&1 == 0
		for _, p := range block.generation.pools {
			memberHealth := make([]pool.Health, p.Size())
			for i := range memberHealth {
				memberHealth[i] = pool.Health{Up: statuses>>i&1 == 1, Next: soon}
			}
			p.now.Store(answer.New(p.answers, p.names[0], p.Choose(memberHealth, nil)))
		}
		var before [][]dns.RR
		for _, p := range block.generation.pools {
			before = append(before, copied(p.now.Load()))
		}

		asked := r.Copy()
		next := &anything{does: does, message: said}
		h := Failover{Next: next, handler: block.handler}
		if does == 255 {
			h.Next = nil
		}
		w := &written{ResponseWriter: test.ResponseWriter{}}
		rcode, err := h.ServeDNS(context.Background(), w, r)

		if len(w.msgs) > 1 {
			t.Fatalf("%d answers, want one at most", len(w.msgs))
		}
		if len(w.msgs) == 1 && (!plugin.ClientWrite(rcode) || err != nil) {
			t.Errorf("Answered, and returns %d %v too", rcode, err)
		}
		if r.String() != asked.String() {
			t.Errorf("Query is written to:\n%s\nbefore\n%s", r, asked)
		}
		for i, p := range block.generation.pools {
			if now := copied(p.now.Load()); !reflect.DeepEqual(now, before[i]) {
				t.Errorf("Records of %s are %v, before %v", p.names[0], now, before[i])
			}
		}
		checkAddresses(t, h, r, w.msgs)
		if len(w.msgs) == 1 && w.msgs[0] != next.wrote && !isBriefer(w.msgs[0], next.wrote) {
			checkOwn(t, h, r, w.msgs[0], next.wrote)
		}
	})
}

// isBriefer says whether a message is another, but for its TTLs.
func isBriefer(m, other *dns.Msg) bool {
	if other == nil {
		return false
	}
	m, other = m.Copy(), other.Copy()
	for _, rr := range slices.Concat(m.Answer, m.Ns, other.Answer, other.Ns) {
		rr.Header().Ttl = 0
	}
	return m.String() == other.String()
}

// checkAddresses sees to it that a name of a pool is answered by the pool.
func checkAddresses(t *testing.T, h Failover, r *dns.Msg, msgs []*dns.Msg) {
	t.Helper()
	if r.Opcode != dns.OpcodeQuery || len(r.Question) != 1 || r.Question[0].Qclass != dns.ClassINET {
		return
	}
	q := r.Question[0]
	for _, p := range h.generation.pools {
		s := p.now.Load()
		if !slices.Contains(p.names, strings.ToLower(q.Name)) || strings.HasPrefix(q.Name, "*") || s.Reply == pool.Next {
			continue
		}
		var want []netip.Addr
		switch q.Qtype {
		case dns.TypeA:
			want = addrsOf(s.V4())
		case dns.TypeAAAA:
			want = addrsOf(s.V6())
		default:
			continue
		}
		if len(msgs) != 1 || !slices.Equal(addresses(t, msgs[0], q.Name), want) {
			t.Errorf("Answer for %s is %v, want %v", q.Name, msgs, want)
		}
	}
}

// addresses are those of an answer all of whose records have the owner.
func addresses(t *testing.T, m *dns.Msg, owner string) []netip.Addr {
	t.Helper()
	var all []netip.Addr
	for _, rr := range m.Answer {
		if rr.Header().Name != owner {
			t.Errorf("Owner is %s, want %s", rr.Header().Name, owner)
		}
		all = append(all, netip.MustParseAddr(dns.Field(rr, 1)))
	}
	return all
}

// checkOwn looks at a message that we made, or made of one of the next plugin's.
func checkOwn(t *testing.T, h Failover, r, m, theirs *dns.Msg) {
	t.Helper()
	if !m.Response || m.Id != r.Id || len(m.Question) == 0 || m.Question[0] != r.Question[0] {
		t.Errorf("Not the answer to %s:\n%s", r, m)
	}
	q := r.Question[0]
	if _, ok := rrset.AddrOf(slices.Concat(m.Answer, []dns.RR{new(dns.NULL)})[0]); ok {
		got := addresses(t, m, q.Name)
		ofPool := func(p *livePool) bool {
			s := p.now.Load()
			target := func(as *answer.Derived) bool { return slices.Equal(as.Addrs, got) }
			return slices.Equal(got, addrsOf(s.V4())) || slices.Equal(got, addrsOf(s.V6())) ||
				slices.ContainsFunc(slices.Collect(maps.Values(p.answers.Derived)), target)
		}
		if !slices.ContainsFunc(h.generation.pools, ofPool) {
			t.Errorf("Answer %v is that of no pool", got)
		}
	}
	if len(m.Answer) == 0 && m.Rcode != dns.RcodeServerFailure && m.Rcode != dns.RcodeRefused {
		if len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA {
			t.Errorf("Negative answer without exactly one SOA:\n%s", m)
		} else if theirs == nil && !dns.IsSubDomain(m.Ns[0].Header().Name, q.Name) {
			t.Errorf("SOA of %s for %s", m.Ns[0].Header().Name, q.Name)
		}
	}
	if theirs == nil && r.IsEdns0() == nil && m.IsEdns0() != nil {
		t.Errorf("EDNS in the answer to a query without it:\n%s", m)
	}
	if theirs == nil {
		if _, err := m.Pack(); err != nil {
			t.Errorf("Answer cannot be packed: %v\n%s", err, m)
		}
	}
}

// FuzzOverlay puts arbitrary messages under overlays of all sorts: what comes out can be packed, has no
// records that were not in it, but for a fallback, and what came in stays as it was.
func FuzzOverlay(f *testing.F) {
	for _, text := range []string{
		"www.example.org. 60 A 192.0.2.1, www.example.org. 60 AAAA 2001:db8::1, www.example.org. 60 A 192.0.2.2",
		"a.example.org. 60 CNAME www.example.org., www.example.org. 60 A 192.0.2.1, www.example.org. 60 RRSIG A 13 3 60 20300101000000 20200101000000 1 example.org. c2ln / example.org. 60 NS ns.example.org. / ns.example.org. 60 A 192.0.2.2",
		"www.example.org. 60 HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1",
	} {
		m := newSource(f, text).msg
		m.SetQuestion("www.example.org.", m.Answer[0].Header().Rrtype)
		m.Response = true
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		for seed := range 16 {
			f.Add(wire, uint16(seed))
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte, seed uint16) {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil || len(m.Question) != 1 || !m.Response {
			return
		}
		properties := "from next\norder " + []string{"fixed", "sorted", "cyclic", "random"}[seed%4] +
			"\nfallback " + []string{"next", "all", "last", "none", "nxdomain", "servfail", "refused", "203.0.113.1 2001:db8::99"}[seed/4%8]
		if seed&64 != 0 {
			properties += "\nanswer 1"
		}
		if seed&128 != 0 {
			properties += "\nmin 2"
		}
		h := serving(t, over(properties), nil)
		o := h.overlays[0].overlay
		known := make(map[netip.Addr]*found)
		for i, rr := range slices.Concat(m.Answer, m.Extra) {
			if addr, ok := rrset.AddrOf(rr); ok && i%3 > 0 {
				known[addr] = &found{overlay: o, addr: addr}
				known[addr].belief.Store(&belief{status: health.Status(seed >> 8 >> (i % 4) & 1 * 2), soonest: soon})
			}
		}
		o.known.Store(&known)
		before := m.Copy()
		h.overlays[0].name = "."
		h.Next = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
			return dns.RcodeSuccess, w.WriteMsg(m)
		})
		query := new(dns.Msg).SetQuestion(m.Question[0].Name, m.Question[0].Qtype)
		query.SetEdns0(1232, false)
		var first *dns.Msg
		for range 2 {
			w := new(written)
			if _, err := h.ServeDNS(context.Background(), w, query); err != nil || len(w.msgs) != 1 {
				t.Fatalf("%d messages, %v", len(w.msgs), err)
			}
			got := w.msgs[0]
			if _, err := got.Pack(); err != nil {
				if _, err := m.Pack(); err == nil {
					t.Fatalf("Cannot be packed: %v\n%v", err, got)
				}
			}
			if !reflect.DeepEqual(before, m.Copy()) {
				t.Fatalf("The message is written to: now\n%v\nbefore\n%v", m, before)
			}
			if first == nil {
				first = got
			} else if seed%4 < 2 && !reflect.DeepEqual(first.Copy(), got.Copy()) {
				t.Errorf("First\n%v\nthen\n%v", first, got)
			}
			if seed/4%8 == 0 {
				checkPart(t, m.Answer, got.Answer)
				checkPart(t, m.Extra, got.Extra)
			}
		}
	})
}

// checkPart sees to it that records are some of those before, and that each owner that had an address has
// one still.
func checkPart(t *testing.T, before, after []dns.RR) {
	t.Helper()
	left := make(map[string]int)
	owners := make(map[rrset.Key]bool)
	for _, rr := range before {
		left[withoutHints(rr)]++
		if _, ok := rrset.AddrOf(rr); ok {
			owners[rrset.Key{Owner: strings.ToLower(rr.Header().Name), Type: rr.Header().Rrtype}] = true
		}
	}
	for _, rr := range after {
		if rr.Header().Rrtype == dns.TypeOPT {
			continue
		}
		if left[withoutHints(rr)]--; left[withoutHints(rr)] < 0 {
			t.Errorf("Record %v comes from nowhere", rr)
		}
		delete(owners, rrset.Key{Owner: strings.ToLower(rr.Header().Name), Type: rr.Header().Rrtype})
	}
	for owner := range owners {
		t.Errorf("No record is left of %v", owner)
	}
}

// withoutHints is a record in words without its TTL, and without the hints of HTTPS.
func withoutHints(rr dns.RR) string {
	rr = dns.Copy(rr)
	rr.Header().Ttl = 0
	rr.Header().Rdlength = 0
	return regexp.MustCompile(` ipv[46]hint="[^"]*"`).ReplaceAllString(rr.String(), "")
}

// addrsOf are the addresses of records.
func addrsOf(rrs []dns.RR) []netip.Addr {
	var addrs []netip.Addr
	for _, rr := range rrs {
		addr, _ := rrset.AddrOf(rr)
		addrs = append(addrs, addr)
	}
	return addrs
}

// Whatever a state file has in it, it is read or refused, and what is kept of it is what can be.
func FuzzState(f *testing.F) {
	for _, seed := range []string{
		`{"format":"failover state","version":1,"saved":"2000-01-01T00:00:00Z","overrides":[{"label":"a","action":"drain","since":"2000-01-01T00:00:00Z"}],` +
			`"questions":[{"question":"tcp://","targets":[{"target":"192.0.2.1:443","status":"down","since":"1999-12-31T23:59:00Z","error":"refused"}]}],` +
			`"pools":[{"id":"www.example.org.@fuzz","last":["192.0.2.1:443"],"manual":true,"letBack":{"192.0.2.1:443":"1999-12-31T23:59:30Z"}}]}`,
		`{"format":"failover state","version":1,"saved":"9999-12-31T23:59:59Z","questions":[{}],"pools":[{"id":"a","found":{"":"0001-01-01T00:00:00Z","fe80::1%eth0":"0001-01-01T00:00:00Z"}}]}`,
		`{"format":"failover state"`,
	} {
		f.Add([]byte(seed))
	}
	now := time.Date(2000, 1, 1, 0, 0, 30, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := state.Read(file, time.Minute, now)
		if err != nil && k != nil {
			t.Fatalf("There is %+v besides the error %v", k, err)
		}
		if k == nil {
			return
		}
		for _, o := range k.Overrides {
			if again := o; again.Check() != nil || !again.Equal(&o) || !o.Until.IsZero() && !o.Until.After(now) {
				t.Errorf("The override %+v is kept", o)
			}
		}
		for key, s := range k.Statuses {
			if s.Status != health.Up && s.Status != health.Down {
				t.Errorf("%v is %s", key, s.Status)
			}
		}
		_, p := newWorld().generate(t, monitor.New(nil), nil, three+"failback manual\nfallback last\n}")
		for _, kept := range k.Pools {
			p.pools[0].recall(kept)
		}
		for _, i := range p.pools[0].last {
			if i < 0 || i >= p.pools[0].Size() {
				t.Errorf("Member %d of %d was used last", i, p.pools[0].Size())
			}
		}
	})
}
