package answer

import (
	"net"
	"net/netip"
	"slices"

	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/rrset"

	"github.com/miekg/dns"
)

// hostTarget is the target of one SRV or HTTPS record.
type hostTarget struct {
	tier  int
	label string // of the target; empty if the target is the owner itself
	port  uint16
	addrs []netip.Addr // at most one of each family if there is a label
}

// hostTargets returns the hosts of a choice, tier by tier. Members of a tier with the same label and port are one host.
func hostTargets(ranks []pool.Rank) []hostTarget {
	if len(ranks) == 0 {
		return nil
	}
	type key struct {
		tier  int
		label string
		port  uint16
	}
	var targets []hostTarget
	index := make(map[key]int)
	for _, rank := range ranks {
		for _, m := range rank.Members {
			k := key{rank.Tier, HostLabel(m), m.Port}
			i, ok := index[k]
			if !ok {
				i = len(targets)
				index[k], targets = i, append(targets, hostTarget{tier: k.tier, label: k.label, port: k.port})
			}
			targets[i].addrs = append(targets[i].addrs, m.Addr)
		}
	}
	return targets
}

// httpsTargets returns the targets of HTTPS records. A client that looks up a target uses the addresses found there, and
// ignores the hints (RFC 9460, section 7.3). So a record has its owner as target only if its members are the answer, and
// all of them have one port. In this case the tier has one record.
func httpsTargets(c *pool.Choice) []hostTarget {
	var targets []hostTarget
	for _, rank := range c.Ranks {
		port := rank.Members[0].Port
		hasOtherPort := func(m pool.Member) bool { return m.Port != port }
		if rank.Tier != c.Tier && len(c.Ranks) > 1 || slices.ContainsFunc(rank.Members, hasOtherPort) {
			targets = append(targets, hostTargets([]pool.Rank{rank})...)
			continue
		}
		t := hostTarget{tier: rank.Tier, port: port}
		for _, m := range rank.Members {
			t.addrs = append(t.addrs, m.Addr)
		}
		targets = append(targets, t)
	}
	return targets
}

// name returns the name of the target for an owner. ok is false if the name is too long.
func (t *hostTarget) name(owner string) (name string, ok bool) {
	name = t.label + "." + owner
	_, ok = dns.IsDomainName(name)
	return name, ok
}

// records returns the addresses of the target, of both families.
func (t *hostTarget) records(owner string, ttl uint32) []dns.RR {
	rrs := make([]dns.RR, 0, len(t.addrs))
	for i := range t.addrs {
		rrs = append(rrs, rrset.Addresses(owner, t.addrs[i:i+1], ttl)...)
	}
	return rrs
}

// srvRecords returns the SRV records of the pool, one for each host, and the addresses of their targets. prefixLen is the
// length of the part of owner before the pool's name.
func (s *Snapshot) srvRecords(owner string, prefixLen int) (srvs, addrs []dns.RR) {
	if s.extra == nil {
		return nil, nil
	}
	ttl := s.extra.ranksTTL
	for _, t := range s.extra.srvTargets {
		name, ok := t.name(owner[prefixLen:])
		if !ok {
			continue // under a wildcard
		}
		srvs = append(srvs, &dns.SRV{
			Hdr:      dns.RR_Header{Name: owner, Rrtype: dns.TypeSRV, Class: dns.ClassINET, Ttl: ttl},
			Priority: uint16(t.tier), // #nosec G115 -- the configuration has at most 65535 tiers
			Weight:   1,              // equal weights; with 0 the order would have no meaning (RFC 2782)
			Port:     t.port,
			Target:   name,
		})
		addrs = append(addrs, t.records(name, ttl)...)
	}
	return srvs, rrset.Dedupe(addrs)
}

// httpsRecords returns the HTTPS records of the pool, and the addresses of their targets.
func (s *Snapshot) httpsRecords(owner string) (https, addrs []dns.RR) {
	if s.extra == nil {
		return nil, nil
	}
	ttl := s.extra.ranksTTL
	for _, t := range s.extra.httpsTargets {
		name := "."
		if t.label == "" {
			addrs = slices.Concat(addrs, rrset.WithOwner(s.limit(s.V4()), owner), rrset.WithOwner(s.limit(s.V6()), owner))
		} else {
			var ok bool
			if name, ok = t.name(owner); !ok {
				continue // under a wildcard
			}
			addrs = append(addrs, t.records(name, ttl)...)
		}
		https = append(https, &dns.HTTPS{SVCB: dns.SVCB{
			Hdr:      dns.RR_Header{Name: owner, Rrtype: dns.TypeHTTPS, Class: dns.ClassINET, Ttl: ttl},
			Priority: uint16(t.tier) + 1, // #nosec G115 -- the configuration has at most 65535 tiers
			Target:   name,
			Value:    s.config.params(&t),
		}})
	}
	return https, rrset.Dedupe(addrs)
}

// params returns the parameters of the HTTPS record of a target, in the order of their keys.
func (c *Config) params(t *hostTarget) []dns.SVCBKeyValue {
	values := slices.Clone(c.Params)
	if t.port != 0 && t.port != 443 {
		values = append(values, &dns.SVCBPort{Port: t.port})
	}
	var v4, v6 []net.IP
	for _, addr := range t.addrs {
		if addr.Is4() {
			v4 = append(v4, addr.AsSlice())
		} else {
			v6 = append(v6, addr.AsSlice())
		}
	}
	if len(v4) > 0 {
		values = append(values, &dns.SVCBIPv4Hint{Hint: v4})
	}
	if len(v6) > 0 {
		values = append(values, &dns.SVCBIPv6Hint{Hint: v6})
	}
	slices.SortStableFunc(values, func(a, b dns.SVCBKeyValue) int { return int(a.Key()) - int(b.Key()) })
	return values
}
