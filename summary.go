package failover

import (
	"strconv"
	"strings"

	"github.com/coredns-failover/failover/plugin/api"
)

// summary returns the counts of all pools and overlays of the generation in words. The log has one line with it at the
// end of each start and reload. This line stands for the first results of all members that are up: a server with
// 100,000 members would otherwise write 100,000 lines at each start.
func (g *generation) summary() string {
	var pools, overlays api.Summary
	for _, p := range g.pools {
		p.count(&pools)
	}
	for _, o := range g.overlays {
		o.count(&overlays)
	}
	return summaryText(&pools, &overlays)
}

// summaryText returns the counts of pools and overlays in words.
func summaryText(pools, overlays *api.Summary) string {
	var parts []string
	if pools.Pools > 0 || overlays.Pools == 0 {
		parts = append(parts, countText(pools.Pools, "pool", "pools")+": "+memberText(pools, "member", "members"))
	}
	if of := onOtherTiers(pools); of != "" {
		parts = append(parts, of)
	}
	if overlays.Pools > 0 {
		addresses := "no address yet"
		if overlays.Members > 0 {
			addresses = memberText(overlays, "address", "addresses")
		}
		parts = append(parts, countText(overlays.Pools, "overlay", "overlays")+": "+addresses)
	}
	return strings.Join(parts, "; ")
}

// memberText returns how many members have each status. It leaves out "unknown" if there is no such member.
func memberText(s *api.Summary, one, many string) string {
	text := countText(s.Up, one, many) + " up, " + grouped(s.Down) + " down"
	if s.Unknown > 0 {
		text += ", " + grouped(s.Unknown) + " unknown"
	}
	return text
}

// onOtherTiers returns how many pools do not answer with their primary tier, or "" if all do.
func onOtherTiers(s *api.Summary) string {
	var parts []string
	if s.Backup > 0 {
		parts = append(parts, countText(s.Backup, "pool", "pools")+" on backup")
	}
	if s.Fallback > 0 {
		parts = append(parts, countText(s.Fallback, "pool", "pools")+" on fallback")
	}
	return strings.Join(parts, ", ")
}

// countText returns a count with its noun.
func countText(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// grouped returns a count with a comma before each three digits: 25,000.
func grouped(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
