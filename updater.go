package failover

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/coredns-failover/failover/plugin/pool"

	"github.com/miekg/dns"
)

// updater writes the answers of a server block's pools into one zone of a server by dynamic updates (RFC 2136). It is
// an outlet.
//
// What it may write a marker says, which it leaves itself: a name without one it creates if nobody has it. Each message
// has for its prerequisite what was seen last, so that of several who write at once one does, and the others look again.
type updater struct {
	update
	send   func(context.Context, *dns.Msg) (*dns.Msg, error)
	names  []*posted
	ofPool map[*livePool][]*posted

	wake chan struct{} // told that somebody should look at the queue: as often as there are workers
	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex // guards the rest, and what the queue has of its names
	opened bool
	closed bool
	queue  queue
	said   string // the trouble with the server that the log speaks of
	spoken int    // how many names it speaks of
	fresh  int    // names that have not been seen to since open,
	begun  int    // and those of them that were written
}

// posted is one name as it is written to a server.
type posted struct {
	name string
	pool *livePool
	as   *role

	// The queue has these, under the updater's lock.
	due      time.Time
	waits    bool // it is in later,
	urgent   bool // or in urgent,
	busy     bool // or in the hands of a worker,
	moved    bool // and was in that when what its pool answers changed
	pending  bool // what its pool answers is not there yet
	failures int  // in a row,
	whole    bool // the last of them the server's
	seen     bool

	// The worker that has it in its hands has these.
	known   string // the text of the marker that was there last; "": not known
	other   string // the hash of what another has written instead,
	times   int    // how often that was seen in a row,
	patient int    // and how often that is to be before it is judged; 0: patience
	changed int    // in how many comparisons more it was found changed by hand than found right
	said    string // what the log says of it
}

// patience is in how many comparisons a difference is seen before it is one: another that writes the same name may just
// be ahead, or behind, in what it has found out.
const patience = 2

// insistence is how much more it takes, two hours at first, to overrule one that sees more members up: it may have
// died since, and nobody would take back what it has said. It is rare enough to be no fight where it lives.
const insistence = 30

// maxPatience is how long, in comparisons, those who do not come to the same leave it as it is: their pools are
// configured differently.
const maxPatience = 32

// workers are how many names are seen to at once: a thousand that change together do not take a round trip each, and
// a server has still more than us to serve.
const workers = 8

// maxSpoken is how many names of a zone the log speaks of at a time. More than that are one reason, and counted.
const maxSpoken = 20

func newUpdater(u update) *updater {
	w := &updater{update: u, ofPool: make(map[*livePool][]*posted), wake: make(chan struct{}, workers)}
	w.send = w.exchange
	return w
}

// add has a name of a pool written, too. It is called before open.
func (u *updater) add(name string, p *livePool, as *role) {
	w := &posted{name: name, pool: p, as: as}
	u.names, u.ofPool[p] = append(u.names, w), append(u.ofPool[p], w)
}

// open implements outlet: every name is looked at, and put right.
func (u *updater) open() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.opened || u.closed {
		return
	}
	u.opened, u.fresh = true, len(u.names)
	now := time.Now()
	for _, w := range u.names {
		w.pending = true
		u.queue.put(w, now)
	}
	ctx, cancel := context.WithCancel(context.Background())
	u.stop = cancel
	for range min(workers, len(u.names)) {
		u.done.Go(func() { u.work(ctx) })
	}
}

// close implements outlet. What has not been written yet stays so.
func (u *updater) close() {
	u.mu.Lock()
	u.closed = true
	u.mu.Unlock()
	if u.stop != nil {
		u.stop()
	}
	u.done.Wait()
}

// moved implements outlet.
func (u *updater) moved(p *livePool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.opened {
		return
	}
	for _, w := range u.ofPool[p] {
		u.queue.moved(w)
		u.rouse(1)
	}
}

// rouse has so many workers look at the queue.
func (u *updater) rouse(n int) {
	for range n {
		select {
		case u.wake <- struct{}{}:
		default: // all of them will
			return
		}
	}
}

// work sees to names, one after the other, until the context ends.
func (u *updater) work(ctx context.Context) {
	for ctx.Err() == nil {
		u.mu.Lock()
		w, wait := u.queue.take(time.Now())
		pending := w != nil && w.pending
		u.mu.Unlock()
		if w == nil {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-u.wake:
			case <-ctx.Done():
			}
			timer.Stop()
			continue
		}
		o := u.settle(ctx, w, pending)
		if ctx.Err() == nil {
			u.settled(w, o)
		}
	}
}

// result is what has become of a name that was seen to.
type result struct {
	trouble *trouble
	writing bool     // it was to be written,
	wrote   *content // and this was
	foreign string   // whose it is, and what can be done about it; "": not somebody else's
	dispute string   // how it differs from what another has written; "": it does not
}

// settled notes what has become of a name, and makes it known.
func (u *updater) settled(w *posted, o result) {
	u.mu.Lock()
	defer u.mu.Unlock()
	recovered, failed := u.queue.done(w, time.Now(), o.trouble, o.writing)
	u.rouse(workers)
	switch {
	case recovered && u.said != "":
		log.Infof("update of %s at %s: all is well again", u.zone, u.server)
		u.said = ""
	case failed && u.queue.failures > 1 && u.said != o.trouble.result: // the first may be that of one name
		log.Warningf("update of %s at %s: %s", u.zone, u.server, o.trouble.why)
		u.said = o.trouble.result
	}
	said := ""
	switch {
	case o.trouble != nil:
		u.count(o.trouble.result)
		if said = o.trouble.why; o.trouble.whole {
			said = w.said // the server's trouble is said above
		}
	case o.foreign != "":
		u.count("foreign")
		said = o.foreign
	case o.dispute != "":
		u.count("disagreement")
		said = o.dispute
	}
	u.speak(w, said)
	if o.wrote != nil {
		u.count("success")
		if !w.seen {
			u.begun++
		}
		if w.seen || u.begun <= maxSpoken {
			log.Infof("wrote %s to %s: %s", w.name, u.server, o.wrote)
		}
	}
	if !w.seen && o.trouble == nil {
		w.seen = true
		u.fresh--
		if u.fresh == 0 && u.begun > maxSpoken {
			log.Infof("wrote %d names of %s to %s", u.begun, u.zone, u.server)
		}
	}
}

// speak says once what is the matter with a name, and once that it is no more.
func (u *updater) speak(w *posted, said string) {
	switch {
	case said == w.said:
		return
	case said == "":
		log.Infof("update of %s at %s: all is well again", w.name, u.server)
		u.spoken--
	case w.said == "" && u.spoken >= maxSpoken:
		return
	default:
		log.Warningf("update of %s at %s: %s", w.name, u.server, said)
		if w.said == "" {
			u.spoken++
		}
	}
	w.said = said
}

// count counts what has become of a message.
func (u *updater) count(what string) {
	updates.WithLabelValues(u.server.String(), u.zone, what).Inc()
}

// pending is how many names do not have yet what their pools answer.
func (u *updater) pending() (n int, open bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, w := range u.names {
		if w.pending {
			n++
		}
	}
	return n, u.opened && !u.closed
}

// content is what a name is to have; not ok: no zone can say it.
func (w *posted) content() (c content, ok bool) {
	s := w.pool.now.Load()
	sets, ok := w.pool.sets(s, w.name, w.as)
	return newContent(sets, s.choice.Tier == pool.InFallback), ok
}

// settle compares a name with what it is to have, and puts it right. pending says that this has changed, so that what
// another has written instead is older.
func (u *updater) settle(ctx context.Context, w *posted, pending bool) result {
	want, ok := w.content()
	if !ok {
		return result{}
	}
	if pending {
		w.times, w.patient = 0, 0
	}
	there := want.marker()
	if hash, _, _ := readMarker(w.known); hash == want.hash { // be it written by one for whom it is no fallback, or only that
		there = w.known
	}
	first, writing := u.verify(w.name, there, &want), false
	if pending && w.known != "" && w.known != there {
		first, writing = u.replace(w.name, w.known, &want), true
	}
	met, t := u.tell(ctx, first)
	switch {
	case t != nil:
		return result{trouble: t, writing: writing}
	case met && writing:
		w.known, w.times = want.marker(), 0
		return result{wrote: &want}
	case met:
		w.known, w.times, w.changed = there, 0, max(0, w.changed-1)
		return result{}
	}
	var h *held
	tried := "" // the marker that an UPDATE has relied on
	for range 2 {
		if h, t = u.look(ctx, w.name, &want); t != nil {
			return result{trouble: t}
		}
		if h.marker == tried {
			h.marker = "" // a query sees it, and an UPDATE does not: a wildcard's
		}
		w.known, tried = h.marker, h.marker
		write, dispute := w.judge(h, &want, pending)
		if !write {
			return result{dispute: dispute}
		}
		m := u.create(w.name, &want)
		if h.marker != "" {
			m = u.replace(w.name, h.marker, &want)
		}
		met, t := u.tell(ctx, m)
		switch {
		case t != nil:
			return result{trouble: t, writing: true}
		case met:
			w.known = want.marker()
			return result{wrote: &want, dispute: dispute}
		}
	}
	if h.marker == "" || h.alias {
		return result{foreign: u.foreign(w.name, h)}
	}
	return result{trouble: &trouble{"conflict", "it is written by others all the time", false}, writing: true}
}

// judge says whether a name is to be written, whose server has h where it is to have want, and what there is to say
// of it.
func (w *posted) judge(h *held, want *content, pending bool) (write bool, dispute string) {
	hash, _, _ := readMarker(h.marker)
	switch {
	case h.marker == "" || h.alias: // the server will say whose it is
		return true, ""
	case hash != h.hash: // somebody has changed it by hand, or handed it over
		w.changed++
		return pending || w.changed&(w.changed-1) == 0 || w.changed%maxPatience == 0, "" // ever more rarely if they go on
	case hash == want.hash:
		w.times = 0
		return false, ""
	case pending:
		return true, ""
	}
	if w.other != hash {
		w.other, w.times = hash, 0
	}
	w.times++
	w.patient = max(w.patient, patience)
	if w.times < w.patient {
		return false, ""
	}
	judged, overruled := "members are up here that it sees down", better(want, &h.content, w.pool.whole())
	if !overruled {
		if w.times < insistence*w.patient || !sure(want, w.pool.whole()) {
			return false, fmt.Sprintf("another has written %s, which is left: it sees members up that are down here, where it is to be %s", h, want)
		}
		judged = "for long it is not what is seen here, and who has written it may be gone"
	}
	w.times, w.patient = 0, min(2*w.patient, maxPatience)
	return true, fmt.Sprintf("another has written %s, which is overruled: %s", h, judged)
}

// tell sends an UPDATE and says whether its prerequisites were met.
func (u *updater) tell(ctx context.Context, m *dns.Msg) (met bool, t *trouble) {
	r, err := u.send(ctx, m)
	if t := troubleOf(r, err, u.key != ""); t != nil {
		return false, t
	}
	if slices.ContainsFunc(r.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA }) {
		return false, &trouble{"notimp", "the server takes an update for a query for the SOA, whose opcode it does not look at", true}
	}
	return r.Rcode == dns.RcodeSuccess, nil
}

// look asks what the server has for a name. The marker comes first: what is written later changes it, and an UPDATE
// that relies on it fails.
func (u *updater) look(ctx context.Context, name string, want *content) (*held, *trouble) {
	h := &held{content: content{sets: make(map[uint16][]dns.RR)}}
	marker := markerOf(name)
	for i, t := range append([]uint16{dns.TypeTXT}, want.types()...) {
		owner := name
		if i == 0 {
			owner = marker
		}
		r, err := u.send(ctx, queryFor(owner, t))
		if t := troubleOf(r, err, u.key != ""); t != nil {
			return nil, t
		}
		if i == 0 {
			h.readMarker(r, owner)
		} else {
			h.readSet(r, owner, t)
		}
	}
	h.hash = hashOf(h.sets)
	return h, nil
}

// foreign says whose a name is that is not ours, and what makes it ours.
func (u *updater) foreign(name string, h *held) string {
	line := fmt.Sprintf("update add %s %d TXT %s", markerOf(name), markerTTL, markerWord)
	what := h.String()
	switch {
	case h.alias:
		what, line = "an alias", fmt.Sprintf("update delete %s CNAME", name)
	case h.texts:
		what, line = "another TXT record at "+markerOf(name), fmt.Sprintf("update delete %s TXT", markerOf(name))
	}
	return fmt.Sprintf("it is not ours, and stays as it is: it has %s. To hand it over, have nsupdate say: %s", what, line)
}
