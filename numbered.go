package failover

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// numbered is a writer that gives the SOA records of the next plugins the serial numbers that go out.
type numbered struct {
	dns.ResponseWriter
	*transfers
}

// WriteMsg passes m on, or a copy where it has such a record in it: m is the next plugin's.
func (w *numbered) WriteMsg(m *dns.Msg) error {
	answer, changed := w.section(m.Answer, true)
	ns, more := w.section(m.Ns, false)
	if !changed && !more {
		return w.ResponseWriter.WriteMsg(m)
	}
	r := *m
	r.Answer, r.Ns, r.Extra = answer, ns, slices.Clip(m.Extra)
	return w.ResponseWriter.WriteMsg(&r)
}

// section is a section with its SOA records as they go out.
func (w *numbered) section(rrs []dns.RR, answer bool) (section []dns.RR, changed bool) {
	section = slices.Clip(rrs)
	for i, rr := range rrs {
		if soa, ok := rr.(*dns.SOA); ok {
			if !changed {
				section, changed = slices.Clone(rrs), true
			}
			section[i] = w.number(soa, answer)
		}
	}
	return section, changed
}

// number returns an SOA record of the next plugins with the serial number that goes out. The one that is asked for
// is the one that is transferred; one beside a denial of theirs keeps the time for which that may be remembered.
func (t *transfers) number(soa *dns.SOA, asked bool) *dns.SOA {
	o := (*t.outgoing.Load())[strings.ToLower(soa.Hdr.Name)]
	if o == nil || !o.fromBelow.Load() {
		return soa
	}
	mine := *soa
	mine.Serial += o.clock.Load()
	if asked {
		mine.Minttl = min(mine.Minttl, o.minimum)
	}
	return &mine
}
