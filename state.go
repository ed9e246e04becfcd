package failover

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/state"
)

// restore reads the state file of a generation. If there is a generation before it, the process knows what is newer, and
// only a file that is not to be written to counts.
func (g *generation) restore() {
	s := g.state
	if s == nil || g.replaces != nil && process.state.writes(s.file) {
		return
	}
	found, err := state.Read(s.file, s.maxAge, time.Now())
	if g.replaces == nil {
		g.kept = found
	} else if !errors.Is(err, state.ErrForeign) {
		return
	}
	if err != nil {
		log.Warningf("State: %v", err)
	}
	if errors.Is(err, state.ErrForeign) {
		process.mu.Lock()
		g.state, g.notKept = nil, "the state is not kept: "+err.Error()
		process.mu.Unlock()
	}
	if g.kept != nil && len(g.kept.Statuses) > 0 {
		log.Infof("State: beginning with the statuses of %d targets from %s", len(g.kept.Statuses), s.file)
	}
}

// adopt puts the overrides in force that a state file had, unless there are others of the same targets, and returns those
// of the file.
func (r *registry) adopt(k *state.Restored) []override.Override {
	if k == nil || len(k.Overrides) == 0 {
		return nil
	}
	r.deciding.Lock()
	defer r.deciding.Unlock()
	before := r.overrides.Load()
	after := new(override.Table).With(append(k.Overrides, before.All()...)...)
	for _, o := range k.Overrides {
		log.Infof("Override of %s, from the state file: %s", o.Target, &o)
	}
	r.put(after)
	r.redecide(before, after, "an override from the state file")
	adopted := k.Overrides
	k.Overrides = nil
	return adopted
}

// collect is what there is to keep now.
func (r *registry) collect() *state.Document {
	d := &state.Document{Format: state.Format, Version: state.Version, Saved: time.Now(), Overrides: r.Overrides()}
	byQuestion := make(map[string]int)
	r.monitorInUse().All(func(question string, target netip.AddrPort, k monitor.Known) {
		i, ok := byQuestion[question]
		if !ok {
			i = len(d.Questions)
			byQuestion[question], d.Questions = i, append(d.Questions, state.Question{Question: question})
		}
		t := state.Target{Target: target, Status: k.Status.String(), Since: k.Since, Back: k.Back}
		if k.Err != nil {
			t.Error = k.Err.Error()
		}
		d.Questions[i].Targets = append(d.Questions[i].Targets, t)
	})
	for _, v := range r.shown().all {
		if p, ok := v.keep(); ok {
			d.Pools = append(d.Pools, p)
		}
	}
	return d
}

// monitorInUse is that of the generation that answers.
func (r *registry) monitorInUse() *monitor.Monitor {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.generations) == 0 {
		return r.monitor
	}
	return r.generations[0].monitor
}

// keep is what has to be known of a pool beside the statuses of its members.
func (p *livePool) keep() (s state.Pool, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.manual && p.Fallback.Members != pool.Last && (p.more == nil || len(p.more.recovered) == 0) {
		return s, false
	}
	s.ID, s.Manual, s.LetBack = p.id(), p.manual, make(map[netip.AddrPort]time.Time)
	for _, i := range p.last {
		s.Last = append(s.Last, p.dialled(i))
	}
	if p.more != nil {
		for i, at := range p.more.letBack {
			s.LetBack[p.dialled(i)] = at
		}
		if len(p.more.recovered) > 0 {
			s.Recovered = make(map[netip.AddrPort]time.Time)
		}
		for i, at := range p.more.recovered {
			s.Recovered[p.dialled(i)] = at
		}
	}
	return s, true
}

// recall takes over what was kept of the pool.
func (p *livePool) recall(s state.Pool) {
	for i := range p.Size() {
		target := p.dialled(i)
		if slices.Contains(s.Last, target) {
			p.last = append(p.last, i)
		}
		if at, ok := s.LetBack[target]; ok && p.manual {
			p.let(i, at)
		}
		if at, ok := s.Recovered[target]; ok {
			p.recoveredAt(i, at)
		}
	}
}

func (o *overlay) keep() (s state.Pool, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.ID, s.Found, s.LetBack = o.id(), make(map[netip.Addr]time.Time), make(map[netip.AddrPort]time.Time)
	for addr, f := range *o.known.Load() {
		s.Found[addr] = f.belief.Load().worked
		if !f.letBack.IsZero() {
			s.LetBack[netip.AddrPortFrom(addr, 0)] = f.letBack
		}
		if f.recovered != nil {
			if s.Recovered == nil {
				s.Recovered = make(map[netip.AddrPort]time.Time)
			}
			s.Recovered[netip.AddrPortFrom(addr, 0)] = *f.recovered
		}
	}
	return s, true
}

// recall takes up the addresses that were kept of the overlay.
func (o *overlay) recall(s state.Pool) {
	known := make(map[netip.Addr]*found, len(s.Found))
	for addr, worked := range s.Found {
		if len(known) >= o.limit || !addr.IsValid() || addr.Zone() != "" || !o.mayProbe(addr) {
			continue
		}
		f := o.find(addr)
		f.letBack = s.LetBack[netip.AddrPortFrom(addr, 0)]
		if at, ok := s.Recovered[netip.AddrPortFrom(addr, 0)]; ok {
			f.recovered = &at
		}
		o.believe(f)
		f.remember(worked)
		f.status = f.belief.Load().status // what is known from before is no news
		known[addr] = f
	}
	o.known.Store(&known)
}

// keeper writes the state file. The zero value writes none.
type keeper struct {
	mu     sync.Mutex // one use after the other
	place  *statePlace
	writer atomic.Pointer[state.Writer] // nil: there is no place

	foreign atomic.Pointer[stateFailure] // a file that is not to be written to; nil: there is none
}

// stateFailure is why no state is kept although the Corefile asks for it.
type stateFailure struct {
	text  string
	since time.Time
}

// writes reports whether the state is written to a file.
func (k *keeper) writes(file string) bool {
	w := k.writer.Load()
	return w != nil && w.File == file
}

// failure is why the state is not kept as the Corefile says, and since when; "": it is kept, or is not to be.
func (k *keeper) failure() (text string, since time.Time) {
	if w := k.writer.Load(); w != nil {
		return w.Failure()
	}
	if f := k.foreign.Load(); f != nil {
		return f.text, f.since
	}
	return "", time.Time{}
}

// confirmation bounds the wait for a write of the state.
const confirmation = 2 * time.Second

// confirm waits until all that is known now is written, and returns why it is not; "": it is, or there is no place.
func (k *keeper) confirm() (failure string) {
	if w := k.writer.Load(); w != nil && !w.Confirm(confirmation) {
		return fmt.Sprintf("the state file %s is not written within %s", w.File, confirmation)
	}
	failure, _ = k.failure()
	return failure
}

// use has the state written to another place from now on; nil is nowhere. It writes what there is to the place before,
// first. The text notKept is why there is no place although the Corefile has one; "": it has none.
func (k *keeper) use(place *statePlace, notKept string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if notKept == "" {
		k.foreign.Store(nil)
	} else {
		k.foreign.Store(&stateFailure{notKept, time.Now()})
	}
	if place != nil && k.place != nil && place.file == k.place.file && place.maxAge == k.place.maxAge {
		return
	}
	if w := k.writer.Swap(nil); w != nil {
		w.Stop()
	}
	if k.place = place; place != nil {
		k.writer.Store(state.NewWriter(place.file, place.maxAge/4, process.collect, log))
	}
}

// changed notes that there is something new to write. It waits for nothing.
func (k *keeper) changed() {
	if w := k.writer.Load(); w != nil {
		w.Changed()
	}
}
