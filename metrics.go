package failover

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/probe"
	"github.com/coredns-failover/failover/plugin/quorum"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const subsystem = "failover"

var (
	answers = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "answers_total",
		Help:      "Counter of answers by the tier they came from.",
	}, []string{"server", "pool", "tier"})

	probes = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "probes_total",
		Help:      "Counter of probes by their result.",
	}, []string{"kind", "result"})

	probeDuration = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Namespace:                   plugin.Namespace,
		Subsystem:                   subsystem,
		Name:                        "probe_duration_seconds",
		Buckets:                     plugin.TimeBuckets,
		NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
		Help:                        "Histogram of the time a probe took.",
	}, []string{"kind"})

	probeLateness = promauto.NewHistogram(prometheus.HistogramOpts{
		Namespace:                   plugin.Namespace,
		Subsystem:                   subsystem,
		Name:                        "probe_lateness_seconds",
		Buckets:                     plugin.TimeBuckets,
		NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
		Help:                        "Histogram of the time by which a probe began later than it was due.",
	})
)

var updates = promauto.NewCounterVec(prometheus.CounterOpts{
	Namespace: plugin.Namespace,
	Subsystem: subsystem,
	Name:      "updates_total",
	Help:      "Counter of names written to other servers by their result.",
}, []string{"server", "zone", "result"})

var operations = promauto.NewCounterVec(prometheus.CounterOpts{
	Namespace: plugin.Namespace,
	Subsystem: subsystem,
	Name:      "overrides_total",
	Help:      "Counter of what operators have decided, and of what has ended by itself.",
}, []string{"action"})

// lastSkip is the latest probe that could not ask.
var lastSkip skips

// skips are the probes that could not ask. They are over when there was none for a minute.
type skips struct {
	latest atomic.Int64 // the second of the latest
	since  atomic.Int64 // the second of the first
	why    atomic.Pointer[string]
}

// note takes a probe that could not ask, and reports whether it is the first.
func (s *skips) note(why string) (first bool) {
	now := time.Now().Unix()
	if now-s.latest.Swap(now) <= skipsOver {
		return false
	}
	s.since.Store(now)
	s.why.Store(&why)
	return true
}

// skipsOver is for how many seconds no probe is left out until all is well.
const skipsOver = 60

// failure is why probes are left out, and since when; "": none are.
func (s *skips) failure() (text string, since time.Time) {
	why := s.why.Load()
	if why == nil || time.Now().Unix()-s.latest.Load() > skipsOver {
		return "", time.Time{}
	}
	return "probes are left out: " + *why, time.Unix(s.since.Load(), 0)
}

// observeProbe counts a probe.
func observeProbe(kind string, err error, took, late time.Duration) {
	result := "pass"
	switch {
	case errors.Is(err, probe.ErrNotAsked):
		result = "skip"
		if lastSkip.note(fmt.Sprintf("%s: %v", kind, err)) {
			log.Warningf("Probes are left out: %s: %v", kind, err)
		}
	case err != nil:
		result = "fail"
	}
	probes.WithLabelValues(kind, result).Inc()
	probeDuration.WithLabelValues(kind).Observe(took.Seconds())
	probeLateness.Observe(late.Seconds())
}

// counters are a pool's counters of answers. A query finds its own without a lock: there are as many
// as the pool has tiers that have answered, on each of the few servers that have its block.
type counters struct {
	known atomic.Pointer[counterList] // replaced, never written to
}

type counterList []counter

type counter struct {
	server, tier string
	prometheus.Counter
}

func (c *counters) add(ctx context.Context, pool, tier string) {
	server := ""
	if s, ok := ctx.Value(dnsserver.Key{}).(*dnsserver.Server); ok {
		server = s.Addr
	}
	for {
		known := c.known.Load()
		for _, n := range known.list() {
			if n.tier == tier && n.server == server {
				n.Inc()
				return
			}
		}
		more := counterList(append(slices.Clip(known.list()), counter{server, tier, answerSeries.of(server, pool, tier)}))
		c.known.CompareAndSwap(known, &more) // it is in there the next time round, whoever has won
	}
}

// list is empty for nil.
func (l *counterList) list() []counter {
	if l == nil {
		return nil
	}
	return *l
}

// answerSeries knows which series of answers there are: a pool that is gone may have been counted by many
// generations of it, and to search all series for those of one pool takes long where there are many.
var answerSeries = seriesList{byPool: make(map[string][]prometheus.Labels)}

type seriesList struct {
	mu     sync.Mutex
	byPool map[string][]prometheus.Labels
}

func (l *seriesList) of(server, pool, tier string) prometheus.Counter {
	labels := prometheus.Labels{"server": server, "pool": pool, "tier": tier}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byPool[pool] = append(l.byPool[pool], labels)
	return answers.With(labels)
}

func (l *seriesList) forget(pool string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, labels := range l.byPool[pool] {
		answers.Delete(labels)
	}
	delete(l.byPool, pool)
}

// transitions counts the changes of members' statuses. It is not a CounterVec, whose two series for each pool
// would take more memory than all else that a small pool is.
var transitions = transitionList{byPool: make(map[string][3]uint32)}

var transitionDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "transitions_total"),
	"Counter of changes of a member's status by the status it changed to.", []string{"pool", "to"}, nil)

type transitionList struct {
	mu     sync.Mutex
	byPool map[string][3]uint32 // by the status
}

func (l *transitionList) count(pool string, to health.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.byPool[pool]
	n[to]++
	l.byPool[pool] = n
}

func (l *transitionList) forget(pool string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byPool, pool)
}

// Describe implements the prometheus.Collector interface.
func (l *transitionList) Describe(ch chan<- *prometheus.Desc) { ch <- transitionDesc }

// Collect implements the prometheus.Collector interface.
func (l *transitionList) Collect(ch chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for pool, counts := range l.byPool {
		for to, n := range counts {
			if n > 0 {
				ch <- prometheus.MustNewConstMetric(transitionDesc, prometheus.CounterValue, float64(n), pool, health.Status(to).String())
			}
		}
	}
}

// forgetSeries deletes the series of the pools of a generation that are in none of the others.
func forgetSeries(gone *generation, generations []*generation) {
	live := make(map[string]bool)
	for _, g := range generations {
		for name := range g.poolNames() {
			live[name] = true
		}
	}
	zones := make(map[place]bool)
	for _, g := range generations {
		for u := range g.updaters() {
			zones[place{server: u.server, zone: u.zone}] = true
		}
	}
	for u := range gone.updaters() {
		if !zones[place{server: u.server, zone: u.zone}] {
			updates.DeletePartialMatch(prometheus.Labels{"server": u.server.String(), "zone": u.zone})
		}
	}
	for name := range gone.poolNames() {
		if live[name] {
			continue
		}
		answerSeries.forget(name)
		transitions.forget(name)
	}
}

// poolNames are the names of the generation's pools in metrics.
func (g *generation) poolNames() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, p := range g.pools {
			if !yield(p.names[0]) {
				return
			}
		}
		for _, o := range g.overlays {
			if !yield(o.names[0]) {
				return
			}
		}
	}
}

// The gauges are not kept: they are read off the pools when somebody asks. So none can be out of date,
// and those of a member that is gone are gone with it.
var (
	memberUp = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "member_up"),
		"Gauge of a member's status: 1 up, 0 down, absent while unknown.", []string{"pool", "member"}, nil)
	certificateExpiry = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "certificate_expiry_timestamp_seconds"),
		"Gauge of the end of a member's certificate, as Unix time.", []string{"pool", "member"}, nil)
	members = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "members"),
		"Gauge of the members by their status.", []string{"pool", "status"}, nil)
	tier = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "tier"),
		"Gauge of the tier in use, from 0; -1 is the fallback.", []string{"pool"}, nil)
	unprobed = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "unprobed_total"),
		"Counter of the addresses in the next plugins' answers that are not probed, by what keeps them from it.", []string{"pool", "reason"}, nil)
	overridesNow = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "overrides"),
		"Gauge of the overrides in force.", []string{"action"}, nil)
	siteVotes = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "site_votes"),
		"Gauge of the targets that a site has a vote on.", []string{"site"}, nil)
	siteFresh = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "site_fresh"),
		"Gauge of the sites: 1 for one whose votes count.", []string{"site"}, nil)
	agreedBy = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "agreed"),
		"Gauge of the targets by how many sites have a vote on them.", []string{"voters"}, nil)
	disagreements = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "disagreements"),
		"Gauge of the targets that not all sites see alike.", nil, nil)
	shareErrors = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "share_errors_total"),
		"Counter of connections to etcd that failed or ended.", nil, nil)
	shareIgnored = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "share_ignored_total"),
		"Counter of keys in etcd that are not as they should be.", nil, nil)
	shareWrites = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "share_writes_total"),
		"Counter of keys written to etcd.", nil, nil)
	shareLatency = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "share_write_seconds"),
		"Gauge of the time that the last transaction took.", nil, nil)
	warningsNow = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "warnings"),
		"Gauge of the failures of the server itself: 1 for a kind that has one now.", []string{"kind"}, nil)
	updatesPending = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "updates_pending"),
		"Gauge of the names that are still to be written to another server.", []string{"server", "zone"}, nil)
)

func init() { prometheus.MustRegister(gauges{}, &transitions) }

// gauges is the collector of the gauges.
type gauges struct{}

// Describe implements the prometheus.Collector interface.
func (gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- memberUp
	ch <- certificateExpiry
	ch <- members
	ch <- tier
	ch <- unprobed
	ch <- updatesPending
	ch <- overridesNow
	ch <- warningsNow
	for _, d := range []*prometheus.Desc{siteVotes, siteFresh, agreedBy, disagreements, shareErrors, shareIgnored, shareWrites, shareLatency} {
		ch <- d
	}
}

// Collect implements the prometheus.Collector interface.
func (gauges) Collect(ch chan<- prometheus.Metric) {
	for to, n := range process.pending() {
		ch <- prometheus.MustNewConstMetric(updatesPending, prometheus.GaugeValue, float64(n), to.server.String(), to.zone)
	}
	for _, action := range override.Actions {
		n := 0
		for _, o := range process.Overrides() {
			if o.Action == action {
				n++
			}
		}
		ch <- prometheus.MustNewConstMetric(overridesNow, prometheus.GaugeValue, float64(n), string(action))
	}
	warnings := process.Warnings()
	for _, kind := range api.WarningKinds {
		n := 0.0
		if slices.ContainsFunc(warnings, func(w api.Warning) bool { return w.Kind == kind }) {
			n = 1
		}
		ch <- prometheus.MustNewConstMetric(warningsNow, prometheus.GaugeValue, n, kind)
	}
	process.collectSites(ch)
	for name, r := range process.reports() {
		if r.tier != noTier {
			ch <- prometheus.MustNewConstMetric(tier, prometheus.GaugeValue, float64(r.tier), name)
		}
		for reason, n := range r.unprobed {
			ch <- prometheus.MustNewConstMetric(unprobed, prometheus.CounterValue, float64(n), name, reason)
		}
		for member, end := range r.certificates {
			ch <- prometheus.MustNewConstMetric(certificateExpiry, prometheus.GaugeValue, float64(end.Unix()), name, member)
		}
		var count [3]int
		for member, status := range r.members {
			count[status]++
			if status != health.Unknown {
				up := 0.0
				if status == health.Up {
					up = 1
				}
				ch <- prometheus.MustNewConstMetric(memberUp, prometheus.GaugeValue, up, name, member)
			}
		}
		for status, n := range count {
			ch <- prometheus.MustNewConstMetric(members, prometheus.GaugeValue, float64(n), name, health.Status(status).String())
		}
	}
}

// collectSites is Collect for what comes from the other sites.
func (r *registry) collectSites(ch chan<- prometheus.Metric) {
	all := r.sharing.sites()
	if all == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, s := range all.Sites() {
		fresh := 0.0
		if s.Fresh {
			fresh = 1
		}
		gauge(siteVotes, float64(s.Votes), s.Name)
		gauge(siteFresh, fresh, s.Name)
	}
	voters, disagreed := r.votes(all)
	for n, targets := range voters {
		gauge(agreedBy, float64(targets), strconv.Itoa(n))
	}
	gauge(disagreements, float64(disagreed))
	s := all.Stats()
	for d, n := range map[*prometheus.Desc]uint64{shareErrors: s.Errors, shareIgnored: s.Ignored, shareWrites: s.Writes} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	gauge(shareLatency, s.Latency.Seconds())
}

// votes counts the targets by how many sites have a vote on them, and those that not all see alike.
func (r *registry) votes(b ballot) (voters map[int]int, disagreed int) {
	voters = make(map[int]int)
	type own struct {
		key    quorum.Key
		status health.Status
	}
	var all []own
	r.monitorInUse().All(func(question string, target netip.AddrPort, k monitor.Known) {
		all = append(all, own{quorum.Key{Question: question, Target: target}, k.Status})
	})
	for _, o := range all {
		votes := b.Votes(o.key)
		voters[len(votes)+1]++
		if slices.ContainsFunc(votes, func(v quorum.Vote) bool { return v.Status != o.status }) {
			disagreed++
		}
	}
	return voters, disagreed
}

// pending is how many names are still to be written, by their zones.
func (r *registry) pending() map[place]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	pending := make(map[place]int)
	for _, g := range r.generations {
		for u := range g.updaters() {
			if n, open := u.pending(); open {
				pending[place{server: u.server, zone: u.zone}] += n
			}
		}
	}
	return pending
}

// updaters are those of the generation's outlets that write to other servers.
func (g *generation) updaters() iter.Seq[*updater] {
	return func(yield func(*updater) bool) {
		for _, o := range g.outlets {
			if u, ok := o.(*updater); ok && !yield(u) {
				return
			}
		}
	}
}

// report is the state of the pools of one name. There are several where server blocks with a view
// each answer for it; then the worst of them is what counts.
type report struct {
	tier     int
	members  map[string]health.Status
	unprobed map[string]uint64 // by the reason

	certificates map[string]time.Time // the end of each member's certificate; nil: none is known
}

// noTier is the tier in a report of overlays: each set that they choose from may use another.
const noTier = -2

// reportOf returns the report of a name, and begins it.
func reportOf(reports map[string]*report, name string) *report {
	if reports[name] == nil {
		reports[name] = &report{tier: noTier, members: make(map[string]health.Status), unprobed: make(map[string]uint64)}
	}
	return reports[name]
}

// certificate notes the end of a member's certificate, unless a sooner one is noted.
func (r *report) certificate(m string, end time.Time) {
	if end.IsZero() {
		return
	}
	if r.certificates == nil {
		r.certificates = make(map[string]time.Time)
	}
	if before, ok := r.certificates[m]; !ok || end.Before(before) {
		r.certificates[m] = end
	}
}

// member notes the status of a member, unless a worse one is noted.
func (r *report) member(m string, status health.Status) {
	if before, ok := r.members[m]; !ok || weight(status) > weight(before) {
		r.members[m] = status
	}
}

func (r *registry) reports() map[string]*report {
	r.mu.Lock()
	defer r.mu.Unlock()
	reports := make(map[string]*report)
	for _, g := range r.generations {
		for _, p := range g.pools {
			p.reportTo(reports)
		}
		for _, o := range g.overlays {
			o.reportTo(reports)
		}
	}
	return reports
}

func (p *livePool) reportTo(reports map[string]*report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.now.Load()
	if s == nil || p.silent {
		return
	}
	r := reportOf(reports, p.names[0])
	if r.tier != pool.InFallback && (s.Tier == pool.InFallback || int(s.Tier) > r.tier) {
		r.tier = int(s.Tier)
	}
	for i, status := range p.status {
		r.member(p.Member(i).String(), status)
	}
	if p.checks != nil && p.seesCertificates() {
		for i, end := range p.certificateEnds(p.home.generation.monitor, p.checks) {
			r.certificate(p.Member(i).String(), end)
		}
	}
}

func (o *overlay) reportTo(reports map[string]*report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.silent {
		return
	}
	r := reportOf(reports, o.names[0])
	for addr, f := range *o.known.Load() {
		r.member(addr.String(), f.status)
		if f.checks != nil && o.seesCertificates() {
			r.certificate(addr.String(), o.certificateEnds(o.generation.monitor, f.checks)[0])
		}
	}
	r.unprobed["allow"] += o.notAllowed.Load()
	r.unprobed["limit"] += o.overflowed.Load()
}
