package failover

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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

	apexes   map[string]bool                      // the names that may be the apex of a zone with something of the block's in it
	outgoing atomic.Pointer[map[string]*outgoing] // by apex; replaced, never written to
	wake     chan struct{}
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu    sync.Mutex         // guards the writing of outgoing, and
	pools map[*livePool]bool // what has moved since the last edition; nil: anything may have
}

// newTransfers makes the transfers of a block that has the transfer plugin. zones are those of the server block.
func newTransfers(b *block, key string, zones []string, handlers []plugin.Handler, notify func(string) error) *transfers {
	t := &transfers{block: b, key: key, zones: zones, handlers: handlers, notify: notify, wake: make(chan struct{}, 1)}
	t.apexes = t.possible()
	all, clocks := make(map[string]*outgoing), make(map[*serial]bool)
	for key, z := range b.generation.zones {
		if key.block == t.key && len(z.ns) > 0 {
			t.warn(z)
			all[key.origin] = t.begin(key.origin, z, &history{clock: z.serial})
			clocks[z.serial] = true
		}
	}
	for _, h := range handlers { // what is known already has the right serial from the first answer on
		for _, apex := range zonesOf(h) {
			if !t.apexes[apex] && b.overlays.find(apex) == nil {
				continue
			}
			if all[apex] == nil {
				all[apex] = t.begin(apex, nil, &history{clock: newSerial()})
			}
			all[apex].fromBelow.Store(true)
		}
	}
	if before := t.before(); before != nil {
		for apex, o := range *before.outgoing.Load() {
			if all[apex] == nil {
				all[apex] = t.begin(apex, nil, o.history)
				all[apex].fromBelow.Store(o.fromBelow.Load())
				continue
			}
			all[apex].history = o.history
			if own := all[apex].own; own != nil {
				own.serial = o.clock
			}
		}
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

// before are the transfers that these take over from; nil: there are none.
func (t *transfers) before() *transfers {
	if t.block.generation.replaces == nil {
		return nil
	}
	for _, o := range t.block.generation.replaces.outlets {
		if before, ok := o.(*transfers); ok && before.key == t.key {
			return before
		}
	}
	return nil
}

// open implements outlet. The first editions are those of the first answers, so that no change is missed; zones that
// come later have theirs when they are found.
func (t *transfers) open() {
	for _, o := range *t.outgoing.Load() {
		_, _, _ = t.update(o, asked)
	}
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
func (t *transfers) moved(p *livePool) {
	t.mu.Lock()
	if t.pools != nil {
		t.pools[p] = true
	}
	t.mu.Unlock()
	t.poke()
}

// changed has new editions made of which anything may be new.
func (t *transfers) changed() {
	t.doubt()
	t.poke()
}

// doubt takes note that it is not known what has changed.
func (t *transfers) doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pools = nil
}

// taken are the pools that have moved since it was called last; none: anything may have changed.
func (t *transfers) taken() []*livePool {
	t.mu.Lock()
	defer t.mu.Unlock()
	pools := slices.Collect(maps.Keys(t.pools))
	t.pools = make(map[*livePool]bool)
	return pools
}

// poke has new editions made soon.
func (t *transfers) poke() {
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
	why := reviewed
	for {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		t.publish(ctx, why)
		pause.Reset(together)
		select {
		case <-t.wake:
			why = moved
		case <-ticker.C:
			why = reviewed
		case <-ctx.Done():
			return
		}
	}
}

// publish makes new editions where something has changed, and tells the secondaries.
func (t *transfers) publish(ctx context.Context, why occasion) {
	only := t.taken()
	if why == reviewed {
		t.discover()
		only = nil
	}
	for _, o := range *t.outgoing.Load() {
		e, _, err := t.update(o, why, only...)
		if err != nil { // whoever asks is told why
			t.doubt()
			continue
		}
		if len(e.sets[setKey{o.apex, dns.TypeNS}]) == 0 {
			continue
		}
		if serial := e.soa.Serial; o.isUntold(serial) {
			go o.tell(ctx, t.notify, serial)
		}
	}
}

// discover looks for zones of the next plugins that were not there before.
func (t *transfers) discover() {
	if !t.transfersBelow() {
		return
	}
	for apex := range t.apexes {
		_, _ = t.find(apex) // what fails is looked for again
	}
	for _, zone := range t.covered() {
		_, _ = t.find(zone)
	}
}

// possible are the names of pools and overlays and what is above them in the server block.
func (t *transfers) possible() map[string]bool {
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
	}
	return apexes
}

// covered are the zones of the next plugins that lie in an overlay, as far as these say which they have.
func (t *transfers) covered() []string {
	var zones []string
	for _, h := range t.handlers {
		for _, zone := range zonesOf(h) {
			if t.block.overlays.find(zone) != nil {
				zones = append(zones, zone)
			}
		}
	}
	return zones
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
func (t *transfers) find(apex string) (*outgoing, error) {
	if o := (*t.outgoing.Load())[apex]; o != nil {
		return o, nil
	}
	if b, err := t.fetch(apex, nil); b == nil || err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	all := maps.Clone(*t.outgoing.Load())
	if all[apex] == nil {
		all[apex] = t.begin(apex, nil, &history{clock: newSerial()})
		all[apex].fromBelow.Store(true)
		t.outgoing.Store(&all)
	}
	return all[apex], nil
}

// fetch is a zone as the next plugins have it; nil: they do not have it. It is known where the serial number says so.
func (t *transfers) fetch(apex string, known *base) (*base, error) {
	serial := uint32(0)
	if known != nil {
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

// transfer is what a secondary gets that asks for a zone: all of it for serial 0, the SOA alone where it has the
// latest edition or a later one, and else what has changed since or, where nobody knows, all of it.
func (t *transfers) transfer(apex string, serial uint32) ([]dns.RR, error) {
	e, j, err := t.latest(apex)
	if err == nil && len(e.sets[setKey{apex, dns.TypeNS}]) == 0 {
		err = errNoNS
	}
	switch {
	case errors.Is(err, errNoNS):
		log.Warningf("%s is not transferred: the %v", apex, errNoNS)
		return nil, err
	case err != nil:
		return nil, err
	case serial == 0:
		return e.records(), nil
	case !isAfter(e.soa.Serial, serial):
		return []dns.RR{e.soa}, nil
	}
	if changes := j.since(serial); changes != nil {
		return increments(changes), nil
	}
	return e.records(), nil
}

// latest is the latest edition of a zone, and what has led to it.
func (t *transfers) latest(apex string) (*edition, journal, error) {
	ours := t.block.generation.zones[zoneKey{t.key, apex}] != nil
	if (*t.outgoing.Load())[apex] == nil && !ours && !t.apexes[apex] && t.block.overlays.find(apex) == nil {
		return nil, journal{}, transfer.ErrNotAuthoritative
	}
	o, err := t.find(apex)
	switch {
	case err != nil:
		return nil, journal{}, err
	case o != nil:
		return t.update(o, asked)
	case ours:
		return nil, journal{}, errNoNS
	}
	return nil, journal{}, transfer.ErrNotAuthoritative
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
