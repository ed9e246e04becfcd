package monitor

import (
	"iter"
	"net/netip"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
)

// Known is what was known of a target before.
type Known struct {
	Status health.Status
	Since  time.Time
	Back   bool  // see [State]
	Err    error // the latest failure; nil: there was none
}

// Recall has checks that are new begin with what recall knows of their targets, where it is ok; nil ends that. They are
// probed at once all the same.
func (m *Monitor) Recall(recall func(question string, target netip.AddrPort) (k Known, ok bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recall = recall
}

// All calls yield with what is known of each target that has a status. yield must not call the monitor.
func (m *Monitor) All(yield func(question string, target netip.AddrPort, k Known)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, first := range m.checks.chains {
		for c := first; c != nil; c = c.sibling {
			if c.Status != health.Unknown && c.isFirst(first) {
				yield(c.prober.String(), c.target(), Known{c.Status, m.epoch.Add(c.since), c.back, c.err})
			}
		}
	}
}

// isFirst says whether a check is the first with a status in its chain that asks this of its target: there may be
// others with other settings.
func (c *Check) isFirst(chain *Check) bool {
	for known := chain; known != c; known = known.sibling {
		if known.Status != health.Unknown && known.asks(c.prober.String(), c.to) {
			return false
		}
	}
	return true
}

func (c *Check) asks(question string, to packed) bool {
	return c.to == to && c.prober.String() == question
}

// Nudge tells those who watch targets that something else has changed that they go by. A question is what the String of
// its probe is. Each is told once, however many of his targets are among them.
func (m *Monitor) Nudge(asked iter.Seq2[string, netip.AddrPort]) {
	var watchers []Watcher
	for question, target := range asked {
		watchers = append(watchers, m.watchersOf(question, target)...)
	}
	nudge(watchers)
}

// NudgeAll is Nudge for all that is asked.
func (m *Monitor) NudgeAll() {
	m.mu.Lock()
	var watchers []Watcher
	for _, c := range m.checks.chains {
		for ; c != nil; c = c.sibling {
			watchers = append(watchers, c.watchers()...)
		}
	}
	m.mu.Unlock()
	nudge(watchers)
}

func nudge(watchers []Watcher) {
	told := make(map[Watcher]bool, len(watchers))
	for _, w := range watchers {
		if !told[w] {
			told[w] = true
			w.Changed()
		}
	}
}

// Asks says whether a target is asked a question.
func (m *Monitor) Asks(question string, target netip.AddrPort) bool {
	return len(m.watchersOf(question, target)) > 0
}

func (m *Monitor) watchersOf(question string, target netip.AddrPort) (watchers []Watcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	to := pack(target)
	for c := *m.checks.chain(question, to); c != nil; c = c.sibling {
		if c.asks(question, to) {
			watchers = append(watchers, c.watchers()...)
		}
	}
	return watchers
}

// Believed is what is known of a target, whatever the settings of those who ask: the one status for it that others are
// told. Not ok: nothing is.
func (m *Monitor) Believed(question string, target netip.AddrPort) (k Known, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	to := pack(target)
	for c := *m.checks.chain(question, to); c != nil; c = c.sibling {
		if c.Status != health.Unknown && c.asks(question, to) {
			return Known{c.Status, m.epoch.Add(c.since), c.back, c.err}, true
		}
	}
	return k, false
}
