package answer

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/rrset"

	"github.com/miekg/dns"
)

// Snapshot is the finished answers of a pool for one choice. It is immutable: queries share its records, and plugins
// above this one see them.
type Snapshot struct {
	// Tier is the tier in use, from 0, or [pool.InFallback].
	Tier int32

	// Reply is the kind of the reply.
	Reply pool.Reply

	config *Config
	ttl    uint32
	count4 int32    // the first count4 of rrs are A records, the others are AAAA records
	rrs    []dns.RR // for the pool's first name, in lower case
	extra  *extra   // nil for most snapshots
}

// extra is the part of a snapshot that most snapshots do not have. To keep it apart saves 32 bytes per member in pools
// of four members and 129 bytes in pools of one.
type extra struct {
	runs4, runs6  []int        // see [pool.Set]
	srvTargets    []hostTarget // of the SRV records
	httpsTargets  []hostTarget // of the HTTPS records
	ranks         []pool.Rank  // the members that srvTargets and httpsTargets are made of
	ranksTTL      uint32       // the TTL of SRV and HTTPS records
	extendedError *dns.EDNS0_EDE
}

// New returns the snapshot of a choice for the pool with this first name.
func New(c *Config, name string, choice pool.Choice) *Snapshot {
	s := &Snapshot{config: c, ttl: uint32(choice.TTL.Seconds()), Reply: choice.Reply}
	s.Tier = int32(choice.Tier) // #nosec G115 -- the configuration has at most 65535 tiers
	v4, v6 := rrset.Addresses(name, choice.V4.Addrs, s.ttl), rrset.Addresses(name, choice.V6.Addrs, s.ttl)
	s.count4, s.rrs = int32(len(v4)), slices.Concat(v4, v6) // #nosec G115 -- there is no memory for more
	if c.Policy.Ranked || c.Policy.Order != pool.Fixed || choice.Tier == pool.InFallback {
		s.extra = &extra{
			runs4: choice.V4.Runs, runs6: choice.V6.Runs,
			ranks: choice.Ranks, ranksTTL: uint32(choice.RanksTTL.Seconds()),
			srvTargets: hostTargets(choice.Ranks), httpsTargets: httpsTargets(&choice),
		}
	}
	if choice.Tier == pool.InFallback {
		s.extra.extendedError = ExtendedError(&c.Policy.Fallback, choice.Stale)
	}
	return s
}

// ExtendedError returns the Extended DNS Error of a fallback (RFC 8914). stale means that the addresses are the last
// set in use.
func ExtendedError(f *pool.Fallback, stale bool) *dns.EDNS0_EDE {
	if stale {
		return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeStaleAnswer, ExtraText: "no tier is usable: the last that was"}
	}
	return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther, ExtraText: "no tier is usable: fallback " + f.Word}
}

// V4 returns the A records of the pool's first name. The caller does not write to them.
func (s *Snapshot) V4() []dns.RR { return s.rrs[:s.count4:s.count4] }

// V6 returns the AAAA records of the pool's first name. The caller does not write to them.
func (s *Snapshot) V6() []dns.RR { return s.rrs[s.count4:] }

// Records returns the address records that one answer gives of each family.
func (s *Snapshot) Records() (v4, v6 []dns.RR) { return s.limit(s.V4()), s.limit(s.V6()) }

// TTL returns the TTL of the addresses, in seconds.
func (s *Snapshot) TTL() uint32 { return s.ttl }

// TierLabel returns the tier as metrics and metadata have it: "0", "1" and so on, or "fallback".
func (s *Snapshot) TierLabel() string {
	if s.Tier == pool.InFallback {
		return "fallback"
	}
	return strconv.Itoa(int(s.Tier))
}

// IsFallback reports whether no tier is usable.
func (s *Snapshot) IsFallback() bool { return s.Tier == pool.InFallback }

// Rotates reports whether the order of the addresses changes from one reply to the next.
func (s *Snapshot) Rotates() bool {
	return s.extra != nil && (s.extra.runs4 != nil || s.extra.runs6 != nil)
}

// MatchesChoice reports whether the snapshot is the one that New would make of a choice. It is false for each snapshot
// with an extra part. s may be nil.
func (s *Snapshot) MatchesChoice(c *pool.Choice) bool {
	if s == nil || s.extra != nil || c.Tier == pool.InFallback || int(s.Tier) != c.Tier || s.ttl != uint32(c.TTL.Seconds()) {
		return false
	}
	is := func(rr dns.RR, want netip.Addr) bool { addr, ok := rrset.AddrOf(rr); return ok && addr == want }
	return slices.EqualFunc(s.V4(), c.V4.Addrs, is) && slices.EqualFunc(s.V6(), c.V6.Addrs, is)
}

// Equal reports whether two snapshots give the same answers. The TTL does not count. other may be nil.
func (s *Snapshot) Equal(other *Snapshot) bool {
	return other != nil && s.Reply == other.Reply &&
		slices.EqualFunc(s.rrs, other.rrs, dns.IsDuplicate) &&
		slices.EqualFunc(s.ranks(), other.ranks(), func(a, b pool.Rank) bool {
			return a.Tier == b.Tier && slices.Equal(a.Members, b.Members)
		})
}

func (s *Snapshot) ranks() []pool.Rank {
	if s.extra == nil {
		return nil
	}
	return s.extra.ranks
}

// Rotation counts the replies of a pool whose order changes from one reply to the next. The families rotate separately:
// clients ask for both families in pairs, and one counter would show them each second place only.
type Rotation struct{ v4, v6 atomic.Uint32 }

// MaxShown is how many addresses of a family a text names. An Extended DNS Error must not take the room of the answer.
const MaxShown = 4

// String returns the answer as text for the log.
func (s *Snapshot) String() string {
	if s.Reply != pool.Addresses {
		return map[pool.Reply]string{pool.NoData: "NODATA", pool.NXDomain: "NXDOMAIN", pool.ServFail: "SERVFAIL",
			pool.Refused: "REFUSED", pool.Next: "the next plugin's answer"}[s.Reply]
	}
	shown := make([]string, 0, 2*MaxShown)
	v4, v6 := s.V4(), s.V6()
	for _, rr := range slices.Concat(v4[:min(len(v4), MaxShown)], v6[:min(len(v6), MaxShown)]) {
		shown = append(shown, dns.Field(rr, 1))
	}
	text := strings.Join(shown, " ")
	if more := len(s.rrs) - len(shown); more > 0 {
		text += " and " + strconv.Itoa(more) + " more"
	}
	return text
}

// Description returns the answer as text, with the fallback if no tier is usable.
func (s *Snapshot) Description() string {
	if s.IsFallback() {
		return s.String() + " (fallback " + s.config.Policy.Fallback.Word + ")"
	}
	return s.String()
}
