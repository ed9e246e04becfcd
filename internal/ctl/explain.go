package ctl

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
)

// explain tells why a name is answered as it is.
func explain(ctx context.Context, s *session) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	var d api.Document
	if err := c.get(ctx, "pools/"+segment(fqdn(s.args[0])), nil, &d); err != nil {
		return err
	}
	if s.output == "json" {
		return s.say.json(d)
	}
	for i := range d.Pools {
		if i > 0 {
			s.say.printf("\n")
		}
		s.say.story(&d.Pools[i], fqdn(s.args[0]), d.Server.Now)
	}
	return nil
}

// story is all there is to say about a pool's present answer.
func (p *printer) story(pool *api.Pool, asked string, now time.Time) {
	kind := "pool"
	if pool.Overlay {
		kind = "overlay"
	}
	name := title(pool)
	if asked != "" && asked != pool.Name {
		p.printf("%s is answered by the %s %s", asked, kind, styled(bold, name))
	} else {
		p.printf("%s, %s", styled(bold, name), kind)
	}
	if pool.Block != "" {
		p.printf(" of the server block %s", pool.Block)
	}
	p.printf("\n")
	if len(pool.Names) > 1 {
		p.printf("Its names are %s\n", strings.Join(pool.Names, " "))
	}
	if pool.Overlay {
		p.printf("It answers what the next plugins do, without the addresses that are down; where none is left, fallback %s.\n", pool.Fallback)
	} else {
		p.answer(pool, now)
	}
	for i := range pool.Tiers {
		p.tier(pool, i, now)
	}
	if !pool.Overlay {
		p.printf("\n%s\n", ttlWords(pool, now))
	}
	p.future(pool, now)
}

// answer is what is answered, and from where.
func (p *printer) answer(pool *api.Pool, now time.Time) {
	a := &pool.Answer
	p.printf("It answers %s", text{inTier(a).words, bold})
	if a.Tier == "fallback" {
		p.printf(", because no tier is usable,")
	}
	p.printf(" since %s (%s)", p.at(a.Since), rough(now.Sub(a.Since)))
	if a.Turns {
		p.printf(", in another order each time: order %s", pool.Order)
	}
	p.printf(".\n")
	if pool.Failback == "manual" {
		p.printf("A member that comes back waits until it is cleared: failback manual.\n")
	}
}

// tier is a tier, why it is or is not in use, and its members.
func (p *printer) tier(pool *api.Pool, i int, now time.Time) {
	t := &pool.Tiers[i]
	if !pool.Overlay {
		p.printf("\nTier %d ", i)
		used, inUse := tierInUse(pool)
		free := 0
		for j := range t.Members {
			if isFree(&t.Members[j]) {
				free++
			}
		}
		has := fmt.Sprintf("%d of %s can be used, and it takes %d", free, count(len(t.Members), "member"), t.Need)
		switch {
		case inUse && used == i && t.Usable:
			p.printf("%s: %s.\n", styled(green, "is in use"), has)
		case inUse && used == i:
			p.printf("%s, though it is held back: %s, and a member that works goes before any fallback.\n", styled(yellow, "is in use"), has)
		case t.Usable:
			p.printf("is usable, and is not needed: a tier before it is in use (%s).\n", has)
		default:
			p.printf("%s: %s.\n", styled(red, "is not usable"), has)
		}
	}
	for j := range t.Members {
		p.member(pool, &t.Members[j], now)
	}
}

// tierInUse is the number of the tier in use; not ok: the fallback is.
func tierInUse(pool *api.Pool) (tier int, ok bool) {
	_, err := fmt.Sscanf(pool.Answer.Tier, "%d", &tier)
	return tier, err == nil && tier < len(pool.Tiers)
}

// member is all about one member.
func (p *printer) member(pool *api.Pool, m *api.Member, now time.Time) {
	p.printf("  %s is %s", m.Member, statusText(m.Status))
	if !m.Since.IsZero() {
		p.printf(" since %s (%s)", p.at(m.Since), rough(now.Sub(m.Since)))
	}
	if m.Why != "" {
		p.printf(": %s", m.Why)
	}
	switch {
	case m.Answered:
		p.printf("; it is in the answer")
	case !pool.Overlay:
		p.printf("; it is not in the answer")
	}
	p.printf("\n")
	if o := m.Override; o != nil {
		p.printf("    %s since %s: %s", styled(yellow, "overridden"), p.at(o.Since), o.String())
		if m.Probed != "" {
			p.printf("; its probes say %s", statusText(m.Probed))
		}
		p.printf("\n")
	}
	if !m.Held.IsZero() {
		p.printf("    %s until %s (%s): hold %s\n", styled(yellow, "held"), p.at(m.Held), rough(m.Held.Sub(now)), exact(seconds(pool.Hold)))
	}
	if m.Waiting {
		p.printf("    %s to be cleared: failback manual, failoverctl clear %s -pool %s\n", styled(yellow, "waits"), m.Address, pool.Name)
	}
	if m.Answered && (m.Waiting || !m.Held.IsZero()) && !pool.Overlay {
		p.printf("    it is used now: not enough members are free, and it came back before the others\n")
	}
	for i := range m.Probes {
		p.probe(pool, &m.Probes[i], len(m.Probes) > 1, now)
	}
}

// probe is what a probe has found out.
func (p *printer) probe(pool *api.Pool, q *api.Probe, several bool, now time.Time) {
	p.printf("    %s", q.Probe)
	if several {
		p.printf(" says %s", statusText(q.Status))
		if q.Why != "" {
			p.printf(" (%s)", q.Why)
		}
	}
	if q.Last != nil {
		result := styled(green, "passed")
		if !q.Last.Passed {
			result = styled(red, "failed")
		}
		p.printf(": %s %s ago in %s", result, rough(now.Sub(q.Last.At)), took(seconds(q.Last.Took)))
		if q.Last.Error != "" {
			p.printf(": %s", q.Last.Error)
		}
	} else {
		p.printf(": not asked yet")
	}
	if q.Needed > 0 {
		results, makes := "failures", "down"
		if q.Status == "down" {
			results, makes = "passes", "up"
		}
		p.printf("; %d of the %d %s that make it %s", q.Against, q.Needed, results, makes)
		if pool.Window > 0 && q.Status == "up" {
			p.printf(", among the last %d", pool.Window)
		}
	}
	if !q.Due.IsZero() {
		p.printf("; next in %s", rough(q.Due.Sub(now)))
	}
	p.printf("\n")
	if !q.Certificate.IsZero() {
		end := plain(fmt.Sprintf("expires %s (%s)", p.at(q.Certificate), rough(q.Certificate.Sub(now))))
		if q.Expiring {
			end.style = yellow
		}
		p.printf("        certificate %s\n", end)
	}
	for _, v := range q.Votes {
		p.printf("        %s says %s", v.Site, v.Status)
		if v.Why != "" {
			p.printf(": %s", v.Why)
		}
		p.printf("\n")
	}
}

// took is how long a probe took, to three digits or so.
func took(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// isFree says whether a member can be used now.
func isFree(m *api.Member) bool {
	return m.Status != "down" && m.Held.IsZero() && !m.Waiting && !isDrained(m)
}

func isDrained(m *api.Member) bool { return m.Override != nil && m.Override.Action == "drain" }

// future is what would change the answer next, the soonest first.
func (p *printer) future(pool *api.Pool, now time.Time) {
	type change struct {
		at    time.Time
		words string
	}
	var all []change
	for _, t := range concerned(pool) {
		for i := range t.Members {
			m := &t.Members[i]
			if !m.Held.IsZero() {
				all = append(all, change{m.Held, m.Member + " has been held for long enough, and can be used"})
			}
			if m.Override != nil && !m.Override.Until.IsZero() {
				words := "the override of " + m.Member + " ends, and it is what its probes say, now " + or(m.Probed, m.Status)
				if pool.Failback == "manual" { // an override hides that it waits
					words += "; if it has been down, it waits to be cleared"
				}
				all = append(all, change{m.Override.Until, words})
			}
			if !m.Next.IsZero() && m.Override == nil {
				all = append(all, change{m.Next, m.Member + turn(m)})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b change) int { return a.at.Compare(b.at) })
	if len(all) == 0 {
		p.printf("Nothing about it changes by itself.\n")
		return
	}
	p.printf("What could change it next, and the soonest that it could:\n")
	const most = 5
	for _, c := range all[:min(len(all), most)] {
		p.printf("  %s (in %s): %s\n", p.at(c.at), rough(c.at.Sub(now)), c.words)
	}
	if more := len(all) - most; more > 0 {
		p.printf("  and %d more\n", more)
	}
}

// turn is how a member's status would change.
func turn(m *api.Member) string {
	switch m.Status {
	case "up":
		return " is down, if its probes fail"
	case "down":
		return " is up, if its probes pass"
	}
	return " is down, if its probes fail; the first that passes makes it up"
}

// concerned are the tiers whose members can change the answer: the one in use and those before it, and all of them in
// a fallback.
func concerned(pool *api.Pool) []api.Tier {
	if used, ok := tierInUse(pool); ok {
		return pool.Tiers[:used+1]
	}
	return pool.Tiers
}
