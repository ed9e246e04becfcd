package failover

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns-failover/failover/plugin/pool"

	"github.com/miekg/dns"
)

// role is what a name that is made of a pool's own is to the pool.
type role struct {
	prefix  int          // how long what stands before the pool's name is
	targets []netip.Addr // the name is a target: what it has, one of a family; nil: it has SRV records
}

// derived are the names that SRV and HTTPS records make of a pool's names: what stands before the name, and what
// the whole is then. Without such records there are none.
func derived(services []string, p *pool.Pool) map[string]*role {
	if !p.Ranked {
		return nil
	}
	roles := make(map[string]*role)
	for _, s := range services {
		roles[s] = &role{prefix: len(s)}
	}
	for _, members := range slices.Concat(p.Tiers, [][]pool.Member{p.Fallback.Other}) {
		for _, m := range members {
			prefix := target(m) + "."
			if roles[prefix] == nil {
				roles[prefix] = &role{prefix: len(prefix)}
			}
			if !slices.Contains(roles[prefix].targets, m.Addr) {
				roles[prefix].targets = append(roles[prefix].targets, m.Addr)
			}
		}
	}
	return roles
}

// target is the label of a member in the target of its records: one of a host name (RFC 1123).
func target(m pool.Member) string {
	if m.Label != "" {
		return strings.ToLower(m.Label)
	}
	label := strings.NewReplacer(".", "-", ":", "-").Replace(m.Addr.String())
	if strings.HasPrefix(label, "-") {
		label = "0" + label
	}
	if strings.HasSuffix(label, "-") {
		label += "0"
	}
	return label
}

// parseService reads SERVICE[/PROTOCOL] and returns what it puts before a name (RFC 2782, RFC 6335).
func parseService(word string) (string, error) {
	service, protocol, ok := strings.Cut(word, "/")
	if !ok {
		protocol = "tcp"
	}
	if !isLabel(service) || len(service) > 15 || !strings.ContainsFunc(service, isLetter) || strings.Contains(service, "--") {
		return "", fmt.Errorf("srv %q, want a service such as http or sip/udp", word)
	}
	if protocol != "tcp" && protocol != "udp" {
		return "", fmt.Errorf("srv %q has the protocol %q, want tcp or udp", word, protocol)
	}
	return "_" + strings.ToLower(service) + "._" + protocol + ".", nil
}

func isLetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

// roleBelow is the role of a name below a wildcard pool's place, of which next is one label below it; nil: it is
// one of the names that the wildcard is for. It is not ok where the name lies between one of these and its SRV
// records, and has nothing of its own.
func (p *livePool) roleBelow(name, next string) (as *role, ok bool) {
	above, between := strings.TrimSuffix(name, next), false
	for prefix, as := range p.derived {
		if strings.HasPrefix(above, prefix) {
			return as, true
		}
		_, protocol, _ := strings.Cut(prefix, ".")
		between = between || protocol != "" && strings.HasPrefix(above, protocol)
	}
	return nil, !between
}

// services are the SRV records of the pool, one for each member, and the addresses of their targets.
func (s *snapshot) services(owner string, prefix int) (srvs, addrs []dns.RR) {
	ttl := uint32(s.choice.RanksTTL.Seconds())
	name, seen := owner[prefix:], make(map[dns.SRV]bool)
	for _, rank := range s.choice.Ranks {
		for _, m := range rank.Members {
			srv := dns.SRV{
				Hdr:      dns.RR_Header{Name: owner, Rrtype: dns.TypeSRV, Class: dns.ClassINET, Ttl: ttl},
				Priority: uint16(rank.Tier), // #nosec G115 -- see maxTiers
				Weight:   1,                 // equal; 0 would mean that the order has no meaning at all
				Port:     m.Port,
				Target:   target(m) + "." + name,
			}
			if !seen[srv] { // members may share a target
				seen[srv] = true
				srvs = append(srvs, &srv)
			}
			addrs = append(addrs, records(srv.Target, []netip.Addr{m.Addr}, ttl)...)
		}
	}
	return srvs, addrs
}

// bindings are the HTTPS records of the pool, and the addresses of their targets.
//
// A client that looks up a target takes the addresses that it finds there, and leaves the hints (RFC 9460,
// section 7.3). So a record has the owner for its target only if its members are what that has, and all of
// them on one port: one record for a tier then. Otherwise there is one for each target that SRV records have.
func (p *livePool) bindings(s *snapshot, owner string) (https, addrs []dns.RR) {
	ttl := uint32(s.choice.RanksTTL.Seconds())
	for _, rank := range s.choice.Ranks {
		atOwner := rank.Tier == s.choice.Tier || len(s.choice.Ranks) == 1
		for _, m := range rank.Members {
			atOwner = atOwner && m.Port == rank.Members[0].Port
		}
		if atOwner {
			https = append(https, p.binding(rank.Tier, ".", rank.Members, owner, ttl))
			addrs = append(addrs, slices.Concat(p.addresses(s, dns.TypeA, owner), p.addresses(s, dns.TypeAAAA, owner))...)
			continue
		}
		for rest := rank.Members; len(rest) > 0; {
			var same, others []pool.Member
			for _, m := range rest {
				if m.Port == rest[0].Port && target(m) == target(rest[0]) {
					same = append(same, m)
				} else {
					others = append(others, m)
				}
			}
			name := target(rest[0]) + "." + owner
			https = append(https, p.binding(rank.Tier, name, same, owner, ttl))
			for _, m := range same {
				addrs = append(addrs, records(name, []netip.Addr{m.Addr}, ttl)...)
			}
			rest = others
		}
	}
	return https, addrs
}

// binding is the HTTPS record of members on one port.
func (p *livePool) binding(tier int, target string, members []pool.Member, owner string, ttl uint32) dns.RR {
	values := slices.Clone(p.params)
	if port := members[0].Port; port != 0 && port != 443 {
		values = append(values, &dns.SVCBPort{Port: port})
	}
	var v4, v6 []net.IP
	for _, m := range members {
		if m.Addr.Is4() {
			v4 = append(v4, m.Addr.AsSlice())
		} else {
			v6 = append(v6, m.Addr.AsSlice())
		}
	}
	if v4 = first(v4, p.Answer); len(v4) > 0 {
		values = append(values, &dns.SVCBIPv4Hint{Hint: v4})
	}
	if v6 = first(v6, p.Answer); len(v6) > 0 {
		values = append(values, &dns.SVCBIPv6Hint{Hint: v6})
	}
	slices.SortStableFunc(values, func(a, b dns.SVCBKeyValue) int { return int(a.Key()) - int(b.Key()) })
	return &dns.HTTPS{SVCB: dns.SVCB{
		Hdr:      dns.RR_Header{Name: owner, Rrtype: dns.TypeHTTPS, Class: dns.ClassINET, Ttl: ttl},
		Priority: uint16(tier) + 1, // #nosec G115 -- see maxTiers
		Target:   target,
		Value:    values,
	}}
}

// first are the first addresses, as many as an answer gives at most; 0: all.
func first(ips []net.IP, limit int) []net.IP {
	if limit > 0 && len(ips) > limit {
		return ips[:limit]
	}
	return ips
}

// parseParams reads parameters of a HTTPS record as they stand in a zone file. Those that the pool has to
// say are refused.
func parseParams(words []string) ([]dns.SVCBKeyValue, error) {
	for _, word := range words {
		key, _, _ := strings.Cut(word, "=")
		if slices.Contains([]string{"port", "ipv4hint", "ipv6hint", "key3", "key4", "key6"}, strings.ToLower(key)) {
			return nil, fmt.Errorf("https %q, want it with the members: it is written by the pool", word)
		}
		if strings.ContainsAny(word, " \t\r\n;()\"") {
			return nil, fmt.Errorf("https %q, want a parameter such as alpn=h2,h3", word)
		}
	}
	rr, err := dns.NewRR(". HTTPS 1 . " + strings.Join(words, " "))
	if err == nil {
		_, err = dns.PackRR(rr, make([]byte, dns.MaxMsgSize), 0, nil, false)
	}
	if err != nil {
		why, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "dns: "), " at line:") // of a zone file
		return nil, fmt.Errorf("https %q, want parameters such as alpn=h2,h3: %s", strings.Join(words, " "), why)
	}
	return rr.(*dns.HTTPS).Value, nil
}
