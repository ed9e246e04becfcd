package ctl

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
)

// term is how soon a member could change the answer, and how that is made up.
type term struct {
	soonest time.Duration
	words   string
}

// ttlWords is where a pool's TTL comes from: the soonest change of the members concerned, within MIN to MAX.
func ttlWords(pool *api.Pool, now time.Time) string {
	least, most := time.Duration(pool.MinTTL)*time.Second, time.Duration(pool.MaxTTL)*time.Second
	if least == most {
		return fmt.Sprintf("TTL %ds, as the Corefile says.", pool.Answer.TTL)
	}
	var terms []term
	limit := heldLimit(pool)
	for _, t := range concerned(pool) {
		for i := range t.Members {
			terms = append(terms, termOf(pool, &t.Members[i], limit, now))
		}
	}
	whose := "tier 0"
	switch used, ok := tierInUse(pool); {
	case !ok:
		whose = "all tiers"
	case used > 0:
		whose = fmt.Sprintf("tiers 0 to %d", used)
	}
	words := fmt.Sprintf("TTL %ds: within %s to %s, the soonest that a member of %s could change the answer", pool.Answer.TTL, exact(least), exact(most), whose)
	if len(terms) == 0 {
		return words + "."
	}
	first := slices.MinFunc(terms, func(a, b term) int { return cmp.Compare(a.soonest, b.soonest) })
	if ttl := max(min(first.soonest, most), least).Truncate(time.Second); int(ttl.Seconds()) != pool.Answer.TTL {
		return words + ", as it was when the answer was made."
	}
	if first.soonest == forever {
		return words + ", which none does by itself."
	}
	words += fmt.Sprintf(": %s (%s)", exact(first.soonest.Round(time.Millisecond)), first.words)
	switch {
	case first.soonest < least:
		words += ", which is less than " + exact(least)
	case first.soonest > most:
		words += ", which is more than " + exact(most)
	case first.soonest%time.Second != 0:
		words += ", in whole seconds"
	}
	return words + "."
}

// termOf is how soon a member could change the answer, as plugin/pool has it: when its status could change, with the
// hold where it is not used now, or the end of its hold if it came back after limit.
func termOf(pool *api.Pool, m *api.Member, limit, now time.Time) term {
	var t term
	switch o := m.Override; {
	case o != nil && o.Until.IsZero():
		return term{forever, m.Member + " is overridden"}
	case o != nil:
		t = term{max(0, o.Until.Sub(now)), "overridden for so long"}
	case m.Waiting && m.Returned.After(limit):
		return term{forever, m.Member + " waits to be cleared"}
	case !m.Held.IsZero() && m.Returned.After(limit):
		return term{m.Held.Sub(now), m.Member + " is held for so long"}
	default:
		t = statusTerm(pool, m)
	}
	_, inUse := tierInUse(pool) // one that is held goes before a fallback
	if hold := seconds(pool.Hold); inUse && hold > 0 && (m.Status == "down" || isDrained(m)) {
		t.soonest += hold
		t.words += " + hold " + exact(hold)
	}
	return term{t.soonest, m.Member + " is " + m.Status + ", " + t.words}
}

// forever is a time that does not come by itself.
const forever time.Duration = math.MaxInt64

// heldLimit returns the return of the last held member that the tier in use needs. Held members that came back later are
// not used. It is zero if the tier needs no held member.
func heldLimit(pool *api.Pool) time.Time {
	used, ok := tierInUse(pool)
	if !ok || pool.Tiers[used].Usable {
		return time.Time{}
	}
	free, returns := 0, []time.Time(nil)
	for i := range pool.Tiers[used].Members {
		switch m := &pool.Tiers[used].Members[i]; {
		case m.Waiting, !m.Held.IsZero():
			returns = append(returns, m.Returned)
		case isFree(m):
			free++
		}
	}
	slices.SortFunc(returns, time.Time.Compare)
	if more := pool.Tiers[used].Need - free; more > 0 && more <= len(returns) {
		return returns[more-1]
	}
	return time.Time{}
}

// statusTerm is how soon a member's status could change: when so many of its probes have changed theirs that too many,
// or too few, of them are up.
func statusTerm(pool *api.Pool, m *api.Member) term {
	var up, down []term
	all := make([]term, 0, len(m.Probes))
	for i := range m.Probes {
		t := probeTerm(pool, &m.Probes[i])
		all = append(all, t)
		switch m.Probes[i].Status {
		case "up":
			up = append(up, t)
		case "down":
			down = append(down, t)
		}
	}
	most := len(all) - pool.Require
	switch {
	case len(all) == 0:
		return term{}
	case len(down) > most:
		return nth(down, len(down)-most)
	case len(up) >= pool.Require:
		return nth(up, len(up)-pool.Require+1)
	}
	return nth(all, 1)
}

// nth is the n-th of some terms by how soon they are, from 1.
func nth(terms []term, n int) term {
	slices.SortStableFunc(terms, func(a, b term) int { return cmp.Compare(a.soonest, b.soonest) })
	return terms[n-1]
}

// probeTerm is how soon a probe's status could change, counted from its latest result. Each result that is still needed
// comes after recheck, but one that agrees with the status is followed by the interval first.
func probeTerm(pool *api.Pool, q *api.Probe) term {
	interval, recheck := seconds(pool.Interval), seconds(pool.Recheck)
	left := q.Needed - q.Against
	words := count(left, "failure") + " away from down"
	switch {
	case q.Status == "down" && left == 1:
		words = "1 pass away from up"
	case q.Status == "down":
		words = fmt.Sprintf("%d passes away from up", left)
	}
	settled := q.Status != "unknown" && (q.Last == nil || q.Last.Passed == (q.Status == "up"))
	if settled {
		words += ": interval " + exact(interval)
		if left > 1 {
			words += fmt.Sprintf(" + %d x recheck %s", left-1, exact(recheck))
		}
		return term{interval + time.Duration(left-1)*recheck, words}
	}
	return term{time.Duration(left) * recheck, words + fmt.Sprintf(": %d x recheck %s", left, exact(recheck))}
}
