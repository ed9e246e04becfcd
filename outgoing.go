package failover

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/dnsname"
	"github.com/coredns-failover/failover/plugin/rrset"
	"github.com/coredns/coredns/plugin/transfer"
)

// outgoing is one zone as it goes out.
type outgoing struct {
	*history
	apex      string
	own       *zone       // nil: it is a zone of the next plugins only
	minimum   uint32      // the least TTL, in seconds, that the block has for what it denies in the zone
	fromBelow atomic.Bool // the next plugins have it
}

// history is what has gone out of a zone. It passes from one generation to the next.
type history struct {
	clock *serial // what the zone's serial is more than that of the next plugins, which for a zone of our own is 0

	mu      sync.Mutex // guards the rest
	base    *base
	current *edition
	journal journal
	drift   map[rrset.Key]uint32 // the TTL that a set had at the last review instead of that of the edition
	unsure  bool                 // the edition may lack what pools have been said to have moved to
	signed  bool                 // the log says that it does not go out
	notices
}

// begin makes a zone that goes out.
func (t *transfers) begin(apex string, own *zone, h *history) *outgoing {
	o := &outgoing{apex: apex, own: own, minimum: math.MaxUint32, history: h}
	for key, z := range t.block.generation.zones {
		if key.block == t.key && (dnsname.IsBelow(key.origin, apex) || dnsname.IsBelow(apex, key.origin)) {
			o.minimum = min(o.minimum, z.ttl)
		}
	}
	return o
}

// occasion is why a zone is looked at.
type occasion int

const (
	asked    occasion = iota // somebody wants it: it is the latest edition, unless the next plugins have another serial
	moved                    // an answer has changed
	reviewed                 // whatever may have changed is looked for, also what the next plugins have under the same serial
)

// errSigned is the error for a zone whose records would not verify with others among them. It is left alone.
var errSigned = errors.New("zone is signed already")

// update makes a new edition of a zone if what is answered is not that of the latest, and returns the latest with
// the changes that led to it. only are the pools that have moved, where it is known that nothing else has.
func (t *transfers) update(o *outgoing, why occasion, only []*livePool) (*edition, journal, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, err := t.below(o, why)
	if err != nil {
		o.unsure = true
		return nil, journal{}, err
	}
	switch anew := o.current == nil || b != o.base || why == reviewed; {
	case anew || o.unsure && why != asked:
		only = nil
	case why == asked || only != nil && len(only) == 0:
		return o.current, o.journal, nil
	}
	o.base = b
	next := newEdition(t.compose(o, why == reviewed, only))
	o.unsure = false
	offset := uint32(0)
	if b == nil {
		next.soa = o.own.SOA(o.apex)
	} else {
		soa := *b.soa
		soa.Minttl = min(soa.Minttl, o.minimum)
		next.soa, offset = &soa, b.soa.Serial
	}
	next.soa.Serial = offset + o.clock.Load()
	if o.current == nil {
		o.current = next
		return next, o.journal, nil
	}

	c := change{from: o.current.soa, to: next.soa}
	c.deleted, c.added = rrset.Difference(o.current.sets, next.sets)
	if len(c.deleted)+len(c.added) == 0 && rrset.EqualSOA(c.from, c.to) {
		return o.current, o.journal, nil
	}
	if before := c.from.Serial; !isAfter(next.soa.Serial, before) {
		o.clock.changed(time.Now())
		if !isAfter(offset+o.clock.Load(), before) { // a clock that went back, or a serial of the zone file that did
			o.clock.Store(before + 1 - offset)
		}
		next.soa.Serial = offset + o.clock.Load()
	}
	o.journal.add(c, len(next.sets))
	o.current = next
	return next, o.journal, nil
}

// below is the zone as the next plugins have it; nil: it is only ours.
func (t *transfers) below(o *outgoing, why occasion) (*base, error) {
	known := o.base
	if why == reviewed {
		known = nil
	}
	b, err := t.fetch(o.apex, known)
	if err != nil {
		return nil, err
	}
	signed := b != nil && b.signed()
	o.fromBelow.Store(b != nil && !signed)
	if signed != o.signed {
		o.signed = signed
		if signed {
			log.Warningf("%s is signed already, and is transferred as it is, without pools: sign with the dnssec plugin, or at the secondaries", o.apex)
		}
	}
	switch {
	case signed:
		return nil, errSigned
	case b == nil && o.own == nil:
		return nil, transfer.ErrNotAuthoritative
	case b != nil && o.base != nil && b.same(o.base):
		return o.base, nil
	}
	return b, nil
}

// deeper are the zones below an apex whose names are not part of its own.
func (t *transfers) deeper(apex string) []string {
	var zones []string
	for _, zone := range t.zones {
		if zone != apex && dnsname.IsBelow(zone, apex) {
			zones = append(zones, zone)
		}
	}
	for zone, o := range *t.outgoing.Load() {
		if zone != apex && o.fromBelow.Load() && dnsname.IsBelow(zone, apex) {
			zones = append(zones, zone)
		}
	}
	return zones
}
