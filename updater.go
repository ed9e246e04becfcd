package failover

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coredns-failover/failover/plugin/answer"
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
	said   string    // the trouble with the server that the log speaks of
	why    string    // of said, in words
	began  time.Time // of said, or of the first name that is spoken of
	spoken int       // how many names it speaks of,
	hushed int       // and of how many not, as they are too many,
	since  time.Time // since when; zero: their number is said
	fresh  int       // names that have not been seen to since open,
	begun  int       // and those of them that were written
}

// posted is one name as it is written to a server.
type posted struct {
	name string
	pool *livePool
	as   *answer.Derived

	// The queue has these, under the updater's lock.
	due      time.Time
	waits    bool // it is in later,
	urgent   bool // or in urgent,
	busy     bool // or in the hands of a worker,
	moved    bool // and was in that when what its pool answers changed
	pending  bool // what its pool answers is not there yet
	failures int  // in a row,
	others   int  // how many other names had worked at the last of them;
	whole    bool // they are the server's,
	alone    bool // or they are not, though they look as if they were
	seen     bool
	hushed   bool
	said     string // what the log says of it

	// The worker that has it in its hands has these.
	known  marker // that was there last
	agreed string // the hash of what was right when it was last there; "": nothing has been since the start
	other  string // the hash of what another has written instead,
	times  int    // and in how many comparisons in a row that was seen
}

// patience is in how many comparisons a difference is seen before it is one: another that writes the same name may just
// be ahead, or behind, in what it has found out.
const patience = 2

// insistence, two hours, is how many comparisons it takes to overrule one that sees more members up, or others: it may
// have died since, and nobody would take back what it has said.
const insistence = int(2 * time.Hour / compareEvery)

// workers are how many names are seen to at once: a thousand that change together do not take a round trip each, and
// a server has still more than us to serve.
const workers = 8

// maxSpoken is how many names of a zone the log speaks of at a time. More than that are one reason, and counted.
const maxSpoken = 20

// writer tells what this process has written from what others have.
var writer = rand.Text()[:8]

func newUpdater(u update) *updater {
	u.writer = writer
	w := &updater{update: u, ofPool: make(map[*livePool][]*posted), wake: make(chan struct{}, workers)}
	w.send = w.exchange
	return w
}

// add has a name of a pool written, too. It is called before open.
func (u *updater) add(name string, p *livePool, as *answer.Derived) {
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
		if !w.fixed() {
			u.queue.moved(w)
			u.rouse(1)
		}
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
			timer := time.NewTimer(max(wait, 1))
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
	remark  *remark  // how it is not as it should be; nil: it is
}

// remark is what there is to say of a name, and what that counts as.
type remark struct{ result, why string }

// settled notes what has become of a name, and makes it known. It does the latter without the lock: a log may be slow,
// and a pool that has a transition would wait.
func (u *updater) settled(w *posted, o result) {
	u.mu.Lock()
	lines := u.note(w, o, time.Now())
	u.mu.Unlock()
	for _, l := range lines {
		l.say(l.text)
	}
}

// line is a line for the log.
type line struct {
	say  func(...any)
	text string
}

// note is settled under the lock.
func (u *updater) note(w *posted, o result, now time.Time) (lines []line) {
	say := func(level func(...any), format string, args ...any) {
		lines = append(lines, line{level, fmt.Sprintf(format, args...)})
	}
	recovered, failed := u.queue.done(w, now, o.trouble, o.writing)
	u.rouse(workers)
	said := ""
	switch {
	case o.trouble != nil:
		u.count(o.trouble.result)
		if said = o.trouble.why; w.whole {
			said = w.said // the server's trouble is said below
		}
	case o.remark != nil:
		u.count(o.remark.result)
		said = o.remark.why
	}
	switch {
	case recovered && u.said != "":
		what := "all is well again"
		if said != "" || u.spoken > 0 {
			what = "it answers again"
		}
		say(log.Info, "update of %s at %s: %s", u.zone, u.server, what)
		u.said, u.why = "", ""
	case failed && u.queue.failures > 1 && u.said != o.trouble.result: // the first may be that of one name
		say(log.Warning, "update of %s at %s: %s", u.zone, u.server, o.trouble.why)
		if u.said == "" {
			u.began = now
		}
		u.said, u.why = o.trouble.result, o.trouble.why
	}
	u.speak(w, said, now, say)
	if o.wrote != nil {
		u.count("success")
		if !w.seen {
			u.begun++
		}
		if w.seen || u.begun <= maxSpoken {
			say(log.Info, "wrote %s to %s: %s", w.name, u.server, o.wrote)
		}
	}
	if !w.seen && o.trouble == nil {
		w.seen = true
		u.fresh--
		if u.fresh == 0 && u.begun > maxSpoken {
			say(log.Info, "wrote %d names of %s to %s", u.begun, u.zone, u.server)
		}
	}
	return lines
}

// speak says once what is the matter with a name, and once that it is no more. Of too many it says how many they are,
// when all have had time to show it.
func (u *updater) speak(w *posted, said string, now time.Time, say func(func(...any), string, ...any)) {
	switch {
	case said == w.said:
	case said == "":
		say(log.Info, "update of %s at %s: all is well again", w.name, u.server)
		w.said = ""
		u.spoken--
	case w.said == "" && u.spoken >= maxSpoken:
		if !w.hushed {
			w.hushed = true
			if u.hushed++; u.hushed == 1 {
				u.since = now
			}
		}
	default:
		say(log.Warning, "update of %s at %s: %s", w.name, u.server, said)
		if w.said == "" {
			if u.spoken++; u.spoken == 1 && u.said == "" {
				u.began = now
			}
		}
		w.said = said
	}
	if w.hushed && (said == "" || w.said != "") {
		w.hushed = false
		u.hushed--
	}
	if u.hushed > 0 && !u.since.IsZero() && now.Sub(u.since) > 2*compareEvery {
		say(log.Warning, "update of %s at %s: %d more names are not as they should be", u.zone, u.server, u.hushed)
		u.since = time.Time{}
	}
}

// failure is what keeps the names from being written, and since when; "": nothing does.
func (u *updater) failure() (text string, since time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch wrong := u.spoken + u.hushed; {
	case !u.opened || u.closed:
		return "", time.Time{}
	case u.said != "":
		return u.why, u.began
	case wrong == 1:
		return "1 name is not as it should be", u.began
	case wrong > 1:
		return fmt.Sprintf("%d names are not as they should be", wrong), u.began
	}
	return "", time.Time{}
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

// fixed says whether a name is a target, which has the same addresses whatever becomes of its members.
func (w *posted) fixed() bool { return w.as != nil && w.as.Addrs != nil }

// content is what a name is to have; not ok: no zone can say it. While some member has not been probed it is a guess.
func (w *posted) content() (c content, guess, ok bool) {
	guess = !w.fixed() && !w.pool.settled.Load() // before the snapshot, which is none once this is so
	s := w.pool.now.Load()
	sets, ok := s.RRsets(w.name, w.as)
	return newContent(sets, s.Tier == pool.InFallback), guess, ok
}

// settle compares a name with what it is to have, and puts it right. pending says that this has changed. A guess is
// written only where there is nothing yet.
func (u *updater) settle(ctx context.Context, w *posted, pending bool) result {
	want, guess, ok := w.content()
	if !ok {
		return result{}
	}
	if !guess {
		if o, done := u.confirm(ctx, w, &want, pending); done {
			return o
		}
	}
	var h *held
	var remarked *remark
	var tried string // the marker that an UPDATE has relied on
	for range 2 {
		var t *trouble
		if h, t = u.look(ctx, w.name, &want); t != nil {
			return result{trouble: t}
		}
		there := h.marker
		if there.text == tried {
			there = marker{} // a query sees it, and an UPDATE does not: a wildcard's
		}
		w.known, tried = there, there.text
		if h.delegated != "" {
			return result{remark: u.foreign(w.name, h)}
		}
		if guess && tried != "" {
			return result{}
		}
		m := u.create(w.name, &want)
		if tried != "" {
			var write bool
			if write, remarked = u.judge(w, h, &want, pending); !write {
				return result{remark: remarked}
			}
			m = u.replace(w.name, &there, &want)
		}
		met, t := u.tell(ctx, m)
		switch {
		case t != nil:
			return result{trouble: t, writing: true}
		case met:
			w.known, w.agreed, w.times = want.marker(u.writer), want.hash, 0
			return result{wrote: &want, remark: remarked}
		}
	}
	if tried == "" || h.alias || len(h.strangers) > 0 {
		return result{remark: u.foreign(w.name, h)}
	}
	return result{trouble: &trouble{"conflict", "it is written by others all the time", false}, writing: true}
}

// confirm is settle where all is as it was known to be, which takes one message. It is not done where it is not.
func (u *updater) confirm(ctx context.Context, w *posted, want *content, pending bool) (o result, done bool) {
	there := want.marker(u.writer)
	if w.known.hash == want.hash { // be it written by one for whom it is no fallback, or only that
		there = w.known
	}
	m := u.verify(w.name, there.text, want)
	writing := pending && w.known.text != "" && w.known.text != there.text && u.outranks(w, &w.known, pending)
	if writing {
		m, there = u.replace(w.name, &w.known, want), want.marker(u.writer)
	}
	met, t := u.tell(ctx, m)
	switch {
	case t != nil:
		return result{trouble: t, writing: writing}, true
	case met:
		w.known, w.agreed, w.times = there, want.hash, 0
		if writing {
			o.wrote = want
		}
	}
	return o, met
}

// outranks says whether what a marker stands for is older than what is to be written: it is our own, or was what we
// had, too, until that has changed. At a start nobody knows whether who wrote it still lives; it may have been us.
func (u *updater) outranks(w *posted, m *marker, pending bool) bool {
	return m.writer == u.writer || w.agreed == "" || pending && m.hash == w.agreed
}

// judge says whether a name with a marker is to be written, whose server has h where it is to have want, and what there is to say
// of it.
func (u *updater) judge(w *posted, h *held, want *content, pending bool) (write bool, r *remark) {
	hash := h.marker.hash
	switch {
	case h.alias || len(h.strangers) > 0: // the server will say whose it is
		return true, nil
	case hash == "": // it is handed over
		return true, nil
	case hash != h.hash:
		return true, &remark{"tampered", fmt.Sprintf("it was changed by hand to %s, and is put right", h)}
	case hash == want.hash:
		w.agreed, w.times = hash, 0
		return false, nil
	case u.outranks(w, &h.marker, pending):
		return true, nil
	}
	if w.other != hash {
		w.other, w.times = hash, 0
	}
	if !pending {
		w.times++
	}
	if w.times < patience {
		return false, nil
	}
	p := w.pool.whole()
	var judged string
	switch {
	case w.times >= insistence && sure(want, p):
		write, judged = true, "is overruled: for long it is not what is seen here, and who has written it may be gone"
	case strange(&h.content, p):
		judged = "is left: it has what is no member here, want the same pool in all that write it"
	case better(want, &h.content, p):
		write, judged = true, "is overruled: it is worse than what is seen here"
	default:
		judged = fmt.Sprintf("is left: here it is to be %s, which is no better", want)
	}
	if write {
		w.times = 0
	}
	return write, &remark{"disagreement", fmt.Sprintf("another has written %s, which %s", h, judged)}
}

// tell sends an UPDATE and says whether its prerequisites were met.
func (u *updater) tell(ctx context.Context, m *dns.Msg) (met bool, t *trouble) {
	if wire, err := m.Pack(); err != nil || len(wire) > dns.MaxMsgSize-roomForTSIG {
		return false, &trouble{"toolarge", "its records do not fit into one message, which is 64 KiB at most", false}
	}
	r, err := u.send(ctx, m)
	if t := u.troubleOf(r, err); t != nil {
		return false, t
	}
	if slices.ContainsFunc(r.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA }) {
		return false, &trouble{"notimp", "the server takes an update for a query for the SOA, whose opcode it does not look at", true}
	}
	return r.Rcode == dns.RcodeSuccess, nil
}

// roomForTSIG is what a signature takes of a message at most: the names of the key and the algorithm, and a digest.
const roomForTSIG = 512

// look asks what the server has for a name. The marker comes first: what is written later changes it, and an UPDATE
// that relies on it fails.
func (u *updater) look(ctx context.Context, name string, want *content) (*held, *trouble) {
	h := &held{content: content{sets: make(map[uint16][]dns.RR)}}
	ask := func(owner string, t uint16, read func(*dns.Msg)) *trouble {
		r, err := u.send(ctx, queryFor(owner, t))
		if t := u.troubleOf(r, err); t != nil {
			return t
		}
		if zone := u.referral(r); zone != "" {
			h.delegated = zone
		}
		read(r)
		return nil
	}
	if t := ask(markerOf(name), dns.TypeTXT, func(r *dns.Msg) { h.readMarker(r, markerOf(name)) }); t != nil {
		return nil, t
	}
	types := append(want.types(), h.marker.types...)
	slices.Sort(types)
	for _, of := range slices.Compact(types) {
		if t := ask(name, of, func(r *dns.Msg) { h.readSet(r, name, of) }); t != nil {
			return nil, t
		}
	}
	h.weigh()
	return h, nil
}

// foreign says whose a name is that is not ours, and what makes it ours.
func (u *updater) foreign(name string, h *held) *remark {
	what, lines := h.String(), []string{fmt.Sprintf("update add %s %d TXT %s", markerOf(name), markerTTL, markerWord)}
	switch {
	case h.delegated != "":
		return &remark{"foreign", fmt.Sprintf("it lies in %s, which the server delegates", h.delegated)}
	case h.alias:
		what, lines[0] = "an alias", fmt.Sprintf("update delete %s CNAME", name)
	case h.marker.text != "" && len(h.strangers) > 0:
		lines = nil
		for _, t := range h.strangers {
			lines = append(lines, fmt.Sprintf("update delete %s %s", name, dns.TypeToString[t]))
		}
		what = "records of a type that its marker does not name"
	case h.texts:
		what, lines[0] = "another TXT record at "+markerOf(name), fmt.Sprintf("update delete %s TXT", markerOf(name))
	}
	return &remark{"foreign", fmt.Sprintf("it is not ours, and stays as it is: it has %s. To hand it over, have nsupdate say: %s", what, strings.Join(lines, "; "))}
}
