package share

import (
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/quorum"
)

const (
	// pulse is the time between two beats.
	pulse = 2 * time.Second

	// ops bounds a transaction: etcd takes 128 operations, unless told otherwise.
	ops = 100
)

// roll is what our own site says, what etcd has of that, and what is to be written. Like a tally it has no clock and no
// socket.
//
// Every write has the condition that the beat in etcd is the one we wrote last. So there are never two who write as one
// site; and whatever else has become of our keys (a snapshot has been restored, the lease was lost, somebody has put his
// hand in), it is seen before there is a beat for what is not there. Then all is written anew.
type roll struct {
	instance string
	room     int // operations that a transaction takes
	counter  uint64
	votes    map[id]*cast
	stored   map[id]int64            // the votes that etcd has of us, with the revision
	dirty    map[id]struct{}         // the votes in which these differ
	keepers  map[id]map[any]struct{} // who keeps a target out
	ignored  uint64

	held    bool      // the site is ours: last is in etcd
	anew    bool      // all is being written
	last    string    // the beat that was written last; as etcd has it while held
	flying  string    // the beat that is being written, or of which we do not know whether it was
	written int64     // its revision, or that at which all was read
	beaten  time.Time // when it was written

	found string    // the beat in etcd while it is not ours; "": none
	since time.Time // when we have come to see it
	alive bool      // it is of another process, and has changed before our eyes
}

// cast is a vote of ours.
type cast struct {
	vote  quorum.Vote
	value string
}

func newRoll(instance string) *roll {
	return &roll{
		instance: instance,
		room:     ops,
		votes:    make(map[id]*cast),
		stored:   make(map[id]int64),
		dirty:    make(map[id]struct{}),
		keepers:  make(map[id]map[any]struct{}),
	}
}

// cast takes a vote, and says whether there is something to write. Other words for the same are nothing: a target that
// is down fails now in one way, now in another.
func (r *roll) cast(k quorum.Key, v quorum.Vote) bool {
	about := keyID(k)
	before := r.votes[about]
	v.Kept = v.Status == health.Up && len(r.keepers[about]) > 0
	switch {
	case v.Status == health.Unknown:
		return r.withdraw(about)
	case before != nil && before.vote.Status == v.Status && before.vote.Kept == v.Kept && (!v.Kept || before.vote.Returned.Equal(v.Returned)):
		return false
	}
	value := ballotOf(k, v, r.instance)
	if len(value) > maxValue {
		r.ignored++
		return r.withdraw(about)
	}
	r.votes[about] = &cast{v, value}
	r.dirty[about] = struct{}{}
	return true
}

// keep takes whether somebody keeps a target out, and says whether there is something to write.
func (r *roll) keep(k quorum.Key, by any, kept bool) bool {
	if !kept && len(r.keepers) == 0 {
		return false
	}
	about := keyID(k)
	all := r.keepers[about]
	switch {
	case kept && all == nil:
		r.keepers[about] = map[any]struct{}{by: {}}
	case kept:
		all[by] = struct{}{}
	default:
		if delete(all, by); len(all) == 0 {
			delete(r.keepers, about)
		}
	}
	c := r.votes[about]
	return c != nil && r.cast(k, c.vote)
}

func (r *roll) withdraw(about id) bool {
	if r.votes[about] == nil {
		return false
	}
	delete(r.votes, about)
	r.dirty[about] = struct{}{}
	return true
}

// batch is one transaction.
type batch struct {
	before string // the beat that has to be in etcd; "": none
	beat   string
	sweep  bool // deletes all votes of the site, in place of the below
	puts   map[id]string
	drops  []id
}

// due is when there is something to write if nothing else happens: a beat, or the site is free.
func (r *roll) due() time.Time {
	switch {
	case r.held && len(r.dirty) > 0:
		return time.Time{}
	case r.held:
		return r.beaten.Add(pulse)
	case r.foreign():
		return r.since.Add(fresh)
	}
	return time.Time{}
}

// foreign says whether the site is held by another process, or has been.
func (r *roll) foreign() bool {
	b, ok := parseBeat([]byte(r.found))
	return r.found != "" && (!ok || b.Instance != r.instance)
}

// next is the next transaction. It is written before there is another: then done is called, or loaded, which finds out
// what has become of it.
func (r *roll) next() batch {
	b := batch{before: r.last, puts: make(map[id]string)}
	votes := len(r.stored)
	if r.held {
		for about := range r.dirty {
			if len(b.puts)+len(b.drops) == r.room-1 {
				break
			}
			delete(r.dirty, about)
			_, had := r.stored[about]
			switch c := r.votes[about]; {
			case c != nil:
				b.puts[about] = c.value
				if !had {
					votes++
				}
			case had:
				b.drops = append(b.drops, about)
				votes--
			}
		}
	} else {
		b.before, b.sweep, r.anew, votes = r.found, true, true, 0
	}
	if r.anew { // the site does not count until those are there that are still missing, beside what is to be dropped
		for about := range r.votes {
			_, had := r.stored[about]
			if _, put := b.puts[about]; b.sweep || !had && !put {
				votes++
			}
		}
	}
	r.counter++
	b.beat = text(beat{format, r.instance, r.counter, votes})
	r.flying = b.beat
	return b
}

// done takes that a transaction was written.
func (r *roll) done(b batch, revision int64, now time.Time) {
	r.held, r.last, r.flying, r.written, r.beaten = true, b.beat, "", revision, now
	r.found, r.alive = "", false
	for about := range b.puts {
		r.stored[about] = revision
	}
	for _, about := range b.drops {
		delete(r.stored, about)
	}
	if b.sweep {
		clear(r.stored)
		clear(r.dirty)
		for about := range r.votes {
			r.dirty[about] = struct{}{}
		}
	}
	r.anew = r.anew && len(r.dirty) > 0
}

// lost takes that the lease is gone, and our keys with it.
func (r *roll) lost() {
	if r.held {
		r.held, r.found, r.flying = false, r.last, ""
	}
}

// loaded takes what etcd has of our site as a whole, and says whether that is an earlier state.
func (r *roll) loaded(beat string, votes map[string]string, revision int64, now time.Time) (earlier bool) {
	if r.flying != "" && beat == r.flying {
		r.held, r.last, r.beaten = true, beat, now
	}
	r.flying, r.written = "", revision
	if !r.held || beat != r.last {
		r.beat(beat, now)
		return beat != "" && beat != r.last && !r.foreign()
	}
	clear(r.stored)
	clear(r.dirty)
	for word, value := range votes {
		about, ok := parseID(word)
		if !ok {
			r.ignored++
			continue
		}
		r.stored[about] = revision
		if c := r.votes[about]; c == nil || c.value != value {
			r.dirty[about] = struct{}{}
		}
	}
	for about := range r.votes {
		if _, ok := r.stored[about]; !ok {
			r.dirty[about] = struct{}{}
		}
	}
	return false
}

// beat takes the beat that etcd has for our site, and that is not the last one of ours; "": none.
func (r *roll) beat(value string, now time.Time) {
	r.held = false
	if value == r.found && !r.since.IsZero() {
		return
	}
	was := r.foreign()
	r.found, r.since = value, now
	r.alive = was && r.foreign()
}

// beats takes the beat of our site as it has just changed; "": it is gone.
func (r *roll) beats(value string, revision int64, now time.Time) {
	if value != "" && (value == r.flying || value == r.last) || revision <= r.written {
		return // ours
	}
	r.beat(value, now)
}

// says takes a vote of our site as it has just changed; "": it is gone. What is not as we said is written again.
func (r *roll) says(word, value string, revision int64) (again bool) {
	about, ok := parseID(word)
	if !ok {
		r.ignored++
		return false
	}
	c := r.votes[about]
	switch {
	case !r.held, revision <= r.stored[about], // from before
		c == nil && value == "", c != nil && c.value == value:
		return false
	}
	if value == "" {
		delete(r.stored, about)
	} else if _, had := r.stored[about]; !had {
		r.stored[about] = revision
	}
	r.dirty[about] = struct{}{}
	return true
}
