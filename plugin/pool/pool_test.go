package pool

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
)

// The tables here write a pool and the health of its members in one line, tier after tier:
//
//	a+ b- | c~ A+
//
// A member is a letter: a small one has an IPv4 address, a big one an IPv6 address, and the order of
// the alphabet is the order of the addresses. Behind it stands its health: + up, - down, ~ up but
// held. The times are in seconds: a+9 can go down in 9 seconds at the soonest, a-9 can come up, and
// a~20+9 is held for another 20 and can go down in 9. Without a time it is an hour.
//
// What is chosen is written in the same letters, IPv4 before IPv6, behind the tier in use; brackets
// are around each run of addresses whose order changes from answer to answer.

// addr is the address of a letter.
func addr(letter rune) netip.Addr {
	if unicode.IsUpper(letter) {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(letter-'A') + 1})
	}
	return netip.AddrFrom4([4]byte{192, 0, 2, byte(letter-'a') + 1})
}

// letter is the letter of an address.
func letter(a netip.Addr) string {
	b := a.AsSlice()
	if a.Is4() {
		return string(rune('a' + b[3] - 1))
	}
	return string(rune('A' + b[15] - 1))
}

// read takes a line of the tables apart.
func read(t *testing.T, line string) ([][]Member, []Health) {
	t.Helper()
	seconds := func(s string) time.Duration {
		if s == "" {
			return time.Hour
		}
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatalf("No time in seconds: %q in %q", s, line)
		}
		return time.Duration(n * float64(time.Second))
	}
	var tiers [][]Member
	var health []Health
	for tier := range strings.SplitSeq(line, "|") {
		var members []Member
		for word := range strings.FieldsSeq(tier) {
			members = append(members, Member{Addr: addr(rune(word[0]))})
			switch rest := word[2:]; word[1] {
			case '+':
				health = append(health, Health{Up: true, Next: seconds(rest)})
			case '-':
				health = append(health, Health{Next: seconds(rest)})
			case '~':
				held, next, _ := strings.Cut(rest, "+")
				health = append(health, Health{Up: true, Held: seconds(held), Next: seconds(next)})
			default:
				t.Fatalf("No health: %q in %q", word, line)
			}
		}
		tiers = append(tiers, members)
	}
	return tiers, health
}

// write is a choice in the letters of the tables.
func write(c Choice) string {
	var words []string
	if c.Tier == InFallback {
		words = append(words, "fallback:")
	} else {
		words = append(words, fmt.Sprintf("%d:", c.Tier))
	}
	if c.Reply != Addresses {
		words = append(words, map[Reply]string{NoData: "NODATA", NXDomain: "NXDOMAIN", ServFail: "SERVFAIL", Refused: "REFUSED", Next: "next"}[c.Reply])
	}
	for _, s := range []Set{c.V4, c.V6} {
		first := 0
		for _, end := range s.Runs {
			words = append(words, "("+letters(s.Addrs[first:end])+")")
			first = end
		}
		if rest := letters(s.Addrs[first:]); rest != "" {
			words = append(words, rest)
		}
	}
	return strings.Join(words, " ")
}

func letters(addrs []netip.Addr) string {
	var words []string
	for _, a := range addrs {
		words = append(words, letter(a))
	}
	return strings.Join(words, " ")
}

// nets are networks of the test addresses: "a-d" is 192.0.2.0/30 and so on.
func nets(words ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, w := range words {
		all = append(all, netip.MustParsePrefix(w))
	}
	return all
}

// choose calls Choose and sees to it that it writes to nothing it was given.
func choose(t *testing.T, p *Pool, health []Health, last []int) Choice {
	t.Helper()
	policy := *p.Policy
	before := Pool{Policy: &policy}
	before.Tiers = make([][]Member, len(p.Tiers))
	for i, tier := range p.Tiers {
		before.Tiers[i] = slices.Clone(tier)
	}
	before.Prefer = slices.Clone(p.Prefer)
	before.Fallback.Other = slices.Clone(p.Fallback.Other)
	healthBefore, lastBefore := slices.Clone(health), slices.Clone(last)

	c := p.Choose(health, last)
	if again := p.Choose(health, last); !reflect.DeepEqual(c, again) {
		t.Errorf("Same choice comes out as %+v and then as %+v", c, again)
	}
	// Whoever holds the choice may write to it without harm to the pool.
	d := p.Choose(health, last)
	for _, s := range []Set{d.V4, d.V6} {
		clear(s.Addrs)
		clear(s.Runs)
	}
	clear(d.Used)
	if !reflect.DeepEqual(*p, before) {
		t.Errorf("Pool is written to: %+v, before %+v", *p, before)
	}
	if !slices.Equal(health, healthBefore) || !slices.Equal(last, lastBefore) {
		t.Errorf("Input is written to: %v %v, before %v %v", health, last, healthBefore, lastBefore)
	}
	return c
}

// bounds fills in what every pool of a Corefile has.
func bounds(p Policy) Pool {
	if p.Min.Count == 0 {
		p.Min.Count = 1
	}
	if p.MinTTL == 0 {
		p.MinTTL, p.MaxTTL = time.Second, time.Hour
	}
	return Pool{Policy: &p}
}

func TestChoose(t *testing.T) {
	others := Fallback{Members: Others, Other: []Member{{Addr: addr('z')}, {Addr: addr('y')}, {Addr: addr('Z')}}}
	tests := []struct {
		name   string
		line   string
		policy Policy
		last   []int
		want   string
		used   []int // indexes over all tiers
	}{
		// The first tier that has a member up answers, with those of its members that are up.
		{name: "all up", line: "a+ b+ | c+", want: "0: a b", used: []int{0, 1}},
		{name: "one down", line: "a- b+ | c+", want: "0: b", used: []int{1}},
		{name: "the last one up", line: "a+ b- | c+", want: "0: a", used: []int{0}},
		{name: "a tier down", line: "a- b- | c+ d+", want: "1: c d", used: []int{2, 3}},
		{name: "two tiers down", line: "a- | b- | c- d+", want: "2: d", used: []int{3}},
		{name: "a tier after it does not matter", line: "a+ | b- | c+", want: "0: a", used: []int{0}},
		{name: "back", line: "a+ b- | c+ d+", want: "0: a", used: []int{0}},
		{name: "order is as written, not as they are numbered", line: "c+ a+ b+", want: "0: c a b", used: []int{0, 1, 2}},

		// A tier counts its members of both families; each family is answered by itself.
		{name: "both families", line: "b+ A+ a+ B+", want: "0: b a A B", used: []int{0, 1, 2, 3}},
		{name: "one family down", line: "a+ A- | b+ B+", want: "0: a", used: []int{0}},
		{name: "other family down", line: "a- A+ | b+ B+", want: "0: A", used: []int{1}},
		{name: "both down", line: "a- A- | b+ B+", want: "1: b B", used: []int{2, 3}},
		{name: "IPv6 only", line: "B+ A+", want: "0: B A", used: []int{0, 1}},

		// With min a tier has to have so many.
		{name: "min reached", line: "a+ b+ c- | d+ e+", policy: Policy{Min: Min{Count: 2}}, want: "0: a b", used: []int{0, 1}},
		{name: "min missed", line: "a+ b- c- | d+ e+", policy: Policy{Min: Min{Count: 2}}, want: "1: d e", used: []int{3, 4}},
		{name: "min is over both families", line: "a+ A+ c- | d+ e+", policy: Policy{Min: Min{Count: 2}}, want: "0: a A", used: []int{0, 1}},
		{name: "min missed in all", line: "a+ b- | c- d+", policy: Policy{Min: Min{Count: 2}}, want: "fallback: a b c d"},
		{name: "min of all", line: "a+ b- | c+ d+", policy: Policy{Min: Min{Count: 100, Percent: true}}, want: "1: c d", used: []int{2, 3}},
		{name: "half of 4 is 2", line: "a+ b+ c- d- | e+", policy: Policy{Min: Min{Count: 50, Percent: true}}, want: "0: a b", used: []int{0, 1}},
		{name: "half of 4 is not 1", line: "a+ b- c- d- | e+", policy: Policy{Min: Min{Count: 50, Percent: true}}, want: "1: e", used: []int{4}},
		{name: "half of 3 is 2", line: "a+ b- c- | e+", policy: Policy{Min: Min{Count: 50, Percent: true}}, want: "1: e", used: []int{3}},
		{name: "1 percent is 1", line: "a- b- c+ | e+", policy: Policy{Min: Min{Count: 1, Percent: true}}, want: "0: c", used: []int{2}},
		{name: "a share is of each tier by itself", line: "a- b- c- | d+ e-", policy: Policy{Min: Min{Count: 50, Percent: true}}, want: "1: d", used: []int{3}},

		// A held member waits while others can answer ...
		{name: "held beside one that is up", line: "a~ b+", want: "0: b", used: []int{1}},
		{name: "held before a tier that is up", line: "a~ | b+", want: "1: b", used: []int{1}},
		{name: "held does not count for min", line: "a~ b+ | c+ d+", policy: Policy{Min: Min{Count: 2}}, want: "1: c d", used: []int{2, 3}},
		{name: "held in a tier after it", line: "a+ | b~", want: "0: a", used: []int{0}},
		// ... but goes before any fallback.
		{name: "nothing but held", line: "a~ b-", want: "0: a", used: []int{0}},
		{name: "held goes before a fallback", line: "a~ | b-", policy: Policy{Fallback: Fallback{Reply: NXDomain}}, want: "0: a", used: []int{0}},
		{name: "held in the backup tier", line: "a- | b~", want: "1: b", used: []int{1}},
		{name: "held in both, the first goes first", line: "a~ | b~", want: "0: a", used: []int{0}},
		{name: "held in both, who is held for longer waits", line: "a~700 | b~500", want: "1: b", used: []int{1}},
		{name: "held in one tier, who is held for longer waits", line: "a~700 b~500", want: "0: b", used: []int{1}},
		{name: "held, as many as min takes", line: "a~700 b~500 c~600", policy: Policy{Min: Min{Count: 2}}, want: "0: b c", used: []int{1, 2}},
		{name: "held makes up the min", line: "a~ b+ | c- d-", policy: Policy{Min: Min{Count: 2}}, want: "0: a b", used: []int{0, 1}},
		{name: "held is not enough for min", line: "a~ b- | c- d-", policy: Policy{Min: Min{Count: 2}}, want: "fallback: a b c d"},

		// answer gives no more than so many of each family, the first ones.
		{name: "answer 1", line: "c+ a+ b+", policy: Policy{Answer: 1}, want: "0: c", used: []int{0, 1, 2}},
		{name: "answer 1 of those up", line: "c- a+ b+", policy: Policy{Answer: 1}, want: "0: a", used: []int{1, 2}},
		{name: "answer 2 of each family", line: "a+ A+ b+ B+ c+ C+", policy: Policy{Answer: 2}, want: "0: a b A B", used: []int{0, 1, 2, 3, 4, 5}},
		{name: "answer more than there are", line: "a+ b+", policy: Policy{Answer: 9}, want: "0: a b", used: []int{0, 1}},
		{name: "answer 1 and sorted", line: "c+ a+ b+", policy: Policy{Answer: 1, Order: Sorted}, want: "0: a", used: []int{0, 1, 2}},
		{name: "answer 1 and preferred", line: "c+ a+ b+", policy: Policy{Answer: 1, Prefer: nets("192.0.2.2/32")}, want: "0: b", used: []int{0, 1, 2}},
		{name: "answer 1 in fallback", line: "a- b- | c-", policy: Policy{Answer: 1}, want: "fallback: a"},
		{name: "answer 1 and cyclic: which one is for Turn", line: "a+ b+", policy: Policy{Answer: 1, Order: Cyclic}, want: "0: (a b)", used: []int{0, 1}},

		// The orders, each family by itself.
		{name: "sorted", line: "c+ B+ a+ A+ b+", policy: Policy{Order: Sorted}, want: "0: a b c A B", used: []int{0, 1, 2, 3, 4}},
		{name: "sorted, one down", line: "c+ a- b+", policy: Policy{Order: Sorted}, want: "0: b c", used: []int{0, 2}},
		{name: "sorted inside a tier only", line: "d- c- | b- a-", policy: Policy{Order: Sorted}, want: "fallback: c d a b"},
		{name: "cyclic", line: "c+ B+ a+ A+ b+", policy: Policy{Order: Cyclic}, want: "0: (c a b) (B A)", used: []int{0, 1, 2, 3, 4}},
		{name: "random", line: "c+ B+ a+ A+ b+", policy: Policy{Order: Random}, want: "0: (c a b) (B A)", used: []int{0, 1, 2, 3, 4}},
		{name: "cyclic inside a tier only", line: "a- b- A- | c- d-", policy: Policy{Order: Cyclic}, want: "fallback: (a b) (c d) (A)"},

		// prefer goes before the order, and leaves what it does not tell apart as it was. 192.0.2.2/31 is
		// b and c, 192.0.2.4/30 is d to g.
		{name: "preferred first", line: "a+ d+ b+ c+", policy: Policy{Prefer: nets("192.0.2.2/31")}, want: "0: b c a d", used: []int{0, 1, 2, 3}},
		{name: "two networks, in their order", line: "a+ b+ d+ c+ e+", policy: Policy{Prefer: nets("192.0.2.4/30", "192.0.2.2/31")}, want: "0: d e b c a", used: []int{0, 1, 2, 3, 4}},
		{name: "as written in each network", line: "e+ c+ a+ d+ b+", policy: Policy{Prefer: nets("192.0.2.4/30", "192.0.2.2/31")}, want: "0: e d c b a", used: []int{0, 1, 2, 3, 4}},
		{name: "in two networks, the first counts", line: "a+ d+ b+", policy: Policy{Prefer: nets("192.0.2.2/31", "192.0.2.0/24")}, want: "0: b a d", used: []int{0, 1, 2}},
		{name: "sorted in each network", line: "e+ c+ a+ d+ b+", policy: Policy{Order: Sorted, Prefer: nets("192.0.2.4/30", "192.0.2.2/31")}, want: "0: d e b c a", used: []int{0, 1, 2, 3, 4}},
		{name: "runs of each network", line: "e+ c+ a+ d+ b+", policy: Policy{Order: Cyclic, Prefer: nets("192.0.2.4/30", "192.0.2.2/31")}, want: "0: (e d) (c b) (a)", used: []int{0, 1, 2, 3, 4}},
		{name: "as written, however many", line: "t+ s+ r+ q+ p+ o+ n+ m+ l+ k+ j+ i+ h+ g+ f+ e+ d+ c+ b+ a+", policy: Policy{Prefer: nets("192.0.2.0/28")},
			want: "0: o n m l k j i h g f e d c b a t s r q p", used: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}},
		{name: "of the other family", line: "a+ B+ A+ b+", policy: Policy{Prefer: nets("2001:db8::1/128")}, want: "0: a b A B", used: []int{0, 1, 2, 3}},
		{name: "prefers no tier", line: "a- | b-", policy: Policy{Prefer: nets("192.0.2.2/31")}, want: "fallback: a b"},
		{name: "not an address that is down", line: "a+ b- c+", policy: Policy{Prefer: nets("192.0.2.2/31")}, want: "0: c a", used: []int{0, 2}},

		// No tier is usable: what the operator wants to be said then.
		{name: "fallback all", line: "a- A- | b-", want: "fallback: a b A"},
		{name: "fallback primary", line: "b- a- | c-", policy: Policy{Fallback: Fallback{Members: Primary}}, want: "fallback: b a"},
		{name: "fallback none", line: "a-", policy: Policy{Fallback: Fallback{Reply: NoData}}, want: "fallback: NODATA"},
		{name: "fallback nxdomain", line: "a-", policy: Policy{Fallback: Fallback{Reply: NXDomain}}, want: "fallback: NXDOMAIN"},
		{name: "fallback servfail", line: "a-", policy: Policy{Fallback: Fallback{Reply: ServFail}}, want: "fallback: SERVFAIL"},
		{name: "fallback refused", line: "a-", policy: Policy{Fallback: Fallback{Reply: Refused}}, want: "fallback: REFUSED"},
		{name: "fallback next", line: "a-", policy: Policy{Fallback: Fallback{Reply: Next}}, want: "fallback: next"},
		{name: "fallback others", line: "a-", policy: Policy{Fallback: others}, want: "fallback: z y Z"},
		{name: "fallback others in order", line: "a-", policy: Policy{Fallback: others, Order: Sorted}, want: "fallback: y z Z"},
		{name: "fallback others, answer 1", line: "a-", policy: Policy{Fallback: others, Answer: 1}, want: "fallback: z Z"},
		{name: "fallback last", line: "a- b- | c- d-", policy: Policy{Fallback: Fallback{Members: Last}}, last: []int{1}, want: "fallback: b"},
		{name: "fallback last, of a backup", line: "a- b- | c- d-", policy: Policy{Fallback: Fallback{Members: Last}}, last: []int{2, 3}, want: "fallback: c d"},
		{name: "fallback last, never any", line: "a- b- | c-", policy: Policy{Fallback: Fallback{Members: Last}}, want: "fallback: a b c"},
		{name: "fallback last in order", line: "b- a- | c-", policy: Policy{Fallback: Fallback{Members: Last}, Order: Sorted}, last: []int{0, 1}, want: "fallback: a b"},
		{name: "last means nothing to other fallbacks", line: "a- b-", last: []int{1}, want: "fallback: a b"},
		{name: "last means nothing while a tier is usable", line: "a+ b+", policy: Policy{Fallback: Fallback{Members: Last}}, last: []int{1}, want: "0: a b", used: []int{0, 1}},
		{name: "too few of them is a fallback too", line: "a+ b-", policy: Policy{Min: Min{Count: 2}, Fallback: Fallback{Reply: ServFail}}, want: "fallback: SERVFAIL"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			p := bounds(tc.policy)
			var health []Health
			p.Tiers, health = read(t, tc.line)
			c := choose(t, &p, health, tc.last)
			if got := write(c); got != tc.want {
				t.Errorf("%s: answers %q, want %q", tc.line, got, tc.want)
			}
			if !slices.Equal(c.Used, tc.used) {
				t.Errorf("%s: uses members %v, want %v", tc.line, c.Used, tc.used)
			}
			if stale := tc.policy.Fallback.Members == Last && len(tc.last) > 0 && c.Tier == InFallback; c.Stale != stale {
				t.Errorf("%s: stale is %t, want %t", tc.line, c.Stale, stale)
			}
		})
	}
}

func TestTTL(t *testing.T) {
	const hold = 10 * time.Second
	tests := []struct {
		name     string
		line     string
		min, max time.Duration // of the ttl property
		policy   Policy
		want     time.Duration
	}{
		// The soonest change of a member of the tier in use.
		{name: "one member", line: "a+7", want: 7 * time.Second},
		{name: "the sooner of two", line: "a+9 b+7", want: 7 * time.Second},
		{name: "whatever its family", line: "a+9 A+7", want: 7 * time.Second},
		{name: "one that is down, with its hold", line: "a+25 b-4", want: 14 * time.Second},
		{name: "one that is down, but the other is sooner", line: "a+9 b-4", want: 9 * time.Second},

		// Members of the tiers before it can take over, those of the tiers after it cannot.
		{name: "a tier before it", line: "a-4 | b+25", want: 14 * time.Second},
		{name: "two tiers before it", line: "a-9 | b-4 | c+25", want: 14 * time.Second},
		{name: "a tier before it, with too few", line: "a+5 b-20 | c+25 d+25", policy: Policy{Min: Min{Count: 2}}, want: 5 * time.Second},
		{name: "a tier after it", line: "a+25 | b-4", want: 25 * time.Second},
		{name: "a tier after it that is up", line: "a+25 | b+4", want: 25 * time.Second},

		// In fallback every member can end it, as soon as it is up: there is nobody it would be held for.
		{name: "fallback", line: "a-9 b-8 | c-7 d-6", want: 6 * time.Second},
		{name: "fallback without addresses", line: "a-9 | c-7", policy: Policy{Fallback: Fallback{Reply: NoData}}, want: 7 * time.Second},
		{name: "fallback to others", line: "a-9", policy: Policy{Fallback: Fallback{Members: Others, Other: []Member{{Addr: addr('z')}}}}, want: 9 * time.Second},
		{name: "fallback with one up, but too few", line: "a+3 b-9", policy: Policy{Min: Min{Count: 2}}, want: 3 * time.Second},
		{name: "fallback with one held, but too few", line: "a~6+7 b-9", policy: Policy{Min: Min{Count: 2}}, want: 6 * time.Second},
		{name: "fallback with one held, down sooner", line: "a~6+3 b-9", policy: Policy{Min: Min{Count: 2}}, want: 6 * time.Second},

		// A held member changes nothing before its time is over ...
		{name: "held", line: "a~6+3 b+25", want: 6 * time.Second},
		{name: "held in the tier before it", line: "a~6+3 | b+25", want: 6 * time.Second},
		{name: "held longer than another lasts", line: "a~20+3 b+9", want: 9 * time.Second},
		// ... unless it is in use all the same.
		{name: "held and in use", line: "a~6+3", want: 3 * time.Second},
		{name: "held and in use, over before it can go down", line: "a~6+9", want: 9 * time.Second},
		{name: "held and in use beside one that is down", line: "a~20+25 b-4", want: 14 * time.Second},

		// In whole seconds, between the bounds.
		{name: "whole seconds", line: "a+7.999", want: 7 * time.Second},
		{name: "never rounded up", line: "a+7.5", want: 7 * time.Second},
		{name: "at least the lower bound", line: "a+3", min: 5 * time.Second, max: time.Minute, want: 5 * time.Second},
		{name: "at most the upper bound", line: "a+300", min: 5 * time.Second, max: time.Minute, want: time.Minute},
		{name: "between them", line: "a+30", min: 5 * time.Second, max: time.Minute, want: 30 * time.Second},
		{name: "one value is exactly that", line: "a+7", min: 30 * time.Second, max: 30 * time.Second, want: 30 * time.Second},
		{name: "one value is exactly that in fallback", line: "a-7", min: 30 * time.Second, max: 30 * time.Second, want: 30 * time.Second},
		{name: "never 0", line: "a+0", min: time.Second, max: time.Minute, want: time.Second},
		{name: "never 0 of part of a second", line: "a+0.3", min: time.Second, max: time.Minute, want: time.Second},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			policy := tc.policy
			policy.Hold, policy.MinTTL, policy.MaxTTL = hold, tc.min, tc.max
			p := bounds(policy)
			var health []Health
			p.Tiers, health = read(t, tc.line)
			if got := choose(t, &p, health, nil).TTL; got != tc.want {
				t.Errorf("%s: TTL is %s, want %s", tc.line, got, tc.want)
			}
		})
	}
}

// What holds whatever the state of the members is asked of every state of every small pool.
func TestChooseAlways(t *testing.T) {
	shapes := []string{"abc", "abAB", "ab|c", "a|bc", "a|b|c", "aA|bB", "abc|d", "a|A", "A|b|Bc"}
	mins := []Min{{Count: 1}, {Count: 2}, {Count: 50, Percent: true}, {Count: 100, Percent: true}}
	replies := []Fallback{{}, {Members: Primary}, {Members: Last}, {Reply: NoData}}
	for _, shape := range shapes {
		names := strings.ReplaceAll(shape, "|", "")
		for state := range pow(3, len(names)) {
			line, n := "", state
			for _, r := range shape {
				if line += string(r); r != '|' {
					line += []string{"+ ", "- ", "~ "}[n%3]
					n /= 3
				}
			}
			for i := range mins {
				for _, f := range replies {
					p := bounds(Policy{Min: mins[i], Fallback: f})
					var health []Health
					p.Tiers, health = read(t, line)
					checkChoice(t, line, &p, health, choose(t, &p, health, []int{0}))
				}
			}
		}
	}
}

func pow(base, exponent int) int {
	n := 1
	for range exponent {
		n *= base
	}
	return n
}

// checkChoice says again what design and documentation promise, in another way than Choose does it:
// tier by tier, by counting.
func checkChoice(t *testing.T, line string, p *Pool, health []Health, c Choice) {
	t.Helper()
	first, steady, any := 0, InFallback, InFallback // the tiers usable without and with those held
	var given []netip.Addr
	for i, tier := range p.Tiers {
		up, held := 0, 0
		for j := range tier {
			switch h := health[first+j]; {
			case h.Up && h.Held == 0:
				up++
			case h.Up:
				held++
			}
		}
		if steady == InFallback && up >= p.Min.Of(len(tier)) {
			steady = i
		}
		if any == InFallback && up+held >= p.Min.Of(len(tier)) {
			any = i
		}
		first += len(tier)
	}
	want := steady
	if want == InFallback {
		want = any
	}
	if c.Tier != want {
		t.Errorf("%s, min %+v: tier %d is in use, want %d", line, p.Min, c.Tier, want)
		return
	}
	first = 0
	for i, tier := range p.Tiers {
		for j, m := range tier {
			h := health[first+j]
			if i == c.Tier && h.Up && (h.Held == 0 || steady == InFallback) {
				given = append(given, m.Addr)
			}
		}
		first += len(tier)
	}
	if got := slices.Concat(c.V4.Addrs, c.V6.Addrs); c.Tier != InFallback && !sameAddrs(got, given) {
		t.Errorf("%s, min %+v: answers %s, want %s", line, p.Min, letters(got), letters(given))
	}
	if len(c.Used) != len(given) || c.Tier != InFallback && c.Reply != Addresses {
		t.Errorf("%s, min %+v: uses %v for %s, reply %d", line, p.Min, c.Used, letters(given), c.Reply)
	}
	if c.TTL%time.Second != 0 || c.TTL < p.MinTTL || c.TTL > p.MaxTTL {
		t.Errorf("%s: TTL %s, want whole seconds from %s to %s", line, c.TTL, p.MinTTL, p.MaxTTL)
	}
}

// sameAddrs says whether a and b hold the same addresses, whatever the order.
func sameAddrs(a, b []netip.Addr) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, netip.Addr.Compare)
	slices.SortFunc(b, netip.Addr.Compare)
	return slices.Equal(a, b)
}

func TestMin(t *testing.T) {
	tests := []struct {
		min     Min
		members int
		want    int
	}{
		{Min{Count: 1}, 5, 1},
		{Min{Count: 5}, 5, 5},
		{Min{Count: 6}, 5, 6}, // never: for the Corefile to refuse
		{Min{Count: 1, Percent: true}, 5, 1},
		{Min{Count: 20, Percent: true}, 5, 1},
		{Min{Count: 21, Percent: true}, 5, 2},
		{Min{Count: 50, Percent: true}, 1, 1},
		{Min{Count: 50, Percent: true}, 2, 1},
		{Min{Count: 50, Percent: true}, 3, 2},
		{Min{Count: 51, Percent: true}, 2, 2},
		{Min{Count: 33, Percent: true}, 3, 1},
		{Min{Count: 34, Percent: true}, 3, 2},
		{Min{Count: 100, Percent: true}, 7, 7},
		{Min{Count: 99, Percent: true}, 100, 99},
		{Min{Count: 99, Percent: true}, 7, 7},
	}
	for _, tc := range tests {
		if got := tc.min.Of(tc.members); got != tc.want {
			t.Errorf("%+v of %d members is %d, want %d", tc.min, tc.members, got, tc.want)
		}
	}
}

func TestMember(t *testing.T) {
	p := Pool{}
	p.Tiers, _ = read(t, "a+ b+ | | A+")
	if p.Size() != 3 {
		t.Errorf("Size is %d, want 3", p.Size())
	}
	for i, want := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"} {
		if got := p.Member(i).String(); got != want {
			t.Errorf("Member %d is %q, want %q", i, got, want)
		}
	}
	tests := []struct {
		member Member
		want   string
	}{
		{Member{Addr: addr('a')}, "192.0.2.1"},
		{Member{Addr: addr('a'), Port: 443}, "192.0.2.1:443"},
		{Member{Addr: addr('A'), Port: 443}, "[2001:db8::1]:443"},
		{Member{Addr: addr('a'), Port: 443, Label: "east"}, "east 192.0.2.1:443"},
		{Member{Addr: addr('A'), Label: "east"}, "east 2001:db8::1"},
	}
	for _, tc := range tests {
		if got := tc.member.String(); got != tc.want {
			t.Errorf("%+v is written %q, want %q", tc.member, got, tc.want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("Member 3 of 3: no panic")
		}
	}()
	p.Member(3)
}
