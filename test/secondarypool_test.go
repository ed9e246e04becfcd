package test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// soon is how long a secondary may take for a change that the primary answers already: a second in which changes are
// gathered, another for NSD, and a rest for a busy machine.
const soon = 5 * time.Second

// contents is a zone's records as a set: sorted, in lower case, each once, the SOA without its serial.
func contents(rrs []dns.RR) []string {
	var lines []string
	for _, rr := range rrs {
		rr = dns.Copy(rr)
		if soa, ok := rr.(*dns.SOA); ok {
			soa.Serial = 0
		}
		if rr.Header().Rrtype != peerNobody {
			lines = append(lines, strings.ToLower(rr.String()))
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// parsed are the records of a zone file.
func parsed(t testing.TB, text string) []dns.RR {
	t.Helper()
	var rrs []dns.RR
	zp := dns.NewZoneParser(strings.NewReader(text), "example.org.", "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		rrs = append(rrs, rr)
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	return rrs
}

// onlyOne are the lines that one of two zones has and the other has not.
func onlyOne(a, b []string) string {
	var lines []string
	for _, l := range a {
		if !slices.Contains(b, l) {
			lines = append(lines, "- "+l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			lines = append(lines, "+ "+l)
		}
	}
	return strings.Join(lines, "\n")
}

// rig is a primary with all pools, and three secondaries.
type rig struct {
	testing.TB
	*secondaries
	*server
	hosts    []*host
	corefile string
	secret   string
	random   *rand.Rand
	took     map[string][]time.Duration
}

// newRig starts a primary with the lines in its server block, and the secondaries.
func newRig(t testing.TB, secret string, hosts []*host, lines ...string) *rig {
	t.Helper()
	r := &rig{TB: t, secondaries: newSecondaries(t), hosts: hosts, secret: secret, random: rand.New(rand.NewPCG(seed, 1)), took: make(map[string][]time.Duration)}
	if secret != "" {
		lines = append(lines, tsig())
	}
	r.corefile = r.primaryBlock(append(lines, r.to())...)
	r.server = start(t, r.corefile)
	r.start(t, secret)
	t.Cleanup(func() {
		for program, took := range r.took {
			slices.Sort(took)
			t.Logf("%s has followed %d changes, in %v at the least, %v in the middle and %v at most", program, len(took), took[0], took[len(took)/2], took[len(took)-1])
		}
	})
	return r
}

// zone is the zone as the primary transfers it.
func (r *rig) zone() []dns.RR {
	r.Helper()
	rrs, err := transfer(new(dns.Msg).SetAxfr("example.org."), r.primary, home, r.secret)
	if err != nil {
		r.Fatalf("There is no transfer: %v", err)
	}
	return rrs
}

// same waits until a zone has the contents that are wanted.
func (r *rig) same(what string, zone func() []dns.RR, want func() []string) {
	r.Helper()
	var got, wanted []string
	if !within(soon, func() bool {
		got, wanted = contents(zone()), want()
		return slices.Equal(got, wanted)
	}) {
		r.Fatalf("%s is not what it shall be:\n%s", what, onlyOne(got, wanted))
	}
}

// settle waits until each secondary has the zone as the primary has it now.
func (r *rig) settle(what string) {
	r.Helper()
	began, left := time.Now(), maps.Clone(r.peers)
	var got, want []string
	if !within(soon, func() bool {
		want, _ = wholeZone(r.primary, home, r.secret)
		for program, p := range left {
			if got, _ = wholeZone(p.addr, home, ""); slices.Equal(got, want) {
				r.took[program] = append(r.took[program], time.Since(began).Round(time.Millisecond))
				delete(left, program)
			}
		}
		time.Sleep(20 * time.Millisecond) // whole zones are not asked for all the time
		return len(left) == 0
	}) {
		r.Fatalf("%s: not within %v the zone of the primary is that of all but %v:\n%s", what, soon, slices.Collect(maps.Keys(left)), onlyOne(got, want))
	}
}

// become has the members go into a state, and waits until the primary answers so.
func (r *rig) become(state poolState) {
	r.Helper()
	for i, h := range r.hosts {
		switch down := slices.Contains(state.down, i); {
		case down:
			h.stop()
		case h.server == nil:
			h.start()
		}
	}
	eventually(r, bound, state.what+": the pools answer", func() bool { return state.answersAs(r, r.primary) })
}

// flip has one of the members die or return at random.
func (r *rig) flip() {
	r.Helper()
	h, turns, lines := r.hosts[r.random.IntN(len(r.hosts))], " -> down", record(r)
	if h.server == nil {
		h.start()
		turns = "down -> up"
	} else {
		h.stop()
	}
	eventually(r, bound, h.addr+turns, func() bool {
		return slices.ContainsFunc(lines(h.addr+": "), func(line string) bool { return strings.Contains(line, turns) })
	})
}

// answered are the sets of the pools as the primary answers them, as far as they are not empty.
func (r *rig) answered() []string {
	r.Helper()
	var rrs []dns.RR
	ask := func(name string, qtype uint16) {
		for _, rr := range exchange(r, r.primary, "tcp", question(name, qtype)).Answer {
			if rr.Header().Rrtype == qtype {
				rrs = append(rrs, rr)
			}
		}
	}
	for _, names := range peerNames {
		for _, name := range names {
			ask(name, dns.TypeA)
			ask(name, dns.TypeAAAA)
		}
	}
	ask("web.example.org.", dns.TypeHTTPS)
	ask("_http._tcp"+peerServices, dns.TypeSRV)
	return contents(rrs)
}

// ofPools are the records of a zone that answered asks for.
func ofPools(rrs []dns.RR) []dns.RR {
	var found []dns.RR
	for _, rr := range rrs {
		name, rtype := strings.ToLower(rr.Header().Name), rr.Header().Rrtype
		isAddress := rtype == dns.TypeA || rtype == dns.TypeAAAA
		isName := false
		for _, names := range peerNames {
			isName = isName || slices.Contains(names, name)
		}
		if isAddress && isName || rtype == dns.TypeSRV && name == "_http._tcp"+peerServices || rtype == dns.TypeHTTPS && name == "web.example.org." {
			found = append(found, rr)
		}
	}
	return found
}

// flips changes the members at random, again and again, one or several between two transfers. The zone that goes out
// is always the one that is answered, and the secondaries' is the same, whatever they have missed.
func (r *rig) flips(rounds int) {
	r.Helper()
	for i := range rounds {
		for range 1 + r.random.IntN(3) {
			r.flip()
		}
		r.same(fmt.Sprintf("Round %d: the zone of the primary", i), func() []dns.RR { return ofPools(r.zone()) }, r.answered)
		r.settle(fmt.Sprintf("Round %d", i))
	}
}

// pools are the directives of peerPools, with more in their defaults.
func pools(hosts []*host, more ...string) string {
	text := strings.Replace(peerPools, "ttl      30s\n", "ttl      30s\n    "+strings.Join(more, "\n    ")+"\n", 1)
	text = strings.Replace(text, "400ms", "100ms", 1)
	return fmt.Sprintf(text, hosts[0], hosts[1], hosts[2], hosts[3])
}

// Three secondaries follow the pools over a zone file.
func TestSecondariesFile(t *testing.T) {
	hosts := members(t, peerMembers...)
	six(t)
	path := filepath.Join(t.TempDir(), "db.example.org")
	replace(t, path, peerRest+peerHidden)
	r := newRig(t, transferSecret, hosts, pools(hosts), "file "+path+" {\n reload 200ms\n}")
	lowered := strings.Replace(peerRest, "86400 300", fmt.Sprintf("86400 %d", peerTTL), 1)
	for _, state := range peerStates {
		r.become(state)
		want := contents(parsed(t, lowered+state.static(hosts)))
		r.same(state.what+": the zone of the primary", r.zone, func() []string { return want })
		r.settle(state.what)
	}
	r.flips(20)
	replace(t, path, strings.Replace(peerRest+peerHidden, "2026110101", "2026110102", 1)+"new 60 IN A 192.0.2.99\n")
	r.follow(t, "the new name", soon, func(addr string) bool {
		return addressOf(addr, "new.example.org.") == "192.0.2.99"
	})
	r.settle("a new zone file")
	r.flips(2)

	// Another state, and another process for all that the secondaries know.
	r.stop()
	for _, h := range hosts {
		if h.server == nil {
			h.start()
		}
	}
	hosts[0].stop()
	r.server = start(t, r.corefile)
	r.same("After a restart the zone of the primary", func() []dns.RR { return ofPools(r.zone()) }, r.answered)
	r.settle("a restart")
	r.flips(2)
}

// Three secondaries follow a zone that there is nothing of but pools.
func TestSecondariesAlone(t *testing.T) {
	hosts := members(t, peerMembers...)
	six(t)
	r := newRig(t, "", hosts, pools(hosts, "soa ns1.example.org hostmaster.example.org", "ns ns1.example.org ns.example.net"))
	for _, state := range peerStates {
		r.become(state)
		want := contents(parsed(t, fmt.Sprintf("@ %[1]d IN SOA ns1 hostmaster 0 60 10 86400 %[1]d\n", peerTTL)+state.static(hosts)))
		r.same(state.what+": the zone of the primary", func() []dns.RR {
			return slices.DeleteFunc(r.zone(), func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeNS })
		}, func() []string { return want })
		r.settle(state.what)
	}
	r.flips(6)
	r.stop()
	r.server = start(t, r.corefile)
	r.settle("a restart")
	r.flips(2)
}

// serialIn is the serial of a zone that was transferred.
func serialIn(rrs []dns.RR) uint32 { return rrs[0].(*dns.SOA).Serial }

// since is what the primary gives to a secondary that has a serial.
func (r *rig) since(serial uint32) ([]dns.RR, error) {
	r.Helper()
	return transfer(new(dns.Msg).SetIxfr("example.org.", serial, "ns.example.org.", "hostmaster.example.org."), r.primary, home, r.secret)
}

// patched is a zone with what an incremental transfer says has changed, or the zone that came instead of one. It does
// what RFC 1995 tells a secondary to do, and complains where that is not possible.
func patched(zone, ixfr []dns.RR) ([]dns.RR, error) {
	latest := ixfr[0].(*dns.SOA)
	if len(ixfr) == 1 {
		if latest.Serial != serialIn(zone) {
			return nil, fmt.Errorf("nothing has changed since %d, it says, at %d", serialIn(zone), latest.Serial)
		}
		return zone, nil
	}
	if second, ok := ixfr[1].(*dns.SOA); !ok {
		return ixfr, nil
	} else if second.Serial != serialIn(zone) {
		return nil, fmt.Errorf("the changes begin at %d, want %d", second.Serial, serialIn(zone))
	}
	now, adding := slices.Clone(zone[1:len(zone)-1]), true
	var at *dns.SOA
	for _, rr := range ixfr[1 : len(ixfr)-1] {
		same := func(o dns.RR) bool { return o.Header().Ttl == rr.Header().Ttl && dns.IsDuplicate(o, rr) }
		soa, isSOA := rr.(*dns.SOA)
		switch {
		case isSOA && adding && at != nil && soa.Serial != at.Serial:
			return nil, fmt.Errorf("a change begins at %d, and the one before ended at %d", soa.Serial, at.Serial)
		case isSOA:
			at, adding = soa, !adding
		case adding && slices.ContainsFunc(now, same):
			return nil, fmt.Errorf("it adds what is there: %v", rr)
		case adding:
			now = append(now, rr)
		case !slices.ContainsFunc(now, same):
			return nil, fmt.Errorf("it deletes what is not there: %v", rr)
		default:
			now = slices.DeleteFunc(now, same)
		}
	}
	if last := ixfr[len(ixfr)-1].(*dns.SOA); !adding || at == nil || at.Serial != latest.Serial || last.Serial != latest.Serial {
		return nil, fmt.Errorf("the changes end at %v, and the last SOA is %v, want the first one, %v", at, last, latest)
	}
	return slices.Concat([]dns.RR{latest}, now, []dns.RR{latest}), nil
}

// Of a change in a zone of a thousand names only the change is transferred, to those who know what was before.
func TestSecondariesIncrement(t *testing.T) {
	hosts := members(t, peerMembers[0], peerMembers[1])
	text := zoneFile
	for i := range 1000 {
		text += fmt.Sprintf("n%d.many 3600 IN A 127.2.%d.%d\n", i, i/250, i%250)
	}
	pool := fmt.Sprintf("failover www.example.org {\n primary %s\n backup %s\n interval 100ms\n recheck 20ms\n ttl 30s\n}", hosts[0], hosts[1])
	r := newRig(t, "", hosts, pool, "file "+write(t, "db.example.org", text)+" example.org")
	first := r.zone()
	for i := range 6 {
		before, said := r.zone(), record(t)
		if i%2 == 0 {
			hosts[0].stop()
		} else {
			hosts[0].start()
		}
		answers := func(addr string) bool {
			return addressOf(addr, "www.example.org.") == peerMembers[1-i%2]
		}
		eventually(t, bound, "the primary answers the other member", func() bool { return answers(r.primary) })
		r.follow(t, fmt.Sprintf("Change %d", i), soon, answers)
		r.settle(fmt.Sprintf("Change %d", i))
		for program, p := range r.peers {
			host, _, _ := strings.Cut(p.addr, ":")
			small := slices.ContainsFunc(said("Outgoing transfer of "), func(line string) bool {
				var n int
				_, err := fmt.Sscanf(line[strings.Index(line, "Outgoing"):], "Outgoing transfer of %d records", &n)
				return err == nil && n > 4 && n < 20 && strings.Contains(line, " to "+host+" ")
			})
			if !small {
				t.Errorf("Change %d: nothing small went out to %s: %q", i, program, said("Outgoing transfer of "))
			}
		}
		for _, from := range [][]dns.RR{first, before} {
			changes, err := r.since(serialIn(from))
			if err != nil || len(changes) < 5 || len(changes) > 2+4*(i+1) {
				t.Fatalf("Change %d: from %d on there are %d records, %v", i, serialIn(from), len(changes), err)
			}
			now, err := patched(from, changes)
			if err != nil {
				t.Fatalf("Change %d: %v, in\n%v", i, err, changes)
			}
			if got, want := contents(now), contents(r.zone()); !slices.Equal(got, want) {
				t.Errorf("Change %d makes another zone:\n%s", i, onlyOne(got, want))
			}
		}
	}
	now := serialIn(r.zone())
	if rrs, err := r.since(now); err != nil || len(rrs) != 1 {
		t.Errorf("Who has the latest gets %d records, %v, want the SOA", len(rrs), err)
	}
	for _, serial := range []uint32{serialIn(first) - 1, now - 1<<30} {
		if rrs, err := r.since(serial); err != nil || !slices.Equal(contents(rrs), contents(r.zone())) || len(rrs) < 1000 {
			t.Errorf("Who has serial %d gets %d records, %v, want the zone", serial, len(rrs), err)
		}
	}
}
