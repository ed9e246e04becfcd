package failover

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/dnsname"
	"github.com/coredns-failover/failover/plugin/rrset"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/dynupdate"
	"github.com/coredns/coredns/plugin/file"
	"github.com/coredns/coredns/plugin/secondary"
	"github.com/coredns/coredns/plugin/transfer"

	"github.com/miekg/dns"
)

const (
	// gather is how long changes are waited for that come together: a member may be in many pools. What comes later
	// waits for the next second, which is the next serial number.
	gather = 50 * time.Millisecond

	// review is how often the editions are compared with what is answered: TTLs, and what the next plugins have, may
	// change without a transition.
	review = 10 * time.Second

	// catchUp is how far ahead of the clock a serial may be that is waited for.
	catchUp = 2
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

	apexes   map[string]bool                      // the names that may be the apex of a zone with names of pools in it
	outgoing atomic.Pointer[map[string]*outgoing] // by apex; replaced, never written to
	wake     chan struct{}
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu    sync.Mutex         // guards this
	pools map[*livePool]bool // what has moved since the last edition; nil: anything may have
}

// newTransfers makes the transfers of a block that has the transfer plugin. zones are those of the server block.
func newTransfers(b *block, key string, zones []string, handlers []plugin.Handler, notify func(string) error) *transfers {
	t := &transfers{block: b, key: key, zones: zones, handlers: handlers, notify: notify, wake: make(chan struct{}, 1)}
	t.apexes = possible(b, zones)
	before := t.before()
	all, clocks := make(map[string]*outgoing), make(map[*serial]bool)
	for _, h := range handlers { // what is there already has the right serial from the first answer on
		switch h.(type) {
		case file.File, *secondary.Secondary:
			t.take(all, zonesOf(h))
		}
	}
	for key, z := range b.generation.zones {
		if key.block != t.key || len(z.ns) == 0 || within(key.origin, all) {
			continue
		}
		t.warn(z)
		if o := all[key.origin]; o != nil {
			o.own, o.history = z, &history{clock: z.serial}
		} else {
			all[key.origin] = t.begin(key.origin, z, &history{clock: z.serial})
		}
		clocks[z.serial] = true
		if before == nil {
			z.serial.advance(nextSerial().Load())
		}
	}
	if before != nil {
		for apex, o := range *before.outgoing.Load() {
			if all[apex] == nil && o.fromBelow.Load() {
				t.take(all, []string{apex})
			}
			if all[apex] == nil {
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

// take begins those of the zones of a next plugin that have something of the block's in them.
func (t *transfers) take(all map[string]*outgoing, zones []string) {
	for _, apex := range zones {
		if all[apex] == nil && (t.apexes[apex] || t.block.overlays.find(apex) != nil) {
			all[apex] = t.begin(apex, nil, &history{clock: nextSerial()})
			all[apex].fromBelow.Store(true)
		}
	}
}

// nextSerial begins a second from now: that of now may be used up, by the process before.
func nextSerial() *serial {
	s := newSerial()
	s.Add(1)
	return s
}

// within says whether a name lies in one of the zones without being its apex.
func within(name string, zones map[string]*outgoing) bool {
	for apex := range zones {
		if apex != name && dnsname.IsBelow(name, apex) {
			return true
		}
	}
	return false
}

// warn says which name servers of a zone of our own have no address in it, where they should.
func (t *transfers) warn(z *zone) {
	for _, name := range z.ns {
		if e := t.block.names.find(name); dnsname.IsBelow(name, z.origin) && (e == nil || e.pool == nil) && !t.hasTransferers() {
			log.Warningf("%s names the server %s, which has no address there: secondaries and resolvers will not find it", z.origin, name)
		}
	}
}

// hasTransferers says whether any of the next plugins can transfer zones.
func (t *transfers) hasTransferers() bool {
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
		_, _, _ = t.update(o, asked, nil)
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
	t.mu.Lock()
	t.pools = nil
	t.mu.Unlock()
	t.poke()
}

// taken are the pools that have moved since it was called last; nil: anything may have changed.
func (t *transfers) taken() []*livePool {
	t.mu.Lock()
	defer t.mu.Unlock()
	var pools []*livePool
	if t.pools != nil {
		pools = slices.AppendSeq([]*livePool{}, maps.Keys(t.pools))
	}
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

// run makes new editions. It begins late: at the first start nobody listens yet for those who ask because of a NOTIFY.
func (t *transfers) run(ctx context.Context) {
	ticker := time.NewTicker(review)
	defer ticker.Stop()
	for why := reviewed; pause(ctx, max(gather, t.untilNext())); {
		t.publish(ctx, why)
		select {
		case <-t.wake:
			why = moved
		case <-ticker.C:
			why = reviewed
		case <-ctx.Done():
		}
	}
}

// pause waits, and says whether there is more to do after that.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// untilNext is how long it is until a new edition may have a greater serial than the latest without running ahead of
// the clock: else the next process would begin behind it. What is far ahead already is not waited for.
func (t *transfers) untilNext() time.Duration {
	now := time.Now()
	ahead := int32(-1)
	for _, o := range *t.outgoing.Load() {
		if a := int32(o.clock.Load() - second(now)); a <= catchUp { // #nosec G115 -- serials wrap
			ahead = max(ahead, a)
		}
	}
	return time.Duration(ahead)*time.Second + now.Truncate(time.Second).Add(time.Second).Sub(now)
}

// publish makes new editions where something has changed, and tells the secondaries.
func (t *transfers) publish(ctx context.Context, why occasion) {
	only := t.taken()
	if why == reviewed {
		t.discover()
	}
	for _, o := range *t.outgoing.Load() {
		e, _, err := t.update(o, why, only)
		switch {
		case errors.Is(err, errSigned):
		case errors.Is(err, transfer.ErrNotAuthoritative):
			t.drop(o)
		case err == nil && len(e.sets[rrset.Key{Owner: o.apex, Type: dns.TypeNS}]) > 0: // whoever asks is told why
			t.tell(ctx, o, e.soa.Serial)
		}
	}
}

// discover looks for zones of the next plugins that were not there before.
func (t *transfers) discover() {
	all := maps.Clone(*t.outgoing.Load())
	for _, h := range t.handlers {
		t.take(all, zonesOf(h))
	}
	t.outgoing.Store(&all)
}

// drop forgets a zone that the next plugins do not have any more.
func (t *transfers) drop(o *outgoing) {
	all := maps.Clone(*t.outgoing.Load())
	delete(all, o.apex)
	t.outgoing.Store(&all)
}

// possible are the names of a block's pools and overlays and what is above them in the zones of the server block.
func possible(b *block, zones []string) map[string]bool {
	apexes := make(map[string]bool)
	above := func(name string) {
		top := dnsname.LongestZone(name, zones)
		for off, end := 0, false; !end && !apexes[name[off:]] && len(name[off:]) >= len(top); off, end = dns.NextLabel(name, off) {
			apexes[name[off:]] = true
		}
	}
	for name, e := range b.names.entries {
		if e.pool != nil {
			above(name)
		}
	}
	for _, c := range b.overlays {
		above(c.name)
	}
	return apexes
}

// zonesOf are the zones of a plugin that says which it has. kubernetes does not: it has one for each name that it is
// asked for.
func zonesOf(h plugin.Handler) []string {
	switch h := h.(type) {
	case file.File:
		return h.Names
	case *secondary.Secondary:
		return h.Names
	case *dynupdate.DynUpdate:
		return []string{h.Zone}
	case interface{ Names() []string }: // auto
		return h.Names()
	}
	return nil
}

// fetch is a zone as the next plugins have it; nil: they do not have it. It is known where the serial number says so.
func (t *transfers) fetch(apex string, known *base) (*base, error) {
	serial := uint32(0)
	if known != nil {
		serial = known.soa.Serial
	}
	for _, h := range t.handlers {
		tr, ok := h.(transfer.Transferer)
		if !ok || !slices.Contains(zonesOf(h), apex) {
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
	if err == nil && len(e.sets[rrset.Key{Owner: apex, Type: dns.TypeNS}]) == 0 {
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
	if o := (*t.outgoing.Load())[apex]; o != nil {
		e, j, err := t.update(o, asked, nil)
		if errors.Is(err, errSigned) {
			err = transfer.ErrNotAuthoritative // for the next plugin to send
		}
		return e, j, err
	}
	if t.block.generation.zones[zoneKey{t.key, apex}] != nil {
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
