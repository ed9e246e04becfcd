package share

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/quorum"
)

// The model is a reader and one or two other sites, in any state they can be in, of which nothing changes any more. What
// the reader has come to after the bound must depend on nothing but who is alive, in touch, and sees what: then all
// readers that are in touch come to the same, whatever each of them has been through.
//
// The tally and the count are the real ones. Time goes in pulses, by the reader's clock; there is no other.

// kept is what etcd has of a site, or a reader has seen of it.
type kept int

const (
	keptNone     kept = iota
	keptUp            // a beat, and that vote
	keptDown          //
	keptBefore        // the same of the process that was there before this one
	keptPartly        // a beat for a vote that is not there
	keptVariants      // how many there are
)

// life is what has become of a site.
type life int

const (
	lifeAway life = iota // it is dead, or cannot reach etcd
	lifeUnknown
	lifeUp
	lifeDown
	lifeVariants
)

// never is the age, in pulses, of a beat that has not changed before the reader's eyes.
const never = -1

// other is a site in the model.
type other struct {
	seen   kept
	age    int
	stored kept
	life   life
}

// scene is a state of the model.
type scene struct {
	others  []other
	settled int  // pulses until anybody counts
	setBack bool // what etcd has is of before what the reader has seen
	linked  bool // the reader is
}

func (l life) vote(name string) (v quorum.Vote, ok bool) {
	v.Voter, v.Status = name, map[life]health.Status{lifeUp: health.Up, lifeDown: health.Down}[l]
	return v, v.Status != health.Unknown
}

// modelBound is when all has come to rest: votes that are stale have gone, those that are new have settled.
const modelBound = fresh + pulse

var modelNames = []string{"iad", "nrt"}

// values are made once.
type values struct {
	beats map[string][]byte
	votes map[string][]byte
}

func (v *values) beat(instance string, counter, votes int) []byte {
	at := fmt.Sprint(instance, counter, votes)
	if v.beats[at] == nil {
		v.beats[at] = beatOf(instance, uint64(counter), votes) // #nosec G115 -- small
	}
	return v.beats[at]
}

func (v *values) vote(s health.Status, instance string) []byte {
	at := instance + s.String()
	if v.votes[at] == nil {
		v.votes[at] = voteOf(keyA, s, instance)
	}
	return v.votes[at]
}

// fill has a tally know something of a site.
func (v *values) fill(t *tally, name string, k kept, counter int, alive time.Time) {
	switch k {
	case keptNone:
		return
	case keptPartly:
		t.beats(name, v.beat("now", counter, 1), alive)
		return
	}
	status, instance := health.Up, "now"
	if k == keptDown {
		status = health.Down
	}
	if k == keptBefore {
		instance = "before"
	}
	t.beats(name, v.beat(instance, counter, 1), alive)
	t.says(name, modelID, v.vote(status, instance))
}

var modelID = keyID(keyA).String()

// run has a reader live through a scene, and returns what it has come to at the bound, and a while later; and a site that
// has counted on its way for longer after its last beat than it is fresh, "" if none has.
func (v *values) run(w *scene, start time.Time) (atBound, later []quorum.Vote, revived string) {
	const seenCounter = 50
	t := newTally()
	for i, o := range w.others {
		alive := time.Time{}
		if o.age != never {
			alive = start.Add(-time.Duration(o.age) * pulse)
		}
		v.fill(t, modelNames[i], o.seen, seenCounter, alive)
	}
	t.settled = start.Add(time.Duration(w.settled) * pulse)
	t.news(start)
	if w.linked {
		read, counter := newTally(), seenCounter
		if w.setBack {
			counter -= 10
		}
		for i, o := range w.others {
			v.fill(read, modelNames[i], o.stored, counter, time.Time{})
		}
		read.follow(t, start, read.earlier(t))
		t = read
	}
	for n := 1; ; n++ {
		now := start.Add(time.Duration(n) * pulse)
		for i, o := range w.others {
			if !w.linked || o.life == lifeAway {
				continue
			}
			said, votes := []byte(nil), 0
			if vote, ok := o.life.vote(modelNames[i]); ok {
				said, votes = v.vote(vote.Status, "now"), 1
			}
			t.beats(modelNames[i], v.beat("now", 100+n, votes), now)
			if n == 1 {
				t.says(modelNames[i], modelID, said)
			}
		}
		t.news(now)
		for _, vote := range t.votes(keyA, now) {
			o := w.others[slices.Index(modelNames, vote.Voter)]
			if away := o.life == lifeAway || !w.linked; away && (o.age == never || time.Duration(o.age+n)*pulse >= fresh) {
				revived = vote.Voter
			}
		}
		switch since := time.Duration(n) * pulse; since {
		case modelBound:
			atBound = t.votes(keyA, now)
		case modelBound + 2*pulse:
			return atBound, t.votes(keyA, now), revived
		}
	}
}

// come is what a reader answers by its own status and the votes of others, as agreement does it.
func come(r quorum.Rule, own health.Status, others []quorum.Vote) health.Status {
	if len(others) == 0 || r == quorum.Own {
		return own
	}
	if own != health.Unknown {
		others = append(slices.Clip(others), quorum.Vote{Voter: "fra", Status: own})
	}
	return r.Decide(others).Status
}

func TestModel(t *testing.T) {
	v := &values{beats: make(map[string][]byte), votes: make(map[string][]byte)}
	var rules []quorum.Rule
	for _, word := range []string{"majority", "any", "all", "1", "2", "own"} {
		r, err := quorum.Parse(word)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	type question struct { // there are few
		rule   quorum.Rule
		own    health.Status
		others [2]health.Status
	}
	answers := make(map[question]health.Status)
	ask := func(r quorum.Rule, own health.Status, others []quorum.Vote) health.Status {
		q := question{rule: r, own: own}
		for _, v := range others {
			q.others[slices.Index(modelNames, v.Voter)] = v.Status
		}
		if _, ok := answers[q]; !ok {
			answers[q] = come(r, own, others)
		}
		return answers[q]
	}
	states := 0
	check := func(w *scene) {
		states++
		// Nobody's clock matters but the reader's, and of that only how fast it goes.
		clock := start.Add(time.Duration(states%3-1) * time.Hour)
		atBound, later, revived := v.run(w, clock)
		if revived != "" {
			t.Fatalf("%+v: %s counts, and is dead", *w, revived)
		}

		var want []quorum.Vote // those of who is alive and in touch, and of nobody else
		for i, o := range w.others {
			if vote, ok := o.life.vote(modelNames[i]); ok && w.linked {
				want = append(want, vote)
			}
		}
		for _, r := range rules {
			for _, own := range []health.Status{health.Unknown, health.Up, health.Down} {
				answer, wanted := ask(r, own, atBound), ask(r, own, want)
				if answer != wanted || ask(r, own, later) != wanted {
					t.Fatalf("%+v, rule %s, own %s: %s, and later %s; want %s", *w, r, own, answer, ask(r, own, later), wanted)
				}
				same := own != health.Unknown // all who are alive and in touch see the same
				for _, o := range want {
					same = same && o.Status == own
				}
				if same && answer != own {
					t.Fatalf("%+v, rule %s: all have it %s, and it is %s", *w, r, own, answer)
				}
				if !w.linked && answer != own {
					t.Fatalf("%+v, rule %s: on its own with %s, and it is %s", *w, r, own, answer)
				}
			}
		}
	}
	for n, ages := range [][]int{1: {never, 0, 1, 2, 3, 4, 5}, 2: {never, 0, 4}} {
		if n == 0 {
			continue
		}
		var all []other
		for seen := range keptVariants {
			for _, age := range ages {
				for stored := range keptVariants {
					// A tally does not look at the status: with two others, one of what was seen and another of what is
					// stored is enough to tell them apart.
					if seen == keptNone && age != never || n == 2 && (seen == keptDown || stored == keptUp) {
						continue
					}
					for l := range lifeVariants {
						all = append(all, other{seen, age, stored, l})
					}
				}
			}
		}
		before := states
		for i := range all {
			for j := range all {
				if n == 1 && j > 0 || j > i && n == 2 {
					break // the two others are each other's like
				}
				some := []other{all[i], all[j]}[:n]
				for _, settled := range []int{0, 1, 2}[:4-n] {
					check(&scene{some, settled, false, true})
					if slices.ContainsFunc(some, func(o other) bool { return o.seen != keptNone && o.stored != keptNone }) {
						check(&scene{some, settled, true, true})
					}
					if !slices.ContainsFunc(some, func(o other) bool { return o.stored != keptNone || o.life != lifeAway }) {
						check(&scene{some, settled, false, false}) // to one that is cut off these are nothing
					}
				}
			}
		}
		t.Logf("%d voters: %d states, each by %d rules and 3 statuses of one's own", n+1, states-before, len(rules))
	}
}

// Two readers whose clocks are an hour apart come to the same at the same time: no reader compares its clock with a time in
// etcd. The time of a return is compared with other such times only.
func TestClocksApart(t *testing.T) {
	for _, value := range []any{beat{}, ballot{}} {
		for f := range reflect.TypeOf(value).Fields() {
			if f.Type == reflect.TypeFor[time.Time]() && f.Name != "Returned" {
				t.Errorf("%T has a time, %s", value, f.Name)
			}
		}
	}
	ahead := start.Add(time.Hour)
	a, b := watching(), newTally()
	b.follow(newTally(), ahead.Add(-10*time.Second), false)
	for n := range 40 { // half seconds
		after := time.Duration(n) * pulse / 4
		if n%4 == 0 && n < 12 { // three beats, and no more
			for tally, now := range map[*tally]time.Time{a: start.Add(after), b: ahead.Add(after)} {
				tally.says("iad", modelID, voteOf(keyA, health.Down, "i"))
				tally.beats("iad", beatOf("i", uint64(n)+1, 1), now) // #nosec G115 -- small
			}
		}
		want := "iad:down"
		if after >= 2*pulse+fresh {
			want = ""
		}
		if got, other := a.words(keyA, start.Add(after)), b.words(keyA, ahead.Add(after)); got != want || other != want {
			t.Errorf("after %s: %q and, an hour ahead, %q; want %q", after, got, other, want)
		}
	}
}
