package pool

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// sift is Sift of a line of the tables, in letters: those in use, a bar, and the rest.
func sift(t *testing.T, p *Policy, line string, n uint32) (said string, ttl time.Duration) {
	t.Helper()
	tiers, health := read(t, line)
	var addrs []netip.Addr
	for _, m := range tiers[0] {
		addrs = append(addrs, m.Addr)
	}
	before, healthBefore := slices.Clone(addrs), slices.Clone(health)
	places, used, ttl := p.Sift(addrs, health, n)
	if !slices.Equal(addrs, before) || !slices.Equal(health, healthBefore) {
		t.Errorf("%s: Sift writes to its input", line)
	}
	if places == nil {
		if used != len(addrs) {
			t.Errorf("%s: as they stand, with %d of %d in use", line, used, len(addrs))
		}
		return "=", ttl
	}
	if sorted := slices.Sorted(slices.Values(places)); len(places) != len(addrs) || sorted[0] != 0 || sorted[len(sorted)-1] != len(addrs)-1 || len(slices.Compact(sorted)) != len(addrs) {
		t.Fatalf("%s: places %v of %d", line, places, len(addrs))
	}
	var b strings.Builder
	for i, place := range places {
		if i == used {
			b.WriteString("|")
		}
		b.WriteString(letter(addrs[place]))
	}
	return b.String(), ttl
}

func TestSift(t *testing.T) {
	prefer := []netip.Prefix{netip.PrefixFrom(addr('c'), 32), netip.PrefixFrom(addr('A'), 128)}
	tests := []struct {
		name   string
		policy Policy
		line   string
		want   string
		ttl    int // in seconds
	}{
		{"as they stand", Policy{}, "b+9 a+7", "=", 7},
		{"one", Policy{}, "a+9", "=", 9},
		{"one down", Policy{}, "b+9 a-7 c+8", "bc|a", 7},
		{"some down", Policy{}, "d-9 b+9 a-9 c+9", "bc|da", 9},
		{"all down", Policy{}, "b-9 a-7", "|ba", 7},
		{"all down, with a hold", Policy{Hold: 20 * time.Second}, "b-9 a-7", "|ba", 7},
		{"one down, with a hold", Policy{Hold: 20 * time.Second}, "b+9 a-7", "b|a", 9},
		{"one held", Policy{Hold: 20 * time.Second}, "b+9 a~5+30", "b|a", 5},
		{"all held: the least", Policy{Hold: 20 * time.Second}, "b~9+30 a~5+30 c~5+7", "ac|b", 7},
		{"held or down", Policy{Hold: 20 * time.Second}, "b~9+30 a-5", "b|a", 25},
		{"a minimum", Policy{Min: Min{Count: 2}}, "a+9 b+9 c-9", "ab|c", 9},
		{"too few", Policy{Min: Min{Count: 2}}, "a+9 b-9 c-9", "|abc", 9},
		{"a share", Policy{Min: Min{Count: 50, Percent: true}}, "a+9 b-9 c-9", "|abc", 9},
		{"a minimum of more than there are", Policy{Min: Min{Count: 3}}, "a+9 b+9", "=", 9},
		{"a minimum of more than there are, one down", Policy{Min: Min{Count: 3}}, "a+9 b-9", "|ab", 9},
		{"sorted", Policy{Order: Sorted}, "c+9 a+9 b+9", "abc", 9},
		{"sorted, each part", Policy{Order: Sorted}, "d-9 c+9 a+9 b-9", "ac|bd", 9},
		{"sorted, all down", Policy{Order: Sorted}, "d-9 c-9", "|cd", 9},
		{"preferred", Policy{Prefer: prefer}, "b+9 a+9 c+9", "cba", 9},
		{"preferred, sorted", Policy{Prefer: prefer, Order: Sorted}, "b+9 a+9 c+9", "cab", 9},
		{"preferred, but down", Policy{Prefer: prefer}, "b+9 a+9 c-9", "ba|c", 9},
		{"of the other family", Policy{Prefer: prefer}, "B+9 A+9", "AB", 9},
		{"within bounds", Policy{MinTTL: 5 * time.Second, MaxTTL: 6 * time.Second}, "a+9", "=", 6},
		{"within bounds, from below", Policy{MinTTL: 5 * time.Second, MaxTTL: 6 * time.Second}, "a+1", "=", 5},
	}
	for _, tc := range tests {
		if tc.policy.MaxTTL == 0 {
			tc.policy.MinTTL, tc.policy.MaxTTL = time.Second, time.Hour
		}
		if tc.policy.Min.Count == 0 {
			tc.policy.Min.Count = 1
		}
		if got, ttl := sift(t, &tc.policy, tc.line, 0); got != tc.want || ttl != time.Duration(tc.ttl)*time.Second {
			t.Errorf("%s: %s gives %s for %s, want %s for %ds", tc.name, tc.line, got, ttl, tc.want, tc.ttl)
		}
	}
}

// Those in use turn, each run of them that is preferred alike by itself; a set that is not usable turns as a
// whole.
func TestSiftTurns(t *testing.T) {
	p := Policy{Order: Cyclic, Min: Min{Count: 1}, MinTTL: time.Second, MaxTTL: time.Hour}
	for line, want := range map[string][]string{
		"a+ b+ c- d+": {"abd|c", "bda|c", "dab|c", "abd|c"},
		"a- b- c-":    {"|abc", "|bca", "|cab"},
		"a+":          {"a", "a"},
	} {
		for n, w := range want {
			if got, _ := sift(t, &p, line, uint32(n)); got != w {
				t.Errorf("%s turned by %d is %s, want %s", line, n, got, w)
			}
		}
	}
	p.Prefer = []netip.Prefix{netip.PrefixFrom(addr('c'), 32), netip.PrefixFrom(addr('d'), 32)}
	if got, _ := sift(t, &p, "a+ b+ c+ d+", 1); got != "cdba" {
		t.Errorf("Turned with a preference it is %s, want cdba", got)
	}
	p.Order = Random
	seen := make(map[string]bool)
	for n := range uint32(100) {
		got, _ := sift(t, &p, "a+ b+ c+", n)
		seen[got] = true
	}
	if len(seen) != 2 || !seen["cab"] || !seen["cba"] {
		t.Errorf("At random: %v, want cab and cba", seen)
	}
}
