package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// seed makes the queries of TestPeers. Any other would do; with the same they are the same.
const seed = 20261124

// compared is one query with the answer of failover and that of a peer.
type compared struct {
	peer      string // its program
	state     poolState
	query     *dns.Msg
	network   string
	got, want *dns.Msg
	below     *dns.Msg // the answer of the zone file without failover, if there is one
}

// name and qtype are what is asked.
func (c *compared) name() string  { return strings.ToLower(c.query.Question[0].Name) }
func (c *compared) qtype() uint16 { return c.query.Question[0].Qtype }

// asBelow says whether the answer is the zone file's, as it would be without failover.
func (c *compared) asBelow() bool {
	return c.below != nil && c.got.String() == c.below.String()
}

// String is the query, and what it is sent to.
func (c *compared) String() string {
	said := title(c.query) + " over " + c.network
	if opt := c.query.IsEdns0(); opt != nil {
		said += fmt.Sprintf(" with EDNS version %d, DO %t, size %d, options %v,", opt.Version(), opt.Do(), opt.UDPSize(), opt.Option)
	}
	if c.below != nil {
		return said + " with a zone file"
	}
	return said + " without a zone file"
}

// differences are the parts of the message in which the two answers are not the same, each with what
// both have there.
func (c *compared) differences() map[string][2]string {
	found := make(map[string][2]string)
	differ := func(part string, got, want any) {
		if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
			found[part] = [2]string{g, w}
		}
	}
	got, want := c.got, c.want
	differ("ID", got.Id, c.query.Id)
	differ("opcode", got.Opcode, want.Opcode)
	differ("rcode", dns.RcodeToString[got.Rcode], dns.RcodeToString[want.Rcode])
	differ("QR", got.Response, want.Response)
	differ("AA", got.Authoritative, want.Authoritative)
	differ("TC", got.Truncated, want.Truncated)
	differ("RD", got.RecursionDesired, want.RecursionDesired)
	differ("RA", got.RecursionAvailable, want.RecursionAvailable)
	differ("Z", got.Zero, want.Zero)
	differ("AD", got.AuthenticatedData, want.AuthenticatedData)
	differ("CD", got.CheckingDisabled, want.CheckingDisabled)
	differ("question", got.Question, want.Question)
	for _, s := range []struct {
		part      string
		got, want []dns.RR
	}{
		{"answer", got.Answer, want.Answer},
		{"authority", got.Ns, want.Ns},
		{"additional", got.Extra, want.Extra},
	} {
		differ(s.part, set(s.got, false), set(s.want, false))
		if _, other := found[s.part]; !other {
			differ(s.part+" TTL", set(s.got, true), set(s.want, true))
		}
	}
	for _, rr := range got.Answer {
		if owner := rr.Header().Name; strings.EqualFold(owner, c.query.Question[0].Name) {
			differ("owner", owner, c.query.Question[0].Name)
		}
	}
	if c.isMade() && !c.isService() && (c.qtype() == dns.TypeA || c.qtype() == dns.TypeAAAA) && len(got.Answer) > 0 {
		differ("order", addresses(got), c.state.addressesOf(c.name(), c.qtype()))
	}
	one, other := got.IsEdns0(), want.IsEdns0()
	differ("EDNS", one != nil, other != nil)
	if one != nil && other != nil {
		differ("EDNS version", one.Version(), other.Version())
		differ("DO", one.Do(), other.Do())
		differ("size", one.UDPSize(), other.UDPSize())
		differ("options", one.Option, other.Option)
	}
	return found
}

// set are the records of a section as a set, in lower case, with their TTLs or without. OPT is not one of
// them.
func set(rrs []dns.RR, ttl bool) string {
	var lines []string
	for _, rr := range rrs {
		if rr.Header().Rrtype == dns.TypeOPT {
			continue
		}
		rr = dns.Copy(rr)
		if !ttl {
			rr.Header().Ttl = 0
		}
		lines = append(lines, strings.ToLower(strings.ReplaceAll(rr.String(), "\t", " ")))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A name whose addresses are chosen is answered like one whose addresses stand in a zone file, by BIND and
// by NSD, whatever is asked and how; but for the differences that differenceRules allows.
func TestPeers(t *testing.T) {
	t.Logf("The seed is %d", seed)
	const alone, below = "127.0.0.53", "127.0.0.54"
	hosts := members(t, peerMembers...)
	six(t)
	pools := fmt.Sprintf(peerPools, hosts[0], hosts[1], hosts[2], hosts[3])
	file := "file " + write(t, "db.example.org", peerRest+peerHidden) + " example.org"
	s := start(t, block(pools, file)+blockOn(alone, pools)+blockOn(below, file))
	c := comparison{T: t, s: s, hosts: hosts, random: newAsker(seed, peerQueried()), used: make([]int, len(differenceRules))}
	for _, state := range peerStates {
		for i, h := range hosts {
			switch down := slices.Contains(state.down, i); {
			case down:
				h.stop()
			case h.server == nil:
				h.start()
			}
		}
		for _, host := range []string{home, alone} {
			eventually(t, bound, state.what+": the pools answer", func() bool { return state.answersAs(t, s.udp(host)) })
		}
		c.compare(state, home, below, peerRest)
		c.compare(state, alone, "", s.soa(alone)+"\nexample.org. 3600 IN NS ns.example.net.\n")
	}
	t.Logf("%d queries", c.asked)
	for i, r := range differenceRules {
		if c.used[i] == 0 {
			t.Errorf("No difference was like this: %s", r.why)
		}
		t.Logf("%5d %v: %s", c.used[i], r.parts, r.why)
	}
	if c.found > 0 {
		t.Errorf("%d differences have no reason", c.found)
	}
}

// comparison is what TestPeers has come to.
type comparison struct {
	*testing.T
	s      *server
	hosts  []*host
	random *asker
	asked  int
	found  int   // differences without a reason
	used   []int // how often each of differenceRules was one
}

// compare asks failover on one address, the zone file without it on another, if there is one, and peers that
// have the rest of the zone and the state as records.
func (cn *comparison) compare(state poolState, host, below, rest string) {
	const queries, shown = 250, 30
	peers := map[string]*peer{}
	for _, program := range []string{"named", "nsd"} {
		peers[program] = authority(cn, program, home, rest+state.static(cn.hosts))
		defer peers[program].end()
	}
	for range queries {
		cn.asked++
		query, network := cn.random.query()
		c := &compared{state: state, query: query, network: network}
		c.got = exchange(cn, cn.s.over(network, host), network, query)
		if below != "" {
			c.below = exchange(cn, cn.s.over(network, below), network, query)
		}
		for _, program := range []string{"named", "nsd"} {
			c.peer, c.want = program, exchange(cn, peers[program].addr, network, query)
			for part, values := range c.differences() {
				n := slices.IndexFunc(differenceRules, func(r differenceRule) bool { return slices.Contains(r.parts, part) && r.when(c) })
				if n >= 0 {
					cn.used[n]++
				} else if cn.found++; cn.found <= shown {
					cn.Errorf("%s: the %s for %s is\n%s\nand with %s\n%s", state.what, part, c, values[0], program, values[1])
				}
			}
		}
	}
}

// over is the address of the listener of a network.
func (s *server) over(network, host string) string {
	s.t.Helper()
	if network == "udp" {
		return s.udp(host)
	}
	return s.tcp(host)
}

// soa is the SOA of a server's own.
func (s *server) soa(host string) string {
	s.t.Helper()
	m := exchange(s.t, s.udp(host), "udp", question("example.org.", dns.TypeSOA))
	if len(m.Answer) != 1 {
		s.t.Fatalf("The answer is %v, want an SOA", m)
	}
	return m.Answer[0].String()
}

// peerQueried are all names of the zone.
func peerQueried() []string {
	var names []string
	for _, of := range peerNames {
		names = append(names, of...)
	}
	for _, label := range append(peerTargets, "_tcp", "_http._tcp", "_http._tcp") {
		names = append(names, label+peerServices)
	}
	for line := range strings.SplitSeq(peerRest, "\n") {
		if owner, _, ok := strings.Cut(line, " "); ok && owner != "" && owner != "$ORIGIN" && owner != "@" {
			names = append(names, owner+".example.org.")
		}
	}
	slices.Sort(names)
	return names
}

// differenceRule is a kind of difference that is right, and why.
type differenceRule struct {
	parts []string
	when  func(*compared) bool
	why   string
}

// isMade says whether the answer is failover's own.
func (c *compared) isMade() bool {
	types := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeANY}
	if poolOf(c.name()) == "web" {
		types = append(types, dns.TypeSRV, dns.TypeHTTPS)
	}
	return poolOf(c.name()) != "" && slices.Contains(types, c.qtype()) && !c.asBelow()
}

// isService says whether what is asked for are SRV records or their targets.
func (c *compared) isService() bool { return strings.HasSuffix(c.name(), peerServices) }

// do says whether the query wants signatures.
func (c *compared) do() bool { return c.query.IsEdns0() != nil && c.query.IsEdns0().Do() }

// isDenied says whether a message is NODATA or NXDOMAIN with one SOA record.
func isDenied(m *dns.Msg) bool {
	return len(m.Answer) == 0 && len(m.Ns) == 1 && m.Ns[0].Header().Rrtype == dns.TypeSOA
}

// differenceRules are all differences that there may be. One that there is not is an error, too.
var differenceRules = []differenceRule{
	{[]string{"size"}, func(*compared) bool { return true },
		"The size is that of whoever sends it (RFC 6891, section 6.2.4)."},
	{[]string{"CD"}, func(c *compared) bool { return c.peer == "nsd" && c.got.CheckingDisabled == c.query.CheckingDisabled },
		"BIND and CoreDNS copy CD, which an authority should clear and nobody looks at (RFC 4035, section 3.1.6)."},
	{[]string{"DO"}, func(c *compared) bool { return c.query.IsEdns0().Version() > 0 && c.got.Rcode == dns.RcodeBadVers },
		"CoreDNS says BADVERS without DO: the client has to ask again whatever it is (RFC 6891, section 6.1.3)."},
	{[]string{"options"}, func(c *compared) bool {
		return c.peer == "nsd" && c.got.Rcode == c.want.Rcode && c.got.Rcode == dns.RcodeRefused
	},
		"NSD says why it refuses a query: anybody may say more, or less (RFC 8914, section 2)."},
	{[]string{"options"}, func(c *compared) bool { return c.isMade() && c.state.inFallback(c.name()) && ede(c.got) != nil },
		"Failover says that its answer is a fallback (RFC 8914, sections 4.1 and 4.4)."},
	{[]string{"authority TTL"}, func(c *compared) bool {
		gone := c.name() == "no.example.org." && c.state.inFallback(c.name())
		return c.below != nil && (c.isMade() || gone) && isDenied(c.got) && c.got.Ns[0].Header().Ttl == peerTTL
	},
		"What failover denies may be there as soon as the pool changes: the TTL of the zone's SOA is the pool's (RFC 2308, section 5)."},
	{[]string{"answer", "authority"}, func(c *compared) bool {
		return c.below == nil && c.name() == "example.org." && c.qtype() == dns.TypeNS && isDenied(c.got)
	},
		"Without a zone file nobody has told failover the name of a server: resolvers do with the parent's NS records (RFC 1034, section 5.3.3)."},
	{[]string{"additional"}, func(c *compared) bool {
		return c.isMade() && poolOf(c.name()) == "web" && len(c.got.Answer) > 0 && set(c.want.Extra, false) == ""
	},
		"Failover adds the addresses that go with SRV and HTTPS records (RFC 2782, and RFC 9460, section 4.1); the peers are told to be brief."},
	{[]string{"owner"}, func(c *compared) bool { return c.asBelow() },
		"File writes an owner as in the zone file: it is the question that has to be as asked (RFC 4343, section 4.1)."},
	{[]string{"authority", "additional"}, func(c *compared) bool {
		return c.asBelow() && len(c.got.Answer) > 0 && set(c.got.Answer, true) == set(c.want.Answer, true)
	},
		"File adds the zone's NS records to its answers, and addresses of names in them (RFC 1034, section 4.3.2)."},
	{[]string{"authority"}, func(c *compared) bool {
		return c.asBelow() && c.do() && strings.HasSuffix(c.name(), "secure.example.org.")
	},
		"File has DS records with a referral even where the zone is not signed (RFC 4035, section 3.1.4)."},
	{[]string{"additional"}, func(c *compared) bool {
		return c.asBelow() && !c.got.Authoritative && set(c.got.Ns, true) == set(c.want.Ns, true)
	},
		"File gives the glue below the zone cut, but not that beside it, which only should be there (RFC 9471, section 3.2)."},
	{[]string{"answer", "authority"}, func(c *compared) bool {
		return c.qtype() == dns.TypeANY && c.below != nil && isDenied(c.below) && isDenied(c.got)
	},
		"File has nothing of type ANY, nor then a pool without addresses (RFC 8482, section 4, would have it say something)."},
	{[]string{"answer", "authority"}, func(c *compared) bool {
		return c.qtype() == dns.TypeANY && c.isMade() && isDenied(c.got) && len(c.want.Answer) == 1 && c.want.Answer[0].Header().Rrtype == peerNobody
	},
		"A zone file cannot have a name without any record: this one has that of the type that nobody asks for."},
	{[]string{"answer"}, func(c *compared) bool { return c.qtype() == dns.TypeANY && len(c.got.Answer) > 0 },
		"ANY gives one of the sets of a name, and which one everybody decides for himself (RFC 8482, section 4.1)."},
}
