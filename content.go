package failover

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/pool"

	"github.com/miekg/dns"
)

// content is what a name has in a zone that is written to: the records of each type, none where the pool denies it.
type content struct {
	sets     map[uint16][]dns.RR
	hash     string // of the sets, but for their TTLs
	fallback bool   // no tier was usable for who wrote it
}

func newContent(sets map[uint16][]dns.RR, fallback bool) content {
	return content{sets, hashOf(sets), fallback}
}

// hashOf is short: it tells changes, and who would forge it could as well write what they like.
func hashOf(sets map[uint16][]dns.RR) string {
	var lines []string
	for _, rrs := range sets {
		for _, rr := range rrs {
			lines = append(lines, rdata(rr))
		}
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(lines), "\n")))
	return hex.EncodeToString(sum[:8])
}

// rdata is the type and the data of a record, the same for all ways to write it.
func rdata(rr dns.RR) string {
	rr = dns.Copy(rr)
	*rr.Header() = dns.RR_Header{Name: ".", Rrtype: rr.Header().Rrtype, Class: dns.ClassINET}
	switch rr := rr.(type) {
	case *dns.SRV:
		rr.Target = dns.CanonicalName(rr.Target)
	case *dns.HTTPS:
		rr.Target = dns.CanonicalName(rr.Target)
	}
	wire := make([]byte, dns.MaxMsgSize)
	n, err := dns.PackRR(rr, wire, 0, nil, false)
	if err != nil {
		return rr.String() // no server has such a record
	}
	return hex.EncodeToString(wire[:n])
}

// markerWord begins the marker of a name, a TXT record below it. Who finds one may write the name, and what it says is
// what they wrote last.
const markerWord = "failover"

// markerOf is the owner of a name's marker.
func markerOf(name string) string {
	if name == "." {
		return "_failover."
	}
	return "_failover." + name
}

// marker is what the text of a marker says.
type marker struct {
	text     string // "": there is none of ours
	hash     string // of what was written; "": the name is handed over by its operator
	writer   string // who wrote it
	types    []uint16
	fallback bool
}

// marker is the one that goes with the content.
func (c *content) marker(writer string) marker {
	m := marker{hash: c.hash, writer: writer, types: c.types(), fallback: c.fallback}
	types := make([]string, 0, len(m.types))
	for _, t := range m.types {
		types = append(types, dns.TypeToString[t])
	}
	m.text = strings.Join([]string{markerWord, m.hash, writer, strings.Join(types, ",")}, " ")
	if c.fallback {
		m.text += " fallback"
	}
	return m
}

// readMarker takes the text of a marker apart, which is none where it is not one of ours.
func readMarker(text string) marker {
	words := strings.Fields(text)
	if len(words) == 0 || words[0] != markerWord {
		return marker{}
	}
	m := marker{text: text}
	words = append(words[1:], "", "", "", "")
	m.hash, m.writer, m.fallback = words[0], words[1], words[3] == "fallback"
	for word := range strings.SplitSeq(words[2], ",") {
		if t := dns.StringToType[word]; slices.Contains([]uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeHTTPS}, t) {
			m.types = append(m.types, t)
		}
	}
	return m
}

// names says whether the records of a type are ours. A name that is handed over is so with all that it has.
func (m *marker) names(t uint16) bool {
	return m.text != "" && (m.hash == "" || slices.Contains(m.types, t))
}

// String is the content in words, for the log.
func (c *content) String() string {
	var shown []string
	for _, t := range slices.Sorted(maps.Keys(c.sets)) {
		for _, rr := range c.sets[t] {
			text := strings.TrimPrefix(rr.String(), rr.Header().String())
			if t != dns.TypeA && t != dns.TypeAAAA {
				text = dns.Type(t).String() + " " + text
			}
			shown = append(shown, text)
		}
	}
	if len(shown) == 0 {
		return "nothing"
	}
	if more := len(shown) - 2*answer.MaxShown; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(shown[:2*answer.MaxShown], " "), more)
	}
	return strings.Join(shown, " ")
}

// better says whether a is to stand where b is another's view of the same name of a pool. It is a total order over what
// differs, so that all who write the name come to the same: what is no fallback goes before what is; addresses in one
// tier, the lower the better, before those of several or none; then more members. Who sees a member up outvotes who does
// not.
func better(a, b *content, p *pool.Pool) bool {
	if c := slices.Compare(standing(a, p), standing(b, p)); c != 0 {
		return c > 0
	}
	return a.hash > b.hash
}

// standing is what better compares, one number after the other; more is better.
func standing(c *content, p *pool.Pool) []int {
	front, all := c.front(p), c.all(p)
	unfallen := 1
	if c.fallback {
		unfallen = 0
	}
	return []int{unfallen, -front.tier, front.members, all.members}
}

// sure says whether the content is of members that somebody sees up, and of no more than that.
func sure(c *content, p *pool.Pool) bool {
	return !c.fallback && (c.front(p).tier < len(p.Tiers) || len(c.sets[dns.TypeSRV]) > 0)
}

// strange says whether the content is that of another pool, which has members that p has not.
func strange(c *content, p *pool.Pool) bool { return !c.fallback && c.all(p).others }

// front is what the addresses of the name itself are to a pool, and all is that for all records.
func (c *content) front(p *pool.Pool) named {
	return membersIn(slices.Concat(c.sets[dns.TypeA], c.sets[dns.TypeAAAA]), p)
}

func (c *content) all(p *pool.Pool) named {
	return membersIn(slices.Concat(slices.Collect(maps.Values(c.sets))...), p)
}

// named is what records name of a pool's members.
type named struct {
	members int
	tier    int  // that all of them are in, or a number greater than any
	others  bool // they name what is no member, too
}

// membersIn finds the members in records, which may be those of a role.
func membersIn(rrs []dns.RR, p *pool.Pool) named {
	found, tiers := make(map[[2]int]bool), make(map[int]bool)
	var n named
	mark := func(is func(pool.Member) bool) {
		member := false
		for i, tier := range p.Tiers {
			for j, m := range tier {
				if is(m) {
					found[[2]int{i, j}], tiers[i], member = true, true, true
				}
			}
		}
		n.others = n.others || !member
	}
	addressed := func(ip []byte) {
		addr, _ := netip.AddrFromSlice(ip)
		mark(func(m pool.Member) bool { return m.Addr == addr.Unmap() })
	}
	for _, rr := range rrs {
		switch rr := rr.(type) {
		case *dns.A:
			addressed(rr.A)
		case *dns.AAAA:
			addressed(rr.AAAA)
		case *dns.SRV:
			label, _, _ := strings.Cut(rr.Target, ".")
			mark(func(m pool.Member) bool { return answer.HostLabel(m) == strings.ToLower(label) && m.Port == rr.Port })
		case *dns.HTTPS:
			for _, v := range rr.Value {
				switch v := v.(type) {
				case *dns.SVCBIPv4Hint:
					for _, ip := range v.Hint {
						addressed(ip)
					}
				case *dns.SVCBIPv6Hint:
					for _, ip := range v.Hint {
						addressed(ip)
					}
				}
			}
		}
	}
	n.members, n.tier = len(found), len(p.Tiers)
	if len(tiers) == 1 && !n.others {
		n.tier = slices.Collect(maps.Keys(tiers))[0]
	}
	return n
}
