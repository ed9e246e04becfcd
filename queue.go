package failover

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// queue is the order in which the names of one zone are seen to. A name is in it once, whatever happens meanwhile,
// and what is written is what its pool answers when its turn comes. It has no clock.
type queue struct {
	urgent []*posted // their pools answer something else
	later  []*posted // to be compared, or tried again, sorted by due
	busy   int       // how many are being seen to

	failures int       // of the server, in a row
	works    int       // how many names have worked
	closed   time.Time // until then the server is left alone
}

// compareEvery is how often a name is compared with what it should be: rarely enough for ten thousand names, often
// enough that a change by hand does not last.
const compareEvery = 2 * time.Minute

// forever is how long to wait where only a change ends the wait.
const forever = 24 * time.Hour

// jittered spreads what would come at the same time, also from several processes.
func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + rand.Float64()/2)) // #nosec G404 -- no secret
}

// backoff is how long to wait after so many failures in a row.
func backoff(failures int) time.Duration {
	return jittered(min(time.Second<<min(failures-1, 10), time.Minute))
}

// take gives the name that is next, or how long to wait for one. While the server fails, one name at a time finds out
// whether it still does: one that has not failed yet, for that of the first may be its own.
func (q *queue) take(now time.Time) (*posted, time.Duration) {
	if q.failures > 0 && q.busy > 0 {
		return nil, forever
	}
	if wait := q.closed.Sub(now); wait > 0 {
		return nil, wait
	}
	var w *posted
	other := func(w *posted) bool { return w.failures == 0 }
	switch {
	case q.failures > 0 && slices.ContainsFunc(q.urgent, other):
		i := slices.IndexFunc(q.urgent, other)
		w = q.urgent[i]
		q.urgent = slices.Delete(q.urgent, i, i+1)
		w.urgent = false
	case q.failures > 0 && slices.ContainsFunc(q.later, other):
		w = q.later[slices.IndexFunc(q.later, other)]
		q.drop(w)
	case len(q.urgent) > 0:
		w, q.urgent = q.urgent[0], q.urgent[1:]
		w.urgent = false
	case len(q.later) > 0:
		if wait := q.later[0].due.Sub(now); wait > 0 {
			return nil, wait
		}
		w = q.later[0]
		q.drop(w)
	default:
		return nil, forever
	}
	q.busy++
	w.busy, w.moved = true, false
	return w, 0
}

// moved notes that what a name has is to be written.
func (q *queue) moved(w *posted) {
	w.moved, w.pending = true, true
	if w.busy || w.urgent {
		return
	}
	q.drop(w)
	w.urgent = true
	q.urgent = append(q.urgent, w)
}

// done notes that a name has been seen to, and what has become of it. It says whether the server works again, or
// has failed just now. What fails for a name twice in a row, while others work in between, is its own trouble.
func (q *queue) done(w *posted, now time.Time, t *trouble, writing bool) (recovered, failed bool) {
	q.busy--
	w.busy = false
	w.pending = w.moved || t != nil && (w.pending || writing)
	if t == nil {
		w.failures, w.alone = 0, false
		q.works++
	} else {
		w.alone = w.alone || t.whole && w.failures > 0 && w.others != q.works
		w.failures++
		w.others = q.works
	}
	if w.whole = t != nil && t.whole && !w.alone; w.whole {
		if !now.Before(q.closed) { // else it is one of several that began before
			q.failures++
			q.closed, failed = now.Add(backoff(q.failures)), true
		}
	} else if t == nil || !t.whole {
		recovered = q.failures > 0
		q.recover(now)
	}
	due := now.Add(jittered(compareEvery))
	if w.failures > 0 {
		due = now.Add(backoff(w.failures))
	}
	if w.moved {
		w.urgent = true
		q.urgent = append(q.urgent, w)
	} else {
		q.put(w, due)
	}
	return recovered, failed
}

// recover opens what failures of the server have closed, and has those names tried at once that wait for nothing
// else. One that has failed more often than that is to blame itself.
func (q *queue) recover(now time.Time) {
	if q.failures == 0 {
		return
	}
	for _, w := range slices.Clone(q.later) {
		if w.whole && w.failures <= q.failures {
			q.drop(w)
			if w.pending {
				w.urgent = true
				q.urgent = append(q.urgent, w)
			} else {
				q.put(w, now)
			}
		}
	}
	q.failures, q.closed = 0, time.Time{}
}

// put has a name wait until it is due.
func (q *queue) put(w *posted, due time.Time) {
	w.due, w.waits = due, true
	i, _ := slices.BinarySearchFunc(q.later, w, byDue)
	q.later = slices.Insert(q.later, i, w)
}

// drop takes a name out of those that wait.
func (q *queue) drop(w *posted) {
	if !w.waits {
		return
	}
	i, _ := slices.BinarySearchFunc(q.later, w, byDue)
	q.later = slices.Delete(q.later, i, i+1)
	w.waits = false
}

func byDue(a, b *posted) int {
	if c := a.due.Compare(b.due); c != 0 {
		return c
	}
	return strings.Compare(a.name, b.name)
}
