package answer

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns-failover/failover/plugin/pool"

	"github.com/miekg/dns"
)

// Derived is a name made from a pool's name: a service (_http._tcp.NAME) or a host (LABEL.NAME).
type Derived struct {
	// PrefixLen is the length of the text before the pool's name.
	PrefixLen int

	// Addrs are the addresses of a host, at most one of each family. A service has none, but SRV records.
	Addrs []netip.Addr
}

// DerivedNames returns the names that SRV and HTTPS records make of a pool's names, by the text before the name. It is
// nil if the pool has no such records.
func DerivedNames(services []string, p pool.Pool) map[string]*Derived {
	if !p.Ranked {
		return nil
	}
	names := make(map[string]*Derived)
	for _, s := range services {
		names[s] = &Derived{PrefixLen: len(s)}
	}
	for _, members := range slices.Concat(p.Tiers, [][]pool.Member{p.Fallback.Other}) {
		for _, m := range members {
			prefix := HostLabel(m) + "."
			if names[prefix] == nil {
				names[prefix] = &Derived{PrefixLen: len(prefix)}
			}
			if !slices.Contains(names[prefix].Addrs, m.Addr) {
				names[prefix].Addrs = append(names[prefix].Addrs, m.Addr)
			}
		}
	}
	return names
}

// HostLabel returns the label of a member in the target of SRV and HTTPS records. It is a label of a host name (RFC 1123).
func HostLabel(m pool.Member) string {
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

// DerivedUnder returns the derived name that a name under a wildcard is. nextCloser is the name one label below the
// wildcard's parent. d is nil if the wildcard itself covers the name. ok is false if the name lies between such a name and
// its SRV records, and has no records.
func (c *Config) DerivedUnder(name, nextCloser string) (d *Derived, ok bool) {
	prefix := strings.TrimSuffix(name, nextCloser)
	one, end := dns.NextLabel(prefix, 0)
	if prefix == "" || c.Derived == nil {
		return nil, true
	}
	if d := c.Derived[prefix[:one]]; d != nil { // a host
		return d, true
	}
	if !end {
		two, _ := dns.NextLabel(prefix, one)
		if d := c.Derived[prefix[:two]]; d != nil { // a service
			return d, true
		}
	}
	return nil, !c.protocolLabels[prefix[:one]]
}

// protocolLabels returns the labels that stand between a name and its SRV records.
func protocolLabels(services []string) map[string]bool {
	if len(services) == 0 {
		return nil
	}
	labels := make(map[string]bool)
	for _, s := range services {
		off, _ := dns.NextLabel(s, 0)
		labels[s[off:]] = true
	}
	return labels
}
