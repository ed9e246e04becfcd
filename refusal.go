package failover

import (
	"fmt"
	"sync"
	"time"

	"github.com/coredns-failover/failover/plugin/api"

	"github.com/coredns/coredns/plugin"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var refusedChanges = promauto.NewCounterVec(prometheus.CounterOpts{
	Namespace: plugin.Namespace,
	Subsystem: subsystem,
	Name:      "refused_changes_total",
	Help:      "Counter of requests for a change that were not allowed, by the reason.",
}, []string{"reason"})

func init() {
	for _, reason := range api.Refusals {
		refusedChanges.WithLabelValues(reason)
	}
}

// refusalPace is the least time between two lines of refused changes: a client that guesses tokens must not fill a disk.
const refusalPace = 10 * time.Second

// refusalLog writes a line for refused changes, at most one in refusalPace.
type refusalLog struct {
	mu     sync.Mutex
	last   time.Time
	silent int // since the last line
}

// maxRequest is how much of a request the line shows.
const maxRequest = 200

// add takes a refusal.
func (l *refusalLog) add(r api.Refusal, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.last.IsZero() && now.Sub(l.last) < refusalPace {
		l.silent++
		return
	}
	others := ""
	if l.silent > 0 {
		others = fmt.Sprintf(", and %d more before it", l.silent)
	}
	l.last, l.silent = now, 0
	log.Warningf("A change is refused (%s): %q from %s%s", r.Reason, r.Request[:min(len(r.Request), maxRequest)], r.Client, others)
}

// Refused implements the [api.Source] interface.
func (r *registry) Refused(refusal api.Refusal) {
	refusedChanges.WithLabelValues(refusal.Reason).Inc()
	r.refusals.add(refusal, time.Now())
}
