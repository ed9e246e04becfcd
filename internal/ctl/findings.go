package ctl

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/coredns-failover/failover"
	"github.com/coredns-failover/failover/plugin/pool"
)

// A finding is something that CoreDNS takes, and that an operator may not have meant.
type finding struct {
	At    string `json:"at"` // "Corefile:3"
	Level string `json:"level"`
	Words string `json:"words"` // what is so, what comes of it, and what to do
}

// The levels.
const (
	warning = "warning" // this will hurt
	note    = "note"    // this may be meant
)

// findings are what is suspicious about a plan: of each pool in its order, and then of all of them together.
func findings(plan *failover.Plan) []finding {
	if len(plan.Pools) == 0 {
		return []finding{{"Corefile", note, "there is no failover in it, so there is nothing to check but that CoreDNS takes it"}}
	}
	type line struct {
		at  string
		who int
	}
	var all []finding
	told := make(map[line]bool) // what the defaults say is said once
	for i := range plan.Pools {
		for who, f := range []func(*failover.PlannedPool) []finding{sharedLabels, lonely, oneNetwork, oneLoss, ttlBounds} {
			for _, found := range f(&plan.Pools[i]) {
				if k := (line{found.At, who}); !told[k] {
					told[k] = true
					all = append(all, found)
				}
			}
		}
	}
	for _, f := range []func(*failover.Plan) []finding{labelsAcross, spares, pace, state} {
		all = append(all, f(plan)...)
	}
	return all
}

// sharedLabels are labels that two hosts of a pool have. An IPv4 and an IPv6 address may well be one host.
func sharedLabels(p *failover.PlannedPool) (all []finding) {
	type key struct {
		label string
		v4    bool
	}
	first := make(map[key]pool.Member)
	for i, tier := range p.Tiers {
		for _, m := range tier {
			k := key{strings.ToLower(m.Label), m.Addr.Is4()}
			if before, ok := first[k]; ok && m.Label != "" {
				all = append(all, finding{p.TierPositions[i], note, fmt.Sprintf(
					"%s and %s of pool %s have the same label, so that a drain of that label takes both of them; good if it is a site, else give each host its own", before, m, p.Names[0])})
				continue
			}
			first[k] = m
		}
	}
	return all
}

// lonely is a pool whose only member takes all answers with it.
func lonely(p *failover.PlannedPool) []finding {
	if p.Overlay || p.Size() != 1 || p.Fallback.Reply == pool.Addresses || p.Fallback.Reply == pool.Next {
		return nil
	}
	return []finding{{p.Position, warning, fmt.Sprintf(
		"pool %s has one member and fallback %s, so a probe that is wrong takes the name away; give it a backup, or fallback all", p.Names[0], p.Fallback.Word)}}
}

// oneNetwork is a pool all of whose members are in one network.
func oneNetwork(p *failover.PlannedPool) []finding {
	networks := make(map[netip.Prefix]int)
	for _, tier := range p.Tiers {
		for _, m := range tier {
			bits := 24
			if m.Addr.Is6() {
				bits = 64
			}
			network, _ := m.Addr.Prefix(bits)
			networks[network]++
		}
	}
	families, several := make(map[bool]int), ""
	for network, members := range networks {
		families[network.Addr().Is4()]++
		if members > 1 {
			several = network.String()
		}
	}
	if several == "" || families[true] > 1 || families[false] > 1 {
		return nil
	}
	return []finding{{p.Position, note, fmt.Sprintf(
		"all members of pool %s are in %s: what takes that network away takes all of them; a backup elsewhere would be left", p.Names[0], several)}}
}

// oneLoss is a pool in which one lost packet is a failure of a member.
func oneLoss(p *failover.PlannedPool) []finding {
	if p.Settings.Fall > 1 {
		return nil
	}
	return []finding{{p.At("fall"), note, fmt.Sprintf(
		"a member of pool %s is down after one failure, so one lost packet changes the answer; fall 2 costs one recheck, %s", p.Names[0], exact(p.Settings.Recheck))}}
}

// ttlBounds are a TTL that buys nothing, and one that costs more than the probes win.
func ttlBounds(p *failover.PlannedPool) []finding {
	if p.Overlay { // its TTLs are the next plugins', and only bounded by ours
		return nil
	}
	notice := p.Settings.Interval + time.Duration(p.Settings.Fall-1)*p.Settings.Recheck
	switch {
	case p.MaxTTL < notice.Truncate(time.Second):
		return []finding{{p.At("ttl"), note, fmt.Sprintf(
			"the TTL of pool %s is at most %s, and no change shows sooner than after %s: the queries in between bring nothing; leave ttl out, or probe more often", p.Names[0], exact(p.MaxTTL), exact(notice))}}
	case p.MinTTL >= time.Minute && p.MinTTL > 4*notice:
		return []finding{{p.At("ttl"), note, fmt.Sprintf(
			"the TTL of pool %s is at least %s, so clients keep a dead address that much longer than the %s or so it takes to notice; a ttl with a smaller MIN follows", p.Names[0], exact(p.MinTTL), exact(notice))}}
	}
	return nil
}

// labelsAcross are labels that lead to other addresses in another pool.
func labelsAcross(plan *failover.Plan) (all []finding) {
	type place struct {
		addr netip.Addr
		pool *failover.PlannedPool
	}
	type key struct {
		label string
		v4    bool
	}
	first, told := make(map[key]place), make(map[string]bool)
	each(plan, func(p *failover.PlannedPool, m pool.Member) {
		k := key{strings.ToLower(m.Label), m.Addr.Is4()}
		before, ok := first[k]
		if !ok {
			first[k] = place{m.Addr, p}
			return
		}
		if m.Label == "" || told[k.label] || before.addr == m.Addr || before.pool == p {
			return
		}
		told[k.label] = true
		all = append(all, finding{p.Position, note, fmt.Sprintf(
			"label %s is %s in pool %s and %s in pool %s (%s), and failoverctl drain -label %s takes all of them; good if it is a site, else give each host its own",
			m.Label, m.Addr, p.Names[0], before.addr, before.pool.Names[0], before.pool.Position, m.Label)})
	})
	return all
}

// spares are addresses that are no pool's primaries.
func spares(plan *failover.Plan) []finding {
	primary := make(map[netip.Addr]bool)
	for i := range plan.Pools {
		if tiers := plan.Pools[i].Tiers; len(tiers) > 0 {
			for _, m := range tiers[0] {
				primary[m.Addr] = true
			}
		}
	}
	var words []string
	at := ""
	seen := make(map[netip.Addr]bool)
	each(plan, func(p *failover.PlannedPool, m pool.Member) {
		if primary[m.Addr] || seen[m.Addr] {
			return
		}
		seen[m.Addr] = true
		if at == "" {
			at = p.Position
		}
		words = append(words, m.String())
	})
	if len(words) == 0 {
		return nil
	}
	const shown = 5
	if more := len(words) - shown; more > 0 {
		words = append(words[:shown], fmt.Sprintf("%d more", more))
	}
	return []finding{{at, note, "only ever a backup: " + strings.Join(words, ", ") +
		"; what never serves may not serve when it has to, and failoverctl drain of a primary tries it"}}
}

// most probes a second, in all, that one process is made for.
const mostProbes = 10_000

// pace is how many probes a second all members get.
func pace(plan *failover.Plan) []finding {
	type share struct {
		pool *failover.PlannedPool
		rate float64
	}
	type key struct {
		question
		interval time.Duration
	}
	var shares []share
	total, seen := 0.0, make(map[key]bool)
	each(plan, func(p *failover.PlannedPool, m pool.Member) {
		if len(shares) == 0 || shares[len(shares)-1].pool != p {
			shares = append(shares, share{p, 0})
		}
		for _, spec := range p.Probes {
			k := key{questionOf(p, m, spec), p.Settings.Interval}
			if seen[k] {
				continue
			}
			seen[k] = true
			rate := 1 / p.Settings.Interval.Seconds()
			total += rate
			shares[len(shares)-1].rate += rate
		}
	})
	if total <= mostProbes {
		return nil
	}
	most := slices.MaxFunc(shares, func(a, b share) int { return int(a.rate - b.rate) })
	return []finding{{most.pool.At("interval"), warning, fmt.Sprintf(
		"the members get %.0f probes a second in all, most of them, %.0f, those of pool %s, and %d are what one server is made for; a longer interval for all but the few that matter",
		total, most.rate, most.pool.Names[0], mostProbes)}}
}

// state is a state file that cannot be kept, or is not one.
func state(plan *failover.Plan) []finding {
	at, err := plan.StateTrouble()
	if err == nil {
		return nil
	}
	return []finding{{at, warning, fmt.Sprintf("state: %v; a restart would begin with nothing", err)}}
}
