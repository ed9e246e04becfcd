// Package quorum makes one status of what several voters say of the same target.
//
// It is arithmetic only: who is a voter, and whose vote is fresh enough to count, is for the caller to say. The result
// depends on nothing but the votes, so all who have the same votes come to the same.
package quorum

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
)

// Vote is what a voter says of a target.
type Vote struct {
	Voter  string
	Status health.Status // unknown is no vote
	Kept   bool          // out of the answers there, though it is up: it was down before

	// Returned is the time at which a kept target came back, by the voter's clock. It is zero if the voter does not say.
	Returned time.Time

	Why string // the reason, in words
}

// Rule is how many voters have to see a target up for it to be up. The zero value is more than half of them, or half.
type Rule struct {
	kind  kind
	count int
}

type kind uint8

const (
	majority kind = iota
	anyone
	all
	own
	count
)

// Own is the rule that goes by no other voter.
var Own = Rule{kind: own}

// maxCount bounds a number of voters: each of them writes to one etcd.
const maxCount = 99

// Parse reads a rule: majority, any, all, own, or a number.
func Parse(word string) (Rule, error) {
	if i := slices.Index([]string{"majority", "any", "all", "own"}, word); i >= 0 {
		return Rule{kind: kind(i)}, nil // #nosec G115 -- 0 to 3
	}
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 || n > maxCount {
		return Rule{}, fmt.Errorf("quorum %q, want majority, any, all, own or a number of sites from 1 to %d", word, maxCount)
	}
	return Rule{count, n}, nil
}

// String is the rule as it is written.
func (r Rule) String() string {
	if r.kind == count {
		return strconv.Itoa(r.count)
	}
	return []string{"majority", "any", "all", "own"}[r.kind]
}

// need is how many of so many votes have to be up.
func (r Rule) need(votes int) int {
	switch r.kind {
	case anyone:
		return 1
	case all:
		return votes
	case count:
		return min(r.count, votes) // those who are left decide, however few they are
	}
	return (votes + 1) / 2 // half of them is enough: a pool loses a member to a broken probe more often than to a broken world
}

// Decision is what votes come to.
type Decision struct {
	Status   health.Status // unknown: there was no vote
	Up, Down []string      // the voters, by name
	Slack    int           // so many votes have to change for the status to change
	why      string
}

// Decide counts votes. No two of them are of the same voter.
func (r Rule) Decide(votes []Vote) Decision {
	var d Decision
	votes = slices.SortedFunc(slices.Values(votes), func(a, b Vote) int { return strings.Compare(a.Voter, b.Voter) })
	for _, v := range votes {
		switch v.Status {
		case health.Up:
			d.Up = append(d.Up, v.Voter)
		case health.Down:
			d.Down = append(d.Down, v.Voter)
			if d.why == "" {
				d.why = v.Why
			}
		}
	}
	n := len(d.Up) + len(d.Down)
	switch need := r.need(n); {
	case n == 0:
	case len(d.Up) >= need:
		d.Status, d.Slack = health.Up, len(d.Up)-need+1
	default:
		d.Status, d.Slack = health.Down, need-len(d.Up)
	}
	return d
}

// String is the decision in words: "down by 2 of 3: fra, iad; up: nrt; fra: 3 failures: timeout".
func (d Decision) String() string {
	with, against, other := d.Up, d.Down, health.Down
	if d.Status == health.Down {
		with, against, other = d.Down, d.Up, health.Up
	}
	s := fmt.Sprintf("%s by %d of %d: %s", d.Status, len(with), len(d.Up)+len(d.Down), strings.Join(with, ", "))
	if len(against) > 0 {
		s += fmt.Sprintf("; %s: %s", other, strings.Join(against, ", "))
	}
	if d.Status == health.Down && d.why != "" {
		s += fmt.Sprintf("; %s: %s", d.Down[0], d.why)
	}
	return s
}
