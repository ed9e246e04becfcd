package failover

import (
	"maps"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxBypass is how many zones we ask cache to leave alone. It compares every query with each of them,
// some 200 ns a zone, so it gets few, whatever the number of names.
const maxBypass = 8

// bypassZones returns zones that cover all names, at most maxBypass of them unless the names have more
// different top labels: the names themselves where they are few, or else what they end in.
func bypassZones(names []string) []string {
	depth := 1
	for _, name := range names {
		depth = max(depth, dns.CountLabel(name))
	}
	for ; ; depth-- {
		zones := make(map[string]bool)
		for _, name := range names {
			zones[ending(strings.TrimPrefix(name, "*."), depth)] = true
		}
		if len(zones) <= maxBypass || depth == 1 {
			return slices.Sorted(maps.Keys(zones))
		}
	}
}

// ending is the last labels of name, or all of it where it has no more.
func ending(name string, labels int) string {
	if name == "" {
		return "."
	}
	off, start := dns.PrevLabel(name, labels)
	if start {
		return name
	}
	return name[off:]
}
