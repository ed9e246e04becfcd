package ctl

import (
	"fmt"
	"slices"
	"time"

	"github.com/coredns-failover/failover/plugin/status"
)

// term is how soon a member could change the answer, and how that is made up.
type term struct {
	soonest time.Duration
	words   string
}

// ttlWords is where a pool's TTL comes from: the soonest change of the members concerned, within MIN to MAX.
func ttlWords(pool *status.Pool, now time.Time) string {
	least, most := time.Duration(pool.MinTTL)*time.Second, time.Duration(pool.MaxTTL)*time.Second
	if least == most {
		return fmt.Sprintf("TTL %ds, as the Corefile says.", pool.Answer.TTL)
	}
	var terms []term
	for _, t := range concerned(pool) {
		for i := range t.Members {
			terms = append(terms, termOf(pool, &t.Members[i], now))
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
	first := slices.MinFunc(terms, func(a, b term) int { return int(a.soonest - b.soonest) })
	if ttl := max(min(first.soonest, most), least).Truncate(time.Second); int(ttl.Seconds()) != pool.Answer.TTL {
		return words + ", as it was when the answer was made."
	}
	words += fmt.Sprintf(": %s (%s)", exact(first.soonest.Round(time.Millisecond)), first.words)
	switch {
	case first.soonest < least:
		words += fmt.Sprintf(", which is less than %s", exact(least))
	case first.soonest > most:
		words += fmt.Sprintf(", which is more than %s", exact(most))
	case first.soonest%time.Second != 0:
		words += ", in whole seconds"
	}
	return words + "."
}

// termOf is how soon a member could change the answer, as plugin/pool has it: when its status could change, with the
// hold where it is down, or the end of its hold.
func termOf(pool *status.Pool, m *status.Member, now time.Time) term {
	if !m.Held.IsZero() {
		left := m.Held.Sub(now)
		return term{left, m.Member + " is held for so long"}
	}
	t := statusTerm(pool, m)
	hold := seconds(pool.Hold)
	if or(m.Probed, m.Status) == "down" && hold > 0 {
		t.soonest += hold
		t.words += " + hold " + exact(hold)
	}
	t.words = m.Member + " is " + or(m.Probed, m.Status) + ", " + t.words
	return t
}

// statusTerm is how soon a member's status could change: when so many of its probes have changed theirs that too many,
// or too few, of them are up.
func statusTerm(pool *status.Pool, m *status.Member) term {
	var up, down, all []term
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
	slices.SortStableFunc(terms, func(a, b term) int { return int(a.soonest - b.soonest) })
	return terms[n-1]
}

// probeTerm is how soon a probe's status could change, counted from its latest result. Each result that is still needed
// comes after recheck, but one that agrees with the status is followed by the interval first.
func probeTerm(pool *status.Pool, q *status.Probe) term {
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
