package failover

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/probe"
)

// certificateLog warns of certificates that expire soon, once for each: a thousand pools may share one.
type certificateLog struct {
	mu     sync.Mutex
	warned map[[16]byte]time.Time // the end of each certificate that the log has a line of, by its ID
}

// observe is called with each certificate that a probe sees.
func (l *certificateLog) observe(p probe.Prober, target netip.AddrPort, c probe.Certificate) {
	e, _ := probe.ExpiryOf(p)
	left := time.Until(c.NotAfter)
	if left >= e.Period {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.warned[c.ID]; ok {
		return
	}
	if l.warned == nil {
		l.warned = make(map[[16]byte]time.Time)
	}
	for id, end := range l.warned { // renewed long ago
		if time.Since(end) > 24*time.Hour {
			delete(l.warned, id)
		}
	}
	l.warned[c.ID] = c.NotAfter
	question, _, _ := strings.Cut(p.String(), " ")
	log.Warningf("Certificate of %s (%s) expires at %s, in %s: expires %s warns of it",
		target, question, c.NotAfter.UTC().Format(time.RFC3339), short(left.Truncate(time.Minute)), short(e.Period))
}

// expiresSoon reports whether a certificate is in the period before its end in which its probe warns.
func expiresSoon(p probe.Prober, c probe.Certificate, now time.Time) bool {
	e, _ := probe.ExpiryOf(p)
	return !c.NotAfter.IsZero() && c.NotAfter.Sub(now) < e.Period
}

// certificateEnd returns the end of the certificate of a member that ends first, from the certificates of its checks. It
// is zero if the member has shown none.
func certificateEnd(certs []probe.Certificate) (end time.Time) {
	for _, c := range certs {
		if !c.NotAfter.IsZero() && (end.IsZero() || c.NotAfter.Before(end)) {
			end = c.NotAfter
		}
	}
	return end
}

// seesCertificates reports whether any of the probes shakes hands.
func (q *inquiry) seesCertificates() bool {
	for _, spec := range q.probes {
		if _, ok := probe.ExpiryOf(spec.Prober); ok {
			return true
		}
	}
	return false
}

// certificateEnds returns the end of the certificate of each member, for the checks of several members.
func (q *inquiry) certificateEnds(m *monitor.Monitor, checks []*monitor.Check) []time.Time {
	certs := make([]probe.Certificate, len(checks))
	m.Certificates(checks, certs)
	per := len(q.probes)
	ends := make([]time.Time, len(checks)/per)
	for i := range ends {
		ends[i] = certificateEnd(certs[i*per : (i+1)*per])
	}
	return ends
}
