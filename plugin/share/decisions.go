package share

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/override"
)

// decisions are what operators have decided, at whatever site. Like a tally it has no clock and no socket.
type decisions struct {
	table   map[id]entry        // as etcd has it
	pending map[id]*write       // what is to be in its place
	nonces  map[id]string       // of the members that have been let back, the last time
	lets    map[id]letBack      // what is to be written of these
	joined  bool                // all has been read once
	follows bool                // the one before had: what it has not heard of is new
	brought []override.Override // see [Past]; until joined
	known   []override.Override
	ignored uint64

	// What has changed since it was asked last.
	changed bool
	back    []letBack
}

// entry is an override that etcd has.
type entry struct {
	override.Override        // by our clock
	value             string // as etcd has it
}

// write is a change of an override.
type write struct {
	at       time.Time          // when it was decided
	override *override.Override // nil: it is cleared
	only     *override.Override // if it is still this; nil: whatever it is
	revision int64              // of the transaction; 0: not written yet
}

func newDecisions() *decisions {
	return &decisions{
		table:   make(map[id]entry),
		pending: make(map[id]*write),
		nonces:  make(map[id]string),
		lets:    make(map[id]letBack),
	}
}

// put takes a decision of our own; nil: that of the target is cleared.
func (d *decisions) put(t override.Target, o *override.Override, now time.Time) {
	d.pending[targetID(t)] = &write{at: now, override: o}
	d.changed = true
}

// carry takes over what another could not write any more.
func (d *decisions) carry(before *decisions) {
	for about, w := range before.pending {
		if w.revision == 0 {
			d.pending[about] = &write{at: w.at, override: w.override, only: w.only}
		}
	}
	maps.Copy(d.lets, before.lets)
	maps.Copy(d.nonces, before.nonces)
	maps.Copy(d.table, before.table) // what was heard is known still
	d.back, before.back = before.back, nil
	d.follows = before.joined || before.follows
}

// over takes that the time of an override is over. What has been decided in its place meanwhile stays, be it that we hear
// of it later: a site that was cut off has an old one to end.
func (d *decisions) over(o override.Override, now time.Time) {
	about := targetID(o.Target)
	known, ok := d.table[about]
	is := known.Override
	if w := d.pending[about]; w != nil {
		ok = true
		if is = (override.Override{}); w.override != nil {
			is = *w.override
		}
	}
	if !ok || is.Equal(&o) {
		d.pending[about] = &write{at: now, only: &o}
		d.changed = true
	}
}

// let takes that a member is let back here, where that is known already.
func (d *decisions) let(l letBack) {
	about := idOf(l.Pool, l.Member)
	d.lets[about], d.nonces[about] = l, l.Nonce
}

// decided takes an override as it has just been written; nil: it is cleared.
func (d *decisions) decided(word string, value []byte, now time.Time) {
	about, ok := parseID(word)
	if !ok {
		d.ignored++
		return
	}
	d.changed = true
	if value == nil {
		delete(d.table, about)
		return
	}
	is, ok := parseDecision(value, about)
	if !ok {
		d.ignored++
		delete(d.table, about)
		return
	}
	d.enter(about, entry{is.heard(now), string(value)})
}

// enter puts an override in the table.
func (d *decisions) enter(about id, e entry) {
	d.table[about] = e
	if w := d.pending[about]; w != nil && w.only != nil && w.revision == 0 && !w.only.Equal(&e.Override) {
		delete(d.pending, about)
	}
}

// letBack takes that somebody has let a member back. What was there before we came is over and done with: the member
// may have failed since, and an operator be asked anew.
func (d *decisions) letBack(word string, value []byte) {
	about, ok := parseID(word)
	if !ok || value == nil {
		return
	}
	l, ok := parseLetBack(value, about)
	if !ok {
		d.ignored++
		return
	}
	if d.nonces[about] == l.Nonce {
		return
	}
	d.nonces[about] = l.Nonce
	if d.joined || d.follows {
		d.back = append(d.back, l)
	}
}

// loaded takes all overrides and letBacks that etcd has at a revision. Where etcd has been set back to an earlier state,
// that is not what has been decided since, and ours is.
func (d *decisions) loaded(overrides, lets map[string][]byte, revision int64, setBack bool, now time.Time) {
	ours, before := d.all(), d.table
	d.table = make(map[id]entry)
	for word, value := range overrides {
		about, ok := parseID(word)
		is, valid := parseDecision(value, about)
		switch e, known := before[about]; {
		case !ok || !valid:
			d.ignored++
		case known && e.value == string(value): // which has been heard, maybe
			d.enter(about, e)
		default:
			d.enter(about, entry{is.Override, string(value)})
		}
	}
	for word, value := range lets {
		d.letBack(word, value)
	}
	if setBack && d.joined {
		clear(d.pending)
		for about := range d.table {
			d.pending[about] = &write{at: now}
		}
		for _, o := range ours {
			about := targetID(o.Target)
			if there, ok := d.table[about]; ok && there.Equal(&o) {
				delete(d.pending, about)
			} else {
				d.pending[about] = &write{at: now, override: &o}
			}
		}
	} else { // what could not be written, or was and nobody told us, gives way to what was decided after it
		for about, w := range d.pending {
			if there, ok := d.table[about]; ok && w.revision == 0 && there.Since.After(w.at) {
				delete(d.pending, about)
			}
		}
	}
	d.reached(revision)
	d.joined, d.changed = true, true
}

// bring has the overrides be written of which etcd does not know, once all is read: those that nobody knows, and, where
// there has never been a site, all.
func (d *decisions) bring(used bool, now time.Time) {
	ours := d.brought
	if !used && len(d.table) == 0 {
		ours = append(slices.Clip(ours), d.known...)
	}
	d.brought, d.known = nil, nil
	for _, o := range ours {
		about := targetID(o.Target)
		there, ok := d.table[about]
		if d.pending[about] == nil && (!ok || o.Since.After(there.Since)) && (o.Until.IsZero() || o.Until.After(now)) {
			d.pending[about] = &write{at: o.Since, override: &o}
		}
	}
}

// reached takes that all changes up to a revision are in the table.
func (d *decisions) reached(revision int64) {
	before := len(d.pending)
	maps.DeleteFunc(d.pending, func(_ id, w *write) bool { return w.revision > 0 && w.revision <= revision })
	d.changed = d.changed || len(d.pending) < before // what it hid may be another's
}

// all are the overrides as they are once all is written, in a fixed order.
func (d *decisions) all() []override.Override {
	table := make(map[id]override.Override, len(d.table))
	for about, e := range d.table {
		table[about] = e.Override
	}
	for about, w := range d.pending {
		if w.override == nil {
			delete(table, about)
		} else {
			table[about] = *w.override
		}
	}
	return slices.SortedFunc(maps.Values(table), func(a, b override.Override) int {
		return strings.Compare(a.Target.String(), b.Target.String())
	})
}

// news are all overrides if they have changed since the last call. Before all of them are known it is no news.
func (d *decisions) news() (all []override.Override, changed bool) {
	if !d.joined || !d.changed {
		return nil, false
	}
	d.changed = false
	return d.all(), true
}

// next is what is to be written.
func (d *decisions) next() (overrides map[id]*write, lets map[id]letBack) {
	overrides, lets = make(map[id]*write), make(map[id]letBack)
	for about, w := range d.pending {
		if w.revision == 0 && len(overrides) < ops {
			overrides[about] = w
		}
	}
	for about, l := range d.lets {
		if len(overrides)+len(lets) < ops {
			lets[about] = l
		}
	}
	return overrides, lets
}

// done takes that this was written.
func (d *decisions) done(overrides map[id]*write, lets map[id]letBack, revision int64) {
	for _, w := range overrides {
		w.revision = revision
	}
	for about, l := range lets {
		if d.lets[about] == l {
			delete(d.lets, about)
		}
	}
}
