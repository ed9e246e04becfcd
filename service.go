package failover

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/rrset"

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

// parseService reads SERVICE[/PROTOCOL] and returns what it puts before a name (RFC 2782). Some services in use are
// longer than RFC 6335 would have them.
func parseService(word string) (string, error) {
	service, protocol, ok := strings.Cut(word, "/")
	if !ok {
		protocol = "tcp"
	}
	if !isLabel(service) || len(service) > 62 || !strings.ContainsFunc(service, isLetter) {
		return "", fmt.Errorf("srv %q, want a service without underscores, such as http or sip/udp", word)
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
	above := strings.TrimSuffix(name, next)
	one, end := dns.NextLabel(above, 0)
	if above == "" || p.derived == nil {
		return nil, true
	}
	if as := p.derived[above[:one]]; as != nil { // a target
		return as, true
	}
	if !end {
		two, _ := dns.NextLabel(above, one)
		if as := p.derived[above[:two]]; as != nil { // a service
			return as, true
		}
	}
	return nil, !p.between[above[:one]]
}

// protocols are the labels that lie between a name and its SRV records.
func protocols(services []string) map[string]bool {
	if len(services) == 0 {
		return nil
	}
	between := make(map[string]bool)
	for _, s := range services {
		off, _ := dns.NextLabel(s, 0)
		between[s[off:]] = true
	}
	return between
}

// endpoint is what one SRV or HTTPS record leads to.
type endpoint struct {
	tier  int
	label string // of the target; "": it is the owner itself
	port  uint16
	addrs []netip.Addr // of each family one where there is a label
}

// endpoints are the hosts of a choice, tier by tier. Members of a tier that have the label and the port in common are
// one.
func endpoints(ranks []pool.Rank) []endpoint {
	if len(ranks) == 0 {
		return nil
	}
	type key struct {
		tier  int
		label string
		port  uint16
	}
	var all []endpoint
	known := make(map[key]int)
	for _, rank := range ranks {
		for _, m := range rank.Members {
			k := key{rank.Tier, target(m), m.Port}
			i, ok := known[k]
			if !ok {
				i = len(all)
				known[k], all = i, append(all, endpoint{tier: k.tier, label: k.label, port: k.port})
			}
			all[i].addrs = append(all[i].addrs, m.Addr)
		}
	}
	return all
}

// bindings are the endpoints of HTTPS records. A client that looks up a target takes the addresses that it finds
// there, and leaves the hints (RFC 9460, section 7.3). So a record has the owner for its target only if its members
// are what that has, and all of them on one port: there is one record for a tier then.
func bindings(c *pool.Choice) []endpoint {
	var all []endpoint
	for _, rank := range c.Ranks {
		port := rank.Members[0].Port
		elsewhere := func(m pool.Member) bool { return m.Port != port }
		if rank.Tier != c.Tier && len(c.Ranks) > 1 || slices.ContainsFunc(rank.Members, elsewhere) {
			all = append(all, endpoints([]pool.Rank{rank})...)
			continue
		}
		e := endpoint{tier: rank.Tier, port: port}
		for _, m := range rank.Members {
			e.addrs = append(e.addrs, m.Addr)
		}
		all = append(all, e)
	}
	return all
}

// target is the name of an endpoint for an owner; not ok: it is too long to be one.
func (e *endpoint) target(owner string) (name string, ok bool) {
	name = e.label + "." + owner
	_, ok = dns.IsDomainName(name)
	return name, ok
}

// records are the addresses of an endpoint, which may be of both families.
func (e *endpoint) records(owner string, ttl uint32) []dns.RR {
	rrs := make([]dns.RR, 0, len(e.addrs))
	for i := range e.addrs {
		rrs = append(rrs, rrset.Addresses(owner, e.addrs[i:i+1], ttl)...)
	}
	return rrs
}

// srvs are the SRV records of the pool, one for each host, and the addresses of their targets.
func (s *snapshot) srvs(owner string, prefix int) (srvs, addrs []dns.RR) {
	ttl := uint32(s.ranksTTL.Seconds())
	for _, e := range s.services {
		name, ok := e.target(owner[prefix:])
		if !ok {
			continue // below a wildcard
		}
		srvs = append(srvs, &dns.SRV{
			Hdr:      dns.RR_Header{Name: owner, Rrtype: dns.TypeSRV, Class: dns.ClassINET, Ttl: ttl},
			Priority: uint16(e.tier), // #nosec G115 -- see maxTiers
			Weight:   1,              // equal; 0 would mean that the order has no meaning at all
			Port:     e.port,
			Target:   name,
		})
		addrs = append(addrs, e.records(name, ttl)...)
	}
	return srvs, rrset.Dedupe(addrs)
}

// httpsOf are the HTTPS records of the pool, and the addresses of their targets.
func (p *livePool) httpsOf(s *snapshot, owner string) (https, addrs []dns.RR) {
	ttl := uint32(s.ranksTTL.Seconds())
	for _, e := range s.bindings {
		name := "."
		if e.label == "" {
			addrs = slices.Concat(addrs, rrset.WithOwner(p.front(s.v4()), owner), rrset.WithOwner(p.front(s.v6()), owner))
		} else {
			var ok bool
			if name, ok = e.target(owner); !ok {
				continue // below a wildcard
			}
			addrs = append(addrs, e.records(name, ttl)...)
		}
		https = append(https, &dns.HTTPS{SVCB: dns.SVCB{
			Hdr:      dns.RR_Header{Name: owner, Rrtype: dns.TypeHTTPS, Class: dns.ClassINET, Ttl: ttl},
			Priority: uint16(e.tier) + 1, // #nosec G115 -- see maxTiers
			Target:   name,
			Value:    p.parameters(&e),
		}})
	}
	return https, rrset.Dedupe(addrs)
}

// front is as many records as an answer gives: those of a pool whose order turns are all there.
func (p *livePool) front(rrs []dns.RR) []dns.RR {
	if p.Answer == 0 {
		return rrs
	}
	return rrs[:min(p.Answer, len(rrs))]
}

// parameters are those of the HTTPS record of an endpoint, in the order of their keys.
func (p *livePool) parameters(e *endpoint) []dns.SVCBKeyValue {
	values := slices.Clone(p.params)
	if e.port != 0 && e.port != 443 {
		values = append(values, &dns.SVCBPort{Port: e.port})
	}
	var v4, v6 []net.IP
	for _, addr := range e.addrs {
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

// parseParams reads parameters of a HTTPS record as they stand in a zone file. Those that the pool has to
// say are refused.
func parseParams(words []string) ([]dns.SVCBKeyValue, error) {
	for _, word := range words {
		key, _, _ := strings.Cut(word, "=")
		if slices.Contains([]string{"port", "ipv4hint", "ipv6hint", "key3", "key4", "key6"}, strings.ToLower(key)) {
			return nil, fmt.Errorf("https %q, want it with the members: it is written by the pool", word)
		}
		if strings.ContainsAny(word, " \t\r\n;()") {
			return nil, fmt.Errorf("https %q, want a parameter such as alpn=h2,h3", word)
		}
	}
	rr, err := dns.NewRR(". HTTPS 1 . " + strings.Join(words, " "))
	if err == nil {
		_, err = dns.PackRR(rr, make([]byte, dns.MaxMsgSize), 0, nil, false)
	}
	if err != nil {
		why, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "dns: "), " at line:") // of a zone file
		return nil, fmt.Errorf("https %q, want parameters such as alpn=h2,h3: %s", strings.Join(words, " "), strings.TrimLeft(why, ": "))
	}
	values := rr.(*dns.HTTPS).Value
	return values, consistent(values)
}

// consistent checks what one parameter of a HTTPS record takes of the others (RFC 9460, sections 7.1 and 8): a
// record that lacks it is malformed, and with it the whole answer.
func consistent(values []dns.SVCBKeyValue) error {
	has := make(map[dns.SVCBKey]bool)
	for _, value := range values {
		if has[value.Key()] = true; value.String() == "" && value.Key() != dns.SVCB_NO_DEFAULT_ALPN {
			return fmt.Errorf("https with %q, want a value", value.Key())
		}
	}
	if has[dns.SVCB_NO_DEFAULT_ALPN] && !has[dns.SVCB_ALPN] {
		return errors.New("https with no-default-alpn, want alpn, too")
	}
	for _, value := range values {
		mandatory, ok := value.(*dns.SVCBMandatory)
		if !ok {
			continue
		}
		for i, key := range mandatory.Code {
			if !has[key] || key == dns.SVCB_MANDATORY || slices.Contains(mandatory.Code[:i], key) {
				return fmt.Errorf("https with %q, want each key once, and with a parameter here: %s", "mandatory="+mandatory.String(), key)
			}
		}
	}
	return nil
}
