package failover

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/coredns-failover/failover/plugin/rrset"
	"github.com/miekg/dns"
)

// recordsOf are records as they stand in a zone file, separated by commas.
func recordsOf(t testing.TB, text string) []dns.RR {
	t.Helper()
	var rrs []dns.RR
	for line := range strings.SplitSeq(text, ", ") {
		rr, err := dns.NewRR(line)
		if err != nil || rr == nil {
			t.Fatalf("No record: %q: %v", line, err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

func setsOfZone(rrs []dns.RR) rrset.Sets {
	sets := make(rrset.Sets)
	for _, rr := range rrs {
		sets.Add(rrset.Key{Owner: rr.Header().Name, Type: rr.Header().Rrtype}, rr)
	}
	return sets
}

func editionOf(soa *dns.SOA, sets rrset.Sets) *edition {
	e := newEdition(sets)
	e.soa = soa
	return e
}

func soaOf(serial uint32) *dns.SOA {
	return &dns.SOA{Hdr: dns.RR_Header{Name: "example.org.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 5}, Ns: "ns.", Mbox: "m.", Serial: serial}
}

// inWords are records as text, in an order of their own.
func inWords(rrs []dns.RR) string {
	var words []string
	for _, rr := range rrs {
		words = append(words, strings.Join(strings.Fields(strings.ReplaceAll(rr.String(), "\tIN", "")), " "))
	}
	slices.Sort(words)
	return strings.Join(words, "\n")
}

func TestDifference(t *testing.T) {
	for _, tc := range []struct{ before, now, deleted, added string }{
		{"a. 5 A 192.0.2.1", "a. 5 A 192.0.2.1", "", ""},
		{"a. 5 A 192.0.2.1, a. 5 A 192.0.2.2", "a. 5 A 192.0.2.2, a. 5 A 192.0.2.1", "", ""}, // a set has no order
		{"a. 5 A 192.0.2.1, a. 5 A 192.0.2.2", "a. 5 A 192.0.2.2", "a. 5 A 192.0.2.1", ""},
		{"a. 5 A 192.0.2.1", "a. 6 A 192.0.2.1", "a. 5 A 192.0.2.1", "a. 6 A 192.0.2.1"},
		{"a. 5 A 192.0.2.1", "a. 5 AAAA 2001:db8::1", "a. 5 A 192.0.2.1", "a. 5 AAAA 2001:db8::1"},
		{`a. 5 TXT "A"`, `a. 5 TXT "a"`, `a. 5 TXT "A"`, `a. 5 TXT "a"`},
		{"b. 5 A 192.0.2.1, a. 5 A 192.0.2.1", "c. 5 A 192.0.2.1", "a. 5 A 192.0.2.1\nb. 5 A 192.0.2.1", "c. 5 A 192.0.2.1"},
	} {
		deleted, added := rrset.Difference(setsOfZone(recordsOf(t, tc.before)), setsOfZone(recordsOf(t, tc.now)))
		if d, a := inWords(deleted), inWords(added); d != tc.deleted || a != tc.added {
			t.Errorf("From %q to %q: deleted %q and added %q, want %q and %q", tc.before, tc.now, d, a, tc.deleted, tc.added)
		}
	}
}

// replica is a zone as a secondary has it that keeps to RFC 1995 to the letter.
type replica struct {
	serial  uint32
	records []string
}

// take applies the answer to AXFR or IXFR.
func (r *replica) take(rrs []dns.RR) error {
	latest, ok := rrs[0].(*dns.SOA)
	if !ok {
		return fmt.Errorf("first record %s, want an SOA", rrs[0])
	}
	if last, ok := rrs[len(rrs)-1].(*dns.SOA); !ok || last.Serial != latest.Serial {
		return fmt.Errorf("last record %s, want the SOA", rrs[len(rrs)-1])
	}
	if len(rrs) == 1 {
		return nil
	}
	if _, ok := rrs[1].(*dns.SOA); !ok {
		r.records = nil
		for _, rr := range rrs[1 : len(rrs)-1] {
			r.records = append(r.records, rr.String())
		}
		r.serial = latest.Serial
		return nil
	}
	deleting := false
	for _, rr := range rrs[1 : len(rrs)-1] {
		soa, isSOA := rr.(*dns.SOA)
		i := slices.Index(r.records, rr.String())
		switch {
		case isSOA && deleting:
			deleting, r.serial = false, soa.Serial
		case isSOA && soa.Serial != r.serial:
			return fmt.Errorf("a change of %d, want one of %d", soa.Serial, r.serial)
		case isSOA:
			deleting = true
		case deleting && i < 0:
			return fmt.Errorf("%s is deleted and is not there", rr)
		case deleting:
			r.records = slices.Delete(r.records, i, i+1)
		case i >= 0:
			return fmt.Errorf("%s is added and is there", rr)
		default:
			r.records = append(r.records, rr.String())
		}
	}
	if deleting || r.serial != latest.Serial {
		return fmt.Errorf("at the end %d, want %d", r.serial, latest.Serial)
	}
	return nil
}

// Whoever has an edition that the journal goes back to gets the latest one by its changes.
func TestJournal(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var j journal
	ns := recordsOf(t, "example.org. 5 NS ns.example.org.")
	current := editionOf(soaOf(1<<32-50), setsOfZone(ns)) // the serial wraps on the way
	editions := []*edition{current}
	for range 3 * maxChanges {
		next := editionOf(soaOf(current.soa.Serial+1+rng.Uint32N(3)), setsOfZone(ns))
		for i := range 5 {
			for range rng.IntN(3) {
				rr := recordsOf(t, fmt.Sprintf("%d.example.org. %d A 192.0.2.%d", i, 5+rng.IntN(2), rng.IntN(200)))[0]
				key := rrset.Key{Owner: rr.Header().Name, Type: dns.TypeA}
				if rrset.Missing([]dns.RR{rr}, next.sets[key]) != nil {
					next.sets.Add(key, rr)
				}
			}
		}
		c := change{from: current.soa, to: next.soa}
		c.deleted, c.added = rrset.Difference(current.sets, next.sets)
		j.add(c, 5)
		current = next
		editions = append(editions, current)
	}
	for i, e := range editions[:len(editions)-1] {
		changes := j.since(e.soa.Serial)
		if age := len(editions) - 1 - i; (changes != nil) != (age <= maxChanges) {
			t.Fatalf("%d changes ago: %d changes, want the last %d", age, len(changes), maxChanges)
		}
		if changes == nil {
			continue
		}
		var r replica
		if err := r.take(e.records()); err != nil {
			t.Fatal(err)
		}
		if err := r.take(increments(changes)); err != nil {
			t.Fatalf("From %d: %v", e.soa.Serial, err)
		}
		var want replica
		_ = want.take(current.records())
		slices.Sort(r.records)
		slices.Sort(want.records)
		if r.serial != want.serial || !slices.Equal(r.records, want.records) {
			t.Fatalf("From %d: %d %v, want %d %v", e.soa.Serial, r.serial, r.records, want.serial, want.records)
		}
	}
	if j.since(12345678) != nil || j.since(current.soa.Serial) != nil {
		t.Error("Changes since a serial that there never was, or since the latest")
	}
}

// Large changes push older ones out: a journal must not outgrow what it saves.
func TestJournalSize(t *testing.T) {
	var j journal
	many := slices.Repeat(recordsOf(t, "a. 5 A 192.0.2.1"), 3000)
	for i := range uint32(10) {
		j.add(change{from: soaOf(i), to: soaOf(i + 1), deleted: many}, 100)
	}
	if j.records > maxChangedRecords || len(j.changes) != 3 {
		t.Errorf("%d records in %d changes, want at most %d", j.records, len(j.changes), maxChangedRecords)
	}
	j.add(change{from: soaOf(10), to: soaOf(11), deleted: slices.Repeat(many, 4)}, 100)
	if len(j.changes) != 0 || j.records != 0 {
		t.Errorf("%d records in %d changes after one that is too large, want none", j.records, len(j.changes))
	}
}

// The apex comes first: BIND and others take the name servers from there before anything else.
func TestRecords(t *testing.T) {
	e := editionOf(soaOf(1), setsOfZone(recordsOf(t, "a.example.org. 5 A 192.0.2.1, example.org. 5 NS ns.example.org., z.example.org. 5 A 192.0.2.1")))
	var got []string
	for _, rr := range e.records() {
		got = append(got, rr.Header().Name+" "+dns.Type(rr.Header().Rrtype).String())
	}
	want := []string{"example.org. SOA", "example.org. NS", "a.example.org. A", "z.example.org. A", "example.org. SOA"}
	if !slices.Equal(got, want) {
		t.Errorf("Records %q, want %q", got, want)
	}
}
