package share

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/override"
)

func drain(member string) override.Override {
	return override.Override{Target: override.Target{Member: member}, Action: override.Drain, Since: start.UTC()}
}

// words are all overrides: "192.0.2.1 192.0.2.2".
func (d *decisions) words() string {
	var words []string
	for _, o := range d.all() {
		words = append(words, o.Target.String())
	}
	return strings.Join(words, " ")
}

// etcdWith is what etcd has with drains of these.
func etcdWith(members ...string) map[string][]byte {
	all := make(map[string][]byte)
	for _, m := range members {
		o := drain(m)
		all[targetID(o.Target).String()] = []byte(text(decision{Format: format, Override: o}))
	}
	return all
}

func letWith(nonce string) (string, []byte) {
	l := letBack{format, "www.example.org.", "192.0.2.1:80", nonce}
	return idOf(l.Pool, l.Member).String(), []byte(text(l))
}

func TestDecisionsAreThoseOfEtcdAndOurs(t *testing.T) {
	d := newDecisions()
	o := drain("192.0.2.1")
	d.put(o.Target, &o, start)
	if _, changed := d.news(); changed {
		t.Error("there is news before all is known")
	}
	d.loaded(etcdWith("192.0.2.2", "192.0.2.3"), nil, 10, false, start)
	if all, changed := d.news(); !changed || len(all) != 3 {
		t.Errorf("loaded: news %v of %d, want true of 3", changed, len(all))
	}
	d.put(drain("192.0.2.2").Target, nil, start)
	want := func(what, words string, writes int) {
		t.Helper()
		overrides, _ := d.next()
		if got := d.words(); got != words || len(overrides) != writes {
			t.Errorf("%s: %q, %d to write; want %q, %d", what, got, len(overrides), words, writes)
		}
	}
	want("one put, one cleared", "192.0.2.1 192.0.2.3", 2)
	overrides, lets := d.next()
	d.done(overrides, lets, 12)
	want("written", "192.0.2.1 192.0.2.3", 0)
	d.decided(targetID(drain("192.0.2.2").Target).String(), []byte(text(decision{Format: format, Override: drain("192.0.2.2")})), start) // from before
	d.reached(11)
	want("what has come is older", "192.0.2.1 192.0.2.3", 0)
	for word, value := range etcdWith("192.0.2.1") {
		d.decided(word, value, start)
	}
	d.decided(targetID(drain("192.0.2.2").Target).String(), nil, start)
	d.reached(12)
	want("ours has come", "192.0.2.1 192.0.2.3", 0)
	d.decided(targetID(drain("192.0.2.1").Target).String(), nil, start)
	want("another site has cleared it since", "192.0.2.3", 0)

	d.put(o.Target, &o, start)
	overrides, lets = d.next()
	d.put(o.Target, nil, start)
	d.done(overrides, lets, 20)
	want("cleared while it was written", "192.0.2.3", 1)
}

func TestDecisionsAfterARestore(t *testing.T) {
	d := newDecisions()
	d.loaded(etcdWith("192.0.2.1", "192.0.2.2"), nil, 10, true, start)
	if got := d.words(); got != "192.0.2.1 192.0.2.2" {
		t.Errorf("at first what etcd has is the truth, however it came about; got %q", got)
	}
	o := drain("192.0.2.3")
	d.put(o.Target, &o, start)
	d.loaded(etcdWith("192.0.2.1", "192.0.2.4"), nil, 5, true, start)
	if got := d.words(); got != "192.0.2.1 192.0.2.2 192.0.2.3" {
		t.Errorf("got %q, want what was decided", got)
	}
	overrides, _ := d.next()
	puts, drops := 0, 0
	for _, w := range overrides {
		if w.override == nil {
			drops++
		} else {
			puts++
		}
	}
	if puts != 2 || drops != 1 {
		t.Errorf("%d are put and %d cleared, want 2 and 1", puts, drops)
	}
}

func TestDecisionsThatAreNone(t *testing.T) {
	good := text(decision{Format: format, Override: drain("192.0.2.1")})
	for name, value := range map[string]string{
		"empty":          "",
		"not JSON":       "{",
		"another action": strings.Replace(good, "drain", "kill", 1),
		"another target": strings.Replace(good, "192.0.2.1", "192.0.2.2", 1),
		"a label too":    strings.Replace(good, `"member"`, `"label":"x","member"`, 1),
		"another format": strings.Replace(good, `"format":1`, `"format":2`, 1),
		"too large":      strings.Replace(good, `"action"`, `"more":"`+strings.Repeat("x", maxValue)+`","action"`, 1),
		"lines":          strings.Replace(good, `"action"`, `"reason":"a\nb","action"`, 1),
	} {
		d := newDecisions()
		d.loaded(etcdWith("192.0.2.1"), nil, 1, false, start)
		d.decided(targetID(drain("192.0.2.1").Target).String(), []byte(value), start)
		if d.words() != "" || d.ignored != 1 {
			t.Errorf("%s: %q is decided, %d ignored", name, d.words(), d.ignored)
		}
	}
}

func TestLetBackIsHeardOnce(t *testing.T) {
	d := newDecisions()
	word, value := letWith("a")
	before := map[string][]byte{word: value}
	d.loaded(nil, before, 1, false, start)
	d.letBack(word, value)
	d.loaded(nil, maps.Clone(before), 2, false, start)
	if len(d.back) != 0 {
		t.Errorf("what was there before us is heard: %v", d.back)
	}
	_, value = letWith("b")
	d.letBack(word, value)
	d.loaded(nil, map[string][]byte{word: value}, 3, false, start)
	d.letBack(word, nil)
	if len(d.back) != 1 {
		t.Errorf("heard %d times, want once: %v", len(d.back), d.back)
	}
	d.let(letBack{format, "www.example.org.", "192.0.2.1:80", "c"})
	_, lets := d.next()
	_, value = letWith("c")
	d.letBack(word, value)
	d.done(nil, lets, 4)
	if _, left := d.next(); len(d.back) != 1 || len(lets) != 1 || len(left) != 0 {
		t.Errorf("ours: heard %d times, written %d times, %d to write; want 1, 1, 0", len(d.back), len(lets), len(left))
	}
}

// A site that was cut off ends what it knows, and not what has been decided since.
func TestDecisionsThatAreOver(t *testing.T) {
	old, longer := drain("192.0.2.1"), drain("192.0.2.1")
	longer.Until = start.Add(time.Hour)
	value := func(o override.Override) []byte { return []byte(text(decision{Format: format, Override: o})) }
	word := targetID(old.Target).String()
	for name, tc := range map[string]struct {
		do   func(*decisions)
		want string
	}{
		"as it was":                      {func(d *decisions) { d.over(old, start) }, "clear"},
		"replaced before":                {func(d *decisions) { d.decided(word, value(longer), start); d.over(old, start) }, ""},
		"replaced here, not written yet": {func(d *decisions) { d.put(old.Target, &longer, start); d.over(old, start) }, "put"},
		"replaced elsewhere, as it is read": {func(d *decisions) {
			d.over(old, start)
			d.loaded(map[string][]byte{word: value(longer)}, nil, 20, false, start)
		}, ""},
		"replaced elsewhere, as it is heard": {func(d *decisions) { d.over(old, start); d.decided(word, value(longer), start) }, ""},
		"read again": {func(d *decisions) {
			d.over(old, start)
			d.loaded(map[string][]byte{word: value(old)}, nil, 20, false, start)
		}, "clear"},
	} {
		d := newDecisions()
		d.loaded(map[string][]byte{word: value(old)}, nil, 10, false, start)
		tc.do(d)
		overrides, _ := d.next()
		got := ""
		for _, w := range overrides {
			if got = "put"; w.override == nil {
				got = "clear"
			}
		}
		if there := d.words() != ""; got != tc.want || there != (tc.want != "clear") {
			t.Errorf("%s: to be written is %q, want %q; an override is there: %v", name, got, tc.want, there)
		}
	}
}

// An override that is heard of as it is written lasts as long as its maker wanted, whatever the clocks say. What is read
// later is read by the clock, and what was heard is known still when it is read again.
func TestDecisionsOfAnotherClock(t *testing.T) {
	theirs := drain("192.0.2.1") // by a clock that is an hour behind
	theirs.Since, theirs.Until = at(-3600), at(-3000)
	value := []byte(decisionOf(theirs, at(-3590))) // it took ten seconds
	word := targetID(theirs.Target).String()
	until := func(d *decisions, want float64) {
		t.Helper()
		if got := d.all()[0]; !got.Until.Equal(at(want)) || got.Until.Sub(got.Since) != 10*time.Minute {
			t.Errorf("it is from %s until %s, want %s", got.Since.Sub(start), got.Until.Sub(start), at(want).Sub(start))
		}
	}
	d := newDecisions()
	d.loaded(nil, nil, 10, false, at(0))
	d.decided(word, value, at(0))
	until(d, 590)
	d.loaded(map[string][]byte{word: value}, nil, 20, false, at(60))
	until(d, 590)
	d.over(d.all()[0], at(590))
	if overrides, _ := d.next(); len(overrides) != 1 {
		t.Error("its end is not written")
	}

	late := newDecisions()
	late.loaded(map[string][]byte{word: value}, nil, 10, false, at(0))
	until(late, -3000)

	ours := drain("192.0.2.1") // clocks that are kept right differ by less, and all sites show the same
	ours.Until = at(600)
	d.decided(word, []byte(decisionOf(ours, at(0))), at(0.5))
	until(d, 600)
	for _, left := range []string{`"left":-1`, `"left":1e300`, `"left":0`} {
		d.decided(word, []byte(strings.Replace(string(value), `"left":590`, left, 1)), at(0))
		until(d, -3000)
	}
	d.decided(word, []byte(strings.Replace(string(value), `"left":590`, `"left":"590"`, 1)), at(0))
	if len(d.all()) != 0 || d.ignored != 1 {
		t.Errorf("%v is in force, %d values are ignored", d.all(), d.ignored)
	}
}

// What could not be written for long gives way to what another site has decided after it, be it that ours was written and
// we have not heard of that.
func TestDecisionsOutOfTouch(t *testing.T) {
	ours := drain("192.0.2.1")
	for name, tc := range map[string]struct {
		theirs float64
		clear  bool // is what is decided here
		writes int
	}{
		"theirs is later":              {20, false, 0},
		"theirs is earlier":            {5, false, 1},
		"theirs is later than a clear": {20, true, 0},
		"theirs is what ours clears":   {5, true, 1},
	} {
		for _, joined := range []bool{true, false} {
			d := newDecisions()
			if joined { // else etcd has been away from the start
				d.loaded(nil, nil, 10, false, at(0))
			}
			if ours.Since = at(10); tc.clear {
				d.put(ours.Target, nil, at(10))
			} else {
				d.put(ours.Target, &ours, at(10))
			}
			theirs := drain("192.0.2.1")
			theirs.Reason, theirs.Since = "theirs", at(tc.theirs)
			d.loaded(map[string][]byte{targetID(theirs.Target).String(): []byte(decisionOf(theirs, at(0)))}, nil, 30, false, at(30))
			overrides, _ := d.next()
			if all := d.all(); len(overrides) != tc.writes || tc.writes == 0 && (len(all) != 1 || all[0].Reason != "theirs") {
				t.Errorf("%s, joined %t: %d to write, want %d; %v in force", name, joined, len(overrides), tc.writes, all)
			}
		}
	}
}

// Who comes to the others tells them what nobody knows but it. What somebody has known they know better, unless there has
// never been anybody.
func TestDecisionsThatAreBrought(t *testing.T) {
	over := drain("192.0.2.5")
	over.Until = at(-1)
	for name, tc := range map[string]struct {
		there string
		used  bool
		want  string
	}{
		"others are there":           {"192.0.2.3", true, "192.0.2.1 192.0.2.3 192.0.2.4"},
		"others have cleared all":    {"", true, "192.0.2.1 192.0.2.4"},
		"nobody has ever been there": {"", false, "192.0.2.1 192.0.2.2 192.0.2.4"},
	} {
		before := newDecisions()
		before.loaded(etcdWith("192.0.2.6"), nil, 1, false, start)
		unwritten := drain("192.0.2.4")
		before.put(unwritten.Target, &unwritten, start)
		d := newDecisions()
		d.carry(before)
		d.brought, d.known = []override.Override{drain("192.0.2.1"), over}, []override.Override{drain("192.0.2.2")}
		for range 2 {
			d.loaded(etcdWith(strings.Fields(tc.there)...), nil, 10, false, start)
			d.bring(tc.used, start)
			if got := d.words(); got != tc.want {
				t.Errorf("%s: %q, want %q", name, got, tc.want)
			}
			clear(d.pending)
			tc.want = tc.there // and not once more
		}
	}
	for since, want := range map[float64]string{5: "etcd's", 20: "ours"} {
		theirs, ours := drain("192.0.2.1"), drain("192.0.2.1")
		theirs.Since, theirs.Reason, ours.Since, ours.Reason = at(10), "etcd's", at(since), "ours"
		d := newDecisions()
		d.brought = []override.Override{ours}
		d.loaded(map[string][]byte{targetID(theirs.Target).String(): []byte(decisionOf(theirs, at(10)))}, nil, 10, false, start)
		d.bring(true, start)
		if got := d.all(); len(got) != 1 || got[0].Reason != want {
			t.Errorf("of two for one target %v is in force, want %s", got, want)
		}
	}
}

// A place that takes over knows what was heard, and hears what has happened since.
func TestDecisionsOfAPlaceBefore(t *testing.T) {
	before, d := newDecisions(), newDecisions()
	word, value := letWith("a")
	before.loaded(nil, map[string][]byte{word: value}, 1, false, at(0))
	theirs := drain("192.0.2.1") // by a clock that is an hour behind
	theirs.Since, theirs.Until = at(-3600), at(-3000)
	decided := []byte(decisionOf(theirs, at(-3600)))
	about := targetID(theirs.Target).String()
	before.decided(about, decided, at(0))
	d.carry(before)
	d.loaded(map[string][]byte{about: decided}, map[string][]byte{word: value}, 2, false, at(10))
	if got := d.all(); len(got) != 1 || !got[0].Until.Equal(at(600)) || len(d.back) != 0 {
		t.Errorf("in force is %v, let back %v", got, d.back)
	}
	d = newDecisions()
	d.carry(before)
	_, value = letWith("b")
	d.loaded(nil, map[string][]byte{word: value}, 2, false, at(10))
	if len(d.back) != 1 {
		t.Errorf("what was let back in between is not heard: %v", d.back)
	}
}
