package failover

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// ddns is a primary for example.org that does what RFC 2136, section 3, says.
type ddns struct {
	mu      sync.Mutex
	zone    map[string]map[uint16][]dns.RR // by owner and type
	changes int                            // that is how far the serial has moved on
	asked   int                            // all messages
	writes  []string                       // the owners of the UPDATEs that were to change something, in their order
	takes   time.Duration                  // each message

	cut   string                             // a zone that it delegates
	err   error                              // nobody answers
	hangs bool                               // nor does anybody say that
	loses bool                               // what is asked is done, and no answer comes
	rcode func(owner string, m *dns.Msg) int // to say instead
}

func newDDNS(t *testing.T, records ...string) *ddns {
	t.Helper()
	d := &ddns{zone: make(map[string]map[uint16][]dns.RR), takes: 10 * time.Millisecond}
	d.add(t, append(records, "example.org. 300 SOA ns.example.org. hostmaster.example.org. 1 2 3 4 5")...)
	return d
}

// add adds records by hand.
func (d *ddns) add(t *testing.T, records ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			t.Fatal(err)
		}
		d.insert(rr)
	}
}

// remove takes a set of records away by hand.
func (d *ddns) remove(owner string, types ...uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range types {
		d.delete(owner, t)
	}
}

func (d *ddns) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// has is the data of a set of records.
func (d *ddns) has(owner string, t uint16) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var data []string
	for _, rr := range d.zone[owner][t] {
		data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(data)
	return strings.Join(data, " ")
}

func (d *ddns) counts() (changes, asked, writes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changes, d.asked, len(d.writes)
}

// send is in the place of an updater's exchange.
func (d *ddns) send(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	wire, err := m.Pack()
	if err != nil {
		return nil, err
	}
	m = new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		return nil, err
	}
	d.mu.Lock()
	takes, hangs := d.takes, d.hangs
	d.mu.Unlock()
	if hangs {
		takes = exchangeTimeout
	}
	if takes > 0 { // see sight.Probe
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if hangs {
		return nil, errors.New("no answer within 5s")
	}
	if d.err != nil {
		return nil, d.err
	}
	r := new(dns.Msg).SetReply(m)
	owner := m.Question[0].Name
	if m.Opcode == dns.OpcodeUpdate && len(m.Answer) > 0 {
		owner = m.Answer[0].Header().Name
	}
	if d.rcode != nil {
		if r.Rcode = d.rcode(owner, m); r.Rcode != dns.RcodeSuccess {
			return r, nil
		}
	}
	if m.Opcode == dns.OpcodeQuery {
		if r.Answer = d.find(m.Question[0]); d.cut != "" && dns.IsSubDomain(d.cut, m.Question[0].Name) {
			r.Answer, r.Ns = nil, []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: d.cut, Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: "ns.example.net."}}
		}
	} else {
		if len(m.Ns) > 0 {
			d.writes = append(d.writes, owner)
		}
		r.Rcode = d.update(m)
	}
	if d.loses {
		return nil, errors.New("EOF")
	}
	wire, err = r.Pack()
	if err != nil {
		return nil, err
	}
	r = new(dns.Msg)
	return r, r.Unpack(wire)
}

// find answers a query, also by a wildcard (RFC 4592).
func (d *ddns) find(q dns.Question) []dns.RR {
	sets, owner := d.zone[q.Name], q.Name
	if !d.exists(q.Name) {
		for off, end := dns.NextLabel(q.Name, 0); !end && sets == nil; off, end = dns.NextLabel(q.Name, off) {
			sets = d.zone["*."+q.Name[off:]]
			if d.exists(q.Name[off:]) {
				break
			}
		}
	}
	var rrs []dns.RR
	for _, rr := range append(slices.Clone(sets[dns.TypeCNAME]), sets[q.Qtype]...) {
		rr = dns.Copy(rr)
		rr.Header().Name = owner
		rrs = append(rrs, rr)
	}
	return rrs
}

// exists says whether there is anything at or below a name.
func (d *ddns) exists(name string) bool {
	for owner, sets := range d.zone {
		if len(sets) > 0 && dns.IsSubDomain(name, owner) {
			return true
		}
	}
	return false
}

// update evaluates an UPDATE.
func (d *ddns) update(m *dns.Msg) int {
	used := make(map[string]map[uint16][]dns.RR)
	for _, rr := range m.Answer { // section 3.2
		h := rr.Header()
		there := d.zone[h.Name][h.Rrtype]
		switch {
		case h.Ttl != 0:
			return dns.RcodeFormatError
		case !dns.IsSubDomain(m.Question[0].Name, h.Name):
			return dns.RcodeNotZone
		case h.Class == dns.ClassANY && len(there) == 0:
			return dns.RcodeNXRrset
		case h.Class == dns.ClassNONE && len(there) > 0:
			return dns.RcodeYXRrset
		case h.Class == dns.ClassINET:
			if used[h.Name] == nil {
				used[h.Name] = make(map[uint16][]dns.RR)
			}
			used[h.Name][h.Rrtype] = append(used[h.Name][h.Rrtype], rr)
		}
	}
	data := func(rrs []dns.RR) []string {
		var all []string
		for _, rr := range rrs {
			all = append(all, rdata(rr))
		}
		slices.Sort(all)
		return all
	}
	for owner, sets := range used {
		for t, rrs := range sets {
			if !slices.Equal(data(rrs), data(d.zone[owner][t])) {
				return dns.RcodeNXRrset
			}
		}
	}
	owners := make(map[string]bool)
	for _, rr := range m.Ns {
		owners[rr.Header().Name] = true
	}
	before := d.text(owners)
	for _, rr := range m.Ns { // section 3.4.2
		h := rr.Header()
		switch h.Class {
		case dns.ClassANY:
			d.delete(h.Name, h.Rrtype)
		case dns.ClassINET:
			d.insert(rr)
		}
	}
	if d.text(owners) != before {
		d.changes++
	}
	return dns.RcodeSuccess
}

func (d *ddns) insert(rr dns.RR) {
	h := rr.Header()
	sets := d.zone[h.Name]
	if sets == nil {
		sets = make(map[uint16][]dns.RR)
		d.zone[h.Name] = sets
	}
	if len(sets[dns.TypeCNAME]) > 0 && h.Rrtype != dns.TypeCNAME {
		return
	}
	if !slices.ContainsFunc(sets[h.Rrtype], func(o dns.RR) bool { return dns.IsDuplicate(o, rr) }) {
		sets[h.Rrtype] = append(sets[h.Rrtype], rr)
	}
}

func (d *ddns) delete(owner string, t uint16) {
	delete(d.zone[owner], t)
	if len(d.zone[owner]) == 0 {
		delete(d.zone, owner)
	}
}

// text is all that there is of some names.
func (d *ddns) text(owners map[string]bool) string {
	var lines []string
	for owner := range owners {
		for _, rrs := range d.zone[owner] {
			for _, rr := range rrs {
				lines = append(lines, rr.String())
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// at checks what a primary has, given as owner, type and data.
func (d *ddns) at(t *testing.T, what string, want ...string) {
	t.Helper()
	for i := 0; i < len(want); i += 2 {
		owner, kind, _ := strings.Cut(want[i], " ")
		if got := d.has(owner, dns.StringToType[kind]); got != want[i+1] {
			t.Errorf("%s: the primary has %s %q, want %q", what, want[i], got, want[i+1])
		}
	}
}
