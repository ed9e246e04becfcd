package api

import (
	"crypto/rand"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxEvents and maxAge bound what a journal keeps.
	maxEvents = 10_000
	maxAge    = 24 * time.Hour

	// maxTouched is how many changed pools a reader is told of one by one. Beyond that it has to look at all anew.
	maxTouched = 2000
)

// Journal keeps the events of the last day, and tells its readers what happens. All methods may be called at once, and
// none of them waits for a reader. The zero value keeps nothing, and tells nobody.
type Journal struct {
	mu      sync.Mutex
	process string    // tells the events of this process from those of another; "": nothing is kept
	since   time.Time // every event after it is in events
	events  []Event   // only ever appended to, so that what is in it can be read without mu
	first   int       // the number of the first of events
	readers map[*reader]bool
}

// reader is somebody who follows a journal.
type reader struct {
	wake    chan struct{} // there is something
	next    int           // the number of the event that it has not seen
	pools   bool          // it wants to know which have changed
	touched map[string]bool
	reload  bool // everything is to be looked at anew
}

// news is what a reader has not seen.
type news struct {
	lost    bool     // there were events that are not to be had any more
	events  []Event  // not to be written to
	touched []string // the pools that have changed
	reload  bool     // there are other pools, or more have changed than are told one by one
}

// Keep has events kept from now on, or not any more.
func (j *Journal) Keep(keep bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case !keep:
		j.process, j.since, j.events, j.first = "", time.Time{}, nil, 0
		for r := range j.readers {
			r.next = -1 // whatever comes is of another count
		}
	case j.process == "":
		j.process, j.since = strings.ToLower(rand.Text()[:10]), time.Now()
	}
}

// Keeps says whether events are kept: if not, there is no need to make them.
func (j *Journal) Keeps() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.process != ""
}

// Add takes an event, and gives it its ID and its time.
func (j *Journal) Add(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.process == "" {
		return
	}
	e.At = time.Now()
	e.ID = j.process + "-" + strconv.Itoa(j.first+len(j.events))
	old := 0
	for old < len(j.events) && (len(j.events)-old >= maxEvents || e.At.Sub(j.events[old].At) > maxAge) {
		j.since = j.events[old].At
		old++
	}
	j.events = append(j.events[old:], e)
	j.first += old
	for r := range j.readers {
		r.poke()
	}
}

// Touch notes that something about a pool has changed.
func (j *Journal) Touch(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for r := range j.readers {
		if !r.pools || r.reload {
			continue
		}
		if r.touched[id] = true; len(r.touched) > maxTouched {
			r.reload = true
			clear(r.touched)
		}
		r.poke()
	}
}

// Reload notes that there are other pools now.
func (j *Journal) Reload() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for r := range j.readers {
		if r.pools {
			r.reload = true
			clear(r.touched)
			r.poke()
		}
	}
}

// poke wakes a reader. It never blocks: one token is enough for any number of changes.
func (r *reader) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Events are those of the last day, the oldest first: of one pool, or of all where its name is "".
func (j *Journal) Events(pool string) iter.Seq[Event] {
	j.mu.Lock()
	events := j.events
	j.mu.Unlock()
	return func(yield func(Event) bool) {
		for _, e := range events {
			if time.Since(e.At) <= maxAge && (pool == "" || e.Pool == pool || e.Pool == "") && !yield(e) {
				return
			}
		}
	}
}

// Since is when the journal begins: it has every event after that, and knows nothing of the time before. It is zero if
// nothing is kept.
func (j *Journal) Since() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	if oldest := time.Now().Add(-maxAge); !j.since.IsZero() && j.since.Before(oldest) {
		return oldest
	}
	return j.since
}

// follow begins to read after the event with an ID, or now where that is "". Not ok: what came after it is not to be
// had any more, and it begins now.
func (j *Journal) follow(last string, pools bool) (r *reader, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r = &reader{wake: make(chan struct{}, 1), pools: pools, touched: make(map[string]bool)}
	r.next, ok = j.first+len(j.events), last == ""
	if process, number, found := strings.Cut(last, "-"); found && process == j.process {
		if n, err := strconv.Atoi(number); err == nil && n >= j.first-1 && n < r.next {
			r.next, ok = n+1, true
		}
	}
	if j.readers == nil {
		j.readers = make(map[*reader]bool)
	}
	j.readers[r] = true
	r.poke()
	return r, ok
}

// leave ends what follow began.
func (j *Journal) leave(r *reader) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.readers, r)
}

// news is what a reader has not seen. Where withPools is false the pools are left for another time.
func (j *Journal) news(r *reader, withPools bool) (n news) {
	j.mu.Lock()
	defer j.mu.Unlock()
	from := r.next - j.first
	n.lost, n.events = from < 0, j.events[max(from, 0):]
	r.next = j.first + len(j.events)
	if !withPools {
		return n
	}
	n.touched = slices.Sorted(maps.Keys(r.touched))
	n.reload, r.reload = r.reload, false
	clear(r.touched)
	return n
}
