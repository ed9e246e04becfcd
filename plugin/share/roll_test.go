package share

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/quorum"
)

// store is what etcd has of one site: its beat and its votes.
type store struct {
	revision int64
	beat     string
	votes    map[id]string
	events   []event // that nobody has heard yet
}

type event struct {
	revision int64
	beat     bool
	about    id
	value    string
}

func (s *store) copy() *store {
	c := *s
	c.votes, c.events = maps.Clone(s.votes), nil
	return &c
}

func (s *store) set(about id, value string) {
	if value == "" {
		delete(s.votes, about)
	} else {
		s.votes[about] = value
	}
	s.events = append(s.events, event{s.revision, false, about, value})
}

func (s *store) setBeat(value string) {
	s.beat = value
	s.events = append(s.events, event{s.revision, true, id{}, value})
}

func (s *store) txn(b batch) bool {
	if s.beat != b.before {
		return false
	}
	s.revision++
	if b.sweep {
		for about := range maps.Clone(s.votes) {
			s.set(about, "")
		}
	}
	for about, v := range b.puts {
		s.set(about, v)
	}
	for _, about := range b.drops {
		if s.votes[about] != "" {
			s.set(about, "")
		}
	}
	s.setBeat(b.beat)
	return true
}

// world is a site that writes, etcd, and a site that reads.
type world struct {
	t      testing.TB
	done   string // the steps so far
	now    time.Time
	etcd   *store
	old    *store
	roll   *roll
	reader *tally
	keys   []quorum.Key
	rival  uint64

	wrote    map[string]map[id]string // what goes with a beat
	complete map[string]bool          // and whether that is all
	swept    bool                     // some of it is still to come
	tampered bool
}

func newWorld(t testing.TB, done string) *world {
	t.Helper()
	w := &world{
		t: t, done: done, now: start,
		etcd:   &store{revision: 1, votes: make(map[id]string)},
		roll:   newRoll("i"),
		reader: watching(),
		keys:   []quorum.Key{keyA, keyB, {Question: "icmp", Target: keyA.Target}},
		wrote:  make(map[string]map[id]string), complete: make(map[string]bool),
	}
	w.roll.room = 2 // a beat and one vote
	w.load()
	for _, k := range w.keys {
		w.roll.cast(k, quorum.Vote{Status: health.Up})
	}
	w.step('t')
	w.step('t')
	w.old = w.etcd.copy()
	w.step('t')
	w.step('t')
	return w
}

func (w *world) load() {
	w.etcd.events = nil
	votes := make(map[string]string)
	is := newTally()
	if w.etcd.beat != "" {
		is.beats("fra", []byte(w.etcd.beat), time.Time{})
	}
	for about, v := range w.etcd.votes {
		votes[about.String()] = v
		is.says("fra", about.String(), []byte(v))
	}
	w.roll.loaded(w.etcd.beat, votes, w.etcd.revision, w.now)
	is.follow(w.reader, w.now, false)
	w.reader = is
	w.check()
}

// hear delivers what has happened, a transaction at a time.
func (w *world) hear() {
	events := w.etcd.events
	w.etcd.events = nil
	for i, e := range events {
		switch {
		case e.beat && e.value == "":
			w.reader.gone("fra")
			w.roll.beats("", e.revision, w.now)
		case e.beat:
			w.reader.beats("fra", []byte(e.value), w.now)
			w.roll.beats(e.value, e.revision, w.now)
		default:
			var value []byte
			if e.value != "" {
				value = []byte(e.value)
			}
			w.reader.says("fra", e.about.String(), value)
			w.roll.says(e.about.String(), e.value, e.revision)
		}
		if i == len(events)-1 || events[i+1].revision != e.revision {
			w.check()
		}
	}
}

// check is what always holds: a site that counts says what it said with its latest beat, and all of that.
func (w *world) check() {
	s := w.reader.current(w.now).sites["fra"]
	if w.tampered || s == nil || !w.reader.counted(s, w.now) || s.beat.Instance != "i" {
		return
	}
	b := text(s.beat)
	votes := make(map[id]string)
	for about, v := range s.votes {
		votes[about] = ballotOf(v.key, quorum.Vote{Status: v.vote.Status}, v.instance)
	}
	if !maps.Equal(votes, w.wrote[b]) {
		w.t.Fatalf("%s: with beat %s count %v, want %v", w.done, b, votes, w.wrote[b])
	}
	if !w.complete[b] {
		w.t.Fatalf("%s: with beat %s counts what is not all", w.done, b)
	}
}

// write has a transaction applied, and the answer come.
func (w *world) write(applied, answered bool) {
	if w.roll.due().After(w.now) {
		return
	}
	b := w.roll.next()
	is := maps.Clone(w.wrote[b.before])
	if is == nil || b.sweep {
		is = make(map[id]string)
	}
	maps.Copy(is, b.puts)
	for _, about := range b.drops {
		delete(is, about)
	}
	w.swept = b.sweep || w.swept
	missing := slices.ContainsFunc(slices.Collect(maps.Keys(w.roll.votes)), func(about id) bool { return is[about] == "" })
	w.swept = w.swept && missing
	w.wrote[b.beat], w.complete[b.beat] = is, !w.swept
	ok := applied && w.etcd.txn(b)
	if ok && answered {
		w.roll.done(b, w.etcd.revision, w.now)
	} else {
		w.load()
	}
}

func (w *world) step(s rune) {
	w.done += string(s)
	toggle := func(k quorum.Key) {
		v := quorum.Vote{Status: health.Down}
		if c := w.roll.votes[keyID(k)]; c != nil && c.vote.Status == health.Down {
			v.Status = health.Up
		}
		w.roll.cast(k, v)
	}
	switch s {
	case 'a':
		toggle(keyA)
	case 'b':
		toggle(keyB)
	case 'w':
		w.roll.cast(keyB, quorum.Vote{})
	case 't': // a transaction, and its events
		w.write(true, true)
		w.hear()
	case 'q': // a transaction, whose events come later
		w.write(true, true)
	case 'x': // a transaction whose answer is lost
		w.write(true, false)
	case 'y': // one that is lost
		w.write(false, false)
	case 'h':
		w.hear()
	case 'r': // a snapshot is restored, under those who listen
		w.etcd = w.old.copy()
		is := newTally()
		is.beats("fra", []byte(w.etcd.beat), time.Time{})
		for about, v := range w.etcd.votes {
			is.says("fra", about.String(), []byte(v))
		}
		is.follow(w.reader, w.now, true)
		w.reader = is
	case 'l': // the lease is gone
		w.etcd.revision++
		for about := range maps.Clone(w.etcd.votes) {
			w.etcd.set(about, "")
		}
		w.etcd.setBeat("")
	case 'f': // somebody puts his hand in
		w.tampered = true
		w.etcd.revision++
		w.etcd.set(keyID(keyA), string(voteOf(keyA, health.Down, "i")))
		w.etcd.revision++
		w.etcd.set(keyID(keyB), "")
	case 'k': // another process has our name
		w.rival++
		w.etcd.revision++
		w.etcd.setBeat(string(beatOf("rival", w.rival, 0)))
	case '3':
		w.now = w.now.Add(3 * time.Second)
	}
}

// settle is what comes to pass once all goes well.
func (w *world) settle() {
	w.step('h')
	for range 20 {
		w.step('3')
		w.step('t')
	}
	want := make(map[id]string)
	for about, c := range w.roll.votes {
		want[about] = c.value
	}
	if !maps.Equal(w.etcd.votes, want) || len(w.roll.dirty) > 0 {
		w.t.Fatalf("%s: etcd has %v, want %v", w.done, w.etcd.votes, want)
	}
	s := w.reader.sites["fra"]
	if !w.reader.counted(s, w.now) || s.valid != len(want) {
		w.t.Fatalf("%s: the reader has %d votes (counted: %v), want %d", w.done, s.valid, w.reader.counted(s, w.now), len(want))
	}
	for about, c := range w.roll.votes {
		if got := s.votes[about].vote.Status; got != c.vote.Status {
			w.t.Fatalf("%s: the reader has %s, want %s", w.done, got, c.vote.Status)
		}
	}
	if w.roll.stored == nil || len(w.roll.stored) != len(want) {
		w.t.Fatalf("%s: %d votes are taken to be in etcd, want %d", w.done, len(w.roll.stored), len(want))
	}
}

const steps = "abwtqxyhrlfk3"

// All that can happen to a site, in every order.
func TestRollComesThrough(t *testing.T) {
	const depth = 3
	count := 1
	for range depth {
		count *= len(steps)
	}
	for n := range count {
		w := newWorld(t, "")
		for range depth {
			w.step(rune(steps[n%len(steps)]))
			n /= len(steps)
		}
		w.settle()
	}
}

// And for longer.
func TestRollComesThroughMore(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 1000 {
		w := newWorld(t, fmt.Sprintf("seed %d: ", seed))
		for range 30 {
			w.step(rune(steps[r.IntN(len(steps))]))
		}
		w.settle()
	}
}

// A vote that is withdrawn while all is being written is not taken for one that is still missing.
func TestRollWithdrawsWhileItWritesAnew(t *testing.T) {
	for range 50 { // what goes into a transaction is a matter of chance
		r := newRoll("i")
		r.room = 2
		keys := []quorum.Key{keyA, keyB, {Question: "icmp", Target: keyA.Target}}
		for _, k := range keys {
			r.cast(k, quorum.Vote{Status: health.Up})
		}
		r.loaded("", nil, 1, at(0))
		for n := 0; !r.held || len(r.dirty) > 0; n++ {
			b := r.next()
			r.done(b, int64(n+2), at(0))
			missing := 0
			for about := range r.votes {
				if _, ok := r.stored[about]; !ok {
					missing++
				}
			}
			if is, _ := parseBeat([]byte(b.beat)); (is.Votes <= len(r.stored)) != (missing == 0) {
				t.Fatalf("transaction %d: a beat for %d votes of %d, with %d still missing", n, is.Votes, len(r.stored), missing)
			}
			if n == 1 {
				for _, k := range keys {
					if _, ok := r.stored[keyID(k)]; ok {
						r.withdraw(keyID(k))
					}
				}
			}
		}
	}
}

func TestRollYields(t *testing.T) {
	was := string(beatOf("other", 1, 0))
	r := newRoll("i")
	r.loaded(was, nil, 10, at(0))
	if got := r.due(); !got.Equal(at(10)) || r.alive {
		t.Fatalf("a beat of another process: due in %s, alive %v; want 10s, and nothing known", got.Sub(start), r.alive)
	}
	r.loaded(was, nil, 10, at(5))
	if got := r.due(); !got.Equal(at(10)) {
		t.Errorf("the same, read again: due in %s, want 10s", got.Sub(start))
	}
	next := string(beatOf("other", 2, 0))
	r.beats(next, 11, at(6))
	if got := r.due(); !got.Equal(at(16)) || !r.alive {
		t.Errorf("it beats: due in %s, alive %v; want 16s, true", got.Sub(start), r.alive)
	}
	if b := r.next(); b.before != next || !b.sweep {
		t.Errorf("it is dead: got %+v, want all of it swept away", b)
	}
	r.beats("", 12, at(7))
	if got := r.due(); got.After(at(7)) || r.alive {
		t.Errorf("it is gone: due in %s, alive %v; want at once, false", got.Sub(start), r.alive)
	}
}

// What was set back has lower revisions than what we have written.
func TestRollYieldsAfterARestore(t *testing.T) {
	r := newRoll("i")
	r.loaded("", nil, 1000, at(0))
	r.done(r.next(), 1001, at(0))
	r.loaded(string(beatOf("other", 1, 0)), nil, 10, at(1))
	r.beats(string(beatOf("other", 2, 0)), 11, at(2))
	if got := r.due(); !got.Equal(at(12)) || !r.alive {
		t.Errorf("due in %s, alive %v; want 12s, true", got.Sub(start), r.alive)
	}
}

func TestRollSeesAnEarlierState(t *testing.T) {
	r := newRoll("i")
	load := func(beat string) bool { return r.loaded(beat, nil, 1, at(0)) }
	if load("") || load(string(beatOf("other", 7, 0))) || load("") {
		t.Error("what is of somebody else is an earlier state of ours")
	}
	r.done(r.next(), 2, at(0))
	first := r.last
	lost := r.next()
	if load(first) {
		t.Error("the latest is an earlier state")
	}
	r.done(r.next(), 3, at(1))
	if !load(first) || !load(lost.beat) {
		t.Error("an earlier state is not seen")
	}
}

// What was written is not written again because the answer was lost.
func TestRollKnowsItsOwn(t *testing.T) {
	r := newRoll("i")
	r.loaded("", nil, 1, at(0))
	r.done(r.next(), 2, at(0))
	r.cast(keyA, quorum.Vote{Status: health.Up})
	b := r.next()
	r.loaded(b.beat, map[string]string{keyID(keyA).String(): b.puts[keyID(keyA)]}, 3, at(1))
	if got := r.due(); !r.held || !got.Equal(at(3)) {
		t.Errorf("held %v, due in %s; want true, 3s", r.held, got.Sub(start))
	}
}

func TestRollWritesWhatHasChanged(t *testing.T) {
	r := newRoll("i")
	r.loaded("", nil, 1, at(0))
	down := quorum.Vote{Status: health.Down, Why: "3 failures: timeout"}
	if !r.cast(keyA, down) || r.cast(keyA, down) {
		t.Error("a vote is not new once")
	}
	if r.cast(keyA, quorum.Vote{Status: health.Down, Why: "4 failures: refused"}) {
		t.Error("other words are a new vote")
	}
	if !r.cast(keyA, quorum.Vote{Status: health.Up}) || !r.cast(keyA, quorum.Vote{}) || r.cast(keyA, quorum.Vote{}) {
		t.Error("a vote that changes, and one that is withdrawn, are not new once")
	}
	for i := range 3 * ops {
		r.cast(quorum.Key{Question: fmt.Sprint(i), Target: keyA.Target}, down)
	}
	var sizes []int
	for r.due().IsZero() {
		b := r.next()
		sizes = append(sizes, len(b.puts)+len(b.drops))
		r.done(b, int64(len(sizes)), at(0))
	}
	if want := []int{0, 99, 99, 99, 3}; !slices.Equal(sizes, want) {
		t.Errorf("batches of %v, want %v", sizes, want)
	}
	if got := r.due(); !got.Equal(at(2)) {
		t.Errorf("next beat after %s, want 2s", got.Sub(start))
	}
}

func TestRollKeepsWithinBounds(t *testing.T) {
	r := newRoll("i")
	if r.cast(quorum.Key{Question: strings.Repeat("x", maxValue), Target: keyA.Target}, quorum.Vote{Status: health.Up}) || r.ignored != 1 {
		t.Error("a question that is too long is shared, or not counted")
	}
	r.cast(keyA, quorum.Vote{Status: health.Down, Why: strings.Repeat("ü", maxValue)})
	v, ok := parseBallot([]byte(r.votes[keyID(keyA)].value), "fra", keyID(keyA))
	if !ok || len(v.vote.Why) < maxWhy-8 {
		t.Errorf("a long reason: read %v, %d bytes", ok, len(v.vote.Why))
	}
}

// A target is kept out as long as anybody here keeps it out, and only while it is up.
func TestRollKeeps(t *testing.T) {
	r := newRoll("i")
	up, down := quorum.Vote{Status: health.Up}, quorum.Vote{Status: health.Down}
	for i, step := range []struct {
		do   func() bool
		news bool
		kept bool
	}{
		{func() bool { return r.keep(keyA, "www", true) }, false, false}, // there is no vote yet
		{func() bool { return r.cast(keyA, up) }, true, true},
		{func() bool { return r.keep(keyA, "db", true) }, false, true},
		{func() bool { return r.keep(keyA, "www", false) }, false, true},
		{func() bool { return r.cast(keyA, down) }, true, false},
		{func() bool { return r.cast(keyA, up) }, true, true},
		{func() bool { return r.keep(keyA, "db", false) }, true, false},
		{func() bool { return r.keep(keyA, "db", false) }, false, false},
		{func() bool { return r.keep(keyB, "db", true) }, false, false}, // another
	} {
		if got := step.do(); got != step.news {
			t.Errorf("step %d: there is news: %t, want %t", i, got, step.news)
		}
		c := r.votes[keyID(keyA)]
		if got := c != nil && strings.Contains(c.value, `"kept":true`); got != step.kept {
			t.Errorf("step %d: kept %t, want %t", i, got, step.kept)
		}
	}
}

// A kept vote says when its target came back. A vote of an earlier version does not.
func TestBallotReturned(t *testing.T) {
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for _, tc := range []struct {
		vote quorum.Vote
		want time.Time
	}{
		{quorum.Vote{Status: health.Up, Kept: true, Returned: at}, at},
		{quorum.Vote{Status: health.Up, Kept: true}, time.Time{}},
		{quorum.Vote{Status: health.Up, Returned: at}, time.Time{}}, // it is not kept
	} {
		value := ballotOf(keyA, tc.vote, "one")
		if got, ok := parseBallot([]byte(value), "fra", keyID(keyA)); !ok || !got.vote.Returned.Equal(tc.want) || got.vote.Kept != tc.vote.Kept {
			t.Errorf("%s is read as %+v, %t; want that it returned at %s", value, got.vote, ok, tc.want)
		}
		if has := strings.Contains(value, "returned"); has == tc.want.IsZero() {
			t.Errorf("The value %s has a time: %t", value, has)
		}
	}
}
