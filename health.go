package failover

import (
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/pool"
)

// livePool is a pool with the checks of its members and the answers that follow from them. There may be a hundred
// thousand of them.
type livePool struct {
	*terms
	*inquiry
	home    *block
	Tiers   [][]pool.Member
	names   []string  // it answers for, never empty; the first is its name in metrics
	serials []*serial // of the zones of the names

	now     atomic.Pointer[answer.Snapshot] // replaced, never written to; nil until start
	stale   atomic.Bool                     // something has changed since now was made
	settled atomic.Bool                     // every member has had a status when now was made
	turns   answer.Rotation
	counted counters

	mu      sync.Mutex       // guards the rest, among writers
	checks  []*monitor.Check // len(probes) of each member; nil before start and after stop
	status  []health.Status  // of each member, as last made known
	follows *following       // while silent; nil: nothing
	last    []int            // the members used before a fallback
	more    *poolMemory      // nil: nothing
	timer   *time.Timer      // the end of a hold
	since   int64            // it has given the answer of now, as [time.Time.UnixNano] has it
	began   int64            // the process has had the pool since then, in the same form
	silent  bool             // the generation before speaks for both
	unwell  bool             // something about it is out of the ordinary
}

// poolMemory is what few pools have to remember.
type poolMemory struct {
	letBack map[int]time.Time // when the operator did, with failback manual

	// recovered has the returns of members that other checks saw before a reload; see memberState.recover.
	recovered map[int]time.Time
	agreed    []agreement       // for each check, where there are several sites
	joined    map[int]time.Time // when a reload added a member, if it was not there from the beginning of the pool
	saidDown  map[int]bool      // the log says down, by probes of an earlier Corefile; no result of these probes yet
}

// terms are what a pool does with its members. Pools that were given the same have the same in memory.
type terms struct {
	*pool.Policy
	answers *answer.Config
	manual  bool // failback
	startup time.Duration
}

// following is a pool's predecessor in the generation before.
type following struct {
	before *livePool
	shared []int // for each member its index in before, or -1
	same   bool  // both ask the same, so the statuses of before hold
}

// poolKey finds the same pool in the next generation of the Corefile.
type poolKey struct{ block, name string }

func (p *livePool) key() poolKey { return poolKey{p.home.key, p.names[0]} }

// title is the pool's name in logs.
func (p *livePool) title() string { return p.home.titled(p.names[0]) }

// init makes p a pool that does nothing yet. like is one of its server block that may have the same terms, or nil.
func (p *livePool) init(c *config, home *block, like *livePool) {
	p.home, p.Tiers, p.names = home, c.Tiers, slices.Clip(c.names)
	p.terms = &terms{
		Policy:  c.Policy,
		answers: answer.NewConfig(c.Pool, c.services, c.https, c.params),
		manual:  c.manual,
		startup: c.startup,
	}
	p.inquiry = &inquiry{c.specs, c.require, c.settings, c.quorum}
	if like == nil {
		return
	}
	if reflect.DeepEqual(p.terms, like.terms) {
		p.terms = like.terms
	}
	if p.settings == like.settings && p.require == like.require && p.quorum == like.quorum && p.asksTheSame(like.inquiry) {
		p.inquiry = like.inquiry
	}
}

// Choose is [pool.Pool.Choose] for the pool's members.
func (p *livePool) Choose(memberHealth []pool.Health, last []int) pool.Choice {
	return p.whole().Choose(memberHealth, last)
}

// whole is the pool with its members.
func (p *livePool) whole() *pool.Pool {
	return &pool.Pool{Policy: p.Policy, Tiers: p.Tiers}
}

// Size is how many members the pool has in all its tiers.
func (p *livePool) Size() int { return (&pool.Pool{Tiers: p.Tiers}).Size() }

// Member is the member with an index over all tiers.
func (p *livePool) Member(i int) pool.Member { return (&pool.Pool{Tiers: p.Tiers}).Member(i) }

// dialled is the member with an index over all tiers, as probes have it.
func (p *livePool) dialled(i int) netip.AddrPort {
	m := p.Member(i)
	return netip.AddrPortFrom(m.Addr, m.Port)
}

// start acquires the checks and makes the first snapshot. before is this pool's predecessor, which
// is still answering, or nil. A pool that starts silent leaves it to speak to say what happens.
func (p *livePool) start(g *generation, before *livePool, silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent, p.began = silent, time.Now().UnixNano()
	p.checks = make([]*monitor.Check, 0, p.Size()*len(p.probes))
	for _, tier := range p.Tiers {
		for _, member := range tier {
			p.checks = p.acquire(p.checks, g.monitor, netip.AddrPortFrom(member.Addr, member.Port), p)
		}
	}
	p.status = make([]health.Status, p.Size())
	manual, held := before != nil && before.manual, map[int]bool(nil)
	if before != nil {
		held = p.follow(before)
	} else if g.kept != nil {
		known := g.kept.Pools[p.id()]
		manual = known.Manual
		p.recall(known)
	}
	members := p.members()
	if p.manual && !manual { // nobody has kept them out so far, unless at other sites
		for i := range members {
			if members[i].waiting && !p.isHeir(i) && !held[i] {
				p.let(i, time.Now())
			}
		}
		members = p.members()
	}
	if before == nil && g.kept != nil { // what is known from before is no news
		for i, m := range members {
			p.status[i] = m.status
		}
	}
	p.publish(members)
	if before == nil || !p.now.Load().Equal(before.now.Load()) {
		p.moved()
	} else {
		before.mu.Lock()
		p.since = before.since
		before.mu.Unlock()
	}
	p.announce(members)
}

// follow takes over from before what it knows of the members that both have, and returns those that before holds.
func (p *livePool) follow(before *livePool) (held map[int]bool) {
	before.mu.Lock()
	defer before.mu.Unlock()
	p.began = before.began
	target := func(m pool.Member) netip.AddrPort { return netip.AddrPortFrom(m.Addr, m.Port) }
	index := make(map[netip.AddrPort]int, p.Size())
	for i := range before.Size() {
		index[target(before.Member(i))] = i
	}
	shared := make([]int, p.Size())
	p.follows = &following{before, shared, p.asksTheSame(before.inquiry)}
	follower := make(map[int]int)
	for i := range shared {
		shared[i] = -1
		if j, ok := index[target(p.Member(i))]; ok {
			shared[i] = j
			if p.follows.same {
				p.status[i] = before.status[j]
				follower[j] = i
			}
			if at, ok := before.joined(j); ok {
				p.setJoined(i, at)
			}
		} else {
			p.setJoined(i, time.Now())
		}
	}
	held = p.followReturns(before, index)
	for _, j := range before.last {
		if i, ok := follower[j]; ok {
			p.last = append(p.last, i)
		}
	}
	if before.more == nil {
		return held
	}
	if per := len(before.probes); before.more.agreed != nil {
		for i := range p.Size() {
			if j, ok := index[target(p.Member(i))]; ok {
				copy(p.agreed()[i*len(p.probes):], p.inherit(before.inquiry, before.more.agreed[j*per:][:per]))
			}
		}
	}
	for i := range p.Size() {
		if j, ok := index[target(p.Member(i))]; ok {
			if at, ok := before.more.letBack[j]; ok {
				p.let(i, at)
			}
		}
	}
	return held
}

// followReturns takes over the returns of members that are held, where the checks of before saw them and those of p did
// not. A reload with another probe would end each hold, and let members back that wait for the operator. It returns the
// members that before holds.
func (p *livePool) followReturns(before *livePool, index map[netip.AddrPort]int) (held map[int]bool) {
	same, states := p.asksTheSame(before.inquiry), []memberState(nil)
	if before.checks != nil && (!same || p.manual != before.manual) {
		states = before.membersUnder(nil) // an override hides a hold, and does not end it
	}
	held = make(map[int]bool)
	for i := range p.Size() {
		j, ok := index[p.dialled(i)]
		if !ok {
			continue
		}
		if states != nil && states[j].kept() {
			held[i] = true
		}
		if states != nil && !same {
			if at := states[j].carried(p.manual && before.manual); at != nil {
				p.recoveredAt(i, *at)
			}
		} else if before.more != nil {
			if at, ok := before.more.recovered[j]; ok {
				p.recoveredAt(i, at)
			}
		}
	}
	return held
}

// recoveredAt notes a return that the checks do not know of.
func (p *livePool) recoveredAt(i int, at time.Time) {
	m := p.memory()
	if m.recovered == nil {
		m.recovered = make(map[int]time.Time)
	}
	m.recovered[i] = at
}

// memory is what the pool has to remember, which begins with this.
func (p *livePool) memory() *poolMemory {
	if p.more == nil {
		p.more = new(poolMemory)
	}
	return p.more
}

// agreed is what the voters have come to, for each check.
func (p *livePool) agreed() []agreement {
	m := p.memory()
	if m.agreed == nil {
		m.agreed = make([]agreement, p.Size()*len(p.probes))
	}
	return m.agreed
}

// isHeir says whether it was taken over from other sites that a member is kept out.
func (p *livePool) isHeir(i int) bool {
	per := len(p.probes)
	return p.more != nil && p.more.agreed != nil &&
		slices.ContainsFunc(p.more.agreed[i*per:][:per], func(a agreement) bool { return a.heirOf != nil })
}

// letBackAt is when the operator has let a member back last.
func (p *livePool) letBackAt(i int) time.Time {
	if p.more == nil {
		return time.Time{}
	}
	return p.more.letBack[i]
}

// let notes that the operator has let a member back.
func (p *livePool) let(i int, at time.Time) {
	m := p.memory()
	if m.letBack == nil {
		m.letBack = make(map[int]time.Time)
	}
	m.letBack[i] = at
}

// speak begins to make known what happens, with what has happened since before fell silent.
func (p *livePool) speak() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.checks == nil {
		return
	}
	p.silent = false
	if f := p.follows; f != nil {
		f.before.mu.Lock()
		for i, j := range f.shared {
			if j < 0 {
				continue
			}
			if f.same {
				p.status[i] = f.before.status[j]
			}
			if f.before.saidDown(j) && p.status[i] == health.Unknown {
				p.setSaidDown(i)
			}
		}
		f.before.mu.Unlock()
		p.follows = nil
	}
	p.announce(p.members())
}

// stop releases the checks. The latest answers stay: queries may still be on their way.
func (p *livePool) stop() {
	p.mu.Lock()
	checks := p.checks
	p.checks = nil
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	for _, c := range checks { // without p.mu: the last Release waits for probes, which call Changed
		p.home.generation.monitor.Release(c, p)
	}
	for i := range len(checks) / len(p.probes) {
		p.withdraw(p.dialled(i), p)
	}
}

// Changed makes a new snapshot of what is believed now. The monitor calls it.
func (p *livePool) Changed() { p.change("something else has changed") }

// holdEnded is called when the hold of a member has.
func (p *livePool) holdEnded() { p.change("a hold is over") }

// change makes a new snapshot of what is believed now. cause is why the answer changes where no status does.
// Of many calls at once the first does the work for all that came before it began.
func (p *livePool) change(cause string) {
	p.stale.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.checks == nil || !p.stale.Swap(false) {
		return
	}
	before, settled, members := p.now.Load(), p.settled.Load(), p.members()
	p.publish(members)
	news, said := p.announce(members)
	same := p.now.Load().Equal(before)
	if news || !same || p.settled.Load() != settled {
		p.moved()
	}
	if p.silent {
		return
	}
	if !said && !same {
		log.Infof("%s %s; now answering %s", p.title(), cause, p.now.Load().Description())
		process.events.answered(p, cause)
	}
	process.events.touched(p)
	if news || !same { // other things are written when the file is refreshed
		process.state.changed()
	}
}

// publish chooses, stores the answers and sees to it that they are made anew when a hold ends.
func (p *livePool) publish(members []memberState) {
	memberHealth := make([]pool.Health, len(members))
	var soonest time.Duration
	for i, s := range members {
		memberHealth[i] = s.health()
		if p.more != nil && s.probed == health.Down {
			delete(p.more.recovered, i) // the checks see its next return
		}
		if s.held > 0 && !s.waiting && (soonest == 0 || s.held < soonest) {
			soonest = s.held
		}
	}
	choice := p.Choose(memberHealth, p.last)
	p.unwell = choice.Tier != 0 || slices.ContainsFunc(members, memberState.unwell)
	if choice.Tier != pool.InFallback {
		p.remember(choice.Used, members)
	}
	if before := p.now.Load(); !before.MatchesChoice(&choice) {
		next := answer.New(p.answers, p.names[0], choice)
		if !next.Equal(before) {
			p.since = time.Now().UnixNano()
		}
		p.now.Store(next)
	}

	if soonest > 0 {
		p.wake(soonest)
	}
	if !p.settled.Load() && !slices.ContainsFunc(members, func(s memberState) bool { return s.status == health.Unknown }) {
		p.settled.Store(true)
		p.home.generation.settled(p.startup)
	}
}

// remember keeps the members used for the time when there are none. One that nobody has seen up yet is
// used, but has not worked.
func (p *livePool) remember(used []int, members []memberState) {
	up := make([]int, 0, len(used))
	for _, i := range used {
		if members[i].probed == health.Up {
			up = append(up, i)
		}
	}
	switch {
	case len(up) == 0 || slices.Equal(up, p.last):
	case len(up) <= len(first) && slices.Equal(up, first[:len(up)]):
		p.last = first[:len(up):len(up)]
	default:
		p.last = up
	}
}

// first are the members that most pools use. So these need not remember them each for itself.
var first = []int{0, 1, 2, 3, 4, 5, 6, 7}

// wake has Changed called after d.
func (p *livePool) wake(d time.Duration) {
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.holdEnded)
		return
	}
	p.timer.Reset(d)
}

// moved notes that what is answered has changed.
func (p *livePool) moved() {
	now := time.Now()
	for _, s := range p.serials {
		s.changed(now)
	}
	for _, o := range p.home.outlets {
		o.moved(p)
	}
}

// announce makes the transitions of members known, each by one count and one line in the log. news reports whether
// there were any, said whether it wrote a line. A first result that is up has no line: the summary of the start counts
// it, and the answer stays, because a member without a status counts as up. A pool of a Corefile that is still about
// to take over is silent: that may never come to it.
func (p *livePool) announce(members []memberState) (news, said bool) {
	if p.silent {
		return false, false
	}
	for i := range members {
		s := &members[i]
		if s.status == p.status[i] {
			continue
		}
		transitions.count(p.names[0], s.status)
		news = true
		if isFirstUp(p.status[i], s, p.saidDown(i)) {
			p.status[i] = s.status
			continue
		}
		if p.more != nil {
			delete(p.more.saidDown, i)
		}
		said = true
		log.Infof("%s %s: %s -> %s (%s); now answering %s",
			p.title(), p.Member(i), p.status[i], s.status, p.why(s, p.Hold), p.now.Load().Description())
		process.events.transition(p, p.Member(i), p.status[i], s.status, p.why(s, p.Hold), p.now.Load().Description())
		p.status[i] = s.status
	}
	return news, said
}

// isFirstUp reports whether a transition is the first result of a member, and this result is up. It is not if the
// operator has decided so, or if the log says that the member is down.
func isFirstUp(from health.Status, s *memberState, saidDown bool) bool {
	return from == health.Unknown && s.status == health.Up && s.override == nil && !saidDown
}

// joined returns when a reload added a member. ok is false if the member was there from the beginning of the pool.
func (p *livePool) joined(i int) (at time.Time, ok bool) {
	if p.more == nil {
		return at, false
	}
	at, ok = p.more.joined[i]
	return at, ok
}

// setJoined notes when a reload added a member.
func (p *livePool) setJoined(i int, at time.Time) {
	m := p.memory()
	if m.joined == nil {
		m.joined = make(map[int]time.Time)
	}
	m.joined[i] = at
}

// saidDown reports whether the last line of the log about a member says that it is down.
func (p *livePool) saidDown(i int) bool {
	return p.status[i] == health.Down || p.more != nil && p.more.saidDown[i]
}

// setSaidDown notes that the last line of the log about a member says that it is down.
func (p *livePool) setSaidDown(i int) {
	m := p.memory()
	if m.saidDown == nil {
		m.saidDown = make(map[int]bool)
	}
	m.saidDown[i] = true
}

// members reads all checks at one moment and works out what is believed of each member.
func (p *livePool) members() []memberState { return p.membersUnder(process.overrides.Load()) }

// membersUnder is members where the operator has decided so.
func (p *livePool) membersUnder(decided *override.Table) []memberState {
	states := make([]health.State, len(p.checks))
	p.home.generation.monitor.States(p.checks, states)
	now := time.Now()
	per := len(p.probes)
	members := make([]memberState, len(p.checks)/per)
	sites := process.sharing.ballot()
	if sites == nil && p.more != nil {
		p.more.agreed = nil // nobody agrees any more
	}
	for i := range members {
		if sites != nil {
			p.agree(sites, p.home.generation.monitor, p.dialled(i), states[i*per:(i+1)*per], p.agreed()[i*per:], now)
		}
		members[i] = combine(states[i*per:(i+1)*per], p.need(), p.Hold, now)
		if p.more != nil {
			if at, ok := p.more.recovered[i]; ok {
				members[i].recover(at, p.Hold, now)
			}
		}
		if p.manual {
			members[i].wait(p.letBackAt(i))
		}
		if sites != nil {
			p.cast(sites, p.dialled(i), p.agreed()[i*per:], members[i].kept(), p)
		}
		if decided.Any() {
			members[i].obey(decided.Find(p.names, p.Member(i)), now)
		}
	}
	return members
}
