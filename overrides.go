package failover

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/pool"

	"github.com/miekg/dns"
)

// The decisions of operators are those of the process: they outlive a Corefile.

// notFound is the error of a target that nothing matches.
type notFound string

func (e notFound) Error() string { return string(e) }

// Is makes it one of those that the status server tells apart.
func (e notFound) Is(target error) bool { return target == api.ErrNotFound }

// resolve brings a target as somebody has written it into the form in which members are found, and says whether there
// is a member that it is for.
func (r *registry) resolve(t override.Target) (override.Target, error) {
	if t.Pool != "" {
		t = inPool(t)
		if !slices.ContainsFunc(r.speaking(), func(d decided) bool { return slices.Contains(d.allNames(), t.Pool) }) {
			return t, notFound(fmt.Sprintf("no pool has the name %q", t.Pool))
		}
	}
	o := override.Override{Target: t, Action: override.Drain}
	if err := o.Check(); err != nil {
		return t, err
	}
	if len(r.affected(nil, new(override.Table).With(o))) == 0 {
		return t, noMember(o.Target)
	}
	return normal(o.Target), nil
}

// noMember is the error of a target that no pool has.
func noMember(t override.Target) error {
	where, what := "no pool has", fmt.Sprintf("the member %q", t.Member)
	if t.Pool != "" {
		where = fmt.Sprintf("pool %q does not have", t.Pool)
	}
	if t.Label != "" {
		what = fmt.Sprintf("a member with the label %q", t.Label)
	}
	return notFound(where + " " + what)
}

// inPool is a target in one pool as tables have it. What is no address there is a label.
func inPool(t override.Target) override.Target {
	t.Pool = dns.CanonicalName(t.Pool)
	if _, ok := override.ParseMember(t.Member); !ok && t.Label == "" {
		t.Member, t.Label = "", t.Member
	}
	return t
}

// normal is a target in the form of those in a table, as far as that can be told without a look at the members.
func normal(t override.Target) override.Target {
	if t.Pool != "" {
		t = inPool(t)
	}
	o := override.Override{Target: t, Action: override.Drain}
	if o.Check() != nil {
		return t
	}
	if m, ok := override.ParseMember(o.Member); ok && o.Pool != "" {
		o.Member = m.Addr().String() // a pool has it once
	}
	return o.Target
}

// address is a member as overrides name it.
func address(m pool.Member) string {
	m.Label = ""
	return m.String()
}

// decided is a pool or an overlay, as far as decisions bear on it.
type decided interface {
	allNames() []string
	allMembers() []pool.Member
	redecide(cause string)                                                 // has it make its answer anew
	preview(after *override.Table, back func(pool.Member) bool) api.Effect // what that would be
	letBackAll(which func(pool.Member) bool, dry bool) (waited []pool.Member)
}

// bearing is a pool or an overlay, and those of its members that a change bears on.
type bearing struct {
	decided
	members []pool.Member // never empty
}

// speaking are the pools and overlays of the Corefiles that answer.
func (r *registry) speaking() []decided {
	return r.decided(func(g *generation) bool { return g.replaces == nil })
}

// everybody are the pools and overlays of all generations, also of one that is about to answer.
func (r *registry) everybody() []decided { return r.decided(func(*generation) bool { return true }) }

func (r *registry) decided(of func(*generation) bool) []decided {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []decided
	for _, g := range r.generations {
		if of(g) {
			all = append(all, g.decided()...)
		}
	}
	return all
}

func (g *generation) decided() []decided {
	all := make([]decided, 0, len(g.pools)+len(g.overlays))
	for _, p := range g.pools {
		all = append(all, p)
	}
	for _, o := range g.overlays {
		all = append(all, o)
	}
	return all
}

// affected are the pools and overlays that answer for which two tables are not the same.
func (r *registry) affected(before, after *override.Table) []bearing {
	return differing(r.speaking(), before, after)
}

func differing(all []decided, before, after *override.Table) []bearing {
	var some []bearing
	for _, d := range all {
		names := d.allNames()
		members := slices.DeleteFunc(d.allMembers(), func(m pool.Member) bool {
			a, b := before.Find(names, m), after.Find(names, m)
			return a == b || a != nil && b != nil && a.Equal(b)
		})
		if len(members) > 0 {
			some = append(some, bearing{d, members})
		}
	}
	return some
}

// maxWarnings is how many pools without a usable tier a warning names. One more warning counts the others.
const maxWarnings = 20

// outcome is what it would do to put one table in the place of another, and to let the members of a target back that wait
// for it; zero: none. how says which of the effects are listed. bare reports whether a pool loses its last usable tier.
func (r *registry) outcome(before, after *override.Table, back override.Target, how api.How) (o api.Outcome, bare bool) {
	only := new(override.Table)
	if back != (override.Target{}) {
		only = only.With(override.Override{Target: back, Action: override.Drain})
	}
	all := r.affected(before, after)
	index := make(map[decided]int, len(all))
	for i, b := range all {
		index[b.decided] = i
	}
	for _, b := range r.affected(nil, only) {
		waiting := b.letBackAll(func(m pool.Member) bool { return only.Find(b.allNames(), m) != nil }, true)
		if i, ok := index[b.decided]; ok {
			for _, m := range waiting {
				if !slices.Contains(all[i].members, m) {
					all[i].members = append(all[i].members, m)
				}
			}
		} else if len(waiting) > 0 {
			all = append(all, bearing{b.decided, waiting})
		}
	}
	o = api.Outcome{Pools: len(all), Effects: []api.Effect{}, Warnings: []string{}}
	lost := 0
	for _, b := range all {
		o.Members += len(b.members)
		e := b.preview(after, func(m pool.Member) bool { return only.Find(b.allNames(), m) != nil })
		if severity(&e) == 0 {
			o.Unchanged++
			continue
		}
		for _, m := range b.members {
			e.Members = append(e.Members, m.String())
		}
		e.Member = e.Members[0]
		if e.Bare {
			if lost++; lost <= maxWarnings {
				o.Warnings = append(o.Warnings, fmt.Sprintf("%s would be left without a usable tier, and answer %s", e.Pool, cmp.Or(e.After.Text, "its fallback")))
			}
		}
		o.Effects = append(o.Effects, e)
	}
	switch more := lost - maxWarnings; {
	case more == 1:
		o.Warnings = append(o.Warnings, "1 further pool would be left without a usable tier")
	case more > 1:
		o.Warnings = append(o.Warnings, fmt.Sprintf("%d further pools would be left without a usable tier", more))
	}
	slices.SortStableFunc(o.Effects, func(a, b api.Effect) int { return severity(&b) - severity(&a) })
	o.Effects = o.Effects[min(how.Offset, len(o.Effects)):]
	if how.Limit > 0 {
		o.Effects = o.Effects[:min(how.Limit, len(o.Effects))]
	}
	return o, lost > 0
}

// severity orders effects, the worst last. It is 0 if the pool keeps its answer. The answer of an overlay is not known.
func severity(e *api.Effect) int {
	switch {
	case e.Bare:
		return 4
	case e.Before.Tier != e.After.Tier:
		return 3
	case e.Before.Text != e.After.Text || !slices.Equal(e.Before.Addresses, e.After.Addresses):
		return 2
	case e.Before.Tier == "":
		return 1
	}
	return 0
}

// Override puts an override in force. It implements the [api.Source] interface.
func (r *registry) Override(o override.Override, how api.How) (api.Outcome, error) {
	outcome, err := r.override(o, how)
	if err == nil {
		r.lasting(&outcome, false)
	}
	return outcome, err
}

// override is Override, without a word on how the decision lasts.
func (r *registry) override(o override.Override, how api.How) (api.Outcome, error) {
	r.deciding.Lock()
	defer r.deciding.Unlock()
	var err error
	if o.Target, err = r.resolve(o.Target); err != nil {
		return api.Outcome{}, sourceError(err)
	}
	if err := o.Check(); err != nil {
		return api.Outcome{}, sourceError(err)
	}
	before := r.overrides.Load()
	after := before.With(o)
	outcome, bare := r.outcome(before, after, override.Target{}, how)
	outcome.Override, outcome.DryRun = &o, how.DryRun
	switch {
	case how.DryRun:
		return outcome, nil
	case bare && !how.Force:
		return outcome, api.ErrBare
	}
	r.put(after)
	if s := r.sharing.sites(); s != nil {
		s.Override(o)
	}
	was := ""
	if replaced := before.Get(o.Target); replaced != nil {
		was = "; it was " + replaced.String()
	}
	log.Infof("Override of %s: %s%s", o.Target, &o, was)
	operations.WithLabelValues(string(o.Action)).Inc()
	r.events.overridden(api.Event{Change: "set", Override: &o, Replaced: before.Get(o.Target), By: o.Author, Why: o.Reason})
	r.redecide(before, after, "override of "+cmp.Or(o.Member, "label "+o.Label)+", "+o.String())
	return outcome, nil
}

// Clear ends the override of a target, and lets members back that wait for it. It implements the [api.Source]
// interface.
func (r *registry) Clear(t override.Target, by api.By, how api.How) (api.Outcome, error) {
	outcome, err := r.clear(t, by, how)
	if err == nil {
		r.lasting(&outcome, true)
	}
	return outcome, err
}

// lasting adds to an outcome whether the decision outlives the process, and whether the other sites have it. A decision
// that was taken waits for the state to be written: the file may have become unwritable just now.
func (r *registry) lasting(o *api.Outcome, cleared bool) {
	lost := r.sharing.cutOff()
	if lost != "" {
		o.Warnings = append(o.Warnings, "the other sites do not have this decision yet: "+lost)
	} else if r.sharing.sites() != nil {
		return // the others keep it
	}
	failure, _ := r.state.failure()
	if !o.DryRun {
		failure = r.state.confirm()
	}
	const ends = "this decision does not survive a restart of the server: "
	switch {
	case failure != "":
		o.Warnings = append(o.Warnings, ends+failure)
	case r.state.writer.Load() != nil:
	case lost != "":
		o.Warnings = append(o.Warnings, ends+"the Corefile has no state")
	case !cleared:
		o.Notes = append(o.Notes, ends+"the Corefile has no state")
	}
}

// clear is Clear, without a word on how the decision lasts.
func (r *registry) clear(t override.Target, by api.By, how api.How) (api.Outcome, error) {
	r.deciding.Lock()
	defer r.deciding.Unlock()
	before := r.overrides.Load()
	resolved, err := r.resolve(t)
	if written := normal(t); before.Get(written) != nil { // it may be for a member that there is no more
		resolved, err = written, nil
	}
	if err != nil {
		return api.Outcome{}, sourceError(err)
	}
	o := before.Get(resolved)
	after := before.Without(resolved)
	waits := r.letBack(resolved, true)
	if o == nil && !waits {
		return api.Outcome{}, sourceError(r.nothingToClear(resolved))
	}
	outcome, bare := r.outcome(before, after, resolved, how)
	outcome.DryRun = how.DryRun
	switch {
	case how.DryRun:
		return outcome, nil
	case bare && !how.Force:
		return outcome, api.ErrBare
	}
	if o != nil {
		who := ""
		if by != (api.By{}) {
			who = "; cleared" + by.String()
		}
		log.Infof("Override of %s is cleared: it was %s", resolved, o.String()+who)
	} else {
		log.Infof("Let back: %s%s", resolved, by)
	}
	operations.WithLabelValues("clear").Inc()
	if o != nil {
		r.put(after)
		if s := r.sharing.sites(); s != nil {
			s.Clear(resolved)
		}
		r.events.overridden(api.Event{Change: "cleared", Override: o, By: by.Author, Why: by.Reason})
	}
	if waits {
		r.letBack(resolved, false)
		if o == nil {
			r.events.overridden(api.Event{Change: "released", Override: &override.Override{Target: resolved}, By: by.Author, Why: by.Reason})
		}
	}
	r.redecide(before, after, "an override is cleared"+by.String())
	return outcome, nil
}

// nothingToClear is the error of a target without an override of its own. There may be a wider one.
func (r *registry) nothingToClear(t override.Target) error {
	for _, b := range r.affected(nil, new(override.Table).With(override.Override{Target: t, Action: override.Drain})) {
		if o := r.overrides.Load().Find(b.allNames(), b.members[0]); o != nil {
			return notFound(fmt.Sprintf("there is no override of %s, but that of %s bears on it", t, o.Target))
		}
	}
	return notFound(fmt.Sprintf("there is no override of %s, and no member of it waits to be let back", t))
}

// letBack lets the members of a target back that wait for it, and says whether there are any. dry only says so.
func (r *registry) letBack(target override.Target, dry bool) (waited bool) {
	only := new(override.Table).With(override.Override{Target: target, Action: override.Drain})
	told := make(map[string]bool)
	for _, d := range r.everybody() { // of a Corefile that is about to answer, too: it has its own memory
		names := d.allNames()
		for _, m := range d.letBackAll(func(m pool.Member) bool { return only.Find(names, m) != nil }, dry) {
			waited = true
			if s, what := r.sharing.sites(), names[0]+" "+address(m); s != nil && !dry && !told[what] {
				told[what] = true
				s.Let(names[0], address(m))
			}
		}
	}
	return waited
}

// put has a table in force, and sees to it that those of its overrides that end by themselves do.
func (r *registry) put(table *override.Table) {
	r.overrides.Store(table)
	if r.expiry != nil {
		r.expiry.Stop()
		r.expiry = nil
	}
	over, next := table.Expired(time.Now())
	if len(over) > 0 { // one of another site, whose clock is another, or that nobody has been there to end
		next = time.Now().Add(time.Second)
	}
	if !next.IsZero() {
		// No longer than a minute: the wall clock may be set, or stand still while the machine sleeps.
		r.expiry = time.AfterFunc(min(max(0, time.Until(next)), time.Minute), r.expire)
	}
}

// expire ends the overrides whose time is over.
func (r *registry) expire() {
	r.deciding.Lock()
	defer r.deciding.Unlock()
	before := r.overrides.Load()
	over, _ := before.Expired(time.Now())
	if len(over) == 0 {
		r.put(before)
		return
	}
	targets := make([]override.Target, 0, len(over))
	for _, o := range over {
		targets = append(targets, o.Target)
		log.Infof("Override of %s is over: %s", o.Target, &o)
		operations.WithLabelValues("expire").Inc()
		if s := r.sharing.sites(); s != nil {
			s.Over(o) // whatever the clocks of the others say
		}
		r.events.overridden(api.Event{Change: "expired", Override: &o})
	}
	after := before.Without(targets...)
	r.put(after)
	r.redecide(before, after, "an override is over")
}

// redecide has those make their answers anew for which two tables are not the same.
func (r *registry) redecide(before, after *override.Table, cause string) {
	for _, b := range differing(r.everybody(), before, after) {
		b.redecide(cause)
	}
	r.state.changed()
}

// Overrides are those in force. It implements the [api.Source] interface.
func (r *registry) Overrides() []override.Override { return r.overrides.Load().All() }

// sourceError is an error as the status server tells errors apart.
func sourceError(err error) error {
	if errors.Is(err, api.ErrNotFound) {
		return err
	}
	return fmt.Errorf("%w: %w", api.ErrInvalid, err)
}

func (p *livePool) allNames() []string { return p.names }

func (p *livePool) allMembers() []pool.Member {
	all := make([]pool.Member, 0, p.Size())
	for _, tier := range p.Tiers {
		all = append(all, tier...)
	}
	return all
}

func (p *livePool) redecide(cause string) { p.change(cause) }

// preview is what the pool would answer where the operator had decided so, and let members back that wait.
func (p *livePool) preview(after *override.Table, back func(pool.Member) bool) api.Effect {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := api.Effect{PoolID: p.id(), Pool: p.names[0], View: p.home.view, Before: p.answerOf(p.now.Load())}
	if p.checks == nil {
		e.After = e.Before
		return e
	}
	members := p.membersUnder(after)
	memberHealth := make([]pool.Health, len(members))
	for i := range members {
		if m := &members[i]; m.waiting && back(p.Member(i)) {
			m.waiting, m.held = false, 0
		}
		memberHealth[i] = members[i].health()
	}
	s := answer.New(p.answers, p.names[0], p.Choose(memberHealth, p.last))
	e.After = p.answerOf(s)
	e.After.Since = time.Time{} // it is not
	e.Bare = s.Tier == pool.InFallback && p.now.Load().Tier != pool.InFallback
	return e
}

// letBackAll lets the members back that wait for it, and returns them.
func (p *livePool) letBackAll(which func(pool.Member) bool, dry bool) (waited []pool.Member) {
	if !p.manual {
		return nil
	}
	p.mu.Lock()
	if p.checks == nil { // it has not begun, or has ended
		p.mu.Unlock()
		return nil
	}
	for i, m := range p.membersUnder(nil) { // an override hides that it waits, and does not end it
		if m.waiting && which(p.Member(i)) {
			waited = append(waited, p.Member(i))
			if !dry {
				p.let(i, time.Now())
			}
		}
	}
	p.mu.Unlock()
	if len(waited) > 0 && !dry {
		p.change("a member is let back")
	}
	return waited
}

func (o *overlay) allNames() []string { return o.names }

func (o *overlay) allMembers() []pool.Member {
	o.mu.Lock() // what is just being taken up is in there
	known := *o.known.Load()
	o.mu.Unlock()
	all := make([]pool.Member, 0, len(known))
	for addr := range known {
		all = append(all, pool.Member{Addr: addr})
	}
	slices.SortFunc(all, func(a, b pool.Member) int { return a.Addr.Compare(b.Addr) })
	return all
}

func (o *overlay) redecide(string) {
	o.mu.Lock() // what is just being taken up is in there
	known := *o.known.Load()
	o.mu.Unlock()
	for _, f := range known {
		f.Changed()
	}
}

// preview says little: what an overlay answers depends on what the next plugins do.
func (o *overlay) preview(*override.Table, func(pool.Member) bool) api.Effect {
	return api.Effect{PoolID: o.id(), Pool: o.names[0], View: o.home.view, Before: o.answerOf(), After: o.answerOf()}
}

func (o *overlay) letBackAll(which func(pool.Member) bool, dry bool) (waited []pool.Member) {
	if !o.manual {
		return nil
	}
	var back []*found
	o.mu.Lock()
	for _, f := range *o.known.Load() {
		if m := (pool.Member{Addr: f.addr}); f.checks != nil && o.member(f).waiting && which(m) {
			waited = append(waited, m)
			if !dry {
				f.letBack = time.Now()
				back = append(back, f)
			}
		}
	}
	o.mu.Unlock()
	for _, f := range back {
		f.Changed()
	}
	return waited
}
