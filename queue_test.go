package failover

import (
	"fmt"
	"testing"
	"time"
)

// posts are so many names that may be in a queue.
func posts(n int) []*posted {
	all := make([]*posted, n)
	for i := range all {
		all[i] = &posted{name: fmt.Sprintf("a%d.", i)}
	}
	return all
}

// next takes a name, which has to be the one wanted, or none.
func next(t *testing.T, q *queue, now time.Time, want *posted) {
	t.Helper()
	got, wait := q.take(now)
	switch {
	case got != want:
		t.Errorf("The next is %+v, want %+v", got, want)
	case got == nil && wait <= 0:
		t.Errorf("To wait %s for the next", wait)
	}
}

func TestQueueOrder(t *testing.T) {
	var q queue
	now := time.Unix(1e9, 0)
	all := posts(4)
	for i, w := range all {
		q.put(w, now.Add(time.Duration(i)*time.Second))
	}
	q.moved(all[3])
	q.moved(all[2])
	q.moved(all[3])
	next(t, &q, now, all[3])
	next(t, &q, now, all[2])
	next(t, &q, now, all[0])
	next(t, &q, now, nil)
	if _, wait := q.take(now); wait != time.Second {
		t.Errorf("To wait %s, want a second", wait)
	}
	q.moved(all[3]) // while it is being seen to: again after that, and never twice at a time
	q.moved(all[3])
	next(t, &q, now, nil)
	q.done(all[3], now, nil, false)
	if !all[3].pending {
		t.Error("What changed meanwhile is not pending")
	}
	next(t, &q, now, all[3])
	q.done(all[3], now, nil, false)
	if all[3].pending {
		t.Error("What is done is pending")
	}
	q.done(all[2], now, nil, false)
	q.done(all[0], now, nil, false)
	next(t, &q, now.Add(time.Second), all[1])
	next(t, &q, now.Add(time.Second), nil)
	if n := len(q.later) + len(q.urgent); n != 3 {
		t.Errorf("%d names wait, want the three that nobody has", n)
	}
}

// While the server fails it is one name at a time that is tried, each time later, up to a minute.
func TestQueueServerFails(t *testing.T) {
	var q queue
	now := time.Unix(1e9, 0)
	all := posts(100)
	for _, w := range all {
		q.put(w, now)
	}
	dead := &trouble{result: "unreachable", whole: true}
	var tried []*posted
	for range workers {
		w, _ := q.take(now)
		tried = append(tried, w)
	}
	for i, w := range tried {
		if _, failed := q.done(w, now, dead, false); failed != (i == 0) || q.failures != 1 {
			t.Errorf("%d failures, want one of those that come at once", q.failures)
		}
	}
	for i := range 12 {
		from := min(time.Second<<i, time.Minute)
		if wait := q.closed.Sub(now); wait < from*3/4 || wait > from*5/4 {
			t.Errorf("After %d failures to wait %s, want about %s", i+1, wait, from)
		}
		next(t, &q, q.closed.Add(-1), nil)
		now = q.closed
		w, _ := q.take(now)
		if w == nil {
			t.Fatalf("Nobody tries after %d failures", i+1)
		}
		next(t, &q, now, nil)
		q.done(w, now, dead, true)
		if !w.pending {
			t.Error("What could not be written is not pending")
		}
	}
	now = q.closed
	w, _ := q.take(now)
	if recovered, _ := q.done(w, now, nil, false); !recovered || q.failures != 0 {
		t.Error("A success does not open what failures have closed")
	}
	for range 99 { // all the others, at once
		if w, _ := q.take(now); w == nil {
			t.Fatal("A name still waits after the server is back")
		}
	}
}

// A name that fails by itself waits by itself.
func TestQueueNameFails(t *testing.T) {
	var q queue
	now := time.Unix(1e9, 0)
	all := posts(2)
	q.put(all[0], now)
	for i := range 12 {
		now = now.Add(time.Hour)
		next(t, &q, now, all[0])
		q.done(all[0], now, &trouble{result: "refused"}, true)
		from := min(time.Second<<i, time.Minute)
		if wait := all[0].due.Sub(now); wait < from*3/4 || wait > from*5/4 {
			t.Errorf("After %d failures to wait %s, want about %s", i+1, wait, from)
		}
		q.moved(all[1])
		next(t, &q, now, all[1])
		q.done(all[1], now, nil, true)
	}
	q.moved(all[0]) // it may be allowed what it is to have now
	next(t, &q, now, all[0])
}
