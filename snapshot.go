package failover

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/rrset"

	"github.com/miekg/dns"
)

// snapshot is a pool's finished answers for one state of its members. It never changes once it is
// stored: queries share its records, and plugins above get to see them. Of the choice it keeps what
// queries need.
type snapshot struct {
	choice struct {
		Tier  int32
		Reply pool.Reply
	}
	ttl   uint32
	ipv4  int32    // so many of rrs, the others are IPv6
	rrs   []dns.RR // for the pool's first name, in lower case
	*rare          // never nil
}

func (s *snapshot) v4() []dns.RR { return s.rrs[:s.ipv4:s.ipv4] }
func (s *snapshot) v6() []dns.RR { return s.rrs[s.ipv4:] }

// tier is the tier as a label: "0", "1" ... or "fallback".
func (s *snapshot) tier() string {
	if s.choice.Tier == pool.InFallback {
		return "fallback"
	}
	return strconv.Itoa(int(s.choice.Tier))
}

// rare is what most snapshots do not have.
type rare struct {
	runs4, runs6       []int       // see [pool.Set]
	services, bindings []endpoint  // of SRV and HTTPS records,
	ranks              []pool.Rank // which are made of these
	ranksTTL           time.Duration

	// extended is what an answer out of the ordinary says about itself (RFC 8914); nil: it is not.
	extended *dns.EDNS0_EDE
}

// usual is the rare of a snapshot that has nothing of it.
var usual = new(rare)

func newSnapshot(p *livePool, c pool.Choice) *snapshot {
	s := &snapshot{ttl: uint32(c.TTL.Seconds()), rare: usual}
	s.choice.Tier, s.choice.Reply = int32(c.Tier), c.Reply // #nosec G115 -- see maxTiers
	v4, v6 := rrset.Addresses(p.names[0], c.V4.Addrs, s.ttl), rrset.Addresses(p.names[0], c.V6.Addrs, s.ttl)
	s.ipv4, s.rrs = int32(len(v4)), slices.Concat(v4, v6) // #nosec G115 -- there is no memory for more
	if p.Ranked || p.Order != pool.Fixed || c.Tier == pool.InFallback {
		s.rare = &rare{runs4: c.V4.Runs, runs6: c.V6.Runs, ranks: c.Ranks, ranksTTL: c.RanksTTL,
			services: endpoints(c.Ranks), bindings: bindings(&c)}
	}
	if c.Tier == pool.InFallback {
		s.extended = extendedError(&p.Fallback, c.Stale)
	}
	return s
}

// extendedError is what an answer says about itself when it is the fallback (RFC 8914).
func extendedError(f *pool.Fallback, stale bool) *dns.EDNS0_EDE {
	if stale {
		return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeStaleAnswer, ExtraText: "no tier is usable: the last that was"}
	}
	return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther, ExtraText: "no tier is usable: fallback " + f.Word}
}

// says says whether the snapshot is one of a choice that has nothing rare, so that there is no need for another.
func (s *snapshot) says(c *pool.Choice) bool {
	if s == nil || s.rare != usual || c.Tier == pool.InFallback || int(s.choice.Tier) != c.Tier || s.ttl != uint32(c.TTL.Seconds()) {
		return false
	}
	is := func(rr dns.RR, want netip.Addr) bool { addr, ok := rrset.AddrOf(rr); return ok && addr == want }
	return slices.EqualFunc(s.v4(), c.V4.Addrs, is) && slices.EqualFunc(s.v6(), c.V6.Addrs, is)
}

// same says whether both say the same, but for the TTL.
func (s *snapshot) same(other *snapshot) bool {
	return other != nil && s.choice.Reply == other.choice.Reply &&
		slices.EqualFunc(s.rrs, other.rrs, dns.IsDuplicate) &&
		slices.EqualFunc(s.ranks, other.ranks, func(a, b pool.Rank) bool {
			return a.Tier == b.Tier && slices.Equal(a.Members, b.Members)
		})
}

// turns counts the answers of a pool whose order changes from one to the next. The families turn by
// themselves: clients ask for both in pairs, and would see every second place only.
type turns struct{ v4, v6 atomic.Uint32 }

// addresses returns the records of the asked family for owner, in the order of this one answer.
func (p *livePool) addresses(s *snapshot, qtype uint16, owner string) []dns.RR {
	rrs, runs, turn := s.v4(), s.runs4, &p.turns.v4
	if qtype == dns.TypeAAAA || qtype == dns.TypeANY && len(rrs) == 0 {
		rrs, runs, turn = s.v6(), s.runs6, &p.turns.v6
	}
	if runs != nil {
		rrs = pool.Turn(rrs, runs, p.Order, turn.Add(1)-1, p.Answer)
	}
	return rrset.WithOwner(rrs, owner)
}

// maxShown is how many addresses of a family a text names: a log line, or an Extended DNS Error, which
// must not take the room of the answer.
const maxShown = 4

// String is the answer in words, for the log.
func (s *snapshot) String() string {
	said := map[pool.Reply]string{pool.NoData: "NODATA", pool.NXDomain: "NXDOMAIN", pool.ServFail: "SERVFAIL",
		pool.Refused: "REFUSED", pool.Next: "the next plugin's answer"}[s.choice.Reply]
	if s.choice.Reply == pool.Addresses {
		shown := make([]string, 0, 2*maxShown)
		v4, v6 := s.v4(), s.v6()
		for _, rr := range slices.Concat(v4[:min(len(v4), maxShown)], v6[:min(len(v6), maxShown)]) {
			shown = append(shown, dns.Field(rr, 1))
		}
		said = strings.Join(shown, " ")
		if more := len(s.rrs) - len(shown); more > 0 {
			said += " and " + strconv.Itoa(more) + " more"
		}
	}
	return said
}
