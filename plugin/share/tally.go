package share

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/coredns-failover/failover/plugin/quorum"
)

const (
	// fresh is how long a site counts after its last beat. It is longer than etcd takes to elect a leader, when nothing
	// can be written, and as long as five beats.
	fresh = 10 * time.Second

	// settling is how long nobody counts after there was nobody: longer than a beat, so that all who are alive have
	// shown it and count at once.
	settling = 2500 * time.Millisecond
)

// tally is what the other sites say. It has no clock and no socket: it is told what etcd has, and what the time is.
//
// Only the reader's own clock bears on it, so no two clocks have to agree.
type tally struct {
	sites   map[string]*site
	settled time.Time // nobody counts before
	before  *tally    // who counts until then; nil: nobody
	eager   bool      // nobody counts only until all have shown that they are alive: nothing goes by it yet
	ignored uint64    // values that were none

	// What has changed since it was asked last.
	some map[id]quorum.Key
	all  bool
}

// site is another site.
type site struct {
	beat   beat      // the zero value: there is none
	alive  time.Time // when its beat changed before our eyes; zero: never yet
	votes  map[id]said
	valid  int  // how many votes are of the beat's instance
	counts bool // as told
}

func newTally() *tally {
	return &tally{sites: make(map[string]*site), some: make(map[id]quorum.Key)}
}

// clone is the tally that counts, for one that takes the place of its owner.
func (t *tally) clone(now time.Time) *tally {
	is := t.current(now)
	c := newTally()
	c.settled, c.ignored = is.settled, t.ignored
	for name, s := range is.sites {
		their := *s
		their.votes = maps.Clone(s.votes)
		c.sites[name] = &their
	}
	return c
}

// complete says whether all sites that there are have shown that they are alive.
func (t *tally) complete() bool {
	for _, s := range t.sites {
		if s.beat.Instance != "" && (s.alive.IsZero() || s.valid < s.beat.Votes) {
			return false
		}
	}
	return true
}

// counted says whether the votes of a site count.
func (t *tally) counted(s *site, now time.Time) bool {
	return s.beat.Instance != "" && s.valid >= s.beat.Votes && // all are there
		!s.alive.IsZero() && now.Sub(s.alive) < fresh && !now.Before(t.settled)
}

// current is the tally that counts.
func (t *tally) current(now time.Time) *tally {
	if t.before != nil && now.Before(t.settled) {
		return t.before
	}
	return t
}

// votes are those about a key that count.
func (t *tally) votes(k quorum.Key, now time.Time) []quorum.Vote {
	t = t.current(now)
	var votes []quorum.Vote
	about := keyID(k)
	for _, s := range t.sites {
		v, ok := s.votes[about]
		if ok && v.instance == s.beat.Instance && t.counted(s, now) {
			votes = append(votes, v.vote)
		}
	}
	slices.SortFunc(votes, func(a, b quorum.Vote) int { return strings.Compare(a.Voter, b.Voter) })
	return votes
}

// beats takes the beat of a site. The time is zero for one that was there before we came: it proves nothing.
func (t *tally) beats(name string, value []byte, now time.Time) {
	b, ok := parseBeat(value)
	if !ok {
		t.ignored++
		t.gone(name)
		return
	}
	s := t.site(name)
	if s == nil || s.beat == b {
		return
	}
	if s.beat.Instance != b.Instance {
		s.valid = 0
		for _, v := range s.votes {
			if v.instance == b.Instance {
				s.valid++
			}
		}
		t.all = true
	}
	s.beat, s.alive = b, now
}

// gone takes that a site has no beat.
func (t *tally) gone(name string) {
	if s := t.sites[name]; s != nil {
		s.beat, s.alive, s.valid = beat{}, time.Time{}, 0
		t.tidy(name, s)
		t.all = t.all || s.counts
	}
}

// says takes a vote of a site; nil: it is withdrawn.
func (t *tally) says(name, word string, value []byte) {
	about, ok := parseID(word)
	if !ok {
		t.ignored++
		return
	}
	var v said
	if value != nil {
		if v, ok = parseBallot(value, name, about); !ok {
			t.ignored++
		}
	}
	s := t.site(name)
	if s == nil {
		return
	}
	before, had := s.votes[about]
	if had && before.instance == s.beat.Instance {
		s.valid--
	}
	if value == nil || !ok {
		delete(s.votes, about)
		t.tidy(name, s)
		if had {
			t.some[about] = before.key
		}
		return
	}
	v.key.Question = unique.Make(v.key.Question).Value() // all sites have the same
	v.instance = unique.Make(v.instance).Value()
	s.votes[about] = v
	if v.instance == s.beat.Instance {
		s.valid++
	}
	if v != before {
		t.some[about] = v.key
	}
}

// site is the site of a name, or nil where there are too many.
func (t *tally) site(name string) *site {
	s := t.sites[name]
	if s == nil {
		if len(t.sites) >= maxSites {
			t.ignored++
			return nil
		}
		s = &site{votes: make(map[id]said)}
		t.sites[name] = s
	}
	return s
}

// tidy forgets a site of which etcd has nothing.
func (t *tally) tidy(name string, s *site) {
	if s.beat.Instance == "" && len(s.votes) == 0 {
		delete(t.sites, name)
	}
}

// follow takes over from the tally before: this one was read from etcd as a whole. Who counted goes on to do so; where
// nobody did, those who are alive get the time to show it. Where etcd was set back to an earlier state, they get the time
// to say anew what they have said since, and until then it is what they said.
func (t *tally) follow(before *tally, now time.Time, setBack bool) {
	t.all, t.ignored = true, before.ignored+t.ignored
	before = before.current(now)
	if setBack {
		t.settled, t.before = now.Add(settling), before
		return
	}
	any := false
	for name, s := range before.sites {
		any = any || before.counted(s, now)
		if is := t.sites[name]; is != nil && is.beat.Instance == s.beat.Instance {
			is.alive, is.counts = s.alive, s.counts
		}
	}
	if t.settled = before.settled; !any && !now.Before(t.settled) {
		t.settled = now.Add(settling)
	}
}

// earlier says whether a site that is the same process has counted further in the tally before: etcd was set back.
func (t *tally) earlier(before *tally) bool {
	for name, s := range before.sites {
		if is := t.sites[name]; is != nil && is.beat.Instance == s.beat.Instance && is.beat.Counter < s.beat.Counter {
			return true
		}
	}
	return false
}

// news is whose votes have changed since the last call: any is true, and the keys are nil where they could be any. Next
// is when time alone will change something; zero: never.
func (t *tally) news(now time.Time) (keys []quorum.Key, any bool, next time.Time) {
	soonest := func(at time.Time) {
		if at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if t.eager && now.Before(t.settled) && t.complete() {
		t.settled = now
	}
	soonest(t.settled)
	if is := t.current(now); is != t {
		_, changed, expires := is.news(now)
		soonest(expires)
		t.all = t.all || changed
	} else if t.before != nil {
		t.before, t.all = nil, true
	}
	for _, s := range t.sites {
		if counts := t.counted(s, now); counts != s.counts {
			s.counts, t.all = counts, true
		}
		if s.counts {
			soonest(s.alive.Add(fresh))
		}
	}
	if !t.all {
		for _, k := range t.some {
			keys = append(keys, k)
		}
	}
	any = t.all || len(keys) > 0
	t.all = false
	clear(t.some)
	return keys, any, next
}

// list has the sites by name.
func (t *tally) list(now time.Time) []Site {
	t = t.current(now)
	list := make([]Site, 0, len(t.sites)+1)
	for name, s := range t.sites {
		list = append(list, Site{Name: name, Fresh: t.counted(s, now), Votes: s.valid, Seen: s.alive})
	}
	slices.SortFunc(list, func(a, b Site) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
