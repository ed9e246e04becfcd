package failover

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/pool"

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
// the changes that led to it. No edition: it is nobody's zone any more.
func (t *transfers) update(o *outgoing, why occasion) (*edition, journal, error) {
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
	if why == asked && o.current != nil && b == o.base {
		return o.current, o.journal, nil
	}
	o.base = b
	next := &edition{sets: t.compose(o, why == reviewed)}
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

// compose makes the records of a zone: what the next plugins have of it, with what the block answers in its place.
//
// A set that is the same but for its TTL stays as it went out until two reviews in a row find the other TTL: a probe
// that fails once lowers it, and is not worth a transfer.
func (t *transfers) compose(o *outgoing, full bool) recordSets {
	before, drift := recordSets(nil), make(map[setKey]uint32)
	if o.current != nil {
		before = o.current.sets
	}
	sets := make(recordSets, len(before))
	put := func(key setKey, rrs []dns.RR) {
		was := before[key]
		if len(rrs) == 0 {
			delete(sets, key)
			return
		}
		ttl := rrs[0].Header().Ttl
		if sameData(was, rrs) {
			lately, ok := o.drift[key]
			if ttl == was[0].Header().Ttl || !full || !ok || lately != ttl {
				rrs = was
			}
			if ttl != was[0].Header().Ttl {
				drift[key] = ttl
			}
		}
		sets[key] = rrs
	}
	if o.base != nil {
		maps.Copy(sets, o.base.sets)
		t.overlay(o.apex, o.base.sets, before, put)
	} else {
		sets[setKey{o.apex, dns.TypeNS}] = o.own.nameservers(o.apex)
	}
	deeper := t.deeper(o.apex)
	for name, e := range t.block.names.entries {
		if e.pool == nil || !isBelow(name, o.apex) || slices.ContainsFunc(deeper, func(apex string) bool { return isBelow(name, apex) }) {
			continue
		}
		s := e.pool.now.Load()
		answered, ok := e.pool.sets(s, name, e.as)
		if !ok && s.choice.Reply == pool.Next {
			continue
		}
		for _, rtype := range e.pool.types(e.as) {
			key := setKey{name, rtype}
			if ok {
				put(key, answered[rtype])
			} else {
				put(key, before[key]) // no record says SERVFAIL or REFUSED
			}
			dropSignature(sets, key)
		}
		delete(sets, setKey{name, dns.TypeCNAME}) // beside other data there can be none
	}
	if full {
		o.drift = drift
	}
	return sets
}

// dropSignature drops the signature of a set that is not the one that was signed.
func dropSignature(sets recordSets, of setKey) {
	key := setKey{of.owner, dns.TypeRRSIG}
	if len(sets[key]) == 0 {
		return
	}
	sets[key] = slices.DeleteFunc(slices.Clone(sets[key]), func(rr dns.RR) bool { return rr.(*dns.RRSIG).TypeCovered == of.rtype })
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

// overlay puts the addresses of the next plugins right where an overlay covers them, but for those of another zone's
// servers.
func (t *transfers) overlay(apex string, theirs, before recordSets, put func(setKey, []dns.RR)) {
	if len(t.block.overlays) == 0 {
		return
	}
	var cuts []string
	for key := range theirs {
		if key.rtype == dns.TypeNS && key.owner != apex {
			cuts = append(cuts, key.owner)
		}
	}
	for key, rrs := range theirs {
		if !slices.Contains([]uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB}, key.rtype) {
			continue
		}
		c := t.block.overlays.find(key.owner)
		if c == nil || slices.ContainsFunc(cuts, func(cut string) bool { return isBelow(key.owner, cut) }) {
			continue
		}
		signed := slices.ContainsFunc(theirs[setKey{key.owner, dns.TypeRRSIG}], func(rr dns.RR) bool { return rr.(*dns.RRSIG).TypeCovered == key.rtype })
		if revised, ok := c.revised(rrs, signed); ok {
			put(key, revised)
		} else if before[key] != nil {
			put(key, before[key])
		}
	}
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
		case <-ctx.Done():
			return
		}
	}
}
