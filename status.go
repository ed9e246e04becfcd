package failover

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/dnsname"
	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/quorum"
	"github.com/coredns-failover/failover/plugin/state"

	"github.com/miekg/dns"
)

// visible is a pool or an overlay, as far as there is something to see of it.
type visible interface {
	decided
	id() string
	document() api.Pool
	count(*api.Summary)
	isUnwell() bool
	block() *block
	keep() (s state.Pool, ok bool)
	covers(name string) (exactly, below bool)
}

// index is the pools and overlays that answer, for those who look. It is never written to.
type index struct {
	all  []visible // by name
	byID func() map[string]visible
}

func newIndex(all []visible) *index {
	slices.SortStableFunc(all, func(a, b visible) int { return strings.Compare(a.allNames()[0], b.allNames()[0]) })
	return &index{all, sync.OnceValue(func() map[string]visible {
		byID := make(map[string]visible, len(all))
		for _, v := range all {
			byID[v.id()] = v
		}
		return byID
	})}
}

// shown is the index of the pools that answer now. It is made once for each set of these.
func (r *registry) shown() *index {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index == nil {
		var all []visible
		for _, g := range r.generations {
			if g.replaces == nil {
				for _, d := range g.decided() {
					all = append(all, d.(visible))
				}
			}
		}
		r.index = newIndex(all)
	}
	return r.index
}

// Pools implements the [api.Source] interface, as do the methods below.
func (r *registry) Pools(q api.Query) (pools iter.Seq[api.Pool], total int) {
	var found []visible
	for _, v := range r.shown().all {
		if q.Unwell && !v.isUnwell() || !mentions(v, q.Text) {
			continue
		}
		if total++; total > q.Offset && len(found) < q.Limit {
			found = append(found, v)
		}
	}
	return func(yield func(api.Pool) bool) {
		for _, v := range found {
			if !yield(v.document()) {
				return
			}
		}
	}, total
}

// mentions says whether a text, in lower case, is in a name, a label or an address.
func mentions(s visible, text string) bool {
	return text == "" || slices.ContainsFunc(s.allNames(), func(name string) bool { return strings.Contains(name, text) }) ||
		slices.ContainsFunc(s.allMembers(), func(m pool.Member) bool { return strings.Contains(strings.ToLower(m.String()), text) })
}

func (r *registry) PoolsOf(name string) []api.Pool {
	var exact, below []api.Pool
	for _, s := range r.shown().all {
		switch exactly, isBelow := s.covers(name); {
		case exactly:
			exact = append(exact, s.document())
		case isBelow:
			below = append(below, s.document())
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return below
}

func (r *registry) PoolByID(id string) (p api.Pool, ok bool) {
	v, ok := r.shown().byID()[id]
	if ok {
		p = v.document()
	}
	return p, ok
}

func (r *registry) Summary() api.Summary {
	s := api.Summary{Overrides: r.overrides.Load().Len()}
	for _, v := range r.shown().all {
		v.count(&s)
	}
	return s
}

func (r *registry) Process() api.Process {
	host, _ := os.Hostname()
	p := api.Process{Version: Version, Host: host, Started: began, Now: time.Now()}
	if all := r.sharing.sites(); all != nil {
		for _, s := range all.Sites() {
			p.Sites = append(p.Sites, api.Site(s))
		}
	}
	return p
}

// began is when the process did, as nearly as it matters.
var began = time.Now()

func (p *livePool) block() *block { return p.home }

func (o *overlay) block() *block { return o.home }

// id tells a pool from others of its name.
func (p *livePool) id() string { return p.home.id(p.names[0]) }

func (o *overlay) id() string { return o.home.id(o.names[0]) + "#next" }

func (b *block) id(name string) string { return name + "@" + strings.ReplaceAll(b.key, " ", ",") }

func (p *livePool) covers(name string) (exactly, below bool) {
	for _, n := range p.names {
		place, wild := strings.CutPrefix(n, "*.")
		exactly = exactly || n == name
		below = below || wild && name != place && dnsname.IsBelow(name, place)
	}
	return exactly, below
}

func (o *overlay) covers(name string) (exactly, below bool) {
	return false, slices.ContainsFunc(o.names, func(n string) bool { return dnsname.IsBelow(name, n) })
}

func (p *livePool) isUnwell() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unwell
}

func (o *overlay) isUnwell() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range *o.known.Load() {
		if f.checks != nil && o.member(f).unwell() {
			return true
		}
	}
	return false
}

func (p *livePool) count(s *api.Summary) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Pools++
	if now := p.now.Load(); now != nil {
		switch {
		case now.Tier == pool.InFallback:
			s.Fallback++
		case now.Tier > 0:
			s.Backup++
		}
	}
	if p.unwell {
		s.Unwell++
	}
	for _, st := range p.status {
		countMember(s, st)
	}
}

func (o *overlay) count(s *api.Summary) {
	s.Pools++
	if o.isUnwell() {
		s.Unwell++
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range *o.known.Load() {
		countMember(s, f.status)
	}
}

func countMember(s *api.Summary, st health.Status) {
	s.Members++
	switch st {
	case health.Up:
		s.Up++
	case health.Down:
		s.Down++
	default:
		s.Unknown++
	}
}

// answerOf is what is given out with a snapshot.
func (p *livePool) answerOf(s *answer.Snapshot) api.Answer {
	a := api.Answer{Addresses: []string{}}
	if s == nil {
		return a
	}
	a.Tier, a.TTL, a.Turns = s.TierLabel(), int(s.TTL()), s.Rotates()
	a.Text, a.Since = s.Description(), time.Unix(0, p.since)
	v4, v6 := s.Records()
	for _, rrs := range [][]dns.RR{v4, v6} {
		for _, rr := range rrs {
			a.Addresses = append(a.Addresses, dns.Field(rr, 1))
		}
	}
	return a
}

func (o *overlay) answerOf() api.Answer {
	return api.Answer{Text: "what the next plugins answer", Addresses: []string{}, Turns: o.Order > pool.Sorted}
}

// about is what is the same for all pools of the same terms.
func about(p *pool.Pool, q *inquiry, manual bool, home *block, names []string) api.Pool {
	d := api.Pool{
		Name: names[0], Names: names, Block: strings.Join(home.zones, " "), View: home.view, Tiers: []api.Tier{},
		Fallback: p.Fallback.Word, Failback: "auto", Order: orders[p.Order], Hold: p.Hold.Seconds(),
		Interval: q.settings.Interval.Seconds(), Recheck: q.settings.Recheck.Seconds(), Timeout: q.settings.Timeout.Seconds(),
		Fall: q.settings.Fall, Window: q.settings.Window, Rise: q.settings.Rise, Require: q.need(),
		MinTTL: int(p.MinTTL.Seconds()), MaxTTL: int(p.MaxTTL.Seconds()),
	}
	if manual {
		d.Failback = "manual"
	}
	return d
}

// document is all there is to show of a pool.
func (p *livePool) document() api.Pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := about(p.whole(), p.inquiry, p.manual, p.home, p.names)
	s := p.now.Load()
	d.ID, d.Unwell, d.Answer, d.Began = p.id(), p.unwell, p.answerOf(s), time.Unix(0, p.began)
	if p.checks == nil { // it is about to go
		return d
	}
	members, reports, first := p.members(), p.reports(p.checks), 0
	for _, tier := range p.Tiers {
		t := api.Tier{Need: p.Min.Of(len(tier)), Members: make([]api.Member, 0, len(tier))}
		usable := 0
		for i, m := range tier {
			state := &members[first+i]
			if h := state.health(); h.Up && h.Held == 0 {
				usable++
			}
			t.Members = append(t.Members, p.memberDocument(m, state, reports[(first+i)*len(p.probes):][:len(p.probes)], p.Hold))
			if at, ok := p.joined(first + i); ok {
				t.Members[i].Began = at
			}
			t.Members[i].Answered = slices.Contains(d.Answer.Addresses, m.Addr.String())
		}
		t.Usable = usable >= t.Need
		d.Tiers = append(d.Tiers, t)
		first += len(tier)
	}
	return d
}

// document is all there is to show of an overlay.
func (o *overlay) document() api.Pool {
	o.mu.Lock()
	defer o.mu.Unlock()
	d := about(&pool.Pool{Policy: o.Policy}, &o.inquiry, o.manual, o.home, o.names)
	d.ID, d.Overlay, d.Answer, d.Began = o.id(), true, o.answerOf(), o.began
	t := api.Tier{Need: 1, Members: []api.Member{}}
	known := *o.known.Load()
	for _, addr := range slices.SortedFunc(maps.Keys(known), netip.Addr.Compare) {
		f := known[addr]
		if f.checks == nil {
			continue
		}
		state := o.member(f)
		reports := make([]monitor.Report, len(f.checks))
		o.generation.monitor.Reports(f.checks, reports)
		m := o.memberDocument(pool.Member{Addr: addr}, state, reports, o.Hold)
		m.Began = f.began
		m.Answered = state.health().Up && state.held == 0
		t.Members = append(t.Members, m)
		t.Usable, d.Unwell = t.Usable || m.Answered, d.Unwell || state.unwell()
	}
	d.Tiers = append(d.Tiers, t)
	return d
}

// reports reads checks for people to look at.
func (p *livePool) reports(checks []*monitor.Check) []monitor.Report {
	reports := make([]monitor.Report, len(checks))
	p.home.generation.monitor.Reports(checks, reports)
	return reports
}

// memberDocument is what there is to show of a member.
func (q *inquiry) memberDocument(m pool.Member, s *memberState, reports []monitor.Report, hold time.Duration) api.Member {
	d := api.Member{
		Member: m.String(), Address: address(m), Label: m.Label, Status: s.status.String(),
		Since: s.deciding.Since, Waiting: s.waiting, Override: s.override, Probes: make([]api.Probe, 0, len(reports)),
	}
	if s.status != health.Unknown {
		d.Why = q.why(s, hold)
	}
	if s.override != nil {
		d.Probed = s.probed.String()
		if s.override.Action != override.Drain {
			d.Since = s.override.Since
		}
	}
	if s.kept() {
		d.Returned = s.returned
	}
	if s.held > 0 && !s.waiting {
		d.Held = time.Now().Add(s.held)
	}
	switch latest := ended(reports); {
	case s.override != nil:
		d.Next = s.override.Until
	case !latest.IsZero():
		d.Next = latest.Add(s.soonest)
	}
	for i, r := range reports {
		d.Probes = append(d.Probes, q.probeDocument(i, netip.AddrPortFrom(m.Addr, m.Port), &r))
	}
	return d
}

// ended is when the latest of the probes did.
func ended(reports []monitor.Report) (latest time.Time) {
	for _, r := range reports {
		if r.Ended.After(latest) {
			latest = r.Ended
		}
	}
	return latest
}

// votes are those that count about the i-th question to a member, by site; none where ours is the only one.
func (q *inquiry) votes(b ballot, i int, member netip.AddrPort, r *monitor.Report) []api.Vote {
	all := b.Votes(q.key(i, member))
	if len(all) == 0 {
		return nil
	}
	if r.Status != health.Unknown {
		all = append(slices.Clip(all), quorum.Vote{Voter: b.Site(), Status: r.Status, Why: r.Why(&q.settings)})
	}
	slices.SortFunc(all, func(a, b quorum.Vote) int { return strings.Compare(a.Voter, b.Voter) })
	votes := make([]api.Vote, len(all))
	for i, v := range all {
		votes[i] = api.Vote{Site: v.Voter, Status: v.Status.String(), Why: v.Why}
	}
	return votes
}

// probeDocument is what there is to show of the i-th question to a member.
func (q *inquiry) probeDocument(i int, member netip.AddrPort, r *monitor.Report) api.Probe {
	d := api.Probe{
		Probe: q.probes[i].Word, Status: r.Status.String(), Since: r.Since,
		Against: r.Against, Needed: r.Needed, Due: r.Due, Trail: make([]float64, 0, len(r.Took)),
	}
	if r.Status != health.Unknown {
		d.Why = r.Why(&q.settings)
	}
	d.Certificate, d.Expiring = r.Cert.NotAfter, expiresSoon(q.probes[i].Prober, r.Cert, time.Now())
	if b := process.sharing.ballot(); b != nil && q.quorum != quorum.Own {
		d.Votes = q.votes(b, i, member, r)
	}
	for _, took := range r.Took {
		d.Trail = append(d.Trail, took.Seconds())
	}
	if len(r.Took) > 0 {
		d.Last = &api.Result{At: r.Ended, Passed: r.Passed, Took: r.Took[len(r.Took)-1].Abs().Seconds()}
		if !r.Passed && r.Err != nil {
			d.Last.Error = r.Err.Error()
		}
	}
	return d
}

// events is where the process keeps what happens.
type events struct{ api.Journal }

// transition notes that the status of a member has changed.
func (j *events) transition(of visible, m pool.Member, from, to health.Status, why, answer string) {
	if !j.Keeps() {
		return
	}
	j.Add(api.Event{Kind: "transition", PoolID: of.id(), Pool: of.allNames()[0], View: of.block().view, Member: m.String(),
		From: from.String(), To: to.String(), Why: why, Answer: answer})
}

// answered notes that a pool answers something else though no status has changed.
func (j *events) answered(p *livePool, why string) {
	if j.Keeps() {
		j.Add(api.Event{Kind: "answer", PoolID: p.id(), Pool: p.names[0], View: p.home.view, Why: why, Answer: p.now.Load().Description()})
	}
}

// overridden adds the event of a change of an override. e says who made the change and why, apart from who set the
// override and why.
func (j *events) overridden(e api.Event) {
	o := e.Override
	e.Kind, e.Pool, e.Member = "override", o.Pool, cmp.Or(o.Member, o.Label)
	j.Add(e)
}

// server notes what the server itself has done.
func (j *events) server(change, why string) {
	j.Add(api.Event{Kind: "server", Change: change, Why: why})
}

// touched notes that something about a pool has changed.
func (j *events) touched(of visible) {
	if j.Keeps() {
		j.Touch(of.id())
	}
}
