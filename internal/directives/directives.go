// Package directives puts failover into CoreDNS's list of directives, whose order is the order in
// which the plugins of a server block see a query. The CoreDNS of this repository, the demo and the
// tests of whole servers share it, so that they all run the same chain.
package directives

import (
	"fmt"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
)

// before is the plugin that failover comes directly before: below everything that changes, signs,
// caches or refuses an answer, above everything that makes one.
const before = "template"

// Insert adds failover to dnsserver.Directives. It must run before a server starts, and once.
func Insert() error {
	i := slices.Index(dnsserver.Directives, before)
	if i < 0 {
		return fmt.Errorf("no directive %q in this CoreDNS to put failover before", before)
	}
	return dnsserver.SetDirectives(slices.Insert(slices.Clone(dnsserver.Directives), i, "failover"))
}
