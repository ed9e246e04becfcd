package share

import (
	"maps"
	"slices"
	"strings"

	"github.com/coredns-failover/failover/plugin/override"
)

// decisions are what operators have decided, at whatever site. Like a tally it has no clock and no socket.
type decisions struct {
	table   map[id]override.Override // as etcd has it
	pending map[id]*write            // what is to be in its place
	nonces  map[id]string            // of the members that have been let back, the last time
	lets    map[id]letBack           // what is to be written of these
	joined  bool                     // all has been read once
	ignored uint64

	// What has changed since it was asked last.
	changed bool
	back    []letBack
}

// write is a change of an override.
type write struct {
	override *override.Override // nil: it is cleared
	only     *override.Override // if it is still this; nil: whatever it is
	revision int64              // of the transaction; 0: not written yet
}

func newDecisions() *decisions {
	return &decisions{
		table:   make(map[id]override.Override),
		pending: make(map[id]*write),
		nonces:  make(map[id]string),
		lets:    make(map[id]letBack),
	}
}

// put takes a decision of our own; nil: that of the target is cleared.
func (d *decisions) put(t override.Target, o *override.Override) {
	d.pending[targetID(t)] = &write{override: o}
	d.changed = true
}

// over takes that the time of an override is over. What has been decided in its place meanwhile stays, be it that we hear
// of it later: a site that was cut off has an old one to end.
func (d *decisions) over(o override.Override) {
	about := targetID(o.Target)
	now, ok := d.table[about]
	if w := d.pending[about]; w != nil {
		ok = true
		if now = (override.Override{}); w.override != nil {
			now = *w.override
		}
	}
	if !ok || now.Equal(&o) {
		d.pending[about] = &write{only: &o}
		d.changed = true
	}
}

// let takes that a member is let back here, where that is known already.
func (d *decisions) let(l letBack) {
	about := idOf(l.Pool, l.Member)
	d.lets[about], d.nonces[about] = l, l.Nonce
}

// decided takes an override as etcd has it; nil: it is cleared.
func (d *decisions) decided(word string, value []byte) {
	about, ok := parseID(word)
	if !ok {
		d.ignored++
		return
	}
	var o override.Override
	if value != nil {
		if o, ok = parseDecision(value, about); !ok {
			d.ignored++
		}
	}
	if value == nil || !ok {
		delete(d.table, about)
	} else {
		d.table[about] = o
		if w := d.pending[about]; w != nil && w.only != nil && w.revision == 0 && !w.only.Equal(&o) {
			delete(d.pending, about)
		}
	}
	d.changed = true
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
	if d.joined {
		d.back = append(d.back, l)
	}
}

// loaded takes all overrides and letBacks that etcd has at a revision. Where etcd has been set back to an earlier state,
// that is not what has been decided since, and ours is.
func (d *decisions) loaded(overrides, lets map[string][]byte, revision int64, setBack bool) {
	ours := d.all()
	clear(d.table)
	for word, value := range overrides {
		d.decided(word, value)
	}
	for word, value := range lets {
		d.letBack(word, value)
	}
	if setBack && d.joined {
		clear(d.pending)
		for _, o := range d.table {
			d.pending[targetID(o.Target)] = &write{}
		}
		for _, o := range ours {
			if there, ok := d.table[targetID(o.Target)]; ok && text(there) == text(o) {
				delete(d.pending, targetID(o.Target))
			} else {
				d.pending[targetID(o.Target)] = &write{override: &o}
			}
		}
	}
	d.reached(revision)
	d.joined, d.changed = true, true
}

// reached takes that all changes up to a revision are in the table.
func (d *decisions) reached(revision int64) {
	before := len(d.pending)
	maps.DeleteFunc(d.pending, func(_ id, w *write) bool { return w.revision > 0 && w.revision <= revision })
	d.changed = d.changed || len(d.pending) < before // what it hid may be another's
}

// all are the overrides as they are once all is written, in a fixed order.
func (d *decisions) all() []override.Override {
	table := maps.Clone(d.table)
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
