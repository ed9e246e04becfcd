package failover

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

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

// The marker of a name is a TXT record below it. Who finds one may write the name, and what it says is what they
// wrote last.
const markerWord = "failover"

// markerOf is the owner of a name's marker.
func markerOf(name string) string {
	if name == "." {
		return "_failover."
	}
	return "_failover." + name
}

// marker is the text of the marker that goes with the content.
func (c *content) marker() string {
	text := markerWord + " " + c.hash
	if c.fallback {
		text += " fallback"
	}
	return text
}

// readMarker takes the text of a marker apart. It is not ok where the text is not one of ours. What has the word
// only is a name handed over by its operator.
func readMarker(text string) (hash string, fallback, ok bool) {
	words := strings.Fields(text)
	if len(words) == 0 || words[0] != markerWord {
		return "", false, false
	}
	if len(words) > 1 {
		hash = words[1]
	}
	return hash, len(words) > 2 && words[2] == "fallback", true
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
	if more := len(shown) - 2*maxShown; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(shown[:2*maxShown], " "), more)
	}
	return strings.Join(shown, " ")
}

// better says whether a is to stand where b is another's view of the same name of a pool. It is a total
// order over what differs, so that all who write the name come to the same: what is no fallback goes before what is;
// addresses in one tier, the lower the better, before those of several or none; then more members, tier by tier; then
// those that come first in the pool. Who sees a member up outvotes who does not.
func better(a, b *content, p *pool.Pool) bool {
	if c := slices.Compare(standing(a, p), standing(b, p)); c != 0 {
		return c > 0
	}
	return a.hash > b.hash // of pools that are not configured alike
}

// sure says whether what is to stand are members that somebody sees up, and no more than that.
func sure(c *content, p *pool.Pool) bool {
	front := named(slices.Concat(c.sets[dns.TypeA], c.sets[dns.TypeAAAA]), p)
	return !c.fallback && (front.tier() < len(p.Tiers) || len(c.sets[dns.TypeSRV]) > 0)
}

// standing is what better compares, one number after the other; more is better.
func standing(c *content, p *pool.Pool) []int {
	front := named(slices.Concat(c.sets[dns.TypeA], c.sets[dns.TypeAAAA]), p)
	ranked := named(slices.Concat(c.sets[dns.TypeSRV], c.sets[dns.TypeHTTPS]), p)
	numbers := make([]int, 0, 3+2*len(p.Tiers)+2*p.Size())
	numbers = append(numbers, 1, -front.tier())
	if c.fallback {
		numbers[0] = 0
	}
	for _, m := range []membership{front, ranked} {
		for _, tier := range m.tiers {
			n := 0
			for _, is := range tier {
				n += is
			}
			numbers = append(numbers, n)
		}
	}
	for _, m := range []membership{front, ranked} {
		numbers = append(numbers, slices.Concat(m.tiers...)...)
	}
	return numbers
}

// membership is which of a pool's members some records name: 1 for each that they do.
type membership struct {
	tiers  [][]int
	others bool // they name what is no member, too
}

// named finds the members in records, which may be those of a role.
func named(rrs []dns.RR, p *pool.Pool) membership {
	m := membership{tiers: make([][]int, len(p.Tiers))}
	for i, tier := range p.Tiers {
		m.tiers[i] = make([]int, len(tier))
	}
	mark := func(is func(pool.Member) bool) {
		found := false
		for i, tier := range p.Tiers {
			for j, member := range tier {
				if is(member) {
					m.tiers[i][j], found = 1, true
				}
			}
		}
		m.others = m.others || !found
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
			mark(func(m pool.Member) bool { return target(m) == strings.ToLower(label) && m.Port == rr.Port })
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
	return m
}

// tier is the one that all the members are in, or a number greater than any where there is no such tier.
func (m *membership) tier() int {
	in := -1
	for i, tier := range m.tiers {
		if !slices.Contains(tier, 1) {
			continue
		}
		if in >= 0 {
			return len(m.tiers)
		}
		in = i
	}
	if in < 0 || m.others {
		return len(m.tiers)
	}
	return in
}
