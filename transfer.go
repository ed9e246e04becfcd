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

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/auto"
	"github.com/coredns/coredns/plugin/file"
	"github.com/coredns/coredns/plugin/secondary"
	"github.com/coredns/coredns/plugin/transfer"

	"github.com/miekg/dns"
)

const (
	// together is how long changes are gathered that become one edition. A serial number counts seconds: with one
	// in each it never runs ahead of the clock, and a restart finds a greater one.
	together = time.Second

	// review is how often the editions are compared with what is answered: TTLs, and what the next plugins have, may
	// change without a transition.
	review = 10 * time.Second

	// NOTIFY is repeated as long as somebody does not take it: first after retell, at last after maxRetell.
	retell    = 10 * time.Second
	maxRetell = 10 * time.Minute
)

// errNoNS is the error for a zone that no secondary would take.
var errNoNS = errors.New("zone has no NS record, want ns NAME... in failover, or one in the zone file")

// transfers are the zones of a server block as they go out to secondaries.
type transfers struct {
	block    *block
	key      string // of the server block
	zones    []string
	handlers []plugin.Handler // the next plugins
	notify   func(zone string) error

	outgoing atomic.Pointer[map[string]*outgoing] // by apex; replaced, never written to
	wake     chan struct{}
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu sync.Mutex // guards the writing of outgoing
}

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

// newTransfers makes the transfers of a block that has the transfer plugin. zones are those of the server block.
func newTransfers(b *block, key string, zones []string, handlers []plugin.Handler, notify func(string) error) *transfers {
	t := &transfers{block: b, key: key, zones: zones, handlers: handlers, notify: notify, wake: make(chan struct{}, 1)}
	all, clocks := make(map[string]*outgoing), make(map[*serial]bool)
	for key, z := range b.generation.zones {
		if key.block != t.key || len(z.ns) == 0 {
			continue
		}
		o := t.begin(key.origin, z)
		t.warn(z)
		clocks[z.serial] = true
		z.serial = o.clock
		all[o.apex] = o
	}
	t.outgoing.Store(&all)
	for _, c := range b.overlays {
		c.changed = t.changed
	}
	for _, p := range b.pools { // these move with their editions
		p.serials = slices.DeleteFunc(p.serials, func(s *serial) bool { return clocks[s] })
	}
	return t
}

// warn says which name servers of a zone of our own have no address in it, where they should.
func (t *transfers) warn(z *zone) {
	for _, name := range z.ns {
		if e := t.block.names.find(name); isBelow(name, z.origin) && (e == nil || e.pool == nil) && !t.transfersBelow() {
			log.Warningf("%s names the server %s, which has no address there: secondaries and resolvers will not find it", z.origin, name)
		}
	}
}

// transfersBelow says whether any of the next plugins can transfer zones.
func (t *transfers) transfersBelow() bool {
	return slices.ContainsFunc(t.handlers, func(h plugin.Handler) bool { _, ok := h.(transfer.Transferer); return ok })
}

// begin makes a zone that goes out, with the history that it has.
func (t *transfers) begin(apex string, own *zone) *outgoing {
	o := &outgoing{apex: apex, own: own, minimum: math.MaxUint32, history: process.history(t.key, apex)}
	for key, z := range t.block.generation.zones {
		if key.block == t.key && (isBelow(key.origin, apex) || isBelow(apex, key.origin)) {
			o.minimum = min(o.minimum, z.ttl)
		}
	}
	switch {
	case o.history != nil:
	case own != nil:
		o.history = &history{clock: own.serial}
	default:
		o.history = &history{clock: newSerial()}
	}
	return o
}

// history is that of a zone in a generation that answers, or nil.
func (r *registry) history(block, apex string) *history {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.generations {
		for _, o := range g.outlets {
			if t, ok := o.(*transfers); ok && t.key == block {
				if zone := (*t.outgoing.Load())[apex]; zone != nil {
					return zone.history
				}
			}
		}
	}
	return nil
}

// open implements outlet.
func (t *transfers) open() {
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	t.wg.Go(func() { t.run(ctx) })
}

// close implements outlet. Those that wait for an answer to NOTIFY are left behind: the transfer plugin does not
// let go of it, but ends it itself within seconds.
func (t *transfers) close() {
	if t.cancel != nil {
		t.cancel()
		t.wg.Wait()
	}
}

// moved implements outlet.
func (t *transfers) moved(*livePool) { t.changed() }

// changed has new editions made soon.
func (t *transfers) changed() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run makes new editions, of what has changed within a second one. It begins a second late: at the first start
// nobody listens yet for those who ask because of a NOTIFY.
func (t *transfers) run(ctx context.Context) {
	ticker := time.NewTicker(review)
	defer ticker.Stop()
	pause := time.NewTimer(together)
	defer pause.Stop()
	full := true
	for {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		t.publish(ctx, full)
		pause.Reset(together)
		select {
		case <-t.wake:
			full = false
		case <-ticker.C:
			full = true
		case <-ctx.Done():
			return
		}
	}
}

// publish makes new editions where something has changed, and tells the secondaries. In full it looks at everything
// again, zones of the next plugins that were not there before included.
func (t *transfers) publish(ctx context.Context, full bool) {
	if full {
		t.discover()
	}
	for _, o := range *t.outgoing.Load() {
		e, _, err := t.update(o, full)
		if err != nil || len(e.sets[setKey{o.apex, dns.TypeNS}]) == 0 {
			continue // whoever asks is told why
		}
		if serial := e.soa.Serial; o.isUntold(serial) {
			go o.tell(ctx, t.notify, serial)
		}
	}
}

// discover looks for zones of the next plugins that have something of the block's in them.
func (t *transfers) discover() {
	if !t.transfersBelow() {
		return
	}
	for apex := range t.apexes() {
		t.find(apex)
	}
}

// apexes are the names that may be the apex of such a zone: for a pool its names and what is above them in the
// server block, and for an overlay the zones of those plugins that say which they have.
func (t *transfers) apexes() map[string]bool {
	apexes := make(map[string]bool)
	above := func(name string) {
		top := zoneOf(name, t.zones)
		for off, end := 0, false; !end && !apexes[name[off:]] && len(name[off:]) >= len(top); off, end = dns.NextLabel(name, off) {
			apexes[name[off:]] = true
		}
	}
	for name, e := range t.block.names.entries {
		if e.pool != nil {
			above(name)
		}
	}
	for _, c := range t.block.overlays {
		above(c.name)
		for _, h := range t.handlers {
			for _, zone := range zonesOf(h) {
				if isBelow(zone, c.name) {
					apexes[zone] = true
				}
			}
		}
	}
	return apexes
}

// zonesOf are the zones of a plugin that says which it has.
func zonesOf(h plugin.Handler) []string {
	switch h := h.(type) {
	case file.File:
		return h.Names
	case *secondary.Secondary:
		return h.Names
	case auto.Auto:
		return h.Names()
	}
	return nil
}

// find returns the zone of an apex that goes out; nil: there is none.
func (t *transfers) find(apex string) *outgoing {
	if o := (*t.outgoing.Load())[apex]; o != nil {
		return o
	}
	if b, err := t.fetch(apex, nil, true); b == nil || err != nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	all := maps.Clone(*t.outgoing.Load())
	if all[apex] == nil {
		all[apex] = t.begin(apex, nil)
		all[apex].fromBelow.Store(true)
		t.outgoing.Store(&all)
	}
	return all[apex]
}

// fetch is a zone as the next plugins have it, known where that is still so; nil: they do not have it. Without full
// it trusts the serial number.
func (t *transfers) fetch(apex string, known *base, full bool) (*base, error) {
	serial := uint32(0)
	if known != nil && !full {
		serial = known.soa.Serial
	}
	for _, h := range t.handlers {
		tr, ok := h.(transfer.Transferer)
		if !ok {
			continue
		}
		ch, err := tr.Transfer(apex, serial)
		if errors.Is(err, transfer.ErrNotAuthoritative) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return readBase(apex, ch, known)
	}
	return nil, nil
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
	if known == nil {
		return b, nil
	}
	deleted, added := difference(known.sets, b.sets)
	if records == 1 || len(deleted)+len(added) == 0 && len(missing([]dns.RR{b.soa}, []dns.RR{known.soa})) == 0 {
		return known, nil
	}
	return b, nil
}

// update makes a new edition of a zone if what is answered is not that of the latest, and returns the latest with
// the changes that led to it. No edition: it is nobody's zone any more.
func (t *transfers) update(o *outgoing, full bool) (*edition, journal, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, err := t.fetch(o.apex, o.base, full)
	if err != nil {
		return nil, journal{}, err
	}
	o.fromBelow.Store(b != nil)
	if b == nil && o.own == nil {
		return nil, journal{}, transfer.ErrNotAuthoritative
	}
	o.base = b
	next := &edition{sets: t.compose(o, full)}
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
	if len(c.deleted)+len(c.added) == 0 && len(missing([]dns.RR{c.from}, []dns.RR{c.to})) == 0 {
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

// transfer is what a secondary gets that asks for a zone: all of it for serial 0, the SOA alone where it has the
// latest edition or a later one, and else what has changed since or, where nobody knows, all of it.
func (t *transfers) transfer(apex string, serial uint32) ([]dns.RR, error) {
	o := (*t.outgoing.Load())[apex]
	if o == nil && t.apexes()[apex] {
		o = t.find(apex)
	}
	if o == nil {
		return nil, transfer.ErrNotAuthoritative
	}
	e, j, err := t.update(o, false)
	if err != nil {
		return nil, err
	}
	if len(e.sets[setKey{apex, dns.TypeNS}]) == 0 {
		log.Warningf("%s is not transferred: the %v", apex, errNoNS)
		return nil, errNoNS
	}
	if serial != 0 && !isAfter(e.soa.Serial, serial) {
		return []dns.RR{e.soa}, nil
	}
	if changes := j.since(serial); serial != 0 && changes != nil {
		return increments(changes), nil
	}
	return e.records(), nil
}

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

// Transfer implements the transfer.Transferer interface. It is not called without the transfer plugin.
func (f Failover) Transfer(zone string, serial uint32) (<-chan []dns.RR, error) {
	if f.transfers == nil {
		return nil, transfer.ErrNotAuthoritative
	}
	rrs, err := f.transfers.transfer(zone, serial)
	if err != nil {
		return nil, err
	}
	ch := make(chan []dns.RR, 1)
	ch <- rrs
	close(ch)
	return ch, nil
}

// numbered is a writer that gives the SOA records of the next plugins the serial numbers that go out.
type numbered struct {
	dns.ResponseWriter
	*transfers
}

// WriteMsg passes m on, or a copy where it has such a record in it: m is the next plugin's.
func (w *numbered) WriteMsg(m *dns.Msg) error {
	answer, changed := w.section(m.Answer, true)
	ns, more := w.section(m.Ns, false)
	if !changed && !more {
		return w.ResponseWriter.WriteMsg(m)
	}
	r := *m
	r.Answer, r.Ns, r.Extra = answer, ns, slices.Clip(m.Extra)
	return w.ResponseWriter.WriteMsg(&r)
}

// section is a section with its SOA records as they go out.
func (w *numbered) section(rrs []dns.RR, answer bool) (section []dns.RR, changed bool) {
	section = slices.Clip(rrs)
	for i, rr := range rrs {
		if soa, ok := rr.(*dns.SOA); ok {
			if !changed {
				section, changed = slices.Clone(rrs), true
			}
			section[i] = w.number(soa, answer)
		}
	}
	return section, changed
}

// number returns an SOA record of the next plugins with the serial number that goes out. The one that is asked for
// is the one that is transferred; one beside a denial of theirs keeps the time for which that may be remembered.
func (t *transfers) number(soa *dns.SOA, asked bool) *dns.SOA {
	o := (*t.outgoing.Load())[strings.ToLower(soa.Hdr.Name)]
	if o == nil || !o.fromBelow.Load() {
		return soa
	}
	mine := *soa
	mine.Serial += o.clock.Load()
	if asked {
		mine.Minttl = min(mine.Minttl, o.minimum)
	}
	return &mine
}
