package failover

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin/transfer"

	"github.com/miekg/dns"
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
	told    uint32            // the serial that NOTIFY was last sent for
	drift   map[setKey]uint32 // the TTL that a set had at the last review instead of that of the edition
	failing bool              // NOTIFY is not taken by somebody
}

// base is a zone as the next plugins have it. It never changes.
type base struct {
	soa  *dns.SOA
	sets recordSets
}

// begin makes a zone that goes out.
func (t *transfers) begin(apex string, own *zone, h *history) *outgoing {
	o := &outgoing{apex: apex, own: own, minimum: math.MaxUint32, history: h}
	for key, z := range t.block.generation.zones {
		if key.block == t.key && (isBelow(key.origin, apex) || isBelow(apex, key.origin)) {
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

// update makes a new edition of a zone if what is answered is not that of the latest, and returns the latest with
// the changes that led to it. No edition: it is nobody's zone any more. only are the pools that have moved, where it is
// known that nothing else has.
func (t *transfers) update(o *outgoing, why occasion, only ...*livePool) (*edition, journal, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known := o.base
	if why == reviewed {
		known = nil
	}
	b, err := t.fetch(o.apex, known)
	if err != nil {
		return nil, journal{}, err
	}
	o.fromBelow.Store(b != nil)
	if b == nil && o.own == nil {
		return nil, journal{}, transfer.ErrNotAuthoritative
	}
	if b != nil && o.base != nil && b.same(o.base) {
		b = o.base
	}
	if b != o.base || o.current == nil {
		only = nil
	} else if why == asked {
		return o.current, o.journal, nil
	}
	o.base = b
	next := &edition{sets: t.compose(o, why == reviewed, only)}
	offset := uint32(0)
	if b == nil {
		next.soa = o.own.soa(o.apex)
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
	c.deleted, c.added = difference(o.current.sets, next.sets)
	if len(c.deleted)+len(c.added) == 0 && sameSOA(c.from, c.to) {
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

// deeper are the zones below an apex whose names are not part of its own.
func (t *transfers) deeper(apex string) []string {
	var zones []string
	for _, zone := range t.zones {
		if zone != apex && isBelow(zone, apex) {
			zones = append(zones, zone)
		}
	}
	for zone, o := range *t.outgoing.Load() {
		if zone != apex && o.fromBelow.Load() && isBelow(zone, apex) {
			zones = append(zones, zone)
		}
	}
	return zones
}

// readBase reads a zone from another plugin. One record is the SOA of what is known already.
func readBase(apex string, ch <-chan []dns.RR, known *base) (*base, error) {
	b := &base{sets: make(recordSets)}
	records := 0
	for rrs := range ch {
		for _, rr := range rrs {
			records++
			key := setKey{strings.ToLower(rr.Header().Name), rr.Header().Rrtype}
			soa, isSOA := rr.(*dns.SOA)
			sig, isSig := rr.(*dns.RRSIG)
			switch {
			case isSOA && b.soa == nil:
				b.soa = soa
			case isSOA, isSig && sig.TypeCovered == dns.TypeSOA, key.rtype == dns.TypeZONEMD: // it is another SOA that goes out
			default:
				b.sets.add(key, rr)
			}
		}
	}
	if b.soa == nil {
		return nil, errors.New("zone " + apex + " of the next plugin has no SOA record")
	}
	if records == 1 && known != nil {
		return known, nil
	}
	return b, nil
}

// same says whether both are the same zone with the same records.
func (b *base) same(other *base) bool {
	if b == other {
		return true
	}
	deleted, added := difference(b.sets, other.sets)
	return len(deleted)+len(added) == 0 && sameSOA(b.soa, other.soa)
}

// sameSOA says whether two SOA records are the same, their TTL included.
func sameSOA(a, b *dns.SOA) bool { return a.Hdr.Ttl == b.Hdr.Ttl && dns.IsDuplicate(a, b) }

// isUntold says whether NOTIFY is still to be sent for a serial, and takes it that it is now.
func (h *history) isUntold(serial uint32) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	untold := h.told != serial
	h.told = serial
	return untold
}

// tell sends NOTIFY until it is taken or there is something newer to tell.
func (o *outgoing) tell(ctx context.Context, notify func(zone string) error, serial uint32) {
	for wait := retell; wait <= maxRetell; wait *= 2 {
		err := notify(o.apex)
		o.mu.Lock()
		newer, news := o.told != serial, (err != nil) != o.failing
		o.failing = err != nil
		o.mu.Unlock()
		switch {
		case news && err != nil:
			log.Warningf("%s: %v", o.apex, err)
		case news:
			log.Infof("%s: NOTIFY is taken again", o.apex)
		}
		if err == nil || newer {
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done(): // the next generation takes it up
			o.mu.Lock()
			if o.told == serial {
				o.told = 0
			}
			o.mu.Unlock()
			return
		}
	}
}
