package api

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// kept is a journal with so many events of a pool, by the number of each as its reason.
func kept(n int) *Journal {
	j := new(Journal)
	j.Keep(true)
	more(j, n)
	return j
}

func more(j *Journal, n int) {
	for i := range n {
		j.Add(Event{Kind: "answer", Pool: "a.example.org.", Why: fmt.Sprint(i)})
	}
}

func TestJournalNumber(t *testing.T) {
	j := kept(maxEvents + 5)
	all := slices.Collect(j.Events(""))
	if len(all) != maxEvents || all[0].Why != "5" || all[len(all)-1].Why != fmt.Sprint(maxEvents+4) {
		t.Errorf("%d events from %s, want %d from 5", len(all), all[0].Why, maxEvents)
	}
	for i, e := range all {
		if _, number, _ := strings.Cut(e.ID, "-"); number != e.Why {
			t.Fatalf("event %d has the ID %s, want the number %s", i, e.ID, e.Why)
		}
	}
	if cap(j.events) > 2*maxEvents {
		t.Errorf("there is room for %d events, want %d at most", cap(j.events), 2*maxEvents)
	}
}

func TestJournalAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := kept(3)
		time.Sleep(maxAge / 2)
		more(j, 1)
		time.Sleep(maxAge/2 + time.Second)
		if n := len(slices.Collect(j.Events(""))); n != 1 {
			t.Errorf("%d events are told of after a day, want 1", n)
		}
		more(j, 1)
		if len(j.events) != 2 {
			t.Errorf("%d events are kept after a day, want 2", len(j.events))
		}
	})
}

func TestJournalPool(t *testing.T) {
	j := kept(1)
	j.Add(Event{Kind: "answer", Pool: "b.example.org."})
	j.Add(Event{Kind: "override", Member: "192.0.2.1"}) // in any pool
	for pool, want := range map[string]int{"": 3, "a.example.org.": 2, "b.example.org.": 2, "c.example.org.": 1} {
		if n := len(slices.Collect(j.Events(pool))); n != want {
			t.Errorf("%d events concern %q, want %d", n, pool, want)
		}
	}
}

// TestJournalKeep has events dropped when nobody may look any more, and others begin a new count.
func TestJournalKeep(t *testing.T) {
	j := new(Journal)
	if more(j, 1); j.Keeps() || len(slices.Collect(j.Events(""))) != 0 {
		t.Error("a journal keeps events that has not been told to")
	}
	j.Touch("a")
	j.Keep(true)
	more(j, 2)
	before := j.process
	j.Keep(true)
	if !j.Keeps() || before == "" || j.process != before || len(j.events) != 2 {
		t.Errorf("%d events of %q, want 2 of %q", len(j.events), j.process, before)
	}
	r, _ := j.follow("", false)
	j.Keep(false)
	if j.Keeps() || len(slices.Collect(j.Events(""))) != 0 || j.events != nil {
		t.Error("events are kept that are to be dropped")
	}
	j.Keep(true)
	more(j, 1)
	if j.process == before {
		t.Errorf("the process is %q again", before)
	}
	if n := j.news(r, true); !n.lost || len(n.events) != 1 {
		t.Errorf("%+v, want what is new, and that something is lost", n)
	}
	if n := j.news(r, true); n.lost || len(n.events) != 0 {
		t.Errorf("%+v, want nothing", n)
	}
}

func TestJournalFollow(t *testing.T) {
	j := kept(maxEvents + 5)
	id := func(number any) string { return fmt.Sprint(j.process, "-", number) }
	for _, test := range []struct {
		last string
		ok   bool
		want int // how many come
	}{
		{"", true, 0},
		{id(maxEvents + 4), true, 0},
		{id(maxEvents + 3), true, 1},
		{id(5), true, maxEvents - 1},
		{id(4), true, maxEvents}, // it is gone, and nothing after it
		{id(3), false, 0},
		{id(0), false, 0},
		{id(maxEvents + 5), false, 0}, // it is to come
		{id(-1), false, 0},
		{id("x"), false, 0},
		{id(""), false, 0},
		{id("99999999999999999999"), false, 0},
		{"another-7", false, 0},
		{"-7", false, 0},
		{"7", false, 0},
		{"<script>", false, 0},
	} {
		r, ok := j.follow(test.last, false)
		n := j.news(r, true)
		if ok != test.ok || len(n.events) != test.want || n.lost {
			t.Errorf("after %q: ok %t with %d events, want %t with %d", test.last, ok, len(n.events), test.ok, test.want)
		}
		if len(n.events) > 0 && n.events[len(n.events)-1].ID != id(maxEvents+4) {
			t.Errorf("after %q: the last is %s", test.last, n.events[len(n.events)-1].ID)
		}
		j.leave(r)
	}
	if len(j.readers) != 0 {
		t.Errorf("%d readers are left", len(j.readers))
	}
}

// TestJournalSlow has a reader who misses more than is kept.
func TestJournalSlow(t *testing.T) {
	j := kept(0)
	r, _ := j.follow("", true)
	more(j, maxEvents+1)
	if n := j.news(r, false); !n.lost || len(n.events) != maxEvents {
		t.Errorf("lost %t, %d events, want the first lost", n.lost, len(n.events))
	}
	for i := range maxTouched {
		j.Touch(fmt.Sprint(i))
	}
	if n := j.news(r, false); n.touched != nil {
		t.Errorf("%d pools, want them left for another time", len(n.touched))
	}
	if n := j.news(r, true); len(n.touched) != maxTouched || n.reload {
		t.Errorf("%d pools, reload %t, want %d one by one", len(n.touched), n.reload, maxTouched)
	}
	for i := range 3 * maxTouched {
		j.Touch(fmt.Sprint(i))
	}
	if n := j.news(r, true); len(n.touched) != 0 || !n.reload {
		t.Errorf("%d pools, reload %t, want all looked at anew", len(n.touched), n.reload)
	}
	j.Reload()
	if n := j.news(r, true); !n.reload {
		t.Error("the reader is not told of a reload")
	}
	if n := j.news(r, true); n.reload || n.lost || len(n.events)+len(n.touched) > 0 {
		t.Errorf("%+v, want nothing", n)
	}
}

// TestJournalAtOnce is for the race detector: what readers have is not written to.
func TestJournalAtOnce(*testing.T) {
	j := kept(maxEvents)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { more(j, 500) })
		all.Go(func() {
			r, _ := j.follow("", true)
			defer j.leave(r)
			for seen := 0; seen < 100; {
				for _, e := range j.news(r, true).events {
					seen += min(1, len(e.Why))
				}
				seen++
			}
		})
		all.Go(func() {
			for range 20 {
				for e := range j.Events("") {
					_ = e.Why
				}
				j.Touch("a")
			}
		})
	}
	all.Wait()
}

// The journal says when it begins: when it was switched on, a day ago, or after the last event that it had to drop.
func TestJournalSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := new(Journal)
		if since := j.Since(); !since.IsZero() {
			t.Errorf("A journal that keeps nothing begins at %v, want no time", since)
		}
		time.Sleep(time.Hour)
		j.Keep(true)
		began := time.Now()
		more(j, 1)
		time.Sleep(time.Hour)
		if j.Keep(true); !j.Since().Equal(began) { // as a reload does
			t.Errorf("It begins at %v, want %v, when it was switched on", j.Since(), began)
		}
		more(j, maxEvents-1)
		time.Sleep(time.Hour)
		if !j.Since().Equal(began) {
			t.Errorf("Full, it begins at %v, want %v", j.Since(), began)
		}
		more(j, 2)
		if want := began.Add(time.Hour); !j.Since().Equal(want) {
			t.Errorf("It has dropped two events and begins at %v, want %v, the time of the second", j.Since(), want)
		}
		time.Sleep(2 * maxAge)
		if want := time.Now().Add(-maxAge); !j.Since().Equal(want) {
			t.Errorf("Two days later it begins at %v, want %v", j.Since(), want)
		}
		if j.Keep(false); !j.Since().IsZero() {
			t.Errorf("Switched off, it begins at %v, want no time", j.Since())
		}
	})
}
