package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// condition is how a replica's probes of a member have to come out.
type condition int

const (
	good  condition = iota // they pass
	bad                    // they fail
	fuzzy                  // they may
)

// bound is how long a change may take to be in every answer. With the Corefile of the soak it takes 3 seconds at most:
// an interval, three timeouts and two rechecks. The rest is for a busy machine.
const bound = 8 * time.Second

// truth is what is known of each member as seen by each replica, and since when it has been so.
type truth struct {
	mu    sync.Mutex
	is    [replicas][len(members)]condition
	since [replicas][len(members)]time.Time
}

func newTruth() *truth {
	t := new(truth)
	t.restart()
	return t
}

// restart counts everything from now on.
func (t *truth) restart() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.since {
		for m := range t.since[r] {
			t.since[r][m] = time.Now()
		}
	}
}

// set says that something has become of a member, for one replica or, with -1, for all.
func (t *truth) set(replica, member int, c condition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.is {
		if replica < 0 || replica == r {
			t.is[r][member], t.since[r][member] = c, time.Now()
		}
	}
}

// settled is what must be known to a replica of a member by now, and fuzzy where nothing must.
func (t *truth) settled(replica, member int, at time.Time) condition {
	if at.Sub(t.since[replica][member]) < bound {
		return fuzzy
	}
	return t.is[replica][member]
}

// wrong says what is wrong with an answer to a query that was sent at a time; nothing is said of what may be either way.
func (t *truth) wrong(replica int, addrs []string, sent time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := -1
	var here [len(members)]bool
	for _, addr := range addrs {
		i := slices.Index(members[:], addr)
		if i <= last {
			return "no member, or out of order"
		}
		here[i], last = true, i
	}
	if last < 0 {
		return "empty"
	}
	var state [len(members)]condition
	anyGood := false
	for m := range members {
		state[m] = t.settled(replica, m, sent)
		anyGood = anyGood || state[m] == good
	}
	if !anyGood {
		return "" // it may be the fallback, which is all
	}
	for m := range members {
		if here[m] && state[m] == bad {
			return members[m] + " is dead"
		}
	}
	usable := slices.Contains(state[:primary], good)
	unusable := !usable && !slices.Contains(state[:primary], fuzzy)
	for m := range members {
		first := m < primary
		switch {
		case usable && first && state[m] == good && !here[m], unusable && !first && state[m] == good && !here[m]:
			return members[m] + " is missing"
		case usable && !first && here[m]:
			return members[m] + " is a backup"
		}
	}
	return ""
}

// String is all of it, for a report.
func (t *truth) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for r := range t.is {
		for m := range t.is[r] {
			fmt.Fprintf(&b, " %s for %d: %s since %.1fs;", members[m], r, [...]string{"good", "bad", "fuzzy"}[t.is[r][m]], time.Since(t.since[r][m]).Seconds())
		}
	}
	return b.String()
}
