package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/coredns-failover/failover"
	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/probe"
)

const (
	// atOnce is how many probes are under way: a thousand members that do not answer at all take half a minute.
	atOnce = 64

	// programsAtOnce is how many of them may be programs: no more are run, and one that waits is not asked.
	programsAtOnce = 16
)

// The results of a probe.
const (
	pass    = "pass"
	fail    = "fail"
	unasked = "not asked" // for want of something here
)

// asked is one probe of one member of one pool.
type asked struct {
	Pool   string  `json:"pool"`
	Member string  `json:"member"`
	Probe  string  `json:"probe"`
	Result string  `json:"result"`
	Took   float64 `json:"took"` // seconds
	Words  string  `json:"error,omitempty"`

	certificate probe.Certificate
}

// question is what several pools may want to know of the same target.
type question struct {
	probe   string // see probe.Prober
	target  netip.AddrPort
	timeout time.Duration
}

// probeAll probes every member of every pool once, and says how many members failed: of which fewer probes passed than
// have to. The same question is asked once. It returns early, with less, when the context ends.
func probeAll(ctx context.Context, plan *failover.Plan) (all []asked, failed int) {
	answers := ask(ctx, plan)
	each(plan, func(p *failover.PlannedPool, m pool.Member) {
		passed := 0
		for _, spec := range p.Probes {
			a := answers[questionOf(p, m, spec)]
			if a.Result == pass {
				passed++
			}
			a.Pool, a.Member, a.Probe = p.Names[0], m.String(), spec.Word
			if p.View != "" {
				a.Pool += " (view " + p.View + ")"
			}
			all = append(all, a)
		}
		if passed < p.Require {
			failed++
		}
	})
	return all, failed
}

// each calls f for every member of every pool.
func each(plan *failover.Plan, f func(*failover.PlannedPool, pool.Member)) {
	for i := range plan.Pools {
		for _, tier := range plan.Pools[i].Tiers {
			for _, m := range tier {
				f(&plan.Pools[i], m)
			}
		}
	}
}

func questionOf(p *failover.PlannedPool, m pool.Member, spec probe.Spec) question {
	target, _ := spec.Target(netip.AddrPortFrom(m.Addr, m.Port)) // the plan has been checked: there is one
	return question{spec.String(), target, p.Settings.Timeout}
}

// ask asks every question once.
func ask(ctx context.Context, plan *failover.Plan) map[question]asked {
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex // guards answers
		answers  = make(map[question]asked)
		places   = make(chan struct{}, atOnce)
		programs = make(chan struct{}, programsAtOnce)
	)
	each(plan, func(p *failover.PlannedPool, m pool.Member) {
		for _, spec := range p.Probes {
			q, place := questionOf(p, m, spec), places
			mu.Lock()
			_, known := answers[q]
			if !known {
				answers[q] = asked{}
			}
			mu.Unlock()
			if known || ctx.Err() != nil {
				continue
			}
			if spec.Kind() == "exec" {
				place = programs
			}
			place <- struct{}{}
			wg.Go(func() {
				defer func() { <-place }()
				a := once(ctx, spec, q)
				mu.Lock()
				answers[q] = a
				mu.Unlock()
			})
		}
	})
	wg.Wait()
	return answers
}

// once asks one question.
func once(ctx context.Context, spec probe.Spec, q question) asked {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	began := time.Now()
	var cert probe.Certificate
	err := spec.Probe(probe.WithCertificate(ctx, &cert), q.target)
	a := asked{Result: pass, Took: time.Since(began).Seconds(), certificate: cert}
	if err != nil {
		a.Result, a.Words = fail, err.Error()
	}
	if errors.Is(err, probe.ErrNotAsked) {
		a.Result = unasked
	}
	return a
}

// sharedCertificates finds the pools whose members all show one certificate, though their probe fails before its end: all
// of them are down at the same moment then. probed is what probeAll returned.
func sharedCertificates(plan *failover.Plan, probed []asked) (all []finding) {
	next := 0
	for i := range plan.Pools {
		p := &plan.Pools[i]
		seen := make([]map[probe.Certificate]bool, len(p.Probes)) // by the probe
		for place := range p.Size() * len(p.Probes) {
			if next == len(probed) { // it was broken off
				return all
			}
			spec := place % len(p.Probes)
			if seen[spec] == nil {
				seen[spec] = make(map[probe.Certificate]bool)
			}
			seen[spec][probed[next].certificate] = true
			next++
		}
		for j, spec := range p.Probes {
			e, _ := probe.ExpiryOf(spec.Prober)
			if !e.Fails || p.Size() < 2 || len(seen[j]) != 1 || seen[j][probe.Certificate{}] {
				continue
			}
			all = append(all, finding{p.At("probe"), warning, fmt.Sprintf(
				"all members of pool %s show one certificate, so expires %s fail takes all of them down at the same moment; leave fail out", p.Names[0], exact(e.Period))})
		}
	}
	return all
}
