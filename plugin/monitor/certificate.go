package monitor

import (
	"net/netip"

	"github.com/coredns-failover/failover/plugin/probe"
)

// OnCertificate has f called with each certificate that a probe sees. It is called before the first Acquire. f may be
// called by several goroutines at once, and must not wait.
func (m *Monitor) OnCertificate(f func(p probe.Prober, target netip.AddrPort, c probe.Certificate)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.certified = f
}

// certificateSeen notes the certificate of a target.
func (m *Monitor) certificateSeen(c *Check, cert probe.Certificate) {
	m.mu.Lock()
	if c.watcher != nil { // else it has been released, and nobody would delete it
		m.certificates[c] = cert
	}
	f := m.certified
	m.mu.Unlock()
	if f != nil {
		f(c.prober, c.target(), cert)
	}
}

// Certificates reads the latest certificates of several checks into a slice of the same length. A check whose target has
// shown none has the zero value.
func (m *Monitor) Certificates(checks []*Check, into []probe.Certificate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, c := range checks {
		into[i] = m.certificates[c]
	}
}
