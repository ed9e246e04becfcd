package share

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/quorum"
)

var (
	start = time.Now()
	keyA  = quorum.Key{Question: "http:///health", Target: netip.MustParseAddrPort("192.0.2.1:80")}
	keyB  = quorum.Key{Question: "http:///health", Target: netip.MustParseAddrPort("192.0.2.2:80")}
)

// at is so many seconds after the start.
func at(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }

func beatOf(instance string, counter uint64, votes int) []byte {
	return []byte(text(beat{format, instance, counter, votes}))
}

func voteOf(k quorum.Key, s health.Status, instance string) []byte {
	return []byte(ballotOf(k, quorum.Vote{Status: s, Why: "because"}, instance))
}

// says is a tally in words: "fra:up nrt:down".
func (t *tally) words(k quorum.Key, now time.Time) string {
	var words []string
	for _, v := range t.votes(k, now) {
		words = append(words, v.Voter+":"+v.Status.String())
	}
	return strings.Join(words, " ")
}

// watching is a tally that has been there for a while, when etcd had nothing.
func watching() *tally {
	t := newTally()
	t.follow(newTally(), at(-10), false)
	return t
}

func TestTallyCountsWhoIsAliveAndComplete(t *testing.T) {
	type step struct {
		at    float64
		do    func(*tally, time.Time)
		wantA string
	}
	beats := func(instance string, counter uint64, votes int) func(*tally, time.Time) {
		return func(t *tally, now time.Time) { t.beats("fra", beatOf(instance, counter, votes), now) }
	}
	says := func(k quorum.Key, s health.Status, instance string) func(*tally, time.Time) {
		return func(t *tally, _ time.Time) { t.says("fra", keyID(k).String(), voteOf(k, s, instance)) }
	}
	takesBack := func(k quorum.Key) func(*tally, time.Time) {
		return func(t *tally, _ time.Time) { t.says("fra", keyID(k).String(), nil) }
	}
	raw := func(word, value string) func(*tally, time.Time) {
		return func(t *tally, _ time.Time) { t.says("fra", word, []byte(value)) }
	}
	none := func(*tally, time.Time) {}
	for name, steps := range map[string][]step{
		"a vote": {{0, beats("i", 1, 1), ""}, {0, says(keyA, health.Up, "i"), "fra:up"}, {1, says(keyA, health.Down, "i"), "fra:down"}},
		"it is stale after ten seconds without a beat": {{0, beats("i", 1, 1), ""}, {0, says(keyA, health.Up, "i"), "fra:up"},
			{9.9, none, "fra:up"}, {10, none, ""}, {11, beats("i", 2, 1), "fra:up"}},
		"the same beat is no life": {{0, beats("i", 1, 1), ""}, {0, says(keyA, health.Up, "i"), "fra:up"},
			{9, beats("i", 1, 1), "fra:up"}, {10, none, ""}},
		"a counter that goes back is life": {{0, beats("i", 9, 1), ""}, {0, says(keyA, health.Up, "i"), "fra:up"},
			{9, beats("i", 2, 1), "fra:up"}, {11, none, "fra:up"}},
		"a vote of another instance is none": {{0, beats("i", 1, 1), ""}, {0, says(keyA, health.Up, "j"), ""},
			{1, says(keyA, health.Up, "i"), "fra:up"}, {2, beats("j", 1, 0), ""}},
		"votes before their beat": {{0, says(keyA, health.Up, "i"), ""}, {0, beats("i", 1, 1), "fra:up"}},
		"as long as some are missing nobody counts": {{0, beats("i", 1, 2), ""}, {0, says(keyA, health.Up, "i"), ""},
			{1, says(keyB, health.Up, "i"), "fra:up"}, {2, takesBack(keyB), ""}, {2, beats("i", 2, 1), "fra:up"}},
		"withdrawn":  {{0, beats("i", 1, 1), ""}, {0, says(keyA, health.Up, "i"), "fra:up"}, {1, takesBack(keyA), ""}},
		"no beat":    {{0, says(keyA, health.Up, "i"), ""}},
		"gone":       {{0, beats("i", 1, 1), ""}, {0, says(keyA, health.Up, "i"), "fra:up"}, {1, func(t *tally, _ time.Time) { t.gone("fra") }, ""}},
		"not JSON":   {{0, beats("i", 1, 0), ""}, {0, raw(keyID(keyA).String(), "up"), ""}},
		"not its id": {{0, beats("i", 1, 0), ""}, {0, raw(keyID(keyB).String(), string(voteOf(keyA, health.Up, "i"))), ""}},
		"too large": {{0, beats("i", 1, 0), ""}, {0, raw(keyID(keyA).String(), strings.TrimSuffix(string(voteOf(keyA, health.Up, "i")), "}")+
			strings.Repeat(" ", maxValue)+"}"), ""}},
		"of a format to come": {{0, beats("i", 1, 0), ""}, {0, raw(keyID(keyA).String(), strings.Replace(string(voteOf(keyA, health.Up, "i")), `"format":1`, `"format":2`, 1)), ""}},
		"unknown":             {{0, beats("i", 1, 0), ""}, {0, says(keyA, health.Unknown, "i"), ""}},
		"a beat that is none": {{0, beats("i", 1, 1), ""}, {0, says(keyA, health.Up, "i"), "fra:up"},
			{1, func(t *tally, now time.Time) { t.beats("fra", []byte("{"), now) }, ""}, {2, beats("i", 2, 1), "fra:up"}},
	} {
		t.Run(name, func(t *testing.T) {
			is := watching()
			for i, s := range steps {
				s.do(is, at(s.at))
				if got := is.words(keyA, at(s.at)); got != s.wantA {
					t.Fatalf("step %d, at %g s: got %q, want %q", i, s.at, got, s.wantA)
				}
			}
		})
	}
}

func TestTallyCountsWhatItIgnores(t *testing.T) {
	is := watching()
	is.says("fra", "xyz", []byte("{}"))
	is.says("fra", keyID(keyA).String(), []byte("{}"))
	is.beats("fra", []byte("{}"), start)
	for i := range maxSites + 1 {
		is.beats(fmt.Sprint("site", i), beatOf("i", 1, 0), start)
	}
	if is.ignored != 4 || len(is.sites) != maxSites {
		t.Errorf("%d ignored of %d sites, want 4 of %d", is.ignored, len(is.sites), maxSites)
	}
}

// Whoever joins hears everybody at once, and whoever was away for a moment goes on with whom he had.
func TestTallyJoins(t *testing.T) {
	read := func(before *tally, now time.Time, setBack bool, sites ...string) *tally {
		is := newTally()
		for _, site := range sites {
			is.beats(site, beatOf("i", uint64(now.Unix()), 1), time.Time{})
			is.says(site, keyID(keyA).String(), voteOf(keyA, health.Up, "i"))
		}
		is.follow(before, now, setBack)
		return is
	}
	is := read(newTally(), at(0), false, "fra", "iad", "old")
	if got := is.words(keyA, at(0)); got != "" {
		t.Errorf("what was there before us counts: %q", got)
	}
	is.beats("fra", beatOf("i", 1, 1), at(1))
	is.beats("iad", beatOf("i", 1, 1), at(2))
	for when, want := range map[float64]string{2.4: "", 2.5: "fra:up iad:up", 10.9: "fra:up iad:up", 11: "iad:up", 12: ""} {
		if got := is.words(keyA, at(when)); got != want {
			t.Errorf("at %g s: got %q, want %q", when, got, want)
		}
	}

	again := read(is, at(5), false, "fra", "iad", "old")
	for when, want := range map[float64]string{5: "fra:up iad:up", 11: "iad:up"} {
		if got := again.words(keyA, at(when)); got != want {
			t.Errorf("after a moment, at %g s: got %q, want %q", when, got, want)
		}
	}
	if got := read(is, at(5), false, "fra").words(keyA, at(5)); got != "fra:up" {
		t.Errorf("one has gone in that moment: got %q, want fra:up", got)
	}
	late := read(is, at(30), false, "fra", "iad")
	late.beats("fra", beatOf("i", 99, 1), at(31))
	if got, then := late.words(keyA, at(32.4)), late.words(keyA, at(32.5)); got != "" || then != "fra:up" {
		t.Errorf("after a long while: %q before it is settled and %q then, want none and fra:up", got, then)
	}
}

// One who waits for the others before he says anything waits no longer than until all have shown that they are alive.
func TestTallyIsEager(t *testing.T) {
	for name, tc := range map[string]struct {
		sites   string
		settled float64
	}{
		"nobody is there":           {"", 0},
		"all are alive":             {"fra iad", 0.7},
		"one has died a moment ago": {"fra iad old", 2.5},
	} {
		is := newTally()
		for site := range strings.FieldsSeq(tc.sites) {
			is.beats(site, beatOf("i", 0, 1), time.Time{})
			is.says(site, keyID(keyA).String(), voteOf(keyA, health.Up, "i"))
		}
		is.eager = true
		is.follow(newTally(), at(0), false)
		for _, when := range []float64{0, 0.3, 0.7, 2.4, 2.5} {
			switch when {
			case 0.3:
				is.beats("fra", beatOf("i", 1, 1), at(when))
			case 0.7:
				is.beats("iad", beatOf("i", 1, 1), at(when))
			}
			is.news(at(when))
			if got, want := !at(when).Before(is.settled), when >= tc.settled; got != want {
				t.Errorf("%s: it is settled at %g s: %t, want %t", name, when, got, want)
			}
		}
	}
}

// What an earlier state of etcd says is not what the sites say.
func TestTallyIsSetBack(t *testing.T) {
	was := watching()
	was.beats("fra", beatOf("i", 7, 1), at(-2))
	was.says("fra", keyID(keyA).String(), voteOf(keyA, health.Down, "i"))
	was.beats("iad", beatOf("i", 7, 1), at(-9))
	was.says("iad", keyID(keyA).String(), voteOf(keyA, health.Down, "i"))
	was.news(at(0))
	is := newTally()
	for _, site := range []string{"fra", "iad"} {
		is.beats(site, beatOf("i", 3, 1), time.Time{})
		is.says(site, keyID(keyA).String(), voteOf(keyA, health.Up, "i"))
	}
	if !is.earlier(was) || was.earlier(is) || is.earlier(is) {
		t.Error("an earlier state is not seen, or one that is none")
	}
	is.follow(was, at(0), true)
	for _, step := range []struct {
		at         float64
		want       string
		wantNews   bool
		wantNextAt float64
	}{{0, "fra:down iad:down", true, 1}, {1, "fra:down", true, 2.5}, {2.4, "fra:down", false, 2.5}, {2.5, "", true, 0}} {
		_, any, next := is.news(at(step.at))
		if got := is.words(keyA, at(step.at)); got != step.want || any != step.wantNews || step.wantNextAt != 0 && !next.Equal(at(step.wantNextAt)) {
			t.Errorf("at %g s: got %q, news %v, next at %s; want %+v", step.at, got, any, next.Sub(start), step)
		}
	}
	is.beats("fra", beatOf("i", 8, 1), at(4))
	if got := is.words(keyA, at(4)); got != "fra:up" {
		t.Errorf("got %q, want fra:up", got)
	}
}

func TestTallyNews(t *testing.T) {
	is := watching()
	is.news(start)
	want := func(now time.Time, about []quorum.Key, any bool, next time.Time) {
		t.Helper()
		keys, got, soonest := is.news(now)
		if !slices.Equal(keys, about) || got != any || !soonest.Equal(next) {
			t.Errorf("got %v, %v, next in %s; want %v, %v, next in %s", keys, got, soonest.Sub(start), about, any, next.Sub(start))
		}
	}
	want(start, nil, false, time.Time{})
	is.beats("fra", beatOf("i", 1, 1), start)
	is.says("fra", keyID(keyA).String(), voteOf(keyA, health.Up, "i"))
	want(start, nil, true, at(10))
	is.says("fra", keyID(keyA).String(), voteOf(keyA, health.Up, "i"))
	want(start, nil, false, at(10))
	is.beats("fra", beatOf("i", 2, 1), at(1))
	is.says("fra", keyID(keyA).String(), voteOf(keyA, health.Down, "i"))
	want(at(1), []quorum.Key{keyA}, true, at(11))
	want(at(11), nil, true, time.Time{})
	is.beats("fra", beatOf("i", 3, 1), at(12))
	want(at(12), nil, true, at(22))
	is.gone("fra")
	want(at(13), nil, true, time.Time{})
}

func BenchmarkVotes(b *testing.B) {
	is := watching()
	for _, site := range []string{"fra", "iad", "nrt", "syd"} {
		is.beats(site, beatOf("i", 1, 1), start)
		is.says(site, keyID(keyA).String(), voteOf(keyA, health.Up, "i"))
	}
	b.ReportAllocs()
	for b.Loop() {
		is.votes(keyA, start)
	}
}
