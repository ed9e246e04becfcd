package quorum

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/coredns-failover/failover/plugin/health"
)

// votes are those of voters a, b, c ... each of whom says u(p), d(own) or nothing (-).
func votes(said string) []Vote {
	var all []Vote
	for i, word := range said {
		v := Vote{Voter: string(rune('a' + i)), Status: map[rune]health.Status{'u': health.Up, 'd': health.Down}[word]}
		if word == 'd' {
			v.Why = "timeout"
		}
		all = append(all, v)
	}
	return all
}

func rule(t *testing.T, word string) Rule {
	t.Helper()
	r, err := Parse(word)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDecide(t *testing.T) {
	for _, tc := range []struct{ rule, said, want string }{
		{"majority", "", "unknown by 0 of 0: "},
		{"majority", "u", "up by 1 of 1: a"},
		{"majority", "d", "down by 1 of 1: a; a: timeout"},
		{"majority", "ud", "up by 1 of 2: a; down: b"}, // a tie
		{"majority", "udd", "down by 2 of 3: b, c; up: a; b: timeout"},
		{"majority", "u-d", "up by 1 of 2: a; down: c"},
		{"majority", "uudd", "up by 2 of 4: a, b; down: c, d"},
		{"any", "udddd", "up by 1 of 5: a; down: b, c, d, e"},
		{"any", "ddd", "down by 3 of 3: a, b, c; a: timeout"},
		{"all", "uud", "down by 1 of 3: c; up: a, b; c: timeout"},
		{"all", "uuu", "up by 3 of 3: a, b, c"},
		{"2", "udd", "down by 2 of 3: b, c; up: a; b: timeout"},
		{"2", "uuddd", "up by 2 of 5: a, b; down: c, d, e"},
		{"2", "u", "up by 1 of 1: a"}, // those who are left
	} {
		if got := rule(t, tc.rule).Decide(votes(tc.said)).String(); got != tc.want {
			t.Errorf("%s of %q: %s, want %s", tc.rule, tc.said, got, tc.want)
		}
	}
}

// Whatever up to six voters say: the order they come in changes nothing, those who agree are obeyed, a vote for up never
// brings a target down, and Slack is how many votes it takes.
func TestDecideExhaustively(t *testing.T) {
	for _, word := range []string{"majority", "any", "all", "1", "2", "3", "5"} {
		r := rule(t, word)
		for n := 1; n <= 6; n++ {
			decide := func(up uint) Decision {
				said := []byte(strings.Repeat("d", n))
				for i := range n {
					if up&(1<<i) != 0 {
						said[i] = 'u'
					}
				}
				return r.Decide(votes(string(said)))
			}
			for up := range uint(1) << n {
				d := decide(up)
				reversed := slices.Clone(votes(strings.Repeat("u", n)))
				for i := range reversed {
					if up&(1<<i) == 0 {
						reversed[i].Status = health.Down
					}
				}
				slices.Reverse(reversed)
				if again := r.Decide(reversed); again.Status != d.Status || !slices.Equal(again.Up, d.Up) || again.Slack != d.Slack {
					t.Fatalf("%s of %b: in another order %+v, want %+v", word, up, again, d)
				}
				if up == 1<<n-1 && d.Status != health.Up || up == 0 && d.Status != health.Down {
					t.Fatalf("%s: all %d are of one mind, and it is %s", word, n, d.Status)
				}
				least := n + 1
				for other := range uint(1) << n {
					o := decide(other)
					if other&up == up && d.Status == health.Up && o.Status != health.Up {
						t.Fatalf("%s: %b is up, and with more votes for it, %b, it is not", word, up, other)
					}
					if o.Status != d.Status {
						least = min(least, bits.OnesCount(other^up))
					}
				}
				if d.Slack != least {
					t.Fatalf("%s of %b of %d: slack %d, want %d", word, up, n, d.Slack, least)
				}
			}
		}
	}
}

func TestParse(t *testing.T) {
	for _, word := range []string{"majority", "any", "all", "own", "1", "99"} {
		if got := rule(t, word).String(); got != word {
			t.Errorf("%q is written %q", word, got)
		}
	}
	for _, word := range []string{"", "most", "0", "-1", "100", "2.5", "Majority"} {
		if _, err := Parse(word); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", word)) {
			t.Errorf("%q: %v, want an error that has it", word, err)
		}
	}
}
