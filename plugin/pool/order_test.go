package pool

import (
	"slices"
	"strings"
	"testing"
)

// turn is Turn of a word's letters. It sees to it that what is turned stays as it was, and that the
// result is a slice of its own, with nothing left over behind it.
func turn(t *testing.T, word string, runs []int, order Order, n uint32, limit int) string {
	t.Helper()
	items := strings.Split(word, "")
	runsBefore := slices.Clone(runs)
	turned := Turn(items, runs, order, n, limit)
	got := strings.Join(turned, "")
	if cap(turned) != len(turned) {
		t.Errorf("Turn leaves room for %d more behind %q, want none", cap(turned)-len(turned), got)
	}
	clear(turned)
	if strings.Join(items, "") != word || !slices.Equal(runs, runsBefore) {
		t.Errorf("Turn writes to its input: %q %v, before %q %v", items, runs, word, runsBefore)
	}
	return got
}

func TestTurnCyclic(t *testing.T) {
	tests := []struct {
		word  string
		runs  []int
		limit int
		want  string // one answer after the other
	}{
		{"a", []int{1}, 0, "a a a"},
		{"ab", []int{2}, 0, "ab ba ab ba"},
		{"abc", []int{3}, 0, "abc bca cab abc bca"},
		// Each run turns by itself, and stays in its place.
		{"abcd", []int{2, 4}, 0, "abcd badc abcd"},
		{"abcde", []int{3, 5}, 0, "abcde bcaed cabde abced"},
		{"abc", []int{1, 3}, 0, "abc acb abc"},
		{"abc", []int{1, 2, 3}, 0, "abc abc"},
		// A limit shows each in its turn.
		{"abc", []int{3}, 1, "a b c a"},
		{"abc", []int{3}, 2, "ab bc ca ab"},
		{"abcd", []int{2, 4}, 3, "abc bad abc"},
		{"abc", []int{3}, 3, "abc bca"},
		{"abc", []int{3}, 9, "abc bca"},
	}
	for _, tc := range tests {
		var got []string
		for n := range strings.Count(tc.want, " ") + 1 {
			got = append(got, turn(t, tc.word, tc.runs, Cyclic, uint32(n), tc.limit))
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s with runs %v, %d at most, turns as %s, want %s", tc.word, tc.runs, tc.limit, s, tc.want)
		}
	}
	if got := Turn([]string{}, nil, Cyclic, 7, 1); len(got) != 0 {
		t.Errorf("Nothing turns to %q, want nothing", got)
	}
}

// Over any number of answers in a row, every address stands first as often as any other, give or
// take one.
func TestTurnFair(t *testing.T) {
	const word = "abcde"
	first := make(map[string]int)
	for n := range uint32(1003) {
		first[turn(t, word, []int{5}, Cyclic, n, 1)]++
	}
	for s := range strings.SplitSeq(word, "") {
		if first[s] < 200 || first[s] > 201 {
			t.Errorf("%s is first %d times of 1003, want 200 or 201", s, first[s])
		}
	}
	// The counter wraps.
	if got := turn(t, word, []int{5}, Cyclic, 1<<32-1, 0); len(got) != 5 {
		t.Errorf("At the end of the counter: %q, want five letters", got)
	}
}

func TestTurnRandom(t *testing.T) {
	const word, rounds = "abcdef", 6000
	runs := []int{1, 4, 6}
	seen := make(map[string]int)
	for n := range uint32(rounds) {
		got := turn(t, word, runs, Random, n, 0)
		first := 0
		for _, end := range runs {
			run := strings.Split(got[first:end], "")
			slices.Sort(run)
			if strings.Join(run, "") != word[first:end] {
				t.Fatalf("%s is shuffled to %s, want the runs %v to stay by themselves", word, got, runs)
			}
			first = end
		}
		seen[got]++
	}
	// Six orders of bcd times two of ef, each expected 500 times: 250 is more than ten deviations off.
	if len(seen) != 12 {
		t.Errorf("%d different orders, want 12: %v", len(seen), seen)
	}
	for order, n := range seen {
		if n < 250 || n > 750 {
			t.Errorf("Order %s comes %d times of %d, want about 500", order, n, rounds)
		}
	}
	if got := turn(t, word, []int{6}, Random, 0, 2); len(got) != 2 {
		t.Errorf("Two at most gives %q", got)
	}
}
